//! Tells the senders of a thread when to move the writer of their link on, and when to let others run.
//!
//! A task that does nothing but send would keep its thread to itself, the writer of its link waiting for the same thread.
//! So every so many sends it lends its thread to that writer, and lets all others run where other senders wait; one that
//! is alone does so more rarely, for that costs as much as a hundred sends.
//!
//! ```text
//!  256 sends │ writer, others │ 256 sends │ writer, others │ ..                      among senders
//!  256 sends │ writer │ 256 sends │ writer │ .. 8 times or 200 µs .. │ others │ ..   alone
//! ```
//!
//! A sender to several peers, to its own node, or to one without a link is as one among others.

use std::cell::Cell;
use std::ptr;
use std::time::{Duration, Instant};

use crate::node::link::now;
use crate::node::outbox::Outbox;

/// Counts a send of this thread, and tells whether the turn is over. tokio's own budget would do, at several times the
/// price.
#[inline]
pub(crate) fn is_turn_over(outbox: &Outbox) -> bool {
    if !ptr::eq(LAST.get(), outbox) {
        LAST.set(outbox);
        ALONE.set(None);
    }
    let sends = SENDS.get().wrapping_add(1);
    SENDS.set(sends);
    sends % SENDS_IN_A_TURN == 0
}

/// Ends the turn of a task that sends to one peer.
pub(crate) async fn end_turn(outbox: &Outbox) {
    let has_assisted = outbox.assist();
    match ALONE.get() {
        Some(Alone { turns, since }) if has_assisted && turns > 0 && now() - since < LONGEST => {
            ALONE.set(Some(Alone { turns: turns - 1, since }));
        }
        _ => {
            let sends = SENDS.get();
            tokio::task::yield_now().await;
            // On another thread now, it may be taken to be among others.
            let is_alone = SENDS.get() == sends;
            ALONE.set(is_alone.then(|| Alone { turns: MOST_TURNS, since: now() }));
        }
    }
}

/// Ends the turn with the next send of this thread, and lets others run: they have waited for a large message.
pub(crate) fn give_way() {
    SENDS.set(SENDS_IN_A_TURN - 1);
    ALONE.set(None);
}

thread_local! {
    static SENDS: Cell<u32> = const { Cell::new(0) };
    /// The outbox of the last send, to be compared only.
    static LAST: Cell<*const Outbox> = const { Cell::new(ptr::null()) };
    static ALONE: Cell<Option<Alone>> = const { Cell::new(None) };
}

/// Is what a lonely sender may do before others run.
#[derive(Clone, Copy)]
struct Alone {
    /// Turns that are left.
    turns: u32,
    /// Others ran then.
    since: Instant,
}

/// Sends of a thread before it moves a writer on.
const SENDS_IN_A_TURN: u32 = 256;
/// Turns of a lonely sender between two that let others run.
const MOST_TURNS: u32 = 7;
/// How long others may wait for a lonely sender, by a turn: as long as for an actor.
const LONGEST: Duration = Duration::from_micros(200);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::runtime::Handle;

    use super::*;
    use crate::association::LinkId;
    use crate::node::assisted::Assisted;
    use crate::node::outbox::{IsFirst, Writer};
    use crate::settings::OutboxSettings;

    /// Makes an outbox with a writer that has nothing to do; it is there as long as what comes along.
    fn outbox() -> (Outbox, Arc<Assisted>) {
        let outbox = Outbox::new(OutboxSettings::default());
        let writer = Assisted::new(Handle::current(), std::future::pending());
        let task = Arc::downgrade(&writer);
        let writes = Writer { task, ..Writer::default() };
        outbox.activate(LinkId::default(), writes, IsFirst::No);
        (outbox, writer)
    }

    /// Sends until others have run; gives how many sends that took.
    async fn sends_until_others_run(outboxes: &[&Outbox]) -> u32 {
        let others = tokio::spawn(async {});
        let mut sends = 0;
        for outbox in outboxes.iter().cycle() {
            if others.is_finished() {
                break;
            }
            sends += 1;
            if is_turn_over(outbox) {
                end_turn(outbox).await;
            }
        }
        sends
    }

    #[tokio::test(start_paused = true)]
    async fn a_lonely_sender_lets_others_run_more_rarely() {
        let (outbox, _writer) = outbox();
        assert_eq!(sends_until_others_run(&[&outbox]).await, 256);
        assert_eq!(sends_until_others_run(&[&outbox]).await, 8 * 256);
        give_way();
        assert_eq!(sends_until_others_run(&[&outbox]).await, 1);
        tokio::time::advance(LONGEST).await;
        assert_eq!(sends_until_others_run(&[&outbox]).await, 256, "it has taken long");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_no_writer_or_several_is_not_alone() {
        let ((one, writer), (other, _writer)) = (outbox(), outbox());
        assert_eq!(sends_until_others_run(&[&one]).await, 256);
        for _ in 0..3 {
            assert_eq!(sends_until_others_run(&[&one, &other]).await, 256);
        }
        drop(writer);
        for _ in 0..3 {
            assert_eq!(sends_until_others_run(&[&one]).await, 256);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_among_others_lets_them_run_with_each_turn() {
        let (outbox, _writer) = outbox();
        let outbox = Arc::new(outbox);
        assert_eq!(sends_until_others_run(&[&outbox]).await, 256);
        let others = Arc::clone(&outbox);
        let other = tokio::spawn(async move {
            loop {
                is_turn_over(&others);
                tokio::task::yield_now().await;
            }
        });
        // The first turn as one that is alone; then the other is noticed.
        sends_until_others_run(&[&outbox]).await;
        for _ in 0..3 {
            assert!(sends_until_others_run(&[&outbox]).await <= 256);
        }
        other.abort();
    }
}
