//! Holds what the shell gives to a machine and gets from it.

use std::time::Instant;

use crate::address::{Address, UniqueAddress};
use crate::membership::downing::DowningStrategy;
use crate::membership::event::StopCause;
use crate::membership::gossip::RemovalTime;
use crate::membership::pdu::MembershipPdu;
use crate::membership::profile::Profile;
use crate::membership::settings::ClusterSettings;

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
    /// Is a member whose duties are to be ended; then [`handle_exit_done`](super::Membership::handle_exit_done) is due.
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

/// Seeds that a node may be given: more would only be asked in vain.
pub const MAX_SEEDS: usize = 64;
