//! Runs a cluster of processes while faults strike it, and holds it to what tellwire promises.
//!
//! `cargo run --release --features testkit --example chaos -- --minutes 3 --seed 1 [--nodes 5..9]`
//!
//! ```text
//!   conductor: plan (seed) ──▶ faults ──▶ kill, stop and start processes; part, mute, slow down, reset, refuse links
//!       ▲                                        │
//!       │ how each sees the others               ▼
//!   node-0 ═══ proxy ═══ node-1 ═══ proxy ═══ node-2 …     each tells and asks all others
//!       │                   │                   │
//!       └──── journals: what was told, what came, dead letters, how asks ended ────▶ verdict
//! ```
//!
//! The same seed gives the same faults in the same order, after the same times; how processes and links interleave with
//! them is up to the machine. Exit code 0 if every promise was kept; 1 if not, with the faults so far and the journals.
#![expect(clippy::print_stdout, reason = "its output is its use")]

mod books;
mod conductor;
#[path = "../common/failure.rs"]
mod failure;
mod fleet;
mod grid;
mod journal;
mod member;
mod plan;
mod report;
mod verdict;
mod view;
mod vitals;
mod workload;

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::conductor::Conductor;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::grid::Grid;
use crate::member::Role;
use crate::plan::Plan;
use crate::report::Run;

// One thread: the proxies need no more, and a change of the faults is one step for them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match given.split_first() {
        Some((first, role)) if first == "--member" => match Role::parse(role) {
            Ok(role) => member::run(role).await,
            Err(failure) => Err(failure),
        },
        _ => match Options::parse(&given) {
            Ok(options) => run(&options).await,
            Err(failure) => Err(failure),
        },
    };
    outcome.unwrap_or_else(|failure| failure.report("chaos"))
}

/// Is what the user asked for.
struct Options {
    minutes: f64,
    seed: u64,
    nodes: Option<usize>,
}

impl Options {
    fn parse(given: &[String]) -> Result<Self, Failure> {
        let mut options = Self { minutes: 3.0, seed: 1, nodes: None };
        for pair in given.chunks(2) {
            match pair {
                [name, value] if name == "--minutes" => options.minutes = number(value)?,
                [name, value] if name == "--seed" => options.seed = number(value)?,
                [name, value] if name == "--nodes" => options.nodes = Some(number(value)?),
                _ => return Err(Failure::usage("usage: chaos --minutes M --seed S [--nodes N]")),
            }
        }
        let is_fine = options.nodes.is_none_or(|nodes| (3..=9).contains(&nodes))
            && (0.0..=MOST_MINUTES).contains(&options.minutes);
        if is_fine {
            Ok(options)
        } else {
            Err(Failure::usage("a run has a week at most, and 3 to 9 nodes"))
        }
    }
}

fn number<T: FromStr<Err: Display>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("`{text}`: {error}")))
}

async fn run(options: &Options) -> Result<ExitCode, Failure> {
    let plan = Plan::new(options.seed, options.nodes);
    let (seed, nodes) = (options.seed, plan.nodes());
    let folder = folder(seed)?;
    println!("seed {seed}, {nodes} nodes, journals in {}", folder.display());
    let (fleet, grid) = (Fleet::new(nodes, &folder, seed).await?, Grid::new(nodes).await?);
    let mut conductor = Conductor::new(fleet, grid, plan);
    let began = Instant::now();
    let course = conductor.run(Duration::from_secs_f64(options.minutes * 60.0)).await;
    let took = began.elapsed();
    let was_whole = course.is_ok() && conductor.seen.broken.is_empty();

    let (growth, grown) = conductor.fleet().vitals().judge();
    let mut broken = std::mem::take(&mut conductor.seen.broken);
    if let Err(failure) = course {
        failure.report("chaos");
        broken.push("the run broke off, as said above".to_owned());
    }
    broken.extend(grown);
    let verdict = verdict::judge(&books::read(&folder, nodes)?);
    broken.extend(verdict.broken.iter().cloned());
    let (cpu, seen) = (cpu(), &conductor.seen);
    let run = Run { seed, nodes, took, cpu, seen, verdict: &verdict, growth };
    if broken.is_empty() {
        run.totals();
        println!("every promise was kept; for the ledger:");
        run.ledger();
        std::fs::remove_dir_all(&folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    run.complain(&broken, &folder);
    if was_whole {
        run.totals();
    }
    Ok(ExitCode::FAILURE)
}

/// Makes the folder of the journals.
fn folder(seed: u64) -> Result<PathBuf, Failure> {
    let name = format!("tellwire-chaos-{seed}-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder)?;
    Ok(folder)
}

/// Gives the processor time of this process and of all that it has started and seen end; zero where the system does
/// not tell.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let times = behind_name.split_whitespace().skip(11).take(4);
    // Linux tells in hundredths of a second, whatever the kernel's own clock.
    Duration::from_millis(times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

const MOST_MINUTES: f64 = 7.0 * 24.0 * 60.0;
