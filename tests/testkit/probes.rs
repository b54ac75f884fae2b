//! Holds what a test expects with to its word: it passes what is so, and fails what is not.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tellwire::address::{Address, Endpoint};
use tellwire::event::Reason;
use tellwire::node::{Delivery, Inbox, Mailbox, MailboxSender, Refused, bounded};
use tellwire::testkit::mailbox::{self, Subject};
use tellwire::testkit::raw::RawPeer;
use tellwire::testkit::{DeadLetters, Network, Probe, eventually, transport};
use tellwire::transport::{InProcessNetwork, Link, Listener, Privacy, Transport, TransportError};
use tellwire::wire::FrameKind;
use tellwire::{Uid, UniqueAddress};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::failing::failure;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Text(String);

tellwire::remote_messages! {
    table TEXTS, codec = tellwire::codec::Bincode;
    "probes.v1.Text" => Text,
}

#[tokio::test(start_paused = true)]
async fn a_probe_passes_what_comes_and_fails_what_does_not() {
    let (network, mut probe) = probed().await;
    let to_probe = network.node(1).unwrap().resolve(probe.path().clone()).unwrap();
    to_probe.tell(&text("one")).unwrap();
    probe.expect(&text("one")).await;
    let asking = tokio::spawn(async move {
        let reply: Text = to_probe.ask(&text("two"), SECOND).await.unwrap();
        (reply, to_probe)
    });
    let envelope = probe.expect_within(&text("two"), SECOND).await;
    envelope.reply.unwrap().reply(&text("back")).unwrap();
    let (reply, to_probe) = asking.await.unwrap();
    assert_eq!(reply, text("back"));
    probe.expect_none(SECOND).await;

    to_probe.tell(&text("unexpected")).unwrap();
    to_probe.tell(&text("unwanted")).unwrap();
    let (mut probe, why) = failure(probe, async |probe: &mut Probe<Text>| {
        probe.expect(&text("other")).await;
    })
    .await;
    assert!(why.contains("unexpected") && why.contains("other"), "{why}");
    eventually("the second has come", SECOND, || network.node(0).unwrap().stats().delivered == 4)
        .await;
    probe = fails(probe, async |probe| probe.expect_none(SECOND).await).await;
    probe = fails(probe, async |probe| drop(probe.expect(&text("never")).await)).await;
    probe = fails(probe, async |probe| drop(probe.receive_within(SECOND).await)).await;
    network.crash(0).await.unwrap();
    fails(probe, async |probe| drop(probe.receive().await)).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_nothing_takes_all_its_time() {
    let (network, mut probe) = probed().await;
    let start = Instant::now();
    probe.expect_none(SECOND).await;
    network.crash(0).await.unwrap();
    probe.expect_none(SECOND).await;
    assert_eq!(start.elapsed(), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn eventually_says_what_did_not_become_so() {
    let mut looks = 0;
    eventually("it was looked at thrice", SECOND, || {
        looks += 1;
        looks == 3
    })
    .await;
    let ((), why) = failure((), async |()| eventually("pigs fly", SECOND, || false).await).await;
    assert!(why.contains("pigs fly") && why.contains("probes.rs"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_expected_by_reason() {
    let (network, probe) = probed().await;
    let node = network.node(0).unwrap();
    let mut letters = DeadLetters::of(&node);
    let nobody = node.resolve("/user/nobody").unwrap();
    nobody.tell(&text("lost")).unwrap();
    let letter = letters.expect(Reason::UnknownPath).await;
    assert_eq!(letter.target.unwrap().local(), "/user/nobody");
    letters.expect_none(SECOND).await;
    nobody.tell(&text("lost")).unwrap();
    letters = fails(letters, async |letters| letters.expect_none(SECOND).await).await;
    nobody.tell(&text("lost")).unwrap();
    letters = fails(letters, async |letters| {
        letters.expect(Reason::MailboxFull).await;
    })
    .await;
    fails(letters, async |letters| {
        letters.expect(Reason::UnknownPath).await;
    })
    .await;
    drop(probe);
}

#[tokio::test(start_paused = true)]
async fn a_raw_peer_talks_frame_by_frame_whoever_chooses_the_link() {
    for (node, other) in [(0, 1), (1, 0)] {
        let network = Network::pair().await.unwrap();
        let ada = network.node(node).unwrap();
        let mut probe = Probe::<Text>::register(&ada, "/user/probe").unwrap();
        let mut raw = raw(&network, node, other).await;
        raw.join().await;
        raw.tell("/user/probe", "bincode:probes.v1.Text", b"\x02hi").await;
        probe.expect(&text("hi")).await;
        let back = ada.resolve(format!("{}/user/any", network.address(other).unwrap())).unwrap();
        back.tell(&text("ho")).unwrap();
        let told = raw.expect_tell().await;
        assert_eq!((told.target.as_str(), told.payload.as_slice()), ("/user/any", &b"\x02ho"[..]));
        assert_eq!((told.wire_name.as_str(), told.correlation), ("bincode:probes.v1.Text", None));
        // Pings are answered while a frame is waited for, so that the link lives.
        let gossip = async {
            tokio::time::sleep(9 * SECOND).await;
            ada.gossip(&network.address(other).unwrap(), b"rumour").unwrap();
        };
        let (body, ()) = tokio::join!(raw.expect_frame(FrameKind::GOSSIP), gossip);
        assert_eq!(body, b"rumour");
        raw.send(b"\0\0\0\0 half a frame of length nothing").await;
        raw.expect_end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_raw_peer_fails_the_test_where_the_script_is_not_followed() {
    let network = Network::pair().await.unwrap();
    let mut peer = raw(&network, 0, 1).await;
    peer.join().await;
    peer = fails(peer, async |peer| drop(peer.expect_frame(FrameKind::TELL).await)).await;
    network.reset(0, 1).unwrap();
    fails(peer, async |peer| drop(peer.expect_frame(FrameKind::TELL).await)).await;
}

#[tokio::test(start_paused = true)]
async fn the_network_gives_no_transport_for_what_is_not_there() {
    let network = Network::pair().await.unwrap();
    assert!(network.transport(2).is_err());
}

#[test]
fn the_mailboxes_of_this_crate_conform() {
    mailbox::conforms(Tokio::new, |number| number);
    mailbox::conforms(BuiltIn::new, |number| text(&number.to_string()));
}

#[test]
fn a_mailbox_that_breaks_a_promise_does_not_conform() {
    for flaw in [Flaw::Boundless, Flaw::LastFirst, Flaw::SaysFullWhenGone, Flaw::LosesTheBatch] {
        let run = std::panic::catch_unwind(|| {
            mailbox::conforms(|capacity| Flawed::new(flaw, capacity), |number| number);
        });
        assert!(run.is_err(), "{flaw:?} was not found");
    }
    mailbox::conforms(|capacity| Flawed::new(Flaw::None, capacity), |number| number);
}

#[tokio::test]
async fn a_transport_that_breaks_a_promise_does_not_conform() {
    let flawed = Misnamed(InProcessNetwork::new());
    let run = tokio::spawn(transport::conforms(transport::Subject {
        transport: Arc::new(flawed),
        anywhere: "mem://node:0".parse().unwrap(),
        nobody: "mem://Test@node:1".parse().unwrap(),
    }));
    assert!(run.await.unwrap_err().is_panic());
}

/// Gives a pair whose node 0 has a probe.
async fn probed() -> (Network, Probe<Text>) {
    let network = Network::pair().await.unwrap();
    let probe = Probe::register(&network.node(0).unwrap(), "/user/probe").unwrap();
    (network, probe)
}

/// Crashes `other` and gives a raw peer in its place that has dialled `node`.
async fn raw(network: &Network, node: usize, other: usize) -> RawPeer {
    network.crash(other).await.unwrap();
    let claims = UniqueAddress::new(network.address(other).unwrap(), Uid::new(7));
    let transport = network.transport(other).unwrap();
    RawPeer::dial(&transport, &network.address(node).unwrap(), claims).await.unwrap()
}

fn text(text: &str) -> Text {
    Text(text.to_owned())
}

/// Runs what must fail, and gives the subject back.
async fn fails<S: Send + 'static>(subject: S, run: impl AsyncFnOnce(&mut S)) -> S {
    failure(subject, run).await.0
}

struct Tokio(mpsc::Sender<Delivery<u32>>, mpsc::Receiver<Delivery<u32>>);

impl Tokio {
    fn new(capacity: usize) -> Self {
        let (outbox, inbox) = mpsc::channel(capacity);
        Self(outbox, inbox)
    }
}

impl Subject<u32> for Tokio {
    fn mailbox(&self) -> &dyn Mailbox<u32> {
        &self.0
    }

    fn take(&mut self) -> Option<u32> {
        self.1.try_recv().ok().map(|delivery| delivery.message)
    }

    fn close(&mut self) {
        self.1.close();
    }
}

struct BuiltIn(MailboxSender<Text>, Option<Inbox<Text>>);

impl BuiltIn {
    fn new(capacity: usize) -> Self {
        let (outbox, inbox) = bounded(capacity);
        Self(outbox, Some(inbox))
    }
}

impl Subject<Text> for BuiltIn {
    fn mailbox(&self) -> &dyn Mailbox<Text> {
        &self.0
    }

    fn take(&mut self) -> Option<Text> {
        let receiving = std::pin::pin!(self.1.as_mut()?.recv());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match receiving.poll(&mut cx) {
            std::task::Poll::Ready(delivery) => delivery.map(|delivery| delivery.message),
            std::task::Poll::Pending => None,
        }
    }

    fn close(&mut self) {
        self.1 = None;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    Boundless,
    LastFirst,
    SaysFullWhenGone,
    LosesTheBatch,
}

/// Breaks one promise of a mailbox.
struct Flawed {
    flaw: Flaw,
    capacity: usize,
    /// The messages; none once it is closed.
    queue: Mutex<Option<VecDeque<u32>>>,
}

impl Flawed {
    fn new(flaw: Flaw, capacity: usize) -> Self {
        Self { flaw, capacity, queue: Mutex::new(Some(VecDeque::new())) }
    }
}

impl Mailbox<u32> for Flawed {
    fn try_deliver(&self, delivery: Delivery<u32>) -> Result<(), Refused<u32>> {
        let mut queue = self.queue.lock().unwrap();
        match &mut *queue {
            None if self.flaw == Flaw::SaysFullWhenGone => Err(Refused::Full(delivery)),
            None => Err(Refused::Gone(delivery)),
            Some(queue) if queue.len() >= self.capacity && self.flaw != Flaw::Boundless => {
                Err(Refused::Full(delivery))
            }
            Some(queue) if self.flaw == Flaw::LastFirst => {
                queue.push_front(delivery.message);
                Ok(())
            }
            Some(queue) => {
                queue.push_back(delivery.message);
                Ok(())
            }
        }
    }

    fn try_deliver_batch(
        &self,
        batch: &mut VecDeque<Delivery<u32>>,
        refused: &mut Vec<Refused<u32>>,
    ) {
        while let Some(delivery) = batch.pop_front() {
            match self.try_deliver(delivery) {
                Err(_) if self.flaw == Flaw::LosesTheBatch => {}
                Err(refusal) => refused.push(refusal),
                Ok(()) => {}
            }
        }
    }
}

impl Subject<u32> for Flawed {
    fn mailbox(&self) -> &dyn Mailbox<u32> {
        self
    }

    fn take(&mut self) -> Option<u32> {
        self.queue.lock().unwrap().as_mut()?.pop_front()
    }

    fn close(&mut self) {
        *self.queue.lock().unwrap() = None;
    }
}

/// Takes addresses of other transports for its own.
#[derive(Debug)]
struct Misnamed(InProcessNetwork);

#[async_trait]
impl Transport for Misnamed {
    fn scheme(&self) -> &'static str {
        "mem"
    }

    fn privacy(&self) -> Privacy {
        Privacy::Local
    }

    async fn listen(&self, at: &Endpoint) -> Result<Box<dyn Listener>, TransportError> {
        let at = Endpoint::new("mem", at.host(), at.port()).unwrap();
        self.0.listen(&at).await
    }

    async fn dial(&self, to: &Address) -> Result<Link, TransportError> {
        let to = Address::new("mem", to.system(), to.host(), to.port()).unwrap();
        self.0.dial(&to).await
    }
}

const SECOND: Duration = Duration::from_secs(1);
