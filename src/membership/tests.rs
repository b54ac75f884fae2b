//! Gives the tests of the machine their nodes and states, and lets whole clusters gossip.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::Config;

use super::cluster_id::ClusterId;
use super::exchange::{Envelope, Exchange, Outcome, Receiver, Refusal};
use super::gossip::{Gossip, GossipForm, OwnMark, RemovalTime};
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

/// Builds a state of members with these statuses; those that ever were Up are numbered from 1.
pub(in crate::membership) fn gossip_of(members: &[(u16, MemberStatus)]) -> Gossip {
    let mut state = Gossip::default();
    for (n, status) in members {
        join(&mut state, *n, Profile::default(), *status);
    }
    state
}

/// Adds a member and brings it to a status; one that is past WeaklyUp gets the next number.
pub(in crate::membership) fn join(
    state: &mut Gossip,
    n: u16,
    profile: Profile,
    status: MemberStatus,
) {
    let node = unique(n);
    state.add(Member::joining(node.clone(), profile)).unwrap();
    match status {
        MemberStatus::Joining => {}
        MemberStatus::WeaklyUp => bring(state, n, status),
        _ => {
            let youngest = state.members().filter_map(Member::up_number).max();
            state.promote(&node, youngest.map_or(UpNumber::FIRST, UpNumber::next)).unwrap();
            if status != MemberStatus::Up {
                bring(state, n, status);
            }
        }
    }
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

/// Is one thing that happens in a cluster of five nodes.
#[derive(Debug, Clone)]
enum Event {
    /// The first sends its state to the second, and they answer each other.
    Gossip(u16, u16),
    /// The first moves the second to this status, if the table allows it.
    Advance(u16, u16, MemberStatus),
    /// The first finds this about the second.
    Observe(u16, u16, ReachabilityStatus),
    /// The first removes the second, if that is at its end.
    Remove(u16, u16),
    /// The first lets node 5 in.
    LetIn(u16),
    /// The first moves the second to Up.
    Promote(u16, u16),
}

fn any_event() -> impl Strategy<Value = Event> {
    let status = prop_oneof![
        Just(MemberStatus::WeaklyUp),
        Just(MemberStatus::Leaving),
        Just(MemberStatus::Exiting),
        Just(MemberStatus::Down),
    ];
    let found =
        prop_oneof![Just(ReachabilityStatus::Reachable), Just(ReachabilityStatus::Unreachable)];
    let pair = || (1..6u16, 1..6u16);
    prop_oneof![
        8 => pair().prop_map(|(a, b)| Event::Gossip(a, b)),
        3 => (pair(), status).prop_map(|((a, b), status)| Event::Advance(a, b, status)),
        2 => (pair(), found).prop_map(|((a, b), found)| Event::Observe(a, b, found)),
        2 => pair().prop_map(|(a, b)| Event::Remove(a, b)),
        1 => (1..6u16).prop_map(Event::LetIn),
        1 => pair().prop_map(|(a, b)| Event::Promote(a, b)),
    ]
}

/// Holds what each node of a cluster knows, and checks at each step what must always be true.
#[derive(Debug)]
struct Cluster {
    states: BTreeMap<u16, Gossip>,
    clock: u64,
}

impl Cluster {
    /// Starts with the nodes 1 to 4, all Up and agreed.
    fn new() -> Self {
        let mut state = gossip(&[1, 2, 3, 4]);
        state.stamp(&unique(1), OwnMark::Give);
        Self { states: (1..5).map(|n| (n, state.clone())).collect(), clock: 0 }
    }

    fn happen(&mut self, event: &Event) {
        self.clock += 1;
        let now = RemovalTime::since_1970(Duration::from_secs(self.clock));
        match event {
            Event::Gossip(from, to) => self.converse(*from, *to),
            Event::Advance(by, n, status) => {
                self.change(*by, |state| state.advance(&unique(*n), *status).is_ok());
            }
            Event::Observe(by, n, status) if by != n => self.change(*by, |state| {
                state.observe(&unique(*by), &unique(*n), *status).unwrap_or_default()
            }),
            Event::Remove(by, n) if by != n => self.change(*by, |state| {
                let is_ending = state.member(&unique(*n)).is_some_and(|m| m.status().is_ending());
                is_ending && state.remove(&unique(*n), now).is_ok()
            }),
            Event::LetIn(by) => self.let_in(*by),
            Event::Promote(by, n) => {
                let age = u32::try_from(self.clock).unwrap() + 4;
                self.change(*by, |state| state.promote(&unique(*n), number(age)).is_ok());
            }
            Event::Observe(..) | Event::Remove(..) => {}
        }
    }

    fn let_in(&mut self, by: u16) {
        let member = Member::joining(unique(5), Profile::default());
        self.change(by, |state| state.add(member).is_ok());
        let Some(welcome) = self.states.get(&by).filter(|state| state.contains(&unique(5))) else {
            return;
        };
        let mut welcome = welcome.clone();
        welcome.mark_seen(&unique(5), OwnMark::Give);
        self.states.entry(5).or_insert(welcome);
    }

    fn change(&mut self, by: u16, change: impl FnOnce(&mut Gossip) -> bool) {
        let Some(mut state) = self.states.get(&by).cloned() else { return };
        if change(&mut state) {
            state.stamp(&unique(by), OwnMark::Give);
            self.set(by, state);
        }
    }

    /// Lets a state go back and forth until neither answers.
    fn converse(&mut self, mut from: u16, mut to: u16) {
        if from == to || !self.states.contains_key(&from) {
            return;
        }
        for _ in 0..10 {
            let gossip = Box::new(GossipForm::from(&self.states[&from]));
            let Some(local) = self.states.get(&to) else { return };
            let receiver = Receiver { own: &unique(to), local, mark: OwnMark::Give };
            let envelope =
                Envelope { from: unique(from), to: unique(to), cluster: ClusterId::new(7), gossip };
            let received = match receiver.receive(envelope) {
                Ok(received) => received,
                Err(refusal) => return assert!(is_harmless(&refusal), "{refusal}"),
            };
            assert_ne!(received.outcome, Outcome::Corrected, "no node here lies");
            self.set(to, received.gossip);
            if received.reply == Exchange::Nothing {
                return;
            }
            (from, to) = (to, from);
        }
        panic!("{from} and {to} answer each other for ever");
    }

    fn set(&mut self, n: u16, after: Gossip) {
        let before = self.states.insert(n, after);
        if let Some(before) = before {
            assert_forward(&before, &self.states[&n]);
        }
        self.assert_one_state_per_version();
    }

    fn assert_one_state_per_version(&self) {
        for (a, left) in &self.states {
            for (b, right) in self.states.range(a + 1..) {
                let is_same = left.clock() == right.clock();
                assert!(!is_same || left.agrees_with(right), "{a}: {left:?}\n{b}: {right:?}");
            }
        }
    }

    /// Lets those that nobody has removed find each other again, and gossip.
    fn heal(&mut self) -> BTreeSet<u16> {
        let alive = self.alive();
        for by in &alive {
            for n in 1..6 {
                self.happen(&Event::Observe(*by, n, ReachabilityStatus::Reachable));
            }
        }
        for _ in 0..3 {
            for from in &alive {
                alive.iter().for_each(|to| self.converse(*from, *to));
            }
        }
        alive
    }

    /// Gives the nodes that nobody has removed, less node 5 if only removed nodes know of it.
    fn alive(&self) -> BTreeSet<u16> {
        let is_gone = |n: &u16| self.states.values().any(|state| state.has_tombstone(&unique(*n)));
        let mut alive: BTreeSet<u16> =
            self.states.keys().copied().filter(|n| !is_gone(n)).collect();
        let knows_5 = |n: &u16| *n != 5 && self.states[n].contains(&unique(5));
        if !alive.iter().any(knows_5) {
            alive.remove(&5);
        }
        alive
    }
}

/// Tells whether a refusal is one that honest nodes meet.
fn is_harmless(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::UnknownSender { .. }
            | Refusal::UnreachableSender { .. }
            | Refusal::WithoutMe
            | Refusal::BuriesMe
    )
}

fn assert_forward(before: &Gossip, after: &Gossip) {
    for member in before.members() {
        match after.member(member.node()) {
            Some(now) => assert!(now.status() >= member.status(), "a status went backwards"),
            None => assert!(after.has_tombstone(member.node()), "a member got lost"),
        }
    }
    for (node, _) in before.tombstones() {
        assert!(after.has_tombstone(node) && !after.contains(node), "a member came back");
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_versions_are_unique_and_those_left_agree(
        events in vec(any_event(), 0..60),
    ) {
        let mut cluster = Cluster::new();
        events.iter().for_each(|event| cluster.happen(event));
        let alive = cluster.heal();
        let states: Vec<_> = alive.iter().map(|n| &cluster.states[n]).collect();
        for pair in states.windows(2) {
            prop_assert_eq!(pair[0].clock(), pair[1].clock());
            prop_assert_eq!(pair[0], pair[1]);
        }
    }
}
