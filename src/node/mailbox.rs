//! Is where one actor's typed messages go in: the [`Mailbox`] seam and the built-in bounded mailbox.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::codec::RemoteMessage;
use crate::event::Reason;
use crate::node::peers::Peer;
use crate::node::remote_ref::{TellError, encode_reply};
use crate::path::ActorPath;

/// Takes the decoded messages of one actor, without waiting.
///
/// Implemented for [`mpsc::Sender`], for closures `Fn(M)`, and for the built-in [`MailboxSender`]. It is called on
/// the task that reads the peer's link, so it must not block. A panic costs the one message.
pub trait Mailbox<M>: Send + Sync + 'static {
    /// Takes one message.
    ///
    /// # Errors
    /// [`Refused`] gives the message back; it becomes a dead letter, an ask is answered with the reason.
    fn try_deliver(&self, delivery: Delivery<M>) -> Result<(), Refused<M>>;

    /// Takes messages from the front of `batch` until it is empty, and puts what is refused into `refused`.
    ///
    /// Everything that one read from the link brought for the mailbox comes in one call. The default calls
    /// [`try_deliver`](Self::try_deliver) for each.
    fn try_deliver_batch(&self, batch: &mut VecDeque<Delivery<M>>, refused: &mut Vec<Refused<M>>) {
        while let Some(delivery) = batch.pop_front() {
            if let Err(refusal) = self.try_deliver(delivery) {
                refused.push(refusal);
            }
        }
    }
}

/// A message with what came along.
#[derive(Debug)]
#[non_exhaustive]
pub struct Delivery<M> {
    /// The message.
    pub message: M,
    /// What came along.
    pub envelope: Envelope,
}

/// What came along with a message.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Envelope {
    /// The actor that sent it, if it said so.
    pub sender: Option<ActorPath>,
    /// The way back, if it is an ask. Dropping it ends the ask with [`Reason::NoReply`].
    pub reply: Option<ReplyTo>,
    /// How long the asker waited at most when it sent the ask.
    pub wait: Option<Duration>,
}

/// Gives back a message that a mailbox did not take.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refused<M> {
    /// There is no room.
    Full(Delivery<M>),
    /// Nobody will ever take it.
    Gone(Delivery<M>),
}

impl<M> Delivery<M> {
    /// Puts a message and its envelope together.
    #[must_use]
    pub fn new(message: M, envelope: Envelope) -> Self {
        Self { message, envelope }
    }

    /// Turns the message into another one with the same envelope.
    pub fn map<N>(self, convert: impl FnOnce(M) -> N) -> Delivery<N> {
        Delivery { message: convert(self.message), envelope: self.envelope }
    }
}

impl<M> Refused<M> {
    /// Splits into the reason and the message.
    pub fn into_parts(self) -> (Reason, Delivery<M>) {
        match self {
            Self::Full(delivery) => (Reason::MailboxFull, delivery),
            Self::Gone(delivery) => (Reason::MailboxGone, delivery),
        }
    }

    /// Turns the message back into what it was made from.
    pub fn map<N>(self, convert: impl FnOnce(M) -> N) -> Refused<N> {
        match self {
            Self::Full(delivery) => Refused::Full(delivery.map(convert)),
            Self::Gone(delivery) => Refused::Gone(delivery.map(convert)),
        }
    }
}

/// Answers one ask, once; dropping it unanswered tells the asker so, with [`Reason::Panicked`] if a panic drops it.
#[derive(Debug)]
pub struct ReplyTo {
    peer: Arc<Peer>,
    correlation: u64,
    is_answered: bool,
    verdict: Option<Arc<Mutex<Phase>>>,
}

/// Says in place of a dropped [`ReplyTo`] why there is no reply; for whoever handed it out and learns that only
/// after the drop.
#[derive(Debug)]
pub(crate) struct Verdict {
    peer: Arc<Peer>,
    correlation: u64,
    phase: Arc<Mutex<Phase>>,
}

/// Whether a [`Verdict`] is still to come, and who tells the asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Pending,
    /// The reply was dropped before the verdict, which tells the asker.
    Dropped,
    Given,
}

impl ReplyTo {
    pub(crate) fn new(peer: Arc<Peer>, correlation: u64) -> Self {
        Self { peer, correlation, is_answered: false, verdict: None }
    }

    /// Keeps a drop silent until the verdict.
    pub(crate) fn await_verdict(&mut self) -> Verdict {
        let phase = Arc::new(Mutex::new(Phase::Pending));
        self.verdict = Some(Arc::clone(&phase));
        Verdict { peer: Arc::clone(&self.peer), correlation: self.correlation, phase }
    }

    /// Sends the reply; never waits.
    ///
    /// # Errors
    /// [`TellError`] as for a tell; the asker is told that there is no reply.
    pub fn reply<R: RemoteMessage>(mut self, reply: &R) -> Result<(), TellError> {
        encode_reply(&self.peer, self.correlation, reply)?;
        self.is_answered = true;
        Ok(())
    }

    /// Ends the ask with a reason instead of a reply.
    pub fn fail(mut self, reason: Reason) {
        self.send_failure(reason);
    }

    /// Passes an encoded reply on.
    pub(crate) fn relay(mut self, wire_name: &str, payload: &[u8]) {
        match self.peer.relay_reply(self.correlation, wire_name, payload) {
            Ok(()) => self.is_answered = true,
            Err(_) => self.send_failure(Reason::OutboxFull),
        }
    }

    fn send_failure(&mut self, reason: Reason) {
        self.is_answered = true;
        fail_ask(&self.peer, self.correlation, reason);
    }

    /// Tells whether a verdict is still to come, which then speaks for this reply.
    fn leaves_it_to_the_verdict(&self) -> bool {
        let Some(phase) = &self.verdict else { return false };
        let mut phase = phase.lock().unwrap_or_else(PoisonError::into_inner);
        let is_pending = *phase == Phase::Pending;
        if is_pending {
            *phase = Phase::Dropped;
        }
        is_pending
    }
}

impl Verdict {
    /// Ends the ask with `reason` if its reply was dropped; leaves it alone if it was sent, or kept for later.
    pub(crate) fn give(self, reason: Reason) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *phase, Phase::Given) == Phase::Dropped {
            fail_ask(&self.peer, self.correlation, reason);
        }
    }
}

fn fail_ask(peer: &Peer, correlation: u64, reason: Reason) {
    if peer.outbox.offer_failure(correlation, reason).is_err() {
        tracing::debug!(peer = %peer.address, "an asker could not be told; its deadline will");
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if !self.is_answered && !self.leaves_it_to_the_verdict() {
            let reason = if std::thread::panicking() { Reason::Panicked } else { Reason::NoReply };
            self.send_failure(reason);
        }
    }
}

impl<M: Send + 'static> Mailbox<M> for mpsc::Sender<M> {
    fn try_deliver(&self, delivery: Delivery<M>) -> Result<(), Refused<M>> {
        // An ask ends here with NoReply: a bare channel has no way to carry the answer.
        let Delivery { message, envelope } = delivery;
        self.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(m) => Refused::Full(Delivery::new(m, envelope)),
            mpsc::error::TrySendError::Closed(m) => Refused::Gone(Delivery::new(m, envelope)),
        })
    }
}

impl<M: Send + 'static> Mailbox<M> for mpsc::Sender<Delivery<M>> {
    fn try_deliver(&self, delivery: Delivery<M>) -> Result<(), Refused<M>> {
        self.try_send(delivery).map_err(|error| match error {
            mpsc::error::TrySendError::Full(delivery) => Refused::Full(delivery),
            mpsc::error::TrySendError::Closed(delivery) => Refused::Gone(delivery),
        })
    }
}

impl<M, F: Fn(M) + Send + Sync + 'static> Mailbox<M> for F {
    fn try_deliver(&self, delivery: Delivery<M>) -> Result<(), Refused<M>> {
        self(delivery.message);
        Ok(())
    }
}

/// Makes a bounded mailbox for `capacity` messages: what goes in on the left comes out on the right.
///
/// The reader swaps out what waits, so up to twice `capacity` may be held: as many again wait while it works.
#[must_use]
pub fn bounded<M>(capacity: usize) -> (MailboxSender<M>, Inbox<M>) {
    let queue = Queue { items: VecDeque::new(), is_closed: false, senders: 1 };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), ready: Notify::new(), capacity });
    (MailboxSender(Arc::clone(&shared)), Inbox { shared, local: VecDeque::new() })
}

/// Is the way into a bounded mailbox.
pub struct MailboxSender<M>(Arc<Shared<M>>);

/// Is the way out of a bounded mailbox; dropping it closes the mailbox.
pub struct Inbox<M> {
    shared: Arc<Shared<M>>,
    /// What the last swap brought.
    local: VecDeque<Delivery<M>>,
}

struct Shared<M> {
    queue: Mutex<Queue<M>>,
    ready: Notify,
    capacity: usize,
}

struct Queue<M> {
    items: VecDeque<Delivery<M>>,
    is_closed: bool,
    senders: usize,
}

impl<M> Inbox<M> {
    /// Waits for the next message; `None` when the mailbox is empty and every sender is gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<Delivery<M>> {
        if self.local.is_empty() && !self.refill().await {
            return None;
        }
        self.pop()
    }

    /// Takes the next message of those that the last refill brought.
    pub(crate) fn pop(&mut self) -> Option<Delivery<M>> {
        self.local.pop_front()
    }

    /// Waits for messages and swaps them out; false when the mailbox is empty and every sender is gone. Cancel safe.
    /// Call it when nothing is left to `pop`.
    pub(crate) async fn refill(&mut self) -> bool {
        loop {
            let ready = self.shared.ready.notified();
            {
                let mut queue = self.shared.lock();
                std::mem::swap(&mut queue.items, &mut self.local);
                if !self.local.is_empty() {
                    return true;
                }
                if queue.senders == 0 {
                    return false;
                }
            }
            ready.await;
        }
    }

    /// Closes the mailbox and gives what is left in it.
    pub(crate) fn close(&mut self) -> impl Iterator<Item = Delivery<M>> + '_ {
        let mut queue = self.shared.lock();
        queue.is_closed = true;
        let items = std::mem::take(&mut queue.items);
        drop(queue);
        self.local.drain(..).chain(items)
    }
}

impl<M> Drop for Inbox<M> {
    fn drop(&mut self) {
        // The messages are dropped outside the lock: their drop may run code that comes back here.
        let left: VecDeque<_> = self.close().collect();
        drop(left);
    }
}

impl<M: Send + 'static> Mailbox<M> for MailboxSender<M> {
    fn try_deliver(&self, delivery: Delivery<M>) -> Result<(), Refused<M>> {
        let mut queue = self.0.lock();
        if queue.is_closed {
            return Err(Refused::Gone(delivery));
        }
        if queue.items.len() >= self.0.capacity {
            return Err(Refused::Full(delivery));
        }
        let was_empty = queue.items.is_empty();
        queue.items.push_back(delivery);
        drop(queue);
        self.wake(was_empty);
        Ok(())
    }

    fn try_deliver_batch(&self, batch: &mut VecDeque<Delivery<M>>, refused: &mut Vec<Refused<M>>) {
        let mut queue = self.0.lock();
        if queue.is_closed {
            drop(queue);
            return refused.extend(batch.drain(..).map(Refused::Gone));
        }
        let was_empty = queue.items.is_empty();
        let room = self.0.capacity.saturating_sub(queue.items.len()).min(batch.len());
        if was_empty && room == batch.len() {
            std::mem::swap(&mut queue.items, batch);
        } else {
            queue.items.extend(batch.drain(..room));
        }
        drop(queue);
        self.wake(was_empty && room > 0);
        refused.extend(batch.drain(..).map(Refused::Full));
    }
}

impl<M> MailboxSender<M> {
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
}
