//! Dispatches messages that came in chunks: what may take long to decode is decoded elsewhere.
//!
//! Those that cannot be deferred go the way of any other: a sink takes them on this task, the target or the type is
//! unknown, the registration refuses what its mailbox has no room for, or the peer has as much waiting here already.

use std::sync::Arc;

use super::{Dispatcher, Step};
use crate::association::control::Amount;
use crate::event::Reason;
use crate::frame::{ClusterFrame, FrameFault};
use crate::node::ask::Answer;
use crate::node::credit::AccountId;
use crate::node::deferred::Encoded;
use crate::node::ended::Ended;
use crate::node::mailbox::Envelope;
use crate::node::peers::Gate;
use crate::node::routes::Key;
use crate::wire::{FrameKind, RawFrame, TellHeader, TextRef};

impl Dispatcher {
    /// Dispatches a frame that came in chunks.
    pub(super) fn whole(
        &mut self,
        gate: &Gate,
        (kind, body): (FrameKind, Vec<u8>),
    ) -> Result<Option<Step>, FrameFault> {
        let raw = RawFrame { kind, body: &body };
        match ClusterFrame::parse(raw)? {
            ClusterFrame::Tell(header, payload) if payload.len() > AT_ONCE => {
                self.identify(gate);
                let size = payload.len();
                if let Some(key) = self.deferrable(&header, size)? {
                    let envelope = self.envelope(&header)?;
                    self.defer(key, Encoded::new(body, size), envelope);
                } else {
                    self.tell(&header, payload)?;
                }
                self.tally.tells += 1;
                Ok(None)
            }
            ClusterFrame::Reply(header, payload) if self.has_time_for(payload.len()) => {
                let (correlation, size) = (header.correlation, payload.len());
                let wire_name = self.dictionary.resolve(header.manifest)?.to_owned();
                self.defer_reply(correlation, wire_name, Encoded::new(body, size));
                self.tally.replies += 1;
                Ok(None)
            }
            _ => self.frame(gate, raw),
        }
    }

    /// Gives the route of a tell that may wait undecoded, behind everything that came before it.
    fn deferrable(
        &mut self,
        header: &TellHeader<'_>,
        size: usize,
    ) -> Result<Option<Key>, FrameFault> {
        let (TextRef::Id(target), TextRef::Id(manifest)) = (header.target, header.manifest) else {
            return Ok(None);
        };
        if self.core.sink.is_some() {
            return Ok(None);
        }
        let key = (target, manifest);
        self.flush_and_report();
        if !self.routes.has(key) && self.resolve_route(key)?.is_err() {
            return Ok(None);
        }
        let holds_back =
            self.routes.place(target.index()).is_some_and(|place| place.backlog().is_some());
        let account = AccountId::of(header.target);
        let may = holds_back && self.peer.receiving().may_defer(account, size as u64);
        Ok(may.then_some(key))
    }

    /// Lets a tell wait in its place until it is decoded.
    fn defer(&mut self, key: Key, encoded: Encoded, envelope: Envelope) {
        let account = AccountId::of(TextRef::Id(key.0));
        let size = encoded.payload().len();
        let Some((place, parked, decoding)) = self.routes.defer(key, encoded, envelope) else {
            return;
        };
        self.intake.count(account, Amount::one(size as u64));
        match self.intake.park(&self.core, account, &place, parked) {
            Ok(()) => self.core.decode(decoding),
            Err(failure) => self.report([Ended::warm(&self.dictionary, key, failure)]),
        }
        self.intake.settle(|_| Some(&place));
    }

    /// Tells whether a reply is worth another thread's time, and not too many others have it.
    fn has_time_for(&self, size: usize) -> bool {
        size > AT_ONCE && Arc::strong_count(&self.replies) <= MAX_REPLIES
    }

    /// Ends an ask elsewhere, because its reply is decoded on the way. It waits until its decoding begins, and its
    /// deadline holds until then. A reply that nobody waits for is not decoded.
    fn defer_reply(&mut self, correlation: u64, wire_name: String, encoded: Encoded) {
        let peer = Arc::clone(&self.peer);
        if peer.negotiation.mismatch(&wire_name).is_some() {
            let failed = Answer::Failed(Reason::SchemaMismatch);
            return self.answered.end(&peer, correlation, failed);
        }
        let Some(position) = peer.asks.reached(correlation) else { return };
        self.answered.reached.add(position);
        let one_of_few = Arc::clone(&self.replies);
        self.core.decode(Box::new(move || {
            let payload = encoded.payload();
            peer.asks.complete(correlation, Answer::Reply { wire_name: &wire_name, payload });
            drop(one_of_few);
        }));
    }
}

/// The largest message that is not decoded by a thread of its own: it takes about 0.1 ms.
const AT_ONCE: usize = 128 * 1024;
/// Replies of one link that are decoded elsewhere, or wait for that.
const MAX_REPLIES: usize = 2;
