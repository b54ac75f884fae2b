//! Shows a network's rules to everything that must keep them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::conditions::{Rules, Way};

/// Holds the rules, and wakes those who wait for a way to open in the order in which they came.
///
/// A `watch` channel wakes its receivers in a random order, so that no run could be repeated.
#[derive(Debug)]
pub(super) struct Board {
    rules: Mutex<Rules>,
    changed: Notify,
}

impl Board {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules: Mutex::new(rules), changed: Notify::new() }
    }

    pub(super) fn read(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.read());
        self.changed.notify_waiters();
    }

    /// Waits until nothing is in the way. Cancel safe.
    pub(super) async fn opens(&self, way: Way) {
        loop {
            let changed = self.changed.notified();
            if self.read().is_open(way) {
                return;
            }
            changed.await;
        }
    }
}
