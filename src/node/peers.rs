//! Holds what this node knows of each peer address: outbox, asks, and the gate for inbound frames.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::address::{Address, UniqueAddress};
use crate::association::control::{ControlPdu, MAX_ACCOUNTS_TOLD};
use crate::association::{AssociationState, LinkId};
use crate::frame;
use crate::node::ask::Asks;
use crate::node::books::Position;
use crate::node::driver::Input;
use crate::node::ended::Ended;
use crate::node::link::now;
use crate::node::negotiation::Negotiation;
use crate::node::outbox::{Outbox, OutgoingReply, Refused, ReplyName, WireName};
use crate::node::receiving::Receiving;
use crate::node::refusals::Refusals;
use crate::settings::Settings;

/// One peer address; shared by everyone who talks to it.
pub(crate) struct Peer {
    pub(crate) address: Address,
    pub(crate) outbox: Outbox,
    pub(crate) asks: Arc<Asks>,
    pub(crate) negotiation: Negotiation,
    /// Reaches the association's driver; none for this node itself.
    pub(crate) inputs: Option<mpsc::Sender<Input>>,
    gate: Mutex<Gate>,
    receiving: Mutex<Receiving>,
    refusals: Mutex<Refusals>,
    view: Mutex<View>,
    started: Instant,
    /// When the active link was last heard, in nanoseconds after `started`.
    heard: AtomicU64,
    max_message: AtomicU32,
    /// Tells that the peer says it has refused.
    pub(crate) refused: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
}

/// Lets exactly one link deliver, and counts what it delivered.
///
/// Held while what one read brought is dispatched, so that a link which took another's place delivers after it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) active: Option<LinkId>,
    /// Tells and replies received from the peer's present incarnation.
    pub(crate) received: u64,
    /// What the peer was told of `received`.
    pub(crate) acknowledged: u64,
    pub(crate) peer: Option<UniqueAddress>,
}

/// What the driver last said of the association, for snapshots.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) state: AssociationState,
    pub(crate) peer: Option<UniqueAddress>,
    pub(crate) up_since: Option<Instant>,
    pub(crate) activations: u64,
    pub(crate) round_trip: Option<Duration>,
    pub(crate) last_why: Option<String>,
}

impl Peer {
    pub(crate) fn new(
        address: Address,
        settings: &Settings,
        inputs: Option<mpsc::Sender<Input>>,
        random_bits: u64,
    ) -> Self {
        let max_message = u32::try_from(settings.inbound.max_message).unwrap_or(u32::MAX);
        let negotiation = match &inputs {
            Some(_) => Negotiation::default(),
            None => Negotiation::with_itself(),
        };
        Self {
            address,
            negotiation,
            outbox: Outbox::new(settings.outbox.clone()),
            asks: Arc::new(Asks::new(settings.outbox.max_asks, random_bits)),
            inputs,
            gate: Mutex::default(),
            refusals: Mutex::default(),
            receiving: Mutex::new(Receiving::new(&settings.inbound)),
            view: Mutex::new(View::default()),
            started: now(),
            heard: AtomicU64::new(0),
            max_message: AtomicU32::new(max_message),
            refused: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    /// Tells whether nobody talks to this peer or holds a handle to it, so that it may be forgotten: one
    /// in quarantine too, or peers that are downed for good would fill the table.
    pub(crate) fn is_unused(self: &Arc<Self>) -> bool {
        let Some(inputs) = &self.inputs else { return false };
        let state = self.view().state;
        Arc::strong_count(self) <= HELD_AT_REST
            && inputs.capacity() == inputs.max_capacity()
            && matches!(state, AssociationState::Idle | AssociationState::Quarantined)
            && self.outbox.is_empty()
    }

    /// Gives the gate for inbound frames.
    pub(crate) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what the peer's tells occupy here. Locked for a moment, and never while a user's code runs.
    pub(crate) fn receiving(&self) -> MutexGuard<'_, Receiving> {
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether the peer has yet to be told of credit.
    pub(crate) fn owes_credit(&self) -> bool {
        self.receiving().is_due()
    }

    /// Appends the credit that the peer has yet to be told of.
    pub(crate) fn tell_credit(&self, out: &mut Vec<u8>) {
        let due = {
            let mut receiving = self.receiving();
            if !receiving.is_due() {
                return;
            }
            receiving.take_due()
        };
        for grants in due.chunks(MAX_ACCOUNTS_TOLD) {
            let pdu = ControlPdu::Credit { grants: grants.to_vec() };
            if let Err(fault) = frame::encode_control(&pdu, out) {
                tracing::error!(%fault, "a control frame of this node's own");
            }
        }
    }

    /// Takes the credit that this node, as its own peer, grants itself.
    pub(crate) fn grant_itself(&self) {
        let mut receiving = self.receiving();
        if receiving.is_due() {
            let due = receiving.take_due();
            drop(receiving);
            self.outbox.grant(&due);
        }
    }

    /// Begins anew with what is received, for another incarnation of the peer.
    pub(crate) fn receive_anew(&self) {
        self.receiving().restart();
        *self.refusals() = Refusals::default();
    }

    /// Notes a tell that ended here, so that the peer is told before long.
    pub(crate) fn refuse(&self, ended: &Ended) {
        if self.inputs.is_some() {
            self.refusals().add(ended.failure.reason, &ended.target, &ended.wire_name);
        }
    }

    /// Tells the peer what was refused, unless it was told a moment ago.
    pub(crate) fn tell_refusals(&self) {
        let mut refusals = self.refusals();
        if refusals.is_empty() {
            return;
        }
        for pdu in refusals.due(now()) {
            if self.outbox.offer_control(&pdu).is_err() {
                tracing::trace!(peer = %self.address, "no room to tell what was refused");
            }
        }
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the peer of a tell that ended here after it was read: a large one, so that its own bytes limit how often.
    pub(crate) fn tell_refused(&self, ended: Ended) {
        let Ended { target, wire_name: manifest, failure } = ended;
        let pdu = ControlPdu::Refused { reason: failure.reason, count: 1, target, manifest };
        if self.inputs.is_some() && self.outbox.offer_control(&pdu).is_err() {
            tracing::trace!(peer = %self.address, "no room to tell what was refused");
        }
    }

    /// Gives what the peer is to be told of its tells at the beginning of a link, other than the first.
    pub(crate) fn standing(&self) -> Vec<ControlPdu> {
        let all = self.receiving().standing();
        let chunks = all.chunks(MAX_ACCOUNTS_TOLD).map(<[_]>::to_vec);
        let pdus = chunks.map(|accounts| ControlPdu::Standing { accounts, is_last: false });
        let last = ControlPdu::Standing { accounts: Vec::new(), is_last: true };
        pdus.chain([last]).collect()
    }

    /// Notes where asks went among the frames to the peer.
    pub(crate) fn note_asks(&self, asks: impl IntoIterator<Item = (u64, Position)>) {
        for (correlation, position) in asks {
            self.asks.sent(correlation, position);
        }
    }

    /// Gives what the driver last said.
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that bytes came in now.
    pub(crate) fn hear(&self, now: Instant) {
        let nanos = now.saturating_duration_since(self.started).as_nanos();
        self.heard.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Gives when bytes last came in.
    pub(crate) fn heard_at(&self) -> Instant {
        self.started + Duration::from_nanos(self.heard.load(Ordering::Relaxed))
    }

    /// Gives the largest message that both nodes take, in bytes.
    pub(crate) fn max_message(&self) -> usize {
        usize::try_from(self.max_message.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// Takes the peer's limit into account.
    pub(crate) fn limit_message(&self, own: usize, theirs: u32) {
        let own = u32::try_from(own).unwrap_or(u32::MAX);
        self.max_message.store(own.min(theirs), Ordering::Relaxed);
    }

    /// Passes an encoded reply on, under the name it came with.
    pub(crate) fn relay_reply(
        &self,
        correlation: u64,
        wire_name: &str,
        payload: &[u8],
    ) -> Result<(), Refused> {
        let limit = self.max_message();
        if payload.len() > limit {
            return Err(Refused::TooLarge { limit });
        }
        let manifest = ReplyName::Relayed(wire_name);
        let reply = OutgoingReply { correlation, manifest, payload };
        self.outbox.offer_reply(&reply)
    }

    /// Appends a reply to an ask of the peer.
    pub(crate) fn reply(
        &self,
        correlation: u64,
        manifest: WireName,
        payload: &[u8],
    ) -> Result<(), Refused> {
        let manifest = ReplyName::Own(manifest);
        let reply = OutgoingReply { correlation, manifest, payload };
        self.outbox.offer_reply(&reply)
    }
}

impl Default for View {
    fn default() -> Self {
        Self {
            state: AssociationState::Idle,
            peer: None,
            up_since: None,
            activations: 0,
            round_trip: None,
            last_why: None,
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Who holds a peer that nobody uses: the table of peers once, its driver twice.
const HELD_AT_REST: usize = 3;
