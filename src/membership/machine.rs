//! Composes all of membership into one machine for one node: [`Membership`].
//!
//! Floor 2: no IO, no clock, and randomness from a seed that the shell has drawn. The shell gives it what arrives and
//! the time, and takes what is to be sent, what happened and when to come back, until each `poll` returns none.

use std::time::{Duration, Instant};

use super::cluster_id::ClusterId;
use super::downing::DowningStrategy;
use super::event::{ClusterEvent, StopCause};
use super::explain::Explanation;
use super::gossip::{Gossip, OwnMark, RemovalTime};
use super::leader::leader;
use super::member::Member;
use super::pdu::MembershipPdu;
use super::profile::Profile;
use super::refusals::Refusals;
use super::settings::{ClusterSettings, ClusterSettingsError};
use super::state::{ClusterState, Convergence, Known};
use super::vector_clock::NodeKey;
use crate::address::{Address, UniqueAddress};

/// Holds what a machine is made from.
#[derive(Debug)]
pub struct Setup {
    /// Which node this is.
    pub own: UniqueAddress,
    /// What it says of itself.
    pub profile: Profile,
    /// Every knob.
    pub settings: ClusterSettings,
    /// Decides about unreachable members.
    pub strategy: Box<dyn DowningStrategy>,
    /// Seeds the machine's generator: to be drawn at random, except where a run is to be repeated.
    pub seed: u64,
    /// One moment by both clocks: tombstones are dated from it on, whatever the wall clock does.
    pub started: (Instant, RemovalTime),
}

/// Is one PDU to send, on the control lane of the association with that address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Whom to.
    pub to: Address,
    /// What.
    pub pdu: MembershipPdu,
}

/// Says how far this node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Has not been asked to join, or has been refused.
    Idle,
    /// Looks for a member that lets it in.
    Joining,
    /// Is a member.
    Member,
    /// Is a member whose duties are to be ended; then [`Membership::handle_exit_done`] is due.
    Exiting,
    /// Is no member any more, and never will be again.
    Stopped(StopCause),
}

/// Says why a node does not begin to join. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Refuses a second request: nobody's fault; the first one goes on.
    #[error("the node is joining already")]
    AlreadyJoining,
    /// Refuses a member: the caller's fault; clusters do not merge.
    #[error("the node is a member already")]
    AlreadyMember,
    /// Refuses an incarnation that was a member: restart the node.
    #[error("the node was a member ({0:?}), and has to be restarted to join again")]
    Stopped(StopCause),
    /// Refuses an empty or too long list: the caller's fault.
    #[error("{count} seeds were named, where 1 to {MAX_SEEDS} are allowed")]
    SeedCount {
        /// Seeds in the list.
        count: usize,
    },
    /// Refuses a seed of another system: the caller's fault.
    #[error("the seed {seed} is not of this node's system")]
    OtherSystem {
        /// Which seed.
        seed: Address,
    },
}

/// Says why a request about a member is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Refuses a request of a node that is itself no member.
    #[error("this node is no member of a cluster")]
    NoMember,
    /// Names an address at which no member is.
    #[error("there is no member at {address}")]
    NotAMember {
        /// Which address.
        address: Address,
    },
}

/// Is the membership machine of one node.
#[derive(Debug)]
pub struct Membership {
    own: UniqueAddress,
    profile: Profile,
    settings: ClusterSettings,
    rng: fastrand::Rng,
    phase: Phase,
    cluster: Option<ClusterId>,
    gossip: Gossip,
    refusals: Refusals,
}

impl Membership {
    /// Makes the machine of a node that belongs to no cluster yet.
    ///
    /// # Errors
    /// [`ClusterSettingsError`] if a knob is out of its range.
    pub fn new(setup: Setup) -> Result<Self, ClusterSettingsError> {
        setup.settings.check()?;
        Ok(Self {
            own: setup.own,
            profile: setup.profile,
            settings: setup.settings,
            rng: fastrand::Rng::with_seed(setup.seed),
            phase: Phase::Idle,
            cluster: None,
            gossip: Gossip::default(),
            refusals: Refusals::default(),
        })
    }

    /// Begins to join through these seeds; only the first of the list may form a cluster.
    ///
    /// # Errors
    /// [`JoinError`] says why not.
    pub fn handle_join(&mut self, now: Instant, seeds: Vec<Address>) -> Result<(), JoinError> {
        match self.phase {
            Phase::Idle => {}
            Phase::Joining => return Err(JoinError::AlreadyJoining),
            Phase::Member | Phase::Exiting => return Err(JoinError::AlreadyMember),
            Phase::Stopped(cause) => return Err(JoinError::Stopped(cause)),
        }
        let _ = now;
        if seeds == [self.own.address().clone()] {
            let id = self.rng.u64(..) ^ NodeKey::of(&self.own).get();
            self.cluster = Some(ClusterId::new(id));
            let member = Member::joining(self.own.clone(), self.profile.clone());
            if self.gossip.add(member).is_ok() {
                self.gossip.stamp(&self.own, OwnMark::Give);
            }
            self.phase = Phase::Member;
        } else {
            self.phase = Phase::Joining;
        }
        Ok(())
    }

    /// Asks the member at an address to leave, which may be this node; one that is leaving already goes on.
    ///
    /// # Errors
    /// [`RequestError`] says why not.
    pub fn handle_leave(&mut self, _now: Instant, node: &Address) -> Result<(), RequestError> {
        Err(RequestError::NotAMember { address: node.clone() })
    }

    /// Declares the member at an address dead, which may be this node; one that is Down already stays so.
    ///
    /// # Errors
    /// [`RequestError`] says why not.
    pub fn handle_down(&mut self, _now: Instant, node: &Address) -> Result<(), RequestError> {
        Err(RequestError::NotAMember { address: node.clone() })
    }

    /// Takes a PDU from the peer that the association has shaken hands with.
    pub fn handle_pdu(&mut self, _now: Instant, _from: &UniqueAddress, _pdu: MembershipPdu) {}

    /// Notes that any frame came from that peer.
    pub fn handle_traffic(&mut self, _now: Instant, _from: &UniqueAddress) {}

    /// Notes that an incarnation is gone: another one has shaken hands from its address, or it is in quarantine.
    pub fn handle_fenced(&mut self, _now: Instant, _node: &UniqueAddress) {}

    /// Notes that a peer will never talk to this node again; if it is a member, this node goes.
    pub fn handle_quarantined_by(&mut self, _now: Instant, _by: &UniqueAddress) {}

    /// Notes that the duties of this Exiting node are ended; without any effect in other phases.
    pub fn handle_exit_done(&mut self, _now: Instant) {}

    /// Does what is due at this time.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Takes the next PDU to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    /// Takes the next event.
    pub fn poll_event(&mut self) -> Option<ClusterEvent> {
        None
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout) if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
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

    /// Returns what this node knows of its cluster.
    #[must_use]
    pub fn state(&self) -> ClusterState {
        let none = std::collections::BTreeSet::new();
        let view = super::convergence::Perspective {
            gossip: &self.gossip,
            own: &self.own,
            data_centre: self.profile.data_centre(),
            exiting_confirmed: &none,
        };
        ClusterState::new(Known {
            own: self.own.clone(),
            cluster: self.cluster,
            members: self.gossip.members().cloned().collect(),
            unreachable: self
                .gossip
                .reachability()
                .all_unreachable()
                .into_iter()
                .cloned()
                .collect(),
            leader: leader(&view).cloned(),
            seen: self.gossip.seen().cloned().collect(),
            convergence: if view.is_converged() {
                Convergence::Reached
            } else {
                Convergence::Pending
            },
        })
    }

    /// Returns what this node tells the others.
    #[must_use]
    pub fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    /// Says why the cluster is as it is.
    #[must_use]
    pub fn explain(&self, _now: Instant) -> Explanation {
        Explanation {
            own: self.own.clone(),
            phase: self.phase,
            cluster: self.cluster,
            leader: self.state().leader().cloned(),
            members: self.gossip.member_count(),
            joining: None,
            not_seen: Vec::new(),
            accusations: Vec::new(),
            waiting: Vec::new(),
            downing: None,
            refusals: self.refusals.clone(),
            detection_time: self.detection_time(),
        }
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
        0
    }
}

/// Seeds that a node may be given: more would only be asked in vain.
pub const MAX_SEEDS: usize = 64;
