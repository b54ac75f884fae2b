//! Lets this node into a cluster, and other nodes into this one.

use std::time::Instant;

use super::{JoinError, MAX_SEEDS, Membership, Phase, Rounds};
use crate::address::{Address, UniqueAddress};
use crate::membership::cluster_id::ClusterId;
use crate::membership::event::{ClusterEvent, JoinRefusal, StopCause};
use crate::membership::gossip::{AddError, Gossip, GossipForm, MAX_MEMBERS};
use crate::membership::join::Step;
use crate::membership::member::{Member, MemberStatus};
use crate::membership::outbox::Letter;
use crate::membership::pdu::{Admission, MembershipPdu, SharedSettings};
use crate::membership::profile::Profile;
use crate::membership::refusals::RefusedPdu;
use crate::membership::vector_clock::NodeKey;

impl Membership {
    /// Begins to join through these seeds; only the first of the list may form a cluster.
    ///
    /// # Errors
    /// [`JoinError`] says why not.
    pub fn handle_join(&mut self, now: Instant, seeds: Vec<Address>) -> Result<(), JoinError> {
        match self.phase {
            Phase::Idle => {}
            Phase::Joining => return Err(JoinError::AlreadyJoining),
            Phase::Member | Phase::Exiting => return Err(JoinError::AlreadyMember),
            Phase::Stopped(cause) => return Err(JoinError::Stopped(cause)),
        }
        if !(1..=MAX_SEEDS).contains(&seeds.len()) {
            return Err(JoinError::SeedCount { count: seeds.len() });
        }
        let system = self.own.address().system();
        if let Some(seed) = seeds.iter().find(|seed| seed.system() != system) {
            return Err(JoinError::OtherSystem { seed: seed.clone() });
        }
        self.phase = Phase::Joining;
        self.joiner.handle_begin(now, seeds);
        self.settle(now);
        Ok(())
    }

    /// Carries out what the search for a member asks for.
    pub(super) fn take_join_steps(&mut self, now: Instant) {
        while let Some(step) = self.joiner.poll_step() {
            match step {
                Step::Ask(seed) => self.ask(seed, None),
                Step::Request(member, cluster) => self.request(&member, cluster),
                Step::Form => self.form(now),
            }
        }
    }

    /// Takes what a node that is no member may be told.
    pub(super) fn take_as_joiner(&mut self, now: Instant, pdu: MembershipPdu) {
        match pdu {
            MembershipPdu::InitJoinAck { from, cluster, admission } => {
                self.take_ack(now, &from, cluster, admission);
            }
            MembershipPdu::InitJoinNack { from } => self.joiner.handle_nack(now, &from),
            MembershipPdu::Welcome { from, cluster, gossip } => {
                self.take_welcome(now, &from, cluster, *gossip);
            }
            MembershipPdu::InitJoin { from, .. } | MembershipPdu::Join { from, .. } => {
                self.deny(&from);
            }
            MembershipPdu::Heartbeat(beat) => self.decline(now, &beat.from),
            MembershipPdu::Status(_)
            | MembershipPdu::Gossip(_)
            | MembershipPdu::HeartbeatReply(_)
            | MembershipPdu::Leave { .. }
            | MembershipPdu::ExitingConfirmed { .. } => self.refusals.note(RefusedPdu::NoMember),
        }
    }

    /// Tells a node that this one is no member, or not for long.
    pub(super) fn deny(&mut self, to: &UniqueAddress) {
        self.post(to, MembershipPdu::InitJoinNack { from: self.own.clone() });
    }

    /// Answers a node that wants in, or a member of a cluster that looks for others.
    pub(super) fn answer_init_join(
        &mut self,
        now: Instant,
        from: &UniqueAddress,
        theirs: Option<ClusterId>,
        settings: &SharedSettings,
    ) {
        let Some(own) = self.cluster else { return };
        if let Some(theirs) = theirs.filter(|theirs| *theirs != own) {
            self.note_island(theirs, from);
        }
        if self.own_status().is_none_or(MemberStatus::is_ending) {
            return self.deny(from);
        }
        let admission = self.admission(from, settings);
        if theirs.is_none() {
            self.tell_refusal(now, from, &admission);
        }
        self.admit(from, own, admission);
    }

    /// Adds a node as a joining member, and welcomes it; once more if the first Welcome was lost.
    pub(super) fn let_in(&mut self, node: &UniqueAddress, profile: Profile) {
        if self.own_status().is_none_or(MemberStatus::is_ending) {
            return self.deny(node);
        }
        match self.gossip.add(Member::joining(node.clone(), profile)) {
            Ok(()) => {
                self.stamp();
                self.outbox.push(Letter::Welcome(node.clone()));
            }
            Err(AddError::Taken { by }) if by == *node => {
                self.outbox.push(Letter::Welcome(node.clone()));
            }
            Err(AddError::Taken { .. }) => self.replace_older(node),
            Err(AddError::WasRemoved { .. }) => self.refuse(node, Admission::WasRemoved),
            Err(AddError::Full { .. }) => self.refuse(node, Admission::Full),
        }
    }

    /// Takes the word of a node that it was let in here and will not come.
    pub(super) fn take_back(&mut self, node: &UniqueAddress) {
        if self.gossip.contains(node) {
            self.end_incarnation(node);
        }
    }

    /// Tells a member that this node is none, unless it is about to be: else its other traffic would pass for life.
    pub(super) fn decline(&mut self, now: Instant, to: &UniqueAddress) {
        self.refusals.note(RefusedPdu::NoMember);
        if self.phase != Phase::Joining && self.may_warn(now, to) {
            self.post(to, MembershipPdu::Leave { node: self.own.clone() });
        }
    }

    /// Takes the word of another member that it is one, and so that it does not know this node.
    pub(super) fn take_ack_as_member(
        &mut self,
        now: Instant,
        from: &UniqueAddress,
        cluster: ClusterId,
        admission: &Admission,
    ) {
        // A cluster that was split for good has one id on both sides.
        if self.cluster != Some(cluster) || *admission == Admission::WasRemoved {
            self.note_island(cluster, from);
        } else {
            self.join_again(now, from, cluster);
        }
    }

    /// Tells a node of this cluster, which is no member as far as is known here, that it may be one.
    pub(super) fn invite(&mut self, now: Instant, node: &UniqueAddress) {
        if let Some(cluster) = self.cluster.filter(|_| self.may_warn(now, node)) {
            self.admit(node, cluster, Admission::Granted);
        }
    }

    /// Joins once more, through another member: whoever let this node in may be gone without having told the others.
    fn join_again(&mut self, now: Instant, of: &UniqueAddress, cluster: ClusterId) {
        let patience = self.settings.join.retry_after;
        if self.joined_at.is_none_or(|at| now.saturating_duration_since(at) < patience) {
            return;
        }
        match self.gossip.member(&self.own) {
            Some(own) if own.status().is_entering() => self.request(of, cluster),
            // Nobody is left to see it off.
            Some(own) if own.up_number().is_none() && own.status() == MemberStatus::Leaving => {
                self.stop(now, StopCause::Left);
            }
            Some(_) | None => {}
        }
    }

    fn request(&mut self, of: &UniqueAddress, cluster: ClusterId) {
        let (from, profile) = (self.own.clone(), self.profile.as_ref().clone());
        self.post(of, MembershipPdu::Join { from, cluster, profile });
    }

    /// Answers a member of another cluster that takes this node for one of its own.
    pub(super) fn meet_stranger(&mut self, now: Instant, pdu: &MembershipPdu) {
        self.refusals.note(RefusedPdu::OtherCluster);
        let (Some(own), Some(theirs)) = (self.cluster, pdu.fence()) else { return };
        let from = pdu.sender();
        if matches!(pdu, MembershipPdu::Join { .. }) {
            return self.deny(from);
        }
        self.note_island(theirs, from);
        if self.may_warn(now, from) {
            self.admit(from, own, Admission::Granted);
        }
    }

    /// Asks a seed that is no member, now and then, whether it belongs to another cluster.
    pub(super) fn probe_if_due(&mut self, now: Instant) {
        if !self.is_member() || self.rounds.probe.is_none_or(|due| now < due) {
            return;
        }
        self.rounds.probe = Some(now + self.settings.join.probe_interval);
        let is_member = |seed: &Address| self.gossip.members_at(seed).next().is_some();
        let unknown: Vec<_> =
            self.joiner.other_seeds().filter(|seed| !is_member(seed)).cloned().collect();
        if let Some(seed) = self.rng.choice(unknown) {
            self.ask(seed, self.cluster);
        }
    }

    fn ask(&mut self, seed: Address, cluster: Option<ClusterId>) {
        let (from, settings) = (self.own.clone(), self.shared.clone());
        self.outbox.push(Letter::Pdu(seed, MembershipPdu::InitJoin { from, cluster, settings }));
    }

    fn form(&mut self, now: Instant) {
        // Two nodes with one generator's seed still draw different ids.
        let id = ClusterId::new(self.rng.u64(..) ^ NodeKey::of(&self.own).get());
        if self.gossip.add(Member::joining(self.own.clone(), self.profile.clone())).is_err() {
            return;
        }
        self.begin(now, id);
        self.stamp();
        self.lead(now);
    }

    /// Begins to take part.
    fn begin(&mut self, now: Instant, cluster: ClusterId) {
        self.joiner.handle_end();
        self.cluster = Some(cluster);
        self.phase = Phase::Member;
        self.joined_at = Some(now);
        // Nodes that were let in together do not all speak at once.
        let gossip = now + self.settings.gossip_interval.mul_f64(self.rng.f64());
        self.rounds = Rounds {
            gossip: Some(gossip),
            leader: Some(now + self.settings.leader_interval),
            probe: Some(now + self.settings.join.probe_interval.mul_f64(self.rng.f64())),
        };
        self.is_changed = true;
    }

    fn take_ack(
        &mut self,
        now: Instant,
        from: &UniqueAddress,
        cluster: ClusterId,
        admission: Admission,
    ) {
        if self.phase != Phase::Joining {
            return self.refusals.note(RefusedPdu::Unasked);
        }
        let own = self.own.clone();
        let why = match admission {
            Admission::Granted => return self.joiner.handle_ack(now, from, cluster),
            Admission::Full => {
                self.joiner.handle_heard();
                return self.tell_refused(now, own, from.clone(), JoinRefusal::Full);
            }
            Admission::Incompatible { names } => JoinRefusal::Settings { names },
            Admission::WasRemoved => JoinRefusal::WasRemoved,
        };
        let is_final = why == JoinRefusal::WasRemoved;
        self.events.push_back(ClusterEvent::JoinRefused { joiner: own, by: from.clone(), why });
        self.joiner.handle_end();
        self.phase = Phase::Idle;
        if is_final {
            self.stop(now, StopCause::Removed);
        }
    }

    fn take_welcome(
        &mut self,
        now: Instant,
        from: &UniqueAddress,
        cluster: ClusterId,
        form: GossipForm,
    ) {
        if self.joiner.awaited() != Some((from, cluster)) {
            return self.refusals.note(RefusedPdu::Unasked);
        }
        match Gossip::try_from(form) {
            Ok(gossip) if gossip.contains(&self.own) && gossip.contains(from) => {
                self.gossip = gossip;
                self.gossip.mark_seen(&self.own, self.mark());
                self.begin(now, cluster);
            }
            Ok(_) => self.refusals.note(RefusedPdu::WithoutMe),
            Err(_) => self.refusals.note(RefusedPdu::Malformed),
        }
    }

    fn admission(&self, node: &UniqueAddress, settings: &SharedSettings) -> Admission {
        if self.gossip.has_tombstone(node) {
            return Admission::WasRemoved;
        }
        if !self.gossip.contains(node) && self.gossip.member_count() >= MAX_MEMBERS {
            return Admission::Full;
        }
        settings.check(&self.shared)
    }

    fn admit(&mut self, to: &UniqueAddress, cluster: ClusterId, admission: Admission) {
        let from = self.own.clone();
        self.post(to, MembershipPdu::InitJoinAck { from, cluster, admission });
    }

    fn refuse(&mut self, node: &UniqueAddress, admission: Admission) {
        if let Some(cluster) = self.cluster {
            self.admit(node, cluster, admission);
        }
    }

    /// Declares the members dead that had this node's address before it; it is let in once they are removed.
    fn replace_older(&mut self, node: &UniqueAddress) {
        let older = self.gossip.members_at(node.address()).map(|member| member.node().clone());
        for older in older.collect::<Vec<_>>() {
            self.end_incarnation(&older);
        }
    }

    fn tell_refusal(&mut self, now: Instant, joiner: &UniqueAddress, admission: &Admission) {
        let why = match admission {
            Admission::Granted => return,
            Admission::Incompatible { names } => JoinRefusal::Settings { names: names.clone() },
            Admission::WasRemoved => JoinRefusal::WasRemoved,
            Admission::Full => JoinRefusal::Full,
        };
        let by = self.own.clone();
        self.tell_refused(now, joiner.clone(), by, why);
    }

    /// Tells of a refusal, but not each time that the same node asks.
    fn tell_refused(
        &mut self,
        now: Instant,
        joiner: UniqueAddress,
        by: UniqueAddress,
        why: JoinRefusal,
    ) {
        let peer = if joiner == self.own { &by } else { &joiner };
        if self.may_warn(now, &peer.clone()) {
            self.events.push_back(ClusterEvent::JoinRefused { joiner, by, why });
        }
    }

    /// Tells of another cluster once; a member that belongs to it is none of this one.
    fn note_island(&mut self, cluster: ClusterId, member: &UniqueAddress) {
        if self.islands.len() < MOST_ISLANDS && self.islands.insert(cluster) {
            let member = member.clone();
            self.events.push_back(ClusterEvent::Island { cluster, member });
        }
        if self.cluster != Some(cluster) && self.gossip.contains(member) {
            self.terminate(member);
        }
    }
}

/// Other clusters that are told of: more only a lying peer has.
const MOST_ISLANDS: usize = 64;
