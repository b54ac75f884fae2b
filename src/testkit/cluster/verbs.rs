//! Lets a scenario act on a simulated cluster: on its nodes and on its network.

use std::mem;

use super::process::{Load, Process};
use super::{SimCluster, Start, Tamper, address};
use crate::address::{Uid, UniqueAddress};
use crate::membership::gossip::RemovalTime;
use crate::membership::machine::{JoinError, Membership, Setup};
use crate::membership::pdu::MembershipPdu;

/// # Nodes
///
/// What is asked of a node that does not run does nothing.
impl SimCluster {
    /// Starts a node, anew if it runs: it has no cluster yet.
    ///
    /// # Panics
    /// If the settings of its membership are wrong.
    pub fn start(&mut self, node: u16, start: Start) {
        self.crash(node);
        let own = UniqueAddress::new(address(node), Uid::new(self.rng.u64(..)));
        self.disturb(format_args!("node {node} starts as {}", own.uid()));
        let wall = RemovalTime::since_1970(start.wall_clock + self.elapsed());
        let setup = Setup {
            own: own.clone(),
            profile: start.profile,
            settings: start.settings,
            strategy: start.strategy,
            seed: self.rng.u64(..),
            started: (self.now, wall),
        };
        let membership = Membership::new(setup).unwrap_or_else(|error| panic!("{error}"));
        self.stopped.remove(&node);
        self.processes.insert(node, Process::new(own, membership));
        self.step(node);
    }

    /// Lets a node join through seeds, the first of which may form a cluster.
    ///
    /// # Panics
    /// If it has joined before.
    pub fn join(&mut self, node: u16, seeds: &[u16]) {
        if let Err(error) = self.try_join(node, seeds) {
            panic!("node {node} cannot join: {error}");
        }
    }

    /// Asks a node to join, whatever it has done before.
    ///
    /// # Errors
    /// [`JoinError`] if its machine refuses.
    pub fn try_join(&mut self, node: u16, seeds: &[u16]) -> Result<(), JoinError> {
        self.disturb(format_args!("node {node} is asked to join through {seeds:?}"));
        let (now, seeds) = (self.now, seeds.iter().map(|seed| address(*seed)).collect());
        self.act(node, |membership| membership.handle_join(now, seeds)).unwrap_or(Ok(()))
    }

    /// Starts nodes with the defaults and lets all of them join through the same seeds.
    pub fn boot(&mut self, nodes: impl IntoIterator<Item = u16>, seeds: &[u16]) {
        for node in nodes {
            self.start(node, Start::default());
            self.join(node, seeds);
        }
    }

    /// Asks `by` for `node` to leave; if `by` does not know it, nothing happens.
    pub fn leave(&mut self, by: u16, node: u16) {
        let now = self.now;
        let asked = self.act(by, |membership| membership.handle_leave(now, &address(node)));
        self.disturb(format_args!("node {by} is asked for node {node} to leave: {asked:?}"));
    }

    /// Asks `by` to declare `node` dead; if `by` does not know it, nothing happens.
    pub fn down(&mut self, by: u16, node: u16) {
        let (now, target) = (self.now, address(node));
        if let Some(process) = self.processes.get(&by) {
            let known = process.membership.gossip().members_at(&target);
            self.ordered_down.extend(known.map(|member| member.node().clone()));
        }
        let asked = self.act(by, |membership| membership.handle_down(now, &target));
        self.disturb(format_args!("node {by} is told that node {node} is dead: {asked:?}"));
    }

    /// Ends a node without warning.
    pub fn crash(&mut self, node: u16) {
        if self.processes.remove(&node).is_some() {
            self.disturb(format_args!("node {node} crashes"));
        }
    }

    /// Ends a node without warning, starts it again at the same address, and lets it join.
    pub fn restart(&mut self, node: u16, start: Start, seeds: &[u16]) {
        self.start(node, start);
        self.join(node, seeds);
    }

    /// Holds a node: it takes no step, and what arrives waits.
    pub fn pause(&mut self, node: u16) {
        self.disturb(format_args!("node {node} is paused"));
        if let Some(process) = self.processes.get_mut(&node) {
            process.held.get_or_insert_default();
        }
    }

    /// Lets a paused node go on; what comes first, its timer or what has arrived, is drawn.
    pub fn resume(&mut self, node: u16) {
        let held = self.processes.get_mut(&node).and_then(|process| process.held.take());
        let Some(parcels) = held else { return };
        self.disturb(format_args!("node {node} goes on with {} PDUs waiting", parcels.len()));
        let is_timer_first = self.rng.bool();
        if is_timer_first {
            self.fire(node);
        }
        for parcel in parcels {
            self.accept(parcel);
        }
        if !is_timer_first {
            self.fire(node);
        }
    }

    /// Lets `tamper` change whatever this incarnation of a node sends.
    pub fn tamper(&mut self, node: u16, tamper: Tamper) {
        if let Some(process) = self.processes.get_mut(&node) {
            process.tamper = Some(tamper);
        }
    }

    /// Hands a node bytes as if a frame with them had come from `from`, at once and without a
    /// handshake.
    pub fn inject_bytes(&mut self, from: &UniqueAddress, to: u16, bytes: Vec<u8>) {
        self.hand(from, to, Load::Bytes(bytes));
    }

    /// Hands a node a PDU as if it had come from `from`, at once and without a handshake.
    pub fn inject(&mut self, from: &UniqueAddress, to: u16, pdu: MembershipPdu) {
        self.hand(from, to, Load::Pdu(Box::new(pdu)));
    }
}

/// # Network
impl SimCluster {
    /// Parts the nodes: those of different groups cannot reach each other, others reach all.
    ///
    /// Takes the place of an earlier split; cuts and isolation stay.
    pub fn split(&mut self, groups: &[&[u16]]) {
        self.disturb(format_args!("the network is split into {groups:?}"));
        self.network.split(groups);
    }

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, node: u16) {
        self.disturb(format_args!("node {node} is isolated"));
        self.network.isolate(node);
    }

    /// Cuts the link between two nodes.
    pub fn cut(&mut self, left: u16, right: u16) {
        self.cut_one_way(left, right);
        self.cut_one_way(right, left);
    }

    /// Cuts the way from one node to another; the way back stays open.
    pub fn cut_one_way(&mut self, from: u16, to: u16) {
        self.disturb(format_args!("the way from {from} to {to} is cut"));
        self.network.cut_one_way(from, to);
    }

    /// Undoes the cuts between two nodes.
    pub fn mend(&mut self, left: u16, right: u16) {
        self.disturb(format_args!("the link between {left} and {right} is mended"));
        self.network.mend(left, right);
    }

    /// Undoes all splits, cuts and isolation.
    pub fn recover(&mut self) {
        self.disturb(format_args!("the network recovers"));
        self.network.recover();
    }

    /// Changes how good the network is; what is under way stays so.
    pub fn set_network(&mut self, settings: super::NetworkSettings) {
        self.network.settings = settings;
    }

    /// Undoes everything that was done to the network, and lets paused nodes go on.
    pub fn end_faults(&mut self) {
        self.recover();
        let delays = mem::take(&mut self.network.settings);
        self.network.settings = delays.with_loss(0.0).with_duplication(0.0);
        let paused: Vec<_> = self.running().filter(|node| self.is_paused(*node)).collect();
        paused.into_iter().for_each(|node| self.resume(node));
    }
}
