//! Keeps who says of whom that it can, or cannot, be reached.
//!
//! Floor 2. The observer alone writes its rows and counts each change of them, so the rows with
//! the higher count are the later ones, and all rows of an observer travel together. One observer
//! that cannot reach a node is enough for the node to count as unreachable.
//!
//! ```text
//!                 missed heartbeats
//!   Reachable ───────────────────────▶ Unreachable
//!       │     ◀───────────────────────      │
//!       │          heartbeat again          │
//!       └──────────────┬────────────────────┘
//!                      ▼ quarantined, or another incarnation came
//!                  Terminated      final for this incarnation
//! ```
//! An observer without complaints keeps no rows, only its count.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::address::UniqueAddress;

/// Says whether an observer can reach a subject.
///
/// Ordered by severity. Travels on the wire by position, so the order is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReachabilityStatus {
    /// Answers, or was never missed.
    Reachable,
    /// Does not answer at present.
    Unreachable,
    /// Will never answer again: this incarnation is gone.
    Terminated,
}

/// Is one statement of an observer about a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Who says it.
    pub observer: &'a UniqueAddress,
    /// About whom.
    pub subject: &'a UniqueAddress,
    /// What it says.
    pub status: ReachabilityStatus,
    /// The observer's count of changes when it said so.
    pub version: u64,
}

/// Holds the statements of all observers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reachability {
    observers: BTreeMap<UniqueAddress, Observations>,
}

/// Holds the statements of one observer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Observations {
    /// Counts the changes the observer made to its rows.
    version: u64,
    /// What it says, by subject; empty if it can reach everybody.
    rows: BTreeMap<UniqueAddress, Row>,
}

/// Is what an observer says of one subject; the later row is the greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    version: u64,
    status: ReachabilityStatus,
}

impl Reachability {
    /// Records what `observer` finds about `subject`, and tells whether that was news.
    ///
    /// Once an observer has found a subject Terminated, nothing it says changes that.
    pub fn change(
        &mut self,
        observer: &UniqueAddress,
        subject: &UniqueAddress,
        status: ReachabilityStatus,
    ) -> bool {
        let known = self.observers.get(observer).and_then(|seen| seen.rows.get(subject));
        let is_news = match known {
            Some(row) => row.status != ReachabilityStatus::Terminated && row.status != status,
            None => status != ReachabilityStatus::Reachable || self.has_rows(observer),
        };
        if is_news {
            self.observers.entry(observer.clone()).or_default().change(subject, status);
        }
        is_news
    }

    /// Forgets all that `node` has said, and all that was said about it.
    pub fn remove(&mut self, node: &UniqueAddress) {
        self.observers.remove(node);
        for observations in self.observers.values_mut() {
            observations.rows.remove(node);
        }
    }

    /// Combines two tables, as far as both observer and subject are `allowed`.
    ///
    /// The rows with the higher count of their observer win as a whole. Equal counts mean equal
    /// rows; should they differ all the same, the later and more severe row of each subject wins.
    #[must_use]
    pub fn merge(&self, other: &Self, allowed: impl Fn(&UniqueAddress) -> bool) -> Self {
        let mut merged = self.clone();
        for (observer, theirs) in &other.observers {
            merged.observers.entry(observer.clone()).or_default().merge(theirs);
        }
        merged.observers.retain(|observer, _| allowed(observer));
        for observations in merged.observers.values_mut() {
            observations.rows.retain(|subject, _| allowed(subject));
        }
        merged
    }

    /// Says what `observer` finds about `subject`; without a row it is Reachable.
    #[must_use]
    pub fn status(&self, observer: &UniqueAddress, subject: &UniqueAddress) -> ReachabilityStatus {
        let rows = self.observers.get(observer).map(|observations| &observations.rows);
        let row = rows.and_then(|rows| rows.get(subject));
        row.map_or(ReachabilityStatus::Reachable, |row| row.status)
    }

    /// Says what all observers together find about `subject`: the most severe statement.
    #[must_use]
    pub fn aggregate(&self, subject: &UniqueAddress) -> ReachabilityStatus {
        let rows =
            self.observers.values().filter_map(|observations| observations.rows.get(subject));
        rows.map(|row| row.status).max().unwrap_or(ReachabilityStatus::Reachable)
    }

    /// Tells whether nobody has a complaint about `subject`.
    #[must_use]
    pub fn is_reachable(&self, subject: &UniqueAddress) -> bool {
        self.aggregate(subject) == ReachabilityStatus::Reachable
    }

    /// Tells whether `observer` has no complaint about `subject`.
    #[must_use]
    pub fn is_reachable_from(&self, observer: &UniqueAddress, subject: &UniqueAddress) -> bool {
        self.status(observer, subject) == ReachabilityStatus::Reachable
    }

    /// Gives the nodes that somebody finds Unreachable or Terminated.
    #[must_use]
    pub fn all_unreachable(&self) -> BTreeSet<&UniqueAddress> {
        self.unreachable_according_to(|_| true)
    }

    /// Gives the nodes that an observer whose word `counts` finds Unreachable or Terminated.
    #[must_use]
    pub fn unreachable_according_to(
        &self,
        counts: impl Fn(&UniqueAddress) -> bool,
    ) -> BTreeSet<&UniqueAddress> {
        let complaints = self.complaints().filter(|record| counts(record.observer));
        complaints.map(|record| record.subject).collect()
    }

    /// Gives the nodes that `observer` finds Unreachable or Terminated.
    #[must_use]
    pub fn unreachable_from(&self, observer: &UniqueAddress) -> BTreeSet<&UniqueAddress> {
        self.unreachable_according_to(|node| node == observer)
    }

    /// Gives the observers that find `subject` Unreachable or Terminated.
    #[must_use]
    pub fn observers_of(&self, subject: &UniqueAddress) -> BTreeSet<&UniqueAddress> {
        let complaints = self.complaints().filter(|record| record.subject == subject);
        complaints.map(|record| record.observer).collect()
    }

    /// Gives every statement, by observer and then by subject.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.observers.iter().flat_map(|(observer, observations)| {
            observations.rows.iter().map(move |(subject, row)| Record {
                observer,
                subject,
                status: row.status,
                version: row.version,
            })
        })
    }

    /// Gives everyone who ever made a statement, with the count of its changes.
    pub fn versions(&self) -> impl Iterator<Item = (&UniqueAddress, u64)> {
        self.observers.iter().map(|(observer, observations)| (observer, observations.version))
    }

    /// Returns how often `observer` has changed its rows.
    #[must_use]
    pub fn version_of(&self, observer: &UniqueAddress) -> u64 {
        self.observers.get(observer).map_or(0, |observations| observations.version)
    }

    /// Puts in place what an observer said elsewhere, in place of what it said here.
    pub(super) fn restore(
        &mut self,
        observer: UniqueAddress,
        version: u64,
        rows: impl IntoIterator<Item = (UniqueAddress, ReachabilityStatus, u64)>,
    ) {
        let row = |(subject, status, version)| (subject, Row { version, status });
        let rows = rows.into_iter().map(row).collect();
        self.observers.insert(observer, Observations { version, rows });
    }

    fn complaints(&self) -> impl Iterator<Item = Record<'_>> {
        self.records().filter(|record| record.status != ReachabilityStatus::Reachable)
    }

    fn has_rows(&self, observer: &UniqueAddress) -> bool {
        self.observers.get(observer).is_some_and(|observations| !observations.rows.is_empty())
    }
}

impl Observations {
    fn change(&mut self, subject: &UniqueAddress, status: ReachabilityStatus) {
        self.version = self.version.saturating_add(1);
        self.rows.insert(subject.clone(), Row { version: self.version, status });
        if self.rows.values().all(|row| row.status == ReachabilityStatus::Reachable) {
            self.rows.clear();
        }
    }

    fn merge(&mut self, other: &Self) {
        if other.version > self.version {
            self.clone_from(other);
        } else if other.version == self.version {
            for (subject, theirs) in &other.rows {
                let ours = self.rows.entry(subject.clone()).or_insert(*theirs);
                *ours = (*ours).max(*theirs);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};
    use proptest::test_runner::Config;

    use super::{Reachability, ReachabilityStatus};
    use crate::address::UniqueAddress;
    use crate::membership::tests::unique;
    use ReachabilityStatus::{Reachable, Terminated, Unreachable};

    fn change(
        table: &mut Reachability,
        observer: u16,
        subject: u16,
        status: ReachabilityStatus,
    ) -> bool {
        table.change(&unique(observer), &unique(subject), status)
    }

    fn table(changes: &[(u16, u16, ReachabilityStatus)]) -> Reachability {
        let mut table = Reachability::default();
        for (observer, subject, status) in changes {
            change(&mut table, *observer, *subject, *status);
        }
        table
    }

    fn nodes(numbers: &[u16]) -> BTreeSet<UniqueAddress> {
        numbers.iter().map(|n| unique(*n)).collect()
    }

    fn owned(nodes: BTreeSet<&UniqueAddress>) -> BTreeSet<UniqueAddress> {
        nodes.into_iter().cloned().collect()
    }

    #[test]
    fn finding_everybody_reachable_is_no_news() {
        let mut quiet = Reachability::default();
        assert!(!change(&mut quiet, 1, 2, Reachable));
        assert_eq!(quiet, Reachability::default());
    }

    #[test]
    fn the_last_complaint_withdrawn_leaves_only_the_count() {
        let mut table = table(&[(1, 2, Unreachable), (1, 3, Unreachable), (1, 2, Reachable)]);
        assert_eq!(table.records().count(), 2, "rows go when all of them are Reachable");
        assert!(change(&mut table, 1, 3, Reachable));
        assert_eq!(table.records().count(), 0);
        assert_eq!(table.version_of(&unique(1)), 4);
    }

    #[test]
    fn a_first_good_word_is_recorded_beside_complaints() {
        let table = table(&[(1, 2, Unreachable), (1, 3, Reachable)]);
        assert_eq!(table.records().count(), 2);
        assert_eq!(owned(table.all_unreachable()), nodes(&[2]));
    }

    #[test]
    fn repeating_a_statement_is_no_news() {
        let mut table = table(&[(1, 2, Unreachable)]);
        assert!(!change(&mut table, 1, 2, Unreachable));
        assert_eq!(table.version_of(&unique(1)), 1);
    }

    #[test]
    fn terminated_is_final() {
        let mut table = table(&[(1, 2, Terminated)]);
        assert!(!change(&mut table, 1, 2, Reachable));
        assert!(!change(&mut table, 1, 2, Unreachable));
        assert_eq!(table.status(&unique(1), &unique(2)), Terminated);
    }

    #[test]
    fn the_most_severe_statement_counts() {
        let table = table(&[(1, 4, Unreachable), (2, 4, Terminated), (3, 5, Unreachable)]);
        assert_eq!(table.aggregate(&unique(4)), Terminated);
        assert_eq!(table.aggregate(&unique(5)), Unreachable);
        assert_eq!(table.aggregate(&unique(1)), Reachable);
        assert!(table.is_reachable(&unique(1)) && !table.is_reachable(&unique(5)));
        assert!(table.is_reachable_from(&unique(3), &unique(4)));
    }

    #[test]
    fn queries_name_observers_and_subjects() {
        let table = table(&[(1, 4, Unreachable), (2, 4, Terminated), (2, 5, Unreachable)]);
        assert_eq!(owned(table.all_unreachable()), nodes(&[4, 5]));
        assert_eq!(owned(table.unreachable_from(&unique(1))), nodes(&[4]));
        assert_eq!(owned(table.observers_of(&unique(4))), nodes(&[1, 2]));
        let without_two = table.unreachable_according_to(|node| *node != unique(2));
        assert_eq!(owned(without_two), nodes(&[4]));
    }

    #[test]
    fn removing_a_node_forgets_it_as_observer_and_as_subject() {
        let mut table = table(&[(1, 2, Unreachable), (2, 3, Unreachable), (3, 1, Unreachable)]);
        table.remove(&unique(2));
        assert_eq!(owned(table.all_unreachable()), nodes(&[1]));
        assert_eq!(table.version_of(&unique(2)), 0);
        assert_eq!(table.version_of(&unique(1)), 1);
    }

    #[test]
    fn all_rows_of_the_later_count_win_as_a_whole() {
        let early = table(&[(1, 2, Unreachable)]);
        let late = table(&[(1, 2, Unreachable), (1, 3, Unreachable), (1, 2, Reachable)]);
        let merged = early.merge(&late, |_| true);
        assert_eq!(merged, late);
        assert_eq!(late.merge(&early, |_| true), late);
    }

    #[test]
    fn a_withdrawn_complaint_does_not_come_back() {
        let early = table(&[(1, 2, Unreachable)]);
        let late = table(&[(1, 2, Unreachable), (1, 2, Reachable)]);
        assert!(early.merge(&late, |_| true).is_reachable(&unique(2)));
        assert!(late.merge(&early, |_| true).is_reachable(&unique(2)));
    }

    #[test]
    fn a_merge_keeps_nothing_of_nodes_that_are_not_allowed() {
        let left = table(&[(1, 2, Unreachable), (1, 3, Unreachable)]);
        let right = table(&[(3, 1, Unreachable)]);
        let merged = left.merge(&right, |node| *node != unique(3));
        assert_eq!(owned(merged.all_unreachable()), nodes(&[2]));
        assert_eq!(merged.version_of(&unique(3)), 0);
    }

    fn any_status() -> impl Strategy<Value = ReachabilityStatus> {
        (0..3u8).prop_map(|n| match n {
            0 => Reachable,
            1 => Unreachable,
            _ => Terminated,
        })
    }

    fn any_table() -> impl Strategy<Value = Reachability> {
        vec((1..4u16, 1..5u16, any_status()), 0..10).prop_map(|changes| table(&changes))
    }

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn merge_is_commutative_associative_and_idempotent(
            a in any_table(), b in any_table(), c in any_table(), banned in 1..8u16,
        ) {
            let all = |_: &UniqueAddress| true;
            let allowed = |node: &UniqueAddress| *node != unique(banned);
            prop_assert_eq!(a.merge(&b, allowed), b.merge(&a, allowed));
            prop_assert_eq!(a.merge(&a, all), a.clone());
            prop_assert_eq!(
                a.merge(&b, allowed).merge(&c, allowed),
                a.merge(&b.merge(&c, allowed), allowed)
            );
        }

        #[test]
        fn terminated_survives_any_later_words_of_its_observer(
            before in any_table(), later in vec((1..5u16, any_status()), 0..10),
        ) {
            let mut after = before;
            change(&mut after, 1, 2, Terminated);
            let early = after.clone();
            for (subject, status) in later {
                change(&mut after, 1, subject, status);
            }
            prop_assert_eq!(after.merge(&early, |_| true).status(&unique(1), &unique(2)), Terminated);
        }

        #[test]
        fn rows_never_speak_well_only(table in any_table()) {
            for (observer, version) in table.versions() {
                let mut rows = table.records().filter(|row| row.observer == observer).peekable();
                prop_assert!(rows.peek().is_none() || rows.any(|row| row.status != Reachable));
                prop_assert!(table.records().all(|row| row.observer != observer || row.version <= version));
            }
        }
    }
}
