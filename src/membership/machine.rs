//! Composes all of membership into one machine for one node: [`Membership`].
//!
//! Floor 2: no IO, no clock, and randomness from a seed that the shell has drawn. The shell gives it what arrives and
//! the time, and takes what is to be sent, what happened and when to come back, until each `poll` returns none.
//!
//! ```text
//!            handle_join             Welcome, or it forms a cluster         own status Exiting
//!   Idle ───────────────▶ Joining ─────────────────────────▶ Member ──────────────────────▶ Exiting
//!     ▲    refused by settings │                               │                               │
//!     └────────────────────────┘      own status Down, or ─────┴── removed by the others       │ handle_exit_done
//!                                                              ▼                               ▼
//!                                                     Stopped(Downed | Removed)         Stopped(Left)
//! ```
//!
//! One concern, one file: `joining` lets this node and others in, `gossiping` spreads the state, `watching` turns
//! silence into statements, `leading` does the leader's work, `downing` declares members dead, `ending` ends this
//! node's membership, `telling` works out the events, `reporting` explains; `seam` has what goes in and out.
//!
//! # Rules
//!
//! 1. A PDU is believed only from the peer that it names as its sender, and only within one cluster.
//! 2. Each change of the state is stamped once, and all that follows from it is worked out afterwards in `settle`.
//! 3. Nothing is decided from silence before the inputs of that moment have been taken, and a stall has been ruled out:
//!    so downing decides in `handle_timeout` only, after the heartbeats.
//! 4. A node that has stopped, or meets one that was removed or belongs elsewhere, answers with just that, once a round.

mod downing;
mod ending;
mod gossiping;
mod joining;
mod leading;
mod reporting;
mod seam;
mod telling;
mod watching;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub use self::seam::{JoinError, MAX_SEEDS, Phase, RequestError, Setup, Transmit};
use self::telling::Told;
use super::cluster_id::ClusterId;
use super::convergence::Perspective;
use super::downing::Downing;
use super::event::ClusterEvent;
use super::gossip::{Gossip, OwnMark, RemovalTime};
use super::heartbeat::{Heartbeats, Signal};
use super::join::Joiner;
use super::member::MemberStatus;
use super::outbox::{Letter, Outbox};
use super::pdu::{Beat, MembershipPdu, SharedSettings};
use super::profile::Profile;
use super::refusals::{Refusals, RefusedPdu};
use super::settings::{ClusterSettings, ClusterSettingsError};
use super::state::ClusterState;
use crate::address::UniqueAddress;

/// Is the membership machine of one node.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tellwire::membership::downing::KeepMajority;
/// use tellwire::membership::gossip::RemovalTime;
/// use tellwire::membership::profile::Profile;
/// use tellwire::membership::{ClusterEvent, ClusterSettings, Membership, Phase, Setup};
///
/// let now = Instant::now();
/// let own: tellwire::UniqueAddress = "mem://Chat@ada:1#0123456789abcdef".parse()?;
/// let seeds = vec![own.address().clone()];
/// let mut node = Membership::new(Setup {
///     own,
///     profile: Profile::default(),
///     settings: ClusterSettings::default(),
///     strategy: Box::new(KeepMajority::default()),
///     seed: 7,
///     started: (now, RemovalTime::since_1970(Duration::from_secs(1_800_000_000))),
/// })?;
/// node.handle_join(now, seeds)?;
/// assert_eq!(node.phase(), Phase::Member);
/// assert!(matches!(node.poll_event(), Some(ClusterEvent::Up(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Membership {
    own: UniqueAddress,
    profile: Arc<Profile>,
    settings: ClusterSettings,
    /// What all members must have alike.
    shared: SharedSettings,
    started: (Instant, RemovalTime),
    rng: fastrand::Rng,
    phase: Phase,
    cluster: Option<ClusterId>,
    /// When this node became a member.
    joined_at: Option<Instant>,
    gossip: Gossip,
    /// Whether something follows from the state that is not worked out yet.
    is_changed: bool,
    exiting_confirmed: BTreeSet<UniqueAddress>,
    joiner: Joiner,
    heartbeats: Heartbeats,
    downing: Downing,
    /// Whether downing has yet to hear of a change.
    is_view_stale: bool,
    rounds: Rounds,
    /// Since when this node leads without convergence.
    unconverged_since: Option<Instant>,
    /// Since when nothing is left to do for this Exiting node.
    exit_done_at: Option<Instant>,
    /// The leader's looks since this node is Down; none while it is not.
    down_looks: Option<u32>,
    /// Members that say that this node was removed.
    witnesses: BTreeSet<UniqueAddress>,
    /// Other clusters that were told of.
    islands: BTreeSet<ClusterId>,
    /// Who was told lately that it, or this node, is no member.
    warned: BTreeMap<UniqueAddress, Instant>,
    outbox: Outbox,
    told: Told,
    /// Whether the last event was told.
    is_end_told: bool,
    events: VecDeque<ClusterEvent>,
    refusals: Refusals,
    shown: OnceLock<ClusterState>,
}

/// When the next rounds are due; none while this node is no member.
#[derive(Debug, Default)]
struct Rounds {
    gossip: Option<Instant>,
    leader: Option<Instant>,
    probe: Option<Instant>,
}

impl Membership {
    /// Makes the machine of a node that belongs to no cluster yet.
    ///
    /// # Errors
    /// [`ClusterSettingsError`] if a knob is out of its range.
    pub fn new(setup: Setup) -> Result<Self, ClusterSettingsError> {
        let Setup { own, profile, settings, strategy, seed, started } = setup;
        settings.check()?;
        let heartbeat = settings.heartbeat.clone();
        let detector = settings.detector.detector(heartbeat.interval);
        Ok(Self {
            profile: Arc::new(profile),
            shared: settings.shared(&*strategy),
            started,
            rng: fastrand::Rng::with_seed(seed),
            phase: Phase::Idle,
            cluster: None,
            joined_at: None,
            gossip: Gossip::default(),
            is_changed: false,
            exiting_confirmed: BTreeSet::new(),
            joiner: Joiner::new(own.address().clone(), settings.join.clone()),
            heartbeats: Heartbeats::new(own.clone(), heartbeat, detector),
            downing: Downing::new(strategy, settings.downing.clone()),
            is_view_stale: false,
            rounds: Rounds::default(),
            unconverged_since: None,
            exit_done_at: None,
            down_looks: None,
            witnesses: BTreeSet::new(),
            islands: BTreeSet::new(),
            warned: BTreeMap::new(),
            outbox: Outbox::new(settings.max_queued),
            told: Told::default(),
            is_end_told: false,
            events: VecDeque::new(),
            refusals: Refusals::default(),
            shown: OnceLock::new(),
            own,
            settings,
        })
    }

    /// Takes a PDU from the peer that the association has shaken hands with.
    pub fn handle_pdu(&mut self, now: Instant, from: &UniqueAddress, pdu: MembershipPdu) {
        if let Err(why) = self.check_peer(from, &pdu) {
            self.refusals.note(why);
        } else if let Phase::Stopped(cause) = self.phase {
            self.answer_stopped(now, &pdu, cause);
        } else if self.cluster.is_none() {
            self.take_as_joiner(now, pdu);
        } else if pdu.fence().is_some_and(|cluster| self.cluster != Some(cluster)) {
            self.meet_stranger(now, &pdu);
        } else {
            self.take_as_member(now, pdu);
        }
        self.settle(now);
    }

    /// Notes that any frame came from that peer.
    ///
    /// Members that are Down or Exiting are judged by their heartbeats alone: such a node may have ended its
    /// membership and still have other things to say.
    pub fn handle_traffic(&mut self, now: Instant, from: &UniqueAddress) {
        if self.gossip.member(from).is_some_and(|member| !member.status().is_ending()) {
            self.heartbeats.handle_traffic(now, from);
        }
    }

    /// Notes that an incarnation is gone: another one has shaken hands from its address, or it is in quarantine.
    pub fn handle_fenced(&mut self, now: Instant, node: &UniqueAddress) {
        if self.is_member() {
            self.terminate(node);
            self.settle(now);
        }
    }

    /// Does what is due at this time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.joiner.handle_timeout(now);
        if self.is_member() {
            self.heartbeats.handle_timeout(now);
            self.take_findings(now);
            self.settle(now);
            self.review_if_stale(now);
            self.take_verdict(now);
            self.look_as_leader(now);
            self.gossip_if_due(now);
            self.probe_if_due(now);
        }
        self.settle(now);
    }

    /// Takes the next PDU to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        while let Some(letter) = self.next_letter() {
            if let Some(transmit) = self.write(letter) {
                return Some(transmit);
            }
        }
        None
    }

    /// Takes the next event.
    pub fn poll_event(&mut self) -> Option<ClusterEvent> {
        self.events.pop_front()
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout) if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let joiner = self.joiner.poll_timeout();
        if !self.is_member() {
            return joiner;
        }
        let Rounds { gossip, leader, probe } = self.rounds;
        let machines = [joiner, self.heartbeats.poll_timeout(), self.downing.poll_timeout()];
        machines.into_iter().chain([gossip, leader, probe]).flatten().min()
    }

    /// Returns which node this is.
    #[must_use]
    pub fn own(&self) -> &UniqueAddress {
        &self.own
    }

    /// Says how far this node has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns the cluster that this node belongs to, or did before it stopped.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Returns what this node tells the others.
    #[must_use]
    pub fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    /// Returns the expected time from a crash to the accusation, at most and with an even rhythm of heartbeats.
    #[must_use]
    pub fn detection_time(&self) -> Duration {
        let interval = self.settings.heartbeat.interval;
        self.settings.detector.detection_time(interval).saturating_add(interval)
    }

    /// Returns the PDUs that were not believed, counted by their reasons.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Returns how many PDUs were given up because too many waited to be sent.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.outbox.dropped()
    }

    fn check_peer(&self, from: &UniqueAddress, pdu: &MembershipPdu) -> Result<(), RefusedPdu> {
        if pdu.sender() != from || *from == self.own {
            return Err(RefusedPdu::Impostor);
        }
        if from.address().system() != self.own.address().system() {
            return Err(RefusedPdu::OtherSystem);
        }
        Ok(())
    }

    fn take_as_member(&mut self, now: Instant, pdu: MembershipPdu) {
        match pdu {
            MembershipPdu::InitJoin { from, cluster, settings } => {
                self.answer_init_join(now, &from, cluster, &settings);
            }
            MembershipPdu::InitJoinAck { from, cluster, admission } => {
                self.take_ack_as_member(now, &from, cluster, &admission);
            }
            // A seed that was probed, and is no member: all is well.
            MembershipPdu::InitJoinNack { .. } => {}
            MembershipPdu::Join { from, profile, .. } => self.let_in(&from, profile),
            MembershipPdu::Welcome { .. } => self.refusals.note(RefusedPdu::Unasked),
            MembershipPdu::Status(status) => self.take_status(now, &status),
            MembershipPdu::Gossip(envelope) => self.take_state(now, envelope),
            MembershipPdu::Heartbeat(beat) => self.take_beat(now, &beat),
            MembershipPdu::HeartbeatReply(Beat { from, sequence, .. }) => {
                self.heartbeats.handle_answer(now, &from, sequence);
                self.take_findings(now);
            }
            MembershipPdu::Leave { node } => self.take_back(&node),
            MembershipPdu::ExitingConfirmed { node } => self.confirm_exit(node),
        }
    }

    /// Works out what follows from changes, until nothing more does.
    fn settle(&mut self, now: Instant) {
        self.take_join_steps(now);
        self.go_if_known(now);
        while std::mem::take(&mut self.is_changed) {
            self.shown = OnceLock::new();
            self.tell_changes(now);
            self.look_at_own_status(now);
            self.take_findings(now);
            self.go_if_known(now);
        }
        self.tell_end();
    }

    /// Makes the state a new version.
    fn stamp(&mut self) {
        self.gossip.stamp(&self.own, self.mark());
        self.is_changed = true;
    }

    /// Says whether this node marks what it has as seen: not while exit tasks of it run.
    fn mark(&self) -> OwnMark {
        match self.own_status() {
            Some(MemberStatus::Exiting) if self.exit_done_at.is_none() => OwnMark::Withhold,
            _ => OwnMark::Give,
        }
    }

    fn own_status(&self) -> Option<MemberStatus> {
        self.gossip.member(&self.own).map(super::member::Member::status)
    }

    /// Tells whether this node takes part: it is a member and has not stopped.
    fn is_member(&self) -> bool {
        matches!(self.phase, Phase::Member | Phase::Exiting)
    }

    fn view(&self) -> Perspective<'_> {
        Perspective {
            gossip: &self.gossip,
            own: &self.own,
            data_centre: self.profile.data_centre(),
            exiting_confirmed: &self.exiting_confirmed,
        }
    }

    /// Dates a removal.
    fn removal_time(&self, now: Instant) -> RemovalTime {
        let (at, time) = self.started;
        time.plus(now.saturating_duration_since(at))
    }

    fn next_letter(&mut self) -> Option<Letter> {
        // Signs of life first: they are small, and late ones look like a crash.
        let signal = self.cluster.and_then(|cluster| {
            let signal = self.heartbeats.poll_signal()?;
            let beat = |sequence| Beat { from: self.own.clone(), cluster, sequence };
            Some(match signal {
                Signal::Beat { to, sequence } => (to, MembershipPdu::Heartbeat(beat(sequence))),
                Signal::Answer { to, sequence } => {
                    (to, MembershipPdu::HeartbeatReply(beat(sequence)))
                }
            })
        });
        match signal {
            Some((to, pdu)) => Some(Letter::Pdu(to.address().clone(), pdu)),
            None => self.outbox.pop(),
        }
    }
}

#[cfg(test)]
mod tests;
