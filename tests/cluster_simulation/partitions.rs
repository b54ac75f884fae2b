//! The network breaks, along a line or between some nodes only.

use tellwire::membership::event::StopCause;
use tellwire::testkit::cluster::SimCluster;

use crate::{agreed, check, draw, formed, nobody_was_downed, running, secs, wait};

#[test]
fn a_partition_that_heals_costs_nobody_the_membership() {
    check("a_partition_that_heals_costs_nobody_the_membership", |cluster| {
        let nodes = draw(cluster, 2..=7);
        formed(cluster, nodes)?;
        for _ in 0..2 {
            part(cluster, nodes);
            wait(cluster, 500..=6_000)?;
            cluster.recover();
            cluster.run_for(secs(5))?;
            agreed(cluster, secs(30))?;
        }
        cluster.require("nobody was downed", nobody_was_downed(cluster))
    });
}

#[test]
fn of_two_sides_exactly_one_survives() {
    check("of_two_sides_exactly_one_survives", |cluster| {
        let nodes = draw(cluster, 2..=8);
        formed(cluster, nodes)?;
        let sides = part(cluster, nodes);
        // The majority, or the side of the first address if there is none.
        let expected = sides.into_iter().max_by_key(|side| (side.len(), side.contains(&1)));
        cluster.run_for(secs(90))?;
        cluster.require("one side is there", Some(running(cluster)) == expected)?;
        cluster.recover();
        agreed(cluster, secs(30))?;
        cluster.require("it stays so", Some(running(cluster)) == expected)
    });
}

#[test]
fn of_three_sides_the_majority_survives_or_none() {
    check("of_three_sides_the_majority_survives_or_none", |cluster| {
        formed(cluster, 7)?;
        let mut nodes: Vec<u16> = (1..=7).collect();
        cluster.rng().shuffle(&mut nodes);
        let first = usize::from(draw(cluster, 2..=5));
        let second = first + 1;
        cluster.split(&[&nodes[..first], &nodes[first..second], &nodes[second..]]);
        cluster.run_for(secs(120))?;
        let sides = [&nodes[..first], &nodes[second..]];
        let majority = sides.into_iter().find(|side| side.len() > 3);
        let mut expected = majority.map(<[u16]>::to_vec).unwrap_or_default();
        expected.sort_unstable();
        cluster.require("only a majority is there", running(cluster) == expected)
    });
}

#[test]
fn nodes_that_cannot_reach_each_other_both_go() {
    check("nodes_that_cannot_reach_each_other_both_go", |cluster| {
        let nodes = draw(cluster, 5..=8);
        formed(cluster, nodes)?;
        let left = draw(cluster, 1..=nodes - 1);
        let right = draw(cluster, left + 1..=nodes);
        cluster.cut(left, right);
        let rest: Vec<_> = (1..=nodes).filter(|node| ![left, right].contains(node)).collect();
        cluster.run_until("only the others are there", secs(120), |it| running(it) == rest)?;
        agreed(cluster, secs(60))
    });
}

#[test]
fn a_node_that_does_not_hear_another_goes_alone() {
    check("a_node_that_does_not_hear_another_goes_alone", |cluster| {
        let nodes = draw(cluster, 4..=8);
        formed(cluster, nodes)?;
        let deaf = draw(cluster, 1..=nodes);
        let unheard: Vec<_> = (1..=nodes).filter(|node| *node != deaf).collect();
        let unheard = &unheard[..usize::from(draw(cluster, 1..=nodes - 1))];
        unheard.iter().for_each(|node| cluster.cut_one_way(*node, deaf));
        let rest: Vec<_> = (1..=nodes).filter(|node| *node != deaf).collect();
        cluster.run_until("all others are there", secs(120), |it| running(it) == rest)?;
        agreed(cluster, secs(60))
    });
}

#[test]
fn a_node_that_nobody_hears_goes_alone() {
    check("a_node_that_nobody_hears_goes_alone", |cluster| {
        let nodes = draw(cluster, 3..=8);
        formed(cluster, nodes)?;
        let mute = draw(cluster, 1..=nodes);
        (1..=nodes).filter(|node| *node != mute).for_each(|node| cluster.cut_one_way(mute, node));
        let rest: Vec<_> = (1..=nodes).filter(|node| *node != mute).collect();
        cluster.run_until("all others are there", secs(120), |it| running(it) == rest)?;
        agreed(cluster, secs(60))?;
        cluster.require("it knows", cluster.stop_cause(mute) == Some(StopCause::Downed))
    });
}

/// Parts the nodes into two groups that are drawn, neither of them empty.
fn part(cluster: &mut SimCluster, nodes: u16) -> [Vec<u16>; 2] {
    let mut all: Vec<u16> = (1..=nodes).collect();
    cluster.rng().shuffle(&mut all);
    let size = usize::from(draw(cluster, 1..=nodes - 1));
    let (here, there) = all.split_at(size);
    cluster.split(&[here, there]);
    [here, there].map(|side| {
        let mut side = side.to_vec();
        side.sort_unstable();
        side
    })
}
