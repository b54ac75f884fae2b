//! Says what happened to the cluster, as this node sees it: [`ClusterEvent`].
//!
//! Floor 2: words only. Each change is told once, when this node first knows of it, in this order: members that are
//! gone, other changes of members, lost members, found ones, the leader.

use std::time::Duration;

use super::cluster_id::ClusterId;
use super::member::{Member, MemberStatus};
use super::profile::Label;
use crate::address::UniqueAddress;

/// Tells of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterEvent {
    /// A node has joined, and takes no part in decisions yet.
    Joined(Member),
    /// A joining member was let work although the cluster cannot converge.
    WeaklyUp(Member),
    /// A member is a full one.
    Up(Member),
    /// A member has been asked to leave.
    Leaving(Member),
    /// A member hands over its duties and then stops; told of this node too, whose duties are then to be ended.
    Exited(Member),
    /// A member was declared dead.
    Downed(Member),
    /// A member is gone for ever.
    Removed {
        /// What was last known of it.
        member: Member,
        /// What it was before: Exiting after a farewell, Down after a crash; anything else if news came late.
        previous: MemberStatus,
    },
    /// Somebody cannot reach a member.
    Unreachable(Member),
    /// Everybody can reach a member again.
    Reachable(Member),
    /// Another node leads the own data centre, or none does.
    LeaderChanged(Option<UniqueAddress>),
    /// A node was not let in; told on both sides.
    JoinRefused {
        /// Who wanted in.
        joiner: UniqueAddress,
        /// Who refused.
        by: UniqueAddress,
        /// Why.
        why: JoinRefusal,
    },
    /// Another cluster was found behind a seed or a former member; told once per cluster. They never merge: stop the
    /// nodes of one and let them join the other.
    Island {
        /// The other cluster.
        cluster: ClusterId,
        /// A member of it.
        member: UniqueAddress,
    },
    /// This process was held up; it accuses nobody for a while.
    Starved {
        /// Time since its last round.
        silent_for: Duration,
    },
    /// This node is no member any more, and never will be again; the last event.
    Stopped(StopCause),
}

/// Says why a node may not join.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinRefusal {
    /// Settings that all members must share differ: the operator's fault. The node has given up.
    Settings {
        /// Names of those that are missing or differ.
        names: Vec<Label>,
    },
    /// This incarnation was a member and was removed: restart the node. It has stopped.
    WasRemoved,
    /// The cluster has all the members it may have. The node goes on asking.
    Full,
}

/// Says why a node is no member any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopCause {
    /// It has left.
    Left,
    /// It was declared dead, by itself or by others.
    Downed,
    /// The others have removed it while it could not hear them.
    Removed,
}
