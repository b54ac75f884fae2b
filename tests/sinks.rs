//! Holds the seams to their word: a sink in place of the directory, and gossip beside the tells.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{
    Double, Doubled, LONG, Note, Wrapped, association, collector, letter, on_both, until,
    until_accounted,
};
use tellwire::address::UniqueAddress;
use tellwire::codec::CodecRegistry;
use tellwire::event::Reason;
use tellwire::node::{
    AskError, Context, DeliverError, GossipError, GossipSink, InboundTell, RegisterError,
    RemoteMessageSink,
};

/// Doubles by itself, shows what else it gets, and fails where told to.
struct OwnSink<F>(F, CodecRegistry);

/// What a sink was given.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    target: String,
    wire_name: String,
    payload: Vec<u8>,
    sender: Option<String>,
    peer: UniqueAddress,
}

impl<F: Fn(Seen) + Send + Sync + 'static> RemoteMessageSink for OwnSink<F> {
    fn deliver(&self, tell: InboundTell<'_>) -> Result<(), DeliverError> {
        match tell.target {
            "/user/refuses" => return Err(DeliverError::new(Reason::SinkRefused)),
            "/user/panics" => panic!("as the test wants it"),
            _ => {}
        }
        if let Some(asker) = tell.reply {
            let Double(number) = self.1.decode(tell.wire_name, tell.payload)?;
            asker.reply(&Doubled(2 * number)).unwrap();
            return Ok(());
        }
        (self.0)(Seen {
            target: tell.target.to_owned(),
            wire_name: tell.wire_name.to_owned(),
            payload: tell.payload.to_vec(),
            sender: tell.sender.map(|sender| sender.to_string()),
            peer: tell.peer.clone(),
        });
        Ok(())
    }
}

fn own_sink() -> (impl RemoteMessageSink, common::Collected<Seen>) {
    let (show, seen) = collector::<Seen>();
    (OwnSink(show, CodecRegistry::linked().unwrap()), seen)
}

#[tokio::test]
async fn a_sink_gets_path_name_payload_sender_and_peer() {
    on_both(async |net| {
        let (sink, mut seen) = own_sink();
        let ada = net.builder().sink(sink).start().await.unwrap();
        let bob = net.node().await;
        let sender = bob.path("/user/me").unwrap();
        let target = bob.resolve(ada.path("/user/any/where")).unwrap();
        target.tell_from(&sender, &note(7)).unwrap();
        let mut payload = Vec::new();
        tellwire::codec::encode(&note(7), &mut payload).unwrap();
        let expected = Seen {
            target: "/user/any/where".into(),
            wire_name: "bincode:test.v1.Note".into(),
            payload,
            sender: Some(sender.to_string()),
            peer: bob.unique_address(),
        };
        assert_eq!(seen.next().await, expected);
        assert_eq!(target.ask(&Double(4), LONG).await, Ok(Doubled(8)));
        until_accounted(&bob, &ada).await;
    })
    .await;
}

#[tokio::test]
async fn a_sink_gets_the_tells_to_its_own_node_too() {
    on_both(async |net| {
        let (sink, mut seen) = own_sink();
        let ada = net.builder().sink(sink).start().await.unwrap();
        ada.resolve("/user/any").unwrap().tell(&note(1)).unwrap();
        assert_eq!(seen.next().await.peer, ada.unique_address());
    })
    .await;
}

#[tokio::test]
async fn a_sinks_error_is_one_dead_letter_and_a_panic_costs_one_tell() {
    on_both(async |net| {
        let (sink, mut seen) = own_sink();
        let ada = net.builder().sink(sink).start().await.unwrap();
        let bob = net.node().await;
        let mut letters = ada.dead_letters();
        for (local, reason) in
            [("/user/refuses", Reason::SinkRefused), ("/user/panics", Reason::Panicked)]
        {
            let target = bob.resolve(ada.path(local)).unwrap();
            target.tell(&note(0)).unwrap();
            let letter = letter(&mut letters).await;
            assert_eq!((letter.reason, letter.count), (reason, 1));
            assert_eq!(letter.target.as_ref(), Some(target.path()));
            assert_eq!(letter.manifest.as_deref(), Some("bincode:test.v1.Note"));
            assert_eq!(letter.peer, Some(bob.address()));
            let asked: Result<Doubled, _> = target.ask(&Double(1), LONG).await;
            assert_eq!(asked, Err(AskError::Failed(reason)));
            common::letter(&mut letters).await;
        }
        bob.resolve(ada.path("/user/any")).unwrap().tell(&note(1)).unwrap();
        seen.next().await;
        until_accounted(&bob, &ada).await;
        assert_eq!(ada.stats().dead_letters, [(Reason::Panicked, 2), (Reason::SinkRefused, 2)]);
        assert_eq!(association(&bob, &ada.address()).activations, 1);
    })
    .await;
}

#[tokio::test]
async fn nothing_can_be_registered_beside_a_sink() {
    on_both(async |net| {
        let ada = net.builder().sink(own_sink().0).start().await.unwrap();
        assert_eq!(ada.register("/user/x", |_: Note| {}), Err(RegisterError::Sink));
        let spawned = ada.spawn("/user/x", async |_: Note, _: &mut Context| {});
        assert_eq!(spawned.unwrap_err(), RegisterError::Sink);
        assert!(ada.directory().is_empty());
    })
    .await;
}

/// Shows the gossip that comes in.
struct Ear<F>(F);

impl<F: Fn((UniqueAddress, Vec<u8>)) + Send + Sync + 'static> GossipSink for Ear<F> {
    fn receive(&self, from: &UniqueAddress, pdu: &[u8]) {
        assert_ne!(pdu, b"panic", "as the test wants it");
        (self.0)((from.clone(), pdu.to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_and_tells_share_one_association_and_keep_flowing() {
    on_both(async |net| {
        let (hear, mut rumours) = collector();
        let ada = net.builder().gossip(Ear(hear)).start().await.unwrap();
        let (dialler, dials) = Wrapped::counting(&net);
        let bob = net.builder_over(dialler).start().await.unwrap();
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        let count = move |_: Note| {
            counter.fetch_add(1, Ordering::SeqCst);
        };
        let target = bob.resolve(ada.register("/user/counter", count).unwrap()).unwrap();
        let telling = tokio::spawn(async move {
            for seq in 0..20_000 {
                target.send(&note(seq)).await.unwrap();
            }
        });
        for round in 0..200_u32 {
            bob.gossip(&ada.address(), &round.to_be_bytes()).unwrap();
            let (from, pdu) = rumours.next().await;
            assert_eq!((from, pdu), (bob.unique_address(), round.to_be_bytes().to_vec()));
        }
        telling.await.unwrap();
        until("the tells", || received.load(Ordering::SeqCst) == 20_000).await;
        assert_eq!(ada.stats().gossip_received, 200);
        assert_eq!(dials.load(Ordering::SeqCst), 1);
        assert_eq!((ada.associations().len(), bob.associations().len()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn gossip_alone_brings_a_link_up_and_a_panic_costs_one_pdu() {
    on_both(async |net| {
        let (hear, mut rumours) = collector::<(UniqueAddress, Vec<u8>)>();
        let ada = net.builder().gossip(Ear(hear)).start().await.unwrap();
        let bob = net.node().await;
        for pdu in [&b"one"[..], b"panic", b"two"] {
            bob.gossip(&ada.address(), pdu).unwrap();
        }
        assert_eq!(rumours.next().await.1, b"one");
        assert_eq!(rumours.next().await.1, b"two");
        assert_eq!(bob.gossip(&bob.address(), b"me"), Err(GossipError::Own));
        let huge = vec![0; 1 << 20];
        let refused = bob.gossip(&ada.address(), &huge);
        assert!(matches!(refused, Err(GossipError::TooLarge { .. })), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn gossip_to_nobody_is_bounded() {
    on_both(async |net| {
        let bob = net.node().await;
        let nobody = net.nobody();
        let pdu = [0; 1024];
        let sent = (0..1000).take_while(|_| bob.gossip(&nobody.address, &pdu).is_ok()).count();
        assert!((200..300).contains(&sent), "{sent} PDUs were taken");
        assert_eq!(bob.gossip(&nobody.address, &pdu), Err(GossipError::Full));
    })
    .await;
}

#[cfg(feature = "testkit")]
mod recording {
    use std::time::Duration;

    use super::{LONG, Note, Reason, note, on_both, until_accounted};
    use tellwire::codec::RemoteMessage;
    use tellwire::testkit::{RecordingSink, TooFew};

    #[tokio::test]
    async fn a_recording_sink_gives_the_tells_in_their_order() {
        on_both(async |net| {
            let sink = RecordingSink::new(100);
            let ada = net.builder().sink(sink.clone()).start().await.unwrap();
            let bob = net.node().await;
            let target = bob.resolve(ada.path("/user/any")).unwrap();
            let me = bob.path("/user/me").unwrap();
            (0..3).for_each(|seq| target.tell_from(&me, &note(seq)).unwrap());
            let tells = sink.wait_for(3, LONG).await.unwrap();
            for (seq, tell) in (0..3).zip(&tells) {
                assert_eq!((&*tell.target, &tell.sender), ("/user/any", &Some(me.clone())));
                let decoded: Note = ada.registry().decode(&tell.wire_name, &tell.payload).unwrap();
                assert_eq!(decoded, note(seq));
                assert!(tell.wire_name.ends_with(Note::MANIFEST));
            }
            assert!(sink.take().is_empty());
        })
        .await;
    }

    #[tokio::test]
    async fn a_recording_sink_is_bounded_and_what_is_over_is_a_dead_letter() {
        on_both(async |net| {
            let sink = RecordingSink::new(2);
            let ada = net.builder().sink(sink.clone()).start().await.unwrap();
            let bob = net.node().await;
            let target = bob.resolve(ada.path("/user/any")).unwrap();
            (0..5).for_each(|seq| target.tell(&note(seq)).unwrap());
            until_accounted(&bob, &ada).await;
            assert_eq!(sink.len(), 2);
            assert_eq!(ada.stats().dead_letters, [(Reason::SinkRefused, 3)]);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_too_many_tells_ends_and_takes_nothing() {
        let sink = RecordingSink::new(2);
        let deadline = Duration::from_secs(5);
        let began = tokio::time::Instant::now();
        let error = sink.wait_for(1, deadline).await.unwrap_err();
        assert_eq!(error, sink.wait_for(1, deadline).await.unwrap_err());
        assert_eq!(began.elapsed(), 2 * deadline);
        let TooFew { wanted, recorded, .. } = sink.wait_for(3, deadline).await.unwrap_err();
        assert_eq!((wanted, recorded), (3, 0));
        assert_eq!(began.elapsed(), 2 * deadline);
    }
}

fn note(seq: u64) -> Note {
    Note { from: 0, seq }
}
