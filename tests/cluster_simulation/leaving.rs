//! Members leave, and nobody mistakes it for a crash.

use tellwire::membership::event::{ClusterEvent, StopCause};
use tellwire::membership::member::MemberStatus;
use tellwire::testkit::cluster::SimCluster;

use crate::{agreed, check, draw, formed, has_told, nobody_was_downed, running, secs, wait};

#[test]
fn the_leader_leaves_and_another_takes_over() {
    check("the_leader_leaves_and_another_takes_over", |cluster| {
        let nodes = draw(cluster, 2..=6);
        formed(cluster, nodes)?;
        let by = draw(cluster, 1..=nodes);
        cluster.leave(by, 1);
        let has_left = |cluster: &SimCluster| cluster.stop_cause(1) == Some(StopCause::Left);
        cluster.run_until("the leader has left", secs(60), has_left)?;
        agreed(cluster, secs(60))?;
        cluster.require("nobody was downed", nobody_was_downed(cluster))?;
        let state = cluster.membership(2).map(|it| it.state());
        let leader = state.as_ref().and_then(|state| state.leader());
        cluster.require("the next one leads", leader == cluster.own(2))
    });
}

#[test]
fn the_leader_leaves_although_another_has_crashed() {
    check("the_leader_leaves_although_another_has_crashed", |cluster| {
        let nodes = draw(cluster, 4..=7);
        formed(cluster, nodes)?;
        cluster.crash(nodes);
        wait(cluster, 0..=10_000)?;
        cluster.leave(2, 1);
        let has_left = |cluster: &SimCluster| cluster.stop_cause(1) == Some(StopCause::Left);
        cluster.run_until("the leader has left", secs(90), has_left)?;
        agreed(cluster, secs(60))?;
        let rest: Vec<_> = (2..nodes).collect();
        cluster.require("all others are there", running(cluster) == rest)
    });
}

#[test]
fn several_leave_at_once() {
    check("several_leave_at_once", |cluster| {
        formed(cluster, 6)?;
        let mut nodes: Vec<u16> = (1..=6).collect();
        cluster.rng().shuffle(&mut nodes);
        let count = usize::from(draw(cluster, 2..=5));
        for node in &nodes[..count] {
            cluster.leave(*node, *node);
            wait(cluster, 0..=500)?;
        }
        let have_left = |cluster: &SimCluster| {
            nodes[..count].iter().all(|node| cluster.stop_cause(*node) == Some(StopCause::Left))
        };
        cluster.run_until("all have left", secs(90), have_left)?;
        agreed(cluster, secs(60))?;
        cluster.require("nobody was downed", nobody_was_downed(cluster))
    });
}

#[test]
fn the_last_one_leaves() {
    check("the_last_one_leaves", |cluster| {
        formed(cluster, 1)?;
        cluster.leave(1, 1);
        let has_left = |cluster: &SimCluster| cluster.stop_cause(1) == Some(StopCause::Left);
        cluster.run_until("it has left", secs(30), has_left)
    });
}

#[test]
fn a_member_leaves_while_the_cluster_is_parted() {
    check("a_member_leaves_while_the_cluster_is_parted", |cluster| {
        formed(cluster, 7)?;
        cluster.split(&[&[1, 2], &[3, 4, 5, 6, 7]]);
        wait(cluster, 0..=8_000)?;
        let by = draw(cluster, 3..=7);
        cluster.leave(by, 4);
        let rest = [3, 5, 6, 7];
        cluster.run_until("the rest is there", secs(120), |it| running(it) == rest)?;
        cluster.require("it has left", cluster.stop_cause(4) == Some(StopCause::Left))?;
        agreed(cluster, secs(60))?;
        let is_farewell = |event: &ClusterEvent| {
            matches!(event, ClusterEvent::Removed { member, previous: MemberStatus::Exiting }
                if member.node().address().port() == 4)
        };
        cluster
            .require("all know why", rest.iter().all(|node| has_told(cluster, *node, is_farewell)))
    });
}
