//! Measures what many associations cost one node: idle ones, and many that tell at once.
//!
//! `cargo bench --bench associations [-- PEERS]`
//!
//! A second process runs the peers, each a node of its own with default settings, over loopback TCP. First each
//! tells once and falls silent: memory and processor time of the one process are divided by the peers. Then 64 of
//! them tell as fast as they can for a while: the slowest one's share is compared with the mean.

#![expect(clippy::print_stdout, reason = "its output is its use")]

#[path = "common/mod.rs"]
mod common;

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tellwire::{Address, Node};
use tokio::task::JoinSet;

use common::{Arguments, Failure, Second, cpu, per_second, resident};

#[derive(Serialize, Deserialize)]
struct Note {
    from: u64,
    text: String,
}

tellwire::remote_messages! {
    table NOTES, codec = tellwire::codec::Bincode;
    "bench.v1.Note" => Note,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::read();
    if arguments.is(PEERS) {
        return serve().await;
    }
    let idle = arguments.number().unwrap_or(IDLE_PEERS / arguments.divisor());
    let quiet = IDLE_TIME / u32::try_from(arguments.divisor())?;
    let busy = BUSY_PEERS.min(idle.max(2));
    let node = Node::builder("Bench").listen("tcp://127.0.0.1:0").start().await?;
    let shares: Arc<Vec<AtomicU64>> = Arc::new((0..idle.max(busy)).map(|_| 0.into()).collect());
    let counters = Arc::clone(&shares);
    node.register("/user/notes", move |note: Note| {
        if let Some(count) = usize::try_from(note.from).ok().and_then(|from| counters.get(from)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    })?;
    let mut second = Second::start(&[PEERS], None)?;
    rest(&node, &mut second, idle, quiet).await?;
    share(&node, &mut second, busy, &shares)?;
    node.shutdown(WAIT).await;
    Ok(())
}

/// Measures what associations cost that nobody uses.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn rest(
    node: &Node,
    second: &mut Second,
    peers: u64,
    quiet: Duration,
) -> Result<(), Failure> {
    let before = resident();
    second.ask(&format!("connect {peers} {}", node.address()))?;
    let memory = resident().saturating_sub(before) as f64 / peers as f64;
    tokio::time::sleep(quiet / 10).await;
    let (begun, cpu_before) = (Instant::now(), cpu());
    tokio::time::sleep(quiet).await;
    let used = (cpu() - cpu_before).as_secs_f64() / begun.elapsed().as_secs_f64();
    println!("idle: {peers} associations, {:.0} s", quiet.as_secs_f64());
    println!("memory {:.1} KiB/association", memory / 1024.0);
    println!("cpu {:.2} % of a core, {:.2} % for 1000", used * 100.0, used * 1e5 / peers as f64);
    Ok(())
}

/// Measures how even the shares of peers are that tell as fast as they can.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn share(
    node: &Node,
    second: &mut Second,
    peers: u64,
    shares: &[AtomicU64],
) -> Result<(), Failure> {
    shares.iter().for_each(|share| share.store(0, Ordering::Relaxed));
    let begun = Instant::now();
    second.ask(&format!("tell {peers} {}", node.address()))?;
    let took = begun.elapsed();
    let told: Vec<u64> = shares.iter().map(|share| share.load(Ordering::Relaxed)).collect();
    let told = told.get(..usize::try_from(peers)?).unwrap_or_default();
    let (sum, least) = (told.iter().sum::<u64>(), told.iter().min().copied().unwrap_or(0));
    println!("busy: {peers} peers tell for {:.1} s", took.as_secs_f64());
    println!("throughput {:.0} msgs/s", per_second(sum, took));
    println!("slowest/mean {:.2}", least as f64 * peers as f64 / sum as f64);
    Ok(())
}

/// Runs the peers, as the lines on standard input say.
async fn serve() -> Result<(), Failure> {
    let (lines, mut commands) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut nodes: Vec<Node> = Vec::new();
    while let Some(line) = commands.recv().await {
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or("a command is too short");
        let (command, peers) = (word()?, word()?.parse::<usize>()?);
        let to: Address = word()?.parse()?;
        match command {
            "connect" => connect(&mut nodes, peers, &to).await?,
            "tell" => tell(nodes.get(..peers).ok_or("too few peers")?, &to).await?,
            _ => return Err("no such command".into()),
        }
        println!("done");
    }
    Ok(())
}

async fn connect(nodes: &mut Vec<Node>, peers: usize, to: &Address) -> Result<(), Failure> {
    while nodes.len() < peers.max(usize::try_from(BUSY_PEERS)?) {
        let node = Node::builder("Bench").listen("tcp://127.0.0.1:0").start().await?;
        let from = nodes.len() as u64;
        node.resolve(format!("{to}/user/notes"))?.tell(&Note { from, text: String::new() })?;
        nodes.push(node);
    }
    let is_up = |node: &Node| node.associations().iter().any(|a| a.up_since.is_some());
    while !nodes.iter().all(is_up) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn tell(nodes: &[Node], to: &Address) -> Result<(), Failure> {
    let (end, mut senders) = (Instant::now() + BUSY_TIME, JoinSet::new());
    for (from, node) in (0..).zip(nodes) {
        let notes = node.resolve(format!("{to}/user/notes"))?;
        senders.spawn(async move {
            let note = Note { from, text: "x".repeat(90) };
            while Instant::now() < end {
                for _ in 0..64 {
                    notes.send(&note).await?;
                }
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender??;
    }
    Ok(())
}

const PEERS: &str = "peers";
const IDLE_PEERS: u64 = 2_000;
const BUSY_PEERS: u64 = 64;
const IDLE_TIME: Duration = Duration::from_secs(20);
const BUSY_TIME: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_secs(5);
