//! Watches what the machines do, and says what may never happen.

use std::collections::BTreeSet;

use super::pair::Pair;
use super::shell::Shell;
use super::{ADA, BOB, Side};
use crate::address::Uid;
use crate::association::{Action, AssociationState, LinkId, State};
use crate::event::Reason;

/// What one Settle said: so many of these frames were lost on the way to `to`.
#[derive(Debug, Clone)]
pub(super) struct Settlement {
    pub(super) to: Uid,
    pub(super) written: Vec<u64>,
    pub(super) lost: u64,
}

impl Settlement {
    /// Checks the loss against what the incarnation it was written to has received from `from`.
    pub(super) fn is_true<'a>(
        &self,
        from: Uid,
        inboxes: impl Iterator<Item = (Uid, &'a Vec<(Uid, u64)>)>,
    ) -> bool {
        let arrived = inboxes
            .filter(|(uid, _)| *uid == self.to)
            .flat_map(|(_, inbox)| inbox)
            .filter(|(uid, number)| *uid == from && self.written.contains(number))
            .count();
        arrived as u64 + self.lost == self.written.len() as u64
    }
}

impl Shell {
    /// Gives the links that the machine still knows.
    pub(super) fn known(&self) -> BTreeSet<LinkId> {
        match &self.machine.state {
            State::Idle | State::Backoff { .. } => BTreeSet::new(),
            State::Draining(draining) => BTreeSet::from([draining.link]),
            State::Pending(pending) => {
                let own = pending.own.iter().map(|own| own.link);
                own.chain(pending.parked.iter().map(|parked| parked.link)).collect()
            }
            State::Up(up) => up.parked.iter().map(|parked| parked.link).chain([up.link]).collect(),
        }
    }

    /// Names what is wrong at rest, between two inputs.
    pub(super) fn wrong(&self) -> Option<String> {
        if let Some(fault) = self.faults.first() {
            return Some(fault.clone());
        }
        let known = self.known();
        if known != self.open {
            return Some(format!("open links {:?}, known links {known:?}", self.open));
        }
        let carries = match &self.machine.state {
            State::Up(up) => Some(up.link),
            State::Draining(draining) => Some(draining.link),
            State::Idle | State::Pending(_) | State::Backoff { .. } => None,
        };
        if let Some((_, uid)) =
            self.active.filter(|(_, uid)| self.machine.quarantine.contains(*uid))
        {
            return Some(format!("{uid} is quarantined and active"));
        }
        if self.active.map(|(link, _)| link) != carries {
            return Some(format!("active {:?}, known as active {carries:?}", self.active));
        }
        let is_waiting = !self.outbox.is_empty() || !matches!(self.known().len(), 0);
        if is_waiting && self.machine.poll_timeout().is_none() {
            return Some(format!("nothing will happen in {:?}", self.machine.state));
        }
        None
    }
}

impl Pair {
    pub(super) fn states(&self) -> [AssociationState; 2] {
        [ADA, BOB].map(|side| self.shells[side].machine.state())
    }

    /// Gives the wire that both sides hold to be active.
    pub(super) fn agreed(&self) -> Option<usize> {
        let [ada, bob] = [ADA, BOB].map(|side| self.active_wire(side));
        ada.filter(|_| ada == bob)
    }

    pub(super) fn active_wire(&self, side: Side) -> Option<usize> {
        let (link, _) = self.shells[side].active?;
        self.wire_of(side, link)
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.events.is_empty()
    }

    /// Counts what a machine asked for.
    pub(super) fn count(&self, side: Side, is_meant: fn(&Action) -> bool) -> usize {
        self.shells[side].log.iter().filter(|action| is_meant(action)).count()
    }

    pub(super) fn has_given_up(&self, side: Side, why: Reason) -> bool {
        let mut log = self.shells[side].log.iter();
        log.any(|action| matches!(action, Action::GiveUp { reason, .. } if *reason == why))
    }

    /// Gives the numbers of the frames that were delivered to a side.
    pub(super) fn numbers_at(&self, side: Side) -> Vec<u64> {
        self.shells[side].inbox.iter().map(|(_, number)| *number).collect()
    }

    /// Counts the wires that are open at both ends.
    pub(super) fn open_wires(&self) -> usize {
        self.wires.iter().filter(|wire| wire.ends.iter().all(|end| end.is_open)).count()
    }

    /// Checks what holds between any two inputs.
    pub(super) fn check(&mut self) {
        for side in [ADA, BOB] {
            if let Some(wrong) = self.shells[side].wrong() {
                panic!("side {side}: {wrong}; {:#?}", self.shells[side].log);
            }
            let from = self.shells[side].uid();
            for settlement in std::mem::take(&mut self.shells[side].settlements) {
                let dead = self.graves.iter().filter(|(grave, _)| *grave == 1 - side);
                let peers = dead.map(|(_, shell)| shell).chain([&self.shells[1 - side]]);
                let inboxes = peers.map(|peer| (peer.uid(), &peer.inbox));
                assert!(settlement.is_true(from, inboxes), "side {side}: {settlement:?}");
            }
        }
    }
}

pub(super) fn is_dial(action: &Action) -> bool {
    matches!(action, Action::Dial { .. })
}
