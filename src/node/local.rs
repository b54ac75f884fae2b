//! Brings tells to this node's own actors, through the same encoder, outbox and dispatcher as any other.

use std::sync::Arc;

use crate::event::Reason;
use crate::node::core::Core;
use crate::node::dispatch::Dispatcher;
use crate::node::outbox::Batch;

/// Dispatches what waits for this node itself, until the node ends.
pub(crate) async fn run(core: Arc<Core>) {
    let peer = core.own_peer();
    let mut dispatcher = Dispatcher::new(Arc::clone(&core), Arc::clone(&peer), None);
    let (mut batch, mut defined) = (Batch::default(), 0);
    loop {
        // Biased: the node's end goes first.
        tokio::select! { biased;
            () = core.cancel.cancelled() => break,
            () = peer.outbox.demand() => {}
        }
        peer.grant_itself();
        // An actor that tells itself without end must not keep the node from ending.
        while !core.cancel.is_cancelled() && !peer.outbox.is_drained() {
            peer.outbox.take_local(&mut batch, &mut defined);
            peer.note_asks(batch.asks.drain(..));
            for bytes in batch.pieces() {
                dispatcher.dispatch_local(bytes);
            }
            peer.grant_itself();
            batch.clear();
            tokio::task::coop::consume_budget().await;
        }
        if core.closing.is_cancelled() {
            break;
        }
    }
    peer.outbox.close();
    peer.asks.fail_passed(peer.outbox.deactivate(), Reason::LinkLost);
    core.discard(&peer, Reason::NodeStopped, "");
}
