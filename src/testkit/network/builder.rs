//! Starts a network: gathers how many nodes, what they are like, and what their links do.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::conditions::{Conditions, Rules};
use super::fabric::{Fabric, SCHEME};
use super::invariants::{self, Invariant, Look};
use super::trace::Trace;
use super::watch::{Crashed, Watch};
use super::{Inner, Network, NetworkError};
use crate::address::{Address, AddressError};
use crate::node::{NodeBuilder, StartError};
use crate::wire::FrameKind;

/// Gathers what a [`Network`] is to be like.
#[must_use = "the network starts with `start`"]
pub struct NetworkBuilder {
    nodes: usize,
    seed: u64,
    conditions: Conditions,
    trace_lines: usize,
    seeds: Vec<usize>,
    invariants: Vec<Box<dyn Invariant>>,
    customise: Arc<Customise>,
}

/// Finishes the builder of the node of this number.
pub(super) type Customise = dyn Fn(usize, NodeBuilder) -> NodeBuilder + Send + Sync;

impl NetworkBuilder {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes,
            seed: 0,
            conditions: Conditions::default(),
            trace_lines: 65_536,
            seeds: Vec::new(),
            invariants: invariants::standard(),
            customise: Arc::new(|_, builder| builder),
        }
    }

    /// Sets what every random number is drawn from: faults, uids, jitter of the nodes' back-off. Default 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Finishes the builder of each node, at its start and at each restart: codecs, settings, sinks, seeds.
    ///
    /// It is given the node's number, and a builder with [`Settings::local`](crate::Settings::local) that listens at
    /// [`Network::address`] of that number; both must stay as they are, transport included.
    pub fn each(
        mut self,
        customise: impl Fn(usize, NodeBuilder) -> NodeBuilder + Send + Sync + 'static,
    ) -> Self {
        self.customise = Arc::new(customise);
        self
    }

    /// Lets every node join one cluster through these nodes, at its start and at each restart, with
    /// [`ClusterSettings::local`](crate::membership::settings::ClusterSettings::local). By default the nodes are in
    /// no cluster.
    ///
    /// Name two or more: the first one that is restarted would find nobody but itself, and form another cluster.
    pub fn seeds(mut self, nodes: impl IntoIterator<Item = usize>) -> Self {
        self.seeds = nodes.into_iter().collect();
        self
    }

    /// Sets what every link does to what it carries, in place of what was set so far.
    pub fn conditions(mut self, conditions: Conditions) -> Self {
        self.conditions = conditions;
        self
    }

    /// Sets the time that every byte is under way; [`Conditions::latency`].
    pub fn latency(mut self, latency: Duration) -> Self {
        self.conditions.latency = latency;
        self
    }

    /// Sets what is added to the latency at most; [`Conditions::jitter`].
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.conditions.jitter = jitter;
        self
    }

    /// Sets the bytes that pass in a second; [`Conditions::bandwidth`].
    pub fn bandwidth(mut self, bytes_per_second: NonZeroU64) -> Self {
        self.conditions.bandwidth = Some(bytes_per_second);
        self
    }

    /// Sets the chance that a frame of a kind is lost; [`Conditions::frame_loss`].
    pub fn frame_loss(mut self, kind: FrameKind, chance: f64) -> Self {
        self.conditions.frame_loss.insert(kind, chance);
        self
    }

    /// Sets the chance that a frame breaks its link; [`Conditions::link_loss`].
    pub fn link_loss(mut self, chance: f64) -> Self {
        self.conditions.link_loss = chance;
        self
    }

    /// Sets the chance that a frame is corrupted; [`Conditions::corruption`].
    pub fn corruption(mut self, chance: f64) -> Self {
        self.conditions.corruption = chance;
        self
    }

    /// Adds what must hold after every step, beside the [standard](invariants::standard) invariants.
    pub fn invariant(mut self, invariant: impl Invariant + 'static) -> Self {
        self.invariants.push(Box::new(invariant));
        self
    }

    /// Adds a closure that looks after every step, and says what it has found if that is wrong.
    pub fn invariant_that(
        self,
        name: &'static str,
        check: impl FnMut(&Look<'_>) -> Result<(), String> + Send + 'static,
    ) -> Self {
        self.invariant(invariants::that(name, check))
    }

    /// Sets all that must hold after every step, in place of what was added so far and the standard.
    pub fn invariants(mut self, invariants: Vec<Box<dyn Invariant>>) -> Self {
        self.invariants = invariants;
        self
    }

    /// Sets how many lines [`Network::trace`] keeps, of about 60 bytes each. Default 65 536.
    pub fn trace_lines(mut self, lines: usize) -> Self {
        self.trace_lines = lines;
        self
    }

    /// Starts every node, in the order of their numbers.
    ///
    /// # Errors
    /// [`NetworkError::Size`], [`NetworkError::NoSuchNode`] among the seeds, [`NetworkError::OutOfRange`], or what
    /// kept a node from starting; nothing is left running.
    pub async fn start(self) -> Result<Network, NetworkError> {
        if !(1..=MAX_NODES).contains(&self.nodes) {
            return Err(NetworkError::Size { nodes: self.nodes });
        }
        self.conditions.check()?;
        let places: Result<Vec<_>, _> = (0..self.nodes).map(place).collect();
        let places = places.map_err(StartError::from)?;
        let seeds = self.seeds.iter().map(|node| {
            let unknown = NetworkError::NoSuchNode { node: *node, nodes: self.nodes };
            places.get(*node).cloned().ok_or(unknown)
        });
        let seeds = seeds.collect::<Result<_, _>>()?;
        let rules = Rules { usual: self.conditions, ..Rules::default() };
        let (trace, watch) = (Trace::new(self.trace_lines), Watch::new(self.seed, self.invariants));
        let fabric = Fabric::new(places, rules, trace, watch, self.seed);
        let inner = Inner {
            fabric: Arc::new(fabric),
            nodes: Mutex::new(vec![None; self.nodes]),
            crashed: Mutex::new(Crashed::default()),
            customise: self.customise,
            seeds,
        };
        let network = Network { inner: Arc::new(inner) };
        network.fabric().watch.begin(Arc::downgrade(&network.inner));
        for node in 0..self.nodes {
            network.start(node).await?;
        }
        Ok(network)
    }
}

/// Gives the address of the node of this number.
fn place(node: usize) -> Result<Address, AddressError> {
    Address::new(SCHEME, SYSTEM, &format!("node-{node}"), PORT)
}

impl std::fmt::Debug for NetworkBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkBuilder")
            .field("nodes", &self.nodes)
            .field("seed", &self.seed)
            .field("conditions", &self.conditions)
            .finish_non_exhaustive()
    }
}

/// The most nodes that a network may have.
pub const MAX_NODES: usize = 1_024;
/// The actor system of every node.
pub(super) const SYSTEM: &str = "Test";
/// The port of every node; their hosts differ.
const PORT: u16 = 1;
