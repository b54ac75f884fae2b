//! Knows the local actors: path → message types → mailbox. The default sink.
//!
//! Only what is registered here can be reached from outside. A link resolves a (path, manifest) pair once into a
//! [`Route`], which gathers a typed batch and hands it over in one go; a route ends with its registration. Most routes
//! decode; one to a built-in mailbox leaves that to the actor (`directory/inbox_route.rs`).

mod inbox_route;

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;

use self::inbox_route::InboxRoute;
use crate::codec::{CodecEntry, CodecError, CodecFault, Decode, RemoteMessage};
use crate::event::Reason;
use crate::node::backlog::{Backlog, Offered, Parked};
use crate::node::core::Core;
use crate::node::deferred::{self, Decoding, Encoded};
use crate::node::ended::{Ended, Teller};
use crate::node::inbox::MailboxSender;
use crate::node::mailbox::{Delivery, Envelope, Mailbox, Refused, Room};
use crate::node::peers::Peer;
use crate::path::{ActorPath, PathError};

/// Knows the local actors.
#[derive(Debug, Default)]
pub struct Directory {
    entries: DashMap<Box<str>, Entry>,
}

/// One registered path.
#[derive(Debug)]
struct Entry {
    acceptors: Vec<Box<dyn Acceptor>>,
    place: Arc<Place>,
}

/// Is what outlives a registration in the routes that lead there: whether it still stands.
pub(crate) struct Place {
    local: Box<str>,
    is_registered: AtomicBool,
    /// Keeps what its full mailboxes cannot take; none for a registration that refuses the newest.
    backlog: Option<Backlog>,
}

/// Says why a path could not be registered; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The path breaks the grammar; the caller's fault.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The path names another node; the caller's fault.
    #[error("{path} is not on this node")]
    NotLocal {
        /// The path.
        path: ActorPath,
    },
    /// Somebody is registered there; unregister first.
    #[error("{path} is registered already")]
    Taken {
        /// The path.
        path: ActorPath,
    },
    /// The node's tells go to a sink of its own (`NodeBuilder::sink`); the caller's fault.
    #[error("the node's tells go to its sink, nothing can be registered")]
    Sink,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// Takes one message type for a registered path, whatever the mailbox behind.
pub(crate) trait Acceptor: Send + Sync {
    /// Leads there for messages of `peer` that `codec` decodes; `None` if they are of another type.
    fn route(
        &self,
        codec: &'static CodecEntry,
        place: &Arc<Place>,
        core: &Arc<Core>,
        peer: &Arc<Peer>,
    ) -> Option<Box<dyn Route>>;
}

/// Carries the messages of one type to one actor.
pub(crate) trait Route: Send {
    /// Takes a message into the batch.
    fn push(&mut self, payload: &[u8], envelope: Envelope) -> Result<(), Failure>;
    /// Gives a message that is to wait, and the work of decoding it; only when the batch is empty.
    fn defer(&self, encoded: Encoded, envelope: Envelope) -> (Box<dyn Parked>, Decoding);
    /// Hands the batch over; gives how many were taken, and shows the others to `left`.
    fn flush(&mut self, left: &mut dyn FnMut(Left)) -> u64;
    /// Gives the registration it leads to.
    fn place(&self) -> &Arc<Place>;
    /// Gives memory of a past burst back; only when the batch is empty.
    fn shrink(&mut self) {}
}

/// Is a message that its actor did not get at once.
pub(crate) enum Left {
    /// It ended.
    Failed(Failure),
    /// It is to wait in the backlog of the registration.
    Waits(Box<dyn Parked>),
}

/// A message that its actor did not get.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) detail: Option<String>,
    /// Carries the way back to an asker, who is told the reason.
    pub(crate) envelope: Envelope,
}

/// Says why the bytes of a message gave none.
#[derive(Debug)]
pub(crate) struct Fault {
    reason: Reason,
    detail: String,
}

impl Fault {
    #[cold]
    fn undecodable(error: &CodecError) -> Self {
        let reason = match error.fault() {
            CodecFault::Panicked => Reason::Panicked,
            _ => Reason::Undecodable,
        };
        Self { reason, detail: error.to_string() }
    }

    /// Gives the failure of the message that came with `envelope`.
    pub(crate) fn of(self, envelope: Envelope) -> Failure {
        Failure { reason: self.reason, detail: Some(self.detail), envelope }
    }
}

impl Failure {
    fn panicked(what: &str, envelope: Envelope) -> Self {
        let detail = Some(format!("{what} panicked"));
        Self { reason: Reason::Panicked, detail, envelope }
    }
}

impl Directory {
    /// Registers a path for what `acceptors` take.
    pub(crate) fn insert(
        &self,
        path: &ActorPath,
        acceptors: Vec<Box<dyn Acceptor>>,
        backlog: Option<Backlog>,
    ) -> Result<Arc<Place>, RegisterError> {
        let (local, is_registered) = (path.local().into(), AtomicBool::new(true));
        let place = Arc::new(Place { local, is_registered, backlog });
        match self.entries.entry(path.local().into()) {
            Slot::Occupied(_) => Err(RegisterError::Taken { path: path.clone() }),
            Slot::Vacant(slot) => {
                slot.insert(Entry { acceptors, place: Arc::clone(&place) });
                Ok(place)
            }
        }
    }

    /// Removes the registration at a local path, and gives what the caller has to end.
    pub(crate) fn remove(&self, local: &str) -> Option<Arc<Place>> {
        let (_, entry) = self.entries.remove(local)?;
        entry.place.close();
        Some(Arc::clone(&entry.place))
    }

    /// Removes exactly this registration, not one that has taken its place.
    pub(crate) fn remove_place(&self, place: &Arc<Place>) {
        let removed =
            self.entries.remove_if(place.local(), |_, entry| Arc::ptr_eq(&entry.place, place));
        drop(removed);
        place.close();
    }

    /// Gives the registered paths.
    pub(crate) fn paths(&self) -> Vec<Box<str>> {
        self.entries.iter().map(|entry| entry.key().clone()).collect()
    }

    /// Counts the registered paths.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether nothing is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Tells whether somebody is registered at the local path.
    #[must_use]
    pub fn contains(&self, local: &str) -> bool {
        self.entries.contains_key(local)
    }

    /// Finds the way to an actor for messages of one type.
    pub(crate) fn route(
        &self,
        local: &str,
        codec: Option<&'static CodecEntry>,
        core: &Arc<Core>,
        peer: &Arc<Peer>,
    ) -> Result<Box<dyn Route>, Reason> {
        let route = |entry: &Entry| {
            let codec = codec.ok_or(Reason::UnknownManifest)?;
            let mut routes =
                entry.acceptors.iter().map(|to| to.route(codec, &entry.place, core, peer));
            routes.find_map(|route| route).ok_or(Reason::NotAccepted)
        };
        self.entries.view(local, |_, entry| route(entry)).unwrap_or(Err(Reason::UnknownPath))
    }
}

impl Place {
    /// Gives the local path.
    pub(crate) fn local(&self) -> &str {
        &self.local
    }

    /// Tells whether the path is still registered as it was.
    pub(crate) fn is_current(&self) -> bool {
        self.is_registered.load(Ordering::Acquire)
    }

    /// Gives where messages for full mailboxes wait; none if they are refused.
    pub(crate) fn backlog(&self) -> Option<&Backlog> {
        self.backlog.as_ref()
    }

    /// Names a tell to this place that ended.
    pub(crate) fn ended(&self, wire_name: String, failure: Failure) -> Ended {
        Ended { target: self.local.to_string(), wire_name, failure }
    }

    fn close(&self) {
        self.is_registered.store(false, Ordering::Release);
    }
}

/// Makes the acceptor for messages `M` that go into a mailbox as `T`.
pub(crate) fn acceptor<M, T>(mailbox: Arc<dyn Mailbox<T>>) -> Box<dyn Acceptor>
where
    M: RemoteMessage + Into<T>,
    T: Send + 'static,
{
    Box::new(move |codec, place: &Arc<Place>, _: &Arc<Core>, _: &Arc<Peer>| {
        let route = TypedRoute::<M, T>::new(codec, place, Arc::downgrade(&mailbox))?;
        Some(Box::new(route) as Box<dyn Route>)
    })
}

/// Makes the acceptor for messages `M` that go into a built-in mailbox as `T`.
pub(crate) fn inbox_acceptor<M, T>(mailbox: MailboxSender<T>) -> Box<dyn Acceptor>
where
    M: RemoteMessage + Into<T>,
    T: Send + 'static,
{
    let inbox = Arc::new(mailbox);
    Box::new(move |codec, place: &Arc<Place>, core: &Arc<Core>, peer: &Arc<Peer>| {
        let route = InboxRoute::<M, T>::new(codec, place, &inbox, Teller::new(core, peer))?;
        Some(Box::new(route) as Box<dyn Route>)
    })
}

impl<F> Acceptor for F
where
    F: Fn(&'static CodecEntry, &Arc<Place>, &Arc<Core>, &Arc<Peer>) -> Option<Box<dyn Route>>
        + Send
        + Sync,
{
    fn route(
        &self,
        codec: &'static CodecEntry,
        place: &Arc<Place>,
        core: &Arc<Core>,
        peer: &Arc<Peer>,
    ) -> Option<Box<dyn Route>> {
        self(codec, place, core, peer)
    }
}

struct TypedRoute<M, T> {
    codec: &'static CodecEntry,
    decode: Decode<M>,
    place: Arc<Place>,
    /// Weak, so that the mailbox ends with its registration and not with the last link that used it.
    mailbox: Weak<dyn Mailbox<T>>,
    batch: VecDeque<Delivery<T>>,
    refused: Vec<Refused<T>>,
}

impl<M: RemoteMessage + Into<T>, T: Send + 'static> Route for TypedRoute<M, T> {
    fn push(&mut self, payload: &[u8], envelope: Envelope) -> Result<(), Failure> {
        let batch = &mut self.batch;
        open::<M, T>(self.codec, self.decode, payload, envelope, |delivery| {
            batch.push_back(delivery);
        })
    }

    fn defer(&self, encoded: Encoded, envelope: Envelope) -> (Box<dyn Parked>, Decoding) {
        let (codec, by, mailbox) = (self.codec, self.decode, Weak::clone(&self.mailbox));
        let decode = move |payload: &[u8]| decode::<M, T, _>(codec, by, payload, |message| message);
        deferred::defer(codec, mailbox, encoded, envelope, decode)
    }

    fn flush(&mut self, left: &mut dyn FnMut(Left)) -> u64 {
        if self.place.backlog().is_some_and(Backlog::is_waiting) {
            while let Some(delivery) = self.batch.pop_front() {
                left(Left::Waits(self.park(delivery)));
            }
            return 0;
        }
        let Some(mailbox) = self.mailbox.upgrade() else {
            let gone = self.batch.drain(..).map(|delivery| untaken(&Ok(()), delivery));
            gone.for_each(|failure| left(Left::Failed(failure)));
            return 0;
        };
        let (offered, lost) = (self.batch.len(), self.deliver(&*mailbox, left));
        let lost = lost + self.refused.len();
        for refused in std::mem::take(&mut self.refused) {
            left(self.refusal(refused));
        }
        (offered - lost.min(offered)) as u64
    }

    fn place(&self) -> &Arc<Place> {
        &self.place
    }
}

impl<M: RemoteMessage + Into<T>, T: Send + 'static> TypedRoute<M, T> {
    /// Leads to a mailbox; `None` if `codec` decodes another type.
    fn new(
        codec: &'static CodecEntry,
        place: &Arc<Place>,
        mailbox: Weak<dyn Mailbox<T>>,
    ) -> Option<Self> {
        let (decode, place) = (codec.decoder()?, Arc::clone(place));
        Some(Self { codec, decode, place, mailbox, batch: VecDeque::new(), refused: Vec::new() })
    }

    /// Offers the batch until it is empty; gives how many messages were lost by panics.
    fn deliver(&mut self, mailbox: &dyn Mailbox<T>, left: &mut dyn FnMut(Left)) -> usize {
        let mut lost = 0;
        while !self.batch.is_empty() {
            let (batch, refused) = (&mut self.batch, &mut self.refused);
            let before = batch.len();
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                mailbox.try_deliver_batch(batch, refused);
            }));
            if self.batch.len() == before {
                // A mailbox that takes nothing would be asked for ever.
                lost += before;
                let untaken = self.batch.drain(..).map(|delivery| untaken(&outcome, delivery));
                untaken.for_each(|failure| left(Left::Failed(failure)));
            } else if outcome.is_err() {
                lost += 1;
                left(Left::Failed(Failure::panicked("the mailbox", Envelope::default())));
            }
        }
        lost
    }

    /// Lets a message for a full mailbox wait if the registration holds senders back.
    fn refusal(&self, refused: Refused<T>) -> Left {
        match refused {
            Refused::Full(delivery) if self.place.backlog().is_some() => {
                Left::Waits(self.park(delivery))
            }
            refused => Left::Failed(refused.into()),
        }
    }

    fn park(&self, delivery: Delivery<T>) -> Box<dyn Parked> {
        Box::new(TypedParked { codec: self.codec, mailbox: Weak::clone(&self.mailbox), delivery })
    }
}

/// Is a decoded message that waits for its mailbox.
pub(crate) struct TypedParked<T> {
    pub(crate) codec: &'static CodecEntry,
    pub(crate) mailbox: Weak<dyn Mailbox<T>>,
    pub(crate) delivery: Delivery<T>,
}

impl<T: Send + 'static> Parked for TypedParked<T> {
    fn bytes(&self) -> u64 {
        self.delivery.envelope.bytes as u64
    }

    fn offer(self: Box<Self>) -> Offered {
        let Self { codec, mailbox, delivery } = *self;
        let Some(alive) = mailbox.upgrade() else {
            return Offered::Failed(untaken(&Ok(()), delivery), codec.wire_name());
        };
        match catch_unwind(AssertUnwindSafe(|| alive.try_deliver(delivery))) {
            Ok(Ok(())) => Offered::Taken,
            Ok(Err(Refused::Full(delivery))) => {
                Offered::Full(Box::new(Self { codec, mailbox, delivery }))
            }
            Ok(Err(gone)) => Offered::Failed(gone.into(), codec.wire_name()),
            Err(_) => {
                let failure = Failure::panicked("the mailbox", Envelope::default());
                Offered::Failed(failure, codec.wire_name())
            }
        }
    }

    fn fail(self: Box<Self>, reason: Reason) -> Failure {
        Failure { reason, detail: None, envelope: self.delivery.envelope }
    }

    fn room(&self) -> Option<Room> {
        let mailbox = self.mailbox.upgrade()?;
        catch_unwind(AssertUnwindSafe(|| mailbox.room())).ok().flatten()
    }

    fn wire_name(&self) -> String {
        self.codec.wire_name()
    }
}

impl<T> From<Refused<T>> for Failure {
    fn from(refused: Refused<T>) -> Self {
        let (reason, delivery) = refused.into_parts();
        Self { reason, detail: None, envelope: delivery.envelope }
    }
}

/// Decodes a message and gives it with what came along.
#[inline]
fn open<M: RemoteMessage + Into<T>, T>(
    codec: &'static CodecEntry,
    by: Decode<M>,
    payload: &[u8],
    mut envelope: Envelope,
    take: impl FnOnce(Delivery<T>),
) -> Result<(), Failure> {
    envelope.bytes = payload.len();
    let along = &mut envelope;
    let opened = decode::<M, T, _>(codec, by, payload, |message| {
        take(Delivery::new(message, std::mem::take(along)));
    });
    opened.map_err(|fault| fault.of(envelope))
}

/// Decodes a message, converts it and hands it to `take`.
///
/// All in one: each step that gave the message back would move it while it is still on its way to memory, which costs
/// more than the step.
#[inline]
pub(crate) fn decode<M: RemoteMessage + Into<T>, T, R>(
    codec: &'static CodecEntry,
    by: Decode<M>,
    payload: &[u8],
    take: impl FnOnce(T) -> R,
) -> Result<R, Fault> {
    let mut is_decoded = false;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let message = by(payload)?;
        is_decoded = true;
        // The conversion is the user's code.
        Ok::<_, Box<CodecFault>>(take(message.into()))
    }));
    match outcome {
        Ok(Ok(taken)) => Ok(taken),
        Ok(Err(fault)) => Err(Fault::undecodable(&codec.error(*fault))),
        Err(_) if is_decoded => Err(Fault {
            reason: Reason::Panicked,
            detail: "the conversion of the message panicked".to_owned(),
        }),
        Err(_) => Err(Fault::undecodable(&codec.error(CodecFault::Panicked))),
    }
}

/// Describes a message that its mailbox left in the batch.
fn untaken<T>(outcome: &std::thread::Result<()>, delivery: Delivery<T>) -> Failure {
    match outcome {
        Ok(()) => {
            Failure { reason: Reason::MailboxGone, detail: None, envelope: delivery.envelope }
        }
        Err(_) => Failure::panicked("the mailbox", delivery.envelope),
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.local).finish()
    }
}

impl fmt::Debug for dyn Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}
