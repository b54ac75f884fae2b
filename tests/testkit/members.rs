//! Holds what a test expects of a cluster to its word: it passes what is so, and fails what is not, saying why.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::time::Duration;

use tellwire::membership::member::Member;
use tellwire::testkit::{Members, Network, NetworkError};
use tellwire::{Address, Uid, UniqueAddress};
use tokio::time::Instant;

use crate::failing::failure;

#[tokio::test(start_paused = true)]
async fn a_crash_is_seen_as_unreachable_then_removed_and_a_restart_as_another_member() {
    let network = cluster(3).await;
    let mut members = network.members();
    members.all_up(3).await;
    let [first, lost] = [id(&network, 0), id(&network, 2)];
    members.leader_is(&first).await;
    members.reachable(&lost).await;
    network.crash(2).await.unwrap();
    members.unreachable(&lost).await;
    members.removed(&lost).await;
    members.removed(&lost).await;
    members.all_up(2).await;
    members.watch(&network.restart(2).await.unwrap());
    members.all_up(3).await;
    members.reachable(&id(&network, 2)).await;
    members.removed(&lost).await;
}

#[tokio::test(start_paused = true)]
async fn each_side_of_a_partition_can_be_asked_by_itself() {
    let network = cluster(5).await;
    network.members().all_up(5).await;
    let ids: Vec<_> = (0..5).map(|node| id(&network, node)).collect();
    let nodes = network.nodes();
    let (mut here, mut there) = (Members::of(&nodes[2..]), Members::of(&nodes[..2]));
    network.split(&[&[0, 1], &[2, 3, 4]]).unwrap();
    here.unreachable(&ids[0]).await;
    there.unreachable(&ids[4]).await;
    here.removed(&ids[0]).await;
    here.removed(&ids[1]).await;
    here.all_up(3).await;
    here.leader_is(&ids[2]).await;
    let why = fails(there, async |there| there.all_up(2).await).await;
    assert!(why.contains("nobody is left to be asked"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_heal_before_downing_is_seen_as_reachable_again() {
    let network = cluster(3).await;
    let mut members = network.members();
    members.all_up(3).await;
    let lost = id(&network, 2);
    network.isolate(2).unwrap();
    members.unreachable(&lost).await;
    network.recover();
    members.reachable(&lost).await;
    members.all_up(3).await;
}

#[tokio::test(start_paused = true)]
async fn any_state_can_be_waited_for() {
    let network = cluster(2).await;
    let mut members = network.members();
    members.until("both have a number", |state| all_numbered(state.members())).await;
    let why = fails(members.within(SECOND), async |members| {
        members.until("pigs fly", |_| false).await;
    });
    assert!(why.await.contains("pigs fly"));
}

fn all_numbered(members: &[Member]) -> bool {
    members.len() == 2 && members.iter().all(|member| member.up_number().is_some())
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_fails_at_the_limit_with_every_view() {
    let network = cluster(2).await;
    network.members().all_up(2).await;
    network.cut(0, 1).unwrap();
    let (one, other) = (id(&network, 0), id(&network, 1));
    let start = Instant::now();
    let members = network.members().within(SECOND);
    let why = fails(members, async |members| members.all_up(3).await).await;
    assert!((SECOND..2 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(why.contains("members.rs"), "where: {why}");
    for needed in [format!("{one} sees"), format!("{other} Up"), "a crash is found".to_owned()] {
        assert!(why.contains(&needed), "`{needed}` is missing in\n{why}");
    }
    let members = network.members().within(SECOND);
    fails(members, async |members| members.removed(&one).await).await;
    let members = network.members().within(SECOND);
    fails(members, async |members| members.leader_is(&other).await).await;
}

#[tokio::test(start_paused = true)]
async fn two_clusters_of_the_wanted_size_are_not_one() {
    let network = Network::builder(4)
        .each(|node, builder| builder.seeds([format!("mem://node-{}:1", node / 2 * 2)]))
        .start()
        .await
        .unwrap();
    let nodes = network.nodes();
    Members::of(&nodes[..2]).all_up(2).await;
    Members::of(&nodes[2..]).all_up(2).await;
    fails(network.members().within(SECOND), async |members| members.all_up(2).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_not_passed_off_as_removed() {
    let network = cluster(2).await;
    network.members().all_up(2).await;
    let address: Address = "mem://Test@elsewhere:1".parse().unwrap();
    let stranger = UniqueAddress::new(address, Uid::new(7));
    let start = Instant::now();
    for expectation in [0, 1, 2] {
        let why = fails(network.members(), async |members| match expectation {
            0 => members.removed(&stranger).await,
            1 => members.unreachable(&stranger).await,
            _ => members.reachable(&stranger).await,
        });
        assert!(why.await.contains("never a member"));
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "it is said at once");
}

#[tokio::test(start_paused = true)]
async fn seeds_that_are_no_nodes_are_refused() {
    let refused = Network::builder(2).seeds([0, 2]).start().await;
    assert!(matches!(refused, Err(NetworkError::NoSuchNode { node: 2, nodes: 2 })));
}

async fn cluster(nodes: usize) -> Network {
    Network::builder(nodes).seed(7).seeds([0, 1]).start().await.unwrap()
}

fn id(network: &Network, node: usize) -> UniqueAddress {
    network.node(node).unwrap().unique_address()
}

/// Runs an expectation that must fail, and gives what it said.
async fn fails(members: Members, expect: impl AsyncFnOnce(&mut Members)) -> String {
    failure(members, expect).await.1
}

const SECOND: Duration = Duration::from_secs(1);
