//! Nodes go without warning, or seem to.

use tellwire::membership::downing::{Alone, KeepOldest};
use tellwire::membership::event::{ClusterEvent, StopCause};
use tellwire::membership::member::MemberStatus;
use tellwire::testkit::cluster::{SimCluster, Start};

use crate::{agreed, check, draw, formed, nobody_was_downed, running, secs, wait};

#[test]
fn a_crashed_member_is_unreachable_then_downed_then_removed() {
    check("a_crashed_member_is_unreachable_then_downed_then_removed", |cluster| {
        let nodes = draw(cluster, 3..=7);
        formed(cluster, nodes)?;
        let lost = draw(cluster, 1..=nodes);
        cluster.crash(lost);
        agreed(cluster, secs(90))?;
        for node in running(cluster) {
            let course = course(cluster, node, lost);
            let expected = ["unreachable", "downed", "removed"];
            cluster.require("its end was told in order", course.ends_with(&expected))?;
        }
        Ok(())
    });
}

#[test]
fn several_crash_one_after_the_other_and_come_back() {
    check("several_crash_one_after_the_other_and_come_back", |cluster| {
        formed(cluster, 5)?;
        for _ in 0..3 {
            let node = draw(cluster, 1..=5);
            cluster.crash(node);
            agreed(cluster, secs(90))?;
            let seeds: Vec<_> = (1..=5).filter(|seed| *seed != node).collect();
            cluster.restart(node, Start::default(), &seeds);
            agreed(cluster, secs(90))?;
        }
        cluster.require("all are there", running(cluster) == [1, 2, 3, 4, 5])
    });
}

#[test]
fn when_five_of_six_crash_the_strategy_decides_about_the_sixth() {
    check("when_five_of_six_crash_the_strategy_decides_about_the_sixth", |cluster| {
        let keeps_oldest = cluster.rng().bool();
        for node in 1..=6 {
            let start = Start::default();
            let start = if keeps_oldest {
                start.with_strategy(KeepOldest::new(Alone::Keep))
            } else {
                start
            };
            cluster.start(node, start);
            cluster.join(node, &[1, 2]);
        }
        agreed(cluster, secs(60))?;
        let left = if keeps_oldest { oldest(cluster) } else { draw(cluster, 1..=6) };
        (1..=6).filter(|node| *node != left).for_each(|node| cluster.crash(node));
        cluster.run_for(secs(120))?;
        if keeps_oldest {
            cluster.require("the oldest stays", running(cluster) == [left])?;
            cluster.require("and goes on alone", cluster.agrees())
        } else {
            let is_downed = cluster.stop_cause(left) == Some(StopCause::Downed);
            cluster.require("a minority of one goes", is_downed)
        }
    });
}

#[test]
fn short_pauses_cost_nobody_the_membership() {
    check("short_pauses_cost_nobody_the_membership", |cluster| {
        formed(cluster, 5)?;
        for _ in 0..6 {
            let node = draw(cluster, 1..=5);
            cluster.pause(node);
            wait(cluster, 100..=3_000)?;
            cluster.resume(node);
            wait(cluster, 0..=2_000)?;
        }
        agreed(cluster, secs(30))?;
        cluster.require("nobody was downed", nobody_was_downed(cluster))
    });
}

#[test]
fn a_pause_of_all_costs_nobody_the_membership() {
    check("a_pause_of_all_costs_nobody_the_membership", |cluster| {
        formed(cluster, 5)?;
        (1..=5).for_each(|node| cluster.pause(node));
        wait(cluster, 1_000..=600_000)?;
        (1..=5).for_each(|node| cluster.resume(node));
        agreed(cluster, secs(60))?;
        cluster.require("all are there", running(cluster).len() == 5)?;
        cluster.require("nobody was downed", nobody_was_downed(cluster))
    });
}

/// Lists what a node has told of the end of another.
fn course(cluster: &SimCluster, node: u16, lost: u16) -> Vec<&'static str> {
    let is_lost =
        |member: &tellwire::membership::member::Member| member.node().address().port() == lost;
    let word = |event: &ClusterEvent| match event {
        ClusterEvent::Unreachable(member) if is_lost(member) => Some("unreachable"),
        ClusterEvent::Downed(member) if is_lost(member) => Some("downed"),
        ClusterEvent::Removed { member, previous: MemberStatus::Down } if is_lost(member) => {
            Some("removed")
        }
        _ => None,
    };
    cluster.events(node).filter_map(word).collect()
}

fn oldest(cluster: &SimCluster) -> u16 {
    let members = cluster.gossip(1).into_iter().flat_map(|gossip| gossip.members());
    let oldest = members.min_by(|a, b| a.age_order(b));
    oldest.map_or(1, |member| member.node().address().port())
}
