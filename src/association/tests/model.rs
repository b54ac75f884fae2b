//! Lets two machines talk in every order there is, within stated bounds.
//!
//! Time has no length here: each side has its own clock, which jumps to a timer when the timer is chosen to
//! fire. A broken wire is seen by each side whenever its end is delivered, so half-open wires are included.
//! States are compared without what cannot change the future: the log, the texts, the lengths of the waits.

use stateright::{Checker, Model, Property};

use super::Side;
use super::world::{WireId, World};
use crate::association::LinkId;

/// How often each thing may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bounds {
    /// Frames told by each side.
    pub(super) tells: [u8; 2],
    pub(super) breaks: u8,
    pub(super) restarts: u8,
    pub(super) failed_dials: u8,
    /// Timers that fire while a handshake is under way.
    pub(super) late: u8,
    /// Dials after a back-off, of both sides together.
    pub(super) retries: u8,
    pub(super) stops: u8,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Tell(Side),
    Dial(WireId, bool),
    Deliver(WireId, Side),
    Flush(Side, LinkId),
    Break(WireId),
    Restart(Side),
    Timeout(Side),
    Stop(Side),
}

/// Two machines within bounds.
struct Talk(Bounds);

impl Model for Talk {
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
            Property::always("at rest both agree and all is accounted for", |_, world: &World| {
                !world.is_at_rest() || world.is_settled()
            }),
            Property::sometimes("both are up", |_, world: &World| {
                world.is_at_rest() && world.shells.iter().all(|shell| shell.active.is_some())
            }),
        ]
    }
}

/// Checks every order of what `bounds` allow; fewer than `states` states would mean that orders are missing.
fn explore(states: usize, bounds: Bounds) {
    let checker = Talk(bounds).checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let count = checker.unique_state_count();
    assert!(count >= states, "{count} states of {bounds:?}");
}

#[test]
fn one_dial_in_every_order() {
    explore(19, Bounds { tells: [2, 0], ..BOUNDS });
    explore(16, Bounds { tells: [0, 2], ..BOUNDS });
}

#[test]
fn both_dial_in_every_order() {
    explore(500, Bounds { tells: [2, 2], ..BOUNDS });
}

#[test]
fn both_dial_and_a_dial_fails_or_is_late_in_every_order() {
    explore(20_000, Bounds { failed_dials: 1, late: 1, ..BOUNDS });
}

#[test]
fn both_dial_and_a_link_breaks_in_every_order() {
    explore(40_000, Bounds { tells: [2, 2], breaks: 1, ..BOUNDS });
    explore(20_000, Bounds { breaks: 1, late: 1, retries: 1, ..BOUNDS });
}

#[test]
fn both_dial_and_one_restarts_in_every_order() {
    explore(50_000, Bounds { tells: [2, 2], restarts: 1, ..BOUNDS });
    explore(20_000, Bounds { restarts: 1, late: 1, retries: 1, ..BOUNDS });
}

#[test]
fn both_dial_a_link_breaks_and_one_restarts_in_every_order() {
    explore(100_000, Bounds { breaks: 1, restarts: 1, ..BOUNDS });
}

#[test]
fn both_dial_and_both_stop_in_every_order() {
    explore(1_500, Bounds { stops: 2, retries: 1, ..BOUNDS });
}

const BOUNDS: Bounds = Bounds {
    tells: [1, 1],
    breaks: 0,
    restarts: 0,
    failed_dials: 0,
    late: 0,
    retries: 4,
    stops: 0,
};
