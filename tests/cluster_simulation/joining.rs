//! Nodes come: in any order, at once, late, again, and while somebody cannot be reached.

use tellwire::membership::downing::StableAfter;
use tellwire::membership::event::ClusterEvent;
use tellwire::membership::machine::Phase;
use tellwire::membership::member::MemberStatus;
use tellwire::membership::profile::Profile;
use tellwire::membership::settings::ClusterSettings;
use tellwire::testkit::cluster::{SimCluster, Start};

use crate::{agreed, check, cluster_count, draw, formed, has_told, secs, status, wait};

#[test]
fn nodes_join_in_any_order() {
    check("nodes_join_in_any_order", |cluster| {
        let mut nodes: Vec<u16> = (1..=draw(cluster, 2..=7)).collect();
        cluster.rng().shuffle(&mut nodes);
        for node in nodes {
            cluster.boot([node], &[1, 2]);
            wait(cluster, 0..=6_000)?;
        }
        agreed(cluster, secs(60))?;
        cluster.require("there is one cluster", cluster_count(cluster) == 1)
    });
}

#[test]
fn nodes_join_all_at_once() {
    check("nodes_join_all_at_once", |cluster| {
        let nodes = draw(cluster, 1..=8);
        let mut seeds = [1, 2, 3];
        cluster.rng().shuffle(&mut seeds);
        cluster.boot(1..=nodes.max(3), &seeds);
        agreed(cluster, secs(60))?;
        cluster.require("there is one cluster", cluster_count(cluster) == 1)
    });
}

#[test]
fn the_first_seed_comes_late() {
    check("the_first_seed_comes_late", |cluster| {
        cluster.boot(2..=5, &[1, 2, 3]);
        wait(cluster, 6_000..=30_000)?;
        let is_joining =
            |node| cluster.membership(node).map(|it| it.phase()) == Some(Phase::Joining);
        cluster.require("nobody but the first seed forms a cluster", (2..=5).all(is_joining))?;
        cluster.boot([1], &[1, 2, 3]);
        agreed(cluster, secs(60))
    });
}

#[test]
fn the_first_seed_restarts_into_what_is_there() {
    check("the_first_seed_restarts_into_what_is_there", |cluster| {
        formed(cluster, 4)?;
        let before = cluster.membership(2).and_then(|it| it.cluster());
        cluster.crash(1);
        wait(cluster, 0..=20_000)?;
        cluster.restart(1, Start::default(), &[1, 2, 3]);
        agreed(cluster, secs(90))?;
        let after = cluster.membership(1).and_then(|it| it.cluster());
        cluster.require("it is in the same cluster as before", after == before)
    });
}

#[test]
fn quick_restarts_change_roles() {
    check("quick_restarts_change_roles", |cluster| {
        formed(cluster, 4)?;
        let node = draw(cluster, 1..=4);
        let seeds: Vec<_> = (1..=4).filter(|seed| *seed != node).collect();
        for role in ["one", "two", "three"] {
            wait(cluster, 0..=4_000)?;
            let roles = role.parse().into_iter();
            let profile = Profile::default().with_roles(roles).unwrap_or_default();
            cluster.restart(node, Start::default().with_profile(profile), &seeds);
        }
        agreed(cluster, secs(120))?;
        let has_role = |by: u16| {
            let member = cluster.gossip(by)?.member(cluster.own(node)?)?;
            Some(member.profile().has_role("three"))
        };
        cluster.require("all know its last role", (1..=4).all(|by| has_role(by) == Some(true)))
    });
}

#[test]
fn a_joiner_is_weakly_up_while_a_member_is_unreachable() {
    check("a_joiner_is_weakly_up_while_a_member_is_unreachable", |cluster| {
        for node in 1..=4 {
            start_patient(cluster, node);
        }
        agreed(cluster, secs(60))?;
        let lost = draw(cluster, 1..=4);
        cluster.pause(lost);
        cluster.run_for(secs(15))?;
        start_patient(cluster, 5);
        let is_weakly_up = |cluster: &SimCluster| {
            (1..=5)
                .filter(|by| *by != lost)
                .all(|by| status(cluster, by, 5) == Some(MemberStatus::WeaklyUp))
        };
        cluster.run_until("the joiner is WeaklyUp for all", secs(60), is_weakly_up)?;
        cluster.resume(lost);
        agreed(cluster, secs(60))?;
        let told = |event: &ClusterEvent| matches!(event, ClusterEvent::Up(it) if it.node().address().port() == 5);
        cluster.require("it came Up", has_told(cluster, 5, told))
    });
}

/// Starts a node that waits for ten minutes before it declares anybody dead.
fn start_patient(cluster: &mut SimCluster, node: u16) {
    let mut settings = ClusterSettings::default();
    settings.downing.stable_after = StableAfter::Fixed(secs(600));
    cluster.start(node, Start::default().with_settings(settings));
    cluster.join(node, &[1, 2, 3, 4]);
}
