//! Tells the senders of a thread when to move the writer of their link on, and when to let others run.
//!
//! A task that does nothing but send would keep its thread to itself, the writer of its link waiting for the same thread.
//! So every so many sends it lends its thread to that writer, and lets all others run where other senders wait; one that
//! is alone does so more rarely, for that costs as much as a hundred sends.
//!
//! ```text
//!  256 sends │ writer, others │ 256 sends │ writer, others │ ..                  among senders
//!  256 sends │ writer │ 256 sends │ writer │ .. 8 times .. │ writer, others │ ..  alone
//! ```

use std::cell::Cell;

use crate::node::outbox::Outbox;

/// Counts a send of this thread, and tells whether the turn is over. tokio's own budget would do, at several times the
/// price.
#[inline]
pub(crate) fn is_turn_over() -> bool {
    let sends = SENDS.get().wrapping_add(1);
    SENDS.set(sends);
    sends % SENDS_IN_A_TURN == 0
}

/// Ends the turn of a task that sends to one peer.
pub(crate) async fn end_turn(outbox: &Outbox) {
    outbox.assist();
    let alone = TURNS_ALONE.get();
    TURNS_ALONE.set(alone.saturating_sub(1));
    if alone == 0 {
        let sends = SENDS.get();
        tokio::task::yield_now().await;
        // On another thread now, it may be taken to be among others.
        let is_alone = SENDS.get() == sends;
        TURNS_ALONE.set(if is_alone { MOST_ALONE } else { 0 });
    }
}

/// Ends the turn with the next send of this thread, and lets others run: they have waited for a large message.
pub(crate) fn give_way() {
    SENDS.set(SENDS_IN_A_TURN - 1);
    TURNS_ALONE.set(0);
}

thread_local! {
    static SENDS: Cell<u32> = const { Cell::new(0) };
    /// Turns that may pass before others run.
    static TURNS_ALONE: Cell<u32> = const { Cell::new(0) };
}

/// Sends of a thread before it moves a writer on.
const SENDS_IN_A_TURN: u32 = 256;
/// Turns of a lonely sender between two that let others run: together some 200 microseconds of small tells, as long as
/// an actor's turn.
const MOST_ALONE: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::OutboxSettings;

    /// Sends until others have run; gives how many sends that took.
    async fn sends_until_others_run(outbox: &Outbox) -> u32 {
        let others = tokio::spawn(async {});
        let mut sends = 0;
        while !others.is_finished() {
            sends += 1;
            if is_turn_over() {
                end_turn(outbox).await;
            }
        }
        sends
    }

    #[tokio::test]
    async fn a_lonely_sender_lets_others_run_more_rarely() {
        let outbox = Outbox::new(OutboxSettings::default());
        assert_eq!(sends_until_others_run(&outbox).await, 256);
        assert_eq!(sends_until_others_run(&outbox).await, 8 * 256);
        give_way();
        assert_eq!(sends_until_others_run(&outbox).await, 1);
    }

    #[tokio::test]
    async fn a_sender_among_others_lets_them_run_with_each_turn() {
        let outbox = Outbox::new(OutboxSettings::default());
        assert_eq!(sends_until_others_run(&outbox).await, 256);
        let other = tokio::spawn(async {
            loop {
                is_turn_over();
                tokio::task::yield_now().await;
            }
        });
        // The first turn as one that is alone; then the other is noticed.
        sends_until_others_run(&outbox).await;
        for _ in 0..3 {
            assert!(sends_until_others_run(&outbox).await <= 256);
        }
        other.abort();
    }
}
