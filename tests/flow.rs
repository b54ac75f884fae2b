//! Holds a slow actor to slowing its own senders and nobody else, with nothing lost, reordered or piled up.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{
    Double, Doubled, LONG, Net, Note, Recorder, Text, Wrapped, association, collector, on_both,
    until, until_accounted, within,
};
use tellwire::event::Reason;
use tellwire::node::{
    Actor, AskError, Context, Delivery, Inbox, Mailbox, Refused, TellError, WhenFull, bounded,
};
use tellwire::{Node, RemoteRef, Settings};

/// Checks the order of what it gets, and takes its time.
struct Slow {
    next: Arc<AtomicU64>,
    misplaced: Arc<AtomicU64>,
}

impl Slow {
    fn new() -> (Self, Arc<AtomicU64>, Arc<AtomicU64>) {
        let (next, misplaced) = (Arc::default(), Arc::default());
        (Self { next: Arc::clone(&next), misplaced: Arc::clone(&misplaced) }, next, misplaced)
    }
}

impl Actor<Note> for Slow {
    async fn receive(&mut self, note: Note, _: &mut Context) {
        let expected = self.next.fetch_add(1, Ordering::Relaxed);
        self.misplaced.fetch_add(u64::from(note.seq != expected), Ordering::Relaxed);
        if expected % 1000 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn note(seq: u64) -> Note {
    Note { from: 0, seq }
}

async fn send(target: &RemoteRef, numbers: std::ops::Range<u64>) {
    let sending = async {
        for seq in numbers {
            target.send(&note(seq)).await.unwrap();
        }
    };
    within("the sender", sending).await;
}

/// Tells until the target is said to be full; gives how many were taken.
fn tell_until_full(target: &RemoteRef, from: u64) -> u64 {
    let taken = (from..from + 1_000_000).find(|seq| match target.tell(&note(*seq)) {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error, TellError::Full);
            true
        }
    });
    taken.expect("no bound in sight") - from
}

/// Takes the next messages out of a mailbox, which must be these.
async fn take(inbox: &mut Inbox<Note>, numbers: std::ops::Range<u64>) {
    for seq in numbers {
        let delivery = within("the next message", inbox.recv()).await.unwrap();
        assert_eq!(delivery.message.seq, seq);
    }
}

fn small(capacity: usize, max_held: usize) -> Settings {
    let mut settings = Settings::local();
    settings.inbound.mailbox_capacity = capacity;
    settings.outbox.max_held_frames = max_held;
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_sender_and_a_slow_actor_lose_and_reorder_nothing() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (slow, handled, misplaced) = Slow::new();
        let path = ada.spawn::<Note, _>("/user/slow", slow).unwrap().path().clone();
        send(&bob.resolve(path).unwrap(), 0..MANY).await;
        until("the actor to be through", || handled.load(Ordering::Relaxed) == MANY).await;
        assert_eq!(misplaced.load(Ordering::Relaxed), 0);
        until_accounted(&bob, &ada).await;
        assert_eq!(ada.stats().dead_letters_total() + bob.stats().dead_letters_total(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_actor_of_this_node_itself_holds_its_senders_back_too() {
    let settings = small(100, 100);
    let ada = Net::Tcp.builder().settings(settings).start().await.unwrap();
    let (slow, handled, misplaced) = Slow::new();
    let path = ada.spawn::<Note, _>("/user/slow", slow).unwrap().path().clone();
    send(&ada.resolve(path).unwrap(), 0..50_000).await;
    until("the actor to be through", || handled.load(Ordering::Relaxed) == 50_000).await;
    assert_eq!(misplaced.load(Ordering::Relaxed), 0);
    assert_eq!(ada.stats().dead_letters_total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starved_target_is_full_while_others_on_the_link_go_on() {
    on_both(async |net| {
        let ada = net.builder().settings(small(20, 100)).start().await.unwrap();
        let bob = net.builder().settings(small(20, 100)).start().await.unwrap();
        let (mailbox, mut inbox) = bounded::<Note>(10);
        let slow = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        let (mailbox, mut fast_notes) = collector::<Note>();
        let fast = bob.resolve(ada.register("/user/fast", mailbox).unwrap()).unwrap();
        let double = async |Double(n): Double, cx: &mut Context| cx.reply(&Doubled(2 * n));
        let asked = bob.resolve(ada.spawn("/user/double", double).unwrap().path()).unwrap();

        let mut told = tell_until_full(&slow, 0);
        for round in 0..20 {
            send(&fast, round * 500..(round + 1) * 500).await;
            let Doubled(reply) = asked.ask(&Double(round), LONG).await.unwrap();
            assert_eq!(reply, 2 * round);
            told += tell_until_full(&slow, told);
        }
        let seen: Vec<u64> = fast_notes.take(10_000).await.iter().map(|note| note.seq).collect();
        assert_eq!(seen, (0..10_000).collect::<Vec<_>>());
        let most = 10 + (256 + 20) + 100;
        assert!((256 + 100..=most).contains(&told), "{told} were taken");
        assert!(association(&bob, &ada.address()).held.frames >= 100);

        // As the actor takes them out, a sender that waits gets through.
        let waiting = tokio::spawn(async move { send(&slow, told..told + 1000).await });
        take(&mut inbox, 0..told + 1000).await;
        waiting.await.unwrap();
        assert_eq!(ada.stats().dead_letters_total() + bob.stats().dead_letters_total(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_senders_together_are_held_to_the_documented_sum() {
    on_both(async |net| {
        let ada = net.builder().settings(small(64, 1000)).start().await.unwrap();
        let (mailbox, mut inbox) = bounded::<Note>(64);
        let path = ada.register("/user/slow", mailbox).unwrap();
        let double = async |Double(n): Double, cx: &mut Context| cx.reply(&Doubled(2 * n));
        let double = ada.spawn("/user/double", double).unwrap().path().clone();
        let (mut bobs, mut told) = (Vec::new(), 0);
        for _ in 0..8 {
            let bob = net.builder().settings(small(64, 1000)).start().await.unwrap();
            let slow = bob.resolve(&path).unwrap();
            told += tell_until_full(&slow, 0);
            bobs.push((bob, slow));
        }
        for round in 0..20 {
            for (bob, slow) in &bobs {
                // It goes the way of the tells, behind those that had credit.
                let _: Doubled =
                    bob.resolve(&double).unwrap().ask(&Double(round), LONG).await.unwrap();
                told += tell_until_full(slow, 0);
            }
            let held = ada.stats().tells_received - (round + 1) * 8;
            assert!(held <= 64 + 64 + 8 * 256, "{held} are held");
        }
        let mut taken = 0;
        while taken < told {
            within("the next message", inbox.recv()).await.unwrap();
            taken += 1;
        }
        assert_eq!(ada.stats().dead_letters_total(), 0);
        assert!(bobs.iter().all(|(bob, _)| bob.stats().dead_letters_total() == 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_links_take_no_credit_along() {
    on_both(async |net| {
        let ada = net.builder().settings(small(32, 50)).start().await.unwrap();
        let (transport, wires) = Wrapped::breaking(&net);
        let mut settings = small(32, 50);
        settings.association.backoff_min = Duration::from_millis(1);
        settings.association.backoff_max = Duration::from_millis(5);
        let bob = net.builder_over(transport).settings(settings).start().await.unwrap();
        let (mailbox, mut inbox) = bounded::<Note>(8);
        let slow = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        let sender = slow.clone();
        let sending = tokio::spawn(async move { send(&sender, 0..20_000).await });
        let (mut last, mut taken) = (None, 0);
        for round in 1..=20 {
            for _ in 0..200 {
                let delivery = within("the next message", inbox.recv()).await.unwrap();
                assert!(last < Some(delivery.message.seq), "out of order");
                last = Some(delivery.message.seq);
                taken += 1;
            }
            wires.break_links();
            until("another link", || association(&bob, &ada.address()).activations > round).await;
        }
        let rest = async {
            while !sending.is_finished() || association(&bob, &ada.address()).queued_frames > 0 {
                let next = tokio::time::timeout(Duration::from_millis(50), inbox.recv()).await;
                taken += u64::from(matches!(next, Ok(Some(_))));
            }
        };
        within("the rest", rest).await;
        // The whole window is there: what is left of the first words would have been used up long ago.
        let first = bob.stats().tells_sent;
        let sending = tokio::spawn(async move { send(&slow, 0..5000).await });
        while taken < first + 5000 - bob.stats().possibly_lost {
            within("the next message", inbox.recv()).await.unwrap();
            taken += 1;
        }
        sending.await.unwrap();
        until_accounted(&bob, &ada).await;
        assert_eq!(ada.stats().dead_letters_total(), 0);
        assert_eq!(taken, ada.stats().delivered);
    })
    .await;
}

/// What waits may be more than the new incarnation has granted anybody.
#[tokio::test]
async fn what_waits_for_a_peer_that_restarts_is_held_back_by_its_slow_actor() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut notes) = collector::<Note>();
        let slow = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        send(&slow, 0..1_000).await;
        notes.take(1_000).await;
        let address = ada.address();
        drop(ada);
        until("the link to be gone", || association(&bob, &address).up_since.is_none()).await;
        (1_000..2_000).for_each(|seq| slow.tell(&note(seq)).unwrap());

        let ada = net.restart(&address).await;
        let (mailbox, mut inbox) = bounded::<Note>(10);
        ada.register("/user/slow", mailbox).unwrap();
        take(&mut inbox, 1_000..2_000).await;
        assert_eq!(ada.stats().dead_letters, []);
    })
    .await;
}

#[tokio::test]
async fn an_actor_that_stops_lets_its_senders_go_with_dead_letters() {
    on_both(async |net| {
        let ada = net.builder().settings(small(16, 50)).start().await.unwrap();
        let bob = net.builder().settings(small(16, 50)).start().await.unwrap();
        let stuck = async |_: Note, _: &mut Context| std::future::pending::<()>().await;
        let actor = ada.spawn("/user/stuck", stuck).unwrap();
        let target = bob.resolve(actor.path()).unwrap();
        let told = tell_until_full(&target, 0);
        let sending = tokio::spawn(async move { send(&target, told..told + 5000).await });
        until("the mailbox to be full", || ada.stats().tells_received >= 256).await;
        assert!(ada.unregister(actor.path()).unwrap());
        within("the sender", sending).await.unwrap();
        until_accounted(&bob, &ada).await;
        assert!(ada.stats().dead_letters_for(Reason::ActorStopped) > 0);
        let ended = ada.stats().dead_letters_for(Reason::ActorStopped)
            + ada.stats().dead_letters_for(Reason::MailboxGone)
            + ada.stats().dead_letters_for(Reason::UnknownPath);
        assert_eq!(ended, ada.stats().dead_letters_total());
        assert_eq!(ended + ada.stats().delivered, bob.stats().tells_sent);
    })
    .await;
}

#[tokio::test]
async fn tells_to_nobody_never_wait_for_credit() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let nobody = bob.resolve(ada.path("/user/nobody")).unwrap();
        send(&nobody, 0..20_000).await;
        until("all to have ended", || ada.stats().dead_letters_for(Reason::UnknownPath) == 20_000)
            .await;
    })
    .await;
}

#[tokio::test]
async fn an_ask_waits_for_a_full_mailbox_as_long_as_its_deadline_says() {
    on_both(async |net| {
        let ada = net.builder().settings(small(4, 50)).start().await.unwrap();
        let bob = net.builder().settings(small(4, 50)).start().await.unwrap();
        let (mailbox, mut inbox) = bounded::<Double>(1);
        let target = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        let mut told = 0;
        while target.tell(&Double(told)).is_ok() && told < 280 {
            told += 1;
        }
        let wait = Duration::from_millis(30);
        let late = target.ask::<_, Doubled>(&Double(999), wait).await;
        assert_eq!(late, Err(AskError::Timeout(wait)));
        let asking = async { target.ask::<_, Doubled>(&Double(1000), LONG).await.unwrap() };
        let answering = async {
            loop {
                let Delivery { message, envelope, .. } = inbox.recv().await.unwrap();
                if let Some(reply) = envelope.reply {
                    drop(reply.reply(&Doubled(message.0 * 2)));
                }
                if message == Double(1000) {
                    return;
                }
            }
        };
        let (reply, ()) = within("the reply", async { tokio::join!(asking, answering) }).await;
        assert_eq!(reply, Doubled(2000));
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_credit_ends_with_the_peer() {
    on_both(async |net| {
        let ada = net.builder().settings(small(4, 500)).start().await.unwrap();
        let bob = net.builder().settings(small(4, 500)).start().await.unwrap();
        let (mailbox, _inbox) = bounded::<Note>(1);
        let target = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        (0..600).for_each(|seq| target.tell(&note(seq)).unwrap());
        let asking = tokio::spawn(async move { target.ask::<_, Note>(&note(600), LONG).await });
        until("all that has credit to arrive", || {
            let held = association(&bob, &ada.address()).queued_frames as u64;
            let arrived = ada.stats().tells_received;
            arrived > 0 && held > 300 && arrived + held == 601
        })
        .await;
        within("the end", ada.shutdown(Duration::from_secs(5))).await;
        let asked = within("the answer", asking).await.unwrap();
        assert_eq!(asked, Err(AskError::Failed(Reason::PeerStopped)));
        let held = bob.stats().dead_letters_for(Reason::PeerStopped);
        assert!((330..=345).contains(&held), "{held} waited for credit");
        assert_eq!(bob.stats().dead_letters_total(), held);
        assert_eq!(association(&bob, &ada.address()).queued_frames, 0);
        // The mailbox took one; what waited in front of it ended with it.
        assert_eq!((ada.stats().delivered, ada.stats().dead_letters_total()), (1, 600 - held));
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_credit_is_flushed_before_a_node_ends() {
    on_both(async |net| {
        let ada = net.builder().settings(small(4, 5000)).start().await.unwrap();
        let bob = net.builder().settings(small(4, 5000)).start().await.unwrap();
        let (mailbox, mut inbox) = bounded::<Note>(10);
        let target = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        (0..3000).for_each(|seq| target.tell(&note(seq)).unwrap());
        let ending = bob.shutdown(Duration::from_secs(20));
        let (report, ()) = tokio::join!(ending, take(&mut inbox, 0..3000));
        assert_eq!((report.unflushed, report.in_time), (0, true));
    })
    .await;
}

/// Takes one message at a time and cannot tell when there is room.
struct Hatch(std::sync::Mutex<Option<u64>>);

impl Mailbox<Note> for Arc<Hatch> {
    fn try_deliver(&self, delivery: Delivery<Note>) -> Result<(), Refused<Note>> {
        let mut hatch = self.0.lock().unwrap();
        if hatch.is_some() {
            return Err(Refused::Full(delivery));
        }
        *hatch = Some(delivery.message.seq);
        Ok(())
    }
}

#[tokio::test]
async fn any_mailbox_that_says_full_holds_its_senders_back() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let hatch = Arc::new(Hatch(std::sync::Mutex::new(None)));
        let path = ada.register::<Note, _>("/user/hatch", Arc::clone(&hatch)).unwrap();
        let (channel, mut notes) = tokio::sync::mpsc::channel::<Note>(3);
        let other = ada.register::<Note, _>("/user/channel", channel).unwrap();
        let (hatched, channelled) = (bob.resolve(path).unwrap(), bob.resolve(other).unwrap());
        (0..200).for_each(|seq| hatched.tell(&note(seq)).unwrap());
        (0..2000).for_each(|seq| channelled.tell(&note(seq)).unwrap());
        for seq in 0..2000 {
            assert_eq!(within("the next", notes.recv()).await, Some(note(seq)));
        }
        for seq in 0..200 {
            until("the hatch", || hatch.0.lock().unwrap().is_some()).await;
            assert_eq!(hatch.0.lock().unwrap().take(), Some(seq));
        }
        assert_eq!(ada.stats().dead_letters_total(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_registration_that_refuses_the_newest_slows_nobody() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut inbox) = bounded::<Note>(10);
        let registration = ada.registration("/user/lossy").accept::<Note, _>(mailbox);
        let path = registration.when_full(WhenFull::Refuse).register().unwrap();
        send(&bob.resolve(path).unwrap(), 0..20_000).await;
        until_accounted(&bob, &ada).await;
        assert_eq!(ada.stats().dead_letters, [(Reason::MailboxFull, 19_990)]);
        take(&mut inbox, 0..10).await;
    })
    .await;
}

#[tokio::test]
async fn types_of_one_actor_keep_their_order_through_a_full_mailbox() {
    on_both(async |net| {
        let ada = net.builder().settings(small(5, 100)).start().await.unwrap();
        let bob = net.node().await;
        let (record, mut seen) = collector::<u64>();
        let actor = ada.actor("/user/both", Recorder(Box::new(record)));
        let actor = actor.accept::<Note>().accept::<Text>().spawn().unwrap();
        let target = bob.resolve(actor.path()).unwrap();
        for seq in 0..3000 {
            match seq % 3 {
                0 => target.send(&Text(seq.to_string())).await.unwrap(),
                _ => target.send(&note(seq)).await.unwrap(),
            }
        }
        assert_eq!(seen.take(3000).await, (0..3000).collect::<Vec<u64>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn literal_targets_beyond_the_dictionary_are_held_back_too() {
    on_both(async |net| {
        let ada = net.builder().settings(small(8, 500)).start().await.unwrap();
        let bob = net.builder().settings(small(8, 500)).start().await.unwrap();
        fill_the_dictionary(&bob, &ada).await;
        let (mailbox, mut inbox) = bounded::<Note>(4);
        let target = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        let told = tell_until_full(&target, 0);
        assert!((500 + 256..=500 + 256 + 8 + 4).contains(&told), "{told} were taken");
        let sending = tokio::spawn(async move { send(&target, told..told + 3000).await });
        take(&mut inbox, 0..told + 3000).await;
        sending.await.unwrap();
        assert_eq!(ada.stats().dead_letters_for(Reason::MailboxFull), 0);
    })
    .await;
}

async fn fill_the_dictionary(from: &Node, to: &Node) {
    for number in 0..1100 {
        let nobody = from.resolve(to.path(format!("/user/n{number}"))).unwrap();
        nobody.send(&note(0)).await.unwrap();
    }
    until("all to have ended", || to.stats().dead_letters_total() == 1100).await;
}

const MANY: u64 = 200_000;
