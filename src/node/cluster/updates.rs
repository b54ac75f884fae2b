//! Streams what happens in the cluster: a snapshot first, then events in their order.
//!
//! The task publishes its state before the events that led to it, and numbers them; so a subscriber that takes the
//! state after it has subscribed knows which events the state shows already.

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::{Numbered, View};
use crate::membership::event::ClusterEvent;
use crate::membership::state::ClusterState;

/// Is one item of a [`ClusterUpdates`] stream.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClusterUpdate {
    /// The state to begin from: the first item, and again whenever the subscriber was too slow.
    Snapshot {
        /// The state; the events that follow are those after it.
        state: ClusterState,
        /// Events that were skipped since the item before; 0 at first.
        missed: u64,
    },
    /// What happened next.
    Event(ClusterEvent),
}

/// Streams what happens in the cluster: a snapshot first, then events in their order.
#[derive(Debug)]
pub struct ClusterUpdates {
    view: watch::Receiver<View>,
    /// None when the task had ended before the subscription.
    events: Option<broadcast::Receiver<Numbered>>,
    /// The snapshot that is yet to be given.
    first: Option<ClusterUpdate>,
    /// The number of the last event that was given, alone or in a snapshot.
    last: u64,
}

impl ClusterUpdates {
    /// Subscribes before it takes the snapshot, so that nothing falls between them.
    pub(super) fn new(
        view: watch::Receiver<View>,
        events: &broadcast::WeakSender<Numbered>,
    ) -> Self {
        let events = events.upgrade().map(|events| events.subscribe());
        let mut updates = Self { view, events, first: None, last: 0 };
        updates.first = Some(updates.snapshot(0));
        updates
    }

    /// Waits for the next item; `None` when the node has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<ClusterUpdate> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            match self.events.as_mut()?.recv().await {
                // The snapshot shows it already.
                Ok((number, _)) if number <= self.last => {}
                Ok((number, event)) => {
                    self.last = number;
                    return Some(ClusterUpdate::Event(event));
                }
                Err(RecvError::Lagged(_)) => {
                    // What is left of the past would only be lagged behind once more.
                    self.events = self.events.as_ref().map(broadcast::Receiver::resubscribe);
                    let missed = self.view.borrow().last.saturating_sub(self.last);
                    return Some(self.snapshot(missed));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn snapshot(&mut self, missed: u64) -> ClusterUpdate {
        let view = self.view.borrow();
        self.last = view.last;
        ClusterUpdate::Snapshot { state: view.state.clone(), missed }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::address::{Uid, UniqueAddress};
    use crate::node::cluster::{Cluster, Ends};
    use crate::node::cluster_plan::ClusterPlan;
    use crate::settings::Settings;

    /// Makes the handle of a node of which no task runs, and the ends that its task would hold.
    fn handle() -> (Cluster, Ends) {
        let own = UniqueAddress::new("mem://Test@ada:1".parse().unwrap(), Uid::new(1));
        let prepared = ClusterPlan::default().prepare(&own, vec!["mem"], &Settings::default(), 1);
        let prepared = prepared.unwrap();
        (prepared.cluster, prepared.gossiper.unwrap().ends)
    }

    fn publish(ends: &Ends, number: u64) {
        let silent_for = Duration::from_secs(number);
        drop(ends.events.send((number, ClusterEvent::Starved { silent_for })));
    }

    async fn next_number(updates: &mut ClusterUpdates) -> u64 {
        match updates.next().await {
            Some(ClusterUpdate::Event(ClusterEvent::Starved { silent_for })) => {
                silent_for.as_secs()
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_event_that_the_snapshot_shows_is_not_told_again() {
        let (cluster, ends) = handle();
        ends.view.send_modify(|view| view.last = 1);
        let mut updates = cluster.subscribe();
        publish(&ends, 1);
        publish(&ends, 2);
        let first = updates.next().await;
        assert!(matches!(first, Some(ClusterUpdate::Snapshot { missed: 0, .. })), "{first:?}");
        assert_eq!(next_number(&mut updates).await, 2);
        drop(ends);
        assert!(updates.next().await.is_none());
    }

    #[tokio::test]
    async fn who_lags_goes_on_behind_the_new_snapshot() {
        let (cluster, ends) = handle();
        let mut updates = cluster.subscribe();
        drop(updates.next().await);
        let last = 3 * Settings::default().observe.stream_capacity as u64;
        ends.view.send_modify(|view| view.last = last);
        (1..=last).for_each(|number| publish(&ends, number));
        let again = updates.next().await;
        let Some(ClusterUpdate::Snapshot { missed, .. }) = again else { panic!("{again:?}") };
        assert_eq!(missed, last);
        publish(&ends, last + 1);
        assert_eq!(next_number(&mut updates).await, last + 1);
    }
}
