//! MessagePack as a wire format for tellwire messages.
//!
//! Compact, self-describing and read by nearly every language. Fields travel with their names, so
//! other languages see a map, and a type may gain optional fields under the same manifest. Choose it
//! to talk to programs that are not written in Rust and for which JSON is too large or too slow.
//!
//! What other languages see: structs as maps by field name; enums as the variant's name, or a map
//! from it to its content; `Vec<u8>` as a list of numbers, unless the type asks serde for bytes;
//! 128-bit integers as 16 big-endian bytes. `Some(None)` and `Some(())` are written as `nil` and
//! come back as `None`. Extension types are not used.
//!
//! # Size and speed
//!
//! An order with 2 lines, then with 315, beside the default format, by `cargo bench --bench codecs`; the other formats
//! are in `PERFORMANCE.md`.
//!
//! | format | small | encode | decode | large | encode | decode |
//! |---|---:|---:|---:|---:|---:|---:|
//! | `MessagePack` | 159 B | 37 ns | 175 ns | 15.7 kB | 3.3 µs | 19 µs |
//! | `Bincode` | 95 B | 54 ns | 124 ns | 9.6 kB | 4.9 µs | 12 µs |
//!
//! # Example
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tellwire_messagepack::MessagePack;
//!
//! #[derive(Serialize, Deserialize)]
//! struct AddItem {
//!     sku: String,
//! }
//!
//! tellwire::remote_messages! {
//!     pub table SHOP, codec = MessagePack;
//!     "shop.v1.AddItem" => AddItem,
//! }
//!
//! let mut bytes = Vec::new();
//! tellwire::codec::encode(&AddItem { sku: "tea".into() }, &mut bytes)?;
//! assert_eq!(bytes, b"\x81\xa3sku\xa3tea");
//! # Ok::<(), tellwire::codec::CodecError>(())
//! ```
#![forbid(unsafe_code)]

use rmp_serde::decode::Error;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use tellwire::codec::{Codec, CodecFault, guard};

/// Encodes messages as MessagePack with named fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessagePack;

impl<M: Serialize + DeserializeOwned> Codec<M> for MessagePack {
    const NAME: &'static str = "messagepack";

    fn encode(message: &M, out: &mut Vec<u8>) -> Result<(), CodecFault> {
        let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
        message.serialize(&mut serializer).map_err(CodecFault::encode)
    }

    fn decode(bytes: &[u8]) -> Result<M, CodecFault> {
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
        let message = guard::deserialize(&mut deserializer, bytes.len());
        let message = message.map_err(|fault| fault.at_byte(bytes.len() - left::<M>(bytes).0))?;
        // The deserializer does not tell where it stands; asked for more, it finds no marker at the
        // end, and fails differently or not at all anywhere else.
        match bool::deserialize(&mut deserializer) {
            Err(Error::InvalidMarkerRead(_)) => Ok(message),
            _ => match left::<IgnoredAny>(bytes) {
                (extra, Ok(_)) => Err(CodecFault::Trailing { extra }),
                (_, Err(fault)) => Err(fault),
            },
        }
    }
}

/// Counts the bytes behind the first value, or behind where it went wrong, at the price of reading it again.
fn left<M: DeserializeOwned>(bytes: &[u8]) -> (usize, Result<M, CodecFault>) {
    let mut deserializer = rmp_serde::Deserializer::new(bytes);
    let message = guard::deserialize(&mut deserializer, bytes.len());
    (deserializer.get_ref().len(), message)
}
