//! Holds the invariants of a network to their word: they pass what is right and report what is not, when it happens.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tellwire::testkit::network::invariants::{self, Accounted, InOrder, Look, OneLink, Step};
use tellwire::testkit::network::{Conditions, NetworkBuilder};
use tellwire::testkit::{Network, eventually};
use tellwire::{Node, Settings};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    from: usize,
    number: u64,
}

tellwire::remote_messages! {
    table COUNTS, codec = tellwire::codec::Bincode;
    "invariants.v1.Count" => Count,
}

#[tokio::test(start_paused = true)]
async fn all_invariants_hold_through_faults_and_every_tell_is_accounted_for() {
    through_storms(async |network, _, seed, number| match (number, number + seed) {
        (_, 5 | 25) => network.reset(0, 1).unwrap(),
        (_, 10) => network.cut(0, 2).unwrap(),
        (_, 20) => network.isolate(1).unwrap(),
        (40, _) => network.recover(),
        _ => {}
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn they_hold_through_crashes_and_quarantine_too() {
    through_storms(async |network, order, _, number| match number {
        10 => network.crash(2).await.unwrap(),
        20 => listen(&network.restart(2).await.unwrap(), order),
        30 => {
            let fenced = network.node(1).unwrap().unique_address();
            network.node(0).unwrap().quarantine(&fenced).await.unwrap();
        }
        _ => {}
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_closure_sees_every_step_and_its_complaint_comes_with_seed_and_trace() {
    let steps = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let counted = Arc::clone(&steps);
    let network = Network::builder(2)
        .seed(9)
        .invariant_that("nothing is delivered", move |look| {
            let kind = usize::from(look.step() == Step::Fault);
            counted[kind].fetch_add(1, Ordering::Relaxed);
            let delivered: u64 = look.nodes().map(|(_, node)| node.stats().delivered).sum();
            if delivered > 0 { Err(format!("{delivered} are")) } else { Ok(()) }
        })
        .start()
        .await
        .unwrap();
    network.nodes().iter().for_each(|node| listen(node, &InOrder::new()));
    network.cut(0, 1).unwrap();
    network.recover();
    assert!(steps[1].load(Ordering::Relaxed) >= 4, "two starts, a cut and a recovery");
    assert_eq!(network.verify(), Ok(()));
    tell(&network, 0, 1, 1);
    let node = network.node(1).unwrap();
    eventually("it is delivered", Duration::from_secs(5), || node.stats().delivered == 1).await;
    let broken = network.verify().unwrap_err();
    assert!(steps[0].load(Ordering::Relaxed) > 3, "a handshake and a tell");
    assert_eq!((broken.seed, broken.invariant.as_str()), (9, "nothing is delivered"));
    assert!(broken.trace.iter().any(|line| line.contains("0>1 #1 kind")), "{broken}");
    assert!(broken.to_string().contains("seed 9") && broken.to_string().contains("1 are"));
    assert_eq!(network.verify().unwrap_err(), broken, "the first one stays");
}

#[tokio::test(start_paused = true)]
async fn a_broken_invariant_that_nobody_asked_for_fails_the_test() {
    let builder = || Network::builder(1).invariant_that("never", |_| Err("as ever".to_owned()));
    let unasked = builder().start().await.unwrap();
    let why = catch_unwind(AssertUnwindSafe(|| drop(unasked))).unwrap_err();
    assert!(why.downcast::<String>().unwrap().contains("never does not hold: as ever"));
    let asked = builder().start().await.unwrap();
    assert!(asked.verify().is_err());
    drop(asked);
    let late = |look: &Look<'_>| match look.nodes().count() {
        0 => Err("nobody is left".to_owned()),
        _ => Ok(()),
    };
    let asked_before = Network::builder(1).invariant_that("late", late).start().await.unwrap();
    assert_eq!(asked_before.verify(), Ok(()));
    asked_before.crash(0).await.unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(asked_before))).is_err());
}

#[tokio::test(start_paused = true)]
async fn swapped_and_doubled_messages_are_out_of_order() {
    for numbers in [[1, 3, 2], [1, 2, 2]] {
        let order = InOrder::new();
        let network = Network::builder(2).invariant(order.clone()).start().await.unwrap();
        network.nodes().iter().for_each(|node| listen(node, &order));
        numbers.iter().for_each(|number| tell(&network, 0, 1, *number));
        let node = network.node(1).unwrap();
        eventually("all have come", Duration::from_secs(5), || node.stats().delivered == 3).await;
        let broken = network.verify().unwrap_err();
        assert!(broken.why.contains("/user/counter"), "{broken}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tell_that_is_under_way_has_not_ended() {
    let network = Network::builder(2).invariant(Accounted).start().await.unwrap();
    network.nodes().iter().for_each(|node| listen(node, &InOrder::new()));
    network.cut(0, 1).unwrap();
    tell(&network, 0, 1, 1);
    let broken = network.settle(Duration::from_secs(1)).await.unwrap_err();
    assert!(broken.why.contains("some have not ended: 1 sent, 0 delivered"), "{broken}");
    network.recover();
    network.settle(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn queues_fill_to_their_bound_and_no_further() {
    let network = Network::builder(2)
        .each(|_, builder| {
            let mut settings = Settings::local();
            (settings.outbox.max_bytes, settings.outbox.max_frames) = (2_048, 1_000);
            builder.settings(settings)
        })
        .start()
        .await
        .unwrap();
    network.cut(0, 1).unwrap();
    let node = network.node(0).unwrap();
    let path = format!("{}/user/counter", network.address(1).unwrap());
    let counter = node.resolve(path.as_str()).unwrap();
    let told = (0..20_000).take_while(|n| counter.tell(&Count { from: 0, number: *n }).is_ok());
    assert!((50..1_001).contains(&told.count()));
    assert_eq!(network.verify(), Ok(()));
    assert!(node.associations()[0].queued_bytes >= 2_048);
}

#[tokio::test(start_paused = true)]
async fn two_links_at_once_are_seen_while_both_nodes_dial() {
    let impatient = OneLink { patience: Duration::ZERO };
    let network = Network::builder(2)
        .latency(Duration::from_millis(20))
        .invariants(vec![Box::new(impatient)])
        .start()
        .await
        .unwrap();
    network.nodes().iter().for_each(|node| listen(node, &InOrder::new()));
    tell(&network, 0, 1, 1);
    tell(&network, 1, 0, 1);
    eventually("both dials are seen", Duration::from_secs(5), || network.verify().is_err()).await;
    let broken = network.verify().unwrap_err();
    assert!(broken.why.contains("has the links"), "{broken}");
}

#[tokio::test(start_paused = true)]
async fn an_invariant_that_meddles_neither_hangs_nor_recurses() {
    let (sender, handle) = tokio::sync::watch::channel(None::<Network>);
    let meddler = invariants::that("meddles", move |_| {
        handle
            .borrow()
            .as_ref()
            .map_or(Ok(()), |network| network.cut(0, 1).map_err(|e| e.to_string()))
    });
    let network = Network::builder(2).invariant(meddler).start().await.unwrap();
    sender.send_replace(Some(network.clone()));
    network.recover();
    assert!(network.trace().contains("cut 0>1"));
    sender.send_replace(None);
}

/// Tells from every node to all others in a stormy network of each seed, with a fault of `strike` after each round.
async fn through_storms(strike: impl AsyncFn(&Network, &InOrder, u64, u64)) {
    for seed in 0..8 {
        let order = InOrder::new();
        let network =
            stormy(seed).invariant(Accounted).invariant(order.clone()).start().await.unwrap();
        network.nodes().iter().for_each(|node| listen(node, &order));
        for number in 0..60 {
            tell_all(&network, number);
            strike(&network, &order, seed, number).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        calm(&network);
        network.settle(Duration::from_secs(60)).await.unwrap();
    }
}

/// Begins a network of three nodes whose links are slow and break.
fn stormy(seed: u64) -> NetworkBuilder {
    Network::builder(3)
        .seed(seed)
        .latency(Duration::from_millis(2))
        .jitter(Duration::from_millis(20))
        .link_loss(0.01)
}

/// Ends all faults.
fn calm(network: &Network) {
    network.recover();
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        network.set_conditions(from, to, Conditions::default()).unwrap();
    }
}

/// Registers an actor that takes everything.
fn listen(node: &Node, order: &InOrder) {
    let at = format!("/user/counter of {}", node.unique_address());
    let mailbox = order.around(at, |_: Count| {}, |count: &Count| (count.from, count.number));
    node.register("/user/counter", mailbox).unwrap();
}

/// Lets every node that runs tell every other the number.
fn tell_all(network: &Network, number: u64) {
    for from in 0..network.size() {
        for to in (0..network.size()).filter(|to| *to != from && network.is_live(from)) {
            tell(network, from, to, number);
        }
    }
}

fn tell(network: &Network, from: usize, to: usize, number: u64) {
    let path = format!("{}/user/counter", network.address(to).unwrap());
    let counter = network.node(from).unwrap().resolve(path.as_str()).unwrap();
    counter.tell(&Count { from, number }).unwrap();
}
