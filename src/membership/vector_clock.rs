//! Orders versions of the cluster's state by what happened before what.
//!
//! Floor 2. Each node counts the changes it made itself; a version is the set of these counts.
//! One version is before another if no count of it is greater; two that each miss a change of the
//! other are concurrent and must be merged. A missing count is 0.
//!
//! Nodes are named by [`NodeKey`], 64 bits of a fixed hash, because the clock travels in every
//! round of gossip. The hash takes in the random uid, so two incarnations have different keys, and
//! 10 000 nodes share one by chance with a probability of about 3 in 10^12.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::address::UniqueAddress;

/// Names one incarnation of a node in a clock: a hash that is the same on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeKey(u64);

impl NodeKey {
    /// Computes the key of a node.
    ///
    /// FNV-1a over the address as text and the uid, low byte first, then spread over all bits.
    #[must_use]
    pub fn of(node: &UniqueAddress) -> Self {
        let text = node.address().as_str().bytes();
        let bytes = text.chain(node.uid().get().to_le_bytes());
        let hash =
            bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
        Self(spread(hash))
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Says how one version stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClockOrder {
    /// Both know the same changes.
    Same,
    /// The other knows all changes of this one, and more.
    Before,
    /// This one knows all changes of the other, and more.
    After,
    /// Each knows a change that the other does not.
    Concurrent,
}

/// Counts the changes of each node: a version of the cluster's state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<(NodeKey, u64)>", into = "Vec<(NodeKey, u64)>")]
pub struct VectorClock {
    /// Never holds a 0, so that equal versions are equal values.
    counts: BTreeMap<NodeKey, u64>,
}

impl VectorClock {
    /// Counts one more change of `node`.
    pub fn increment(&mut self, node: NodeKey) {
        let count = self.counts.entry(node).or_default();
        *count = count.saturating_add(1);
    }

    /// Drops the count of a node that is no member any more.
    pub fn prune(&mut self, node: NodeKey) {
        self.counts.remove(&node);
    }

    /// Returns the version that knows the changes of both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let mut counts = self.counts.clone();
        for (node, count) in &other.counts {
            let known = counts.entry(*node).or_default();
            *known = (*known).max(*count);
        }
        Self { counts }
    }

    /// Says how this version stands to `other`.
    #[must_use]
    pub fn compare(&self, other: &Self) -> ClockOrder {
        match (self.is_covered_by(other), other.is_covered_by(self)) {
            (true, true) => ClockOrder::Same,
            (true, false) => ClockOrder::Before,
            (false, true) => ClockOrder::After,
            (false, false) => ClockOrder::Concurrent,
        }
    }

    /// Returns how many changes of `node` are known.
    #[must_use]
    pub fn count(&self, node: NodeKey) -> u64 {
        self.counts.get(&node).copied().unwrap_or(0)
    }

    /// Gives the nodes whose changes are known.
    pub fn nodes(&self) -> impl Iterator<Item = NodeKey> {
        self.counts.keys().copied()
    }

    fn is_covered_by(&self, other: &Self) -> bool {
        self.counts.iter().all(|(node, count)| *count <= other.count(*node))
    }
}

impl PartialOrd for VectorClock {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.compare(other) {
            ClockOrder::Same => Some(Ordering::Equal),
            ClockOrder::Before => Some(Ordering::Less),
            ClockOrder::After => Some(Ordering::Greater),
            ClockOrder::Concurrent => None,
        }
    }
}

impl From<VectorClock> for Vec<(NodeKey, u64)> {
    fn from(clock: VectorClock) -> Self {
        clock.counts.into_iter().collect()
    }
}

impl TryFrom<Vec<(NodeKey, u64)>> for VectorClock {
    type Error = ClockError;

    fn try_from(counts: Vec<(NodeKey, u64)>) -> Result<Self, ClockError> {
        if counts.len() > MAX_NODES {
            return Err(ClockError::TooManyNodes { count: counts.len() });
        }
        if let Some((node, count)) =
            counts.iter().find(|(_, count)| !(1..=MAX_COUNT).contains(count))
        {
            return Err(ClockError::CountOutOfRange { node: *node, count: *count });
        }
        if !counts.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(ClockError::NotAscending);
        }
        Ok(Self { counts: counts.into_iter().collect() })
    }
}

/// Says why counts from a peer are no version: the peer's fault, and refused again each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// Refuses more nodes than a cluster may have.
    #[error("{count} nodes in a version are too many, at most {MAX_NODES} are allowed")]
    TooManyNodes {
        /// Nodes that were counted.
        count: usize,
    },
    /// Refuses a count that no node reaches by counting.
    #[error("a count of {count} for {node:?} is not from 1 to {MAX_COUNT}")]
    CountOutOfRange {
        /// Whose changes.
        node: NodeKey,
        /// How many.
        count: u64,
    },
    /// Refuses nodes that are named twice or out of order.
    #[error("the nodes of a version are not in ascending order")]
    NotAscending,
}

/// Lets every bit of the input reach every bit of the output (the finaliser of SplitMix64).
const fn spread(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
/// Nodes in a version from a peer: as many as there may be members in gossip.
const MAX_NODES: usize = super::gossip::MAX_KNOWN_MEMBERS;
/// Changes of one node: far beyond any real count, far enough from the end to go on counting.
const MAX_COUNT: u64 = u64::MAX / 2;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{Strategy, prop_assert_eq, proptest};
    use proptest::test_runner::Config;

    use super::{ClockError, ClockOrder, MAX_COUNT, MAX_NODES, NodeKey, VectorClock};
    use crate::membership::tests::{clock, unique};

    #[test]
    fn keys_are_the_same_on_every_machine() {
        let ada = "tcp://Chat@10.0.0.1:2551#00000000deadbeef".parse().unwrap();
        assert_eq!(NodeKey::of(&ada).get(), 0xb8c4_1d66_6576_1f44);
    }

    #[test]
    fn keys_of_many_nodes_and_incarnations_differ() {
        let keys: BTreeSet<_> = (1..=5_000).map(|n| NodeKey::of(&unique(n))).collect();
        assert_eq!(keys.len(), 5_000);
        let [old, new] = ["01", "02"].map(|uid| format!("tcp://C@a:1#00000000000000{uid}"));
        assert_ne!(NodeKey::of(&old.parse().unwrap()), NodeKey::of(&new.parse().unwrap()),);
    }

    #[test]
    fn versions_compare_entry_by_entry() {
        let cases = [
            (clock(&[]), clock(&[]), ClockOrder::Same),
            (clock(&[(1, 1)]), clock(&[(1, 1)]), ClockOrder::Same),
            (clock(&[]), clock(&[(1, 1)]), ClockOrder::Before),
            (clock(&[(1, 1)]), clock(&[(1, 2)]), ClockOrder::Before),
            (clock(&[(1, 2), (2, 1)]), clock(&[(1, 2)]), ClockOrder::After),
            (clock(&[(1, 1)]), clock(&[(2, 1)]), ClockOrder::Concurrent),
            (clock(&[(1, 2), (2, 1)]), clock(&[(1, 1), (2, 2)]), ClockOrder::Concurrent),
            (clock(&[(1, 1), (2, 2)]), clock(&[(1, 1), (2, 2), (3, 1)]), ClockOrder::Before),
        ];
        for (left, right, order) in cases {
            assert_eq!(left.compare(&right), order, "{left:?} and {right:?}");
        }
    }

    #[test]
    fn a_pruned_node_counts_nothing() {
        let mut pruned = clock(&[(1, 4), (2, 1)]);
        pruned.prune(NodeKey::of(&unique(1)));
        assert_eq!(pruned, clock(&[(2, 1)]));
        assert_eq!(pruned.count(NodeKey::of(&unique(1))), 0);
    }

    #[test]
    fn counts_that_nobody_can_have_made_are_refused() {
        let [a, b] = [NodeKey(1), NodeKey(2)];
        for count in [0, MAX_COUNT + 1, u64::MAX] {
            let refused = ClockError::CountOutOfRange { node: a, count };
            assert_eq!(VectorClock::try_from(vec![(a, count)]), Err(refused));
        }
        for counts in [vec![(b, 1), (a, 1)], vec![(a, 1), (a, 2)]] {
            assert_eq!(VectorClock::try_from(counts), Err(ClockError::NotAscending));
        }
        let many: Vec<_> = (0..=MAX_NODES as u64).map(|n| (NodeKey(n), 1)).collect();
        let refused = ClockError::TooManyNodes { count: MAX_NODES + 1 };
        assert_eq!(VectorClock::try_from(many), Err(refused));
    }

    fn any_clock() -> impl Strategy<Value = VectorClock> {
        proptest::collection::btree_map(1..6u16, 1..4u64, 0..5)
            .prop_map(|counts| clock(&counts.into_iter().collect::<Vec<_>>()))
    }

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn merge_is_the_least_version_that_covers_both(
            a in any_clock(), b in any_clock(), c in any_clock(),
        ) {
            let merged = a.merge(&b);
            prop_assert_eq!(&merged, &b.merge(&a));
            prop_assert_eq!(a.merge(&a), a.clone());
            prop_assert_eq!(merged.merge(&c), a.merge(&b.merge(&c)));
            prop_assert_eq!(merged == b, a <= b);
            // Nothing smaller would do.
            prop_assert_eq!(a <= c && b <= c, merged <= c);
        }

        #[test]
        fn comparing_from_the_other_side_gives_the_mirror_image(a in any_clock(), b in any_clock()) {
            let mirrored = match a.compare(&b) {
                ClockOrder::Before => ClockOrder::After,
                ClockOrder::After => ClockOrder::Before,
                alike => alike,
            };
            prop_assert_eq!(b.compare(&a), mirrored);
        }

        #[test]
        fn a_change_leads_to_a_later_version(a in any_clock(), n in 1..6u16) {
            let mut later = a.clone();
            later.increment(NodeKey::of(&unique(n)));
            prop_assert_eq!(later.compare(&a), ClockOrder::After);
        }
    }
}
