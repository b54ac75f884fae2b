//! Checks the two halves of a wire name, while the program is compiled and when a peer spells them.
//!
//! Constant functions: a wrong name never reaches a running program.

/// Fails the compilation if `manifest` is outside the grammar.
pub const fn assert_manifest(manifest: &str) {
    if let Some(flaw) = manifest_flaw(manifest) {
        panic!("{}", flaw);
    }
}

/// Fails the compilation if `name` cannot stand before the colon of a wire name.
pub(super) const fn assert_codec_name(name: &str) {
    assert!(is_codec_name(name), "a codec name has 1 to 32 bytes of a-z, 0-9 and `-`");
}

/// Tells whether `name` can stand before the colon of a wire name.
pub(super) const fn is_codec_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'-') {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty() && bytes.len() <= MAX_CODEC_NAME
}

/// Tells whether `manifest` is within the grammar.
pub(super) const fn is_manifest(manifest: &str) -> bool {
    manifest_flaw(manifest).is_none()
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
