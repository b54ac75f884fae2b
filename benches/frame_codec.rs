//! Measures what it costs to write a frame, and to read it out of the bytes of a link.
//!
//! `cargo bench --bench frame_codec`
//!
//! A warm tell names path and manifest by ids of the link's dictionary, a cold one spells them. Writing copies the
//! payload once; reading leaves it where it is, which is the bar: a tell of 64 KiB takes at most twice the time of one
//! of 100 bytes. Then a batch as a link brings it, 64 KiB of small tells in one read, beside the copy alone that puts
//! it into the decoder's buffer and is the kernel's in a node. Control frames are not public and so not here.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use tellwire::membership::cluster_id::ClusterId;
use tellwire::membership::exchange::Envelope;
use tellwire::membership::gossip::{Gossip, GossipForm, OwnMark};
use tellwire::membership::member::Member;
use tellwire::membership::pdu::{self, Beat, MembershipPdu};
use tellwire::membership::profile::Profile;
use tellwire::wire::{self, FrameDecoder, FrameKind, RawFrame, TellHeader, TextId, TextRef};
use tellwire::{Address, Uid, UniqueAddress};

#[path = "common/mod.rs"]
mod common;

use common::Task;

fn main() {
    println!("{:<26} {:>7} {:>10} {:>10}", "frame", "bytes", "write, ns", "read, ns");
    let small = tell("warm tell of 100 B", warm(), 100);
    tell("warm tell of 1 KiB", warm(), 1 << 10);
    let large = tell("warm tell of 64 KiB", warm(), 64 << 10);
    tell("cold tell of 100 B", cold(), 100);
    gossip("heartbeat", &MembershipPdu::Heartbeat(beat()));
    gossip("gossip of 10 members", &MembershipPdu::Gossip(envelope(10)));
    batch();
    assert!(large <= small * MOST, "reading a tell takes longer the longer its payload is");
}

/// Measures a tell with a payload of so many bytes, and gives the nanoseconds that reading takes.
fn tell(name: &str, header: TellHeader<'_>, payload: usize) -> f64 {
    let payload = vec![7; payload];
    let write = |out: &mut Vec<u8>| write_tell(black_box(header), black_box(&payload), out);
    frame(name, write, |frame| {
        black_box(TellHeader::parse(frame.body).unwrap());
    })
}

/// Measures a frame of membership, whose PDU is read whole.
fn gossip(name: &str, pdu: &MembershipPdu) {
    let write = |out: &mut Vec<u8>| {
        let mark = wire::begin(out, FrameKind::GOSSIP);
        pdu::encode(black_box(pdu), out).unwrap();
        wire::finish(out, mark, wire::DEFAULT_LIMIT).unwrap();
    };
    frame(name, write, |frame| {
        black_box(pdu::decode(frame.body).unwrap());
    });
}

/// Prints what it costs to write a frame into a warm buffer and to read it, and gives the latter.
fn frame(name: &str, write: impl Fn(&mut Vec<u8>), read: impl Fn(RawFrame<'_>)) -> f64 {
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    write(&mut bytes);
    let write = Task::new(|| {
        out.clear();
        write(&mut out);
        black_box(&out);
    });
    let read = Task::new(|| read(wire::split_frame(black_box(&bytes)).unwrap().0));
    let [written, read] = least([write, read]);
    println!("{name:<26} {:>7} {written:>10.1} {read:>10.1}", bytes.len());
    read
}

/// Prints what it costs to cut a batch of warm tells into frames and to read their headers.
fn batch() {
    let mut bytes = Vec::new();
    let mut frames = 0_u32;
    while bytes.len() < BATCH {
        write_tell(warm(), &[7; 100], &mut bytes);
        frames += 1;
    }
    let (mut decoder, mut buffer) = (FrameDecoder::default(), vec![0; bytes.len()]);
    let copy = Task::new(|| {
        buffer.copy_from_slice(black_box(&bytes));
        black_box(&buffer);
    });
    let whole = Task::new(|| assert_eq!(read_all(&mut decoder, black_box(&bytes)), frames));
    let [copied, read] = least([copy, whole]);
    let (length, each) = (bytes.len(), (read - copied) / f64::from(frames));
    println!("{frames} tells of 100 B in {length} bytes, {each:.1} ns each without the copy:");
    println!(
        "copied and read at {:.1} GB/s, copied alone at {:.1} GB/s",
        gigabytes(length, read),
        gigabytes(length, copied)
    );
}

/// Brings bytes into a decoder as a link does, and takes the tells out; gives their number.
fn read_all(decoder: &mut FrameDecoder, mut bytes: &[u8]) -> u32 {
    let mut frames = 0;
    while !bytes.is_empty() {
        let space = decoder.space();
        let (now, later) = bytes.split_at(bytes.len().min(space.len()));
        space[..now.len()].copy_from_slice(now);
        decoder.filled(now.len());
        bytes = later;
        while let Some(frame) = decoder.next_frame().unwrap() {
            black_box(TellHeader::parse_plain(frame.body).unwrap());
            frames += 1;
        }
    }
    frames
}

/// Writes a tell in one piece if its names are both ids, as a node does.
fn write_tell(header: TellHeader<'_>, payload: &[u8], out: &mut Vec<u8>) {
    if let (TextRef::Id(target), TextRef::Id(manifest)) = (header.target, header.manifest) {
        return TellHeader::encode_plain(target, manifest, payload, out).unwrap();
    }
    let mark = wire::begin(out, FrameKind::TELL);
    header.encode(out).unwrap();
    out.extend_from_slice(payload);
    wire::finish(out, mark, wire::DEFAULT_LIMIT).unwrap();
}

/// Lets operations take turns, and gives the least nanoseconds of each.
fn least<const N: usize>(mut tasks: [Task<'_>; N]) -> [f64; N] {
    for _ in 0..ROUNDS {
        tasks.iter_mut().for_each(Task::take_a_turn);
    }
    tasks.map(|task| task.least())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn gigabytes(bytes: usize, nanos: f64) -> f64 {
    bytes as f64 / nanos
}

fn warm() -> TellHeader<'static> {
    let id = |number| TextRef::Id(TextId::new(number).unwrap());
    TellHeader::new(id(1), id(2))
}

fn cold() -> TellHeader<'static> {
    let target = TextRef::Literal("/user/orders/basket-1234");
    TellHeader::new(target, TextRef::Literal("bincode:shop.v1.AddItem"))
}

fn beat() -> Beat {
    Beat { from: node(1), cluster: ClusterId::new(1), sequence: 1_000 }
}

/// Carries a state of so many joining members.
fn envelope(members: u16) -> Envelope {
    let mut state = Gossip::default();
    for n in 1..=members {
        state.add(Member::joining(node(n), Profile::default())).unwrap();
        state.stamp(&node(n), OwnMark::Give);
    }
    let gossip = Box::new(GossipForm::from(&state));
    Envelope { from: node(2), to: node(1), cluster: ClusterId::new(1), gossip }
}

fn node(n: u16) -> UniqueAddress {
    let address = Address::new("tcp", "Bench", "10.0.0.1", n).unwrap();
    UniqueAddress::new(address, Uid::new(u64::from(n) << 32))
}

/// Bounds how much longer the large payload may take to read than the small one.
const MOST: f64 = 2.0;

/// Counts the bytes that a read brings, at least.
const BATCH: usize = 64 << 10;

const ROUNDS: u32 = 1_000;
