//! Writes down what happens in a simulated cluster, so that two runs can be compared.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Holds the latest lines of what has happened, and a digest of all of them.
#[derive(Debug, Clone)]
pub struct Trace {
    lines: VecDeque<String>,
    capacity: usize,
    digest: u64,
}

impl Trace {
    pub(super) fn new(capacity: usize) -> Self {
        Self { lines: VecDeque::new(), capacity, digest: FNV_OFFSET }
    }

    /// Adds a line; with no capacity nothing is written at all.
    pub(super) fn note(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        if self.capacity == 0 {
            return;
        }
        if self.lines.len() == self.capacity {
            self.lines.pop_front();
        }
        let line = format!("{:>12.6} {what}", now.as_secs_f64());
        let bytes = line.bytes();
        self.digest =
            bytes.fold(self.digest, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
        self.lines.push_back(line);
    }

    /// Gives the latest lines, the oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// Returns what stands for all lines ever written, also those that gave way.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Trace;

    #[test]
    fn the_digest_knows_lines_that_gave_way() {
        let digests = [["a", "c"], ["b", "c"]].map(|lines| {
            let mut trace = Trace::new(1);
            lines.iter().for_each(|line| trace.note(Duration::ZERO, format_args!("{line}")));
            assert_eq!(trace.lines().collect::<Vec<_>>(), ["    0.000000 c"]);
            trace.digest()
        });
        assert_ne!(digests[0], digests[1]);
    }
}
