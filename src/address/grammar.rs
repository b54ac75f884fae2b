//! Checks the parts of an address against the grammar and gives their one spelling.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{AddressError, Endpoint, Excerpt, Spelling};

pub(super) fn split_scheme(text: &str) -> Result<(&str, &str), AddressError> {
    check_length(text, MAX_TEXT)?;
    text.split_once("://").ok_or_else(|| AddressError::SchemeMissing(Excerpt::of(text)))
}

pub(super) fn parse_endpoint(scheme: &str, place: &str) -> Result<Endpoint, AddressError> {
    check_scheme(scheme)?;
    let (host, port) = split_port(place)?;
    let host = canonical_host(host)?;
    Ok(Endpoint(Spelling::join(scheme, None, &host, parse_port(port)?)))
}

/// Splits `host:port`, where only a host in brackets may hold colons.
pub(super) fn split_port(place: &str) -> Result<(&str, &str), AddressError> {
    let host_end = if place.starts_with('[') {
        let bracket = place.find(']');
        bracket.ok_or_else(|| AddressError::HostInvalid(Excerpt::of(place)))? + 1
    } else {
        place.find(':').unwrap_or(place.len())
    };
    let (host, rest) = place.split_at(host_end);
    let port = rest.strip_prefix(':');
    port.map(|port| (host, port)).ok_or_else(|| AddressError::PortMissing(Excerpt::of(place)))
}

pub(super) fn parse_port(text: &str) -> Result<u16, AddressError> {
    let port = text.parse::<u16>().ok();
    // The standard parser also takes `+80` and `0080`; only one spelling is ours.
    port.filter(|port| port.to_string() == text)
        .ok_or_else(|| AddressError::PortInvalid(Excerpt::of(text)))
}

pub(super) fn check_length(text: &str, limit: usize) -> Result<(), AddressError> {
    let length = text.len();
    if length <= limit { Ok(()) } else { Err(AddressError::TooLong { length, limit }) }
}

pub(super) fn check_scheme(scheme: &str) -> Result<(), AddressError> {
    let valid = scheme.len() <= MAX_SCHEME
        && scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-'));
    if valid { Ok(()) } else { Err(AddressError::SchemeInvalid(Excerpt::of(scheme))) }
}

pub(super) fn check_system(system: &str) -> Result<(), AddressError> {
    let valid = system.len() <= MAX_SYSTEM
        && system.starts_with(|c: char| c.is_ascii_alphanumeric())
        && system.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if valid { Ok(()) } else { Err(AddressError::SystemInvalid(Excerpt::of(system))) }
}

/// Returns the one spelling of a host, with brackets when it is an IPv6.
pub(super) fn canonical_host(host: &str) -> Result<String, AddressError> {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let canonical = if bracketed.is_some() || host.contains(':') {
        let ip = bracketed.unwrap_or(host).parse::<Ipv6Addr>().ok();
        ip.map(|ip| format!("[{ip}]"))
    } else {
        canonical_name(host)
    };
    canonical.ok_or_else(|| AddressError::HostInvalid(Excerpt::of(host)))
}

pub(super) fn canonical_name(host: &str) -> Option<String> {
    if host.len() > MAX_NAME {
        return None;
    }
    let name = host.to_ascii_lowercase();
    let valid = if ends_in_a_number(&name) {
        name.parse::<Ipv4Addr>().is_ok()
    } else {
        name.split('.').all(is_label)
    };
    valid.then_some(name)
}

/// Tells whether resolvers would read the name as an IPv4, as in `10.1` or `0x7f000001`.
pub(super) fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    match last.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
    }
}

pub(super) fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

/// Bytes in the text of an endpoint or address; the longest valid one has 343.
pub(super) const MAX_TEXT: usize = 384;
/// Bytes in a scheme.
pub(super) const MAX_SCHEME: usize = 16;
/// Bytes in a system name.
pub(super) const MAX_SYSTEM: usize = 64;
/// Bytes in a host name (RFC 1035, section 2.3.4, less the root label).
pub(super) const MAX_NAME: usize = 253;
/// Bytes in a label of a host name (RFC 1035, section 2.3.4).
pub(super) const MAX_LABEL: usize = 63;
