//! Scripts of broken links, half-open links and peers that restart.

use std::time::Duration;

use super::pair::{Pair, Road};
use super::shell::{Effect, Packet};
use super::watch::is_dial;
use super::{ADA, BOB, Side, address, unique};
use crate::address::Uid;
use crate::association::control::{ControlPdu, Refusal, Seen};
use crate::association::{Action, AssociationState};
use crate::event::Reason;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_lost_link_is_dialled_again_within_one_back_off_step() {
    for seen in [[true, true], [true, false], [false, true]] {
        let mut pair = Pair::up(ADA);
        pair.cut(seen);
        let took = pair.run_until(SECOND, |pair| pair.agreed() == Some(1));
        assert!(took < Duration::from_millis(150), "{seen:?}: {took:?}");
        assert!(pair.states() == [AssociationState::Up; 2]);
    }
}

#[test]
fn what_a_broken_link_swallowed_is_reported_once_and_exactly() {
    for (seen, side) in [([true, true], ADA), ([true, true], BOB), ([false, true], ADA)] {
        let mut pair = Pair::up(ADA);
        let told = pair.shells[side].told;
        for _ in 0..5 {
            pair.tell(side);
        }
        pair.cut(seen);
        pair.run_until(SECOND, |pair| pair.agreed() == Some(1));
        pair.tell(side);
        pair.run_for(SECOND);
        assert_eq!(pair.shells[side].lost, 5);
        assert_eq!(pair.numbers_at(1 - side).last(), Some(&(told + 6)));
        pair.cut([true, true]);
        pair.run_until(SECOND, |pair| pair.agreed() == Some(2));
        pair.run_for(SECOND);
        assert_eq!(pair.shells[side].lost, 5, "nothing more was lost");
    }
}

#[test]
fn a_half_open_link_is_replaced_within_the_liveness_timeout() {
    let mut pair = Pair::up(ADA);
    pair.run_for(Duration::from_secs(5));
    pair.cut([false, false]);
    pair.tell(ADA);
    let took = pair.run_until(Duration::from_secs(11), |pair| pair.agreed() == Some(1));
    assert!(took > Duration::from_secs(6), "{took:?}");
    pair.run_for(SECOND);
    assert_eq!(pair.shells[ADA].lost, 1);
}

#[test]
fn a_choice_that_did_not_arrive_is_repeated_on_another_link() {
    let mut pair = Pair::new(1);
    pair.latency = 20..21;
    pair.tell(ADA);
    while pair.states()[ADA] != AssociationState::Up {
        assert!(pair.step(pair.now + SECOND));
    }
    pair.cut([false, true]);
    pair.tell(BOB);
    let took = pair.run_until(Duration::from_secs(12), |pair| pair.agreed().is_some());
    assert!(took > Duration::from_secs(9), "{took:?}");
    pair.run_for(SECOND);
    assert_eq!(pair.shells[ADA].lost, 1);
    assert_eq!(pair.numbers_at(ADA), [1]);
}

#[test]
fn links_that_break_at_once_are_dialled_at_growing_distances() {
    let mut pair = Pair::up(ADA);
    pair.roads[BOB] = Road::Refused;
    for _ in 0..6 {
        pair.cut([true, true]);
        pair.run_until(Duration::from_secs(5), |pair| pair.agreed().is_none());
        pair.run_until(Duration::from_secs(5), |pair| pair.agreed().is_some());
    }
    pair.cut([true, true]);
    let took = pair.run_until(Duration::from_secs(8), |pair| pair.states()[ADA] == HANDSHAKING);
    assert!(took > SECOND, "{took:?}");
    pair.run_until(SECOND, |pair| pair.agreed().is_some());
    pair.run_for(Duration::from_secs(15));
    pair.cut([true, true]);
    let took = pair.run_until(SECOND, |pair| pair.states()[ADA] == HANDSHAKING);
    assert!(took < Duration::from_millis(150), "a link that lived long starts over: {took:?}");
}

#[test]
fn an_urge_ends_a_back_off_and_nothing_else() {
    let mut pair = Pair::up(ADA);
    pair.urge(ADA);
    assert_eq!((pair.agreed(), pair.states()[ADA]), (Some(0), AssociationState::Up));
    pair.roads = [Road::Refused; 2];
    pair.cut([true, true]);
    pair.run_for(Duration::from_secs(8));
    assert_eq!(pair.states()[ADA], AssociationState::Backoff);
    pair.urge(ADA);
    pair.urge(ADA);
    assert_eq!(pair.states()[ADA], AssociationState::Dialing, "one dial at a time");
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.states()[ADA], AssociationState::Backoff, "refused once more");
    pair.roads = [Road::Open; 2];
    pair.urge(ADA);
    let took = pair.run_until(SECOND, |pair| pair.agreed().is_some());
    assert!(took < Duration::from_millis(100), "{took:?}");

    // Nobody is waited for.
    let mut idle = Pair::new(1);
    idle.urge(ADA);
    assert_eq!(idle.states()[ADA], AssociationState::Idle);
}

#[test]
fn a_peer_that_restarts_is_talked_to_as_a_new_incarnation() {
    for side in [ADA, BOB] {
        let mut pair = Pair::up(ADA);
        pair.restart(side, 30);
        pair.tell(side);
        pair.run_until(SECOND, |pair| pair.agreed().is_some());
        pair.tell(1 - side);
        pair.run_for(SECOND);
        assert_eq!(incarnations(&pair, 1 - side), [30]);
        assert_eq!(pair.shells[side].inbox.len(), 1);
        assert_eq!(pair.shells[1 - side].inbox.last(), Some(&(unique(side, 30).uid(), 1)));
        assert_eq!(pair.shells[1 - side].lost, 0, "told by the Incarnation, not by a Settle");
    }
}

#[test]
fn a_peer_that_lost_its_power_is_replaced_when_it_is_back() {
    for side in [ADA, BOB] {
        let mut pair = Pair::up(ADA);
        pair.cut([false, false]);
        pair.restart(side, 30);
        pair.tell(side);
        let took = pair.run_until(SECOND, |pair| pair.agreed().is_some());
        assert!(took < Duration::from_millis(100), "{took:?}");
        assert_eq!(incarnations(&pair, 1 - side), [30]);
    }
}

#[test]
fn a_replaced_incarnation_is_refused_and_may_not_answer() {
    let mut pair = Pair::up(ADA);
    let old = pair.shells[ADA].identity.clone();
    pair.restart(ADA, 30);
    pair.tell(ADA);
    pair.run_until(SECOND, |pair| pair.agreed().is_some());
    let (link, effects) = pair.shells[BOB].hello(pair.now, &old.hello(address(BOB), None));
    let refuse = Packet::Control(ControlPdu::Refuse(Refusal::StaleIncarnation));
    assert_eq!(effects, [Effect::Send(link, refuse), Effect::Close(link)]);
    pair.roads[ADA] = Road::Refused;
    pair.cut([true, true]);
    pair.run_until(SECOND, |pair| pair.states()[BOB] == HANDSHAKING);
    let own = *pair.shells[BOB].open.first().unwrap();
    let welcome = Packet::Control(ControlPdu::Welcome(old.welcome()));
    assert_eq!(pair.shells[BOB].packet(pair.now, own, welcome), [Effect::Close(own)]);
    assert_eq!(incarnations(&pair, BOB), [30]);
}

#[test]
fn a_late_hello_of_a_dead_incarnation_does_not_fence_the_living() {
    for side in [ADA, BOB] {
        let mut pair = Pair::up(ADA);
        let other = 1 - side;
        let mut dead = pair.shells[side].identity.clone();
        dead.local = unique(side, 7);
        let (link, effects) = pair.shells[other].hello(pair.now, &dead.hello(address(other), None));
        assert!(effects.contains(&Effect::Send(link, welcome(&pair, other))), "{effects:?}");
        assert_eq!(pair.agreed(), Some(0));
        pair.run_for(Duration::from_secs(6));
        assert!(!pair.shells[other].open.contains(&link));
        assert_eq!(pair.agreed(), Some(0));
        assert!(incarnations(&pair, other).is_empty());
    }
}

#[test]
fn a_late_welcome_of_a_dead_incarnation_does_not_fence_the_living() {
    let mut pair = Pair::new(1);
    pair.tell(BOB);
    pair.run_until(SECOND, |pair| pair.states()[BOB] == HANDSHAKING);
    let own = *pair.shells[BOB].open.first().unwrap();
    let dead = pair.shells[ADA].identity.clone();
    pair.restart(ADA, 30);
    let hello = pair.shells[ADA].identity.hello(address(BOB), None);
    pair.shells[BOB].hello(pair.now, &hello);
    let welcome = Packet::Control(ControlPdu::Welcome(dead.welcome()));
    assert_eq!(pair.shells[BOB].packet(pair.now, own, welcome), [Effect::Close(own)]);
    assert!(incarnations(&pair, BOB).is_empty());
}

#[test]
fn a_late_activate_of_a_dead_incarnation_is_not_taken_for_the_livings() {
    let mut pair = Pair::up(ADA);
    let dead = pair.shells[ADA].identity.hello(address(BOB), None);
    pair.restart(ADA, 30);
    pair.run_until(SECOND, |pair| pair.states()[BOB] == HANDSHAKING);
    let (parked, _) = pair.shells[BOB].hello(pair.now, &dead);
    let own = *pair.shells[BOB].open.first().unwrap();
    let now = pair.now;
    let effects = {
        let living = welcome(&pair, ADA);
        pair.shells[BOB].packet(now, own, living)
    };
    assert_eq!(effects, [Effect::Close(parked)]);
    pair.shells[BOB].packet(now, parked, activate(10));
    assert_eq!(pair.states()[BOB], AssociationState::Handshaking);
    pair.shells[BOB].packet(now, own, activate(1));
    assert_eq!(pair.states()[BOB], AssociationState::Up);
    assert_eq!(incarnations(&pair, BOB), [30]);
}

#[test]
fn a_hello_from_before_the_choice_does_not_replace_the_chosen_link() {
    for side in [ADA, BOB] {
        let mut pair = Pair::up(ADA);
        let uid = pair.shells[side].uid();
        let earlier = Uid::new(99);
        let cases = [
            (None, false),
            (Some(Seen { uid, generation: 0 }), false),
            (Some(Seen { uid: earlier, generation: 9 }), false),
            (Some(Seen { uid, generation: 1 }), true),
        ];
        for (seen, is_replaced) in cases {
            let hello = pair.shells[1 - side].identity.hello(address(side), seen);
            let active = pair.shells[side].active;
            pair.shells[side].hello(pair.now, &hello);
            assert_eq!(pair.shells[side].active != active, is_replaced, "{seen:?}");
        }
    }
}

#[test]
fn giving_up_on_a_lost_peer_closes_what_is_pending() {
    let mut pair = Pair::up(ADA);
    pair.roads = [Road::Blackhole; 2];
    pair.cut([true, true]);
    pair.tell(ADA);
    pair.run_for(Duration::from_millis(30_100));
    assert!(pair.has_given_up(ADA, Reason::Unreachable));
    assert!(pair.has_given_up(BOB, Reason::Unreachable));
    assert_eq!(pair.states(), [AssociationState::Idle; 2]);
    let dials = pair.count(BOB, is_dial);
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.count(BOB, is_dial), dials);
}

/// Gives the uids that a side was told of as new incarnations of its peer.
fn incarnations(pair: &Pair, side: Side) -> Vec<u64> {
    let uid = |action: &Action| match action {
        Action::Incarnation { current, .. } => Some(current.uid().get()),
        _ => None,
    };
    pair.shells[side].log.iter().filter_map(uid).collect()
}

fn welcome(pair: &Pair, side: Side) -> Packet {
    Packet::Control(ControlPdu::Welcome(pair.shells[side].identity.welcome()))
}

fn activate(generation: u64) -> Packet {
    Packet::Control(ControlPdu::Activate { generation, received: 0 })
}

const HANDSHAKING: AssociationState = AssociationState::Handshaking;
