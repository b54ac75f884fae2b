//! Time goes wrong: processes are held up, PDUs come late, and clocks differ.

use tellwire::membership::event::StopCause;
use tellwire::testkit::cluster::{NetworkSettings, Seeds, SimCluster, SimSettings, Start, Wire};

use crate::{agreed, check, draw, formed, millis, nobody_was_downed, running, secs, wait};

#[test]
fn nobody_is_removed_in_an_hour_of_loss_jitter_and_pauses() {
    Seeds::from_environment(HOURS).run(
        "nobody_is_removed_in_an_hour_of_loss_jitter_and_pauses",
        |seed| {
            let network = NetworkSettings::default().with_delay(millis(20), millis(200));
            let settings = SimSettings::seeded(seed).with_network(network.with_loss(0.05));
            let mut cluster = SimCluster::new(settings.with_wire(Wire::Passed));
            formed(&mut cluster, 7)?;
            let end = cluster.elapsed() + secs(3_600);
            while cluster.elapsed() < end {
                let node = draw(&mut cluster, 1..=7);
                cluster.pause(node);
                cluster.run_for(secs(2))?;
                cluster.resume(node);
                wait(&mut cluster, 2_000..=10_000)?;
            }
            agreed(&mut cluster, secs(30))?;
            let is_whole = running(&cluster).len() == 7 && nobody_was_downed(&cluster);
            cluster.require("nobody was removed", is_whole)
        },
    );
}

#[test]
fn a_member_paused_until_it_was_removed_stops_when_it_goes_on() {
    check("a_member_paused_until_it_was_removed_stops_when_it_goes_on", |cluster| {
        let nodes = draw(cluster, 3..=7);
        formed(cluster, nodes)?;
        let held = draw(cluster, 1..=nodes);
        cluster.pause(held);
        cluster.run_for(secs(90))?;
        cluster.resume(held);
        let has_stopped = |cluster: &SimCluster| cluster.stop_cause(held).is_some();
        cluster.run_until("it stops", secs(60), has_stopped)?;
        let cause = cluster.stop_cause(held);
        cluster.require("as one that is not wanted", cause != Some(StopCause::Left))?;
        agreed(cluster, secs(30))?;
        cluster.require("all others are there", running(cluster).len() == usize::from(nodes - 1))
    });
}

#[test]
fn wall_clocks_that_are_years_apart_do_no_harm() {
    check("wall_clocks_that_are_years_apart_do_no_harm", |cluster| {
        for node in 1..=5 {
            let start = astray(cluster);
            cluster.start(node, start);
            cluster.join(node, &[1, 2]);
        }
        agreed(cluster, secs(60))?;
        for _ in 0..3 {
            let node = draw(cluster, 1..=5);
            if cluster.rng().bool() {
                cluster.leave(node, node);
                let is_gone = |cluster: &SimCluster| !running(cluster).contains(&node);
                cluster.run_until("it has left", secs(60), is_gone)?;
            } else {
                cluster.crash(node);
            }
            wait(cluster, 0..=20_000)?;
            let (start, seeds) = (astray(cluster), (1..=5).filter(|seed| *seed != node));
            cluster.restart(node, start, &seeds.collect::<Vec<_>>());
            agreed(cluster, secs(90))?;
        }
        cluster.require("all are there", running(cluster).len() == 5)
    });
}

/// Gives a node that takes the present for any time of the last fifty years.
fn astray(cluster: &mut SimCluster) -> Start {
    let wall = secs(cluster.rng().u64(0..1_700_000_000));
    Start::default().with_wall_clock(wall)
}

/// Seeds of the hour.
const HOURS: u64 = 2;
