//! Wakes the writer of a link, and holds it back while the link's reader dispatches.
//!
//! Dispatching wakes tasks that may send, above all askers, who often ask again. Each of them may run at once on another
//! thread, where a woken writer would write what it sent, frame by frame. What they send goes out together: the writer
//! waits until the reader has dispatched what it has read, and if that were several replies, once more for the tasks that
//! are ready by then. For what is pressing it does not wait until a dispatch is over.
//!
//! ```text
//! reader  ── begin ── dispatch ────────── end ── urge
//!                      │ replies           │
//! askers               ├▶ next ask ─┐      │
//!                      └▶ ..        │      │    ─▶ next ask, next ask, ..
//! writer                            └ hold ┴ yield ──────────────────────── write
//! ```

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Wakes a writer, and says whether it waits for its reader.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    notify: Notify,
    is_dispatching: AtomicBool,
    is_held: AtomicBool,
    /// Several asks were answered, so that more of them are to be expected.
    is_expecting: AtomicBool,
}

/// Is a dispatch, until it is dropped.
#[must_use]
pub(crate) struct Dispatching<'a>(&'a Wake);

// The end of a dispatch and a hold must see one another, whichever comes first: each stores its own flag before it loads
// the other's, in the one order of all.
impl Wake {
    /// Wakes the writer, which may decide to wait on.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Wakes a writer that is held back, to look again whether what waits is pressing.
    pub(crate) fn press(&self) {
        if self.is_held() {
            self.wake();
        }
    }

    /// Waits to be woken; not for what is held back unless `is_pressing` is true of it.
    pub(crate) async fn woken(&self, is_pressing: impl Fn() -> bool) {
        loop {
            self.notify.notified().await;
            // Behind the hold, as only a writer that is held is told that something presses.
            if !self.hold() || is_pressing() {
                return;
            }
        }
    }

    /// Begins a dispatch. Whoever ends it moves a writer on that is held then.
    pub(crate) fn begin(&self) -> Dispatching<'_> {
        self.is_dispatching.store(true, Ordering::SeqCst);
        Dispatching(self)
    }

    /// Notes that several askers are about to go on.
    pub(crate) fn expect(&self) {
        self.is_expecting.store(true, Ordering::Relaxed);
    }

    /// Tells whether several askers were about to go on, and forgets it.
    pub(crate) fn was_expecting(&self) -> bool {
        self.is_expecting.swap(false, Ordering::Relaxed)
    }

    /// Tells a writer whether to wait for the end of a dispatch.
    fn hold(&self) -> bool {
        self.is_held.store(true, Ordering::SeqCst);
        let is_to_wait = self.is_dispatching();
        if !is_to_wait {
            self.release();
        }
        is_to_wait
    }

    /// Tells whether the writer waits only for a dispatch that is over.
    pub(crate) fn is_released(&self) -> bool {
        self.is_held() && !self.is_dispatching()
    }

    /// Notes that the writer goes on.
    pub(crate) fn release(&self) {
        self.is_held.store(false, Ordering::SeqCst);
    }

    /// Tells whether the writer waits for the reader.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::SeqCst)
    }

    /// Tells whether the reader dispatches.
    pub(crate) fn is_dispatching(&self) -> bool {
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
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const WAIT: Duration = Duration::from_millis(1);

    async fn is_woken(wake: &Wake, is_pressing: impl Fn() -> bool) -> bool {
        timeout(WAIT, wake.woken(is_pressing)).await.is_ok()
    }

    #[test]
    fn a_writer_is_held_from_the_beginning_of_a_dispatch_to_its_end() {
        let wake = Wake::default();
        assert!(!wake.hold() && !wake.is_held());
        let dispatching = wake.begin();
        assert!(wake.hold() && wake.is_held() && !wake.is_released());
        drop(dispatching);
        assert!(wake.is_held() && wake.is_released(), "it has yet to be moved on");
        assert!(!wake.hold() && !wake.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_pressing_wakes_a_writer_that_is_held_and_nobody_else() {
        let wake = Wake::default();
        wake.press();
        assert!(!is_woken(&wake, || true).await);
        let _dispatching = wake.begin();
        wake.wake();
        assert!(!is_woken(&wake, || false).await && wake.is_held());
        wake.press();
        assert!(!is_woken(&wake, || false).await, "it was a mistake");
        wake.press();
        assert!(is_woken(&wake, || true).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_begins_to_press_while_the_writer_decides_to_wait_is_seen() {
        let wake = Wake::default();
        let _dispatching = wake.begin();
        wake.wake();
        assert!(is_woken(&wake, || wake.is_held()).await);
    }
}
