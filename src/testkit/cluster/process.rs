//! Is one incarnation of one node in a simulated cluster.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Instant;

use crate::address::{Uid, UniqueAddress};
use crate::membership::event::ClusterEvent;
use crate::membership::machine::Membership;
use crate::membership::pdu::MembershipPdu;
use crate::membership::vector_clock::VectorClock;

/// Changes what a node sends, as a lying one would.
pub type Tamper = Box<dyn FnMut(&mut MembershipPdu)>;

/// Is a running machine with what its shell would know.
pub(super) struct Process {
    pub(super) own: UniqueAddress,
    pub(super) membership: Membership,
    /// What has come in since it was paused; None while it runs.
    pub(super) held: Option<Vec<Parcel>>,
    /// When its timer is set to.
    pub(super) armed: Option<Instant>,
    /// The incarnation it has last shaken hands with at each node.
    pub(super) peers: BTreeMap<u16, UniqueAddress>,
    /// Incarnations it does not talk to any more, and tells so.
    pub(super) quarantined: BTreeSet<UniqueAddress>,
    /// Incarnations that another one has taken the place of.
    pub(super) fenced: BTreeSet<UniqueAddress>,
    /// Whether its exit tasks were begun.
    pub(super) is_exiting: bool,
    /// The version that was last checked.
    pub(super) checked: Option<(VectorClock, usize)>,
    pub(super) tamper: Option<Tamper>,
}

impl Process {
    pub(super) fn new(own: UniqueAddress, membership: Membership) -> Self {
        Self {
            own,
            membership,
            held: None,
            armed: None,
            peers: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            fenced: BTreeSet::new(),
            is_exiting: false,
            checked: None,
            tamper: None,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.held.is_some()
    }

    /// Tells whether the state is another one than when this was last asked.
    pub(super) fn take_news(&mut self) -> bool {
        let gossip = self.membership.gossip();
        let seen = gossip.seen().count();
        let is_known = self
            .checked
            .as_ref()
            .is_some_and(|(clock, marks)| *marks == seen && clock == gossip.clock());
        if !is_known {
            self.checked = Some((gossip.clock().clone(), seen));
        }
        !is_known
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("own", &self.own).finish_non_exhaustive()
    }
}

/// Is a PDU on its way from one incarnation to another.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    pub(super) from: UniqueAddress,
    /// The nodes it goes from and to.
    pub(super) way: (u16, u16),
    /// The incarnation that was there when it was sent; another one does not get it.
    pub(super) to: Uid,
    pub(super) load: Load,
}

/// Is what travels.
#[derive(Debug, Clone)]
pub(super) enum Load {
    Pdu(Box<MembershipPdu>),
    Bytes(Vec<u8>),
}

/// Counts what a node has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Traffic {
    /// PDUs of all kinds.
    pub pdus: u64,
    /// Their bytes with the frames around them; 0 if PDUs are not spelt.
    pub bytes: u64,
    /// The bytes of heartbeats and their answers among them.
    pub heartbeat_bytes: u64,
}

/// Is what one node's machine has told, in order.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) events: VecDeque<ClusterEvent>,
}

impl Log {
    pub(super) fn push(&mut self, event: ClusterEvent) {
        if self.events.len() == MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Events kept of each node; the oldest give way.
const MOST_EVENTS: usize = 10_000;
