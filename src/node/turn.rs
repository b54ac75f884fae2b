//! Tells a task when to let others run.
//!
//! Yielding is not free: where several threads serve the tasks, a lonely one that yields makes tokio wake another thread
//! in vain. A task that had to wait has let others run already, so its turn begins anew.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::{Duration, Instant};

use crate::node::link::now;

/// Counts what an actor handles before others get their turn; tokio's own budget would do, at several times the price.
/// An actor with shorter turns than the reader of a link falls behind it, and what waits in front of a full mailbox costs
/// more than twice.
pub(crate) struct Turn {
    begun: Instant,
    handled: u32,
    /// How many are handled when the clock is looked at again.
    next_look: u32,
}

impl Turn {
    /// Messages of a turn.
    const MOST: u32 = 4096;
    /// What a turn may take if each message takes long.
    const LONGEST: Duration = Duration::from_micros(200);
    /// Messages between two looks at the clock at most: it is looked at after 1, 2, 4 and so on, so that a turn of slow
    /// messages takes about twice its time at most; one whose messages become slow may take so many of them more.
    const UNSEEN: u32 = 128;

    pub(crate) fn new(begun: Instant) -> Self {
        Self { begun, handled: 0, next_look: 1 }
    }

    /// Counts a message that was handled, and tells whether others are to get their turn.
    pub(crate) fn is_over(&mut self) -> bool {
        self.handled += 1;
        if self.handled < self.next_look {
            return false;
        }
        self.next_look += self.handled.min(Self::UNSEEN);
        self.handled >= Self::MOST || now() - self.begun > Self::LONGEST
    }
}

/// Awaits a future, and tells whether it had to be waited for.
pub(crate) async fn noting_wait<T>(future: impl Future<Output = T>) -> (bool, T) {
    let (mut future, mut has_waited) = (pin!(future), false);
    let output = poll_fn(|cx| {
        let poll = future.as_mut().poll(cx);
        has_waited |= poll.is_pending();
        poll
    });
    let output = output.await;
    (has_waited, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the messages that are left of a turn.
    fn length(mut turn: Turn) -> Option<u32> {
        (1..=5000).find(|_| turn.is_over())
    }

    #[tokio::test]
    async fn what_is_ready_is_not_waited_for() {
        assert_eq!(noting_wait(async { 1 }).await, (false, 1));
        assert_eq!(noting_wait(tokio::task::yield_now()).await, (true, ()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_with_many_messages_or_after_a_while() {
        assert_eq!(length(Turn::new(now())), Some(4096));
        assert_eq!(length(Turn::new(now() - Duration::from_micros(201))), Some(1));
        let mut turn = Turn::new(now());
        assert!((0..300).all(|_| !turn.is_over()));
        tokio::time::advance(Duration::from_micros(201)).await;
        assert_eq!(length(turn), Some(84), "the next look is after 384");
    }
}
