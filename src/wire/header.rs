//! Reads and writes the fixed part of each frame kind, everything before payload and opaque bytes.
//!
//! Each type has `encode`, which appends to a buffer so that a codec can put its payload straight
//! behind, and `parse`, which returns the header and the rest of the body. Neither copies a text.

use std::iter;

use super::{EXTENSIONS_LIMIT, FrameError, FrameKind, Input, MAGIC, PREFIX, TextId, TextRef};

/// Opens a HELLO body: who is calling, and in which versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloPrefix {
    /// The lowest protocol version the sender speaks, at least 1.
    pub min_version: u8,
    /// The highest protocol version the sender speaks.
    pub max_version: u8,
}

impl HelloPrefix {
    /// Appends magic and versions to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[self.min_version, self.max_version]);
    }

    /// Reads magic and versions, and returns the opaque rest of `body` with them.
    ///
    /// # Errors
    /// [`FrameError::BadMagic`], [`FrameError::VersionRange`] or [`FrameError::Truncated`].
    pub fn parse(body: &[u8]) -> Result<(Self, &[u8]), FrameError> {
        let mut input = Input(body);
        let found = input.array("magic")?;
        if found != MAGIC {
            return Err(FrameError::BadMagic { found });
        }
        let [min, max] = input.array("versions")?;
        if min == 0 || min > max {
            return Err(FrameError::VersionRange { min, max });
        }
        Ok((Self { min_version: min, max_version: max }, input.0))
    }
}

/// Opens a TELL body: where the message goes, what it is, and who wants an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TellHeader<'a> {
    /// The path the message is for.
    pub target: TextRef<'a>,
    /// The codec and manifest of the payload.
    pub manifest: TextRef<'a>,
    /// The path an answer may be told to.
    pub sender: Option<TextRef<'a>>,
    /// The number the reply to an ask must carry; none for a plain tell.
    pub correlation: Option<u64>,
    /// Optional fields, such as a trace context.
    pub extensions: Extensions<'a>,
}

impl<'a> TellHeader<'a> {
    /// Creates the header of a plain tell: no sender, no correlation, no extensions.
    #[must_use]
    pub fn new(target: TextRef<'a>, manifest: TextRef<'a>) -> Self {
        Self { target, manifest, sender: None, correlation: None, extensions: Extensions::NONE }
    }

    /// Appends the header to `out`; the payload follows.
    ///
    /// # Errors
    /// [`FrameError::TextLength`] for a literal that is empty or too long. `out` then holds half a
    /// header: [`abandon`](super::abandon) the frame.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        out.push(self.flags());
        self.target.encode(out)?;
        self.manifest.encode(out)?;
        if let Some(sender) = self.sender {
            sender.encode(out)?;
        }
        if let Some(correlation) = self.correlation {
            out.extend_from_slice(&correlation.to_be_bytes());
        }
        self.extensions.encode(out);
        Ok(())
    }

    /// Appends a whole frame with the commonest header, ids of target and manifest and nothing else: the bytes that
    /// [`encode`](Self::encode) between [`begin`](super::begin) and [`finish`](super::finish) would give, in one piece.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] if a `u32` cannot say the length; `out` is then as it was.
    #[inline]
    pub fn encode_plain(
        target: TextId,
        manifest: TextId,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let length = PLAIN - PREFIX + payload.len();
        let too_large = FrameError::TooLarge { length, limit: usize::MAX };
        let [l0, l1, l2, l3] = u32::try_from(length).map_err(|_| too_large)?.to_be_bytes();
        let ([t0, t1], [m0, m1]) = (target.get().to_be_bytes(), manifest.get().to_be_bytes());
        let front: [u8; PLAIN] = [l0, l1, l2, l3, FrameKind::TELL.0, 0, t0, t1, m0, m1];
        out.reserve(PLAIN + payload.len());
        out.extend_from_slice(&front);
        out.extend_from_slice(payload);
        Ok(())
    }

    /// Reads the commonest header, ids of target and manifest and nothing else, and returns the payload with them;
    /// `None` for any other, which is [`parse`](Self::parse)'s to read or to refuse.
    #[must_use]
    #[inline]
    pub fn parse_plain(body: &[u8]) -> Option<(TextId, TextId, &[u8])> {
        let ([0, t0, t1, m0, m1], payload) = body.split_first_chunk()? else { return None };
        let target = TextId::new(u16::from_be_bytes([*t0, *t1]))?;
        let manifest = TextId::new(u16::from_be_bytes([*m0, *m1]))?;
        Some((target, manifest, payload))
    }

    /// Reads a header, and returns the payload with it.
    ///
    /// # Errors
    /// Any broken rule of the field layout, as a [`FrameError`].
    #[inline]
    pub fn parse(body: &'a [u8]) -> Result<(Self, &'a [u8]), FrameError> {
        let mut input = Input(body);
        let flags = Flags::parse(&mut input, SENDER | ASK | EXT)?;
        let header = Self {
            target: TextRef::parse(&mut input, "target")?,
            manifest: TextRef::parse(&mut input, "manifest")?,
            sender: flags.then(SENDER, || TextRef::parse(&mut input, "sender"))?,
            correlation: flags.then(ASK, || input.u64("correlation"))?,
            extensions: Extensions::parse_if(flags, &mut input)?,
        };
        Ok((header, input.0))
    }

    #[inline]
    fn flags(&self) -> u8 {
        let sender = if self.sender.is_some() { SENDER } else { 0 };
        let ask = if self.correlation.is_some() { ASK } else { 0 };
        sender | ask | self.extensions.flag()
    }
}

/// Opens a REPLY body: which ask it answers, and what the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader<'a> {
    /// The number the ask carried.
    pub correlation: u64,
    /// The codec and manifest of the payload.
    pub manifest: TextRef<'a>,
    /// Optional fields, such as a trace context.
    pub extensions: Extensions<'a>,
}

impl<'a> ReplyHeader<'a> {
    /// Creates a header without extensions.
    #[must_use]
    pub fn new(correlation: u64, manifest: TextRef<'a>) -> Self {
        Self { correlation, manifest, extensions: Extensions::NONE }
    }

    /// Appends the header to `out`; the payload follows.
    ///
    /// # Errors
    /// [`FrameError::TextLength`] for a literal that is empty or too long. `out` then holds half a
    /// header: [`abandon`](super::abandon) the frame.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        out.push(self.extensions.flag());
        out.extend_from_slice(&self.correlation.to_be_bytes());
        self.manifest.encode(out)?;
        self.extensions.encode(out);
        Ok(())
    }

    /// Reads a header, and returns the payload with it.
    ///
    /// # Errors
    /// Any broken rule of the field layout, as a [`FrameError`].
    #[inline]
    pub fn parse(body: &'a [u8]) -> Result<(Self, &'a [u8]), FrameError> {
        let mut input = Input(body);
        let flags = Flags::parse(&mut input, EXT)?;
        let header = Self {
            correlation: input.u64("correlation")?,
            manifest: TextRef::parse(&mut input, "manifest")?,
            extensions: Extensions::parse_if(flags, &mut input)?,
        };
        Ok((header, input.0))
    }
}

/// Opens a CHUNK body: which message the bytes behind it continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The number all chunks of one message share on a link.
    pub message: u32,
    /// What the first chunk says about the whole; none in all others.
    pub start: Option<ChunkStart>,
    /// Marks the chunk that completes the message.
    pub is_last: bool,
}

/// Announces, in a first chunk, the frame that the chunks together make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkStart {
    /// The size of the whole body in bytes; a claim, to be checked before anything is reserved.
    pub total: u32,
    /// The kind of the whole frame.
    pub kind: FrameKind,
}

impl ChunkHeader {
    /// Appends the header to `out`; the bytes of the message follow.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let first = if self.start.is_some() { FIRST } else { 0 };
        let last = if self.is_last { LAST } else { 0 };
        out.extend_from_slice(&self.message.to_be_bytes());
        out.push(first | last);
        if let Some(start) = self.start {
            out.extend_from_slice(&start.total.to_be_bytes());
            out.push(start.kind.0);
        }
    }

    /// Reads a header, and returns the bytes of the message with it.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] or [`FrameError::ReservedFlags`].
    pub fn parse(body: &[u8]) -> Result<(Self, &[u8]), FrameError> {
        let mut input = Input(body);
        let message = input.u32("chunk message")?;
        let flags = Flags::parse(&mut input, FIRST | LAST)?;
        let start = flags.then(FIRST, || ChunkStart::parse(&mut input))?;
        Ok((Self { message, start, is_last: flags.has(LAST) }, input.0))
    }
}

impl ChunkStart {
    fn parse(input: &mut Input<'_>) -> Result<Self, FrameError> {
        let total = input.u32("chunk total")?;
        Ok(Self { total, kind: FrameKind(input.u8("chunk kind")?) })
    }
}

/// Holds the optional fields of a header as checked records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions<'a>(&'a [u8]);

impl<'a> Extensions<'a> {
    /// Has no records, and takes no byte on the wire.
    pub const NONE: Self = Self(&[]);

    /// Appends one record to `records`, a buffer that [`parse`](Self::parse) then makes ready for
    /// a header.
    ///
    /// # Errors
    /// [`FrameError::ExtensionsLength`] if all records together exceed [`EXTENSIONS_LIMIT`];
    /// `records` is untouched.
    pub fn append(records: &mut Vec<u8>, id: u8, value: &[u8]) -> Result<(), FrameError> {
        let len = records.len().saturating_add(RECORD_HEADER).saturating_add(value.len());
        checked_extensions(len)?;
        let value_len = checked_extensions(value.len())?;
        records.push(id);
        records.extend_from_slice(&value_len.to_be_bytes());
        records.extend_from_slice(value);
        Ok(())
    }

    /// Checks that `records` is a sequence of whole records.
    ///
    /// # Errors
    /// [`FrameError::Truncated`], or [`FrameError::ExtensionsLength`] above [`EXTENSIONS_LIMIT`].
    pub fn parse(records: &'a [u8]) -> Result<Self, FrameError> {
        checked_extensions(records.len())?;
        let mut input = Input(records);
        while !input.0.is_empty() {
            record(&mut input)?;
        }
        Ok(Self(records))
    }

    /// Goes through the records as they were written: id and value.
    pub fn records(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut input = Input(self.0);
        iter::from_fn(move || record(&mut input).ok())
    }

    /// Returns the value of the first record with this id.
    #[must_use]
    pub fn get(self, id: u8) -> Option<&'a [u8]> {
        self.records().find(|record| record.0 == id).map(|record| record.1)
    }

    #[inline]
    fn flag(self) -> u8 {
        if self.0.is_empty() { 0 } else { EXT }
    }

    #[inline]
    fn encode(self, out: &mut Vec<u8>) {
        // Checked when they were made, so the length always fits.
        if let (false, Ok(len)) = (self.0.is_empty(), u16::try_from(self.0.len())) {
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(self.0);
        }
    }

    #[inline]
    fn parse_if(flags: Flags, input: &mut Input<'a>) -> Result<Self, FrameError> {
        if !flags.has(EXT) {
            return Ok(Self::NONE);
        }
        let len = usize::from(input.u16("extensions")?);
        Self::parse(input.bytes(len, "extensions")?)
    }
}

/// Holds flags that are all known.
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    #[inline]
    fn parse(input: &mut Input<'_>, known: u8) -> Result<Self, FrameError> {
        let flags = input.u8("flags")?;
        if flags & !known != 0 {
            return Err(FrameError::ReservedFlags { flags: flags & !known });
        }
        Ok(Self(flags))
    }

    #[inline]
    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// Reads a field that is there only if `flag` is.
    #[inline]
    fn then<T>(
        self,
        flag: u8,
        read: impl FnOnce() -> Result<T, FrameError>,
    ) -> Result<Option<T>, FrameError> {
        if self.has(flag) { read().map(Some) } else { Ok(None) }
    }
}

fn record<'a>(input: &mut Input<'a>) -> Result<(u8, &'a [u8]), FrameError> {
    let id = input.u8("extension id")?;
    let len = usize::from(input.u16("extension length")?);
    Ok((id, input.bytes(len, "extension value")?))
}

fn checked_extensions(len: usize) -> Result<u16, FrameError> {
    u16::try_from(len).map_err(|_| FrameError::ExtensionsLength { len })
}

/// Bytes in front of the payload of the commonest tell: length, kind, flags, two ids.
const PLAIN: usize = PREFIX + 6;
/// A TELL names its sender.
const SENDER: u8 = 0b001;
/// A TELL carries a correlation and waits for a reply.
const ASK: u8 = 0b010;
/// A TELL or REPLY carries extensions.
const EXT: u8 = 0b100;
/// A CHUNK begins its message.
const FIRST: u8 = 0b01;
/// A CHUNK ends its message.
const LAST: u8 = 0b10;
/// The bytes of a record before its value.
const RECORD_HEADER: usize = 3;

// The length field of extensions is a u16; the public limit says the same in words.
const _: () = assert!(EXTENSIONS_LIMIT == u16::MAX as usize);
