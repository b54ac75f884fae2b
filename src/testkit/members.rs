//! Lets a test say what it expects of a cluster, as its nodes see it.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::panic::Location;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::address::UniqueAddress;
use crate::membership::event::ClusterEvent;
use crate::membership::machine::Phase;
use crate::membership::member::{Member, MemberStatus};
use crate::membership::state::ClusterState;
use crate::node::Node;
use crate::node::cluster::{Cluster, ClusterUpdate, ClusterUpdates};

/// Watches the cluster that some nodes are in, each with its own eyes.
///
/// Every expectation is about all nodes that are watched, except those that have stopped, or are members no more: they
/// are asked no further. It waits for what the nodes tell, without looking again and again, for up to the
/// [limit](Self::within), and fails with every node's view and [explanation](Cluster::explain).
///
/// ```
/// use std::time::Duration;
/// use tellwire::testkit::Network;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Network::builder(3).seed(7).seeds([0, 1]).start().await?;
/// let mut members = network.members();
/// members.all_up(3).await;
/// let lost = network.node(2)?.unique_address();
/// members.leader_is(&network.node(0)?.unique_address()).await;
///
/// network.crash(2).await?;
/// members.unreachable(&lost).await;
/// members.removed(&lost).await;
/// members.all_up(2).await;
///
/// members.watch(&network.restart(2).await?);
/// members.all_up(3).await;
/// # Ok(())
/// # }
/// ```
pub struct Members {
    watches: Vec<Watch>,
    /// Everybody who was a member in the eyes of a watched node.
    known: BTreeSet<UniqueAddress>,
    limit: Duration,
}

/// Is one node that is watched.
struct Watch {
    cluster: Cluster,
    updates: ClusterUpdates,
    has_ended: bool,
}

impl Members {
    /// Begins to watch some nodes. An expectation waits for 60 s.
    #[must_use]
    pub fn of<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Self {
        let mut members = Self { watches: Vec::new(), known: BTreeSet::new(), limit: USUAL };
        nodes.into_iter().for_each(|node| members.watch(node));
        members
    }

    /// Sets how long an expectation waits from here on.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Watches one more node, such as one that was restarted.
    pub fn watch(&mut self, node: &Node) {
        let cluster = node.cluster();
        let updates = cluster.subscribe();
        let mut watch = Watch { cluster, updates, has_ended: false };
        watch.catch_up(&mut self.known);
        self.watches.push(watch);
    }

    /// Expects all nodes to see the same members, as many as this, themselves among them, all Up and reachable.
    ///
    /// # Panics
    /// Fails the test if it does not come to that in time, or if nobody is left to be asked.
    #[track_caller]
    pub fn all_up(&mut self, count: usize) -> impl Future<Output = ()> {
        let what = format!("all see the same {count} members Up and reachable");
        self.expect(what, None, move |states| {
            let (mut sets, mut ids) = (BTreeSet::new(), BTreeSet::new());
            for state in states {
                sets.insert(state.members().iter().map(Member::node).collect::<Vec<_>>());
                ids.insert(state.cluster());
            }
            let is_alike = sets.len() == 1 && ids.len() == 1;
            is_alike && states.iter().all(|state| is_all_up(state, count))
        })
    }

    /// Expects an incarnation of a node to be no member any more, in the eyes of all others.
    ///
    /// # Panics
    /// Fails the test at once if nobody who is watched has seen it as a member, or if nobody is left to be asked; and
    /// if it is not removed in time.
    #[track_caller]
    pub fn removed(&mut self, node: &UniqueAddress) -> impl Future<Output = ()> {
        let (what, gone) = (format!("{node} is removed"), node.clone());
        let is_gone = move |state: &ClusterState| state.member(&gone).is_none();
        self.expect(what, Some(node), move |states| states.iter().all(&is_gone))
    }

    /// Expects a member to be unreachable in the eyes of all others.
    ///
    /// # Panics
    /// As [`removed`](Self::removed).
    #[track_caller]
    pub fn unreachable(&mut self, node: &UniqueAddress) -> impl Future<Output = ()> {
        let (what, lost) = (format!("{node} is unreachable"), node.clone());
        let is_lost = move |state: &ClusterState| state.unreachable().contains(&lost);
        self.expect(what, Some(node), move |states| states.iter().all(&is_lost))
    }

    /// Expects a node to be a member that everybody can reach, in the eyes of all others.
    ///
    /// # Panics
    /// As [`removed`](Self::removed).
    #[track_caller]
    pub fn reachable(&mut self, node: &UniqueAddress) -> impl Future<Output = ()> {
        let (what, found) = (format!("{node} is a reachable member"), node.clone());
        let is_found = move |state: &ClusterState| {
            state.member(&found).is_some() && !state.unreachable().contains(&found)
        };
        self.expect(what, Some(node), move |states| states.iter().all(&is_found))
    }

    /// Expects all nodes to hold the same one to be the leader.
    ///
    /// # Panics
    /// Fails the test if it does not come to that in time, or if nobody is left to be asked.
    #[track_caller]
    pub fn leader_is(&mut self, node: &UniqueAddress) -> impl Future<Output = ()> {
        let (what, leader) = (format!("{node} leads"), node.clone());
        let is_leader = move |state: &ClusterState| state.leader() == Some(&leader);
        self.expect(what, None, move |states| states.iter().all(&is_leader))
    }

    /// Expects the state of every node to be as `is_so` wants it; it is looked at after each event, and at the end.
    ///
    /// # Panics
    /// Fails the test, saying `what`, if it does not come to that in time, or if nobody is left to be asked.
    #[track_caller]
    pub fn until(
        &mut self,
        what: &str,
        is_so: impl Fn(&ClusterState) -> bool,
    ) -> impl Future<Output = ()> {
        self.expect(what.to_owned(), None, move |states| states.iter().all(&is_so))
    }

    /// Waits until the states of the nodes, without that of `about`, are as `is_so` wants them. Cancel safe.
    #[track_caller]
    fn expect(
        &mut self,
        what: String,
        about: Option<&UniqueAddress>,
        is_so: impl Fn(&[ClusterState]) -> bool,
    ) -> impl Future<Output = ()> {
        let (caller, about) = (Location::caller(), about.cloned());
        async move {
            let (start, about) = (Instant::now(), about.as_ref());
            let come = tokio::time::timeout(self.limit, self.come(about, &is_so)).await;
            let why = match come {
                Ok(Ok(())) => return,
                Ok(Err(why)) => format!("{why}, after {:?}", start.elapsed()),
                // Something may have changed without an event.
                Err(_) if is_so(&self.states(about)) => return,
                Err(_) => format!("not within {:?}", self.limit),
            };
            panic!("{caller}: expected: {what}; {why}\n{}", self.standing().await);
        }
    }

    async fn come(
        &mut self,
        about: Option<&UniqueAddress>,
        is_so: impl Fn(&[ClusterState]) -> bool,
    ) -> Result<(), &'static str> {
        loop {
            for watch in &mut self.watches {
                watch.catch_up(&mut self.known);
            }
            if about.is_some_and(|node| !self.known.contains(node)) {
                return Err("it was never a member in the eyes of those that are watched");
            }
            let states = self.states(about);
            if states.is_empty() {
                return Err("nobody is left to be asked");
            }
            if is_so(&states) {
                return Ok(());
            }
            self.news(about).await;
        }
    }

    /// Waits until any of the nodes tells something.
    async fn news(&mut self, about: Option<&UniqueAddress>) {
        let asked = self.watches.iter_mut().filter(|watch| watch.is_asked(about));
        let mut told: Vec<_> = asked.map(|watch| Box::pin(watch.hear())).collect();
        // The first is enough; what others have told is taken before the next look.
        let first = std::future::poll_fn(|cx| {
            let mut polled = told.iter_mut().map(|told| told.as_mut().poll(cx));
            polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
        });
        self.known.extend(first.await);
    }

    fn states(&self, about: Option<&UniqueAddress>) -> Vec<ClusterState> {
        let asked = self.watches.iter().filter(|watch| watch.is_asked(about));
        asked.map(|watch| watch.cluster.state()).collect()
    }

    /// Says what each node sees, and why.
    async fn standing(&self) -> String {
        let mut text = String::new();
        for watch in &self.watches {
            watch.describe(&mut text).await;
        }
        text
    }
}

impl Watch {
    /// Tells whether this node's view matters for an expectation about a node.
    fn is_asked(&self, about: Option<&UniqueAddress>) -> bool {
        !self.has_ended && about != Some(self.cluster.state().own())
    }

    /// Takes what the node has told already.
    fn catch_up(&mut self, known: &mut BTreeSet<UniqueAddress>) {
        let mut cx = Context::from_waker(Waker::noop());
        while !self.has_ended {
            let Poll::Ready(members) = pin!(self.hear()).poll(&mut cx) else { return };
            known.extend(members);
        }
    }

    /// Takes the next that the node tells, its end included, and gives the members that it is about. Cancel safe.
    async fn hear(&mut self) -> Vec<UniqueAddress> {
        let told = self.updates.next().await;
        self.has_ended = told.is_none() || matches!(self.cluster.phase(), Phase::Stopped(_));
        match told {
            Some(ClusterUpdate::Snapshot { state, .. }) => {
                state.members().iter().map(|member| member.node().clone()).collect()
            }
            Some(ClusterUpdate::Event(event)) => {
                subject(&event).into_iter().map(|member| member.node().clone()).collect()
            }
            None => Vec::new(),
        }
    }

    async fn describe(&self, text: &mut String) {
        let state = self.cluster.state();
        let members = state.members().iter().map(|member| {
            let is_lost = state.unreachable().contains(member.node());
            let mark = if is_lost { ", unreachable" } else { "" };
            format!("    {} {}{mark}\n", member.node(), member.status())
        });
        let members: String = members.collect();
        // Writing into a text does not fail.
        write!(text, "{} sees\n{members}", state.own()).ok();
        match tokio::time::timeout(PATIENCE, self.cluster.explain()).await {
            Ok(Ok(explanation)) => {
                let lines = explanation.to_string().replace('\n', "\n    ");
                writeln!(text, "  because\n    {lines}").ok();
            }
            Ok(Err(_)) => text.push_str("  and has stopped\n"),
            Err(_) => text.push_str("  and does not say why\n"),
        }
    }
}

fn is_all_up(state: &ClusterState, count: usize) -> bool {
    let is_up = |member: &Member| member.status() == MemberStatus::Up;
    state.members().len() == count
        && state.members().iter().all(is_up)
        && state.self_member().is_some()
        && state.unreachable().is_empty()
}

/// Gives the member that an event is about.
fn subject(event: &ClusterEvent) -> Option<&Member> {
    match event {
        ClusterEvent::Joined(member)
        | ClusterEvent::WeaklyUp(member)
        | ClusterEvent::Up(member)
        | ClusterEvent::Leaving(member)
        | ClusterEvent::Exited(member)
        | ClusterEvent::Downed(member)
        | ClusterEvent::Removed { member, .. }
        | ClusterEvent::Unreachable(member)
        | ClusterEvent::Reachable(member) => Some(member),
        ClusterEvent::LeaderChanged(_)
        | ClusterEvent::JoinRefused { .. }
        | ClusterEvent::Island { .. }
        | ClusterEvent::Starved { .. }
        | ClusterEvent::Stopped(_) => None,
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("watched", &self.watches.len())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// How long an expectation waits if it is not told.
const USUAL: Duration = Duration::from_secs(60);
/// How long a node may take to explain itself.
const PATIENCE: Duration = Duration::from_secs(1);
