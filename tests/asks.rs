//! Holds asks to their word: a reply, or the reason why there is none, at once; nothing left behind.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::time::{Duration, Instant};

use common::{
    Double, Doubled, LONG, Note, Text, association, event, on_both, until, until_accounted, within,
};
use tellwire::event::{NodeEvent, Reason};
use tellwire::node::{Actor, AskError, Context, Delivery, ReplyTo, TellError, WhenFull, bounded};
use tellwire::{ActorPath, Node, RemoteRef};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

#[tokio::test]
async fn an_ask_gets_its_reply() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let doubler = spawn_doubler(&ada, &bob);
        assert_eq!(doubler.ask(&Double(21), LONG).await, Ok(Doubled(42)));
        nothing_waits(&bob, &ada).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_concurrent_asks_each_get_their_own_reply() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let doubler = spawn_doubler(&ada, &bob);
        let mut asks = JoinSet::new();
        for number in 0..5000 {
            let doubler = doubler.clone();
            asks.spawn(async move { (number, doubler.ask(&Double(number), LONG).await) });
        }
        while let Some(asked) = asks.join_next().await {
            let (number, reply) = asked.unwrap();
            assert_eq!(reply, Ok(Doubled(2 * number)));
        }
        nothing_waits(&bob, &ada).await;
    })
    .await;
}

#[tokio::test]
async fn an_ask_to_this_node_itself_gets_its_reply() {
    on_both(async |net| {
        let ada = net.node().await;
        let doubler = spawn_doubler(&ada, &ada);
        assert_eq!(doubler.ask(&Double(4), LONG).await, Ok(Doubled(8)));
        let nobody = ada.resolve("/user/nobody").unwrap();
        assert_eq!(fails(&nobody).await, AskError::Failed(Reason::UnknownPath));
    })
    .await;
}

#[tokio::test]
async fn the_deadline_covers_a_peer_that_cannot_be_reached() {
    on_both(async |net| {
        let bob = net.node().await;
        let nobody = net.nobody();
        let target = bob.resolve(nobody.path("/user/doubler")).unwrap();
        let wait = Duration::from_millis(200);
        let began = Instant::now();
        let asked: Result<Doubled, _> = target.ask(&Double(1), wait).await;
        assert_eq!(asked, Err(AskError::Timeout(wait)));
        assert!(began.elapsed() >= wait);
        assert_eq!(association(&bob, &nobody.address).waiting_asks, 0);
    })
    .await;
}

#[tokio::test]
async fn an_ask_to_a_peer_that_stays_away_fails_when_it_is_given_up() {
    on_both(async |net| {
        let mut settings = tellwire::Settings::local();
        settings.association.give_up_after = Duration::from_millis(50);
        let bob = net.builder().settings(settings).start().await.unwrap();
        let nobody = net.nobody();
        let target = bob.resolve(nobody.path("/user/doubler")).unwrap();
        assert_eq!(fails(&target).await, AskError::Failed(Reason::Unreachable));
        assert_eq!(association(&bob, &nobody.address).waiting_asks, 0);
    })
    .await;
}

#[tokio::test]
async fn an_ask_to_an_unknown_path_fails_at_once() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let target = bob.resolve(ada.path("/user/nobody")).unwrap();
        assert_eq!(fails(&target).await, AskError::Failed(Reason::UnknownPath));
        assert_eq!(ada.stats().dead_letters_for(Reason::UnknownPath), 1);
        nothing_waits(&bob, &ada).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_asks_that_fail_is_answered_to_the_last() {
    on_both(async |net| {
        let mut settings = tellwire::Settings::local();
        settings.outbox.max_control_bytes = 4 * 1024;
        let ada = net.builder().settings(settings).start().await.unwrap();
        let bob = net.node().await;
        let target = bob.resolve(ada.path("/user/nobody")).unwrap();
        let mut asks = JoinSet::new();
        for _ in 0..30_000 {
            let target = target.clone();
            asks.spawn(async move { fails(&target).await });
        }
        while let Some(failed) = asks.join_next().await {
            assert_eq!(failed.unwrap(), AskError::Failed(Reason::UnknownPath));
        }
        nothing_waits(&bob, &ada).await;
    })
    .await;
}

#[tokio::test]
async fn an_ask_in_a_manifest_the_peer_does_not_know_fails_at_once() {
    on_both(async |net| {
        let ada = net.builder().codecs(&[]).start().await.unwrap();
        let bob = net.node().await;
        let target = spawn_doubler(&ada, &bob);
        assert_eq!(fails(&target).await, AskError::Failed(Reason::UnknownManifest));
    })
    .await;
}

#[tokio::test]
async fn an_ask_of_a_type_that_the_actor_does_not_take_fails_at_once() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let path = ada.register("/user/notes", |_: Note| {}).unwrap();
        let target = bob.resolve(path).unwrap();
        assert_eq!(fails(&target).await, AskError::Failed(Reason::NotAccepted));
    })
    .await;
}

#[tokio::test]
async fn an_ask_to_a_full_mailbox_that_refuses_the_newest_fails_at_once() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut inbox) = bounded::<Double>(1);
        let registration = ada.registration("/user/slow").accept::<Double, _>(mailbox);
        let path = registration.when_full(WhenFull::Refuse).register().unwrap();
        let target = bob.resolve(path).unwrap();
        target.tell(&Double(0)).unwrap();
        assert_eq!(fails(&target).await, AskError::Failed(Reason::MailboxFull));
        assert_eq!(within("the tell", inbox.recv()).await.unwrap().message, Double(0));
    })
    .await;
}

#[tokio::test]
async fn an_ask_to_a_mailbox_that_is_gone_fails_at_once() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, inbox) = bounded::<Double>(1);
        let target = bob.resolve(ada.register("/user/gone", mailbox).unwrap()).unwrap();
        drop(inbox);
        assert_eq!(fails(&target).await, AskError::Failed(Reason::MailboxGone));
        let (sender, receiver) = tokio::sync::mpsc::channel::<Delivery<Double>>(1);
        let target =
            bob.resolve(ada.register::<Double, _>("/user/gone2", sender).unwrap()).unwrap();
        drop(receiver);
        assert_eq!(fails(&target).await, AskError::Failed(Reason::MailboxGone));
    })
    .await;
}

#[tokio::test]
async fn an_ask_that_the_actor_drops_fails_at_once() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let actor = ada.spawn("/user/silent", async |_: Double, _: &mut Context| {}).unwrap();
        let target = bob.resolve(actor.path()).unwrap();
        assert_eq!(fails(&target).await, AskError::Failed(Reason::NoReply));
        nothing_waits(&bob, &ada).await;
    })
    .await;
}

#[tokio::test]
async fn an_ask_that_the_actor_panics_on_fails_at_once() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let actor = ada.spawn("/user/clumsy", async |_: Double, _: &mut Context| panics());
        let target = bob.resolve(actor.unwrap().path()).unwrap();
        assert_eq!(fails(&target).await, AskError::Failed(Reason::Panicked));
        nothing_waits(&bob, &ada).await;
    })
    .await;
}

#[tokio::test]
async fn an_ask_that_the_mailbox_panics_on_fails_at_once() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let path = ada.register("/user/clumsy", |_: Double| panics()).unwrap();
        let target = bob.resolve(path).unwrap();
        assert_eq!(fails(&target).await, AskError::Failed(Reason::Panicked));
        until_accounted(&bob, &ada).await;
        assert_eq!(ada.stats().dead_letters_for(Reason::Panicked), 1);
    })
    .await;
}

#[tokio::test]
async fn an_ask_that_waits_in_the_mailbox_of_an_actor_that_stops_fails_at_once() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let actor = async |_: Double, cx: &mut Context| {
            cx.stop();
            // The second ask is here before the first is done with.
            while cx.resolve("/user/gate").unwrap().ask::<_, Doubled>(&Double(0), LONG).await
                != Ok(Doubled(1))
            {}
        };
        let actor = ada.spawn("/user/stopper", actor).unwrap();
        let (mailbox, mut gate) = bounded::<Double>(8);
        ada.register("/user/gate", mailbox).unwrap();
        let target = bob.resolve(actor.path()).unwrap();
        let second = target.clone();
        let (first, second, ()) = tokio::join!(fails(&target), fails(&second), async {
            until("both asks to arrive", || ada.stats().delivered >= 3).await;
            let held = gate.recv().await.unwrap();
            held.envelope.reply.unwrap().reply(&Doubled(1)).unwrap();
        });
        assert_eq!(first, AskError::Failed(Reason::NoReply));
        assert_eq!(second, AskError::Failed(Reason::ActorStopped));
    })
    .await;
}

#[tokio::test]
async fn a_reply_of_another_type_than_asked_for_is_an_error_of_its_own() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let doubler = spawn_doubler(&ada, &bob);
        let asked: Result<Text, _> = doubler.ask(&Double(1), LONG).await;
        assert!(matches!(asked, Err(AskError::Reply(_))), "{asked:?}");
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_ask_leaves_nothing_behind() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut inbox) = bounded::<Double>(8);
        let target = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        let asking = {
            let target = target.clone();
            tokio::spawn(async move { target.ask::<_, Doubled>(&Double(1), LONG).await })
        };
        let held = within("the ask", inbox.recv()).await.unwrap();
        assert_eq!(association(&bob, &ada.address()).waiting_asks, 1);
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
        assert_eq!(association(&bob, &ada.address()).waiting_asks, 0);
        // The late reply finds nobody, and harms nobody.
        held.envelope.reply.unwrap().reply(&Doubled(2)).unwrap();
        until("the late reply", || bob.stats().replies_received == 1).await;
        let timed_out: Result<Doubled, _> = target.ask(&Double(1), Duration::from_millis(20)).await;
        assert_eq!(timed_out, Err(AskError::Timeout(Duration::from_millis(20))));
        assert_eq!(association(&bob, &ada.address()).waiting_asks, 0);
    })
    .await;
}

#[tokio::test]
async fn more_asks_than_allowed_are_refused_and_nothing_is_sent() {
    on_both(async |net| {
        let mut settings = tellwire::Settings::local();
        settings.outbox.max_asks = 1;
        let ada = net.node().await;
        let bob = net.builder().settings(settings).start().await.unwrap();
        let (mailbox, mut inbox) = bounded::<Double>(8);
        let target = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        let first = target.clone();
        let first = tokio::spawn(async move { first.ask::<_, Doubled>(&Double(1), LONG).await });
        let held = within("the ask", inbox.recv()).await.unwrap();
        assert_eq!(fails(&target).await, AskError::TooManyAsks { limit: 1 });
        held.envelope.reply.unwrap().reply(&Doubled(2)).unwrap();
        assert_eq!(first.await.unwrap(), Ok(Doubled(2)));
        assert_eq!(bob.stats().tells_sent, 1);
    })
    .await;
}

/// Hands every request on to where it was told to.
struct Forwarder(ActorPath);

impl Actor<Double> for Forwarder {
    async fn receive(&mut self, message: Double, cx: &mut Context) {
        let next = cx.resolve(&self.0).unwrap();
        cx.forward(&next, &message).unwrap();
    }
}

#[tokio::test]
async fn a_forwarded_ask_is_answered_by_an_actor_of_the_same_node() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let doubler = spawn_doubler(&ada, &ada);
        let forwarder = ada.spawn("/user/forwarder", Forwarder(doubler.path().clone())).unwrap();
        let target = bob.resolve(forwarder.path()).unwrap();
        assert_eq!(target.ask(&Double(3), LONG).await, Ok(Doubled(6)));
    })
    .await;
}

#[tokio::test]
async fn a_forwarded_ask_is_answered_from_a_third_node() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let eve = net.node().await;
        let doubler = spawn_doubler(&eve, &ada);
        let forwarder = ada.spawn("/user/forwarder", Forwarder(doubler.path().clone())).unwrap();
        let target = bob.resolve(forwarder.path()).unwrap();
        assert_eq!(target.ask(&Double(3), LONG).await, Ok(Doubled(6)));
        nothing_waits(&bob, &ada).await;
        nothing_waits(&ada, &eve).await;
        assert_eq!(bob.associations().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_forwarded_ask_leaves_no_task_behind() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let doubler = spawn_doubler(&ada, &ada);
        let forwarder = ada.spawn("/user/forwarder", Forwarder(doubler.path().clone())).unwrap();
        let target = bob.resolve(forwarder.path()).unwrap();
        assert_eq!(target.ask(&Double(0), LONG).await, Ok(Doubled(0)));
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        for number in 0..100 {
            assert_eq!(target.ask(&Double(number), LONG).await, Ok(Doubled(2 * number)));
        }
        until("the tasks to end", || tasks() <= before).await;
    })
    .await;
}

#[tokio::test]
async fn a_forwarded_ask_that_fails_on_the_third_node_fails_at_once_with_its_reason() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let eve = net.node().await;
        let nobody = eve.path("/user/nobody").unwrap();
        let forwarder = ada.spawn("/user/forwarder", Forwarder(nobody)).unwrap();
        let target = bob.resolve(forwarder.path()).unwrap();
        assert_eq!(fails(&target).await, AskError::Failed(Reason::UnknownPath));
    })
    .await;
}

#[tokio::test]
async fn an_ask_whose_peer_dies_fails_at_once() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut inbox) = bounded::<Double>(8);
        let target = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        let asking = tokio::spawn(async move { fails(&target).await });
        let held = within("the ask", inbox.recv()).await;
        drop(ada);
        let failed = asking.await.unwrap();
        assert!(
            matches!(failed, AskError::Failed(Reason::LinkLost | Reason::NewIncarnation)),
            "{failed:?}"
        );
        drop(held);
    })
    .await;
}

#[tokio::test]
async fn a_reply_to_a_former_incarnation_is_no_answer_to_the_next_ones_ask() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut inbox) = bounded::<Double>(8);
        let path = ada.register("/user/slow", mailbox).unwrap();
        let first = {
            let target = bob.resolve(path.clone()).unwrap();
            tokio::spawn(async move { target.ask::<_, Doubled>(&Double(1), LONG).await })
        };
        let stale = take_reply(&mut inbox).await;
        let address = bob.address();
        drop(bob);
        first.abort();
        let bob = net.restart(&address).await;
        let target = bob.resolve(path).unwrap();
        let second = tokio::spawn(async move { target.ask::<_, Doubled>(&Double(2), LONG).await });
        let fresh = take_reply(&mut inbox).await;
        stale.reply(&Doubled(111)).unwrap();
        fresh.reply(&Doubled(222)).unwrap();
        assert_eq!(second.await.unwrap(), Ok(Doubled(222)));
    })
    .await;
}

#[tokio::test]
async fn asks_of_a_node_that_stops_fail_and_later_ones_are_refused() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut inbox) = bounded::<Double>(8);
        let target = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        let asking = {
            let target = target.clone();
            tokio::spawn(async move { fails(&target).await })
        };
        let held = within("the ask", inbox.recv()).await;
        let mut events = ada.events();
        bob.shutdown(LONG).await;
        // It has arrived: nobody may be told that it was not processed.
        assert_eq!(asking.await.unwrap(), AskError::Failed(Reason::LinkLost));
        assert_eq!(fails(&target).await, AskError::Tell(TellError::Stopped));
        event(&mut events, |event| {
            matches!(event, NodeEvent::AssociationDown { .. }).then_some(())
        })
        .await;
        drop(held);
    })
    .await;
}

#[tokio::test]
async fn an_ask_of_a_node_to_itself_may_have_been_processed_when_it_stops() {
    on_both(async |net| {
        let node = net.node().await;
        let (mailbox, mut inbox) = bounded::<Double>(8);
        let target = node.resolve(node.register("/user/slow", mailbox).unwrap()).unwrap();
        let asking = tokio::spawn(async move { fails(&target).await });
        let held = within("the ask", inbox.recv()).await;
        node.shutdown(LONG).await;
        assert_eq!(asking.await.unwrap(), AskError::Failed(Reason::LinkLost));
        drop(held);
    })
    .await;
}

#[tokio::test]
async fn a_relayed_reply_that_the_asker_cannot_take_fails_as_too_large() {
    on_both(async |net| {
        let mut settings = tellwire::Settings::local();
        settings.inbound.max_message = 64 * 1024;
        let (ada, eve) = net.pair().await;
        let bob = net.builder().settings(settings).start().await.unwrap();
        let long = async |Double(_): Double, cx: &mut Context| cx.reply(&Text("x".repeat(100_000)));
        let actor = eve.spawn("/user/long", long).unwrap();
        let forwarder = ada.spawn("/user/forwarder", Forwarder(actor.path().clone())).unwrap();
        let target = bob.resolve(forwarder.path()).unwrap();
        assert_eq!(fails(&target).await, AskError::Failed(Reason::TooLarge));
    })
    .await;
}

async fn take_reply(inbox: &mut tellwire::node::Inbox<Double>) -> ReplyTo {
    within("an ask", inbox.recv()).await.unwrap().envelope.reply.unwrap()
}

/// Starts the actor that doubles on `there`, and gives the handle of `here` to it.
fn spawn_doubler(there: &Node, here: &Node) -> RemoteRef {
    let doubler = async |Double(number): Double, cx: &mut Context| cx.reply(&Doubled(2 * number));
    let actor = there.spawn("/user/doubler", doubler).unwrap();
    here.resolve(actor.path()).unwrap()
}

/// Asks in vain: gives the error, which must come long before the deadline.
async fn fails(target: &RemoteRef) -> AskError {
    let asked: Result<Doubled, _> = within("the ask to end", target.ask(&Double(1), LONG)).await;
    let error = asked.unwrap_err();
    assert!(!matches!(error, AskError::Timeout(_)), "nobody told the asker");
    error
}

/// Checks that no ask of `from` to `to` is left.
async fn nothing_waits(from: &Node, to: &Node) {
    assert_eq!(association(from, &to.address()).waiting_asks, 0);
    until_accounted(from, to).await;
}

fn panics() {
    panic!("as the test wants it");
}
