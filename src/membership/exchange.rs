//! Decides what to do with what a peer sends about the state: believe, correct, answer or refuse.
//!
//! Floor 2: pure functions; the shell sends the answers and keeps the state that comes out.
//!
//! ```text
//!   a round:   A                              B
//!              |--- Status(clock, digest) --->|   decide: Nothing, Status or the full state
//!              |<-- Status or Envelope -------|
//!              |--- Envelope(full state) ---->|   receive: same, older, newer or concurrent
//!              |<-- Envelope -----------------|   only if A can learn from it
//! ```
//!
//! # What a peer can do
//!
//! A member is believed about others, and about this node as far as the cluster may decide: that
//! it is Up, Leaving, Exiting or Down. Everything else is this node's own to say. So gossip is
//! refused that buries this node, or counts changes and statements of it that it never made.
//! A state that calls itself newer, yet puts a member back, is merged instead of taken, and so
//! corrected.

use serde::{Deserialize, Serialize};

use super::cluster_id::ClusterId;
use super::gossip::{FormError, Gossip, GossipForm, MAX_KNOWN_MEMBERS, OwnMark, SeenDigest};
use super::member::Member;
use super::vector_clock::{ClockOrder, NodeKey, VectorClock};
use crate::address::UniqueAddress;

/// Says which state a node has, without the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The changes it knows.
    pub clock: VectorClock,
    /// Stands for who has seen this version.
    pub seen: SeenDigest,
}

impl Version {
    /// Returns the version of a state.
    #[must_use]
    pub fn of(state: &Gossip) -> Self {
        Self { clock: state.clock().clone(), seen: state.seen_digest() }
    }
}

/// Tells a peer which state its sender has, and asks for a newer one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who sends it.
    pub from: UniqueAddress,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Which state it has.
    pub version: Version,
}

/// Carries a full state to one incarnation of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Who sends it.
    pub from: UniqueAddress,
    /// For whom it is.
    pub to: UniqueAddress,
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// The state, unchecked.
    pub gossip: Box<GossipForm>,
}

/// Says what to send to the peer next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub enum Exchange {
    /// Nothing: neither can learn from the other.
    Nothing,
    /// This node's [`Status`]: the peer knows more, and so will send it.
    SendStatus,
    /// This node's state in an [`Envelope`].
    SendState,
}

/// Decides what to answer to a peer's version.
///
/// | clocks | marks | answer |
/// |---|---|---|
/// | same | same | `Nothing` |
/// | same | differ | `SendState`: the marks are merged where it arrives |
/// | the peer's is newer | any | `SendStatus` |
/// | this node's is newer, or concurrent | any | `SendState` |
pub fn decide(local: &Version, remote: &Version) -> Exchange {
    match local.clock.compare(&remote.clock) {
        ClockOrder::Same if local.seen == remote.seen => Exchange::Nothing,
        ClockOrder::Before => Exchange::SendStatus,
        ClockOrder::Same | ClockOrder::After | ClockOrder::Concurrent => Exchange::SendState,
    }
}

/// Is a node at the moment when gossip arrives.
#[derive(Debug, Clone, Copy)]
pub struct Receiver<'a> {
    /// Which node this is.
    pub own: &'a UniqueAddress,
    /// What it knows.
    pub local: &'a Gossip,
    /// Whether it marks what it takes as seen.
    pub mark: OwnMark,
}

/// Is what came of a received state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Received {
    /// What the node knows from here on.
    pub gossip: Gossip,
    /// Where that comes from.
    pub outcome: Outcome,
    /// What to answer: `Nothing` or `SendState`.
    pub reply: Exchange,
}

/// Says how a received state stood to the local one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The same version: the marks were merged.
    Same,
    /// The peer's was older: the local one was kept.
    Kept,
    /// The peer's was newer: it was taken.
    Taken,
    /// Each knew what the other did not: they were merged.
    Merged,
    /// The peer's called itself newer but put members back: they were merged into a newer one.
    /// Worth a warning: the peer is broken, or was away for longer than tombstones are kept.
    Corrected,
}

impl Receiver<'_> {
    /// Decides what to answer to a peer's status.
    ///
    /// # Errors
    /// [`Refusal::UnknownSender`] or [`Refusal::UnreachableSender`]; nothing is to be answered.
    pub fn compare(&self, status: &Status) -> Result<Exchange, Refusal> {
        self.check_sender(&status.from)?;
        Ok(decide(&Version::of(self.local), &status.version))
    }

    /// Checks a peer's state and works out what this node knows then.
    ///
    /// # Errors
    /// [`Refusal`] says why the state is not to be used; the local one stays as it is, and nothing
    /// is to be answered.
    pub fn receive(&self, envelope: Envelope) -> Result<Received, Refusal> {
        if envelope.to != *self.own {
            return Err(Refusal::NotForMe { to: envelope.to });
        }
        self.check_sender(&envelope.from)?;
        let remote = Gossip::try_from(*envelope.gossip)?;
        self.check_claims(&remote)?;
        let (mut gossip, outcome) = self.combine(&remote);
        if gossip.member_count() > MAX_KNOWN_MEMBERS {
            return Err(Refusal::TooManyMembers { count: gossip.member_count() });
        }
        gossip.mark_seen(self.own, self.mark);
        Ok(Received { gossip, outcome, reply: self.reply(outcome, &remote) })
    }

    fn check_sender(&self, from: &UniqueAddress) -> Result<(), Refusal> {
        if !self.local.contains(from) {
            return Err(Refusal::UnknownSender { from: from.clone() });
        }
        if !self.local.reachability().is_reachable_from(self.own, from) {
            return Err(Refusal::UnreachableSender { from: from.clone() });
        }
        Ok(())
    }

    /// Checks what the peer's state says of this node.
    fn check_claims(&self, remote: &Gossip) -> Result<(), Refusal> {
        if remote.has_tombstone(self.own) {
            return Err(Refusal::BuriesMe);
        }
        if !remote.contains(self.own) {
            return Err(Refusal::WithoutMe);
        }
        let own = NodeKey::of(self.own);
        let (claimed, made) = (remote.clock().count(own), self.local.clock().count(own));
        if claimed > made {
            return Err(Refusal::ForgedChanges { claimed, made });
        }
        let claimed = remote.reachability().version_of(self.own);
        let made = self.local.reachability().version_of(self.own);
        if claimed > made {
            return Err(Refusal::ForgedStatements { claimed, made });
        }
        Ok(())
    }

    fn combine(&self, remote: &Gossip) -> (Gossip, Outcome) {
        match self.local.clock().compare(remote.clock()) {
            ClockOrder::Same => {
                let mut same = self.local.clone();
                same.merge_seen(remote);
                (same, Outcome::Same)
            }
            ClockOrder::After => (self.local.clone(), Outcome::Kept),
            ClockOrder::Before if self.leads_forward(remote) => (remote.clone(), Outcome::Taken),
            ClockOrder::Before => (self.merge(remote), Outcome::Corrected),
            ClockOrder::Concurrent => (self.merge(remote), Outcome::Merged),
        }
    }

    /// Tells whether nothing that is known here is taken back by a state that is newer by its
    /// clock.
    ///
    /// A member that is just missing there was removed so long ago that its tombstone is gone.
    fn leads_forward(&self, remote: &Gossip) -> bool {
        let is_forward = |ours: &Member| {
            remote.member(ours.node()).is_none_or(|theirs| theirs.status() >= ours.status())
        };
        let version = |state: &Gossip| state.reachability().version_of(self.own);
        self.local.members().all(is_forward)
            && !remote.members().any(|theirs| self.local.has_tombstone(theirs.node()))
            && version(remote) >= version(self.local)
    }

    /// Merges, and makes it a new version if the clock would not show what came together.
    ///
    /// The merge drops the counts of removed members, and with them the proof of changes that only
    /// they had made. Two merges could then have equal clocks and unequal states. So unless one
    /// side already was the result, a merge that drops counts is stamped; so is one whose clock a
    /// side has although it knew less.
    fn merge(&self, remote: &Gossip) -> Gossip {
        let mut merged = self.local.merge(remote);
        let sides = [self.local, remote];
        let was_there = |side: &Gossip| side.clock() == merged.clock() && side.agrees_with(&merged);
        let has_dropped = *merged.clock() != self.local.clock().merge(remote.clock());
        let is_known_clock = sides.iter().any(|side| side.clock() == merged.clock());
        if (has_dropped || is_known_clock) && !sides.into_iter().any(was_there) {
            merged.stamp(self.own, self.mark);
        }
        merged
    }

    fn reply(&self, outcome: Outcome, remote: &Gossip) -> Exchange {
        match outcome {
            Outcome::Same | Outcome::Taken => match self.mark {
                OwnMark::Give if !remote.has_seen(self.own) => Exchange::SendState,
                OwnMark::Give | OwnMark::Withhold => Exchange::Nothing,
            },
            Outcome::Kept | Outcome::Merged | Outcome::Corrected => Exchange::SendState,
        }
    }
}

/// Says why a peer's status or state is not used. Nothing was changed, and nothing is answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Refuses what is for another incarnation: nobody's fault, the peer has yet to hear of this
    /// one.
    #[error("the gossip is for {to}")]
    NotForMe {
        /// For whom it is.
        to: UniqueAddress,
    },
    /// Refuses a sender that is no member here: it was removed, or is known to others only. In the
    /// second case others' gossip makes it known, and its next round is accepted.
    #[error("{from} is no member")]
    UnknownSender {
        /// Who sent it.
        from: UniqueAddress,
    },
    /// Refuses a sender that this node finds unreachable: nobody's fault; its next round is
    /// accepted once its heartbeats are heard again.
    #[error("{from} is unreachable from here")]
    UnreachableSender {
        /// Who sent it.
        from: UniqueAddress,
    },
    /// Refuses a state without this node: nobody's fault, the peer has yet to hear that it joined.
    #[error("the state does not have this node")]
    WithoutMe,
    /// Refuses a state in which this node was removed. The cluster goes on without this
    /// incarnation, or the peer is lying; a second one that says so can tell.
    #[error("the state has a tombstone of this node")]
    BuriesMe,
    /// Refuses a state that is not well formed: the peer's fault.
    #[error(transparent)]
    Form(#[from] FormError),
    /// Refuses a version with more changes of this node than it has made: the peer's fault.
    #[error("the state counts {claimed} changes of this node, which has made {made}")]
    ForgedChanges {
        /// Changes in the peer's version.
        claimed: u64,
        /// Changes this node has made.
        made: u64,
    },
    /// Refuses statements about others that this node has not made: the peer's fault.
    #[error("the state counts {claimed} statements of this node, which has made {made}")]
    ForgedStatements {
        /// Statements in the peer's state.
        claimed: u64,
        /// Statements this node has made.
        made: u64,
    },
    /// Refuses a merge with more members than may be known. Nobody's fault when a cluster far too
    /// large was split; retry when members have left.
    #[error("{count} members are too many, at most {MAX_KNOWN_MEMBERS} are allowed")]
    TooManyMembers {
        /// Members there would be.
        count: usize,
    },
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        Envelope, Exchange, Outcome, Received, Receiver, Refusal, Status, Version, decide,
    };
    use crate::membership::cluster_id::ClusterId;
    use crate::membership::gossip::{Gossip, GossipForm, OwnMark, RemovalTime};
    use crate::membership::member::MemberStatus;
    use crate::membership::reachability::ReachabilityStatus;
    use crate::membership::tests::{bring, gossip, unique};

    const NOW: RemovalTime = RemovalTime::since_1970(Duration::from_secs(1));

    /// Builds the state of three members that node 1 has stamped and marked.
    fn base() -> Gossip {
        let mut state = gossip(&[1, 2, 3]);
        state.stamp(&unique(1), OwnMark::Give);
        state
    }

    /// Builds the base with a change made and stamped by node `by`.
    fn changed(by: u16, change: impl FnOnce(&mut Gossip)) -> Gossip {
        let mut state = base();
        change(&mut state);
        state.stamp(&unique(by), OwnMark::Give);
        state
    }

    fn envelope(from: u16, to: u16, state: &Gossip) -> Envelope {
        let gossip = Box::new(GossipForm::from(state));
        Envelope { from: unique(from), to: unique(to), cluster: ClusterId::new(7), gossip }
    }

    /// Lets node 1 receive a state of node 2.
    fn receive(local: &Gossip, remote: &Gossip) -> Result<Received, Refusal> {
        let receiver = Receiver { own: &unique(1), local, mark: OwnMark::Give };
        receiver.receive(envelope(2, 1, remote))
    }

    #[test]
    fn the_table_of_answers_holds() {
        let version = |state: &Gossip| Version::of(state);
        let old = base();
        let new = changed(1, |state| bring(state, 3, MemberStatus::Leaving));
        let other = {
            let mut state = changed(2, |state| bring(state, 2, MemberStatus::Leaving));
            state.merge_seen(&old);
            state
        };
        let mut marked = old.clone();
        marked.mark_seen(&unique(2), OwnMark::Give);
        assert_eq!(decide(&version(&old), &version(&old)), Exchange::Nothing);
        assert_eq!(decide(&version(&old), &version(&new)), Exchange::SendStatus);
        assert_eq!(decide(&version(&new), &version(&old)), Exchange::SendState);
        assert_eq!(decide(&version(&old), &version(&marked)), Exchange::SendState);
        let mut mine = new.clone();
        mine.mark_seen(&unique(2), OwnMark::Give);
        assert_eq!(decide(&version(&mine), &version(&other)), Exchange::SendState);
    }

    #[test]
    fn a_status_is_compared_for_members_within_reach_only() {
        let mut local = base();
        let compare = |local: &Gossip, from| {
            let receiver = Receiver { own: &unique(1), local, mark: OwnMark::Give };
            receiver.compare(&Status {
                from: unique(from),
                cluster: ClusterId::new(7),
                version: Version::of(&base()),
            })
        };
        assert_eq!(compare(&local, 2), Ok(Exchange::Nothing));
        assert_eq!(compare(&local, 9), Err(Refusal::UnknownSender { from: unique(9) }));
        local.observe(&unique(1), &unique(2), ReachabilityStatus::Unreachable).unwrap();
        assert_eq!(compare(&local, 2), Err(Refusal::UnreachableSender { from: unique(2) }));
    }

    #[test]
    fn the_same_version_merges_the_marks() {
        let mut remote = base();
        remote.mark_seen(&unique(2), OwnMark::Give);
        let received = receive(&base(), &remote).unwrap();
        assert_eq!((received.outcome, received.reply), (Outcome::Same, Exchange::Nothing));
        assert!(received.gossip.has_seen(&unique(1)) && received.gossip.has_seen(&unique(2)));
    }

    #[test]
    fn an_older_version_is_answered_with_the_newer() {
        let local = changed(1, |state| bring(state, 3, MemberStatus::Leaving));
        let received = receive(&local, &base()).unwrap();
        assert_eq!((received.outcome, received.reply), (Outcome::Kept, Exchange::SendState));
        assert_eq!(received.gossip, local);
    }

    #[test]
    fn a_newer_version_is_taken_and_the_mark_sent_back() {
        let remote = changed(2, |state| bring(state, 3, MemberStatus::Leaving));
        let received = receive(&base(), &remote).unwrap();
        assert_eq!((received.outcome, received.reply), (Outcome::Taken, Exchange::SendState));
        assert!(received.gossip.agrees_with(&remote) && received.gossip.has_seen(&unique(1)));
    }

    #[test]
    fn a_node_busy_with_its_exit_neither_marks_nor_answers() {
        let remote = changed(2, |state| bring(state, 1, MemberStatus::Exiting));
        let receiver = Receiver { own: &unique(1), local: &base(), mark: OwnMark::Withhold };
        let received = receiver.receive(envelope(2, 1, &remote)).unwrap();
        assert_eq!((received.outcome, received.reply), (Outcome::Taken, Exchange::Nothing));
        assert!(!received.gossip.has_seen(&unique(1)));
    }

    #[test]
    fn concurrent_versions_are_merged() {
        let local = changed(1, |state| bring(state, 3, MemberStatus::Leaving));
        let remote = changed(2, |state| bring(state, 2, MemberStatus::Leaving));
        let received = receive(&local, &remote).unwrap();
        assert_eq!((received.outcome, received.reply), (Outcome::Merged, Exchange::SendState));
        assert_eq!(received.gossip.clock(), &local.clock().merge(remote.clock()));
        assert_eq!(received.gossip.seen().collect::<Vec<_>>(), [&unique(1)]);
    }

    #[test]
    fn hearing_of_a_removal_makes_no_version_of_its_own() {
        let local = changed(3, |_| {});
        let mut remote = changed(2, |state| bring(state, 3, MemberStatus::Down));
        remote.remove(&unique(3), NOW).unwrap();
        remote.stamp(&unique(2), OwnMark::Give);
        let received = receive(&local, &remote).unwrap();
        assert_eq!(received.outcome, Outcome::Merged);
        assert_eq!(received.gossip.clock(), remote.clock());
        assert!(received.gossip.agrees_with(&remote));
    }

    #[test]
    fn a_change_of_a_removed_member_that_its_remover_missed_makes_a_new_version() {
        let local = changed(3, |state| bring(state, 2, MemberStatus::Leaving));
        let mut remote = base();
        remote.remove(&unique(3), NOW).unwrap();
        remote.stamp(&unique(2), OwnMark::Give);
        let received = receive(&local, &remote).unwrap();
        assert!(received.gossip.clock() > remote.clock(), "else two states share a version");
    }

    #[test]
    fn a_newer_version_that_puts_members_back_is_corrected() {
        let local = changed(1, |state| bring(state, 3, MemberStatus::Leaving));
        let mut remote = gossip(&[1, 2, 3]);
        (0..2).for_each(|_| remote.stamp(&unique(1), OwnMark::Give));
        remote.stamp(&unique(2), OwnMark::Give);
        let received = receive(&local, &remote).unwrap();
        assert_eq!((received.outcome, received.reply), (Outcome::Corrected, Exchange::SendState));
        let status = received.gossip.member(&unique(3)).map(|member| member.status());
        assert_eq!(status, Some(MemberStatus::Leaving));
        assert!(received.gossip.clock() > remote.clock());
    }

    #[test]
    fn a_newer_version_that_brings_back_a_removed_member_is_corrected() {
        let local = changed(1, |state| state.remove(&unique(3), NOW).unwrap());
        let mut remote = gossip(&[1, 2, 3]);
        (0..2).for_each(|_| remote.stamp(&unique(1), OwnMark::Give));
        remote.stamp(&unique(2), OwnMark::Give);
        let received = receive(&local, &remote).unwrap();
        assert_eq!(received.outcome, Outcome::Corrected);
        assert!(!received.gossip.contains(&unique(3)));
    }

    #[test]
    fn gossip_for_another_incarnation_is_refused() {
        let receiver = Receiver { own: &unique(1), local: &base(), mark: OwnMark::Give };
        let refused = receiver.receive(envelope(2, 3, &base()));
        assert_eq!(refused, Err(Refusal::NotForMe { to: unique(3) }));
    }

    #[test]
    fn gossip_from_strangers_and_the_unreachable_is_refused() {
        let receiver = Receiver { own: &unique(1), local: &base(), mark: OwnMark::Give };
        let refused = receiver.receive(envelope(9, 1, &base()));
        assert_eq!(refused, Err(Refusal::UnknownSender { from: unique(9) }));
        let mut local = base();
        local.observe(&unique(1), &unique(2), ReachabilityStatus::Unreachable).unwrap();
        let refused = receive(&local, &base());
        assert_eq!(refused, Err(Refusal::UnreachableSender { from: unique(2) }));
    }

    #[test]
    fn others_cannot_remove_this_node_but_can_down_it() {
        assert_eq!(receive(&base(), &gossip(&[2, 3])), Err(Refusal::WithoutMe));
        let buried = changed(2, |state| state.remove(&unique(1), NOW).unwrap());
        assert_eq!(receive(&base(), &buried), Err(Refusal::BuriesMe));
        let downed = changed(2, |state| bring(state, 1, MemberStatus::Down));
        assert_eq!(receive(&base(), &downed).unwrap().outcome, Outcome::Taken);
    }

    #[test]
    fn others_cannot_speak_for_this_node() {
        let forged = changed(1, |_| {});
        let refused = Refusal::ForgedChanges { claimed: 2, made: 1 };
        assert_eq!(receive(&base(), &forged), Err(refused));
        let forged = changed(2, |state| {
            state.observe(&unique(1), &unique(3), ReachabilityStatus::Unreachable).unwrap();
        });
        let refused = Refusal::ForgedStatements { claimed: 1, made: 0 };
        assert_eq!(receive(&base(), &forged), Err(refused));
    }

    #[test]
    fn what_this_node_has_said_cannot_be_unsaid() {
        let local = changed(1, |state| {
            state.observe(&unique(1), &unique(3), ReachabilityStatus::Unreachable).unwrap();
        });
        let mut remote = gossip(&[1, 2, 3]);
        (0..2).for_each(|_| remote.stamp(&unique(1), OwnMark::Give));
        remote.stamp(&unique(2), OwnMark::Give);
        let received = receive(&local, &remote).unwrap();
        assert_eq!(received.outcome, Outcome::Corrected);
        assert!(!received.gossip.reachability().is_reachable_from(&unique(1), &unique(3)));
    }
}
