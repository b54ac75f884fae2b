//! Keeps the side of the oldest member: [`KeepOldest`].

use super::{Decision, DowningStrategy, View, ViewMember, ViewStatus};

/// Says what happens when the oldest member is cut off from all the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Alone {
    /// It goes, and the others stay, if those are at least two.
    #[default]
    Down,
    /// It stays, and all the others go.
    Keep,
}

/// Keeps the side of the oldest member, so that what runs there need not move.
///
/// With [`Alone::Down`], the default, a crash of the oldest does not take all the others with it.
///
/// | condition, in this order | decision |
/// |---|---|
/// | some are indirectly connected | [`Decision::DownIndirectlyConnected`] |
/// | none are counted | [`Decision::DownAll`] |
/// | the oldest is here, and not alone against two or more | [`Decision::DownUnreachable`], if confirmed; else [`Decision::DownAll`] |
/// | the oldest is there, alone against two or more here | the same |
/// | otherwise | [`Decision::DownReachable`] |
///
/// To confirm, the same is asked once more without Leaving members, which may be Exiting over there, and as to who is
/// alone with the Joining and WeaklyUp members, which may be Up over there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeepOldest {
    alone: Alone,
    role: Option<String>,
}

impl KeepOldest {
    /// Makes the strategy over all members.
    #[must_use]
    pub const fn new(alone: Alone) -> Self {
        Self { alone, role: None }
    }

    /// Looks for the oldest among the members that have `role`; the others go with the side they are on.
    #[must_use]
    pub fn with_role(self, role: impl Into<String>) -> Self {
        Self { role: Some(role.into()), ..self }
    }

    /// Says whether this side stays, if the oldest and the sizes are taken from what these functions pick.
    fn stays(
        &self,
        view: &View,
        may_be_oldest: impl Fn(ViewStatus) -> bool,
        is_company: impl Fn(ViewStatus) -> bool,
    ) -> bool {
        let with_role = || view.members().iter().filter(|it| it.has_role(self.role.as_deref()));
        let is_here = |member: &&ViewMember| view.is_reachable(&member.address);
        let candidates = with_role().filter(|member| may_be_oldest(member.status));
        let Some(oldest) = candidates.min_by_key(|it| (it.up_number, &it.address)) else {
            return false;
        };
        let company = with_role().filter(|member| is_company(member.status));
        let (here, there): (Vec<_>, Vec<_>) = company.partition(is_here);
        let (with_oldest, others) =
            if is_here(&oldest) { (here.len(), there.len()) } else { (there.len(), here.len()) };
        is_here(&oldest) != self.is_given_up(with_oldest, others)
    }

    /// Says whether the side of the oldest goes although the oldest is there.
    fn is_given_up(&self, with_oldest: usize, others: usize) -> bool {
        match self.alone {
            Alone::Down => with_oldest == 1 && others >= 2,
            Alone::Keep => false,
        }
    }
}

impl DowningStrategy for KeepOldest {
    fn decide(&self, view: &View) -> Decision {
        if !view.indirectly_connected().is_empty() {
            return Decision::DownIndirectlyConnected;
        }
        if view.counted(self.role.as_deref()).next().is_none() {
            return Decision::DownAll;
        }
        if !self.stays(view, ViewStatus::is_counted, ViewStatus::is_counted) {
            return Decision::DownReachable;
        }
        let is_up = |status| status == ViewStatus::Up;
        let may_be_up = |status: ViewStatus| is_up(status) || status.is_arriving();
        let is_confirmed = self.stays(view, is_up, may_be_up);
        if is_confirmed { Decision::DownUnreachable } else { Decision::DownAll }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_decisions;
    use super::Decision::{DownAll, DownIndirectlyConnected, DownReachable, DownUnreachable};
    use super::*;

    const GIVE_UP: KeepOldest = KeepOldest::new(Alone::Down);
    const INSIST: KeepOldest = KeepOldest::new(Alone::Keep);

    #[test]
    fn the_side_of_the_oldest_stays_however_small() {
        let table = [
            ("a b | c d e", "", DownUnreachable, "cde"),
            ("c d e | a b", "", DownReachable, "dec"),
            ("a b c | d#0 e", "", DownReachable, "bca"),
            ("d#0 e | a b c", "", DownUnreachable, "abc"),
        ];
        assert_decisions(&GIVE_UP, &table);
        assert_decisions(&INSIST, &table);
    }

    #[test]
    fn of_equal_ages_the_lowest_address_is_the_oldest() {
        let table = [
            ("a#1 c | b#1 d", "", DownUnreachable, "bd"),
            ("b#1 d | a#1 c", "", DownReachable, "db"),
        ];
        assert_decisions(&GIVE_UP, &table);
    }

    #[test]
    fn an_oldest_alone_is_given_up_for_two_others_and_not_for_one() {
        let table = [
            ("a | b c", "", DownReachable, "a"),
            ("b c | a", "", DownUnreachable, "a"),
            ("a | b", "", DownUnreachable, "b"),
            ("b | a", "", DownReachable, "b"),
            ("a | b c:exiting", "", DownUnreachable, "b"),
        ];
        assert_decisions(&GIVE_UP, &table);
    }

    #[test]
    fn an_oldest_alone_that_is_kept_takes_all_others_with_it() {
        let table = [
            ("a | b c", "", DownUnreachable, "bc"),
            ("b c | a", "", DownReachable, "cb"),
            ("a | b c:joining d:weakly", "", DownUnreachable, "bcd"),
        ];
        assert_decisions(&INSIST, &table);
    }

    #[test]
    fn an_oldest_that_may_be_alone_over_there_makes_nobody_sure() {
        let table = [
            // Here b may be Exiting over there, which leaves a alone.
            ("a b:leaving | c d", "", DownAll, "bcda"),
            ("a b c:leaving | d e", "", DownUnreachable, "de"),
            // Over there c may be Up, so that a is alone against two.
            ("a | b c:joining", "", DownAll, "bca"),
            ("a | b c:weakly", "", DownAll, "bca"),
            // Over there b may be Up, so that a is not alone.
            ("c d | a b:joining", "", DownAll, "abdc"),
            ("c d | a b:weakly", "", DownAll, "abdc"),
            // Here d may be Exiting over there, so that they are not two.
            ("c d:leaving | a", "", DownAll, "adc"),
            ("c d:leaving e | a", "", DownUnreachable, "a"),
        ];
        assert_decisions(&GIVE_UP, &table);
    }

    #[test]
    fn an_oldest_that_may_be_exiting_over_there_makes_nobody_sure() {
        let table = [
            ("a:leaving c | b d", "", DownAll, "bcda"),
            ("a:leaving b | c d e:joining", "", DownAll, "bcdea"),
            ("a:leaving b c | d e", "", DownUnreachable, "de"),
            ("a:leaving | b", "", DownAll, "ba"),
            ("a:leaving b:leaving", "a>b", DownIndirectlyConnected, "ba"),
        ];
        assert_decisions(&GIVE_UP, &table);
    }

    #[test]
    fn only_members_up_or_leaving_can_be_the_oldest() {
        let table = [
            ("b e | a:exiting c d", "", DownUnreachable, "cd"),
            ("b e | a:joining c d", "", DownUnreachable, "acd"),
            ("c d | a:down b e", "", DownReachable, "dc"),
            ("a:joining | b:weakly", "", DownAll, "ba"),
        ];
        assert_decisions(&GIVE_UP, &table);
    }

    #[test]
    fn the_oldest_is_that_of_the_role_and_all_of_a_side_go() {
        let table = [
            ("b/x c/x | a d/x e", "", DownUnreachable, "ade"),
            ("a d/x e | b/x c/x", "", DownReachable, "dea"),
            ("b/x a | c/x d/x", "", DownReachable, "ab"),
            ("a b | c", "", DownAll, "bca"),
        ];
        assert_decisions(&GIVE_UP.with_role("x"), &table);
    }

    #[test]
    fn indirectly_connected_nodes_go_and_the_rest_needs_the_oldest() {
        let table = [
            ("a b c", "b>c c>b", DownIndirectlyConnected, "bc"),
            ("a b c", "a>b b>a", DownIndirectlyConnected, "ba"),
            ("a b c | d e", "b>c c>b", DownIndirectlyConnected, "bcde"),
            ("c d e | a b", "d>e e>d", DownIndirectlyConnected, "dec"),
            ("c d e | a", "d>e e>d", DownIndirectlyConnected, "ade"),
        ];
        assert_decisions(&GIVE_UP, &table);
    }
}
