//! Brings what a link reads to where it belongs: control, gossip, tells, replies.
//!
//! Synchronous: it never waits for a mailbox. The peer's gate is held over one read's worth of frames, so that a
//! link which took another's place delivers strictly after it.

mod large;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::MutexGuard;

use crate::address::UniqueAddress;
use crate::association::LinkId;
use crate::association::control::{Amount, ControlPdu, Rest};
use crate::event::Reason;
use crate::frame::{ClusterFrame, FrameFault, deadline};
use crate::node::ask::Answer;
use crate::node::books::Passed;
use crate::node::cold::{Cold, deliver_cold};
use crate::node::core::{Core, Counters};
use crate::node::credit::AccountId;
use crate::node::directory::{Failure, Left};
use crate::node::ended::{Asker, Ended, Resolved};
use crate::node::intake::Intake;
use crate::node::link::{HEADER_ROOM, now};
use crate::node::mailbox::{Envelope, ReplyTo};
use crate::node::negotiation::Listing;
use crate::node::peers::{Gate, Peer};
use crate::node::reassembly::Reassembly;
use crate::node::routes::{Key, Routes, Unpushed};
use crate::path::ActorPath;
use crate::wire::{Dictionary, FrameDecoder, FrameKind, RawFrame, TellHeader, TextId, TextRef};

/// Dispatches the frames of one link.
pub(crate) struct Dispatcher {
    core: Arc<Core>,
    peer: Arc<Peer>,
    /// None for this node itself, whose frames need no gate.
    link: Option<LinkId>,
    /// Who the link belongs to, once it is activated.
    from: Option<UniqueAddress>,
    dictionary: Dictionary,
    senders: HashMap<TextId, Arc<ActorPath>>,
    routes: Routes,
    /// Ends with the link, and with it a message that is incomplete.
    reassembly: Reassembly,
    /// Held once more by each reply that is being decoded elsewhere.
    replies: Arc<()>,
    tally: Tally,
    answered: Answered,
    listing: Listing,
    intake: Intake,
}

#[derive(Debug, Default)]
struct Tally {
    tells: u64,
    replies: u64,
    delivered: u64,
}

/// Keeps what the peer has answered.
#[derive(Debug, Default)]
struct Answered {
    /// Asks, since somebody wanted to know.
    asks: u64,
    /// Frames to the peer that have arrived there by what it has answered, since the outbox was told.
    reached: Passed,
}

impl Answered {
    /// Ends an ask with what the peer answered, which shows that everything up to the ask has arrived there.
    fn end(&mut self, peer: &Peer, correlation: u64, answer: Answer<'_>) {
        self.reached.add(peer.asks.complete(correlation, answer));
        self.asks += 1;
    }
}

/// Says why there is no way to an actor, in words too where the reason does not say it all.
type Denied = (Reason, Option<String>);

/// Says why dispatching stopped.
#[derive(Debug)]
pub(crate) enum Step {
    /// Everything that was read is dispatched.
    ReadOn,
    /// The machine is to see this before anything that follows it on the link.
    Control(ControlPdu),
    /// The link is no longer the one that delivers.
    Fenced,
}

impl Dispatcher {
    pub(crate) fn new(core: Arc<Core>, peer: Arc<Peer>, link: Option<LinkId>) -> Self {
        let from = link.is_none().then(|| core.identity.local.clone());
        let largest = core.settings.inbound.max_message + HEADER_ROOM;
        Self {
            core,
            intake: Intake::new(Arc::clone(&peer)),
            peer,
            link,
            from,
            dictionary: Dictionary::new(),
            senders: HashMap::new(),
            routes: Routes::default(),
            reassembly: Reassembly::new(largest),
            replies: Arc::default(),
            tally: Tally::default(),
            answered: Answered::default(),
            listing: Listing::new(),
        }
    }

    /// Dispatches what the decoder holds, up to a PDU that the machine must see first.
    pub(crate) fn dispatch(&mut self, decoder: &mut FrameDecoder) -> Result<Step, FrameFault> {
        let peer = Arc::clone(&self.peer);
        let gate = peer.gate();
        let step = loop {
            match decoder.next_frame() {
                Ok(None) => break Ok(Step::ReadOn),
                Ok(Some(raw)) => match self.frame(&gate, raw) {
                    Ok(None) => {}
                    Ok(Some(step)) => break Ok(step),
                    Err(fault) => break Err(fault),
                },
                Err(error) => break Err(error.into()),
            }
        };
        self.finish(gate);
        step
    }

    /// Gives how many asks were answered since the last call.
    pub(crate) fn take_answered(&mut self) -> u64 {
        std::mem::take(&mut self.answered.asks)
    }

    /// Gives the number of the message in chunks that is incomplete.
    pub(crate) fn partial(&self) -> Option<u32> {
        self.reassembly.partial()
    }

    /// Dispatches one frame of this node's own; its faults are bugs, so they only end the frame.
    pub(crate) fn dispatch_local(&mut self, mut bytes: &[u8]) {
        let peer = Arc::clone(&self.peer);
        let gate = peer.gate();
        while let Some((raw, rest)) = crate::wire::split_frame(bytes) {
            if let Err(fault) = self.frame(&gate, raw) {
                tracing::error!(%fault, "a frame of this node's own");
            }
            bytes = rest;
        }
        self.finish(gate);
    }

    #[inline]
    fn frame(&mut self, gate: &Gate, raw: RawFrame<'_>) -> Result<Option<Step>, FrameFault> {
        let is_active = self.link.is_none() || gate.active == self.link;
        if raw.kind == FrameKind::TELL && is_active && self.core.sink.is_none() {
            if let Some((target, manifest, payload)) = TellHeader::parse_plain(raw.body) {
                self.identify(gate);
                self.tell_warm((target, manifest), payload, Envelope::default())?;
                self.tally.tells += 1;
                return Ok(None);
            }
        }
        self.uncommon_frame(gate, raw, is_active)
    }

    #[inline(never)]
    fn uncommon_frame(
        &mut self,
        gate: &Gate,
        raw: RawFrame<'_>,
        is_active: bool,
    ) -> Result<Option<Step>, FrameFault> {
        match ClusterFrame::parse(raw)? {
            ClusterFrame::Control(ControlPdu::Codecs { lines, rest }) if is_active => {
                self.identify(gate);
                self.codecs(&lines, rest)?;
            }
            ClusterFrame::Control(pdu) => return Ok(self.control(is_active, pdu)),
            ClusterFrame::Unknown => Counters::add(&self.core.counters.unknown_frames, 1),
            ClusterFrame::Hello(..) => return Err(FrameFault::OutOfTurn),
            ClusterFrame::Tell(..)
            | ClusterFrame::Reply(..)
            | ClusterFrame::Chunk(..)
            | ClusterFrame::Gossip(_)
            | ClusterFrame::Define(_)
                if !is_active =>
            {
                Counters::add(&self.core.counters.fenced_links, 1);
                return Ok(Some(Step::Fenced));
            }
            ClusterFrame::Define(define) => self.dictionary.define(define.id, define.text)?,
            ClusterFrame::Gossip(pdu) => self.gossip(gate, pdu),
            ClusterFrame::Tell(header, payload) => {
                self.identify(gate);
                self.tell(&header, payload)?;
                self.tally.tells += 1;
            }
            ClusterFrame::Reply(header, payload) => {
                let wire_name = self.dictionary.resolve(header.manifest)?;
                let answer = match self.peer.negotiation.mismatch(wire_name) {
                    None => Answer::Reply { wire_name, payload },
                    Some(_) => Answer::Failed(Reason::SchemaMismatch),
                };
                self.answered.end(&self.peer, header.correlation, answer);
                self.tally.replies += 1;
            }
            ClusterFrame::Chunk(header, bytes) => {
                if let Some(whole) = self.reassembly.add(header, bytes)? {
                    return self.whole(gate, whole);
                }
            }
        }
        Ok(None)
    }

    /// Handles what concerns tells; leaves the rest to the machine.
    fn control(&mut self, is_active: bool, pdu: ControlPdu) -> Option<Step> {
        match pdu {
            ControlPdu::AskFailed { correlation, reason } => {
                if is_active {
                    self.answered.end(&self.peer, correlation, Answer::Failed(reason));
                }
                None
            }
            ControlPdu::Refused { reason, count, target, manifest } => {
                if is_active {
                    self.core.refused_by(&self.peer, reason, count, &target, manifest);
                }
                None
            }
            ControlPdu::Received { received } => {
                self.acknowledge(is_active, received);
                None
            }
            ControlPdu::Credit { grants } => {
                if is_active {
                    self.peer.outbox.grant(&grants);
                }
                None
            }
            ControlPdu::Standing { accounts, is_last } => {
                if is_active {
                    self.peer.outbox.settle_credit(&accounts, is_last);
                }
                None
            }
            ControlPdu::Ping { received, .. } | ControlPdu::Pong { received, .. } => {
                self.acknowledge(is_active, received);
                Some(Step::Control(pdu))
            }
            // On a link that delivers nothing.
            ControlPdu::Codecs { .. } => None,
            ControlPdu::Welcome(_)
            | ControlPdu::Refuse(_)
            | ControlPdu::Activate { .. }
            | ControlPdu::Goodbye => Some(Step::Control(pdu)),
        }
    }

    /// Takes a part of the list of what the peer accepts.
    fn codecs(&mut self, lines: &str, rest: Rest) -> Result<(), FrameFault> {
        let Some((listed, takes_unlisted)) = self.listing.add(lines, rest)? else { return Ok(()) };
        let learned = self.peer.negotiation.learn(&self.core.registry, listed, takes_unlisted);
        if let (Some(difference), Some(peer)) = (learned, self.from.clone()) {
            self.core.registry_differs(peer, difference);
        }
        Ok(())
    }

    /// Believes a count only from the link that delivers: others may be a stranger's.
    fn acknowledge(&self, is_active: bool, received: u64) {
        if is_active {
            self.peer.outbox.acknowledge(received);
        }
    }

    fn gossip(&mut self, gate: &Gate, pdu: &[u8]) {
        Counters::add(&self.core.counters.gossip_in, 1);
        self.identify(gate);
        if let Some(from) = &self.from {
            let outcome = catch_unwind(AssertUnwindSafe(|| self.core.gossip.receive(from, pdu)));
            if let (Err(_), Some(held_back)) = (outcome, self.core.log.admit(now())) {
                tracing::error!(peer = %from, held_back, "the gossip sink panicked");
            }
        }
    }

    #[inline]
    fn identify(&mut self, gate: &Gate) {
        if self.from.is_none() {
            self.from.clone_from(&gate.peer);
        }
    }

    fn tell(&mut self, header: &TellHeader<'_>, payload: &[u8]) -> Result<(), FrameFault> {
        if self.core.sink.is_none() {
            if let (TextRef::Id(target), TextRef::Id(manifest)) = (header.target, header.manifest) {
                let envelope = self.envelope(header)?;
                return self.tell_warm((target, manifest), payload, envelope);
            }
        }
        let envelope = self.envelope(header)?;
        // Messages for the same actor may wait in a batch: they come first.
        self.flush_and_report();
        let tell = Resolved {
            target: self.dictionary.resolve(header.target)?,
            wire_name: self.dictionary.resolve(header.manifest)?,
            payload,
        };
        let account = AccountId::of(header.target);
        self.intake.count(account, Amount::one(payload.len() as u64));
        let (place, ended) = match self.mismatch(tell.wire_name) {
            Some((reason, detail)) => {
                (None, Some(Ended::cold(&tell, Failure { reason, detail, envelope })))
            }
            None => deliver_cold(
                &Cold {
                    core: &self.core,
                    peer: &self.peer,
                    from: self.from.as_ref(),
                    account,
                    tell,
                },
                &mut self.intake,
                envelope,
            ),
        };
        self.intake.settle(|_| place.as_ref());
        self.report(ended);
        Ok(())
    }

    /// Delivers by ids: the route is resolved once per link.
    #[inline]
    fn tell_warm(
        &mut self,
        key: Key,
        payload: &[u8],
        envelope: Envelope,
    ) -> Result<(), FrameFault> {
        if let Err(unpushed) = self.routes.push(key, payload, envelope) {
            self.tell_later(key, payload, unpushed)?;
        }
        if self.routes.is_brimful() {
            self.flush_and_report();
        }
        Ok(())
    }

    /// Delivers what did not take its route, after what has to come before.
    #[cold]
    fn tell_later(
        &mut self,
        key: Key,
        payload: &[u8],
        unpushed: Unpushed,
    ) -> Result<(), FrameFault> {
        let (envelope, denied) = match unpushed {
            Unpushed::Failed(failure) => {
                self.report([Ended::warm(&self.dictionary, key, failure)]);
                return Ok(());
            }
            Unpushed::Flush(envelope) => {
                self.flush_and_report();
                (envelope, None)
            }
            Unpushed::Resolve(envelope) => {
                self.flush_and_report();
                (envelope, self.resolve_route(key)?.err())
            }
        };
        let failure = match denied {
            None => match self.routes.push(key, payload, envelope) {
                Ok(()) => return Ok(()),
                Err(Unpushed::Failed(failure)) => failure,
                // The registration has ended in this moment.
                Err(Unpushed::Flush(envelope) | Unpushed::Resolve(envelope)) => {
                    self.count_ended(key, payload);
                    Failure { reason: Reason::UnknownPath, detail: None, envelope }
                }
            },
            Some((reason, detail)) => {
                self.count_ended(key, payload);
                Failure { reason, detail, envelope }
            }
        };
        self.report([Ended::warm(&self.dictionary, key, failure)]);
        Ok(())
    }

    /// Counts a tell that no route took.
    fn count_ended(&mut self, (target, _): Key, payload: &[u8]) {
        let account = AccountId::of(TextRef::Id(target));
        self.intake.count(account, Amount::one(payload.len() as u64));
    }

    fn resolve_route(&mut self, key: Key) -> Result<Result<(), Denied>, FrameFault> {
        let (target, wire_name) = (self.dictionary.get(key.0)?, self.dictionary.get(key.1)?);
        if let Some(denied) = self.mismatch(wire_name) {
            return Ok(Err(denied));
        }
        let codec = self.core.registry.find(wire_name);
        let route = self.core.directory.route(target, codec, &self.core, &self.peer);
        Ok(route.map(|route| self.routes.insert(key, route)).map_err(|reason| (reason, None)))
    }

    /// Finds out whether the peer means something else by the name: such bytes are never decoded.
    fn mismatch(&self, wire_name: &str) -> Option<Denied> {
        let mismatch = self.peer.negotiation.mismatch(wire_name)?;
        Some((Reason::SchemaMismatch, Some(mismatch.to_string())))
    }

    /// Gathers what comes along with a message.
    fn envelope(&mut self, header: &TellHeader<'_>) -> Result<Envelope, FrameFault> {
        let sender = match header.sender {
            Some(sender) => self.sender(sender)?,
            None => None,
        };
        let wait = || deadline(header.extensions);
        let reply = header.correlation.map(|id| ReplyTo::new(Arc::clone(&self.peer), id, wait()));
        Ok(Envelope { sender, reply, bytes: 0 })
    }

    /// Gives the sender's path. Only this node itself may name a sender on another node.
    fn sender(&mut self, text: TextRef<'_>) -> Result<Option<Arc<ActorPath>>, FrameFault> {
        if let TextRef::Id(id) = text {
            if let Some(path) = self.senders.get(&id) {
                return Ok(Some(Arc::clone(path)));
            }
        }
        let parsed = self.dictionary.resolve(text)?.parse::<ActorPath>().ok();
        let path = match parsed {
            Some(path) if path.is_local() => path.at(&self.peer.address).ok(),
            Some(path) if self.link.is_none() => Some(path),
            Some(_) | None => None,
        };
        let path = path.map(Arc::new);
        if let (TextRef::Id(id), Some(path)) = (text, &path) {
            self.senders.insert(id, Arc::clone(path));
        }
        Ok(path)
    }

    /// Hands every batch over and settles what came; gives what ended.
    fn flush(&mut self) -> Vec<Ended> {
        let Self { core, dictionary, routes, intake, .. } = self;
        let mut ended = Vec::new();
        for (target, came) in routes.counts() {
            intake.count(AccountId::of(TextRef::Id(target)), came);
        }
        let taken = routes.flush(|key, place, left| {
            let failed = match left {
                Left::Failed(failure) => Err(failure),
                Left::Waits(parked) => {
                    intake.park(core, AccountId::of(TextRef::Id(key.0)), place, parked)
                }
            };
            ended.extend(failed.err().map(|failure| Ended::warm(dictionary, key, failure)));
        });
        intake.settle(|account| routes.place(account.index()));
        self.tally.delivered += taken;
        ended
    }

    fn flush_and_report(&mut self) {
        let ended = self.flush();
        self.report(ended);
    }

    fn report(&mut self, ended: impl IntoIterator<Item = Ended>) {
        for mut ended in ended {
            if ended.report(&self.core, &self.peer.address) == Asker::None {
                self.peer.refuse(&ended);
            }
        }
    }

    /// Ends a read's worth: batches go out, counters and acknowledgement are brought up to date, and the peer is told
    /// what it is owed.
    fn finish(&mut self, mut gate: MutexGuard<'_, Gate>) {
        self.flush_and_report();
        self.peer.tell_refusals();
        let tally = std::mem::take(&mut self.tally);
        let counters = &self.core.counters;
        Counters::add(&counters.tells_in, tally.tells);
        Counters::add(&counters.replies_in, tally.replies);
        Counters::add(&counters.delivered, tally.delivered);
        self.peer.outbox.answered(std::mem::take(&mut self.answered.reached));
        gate.received += tally.tells + tally.replies;
        let is_due = self.link.is_some() && gate.received - gate.acknowledged >= ACKNOWLEDGE_EVERY;
        if is_due {
            gate.acknowledged = gate.received;
            let pdu = ControlPdu::Received { received: gate.received };
            if self.peer.outbox.offer_quietly(&pdu).is_err() {
                tracing::trace!(peer = %self.peer.address, "no room to acknowledge; the next one will");
            }
        }
        drop(gate);
        if is_due || self.peer.owes_credit() {
            self.peer.outbox.urge();
        }
    }
}

/// Frames after which the peer is told how many were received.
const ACKNOWLEDGE_EVERY: u64 = 4096;
