//! Ends this node's membership: after a farewell, as a downed node, or because the others have gone on without it.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Membership, Phase, Rounds};
use crate::address::UniqueAddress;
use crate::membership::event::{ClusterEvent, StopCause};
use crate::membership::gossip::OwnMark;
use crate::membership::member::{Member, MemberStatus};
use crate::membership::pdu::MembershipPdu;
use crate::membership::refusals::RefusedPdu;

impl Membership {
    /// Notes that the duties of this Exiting node are ended; without any effect in other phases, or a second time.
    ///
    /// The node goes once a member that stays has seen that it is Exiting. Its last acts may have been those of a
    /// leader, and who leads next must know them; nor must it be mistaken for a node that has crashed.
    pub fn handle_exit_done(&mut self, now: Instant) {
        if self.phase != Phase::Exiting || self.exit_done_at.is_some() {
            return;
        }
        self.exit_done_at = Some(now);
        self.gossip.mark_seen(&self.own, OwnMark::Give);
        self.gossip_to_some(FAREWELLS);
        self.settle(now);
    }

    /// Ends the membership of an Exiting node that has nothing left to do, if the others know or cannot be told.
    pub(super) fn go_if_known(&mut self, now: Instant) {
        let Some(since) = self.exit_done_at.filter(|_| self.phase == Phase::Exiting) else {
            return;
        };
        let waited = now.saturating_duration_since(since);
        if !self.is_exit_known() && waited < self.settings.gossip_interval * MOST_FAREWELL_ROUNDS {
            return;
        }
        for leader in self.next_leaders() {
            self.post(&leader, MembershipPdu::ExitingConfirmed { node: self.own.clone() });
        }
        self.stop(now, StopCause::Left);
    }

    /// Follows what the state says of this node.
    pub(super) fn look_at_own_status(&mut self, now: Instant) {
        match self.own_status() {
            Some(MemberStatus::Exiting) if self.phase == Phase::Member => {
                self.phase = Phase::Exiting;
            }
            Some(MemberStatus::Down) if self.is_member() => {
                if self.down_looks.is_none() {
                    self.down_looks = Some(0);
                    self.gossip_to_some(FAREWELLS);
                }
                if self.may_stop_as_down() {
                    self.stop(now, StopCause::Downed);
                }
            }
            _ => {}
        }
    }

    /// Ends the membership. What waits to be sent still is.
    pub(super) fn stop(&mut self, now: Instant, cause: StopCause) {
        if matches!(self.phase, Phase::Stopped(_)) {
            return;
        }
        self.phase = Phase::Stopped(cause);
        self.rounds = Rounds::default();
        self.joiner.handle_end();
        self.heartbeats.handle_members(now, &BTreeSet::new(), &BTreeSet::new());
        self.is_changed = true;
    }

    /// Tells of the end, once and after everything else.
    pub(super) fn tell_end(&mut self) {
        if let (Phase::Stopped(cause), false) = (self.phase, self.is_end_told) {
            self.is_end_told = true;
            self.events.push_back(ClusterEvent::Stopped(cause));
        }
    }

    /// Answers a member that does not know yet that this node has stopped.
    pub(super) fn answer_stopped(&mut self, now: Instant, pdu: &MembershipPdu, cause: StopCause) {
        let from = pdu.sender();
        match pdu {
            MembershipPdu::InitJoin { .. } | MembershipPdu::Join { .. } => return self.deny(from),
            MembershipPdu::Heartbeat(_) if self.cluster.is_none() => {
                return self.decline(now, from);
            }
            MembershipPdu::Heartbeat(_) | MembershipPdu::Status(_) | MembershipPdu::Gossip(_) => {}
            MembershipPdu::InitJoinAck { .. }
            | MembershipPdu::InitJoinNack { .. }
            | MembershipPdu::Welcome { .. }
            | MembershipPdu::HeartbeatReply(_)
            | MembershipPdu::Leave { .. }
            | MembershipPdu::ExitingConfirmed { .. } => return,
        }
        self.refusals.note(RefusedPdu::NoMember);
        if pdu.fence() != self.cluster || !self.gossip.contains(from) {
            return;
        }
        match cause {
            StopCause::Left if self.may_warn(now, from) => {
                self.post(from, MembershipPdu::ExitingConfirmed { node: self.own.clone() });
            }
            StopCause::Downed => self.tell_state(now, from),
            StopCause::Left | StopCause::Removed => {}
        }
    }

    /// Tells whether the others that are Down know it, or cannot be told, or have been waited for long enough.
    fn may_stop_as_down(&self) -> bool {
        let unreachable = self.gossip.reachability().all_unreachable();
        let is_waiting = |member: &Member| {
            let node = member.node();
            member.status() == MemberStatus::Down
                && *node != self.own
                && !self.gossip.has_seen(node)
                && !unreachable.contains(node)
        };
        let looks = self.down_looks.unwrap_or(0);
        looks >= MOST_DOWN_LOOKS || !self.view().neighbours().any(is_waiting)
    }

    /// Tells whether a member that stays has seen the state, or one that goes too if there is no other.
    fn is_exit_known(&self) -> bool {
        let is_alive = |member: &&Member| member.status() != MemberStatus::Down;
        let others: Vec<_> = self.others_within_reach().filter(is_alive).collect();
        let stays = |member: &&&Member| !member.status().is_ending();
        let staying: Vec<_> = others.iter().filter(stays).copied().collect();
        let witnesses = if staying.is_empty() { others } else { staying };
        witnesses.is_empty() || witnesses.iter().any(|it| self.gossip.has_seen(it.node()))
    }

    /// Gives the two that will lead when this node is gone, for one of them may go as well.
    fn next_leaders(&self) -> Vec<UniqueAddress> {
        let unreachable = self.view().unreachable();
        let may_lead = |member: &&Member| {
            *member.node() != self.own
                && member.status().takes_part()
                && !unreachable.contains(member.node())
        };
        let leaders = self.view().neighbours().filter(may_lead).take(NEXT_LEADERS);
        leaders.map(|member| member.node().clone()).collect()
    }
}

/// Members that are told at once when this node goes.
const FAREWELLS: usize = 5;
/// Rounds of gossip for which a node that goes waits until another has seen it.
const MOST_FAREWELL_ROUNDS: u32 = 5;
/// The leader's looks for which a node that is Down goes on telling others that they are.
const MOST_DOWN_LOOKS: u32 = 4;
/// Members that are told that this node may be removed.
const NEXT_LEADERS: usize = 2;
