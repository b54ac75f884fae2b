//! Counts what peers have sent and this node has not believed: [`Refusals`].

use std::collections::BTreeMap;

use super::exchange::Refusal;

/// Says why a PDU was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RefusedPdu {
    /// It names a sender other than the peer it came from.
    Impostor,
    /// It is from a node of another system.
    OtherSystem,
    /// It is from a member of another cluster.
    OtherCluster,
    /// It is from a node that is no member.
    UnknownSender,
    /// It is from a member that this node finds unreachable.
    UnreachableSender,
    /// It is for another incarnation of this node.
    NotForMe,
    /// Nobody has asked for it, or it came too late.
    Unasked,
    /// It is about membership, and this node is no member.
    NoMember,
    /// It is a state without this node.
    WithoutMe,
    /// It is a state in which this node was removed.
    BuriesMe,
    /// It is no well-formed state.
    Malformed,
    /// It says that this node has done what it has not.
    Forged,
    /// It has more members than may be known.
    TooManyMembers,
}

impl From<&Refusal> for RefusedPdu {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NotForMe { .. } => Self::NotForMe,
            Refusal::UnknownSender { .. } => Self::UnknownSender,
            Refusal::UnreachableSender { .. } => Self::UnreachableSender,
            Refusal::WithoutMe => Self::WithoutMe,
            Refusal::BuriesMe => Self::BuriesMe,
            Refusal::Form(_) => Self::Malformed,
            Refusal::ForgedChanges { .. } | Refusal::ForgedStatements { .. } => Self::Forged,
            Refusal::TooManyMembers { .. } => Self::TooManyMembers,
        }
    }
}

/// Counts refused PDUs by their reasons.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusals(BTreeMap<RefusedPdu, u64>);

impl Refusals {
    /// Counts one more.
    pub(super) fn note(&mut self, why: RefusedPdu) {
        let count = self.0.entry(why).or_default();
        *count = count.saturating_add(1);
    }

    /// Returns how many were refused for this reason.
    #[must_use]
    pub fn count(&self, why: RefusedPdu) -> u64 {
        self.0.get(&why).copied().unwrap_or(0)
    }

    /// Gives the reasons that there were, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (RefusedPdu, u64)> {
        self.0.iter().map(|(why, count)| (*why, *count))
    }
}
