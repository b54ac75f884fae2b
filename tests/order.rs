//! Holds tells to their order: first in, first out, from one node to one path, nothing lost or twice.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{
    Double, LONG, Net, Note, Recorder, Text, Wrapped, association, collector, on_both, until,
    until_accounted, within,
};
use tellwire::transport::InProcessNetwork;
use tellwire::{Node, RemoteRef};
use tokio::sync::Barrier;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_tells_of_eight_senders_arrive_once_and_in_order() {
    let (ada, bob) = Net::Tcp.pair().await;
    let next: Arc<[AtomicU64; SENDERS]> = Arc::default();
    let wrong = Arc::new(AtomicU64::new(0));
    let (expected, misplaced) = (Arc::clone(&next), Arc::clone(&wrong));
    let count = move |note: Note| {
        let place = expected[note.from as usize].fetch_add(1, Ordering::Relaxed);
        misplaced.fetch_add(u64::from(place != note.seq), Ordering::Relaxed);
    };
    let path = ada.register("/user/counter", count).unwrap();
    let senders = (0..SENDERS).map(|from| tokio::spawn(tell_many(bob.clone(), path.clone(), from)));
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    until("everything to arrive", || next.iter().all(|n| n.load(Ordering::Relaxed) >= EACH)).await;
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    assert_eq!(bob.stats().tells_sent, EACH * SENDERS as u64);
    assert_eq!(ada.stats().tells_received, EACH * SENDERS as u64);
    until_accounted(&bob, &ada).await;
    assert_eq!(ada.stats().dead_letters_total() + bob.stats().dead_letters_total(), 0);
}

async fn tell_many(node: Node, path: tellwire::ActorPath, from: usize) {
    let target = node.resolve(path).unwrap();
    let from = u32::try_from(from).unwrap();
    for seq in 0..EACH {
        target.send(&Note { from, seq }).await.unwrap();
    }
}

#[tokio::test]
async fn tells_told_before_the_handshake_arrive_first_and_in_order() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut notes) = collector::<Note>();
        let target = bob.resolve(ada.register("/user/notes", mailbox).unwrap()).unwrap();
        // One thread and nothing awaited: no link can be up before the last of these.
        for seq in 0..1000 {
            target.tell(&Note { from: 0, seq }).unwrap();
        }
        assert_eq!(association(&bob, &ada.address()).activations, 0);
        until("the link", || association(&bob, &ada.address()).activations == 1).await;
        for seq in 1000..2000 {
            target.tell(&Note { from: 0, seq }).unwrap();
        }
        let seen: Vec<u64> = notes.take(2000).await.iter().map(|note| note.seq).collect();
        assert_eq!(seen, (0..2000).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_racing_for_the_first_tell_dial_once() {
    on_both(async |net| {
        let ada = net.node().await;
        let (dialler, dials) = Wrapped::counting(&net);
        let bob = net.builder_over(dialler).start().await.unwrap();
        let (mailbox, mut notes) = collector::<Note>();
        let path = ada.register("/user/notes", mailbox).unwrap();
        let start = Arc::new(Barrier::new(RACERS));
        for from in 0..u32::try_from(RACERS).unwrap() {
            let (bob, path, start) = (bob.clone(), path.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                bob.resolve(path).unwrap().tell(&Note { from, seq: 0 }).unwrap();
            });
        }
        let mut seen: Vec<u32> = notes.take(RACERS).await.iter().map(|note| note.from).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..u32::try_from(RACERS).unwrap()).collect::<Vec<_>>());
        assert_eq!(dials.load(Ordering::SeqCst), 1);
        assert_eq!(bob.associations().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn both_directions_use_the_one_link() {
    on_both(async |net| {
        let ((here, from_ada), (there, from_bob)) =
            (Wrapped::counting(&net), Wrapped::counting(&net));
        let ada = net.builder_over(here).start().await.unwrap();
        let bob = net.builder_over(there).start().await.unwrap();
        let (mailbox, mut at_ada) = collector::<Note>();
        let to_ada = bob.resolve(ada.register("/user/notes", mailbox).unwrap()).unwrap();
        let (mailbox, mut at_bob) = collector::<Note>();
        let to_bob = ada.resolve(bob.register("/user/notes", mailbox).unwrap()).unwrap();
        to_ada.tell(&Note { from: 1, seq: 0 }).unwrap();
        at_ada.next().await;
        for seq in 0..500 {
            to_bob.tell(&Note { from: 0, seq }).unwrap();
            to_ada.tell(&Note { from: 1, seq }).unwrap();
        }
        for notes in [&mut at_ada, &mut at_bob] {
            let seen: Vec<u64> = notes.take(500).await.iter().map(|note| note.seq).collect();
            assert_eq!(seen, (0..500).collect::<Vec<_>>());
        }
        let dials = [from_bob, from_ada].map(|dials| dials.load(Ordering::SeqCst));
        assert_eq!(dials, [1, 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_dial_each_other_at_once_lose_and_reorder_nothing() {
    on_both(async |net| {
        for _ in 0..10 {
            let (ada, bob) = net.pair().await;
            let (mailbox, mut at_ada) = collector::<Note>();
            let to_ada = bob.resolve(ada.register("/user/notes", mailbox).unwrap()).unwrap();
            let (mailbox, mut at_bob) = collector::<Note>();
            let to_bob = ada.resolve(bob.register("/user/notes", mailbox).unwrap()).unwrap();
            for seq in 0..200 {
                to_bob.send(&Note { from: 0, seq }).await.unwrap();
                to_ada.send(&Note { from: 1, seq }).await.unwrap();
            }
            for notes in [&mut at_ada, &mut at_bob] {
                let seen: Vec<u64> = notes.take(200).await.iter().map(|note| note.seq).collect();
                assert_eq!(seen, (0..200).collect::<Vec<_>>());
            }
            assert_eq!(association(&ada, &bob.address()).activations, 1);
            assert_eq!(association(&bob, &ada.address()).activations, 1);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_tells_over_many_fresh_links_are_never_lost() {
    on_both(async |net| {
        let ada = net.node().await;
        let (mailbox, mut notes) = collector::<Note>();
        let path = ada.register("/user/notes", mailbox).unwrap();
        for _ in 0..200 {
            let bob = net.node().await;
            let target = bob.resolve(&path).unwrap();
            for seq in 0..50 {
                target.send(&Note { from: 0, seq }).await.unwrap();
            }
            let seen: Vec<u64> = notes.take(50).await.iter().map(|note| note.seq).collect();
            assert_eq!(seen, (0..50).collect::<Vec<_>>());
        }
        assert_eq!(ada.stats().fenced_links, 0);
    })
    .await;
}

#[tokio::test]
async fn two_message_types_reach_one_actor_in_the_order_told() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (record, mut seen) = collector::<u64>();
        let actor =
            ada.actor("/user/both", Recorder(Box::new(record))).accept::<Note>().accept::<Text>();
        let target = bob.resolve(actor.spawn().unwrap().path().clone()).unwrap();
        for seq in 0..900 {
            match seq % 3 {
                0 => target.tell(&Text(seq.to_string())).unwrap(),
                _ => target.tell(&Note { from: 0, seq }).unwrap(),
            }
        }
        assert_eq!(seen.take(900).await, (0..900).collect::<Vec<u64>>());
    })
    .await;
}

#[tokio::test]
async fn two_mailboxes_of_one_path_see_the_order_told() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (record, mut seen) = collector::<u64>();
        let record_double = record.clone();
        let registration = ada
            .registration("/user/both")
            .accept::<Note, _>(move |note: Note| record(note.seq))
            .accept::<Double, _>(move |Double(seq)| record_double(seq));
        let target = bob.resolve(registration.register().unwrap()).unwrap();
        for seq in 0..900 {
            match seq % 3 {
                0 => target.tell(&Double(seq)).unwrap(),
                _ => target.tell(&Note { from: 0, seq }).unwrap(),
            }
        }
        assert_eq!(seen.take(900).await, (0..900).collect::<Vec<u64>>());
    })
    .await;
}

#[tokio::test]
async fn tells_interleaved_over_a_hundred_actors_keep_each_actors_order() {
    on_both(async |net| interleave(net, 100, 100).await).await;
}

#[tokio::test]
async fn more_paths_than_the_dictionary_holds_keep_each_actors_order() {
    on_both(async |net| interleave(net, 1500, 3).await).await;
}

/// Tells each of `actors` its `rounds` numbers, round by round.
async fn interleave(net: Net, actors: u32, rounds: u64) {
    let (ada, bob) = net.pair().await;
    let mut all = Vec::new();
    for from in 0..actors {
        let (mailbox, notes) = collector::<Note>();
        let path = ada.register(format!("/user/a{from}"), mailbox).unwrap();
        all.push((from, bob.resolve(path).unwrap(), notes));
    }
    for seq in 0..rounds {
        for (from, target, _) in &all {
            target.send(&Note { from: *from, seq }).await.unwrap();
        }
    }
    for (from, _, notes) in &mut all {
        let seen = notes.take(usize::try_from(rounds).unwrap()).await;
        let expected: Vec<_> = (0..rounds).map(|seq| Note { from: *from, seq }).collect();
        assert_eq!(seen, expected);
    }
    until_accounted(&bob, &ada).await;
}

#[tokio::test]
async fn tells_to_this_node_itself_arrive_in_order() {
    on_both(async |net| {
        let ada = net.node().await;
        let (mailbox, mut notes) = collector::<Note>();
        ada.register("/user/notes", mailbox).unwrap();
        let by_short = ada.resolve("/user/notes").unwrap();
        let by_whole = ada.resolve(ada.path("/user/notes")).unwrap();
        for seq in 0..1000 {
            let target = if seq % 2 == 0 { &by_short } else { &by_whole };
            target.send(&Note { from: 0, seq }).await.unwrap();
        }
        let seen: Vec<u64> = notes.take(1000).await.iter().map(|note| note.seq).collect();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
        assert!(ada.associations().is_empty());
    })
    .await;
}

const SENDERS: usize = 8;
const EACH: u64 = 125_000;
const RACERS: usize = 64;

#[tokio::test(start_paused = true)]
async fn who_sends_much_moves_the_writer_on_without_letting_others_run() {
    let (ada, bob) = Net::Mem(InProcessNetwork::new()).pair().await;
    let (mailbox, mut notes) = collector::<Note>();
    let target = bob.resolve(ada.register("/user/notes", mailbox).unwrap()).unwrap();
    // With the first turn others run, and the link comes up.
    send_range(&target, 0..300).await;
    notes.take(300).await;
    let others = tokio::spawn(async {});
    let waiting = || association(&bob, &ada.address()).queued_frames;
    let (mut before, mut has_written) = (waiting(), false);
    for seq in 300..900 {
        send_range(&target, seq..seq + 1).await;
        has_written |= waiting() < before;
        before = waiting();
    }
    assert!(has_written && !others.is_finished());
    let seen: Vec<u64> = notes.take(600).await.iter().map(|note| note.seq).collect();
    assert_eq!(seen, (300..900).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_outside_of_the_node_s_runtime_are_served_too() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut notes) = collector::<Note>();
        let target = bob.resolve(ada.register("/user/notes", mailbox).unwrap()).unwrap();
        let elsewhere = target.clone();
        let on_a_runtime = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(send_range(&elsewhere, 0..EACH_ELSEWHERE));
        });
        let elsewhere = target.clone();
        let on_a_thread = std::thread::spawn(move || {
            block_on(send_range(&elsewhere, EACH_ELSEWHERE..2 * EACH_ELSEWHERE));
        });
        let mut seen: Vec<u64> = Vec::new();
        for note in notes.take(usize::try_from(2 * EACH_ELSEWHERE).unwrap()).await {
            seen.push(note.seq);
        }
        on_a_runtime.join().unwrap();
        on_a_thread.join().unwrap();
        let (first, second): (Vec<u64>, Vec<u64>) =
            seen.iter().partition(|seq| **seq < EACH_ELSEWHERE);
        assert!(first.is_sorted() && second.is_sorted());
        until_accounted(&bob, &ada).await;
        within("the end", bob.shutdown(LONG)).await;
    })
    .await;
}

async fn send_range(target: &RemoteRef, numbers: std::ops::Range<u64>) {
    for seq in numbers {
        target.send(&Note { from: 0, seq }).await.unwrap();
    }
}

/// Runs a future on a thread without any runtime.
fn block_on(future: impl Future<Output = ()>) {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    while future.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending() {
        std::thread::park();
    }
}

const EACH_ELSEWHERE: u64 = 20_000;
