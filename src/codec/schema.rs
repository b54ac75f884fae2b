//! Compares a registry with a committed table of it, so that an incompatible change fails a
//! project's checks and not its cluster.
//!
//! A table has one line for each manifest, in order: the manifest, its formats with the one that
//! sends first, and the schema hash, or `-` where there is none. Lines that begin with `#` are
//! comments.
//!
//! ```text
//! shop.v1.AddItem bincode,json 7c0f3a2b91e45d68
//! shop.v1.Checkout bincode -
//! ```
//!
//! A program writes its table with [`SchemaTable::of`] and [`Display`](fmt::Display), and a test
//! compares:
//!
//! ```standalone_crate
//! use tellwire::codec::CodecRegistry;
//! use tellwire::codec::schema::{Change, SchemaTable};
//!
//! let committed: SchemaTable = "shop.v1.AddItem bincode -\n".parse()?;
//! let linked = SchemaTable::of(&CodecRegistry::linked()?);
//! let changes = committed.changes_to(&linked);
//! assert!(changes.iter().any(Change::is_incompatible));
//! assert_eq!(changes[0].to_string(), "`shop.v1.AddItem` is gone");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It sits on the registry and may not read files: where a table is kept is its caller's choice.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::accepted::parse_schema;
use super::grammar::{is_codec_name, is_manifest};
use super::{CodecRegistry, brief};

/// Lists manifests with their formats and schema hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaTable {
    rows: BTreeMap<String, Row>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    /// The one that sends is the first.
    codecs: Vec<String>,
    schema: Option<u64>,
}

/// Says how a manifest has changed since a table was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The manifest is new. Compatible.
    Added {
        /// The manifest.
        manifest: String,
    },
    /// The manifest is no longer accepted. Peers that still send it are refused.
    Gone {
        /// The manifest.
        manifest: String,
    },
    /// The shape of the type has changed. Peers with the old one are refused; a changed type needs a new manifest.
    Schema {
        /// The manifest.
        manifest: String,
        /// The hash that was committed.
        before: u64,
        /// The hash of this program; none if it is no longer compared.
        after: Option<u64>,
    },
    /// The shape of the type is compared from here on. Compatible.
    SchemaAdded {
        /// The manifest.
        manifest: String,
    },
    /// Another format sends. Peers that have only the old one would not understand it if they cannot be asked.
    FirstCodec {
        /// The manifest.
        manifest: String,
        /// The format that sent.
        before: String,
        /// The format that sends.
        after: String,
    },
    /// A format is accepted in addition. Compatible.
    CodecAdded {
        /// The manifest.
        manifest: String,
        /// The format.
        codec: String,
    },
    /// A format is no longer accepted. Peers that still send it are refused.
    CodecGone {
        /// The manifest.
        manifest: String,
        /// The format.
        codec: String,
    },
}

/// Says which line of a table cannot be read; its author's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line} is not `manifest codec,… hash` with a hash of 16 digits or `-`: `{text}`")]
pub struct TableError {
    /// The line, counted from 1.
    pub line: usize,
    /// Its beginning.
    pub text: String,
}

impl SchemaTable {
    /// Lists what a registry holds.
    #[must_use]
    pub fn of(registry: &CodecRegistry) -> Self {
        let mut entries: Vec<_> = registry.iter().collect();
        entries.sort_by_key(|entry| (entry.manifest(), entry.rank(), entry.codec()));
        let mut rows = BTreeMap::<String, Row>::new();
        for entry in entries {
            let new = || Row { codecs: Vec::new(), schema: entry.schema() };
            let row = rows.entry(entry.manifest().to_owned()).or_insert_with(new);
            row.codecs.push(entry.codec().to_owned());
        }
        Self { rows }
    }

    /// Lists what has changed from this table to a later one, in the order of the manifests.
    #[must_use]
    pub fn changes_to(&self, later: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (manifest, before) in &self.rows {
            match later.rows.get(manifest) {
                None => changes.push(Change::Gone { manifest: manifest.clone() }),
                Some(after) => before.changes_to(after, manifest, &mut changes),
            }
        }
        let added = later.rows.keys().filter(|manifest| !self.rows.contains_key(*manifest));
        changes.extend(added.map(|manifest| Change::Added { manifest: manifest.clone() }));
        changes.sort_by(|a, b| a.manifest().cmp(b.manifest()));
        changes
    }
}

impl Row {
    fn changes_to(&self, after: &Self, manifest: &str, changes: &mut Vec<Change>) {
        let named = || manifest.to_owned();
        match (self.schema, after.schema) {
            (Some(before), after) if after != Some(before) => {
                changes.push(Change::Schema { manifest: named(), before, after });
            }
            (None, Some(_)) => changes.push(Change::SchemaAdded { manifest: named() }),
            (Some(_) | None, _) => {}
        }
        if let (Some(before), Some(after)) = (self.codecs.first(), after.codecs.first()) {
            if before != after {
                let (before, after) = (before.clone(), after.clone());
                changes.push(Change::FirstCodec { manifest: named(), before, after });
            }
        }
        let only = |here: &Self, there: &Self| -> Vec<String> {
            here.codecs.iter().filter(|codec| !there.codecs.contains(codec)).cloned().collect()
        };
        let gone = only(self, after).into_iter();
        changes.extend(gone.map(|codec| Change::CodecGone { manifest: named(), codec }));
        let added = only(after, self).into_iter();
        changes.extend(added.map(|codec| Change::CodecAdded { manifest: named(), codec }));
    }

    fn parse(line: &str) -> Option<(String, Self)> {
        let mut words = line.split_whitespace();
        let (manifest, codecs, schema) = (words.next()?, words.next()?, words.next()?);
        let schema = if schema == "-" { None } else { Some(parse_schema(schema)?) };
        let is_valid =
            is_manifest(manifest) && codecs.split(',').all(is_codec_name) && words.next().is_none();
        let codecs = codecs.split(',').map(str::to_owned).collect();
        is_valid.then(|| (manifest.to_owned(), Self { codecs, schema }))
    }
}

impl Change {
    /// Tells whether nodes of the committed build and of this one would refuse each other's tells.
    #[must_use]
    pub fn is_incompatible(&self) -> bool {
        match self {
            Self::Gone { .. }
            | Self::Schema { .. }
            | Self::FirstCodec { .. }
            | Self::CodecGone { .. } => true,
            Self::Added { .. } | Self::SchemaAdded { .. } | Self::CodecAdded { .. } => false,
        }
    }

    /// Gives the manifest that has changed.
    #[must_use]
    pub fn manifest(&self) -> &str {
        match self {
            Self::Added { manifest }
            | Self::Gone { manifest }
            | Self::Schema { manifest, .. }
            | Self::SchemaAdded { manifest }
            | Self::FirstCodec { manifest, .. }
            | Self::CodecAdded { manifest, .. }
            | Self::CodecGone { manifest, .. } => manifest,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ", self.manifest())?;
        match self {
            Self::Added { .. } => f.write_str("is new"),
            Self::Gone { .. } => f.write_str("is gone"),
            Self::Schema { before, after: Some(after), .. } => {
                write!(f, "has changed its schema from {before:016x} to {after:016x}")
            }
            Self::Schema { before, after: None, .. } => {
                write!(f, "has lost its schema {before:016x}")
            }
            Self::SchemaAdded { .. } => f.write_str("has gained a schema"),
            Self::FirstCodec { before, after, .. } => {
                write!(f, "is sent as {after}, no longer as {before}")
            }
            Self::CodecAdded { codec, .. } => write!(f, "is accepted as {codec} too"),
            Self::CodecGone { codec, .. } => write!(f, "is no longer accepted as {codec}"),
        }
    }
}

impl fmt::Display for SchemaTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (manifest, Row { codecs, schema }) in &self.rows {
            write!(f, "{manifest} {} ", codecs.join(","))?;
            match schema {
                Some(schema) => writeln!(f, "{schema:016x}")?,
                None => writeln!(f, "-")?,
            }
        }
        Ok(())
    }
}

impl FromStr for SchemaTable {
    type Err = TableError;

    fn from_str(text: &str) -> Result<Self, TableError> {
        let mut rows = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let row = Row::parse(line).filter(|(manifest, _)| !rows.contains_key(manifest));
            let error = || TableError { line: number, text: brief(line) };
            let (manifest, row) = row.ok_or_else(error)?;
            rows.insert(manifest, row);
        }
        Ok(Self { rows })
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, SchemaTable};

    fn table(text: &str) -> SchemaTable {
        text.parse().unwrap()
    }

    fn changes(before: &str, after: &str) -> Vec<(bool, String)> {
        let changes = table(before).changes_to(&table(after));
        changes.iter().map(|change| (change.is_incompatible(), change.to_string())).collect()
    }

    #[test]
    fn a_table_is_written_as_it_is_read() {
        let text = "a.v1.A bincode,json 00000000000000ff\nb.v1.B json -\n";
        assert_eq!(table(text).to_string(), text);
        assert_eq!(table("# note\n\nb.v1.B json -").to_string(), "b.v1.B json -\n");
    }

    #[test]
    fn lines_that_cannot_be_read_are_named() {
        for line in [
            "a.v1.A json",
            "a.v1.A json - more",
            "noversion json -",
            "a.v1.A JSON -",
            "a.v1.A json, -",
            "a.v1.A json ff",
            "b.v1.B json -",
        ] {
            let error = format!("b.v1.B json -\n{line}\n").parse::<SchemaTable>().unwrap_err();
            assert_eq!((error.line, error.text.as_str()), (2, line));
        }
    }

    #[test]
    fn what_old_peers_would_not_understand_is_incompatible() {
        let before = "a.v1.A json 0000000000000001\nb.v1.B json,cbor -\nc.v1.C json -\n";
        let after = "a.v1.A json 0000000000000002\nb.v1.B cbor -\n";
        let says = |text: &str| (true, text.to_owned());
        let expected = [
            says("`a.v1.A` has changed its schema from 0000000000000001 to 0000000000000002"),
            says("`b.v1.B` is sent as cbor, no longer as json"),
            says("`b.v1.B` is no longer accepted as json"),
            says("`c.v1.C` is gone"),
        ];
        assert_eq!(changes(before, after), expected);
        let lost = changes("a.v1.A json 0000000000000001", "a.v1.A json -");
        assert_eq!(lost, [says("`a.v1.A` has lost its schema 0000000000000001")]);
    }

    #[test]
    fn additions_are_compatible() {
        let after = "a.v1.A json,cbor 0000000000000001\na.v2.A json -\n";
        let notes = |text: &str| (false, text.to_owned());
        let expected = [
            notes("`a.v1.A` has gained a schema"),
            notes("`a.v1.A` is accepted as cbor too"),
            notes("`a.v2.A` is new"),
        ];
        assert_eq!(changes("a.v1.A json -", after), expected);
        assert_eq!(table(after).changes_to(&table(after)), Vec::<Change>::new());
    }
}
