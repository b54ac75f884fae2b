//! Decides that unreachable members are gone, so that at most one side of a partition goes on.
//!
//! Every node runs one [`Downing`] machine over the members of its own data centre; the leader of what is reachable
//! acts. Nothing is agreed upon with the other side, which cannot be asked: both sides compute from what both knew
//! before they were parted, and each decides whether *it* is the side that stays.
//!
//! ```text
//!            some reachability or membership change
//!            ┌──────────────────────────────────────┐
//!            ▼                                      │
//!  calm ─▶ waiting ──── stable long enough ───▶ DowningStrategy::decide ─▶ Verdict
//!            │                                      (the leader only)
//!            ├──── never stable for too long ─────▶ DownAll               (every node)
//!  any ──────┴──── quarantined by a member ───────▶ DownSelf              (that node, at once)
//! ```
//!
//! | strategy | keeps | for |
//! |---|---|---|
//! | [`KeepMajority`] | the larger side, or that of the lowest address | clusters whose size changes; the default |
//! | [`StaticQuorum`] | a side of a fixed least size | clusters of fixed size |
//! | [`KeepOldest`] | the side of the oldest member | singletons that should not move |
//! | [`DownAll`] | nobody | all or nothing |
//!
//! A decision is turned into nodes by [`Decision::nodes`]. Indirectly connected nodes, those that some cannot reach
//! although they are alive and talk through others, are downed first of all: whoever of them stays, somebody that is
//! left could not reach it. What then still is unreachable is decided by the same strategy.

mod down_all;
mod keep_majority;
mod keep_oldest;
mod static_quorum;
#[cfg(test)]
mod tests;
mod timer;
mod view;

use std::collections::BTreeSet;
use std::fmt;

pub use self::down_all::DownAll;
pub use self::keep_majority::KeepMajority;
pub use self::keep_oldest::{Alone, KeepOldest};
pub use self::static_quorum::StaticQuorum;
pub use self::timer::{Cause, Downing, DowningSettings, StableAfter, Unstable, Verdict};
pub use self::view::{Unreachability, View, ViewMember, ViewStatus};
use crate::address::UniqueAddress;

/// Decides which side of a partition stays; pure, one file each.
///
/// It is asked when some member is unreachable. Both sides ask with mirrored views, so for safety it may only use what
/// both can know; [`View`] says of each set what that is.
///
/// ```
/// use tellwire::membership::downing::{Decision, DowningStrategy, View};
///
/// /// Trusts the failure detector, also when half of the cluster seems gone: for tests, never for data.
/// #[derive(Debug)]
/// struct Timeout;
///
/// impl DowningStrategy for Timeout {
///     fn decide(&self, _view: &View) -> Decision {
///         Decision::DownUnreachable
///     }
/// }
/// ```
pub trait DowningStrategy: fmt::Debug + Send {
    /// Says what is to be done with the members of `view`.
    fn decide(&self, view: &View) -> Decision;

    /// Says which strategy this is and how it is set; nodes of which these differ do not join each other.
    ///
    /// By default what `Debug` says.
    fn identity(&self) -> String {
        format!("{self:?}")
    }
}

/// Says what is to be done; exhaustive on purpose, because a decision that somebody ignores splits the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub enum Decision {
    /// This side stays: down what it cannot reach.
    DownUnreachable,
    /// This side goes: down all of it.
    DownReachable,
    /// Neither side can be sure: down everybody.
    DownAll,
    /// Down the nodes that cannot reach each other although they are connected, and decide the rest once more.
    DownIndirectlyConnected,
    /// Down this node only.
    DownSelf,
}

impl Decision {
    /// Gives the members that the decision of `strategy` means in `view`: others in address order, the own node last.
    ///
    /// The own node is last so that it has told the others before it goes.
    #[must_use]
    pub fn nodes(self, strategy: &dyn DowningStrategy, view: &View) -> Vec<UniqueAddress> {
        let chosen = match self {
            Self::DownIndirectlyConnected => indirect_nodes(strategy, view),
            Self::DownUnreachable | Self::DownReachable | Self::DownAll | Self::DownSelf => {
                self.plain_nodes(view)
            }
        };
        let (own, mut others): (Vec<_>, Vec<_>) =
            chosen.into_iter().partition(|node| *node == view.own());
        others.extend(own);
        others.into_iter().cloned().collect()
    }

    /// Gives the downable members that the decision means by itself.
    fn plain_nodes(self, view: &View) -> BTreeSet<&UniqueAddress> {
        let is_meant = |node: &&UniqueAddress| match self {
            Self::DownUnreachable => !view.is_reachable(node),
            Self::DownReachable => view.is_reachable(node),
            Self::DownAll => true,
            Self::DownIndirectlyConnected => view.indirectly_connected().contains(*node),
            Self::DownSelf => *node == view.own(),
        };
        view.downable().filter(is_meant).collect()
    }
}

/// Gives the indirectly connected members, and what the strategy downs when their rows are left out.
fn indirect_nodes<'a>(
    strategy: &dyn DowningStrategy,
    view: &'a View,
) -> BTreeSet<&'a UniqueAddress> {
    let mut nodes = Decision::DownIndirectlyConnected.plain_nodes(view);
    if view.unreachable().is_subset(view.indirectly_connected()) {
        return nodes;
    }
    let rest = view.without_indirect_rows();
    if rest.unreachable().is_empty() {
        return nodes;
    }
    let decision = match strategy.decide(&rest) {
        // Nobody is indirectly connected in the rest: a strategy that says so again knows no way out.
        Decision::DownIndirectlyConnected => Decision::DownAll,
        plain => plain,
    };
    let rest_nodes = decision.plain_nodes(&rest);
    nodes.extend(view.downable().filter(|node| rest_nodes.contains(node)));
    nodes
}
