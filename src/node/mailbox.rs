//! Is where one actor's typed messages go in: the [`Mailbox`] seam. `inbox.rs` has the built-in one.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::codec::RemoteMessage;
use crate::event::Reason;
use crate::node::outbox;
use crate::node::peers::Peer;
use crate::node::remote_ref::{TellError, encode_reply};
use crate::path::ActorPath;

/// Takes the decoded messages of one actor, without waiting.
///
/// Implemented for [`mpsc::Sender`], for closures `Fn(M)`, and for the built-in
/// [`MailboxSender`](crate::node::MailboxSender). It is called on
/// the task that reads the peer's link, or one that brings what had to wait, so it must not block. A panic costs the
/// one message.
pub trait Mailbox<M>: Send + Sync + 'static {
    /// Takes one message.
    ///
    /// # Errors
    /// [`Refused`] gives the message back. One refused as `Full` is offered again when there is room, unless the
    /// registration says [`WhenFull::Refuse`]; any other becomes a dead letter, an ask is answered with the reason.
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

    /// Gives what ends when a full mailbox has room again, or is gone. Without it, which is the default, a message that
    /// was refused as `Full` is offered again every 2 ms.
    fn room(&self) -> Option<Room> {
        None
    }
}

/// Ends when a mailbox has room again; dropped when its registration ends.
pub type Room = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Says what happens to messages for a full mailbox; chosen at registration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Holds its senders back: what is on its way waits in front of the mailbox, and no more is sent than may wait
    /// there. Then `tell` answers `Full` to those who tell this actor, and `send` waits. Nothing is lost.
    #[default]
    HoldBack,
    /// Refuses the newest: each becomes a dead letter with `Reason::MailboxFull`, and senders go on. Nothing ever waits
    /// in front of the mailbox, so large messages are decoded by the task that reads the link, which holds up the rest
    /// of their peer's for as long.
    Refuse,
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
///
/// It is moved and kept with every message, so it is three words long: whatever few messages bring is behind one.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Envelope {
    /// The actor that sent it, if it said so.
    pub sender: Option<Arc<ActorPath>>,
    /// The way back, if it is an ask. Dropping it ends the ask with [`Reason::NoReply`].
    pub reply: Option<ReplyTo>,
    /// Size of the encoded message.
    pub(crate) bytes: usize,
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

impl Envelope {
    /// Tells whether nothing came along.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        self.sender.is_none() && self.reply.is_none()
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
pub struct ReplyTo(Box<Asker>);

/// Who waits for a reply.
#[derive(Debug)]
struct Asker {
    peer: Arc<Peer>,
    correlation: u64,
    wait: Option<Duration>,
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
    pub(crate) fn new(peer: Arc<Peer>, correlation: u64, wait: Option<Duration>) -> Self {
        Self(Box::new(Asker { peer, correlation, wait, is_answered: false, verdict: None }))
    }

    /// Gives how long the asker waited at most when it sent the ask, if it said so.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.0.wait
    }

    /// Keeps a drop silent until the verdict.
    pub(crate) fn await_verdict(&mut self) -> Verdict {
        let phase = Arc::new(Mutex::new(Phase::Pending));
        self.0.verdict = Some(Arc::clone(&phase));
        Verdict { peer: Arc::clone(&self.0.peer), correlation: self.0.correlation, phase }
    }

    /// Sends the reply; never waits.
    ///
    /// # Errors
    /// [`TellError`] as for a tell; the asker is told that there is no reply.
    pub fn reply<R: RemoteMessage>(mut self, reply: &R) -> Result<(), TellError> {
        encode_reply(&self.0.peer, self.0.correlation, reply)?;
        self.0.is_answered = true;
        Ok(())
    }

    /// Ends the ask with a reason instead of a reply.
    pub fn fail(mut self, reason: Reason) {
        self.send_failure(reason);
    }

    /// Passes an encoded reply on.
    pub(crate) fn relay(mut self, wire_name: &str, payload: &[u8]) {
        match self.0.peer.relay_reply(self.0.correlation, wire_name, payload) {
            Ok(()) => self.0.is_answered = true,
            Err(outbox::Refused::TooLarge { .. } | outbox::Refused::Unframeable) => {
                self.send_failure(Reason::TooLarge);
            }
            Err(outbox::Refused::Full) => self.send_failure(Reason::OutboxFull),
            Err(outbox::Refused::Closed) => self.send_failure(Reason::NodeStopped),
        }
    }

    fn send_failure(&mut self, reason: Reason) {
        self.0.is_answered = true;
        fail_ask(&self.0.peer, self.0.correlation, reason);
    }

    /// Tells whether a verdict is still to come, which then speaks for this reply.
    fn leaves_it_to_the_verdict(&self) -> bool {
        let Some(phase) = &self.0.verdict else { return false };
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
        if !self.0.is_answered && !self.leaves_it_to_the_verdict() {
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

    fn room(&self) -> Option<Room> {
        let sender = self.clone();
        // Whoever gets the permit lets it go at once: the message is on its way back to `try_deliver`.
        Some(Box::pin(async move { drop(sender.reserve().await) }))
    }
}

impl<M: Send + 'static> Mailbox<M> for mpsc::Sender<Delivery<M>> {
    fn try_deliver(&self, delivery: Delivery<M>) -> Result<(), Refused<M>> {
        self.try_send(delivery).map_err(|error| match error {
            mpsc::error::TrySendError::Full(delivery) => Refused::Full(delivery),
            mpsc::error::TrySendError::Closed(delivery) => Refused::Gone(delivery),
        })
    }

    fn room(&self) -> Option<Room> {
        let sender = self.clone();
        // Whoever gets the permit lets it go at once: the message is on its way back to `try_deliver`.
        Some(Box::pin(async move { drop(sender.reserve().await) }))
    }
}

impl<M, F: Fn(M) + Send + Sync + 'static> Mailbox<M> for F {
    fn try_deliver(&self, delivery: Delivery<M>) -> Result<(), Refused<M>> {
        self(delivery.message);
        Ok(())
    }
}
