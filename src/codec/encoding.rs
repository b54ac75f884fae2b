//! Describes one way in which messages of a type are put on the wire.
//!
//! The encoder is a plain function whose format and version are erased, so a list of them is a
//! constant: choosing one for a peer needs no allocation.

use std::fmt;

use super::{Codec, CodecError, CodecFault, contain};

/// Puts messages of type `M` on the wire under one manifest in one format.
///
/// [`remote_messages!`](crate::remote_messages) lists those of a type in
/// [`RemoteMessage::ENCODINGS`](super::RemoteMessage::ENCODINGS).
pub struct Encoding<M> {
    manifest: &'static str,
    codec: &'static str,
    schema: Option<u64>,
    encode: fn(&M, &mut Vec<u8>) -> Result<(), CodecFault>,
}

impl<M: 'static> Encoding<M> {
    /// Creates the encoding of the type itself.
    #[must_use]
    pub const fn new<C: Codec<M>>(manifest: &'static str, schema: Option<u64>) -> Self {
        Self { manifest, codec: C::NAME, schema, encode: C::encode }
    }

    /// Creates an encoding that converts into an older version of the type first.
    ///
    /// From a reference, since a tell borrows its message.
    #[must_use]
    pub const fn older<O, C>(manifest: &'static str) -> Self
    where
        O: for<'a> From<&'a M>,
        C: Codec<O>,
    {
        let encode = |message: &M, out: &mut Vec<u8>| C::encode(&O::from(message), out);
        Self { manifest, codec: C::NAME, schema: None, encode }
    }

    /// Returns the manifest under which peers find the decoder.
    #[must_use]
    pub const fn manifest(&self) -> &'static str {
        self.manifest
    }

    /// Returns the name of the format.
    #[must_use]
    pub const fn codec(&self) -> &'static str {
        self.codec
    }

    /// Returns the schema hash; none is not compared, or is the registry's to say.
    #[must_use]
    pub const fn schema(&self) -> Option<u64> {
        self.schema
    }

    /// Appends `message` to `out`, containing panics of the type's conversion code.
    ///
    /// # Errors
    /// Fails if the message cannot be represented or its conversion code panics; `out` is then as
    /// it was.
    pub fn encode(&self, message: &M, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = out.len();
        contain(|| (self.encode)(message, out)).map_err(|fault| {
            out.truncate(start);
            CodecError { manifest: self.manifest, codec: self.codec, fault }
        })
    }
}

impl<M> fmt::Debug for Encoding<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoding({}:{})", self.codec, self.manifest)
    }
}
