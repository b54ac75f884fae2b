//! Compares the wire formats in size and time, and the guarded decoder with the bare one.
//!
//! `cargo bench --bench codecs`
//!
//! Prints one table, and what guarded decoding of a flat message costs against the same library
//! without a guard (aim: 1.15 at most), once with bincode's own limit and once without. Every figure
//! is the median of rounds in which all contenders take turns, so that a machine that slows down
//! slows all of them.

#![expect(clippy::print_stdout, reason = "its output is its use")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bincode::config::{Config, standard};
use serde::{Deserialize, Serialize};
use tellwire::codec::{Bincode, Codec};
use tellwire_cbor::Cbor;
use tellwire_json::Json;
use tellwire_messagepack::MessagePack;
use tellwire_postcard::Postcard;
use tellwire_protobuf::Protobuf;

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

fn main() {
    let messages = [order(2), order(315)];
    println!(
        "| format | size of a small message | encode | decode | size of a large one | encode | decode |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
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
    contenders.iter().for_each(Contender::print);
    print_guard_ratios();
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
            let (encode, decode) = (median(&track.encode.nanos), median(&track.decode.nanos));
            print!(" | {} B | {encode:.0} ns | {decode:.0} ns", track.size);
        }
        println!(" |");
    }
}

/// Measures one format on one message.
struct Track {
    size: usize,
    encode: Task,
    decode: Task,
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

/// Runs one operation often enough to be timed, and keeps the time of each turn.
struct Task {
    operation: Box<dyn FnMut()>,
    repeat: u32,
    nanos: Vec<f64>,
}

impl Task {
    fn new(operation: impl FnMut() + 'static) -> Self {
        let mut task = Self { operation: Box::new(operation), repeat: 1, nanos: Vec::new() };
        while task.elapsed() < TURN {
            task.repeat *= 2;
        }
        task
    }

    fn take_a_turn(&mut self) {
        let nanos = self.elapsed().as_secs_f64() * 1e9 / f64::from(self.repeat);
        self.nanos.push(nanos);
    }

    fn elapsed(&mut self) -> Duration {
        let begun = Instant::now();
        for _ in 0..self.repeat {
            (self.operation)();
        }
        begun.elapsed()
    }
}

/// Compares the codec with the same library called without a guard, turn by turn.
fn print_guard_ratios() {
    let mut bytes = Vec::new();
    Bincode::encode(&flat(), &mut bytes).expect("the message is encodable");
    let guarded = decoding(&bytes, |bytes| Bincode::decode(bytes).ok());
    let limited = decoding(&bytes, |bytes| bare(bytes, standard().with_limit::<LIMIT>()));
    let unlimited = decoding(&bytes, |bytes| bare(bytes, standard()));
    let mut tasks = [guarded, limited, unlimited];
    for _ in 0..RATIO_ROUNDS {
        tasks.iter_mut().for_each(Task::take_a_turn);
    }
    let [guarded, limited, unlimited] = tasks;
    println!("\nbincode decode of a flat message, guarded: {:.1} ns", median(&guarded.nanos));
    for (name, bare) in [("bare, same limit", limited), ("bare, no limit", unlimited)] {
        let pairs = guarded.nanos.iter().zip(&bare.nanos);
        let ratio = median(&pairs.map(|(guarded, bare)| guarded / bare).collect::<Vec<_>>());
        println!("{name}: {:.1} ns, ratio {ratio:.3}", median(&bare.nanos));
    }
}

fn decoding(bytes: &[u8], decode: impl Fn(&[u8]) -> Option<Flat> + 'static) -> Task {
    let bytes = bytes.to_vec();
    assert_eq!(decode(&bytes), Some(flat()));
    Task::new(move || {
        black_box(decode(black_box(&bytes)));
    })
}

fn bare(bytes: &[u8], config: impl Config) -> Option<Flat> {
    let (message, consumed) = bincode::serde::decode_from_slice(bytes, config).ok()?;
    (consumed == bytes.len()).then_some(message)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
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
const ROUNDS: u32 = 9;

/// Counts the turns of guarded and bare decoding, whose ratio is to be exact.
const RATIO_ROUNDS: u32 = 101;

/// Bounds a message for bincode as the codec does, in bytes.
const LIMIT: usize = 16 * Bincode::MAX_BYTES;

/// Lasts long enough for the clock, and short enough for contenders to share the machine's moods.
const TURN: Duration = Duration::from_millis(4);
