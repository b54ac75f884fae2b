//! Holds what the machine knows in each state; the chart is in the module above.

use std::time::Instant;

use crate::address::Uid;
use crate::association::LinkId;
use crate::association::control::Terms;
use crate::association::liveness::Liveness;

#[derive(Debug, Clone)]
pub(super) enum State {
    Idle,
    /// Dialing or Handshaking: up to one link of each direction competes.
    Pending(Pending),
    Up(Up),
    Draining(Draining),
    Backoff {
        until: Instant,
    },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    pub(super) own: Option<Own>,
    pub(super) parked: Option<Parked>,
}

/// The link that this side dials.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub(super) link: LinkId,
    pub(super) phase: Phase,
    /// The incarnation that was known when the Hello was sent.
    pub(super) knew: Option<Uid>,
    pub(super) until: Instant,
}

#[derive(Debug, Clone)]
pub(super) enum Phase {
    Dialing,
    Greeted,
    Welcomed(Terms),
}

/// A link that the peer dialled and that is not chosen (yet).
#[derive(Debug, Clone)]
pub(super) struct Parked {
    pub(super) link: LinkId,
    /// The incarnation that dialled; another one than the known is not proven to live.
    pub(super) uid: Uid,
    pub(super) terms: Terms,
    pub(super) until: Instant,
}

/// The last phase: flush, say goodbye, hear the peer's goodbye.
#[derive(Debug, Clone)]
pub(super) struct Draining {
    pub(super) link: LinkId,
    pub(super) until: Instant,
    pub(super) has_said: bool,
    pub(super) has_heard: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Up {
    pub(super) link: LinkId,
    pub(super) since: Instant,
    pub(super) liveness: Liveness,
    pub(super) parked: Option<Parked>,
}

/// The incarnation at the other end, and the number of the latest activation with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) uid: Uid,
    pub(super) generation: u64,
}
