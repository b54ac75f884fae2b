//! Is the embedded actor: a task with a bounded mailbox, enough for a newcomer and for the examples.
//!
//! Bring your own actors for anything more; a [`Mailbox`](crate::node::Mailbox) is all they need.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::codec::RemoteMessage;
use crate::event::{DeadLetter, Reason};
use crate::node::ask::{Answer, Completion};
use crate::node::core::Core;
use crate::node::directory::{Acceptor, Place, RegisterError, inbox_acceptor};
use crate::node::inbox::{Inbox, MailboxSender, bounded_by};
use crate::node::link::now;
use crate::node::mailbox::{Delivery, ReplyTo, WhenFull};
use crate::node::remote_ref::{AskError, RemoteRef, ResolveError, TellError};
use crate::node::turn::{Turn, noting_wait};
use crate::path::{ActorPath, IntoActorPath};

/// Handles messages of one type, one after the other.
///
/// Implemented for stateless async closures `async |message: M, cx: &mut Context| { … }`, which may return `()` or a
/// `Result`; implement it on a struct to keep state.
pub trait Actor<M>: Send + 'static {
    /// Handles one message. A panic stops the actor, nothing else.
    fn receive(&mut self, message: M, cx: &mut Context) -> impl Future<Output = ()> + Send;
}

/// Is what an actor's closure may return.
pub trait Outcome: Send {
    /// Gives the text of a failure, for the log; what it concerned was accounted for where it failed.
    fn failure(self) -> Option<String>;
}

/// Names the closures that are actors: `FnMut(M, &mut Context) -> Future`.
pub trait ActorFn<'a, M>: FnMut(M, &'a mut Context) -> Self::Future {
    /// What the closure's future gives.
    type Outcome: Outcome;
    /// The closure's future.
    type Future: Future<Output = Self::Outcome> + Send + 'a;
}

/// Is what an actor has at hand while it handles a message.
pub struct Context {
    core: Arc<Core>,
    path: ActorPath,
    sender: Option<Arc<ActorPath>>,
    reply: Option<ReplyTo>,
    is_stopping: bool,
}

/// Is the handle to an actor that was spawned. Dropping it leaves the actor running.
#[derive(Debug)]
pub struct LocalActor {
    path: ActorPath,
    stop: Arc<Stop>,
    stopped: CancellationToken,
}

/// Asks an actor to stop; looking at it costs no lock.
#[derive(Debug, Default)]
struct Stop {
    is_asked: AtomicBool,
    asked: Notify,
}

/// Gathers the message types of an actor before it starts.
///
/// The actor handles one type `T`; each accepted message type converts into it.
#[must_use = "the actor starts with `spawn`"]
pub struct ActorBuilder<T, A> {
    core: Arc<Core>,
    path: Result<ActorPath, RegisterError>,
    actor: A,
    inbox: Inbox<T>,
    mailbox: MailboxSender<T>,
    acceptors: Vec<Box<dyn Acceptor>>,
    when_full: WhenFull,
}

impl Context {
    /// Gives the actor's own whole path.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Gives the sender of the message, if it said who it is.
    #[must_use]
    pub fn sender(&self) -> Option<&ActorPath> {
        self.sender.as_deref()
    }

    /// Tells whether the message is an ask that waits for a reply.
    #[must_use]
    pub fn is_ask(&self) -> bool {
        self.reply.is_some()
    }

    /// Takes the way back, to reply later or from elsewhere.
    pub fn take_reply(&mut self) -> Option<ReplyTo> {
        self.reply.take()
    }

    /// Replies to the message: to the asker, or else as a tell to the sender.
    ///
    /// # Errors
    /// [`ReplyError`]; an asker is told at once that there is no reply.
    pub fn reply<R: RemoteMessage>(&mut self, reply: &R) -> Result<(), ReplyError> {
        if let Some(asker) = self.reply.take() {
            return Ok(asker.reply(reply)?);
        }
        let sender = self.sender.as_deref().ok_or(ReplyError::Nobody)?;
        Ok(self.resolve(sender)?.tell_as(Some(self.path.local()), reply)?)
    }

    /// Tells another actor, with this one as the sender.
    ///
    /// # Errors
    /// As for [`RemoteRef::tell`].
    pub fn tell<M: RemoteMessage>(&self, to: &RemoteRef, message: &M) -> Result<(), TellError> {
        to.tell_as(Some(self.path.local()), message)
    }

    /// Hands a message on: an asker's reply will come from `to`, through this node.
    ///
    /// The sender stays who it was if `to` is on this node; a peer would not believe another node's sender, so
    /// it sees this actor.
    ///
    /// # Errors
    /// [`AskError`]: nothing was sent; an asker is told at once that there is no reply.
    pub fn forward<M: RemoteMessage>(
        &mut self,
        to: &RemoteRef,
        message: &M,
    ) -> Result<(), AskError> {
        let is_local = to.path().address() == Some(self.core.address());
        let sender = match &self.sender {
            Some(sender) if is_local => sender.to_string(),
            _ => self.path.local().to_owned(),
        };
        let Some(asker) = self.reply.take() else {
            return Ok(to.tell_as(Some(&sender), message)?);
        };
        let wait = asker.wait().unwrap_or(FORWARD_WAIT).min(FORWARD_WAIT);
        let relay: Completion = Box::new(move |answer| match answer {
            Answer::Reply { wire_name, payload } => asker.relay(wire_name, payload),
            Answer::Failed(reason) => asker.fail(reason),
            Answer::Late => asker.fail(Reason::NoReply),
        });
        to.ask_relayed(Some(&sender), message, wait, relay)
    }

    /// Gives the handle to another actor.
    ///
    /// # Errors
    /// As for [`Node::resolve`](crate::Node::resolve).
    pub fn resolve(&self, path: impl IntoActorPath) -> Result<RemoteRef, ResolveError> {
        let (path, peer) = self.core.locate(path.into_actor_path()?)?;
        Ok(RemoteRef::new(Arc::clone(&self.core), peer, path))
    }

    /// Stops the actor after this message; what waits in its mailbox becomes dead letters.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }
}

/// Says why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The message is no ask and names no sender, or was replied to already.
    #[error("nobody waits for a reply")]
    Nobody,
    /// The sender's path gives no ref.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The reply was refused.
    #[error(transparent)]
    Tell(#[from] TellError),
}

impl LocalActor {
    /// Gives the actor's whole path.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Stops the actor after the message it handles; what waits in its mailbox becomes dead letters.
    pub fn stop(&self) {
        self.stop.is_asked.store(true, Ordering::Release);
        self.stop.asked.notify_one();
    }

    /// Waits until the actor has stopped, for whatever reason. Cancel safe.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}

impl<T: Send + 'static, A: Actor<T>> ActorBuilder<T, A> {
    pub(crate) fn new(core: Arc<Core>, path: Result<ActorPath, RegisterError>, actor: A) -> Self {
        let inbound = &core.settings.inbound;
        let (mailbox, inbox) = bounded_by(inbound.mailbox_capacity, inbound.mailbox_bytes);
        let when_full = WhenFull::default();
        Self { core, path, actor, inbox, mailbox, acceptors: Vec::new(), when_full }
    }

    /// Lets the actor take messages of type `M`, in one order with its other types.
    pub fn accept<M: RemoteMessage + Into<T>>(mut self) -> Self {
        self.acceptors.push(inbox_acceptor::<M, T>(self.mailbox.clone()));
        self
    }

    /// Chooses what happens when its mailbox is full.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Registers the actor and starts its task.
    ///
    /// # Errors
    /// [`RegisterError`]: nothing was started.
    pub fn spawn(self) -> Result<LocalActor, RegisterError> {
        let Self { core, path, actor, inbox, mailbox, acceptors, when_full } = self;
        drop(mailbox);
        let path = path?;
        let place = core.register(&path, acceptors, when_full)?;
        let (stop, stopped) = (Arc::new(Stop::default()), CancellationToken::new());
        let context = Context {
            core: Arc::clone(&core),
            path: path.clone(),
            sender: None,
            reply: None,
            is_stopping: false,
        };
        let _stopped = stopped.clone().drop_guard();
        let task = Task { actor, inbox, context, place, stop: Arc::clone(&stop), _stopped };
        core.spawn_careful(task.run());
        Ok(LocalActor { path, stop, stopped })
    }
}

/// Runs one actor.
struct Task<T, A> {
    actor: A,
    inbox: Inbox<T>,
    context: Context,
    place: Arc<Place>,
    stop: Arc<Stop>,
    /// Tells the handle, whatever ends the task.
    _stopped: tokio_util::sync::DropGuard,
}

impl<T: Send + 'static, A: Actor<T>> Task<T, A> {
    async fn run(mut self) {
        let cancel = self.context.core.cancel.clone();
        // The node's end interrupts even a message that is being handled.
        if cancel.run_until_cancelled(self.serve()).await.is_none() {
            tracing::trace!(path = %self.context.path, "the node ended its actor");
        }
        self.end();
    }

    /// Handles messages until there is a reason to stop.
    async fn serve(&mut self) {
        let mut turn = Turn::new(now());
        while !self.is_stopping() {
            let Some(next) = self.inbox.pop() else {
                // Biased: a stopped actor takes no more messages.
                let refilled = noting_wait(async {
                    tokio::select! { biased;
                        () = self.stop.asked.notified() => true,
                        is_open = self.inbox.refill() => is_open,
                    }
                });
                match refilled.await {
                    (_, false) => return,
                    (true, true) => turn = Turn::new(now()),
                    (false, true) => {}
                }
                continue;
            };
            if let Ok(Delivery { message, envelope }) = next {
                let cx = &mut self.context;
                (cx.sender, cx.reply) = (envelope.sender, envelope.reply);
                let has_panicked = {
                    // Pinned where it is made: each function in between would move the message.
                    let receiving = pin!(self.actor.receive(message, cx));
                    panics(receiving).await
                };
                if has_panicked {
                    return self.report_panic();
                }
                // An ask that nobody replied to ends here, with NoReply.
                self.context.reply = None;
            }
            if turn.is_over() {
                tokio::task::yield_now().await;
                turn = Turn::new(now());
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.context.is_stopping || self.stop.is_asked.load(Ordering::Acquire)
    }

    #[cold]
    fn report_panic(&mut self) {
        if let Some(asker) = self.context.reply.take() {
            asker.fail(Reason::Panicked);
        }
        tracing::error!(path = %self.context.path, "the actor panicked and is stopped");
    }

    /// Ends the registration and turns what waits into dead letters.
    fn end(mut self) {
        let core = Arc::clone(&self.context.core);
        let path = self.context.path.clone();
        core.unregister_place(&self.place);
        let mut left = self.inbox.close();
        while let Some((envelope, source)) = left.pop_unread() {
            core.observers.dead_letter(Reason::ActorStopped, 1, || DeadLetter {
                target: Some(path.clone()),
                manifest: source.as_ref().map(|source| source.wire_name()),
                peer: match (&envelope.sender, &source) {
                    (Some(sender), _) => sender.address().cloned(),
                    (None, Some(source)) => Some(source.teller().address().clone()),
                    (None, None) => None,
                },
                ..DeadLetter::new(Reason::ActorStopped)
            });
            if let Some(reply) = envelope.reply {
                reply.fail(Reason::ActorStopped);
            }
        }
    }
}

impl<'a, M, F, Fut> ActorFn<'a, M> for F
where
    F: FnMut(M, &'a mut Context) -> Fut,
    Fut: Future + Send + 'a,
    Fut::Output: Outcome,
{
    type Outcome = Fut::Output;
    type Future = Fut;
}

impl<M, F> Actor<M> for F
where
    M: Send + 'static,
    F: for<'a> ActorFn<'a, M> + Send + 'static,
{
    async fn receive(&mut self, message: M, cx: &mut Context) {
        if let Some(error) = self(message, cx).await.failure() {
            tracing::debug!(path = %cx.path, error, "an actor could not do its part");
        }
    }
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display + Send> Outcome for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// Runs a future to its end and tells whether it panicked.
pub(crate) async fn panics(mut future: Pin<&mut impl Future<Output = ()>>) -> bool {
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Ready(())) => Poll::Ready(false),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(true),
    })
    .await
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("path", &self.path.to_string()).finish_non_exhaustive()
    }
}

impl<T, A> fmt::Debug for ActorBuilder<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorBuilder")
            .field("accepts", &self.acceptors.len())
            .finish_non_exhaustive()
    }
}

/// How long a forwarded ask waits if its asker did not say.
const FORWARD_WAIT: Duration = Duration::from_secs(60);
