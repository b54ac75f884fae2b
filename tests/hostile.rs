//! Shows that a hostile or broken peer costs itself its link, and nobody else anything.
//!
//! Each test runs a node of its own over TCP and a client that speaks the wire by hand.

#[path = "hostile/chunks.rs"]
mod chunks;
#[path = "hostile/codecs.rs"]
mod codecs;
#[path = "hostile/credit.rs"]
mod credit;
#[path = "hostile/descriptors.rs"]
mod descriptors;
#[path = "hostile/gossip.rs"]
mod gossip;
#[path = "hostile/handshake.rs"]
mod handshake;
#[path = "hostile/identity.rs"]
mod identity;
#[path = "hostile/links.rs"]
mod links;
#[path = "hostile/memory.rs"]
mod memory;
#[path = "hostile/messages.rs"]
mod messages;
#[path = "common/raw.rs"]
mod raw;
#[path = "hostile/registry.rs"]
mod registry;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use tellwire::codec::Bincode;
use tellwire::event::{DeadLetter, NodeEvent, Reason};
use tellwire::node::{Context, DeadLetterStream, Delivery, EventStream, GossipSink, Observed};
use tellwire::transport::TcpTransport;
use tellwire::{Node, Settings, UniqueAddress};
use tokio::sync::mpsc;

use crate::raw::{PATIENCE, SYSTEM, soon};

/// Is the message that must always get through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Note {
    text: String,
}

/// Nests as deeply as its bytes say.
#[derive(Serialize, Deserialize)]
struct Nest(Option<Box<Nest>>);

/// Has elements that take no bytes.
#[derive(Serialize, Deserialize)]
struct Units(Vec<()>);

/// Has elements that claim lengths of their own.
#[derive(Serialize, Deserialize)]
struct Texts(Vec<String>);

/// Counts how often it is decoded.
#[derive(Serialize)]
struct Counted;

/// Panics when it is decoded.
#[derive(Serialize)]
struct Bomb;

/// Panics when it becomes what its actor takes.
#[derive(Serialize, Deserialize)]
struct Fuse;

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        DECODED.fetch_add(1, Ordering::Relaxed);
        Ok(Self)
    }
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("a decoder that panics")
    }
}

impl From<Fuse> for Note {
    fn from(_: Fuse) -> Self {
        panic!("a conversion that panics")
    }
}

/// Panics at what it does not like to hear.
struct Gossiper;

impl GossipSink for Gossiper {
    fn receive(&self, _: &UniqueAddress, pdu: &[u8]) {
        assert_ne!(pdu, b"scandal", "a gossip sink that panics");
    }
}

tellwire::remote_messages! {
    table HOSTILE, codec = Bincode;
    "hostile.v1.Note" => Note { schema = 0x07 },
    "hostile.v1.Nest" => Nest,
    "hostile.v1.Units" => Units,
    "hostile.v1.Texts" => Texts,
    "hostile.v1.Counted" => Counted,
    "hostile.v1.Bomb" => Bomb,
    "hostile.v1.Fuse" => Fuse,
}

static DECODED: AtomicU32 = AtomicU32::new(0);

const NOTE: &str = "bincode:hostile.v1.Note";
const NOTES: &str = "/user/notes";

/// A node under attack, with what can be observed of it.
struct Target {
    node: Node,
    notes: mpsc::Receiver<Delivery<Note>>,
    dead: DeadLetterStream,
    events: EventStream,
}

impl Target {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(set: impl FnOnce(&mut Settings)) -> Self {
        Self::start_over(TcpTransport::new(), set).await
    }

    /// Starts a node with a mailbox for notes and an actor that sends them back.
    async fn start_over(tcp: TcpTransport, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        set(&mut settings);
        let builder = Node::builder(SYSTEM).listen("tcp://127.0.0.1:0").transport(tcp);
        let builder = builder.settings(settings).gossip(Gossiper);
        let node = builder.codecs(HOSTILE).start().await.expect("a node on loopback");
        let (sender, notes) = mpsc::channel(4096);
        node.register::<Note, _>(NOTES, sender).expect("a free path");
        let echo = async |note: Note, cx: &mut Context| cx.reply(&note);
        node.spawn("/user/echo", echo).expect("a free path");
        let (dead, events) = (node.dead_letters(), node.events());
        Self { node, notes, dead, events }
    }

    /// Waits for the next note, which must be this one.
    async fn hears(&mut self, text: &str) -> Delivery<Note> {
        let delivery = soon(self.notes.recv()).await.expect("the node runs");
        assert_eq!(delivery.message.text, text);
        delivery
    }

    /// Waits for the next dead letter.
    async fn dead_letter(&mut self) -> DeadLetter {
        match soon(self.dead.next()).await {
            Some(Observed::Item(letter)) => letter,
            other => panic!("a dead letter was due, not {other:?}"),
        }
    }

    /// Waits for an event that is wanted.
    async fn event(&mut self, wanted: impl Fn(&NodeEvent) -> bool) -> NodeEvent {
        loop {
            match soon(self.events.next()).await {
                Some(Observed::Item(event)) if wanted(&event) => return event,
                Some(_) => {}
                None => panic!("the node runs"),
            }
        }
    }

    /// Counts the dead letters of one reason.
    fn dead(&self, reason: Reason) -> u64 {
        self.node.stats().dead_letters_for(reason)
    }

    /// Shows that a healthy peer is served, however long it has to try.
    async fn serves_a_healthy_peer(&self) {
        let healthy = Healthy::start().await;
        healthy.asks(&self.node, 1).await;
    }
}

/// A peer that keeps the rules.
struct Healthy(Node);

impl Healthy {
    async fn start() -> Self {
        let mut settings = Settings::default();
        settings.association.backoff_min = Duration::from_millis(5);
        settings.association.backoff_max = Duration::from_millis(50);
        let builder = Node::builder(SYSTEM).listen("tcp://127.0.0.1:0").settings(settings);
        Self(builder.codecs(HOSTILE).start().await.expect("a node on loopback"))
    }

    /// Asks so many times and gets every reply.
    async fn asks(&self, node: &Node, times: u32) {
        let echo = self.0.resolve(node.path("/user/echo")).expect("a path");
        for number in 0..times {
            let note = Note { text: number.to_string() };
            let reply: Note = echo.ask(&note, PATIENCE).await.expect("a reply");
            assert_eq!(reply, note);
        }
    }
}

/// Spells a note for the mailbox of the node under attack.
fn note(text: &str) -> Vec<u8> {
    raw::tell(NOTES, NOTE, &payload(text))
}

fn payload(text: &str) -> Vec<u8> {
    raw::encode(&Note { text: text.to_owned() })
}
