//! Merges two states that each know what the other does not.

use std::sync::Arc;

use super::{Gossip, NodeKey};
use crate::address::UniqueAddress;

impl Gossip {
    /// Returns the state that knows what both know.
    ///
    /// 1. Tombstones: the union, each with its later time.
    /// 2. Clock: the greater count of each node, less the nodes with a tombstone.
    /// 3. Members: all of both sides, less those with a tombstone; of one that both have, the
    ///    status further along and the smaller up number.
    /// 4. Reachability: of each observer the later rows, restricted to the members of step 3.
    /// 5. Seen: nobody has seen the result.
    ///
    /// The tombstone in step 3 is what keeps a removed member from coming back from a state in
    /// which it still is. It is also the only sign of a removal: a member that only one side has
    /// may be new there, even if it is Down or Exiting already. Without such guesses the merge is
    /// commutative, associative and idempotent, and nodes that have heard of the same changes have
    /// the same state, whatever the order. Nothing is stamped, for the clock of the result already
    /// differs from both unless one side knew everything.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let mut merged = self.clone();
        merged.merge_tombstones(other);
        merged.merge_clock(other);
        merged.merge_members(other);
        let members = &merged.members;
        let is_member = |node: &UniqueAddress| members.contains_key(node);
        merged.reachability = self.reachability.merge(&other.reachability, is_member);
        merged.seen.clear();
        merged.keep_latest_tombstones();
        merged
    }

    fn merge_tombstones(&mut self, other: &Self) {
        if self.tombstones == other.tombstones {
            return;
        }
        let tombstones = Arc::make_mut(&mut self.tombstones);
        for (node, removed) in other.tombstones.iter() {
            let known = tombstones.entry(node.clone()).or_insert(*removed);
            *known = (*known).max(*removed);
        }
    }

    fn merge_clock(&mut self, other: &Self) {
        self.clock = self.clock.merge(&other.clock);
        for node in self.tombstones.keys() {
            self.clock.prune(NodeKey::of(node));
        }
    }

    fn merge_members(&mut self, other: &Self) {
        let members = Arc::make_mut(&mut self.members);
        for (node, theirs) in other.members.iter() {
            let merged =
                members.get(node).map_or_else(|| theirs.clone(), |ours| ours.merge(theirs));
            members.insert(node.clone(), merged);
        }
        let tombstones = &self.tombstones;
        members.retain(|node, _| !tombstones.contains_key(node));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
    use proptest::test_runner::Config;

    use crate::membership::gossip::{Gossip, OwnMark, RemovalTime};
    use crate::membership::member::MemberStatus;
    use crate::membership::reachability::ReachabilityStatus;
    use crate::membership::tests::{any_gossip, gossip, unique};

    fn at(seconds: u64) -> RemovalTime {
        RemovalTime::since_1970(Duration::from_secs(seconds))
    }

    fn status(state: &Gossip, n: u16) -> Option<MemberStatus> {
        state.member(&unique(n)).map(crate::membership::member::Member::status)
    }

    #[test]
    fn a_member_still_leaving_elsewhere_does_not_come_back() {
        let base = gossip(&[1, 2]);
        let mut removed = base.clone();
        removed.remove(&unique(2), at(1)).unwrap();
        removed.stamp(&unique(1), OwnMark::Give);
        let mut leaving = base;
        leaving.advance(&unique(2), MemberStatus::Leaving).unwrap();
        leaving.stamp(&unique(2), OwnMark::Give);
        for merged in [removed.merge(&leaving), leaving.merge(&removed)] {
            assert_eq!(status(&merged, 2), None);
            assert_eq!(merged.clock(), removed.clock());
        }
    }

    #[test]
    fn the_status_further_along_wins() {
        let base = gossip(&[1, 2]);
        let mut down = base.clone();
        down.advance(&unique(2), MemberStatus::Down).unwrap();
        let mut leaving = base;
        leaving.advance(&unique(2), MemberStatus::Leaving).unwrap();
        assert_eq!(status(&down.merge(&leaving), 2), Some(MemberStatus::Down));
        assert_eq!(status(&leaving.merge(&down), 2), Some(MemberStatus::Down));
    }

    #[test]
    fn a_member_that_one_side_has_is_kept_even_if_it_is_down() {
        let mut with = gossip(&[1, 2, 3]);
        with.advance(&unique(3), MemberStatus::Down).unwrap();
        let without = gossip(&[1, 2]);
        assert_eq!(status(&without.merge(&with), 3), Some(MemberStatus::Down));
        assert_eq!(status(&with.merge(&without), 3), Some(MemberStatus::Down));
    }

    #[test]
    fn complaints_about_and_by_removed_members_go() {
        let mut left = gossip(&[1, 2, 3]);
        left.observe(&unique(1), &unique(2), ReachabilityStatus::Unreachable).unwrap();
        left.observe(&unique(2), &unique(3), ReachabilityStatus::Unreachable).unwrap();
        let mut right = gossip(&[1, 2, 3]);
        right.remove(&unique(2), at(1)).unwrap();
        assert_eq!(left.merge(&right).reachability().records().count(), 0);
    }

    #[test]
    fn nobody_has_seen_a_merged_state() {
        let mut left = gossip(&[1, 2]);
        left.mark_seen(&unique(1), OwnMark::Give);
        assert_eq!(left.merge(&left).seen().count(), 0);
    }

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn merge_is_commutative_associative_and_idempotent(
            a in any_gossip(), b in any_gossip(), c in any_gossip(),
        ) {
            let merged = a.merge(&b);
            prop_assert_eq!(&merged, &b.merge(&a));
            prop_assert_eq!(merged.merge(&c), a.merge(&b.merge(&c)));
            prop_assert_eq!(merged.merge(&b), merged.clone());
            prop_assert!(a.merge(&a).agrees_with(&a));
        }

        #[test]
        fn no_status_goes_backwards_and_no_removed_member_comes_back(
            a in any_gossip(), b in any_gossip(),
        ) {
            let merged = a.merge(&b);
            for side in [&a, &b] {
                for before in side.members() {
                    match merged.member(before.node()) {
                        Some(after) => prop_assert!(after.status() >= before.status()),
                        None => prop_assert!(merged.has_tombstone(before.node())),
                    }
                }
                for (node, _) in side.tombstones() {
                    prop_assert!(merged.has_tombstone(node) && !merged.contains(node));
                }
            }
        }
    }
}
