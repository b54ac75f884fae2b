//! Describes one member of the cluster, the life it leads, and who is older.
//!
//! Floor 2: values only. [`Gossip`](super::gossip::Gossip) holds the members and decides who may
//! change them.
//!
//! ```text
//!             ┌──────────────────────┐
//!             │                      ▼
//!   join ▶ Joining ──▶ WeaklyUp ──▶ Up ──▶ Leaving ──▶ Exiting ──▶ Removed
//!             │            │                 ▲                        ▲
//!             └────────────┴─────────────────┘                        │
//!   any of Joining ... Exiting ─────────────────────────▶ Down ───────┘
//! ```
//! Any other may become Removed at once as well, as when the observing node leaves the cluster. A
//! step never leads back.

use std::cmp::Ordering;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::profile::Profile;
use crate::address::UniqueAddress;

/// Says how far a member has come.
///
/// Ordered by how far along it is: of two reports about one member the greater is the later one.
/// Travels on the wire by position, so the order is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemberStatus {
    /// Has asked to join; takes no part in decisions.
    Joining,
    /// Works although the cluster cannot converge; may not lead while others are Up.
    WeaklyUp,
    /// Is a full member with a place in the order of age.
    Up,
    /// Has been asked to leave.
    Leaving,
    /// Hands over its duties and then stops.
    Exiting,
    /// Is declared dead; never comes back.
    Down,
    /// Is no member any more; seen in events only, never in the state.
    Removed,
}

impl MemberStatus {
    /// Lists every status, from the first to the last.
    pub const ALL: [Self; 7] = [
        Self::Joining,
        Self::WeaklyUp,
        Self::Up,
        Self::Leaving,
        Self::Exiting,
        Self::Down,
        Self::Removed,
    ];

    /// Lists what the status may become; this is the whole table of transitions.
    #[must_use]
    pub const fn successors(self) -> &'static [Self] {
        match self {
            Self::Joining => &[Self::WeaklyUp, Self::Up, Self::Leaving, Self::Down, Self::Removed],
            Self::WeaklyUp => &[Self::Up, Self::Leaving, Self::Down, Self::Removed],
            Self::Up => &[Self::Leaving, Self::Down, Self::Removed],
            Self::Leaving => &[Self::Exiting, Self::Down, Self::Removed],
            Self::Exiting => &[Self::Removed, Self::Down],
            Self::Down => &[Self::Removed],
            Self::Removed => &[],
        }
    }

    /// Tells whether the table has a step from here to `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        self.successors().contains(&next)
    }

    /// Tells whether a member of this status must have seen a version for it to count as agreed.
    #[must_use]
    pub const fn takes_part(self) -> bool {
        matches!(self, Self::Up | Self::Leaving)
    }

    /// Tells whether the member is on its way in: Joining or WeaklyUp.
    #[must_use]
    pub const fn is_entering(self) -> bool {
        matches!(self, Self::Joining | Self::WeaklyUp)
    }

    /// Tells whether only its removal is left: Exiting or Down.
    #[must_use]
    pub const fn is_ending(self) -> bool {
        matches!(self, Self::Exiting | Self::Down)
    }
}

impl fmt::Display for MemberStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Counts the members in the order in which they came Up: the oldest has the smallest number.
///
/// Numbers of removed members may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UpNumber(NonZeroU32);

impl UpNumber {
    /// Is the number of the first member of all.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// Wraps a number.
    #[must_use]
    pub const fn new(number: NonZeroU32) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Returns the number after this one; the last one is its own successor.
    // Ties are broken by address, so even a forged last number leaves the order of age total.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Is one member of the cluster, as a node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which incarnation of which node.
    node: UniqueAddress,
    /// How far it has come.
    status: MemberStatus,
    /// When it came Up; None before that.
    up_number: Option<UpNumber>,
    /// What it says of itself.
    profile: Arc<Profile>,
}

impl Member {
    /// Creates a member that has just asked to join.
    #[must_use]
    pub fn joining(node: UniqueAddress, profile: impl Into<Arc<Profile>>) -> Self {
        Self { node, status: MemberStatus::Joining, up_number: None, profile: profile.into() }
    }

    /// Rebuilds a member from its parts.
    ///
    /// # Errors
    /// [`MemberError::Inconsistent`] if no such member can be: one that is Removed, Up without a
    /// number, or numbered before it was Up.
    pub fn from_parts(
        node: UniqueAddress,
        status: MemberStatus,
        up_number: Option<UpNumber>,
        profile: impl Into<Arc<Profile>>,
    ) -> Result<Self, MemberError> {
        let is_possible = match status {
            MemberStatus::Joining | MemberStatus::WeaklyUp => up_number.is_none(),
            MemberStatus::Up => up_number.is_some(),
            // A member may be asked to leave, or be downed, before and after it was Up.
            MemberStatus::Leaving | MemberStatus::Exiting | MemberStatus::Down => true,
            MemberStatus::Removed => false,
        };
        if is_possible {
            Ok(Self { node, status, up_number, profile: profile.into() })
        } else {
            Err(MemberError::Inconsistent { status, up_number })
        }
    }

    /// Moves the member to Up and gives it its place in the order of age.
    ///
    /// # Errors
    /// [`MemberError::Forbidden`] unless it is Joining or WeaklyUp.
    pub fn promote(&mut self, number: UpNumber) -> Result<(), MemberError> {
        self.step(MemberStatus::Up)?;
        self.up_number = Some(number);
        Ok(())
    }

    /// Moves the member to a status other than Up and Removed.
    ///
    /// # Errors
    /// [`MemberError::Forbidden`] if the table has no such step, and always for Up, which needs a
    /// number, and for Removed, which is no state of a member.
    pub fn advance(&mut self, next: MemberStatus) -> Result<(), MemberError> {
        if matches!(next, MemberStatus::Up | MemberStatus::Removed) {
            return Err(MemberError::Forbidden { from: self.status, to: next });
        }
        self.step(next)
    }

    /// Returns which incarnation of which node this is.
    #[must_use]
    pub fn node(&self) -> &UniqueAddress {
        &self.node
    }

    /// Returns how far it has come.
    #[must_use]
    pub fn status(&self) -> MemberStatus {
        self.status
    }

    /// Returns its place in the order of age, if it has one.
    #[must_use]
    pub fn up_number(&self) -> Option<UpNumber> {
        self.up_number
    }

    /// Returns what it says of itself.
    #[must_use]
    pub fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// Tells whether it came Up before `other`; never true across data centres.
    ///
    /// Who is not Up yet is younger than all who are. Equal numbers are ordered by address.
    #[must_use]
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.profile.data_centre() == other.profile.data_centre()
            && self.age_order(other) == Ordering::Less
    }

    /// Orders members of one data centre from the oldest to the youngest.
    #[must_use]
    pub fn age_order(&self, other: &Self) -> Ordering {
        let rank = |member: &Self| (member.up_number.is_none(), member.up_number);
        rank(self).cmp(&rank(other)).then_with(|| self.node.cmp(&other.node))
    }

    /// Combines two reports about the same node: further along, and older.
    ///
    /// The number is taken apart from the status: one side may have seen it come Up while on the
    /// other it went from Joining to Leaving, and its age must not change while it leaves.
    pub(super) fn merge(&self, other: &Self) -> Self {
        debug_assert_eq!(self.node, other.node, "only reports about one node can be merged");
        let numbers = [self.up_number, other.up_number];
        Self {
            node: self.node.clone(),
            status: self.status.max(other.status),
            up_number: numbers.into_iter().flatten().min(),
            // Profiles are fixed; should a peer lie about one, all at least choose the same.
            profile: Arc::clone((&self.profile).min(&other.profile)),
        }
    }

    fn step(&mut self, next: MemberStatus) -> Result<(), MemberError> {
        if !self.status.may_become(next) {
            return Err(MemberError::Forbidden { from: self.status, to: next });
        }
        self.status = next;
        Ok(())
    }
}

/// Says why a member cannot be, or become, what was asked. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// Refuses a step that the table does not have: the caller's fault, or the member has moved
    /// on meanwhile. The same step is refused again.
    #[error("a member cannot go from {from} to {to}")]
    Forbidden {
        /// What it is.
        from: MemberStatus,
        /// What it should become.
        to: MemberStatus,
    },
    /// Refuses parts that contradict each other: the fault of whoever described the member.
    #[error("no member is {status} with the up number {up_number:?}")]
    Inconsistent {
        /// The described status.
        status: MemberStatus,
        /// The described place in the order of age.
        up_number: Option<UpNumber>,
    },
}

#[cfg(test)]
mod tests {
    use super::{Member, MemberError, MemberStatus, UpNumber};
    use crate::membership::profile::Profile;
    use crate::membership::tests::{number, unique};
    use MemberStatus::{Down, Exiting, Joining, Leaving, Removed, Up, WeaklyUp};

    fn member(n: u16, status: MemberStatus, up: Option<u32>) -> Member {
        Member::from_parts(unique(n), status, up.map(number), Profile::default()).unwrap()
    }

    #[test]
    fn exactly_the_transitions_of_the_table_are_allowed() {
        let allowed = [
            (Joining, vec![WeaklyUp, Up, Leaving, Down, Removed]),
            (WeaklyUp, vec![Up, Leaving, Down, Removed]),
            (Up, vec![Leaving, Down, Removed]),
            (Leaving, vec![Exiting, Down, Removed]),
            (Exiting, vec![Down, Removed]),
            (Down, vec![Removed]),
            (Removed, vec![]),
        ];
        for (from, to) in allowed {
            let found: Vec<_> =
                MemberStatus::ALL.into_iter().filter(|next| from.may_become(*next)).collect();
            assert_eq!(found, to, "from {from}");
        }
    }

    #[test]
    fn every_transition_leads_further_along() {
        for from in MemberStatus::ALL {
            assert!(from.successors().iter().all(|to| *to > from), "from {from}");
        }
    }

    #[test]
    fn a_member_comes_up_only_with_a_number() {
        let mut member = Member::joining(unique(1), Profile::default());
        let forbidden = MemberError::Forbidden { from: Joining, to: Up };
        assert_eq!(member.advance(Up), Err(forbidden));
        assert_eq!(member.promote(UpNumber::FIRST), Ok(()));
        assert_eq!((member.status(), member.up_number()), (Up, Some(UpNumber::FIRST)));
        assert!(member.promote(number(2)).is_err());
        assert_eq!(member.up_number(), Some(UpNumber::FIRST));
    }

    #[test]
    fn parts_that_contradict_each_other_are_refused() {
        for (status, up) in [(Joining, Some(1)), (WeaklyUp, Some(1)), (Up, None), (Removed, None)] {
            let up_number = up.map(number);
            let built = Member::from_parts(unique(1), status, up_number, Profile::default());
            assert_eq!(built, Err(MemberError::Inconsistent { status, up_number }));
        }
    }

    #[test]
    fn the_smaller_up_number_is_older() {
        let older = member(9, Up, Some(1));
        let younger = member(2, Up, Some(2));
        let not_up = member(1, Joining, None);
        assert!(older.is_older_than(&younger) && !younger.is_older_than(&older));
        assert!(younger.is_older_than(&not_up) && !not_up.is_older_than(&younger));
        assert!(!older.is_older_than(&older));
    }

    #[test]
    fn equal_up_numbers_are_ordered_by_address() {
        assert!(member(1, Up, Some(3)).is_older_than(&member(2, Up, Some(3))));
        assert!(member(1, Joining, None).is_older_than(&member(2, Joining, None)));
    }

    #[test]
    fn age_means_nothing_across_data_centres() {
        let elsewhere = Profile::default().with_data_centre("moon".parse().unwrap());
        let far = Member::from_parts(unique(2), Up, Some(number(2)), elsewhere).unwrap();
        let near = member(1, Up, Some(1));
        assert!(!near.is_older_than(&far) && !far.is_older_than(&near));
    }

    #[test]
    fn age_survives_a_merge_with_a_report_that_never_saw_it_up() {
        let up = member(1, Up, Some(4));
        let leaving = member(1, Leaving, None);
        assert_eq!(up.merge(&leaving), member(1, Leaving, Some(4)));
        assert_eq!(leaving.merge(&up), member(1, Leaving, Some(4)));
    }
}
