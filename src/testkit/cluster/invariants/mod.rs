//! Says what must hold after every step of every node: one file for each invariant.
//!
//! | invariant | holds that |
//! |---|---|
//! | [`Forward`] | a status never goes backwards |
//! | [`NoReturn`] | nobody who was removed comes back under the same uid |
//! | [`OneLeader`] | there is at most one leader of a converged view |
//! | [`DistinctAges`] | no two members have the same place in the order of age |
//! | [`HonestMajority`] | a single observer cannot have a member downed that a majority reaches |
//! | [`agreement`] | after faults have ended the running nodes agree (asked for by [`settle`]) |
//!
//! Another one is a closure of your own, see [`that`], or a type that remembers, see [`Invariant`].
//!
//! [`settle`]: super::SimCluster::settle

pub mod agreement;
mod distinct_ages;
mod forward;
mod honest_majority;
mod no_return;
mod one_leader;

use std::fmt;

pub use self::distinct_ages::DistinctAges;
pub use self::forward::Forward;
pub use self::honest_majority::HonestMajority;
pub use self::no_return::NoReturn;
pub use self::one_leader::OneLeader;
use super::SimCluster;
use crate::address::UniqueAddress;
use crate::membership::machine::Membership;

/// Must hold after every step that changes what a node knows.
///
/// ```
/// use std::time::Duration;
/// use tellwire::testkit::cluster::invariants::{Invariant, Look};
/// use tellwire::testkit::cluster::{SimCluster, SimSettings};
///
/// #[derive(Debug)]
/// struct NeverMoreThan(usize);
///
/// impl Invariant for NeverMoreThan {
///     fn name(&self) -> &'static str {
///         "never more members than allowed"
///     }
///
///     fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
///         match look.membership.gossip().member_count() {
///             count if count > self.0 => Err(format!("there are {count}")),
///             _ => Ok(()),
///         }
///     }
/// }
///
/// let mut cluster = SimCluster::new(SimSettings::seeded(7));
/// cluster.watch(NeverMoreThan(2));
/// cluster.boot(1..=3, &[1]);
/// let failure = cluster.run_for(Duration::from_secs(20)).unwrap_err();
/// assert!(failure.to_string().contains("there are 3"));
/// ```
pub trait Invariant: fmt::Debug {
    /// Names what holds, for the report of a failure.
    fn name(&self) -> &'static str;

    /// Looks at the node that has taken a step, and around it.
    ///
    /// # Errors
    /// What was found instead.
    fn check(&mut self, look: &Look<'_>) -> Result<(), String>;
}

/// Makes an invariant of a closure.
///
/// ```
/// use std::time::Duration;
/// use tellwire::testkit::cluster::{SimCluster, SimSettings, invariants};
///
/// let mut cluster = SimCluster::new(SimSettings::seeded(7));
/// cluster.watch(invariants::that("nobody is alone for long", |look| {
///     let is_alone = look.membership.gossip().member_count() == 1;
///     let is_late = look.cluster.elapsed() > Duration::from_secs(60);
///     if is_alone && is_late { Err(format!("{} is", look.node)) } else { Ok(()) }
/// }));
/// cluster.boot(1..=3, &[1]);
/// cluster.run_for(Duration::from_secs(90)).unwrap();
/// ```
pub fn that<F>(name: &'static str, check: F) -> impl Invariant + use<F>
where
    F: FnMut(&Look<'_>) -> Result<(), String>,
{
    That { name, check }
}

struct That<F> {
    name: &'static str,
    check: F,
}

impl<F: FnMut(&Look<'_>) -> Result<(), String>> Invariant for That<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        (self.check)(look)
    }
}

impl<F> fmt::Debug for That<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("That").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Shows the node that has taken a step.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Look<'a> {
    /// The cluster around it.
    pub cluster: &'a SimCluster,
    /// Which node it is.
    pub node: u16,
    /// Which incarnation of it.
    pub own: &'a UniqueAddress,
    /// Its machine.
    pub membership: &'a Membership,
}

impl<'a> Look<'a> {
    pub(super) fn at(cluster: &'a SimCluster, node: u16) -> Option<Self> {
        let (own, membership) = (cluster.own(node)?, cluster.membership(node)?);
        Some(Self { cluster, node, own, membership })
    }
}

/// Returns the invariants that every cluster of machines with the default strategy holds to.
#[must_use]
pub fn standard() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(Forward::default()),
        Box::new(NoReturn::default()),
        Box::new(OneLeader),
        Box::new(DistinctAges),
        Box::new(HonestMajority::default()),
    ]
}
