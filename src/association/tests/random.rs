//! Throws random faults and random nonsense at the machines and looks at what may never happen.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{collection, proptest, test_runner::Config};

use super::pair::{Pair, Road};
use super::shell::{Effect, Packet, Shell};
use super::{ADA, BOB, Side, address, unique};
use crate::address::Uid;
use crate::association::control::{ControlPdu, Hello, Limits, Refusal, Seen, Welcome};
use crate::association::{Action, AssociationState, LinkId};
use crate::event::Reason;
use crate::settings::Settings;

/// What befalls a pair.
#[derive(Debug, Clone)]
enum Fault {
    Tell(Side),
    Pass(u64),
    /// Cuts every wire, and says who notices.
    Cut([bool; 2]),
    Road(Side, Road),
    Latency(u64),
    Restart(Side),
    /// Quarantines the incarnation that is at the other side.
    Quarantine(Side),
    /// Says that the other side may be back.
    Urge(Side),
    Stop(Side),
}

fn fault() -> impl Strategy<Value = Fault> {
    let side = || ADA..=BOB;
    let road = prop_oneof![Just(Road::Open), Just(Road::Refused), Just(Road::Blackhole)];
    prop_oneof![
        6 => side().prop_map(Fault::Tell),
        4 => (0..200u64).prop_map(Fault::Pass),
        2 => (200..15_000u64).prop_map(Fault::Pass),
        2 => any::<[bool; 2]>().prop_map(Fault::Cut),
        1 => (side(), road).prop_map(|(side, road)| Fault::Road(side, road)),
        1 => (2..6_000u64).prop_map(Fault::Latency),
        1 => side().prop_map(Fault::Restart),
        1 => side().prop_map(Fault::Quarantine),
        1 => side().prop_map(Fault::Urge),
        1 => side().prop_map(Fault::Stop),
    ]
}

fn befall(pair: &mut Pair, fault: Fault, next_uid: &mut u64) {
    match fault {
        Fault::Tell(side) => pair.tell(side),
        Fault::Pass(ms) => pair.run_for(Duration::from_millis(ms)),
        Fault::Cut(seen) => pair.cut(seen),
        Fault::Road(side, road) => pair.roads[side] = road,
        Fault::Latency(most) => pair.latency = 1..most,
        Fault::Restart(side) => {
            *next_uid += 1;
            pair.restart(side, *next_uid);
        }
        Fault::Quarantine(side) => {
            let uid = pair.shells[1 - side].uid();
            pair.quarantine(side, uid);
        }
        Fault::Urge(side) => pair.urge(side),
        Fault::Stop(side) => pair.stop(side),
    }
}

/// Ends every fault; what is half-open stays so.
fn heal(pair: &mut Pair, next_uid: &mut u64) {
    pair.roads = [Road::Open; 2];
    pair.latency = 1..10;
    for side in [ADA, BOB] {
        let is_fenced = pair.shells[1 - side].machine.quarantine.contains(pair.shells[side].uid());
        if is_fenced || pair.shells[side].machine.is_stopping {
            befall(pair, Fault::Restart(side), next_uid);
        }
    }
}

/// Lets both sides talk until they hear each other, within `seconds`.
fn reunite(pair: &mut Pair, seconds: u64) {
    for _ in 0..seconds {
        pair.tell(ADA);
        pair.tell(BOB);
        pair.run_for(Duration::from_secs(1));
        if pair.states() == [AssociationState::Up; 2] && pair.agreed().is_some() {
            return;
        }
    }
    panic!("still {:?} after {seconds} s", pair.states());
}

/// Runs on until no user's frame is in flight, on the slowest wire there may be.
fn calm(pair: &mut Pair) {
    pair.run_for(Duration::from_secs(20));
    assert!(pair.agreed().is_some(), "{:?}", pair.states());
}

proptest! {
    #![proptest_config(Config { cases: 2_000, failure_persistence: None, ..Config::default() })]

    /// The shells and the pair check what may never happen after each step; see `Shell::wrong`.
    #[test]
    fn after_any_faults_both_are_up_and_every_frame_is_accounted_for(
        seed in any::<u64>(),
        faults in collection::vec(fault(), 0..40),
    ) {
        let mut pair = Pair::new(seed);
        let mut next_uid = 100;
        for fault in faults {
            befall(&mut pair, fault, &mut next_uid);
        }
        heal(&mut pair, &mut next_uid);
        reunite(&mut pair, 60);
        calm(&mut pair);
        pair.cut([true, true]);
        reunite(&mut pair, 15);
        calm(&mut pair);
        for side in [ADA, BOB] {
            assert_accounted(&pair, side);
        }
    }
}

/// Checks that what was written to the present incarnation is delivered or lost, frame by frame.
fn assert_accounted(pair: &Pair, side: Side) {
    let (shell, peer) = (&pair.shells[side], &pair.shells[1 - side]);
    let arrived = peer.inbox.iter().filter(|(uid, _)| *uid == shell.uid()).count();
    assert!(shell.outbox.is_empty());
    assert_eq!(arrived as u64 + shell.lost, shell.written.len() as u64, "side {side}");
    assert_eq!(arrived as u64, peer.received, "side {side}");
}

/// What a hostile peer, or the shell, says to one machine at any moment.
#[derive(Debug, Clone)]
enum Input {
    Tell,
    /// The dial that is under way works or fails.
    Dialled(bool),
    Hello(Hello),
    /// Comes on the latest link, or on one of those before it.
    Packet(u64, Packet),
    Flushed(u64),
    Pass(u64),
    Due,
    Quarantine(u64),
    Stop,
}

fn input() -> impl Strategy<Value = Input> {
    let link = || 0..4u64;
    prop_oneof![
        3 => Just(Input::Tell),
        6 => any::<bool>().prop_map(Input::Dialled),
        4 => hello().prop_map(Input::Hello),
        9 => (link(), pdu()).prop_map(|(link, pdu)| Input::Packet(link, Packet::Control(pdu))),
        1 => link().prop_map(|link| Input::Packet(link, Packet::End)),
        1 => link().prop_map(Input::Flushed),
        1 => (0..20_000u64).prop_map(Input::Pass),
        3 => Just(Input::Due),
        1 => number().prop_map(Input::Quarantine),
        1 => Just(Input::Stop),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    let seen =
        (number(), number()).prop_map(|(uid, generation)| Seen { uid: Uid::new(uid), generation });
    let seen = prop_oneof![Just(None), seen.prop_map(Some)];
    (number(), seen).prop_map(|(uid, seen)| Hello {
        from: unique(PEER, uid),
        to: address(1),
        limits: Limits { max_message: 1 },
        registry: 0,
        seen,
    })
}

fn pdu() -> impl Strategy<Value = ControlPdu> {
    let limits = Limits { max_message: 1 };
    prop_oneof![
        4 => (ADA..=PEER, number()).prop_map(move |(side, uid)| ControlPdu::Welcome(Welcome {
            version: 1,
            from: unique(side, uid),
            limits,
            registry: 0,
        })),
        1 => Just(ControlPdu::Refuse(Refusal::StaleIncarnation)),
        1 => Just(ControlPdu::Refuse(Refusal::Stopping)),
        4 => number().prop_map(|generation| ControlPdu::Activate { generation, received: 0 }),
        1 => number().prop_map(|nonce| ControlPdu::Ping { nonce, received: u64::MAX }),
        2 => number().prop_map(|nonce| ControlPdu::Pong { nonce, received: u64::MAX }),
        1 => Just(ControlPdu::Received { received: u64::MAX }),
        1 => Just(ControlPdu::Goodbye),
        1 => Just(ControlPdu::AskFailed { correlation: 1, reason: Reason::NoReply }),
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0..4u64, 1 => Just(u64::MAX)]
}

proptest! {
    #![proptest_config(Config { cases: 3_000, failure_persistence: None, ..Config::default() })]

    /// ADA's side chooses against BOB's peer, the other one does not.
    #[test]
    fn nonsense_in_any_state_breaks_no_rule(
        is_chooser in any::<bool>(),
        inputs in collection::vec(input(), 0..60),
    ) {
        let own = if is_chooser { ADA } else { PEER + 1 };
        let mut shell =
            Shell::new(Settings::lan().association, unique(own, 1), &unique(PEER, 2));
        let (mut now, mut dials) = (Instant::now(), BTreeSet::new());
        for input in inputs {
            let effects = say(&mut shell, &mut now, &mut dials, input);
            dials.extend(effects.iter().filter_map(|effect| match effect {
                Effect::Dial(link) => Some(*link),
                Effect::Send(..) | Effect::Flush(_) | Effect::Close(_) => None,
            }));
            assert_eq!(shell.wrong(), None);
            let stops = shell.log.iter().filter(|action| **action == Action::Stopped).count();
            assert!(stops <= 1 && (stops == 0 || shell.open.is_empty()));
        }
    }
}

fn say(
    shell: &mut Shell,
    now: &mut Instant,
    dials: &mut BTreeSet<LinkId>,
    input: Input,
) -> Vec<Effect> {
    match input {
        Input::Tell => shell.tell(*now),
        Input::Dialled(has_worked) => match dials.pop_first() {
            Some(link) if has_worked => shell.dialled(*now, link),
            Some(link) => shell.dial_failed(*now, link),
            None => Vec::new(),
        },
        Input::Hello(hello) => {
            let to = shell.identity.local.address().clone();
            shell.hello(*now, &Hello { to, ..hello }).1
        }
        Input::Packet(back, packet) => shell.packet(*now, latest(shell, back), packet),
        Input::Flushed(back) => shell.flushed(latest(shell, back)),
        Input::Pass(ms) => {
            *now += Duration::from_millis(ms);
            shell.timeout(*now)
        }
        Input::Due => {
            *now = shell.machine.poll_timeout().unwrap_or(*now).max(*now);
            shell.timeout(*now)
        }
        Input::Quarantine(uid) => shell.quarantine(*now, Uid::new(uid)),
        Input::Stop => shell.stop(*now),
    }
}

fn latest(shell: &Shell, back: u64) -> LinkId {
    LinkId(shell.machine.next_link.saturating_sub(back))
}

/// The side of the hostile peer.
const PEER: Side = BOB;
