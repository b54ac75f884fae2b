//! Holds that one observer's word is not enough against a majority: [`HonestMajority`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Invariant, Look};
use crate::address::UniqueAddress;
use crate::membership::gossip::Gossip;
use crate::membership::member::MemberStatus;

/// Holds that nobody is downed for the word of a single observer while a majority reaches it.
///
/// Looked at is the moment when a node is Down for the first time anywhere: what did the state say
/// before, and what was the network like? It must not be that exactly one member had a complaint
/// about it, that it had none itself, and that more than half of the members, itself among them,
/// had none about it and could in truth reach it both ways. Nodes that a scenario orders dead do
/// not count, nor do restarted ones, whose successor is the proof; and what the network was like
/// must have lasted, for some may have heard of its recovery and some not.
///
/// What it does not hold: two nodes that both complain of each other both go, since nobody can
/// tell which of them is at fault.
///
/// Source: the decision tables of [`crate::membership::downing`].
#[derive(Debug, Default)]
pub struct HonestMajority {
    downed: BTreeSet<UniqueAddress>,
    /// The last state of each incarnation in which it had downed nobody new.
    before: BTreeMap<UniqueAddress, Gossip>,
}

impl Invariant for HonestMajority {
    fn name(&self) -> &'static str {
        "no member is downed by a single observer when a majority reaches it"
    }

    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        let gossip = look.membership.gossip();
        let is_new = |node: &UniqueAddress| !self.downed.contains(node);
        let down = gossip.members().filter(|member| member.status() == MemberStatus::Down);
        let down: Vec<_> = down.map(|member| member.node()).filter(|node| is_new(node)).collect();
        let before = self.before.insert(look.own.clone(), gossip.clone());
        for node in down {
            self.downed.insert(node.clone());
            let observer = before.as_ref().and_then(|before| lone_observer(look, before, node));
            if let Some(observer) = observer {
                return Err(format!("{node} is downed for the word of {observer} alone"));
            }
        }
        Ok(())
    }
}

/// Returns the only member that complains of `node`, if a majority has every reason not to.
fn lone_observer<'a>(
    look: &Look<'_>,
    before: &'a Gossip,
    node: &UniqueAddress,
) -> Option<&'a UniqueAddress> {
    let cluster = look.cluster;
    let number = node.address().port();
    let is_well = cluster.own(number) == Some(node) && !cluster.is_paused(number);
    if !is_well || cluster.undisturbed_for() < RECENT || cluster.was_ordered_down(node) {
        return None;
    }
    let table = before.reachability();
    let is_living = |other: &UniqueAddress| {
        before.member(other).is_some_and(|member| member.status() != MemberStatus::Down)
    };
    let observers: Vec<_> =
        table.observers_of(node).into_iter().filter(|other| is_living(other)).collect();
    let &[observer] = observers.as_slice() else { return None };
    if !table.unreachable_from(node).is_empty() {
        return None;
    }
    let reaches = |other: &UniqueAddress| {
        let from = other.address().port();
        let is_open = cluster.carries(from, number) && cluster.carries(number, from);
        cluster.own(from) == Some(other) && is_open && !cluster.is_paused(from)
    };
    let members: Vec<_> = before.members().filter(|it| it.status() != MemberStatus::Down).collect();
    let honest = members.iter().filter(|it| it.node() != observer && reaches(it.node())).count();
    (2 * honest > members.len()).then_some(observer)
}

/// What was done to the cluster later than this may not be known to all.
const RECENT: Duration = Duration::from_secs(8);
