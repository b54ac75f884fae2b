//! Holds the in-process network to its promises: each fault does what it says, and nothing else.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tellwire::event::{NodeEvent, Reason};
use tellwire::node::{AskError, Context, EventStream, Observed, TellError};
use tellwire::testkit::network::{Conditions, MAX_NODES};
use tellwire::testkit::{Network, NetworkError};
use tellwire::wire::FrameKind;
use tellwire::{Node, RemoteRef, Settings};
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;
use tokio::time::Instant;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Count(u64);
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Blob(Vec<u8>);

tellwire::remote_messages! {
    table COUNTS, codec = tellwire::codec::Bincode;
    "network.v1.Count" => Count,
    "network.v1.Blob" => Blob,
}

#[tokio::test(start_paused = true)]
async fn tells_and_asks_travel_between_the_nodes_of_a_mesh() {
    let network = Network::mesh(5).await.unwrap();
    let mut inboxes: Vec<_> = network.nodes().iter().map(counter).collect();
    for from in network.nodes() {
        for to in network.nodes() {
            target(&from, &to).tell(&Count(1)).unwrap();
        }
    }
    for inbox in &mut inboxes {
        for _ in 0..5 {
            assert_eq!(inbox.recv().await, Some(Count(1)));
        }
    }
    let [ada, bob] = [network.node(0).unwrap(), network.node(4).unwrap()];
    ada.spawn("/user/echo", async |count: Count, cx: &mut Context| cx.reply(&count)).unwrap();
    let echo = bob.resolve(ada.path("/user/echo").unwrap()).unwrap();
    let reply: Count = echo.ask(&Count(7), LONG).await.unwrap();
    assert_eq!(reply, Count(7));
}

#[tokio::test(start_paused = true)]
async fn a_crash_fails_old_handles_and_a_restart_is_another_incarnation() {
    let network = Network::pair().await.unwrap();
    let (ada, bob) = both(&network);
    let mut inbox = counter(&ada);
    let (to_ada, to_bob) = (target(&bob, &ada), target(&ada, &bob));
    to_ada.tell(&Count(1)).unwrap();
    assert_eq!(inbox.recv().await, Some(Count(1)));
    let mut events = bob.events();
    let waiting = tokio::spawn(async move { to_bob.ask::<_, Count>(&Count(0), LONG).await });
    tokio::task::yield_now().await;

    network.crash(0).await.unwrap();
    assert!(!network.is_live(0) && network.is_live(1), "a crash is that node's alone");
    assert!(matches!(network.node(0), Err(NetworkError::Crashed { node: 0 })));
    let why = until(&mut events, |event| match event {
        NodeEvent::AssociationDown { why, .. } => Some(why),
        _ => None,
    });
    assert!(why.await.contains("reset"), "the peer reads a reset, not an orderly end");
    assert_eq!(target(&ada, &bob).tell(&Count(9)), Err(TellError::Stopped));
    assert!(matches!(waiting.await.unwrap(), Err(AskError::Failed(_))));
    assert_eq!(inbox.recv().await, None, "its mailboxes are gone");
    network.crash(0).await.unwrap();

    let again = network.restart(0).await.unwrap();
    assert!(network.is_live(0));
    assert_eq!(again.address(), ada.address());
    assert_ne!(again.unique_address(), ada.unique_address());
    let mut inbox = counter(&again);
    to_ada.tell(&Count(2)).unwrap();
    assert_eq!(inbox.recv().await, Some(Count(2)));
    let old = target(&again, &bob);
    network.restart(0).await.unwrap();
    assert_eq!(old.tell(&Count(3)), Err(TellError::Stopped));
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_at_a_crash_is_gone_and_accounted_for() {
    let network = Network::builder(2).latency(Duration::from_millis(100)).start().await.unwrap();
    let (ada, bob) = both(&network);
    let mut inbox = counter(&ada);
    let to_ada = target(&bob, &ada);
    to_ada.tell(&Count(1)).unwrap();
    assert_eq!(inbox.recv().await, Some(Count(1)));
    // By then a sign of life has told that it came.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (mut letters, mut events) = (bob.dead_letters(), bob.events());
    to_ada.tell(&Count(2)).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    network.crash(0).await.unwrap();
    let mut inbox = counter(&network.restart(0).await.unwrap());
    until(&mut events, is_down).await;
    to_ada.tell(&Count(3)).unwrap();
    let got = soon(inbox.recv()).await;
    assert_eq!(got, Some(Count(3)), "and not what was on the broken link: {}", network.trace());
    match soon(letters.next()).await {
        Some(Observed::Item(letter)) => assert_eq!(letter.count, 1),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_holds_back_and_a_recovery_loses_nothing() {
    let (network, bob, to_ada, mut inbox) = linked().await;
    network.cut(0, 1).unwrap();
    for count in 1..50 {
        to_ada.tell(&Count(count)).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(inbox.try_recv().is_err(), "nothing passes");
    network.recover();
    for count in 1..50 {
        assert_eq!(inbox.recv().await, Some(Count(count)));
    }
    assert_eq!(bob.associations()[0].activations, 1, "the link outlived the cut");
}

#[tokio::test(start_paused = true)]
async fn a_long_cut_is_noticed_and_healed_by_a_new_link() {
    let (network, bob, to_ada, mut inbox) = linked().await;
    let mut events = bob.events();
    network.cut(0, 1).unwrap();
    until(&mut events, is_down).await;
    to_ada.tell(&Count(1)).unwrap();
    network.recover();
    assert_eq!(inbox.recv().await, Some(Count(1)));
    assert_eq!(bob.associations()[0].activations, 2);
}

#[tokio::test(start_paused = true)]
async fn a_cut_one_way_leaves_the_other_open() {
    let network = Network::pair().await.unwrap();
    let (ada, bob) = both(&network);
    let (mut at_ada, mut at_bob) = (counter(&ada), counter(&bob));
    let (to_ada, to_bob) = (target(&bob, &ada), target(&ada, &bob));
    to_ada.tell(&Count(0)).unwrap();
    assert_eq!(at_ada.recv().await, Some(Count(0)));
    network.cut_one_way(1, 0).unwrap();
    to_ada.tell(&Count(1)).unwrap();
    to_bob.tell(&Count(2)).unwrap();
    assert_eq!(at_bob.recv().await, Some(Count(2)));
    assert!(at_ada.try_recv().is_err());
    network.recover();
    assert_eq!(at_ada.recv().await, Some(Count(1)));
}

#[tokio::test(start_paused = true)]
async fn isolation_and_splits_cut_just_what_they_name() {
    let network = Network::mesh(5).await.unwrap();
    network.isolate(4).unwrap();
    assert_eq!(reach(&network).await, ["0123", "0123", "0123", "0123", "4"]);
    network.recover();
    network.split(&[&[0, 1], &[2]]).unwrap();
    assert_eq!(reach(&network).await, ["01", "01", "2", "34", "34"]);
    assert!((0..5).all(|node| network.is_live(node)), "cut off is not dead");
    network.recover();
    // Half-broken: a line instead of a mesh.
    for (one, other) in [(0, 2), (0, 3), (0, 4), (1, 3), (1, 4), (2, 4)] {
        network.cut(one, other).unwrap();
    }
    assert_eq!(reach(&network).await, ["01", "012", "123", "234", "34"]);
}

#[tokio::test(start_paused = true)]
async fn reconnecting_leaves_crashed_peers_and_other_cuts_alone() {
    let network = Network::mesh(4).await.unwrap();
    network.split(&[&[0], &[1], &[2], &[3]]).unwrap();
    network.crash(3).await.unwrap();
    assert_eq!(network.reconnect(0).unwrap(), [1, 2]);
    assert_eq!(reach(&network).await, ["012", "01", "02"]);
    network.restart(3).await.unwrap();
    assert_eq!(reach(&network).await, ["012", "01", "02", "3"]);
    assert_eq!(network.reconnect(3).unwrap(), [0, 1, 2]);
    assert_eq!(network.reconnect(3).unwrap(), [0, 1, 2], "once more is harmless");
    assert_eq!(reach(&network).await, ["0123", "013", "023", "0123"]);
}

#[tokio::test(start_paused = true)]
async fn ignored_kinds_do_not_come_and_the_others_do() {
    let network = Network::pair().await.unwrap();
    let (ada, bob) = both(&network);
    let mut inbox = counter(&ada);
    let (to_ada, here) = (target(&bob, &ada), ada.address());
    to_ada.tell(&Count(0)).unwrap();
    assert_eq!(inbox.recv().await, Some(Count(0)));
    network.ignore(FrameKind::GOSSIP);
    bob.gossip(&here, b"rumour").unwrap();
    to_ada.tell(&Count(1)).unwrap();
    assert_eq!(inbox.recv().await, Some(Count(1)));
    assert_eq!(ada.stats().gossip_received, 0);
    network.recover();
    bob.gossip(&here, b"rumour").unwrap();
    to_ada.tell(&Count(2)).unwrap();
    assert_eq!(inbox.recv().await, Some(Count(2)));
    assert_eq!(ada.stats().gossip_received, 1);
}

#[tokio::test(start_paused = true)]
async fn latency_and_bandwidth_take_their_time() {
    let rate = NonZeroU64::new(10_000).unwrap();
    let network = Network::builder(2)
        .latency(Duration::from_millis(100))
        .bandwidth(rate)
        .each(|_, builder| builder.settings(Settings::lan()))
        .start()
        .await
        .unwrap();
    let (ada, bob) = both(&network);
    ada.spawn("/user/echo", async |count: Count, cx: &mut Context| cx.reply(&count)).unwrap();
    let echo = bob.resolve(ada.path("/user/echo").unwrap()).unwrap();
    let _: Count = echo.ask(&Count(0), LONG).await.unwrap();
    let start = Instant::now();
    let _: Count = echo.ask(&Count(1), LONG).await.unwrap();
    let round_trip = start.elapsed().as_millis();
    assert!((200..250).contains(&round_trip), "{round_trip} ms");

    let (blobs, mut inbox) = mpsc::channel::<Blob>(4);
    let blob = bob.resolve(ada.register("/user/blobs", blobs).unwrap()).unwrap();
    let start = Instant::now();
    blob.tell(&Blob(vec![7; 30_000])).unwrap();
    assert_eq!(inbox.recv().await.unwrap().0.len(), 30_000);
    let took = start.elapsed().as_millis();
    assert!((3_100..3_300).contains(&took), "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn jitter_and_broken_links_keep_order_and_account_for_every_tell() {
    let network = Network::builder(2)
        .seed(11)
        .latency(Duration::from_millis(2))
        .jitter(Duration::from_millis(20))
        .link_loss(0.02)
        .start()
        .await
        .unwrap();
    let (ada, bob) = both(&network);
    let mut inbox = counter(&ada);
    let to_ada = target(&bob, &ada);
    for count in 0..400 {
        to_ada.send(&Count(count)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut got = Vec::new();
    while let Ok(Count(count)) = inbox.try_recv() {
        got.push(count);
    }
    assert!(got.is_sorted_by(|one, next| one < next), "in order and never twice: {got:?}");
    assert!(bob.associations()[0].activations > 2, "links did break");
    let lost = bob.stats().dead_letters_for(Reason::LinkLost);
    assert_eq!(got.len() as u64 + lost, 400);
    assert!(lost > 0 && got.len() > 200);
}

#[tokio::test(start_paused = true)]
async fn corruption_ends_links_and_never_nodes() {
    let network = Network::builder(2).seed(3).corruption(0.2).start().await.unwrap();
    let (ada, bob) = both(&network);
    let _inbox = counter(&ada);
    let to_ada = target(&bob, &ada);
    for count in 0..200 {
        to_ada.send(&Count(count)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let activations = bob.associations()[0].activations;
    assert!(activations > 2, "{activations} links");
    assert!(network.trace().contains("IsCorrupted"));
    assert!(network.is_live(0) && network.is_live(1));
}

#[tokio::test(start_paused = true)]
async fn two_nodes_come_together_again_once_corruption_stops_whatever_they_were_made_to_believe() {
    for seed in 0..40 {
        let network = Network::builder(2).seed(seed).corruption(0.2).start().await.unwrap();
        let (ada, bob) = both(&network);
        let mut inboxes = [counter(&ada), counter(&bob)];
        let targets = [target(&bob, &ada), target(&ada, &bob)];
        for count in 0..100 {
            for target in &targets {
                // A target whose credit was garbled may be full.
                target.tell(&Count(count)).ok();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            inboxes.iter_mut().for_each(|inbox| while inbox.try_recv().is_ok() {});
        }
        for (from, to) in [(0, 1), (1, 0)] {
            network.set_conditions(from, to, Conditions::default()).unwrap();
        }
        for (target, inbox) in targets.iter().zip(&mut inboxes) {
            let heard = async {
                loop {
                    target.tell(&Count(999)).ok();
                    let next = tokio::time::timeout(Duration::from_secs(1), inbox.recv()).await;
                    if next == Ok(Some(Count(999))) {
                        return;
                    }
                }
            };
            let heard = tokio::time::timeout(Duration::from_secs(60), heard).await;
            let sides: Vec<_> = network.nodes().iter().flat_map(Node::associations).collect();
            assert!(heard.is_ok(), "seed {seed}: {} is not heard: {sides:#?}", target.path());
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_for_byte() {
    let runs = [stormy_run(5), stormy_run(5), stormy_run(6)];
    assert!(runs[0].lines().count() > 300, "{}", runs[0]);
    for needed in ["IsLost", "IsCorrupted", "BreaksTheLink", "crash 2", "restart 2", "recover"] {
        assert!(runs[0].contains(needed), "{needed} did not happen");
    }
    assert!(runs[0] == runs[1], "two runs differ: {:?}", first_difference(&runs[0], &runs[1]));
    assert!(runs[0] != runs[2], "the seed has no effect");
}

/// Runs four nodes through a minute of faults, and gives the trace.
fn stormy_run(seed: u64) -> String {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let network = Network::builder(4)
            .seed(seed)
            .latency(Duration::from_millis(3))
            .jitter(Duration::from_millis(9))
            .frame_loss(FrameKind::GOSSIP, 0.3)
            .link_loss(0.01)
            .corruption(0.01)
            .start()
            .await
            .unwrap();
        let _inboxes: Vec<_> = network.nodes().iter().map(counter).collect();
        for second in 0..60 {
            for from in network.nodes() {
                for to in network.nodes() {
                    target(&from, &to).tell(&Count(second)).unwrap();
                    if from.address() != to.address() {
                        from.gossip(&to.address(), &second.to_be_bytes()).unwrap();
                    }
                }
            }
            match second {
                5 => network.cut_one_way(0, 1).unwrap(),
                15 => network.crash(2).await.unwrap(),
                25 => drop(network.restart(2).await.unwrap()),
                35 => network.recover(),
                40 => network.split(&[&[0, 2]]).unwrap(),
                50 => drop(network.reconnect(3).unwrap()),
                _ => {}
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        network.trace()
    })
}

fn first_difference<'a>(one: &'a str, other: &'a str) -> Option<(&'a str, &'a str)> {
    one.lines().zip(other.lines()).find(|(one, other)| one != other)
}

#[tokio::test(start_paused = true)]
async fn the_customiser_sees_every_start() {
    let network = Network::builder(2)
        .each(|number, builder| {
            let mut settings = Settings::local();
            settings.inbound.max_message = 1024 * (number + 1);
            builder.codecs(COUNTS).settings(settings)
        })
        .start()
        .await
        .unwrap();
    let too_large = |node: &Node| {
        let target = node.resolve("/user/counter").unwrap();
        matches!(target.tell(&Blob(vec![0; 1500])), Err(TellError::TooLarge { limit: 1024, .. }))
    };
    assert!(too_large(&network.node(0).unwrap()));
    assert!(!too_large(&network.node(1).unwrap()));
    network.restart(0).await.unwrap();
    assert!(too_large(&network.node(0).unwrap()));
    assert_eq!(network.node(0).unwrap().registry().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn faults_on_what_is_not_there_are_refused_by_name() {
    assert!(matches!(Network::mesh(0).await, Err(NetworkError::Size { nodes: 0 })));
    let too_many = Network::mesh(MAX_NODES + 1).await;
    assert!(matches!(too_many, Err(NetworkError::Size { .. })));
    let unlikely = Network::builder(1).link_loss(1.5).start().await;
    assert!(matches!(unlikely, Err(NetworkError::OutOfRange { what: "link_loss" })));

    let network = Network::pair().await.unwrap();
    let missing = |result: Result<(), NetworkError>| {
        matches!(result, Err(NetworkError::NoSuchNode { node: 2, nodes: 2 }))
    };
    assert!(missing(network.crash(2).await));
    assert!(missing(network.restart(2).await.map(drop)));
    assert!(missing(network.reconnect(2).map(drop)));
    assert!(missing(network.cut(0, 2)));
    assert!(missing(network.cut_one_way(2, 0)));
    assert!(missing(network.isolate(2)));
    assert!(missing(network.split(&[&[0], &[2]])));
    assert!(missing(network.reset(1, 2)));
    assert!(missing(network.set_conditions(0, 2, Conditions::default())));
    assert!(missing(network.node(2).map(drop)));
    assert!(!network.is_live(2));
    assert!(matches!(network.cut(1, 1), Err(NetworkError::SameNode { node: 1 })));
    let twice = network.split(&[&[0, 1], &[1]]);
    assert!(matches!(twice, Err(NetworkError::InTwoGroups { node: 1 })));
    network.crash(1).await.unwrap();
    assert!(matches!(network.reconnect(1), Err(NetworkError::Crashed { node: 1 })));
    assert_eq!(reach(&network).await, ["0"], "no refused fault did anything");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_not_in_the_network_is_unreachable_at_once() {
    let network = Network::pair().await.unwrap();
    let stranger = "mem://Test@elsewhere:1".parse().unwrap();
    match network.number_of(&stranger) {
        Err(NetworkError::UnknownAddress { address }) => assert_eq!(address, stranger),
        other => panic!("{other:?}"),
    }
    let ada = network.node(0).unwrap();
    assert_eq!(network.number_of(&ada.address()).unwrap(), 0);
    let nowhere = ada.resolve("mem://Test@elsewhere:1/user/any").unwrap();
    nowhere.tell(&Count(0)).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let why = ada.associations()[0].last_failure.clone().unwrap();
    assert_eq!(why, "cannot reach mem://elsewhere:1");
}

#[test]
fn a_dropped_network_leaves_no_task_behind() {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let network = Network::mesh(3).await.unwrap();
        let (ada, bob) = (network.node(0).unwrap(), network.node(1).unwrap());
        let mut inbox = counter(&ada);
        let to_ada = target(&bob, &ada);
        to_ada.tell(&Count(0)).unwrap();
        assert_eq!(inbox.recv().await, Some(Count(0)));
        assert!(Handle::current().metrics().num_alive_tasks() > 0);
        drop((network, ada, bob, to_ada));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    });
}

/// Registers a mailbox for counts.
fn counter(node: &Node) -> mpsc::Receiver<Count> {
    let (counts, inbox) = mpsc::channel(1024);
    node.register("/user/counter", counts).unwrap();
    inbox
}

/// Gives the handle of `from` to the counter of `to`.
fn target(from: &Node, to: &Node) -> RemoteRef {
    from.resolve(to.path("/user/counter").unwrap()).unwrap()
}

/// Gives a pair that has a link, its second node, the way from there to a counter of the first, and what it counts.
async fn linked() -> (Network, Node, RemoteRef, mpsc::Receiver<Count>) {
    let network = Network::pair().await.unwrap();
    let (ada, bob) = both(&network);
    let (to_ada, mut inbox) = (target(&bob, &ada), counter(&ada));
    to_ada.tell(&Count(0)).unwrap();
    assert_eq!(inbox.recv().await, Some(Count(0)));
    (network, bob, to_ada, inbox)
}

fn both(network: &Network) -> (Node, Node) {
    (network.node(0).unwrap(), network.node(1).unwrap())
}

/// Gives, for each node that runs, the numbers of those it can ask for an answer.
async fn reach(network: &Network) -> Vec<String> {
    let nodes = network.nodes();
    for node in &nodes {
        // A second time the actor is there already.
        drop(node.spawn("/user/echo", async |count: Count, cx: &mut Context| cx.reply(&count)));
    }
    let mut reached = Vec::new();
    for from in &nodes {
        let mut row = String::new();
        for to in &nodes {
            let echo = from.resolve(to.path("/user/echo").unwrap()).unwrap();
            let asked = echo.ask::<_, Count>(&Count(0), Duration::from_secs(8)).await;
            if asked.is_ok() {
                row += &network.number_of(&to.address()).unwrap().to_string();
            }
        }
        reached.push(row);
    }
    reached
}

/// Ends the test if nothing comes for long.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("it comes in time")
}

fn is_down(event: NodeEvent) -> Option<()> {
    matches!(event, NodeEvent::AssociationDown { .. }).then_some(())
}

async fn until<T>(events: &mut EventStream, pick: impl Fn(NodeEvent) -> Option<T>) -> T {
    loop {
        match soon(events.next()).await {
            Some(Observed::Item(event)) => {
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
            other => panic!("no event but {other:?}"),
        }
    }
}

/// A deadline that virtual time alone may reach.
const LONG: Duration = Duration::from_secs(90);
