//! Clusters that were formed apart stay apart, and say so.

use tellwire::membership::event::ClusterEvent;
use tellwire::testkit::cluster::{SimCluster, Start};

use crate::{agreed, check, cluster_count, draw, formed, has_told, running, secs, wait};

#[test]
fn a_seed_that_restarts_cut_off_makes_an_island_that_is_reported() {
    check("a_seed_that_restarts_cut_off_makes_an_island_that_is_reported", |cluster| {
        formed(cluster, 5)?;
        cluster.split(&[&[1], &[2, 3, 4, 5]]);
        wait(cluster, 0..=5_000)?;
        cluster.restart(1, Start::default(), &[1, 2]);
        cluster.run_for(secs(60))?;
        cluster.require("there are two clusters", cluster_count(cluster) == 2)?;
        cluster.recover();
        cluster.run_until("both hear of each other", secs(60), |cluster| {
            reports_island(cluster, 1) && (2..=5).any(|node| reports_island(cluster, node))
        })?;
        cluster.run_for(secs(30))?;
        cluster.require("they do not merge", cluster_count(cluster) == 2)?;
        cluster.restart(1, Start::default(), &[2, 3]);
        agreed(cluster, secs(90))
    });
}

#[test]
fn two_clusters_told_to_join_each_other_stay_two() {
    check("two_clusters_told_to_join_each_other_stay_two", |cluster| {
        cluster.split(&[&[1, 2, 3], &[4, 5, 6]]);
        cluster.boot(1..=3, &[1, 4]);
        cluster.boot(4..=6, &[4, 1]);
        cluster.run_for(secs(30))?;
        cluster.recover();
        let (here, there) = (draw(cluster, 1..=3), draw(cluster, 4..=6));
        for (node, seed) in [(here, there), (there, here)] {
            let is_refused = cluster.try_join(node, &[seed]).is_err();
            cluster.require("a member does not join", is_refused)?;
        }
        cluster.run_until("both hear of each other", secs(60), |cluster| {
            let any = |mut nodes: std::ops::RangeInclusive<u16>| {
                nodes.any(|node| reports_island(cluster, node))
            };
            any(1..=3) && any(4..=6)
        })?;
        cluster.run_for(secs(30))?;
        cluster.require("there are two clusters", cluster_count(cluster) == 2)?;
        cluster.require("nobody is lost", running(cluster).len() == 6)?;
        for node in 4..=6 {
            cluster.restart(node, Start::default(), &[1, 2]);
        }
        agreed(cluster, secs(90))
    });
}

fn reports_island(cluster: &SimCluster, node: u16) -> bool {
    has_told(cluster, node, |event| matches!(event, ClusterEvent::Island { .. }))
}
