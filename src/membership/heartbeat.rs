//! Decides whom this node monitors, sends heartbeats to them and accuses those that stay silent.
//!
//! A machine without IO and clock. It knows members only as unique addresses, keeps one [`FailureDetector`] for each
//! peer it monitors, and accuses nobody to others: its findings become this node's rows in the reachability table.
//!
//! ```text
//!  handle_members ─▶ ┌────────────┐ ─▶ poll_signal:  Beat to a monitored peer, Answer to a peer that asked
//!  handle_timeout ─▶ │ Heartbeats │ ─▶ poll_finding: Unreachable, Reachable, Starved
//!  handle_beat    ─▶ │            │ ─▶ poll_timeout: when the next round is due
//!  handle_answer  ─▶ └────────────┘
//!  handle_traffic ─▶
//!
//!  this node              peer            one round each interval
//!     │ ── Beat{sequence} ──▶ │
//!     │ ◀─ Answer{sequence} ─ │           feeds the detector; so does other traffic, if the round has begun
//! ```
//!
//! # Who monitors whom
//! All members stand on a ring, in an order that every node computes alike. Each monitors the next ones clockwise
//! until enough reachable ones are found; see [`monitored_by`]. A peer that leaves that set is forgotten if it is
//! available, and else kept until it answers or is removed, because only its accuser can take an accusation back.
//!
//! # A stalled process accuses nobody
//! A round that comes later than twice the interval says that this process, not its peers, was silent. No peer is
//! accused then until one full round has passed: heartbeats sent, an interval to answer, and the next round on time.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::detector::FailureDetector;
use super::ring::Ring;
pub use super::ring::monitored_by;
use crate::address::UniqueAddress;

/// Says how often and how many peers are monitored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeartbeatSettings {
    /// Time between two rounds of heartbeats. Default 1 s, from 1 ms; one small frame each way per monitored peer.
    pub interval: Duration,
    /// Reachable members that each node monitors. Default 9, from 1; up to that size everybody monitors everybody.
    pub monitored: NonZeroUsize,
    /// Time in which the first answer is expected. Default 1 s; then the silence of a peer never heard begins to count.
    pub first_answer_within: Duration,
}

impl Default for HeartbeatSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            monitored: NonZeroUsize::MIN.saturating_add(8),
            first_answer_within: Duration::from_secs(1),
        }
    }
}

/// Asks for a heartbeat or an answer to be sent, on the control lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Ask `to` for a sign of life.
    Beat {
        /// The monitored peer.
        to: UniqueAddress,
        /// Number that the answer has to carry; it grows with each round.
        sequence: u64,
    },
    /// Answer the heartbeat of `to`.
    Answer {
        /// The peer that monitors this node.
        to: UniqueAddress,
        /// The number its heartbeat carried.
        sequence: u64,
    },
}

/// Tells what this node has found about its peers or itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The peer has been silent for too long.
    Unreachable(UniqueAddress),
    /// The peer that was accused is heard again, or is no longer for this node to judge.
    Reachable(UniqueAddress),
    /// This process was held up; what it believed before is stale, and it accuses nobody for one round.
    Starved {
        /// Time since the round before, more than twice the interval.
        silent_for: Duration,
    },
}

/// Monitors the members that the ring assigns to this node.
///
/// Bounded by the members: one detector per monitored peer, one waiting signal and one waiting finding per peer.
#[derive(Debug)]
pub struct Heartbeats {
    own: UniqueAddress,
    settings: HeartbeatSettings,
    /// What each peer's detector is made from.
    detector: Box<dyn FailureDetector>,
    ring: Ring,
    peers: BTreeMap<UniqueAddress, Peer>,
    /// Number of the latest round.
    sequence: u64,
    /// When the latest round was; none before the first and while there is nobody to monitor.
    last_round: Option<Instant>,
    next_round: Option<Instant>,
    beats: BTreeMap<UniqueAddress, u64>,
    answers: BTreeMap<UniqueAddress, u64>,
    findings: BTreeMap<UniqueAddress, Standing>,
    starved: Option<Duration>,
}

impl Heartbeats {
    /// Makes a machine for the node `own`; each peer gets a fresh copy of `detector`.
    #[must_use]
    pub fn new(
        own: UniqueAddress,
        mut settings: HeartbeatSettings,
        detector: Box<dyn FailureDetector>,
    ) -> Self {
        settings.interval = settings.interval.max(LEAST_INTERVAL);
        Self {
            own,
            settings,
            detector,
            ring: Ring::default(),
            peers: BTreeMap::new(),
            sequence: 0,
            last_round: None,
            next_round: None,
            beats: BTreeMap::new(),
            answers: BTreeMap::new(),
            findings: BTreeMap::new(),
            starved: None,
        }
    }

    /// Takes the present members, and which of them anybody says are unreachable, and monitors those assigned by them.
    pub fn handle_members(
        &mut self,
        now: Instant,
        members: &BTreeSet<UniqueAddress>,
        unreachable: &BTreeSet<UniqueAddress>,
    ) {
        self.ring.update(members);
        let assigned = self.ring.monitored_by(&self.own, unreachable, self.settings.monitored);
        self.forget_removed(members);
        self.release_unassigned(now, &assigned);
        for peer in assigned {
            let fresh = || Peer::new(self.detector.fresh(), self.sequence);
            self.peers.entry(peer).or_insert_with(fresh).is_assigned = true;
        }
        self.schedule(now);
    }

    /// Holds a round if it is due: judges each peer, then sends it a heartbeat.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_round.is_none_or(|due| now < due) {
            return;
        }
        match self.lateness(now) {
            Some(silent_for) => self.starved = Some(silent_for),
            None => self.judge(now),
        }
        self.send_beats(now);
        self.last_round = Some(now);
        self.next_round = now.checked_add(self.settings.interval);
    }

    /// Answers the heartbeat of `from`, which is traffic too.
    pub fn handle_beat(&mut self, now: Instant, from: &UniqueAddress, sequence: u64) {
        self.handle_traffic(now, from);
        // A peer beyond the bound is answered in one of its next rounds.
        if self.answers.len() < MOST_ANSWERS || self.answers.contains_key(from) {
            self.answers.insert(from.clone(), sequence);
        }
    }

    /// Notes the answer of `from`; one that answers nothing outstanding is only traffic.
    pub fn handle_answer(&mut self, now: Instant, from: &UniqueAddress, sequence: u64) {
        let Some(peer) = self.peers.get_mut(from) else { return };
        if peer.take_answer(sequence) {
            peer.detector.heartbeat(now);
        } else {
            peer.detector.traffic(now);
        }
        if peer.standing_at(now) == Standing::Accused {
            return;
        }
        if !peer.is_assigned {
            self.forget(from);
        } else if peer.standing == Standing::Accused {
            // The whole cluster waits for it to be taken back, so not for the next round.
            peer.standing = Standing::Cleared;
            self.findings.insert(from.clone(), Standing::Cleared);
        }
    }

    /// Notes that anything at all came from `from`.
    pub fn handle_traffic(&mut self, now: Instant, from: &UniqueAddress) {
        if let Some(peer) = self.peers.get_mut(from) {
            peer.detector.traffic(now);
        }
    }

    /// Takes the next heartbeat or answer to send; a newer one to the same peer replaces one that waits.
    pub fn poll_signal(&mut self) -> Option<Signal> {
        if let Some((to, sequence)) = self.answers.pop_first() {
            return Some(Signal::Answer { to, sequence });
        }
        self.beats.pop_first().map(|(to, sequence)| Signal::Beat { to, sequence })
    }

    /// Takes the next finding; a newer one about the same peer replaces one that waits.
    pub fn poll_finding(&mut self) -> Option<Finding> {
        if let Some(silent_for) = self.starved.take() {
            return Some(Finding::Starved { silent_for });
        }
        self.findings.pop_first().map(|(peer, standing)| match standing {
            Standing::Accused => Finding::Unreachable(peer),
            Standing::Cleared => Finding::Reachable(peer),
        })
    }

    /// Returns when the next round is due; none while there is nobody to monitor.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_round
    }

    /// Gives the peers that heartbeats are sent to, each with the suspicion its detector holds at `now`.
    pub fn suspicions(&self, now: Instant) -> impl Iterator<Item = (&UniqueAddress, f64)> {
        self.peers.iter().map(move |(address, peer)| (address, peer.detector.suspicion(now)))
    }

    /// Gives the peers that this node itself hears: they answer, and not too long ago.
    pub fn heard(&self, now: Instant) -> impl Iterator<Item = &UniqueAddress> {
        let is_heard = move |peer: &Peer| peer.has_answered && peer.detector.is_available(now);
        self.peers.iter().filter(move |(_, peer)| is_heard(peer)).map(|(address, _)| address)
    }

    fn forget_removed(&mut self, members: &BTreeSet<UniqueAddress>) {
        self.peers.retain(|peer, _| members.contains(peer));
        self.beats.retain(|peer, _| members.contains(peer));
        // The table drops the rows about a removed member by itself.
        self.findings.retain(|peer, _| members.contains(peer));
    }

    fn release_unassigned(&mut self, now: Instant, assigned: &BTreeSet<UniqueAddress>) {
        let mut released = Vec::new();
        for (address, peer) in &mut self.peers {
            peer.is_assigned = assigned.contains(address);
            if !peer.is_assigned && peer.detector.is_available(now) {
                released.push(address.clone());
            }
        }
        for address in &released {
            self.forget(address);
        }
    }

    /// Stops monitoring a peer, and takes back what was said about it.
    fn forget(&mut self, address: &UniqueAddress) {
        self.beats.remove(address);
        let Some(peer) = self.peers.remove(address) else { return };
        if peer.standing == Standing::Accused {
            self.findings.insert(address.clone(), Standing::Cleared);
        }
    }

    /// Starts the rounds when there is somebody to monitor, and ends them when there is nobody.
    fn schedule(&mut self, now: Instant) {
        if self.peers.is_empty() {
            self.last_round = None;
            self.next_round = None;
        } else if self.next_round.is_none() {
            self.next_round = Some(now);
        }
    }

    /// Gives the time since the round before if it is so long that nothing may be concluded from silence.
    fn lateness(&self, now: Instant) -> Option<Duration> {
        let silent_for = now.saturating_duration_since(self.last_round?);
        Some(silent_for).filter(|silent| *silent > self.settings.interval.saturating_mul(2))
    }

    fn judge(&mut self, now: Instant) {
        for (address, peer) in &mut self.peers {
            let standing = peer.standing_at(now);
            if standing != peer.standing {
                peer.standing = standing;
                self.findings.insert(address.clone(), standing);
            }
        }
    }

    fn send_beats(&mut self, now: Instant) {
        self.sequence = self.sequence.saturating_add(1);
        for (address, peer) in &mut self.peers {
            peer.note_beat(now, self.sequence, self.settings.first_answer_within);
            self.beats.insert(address.clone(), self.sequence);
        }
    }
}

/// Knows one monitored peer.
#[derive(Debug)]
struct Peer {
    detector: Box<dyn FailureDetector>,
    /// Whether the ring assigns it; if not, it is kept until it answers.
    is_assigned: bool,
    /// What was last said about it.
    standing: Standing,
    /// The latest heartbeat sent and the latest answered; what lies between may still be answered.
    sent: u64,
    answered: u64,
    /// Whether it has answered at all.
    has_answered: bool,
    /// When the first heartbeat was sent.
    first_sent: Option<Instant>,
}

/// What this node says about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Cleared,
    Accused,
}

impl Peer {
    /// Begins after `sequence`, so that answers to an earlier time of monitoring count as traffic only.
    fn new(detector: Box<dyn FailureDetector>, sequence: u64) -> Self {
        Self {
            detector,
            is_assigned: true,
            standing: Standing::Cleared,
            sent: sequence,
            answered: sequence,
            has_answered: false,
            first_sent: None,
        }
    }

    fn standing_at(&self, now: Instant) -> Standing {
        if self.detector.is_available(now) { Standing::Cleared } else { Standing::Accused }
    }

    /// Says whether `sequence` answers an outstanding heartbeat; each is answered once.
    fn take_answer(&mut self, sequence: u64) -> bool {
        let is_new = sequence > self.answered && sequence <= self.sent;
        if is_new {
            self.answered = sequence;
            self.has_answered = true;
        }
        is_new
    }

    /// Notes that a heartbeat is sent. A peer that has let the first answer wait too long counts as heard now:
    /// its detector begins to watch, and a peer that never answers is found like one that no longer does.
    fn note_beat(&mut self, now: Instant, sequence: u64, first_answer_within: Duration) {
        self.sent = sequence;
        let first_sent = *self.first_sent.get_or_insert(now);
        let waited = now.saturating_duration_since(first_sent);
        let is_first = first_sent == now;
        if !is_first && waited >= first_answer_within && !self.detector.is_monitoring() {
            self.detector.heartbeat(now);
        }
    }
}

/// Rounds closer together would only make load.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);
/// Answers that may wait at the same time: more peers than any cluster's ring lets monitor one node.
const MOST_ANSWERS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::detector::{Deadline, PhiAccrual, PhiSettings};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn every_round_sends_a_beat_to_each_peer_also_when_answers_are_lost() {
        let mut machine = Scene::new(3);
        for sequence in 1..=3 {
            let sent: Vec<_> = machine.round().into_iter().map(|(_, sequence)| sequence).collect();
            assert_eq!(sent, [sequence; 2]);
        }
    }

    #[test]
    fn a_peer_that_falls_silent_is_accused_once_and_cleared_once() {
        let mut scene = Scene::new(3);
        scene.run(20, |_| true);
        assert_eq!(scene.findings(), []);
        scene.run(8, |peer| *peer != node(2));
        assert_eq!(scene.findings(), [Finding::Unreachable(node(2))]);
        scene.run(8, |_| true);
        assert_eq!(scene.findings(), [Finding::Reachable(node(2))]);
    }

    #[test]
    fn an_accused_peer_is_cleared_by_its_answer_and_not_only_by_the_next_round() {
        let mut scene = Scene::new(2);
        scene.run(20, |_| true);
        scene.run(8, |_| false);
        assert_eq!(scene.findings(), [Finding::Unreachable(node(2))]);
        let beats = scene.round();
        let [(peer, sequence)] = &beats[..] else { panic!("{beats:?}") };
        scene.machine.handle_traffic(scene.now, peer);
        assert_eq!(scene.findings(), [], "traffic is looked at with the next round");
        scene.machine.handle_answer(scene.now, peer, *sequence);
        assert_eq!(scene.findings(), [Finding::Reachable(node(2))]);
        scene.run(1, |_| true);
        assert_eq!(scene.findings(), []);
    }

    #[test]
    fn an_accusation_comes_within_the_detection_time_and_a_round() {
        let mut scene = Scene::new(2);
        scene.run(20, |_| true);
        let silent_from = scene.now;
        while scene.findings().is_empty() {
            scene.run(1, |_| false);
        }
        let took = scene.now - silent_from;
        let predicted = PhiSettings::default().detection_time();
        assert!(took >= predicted && took <= predicted + 2 * SECOND, "{took:?}");
    }

    #[test]
    fn a_peer_that_never_answers_is_accused() {
        let mut scene = Scene::new(2);
        scene.run(6, |_| false);
        assert_eq!(scene.findings(), []);
        scene.run(3, |_| false);
        assert_eq!(scene.findings(), [Finding::Unreachable(node(2))]);
    }

    #[test]
    fn who_has_answered_is_heard_until_it_falls_silent() {
        let mut scene = Scene::new(3);
        let heard = |scene: &Scene| scene.machine.heard(scene.now).cloned().collect::<Vec<_>>();
        scene.run(4, |_| false);
        assert_eq!(heard(&scene), []);
        scene.run(10, |peer| *peer == node(2));
        assert_eq!(heard(&scene), [node(2)]);
        scene.run(8, |_| false);
        assert_eq!(heard(&scene), []);
    }

    #[test]
    fn any_traffic_puts_the_accusation_off() {
        let mut scene = Scene::new(2);
        scene.run(10, |_| true);
        for _ in 0..30 {
            scene.run(1, |_| false);
            let now = scene.now;
            scene.machine.handle_traffic(now, &node(2));
        }
        assert_eq!(scene.findings(), []);
        scene.run(8, |_| false);
        assert_eq!(scene.findings(), [Finding::Unreachable(node(2))]);
    }

    #[test]
    fn an_answer_counts_once_and_only_to_a_beat_that_was_sent() {
        let second = Duration::from_secs(1);
        let mut machine = with_detector(Box::new(Deadline::new(second, second)), 2);
        let start = Instant::now();
        machine.handle_members(start, &nodes(2), &BTreeSet::new());
        machine.handle_timeout(start);
        for sequence in [0, 2, u64::MAX] {
            machine.handle_answer(start, &node(2), sequence);
            assert!(!machine.peers[&node(2)].detector.is_monitoring(), "{sequence}");
        }
        machine.handle_answer(start, &node(2), 1);
        assert!(machine.peers[&node(2)].detector.is_monitoring());
        assert!(!machine.peers.get_mut(&node(2)).unwrap().take_answer(1));
    }

    #[test]
    fn a_late_round_accuses_nobody_until_a_full_round_has_passed() {
        let mut scene = Scene::new(3);
        scene.run(20, |_| true);
        scene.now += Duration::from_secs(120);
        scene.run(1, |_| true);
        let silent_for = Duration::from_secs(121);
        assert_eq!(scene.findings(), [Finding::Starved { silent_for }]);
        scene.run(5, |_| true);
        assert_eq!(scene.findings(), []);
    }

    #[test]
    fn a_peer_that_did_not_answer_the_round_after_a_late_one_is_accused() {
        let mut scene = Scene::new(3);
        scene.run(20, |_| true);
        scene.now += Duration::from_secs(120);
        scene.run(1, |peer| *peer != node(3));
        assert!(matches!(scene.findings()[..], [Finding::Starved { .. }]));
        scene.run(1, |peer| *peer != node(3));
        assert_eq!(scene.findings(), [Finding::Unreachable(node(3))]);
    }

    #[test]
    fn a_round_late_by_less_than_an_interval_still_judges() {
        let mut scene = Scene::new(2);
        scene.run(20, |_| true);
        scene.run(3, |_| false);
        scene.now += SECOND;
        scene.run(1, |_| false);
        assert_eq!(scene.findings(), [Finding::Unreachable(node(2))]);
    }

    #[test]
    fn a_removed_member_is_forgotten_without_a_word() {
        let mut scene = Scene::new(3);
        scene.run(10, |_| true);
        scene.run(8, |peer| *peer != node(3));
        scene.members(&nodes(2), &BTreeSet::new());
        assert_eq!(scene.findings(), []);
        assert_eq!(scene.round().len(), 1);
    }

    #[test]
    fn a_released_peer_that_is_available_is_forgotten() {
        let mut scene = Scene::monitoring(4, 1);
        let [first] = &scene.monitored()[..] else { panic!("one peer is monitored") };
        let first = first.clone();
        scene.run(10, |_| true);
        scene.members(&crowded_out(&first), &BTreeSet::new());
        assert!(!scene.monitored().contains(&first));
    }

    #[test]
    fn a_released_peer_that_is_silent_is_kept_until_it_answers() {
        let mut scene = Scene::monitoring(4, 1);
        let [first] = &scene.monitored()[..] else { panic!("one peer is monitored") };
        let first = first.clone();
        scene.run(10, |_| true);
        scene.run(8, |_| false);
        assert_eq!(scene.findings(), [Finding::Unreachable(first.clone())]);
        scene.members(&crowded_out(&first), &BTreeSet::new());
        scene.run(5, |peer| *peer != first);
        assert!(scene.monitored().contains(&first));
        assert_eq!(scene.findings(), []);
        scene.run(1, |_| true);
        assert!(!scene.monitored().contains(&first));
        assert_eq!(scene.findings(), [Finding::Reachable(first)]);
    }

    #[test]
    fn beats_are_answered_also_of_nodes_not_monitored() {
        let mut machine = Scene::new(1).machine;
        machine.handle_beat(Instant::now(), &node(7), 5);
        machine.handle_beat(Instant::now(), &node(7), 6);
        assert_eq!(machine.poll_signal(), Some(Signal::Answer { to: node(7), sequence: 6 }));
        assert_eq!(machine.poll_signal(), None);
    }

    #[test]
    fn a_flood_of_beats_is_bounded() {
        let mut machine = Scene::new(1).machine;
        let now = Instant::now();
        for uid in 0..3 * MOST_ANSWERS as u64 {
            machine.handle_beat(now, &incarnation(1, uid), 1);
        }
        let answers = std::iter::from_fn(|| machine.poll_signal()).count();
        assert_eq!(answers, MOST_ANSWERS);
    }

    #[test]
    fn a_node_alone_has_no_rounds_and_its_first_one_is_never_late() {
        let mut scene = Scene::new(1);
        assert_eq!(scene.machine.poll_timeout(), None);
        scene.now += Duration::from_secs(3_600);
        scene.members(&nodes(2), &BTreeSet::new());
        scene.run(3, |_| true);
        scene.members(&nodes(1), &BTreeSet::new());
        assert_eq!(scene.machine.poll_timeout(), None);
        scene.now += Duration::from_secs(3_600);
        scene.members(&nodes(2), &BTreeSet::new());
        scene.run(3, |_| true);
        assert_eq!(scene.findings(), []);
    }

    /// Plays node 1 of a cluster against peers that answer at once or not at all.
    struct Scene {
        machine: Heartbeats,
        now: Instant,
    }

    impl Scene {
        fn new(size: u16) -> Self {
            Self::monitoring(size, 9)
        }

        fn monitoring(size: u16, monitored: usize) -> Self {
            let detector = PhiAccrual::new(PhiSettings::default());
            let machine = with_detector(Box::new(detector), monitored);
            let mut scene = Self { machine, now: Instant::now() };
            scene.members(&nodes(size), &BTreeSet::new());
            scene
        }

        fn members(
            &mut self,
            members: &BTreeSet<UniqueAddress>,
            unreachable: &BTreeSet<UniqueAddress>,
        ) {
            self.machine.handle_members(self.now, members, unreachable);
        }

        /// Holds a round, lets an interval pass, and gives the beats that were sent.
        fn round(&mut self) -> Vec<(UniqueAddress, u64)> {
            self.machine.handle_timeout(self.now);
            let mut beats = Vec::new();
            while let Some(signal) = self.machine.poll_signal() {
                let Signal::Beat { to, sequence } = signal else { panic!("nobody has asked") };
                beats.push((to, sequence));
            }
            self.now += SECOND;
            beats
        }

        fn run(&mut self, rounds: u32, answers: impl Fn(&UniqueAddress) -> bool) {
            for _ in 0..rounds {
                let sent_at = self.now;
                for (peer, sequence) in self.round().iter().filter(|(peer, _)| answers(peer)) {
                    self.machine.handle_answer(sent_at, peer, *sequence);
                }
            }
        }

        fn findings(&mut self) -> Vec<Finding> {
            std::iter::from_fn(|| self.machine.poll_finding()).collect()
        }

        fn monitored(&self) -> Vec<UniqueAddress> {
            self.machine.suspicions(self.now).map(|(peer, _)| peer.clone()).collect()
        }
    }

    fn with_detector(detector: Box<dyn FailureDetector>, monitored: usize) -> Heartbeats {
        let monitored = NonZeroUsize::new(monitored).unwrap();
        let settings = HeartbeatSettings { monitored, ..HeartbeatSettings::default() };
        Heartbeats::new(node(1), settings, detector)
    }

    /// Gives members among whom node 1, monitoring one, no longer monitors `first`.
    fn crowded_out(first: &UniqueAddress) -> BTreeSet<UniqueAddress> {
        let one = NonZeroUsize::MIN;
        let assigned = |size| monitored_by(&node(1), &nodes(size), &BTreeSet::new(), one);
        let size = (5..1_000).find(|size| !assigned(*size).contains(first)).unwrap();
        nodes(size)
    }

    fn nodes(size: u16) -> BTreeSet<UniqueAddress> {
        (1..=size).map(node).collect()
    }

    fn node(port: u16) -> UniqueAddress {
        incarnation(port, u64::from(port))
    }

    fn incarnation(port: u16, uid: u64) -> UniqueAddress {
        format!("tcp://Ring@10.0.0.1:{port}#{uid:016x}").parse().unwrap()
    }
}
