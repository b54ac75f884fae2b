//! Speaks the wire by hand: a peer that says to a node what the test wants, frame by frame.
//!
//! A [`RawPeer`] completes the handshake, if it is asked to, and leaves the rest to the script: whole frames, halves
//! of frames, frames out of turn. The frames themselves are spelled with [`wire`].
//!
//! ```
//! use tellwire::testkit::{Network, Probe, raw::RawPeer};
//! use tellwire::{Uid, UniqueAddress, wire::FrameKind};
//!
//! # tellwire::remote_messages! {
//! #     table TEXTS, codec = tellwire::codec::Bincode;
//! #     "doc.raw.v1.Text" => Text,
//! # }
//! #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
//! struct Text(String);
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = Network::pair().await?;
//! let ada = network.node(0)?;
//! let mut probe = Probe::<Text>::register(&ada, "/user/probe")?;
//! network.crash(1).await?;
//!
//! let claims = UniqueAddress::new(network.address(1)?, Uid::new(7));
//! let mut raw = RawPeer::dial(&network.transport(1)?, &ada.address(), claims).await?;
//! raw.join().await;
//! raw.tell("/user/probe", "bincode:doc.raw.v1.Text", b"\x05hello").await;
//! probe.expect(&Text("hello".into())).await;
//!
//! raw.send_frame(FrameKind::DEFINE, b"\0\0no such id").await;
//! raw.expect_end().await;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::address::{Address, UniqueAddress};
use crate::association::control::{ControlPdu, Hello, Limits, decode_pdu};
use crate::frame::{encode_control, encode_hello};
use crate::transport::{Link, Transport, TransportError};
use crate::wire::{self, Define, Dictionary, FrameDecoder, FrameKind, TellHeader, TextRef};

/// Is one link to a node, spoken by hand. Everything that waits fails the test after 10 s.
pub struct RawPeer {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    decoder: FrameDecoder,
    dictionary: Dictionary,
    claims: UniqueAddress,
    node: Address,
}

/// Is a tell as it came from the node, its texts resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawTell {
    /// The local path it is for.
    pub target: String,
    /// What the payload is, as `codec:manifest`.
    pub wire_name: String,
    /// Its number, if it is an ask.
    pub correlation: Option<u64>,
    /// The encoded message.
    pub payload: Vec<u8>,
}

impl RawPeer {
    /// Dials a node, and says nothing yet; `claims` is who this peer will claim to be.
    ///
    /// # Errors
    /// As [`Transport::dial`].
    pub async fn dial(
        transport: &impl Transport,
        node: &Address,
        claims: UniqueAddress,
    ) -> Result<Self, TransportError> {
        Ok(Self::over(transport.dial(node).await?, node.clone(), claims))
    }

    /// Takes a link that there is already, such as one that the node has dialled.
    #[must_use]
    pub fn over(link: Link, node: Address, claims: UniqueAddress) -> Self {
        let (reader, writer) = link.split();
        let (decoder, dictionary) = (FrameDecoder::default(), Dictionary::new());
        Self { reader, writer, decoder, dictionary, claims, node }
    }

    /// Completes an honest handshake, as the side that has dialled: tells pass then, in both directions.
    ///
    /// # Panics
    /// Fails the test if the node refuses.
    pub async fn join(&mut self) {
        self.send_hello().await;
        let mut activate = Vec::new();
        in_order(encode_control(
            &ControlPdu::Activate { generation: 1, received: 0 },
            &mut activate,
        ));
        let is_chooser = *self.claims.address() < self.node;
        loop {
            match self.expect_control().await {
                ControlPdu::Welcome(_) if is_chooser => self.send(&activate).await,
                ControlPdu::Activate { .. } if is_chooser => return,
                ControlPdu::Activate { generation, .. } => {
                    let mut echo = Vec::new();
                    let pdu = ControlPdu::Activate { generation, received: 0 };
                    in_order(encode_control(&pdu, &mut echo));
                    return self.send(&echo).await;
                }
                ControlPdu::Refuse(refusal) => panic!("the node refuses the handshake: {refusal}"),
                ControlPdu::Ping { nonce, .. } => self.send_pong(nonce).await,
                _ => {}
            }
        }
    }

    /// Sends an honest Hello, and nothing else.
    ///
    /// # Panics
    /// Fails the test if the node does not take it.
    pub async fn send_hello(&mut self) {
        let hello = Hello {
            from: self.claims.clone(),
            to: self.node.clone(),
            limits: Limits { max_message: MAX_MESSAGE },
            registry: 0,
            seen: None,
        };
        let mut out = Vec::new();
        in_order(encode_hello(&hello, &mut out));
        self.send(&out).await;
    }

    /// Sends bytes, whatever they are.
    ///
    /// # Panics
    /// Fails the test if the node does not take them.
    pub async fn send(&mut self, bytes: &[u8]) {
        let written = soon("the node to take bytes", self.writer.write_all(bytes)).await;
        if let Err(error) = written {
            panic!("the node does not take what is sent: {error}");
        }
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// Fails the test if the node does not take it.
    pub async fn send_frame(&mut self, kind: FrameKind, body: &[u8]) {
        let mut out = Vec::new();
        let mark = wire::begin(&mut out, kind);
        out.extend_from_slice(body);
        in_order(wire::finish(&mut out, mark, usize::MAX));
        self.send(&out).await;
    }

    /// Sends a tell to a local path of the node.
    ///
    /// # Panics
    /// Fails the test if a text is too long, or the node does not take it.
    pub async fn tell(&mut self, target: &str, wire_name: &str, payload: &[u8]) {
        let header = TellHeader::new(TextRef::Literal(target), TextRef::Literal(wire_name));
        let mut body = Vec::new();
        in_order(header.encode(&mut body));
        body.extend_from_slice(payload);
        self.send_frame(FrameKind::TELL, &body).await;
    }

    /// Reads the next frame, whatever it is; none when the link has ended or broken.
    ///
    /// # Panics
    /// Fails the test if nothing comes, or what comes is no frame.
    pub async fn next_frame(&mut self) -> Option<(FrameKind, Vec<u8>)> {
        soon("the node to send a frame", self.read_frame()).await
    }

    /// Reads up to the next frame of a kind and gives its body. On the way, pings are answered and definitions
    /// learnt; control frames and definitions that were not asked for are passed over.
    ///
    /// # Panics
    /// Fails the test if a frame of another kind comes, or none.
    pub async fn expect_frame(&mut self, kind: FrameKind) -> Vec<u8> {
        // In all, since pings keep coming.
        soon(&format!("a frame of {kind:?}"), self.find_frame(kind)).await
    }

    /// Reads up to the next tell, as [`expect_frame`](Self::expect_frame) does.
    ///
    /// # Panics
    /// Fails the test if something else comes, or nothing.
    pub async fn expect_tell(&mut self) -> RawTell {
        let body = self.expect_frame(FrameKind::TELL).await;
        let (header, payload) = in_order(TellHeader::parse(&body));
        let resolve = |text| in_order(self.dictionary.resolve(text)).to_owned();
        RawTell {
            target: resolve(header.target),
            wire_name: resolve(header.manifest),
            correlation: header.correlation,
            payload: payload.to_vec(),
        }
    }

    /// Reads to the end of the link, in order or not.
    ///
    /// # Panics
    /// Fails the test if the node keeps it open.
    pub async fn expect_end(&mut self) {
        let to_the_end = async { while self.read_frame().await.is_some() {} };
        soon("the node to end the link", to_the_end).await;
    }

    async fn find_frame(&mut self, kind: FrameKind) -> Vec<u8> {
        loop {
            let Some((found, body)) = self.read_frame().await else {
                panic!("the link ended where a frame of {kind:?} was due");
            };
            self.learn(found, &body).await;
            match found {
                found if found == kind => return body,
                FrameKind::CONTROL | FrameKind::DEFINE => {}
                other => panic!("a frame of {kind:?} was due, not of {other:?}: {body:x?}"),
            }
        }
    }

    async fn expect_control(&mut self) -> ControlPdu {
        loop {
            let Some((kind, body)) = self.next_frame().await else {
                panic!("the link ended during the handshake");
            };
            if kind == FrameKind::CONTROL {
                return in_order(decode_pdu(&body));
            }
        }
    }

    async fn learn(&mut self, kind: FrameKind, body: &[u8]) {
        if kind == FrameKind::DEFINE {
            let define = in_order(Define::parse(body));
            in_order(self.dictionary.define(define.id, define.text));
        } else if kind == FrameKind::CONTROL {
            if let Ok(ControlPdu::Ping { nonce, .. }) = decode_pdu(body) {
                self.send_pong(nonce).await;
            }
        }
    }

    async fn send_pong(&mut self, nonce: u64) {
        let mut out = Vec::new();
        in_order(encode_control(&ControlPdu::Pong { nonce, received: 0 }, &mut out));
        self.send(&out).await;
    }

    async fn read_frame(&mut self) -> Option<(FrameKind, Vec<u8>)> {
        loop {
            if let Some(frame) = in_order(self.decoder.next_frame()) {
                return Some((frame.kind, frame.body.to_vec()));
            }
            match self.reader.read(self.decoder.space()).await {
                Ok(0) | Err(_) => return None,
                Ok(bytes) => self.decoder.filled(bytes),
            }
        }
    }
}

/// Fails the test on what should be in order.
fn in_order<T, E: fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the script or the node breaks the format: {error}"),
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

impl fmt::Debug for RawPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawPeer")
            .field("claims", &self.claims)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// The largest message that the peer says it takes, in bytes.
const MAX_MESSAGE: u32 = 1 << 20;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);
