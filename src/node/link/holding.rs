//! Holds the writer of a link back while its reader dispatches, and lets those go first whose replies have come.
//!
//! Dispatching wakes tasks that may send, above all askers, who often ask again. Each of them may run at once on another
//! thread, where a woken writer would write what it sent, frame by frame. What they send goes out together: the writer
//! waits until the reader has dispatched what it has read, and if that were several replies, once more for the tasks that
//! are ready by then.
//!
//! ```text
//! reader  ── begin ── dispatch ────────── end ── urge
//!                      │ replies           │
//! askers               ├▶ next ask ─┐      │
//!                      └▶ ..        │      │    ─▶ next ask, next ask, ..
//! writer                            └ hold ┴ yield ──────────────────────── write
//! ```

use std::sync::atomic::{AtomicBool, Ordering};

/// Says whether the reader dispatches, and whether the writer waits for it.
#[derive(Debug, Default)]
pub(super) struct Holding {
    is_dispatching: AtomicBool,
    is_held: AtomicBool,
    /// Several asks were answered, so that more of them are to be expected.
    is_expecting: AtomicBool,
}

/// Is a dispatch, until it is dropped.
#[must_use]
pub(super) struct Dispatching<'a>(&'a Holding);

// The end of a dispatch and a hold must see one another, whichever comes first: each stores its own flag before it loads
// the other's, in the one order of all.
impl Holding {
    /// Begins a dispatch. Whoever ends it moves a writer on that is held then.
    pub(super) fn begin(&self) -> Dispatching<'_> {
        self.is_dispatching.store(true, Ordering::SeqCst);
        Dispatching(self)
    }

    /// Notes that several askers are about to go on.
    pub(super) fn expect(&self) {
        self.is_expecting.store(true, Ordering::Relaxed);
    }

    /// Tells whether several askers were about to go on, and forgets it.
    pub(super) fn was_expecting(&self) -> bool {
        self.is_expecting.swap(false, Ordering::Relaxed)
    }

    /// Tells a writer whether to wait for the end of a dispatch.
    pub(super) fn hold(&self) -> bool {
        self.is_held.store(true, Ordering::SeqCst);
        let is_to_wait = self.is_dispatching();
        if !is_to_wait {
            self.release();
        }
        is_to_wait
    }

    /// Lets the writer go on.
    pub(super) fn release(&self) {
        self.is_held.store(false, Ordering::SeqCst);
    }

    /// Tells whether the writer waits.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::SeqCst)
    }

    /// Tells whether the reader dispatches.
    pub(super) fn is_dispatching(&self) -> bool {
        self.is_dispatching.load(Ordering::SeqCst)
    }
}

impl Drop for Dispatching<'_> {
    fn drop(&mut self) {
        self.0.is_dispatching.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_held_from_the_beginning_of_a_dispatch_to_its_end() {
        let holding = Holding::default();
        assert!(!holding.hold() && !holding.is_held());
        let dispatching = holding.begin();
        assert!(holding.hold() && holding.is_held());
        drop(dispatching);
        assert!(holding.is_held(), "it has yet to be moved on");
        assert!(!holding.hold() && !holding.is_held());
    }
}
