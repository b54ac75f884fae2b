//! Tells whether all members that matter have seen the present state.
//!
//! Floor 2: pure functions of a state and of who looks at it. Convergence is what the leader waits
//! for before it decides anything, so that two leaders on two sides of a break cannot both decide.

use std::collections::BTreeSet;

use super::gossip::Gossip;
use super::member::{Member, MemberStatus};
use super::profile::Label;
use crate::address::UniqueAddress;

/// Is a state as one node looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Perspective<'a> {
    /// What the node knows.
    pub gossip: &'a Gossip,
    /// Which node it is.
    pub own: &'a UniqueAddress,
    /// The data centre it is in.
    pub data_centre: &'a Label,
    /// Exiting members that have said that their tasks are done.
    pub exiting_confirmed: &'a BTreeSet<UniqueAddress>,
}

/// Names the members that stand in the way of convergence; with none of them it is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Obstacles<'a> {
    /// Members that must have seen the state and have not.
    pub not_seen: Vec<&'a UniqueAddress>,
    /// Members that cannot be reached and are neither Down nor Exiting.
    pub unreachable: Vec<&'a UniqueAddress>,
}

impl Obstacles<'_> {
    /// Tells whether nothing stands in the way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.not_seen.is_empty() && self.unreachable.is_empty()
    }
}

impl<'a> Perspective<'a> {
    /// Tells whether every member that matters has seen the state.
    ///
    /// 1. Each Up and Leaving member of the own data centre has seen it. While the data centre has
    ///    no such member, each Joining, WeaklyUp, Up and Leaving member of all data centres must
    ///    have: the first member of a data centre may be moved to Up only once.
    /// 2. Each member of the own data centre that one of its observers cannot reach is Down or
    ///    Exiting, or is this node. Observers that are Down do not count.
    ///
    /// That a member has confirmed its exit does not count before the state says that it is
    /// Exiting: it may have led, and its last acts be in a state that has not come here yet.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        self.obstacles().is_empty()
    }

    /// Names what stands in the way of convergence, for logs.
    #[must_use]
    pub fn obstacles(&self) -> Obstacles<'a> {
        Obstacles { not_seen: self.not_seen(), unreachable: self.blocking_unreachable() }
    }

    /// Gives the members of the own data centre, in the order of addresses.
    pub fn neighbours(&self) -> impl Iterator<Item = &'a Member> + use<'a> {
        let data_centre = self.data_centre;
        self.gossip.members().filter(move |member| member.profile().data_centre() == data_centre)
    }

    /// Gives whom observers of the own data centre that are not Down cannot reach.
    #[must_use]
    pub fn unreachable(&self) -> BTreeSet<&'a UniqueAddress> {
        let counts = |observer: &UniqueAddress| {
            self.neighbour(observer).is_some_and(|member| member.status() != MemberStatus::Down)
        };
        self.gossip.reachability().unreachable_according_to(counts)
    }

    fn neighbour(&self, node: &UniqueAddress) -> Option<&'a Member> {
        let member = self.gossip.member(node);
        member.filter(|member| member.profile().data_centre() == self.data_centre)
    }

    fn not_seen(&self) -> Vec<&'a UniqueAddress> {
        let is_first = !self.neighbours().any(|member| member.status().takes_part());
        let matters = |member: &&Member| {
            let status = member.status();
            if is_first {
                status.takes_part() || status.is_entering()
            } else {
                status.takes_part() && member.profile().data_centre() == self.data_centre
            }
        };
        let nodes = self.gossip.members().filter(matters).map(Member::node);
        nodes.filter(|node| !self.gossip.has_seen(node)).collect()
    }

    fn blocking_unreachable(&self) -> Vec<&'a UniqueAddress> {
        let blocks = |node: &&UniqueAddress| {
            let is_ending = self.neighbour(node).is_none_or(|member| member.status().is_ending());
            !is_ending && *node != self.own
        };
        self.unreachable().into_iter().filter(blocks).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{BTreeSet, Gossip, MemberStatus, Obstacles, Perspective, UniqueAddress};
    use crate::membership::gossip::OwnMark;
    use crate::membership::profile::Profile;
    use crate::membership::reachability::ReachabilityStatus;
    use crate::membership::tests::{bring, gossip, gossip_of, label, unique};
    use MemberStatus::{Down, Exiting, Joining, Leaving, Up, WeaklyUp};

    /// Looks at a state as node 1 in the data centre `default`.
    fn is_converged(state: &Gossip, confirmed: &[u16]) -> bool {
        let obstacles = |found: Obstacles<'_>| found.is_empty();
        look(state, confirmed, obstacles)
    }

    fn look<T>(state: &Gossip, confirmed: &[u16], then: impl FnOnce(Obstacles<'_>) -> T) -> T {
        let confirmed: BTreeSet<UniqueAddress> = confirmed.iter().map(|n| unique(*n)).collect();
        let (own, profile) = (unique(1), Profile::default());
        let view = Perspective {
            gossip: state,
            own: &own,
            data_centre: profile.data_centre(),
            exiting_confirmed: &confirmed,
        };
        assert_eq!(view.is_converged(), view.obstacles().is_empty());
        then(view.obstacles())
    }

    fn see(state: &mut Gossip, by: &[u16]) {
        by.iter().for_each(|n| state.mark_seen(&unique(*n), OwnMark::Give));
    }

    fn lose(state: &mut Gossip, observer: u16, subject: u16) {
        let status = ReachabilityStatus::Unreachable;
        assert_eq!(state.observe(&unique(observer), &unique(subject), status), Ok(true));
    }

    #[test]
    fn an_empty_cluster_converges() {
        assert!(is_converged(&Gossip::default(), &[]));
    }

    #[test]
    fn only_up_and_leaving_members_must_have_seen_it() {
        for (status, must_see) in [
            (Joining, false),
            (WeaklyUp, false),
            (Up, true),
            (Leaving, true),
            (Exiting, false),
            (Down, false),
        ] {
            let mut state = gossip_of(&[(1, Up), (2, status)]);
            see(&mut state, &[1]);
            assert_eq!(is_converged(&state, &[]), !must_see, "without the mark of a {status}");
            see(&mut state, &[2]);
            assert!(is_converged(&state, &[]), "with the mark of a {status}");
        }
    }

    #[test]
    fn who_has_confirmed_its_exit_counts_until_it_is_seen_as_exiting() {
        for status in [Up, Leaving] {
            let mut state = gossip_of(&[(1, Up), (2, status)]);
            see(&mut state, &[1]);
            lose(&mut state, 1, 2);
            assert!(!is_converged(&state, &[2]), "as {status}");
            bring(&mut state, 2, Exiting);
            assert!(is_converged(&state, &[2]));
        }
    }

    #[test]
    fn an_unreachable_member_blocks_unless_it_is_down_or_exiting() {
        for (status, blocks) in [
            (Joining, true),
            (WeaklyUp, true),
            (Up, true),
            (Leaving, true),
            (Exiting, false),
            (Down, false),
        ] {
            let mut state = gossip_of(&[(1, Up), (2, status)]);
            see(&mut state, &[1, 2]);
            lose(&mut state, 1, 2);
            assert_eq!(is_converged(&state, &[]), !blocks, "with an unreachable {status}");
        }
    }

    #[test]
    fn what_others_say_about_this_node_does_not_block_it() {
        let mut state = gossip(&[1, 2]);
        see(&mut state, &[1, 2]);
        lose(&mut state, 2, 1);
        assert!(is_converged(&state, &[]));
    }

    #[test]
    fn the_word_of_a_downed_observer_does_not_count() {
        let mut state = gossip(&[1, 2, 3]);
        see(&mut state, &[1, 2, 3]);
        lose(&mut state, 3, 2);
        assert!(!is_converged(&state, &[]));
        bring(&mut state, 3, Down);
        assert!(is_converged(&state, &[]));
    }

    #[test]
    fn obstacles_are_named() {
        let mut state = gossip(&[1, 2, 3]);
        see(&mut state, &[1]);
        lose(&mut state, 1, 3);
        look(&state, &[], |found| {
            assert_eq!(found.not_seen, [&unique(2), &unique(3)]);
            assert_eq!(found.unreachable, [&unique(3)]);
        });
    }

    #[test]
    fn other_data_centres_do_not_matter() {
        let mut state = gossip(&[1]);
        join_elsewhere(&mut state, 2, Up);
        see(&mut state, &[1]);
        lose(&mut state, 1, 2);
        assert!(is_converged(&state, &[]));
        let mut state = gossip(&[1, 3]);
        join_elsewhere(&mut state, 2, Up);
        see(&mut state, &[1, 3]);
        lose(&mut state, 2, 3);
        assert!(is_converged(&state, &[]), "an observer elsewhere does not count");
    }

    #[test]
    fn the_first_member_of_a_data_centre_waits_for_all_the_others() {
        for status in [Joining, WeaklyUp, Up, Leaving] {
            let mut state = gossip_of(&[(1, Joining)]);
            join_elsewhere(&mut state, 2, status);
            see(&mut state, &[1]);
            assert!(!is_converged(&state, &[]), "without the mark of a {status}");
            see(&mut state, &[2]);
            assert!(is_converged(&state, &[]), "with the mark of a {status}");
        }
    }

    fn join_elsewhere(state: &mut Gossip, n: u16, status: MemberStatus) {
        let profile = Profile::default().with_data_centre(label("moon"));
        crate::membership::tests::join(state, n, profile, status);
    }
}
