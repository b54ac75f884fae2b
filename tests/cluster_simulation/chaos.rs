//! Anything happens, at any time; and the same seed makes it happen again.

use tellwire::membership::machine::Phase;
use tellwire::testkit::cluster::{NetworkSettings, SimCluster, Start};

use crate::{agreed, check, draw, formed, millis, running, secs, settings, wait};

#[test]
fn whatever_happens_those_that_are_left_agree_in_the_end() {
    check("whatever_happens_those_that_are_left_agree_in_the_end", |cluster| {
        let nodes = draw(cluster, 3..=7);
        formed(cluster, nodes)?;
        for _ in 0..draw(cluster, 3..=15) {
            disturb(cluster, nodes);
            wait(cluster, 0..=8_000)?;
        }
        cluster.end_faults();
        cluster.run_for(secs(60))?;
        if has_member(cluster) { agreed(cluster, secs(120)) } else { Ok(()) }
    });
}

#[test]
fn nothing_is_forgotten_when_the_seed_is_the_same() {
    let run = |seed| -> Result<_, tellwire::testkit::cluster::Failure> {
        let mut cluster = SimCluster::new(settings(seed).with_trace_lines(1_000_000));
        formed(&mut cluster, 5)?;
        for _ in 0..10 {
            disturb(&mut cluster, 5);
            wait(&mut cluster, 0..=8_000)?;
        }
        let lines: Vec<_> = cluster.trace().lines().map(str::to_owned).collect();
        Ok((lines.join("\n"), cluster.trace().digest()))
    };
    for seed in 0..5 {
        let (first, second, other) = (run(seed), run(seed), run(seed + 100));
        assert!(first.as_ref().is_ok_and(|(lines, _)| lines.lines().count() > 1_000), "{first:?}");
        assert!(first == second, "seed {seed} gives two traces");
        assert_ne!(first.map(|it| it.1), other.map(|it| it.1));
    }
}

/// Does one thing that is drawn.
fn disturb(cluster: &mut SimCluster, nodes: u16) {
    let node = draw(cluster, 1..=nodes);
    let other = draw(cluster, 1..=nodes);
    match draw(cluster, 0..=12) {
        0 => cluster.crash(node),
        1..=3 => come_back(cluster, node, nodes),
        4 => cluster.pause(node),
        5 => (1..=nodes).for_each(|node| cluster.resume(node)),
        6 => {
            let mut all: Vec<u16> = (1..=nodes).collect();
            cluster.rng().shuffle(&mut all);
            let (here, there) = all.split_at(usize::from(draw(cluster, 1..=nodes - 1)));
            cluster.split(&[here, there]);
        }
        7 => cluster.isolate(node),
        8 if node != other => cluster.cut_one_way(node, other),
        9 => cluster.leave(other, node),
        10 => {
            let delays = NetworkSettings::default().with_delay(millis(10), millis(300));
            cluster.set_network(delays.with_loss(0.1).with_duplication(0.1));
        }
        _ => cluster.recover(),
    }
}

/// Starts a node again, which then joins through any other.
fn come_back(cluster: &mut SimCluster, node: u16, nodes: u16) {
    let seeds: Vec<_> = (1..=nodes).filter(|seed| *seed != node).collect();
    cluster.restart(node, Start::default(), &seeds);
}

fn has_member(cluster: &SimCluster) -> bool {
    running(cluster).iter().any(|node| {
        cluster.membership(*node).is_some_and(|membership| membership.phase() == Phase::Member)
    })
}
