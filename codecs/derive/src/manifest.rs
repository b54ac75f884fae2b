//! Checks a manifest early, so that the error points at the literal.
//!
//! The grammar is tellwire's, which checks it again in the expansion; what this module lets through
//! by mistake still does not compile.

/// Returns what is wrong with a manifest, in the words that tellwire uses.
pub(crate) fn flaw(manifest: &str) -> Option<&'static str> {
    if manifest.is_empty() {
        return Some("a manifest must not be empty; write one like `shop.v1.AddItem`");
    }
    if manifest.len() > MAX_MANIFEST {
        return Some("a manifest has at most 200 bytes");
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !manifest.bytes().all(is_allowed) {
        return Some("a manifest consists of A-Z, a-z, 0-9, `.`, `_` and `-`");
    }
    if !manifest.contains('.') || !manifest.split('.').any(is_version) {
        return Some(
            "a manifest needs a version segment: `.v1.` inside it, `v1.` in front or `.v1` at its end, \
             as in `shop.v1.AddItem`",
        );
    }
    None
}

fn is_version(segment: &str) -> bool {
    let digits = segment.strip_prefix('v').unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Bounds a manifest, in bytes.
const MAX_MANIFEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::{MAX_MANIFEST, flaw};

    #[test]
    fn manifests_with_a_version_segment_are_accepted() {
        for manifest in ["shop.v1.AddItem", "v2.AddItem", "AddItem.v10", "a-b.c_d.v0.E", ".v1"] {
            assert_eq!(flaw(manifest), None, "{manifest}");
        }
    }

    #[test]
    fn other_manifests_are_refused() {
        for manifest in
            ["", "AddItem", "v1", "shop.v.A", "shop.v1x.A", "V1.A", "shop.v1.Größe", "shop.v1.A B"]
        {
            assert!(flaw(manifest).is_some(), "{manifest}");
        }
        let longest = format!("v1.{}", "a".repeat(MAX_MANIFEST - 3));
        assert_eq!(flaw(&longest), None);
        assert!(flaw(&format!("{longest}a")).is_some());
    }
}
