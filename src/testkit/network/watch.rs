//! Lets the invariants of a network look at it after every step.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::Inner;
use super::conditions::Way;
use super::invariants::{Broken, Invariant, Look, Step};
use crate::node::Stats;

/// Keeps the invariants, and what they found first.
pub(super) struct Watch {
    seed: u64,
    invariants: Mutex<Vec<Box<dyn Invariant>>>,
    is_idle: bool,
    network: OnceLock<Weak<Inner>>,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    broken: Option<Broken>,
    /// Whether the test has asked since.
    is_told: bool,
}

/// Remembers what crashed nodes had counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crashed {
    pub(crate) count: usize,
    pub(crate) stats: Vec<Stats>,
}

impl Watch {
    pub(super) fn new(seed: u64, invariants: Vec<Box<dyn Invariant>>) -> Self {
        let is_idle = invariants.is_empty();
        let (network, found) = (OnceLock::new(), Mutex::default());
        Self { seed, invariants: Mutex::new(invariants), is_idle, network, found }
    }

    /// Says what is looked at.
    pub(super) fn begin(&self, network: Weak<Inner>) {
        // It is said once.
        self.network.set(network).ok();
    }

    /// Looks after bytes have reached a node.
    pub(super) fn carried(&self, way: Way) {
        self.step(Step::Carried { from: way.from, to: way.to });
    }

    /// Looks after a fault. A look from within a look is left out, and so is one beside another thread's.
    pub(super) fn step(&self, step: Step) {
        let is_over = self.is_idle || self.found().broken.is_some();
        if let (false, Ok(mut invariants)) = (is_over, self.invariants.try_lock()) {
            self.check(&mut invariants, step);
        }
    }

    /// Looks once more, whoever else looks, and gives what was found first.
    pub(super) fn last(&self) -> Result<(), Broken> {
        self.check(&mut self.invariants(), Step::Fault);
        let mut found = self.found();
        found.is_told = found.broken.is_some();
        found.broken.clone().map_or(Ok(()), Err)
    }

    /// Looks whether everything has come to its end; it may yet, so what is found is not kept.
    pub(super) fn end(&self) -> Result<(), Broken> {
        let end = |invariant: &mut dyn Invariant, look: &Look<'_>| invariant.check_end(look);
        self.look(&mut self.invariants(), Step::Fault, end).map_or(Ok(()), Err)
    }

    /// Gives what was found, if nobody has been told.
    pub(super) fn untold(&self) -> Option<Broken> {
        let found = self.found();
        found.broken.clone().filter(|_| !found.is_told)
    }

    /// Looks, and keeps what is found first.
    fn check(&self, invariants: &mut [Box<dyn Invariant>], step: Step) {
        let check = |invariant: &mut dyn Invariant, look: &Look<'_>| invariant.check(look);
        if let Some(broken) = self.look(invariants, step, check) {
            self.found().broken.get_or_insert(broken);
        }
    }

    fn look(
        &self,
        invariants: &mut [Box<dyn Invariant>],
        step: Step,
        check: impl Fn(&mut dyn Invariant, &Look<'_>) -> Result<(), String>,
    ) -> Option<Broken> {
        let network = self.network.get().and_then(Weak::upgrade)?;
        let (nodes, crashed) = (network.nodes().clone(), network.crashed().clone());
        let trace = &network.fabric.trace;
        let (elapsed, links) = (trace.elapsed(), network.fabric.held_links());
        let look = Look { step, elapsed, nodes: &nodes, crashed: &crashed, links };
        invariants.iter_mut().find_map(|invariant| {
            let why = check(invariant.as_mut(), &look).err()?;
            let (invariant, trace) = (invariant.name().to_owned(), trace.tail(TAIL));
            Some(Broken { seed: self.seed, at: elapsed, invariant, why, trace })
        })
    }

    fn invariants(&self) -> MutexGuard<'_, Vec<Box<dyn Invariant>>> {
        self.invariants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("found", &self.found).finish_non_exhaustive()
    }
}

/// Lines of the trace in a report.
const TAIL: usize = 40;
