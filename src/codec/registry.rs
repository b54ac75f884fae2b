//! Collects the codec entries that one node accepts, and finds them by wire name.
//!
//! A registry is a value, fixed once built: sorted, without duplicates, with a fingerprint that two
//! nodes can compare. Several may exist in one process. It is the closed list of what peers may
//! send; it may not learn anything from them.

use std::collections::BTreeSet;
use std::fmt;

use thiserror::Error;

use super::accepted::{Accepted, MAX_NAMES, MAX_TEXT};
use super::macros::Linked;
use super::{CodecEntry, CodecError, brief};

/// Decodes messages by their wire name.
#[derive(Debug, Clone)]
pub struct CodecRegistry {
    entries: Vec<&'static CodecEntry>,
    fingerprint: u64,
}

impl CodecRegistry {
    /// Collects everything that [`remote_messages!`](crate::remote_messages) registered in linked
    /// crates.
    ///
    /// # Errors
    /// Fails if one wire name was registered twice.
    pub fn linked() -> Result<Self, RegistryError> {
        let registry = Self::collect(inventory::iter::<Linked>().flat_map(|table| (table.0)()))?;
        tracing::debug!(
            entries = registry.len(),
            fingerprint = registry.fingerprint,
            "collected linked codecs"
        );
        Ok(registry)
    }

    /// Collects the given tables only, whatever else is linked.
    ///
    /// # Errors
    /// Fails if one wire name occurs twice with another origin or type.
    pub fn from_tables(tables: &[&'static [CodecEntry]]) -> Result<Self, RegistryError> {
        Self::collect(tables.iter().copied().flatten())
    }

    /// Adds tables to what was collected already; entries that are known change nothing.
    ///
    /// # Errors
    /// Fails if one wire name occurs twice with another origin or type.
    pub fn with_tables(self, tables: &[&'static [CodecEntry]]) -> Result<Self, RegistryError> {
        Self::collect(self.entries.into_iter().chain(tables.iter().copied().flatten()))
    }

    /// Checks that every entry of `table` was collected.
    ///
    /// # Errors
    /// Fails naming all that are missing, or one whose wire name belongs to another type.
    pub fn require(&self, table: &'static [CodecEntry]) -> Result<(), RegistryError> {
        let mut missing = Vec::new();
        for wanted in table {
            match self.lookup(wanted.key()) {
                None => missing.push(wanted),
                Some(found) => refuse_other(found, wanted)?,
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(RegistryError::Missing { entries: missing }) }
    }

    /// Finds the entry for a wire name, `codec:manifest`.
    #[must_use]
    pub fn find(&self, wire_name: &str) -> Option<&'static CodecEntry> {
        self.lookup(wire_name.split_once(':')?)
    }

    /// Finds the entry by the two halves of its wire name.
    pub(crate) fn find_parts(&self, codec: &str, manifest: &str) -> Option<&'static CodecEntry> {
        self.lookup((codec, manifest))
    }

    /// Decodes one message of the named type from all of `bytes`.
    ///
    /// # Errors
    /// Fails if the wire name is unknown, or as [`CodecEntry::decode`] does.
    pub fn decode<M: 'static>(&self, wire_name: &str, bytes: &[u8]) -> Result<M, DecodeError> {
        let entry = self
            .find(wire_name)
            .ok_or_else(|| DecodeError::Unknown { wire_name: brief(wire_name) })?;
        Ok(entry.decode(bytes)?)
    }

    /// Returns a number that depends on the set of wire names and schema hashes alone, equal across
    /// builds and machines.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Counts the entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether nothing was collected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Lists the entries, ordered by codec and then by manifest.
    pub fn iter(&self) -> impl Iterator<Item = &'static CodecEntry> + '_ {
        self.entries.iter().copied()
    }

    /// Spells the registry for a peer, in parts of at most `max` bytes; tells whether that is all
    /// of it, for a list has its bounds.
    pub(crate) fn parts(&self, max: usize) -> (Vec<String>, bool) {
        let (mut parts, mut bytes) = (vec![String::new()], 0);
        for (count, entry) in self.entries.iter().enumerate() {
            let line = entry.line();
            bytes += line.len();
            if count >= MAX_NAMES || bytes > MAX_TEXT {
                return (parts, false);
            }
            match parts.last_mut() {
                Some(part) if part.len() + line.len() <= max => part.push_str(&line),
                Some(_) | None => parts.push(line),
            }
        }
        (parts, true)
    }

    /// Finds what a peer's registry and this one name with different schemas.
    pub(crate) fn mismatches<'a>(
        &'a self,
        accepted: &'a Accepted,
    ) -> impl Iterator<Item = Mismatch> + 'a {
        self.entries.iter().filter_map(|entry| {
            let there = accepted.find(entry.codec(), entry.manifest())??;
            let here = entry.schema().filter(|here| *here != there)?;
            Some(Mismatch { codec: entry.codec(), manifest: entry.manifest(), here, there })
        })
    }

    fn collect(
        source: impl IntoIterator<Item = &'static CodecEntry>,
    ) -> Result<Self, RegistryError> {
        let mut entries: Vec<_> = source.into_iter().collect();
        // The origin is part of the order so that an error names the same culprit first in every
        // run.
        entries.sort_by_key(|entry| (entry.key(), entry.origin()));
        for pair in entries.windows(2) {
            if let [first, second] = pair {
                refuse_other(first, second)?;
            }
        }
        entries.dedup_by_key(|entry| entry.key());
        let fingerprint = fingerprint(&entries);
        Ok(Self { entries, fingerprint })
    }

    fn lookup(&self, key: (&str, &str)) -> Option<&'static CodecEntry> {
        let at = self.entries.binary_search_by(|entry| entry.key().cmp(&key)).ok()?;
        self.entries.get(at).copied()
    }
}

/// Says why a set of codec entries makes no registry, or lacks what a program needs.
///
/// Each is a fault of how this program was put together. Nothing was started; retrying does not
/// help.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Reports one wire name registered twice. The fault of whoever registered it second: rename
    /// one.
    #[error(
        "`{}` is registered twice: for `{}` in {}, and for `{}` in {}",
        first.wire_name(), first.type_name(), first.origin(), second.type_name(), second.origin()
    )]
    Duplicate {
        /// Holds the entry whose origin sorts first.
        first: &'static CodecEntry,
        /// Holds the entry it collides with.
        second: &'static CodecEntry,
    },
    /// Reports required entries that are not in the registry. The fault of the program's build: a
    /// crate named nowhere in code is not linked.
    #[error("not registered: {}; {}", Names(entries), Cure(entries))]
    Missing {
        /// Lists the entries that were not found, in the order of the table.
        entries: Vec<&'static CodecEntry>,
    },
}

/// Says why named bytes did not become a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Reports a wire name that is not registered. The sender's fault, or of nodes built from
    /// different versions; nothing was decoded, and a retry fails until this node is rebuilt.
    #[error("`{wire_name}` is not registered")]
    Unknown {
        /// Holds the beginning of the name that was asked for.
        wire_name: String,
    },
    /// Reports bytes that the registered codec refused; see [`CodecFault`](super::CodecFault) for
    /// whose fault it is. A retry fails alike.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Refuses two entries under one wire name unless they are one registration.
fn refuse_other(
    first: &'static CodecEntry,
    second: &'static CodecEntry,
) -> Result<(), RegistryError> {
    if first.key() == second.key() && !first.is_same(second) {
        return Err(RegistryError::Duplicate { first, second });
    }
    Ok(())
}

/// Hashes what [`CodecEntry::line`] spells with 64-bit FNV-1a, in the order of the registry.
fn fingerprint(entries: &[&'static CodecEntry]) -> u64 {
    let lines = entries.iter().map(|entry| entry.line());
    lines.fold(FNV_OFFSET, |hash, line| {
        line.bytes().fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
    })
}

/// One manifest that two nodes know with different schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) codec: &'static str,
    pub(crate) manifest: &'static str,
    pub(crate) here: u64,
    pub(crate) there: u64,
}

/// Shows entries as a list of wire names with their origins.
struct Names<'a>(&'a [&'static CodecEntry]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, entry) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}`{}` of {}", entry.wire_name(), entry.origin())?;
        }
        Ok(())
    }
}

/// Shows what to write so that the entries get linked.
struct Cure<'a>(&'a [&'static CodecEntry]);

impl fmt::Display for Cure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("link it with")?;
        let crates: BTreeSet<_> = self.0.iter().map(|entry| entry.origin().crate_name()).collect();
        for name in crates {
            write!(f, " `use {name} as _;`")?;
        }
        f.write_str(" or register the table explicitly")
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Bincode, Origin};

    fn registry(names: usize) -> CodecRegistry {
        let manifest = |number| &*format!("big.v1.N{number:06}{}", "x".repeat(60)).leak();
        let entry = |number| {
            let origin = Origin::new("big.rs", 1, "big");
            CodecEntry::reading::<u16, Bincode, ()>(manifest(number), origin)
                .with_schema(u64::try_from(number).ok())
        };
        let table: Vec<_> = (0..names).map(entry).collect();
        CodecRegistry::from_tables(&[table.leak()]).unwrap()
    }

    #[test]
    fn a_registry_travels_in_parts_and_is_read_back_whole() {
        for names in [0, 1, 1_000] {
            let registry = registry(names);
            let (parts, is_whole) = registry.parts(512);
            let mut accepted = Accepted::default();
            for part in &parts {
                assert!(part.len() <= 512);
                accepted.add(part).unwrap();
            }
            assert!(is_whole && !parts.is_empty());
            assert_eq!(accepted.iter().count(), names);
            assert_eq!(registry.mismatches(&accepted).count(), 0);
        }
    }

    #[test]
    fn a_registry_beyond_the_bounds_is_cut_where_peers_would_refuse_it() {
        let (parts, is_whole) = registry(MAX_NAMES).parts(4096);
        let mut accepted = Accepted::default();
        parts.iter().for_each(|part| accepted.add(part).unwrap());
        assert!(!is_whole);
        assert!(parts.iter().map(String::len).sum::<usize>() > MAX_TEXT - 4096);
    }
}
