//! Measures how soon a cluster of real processes agrees again when a partition heals, and holds it to its bars.
//!
//! `cargo bench --features testkit --bench cluster_heal [-- HEALS]`
//!
//! Two members of each cluster are parted from the others for 13 s and longer, so that every back-off has grown to its
//! longest; all settings are the defaults but for downing, which waits. Once links stay and are silent, as when cables
//! are pulled; once they are reset and refused, as when a firewall loses its state. A heal ends when every process sees
//! all members Up, none unreachable, and that all have seen the same. All clusters run at the same time, 28 processes
//! in about three minutes.
#![expect(clippy::unwrap_used, reason = "what cannot be set up cannot be measured")]
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/cluster_processes/member.rs"]
mod member;
#[allow(dead_code, reason = "the scenarios of the tests use more of it")]
#[path = "../tests/cluster_processes/stage.rs"]
mod stage;

use std::time::Duration;

use tellwire::testkit::Process;
use tellwire::testkit::proxy::Cut;
use tokio::time::Instant;

use crate::stage::Stage;

#[tokio::main]
async fn main() {
    if std::env::var_os(member::DETOURS).is_some() {
        return member::run().await;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        // Only a test of the bench itself.
        heals(3, Cut::Reset, 1, Duration::ZERO).await;
        return;
    }
    let heals_each = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let course = |members, cut| heals(members, cut, heals_each, LONG_ENOUGH);
    let (five_silent, five_reset, nine_silent, nine_reset) = tokio::join!(
        course(5, Cut::Silent),
        course(5, Cut::Reset),
        course(9, Cut::Silent),
        course(9, Cut::Reset),
    );
    println!(
        "{:>7} {:<7} {:>8} {:>8} {:>8} {:>8}",
        "members", "cut", "median", "least", "most", "bar"
    );
    let mut is_within = true;
    for (members, cut, times, bar) in [
        (5, Cut::Silent, five_silent, FIVE_WITHIN),
        (5, Cut::Reset, five_reset, FIVE_WITHIN),
        (9, Cut::Silent, nine_silent, NINE_WITHIN),
        (9, Cut::Reset, nine_reset, NINE_WITHIN),
    ] {
        is_within &= report(members, cut, times, bar);
    }
    assert!(is_within, "a bar is missed");
}

/// Parts and heals a cluster again and again, and gives how long it took each time to agree.
async fn heals(members: usize, cut: Cut, count: u32, hold: Duration) -> Vec<Duration> {
    let stage =
        Stage::new(members, |name| Process::program(std::env::current_exe().unwrap(), name));
    let mut stage = stage.await.with(member::PACE, "default").with(member::STABLE_AFTER, NEVER);
    let all: Vec<usize> = (0..members).collect();
    stage.form(0..members).await;
    let mut times = Vec::new();
    for turn in 0..count {
        stage.mesh.split(&[0, 1], cut);
        let parted = Instant::now();
        for member in &all {
            let lost = if *member < 2 { members - 1 } else { 0 };
            stage.lost(*member, lost).await;
        }
        // Each time another phase of the back-off.
        tokio::time::sleep_until(parted + hold + turn * PHASE).await;
        let healed = Instant::now();
        stage.mesh.heal();
        stage.all_up(&all).await;
        times.push(healed.elapsed());
        println!("{members} members, {cut:?}: {:.2} s", healed.elapsed().as_secs_f64());
    }
    stage.nobody_downed();
    times
}

/// Prints the figures of one course, and tells whether they are within the bar.
fn report(members: usize, cut: Cut, mut times: Vec<Duration>, bar: Duration) -> bool {
    times.sort();
    let median = times[times.len() / 2];
    let [median_s, least, most] =
        [median, times[0], times[times.len() - 1]].map(|time| time.as_secs_f64());
    let cut = format!("{cut:?}");
    println!(
        "{members:>7} {cut:<7} {median_s:>6.2} s {least:>6.2} s {most:>6.2} s {:>6.2} s",
        bar.as_secs_f64()
    );
    median <= bar
}

const FIVE_WITHIN: Duration = Duration::from_secs(3);
const NINE_WITHIN: Duration = Duration::from_secs(5);
/// Time after which back-off has grown to its longest.
const LONG_ENOUGH: Duration = Duration::from_secs(13);
/// What each cut lasts longer than the one before.
const PHASE: Duration = Duration::from_millis(2_700);
/// Milliseconds after which downing would decide.
const NEVER: u64 = 3_600_000;
