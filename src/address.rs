//! Names the places where nodes live: [`Endpoint`], [`Address`], [`Uid`], [`UniqueAddress`].
//!
//! These are the words every other module speaks in. They sit on the lowest floor and know
//! nothing of sockets, clocks or messages. A value that exists is valid and canonical: two texts
//! that mean the same node (upper-case host, long IPv6 form) become equal values, and printing a
//! value gives the one text that parses back to it.
//!
//! ```text
//! endpoint  = scheme "://" host ":" port0
//! address   = scheme "://" system "@" host ":" port
//! unique    = address "#" uid
//!
//! scheme    = [a-z] [a-z0-9+-]{0,15}
//! system    = [A-Za-z0-9] [A-Za-z0-9_-]{0,63}
//! host      = ipv4 / "[" ipv6 "]" / name           ; ipv6 without a zone id
//! ipv4      = four decimal octets, no leading zeros
//! name      = label *("." label)                   ; at most 253 bytes, A-Z lowered to a-z
//! label     = [a-z0-9_-]{1,63}                     ; no "-" at either end
//! port      = 1..65535                             ; decimal, no sign, no leading zeros
//! port0     = port / "0"
//! uid       = [0-9a-f]{16}
//! ```
//!
//! Everything is ASCII. There is no percent decoding, no white space, no password and no path.
//! A name whose last label is a number (`7`, `0x7f`) is refused unless the whole is an `ipv4`:
//! system resolvers read such names as addresses, so one node would have many names. For the same
//! reason nothing here resolves names; that belongs to the transports.

mod error;
mod grammar;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::error::{AddressError, Excerpt};
use self::grammar::{
    MAX_TEXT, canonical_host, check_length, check_scheme, check_system, parse_endpoint,
    split_scheme,
};

/// Says where a node listens or what it advertises: `tcp://0.0.0.0:0`.
///
/// Port 0 means "any free port" and is allowed here only. Cloning is cheap.
///
/// ```
/// use tellwire::address::Endpoint;
///
/// let wanted: Endpoint = "tcp://127.0.0.1:0".parse()?;
/// let address = wanted.with_port(2551).with_system("Chat")?;
/// assert_eq!(address.as_str(), "tcp://Chat@127.0.0.1:2551");
/// # Ok::<(), tellwire::address::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(Arc<Spelling>);

impl Endpoint {
    /// Builds an endpoint from its parts; an IPv6 host may come with or without brackets.
    ///
    /// # Errors
    /// [`AddressError`] names a part that breaks the grammar.
    pub fn new(scheme: &str, host: &str, port: u16) -> Result<Self, AddressError> {
        check_scheme(scheme)?;
        Ok(Self(Spelling::join(scheme, None, &canonical_host(host)?, port)))
    }

    /// Returns the same endpoint with another port, such as the one a listener was given.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self(Spelling::join(self.scheme(), None, self.0.bracketed_host(), port))
    }

    /// Returns the address of `system` at this endpoint.
    ///
    /// # Errors
    /// [`AddressError::PortZero`] while the port is still to be chosen, or
    /// [`AddressError::SystemInvalid`].
    pub fn with_system(&self, system: &str) -> Result<Address, AddressError> {
        check_system(system)?;
        if self.port() == 0 {
            return Err(AddressError::PortZero(Excerpt::of(self.as_str())));
        }
        let host = self.0.bracketed_host();
        Ok(Address(Spelling::join(self.scheme(), Some(system), host, self.port())))
    }
}

impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, authority) = split_scheme(text)?;
        if authority.contains('@') {
            return Err(AddressError::SystemUnexpected(Excerpt::of(text)));
        }
        parse_endpoint(scheme, authority)
    }
}

/// Names a node: `tcp://Chat@10.0.0.1:2551`.
///
/// The port is never 0, because others must be able to dial it. Cloning is cheap.
/// Addresses are ordered by host, port (as a number), system and scheme.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Arc<Spelling>);

impl Address {
    /// Builds an address from its parts; an IPv6 host may come with or without brackets.
    ///
    /// # Errors
    /// [`AddressError`] names a part that breaks the grammar.
    pub fn new(scheme: &str, system: &str, host: &str, port: u16) -> Result<Self, AddressError> {
        Endpoint::new(scheme, host, port)?.with_system(system)
    }

    /// Returns the name of the actor system that runs there.
    pub fn system(&self) -> &str {
        self.0.system()
    }

    /// Returns what to dial: the address without its system.
    pub fn endpoint(&self) -> Endpoint {
        let host = self.0.bracketed_host();
        Endpoint(Spelling::join(self.scheme(), None, host, self.port()))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, authority) = split_scheme(text)?;
        let (system, place) = authority
            .split_once('@')
            .ok_or_else(|| AddressError::SystemMissing(Excerpt::of(text)))?;
        parse_endpoint(scheme, place)?.with_system(system)
    }
}

/// Tells one run of a node from the next at the same address.
///
/// Drawn at random when the node starts. Printed as exactly 16 lower-case hex digits, so that
/// there is one text per value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(u64);

impl Uid {
    /// Wraps a number that the caller has drawn.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Uid {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let invalid = || AddressError::UidInvalid(Excerpt::of(text));
        let strict =
            text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !strict {
            return Err(invalid());
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| invalid())
    }
}

/// Names one incarnation of a node: `tcp://Chat@10.0.0.1:2551#00000000deadbeef`.
///
/// Ordered by address, then uid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UniqueAddress {
    /// Where the node is.
    address: Address,
    /// Which run of it.
    uid: Uid,
}

impl UniqueAddress {
    /// Joins an address and the uid of the node that runs there.
    pub const fn new(address: Address, uid: Uid) -> Self {
        Self { address, uid }
    }

    /// Returns where the node is.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Returns which run of the node this is.
    pub const fn uid(&self) -> Uid {
        self.uid
    }
}

impl FromStr for UniqueAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        check_length(text, MAX_TEXT + "#0123456789abcdef".len())?;
        let (address, uid) =
            text.split_once('#').ok_or_else(|| AddressError::UidMissing(Excerpt::of(text)))?;
        Ok(Self::new(address.parse()?, uid.parse()?))
    }
}

/// Holds a canonical text and where its parts are; endpoint and address differ in the system.
///
/// Maps and sorted lists compare addresses all the time, so no comparison looks for a part.
struct Spelling {
    /// `scheme "://" [system "@"] host ":" port`, every part checked and canonical.
    text: Box<str>,
    /// Where the scheme ends.
    scheme_end: usize,
    /// Where the host begins, bracket included.
    host_start: usize,
    /// Where it ends, bracket included.
    host_end: usize,
    /// The port as a number.
    port: u16,
}

impl Spelling {
    /// Joins parts that have been checked; `host` is canonical and has its brackets.
    fn join(scheme: &str, system: Option<&str>, host: &str, port: u16) -> Arc<Self> {
        let before_host = match system {
            Some(system) => format!("{scheme}://{system}@"),
            None => format!("{scheme}://"),
        };
        Arc::new(Self {
            text: format!("{before_host}{host}:{port}").into(),
            scheme_end: scheme.len(),
            host_start: before_host.len(),
            host_end: before_host.len() + host.len(),
            port,
        })
    }

    fn scheme(&self) -> &str {
        &self.text[..self.scheme_end]
    }

    fn system(&self) -> &str {
        let between = &self.text[self.scheme_end..self.host_start];
        let name = between.strip_prefix("://").and_then(|rest| rest.strip_suffix('@'));
        name.unwrap_or_default()
    }

    fn bracketed_host(&self) -> &str {
        &self.text[self.host_start..self.host_end]
    }

    fn host(&self) -> &str {
        let host = self.bracketed_host();
        host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
    }
}

// The text says everything.
impl PartialEq for Spelling {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Spelling {}

impl Hash for Spelling {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Ord for Spelling {
    // The four parts determine the text, so this agrees with equality.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_host = self.host().cmp(other.host()).then(self.port.cmp(&other.port));
        let by_system = || self.system().cmp(other.system());
        by_host.then_with(by_system).then_with(|| self.scheme().cmp(other.scheme()))
    }
}

impl PartialOrd for Spelling {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Gives an endpoint or an address the parts they share, and its text as its only foreign form.
macro_rules! spelled {
    ($name:ident) => {
        impl $name {
            /// Returns the name of the transport.
            pub fn scheme(&self) -> &str {
                self.0.scheme()
            }

            /// Returns the host without brackets.
            pub fn host(&self) -> &str {
                self.0.host()
            }

            /// Returns the port as a number.
            pub fn port(&self) -> u16 {
                self.0.port
            }

            /// Returns the canonical text.
            pub fn as_str(&self) -> &str {
                &self.0.text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl TryFrom<&str> for $name {
            type Error = AddressError;

            fn try_from(text: &str) -> Result<Self, AddressError> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = AddressError;

            fn try_from(text: String) -> Result<Self, AddressError> {
                text.parse()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_text(deserializer)
            }
        }
    };
}

spelled!(Endpoint);
spelled!(Address);

impl fmt::Debug for Spelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uid({self})")
    }
}

impl fmt::Display for UniqueAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.address, self.uid)
    }
}

/// Reads a value from its text without a copy of the text.
pub(crate) fn deserialize_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    struct Text<T>(PhantomData<T>);

    impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the text of an endpoint, an address or a path")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::{Address, AddressError, Endpoint, Excerpt, Uid, UniqueAddress};

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_gives_back_its_parts() {
        let address = address("tcp://Chat@10.0.0.1:2551");
        assert_eq!(address.scheme(), "tcp");
        assert_eq!(address.system(), "Chat");
        assert_eq!(address.host(), "10.0.0.1");
        assert_eq!(address.port(), 2551);
        assert_eq!(address.to_string(), "tcp://Chat@10.0.0.1:2551");
        assert_eq!(address.endpoint().as_str(), "tcp://10.0.0.1:2551");
    }

    #[test]
    fn an_ipv6_host_loses_its_brackets_and_long_form() {
        let long = address("tcp://Chat@[2001:DB8:0:0:0:0:0:1]:2551");
        assert_eq!(long.host(), "2001:db8::1");
        assert_eq!(long.as_str(), "tcp://Chat@[2001:db8::1]:2551");
        assert_eq!(long.endpoint().host(), "2001:db8::1");
        assert_eq!(Address::new("tcp", "Chat", long.host(), 2551).as_ref(), Ok(&long));
        assert_eq!(Address::new("tcp", "Chat", "[2001:db8::1]", 2551), Ok(long));
    }

    #[test]
    fn a_host_name_is_lowered_and_a_system_is_not() {
        assert_eq!(address("tls://Chat@Node-1.LAN:1").as_str(), "tls://Chat@node-1.lan:1");
        assert_ne!(address("tls://chat@node-1.lan:1"), address("tls://Chat@node-1.lan:1"));
    }

    #[test]
    fn port_zero_stays_in_endpoints() {
        let wanted: Endpoint = "tcp://[::]:0".parse().unwrap();
        assert!(matches!(wanted.with_system("Chat"), Err(AddressError::PortZero(_))));
        assert!(matches!("tcp://Chat@[::]:0".parse::<Address>(), Err(AddressError::PortZero(_))));
        let bound = wanted.with_port(2551);
        assert_eq!(bound.with_system("Chat"), Ok(address("tcp://Chat@[::]:2551")));
    }

    #[test]
    fn addresses_are_ordered_by_host_port_system_and_scheme() {
        let ordered = [
            "tcp://Z@a:9",
            "tcp://Z@a:80",
            "tcp://A@a:443",
            "tls://A@a:443",
            "tcp://B@a:443",
            "tcp://A@b:1",
        ]
        .map(address);
        assert!(ordered.is_sorted());
        assert!(ordered.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_unique_address_prints_sixteen_hex_digits() {
        let unique = UniqueAddress::new(address("tcp://Chat@10.0.0.1:2551"), Uid::new(0xdead_beef));
        assert_eq!(unique.to_string(), "tcp://Chat@10.0.0.1:2551#00000000deadbeef");
        assert_eq!(unique.to_string().parse(), Ok(unique));
    }

    #[test]
    fn unique_addresses_are_ordered_by_address_first() {
        let at = |text, uid| UniqueAddress::new(address(text), Uid::new(uid));
        assert!(at("tcp://A@a:1", 9) < at("tcp://A@b:1", 1));
        assert!(at("tcp://A@a:1", 1) < at("tcp://A@a:1", 9));
    }

    #[test]
    fn an_excerpt_is_short_escaped_and_whole_characters_only() {
        assert_eq!(Excerpt::of("a\n\u{202e}b").to_string(), r#""a\n\u{202e}b""#);
        let cut = Excerpt::of(&"\u{20ac}".repeat(100));
        assert_eq!(cut.as_str(), "\u{20ac}".repeat(13));
        assert!(cut.to_string().ends_with("\"..."));
    }
}
