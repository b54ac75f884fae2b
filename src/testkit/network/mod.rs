//! Runs real nodes in one process, over links that fail on demand.
//!
//! The nodes are whole: the same encoder, handshakes, pings and back-off as over TCP. Only the links are memory, and
//! a [`Network`] can cut them, break them, slow them down and garble them. It keeps no time of its own: under
//! tokio's paused time (`start_paused`) a minute of cluster life takes milliseconds.
//!
//! Every random number comes from one seed, those of the nodes included. On a current-thread runtime under paused
//! time the same seed gives the same [`trace`](Network::trace), byte for byte.
//!
//! After every frame that arrives and every fault the [`invariants`] look at all of it, the standard ones and the
//! test's own.
//!
//! | fault | what the nodes see | ended by |
//! |---|---|---|
//! | [`cut`](Network::cut), [`cut_one_way`](Network::cut_one_way), [`isolate`](Network::isolate), [`split`](Network::split) | silence; nothing is lost unless they give up | [`recover`](Network::recover), [`reconnect`](Network::reconnect) |
//! | [`reset`](Network::reset) | the links break, new ones can be dialled at once | |
//! | [`crash`](Network::crash) | the links break, dials are refused | [`restart`](Network::restart) |
//! | [`ignore`](Network::ignore) | frames of a kind never come | [`recover`](Network::recover) |
//! | [`set_conditions`](Network::set_conditions) | delay, loss, corruption on one way | the same with [`Conditions::default`] |

mod board;
mod builder;
mod carrier;
mod conditions;
mod cutter;
mod error;
mod fabric;
pub mod invariants;
mod trace;
mod watch;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::builder::{Customise, SYSTEM};
use self::conditions::{Rules, Way};
use self::fabric::{Fabric, NodeTransport};
use self::invariants::{Broken, Step};
use self::watch::Crashed;
use crate::address::Address;
use crate::membership::settings::ClusterSettings;
use crate::node::Node;
use crate::settings::Settings;
use crate::testkit::Members;
use crate::transport::Transport;
use crate::wire::FrameKind;

pub use self::builder::{MAX_NODES, NetworkBuilder};
pub use self::conditions::Conditions;
pub use self::error::NetworkError;

/// Holds some nodes, numbered from 0, and the links between them.
///
/// Cheap to clone. When the last clone is dropped, the nodes end unless there are other handles to them, and every
/// link breaks.
///
/// ```
/// use std::time::Duration;
/// use tellwire::testkit::Network;
///
/// # tellwire::remote_messages! {
/// #     table COUNTS, codec = tellwire::codec::Bincode;
/// #     "doc.network.v1.Count" => Count,
/// # }
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Count(u32);
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Network::pair().await?;
/// let (ada, bob) = (network.node(0)?, network.node(1)?);
/// let (counts, mut counted) = tokio::sync::mpsc::channel::<Count>(16);
/// let counter = bob.resolve(ada.register("/user/counter", counts)?)?;
///
/// network.cut(0, 1)?;
/// counter.tell(&Count(7))?;
/// let waited = tokio::time::timeout(Duration::from_secs(5), counted.recv()).await;
/// assert!(waited.is_err(), "nothing passes a cut");
///
/// network.recover();
/// assert_eq!(counted.recv().await.map(|count| count.0), Some(7));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    fabric: Arc<Fabric>,
    /// None where the node is crashed.
    nodes: Mutex<Vec<Option<Node>>>,
    crashed: Mutex<Crashed>,
    customise: Arc<Customise>,
    /// Whom the nodes join through; none if they are in no cluster.
    seeds: Vec<Address>,
}

impl Network {
    /// Starts two nodes over links without faults.
    ///
    /// # Errors
    /// As [`NetworkBuilder::start`].
    pub async fn pair() -> Result<Self, NetworkError> {
        Self::mesh(2).await
    }

    /// Starts some nodes, each of which can reach each other, over links without faults.
    ///
    /// # Errors
    /// As [`NetworkBuilder::start`].
    pub async fn mesh(nodes: usize) -> Result<Self, NetworkError> {
        Self::builder(nodes).start().await
    }

    /// Begins a network of some nodes.
    pub fn builder(nodes: usize) -> NetworkBuilder {
        NetworkBuilder::new(nodes)
    }

    /// Counts the nodes, those that are crashed included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.fabric().places.len()
    }

    /// Gives the node of this number.
    ///
    /// # Errors
    /// [`NetworkError::NoSuchNode`], or [`NetworkError::Crashed`].
    pub fn node(&self, node: usize) -> Result<Node, NetworkError> {
        self.known(node)?;
        let running = self.inner.nodes().get(node).cloned().flatten();
        running.ok_or(NetworkError::Crashed { node })
    }

    /// Gives the nodes that are not crashed, in the order of their numbers.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.inner.nodes().iter().flatten().cloned().collect()
    }

    /// Watches the cluster as the nodes see it that are not crashed.
    #[must_use]
    pub fn members(&self) -> Members {
        Members::of(&self.nodes())
    }

    /// Gives the address of a node, crashed or not; it stays the same for all its runs.
    ///
    /// # Errors
    /// [`NetworkError::NoSuchNode`].
    pub fn address(&self, node: usize) -> Result<Address, NetworkError> {
        self.known(node)?;
        let address = self.fabric().places.get(node).cloned();
        address.ok_or(NetworkError::NoSuchNode { node, nodes: self.size() })
    }

    /// Gives the number of the node at an address.
    ///
    /// # Errors
    /// [`NetworkError::UnknownAddress`].
    pub fn number_of(&self, address: &Address) -> Result<usize, NetworkError> {
        let found = self.fabric().places.iter().position(|place| place == address);
        found.ok_or_else(|| NetworkError::UnknownAddress { address: address.clone() })
    }

    /// Tells whether a node runs, whatever became of its neighbours and of the links; a node that does not exist
    /// does not.
    #[must_use]
    pub fn is_live(&self, node: usize) -> bool {
        self.fabric().is_live(node)
    }

    /// Ends a node without a goodbye: every link of it breaks, what is under way on them is gone, and every handle
    /// to it fails with a typed error. A node that is crashed already stays so.
    ///
    /// Not cancel safe: a crash that is dropped half way is done but for tasks of the node that still end.
    ///
    /// # Errors
    /// [`NetworkError::NoSuchNode`].
    pub async fn crash(&self, node: usize) -> Result<(), NetworkError> {
        self.known(node)?;
        let running = self.inner.nodes().get_mut(node).and_then(Option::take);
        let Some(running) = running else { return Ok(()) };
        self.note(format_args!("crash {node}"));
        self.fabric().take_down(node);
        // Its links are broken, so that nothing of an orderly end gets out.
        running.shutdown(Duration::ZERO).await;
        let mut crashed = self.inner.crashed();
        crashed.count += 1;
        crashed.stats.push(running.stats());
        drop(crashed);
        self.fabric().watch.step(Step::Fault);
        Ok(())
    }

    /// Starts a node anew: the same address, another uid, nothing remembered. Crashes it first if it runs.
    ///
    /// # Errors
    /// [`NetworkError::NoSuchNode`], or what kept it from starting.
    pub async fn restart(&self, node: usize) -> Result<Node, NetworkError> {
        self.crash(node).await?;
        self.note(format_args!("restart {node}"));
        self.start(node).await
    }

    /// Ends the cuts between a node and the peers that run, and gives their numbers. A crashed peer stays crashed,
    /// and cut off if it was; cuts between other nodes stay.
    ///
    /// # Errors
    /// [`NetworkError::NoSuchNode`], or [`NetworkError::Crashed`].
    pub fn reconnect(&self, node: usize) -> Result<Vec<usize>, NetworkError> {
        self.running(node)?;
        let is_peer = |peer: &usize| *peer != node && self.is_live(*peer);
        let peers: Vec<usize> = (0..self.size()).filter(is_peer).collect();
        self.note(format_args!("reconnect {node}"));
        self.rule(|rules| {
            rules.cuts.retain(|way| {
                let peer = if way.from == node { way.to } else { way.from };
                !(way.touches(node) && peers.contains(&peer))
            });
        });
        Ok(peers)
    }

    /// Lets nothing through between two nodes, in either direction, until it is ended: bytes under way wait, dials
    /// hang. The nodes learn of it by silence alone.
    ///
    /// # Errors
    /// [`NetworkError::NoSuchNode`], or [`NetworkError::SameNode`].
    pub fn cut(&self, one: usize, other: usize) -> Result<(), NetworkError> {
        let way = self.way(one, other)?;
        self.cut_ways(&[way, way.back()]);
        Ok(())
    }

    /// Lets nothing through from one node to another; the other direction stays open, but new links need both.
    ///
    /// # Errors
    /// As [`cut`](Self::cut).
    pub fn cut_one_way(&self, from: usize, to: usize) -> Result<(), NetworkError> {
        self.cut_ways(&[self.way(from, to)?]);
        Ok(())
    }

    /// Cuts a node off from all others.
    ///
    /// # Errors
    /// [`NetworkError::NoSuchNode`].
    pub fn isolate(&self, node: usize) -> Result<(), NetworkError> {
        self.known(node)?;
        self.cut_ways(&self.ways(|way| way.touches(node)));
        Ok(())
    }

    /// Cuts every way between nodes of different groups. The nodes that no group names are one more group.
    ///
    /// # Errors
    /// [`NetworkError::NoSuchNode`], or [`NetworkError::InTwoGroups`].
    pub fn split(&self, groups: &[&[usize]]) -> Result<(), NetworkError> {
        let mut group_of = vec![None; self.size()];
        for (group, nodes) in groups.iter().enumerate() {
            for node in *nodes {
                self.known(*node)?;
                if group_of.get_mut(*node).and_then(|of| of.replace(group)).is_some() {
                    return Err(NetworkError::InTwoGroups { node: *node });
                }
            }
        }
        let group = |node: usize| group_of.get(node).copied().flatten();
        self.cut_ways(&self.ways(|way| group(way.from) != group(way.to)));
        Ok(())
    }

    /// Ends every cut and heeds every kind of frame again. Crashed nodes stay crashed, conditions as they are.
    pub fn recover(&self) {
        self.note(format_args!("recover"));
        self.rule(|rules| {
            rules.cuts.clear();
            rules.ignored.clear();
        });
    }

    /// Breaks the links between two nodes once: what is under way on them is gone. They may dial again at once.
    ///
    /// # Errors
    /// As [`cut`](Self::cut).
    pub fn reset(&self, one: usize, other: usize) -> Result<(), NetworkError> {
        let struck = self.way(one, other)?;
        self.note(format_args!("reset {struck}"));
        self.fabric().break_links(|way| way == struck || way == struck.back());
        Ok(())
    }

    /// Loses every frame of a kind, on every link, until [`recover`](Self::recover).
    pub fn ignore(&self, kind: FrameKind) {
        self.note(format_args!("ignore {}", kind.0));
        self.rule(|rules| rules.ignored.extend([kind]));
    }

    /// Sets what the links between two nodes do to what goes from one to the other, from now on. What is under way
    /// already is left alone.
    ///
    /// # Errors
    /// As [`cut`](Self::cut), and [`NetworkError::OutOfRange`].
    pub fn set_conditions(
        &self,
        from: usize,
        to: usize,
        conditions: Conditions,
    ) -> Result<(), NetworkError> {
        let way = self.way(from, to)?;
        conditions.check()?;
        self.note(format_args!("conditions {way} {conditions:?}"));
        self.rule(|rules| rules.special.extend([(way, conditions)]));
        Ok(())
    }

    /// Gives the network as a node sees it, for a peer of your own making in the place of a crashed one: a
    /// [`RawPeer`](crate::testkit::raw::RawPeer), for instance. Faults strike it as they would strike the node.
    ///
    /// # Errors
    /// [`NetworkError::NoSuchNode`].
    pub fn transport(&self, node: usize) -> Result<impl Transport, NetworkError> {
        self.known(node)?;
        Ok(NodeTransport { fabric: Arc::clone(self.fabric()), node })
    }

    /// Looks once more whether every [invariant](invariants) holds, and gives what did not hold first.
    ///
    /// A network that goes away with a broken invariant which nobody has asked for fails the test by panicking.
    ///
    /// # Errors
    /// [`Broken`]: the invariant, the seed, and the last lines of the trace.
    pub fn verify(&self) -> Result<(), Broken> {
        self.fabric().watch.last()
    }

    /// Waits until every [invariant](invariants) holds to the end, looking every 5 ms: that each tell has ended, for
    /// instance. End the faults first, or nothing may settle.
    ///
    /// # Errors
    /// [`Broken`] as soon as an invariant is, or when one still is not at its end after `limit`.
    pub async fn settle(&self, limit: Duration) -> Result<(), Broken> {
        let until = tokio::time::Instant::now() + limit;
        loop {
            self.verify()?;
            match self.fabric().watch.end() {
                Err(broken) if tokio::time::Instant::now() >= until => return Err(broken),
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Gives what was carried and what was suffered so far, a line each, behind the time in microseconds:
    /// `1500 0>1 #3 kind 4, 57 bytes 9ae16a3b2f90404f Passes` is a tell from node 0 to node 1 on the third link.
    #[must_use]
    pub fn trace(&self) -> String {
        self.fabric().trace.text()
    }

    /// Starts a node at its place.
    async fn start(&self, node: usize) -> Result<Node, NetworkError> {
        let fabric = Arc::clone(self.fabric());
        let builder = Node::builder(SYSTEM)
            .listen(self.address(node)?.endpoint())
            .settings(Settings::local())
            .random_seed(fabric.draw())
            .transport(NodeTransport { fabric, node });
        let builder = match self.inner.seeds.as_slice() {
            [] => builder,
            seeds => builder.cluster_settings(ClusterSettings::local()).seeds(seeds),
        };
        let started = (self.inner.customise)(node, builder).start().await?;
        if let Some(place) = self.inner.nodes().get_mut(node) {
            *place = Some(started.clone());
        }
        self.fabric().watch.step(Step::Fault);
        Ok(started)
    }

    fn cut_ways(&self, ways: &[Way]) {
        for way in ways {
            self.note(format_args!("cut {way}"));
        }
        self.rule(|rules| rules.cuts.extend(ways));
    }

    /// Gives the ways that `is_meant` picks.
    fn ways(&self, is_meant: impl Fn(Way) -> bool) -> Vec<Way> {
        let all =
            (0..self.size()).flat_map(|from| (0..self.size()).map(move |to| Way { from, to }));
        all.filter(|way| way.from != way.to && is_meant(*way)).collect()
    }

    fn way(&self, from: usize, to: usize) -> Result<Way, NetworkError> {
        self.known(from)?;
        self.known(to)?;
        if from == to { Err(NetworkError::SameNode { node: from }) } else { Ok(Way { from, to }) }
    }

    fn known(&self, node: usize) -> Result<(), NetworkError> {
        let nodes = self.size();
        if node < nodes { Ok(()) } else { Err(NetworkError::NoSuchNode { node, nodes }) }
    }

    fn running(&self, node: usize) -> Result<(), NetworkError> {
        self.known(node)?;
        if self.is_live(node) { Ok(()) } else { Err(NetworkError::Crashed { node }) }
    }

    fn rule(&self, change: impl FnOnce(&mut Rules)) {
        self.fabric().rules.change(change);
        self.fabric().watch.step(Step::Fault);
    }

    fn note(&self, what: fmt::Arguments<'_>) {
        self.fabric().trace.note(what);
    }

    fn fabric(&self) -> &Arc<Fabric> {
        &self.inner.fabric
    }
}

impl Inner {
    fn nodes(&self) -> MutexGuard<'_, Vec<Option<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn crashed(&self) -> MutexGuard<'_, Crashed> {
        self.crashed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.fabric.rules.change(|rules| rules.is_closed = true);
        self.fabric.break_links(|_| true);
        if let Some(broken) = self.fabric.watch.untold().filter(|_| !std::thread::panicking()) {
            panic!("{broken}");
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let live = (0..self.size()).filter(|node| self.is_live(*node)).count();
        f.debug_struct("Network")
            .field("nodes", &self.size())
            .field("live", &live)
            .finish_non_exhaustive()
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(5);
