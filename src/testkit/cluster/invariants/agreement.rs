//! Holds that running nodes agree in the end; the liveness behind [`settle`].
//!
//! It cannot be checked after every step, only waited for once nothing disturbs the cluster.
//!
//! [`settle`]: super::super::SimCluster::settle

use std::collections::BTreeSet;

use super::super::SimCluster;
use crate::address::UniqueAddress;
use crate::membership::machine::Phase;
use crate::membership::member::MemberStatus;

/// Says what keeps the running nodes from agreeing that they, and only they, are Up.
///
/// They agree if all are members of the same version of the state, which holds them and nobody
/// else, all Up, and if that version is converged for each of them. No nodes agree at once.
#[must_use]
pub fn obstacle(cluster: &SimCluster) -> Option<String> {
    let running: BTreeSet<_> = cluster.running().filter_map(|node| cluster.own(node)).collect();
    let first = cluster.running().next()?;
    cluster.running().find_map(|node| node_obstacle(cluster, node, first, &running))
}

/// Says in one line what a node knows.
#[must_use]
pub fn describe(cluster: &SimCluster, node: u16) -> String {
    let Some(membership) = cluster.membership(node) else {
        return format!("node {node} does not run");
    };
    let gossip = membership.gossip();
    let members = gossip.members().map(|member| {
        let mark = if gossip.has_seen(member.node()) { "" } else { " (not seen)" };
        format!("{}{}{mark}", member.node().address().port(), member.status())
    });
    let rows = gossip.reachability().records().map(|record| {
        let ends = [record.observer, record.subject].map(|end| end.address().port());
        format!("{}>{} {:?}", ends[0], ends[1], record.status)
    });
    let (members, rows): (Vec<_>, Vec<_>) = (members.collect(), rows.collect());
    format!("node {node} {:?}: {members:?} {rows:?}", membership.phase())
}

fn node_obstacle(
    cluster: &SimCluster,
    node: u16,
    first: u16,
    running: &BTreeSet<&UniqueAddress>,
) -> Option<String> {
    let membership = cluster.membership(node)?;
    if membership.phase() != Phase::Member {
        return Some(format!("node {node} is no member but {:?}", membership.phase()));
    }
    let gossip = membership.gossip();
    let members: BTreeSet<_> = gossip.members().map(|member| member.node()).collect();
    if members != *running {
        return Some(format!("node {node} knows other members than there are nodes"));
    }
    if let Some(member) = gossip.members().find(|member| member.status() != MemberStatus::Up) {
        return Some(format!("node {node} has {} as {}", member.node(), member.status()));
    }
    if cluster.gossip(first).is_some_and(|other| other.clock() != gossip.clock()) {
        return Some(format!("nodes {first} and {node} have other versions"));
    }
    let is_converged = cluster.with_perspective(node, |view| view.is_converged());
    (is_converged != Some(true)).then(|| format!("node {node} is not converged"))
}
