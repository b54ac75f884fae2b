//! Is the built-in bounded mailbox: letters that its reader swaps out.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::node::letters::{Letters, Undecodable};
use crate::node::mailbox::{Delivery, Mailbox, Refused, Room};

/// Makes a bounded mailbox for `capacity` messages: what goes in on the left comes out on the right.
///
/// The reader swaps out what waits, so up to twice `capacity` may be held: as many again wait while it works.
#[must_use]
pub fn bounded<M>(capacity: usize) -> (MailboxSender<M>, Inbox<M>) {
    bounded_by(capacity, usize::MAX)
}

/// Makes a mailbox that is bounded in encoded bytes too.
pub(crate) fn bounded_by<M>(capacity: usize, max_bytes: usize) -> (MailboxSender<M>, Inbox<M>) {
    let queue = Queue { letters: Letters::new(), is_closed: false, senders: 1 };
    let (ready, room) = (Notify::new(), Notify::new());
    let shared = Arc::new(Shared { queue: Mutex::new(queue), ready, room, capacity, max_bytes });
    (MailboxSender(Arc::clone(&shared)), Inbox { shared, local: Letters::new() })
}

/// Is the way into a bounded mailbox.
pub struct MailboxSender<M>(Arc<Shared<M>>);

/// Is the way out of a bounded mailbox; dropping it closes the mailbox.
pub struct Inbox<M> {
    shared: Arc<Shared<M>>,
    /// What the last swap brought.
    local: Letters<M>,
}

struct Shared<M> {
    queue: Mutex<Queue<M>>,
    /// Wakes the reader.
    ready: Notify,
    /// Wakes who waits for room.
    room: Notify,
    capacity: usize,
    max_bytes: usize,
}

struct Queue<M> {
    letters: Letters<M>,
    is_closed: bool,
    senders: usize,
}

impl<M> Inbox<M> {
    /// Waits for the next message; `None` when the mailbox is empty and every sender is gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<Delivery<M>> {
        loop {
            match self.pop() {
                Some(Ok(delivery)) => return Some(delivery),
                Some(Err(Undecodable)) => {}
                None if self.refill().await => {}
                None => return None,
            }
        }
    }

    /// Takes the next message of those that the last refill brought, and decodes it if it is not decoded yet.
    // Not called, so that what is decoded is moved once less on the way of a tell.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<Result<Delivery<M>, Undecodable>> {
        self.local.pop()
    }

    /// Waits for messages and swaps them out; false when the mailbox is empty and every sender is gone. Cancel safe.
    /// Call it when nothing is left to `pop`.
    pub(crate) async fn refill(&mut self) -> bool {
        loop {
            let ready = self.shared.ready.notified();
            if self.shared.swap_out(&mut self.local) {
                return false;
            }
            if !self.local.is_empty() {
                self.shared.room.notify_waiters();
                return true;
            }
            ready.await;
        }
    }

    /// Closes the mailbox and gives what is left in it.
    pub(crate) fn close(&mut self) -> Letters<M> {
        let mut queue = self.shared.lock();
        queue.is_closed = true;
        let mut later = std::mem::replace(&mut queue.letters, Letters::new());
        drop(queue);
        self.shared.room.notify_waiters();
        let mut left = std::mem::replace(&mut self.local, Letters::new());
        left.append(&mut later);
        left
    }
}

impl<M> Drop for Inbox<M> {
    fn drop(&mut self) {
        // The messages are dropped outside the lock: their drop may run code that comes back here.
        drop(self.close());
    }
}

/// Says why a mailbox left messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Untaken {
    /// There is no room for them.
    Full,
    /// Nobody will ever take them.
    Gone,
}

impl<M: Send + 'static> Mailbox<M> for MailboxSender<M> {
    fn try_deliver(&self, delivery: Delivery<M>) -> Result<(), Refused<M>> {
        let mut queue = self.0.lock();
        if queue.is_closed {
            return Err(Refused::Gone(delivery));
        }
        if !self.0.has_room(&queue) {
            return Err(Refused::Full(delivery));
        }
        let was_empty = queue.letters.is_empty();
        queue.letters.push(delivery);
        drop(queue);
        self.wake(was_empty);
        Ok(())
    }

    fn try_deliver_batch(&self, batch: &mut VecDeque<Delivery<M>>, refused: &mut Vec<Refused<M>>) {
        let offered = batch.len();
        let mut queue = self.0.lock();
        if queue.is_closed {
            drop(queue);
            return refused.extend(batch.drain(..).map(Refused::Gone));
        }
        let was_empty = queue.letters.is_empty();
        while self.0.has_room(&queue) {
            let Some(delivery) = batch.pop_front() else { break };
            queue.letters.push(delivery);
        }
        drop(queue);
        self.wake(was_empty && batch.len() < offered);
        refused.extend(batch.drain(..).map(Refused::Full));
    }

    fn room(&self) -> Option<Room> {
        let shared = Arc::clone(&self.0);
        Some(Box::pin(async move {
            loop {
                let room = shared.room.notified();
                let is_over = {
                    let queue = shared.lock();
                    queue.is_closed || shared.has_room(&queue)
                };
                if is_over {
                    return;
                }
                room.await;
            }
        }))
    }
}

impl<M> MailboxSender<M> {
    /// Takes messages from the front of `letters`, encoded ones as they are, until none is left.
    pub(crate) fn try_deliver_letters(&self, letters: &mut Letters<M>) -> Result<(), Untaken> {
        let mut queue = self.0.lock();
        if queue.is_closed {
            return Err(Untaken::Gone);
        }
        let (was_empty, offered) = (queue.letters.is_empty(), letters.len());
        let after = queue.letters.len() + offered;
        let after_bytes = queue.letters.bytes().saturating_add(letters.bytes());
        if after <= self.0.capacity && after_bytes <= self.0.max_bytes {
            queue.letters.append(letters);
        } else {
            while !letters.is_empty() && self.0.has_room(&queue) {
                letters.move_first(&mut queue.letters);
            }
        }
        drop(queue);
        self.wake(was_empty && letters.len() < offered);
        if letters.is_empty() { Ok(()) } else { Err(Untaken::Full) }
    }

    fn wake(&self, was_empty: bool) {
        if was_empty {
            self.0.ready.notify_one();
        }
    }
}

impl<M> Clone for MailboxSender<M> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<M> Drop for MailboxSender<M> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.senders -= 1;
        let is_last = queue.senders == 0;
        drop(queue);
        self.wake(is_last);
    }
}

impl<M> Shared<M> {
    fn lock(&self) -> MutexGuard<'_, Queue<M>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what waits; tells whether nothing more can come.
    fn swap_out(&self, local: &mut Letters<M>) -> bool {
        let mut queue = self.lock();
        std::mem::swap(&mut queue.letters, local);
        local.is_empty() && queue.senders == 0
    }

    fn has_room(&self, queue: &Queue<M>) -> bool {
        queue.letters.len() < self.capacity && queue.letters.bytes() < self.max_bytes
    }
}

impl<M> fmt::Debug for MailboxSender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailboxSender").field("capacity", &self.0.capacity).finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("capacity", &self.shared.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::mailbox::Envelope;

    fn delivery(message: u32) -> Delivery<u32> {
        Delivery::new(message, Envelope::default())
    }

    #[tokio::test]
    async fn messages_come_out_in_order_until_the_senders_are_gone() {
        let (sender, mut inbox) = bounded(8);
        let mut batch: VecDeque<_> = (0..3).map(delivery).collect();
        let mut refused = Vec::new();
        sender.try_deliver_batch(&mut batch, &mut refused);
        sender.try_deliver(delivery(3)).unwrap();
        drop(sender);
        let mut seen = Vec::new();
        while let Some(delivery) = inbox.recv().await {
            seen.push(delivery.message);
        }
        assert_eq!(seen, [0, 1, 2, 3]);
        assert!(refused.is_empty());
    }

    #[test]
    fn a_full_mailbox_gives_back_the_newest() {
        let (sender, _inbox) = bounded(2);
        sender.try_deliver(delivery(0)).unwrap();
        let mut batch: VecDeque<_> = (1..4).map(delivery).collect();
        let mut refused = Vec::new();
        sender.try_deliver_batch(&mut batch, &mut refused);
        let back: Vec<_> = refused.into_iter().map(|r| r.into_parts().1.message).collect();
        assert_eq!(back, [2, 3]);
        assert!(matches!(sender.try_deliver(delivery(9)), Err(Refused::Full(_))));
    }

    #[test]
    fn a_closed_mailbox_gives_everything_back() {
        let (sender, inbox) = bounded(2);
        drop(inbox);
        assert!(matches!(sender.try_deliver(delivery(0)), Err(Refused::Gone(_))));
        let mut batch: VecDeque<_> = (1..3).map(delivery).collect();
        let mut refused = Vec::new();
        sender.try_deliver_batch(&mut batch, &mut refused);
        assert_eq!(refused.len(), 2);
    }

    #[tokio::test]
    async fn bytes_bound_a_mailbox_and_room_is_there_when_they_are_taken_out() {
        let (sender, mut inbox) = bounded_by(100, 1000);
        let sized = |bytes| {
            let mut delivery = delivery(0);
            delivery.envelope.bytes = bytes;
            delivery
        };
        let mut batch: VecDeque<_> = [400, 700, 1].map(sized).into();
        let mut refused = Vec::new();
        sender.try_deliver_batch(&mut batch, &mut refused);
        assert_eq!(refused.len(), 1, "one may overshoot the bytes");
        let mut room = sender.room().unwrap();
        let poll = poll_once(&mut room).await;
        assert!(poll.is_pending());
        inbox.recv().await.unwrap();
        room.await;
        sender.try_deliver(sized(1)).unwrap();
    }

    #[tokio::test]
    async fn nobody_waits_for_room_in_a_closed_mailbox() {
        let (sender, inbox) = bounded(1);
        sender.try_deliver(delivery(0)).unwrap();
        let mut room = sender.room().unwrap();
        assert!(poll_once(&mut room).await.is_pending());
        drop(inbox);
        room.await;
    }

    async fn poll_once(room: &mut Room) -> std::task::Poll<()> {
        std::future::poll_fn(|cx| std::task::Poll::Ready(room.as_mut().poll(cx))).await
    }
}
