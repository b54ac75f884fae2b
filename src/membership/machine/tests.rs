//! Lets a few machines talk in virtual time, where every PDU arrives at once or never.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{JoinError, Membership, Phase, RequestError, Setup};
use crate::address::{Address, Uid, UniqueAddress};
use crate::membership::detector::PhiSettings;
use crate::membership::downing::{DowningStrategy, KeepMajority, KeepOldest};
use crate::membership::event::{ClusterEvent, JoinRefusal, StopCause};
use crate::membership::gossip::RemovalTime;
use crate::membership::leader::Minimum;
use crate::membership::member::MemberStatus;
use crate::membership::pdu::{MembershipPdu, decode, encode};
use crate::membership::profile::Profile;
use crate::membership::refusals::RefusedPdu;
use crate::membership::settings::{ClusterSettings, DetectorSettings};
use crate::membership::state::Convergence;
use crate::membership::tests::{label, unique};

const SECOND: Duration = Duration::from_secs(1);

fn address(n: u16) -> Address {
    unique(n).address().clone()
}

fn seeds(of: &[u16]) -> Vec<Address> {
    of.iter().map(|n| address(*n)).collect()
}

fn settings() -> ClusterSettings {
    ClusterSettings::default()
}

/// Holds the machines by their ports, what they have told, and which ways are cut.
struct World {
    now: Instant,
    start: Instant,
    nodes: BTreeMap<u16, Membership>,
    events: BTreeMap<u16, Vec<ClusterEvent>>,
    /// From whom to whom nothing arrives.
    cut: BTreeSet<(u16, u16)>,
    /// Machines that nobody drives.
    paused: BTreeSet<u16>,
    /// What waits for paused machines.
    waiting: Vec<(u16, UniqueAddress, MembershipPdu)>,
    incarnations: u64,
    /// The next PDU of this kind is lost.
    drop_next: Option<fn(&MembershipPdu) -> bool>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            nodes: BTreeMap::new(),
            events: BTreeMap::new(),
            cut: BTreeSet::new(),
            paused: BTreeSet::new(),
            waiting: Vec::new(),
            incarnations: 0,
            drop_next: None,
        }
    }

    /// Starts nodes that all join through the same seeds, and lets them come Up.
    fn formed(nodes: &[u16]) -> Self {
        let mut world = Self::new();
        nodes.iter().for_each(|n| world.start(*n, &nodes[..nodes.len().min(2)]));
        world.run(20);
        world.assert_agreed(nodes);
        world
    }

    fn start(&mut self, n: u16, seed: &[u16]) {
        self.start_with(n, seed, settings(), Profile::default());
    }

    fn start_with(&mut self, n: u16, seed: &[u16], settings: ClusterSettings, profile: Profile) {
        self.launch(n, settings, profile, Box::new(KeepMajority::default()));
        self.join(n, seed).unwrap();
    }

    fn launch(
        &mut self,
        n: u16,
        settings: ClusterSettings,
        profile: Profile,
        strategy: Box<dyn DowningStrategy>,
    ) {
        self.incarnations += 1;
        let own = UniqueAddress::new(address(n), Uid::new(self.incarnations));
        let started = (self.start, RemovalTime::since_1970(Duration::from_secs(1_000)));
        let seed = self.incarnations;
        let setup = Setup { own, profile, settings, strategy, seed, started };
        self.nodes.insert(n, Membership::new(setup).unwrap());
        self.events.insert(n, Vec::new());
    }

    fn join(&mut self, n: u16, seed: &[u16]) -> Result<(), JoinError> {
        let now = self.now;
        let joined = self.node(n).handle_join(now, seeds(seed));
        self.pump();
        joined
    }

    fn node(&mut self, n: u16) -> &mut Membership {
        self.nodes.get_mut(&n).unwrap()
    }

    /// Does something to a node, and lets everything that follows happen.
    fn with<T>(&mut self, n: u16, act: impl FnOnce(&mut Membership, Instant) -> T) -> T {
        let now = self.now;
        let result = act(self.node(n), now);
        self.pump();
        result
    }

    fn crash(&mut self, n: u16) {
        self.nodes.remove(&n).unwrap();
    }

    fn cut_off(&mut self, left: &[u16], right: &[u16]) {
        for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b))) {
            self.cut.extend([(a, b), (b, a)]);
        }
    }

    fn heal(&mut self) {
        self.cut.clear();
    }

    fn run(&mut self, seconds: u64) {
        self.run_for(SECOND * u32::try_from(seconds).unwrap());
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..1_000_000 {
            let active = self.nodes.iter().filter(|(n, _)| !self.paused.contains(n));
            let due = active.filter_map(|(_, node)| node.poll_timeout()).min();
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            self.tick();
        }
        panic!("time stands still at {:?}", self.now - self.start);
    }

    fn tick(&mut self) {
        let now = self.now;
        for (n, node) in &mut self.nodes {
            if !self.paused.contains(n) && node.poll_timeout().is_some_and(|due| due <= now) {
                node.handle_timeout(now);
            }
        }
        self.pump();
    }

    /// Lets a machine go on that was paused: first it gets what has waited.
    fn resume(&mut self, n: u16) {
        self.paused.remove(&n);
        for (to, from, pdu) in std::mem::take(&mut self.waiting) {
            self.deliver(to, &from, pdu);
        }
        let now = self.now;
        self.node(n).handle_timeout(now);
        self.pump();
    }

    /// Carries PDUs until nobody has any more.
    fn pump(&mut self) {
        loop {
            let mut sent = Vec::new();
            for (n, node) in &mut self.nodes {
                if self.paused.contains(n) {
                    continue;
                }
                while let Some(transmit) = node.poll_transmit() {
                    sent.push((*n, node.own().clone(), transmit));
                }
            }
            for (from, unique, transmit) in sent.iter() {
                let to = transmit.to.port();
                if !self.cut.contains(&(*from, to)) {
                    self.deliver(to, unique, transmit.pdu.clone());
                }
            }
            self.collect();
            if sent.is_empty() {
                return;
            }
        }
    }

    /// Lets a node hear that frames of another arrive, which are none of membership.
    fn chatter(&mut self, from: u16, to: u16) {
        let from = self.nodes[&from].own().clone();
        self.with(to, |node, now| node.handle_traffic(now, &from));
    }

    fn deliver(&mut self, to: u16, from: &UniqueAddress, pdu: MembershipPdu) {
        if self.drop_next.is_some_and(|is_lost| is_lost(&pdu)) {
            self.drop_next = None;
            return;
        }
        if self.paused.contains(&to) {
            self.waiting.push((to, from.clone(), pdu));
        } else if let Some(node) = self.nodes.get_mut(&to) {
            let mut bytes = Vec::new();
            encode(&pdu, &mut bytes).unwrap();
            node.handle_traffic(self.now, from);
            node.handle_pdu(self.now, from, decode(&bytes).unwrap());
        }
    }

    fn collect(&mut self) {
        for (n, node) in &mut self.nodes {
            if self.paused.contains(n) {
                continue;
            }
            let told = self.events.entry(*n).or_default();
            while let Some(event) = node.poll_event() {
                told.push(event);
            }
        }
    }

    fn phase(&self, n: u16) -> Phase {
        self.nodes[&n].phase()
    }

    /// Gives what node `n` knows: ports and statuses in their order.
    fn members(&self, n: u16) -> Vec<(u16, MemberStatus)> {
        let state = self.nodes[&n].state();
        state.members().iter().map(|m| (m.node().address().port(), m.status())).collect()
    }

    fn status(&self, of: u16, at: u16) -> Option<MemberStatus> {
        self.members(at).into_iter().find(|(n, _)| *n == of).map(|(_, status)| status)
    }

    /// Checks that these are one converged cluster of Up members, and nobody else is in it.
    fn assert_agreed(&self, nodes: &[u16]) {
        let first = self.nodes[&nodes[0]].state();
        for n in nodes {
            let state = self.nodes[n].state();
            let mut expected: Vec<_> = nodes.iter().map(|n| (*n, MemberStatus::Up)).collect();
            expected.sort_unstable();
            assert_eq!(self.members(*n), expected, "as node {n} sees it");
            assert_eq!(state.leader(), first.leader(), "as node {n} sees it");
            assert_eq!(state.cluster(), first.cluster(), "as node {n} sees it");
            assert_eq!(state.convergence(), Convergence::Reached, "as node {n} sees it");
            assert_eq!(state.unreachable().len(), 0, "as node {n} sees it");
            assert_eq!(self.nodes[n].dropped(), 0);
        }
    }

    /// Gives the events of node `n` about the node at a port, as words.
    fn told(&self, n: u16, about: u16) -> Vec<String> {
        let words = self.events[&n].iter().filter_map(|event| {
            let (word, member) = match event {
                ClusterEvent::Joined(m) => ("joined".into(), m),
                ClusterEvent::WeaklyUp(m) => ("weakly up".into(), m),
                ClusterEvent::Up(m) => ("up".into(), m),
                ClusterEvent::Leaving(m) => ("leaving".into(), m),
                ClusterEvent::Exited(m) => ("exited".into(), m),
                ClusterEvent::Downed(m) => ("downed".into(), m),
                ClusterEvent::Removed { member, previous } => {
                    (format!("removed from {previous}"), member)
                }
                ClusterEvent::Unreachable(m) => ("unreachable".into(), m),
                ClusterEvent::Reachable(m) => ("reachable".into(), m),
                ClusterEvent::LeaderChanged(_)
                | ClusterEvent::JoinRefused { .. }
                | ClusterEvent::Island { .. }
                | ClusterEvent::Starved { .. }
                | ClusterEvent::Stopped(_) => return None,
            };
            (member.node().address().port() == about).then_some(word)
        });
        words.collect()
    }

    fn islands(&self, n: u16) -> usize {
        let is_island = |event: &&ClusterEvent| matches!(event, ClusterEvent::Island { .. });
        self.events[&n].iter().filter(is_island).count()
    }
}

#[test]
fn a_single_seed_forms_a_cluster_at_once() {
    let mut world = World::new();
    world.start(1, &[1]);
    world.assert_agreed(&[1]);
    assert_eq!(world.told(1, 1), ["up"]);
    let state = world.nodes[&1].state();
    assert_eq!(state.self_member().and_then(|m| m.up_number()).map(|n| n.get()), Some(1));
    assert!(matches!(world.events[&1][1], ClusterEvent::LeaderChanged(Some(_))));
}

#[test]
fn nodes_join_in_any_order() {
    for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
        let mut world = World::new();
        for n in order {
            world.start(n, &[1, 2]);
            world.run(4);
        }
        world.run(10);
        world.assert_agreed(&[1, 2, 3]);
    }
}

#[test]
fn many_nodes_join_all_at_once() {
    let mut world = World::new();
    let all: Vec<u16> = (1..=20).collect();
    all.iter().for_each(|n| world.start(*n, &[1, 2, 3]));
    world.run(15);
    world.assert_agreed(&all);
    assert_eq!(world.nodes[&1].refusals().iter().count(), 0);
}

#[test]
fn all_wait_for_a_first_seed_that_is_late() {
    let mut world = World::new();
    world.start(2, &[1, 2]);
    world.start(3, &[1, 2]);
    world.run(60);
    assert_eq!([world.phase(2), world.phase(3)], [Phase::Joining; 2]);
    assert!(world.nodes[&2].explain(world.now).to_string().contains("asks"));
    world.start(1, &[1, 2]);
    world.run(10);
    world.assert_agreed(&[1, 2, 3]);
}

#[test]
fn a_first_seed_that_restarts_joins_what_is_there() {
    let mut world = World::formed(&[1, 2, 3]);
    let cluster = world.nodes[&2].cluster();
    world.crash(1);
    world.run(1);
    world.start(1, &[1, 2]);
    world.run(20);
    world.assert_agreed(&[1, 2, 3]);
    assert_eq!(world.nodes[&1].cluster(), cluster);
    assert_eq!(world.islands(2) + world.islands(3), 0);
}

#[test]
fn a_node_restarted_at_its_address_gets_in_again_and_its_past_is_removed() {
    let mut world = World::formed(&[1, 2, 3]);
    world.events.values_mut().for_each(Vec::clear);
    world.crash(3);
    world.start(3, &[1, 2]);
    world.run(20);
    world.assert_agreed(&[1, 2, 3]);
    let told = world.told(2, 3);
    assert!(told.contains(&"removed from Down".to_owned()), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("up"), "{told:?}");
}

#[test]
fn settings_that_do_not_fit_are_refused_on_both_sides() {
    let mut world = World::formed(&[1, 2]);
    let mut other = settings();
    other.detector = DetectorSettings::Deadline { acceptable_pause: 5 * SECOND };
    world.launch(3, other, Profile::default(), Box::new(KeepOldest::default()));
    world.join(3, &[1, 2]).unwrap();
    let names = vec![label("detector"), label("downing.strategy")];
    let why = JoinRefusal::Settings { names };
    let joiner = world.nodes[&3].own().clone();
    let by = |n: u16, world: &World| ClusterEvent::JoinRefused {
        joiner: joiner.clone(),
        by: world.nodes[&n].own().clone(),
        why: why.clone(),
    };
    assert_eq!(world.events[&3], [by(1, &world)]);
    assert_eq!(world.events[&1].last(), Some(&by(1, &world)));
    assert_eq!(world.phase(3), Phase::Idle);
    world.run(10);
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_member_leaves_without_any_downing() {
    let mut world = World::formed(&[1, 2, 3]);
    world.events.values_mut().for_each(Vec::clear);
    world.with(2, |node, now| node.handle_leave(now, &address(3))).unwrap();
    world.run(4);
    assert_eq!(world.phase(3), Phase::Exiting);
    assert!(world.told(3, 3).contains(&"exited".to_owned()));
    world.with(3, |node, now| node.handle_exit_done(now));
    assert_eq!(world.phase(3), Phase::Stopped(StopCause::Left));
    world.run(4);
    world.assert_agreed(&[1, 2]);
    assert_eq!(world.told(1, 3), ["leaving", "exited", "removed from Exiting"]);
    assert_eq!(world.events[&3].last(), Some(&ClusterEvent::Stopped(StopCause::Left)));
}

#[test]
fn the_leader_leaves_and_the_next_one_takes_over() {
    let mut world = World::formed(&[1, 2, 3]);
    world.with(1, |node, now| node.handle_leave(now, &address(1))).unwrap();
    world.run(4);
    world.with(1, |node, now| node.handle_exit_done(now));
    world.run(4);
    world.assert_agreed(&[2, 3]);
}

#[test]
fn a_member_that_dies_while_it_leaves_is_removed() {
    let mut world = World::formed(&[1, 2, 3]);
    world.with(3, |node, now| node.handle_leave(now, &address(3))).unwrap();
    world.run(4);
    assert_eq!(world.phase(3), Phase::Exiting);
    world.crash(3);
    world.run(15);
    world.assert_agreed(&[1, 2]);
    assert!(!world.told(1, 3).contains(&"downed".to_owned()));
}

#[test]
fn the_last_member_leaves() {
    let mut world = World::formed(&[1]);
    world.with(1, |node, now| node.handle_leave(now, &address(1))).unwrap();
    world.run(3);
    world.with(1, |node, now| node.handle_exit_done(now));
    assert_eq!(world.phase(1), Phase::Stopped(StopCause::Left));
    assert_eq!(world.nodes[&1].poll_timeout(), None);
}

#[test]
fn a_crashed_member_becomes_unreachable_is_downed_and_removed() {
    let mut world = World::formed(&[1, 2, 3, 4, 5]);
    world.events.values_mut().for_each(Vec::clear);
    world.crash(3);
    let detection = world.nodes[&1].detection_time();
    world.run_for(detection + SECOND);
    assert!(world.nodes[&1].state().unreachable().iter().any(|n| *n.address() == address(3)));
    let text = world.nodes[&1].explain(world.now).to_string();
    assert!(text.contains("downing") && text.contains("mem://Test@node:3"), "{text}");
    world.run(20);
    world.assert_agreed(&[1, 2, 4, 5]);
    for n in [1, 2, 4, 5] {
        assert_eq!(world.told(n, 3), ["unreachable", "downed", "removed from Down"], "by {n}");
    }
}

#[test]
fn the_minority_of_a_partition_stops_and_the_majority_goes_on() {
    let mut world = World::formed(&[1, 2, 3, 4, 5]);
    world.cut_off(&[1, 2], &[3, 4, 5]);
    world.run(40);
    world.assert_agreed(&[3, 4, 5]);
    for n in [1, 2] {
        assert_eq!(world.phase(n), Phase::Stopped(StopCause::Downed), "{n}");
        assert_eq!(world.events[&n].last(), Some(&ClusterEvent::Stopped(StopCause::Downed)));
    }
}

#[test]
fn a_partition_that_heals_in_time_leaves_no_trace() {
    let mut world = World::formed(&[1, 2, 3, 4, 5]);
    world.cut_off(&[1, 2], &[3, 4, 5]);
    world.run(8);
    assert!(!world.nodes[&3].state().unreachable().is_empty());
    world.heal();
    world.run(8);
    world.assert_agreed(&[1, 2, 3, 4, 5]);
}

#[test]
fn a_user_downs_a_member_that_lives_and_it_stops() {
    let mut world = World::formed(&[1, 2, 3]);
    world.with(2, |node, now| node.handle_down(now, &address(3))).unwrap();
    world.run(1);
    assert_eq!(world.phase(3), Phase::Stopped(StopCause::Downed));
    world.run(15);
    world.assert_agreed(&[1, 2]);
    assert_eq!(world.told(1, 3).last().map(String::as_str), Some("removed from Down"));
    let refused = world.with(2, |node, now| node.handle_down(now, &address(3)));
    assert_eq!(refused, Err(RequestError::NotAMember { address: address(3) }));
}

#[test]
fn a_quarantined_node_downs_itself_and_is_down_everywhere() {
    let mut world = World::formed(&[1, 2, 3]);
    let by = world.nodes[&1].own().clone();
    world.with(3, |node, now| node.handle_quarantined_by(now, &by));
    assert_eq!(world.phase(3), Phase::Stopped(StopCause::Downed));
    assert_eq!([1, 2].map(|n| world.status(3, n)), [Some(MemberStatus::Down); 2]);
    world.run(15);
    world.assert_agreed(&[1, 2]);
}

#[test]
fn quarantine_by_a_stranger_is_ignored() {
    let mut world = World::formed(&[1, 2]);
    world.with(2, |node, now| node.handle_quarantined_by(now, &unique(9)));
    world.run(3);
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_joiner_becomes_weakly_up_while_a_member_is_unreachable() {
    let mut world = World::formed(&[1, 2, 3]);
    world.crash(3);
    world.run(7);
    world.start(4, &[1, 2]);
    world.nodes.get_mut(&1).unwrap().settings.downing.stable_after =
        crate::membership::downing::StableAfter::Fixed(60 * SECOND);
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        world.run(1);
        seen.extend(world.status(4, 2));
    }
    assert!(seen.contains(&MemberStatus::Joining), "{seen:?}");
    world.assert_agreed(&[1, 2, 4]);
}

#[test]
fn a_joiner_waits_for_enough_members() {
    let mut few = settings();
    few.minimum = Minimum { members: 3, ..Minimum::default() };
    let mut world = World::new();
    for n in [1, 2] {
        world.start_with(n, &[1, 2], few.clone(), Profile::default());
    }
    world.run(20);
    assert_eq!(world.status(2, 1), Some(MemberStatus::Joining));
    world.start_with(3, &[1, 2], few, Profile::default());
    world.run(10);
    world.assert_agreed(&[1, 2, 3]);
}

#[test]
fn a_joiner_that_leaves_before_its_welcome_has_left() {
    let mut world = World::formed(&[1, 2]);
    world.cut.insert((1, 3));
    world.cut.insert((2, 3));
    world.start(3, &[1, 2]);
    world.with(3, |node, now| node.handle_leave(now, &address(3))).unwrap();
    assert_eq!(world.phase(3), Phase::Stopped(StopCause::Left));
    world.run(3);
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_joiner_whose_welcome_was_lost_gets_another() {
    let mut world = World::formed(&[1, 2]);
    world.start(3, &[2]);
    world.drop_next = Some(|pdu| matches!(pdu, MembershipPdu::Welcome { .. }));
    world.run(1);
    world.crash(3);
    world.start(3, &[1, 2]);
    world.run(30);
    assert!(world.drop_next.is_none(), "a Welcome was lost");
    world.assert_agreed(&[1, 2, 3]);
}

#[test]
fn a_joiner_that_gave_up_unheard_is_removed_although_its_links_are_busy() {
    let mut world = World::formed(&[1, 2]);
    world.drop_next = Some(|pdu| matches!(pdu, MembershipPdu::Welcome { .. }));
    world.start(3, &[1, 2]);
    assert_eq!(world.status(3, 1), Some(MemberStatus::Joining));
    world.drop_next = Some(|pdu| matches!(pdu, MembershipPdu::Leave { .. }));
    world.with(3, |node, now| node.handle_leave(now, &address(3))).unwrap();
    assert_eq!(world.status(3, 1), Some(MemberStatus::Joining));
    for _ in 0..8 {
        world.chatter(3, 1);
        world.run(1);
    }
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_node_let_in_here_that_has_formed_a_cluster_elsewhere_is_removed() {
    let mut world = World::formed(&[1, 2]);
    world.drop_next = Some(|pdu| matches!(pdu, MembershipPdu::Welcome { .. }));
    world.start(3, &[2]);
    assert_eq!(world.status(3, 2), Some(MemberStatus::Joining));
    // The same incarnation, as if it had found no cluster.
    let own = world.nodes[&3].own().clone();
    let started = (world.start, RemovalTime::since_1970(SECOND));
    let (profile, settings) = (Profile::default(), settings());
    let strategy = Box::new(KeepMajority::default());
    let setup = Setup { own, profile, settings, strategy, seed: 3, started };
    world.nodes.insert(3, Membership::new(setup).unwrap());
    world.join(3, &[3]).unwrap();
    for _ in 0..20 {
        world.chatter(3, 1);
        world.chatter(3, 2);
        world.run(1);
    }
    world.assert_agreed(&[1, 2]);
    world.assert_agreed(&[3]);
    assert_eq!([1, 2, 3].map(|n| world.islands(n)), [1, 1, 1]);
}

#[test]
fn a_stopped_node_does_not_pass_for_alive_by_other_traffic() {
    let mut world = World::formed(&[1, 2, 3]);
    // It downs itself, and nobody hears of it.
    world.cut_off(&[3], &[1, 2]);
    world.with(3, |node, now| node.handle_down(now, &address(3))).unwrap();
    world.heal();
    assert_eq!(world.phase(3), Phase::Stopped(StopCause::Downed));
    for _ in 0..15 {
        world.chatter(3, 1);
        world.chatter(3, 2);
        world.run(1);
    }
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_fenced_incarnation_is_terminated_for_good() {
    let mut world = World::formed(&[1, 2, 3]);
    world.events.values_mut().for_each(Vec::clear);
    let fenced = world.nodes[&3].own().clone();
    world.crash(3);
    world.with(1, |node, now| node.handle_fenced(now, &fenced));
    assert_eq!(world.told(1, 3), ["unreachable"]);
    world.run(20);
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_full_cluster_keeps_the_first_seed_from_forming_another() {
    let mut world = World::new();
    world.start(1, &[1, 2]);
    let from = unique(2);
    let full = MembershipPdu::InitJoinAck {
        from: from.clone(),
        cluster: crate::membership::cluster_id::ClusterId::new(9),
        admission: crate::membership::pdu::Admission::Full,
    };
    world.with(1, |node, now| node.handle_pdu(now, &from, full));
    world.run(60);
    assert_eq!(world.phase(1), Phase::Joining);
    assert!(matches!(world.events[&1][..], [ClusterEvent::JoinRefused { .. }]));
}

#[test]
fn a_member_accused_by_one_that_cannot_hear_it_goes_on_until_downing_decides() {
    let mut world = World::formed(&[1, 2, 3, 4, 5]);
    world.cut.insert((5, 4));
    world.run(12);
    assert!(world.nodes[&4].state().unreachable().iter().any(|n| *n.address() == address(5)));
    assert_eq!(world.phase(5), Phase::Member);
    world.heal();
    world.run(6);
    world.assert_agreed(&[1, 2, 3, 4, 5]);
}

#[test]
fn two_clusters_told_to_join_each_other_stay_apart_and_report_it() {
    let mut world = World::new();
    world.cut_off(&[1], &[2]);
    world.start(1, &[1, 2]);
    world.start(2, &[2, 1]);
    world.run(7);
    world.assert_agreed(&[1]);
    world.assert_agreed(&[2]);
    world.heal();
    world.run(30);
    world.assert_agreed(&[1]);
    world.assert_agreed(&[2]);
    assert_ne!(world.nodes[&1].cluster(), world.nodes[&2].cluster());
    assert_eq!([world.islands(1), world.islands(2)], [1, 1]);
    assert_eq!(world.join(1, &[2]), Err(JoinError::AlreadyMember));
}

#[test]
fn a_paused_process_accuses_nobody_when_it_goes_on() {
    let mut world = World::formed(&[1, 2, 3]);
    world.events.values_mut().for_each(Vec::clear);
    world.paused.insert(1);
    world.run_for(Duration::from_millis(3_500));
    world.resume(1);
    world.run(10);
    world.assert_agreed(&[1, 2, 3]);
    let is_starved = |event: &ClusterEvent| matches!(event, ClusterEvent::Starved { .. });
    assert!(world.events[&1].iter().any(is_starved));
    assert_eq!(world.told(1, 2).len() + world.told(1, 3).len(), 0);
}

#[test]
fn a_leader_held_up_decides_nothing_from_what_it_saw_before() {
    let mut world = World::formed(&[1, 2, 3, 4, 5]);
    world.cut.insert((3, 1));
    while world.nodes[&1].explain(world.now).downing.is_none_or(|f| f.due_in > SECOND) {
        world.run_for(SECOND / 10);
    }
    world.paused.insert(1);
    world.heal();
    world.run(3);
    world.resume(1);
    world.run(10);
    world.assert_agreed(&[1, 2, 3, 4, 5]);
}

#[test]
fn a_joiner_outlives_the_only_member_that_knew_it() {
    let mut world = World::formed(&[1, 2, 3]);
    world.cut_off(&[1], &[2, 3]);
    world.cut_off(&[4], &[2, 3]);
    world.start(4, &[1, 2]);
    world.run(1);
    assert_eq!(world.status(4, 1), Some(MemberStatus::Joining));
    world.crash(1);
    world.heal();
    world.run(1);
    let known = |world: &World| world.status(4, 2);
    assert_eq!(known(&world), None);
    world.run(40);
    world.assert_agreed(&[2, 3, 4]);
}

#[test]
fn a_process_paused_until_it_was_removed_stops_when_it_goes_on() {
    for others in [&[2_u16, 3][..], &[2, 3, 4, 5]] {
        let mut world = World::formed(&[&[1][..], others].concat());
        world.paused.insert(1);
        world.run(60);
        world.assert_agreed(others);
        world.waiting.clear();
        world.resume(1);
        world.run(3);
        assert_eq!(world.phase(1), Phase::Stopped(StopCause::Removed));
        world.assert_agreed(others);
    }
}

#[test]
fn strangers_are_counted_and_not_believed() {
    let mut world = World::formed(&[1, 2, 3]);
    let other = World::formed(&[4, 5]);
    let stranger = other.nodes[&4].own().clone();
    let before = world.nodes[&1].gossip().clone();
    let down = |by: &World| {
        let mut gossip = by.nodes[&2].gossip().clone();
        gossip.advance(by.nodes[&1].own(), MemberStatus::Down).unwrap();
        Box::new(crate::membership::gossip::GossipForm::from(&gossip))
    };
    let envelope = |from: &UniqueAddress, world: &World| crate::membership::exchange::Envelope {
        from: from.clone(),
        to: world.nodes[&1].own().clone(),
        cluster: world.nodes[&1].cluster().unwrap(),
        gossip: down(world),
    };
    let member = world.nodes[&2].own().clone();
    let forged = MembershipPdu::Gossip(envelope(&member, &world));
    let unknown = MembershipPdu::Gossip(envelope(&stranger, &world));
    let mut foreign = envelope(&stranger, &world);
    foreign.cluster = other.nodes[&4].cluster().unwrap();
    let foreign = MembershipPdu::Gossip(foreign);
    for (pdu, why) in [
        (forged, RefusedPdu::Impostor),
        (unknown, RefusedPdu::UnknownSender),
        (foreign, RefusedPdu::OtherCluster),
    ] {
        world.with(1, |node, now| node.handle_pdu(now, &stranger, pdu));
        assert_eq!(world.nodes[&1].refusals().count(why), 1, "{why:?}");
    }
    assert_eq!(*world.nodes[&1].gossip(), before);
}

#[test]
fn a_member_of_two_data_centres_hears_of_both() {
    let mut world = World::new();
    let moon = Profile::default().with_data_centre(label("moon"));
    for n in [1, 2] {
        world.start(n, &[1, 2]);
    }
    for n in [3, 4] {
        world.start_with(n, &[1, 2], settings(), moon.clone());
    }
    world.run(40);
    for n in 1..=4 {
        assert!(world.members(n).iter().all(|(_, status)| *status == MemberStatus::Up), "{n}");
        assert_eq!(world.members(n).len(), 4, "{n}");
    }
}

#[test]
fn news_of_a_machine_without_a_shell_is_bounded() {
    let mut world = World::formed(&[1, 2, 3]);
    let machine = world.nodes.get_mut(&1).unwrap();
    let now = world.now;
    for n in 0..100_000_u64 {
        let from = UniqueAddress::new(address(1_000 + (n % 60_000) as u16), Uid::new(n));
        let pdu = MembershipPdu::InitJoin {
            from: from.clone(),
            cluster: None,
            settings: crate::membership::pdu::SharedSettings::default(),
        };
        machine.handle_pdu(now, &from, pdu);
    }
    assert!(machine.dropped() > 0);
    let waiting = std::iter::from_fn(|| machine.poll_transmit()).count();
    assert!(waiting <= machine.settings.max_queued + 100, "{waiting}");
    assert!(std::iter::from_fn(|| machine.poll_event()).count() < 2_000);
}

#[test]
fn an_explanation_names_who_blocks_convergence_and_who_waits_for_it() {
    use crate::membership::explain::{AccusationEffect, WaitReason};
    let mut world = World::formed(&[1, 2, 3]);
    assert!(world.nodes[&1].explain(world.now).to_string().contains("converged"));
    world.crash(3);
    world.run(7);
    world.start(4, &[1, 2]);
    let explanation = world.nodes[&1].explain(world.now);
    let [accusation] = &explanation.accusations[..] else { panic!("{explanation}") };
    assert_eq!(accusation.effect, AccusationEffect::Blocks);
    assert_eq!(accusation.observers.len(), 2);
    let [waiting] = &explanation.waiting[..] else { panic!("{explanation}") };
    assert_eq!(*waiting.node.address(), address(4));
    assert_eq!(waiting.reason, WaitReason::NotConverged);
    let forecast = explanation.downing.as_ref().unwrap();
    assert_eq!(forecast.nodes, [accusation.subject.clone()]);
    assert_eq!(forecast.by.as_ref(), Some(world.nodes[&1].own()));
    let text = explanation.to_string();
    for part in ["not converged", "blocks convergence", "waits for convergence", "downing decides"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let due = forecast.due_in;
    world.run_for(due - SECOND / 10);
    assert_eq!(world.status(3, 1), Some(MemberStatus::Up));
    world.run_for(SECOND / 5);
    assert_eq!(world.status(3, 1), Some(MemberStatus::Down));
}

#[test]
fn the_detection_time_follows_from_the_settings() {
    let mut fast = settings();
    fast.detector = DetectorSettings::Phi(PhiSettings::default());
    let mut world = World::new();
    world.start_with(1, &[1], fast, Profile::default());
    let time = world.nodes[&1].detection_time();
    assert!(
        (Duration::from_millis(5_500)..Duration::from_millis(5_550)).contains(&time),
        "{time:?}"
    );
}

/// Lets chance cut, pause, crash, restart and part nodes; whoever is left must agree in the end.
fn chaos(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let all = [1, 2, 3, 4, 5, 6];
    let mut world = World::formed(&all);
    let mut furthest: BTreeMap<(u16, UniqueAddress, UniqueAddress), MemberStatus> = BTreeMap::new();
    for _ in 0..rng.u32(2..12) {
        let (a, b, act) = (rng.u16(1..7), rng.u16(1..7), rng.u8(..8));
        println!("seed {seed}, {:?}: {act} of {a} and {b}", world.now - world.start);
        match act {
            0 if a != b => drop(world.cut.insert((a, b))),
            1 => {
                let (left, right) = all.split_at(rng.usize(1..6));
                world.cut_off(left, right);
            }
            2 => world.heal(),
            3 if world.nodes.contains_key(&a) => world.crash(a),
            4 | 5 => {
                world.paused.remove(&a);
                world.start(a, &[1, 2]);
            }
            6 if world.nodes.contains_key(&a) => {
                world.with(a, |node, now| node.handle_leave(now, &address(b))).unwrap_or_default();
            }
            _ => drop(world.paused.insert(a)),
        }
        world.run_for(Duration::from_millis(rng.u64(0..15_000)));
        for (n, node) in &mut world.nodes {
            if node.phase() == Phase::Exiting {
                node.handle_exit_done(world.now);
            }
            let own = node.own().clone();
            for member in node.state().members() {
                let key = (*n, own.clone(), member.node().clone());
                let before = furthest.insert(key, member.status());
                assert!(before.is_none_or(|before| before <= member.status()), "seed {seed}");
            }
        }
        for n in all {
            if rng.bool() && world.paused.contains(&n) && world.nodes.contains_key(&n) {
                world.resume(n);
            }
        }
    }
    world.heal();
    for n in std::mem::take(&mut world.paused) {
        if world.nodes.contains_key(&n) {
            world.resume(n);
        }
    }
    for _ in 0..120 {
        world.run(1);
        let now = world.now;
        world.nodes.values_mut().for_each(|node| node.handle_exit_done(now));
        world.pump();
    }
    let mut clusters: BTreeMap<_, Vec<u16>> = BTreeMap::new();
    for (n, node) in &world.nodes {
        match node.phase() {
            Phase::Member => clusters.entry(node.cluster()).or_default().push(*n),
            Phase::Joining => {}
            Phase::Stopped(_) => assert_eq!(node.poll_timeout(), None),
            Phase::Idle | Phase::Exiting => panic!("seed {seed}: {n} is {:?}", node.phase()),
        }
    }
    for nodes in clusters.values() {
        let text = |n: &u16| world.nodes[n].explain(world.now).to_string();
        let texts: Vec<_> = nodes.iter().map(text).collect();
        println!("{nodes:?}:\n{}", texts.join("\n"));
        world.assert_agreed(nodes);
    }
}

#[test]
fn whatever_happens_those_left_agree() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("FIRST_SEED").unwrap_or(0);
    let seeds = number("SEEDS").unwrap_or(30);
    (first..first + seeds).for_each(chaos);
}
