//! Feeds a node with what one link brings: a handshake, and any sequence of frames behind it.
//!
//! The node is a real one over an in-process link, on one thread and in virtual time, so that nothing waits.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use serde::Serialize;
use tellwire::codec::{Bincode, Codec};
use tellwire::node::{Delivery, GossipSink, Stats, WhenFull};
use tellwire::transport::{InProcessNetwork, Transport};
use tellwire::wire::{self, FrameKind, HelloPrefix};
use tellwire::{Node, Settings, UniqueAddress};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use super::Verdict;

tellwire::remote_messages! {
    pub(super) table LETTERS, codec = Bincode;
    "fuzz.v1.Letter" => Letter,
}

/// Is a short text for an actor.
#[derive(Debug, Serialize, serde::Deserialize)]
pub(super) struct Letter(pub(super) String);

/// Sends a node what `bytes` say, to the end of the link.
///
/// The first byte says who calls: bit 0 set, nobody, and the rest is the whole link; else a peer that chooses the
/// link or, with bit 1 set, lets the node choose, and the rest follows its handshake. The other bits cut the rest
/// into pieces.
pub fn association(bytes: &[u8]) -> Verdict {
    let Some((mode, frames)) = bytes.split_first() else { return Verdict::Refused };
    STAGE.with(|stage| stage.runtime.block_on(stage.call(*mode, frames)))
}

/// Holds one node for all inputs, each of which comes from a peer of its own.
struct Stage {
    runtime: Runtime,
    network: InProcessNetwork,
    node: Node,
    callers: Cell<u32>,
    /// The books at the end of the last call.
    stats: RefCell<Stats>,
}

impl Stage {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let network = InProcessNetwork::new();
        let node = runtime.block_on(node(&network));
        let stats = RefCell::new(node.stats());
        Self { runtime, network, node, callers: Cell::default(), stats }
    }

    async fn call(&self, mode: u8, frames: &[u8]) -> Verdict {
        let link = self.network.dial(&self.node.address()).await.expect("the node listens");
        let (mut reader, mut writer) = link.split();
        // A node that closes the link takes no more, which is its right.
        let is_sent = self.send(mode, frames, &mut writer).await.is_ok();
        let (mut heard, mut room) = (0, [0; 1024]);
        while let Ok(length @ 1..) = reader.read(&mut room).await {
            heard += length;
        }
        assert!(heard <= 1024 + 8 * frames.len(), "{heard} bytes in answer to {}", frames.len());
        // The node gives its caller up, and so forgets it when there are too many.
        tokio::time::sleep(2 * GIVE_UP_AFTER).await;
        let after = self.node.stats();
        let before = self.stats.replace(after.clone());
        accounts_for_everything(&before, &after);
        let is_heard = is_sent && after.delivered > before.delivered;
        if is_heard { Verdict::Accepted } else { Verdict::Refused }
    }

    async fn send(
        &self,
        mode: u8,
        frames: &[u8],
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        if mode & 1 == 0 {
            let caller = self.callers.replace(self.callers.get().wrapping_add(1));
            let host = if mode & 2 == 0 { "a" } else { "z" };
            writer.write_all(&opening(&format!("mem://Fuzz@{host}{caller:08x}:1"))).await?;
        }
        for piece in frames.chunks(1 + frames.len() / (1 + usize::from(mode >> 2))) {
            writer.write_all(piece).await?;
            tokio::task::yield_now().await;
        }
        writer.shutdown().await
    }
}

/// Checks that each tell that came in was delivered or became a dead letter.
fn accounts_for_everything(before: &Stats, after: &Stats) {
    let ended = |stats: &Stats| stats.delivered + stats.dead_letters_total();
    let told = after.tells_received - before.tells_received;
    assert_eq!(told, ended(after) - ended(before), "{before:?} {after:?}");
}

/// Starts a node with a mailbox that takes everything, one that is soon full, and one that is gone.
async fn node(network: &InProcessNetwork) -> Node {
    let mut settings = Settings::default();
    // Each call looks at every peer that is known, so these are few.
    settings.inbound.max_peers = 4;
    settings.association.give_up_after = GIVE_UP_AFTER;
    settings.association.backoff_min = 100 * GIVE_UP_AFTER;
    let builder = Node::builder(SYSTEM).listen(NODE).transport(network.clone());
    let node = builder.settings(settings).codecs(LETTERS).gossip(Ears).start().await;
    let node = node.expect("a node in memory");
    let (full, held) = mpsc::channel::<Delivery<Letter>>(1);
    let (gone, _) = mpsc::channel::<Delivery<Letter>>(1);
    // The receiver of the full one must outlive the call.
    let any = move |_: Letter| assert!(!held.is_closed());
    node.register::<Letter, _>("/a", any).expect("a free path");
    // What waits for room in front of a full one would have no end for the books of one call.
    let registration =
        node.registration("/f").accept::<Letter, _>(full).when_full(WhenFull::Refuse);
    registration.register().expect("a free path");
    node.register::<Letter, _>("/g", gone).expect("a free path");
    node
}

/// Spells an honest handshake, whoever has to choose the link.
pub(super) fn opening(from: &str) -> Vec<u8> {
    let activate = (2_u8, 1_u64, 0_u64);
    [hello(from), frame(FrameKind::CONTROL, &spelt(&activate))].concat()
}

/// Spells the Hello of a peer.
pub(super) fn hello(from: &str) -> Vec<u8> {
    let mut body = Vec::new();
    HelloPrefix { min_version: 1, max_version: 1 }.encode(&mut body);
    let seen: Option<(u64, u64)> = None;
    let to = "mem://Fuzz@node:5";
    let who = (from.to_owned(), 7_u64, check_sum(from, 7));
    body.extend(spelt(&(who, to.to_owned(), 1_u32 << 20, 0_u64, seen)));
    frame(FrameKind::HELLO, &body)
}

/// Sums an address and a uid up, as the handshake does.
fn check_sum(address: &str, uid: u64) -> u32 {
    let bytes = address.bytes().chain(uid.to_be_bytes());
    bytes.fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Spells a frame.
pub(super) fn frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mark = wire::begin(&mut out, kind);
    out.extend_from_slice(body);
    wire::finish(&mut out, mark, usize::MAX).expect("a length");
    out
}

/// Encodes in the format of messages and PDUs.
pub(super) fn spelt<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    Bincode::encode(value, &mut out).expect("a plain value");
    out
}

/// Hears gossip and makes nothing of it.
struct Ears;

impl GossipSink for Ears {
    fn receive(&self, _: &UniqueAddress, _: &[u8]) {}
}

thread_local! {
    static STAGE: Stage = Stage::new();
}

/// The shortest there is.
const GIVE_UP_AFTER: Duration = Duration::from_millis(10);
const SYSTEM: &str = "Fuzz";
const NODE: &str = "mem://node:5";
