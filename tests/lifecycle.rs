//! Holds nodes to a clean life: they start or say why not, survive their peers, and end without a trace.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::{
    COMMON, LONG, Net, Note, Text, association, collector, event, letter, on_both, until,
    until_accounted, within,
};
use tellwire::address::{Address, Endpoint};
use tellwire::codec::{CodecEntry, RegistryError};
use tellwire::event::{NodeEvent, Reason};
use tellwire::node::{Context, DeadLetterStream, Observed, ResolveError, StartError, TellError};
use tellwire::transport::{InProcessNetwork, Link, Listener, Privacy, Transport, TransportError};
use tellwire::{Node, Settings};
use tokio::runtime::{Handle, Runtime};

#[tokio::test]
async fn talk_goes_on_when_the_peer_restarts_at_the_same_port() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let address = ada.address();
        let (mailbox, mut notes) = collector::<Note>();
        let target = bob.resolve(ada.register("/user/notes", mailbox).unwrap()).unwrap();
        target.tell(&note(0)).unwrap();
        assert_eq!(notes.next().await, note(0));
        let (mut events, old) = (bob.events(), ada.unique_address());
        drop(ada);
        let ada = net.restart(&address).await;
        let (mailbox, mut notes) = collector::<Note>();
        ada.register("/user/notes", mailbox).unwrap();
        // What is told while the link's end is not yet known may be lost with it.
        until("a tell to arrive", || {
            target.tell(&note(1)).unwrap();
            !notes.drain().is_empty()
        })
        .await;
        let (previous, current) = event(&mut events, |event| match event {
            NodeEvent::NewIncarnation { previous, current } => Some((previous, current)),
            _ => None,
        })
        .await;
        assert_eq!((previous, current), (old, ada.unique_address()));
        assert_eq!(association(&bob, &address).peer, Some(ada.unique_address()));
        assert_eq!(bob.associations().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tell_around_a_restart_is_received_or_a_dead_letter() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (address, mut old_letters) = (ada.address(), ada.dead_letters());
        let received = Arc::new(AtomicU64::new(0));
        let path = ada.register("/user/counter", counter(&received)).unwrap();
        let target = bob.resolve(path).unwrap();
        let telling = tokio::spawn(async move {
            for seq in 0..20_000 {
                target.send(&note(seq)).await.unwrap();
                if seq % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
        until("half of the tells", || received.load(Ordering::SeqCst) > 5_000).await;
        drop(ada);
        // The path is not there at once: those tells are dead letters of the new incarnation.
        let ada = net.restart(&address).await;
        ada.register("/user/counter", counter(&received)).unwrap();
        telling.await.unwrap();
        until("the outbox to be empty", || association(&bob, &address).queued_frames == 0).await;
        let at_the_old = count_letters(&mut old_letters).await;
        let ended = || {
            let letters = bob.stats().dead_letters_total() + ada.stats().dead_letters_total();
            received.load(Ordering::SeqCst) + letters + at_the_old
        };
        until("every tell to end", || ended() >= 20_000).await;
        // Frames that reached the old incarnation unacknowledged count twice, as received and as possibly lost.
        let certain = ended() - bob.stats().possibly_lost;
        assert!(certain <= 20_000, "{certain} ends of 20000 tells");
        assert_eq!(bob.stats().tells_sent, 20_000);
    })
    .await;
}

/// Counts the dead letters of a node that is gone.
async fn count_letters(letters: &mut DeadLetterStream) -> u64 {
    let mut count = 0;
    while let Some(observed) = within("the stream to end", letters.next()).await {
        count += match observed {
            Observed::Item(letter) => letter.count,
            Observed::Missed(missed) => missed,
            other => panic!("{other:?}"),
        };
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_flushes_a_hundred_thousand_queued_tells() {
    on_both(async |net| {
        let mut settings = Settings::local();
        settings.outbox.max_frames = 200_000;
        settings.outbox.max_bytes = 32 << 20;
        // What the actor has not granted yet waits beside the lanes.
        settings.outbox.max_held_frames = 200_000;
        settings.outbox.max_held_bytes = 32 << 20;
        let ada = net.node().await;
        let bob = net.builder().settings(settings).start().await.unwrap();
        let received = Arc::new(AtomicU64::new(0));
        let path = ada.register("/user/counter", counter(&received)).unwrap();
        let target = bob.resolve(path).unwrap();
        (0..100_000).for_each(|seq| target.tell(&note(seq)).unwrap());
        let mut events = ada.events();
        let report = bob.shutdown(LONG).await;
        assert_eq!((report.unflushed, report.in_time), (0, true));
        assert_eq!(received.load(Ordering::SeqCst), 100_000);
        assert_eq!(bob.stats().dead_letters_total(), 0);
        let why = event(&mut events, |event| match event {
            NodeEvent::AssociationDown { peer, why } => (peer == bob.address()).then_some(why),
            _ => None,
        })
        .await;
        assert!(why.contains("goodbye"), "{why}");
        assert_eq!(target.tell(&note(0)), Err(TellError::Stopped));
        assert_eq!(target.send(&note(0)).await, Err(TellError::Stopped));
        assert!(matches!(bob.resolve("tcp://Test@127.0.0.1:1/user/x"), Err(ResolveError::Stopped)));
    })
    .await;
}

#[tokio::test]
async fn a_tell_right_before_shutdown_is_flushed_over_a_link_that_was_not_there() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut notes) = collector::<Note>();
        let target = bob.resolve(ada.register("/user/notes", mailbox).unwrap()).unwrap();
        target.tell(&note(7)).unwrap();
        let report = bob.shutdown(LONG).await;
        assert_eq!((report.unflushed, report.in_time), (0, true));
        assert_eq!(notes.next().await, note(7));
    })
    .await;
}

#[tokio::test]
async fn tells_to_this_node_itself_are_flushed_by_shutdown() {
    on_both(async |net| {
        let ada = net.node().await;
        let (mailbox, mut notes) = collector::<Note>();
        let target = ada.resolve(ada.register("/user/notes", mailbox).unwrap()).unwrap();
        (0..1000).for_each(|seq| target.tell(&note(seq)).unwrap());
        let report = ada.shutdown(LONG).await;
        assert_eq!((report.unflushed, report.in_time), (0, true));
        assert_eq!(notes.drain().len(), 1000);
        assert_eq!(target.tell(&note(0)), Err(TellError::Stopped));
    })
    .await;
}

#[tokio::test]
async fn shutdown_reports_what_an_unreachable_peer_did_not_get() {
    on_both(async |net| {
        let bob = net.node().await;
        let nobody = net.nobody();
        let target = bob.resolve(nobody.path("/user/notes")).unwrap();
        (0..5).for_each(|seq| target.tell(&note(seq)).unwrap());
        let report = within("the deadline", bob.shutdown(Duration::from_millis(300))).await;
        assert_eq!(report.unflushed, 5);
        assert_eq!(bob.stats().dead_letters, [(Reason::NodeStopped, 5)]);
        assert_eq!(target.tell(&note(0)), Err(TellError::Stopped));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stops_amid_a_stream_of_tells_loses_none_silently() {
    on_both(async |net| {
        for _ in 0..20 {
            let (ada, bob) = net.pair().await;
            let received = Arc::new(AtomicU64::new(0));
            let path = ada.register("/user/counter", counter(&received)).unwrap();
            let target = bob.resolve(path).unwrap();
            let telling = tokio::spawn(async move {
                for seq in 0..5_000 {
                    target.send(&note(seq)).await.unwrap();
                }
            });
            until("the first tells", || received.load(Ordering::SeqCst) > 100).await;
            let report = ada.shutdown(LONG).await;
            assert_eq!((report.unflushed, report.in_time), (0, true));
            telling.await.unwrap();
            // What was told after the goodbye waits for a peer that is not there.
            bob.shutdown(LONG).await;
            let (here, there) = (bob.stats(), ada.stats());
            let letters = here.dead_letters_total() + there.dead_letters_total();
            assert_eq!(received.load(Ordering::SeqCst) + letters, 5_000);
            assert_eq!(here.possibly_lost, 0);
        }
    })
    .await;
}

#[tokio::test]
async fn two_nodes_that_stop_at_once_both_end_in_time() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut notes) = collector::<Note>();
        let target = bob.resolve(ada.register("/user/notes", mailbox).unwrap()).unwrap();
        target.tell(&note(0)).unwrap();
        notes.next().await;
        let (ada, bob) = tokio::join!(ada.shutdown(LONG), bob.shutdown(LONG));
        assert!(ada.in_time && bob.in_time, "{ada:?} {bob:?}");
        assert_eq!((ada.unflushed, bob.unflushed), (0, 0));
    })
    .await;
}

#[test]
fn shutdown_leaves_no_task_and_gives_the_port_back() {
    leaves_nothing(async |node: Node| {
        node.shutdown(LONG).await;
    });
}

#[test]
fn dropping_the_last_handle_ends_everything() {
    leaves_nothing(async |node: Node| drop(node));
}

/// Ends two nodes in full swing by `end`, in a runtime of their own.
fn leaves_nothing(end: impl AsyncFn(Node)) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let nobody = net.nobody();
        let before = Arc::new(());
        let held = Arc::clone(&before);
        let (mailbox, mut notes) = collector::<Note>();
        let echo = ada.resolve("/user/notes").unwrap();
        let relay = move |note: Note| {
            // A mailbox that holds a ref of its own node is the usual one.
            assert_eq!(echo.path().local(), "/user/notes");
            assert_eq!(Arc::strong_count(&held), 2);
            mailbox(note);
        };
        ada.register("/user/notes", relay).unwrap();
        ada.spawn("/user/idle", async |_: Note, _: &mut Context| {}).unwrap();
        let target = bob.resolve(ada.path("/user/notes")).unwrap();
        target.tell(&note(0)).unwrap();
        notes.next().await;
        bob.resolve(nobody.path("/user/x")).unwrap().tell(&note(0)).unwrap();
        let addresses = [ada.address(), bob.address()];
        drop(target);
        end(ada).await;
        end(bob).await;
        for address in addresses {
            drop(net.restart(&address).await);
        }
        let tasks = || Handle::current().metrics().num_alive_tasks();
        until("the tasks to end", || tasks() == 0).await;
        until("the mailboxes to be dropped", || Arc::strong_count(&before) == 1).await;
    }));
}

#[tokio::test]
async fn streams_end_with_their_node() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mut letters, mut events) = (ada.dead_letters(), bob.events());
        ada.shutdown(LONG).await;
        drop(ada);
        drop(bob);
        assert_eq!(within("the end", letters.next()).await, None);
        assert_eq!(within("the end", events.next()).await, None);
    })
    .await;
}

#[tokio::test]
async fn an_address_in_use_is_a_start_error() {
    on_both(async |net| {
        let ada = net.node().await;
        let taken = net.builder_at(ada.address().endpoint()).start().await;
        let endpoint = match taken {
            Err(StartError::Transport(TransportError::AddressInUse { endpoint })) => endpoint,
            other => panic!("{other:?}"),
        };
        assert_eq!(endpoint, ada.address().endpoint());
    })
    .await;
}

#[tokio::test]
async fn a_host_that_does_not_resolve_is_a_start_error() {
    let started = Net::Tcp.builder_at("tcp://no-such-host.invalid:0").allow_plaintext().start();
    let error = within("the resolver", started).await.unwrap_err();
    assert!(
        matches!(&error, StartError::Transport(TransportError::Unresolvable { host, .. })
            if host == "no-such-host.invalid"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_bad_endpoint_is_a_start_error() {
    for bad in ["", "127.0.0.1:0", "tcp://127.0.0.1", "tcp://x@127.0.0.1:0", "tcp://[::1:0"] {
        let error = Net::Tcp.builder_at(bad).start().await.unwrap_err();
        assert!(matches!(error, StartError::Address(_)), "{bad}: {error:?}");
    }
    let error = Node::builder("two words").listen("tcp://127.0.0.1:0").start().await.unwrap_err();
    assert!(matches!(error, StartError::Address(_)), "{error:?}");
    let error = Node::builder("Test").start().await.unwrap_err();
    assert!(matches!(error, StartError::NoEndpoint), "{error:?}");
}

#[tokio::test]
async fn plaintext_off_loopback_is_refused_unless_allowed() {
    for exposed in ["tcp://0.0.0.0:0", "tcp://[::]:0"] {
        let error = Net::Tcp.builder_at(exposed).start().await.unwrap_err();
        assert!(matches!(error, StartError::Plaintext { .. }), "{exposed}: {error:?}");
        let allowed = Net::Tcp.builder_at(exposed).allow_plaintext();
        let error = allowed.start().await.unwrap_err();
        assert!(matches!(error, StartError::NotDialable { .. }), "{exposed}: {error:?}");
    }
    let node = Net::Tcp.builder_at("tcp://0.0.0.0:0").allow_plaintext();
    let node = node.advertise("tcp://127.0.0.1:0").start().await.unwrap();
    assert_eq!(node.address().host(), "127.0.0.1");
    assert_ne!(node.address().port(), 0);
}

#[tokio::test]
async fn a_scheme_without_transport_is_a_start_error() {
    let error = Net::Tcp.builder_at("mem://node:0").start().await.unwrap_err();
    assert!(matches!(&error, StartError::UnknownScheme { scheme } if scheme == "mem"), "{error:?}");
    let node = Net::Tcp.node().await;
    let error = node.resolve("mem://Test@node:1/user/x").unwrap_err();
    assert_eq!(error, ResolveError::UnknownScheme { scheme: "mem".into() });
}

#[tokio::test]
async fn a_required_codec_that_is_missing_is_named() {
    let node = Net::Tcp.builder().codecs(NOTHING).require(COMMON).start();
    match node.await {
        Err(StartError::Registry(error @ RegistryError::Missing { .. })) => {
            assert!(error.to_string().contains("test.v1.Note"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    Net::Tcp.builder().require(COMMON).start().await.unwrap();
}

#[tokio::test]
async fn a_setting_out_of_range_is_named() {
    let mut settings = Settings::local();
    settings.outbox.max_frames = 0;
    match Net::Tcp.builder().settings(settings).start().await {
        Err(StartError::Settings(error)) => assert_eq!(error.knob, "outbox.max_frames"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_start_outside_a_runtime_is_a_start_error() {
    let mut starting = std::pin::pin!(Net::Tcp.builder().start());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match starting.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(Err(StartError::NoRuntime)) => {}
        other => panic!("{other:?}"),
    }
}

/// Leads whoever dials the public endpoint to the private one, as a port mapping does.
#[derive(Debug, Clone)]
struct Mapping(InProcessNetwork);

#[async_trait]
impl Transport for Mapping {
    fn scheme(&self) -> &'static str {
        self.0.scheme()
    }

    fn privacy(&self) -> Privacy {
        self.0.privacy()
    }

    async fn listen(&self, at: &Endpoint) -> Result<Box<dyn Listener>, TransportError> {
        self.0.listen(at).await
    }

    async fn dial(&self, to: &Address) -> Result<Link, TransportError> {
        match to.host() {
            "public" => self.0.dial(&PRIVATE.parse().unwrap()).await,
            _ => self.0.dial(to).await,
        }
    }
}

#[tokio::test]
async fn the_advertised_host_and_port_are_what_peers_see() {
    let mapping = Mapping(InProcessNetwork::new());
    let builder = || Node::builder("Test").transport(mapping.clone());
    let ada = builder().listen("mem://private:1").advertise("mem://public:9");
    let ada = ada.start().await.unwrap();
    let bob = builder().listen("mem://other:0").start().await.unwrap();
    assert_eq!(ada.address().to_string(), "mem://Test@public:9");
    ada.spawn("/user/echo", async |text: Text, cx: &mut Context| cx.reply(&text)).unwrap();
    let target = bob.resolve("mem://Test@public:9/user/echo").unwrap();
    assert_eq!(target.ask(&Text("hi".into()), LONG).await, Ok(Text("hi".into())));
    // The link belongs to the advertised address in the other direction too.
    assert_eq!(ada.associations()[0].peer, Some(bob.unique_address()));
    assert_eq!(bob.associations()[0].peer, Some(ada.unique_address()));
}

#[tokio::test]
async fn an_advertised_port_zero_is_the_port_listened_on() {
    let ada = Net::Tcp.builder().advertise("tcp://localhost:0").start().await.unwrap();
    assert_ne!(ada.address().port(), 0);
    let (mailbox, mut notes) = collector::<Note>();
    let path = ada.register("/user/notes", mailbox).unwrap();
    assert!(path.to_string().starts_with("tcp://Test@localhost:"), "{path}");
    let bob = Net::Tcp.node().await;
    bob.resolve(path).unwrap().tell(&note(0)).unwrap();
    assert_eq!(notes.next().await, note(0));
}

#[tokio::test]
async fn nodes_talk_over_ipv6() {
    let ada = Net::Tcp.builder_at("tcp://[::1]:0").start().await.unwrap();
    let bob = Net::Tcp.builder_at("tcp://[::1]:0").start().await.unwrap();
    let (mailbox, mut notes) = collector::<Note>();
    let path = ada.register("/user/notes", mailbox).unwrap();
    assert!(path.to_string().starts_with("tcp://Test@[::1]:"), "{path}");
    bob.resolve(path.to_string()).unwrap().tell(&note(0)).unwrap();
    assert_eq!(notes.next().await, note(0));
}

#[tokio::test]
async fn a_peer_of_another_system_is_refused_and_both_sides_know_why() {
    on_both(async |net| {
        let ada = net.node().await;
        let endpoint = ada.address().endpoint();
        let mut builder = Node::builder("Other").settings(Settings::local());
        builder = match &net {
            Net::Tcp => builder.listen("tcp://127.0.0.1:0"),
            Net::Mem(network) => builder.listen("mem://node:0").transport(network.clone()),
        };
        let bob = builder.start().await.unwrap();
        let foreign = bob.resolve(ada.path("/user/notes"));
        assert!(matches!(foreign, Err(ResolveError::OtherSystem { .. })), "{foreign:?}");
        let (mut here, mut there) = (ada.events(), bob.events());
        let mut letters = bob.dead_letters();
        // Bob believes that a node of his own system answers there.
        let path = format!("{}/user/notes", endpoint.with_system("Other").unwrap());
        bob.resolve(path).unwrap().tell(&note(0)).unwrap();
        let letter = letter(&mut letters).await;
        assert_eq!(letter.reason, Reason::HandshakeRefused);
        assert!(letter.detail.unwrap().contains("`Test`"));
        for events in [&mut here, &mut there] {
            let why = event(events, |event| match event {
                NodeEvent::HandshakeRefused { why, .. } => Some(why),
                _ => None,
            });
            let why = why.await;
            assert!(why.contains("another system"), "{why}");
        }
        until_accounted(&bob, &ada).await;
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_says_goodbye_is_told_again_once_it_is_back() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let address = ada.address();
        let (mailbox, mut texts) = collector::<Text>();
        let target = bob.resolve(ada.register("/user/texts", mailbox).unwrap()).unwrap();
        target.tell(&Text("one".into())).unwrap();
        texts.next().await;
        let mut events = bob.events();
        ada.shutdown(LONG).await;
        event(&mut events, |event| {
            matches!(event, NodeEvent::AssociationDown { .. }).then_some(())
        })
        .await;
        // Told while nobody is there: it waits, and is not lost.
        target.tell(&Text("two".into())).unwrap();
        let ada = net.restart(&address).await;
        let (mailbox, mut texts) = collector::<Text>();
        if ada.register("/user/texts", mailbox).is_ok() {
            target.tell(&Text("three".into())).unwrap();
        }
        until("both tells to end", || {
            ada.stats().delivered + ada.stats().dead_letters_total() == 2
        })
        .await;
        assert_eq!(texts.drain().last(), Some(&Text("three".into())));
        assert_eq!(bob.stats().dead_letters_total(), 0);
    })
    .await;
}

fn counter(received: &Arc<AtomicU64>) -> impl Fn(Note) + Send + Sync + 'static {
    let received = Arc::clone(received);
    move |_| {
        received.fetch_add(1, Ordering::SeqCst);
    }
}

fn note(seq: u64) -> Note {
    Note { from: 0, seq }
}

/// Where the node of the port mapping listens.
const PRIVATE: &str = "mem://Test@private:1";
static NOTHING: &[CodecEntry] = &[];
