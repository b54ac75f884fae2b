//! Spells the handshake and the control PDUs of an association.
//!
//! Floor 2: serde types in bincode's standard configuration; no IO. The order of variants and fields is the
//! wire format and is frozen by golden bytes; new variants go to the end.
//!
//! ```text
//! dialler                           acceptor
//!    |--- HELLO ------------------------>|   who I am, whom I want, what I saw last
//!    |<-- Welcome ----------------------|   or Refuse(reason), and the link closes
//!    |--- Activate (if I am smaller) --->|   the node with the smaller address chooses the link
//!    |<-- Activate (echo) --------------|   each carries what its sender has received so far
//!    |<== tells, asks, replies ========>|
//!    |--- Goodbye ---------------------->|
//!    |<-- Goodbye ----------------------|
//! ```
//! When the acceptor has the smaller address, its Activate follows its Welcome in the same write.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::address::{Address, Uid, UniqueAddress};
use crate::event::Reason;

/// Opens a link: the dialler's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The dialling node.
    pub(crate) from: UniqueAddress,
    /// The address that was dialled: the acceptor refuses a call for somebody else.
    pub(crate) to: Address,
    /// What the dialler accepts.
    pub(crate) limits: Limits,
    /// Fingerprint of the dialler's codec registry; a difference is worth a log line, not a refusal.
    pub(crate) registry: u64,
    /// The last activation the dialler has seen from the acceptor's incarnation.
    pub(crate) seen: Option<Seen>,
}

/// Answers a Hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// The version of the wire both speak.
    pub(crate) version: u8,
    /// The accepting node.
    pub(crate) from: UniqueAddress,
    /// What the acceptor accepts.
    pub(crate) limits: Limits,
    /// Fingerprint of the acceptor's codec registry.
    pub(crate) registry: u64,
}

/// Says what a node accepts from its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Largest encoded message in bytes.
    pub(crate) max_message: u32,
}

/// Names an activation: which incarnation chose it, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The acceptor's incarnation, as the dialler knows it.
    pub(crate) uid: Uid,
    /// Number of the latest activation between the two incarnations.
    pub(crate) generation: u64,
}

/// A control PDU: everything but the Hello that is neither gossip nor a user's message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ControlPdu {
    /// Answers a Hello: the handshake is done.
    Welcome(Welcome),
    /// Answers a Hello: there will be no handshake.
    Refuse(Refusal),
    /// Chooses this link for the users' frames, or echoes the choice.
    Activate {
        /// Counts the activations between two incarnations, from 1.
        generation: u64,
        /// Tells and replies that the sender has received from the peer's incarnation, over all links.
        received: u64,
    },
    /// Asks for a sign of life.
    Ping {
        /// Comes back in the Pong.
        nonce: u64,
        /// As in Activate.
        received: u64,
    },
    /// Gives a sign of life.
    Pong {
        /// Of the Ping.
        nonce: u64,
        /// As in Activate.
        received: u64,
    },
    /// Says how much was received, so that a break of the link is accounted for.
    Received {
        /// As in Activate.
        received: u64,
    },
    /// Ends the association in order: nothing of the sender's follows.
    Goodbye,
    /// Ends an ask without a reply.
    AskFailed {
        /// Of the ask.
        correlation: u64,
        /// Why there is no reply.
        reason: Reason,
    },
}

/// Says why a handshake was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    /// The two nodes have no version of the wire in common.
    #[error("no common version: this node speaks {min} to {max}")]
    Version {
        /// Lowest version the refusing node speaks.
        min: u8,
        /// Highest version the refusing node speaks.
        max: u8,
    },
    /// The dialler belongs to another actor system.
    #[error("another system: this node belongs to `{system}`")]
    System {
        /// The refusing node's system.
        system: String,
    },
    /// The dialler wanted another node than the one that answered.
    #[error("wrong target: this node is {address}")]
    WrongTarget {
        /// The refusing node's address.
        address: Address,
    },
    /// The dialler claims the refusing node's own address.
    #[error("the dialler claims this node's own address")]
    OwnAddress,
    /// The dialler's incarnation was replaced by a later one.
    #[error("this incarnation was replaced by a later one")]
    StaleIncarnation,
    /// The dialler's incarnation is quarantined.
    #[error("this incarnation is quarantined")]
    Quarantined,
    /// The refusing node is shutting down.
    #[error("the node is shutting down")]
    Stopping,
    /// The refusing node knows as many peers as it may.
    #[error("the node knows as many peers as it may")]
    TooManyPeers,
}

/// Says who this node is to its peers; the fixed part of each handshake.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) local: UniqueAddress,
    pub(crate) limits: Limits,
    pub(crate) registry: u64,
}

impl Identity {
    /// Checks what a dialler claims, as far as it can be checked without knowing the peer.
    pub(crate) fn check(&self, hello: &Hello) -> Result<(), Refusal> {
        let own = self.local.address();
        if hello.from.address() == own {
            return Err(Refusal::OwnAddress);
        }
        if hello.from.address().system() != own.system() {
            return Err(Refusal::System { system: own.system().to_owned() });
        }
        if &hello.to != own {
            return Err(Refusal::WrongTarget { address: own.clone() });
        }
        Ok(())
    }

    /// Gives the Hello for a link to `to`.
    pub(crate) fn hello(&self, to: Address, seen: Option<Seen>) -> Hello {
        Hello { from: self.local.clone(), to, limits: self.limits, registry: self.registry, seen }
    }

    /// Gives the Welcome of this node.
    pub(crate) fn welcome(&self) -> Welcome {
        Welcome {
            version: VERSION,
            from: self.local.clone(),
            limits: self.limits,
            registry: self.registry,
        }
    }
}

/// Appends `pdu` to `out`.
pub(crate) fn encode_pdu<T: Serialize>(pdu: &T, out: &mut Vec<u8>) -> Result<(), PduError> {
    let config = bincode::config::standard();
    bincode::serde::encode_into_std_write(pdu, out, config).map_err(|_| PduError::Encode)?;
    Ok(())
}

/// Reads one PDU that fills `bytes` whole.
pub(crate) fn decode_pdu<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, PduError> {
    if bytes.len() > MAX_PDU {
        return Err(PduError::TooLarge { length: bytes.len() });
    }
    let config = bincode::config::standard().with_limit::<MAX_PDU>();
    let (pdu, used) =
        bincode::serde::decode_from_slice(bytes, config).map_err(|_| PduError::Malformed)?;
    if used == bytes.len() {
        Ok(pdu)
    } else {
        Err(PduError::Trailing { extra: bytes.len() - used })
    }
}

/// Says what is wrong with the bytes of a PDU; the peer's fault unless it is `Encode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PduError {
    /// The PDU could not be written; nothing was sent.
    #[error("the PDU could not be encoded")]
    Encode,
    /// The PDU is longer than any may be.
    #[error("a PDU of {length} bytes is longer than {MAX_PDU}")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
    },
    /// The bytes are no PDU of this version.
    #[error("the bytes are no PDU")]
    Malformed,
    /// Bytes follow the PDU.
    #[error("{extra} bytes follow the PDU")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.uid, self.generation)
    }
}

/// The one version of the wire that this build speaks.
pub(crate) const VERSION: u8 = 1;
/// Longest Hello or control PDU in bytes.
pub(crate) const MAX_PDU: usize = 8 * 1024;
