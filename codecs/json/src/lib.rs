//! JSON as a wire format for tellwire messages.
//!
//! Readable in a capture and by every other language; twice as large as the default format and about
//! three times as slow. Decoding ignores unknown fields, so a type may gain optional fields under the
//! same manifest. JSON has no NaN and no infinities: such numbers are written as `null`, which no
//! number reads back. Every other number comes back exactly.
//!
//! # Size and speed
//!
//! An order with 2 lines, then with 315, beside the default format, by `cargo bench --bench codecs`; the other formats
//! are in `PERFORMANCE.md`.
//!
//! | format | small | encode | decode | large | encode | decode |
//! |---|---:|---:|---:|---:|---:|---:|
//! | `Json` | 179 B | 143 ns | 344 ns | 20.2 kB | 17.3 µs | 40 µs |
//! | `Bincode` | 95 B | 54 ns | 124 ns | 9.6 kB | 4.9 µs | 12 µs |
//!
//! # Example
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tellwire_json::Json;
//!
//! #[derive(Serialize, Deserialize)]
//! struct AddItem {
//!     sku: String,
//! }
//!
//! tellwire::remote_messages! {
//!     pub table SHOP, codec = Json;
//!     "shop.v1.AddItem" => AddItem,
//! }
//!
//! let mut bytes = Vec::new();
//! tellwire::codec::encode(&AddItem { sku: "tea".into() }, &mut bytes)?;
//! assert_eq!(bytes, br#"{"sku":"tea"}"#);
//! # Ok::<(), tellwire::codec::CodecError>(())
//! ```
#![forbid(unsafe_code)]

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tellwire::codec::guard::{self, Budget};
use tellwire::codec::{Codec, CodecFault};

/// Encodes messages as compact JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json;

impl<M: Serialize + DeserializeOwned> Codec<M> for Json {
    const NAME: &'static str = "json";

    fn encode(message: &M, out: &mut Vec<u8>) -> Result<(), CodecFault> {
        serde_json::to_writer(out, message).map_err(CodecFault::encode)
    }

    fn decode(bytes: &[u8]) -> Result<M, CodecFault> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let message = match guard::deserialize_within(&mut deserializer, budget(bytes.len())) {
            Ok(message) => message,
            Err(fault) => {
                let read = deserializer.into_iter::<IgnoredAny>().byte_offset();
                return Err(fault.at_byte(read));
            }
        };
        // White space belongs to the grammar of JSON; anything else after the value does not.
        deserializer
            .end()
            .map_err(|error| CodecFault::Trailing { extra: bytes_from(bytes, &error) })?;
        Ok(message)
    }
}

fn budget(input_len: usize) -> Budget {
    let mut budget = Budget::for_input(input_len);
    budget.depth = MAX_DEPTH;
    budget
}

/// Counts the bytes from the position of an error to the end.
fn bytes_from(bytes: &[u8], error: &serde_json::Error) -> usize {
    let lines_before = error.line().saturating_sub(1);
    let line: usize =
        bytes.split_inclusive(|byte| *byte == b'\n').take(lines_before).map(<[u8]>::len).sum();
    bytes.len().saturating_sub(line + error.column().saturating_sub(1))
}

/// Bounds nested values below the parser's own 128, so that the fault names the limit.
const MAX_DEPTH: usize = 120;
