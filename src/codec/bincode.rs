//! Carries messages in bincode 2's standard configuration, the default format.
//!
//! Small and fast, not self-describing: field order and types are the schema, so a changed type
//! needs a new manifest. The serde attributes `flatten`, `tag`, `untagged`, `skip` and
//! `skip_serializing_if` need a self-describing format and do not work here.

use bincode::config::{Config, Configuration, Limit, LittleEndian, Varint, standard};
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
        let message = guard.finish(decoded.map_err(|error| match error {
            DecodeError::OtherString(reason) => reason,
            other => other.to_string(),
        }));
        match (message, left(&mut decoder)) {
            (Ok(message), 0) => Ok(message),
            (Ok(_), extra) => Err(CodecFault::Trailing { extra }),
            (Err(fault), left) => Err(fault.at_byte(bytes.len().saturating_sub(left))),
        }
    }
}

/// bincode's decoder of a slice.
type Reader<'de, C> = BorrowedSerdeDecoder<'de, DecoderImpl<SliceReader<'de>, C, ()>>;

/// Counts the bytes that were not read. The decoder does not tell, so they are read, as numbers of eight bytes: the
/// first that is not whole is refused with the count of what it lacks.
fn left<C: Config>(decoder: &mut Reader<'_, C>) -> usize {
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

/// The format on the wire, with a second net behind the guard: no length beyond any input is ever
/// claimed.
const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_CLAIMED>> =
    standard().with_limit::<MAX_CLAIMED>();

/// bincode charges integers by their width in memory, up to 16 bytes for one on the wire; a smaller
/// limit would refuse long lists of small numbers.
const MAX_CLAIMED: usize = 16 * Bincode::MAX_BYTES;

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
