//! Spells views as text for the tests of this folder, and holds the properties that all strategies share.
//!
//! `"a b:joining | c/x#0"`: node a sees a and b, a member with the role x and the age 0 is unreachable for them. The
//! first is the own node and its leader, the members without a status are Up, and without an age as old as their name.
//! `"b>c"` adds that b cannot reach c. Those on the left have seen the current gossip.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use super::{Decision, DowningStrategy, Unreachability, View, ViewMember, ViewStatus};
use crate::address::UniqueAddress;

mod partitions;

/// Holds each strategy's table: sides, further rows, the decision and the nodes it means.
pub(super) type Row = (&'static str, &'static str, Decision, &'static str);

pub(super) fn assert_decisions(strategy: &dyn DowningStrategy, table: &[Row]) {
    for (sides, rows, decision, nodes) in table {
        let view = view(sides, rows);
        let decided = strategy.decide(&view);
        assert_eq!(decided, *decision, "{sides} {rows}");
        assert_eq!(names(decided.nodes(strategy, &view)), *nodes, "{sides} {rows}");
    }
}

/// Gives the view of a node that holds another to be the leader.
pub(super) fn view_led_by(leader: &str, sides: &str) -> View {
    view_of(sides, "", Some(address(leader)))
}

pub(super) fn view(sides: &str, rows: &str) -> View {
    view_of(sides, rows, None)
}

fn view_of(sides: &str, rows: &str, leader: Option<UniqueAddress>) -> View {
    let (here, there) = sides.split_once('|').unwrap_or((sides, ""));
    let here: Vec<_> = here.split_whitespace().map(member).collect();
    let there: Vec<_> = there.split_whitespace().map(member).collect();
    let own = here[0].address.clone();
    let seen = here.iter().map(|member| member.address.clone()).collect();
    let rows: Vec<_> =
        rows.split_whitespace().map(row).chain(rows_between(&here, &there)).collect();
    let members = here.into_iter().chain(there).collect();
    let leader = leader.or_else(|| Some(own.clone()));
    View::new(own, leader, members, rows, seen)
}

pub(super) fn rows_between(
    observers: &[ViewMember],
    subjects: &[ViewMember],
) -> Vec<Unreachability> {
    let pairs = observers.iter().flat_map(|observer| subjects.iter().map(move |it| (observer, it)));
    let unreachability = |(observer, subject): (&ViewMember, &ViewMember)| Unreachability {
        observer: observer.address.clone(),
        subject: subject.address.clone(),
    };
    pairs.map(unreachability).collect()
}

pub(super) fn address(name: &str) -> UniqueAddress {
    format!("tcp://Split@{name}:2551#{:016x}", name.len()).parse().unwrap()
}

pub(super) fn names(nodes: impl IntoIterator<Item: Borrow<UniqueAddress>>) -> String {
    nodes.into_iter().map(|node| node.borrow().address().host().to_owned()).collect()
}

fn row(text: &str) -> Unreachability {
    let (observer, subject) = text.split_once('>').unwrap();
    Unreachability { observer: address(observer), subject: address(subject) }
}

fn member(text: &str) -> ViewMember {
    let (text, age) = text.split_once('#').unwrap_or((text, ""));
    let (text, status) = text.split_once(':').unwrap_or((text, "up"));
    let (name, role) = text.split_once('/').unwrap_or((text, ""));
    let up_number = age.parse().unwrap_or_else(|_| u64::from(name.as_bytes()[0]));
    let roles = role.split_terminator('/').map(str::to_owned).collect();
    ViewMember { address: address(name), status: status_of(status), roles, up_number }
}

fn status_of(text: &str) -> ViewStatus {
    match text {
        "joining" => ViewStatus::Joining,
        "weakly" => ViewStatus::WeaklyUp,
        "up" => ViewStatus::Up,
        "leaving" => ViewStatus::Leaving,
        "exiting" => ViewStatus::Exiting,
        "down" => ViewStatus::Down,
        other => panic!("{other} is no status"),
    }
}

#[test]
fn a_decision_to_go_downs_the_own_node_last() {
    #[derive(Debug)]
    struct Says(Decision);

    impl DowningStrategy for Says {
        fn decide(&self, _view: &View) -> Decision {
            self.0
        }
    }

    let table = [
        (Decision::DownUnreachable, "cd"),
        (Decision::DownReachable, "ab"),
        (Decision::DownAll, "acdb"),
        (Decision::DownSelf, "b"),
    ];
    for (decision, nodes) in table {
        assert_eq!(names(decision.nodes(&Says(decision), &view("b a | c d", ""))), nodes);
    }
    // A strategy that says so twice knows no way out.
    let twice = Says(Decision::DownIndirectlyConnected);
    let stuck = view("b a e | c d", "a>b b>a");
    assert_eq!(names(twice.0.nodes(&twice, &stuck)), "acdeb");
}

#[test]
fn what_is_removed_or_going_is_not_downed_again() {
    let view = view("a b:exiting | c:exiting d:down e", "");
    let everybody: BTreeSet<_> =
        Decision::DownAll.nodes(&super::DownAll, &view).into_iter().collect();
    assert_eq!(names(everybody), "ae");
}
