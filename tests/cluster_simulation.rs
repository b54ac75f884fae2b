//! Puts whole clusters through what may happen to them, in virtual time, with many seeds for each scenario.
//!
//! | to | run |
//! |---|---|
//! | run as CI does | `cargo test --all-features --test cluster_simulation` |
//! | run more of each scenario | `TELLWIRE_SEEDS=5000 cargo test --all-features --test cluster_simulation` |
//! | replay a failure | `TELLWIRE_SEED=17 cargo test --all-features --test cluster_simulation NAME` |

#[path = "cluster_simulation/chaos.rs"]
mod chaos;
#[path = "cluster_simulation/crashes.rs"]
mod crashes;
#[path = "cluster_simulation/hostile.rs"]
mod hostile;
#[path = "cluster_simulation/islands.rs"]
mod islands;
#[path = "cluster_simulation/joining.rs"]
mod joining;
#[path = "cluster_simulation/leaving.rs"]
mod leaving;
#[path = "cluster_simulation/partitions.rs"]
mod partitions;

use std::collections::BTreeSet;
use std::time::Duration;

use tellwire::membership::event::ClusterEvent;
use tellwire::membership::member::MemberStatus;
use tellwire::testkit::cluster::{
    Failure, Farewell, NetworkSettings, Seeds, SimCluster, SimSettings,
};

type Run = Result<(), Failure>;

/// Runs a scenario with its share of the seeds.
fn check(name: &str, scenario: impl Fn(&mut SimCluster) -> Run) {
    Seeds::from_environment(SEEDS).run(name, |seed| scenario(&mut SimCluster::new(settings(seed))));
}

/// Gives every seed another network: near or far, sometimes one that loses and doubles PDUs.
fn settings(seed: u64) -> SimSettings {
    let [latency, jitter] = [[1, 1], [1, 20], [20, 80], [50, 200]][index(seed, 4)].map(millis);
    let (loss, duplication) = [(0.0, 0.0), (0.01, 0.0), (0.03, 0.05)][index(seed / 4, 3)];
    let network = NetworkSettings::default()
        .with_delay(latency, jitter)
        .with_loss(loss)
        .with_duplication(duplication);
    let farewell = [Farewell::Silent, Farewell::Quarantine][index(seed / 12, 2)];
    SimSettings::seeded(seed).with_network(network).with_farewell(farewell)
}

/// Makes a cluster of so many nodes and waits until all are Up.
fn formed(cluster: &mut SimCluster, nodes: u16) -> Run {
    cluster.boot(1..=nodes, &[1, 2]);
    agreed(cluster, secs(60))
}

/// Waits until the running nodes agree, without mending anything.
fn agreed(cluster: &mut SimCluster, within: Duration) -> Run {
    cluster.run_until("all running nodes agree", within, SimCluster::agrees)
}

/// Draws a number from a range.
fn draw(cluster: &mut SimCluster, range: std::ops::RangeInclusive<u16>) -> u16 {
    cluster.rng().u16(range)
}

/// Lets a time pass that is drawn from a range of milliseconds.
fn wait(cluster: &mut SimCluster, range: std::ops::RangeInclusive<u64>) -> Run {
    let time = millis(cluster.rng().u64(range));
    cluster.run_for(time)
}

fn running(cluster: &SimCluster) -> Vec<u16> {
    cluster.running().collect()
}

/// Counts the clusters that the running nodes belong to.
fn cluster_count(cluster: &SimCluster) -> usize {
    let ids = cluster.running().filter_map(|node| cluster.membership(node)?.cluster());
    ids.collect::<BTreeSet<_>>().len()
}

/// Returns what a node says another's status is.
fn status(cluster: &SimCluster, by: u16, node: u16) -> Option<MemberStatus> {
    let member = cluster.gossip(by)?.member(cluster.own(node)?)?;
    Some(member.status())
}

/// Tells whether a node has told of something.
fn has_told(cluster: &SimCluster, node: u16, is_it: impl Fn(&ClusterEvent) -> bool) -> bool {
    cluster.events(node).any(is_it)
}

/// Tells whether nobody was ever declared dead.
fn nobody_was_downed(cluster: &SimCluster) -> bool {
    let is_down = |event: &ClusterEvent| matches!(event, ClusterEvent::Downed(_));
    cluster.running().all(|node| !has_told(cluster, node, is_down))
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn index(number: u64, length: u64) -> usize {
    usize::try_from(number % length).unwrap_or_default()
}

/// Seeds of each of the 24 scenarios; with those of the hostile ones more than 2 000 runs.
const SEEDS: u64 = 80;
