//! Keeps a side of a fixed least size: [`StaticQuorum`].

use std::num::NonZeroUsize;

use super::{Decision, DowningStrategy, View};

/// Keeps the side that has at least a fixed number of members, which must be more than half of all there will ever be.
///
/// For clusters of fixed size. Unlike the majority of those present, the quorum does not shrink when members leave: a
/// cluster that has become smaller than the quorum does not survive the next crash.
///
/// It counts what it sees, without a margin for a change of status that has reached one side only.
///
/// | condition, in this order | decision |
/// |---|---|
/// | more than twice the quorum less one are counted, so both sides could have it | [`Decision::DownAll`] |
/// | some are indirectly connected | [`Decision::DownIndirectlyConnected`] |
/// | the reachable ones have the quorum | [`Decision::DownUnreachable`] |
/// | otherwise | [`Decision::DownReachable`] |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticQuorum {
    size: NonZeroUsize,
    role: Option<String>,
}

impl StaticQuorum {
    /// Makes the strategy for at most `2 · size - 1` members.
    #[must_use]
    pub const fn new(size: NonZeroUsize) -> Self {
        Self { size, role: None }
    }

    /// Counts only members that have `role`; the others go with the side they are on.
    #[must_use]
    pub fn with_role(self, role: impl Into<String>) -> Self {
        Self { role: Some(role.into()), ..self }
    }
}

impl DowningStrategy for StaticQuorum {
    fn decide(&self, view: &View) -> Decision {
        let counted = || view.counted(self.role.as_deref());
        let size = self.size.get();
        if counted().count() >= size.saturating_mul(2) {
            return Decision::DownAll;
        }
        if !view.indirectly_connected().is_empty() {
            return Decision::DownIndirectlyConnected;
        }
        let reachable = counted().filter(|member| view.is_reachable(&member.address)).count();
        if reachable >= size { Decision::DownUnreachable } else { Decision::DownReachable }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_decisions;
    use super::Decision::{DownAll, DownIndirectlyConnected, DownReachable, DownUnreachable};
    use super::*;

    #[test]
    fn the_side_with_the_quorum_stays() {
        let table = [
            ("a b c | d e", "", DownUnreachable, "de"),
            ("d e | a b c", "", DownReachable, "ed"),
            ("a b c | d", "", DownUnreachable, "d"),
            ("a b | c d", "", DownReachable, "ba"),
            ("c d | a b", "", DownReachable, "dc"),
            ("a b | c", "", DownReachable, "ba"),
        ];
        assert_decisions(&quorum(3), &table);
    }

    #[test]
    fn more_members_than_the_quorum_is_for_all_go_also_if_indirectly_connected() {
        let table = [
            ("a b c d e | f", "", DownAll, "bcdefa"),
            ("a b c d e f", "b>c c>b", DownAll, "bcdefa"),
            ("a b c d e:joining | f", "", DownUnreachable, "f"),
            ("a b c d e:exiting | f", "", DownUnreachable, "f"),
        ];
        assert_decisions(&quorum(3), &table);
    }

    #[test]
    fn only_members_up_or_leaving_make_the_quorum() {
        let table = [
            ("a b c:leaving | d", "", DownUnreachable, "d"),
            ("a b c:joining | d", "", DownReachable, "bca"),
            ("a b c:weakly | d", "", DownReachable, "bca"),
            ("a b c:exiting | d", "", DownReachable, "ba"),
            ("a b c:down | d", "", DownReachable, "ba"),
            ("a b c | d:joining e:weakly", "", DownUnreachable, "de"),
        ];
        assert_decisions(&quorum(3), &table);
    }

    #[test]
    fn only_members_with_the_role_make_the_quorum_and_all_of_a_side_go() {
        let table = [
            ("a/x b/x c | d/x e f g", "", DownUnreachable, "defg"),
            ("d/x e f g | a/x b/x c", "", DownReachable, "efgd"),
            ("a b c | d/x e/x f/x g/x", "", DownAll, "bcdefga"),
        ];
        assert_decisions(&quorum(2).with_role("x"), &table);
    }

    #[test]
    fn indirectly_connected_nodes_go_and_the_rest_needs_the_quorum() {
        let table = [
            ("a b c d e", "b>c c>b", DownIndirectlyConnected, "bc"),
            ("a b c d | e", "b>c c>b", DownIndirectlyConnected, "bce"),
            ("a b c | d e", "b>c c>b", DownIndirectlyConnected, "bcde"),
            ("a b | c d e", "a>b b>a", DownIndirectlyConnected, "ba"),
        ];
        assert_decisions(&quorum(3), &table);
    }

    fn quorum(size: usize) -> StaticQuorum {
        StaticQuorum::new(NonZeroUsize::new(size).unwrap())
    }
}
