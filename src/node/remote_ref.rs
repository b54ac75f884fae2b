//! Is the handle to an actor by its path: tell, send, ask.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::codec::{CodecError, DecodeError, RemoteMessage};
use crate::event::Reason;
use crate::node::ask::{Answer, Completion, watch};
use crate::node::core::Core;
use crate::node::link::now;
use crate::node::negotiation::Chosen;
use crate::node::outbox::{AskHeader, Outgoing, Refused, WireName};
use crate::node::pace;
use crate::node::peers::Peer;
use crate::path::{ActorPath, PathError};

/// Reaches an actor by its path, on this node or another.
///
/// Cheap to clone. Tells from one node to one path arrive in the order in which they were told, at most once.
pub struct RemoteRef {
    core: Arc<Core>,
    peer: Arc<Peer>,
    path: ActorPath,
    /// The path's dictionary id once it is known; 0 until then.
    id: AtomicU16,
}

/// Says why a path gives no ref.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The path breaks the grammar; the caller's fault.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No transport of this node speaks the scheme of the path's address; the caller's fault.
    #[error("no transport for scheme `{scheme}`")]
    UnknownScheme {
        /// The scheme.
        scheme: String,
    },
    /// The path belongs to another actor system, which this node does not talk to.
    #[error("the path is in system `{theirs}`, this node in `{ours}`")]
    OtherSystem {
        /// This node's system.
        ours: String,
        /// The path's system.
        theirs: String,
    },
    /// This node knows as many peers as it may (`inbound.max_peers`).
    #[error("this node knows {limit} peers, as many as it may")]
    TooManyPeers {
        /// The bound.
        limit: usize,
    },
    /// This node itself is meant where only a peer can be.
    #[error("the address is this node's own")]
    Own,
    /// This node has stopped.
    #[error("this node has stopped")]
    Stopped,
}

/// Says why a tell was refused; nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TellError {
    /// The outbox to the peer is full, or the actor is slow and as much waits for it as may. Try again later, or wait
    /// with [`RemoteRef::send`].
    #[error("the outbox to the peer or the slow actor has no room")]
    Full,
    /// The encoded message is larger than either node takes. The caller's fault; do not retry.
    #[error("a message of {size} bytes is larger than {limit}")]
    TooLarge {
        /// Its encoded size in bytes.
        size: usize,
        /// The bound in bytes: the smaller of both nodes' `inbound.max_message`.
        limit: usize,
    },
    /// The message cannot be encoded. The caller's fault; do not retry.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The peer's registry accepts the type in no version and format that this program has. Nothing was sent;
    /// a retry is refused until the peer is restarted with another build.
    #[error("the peer does not accept `{manifest}`, nor any older version or other format of it")]
    UnknownToPeer {
        /// The manifest of the message.
        manifest: &'static str,
    },
    /// Both nodes know the manifest, with different schemas: the peer would decode nonsense. Nothing was sent; a
    /// retry is refused until one of the two is restarted with another build.
    #[error("`{manifest}` has the schema {here:016x} here and {there:016x} at the peer")]
    SchemaMismatch {
        /// The manifest.
        manifest: &'static str,
        /// The schema hash on this node.
        here: u64,
        /// The schema hash on the peer.
        there: u64,
    },
    /// This node has stopped. Do not retry.
    #[error("this node has stopped")]
    Stopped,
}

/// Says why an ask has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The ask was refused; nothing was sent.
    #[error(transparent)]
    Tell(#[from] TellError),
    /// Too many asks to the peer wait for their reply (`outbox.max_asks`); nothing was sent.
    #[error("{limit} asks to the peer wait, as many as may")]
    TooManyAsks {
        /// The bound.
        limit: usize,
    },
    /// The deadline is over. Whether the ask was processed is not known.
    #[error("no reply within {0:?}")]
    Timeout(Duration),
    /// The ask ended without a reply. With [`Reason::LinkLost`], [`Reason::NewIncarnation`],
    /// [`Reason::NoReply`] and [`Reason::Panicked`] it may have been processed, with the others it was not.
    #[error("no reply: {0}")]
    Failed(Reason),
    /// The reply came and could not be decoded here.
    #[error("the reply cannot be decoded: {0}")]
    Reply(DecodeError),
}

impl RemoteRef {
    pub(crate) fn new(core: Arc<Core>, peer: Arc<Peer>, path: ActorPath) -> Self {
        Self { core, peer, path, id: AtomicU16::new(0) }
    }

    /// Gives the whole path, address included.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Sends a message and never waits.
    ///
    /// # Errors
    /// [`TellError`]: nothing was sent. `Ok` means that the message waits in the outbox; from there it is
    /// delivered, or ends as one dead letter with a reason.
    pub fn tell<M: RemoteMessage>(&self, message: &M) -> Result<(), TellError> {
        self.tell_as(None, message)
    }

    /// Sends a message that names `sender`, an actor of this node, and never waits.
    ///
    /// # Errors
    /// As for [`tell`](Self::tell).
    pub fn tell_from<M: RemoteMessage>(
        &self,
        sender: &ActorPath,
        message: &M,
    ) -> Result<(), TellError> {
        self.tell_as(Some(sender.local()), message)
    }

    /// Sends a message, waiting for room in the outbox, and for the actor if it is slow. Cancel safe: nothing is sent if it is dropped.
    ///
    /// # Errors
    /// As for [`tell`](Self::tell), except [`TellError::Full`].
    pub async fn send<M: RemoteMessage>(&self, message: &M) -> Result<(), TellError> {
        if pace::is_turn_over(&self.peer.outbox) {
            pace::end_turn(&self.peer.outbox).await;
        }
        let mut unsent = None;
        match self.offer_first(message, None, &mut unsent) {
            Err(Unsent::Full) => Ok(Box::pin(self.offer_again(message, None, unsent)).await?),
            other => Ok(other?),
        }
    }

    /// Sends a message and waits for its reply until `wait` is over; the time covers dial, queue and reply. A large reply
    /// whose decoding has begun by then may end later. It takes the runtime that the node was started on to end in time,
    /// whatever runtime awaits it.
    ///
    /// Cancel safe: a caller that gives up leaves nothing behind, but the ask may be processed.
    ///
    /// # Errors
    /// [`AskError`]; its variants say whether the ask may have been processed.
    pub async fn ask<M, R>(&self, message: &M, wait: Duration) -> Result<R, AskError>
    where
        M: RemoteMessage,
        R: RemoteMessage,
    {
        let (tx, mut rx) = oneshot::channel();
        let core = Arc::downgrade(&self.core);
        let completion: Completion = Box::new(move |answer| {
            let result = match answer {
                Answer::Failed(reason) => Err(AskError::Failed(reason)),
                Answer::Late => Err(AskError::Timeout(wait)),
                Answer::Reply { wire_name, payload } => match core.upgrade() {
                    Some(core) => core.registry.decode(wire_name, payload).map_err(AskError::Reply),
                    None => Err(AskError::Failed(Reason::NodeStopped)),
                },
            };
            // The caller may have given up in this moment.
            drop(tx.send(result));
        });
        let open = self.open_ask(completion, wait)?;
        let (ask, mut unsent) = (Some(open.header(wait)), None);
        let offered = match self.offer_first(message, ask, &mut unsent) {
            Err(Unsent::Full) => {
                let offered = Box::pin(self.offer_again(message, ask, unsent));
                // Biased: what is late is not sent any more.
                tokio::select! { biased;
                    ended = &mut rx => return ended.unwrap_or_else(nobody),
                    offered = offered => offered,
                }
            }
            other => other,
        };
        offered.map_err(TellError::from)?;
        let answer = rx.await.unwrap_or_else(nobody);
        // Answered, so nothing is left to be forgotten.
        std::mem::forget(open);
        answer
    }

    /// Opens an ask, sends it without waiting, and leaves it open.
    pub(crate) fn ask_relayed<M: RemoteMessage>(
        &self,
        sender: Option<&str>,
        message: &M,
        wait: Duration,
        completion: Completion,
    ) -> Result<(), AskError> {
        let open = self.open_ask(completion, wait)?;
        self.offer(sender, message, Some(open.header(wait))).map_err(TellError::from)?;
        std::mem::forget(open);
        Ok(())
    }

    pub(crate) fn tell_as<M: RemoteMessage>(
        &self,
        sender: Option<&str>,
        message: &M,
    ) -> Result<(), TellError> {
        Ok(self.offer(sender, message, None)?)
    }

    fn open_ask(&self, completion: Completion, wait: Duration) -> Result<OpenAsk<'_>, AskError> {
        let (limit, asks) = (self.core.settings.outbox.max_asks, &self.peer.asks);
        let until = now() + wait.min(LONGEST_WAIT);
        let opened = asks.open(completion, until).ok_or(AskError::TooManyAsks { limit })?;
        if opened.is_unwatched {
            self.core.spawn_detached(watch(asks));
        }
        Ok(OpenAsk { peer: &self.peer, correlation: opened.correlation })
    }

    /// Offers a message once, which may find no room: then it comes back encoded in `unsent`. Waiting is prepared only
    /// after that, for it costs more than the tell.
    #[inline]
    fn offer_first<M: RemoteMessage>(
        &self,
        message: &M,
        ask: Option<AskHeader>,
        unsent: &mut Option<Encoded>,
    ) -> Result<(), Unsent> {
        let chosen = self.peer.negotiation.choose::<M>()?;
        with_scratch(|scratch| {
            encode_within(message, &chosen, self.peer.max_message(), scratch)?;
            let offered = self.offer_encoded(None, &chosen, scratch, ask, ask.is_none());
            if matches!(offered, Err(Unsent::Full)) {
                *unsent = Some(Encoded { by: chosen.wire_name(), bytes: std::mem::take(scratch) });
            }
            offered
        })
    }

    /// Offers a message until there is room. Encoding a large one takes longer than anything else that its sender does,
    /// so it is not done again unless the peer has come to take another form. To be boxed: most sends never need the
    /// room for it, which would be moved with them.
    async fn offer_again<M: RemoteMessage>(
        &self,
        message: &M,
        ask: Option<AskHeader>,
        mut unsent: Option<Encoded>,
    ) -> Result<(), Unsent> {
        let mut is_patient = ask.is_none();
        loop {
            let room = self.peer.outbox.room();
            let chosen = self.peer.negotiation.choose::<M>()?;
            let by = chosen.wire_name();
            let bytes = match unsent.take().filter(|encoded| encoded.by == by) {
                Some(encoded) => encoded.bytes,
                None => {
                    let mut bytes = Vec::new();
                    encode_within(message, &chosen, self.peer.max_message(), &mut bytes)?;
                    bytes
                }
            };
            match self.offer_encoded(None, &chosen, &bytes, ask, is_patient) {
                Err(Unsent::Full) => room.await,
                other => {
                    give_back(bytes);
                    return other;
                }
            }
            unsent = Some(Encoded { by, bytes });
            // Others may always be faster: what has waited once may be held.
            is_patient = false;
        }
    }

    fn offer<M: RemoteMessage>(
        &self,
        sender: Option<&str>,
        message: &M,
        ask: Option<AskHeader>,
    ) -> Result<(), Unsent> {
        let chosen = self.peer.negotiation.choose::<M>()?;
        with_scratch(|scratch| {
            encode_within(message, &chosen, self.peer.max_message(), scratch)?;
            self.offer_encoded(sender, &chosen, scratch, ask, false)
        })
    }

    #[inline]
    fn offer_encoded<M: RemoteMessage>(
        &self,
        sender: Option<&str>,
        chosen: &Chosen<M>,
        payload: &[u8],
        ask: Option<AskHeader>,
        is_patient: bool,
    ) -> Result<(), Unsent> {
        let outgoing = Outgoing {
            target: self.path.local(),
            target_id: &self.id,
            manifest: chosen.wire_name(),
            sender,
            ask,
            is_patient,
            payload,
        };
        let offered = self.peer.outbox.offer_tell(&outgoing);
        let position = offered.map_err(|why| Unsent::of(why, payload.len()))?;
        if let Some((ask, position)) = ask.zip(position) {
            self.peer.note_asks([(ask.correlation, position)]);
        }
        Ok(())
    }
}

/// Ends an ask that nobody is left to end.
fn nobody<R>(_: oneshot::error::RecvError) -> Result<R, AskError> {
    Err(AskError::Failed(Reason::NodeStopped))
}

/// A message that found no room, encoded.
struct Encoded {
    by: WireName,
    bytes: Vec<u8>,
}

/// Forgets the ask when its caller is done with it or gives up.
struct OpenAsk<'a> {
    peer: &'a Peer,
    correlation: u64,
}

impl OpenAsk<'_> {
    fn header(&self, wait: Duration) -> AskHeader {
        AskHeader { correlation: self.correlation, wait }
    }
}

impl Drop for OpenAsk<'_> {
    fn drop(&mut self) {
        self.peer.asks.forget(self.correlation);
    }
}

/// Encodes a reply and puts it into the outbox towards the asker.
pub(crate) fn encode_reply<R: RemoteMessage>(
    peer: &Peer,
    correlation: u64,
    reply: &R,
) -> Result<(), TellError> {
    let chosen = peer.negotiation.choose::<R>()?;
    with_scratch(|scratch| {
        encode_within(reply, &chosen, peer.max_message(), scratch)?;
        let replied = peer.reply(correlation, chosen.wire_name(), scratch);
        Ok(replied.map_err(|why| Unsent::of(why, scratch.len()))?)
    })
}

#[inline]
fn encode_within<M: RemoteMessage>(
    message: &M,
    chosen: &Chosen<M>,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), Unsent> {
    chosen.encoding.encode(message, out).map_err(Unsent::because)?;
    if out.len() > limit {
        return Err(Unsent::because(TellError::TooLarge { size: out.len(), limit }));
    }
    Ok(())
}

/// Says why nothing was sent, in one word: every tell brings the room for it along.
pub(crate) enum Unsent {
    Full,
    Because(Box<TellError>),
}

impl Unsent {
    #[cold]
    pub(crate) fn because(why: impl Into<TellError>) -> Self {
        Self::Because(Box::new(why.into()))
    }

    /// Says in public words why a message of `size` bytes was refused.
    #[cold]
    fn of(refused: Refused, size: usize) -> Self {
        match refused {
            Refused::Full => Self::Full,
            Refused::Closed => Self::because(TellError::Stopped),
            Refused::TooLarge { limit } => Self::because(TellError::TooLarge { size, limit }),
            // Names that pass the grammar fit, so it is the payload that breaks the u32 of a length.
            Refused::Unframeable => Self::because(TellError::TooLarge { size, limit: MAX_FRAMED }),
        }
    }
}

impl From<Unsent> for TellError {
    #[cold]
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Full => Self::Full,
            Unsent::Because(why) => *why,
        }
    }
}

/// Lends a buffer of this thread; a codec that tells gets another one.
fn with_scratch<T>(run: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    SCRATCH.with(|scratch| {
        let Ok(mut scratch) = scratch.try_borrow_mut() else { return run(&mut Vec::new()) };
        scratch.clear();
        let result = run(&mut scratch);
        if scratch.capacity() > SCRATCH_KEPT {
            *scratch = Vec::new();
            pace::give_way();
        }
        result
    })
}

/// Keeps a buffer for this thread's next message.
fn give_back(buffer: Vec<u8>) {
    if buffer.capacity() <= SCRATCH_KEPT {
        SCRATCH.set(buffer);
    } else {
        pace::give_way();
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// No frame is longer: its length is a u32.
const MAX_FRAMED: usize = u32::MAX as usize;
/// What a thread keeps of its encoding buffer.
const SCRATCH_KEPT: usize = 256 * 1024;
/// A wait for as good as ever, a century, that can be added to any time.
const LONGEST_WAIT: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Clone for RemoteRef {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            peer: Arc::clone(&self.peer),
            path: self.path.clone(),
            id: AtomicU16::new(self.id.load(Ordering::Relaxed)),
        }
    }
}

impl fmt::Debug for RemoteRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteRef").field(&self.path.to_string()).finish()
    }
}
