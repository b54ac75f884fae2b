//! Names the ordered queues inside an association.
//!
//! Floor 0: words only. Which bytes wait in which lane is the node's business (`node/outbox.rs`).

use serde::{Deserialize, Serialize};

/// An ordered queue inside an association; order holds within a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Lane {
    /// Carries what keeps the association and the cluster alive: handshake, ping, gossip, refusals.
    Control,
    /// Carries the users' tells, asks and replies.
    Ordinary,
}
