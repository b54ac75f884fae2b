//! Holds for any partition: both sides decide from their own views, and at most one of them stays.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use proptest::prelude::{Just, Strategy, any, prop_assume, prop_oneof, proptest};

use super::super::{
    Alone, DownAll, DowningStrategy, KeepMajority, KeepOldest, StaticQuorum, Unreachability, View,
    ViewMember, ViewStatus,
};
use super::{address, rows_between};
use crate::address::UniqueAddress;

proptest! {
    #[test]
    fn of_two_sides_of_a_full_mesh_exactly_one_stays(
        sides in proptest::collection::vec(any::<bool>(), 2..14),
        ages in ages(),
    ) {
        prop_assume!(sides.contains(&true) && sides.contains(&false));
        let members: Vec<_> = (0..sides.len()).map(|it| up(it, ages[it])).collect();
        let majority = NonZeroUsize::new(sides.len() / 2 + 1).unwrap();
        for strategy in [
            Box::new(KeepMajority::new()) as Box<dyn DowningStrategy>,
            Box::new(KeepOldest::new(Alone::Down)),
            Box::new(KeepOldest::new(Alone::Keep)),
        ] {
            let decide = |side| outcome(&*strategy, &members, |it| sides[it] == side);
            let (here, there) = (decide(true), decide(false));
            assert_ne!(here.stays, there.stays, "{strategy:?}");
            // Either side comes to the same end: those of the other side, or its own, and nobody else.
            assert_eq!(here.downed, there.downed, "{strategy:?}");
        }
        let quorum = StaticQuorum::new(majority);
        for side in [true, false] {
            let size = sides.iter().filter(|it| **it == side).count();
            let outcome = outcome(&quorum, &members, |it| sides[it] == side);
            assert_eq!(outcome.stays, size >= majority.get());
        }
        assert!(!outcome(&DownAll, &members, |it| sides[it]).stays);
    }

    #[test]
    fn of_many_sides_at_most_one_stays(
        sides in proptest::collection::vec(0..4u8, 2..14),
        ages in ages(),
    ) {
        prop_assume!(sides.iter().any(|side| *side != sides[0]));
        let members: Vec<_> = (0..sides.len()).map(|it| up(it, ages[it])).collect();
        let majority = NonZeroUsize::new(sides.len() / 2 + 1).unwrap();
        for strategy in [
            Box::new(KeepMajority::new()) as Box<dyn DowningStrategy>,
            Box::new(KeepOldest::new(Alone::Keep)),
            Box::new(StaticQuorum::new(majority)),
        ] {
            let stays = |side: &u8| outcome(&*strategy, &members, |it| sides[it] == *side).stays;
            let present = (0..4).filter(|side| sides.contains(side));
            assert!(present.filter(stays).count() <= 1, "{strategy:?}");
        }
    }

    #[test]
    fn a_majority_stays_once_whichever_changes_either_side_has_missed(
        members in proptest::collection::vec((any::<bool>(), neighbouring()), 2..12),
    ) {
        assert_at_most_one_stays(&KeepMajority::new(), &[], &members);
    }

    #[test]
    fn the_oldest_stays_once_whichever_promotions_and_exits_either_side_has_missed(
        full in proptest::collection::vec(any::<bool>(), 1..4),
        members in proptest::collection::vec((any::<bool>(), promoted_or_gone()), 1..10),
    ) {
        for alone in [Alone::Down, Alone::Keep] {
            assert_at_most_one_stays(&KeepOldest::new(alone), &full, &members);
        }
    }

    #[test]
    fn broken_links_leave_a_full_mesh_that_everybody_agrees_on(
        size in 3..9usize,
        links in proptest::collection::vec(link(), 64),
        crashed in proptest::collection::vec(proptest::bool::weighted(0.15), 8),
    ) {
        let link = |a: usize, b: usize| links[8 * a.min(b) + a.max(b) - 1];
        let living: Vec<_> = (0..size).filter(|it| !crashed[*it]).collect();
        prop_assume!(is_connected(&living, |a, b| link(a, b) == Link::Whole));
        let is_told = |a: usize, b: usize| match link(a, b) {
            Link::Whole => crashed[b],
            Link::Broken => true,
            Link::OneWay => crashed[b] || a < b,
        };
        let decide = |own: &usize| mesh_survivors(*own, size, &living, is_told);
        let outcomes: BTreeSet<Vec<usize>> = living.iter().map(decide).collect();
        assert_eq!(outcomes.len(), 1, "they do not agree");
        let survivors = outcomes.first().unwrap();
        let is_mesh = |nodes: &[usize]| {
            nodes.iter().all(|a| nodes.iter().all(|b| a == b || link(*a, *b) == Link::Whole))
        };
        assert!(is_mesh(survivors), "some of {survivors:?} cannot reach each other");
        if is_mesh(&living) && 2 * living.len() > size {
            assert_eq!(survivors, &living);
        }
    }
}

/// What a side makes of a partition.
struct Outcome {
    /// Whether the side goes on: it has somebody, and downs none of its own.
    stays: bool,
    downed: BTreeSet<UniqueAddress>,
}

/// Lets the first member of a side decide, who sees all of it and nothing of the rest.
fn outcome(
    strategy: &dyn DowningStrategy,
    members: &[ViewMember],
    is_here: impl Fn(usize) -> bool,
) -> Outcome {
    let numbered = members.iter().cloned().enumerate();
    let (here, there): (Vec<_>, Vec<_>) = numbered.partition(|(number, _)| is_here(*number));
    let [here, there] =
        [here, there].map(|side| side.into_iter().map(|(_, it)| it).collect::<Vec<_>>());
    let own = here[0].address.clone();
    let seen = here.iter().map(|member| member.address.clone()).collect();
    let view = View::new(own, None, members.to_vec(), rows_between(&here, &there), seen);
    let downed: BTreeSet<_> = strategy.decide(&view).nodes(strategy, &view).into_iter().collect();
    let mut own_side = here.iter().filter(|member| member.status.is_downable()).peekable();
    let has_somebody = own_side.peek().is_some();
    let stays = has_somebody && !own_side.any(|member| downed.contains(&member.address));
    Outcome { stays, downed }
}

/// Lets both sides decide, each with its own idea of who is what. The `full` are Up for both, and older than arrivals.
fn assert_at_most_one_stays(
    strategy: &dyn DowningStrategy,
    full: &[bool],
    members: &[(bool, Skew)],
) {
    let full = full.iter().map(|side| (*side, [ViewStatus::Up; 2]));
    let members: Vec<(bool, Skew)> = full.chain(members.iter().copied()).collect();
    let known_to = |side: usize| -> Vec<ViewMember> {
        let known = |(number, (_, skew)): (usize, &(bool, Skew))| {
            let is_arrival = skew.iter().any(|status| status.is_arriving());
            let age = if is_arrival { 1_000 } else { 500 - number as u64 };
            ViewMember { status: skew[side], ..up(number, age) }
        };
        members.iter().enumerate().map(known).collect()
    };
    let stays = |side: usize| {
        let is_here = |number: usize| members[number].0 == (side == 0);
        let has_any = (0..members.len()).any(is_here);
        has_any && outcome(strategy, &known_to(side), is_here).stays
    };
    let has_both = members.iter().any(|it| it.0) && members.iter().any(|it| !it.0);
    assert!(!(has_both && stays(0) && stays(1)), "both stay: {members:?}");
}

/// Gives what each of the two sides holds a member to be.
type Skew = [ViewStatus; 2];

/// Gives statuses at most one step of life apart.
fn neighbouring() -> impl Strategy<Value = Skew> {
    let life = [
        ViewStatus::Joining,
        ViewStatus::WeaklyUp,
        ViewStatus::Up,
        ViewStatus::Leaving,
        ViewStatus::Exiting,
    ];
    (0..5usize, 0..2usize, any::<bool>()).prop_map(move |(at, step, is_here_first)| {
        let pair = [life[at], life[(at + step).min(4)]];
        if is_here_first { pair } else { [pair[1], pair[0]] }
    })
}

/// Gives the changes that only a leader makes, known to both sides, to one or to none.
fn promoted_or_gone() -> impl Strategy<Value = Skew> {
    let pair = prop_oneof![
        Just([ViewStatus::Joining, ViewStatus::Up]),
        Just([ViewStatus::WeaklyUp, ViewStatus::Up]),
        Just([ViewStatus::Leaving, ViewStatus::Exiting]),
    ];
    (pair, 0..2usize, 0..2usize).prop_map(|(pair, here, there)| [pair[here], pair[there]])
}

fn link() -> impl Strategy<Value = Link> {
    prop_oneof![8 => Just(Link::Whole), 1 => Just(Link::Broken), 1 => Just(Link::OneWay)]
}

/// What connects two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Whole,
    /// Both ends say so.
    Broken,
    /// Only the lower end monitors the other, and says so.
    OneWay,
}

/// Gives who is left of the living when `own` has decided with the majority, all of whom share their gossip.
fn mesh_survivors(
    own: usize,
    size: usize,
    living: &[usize],
    is_told: impl Fn(usize, usize) -> bool,
) -> Vec<usize> {
    let named = |number: usize| up(number, 0).address;
    let pairs = living.iter().flat_map(|a| (0..size).map(move |b| (*a, b)));
    let told = pairs.filter(|(a, b)| a != b && is_told(*a, *b));
    let rows = told.map(|(a, b)| Unreachability { observer: named(a), subject: named(b) });
    let members = (0..size).map(|it| up(it, it as u64)).collect();
    let seen = living.iter().map(|it| named(*it)).collect();
    let view = View::new(named(own), None, members, rows, seen);
    let strategy = KeepMajority::new();
    let downed = strategy.decide(&view).nodes(&strategy, &view);
    living.iter().copied().filter(|it| !downed.contains(&named(*it))).collect()
}

fn is_connected(nodes: &[usize], is_linked: impl Fn(usize, usize) -> bool) -> bool {
    let mut reached: Vec<usize> = nodes.iter().copied().take(1).collect();
    let mut next = 0;
    while let Some(from) = reached.get(next).copied() {
        for node in nodes {
            if !reached.contains(node) && is_linked(from, *node) {
                reached.push(*node);
            }
        }
        next += 1;
    }
    !nodes.is_empty() && reached.len() == nodes.len()
}

fn up(number: usize, up_number: u64) -> ViewMember {
    let address = address(&format!("node{number:02}"));
    ViewMember { address, status: ViewStatus::Up, roles: BTreeSet::new(), up_number }
}

fn ages() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(0..100u64, 14)
}
