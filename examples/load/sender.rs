//! Sends what was planned, and prints what became of it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tellwire::{Node, RemoteRef};
use tokio::task::JoinSet;

use crate::{Done, Failure, Load, Options, PATIENCE, Query, Report, cpu};

pub(crate) async fn run(options: &Options) -> Result<ExitCode, Failure> {
    let listen: String = options.get("listen", "tcp://127.0.0.1:0")?;
    let node = Node::builder("Load").listen(listen).allow_plaintext().start().await?;
    let to: String = options.get("to", "tcp://Load@127.0.0.1:2552")?;
    let (plan, desk) = (Plan::new(options, &node, &to)?, node.resolve(format!("{to}/user/desk"))?);
    let before: Report = desk.ask(&Query { is_new: true }, PATIENCE).await?;
    let (cpu_before, begun) = (cpu(), Instant::now());
    let mut lanes = JoinSet::new();
    for lane in 0..plan.lanes {
        lanes.spawn(plan.clone().run(lane));
    }
    let mut round_trips = Vec::new();
    while let Some(lane) = lanes.join_next().await {
        round_trips.extend(lane??);
    }
    let mut report = settle(&desk, &before, plan.total()).await?;
    report.dead_letters += node.stats().dead_letters_total();
    let (took, spent) = (begun.elapsed(), cpu() - cpu_before);
    node.shutdown(PATIENCE).await;
    round_trips.sort_unstable();
    Ok(print(&plan, took, spent, &report, &round_trips))
}

/// What a sender does.
#[derive(Clone)]
struct Plan {
    actors: Vec<RemoteRef>,
    /// Tasks that send one message after the other: the senders, or the asks under way.
    lanes: u64,
    share: u64,
    body: String,
    is_ask: bool,
}

impl Plan {
    fn new(options: &Options, node: &Node, to: &str) -> Result<Self, Failure> {
        let actor = |at: u64| node.resolve(format!("{to}/user/load-{at}"));
        let actors = (0..options.get("actors", "1")?).map(actor).collect::<Result<_, _>>()?;
        let is_ask = options.get::<String>("mode", "tell")? == "ask";
        let window: u64 = if is_ask { options.get("window", "1")? } else { 1 };
        let lanes = (options.get::<u64>("senders", "1")? * window).max(1);
        let share = options.get::<u64>("count", "1000000")? / lanes;
        Ok(Self { actors, lanes, share, body: "x".repeat(options.get("size", "100")?), is_ask })
    }

    fn total(&self) -> u64 {
        self.share * self.lanes
    }

    /// Sends one lane's share, round the actors, and gives the round trips.
    async fn run(self, lane: u64) -> Result<Vec<Duration>, Failure> {
        let (mut round_trips, actors) = (Vec::new(), self.actors.len() as u64);
        let mut load = Load { stream: 0, sequence: 0, body: self.body };
        for (at, (number, actor)) in (0..self.share).zip((0..).zip(&self.actors).cycle()) {
            (load.stream, load.sequence) = (lane * actors + number, at / actors);
            if self.is_ask {
                let begun = Instant::now();
                let Done = actor.ask(&load, PATIENCE).await?;
                round_trips.push(begun.elapsed());
            } else {
                actor.send(&load).await?;
            }
        }
        Ok(round_trips)
    }
}

/// Asks until everything has arrived or nothing arrives any more; gives what came since `before`.
async fn settle(desk: &RemoteRef, before: &Report, total: u64) -> Result<Report, Failure> {
    let (mut best, mut progress) = (0, Instant::now());
    loop {
        let mut report: Report = desk.ask(&Query { is_new: false }, PATIENCE).await?;
        report.dead_letters -= before.dead_letters;
        report.cpu -= before.cpu;
        let ended = report.arrived + report.dead_letters;
        if ended >= total || progress.elapsed() > STALLED {
            return Ok(report);
        }
        if ended > best {
            (best, progress) = (ended, Instant::now());
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn print(
    plan: &Plan,
    took: Duration,
    spent: Duration,
    report: &Report,
    round_trips: &[Duration],
) -> ExitCode {
    let (total, seconds) = (plan.total(), took.as_secs_f64());
    let rate = report.arrived as f64 / seconds;
    println!("throughput {rate:.0} msgs/s");
    println!("bandwidth {:.1} MB/s", rate * plan.body.len() as f64 / 1e6);
    for (name, percent) in [("p50", 50), ("p99", 99), ("max", 100)] {
        let at = (round_trips.len() * percent / 100).min(round_trips.len().saturating_sub(1));
        if let Some(trip) = round_trips.get(at) {
            println!("round_trip_{name} {:.1} µs", trip.as_secs_f64() * 1e6);
        }
    }
    let lost = total.saturating_sub(report.arrived);
    println!("lost {lost} msgs");
    println!("dead_letters {} msgs", report.dead_letters);
    println!("out_of_order {} msgs", report.out_of_order);
    for (side, cpu) in [("sender", spent), ("receiver", report.cpu)] {
        if !cpu.is_zero() {
            println!("cpu_{side} {:.0} ns/msg", cpu.as_nanos() as f64 / total as f64);
        }
    }
    let is_sound = lost <= report.dead_letters && report.out_of_order == 0;
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Without progress for so long, what has not arrived is lost.
const STALLED: Duration = Duration::from_secs(5);
