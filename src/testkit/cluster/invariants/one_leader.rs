//! Holds that a converged view has one leader at most: [`OneLeader`].

use super::{Invariant, Look};
use crate::address::UniqueAddress;
use crate::membership::leader::leader;
use crate::membership::member::MemberStatus;

/// Holds that no two nodes may act as leaders while each takes part in the other's converged view.
///
/// Two nodes with the same version agree on the leader as well, whoever it is. A node that has not
/// heard of a newer version yet may believe in an earlier leader, but neither acts on it nor can
/// the new one before it has heard.
///
/// Source: rule 2 of [`crate::membership`].
#[derive(Debug)]
pub struct OneLeader;

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "at most one leader per converged view"
    }

    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        let Some(mine) = converged_leader(look, look.node) else { return Ok(()) };
        let gossip = look.membership.gossip();
        for other in look.cluster.running().filter(|other| *other != look.node) {
            let Some(theirs) = converged_leader(look, other).filter(|theirs| *theirs != mine)
            else {
                continue;
            };
            let is_same = look.cluster.gossip(other).is_some_and(|it| it.clock() == gossip.clock());
            if is_same {
                return Err(format!("{mine} leads here, and {theirs} the same view at {other}"));
            }
            if mine == *look.own && counts_for(look, other) && leads_and_counts_me(look, other) {
                return Err(format!("{mine} and {theirs} lead each other"));
            }
        }
        Ok(())
    }
}

/// Returns whom a node holds to be the leader, if its view is converged.
fn converged_leader(look: &Look<'_>, node: u16) -> Option<UniqueAddress> {
    let found = look.cluster.with_perspective(node, |view| {
        let leader = if view.is_converged() { leader(view) } else { None };
        leader.cloned()
    });
    found.flatten()
}

fn counts_for(look: &Look<'_>, other: u16) -> bool {
    let other = look.cluster.own(other);
    takes_part(other.and_then(|other| look.membership.gossip().member(other)).map(|it| it.status()))
}

fn leads_and_counts_me(look: &Look<'_>, other: u16) -> bool {
    let leads = converged_leader(look, other).as_ref() == look.cluster.own(other);
    let theirs = look.cluster.gossip(other);
    leads && takes_part(theirs.and_then(|it| it.member(look.own)).map(|it| it.status()))
}

fn takes_part(status: Option<MemberStatus>) -> bool {
    status.is_some_and(MemberStatus::takes_part)
}
