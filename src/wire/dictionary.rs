//! Gives long texts small numbers, per link and direction.
//!
//! Paths and manifests repeat in every tell. The sender interns each once in its [`Definitions`],
//! defines it in-band with a [`Define`] frame and from then on writes the id; the receiver keeps
//! the same table as a [`Dictionary`]. Both are bounded, since a peer chooses what is put in.

use std::collections::HashMap;
use std::str;
use std::sync::Arc;

use super::{DICTIONARY_BYTES, DICTIONARY_ENTRIES, FrameError, Input, TEXT_LIMIT};

/// Numbers a text of the dictionary, 1 to [`DICTIONARY_ENTRIES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextId(u16);

impl TextId {
    /// Accepts a number as an id if it is one.
    #[inline]
    #[must_use]
    pub const fn new(id: u16) -> Option<Self> {
        if id >= 1 && id <= DICTIONARY_ENTRIES { Some(Self(id)) } else { None }
    }

    /// Returns the number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Counts from 0, for tables indexed by id.
    #[inline]
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0) - 1
    }

    #[inline]
    fn parse(id: u16) -> Result<Self, FrameError> {
        Self::new(id).ok_or(FrameError::IdOutOfRange { id })
    }
}

/// Names a path or a manifest, by its id or by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextRef<'a> {
    /// Spells the text out, 1 to [`TEXT_LIMIT`] bytes.
    Literal(&'a str),
    /// Points into the dictionary of the link.
    Id(TextId),
}

impl<'a> TextRef<'a> {
    /// Appends the reference to `out`.
    ///
    /// # Errors
    /// [`FrameError::TextLength`] for a literal that is empty or too long; `out` is untouched.
    #[inline]
    pub fn encode(self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        match self {
            Self::Id(id) => out.extend_from_slice(&id.0.to_be_bytes()),
            Self::Literal(text) => encode_literal(text, out)?,
        }
        Ok(())
    }

    #[inline]
    pub(super) fn parse(input: &mut Input<'a>, what: &'static str) -> Result<Self, FrameError> {
        match input.u16(what)? {
            0 => parse_literal(input, what).map(Self::Literal),
            id => TextId::parse(id).map(Self::Id),
        }
    }
}

/// Carries the body of a DEFINE frame: from here on, `id` means `text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Define<'a> {
    /// The number the sender chose.
    pub id: TextId,
    /// The text it stands for.
    pub text: &'a str,
}

impl<'a> Define<'a> {
    /// Reads a whole DEFINE body.
    ///
    /// # Errors
    /// Any broken rule of the field layout, as a [`FrameError`].
    pub fn parse(body: &'a [u8]) -> Result<Self, FrameError> {
        let mut input = Input(body);
        let id = TextId::parse(input.u16("text id")?)?;
        let text = utf8(checked_text(input.0)?, "definition")?;
        Ok(Self { id, text })
    }

    /// Appends the body to `out`.
    ///
    /// # Errors
    /// [`FrameError::TextLength`] for a text that is empty or too long; `out` is untouched.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let text = checked_text(self.text.as_bytes())?;
        out.extend_from_slice(&self.id.0.to_be_bytes());
        out.extend_from_slice(text);
        Ok(())
    }
}

/// Assigns ids to texts on the sending side.
///
/// Ids are given in order and stay valid until [`clear`](Self::clear), across links too: a writer
/// remembers how many definitions its link has seen and writes [`since`](Self::since) that many
/// before any frame that may use them. On a new link that number is 0.
#[derive(Debug, Default)]
pub struct Definitions {
    ids: HashMap<Arc<str>, TextId>,
    texts: Vec<Arc<str>>,
    bytes: usize,
}

impl Definitions {
    /// Creates an empty table; allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the id of `text`, a new one if need be; `None` if it has to travel as a literal,
    /// because the table is full or the text is longer than [`TEXT_LIMIT`].
    #[inline]
    pub fn intern(&mut self, text: &str) -> Option<TextId> {
        self.find(text).or_else(|| self.define(text))
    }

    /// Forgets every text, and with that every id handed out.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.texts.clear();
        self.bytes = 0;
    }

    /// Returns the id of `text` if it has one.
    #[inline]
    #[must_use]
    pub fn find(&self, text: &str) -> Option<TextId> {
        self.ids.get(text).copied()
    }

    /// Goes through the definitions in the order of their ids, leaving out the first `n`.
    pub fn since(&self, n: usize) -> impl Iterator<Item = (TextId, &str)> {
        (1..).map(TextId).zip(self.texts.iter().map(|text| &**text)).skip(n)
    }

    /// Counts the definitions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Says whether nothing was defined.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    fn define(&mut self, text: &str) -> Option<TextId> {
        checked_text(text.as_bytes()).ok()?;
        let id = u16::try_from(self.texts.len() + 1).ok().and_then(TextId::new)?;
        let bytes = self.bytes + text.len();
        if bytes > DICTIONARY_BYTES {
            return None;
        }
        let text: Arc<str> = text.into();
        self.ids.insert(Arc::clone(&text), id);
        self.texts.push(text);
        self.bytes = bytes;
        Some(id)
    }
}

/// Holds, on the receiving side, what the peer defined on this link.
#[derive(Debug, Default)]
pub struct Dictionary {
    texts: Vec<Option<Box<str>>>,
    bytes: usize,
}

impl Dictionary {
    /// Creates an empty table; allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `id` its text; saying the same again is fine.
    ///
    /// # Errors
    /// [`FrameError::Redefined`] if `id` has another text, [`FrameError::TextLength`] and
    /// [`FrameError::DictionaryFull`] at the bounds. The table is unchanged by an error.
    pub fn define(&mut self, id: TextId, text: &str) -> Result<(), FrameError> {
        match self.slot(id) {
            Some(known) if known == text => Ok(()),
            Some(_) => Err(FrameError::Redefined { id: id.0 }),
            None => self.insert(id, text),
        }
    }

    /// Forgets every text, for a new link or a new incarnation.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.bytes = 0;
    }

    /// Returns the text of `id`.
    ///
    /// # Errors
    /// [`FrameError::UnknownId`] if it was never defined.
    #[inline]
    pub fn get(&self, id: TextId) -> Result<&str, FrameError> {
        self.slot(id).ok_or(FrameError::UnknownId { id: id.0 })
    }

    /// Returns the text a reference stands for.
    ///
    /// # Errors
    /// [`FrameError::UnknownId`] if its id was never defined.
    #[inline]
    pub fn resolve<'a>(&'a self, text: TextRef<'a>) -> Result<&'a str, FrameError> {
        match text {
            TextRef::Literal(text) => Ok(text),
            TextRef::Id(id) => self.get(id),
        }
    }

    #[inline]
    fn slot(&self, id: TextId) -> Option<&str> {
        self.texts.get(id.index())?.as_deref()
    }

    fn insert(&mut self, id: TextId, text: &str) -> Result<(), FrameError> {
        checked_text(text.as_bytes())?;
        let bytes = self.bytes + text.len();
        if bytes > DICTIONARY_BYTES {
            return Err(FrameError::DictionaryFull);
        }
        if self.texts.len() <= id.index() {
            self.texts.resize(id.index() + 1, None);
        }
        if let Some(slot) = self.texts.get_mut(id.index()) {
            *slot = Some(text.into());
            self.bytes = bytes;
        }
        Ok(())
    }
}

fn encode_literal(text: &str, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let text = checked_text(text.as_bytes())?;
    let len = u16::try_from(text.len()).map_err(|_| FrameError::TextLength { len: text.len() })?;
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text);
    Ok(())
}

fn parse_literal<'a>(input: &mut Input<'a>, what: &'static str) -> Result<&'a str, FrameError> {
    let len = usize::from(input.u16(what)?);
    // Before the bytes are taken: a length above the limit is wrong however long the body is.
    checked_len(len)?;
    utf8(input.bytes(len, what)?, what)
}

fn checked_text(text: &[u8]) -> Result<&[u8], FrameError> {
    checked_len(text.len()).map(|()| text)
}

fn checked_len(len: usize) -> Result<(), FrameError> {
    if len == 0 || len > TEXT_LIMIT { Err(FrameError::TextLength { len }) } else { Ok(()) }
}

fn utf8<'a>(text: &'a [u8], what: &'static str) -> Result<&'a str, FrameError> {
    str::from_utf8(text).map_err(|_| FrameError::NotUtf8 { what })
}

#[cfg(test)]
mod tests {
    use super::{
        DICTIONARY_BYTES, DICTIONARY_ENTRIES, Definitions, Dictionary, FrameError, TEXT_LIMIT,
        TextId, TextRef,
    };

    fn id(number: u16) -> TextId {
        TextId::new(number).unwrap()
    }

    #[test]
    fn ids_are_1_to_1024() {
        assert_eq!(TextId::new(0), None);
        assert_eq!(TextId::new(1).map(TextId::index), Some(0));
        assert_eq!(TextId::new(1024).map(TextId::get), Some(1024));
        assert_eq!(TextId::new(1025), None);
    }

    #[test]
    fn same_text_is_interned_once() {
        let mut definitions = Definitions::new();
        assert_eq!(definitions.find("/user/a"), None);
        assert_eq!(definitions.intern("/user/a"), Some(id(1)));
        assert_eq!(definitions.intern("/user/b"), Some(id(2)));
        assert_eq!(definitions.intern("/user/a"), Some(id(1)));
        assert_eq!(definitions.find("/user/b"), Some(id(2)));
        assert_eq!(definitions.len(), 2);
    }

    #[test]
    fn texts_beyond_the_entries_stay_literal() {
        let mut definitions = Definitions::new();
        for n in 1..=DICTIONARY_ENTRIES {
            assert_eq!(definitions.intern(&n.to_string()), Some(id(n)));
        }
        assert_eq!(definitions.intern("one more"), None);
        assert_eq!(definitions.intern("7"), Some(id(7)));
        assert_eq!(definitions.len(), usize::from(DICTIONARY_ENTRIES));
    }

    #[test]
    fn texts_beyond_the_bytes_stay_literal_while_shorter_ones_still_fit() {
        let mut definitions = Definitions::new();
        let texts = DICTIONARY_BYTES / TEXT_LIMIT - 1;
        for n in 0..texts {
            assert!(definitions.intern(&format!("{n:0>512}")).is_some());
        }
        assert!(definitions.intern(&"x".repeat(510)).is_some());
        assert_eq!(definitions.intern("abc"), None);
        assert!(definitions.intern("ab").is_some());
        assert_eq!(definitions.intern("a"), None);
    }

    #[test]
    fn empty_and_overlong_texts_are_never_interned() {
        let mut definitions = Definitions::new();
        assert_eq!(definitions.intern(""), None);
        assert_eq!(definitions.intern(&"x".repeat(TEXT_LIMIT + 1)), None);
        assert_eq!(definitions.intern(&"x".repeat(TEXT_LIMIT)), Some(id(1)));
    }

    #[test]
    fn writer_gets_what_its_link_has_not_seen() {
        let mut definitions = Definitions::new();
        definitions.intern("a");
        definitions.intern("b");
        let replay: Vec<_> = definitions.since(0).collect();
        assert_eq!(replay, [(id(1), "a"), (id(2), "b")]);
        definitions.intern("c");
        assert_eq!(definitions.since(2).collect::<Vec<_>>(), [(id(3), "c")]);
        assert_eq!(definitions.since(3).next(), None);
        assert_eq!(definitions.since(99).next(), None);
    }

    #[test]
    fn cleared_definitions_begin_again() {
        let mut definitions = Definitions::new();
        for n in 0..DICTIONARY_BYTES / TEXT_LIMIT {
            assert!(definitions.intern(&format!("{n:0>512}")).is_some());
        }
        definitions.clear();
        assert!(definitions.is_empty());
        assert_eq!(definitions.find(&format!("{:0>512}", 0)), None);
        assert_eq!(definitions.intern("a"), Some(id(1)));
    }

    #[test]
    fn defined_texts_resolve_and_others_do_not() {
        let mut dictionary = Dictionary::new();
        dictionary.define(id(1024), "last").unwrap();
        dictionary.define(id(3), "third").unwrap();
        assert_eq!(dictionary.get(id(3)), Ok("third"));
        assert_eq!(dictionary.resolve(TextRef::Id(id(1024))), Ok("last"));
        assert_eq!(dictionary.resolve(TextRef::Literal("itself")), Ok("itself"));
        assert_eq!(dictionary.get(id(4)), Err(FrameError::UnknownId { id: 4 }));
        dictionary.clear();
        assert_eq!(dictionary.get(id(3)), Err(FrameError::UnknownId { id: 3 }));
    }

    #[test]
    fn second_text_for_an_id_is_refused_and_the_same_text_is_not() {
        let mut dictionary = Dictionary::new();
        dictionary.define(id(1), "a").unwrap();
        assert_eq!(dictionary.define(id(1), "a"), Ok(()));
        assert_eq!(dictionary.define(id(1), "b"), Err(FrameError::Redefined { id: 1 }));
        assert_eq!(dictionary.get(id(1)), Ok("a"));
    }

    #[test]
    fn dictionary_takes_no_more_than_its_bytes() {
        let mut dictionary = Dictionary::new();
        let text = "x".repeat(TEXT_LIMIT);
        let fitting = u16::try_from(DICTIONARY_BYTES / TEXT_LIMIT).unwrap();
        for n in 1..=fitting {
            dictionary.define(id(n), &text).unwrap();
        }
        assert_eq!(dictionary.define(id(1000), "y"), Err(FrameError::DictionaryFull));
        assert_eq!(dictionary.get(id(1000)), Err(FrameError::UnknownId { id: 1000 }));
        assert_eq!(dictionary.define(id(1), &text), Ok(()));
        dictionary.clear();
        assert_eq!(dictionary.define(id(1000), "y"), Ok(()));
    }

    #[test]
    fn dictionary_refuses_empty_and_overlong_texts() {
        let mut dictionary = Dictionary::new();
        let long = "x".repeat(TEXT_LIMIT + 1);
        assert_eq!(dictionary.define(id(1), ""), Err(FrameError::TextLength { len: 0 }));
        assert_eq!(dictionary.define(id(1), &long), Err(FrameError::TextLength { len: 513 }));
    }
}
