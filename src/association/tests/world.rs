//! Holds one state of the model: two machines, what is in flight between them, and what may still happen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::model::{Bounds, Step};
use super::shell::{Effect, Packet, Shell};
use super::{ADA, BOB, Side, unique};
use crate::address::Uid;
use crate::association::state::State;
use crate::association::{AssociationState, LinkId};
use crate::settings::{AssociationSettings, Settings};

/// Names a wire by who dialled it.
pub(super) type WireId = (Side, Uid, LinkId);

#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) uids: [Uid; 2],
    pub(super) links: [Option<LinkId>; 2],
    pub(super) is_open: [bool; 2],
    /// What is in flight to each side.
    pub(super) queues: [VecDeque<Packet>; 2],
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) clocks: [Instant; 2],
    pub(super) shells: [Shell; 2],
    pub(super) wires: BTreeMap<WireId, Wire>,
    pub(super) dials: BTreeSet<WireId>,
    pub(super) flushes: BTreeSet<(Side, LinkId)>,
    pub(super) left: Bounds,
    /// What earlier incarnations of each side had received.
    pub(super) graves: Vec<(Uid, Vec<(Uid, u64)>)>,
    pub(super) fault: Option<String>,
}

impl World {
    pub(super) fn new(left: Bounds) -> Self {
        let now = Instant::now();
        let shells = [ADA, BOB].map(|side| {
            let uid = |side: Side| 1 + side as u64;
            Shell::new(settings(), unique(side, uid(side)), &unique(1 - side, uid(1 - side)))
        });
        Self {
            clocks: [now; 2],
            shells,
            wires: BTreeMap::new(),
            dials: BTreeSet::new(),
            flushes: BTreeSet::new(),
            left,
            graves: Vec::new(),
            fault: None,
        }
    }

    pub(super) fn steps(&self, steps: &mut Vec<Step>) {
        for side in [ADA, BOB] {
            if self.left.tells[side] > 0 {
                steps.push(Step::Tell(side));
            }
            if self.left.restarts > 0 {
                steps.push(Step::Restart(side));
            }
            if self.left.stops > 0 && !self.shells[side].machine.is_stopping {
                steps.push(Step::Stop(side));
            }
            if self.may_time_out(side) {
                steps.push(Step::Timeout(side));
            }
        }
        for dial in &self.dials {
            steps.push(Step::Dial(*dial, true));
            if self.left.failed_dials > 0 {
                steps.push(Step::Dial(*dial, false));
            }
        }
        steps.extend(self.flushes.iter().map(|(side, link)| Step::Flush(*side, *link)));
        for (id, wire) in &self.wires {
            let waiting = [ADA, BOB].into_iter().filter(|side| !wire.queues[*side].is_empty());
            steps.extend(waiting.map(|side| Step::Deliver(*id, side)));
            if self.left.breaks > 0 {
                steps.push(Step::Break(*id));
            }
        }
    }

    fn may_time_out(&self, side: Side) -> bool {
        match &self.shells[side].machine.state {
            State::Backoff { .. } => {
                self.left.retries > 0 && self.shells[side].machine.poll_timeout().is_some()
            }
            State::Pending(_) | State::Draining(_) => self.left.late > 0,
            State::Up(up) => up.parked.is_some() && self.left.late > 0,
            State::Idle => false,
        }
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Tell(side) => {
                self.left.tells[side] -= 1;
                self.run(side, |shell, now| shell.tell(now));
            }
            Step::Stop(side) => {
                self.left.stops -= 1;
                self.run(side, |shell, now| shell.stop(now));
            }
            Step::Timeout(side) => self.time_out(side),
            Step::Dial(dial, has_worked) => self.dialled(dial, has_worked),
            Step::Flush(side, link) => {
                self.flushes.remove(&(side, link));
                self.run(side, |shell, _| shell.flushed(link));
            }
            Step::Deliver(id, to) => self.deliver(id, to),
            Step::Break(id) => {
                self.left.breaks -= 1;
                let Some(wire) = self.wires.get_mut(&id) else { return };
                wire.queues = [ADA, BOB].map(|_| VecDeque::from([Packet::End]));
            }
            Step::Restart(side) => self.restart(side),
        }
        self.wires.retain(|_, wire| wire.is_open.contains(&true));
        self.check();
    }

    fn time_out(&mut self, side: Side) {
        let shell = &self.shells[side];
        match &shell.machine.state {
            State::Backoff { .. } => self.left.retries -= 1,
            _ => self.left.late -= 1,
        }
        let due = shell.machine.poll_timeout().unwrap_or(self.clocks[side]);
        self.clocks[side] = self.clocks[side].max(due);
        self.run(side, |shell, now| shell.timeout(now));
    }

    fn dialled(&mut self, dial: WireId, has_worked: bool) {
        let (side, _, link) = dial;
        self.dials.remove(&dial);
        if !has_worked {
            self.left.failed_dials -= 1;
            return self.run(side, |shell, now| shell.dial_failed(now, link));
        }
        let uids = [ADA, BOB].map(|side| self.shells[side].uid());
        let mut links = [None; 2];
        links[side] = Some(link);
        let queues = [VecDeque::new(), VecDeque::new()];
        self.wires.insert(dial, Wire { uids, links, is_open: [true; 2], queues });
        self.run(side, |shell, now| shell.dialled(now, link));
    }

    fn deliver(&mut self, id: WireId, to: Side) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let Some(packet) = wire.queues[to].pop_front() else { return };
        if !wire.is_open[to] {
            return;
        }
        wire.is_open[to] = packet != Packet::End;
        match (wire.links[to], packet) {
            (None, Packet::Hello(hello)) => {
                let now = self.clocks[to];
                let (link, effects) = self.shells[to].hello(now, &hello);
                wire.links[to] = Some(link);
                self.apply(to, effects);
            }
            (None, _) => {}
            (Some(link), packet) => self.run(to, |shell, now| shell.packet(now, link, packet)),
        }
    }

    fn restart(&mut self, side: Side) {
        self.left.restarts -= 1;
        let uid = self.shells[side].uid().get() + 10;
        let remote = self.shells[1 - side].identity.local.clone();
        let new = Shell::new(settings(), unique(side, uid), &remote);
        let old = std::mem::replace(&mut self.shells[side], new);
        self.dials.retain(|(dialler, ..)| *dialler != side);
        self.flushes.retain(|(flusher, _)| *flusher != side);
        for wire in self.wires.values_mut().filter(|wire| wire.uids[side] == old.uid()) {
            wire.close(side);
        }
        self.graves.push((old.uid(), old.inbox));
    }

    fn run(&mut self, side: Side, act: impl FnOnce(&mut Shell, Instant) -> Vec<Effect>) {
        let now = self.clocks[side];
        let effects = act(&mut self.shells[side], now);
        self.apply(side, effects);
    }

    fn apply(&mut self, side: Side, effects: Vec<Effect>) {
        let uid = self.shells[side].uid();
        for effect in effects {
            match effect {
                Effect::Dial(link) => {
                    self.dials.insert((side, uid, link));
                }
                Effect::Flush(link) => {
                    self.flushes.insert((side, link));
                }
                Effect::Send(link, packet) => {
                    if let Some(wire) = self.wire(side, link).filter(|wire| wire.is_open[side]) {
                        wire.queues[1 - side].push_back(packet);
                    }
                }
                Effect::Close(link) => {
                    if let Some(wire) = self.wire(side, link) {
                        wire.close(side);
                    }
                }
            }
        }
    }

    fn wire(&mut self, side: Side, link: LinkId) -> Option<&mut Wire> {
        let uid = self.shells[side].uid();
        let mut wires = self.wires.values_mut();
        wires.find(|wire| wire.uids[side] == uid && wire.links[side] == Some(link))
    }

    fn check(&mut self) {
        for side in [ADA, BOB] {
            let mut fault = self.shells[side].wrong();
            let from = self.shells[side].uid();
            for settlement in std::mem::take(&mut self.shells[side].settlements) {
                let peer = &self.shells[1 - side];
                let graves = self.graves.iter().map(|(uid, inbox)| (*uid, inbox));
                if !settlement.is_true(from, graves.chain([(peer.uid(), &peer.inbox)])) {
                    fault = Some(format!("{settlement:?}"));
                }
            }
            self.fault = self.fault.take().or(fault);
            self.shells[side].log.clear();
        }
    }

    /// Nothing is in flight, and no timer but those of silence is pending.
    pub(super) fn is_at_rest(&self) -> bool {
        let is_busy = |shell: &Shell| {
            let waits = shell.machine.poll_timeout().is_some();
            waits && shell.machine.state() != AssociationState::Up
        };
        self.dials.is_empty()
            && self.flushes.is_empty()
            && self.wires.values().all(|wire| wire.queues.iter().all(VecDeque::is_empty))
            && !self.shells.iter().any(is_busy)
    }

    pub(super) fn is_settled(&self) -> bool {
        let active = |side: Side| {
            let link = self.shells[side].active?.0;
            let uid = self.shells[side].uid();
            let mut wires = self.wires.iter();
            wires.find(|(_, wire)| wire.uids[side] == uid && wire.links[side] == Some(link))
        };
        let [ada, bob] = [ADA, BOB].map(|side| active(side).map(|(id, _)| id));
        let is_accounted = |side: Side| {
            let (shell, peer) = (&self.shells[side], &self.shells[1 - side]);
            shell.outbox.is_empty()
                && (ada.is_none() || peer.received + shell.lost == shell.written.len() as u64)
        };
        ada == bob && is_accounted(ADA) && is_accounted(BOB)
    }
}

impl Wire {
    fn close(&mut self, side: Side) {
        if std::mem::take(&mut self.is_open[side]) {
            self.queues[1 - side].push_back(Packet::End);
            self.queues[side].clear();
        }
    }
}

/// Gives settings under which only the timers of dials, handshakes and back-offs matter.
fn settings() -> AssociationSettings {
    let mut settings = Settings::lan().association;
    settings.give_up_after = Duration::MAX;
    settings.ping_interval = Duration::from_secs(1_000_000);
    settings.liveness_timeout = Duration::MAX;
    settings
}
