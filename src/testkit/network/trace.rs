//! Writes down what a network carried and suffered, so that two runs can be compared.

use std::fmt::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Collects lines, up to a limit.
#[derive(Debug)]
pub(super) struct Trace {
    start: Instant,
    limit: usize,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    text: String,
    count: usize,
    left_off: u64,
}

impl Trace {
    pub(super) fn new(limit: usize) -> Self {
        Self { start: Instant::now(), limit, lines: Mutex::default() }
    }

    /// Adds a line, behind the time in microseconds.
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        let micros = self.elapsed().as_micros();
        let mut lines = self.lines();
        if lines.count >= self.limit {
            lines.left_off += 1;
            return;
        }
        lines.count += 1;
        // Writing into a text does not fail.
        writeln!(lines.text, "{micros} {what}").ok();
    }

    /// Gives the time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Gives the last lines.
    pub(super) fn tail(&self, count: usize) -> Vec<String> {
        let lines = self.lines();
        let mut tail: Vec<_> = lines.text.lines().rev().take(count).map(str::to_owned).collect();
        tail.reverse();
        tail
    }

    /// Gives all lines, and how many more there were.
    pub(super) fn text(&self) -> String {
        let lines = self.lines();
        let mut text = lines.text.clone();
        if lines.left_off > 0 {
            writeln!(text, "{} more", lines.left_off).ok();
        }
        text
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sums bytes up (FNV-1a, 64 bits), so that a trace shows whether two frames are the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
