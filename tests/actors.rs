//! Holds actors and mailboxes to their word, whatever kind of mailbox they bring.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::{
    Double, Doubled, LONG, Note, Text, collector, letter, on_both, until, until_accounted, within,
};
use serde::{Deserialize, Serialize};
use tellwire::ActorPath;
use tellwire::codec::RemoteMessage;
use tellwire::event::Reason;
use tellwire::node::{Actor, AskError, Context, Delivery, RegisterError, WhenFull, bounded};

/// Counts what it is told, and says how far it is.
#[derive(Default)]
struct Tally {
    sum: u64,
}

enum Order {
    Add(u64),
    Report,
}

impl From<Double> for Order {
    fn from(Double(number): Double) -> Self {
        Self::Add(number)
    }
}

impl From<Text> for Order {
    fn from(_: Text) -> Self {
        Self::Report
    }
}

impl Actor<Order> for Tally {
    async fn receive(&mut self, order: Order, cx: &mut Context) {
        match order {
            Order::Add(number) => self.sum += number,
            Order::Report => cx.reply(&Doubled(self.sum)).unwrap(),
        }
    }
}

#[tokio::test]
async fn an_actor_with_state_takes_two_message_types() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let tally = ada.actor("/user/tally", Tally::default()).accept::<Double>().accept::<Text>();
        let target = bob.resolve(tally.spawn().unwrap().path()).unwrap();
        (1..=10).for_each(|number| target.tell(&Double(number)).unwrap());
        let report: Result<Doubled, _> = target.ask(&Text("?".into()), LONG).await;
        assert_eq!(report, Ok(Doubled(55)));
    })
    .await;
}

#[tokio::test]
async fn a_path_is_registered_once() {
    on_both(async |net| {
        let ada = net.node().await;
        let path = ada.register("/user/one", |_: Note| {}).unwrap();
        let taken = Err(RegisterError::Taken { path: path.clone() });
        assert_eq!(ada.register("/user/one", |_: Note| {}), taken);
        let spawned = ada.spawn("/user/one", async |_: Note, _: &mut Context| {});
        assert_eq!(spawned.unwrap_err(), RegisterError::Taken { path: path.clone() });
        assert_eq!(ada.unregister(&path), Ok(true));
        assert_eq!(ada.register("/user/one", |_: Note| {}), Ok(path));
        let elsewhere = ada.register("tcp://Test@127.0.0.1:1/user/one", |_: Note| {});
        assert!(matches!(elsewhere, Err(RegisterError::NotLocal { .. })), "{elsewhere:?}");
        ada.shutdown(LONG).await;
        assert_eq!(ada.register("/user/two", |_: Note| {}), Err(RegisterError::Stopped));
    })
    .await;
}

#[tokio::test]
async fn a_stopped_actor_ends_after_its_message_and_its_mail_becomes_dead_letters() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (gate_in, mut gate) = bounded::<Double>(8);
        ada.register("/user/gate", gate_in).unwrap();
        let waits = async |note: Note, cx: &mut Context| {
            let gate = cx.resolve("/user/gate").unwrap();
            gate.ask::<_, Doubled>(&Double(note.seq), LONG).await.unwrap();
        };
        let actor = ada.spawn("/user/slow", waits).unwrap();
        let target = bob.resolve(actor.path()).unwrap();
        (0..3).for_each(|seq| target.tell(&note(seq)).unwrap());
        let held = within("the first message", gate.recv()).await.unwrap();
        until("the others to wait", || ada.stats().delivered == 4).await;
        let mut letters = ada.dead_letters();
        actor.stop();
        held.envelope.reply.unwrap().reply(&Doubled(0)).unwrap();
        within("the actor to stop", actor.stopped()).await;
        for _ in 1..3 {
            let letter = letter(&mut letters).await;
            assert_eq!(letter.reason, Reason::ActorStopped);
            assert_eq!(letter.target.as_ref(), Some(actor.path()));
            // It was not decoded, and says nonetheless what it was and who told it.
            assert!(letter.manifest.is_some_and(|name| name.ends_with(Note::MANIFEST)));
            assert_eq!(letter.peer.as_ref(), Some(&bob.address()));
        }
        // The path is free again, and the next one there gets what is told from now on.
        let (mailbox, mut notes) = collector::<Note>();
        ada.register("/user/slow", mailbox).unwrap();
        target.tell(&note(9)).unwrap();
        assert_eq!(notes.next().await, note(9));
    })
    .await;
}

#[tokio::test]
async fn an_actor_stops_itself() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let actor = ada.spawn("/user/brief", async |_: Note, cx: &mut Context| cx.stop()).unwrap();
        let target = bob.resolve(actor.path()).unwrap();
        target.tell(&note(0)).unwrap();
        within("the actor to stop", actor.stopped()).await;
        assert!(!ada.directory().contains("/user/brief"));
        target.tell(&note(1)).unwrap();
        until("the dead letter", || ada.stats().dead_letters_for(Reason::UnknownPath) == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_panic_stops_that_actor_and_no_other() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let clumsy = async |note: Note, _: &mut Context| assert_ne!(note.seq, 0, "as wanted");
        let clumsy = ada.spawn("/user/clumsy", clumsy).unwrap();
        let echo = async |note: Note, cx: &mut Context| cx.reply(&note);
        let echo = ada.spawn("/user/echo", echo).unwrap();
        let mut letters = ada.dead_letters();
        let target = bob.resolve(clumsy.path()).unwrap();
        // One thread: all three are in the mailbox before the actor runs.
        (0..3).for_each(|seq| target.tell(&note(seq)).unwrap());
        within("the actor to stop", clumsy.stopped()).await;
        for _ in 1..3 {
            assert_eq!(letter(&mut letters).await.reason, Reason::ActorStopped);
        }
        let echo = bob.resolve(echo.path()).unwrap();
        assert_eq!(echo.ask(&note(5), LONG).await, Ok(note(5)));
    })
    .await;
}

#[tokio::test]
async fn a_tell_names_its_sender_and_a_reply_goes_there() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let double = async |Double(n): Double, cx: &mut Context| cx.reply(&Doubled(2 * n));
        let doubler = ada.spawn("/user/doubler", double).unwrap();
        let (mailbox, mut inbox) = bounded::<Doubled>(8);
        let guest = bob.register("/user/guest", mailbox).unwrap();
        let target = bob.resolve(doubler.path()).unwrap();
        target.tell_from(&guest, &Double(4)).unwrap();
        let reply = within("the reply", inbox.recv()).await.unwrap();
        assert_eq!(reply.message, Doubled(8));
        assert_eq!(reply.envelope.sender.as_deref(), Some(doubler.path()));
        assert!(reply.envelope.reply.is_none());
        // A sender on this node itself.
        let local = ada.register("/user/local", collector::<Doubled>().0).unwrap();
        ada.resolve(doubler.path()).unwrap().tell_from(&local, &Double(1)).unwrap();
        until("the local reply", || ada.stats().delivered == 3).await;
    })
    .await;
}

/// Introduces an actor to another node.
#[derive(Debug, Serialize, Deserialize)]
struct Introduce {
    guest: ActorPath,
}

tellwire::remote_messages! {
    table PATHS, codec = tellwire::codec::Bincode;
    "test.v1.Introduce" => Introduce,
}

#[tokio::test]
async fn a_path_inside_a_message_resolves_on_a_third_node() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let eve = net.node().await;
        let (mailbox, mut texts) = collector::<Text>();
        let guest = eve.register("/user/guest", mailbox).unwrap();
        let host = async |introduce: Introduce, cx: &mut Context| {
            let guest = cx.resolve(introduce.guest).unwrap();
            cx.tell(&guest, &Text("welcome".into()))
        };
        let host = ada.spawn("/user/host", host).unwrap();
        bob.resolve(host.path()).unwrap().tell(&Introduce { guest }).unwrap();
        assert_eq!(texts.next().await, Text("welcome".into()));
    })
    .await;
}

#[tokio::test]
async fn a_tokio_channel_is_a_mailbox_for_messages_or_deliveries() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (sender, mut bare) = tokio::sync::mpsc::channel::<Note>(8);
        let path = ada.register::<Note, _>("/user/bare", sender).unwrap();
        let bare_target = bob.resolve(path).unwrap();
        bare_target.tell(&note(1)).unwrap();
        assert_eq!(within("the message", bare.recv()).await, Some(note(1)));
        // A bare channel has no way to carry the answer.
        let asked: Result<Note, _> = bare_target.ask(&note(2), LONG).await;
        assert_eq!(asked, Err(AskError::Failed(Reason::NoReply)));
        let (sender, mut full) = tokio::sync::mpsc::channel::<Delivery<Note>>(8);
        let path = ada.register::<Note, _>("/user/full", sender).unwrap();
        let full_target = bob.resolve(path).unwrap();
        let message = note(3);
        let (asked, ()) = tokio::join!(full_target.ask::<_, Note>(&message, LONG), async {
            let delivery = full.recv().await.unwrap();
            assert!(delivery.envelope.reply.as_ref().unwrap().wait().unwrap() <= LONG);
            delivery.envelope.reply.unwrap().reply(&delivery.message).unwrap();
        });
        assert_eq!(asked, Ok(note(3)));
    })
    .await;
}

#[tokio::test]
async fn unregistering_lets_go_of_the_mailbox() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut notes) = collector::<Note>();
        let path = ada.register("/user/notes", mailbox).unwrap();
        bob.resolve(&path).unwrap().tell(&note(0)).unwrap();
        assert_eq!(notes.next().await, note(0));
        ada.unregister(&path).unwrap();
        assert!(notes.rest().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_unregistered_actor_handles_what_waits_and_stops() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut seen) = collector::<Note>();
        ada.register("/user/seen", mailbox).unwrap();
        let relay = async |note: Note, cx: &mut Context| {
            cx.resolve("/user/seen").unwrap().send(&note).await
        };
        let actor = ada.spawn("/user/relay", relay).unwrap();
        let target = bob.resolve(actor.path()).unwrap();
        (0..5).for_each(|seq| target.tell(&note(seq)).unwrap());
        until("the tells to arrive", || ada.stats().delivered >= 5).await;
        ada.unregister(actor.path()).unwrap();
        within("the actor to stop", actor.stopped()).await;
        assert_eq!(seen.take(5).await.len(), 5);
        assert_eq!(ada.stats().dead_letters_total(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_bounded_mailbox_keeps_its_order_and_its_bound() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut inbox) = bounded::<Note>(10);
        let registration = ada.registration("/user/slow").accept::<Note, _>(mailbox);
        let path = registration.when_full(WhenFull::Refuse).register().unwrap();
        let target = bob.resolve(path).unwrap();
        (0..25).for_each(|seq| target.tell(&note(seq)).unwrap());
        until_accounted(&bob, &ada).await;
        assert_eq!(ada.stats().dead_letters, [(Reason::MailboxFull, 15)]);
        ada.unregister("/user/slow").unwrap();
        for seq in 0..10 {
            assert_eq!(inbox.recv().await.unwrap().message, note(seq));
        }
        assert!(within("the mailbox to end", inbox.recv()).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn the_mailbox_of_an_actor_is_bounded_by_its_setting() {
    on_both(async |net| {
        let mut settings = tellwire::Settings::local();
        settings.inbound.mailbox_capacity = 3;
        let ada = net.builder().settings(settings).start().await.unwrap();
        let bob = net.node().await;
        let stuck = async |_: Note, _: &mut Context| std::future::pending::<()>().await;
        let actor = ada.actor("/user/stuck", stuck).accept::<Note>();
        let actor = actor.when_full(WhenFull::Refuse).spawn().unwrap();
        let target = bob.resolve(actor.path()).unwrap();
        target.tell(&note(0)).unwrap();
        until("the actor to be stuck", || ada.stats().delivered == 1).await;
        (1..10).for_each(|seq| target.tell(&note(seq)).unwrap());
        until_accounted(&bob, &ada).await;
        assert!(ada.stats().dead_letters_for(Reason::MailboxFull) >= 5);
        // A message that never ends does not outlive its node.
        assert!(ada.shutdown(LONG).await.in_time);
        within("the actor to stop", actor.stopped()).await;
    })
    .await;
}

fn note(seq: u64) -> Note {
    Note { from: 0, seq }
}
