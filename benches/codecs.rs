//! Compares the wire formats in size and time, and guarded decoding with bare decoding.
//!
//! `cargo bench --bench codecs`
//!
//! Prints one table. Its last columns tell what decoding a flat message through the guard costs beside the same library
//! without one and without any limit of its own (aim: 1.15 at most): in time here, in instructions by `benches/guard`,
//! which runs this program with `--decode FORMAT guarded|bare TIMES` under callgrind. Every time is the median of rounds
//! in which all contenders take turns, so that a machine that slows down slows all of them.

#![expect(clippy::print_stdout, reason = "its output is its use")]

use std::error::Error;
use std::hint::black_box;

use serde::{Deserialize, Serialize};
use tellwire::codec::{Bincode, Codec};
use tellwire_cbor::Cbor;
use tellwire_json::Json;
use tellwire_messagepack::MessagePack;
use tellwire_postcard::Postcard;
use tellwire_protobuf::Protobuf;

#[path = "common/mod.rs"]
mod common;

use common::{Task, median};

#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
struct Order {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    customer: String,
    #[prost(message, repeated, tag = "3")]
    lines: Vec<Line>,
    #[prost(double, tag = "4")]
    total: f64,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
struct Line {
    #[prost(string, tag = "1")]
    sku: String,
    #[prost(uint32, tag = "2")]
    pieces: u32,
    #[prost(double, tag = "3")]
    price: f64,
}

/// Holds fields of fixed shape only, where a guard has the least to do and the most to lose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u64,
    account: u32,
    kind: u8,
    amount: i64,
    rate: f64,
    is_open: bool,
    name: String,
    place: (f64, f64),
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip_while(|word| word != "--decode").collect();
    match &arguments[..] {
        [_, format, side, times] => decode_only(format, side, times.parse()?),
        _ => print_table(),
    }
    Ok(())
}

fn print_table() {
    let messages = [order(2), order(315)];
    let mut contenders = [
        Contender::new::<Bincode>("bincode", &messages),
        Contender::new::<Postcard>("postcard", &messages),
        Contender::new::<MessagePack>("messagepack", &messages),
        Contender::new::<Cbor>("cbor", &messages),
        Contender::new::<Protobuf>("protobuf", &messages),
        Contender::new::<Json>("json", &messages),
    ];
    for _ in 0..ROUNDS {
        contenders.iter_mut().for_each(Contender::take_a_turn);
    }
    let mut duels = FORMATS.map(Duel::new);
    for _ in 0..DUEL_ROUNDS {
        duels.iter_mut().for_each(Duel::take_a_turn);
    }
    println!(
        "| format | small message | encode | decode | large one | encode | decode | flat one, guarded | guarded / bare |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for contender in &contenders {
        contender.print();
        match duels.iter().find(|duel| duel.format.name == contender.name) {
            Some(duel) => duel.print(),
            None => println!(" | | no guard |"),
        }
    }
}

/// Measures one format on every message.
struct Contender {
    name: &'static str,
    tracks: Vec<Track>,
}

impl Contender {
    fn new<C: Codec<Order>>(name: &'static str, messages: &[Order]) -> Self {
        Self { name, tracks: messages.iter().map(Track::new::<C>).collect() }
    }

    fn take_a_turn(&mut self) {
        for track in &mut self.tracks {
            track.encode.take_a_turn();
            track.decode.take_a_turn();
        }
    }

    fn print(&self) {
        print!("| {}", self.name);
        for track in &self.tracks {
            let (encode, decode) = (track.encode.median(), track.decode.median());
            print!(" | {} B | {encode:.0} ns | {decode:.0} ns", track.size);
        }
    }
}

/// Measures one format on one message.
struct Track {
    size: usize,
    encode: Task<'static>,
    decode: Task<'static>,
}

impl Track {
    fn new<C: Codec<Order>>(message: &Order) -> Self {
        let mut bytes = Vec::new();
        C::encode(message, &mut bytes).expect("the message is encodable");
        assert_eq!(C::decode(&bytes).as_ref(), Ok(message));
        let (size, message, mut out) = (bytes.len(), message.clone(), Vec::new());
        let encode = Task::new(move || {
            out.clear();
            C::encode(black_box(&message), &mut out).expect("the message is encodable");
            black_box(&out);
        });
        let decode = Task::new(move || {
            black_box(C::decode(black_box(&bytes)).expect("the bytes are a message"));
        });
        Self { size, encode, decode }
    }
}

/// Names a format, and decodes a flat message of it through the codec and by its library alone.
#[derive(Clone, Copy)]
struct Format {
    name: &'static str,
    encode: fn(&Flat, &mut Vec<u8>),
    guarded: Decode,
    bare: Decode,
}

type Decode = fn(&[u8]) -> Option<Flat>;

impl Format {
    const fn new<C: Codec<Flat>>(name: &'static str, bare: Decode) -> Self {
        let encode = |flat: &Flat, out: &mut Vec<u8>| {
            C::encode(flat, out).expect("the message is encodable")
        };
        Self { name, encode, guarded: |bytes| C::decode(bytes).ok(), bare }
    }

    fn decoding(self, decode: Decode) -> impl FnMut() {
        let mut bytes = Vec::new();
        (self.encode)(&flat(), &mut bytes);
        assert_eq!(decode(&bytes), Some(flat()));
        move || {
            black_box(decode(black_box(&bytes)));
        }
    }
}

/// Holds the formats that decode through the guard; a bare side checks for trailing bytes where its library can.
const FORMATS: [Format; 5] = [
    Format::new::<Bincode>("bincode", |bytes| {
        let config = bincode::config::standard();
        let (message, read) = bincode::serde::decode_from_slice(bytes, config).ok()?;
        (read == bytes.len()).then_some(message)
    }),
    Format::new::<Postcard>("postcard", |bytes| {
        let (message, rest) = postcard::take_from_bytes(bytes).ok()?;
        rest.is_empty().then_some(message)
    }),
    Format::new::<MessagePack>("messagepack", |bytes| rmp_serde::from_slice(bytes).ok()),
    Format::new::<Cbor>("cbor", |bytes| {
        let mut deserializer = minicbor_serde::Deserializer::new(bytes);
        let message = Flat::deserialize(&mut deserializer).ok()?;
        (deserializer.decoder().position() == bytes.len()).then_some(message)
    }),
    Format::new::<Json>("json", |bytes| serde_json::from_slice(bytes).ok()),
];

/// Compares a codec with its library called without a guard, turn by turn.
struct Duel {
    format: Format,
    guarded: Task<'static>,
    bare: Task<'static>,
}

impl Duel {
    fn new(format: Format) -> Self {
        let guarded = Task::new(format.decoding(format.guarded));
        let bare = Task::new(format.decoding(format.bare));
        Self { format, guarded, bare }
    }

    fn take_a_turn(&mut self) {
        self.guarded.take_a_turn();
        self.bare.take_a_turn();
    }

    fn print(&self) {
        let pairs = self.guarded.nanos.iter().zip(&self.bare.nanos);
        let ratio = median(pairs.map(|(guarded, bare)| guarded / bare).collect());
        println!(" | {:.0} ns | {ratio:.2} |", self.guarded.median());
    }
}

/// Decodes a flat message that many times and does nothing else, for the instructions to be counted.
fn decode_only(format: &str, side: &str, times: u32) {
    let format = FORMATS.into_iter().find(|known| known.name == format).expect("a guarded format");
    let mut decode = format.decoding(if side == "bare" { format.bare } else { format.guarded });
    (0..times).for_each(|_| decode());
}

fn order(lines: u32) -> Order {
    let line = |number| Line {
        sku: format!("tea-{number:04}-green-loose"),
        pieces: number % 300,
        price: f64::from(number) * 1.1,
    };
    Order {
        id: 1_234_567,
        customer: "Ada Lovelace, London".to_owned(),
        lines: (0..lines).map(line).collect(),
        total: 99.9,
    }
}

fn flat() -> Flat {
    Flat {
        id: 1_234_567,
        account: 70_000,
        kind: 3,
        amount: -5_000_000,
        rate: 0.25,
        is_open: true,
        name: "Ada Lovelace".to_owned(),
        place: (51.5, -0.1),
    }
}

/// Counts the turns of each contender.
const ROUNDS: u32 = 201;

/// Counts the turns of guarded and bare decoding, whose ratio is to be exact.
const DUEL_ROUNDS: u32 = 1001;
