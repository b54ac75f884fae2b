//! Runs any number of membership machines in one thread, in virtual time, over a simulated network.
//!
//! No task, no socket and no clock is involved: a [`SimCluster`] takes one planned happening after
//! the other, and draws every chance from one seeded generator. So the same seed gives the same
//! run, an hour of a small cluster takes seconds, and what has failed once fails again.
//!
//! ```text
//!   scenario ── start, join, crash, split, ... ─▶ ┌─────────────┐      ┌────────────┐
//!            ── run_for, run_until, settle ─────▶ │ SimCluster  │ ───▶ │ Membership │ one for each
//!            ◀── Failure ──────────────────────── │ queue, time │ ◀─── │  machine   │ running node
//!                                                 └─────────────┘      └────────────┘
//!                                  after each step: every Invariant looks at the cluster
//! ```
//!
//! Nodes are named by numbers from 1 on; node 7 has the address `mem://Sim@node:7`. Whatever of it
//! runs is an incarnation with a uid of its own, as with real nodes.
//!
//! ```
//! use std::time::Duration;
//! use tellwire::testkit::cluster::{SimCluster, SimSettings};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut cluster = SimCluster::new(SimSettings::seeded(7));
//! cluster.boot(1..=5, &[1, 2]);
//! cluster.settle(Duration::from_secs(20))?;
//!
//! cluster.split(&[&[1, 2], &[3, 4, 5]]);
//! cluster.run_for(Duration::from_secs(60))?;
//! assert_eq!(cluster.running().collect::<Vec<_>>(), [3, 4, 5]);
//! # Ok(())
//! # }
//! ```
//!
//! # What is like the real thing, and what is not
//!
//! - A PDU to a node that does not run, or over a way that is cut, is lost; so is what is under way
//!   then. From one node to another nothing overtakes.
//! - The first PDU between two incarnations is a handshake: both know each other then, and fence
//!   what ran at that address before.
//! - A paused node takes no step; what arrives waits for it, as it would in the socket's buffers.
//! - A node whose machine has stopped ends, as a real one would.
//! - There are no links, so none is slow to be dialled, and no tells that compete with gossip.

mod failure;
pub mod invariants;
mod network;
mod process;
mod queue;
mod run;
mod seeds;
mod settings;
mod trace;
mod verbs;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;

pub use self::failure::{Failure, Fault};
use self::invariants::Invariant;
use self::network::Network;
pub use self::network::NetworkSettings;
use self::process::{Log, Process};
pub use self::process::{Tamper, Traffic};
use self::queue::Queue;
use self::run::Happening;
pub use self::seeds::Seeds;
pub use self::settings::{Farewell, SimSettings, Start, Wire};
pub use self::trace::Trace;
use crate::address::{Address, UniqueAddress};
use crate::membership::convergence::Perspective;
use crate::membership::event::{ClusterEvent, StopCause};
use crate::membership::gossip::Gossip;
use crate::membership::machine::Membership;

/// Is a cluster in one thread: its nodes, its network and its time.
#[derive(Debug)]
pub struct SimCluster {
    settings: SimSettings,
    /// When virtual time began.
    start: Instant,
    now: Instant,
    rng: Rng,
    queue: Queue<Happening>,
    network: Network,
    /// What runs at each node.
    processes: BTreeMap<u16, Process>,
    /// Why the latest incarnation of a node ended by itself.
    stopped: BTreeMap<u16, StopCause>,
    logs: BTreeMap<u16, Log>,
    traffic: BTreeMap<u16, Traffic>,
    /// Who was downed by order of a scenario.
    ordered_down: Vec<UniqueAddress>,
    invariants: Vec<Box<dyn Invariant>>,
    trace: Trace,
    /// What went wrong first; nothing happens afterwards.
    failure: Option<Failure>,
    /// When a scenario last did something to the network or to a node.
    disturbed: Instant,
    /// Steps taken since time last passed.
    steps_at_once: u32,
}

impl SimCluster {
    /// Makes a cluster without nodes that holds to the [standard](invariants::standard) invariants.
    #[must_use]
    pub fn new(settings: SimSettings) -> Self {
        Self::with_invariants(settings, invariants::standard())
    }

    /// Makes a cluster without nodes that holds to these invariants only.
    #[must_use]
    pub fn with_invariants(settings: SimSettings, invariants: Vec<Box<dyn Invariant>>) -> Self {
        // Only differences of times are ever looked at, so the beginning does not matter.
        let start = Instant::now();
        Self {
            start,
            now: start,
            disturbed: start,
            rng: Rng::with_seed(settings.seed),
            queue: Queue::new(),
            network: Network::new(settings.network.clone()),
            processes: BTreeMap::new(),
            stopped: BTreeMap::new(),
            logs: BTreeMap::new(),
            traffic: BTreeMap::new(),
            ordered_down: Vec::new(),
            invariants,
            trace: Trace::new(settings.trace_lines),
            failure: None,
            steps_at_once: 0,
            settings,
        }
    }

    /// Adds an invariant that is checked from here on.
    pub fn watch(&mut self, invariant: impl Invariant + 'static) {
        self.invariants.push(Box::new(invariant));
    }

    /// Returns the seed of the run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.settings.seed
    }

    /// Returns the time that has passed in the cluster.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Returns the present moment of virtual time, for views that ask for one.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Returns the generator of the run, for a scenario's own chances.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Gives the nodes that run, paused ones too, in the order of their numbers.
    pub fn running(&self) -> impl Iterator<Item = u16> {
        self.processes.keys().copied()
    }

    /// Tells whether a node runs and is paused.
    #[must_use]
    pub fn is_paused(&self, node: u16) -> bool {
        self.processes.get(&node).is_some_and(Process::is_paused)
    }

    /// Tells whether the network carries PDUs from one node to another.
    #[must_use]
    pub fn carries(&self, from: u16, to: u16) -> bool {
        self.network.carries(from, to)
    }

    /// Returns the machine of a node, if it runs.
    #[must_use]
    pub fn membership(&self, node: u16) -> Option<&Membership> {
        self.processes.get(&node).map(|process| &process.membership)
    }

    /// Returns what a node knows, if it runs.
    #[must_use]
    pub fn gossip(&self, node: u16) -> Option<&Gossip> {
        self.membership(node).map(Membership::gossip)
    }

    /// Returns which incarnation of a node runs.
    #[must_use]
    pub fn own(&self, node: u16) -> Option<&UniqueAddress> {
        self.processes.get(&node).map(|process| &process.own)
    }

    /// Returns why the machine of a node has stopped, if that was the last thing it did.
    #[must_use]
    pub fn stop_cause(&self, node: u16) -> Option<StopCause> {
        self.stopped.get(&node).copied()
    }

    /// Gives what the machines at a node have told so far, the last 10 000 events.
    pub fn events(&self, node: u16) -> impl DoubleEndedIterator<Item = &ClusterEvent> {
        self.logs.get(&node).into_iter().flat_map(|log| &log.events)
    }

    /// Returns what a node has sent so far, all its incarnations together.
    #[must_use]
    pub fn traffic(&self, node: u16) -> Traffic {
        self.traffic.get(&node).copied().unwrap_or_default()
    }

    /// Returns the trace of the run.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Returns how long nothing has been done to the network and the nodes.
    #[must_use]
    pub fn undisturbed_for(&self) -> Duration {
        self.now - self.disturbed
    }

    /// Tells whether a scenario, not a strategy, has declared this incarnation dead.
    #[must_use]
    pub fn was_ordered_down(&self, node: &UniqueAddress) -> bool {
        self.ordered_down.contains(node)
    }

    /// Shows a node's state to the pure functions of membership, if it is a member there itself.
    pub fn with_perspective<R>(
        &self,
        node: u16,
        look: impl FnOnce(&Perspective<'_>) -> R,
    ) -> Option<R> {
        let process = self.processes.get(&node)?;
        let gossip = process.membership.gossip();
        let member = gossip.member(&process.own)?;
        let perspective = Perspective {
            gossip,
            own: &process.own,
            data_centre: member.profile().data_centre(),
            exiting_confirmed: &BTreeSet::new(),
        };
        Some(look(&perspective))
    }
}

/// Returns the address of a node in a simulated cluster.
///
/// # Panics
/// Never for numbers from 1 on; 0 is no port.
#[must_use]
pub fn address(node: u16) -> Address {
    Address::new("mem", "Sim", "node", node).unwrap_or_else(|error| panic!("node {node}: {error}"))
}
