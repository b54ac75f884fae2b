//! Lets a few machines talk in virtual time, where every PDU arrives at once or never.

mod chance;
mod ending;
mod hostile;
mod joining;
mod living;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{JoinError, Membership, Phase, RequestError, Setup};
use crate::address::{Address, Uid, UniqueAddress};
use crate::membership::cluster_id::ClusterId;
use crate::membership::detector::PhiSettings;
use crate::membership::downing::{DowningStrategy, KeepMajority, KeepOldest};
use crate::membership::event::{ClusterEvent, JoinRefusal, StopCause};
use crate::membership::gossip::RemovalTime;
use crate::membership::leader::Minimum;
use crate::membership::member::{Member, MemberStatus};
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
    /// Between these two no gossip arrives, though everything else does.
    gossipless: Option<[u16; 2]>,
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
            gossipless: None,
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
        if let Some(node) = self.nodes.get_mut(&n) {
            node.handle_timeout(now);
        }
        self.pump();
    }

    /// Ends the duties of all that are Exiting.
    fn end_duties(&mut self) {
        let now = self.now;
        self.nodes.values_mut().for_each(|node| node.handle_exit_done(now));
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
        let is_gossip = matches!(pdu, MembershipPdu::Status(_) | MembershipPdu::Gossip(_));
        let ends = [to, from.address().port()];
        if is_gossip && self.gossipless.is_some_and(|pair| ends.iter().all(|n| pair.contains(n))) {
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

    /// Gives the places of the members in the order of age, as node `n` knows them.
    fn ages(&self, n: u16) -> Vec<(u16, u32)> {
        let members = self.nodes[&n].gossip().members();
        let age = |m: &Member| Some((m.node().address().port(), m.up_number()?.get()));
        members.filter_map(age).collect()
    }

    fn islands(&self, n: u16) -> usize {
        let is_island = |event: &&ClusterEvent| matches!(event, ClusterEvent::Island { .. });
        self.events[&n].iter().filter(is_island).count()
    }
}
