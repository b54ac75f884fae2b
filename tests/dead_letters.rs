//! Holds every tell that ends nowhere to one dead letter with its reason; the link carries on.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use common::{
    Double, LONG, Net, Note, Text, association, collector, event, letter, on_both, until,
    until_accounted, within,
};
use serde::{Deserialize, Serialize};
use tellwire::codec::{Bincode, Codec, CodecEntry, CodecFault, Origin, RemoteMessage};
use tellwire::event::{DeadLetter, NodeEvent, Reason};
use tellwire::node::{
    Context, DeadLetterStream, Delivery, Mailbox, NodeBuilder, Refused, TellError, WhenFull,
    bounded,
};
use tellwire::{Node, Settings};

/// Two nodes, an actor that proves that the link still carries, and the receiver's dead letters.
struct Scene {
    ada: Node,
    bob: Node,
    letters: DeadLetterStream,
}

impl Scene {
    async fn new(net: &Net) -> Self {
        Self::with(net, |builder| builder).await
    }

    /// Starts the receiving node as `ada` says.
    async fn with(net: &Net, ada: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Self {
        let (ada, bob) = (ada(net.builder()).start().await.unwrap(), net.node().await);
        Self { letters: ada.dead_letters(), ada, bob }
    }

    fn tell<M: RemoteMessage>(&self, local: &str, message: &M) {
        self.bob.resolve(self.ada.path(local)).unwrap().tell(message).unwrap();
    }

    /// Checks that exactly one tell has ended as `reason`, and that the next good one arrives.
    async fn ends(mut self, reason: Reason, local: &str, wire_name: &str) -> DeadLetter {
        let letter = letter(&mut self.letters).await;
        assert_eq!(letter.reason, reason);
        assert_eq!(letter.target, Some(self.ada.path(local).unwrap()));
        assert_eq!(letter.manifest.as_deref(), Some(wire_name));
        assert_eq!(letter.peer, Some(self.bob.address()));
        assert_eq!(letter.count, 1);
        let (mailbox, mut good) = collector::<Text>();
        self.ada.register("/user/good", mailbox).unwrap();
        self.tell("/user/good", &Text("good".into()));
        assert_eq!(good.next().await, Text("good".into()));
        until_accounted(&self.bob, &self.ada).await;
        assert_eq!(self.ada.stats().dead_letters, [(reason, 1)]);
        assert_eq!(self.bob.stats().dead_letters, []);
        assert_eq!(association(&self.bob, &self.ada.address()).activations, 1);
        letter
    }
}

#[tokio::test]
async fn a_tell_to_an_unknown_path_is_one_dead_letter() {
    on_both(async |net| {
        let scene = Scene::new(&net).await;
        scene.tell("/user/nobody", &note(0));
        scene.ends(Reason::UnknownPath, "/user/nobody", NOTE).await;
    })
    .await;
}

#[tokio::test]
async fn a_tell_in_an_unknown_manifest_is_one_dead_letter() {
    on_both(async |net| {
        let scene = Scene::with(&net, |ada| ada.codecs(ONLY_TEXT)).await;
        scene.ada.register("/user/notes", |_: Note| {}).unwrap();
        scene.tell("/user/notes", &note(0));
        scene.ends(Reason::UnknownManifest, "/user/notes", NOTE).await;
    })
    .await;
}

#[tokio::test]
async fn a_tell_of_a_type_that_the_actor_does_not_take_is_one_dead_letter() {
    on_both(async |net| {
        let scene = Scene::new(&net).await;
        scene.ada.register("/user/doubles", |_: Double| {}).unwrap();
        scene.tell("/user/doubles", &note(0));
        scene.ends(Reason::NotAccepted, "/user/doubles", NOTE).await;
    })
    .await;
}

/// What another build thinks a note is.
#[derive(Serialize, Deserialize)]
struct NoteWithoutNumbers;

impl RemoteMessage for NoteWithoutNumbers {
    const MANIFEST: &'static str = "test.v1.Note";
    type Codec = Bincode;
}

#[tokio::test]
async fn a_payload_that_is_not_what_its_manifest_says_is_one_dead_letter() {
    on_both(async |net| {
        let scene = Scene::new(&net).await;
        scene.ada.register("/user/notes", |_: Note| {}).unwrap();
        scene.tell("/user/notes", &NoteWithoutNumbers);
        let letter = scene.ends(Reason::Undecodable, "/user/notes", NOTE).await;
        assert!(letter.detail.unwrap().contains("test.v1.Note"));
    })
    .await;
}

#[tokio::test]
async fn a_tell_to_a_full_mailbox_that_refuses_the_newest_is_one_dead_letter() {
    on_both(async |net| {
        let scene = Scene::new(&net).await;
        let (mailbox, mut inbox) = bounded::<Note>(2);
        let registration = scene.ada.registration("/user/slow").accept::<Note, _>(mailbox);
        registration.when_full(WhenFull::Refuse).register().unwrap();
        (0..3).for_each(|seq| scene.tell("/user/slow", &note(seq)));
        scene.ends(Reason::MailboxFull, "/user/slow", NOTE).await;
        assert_eq!(inbox.recv().await.unwrap().message, note(0));
        assert_eq!(inbox.recv().await.unwrap().message, note(1));
    })
    .await;
}

#[tokio::test]
async fn a_tell_to_a_mailbox_that_is_gone_is_one_dead_letter() {
    on_both(async |net| {
        let scene = Scene::new(&net).await;
        let (mailbox, inbox) = tokio::sync::mpsc::channel::<Note>(2);
        scene.ada.register::<Note, _>("/user/gone", mailbox).unwrap();
        drop(inbox);
        scene.tell("/user/gone", &note(0));
        scene.ends(Reason::MailboxGone, "/user/gone", NOTE).await;
    })
    .await;
}

#[tokio::test]
async fn a_tell_to_a_path_that_was_unregistered_is_one_dead_letter() {
    on_both(async |net| {
        let scene = Scene::new(&net).await;
        let (mailbox, mut notes) = collector::<Note>();
        scene.ada.register("/user/notes", mailbox).unwrap();
        scene.tell("/user/notes", &note(0));
        assert_eq!(notes.next().await, note(0));
        assert_eq!(scene.ada.unregister("/user/notes"), Ok(true));
        assert_eq!(scene.ada.unregister("/user/notes"), Ok(false));
        scene.tell("/user/notes", &note(1));
        scene.ends(Reason::UnknownPath, "/user/notes", NOTE).await;
        assert!(notes.drain().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_mailbox_that_panics_loses_the_one_tell() {
    on_both(async |net| {
        let scene = Scene::new(&net).await;
        let (record, mut seen) = collector::<u64>();
        let clumsy = move |note: Note| {
            assert_ne!(note.seq, 1, "as the test wants it");
            record(note.seq);
        };
        scene.ada.register("/user/clumsy", clumsy).unwrap();
        (0..4).for_each(|seq| scene.tell("/user/clumsy", &note(seq)));
        scene.ends(Reason::Panicked, "/user/clumsy", NOTE).await;
        assert_eq!(seen.take(3).await, [0, 2, 3]);
    })
    .await;
}

/// Panics before it has taken anything.
struct Broken;

impl Mailbox<Note> for Broken {
    fn try_deliver(&self, _: Delivery<Note>) -> Result<(), Refused<Note>> {
        unreachable!("batches only")
    }

    fn try_deliver_batch(&self, _: &mut VecDeque<Delivery<Note>>, _: &mut Vec<Refused<Note>>) {
        panic!("as the test wants it")
    }
}

#[tokio::test]
async fn a_mailbox_that_panics_on_every_batch_makes_one_dead_letter_of_each_tell() {
    on_both(async |net| {
        let scene = Scene::new(&net).await;
        scene.ada.register("/user/broken", Broken).unwrap();
        (0..4).for_each(|seq| scene.tell("/user/broken", &note(seq)));
        until_accounted(&scene.bob, &scene.ada).await;
        assert_eq!(scene.ada.stats().dead_letters, [(Reason::Panicked, 4)]);
    })
    .await;
}

/// Travels in a format that cannot be read.
#[derive(Debug)]
struct Unreadable;

struct PanickingCodec;

impl Codec<Unreadable> for PanickingCodec {
    const NAME: &'static str = "panic";

    fn encode(_: &Unreadable, out: &mut Vec<u8>) -> Result<(), CodecFault> {
        out.push(1);
        Ok(())
    }

    fn decode(_: &[u8]) -> Result<Unreadable, CodecFault> {
        panic!("as the test wants it")
    }
}

tellwire::remote_messages! {
    table UNREADABLE, codec = PanickingCodec;
    "test.v1.Unreadable" => Unreadable,
}

#[tokio::test]
async fn a_codec_that_panics_loses_the_one_tell() {
    on_both(async |net| {
        let scene = Scene::new(&net).await;
        scene.ada.register("/user/notes", |_: Unreadable| {}).unwrap();
        scene.tell("/user/notes", &Unreadable);
        let wire_name = "panic:test.v1.Unreadable";
        let letter = scene.ends(Reason::Panicked, "/user/notes", wire_name).await;
        assert!(letter.detail.unwrap().contains("panicked"));
    })
    .await;
}

struct Converted;

impl From<Note> for Converted {
    fn from(_: Note) -> Self {
        panic!("as the test wants it")
    }
}

#[tokio::test]
async fn a_conversion_that_panics_loses_the_one_tell() {
    on_both(async |net| {
        let scene = Scene::new(&net).await;
        let actor = async |_: Converted, _: &mut Context| {};
        scene.ada.actor("/user/clumsy", actor).accept::<Note>().spawn().unwrap();
        scene.tell("/user/clumsy", &note(0));
        scene.ends(Reason::Panicked, "/user/clumsy", NOTE).await;
    })
    .await;
}

#[tokio::test]
async fn tells_to_a_peer_that_stays_away_become_dead_letters_when_it_is_given_up() {
    on_both(async |net| {
        let mut settings = Settings::local();
        settings.association.give_up_after = Duration::from_millis(50);
        let bob = net.builder().settings(settings).start().await.unwrap();
        let (mut letters, mut events) = (bob.dead_letters(), bob.events());
        let nobody = net.nobody();
        let target = bob.resolve(nobody.path("/user/notes")).unwrap();
        (0..3).for_each(|seq| target.tell(&note(seq)).unwrap());
        for _ in 0..3 {
            let letter = letter(&mut letters).await;
            assert_eq!(letter.reason, Reason::Unreachable);
            assert_eq!(letter.target.as_ref(), Some(target.path()));
            assert_eq!(letter.manifest.as_deref(), Some(NOTE));
            assert_eq!(letter.peer.as_ref(), Some(&nobody.address));
        }
        let why = event(&mut events, |event| match event {
            NodeEvent::GaveUp { peer, why } => (peer == nobody.address).then_some(why),
            _ => None,
        });
        assert!(!why.await.is_empty());
        assert_eq!(bob.stats().dead_letters, [(Reason::Unreachable, 3)]);
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_appears_after_it_was_given_up_is_talked_to_again() {
    on_both(async |net| {
        let mut settings = Settings::local();
        settings.association.give_up_after = Duration::from_millis(50);
        let bob = net.builder().settings(settings).start().await.unwrap();
        let address = {
            let ada = net.node().await;
            ada.shutdown(LONG).await;
            ada.address()
        };
        let target = bob.resolve(format!("{address}/user/notes")).unwrap();
        target.tell(&note(0)).unwrap();
        until("the dead letter", || bob.stats().dead_letters_for(Reason::Unreachable) == 1).await;
        let ada = net.restart(&address).await;
        let (mailbox, mut notes) = collector::<Note>();
        ada.register("/user/notes", mailbox).unwrap();
        // On a busy machine the short give-up time may be over before the link is up.
        until("a tell to arrive", || {
            target.tell(&note(1)).unwrap();
            !notes.drain().is_empty()
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_tells_to_nobody_are_bounded_and_all_accounted_for() {
    on_both(async |net| {
        let mut settings = Settings::local();
        settings.outbox.max_bytes = 64 * 1024;
        settings.outbox.max_held_bytes = 64 * 1024;
        settings.association.give_up_after = Duration::from_millis(100);
        let bob = net.builder().settings(settings).start().await.unwrap();
        let nobody = net.nobody();
        let target = bob.resolve(nobody.path("/user/notes")).unwrap();
        let message = Text("x".repeat(100));
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..10_000 {
            match target.tell(&message) {
                Ok(()) => accepted += 1,
                Err(TellError::Full) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            let queued = association(&bob, &nobody.address).queued_bytes;
            assert!(queued <= 2 * (64 * 1024 + 200), "{queued} bytes wait");
        }
        assert_eq!(accepted + refused, 10_000);
        assert!(accepted > 400 && refused > 1000, "{accepted} of 10000 tells were taken");
        assert_eq!(bob.stats().tells_sent, accepted);
        until("all dead letters", || bob.stats().dead_letters_total() >= accepted).await;
        assert_eq!(bob.stats().dead_letters, [(Reason::Unreachable, accepted)]);
        assert_eq!(association(&bob, &nobody.address).queued_bytes, 0);
    })
    .await;
}

#[tokio::test]
async fn a_sender_that_waits_for_room_gets_it_when_the_peer_is_given_up() {
    on_both(async |net| {
        let mut settings = Settings::local();
        settings.outbox.max_frames = 10;
        settings.association.give_up_after = Duration::from_millis(50);
        let bob = net.builder().settings(settings).start().await.unwrap();
        let nobody = net.nobody();
        let target = bob.resolve(nobody.path("/user/notes")).unwrap();
        for seq in 0..25 {
            within("room", target.send(&note(seq))).await.unwrap();
        }
        until("all dead letters", || bob.stats().dead_letters_total() == 25).await;
    })
    .await;
}

#[tokio::test]
async fn a_message_too_large_is_refused_to_the_caller() {
    on_both(async |net| {
        let mut settings = Settings::local();
        settings.inbound.max_message = 1024;
        let ada = net.builder().settings(settings).start().await.unwrap();
        let bob = net.node().await;
        let (mailbox, mut texts) = collector::<Text>();
        let target = bob.resolve(ada.register("/user/texts", mailbox).unwrap()).unwrap();
        target.tell(&Text("small".into())).unwrap();
        texts.next().await;
        let refused = target.tell(&Text("x".repeat(2000)));
        assert!(matches!(refused, Err(TellError::TooLarge { limit: 1024, .. })), "{refused:?}");
        target.tell(&Text("small again".into())).unwrap();
        texts.next().await;
        until_accounted(&bob, &ada).await;
    })
    .await;
}

/// Knows one type only.
static ONLY_TEXT: &[CodecEntry] =
    &[CodecEntry::new::<Text>(Origin::new(file!(), line!(), module_path!()))];

fn note(seq: u64) -> Note {
    Note { from: 0, seq }
}

const NOTE: &str = "bincode:test.v1.Note";
