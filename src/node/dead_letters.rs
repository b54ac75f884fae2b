//! Counts, logs and publishes what ended nowhere and what happened to the links.
//!
//! Counters never lose anything; the streams are bounded, and a subscriber that lags is told how much it missed.
//! Log lines are limited per second, with the number that was held back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::event::{DeadLetter, NodeEvent, Reason};
use crate::settings::ObserveSettings;

/// Counts and publishes dead letters and events.
#[derive(Debug)]
pub(crate) struct Observers {
    counters: Counters,
    refused_by_peers: Counters,
    dead_letters: broadcast::Sender<DeadLetter>,
    events: broadcast::Sender<NodeEvent>,
    log: LogLimit,
}

impl Observers {
    pub(crate) fn new(settings: &ObserveSettings) -> Self {
        Self {
            counters: Counters::default(),
            refused_by_peers: Counters::default(),
            dead_letters: broadcast::Sender::new(settings.stream_capacity),
            events: broadcast::Sender::new(settings.stream_capacity),
            log: LogLimit::new(settings.log_lines_per_second),
        }
    }

    /// Records a dead letter; `describe` runs only if somebody looks.
    pub(crate) fn dead_letter(
        &self,
        reason: Reason,
        count: u64,
        describe: impl FnOnce() -> DeadLetter,
    ) {
        self.counters.add(reason, count);
        self.publish(reason, count, describe);
    }

    /// Records a dead letter of which a peer told.
    pub(crate) fn refused_by_peer(
        &self,
        reason: Reason,
        count: u64,
        describe: impl FnOnce() -> DeadLetter,
    ) {
        self.refused_by_peers.add(reason, count);
        self.publish(reason, count, describe);
    }

    fn publish(&self, reason: Reason, count: u64, describe: impl FnOnce() -> DeadLetter) {
        if count == 0 {
            return;
        }
        let held_back = self.log.admit(Instant::now());
        if held_back.is_none() && self.dead_letters.receiver_count() == 0 {
            return;
        }
        let letter = describe();
        if let Some(held_back) = held_back {
            tracing::warn!(
                %reason, count, held_back,
                target_path = letter.target.as_ref().map(tracing::field::display),
                manifest = letter.manifest.as_deref(),
                peer = letter.peer.as_ref().map(tracing::field::display),
                detail = letter.detail.as_deref(),
                "dead letter"
            );
        }
        // A send fails only when nobody listens.
        drop(self.dead_letters.send(letter));
    }

    /// Records an event.
    pub(crate) fn event(&self, event: NodeEvent) {
        if let Some(held_back) = self.log.admit(Instant::now()) {
            tracing::info!(?event, held_back, "node event");
        }
        drop(self.events.send(event));
    }

    pub(crate) fn dead_letters(&self) -> DeadLetterStream {
        DeadLetterStream(self.dead_letters.subscribe())
    }

    pub(crate) fn events(&self) -> EventStream {
        EventStream(self.events.subscribe())
    }

    /// Gives the counters that are not zero.
    pub(crate) fn counts(&self) -> Vec<(Reason, u64)> {
        self.counters.non_zero()
    }

    /// Gives the counters of what peers said they refused, those that are not zero.
    pub(crate) fn refused_by_peers(&self) -> Vec<(Reason, u64)> {
        self.refused_by_peers.non_zero()
    }
}

/// One counter for each reason.
#[derive(Debug, Default)]
struct Counters([AtomicU64; Reason::ALL.len()]);

impl Counters {
    fn add(&self, reason: Reason, count: u64) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn non_zero(&self) -> Vec<(Reason, u64)> {
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        Reason::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

/// Streams the dead letters of a node from the subscription on.
#[derive(Debug)]
pub struct DeadLetterStream(broadcast::Receiver<DeadLetter>);

/// Streams the events of a node from the subscription on.
#[derive(Debug)]
pub struct EventStream(broadcast::Receiver<NodeEvent>);

/// One item of a bounded stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Observed<T> {
    /// The next item.
    Item(T),
    /// The subscriber was too slow: so many items were skipped. The counters have them.
    Missed(u64),
}

impl DeadLetterStream {
    /// Waits for the next dead letter; `None` when the node is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Observed<DeadLetter>> {
        next(&mut self.0).await
    }
}

impl EventStream {
    /// Waits for the next event; `None` when the node is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Observed<NodeEvent>> {
        next(&mut self.0).await
    }
}

async fn next<T: Clone>(receiver: &mut broadcast::Receiver<T>) -> Option<Observed<T>> {
    match receiver.recv().await {
        Ok(item) => Some(Observed::Item(item)),
        Err(RecvError::Lagged(missed)) => Some(Observed::Missed(missed)),
        Err(RecvError::Closed) => None,
    }
}

/// Lets a number of log lines through each second and counts the rest.
#[derive(Debug)]
pub(crate) struct LogLimit {
    per_second: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Option<Instant>,
    lines: u32,
    held_back: u64,
}

impl LogLimit {
    pub(crate) fn new(per_second: u32) -> Self {
        let window = Window { since: None, lines: 0, held_back: 0 };
        Self { per_second, window: Mutex::new(window) }
    }

    /// Gives how many lines were held back since the last one, or `None` if this one is held back too.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = window.since.is_none_or(|since| now >= since + Duration::from_secs(1));
        if is_new {
            (window.since, window.lines) = (Some(now), 0);
        }
        if window.lines >= self.per_second {
            window.held_back += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_limited_and_the_rest_is_counted() {
        let limit = LogLimit::new(2);
        let now = Instant::now();
        assert_eq!(
            [limit.admit(now), limit.admit(now), limit.admit(now)],
            [Some(0), Some(0), None]
        );
        assert_eq!(limit.admit(now + Duration::from_secs(1)), Some(1));
    }

    #[test]
    fn every_reason_has_its_own_counter() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[tokio::test]
    async fn a_lagging_subscriber_is_told_and_the_counters_lose_nothing() {
        let settings = ObserveSettings { stream_capacity: 2, log_lines_per_second: 0 };
        let observers = Observers::new(&settings);
        let mut stream = observers.dead_letters();
        for _ in 0..5 {
            observers.dead_letter(Reason::UnknownPath, 1, || DeadLetter::new(Reason::UnknownPath));
        }
        assert_eq!(stream.next().await, Some(Observed::Missed(3)));
        assert_eq!(observers.counts(), [(Reason::UnknownPath, 5)]);
    }
}
