//! Shortens the way back to members that nobody reaches: [`Reunion`].
//!
//! Back-off spaces the dials to one peer up to 10 s apart, and a cluster agrees again only when the last of its links is
//! back. So in each round of heartbeats a node dials one of the members it has lost at once, in turns; and as soon as one
//! is back, all others, for what had parted it has probably parted them. While a partition lasts this costs each node one
//! dial a round, whatever the size of the cluster, and when it ends one dial for each link that is missing anyway.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::address::{Address, UniqueAddress};
use crate::association::AssociationState;
use crate::membership::state::ClusterState;
use crate::node::core::Core;
use crate::node::driver::Input;
use crate::node::peers::Peer;

/// Decides which lost members are dialled before their back-off is over.
#[derive(Debug, Default)]
pub(crate) struct Reunion {
    /// The number of the present round.
    round: u64,
    /// Whether all were dialled in this round: a link that breaks again and again must not call for more.
    has_called: bool,
}

impl Reunion {
    /// Takes note of a heartbeat of a round; the first of each begins it, and has one lost member dialled.
    pub(crate) fn beat(&mut self, core: &Core, state: &ClusterState, round: u64) {
        if round == self.round {
            return;
        }
        (self.round, self.has_called) = (round, false);
        let away = away(core, state);
        let turn = usize::try_from(round).unwrap_or_default().checked_rem(away.len());
        if let Some(peer) = turn.and_then(|turn| away.get(turn)) {
            urge(peer);
        }
    }

    /// Takes note that a link to a node is there; if that was lost, all others that are have themselves dialled.
    pub(crate) fn found(&mut self, core: &Core, state: &ClusterState, node: &UniqueAddress) {
        if !self.has_called && state.unreachable().contains(node) {
            self.has_called = true;
            away(core, state).iter().for_each(urge);
        }
    }
}

/// Gives the lost members whose next dial is put off.
fn away(core: &Core, state: &ClusterState) -> Vec<Arc<Peer>> {
    let lost: BTreeSet<&Address> = state.unreachable().iter().map(UniqueAddress::address).collect();
    if lost.is_empty() {
        return Vec::new();
    }
    let is_away = |peer: &Arc<Peer>| {
        lost.contains(&peer.address) && peer.view().state == AssociationState::Backoff
    };
    core.remote_peers().into_iter().filter(is_away).collect()
}

fn urge(peer: &Arc<Peer>) {
    let Some(inputs) = &peer.inputs else { return };
    // A driver with so much to do will see to its peer in time.
    if inputs.try_send(Input::Urge).is_err() {
        tracing::trace!(peer = %peer.address, "not urged");
    }
}
