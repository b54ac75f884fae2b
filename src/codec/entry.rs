//! Describes one registered message type without its generics.
//!
//! A [`CodecEntry`] is what a registry stores and a table lists: a manifest, a format, where they
//! were registered, and a decoder whose message type is erased. It is built in constants, so it may
//! not allocate.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::marker::PhantomData;

use super::grammar::{assert_codec_name, assert_manifest};
use super::macros::Upgrade;
use super::{Codec, CodecError, CodecFault, RemoteMessage, contain};

/// Points to the place in the source where a message type was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    module: &'static str,
    file: &'static str,
    line: u32,
}

impl Origin {
    /// Creates an origin from `file!()`, `line!()` and `module_path!()`.
    #[must_use]
    pub const fn new(file: &'static str, line: u32, module: &'static str) -> Self {
        Self { module, file, line }
    }

    /// Returns the source file, as the compiler names it.
    #[must_use]
    pub const fn file(&self) -> &'static str {
        self.file
    }

    /// Returns the line in the file, counted from 1.
    #[must_use]
    pub const fn line(&self) -> u32 {
        self.line
    }

    /// Returns the path of the module, beginning with the crate.
    #[must_use]
    pub const fn module(&self) -> &'static str {
        self.module
    }

    /// Returns the name of the crate, as code refers to it.
    #[must_use]
    pub fn crate_name(&self) -> &'static str {
        self.module.split("::").next().unwrap_or(self.module)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.module, self.file, self.line)
    }
}

/// Decodes one manifest in one format into one Rust type.
#[derive(Clone, Copy)]
pub struct CodecEntry {
    manifest: &'static str,
    codec: &'static str,
    schema: Option<u64>,
    /// The format's place in the list of its manifest.
    rank: u8,
    origin: Origin,
    type_id: fn() -> TypeId,
    type_name: fn() -> &'static str,
    /// A [`Decode`] of the registered type: erasing the decoder costs a look at a type where it is fetched, erasing
    /// what it gives would cost one with every message.
    decode: &'static (dyn Any + Send + Sync),
}

impl CodecEntry {
    /// Creates the entry of a message type in the format in which it is sent.
    ///
    /// A manifest or format name outside its grammar is a compile error.
    #[must_use]
    pub const fn new<M: RemoteMessage>(origin: Origin) -> Self {
        const { assert_manifest(M::MANIFEST) };
        Self::reading::<M, M::Codec, ()>(M::MANIFEST, origin).with_schema(M::SCHEMA)
    }

    /// Creates the entry that decodes an `O` and converts it along `V`.
    #[doc(hidden)]
    #[must_use]
    pub const fn reading<O, C, V>(manifest: &'static str, origin: Origin) -> Self
    where
        O: 'static,
        C: Codec<O>,
        V: Upgrade<O>,
    {
        const { assert_codec_name(C::NAME) };
        Self {
            manifest,
            codec: C::NAME,
            schema: None,
            rank: 0,
            origin,
            type_id: TypeId::of::<V::Last>,
            type_name: type_name::<V::Last>,
            decode: &Way::<O, C, V>::DECODE,
        }
    }

    /// Sets the schema hash; none is not compared.
    #[must_use]
    pub const fn with_schema(mut self, schema: Option<u64>) -> Self {
        self.schema = schema;
        self
    }

    /// Sets the format's place in the list of its manifest; the one at 0 sends.
    #[must_use]
    pub const fn with_rank(mut self, rank: u8) -> Self {
        self.rank = rank;
        self
    }

    /// Fills the tables that [`concat`](super::macros::concat) makes; decodes nothing.
    pub(super) const PLACEHOLDER: Self = Self {
        manifest: "",
        codec: "",
        schema: None,
        rank: 0,
        origin: Origin::new("", 0, ""),
        type_id: TypeId::of::<()>,
        type_name: type_name::<()>,
        decode: &(),
    };

    /// Returns the manifest.
    #[must_use]
    pub const fn manifest(&self) -> &'static str {
        self.manifest
    }

    /// Returns the name of the format.
    #[must_use]
    pub const fn codec(&self) -> &'static str {
        self.codec
    }

    /// Returns the name under which peers refer to this entry, `codec:manifest`.
    #[must_use]
    pub fn wire_name(&self) -> String {
        format!("{}:{}", self.codec, self.manifest)
    }

    /// Returns the schema hash of the manifest; none is not compared.
    #[must_use]
    pub const fn schema(&self) -> Option<u64> {
        self.schema
    }

    /// Returns the format's place in the list of its manifest; the one at 0 sends.
    #[must_use]
    pub const fn rank(&self) -> u8 {
        self.rank
    }

    /// Returns where the type was registered.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns the Rust type's name, for people only.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        (self.type_name)()
    }

    /// Tells whether this entry decodes into `M`.
    #[must_use]
    pub fn decodes<M: 'static>(&self) -> bool {
        (self.type_id)() == TypeId::of::<M>()
    }

    /// Decodes one message from all of `bytes`, containing panics of the type's conversion code.
    ///
    /// # Errors
    /// Fails if the bytes are not one message of this type, if they cost more than their length
    /// justifies, or if `M` is not the registered type.
    pub fn decode<M: 'static>(&self, bytes: &[u8]) -> Result<M, CodecError> {
        match self.decoder::<M>() {
            Some(decode) => contain(|| decode(bytes).map_err(|fault| *fault)),
            None => Err(self.wrong_type::<M>()),
        }
        .map_err(|fault| self.error(fault))
    }

    /// Returns the decoder itself, if `M` is the registered type; panics of the type's code are the caller's.
    #[must_use]
    pub(crate) fn decoder<M: 'static>(&self) -> Option<Decode<M>> {
        self.decode.downcast_ref().copied()
    }

    /// Names this entry in what a decoder of it reported.
    #[must_use]
    pub(crate) fn error(&self, fault: CodecFault) -> CodecError {
        CodecError { manifest: self.manifest, codec: self.codec, fault }
    }

    /// Spells the entry for peers and for the fingerprint; `accepted` has the grammar.
    pub(super) fn line(&self) -> String {
        match self.schema {
            Some(schema) => format!("{} {schema:016x}\n", self.wire_name()),
            None => format!("{}\n", self.wire_name()),
        }
    }

    /// Orders entries for the registry, and finds them by the two halves of a wire name.
    pub(super) fn key(&self) -> (&'static str, &'static str) {
        (self.codec, self.manifest)
    }

    /// Tells whether both describe one registration, reached on two ways.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.key() == other.key()
            && self.origin == other.origin
            && (self.type_id)() == (other.type_id)()
    }

    fn wrong_type<M: 'static>(&self) -> CodecFault {
        CodecFault::WrongType { registered: self.type_name(), asked: type_name::<M>() }
    }
}

impl fmt::Debug for CodecEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodecEntry")
            .field("wire_name", &self.wire_name())
            .field("type_name", &self.type_name())
            .field("origin", &self.origin)
            .finish()
    }
}

/// Decodes one message from all of the bytes. Boxed faults leave a result no larger than most messages are.
pub(crate) type Decode<M> = fn(&[u8]) -> Result<M, Box<CodecFault>>;

/// Decodes an `O` in format `C` and converts it along `V`.
struct Way<O, C, V>(PhantomData<(O, C, V)>);

impl<O, C: Codec<O>, V: Upgrade<O>> Way<O, C, V> {
    const DECODE: Decode<V::Last> = |bytes| Ok(V::upgrade(C::decode(bytes)?));
}

#[cfg(test)]
mod tests {
    use super::{CodecEntry, Origin};
    use crate::codec::{Bincode, CodecFault, RemoteMessage};

    impl RemoteMessage for u16 {
        const MANIFEST: &'static str = "entry.v1.Number";
        type Codec = Bincode;
    }

    static NUMBER: CodecEntry =
        CodecEntry::new::<u16>(Origin::new("src/number.rs", 7, "shop::number"));

    #[test]
    fn entry_knows_its_names_and_its_type() {
        assert_eq!(NUMBER.wire_name(), "bincode:entry.v1.Number");
        assert_eq!(NUMBER.origin().to_string(), "shop::number (src/number.rs:7)");
        assert_eq!(NUMBER.origin().crate_name(), "shop");
        assert!(NUMBER.decodes::<u16>() && !NUMBER.decodes::<i16>());
        assert_eq!(NUMBER.type_name(), "u16");
    }

    #[test]
    fn entry_decodes_its_own_type_only() {
        assert_eq!(NUMBER.decode::<u16>(&[9]), Ok(9));
        let refused = NUMBER.decode::<i16>(&[9]).unwrap_err();
        assert_eq!(*refused.fault(), CodecFault::WrongType { registered: "u16", asked: "i16" });
    }
}
