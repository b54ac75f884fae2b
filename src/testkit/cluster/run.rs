//! Lets time pass in a simulated cluster: one happening after the other, each a step of one node.

use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use super::failure::{Failure, Fault};
use super::invariants::{Look, agreement};
use super::network::up_to;
use super::process::{Load, Parcel};
use super::{Farewell, SimCluster, Wire};
use crate::address::{Uid, UniqueAddress};
use crate::membership::event::ClusterEvent;
use crate::membership::machine::{Membership, Phase, Transmit};
use crate::membership::member::Member;
use crate::membership::pdu::{self, MembershipPdu};

/// Is something that is planned.
#[derive(Debug)]
pub(super) enum Happening {
    /// A node's timer fires, if it is still set to `due`.
    Timer { node: u16, uid: Uid, due: Instant },
    /// A PDU arrives.
    Arrival(Parcel),
    /// A node has done its exit tasks.
    Exited { node: u16, uid: Uid },
}

impl SimCluster {
    /// Lets time pass.
    ///
    /// # Errors
    /// [`Failure`] as soon as an invariant does not hold; the same one each time afterwards.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Failure> {
        let end = self.now + time;
        while self.advance(end)? {}
        Ok(())
    }

    /// Lets time pass until `is_there` says so, asked after every step and at the end.
    ///
    /// # Errors
    /// [`Failure`] as soon as an invariant does not hold, or if it is not there `within` the time.
    pub fn run_until(
        &mut self,
        what: &str,
        within: Duration,
        mut is_there: impl FnMut(&Self) -> bool,
    ) -> Result<(), Failure> {
        let end = self.now + within;
        while !is_there(self) {
            if !self.advance(end)? {
                let (what, standing) = (what.to_owned(), self.standing());
                return Err(self.fail(Fault::Missed { what, within, standing }));
            }
        }
        Ok(())
    }

    /// Ends all faults and lets time pass until the running nodes agree: liveness.
    ///
    /// # Errors
    /// [`Failure`] as soon as an invariant does not hold, or if they do not agree `within` the
    /// time.
    pub fn settle(&mut self, within: Duration) -> Result<(), Failure> {
        self.end_faults();
        let what = "the running nodes agree that they, and only they, are Up";
        self.run_until(what, within, Self::agrees)
    }

    /// Demands that something is so at this moment.
    ///
    /// # Errors
    /// [`Failure`] if it is not.
    pub fn require(&mut self, what: &str, is_so: bool) -> Result<(), Failure> {
        if is_so {
            return Ok(());
        }
        let (what, standing) = (what.to_owned(), self.standing());
        Err(self.fail(Fault::Missed { what, within: Duration::ZERO, standing }))
    }

    /// Tells whether the running nodes agree that they, and only they, are Up.
    #[must_use]
    pub fn agrees(&self) -> bool {
        agreement::obstacle(self).is_none()
    }

    /// Says how things stand, one node a line.
    #[must_use]
    pub fn standing(&self) -> String {
        let nodes = self.running().map(|node| agreement::describe(self, node) + "\n");
        let obstacle = agreement::obstacle(self).unwrap_or_else(|| "all agree".to_owned());
        nodes.collect::<String>() + &obstacle
    }

    /// Takes the next happening up to `end`; without one, `end` is reached.
    fn advance(&mut self, end: Instant) -> Result<bool, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let Some((at, happening)) = self.queue.pop_until(end) else {
            self.now = self.now.max(end);
            self.steps_at_once = 0;
            return Ok(false);
        };
        if at > self.now {
            self.now = at;
            self.steps_at_once = 0;
        }
        match happening {
            Happening::Timer { node, uid, due } => self.handle_timer(node, uid, due),
            Happening::Arrival(parcel) => self.deliver(parcel),
            Happening::Exited { node, uid } => self.handle_exited(node, uid),
        }
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(true),
        }
    }

    fn handle_timer(&mut self, node: u16, uid: Uid, due: Instant) {
        let Some(process) = self.processes.get_mut(&node) else { return };
        if process.own.uid() != uid || process.armed != Some(due) {
            return;
        }
        process.armed = None;
        if !process.is_paused() {
            self.fire(node);
        }
    }

    fn handle_exited(&mut self, node: u16, uid: Uid) {
        if self.own(node).map(UniqueAddress::uid) != Some(uid) {
            return;
        }
        if self.is_paused(node) {
            self.queue.push(self.now + RETRY, Happening::Exited { node, uid });
            return;
        }
        self.note(format_args!("node {node} has done its exit tasks"));
        let now = self.now;
        self.act(node, |membership| membership.handle_exit_done(now));
    }

    /// Lets a node's timer fire now.
    pub(super) fn fire(&mut self, node: u16) {
        let now = self.now;
        self.act(node, |membership| membership.handle_timeout(now));
    }

    /// Hands a node's machine something, and then does what it asks for.
    pub(super) fn act<R>(
        &mut self,
        node: u16,
        input: impl FnOnce(&mut Membership) -> R,
    ) -> Option<R> {
        let output = input(&mut self.processes.get_mut(&node)?.membership);
        self.step(node);
        Some(output)
    }

    /// Does what a node's machine asks for, and checks the invariants.
    pub(super) fn step(&mut self, node: u16) {
        while self.take_output(node) {}
        self.follow_phase(node);
        self.check(node);
        self.arm(node);
    }

    fn take_output(&mut self, node: u16) -> bool {
        let Some(process) = self.processes.get_mut(&node) else { return false };
        if let Some(transmit) = process.membership.poll_transmit() {
            self.post(node, transmit);
        } else if let Some(event) = process.membership.poll_event() {
            self.handle_event(node, event);
        } else {
            return false;
        }
        true
    }

    fn handle_event(&mut self, node: u16, event: ClusterEvent) {
        self.note(format_args!("node {node}: {}", brief(&event)));
        if let ClusterEvent::Removed { member, .. } = &event {
            let is_kept = self.settings.farewell == Farewell::Quarantine;
            if let Some(process) = self.processes.get_mut(&node).filter(|_| is_kept) {
                process.quarantined.insert(member.node().clone());
            }
        }
        self.logs.entry(node).or_default().push(event);
    }

    /// Sends a PDU on its way.
    fn post(&mut self, node: u16, transmit: Transmit) {
        let Transmit { to, pdu, .. } = transmit;
        let Some(process) = self.processes.get_mut(&node) else { return };
        let mut pdu = pdu;
        if let Some(tamper) = &mut process.tamper {
            tamper(&mut pdu);
        }
        let (from, target) = (process.own.clone(), to.port());
        self.note(format_args!("{node} -> {target} {}", kind(&pdu)));
        let Some(load) = self.spell(node, pdu) else { return };
        let Some(uid) = self.own(target).filter(|own| *own.address() == to).map(UniqueAddress::uid)
        else {
            return;
        };
        let way = (node, target);
        for arrival in self.network.send(&mut self.rng, self.now, way) {
            let parcel = Parcel { from: from.clone(), way, to: uid, load: load.clone() };
            self.queue.push(arrival, Happening::Arrival(parcel));
        }
    }

    /// Counts a PDU and spells it if it is to be; one that cannot be is lost.
    fn spell(&mut self, node: u16, pdu: MembershipPdu) -> Option<Load> {
        let traffic = self.traffic.entry(node).or_default();
        traffic.pdus += 1;
        if self.settings.wire == Wire::Passed {
            return Some(Load::Pdu(Box::new(pdu)));
        }
        let mut bytes = Vec::new();
        pdu::encode(&pdu, &mut bytes).ok()?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX).saturating_add(FRAME);
        traffic.bytes += length;
        if matches!(pdu, MembershipPdu::Heartbeat(_) | MembershipPdu::HeartbeatReply(_)) {
            traffic.heartbeat_bytes += length;
        }
        let is_spelt = self.settings.wire == Wire::Spelt;
        Some(if is_spelt { Load::Bytes(bytes) } else { Load::Pdu(Box::new(pdu)) })
    }

    /// Brings a PDU to the incarnation it was sent to, if that can be reached and runs.
    pub(super) fn deliver(&mut self, parcel: Parcel) {
        let (from, to) = parcel.way;
        let is_open = self.network.carries(from, to);
        let Some(process) = self.processes.get_mut(&to).filter(|_| is_open) else { return };
        if process.own.uid() != parcel.to {
            return;
        }
        match &mut process.held {
            Some(held) => held.push(parcel),
            None => self.accept(parcel),
        }
    }

    /// Hands a node what has come in, after the handshake if there was none.
    pub(super) fn accept(&mut self, parcel: Parcel) {
        let (from, to) = parcel.way;
        let Some(process) = self.processes.get(&to) else { return };
        let own = process.own.clone();
        if process.quarantined.contains(&parcel.from) {
            self.tell_quarantined(&parcel.from, &own);
            return;
        }
        if process.fenced.contains(&parcel.from) {
            return;
        }
        self.introduce(to, &parcel.from);
        if self.own(from) == Some(&parcel.from) && self.carries(to, from) {
            self.introduce(from, &own);
        }
        self.hand(&parcel.from, to, parcel.load);
    }

    /// Hands a node a PDU, if it can be read.
    pub(super) fn hand(&mut self, from: &UniqueAddress, to: u16, load: Load) {
        let now = self.now;
        self.note(format_args!("{} => {to} {load}", from.address().port()));
        self.act(to, |membership| membership.handle_traffic(now, from));
        let pdu = match load {
            Load::Pdu(pdu) => *pdu,
            Load::Bytes(bytes) => match pdu::decode(&bytes) {
                Ok(pdu) => pdu,
                Err(error) => {
                    self.note(format_args!("node {to} cannot read it: {error}"));
                    return;
                }
            },
        };
        self.act(to, |membership| membership.handle_pdu(now, from, pdu));
    }

    /// Lets a node know which incarnation runs at another; what ran there before is fenced.
    fn introduce(&mut self, node: u16, peer: &UniqueAddress) {
        let Some(process) = self.processes.get_mut(&node) else { return };
        if process.is_paused() {
            return;
        }
        let known = process.peers.insert(peer.address().port(), peer.clone());
        let Some(old) = known.filter(|old| old != peer) else { return };
        process.fenced.insert(old.clone());
        self.note(format_args!("node {node} fences {old}"));
        let now = self.now;
        self.act(node, |membership| membership.handle_fenced(now, &old));
    }

    fn tell_quarantined(&mut self, node: &UniqueAddress, by: &UniqueAddress) {
        let (told, telling) = (node.address().port(), by.address().port());
        let hears =
            self.own(told) == Some(node) && !self.is_paused(told) && self.carries(telling, told);
        if hears {
            self.note(format_args!("node {told} is told that node {telling} has quarantined it"));
            let now = self.now;
            self.act(told, |membership| membership.handle_quarantined_by(now, by));
        }
    }

    /// Begins the exit tasks of a node that is to go, and ends a node whose machine has stopped.
    fn follow_phase(&mut self, node: u16) {
        let Some(process) = self.processes.get_mut(&node) else { return };
        match process.membership.phase() {
            Phase::Exiting if !process.is_exiting => {
                process.is_exiting = true;
                let (at, uid) = (self.now + self.settings.exit_tasks, process.own.uid());
                self.queue.push(at, Happening::Exited { node, uid });
            }
            Phase::Stopped(cause) => {
                self.note(format_args!("node {node} stops: {cause:?}"));
                self.processes.remove(&node);
                self.stopped.insert(node, cause);
            }
            _ => {}
        }
    }

    /// Sets a node's timer to what its machine wants, a little late.
    fn arm(&mut self, node: u16) {
        let Some(process) = self.processes.get_mut(&node) else { return };
        let due = process.membership.poll_timeout();
        if due == process.armed || process.is_paused() {
            return;
        }
        process.armed = due;
        if let Some(due) = due {
            let uid = process.own.uid();
            let at = due.max(self.now) + up_to(&mut self.rng, self.settings.timer_lag);
            self.queue.push(at, Happening::Timer { node, uid, due });
        }
    }

    fn check(&mut self, node: u16) {
        self.steps_at_once += 1;
        if self.steps_at_once > MOST_STEPS_AT_ONCE {
            self.fail(Fault::Spinning { node });
        }
        let has_news = self.processes.get_mut(&node).is_some_and(|process| process.take_news());
        if !has_news || self.invariants.is_empty() {
            return;
        }
        let mut invariants = mem::take(&mut self.invariants);
        for invariant in &mut invariants {
            let Some(look) = Look::at(self, node) else { break };
            if let Err(why) = invariant.check(&look) {
                let invariant = invariant.name();
                self.fail(Fault::Broken { invariant, node, why });
            }
        }
        self.invariants = invariants;
    }

    /// Keeps the first failure, and returns what is to be reported.
    fn fail(&mut self, fault: Fault) -> Failure {
        let trace = self.trace.lines().map(str::to_owned).collect();
        let failure = Failure { seed: self.settings.seed, at: self.elapsed(), fault, trace };
        if matches!(failure.fault, Fault::Missed { .. }) {
            return failure;
        }
        self.failure.get_or_insert(failure).clone()
    }

    /// Notes what a scenario does to the cluster.
    pub(super) fn disturb(&mut self, what: fmt::Arguments<'_>) {
        self.disturbed = self.now;
        self.note(what);
    }

    pub(super) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.note(self.now - self.start, what);
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pdu(pdu) => f.write_str(kind(pdu)),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

fn kind(pdu: &MembershipPdu) -> &'static str {
    match pdu {
        MembershipPdu::InitJoin { .. } => "InitJoin",
        MembershipPdu::InitJoinAck { .. } => "InitJoinAck",
        MembershipPdu::InitJoinNack { .. } => "InitJoinNack",
        MembershipPdu::Join { .. } => "Join",
        MembershipPdu::Welcome { .. } => "Welcome",
        MembershipPdu::Status(_) => "Status",
        MembershipPdu::Gossip(_) => "Gossip",
        MembershipPdu::Heartbeat(_) => "Heartbeat",
        MembershipPdu::HeartbeatReply(_) => "HeartbeatReply",
        MembershipPdu::Leave { .. } => "Leave",
        MembershipPdu::ExitingConfirmed { .. } => "ExitingConfirmed",
    }
}

/// Says in a few words what a machine tells.
fn brief(event: &ClusterEvent) -> String {
    let of = |member: &Member, what: &str| format!("{} {what}", member.node().address().port());
    match event {
        ClusterEvent::Joined(member) => of(member, "joined"),
        ClusterEvent::WeaklyUp(member) => of(member, "weakly up"),
        ClusterEvent::Up(member) => of(member, "up"),
        ClusterEvent::Leaving(member) => of(member, "leaving"),
        ClusterEvent::Exited(member) => of(member, "exited"),
        ClusterEvent::Downed(member) => of(member, "downed"),
        ClusterEvent::Removed { member, previous } => {
            of(member, "removed, was ") + &previous.to_string()
        }
        ClusterEvent::Unreachable(member) => of(member, "unreachable"),
        ClusterEvent::Reachable(member) => of(member, "reachable"),
        ClusterEvent::LeaderChanged(Some(leader)) => format!("{} leads", leader.address().port()),
        ClusterEvent::LeaderChanged(None) => "nobody leads".to_owned(),
        ClusterEvent::JoinRefused { .. }
        | ClusterEvent::Island { .. }
        | ClusterEvent::Starved { .. }
        | ClusterEvent::Stopped(_) => format!("{event:?}"),
    }
}

/// Length and kind in front of a PDU.
const FRAME: u64 = 5;
/// Time after which a paused node is looked at again.
const RETRY: Duration = Duration::from_millis(100);
/// Steps that all nodes together may take while no time passes.
const MOST_STEPS_AT_ONCE: u32 = 100_000;
