//! Scripts of the end of an association.

use std::time::Duration;

use super::pair::{Pair, Road};
use super::script::{greeted, welcome};
use super::shell::{Effect, Packet};
use super::watch::is_dial;
use super::{ADA, BOB, address, unique};
use crate::association::control::{ControlPdu, Refusal};
use crate::association::{Action, AssociationState};
use crate::event::Reason;

const SECOND: Duration = Duration::from_secs(1);

fn is_close_of_both(action: &Action) -> bool {
    matches!(action, Action::Close { why: "both sides said goodbye", .. })
}

#[test]
fn a_stop_delivers_what_waits_and_says_goodbye() {
    for side in [ADA, BOB] {
        let mut pair = Pair::up(ADA);
        for _ in 0..10 {
            pair.tell(side);
            pair.tell(1 - side);
        }
        pair.stop(side);
        assert_eq!(pair.states()[side], AssociationState::Draining);
        pair.run_for(SECOND);
        assert!(pair.shells[side].has_stopped);
        assert!(pair.has_given_up(1 - side, Reason::PeerStopped));
        assert_eq!(pair.count(side, is_close_of_both), 1);
        assert_eq!(pair.states(), [AssociationState::Idle; 2]);
        assert_eq!(pair.open_wires(), 0);
        for side in [ADA, BOB] {
            assert_eq!(pair.numbers_at(side).len() as u64, pair.shells[1 - side].told);
        }
    }
}

#[test]
fn both_may_stop_at_once() {
    let mut pair = Pair::up(ADA);
    for side in [ADA, BOB] {
        pair.tell(side);
        pair.stop(side);
    }
    pair.run_for(SECOND);
    for side in [ADA, BOB] {
        assert!(pair.shells[side].has_stopped);
        assert_eq!(pair.numbers_at(side).len() as u64, pair.shells[1 - side].told);
    }
    assert_eq!(pair.open_wires(), 0);
}

#[test]
fn a_stop_right_after_the_choice_loses_nothing() {
    for stopper in [ADA, BOB] {
        let mut pair = Pair::new(1);
        pair.latency = 20..21;
        pair.tell(ADA);
        pair.tell(BOB);
        while pair.states()[stopper] != AssociationState::Up {
            assert!(pair.step(pair.now + SECOND));
        }
        pair.stop(stopper);
        pair.run_for(SECOND);
        assert!(pair.shells[stopper].has_stopped);
        assert!(pair.has_given_up(1 - stopper, Reason::PeerStopped));
        assert_eq!(pair.numbers_at(ADA), [1], "{stopper} stopped");
        assert_eq!(pair.numbers_at(BOB), [1], "{stopper} stopped");
    }
}

#[test]
fn a_stop_while_frames_wait_for_the_handshake_lets_them_out_first() {
    for side in [ADA, BOB] {
        let mut pair = Pair::new(1);
        pair.tell(side);
        pair.stop(side);
        assert_eq!(pair.states()[side], AssociationState::Dialing);
        pair.run_for(SECOND);
        assert!(pair.shells[side].has_stopped);
        assert_eq!(pair.numbers_at(1 - side), [1]);
    }
}

#[test]
fn a_stop_while_nothing_waits_for_the_handshake_ends_it() {
    let mut pair = Pair::new(1);
    let hello = pair.shells[ADA].identity.hello(address(BOB), None);
    pair.shells[BOB].hello(pair.now, &hello);
    pair.stop(BOB);
    assert!(pair.shells[BOB].has_stopped);
    assert_eq!(pair.shells[BOB].wrong(), None);
}

#[test]
fn a_stop_ends_with_the_dial_that_fails() {
    let mut pair = Pair::new(1);
    pair.roads[ADA] = Road::Refused;
    pair.tell(ADA);
    pair.stop(ADA);
    pair.run_for(SECOND);
    assert!(pair.shells[ADA].has_stopped);
    assert_eq!(pair.shells[ADA].dead, [1]);
    assert_eq!(pair.count(ADA, is_dial), 1);
}

#[test]
fn a_stop_ends_with_the_goodbye_of_the_peer() {
    let (mut shell, now, link) = greeted();
    shell.stop(now);
    shell.packet(now, link, welcome(unique(BOB, 2)));
    assert_eq!(shell.machine.state(), AssociationState::Up, "the echo is to come");
    let goodbye = Packet::Control(ControlPdu::Goodbye);
    let effects = shell.packet(now, link, goodbye.clone());
    assert_eq!(effects, [Effect::Send(link, goodbye), Effect::Close(link)]);
    assert!(shell.has_stopped);
}

#[test]
fn a_stop_without_a_link_is_over_at_once() {
    let mut pair = Pair::new(1);
    pair.roads[ADA] = Road::Refused;
    pair.tell(ADA);
    pair.run_until(SECOND, |pair| pair.states()[ADA] == AssociationState::Backoff);
    for side in [ADA, BOB] {
        pair.stop(side);
        assert!(pair.shells[side].has_stopped);
        pair.stop(side);
        pair.tell(side);
        assert_eq!(pair.count(side, |action| *action == Action::Stopped), 1);
    }
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.count(ADA, is_dial), 1);
    assert_eq!(pair.shells[ADA].dead, [1]);
}

#[test]
fn a_goodbye_without_an_answer_ends_in_time() {
    let mut pair = Pair::up(ADA);
    pair.cut([false, false]);
    pair.stop(ADA);
    pair.run_for(Duration::from_millis(4_900));
    assert_eq!(pair.states()[ADA], AssociationState::Draining);
    pair.run_for(Duration::from_millis(200));
    assert!(pair.shells[ADA].has_stopped);
}

#[test]
fn a_link_that_breaks_while_it_drains_ends_the_stop() {
    let mut pair = Pair::up(ADA);
    pair.stop(ADA);
    pair.cut([true, true]);
    pair.run_for(Duration::from_millis(50));
    assert!(pair.shells[ADA].has_stopped);
    assert_eq!(pair.states()[BOB], AssociationState::Backoff);
}

#[test]
fn a_stopping_node_refuses_new_links() {
    let mut pair = Pair::up(ADA);
    pair.stop(ADA);
    let hello = pair.shells[BOB].identity.hello(address(ADA), None);
    let (link, effects) = pair.shells[ADA].hello(pair.now, &hello);
    let refuse = Packet::Control(ControlPdu::Refuse(Refusal::Stopping));
    assert_eq!(effects, [Effect::Send(link, refuse), Effect::Close(link)]);
    assert_eq!(pair.states()[ADA], AssociationState::Draining);
}

#[test]
fn a_stop_closes_the_link_that_is_parked() {
    let mut pair = Pair::up(ADA);
    let hello = pair.shells[BOB].identity.hello(address(ADA), None);
    let (link, _) = pair.shells[ADA].hello(pair.now, &hello);
    assert!(pair.shells[ADA].open.contains(&link));
    pair.stop(ADA);
    assert!(!pair.shells[ADA].open.contains(&link));
}

#[test]
fn demand_after_the_peers_goodbye_dials_again() {
    let mut pair = Pair::up(ADA);
    pair.stop(BOB);
    pair.run_for(SECOND);
    let dials = pair.count(ADA, is_dial);
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.count(ADA, is_dial), dials);
    pair.tell(ADA);
    pair.run_for(SECOND);
    assert!(pair.count(ADA, is_dial) > dials);
    assert!(!pair.has_given_up(ADA, Reason::HandshakeRefused), "it may come back");
    pair.restart(BOB, 20);
    pair.run_until(Duration::from_secs(10), |pair| pair.agreed().is_some());
    assert!(pair.numbers_at(BOB).is_empty());
    pair.run_for(SECOND);
    assert_eq!(pair.numbers_at(BOB), [2]);
}
