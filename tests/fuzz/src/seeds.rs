//! Spells valid inputs for each target: where fuzzing begins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tellwire::codec::{Bincode, Codec, RemoteMessage, encode};
use tellwire::membership::ClusterId;
use tellwire::membership::exchange::{Envelope, Status, Version};
use tellwire::membership::gossip::{Gossip, GossipForm, OwnMark, RemovalTime};
use tellwire::membership::pdu::{self, Admission, Beat, MembershipPdu, SharedSettings};
use tellwire::membership::profile::{Label, Profile};
use tellwire::wire::{
    ChunkHeader, ChunkStart, Define, Extensions, FrameKind, ReplyHeader, TellHeader, TextId,
    TextRef,
};
use tellwire_cbor::Cbor;
use tellwire_json::Json;
use tellwire_messagepack::MessagePack;
use tellwire_postcard::Postcard;

use super::association::{Letter, frame, hello, opening, spelt};
use super::gossip::{node, state};
use super::parcel::{Choice, Crate, Empty, In, Parcel};

/// Gives the seeds of the target of this name; none if there is no such target.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    match name {
        "frames" => streams(),
        "headers" => bodies().iter().map(|(kind, body)| [&[kind.0], &body[..]].concat()).collect(),
        "paths" => PATHS.iter().map(|text| text.as_bytes().to_vec()).collect(),
        "gossip" => gossip(),
        "bincode" => parcels::<Bincode>(),
        "json" => parcels::<Json>(),
        "postcard" => parcels::<Postcard>(),
        "messagepack" => parcels::<MessagePack>(),
        "cbor" => parcels::<Cbor>(),
        "protobuf" => crates(),
        "association" => links(),
        _ => Vec::new(),
    }
}

fn streams() -> Vec<Vec<u8>> {
    let frames: Vec<u8> = bodies().iter().flat_map(|(kind, body)| frame(*kind, body)).collect();
    [0, 1, 2, 3].map(|pieces| [&[u8::MAX, pieces * 70], &frames[..]].concat()).into()
}

/// Gives the body of a frame of each kind, valid as it stands.
fn bodies() -> Vec<(FrameKind, Vec<u8>)> {
    let mut bodies = vec![(FrameKind::HELLO, hello("mem://Fuzz@node:1").split_off(5))];
    bodies.extend(CONTROL.iter().map(|pdu| (FrameKind::CONTROL, pdu.to_vec())));
    bodies.push((FrameKind::GOSSIP, b"rumour".to_vec()));
    bodies.extend(tells().into_iter().map(|body| (FrameKind::TELL, body)));
    let mut records = Vec::new();
    Extensions::append(&mut records, 7, b"later").expect("a short record");
    let mut reply = ReplyHeader::new(3, TextRef::Literal(LETTER));
    reply.extensions = Extensions::parse(&records).expect("a record");
    let mut body = Vec::new();
    reply.encode(&mut body).expect("a short text");
    bodies.push((FrameKind::REPLY, body));
    bodies.extend([(1, "/a"), (2, LETTER)].map(|(id, text)| (FrameKind::DEFINE, define(id, text))));
    let start = Some(ChunkStart { total: 100, kind: FrameKind::TELL });
    for (start, is_last) in [(start, false), (None, true)] {
        let mut body = Vec::new();
        ChunkHeader { message: 1, start, is_last }.encode(&mut body);
        bodies.push((FrameKind::CHUNK, [&body[..], b"piece"].concat()));
    }
    bodies.push((FrameKind(200), b"from the future".to_vec()));
    bodies
}

/// Spells tells to each actor, with all the header may hold.
fn tells() -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    Extensions::append(&mut records, 1, &1000_u32.to_be_bytes()).expect("a short record");
    let extensions = Extensions::parse(&records).expect("a record");
    let letter = spelt(&Letter("dear".to_owned()));
    let literals = ["/a", "/f", "/g", "/nobody"].map(TextRef::Literal);
    let targets = literals.into_iter().chain([TextRef::Id(id(1))]);
    let tells = targets.map(|target| {
        let by_id = matches!(target, TextRef::Id(_));
        let manifest = if by_id { TextRef::Id(id(2)) } else { TextRef::Literal(LETTER) };
        TellHeader::new(target, manifest)
    });
    let asks = tells.clone().map(|tell| TellHeader {
        sender: Some(TextRef::Literal("/user/me")),
        correlation: Some(9),
        extensions,
        ..tell
    });
    let mut bodies = Vec::new();
    for header in tells.chain(asks) {
        let mut body = Vec::new();
        header.encode(&mut body).expect("short texts");
        bodies.push([body, letter.clone()].concat());
    }
    bodies
}

fn define(number: u16, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    Define { id: id(number), text }.encode(&mut body).expect("a short text");
    body
}

fn id(number: u16) -> TextId {
    TextId::new(number).expect("a number of the dictionary")
}

fn gossip() -> Vec<Vec<u8>> {
    let label = |text: &str| text.parse::<Label>().expect("a label");
    let from = || node(1);
    let shared = BTreeMap::from([(label("codec"), label("v1"))]);
    let settings = SharedSettings::try_from(shared).expect("few settings");
    let names = vec![label("codec")];
    let profile = Profile::default().with_roles([label("web")]).expect("few roles");
    let (cluster, declined) = (ClusterId::new(300), Admission::Incompatible { names });
    let beat = Beat { from: from(), cluster, sequence: 3 };
    let version = Version::of(&state());
    let mut pdus = vec![
        MembershipPdu::InitJoin { from: from(), cluster: Some(cluster), settings },
        MembershipPdu::InitJoinAck { from: from(), cluster, admission: declined },
        MembershipPdu::InitJoinNack { from: from() },
        MembershipPdu::Join { from: from(), cluster, profile },
        MembershipPdu::Status(Status { from: from(), cluster, version }),
        MembershipPdu::Heartbeat(beat.clone()),
        MembershipPdu::HeartbeatReply(beat),
        MembershipPdu::Leave { node: from() },
        MembershipPdu::ExitingConfirmed { node: from() },
    ];
    for state in states() {
        let gossip = Box::new(GossipForm::from(&state));
        pdus.push(MembershipPdu::Welcome { from: from(), cluster, gossip: gossip.clone() });
        pdus.push(MembershipPdu::Gossip(Envelope { from: node(2), to: from(), cluster, gossip }));
    }
    let spell = |pdu: &MembershipPdu| {
        let mut out = Vec::new();
        pdu::encode(pdu, &mut out).expect("a small PDU");
        out
    };
    pdus.iter().map(spell).collect()
}

/// Gives states before, beside and after the one they will meet.
fn states() -> Vec<Gossip> {
    let mut removed = state();
    removed.remove(&node(3), RemovalTime::since_1970(Duration::from_secs(9))).expect("a member");
    removed.stamp(&node(2), OwnMark::Give);
    vec![Gossip::default(), state(), removed]
}

fn parcels<C: Codec<In<C>>>() -> Vec<Vec<u8>> {
    samples().into_iter().map(|parcel| spell(&In::<C>::new(parcel))).collect()
}

fn samples() -> Vec<Parcel> {
    let some = |parcel| Some(Box::new(parcel));
    vec![
        Parcel::Nothing,
        Parcel::Numbers(-1, 300, i32::MIN, u64::MAX, i128::MIN),
        Parcel::Fractions(vec![0.5, -1e300]),
        Parcel::Texts { text: "té \"\n".to_owned(), letters: vec!['a', '茶'] },
        Parcel::Bytes(vec![0, 255]),
        Parcel::Units(vec![(); 40]),
        Parcel::Small(vec![1, 200]),
        Parcel::Wide(vec![1, 1 << 40]),
        Parcel::Maybe(some(Parcel::Maybe(None, None)), Some(7)),
        Parcel::Many(vec![Parcel::Many(Vec::new()), Parcel::Nothing]),
        Parcel::Named([("a".to_owned(), Parcel::Units(vec![()]))].into()),
        Parcel::Keyed {
            numbers: [(1, true), (70_000, false)].into(),
            set: BTreeSet::from(["x".to_owned()]),
            pair: (3, [4, 500]),
        },
        Parcel::Outcome(Err("no".to_owned())),
    ]
}

fn crates() -> Vec<Vec<u8>> {
    let small = Crate { number: -3, text: Some("té".to_owned()), ..Crate::default() };
    let choice = Some(Choice::Deeper(Box::new(small.clone())));
    let large = Crate {
        bytes: vec![0, 255],
        numbers: vec![1, 300],
        inner: vec![small.clone(), Crate::default()],
        named: [("a".to_owned(), small.clone())].into(),
        empty: vec![Empty {}; 3],
        choice,
        fractions: vec![0.5],
        ..Crate::default()
    };
    let truth = Crate { choice: Some(Choice::Truth(true)), ..Crate::default() };
    [Crate::default(), small, large, truth].iter().map(spell).collect()
}

fn spell<M: RemoteMessage>(message: &M) -> Vec<u8> {
    let mut out = Vec::new();
    encode(message, &mut out).expect("a plain value");
    out
}

/// Gives links that begin well, with frames of each kind, and one that is heard from its first byte on.
fn links() -> Vec<Vec<u8>> {
    let kinds = [FrameKind::DEFINE, FrameKind::TELL, FrameKind::REPLY, FrameKind::GOSSIP];
    let of = |kind: FrameKind| {
        let bodies = bodies().into_iter().filter(move |(found, _)| *found == kind);
        bodies.flat_map(|(kind, body)| frame(kind, &body)).collect::<Vec<_>>()
    };
    let all: Vec<u8> = kinds.into_iter().flat_map(of).collect();
    let control = |pdu: &&[u8]| frame(FrameKind::CONTROL, pdu);
    let mut links = vec![
        [&[1], &opening("mem://Fuzz@a:1")[..], &all].concat(),
        [&[0], &all[..]].concat(),
        [&[2 + 4 * 7], &all[..]].concat(),
    ];
    links.extend(CONTROL.iter().map(|pdu| [&[0], &control(pdu)[..], &all].concat()));
    links
}

/// Wire name of the one message that the actors take.
const LETTER: &str = "bincode:fuzz.v1.Letter";

/// A control PDU of each kind, as frozen by the golden bytes of the library.
const CONTROL: &[&[u8]] = &[
    b"\x00\x01\x11mem://Fuzz@node:5\x07\xfc\x11\x99\xa3\x75\xfc\x00\x00\x10\x00\x00",
    b"\x01\x00\x02\x03",
    b"\x01\x01\x01A",
    b"\x01\x02\x11mem://Fuzz@node:5",
    b"\x01\x04",
    b"\x02\x01\x00",
    b"\x02\x02\x00",
    b"\x03\xfa\x00",
    b"\x04\xfb\xfb\x00\x05",
    b"\x05\x05",
    b"\x06",
    b"\x07\x09\x08",
    b"\x08\x04\x03\x02/a\x03b:c",
    b"\x09\x04b:c\n\x01",
    b"\x0a\x01\xfb\x01\x04\xfb\x2c\x01\x07",
    b"\x0b\x01\x04\x05\xfb\x01\x04\xfb\x2c\x01\x07\x01",
];

const PATHS: &[&str] = &[
    "/user/echo",
    "/a/b-c/d_e.f/~$",
    "tcp://Chat@10.0.0.1:2551/user/echo",
    "tcp://Chat@[::1]:2551/user/echo",
    "mem://Fuzz@node:5",
    "mem://Fuzz@node:5#7",
    "tls://host.example.com:0",
    "/user/../evil",
    "/user/%2e%2e",
    "//",
];
