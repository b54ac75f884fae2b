//! Counts words with four processes: a coordinator hands batches of lines to three workers and adds up.
//!
//! `cargo run --release --example wordcount -- [--kill-one] [FILE…]`
//!
//! ```text
//!   coordinator                                        worker (three processes)
//!       │ ── starts it with the coordinator's address ──▶ │   its seed: both are members of a cluster
//!       │ ◀────────── Joined { counter: ActorPath } ───── │   tell
//!       │ ─────────── CountWords { lines } ─────────────▶ │   ask, in bincode, four at a time
//!       │ ◀────────── WordCounts { counts } ───────────── │   reply, in JSON
//!       │ ─────────── ReportFigures ────────────────────▶ │   ask, at the end
//! ```
//! A batch belongs to one worker until its reply is merged. A worker that dies gives its batches back, and what
//! it may still answer is ignored: each batch is merged exactly once. `--kill-one` shows it. The files are held
//! in memory, and the sum is checked against a count in this process alone.

#[path = "common/failure.rs"]
mod failure;
#[path = "common/input.rs"]
mod input;
#[path = "common/job.rs"]
mod job;
#[path = "common/report.rs"]
mod report;
#[path = "common/words.rs"]
mod words;
#[path = "common/worker.rs"]
mod worker;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::failure::Failure;
use crate::job::Job;
use crate::worker::PATIENCE;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report("wordcount"),
    }
}

async fn run() -> Result<(), Failure> {
    match input::Command::parse(std::env::args_os().skip(1))? {
        input::Command::Help => Ok(writeln!(io::stdout(), "{}", input::USAGE)?),
        input::Command::Work { seed } => worker::work(&seed).await,
        input::Command::Count { files, kill_one } => coordinate(files, kill_one).await,
    }
}

async fn coordinate(files: Vec<PathBuf>, kill_one: bool) -> Result<(), Failure> {
    let files = if files.is_empty() { input::own_files()? } else { files };
    let texts = input::read(&files)?;
    let batches: Vec<&str> = texts.iter().flat_map(|text| words::batches(text)).collect();
    let node = worker::start_node(None).await?;
    let mut job = Job::new(&node, &batches);
    job.start_workers(&node).await?;
    job.run(kill_one).await?;
    let (counts, mut figures) = job.finish().await;
    node.shutdown(PATIENCE).await;
    let own = node.stats();
    let unknown = own.possibly_lost;
    figures.insert(0, ("coordinator".to_owned(), Some(own.into())));

    if counts != words::count(texts.iter().map(String::as_str)) {
        return Err(Failure::run("the workers' counts differ from a count in one process"));
    }
    let mut text = words::report(&counts) + &report::table(&figures);
    if unknown > 0 {
        text +=
            &format!("of these dead letters, {unknown} were not acknowledged when a link broke\n");
    }
    text += "checked: the same as a count in one process\n";
    Ok(io::stdout().write_all(text.as_bytes())?)
}
