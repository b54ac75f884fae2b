//! Says what happened: reasons, dead letters and the events of a node.
//!
//! Floor 0: words only. `node/dead_letters.rs` counts and publishes them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::address::{Address, Uid, UniqueAddress};
use crate::path::ActorPath;

/// Says why a tell ended nowhere.
///
/// The reasons travel on the wire when a peer refuses an ask; their order is frozen, new ones go to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// No actor is registered at the path.
    UnknownPath,
    /// No codec is registered for the `codec:manifest` name.
    UnknownManifest,
    /// The actor at the path does not take messages of this type.
    NotAccepted,
    /// The payload is not what its manifest promises.
    Undecodable,
    /// The actor's mailbox has no room.
    MailboxFull,
    /// The actor's mailbox is closed: its receiver was dropped.
    MailboxGone,
    /// The mailbox, sink or decoder panicked on it.
    Panicked,
    /// A custom sink refused it.
    SinkRefused,
    /// The actor dropped an ask without a reply.
    NoReply,
    /// The actor stopped while the message waited in its mailbox.
    ActorStopped,
    /// The peer could not be reached until the give-up time was over.
    Unreachable,
    /// The peer refused the handshake.
    HandshakeRefused,
    /// The link broke after the frame was written; the peer has not received it, or its end is not known.
    LinkLost,
    /// The peer came back as a new incarnation; what the old one held is gone.
    NewIncarnation,
    /// The peer said goodbye while the message waited here.
    PeerStopped,
    /// This node stopped while the message waited here.
    NodeStopped,
    /// The frame breaks the rules of the wire or of the paths.
    Malformed,
    /// The reply has no room in the outbox towards the asker.
    OutboxFull,
    /// This node has quarantined the peer's incarnation.
    Quarantined,
    /// The peer, once it said so, takes no message of this size.
    TooLarge,
    /// Sender and receiver know the manifest with different schemas.
    SchemaMismatch,
}

impl Reason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 21] = [
        Self::UnknownPath,
        Self::UnknownManifest,
        Self::NotAccepted,
        Self::Undecodable,
        Self::MailboxFull,
        Self::MailboxGone,
        Self::Panicked,
        Self::SinkRefused,
        Self::NoReply,
        Self::ActorStopped,
        Self::Unreachable,
        Self::HandshakeRefused,
        Self::LinkLost,
        Self::NewIncarnation,
        Self::PeerStopped,
        Self::NodeStopped,
        Self::Malformed,
        Self::OutboxFull,
        Self::Quarantined,
        Self::TooLarge,
        Self::SchemaMismatch,
    ];

    /// Gives the reason as a short phrase.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::UnknownPath => "unknown path",
            Self::UnknownManifest => "unknown manifest",
            Self::NotAccepted => "not accepted by the actor",
            Self::Undecodable => "undecodable payload",
            Self::MailboxFull => "mailbox full",
            Self::MailboxGone => "mailbox gone",
            Self::Panicked => "panicked",
            Self::SinkRefused => "refused by the sink",
            Self::NoReply => "no reply",
            Self::ActorStopped => "actor stopped",
            Self::Unreachable => "peer unreachable",
            Self::HandshakeRefused => "handshake refused",
            Self::LinkLost => "link lost",
            Self::NewIncarnation => "peer restarted",
            Self::PeerStopped => "peer stopped",
            Self::NodeStopped => "node stopped",
            Self::Malformed => "malformed frame",
            Self::OutboxFull => "outbox full",
            Self::Quarantined => "peer quarantined",
            Self::TooLarge => "too large for the peer",
            Self::SchemaMismatch => "schema mismatch",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Describes tells that ended nowhere, with a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Why they ended nowhere.
    pub reason: Reason,
    /// The actor they were for; none where a broken link swallowed several of them.
    pub target: Option<ActorPath>,
    /// Their `codec:manifest` name; none where a broken link swallowed several of them.
    pub manifest: Option<String>,
    /// The node at the other end: the sender's on the receiving side, the target's on the sending side.
    pub peer: Option<Address>,
    /// How many tells this stands for, at least 1.
    pub count: u64,
    /// What went wrong in words, for example the codec's error.
    pub detail: Option<String>,
    /// The peer that refused them and said so; none for what ended on this node.
    pub refused_by: Option<Address>,
}

impl DeadLetter {
    /// Describes one tell that ended for `reason`, with nothing else known.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            target: None,
            manifest: None,
            peer: None,
            count: 1,
            detail: None,
            refused_by: None,
        }
    }
}

/// Tells what happened to the links of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A link to the peer is up: tells flow.
    AssociationUp {
        /// The peer's incarnation.
        peer: UniqueAddress,
    },
    /// The link to the peer is gone; it is dialled again while something waits for it.
    AssociationDown {
        /// The peer's address.
        peer: Address,
        /// What ended the link, in words.
        why: String,
    },
    /// Another incarnation answers at the peer's address.
    NewIncarnation {
        /// The incarnation that is gone.
        previous: UniqueAddress,
        /// The one that answers.
        current: UniqueAddress,
    },
    /// Frames that were written to a broken link were not received, or their end is not known.
    PossiblyLost {
        /// The peer's address.
        peer: Address,
        /// How many tells and replies.
        count: u64,
    },
    /// The give-up time is over: what waited for the peer became dead letters.
    GaveUp {
        /// The peer's address.
        peer: Address,
        /// What stood in the way last, in words.
        why: String,
    },
    /// This node never talks to the incarnation again.
    Quarantined {
        /// The incarnation.
        peer: UniqueAddress,
    },
    /// The peer never talks to this node's incarnation again; if it is a member of its cluster, this node has been
    /// removed there, and ends its membership.
    QuarantinedBy {
        /// The peer's address.
        peer: Address,
    },
    /// A handshake was refused, by this node or by the peer.
    HandshakeRefused {
        /// The peer, as far as it is known.
        peer: Option<Address>,
        /// The incarnation that asked, where this node refused.
        uid: Option<Uid>,
        /// The reason, in words.
        why: String,
    },
    /// This node is in no cluster any more; unless it has left by itself, it shuts down now if its settings say so.
    MembershipEnded {
        /// What has ended it, in words.
        why: String,
    },
    /// The peer's codec registry is another than this node's. Each list is cut off at
    /// [`RegistryDifference::MAX_LISTED`].
    RegistryDiffers {
        /// The peer's incarnation.
        peer: UniqueAddress,
        /// What differs.
        difference: RegistryDifference,
    },
}

/// Tells how a peer's codec registry differs from this node's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistryDifference {
    /// Names, as `codec:manifest`, that only the peer accepts.
    pub unknown_here: Vec<String>,
    /// Names that only this node accepts.
    pub unknown_there: Vec<String>,
    /// Names that both know with different schemas: tells of them are refused on either side.
    pub mismatches: Vec<SchemaMismatch>,
    /// How many names the three lists left out.
    pub more: usize,
}

impl RegistryDifference {
    /// Bounds each list.
    pub const MAX_LISTED: usize = 32;
}

/// Tells of a manifest that two nodes know with different schemas.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaMismatch {
    /// The name, as `codec:manifest`.
    pub wire_name: String,
    /// The schema hash on this node.
    pub here: u64,
    /// The schema hash on the peer.
    pub there: u64,
}

impl SchemaMismatch {
    pub(crate) fn new(wire_name: String, here: u64, there: u64) -> Self {
        Self { wire_name, here, there }
    }
}

impl fmt::Display for SchemaMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wire_name, here, there } = self;
        write!(f, "`{wire_name}` has the schema {here:016x} here and {there:016x} at the peer")
    }
}
