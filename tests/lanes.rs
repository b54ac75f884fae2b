//! Holds large messages to the promises of small ones: in order, once, whole, and in nobody's way.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use async_trait::async_trait;
use common::{LONG, Net, Note, association, collector, letter, on_both, until, until_accounted};
use serde::{Deserialize, Serialize};
use tellwire::event::Reason;
use tellwire::lane::Lane;
use tellwire::node::{AskError, Context, TellError};
use tellwire::transport::{Link, Listener, Privacy, TcpTransport, Transport, TransportError};
use tellwire::{Address, Endpoint, Node, Settings};
use tokio::io::AsyncWrite;

/// A message of any size, whose content follows from its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Load {
    seq: u64,
    text: String,
}

tellwire::remote_messages! {
    table LOADS, codec = tellwire::codec::Bincode;
    "lanes.v1.Load" => Load,
}

impl Load {
    fn new(seq: u64, size: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(seq);
        let block: String = (0..997).map(|_| random.alphanumeric()).collect();
        Self { seq, text: block.repeat(size / 997 + 1)[..size].to_owned() }
    }

    fn is_intact(&self) -> bool {
        *self == Self::new(self.seq, self.text.len())
    }
}

/// Draws sizes around the bounds of a chunk as often as far from them.
fn size(random: &mut fastrand::Rng) -> usize {
    match random.u8(..10) {
        0 => random.usize(65_400..65_700),
        1 => random.usize(131_000..131_200),
        2 | 3 => random.usize(60_000..700_000),
        _ => random.usize(..2000),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_by_a_mailbox_while_the_link_is_read_goes_out_without_another_cause() {
    on_both(async |net| {
        let mut settings = Settings::local();
        // Nothing else is written meanwhile.
        settings.association.ping_interval = LONG;
        settings.association.liveness_timeout = 2 * LONG;
        let [ada, bob] = [(); 2].map(|()| net.builder().settings(settings.clone()));
        let (ada, bob) = (ada.start().await.unwrap(), bob.start().await.unwrap());
        let (mailbox, mut echoes) = collector::<Note>();
        let back = ada.resolve(bob.register("/user/echoes", mailbox).unwrap()).unwrap();
        let echo = move |note: Note| {
            back.tell(&note).unwrap();
            // For long enough that the writer, on the other thread, sees that this one still reads.
            std::thread::sleep(Duration::from_millis(5));
        };
        let target = bob.resolve(ada.register("/user/echo", echo).unwrap()).unwrap();
        for seq in 0..20 {
            target.tell(&Note { from: 0, seq }).unwrap();
            assert_eq!(echoes.next().await.seq, seq);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_all_sizes_reach_each_actor_in_the_order_told() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let mut random = fastrand::Rng::with_seed(3);
        let mut all = Vec::new();
        for actor in 0..4 {
            let (mailbox, loads) = collector::<Load>();
            let path = ada.register(format!("/user/a{actor}"), mailbox).unwrap();
            all.push((bob.resolve(path).unwrap(), loads));
        }
        for seq in 0..400 {
            let to = random.usize(..all.len() - 1);
            all[to].0.send(&Load::new(seq, size(&mut random))).await.unwrap();
            all[3].0.send(&Load::new(seq, 10)).await.unwrap();
        }
        let mut arrived = 0;
        for (_, loads) in &mut all[..3] {
            let mut last = None;
            while arrived < 400 {
                let Some(load) = within_reach(loads, &ada).await else { break };
                assert!(load.is_intact() && last < Some(load.seq), "{} after {last:?}", load.seq);
                last = Some(load.seq);
                arrived += 1;
            }
        }
        assert_eq!(arrived, 400);
        let small: Vec<u64> = all[3].1.take(400).await.iter().map(|load| load.seq).collect();
        assert_eq!(small, (0..400).collect::<Vec<_>>());
        until_accounted(&bob, &ada).await;
        assert_eq!(ada.stats().tells_received, 800);
        assert_eq!(ada.stats().dead_letters_total() + bob.stats().dead_letters_total(), 0);
    })
    .await;
}

/// Gives the next message, or none once all 800 were delivered and this actor's are through.
async fn within_reach(loads: &mut common::Collected<Load>, node: &Node) -> Option<Load> {
    let mut next = None;
    until("the next message", || {
        let is_over = node.stats().delivered == 800;
        next = loads.try_next();
        next.is_some() || is_over
    })
    .await;
    next.or_else(|| loads.try_next())
}

#[tokio::test]
async fn messages_of_all_sizes_to_this_node_itself_arrive_in_order() {
    let ada = Net::Tcp.node().await;
    let (mailbox, mut loads) = collector::<Load>();
    let target = ada.resolve(ada.register("/user/loads", mailbox).unwrap()).unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    for seq in 0..200 {
        target.send(&Load::new(seq, size(&mut random))).await.unwrap();
    }
    for (seq, load) in (0..).zip(loads.take(200).await) {
        assert!(load.seq == seq && load.is_intact(), "{} for {seq}", load.seq);
    }
}

#[tokio::test]
async fn a_message_and_a_reply_of_the_largest_size_arrive_intact() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let echo = async |load: Load, cx: &mut Context| cx.reply(&load);
        let path = ada.spawn("/user/echo", echo).unwrap().path().clone();
        let target = bob.resolve(path).unwrap();
        let largest = Load::new(1, Settings::default().inbound.max_message - 16);
        let reply: Load = target.ask(&largest, common::LONG).await.unwrap();
        assert!(reply == largest);
        let beyond = Load::new(1, Settings::default().inbound.max_message);
        assert!(matches!(target.tell(&beyond), Err(TellError::TooLarge { .. })));
    })
    .await;
}

#[tokio::test]
async fn small_tells_to_another_actor_pass_a_large_message() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (order, mut arrivals) = collector::<&str>();
        let large = order.clone();
        let large = ada.register("/user/large", move |_: Load| large("large")).unwrap();
        let small = ada.register("/user/small", move |_: Note| order("small")).unwrap();
        let (large, small) = (bob.resolve(large).unwrap(), bob.resolve(small).unwrap());
        large.tell(&Load::new(0, 8 << 20)).unwrap();
        small.tell(&Note { from: 0, seq: 0 }).unwrap();
        assert_eq!(arrivals.take(2).await, ["small", "large"]);
    })
    .await;
}

#[tokio::test]
async fn a_large_message_does_not_overtake_the_tells_before_it() {
    on_both(async |net| {
        let (ada, bob) = net.pair().await;
        let (mailbox, mut loads) = collector::<Load>();
        let target = bob.resolve(ada.register("/user/loads", mailbox).unwrap()).unwrap();
        for seq in 0..60 {
            target.tell(&Load::new(seq, 60_000)).unwrap();
        }
        target.tell(&Load::new(60, 70_000)).unwrap();
        target.tell(&Load::new(61, 10)).unwrap();
        let seen: Vec<u64> = loads.take(62).await.iter().map(|load| load.seq).collect();
        assert_eq!(seen, (0..62).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn what_the_peer_turns_out_not_to_take_is_a_dead_letter_and_costs_no_link() {
    on_both(async |net| {
        let mut settings = Settings::local();
        settings.inbound.max_message = 100_000;
        let ada = net.builder().settings(settings).start().await.unwrap();
        let bob = net.node().await;
        let (mailbox, mut loads) = collector::<Load>();
        let target = bob.resolve(ada.register("/user/loads", mailbox).unwrap()).unwrap();
        let mut letters = bob.dead_letters();
        // Nothing is awaited before: the peer's limit is not known yet.
        for (seq, size) in [(0, 10), (1, 99_000), (2, 200_000), (3, 10), (4, 99_000)] {
            target.tell(&Load::new(seq, size)).unwrap();
        }
        let asked = target.ask::<_, Load>(&Load::new(5, 100_001), common::LONG).await;
        assert_eq!(asked, Err(AskError::Failed(Reason::TooLarge)));
        let seen: Vec<u64> = loads.take(4).await.iter().map(|load| load.seq).collect();
        assert_eq!(seen, [0, 1, 3, 4]);
        for _ in 0..2 {
            let letter = letter(&mut letters).await;
            assert_eq!((letter.reason, letter.count), (Reason::TooLarge, 1));
            assert_eq!(letter.target.as_ref(), Some(target.path()));
        }
        assert_eq!(association(&bob, &ada.address()).activations, 1);
        let refused = target.tell(&Load::new(6, 100_001));
        assert!(matches!(refused, Err(TellError::TooLarge { limit: 100_000, .. })), "{refused:?}");
        until_accounted(&bob, &ada).await;
    })
    .await;
}

#[tokio::test]
async fn a_full_bulk_lane_refuses_large_messages_and_takes_small_ones_to_others() {
    on_both(async |net| {
        let nobody = net.nobody();
        let mut settings = Settings::local();
        settings.outbox.max_bulk_bytes = 1 << 20;
        let bob = net.builder().settings(settings).start().await.unwrap();
        let resolve = |name: String| bob.resolve(nobody.path(&format!("/user/{name}"))).unwrap();
        let small = resolve("small".to_owned());
        let load = Load::new(0, 300_000);
        // Each has credit for one of them that overshoots its bytes.
        let mut large = (0..100).map(|number| resolve(format!("large{number}")).tell(&load));
        assert_eq!(large.by_ref().take_while(Result::is_ok).count(), 4);
        assert_eq!(large.next(), Some(Err(TellError::Full)));
        small.tell(&Load::new(0, 1)).unwrap();
        let snapshot = association(&bob, &nobody.address);
        let (ordinary, bulk) = (snapshot.queued(Lane::Ordinary), snapshot.queued(Lane::Bulk));
        assert_eq!((ordinary.frames, bulk.frames, snapshot.queued_frames), (1, 4, 5));
        assert!((1_200_000..1_201_000).contains(&bulk.bytes), "{bulk:?}");
    })
    .await;
}

#[tokio::test]
async fn large_messages_that_reach_nobody_are_one_dead_letter_each() {
    on_both(async |net| {
        let nobody = net.nobody();
        let mut settings = Settings::local();
        settings.association.give_up_after = std::time::Duration::from_millis(50);
        let bob = net.builder().settings(settings).start().await.unwrap();
        let mut letters = bob.dead_letters();
        let large = bob.resolve(nobody.path("/user/large")).unwrap();
        large.tell(&Load::new(0, 300_000)).unwrap();
        large.tell(&Load::new(1, 10)).unwrap();
        let asked = large.ask::<_, Load>(&Load::new(2, 300_000), common::LONG).await;
        assert_eq!(asked, Err(AskError::Failed(Reason::Unreachable)));
        for _ in 0..3 {
            let letter = letter(&mut letters).await;
            assert_eq!((letter.reason, letter.count), (Reason::Unreachable, 1));
            assert_eq!(letter.target.unwrap().to_string(), nobody.path("/user/large"));
            assert_eq!(letter.manifest.as_deref(), Some("bincode:lanes.v1.Load"));
        }
        assert_eq!(bob.stats().dead_letters_total(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_breaks_anywhere_in_a_large_message_loses_and_doubles_nothing_unreported() {
    on_both(async |net| {
        let mut lost_in_all = 0;
        for cut in (0..40).map(|cut| 5000 + cut * 10_007) {
            let ada = net.node().await;
            let (mailbox, mut loads) = collector::<Load>();
            let path = ada.register("/user/loads", mailbox).unwrap();
            let bob = fragile(&net, cut).await;
            let target = bob.resolve(path).unwrap();
            for (seq, size) in [(0, 140_000), (1, 10), (2, 180_000), (3, 10)] {
                target.tell(&Load::new(seq, size)).unwrap();
            }
            let mut seen: Vec<u64> = Vec::new();
            until("every tell to arrive or be lost", || {
                seen.extend(loads.drain().iter().map(|load| {
                    assert!(load.is_intact());
                    load.seq
                }));
                let lost = bob.stats().possibly_lost;
                let known = seen.len() as u64 + lost;
                assert!(known <= 4, "{seen:?} arrived and {lost} lost, cut at {cut}");
                known == 4
            })
            .await;
            assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}, cut at {cut}");
            assert_eq!(association(&bob, &ada.address()).activations, 1 + u64::from(cut < 320_000));
            lost_in_all += bob.stats().possibly_lost;
            until_accounted(&bob, &ada).await;
        }
        // Only what was wholly handed to the link can be lost: seldom is that where it breaks.
        assert!(lost_in_all < 40, "{lost_in_all} lost");
    })
    .await;
}

#[tokio::test]
async fn a_large_ask_whose_link_breaks_before_its_end_is_answered_over_the_next() {
    on_both(async |net| {
        let ada = net.node().await;
        let echo = async |load: Load, cx: &mut Context| cx.reply(&Note { from: 0, seq: load.seq });
        let path = ada.spawn("/user/echo", echo).unwrap().path().clone();
        let bob = fragile(&net, 1_000_000).await;
        let target = bob.resolve(path).unwrap();
        let reply = target.ask::<_, Note>(&Load::new(7, 2_000_000), common::LONG).await;
        assert_eq!(reply, Ok(Note { from: 0, seq: 7 }));
        assert_eq!(association(&bob, &ada.address()).activations, 2);
        assert_eq!(bob.stats().possibly_lost, 0);
    })
    .await;
}

/// Starts a node whose first link breaks after so many bytes.
async fn fragile(net: &Net, bytes: usize) -> Node {
    let (inner, endpoint): (Arc<dyn Transport>, _) = match net {
        Net::Tcp => (Arc::new(TcpTransport::new()), "tcp://127.0.0.1:0"),
        Net::Mem(network) => (Arc::new(network.clone()), "mem://node:0"),
    };
    let transport = Fragile { inner, left: Arc::new(AtomicUsize::new(bytes)) };
    let builder = Node::builder(common::SYSTEM).listen(endpoint).settings(Settings::local());
    builder.transport(transport).start().await.unwrap()
}

/// Gives links of which the first breaks.
#[derive(Debug, Clone)]
struct Fragile {
    inner: Arc<dyn Transport>,
    /// Bytes that the first link takes, 0 once that is dialled.
    left: Arc<AtomicUsize>,
}

#[async_trait]
impl Transport for Fragile {
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
        let link = self.inner.dial(to).await?;
        match self.left.swap(0, Ordering::SeqCst) {
            0 => Ok(link),
            left => {
                let (reader, writer) = link.split();
                Ok(Link::new(reader, Breaking { writer, left }, "fragile"))
            }
        }
    }
}

/// Takes so many bytes and then fails.
struct Breaking<W> {
    writer: W,
    left: usize,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Breaking<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let now = bytes.len().min(self.left);
        if now == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = Pin::new(&mut self.writer).poll_write(cx, &bytes[..now]);
        if let Poll::Ready(Ok(written)) = written {
            self.left -= written;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
