//! Turns the silence of members into this node's statements about them.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Membership;
use crate::address::UniqueAddress;
use crate::membership::event::ClusterEvent;
use crate::membership::heartbeat::Finding;
use crate::membership::member::{Member, MemberStatus};
use crate::membership::reachability::ReachabilityStatus;

impl Membership {
    /// Takes what the heartbeats have found.
    pub(super) fn take_findings(&mut self, now: Instant) {
        let mut is_news = false;
        while let Some(finding) = self.heartbeats.poll_finding() {
            is_news |= match finding {
                Finding::Unreachable(peer) => self.say(&peer, ReachabilityStatus::Unreachable),
                Finding::Reachable(peer) => self.say(&peer, ReachabilityStatus::Reachable),
                Finding::Starved { silent_for } => {
                    self.downing.handle_stall(now);
                    self.events.push_back(ClusterEvent::Starved { silent_for });
                    false
                }
            };
        }
        if is_news {
            self.stamp();
        }
    }

    /// States that an incarnation will never answer again.
    pub(super) fn terminate(&mut self, node: &UniqueAddress) {
        if *node != self.own && self.say(node, ReachabilityStatus::Terminated) {
            self.stamp();
        }
    }

    /// Declares an incarnation dead that will never answer again.
    pub(super) fn end_incarnation(&mut self, node: &UniqueAddress) {
        let is_news = self.say(node, ReachabilityStatus::Terminated);
        let status = self.gossip.member(node).map(Member::status);
        let is_downed = status.is_some_and(|status| !status.is_ending())
            && self.gossip.advance(node, MemberStatus::Down).is_ok();
        if is_news || is_downed {
            self.stamp();
        }
    }

    /// Hands the heartbeats whom to monitor: the members of the own data centre.
    pub(super) fn monitor(&mut self, now: Instant) {
        let members: BTreeSet<_> = self.view().neighbours().map(Member::node).cloned().collect();
        let unreachable = self.gossip.reachability().all_unreachable();
        let unreachable = unreachable.into_iter().cloned().collect();
        self.heartbeats.handle_members(now, &members, &unreachable);
    }

    /// Writes a statement of this node, and tells whether it was news.
    fn say(&mut self, subject: &UniqueAddress, status: ReachabilityStatus) -> bool {
        // Who is no member any more needs no statement.
        self.gossip.observe(&self.own, subject, status).unwrap_or(false)
    }
}
