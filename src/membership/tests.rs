//! Gives the tests of the machine their nodes and states, and lets whole clusters gossip.

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::gossip::{Gossip, OwnMark, RemovalTime};
use super::member::{Member, MemberStatus, UpNumber};
use super::profile::{Label, Profile};
use super::reachability::ReachabilityStatus;
use super::vector_clock::{NodeKey, VectorClock};
use crate::address::{Address, Uid, UniqueAddress};

/// Names the node with this port; nodes are ordered by their numbers.
pub(in crate::membership) fn unique(n: u16) -> UniqueAddress {
    let address = Address::new("mem", "Test", "node", n).unwrap();
    UniqueAddress::new(address, Uid::new(u64::from(n) << 32))
}

pub(in crate::membership) fn number(n: u32) -> UpNumber {
    UpNumber::new(NonZeroU32::new(n).unwrap())
}

pub(in crate::membership) fn label(text: &str) -> Label {
    text.parse().unwrap()
}

/// Builds a version in which these nodes have made so many changes.
pub(in crate::membership) fn clock(counts: &[(u16, u64)]) -> VectorClock {
    let mut clock = VectorClock::default();
    for (node, count) in counts {
        (0..*count).for_each(|_| clock.increment(NodeKey::of(&unique(*node))));
    }
    clock
}

/// Builds a state of these members, all Up in this order of age; not stamped, seen by nobody.
pub(in crate::membership) fn gossip(nodes: &[u16]) -> Gossip {
    let mut state = Gossip::default();
    for (node, age) in nodes.iter().zip(1..) {
        let node = unique(*node);
        state.add(Member::joining(node.clone(), Profile::default())).unwrap();
        state.promote(&node, number(age)).unwrap();
    }
    state
}

/// Brings a member to a status along the table.
pub(in crate::membership) fn bring(state: &mut Gossip, n: u16, status: MemberStatus) {
    let node = unique(n);
    let now = state.member(&node).unwrap().status();
    if status == MemberStatus::Exiting && now != MemberStatus::Leaving {
        state.advance(&node, MemberStatus::Leaving).unwrap();
    }
    state.advance(&node, status).unwrap();
}

/// Builds a state of any members and tombstones among five nodes, with any of the rest.
pub(in crate::membership) fn any_gossip() -> impl Strategy<Value = Gossip> {
    let fates = vec(any_fate(), 5);
    let words = vec((1..6u16, 1..6u16, any_reachability()), 0..8);
    let stamps = vec((1..6u16, any_mark()), 0..8);
    (fates, words, stamps).prop_map(|(fates, words, stamps)| {
        let mut state = Gossip::default();
        for (fate, n) in fates.into_iter().zip(1..) {
            suffer(&mut state, n, fate);
        }
        for (observer, subject, status) in words {
            // Words of and about strangers are refused, which is as good as none.
            state.observe(&unique(observer), &unique(subject), status).unwrap_or_default();
        }
        stamps.into_iter().for_each(|(n, mark)| state.stamp(&unique(n), mark));
        state
    })
}

/// Says what became of a node in one state.
#[derive(Debug, Clone)]
enum Fate {
    Unknown,
    Member { profile: Profile, up: Option<u32>, status: MemberStatus },
    Removed { at: u64 },
}

fn any_fate() -> impl Strategy<Value = Fate> {
    let member = (any::<bool>(), 1..4u32, 0..9usize).prop_map(|(is_backend, up, choice)| {
        use MemberStatus::{Down, Exiting, Joining, Leaving, Up, WeaklyUp};
        let statuses = [Joining, WeaklyUp, Leaving, Exiting, Down, Up, Leaving, Exiting, Down];
        let roles = is_backend.then(|| label("backend"));
        Fate::Member {
            profile: Profile::default().with_roles(roles).unwrap(),
            up: (choice >= 5).then_some(up),
            status: statuses[choice],
        }
    });
    let removed = (0..5u64).prop_map(|at| Fate::Removed { at });
    prop_oneof![1 => Just(Fate::Unknown), 4 => member, 1 => removed]
}

fn any_reachability() -> impl Strategy<Value = ReachabilityStatus> {
    prop_oneof![
        Just(ReachabilityStatus::Reachable),
        Just(ReachabilityStatus::Unreachable),
        Just(ReachabilityStatus::Terminated),
    ]
}

fn any_mark() -> impl Strategy<Value = OwnMark> {
    prop_oneof![Just(OwnMark::Give), Just(OwnMark::Withhold)]
}

fn suffer(state: &mut Gossip, n: u16, fate: Fate) {
    let node = unique(n);
    match fate {
        Fate::Unknown => {}
        Fate::Member { profile, up, status } => {
            state.add(Member::joining(node.clone(), profile)).unwrap();
            if let Some(up) = up {
                state.promote(&node, number(up)).unwrap();
            }
            if state.member(&node).unwrap().status() != status {
                bring(state, n, status);
            }
        }
        Fate::Removed { at } => {
            state.add(Member::joining(node.clone(), Profile::default())).unwrap();
            state.remove(&node, RemovalTime::since_1970(Duration::from_secs(at))).unwrap();
        }
    }
}
