//! Feeds what members say to each other, and lets it meet a good state.

use std::num::NonZeroU32;
use std::sync::LazyLock;

use tellwire::membership::exchange::{Envelope, Outcome, Receiver};
use tellwire::membership::gossip::{Gossip, GossipForm, OwnMark};
use tellwire::membership::member::{Member, MemberStatus, UpNumber};
use tellwire::membership::pdu::{self, MembershipPdu};
use tellwire::membership::profile::Profile;
use tellwire::membership::reachability::ReachabilityStatus;
use tellwire::{Address, Uid, UniqueAddress};

use super::{Verdict, shown};

/// Reads one PDU of the membership, and a state in it as far as a node would.
pub fn gossip(bytes: &[u8]) -> Verdict {
    let pdu = match pdu::decode(bytes) {
        Ok(pdu) => pdu,
        Err(error) => {
            shown(&error);
            return Verdict::Refused;
        }
    };
    let mut spelt = Vec::with_capacity(bytes.len());
    pdu::encode(&pdu, &mut spelt).expect("what was read can be written");
    assert_eq!(pdu::decode(&spelt).as_ref(), Ok(&pdu), "spelt as {spelt:x?}");
    let form = match pdu {
        MembershipPdu::Welcome { gossip, .. } => gossip,
        MembershipPdu::Gossip(envelope) => {
            received(envelope.clone());
            envelope.gossip
        }
        _ => return Verdict::Accepted,
    };
    match Gossip::try_from(*form) {
        Ok(state) => meets(&state),
        Err(error) => {
            shown(&error);
            return Verdict::Refused;
        }
    }
    Verdict::Accepted
}

/// Checks the laws of merging between a peer's state and a good one.
fn meets(theirs: &Gossip) {
    let again = Gossip::try_from(GossipForm::from(theirs));
    assert_eq!(again.as_ref(), Ok(theirs), "a state that does not survive its spelling");
    let ours = &*STATE;
    let merged = ours.merge(theirs);
    assert_eq!(merged, theirs.merge(ours), "a merge that depends on the order");
    assert_eq!(merged.merge(theirs), merged, "a merge that is not idempotent");
    grew(ours, &merged);
    grew(theirs, &merged);
    let spelt = Gossip::try_from(GossipForm::from(&merged));
    assert_eq!(spelt.as_ref(), Ok(&merged), "a merged state that nobody would take");
}

/// Checks that nobody is lost, comes back, or takes a step back.
fn grew(before: &Gossip, after: &Gossip) {
    for member in before.members() {
        let is_known = after.contains(member.node()) || after.has_tombstone(member.node());
        assert!(is_known, "{member:?} is lost");
    }
    leads_forward(before, after);
}

/// Checks that nobody comes back or takes a step back.
fn leads_forward(before: &Gossip, after: &Gossip) {
    for now in after.members() {
        let was = before.member(now.node()).map_or(now.status(), Member::status);
        assert!(now.status() >= was, "{was} became {now:?}");
    }
    for (node, _) in before.tombstones() {
        assert!(!after.contains(node), "{node} came back");
    }
}

/// Lets a node of the good state receive an envelope; it may refuse, but not forget itself.
fn received(envelope: Envelope) {
    let own = node(1);
    let receiver = Receiver { own: &own, local: &STATE, mark: OwnMark::Give };
    match receiver.receive(envelope) {
        Ok(received) => {
            assert!(received.gossip.contains(&own), "{received:?}");
            leads_forward(&STATE, &received.gossip);
            // Whoever is missing in a newer state was removed so long ago that the tombstone is gone.
            if received.outcome != Outcome::Taken {
                grew(&STATE, &received.gossip);
            }
        }
        Err(refusal) => shown(&refusal),
    }
}

/// Names the node with this port.
pub(super) fn node(port: u16) -> UniqueAddress {
    let address = Address::new("mem", "Test", "node", port).expect("an address");
    UniqueAddress::new(address, Uid::new(u64::from(port) << 32))
}

/// Builds a state of three members, of whom one is leaving and one was complained of.
pub(super) fn state() -> Gossip {
    let mut state = Gossip::default();
    for port in [1, 2, 3] {
        let age = UpNumber::new(NonZeroU32::new(u32::from(port)).expect("not zero"));
        state.add(Member::joining(node(port), Profile::default())).expect("a new member");
        state.promote(&node(port), age).expect("a joining member");
    }
    state.advance(&node(2), MemberStatus::Leaving).expect("a step of the table");
    state.observe(&node(1), &node(3), ReachabilityStatus::Unreachable).expect("two members");
    state.stamp(&node(1), OwnMark::Give);
    state
}

static STATE: LazyLock<Gossip> = LazyLock::new(state);
