//! Says what must hold after every step of a network of real nodes: one file for each invariant.
//!
//! A step is a frame, or a part of one, that has reached its reader, or a fault. The look that an invariant takes comes
//! before the reader has done anything with it; what comes of it shows at the next step, and
//! [`verify`](super::Network::verify) takes a last look.
//!
//! | invariant | holds that |
//! |---|---|
//! | [`OneLink`] | a node keeps one link to a peer once they have agreed |
//! | [`BoundedQueues`] | nothing waits beyond the bounds of the settings |
//! | [`Fenced`] | nothing is received from an incarnation after it was quarantined |
//! | [`Accounted`] | no tell ends twice; at the end, each one has ended; not standard, for networks without asks |
//! | [`InOrder`] | each sender's messages come to an actor in their order, none twice; not standard, see there |
//!
//! Another one is a closure of your own, or a type that remembers:
//!
//! ```
//! use std::time::Duration;
//! use tellwire::testkit::Network;
//! use tellwire::testkit::network::invariants::{Invariant, Look};
//!
//! /// Counts what it has looked at.
//! struct FewSteps(u32);
//!
//! impl Invariant for FewSteps {
//!     fn name(&self) -> &str {
//!         "it is over soon"
//!     }
//!
//!     fn check(&mut self, _look: &Look<'_>) -> Result<(), String> {
//!         self.0 += 1;
//!         if self.0 > 100_000 { Err(format!("{} steps", self.0)) } else { Ok(()) }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = Network::builder(3)
//!     .seed(7)
//!     .seeds([0, 1])
//!     .invariant(FewSteps(0))
//!     .invariant_that("no node knows strangers", |look| {
//!         let known = look.nodes().map(|(_, node)| node.cluster().members().len()).max();
//!         if known > Some(3) { Err(format!("one knows {known:?}")) } else { Ok(()) }
//!     })
//!     .start()
//!     .await?;
//! network.members().all_up(3).await;
//! network.verify()?;
//! # Ok(())
//! # }
//! ```

mod accounted;
mod bounded_queues;
mod fenced;
mod in_order;
mod one_link;

use std::fmt;
use std::time::Duration;

pub use self::accounted::Accounted;
pub use self::bounded_queues::BoundedQueues;
pub use self::fenced::Fenced;
pub use self::in_order::InOrder;
pub use self::one_link::OneLink;
use super::watch::Crashed;
use crate::node::Node;

/// Must hold after every step.
pub trait Invariant: Send {
    /// Names what holds, for the report.
    fn name(&self) -> &str;

    /// Looks at the network after a step. It must neither wait nor do anything to the network.
    ///
    /// # Errors
    /// What was found instead.
    fn check(&mut self, look: &Look<'_>) -> Result<(), String>;

    /// Looks at the network when nothing is under way any more, as [`settle`](super::Network::settle) asks.
    ///
    /// # Errors
    /// What was found instead.
    fn check_end(&mut self, look: &Look<'_>) -> Result<(), String> {
        self.check(look)
    }
}

/// Makes an invariant of a closure.
pub fn that<F>(name: &'static str, check: F) -> impl Invariant + use<F>
where
    F: FnMut(&Look<'_>) -> Result<(), String> + Send,
{
    That { name, check }
}

struct That<F> {
    name: &'static str,
    check: F,
}

impl<F: FnMut(&Look<'_>) -> Result<(), String> + Send> Invariant for That<F> {
    fn name(&self) -> &str {
        self.name
    }

    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        (self.check)(look)
    }
}

/// Returns the invariants that every network holds to, whatever its nodes do.
#[must_use]
pub fn standard() -> Vec<Box<dyn Invariant>> {
    vec![Box::new(OneLink::default()), Box::new(BoundedQueues), Box::new(Fenced::default())]
}

/// Shows the network after a step.
#[derive(Debug)]
#[non_exhaustive]
pub struct Look<'a> {
    pub(super) step: Step,
    pub(super) elapsed: Duration,
    pub(super) nodes: &'a [Option<Node>],
    pub(super) crashed: &'a Crashed,
    pub(super) links: Vec<HeldLink>,
}

/// Says what has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Bytes have reached a node.
    Carried {
        /// The node that sent them.
        from: usize,
        /// The node that has them.
        to: usize,
    },
    /// A fault has begun or ended, or a node has started; or it is the last look.
    Fault,
}

/// Is a link of which a node holds its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct HeldLink {
    /// The node.
    pub node: usize,
    /// The node at the other end.
    pub peer: usize,
    /// The link's number, as in the trace.
    pub link: u64,
    /// For how long there has been the link.
    pub age: Duration,
}

impl Look<'_> {
    /// Returns what has happened.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// Returns the time since the network started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Gives the nodes that are not crashed, with their numbers.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(number, node)| Some((number, node.as_ref()?)))
    }

    /// Gives those of the nodes that the step is about: both ends, or all after a fault.
    pub fn touched(&self) -> impl Iterator<Item = (usize, &Node)> {
        let is_touched = |node: usize| match self.step {
            Step::Carried { from, to } => node == from || node == to,
            Step::Fault => true,
        };
        self.nodes().filter(move |(number, _)| is_touched(*number))
    }

    /// Gives the links that nodes hold, the older ones first.
    #[must_use]
    pub fn links(&self) -> &[HeldLink] {
        &self.links
    }
}

/// Says that an invariant did not hold, when, and after what.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// What the network was seeded with.
    pub seed: u64,
    /// When it was found.
    pub at: Duration,
    /// The name of the invariant.
    pub invariant: String,
    /// What was found.
    pub why: String,
    /// The last lines of the trace.
    pub trace: Vec<String>,
}

impl std::error::Error for Broken {}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        let Self { seed, at, invariant, why, .. } = self;
        write!(f, "seed {seed}, after {:.3} s: {invariant} does not hold: {why}", at.as_secs_f64())
    }
}
