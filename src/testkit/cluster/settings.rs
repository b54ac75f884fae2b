//! Says how a simulated cluster is: its seed, its network, and what each node is made from.

use std::time::Duration;

use super::Seeds;
use super::network::NetworkSettings;
use crate::membership::downing::{DowningStrategy, KeepMajority};
use crate::membership::profile::Profile;
use crate::membership::settings::ClusterSettings;

/// Says how a simulated cluster is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SimSettings {
    /// What every chance is drawn from: with the same seed everything happens again.
    pub seed: u64,
    /// How good the network is.
    pub network: NetworkSettings,
    /// Whether PDUs are spelt as bytes on their way. Default [`Wire::Spelt`].
    pub wire: Wire,
    /// Whether removed members are told so. Default [`Farewell::Silent`].
    pub farewell: Farewell,
    /// Time by which a timer may be late, drawn anew for each. Default 2 ms.
    pub timer_lag: Duration,
    /// Time that the tasks of an exiting node take. Default 50 ms.
    pub exit_tasks: Duration,
    /// Lines of the trace that are kept. Default what `TELLWIRE_TRACE` says, or 60; with 0 nothing is
    /// written.
    pub trace_lines: usize,
}

impl SimSettings {
    /// Returns the defaults with this seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let [timer_lag, exit_tasks] = [2, 50].map(Duration::from_millis);
        Self {
            seed,
            network: NetworkSettings::default(),
            wire: Wire::Spelt,
            farewell: Farewell::Silent,
            timer_lag,
            exit_tasks,
            trace_lines: Seeds::trace_lines(),
        }
    }

    /// Returns the settings with this network.
    #[must_use]
    pub fn with_network(self, network: NetworkSettings) -> Self {
        Self { network, ..self }
    }

    /// Returns the settings with this way of carrying PDUs.
    #[must_use]
    pub fn with_wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// Returns the settings with this treatment of removed members.
    #[must_use]
    pub fn with_farewell(self, farewell: Farewell) -> Self {
        Self { farewell, ..self }
    }

    /// Returns the settings with so many lines of trace.
    #[must_use]
    pub fn with_trace_lines(self, trace_lines: usize) -> Self {
        Self { trace_lines, ..self }
    }
}

/// Says what becomes of a PDU on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// It is handed over as it is; no bytes are counted.
    Passed,
    /// Its bytes are counted, and it is handed over as it is.
    Counted,
    /// It is written as bytes and read again, like between real nodes.
    Spelt,
}

/// Says what a node does when a member it has removed sends to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// It lets its machine refuse what comes.
    Silent,
    /// It quarantines the incarnation: nothing of it is taken, and it is told so.
    Quarantine,
}

/// Says what a node is made from.
#[derive(Debug)]
#[non_exhaustive]
pub struct Start {
    /// What the node says of itself.
    pub profile: Profile,
    /// The settings of its membership.
    pub settings: ClusterSettings,
    /// How it decides that unreachable members are gone.
    pub strategy: Box<dyn DowningStrategy>,
    /// What its wall clock says when the run begins, since 1970; tombstones are dated by it.
    pub wall_clock: Duration,
}

impl Default for Start {
    /// Gives all defaults, the strategy that keeps the majority, and one wall clock for all.
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            settings: ClusterSettings::default(),
            strategy: Box::new(KeepMajority::new()),
            wall_clock: WALL_CLOCK,
        }
    }
}

impl Start {
    /// Returns the same with this profile.
    #[must_use]
    pub fn with_profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// Returns the same with these settings.
    #[must_use]
    pub fn with_settings(self, settings: ClusterSettings) -> Self {
        Self { settings, ..self }
    }

    /// Returns the same with this strategy.
    #[must_use]
    pub fn with_strategy(self, strategy: impl DowningStrategy + 'static) -> Self {
        Self { strategy: Box::new(strategy), ..self }
    }

    /// Returns the same with this wall clock.
    #[must_use]
    pub fn with_wall_clock(self, wall_clock: Duration) -> Self {
        Self { wall_clock, ..self }
    }
}

/// Some day of 2023.
const WALL_CLOCK: Duration = Duration::from_secs(1_700_000_000);
