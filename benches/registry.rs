//! Measures what a registry costs with few manifests and with very many.
//!
//! `cargo bench --bench registry`
//!
//! Compares 10 manifests with 10 000 in turns. What every message pays, its encoding and its decoding by an entry that
//! is known, may not depend on the number: the bench fails above 1.2. Finding an entry by its name is paid once by a
//! link for each pair of path and manifest and by each reply to an ask, building by a node that starts. Ten names are
//! asked for, from all over the table, so that both tables are equally warm; they are 27 bytes long and differ in the
//! last five.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use serde::{Deserialize, Serialize};
use tellwire::codec::{self, CodecEntry, CodecRegistry};

#[path = "common/mod.rs"]
mod common;

use common::Task;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Note {
    /// 99 bytes, which take 100 on the wire.
    text: String,
}

tellwire::remote_messages! {
    table NOTES, codec = tellwire::codec::Bincode;
    "bench.v1.Note" => Note,
}

fn main() {
    let mut sides = [FEW, MANY].map(Side::new);
    for _ in 0..ROUNDS {
        let jobs = sides.iter_mut().flat_map(|side| &mut side.jobs);
        jobs.for_each(|job| job.task.take_a_turn());
    }
    println!("{:<28} {:>10} {:>10} {:>6}", "nanoseconds", FEW, MANY, "ratio");
    let [few, many] = sides;
    for (few, many) in few.jobs.iter().zip(&many.jobs) {
        let (fast, slow) = (few.task.least(), many.task.least());
        let ratio = slow / fast;
        println!("{:<28} {fast:>10.1} {slow:>10.1} {ratio:>6.2}", few.name);
        assert!(few.bar.is_none_or(|bar| ratio <= bar), "it depends on the number of manifests");
    }
}

/// Measures one size of registry.
struct Side {
    jobs: Vec<Job>,
}

impl Side {
    fn new(manifests: u64) -> Self {
        let table = common::manifests::<Note>(manifests - 1);
        let registry = CodecRegistry::from_tables(&[NOTES, table]).unwrap();
        let note = Note { text: "x".repeat(99) };
        let mut bytes = Vec::new();
        codec::encode(&note, &mut bytes).unwrap();
        let jobs = vec![
            encode(note),
            decode_known(&registry, bytes.clone()),
            decode_named(registry.clone(), bytes),
            find(registry.clone()),
            miss(registry),
            build(table),
        ];
        Self { jobs }
    }
}

fn encode(note: Note) -> Job {
    let mut out = Vec::new();
    Job::new("encode 100 B", Some(MOST), move || {
        out.clear();
        codec::encode(black_box(&note), &mut out).unwrap();
        black_box(&out);
    })
}

fn decode_known(registry: &CodecRegistry, bytes: Vec<u8>) -> Job {
    let entries = names(registry).map(|name| registry.find(&name).unwrap());
    let mut at = 0;
    Job::new("decode by a known entry", Some(MOST), move || {
        at = (at + 1) % entries.len();
        black_box(entries[at].decode::<Note>(black_box(&bytes)).unwrap());
    })
}

fn decode_named(registry: CodecRegistry, bytes: Vec<u8>) -> Job {
    let names = names(&registry);
    let mut at = 0;
    Job::new("find and decode", None, move || {
        at = (at + 1) % names.len();
        black_box(registry.decode::<Note>(black_box(&names[at]), black_box(&bytes)).unwrap());
    })
}

fn find(registry: CodecRegistry) -> Job {
    let names = names(&registry);
    let mut at = 0;
    Job::new("find", None, move || {
        at = (at + 1) % names.len();
        black_box(registry.find(black_box(&names[at])).unwrap());
    })
}

fn miss(registry: CodecRegistry) -> Job {
    Job::new("find what is not there", None, move || {
        assert!(registry.find(black_box("bincode:bench.v1.Known04999-")).is_none());
    })
}

fn build(table: &'static [CodecEntry]) -> Job {
    Job::new("build", None, move || {
        black_box(CodecRegistry::from_tables(black_box(&[NOTES, table])).unwrap());
    })
}

/// Gives ten wire names from all over a registry.
fn names(registry: &CodecRegistry) -> [String; 10] {
    let entries: Vec<_> = registry.iter().collect();
    // In an order in which neighbours in time are none in the table.
    std::array::from_fn(|n| entries[n * 7 % 10 * entries.len() / 10].wire_name())
}

/// One operation on a registry.
struct Job {
    name: &'static str,
    /// Bounds how much more it may cost with many manifests.
    bar: Option<f64>,
    task: Task<'static>,
}

impl Job {
    fn new(name: &'static str, bar: Option<f64>, operation: impl FnMut() + 'static) -> Self {
        Self { name, bar, task: Task::new(operation) }
    }
}

const FEW: u64 = 10;
const MANY: u64 = 10_000;

/// Bounds how much more a message may cost with many manifests.
const MOST: f64 = 1.2;

const ROUNDS: u32 = 200;
