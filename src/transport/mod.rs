//! Carries bytes between two nodes: the seam where networks plug in.
//!
//! A [`Transport`] gives [`Link`]s, ordered byte streams in both directions, and nothing else.
//! It sits on floor 3 and imports only addresses: it never sees a frame, spawns no task, keeps no
//! list of peers, and does not redial. Handshakes, liveness, backoff and deadlines belong to the
//! association above, so that every network gets the same ones.
//!
//! ```text
//!   listen(endpoint) ──► Listener ──accept()──► Link ╮
//!                                                    ├ bytes, both ways, in order
//!   dial(address) ─────────────────────────────► Link ╯
//! ```
//!
//! What every transport promises, and `testkit::transport` checks:
//! * bytes arrive once, in order, unchanged, and a slow reader holds its writer back;
//! * shutting a writer down, or dropping the link, gives the peer an end of file after the last
//!   byte; writing to a peer that dropped its link fails sooner or later, never silently for ever;
//! * port 0 is replaced by a real port, a taken address is an [`TransportError::AddressInUse`],
//!   and a dropped listener gives its address back.
//!
//! A link's writer may be polled on any thread that sends, one at a time and within the node's runtime, but not always
//! by the task that was spawned for it. So it must not need that task: no `tokio::task::id`, no `block_in_place`, no
//! lock that a sender may hold.
//!
//! A link may be lost without a word, though: whether the peer is still there is for the
//! association's pings to find out.

pub mod in_process;
#[cfg(feature = "tcp")]
pub mod tcp;

use std::{fmt, io};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::address::{Address, Endpoint};

pub use in_process::{InProcessNetwork, InProcessSettings};
#[cfg(feature = "tcp")]
pub use tcp::{TcpSettings, TcpTransport};

/// Makes links: one implementation per kind of network.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Returns the address scheme that this transport serves, such as `tcp`.
    fn scheme(&self) -> &'static str;

    /// Tells who can read what travels, so that a node can refuse to expose itself by accident.
    fn privacy(&self) -> Privacy;

    /// Binds `at` and starts to queue incoming links; port 0 asks for any free port.
    ///
    /// Cancel safe: nothing stays bound when the future is dropped.
    ///
    /// # Errors
    /// [`AddressInUse`](TransportError::AddressInUse), [`Bind`](TransportError::Bind),
    /// [`Unresolvable`](TransportError::Unresolvable) or
    /// [`WrongScheme`](TransportError::WrongScheme).
    async fn listen(&self, at: &Endpoint) -> Result<Box<dyn Listener>, TransportError>;

    /// Opens one link to the node at `to`, resolving its host name anew.
    ///
    /// There is no deadline for the whole: callers bring their own. Cancel safe: an unfinished
    /// link is closed when the future is dropped.
    ///
    /// # Errors
    /// [`Unreachable`](TransportError::Unreachable),
    /// [`Unresolvable`](TransportError::Unresolvable) or
    /// [`WrongScheme`](TransportError::WrongScheme).
    async fn dial(&self, to: &Address) -> Result<Link, TransportError>;
}

/// Accepts incoming links; dropping it frees the address.
#[async_trait]
pub trait Listener: fmt::Debug + Send {
    /// Returns what was bound, with the real port where port 0 was asked for.
    fn endpoint(&self) -> &Endpoint;

    /// Waits for the next incoming link.
    ///
    /// Cancel safe: no link is lost when the future is dropped.
    ///
    /// # Errors
    /// [`Accept`](TransportError::Accept), after which the listener still works, or
    /// [`Closed`](TransportError::Closed), after which it never will again.
    async fn accept(&mut self) -> Result<Link, TransportError>;
}

/// Holds one transport connection: ordered bytes, both directions.
///
/// Dropping a link closes both directions. A transport may discard bytes under way to a side that
/// drops its link without having read what it was sent, so a graceful end shuts the writer down
/// first and reads until the end of file.
pub struct Link {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    remote: String,
}

impl Link {
    /// Joins two directions into a link; `remote` names the other side in logs only.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        remote: impl Into<String>,
    ) -> Self {
        Self { reader: Box::new(reader), writer: Box::new(writer), remote: remote.into() }
    }

    /// Names the other side for logs.
    ///
    /// It is what the network says, not who the peer is: that the handshake finds out.
    pub fn remote(&self) -> &str {
        &self.remote
    }

    /// Takes the link apart, for a reader and a writer that live in different tasks.
    pub fn split(self) -> (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>) {
        (self.reader, self.writer)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// Tells who can read the bytes of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Privacy {
    /// Bytes never leave this process.
    Local,
    /// Bytes cross a network encrypted, and the transport authenticates the other side.
    Encrypted,
    /// Bytes cross a network readable and forgeable by whoever sits on it.
    Plaintext,
}

/// Tells why there is no listener or no link; nothing was sent in any of these cases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Somebody listens there already.
    ///
    /// The operator's fault, or a predecessor that is still shutting down: retrying helps only
    /// once the other listener is gone.
    #[error("{endpoint} is in use")]
    AddressInUse {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
    },

    /// The network refused to listen there, for instance for want of rights or of such an
    /// interface.
    ///
    /// The operator's fault: retrying does not help.
    #[error("cannot listen on {endpoint}")]
    Bind {
        /// The endpoint that was asked for.
        endpoint: Endpoint,
        /// What the network said.
        source: io::Error,
    },

    /// The host name has no address.
    ///
    /// The fault of the address or of the name service: retry with backoff, names may appear.
    #[error("cannot resolve host {host:?}")]
    Unresolvable {
        /// The name that was looked up.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },

    /// No link came about: nobody listens there, its queue is full, or the network is down.
    ///
    /// The peer's or the network's fault: retry with backoff.
    #[error("cannot reach {endpoint}")]
    Unreachable {
        /// The endpoint that was dialled.
        endpoint: Endpoint,
        /// What the last attempt said.
        source: io::Error,
    },

    /// An incoming link could not be taken, typically for want of file descriptors.
    ///
    /// This machine's fault: accept again after a short backoff, the listener still works.
    #[error("cannot accept a link")]
    Accept {
        /// What the network said.
        source: io::Error,
    },

    /// The listener will give no more links.
    ///
    /// Nobody's fault: do not retry; listen anew.
    #[error("the listener is closed")]
    Closed,

    /// The address belongs to another transport.
    ///
    /// The caller's fault: retrying does not help.
    #[error("scheme {found:?} is not served by the {expected:?} transport")]
    WrongScheme {
        /// The scheme that the transport serves.
        expected: &'static str,
        /// The scheme that the address asked for.
        found: String,
    },
}

impl TransportError {
    /// Refuses an address of another scheme: the first line of every `listen` and `dial`.
    ///
    /// # Errors
    /// [`WrongScheme`](Self::WrongScheme) unless `found` equals `expected`.
    pub fn check_scheme(expected: &'static str, found: &str) -> Result<(), Self> {
        if found == expected {
            return Ok(());
        }
        Err(Self::WrongScheme { expected, found: found.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::{Link, TransportError};

    #[test]
    fn an_error_keeps_its_cause_as_source() {
        let error = TransportError::Accept { source: std::io::Error::other("descriptors") };
        assert_eq!(error.to_string(), "cannot accept a link");
        assert_eq!(error.source().unwrap().to_string(), "descriptors");
    }

    #[test]
    fn a_scheme_error_names_both_schemes() {
        assert!(TransportError::check_scheme("tcp", "tcp").is_ok());
        let error = TransportError::check_scheme("tcp", "mem").unwrap_err();
        assert_eq!(error.to_string(), r#"scheme "mem" is not served by the "tcp" transport"#);
    }

    #[test]
    fn a_link_shows_its_remote_and_not_its_bytes() {
        let link = Link::new(tokio::io::empty(), tokio::io::sink(), "10.0.0.1:7");
        assert_eq!(link.remote(), "10.0.0.1:7");
        assert_eq!(format!("{link:?}"), r#"Link { remote: "10.0.0.1:7", .. }"#);
    }
}
