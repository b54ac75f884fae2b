//! Names actors: [`ActorPath`], an [`Address`] followed by segments.
//!
//! A path says where an actor is registered, `tcp://Chat@10.0.0.1:2551/user/echo`. Without an
//! address it is local to the node it is used on, `/user/echo`. It sits on the lowest floor with
//! the addresses; it does not know whether anything answers at a path.
//!
//! ```text
//! path      = [address] local                      ; at most 512 bytes
//! local     = 1*32("/" segment)
//! segment   = 1*128(ALPHA / DIGIT / "-" / "_" / "." / "*" / "$" / "+" / ":"
//!             / "@" / "&" / "=" / "," / "!" / "~" / "'")
//!                                                  ; neither "." nor ".."
//! ```
//!
//! There is no percent decoding, no empty segment, no trailing slash and no way upwards, so that
//! one actor has one path and no text from a peer can mean another path than it shows.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::address::{Address, AddressError, Excerpt, deserialize_text};

/// Names an actor on a node, `tcp://Chat@10.0.0.1:2551/user/echo`, or on this one, `/user/echo`.
///
/// Cloning is cheap. Local paths are ordered before those with an address.
///
/// ```
/// use tellwire::path::ActorPath;
///
/// let echo: ActorPath = "tcp://Chat@10.0.0.1:2551/user/echo".parse()?;
/// assert_eq!(echo.local(), "/user/echo");
/// assert_eq!(echo.child("worker-1")?.name(), "worker-1");
/// assert_eq!(echo.without_address(), "/user/echo".parse()?);
/// # Ok::<(), tellwire::path::PathError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorPath {
    /// The node, or none for the node the path is used on.
    address: Option<Address>,
    /// The segments with their slashes, checked.
    local: Arc<str>,
}

impl ActorPath {
    /// Checks a local text such as `/user/echo`, allocating nothing even when it is refused.
    ///
    /// # Errors
    /// [`PathError`] names what breaks the grammar.
    pub fn check_local(text: &str) -> Result<(), PathError> {
        check_length(text.len())?;
        if text.is_empty() {
            return Err(PathError::NoSegments(Excerpt::of(text)));
        }
        let segments = text.strip_prefix('/');
        let segments = segments.ok_or_else(|| PathError::NotRooted(Excerpt::of(text)))?;
        let count = segments.split('/').count();
        if count > MAX_SEGMENTS {
            return Err(PathError::TooManySegments { count });
        }
        segments.split('/').try_for_each(|segment| check_segment(segment, text))
    }

    /// Returns the node, or `None` for a local path.
    pub fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// Returns the part behind the address, `/user/echo`.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// Tells whether the path has no address.
    pub fn is_local(&self) -> bool {
        self.address.is_none()
    }

    /// Iterates over the segments, `user` then `echo`.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.local.trim_start_matches('/').split('/')
    }

    /// Returns the last segment.
    pub fn name(&self) -> &str {
        self.split_name().1
    }

    /// Returns the path without its last segment, or `None` when only one is there.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _name) = self.split_name();
        let local = if parent.is_empty() { None } else { Some(parent.into()) };
        local.map(|local| Self { address: self.address.clone(), local })
    }

    /// Returns the path with one more segment.
    ///
    /// # Errors
    /// [`PathError`] when the name is no segment, or the path would become too long or too deep.
    pub fn child(&self, name: &str) -> Result<Self, PathError> {
        check_segment(name, name)?;
        Self::join(self.address.clone(), &format!("{}/{name}", self.local))
    }

    /// Returns the same path on the node at `address`.
    ///
    /// # Errors
    /// [`PathError::TooLong`] when both together exceed the limit.
    pub fn at(&self, address: &Address) -> Result<Self, PathError> {
        check_length(address.as_str().len() + self.local.len())?;
        Ok(Self { address: Some(address.clone()), local: self.local.clone() })
    }

    /// Returns the same path as the node itself writes it, without an address.
    #[must_use]
    pub fn without_address(&self) -> Self {
        Self { address: None, local: self.local.clone() }
    }

    fn join(address: Option<Address>, local: &str) -> Result<Self, PathError> {
        Self::check_local(local)?;
        check_length(address.as_ref().map_or(0, |address| address.as_str().len()) + local.len())?;
        Ok(Self { address, local: local.into() })
    }

    fn split_name(&self) -> (&str, &str) {
        self.local.rsplit_once('/').unwrap_or(("", &self.local))
    }
}

impl FromStr for ActorPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        check_length(text.len())?;
        let (address, local) = text.split_at(address_length(text)?);
        let address = if address.is_empty() { None } else { Some(address.parse()?) };
        Self::join(address, local)
    }
}

/// Turns what a caller has at hand into a path, so that texts and paths are equally welcome.
///
/// The `Result` of another parse is taken too: its error is passed on.
pub trait IntoActorPath {
    /// Returns the path.
    ///
    /// # Errors
    /// [`PathError`] when a text breaks the grammar.
    fn into_actor_path(self) -> Result<ActorPath, PathError>;
}

impl IntoActorPath for ActorPath {
    fn into_actor_path(self) -> Result<ActorPath, PathError> {
        Ok(self)
    }
}

impl IntoActorPath for &ActorPath {
    fn into_actor_path(self) -> Result<ActorPath, PathError> {
        Ok(self.clone())
    }
}

impl IntoActorPath for Arc<ActorPath> {
    fn into_actor_path(self) -> Result<ActorPath, PathError> {
        Ok(Self::unwrap_or_clone(self))
    }
}

impl IntoActorPath for &str {
    fn into_actor_path(self) -> Result<ActorPath, PathError> {
        self.parse()
    }
}

impl IntoActorPath for String {
    fn into_actor_path(self) -> Result<ActorPath, PathError> {
        self.parse()
    }
}

impl IntoActorPath for Result<ActorPath, PathError> {
    fn into_actor_path(self) -> Result<ActorPath, PathError> {
        self
    }
}

/// Explains why a text is no path.
///
/// Nothing was built or sent. The fault is always in the text: with the caller when a program
/// wrote it, with the peer when it came over a link. The same text is refused again, so a retry
/// is useless until the named part is corrected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Refuses a path of more than 512 bytes; its writer must shorten it.
    #[error("path of {length} bytes is too long, at most {MAX_PATH} are allowed")]
    TooLong {
        /// Bytes in the refused path, address included.
        length: usize,
    },
    /// Refuses more than 32 segments; the writer must nest less deeply.
    #[error("path has {count} segments, at most {MAX_SEGMENTS} are allowed")]
    TooManySegments {
        /// Segments in the refused path.
        count: usize,
    },
    /// Refuses a segment of more than 128 bytes; the writer must shorten it.
    #[error("path segment of {length} bytes is too long, at most {MAX_SEGMENT} are allowed")]
    SegmentTooLong {
        /// Bytes in the refused segment.
        length: usize,
    },
    /// Misses the segments; the writer gave an address, or nothing, where a path is needed.
    #[error("{0} has no path segments")]
    NoSegments(Excerpt),
    /// Refuses a path that begins neither with `/` nor with an address; the writer must add one.
    #[error("path {0} begins neither with `/` nor with an address")]
    NotRooted(Excerpt),
    /// Refuses `//` and a slash at the end; the writer must remove it.
    #[error("path {0} has an empty segment")]
    SegmentEmpty(Excerpt),
    /// Refuses the segments `.` and `..`; the writer must give the path they were to lead to.
    #[error("path {0} has a `.` or `..` segment")]
    SegmentDots(Excerpt),
    /// Refuses a character; the writer must choose another name, there is no escaping.
    #[error("path segment {segment} has the character {found:?}, which is not allowed")]
    SegmentCharacter {
        /// The first character refused.
        found: char,
        /// The segment it is in.
        segment: Excerpt,
    },
    /// Refuses the address in front; the writer must correct it.
    #[error(transparent)]
    Address(#[from] AddressError),
}

impl fmt::Display for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.as_ref().map_or("", Address::as_str);
        write!(f, "{address}{}", self.local)
    }
}

impl fmt::Debug for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorPath({self})")
    }
}

impl Serialize for ActorPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.address {
            Some(_) => serializer.collect_str(self),
            None => serializer.serialize_str(&self.local),
        }
    }
}

impl<'de> Deserialize<'de> for ActorPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_text(deserializer)
    }
}

/// Returns how many bytes in front belong to an address, 0 for a local path.
fn address_length(text: &str) -> Result<usize, PathError> {
    if text.is_empty() || text.starts_with('/') {
        return Ok(0);
    }
    let (scheme, rest) =
        text.split_once("://").ok_or_else(|| PathError::NotRooted(Excerpt::of(text)))?;
    let place = rest.find('/').unwrap_or(rest.len());
    Ok(scheme.len() + "://".len() + place)
}

fn check_length(length: usize) -> Result<(), PathError> {
    if length <= MAX_PATH { Ok(()) } else { Err(PathError::TooLong { length }) }
}

/// Checks one segment of `path`, which an error shows where the segment alone says too little.
fn check_segment(segment: &str, path: &str) -> Result<(), PathError> {
    let length = segment.len();
    if length > MAX_SEGMENT {
        return Err(PathError::SegmentTooLong { length });
    }
    match segment {
        "" => Err(PathError::SegmentEmpty(Excerpt::of(path))),
        "." | ".." => Err(PathError::SegmentDots(Excerpt::of(path))),
        _ => check_characters(segment),
    }
}

fn check_characters(segment: &str) -> Result<(), PathError> {
    match segment.chars().find(|&c| !is_segment_character(c)) {
        None => Ok(()),
        Some(found) => Err(PathError::SegmentCharacter { found, segment: Excerpt::of(segment) }),
    }
}

fn is_segment_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || SEGMENT_MARKS.contains(c)
}

/// Bytes in a whole path, address included.
const MAX_PATH: usize = 512;
/// Segments in a path.
const MAX_SEGMENTS: usize = 32;
/// Bytes in a segment.
const MAX_SEGMENT: usize = 128;
/// Characters allowed in a segment besides letters and digits.
const SEGMENT_MARKS: &str = "-_.*$+:@&=,!~'";

#[cfg(test)]
mod tests {
    use super::{ActorPath, IntoActorPath, PathError};
    use crate::address::Address;

    fn path(text: &str) -> ActorPath {
        text.parse().unwrap()
    }

    fn node() -> Address {
        "tcp://Chat@10.0.0.1:2551".parse().unwrap()
    }

    #[test]
    fn a_path_gives_back_its_parts() {
        let echo = path("tcp://Chat@10.0.0.1:2551/user/echo");
        assert_eq!(echo.address(), Some(&node()));
        assert_eq!(echo.local(), "/user/echo");
        assert_eq!(echo.segments().collect::<Vec<_>>(), ["user", "echo"]);
        assert_eq!(echo.name(), "echo");
        assert!(!echo.is_local());
        assert_eq!(echo.to_string(), "tcp://Chat@10.0.0.1:2551/user/echo");
    }

    #[test]
    fn moving_between_nodes_keeps_the_local_part() {
        let echo = path("/user/echo");
        assert!(echo.is_local());
        let there = echo.at(&node()).unwrap();
        assert_eq!(there, path("tcp://Chat@10.0.0.1:2551/user/echo"));
        assert_ne!(there, echo);
        assert_eq!(there.without_address(), echo);
    }

    #[test]
    fn a_child_has_its_maker_as_parent_and_the_top_has_none() {
        let user = path("/user").at(&node()).unwrap();
        let echo = user.child("echo").unwrap();
        assert_eq!(echo.parent(), Some(user.clone()));
        assert_eq!(user.parent(), None);
    }

    #[test]
    fn a_child_must_be_one_segment() {
        let user = path("/user");
        assert!(matches!(user.child("a/b"), Err(PathError::SegmentCharacter { found: '/', .. })));
        assert!(matches!(user.child(""), Err(PathError::SegmentEmpty(_))));
        assert!(matches!(user.child(".."), Err(PathError::SegmentDots(_))));
    }

    #[test]
    fn growing_a_path_cannot_pass_its_limits() {
        let deep = path(&"/a".repeat(32));
        assert_eq!(deep.child("b"), Err(PathError::TooManySegments { count: 33 }));
        let full = path(&format!("/{}", vec!["a".repeat(127); 4].join("/")));
        assert_eq!(full.child("b"), Err(PathError::TooLong { length: 514 }));
        let length = 512 + node().as_str().len();
        assert_eq!(full.at(&node()), Err(PathError::TooLong { length }));
    }

    #[test]
    fn growing_a_path_with_an_address_counts_the_address() {
        let room = 512 - node().as_str().len() - 3 * 129;
        let wide = path(&format!("/{}", vec!["a".repeat(128); 3].join("/")));
        let wide = wide.at(&node()).unwrap();
        assert!(wide.child(&"b".repeat(room - 1)).is_ok());
        assert_eq!(wide.child(&"b".repeat(room)), Err(PathError::TooLong { length: 513 }));
    }

    #[test]
    fn every_kind_of_argument_becomes_the_same_path() {
        let echo = path("/user/echo");
        assert_eq!("/user/echo".into_actor_path(), Ok(echo.clone()));
        assert_eq!(String::from("/user/echo").into_actor_path(), Ok(echo.clone()));
        assert_eq!((&echo).into_actor_path(), Ok(echo.clone()));
        assert_eq!(path("/user").child("echo").into_actor_path(), Ok(echo.clone()));
        assert_eq!(echo.clone().into_actor_path(), Ok(echo));
        assert!("user/echo".into_actor_path().is_err());
    }
}
