//! Compares states of the model by what can change their future.
//!
//! Left out are the log, the texts, the random generator and the number of failures: they change only how long
//! a back-off lasts, and it has no length in the model. Timers count relative to the clock of their side.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Instant;

use super::shell::{Packet, Shell};
use super::world::World;
use super::{ADA, BOB};
use crate::address::Uid;
use crate::association::control::ControlPdu;
use crate::association::state::{Own, Parked, Phase, State};

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        let digest = |world: &Self| {
            let mut hasher = DefaultHasher::new();
            world.hash(&mut hasher);
            hasher.finish()
        };
        digest(self) == digest(other)
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, into: &mut H) {
        for side in [ADA, BOB] {
            hash_shell(&self.shells[side], self.clocks[side], into);
        }
        for (id, wire) in &self.wires {
            (id, wire.uids, wire.links, wire.is_open).hash(into);
            for queue in &wire.queues {
                queue.len().hash(into);
                queue.iter().for_each(|packet| hash_packet(packet, into));
            }
        }
        (&self.dials, &self.flushes, self.left, &self.graves, &self.fault).hash(into);
    }
}

fn hash_shell(shell: &Shell, now: Instant, into: &mut impl Hasher) {
    let machine = &shell.machine;
    hash_state(&machine.state, now, into);
    machine.peer.map(|peer| (peer.uid, peer.generation)).hash(into);
    (machine.is_stopping, machine.away_since.is_some(), machine.next_link).hash(into);
    [1, 2, 11, 12, 21, 22].map(|uid| machine.quarantine.contains(Uid::new(uid))).hash(into);
    (shell.uid(), &shell.open, shell.active, shell.told, &shell.outbox).hash(into);
    (&shell.written, shell.before, shell.lost, shell.received, &shell.inbox).hash(into);
    (shell.dead.len(), shell.has_stopped).hash(into);
}

fn hash_state(state: &State, now: Instant, into: &mut impl Hasher) {
    std::mem::discriminant(state).hash(into);
    match state {
        State::Idle | State::Backoff { .. } => {}
        State::Pending(pending) => {
            pending.own.as_ref().map(|own| project_own(own, now)).hash(into);
            pending.parked.as_ref().map(|parked| project_parked(parked, now)).hash(into);
        }
        State::Up(up) => {
            up.link.hash(into);
            up.parked.as_ref().map(|parked| project_parked(parked, now)).hash(into);
        }
        State::Draining(draining) => {
            (draining.link, draining.has_said, draining.has_heard).hash(into);
        }
    }
}

fn project_own(own: &Own, now: Instant) -> impl Hash + use<> {
    let phase = match own.phase {
        Phase::Dialing => 0,
        Phase::Greeted => 1,
        Phase::Welcomed(_) => 2,
    };
    (own.link, phase, own.knew, own.until.saturating_duration_since(now))
}

fn project_parked(parked: &Parked, now: Instant) -> impl Hash + use<> {
    (parked.link, parked.uid, parked.until.saturating_duration_since(now))
}

fn hash_packet(packet: &Packet, into: &mut impl Hasher) {
    std::mem::discriminant(packet).hash(into);
    match packet {
        Packet::Hello(hello) => {
            (hello.from.uid(), hello.seen.map(|seen| (seen.uid, seen.generation))).hash(into);
        }
        Packet::Control(pdu) => hash_pdu(pdu, into),
        Packet::User { from, number } => (from, number).hash(into),
        Packet::End => {}
    }
}

fn hash_pdu(pdu: &ControlPdu, into: &mut impl Hasher) {
    std::mem::discriminant(pdu).hash(into);
    match pdu {
        ControlPdu::Welcome(welcome) => welcome.from.uid().hash(into),
        ControlPdu::Activate { generation, received } => (generation, received).hash(into),
        ControlPdu::Ping { nonce, received } | ControlPdu::Pong { nonce, received } => {
            (nonce, received).hash(into);
        }
        ControlPdu::Received { received } => received.hash(into),
        ControlPdu::Refuse(why) => std::mem::discriminant(why).hash(into),
        ControlPdu::Goodbye
        | ControlPdu::AskFailed { .. }
        | ControlPdu::Refused { .. }
        | ControlPdu::Codecs { .. }
        | ControlPdu::Credit { .. }
        | ControlPdu::Standing { .. } => {}
    }
}
