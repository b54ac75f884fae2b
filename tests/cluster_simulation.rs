//! Puts whole clusters through what may happen to them, in virtual time, with many seeds for each scenario.
//!
//! | to | run |
//! |---|---|
//! | run as CI does | `cargo test --all-features --test cluster_simulation` |
//! | run more of each scenario | `TELLWIRE_SEEDS=5000 cargo test --all-features --test cluster_simulation` |
//! | replay a failure | `TELLWIRE_SEED=17 cargo test --all-features --test cluster_simulation NAME` |
//!
//! # Which test shows what
//!
//! | what happens | test |
//! |---|---|
//! | nodes join in any order, and all at once | `joining::nodes_join_in_any_order`, `nodes_join_all_at_once` |
//! | the first seed comes late, or restarts | `joining::the_first_seed_comes_late`, `the_first_seed_restarts_into_what_is_there` |
//! | a seed restarts while it is parted from the rest | `islands::a_seed_that_restarts_cut_off_makes_an_island_that_is_reported` |
//! | quick restarts with other roles | `joining::quick_restarts_change_roles` |
//! | a crash, several, five of six at once | `crashes::a_crashed_member_…`, `several_crash_…`, `when_five_of_six_crash_…` |
//! | a partition that heals, or is resolved on both sides | `partitions::a_partition_that_heals_…`, `of_two_sides_…`, `of_three_sides_…` |
//! | indirectly connected nodes, ways cut in one direction | `partitions::nodes_that_cannot_reach_each_other_both_go`, `a_node_that_…` |
//! | the leader leaves, also while a member has crashed | `leaving::the_leader_leaves_…` |
//! | a member leaves while the cluster is parted | `leaving::a_member_leaves_while_the_cluster_is_parted` |
//! | a joiner while a member is unreachable | `joining::a_joiner_is_weakly_up_while_a_member_is_unreachable` |
//! | two clusters told to join each other | `islands::two_clusters_told_to_join_each_other_stay_two` |
//! | an hour of 5 % loss, 200 ms jitter and pauses of 2 s | `clocks::nobody_is_removed_in_an_hour_of_loss_jitter_and_pauses` |
//! | anything, in any order, and again with the same seed | `chaos` |
//!
//! | bad input | test |
//! |---|---|
//! | gossip of a node that is no member, or in another's name | `hostile::gossip_of_a_stranger_is_ignored`, `a_pdu_in_the_name_of_another_is_ignored` |
//! | of an old incarnation | `hostile::gossip_of_an_earlier_incarnation_is_ignored` |
//! | for another cluster | `hostile::gossip_of_another_cluster_is_ignored` |
//! | with more members than the cap | `hostile::gossip_with_too_many_members_is_refused` |
//! | with statuses going backwards | `hostile::statuses_that_go_backwards_are_corrected` |
//! | with the receiver's incarnation declared dead | `hostile::a_tombstone_of_the_receiver_is_refused`, and Down in those of strangers |
//! | a member that accuses all others | `hostile::a_member_that_accuses_all_others_goes_alone` |
//! | PDUs cut short, garbled or oversized | `hostile::pdus_cut_short_or_too_long_are_ignored` |
//! | paused processes: one, all, until it was removed | `crashes::short_pauses_…`, `a_pause_of_all_…`, `clocks::a_member_paused_…` |
//! | wall clocks that differ; monotonic ones jump by pauses only | `clocks::wall_clocks_that_are_years_apart_do_no_harm` |

#[path = "cluster_simulation/chaos.rs"]
mod chaos;
#[path = "cluster_simulation/clocks.rs"]
mod clocks;
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

/// Seeds of each of the 27 scenarios; with those of the hostile ones more than 2 000 runs.
const SEEDS: u64 = 80;
