//! CBOR as a wire format for tellwire messages.
//!
//! The binary format of RFC 8949: self-describing, read by most languages, and the one to choose
//! where a standards body has to stand behind the bytes. Fields travel with their names, so a type
//! may gain optional fields under the same manifest.
//!
//! What other languages see: structs as maps by field name; enums as the variant's name, or a map
//! from it to its content; `()` as an empty list; `Vec<u8>` as a list of numbers, unless the type
//! asks serde for bytes; integers beyond 64 bits as bignums. What they may send: numbers of any
//! width that fits, lists and maps of definite or indefinite length; of tags, bignums only.
//! `Some(None)` is written as `null` and comes back as `None`.
//!
//! # Size and speed
//!
//! An order with 2 lines, then with 315, beside the default format, by `cargo bench --bench codecs`; the other formats
//! are in `PERFORMANCE.md`.
//!
//! | format | small | encode | decode | large | encode | decode |
//! |---|---:|---:|---:|---:|---:|---:|
//! | `Cbor` | 159 B | 132 ns | 185 ns | 15.8 kB | 12.0 µs | 19 µs |
//! | `Bincode` | 95 B | 54 ns | 124 ns | 9.6 kB | 4.9 µs | 12 µs |
//!
//! # Example
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tellwire_cbor::Cbor;
//!
//! #[derive(Serialize, Deserialize)]
//! struct AddItem {
//!     sku: String,
//! }
//!
//! tellwire::remote_messages! {
//!     pub table SHOP, codec = Cbor;
//!     "shop.v1.AddItem" => AddItem,
//! }
//!
//! let mut bytes = Vec::new();
//! tellwire::codec::encode(&AddItem { sku: "tea".into() }, &mut bytes)?;
//! assert_eq!(bytes, b"\xa1\x63sku\x63tea");
//! # Ok::<(), tellwire::codec::CodecError>(())
//! ```
#![forbid(unsafe_code)]

use serde::Serialize;
use serde::de::DeserializeOwned;
use tellwire::codec::{Codec, CodecFault, guard};

/// Encodes messages as CBOR with named fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cbor;

impl<M: Serialize + DeserializeOwned> Codec<M> for Cbor {
    const NAME: &'static str = "cbor";

    fn encode(message: &M, out: &mut Vec<u8>) -> Result<(), CodecFault> {
        message.serialize(&mut minicbor_serde::Serializer::new(out)).map_err(CodecFault::encode)
    }

    fn decode(bytes: &[u8]) -> Result<M, CodecFault> {
        let mut deserializer = minicbor_serde::Deserializer::new(bytes);
        let decoded = guard::deserialize(&mut deserializer, bytes.len());
        let read = deserializer.decoder().position();
        let message = decoded.map_err(|fault| fault.at_byte(read))?;
        if read < bytes.len() {
            return Err(CodecFault::Trailing { extra: bytes.len() - read });
        }
        Ok(message)
    }
}
