//! Measures what this machine can carry, step by step, and how near a node comes to it.
//!
//! `cargo bench --bench limits [-- SHAPE] [-- MESSAGES] [-- RUNG]`, where a shape is `one`, `fan`, `kib` or `chunk`. A
//! rung is `Ready`, `Shared`, `Decoded` or `Node`; one alone is what a profiler wants to see.
//!
//! Two processes, loopback TCP, default settings, an actor with a mailbox at the end. The rungs are bare programs
//! that do ever more of what a node does:
//!
//! | rung | sender | receiver |
//! |---|---|---|
//! | 1 | writes ready-made frames, 64 KiB at a time | finds the frames in place and counts them |
//! | 2 | appends each frame to a shared buffer, which a writer task swaps out | as 1 |
//! | 3 | encodes each message with bincode behind ids of path and manifest into that buffer | decodes, hands over one batch per read to bounded mailboxes, whose tasks count |
//! | node | `RemoteRef::send` | an actor started with `spawn` |
//!
//! All take turns, so that a busy machine slows all of them, and medians are compared. Processor time covers both
//! processes whole.

#![expect(clippy::print_stdout, reason = "its output is its use")]

#[path = "../common/mod.rs"]
mod common;
mod node;
mod receiver;
mod rungs;

use std::time::{Duration, Instant};

use common::{Arguments, Failure, Second, cpu, median, nanos_each, per_second};

/// What is sent, and by how many to how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    name: &'static str,
    /// Tasks that send, each to a receiver of its own.
    pairs: u16,
    /// Bytes of a message.
    size: usize,
    /// Messages in all.
    messages: u64,
}

/// What one run of one rung took.
struct Run {
    took: Duration,
    sender: Duration,
    receiver: Duration,
    /// The slowest sender's messages, at the time when the fastest was done, as a part of the mean.
    fairness: f64,
}

/// What moves the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Ready,
    Shared,
    Decoded,
    Node,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::read();
    if arguments.is(RECEIVE) {
        return receiver::run().await;
    }
    let is_wanted = |rung: &Rung| arguments.is(&format!("{rung:?}"));
    let mut rungs: Vec<Rung> = RUNGS.into_iter().filter(is_wanted).collect();
    if rungs.is_empty() {
        rungs.extend(RUNGS);
    }
    let is_chosen = SHAPES.iter().any(|shape| arguments.is(shape.name));
    for shape in SHAPES {
        if arguments.is(shape.name) || !is_chosen {
            let messages = arguments.number().unwrap_or(shape.messages / arguments.divisor());
            compare(Shape { messages, ..shape }, &rungs).await?;
        }
    }
    Ok(())
}

async fn compare(shape: Shape, rungs: &[Rung]) -> Result<(), Failure> {
    let mut second = Second::start(&[RECEIVE], None)?;
    let (node, bare) = (second.line()?, second.line()?);
    let sender = node::Sender::start(&node, shape).await?;
    let mut runs: Vec<(Rung, Vec<Run>)> = rungs.iter().map(|rung| (*rung, Vec::new())).collect();
    for round in 0..=ROUNDS {
        for (rung, runs) in &mut runs {
            let (begun, cpu_before) = (Instant::now(), cpu());
            let receiver_before = receiver_cpu(&mut second)?;
            let fairness = match rung {
                Rung::Ready => rungs::ready(&bare, shape).await?,
                Rung::Shared => rungs::shared(&bare, shape).await?,
                Rung::Decoded => rungs::decoded(&bare, shape).await?,
                Rung::Node => sender.send(shape).await?,
            };
            let took = begun.elapsed();
            let (sender, receiver) =
                (cpu() - cpu_before, receiver_cpu(&mut second)? - receiver_before);
            // The first round warms up.
            if round > 0 {
                runs.push(Run { took, sender, receiver, fairness });
            }
        }
    }
    print(shape, &runs);
    sender.stop().await;
    Ok(())
}

fn receiver_cpu(second: &mut Second) -> Result<Duration, Failure> {
    Ok(Duration::from_nanos(second.ask("cpu")?.parse()?))
}

fn print(shape: Shape, runs: &[(Rung, Vec<Run>)]) {
    let Shape { name, pairs, size, messages } = shape;
    println!("\n{name}: {pairs} to {pairs}, {messages} messages of {size} bytes, {ROUNDS} runs");
    println!("rung     msgs/s (median)   GB/s  cpu ns sender/receiver  slowest/mean  node/rung");
    let rate = |runs: &[Run]| median(runs.iter().map(|r| per_second(messages, r.took)).collect());
    let node = runs.last().map_or(0.0, |(_, runs)| rate(runs));
    for (rung, runs) in runs {
        let each = |time: fn(&Run) -> Duration| {
            median(runs.iter().map(|run| nanos_each(time(run), messages)).collect())
        };
        let (sender, receiver) = (each(|run| run.sender), each(|run| run.receiver));
        let fairness = median(runs.iter().map(|run| run.fairness).collect());
        let (rate, bytes) = (rate(runs), u32::try_from(size).unwrap_or(u32::MAX));
        println!(
            "{:<8} {rate:>15.0} {:>6.2}  {sender:>12.0} / {receiver:<8.0} {fairness:>12.2} {:>10.2}",
            format!("{rung:?}"),
            rate * f64::from(bytes) / 1e9,
            node / rate,
        );
    }
}

const RECEIVE: &str = "receive";
const ROUNDS: usize = 5;
const RUNGS: [Rung; 4] = [Rung::Ready, Rung::Shared, Rung::Decoded, Rung::Node];
const SHAPES: [Shape; 4] = [
    Shape { name: "one", pairs: 1, size: 100, messages: 5_000_000 },
    Shape { name: "fan", pairs: 100, size: 100, messages: 5_000_000 },
    Shape { name: "kib", pairs: 1, size: 1024, messages: 2_000_000 },
    Shape { name: "chunk", pairs: 1, size: 64 * 1024, messages: 50_000 },
];
