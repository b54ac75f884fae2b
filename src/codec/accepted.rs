//! Keeps what a peer's registry accepts, as the peer spelled it.
//!
//! A registry is spelled in lines, ordered by codec and then by manifest: `codec:manifest`, a space
//! and the schema hash as 16 hexadecimal digits if there is one, and a line feed. The fingerprint
//! hashes exactly this text. Everything here came from a peer: it is checked line by line and
//! bounded, and a search costs no allocation.
//!
//! The schema hashes travel here, once and before any message, and not with each name when it is
//! first used: so a sender knows that it would not be understood before it sends.

use thiserror::Error;

use super::grammar::{is_codec_name, is_manifest};

/// Keeps what a peer's registry accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    text: String,
    /// Where each line begins.
    starts: Vec<u32>,
}

/// Says what is wrong with a list of accepted names; the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ListFault {
    /// A line is not `codec:manifest`, with or without a hash.
    #[error("a line of the registry is malformed")]
    Malformed,
    /// A line does not follow the one before it.
    #[error("the registry is out of order or names something twice")]
    OutOfOrder,
    /// The list is longer than any may be.
    #[error("the registry has more than {MAX_NAMES} names or {MAX_TEXT} bytes")]
    TooLong,
}

impl Accepted {
    /// Appends the lines of one part.
    pub(crate) fn add(&mut self, lines: &str) -> Result<(), ListFault> {
        if self.text.len() + lines.len() > MAX_TEXT {
            return Err(ListFault::TooLong);
        }
        if !lines.is_empty() && !lines.ends_with('\n') {
            return Err(ListFault::Malformed);
        }
        lines.split_terminator('\n').try_for_each(|line| self.add_line(line))
    }

    /// Finds a name: its schema hash if it has one, or nothing where the name is not accepted.
    pub(crate) fn find(&self, codec: &str, manifest: &str) -> Option<Option<u64>> {
        let key = (codec, manifest);
        let at = self
            .starts
            .binary_search_by(|start| self.line_at(*start).map_or(("", ""), Line::key).cmp(&key));
        let start = self.starts.get(at.ok()?)?;
        self.line_at(*start).map(|line| line.schema)
    }

    /// Lists codec, manifest and schema hash of each name, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, Option<u64>)> {
        let lines = self.starts.iter().filter_map(|start| self.line_at(*start));
        lines.map(|line| (line.codec, line.manifest, line.schema))
    }

    fn add_line(&mut self, line: &str) -> Result<(), ListFault> {
        let parsed = Line::parse(line).ok_or(ListFault::Malformed)?;
        let last = self.starts.last().and_then(|start| self.line_at(*start));
        if last.is_some_and(|last| last.key() >= parsed.key()) {
            return Err(ListFault::OutOfOrder);
        }
        if self.starts.len() >= MAX_NAMES {
            return Err(ListFault::TooLong);
        }
        let start = u32::try_from(self.text.len()).map_err(|_| ListFault::TooLong)?;
        self.starts.push(start);
        self.text.push_str(line);
        self.text.push('\n');
        Ok(())
    }

    fn line_at(&self, start: u32) -> Option<Line<'_>> {
        let rest = self.text.get(usize::try_from(start).ok()?..)?;
        Line::split(rest.split('\n').next()?)
    }
}

#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    codec: &'a str,
    manifest: &'a str,
    schema: Option<u64>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        Self::split(line).filter(|line| is_codec_name(line.codec) && is_manifest(line.manifest))
    }

    /// Splits a line whose words are known to be good.
    fn split(line: &'a str) -> Option<Self> {
        let (name, schema) = match line.split_once(' ') {
            Some((name, digits)) => (name, Some(parse_schema(digits)?)),
            None => (line, None),
        };
        let (codec, manifest) = name.split_once(':')?;
        Some(Self { codec, manifest, schema })
    }

    fn key(self) -> (&'a str, &'a str) {
        (self.codec, self.manifest)
    }
}

/// Reads a schema hash as it is spelled: 16 digits, lower case.
pub(super) fn parse_schema(digits: &str) -> Option<u64> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_valid = digits.len() == 16 && digits.bytes().all(is_digit);
    is_valid.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Names that a peer's registry may have.
pub(crate) const MAX_NAMES: usize = 65_536;
/// Bytes that a peer's registry may take, spelled out.
pub(crate) const MAX_TEXT: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(lines: &str) -> Result<Accepted, ListFault> {
        let mut accepted = Accepted::default();
        accepted.add(lines).map(|()| accepted)
    }

    #[test]
    fn names_are_found_with_their_hashes() {
        let mut list = accepted("a:x.v1.A\na:x.v1.B 00000000000000ff\n").unwrap();
        list.add("a-b:x.v1.A\n").unwrap();
        assert_eq!(list.find("a", "x.v1.A"), Some(None));
        assert_eq!(list.find("a", "x.v1.B"), Some(Some(255)));
        assert_eq!(list.find("a-b", "x.v1.A"), Some(None));
        for (codec, manifest) in [("a", "x.v1.C"), ("b", "x.v1.A"), ("", ""), ("a", "x.v1")] {
            assert_eq!(list.find(codec, manifest), None, "{codec}:{manifest}");
        }
        assert_eq!(list.iter().count(), 3);
        assert_eq!(Accepted::default().find("a", "x.v1.A"), None);
    }

    #[test]
    fn order_is_checked_across_parts() {
        let mut list = accepted("b:x.v1.A\n").unwrap();
        for lines in ["b:x.v1.A\n", "a:x.v1.Z\n", "b:x.v1.A 0000000000000001\n"] {
            assert_eq!(list.add(lines), Err(ListFault::OutOfOrder), "{lines:?}");
        }
        assert_eq!(list.add("b:x.v1.B\n"), Ok(()));
    }

    #[test]
    fn malformed_lines_are_refused() {
        for lines in [
            "a:x.v1.A",
            "\n",
            "a:x.v1.A\n\n",
            "x.v1.A\n",
            ":x.v1.A\n",
            "a:\n",
            "A:x.v1.A\n",
            "a:no-version\n",
            "a:x.v1.\u{1b}[2J\n",
            "a:x.v1.A\r\n",
            "a:x.v1.A 0\n",
            "a:x.v1.A 00000000000000FF\n",
            "a:x.v1.A 00000000000000ff \n",
            "a:x.v1.A +0000000000000ff\n",
        ] {
            assert_eq!(accepted(lines), Err(ListFault::Malformed), "{lines:?}");
        }
        assert_eq!(accepted(""), Ok(Accepted::default()));
    }

    #[test]
    fn more_names_or_bytes_than_may_be_are_refused() {
        let mut list = Accepted::default();
        for number in 0..MAX_NAMES {
            list.add(&format!("a:x.v1.N{number:05}\n")).unwrap();
        }
        assert_eq!(list.add("a:x.v1.O\n"), Err(ListFault::TooLong));

        let (mut list, mut number) = (Accepted::default(), 0);
        let padding = "x".repeat(180);
        let fault = loop {
            number += 1;
            if let Err(fault) = list.add(&format!("a:v1.{number:09}{padding}\n")) {
                break fault;
            }
        };
        assert_eq!(fault, ListFault::TooLong);
        assert!(list.text.len() <= MAX_TEXT && list.starts.len() < MAX_NAMES);
    }
}
