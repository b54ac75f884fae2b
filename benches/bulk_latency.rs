//! Measures what a transfer of large messages does to everybody else on the same link, and how fast it is.
//!
//! `cargo bench --bench bulk_latency [-- MEBIBYTES]`
//!
//! Two processes, loopback, default settings. Round trips of gossip PDUs (the Control lane) and of small asks to
//! another actor (the Ordinary lane) are measured in turns on an idle link, beside threads that only compute, and
//! during a transfer of 16 MiB messages, small tells to another actor beside one; then the throughput of messages of
//! several sizes, with the memory that was resident at most in both processes.
//!
//! The bar, for pings and asks: p50 during a transfer is at most 5 times that of an idle link, p99 at most 2 ms or 5
//! times what threads cost that only compute, whatever is more. The bench fails when it is missed.

#![expect(clippy::print_stdout, reason = "its output is its use")]

#[path = "common/mod.rs"]
mod common;

use std::future::Future;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tellwire::node::{Context, GossipSink};
use tellwire::{Address, Node, RemoteRef, UniqueAddress};
use tokio::sync::mpsc;

use common::{Failure, Second};

/// A message of any size.
#[derive(Serialize, Deserialize)]
struct Load {
    text: String,
}

/// A small message, and the question how many have arrived.
#[derive(Serialize, Deserialize)]
struct Note(u64);

/// Asks for what the receiver has counted.
#[derive(Serialize, Deserialize)]
struct Count;

/// Says what the receiver has counted, and its peak memory in KiB.
#[derive(Serialize, Deserialize)]
struct Counted {
    loads: u64,
    notes: u64,
    peak: u64,
}

tellwire::remote_messages! {
    table BULK, codec = tellwire::codec::Bincode;
    "bench.v1.Load" => Load,
    "bench.v1.Note" => Note,
    "bench.v1.Count" => Count,
    "bench.v1.Counted" => Counted,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == RECEIVE) {
        return receive().await;
    }
    let given = arguments.iter().find_map(|argument| argument.parse().ok());
    // Without `--bench` this is a test of the bench itself.
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let mebibytes = given.unwrap_or(if is_bench { MEBIBYTES } else { 32 });
    let mut receiver = Second::start(&[RECEIVE], None)?;
    let sender = Arc::new(Sender::start(&receiver.line()?).await?);
    let held = sender.compare_latency(mebibytes).await?;
    sender.compare_tells(mebibytes).await?;
    for size in [KIB, 64 * KIB, MIB, 16 * MIB - KIB] {
        sender.measure(size, mebibytes).await?;
    }
    sender.node.shutdown(WAIT).await;
    if held || !is_bench { Ok(()) } else { Err("the bar is missed".into()) }
}

/// The sending node and the actors it talks to.
struct Sender {
    node: Node,
    peer: Address,
    echoes: tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
    load: RemoteRef,
    note: RemoteRef,
    count: RemoteRef,
}

impl Sender {
    async fn start(receiver: &str) -> Result<Self, Failure> {
        let (heard, echoes) = mpsc::unbounded_channel();
        let builder = Node::builder("Bench").listen("tcp://127.0.0.1:0").gossip(Heard(heard));
        let node = builder.start().await?;
        let at = |path| node.resolve(format!("{receiver}{path}"));
        let (load, note, count) = (at("/user/load")?, at("/user/note")?, at("/user/count")?);
        let sender =
            Self { peer: receiver.parse()?, echoes: echoes.into(), load, note, count, node };
        sender.counted().await?;
        Ok(sender)
    }

    /// Shows round trips on an idle link, beside threads that compute, and during a transfer; tells whether the bar is
    /// held.
    async fn compare_latency(self: &Arc<Self>, mebibytes: u64) -> Result<bool, Failure> {
        let (mut idle, mut computing, mut busy) = <(Trips, Trips, Trips)>::default();
        let mut took = Duration::ZERO;
        for _ in 0..TURNS {
            idle.add(self.round_trips(tokio::time::sleep(TURN)).await?);
            let threads = Computing::start();
            computing.add(self.round_trips(tokio::time::sleep(TURN)).await?);
            drop(threads);
            let begun = Instant::now();
            busy.add(self.round_trips(self.transfer_beside(mebibytes)).await?);
            took += begun.elapsed();
        }
        let took = took.as_secs_f64() / f64::from(TURNS);
        println!("transfer of {mebibytes} MiB in messages of 16 MiB: {took:.2} s");
        let pings = hold_bar("ping", [idle.pings, computing.pings, busy.pings]);
        let asks = hold_bar("ask", [idle.asks, computing.asks, busy.asks]);
        Ok(pings && asks)
    }

    /// Shows the rate of small tells with and without a transfer beside them.
    async fn compare_tells(self: &Arc<Self>, mebibytes: u64) -> Result<(), Failure> {
        let idle = self.notes(tokio::time::sleep(IDLE)).await?;
        let busy = self.notes(self.transfer_beside(mebibytes)).await?;
        println!("small tells: alone {idle:.0}/s, during a transfer {busy:.0}/s");
        Ok(())
    }

    async fn measure(&self, size: usize, mebibytes: u64) -> Result<(), Failure> {
        let begun = Instant::now();
        let bytes = self.transfer(size, mebibytes).await?;
        let rate = figure(bytes) / begun.elapsed().as_secs_f64() / 1e9;
        let (here, there) = (peak() / 1024, self.counted().await?.peak / 1024);
        println!("{} KiB: {rate:.2} GB/s, peak {here} MiB here, {there} MiB there", size / KIB);
        Ok(())
    }

    /// Transfers messages of 16 MiB on a task of its own, so that encoding them holds nothing else up.
    async fn transfer_beside(self: &Arc<Self>, mebibytes: u64) -> Result<u64, Failure> {
        let this = Arc::clone(self);
        tokio::spawn(async move { this.transfer(16 * MIB - KIB, mebibytes).await }).await?
    }

    /// Sends so much in messages of `size` bytes, until all of it has arrived; gives how many bytes.
    async fn transfer(&self, size: usize, mebibytes: u64) -> Result<u64, Failure> {
        let (load, size) = (Load { text: "x".repeat(size) }, size as u64);
        let messages = (mebibytes * MIB as u64).div_ceil(size);
        let before = self.counted().await?.loads;
        for _ in 0..messages {
            self.load.send(&load).await?;
        }
        while self.counted().await?.loads < before + messages {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(messages * size)
    }

    /// Measures round trips of pings and asks, in microseconds, for as long as `during` takes.
    async fn round_trips<T>(&self, during: impl Future<Output = T>) -> Result<Trips, Failure> {
        let mut trips = Trips::default();
        let measuring = async {
            while let (Ok(ping), Ok(ask)) =
                (micros(self.ping()).await, micros(self.counted()).await)
            {
                trips.pings.push(ping);
                trips.asks.push(ask);
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! { biased;
            () = measuring => Err("a round trip failed".into()),
            _ = during => Ok(trips),
        }
    }

    /// Tells small messages for as long as `during` takes; gives how many arrived each second.
    async fn notes<T>(&self, during: impl Future<Output = T>) -> Result<f64, Failure> {
        let before = self.counted().await?.notes;
        let note = self.note.clone();
        let telling = tokio::spawn(async move {
            loop {
                if let Err(error) = note.send(&Note(0)).await {
                    return error;
                }
            }
        });
        let begun = Instant::now();
        during.await;
        let arrived = self.counted().await?.notes - before;
        let took = begun.elapsed().as_secs_f64();
        telling.abort();
        Ok(figure(arrived) / took)
    }

    async fn ping(&self) -> Result<(), Failure> {
        let mut echoes = self.echoes.lock().await;
        // A measurement that was cut off may have left an echo.
        while echoes.try_recv().is_ok() {}
        self.node.gossip(&self.peer, b"ping")?;
        echoes.recv().await.ok_or_else(|| "the node has ended".into())
    }

    async fn counted(&self) -> Result<Counted, Failure> {
        Ok(self.count.ask(&Count, WAIT).await?)
    }
}

/// Passes on that a gossip PDU came back.
struct Heard(mpsc::UnboundedSender<()>);

impl GossipSink for Heard {
    fn receive(&self, _: &UniqueAddress, _: &[u8]) {
        if self.0.send(()).is_err() {
            eprintln!("nobody waits for an echo");
        }
    }
}

/// Sends gossip PDUs back.
struct Echo(Arc<OnceLock<Node>>);

impl GossipSink for Echo {
    fn receive(&self, from: &UniqueAddress, pdu: &[u8]) {
        if let Some(Err(error)) = self.0.get().map(|node| node.gossip(from.address(), pdu)) {
            eprintln!("no echo: {error}");
        }
    }
}

async fn receive() -> Result<(), Failure> {
    let this = Arc::new(OnceLock::new());
    let builder =
        Node::builder("Bench").listen("tcp://127.0.0.1:0").gossip(Echo(Arc::clone(&this)));
    let node = builder.start().await?;
    drop(this.set(node.clone()));
    let (loads, notes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (load, note) = (Arc::clone(&loads), Arc::clone(&notes));
    node.register("/user/load", move |load_in: Load| {
        std::hint::black_box(load_in.text);
        load.fetch_add(1, Ordering::Relaxed);
    })?;
    node.register("/user/note", move |_: Note| {
        note.fetch_add(1, Ordering::Relaxed);
    })?;
    node.spawn("/user/count", move |_: Count, cx: &mut Context| {
        let (loads, notes) = (loads.load(Ordering::Relaxed), notes.load(Ordering::Relaxed));
        std::future::ready(cx.reply(&Counted { loads, notes, peak: peak() }))
    })?;
    println!("{}", node.address());
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    node.shutdown(WAIT).await;
    Ok(())
}

/// Round trips, in microseconds.
#[derive(Default)]
struct Trips {
    pings: Vec<f64>,
    asks: Vec<f64>,
}

impl Trips {
    fn add(&mut self, more: Self) {
        self.pings.extend(more.pings);
        self.asks.extend(more.asks);
    }
}

/// Keeps as many threads computing as a transfer keeps busy on this side, until it is dropped.
struct Computing(Arc<AtomicBool>);

impl Computing {
    fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..2 {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || while !is_over.load(Ordering::Relaxed) {});
        }
        Self(is_over)
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Shows round trips beside each other, and tells whether those of the busy link are good enough.
fn hold_bar(what: &str, trips: [Vec<f64>; 3]) -> bool {
    let [idle, computing, busy] = trips.map(Spread::of);
    let (p50, p99) = (MOST_TIMES * idle.p50, MOST_MICROS.max(MOST_TIMES * computing.p99));
    let held = busy.p50 <= p50 && busy.p99 <= p99;
    println!("{what} idle: {idle}");
    println!("{what} beside computing threads: {computing}");
    println!("{what} during a transfer: {busy}");
    println!(
        "{what} ratio to idle p50 {:.1} p99 {:.1}; bar p50 {p50:.0} us, p99 {p99:.0} us: {}",
        busy.p50 / idle.p50,
        busy.p99 / idle.p99,
        if held { "held" } else { "missed" },
    );
    held
}

/// Some durations, in microseconds.
struct Spread {
    p50: f64,
    p99: f64,
    most: f64,
    count: usize,
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |part: usize| {
            let index = (figures.len() * part / 100).min(figures.len().saturating_sub(1));
            figures.get(index).copied().unwrap_or_default()
        };
        Self { p50: at(50), p99: at(99), most: at(100), count: figures.len() }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p99, most, count } = self;
        write!(f, "p50 {p50:.0} us, p99 {p99:.0} us, most {most:.0} us, of {count}")
    }
}

async fn micros<T>(trip: impl Future<Output = Result<T, Failure>>) -> Result<f64, Failure> {
    let begun = Instant::now();
    trip.await?;
    Ok(begun.elapsed().as_secs_f64() * 1e6)
}

/// Gives the most memory that was ever resident in this process, in KiB; 0 where the system does not tell.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn figure(count: u64) -> f64 {
    count as f64
}

const RECEIVE: &str = "receive";
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const MEBIBYTES: u64 = 256;
const IDLE: Duration = Duration::from_secs(1);
/// Times that the three are measured in turn, and how long each but the transfer.
const TURNS: u32 = 8;
const TURN: Duration = Duration::from_millis(300);
/// The bar.
const MOST_TIMES: f64 = 5.0;
const MOST_MICROS: f64 = 2000.0;
const PAUSE: Duration = Duration::from_micros(200);
const WAIT: Duration = Duration::from_secs(60);
