//! Carries messages in bincode 2's standard configuration, the default format.

use std::fmt;

use bincode::config::{Configuration, standard};
use bincode::de::DecoderImpl;
use bincode::de::read::SliceReader;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use bincode::serde::BorrowedSerdeDecoder;
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde::{Deserialize, Serialize};

use super::guard::{Budget, Guard};
use super::{Codec, CodecFault};

/// Encodes messages with bincode 2: little endian, variable-length integers, lengths up to 64 MiB.
///
/// The default, for programs in Rust that share their types; other languages have hardly a reader of it. Small and
/// fast, not self-describing: field order and types are the schema, so a changed type needs a new manifest. The serde
/// attributes `flatten`, `tag`, `untagged`, `skip` and `skip_serializing_if` need a self-describing format and do not
/// work here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bincode;

impl Bincode {
    /// Bounds one encoded message on both sides, in bytes (64 MiB).
    pub const MAX_BYTES: usize = 64 * 1024 * 1024;
}

impl<M: Serialize + DeserializeOwned> Codec<M> for Bincode {
    const NAME: &'static str = "bincode";

    fn encode(message: &M, out: &mut Vec<u8>) -> Result<(), CodecFault> {
        append(message, out, Self::MAX_BYTES)
    }

    fn decode(bytes: &[u8]) -> Result<M, CodecFault> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(CodecFault::TooLarge { limit: Self::MAX_BYTES });
        }
        let guard = Guard::new(Budget::for_input(bytes.len()));
        let mut decoder = Reader::from_slice(bytes, CONFIG, ());
        let decoded = guard.seed().deserialize(decoder.as_deserializer());
        let message = match guard.finish(decoded.map_err(Plain)) {
            Ok(message) => message,
            Err(fault) => {
                return Err(fault.at_byte(bytes.len().saturating_sub(left(&mut decoder))));
            }
        };
        if !is_at_end(&mut decoder) {
            return Err(CodecFault::Trailing { extra: 1 + left(&mut decoder) });
        }
        Ok(message)
    }
}

/// Shows what a type says without bincode's words around it.
struct Plain(DecodeError);

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            DecodeError::OtherString(reason) => f.write_str(reason),
            other => fmt::Display::fmt(other, f),
        }
    }
}

/// bincode's decoder of a slice.
type Reader<'de> = BorrowedSerdeDecoder<'de, DecoderImpl<SliceReader<'de>, Configuration, ()>>;

/// Tells whether every byte was read, at the price of one that was not.
#[inline]
fn is_at_end(decoder: &mut Reader<'_>) -> bool {
    u8::deserialize(decoder.as_deserializer()).is_err()
}

/// Counts the bytes that were not read. The decoder does not tell, so they are read, as numbers of eight bytes: the
/// first that is not whole is refused with the count of what it lacks.
#[cold]
fn left(decoder: &mut Reader<'_>) -> usize {
    let mut left = 0;
    loop {
        match f64::deserialize(decoder.as_deserializer()) {
            Ok(_) => left += size_of::<f64>(),
            Err(DecodeError::UnexpectedEnd { additional }) => {
                return left + size_of::<f64>().saturating_sub(additional);
            }
            Err(_) => return left,
        }
    }
}

/// Encodes straight behind what `out` holds, up to `limit` bytes.
fn append<M: Serialize>(message: &M, out: &mut Vec<u8>, limit: usize) -> Result<(), CodecFault> {
    let mut tail = Tail { out, room: limit, overrun: false };
    let outcome = bincode::serde::encode_into_writer(message, &mut tail, CONFIG);
    if tail.overrun {
        return Err(CodecFault::TooLarge { limit });
    }
    outcome.map_err(|error| match error {
        EncodeError::OtherString(reason) => CodecFault::encode(reason),
        other => CodecFault::encode(other),
    })
}

/// Appends to a buffer until its room is used up.
struct Tail<'a> {
    out: &'a mut Vec<u8>,
    room: usize,
    /// Tells afterwards that it was the room, and not the message, that ended the encoding.
    overrun: bool,
}

impl Writer for Tail<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let Some(room) = self.room.checked_sub(bytes.len()) else {
            self.overrun = true;
            return Err(EncodeError::UnexpectedEnd);
        };
        self.room = room;
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// The format on the wire. bincode's own limit would be paid for with every number, and has nothing left to do: what
/// bincode allocates by a claimed length is owned text and bytes, which the guard requests in borrowed form.
const CONFIG: Configuration = standard();

#[cfg(test)]
mod tests {
    use super::append;
    use crate::codec::CodecFault;

    #[test]
    fn message_beyond_the_limit_is_refused_while_encoding() {
        let mut out = Vec::new();
        assert_eq!(append(&"1234567", &mut out, 8), Ok(()));
        assert_eq!(append(&"12345678", &mut out, 8), Err(CodecFault::TooLarge { limit: 8 }));
    }
}
