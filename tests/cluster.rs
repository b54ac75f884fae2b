//! Holds real nodes to their cluster: they join, come and go, and agree on who is there.
//!
//! Over memory the time is virtual; over TCP it is real, so the intervals are short.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;
#[path = "cluster/quarantine.rs"]
mod quarantine;
#[path = "cluster/traffic.rs"]
mod traffic;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{LONG, Net, event, until, within};
use quarantine::{
    a_member_that_another_has_quarantined_gives_itself_up,
    a_removed_incarnation_delivers_nothing_any_more, who_has_left_is_quarantined_after_a_grace,
};
use tellwire::event::NodeEvent;
use tellwire::membership::downing::StableAfter;
use tellwire::membership::event::{ClusterEvent, JoinRefusal, StopCause};
use tellwire::membership::explain::JoinProgress;
use tellwire::membership::machine::{self, Phase, RequestError};
use tellwire::membership::member::{Member, MemberStatus};
use tellwire::membership::reachability::ReachabilityStatus;
use tellwire::membership::settings::{ClusterSettings, DetectorSettings};
use tellwire::membership::state::ClusterState;
use tellwire::node::cluster::{
    ChangeRefused, Cluster, ClusterUpdate, ClusterUpdates, JoinError, NoMembership, UpError,
};
use tellwire::node::{GossipSink, NodeBuilder, SeedError, StartError};
use tellwire::settings::WhenDowned;
use tellwire::{Address, Node, Settings, UniqueAddress};

/// Runs each test over TCP in real time, and over memory in virtual time.
macro_rules! over_both_networks {
    ($($test:ident),* $(,)?) => {
        mod tcp {
            use super::common::{Net, within};
            $(#[tokio::test]
            async fn $test() {
                within("the whole test", super::$test(Net::Tcp)).await;
            })*
        }
        mod mem {
            use super::common::{Net, within};
            use tellwire::transport::InProcessNetwork;
            $(#[tokio::test(start_paused = true)]
            async fn $test() {
                within("the whole test", super::$test(Net::Mem(InProcessNetwork::new()))).await;
            })*
        }
    };
}

over_both_networks! {
    a_node_without_seeds_forms_a_cluster_for_whoever_names_it,
    nodes_join_in_any_order_and_all_at_once,
    only_the_first_seed_forms_a_cluster,
    a_node_of_another_system_is_refused_with_the_reason_on_both_sides,
    incompatible_settings_are_refused_with_the_reason_on_both_sides,
    a_crashed_node_becomes_unreachable_is_downed_and_removed,
    a_node_restarted_at_its_address_gets_in_again_and_its_past_is_removed,
    an_incarnation_is_given_up_as_soon_as_another_one_speaks_from_its_address,
    the_first_seed_rejoins_its_cluster_after_a_restart,
    a_node_that_finds_no_seed_says_so_and_can_be_let_go,
    a_node_that_leaves_is_removed_without_any_downing,
    a_shutdown_leaves_first,
    a_shutdown_that_may_not_wait_says_that_it_has_not_left,
    a_subscriber_can_follow_the_state_from_its_snapshot,
    a_slow_subscriber_is_told_what_it_missed_and_gets_a_new_snapshot,
    a_downed_node_shuts_itself_down,
    a_downed_node_goes_on_if_its_settings_say_so,
    members_see_each_others_profiles,
    an_explanation_names_who_holds_up_the_cluster,
    what_cannot_be_asked_is_refused_with_a_reason,
    a_dropped_node_ends_its_membership,
    a_removed_incarnation_delivers_nothing_any_more,
    a_member_that_another_has_quarantined_gives_itself_up,
    who_has_left_is_quarantined_after_a_grace,
}

async fn a_node_without_seeds_forms_a_cluster_for_whoever_names_it(net: Net) {
    let ada = quick(&net).start().await.unwrap();
    assert_eq!((ada.cluster().phase(), ada.cluster().members()), (Phase::Idle, vec![]));
    let bob = quick(&net).seeds([ada.address()]).start().await.unwrap();
    let me = bob.cluster().when_up().await.unwrap();
    assert_eq!((me.node(), me.status()), (&bob.unique_address(), MemberStatus::Up));
    all_up(&[&ada, &bob]).await;
    assert_eq!(ada.cluster().self_member().unwrap().up_number().unwrap().get(), 1);
    assert_eq!(ada.cluster().state().cluster(), bob.cluster().state().cluster());
    let first = ada.unique_address().min(bob.unique_address());
    assert_eq!(
        (ada.cluster().leader(), bob.cluster().leader()),
        (Some(first.clone()), Some(first))
    );
}

async fn nodes_join_in_any_order_and_all_at_once(net: Net) {
    let nodes = idle_nodes(&net, 5).await;
    let seeds = [nodes[0].address(), nodes[1].address()];
    for node in [&nodes[4], &nodes[1], &nodes[3], &nodes[0], &nodes[2]] {
        node.cluster().join(seeds.clone()).await.unwrap();
    }
    all_up(&nodes.iter().collect::<Vec<_>>()).await;
    let id = nodes[0].cluster().state().cluster();
    assert!(id.is_some() && nodes.iter().all(|node| node.cluster().state().cluster() == id));
}

async fn only_the_first_seed_forms_a_cluster(net: Net) {
    let nodes = idle_nodes(&net, 3).await;
    let seeds = [nodes[0].address(), nodes[1].address()];
    nodes[1].cluster().join(seeds.clone()).await.unwrap();
    nodes[2].cluster().join(seeds.clone()).await.unwrap();
    // Far longer than the first seed would wait.
    let patience = 3 * brisk().join.seed_timeout;
    let alone = tokio::time::timeout(patience, nodes[1].cluster().when_up()).await;
    assert!(alone.is_err(), "{alone:?}");
    nodes[0].cluster().join(seeds).await.unwrap();
    all_up(&nodes.iter().collect::<Vec<_>>()).await;
}

async fn a_node_of_another_system_is_refused_with_the_reason_on_both_sides(net: Net) {
    let ada = quick(&net).start().await.unwrap();
    let mut at_ada = ada.events();
    let stranger = of_system(&net, "Other").seeds([ada.address().endpoint()]).start();
    let stranger = stranger.await.unwrap();
    let mut at_stranger = stranger.events();
    let refused = |event| match event {
        NodeEvent::HandshakeRefused { why, .. } => Some(why),
        _ => None,
    };
    let (here, there) = (event(&mut at_ada, refused).await, event(&mut at_stranger, refused).await);
    assert_eq!(here, there);
    assert!(here.contains("`Test`") || here.contains("Other"), "{here}");
    assert_eq!(ada.cluster().members(), []);

    let named = of_system(&net, "Other").seeds([ada.address()]).start().await;
    assert!(matches!(named, Err(StartError::Seed(SeedError::OtherSystem { .. }))), "{named:?}");
}

async fn incompatible_settings_are_refused_with_the_reason_on_both_sides(net: Net) {
    let ada = quick(&net).start().await.unwrap();
    let mut updates = ada.cluster().subscribe();
    let mut settings = brisk();
    settings.detector = DetectorSettings::Deadline { acceptable_pause: Duration::from_secs(7) };
    let bob = quick(&net).cluster_settings(settings).seeds([ada.address()]).start().await.unwrap();
    let refused = bob.cluster().when_up().await.unwrap_err();
    let UpError::Refused { by, why: JoinRefusal::Settings { names } } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(by, ada.unique_address());
    assert_eq!(names.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["detector"]);
    let (joiner, why) = next_event(&mut updates, |event| match event {
        ClusterEvent::JoinRefused { joiner, why, .. } => Some((joiner, why)),
        _ => None,
    })
    .await;
    assert_eq!((joiner, why), (bob.unique_address(), JoinRefusal::Settings { names }));
    assert_eq!(ada.cluster().members().len(), 1);
}

async fn a_crashed_node_becomes_unreachable_is_downed_and_removed(net: Net) {
    let nodes = cluster(&net, 3).await;
    let [ada, bob, cleo] = <[Node; 3]>::try_from(nodes).unwrap();
    let mut updates = ada.cluster().subscribe();
    let gone = cleo.unique_address();
    drop(cleo);
    let course = events_about(&mut updates, &gone).await;
    assert_eq!(course, ["Unreachable", "Downed", "Removed after Down"]);
    all_up(&[&ada, &bob]).await;
}

async fn a_node_restarted_at_its_address_gets_in_again_and_its_past_is_removed(net: Net) {
    let nodes = cluster(&net, 3).await;
    let [ada, bob, cleo] = <[Node; 3]>::try_from(nodes).unwrap();
    let (address, before) = (cleo.address(), cleo.unique_address());
    let mut updates = ada.cluster().subscribe();
    drop(cleo);
    let cleo = restart(&net, &address, &[ada.address()]).await;
    cleo.cluster().when_up().await.unwrap();
    assert_eq!(events_about(&mut updates, &before).await.last().unwrap(), "Removed after Down");
    all_up(&[&ada, &bob, &cleo]).await;
}

async fn an_incarnation_is_given_up_as_soon_as_another_one_speaks_from_its_address(net: Net) {
    let nodes = cluster(&net, 3).await;
    let [ada, bob, cleo] = <[Node; 3]>::try_from(nodes).unwrap();
    let (address, before) = (cleo.address(), cleo.unique_address());
    let mut updates = ada.cluster().subscribe();
    drop(cleo);
    // It joins nothing, it only speaks.
    let cleo = restart(&net, &address, &[]).await;
    cleo.gossip(&ada.address(), b"").unwrap();
    next_event(&mut updates, |event| matches!(event, ClusterEvent::Unreachable(_)).then_some(()))
        .await;
    let why = ada.cluster().explain().await.unwrap();
    let accused = &why.accusations[0];
    assert_eq!((&accused.subject, accused.status), (&before, ReachabilityStatus::Terminated));
    all_up(&[&ada, &bob]).await;
}

async fn a_node_that_finds_no_seed_says_so_and_can_be_let_go(net: Net) {
    let nobody = net.nobody();
    let ada = quick(&net).seeds([nobody.address.clone()]).start().await.unwrap();
    assert_eq!(ada.cluster().phase(), Phase::Joining);
    let why = ada.cluster().explain().await.unwrap();
    let Some(JoinProgress::Asking { seeds, .. }) = &why.joining else { panic!("{why:?}") };
    assert_eq!(seeds.as_slice(), std::slice::from_ref(&nobody.address));
    assert!(why.to_string().contains(nobody.address.as_str()), "{why}");
    let again = ada.cluster().join([ada.address()]).await;
    assert_eq!(again, Err(JoinError::Refused(machine::JoinError::AlreadyJoining)));
    assert!(ada.shutdown(LONG).await.has_left);
}

async fn the_first_seed_rejoins_its_cluster_after_a_restart(net: Net) {
    let nodes = idle_nodes(&net, 3).await;
    let seeds = [nodes[0].address(), nodes[1].address()];
    for node in &nodes {
        node.cluster().join(seeds.clone()).await.unwrap();
    }
    all_up(&nodes.iter().collect::<Vec<_>>()).await;
    let [ada, bob, cleo] = <[Node; 3]>::try_from(nodes).unwrap();
    let id = bob.cluster().state().cluster();
    drop(ada);
    let ada = restart(&net, &seeds[0], &seeds).await;
    ada.cluster().when_up().await.unwrap();
    all_up(&[&ada, &bob, &cleo]).await;
    assert_eq!((ada.cluster().state().cluster(), bob.cluster().state().cluster()), (id, id));
}

async fn a_node_that_leaves_is_removed_without_any_downing(net: Net) {
    let nodes = cluster(&net, 3).await;
    let mut updates = nodes[0].cluster().subscribe();
    assert_eq!(nodes[2].cluster().leave().await.unwrap(), StopCause::Left);
    let course = events_about(&mut updates, &nodes[2].unique_address()).await;
    assert_eq!(course, ["Leaving", "Exited", "Removed after Exiting"]);
    all_up(&[&nodes[0], &nodes[1]]).await;
    assert_eq!(nodes[2].cluster().phase(), Phase::Stopped(StopCause::Left));
    // The node itself goes on.
    assert!(nodes[2].resolve(nodes[0].path("/user/anyone")).is_ok());
    let again = nodes[2].cluster().join([nodes[0].address()]).await;
    let stopped = machine::JoinError::Stopped(StopCause::Left);
    assert_eq!(again, Err(JoinError::Refused(stopped)));
}

async fn a_shutdown_leaves_first(net: Net) {
    let nodes = cluster(&net, 3).await;
    let mut updates = nodes[0].cluster().subscribe();
    let report = nodes[1].shutdown(LONG).await;
    assert!(report.has_left && report.in_time, "{report:?}");
    let course = events_about(&mut updates, &nodes[1].unique_address()).await;
    assert_eq!(course, ["Leaving", "Exited", "Removed after Exiting"]);
    // The last of all has nobody to tell, and the first of its kind nothing to leave.
    let (last, alone) = (nodes[2].shutdown(LONG).await, quick(&net).start().await.unwrap());
    assert!(last.has_left && nodes[0].shutdown(LONG).await.has_left);
    assert!(alone.shutdown(LONG).await.has_left);
}

async fn a_shutdown_that_may_not_wait_says_that_it_has_not_left(net: Net) {
    let mut settings = Settings::local();
    settings.cluster.leave_timeout = Duration::ZERO;
    let ada = quick(&net).start().await.unwrap();
    let bob = quick(&net).settings(settings).seeds([ada.address()]).start().await.unwrap();
    all_up(&[&ada, &bob]).await;
    let mut updates = ada.cluster().subscribe();
    assert!(!bob.shutdown(LONG).await.has_left);
    let node = next_event(&mut updates, |event| match event {
        ClusterEvent::Unreachable(member) => Some(member.node().clone()),
        _ => None,
    });
    assert_eq!(node.await, bob.unique_address());
}

async fn a_subscriber_can_follow_the_state_from_its_snapshot(net: Net) {
    let ada = quick(&net).start().await.unwrap();
    ada.cluster().join([ada.address()]).await.unwrap();
    let mut updates = ada.cluster().subscribe();
    let mut known = BTreeMap::new();
    let bob = quick(&net).seeds([ada.address()]).start().await.unwrap();
    let cleo = quick(&net).seeds([ada.address()]).start().await.unwrap();
    all_up(&[&ada, &bob, &cleo]).await;
    cleo.cluster().leave().await.unwrap();
    let gone = cleo.unique_address();
    while known.len() != 2 || known.contains_key(&gone) || !is_all_up(&known) {
        follow(&mut known, within("an update", updates.next()).await.unwrap());
    }
    let statuses = ada.cluster().members();
    let statuses = statuses.iter().map(|member| (member.node().clone(), member.status()));
    assert_eq!(known, statuses.collect());
}

async fn a_slow_subscriber_is_told_what_it_missed_and_gets_a_new_snapshot(net: Net) {
    let mut settings = Settings::local();
    settings.observe.stream_capacity = 2;
    let ada = quick(&net).settings(settings).start().await.unwrap();
    let mut slow = ada.cluster().subscribe();
    let first = within("the snapshot", slow.next()).await;
    assert!(matches!(first, Some(ClusterUpdate::Snapshot { missed: 0, .. })), "{first:?}");
    let bob = quick(&net).seeds([ada.address()]).start().await.unwrap();
    let cleo = quick(&net).seeds([ada.address()]).start().await.unwrap();
    all_up(&[&ada, &bob, &cleo]).await;
    let again = within("the next snapshot", slow.next()).await;
    let Some(ClusterUpdate::Snapshot { state, missed }) = again else { panic!("{again:?}") };
    assert!(missed > 2, "{missed}");
    assert_eq!(state.members(), ada.cluster().members());
}

async fn a_downed_node_shuts_itself_down(net: Net) {
    let nodes = cluster(&net, 3).await;
    let mut events = nodes[2].events();
    nodes[0].cluster().down(&nodes[2].address()).await.unwrap();
    assert_eq!(nodes[2].cluster().when_stopped().await, Ok(StopCause::Downed));
    let why = event(&mut events, |event| match event {
        NodeEvent::MembershipEnded { why } => Some(why),
        _ => None,
    });
    assert_eq!(why.await, "Downed");
    let stranger = net.nobody();
    until("the end of the node", || nodes[2].resolve(stranger.path("/user/anyone")).is_err()).await;
    all_up(&[&nodes[0], &nodes[1]]).await;
}

async fn a_downed_node_goes_on_if_its_settings_say_so(net: Net) {
    let mut settings = Settings::local();
    settings.cluster.when_downed = WhenDowned::GoOn;
    let ada = quick(&net).start().await.unwrap();
    let bob = quick(&net).settings(settings).seeds([ada.address()]).start().await.unwrap();
    all_up(&[&ada, &bob]).await;
    ada.cluster().down(&bob.address()).await.unwrap();
    assert_eq!(bob.cluster().when_stopped().await, Ok(StopCause::Downed));
    all_up(&[&ada]).await;
    assert!(bob.resolve(ada.path("/user/anyone")).is_ok());
    assert_eq!(bob.cluster().when_up().await, Err(UpError::Ended(StopCause::Downed)));
}

async fn members_see_each_others_profiles(net: Net) {
    let ada = quick(&net).roles(["front"]).start().await.unwrap();
    let bob = quick(&net).roles(["back", "store"]).app_version("1.2.3").data_centre("default");
    let bob = bob.seeds([ada.address()]).start().await.unwrap();
    all_up(&[&ada, &bob]).await;
    let state = ada.cluster().state();
    let profile = state.member(&bob.unique_address()).unwrap().profile();
    assert_eq!(profile.roles().map(|role| role.as_str()).collect::<Vec<_>>(), ["back", "store"]);
    assert_eq!(profile.app_version().as_str(), "1.2.3");
    assert!(state.self_member().unwrap().profile().has_role("front"));
    let odd = quick(&net).roles(["no spaces, please"]).start().await;
    assert!(matches!(odd, Err(StartError::Profile(_))), "{odd:?}");
    let mut settings = brisk();
    settings.gossip_interval = Duration::ZERO;
    let hasty = quick(&net).cluster_settings(settings).start().await;
    assert!(matches!(hasty, Err(StartError::Cluster(_))), "{hasty:?}");
}

async fn an_explanation_names_who_holds_up_the_cluster(net: Net) {
    let nodes = cluster(&net, 3).await;
    let calm = nodes[0].cluster().explain().await.unwrap();
    assert_eq!((calm.members, calm.accusations.len(), calm.phase), (3, 0, Phase::Member));
    let [ada, bob, cleo] = <[Node; 3]>::try_from(nodes).unwrap();
    let (mut updates, gone) = (ada.cluster().subscribe(), cleo.unique_address());
    drop(cleo);
    next_event(&mut updates, |event| matches!(event, ClusterEvent::Unreachable(_)).then_some(()))
        .await;
    let stuck = ada.cluster().explain().await.unwrap();
    assert_eq!(stuck.accusations[0].subject, gone);
    let text = stuck.to_string();
    assert!(text.contains(&ada.address().to_string()) && text.contains(gone.address().as_str()));
    drop(bob);
}

async fn what_cannot_be_asked_is_refused_with_a_reason(net: Net) {
    let ada = quick(&net).seeds([] as [Address; 0]).start().await.unwrap();
    let cluster = ada.cluster();
    let no_member = ChangeRefused::Request(RequestError::NoMember);
    assert_eq!(cluster.leave().await, Err(no_member.clone()));
    assert_eq!(cluster.down(&ada.address()).await, Err(no_member));
    let none = cluster.join([] as [Address; 0]).await;
    assert_eq!(none, Err(JoinError::Refused(machine::JoinError::SeedCount { count: 0 })));
    assert!(matches!(cluster.join(["ada"]).await, Err(JoinError::Seed(SeedError::Address(_)))));
    cluster.join([ada.address()]).await.unwrap();
    let again = cluster.join([ada.address()]).await;
    assert_eq!(again, Err(JoinError::Refused(machine::JoinError::AlreadyMember)));
    let nobody = net.nobody();
    let address = nobody.address.clone();
    let unknown = ChangeRefused::Request(RequestError::NotAMember { address: address.clone() });
    assert_eq!(cluster.down(&address).await, Err(unknown));

    struct Ear;
    impl GossipSink for Ear {
        fn receive(&self, _: &UniqueAddress, _: &[u8]) {}
    }
    let deaf = quick(&net).gossip(Ear).seeds([ada.address()]).start().await;
    assert!(matches!(deaf, Err(StartError::NoMembership)), "{deaf:?}");
    let deaf = quick(&net).gossip(Ear).start().await.unwrap();
    let joined = deaf.cluster().join([ada.address()]).await;
    assert_eq!(joined, Err(JoinError::NoMembership(NoMembership)));
}

async fn a_dropped_node_ends_its_membership(net: Net) {
    let nodes = cluster(&net, 2).await;
    let [ada, bob] = <[Node; 2]>::try_from(nodes).unwrap();
    let (cluster, mut updates) = (bob.cluster(), bob.cluster().subscribe());
    let waiting = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.when_stopped().await }
    });
    drop(bob);
    assert_eq!(within("the waiter", waiting).await.unwrap(), Err(NoMembership));
    assert_eq!(cluster.explain().await, Err(NoMembership));
    while within("the end of the stream", updates.next()).await.is_some() {}
    // What was known last is still there to be read.
    assert_eq!(cluster.members().len(), 2);
    drop(ada);
}

#[tokio::test]
async fn seeds_may_be_host_names() {
    let ada = quick_at("tcp://localhost:0").start().await.unwrap();
    assert_eq!(ada.address().host(), "localhost");
    let bob =
        quick_at("tcp://127.0.0.1:0").seeds([ada.address().endpoint()]).start().await.unwrap();
    bob.cluster().when_up().await.unwrap();
    all_up(&[&ada, &bob]).await;
}

/// Begins a node of a quick cluster.
fn quick(net: &Net) -> NodeBuilder {
    net.builder().cluster_settings(brisk())
}

fn quick_at(endpoint: &str) -> NodeBuilder {
    Net::Tcp.builder_at(endpoint).cluster_settings(brisk())
}

fn of_system(net: &Net, system: &str) -> NodeBuilder {
    let builder = Node::builder(system).settings(Settings::local()).cluster_settings(brisk());
    match net {
        Net::Tcp => builder.listen("tcp://127.0.0.1:0"),
        Net::Mem(network) => builder.listen("mem://other:0").transport(network.clone()),
    }
}

/// Gives settings with which everything takes moments, but a busy machine is not mistaken for a dead one.
fn brisk() -> ClusterSettings {
    let ms = Duration::from_millis;
    let mut settings = ClusterSettings::local();
    (settings.gossip_interval, settings.leader_interval) = (ms(50), ms(50));
    settings.downing.stable_after = StableAfter::Fixed(ms(1_000));
    settings.join.seed_timeout = ms(500);
    settings
}

/// Starts nodes that join nothing by themselves.
async fn idle_nodes(net: &Net, count: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(quick(net).seeds([] as [Address; 0]).start().await.unwrap());
    }
    nodes
}

/// Starts a cluster of which the first node is the seed, and waits until all are Up.
async fn cluster(net: &Net, count: usize) -> Vec<Node> {
    let mut nodes = vec![quick(net).start().await.unwrap()];
    for _ in 1..count {
        let seed = nodes[0].address();
        nodes.push(quick(net).seeds([seed]).start().await.unwrap());
    }
    all_up(&nodes.iter().collect::<Vec<_>>()).await;
    nodes
}

async fn restart(net: &Net, address: &Address, seeds: &[Address]) -> Node {
    net.restart_with(address, |builder| builder.cluster_settings(brisk()).seeds(seeds)).await
}

/// Waits until these nodes and nobody else are Up, as each of them sees it.
async fn all_up(nodes: &[&Node]) {
    let mut wanted: Vec<UniqueAddress> = nodes.iter().map(|node| node.unique_address()).collect();
    wanted.sort();
    let is_so = |state: &ClusterState| {
        let is_up = |member: &Member| member.status() == MemberStatus::Up;
        let nodes: Vec<_> = state.members().iter().map(|member| member.node().clone()).collect();
        nodes == wanted && state.members().iter().all(is_up)
    };
    for node in nodes {
        when_state(&node.cluster(), is_so).await;
    }
}

/// Waits until the state is as wanted.
async fn when_state(cluster: &Cluster, is_so: impl Fn(&ClusterState) -> bool) {
    let mut updates = cluster.subscribe();
    let reached = async {
        loop {
            assert!(updates.next().await.is_some(), "the node has stopped");
            if is_so(&cluster.state()) {
                return;
            }
        }
    };
    within(&format!("another state of {cluster:?} than {:?}", cluster.state()), reached).await;
}

/// Waits for the next event that `pick` wants.
async fn next_event<T>(
    updates: &mut ClusterUpdates,
    pick: impl Fn(ClusterEvent) -> Option<T>,
) -> T {
    loop {
        match within("a cluster event", updates.next()).await {
            Some(ClusterUpdate::Event(event)) => {
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
            Some(_) => {}
            None => panic!("the node has stopped"),
        }
    }
}

/// Gathers what is told of a node, until it is removed.
async fn events_about(updates: &mut ClusterUpdates, node: &UniqueAddress) -> Vec<String> {
    let mut course: Vec<String> = Vec::new();
    while !course.last().is_some_and(|last| last.starts_with("Removed")) {
        let told = next_event(updates, |event| {
            let (member, name) = match event {
                ClusterEvent::Leaving(member) => (member, "Leaving".to_owned()),
                ClusterEvent::Exited(member) => (member, "Exited".to_owned()),
                ClusterEvent::Downed(member) => (member, "Downed".to_owned()),
                ClusterEvent::Unreachable(member) => (member, "Unreachable".to_owned()),
                ClusterEvent::Reachable(member) => (member, "Reachable".to_owned()),
                ClusterEvent::Removed { member, previous } => {
                    (member, format!("Removed after {previous}"))
                }
                _ => return None,
            };
            (member.node() == node).then_some(name)
        });
        course.push(told.await);
    }
    course
}

/// Applies an update to what a subscriber knows.
fn follow(known: &mut BTreeMap<UniqueAddress, MemberStatus>, update: ClusterUpdate) {
    match update {
        ClusterUpdate::Snapshot { state, missed } => {
            assert_eq!(missed, 0);
            let members = state.members().iter();
            *known = members.map(|member| (member.node().clone(), member.status())).collect();
        }
        ClusterUpdate::Event(event) => match event {
            ClusterEvent::Joined(member) => {
                let before = known.insert(member.node().clone(), member.status());
                assert_eq!(before, None);
            }
            ClusterEvent::WeaklyUp(member)
            | ClusterEvent::Up(member)
            | ClusterEvent::Leaving(member)
            | ClusterEvent::Exited(member)
            | ClusterEvent::Downed(member) => {
                let before = known.insert(member.node().clone(), member.status()).unwrap();
                assert!(before < member.status(), "{before} and then {member:?}");
            }
            ClusterEvent::Removed { member, previous } => {
                assert_eq!(known.remove(member.node()), Some(previous));
            }
            _ => {}
        },
        other => panic!("{other:?}"),
    }
}

fn is_all_up(known: &BTreeMap<UniqueAddress, MemberStatus>) -> bool {
    known.values().all(|status| *status == MemberStatus::Up)
}
