//! Finds the leader of a data centre, and works out what it is to do.
//!
//! Floor 2: pure functions. There is no election: who knows the same state finds the same leader.
//! On two sides of a break there are two, which is why a leader decides on convergence only, with
//! one exception: Joining members may become WeaklyUp without.
//!
//! ```text
//!   each second, on the leader
//!        │
//!        ├─ converged ───▶ plan(): remove, Joining/WeaklyUp ▶ Up, Leaving ▶ Exiting
//!        │
//!        └─ not for 7 s ─▶ plan_without_convergence(): Joining ▶ WeaklyUp
//! ```

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::convergence::Perspective;
use super::gossip::{ChangeError, Gossip, RemovalTime};
use super::member::{Member, MemberStatus, UpNumber};
use super::profile::Label;
use crate::address::UniqueAddress;

/// Says how many members there must be before any of them is moved to WeaklyUp or Up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Minimum {
    /// Members of any status, in all data centres; 0 and 1 are the same.
    pub members: usize,
    /// The same for the members with a role.
    pub of_role: BTreeMap<Label, usize>,
}

impl Minimum {
    /// Tells whether a state has enough members.
    #[must_use]
    pub fn is_met(&self, gossip: &Gossip) -> bool {
        let count = |role: &Label| {
            gossip.members().filter(|member| member.profile().has_role(role.as_str())).count()
        };
        gossip.member_count() >= self.members
            && self.of_role.iter().all(|(role, least)| count(role) >= *least)
    }
}

/// Lists what the leader is to do, all in one change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Members to remove, with the status they have: Down after a crash, Exiting after a farewell.
    pub remove: Vec<(UniqueAddress, MemberStatus)>,
    /// Members to move to Up, with their places in the order of age.
    pub promote: Vec<(UniqueAddress, UpNumber)>,
    /// Members to move to Exiting; the leader itself may be one of them.
    pub exit: Vec<UniqueAddress>,
    /// Members to move to WeaklyUp.
    pub weakly_up: Vec<UniqueAddress>,
}

impl Plan {
    /// Tells whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Carries the plan out; the caller stamps the result if the plan was not empty.
    ///
    /// # Errors
    /// [`ChangeError`] if the plan was made for another state; part of it may have been done.
    pub fn apply(&self, gossip: &mut Gossip, now: RemovalTime) -> Result<(), ChangeError> {
        for (node, _) in &self.remove {
            gossip.remove(node, now)?;
        }
        for (node, number) in &self.promote {
            gossip.promote(node, *number)?;
        }
        for node in &self.exit {
            gossip.advance(node, MemberStatus::Exiting)?;
        }
        for node in &self.weakly_up {
            gossip.advance(node, MemberStatus::WeaklyUp)?;
        }
        Ok(())
    }
}

/// Returns the leader of the own data centre.
///
/// It is the first by address of the Up and Leaving members that are within reach; if there is
/// none, of the WeaklyUp, then the Joining, then the Exiting ones. This node is always within its
/// own reach. Nobody leads where all are Down, and what Down members say of others does not count:
/// otherwise each could be the only one within its own reach, while all are converged.
#[must_use]
pub fn leader<'a>(view: &Perspective<'a>) -> Option<&'a UniqueAddress> {
    first(view, |_| true)
}

/// Returns the leader among the members that have a role, by the rule for [`leader`].
#[must_use]
pub fn role_leader<'a>(view: &Perspective<'a>, role: &str) -> Option<&'a UniqueAddress> {
    first(view, |member| member.profile().has_role(role))
}

/// Works out what the leader of a converged data centre is to do.
///
/// 1. Remove: who is Down or Exiting and cannot be reached; who is Exiting and has confirmed that
///    its tasks are done; who is Down or Exiting in another data centre.
/// 2. Move Joining and WeaklyUp members to Up if there are enough members, numbered in the order
///    of addresses from one above the greatest number in the data centre.
/// 3. Move Leaving members to Exiting.
#[must_use]
pub fn plan(view: &Perspective<'_>, minimum: &Minimum) -> Plan {
    let promote = if minimum.is_met(view.gossip) { promotions(view) } else { Vec::new() };
    let is_leaving = |member: &&Member| member.status() == MemberStatus::Leaving;
    Plan {
        remove: removals(view),
        promote,
        exit: view.neighbours().filter(is_leaving).map(|m| m.node().clone()).collect(),
        weakly_up: Vec::new(),
    }
}

/// Works out what the leader is to do when there has been no convergence for some time: move the
/// Joining members within reach to WeaklyUp, if there are enough members.
#[must_use]
pub fn plan_without_convergence(view: &Perspective<'_>, minimum: &Minimum) -> Plan {
    let mut plan = Plan::default();
    if minimum.is_met(view.gossip) {
        let unreachable = view.unreachable();
        let is_fit = |member: &&Member| {
            member.status() == MemberStatus::Joining && !unreachable.contains(member.node())
        };
        plan.weakly_up = view.neighbours().filter(is_fit).map(|m| m.node().clone()).collect();
    }
    plan
}

fn first<'a>(
    view: &Perspective<'a>,
    may_lead: impl Fn(&Member) -> bool,
) -> Option<&'a UniqueAddress> {
    let unreachable = view.unreachable();
    let is_within_reach =
        |member: &&Member| member.node() == view.own || !unreachable.contains(member.node());
    let candidates = view.neighbours().filter(|member| may_lead(member)).filter(is_within_reach);
    let ranked = candidates.filter_map(|member| Some((Reverse(fitness(member)?), member.node())));
    ranked.min().map(|(_, node)| node)
}

/// Says how fit a member is to lead, by its status; None if it is not at all.
fn fitness(member: &Member) -> Option<u8> {
    match member.status() {
        MemberStatus::Up | MemberStatus::Leaving => Some(3),
        MemberStatus::WeaklyUp => Some(2),
        MemberStatus::Joining => Some(1),
        MemberStatus::Exiting => Some(0),
        MemberStatus::Down | MemberStatus::Removed => None,
    }
}

fn removals(view: &Perspective<'_>) -> Vec<(UniqueAddress, MemberStatus)> {
    let unreachable = view.unreachable();
    let is_done = |member: &&Member| {
        let node = member.node();
        let is_elsewhere = member.profile().data_centre() != view.data_centre;
        let has_confirmed =
            member.status() == MemberStatus::Exiting && view.exiting_confirmed.contains(node);
        member.status().is_ending() && (is_elsewhere || has_confirmed || unreachable.contains(node))
    };
    let done = view.gossip.members().filter(is_done);
    done.map(|member| (member.node().clone(), member.status())).collect()
}

fn promotions(view: &Perspective<'_>) -> Vec<(UniqueAddress, UpNumber)> {
    let youngest = view.neighbours().filter_map(Member::up_number).max();
    let mut next = youngest.map_or(UpNumber::FIRST, UpNumber::next);
    let entering = view.neighbours().filter(|member| member.status().is_entering());
    entering
        .map(|member| {
            let number = next;
            next = next.next();
            (member.node().clone(), number)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::{
        Gossip, MemberStatus, Minimum, Perspective, Plan, RemovalTime, leader, plan,
        plan_without_convergence, role_leader,
    };
    use crate::address::UniqueAddress;
    use crate::membership::gossip::OwnMark;
    use crate::membership::profile::Profile;
    use crate::membership::reachability::ReachabilityStatus;
    use crate::membership::tests::{gossip_of, join, label, number, unique};
    use MemberStatus::{Down, Exiting, Joining, Leaving, Up, WeaklyUp};

    const NOW: RemovalTime = RemovalTime::since_1970(Duration::from_secs(1));

    /// Looks at a state as node `own` in the data centre `default`.
    fn look<T>(
        state: &Gossip,
        own: u16,
        confirmed: &[u16],
        then: impl FnOnce(&Perspective<'_>) -> T,
    ) -> T {
        let confirmed: BTreeSet<UniqueAddress> = confirmed.iter().map(|n| unique(*n)).collect();
        then(&Perspective {
            gossip: state,
            own: &unique(own),
            data_centre: Profile::default().data_centre(),
            exiting_confirmed: &confirmed,
        })
    }

    fn leader_of(state: &Gossip, own: u16) -> Option<UniqueAddress> {
        look(state, own, &[], |view| leader(view).cloned())
    }

    fn planned(state: &Gossip, confirmed: &[u16], minimum: &Minimum) -> Plan {
        look(state, 1, confirmed, |view| plan(view, minimum))
    }

    fn lose(state: &mut Gossip, observer: u16, subject: u16) {
        let status = ReachabilityStatus::Unreachable;
        assert_eq!(state.observe(&unique(observer), &unique(subject), status), Ok(true));
    }

    fn moon() -> Profile {
        Profile::default().with_data_centre(label("moon"))
    }

    #[test]
    fn the_first_by_address_and_status_leads() {
        type Members = &'static [(u16, MemberStatus)];
        let cases: [(Members, Option<u16>); 12] = [
            (&[], None),
            (&[(1, Up), (2, Up)], Some(1)),
            (&[(1, Leaving), (2, Up)], Some(1)),
            (&[(1, Joining), (2, Up)], Some(2)),
            (&[(1, WeaklyUp), (2, Up)], Some(2)),
            (&[(1, Exiting), (2, Up)], Some(2)),
            (&[(1, Down), (2, Up)], Some(2)),
            (&[(1, Joining), (2, WeaklyUp)], Some(2)),
            (&[(1, Exiting), (2, Joining)], Some(2)),
            (&[(1, Down), (2, Exiting)], Some(2)),
            (&[(1, Joining), (2, Joining)], Some(1)),
            (&[(1, Down), (2, Down)], None),
        ];
        for (members, expected) in cases {
            assert_eq!(leader_of(&gossip_of(members), 2), expected.map(unique), "{members:?}");
        }
    }

    #[test]
    fn each_side_of_a_break_has_its_leader() {
        let mut state = gossip_of(&[(1, Up), (2, Up), (3, Up)]);
        lose(&mut state, 2, 1);
        lose(&mut state, 3, 1);
        assert_eq!(leader_of(&state, 2), Some(unique(2)));
        assert_eq!(leader_of(&state, 1), Some(unique(1)), "it is within its own reach");
    }

    #[test]
    fn a_role_has_its_own_leader() {
        let mut state = gossip_of(&[(1, Up), (2, Up)]);
        let backend = Profile::default().with_roles([label("backend")]).unwrap();
        join(&mut state, 3, backend, Up);
        let find = |role: &str| look(&state, 1, &[], |view| role_leader(view, role).cloned());
        assert_eq!(find("backend"), Some(unique(3)));
        assert_eq!(find("frontend"), None);
    }

    #[test]
    fn a_data_centre_has_its_own_leader() {
        let mut state = gossip_of(&[(2, Up), (3, Up)]);
        join(&mut state, 1, moon(), Up);
        assert_eq!(leader_of(&state, 3), Some(unique(2)));
        lose(&mut state, 1, 2);
        assert_eq!(leader_of(&state, 3), Some(unique(2)), "an observer elsewhere does not count");
    }

    #[test]
    fn the_first_node_of_all_gets_the_first_number() {
        let plan = planned(&gossip_of(&[(1, Joining)]), &[], &Minimum::default());
        assert_eq!(plan.promote, [(unique(1), number(1))]);
    }

    #[test]
    fn those_who_enter_are_numbered_above_the_youngest_in_the_order_of_addresses() {
        let state = gossip_of(&[(7, Up), (8, Up), (4, WeaklyUp), (2, Joining)]);
        let plan = planned(&state, &[], &Minimum::default());
        assert_eq!(plan.promote, [(unique(2), number(3)), (unique(4), number(4))]);
    }

    #[test]
    fn numbers_are_given_in_each_data_centre_by_itself() {
        let mut state = gossip_of(&[(1, Up), (2, Joining)]);
        join(&mut state, 3, moon(), Up);
        join(&mut state, 4, moon(), Joining);
        let plan = planned(&state, &[], &Minimum::default());
        assert_eq!(plan.promote, [(unique(2), number(2))]);
    }

    #[test]
    fn nobody_comes_up_before_there_are_enough() {
        let mut state = gossip_of(&[(1, Joining), (2, Joining)]);
        let three = Minimum { members: 3, ..Minimum::default() };
        assert!(planned(&state, &[], &three).is_empty());
        assert!(look(&state, 1, &[], |view| plan_without_convergence(view, &three)).is_empty());

        let of_role = [(label("backend"), 1)].into();
        let backend = Minimum { members: 3, of_role };
        join(&mut state, 3, Profile::default(), Joining);
        assert_eq!(planned(&state, &[], &three).promote.len(), 3);
        assert!(planned(&state, &[], &backend).is_empty());
        let with_role = Profile::default().with_roles([label("backend")]).unwrap();
        join(&mut state, 4, with_role, Joining);
        assert_eq!(planned(&state, &[], &backend).promote.len(), 4);
    }

    #[test]
    fn leaving_members_exit_even_the_leader() {
        let plan = planned(&gossip_of(&[(1, Leaving), (2, Up)]), &[], &Minimum::default());
        assert_eq!(plan, Plan { exit: vec![unique(1)], ..Plan::default() });
    }

    #[test]
    fn only_those_whose_end_is_certain_are_removed() {
        use MemberStatus::Removed;
        for status in MemberStatus::ALL.into_iter().filter(|status| *status != Removed) {
            for (is_lost, has_confirmed) in [(false, false), (false, true), (true, false)] {
                let mut state = gossip_of(&[(1, Up), (2, status)]);
                if is_lost {
                    lose(&mut state, 1, 2);
                }
                let confirmed: &[u16] = if has_confirmed { &[2] } else { &[] };
                let is_removed = match status {
                    Exiting => is_lost || has_confirmed,
                    Down => is_lost,
                    _ => false,
                };
                let plan = planned(&state, confirmed, &Minimum::default());
                assert_eq!(!plan.remove.is_empty(), is_removed, "{status} {is_lost}");
            }
        }
    }

    #[test]
    fn a_downed_observer_alone_does_not_get_a_member_removed() {
        let mut state = gossip_of(&[(1, Up), (2, Down), (3, Down)]);
        lose(&mut state, 2, 3);
        assert_eq!(planned(&state, &[], &Minimum::default()).remove, []);
    }

    #[test]
    fn the_ending_of_other_data_centres_are_removed() {
        let mut state = gossip_of(&[(1, Up)]);
        join(&mut state, 2, moon(), Exiting);
        join(&mut state, 3, moon(), Down);
        join(&mut state, 4, moon(), Leaving);
        let plan = planned(&state, &[], &Minimum::default());
        assert_eq!(plan.remove, [(unique(2), Exiting), (unique(3), Down)]);
        assert_eq!(plan.exit, []);
    }

    #[test]
    fn without_convergence_joining_members_within_reach_become_weakly_up() {
        let mut state = gossip_of(&[(1, Up), (2, Joining), (3, Joining), (4, Leaving)]);
        join(&mut state, 5, moon(), Joining);
        lose(&mut state, 1, 3);
        let plan = look(&state, 1, &[], |view| plan_without_convergence(view, &Minimum::default()));
        assert_eq!(plan, Plan { weakly_up: vec![unique(2)], ..Plan::default() });
    }

    #[test]
    fn a_plan_is_carried_out_in_one_change() {
        let mut state = gossip_of(&[(1, Up), (2, Joining), (3, Leaving), (4, Down)]);
        lose(&mut state, 1, 4);
        let plan = planned(&state, &[], &Minimum::default());
        assert_eq!(plan.apply(&mut state, NOW), Ok(()));
        state.stamp(&unique(1), OwnMark::Give);
        let status = |n| state.member(&unique(n)).map(|member| member.status());
        assert_eq!([1, 2, 3, 4].map(status), [Some(Up), Some(Up), Some(Exiting), None]);
        assert!(state.has_tombstone(&unique(4)));
        assert_eq!(state.member(&unique(2)).and_then(|m| m.up_number()), Some(number(4)));
    }

    #[test]
    fn a_plan_for_another_state_is_refused() {
        let plan = planned(&gossip_of(&[(1, Joining)]), &[], &Minimum::default());
        assert!(plan.apply(&mut Gossip::default(), NOW).is_err());
        assert!(plan.apply(&mut gossip_of(&[(1, Leaving)]), NOW).is_err());
    }
}
