//! Declares members dead: what the downing strategy decides, and what a user does.

use std::time::Instant;

use super::{Membership, RequestError};
use crate::address::{Address, UniqueAddress};
use crate::membership::downing::{Unreachability, View, ViewMember, ViewStatus};
use crate::membership::leader;
use crate::membership::member::{Member, MemberStatus, UpNumber};
use crate::membership::outbox::Letter;
use crate::membership::profile::Label;
use crate::membership::reachability::ReachabilityStatus;

impl Membership {
    /// Declares the member at an address dead, which may be this node; one that is Down already stays so.
    ///
    /// # Errors
    /// [`RequestError`] says why not.
    pub fn handle_down(&mut self, now: Instant, node: &Address) -> Result<(), RequestError> {
        let nodes = self.members_at(node)?;
        self.down(&nodes);
        self.settle(now);
        Ok(())
    }

    /// Notes that a peer will never talk to this node again; if it is a member, this node goes.
    pub fn handle_quarantined_by(&mut self, now: Instant, by: &UniqueAddress) {
        if self.is_member() {
            self.downing.handle_view(now, self.downing_view(now));
            self.downing.handle_quarantined(by);
            self.take_verdict(now);
            self.settle(now);
        }
    }

    /// Carries out what the strategy decides, if it is time.
    pub(super) fn take_verdict(&mut self, now: Instant) {
        if !self.is_member() {
            return;
        }
        if let Some(verdict) = self.downing.poll_decision(now) {
            self.down(&verdict.nodes);
        }
    }

    /// Gives downing a new view, if it has an old one: once a look instead of once a change, for a view of many members
    /// is dear, and what is decided is looked for only then.
    pub(super) fn review_if_stale(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_view_stale) && self.is_member() {
            let view = self.downing_view(now);
            self.downing.handle_view(now, view);
        }
    }

    fn down(&mut self, nodes: &[UniqueAddress]) {
        let mut downed = Vec::new();
        for node in nodes {
            if self.gossip.advance(node, MemberStatus::Down).is_ok() {
                downed.push(node);
            }
        }
        if downed.is_empty() {
            return;
        }
        self.stamp();
        for node in downed.into_iter().filter(|node| **node != self.own).take(MOST_TOLD_AT_ONCE) {
            self.outbox.push(Letter::State(node.clone()));
        }
    }

    /// Gives what a decision is made from.
    ///
    /// Whom this node hears is as surely there as who has seen the state. Otherwise a liar that makes a new version
    /// each second could pass all others off as cut off.
    pub(super) fn downing_view(&self, now: Instant) -> View {
        let view = self.view();
        let members: Vec<_> = view.neighbours().map(view_member).collect();
        let is_near = |node: &UniqueAddress| {
            let member = self.gossip.member(node);
            member.is_some_and(|m| m.profile().data_centre() == self.profile.data_centre())
        };
        let records = self.gossip.reachability().records();
        let records = records.filter(|r| r.status != ReachabilityStatus::Reachable);
        let rows = records.filter(|record| is_near(record.observer)).map(|record| Unreachability {
            observer: record.observer.clone(),
            subject: record.subject.clone(),
        });
        let leader = leader::leader(&view).cloned();
        let table = self.gossip.reachability();
        let heard = self.heartbeats.heard(now).filter(|it| table.is_reachable_from(&self.own, it));
        let seen = self.gossip.seen().chain(heard).chain([&self.own]).cloned().collect();
        View::new(self.own.clone(), leader, members, rows, seen)
    }
}

fn view_member(member: &Member) -> ViewMember {
    let status = match member.status() {
        MemberStatus::Joining => ViewStatus::Joining,
        MemberStatus::WeaklyUp => ViewStatus::WeaklyUp,
        MemberStatus::Up => ViewStatus::Up,
        MemberStatus::Leaving => ViewStatus::Leaving,
        MemberStatus::Exiting => ViewStatus::Exiting,
        MemberStatus::Down | MemberStatus::Removed => ViewStatus::Down,
    };
    ViewMember {
        address: member.node().clone(),
        status,
        roles: member.profile().roles().map(Label::to_string).collect(),
        up_number: member.up_number().map_or(u64::MAX, |number| UpNumber::get(number).into()),
    }
}

/// Members that are told of their end at once; more hear of it in the next rounds.
const MOST_TOLD_AT_ONCE: usize = 16;
