//! When a writer is woken, and when it is moved on.

use super::*;

fn is_woken(wake: &Wake, is_pressing: bool) -> bool {
    pin!(wake.woken(|| is_pressing)).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn a_writer_that_is_held_back_is_told_once_when_enough_waits_and_of_what_waits_for_nobody() {
    let (outbox, writer) = (Outbox::new(OutboxSettings::default()), Writer::default());
    let wake = Arc::clone(&writer.wake);
    outbox.activate(LinkId::default(), writer, IsFirst::No);
    let _dispatching = wake.begin();
    assert!(!is_woken(&wake, false) && wake.is_held());
    for size in [1, 2000, 1000] {
        offer_sized(&outbox, size).unwrap();
        assert_eq!(is_woken(&wake, true), size == 1, "at first, as nothing waited");
        assert!(!is_woken(&wake, false));
    }
    for (size, is_told) in [(1200, true), (10_000, false), (QUANTUM + 1, true)] {
        offer_sized(&outbox, size).unwrap();
        assert_eq!(is_woken(&wake, true), is_told, "{size}");
    }
    outbox.offer_gossip(b"x").unwrap();
    assert!(is_woken(&wake, true));
    wake.release();
    outbox.offer_gossip(b"x").unwrap();
    assert!(!is_woken(&wake, true), "nobody is held");
}

#[tokio::test]
async fn asks_and_replies_that_make_a_good_write_move_the_writer_on_once() {
    let outbox = outbox();
    let polls = Arc::new(AtomicU32::new(0));
    let (writer, running) = counting_writer(&polls);
    let wake = Arc::clone(&writer.wake);
    outbox.activate(LinkId::default(), writer, IsFirst::No);
    outbox.settle_credit(&[], true);
    tokio::task::yield_now().await;
    let polls = || polls.swap(0, Ordering::Relaxed);
    assert_eq!(polls(), 1, "it has begun");
    let write = || drop(written_payloads(&outbox));
    for (size, count) in [(1000, 0), (2000, 0), (2000, 1), (2000, 0)] {
        reply(&outbox, size);
        assert_eq!(polls(), count);
    }
    write();
    let dispatching = wake.begin();
    (0..4).for_each(|_| reply(&outbox, 2000));
    assert_eq!(polls(), 0, "what follows the dispatch does");
    drop(dispatching);
    write();
    (0..4).for_each(|_| _ = tell(&outbox, "/user/x", 2000).unwrap());
    assert_eq!(polls(), 0, "a tell is not waited for");
    write();
    (0..4).for_each(|_| _ = offer_sized(&outbox, 2000).unwrap());
    assert_eq!(polls(), 0, "a relayed reply comes from the reader of another link");
    write();
    let ask = AskHeader { correlation: 1, wait: Duration::from_secs(1) };
    (0..4).for_each(|_| _ = offer_as(false, Some(ask), &outbox, "/user/x", 2000).unwrap());
    assert_eq!(polls(), 1);
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_writer_with_a_thread_of_its_own_is_not_moved_on_by_replies() {
    let outbox = outbox();
    let polls = Arc::new(AtomicU32::new(0));
    let (writer, running) = counting_writer(&polls);
    outbox.activate(LinkId::default(), writer, IsFirst::No);
    while polls.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    (0..4).for_each(|_| reply(&outbox, 2000));
    assert_eq!(polls.load(Ordering::Relaxed), 1);
    running.abort();
}

fn reply(outbox: &Outbox, size: usize) {
    let name = WireName { type_id: TypeId::of::<u8>(), form: 0, codec: "c", manifest: "m" };
    let (manifest, payload) = (ReplyName::Own(name), vec![1; size]);
    outbox.offer_reply(&OutgoingReply { correlation: 1, manifest, payload: &payload }).unwrap();
}

/// Runs a writer that counts its polls.
fn counting_writer(polls: &Arc<AtomicU32>) -> (Writer, tokio::task::JoinHandle<()>) {
    let polls = Arc::clone(polls);
    let writing = std::future::poll_fn(move |_| {
        polls.fetch_add(1, Ordering::Relaxed);
        Poll::Pending
    });
    let task = Assisted::new(Handle::current(), writing);
    let writer = Writer { task: Arc::downgrade(&task), ..Writer::default() };
    (writer, tokio::spawn(task.run()))
}

#[tokio::test]
async fn an_urged_writer_is_moved_on_at_once_and_woken_only_where_that_does_not_go() {
    let outbox = Outbox::new(OutboxSettings::default());
    let polls = Arc::new(AtomicU32::new(0));
    let (writer, running) = counting_writer(&polls);
    let wake = Arc::clone(&writer.wake);
    let is_woken = || is_woken(&wake, true);
    outbox.activate(LinkId::default(), writer, IsFirst::No);
    assert!(is_woken());

    outbox.urge();
    assert!(is_woken(), "it has not begun");
    tokio::task::yield_now().await;
    assert_eq!(polls.load(Ordering::Relaxed), 1);
    outbox.offer_quietly(&ControlPdu::Received { received: 1 }).unwrap();
    outbox.urge();
    assert_eq!(polls.load(Ordering::Relaxed), 2);
    assert!(outbox.has_control() && !is_woken());
    running.abort();
}
