//! Shows the cluster that a node is in, and lets the node join, leave, and down members.
//!
//! [`Node::cluster`](crate::Node::cluster) gives the handle. The membership itself is a machine in
//! [`membership`](crate::membership), kept by one task of the node; the handle reads what that task last published
//! and sends it commands, so no call here waits for the network unless it says so.
//!
//! ```standalone_crate
//! use tellwire::Node;
//! use tellwire::membership::member::MemberStatus;
//! use tellwire::node::cluster::ClusterUpdate;
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ada = Node::builder("Shop").listen("tcp://127.0.0.1:0").start().await?;
//! let bob = Node::builder("Shop").listen("tcp://127.0.0.1:0").seeds([ada.address()]).start().await?;
//!
//! let me = bob.cluster().when_up().await?;
//! assert_eq!(me.status(), MemberStatus::Up);
//! assert_eq!(bob.cluster().members().len(), 2);
//!
//! let mut updates = bob.cluster().subscribe();
//! let Some(ClusterUpdate::Snapshot { state, .. }) = updates.next().await else { panic!() };
//! assert!(state.member(&ada.unique_address()).is_some());
//! println!("{}", bob.cluster().explain().await?);
//! # Ok(()) }
//! ```

mod updates;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use self::updates::{ClusterUpdate, ClusterUpdates};
use crate::address::{Address, UniqueAddress};
use crate::membership::event::{ClusterEvent, JoinRefusal, StopCause};
use crate::membership::explain::Explanation;
use crate::membership::machine::{self, Phase, RequestError};
use crate::membership::member::Member;
use crate::membership::state::ClusterState;
use crate::node::gossip_inbox::GossipInbox;
use crate::node::seeds::{SeedError, SeedRules};
use crate::settings::Settings;

/// Shows the cluster that a node is in.
///
/// Cheap to clone; it does not keep its node alive. What it shows is what this node knows: other members may know
/// more or less until gossip has reached them.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    own: UniqueAddress,
    rules: SeedRules,
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
    events: broadcast::WeakSender<Numbered>,
    inbox: Arc<GossipInbox>,
}

/// Asks the task that keeps the membership for something.
#[derive(Debug)]
pub(crate) enum Command {
    Join { seeds: Vec<Address>, done: oneshot::Sender<Result<(), machine::JoinError>> },
    Leave { done: oneshot::Sender<Result<(), RequestError>> },
    Down { node: Address, done: oneshot::Sender<Result<(), RequestError>> },
    Explain { done: oneshot::Sender<Explanation> },
}

/// Is what the task last published.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The number of the last event that `state` shows.
    pub(crate) last: u64,
    pub(crate) phase: Phase,
    pub(crate) state: ClusterState,
    /// Who has refused this node for good since it was last told to join, and why.
    pub(crate) refused: Option<(UniqueAddress, JoinRefusal)>,
}

/// An event and its place in the order.
pub(crate) type Numbered = (u64, ClusterEvent);

/// What the task holds of the handle.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) view: watch::Sender<View>,
    pub(crate) events: broadcast::Sender<Numbered>,
    pub(crate) inbox: Arc<GossipInbox>,
}

/// Says that the task which keeps the membership is gone, with its node; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped, or a gossip sink has taken the place of its membership")]
pub struct NoMembership;

/// Says why a node does not join. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// A seed is none; the caller's fault.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The node is not in the state to join.
    #[error(transparent)]
    Refused(#[from] machine::JoinError),
    /// There is no membership to join with.
    #[error(transparent)]
    NoMembership(#[from] NoMembership),
}

/// Says why a node does not leave, or a member is not downed. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeRefused {
    /// There is no such member, or this node is none.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// There is no membership to change.
    #[error(transparent)]
    NoMembership(#[from] NoMembership),
}

/// Says why a node has not come Up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpError {
    /// The cluster does not want the node as it is; joining again needs another configuration, or other seeds.
    #[error("{by} does not let the node in: {why:?}")]
    Refused {
        /// The member that was asked.
        by: UniqueAddress,
        /// What is in the way.
        why: JoinRefusal,
    },
    /// The membership ended before the node came Up; only a new node can join again.
    #[error("the membership has ended: {0:?}")]
    Ended(StopCause),
    /// The node has stopped.
    #[error(transparent)]
    NoMembership(#[from] NoMembership),
}

impl Cluster {
    /// Makes a handle, and the ends of it for the task.
    pub(crate) fn new(
        own: UniqueAddress,
        rules: SeedRules,
        view: View,
        settings: &Settings,
    ) -> (Self, Ends) {
        let inbox = Arc::new(GossipInbox::new(settings.cluster.clone()));
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (sender, view) = watch::channel(view);
        let events = broadcast::Sender::new(settings.observe.stream_capacity);
        let ends = Ends {
            commands: receiver,
            view: sender,
            events: events.clone(),
            inbox: Arc::clone(&inbox),
        };
        let shared = Shared { own, rules, commands, view, events: events.downgrade(), inbox };
        (Self { shared: Arc::new(shared) }, ends)
    }

    /// Gives the members that this node knows, in the order of their addresses; none before it has joined.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.state().members().to_vec()
    }

    /// Gives this node as a member, once it has joined.
    #[must_use]
    pub fn self_member(&self) -> Option<Member> {
        self.state().self_member().cloned()
    }

    /// Gives the leader as this node sees it: of those it can reach, the first in the order of addresses.
    #[must_use]
    pub fn leader(&self) -> Option<UniqueAddress> {
        self.state().leader().cloned()
    }

    /// Gives everything that this node knows of the cluster, as of one moment.
    #[must_use]
    pub fn state(&self) -> ClusterState {
        self.shared.view.borrow().state.clone()
    }

    /// Tells how far this node is in its own life as a member.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.shared.view.borrow().phase
    }

    /// Joins through these seeds: addresses, or endpoints of this node's own system, in the order that all nodes
    /// list them. If the first one is this node itself and none of the others is in a cluster, it forms one.
    ///
    /// Gives when the node has begun to ask; [`when_up`](Self::when_up) waits for the rest. Cancel safe: dropped
    /// half way, the node joins or does not.
    ///
    /// # Errors
    /// [`JoinError`]; nothing was sent.
    pub async fn join<S: ToString>(
        &self,
        seeds: impl IntoIterator<Item = S>,
    ) -> Result<(), JoinError> {
        let seeds = self.shared.rules.read(seeds)?;
        Ok(self.ask(|done| Command::Join { seeds, done }).await??)
    }

    /// Leaves the cluster in order, and waits until it has let this node go; nothing is downed for it.
    ///
    /// The node itself goes on, but cannot join again, and after some seconds the members talk to it no more: both
    /// take a new one. Waits as long as the members do not
    /// agree, so give it a time-out, or let [`Node::shutdown`](crate::Node::shutdown) do it. Cancel safe: a leaving
    /// that has begun goes on.
    ///
    /// # Errors
    /// [`ChangeRefused`] if the node is in no cluster.
    pub async fn leave(&self) -> Result<StopCause, ChangeRefused> {
        self.begin_leave().await?;
        Ok(self.when_stopped().await?)
    }

    /// Declares the members at an address dead: they are removed, and what runs there stops. There is no way back
    /// for those incarnations, so be sure that they are gone.
    ///
    /// Gives when it is decided here; gossip tells the others. Cancel safe: dropped half way, it is done or not.
    ///
    /// # Errors
    /// [`ChangeRefused`]; nothing was changed.
    pub async fn down(&self, node: &Address) -> Result<(), ChangeRefused> {
        let node = node.clone();
        Ok(self.ask(|done| Command::Down { node, done }).await??)
    }

    /// Waits until this node is Up, and gives it as a member. Cancel safe.
    ///
    /// A node that nobody has told to join waits until somebody does.
    ///
    /// # Errors
    /// [`UpError`] if it cannot come Up any more, or the cluster has refused it.
    pub async fn when_up(&self) -> Result<Member, UpError> {
        self.when(View::up).await.unwrap_or(Err(UpError::NoMembership(NoMembership)))
    }

    /// Waits until this node is in no cluster for good, because it has left, was downed, or was removed. Cancel safe.
    ///
    /// # Errors
    /// [`NoMembership`] if the node stopped without leaving.
    pub async fn when_stopped(&self) -> Result<StopCause, NoMembership> {
        let stopped = |view: &View| match view.phase {
            Phase::Stopped(cause) => Some(cause),
            Phase::Idle | Phase::Joining | Phase::Member | Phase::Exiting => None,
        };
        self.when(stopped).await.ok_or(NoMembership)
    }

    /// Subscribes to what happens in the cluster from now on; the state as it is comes first.
    #[must_use]
    pub fn subscribe(&self) -> ClusterUpdates {
        ClusterUpdates::new(self.shared.view.clone(), &self.shared.events)
    }

    /// Says why things are as they are: who has not seen what, what holds up convergence, when downing will decide.
    /// Cancel safe.
    ///
    /// # Errors
    /// [`NoMembership`] when the node has stopped.
    pub async fn explain(&self) -> Result<Explanation, NoMembership> {
        self.ask(|done| Command::Explain { done }).await
    }

    /// Leaves within a time, if there is anybody to leave; tells whether no cluster counts on this node any more.
    pub(crate) async fn leave_within(&self, patience: Duration) -> bool {
        match self.phase() {
            Phase::Idle | Phase::Stopped(_) => return true,
            Phase::Joining | Phase::Member | Phase::Exiting => {}
        }
        if patience.is_zero() {
            return false;
        }
        tokio::time::timeout(patience, self.leave()).await.is_ok_and(|left| left.is_ok())
    }

    /// Counts the membership PDUs for which there was no room.
    pub(crate) fn dropped_pdus(&self) -> u64 {
        self.shared.inbox.dropped()
    }

    async fn begin_leave(&self) -> Result<(), ChangeRefused> {
        Ok(self.ask(|done| Command::Leave { done }).await??)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, NoMembership> {
        let (done, outcome) = oneshot::channel();
        self.shared.commands.send(command(done)).await.map_err(|_| NoMembership)?;
        outcome.await.map_err(|_| NoMembership)
    }

    /// Waits until `pick` finds what it looks for; none if the task ends before.
    async fn when<T>(&self, pick: impl Fn(&View) -> Option<T>) -> Option<T> {
        let mut view = self.shared.view.clone();
        loop {
            let found = pick(&view.borrow_and_update());
            if found.is_some() {
                return found;
            }
            view.changed().await.ok()?;
        }
    }
}

impl View {
    fn up(&self) -> Option<Result<Member, UpError>> {
        if let Phase::Stopped(cause) = self.phase {
            return Some(Err(UpError::Ended(cause)));
        }
        if let Some((by, why)) = self.refused.clone() {
            return Some(Err(UpError::Refused { by, why }));
        }
        // Who is on its way out has been Up if it has a number.
        let member = self.state.self_member().filter(|member| member.up_number().is_some())?;
        Some(Ok(member.clone()))
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("own", &self.shared.own)
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

/// Commands that may wait for the task; more wait for room.
const COMMANDS: usize = 16;
