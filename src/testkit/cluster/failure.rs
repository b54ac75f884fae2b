//! Says what went wrong in a simulated cluster, when, and how to see it again.

use std::fmt;
use std::time::Duration;

/// Ends a run: an invariant does not hold, or what was waited for did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// What the run was seeded with.
    pub seed: u64,
    /// How long the run had lasted.
    pub at: Duration,
    /// What is wrong.
    pub fault: Fault,
    /// The last lines of the trace.
    pub trace: Vec<String>,
}

/// Says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Names the invariant that does not hold after a step of a node.
    Broken {
        /// The name of the invariant.
        invariant: &'static str,
        /// The node that took the step.
        node: u16,
        /// What was found.
        why: String,
    },
    /// Names what has not come in time.
    Missed {
        /// What was waited for.
        what: String,
        /// For how long.
        within: Duration,
        /// How things stand instead.
        standing: String,
    },
    /// Names a node that takes step after step while no time passes.
    Spinning {
        /// The node.
        node: u16,
    },
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {}, after {:.3} s: {}", self.seed, self.at.as_secs_f64(), self.fault)?;
        write!(f, "replay")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { invariant, node, why } => {
                write!(f, "{invariant} does not hold after a step of node {node}: {why}")
            }
            Self::Missed { what, within, standing } => {
                write!(f, "not within {within:?}: {what}; instead:\n{standing}")
            }
            Self::Spinning { node } => write!(f, "node {node} takes steps without end"),
        }
    }
}
