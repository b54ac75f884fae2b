//! Is the seam where inbound tells leave tellwire.

use std::fmt;
use std::sync::Arc;

use crate::address::UniqueAddress;
use crate::codec::{CodecFault, DecodeError};
use crate::event::Reason;
use crate::node::mailbox::ReplyTo;
use crate::path::ActorPath;

/// Takes every inbound tell of a node, still encoded.
///
/// The default is the [`Directory`](crate::node::Directory), which leads to mailboxes; put your
/// own in its place with [`NodeBuilder::sink`](crate::node::NodeBuilder::sink). It is called on the task that reads
/// the peer's link, one tell after the other, so it must not block: a slow sink stalls that peer's tells. A panic
/// costs the one tell.
pub trait RemoteMessageSink: Send + Sync + 'static {
    /// Takes one tell.
    ///
    /// # Errors
    /// [`DeliverError`] turns the tell into one dead letter with its reason; an ask is answered with it.
    fn deliver(&self, tell: InboundTell<'_>) -> Result<(), DeliverError>;
}

/// Takes the gossip PDUs that share the associations with the tells.
///
/// Called like a [`RemoteMessageSink`]; `from` is the verified peer of the association.
pub trait GossipSink: Send + Sync + 'static {
    /// Takes one PDU.
    fn receive(&self, from: &UniqueAddress, pdu: &[u8]);
}

/// A tell as it came in.
#[derive(Debug)]
#[non_exhaustive]
pub struct InboundTell<'a> {
    /// The local path it is for, such as `/user/echo`; checked against the grammar.
    pub target: &'a str,
    /// What the payload is, as `codec:manifest`.
    pub wire_name: &'a str,
    /// The encoded message: a slice of the link's buffer.
    pub payload: &'a [u8],
    /// The actor that sent it, if it said so.
    pub sender: Option<Arc<ActorPath>>,
    /// The way back, if it is an ask. Dropping it ends the ask with [`Reason::NoReply`].
    pub reply: Option<ReplyTo>,
    /// The node it came from.
    pub peer: &'a UniqueAddress,
}

/// Says why a sink took a tell not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct DeliverError {
    /// The reason that the dead letter carries.
    pub reason: Reason,
    /// What went wrong in words.
    pub detail: Option<String>,
}

impl DeliverError {
    /// Gives the error for `reason` without words.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self { reason, detail: None }
    }
}

impl From<DecodeError> for DeliverError {
    fn from(error: DecodeError) -> Self {
        let reason = match &error {
            DecodeError::Unknown { .. } => Reason::UnknownManifest,
            DecodeError::Codec(error) if *error.fault() == CodecFault::Panicked => Reason::Panicked,
            _ => Reason::Undecodable,
        };
        Self { reason, detail: Some(error.to_string()) }
    }
}

impl fmt::Debug for dyn RemoteMessageSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteMessageSink")
    }
}

impl fmt::Debug for dyn GossipSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GossipSink")
    }
}
