//! Registers message types, and checks their names while the program is compiled.
//!
//! [`remote_messages!`](crate::remote_messages) is the one place where a type meets its wire name.
//! The checks behind it are constant functions: a wrong name never reaches a running program.

/// Registers message types under explicit wire names.
///
/// Gives `impl RemoteMessage` for every type, registers each for
/// [`CodecRegistry::linked`](crate::codec::CodecRegistry::linked), and defines a `static` table of
/// the entries for explicit registration. A manifest is 1 to 200 bytes of `[A-Za-z0-9._-]` with a
/// version segment (`.v1.` inside, `v1.` in front or `.v1` at the end); anything else does not
/// compile.
///
/// A generic type needs one line for each concrete type that travels.
///
/// A crate that is listed in `Cargo.toml` but named nowhere in code is not linked, and registers
/// nothing: say `use that_crate as _;`, or name its table.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tellwire::codec::{self, CodecRegistry};
///
/// #[derive(Serialize, Deserialize, PartialEq, Debug)]
/// struct Greet {
///     name: String,
/// }
///
/// tellwire::remote_messages! {
///     /// Everything a greeter understands.
///     pub table HELLO, codec = tellwire::codec::Bincode;
///     "hello.v1.Greet" => Greet,
/// }
///
/// let mut bytes = Vec::new();
/// codec::encode(&Greet { name: "Ada".into() }, &mut bytes)?;
/// let registry = CodecRegistry::from_tables(&[HELLO])?;
/// let greet: Greet = registry.decode("bincode:hello.v1.Greet", &bytes)?;
/// assert_eq!(greet.name, "Ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A manifest without a version does not compile:
///
/// ```compile_fail,E0080
/// tellwire::remote_messages! {
///     table NUMBERS, codec = tellwire::codec::Bincode;
///     "number" => Number,
/// }
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Number(u8);
/// ```
#[macro_export]
macro_rules! remote_messages {
    (
        $(#[$attribute:meta])*
        $visibility:vis table $table:ident, codec = $codec:ty;
        $($manifest:literal => $message:ty),* $(,)?
    ) => {
        $(
            const _: () = $crate::__private::assert_manifest($manifest);

            impl $crate::codec::RemoteMessage for $message {
                const MANIFEST: &'static str = $manifest;
                type Codec = $codec;
            }

            $crate::__private::inventory::submit! {
                $crate::codec::CodecEntry::new::<$message>($crate::codec::Origin::new(
                    ::core::file!(),
                    ::core::line!(),
                    ::core::module_path!(),
                ))
            }
        )*

        $(#[$attribute])*
        ///
        /// Lists the codec entries of these messages, for explicit registration:
        $(#[doc = ::core::concat!("`", $manifest, "`")])*
        // Link-time registration does without the table.
        #[allow(dead_code)]
        $visibility static $table: &[$crate::codec::CodecEntry] = &[
            $($crate::codec::CodecEntry::new::<$message>($crate::codec::Origin::new(
                ::core::file!(),
                ::core::line!(),
                ::core::module_path!(),
            ))),*
        ];
    };
}

/// Holds what the expansion of [`remote_messages!`](crate::remote_messages) refers to.
pub mod private {
    pub use inventory;

    pub use super::assert_manifest;
}

/// Fails the compilation if `manifest` is outside the grammar.
pub const fn assert_manifest(manifest: &str) {
    if let Some(flaw) = manifest_flaw(manifest) {
        panic!("{}", flaw);
    }
}

/// Fails the compilation if `name` cannot stand before the colon of a wire name.
pub(super) const fn assert_codec_name(name: &str) {
    let bytes = name.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() <= MAX_CODEC_NAME, "a codec name has 1 to 32 bytes");
    let mut at = 0;
    while at < bytes.len() {
        assert!(
            matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'-'),
            "a codec name consists of a-z, 0-9 and `-`"
        );
        at += 1;
    }
}

/// Returns what is wrong with a manifest, in words for the author of the message type.
const fn manifest_flaw(manifest: &str) -> Option<&'static str> {
    let bytes = manifest.as_bytes();
    if bytes.is_empty() {
        return Some("a manifest must not be empty; write one like `shop.v1.AddItem`");
    }
    if bytes.len() > MAX_MANIFEST {
        return Some("a manifest has at most 200 bytes");
    }
    if !has_only_manifest_bytes(bytes) {
        return Some("a manifest consists of A-Z, a-z, 0-9, `.`, `_` and `-`");
    }
    if !has_version_segment(bytes) {
        return Some(
            "a manifest needs a version segment: `.v1.` inside it, `v1.` in front or `.v1` at its end, \
             as in `shop.v1.AddItem`",
        );
    }
    None
}

const fn has_only_manifest_bytes(bytes: &[u8]) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-') {
            return false;
        }
        at += 1;
    }
    true
}

const fn has_version_segment(bytes: &[u8]) -> bool {
    let mut start = 0;
    while start < bytes.len() {
        let end = segment_end(bytes, start);
        // A version alone would name no message, so one side must have a neighbour.
        if (start > 0 || end < bytes.len()) && is_version(bytes, start, end) {
            return true;
        }
        start = end + 1;
    }
    false
}

const fn segment_end(bytes: &[u8], start: usize) -> usize {
    let mut end = start;
    while end < bytes.len() && bytes[end] != b'.' {
        end += 1;
    }
    end
}

const fn is_version(bytes: &[u8], start: usize, end: usize) -> bool {
    if end - start < 2 || bytes[start] != b'v' {
        return false;
    }
    let mut at = start + 1;
    while at < end {
        if !bytes[at].is_ascii_digit() {
            return false;
        }
        at += 1;
    }
    true
}

/// Bounds a manifest, in bytes; with the codec name it stays below the 512 bytes of a dictionary
/// text.
const MAX_MANIFEST: usize = 200;

/// Bounds a codec name, in bytes.
const MAX_CODEC_NAME: usize = 32;

#[cfg(test)]
mod tests {
    use super::{MAX_MANIFEST, manifest_flaw};

    #[test]
    fn manifests_with_a_version_segment_are_accepted() {
        for manifest in ["shop.v1.AddItem", "v2.AddItem", "AddItem.v10", "a-b.c_d.v0.E", ".v1"] {
            assert_eq!(manifest_flaw(manifest), None, "{manifest}");
        }
    }

    #[test]
    fn manifests_without_a_version_segment_are_refused() {
        for manifest in
            ["AddItem", "v1", "shop.v.AddItem", "shop.v1x.A", "shop.1.A", "shopv1.A", "V1.A"]
        {
            let flaw = manifest_flaw(manifest).unwrap_or_default();
            assert!(flaw.contains("version segment"), "{manifest}: {flaw}");
        }
    }

    #[test]
    fn manifests_of_wrong_bytes_or_length_are_refused() {
        for manifest in ["", "shop.v1.Add Item", "shop:v1.Add", "shop.v1.Größe", "shop.v1.A\n"] {
            assert!(manifest_flaw(manifest).is_some(), "{manifest}");
        }
        let longest = format!("v1.{}", "a".repeat(MAX_MANIFEST - 3));
        assert_eq!(manifest_flaw(&longest), None);
        assert!(manifest_flaw(&format!("{longest}a")).is_some());
    }
}
