//! Scripts of dials, handshakes and the choice of a link.

use std::time::{Duration, Instant};

use super::pair::{Pair, Road};
use super::shell::{Effect, Packet, Shell};
use super::watch::is_dial;
use super::{ADA, BOB, address, unique};
use crate::address::UniqueAddress;
use crate::association::control::{ControlPdu, Limits, Refusal, Welcome};
use crate::association::{Action, AssociationState, LinkId};
use crate::event::Reason;
use crate::settings::Settings;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn demand_dials_once() {
    let mut pair = Pair::new(1);
    for _ in 0..5 {
        pair.tell(ADA);
    }
    assert_eq!(pair.states(), [AssociationState::Dialing, AssociationState::Idle]);
    pair.run_for(SECOND);
    assert_eq!(pair.count(ADA, is_dial), 1);
    assert_eq!(pair.count(BOB, is_dial), 0);
}

#[test]
fn what_was_told_before_the_handshake_flows_in_order_after_it() {
    for dialler in [ADA, BOB] {
        let mut pair = Pair::new(1);
        for _ in 0..100 {
            pair.tell(dialler);
        }
        pair.run_for(SECOND);
        assert_eq!(pair.states(), [AssociationState::Up; 2]);
        assert_eq!(pair.numbers_at(1 - dialler), (1..=100).collect::<Vec<_>>());
    }
}

#[test]
fn the_link_of_the_smaller_address_is_chosen_when_both_dial() {
    for seed in 0..100 {
        let mut pair = Pair::new(seed);
        pair.latency = 1..400;
        for _ in 0..10 {
            pair.tell(ADA);
            pair.tell(BOB);
        }
        let took = pair.run_until(Duration::from_secs(3), |pair| pair.is_quiet());
        assert!(pair.agreed().is_some(), "{:?} after {took:?}", pair.states());
        for side in [ADA, BOB] {
            assert_eq!(pair.numbers_at(side), (1..=10).collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(pair.shells[side].lost, 0);
            assert_eq!(pair.count(side, is_dial), 1);
            assert_eq!(pair.count(side, |action| matches!(action, Action::Activate { .. })), 1);
            assert_eq!(pair.open_wires(), 1);
        }
    }
}

#[test]
fn the_peers_link_is_taken_when_the_choosers_dial_fails() {
    let mut pair = Pair::new(1);
    pair.roads[ADA] = Road::Refused;
    pair.latency = 20..21;
    pair.tell(BOB);
    pair.run_for(Duration::from_millis(30));
    pair.tell(ADA);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.states(), [AssociationState::Up; 2]);
    assert_eq!(pair.numbers_at(BOB), [1]);
    assert_eq!(pair.numbers_at(ADA), [1]);
}

#[test]
fn a_failed_dial_is_repeated_at_growing_distances() {
    let mut pair = Pair::new(1);
    pair.roads[ADA] = Road::Refused;
    pair.tell(ADA);
    let start = pair.now;
    pair.run_until(SECOND, |pair| pair.states()[ADA] == AssociationState::Backoff);
    pair.run_until(SECOND, |pair| pair.count(ADA, is_dial) == 2);
    assert!(pair.now - start <= Duration::from_millis(110), "{:?}", pair.now - start);
    pair.run_for(Duration::from_secs(10));
    let dials = pair.count(ADA, is_dial);
    assert!((6..=10).contains(&dials), "{dials} dials");
    pair.roads[ADA] = Road::Open;
    pair.run_until(Duration::from_secs(10), |pair| pair.agreed().is_some());
    pair.run_for(SECOND);
    assert_eq!(pair.numbers_at(BOB), [1]);
}

#[test]
fn demand_does_not_cut_a_back_off_short() {
    let mut pair = Pair::new(1);
    pair.roads[ADA] = Road::Refused;
    pair.tell(ADA);
    pair.run_until(SECOND, |pair| pair.states()[ADA] == AssociationState::Backoff);
    let dials = pair.count(ADA, is_dial);
    pair.tell(ADA);
    assert_eq!(pair.count(ADA, is_dial), dials);
    assert_eq!(pair.states()[ADA], AssociationState::Backoff);
}

#[test]
fn a_timeout_before_its_time_changes_nothing() {
    let (mut shell, now, link) = greeted();
    let early = |shell: &mut Shell| {
        let due = shell.machine.poll_timeout().unwrap();
        assert_eq!(shell.timeout(due - Duration::from_millis(1)), []);
        assert_eq!(shell.machine.poll_timeout(), Some(due));
    };
    early(&mut shell);
    shell.packet(now, link, welcome(unique(BOB, 2)));
    early(&mut shell);
    shell.packet(now, link, Packet::End);
    early(&mut shell);
    let due = shell.machine.poll_timeout().unwrap();
    let Some(Effect::Dial(link)) = shell.timeout(due).pop() else { panic!("no dial") };
    early(&mut shell);
    shell.dialled(due, link);
    shell.packet(due, link, welcome(unique(BOB, 2)));
    shell.stop(due);
    assert_eq!(shell.machine.state(), AssociationState::Draining);
    early(&mut shell);
}

#[test]
fn a_dial_without_an_answer_is_ended_and_repeated() {
    let mut pair = Pair::new(1);
    pair.roads[ADA] = Road::Blackhole;
    pair.tell(ADA);
    pair.run_for(Duration::from_millis(4_999));
    assert_eq!(pair.states()[ADA], AssociationState::Dialing);
    pair.run_for(Duration::from_millis(1));
    assert_eq!(pair.states()[ADA], AssociationState::Backoff);
    pair.roads[ADA] = Road::Open;
    pair.run_until(SECOND, |pair| pair.agreed().is_some());
}

#[test]
fn giving_up_turns_what_waits_into_dead_letters_and_the_next_demand_starts_over() {
    let mut pair = Pair::new(1);
    pair.roads[ADA] = Road::Refused;
    pair.tell(ADA);
    let took = pair.run_until(Duration::from_secs(40), |pair| !pair.shells[ADA].dead.is_empty());
    assert_eq!(took, Duration::from_secs(30));
    assert_eq!(pair.states()[ADA], AssociationState::Idle);
    assert!(pair.has_given_up(ADA, Reason::Unreachable));
    let dials = pair.count(ADA, is_dial);
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.count(ADA, is_dial), dials, "nothing waits, nothing is dialled");
    pair.tell(ADA);
    assert_eq!(pair.count(ADA, is_dial), dials + 1);
    pair.run_for(Duration::from_millis(120));
    assert_eq!(pair.count(ADA, is_dial), dials + 2, "the waits start over");
}

#[test]
fn a_final_refusal_gives_up_at_once_and_waits_for_demand() {
    for why in refusals() {
        let is_final = !matches!(why, Refusal::Stopping | Refusal::TooManyPeers);
        let (mut shell, now, link) = greeted();
        let effects = shell.packet(now, link, Packet::Control(ControlPdu::Refuse(why.clone())));
        assert_eq!(effects, [Effect::Close(link)]);
        assert!(shell.log.contains(&Action::Refused { uid: None, why: why.clone() }));
        assert_eq!(shell.dead, if is_final { vec![1] } else { vec![] }, "{why}");
        assert_eq!(shell.machine.poll_timeout().is_none(), is_final, "{why}");
        let at_rest = shell.machine.state() == AssociationState::Idle;
        assert_eq!(at_rest, is_final, "{why}: nothing waits, so the peer may be forgotten");
        shell.tell(now);
        let due = shell.machine.poll_timeout().unwrap();
        assert!(due <= now + Duration::from_millis(100), "{why}");
        assert!(matches!(shell.timeout(due)[..], [Effect::Dial(_)]), "{why}");
    }
}

#[test]
fn a_dial_that_succeeds_after_the_choice_is_closed() {
    let mut shell = Shell::new(Settings::lan().association, unique(BOB, 2), &unique(ADA, 1));
    let now = Instant::now();
    let effects = shell.tell(now);
    let [Effect::Dial(own)] = effects[..] else { panic!("{effects:?}") };
    let hello = Pair::new(1).shells[ADA].identity.hello(address(BOB), None);
    let (parked, _) = shell.hello(now, &hello);
    assert_eq!(shell.machine.state(), AssociationState::Handshaking);
    shell.packet(now, parked, activate(1));
    assert_eq!(shell.machine.state(), AssociationState::Up);
    assert_eq!(shell.dialled(now, own), [Effect::Close(own)]);
    assert_eq!(shell.dial_failed(now, own), []);
    assert_eq!(shell.wrong(), None);
}

#[test]
fn the_failed_handshake_of_a_peer_is_no_reason_to_dial() {
    let mut pair = Pair::new(1);
    let hello = pair.shells[ADA].identity.hello(address(BOB), None);
    let now = pair.now;
    let (link, _) = pair.shells[BOB].hello(now, &hello);
    pair.shells[BOB].packet(now, link, Packet::End);
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.count(BOB, is_dial), 0);
    let (link, _) = pair.shells[BOB].hello(pair.now, &hello);
    pair.tell(BOB);
    pair.shells[BOB].packet(pair.now, link, Packet::End);
    pair.run_for(SECOND);
    assert_eq!(pair.count(BOB, is_dial), 1, "demand was told while the peer's link was open");
}

#[test]
fn silence_is_bridged_by_pings_that_measure_the_round_trip() {
    let mut pair = Pair::up(ADA);
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.agreed(), Some(0));
    let trip = pair.shells[ADA].machine.round_trip().unwrap();
    assert!(trip >= Duration::from_millis(2) && trip < Duration::from_millis(20), "{trip:?}");
}

#[test]
fn waits_without_end_do_not_overflow() {
    let mut settings = Settings::lan().association;
    settings.give_up_after = Duration::MAX;
    settings.liveness_timeout = Duration::MAX;
    settings.drain_timeout = Duration::MAX;
    let mut shell = Shell::new(settings, unique(ADA, 1), &unique(BOB, 2));
    let now = Instant::now();
    let link = greet(&mut shell, now);
    shell.packet(now, link, welcome(unique(BOB, 2)));
    assert!(shell.machine.poll_timeout() > Some(now));
    shell.timeout(now + SECOND);
    shell.stop(now);
    assert_eq!(shell.machine.state(), AssociationState::Draining);
}

/// Gives ADA with one frame told and a link that is greeted.
pub(super) fn greeted() -> (Shell, Instant, LinkId) {
    let mut shell = Shell::new(Settings::lan().association, unique(ADA, 1), &unique(BOB, 2));
    let now = Instant::now();
    let link = greet(&mut shell, now);
    (shell, now, link)
}

fn greet(shell: &mut Shell, now: Instant) -> LinkId {
    let effects = shell.tell(now);
    let [Effect::Dial(link)] = effects[..] else { panic!("{effects:?}") };
    let effects = shell.dialled(now, link);
    assert!(matches!(effects[..], [Effect::Send(_, Packet::Hello(_))]), "{effects:?}");
    link
}

pub(super) fn welcome(from: UniqueAddress) -> Packet {
    let limits = Limits { max_message: 1024 };
    Packet::Control(ControlPdu::Welcome(Welcome { version: 1, from, limits, registry: 1 }))
}

pub(super) fn activate(generation: u64) -> Packet {
    Packet::Control(ControlPdu::Activate { generation, received: 0 })
}

fn refusals() -> [Refusal; 8] {
    [
        Refusal::Version { min: 2, max: 3 },
        Refusal::System { system: "Other".to_owned() },
        Refusal::WrongTarget { address: address(7) },
        Refusal::OwnAddress,
        Refusal::StaleIncarnation,
        Refusal::Quarantined,
        Refusal::Stopping,
        Refusal::TooManyPeers,
    ]
}
