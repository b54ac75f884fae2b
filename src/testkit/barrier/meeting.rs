//! Counts who has arrived where: the controller without its sockets.
//!
//! ```text
//!   label:  ── round 0 ──all here──► round 1 ──all here──► round 2 ...
//!               │                      │
//!               └── somebody's time is over ──► failed, for ever
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Says who was at a barrier, and who was not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrivals {
    /// Which use of the label it was, counted from 0.
    pub round: u64,
    /// The nodes that had arrived.
    pub arrived: BTreeSet<String>,
    /// The nodes that were expected and had not.
    pub missing: BTreeSet<String>,
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, arrived, missing } = self;
        write!(f, "round {round}: arrived {arrived:?}, missing {missing:?}")
    }
}

/// Knows every node, label and value.
#[derive(Debug)]
pub(super) struct Meeting {
    nodes: BTreeMap<String, Presence>,
    labels: BTreeMap<String, Label>,
    values: BTreeMap<String, String>,
    max_labels: usize,
    max_values: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Not joined yet, or dead.
    Away,
    /// Joined over the link of this number.
    Here(u64),
    /// Not expected any more.
    Left,
}

#[derive(Debug, Default)]
struct Label {
    round: u64,
    arrived: BTreeSet<String>,
    /// Who was at the round before this one.
    last: BTreeSet<String>,
    failed: Option<Arrivals>,
    /// Rounds that the driver knows to be over.
    seen: u64,
}

/// Says how a round of a label ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Opened(Arrivals),
    Failed(Arrivals),
}

impl Meeting {
    pub(super) fn new(names: BTreeSet<String>, max_labels: usize, max_values: usize) -> Self {
        let nodes = names.into_iter().map(|name| (name, Presence::Away)).collect();
        let (labels, values) = (BTreeMap::new(), BTreeMap::new());
        Self { nodes, labels, values, max_labels, max_values }
    }

    /// Lets a node join over a link; says why not.
    pub(super) fn join(&mut self, name: &str, link: u64) -> Result<(), String> {
        match self.nodes.get_mut(name) {
            None => Err(format!("no node {name} is expected")),
            Some(Presence::Here(_)) => Err(format!("node {name} has joined already")),
            Some(presence) => {
                *presence = Presence::Here(link);
                Ok(())
            }
        }
    }

    /// Notes that the link of a node has ended: it counts no more where it had arrived, and is waited for.
    pub(super) fn die(&mut self, name: &str, link: u64) {
        let presence = self.nodes.get_mut(name);
        if let Some(presence) = presence.filter(|presence| **presence == Presence::Here(link)) {
            *presence = Presence::Away;
            self.withdraw(name);
        }
    }

    /// Expects a node no more; tells whether it was expected.
    pub(super) fn leave(&mut self, name: &str) -> bool {
        let Some(presence) = self.nodes.get_mut(name) else { return false };
        let was_expected = std::mem::replace(presence, Presence::Left) != Presence::Left;
        self.withdraw(name);
        self.open_what_is_complete();
        was_expected
    }

    /// Gives the first round of a label that the driver has not seen the end of; says why there is none.
    pub(super) fn unseen(&mut self, label: &str) -> Result<u64, String> {
        self.round(label)?;
        Ok(self.labels.get(label).map_or(0, |label| label.seen))
    }

    /// Notes that the driver has seen every round that is over.
    pub(super) fn see(&mut self, label: &str) {
        if let Some(label) = self.labels.get_mut(label) {
            label.seen = label.round;
        }
    }

    /// Notes an arrival, and gives the round that it counts for; says why not.
    pub(super) fn arrive(&mut self, label: &str, name: &str) -> Result<u64, String> {
        let round = self.round(label)?;
        if let Some(label) = self.labels.get_mut(label) {
            label.arrived.insert(name.to_owned());
        }
        self.open_what_is_complete();
        Ok(round)
    }

    /// Gives the round that is open at a label; says why there is none.
    fn round(&mut self, label: &str) -> Result<u64, String> {
        if !self.labels.contains_key(label) && self.labels.len() >= self.max_labels {
            return Err(format!("there are {} labels, as many as may be", self.max_labels));
        }
        Ok(self.labels.entry(label.to_owned()).or_default().round)
    }

    /// Says how a round ended, if it has; of several that are over, the last.
    pub(super) fn outcome(&self, label: &str, round: u64) -> Option<Outcome> {
        let label = self.labels.get(label)?;
        if label.round > round {
            let (round, missing) = (label.round - 1, BTreeSet::new());
            let arrived = label.last.clone();
            return Some(Outcome::Opened(Arrivals { round, arrived, missing }));
        }
        label.failed.clone().map(Outcome::Failed)
    }

    /// Fails a label for ever, unless the round has ended meanwhile.
    pub(super) fn fail(&mut self, name: &str, round: u64) {
        let expected = self.expected();
        let Some(label) = self.labels.get_mut(name) else { return };
        if label.round == round && label.failed.is_none() {
            let arrived = label.arrived.clone();
            let missing = expected.difference(&arrived).cloned().collect();
            label.failed = Some(Arrivals { round, arrived, missing });
        }
    }

    /// Keeps a value under a key, in place of an older one; says why not.
    pub(super) fn put(&mut self, key: &str, value: String) -> Result<(), String> {
        if !self.values.contains_key(key) && self.values.len() >= self.max_values {
            return Err(format!("there are {} values, as many as may be", self.max_values));
        }
        self.values.insert(key.to_owned(), value);
        Ok(())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Gives the nodes that are expected and not there.
    pub(super) fn away(&self) -> BTreeSet<String> {
        self.named(|presence| presence == Presence::Away)
    }

    /// Gives the nodes that are there.
    pub(super) fn here(&self) -> BTreeSet<String> {
        self.named(|presence| matches!(presence, Presence::Here(_)))
    }

    fn expected(&self) -> BTreeSet<String> {
        self.named(|presence| presence != Presence::Left)
    }

    fn named(&self, is_meant: impl Fn(Presence) -> bool) -> BTreeSet<String> {
        let meant = self.nodes.iter().filter(|(_, presence)| is_meant(**presence));
        meant.map(|(name, _)| name.clone()).collect()
    }

    fn withdraw(&mut self, name: &str) {
        for label in self.labels.values_mut().filter(|label| label.failed.is_none()) {
            label.arrived.remove(name);
        }
    }

    fn open_what_is_complete(&mut self) {
        let expected = self.expected();
        for label in self.labels.values_mut() {
            let is_waited_for = label.failed.is_none() && !label.arrived.is_empty();
            if is_waited_for && expected.is_subset(&label.arrived) {
                label.last = std::mem::take(&mut label.arrived);
                label.round += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Three nodes that have joined over the links 1, 2 and 3.
    fn three() -> Meeting {
        let mut meeting = Meeting::new(set(&["a", "b", "c"]), 2, 1);
        for (name, link) in [("a", 1), ("b", 2), ("c", 3)] {
            meeting.join(name, link).unwrap();
        }
        meeting
    }

    fn opened(meeting: &Meeting, round: u64) -> bool {
        matches!(meeting.outcome("x", round), Some(Outcome::Opened(_)))
    }

    #[test]
    fn a_label_opens_when_all_are_there_and_begins_anew() {
        let mut meeting = three();
        for round in 0..3 {
            for name in ["a", "b", "b", "a", "b"] {
                assert_eq!(meeting.arrive("x", name), Ok(round), "twice counts once");
            }
            assert_eq!(meeting.outcome("x", round), None);
            assert_eq!(meeting.arrive("x", "c"), Ok(round));
            let arrivals =
                Arrivals { round, arrived: set(&["a", "b", "c"]), missing: BTreeSet::new() };
            assert_eq!(meeting.outcome("x", round), Some(Outcome::Opened(arrivals)));
        }
    }

    #[test]
    fn the_dead_count_no_more_and_are_waited_for() {
        let mut meeting = three();
        meeting.arrive("x", "a").unwrap();
        meeting.arrive("x", "b").unwrap();
        meeting.die("b", 9);
        assert_eq!(meeting.away(), set(&[]), "an older link of the node says nothing");
        meeting.die("b", 2);
        meeting.arrive("x", "c").unwrap();
        assert_eq!(meeting.outcome("x", 0), None);
        assert_eq!(meeting.away(), set(&["b"]));
        meeting.join("b", 4).unwrap();
        meeting.arrive("x", "b").unwrap();
        assert!(opened(&meeting, 0));
    }

    #[test]
    fn who_leaves_is_not_waited_for() {
        let mut meeting = three();
        meeting.arrive("x", "a").unwrap();
        meeting.arrive("x", "c").unwrap();
        assert!(meeting.leave("b") && !meeting.leave("b") && !meeting.leave("z"));
        assert!(opened(&meeting, 0));
        meeting.arrive("x", "a").unwrap();
        assert!(!opened(&meeting, 1), "c is still expected");
        meeting.join("b", 5).unwrap();
        meeting.arrive("x", "c").unwrap();
        assert!(!opened(&meeting, 1), "whoever joins again is expected again");
    }

    #[test]
    fn a_failed_label_stays_failed_for_late_comers() {
        let mut meeting = three();
        meeting.arrive("x", "a").unwrap();
        meeting.fail("x", 0);
        let failed = Arrivals { round: 0, arrived: set(&["a"]), missing: set(&["b", "c"]) };
        for late in ["b", "c", "a"] {
            assert_eq!(meeting.arrive("x", late), Ok(0));
            assert_eq!(meeting.outcome("x", 0), Some(Outcome::Failed(failed.clone())));
        }
        let mut meeting = three();
        for name in ["a", "b", "c"] {
            meeting.arrive("x", name).unwrap();
        }
        meeting.fail("x", 0);
        assert!(opened(&meeting, 0), "a round that is over cannot fail");
    }

    #[test]
    fn the_driver_sees_what_opened_before_it_looked() {
        let mut meeting = three();
        assert_eq!(meeting.unseen("x"), Ok(0));
        for name in ["a", "b", "c", "a", "b", "c"] {
            meeting.arrive("x", name).unwrap();
        }
        assert!(opened(&meeting, meeting.labels["x"].seen));
        meeting.see("x");
        assert_eq!((meeting.unseen("x"), opened(&meeting, 2)), (Ok(2), false));
    }

    #[test]
    fn names_labels_and_values_are_bounded() {
        let mut meeting = three();
        assert!(meeting.join("z", 9).is_err() && meeting.join("a", 9).is_err());
        meeting.arrive("x", "a").unwrap();
        meeting.arrive("y", "a").unwrap();
        assert!(meeting.arrive("z", "a").is_err());
        meeting.put("k", "1".into()).unwrap();
        meeting.put("k", "2".into()).unwrap();
        assert!(meeting.put("l", "1".into()).is_err());
        assert_eq!((meeting.get("k"), meeting.get("l")), (Some("2"), None));
    }
}
