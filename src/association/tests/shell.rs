//! Plays the shell of one side: carries out what the machine asks for, and keeps the accounts.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::watch::Settlement;
use crate::address::{Uid, UniqueAddress};
use crate::association::control::{ControlPdu, Hello, Identity, Limits};
use crate::association::{Action, Association, LinkId};
use crate::settings::AssociationSettings;

/// What travels on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    Hello(Hello),
    Control(ControlPdu),
    /// A user's frame; the incarnation that wrote it is known to the tests only.
    User {
        from: Uid,
        number: u64,
    },
    /// The end of the link.
    End,
}

/// What the shell asks of the world of links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Dial(LinkId),
    Send(LinkId, Packet),
    Flush(LinkId),
    Close(LinkId),
}

/// One side: its machine, its links and its accounts.
#[derive(Debug, Clone)]
pub(super) struct Shell {
    pub(super) machine: Association,
    pub(super) identity: Identity,
    /// Links that are dialled, or open as far as this side knows.
    pub(super) open: BTreeSet<LinkId>,
    /// The link that carries users' frames, and the incarnation at its other end.
    pub(super) active: Option<(LinkId, Uid)>,
    /// The number of the last frame told.
    pub(super) told: u64,
    pub(super) outbox: VecDeque<u64>,
    /// Frames written to the peer's present incarnation.
    pub(super) written: Vec<u64>,
    /// How many of them were written before the present activation.
    pub(super) before: usize,
    /// How many of those were reported lost.
    pub(super) lost: u64,
    /// Frames received from the peer's present incarnation.
    pub(super) received: u64,
    /// Every frame delivered, with the incarnation that wrote it.
    pub(super) inbox: Vec<(Uid, u64)>,
    /// Frames given up before they were written.
    pub(super) dead: Vec<u64>,
    pub(super) settlements: Vec<Settlement>,
    /// Everything the machine asked for.
    pub(super) log: Vec<Action>,
    /// Whatever no machine may do.
    pub(super) faults: Vec<String>,
    pub(super) has_stopped: bool,
    effects: Vec<Effect>,
}

impl Shell {
    pub(super) fn new(
        settings: AssociationSettings,
        local: UniqueAddress,
        remote: &UniqueAddress,
    ) -> Self {
        let seed = local.uid().get();
        let identity = Identity { local, limits: Limits { max_message: 1024 }, registry: 1 };
        let remote = remote.address().clone();
        Self {
            machine: Association::new(settings, identity.clone(), remote, seed),
            identity,
            open: BTreeSet::new(),
            active: None,
            told: 0,
            outbox: VecDeque::new(),
            written: Vec::new(),
            before: 0,
            lost: 0,
            received: 0,
            inbox: Vec::new(),
            dead: Vec::new(),
            settlements: Vec::new(),
            log: Vec::new(),
            faults: Vec::new(),
            has_stopped: false,
            effects: Vec::new(),
        }
    }

    pub(super) fn uid(&self) -> Uid {
        self.identity.local.uid()
    }

    /// Tells the peer one frame.
    pub(super) fn tell(&mut self, now: Instant) -> Vec<Effect> {
        if !self.machine.is_stopping {
            self.told += 1;
            self.outbox.push_back(self.told);
            self.machine.handle_demand(now);
        }
        self.carry_out()
    }

    pub(super) fn urge(&mut self, now: Instant) -> Vec<Effect> {
        self.machine.handle_urge(now);
        self.carry_out()
    }

    pub(super) fn dialled(&mut self, now: Instant, link: LinkId) -> Vec<Effect> {
        self.open.insert(link);
        self.machine.handle_dialled(now, link);
        self.carry_out()
    }

    pub(super) fn dial_failed(&mut self, now: Instant, link: LinkId) -> Vec<Effect> {
        self.open.remove(&link);
        self.machine.handle_dial_failed(now, link, "no route".to_owned());
        self.carry_out()
    }

    /// Takes the first frame of a link that the peer dialled.
    pub(super) fn hello(&mut self, now: Instant, hello: &Hello) -> (LinkId, Vec<Effect>) {
        let link = self.machine.new_link();
        self.open.insert(link);
        match self.identity.check(hello) {
            Ok(()) => self.machine.handle_hello(now, link, hello),
            Err(why) => {
                let refuse = Packet::Control(ControlPdu::Refuse(why));
                self.effects.push(Effect::Send(link, refuse));
                self.close(link);
            }
        }
        (link, self.carry_out())
    }

    /// Takes any later frame of a link, or its end.
    pub(super) fn packet(&mut self, now: Instant, link: LinkId, packet: Packet) -> Vec<Effect> {
        let is_active = self.active.is_some_and(|(active, _)| active == link);
        if is_active {
            self.machine.handle_heard(now);
        }
        match packet {
            Packet::Control(pdu) => self.machine.handle_control(now, link, pdu),
            Packet::User { from, number } if is_active => self.deliver(from, number),
            Packet::User { .. } => {}
            Packet::Hello(_) => self.faults.push(format!("a second Hello on {link:?}")),
            Packet::End => {
                self.open.remove(&link);
                self.machine.handle_link_lost(now, link, "the link ended".to_owned());
            }
        }
        self.carry_out()
    }

    pub(super) fn flushed(&mut self, link: LinkId) -> Vec<Effect> {
        self.machine.handle_flushed(link);
        self.carry_out()
    }

    pub(super) fn quarantine(&mut self, now: Instant, uid: Uid) -> Vec<Effect> {
        self.machine.handle_quarantine(now, uid);
        self.carry_out()
    }

    pub(super) fn timeout(&mut self, now: Instant) -> Vec<Effect> {
        self.machine.handle_timeout(now);
        self.carry_out()
    }

    pub(super) fn stop(&mut self, now: Instant) -> Vec<Effect> {
        self.machine.handle_stop(now, self.outbox.len());
        self.carry_out()
    }

    fn deliver(&mut self, from: Uid, number: u64) {
        let expected = self.active.map(|(_, uid)| uid);
        if expected != Some(from) {
            self.faults.push(format!("{expected:?} was said to write, {from:?} did"));
        }
        let last = self.inbox.iter().rev().find(|(uid, _)| *uid == from);
        if last.is_some_and(|(_, last)| *last >= number) {
            self.faults.push(format!("{number} after {last:?}"));
        }
        self.received += 1;
        self.inbox.push((from, number));
    }

    fn carry_out(&mut self) -> Vec<Effect> {
        while let Some(action) = self.machine.poll_action() {
            self.log.push(action.clone());
            self.act(action);
        }
        self.pump();
        std::mem::take(&mut self.effects)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial { link, .. } => {
                self.open.insert(link);
                self.effects.push(Effect::Dial(link));
            }
            Action::Greet { link, hello } => self.send(link, Packet::Hello(hello)),
            Action::Transmit { link, pdu } => self.transmit(link, pdu),
            Action::Activate { link, peer, generation, .. } => {
                self.activate(link, &peer, generation);
            }
            Action::Deactivate { .. } => self.deactivate(),
            Action::Settle { received } => self.settle(received),
            Action::Incarnation { previous, current } => self.succeed(&previous, &current),
            Action::GiveUp { .. } => self.dead.extend(self.outbox.drain(..)),
            Action::Flush { link } => {
                self.pump();
                self.effects.push(Effect::Flush(link));
            }
            Action::Close { link, .. } => self.close(link),
            Action::Refused { .. } => {}
            Action::Stopped => {
                self.has_stopped = true;
                self.active = None;
                self.dead.extend(self.outbox.drain(..));
            }
        }
    }

    fn activate(&mut self, link: LinkId, peer: &UniqueAddress, generation: u64) {
        if self.active.is_some() {
            self.faults.push(format!("{link:?} beside {:?}", self.active));
        }
        self.active = Some((link, peer.uid()));
        self.before = self.written.len();
        self.transmit(link, ControlPdu::Activate { generation, received: 0 });
        self.pump();
    }

    fn deactivate(&mut self) {
        if self.active.take().is_none() {
            self.faults.push("a Deactivate without an active link".to_owned());
        }
    }

    fn settle(&mut self, received: u64) {
        let Some((_, to)) = self.active else {
            return self.faults.push("a Settle without an active link".to_owned());
        };
        match (self.before as u64).checked_sub(received) {
            Some(lost) if lost >= self.lost => {
                self.lost = lost;
                let written = self.written[..self.before].to_vec();
                self.settlements.push(Settlement { to, written, lost });
            }
            Some(_) | None => self
                .faults
                .push(format!("received {received} of {}, {} were lost", self.before, self.lost)),
        }
    }

    fn succeed(&mut self, previous: &UniqueAddress, current: &UniqueAddress) {
        if self.active.is_some() || previous.uid() == current.uid() {
            self.faults.push(format!("{previous} was replaced by {current} while active"));
        }
        self.written.clear();
        (self.before, self.lost, self.received) = (0, 0, 0);
    }

    fn pump(&mut self) {
        let Some((link, _)) = self.active else { return };
        let from = self.uid();
        for number in std::mem::take(&mut self.outbox) {
            self.written.push(number);
            self.send(link, Packet::User { from, number });
        }
    }

    fn transmit(&mut self, link: LinkId, pdu: ControlPdu) {
        let mut pdu = pdu;
        match &mut pdu {
            ControlPdu::Activate { received, .. }
            | ControlPdu::Ping { received, .. }
            | ControlPdu::Pong { received, .. }
            | ControlPdu::Received { received } => *received = self.received,
            ControlPdu::Welcome(_)
            | ControlPdu::Refuse(_)
            | ControlPdu::Goodbye
            | ControlPdu::AskFailed { .. }
            | ControlPdu::Refused { .. }
            | ControlPdu::Codecs { .. }
            | ControlPdu::Credit { .. }
            | ControlPdu::Standing { .. } => {}
        }
        self.send(link, Packet::Control(pdu));
    }

    fn send(&mut self, link: LinkId, packet: Packet) {
        self.effects.push(Effect::Send(link, packet));
    }

    fn close(&mut self, link: LinkId) {
        if self.open.remove(&link) {
            self.effects.push(Effect::Close(link));
        }
    }
}
