//! Feeds the readers of everything that a peer sends, and checks what they may never get wrong.
//!
//! Used twice: by the fuzz targets of this package, one program each, and by `tests/corpora.rs` of the library, which
//! includes this file and replays the corpora. A target takes any bytes and says whether they were accepted; it
//! panics if a reader breaks a promise:
//!
//! * a refusal is a typed error; one of a codec names codec, manifest, and a byte or the budget that was used up;
//! * what was accepted survives being written and read again;
//! * the heap never holds more than 4 times the input plus 4 MiB.
#![forbid(unsafe_code)]

pub mod association;
pub mod codecs;
pub mod gossip;
mod parcel;
pub mod paths;
mod seeds;
pub mod wire;

use std::fmt::Write as _;

pub use self::seeds::seeds;

/// Says what became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was what the reader reads.
    Accepted,
    /// It ended as a typed error.
    Refused,
}

/// Reads an input, and panics if the reader breaks a promise.
pub type Target = fn(&[u8]) -> Verdict;

/// Lists every target under the name of its program and its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("frames", wire::frames),
    ("headers", wire::headers),
    ("paths", paths::paths),
    ("gossip", gossip::gossip),
    ("bincode", codecs::bincode),
    ("json", codecs::json),
    ("postcard", codecs::postcard),
    ("messagepack", codecs::messagepack),
    ("cbor", codecs::cbor),
    ("protobuf", codecs::protobuf),
    ("association", association::association),
];

/// Runs a target on `bytes`, and holds it to its share of memory.
///
/// # Panics
/// Fails by panicking, as the target does.
pub fn run(target: Target, bytes: &[u8]) -> Verdict {
    let mut verdict = Verdict::Refused;
    let heap = allocation_counter::measure(|| verdict = target(bytes));
    let limit = 4 * bytes.len() as u64 + HEAP_BYTES;
    assert!(heap.bytes_max <= limit, "{} bytes for {} bytes", heap.bytes_max, bytes.len());
    verdict
}

/// Turns the outcome of a reader into a verdict.
fn verdict<T, E>(outcome: Result<T, E>) -> Verdict {
    if outcome.is_ok() { Verdict::Accepted } else { Verdict::Refused }
}

/// Formats a value into nothing, for the sake of what formatting may get wrong.
fn shown(value: &impl std::fmt::Display) {
    assert!(write!(Nowhere, "{value}").is_ok(), "a value that cannot be shown");
}

/// Takes text and forgets it.
struct Nowhere;

impl std::fmt::Write for Nowhere {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        Ok(())
    }
}

/// What any reader may hold beside four times its input, in bytes.
const HEAP_BYTES: u64 = 4 << 20;
