//! Shares out how much the senders to one target may have on its way at once.
//!
//! What lies beyond the initial window of each sender comes from one budget per target. A sender alone gets all of it,
//! one of several an equal share, and at most half of what the others have left: one that is granted much and falls
//! silent keeps what it has, since a grant cannot be taken back, but never so much that nothing is left for those who come
//! later. What an actor that keeps up is granted beyond its share is no part of the budget (`receiving.rs`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::association::control::Amount;

/// Is what the senders to one target share.
#[derive(Debug)]
pub(crate) struct Budget {
    total: Amount,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    senders: u64,
    leased: Amount,
}

/// Is one sender's part of a budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    budget: Arc<Budget>,
    leased: Amount,
}

impl Budget {
    pub(crate) fn new(total: Amount) -> Arc<Self> {
        Arc::new(Self { total, shared: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Counts one more sender, which has so much on its way already.
    pub(crate) fn new(budget: &Arc<Budget>, leased: Amount) -> Self {
        let mut shared = budget.lock();
        shared.senders += 1;
        shared.leased = shared.leased.plus(leased);
        drop(shared);
        Self { budget: Arc::clone(budget), leased }
    }

    /// Tells whether this is a part of that budget.
    pub(crate) fn is_of(&self, budget: &Arc<Budget>) -> bool {
        Arc::ptr_eq(&self.budget, budget)
    }

    /// Gives how much the sender may have on its way.
    pub(crate) fn share(&self) -> Amount {
        let shared = self.budget.lock();
        let left = self.budget.total.minus(shared.leased.minus(self.leased));
        let parts = if shared.senders > 1 { 2 } else { 1 };
        self.budget.total.over(shared.senders).min(left.over(parts))
    }

    /// Counts the senders that share the budget.
    pub(crate) fn senders(&self) -> u64 {
        self.budget.lock().senders.max(1)
    }

    /// Notes how much the sender may have on its way by what it was granted.
    pub(crate) fn set(&mut self, leased: Amount) {
        let mut shared = self.budget.lock();
        shared.leased = shared.leased.minus(self.leased).plus(leased);
        drop(shared);
        self.leased = leased;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut shared = self.budget.lock();
        shared.senders = shared.senders.saturating_sub(1);
        shared.leased = shared.leased.minus(self.leased);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(messages: u64) -> Amount {
        Amount { messages, bytes: messages * 10 }
    }

    #[test]
    fn senders_share_a_budget_and_silent_ones_leave_something() {
        let budget = Budget::new(amount(1024));
        let mut leases = Vec::new();
        let first = Lease::new(&budget, Amount::default());
        assert_eq!(first.share(), amount(1024));
        for expected in [512, 256, 128, 64] {
            let mut lease = Lease::new(&budget, Amount::default());
            assert_eq!(lease.share(), amount(expected));
            lease.set(lease.share());
            leases.push(lease);
        }
        assert_eq!(budget.lock().leased, amount(960));
    }

    #[test]
    fn whoever_leaves_gives_everything_back() {
        let budget = Budget::new(amount(1024));
        let mut greedy = Lease::new(&budget, amount(700));
        greedy.set(amount(900));
        let other = Lease::new(&budget, Amount::default());
        assert_eq!(other.share(), amount(62));
        drop(greedy);
        assert_eq!(other.share(), amount(1024));
        drop(other);
        assert_eq!(budget.lock().leased, Amount::default());
        assert_eq!(budget.lock().senders, 0);
    }
}
