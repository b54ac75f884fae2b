//! Measures how fast clusters agree and what that costs: simulated seconds, and bytes per node and second.
//!
//! `cargo bench --features testkit --bench cluster_convergence [-- SIZE ... | hour]`
//!
//! Nothing here depends on the machine it runs on, only the time to wait for it does: about half a minute for 100 members,
//! some minutes for 1 000.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::env;
use std::time::{Duration, Instant};

use tellwire::membership::event::ClusterEvent;
use tellwire::testkit::cluster::{Failure, NetworkSettings, SimCluster, SimSettings, Wire};

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).filter(|it| !it.starts_with("--")).collect();
    let sizes: Vec<u16> = arguments.iter().filter_map(|it| it.parse().ok()).collect();
    if sizes.is_empty() || arguments.iter().any(|it| it == "hour") {
        for nodes in [10, 30] {
            hour(nodes)?;
        }
    }
    let sizes = match (sizes.is_empty(), arguments.is_empty()) {
        (true, true) => vec![3, 10, 100, 1_000],
        _ => sizes,
    };
    println!(
        "{:>7} {:<16} {:>9} {:>12} {:>12}",
        "members", "what", "seconds", "bytes/node/s", "heartbeats"
    );
    sizes.into_iter().try_for_each(course)
}

/// Lets so many nodes join at once, rest, take in one more, and lose one.
fn course(nodes: u16) -> Result<(), Failure> {
    let wall = Instant::now();
    let mut cluster = SimCluster::with_invariants(settings(7), Vec::new());
    let seeds: Vec<u16> = (1..=nodes.min(3)).collect();
    cluster.boot(1..=nodes, &seeds);
    measure(&mut cluster, nodes, "all join at once", SimCluster::agrees)?;
    cluster.run_for(Duration::from_secs(20))?;
    let end = cluster.elapsed() + Duration::from_secs(60);
    measure(&mut cluster, nodes, "idle for 60 s", |cluster| cluster.elapsed() >= end)?;
    cluster.boot([nodes + 1], &seeds);
    measure(&mut cluster, nodes, "one joins", SimCluster::agrees)?;
    cluster.crash(nodes);
    measure(&mut cluster, nodes, "one crashes", SimCluster::agrees)?;
    println!("{nodes:>7} took {:.1} s to compute", wall.elapsed().as_secs_f64());
    Ok(())
}

/// Waits until it is there, and prints how long that took and what was sent meanwhile.
fn measure(
    cluster: &mut SimCluster,
    nodes: u16,
    what: &str,
    is_there: impl Fn(&SimCluster) -> bool,
) -> Result<(), Failure> {
    let (since, before) = (cluster.elapsed(), sent(cluster, nodes));
    while !is_there(cluster) && cluster.elapsed() - since < LONGEST {
        cluster.run_for(SLICE)?;
    }
    let seconds = (cluster.elapsed() - since).as_secs_f64();
    let after = sent(cluster, nodes);
    let [all, heartbeats] =
        [0, 1].map(|kind| (after[kind] - before[kind]) as f64 / f64::from(nodes) / seconds);
    let missed = if is_there(cluster) { "" } else { " and is not there" };
    println!("{nodes:>7} {what:<16} {seconds:>9.1} {all:>12.0} {heartbeats:>12.0}{missed}");
    Ok(())
}

/// Counts what all nodes have sent: all bytes, and those of heartbeats.
fn sent(cluster: &SimCluster, nodes: u16) -> [u64; 2] {
    let traffic = (1..=nodes + 1).map(|node| cluster.traffic(node));
    traffic.fold([0; 2], |[all, beats], it| [all + it.bytes, beats + it.heartbeat_bytes])
}

/// Counts who is removed in an hour of 5 % loss, 200 ms jitter and a pause of 2 s each 10 s.
fn hour(nodes: u16) -> Result<(), Failure> {
    let network = NetworkSettings::default()
        .with_delay(Duration::from_millis(20), Duration::from_millis(200))
        .with_loss(0.05);
    let mut cluster = SimCluster::with_invariants(settings(7).with_network(network), Vec::new());
    cluster.boot(1..=nodes, &[1, 2]);
    for _ in 0..360 {
        let node = cluster.rng().u16(1..=nodes);
        cluster.pause(node);
        cluster.run_for(Duration::from_secs(2))?;
        cluster.resume(node);
        cluster.run_for(Duration::from_secs(8))?;
    }
    let count = |is_it: fn(&ClusterEvent) -> bool| {
        (1..=nodes).flat_map(|node| cluster.events(node)).filter(|event| is_it(event)).count()
    };
    let unreachable = count(|event| matches!(event, ClusterEvent::Unreachable(_)));
    let removed = count(|event| matches!(event, ClusterEvent::Removed { .. }));
    let running = cluster.running().count();
    println!(
        "an hour of {nodes} members with loss, jitter and pauses: {running} are there, {removed} told as removed, {unreachable} as unreachable"
    );
    Ok(())
}

fn settings(seed: u64) -> SimSettings {
    SimSettings::seeded(seed).with_wire(Wire::Counted).with_trace_lines(0)
}

/// How exactly times are measured.
const SLICE: Duration = Duration::from_millis(100);
/// Waiting longer is in vain.
const LONGEST: Duration = Duration::from_secs(180);
