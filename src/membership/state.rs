//! Shows what a node knows of its cluster at one moment: [`ClusterState`].
//!
//! Floor 2: a value; cloning it is cheap, so that the shell can hand it to every subscriber.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cluster_id::ClusterId;
use super::member::Member;
use crate::address::UniqueAddress;

/// Is what a node knows of its cluster at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterState(Arc<Known>);

/// What a [`ClusterState`] shares.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) own: UniqueAddress,
    pub(super) cluster: Option<ClusterId>,
    pub(super) members: Vec<Member>,
    pub(super) unreachable: BTreeSet<UniqueAddress>,
    pub(super) leader: Option<UniqueAddress>,
    pub(super) seen: BTreeSet<UniqueAddress>,
    pub(super) convergence: Convergence,
}

/// Says whether every member that matters has seen the present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Convergence {
    /// All have.
    Reached,
    /// Somebody has not, or cannot be reached.
    Pending,
}

impl ClusterState {
    pub(super) fn new(known: Known) -> Self {
        Self(Arc::new(known))
    }

    /// Returns which node this is.
    #[must_use]
    pub fn own(&self) -> &UniqueAddress {
        &self.0.own
    }

    /// Returns which cluster it belongs to; none before it is a member.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.0.cluster
    }

    /// Returns the members in the order of their addresses.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.0.members
    }

    /// Returns this node as a member; none before it is one, and after it was removed.
    #[must_use]
    pub fn self_member(&self) -> Option<&Member> {
        self.member(&self.0.own)
    }

    /// Returns the member that is this incarnation of a node.
    #[must_use]
    pub fn member(&self, node: &UniqueAddress) -> Option<&Member> {
        let place = self.0.members.binary_search_by(|member| member.node().cmp(node)).ok()?;
        self.0.members.get(place)
    }

    /// Returns the members that somebody cannot reach; observers that are Down do not count.
    #[must_use]
    pub fn unreachable(&self) -> &BTreeSet<UniqueAddress> {
        &self.0.unreachable
    }

    /// Returns who leads the own data centre.
    #[must_use]
    pub fn leader(&self) -> Option<&UniqueAddress> {
        self.0.leader.as_ref()
    }

    /// Returns who has seen this state.
    #[must_use]
    pub fn seen(&self) -> &BTreeSet<UniqueAddress> {
        &self.0.seen
    }

    /// Says whether every member that matters has seen it.
    #[must_use]
    pub fn convergence(&self) -> Convergence {
        self.0.convergence
    }
}
