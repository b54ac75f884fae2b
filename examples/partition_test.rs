//! Tests a replicated counter under partitions: finds its bug by trying seeds, replays it, and clears the mended one.
//!
//! The replicas run in this process, over links that the seed cuts, and in virtual time, so that hundreds of runs take
//! seconds. `cargo run --features testkit --example partition_test`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tellwire::codec::Bincode;
use tellwire::node::{Actor, Context, ResolveError};
use tellwire::testkit::Network;
use tellwire::{Node, RemoteRef};
use tokio::{runtime::Builder, time::sleep};

#[derive(Serialize, Deserialize)]
enum Said {
    Add,
    /// Asks to share once more, as a timer would: what was shared may be lost with a link.
    Sync,
    Share(Vec<u64>),
    Read,
}

#[derive(Debug, Serialize, Deserialize)]
struct Total(u64);

tellwire::remote_messages! {
    table COUNTER, codec = Bincode;
    "counter.v1.Said" => Said,
    "counter.v1.Total" => Total,
}

/// Counts together with its peers: of two counts for a slot the larger is the later, so it wins.
struct Replica {
    counts: Vec<u64>,
    /// Where this replica counts its own additions.
    slot: usize,
    peers: Vec<RemoteRef>,
}

impl Replica {
    fn share(&self) {
        let share = Said::Share(self.counts.clone());
        self.peers.iter().for_each(|peer| drop(peer.tell(&share)));
    }
}

impl Actor<Said> for Replica {
    async fn receive(&mut self, said: Said, cx: &mut Context) {
        match said {
            Said::Add => {
                self.counts[self.slot] += 1;
                self.share();
            }
            Said::Sync => self.share(),
            Said::Share(theirs) => {
                let pairs = self.counts.iter_mut().zip(theirs);
                pairs.for_each(|(mine, theirs)| *mine = theirs.max(*mine));
            }
            Said::Read => drop(cx.reply(&Total(self.counts.iter().sum()))),
        }
    }
}

type Slots = fn(usize) -> usize;
/// The bug: all count in one slot, and the larger count hides what was added beside it.
const ONE_FOR_ALL: Slots = |_| 0;
/// As it should be: a slot has one writer, so that its larger count is the later one.
const ONE_EACH: Slots = |replica| replica;

#[derive(PartialEq)]
struct Run {
    trace: String,
    verdict: Result<(), String>,
}

#[derive(Clone, Copy)]
enum Faults {
    Spared,
    Drawn,
}

/// Runs three replicas through twenty additions, and then, when everything is whole again, reads each of them.
fn run(seed: u64, slots: Slots, faults: Faults) -> Result<Run, Box<dyn std::error::Error>> {
    Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
        let network = Network::builder(REPLICAS).seed(seed).start().await?;
        let (nodes, mut random) = (network.nodes(), fastrand::Rng::with_seed(seed));
        let mut counters = Vec::new();
        for (number, node) in nodes.iter().enumerate() {
            node.spawn::<Said, _>("/user/counter", replica(&nodes, number, slots(number))?)?;
            counters.push(node.resolve("/user/counter")?);
        }
        for _ in 0..ADDITIONS {
            match (faults, random.u8(..40)) {
                (Faults::Drawn, 0) => network.isolate(random.usize(..REPLICAS))?,
                (Faults::Drawn, 1..6) => network.recover(),
                (Faults::Drawn | Faults::Spared, _) => {}
            }
            counters[random.usize(..REPLICAS)].tell(&Said::Add)?;
            sleep(Duration::from_millis(500)).await;
        }
        network.recover();
        sleep(Duration::from_secs(5)).await;
        counters.iter().try_for_each(|counter| counter.tell(&Said::Sync))?;
        sleep(Duration::from_secs(5)).await;
        let mut totals = Vec::new();
        for counter in &counters {
            totals.push(counter.ask::<_, Total>(&Said::Read, Duration::from_secs(5)).await?.0);
        }
        let wrong = format!("{ADDITIONS} were added, and the replicas say {totals:?}");
        let verdict = if totals == [ADDITIONS; REPLICAS] { Ok(()) } else { Err(wrong) };
        Ok(Run { trace: network.trace(), verdict })
    })
}

fn replica(nodes: &[Node], own: usize, slot: usize) -> Result<Replica, ResolveError> {
    let others = nodes.iter().filter(|node| node.address() != nodes[own].address());
    let peer = |node: &Node| nodes[own].resolve(format!("{}/user/counter", node.address()));
    let peers = others.map(peer).collect::<Result<_, _>>()?;
    Ok(Replica { counts: vec![0; nodes.len()], slot, peers })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut seed = 0;
    let found = loop {
        match run(seed, ONE_FOR_ALL, Faults::Drawn)? {
            run if run.verdict.is_err() => break run,
            _ => seed += 1,
        }
        assert!(seed < SEEDS, "no seed has shown the bug");
    };
    println!("seed {seed}: {}", found.verdict.as_ref().err().map_or("", String::as_str));
    let is_fault = |line: &&str| line.contains("cut") || line.contains("recover");
    found.trace.lines().filter(is_fault).for_each(|line| println!("  {line}"));
    let again = run(seed, ONE_FOR_ALL, Faults::Drawn)?;
    assert!(again == found, "a replay is the same run, byte for byte");
    println!("replayed: the same {} lines of trace, the same end", again.trace.lines().count());

    for seed in 0..SEEDS {
        assert_eq!(run(seed, ONE_FOR_ALL, Faults::Spared)?.verdict, Ok(()), "without faults");
        assert_eq!(run(seed, ONE_EACH, Faults::Drawn)?.verdict, Ok(()), "mended, seed {seed}");
    }
    println!("{SEEDS} seeds pass without partitions, and with partitions where it is mended");
    Ok(())
}

const REPLICAS: usize = 3;
const ADDITIONS: u64 = 20;
const SEEDS: u64 = 100;
