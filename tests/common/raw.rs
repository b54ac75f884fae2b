//! Speaks the wire by hand: a client that may say anything to a node, at any time.
//!
//! The PDUs are mirrored here as types of their own, so that these tests notice when the format of a
//! handshake changes. Everything that waits does so for [`PATIENCE`] at most.

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tellwire::event::Reason;
use tellwire::wire::{
    self, Define, Dictionary, FrameDecoder, FrameKind, HelloPrefix, ReplyHeader, TellHeader,
    TextId, TextRef,
};
use tellwire::{Address, Node};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Mirrors the name of one incarnation, which goes over the wire with a check sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(String, u64, u32)", from = "(String, u64, u32)")]
pub(crate) struct Unique {
    /// Where it is.
    pub(crate) address: String,
    /// Which one it is.
    pub(crate) uid: u64,
}

impl From<Unique> for (String, u64, u32) {
    fn from(Unique { address, uid }: Unique) -> Self {
        let bytes = address.bytes().chain(uid.to_be_bytes());
        let add = |sum: u32, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let sum = bytes.fold(0x811c_9dc5, add);
        (address, uid, sum)
    }
}

impl From<(String, u64, u32)> for Unique {
    fn from((address, uid, _): (String, u64, u32)) -> Self {
        Self { address, uid }
    }
}

/// Mirrors the body of a HELLO behind its prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Who calls.
    pub(crate) from: Unique,
    /// Who is called.
    pub(crate) to: String,
    /// The largest message that the caller takes.
    pub(crate) max_message: u32,
    /// The fingerprint of its registry.
    pub(crate) registry: u64,
    /// The acceptor's uid and the number of the activation that the caller saw last.
    pub(crate) seen: Option<(u64, u64)>,
}

/// Mirrors the answer to a Hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// The version both speak.
    pub(crate) version: u8,
    /// Who answers.
    pub(crate) from: Unique,
    /// The largest message that the acceptor takes.
    pub(crate) max_message: u32,
    /// The fingerprint of its registry.
    pub(crate) registry: u64,
}

/// Mirrors the control PDUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Control {
    /// The handshake is done.
    Welcome(Welcome),
    /// There will be no handshake.
    Refuse(Refusal),
    /// Chooses the link.
    Activate { generation: u64, received: u64 },
    /// Asks for a sign of life.
    Ping { nonce: u64, received: u64 },
    /// Gives one.
    Pong { nonce: u64, received: u64 },
    /// Acknowledges frames.
    Received { received: u64 },
    /// Ends the association.
    Goodbye,
    /// Ends an ask.
    AskFailed { correlation: u64, reason: Reason },
    /// Sums up what could not be delivered.
    Refused { reason: Reason, count: u64, target: String, manifest: String },
    /// Lists what the sender's registry accepts.
    Codecs { lines: String, rest: Rest },
    /// Grants credit.
    Credit { grants: Vec<Grant> },
    /// Says what had come by the beginning of a link.
    Standing { accounts: Vec<((u64, u64), Grant)>, is_last: bool },
}

/// Mirrors what follows a part of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rest {
    /// Another part.
    More,
    /// Nothing more is accepted.
    Nothing,
    /// Something that is not listed may be accepted.
    Unlisted,
}

/// Mirrors the bounds of one account: its number, then messages and bytes.
pub(crate) type Grant = (u16, (u64, u64));

/// Mirrors the reasons for which there is no handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// No common version.
    Version { min: u8, max: u8 },
    /// Another system.
    System { system: String },
    /// Another node was wanted.
    WrongTarget { address: String },
    /// The caller claims the node's own address.
    OwnAddress,
    /// The incarnation was replaced.
    StaleIncarnation,
    /// The incarnation is quarantined.
    Quarantined,
    /// The node stops.
    Stopping,
    /// The node knows too many peers.
    TooManyPeers,
    /// Another live node has the uid.
    UidTaken,
}

/// A tell as it came from a node, its texts resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// The path it is for.
    pub(crate) target: String,
    /// What it is.
    pub(crate) wire_name: String,
    /// Its number, if it is an ask.
    pub(crate) correlation: Option<u64>,
    /// The encoded message.
    pub(crate) payload: Vec<u8>,
}

/// One link to a node, spoken by hand.
#[derive(Debug)]
pub(crate) struct Raw {
    stream: TcpStream,
    decoder: FrameDecoder,
    dictionary: Dictionary,
    /// Who this client claims to be.
    pub(crate) claims: Unique,
    /// The node at the other end.
    pub(crate) node: Address,
}

impl Raw {
    /// Connects, and says nothing.
    pub(crate) async fn connect(node: &Node, claims: Unique) -> Self {
        Self::connect_with(node, claims, None).await
    }

    /// Connects with room for so many bytes that were not read yet.
    pub(crate) async fn connect_with(
        node: &Node,
        claims: Unique,
        room: Option<NonZeroU32>,
    ) -> Self {
        let address = node.address();
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(room) = room {
            socket.set_recv_buffer_size(room.get()).expect("a size");
        }
        let at = SocketAddr::new(address.host().parse().expect("an IP"), address.port());
        let stream = soon(socket.connect(at)).await.expect("the node listens");
        Self::over(stream, address, claims)
    }

    /// Connects and completes the handshake, whoever has to choose the link.
    pub(crate) async fn join(node: &Node, claims: Unique) -> Self {
        let mut raw = Self::connect(node, claims).await;
        raw.send(&raw.hello().frame()).await;
        raw.welcomed().await;
        raw.activate(1).await;
        raw
    }

    /// Takes a link that a node dials.
    pub(crate) async fn accept(listener: &TcpListener, node: &Node, uid: u64) -> Self {
        let (stream, _) = soon(listener.accept()).await.expect("the node dials");
        Self::over(stream, node.address(), Unique { address: address_of(listener), uid })
    }

    fn over(stream: TcpStream, node: Address, claims: Unique) -> Self {
        stream.set_nodelay(true).expect("a live socket");
        let (decoder, dictionary) = (FrameDecoder::default(), Dictionary::new());
        Self { stream, decoder, dictionary, claims, node }
    }

    /// Gives an honest Hello.
    pub(crate) fn hello(&self) -> Hello {
        let (from, to) = (self.claims.clone(), self.node.to_string());
        Hello { from, to, max_message: 1 << 20, registry: 0, seen: None }
    }

    /// Gives an honest Welcome.
    pub(crate) fn welcome(&self) -> Welcome {
        Welcome { version: 1, from: self.claims.clone(), max_message: 1 << 20, registry: 0 }
    }

    /// Tells whether it is this client that chooses the link.
    pub(crate) fn is_chooser(&self) -> bool {
        self.claims.address.parse::<Address>().expect("an address") < self.node
    }

    /// Does this side's part of an activation.
    pub(crate) async fn activate(&mut self, generation: u64) {
        if self.is_chooser() {
            self.send(&Control::Activate { generation, received: 0 }.frame()).await;
            self.expect_activate().await;
        } else {
            let generation = self.expect_activate().await;
            self.send(&Control::Activate { generation, received: 0 }.frame()).await;
        }
    }

    /// Sends bytes; fails if the node does not take them all.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.expect("the node takes what is sent");
    }

    /// Sends bytes, and tells whether the node took them: it may have closed the link by then.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        soon(self.stream.write_all(bytes)).await.is_ok()
    }

    /// Ends this side of the link, so that the node reads its end behind what was sent.
    pub(crate) async fn finish(&mut self) {
        soon(self.stream.shutdown()).await.expect("a live socket");
    }

    /// Reads the next frame; `None` when the link ends or breaks.
    pub(crate) async fn next(&mut self) -> Option<(FrameKind, Vec<u8>)> {
        soon(self.next_whenever()).await
    }

    /// Reads the next control PDU, skipping pings, credit and all other frames; `None` when the link ends.
    pub(crate) async fn control(&mut self) -> Option<Control> {
        loop {
            let (kind, body) = self.next().await?;
            if kind == FrameKind::CONTROL {
                match decode(&body) {
                    Control::Ping { .. } | Control::Credit { .. } => {}
                    pdu => return Some(pdu),
                }
            }
        }
    }

    /// Reads the node's Hello.
    pub(crate) async fn greeted(&mut self) -> Hello {
        let (kind, body) = self.next().await.expect("a Hello");
        assert_eq!(kind, FrameKind::HELLO);
        let (prefix, body) = HelloPrefix::parse(&body).expect("a prefix");
        assert_eq!((prefix.min_version, prefix.max_version), (1, 1));
        decode(body)
    }

    /// Reads the node's Welcome.
    pub(crate) async fn welcomed(&mut self) -> Welcome {
        match self.control().await {
            Some(Control::Welcome(welcome)) => welcome,
            other => panic!("a Welcome was due, not {other:?}"),
        }
    }

    /// Reads the node's refusal, and the clean end of the link behind it.
    pub(crate) async fn refused(&mut self) -> Refusal {
        match self.control().await {
            Some(Control::Refuse(refusal)) => {
                self.ended_cleanly().await;
                refusal
            }
            other => panic!("a Refuse was due, not {other:?}"),
        }
    }

    /// Reads until the next tell of the node.
    pub(crate) async fn told(&mut self) -> Told {
        loop {
            let (kind, body) = self.next().await.expect("a tell");
            if kind == FrameKind::DEFINE {
                let define = Define::parse(&body).expect("a definition");
                self.dictionary.define(define.id, define.text).expect("a new definition");
            } else if kind == FrameKind::TELL {
                let (header, payload) = TellHeader::parse(&body).expect("a tell");
                let resolve = |text| self.dictionary.resolve(text).expect("a text").to_owned();
                return Told {
                    target: resolve(header.target),
                    wire_name: resolve(header.manifest),
                    correlation: header.correlation,
                    payload: payload.to_vec(),
                };
            }
        }
    }

    /// Reads to the end of the link, however it ends.
    pub(crate) async fn ended(&mut self) {
        soon(async { while self.next_whenever().await.is_some() {} }).await;
    }

    /// Waits for a time of the caller's choice for the link to end.
    pub(crate) async fn ends_within(&mut self, limit: Duration) -> bool {
        let ended = async { while self.next_whenever().await.is_some() {} };
        tokio::time::timeout(limit, ended).await.is_ok()
    }

    async fn ended_cleanly(&mut self) {
        let read = soon(self.stream.read(&mut [0])).await;
        assert_eq!(read.expect("no reset"), 0, "the link ends behind a Refuse");
    }

    /// Reads the node's Activate, answering the Ping by which it makes sure that a new incarnation lives.
    async fn expect_activate(&mut self) -> u64 {
        loop {
            let (kind, body) = self.next().await.expect("an Activate");
            assert_eq!(kind, FrameKind::CONTROL);
            match decode(&body) {
                Control::Activate { generation, .. } => return generation,
                Control::Ping { nonce, .. } => {
                    self.send(&Control::Pong { nonce, received: 0 }.frame()).await;
                }
                other => panic!("an Activate was due, not {other:?}"),
            }
        }
    }

    async fn next_whenever(&mut self) -> Option<(FrameKind, Vec<u8>)> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("the node's frames are whole") {
                return Some((frame.kind, frame.body.to_vec()));
            }
            match self.stream.read(self.decoder.space()).await {
                Ok(0) | Err(_) => return None,
                Ok(bytes) => self.decoder.filled(bytes),
            }
        }
    }
}

impl Hello {
    /// Gives the whole HELLO frame of version 1.
    pub(crate) fn frame(&self) -> Vec<u8> {
        self.frame_of_versions(1, 1)
    }

    /// Gives the whole HELLO frame, offering these versions.
    pub(crate) fn frame_of_versions(&self, min_version: u8, max_version: u8) -> Vec<u8> {
        let mut body = Vec::new();
        HelloPrefix { min_version, max_version }.encode(&mut body);
        body.extend(encode(self));
        frame(FrameKind::HELLO, &body)
    }
}

impl Control {
    /// Gives the whole CONTROL frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        frame(FrameKind::CONTROL, &encode(self))
    }
}

/// Claims a low port: this client chooses the link.
pub(crate) fn chooser(uid: u64) -> Unique {
    Unique { address: format!("tcp://{SYSTEM}@127.0.0.1:1"), uid }
}

/// Claims a high port, out of the range that systems hand out: the node chooses the link.
pub(crate) fn follower(uid: u64) -> Unique {
    Unique { address: format!("tcp://{SYSTEM}@127.0.0.1:65535"), uid }
}

/// Listens for a node to dial.
pub(crate) async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

/// Gives the address that a node reaches the listener at.
pub(crate) fn address_of(listener: &TcpListener) -> String {
    let port = listener.local_addr().expect("a bound socket").port();
    format!("tcp://{SYSTEM}@127.0.0.1:{port}")
}

/// Spells a frame.
pub(crate) fn frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).expect("a short body");
    [&length.to_be_bytes()[..], &[kind.0], body].concat()
}

/// Spells a tell whose texts are literals.
pub(crate) fn tell(target: &str, wire_name: &str, payload: &[u8]) -> Vec<u8> {
    let header = TellHeader::new(TextRef::Literal(target), TextRef::Literal(wire_name));
    tell_with(&header, payload)
}

/// Spells a tell with this header.
pub(crate) fn tell_with(header: &TellHeader<'_>, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mark = wire::begin(&mut out, FrameKind::TELL);
    header.encode(&mut out).expect("texts within the limit");
    out.extend_from_slice(payload);
    wire::finish(&mut out, mark, usize::MAX).expect("a length");
    out
}

/// Spells a tell by dictionary ids.
pub(crate) fn tell_by_id(target: u16, manifest: u16, payload: &[u8]) -> Vec<u8> {
    tell_with(&TellHeader::new(id(target), id(manifest)), payload)
}

/// Spells a reply whose name is a literal.
pub(crate) fn reply(correlation: u64, wire_name: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let header = ReplyHeader::new(correlation, TextRef::Literal(wire_name));
    header.encode(&mut body).expect("a text within the limit");
    body.extend_from_slice(payload);
    frame(FrameKind::REPLY, &body)
}

/// Spells a definition.
pub(crate) fn define(id: u16, text: &str) -> Vec<u8> {
    frame(FrameKind::DEFINE, &[&id.to_be_bytes()[..], text.as_bytes()].concat())
}

/// Refers to a text by its id.
pub(crate) fn id(id: u16) -> TextRef<'static> {
    TextRef::Id(TextId::new(id).expect("an id within the dictionary"))
}

/// Encodes in the format of messages and PDUs.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).expect("a plain value")
}

/// Decodes what must be one value and nothing else.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> T {
    let decoded = bincode::serde::decode_from_slice(bytes, bincode::config::standard());
    let (value, used) = decoded.expect("the format of this test");
    assert_eq!(used, bytes.len(), "bytes behind the value");
    value
}

/// Waits for what must happen soon.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens in time")
}

/// The actor system of these tests.
pub(crate) const SYSTEM: &str = "Hostile";
/// How long anything may take: ample, because the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
