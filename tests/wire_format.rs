//! Freezes the bytes of protocol version 1 and shows that no bytes at all upset a reader.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use tellwire::wire::{
    self, ChunkHeader, ChunkStart, DEFAULT_LIMIT, Define, Extensions, FrameDecoder, FrameError,
    FrameKind, HelloPrefix, ReplyHeader, TellHeader, TextId, TextRef,
};

/// Writes one frame whose body `encode` appends.
fn written(kind: FrameKind, encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mark = wire::begin(&mut out, kind);
    encode(&mut out);
    assert_eq!(wire::finish(&mut out, mark, DEFAULT_LIMIT), Ok(out.len()));
    out
}

/// Reads `bytes` in pieces of the given sizes, in turn, and takes every frame as soon as it can.
fn read(mut bytes: &[u8], pieces: &[usize]) -> Result<Vec<(FrameKind, Vec<u8>)>, FrameError> {
    let mut decoder = FrameDecoder::default();
    let mut frames = Vec::new();
    for piece in pieces.iter().cycle() {
        let space = decoder.space();
        let size = (*piece).min(bytes.len()).min(space.len());
        space[..size].copy_from_slice(&bytes[..size]);
        decoder.filled(size);
        bytes = &bytes[size..];
        while let Some(frame) = decoder.next_frame()? {
            frames.push((frame.kind, frame.body.to_vec()));
        }
        if bytes.is_empty() {
            break;
        }
    }
    Ok(frames)
}

/// Asserts that `bytes` are one frame and returns its body.
fn body_of(bytes: &[u8], kind: FrameKind) -> Vec<u8> {
    let mut frames = read(bytes, &[usize::MAX]).expect("frames within the limit");
    assert_eq!(frames.len(), 1);
    let (found, body) = frames.remove(0);
    assert_eq!(found, kind);
    body
}

fn id(number: u16) -> TextRef<'static> {
    TextRef::Id(TextId::new(number).expect("an id from 1 to 1024"))
}

fn parsed_tell(body: &[u8]) -> Result<(), FrameError> {
    TellHeader::parse(body).map(|_| ())
}

#[test]
fn hello_has_its_golden_bytes() {
    let golden = [0, 0, 0, 9, 1, b'T', b'W', b'R', b'1', 1, 3, 0xca, 0xfe];
    let hello = HelloPrefix { min_version: 1, max_version: 3 };
    let bytes = written(FrameKind::HELLO, |out| {
        hello.encode(out);
        out.extend_from_slice(&[0xca, 0xfe]);
    });
    assert_eq!(bytes, golden);
    let body = body_of(&golden, FrameKind::HELLO);
    assert_eq!(HelloPrefix::parse(&body), Ok((hello, &[0xca, 0xfe][..])));
}

#[test]
fn control_and_gossip_have_their_golden_bytes() {
    let control = written(FrameKind::CONTROL, |out| out.extend_from_slice(&[7, 8]));
    assert_eq!(control, [0, 0, 0, 3, 2, 7, 8]);
    assert_eq!(body_of(&control, FrameKind::CONTROL), [7, 8]);
    let gossip = written(FrameKind::GOSSIP, |_| ());
    assert_eq!(gossip, [0, 0, 0, 1, 3]);
    assert_eq!(body_of(&gossip, FrameKind::GOSSIP), []);
}

#[test]
fn plain_tell_with_ids_has_its_golden_bytes() {
    let golden = [0, 0, 0, 9, 4, 0, 0x04, 0x00, 0x00, 0x02, b'a', b'b', b'c'];
    let header = TellHeader::new(id(1024), id(2));
    let bytes = written(FrameKind::TELL, |out| {
        header.encode(out).unwrap();
        out.extend_from_slice(b"abc");
    });
    assert_eq!(bytes, golden);
    let body = body_of(&golden, FrameKind::TELL);
    assert_eq!(TellHeader::parse(&body), Ok((header, &b"abc"[..])));
}

#[test]
fn tell_with_every_field_has_its_golden_bytes() {
    #[rustfmt::skip]
    let golden = [
        0, 0, 0, 42, 4,
        0b111,
        0, 0, 0, 2, b'/', b'a',                     // target, literal
        0, 5,                                       // manifest
        0, 0, 0, 3, b'/', 0xc3, 0xa9,               // sender, literal
        1, 2, 3, 4, 5, 6, 7, 8,                     // correlation
        0, 9, 1, 0, 1, 0xaa, 200, 0, 2, 0xbb, 0xcc, // extensions 1 and 200
        b'p', b'a', b'y', b'l', b'o', b'd',
    ];
    let mut records = Vec::new();
    Extensions::append(&mut records, 1, &[0xaa]).unwrap();
    Extensions::append(&mut records, 200, &[0xbb, 0xcc]).unwrap();
    let header = TellHeader {
        sender: Some(TextRef::Literal("/é")),
        correlation: Some(0x0102_0304_0506_0708),
        extensions: Extensions::parse(&records).unwrap(),
        ..TellHeader::new(TextRef::Literal("/a"), id(5))
    };
    let bytes = written(FrameKind::TELL, |out| {
        header.encode(out).unwrap();
        out.extend_from_slice(b"paylod");
    });
    assert_eq!(bytes, golden);
    let body = body_of(&golden, FrameKind::TELL);
    assert_eq!(TellHeader::parse(&body), Ok((header, &b"paylod"[..])));
}

#[test]
fn reply_has_its_golden_bytes() {
    let golden = [0, 0, 0, 13, 5, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 3, b'y'];
    let header = ReplyHeader::new(258, id(3));
    let bytes = written(FrameKind::REPLY, |out| {
        header.encode(out).unwrap();
        out.push(b'y');
    });
    assert_eq!(bytes, golden);
    let body = body_of(&golden, FrameKind::REPLY);
    assert_eq!(ReplyHeader::parse(&body), Ok((header, &b"y"[..])));
}

#[test]
fn reply_with_extensions_has_its_golden_bytes() {
    let golden = [0, 0, 0, 17, 5, 4, 0, 0, 0, 0, 0, 0, 0, 9, 0, 3, 0, 3, 6, 0, 0];
    let extensions = Extensions::parse(&[6, 0, 0]).unwrap();
    let header = ReplyHeader { extensions, ..ReplyHeader::new(9, id(3)) };
    assert_eq!(written(FrameKind::REPLY, |out| header.encode(out).unwrap()), golden);
    let body = body_of(&golden, FrameKind::REPLY);
    assert_eq!(ReplyHeader::parse(&body), Ok((header, &[][..])));
}

#[test]
fn define_has_its_golden_bytes() {
    let golden = [0, 0, 0, 5, 6, 1, 0, b'/', b'x'];
    let define = Define { id: TextId::new(256).unwrap(), text: "/x" };
    assert_eq!(written(FrameKind::DEFINE, |out| define.encode(out).unwrap()), golden);
    assert_eq!(Define::parse(&body_of(&golden, FrameKind::DEFINE)), Ok(define));
}

#[test]
fn first_chunk_has_its_golden_bytes() {
    let golden = [0, 0, 0, 12, 7, 0, 0, 0, 5, 1, 0, 1, 0, 0, 4, 0xee];
    let start = ChunkStart { total: 65_536, kind: FrameKind::TELL };
    let header = ChunkHeader { message: 5, start: Some(start), is_last: false };
    let bytes = written(FrameKind::CHUNK, |out| {
        header.encode(out);
        out.push(0xee);
    });
    assert_eq!(bytes, golden);
    let body = body_of(&golden, FrameKind::CHUNK);
    assert_eq!(ChunkHeader::parse(&body), Ok((header, &[0xee][..])));
}

#[test]
fn last_chunk_has_its_golden_bytes() {
    let golden = [0, 0, 0, 7, 7, 0, 0, 1, 0, 2, 0xee];
    let header = ChunkHeader { message: 256, start: None, is_last: true };
    let bytes = written(FrameKind::CHUNK, |out| {
        header.encode(out);
        out.push(0xee);
    });
    assert_eq!(bytes, golden);
    let body = body_of(&golden, FrameKind::CHUNK);
    assert_eq!(ChunkHeader::parse(&body), Ok((header, &[0xee][..])));
}

#[test]
fn unknown_kinds_are_handed_up() {
    assert_eq!(body_of(&[0, 0, 0, 2, 99, 1], FrameKind(99)), [1]);
}

#[test]
fn hello_of_something_else_is_refused() {
    let found = *b"HTTP";
    assert_eq!(HelloPrefix::parse(b"HTTP/1.1"), Err(FrameError::BadMagic { found }));
    assert_eq!(HelloPrefix::parse(b"TWR"), Err(FrameError::Truncated { what: "magic" }));
    assert_eq!(HelloPrefix::parse(b"TWR1\x01"), Err(FrameError::Truncated { what: "versions" }));
}

#[test]
fn hello_without_a_version_is_refused() {
    let none = FrameError::VersionRange { min: 0, max: 1 };
    assert_eq!(HelloPrefix::parse(b"TWR1\x00\x01"), Err(none));
    let empty = FrameError::VersionRange { min: 2, max: 1 };
    assert_eq!(HelloPrefix::parse(b"TWR1\x02\x01"), Err(empty));
}

#[test]
fn reserved_flags_are_refused_in_every_header() {
    let tell = [0b1000_1001, 0, 1, 0, 1, 0, 1];
    assert_eq!(parsed_tell(&tell), Err(FrameError::ReservedFlags { flags: 0b1000_1000 }));
    let reply = [0b0000_0011, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let refused = FrameError::ReservedFlags { flags: 0b0000_0011 };
    assert_eq!(ReplyHeader::parse(&reply), Err(refused));
    let chunk = [0, 0, 0, 0, 0b0000_0110];
    let refused = FrameError::ReservedFlags { flags: 0b0000_0100 };
    assert_eq!(ChunkHeader::parse(&chunk), Err(refused));
}

#[test]
fn text_ids_out_of_range_are_refused() {
    let refused = FrameError::IdOutOfRange { id: 1025 };
    assert_eq!(parsed_tell(&[0, 0x04, 0x01, 0, 1]), Err(refused));
    assert_eq!(Define::parse(&[0x04, 0x01, b'x']), Err(refused));
    assert_eq!(Define::parse(&[0, 0, b'x']), Err(FrameError::IdOutOfRange { id: 0 }));
}

#[test]
fn literals_have_1_to_512_bytes_of_utf8() {
    assert_eq!(parsed_tell(&[0, 0, 0, 0, 0, 0, 1]), Err(FrameError::TextLength { len: 0 }));
    assert_eq!(parsed_tell(&[0, 0, 0, 2, 1]), Err(FrameError::TextLength { len: 513 }));
    let not_utf8 = FrameError::NotUtf8 { what: "target" };
    assert_eq!(parsed_tell(&[0, 0, 0, 0, 1, 0xff, 0, 1]), Err(not_utf8));
    for (len, expected) in [(0, false), (1, true), (512, true), (513, false)] {
        let text = "x".repeat(len);
        let mut out = Vec::new();
        assert_eq!(TextRef::Literal(&text).encode(&mut out).is_ok(), expected);
        assert_eq!(out.len(), if expected { 4 + len } else { 0 });
        let define = [&[0, 1], text.as_bytes()].concat();
        assert_eq!(Define::parse(&define).is_ok(), expected);
    }
}

#[test]
fn every_cut_of_a_header_is_an_error() {
    let header = TellHeader {
        sender: Some(TextRef::Literal("/s")),
        correlation: Some(1),
        extensions: Extensions::parse(&[1, 0, 1, 0]).unwrap(),
        ..TellHeader::new(TextRef::Literal("/a"), TextRef::Literal("m"))
    };
    let mut body = Vec::new();
    header.encode(&mut body).unwrap();
    for cut in 0..body.len() {
        let error = parsed_tell(&body[..cut]).unwrap_err();
        assert!(matches!(error, FrameError::Truncated { .. }), "cut at {cut}: {error}");
    }
    assert_eq!(parsed_tell(&body), Ok(()));
}

#[test]
fn extension_records_must_fill_their_length_exactly() {
    let value = FrameError::Truncated { what: "extension value" };
    assert_eq!(parsed_tell(&[4, 0, 1, 0, 1, 0, 4, 1, 0, 2, 0xaa, 0xbb]), Err(value));
    let length = FrameError::Truncated { what: "extension length" };
    assert_eq!(parsed_tell(&[4, 0, 1, 0, 1, 0, 5, 1, 0, 1, 0xaa, 9, 0, 0]), Err(length));
    assert_eq!(parsed_tell(&[4, 0, 1, 0, 1, 0, 4, 1, 0, 1, 0xaa]), Ok(()));
}

#[test]
fn unknown_extensions_are_stepped_over() {
    let extensions = Extensions::parse(&[250, 0, 2, 1, 2, 3, 0, 1, 7, 3, 0, 1, 8]).unwrap();
    assert_eq!(extensions.get(3), Some(&[7][..]));
    assert_eq!(extensions.get(4), None);
    assert_eq!(extensions.records().count(), 3);
}

#[test]
fn extensions_beyond_their_length_field_are_refused() {
    let mut records = Vec::new();
    Extensions::append(&mut records, 1, &[0; 65_532]).unwrap();
    assert_eq!(records.len(), 65_535);
    let refused = FrameError::ExtensionsLength { len: 65_538 };
    assert_eq!(Extensions::append(&mut records, 2, &[]), Err(refused));
    assert!(Extensions::parse(&records).is_ok());
    let refused = FrameError::ExtensionsLength { len: 65_536 };
    assert_eq!(Extensions::parse(&[0; 65_536]), Err(refused));
}

/// Owns what a [`TextRef`] borrows.
#[derive(Clone, Debug)]
enum Text {
    Literal(String),
    Id(u16),
}

impl Text {
    fn any() -> impl Strategy<Value = Self> {
        let literal = "\\PC{1,100}".prop_map(Self::Literal);
        prop_oneof![literal, (1..=1024u16).prop_map(Self::Id)]
    }

    fn as_ref(&self) -> TextRef<'_> {
        match self {
            Self::Literal(text) => TextRef::Literal(text),
            Self::Id(number) => id(*number),
        }
    }
}

fn any_records() -> impl Strategy<Value = Vec<u8>> {
    vec((any::<u8>(), vec(any::<u8>(), 0..20)), 0..4).prop_map(|all| {
        let mut records = Vec::new();
        for (id, value) in all {
            Extensions::append(&mut records, id, &value).expect("few short records");
        }
        records
    })
}

fn any_frame() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let size = prop_oneof![9 => 0..200usize, 1 => 0..20_000usize];
    (any::<u8>(), size.prop_flat_map(|size| vec(any::<u8>(), size)))
}

fn any_optional<T: Clone + std::fmt::Debug>(
    some: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    prop_oneof![Just(()).prop_map(|()| None), some.prop_map(Some)]
}

proptest! {
    #[test]
    fn any_cutting_of_a_stream_gives_the_same_frames(
        frames in vec(any_frame(), 0..20),
        pieces in vec(1..5000usize, 1..20),
    ) {
        let mut stream = Vec::new();
        for (kind, body) in &frames {
            stream.extend(written(FrameKind(*kind), |out| out.extend_from_slice(body)));
        }
        let expected: Vec<_> =
            frames.into_iter().map(|(kind, body)| (FrameKind(kind), body)).collect();
        prop_assert_eq!(read(&stream, &pieces), Ok(expected));
    }

    #[test]
    fn byte_by_byte_gives_the_same_frames(kind: u8, body in vec(any::<u8>(), 0..100)) {
        let stream = written(FrameKind(kind), |out| out.extend_from_slice(&body)).repeat(3);
        prop_assert_eq!(read(&stream, &[1]), Ok(vec![(FrameKind(kind), body); 3]));
    }

    #[test]
    fn no_bytes_upset_the_decoder(
        bytes in vec(prop_oneof![Just(0u8), any::<u8>()], 0..3000),
        pieces in vec(1..400usize, 1..10),
    ) {
        if let Ok(frames) = read(&bytes, &pieces) {
            let taken: usize = frames.iter().map(|(_, body)| body.len() + 5).sum();
            prop_assert!(taken <= bytes.len());
        }
    }

    #[test]
    fn no_bytes_upset_a_parser(
        flags in 0..8u8,
        rest in vec(prop_oneof![3 => Just(0u8), 1 => 0..4u8, 1 => any::<u8>()], 0..60),
    ) {
        let body = [&[flags], &rest[..]].concat();
        if let Ok((header, payload)) = TellHeader::parse(&body) {
            prop_assert!(payload.len() + 5 <= body.len());
            prop_assert!(header.extensions.records().count() <= body.len());
        }
        if let Ok((_, payload)) = ReplyHeader::parse(&body) {
            prop_assert!(payload.len() + 11 <= body.len());
        }
        if let Ok((_, bytes)) = ChunkHeader::parse(&rest) {
            prop_assert!(bytes.len() + 5 <= rest.len());
        }
        if let Ok(define) = Define::parse(&rest) {
            prop_assert_eq!(define.text.len() + 2, rest.len());
        }
        let magic = [b"TWR1", &rest[..]].concat();
        if let Ok((hello, opaque)) = HelloPrefix::parse(&magic) {
            prop_assert!(1 <= hello.min_version && hello.min_version <= hello.max_version);
            prop_assert_eq!(opaque.len() + 2, rest.len());
        }
    }

    #[test]
    fn tell_reads_back_as_it_was_written(
        target in Text::any(),
        manifest in Text::any(),
        sender in any_optional(Text::any()),
        correlation: Option<u64>,
        records in any_records(),
        payload in vec(any::<u8>(), 0..100),
    ) {
        let header = TellHeader {
            target: target.as_ref(),
            manifest: manifest.as_ref(),
            sender: sender.as_ref().map(Text::as_ref),
            correlation,
            extensions: Extensions::parse(&records).unwrap(),
        };
        let mut body = Vec::new();
        header.encode(&mut body).unwrap();
        body.extend_from_slice(&payload);
        prop_assert_eq!(TellHeader::parse(&body), Ok((header, &payload[..])));
    }

    #[test]
    fn plain_tell_in_one_piece_is_what_its_pieces_give(
        before in vec(any::<u8>(), 0..20),
        target in 1_u16..=1024,
        manifest in 1_u16..=1024,
        payload in vec(any::<u8>(), 0..300),
    ) {
        let (mut pieces, mut whole) = (before.clone(), before);
        let mark = wire::begin(&mut pieces, FrameKind::TELL);
        prop_assert_eq!(TellHeader::new(id(target), id(manifest)).encode(&mut pieces), Ok(()));
        pieces.extend_from_slice(&payload);
        prop_assert!(wire::finish(&mut pieces, mark, usize::MAX).is_ok());
        let (target, manifest) = (TextId::new(target).unwrap(), TextId::new(manifest).unwrap());
        prop_assert_eq!(TellHeader::encode_plain(target, manifest, &payload, &mut whole), Ok(()));
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn reply_reads_back_as_it_was_written(
        correlation: u64,
        manifest in Text::any(),
        records in any_records(),
        payload in vec(any::<u8>(), 0..100),
    ) {
        let extensions = Extensions::parse(&records).unwrap();
        let header = ReplyHeader { correlation, manifest: manifest.as_ref(), extensions };
        let mut body = Vec::new();
        header.encode(&mut body).unwrap();
        body.extend_from_slice(&payload);
        prop_assert_eq!(ReplyHeader::parse(&body), Ok((header, &payload[..])));
    }

    #[test]
    fn chunk_hello_and_define_read_back_as_they_were_written(
        message: u32,
        start: Option<(u32, u8)>,
        is_last: bool,
        number in 1..=1024u16,
        text in "\\PC{1,100}",
        versions in (1..=255u8, 1..=255u8),
    ) {
        let mut body = Vec::new();
        let start = start.map(|(total, kind)| ChunkStart { total, kind: FrameKind(kind) });
        let chunk = ChunkHeader { message, start, is_last };
        chunk.encode(&mut body);
        prop_assert_eq!(ChunkHeader::parse(&body), Ok((chunk, &[][..])));

        body.clear();
        let define = Define { id: TextId::new(number).unwrap(), text: &text };
        define.encode(&mut body).unwrap();
        prop_assert_eq!(Define::parse(&body), Ok(define));

        body.clear();
        let (min_version, max_version) =
            (versions.0.min(versions.1), versions.0.max(versions.1));
        let hello = HelloPrefix { min_version, max_version };
        hello.encode(&mut body);
        prop_assert_eq!(HelloPrefix::parse(&body), Ok((hello, &[][..])));
    }
}
