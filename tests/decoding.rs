//! Holds large messages that are being decoded to what every message is promised: in order, once, in nobody's way.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use async_trait::async_trait;
use common::{
    Double, Doubled, LONG, Net, Wrapped, association, collector, letter, on_both, until,
    until_accounted, within,
};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tellwire::codec::Bincode;
use tellwire::event::Reason;
use tellwire::node::{AskError, Context};
use tellwire::transport::{Link, Listener, Privacy, TcpTransport, Transport, TransportError};
use tellwire::{Address, Endpoint, Node, RemoteRef, Settings};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// A message that can be decoded once its gate is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Slow {
    seq: u64,
    text: String,
    #[serde(deserialize_with = "pass")]
    gate: u64,
}

/// A message that counts how often it is encoded.
#[derive(Debug, Deserialize)]
struct Counted(String);

tellwire::remote_messages! {
    table DECODING, codec = Bincode;
    "decoding.v1.Slow" => Slow,
    "decoding.v1.Counted" => Counted,
}

/// The gates of all tests: who waits at one, and which are open.
struct Gates {
    state: Mutex<(HashSet<u64>, HashSet<u64>)>,
    opened: Condvar,
}

/// A gate of one test; it opens at the latest when it is dropped.
struct Gate(u64);

impl Slow {
    fn new(seq: u64, gate: u64, size: usize) -> Self {
        Self { seq, gate, text: "x".repeat(size) }
    }
}

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.fetch_add(1, Ordering::SeqCst);
        self.0.serialize(serializer)
    }
}

impl Gate {
    fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(OPEN);
        Self(LAST.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn has_visitor(&self) -> bool {
        GATES.lock().0.contains(&self.0)
    }

    fn open(&self) {
        GATES.lock().1.insert(self.0);
        GATES.opened.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

impl Gates {
    fn lock(&self) -> MutexGuard<'_, (HashSet<u64>, HashSet<u64>)> {
        self.state.lock().unwrap()
    }
}

/// Decodes the number of a gate, and waits in front of it.
fn pass<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let gate = u64::deserialize(deserializer)?;
    if gate == WALL {
        return Err(D::Error::custom("a wall"));
    }
    if gate != OPEN {
        let mut gates = GATES.lock();
        gates.0.insert(gate);
        let is_closed = |gates: &mut (_, HashSet<u64>)| !gates.1.contains(&gate);
        // Not for ever: where a link's own task waits here, the test is to fail and not to hang.
        drop(GATES.opened.wait_timeout_while(gates, Duration::from_secs(20), is_closed).unwrap());
    }
    Ok(gate)
}

/// Registers an actor that doubles, and gives the way to it.
fn doubler(at: &Node, from: &Node) -> RemoteRef {
    let double = async |Double(it): Double, cx: &mut Context| cx.reply(&Doubled(2 * it));
    from.resolve(at.spawn("/user/double", double).unwrap().path().clone()).unwrap()
}

/// Shows that the link brings and takes other things.
async fn goes_round(double: &RemoteRef) {
    let asked = double.ask::<_, Doubled>(&Double(21), Duration::from_secs(10)).await;
    assert_eq!(asked, Ok(Doubled(42)));
}

fn numbers(loads: &[Slow]) -> Vec<u64> {
    loads.iter().map(|load| load.seq).collect()
}

#[tokio::test]
async fn what_is_decoded_for_long_keeps_its_place_and_nobody_else_waiting() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (gate, double) = (Gate::new(), doubler(&ada, &bob));
        let (mailbox, mut loads) = collector::<Slow>();
        let slow = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        slow.tell(&Slow::new(0, gate.0, LARGE)).unwrap();
        for (seq, size) in [(1, 10), (2, LARGE), (3, 10)] {
            slow.tell(&Slow::new(seq, OPEN, size)).unwrap();
        }
        until("the message to be decoded", || gate.has_visitor()).await;
        until("what is behind it", || ada.stats().tells_received >= 4).await;
        goes_round(&double).await;
        assert!(loads.drain().is_empty(), "nothing overtakes");
        gate.open();
        assert_eq!(numbers(&loads.take(4).await), [0, 1, 2, 3]);
        until_accounted(&bob, &ada).await;
        assert_eq!(ada.stats().dead_letters_total(), 0);
    })
    .await;
}

#[tokio::test]
async fn what_is_decoded_slowly_holds_its_own_senders_back() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (gate, double) = (Gate::new(), doubler(&ada, &bob));
        let (mailbox, mut loads) = collector::<Slow>();
        let slow = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        let number = gate.0;
        let sending = tokio::spawn(async move {
            for seq in 0..30 {
                slow.send(&Slow::new(seq, number, LARGE)).await.unwrap();
            }
        });
        // A window of 16 MiB has room for 16, and one may overshoot it.
        until("a window full", || ada.stats().tells_received >= 16).await;
        goes_round(&double).await;
        assert!(ada.stats().tells_received <= 19, "{} came", ada.stats().tells_received);
        gate.open();
        assert_eq!(numbers(&loads.take(30).await), (0..30).collect::<Vec<_>>());
        within("the sender", sending).await.unwrap();
        until_accounted(&bob, &ada).await;
        assert_eq!(ada.stats().dead_letters_total(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_message_outlives_the_link_that_brought_it() {
    on_both(async |net| {
        let ada = net.node().await;
        let (transport, wires) = Wrapped::breaking(&net);
        let bob = net.builder_over(transport).start().await.unwrap();
        let (gate, double) = (Gate::new(), doubler(&ada, &bob));
        let (mailbox, mut loads) = collector::<Slow>();
        let slow = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        slow.tell(&Slow::new(0, gate.0, LARGE)).unwrap();
        slow.tell(&Slow::new(1, OPEN, LARGE)).unwrap();
        until("both to be there", || ada.stats().tells_received == 2).await;
        wires.break_links();
        until("another link", || association(&bob, &ada.address()).activations == 2).await;
        goes_round(&double).await;
        slow.tell(&Slow::new(2, OPEN, 10)).unwrap();
        slow.tell(&Slow::new(3, OPEN, LARGE)).unwrap();
        until("the others to be there", || ada.stats().tells_received == 5).await;
        assert!(loads.drain().is_empty());
        gate.open();
        assert_eq!(numbers(&loads.take(4).await), [0, 1, 2, 3]);
        until_accounted(&bob, &ada).await;
        assert_eq!(bob.stats().possibly_lost, 0);
    })
    .await;
}

#[tokio::test]
async fn an_actor_that_stops_ends_what_is_being_decoded_for_it() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let gate = Gate::new();
        let actor = ada.spawn("/user/slow", async |_: Slow, _: &mut Context| {}).unwrap();
        let slow = bob.resolve(actor.path().clone()).unwrap();
        let mut letters = ada.dead_letters();
        slow.tell(&Slow::new(0, gate.0, LARGE)).unwrap();
        let ask = Slow::new(1, gate.0, LARGE);
        let asking = async { slow.ask::<_, Slow>(&ask, LONG).await };
        let stopping = async {
            until("both to be there", || ada.stats().tells_received == 2).await;
            actor.stop();
        };
        let (asked, ()) = tokio::join!(asking, stopping);
        assert_eq!(asked, Err(AskError::Failed(Reason::ActorStopped)));
        for _ in 0..2 {
            let letter = letter(&mut letters).await;
            assert_eq!((letter.reason, letter.count), (Reason::ActorStopped, 1));
            assert_eq!(letter.manifest.as_deref(), Some("bincode:decoding.v1.Slow"));
        }
        gate.open();
        until_accounted(&bob, &ada).await;
    })
    .await;
}

#[tokio::test]
async fn a_node_that_stops_accounts_for_what_it_is_decoding() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let gate = Gate::new();
        let (mailbox, mut loads) = collector::<Slow>();
        let slow = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        slow.tell(&Slow::new(0, gate.0, LARGE)).unwrap();
        until("it to be decoded", || gate.has_visitor()).await;
        let stopping = async { ada.shutdown(Duration::from_millis(100)).await };
        let opening = async {
            until("its end", || ada.stats().dead_letters_total() == 1).await;
            gate.open();
        };
        tokio::join!(stopping, opening);
        assert_eq!(ada.stats().dead_letters, [(Reason::ActorStopped, 1)]);
        assert!(loads.rest().await.is_empty());
        assert_eq!(ada.stats().delivered, 0);
    })
    .await;
}

#[tokio::test]
async fn a_large_message_that_cannot_be_decoded_is_refused_like_a_small_one() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut loads) = collector::<Slow>();
        let slow = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
        let mut letters = bob.dead_letters();
        slow.tell(&Slow::new(0, WALL, LARGE)).unwrap();
        let letter = letter(&mut letters).await;
        assert_eq!((letter.reason, letter.count), (Reason::Undecodable, 1));
        assert_eq!(letter.refused_by, Some(ada.address()));
        assert_eq!(letter.target.as_ref(), Some(slow.path()));
        assert_eq!(ada.stats().dead_letters, [(Reason::Undecodable, 1)]);
        let asked = slow.ask::<_, Slow>(&Slow::new(1, WALL, LARGE), LONG).await;
        assert_eq!(asked, Err(AskError::Failed(Reason::Undecodable)));
        slow.tell(&Slow::new(2, OPEN, LARGE)).unwrap();
        assert_eq!(loads.next().await.seq, 2);
        until_accounted(&bob, &ada).await;
        assert_eq!(bob.stats().refused_by_peers, [(Reason::Undecodable, 1)]);
        assert_eq!(association(&bob, &ada.address()).activations, 1);
    })
    .await;
}

#[tokio::test]
async fn a_reply_that_is_decoded_for_long_keeps_nobody_waiting_and_outlives_its_link() {
    on_both(async |net| {
        let ada = net.node().await;
        let (transport, wires) = Wrapped::breaking(&net);
        let bob = net.builder_over(transport).start().await.unwrap();
        let (gate, double) = (Gate::new(), doubler(&ada, &bob));
        let grow = async |small: Slow, cx: &mut Context| {
            let gate = small.text.parse().unwrap();
            cx.reply(&Slow::new(small.seq, gate, LARGE))
        };
        let grower = bob.resolve(ada.spawn("/user/grow", grow).unwrap().path().clone()).unwrap();
        let ask = Slow { seq: 7, gate: OPEN, text: gate.0.to_string() };
        let asking = async { grower.ask::<_, Slow>(&ask, LONG).await };
        let meanwhile = async {
            until("the reply to be decoded", || gate.has_visitor()).await;
            goes_round(&double).await;
            wires.break_links();
            until("another link", || association(&bob, &ada.address()).activations == 2).await;
            gate.open();
        };
        let (reply, ()) = tokio::join!(asking, meanwhile);
        assert_eq!(reply.map(|reply| reply.seq), Ok(7));
    })
    .await;
}

#[tokio::test]
async fn a_sender_that_waits_for_room_encodes_its_message_once() {
    let net = Net::Tcp;
    let mut settings = Settings::local();
    settings.outbox.max_bulk_bytes = 64 * 1024;
    let (ada, bob) = (net.node().await, net.builder().settings(settings).start().await.unwrap());
    let (mailbox, mut loads) = collector::<Counted>();
    let target = bob.resolve(ada.register("/user/counted", mailbox).unwrap()).unwrap();
    let message = Counted("x".repeat(LARGE));
    for _ in 0..50 {
        target.send(&message).await.unwrap();
    }
    assert!(loads.take(50).await.iter().all(|load| load.0.len() == LARGE));
    assert_eq!(ENCODED.load(Ordering::SeqCst), 50);
}

/// Without a second thread, so that whatever the writer does at a stretch is done before anybody else is heard.
#[tokio::test]
async fn a_link_that_takes_whatever_it_is_given_leaves_others_their_turn() {
    let (transport, taken) = Greedy::new();
    let bob = Node::builder(common::SYSTEM).listen("tcp://127.0.0.1:0").transport(transport);
    let (ada, bob) = (Net::Tcp.node().await, bob.start().await.unwrap());
    let (mailbox, mut loads) = collector::<Slow>();
    let target = bob.resolve(ada.register("/user/slow", mailbox).unwrap()).unwrap();
    target.tell(&Slow::new(0, OPEN, 10)).unwrap();
    loads.next().await;
    target.tell(&Slow::new(1, OPEN, 8 * LARGE)).unwrap();
    let mut at_a_stretch = 0;
    while loads.try_next().is_none() {
        at_a_stretch = at_a_stretch.max(taken.swap(0, Ordering::SeqCst));
        tokio::task::yield_now().await;
    }
    assert!(at_a_stretch < LARGE / 2, "{at_a_stretch} bytes at a stretch");
}

/// Gives TCP links that never keep a writer waiting, and counts what they are given.
#[derive(Debug, Clone)]
struct Greedy {
    inner: TcpTransport,
    taken: Arc<AtomicUsize>,
}

/// Takes everything at once and hands it on in its own time.
struct Gulp {
    on: mpsc::UnboundedSender<Vec<u8>>,
    taken: Arc<AtomicUsize>,
}

impl Greedy {
    fn new() -> (Self, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        (Self { inner: TcpTransport::new(), taken: Arc::clone(&taken) }, taken)
    }
}

#[async_trait]
impl Transport for Greedy {
    fn scheme(&self) -> &'static str {
        self.inner.scheme()
    }

    fn privacy(&self) -> Privacy {
        self.inner.privacy()
    }

    async fn listen(&self, at: &Endpoint) -> Result<Box<dyn Listener>, TransportError> {
        self.inner.listen(at).await
    }

    async fn dial(&self, to: &Address) -> Result<Link, TransportError> {
        let (reader, mut writer) = self.inner.dial(to).await?.split();
        let (on, mut pieces) = mpsc::unbounded_channel::<Vec<u8>>();
        tokio::spawn(async move {
            while let Some(piece) = pieces.recv().await {
                if writer.write_all(&piece).await.is_err() {
                    return;
                }
            }
        });
        Ok(Link::new(reader, Gulp { on, taken: Arc::clone(&self.taken) }, "greedy"))
    }
}

impl AsyncWrite for Gulp {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.taken.fetch_add(bytes.len(), Ordering::SeqCst);
        let sent = self.on.send(bytes.to_vec());
        Poll::Ready(sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

static GATES: LazyLock<Gates> =
    LazyLock::new(|| Gates { state: Mutex::default(), opened: Condvar::new() });
static ENCODED: AtomicUsize = AtomicUsize::new(0);
/// The gate that is always open.
const OPEN: u64 = 0;
/// A gate that is none.
const WALL: u64 = u64::MAX;
/// Far above what the task that reads a link decodes itself.
const LARGE: usize = 1 << 20;
