//! Holds that queues stay within their bounds: [`BoundedQueues`].

use super::{Invariant, Look};
use crate::lane::Lane;
use crate::node::{AssociationSnapshot, Node};

/// Holds that what waits for a peer stays within the bounds of the node's settings, in each lane.
///
/// A lane that has room takes one more message whole, so the bound is exceeded by one at most.
///
/// Source: [`OutboxSettings`](crate::settings::OutboxSettings).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundedQueues;

impl Invariant for BoundedQueues {
    fn name(&self) -> &str {
        "queues are bounded"
    }

    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        for (number, node) in look.touched() {
            for peer in node.associations() {
                let why = excess(node, &peer);
                why.map_or(Ok(()), |why| {
                    Err(format!("node {number}, to {}: {why}", peer.address))
                })?;
            }
        }
        Ok(())
    }
}

/// Names a lane in which more waits than may.
fn excess(node: &Node, peer: &AssociationSnapshot) -> Option<String> {
    let (outbox, inbound) = (&node.settings().outbox, &node.settings().inbound);
    let [control, ordinary, bulk] = Lane::ALL.map(|lane| peer.queued(lane));
    let largest = inbound.max_message + inbound.max_message / 8;
    let bounds = [
        ("control bytes", control.bytes, outbox.max_control_bytes.max(outbox.max_bytes) + SMALL),
        ("ordinary bytes", ordinary.bytes, outbox.max_bytes + SMALL),
        ("bulk bytes", bulk.bytes, outbox.max_bulk_bytes + largest),
        ("held bytes", peer.held.bytes, outbox.max_held_bytes + largest),
        ("ordinary frames", ordinary.frames, outbox.max_frames + 1),
        ("bulk frames", bulk.frames, outbox.max_frames + 1),
        ("held frames", peer.held.frames, outbox.max_held_frames + 1),
    ];
    let over = bounds.into_iter().find(|(_, waits, bound)| waits > bound);
    over.map(|(what, waits, bound)| format!("{waits} {what} wait, and {bound} may"))
}

/// The most that a message takes which is no large one, with its header.
const SMALL: usize = 128 * 1024;
