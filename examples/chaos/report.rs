//! Says what came of a run: a table for people, a row for the ledger, or everything that is wrong.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use crate::conductor::Seen;
use crate::verdict::Verdict;
use crate::vitals::Growth;

/// Is what a run was.
pub(crate) struct Run<'a> {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) took: Duration,
    pub(crate) cpu: Duration,
    pub(crate) seen: &'a Seen,
    pub(crate) verdict: &'a Verdict,
    pub(crate) growth: Growth,
}

impl Run<'_> {
    /// Prints what was counted.
    pub(crate) fn totals(&self) {
        let Self { seen, verdict, growth, .. } = self;
        let tells = &verdict.tells;
        row("seed", self.seed);
        row("nodes", self.nodes);
        row("processes", verdict.lives);
        row("time", format!("{:.1} min", self.took.as_secs_f64() / 60.0));
        let share = self.cpu.as_secs_f64() / self.took.as_secs_f64() * 100.0;
        row("processor time", format!("{share:.1} % of a core"));
        row("faults", list(&seen.faults));
        row("nodes downed", seen.downed);
        row("formed again", seen.formed_again);
        let sides = format!("{} with one side left, {} with none", seen.one_side, seen.no_side);
        row("lasting partitions", sides);
        let longest = seen.settled.iter().max().copied().unwrap_or_default();
        row("became whole", format!("{} times, within {longest:.1?}", seen.settled.len()));
        row("tells", tells.told);
        row("  arrived", tells.arrived);
        row("  missing, dead letters", tells.accounted);
        row("  missing, receiver killed", tells.with_receiver);
        row("  missing, sender killed", tells.with_sender);
        row("  dead letters, arrived", tells.arrived_in_doubt);
        row("  refused to the caller", list(&verdict.refused));
        row("dead letters", list(&verdict.letters));
        row("asks", verdict.asks.values().sum::<u64>());
        row("  ended by", list(&verdict.asks));
        row("memory", format!("at most {} KiB", growth.most_kib));
        row("descriptors", format!("at most {}", growth.most_descriptors));
        let judged = format!(
            "{} processes that lived up to {:.1?}: at most {:+} KiB, {:+} descriptors",
            growth.judged, growth.longest, growth.kib, growth.descriptors
        );
        row("growth", judged);
    }

    /// Prints the row for the ledger, behind its date and commit.
    pub(crate) fn ledger(&self) {
        let Self { seed, nodes, took, seen, verdict, .. } = self;
        let (tells, asks) = (&verdict.tells, verdict.asks.values().sum::<u64>());
        let replies = verdict.asks.get("reply").copied().unwrap_or(0);
        let minutes = took.as_secs_f64() / 60.0;
        let longest = seen.settled.iter().max().copied().unwrap_or_default();
        println!(
            "| {seed} | {nodes} | {minutes:.1} | {} | {} + {} | {} | {} / {} / {} | {asks}, {replies} | {} | {longest:.1?} |",
            list(&seen.faults),
            seen.one_side,
            seen.no_side,
            tells.told,
            tells.accounted,
            tells.with_receiver,
            tells.with_sender,
            seen.formed_again,
        );
    }

    /// Prints what is wrong, and how to look further.
    pub(crate) fn complain(&self, broken: &[String], folder: &Path) {
        println!("\nthe faults of seed {}, {} nodes:", self.seed, self.nodes);
        self.seen.schedule.iter().for_each(|line| println!("{line}"));
        println!("\n{} broken:", broken.len());
        broken.iter().take(MOST_SHOWN).for_each(|text| println!("  {text}"));
        println!("\nthe journals of all processes are in {}", folder.display());
    }
}

fn row(name: &str, value: impl Display) {
    println!("{name:28} {value}");
}

fn list(counts: &BTreeMap<impl Display, u64>) -> String {
    let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

const MOST_SHOWN: usize = 50;
