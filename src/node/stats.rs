//! Shows what a node has counted.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::address::{Address, UniqueAddress};
use crate::association::AssociationState;
use crate::event::Reason;
use crate::lane::Lane;
use crate::node::core::Core;
use crate::node::outbox::Queued;
use crate::node::peers::Peer;

/// Counts what a node has sent and received since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Tells and asks that an outbox took, to this node's own actors included.
    pub tells_sent: u64,
    /// Replies that an outbox took.
    pub replies_sent: u64,
    /// Tells and asks that came in.
    pub tells_received: u64,
    /// Replies that came in.
    pub replies_received: u64,
    /// Tells and asks that a mailbox or the sink took. It goes down by a tell that its actor could not decode, which
    /// becomes a dead letter only then.
    pub delivered: u64,
    /// Gossip PDUs that came in.
    pub gossip_received: u64,
    /// Gossip PDUs among them for which this node's membership had no room.
    pub gossip_dropped: u64,
    /// Tells and replies that broken links may have swallowed; also among the dead letters.
    pub possibly_lost: u64,
    /// Dead letters by reason, those that are not zero.
    pub dead_letters: Vec<(Reason, u64)>,
    /// Tells that peers said they could not deliver, by reason; they are dead letters there.
    pub refused_by_peers: Vec<(Reason, u64)>,
    /// Handshakes that this node or a peer refused.
    pub handshakes_refused: u64,
    /// Frames of a kind this version does not know.
    pub unknown_frames: u64,
    /// Links that went on after another had taken their place, and were cut off.
    pub fenced_links: u64,
    /// Bytes read from links.
    pub bytes_received: u64,
    /// Bytes written to links.
    pub bytes_sent: u64,
}

/// Shows the association with one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AssociationSnapshot {
    /// The peer's address.
    pub address: Address,
    /// The peer's incarnation, as last seen.
    pub peer: Option<UniqueAddress>,
    /// The state of the association.
    pub state: AssociationState,
    /// Since when its link is up.
    pub up_since: Option<Instant>,
    /// How often a link came up.
    pub activations: u64,
    /// Tells and replies told to the peer since it is known.
    pub sent: u64,
    /// Tells and replies received from the peer's present incarnation.
    pub received: u64,
    /// Tells that the peer says it has refused.
    pub refused: u64,
    /// Tells and replies that broken links may have swallowed.
    pub lost: u64,
    /// Tells and replies that wait to be written, in all lanes, and those that are held back.
    pub queued_frames: usize,
    /// Bytes that wait to be written, in all lanes, and those that are held back.
    pub queued_bytes: usize,
    /// What of that is held back because its actor is slow.
    pub held: Queued,
    /// Asks that wait for their reply.
    pub waiting_asks: usize,
    /// The latest round trip of a Ping.
    pub round_trip: Option<Duration>,
    /// What went wrong last, in words.
    pub last_failure: Option<String>,
    /// What waits in each lane, in the order of [`Lane::ALL`].
    lanes: [Queued; 3],
}

impl Stats {
    /// Adds all dead letters up.
    #[must_use]
    pub fn dead_letters_total(&self) -> u64 {
        self.dead_letters.iter().map(|(_, count)| count).sum()
    }

    /// Gives the dead letters of one reason.
    #[must_use]
    pub fn dead_letters_for(&self, reason: Reason) -> u64 {
        let found = self.dead_letters.iter().find(|(other, _)| *other == reason);
        found.map_or(0, |(_, count)| *count)
    }

    pub(crate) fn of(core: &Core) -> Self {
        let counters = &core.counters;
        // Before what was delivered: a tell that turns out not to be decodable is taken out of that first.
        let dead_letters = core.observers.counts();
        let mut stats = Self {
            tells_received: counters.tells_in.load(Ordering::Relaxed),
            replies_received: counters.replies_in.load(Ordering::Relaxed),
            delivered: counters.delivered(),
            gossip_received: counters.gossip_in.load(Ordering::Relaxed),
            gossip_dropped: core.cluster.dropped_pdus(),
            dead_letters,
            refused_by_peers: core.observers.refused_by_peers(),
            handshakes_refused: counters.handshakes_refused.load(Ordering::Relaxed),
            unknown_frames: counters.unknown_frames.load(Ordering::Relaxed),
            fenced_links: counters.fenced_links.load(Ordering::Relaxed),
            tells_sent: core.departed.tells.load(Ordering::Relaxed),
            replies_sent: core.departed.replies.load(Ordering::Relaxed),
            possibly_lost: core.departed.lost.load(Ordering::Relaxed),
            bytes_received: core.departed.bytes_in.load(Ordering::Relaxed),
            bytes_sent: core.departed.bytes_out.load(Ordering::Relaxed),
            ..Self::default()
        };
        for peer in core.remote_peers().iter().chain([&core.own_peer()]) {
            let counts = peer.outbox.counts();
            stats.tells_sent += counts.tells;
            stats.replies_sent += counts.replies;
            stats.possibly_lost += counts.lost;
            stats.bytes_received += peer.bytes_in.load(Ordering::Relaxed);
            stats.bytes_sent += peer.bytes_out.load(Ordering::Relaxed);
        }
        stats
    }
}

impl AssociationSnapshot {
    /// Counts what waits in one lane.
    #[must_use]
    pub fn queued(&self, lane: Lane) -> Queued {
        let [control, ordinary, bulk] = self.lanes;
        match lane {
            Lane::Control => control,
            Lane::Ordinary => ordinary,
            Lane::Bulk => bulk,
        }
    }

    pub(crate) fn of(peer: &Peer) -> Self {
        let counts = peer.outbox.counts();
        let received = peer.gate().received;
        let view = peer.view();
        Self {
            address: peer.address.clone(),
            peer: view.peer.clone(),
            state: view.state,
            up_since: view.up_since,
            activations: view.activations,
            sent: counts.tells + counts.replies,
            received,
            refused: peer.refused.load(Ordering::Relaxed),
            lost: counts.lost,
            queued_frames: counts.queued_frames(),
            queued_bytes: counts.queued_bytes(),
            held: counts.held,
            waiting_asks: peer.asks.len(),
            round_trip: view.round_trip,
            last_failure: view.last_why.clone(),
            lanes: [counts.control, counts.ordinary, counts.bulk],
        }
    }
}
