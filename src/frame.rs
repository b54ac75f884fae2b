//! Names what a frame carries: the multiplexer's one table.
//!
//! Floor 3: the only place where a frame kind meets its meaning. Gossip and tells share one association here.
//!
//! | kind | case | goes to |
//! |---|---|---|
//! | 1 HELLO | [`ClusterFrame::Hello`] | the acceptor's handshake |
//! | 2 CONTROL | [`ClusterFrame::Control`] | the association |
//! | 3 GOSSIP | [`ClusterFrame::Gossip`] | the gossip sink |
//! | 4 TELL | [`ClusterFrame::Tell`] | the remote message sink |
//! | 5 REPLY | [`ClusterFrame::Reply`] | the ask that waits for it |
//! | 6 DEFINE | [`ClusterFrame::Define`] | the link's dictionary |
//! | 7 CHUNK | [`ClusterFrame::Chunk`] | the link's reassembly, and on as a tell or reply |
//! | any other | [`ClusterFrame::Unknown`] | counted and skipped |

use std::time::Duration;

use crate::association::control::{ControlPdu, Hello, PduError, decode_pdu, encode_pdu};
use crate::codec::ListFault;
use crate::wire::{
    self, ChunkHeader, Define, Extensions, FrameError, FrameKind, HelloPrefix, RawFrame,
    ReplyHeader, TellHeader,
};

/// A frame, parsed; payloads are slices of the link's buffer.
#[derive(Debug)]
pub(crate) enum ClusterFrame<'a> {
    /// Opens a link; its body is parsed once the version is known to fit.
    Hello(HelloPrefix, &'a [u8]),
    /// Keeps the association.
    Control(ControlPdu),
    /// Carries a PDU of the cluster's gossip.
    Gossip(&'a [u8]),
    /// Carries a message to an actor.
    Tell(TellHeader<'a>, &'a [u8]),
    /// Carries the reply to an ask.
    Reply(ReplyHeader<'a>, &'a [u8]),
    /// Gives a text an id on this link.
    Define(Define<'a>),
    /// Carries a piece of a tell or reply.
    Chunk(ChunkHeader, &'a [u8]),
    /// Of a kind that this version does not know.
    Unknown,
}

impl<'a> ClusterFrame<'a> {
    /// Parses a frame; an error is a violation of the protocol by the peer.
    #[inline]
    pub(crate) fn parse(raw: RawFrame<'a>) -> Result<Self, FrameFault> {
        Ok(match raw.kind {
            FrameKind::TELL => {
                let (header, payload) = TellHeader::parse(raw.body)?;
                Self::Tell(header, payload)
            }
            FrameKind::REPLY => {
                let (header, payload) = ReplyHeader::parse(raw.body)?;
                Self::Reply(header, payload)
            }
            FrameKind::GOSSIP => Self::Gossip(raw.body),
            FrameKind::CONTROL => Self::Control(decode_pdu(raw.body)?),
            FrameKind::DEFINE => Self::Define(Define::parse(raw.body)?),
            FrameKind::CHUNK => {
                let (header, bytes) = ChunkHeader::parse(raw.body)?;
                Self::Chunk(header, bytes)
            }
            FrameKind::HELLO => {
                let (prefix, body) = HelloPrefix::parse(raw.body)?;
                Self::Hello(prefix, body)
            }
            _ => Self::Unknown,
        })
    }
}

/// Says how a peer broke the rules of the wire; its link is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameFault {
    /// The frame or a header in it.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A control PDU or a Hello.
    #[error(transparent)]
    Pdu(#[from] PduError),
    /// A list of accepted codecs.
    #[error(transparent)]
    List(#[from] ListFault),
    /// A frame that has no place here.
    #[error("a frame out of turn")]
    OutOfTurn,
    /// A chunk that does not continue the message that its link is bringing.
    #[error(transparent)]
    Chunk(#[from] ChunkFault),
}

/// Says which rule a chunk breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkFault {
    /// It begins a message while another one is incomplete.
    #[error("a chunk begins message {message} inside another")]
    Nested { message: u32 },
    /// It continues a message that has not begun.
    #[error("a chunk continues message {message}, which has not begun")]
    Unbegun { message: u32 },
    /// It begins what may not be cut into chunks.
    #[error("a chunk of a frame of kind {0}")]
    Kind(u8),
    /// It announces more than this node takes.
    #[error("chunks of {total} bytes in all, allowed are {limit}")]
    TooLarge { total: usize, limit: usize },
    /// It has no byte of the message.
    #[error("a chunk of nothing")]
    Empty,
    /// It brings more than was announced, or ends before that.
    #[error("chunks with {bytes} bytes of {total} that were announced")]
    Total { bytes: usize, total: usize },
}

/// Appends a control frame.
pub(crate) fn encode_control(pdu: &ControlPdu, out: &mut Vec<u8>) -> Result<(), FrameFault> {
    let mark = wire::begin(out, FrameKind::CONTROL);
    encode_pdu(pdu, out).inspect_err(|_| wire::abandon(out, mark))?;
    wire::finish(out, mark, wire::DEFAULT_LIMIT)?;
    Ok(())
}

/// Appends a Hello frame.
pub(crate) fn encode_hello(hello: &Hello, out: &mut Vec<u8>) -> Result<(), FrameFault> {
    let mark = wire::begin(out, FrameKind::HELLO);
    let version = wire::PROTOCOL_VERSION;
    HelloPrefix { min_version: version, max_version: version }.encode(out);
    encode_pdu(hello, out).inspect_err(|_| wire::abandon(out, mark))?;
    wire::finish(out, mark, wire::DEFAULT_LIMIT)?;
    Ok(())
}

/// Appends a gossip frame.
pub(crate) fn encode_gossip(pdu: &[u8], out: &mut Vec<u8>) -> Result<(), FrameFault> {
    let mark = wire::begin(out, FrameKind::GOSSIP);
    out.extend_from_slice(pdu);
    wire::finish(out, mark, wire::DEFAULT_LIMIT)?;
    Ok(())
}

/// Appends a Define frame.
pub(crate) fn encode_define(define: Define<'_>, out: &mut Vec<u8>) -> Result<(), FrameFault> {
    let mark = wire::begin(out, FrameKind::DEFINE);
    define.encode(out).inspect_err(|_| wire::abandon(out, mark))?;
    wire::finish(out, mark, wire::DEFAULT_LIMIT)?;
    Ok(())
}

/// Reads how long the asker still waits, if the header says so.
pub(crate) fn deadline(extensions: Extensions<'_>) -> Option<Duration> {
    let millis = extensions.get(EXT_DEADLINE)?.first_chunk::<4>()?;
    Some(Duration::from_millis(u64::from(u32::from_be_bytes(*millis))))
}

/// Spells how long the asker still waits, for the header of an ask.
pub(crate) fn deadline_record(wait: Duration) -> [u8; 7] {
    let millis = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).to_be_bytes();
    let [a, b, c, d] = millis;
    [EXT_DEADLINE, 0, 4, a, b, c, d]
}

/// Header extension of an ask: how many milliseconds the asker still waits, as u32 big-endian.
const EXT_DEADLINE: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_survives_the_header() {
        let record = deadline_record(Duration::from_millis(1500));
        let extensions = Extensions::parse(&record).unwrap();
        assert_eq!(deadline(extensions), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn gossip_and_control_share_the_stream() {
        let mut out = Vec::new();
        encode_gossip(b"rumour", &mut out).unwrap();
        encode_control(&ControlPdu::Goodbye, &mut out).unwrap();
        let (first, rest) = wire::split_frame(&out).unwrap();
        assert!(matches!(ClusterFrame::parse(first), Ok(ClusterFrame::Gossip(b"rumour"))));
        let (second, rest) = wire::split_frame(rest).unwrap();
        let second = ClusterFrame::parse(second);
        assert!(matches!(second, Ok(ClusterFrame::Control(ControlPdu::Goodbye))));
        assert!(rest.is_empty());
    }
}
