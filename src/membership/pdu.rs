//! Spells what nodes say to each other about membership.
//!
//! Floor 2: serde types in bincode's standard configuration, one PDU per gossip frame. The order
//! of variants and fields is the wire format and is frozen by golden bytes; new variants go to the
//! end. A PDU travels inside an association of two nodes of one system, so a receiver compares
//! `from` with the peer it has shaken hands with before it believes anything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cluster_id::ClusterId;
use super::exchange::{Envelope, Status};
use super::gossip::GossipForm;
use super::profile::{Label, Profile};
use crate::address::UniqueAddress;
use crate::codec::{Bincode, Codec, CodecFault};

/// Is one message of the membership protocol.
///
/// ```text
///   joining    node                                  seed
///              |--- InitJoin ------------------------>|  may I?
///              |<-- InitJoinAck, or InitJoinNack -----|  the first Ack wins
///              |--- Join ---------------------------->|  adds it as Joining
///              |<-- Welcome --------------------------|  the state, in which it is
///
///   gossip     A                                      B
///              |--- Status or Gossip ---------------->|  each second to one member
///              |<-- Status or Gossip -----------------|  if one can learn from the other
///
///   liveness   |--- Heartbeat ----------------------->|
///              |<-- HeartbeatReply -------------------|
///
///   leaving    node that waits for its Welcome        seed
///              |--- Leave --------------------------->|  downs it
///              exiting node                           next leaders
///              |--- ExitingConfirmed ---------------->|  its tasks are done: remove it
/// ```
///
/// There is no PDU by which one node downs another: that is decided on each node by itself, and
/// spreads as gossip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MembershipPdu {
    /// Asks a seed whether it can let a node in.
    InitJoin {
        /// Who asks.
        from: UniqueAddress,
        /// The cluster it belongs to, if it only wants to know of others; none if it wants in.
        cluster: Option<ClusterId>,
        /// Settings that all members must share.
        settings: SharedSettings,
    },
    /// Says that the seed is a member, of which cluster, and whether it lets the node in. Also tells a node that takes
    /// itself for a member, of this or another cluster, that it is none as far as the sender knows.
    InitJoinAck {
        /// The seed.
        from: UniqueAddress,
        /// Its cluster.
        cluster: ClusterId,
        /// Whether the node may join.
        admission: Admission,
    },
    /// Says that the seed is no member, or not for long.
    InitJoinNack {
        /// The seed.
        from: UniqueAddress,
    },
    /// Asks to be added; repeated until the Welcome is there.
    Join {
        /// Who joins.
        from: UniqueAddress,
        /// Which cluster.
        cluster: ClusterId,
        /// What it says of itself.
        profile: Profile,
    },
    /// Says that the node is a member, and of what.
    Welcome {
        /// The member that has added it.
        from: UniqueAddress,
        /// Its cluster.
        cluster: ClusterId,
        /// The state with the new member in it, unchecked.
        gossip: Box<GossipForm>,
    },
    /// Says which state the sender has.
    Status(Status),
    /// Carries the state the sender has.
    Gossip(Envelope),
    /// Asks for a sign of life.
    Heartbeat(Beat),
    /// Gives a sign of life: the beat with the answering node in it.
    HeartbeatReply(Beat),
    /// Takes a Join back: the node has given up before it was welcomed.
    Leave {
        /// Which incarnation.
        node: UniqueAddress,
    },
    /// Says that an Exiting member has done its tasks and may be removed at once.
    ExitingConfirmed {
        /// Which incarnation.
        node: UniqueAddress,
    },
}

impl MembershipPdu {
    /// Returns who says that it has sent this.
    #[must_use]
    pub fn sender(&self) -> &UniqueAddress {
        match self {
            Self::InitJoin { from, .. }
            | Self::InitJoinAck { from, .. }
            | Self::InitJoinNack { from }
            | Self::Join { from, .. }
            | Self::Welcome { from, .. } => from,
            Self::Status(status) => &status.from,
            Self::Gossip(envelope) => &envelope.from,
            Self::Heartbeat(beat) | Self::HeartbeatReply(beat) => &beat.from,
            Self::Leave { node } | Self::ExitingConfirmed { node } => node,
        }
    }

    /// Returns the cluster that the receiver has to belong to for this to mean anything to it.
    #[must_use]
    pub fn fence(&self) -> Option<ClusterId> {
        match self {
            Self::Join { cluster, .. } => Some(*cluster),
            Self::Status(status) => Some(status.cluster),
            Self::Gossip(envelope) => Some(envelope.cluster),
            Self::Heartbeat(beat) | Self::HeartbeatReply(beat) => Some(beat.cluster),
            Self::InitJoin { .. }
            | Self::InitJoinAck { .. }
            | Self::InitJoinNack { .. }
            | Self::Welcome { .. }
            | Self::Leave { .. }
            | Self::ExitingConfirmed { .. } => None,
        }
    }
}

/// Is one heartbeat, or its echo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Who sends it.
    pub from: UniqueAddress,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Counts the asking node's rounds of heartbeats.
    pub sequence: u64,
}

/// Names settings that all members of a cluster must share, and their values as text; at most 32.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Label, Label>", into = "BTreeMap<Label, Label>")]
pub struct SharedSettings(BTreeMap<Label, Label>);

impl SharedSettings {
    /// Gives the names of the settings that are missing here or differ from `other`'s.
    pub fn mismatches<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Label> {
        let differs = |(name, value): &(&Label, &Label)| self.0.get(*name) != Some(*value);
        other.0.iter().filter(differs).map(|(name, _)| name)
    }

    /// Checks these settings of a joining node against the `required` ones of the cluster.
    #[must_use]
    pub fn check(&self, required: &Self) -> Admission {
        let names: Vec<_> = self.mismatches(required).cloned().collect();
        if names.is_empty() { Admission::Granted } else { Admission::Incompatible { names } }
    }
}

impl TryFrom<BTreeMap<Label, Label>> for SharedSettings {
    type Error = TooManySettings;

    fn try_from(settings: BTreeMap<Label, Label>) -> Result<Self, TooManySettings> {
        match settings.len() {
            0..=MAX_SETTINGS => Ok(Self(settings)),
            count => Err(TooManySettings { count }),
        }
    }
}

impl From<SharedSettings> for BTreeMap<Label, Label> {
    fn from(settings: SharedSettings) -> Self {
        settings.0
    }
}

/// Refuses a list of settings: the fault of whoever wrote it; name fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{count} shared settings are too many, at most {MAX_SETTINGS} are allowed")]
pub struct TooManySettings {
    /// Settings in the list.
    pub count: usize,
}

/// Says whether a node may join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Admission {
    /// It may.
    Granted,
    /// It may not: its settings do not fit.
    Incompatible {
        /// The settings that are missing or differ.
        names: Vec<Label>,
    },
    /// It may not: this incarnation was removed from the cluster.
    WasRemoved,
    /// It may not at present: the cluster has all the members it may have.
    Full,
}

/// Appends a PDU to `out`.
///
/// # Errors
/// [`PduError::Unsendable`]; `out` is then as it was.
pub fn encode(pdu: &MembershipPdu, out: &mut Vec<u8>) -> Result<(), PduError> {
    let start = out.len();
    let encoded = Bincode::encode(pdu, out).map_err(PduError::Unsendable);
    let length = out.len() - start;
    let checked = match encoded {
        Ok(()) if length > MAX_PDU => Err(PduError::TooLong { length }),
        other => other,
    };
    checked.inspect_err(|_| out.truncate(start))
}

/// Reads the one PDU that fills `bytes`.
///
/// # Errors
/// [`PduError`] says what is wrong with them.
pub fn decode(bytes: &[u8]) -> Result<MembershipPdu, PduError> {
    if bytes.len() > MAX_PDU {
        return Err(PduError::TooLong { length: bytes.len() });
    }
    Bincode::decode(bytes).map_err(PduError::Malformed)
}

/// Says why a PDU was not written or not read. The same one fails again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PduError {
    /// Refuses a PDU that is longer than any may be. On the way in the peer's fault; on the way
    /// out the cluster has grown too large, and nothing was sent.
    #[error("a PDU of {length} bytes is longer than {MAX_PDU}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Reports a PDU that cannot be written: this node's fault; nothing was sent.
    #[error("the PDU cannot be written: {0}")]
    Unsendable(#[source] CodecFault),
    /// Reports bytes that are no PDU of this version, or more than one: the peer's fault.
    #[error("the bytes are no PDU: {0}")]
    Malformed(#[source] CodecFault),
}

/// Bytes in a PDU (8 MiB): the largest cluster with the longest addresses needs about 6 MiB, a
/// usual one of 1 000 members about 50 KiB.
pub const MAX_PDU: usize = 8 * 1024 * 1024;
/// Settings in an InitJoin.
const MAX_SETTINGS: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use proptest::test_runner::Config;

    use super::{
        Admission, BTreeMap, Beat, Bincode, Codec, CodecFault, Envelope, MAX_PDU, MAX_SETTINGS,
        MembershipPdu, PduError, SharedSettings, Status, decode, encode,
    };
    use crate::membership::cluster_id::ClusterId;
    use crate::membership::exchange::Version;
    use crate::membership::gossip::{Gossip, GossipForm, OwnMark, RemovalTime};
    use crate::membership::member::MemberStatus;
    use crate::membership::profile::Profile;
    use crate::membership::reachability::ReachabilityStatus;
    use crate::membership::tests::{any_gossip, bring, gossip, label, unique};

    fn bytes(pdu: &MembershipPdu) -> Vec<u8> {
        let mut out = Vec::new();
        encode(pdu, &mut out).unwrap();
        out
    }

    fn settings(pairs: &[(&str, &str)]) -> SharedSettings {
        let pairs = pairs.iter().map(|(name, value)| (label(name), label(value)));
        pairs.collect::<BTreeMap<_, _>>().try_into().unwrap()
    }

    /// Builds a small state in which nothing is empty.
    fn state() -> Gossip {
        let mut state = gossip(&[1, 2, 3]);
        bring(&mut state, 2, MemberStatus::Leaving);
        state.observe(&unique(1), &unique(2), ReachabilityStatus::Unreachable).unwrap();
        let removed = RemovalTime::since_1970(Duration::from_secs(1_000));
        state.remove(&unique(3), removed).unwrap();
        state.stamp(&unique(1), OwnMark::Give);
        state
    }

    fn samples() -> Vec<MembershipPdu> {
        let [ada, bob] = [unique(1), unique(2)];
        let gossip = Box::new(GossipForm::from(&state()));
        let cluster = ClusterId::new(7);
        let beat = Beat { from: ada.clone(), cluster, sequence: 300 };
        let profile = Profile::default().with_roles([label("web")]).unwrap();
        let from = || ada.clone();
        vec![
            MembershipPdu::InitJoin {
                from: from(),
                cluster: None,
                settings: settings(&[("codec", "v1")]),
            },
            MembershipPdu::InitJoinAck {
                from: from(),
                cluster,
                admission: Admission::Incompatible { names: vec![label("codec")] },
            },
            MembershipPdu::InitJoinNack { from: from() },
            MembershipPdu::Join { from: from(), cluster, profile },
            MembershipPdu::Welcome { from: from(), cluster, gossip: gossip.clone() },
            MembershipPdu::Status(Status { from: from(), cluster, version: Version::of(&state()) }),
            MembershipPdu::Gossip(Envelope { from: from(), to: bob, cluster, gossip }),
            MembershipPdu::Heartbeat(beat.clone()),
            MembershipPdu::HeartbeatReply(beat),
            MembershipPdu::Leave { node: from() },
            MembershipPdu::ExitingConfirmed { node: from() },
        ]
    }

    /// Writes bytes as text, with letters where they are letters.
    fn readable(bytes: &[u8]) -> String {
        bytes.escape_ascii().to_string()
    }

    #[test]
    fn the_bytes_are_frozen() {
        for (pdu, golden) in samples().iter().zip(GOLDEN) {
            let names = [("ADA", ADA), ("BOB", BOB), ("CYD", CYD), ("KEY", KEY)];
            let golden = golden.replace("STATE", &STATE.concat());
            let golden = names.iter().fold(golden, |text, (name, is)| text.replace(name, is));
            assert_eq!(readable(&bytes(pdu)), golden, "{pdu:?}");
        }
        assert_eq!(samples().len(), GOLDEN.len());
    }

    #[test]
    fn every_pdu_survives_its_spelling() {
        for pdu in samples() {
            assert_eq!(decode(&bytes(&pdu)), Ok(pdu));
        }
    }

    #[test]
    fn bytes_after_a_pdu_are_refused() {
        for pdu in samples() {
            let mut bytes = bytes(&pdu);
            bytes.push(0);
            let trailing = PduError::Malformed(CodecFault::Trailing { extra: 1 });
            assert_eq!(decode(&bytes), Err(trailing));
        }
    }

    #[test]
    fn a_pdu_cut_short_is_refused() {
        for pdu in samples() {
            let bytes = bytes(&pdu);
            for end in 0..bytes.len() {
                assert!(decode(&bytes[..end]).is_err(), "{end} bytes of {pdu:?}");
            }
        }
    }

    #[test]
    fn a_pdu_beyond_the_limit_is_refused_unread() {
        let long = vec![0; MAX_PDU + 1];
        assert_eq!(decode(&long), Err(PduError::TooLong { length: MAX_PDU + 1 }));
    }

    #[test]
    fn a_refused_pdu_leaves_the_buffer_as_it_was() {
        let mut form = GossipForm::from(&state());
        form.seen = vec![0; MAX_PDU];
        let pdu = MembershipPdu::Welcome {
            from: unique(1),
            cluster: ClusterId::new(7),
            gossip: Box::new(form),
        };
        let mut out = vec![7];
        assert!(matches!(encode(&pdu, &mut out), Err(PduError::TooLong { .. })));
        assert_eq!(out, [7]);
    }

    #[test]
    fn settings_are_compared_by_what_the_cluster_requires() {
        let required = settings(&[("codec", "v1"), ("downing", "majority")]);
        let fits = settings(&[("codec", "v1"), ("downing", "majority"), ("own", "x")]);
        assert_eq!(fits.check(&required), Admission::Granted);
        let differs = settings(&[("codec", "v2")]);
        let names = vec![label("codec"), label("downing")];
        assert_eq!(differs.check(&required), Admission::Incompatible { names });
    }

    #[test]
    fn too_many_settings_are_refused() {
        let many = |count: usize| {
            let pairs = (0..count).map(|n| (label(&format!("s{n}")), label("v")));
            SharedSettings::try_from(pairs.collect::<BTreeMap<_, _>>())
        };
        assert!(many(MAX_SETTINGS).is_ok());
        assert_eq!(many(MAX_SETTINGS + 1).map_err(|error| error.count), Err(MAX_SETTINGS + 1));
    }

    #[test]
    fn a_claimed_length_reserves_nothing() {
        // A Welcome whose list of profiles claims 2^32 - 1 elements.
        let mut hostile = bytes(&MembershipPdu::InitJoinNack { from: unique(1) });
        hostile[0] = 4;
        hostile.push(7);
        hostile.extend([0xfc, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(decode(&hostile), Err(PduError::Malformed(_))));
    }

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn no_bytes_upset_a_reader(bytes in vec(any::<u8>(), 0..400), kind in 0..12u8) {
            read_deeply(&bytes);
            // Most first bytes are no kind of PDU, so also take one that mostly is.
            read_deeply(&[&[kind], bytes.as_slice()].concat());
        }

        #[test]
        fn no_broken_pdu_upsets_a_reader(
            state in any_gossip(), place in any::<usize>(), byte in any::<u8>(),
        ) {
            let gossip = Box::new(GossipForm::from(&state));
            let mut bytes = bytes(&MembershipPdu::Welcome {
                from: unique(1),
                cluster: ClusterId::new(7),
                gossip,
            });
            let place = place % bytes.len();
            bytes[place] = byte;
            read_deeply(&bytes);
        }

        #[test]
        fn a_state_survives_the_wire(state in any_gossip()) {
            let mut bytes = Vec::new();
            Bincode::encode(&GossipForm::from(&state), &mut bytes).unwrap();
            let form: GossipForm = Bincode::decode(&bytes).unwrap();
            prop_assert_eq!(Gossip::try_from(form), Ok(state));
        }
    }

    /// Reads a PDU and, where it carries a state, that as well; any outcome but a panic will do.
    fn read_deeply(bytes: &[u8]) {
        let gossip = match decode(bytes) {
            Ok(MembershipPdu::Welcome { gossip, .. }) => gossip,
            Ok(MembershipPdu::Gossip(envelope)) => envelope.gossip,
            Ok(_) | Err(_) => return,
        };
        if let Ok(state) = Gossip::try_from(*gossip) {
            assert!(state.seen().all(|node| state.contains(node)));
        }
    }

    /// Node 1 in the bytes of a PDU; 0xfd announces the eight bytes of its uid.
    const ADA: &str = r"\x11mem://Test@node:1\xfd\x00\x00\x00\x00\x01\x00\x00\x00";
    /// Node 2.
    const BOB: &str = r"\x11mem://Test@node:2\xfd\x00\x00\x00\x00\x02\x00\x00\x00";
    /// Node 3.
    const CYD: &str = r"\x11mem://Test@node:3\xfd\x00\x00\x00\x00\x03\x00\x00\x00";
    /// Node 1 as a key: its hash, low byte first.
    const KEY: &str = r"\xfdK\xe23T4vO\xba";
    /// The small state, one list a line: profiles, members, marks, observers, clock, tombstones.
    const STATE: [&str; 6] = [
        r"\x01\x00\x050.0.0\x07default",
        r"\x02ADA\x02\x01\x01\x00BOB\x03\x01\x02\x00",
        r"\x01\x00",
        r"\x01\x00\x01\x01\x01\x01\x01",
        r"\x01KEY\x01",
        r"\x01CYD\xfb\xe8\x03",
    ];
    /// One PDU of each kind, in the order of their variants.
    const GOLDEN: [&str; 11] = [
        r"\x00ADA\x00\x01\x05codec\x02v1",
        r"\x01ADA\x07\x01\x01\x05codec",
        r"\x02ADA",
        r"\x03ADA\x07\x01\x03web\x050.0.0\x07default",
        r"\x04ADA\x07STATE",
        r"\x05ADA\x07\x01KEY\x01KEY",
        r"\x06ADABOB\x07STATE",
        r"\x07ADA\x07\xfb,\x01",
        r"\x08ADA\x07\xfb,\x01",
        r"\tADA",
        r"\nADA",
    ];
}
