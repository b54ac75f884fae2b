//! Spreads the state: rounds, choice of whom to tell, and what to do with what others tell.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Membership, Transmit};
use crate::address::UniqueAddress;
use crate::membership::event::StopCause;
use crate::membership::exchange::{Envelope, Exchange, Receiver, Refusal, Status, Version};
use crate::membership::gossip::GossipForm;
use crate::membership::member::{Member, MemberStatus};
use crate::membership::outbox::Letter;
use crate::membership::pdu::{Beat, MembershipPdu};
use crate::membership::profile::Label;
use crate::membership::refusals::RefusedPdu;

impl Membership {
    /// Holds a round if it is due: tells one member which version this node has.
    pub(super) fn gossip_if_due(&mut self, now: Instant) {
        if !self.is_member() || self.rounds.gossip.is_none_or(|due| now < due) {
            return;
        }
        if let Some(target) = self.choose_target() {
            self.outbox.push(Letter::Status(target));
        }
        self.rounds.gossip = Some(now + self.gossip_pause());
    }

    /// Brings the next round forward if there is news to spread.
    pub(super) fn hurry(&mut self, now: Instant) {
        let soon = now + self.gossip_pause();
        self.rounds.gossip = self.rounds.gossip.map(|due| due.min(soon));
    }

    /// Sends the state to some members at once, chosen at random among those within reach.
    pub(super) fn gossip_to_some(&mut self, count: usize) {
        let targets: Vec<_> = self.others_within_reach().map(Member::node).cloned().collect();
        for target in self.rng.choose_multiple(targets, count) {
            self.outbox.push(Letter::State(target));
        }
    }

    pub(super) fn take_status(&mut self, now: Instant, status: &Status) {
        match self.receiver().compare(status) {
            Ok(exchange) => self.answer(exchange, status.from.clone()),
            Err(refusal) => self.refuse_gossip(now, &status.from, &refusal),
        }
    }

    pub(super) fn take_state(&mut self, now: Instant, envelope: Envelope) {
        let from = envelope.from.clone();
        match self.receiver().receive(envelope) {
            Ok(received) => {
                if received.gossip != self.gossip {
                    self.gossip = received.gossip;
                    self.is_changed = true;
                }
                self.answer(received.reply, from);
            }
            Err(refusal) => self.refuse_gossip(now, &from, &refusal),
        }
    }

    /// Answers a heartbeat, except that of a node which was removed: that is told so.
    pub(super) fn take_beat(&mut self, now: Instant, beat: &Beat) {
        if self.gossip.has_tombstone(&beat.from) {
            self.refusals.note(RefusedPdu::UnknownSender);
            self.tell_state(now, &beat.from);
        } else {
            self.heartbeats.handle_beat(now, &beat.from, beat.sequence);
        }
    }

    /// Sends the state to a node that ought to know better, at most once a round.
    pub(super) fn tell_state(&mut self, now: Instant, to: &UniqueAddress) {
        if self.may_warn(now, to) {
            self.outbox.push(Letter::State(to.clone()));
        }
    }

    /// Tells whether it is time to tell `to` once more that something is wrong with it or this node.
    pub(super) fn may_warn(&mut self, now: Instant, to: &UniqueAddress) -> bool {
        let is_recent = |at: &Instant| now < *at + self.settings.gossip_interval;
        if self.warned.len() >= MOST_WARNED {
            self.warned.retain(|_, at| is_recent(at));
        }
        if self.warned.get(to).is_some_and(is_recent) || self.warned.len() >= MOST_WARNED {
            return false;
        }
        self.warned.insert(to.clone(), now);
        true
    }

    pub(super) fn post(&mut self, to: &UniqueAddress, pdu: MembershipPdu) {
        self.outbox.push(Letter::Pdu(to.address().clone(), pdu));
    }

    /// Writes out a letter as the state is now; none for a letter from before this node was a member.
    pub(super) fn write(&self, letter: Letter) -> Option<Transmit> {
        let from = self.own.clone();
        let gossip = || Box::new(GossipForm::from(&self.gossip));
        let (to, pdu) = match letter {
            Letter::Pdu(to, pdu) => return Some(Transmit { to, pdu }),
            Letter::Welcome(to) => {
                let cluster = self.cluster?;
                (to, MembershipPdu::Welcome { from, cluster, gossip: gossip() })
            }
            Letter::Status(to) => {
                let version = Version::of(&self.gossip);
                (to, MembershipPdu::Status(Status { from, cluster: self.cluster?, version }))
            }
            Letter::State(to) => {
                let cluster = self.cluster?;
                let envelope = Envelope { from, to: to.clone(), cluster, gossip: gossip() };
                (to, MembershipPdu::Gossip(envelope))
            }
        };
        Some(Transmit { to: to.address().clone(), pdu })
    }

    fn receiver(&self) -> Receiver<'_> {
        Receiver { own: &self.own, local: &self.gossip, mark: self.mark() }
    }

    fn answer(&mut self, exchange: Exchange, to: UniqueAddress) {
        match exchange {
            Exchange::Nothing => {}
            Exchange::SendStatus => self.outbox.push(Letter::Status(to)),
            Exchange::SendState => self.outbox.push(Letter::State(to)),
        }
    }

    fn refuse_gossip(&mut self, now: Instant, from: &UniqueAddress, refusal: &Refusal) {
        self.refusals.note(refusal.into());
        match refusal {
            Refusal::UnknownSender { .. } if self.gossip.has_tombstone(from) => {
                self.tell_state(now, from);
            }
            Refusal::UnknownSender { .. } => self.invite(now, from),
            Refusal::BuriesMe => self.hear_of_removal(now, from),
            _ => {}
        }
    }

    /// Believes that this node was removed if two members say so, or all that it can reach.
    fn hear_of_removal(&mut self, now: Instant, from: &UniqueAddress) {
        self.witnesses.insert(from.clone());
        let is_alive = |member: &&Member| member.status() != MemberStatus::Down;
        let needed = self.others_within_reach().filter(is_alive).count().min(ENOUGH_WITNESSES);
        if self.witnesses.len() >= needed {
            self.stop(now, StopCause::Removed);
        }
    }

    /// Returns the time to the next round: a third while news spreads.
    fn gossip_pause(&self) -> Duration {
        let is_down = |member: &Member| member.status() == MemberStatus::Down;
        let is_news = self.gossip.seen().count() * 2 < self.gossip.member_count();
        if is_news || self.gossip.members().any(is_down) {
            self.settings.gossip_interval / 3
        } else {
            self.settings.gossip_interval
        }
    }

    /// Chooses whom to tell: mostly a neighbour that has not seen this version, now and then another data centre.
    fn choose_target(&mut self) -> Option<UniqueAddress> {
        if let Some(far) = self.choose_far_target() {
            return Some(far);
        }
        let mut rng = self.rng.fork();
        let prefers_unseen = rng.f64() < preference(self.gossip.member_count());
        let near = self.others_within_reach().filter(|m| self.is_near(m));
        let near: Vec<_> = near.map(Member::node).collect();
        let unseen: Vec<_> =
            near.iter().filter(|node| !self.gossip.has_seen(node)).copied().collect();
        let choice = if prefers_unseen && !unseen.is_empty() { unseen } else { near };
        let place = rng.usize(..choice.len().max(1));
        choice.get(place).map(|node| (*node).clone())
    }

    /// Chooses one of the oldest of another data centre, if this node is among the oldest of its own.
    fn choose_far_target(&mut self) -> Option<UniqueAddress> {
        let centres: BTreeSet<&Label> =
            self.gossip.members().map(|m| m.profile().data_centre()).collect();
        let far = centres.into_iter().filter(|centre| *centre != self.profile.data_centre());
        let far: Vec<&Label> = far.collect();
        let mut rng = self.rng.fork();
        let far = *far.get(rng.usize(..far.len().max(1)))?;
        let is_old = self.oldest(self.profile.data_centre()).any(|node| *node == self.own);
        let near = self.gossip.members().filter(|member| self.is_near(member)).count();
        let is_valid =
            |node: &&UniqueAddress| self.gossip.reachability().is_reachable_from(&self.own, node);
        let oldest: Vec<_> = self.oldest(far).filter(is_valid).cloned().collect();
        if is_old && rng.f64() < far_chance(near) { rng.choice(oldest) } else { None }
    }

    /// Gives the oldest few of a data centre.
    fn oldest<'a>(&'a self, centre: &Label) -> impl Iterator<Item = &'a UniqueAddress> + use<'a> {
        let there = self.gossip.members().filter(|member| member.profile().data_centre() == centre);
        let mut there: Vec<_> = there.collect();
        there.sort_by(|a, b| a.age_order(b));
        there.into_iter().take(OLDEST).map(Member::node)
    }

    fn is_near(&self, member: &Member) -> bool {
        member.profile().data_centre() == self.profile.data_centre()
    }

    /// Gives the other members that this node itself can reach.
    pub(super) fn others_within_reach(&self) -> impl Iterator<Item = &Member> {
        let reachability = self.gossip.reachability();
        self.gossip.members().filter(move |member| {
            let node = member.node();
            *node != self.own && reachability.is_reachable_from(&self.own, node)
        })
    }
}

/// Gives the chance of a round to go to another data centre: the fewer are here, the more often.
fn far_chance(near: usize) -> f64 {
    let missing = FEW_NEAR.saturating_sub(near) as f64;
    (missing / 4.0).max(FAR_CHANCE)
}

/// Gives the probability with which a target that has not seen the version is preferred: 0.8 up to 400 members, down
/// to 0.08 from 1 200 on, where all that hear of news would otherwise fall upon the same few.
fn preference(members: usize) -> f64 {
    let beyond = members.clamp(FEW_MEMBERS, MANY_MEMBERS) - FEW_MEMBERS;
    let part = beyond as f64 / (MANY_MEMBERS - FEW_MEMBERS) as f64;
    PREFERENCE - part * (PREFERENCE - LEAST_PREFERENCE)
}

const PREFERENCE: f64 = 0.8;
const LEAST_PREFERENCE: f64 = 0.08;
const FEW_MEMBERS: usize = 400;
const MANY_MEMBERS: usize = 1_200;
/// Members of each data centre that speak to the others.
const OLDEST: usize = 5;
/// Chance of a round to go to another data centre if there are enough members in this one.
const FAR_CHANCE: f64 = 0.2;
/// Members that are enough.
const FEW_NEAR: usize = 5;
/// Members that have to say that this node was removed.
const ENOUGH_WITNESSES: usize = 2;
/// Peers that are remembered as warned; beyond it nobody is.
const MOST_WARNED: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::preference;

    #[test]
    fn the_preference_falls_from_400_members_to_1_200() {
        let table = [(2, 0.8), (400, 0.8), (800, 0.44), (1_200, 0.08), (5_000, 0.08)];
        for (members, expected) in table {
            assert!((preference(members) - expected).abs() < 1e-9, "{members}");
        }
    }
}
