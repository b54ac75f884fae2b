//! Scripts of frames out of turn and of links beside the active one.

use std::time::Duration;

use super::pair::Pair;
use super::script::{activate, greeted, welcome};
use super::shell::{Effect, Packet};
use super::{ADA, BOB, Side, address, unique};
use crate::address::UniqueAddress;
use crate::association::control::{ControlPdu, Refusal};
use crate::association::{Action, AssociationState};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_node_that_answers_at_a_wrong_address_is_not_talked_to() {
    let (mut shell, now, link) = greeted();
    let other = UniqueAddress::new(address(7), unique(BOB, 2).uid());
    let effects = shell.packet(now, link, welcome(other));
    assert_eq!(effects, [Effect::Close(link)]);
    assert_eq!(shell.machine.state(), AssociationState::Backoff);
}

#[test]
fn a_second_welcome_ends_the_link() {
    let mut pair = Pair::up(ADA);
    pair.forge(0, ADA, welcome(unique(BOB, 2)));
    assert_eq!(pair.states()[ADA], AssociationState::Backoff);
    pair.run_until(SECOND, |pair| pair.agreed() == Some(1));
}

#[test]
fn a_pdu_out_of_turn_ends_only_the_link_that_brought_it() {
    let pdus = [
        welcome(unique(ADA, 1)),
        welcome(unique(BOB, 2)),
        Packet::Control(ControlPdu::Refuse(Refusal::Stopping)),
        activate(1),
        activate(0),
        Packet::Control(ControlPdu::Goodbye),
    ];
    for (pdu, side) in pdus.iter().flat_map(|pdu| [(pdu, ADA), (pdu, BOB)]) {
        let (mut pair, wire) = beside_the_active_link(side);
        assert_eq!(pair.open_wires(), 2);
        pair.forge(wire, side, pdu.clone());
        assert_eq!(pair.agreed(), Some(0), "{pdu:?} at {side}");
        pair.run_for(SECOND);
        assert_eq!(pair.agreed(), Some(0), "{pdu:?} at {side}");
        assert_eq!(pair.open_wires(), 1, "{pdu:?} at {side}");
    }
}

#[test]
fn an_activate_that_repeats_or_precedes_the_present_ends_the_link() {
    for (side, generation) in [(ADA, 0), (ADA, 2), (BOB, 0), (BOB, 1)] {
        let mut pair = Pair::up(ADA);
        pair.forge(0, side, activate(generation));
        assert_eq!(pair.states()[side], AssociationState::Backoff, "{side} {generation}");
        pair.run_until(SECOND, |pair| pair.agreed() == Some(1));
    }
}

#[test]
fn a_link_that_is_never_chosen_is_closed_in_time() {
    for side in [ADA, BOB] {
        let (mut pair, _) = beside_the_active_link(side);
        pair.run_for(Duration::from_millis(4_900));
        assert_eq!(pair.open_wires(), 2);
        pair.run_for(Duration::from_millis(200));
        assert_eq!(pair.open_wires(), 1);
        assert_eq!(pair.agreed(), Some(0));
    }
}

#[test]
fn a_later_choice_moves_the_frames_to_another_link() {
    let (mut pair, wire) = beside_the_active_link(BOB);
    pair.forge(wire, BOB, activate(2));
    assert_eq!(pair.active_wire(BOB), Some(wire));
    assert_eq!(pair.count(BOB, |action| matches!(action, Action::Deactivate { .. })), 1);
}

/// Gives a pair that is up, and a wire that is parked at `side` beside the active one.
fn beside_the_active_link(side: Side) -> (Pair, usize) {
    let mut pair = Pair::up(ADA);
    let wire = pair.connect();
    let hello = pair.shells[1 - side].identity.hello(address(side), None);
    pair.forge(wire, side, Packet::Hello(hello));
    (pair, wire)
}
