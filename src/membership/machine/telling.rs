//! Works out what is to be told: the difference between the state that subscribers know and the present one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::Membership;
use crate::address::UniqueAddress;
use crate::membership::event::ClusterEvent;
use crate::membership::leader;
use crate::membership::member::{Member, MemberStatus};

/// Is what subscribers know.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    members: Arc<BTreeMap<UniqueAddress, Member>>,
    unreachable: BTreeSet<UniqueAddress>,
    leader: Option<UniqueAddress>,
    /// Those that anybody complains about, whoever that is.
    accused: BTreeSet<UniqueAddress>,
}

impl Membership {
    /// Tells what has changed, and hands it to those that work with it.
    pub(super) fn tell_changes(&mut self, now: Instant) {
        let before = std::mem::take(&mut self.told);
        self.told = self.present();
        if self.is_member() {
            self.hurry(now);
            let is_same = || before.members.keys().eq(self.told.members.keys());
            let is_same = Arc::ptr_eq(&before.members, &self.told.members) || is_same();
            if !is_same || before.accused != self.told.accused {
                self.monitor(now);
            }
            // Downing has nothing to decide, and nothing to wait for, where nobody complains.
            self.is_view_stale |= !(before.accused.is_empty() && self.told.accused.is_empty());
        }
        if before.members != self.told.members {
            self.tell_members(&before);
            let members = &self.told.members;
            self.exiting_confirmed.retain(|node| members.contains_key(node));
        }
        self.tell_reachability(&before);
        if before.leader != self.told.leader {
            let leader = self.told.leader.clone();
            self.events.push_back(ClusterEvent::LeaderChanged(leader));
        }
    }

    /// Gives the members that others which are not Down cannot reach.
    pub(super) fn unreachable(&self) -> BTreeSet<UniqueAddress> {
        let counts = |observer: &UniqueAddress| {
            self.gossip.member(observer).is_some_and(|m| m.status() != MemberStatus::Down)
        };
        let unreachable = self.gossip.reachability().unreachable_according_to(counts);
        unreachable.into_iter().filter(|node| **node != self.own).cloned().collect()
    }

    fn present(&self) -> Told {
        let accused = self.gossip.reachability().all_unreachable();
        Told {
            members: Arc::clone(self.gossip.shared_members()),
            unreachable: self.unreachable(),
            leader: leader::leader(&self.view()).cloned(),
            accused: accused.into_iter().cloned().collect(),
        }
    }

    fn tell_members(&mut self, before: &Told) {
        for (node, member) in before.members.iter() {
            if !self.told.members.contains_key(node) {
                let (member, previous) = (member.clone(), member.status());
                self.events.push_back(ClusterEvent::Removed { member, previous });
            }
        }
        for (node, member) in self.told.members.iter() {
            let status = before.members.get(node).map(Member::status);
            if status != Some(member.status()) {
                self.events.extend(event_of(member.clone()));
            }
        }
    }

    fn tell_reachability(&mut self, before: &Told) {
        let known = |node: &UniqueAddress| self.told.members.get(node).cloned();
        let lost = self.told.unreachable.difference(&before.unreachable).filter_map(known);
        let found = before.unreachable.difference(&self.told.unreachable).filter_map(known);
        let events = lost.map(ClusterEvent::Unreachable).chain(found.map(ClusterEvent::Reachable));
        self.events.extend(events);
    }
}

/// Gives the event of a member that has come to its status.
fn event_of(member: Member) -> Option<ClusterEvent> {
    match member.status() {
        MemberStatus::Joining => Some(ClusterEvent::Joined(member)),
        MemberStatus::WeaklyUp => Some(ClusterEvent::WeaklyUp(member)),
        MemberStatus::Up => Some(ClusterEvent::Up(member)),
        MemberStatus::Leaving => Some(ClusterEvent::Leaving(member)),
        MemberStatus::Exiting => Some(ClusterEvent::Exited(member)),
        MemberStatus::Down => Some(ClusterEvent::Downed(member)),
        // No state has such a member.
        MemberStatus::Removed => None,
    }
}
