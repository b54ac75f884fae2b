//! Keeps this node's membership: feeds the machine, sends what it says, publishes what it knows.
//!
//! One task per node. It never waits for a peer: what has no room in an outbox is dropped, and the next round of
//! gossip or heartbeats makes up for it. Whom the cluster has removed it has quarantined, and a member that says that
//! it has quarantined this node is believed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::address::{Address, UniqueAddress};
use crate::event::NodeEvent;
use crate::membership::event::{ClusterEvent, JoinRefusal, StopCause};
use crate::membership::machine::{Membership, Phase, Transmit};
use crate::membership::pdu::{self, MembershipPdu};
use crate::node::cluster::{Command, Ends, View};
use crate::node::core::Core;
use crate::node::dead_letters::{EventStream, Observed};
use crate::node::driver;
use crate::node::fences::Fences;
use crate::node::link::now;
use crate::node::reunion::Reunion;
use crate::node::shutdown;
use crate::settings::WhenDowned;

/// Keeps the membership of one node until the node ends.
pub(crate) struct Gossiper {
    core: Arc<Core>,
    machine: Membership,
    ends: Ends,
    /// Tells of incarnations that are gone.
    associations: EventStream,
    founding: Founding,
    /// Who was removed and is to be quarantined.
    fences: Fences,
    /// When each peer was last heard, as far as the machine was told.
    heard: HashMap<Address, Instant>,
    reunion: Reunion,
    /// The PDU that is being sent.
    buffer: Vec<u8>,
}

/// What a gossiper is made from.
pub(crate) struct Parts {
    pub(crate) machine: Membership,
    pub(crate) ends: Ends,
    pub(crate) founding: Founding,
}

/// Says when a node forms a cluster that it was not told to form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Founding {
    /// When somebody asks to be let in: nobody has told this node of any seeds.
    WhenAsked,
    /// Never.
    Never,
}

impl Gossiper {
    pub(crate) fn new(core: Arc<Core>, parts: Parts) -> Self {
        let Parts { machine, ends, founding } = parts;
        let associations = core.observers.events();
        let fences = Fences::new(core.settings.cluster.quarantine_left_after);
        let (heard, reunion, buffer) = (HashMap::new(), Reunion::default(), Vec::new());
        Self { core, machine, ends, associations, founding, fences, heard, reunion, buffer }
    }

    /// Takes inputs, sends, publishes and keeps the timer.
    pub(crate) async fn run(mut self) {
        let (core, inbox) = (Arc::clone(&self.core), Arc::clone(&self.ends.inbox));
        let (phase, detection_time) = (self.machine.phase(), self.machine.detection_time());
        tracing::info!(local = %self.machine.own(), ?phase, ?detection_time, "membership started");
        loop {
            self.carry_out();
            let timers = [self.machine.poll_timeout(), self.fences.poll_timeout()];
            let timer = timers.into_iter().flatten().min().map(tokio::time::Instant::from_std);
            // Biased: the node's end goes first; that an incarnation is gone comes before the gossip of the next
            // one; commands are few. Time comes last, since what waits may answer what it would ask about, but after
            // each turn it has its own.
            tokio::select! { biased;
                () = core.cancel.cancelled() => break,
                Some(event) = self.associations.next() => self.association(event),
                Some(command) = self.ends.commands.recv() => self.command(command),
                () = inbox.arrived() => self.read(),
                () = sleep_until(timer) => {}
            }
            self.keep_time();
        }
    }

    fn association(&mut self, event: Observed<NodeEvent>) {
        match event {
            Observed::Item(
                NodeEvent::NewIncarnation { previous: gone, .. }
                | NodeEvent::Quarantined { peer: gone },
            ) => self.machine.handle_fenced(now(), &gone),
            Observed::Item(NodeEvent::QuarantinedBy { peer }) => self.quarantined_by(&peer),
            Observed::Item(NodeEvent::AssociationUp { peer }) => {
                self.reunion.found(&self.core, &self.ends.view.borrow().state, &peer);
            }
            Observed::Item(_) => {}
            // A missed end of an incarnation is noticed by its silence; who has quarantined this node says so again.
            Observed::Missed(missed) => tracing::debug!(missed, "events of associations"),
        }
    }

    /// Gives this node up if a member never talks to it again.
    fn quarantined_by(&mut self, address: &Address) {
        let members = self.machine.gossip().members_at(address);
        let members: Vec<_> = members.map(|member| member.node().clone()).collect();
        for by in members {
            tracing::warn!(%by, "a member has quarantined this node");
            self.machine.handle_quarantined_by(now(), &by);
        }
    }

    fn command(&mut self, command: Command) {
        // Whoever asked may have given up waiting: an answer that nobody takes is dropped.
        match command {
            Command::Join { seeds, done } => {
                let outcome = self.machine.handle_join(now(), seeds);
                if outcome.is_ok() {
                    self.founding = Founding::Never;
                    self.ends.view.send_modify(|view| view.refused = None);
                }
                self.carry_out();
                drop(done.send(outcome));
            }
            Command::Leave { done } => {
                let own = self.core.address().clone();
                let outcome = self.machine.handle_leave(now(), &own);
                self.carry_out();
                drop(done.send(outcome));
            }
            Command::Down { node, done } => {
                let outcome = self.machine.handle_down(now(), &node);
                self.carry_out();
                drop(done.send(outcome));
            }
            Command::Explain { done } => drop(done.send(self.machine.explain(now()))),
        }
    }

    /// Reads some of the gossip that waits.
    fn read(&mut self) {
        for _ in 0..READ_AT_ONCE {
            let Some((from, bytes)) = self.ends.inbox.take() else { return };
            match pdu::decode(&bytes) {
                Ok(pdu) => {
                    self.found(&from, &pdu);
                    self.machine.handle_pdu(now(), &from, pdu);
                }
                Err(error) => {
                    if let Some(held_back) = self.core.log.admit(now()) {
                        tracing::warn!(peer = %from, %error, held_back, "gossip that is none");
                    }
                }
            }
        }
    }

    /// Forms a cluster for the first node that asks for one, if nobody has told this node of another.
    fn found(&mut self, peer: &UniqueAddress, pdu: &MembershipPdu) {
        // Who is in a cluster already only wants to know of others.
        let is_asked =
            matches!(pdu, MembershipPdu::InitJoin { from, cluster: None, .. } if from == peer);
        let may_form = self.founding == Founding::WhenAsked && self.machine.phase() == Phase::Idle;
        if is_asked && may_form {
            let own = self.core.address().clone();
            if let Err(error) = self.machine.handle_join(now(), vec![own]) {
                tracing::error!(%error, "not forming a cluster");
            }
        }
    }

    /// Calls the machine when its time has come, with what was heard of the peers meanwhile.
    fn keep_time(&mut self) {
        let now = now();
        if self.machine.poll_timeout().is_some_and(|due| due <= now) {
            self.note_traffic();
            self.machine.handle_timeout(now);
        }
        while let Some(removed) = self.fences.poll(now) {
            self.quarantine(&removed);
        }
    }

    /// Never talks again to an incarnation that the cluster has removed.
    fn quarantine(&self, removed: &UniqueAddress) {
        if removed.address() == self.core.address() {
            return;
        }
        match self.core.peer(removed.address()) {
            Ok(peer) => driver::quarantine(&peer, removed.uid()),
            Err(error) => tracing::debug!(peer = %removed, %error, "no quarantine"),
        }
    }

    /// Tells the machine of every peer that was heard since the last time.
    fn note_traffic(&mut self) {
        let before = std::mem::take(&mut self.heard);
        for peer in self.core.remote_peers() {
            let node = {
                let view = peer.view();
                view.peer.clone().filter(|_| view.up_since.is_some())
            };
            let (Some(node), heard) = (node, peer.heard_at()) else { continue };
            if before.get(&peer.address) != Some(&heard) {
                self.machine.handle_traffic(heard, &node);
            }
            self.heard.insert(peer.address.clone(), heard);
        }
    }

    /// Sends and publishes until the machine has nothing more to say.
    fn carry_out(&mut self) {
        if self.machine.phase() == Phase::Exiting {
            // Duties of users are told of by the event; this node has none of its own.
            self.machine.handle_exit_done(now());
        }
        while let Some(transmit) = self.machine.poll_transmit() {
            self.transmit(&transmit);
        }
        let events: Vec<ClusterEvent> = std::iter::from_fn(|| self.machine.poll_event()).collect();
        self.publish(&events);
        for event in events {
            self.act_on(&event);
        }
    }

    fn transmit(&mut self, Transmit { to, pdu }: &Transmit) {
        self.buffer.clear();
        if let Err(error) = pdu::encode(pdu, &mut self.buffer) {
            tracing::error!(%error, "a membership PDU of this node's own");
            return;
        }
        if to == self.core.address() {
            return;
        }
        if let MembershipPdu::Heartbeat(beat) = pdu {
            self.reunion.beat(&self.core, &self.ends.view.borrow().state, beat.sequence);
        }
        match self.core.peer(to) {
            Ok(peer) => {
                if peer.outbox.offer_gossip(&self.buffer).is_err() {
                    tracing::debug!(peer = %to, "no room for gossip; the next round will do");
                }
            }
            Err(error) => tracing::debug!(peer = %to, %error, "gossip to nobody"),
        }
    }

    /// Shows the state, then the events that led to it, numbered: whoever subscribes in between skips them.
    fn publish(&mut self, events: &[ClusterEvent]) {
        let (phase, state) = (self.machine.phase(), self.machine.state());
        let mut number = self.ends.view.borrow().last;
        let last = number + events.len() as u64;
        let refused = events.iter().find_map(|event| self.refusal(event));
        self.ends.view.send_if_modified(|view| {
            let is_new = last != view.last || phase != view.phase || state != view.state;
            let refused = refused.or(view.refused.take());
            *view = View { last, phase, state, refused };
            is_new
        });
        for event in events {
            number += 1;
            if let Some(held_back) = self.core.log.admit(now()) {
                tracing::info!(?event, held_back, "cluster event");
            }
            // A send fails only when nobody listens.
            drop(self.ends.events.send((number, event.clone())));
        }
    }

    /// Gives who has refused this node for good, if that is what the event tells.
    fn refusal(&self, event: &ClusterEvent) -> Option<(UniqueAddress, JoinRefusal)> {
        match event {
            ClusterEvent::JoinRefused { joiner, by, why } if joiner == self.machine.own() => {
                match why {
                    JoinRefusal::Settings { .. } | JoinRefusal::WasRemoved => {
                        Some((by.clone(), why.clone()))
                    }
                    JoinRefusal::Full => None,
                }
            }
            _ => None,
        }
    }

    fn act_on(&mut self, event: &ClusterEvent) {
        if let ClusterEvent::Removed { member, previous } = event {
            self.fences.handle_removed(now(), member.node(), *previous);
        }
        let ClusterEvent::Stopped(cause) = event else { return };
        self.core.observers.event(NodeEvent::MembershipEnded { why: format!("{cause:?}") });
        match (cause, self.core.settings.cluster.when_downed) {
            (StopCause::Left, _) | (_, WhenDowned::GoOn) => {}
            (StopCause::Downed | StopCause::Removed, WhenDowned::ShutDown) => {
                tracing::error!(?cause, "the cluster has given this node up; shutting down");
                shutdown::begin(&self.core);
            }
        }
    }
}

async fn sleep_until(timer: Option<tokio::time::Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// PDUs that are read before time has its turn.
const READ_AT_ONCE: usize = 64;
