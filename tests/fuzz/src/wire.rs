//! Feeds the frame decoder, the headers, and the PDUs of handshake and control.

use std::fmt::Debug;

use tellwire::fuzzing;
use tellwire::wire::{
    ChunkHeader, Define, Dictionary, FrameDecoder, FrameError, FrameKind, HelloPrefix, RawFrame,
    ReplyHeader, TellHeader,
};

use super::{Verdict, shown, verdict};

/// Reads a stream of frames in pieces, and compares it with the same stream cut by a few plain lines.
///
/// The first byte sets the limit of a frame, the second the pieces; the rest is the stream.
pub fn frames(bytes: &[u8]) -> Verdict {
    let [limit, pieces, stream @ ..] = bytes else { return Verdict::Refused };
    let limit = 1 + usize::from(*limit) * 16;
    let mut decoder = FrameDecoder::new(limit);
    let mut rest = stream;
    let mut unread = stream;
    let mut pieces = Pieces(*pieces);
    while !unread.is_empty() {
        let space = decoder.space();
        let length = pieces.next().min(space.len()).min(unread.len());
        let (piece, later) = unread.split_at(length);
        space[..length].copy_from_slice(piece);
        decoder.filled(length);
        unread = later;
        let arrived = stream.len() - unread.len();
        assert!(decoder.capacity() <= FIRST_BUFFER.max(2 * arrived), "after {arrived} bytes");
        loop {
            let arrived = rest.get(..rest.len() - unread.len()).expect("taken bytes have arrived");
            match (decoder.next_frame(), cut(arrived, limit)) {
                (Ok(Some(frame)), Ok(Some((kind, body)))) => {
                    assert_eq!(frame, RawFrame { kind, body });
                    rest = &rest[PREFIX + 1 + body.len()..];
                }
                (Ok(None), Ok(None)) => break,
                (Err(error), Err(expected)) => {
                    shown(&error);
                    assert_eq!(error, expected);
                    assert_eq!(decoder.next_frame(), Err(error), "an error that goes away");
                    return Verdict::Refused;
                }
                (found, expected) => panic!("{found:?} where {expected:?} was due"),
            }
        }
    }
    assert_eq!(decoder.buffered(), rest.len());
    assert_eq!(decoder.is_mid_frame(), !rest.is_empty());
    Verdict::Accepted
}

/// Reads one frame's header, and a Hello or a control PDU whole. The first byte is the kind.
pub fn headers(bytes: &[u8]) -> Verdict {
    let Some((kind, body)) = bytes.split_first() else { return Verdict::Refused };
    let raw = RawFrame { kind: FrameKind(*kind), body };
    let read = fuzzing::read(raw);
    if let Err(error) = &read {
        shown(error);
    }
    match raw.kind {
        FrameKind::HELLO => {
            let write = |prefix: &HelloPrefix, out: &mut Vec<u8>| {
                prefix.encode(out);
                Ok(())
            };
            // The rest of a Hello is read as well, and may be wrong all the same.
            kept(body, HelloPrefix::parse, write);
        }
        FrameKind::TELL => {
            assert_eq!(kept(body, TellHeader::parse, TellHeader::encode), read.is_ok())
        }
        FrameKind::REPLY => {
            assert_eq!(kept(body, ReplyHeader::parse, ReplyHeader::encode), read.is_ok());
        }
        FrameKind::CHUNK => {
            let write = |header: &ChunkHeader, out: &mut Vec<u8>| {
                header.encode(out);
                Ok(())
            };
            kept(body, ChunkHeader::parse, write);
        }
        FrameKind::DEFINE => definitions(body),
        FrameKind(_) => {}
    }
    verdict(read)
}

/// Checks that what was read of a header is written as it was, byte by byte; tells whether it was read.
fn kept<'a, H: Debug>(
    body: &'a [u8],
    parse: impl Fn(&'a [u8]) -> Result<(H, &'a [u8]), FrameError>,
    write: impl Fn(&H, &mut Vec<u8>) -> Result<(), FrameError>,
) -> bool {
    let Ok((header, rest)) = parse(body) else { return false };
    let mut out = Vec::with_capacity(body.len());
    write(&header, &mut out).expect("what was read can be written");
    // An empty list of extensions may be left out.
    let is_same = out == body[..body.len() - rest.len()];
    assert!(is_same || out.len() + 2 == body.len() - rest.len(), "{header:?} became {out:x?}");
    true
}

/// Reads a body as a definition, and as as many as fit into it, into one dictionary.
fn definitions(body: &[u8]) {
    let mut dictionary = Dictionary::new();
    for piece in std::iter::once(body).chain(body.chunks(5)) {
        let Ok(define) = Define::parse(piece) else { continue };
        let mut out = Vec::new();
        define.encode(&mut out).expect("what was read can be written");
        assert_eq!(out, piece);
        match dictionary.define(define.id, define.text) {
            Ok(()) => assert_eq!(dictionary.get(define.id), Ok(define.text)),
            Err(error) => {
                assert_eq!(error, FrameError::Redefined { id: define.id.get() });
                assert_ne!(dictionary.get(define.id), Ok(define.text));
            }
        }
    }
}

/// Cuts the first frame off what has arrived.
fn cut(arrived: &[u8], limit: usize) -> Result<Option<(FrameKind, &[u8])>, FrameError> {
    let Some((prefix, rest)) = arrived.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length > limit {
        return Err(FrameError::TooLarge { length, limit });
    }
    let Some(frame) = rest.get(..length) else { return Ok(None) };
    let Some((kind, body)) = frame.split_first() else { return Err(FrameError::ZeroLength) };
    Ok(Some((FrameKind(*kind), body)))
}

/// Gives the lengths of the pieces in which a stream arrives.
struct Pieces(u8);

impl Pieces {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(141).wrapping_add(3);
        match self.0 >> 6 {
            0 => 1,
            1 => usize::from(self.0 & 15) + 1,
            2 => usize::from(self.0) + 1,
            _ => usize::MAX,
        }
    }
}

/// The length of a frame takes so many bytes.
const PREFIX: usize = 4;
/// The smallest buffer of a decoder in bytes.
const FIRST_BUFFER: usize = 4096;
