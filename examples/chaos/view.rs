//! Reads how a node sees its cluster, and compares what several see.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::journal::Illegible;

/// Is how one node sees its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) uid: u64,
    pub(crate) is_member: bool,
    pub(crate) cluster: String,
    pub(crate) rows: Vec<Row>,
}

/// Is one member, as a node sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) index: usize,
    pub(crate) uid: u64,
    pub(crate) status: String,
    pub(crate) is_reachable: bool,
}

impl View {
    /// Tells whether the node counts on somebody of `group`.
    fn counts_on(&self, group: &BTreeSet<usize>) -> bool {
        let mut rows = self.rows.iter().filter(|row| row.status != "down");
        rows.any(|row| group.contains(&row.index))
    }
}

/// Tells whether all nodes are members of one cluster, Up and reachable, and agree on it.
pub(crate) fn is_one_cluster(views: &[Option<View>], uids: &[Option<u64>]) -> bool {
    let Some(Some(first)) = views.first() else { return false };
    let is_up = |row: &Row| row.status == "up" && row.is_reachable;
    let members: BTreeSet<(usize, Option<u64>)> =
        first.rows.iter().map(|row| (row.index, Some(row.uid))).collect();
    let wanted: BTreeSet<_> = uids.iter().copied().enumerate().collect();
    members == wanted
        && first.rows.iter().all(is_up)
        && views.iter().all(|view| {
            view.as_ref().is_some_and(|view| {
                view.is_member && (&view.cluster, &view.rows) == (&first.cluster, &first.rows)
            })
        })
}

/// Tells whether nobody is in a cluster, so that one has to be formed again.
pub(crate) fn is_lost(views: &[Option<View>]) -> bool {
    views.iter().all(|view| view.as_ref().is_some_and(|view| !view.is_member))
}

/// Says which of two sides go on: those of which some member does, without the other side.
pub(crate) fn surviving(views: &[Option<View>], group: &BTreeSet<usize>) -> [bool; 2] {
    let all: BTreeSet<usize> = (0..views.len()).collect();
    let others: BTreeSet<usize> = all.difference(group).copied().collect();
    let goes_on = |side: &BTreeSet<usize>, other: &BTreeSet<usize>| {
        let mut views = side.iter().filter_map(|index| views[*index].as_ref());
        views.any(|view| view.is_member && !view.counts_on(other))
    };
    [goes_on(group, &others), goes_on(&others, group)]
}

impl FromStr for View {
    type Err = Illegible;

    fn from_str(text: &str) -> Result<Self, Illegible> {
        let mut words = text.split(' ');
        let mut next = || words.next().ok_or(Illegible);
        let (uid, phase, cluster) = (next()?, next()?, next()?);
        let mut rows = words.map(str::parse).collect::<Result<Vec<Row>, _>>()?;
        rows.sort();
        let uid = uid.parse().map_err(|_| Illegible)?;
        Ok(Self { uid, is_member: phase == "member", cluster: cluster.to_owned(), rows })
    }
}

impl FromStr for Row {
    type Err = Illegible;

    fn from_str(text: &str) -> Result<Self, Illegible> {
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(Illegible);
        let index = next()?.parse().map_err(|_| Illegible)?;
        let uid = next()?.parse().map_err(|_| Illegible)?;
        let status = next()?.to_lowercase();
        let is_reachable = !status.ends_with('?');
        Ok(Self { index, uid, status: status.trim_end_matches('?').to_owned(), is_reachable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(texts: &[&str]) -> Vec<Option<View>> {
        texts.iter().map(|text| text.parse().ok()).collect()
    }

    #[test]
    fn one_cluster_is_one_only_if_all_see_it_alike() {
        let uids = [Some(7), Some(8)];
        let ada = "7 member c 0:7:Up 1:8:Up";
        assert!(is_one_cluster(&views(&[ada, "8 member c 1:8:Up 0:7:Up"]), &uids));
        for bob in [
            "8 member d 0:7:Up 1:8:Up",
            "8 member c 0:7:Up 1:8:Up?",
            "8 member c 0:7:Up 1:8:Joining",
            "8 member c 1:8:Up",
            "8 joining - ",
        ] {
            assert!(!is_one_cluster(&views(&[ada, bob]), &uids), "{bob}");
        }
        assert!(!is_one_cluster(&views(&[ada, ada]), &[Some(7), Some(9)]));
    }

    #[test]
    fn a_side_survives_when_it_counts_on_the_other_no_more() {
        let group = BTreeSet::from([0]);
        let both = views(&["7 member c 0:7:Up 1:8:Up?", "8 member c 0:7:Up? 1:8:Up"]);
        assert_eq!(surviving(&both, &group), [false, false]);
        let split = views(&["7 member c 0:7:Up", "8 member c 0:7:Down? 1:8:Up"]);
        assert_eq!(surviving(&split, &group), [true, true]);
        let right = views(&["7 ended c", "8 member c 1:8:Up"]);
        assert_eq!(surviving(&right, &group), [false, true]);
    }
}
