//! Drives the association with one peer: feeds the machine, carries its actions out, owns the links.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::address::{Uid, UniqueAddress};
use crate::association::control::{ControlPdu, Hello, Refusal, Rest, Terms};
use crate::association::{Action, Association, AssociationState, LinkId};
use crate::event::{NodeEvent, Reason};
use crate::frame;
use crate::node::core::{Core, Counters};
use crate::node::link::{HANDSHAKE_LIMIT, LinkHandle, NewLink, Written, now};
use crate::node::outbox::IsFirst;
use crate::node::peers::Peer;
use crate::transport::{Link, TransportError};
use crate::wire::FrameDecoder;

/// Tells the driver what happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// The peer dialled this node and said Hello.
    Accepted(Accepted),
    /// A dial has ended.
    Dialled { link: LinkId, result: Result<Link, DialError> },
    /// A link brought a control PDU; `done` is dropped once it is acted upon.
    Control { link: LinkId, pdu: ControlPdu, done: oneshot::Sender<()> },
    /// A link has ended.
    Lost { link: LinkId, why: String },
    /// The incarnation is not to be talked to again; `done` is dropped once that is so.
    Quarantine { uid: Uid, done: oneshot::Sender<()> },
    /// The peer may be back.
    Urge,
    /// Nothing waits for the link any more.
    Flushed { link: LinkId },
    /// This node stops.
    Stop,
}

/// A link that the peer dialled, with what was read of it behind the Hello.
pub(crate) struct Accepted {
    pub(crate) hello: Hello,
    pub(crate) new: NewLink,
}

/// Says why a dial gave no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The transport said so.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It took too long.
    #[error("dialling took longer than {0:?}")]
    Late(Duration),
}

/// Drives one association until the node ends.
pub(crate) struct Driver {
    core: Arc<Core>,
    peer: Arc<Peer>,
    machine: Association,
    inputs: mpsc::Receiver<Input>,
    links: BTreeMap<LinkId, LinkHandle>,
    /// The link on which this node said goodbye, and the end of its writer once it is closed.
    goodbye: Option<LinkId>,
    farewell: Option<Written>,
    /// Dials in flight end with this driver.
    has_stopped: bool,
}

impl Driver {
    pub(crate) fn new(
        core: Arc<Core>,
        peer: Arc<Peer>,
        machine: Association,
        inputs: mpsc::Receiver<Input>,
    ) -> Self {
        let (links, goodbye, farewell, has_stopped) = (BTreeMap::new(), None, None, false);
        Self { core, peer, machine, inputs, links, goodbye, farewell, has_stopped }
    }

    /// Takes inputs, carries actions out, keeps the timer, until the association has stopped.
    pub(crate) async fn run(mut self) {
        let (core, peer) = (Arc::clone(&self.core), Arc::clone(&self.peer));
        while !self.has_stopped {
            let timer = self.timer();
            // Biased: the node's end goes first; what links report comes before demand and time, which it may
            // make pointless.
            tokio::select! { biased;
                () = core.cancel.cancelled() => break,
                input = self.inputs.recv() => match input {
                    Some(input) => self.input(input),
                    None => break,
                },
                () = peer.outbox.demand() => {
                    // What was noticed may have been discarded meanwhile: nothing to dial for.
                    if !peer.outbox.is_empty() {
                        self.machine.handle_demand(now());
                    }
                }
                () = sleep_until(timer) => {
                    self.machine.handle_heard(peer.heard_at());
                    self.machine.handle_timeout(now());
                }
            }
            self.carry_out();
            if !self.has_stopped {
                self.part().await;
            }
        }
        self.end();
    }

    /// Gives the time of the next look at the machine. What a link that is up waits for need not be to the moment.
    fn timer(&self) -> Option<tokio::time::Instant> {
        let due = self.machine.poll_timeout()?;
        let is_up = self.machine.state() == AssociationState::Up;
        let at = if is_up { self.core.beat.not_before(due) } else { due };
        Some(tokio::time::Instant::from_std(at))
    }

    /// Closes the books over a peer that stops. It reads up to this node's goodbye, so that everything written has
    /// arrived if that was written too; a writer that ended before leaves it unknown. Waits for the writer, which
    /// ends within seconds.
    async fn part(&mut self) {
        let Some(written) = self.farewell.take() else { return };
        if written.await.is_ok() {
            self.peer.outbox.settle_drained();
        } else {
            let lost = self.peer.outbox.settle_unknown();
            self.lost(Reason::LinkLost, lost);
        }
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Accepted(accepted) => self.accepted(accepted),
            Input::Dialled { link, result } => self.dialled(link, result),
            Input::Control { link, pdu, done } => {
                let pdu = self.checked(pdu);
                self.machine.handle_control(now(), link, pdu);
                self.carry_out();
                drop(done);
            }
            Input::Lost { link, why } => {
                if let Some(handle) = self.links.remove(&link) {
                    drop(handle.close());
                }
                self.machine.handle_link_lost(now(), link, why);
            }
            Input::Quarantine { uid, done } => {
                self.machine.handle_quarantine(now(), uid);
                self.carry_out();
                let peer = UniqueAddress::new(self.peer.address.clone(), uid);
                self.core.observers.event(NodeEvent::Quarantined { peer });
                drop(done);
            }
            Input::Urge => self.machine.handle_urge(now()),
            Input::Flushed { link } => self.machine.handle_flushed(link),
            Input::Stop => {
                let queued = self.peer.outbox.counts().queued_frames();
                if queued > 0 {
                    // What was told a moment ago has not been noticed yet; the stop came first.
                    self.machine.handle_demand(now());
                }
                self.machine.handle_stop(now(), queued);
            }
        }
    }

    fn accepted(&mut self, accepted: Accepted) {
        let link = self.machine.new_link();
        let Accepted { hello, new } = accepted;
        self.start(link, new);
        self.machine.handle_hello(now(), link, &hello);
    }

    /// Turns the Welcome of a node whose uid belongs to another live one into the refusal that it should have been.
    fn checked(&self, pdu: ControlPdu) -> ControlPdu {
        match &pdu {
            ControlPdu::Welcome(welcome) if self.core.is_uid_taken(&welcome.from) => {
                ControlPdu::Refuse(Refusal::UidTaken)
            }
            _ => pdu,
        }
    }

    fn dialled(&mut self, link: LinkId, result: Result<Link, DialError>) {
        match result {
            Ok(dialled) => {
                tracing::debug!(peer = %self.peer.address, remote = dialled.remote(), "dialled");
                let (reader, writer) = dialled.split();
                let decoder = FrameDecoder::new(HANDSHAKE_LIMIT);
                self.start(link, NewLink { reader, writer, decoder, handshake: None });
                self.machine.handle_dialled(now(), link);
            }
            Err(error) => {
                tracing::debug!(peer = %self.peer.address, %error, "dial failed");
                self.peer.view().last_why = Some(error.to_string());
                self.machine.handle_dial_failed(now(), link, error.to_string());
            }
        }
    }

    fn start(&mut self, link: LinkId, new: NewLink) {
        let Some(inputs) = &self.peer.inputs else { return };
        let handle = LinkHandle::start(&self.core, &self.peer, inputs, link, new);
        self.links.insert(link, handle);
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            tracing::debug!(peer = %self.peer.address, ?action, "association");
            self.act(action);
        }
        let mut view = self.peer.view();
        view.state = self.machine.state();
        view.round_trip = self.machine.round_trip();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial { link, timeout } => self.dial(link, timeout),
            Action::Greet { link, hello } => {
                self.push(link, |out| frame::encode_hello(&hello, out));
            }
            Action::Transmit { link, pdu } => self.transmit(link, pdu),
            Action::Activate { link, peer, terms, generation } => {
                let theirs = terms.limits.max_message;
                self.peer.limit_message(self.core.settings.inbound.max_message, theirs);
                self.core.discard_large(&self.peer);
                self.activate(link, peer, terms, generation);
            }
            Action::Deactivate { why } => self.deactivate(why),
            Action::Settle { received } => {
                let lost = self.peer.outbox.settle(received);
                self.lost(Reason::LinkLost, lost);
            }
            Action::Incarnation { previous, current } => {
                self.peer.negotiation.forget();
                self.peer.gate().received = 0;
                self.peer.gate().acknowledged = 0;
                self.peer.receive_anew();
                self.peer.asks.fail_passed(self.peer.outbox.deactivate(), Reason::NewIncarnation);
                let renewed = self.peer.outbox.new_incarnation();
                self.peer.asks.take_back(&renewed.asks);
                self.lost(Reason::NewIncarnation, renewed.lost);
                self.core.observers.event(NodeEvent::NewIncarnation { previous, current });
            }
            Action::GiveUp { reason, why } => self.give_up(reason, why),
            Action::Flush { link } => {
                if let Some(handle) = self.links.get(&link) {
                    handle.flush();
                }
            }
            Action::Close { link, why } => {
                if let Some(handle) = self.links.remove(&link) {
                    tracing::debug!(peer = %self.peer.address, why, "link closed");
                    let written = handle.close();
                    if self.goodbye == Some(link) {
                        self.farewell = Some(written);
                    }
                }
            }
            Action::Refused { uid, why } => {
                Counters::add(&self.core.counters.handshakes_refused, 1);
                if uid.is_none() && why == Refusal::Quarantined {
                    let peer = self.peer.address.clone();
                    self.core.observers.event(NodeEvent::QuarantinedBy { peer });
                }
                let peer = Some(self.peer.address.clone());
                let why = why.to_string();
                self.core.observers.event(NodeEvent::HandshakeRefused { peer, uid, why });
            }
            Action::Stopped => self.has_stopped = true,
        }
    }

    fn dial(&self, link: LinkId, timeout: Duration) {
        let (core, peer) = (Arc::clone(&self.core), Arc::clone(&self.peer));
        self.core.spawn(async move {
            let Some(transport) = core.transports.get(peer.address.scheme()) else { return };
            let dialled = tokio::time::timeout(timeout, transport.dial(&peer.address)).await;
            let result = match dialled {
                Ok(result) => result.map_err(DialError::from),
                Err(_) => Err(DialError::Late(timeout)),
            };
            let Some(inputs) = &peer.inputs else { return };
            if inputs.send(Input::Dialled { link, result }).await.is_err() {
                tracing::trace!(peer = %peer.address, "dialled for a driver that has ended");
            }
        });
    }

    fn transmit(&mut self, link: LinkId, mut pdu: ControlPdu) {
        if matches!(pdu, ControlPdu::Pong { .. })
            && self.links.get(&link).is_some_and(LinkHandle::is_congested)
        {
            // The peer asks faster than it reads; what it has yet to read is sign enough of life.
            return;
        }
        if let ControlPdu::Ping { received, .. } | ControlPdu::Pong { received, .. } = &mut pdu {
            let mut gate = self.peer.gate();
            *received = gate.received;
            gate.acknowledged = gate.received;
        }
        if matches!(pdu, ControlPdu::Ping { .. }) {
            self.peer.outbox.shrink();
        }
        if matches!(pdu, ControlPdu::Goodbye) {
            // Nothing may follow it: the peer reads no further, and would be thought to have received the rest.
            self.peer.outbox.deactivate();
            self.goodbye = Some(link);
        }
        self.push(link, |out| frame::encode_control(&pdu, out));
    }

    fn push(
        &self,
        link: LinkId,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), frame::FrameFault>,
    ) {
        let Some(handle) = self.links.get(&link) else { return };
        handle.push(|out| {
            if let Err(fault) = encode(out) {
                tracing::error!(%fault, "a control frame of this node's own");
            }
        });
    }

    /// Opens the gate for the link, announces that with what was received so far, and lets the writer go.
    fn activate(&self, link: LinkId, peer: UniqueAddress, terms: Terms, generation: u64) {
        let is_first = if generation == 1 { IsFirst::Yes } else { IsFirst::No };
        let (received, standing) = {
            let mut gate = self.peer.gate();
            gate.active = Some(link);
            gate.peer = Some(peer.clone());
            if is_first == IsFirst::Yes {
                // A chooser that has forgotten this node counts anew, on the same incarnation.
                gate.received = 0;
                self.peer.receive_anew();
            }
            gate.acknowledged = gate.received;
            // Under the gate: nothing of this link can have come yet.
            let standing = (is_first == IsFirst::No).then(|| self.peer.standing());
            (gate.received, standing.unwrap_or_default())
        };
        let pdu = ControlPdu::Activate { generation, received };
        for pdu in [pdu].iter().chain(&standing) {
            self.push(link, |out| frame::encode_control(pdu, out));
        }
        if self.peer.negotiation.meet(self.core.identity.registry, terms.registry) {
            self.list_codecs(link);
        }
        if let Some(handle) = self.links.get(&link) {
            self.peer.outbox.activate(link, handle.writer(), is_first);
        }
        {
            let mut view = self.peer.view();
            view.peer = Some(peer.clone());
            view.up_since = Some(now());
            view.activations += 1;
        }
        self.core.claim_uid(&peer);
        tracing::Span::current().record("uid", tracing::field::display(peer.uid()));
        self.core.observers.event(NodeEvent::AssociationUp { peer });
    }

    /// Lists what this node accepts, before anything that the list concerns.
    fn list_codecs(&self, link: LinkId) {
        let (parts, is_whole) = self.core.registry.parts(CODECS_PART);
        let end = match is_whole && self.core.sink.is_none() {
            true => Rest::Nothing,
            false => Rest::Unlisted,
        };
        let last = parts.len() - 1;
        for (number, lines) in parts.into_iter().enumerate() {
            let rest = if number == last { end } else { Rest::More };
            let pdu = ControlPdu::Codecs { lines, rest };
            self.push(link, |out| frame::encode_control(&pdu, out));
        }
    }

    fn deactivate(&self, why: String) {
        self.peer.gate().active = None;
        self.forget_uid();
        let written = self.peer.outbox.deactivate();
        self.peer.asks.fail_passed(written, Reason::LinkLost);
        self.core.rewind(&self.peer);
        {
            let mut view = self.peer.view();
            view.up_since = None;
            view.last_why = Some(why.clone());
        }
        let peer = self.peer.address.clone();
        self.core.observers.event(NodeEvent::AssociationDown { peer, why });
    }

    /// Lets another node have the uid of the peer, which is not up any more.
    fn forget_uid(&self) {
        if let Some(peer) = &self.peer.view().peer {
            self.core.live.remove_if(&peer.uid(), |_, address| address == peer.address());
        }
    }

    fn give_up(&self, reason: Reason, why: String) {
        self.core.discard(&self.peer, reason, &why);
        // What was written to a peer that stops is settled when the writer has ended.
        if reason != Reason::PeerStopped {
            let lost = self.peer.outbox.settle_unknown();
            self.lost(Reason::LinkLost, lost);
        }
        let peer = self.peer.address.clone();
        self.core.observers.event(NodeEvent::GaveUp { peer, why });
    }

    fn lost(&self, reason: Reason, count: u64) {
        self.core.lost(&self.peer, reason, count);
        if count > 0 {
            let peer = self.peer.address.clone();
            self.core.observers.event(NodeEvent::PossiblyLost { peer, count });
        }
    }

    /// Ends whatever is left: links, outbox, asks.
    fn end(&mut self) {
        self.peer.gate().active = None;
        self.forget_uid();
        self.peer.asks.fail_passed(self.peer.outbox.deactivate(), Reason::LinkLost);
        self.peer.outbox.close();
        for handle in std::mem::take(&mut self.links).into_values() {
            drop(handle.close());
        }
        self.core.discard(&self.peer, Reason::NodeStopped, "");
        if self.machine.has_drained() {
            self.peer.outbox.settle_drained();
        }
        let lost = self.peer.outbox.settle_unknown();
        self.lost(Reason::LinkLost, lost);
        let mut view = self.peer.view();
        view.state = AssociationState::Idle;
        view.up_since = None;
    }
}

/// Asks the driver of a peer to flush and end; a driver that has ended already needs no asking.
pub(crate) fn stop(peer: &Arc<Peer>) {
    hand(peer, Input::Stop);
}

/// Asks the driver of a peer never to talk to an incarnation again, and does not wait until that is so.
pub(crate) fn quarantine(peer: &Arc<Peer>, uid: Uid) {
    let (done, _) = oneshot::channel();
    hand(peer, Input::Quarantine { uid, done });
}

/// Hands a driver an input, later if it has much to do.
fn hand(peer: &Arc<Peer>, input: Input) {
    let Some(inputs) = peer.inputs.clone() else { return };
    match inputs.try_send(input) {
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
        Err(mpsc::error::TrySendError::Full(input)) => {
            tokio::spawn(async move { drop(inputs.send(input).await) });
        }
    }
}

async fn sleep_until(timer: Option<tokio::time::Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accepted").field("hello", &self.hello).finish_non_exhaustive()
    }
}

/// Bytes of one part of the list of codecs: with what is around it, a PDU.
const CODECS_PART: usize = 7 * 1024;
/// Inputs that may wait for a driver; links wait for room, so nothing is lost.
pub(crate) const INPUTS: usize = 256;
