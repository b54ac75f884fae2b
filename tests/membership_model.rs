//! Lets three nodes join, gossip, lead, leave, crash and come back in every order there is, within stated bounds.
//!
//! What is checked are the pure functions themselves, over a network that carries full states late, in any order, or
//! not at all. `cargo test --release --test membership_model -- --include-ignored` runs the large bounds too.
//!
//! | joins | leaves | crashes | under way | states | generated |
//! |---|---|---|---|---|---|
//! | 2 | 0 | 0 | 3 | 560 701 | 3 253 239 |
//! | 2 | 0 | 1 | 1 | 32 447 | 112 166 |
//! | 2 | 1 | 0 | 1 | 315 147 | 1 000 380 |
//! | 2 | 2 | 0 | 1 | 8 147 130 | 28 622 230 |
//!
//! 33 million states are generated in all, in four minutes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the counts of states are its output")]

#[path = "membership_model/world.rs"]
mod world;

use stateright::{Checker, Model, Property};
use world::{Bounds, Step, World};

/// Three nodes within bounds.
struct Cluster(Bounds);

impl Model for Cluster {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.0)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.fault.is_none() {
            world.steps(steps);
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut world = world.clone();
        world.take(step);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing forbidden happens", |_, world: &World| world.fault.is_none()),
            Property::always("equal versions are equal states", |_, world: &World| {
                world.equal_versions_agree()
            }),
            Property::always("one leader per converged view", |_, world: &World| {
                world.leaders_agree()
            }),
            Property::always("no two members have the same age", |_, world: &World| {
                world.ages_differ()
            }),
            Property::sometimes("all are Up", |model: &Self, world: &World| {
                world.up_everywhere() == usize::from(model.0.joins) + 1
            }),
            Property::sometimes("who leaves is removed", |model: &Self, world: &World| {
                model.0.leaves == 0 || world.has_tombstone_everywhere()
            }),
        ]
    }
}

/// Checks every order of what `bounds` allow, and tells how many states were generated.
///
/// Fewer than `states` of them, each counted once, would mean that orders are missing.
fn explore(states: usize, bounds: Bounds) -> usize {
    let checker = Cluster(bounds).checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let (unique, generated) = (checker.unique_state_count(), checker.state_count());
    println!("{unique} states, {generated} generated: {bounds:?}");
    assert!(unique >= states, "{unique} states of {bounds:?}");
    generated
}

#[test]
fn two_join_in_every_order() {
    explore(100, Bounds { joins: 2, ..BOUNDS });
}

#[test]
fn one_joins_and_one_leaves_in_every_order() {
    explore(100, Bounds { joins: 1, leaves: 1, ..BOUNDS });
}

#[test]
fn one_joins_and_one_crashes_in_every_order() {
    explore(100, Bounds { joins: 1, crashes: 1, ..BOUNDS });
}

#[test]
fn one_joins_twice_and_leaves_in_every_order() {
    explore(100, Bounds { joins: 1, leaves: 1, returns: 1, ..BOUNDS });
}

#[test]
#[ignore = "takes minutes: run it in release"]
fn five_million_states_in_every_order() {
    let generated: usize = [
        Bounds { joins: 2, under_way: 3, ..BOUNDS },
        Bounds { joins: 2, crashes: 1, under_way: 1, ..BOUNDS },
        Bounds { joins: 2, leaves: 1, under_way: 1, ..BOUNDS },
        Bounds { joins: 2, leaves: 2, under_way: 1, ..BOUNDS },
    ]
    .map(|bounds| explore(1_000, bounds))
    .iter()
    .sum();
    println!("{generated} states generated in all");
    assert!(generated >= 5_000_000);
}

const BOUNDS: Bounds = Bounds { joins: 0, leaves: 0, crashes: 0, returns: 0, under_way: 2 };
