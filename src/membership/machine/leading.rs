//! Does the leader's work, and lets members ask for what the leader then does.

use std::time::Instant;

use super::{Membership, Phase, RequestError};
use crate::address::{Address, UniqueAddress};
use crate::membership::event::StopCause;
use crate::membership::leader::{self, Plan};
use crate::membership::member::{Member, MemberStatus};
use crate::membership::outbox::Letter;
use crate::membership::pdu::MembershipPdu;

impl Membership {
    /// Asks the member at an address to leave, which may be this node; one that is leaving already goes on.
    ///
    /// A node that is still looking for a member gives up, and has left.
    ///
    /// # Errors
    /// [`RequestError`] says why not.
    pub fn handle_leave(&mut self, now: Instant, node: &Address) -> Result<(), RequestError> {
        if self.phase == Phase::Joining && node == self.own.address() {
            self.give_up_joining(now);
            return Ok(());
        }
        let mut is_news = false;
        for node in self.members_at(node)? {
            // Those that are further along have nothing left to be asked for.
            is_news |= self.gossip.advance(&node, MemberStatus::Leaving).is_ok();
        }
        if is_news {
            self.stamp();
            self.gossip_to_some(1);
        }
        self.settle(now);
        Ok(())
    }

    /// Looks, if it is time, whether this node leads and what there is to do.
    pub(super) fn look_as_leader(&mut self, now: Instant) {
        if !self.is_member() || self.rounds.leader.is_none_or(|due| now < due) {
            return;
        }
        self.rounds.leader = Some(now + self.settings.leader_interval);
        if let Some(looks) = self.down_looks {
            self.down_looks = Some(looks.saturating_add(1));
            self.is_changed = true;
        } else {
            self.lead(now);
        }
    }

    /// Does what there is to do, if this node leads.
    pub(super) fn lead(&mut self, now: Instant) {
        let view = self.view();
        if leader::leader(&view) != Some(&self.own) {
            self.unconverged_since = None;
            return;
        }
        let minimum = &self.settings.minimum;
        if view.is_converged() {
            let plan = leader::plan(&view, minimum);
            self.unconverged_since = None;
            self.carry_out(now, &plan);
        } else {
            let plan = leader::plan_without_convergence(&view, minimum);
            let since = *self.unconverged_since.get_or_insert(now);
            let waited = now.saturating_duration_since(since);
            if self.settings.weakly_up_after.is_some_and(|after| waited >= after) {
                self.carry_out(now, &plan);
            }
        }
    }

    /// Notes that an Exiting member has ended its duties.
    pub(super) fn confirm_exit(&mut self, node: UniqueAddress) {
        if self.gossip.contains(&node) {
            self.exiting_confirmed.insert(node);
        }
    }

    /// Gives the members at an address.
    pub(super) fn members_at(&self, address: &Address) -> Result<Vec<UniqueAddress>, RequestError> {
        if !self.is_member() {
            return Err(RequestError::NoMember);
        }
        let nodes: Vec<_> = self.gossip.members_at(address).map(Member::node).cloned().collect();
        match nodes.is_empty() {
            true => Err(RequestError::NotAMember { address: address.clone() }),
            false => Ok(nodes),
        }
    }

    fn carry_out(&mut self, now: Instant, plan: &Plan) {
        let removal_time = self.removal_time(now);
        let limit = removal_time.minus(self.settings.tombstone_age);
        let has_forgotten = plan.remove.is_empty() && self.gossip.prune_tombstones(limit);
        if plan.is_empty() && !has_forgotten {
            return;
        }
        if plan.apply(&mut self.gossip, removal_time).is_err() {
            debug_assert!(false, "the plan was made for this very state");
        }
        self.stamp();
        for node in plan.exit.iter().filter(|node| **node != self.own).take(MOST_TOLD_AT_ONCE) {
            self.outbox.push(Letter::State(node.clone()));
        }
    }

    fn give_up_joining(&mut self, now: Instant) {
        if let Some((of, _)) = self.joiner.awaited() {
            let of = of.clone();
            self.post(&of, MembershipPdu::Leave { node: self.own.clone() });
        }
        self.joiner.handle_end();
        self.stop(now, StopCause::Left);
        self.settle(now);
    }
}

/// Members that are told of their exit at once; more hear of it in the next rounds.
const MOST_TOLD_AT_ONCE: usize = 8;
