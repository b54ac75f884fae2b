//! Shows a cluster living: five processes join through two seeds, one is killed and comes back, another one leaves.
//!
//! `cargo run --example cluster`
//!
//! ```text
//!   conductor                                  ada, bob, cleo, dan, eve (five processes)
//!       │ ── starts them, each where it likes ────▶ │
//!       │ ◀───────────── at ADDRESS ─────────────── │   stdout
//!       │ ── join ADA BOB ────────────────────────▶ │   stdin; its end is theirs
//!       │ ◀── event cleo Unreachable, table … ───── │   stdout, whenever something has changed
//! ```
//! Ends by itself, with exit code 0 if everything took the expected course, and 1 after [`LIMIT`] at the latest. The
//! intervals of the cluster are a fifth of the usual ones, so that it takes about 7 seconds and not 40.
#![expect(
    clippy::print_stdout,
    reason = "stdout is where people read how the members see each other"
)]

#[path = "common/failure.rs"]
mod failure;
#[path = "common/member.rs"]
mod member;
#[path = "common/stage.rs"]
mod stage;
#[path = "common/terminal.rs"]
mod terminal;

use std::process::ExitCode;
use std::time::Duration;

use crate::failure::Failure;
use crate::stage::Stage;

#[tokio::main]
async fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let outcome = match given[..] {
        [] => conduct().await,
        ["--member", name, "--listen", endpoint] => member::run(name, endpoint).await,
        _ => Err(Failure::usage("usage: cluster")),
    };
    outcome.map_or_else(|failure| failure.report("cluster"), |()| ExitCode::SUCCESS)
}

async fn conduct() -> Result<(), Failure> {
    let mut stage = Stage::default();
    let course = tokio::time::timeout(LIMIT, play(&mut stage)).await;
    course.unwrap_or_else(|_| Err(stage.stuck()))
}

/// Lets the members play, and holds them to the course.
async fn play(stage: &mut Stage) -> Result<(), Failure> {
    println!("five processes start, and join through ada and bob:");
    for name in NAMES {
        stage.start(name, "tcp://127.0.0.1:0").await?;
    }
    let seeds = [stage.address("ada")?, stage.address("bob")?];
    for name in NAMES {
        stage.join(name, &seeds).await?;
    }
    stage.until_all_up(&NAMES).await?;

    println!("cleo is killed without warning:");
    let address = stage.kill("cleo").await?;
    stage.until_all_up(&["ada", "bob", "dan", "eve"]).await?;
    stage.expect("cleo", &["Unreachable", "Downed", "Removed"])?;

    println!("cleo is started again at the same address:");
    stage.start("cleo", &address.endpoint().to_string()).await?;
    stage.join("cleo", &seeds).await?;
    stage.until_all_up(&NAMES).await?;
    stage.expect("cleo", &["Joined", "Up"])?;

    println!("dan leaves:");
    stage.leave("dan").await?;
    stage.until_all_up(&["ada", "bob", "cleo", "eve"]).await?;
    stage.expect("dan", &["Leaving", "Exited", "Removed"])?;
    stage.refuse("dan", &["Unreachable", "Downed"])?;

    println!("everybody goes home:");
    stage.end().await?;
    println!("everything took the expected course");
    Ok(())
}

const NAMES: [&str; 5] = ["ada", "bob", "cleo", "dan", "eve"];
/// How long the whole may take.
const LIMIT: Duration = Duration::from_secs(50);
