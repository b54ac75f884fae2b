//! Says what is wrong with the text of an endpoint, an address or a uid.

use std::fmt;

/// Explains why a text is no endpoint, address or uid.
///
/// Nothing was built or sent. The fault is always in the text: in configuration when a person
/// wrote it, with the peer when it came over a link. The same text is refused again, so a retry
/// is useless until the named part is corrected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Refuses a text before looking into it; its writer must shorten it.
    #[error("{length} bytes are too long, at most {limit} are allowed")]
    TooLong {
        /// Bytes in the refused text.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Misses `scheme://`; the writer must add it.
    #[error("{0} has no `scheme://`")]
    SchemeMissing(Excerpt),
    /// Refuses the scheme; the writer must use lower-case letters, digits, `+` and `-`.
    #[error("scheme {0} is not `[a-z][a-z0-9+-]{{0,15}}`")]
    SchemeInvalid(Excerpt),
    /// Misses `system@`; the writer gave an endpoint where an address is needed.
    #[error("{0} has no `system@` before the host")]
    SystemMissing(Excerpt),
    /// Refuses `@`; the writer gave an address where an endpoint is needed.
    #[error("{0} names a system where only `scheme://host:port` is allowed")]
    SystemUnexpected(Excerpt),
    /// Refuses the system name; the writer must use letters, digits, `_` and `-`.
    #[error("system {0} is not `[A-Za-z0-9][A-Za-z0-9_-]{{0,63}}`")]
    SystemInvalid(Excerpt),
    /// Refuses the host; the writer must give an IPv4, a bracketed IPv6 or a host name.
    #[error("host {0} is no IPv4, `[IPv6]` or host name")]
    HostInvalid(Excerpt),
    /// Misses `:port`; the writer must add it, there is no default.
    #[error("{0} has no `:port`")]
    PortMissing(Excerpt),
    /// Refuses the port; the writer must give plain decimal digits up to 65535.
    #[error("port {0} is not a plain decimal number up to 65535")]
    PortInvalid(Excerpt),
    /// Refuses port 0 in an address; the writer must use the port the listener was given.
    #[error("{0} has port 0, which nobody can dial")]
    PortZero(Excerpt),
    /// Misses `#uid`; the writer gave an address where one incarnation is needed.
    #[error("{0} has no `#uid`")]
    UidMissing(Excerpt),
    /// Refuses the uid; the writer must give exactly 16 lower-case hex digits.
    #[error("uid {0} is not 16 lower-case hex digits")]
    UidInvalid(Excerpt),
}

/// Keeps the first bytes of a refused text, safe to print.
///
/// Text from a peer ends in logs through errors. So this is short (40 bytes), holds no heap
/// memory, and prints quoted and escaped: no control or direction character gets through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Excerpt {
    /// The kept bytes, whole characters only.
    bytes: [u8; EXCERPT],
    /// How many of them count.
    kept: usize,
    /// How long the whole text was.
    total: usize,
}

impl Excerpt {
    /// Keeps as many whole characters of `text` as fit.
    pub(crate) fn of(text: &str) -> Self {
        let fits = text.len().min(EXCERPT);
        let kept = (0..=fits).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        let mut bytes = [0; EXCERPT];
        bytes.iter_mut().zip(text.bytes().take(kept)).for_each(|(slot, byte)| *slot = byte);
        Self { bytes, kept, total: text.len() }
    }

    /// Returns the kept characters, unescaped.
    pub fn as_str(&self) -> &str {
        let kept = self.bytes.get(..self.kept).unwrap_or_default();
        std::str::from_utf8(kept).unwrap_or_default()
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.kept < self.total { "..." } else { "" };
        write!(f, "{:?}{more}", self.as_str())
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes of a refused text that an error keeps.
const EXCERPT: usize = 40;
