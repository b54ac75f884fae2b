//! Scripts of frames out of turn and of links beside the active one.

use std::time::{Duration, Instant};

use super::pair::Pair;
use super::script::{activate, greeted, welcome};
use super::shell::{Effect, Packet, Shell};
use super::{ADA, BOB, Side, address, unique};
use crate::address::UniqueAddress;
use crate::association::control::{ControlPdu, Refusal};
use crate::association::{Action, AssociationState};
use crate::settings::Settings;

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

#[test]
fn a_follower_that_believed_a_garbled_number_follows_the_next_choice() {
    let now = Instant::now();
    let mut bob = Shell::new(Settings::lan().association, unique(BOB, 2), &unique(ADA, 1));
    let hello = Pair::new(1).shells[ADA].identity.hello(address(BOB), None);
    for generation in [u64::MAX, 2, 3] {
        let (link, _) = bob.hello(now, &hello);
        bob.packet(now, link, activate(generation));
        assert_eq!(bob.active.map(|(active, _)| active), Some(link), "{generation}");
        bob.packet(now, link, Packet::End);
    }
}

#[test]
fn a_follower_obeys_a_chooser_that_counts_anew() {
    let mut pair = Pair::up(ADA);
    for _ in 0..3 {
        pair.cut([true, true]);
        pair.tell(ADA);
        pair.run_until(SECOND, |pair| pair.is_quiet());
    }
    let (mut pair, wire) = beside_the_active_link_of(pair, BOB);
    pair.forge(wire, BOB, activate(1));
    assert_eq!(pair.active_wire(BOB), Some(wire));
}

/// Gives a pair that is up, and a wire that is parked at `side` beside the active one.
fn beside_the_active_link(side: Side) -> (Pair, usize) {
    beside_the_active_link_of(Pair::up(ADA), side)
}

fn beside_the_active_link_of(mut pair: Pair, side: Side) -> (Pair, usize) {
    let wire = pair.connect();
    let hello = pair.shells[1 - side].identity.hello(address(side), None);
    pair.forge(wire, side, Packet::Hello(hello));
    (pair, wire)
}
