//! Names one cluster: [`ClusterId`].
//!
//! Floor 2: a value only. The node that forms a cluster draws its id, everybody who joins takes it over, and what
//! carries another one is refused. So two clusters never become one, whoever is told to join whom.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Tells one cluster from every other: 64 random bits, drawn by the node that forms it.
///
/// Printed as 16 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(u64);

impl ClusterId {
    /// Wraps a number that the forming node has drawn.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
