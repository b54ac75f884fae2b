//! Holds the state that members spread among each other, and the changes a node may make to it.
//!
//! Floor 2. The state forms a lattice: each part only ever grows, so two states always merge into
//! one that knows what both know, in whatever order they meet (see [`Gossip::merge`]).
//!
//! | part | grows by |
//! |---|---|
//! | members | joining, and steps along the table of [`MemberStatus`] |
//! | tombstones | removals; who has one is no member, whatever another state says |
//! | reachability | the counts of the observers |
//! | clock | the counts of the nodes that made changes |
//! | seen | marks of who has seen this very version; the only part that a new version empties |
//!
//! A change is made in three steps: clone, call the verbs, then [`stamp`](Gossip::stamp) once. Two
//! states with the same clock are then the same but for who has seen them.
//!
//! Members and tombstones are shared by the clones of a state until one of them changes: with each round of gossip a
//! state is cloned and compared, and only its marks are others.

mod form;
mod merge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::form::{FormError, GossipForm, MemberForm, ObserverForm, RowForm};
use super::member::{Member, MemberError, MemberStatus, UpNumber};
use super::reachability::{Reachability, ReachabilityStatus};
use super::vector_clock::{NodeKey, VectorClock};
use crate::address::{Address, UniqueAddress};

/// Says when a member was removed, in seconds since 1970 by the clock of the removing leader.
///
/// Only for forgetting tombstones after a day, so clocks that differ by minutes do no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RemovalTime(u64);

impl RemovalTime {
    /// Wraps the time that has passed since 1970; fractions of a second are dropped.
    #[must_use]
    pub const fn since_1970(time: Duration) -> Self {
        Self(time.as_secs())
    }

    /// Returns the time that is `later` than this one.
    #[must_use]
    pub const fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later.as_secs()))
    }

    /// Returns the time that is `age` before this one, or the beginning of 1970.
    #[must_use]
    pub const fn minus(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(age.as_secs()))
    }
}

/// Says whether a node marks what it has as seen.
///
/// A node that runs its exit tasks withholds its mark, and so holds up the convergence that would
/// remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnMark {
    /// Marks it as seen.
    Give,
    /// Leaves it unmarked: the exit tasks are not done.
    Withhold,
}

/// Stands for the set of who has seen a version: equal sets have equal digests on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeenDigest(u64);

/// Is the state of the cluster as one node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gossip {
    /// Who takes part, in the order of addresses; none is Removed and none has a tombstone.
    members: Arc<BTreeMap<UniqueAddress, Member>>,
    /// Who has seen this version; all of them members.
    seen: BTreeSet<UniqueAddress>,
    /// Who can be reached by whom; observers and subjects are all members.
    reachability: Reachability,
    /// The version; it counts members only.
    clock: VectorClock,
    /// Who was removed, and when.
    tombstones: Arc<BTreeMap<UniqueAddress, RemovalTime>>,
}

impl Gossip {
    /// Adds a member that has just asked to join.
    ///
    /// # Errors
    /// [`AddError`] says why not; nothing was changed.
    pub fn add(&mut self, member: Member) -> Result<(), AddError> {
        let node = member.node();
        if self.tombstones.contains_key(node) {
            return Err(AddError::WasRemoved { node: node.clone() });
        }
        if let Some(other) = self.members.values().find(|other| is_rival(other.node(), node)) {
            return Err(AddError::Taken { by: other.node().clone() });
        }
        if self.members.len() >= MAX_MEMBERS {
            return Err(AddError::Full { limit: MAX_MEMBERS });
        }
        Arc::make_mut(&mut self.members).insert(node.clone(), member);
        Ok(())
    }

    /// Moves a member to Up and gives it its place in the order of age.
    ///
    /// # Errors
    /// [`ChangeError`] says why not; nothing was changed.
    pub fn promote(&mut self, node: &UniqueAddress, number: UpNumber) -> Result<(), ChangeError> {
        Ok(self.known_mut(node)?.promote(number)?)
    }

    /// Moves a member to a status other than Up and Removed.
    ///
    /// One that becomes Down also loses its mark of having seen this version.
    ///
    /// # Errors
    /// [`ChangeError`] says why not; nothing was changed.
    pub fn advance(
        &mut self,
        node: &UniqueAddress,
        status: MemberStatus,
    ) -> Result<(), ChangeError> {
        self.known_mut(node)?.advance(status)?;
        if status == MemberStatus::Down {
            self.seen.remove(node);
        }
        Ok(())
    }

    /// Removes a member for ever: all that is left is a tombstone.
    ///
    /// # Errors
    /// [`ChangeError::NotAMember`]; nothing was changed.
    pub fn remove(&mut self, node: &UniqueAddress, now: RemovalTime) -> Result<(), ChangeError> {
        self.known(node)?;
        self.bury(node, now);
        self.keep_latest_tombstones();
        Ok(())
    }

    /// Records what `observer` finds about `subject`, and tells whether that was news.
    ///
    /// # Errors
    /// [`ChangeError::NotAMember`] if either is none; nothing was changed.
    pub fn observe(
        &mut self,
        observer: &UniqueAddress,
        subject: &UniqueAddress,
        status: ReachabilityStatus,
    ) -> Result<bool, ChangeError> {
        self.known(observer)?;
        self.known(subject)?;
        Ok(self.reachability.change(observer, subject, status))
    }

    /// Forgets the tombstones from before `limit`, and tells whether there were any.
    pub fn prune_tombstones(&mut self, limit: RemovalTime) -> bool {
        let before = self.tombstones.len();
        if self.tombstones.values().any(|removed| *removed < limit) {
            Arc::make_mut(&mut self.tombstones).retain(|_, removed| *removed >= limit);
        }
        self.tombstones.len() != before
    }

    /// Makes the state a new version, changed by `node` and so far seen by nobody else.
    ///
    /// To be called once after each group of changes. Who is no member cannot make a version, so
    /// its stamp does nothing.
    pub fn stamp(&mut self, node: &UniqueAddress, mark: OwnMark) {
        if self.contains(node) {
            self.clock.increment(NodeKey::of(node));
            self.seen.clear();
            self.mark_seen(node, mark);
        }
    }

    /// Marks this version as seen by `node`, if that is a member and does not withhold its mark.
    pub fn mark_seen(&mut self, node: &UniqueAddress, mark: OwnMark) {
        match mark {
            OwnMark::Give if self.contains(node) => {
                self.seen.insert(node.clone());
            }
            OwnMark::Give | OwnMark::Withhold => {}
        }
    }

    /// Adds the marks of another copy of the same version.
    pub fn merge_seen(&mut self, other: &Self) {
        let theirs = other.seen.iter().filter(|node| self.members.contains_key(*node));
        self.seen.extend(theirs.cloned());
    }

    /// Returns the members as they are shared.
    pub(super) fn shared_members(&self) -> &Arc<BTreeMap<UniqueAddress, Member>> {
        &self.members
    }

    /// Gives the members in the order of their addresses.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Returns how many members there are, of whatever status.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Returns the member that is this incarnation of a node.
    #[must_use]
    pub fn member(&self, node: &UniqueAddress) -> Option<&Member> {
        self.members.get(node)
    }

    /// Gives the members at an address: usually one, two if both came while the cluster was split.
    pub fn members_at<'a>(&'a self, address: &Address) -> impl Iterator<Item = &'a Member> {
        self.members.values().filter(move |member| member.node().address() == address)
    }

    /// Tells whether this incarnation of a node is a member.
    #[must_use]
    pub fn contains(&self, node: &UniqueAddress) -> bool {
        self.members.contains_key(node)
    }

    /// Gives who has seen this version.
    pub fn seen(&self) -> impl Iterator<Item = &UniqueAddress> {
        self.seen.iter()
    }

    /// Tells whether `node` has seen this version.
    #[must_use]
    pub fn has_seen(&self, node: &UniqueAddress) -> bool {
        self.seen.contains(node)
    }

    /// Computes what stands for the set of who has seen this version.
    #[must_use]
    pub fn seen_digest(&self) -> SeenDigest {
        // A sum does not depend on an order, and the keys are spread over all bits.
        let keys = self.seen.iter().map(|node| NodeKey::of(node).get());
        SeenDigest(keys.fold(0, u64::wrapping_add))
    }

    /// Returns who can be reached by whom.
    #[must_use]
    pub fn reachability(&self) -> &Reachability {
        &self.reachability
    }

    /// Returns the version.
    #[must_use]
    pub fn clock(&self) -> &VectorClock {
        &self.clock
    }

    /// Gives who was removed, and when.
    pub fn tombstones(&self) -> impl Iterator<Item = (&UniqueAddress, RemovalTime)> {
        self.tombstones.iter().map(|(node, removed)| (node, *removed))
    }

    /// Tells whether this incarnation of a node was removed.
    #[must_use]
    pub fn has_tombstone(&self, node: &UniqueAddress) -> bool {
        self.tombstones.contains_key(node)
    }

    /// Tells whether both know the same, whatever their versions and whoever has seen them.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.members == other.members
            && self.reachability == other.reachability
            && self.tombstones == other.tombstones
    }

    fn known_mut(&mut self, node: &UniqueAddress) -> Result<&mut Member, ChangeError> {
        self.known(node)?;
        let member = Arc::make_mut(&mut self.members).get_mut(node);
        member.ok_or_else(|| ChangeError::NotAMember { node: node.clone() })
    }

    fn known(&self, node: &UniqueAddress) -> Result<(), ChangeError> {
        let is_known = self.contains(node);
        is_known.then_some(()).ok_or_else(|| ChangeError::NotAMember { node: node.clone() })
    }

    fn bury(&mut self, node: &UniqueAddress, removed: RemovalTime) {
        Arc::make_mut(&mut self.members).remove(node);
        self.seen.remove(node);
        self.reachability.remove(node);
        self.clock.prune(NodeKey::of(node));
        Arc::make_mut(&mut self.tombstones).insert(node.clone(), removed);
    }

    /// Drops the oldest tombstones beyond the limit.
    fn keep_latest_tombstones(&mut self) {
        let excess = self.tombstones.len().saturating_sub(MAX_TOMBSTONES);
        if excess == 0 {
            return;
        }
        let mut oldest: Vec<_> =
            self.tombstones.iter().map(|(node, removed)| (*removed, node.clone())).collect();
        oldest.sort_unstable();
        for (_, node) in oldest.into_iter().take(excess) {
            Arc::make_mut(&mut self.tombstones).remove(&node);
        }
    }
}

/// Says why a node cannot be added. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// Refuses an incarnation that was removed: the joining node's fault; it must start anew, and
    /// so draw another uid.
    #[error("{node} was removed from the cluster and cannot come back")]
    WasRemoved {
        /// The removed incarnation.
        node: UniqueAddress,
    },
    /// Refuses an address or a uid that a member has: nobody's fault if the node has restarted.
    /// Retry once that member is removed; if it is this very node, there is nothing to add.
    #[error("{by} is a member and has the same address or uid")]
    Taken {
        /// The member in the way.
        by: UniqueAddress,
    },
    /// Refuses a member beyond the limit: nobody's fault. Retry when others have left.
    #[error("the cluster has {limit} members, which is all it may have")]
    Full {
        /// Members allowed.
        limit: usize,
    },
}

/// Says why a member cannot be changed. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Names a node that is no member: the caller's fault, or the node was removed meanwhile. The
    /// same change is refused again.
    #[error("{node} is no member")]
    NotAMember {
        /// The named incarnation.
        node: UniqueAddress,
    },
    /// Refuses a step that the member cannot take.
    #[error(transparent)]
    Member(#[from] MemberError),
}

/// Tells whether two nodes cannot both be members: same address, or same uid elsewhere.
fn is_rival(left: &UniqueAddress, right: &UniqueAddress) -> bool {
    left.uid() == right.uid() || left.address() == right.address()
}

/// Members that a cluster takes; above it joining is refused.
pub const MAX_MEMBERS: usize = 4_096;
/// Members in gossip from a peer: members that joined in several places at once may exceed
/// [`MAX_MEMBERS`] for a while.
pub const MAX_KNOWN_MEMBERS: usize = 2 * MAX_MEMBERS;
/// Tombstones kept and taken from a peer; the oldest give way.
pub const MAX_TOMBSTONES: usize = 8_192;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{AddError, ChangeError, Gossip, MAX_MEMBERS, MAX_TOMBSTONES, OwnMark, RemovalTime};
    use crate::address::UniqueAddress;
    use crate::membership::member::{Member, MemberStatus, UpNumber};
    use crate::membership::profile::Profile;
    use crate::membership::reachability::ReachabilityStatus;
    use crate::membership::tests::{clock, gossip, unique};
    use crate::membership::vector_clock::ClockOrder;

    fn joining(n: u16) -> Member {
        Member::joining(unique(n), Profile::default())
    }

    fn at(seconds: u64) -> RemovalTime {
        RemovalTime::since_1970(Duration::from_secs(seconds))
    }

    #[test]
    fn a_stamp_makes_a_later_version_that_only_its_node_has_seen() {
        let mut state = gossip(&[1, 2]);
        state.stamp(&unique(1), OwnMark::Give);
        state.mark_seen(&unique(2), OwnMark::Give);
        let before = state.clone();
        state.stamp(&unique(2), OwnMark::Give);
        assert_eq!(state.clock().compare(before.clock()), ClockOrder::After);
        assert_eq!(state.seen().collect::<Vec<_>>(), [&unique(2)]);
        state.stamp(&unique(1), OwnMark::Withhold);
        assert_eq!(state.seen().count(), 0);
        assert_eq!(state.clock(), &clock(&[(1, 2), (2, 1)]));
    }

    #[test]
    fn who_is_no_member_neither_stamps_nor_marks() {
        let mut state = gossip(&[1]);
        let before = state.clone();
        state.stamp(&unique(2), OwnMark::Give);
        state.mark_seen(&unique(2), OwnMark::Give);
        assert_eq!(state, before);
    }

    #[test]
    fn a_removed_member_leaves_nothing_but_a_tombstone() {
        let mut state = gossip(&[1, 2, 3]);
        state.observe(&unique(2), &unique(3), ReachabilityStatus::Unreachable).unwrap();
        state.observe(&unique(1), &unique(2), ReachabilityStatus::Unreachable).unwrap();
        state.stamp(&unique(2), OwnMark::Give);
        state.remove(&unique(2), at(5)).unwrap();
        assert!(!state.contains(&unique(2)) && !state.has_seen(&unique(2)));
        assert_eq!(state.reachability().records().count(), 0);
        assert_eq!(state.clock(), &clock(&[]));
        assert_eq!(state.tombstones().collect::<Vec<_>>(), [(&unique(2), at(5))]);
        assert_eq!(state.add(joining(2)), Err(AddError::WasRemoved { node: unique(2) }));
    }

    #[test]
    fn one_address_and_one_uid_belong_to_one_member() {
        let mut state = gossip(&[1]);
        assert_eq!(state.add(joining(1)), Err(AddError::Taken { by: unique(1) }));
        let restarted = UniqueAddress::new(unique(1).address().clone(), unique(7).uid());
        let copied = UniqueAddress::new(unique(7).address().clone(), unique(1).uid());
        for rival in [restarted, copied] {
            let refused = state.add(Member::joining(rival, Profile::default()));
            assert_eq!(refused, Err(AddError::Taken { by: unique(1) }));
        }
        let count_at = |n| state.members_at(unique(n).address()).count();
        assert_eq!((count_at(1), count_at(7)), (1, 0));
    }

    #[test]
    fn a_full_cluster_takes_no_more() {
        let mut state = Gossip::default();
        for n in 1..=MAX_MEMBERS {
            let node = unique(u16::try_from(n).unwrap());
            let member = Member::joining(node.clone(), Profile::default());
            Arc::make_mut(&mut state.members).insert(node, member);
        }
        assert_eq!(state.add(joining(5_000)), Err(AddError::Full { limit: MAX_MEMBERS }));
    }

    #[test]
    fn a_downed_member_has_not_seen_it() {
        let mut state = gossip(&[1, 2]);
        state.mark_seen(&unique(2), OwnMark::Give);
        state.advance(&unique(2), MemberStatus::Down).unwrap();
        assert!(!state.has_seen(&unique(2)));
    }

    #[test]
    fn changes_of_strangers_are_refused() {
        let mut state = gossip(&[1]);
        let before = state.clone();
        let refused = ChangeError::NotAMember { node: unique(2) };
        let status = ReachabilityStatus::Unreachable;
        assert_eq!(state.advance(&unique(2), MemberStatus::Down), Err(refused.clone()));
        assert_eq!(state.promote(&unique(2), UpNumber::FIRST), Err(refused.clone()));
        assert_eq!(state.remove(&unique(2), at(1)), Err(refused.clone()));
        assert_eq!(state.observe(&unique(1), &unique(2), status), Err(refused.clone()));
        assert_eq!(state.observe(&unique(2), &unique(1), status), Err(refused));
        assert_eq!(state, before);
    }

    #[test]
    fn tombstones_are_forgotten_by_age() {
        let mut state = gossip(&[1, 2, 3]);
        state.remove(&unique(2), at(10)).unwrap();
        state.remove(&unique(3), at(20)).unwrap();
        assert!(!state.prune_tombstones(at(10)));
        assert!(state.prune_tombstones(at(25).minus(Duration::from_secs(10))));
        assert!(!state.has_tombstone(&unique(2)) && state.has_tombstone(&unique(3)));
    }

    #[test]
    fn the_oldest_tombstones_give_way() {
        let mut state = gossip(&[1]);
        for n in 2..MAX_TOMBSTONES + 2 {
            let node = unique(u16::try_from(n).unwrap());
            Arc::make_mut(&mut state.tombstones).insert(node, at(n as u64));
        }
        state.add(joining(60_000)).unwrap();
        state.remove(&unique(60_000), at(9_999_999)).unwrap();
        assert_eq!(state.tombstones.len(), MAX_TOMBSTONES);
        assert!(!state.has_tombstone(&unique(2)) && state.has_tombstone(&unique(3)));
    }

    #[test]
    fn the_digest_tells_sets_of_marks_apart() {
        let marked = |by: &[u16]| {
            let mut state = gossip(&[1, 2, 3]);
            by.iter().for_each(|n| state.mark_seen(&unique(*n), OwnMark::Give));
            state.seen_digest()
        };
        assert_eq!(marked(&[1, 2]), marked(&[2, 1]));
        let all = [marked(&[]), marked(&[1]), marked(&[2]), marked(&[1, 2]), marked(&[1, 3])];
        let distinct: std::collections::HashSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
