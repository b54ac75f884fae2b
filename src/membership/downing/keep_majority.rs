//! Keeps the larger side: [`KeepMajority`].

use super::{Decision, DowningStrategy, View, ViewMember, ViewStatus};

/// Keeps the side with more members, or with the lowest address if both have as many. The default.
///
/// Follows a cluster whose size changes. If more than half of the members crash at the same time, the rest goes too.
///
/// | condition, in this order | decision |
/// |---|---|
/// | some are indirectly connected | [`Decision::DownIndirectlyConnected`] |
/// | none are counted | [`Decision::DownAll`] |
/// | more reachable than unreachable, or as many and the lowest address among them | [`Decision::DownUnreachable`], if confirmed; else [`Decision::DownAll`] |
/// | otherwise | [`Decision::DownReachable`] |
///
/// Just before a partition a change of status may have reached one side only. So this side stays only if it still has
/// the majority in the worst case: its Leaving members are Exiting over there, and the Joining and WeaklyUp members over
/// there are Up. Then both sides never stay, whichever of those changes either has missed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeepMajority {
    role: Option<String>,
}

impl KeepMajority {
    /// Makes the strategy that counts all members.
    #[must_use]
    pub const fn new() -> Self {
        Self { role: None }
    }

    /// Counts only members that have `role`; the others go with the side they are on.
    #[must_use]
    pub fn with_role(self, role: impl Into<String>) -> Self {
        Self { role: Some(role.into()) }
    }

    /// Says whether this side has the majority of the members that `is_counted` picks, told on which side each is.
    fn has_majority(&self, view: &View, is_counted: impl Fn(&ViewMember, Side) -> bool) -> bool {
        let with_role = view.members().iter().filter(|it| it.has_role(self.role.as_deref()));
        let sides = with_role.map(|member| (member, Side::of(member, view)));
        let picked = sides.filter(|(member, side)| is_counted(member, *side));
        let sides: Vec<_> = picked.map(|(_, side)| side).collect();
        let here = sides.iter().filter(|side| **side == Side::Here).count();
        let there = sides.len() - here;
        // The members are in address order, so the first picked is the lowest.
        here > there || (here == there && sides.first() == Some(&Side::Here))
    }
}

impl DowningStrategy for KeepMajority {
    fn decide(&self, view: &View) -> Decision {
        if !view.indirectly_connected().is_empty() {
            return Decision::DownIndirectlyConnected;
        }
        if view.counted(self.role.as_deref()).next().is_none() {
            return Decision::DownAll;
        }
        if !self.has_majority(view, |member, _| member.status.is_counted()) {
            return Decision::DownReachable;
        }
        let is_confirmed = self.has_majority(view, counts_in_worst_case);
        if is_confirmed { Decision::DownUnreachable } else { Decision::DownAll }
    }
}

/// Says on which side of a partition a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Here,
    There,
}

impl Side {
    fn of(member: &ViewMember, view: &View) -> Self {
        if view.is_reachable(&member.address) { Self::Here } else { Self::There }
    }
}

/// Counts as few here and as many there as the other side may know.
fn counts_in_worst_case(member: &ViewMember, side: Side) -> bool {
    match side {
        Side::Here => member.status == ViewStatus::Up,
        Side::There => member.status.is_downable(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_decisions;
    use super::Decision::{DownAll, DownIndirectlyConnected, DownReachable, DownUnreachable};
    use super::*;

    #[test]
    fn the_larger_side_stays() {
        let table = [
            ("a b c | d e", "", DownUnreachable, "de"),
            ("d e | a b c", "", DownReachable, "ed"),
            ("c d e | a b", "", DownUnreachable, "ab"),
            ("a b | c d e", "", DownReachable, "ba"),
            ("a b c | d", "", DownUnreachable, "d"),
        ];
        assert_decisions(&KeepMajority::new(), &table);
    }

    #[test]
    fn of_equal_sides_that_of_the_lowest_address_stays() {
        let table = [
            ("a d | b c", "", DownUnreachable, "bc"),
            ("b c | a d", "", DownReachable, "cb"),
            ("a | b", "", DownUnreachable, "b"),
            ("b | a", "", DownReachable, "b"),
        ];
        assert_decisions(&KeepMajority::new(), &table);
    }

    #[test]
    fn the_lowest_address_has_to_count() {
        let table = [
            ("b e | a:exiting c d", "", DownUnreachable, "cd"),
            ("c d | a:exiting b e", "", DownReachable, "dc"),
            ("b e | a:down c d", "", DownUnreachable, "cd"),
            ("a:joining c d | b e", "", DownReachable, "cda"),
        ];
        assert_decisions(&KeepMajority::new(), &table);
    }

    #[test]
    fn arriving_and_going_members_do_not_make_a_majority_but_go_with_their_side() {
        let table = [
            ("a b c | d e:joining", "", DownUnreachable, "de"),
            ("a b:joining e:weakly | c d", "", DownReachable, "bea"),
            ("a b c | d:exiting e:exiting f:exiting g", "", DownUnreachable, "g"),
        ];
        assert_decisions(&KeepMajority::new(), &table);
    }

    #[test]
    fn a_majority_that_the_other_side_may_not_know_is_not_enough() {
        let table = [
            // Here both might be Exiting over there.
            ("a b:leaving c:leaving | d e", "", DownAll, "bcdea"),
            ("a b c:leaving | d e", "", DownUnreachable, "de"),
            ("b c:leaving | a d", "", DownReachable, "cb"),
            ("a:leaving b | c d", "", DownAll, "bcda"),
            // Over there both might be Up.
            ("a b c | d e:joining f:weakly", "", DownUnreachable, "def"),
            ("b c d | e a:joining f:weakly", "", DownAll, "acdefb"),
            ("b c d | e f a:joining g:weakly", "", DownAll, "acdefgb"),
            // Leaving members over there may still count there.
            ("a b c | d:leaving e:leaving", "", DownUnreachable, "de"),
        ];
        assert_decisions(&KeepMajority::new(), &table);
    }

    #[test]
    fn only_members_with_the_role_make_a_majority_and_all_of_a_side_go() {
        let table = [
            ("a/x b/x c | d/x e f g", "", DownUnreachable, "defg"),
            ("d/x e f g | a/x b/x c", "", DownReachable, "efgd"),
            ("a b/x | c/x d", "", DownUnreachable, "cd"),
            ("a c/x | b/x d", "", DownReachable, "ca"),
            ("a b | c", "", DownAll, "bca"),
        ];
        assert_decisions(&KeepMajority::new().with_role("x"), &table);
    }

    #[test]
    fn indirectly_connected_nodes_go_and_the_rest_needs_the_majority() {
        let table = [
            ("a b c d", "b>c c>b", DownIndirectlyConnected, "bc"),
            ("a b c d", "a>b b>a", DownIndirectlyConnected, "ba"),
            ("a b c d | e", "b>c c>b", DownIndirectlyConnected, "bce"),
            ("a b | c d e", "a>b b>a", DownIndirectlyConnected, "ba"),
            ("a b c | d e", "b>c c>b", DownIndirectlyConnected, "bcde"),
        ];
        assert_decisions(&KeepMajority::new(), &table);
    }
}
