//! Protocol Buffers as a wire format for tellwire messages.
//!
//! Choose it where a `.proto` file is the contract with other languages. Messages are prost's, 0.14,
//! generated from such a file by your build or derived in Rust; neither this crate nor tellwire
//! needs `protoc`. Fields may be added and removed by the rules of Protocol Buffers under the same
//! manifest.
//!
//! # What holds against hostile bytes
//!
//! * Nesting ends at 100 levels, as [`CodecFault::TooDeep`], known or unknown fields alike. prost's
//!   feature `no-recursion-limit`, which any crate of a build can switch on, lifts that: do not.
//! * Text and bytes are compared with the input before they are copied; nothing is reserved by a
//!   claimed length.
//! * Every element takes at least one byte of input, an element that is a message at least two. What
//!   it takes in memory is the size of its Rust type, so a list of empty messages costs that size
//!   for every two bytes: keep messages in `repeated` fields small, or box what is large in them.
//!
//! What the format cannot offer is an end: a message cut between two fields is a shorter message,
//! and bytes behind one are read as more fields, of which unknown ones are ignored. The length of a
//! tellwire frame is what guards against both.
//!
//! # Size and speed
//!
//! An order with 2 lines, then with 315, beside the default format, by `cargo bench --bench codecs`; the other formats
//! are in `PERFORMANCE.md`.
//!
//! | format | small | encode | decode | large | encode | decode |
//! |---|---:|---:|---:|---:|---:|---:|
//! | `Protobuf` | 94 B | 34 ns | 121 ns | 11.2 kB | 4.3 µs | 15 µs |
//! | `Bincode` | 95 B | 54 ns | 124 ns | 9.6 kB | 4.9 µs | 12 µs |
//!
//! # Example
//!
//! ```
//! use tellwire_protobuf::Protobuf;
//!
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct AddItem {
//!     #[prost(string, tag = "1")]
//!     sku: String,
//! }
//!
//! tellwire::remote_messages! {
//!     pub table SHOP, codec = Protobuf;
//!     "shop.v1.AddItem" => AddItem,
//! }
//!
//! let mut bytes = Vec::new();
//! tellwire::codec::encode(&AddItem { sku: "tea".into() }, &mut bytes)?;
//! assert_eq!(bytes, b"\x0a\x03tea");
//! # Ok::<(), tellwire::codec::CodecError>(())
//! ```
#![forbid(unsafe_code)]

use prost::{DecodeError, Message};
use tellwire::codec::{Codec, CodecFault};

/// Encodes prost messages as Protocol Buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protobuf;

impl Protobuf {
    /// Counts the nested messages and groups that are accepted, as prost fixes it.
    pub const MAX_DEPTH: usize = 100;
}

impl<M: Message + Default> Codec<M> for Protobuf {
    const NAME: &'static str = "protobuf";

    fn encode(message: &M, out: &mut Vec<u8>) -> Result<(), CodecFault> {
        message.encode(out).map_err(CodecFault::encode)
    }

    fn decode(bytes: &[u8]) -> Result<M, CodecFault> {
        let mut left = bytes;
        M::decode(&mut left).map_err(|error| fault(&error).at_byte(bytes.len() - left.len()))
    }
}

/// Tells depth from the other errors by its text, since prost keeps the kind to itself.
fn fault(error: &DecodeError) -> CodecFault {
    let text = error.to_string();
    if text.ends_with("recursion limit reached") {
        return CodecFault::TooDeep { limit: Protobuf::MAX_DEPTH };
    }
    CodecFault::decode(text)
}
