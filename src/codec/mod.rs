//! Turns typed messages into bytes and back, and knows which types a node accepts.
//!
//! A message type names itself on the wire with a manifest and a format ([`RemoteMessage`]), both
//! written once in [`remote_messages!`](crate::remote_messages). [`encode`] is the way out; a
//! [`CodecRegistry`] of [`CodecEntry`]s is the way in.
//!
//! This module sits below everything that does IO and imports nothing else of the crate. It may not
//! trust the bytes it decodes: whatever a peer sends ends as a value or as a [`CodecError`], never
//! as a panic, an overflowing stack or an allocation out of proportion to the input. Formats built
//! on serde decode through [`guard`], and [`encode`] and [`CodecEntry::decode`] contain panics, as
//! far as the program is built with unwinding panics.

use std::fmt;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use thiserror::Error;

pub(crate) use self::accepted::{Accepted, ListFault};
pub use self::bincode::Bincode;
pub use self::encoding::Encoding;
pub(crate) use self::entry::Decode;
pub use self::entry::{CodecEntry, Origin};
pub(crate) use self::registry::Mismatch;
pub use self::registry::{CodecRegistry, DecodeError, RegistryError};

pub mod guard;
pub mod schema;

pub(crate) mod macros;

mod accepted;
mod bincode;
mod encoding;
mod entry;
mod grammar;
mod registry;

/// Names a type on the wire and says in which format it travels.
///
/// Implement it with [`remote_messages!`](crate::remote_messages), which registers the type as
/// well.
pub trait RemoteMessage: Sized + Send + 'static {
    /// Names the type on the wire: 1 to 200 bytes of `[A-Za-z0-9._-]` with a version segment, such
    /// as `shop.v1.AddItem`.
    const MANIFEST: &'static str;
    /// Selects the format in which the type is sent, where the peer accepts it.
    type Codec: Codec<Self>;
    /// Hashes the type's shape, so that two nodes whose types differ behind the manifest notice;
    /// none is not compared.
    const SCHEMA: Option<u64> = None;
    /// Lists the ways to send the type: its versions, the newest first, each in its formats, the
    /// preferred one first.
    ///
    /// A peer is sent the first one that it accepts. Until it has said what it accepts, it is sent
    /// the oldest version in its first format.
    const ENCODINGS: &'static [&'static [Encoding<Self>]] =
        &[&[Encoding::new::<Self::Codec>(Self::MANIFEST, Self::SCHEMA)]];
}

/// Converts messages of type `M` to and from one wire format.
///
/// Implementations are zero-sized marker types. They need not contain panics, which their callers
/// do, but they must bound depth, element counts and allocations by themselves; for a serde format,
/// [`guard::deserialize`] does it. The feature `testkit` has a suite that holds an implementation to
/// all of this, and to 50 ms for any small input, `testkit::codec`.
pub trait Codec<M>: 'static {
    /// Names the format on the wire: 1 to 32 bytes of `[a-z0-9-]`.
    const NAME: &'static str;

    /// Appends the encoded message to `out`.
    ///
    /// # Errors
    /// Fails if the message cannot be represented. What was appended until then is unspecified.
    fn encode(message: &M, out: &mut Vec<u8>) -> Result<(), CodecFault>;

    /// Decodes exactly one message from all of `bytes`.
    ///
    /// # Errors
    /// Fails if the bytes are not one message of this type, or cost more than their length
    /// justifies.
    fn decode(bytes: &[u8]) -> Result<M, CodecFault>;
}

/// Says why a message could not be encoded or decoded.
///
/// None of these goes away by trying the same message again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CodecFault {
    /// Reports a value that the format cannot represent. The sending program's fault; nothing was
    /// sent.
    #[error("the value cannot be encoded: {0}")]
    Encode(String),
    /// Reports bytes that are not a message of this type. The sender's fault, or of two nodes whose
    /// types differ behind the same manifest.
    #[error("the bytes are not a message of this type: {0}")]
    Decode(String),
    /// Reports bytes after the message. The sender's fault, as for [`Decode`](Self::Decode).
    #[error("{extra} bytes follow the message")]
    Trailing {
        /// Counts the bytes after the message.
        extra: usize,
    },
    /// Reports values nested in values too often. The sender's fault; a flatter type is the cure.
    #[error("values are nested more than {limit} deep")]
    TooDeep {
        /// Counts the levels that would have been accepted.
        limit: usize,
    },
    /// Reports more elements than the length of the input justifies. The sender's fault.
    #[error("more than {limit} elements, too many for the length of the input")]
    TooManyElements {
        /// Counts the elements that would have been accepted.
        limit: usize,
    },
    /// Reports elements that take more memory than the length of the input justifies: many that are tiny on the wire,
    /// of a type that is large here. The sender's fault, or the type's, where `Box` is the cure.
    #[error("elements of more than {limit} bytes of memory, too many for the length of the input")]
    TooMuchMemory {
        /// Counts the bytes of memory that would have been accepted.
        limit: usize,
    },
    /// Reports a message longer than the codec handles. The sender's fault; splitting it is the
    /// cure.
    #[error("the message is longer than {limit} bytes")]
    TooLarge {
        /// Counts the bytes that would have been accepted.
        limit: usize,
    },
    /// Reports a panic in the conversion code of the type. That type's fault, on this node.
    #[error("the conversion code of the type panicked")]
    Panicked,
    /// Reports a request for another type than the registered one. The calling code's fault, on
    /// this node.
    #[error("registered for `{registered}`, not for `{asked}`")]
    WrongType {
        /// Names the registered Rust type.
        registered: &'static str,
        /// Names the Rust type that was asked for.
        asked: &'static str,
    },
}

impl CodecFault {
    /// Builds [`Encode`](Self::Encode) from what a format reports, shortened to one brief line.
    pub fn encode(reason: impl fmt::Display) -> Self {
        Self::Encode(brief(reason))
    }

    /// Builds [`Decode`](Self::Decode) from what a format reports, shortened to one brief line.
    ///
    /// Formats like to quote the input, which a peer chose; neither its length nor its control
    /// characters may reach a log.
    pub fn decode(reason: impl fmt::Display) -> Self {
        Self::Decode(brief(reason))
    }

    /// Adds to a [`Decode`](Self::Decode) at which byte of the message the format stopped; the other faults name
    /// what they count.
    #[must_use]
    pub fn at_byte(self, offset: usize) -> Self {
        match self {
            Self::Decode(reason) => Self::Decode(format!("at byte {offset}: {reason}")),
            Self::Encode(_)
            | Self::Trailing { .. }
            | Self::TooDeep { .. }
            | Self::TooManyElements { .. }
            | Self::TooMuchMemory { .. }
            | Self::TooLarge { .. }
            | Self::Panicked
            | Self::WrongType { .. } => self,
        }
    }
}

/// Tells which message could not be encoded or decoded, and why.
///
/// Nothing was sent or delivered. [`CodecFault`] says whose fault it is; retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{codec}:{manifest}: {fault}")]
pub struct CodecError {
    manifest: &'static str,
    codec: &'static str,
    fault: CodecFault,
}

impl CodecError {
    /// Returns the manifest of the message.
    #[must_use]
    pub fn manifest(&self) -> &'static str {
        self.manifest
    }

    /// Returns the name of the format.
    #[must_use]
    pub fn codec(&self) -> &'static str {
        self.codec
    }

    /// Returns what went wrong.
    #[must_use]
    pub fn fault(&self) -> &CodecFault {
        &self.fault
    }
}

/// Appends `message` to `out` in the first format of its type.
///
/// # Errors
/// Fails if the message cannot be represented or its conversion code panics; `out` is then as it
/// was.
pub fn encode<M: RemoteMessage>(message: &M, out: &mut Vec<u8>) -> Result<(), CodecError> {
    Encoding::new::<M::Codec>(M::MANIFEST, M::SCHEMA).encode(message, out)
}

/// Runs conversion code of a user's type, turning its panics into a fault.
#[inline]
pub(crate) fn contain<T>(convert: impl FnOnce() -> Result<T, CodecFault>) -> Result<T, CodecFault> {
    // What a panic may leave half done is a value that nobody gets to see, or bytes that `encode`
    // cuts off.
    catch_unwind(AssertUnwindSafe(convert)).unwrap_or(Err(CodecFault::Panicked))
}

/// Renders `text` on one line of bounded length.
fn brief(text: impl fmt::Display) -> String {
    let mut brief = Brief(String::new());
    if write!(brief, "{text}").is_err() {
        brief.0.push('…');
    }
    brief.0
}

/// Collects text, refusing what is beyond the limit so that formatting ends early.
struct Brief(String);

impl fmt::Write for Brief {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        for character in piece.chars() {
            if self.0.len() >= BRIEF_BYTES {
                return Err(fmt::Error);
            }
            self.0.push(if character.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                character
            });
        }
        Ok(())
    }
}

/// Bounds quoted text: enough for two type names and a position, little enough for a log line.
const BRIEF_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::{BRIEF_BYTES, CodecFault, brief};

    #[test]
    fn quoted_text_is_short_and_has_no_control_characters() {
        let text = brief(format!("a\nb\u{1b}[2J{}", "ü".repeat(10_000)));
        assert!(text.len() <= BRIEF_BYTES + 8, "{} bytes", text.len());
        assert!(text.starts_with("a\u{fffd}b\u{fffd}[2Jü") && text.ends_with('…'), "{text}");
    }

    #[test]
    fn only_a_refusal_is_said_to_be_at_a_byte() {
        let refusal = CodecFault::decode("bad tag 7").at_byte(3);
        assert_eq!(refusal, CodecFault::Decode("at byte 3: bad tag 7".to_owned()));
        assert_eq!(CodecFault::TooDeep { limit: 1 }.at_byte(3), CodecFault::TooDeep { limit: 1 });
    }

    #[test]
    fn short_text_is_quoted_unchanged() {
        assert_eq!(CodecFault::decode("bad tag 7"), CodecFault::Decode("bad tag 7".to_owned()));
    }
}
