//! Is one running endpoint: it owns tasks, queues and handles, and is all that a user talks to.
//!
//! Floor 4: the shell around the machines of the floors below. Tasks are spawned here and nowhere else; each one
//! ends when its node does.

mod accept;
mod actor;
mod ask;
mod assisted;
mod backlog;
mod beat;
mod books;
mod budget;
mod builder;
pub mod cluster;
mod cluster_plan;
mod cold;
mod core;
mod credit;
mod dead_letters;
mod deferred;
mod directory;
mod dispatch;
mod driver;
mod ended;
mod fences;
mod gossip_inbox;
mod gossiper;
mod inbox;
mod intake;
mod letters;
mod link;
mod local;
mod mailbox;
mod negotiation;
mod outbox;
mod pace;
mod peers;
mod reading;
mod reassembly;
mod receiving;
mod refusals;
mod remote_ref;
mod reunion;
mod routes;
mod seeds;
mod shutdown;
mod sink;
mod stats;
mod turn;
mod wake;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

pub use self::actor::{Actor, ActorBuilder, ActorFn, Context, LocalActor, Outcome, ReplyError};
pub use self::builder::{NodeBuilder, StartError};
pub use self::cluster::Cluster;
pub use self::dead_letters::{DeadLetterStream, EventStream, Observed};
pub use self::directory::{Directory, RegisterError};
pub use self::inbox::{Inbox, MailboxSender, bounded};
pub use self::mailbox::{Delivery, Envelope, Mailbox, Refused, ReplyTo, Room, WhenFull};
pub use self::outbox::Queued;
pub use self::remote_ref::{AskError, RemoteRef, ResolveError, TellError};
pub use self::seeds::SeedError;
pub use self::shutdown::ShutdownReport;
pub use self::sink::{DeliverError, GossipSink, InboundTell, RemoteMessageSink};
pub use self::stats::{AssociationSnapshot, Stats};

use crate::address::{Address, Endpoint, UniqueAddress};
use crate::codec::{CodecRegistry, RemoteMessage};
use crate::node::core::Core;
use crate::node::directory::{Acceptor, acceptor};
use crate::node::driver::Input;
use crate::path::{ActorPath, IntoActorPath, PathError};

/// Is one running tellwire endpoint.
///
/// Cheap to clone. Dropping the last clone ends every task and socket at once; [`shutdown`](Self::shutdown) does it
/// in order.
#[derive(Clone)]
pub struct Node {
    owner: Arc<Owner>,
}

/// Ends the node when the last handle is dropped.
struct Owner {
    core: Arc<Core>,
}

/// Gathers the message types and mailboxes of one path.
#[must_use = "nothing is registered before `register`"]
pub struct Registration {
    core: Arc<Core>,
    path: Result<ActorPath, RegisterError>,
    acceptors: Vec<Box<dyn Acceptor>>,
    when_full: WhenFull,
}

/// Says why gossip was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GossipError {
    /// The peer cannot be talked to.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The control lane to the peer is full; the next round will do.
    #[error("the control lane to the peer is full")]
    Full,
    /// The PDU is larger than `limit` bytes; the caller's fault.
    #[error("a gossip PDU of {size} bytes is larger than {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The bound in bytes.
        limit: usize,
    },
    /// Gossip to this node itself makes no sense; the caller's fault.
    #[error("gossip to this node itself")]
    Own,
}

impl Node {
    /// Begins a node of the actor system `system`; nodes of different systems do not talk to each other.
    pub fn builder(system: impl Into<String>) -> NodeBuilder {
        NodeBuilder::new(system.into())
    }

    fn new(core: Arc<Core>) -> Self {
        Self { owner: Arc::new(Owner { core }) }
    }

    /// Gives the address that peers reach this node at.
    #[must_use]
    pub fn address(&self) -> Address {
        self.core().address().clone()
    }

    /// Gives the address and this incarnation's uid.
    #[must_use]
    pub fn unique_address(&self) -> UniqueAddress {
        self.core().identity.local.clone()
    }

    /// Gives the endpoint that it listens on, with the port that the system chose: not what peers dial, if something
    /// else is [advertised](NodeBuilder::advertise).
    #[must_use]
    pub fn listens_on(&self) -> Endpoint {
        self.core().bound.clone()
    }

    /// Gives the codecs that this node accepts.
    #[must_use]
    pub fn registry(&self) -> &CodecRegistry {
        &self.core().registry
    }

    /// Gives the whole path of a local one, to be sent to others.
    ///
    /// # Errors
    /// [`PathError`] if it breaks the grammar.
    pub fn path(&self, local: impl IntoActorPath) -> Result<ActorPath, PathError> {
        local.into_actor_path()?.at(self.core().address())
    }

    /// Gives the handle to the actor at a path; a path without an address is on this node. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`ResolveError`] says what is wrong with the path, or that the node has stopped.
    pub fn resolve(&self, path: impl IntoActorPath) -> Result<RemoteRef, ResolveError> {
        let (path, peer) = self.core().locate(path.into_actor_path()?)?;
        Ok(RemoteRef::new(Arc::clone(self.core()), peer, path))
    }

    /// Registers a mailbox for messages of one type at a local path, and gives the whole path.
    ///
    /// A full mailbox holds its senders back; a [`registration`](Self::registration) may choose otherwise.
    ///
    /// # Errors
    /// [`RegisterError`]: nothing was changed.
    pub fn register<M, B>(
        &self,
        path: impl IntoActorPath,
        mailbox: B,
    ) -> Result<ActorPath, RegisterError>
    where
        M: RemoteMessage,
        B: Mailbox<M>,
    {
        self.registration(path).accept::<M, B>(mailbox).register()
    }

    /// Begins the registration of a path that takes several message types.
    pub fn registration(&self, path: impl IntoActorPath) -> Registration {
        let (core, path) = (Arc::clone(self.core()), self.own_path(path));
        Registration { core, path, acceptors: Vec::new(), when_full: WhenFull::default() }
    }

    /// Ends the registration at a local path; tells whether there was one. Later tells become dead letters.
    ///
    /// The node lets go of the mailbox: a channel ends, and an actor stops after what waits for it.
    ///
    /// # Errors
    /// [`RegisterError`] if the path breaks the grammar or is on another node.
    pub fn unregister(&self, path: impl IntoActorPath) -> Result<bool, RegisterError> {
        let path = self.own_path(path)?;
        Ok(self.core().unregister(path.local()))
    }

    /// Starts an actor that handles messages of one type at a local path.
    ///
    /// # Errors
    /// [`RegisterError`]: nothing was started.
    pub fn spawn<M, A>(
        &self,
        path: impl IntoActorPath,
        actor: A,
    ) -> Result<LocalActor, RegisterError>
    where
        M: RemoteMessage,
        A: Actor<M>,
    {
        self.actor::<M, A>(path, actor).accept::<M>().spawn()
    }

    /// Begins an actor that takes several message types, each of which converts into its one type `T`.
    pub fn actor<T, A>(&self, path: impl IntoActorPath, actor: A) -> ActorBuilder<T, A>
    where
        T: Send + 'static,
        A: Actor<T>,
    {
        ActorBuilder::new(Arc::clone(self.core()), self.own_path(path), actor)
    }

    /// Knows the local actors.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.core().directory
    }

    /// Sends a gossip PDU to a peer, on the association that its tells use, ahead of them.
    ///
    /// # Errors
    /// [`GossipError`]: nothing was sent.
    pub fn gossip(&self, to: &Address, pdu: &[u8]) -> Result<(), GossipError> {
        let limit = self.core().settings.outbox.max_control_bytes;
        if pdu.len() > limit {
            return Err(GossipError::TooLarge { size: pdu.len(), limit });
        }
        let peer = self.core().peer(to)?;
        if peer.inputs.is_none() {
            return Err(GossipError::Own);
        }
        peer.outbox.offer_gossip(pdu).map_err(|refused| match refused {
            outbox::Refused::Full
            | outbox::Refused::Unframeable
            | outbox::Refused::TooLarge { .. } => GossipError::Full,
            outbox::Refused::Closed => GossipError::Resolve(ResolveError::Stopped),
        })
    }

    /// Subscribes to the dead letters from now on.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetterStream {
        self.core().observers.dead_letters()
    }

    /// Subscribes to what happens to the links from now on.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.core().observers.events()
    }

    /// Counts what was sent and received.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(self.core())
    }

    /// Shows the association with each peer.
    #[must_use]
    pub fn associations(&self) -> Vec<AssociationSnapshot> {
        self.core().remote_peers().iter().map(|peer| AssociationSnapshot::of(peer)).collect()
    }

    /// Never talks to an incarnation again: its link is closed, what waits for it becomes dead letters with
    /// [`Reason::Quarantined`](crate::event::Reason), and it is refused when it dials. A later incarnation at the same address is welcome.
    ///
    /// Each address remembers its latest 16. Cancel safe: once polled, the quarantine comes about.
    ///
    /// # Errors
    /// [`ResolveError`]: the address cannot be talked to anyway.
    pub async fn quarantine(&self, node: &UniqueAddress) -> Result<(), ResolveError> {
        let peer = self.core().peer(node.address())?;
        let Some(inputs) = &peer.inputs else { return Err(ResolveError::Own) };
        let (done, carried_out) = oneshot::channel();
        let asked = inputs.send(Input::Quarantine { uid: node.uid(), done }).await;
        asked.map_err(|_| ResolveError::Stopped)?;
        // An error is the sender's end, which is the answer.
        drop(carried_out.await);
        Ok(())
    }

    /// Shows the cluster that this node is in, and lets it join and leave.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        self.core().cluster.clone()
    }

    /// Ends the node in order: leaves its cluster, takes no more tells, flushes what waits, says goodbye to the peers,
    /// ends every task and socket. What is not flushed by the deadline is reported, and becomes dead letters.
    ///
    /// Leaving may take half of the deadline, and `cluster.leave_timeout` of the settings at most. Every clone of the
    /// handle stops working. Cancel safe: dropped half way, the rest ends with the last handle.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        shutdown::run(self.core(), deadline).await
    }

    /// Returns the settings that it runs with.
    #[cfg(feature = "testkit")]
    pub(crate) fn settings(&self) -> &crate::settings::Settings {
        &self.core().settings
    }

    fn own_path(&self, path: impl IntoActorPath) -> Result<ActorPath, RegisterError> {
        let path = path.into_actor_path()?;
        if path.address().is_some_and(|address| address != self.core().address()) {
            return Err(RegisterError::NotLocal { path });
        }
        Ok(path.at(self.core().address())?)
    }

    fn core(&self) -> &Arc<Core> {
        &self.owner.core
    }
}

impl Registration {
    /// Adds a mailbox for one more message type.
    pub fn accept<M, B>(mut self, mailbox: B) -> Self
    where
        M: RemoteMessage,
        B: Mailbox<M>,
    {
        self.acceptors.push(acceptor::<M, M>(Arc::new(mailbox)));
        self
    }

    /// Chooses what happens when a mailbox of the path is full.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Registers the path, and gives it whole.
    ///
    /// # Errors
    /// [`RegisterError`]: nothing was changed.
    pub fn register(self) -> Result<ActorPath, RegisterError> {
        let path = self.path?;
        self.core.register(&path, self.acceptors, self.when_full)?;
        Ok(path)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.core.closing.cancel();
        self.core.cancel.cancel();
        // A mailbox may hold a ref of this node, which holds the core, which would hold the mailbox for ever.
        self.core.unregister_all();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.core().identity.local.to_string()).finish()
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("accepts", &self.acceptors.len())
            .finish_non_exhaustive()
    }
}
