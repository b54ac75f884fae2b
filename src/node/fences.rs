//! Keeps which incarnations are to be quarantined, because the cluster has removed them: [`Fences`].
//!
//! Who was declared dead is fenced at once, since others do its work from then on. Who has left may still flush what
//! it has told and say goodbye, and is fenced after a grace.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::address::UniqueAddress;
use crate::membership::member::MemberStatus;

/// Knows when whom to quarantine; bounded by the removals within the grace.
#[derive(Debug)]
pub(crate) struct Fences {
    grace: Duration,
    due: BTreeSet<(Instant, UniqueAddress)>,
}

impl Fences {
    /// Gives members that have left so much time.
    pub(crate) fn new(grace: Duration) -> Self {
        Self { grace, due: BTreeSet::new() }
    }

    /// Notes that a member with this status was removed.
    pub(crate) fn handle_removed(
        &mut self,
        now: Instant,
        node: &UniqueAddress,
        previous: MemberStatus,
    ) {
        let grace = if previous == MemberStatus::Down { Duration::ZERO } else { self.grace };
        self.due.insert((now + grace, node.clone()));
    }

    /// Takes the next incarnation that is due.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<UniqueAddress> {
        let is_due = self.due.first().is_some_and(|(at, _)| *at <= now);
        is_due.then(|| self.due.pop_first()).flatten().map(|(_, node)| node)
    }

    /// Returns when the next one is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Uid;

    #[test]
    fn the_dead_are_fenced_at_once_and_who_has_left_after_a_grace() {
        let node = |uid| UniqueAddress::new("mem://Test@peer:1".parse().unwrap(), Uid::new(uid));
        let (now, grace) = (Instant::now(), Duration::from_secs(5));
        let mut fences = Fences::new(grace);
        fences.handle_removed(now, &node(1), MemberStatus::Exiting);
        fences.handle_removed(now, &node(2), MemberStatus::Down);
        assert_eq!((fences.poll(now), fences.poll(now)), (Some(node(2)), None));
        assert_eq!(fences.poll_timeout(), Some(now + grace));
        assert_eq!(fences.poll(now + grace), Some(node(1)));
        assert_eq!(fences.poll_timeout(), None);
    }
}
