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
//!    |<-- Codecs … ---------------------->|   if the registries differ: what each side accepts
//!    |<== tells, asks, replies ========>|
//!    |--- Goodbye ---------------------->|
//!    |<-- Goodbye ----------------------|
//! ```
//! Hello and Welcome carry a check sum of who their sender is; see `summed`.
//! When the acceptor has the smaller address, its Activate follows its Welcome in the same write. An acceptor that
//! knew another incarnation sends a Ping after its Welcome; the Pong or the Activate proves that the dialler lives.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::address::{Address, Uid, UniqueAddress};
use crate::event::Reason;

/// Opens a link: the dialler's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The dialling node.
    #[serde(with = "super::summed")]
    pub(crate) from: UniqueAddress,
    /// The address that was dialled: the acceptor refuses a call for somebody else.
    pub(crate) to: Address,
    /// What the dialler accepts.
    pub(crate) limits: Limits,
    /// Fingerprint of the dialler's codec registry. If the two differ, each side lists its own behind its
    /// Activate; 0 says nothing and asks for nothing.
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
    #[serde(with = "super::summed")]
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
    /// Sums up tells that the receiver could not deliver, at most ten times a second and reason.
    Refused {
        /// Why.
        reason: Reason,
        /// How many.
        count: u64,
        /// The local path that the first of them was for.
        target: String,
        /// The `codec:manifest` name of the first of them.
        manifest: String,
    },
    /// Lists, in parts behind an Activate, what the sender's registry accepts; before any user's frame, so that
    /// the peer knows which schemas differ. A link carries the list once.
    Codecs {
        /// Names and schema hashes in order, one a line: `codec:manifest`, or `codec:manifest 0123456789abcdef`.
        lines: String,
        /// What follows.
        rest: Rest,
    },
    /// Lets the peer send more to some of this node's targets.
    Credit {
        /// At most 128; the latest numbers count, so that a repeated or late one does no harm.
        grants: Vec<Grant>,
    },
    /// Follows an Activate that is not the first between two incarnations: what had come by then, so that credit
    /// which frames took along with a broken link is given back.
    Standing {
        /// At most 128 accounts; those that no Standing of the link names have received nothing.
        accounts: Vec<Standing>,
        /// Nothing more of the kind follows on this link.
        is_last: bool,
    },
}

/// Says what follows a part of the list of accepted names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rest {
    /// Another part.
    More,
    /// Nothing: what was not listed is not accepted.
    Nothing,
    /// Nothing, and what was not listed may be accepted too: by a sink, or because the list has its bounds.
    Unlisted,
}

/// Says what a peer told of itself in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// What it accepts.
    pub(crate) limits: Limits,
    /// The fingerprint of its codec registry.
    pub(crate) registry: u64,
}

impl Hello {
    pub(crate) fn terms(&self) -> Terms {
        Terms { limits: self.limits, registry: self.registry }
    }
}

impl Welcome {
    pub(crate) fn terms(&self) -> Terms {
        Terms { limits: self.limits, registry: self.registry }
    }
}

/// Counts tells to one target, or what they may amount to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Amount {
    /// How many.
    pub(crate) messages: u64,
    /// Bytes of their payloads.
    pub(crate) bytes: u64,
}

/// Says how much may be sent to a target in all, since the two incarnations met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// Names the target by its dictionary id less 1, or literal targets together by 1024 plus their hash.
    pub(crate) account: u16,
    /// The bound of the sum of all tells.
    pub(crate) granted: Amount,
}

/// Says how an account stands with the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// What came on all links before this one.
    pub(crate) received: Amount,
    /// As in Credit.
    pub(crate) grant: Grant,
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
    /// A live node at another address has the same uid.
    #[error("a live node at another address has the same uid")]
    UidTaken,
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

impl Amount {
    /// Counts one tell with a payload of so many bytes.
    pub(crate) fn one(bytes: u64) -> Self {
        Self { messages: 1, bytes }
    }

    /// Adds both numbers.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// Subtracts both numbers, down to 0.
    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(other.messages),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// Gives the greater of each number.
    pub(crate) fn max(self, other: Self) -> Self {
        let (messages, bytes) = (self.messages.max(other.messages), self.bytes.max(other.bytes));
        Self { messages, bytes }
    }

    /// Gives the smaller of each number.
    pub(crate) fn min(self, other: Self) -> Self {
        let (messages, bytes) = (self.messages.min(other.messages), self.bytes.min(other.bytes));
        Self { messages, bytes }
    }

    /// Divides both numbers; by 0 as by 1.
    pub(crate) fn over(self, parts: u64) -> Self {
        let parts = parts.max(1);
        Self { messages: self.messages / parts, bytes: self.bytes / parts }
    }

    /// Tells whether both numbers are below those of `bound`.
    pub(crate) fn is_below(self, bound: Self) -> bool {
        self.messages < bound.messages && self.bytes < bound.bytes
    }
}

/// The one version of the wire that this build speaks.
pub(crate) const VERSION: u8 = 1;
/// Accounts that one Credit or Standing may name: 128 of the longest take 5 KiB.
pub(crate) const MAX_ACCOUNTS_TOLD: usize = 128;
/// Longest Hello or control PDU in bytes.
pub(crate) const MAX_PDU: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::any;
    use proptest::{collection, prop_assert_eq, proptest};

    use super::*;

    // Numbers up to 250 are one byte; 251, 252 and 253 announce two, four and eight, little-endian.
    const ADA: &[u8] = b"\x11mem://A@h.test:10";
    const BOB: &[u8] = b"\x11mem://B@h.test:20";
    /// Of ada with the uid 7.
    const CHECK_SUM: &[u8] = &[252, 0x39, 0xaf, 0x09, 0xb1];
    const LIMITS_AND_REGISTRY: &[u8] = &[251, 0x00, 0x04, 252, 0xef, 0xbe, 0xad, 0xde];

    #[test]
    fn the_bytes_of_a_hello_are_frozen() {
        let own = [ADA, &[7], CHECK_SUM, BOB, LIMITS_AND_REGISTRY].concat();
        assert_golden(&identity().hello(bob(), None), &[&own[..], &[0]].concat());
        let seen = Some(Seen { uid: Uid::new(3), generation: 300 });
        let tail = [1, 3, 251, 0x2c, 0x01];
        assert_golden(&identity().hello(bob(), seen), &[&own[..], &tail].concat());
    }

    #[test]
    fn the_bytes_of_a_welcome_are_frozen() {
        let welcome = ControlPdu::Welcome(identity().welcome());
        assert_golden(&welcome, &[&[0, 1], ADA, &[7], CHECK_SUM, LIMITS_AND_REGISTRY].concat());
    }

    #[test]
    fn the_bytes_of_each_refusal_are_frozen() {
        let refuse = |why| ControlPdu::Refuse(why);
        assert_golden(&refuse(Refusal::Version { min: 2, max: 3 }), &[1, 0, 2, 3]);
        assert_golden(&refuse(Refusal::System { system: "A".to_owned() }), &[1, 1, 1, b'A']);
        let wrong_target = Refusal::WrongTarget { address: bob() };
        assert_golden(&refuse(wrong_target), &[&[1, 2], BOB].concat());
        assert_golden(&refuse(Refusal::OwnAddress), &[1, 3]);
        assert_golden(&refuse(Refusal::StaleIncarnation), &[1, 4]);
        assert_golden(&refuse(Refusal::Quarantined), &[1, 5]);
        assert_golden(&refuse(Refusal::Stopping), &[1, 6]);
        assert_golden(&refuse(Refusal::TooManyPeers), &[1, 7]);
        assert_golden(&refuse(Refusal::UidTaken), &[1, 8]);
    }

    #[test]
    fn the_bytes_of_the_other_pdus_are_frozen() {
        let activate = ControlPdu::Activate { generation: 1, received: 70_000 };
        assert_golden(&activate, &[2, 1, 252, 0x70, 0x11, 0x01, 0x00]);
        assert_golden(&ControlPdu::Ping { nonce: 250, received: 0 }, &[3, 250, 0]);
        let pong = ControlPdu::Pong { nonce: 251, received: u64::MAX };
        assert_golden(&pong, &[&[4, 251, 251, 0, 253][..], &[255; 8]].concat());
        assert_golden(&ControlPdu::Received { received: 5 }, &[5, 5]);
        assert_golden(&ControlPdu::Goodbye, &[6]);
        let failed = ControlPdu::AskFailed { correlation: 9, reason: Reason::NoReply };
        assert_golden(&failed, &[7, 9, 8]);
        let refused = ControlPdu::Refused {
            reason: Reason::MailboxFull,
            count: 3,
            target: "/a".to_owned(),
            manifest: "b:c".to_owned(),
        };
        assert_golden(&refused, b"\x08\x04\x03\x02/a\x03b:c");
        for (index, rest) in [(0, Rest::More), (1, Rest::Nothing), (2, Rest::Unlisted)] {
            let codecs = ControlPdu::Codecs { lines: "b:c\n".to_owned(), rest };
            assert_golden(&codecs, &[&b"\x09\x04b:c\n"[..], &[index]].concat());
        }
    }

    #[test]
    fn the_bytes_of_credit_are_frozen() {
        let amount = |messages, bytes| Amount { messages, bytes };
        let grant = Grant { account: 1025, granted: amount(300, 7) };
        let credit = ControlPdu::Credit { grants: vec![grant] };
        assert_golden(&credit, &[10, 1, 251, 0x01, 0x04, 251, 0x2c, 0x01, 7]);
        let standing = Standing { received: amount(4, 5), grant };
        let standing = ControlPdu::Standing { accounts: vec![standing], is_last: true };
        assert_golden(&standing, &[11, 1, 4, 5, 251, 0x01, 0x04, 251, 0x2c, 0x01, 7, 1]);
    }

    #[test]
    fn the_reasons_on_the_wire_keep_their_order() {
        for (index, reason) in (0..).zip(Reason::ALL) {
            assert_golden(&ControlPdu::AskFailed { correlation: 0, reason }, &[7, 0, index]);
        }
    }

    #[test]
    fn bytes_after_a_pdu_are_refused() {
        let decoded = decode_pdu::<ControlPdu>(&[6, 0, 0]);
        assert_eq!(decoded, Err(PduError::Trailing { extra: 2 }));
    }

    #[test]
    fn a_pdu_that_is_too_long_is_refused_before_it_is_read() {
        let mut bytes = vec![6; MAX_PDU + 1];
        let too_large = Err(PduError::TooLarge { length: MAX_PDU + 1 });
        assert_eq!(decode_pdu::<ControlPdu>(&bytes), too_large);
        bytes.truncate(MAX_PDU);
        let trailing = Err(PduError::Trailing { extra: MAX_PDU - 1 });
        assert_eq!(decode_pdu::<ControlPdu>(&bytes), trailing);
    }

    #[test]
    fn a_cut_or_unknown_pdu_is_refused() {
        let text_of_2_exabytes = [1, 1, 253, 0, 0, 0, 0, 0, 0, 0, 0x1f];
        let cases: [&[u8]; 6] =
            [&[], &[250], &[1, 250], &[2, 1], &[7, 0, 250], &text_of_2_exabytes];
        for bytes in cases {
            assert_eq!(decode_pdu::<ControlPdu>(bytes), Err(PduError::Malformed), "{bytes:?}");
        }
        assert_eq!(decode_pdu::<Hello>(b"\x04http\x00"), Err(PduError::Malformed));
    }

    #[test]
    fn a_hello_is_checked_against_the_own_identity() {
        let (own, other) = (identity(), |text: &str| text.parse::<Address>().unwrap());
        let check = |from: Address, to: Address| {
            let local = UniqueAddress::new(from, Uid::new(1));
            own.check(&Identity { local, ..identity() }.hello(to, None))
        };
        let (ada, eve) = (other("mem://A@h.test:10"), other("mem://A@h.test:11"));
        assert_eq!(check(eve.clone(), ada.clone()), Ok(()));
        assert_eq!(check(ada.clone(), ada.clone()), Err(Refusal::OwnAddress));
        let wrong = Refusal::WrongTarget { address: ada.clone() };
        assert_eq!(check(eve.clone(), eve), Err(wrong));
        let system = Refusal::System { system: "A".to_owned() };
        assert_eq!(check(bob(), ada), Err(system));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in collection::vec(any::<u8>(), 0..64)) {
            if let Ok(pdu) = decode_pdu::<ControlPdu>(&bytes) {
                prop_assert_eq!(decode_pdu(&encode(&pdu)), Ok(pdu));
            }
            if let Ok(hello) = decode_pdu::<Hello>(&bytes) {
                prop_assert_eq!(decode_pdu(&encode(&hello)), Ok(hello));
            }
        }

        #[test]
        fn no_change_to_a_good_pdu_makes_the_decoder_panic(
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let welcome = ControlPdu::Welcome(identity().welcome());
            let mut bytes = encode(&welcome);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(pdu) = decode_pdu::<ControlPdu>(&bytes) {
                prop_assert_eq!(decode_pdu(&encode(&pdu)), Ok(pdu));
            }
        }
    }

    fn assert_golden<T>(pdu: &T, golden: &[u8])
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        assert_eq!(encode(pdu), golden, "{pdu:?}");
        assert_eq!(decode_pdu::<T>(golden).as_ref(), Ok(pdu));
    }

    fn encode<T: Serialize>(pdu: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_pdu(pdu, &mut bytes).unwrap();
        bytes
    }

    fn identity() -> Identity {
        let local = UniqueAddress::new("mem://A@h.test:10".parse().unwrap(), Uid::new(7));
        Identity { local, limits: Limits { max_message: 1024 }, registry: 0xdead_beef }
    }

    fn bob() -> Address {
        "mem://B@h.test:20".parse().unwrap()
    }
}
