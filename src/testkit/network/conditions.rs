//! Holds what the links of a network do to what they carry, and which of them are cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use super::NetworkError;
use crate::wire::FrameKind;

/// Describes what one direction of a link does to what it carries; by default nothing.
///
/// Chances are drawn for each frame from the network's seed, and lie between 0 (never) and 1 (always).
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Conditions {
    /// Time that every byte is under way. Default 0, at most 1 h; timers round up to whole milliseconds.
    pub latency: Duration,
    /// Most that is added to the latency, drawn evenly; bytes stay in order. Default 0, at most 1 h.
    pub jitter: Duration,
    /// Bytes that pass in a second. Default no bound.
    pub bandwidth: Option<NonZeroU64>,
    /// Chance that a frame is lost, by its kind. Default none is.
    ///
    /// A real network does not lose frames out of a stream: this is for what a protocol must live through anyway,
    /// such as lost gossip.
    pub frame_loss: BTreeMap<FrameKind, f64>,
    /// Chance that the link breaks in place of carrying a frame, both directions at once. Default 0.
    pub link_loss: f64,
    /// Chance that one bit of a frame is flipped. Default 0.
    pub corruption: f64,
}

impl Conditions {
    pub(super) fn check(&self) -> Result<(), NetworkError> {
        let is_chance = |chance: &f64| (0.0..=1.0).contains(chance);
        ensure("latency", self.latency <= LONGEST)?;
        ensure("jitter", self.jitter <= LONGEST)?;
        ensure("frame_loss", self.frame_loss.values().all(is_chance))?;
        ensure("link_loss", is_chance(&self.link_loss))?;
        ensure("corruption", is_chance(&self.corruption))
    }
}

fn ensure(what: &'static str, in_range: bool) -> Result<(), NetworkError> {
    if in_range { Ok(()) } else { Err(NetworkError::OutOfRange { what }) }
}

/// Names one direction between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Way {
    /// Gives the other direction.
    pub(super) fn back(self) -> Self {
        Self { from: self.to, to: self.from }
    }

    pub(super) fn touches(self, node: usize) -> bool {
        self.from == node || self.to == node
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{}", self.from, self.to)
    }
}

/// Holds what applies to every way of the network at this moment.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) usual: Conditions,
    pub(super) special: BTreeMap<Way, Conditions>,
    pub(super) cuts: BTreeSet<Way>,
    pub(super) ignored: BTreeSet<FrameKind>,
    /// The network is gone.
    pub(super) is_closed: bool,
}

impl Rules {
    pub(super) fn conditions(&self, way: Way) -> &Conditions {
        self.special.get(&way).unwrap_or(&self.usual)
    }

    pub(super) fn is_open(&self, way: Way) -> bool {
        self.is_closed || !self.cuts.contains(&way)
    }

    /// Gives the chance that a frame of this kind is lost.
    pub(super) fn frame_loss(&self, way: Way, kind: FrameKind) -> f64 {
        if self.ignored.contains(&kind) {
            return 1.0;
        }
        self.conditions(way).frame_loss.get(&kind).copied().unwrap_or(0.0)
    }
}

const LONGEST: Duration = Duration::from_secs(3600);
