//! Is what every task of a node shares.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use dashmap::mapref::multiple::RefMulti;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, field};

use crate::address::{Address, Endpoint, Uid, UniqueAddress};
use crate::association::control::Identity;
use crate::association::{Association, AssociationState};
use crate::codec::CodecRegistry;
use crate::event::{DeadLetter, NodeEvent, Reason, RegistryDifference};
use crate::node::ask::Answer;
use crate::node::assisted::Assisted;
use crate::node::backlog::{self, Backlog};
use crate::node::beat::Beat;
use crate::node::cluster::Cluster;
use crate::node::dead_letters::{LogLimit, Observers};
use crate::node::deferred::{Decoders, Decoding};
use crate::node::directory::{Acceptor, Directory, Place, RegisterError};
use crate::node::driver::{self, Driver};
use crate::node::link::now;
use crate::node::mailbox::WhenFull;
use crate::node::outbox::Undelivered;
use crate::node::peers::Peer;
use crate::node::receiving;
use crate::node::remote_ref::ResolveError;
use crate::node::sink::{GossipSink, RemoteMessageSink};
use crate::path::ActorPath;
use crate::settings::Settings;
use crate::transport::Transport;

/// Is what every task of a node shares.
pub(crate) struct Core {
    pub(crate) identity: Identity,
    /// Where it listens, which need not be what it advertises.
    pub(crate) bound: Endpoint,
    pub(crate) settings: Settings,
    pub(crate) registry: CodecRegistry,
    pub(crate) transports: HashMap<&'static str, Arc<dyn Transport>>,
    pub(crate) directory: Directory,
    /// Takes the tells in place of the directory.
    pub(crate) sink: Option<Arc<dyn RemoteMessageSink>>,
    /// Takes the gossip: this node's membership, or a sink of the user's in its place.
    pub(crate) gossip: Arc<dyn GossipSink>,
    pub(crate) cluster: Cluster,
    pub(crate) observers: Observers,
    pub(crate) counters: Counters,
    entropy: Entropy,
    /// When idle links are looked after.
    pub(crate) beat: Beat,
    /// Limits the log lines that peers' faults cause.
    pub(crate) log: LogLimit,
    peers: DashMap<Address, Arc<Peer>>,
    /// The uids of the peers that are up, at most one address for each.
    pub(crate) live: DashMap<Uid, Address>,
    /// What was counted of peers that are forgotten.
    pub(crate) departed: Departed,
    /// This node as its own peer.
    own: Arc<Peer>,
    /// Ends the listener and stops new peers; the first step of a shutdown.
    pub(crate) closing: CancellationToken,
    /// Ends every task.
    pub(crate) cancel: CancellationToken,
    pub(crate) drivers: TaskTracker,
    tasks: TaskTracker,
    decoders: Decoders,
    runtime: Handle,
}

/// Counts what comes in.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) delivered: AtomicU64,
    /// Among those, tells that their actor could not decode.
    pub(crate) undecoded: AtomicU64,
    pub(crate) tells_in: AtomicU64,
    pub(crate) replies_in: AtomicU64,
    pub(crate) gossip_in: AtomicU64,
    pub(crate) unknown_frames: AtomicU64,
    pub(crate) fenced_links: AtomicU64,
    pub(crate) handshakes_refused: AtomicU64,
}

/// Counts what forgotten peers sent and received, so that the statistics never go back.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    pub(crate) tells: AtomicU64,
    pub(crate) replies: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
}

/// Where a node's random numbers come from.
#[derive(Debug)]
pub(crate) enum Entropy {
    /// The operating system.
    System,
    /// A seed, so that a test can be run again.
    #[cfg_attr(not(feature = "testkit"), expect(dead_code, reason = "tests alone have seeds"))]
    Seeded(Mutex<fastrand::Rng>),
}

/// What the builder gathered for a core.
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    pub(crate) bound: Endpoint,
    pub(crate) entropy: Entropy,
    pub(crate) settings: Settings,
    pub(crate) registry: CodecRegistry,
    pub(crate) transports: HashMap<&'static str, Arc<dyn Transport>>,
    pub(crate) sink: Option<Arc<dyn RemoteMessageSink>>,
    pub(crate) gossip: Arc<dyn GossipSink>,
    pub(crate) cluster: Cluster,
}

impl Core {
    /// Makes the core and this node's own peer; must run inside a tokio runtime.
    pub(crate) fn new(parts: Parts, runtime: Handle) -> Arc<Self> {
        let cancel = CancellationToken::new();
        let address = parts.identity.local.address().clone();
        let own = Arc::new(Peer::new(address, &parts.settings, None, parts.entropy.draw()));
        let core = Arc::new(Self {
            observers: Observers::new(&parts.settings.observe),
            beat: Beat::new(now(), parts.settings.association.ping_interval),
            log: LogLimit::new(parts.settings.observe.log_lines_per_second),
            identity: parts.identity,
            bound: parts.bound,
            entropy: parts.entropy,
            settings: parts.settings,
            registry: parts.registry,
            transports: parts.transports,
            directory: Directory::default(),
            sink: parts.sink,
            gossip: parts.gossip,
            cluster: parts.cluster,
            counters: Counters::default(),
            peers: DashMap::new(),
            live: DashMap::new(),
            departed: Departed::default(),
            own,
            closing: cancel.child_token(),
            cancel,
            drivers: TaskTracker::new(),
            tasks: TaskTracker::new(),
            decoders: Decoders::new(),
            runtime,
        });
        core.peers.insert(core.address().clone(), core.own_peer());
        core
    }

    pub(crate) fn address(&self) -> &Address {
        self.identity.local.address()
    }

    /// Tells whether a live node at another address has the uid of `node`: one of them is not who it says.
    pub(crate) fn is_uid_taken(&self, node: &UniqueAddress) -> bool {
        let is_own = node.uid() == self.identity.local.uid();
        let is_other = |_: &Uid, address: &Address| address != node.address();
        let is_taken = is_own || self.live.view(&node.uid(), is_other).unwrap_or(false);
        if is_taken {
            self.alarm_uid(node);
        }
        is_taken
    }

    /// Notes that a node is up under its uid. One that another address has taken since the handshake stays there:
    /// its entry ends with the first's link.
    pub(crate) fn claim_uid(&self, node: &UniqueAddress) {
        let entry = self.live.entry(node.uid()).or_insert_with(|| node.address().clone());
        let is_other = entry.value() != node.address();
        drop(entry);
        if is_other {
            self.alarm_uid(node);
        }
    }

    fn alarm_uid(&self, node: &UniqueAddress) {
        if let Some(held_back) = self.log.admit(now()) {
            tracing::error!(%node, held_back, "a live node at another address has the same uid");
        }
    }

    /// Gives this node as its own peer.
    pub(crate) fn own_peer(&self) -> Arc<Peer> {
        Arc::clone(&self.own)
    }

    /// Gives the peer at an address; makes it, and starts its driver, at first use.
    pub(crate) fn peer(self: &Arc<Self>, address: &Address) -> Result<Arc<Peer>, ResolveError> {
        if let Some(peer) = self.peers.view(address, |_, peer| Arc::clone(peer)) {
            return Ok(peer);
        }
        self.make_room();
        self.check_peer(address)?;
        let (inputs, receiver) = mpsc::channel(driver::INPUTS);
        let bits = self.entropy.draw();
        let made = Arc::new(Peer::new(address.clone(), &self.settings, Some(inputs), bits));
        let (peer, is_new) = match self.peers.entry(address.clone()) {
            Entry::Occupied(present) => (Arc::clone(present.get()), false),
            Entry::Vacant(slot) => (Arc::clone(&slot.insert(made)), true),
        };
        if is_new {
            let machine = Association::new(
                self.settings.association.clone(),
                self.identity.clone(),
                address.clone(),
                self.entropy.draw(),
            );
            let driver = Driver::new(Arc::clone(self), Arc::clone(&peer), machine, receiver);
            let span = tracing::info_span!("association", peer = %address, uid = field::Empty);
            self.drivers.spawn_on(driver.run().instrument(span), &self.runtime);
            if self.closing.is_cancelled() {
                // A shutdown that began in this moment may have missed the new driver.
                driver::stop(&peer);
            }
        }
        Ok(peer)
    }

    /// Gives the handle's parts for a path: whole path and peer.
    pub(crate) fn locate(
        self: &Arc<Self>,
        path: ActorPath,
    ) -> Result<(ActorPath, Arc<Peer>), ResolveError> {
        let address = path.address().unwrap_or(self.address()).clone();
        let peer = self.peer(&address)?;
        let whole = if path.is_local() { path.at(&address)? } else { path };
        Ok((whole, peer))
    }

    /// Registers what takes the messages of a local path.
    pub(crate) fn register(
        &self,
        path: &ActorPath,
        acceptors: Vec<Box<dyn Acceptor>>,
        when_full: WhenFull,
    ) -> Result<Arc<Place>, RegisterError> {
        if self.closing.is_cancelled() {
            return Err(RegisterError::Stopped);
        }
        if self.sink.is_some() {
            return Err(RegisterError::Sink);
        }
        let backlog = match when_full {
            WhenFull::HoldBack => Some(Backlog::new(receiving::window(&self.settings.inbound))),
            WhenFull::Refuse => None,
        };
        self.directory.insert(path, acceptors, backlog)
    }

    /// Ends the registration at a local path; tells whether there was one.
    pub(crate) fn unregister(&self, local: &str) -> bool {
        let removed = self.directory.remove(local);
        removed.inspect(|place| self.abandon(place)).is_some()
    }

    /// Ends exactly this registration, not one that has taken its place.
    pub(crate) fn unregister_place(&self, place: &Arc<Place>) {
        self.directory.remove_place(place);
        self.abandon(place);
    }

    /// Ends every registration.
    pub(crate) fn unregister_all(&self) {
        // One by one: dropping a mailbox may run code that comes back here.
        for local in self.directory.paths() {
            self.unregister(&local);
        }
    }

    /// Turns what waits in front of a place's mailboxes into dead letters.
    fn abandon(&self, place: &Place) {
        if let Some(backlog) = place.backlog() {
            backlog::abandon(self, place, backlog.end());
        }
    }

    /// Gives every peer but this node itself, by address.
    pub(crate) fn remote_peers(&self) -> Vec<Arc<Peer>> {
        let peers = self.peers.iter().map(|entry| Arc::clone(entry.value()));
        let mut peers: Vec<_> = peers.filter(|peer| peer.inputs.is_some()).collect();
        peers.sort_by(|one, other| one.address.cmp(&other.address));
        peers
    }

    /// Runs a task until the node ends.
    pub(crate) fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        let until_cancelled = async move { cancel.run_until_cancelled_owned(task).await };
        self.tasks.spawn_on(until_cancelled, &self.runtime);
    }

    /// Runs a task that looks after its own end when the node is cancelled.
    pub(crate) fn spawn_careful<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// As `spawn_careful`; gives what lets others move the task on.
    pub(crate) fn spawn_assisted<F>(&self, task: F) -> Weak<Assisted>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = Assisted::new(self.runtime.clone(), task);
        let assisted = Arc::downgrade(&task);
        self.spawn_careful(task.run());
        assisted
    }

    /// Decodes on a thread where that may take its time; the node's end waits for it.
    pub(crate) fn decode(self: &Arc<Self>, decoding: Decoding) {
        if self.decoders.add(decoding) {
            let core = Arc::clone(self);
            self.tasks.spawn_blocking_on(move || core.decoders.work(), &self.runtime);
        }
    }

    /// Runs a task that outlives the node's others; it must end by itself.
    pub(crate) fn spawn_detached<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.runtime.spawn(task);
    }

    /// Waits until every task has ended.
    pub(crate) async fn ended(&self) {
        self.drivers.close();
        self.drivers.wait().await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Turns everything that waits for a peer into dead letters; asks end with the reason.
    pub(crate) fn discard(&self, peer: &Peer, reason: Reason, why: &str) -> u64 {
        let mut count = 0;
        let passed = peer.outbox.discard(|undelivered| {
            count += 1;
            self.observers.dead_letter(reason, 1, || describe(reason, peer, undelivered, why));
            if let Undelivered::Tell { ask: Some(ask), .. } = undelivered {
                // One that waited for credit has no place among the frames.
                peer.asks.complete(ask, Answer::Failed(reason));
            }
        });
        peer.asks.fail_passed(passed, reason);
        count
    }

    /// Turns what waits for a peer and is larger than it takes into dead letters; their asks end with the reason.
    pub(crate) fn discard_large(&self, peer: &Peer) {
        let (limit, reason) = (peer.max_message(), Reason::TooLarge);
        let why = format!("the peer takes {limit} bytes");
        peer.outbox.limit(limit, |undelivered| self.end_waiting(peer, undelivered, reason, &why));
    }

    /// Lets a large message whose link broke begin anew on the next; after too many it is a dead letter.
    pub(crate) fn rewind(&self, peer: &Peer) {
        let why = "it was begun on too many links that broke";
        let reason = Reason::LinkLost;
        peer.outbox.rewind(|undelivered| self.end_waiting(peer, undelivered, reason, why));
    }

    /// Turns one message that waits for a peer into a dead letter; whoever asked is told the reason.
    fn end_waiting(&self, peer: &Peer, undelivered: Undelivered<'_>, reason: Reason, why: &str) {
        self.observers.dead_letter(reason, 1, || describe(reason, peer, undelivered, why));
        match undelivered {
            Undelivered::Tell { ask: Some(ask), .. } => {
                peer.asks.complete(ask, Answer::Failed(reason));
            }
            Undelivered::Tell { ask: None, .. } => {}
            Undelivered::Reply { ask, .. } => {
                if peer.outbox.offer_failure(ask, reason).is_err() {
                    tracing::trace!(peer = %peer.address, "no room to tell that a reply has ended");
                }
            }
        }
    }

    /// Records what a peer says it has refused; no more than it was told, whatever it says.
    pub(crate) fn refused_by(
        &self,
        peer: &Peer,
        reason: Reason,
        count: u64,
        target: &str,
        manifest: String,
    ) {
        let count = count.min(peer.outbox.counts().tells);
        Counters::add(&peer.refused, count);
        self.observers.refused_by_peer(reason, count, || DeadLetter {
            target: target.parse().and_then(|path: ActorPath| path.at(&peer.address)).ok(),
            manifest: Some(manifest),
            peer: Some(peer.address.clone()),
            count,
            refused_by: Some(peer.address.clone()),
            ..DeadLetter::new(reason)
        });
    }

    /// Records that a peer's registry is another than this node's.
    pub(crate) fn registry_differs(&self, peer: UniqueAddress, difference: RegistryDifference) {
        if !difference.mismatches.is_empty() {
            if let Some(held_back) = self.log.admit(Instant::now()) {
                let mismatches = &difference.mismatches;
                tracing::warn!(%peer, ?mismatches, held_back, "messages with different schemas are refused");
            }
        }
        self.observers.event(NodeEvent::RegistryDiffers { peer, difference });
    }

    /// Records frames that a broken link may have swallowed.
    pub(crate) fn lost(&self, peer: &Peer, reason: Reason, count: u64) {
        self.observers.dead_letter(reason, count, || DeadLetter {
            peer: Some(peer.address.clone()),
            count,
            ..DeadLetter::new(reason)
        });
    }

    /// Forgets one peer that nobody uses, if as many are known as may be: whoever has called here once, or was
    /// made up by a caller, must not keep others out for ever.
    fn make_room(&self) {
        if self.peers.len() <= self.settings.inbound.max_peers {
            return;
        }
        let unused = |entry: &RefMulti<'_, Address, Arc<Peer>>| entry.value().is_unused();
        let is_fenced = |peer: &Peer| peer.view().state == AssociationState::Quarantined;
        // What is fenced is forgotten last.
        let first = self.peers.iter().find(|entry| unused(entry) && !is_fenced(entry.value()));
        let first = first.map(|entry| entry.key().clone());
        let last = || self.peers.iter().find(unused).map(|entry| entry.key().clone());
        let Some(address) = first.or_else(last) else { return };
        if let Some((_, peer)) = self.peers.remove_if(&address, |_, peer| peer.is_unused()) {
            self.departed.add(&peer);
            driver::stop(&peer);
        }
    }

    fn check_peer(&self, address: &Address) -> Result<(), ResolveError> {
        let limit = self.settings.inbound.max_peers;
        if self.closing.is_cancelled() {
            return Err(ResolveError::Stopped);
        }
        if address.system() != self.address().system() {
            return Err(ResolveError::OtherSystem {
                ours: self.address().system().to_owned(),
                theirs: address.system().to_owned(),
            });
        }
        if !self.transports.contains_key(address.scheme()) {
            return Err(ResolveError::UnknownScheme { scheme: address.scheme().to_owned() });
        }
        if self.peers.len() > limit {
            return Err(ResolveError::TooManyPeers { limit });
        }
        Ok(())
    }
}

fn describe(reason: Reason, peer: &Peer, undelivered: Undelivered<'_>, why: &str) -> DeadLetter {
    let (target, manifest) = match undelivered {
        Undelivered::Tell { target, manifest, .. } => (Some(target), manifest),
        Undelivered::Reply { manifest, .. } => (None, manifest),
    };
    let target = target.and_then(|target| target.parse::<ActorPath>().ok());
    DeadLetter {
        target: target.and_then(|target| target.at(&peer.address).ok()),
        manifest: Some(manifest.to_owned()),
        peer: Some(peer.address.clone()),
        detail: Some(why.to_owned()).filter(|why| !why.is_empty()),
        ..DeadLetter::new(reason)
    }
}

impl Entropy {
    /// Gives random numbers that a seed determines.
    #[cfg(feature = "testkit")]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::Seeded(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// Draws 64 bits; from the operating system through the keys of a hasher.
    pub(crate) fn draw(&self) -> u64 {
        match self {
            Self::System => RandomState::new().hash_one(Instant::now()),
            Self::Seeded(rng) => rng.lock().unwrap_or_else(PoisonError::into_inner).u64(..),
        }
    }

    /// Draws the incarnation of a starting node.
    pub(crate) fn incarnation(&self, address: Address) -> UniqueAddress {
        UniqueAddress::new(address, Uid::new(self.draw()))
    }
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        if count > 0 {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Counts the tells that a mailbox or the sink took, less those that turned out not to be decodable.
    pub(crate) fn delivered(&self) -> u64 {
        let undecoded = self.undecoded.load(Ordering::Acquire);
        self.delivered.load(Ordering::Relaxed).saturating_sub(undecoded)
    }
}

impl Departed {
    fn add(&self, peer: &Peer) {
        let counts = peer.outbox.counts();
        Counters::add(&self.tells, counts.tells);
        Counters::add(&self.replies, counts.replies);
        Counters::add(&self.lost, counts.lost);
        Counters::add(&self.bytes_in, peer.bytes_in.load(Ordering::Relaxed));
        Counters::add(&self.bytes_out, peer.bytes_out.load(Ordering::Relaxed));
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("local", &self.identity.local).finish_non_exhaustive()
    }
}
