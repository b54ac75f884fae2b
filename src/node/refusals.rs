//! Gathers what this node refused of a peer's tells, so that the peer is told once in a while and not each time.
//!
//! What is held back is told after the next read from the peer, a Ping or Pong at the latest.

use std::time::{Duration, Instant};

use crate::association::control::ControlPdu;
use crate::event::Reason;

/// Gathers refusals of one peer, one sum per reason.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    sums: Vec<Sum>,
    told_at: Option<Instant>,
}

/// The refusals for one reason since the peer was last told; the first one gives its names.
#[derive(Debug)]
struct Sum {
    reason: Reason,
    count: u64,
    target: String,
    manifest: String,
}

impl Refusals {
    /// Counts one refusal.
    pub(crate) fn add(&mut self, reason: Reason, target: &str, manifest: &str) {
        if let Some(sum) = self.sums.iter_mut().find(|sum| sum.reason == reason) {
            sum.count += 1;
            return;
        }
        let (target, manifest) = (target.to_owned(), manifest.to_owned());
        self.sums.push(Sum { reason, count: 1, target, manifest });
    }

    /// Tells whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Gives what the peer is to be told now; nothing if it was told less than 100 ms ago.
    pub(crate) fn due(&mut self, now: Instant) -> impl Iterator<Item = ControlPdu> {
        let is_due = self.told_at.is_none_or(|told| now >= told + TELL_EVERY);
        let sums = if is_due { std::mem::take(&mut self.sums) } else { Vec::new() };
        if !sums.is_empty() {
            self.told_at = Some(now);
        }
        sums.into_iter().map(|Sum { reason, count, target, manifest }| ControlPdu::Refused {
            reason,
            count,
            target,
            manifest,
        })
    }
}

/// How often a peer is told at most.
const TELL_EVERY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_summed_per_reason_and_told_at_most_ten_times_a_second() {
        let now = Instant::now();
        let mut refusals = Refusals::default();
        for target in ["/user/a", "/user/b"] {
            refusals.add(Reason::UnknownPath, target, "bincode:x.v1.A");
        }
        refusals.add(Reason::MailboxFull, "/user/c", "bincode:x.v1.A");
        let told: Vec<_> = refusals.due(now).collect();
        let target = "/user/a".to_owned();
        let manifest = "bincode:x.v1.A".to_owned();
        let first = ControlPdu::Refused { reason: Reason::UnknownPath, count: 2, target, manifest };
        assert_eq!((told.len(), &told[0]), (2, &first));

        refusals.add(Reason::UnknownPath, "/user/a", "bincode:x.v1.A");
        assert_eq!(refusals.due(now + TELL_EVERY / 2).count(), 0);
        assert_eq!(refusals.due(now + TELL_EVERY).count(), 1);
        assert!(refusals.is_empty());
    }
}
