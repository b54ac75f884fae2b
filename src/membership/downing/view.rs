//! Holds what a downing decision is made from: [`View`], one node's knowledge at one moment.
//!
//! It needs nothing of gossip: the cluster's core fills it with the members, the rows of the reachability table and the
//! nodes that have seen the current version. All questions that more than one strategy asks are answered here.
//!
//! | set | members in it |
//! |---|---|
//! | counted | Up or Leaving, and with the strategy's role if it has one |
//! | downable | Joining, WeaklyUp, Up or Leaving |
//! | unreachable | subjects of any row, never the own node |
//! | indirectly connected | see [`View::indirectly_connected`] |

use std::collections::BTreeSet;

use crate::address::UniqueAddress;

/// Says where a member is in its life, as far as downing cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViewStatus {
    /// Known, not yet accepted.
    Joining,
    /// Accepted while the members do not all agree.
    WeaklyUp,
    /// A full member.
    Up,
    /// On its way out by its own wish.
    Leaving,
    /// Leaving, and everybody knows; it goes without being downed.
    Exiting,
    /// Downed before.
    Down,
}

impl ViewStatus {
    /// Says whether such a member counts for a majority, a quorum or the age: Up or Leaving.
    #[must_use]
    pub const fn is_counted(self) -> bool {
        matches!(self, Self::Up | Self::Leaving)
    }

    /// Says whether the other side of a partition may know such a member as Up: Joining or WeaklyUp.
    #[must_use]
    pub const fn is_arriving(self) -> bool {
        matches!(self, Self::Joining | Self::WeaklyUp)
    }

    /// Says whether downing such a member changes anything: not if it is Down or goes anyway.
    #[must_use]
    pub const fn is_downable(self) -> bool {
        self.is_counted() || self.is_arriving()
    }
}

/// Describes one member of the own data centre.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewMember {
    /// Which incarnation of which node.
    pub address: UniqueAddress,
    /// Where it is in its life.
    pub status: ViewStatus,
    /// What it is for.
    pub roles: BTreeSet<String>,
    /// Its number in the order of coming up, lowest is oldest; meaningless before it is Up.
    pub up_number: u64,
}

impl ViewMember {
    /// Says whether the member has `role`; no role is had by all.
    #[must_use]
    pub fn has_role(&self, role: Option<&str>) -> bool {
        role.is_none_or(|role| self.roles.contains(role))
    }
}

/// Records that `observer` cannot reach `subject`: a row of the table that says Unreachable or Terminated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unreachability {
    /// Who says so.
    pub observer: UniqueAddress,
    /// About whom.
    pub subject: UniqueAddress,
}

/// Holds one node's knowledge of its data centre at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    own: UniqueAddress,
    leader: Option<UniqueAddress>,
    /// In address order.
    members: Vec<ViewMember>,
    rows: BTreeSet<Unreachability>,
    seen: BTreeSet<UniqueAddress>,
    unreachable: BTreeSet<UniqueAddress>,
    indirect: BTreeSet<UniqueAddress>,
}

impl View {
    /// Makes the view of the node `own`: whom it holds to be the leader, the members, who cannot reach whom, and who
    /// has seen the current gossip.
    ///
    /// Rows by or about a node that is no member or is Down are left out: what its links are like matters no more.
    #[must_use]
    pub fn new(
        own: UniqueAddress,
        leader: Option<UniqueAddress>,
        mut members: Vec<ViewMember>,
        rows: impl IntoIterator<Item = Unreachability>,
        seen: BTreeSet<UniqueAddress>,
    ) -> Self {
        members.sort_by(|a, b| a.address.cmp(&b.address));
        let living = members.iter().filter(|member| member.status != ViewStatus::Down);
        let living: BTreeSet<_> = living.map(|member| &member.address).collect();
        let is_told =
            |row: &Unreachability| living.contains(&row.observer) && living.contains(&row.subject);
        let rows = rows.into_iter().filter(is_told).collect();
        let (unreachable, indirect) = (BTreeSet::new(), BTreeSet::new());
        Self { own, leader, members, rows, seen, unreachable, indirect }.derived()
    }

    /// Returns the members whose trouble a decision is about: who cannot be reached, or, where an observer stands alone,
    /// that observer. Its further complaints change nothing.
    #[must_use]
    pub fn troubled(&self) -> BTreeSet<&UniqueAddress> {
        let alone = self.rows.iter().filter(|row| self.is_lone(row)).map(|row| &row.observer);
        alone.chain(self.contested()).collect()
    }

    /// Returns the members, without the own node, that cannot be reached for more than the word of one that stands
    /// alone.
    #[must_use]
    pub fn contested(&self) -> BTreeSet<&UniqueAddress> {
        let rows = self.rows.iter().filter(|row| !self.is_lone(row));
        rows.map(|row| &row.subject).filter(|node| **node != self.own).collect()
    }

    /// Returns the node whose view this is.
    #[must_use]
    pub fn own(&self) -> &UniqueAddress {
        &self.own
    }

    /// Returns all members, in address order.
    #[must_use]
    pub fn members(&self) -> &[ViewMember] {
        &self.members
    }

    /// Gives the members that count: Up or Leaving, with the role, in address order.
    pub fn counted<'a>(&'a self, role: Option<&'a str>) -> impl Iterator<Item = &'a ViewMember> {
        let with_role = self.members.iter().filter(move |member| member.has_role(role));
        with_role.filter(|member| member.status.is_counted())
    }

    /// Gives the members that a decision may down: all but those that are Exiting or Down.
    pub fn downable(&self) -> impl Iterator<Item = &UniqueAddress> {
        let downable = self.members.iter().filter(|member| member.status.is_downable());
        downable.map(|member| &member.address)
    }

    /// Says whether nobody reports the member as unreachable; the own node is always reachable.
    #[must_use]
    pub fn is_reachable(&self, address: &UniqueAddress) -> bool {
        !self.unreachable.contains(address)
    }

    /// Returns the members that somebody reports as unreachable, without the own node.
    #[must_use]
    pub fn unreachable(&self) -> &BTreeSet<UniqueAddress> {
        &self.unreachable
    }

    /// Returns the nodes that some cannot reach although they are connected through others.
    ///
    /// Those are both ends of every row whose subject has seen the current gossip, and the nodes that are both observer
    /// and subject of rows among themselves: neither could have told of the other without a way round. A clean
    /// partition and crashes give none, also one after the other: a node that crashed after it had reported another
    /// crash is subject and observer, but not among its like.
    ///
    /// Where a single observer complains of a node that has seen the current gossip, and more than half of the members
    /// have seen it and do not complain, the observer alone counts: it is deaf, or lies. Otherwise one member could have
    /// all others downed.
    #[must_use]
    pub fn indirectly_connected(&self) -> &BTreeSet<UniqueAddress> {
        &self.indirect
    }

    /// Returns the same view without what indirectly connected nodes say about each other.
    ///
    /// What is left are crashes and clean partitions: it has no indirectly connected nodes.
    #[must_use]
    pub fn without_indirect_rows(&self) -> Self {
        let mut rest = self.clone();
        let is_indirect = |node: &UniqueAddress| self.indirect.contains(node);
        let is_heard = |node: &UniqueAddress| is_indirect(node) || self.seen.contains(node);
        rest.rows.retain(|row| !(is_indirect(&row.observer) && is_heard(&row.subject)));
        rest.derived()
    }

    /// Says whether there is anything to decide: an unreachable member that is neither downed nor going anyway.
    #[must_use]
    pub fn awaits_decision(&self) -> bool {
        self.downable().any(|member| self.unreachable.contains(member))
    }

    /// Says whether this node acts for all that it can reach: it is their leader, and WeaklyUp, Up or Leaving.
    ///
    /// One that leaves acts as well: it stays the leader until all agree that it goes, which they cannot while a member
    /// is unreachable.
    #[must_use]
    pub fn is_responsible(&self) -> bool {
        let may_act = self
            .status(&self.own)
            .is_some_and(|status| status.is_counted() || status == ViewStatus::WeaklyUp);
        may_act && self.leader.as_ref() == Some(&self.own)
    }

    /// Returns the status of a node, none if it is no member.
    #[must_use]
    pub fn status(&self, address: &UniqueAddress) -> Option<ViewStatus> {
        let found = self.members.binary_search_by(|member| member.address.cmp(address)).ok()?;
        self.members.get(found).map(|member| member.status)
    }

    /// Works out the sets that follow from the rows.
    fn derived(mut self) -> Self {
        let subjects = self.rows.iter().map(|row| &row.subject).filter(|node| **node != self.own);
        self.unreachable = subjects.cloned().collect();
        self.indirect = self.mutual().union(&self.talking()).map(|node| (*node).clone()).collect();
        self
    }

    /// Gives the largest set of nodes each of which is observer and subject of rows within that set.
    fn mutual(&self) -> BTreeSet<&UniqueAddress> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        loop {
            let observers: BTreeSet<_> = rows.iter().map(|row| &row.observer).collect();
            let subjects: BTreeSet<_> = rows.iter().map(|row| &row.subject).collect();
            let both: BTreeSet<_> = observers.intersection(&subjects).copied().collect();
            let before = rows.len();
            rows.retain(|row| both.contains(&row.observer) && both.contains(&row.subject));
            if rows.len() == before {
                return both;
            }
        }
    }

    /// Gives the ends of the rows whose subject has seen the current gossip, so cannot be cut off: both, unless the
    /// observer stands alone.
    fn talking(&self) -> BTreeSet<&UniqueAddress> {
        let rows = self.rows.iter().filter(|row| self.seen.contains(&row.subject));
        let ends = rows.flat_map(|row| {
            let subject = Some(&row.subject).filter(|_| !self.is_lone(row));
            [Some(&row.observer), subject]
        });
        ends.flatten().collect()
    }

    /// Says whether the subject is there, nobody else complains of it, and a majority has no reason to.
    fn is_lone(&self, row: &Unreachability) -> bool {
        let is_other =
            |other: &Unreachability| other.subject == row.subject && other.observer != row.observer;
        self.seen.contains(&row.subject)
            && !self.rows.iter().any(is_other)
            && self.is_outvoted(&row.observer)
    }

    /// Says whether more than half of the members, without this one, have seen the current gossip.
    fn is_outvoted(&self, observer: &UniqueAddress) -> bool {
        let living = || self.members.iter().filter(|member| member.status != ViewStatus::Down);
        let others = living().filter(|member| member.address != *observer);
        2 * others.filter(|other| self.seen.contains(&other.address)).count() > living().count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{address, names, view};
    use super::*;

    #[test]
    fn the_members_are_told_apart_by_their_status() {
        let view = view("a b:joining c:weakly d:leaving e:exiting f:down", "");
        let counted: Vec<_> = view.counted(None).map(|member| member.address.clone()).collect();
        assert_eq!(names(&counted), "ad");
        assert_eq!(names(view.downable()), "abcd");
    }

    #[test]
    fn clean_partitions_and_crashes_leave_nobody_indirectly_connected() {
        let table = [
            ("a b c | d e", ""),
            ("a | b c d e", ""),
            ("a b c", ""),
            // d crashed after it had reported e, and c after both.
            ("a b | c d e", "d>e c>d c>e"),
        ];
        for (sides, rows) in table {
            let view = view(sides, rows);
            assert_eq!(names(view.indirectly_connected()), "", "{sides} {rows}");
        }
    }

    #[test]
    fn nodes_that_accuse_each_other_are_indirectly_connected() {
        let table = [("b>c c>b", "bc"), ("b>c c>d d>b", "bcd"), ("b>c c>b c>d d>c", "bcd")];
        for (rows, golden) in table {
            let silent = unseen("a | b c d e", rows);
            assert_eq!(names(silent.indirectly_connected()), golden, "{rows}");
        }
    }

    #[test]
    fn a_subject_that_has_seen_the_gossip_is_indirectly_connected_with_its_observer() {
        let two_say_so = view("a b c d", "a>c b>c");
        assert_eq!(names(two_say_so.indirectly_connected()), "abc");
        let no_majority = view("a b", "a>b");
        assert_eq!(names(no_majority.indirectly_connected()), "ab");
        assert_eq!(names(unseen("a b c", "b>c").indirectly_connected()), "");
    }

    #[test]
    fn an_observer_that_stands_alone_against_the_majority_is_indirectly_connected_alone() {
        let table =
            [("a b c", "b>c", "b"), ("a b c d", "b>a b>c b>d", "b"), ("a b c d | e", "b>c", "b")];
        for (sides, rows, golden) in table {
            assert_eq!(names(view(sides, rows).indirectly_connected()), golden, "{sides} {rows}");
        }
        let against_half = view("a b | c d", "a>b");
        assert_eq!(names(against_half.indirectly_connected()), "ab");
    }

    #[test]
    fn further_complaints_of_one_that_stands_alone_are_no_further_trouble() {
        for rows in ["b>a", "b>c", "b>c b>d", "b>a b>c b>d"] {
            assert_eq!(names(view("a b c d", rows).troubled()), "b", "{rows}");
        }
        assert_eq!(names(view("a b c d | e", "b>c").troubled()), "be");
        assert_eq!(names(view("a b c d", "a>b b>a").troubled()), "ab");
    }

    #[test]
    fn without_the_rows_of_one_that_stands_alone_crashes_remain() {
        let view = view("a b c d | e", "b>c").without_indirect_rows();
        assert_eq!(names(view.unreachable()), "e");
        assert_eq!(names(view.indirectly_connected()), "");
    }

    #[test]
    fn the_own_node_is_never_unreachable_but_may_be_indirectly_connected() {
        let view = view("a b", "b>a");
        assert_eq!(names(view.unreachable()), "");
        assert_eq!(names(view.indirectly_connected()), "ab");
        assert!(!view.awaits_decision());
    }

    #[test]
    fn rows_of_strangers_and_downed_members_do_not_count() {
        for rows in ["z>b", "b>z", "d>b", "b>d", "d>b b>d"] {
            let view = view("a b c d:down", rows);
            assert_eq!(names(view.unreachable()), "", "{rows}");
            assert_eq!(names(view.indirectly_connected()), "", "{rows}");
        }
    }

    #[test]
    fn without_indirect_rows_crashes_remain() {
        let view = view("a b c d | e", "b>c c>b").without_indirect_rows();
        assert_eq!(names(view.unreachable()), "e");
        assert_eq!(names(view.indirectly_connected()), "");
    }

    /// Gives a view whose current gossip only the own node has seen.
    fn unseen(sides: &str, rows: &str) -> View {
        let view = view(sides, rows);
        let seen = BTreeSet::from([address("a")]);
        View::new(view.own, view.leader, view.members, view.rows, seen)
    }
}
