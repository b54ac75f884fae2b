//! Says what one direction of a proxy does to the bytes that pass.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

/// Names one direction of the links of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From whoever dialled the proxy to its target.
    ToTarget,
    /// From the target to whoever dialled the proxy.
    FromTarget,
}

/// Says what is done to the bytes of one direction; by default nothing.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Flow {
    /// Time that every byte is under way. Default 0; timers round up to whole milliseconds.
    pub latency: Duration,
    /// Most that is added to the latency, drawn evenly; bytes stay in order. Default 0.
    pub jitter: Duration,
    /// Bytes that pass in a second. Default no bound.
    pub bandwidth: Option<NonZeroU64>,
    /// Lets bytes trickle. Default no.
    pub drip: Option<Drip>,
    /// Chance that one bit is flipped in what one read brings, up to 16 KiB. Default 0, up to 1 (always).
    pub corruption: f64,
}

/// Lets a few bytes pass at a time, so that the reader sees frames come in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drip {
    /// Bytes that pass at a time.
    pub bytes: NonZeroUsize,
    /// Time between them.
    pub every: Duration,
}

impl Flow {
    /// Draws how long bytes are under way.
    pub(super) fn delay(&self, rng: &mut fastrand::Rng) -> Duration {
        self.latency.saturating_add(self.jitter.mul_f64(rng.f64()))
    }

    /// Flips a bit, or not.
    pub(super) fn corrupt(&self, bytes: &mut [u8], rng: &mut fastrand::Rng) {
        if rng.f64() >= self.corruption || bytes.is_empty() {
            return;
        }
        let (at, bit) = (rng.usize(..bytes.len()), rng.u8(..8));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }
}
