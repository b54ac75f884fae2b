//! Ends a node in order: leaves the cluster, takes no more tells, flushes, says goodbye, ends every task and socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::Reason;
use crate::node::core::Core;
use crate::node::driver;

/// Reports what a shutdown left undone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Tells and replies that were not flushed, or whose arrival is not known; each is a dead letter.
    pub unflushed: u64,
    /// Whether every association ended in order before the deadline.
    pub in_time: bool,
    /// Whether no cluster holds this node for a member any more; if not, the others will find it unreachable.
    pub has_left: bool,
}

/// Begins a shutdown that nobody waits for.
pub(crate) fn begin(core: &Arc<Core>) {
    let (shared, deadline) = (Arc::clone(core), core.settings.association.drain_timeout);
    // Not among the tasks of the node: a shutdown waits for those.
    core.spawn_detached(async move {
        let report = run(&shared, deadline).await;
        tracing::info!(?report, "the node has shut down");
    });
}

/// Leaves the cluster, then ends the rest.
pub(crate) async fn run(core: &Arc<Core>, deadline: Duration) -> ShutdownReport {
    let started = Instant::now();
    let patience = core.settings.cluster.leave_timeout.min(deadline / 2);
    let has_left = core.cluster.leave_within(patience).await;
    let before = undone(core);
    core.closing.cancel();
    core.own_peer().outbox.close();
    for peer in core.remote_peers() {
        peer.outbox.close();
        driver::stop(&peer);
    }
    core.drivers.close();
    let left = deadline.saturating_sub(started.elapsed());
    let in_time = tokio::time::timeout(left, core.drivers.wait()).await.is_ok();
    core.unregister_all();
    core.cancel.cancel();
    core.ended().await;
    ShutdownReport { unflushed: undone(core) - before, in_time, has_left }
}

fn undone(core: &Core) -> u64 {
    let counts = core.observers.counts();
    let undone = counts.iter().filter(|(reason, _)| {
        matches!(
            reason,
            Reason::NodeStopped | Reason::LinkLost | Reason::Unreachable | Reason::PeerStopped
        )
    });
    undone.map(|(_, count)| count).sum()
}
