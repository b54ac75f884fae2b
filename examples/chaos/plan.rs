//! Draws what is done to the cluster: the same seed gives the same faults, in the same order, after the same times.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Draws one episode after the other, without end.
#[derive(Debug)]
pub(crate) struct Plan {
    rng: fastrand::Rng,
    nodes: usize,
    next: u64,
}

/// Is some faults that overlap or follow each other closely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Episode {
    pub(crate) number: u64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) rest: Rest,
    /// Whether it is one partition, of a cluster that was whole: one side has to stay, and only one.
    pub(crate) is_clean: bool,
}

/// Is one fault of an episode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// From the beginning of the episode.
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) kind: Kind,
}

/// Says what is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The process is killed, and started again at its address when the fault is over.
    Kill(usize),
    /// The process is stopped from running.
    Pause(usize),
    /// These nodes and the others hear nothing of each other.
    Part(BTreeSet<usize>),
    /// Nobody hears what the node says.
    Mute(usize),
    /// The second node does not hear the first.
    MuteTo(usize, usize),
    /// What the node says and hears takes its time.
    Slow(usize, Pace),
    /// Every link of the node is reset.
    Reset(usize),
    /// Every link of the node is reset, and new ones are refused.
    Refuse(usize),
}

/// Says how slow links are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    /// Bytes a second of each direction of each link.
    pub(crate) bandwidth: u64,
}

/// Says what follows the last fault of an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The next one comes whatever the cluster has made of this one.
    Brief(Duration),
    /// The cluster has to become whole.
    Settle,
}

/// Says how long a fault lasts, beside what the cluster does about it.
#[derive(Clone, Copy)]
enum Span {
    /// Nobody is held to be unreachable for it.
    Blink,
    /// Found out, and mostly over before downing.
    While,
    /// It outlasts downing.
    Long,
}

impl Plan {
    /// Draws from a seed, for so many nodes or for as many as it draws too.
    pub(crate) fn new(seed: u64, nodes: Option<usize>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let drawn = rng.usize(FEWEST..=MOST);
        Self { rng, nodes: nodes.unwrap_or(drawn), next: 1 }
    }

    /// Says how many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    /// Draws the next episode.
    pub(crate) fn episode(&mut self) -> Episode {
        let number = self.next;
        self.next += 1;
        let shape = self.rng.u8(..100);
        let is_clean = shape < 15;
        let faults = match shape {
            0..15 => vec![self.partition()],
            15..30 => vec![self.fault(Span::Long)],
            30..50 => vec![self.short_fault()],
            50..88 => (0..self.rng.usize(2..=3)).map(|_| self.short_fault()).collect(),
            _ => (0..self.rng.usize(4..=7)).map(|_| self.any_fault()).collect(),
        };
        let rest = match self.rng.u8(..10) {
            0..4 if !is_clean => Rest::Brief(self.millis(500, 4_000)),
            _ => Rest::Settle,
        };
        Episode { number, faults, rest, is_clean }
    }

    fn partition(&mut self) -> Fault {
        let (lasts, kind) = (self.lasts(Span::Long), self.part());
        Fault { at: Duration::ZERO, lasts, kind }
    }

    fn short_fault(&mut self) -> Fault {
        let span = if self.rng.bool() { Span::Blink } else { Span::While };
        self.fault(span)
    }

    /// Draws a fault of a storm.
    fn any_fault(&mut self) -> Fault {
        if self.rng.u8(..3) == 0 { self.fault(Span::Long) } else { self.short_fault() }
    }

    fn fault(&mut self, span: Span) -> Fault {
        let (at, lasts) = (self.millis(0, 3_000), self.lasts(span));
        let node = self.node();
        let kind = match self.rng.u8(..16) {
            0..4 => Kind::Kill(node),
            4..6 => Kind::Pause(node),
            6..8 => self.part(),
            8 => Kind::Mute(node),
            9 => Kind::MuteTo(node, self.other_than(node)),
            10..12 => Kind::Slow(node, self.pace()),
            12..14 => Kind::Reset(node),
            _ => Kind::Refuse(node),
        };
        let lasts = if matches!(kind, Kind::Reset(_)) { Duration::ZERO } else { lasts };
        Fault { at, lasts, kind }
    }

    fn lasts(&mut self, span: Span) -> Duration {
        match span {
            Span::Blink => self.millis(100, 1_200),
            Span::While => self.millis(2_000, 5_000),
            Span::Long => LASTING + self.millis(0, 6_000),
        }
    }

    fn part(&mut self) -> Kind {
        let nodes = self.nodes;
        let mut all: Vec<usize> = (0..nodes).collect();
        self.rng.shuffle(&mut all);
        Kind::Part(all.into_iter().take(self.rng.usize(1..nodes)).collect())
    }

    fn pace(&mut self) -> Pace {
        let (latency, jitter) = (self.millis(20, 300), self.millis(0, 200));
        Pace { latency, jitter, bandwidth: self.rng.u64(100..=1_000) * 1_024 }
    }

    fn node(&mut self) -> usize {
        self.rng.usize(..self.nodes)
    }

    fn other_than(&mut self, node: usize) -> usize {
        (node + self.rng.usize(1..self.nodes)) % self.nodes
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.rng.u64(least..=most))
    }
}

impl Kind {
    /// Names the kind alone, for counting.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Pause(_) => "pause",
            Self::Part(_) => "partition",
            Self::Mute(_) | Self::MuteTo(..) => "one-way",
            Self::Slow(..) => "slow",
            Self::Reset(_) => "reset",
            Self::Refuse(_) => "refuse",
        }
    }
}

impl Fault {
    /// Tells whether the cluster decides while it lasts.
    pub(crate) fn outlasts_downing(&self) -> bool {
        self.lasts >= LASTING
    }
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "episode {}:", self.number)?;
        for Fault { at, lasts, kind } in &self.faults {
            write!(f, " at {at:?} for {lasts:?} {kind};")?;
        }
        match self.rest {
            Rest::Brief(wait) => write!(f, " go on after {wait:?}"),
            Rest::Settle => f.write_str(" settle"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(node) => write!(f, "kill {node}"),
            Self::Pause(node) => write!(f, "pause {node}"),
            Self::Part(group) => write!(f, "part {group:?} from the others"),
            Self::Mute(node) => write!(f, "mute {node}"),
            Self::MuteTo(from, to) => write!(f, "mute {from} towards {to}"),
            Self::Slow(node, Pace { latency, jitter, bandwidth }) => {
                write!(f, "slow {node} by {latency:?} + {jitter:?}, {} KiB/s", bandwidth / 1_024)
            }
            Self::Reset(node) => write!(f, "reset {node}"),
            Self::Refuse(node) => write!(f, "refuse {node}"),
        }
    }
}

const FEWEST: usize = 5;
const MOST: usize = 9;
/// Longer than finding out, waiting for a stable view and downing all if there is none take together.
const LASTING: Duration = Duration::from_secs(16);

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(seed: u64) -> Vec<String> {
        let mut plan = Plan::new(seed, None);
        (0..200).map(|_| plan.episode().to_string()).collect()
    }

    #[test]
    fn a_seed_gives_the_same_schedule_again_and_another_seed_another_one() {
        assert_eq!(schedule(7), schedule(7));
        assert_ne!(schedule(7), schedule(8));
    }

    #[test]
    fn faults_are_of_every_kind_and_strike_nodes_that_there_are() {
        let mut plan = Plan::new(1, Some(5));
        let faults: Vec<Fault> = (0..200).flat_map(|_| plan.episode().faults).collect();
        let kinds: BTreeSet<&str> = faults.iter().map(|fault| fault.kind.name()).collect();
        assert_eq!(kinds.len(), 7, "{kinds:?}");
        for fault in faults {
            match fault.kind {
                Kind::Part(group) => {
                    assert!((1..5).contains(&group.len()) && group.iter().all(|node| *node < 5))
                }
                Kind::MuteTo(from, to) => assert!(from != to && from < 5 && to < 5),
                Kind::Kill(node)
                | Kind::Pause(node)
                | Kind::Mute(node)
                | Kind::Slow(node, _)
                | Kind::Reset(node)
                | Kind::Refuse(node) => assert!(node < 5),
            }
        }
    }
}
