//! Describes one registered message type without its generics.
//!
//! A [`CodecEntry`] is what a registry stores and a table lists: a manifest, a format, where they
//! were registered, and a decoder whose message type is erased. It is built in constants, so it may
//! not allocate.

use std::any::{Any, TypeId, type_name};
use std::fmt;

use super::macros::{assert_codec_name, assert_manifest};
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
pub struct CodecEntry {
    manifest: &'static str,
    codec: &'static str,
    origin: Origin,
    type_id: fn() -> TypeId,
    type_name: fn() -> &'static str,
    decode: ErasedDecode,
}

impl CodecEntry {
    /// Creates the entry of a message type.
    ///
    /// A manifest or format name outside its grammar is a compile error.
    #[must_use]
    pub const fn new<M: RemoteMessage>(origin: Origin) -> Self {
        const { assert_manifest(M::MANIFEST) };
        const { assert_codec_name(<M::Codec as Codec<M>>::NAME) };
        Self {
            manifest: M::MANIFEST,
            codec: <M::Codec as Codec<M>>::NAME,
            origin,
            type_id: TypeId::of::<M>,
            type_name: type_name::<M>,
            decode: decode_into_slot::<M, M::Codec>,
        }
    }

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
        let mut slot: Option<M> = None;
        contain(|| (self.decode)(bytes, &mut slot))
            .and_then(|()| slot.ok_or_else(|| self.wrong_type::<M>()))
            .map_err(|fault| CodecError { manifest: self.manifest, codec: self.codec, fault })
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

inventory::collect!(CodecEntry);

/// Decodes into an `Option<M>` behind the `Any`, so that erasing `M` needs no allocation.
type ErasedDecode = fn(&[u8], &mut dyn Any) -> Result<(), CodecFault>;

/// Leaves a slot of another type empty, which the caller, who knows that type's name, reports.
fn decode_into_slot<M: 'static, C: Codec<M>>(
    bytes: &[u8],
    slot: &mut dyn Any,
) -> Result<(), CodecFault> {
    if let Some(slot) = slot.downcast_mut::<Option<M>>() {
        *slot = Some(C::decode(bytes)?);
    }
    Ok(())
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
