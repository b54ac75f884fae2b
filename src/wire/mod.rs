//! Lays out and reads the bytes of the protocol, without giving them a meaning.
//!
//! This page is the format document of protocol version 1; the golden bytes in
//! `tests/wire_format.rs` freeze it. The module sits on the lowest floor: it knows frames, header
//! fields and the text dictionary, and neither performs IO nor imports anything else of the crate.
//! What a control, gossip or hello body says is the business of the floors above.
//!
//! All numbers are big-endian. `text` is UTF-8 of 1 to 512 bytes.
//!
//! # Frame
//!
//! ```text
//!  0        4      5                4 + length
//!  +--------+------+------------------+
//!  | length | kind | body             |
//!  | u32    | u8   | length - 1 bytes |
//!  +--------+------+------------------+
//! ```
//!
//! `length` counts the kind and the body: 1 up to the limit of the reader. A reader refuses 0 and
//! anything above its limit before it reserves memory, and must then close the link, because the
//! place where the next frame starts is unknown.
//!
//! | kind | name    | body                                                  | travels          |
//! |-----:|---------|-------------------------------------------------------|------------------|
//! |    1 | HELLO   | [`HelloPrefix`], then opaque                          | first, both ways |
//! |    2 | CONTROL | opaque                                                | any time         |
//! |    3 | GOSSIP  | opaque                                                | any time         |
//! |    4 | TELL    | [`TellHeader`], then payload                          | any time         |
//! |    5 | REPLY   | [`ReplyHeader`], then payload                         | any time         |
//! |    6 | DEFINE  | [`Define`]                                            | before first use |
//! |    7 | CHUNK   | [`ChunkHeader`], then a piece of another frame's body | any time         |
//!
//! A reader counts and skips the kinds it does not know.
//!
//! # HELLO
//!
//! ```text
//!  +-----------+-----+-----+----------------+
//!  | "T W R 1" | min | max | opaque         |
//!  | 4 bytes   | u8  | u8  | rest           |
//!  +-----------+-----+-----+----------------+
//! ```
//!
//! `min..=max` are the protocol versions the sender speaks, with `1 <= min <= max`. This layout,
//! and the frame around it, never change, whatever the version.
//!
//! # TELL
//!
//! ```text
//!  +-------+--------+----------+----------+-------------+------------+---------+
//!  | flags | target | manifest | sender   | correlation | extensions | payload |
//!  | u8    | TextRef| TextRef  | TextRef  | u64         | see below  | rest    |
//!  +-------+--------+----------+----------+-------------+------------+---------+
//!                               if SENDER   if ASK        if EXT
//!
//!  flags:  bit 0 SENDER   bit 1 ASK   bit 2 EXT   bits 3-7 zero
//! ```
//!
//! # REPLY
//!
//! ```text
//!  +-------+-------------+----------+------------+---------+
//!  | flags | correlation | manifest | extensions | payload |
//!  | u8    | u64         | TextRef  | see below  | rest    |
//!  +-------+-------------+----------+------------+---------+
//!                                     if EXT
//!
//!  flags:  bit 2 EXT   other bits zero
//! ```
//!
//! # TextRef
//!
//! ```text
//!  +------------+              +--------+--------+---------------+
//!  | 1 ..= 1024 |      or      | 0      | length | text          |
//!  | u16        |              | u16    | u16    | 1..=512 bytes |
//!  +------------+              +--------+--------+---------------+
//!   id in the dictionary        literal
//! ```
//!
//! # Extensions
//!
//! ```text
//!  +-------+----+--------+-------+----+--------+-------+ ...
//!  | bytes | id | length | value | id | length | value |
//!  | u16   | u8 | u16    |       | u8 | u16    |       |
//!  +-------+----+--------+-------+----+--------+-------+ ...
//! ```
//!
//! `bytes` counts everything behind it, and the records fill it exactly. Readers skip the ids they
//! do not know, so an extension may only carry what a receiver can do without.
//!
//! # DEFINE
//!
//! ```text
//!  +-----+---------------+
//!  | id  | text          |
//!  | u16 | 1..=512 bytes |
//!  +-----+---------------+
//! ```
//!
//! The sender gives `text` the number `id`, 1 to 1024, for this direction of this link. It may
//! arrive any time before the first use; repeating it is harmless, and giving an id a second text
//! is an error. A dictionary holds at most 1024 texts and 64 KiB of text; what does not fit travels
//! as a literal.
//!
//! # CHUNK
//!
//! ```text
//!  +---------+-------+-------+------+-------+
//!  | message | flags | total | kind | bytes |
//!  | u32     | u8    | u32   | u8   | rest  |
//!  +---------+-------+-------+------+-------+
//!                     if FIRST
//!
//!  flags:  bit 0 FIRST   bit 1 LAST   bits 2-7 zero
//! ```
//!
//! The bytes of all chunks with one `message` number, in order, are the body of a frame of `kind`,
//! which is TELL or REPLY; `total` is the size of that body. Frames of other kinds may come between
//! the chunks of a message, chunks of another message may not. A chunk has at least one byte of the
//! message, and its first one the whole header. The message takes effect with its last chunk; a
//! link that ends before has brought nothing of it.
//!
//! A reader refuses a `total` above its limit before it keeps a byte, and closes the link over any
//! chunk that breaks these rules.
//!
//! # Versions and upgrades
//!
//! * Both sides speak the highest version that lies in both HELLO ranges; without one, they part.
//! * A release speaks its own version and the one before it, so that a cluster can be upgraded
//!   node by node.
//! * A new extension id, or a new frame kind that an old reader may skip, needs no new version.
//! * A new flag, a field that moves, or a new meaning of a field needs one: within a version,
//!   reserved flags are an error, never ignored.
//! * Numbers of kinds, flags and extensions are never used again for something else.
//!
//! # Example
//!
//! ```
//! use tellwire::wire::{self, FrameDecoder, FrameKind, TellHeader, TextRef};
//!
//! let header = TellHeader::new(TextRef::Literal("/user/echo"), TextRef::Literal("echo.v1.Ping"));
//! let mut out = Vec::new();
//! let mark = wire::begin(&mut out, FrameKind::TELL);
//! header.encode(&mut out)?;
//! out.extend_from_slice(b"payload");
//! wire::finish(&mut out, mark, wire::DEFAULT_LIMIT)?;
//!
//! let mut decoder = FrameDecoder::default();
//! let room = decoder.space();
//! room[..out.len()].copy_from_slice(&out);
//! decoder.filled(out.len());
//! let frame = decoder.next_frame()?.expect("a whole frame was read");
//! assert_eq!(frame.kind, FrameKind::TELL);
//! assert_eq!(TellHeader::parse(frame.body)?, (header, &b"payload"[..]));
//! # Ok::<(), tellwire::wire::FrameError>(())
//! ```
#![warn(clippy::indexing_slicing)]

mod decoder;
mod dictionary;
mod encoder;
mod header;

pub use decoder::{FrameDecoder, RawFrame, split_frame};
pub use dictionary::{Define, Definitions, Dictionary, TextId, TextRef};
pub use encoder::{FrameMark, abandon, begin, finish};
pub use header::{ChunkHeader, ChunkStart, Extensions, HelloPrefix, ReplyHeader, TellHeader};

/// Names what a frame carries; kinds unknown to this version are handed up as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameKind(pub u8);

impl FrameKind {
    /// Opens a link: magic, versions, handshake.
    pub const HELLO: Self = Self(1);
    /// Keeps the association going.
    pub const CONTROL: Self = Self(2);
    /// Carries membership.
    pub const GOSSIP: Self = Self(3);
    /// Carries one message to a path.
    pub const TELL: Self = Self(4);
    /// Answers a tell that asked.
    pub const REPLY: Self = Self(5);
    /// Gives a text its number in the dictionary.
    pub const DEFINE: Self = Self(6);
    /// Carries a piece of a frame too long to travel in one.
    pub const CHUNK: Self = Self(7);
}

/// Says which rule of the format some bytes broke.
///
/// The errors of reading are the peer's fault and the same bytes fail again, so nothing is worth
/// retrying unless a variant says otherwise. A decoder or dictionary is unchanged by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame had no room for its kind: the peer's fault, close the link.
    #[error("frame of length 0")]
    ZeroLength,
    /// A frame was longer than allowed: read, the peer's fault, close the link; written, the
    /// caller's, and a smaller message may be tried.
    #[error("frame of {length} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// The length of the frame, kind and body, in bytes.
        length: usize,
        /// The longest length allowed, in bytes.
        limit: usize,
    },
    /// A body ended inside a field: the peer's fault, do not retry.
    #[error("body ends inside {what}")]
    Truncated {
        /// The field that was cut off.
        what: &'static str,
    },
    /// A flag was set that this version does not know: the peer's fault, do not retry.
    #[error("reserved flags {flags:#010b} are set")]
    ReservedFlags {
        /// The reserved bits that were set.
        flags: u8,
    },
    /// A text was not UTF-8: the peer's fault, do not retry.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// The field that holds the text.
        what: &'static str,
    },
    /// A text was empty or above [`TEXT_LIMIT`]: whoever made the text, do not retry.
    #[error("text of {len} bytes, allowed are 1 to {TEXT_LIMIT}")]
    TextLength {
        /// The length of the text in bytes.
        len: usize,
    },
    /// A text id was 0 or above [`DICTIONARY_ENTRIES`]: the peer's fault, do not retry.
    #[error("text id {id} is not in 1 to {DICTIONARY_ENTRIES}")]
    IdOutOfRange {
        /// The id as it was read.
        id: u16,
    },
    /// A text id was used before it was defined: the peer's fault, do not retry.
    #[error("text id {id} is not defined")]
    UnknownId {
        /// The id that has no text.
        id: u16,
    },
    /// A text id was given a second, different text: the peer's fault, close the link.
    #[error("text id {id} is already defined as another text")]
    Redefined {
        /// The id that keeps its first text.
        id: u16,
    },
    /// A definition would exceed [`DICTIONARY_BYTES`]: the peer's fault, close the link.
    #[error("dictionary holds its {DICTIONARY_BYTES} bytes of text")]
    DictionaryFull,
    /// A hello did not begin with the magic: something else than this protocol is calling, close.
    #[error("bad magic {found:02x?}")]
    BadMagic {
        /// The four bytes found instead.
        found: [u8; 4],
    },
    /// A hello offered no version at all: the peer's fault, close the link.
    #[error("version range {min} to {max} is empty or contains 0")]
    VersionRange {
        /// The lowest version offered.
        min: u8,
        /// The highest version offered.
        max: u8,
    },
    /// Extensions were longer than their length field can say: the caller's fault, send fewer.
    #[error("extensions of {len} bytes, allowed are {EXTENSIONS_LIMIT}")]
    ExtensionsLength {
        /// The length of the record or of all records in bytes.
        len: usize,
    },
}

/// Takes fields off the front of a body, each with an error that names it.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    #[inline]
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], FrameError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(FrameError::Truncated { what })?;
        self.0 = rest;
        Ok(*field)
    }

    #[inline]
    fn bytes(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], FrameError> {
        let (field, rest) = self.0.split_at_checked(len).ok_or(FrameError::Truncated { what })?;
        self.0 = rest;
        Ok(field)
    }

    #[inline]
    fn u8(&mut self, what: &'static str) -> Result<u8, FrameError> {
        self.array(what).map(u8::from_be_bytes)
    }

    #[inline]
    fn u16(&mut self, what: &'static str) -> Result<u16, FrameError> {
        self.array(what).map(u16::from_be_bytes)
    }

    #[inline]
    fn u32(&mut self, what: &'static str) -> Result<u32, FrameError> {
        self.array(what).map(u32::from_be_bytes)
    }

    #[inline]
    fn u64(&mut self, what: &'static str) -> Result<u64, FrameError> {
        self.array(what).map(u64::from_be_bytes)
    }
}

/// The four bytes every link begins its hello with.
pub const MAGIC: [u8; 4] = *b"TWR1";
/// The protocol version this document describes.
pub const PROTOCOL_VERSION: u8 = 1;
/// The longest frame a decoder accepts unless told otherwise: 16 MiB of message, 64 KiB of header.
pub const DEFAULT_LIMIT: usize = 16 * 1024 * 1024 + 64 * 1024;
/// The longest text, in bytes.
pub const TEXT_LIMIT: usize = 512;
/// The most texts a dictionary holds, and the highest text id.
pub const DICTIONARY_ENTRIES: u16 = 1024;
/// The most text a dictionary holds, in bytes.
pub const DICTIONARY_BYTES: usize = 64 * 1024;
/// The longest extensions of one header, in bytes.
pub const EXTENSIONS_LIMIT: usize = 65_535;

/// Counts the bytes of a frame's length field, which the length itself does not count.
const PREFIX: usize = 4;
