//! Lets tells go as far as the receiver has granted credit, and holds the others.
//!
//! A tell without credit waits in a table of its own, and later ones to the same target behind it, so that the lanes
//! stay free for everybody else. What is held goes into its lane when the writer comes for more after a grant: at most
//! a quantum each time, since a lane is never longer than the writer can take turns with. Holding costs more than twice
//! what the way through a lane does, so a sender that can wait is refused instead, and woken by a grant.

use std::collections::VecDeque;

use super::held::{Gone, Held, Item};
use super::lanes::Lanes;
use super::message::{Message, Waiting};
use super::{QUANTUM, Refused};
use crate::association::control::{Grant, Standing};
use crate::lane::Lane;
use crate::node::books::Position;
use crate::node::credit::{AccountId, Credit};
use crate::settings::OutboxSettings;
use crate::wire::{self, FrameKind, RawFrame};

/// Keeps what is known of credit, and the tells that wait for it.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) credit: Credit,
    pub(super) held: Held,
    /// Accounts with tells that may have got credit.
    ready: VecDeque<AccountId>,
    /// A tell was refused for lack of room to hold it since the senders were last woken.
    has_refused: bool,
    /// A tell was left to its sender for lack of credit since then.
    has_left: bool,
    /// All that was held for some target has gone since then.
    has_emptied: bool,
}

impl Flow {
    /// Tells whether something held may go.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Tells whether senders wait for what a grant may have given them, and forgets that.
    pub(super) fn has_credit_again(&mut self) -> bool {
        std::mem::take(&mut self.has_left) | std::mem::take(&mut self.has_refused)
    }

    /// Tells whether senders wait that had better try again, and forgets that: half of what may be held has gone, or
    /// all that was held for a target, whatever another one holds.
    pub(super) fn has_room_again(&mut self, settings: &OutboxSettings) -> bool {
        let has_emptied = std::mem::take(&mut self.has_emptied);
        let is_half = self.held.bytes() <= settings.max_held_bytes / 2
            && self.held.frames() <= settings.max_held_frames / 2;
        let has_room = self.has_refused && (is_half || has_emptied);
        self.has_refused &= !has_room;
        let was_left = self.has_left && has_emptied;
        self.has_left &= !was_left;
        has_room || was_left
    }

    /// Checks the bounds of what is held.
    fn admit(&mut self, settings: &OutboxSettings) -> Result<(), Refused> {
        if self.has_room(settings) {
            return Ok(());
        }
        self.has_refused = true;
        Err(Refused::Full)
    }

    fn has_room(&self, settings: &OutboxSettings) -> bool {
        self.held.bytes() < settings.max_held_bytes && self.held.frames() < settings.max_held_frames
    }

    /// Lets everything that is held try its luck.
    pub(super) fn ready_all(&mut self) {
        self.ready = self.held.accounts().into();
    }

    fn ready(&mut self, id: AccountId) {
        if self.held.has(id) && !self.ready.contains(&id) {
            self.ready.push_back(id);
        }
    }
}

impl Lanes {
    /// Checks the bounds for a large message.
    pub(super) fn admit_large<M: Message>(
        &mut self,
        message: &M,
        settings: &OutboxSettings,
    ) -> Result<(), Refused> {
        let account = message.account(&mut self.names);
        let has_credit = account.is_none_or(|id| self.flow.credit.has_some(id));
        if has_credit || self.is_closed {
            self.admit(Lane::Bulk, settings)
        } else {
            self.admit_held(message, settings)
        }
    }

    /// Checks the bounds of what is held, and whether its sender would rather wait.
    fn admit_held<M: Message>(
        &mut self,
        message: &M,
        settings: &OutboxSettings,
    ) -> Result<(), Refused> {
        if message.is_patient() && self.active.is_some() {
            self.flow.has_left = true;
            return Err(Refused::Full);
        }
        self.flow.admit(settings)
    }

    /// Appends a frame to its lane if it has credit, and holds it otherwise.
    #[inline]
    pub(super) fn append<M: Message>(
        &mut self,
        message: &M,
        settings: &OutboxSettings,
    ) -> Result<Option<Position>, Refused> {
        let account = message.account(&mut self.names);
        let size = message.payload().len() as u64;
        if let Some(id) = account {
            if !self.flow.credit.spend(id, size) {
                return self.hold(id, message, settings).map(|()| None);
            }
        }
        let position = self.append_paid(message, settings);
        match (&position, account) {
            (Ok(_), _) => self.count::<M>(),
            (Err(_), Some(id)) => self.flow.credit.refund(id, size),
            (Err(_), None) => {}
        }
        position.map(Some)
    }

    /// Holds a tell that has no credit.
    #[cold]
    fn hold<M: Message>(
        &mut self,
        id: AccountId,
        message: &M,
        settings: &OutboxSettings,
    ) -> Result<(), Refused> {
        if self.is_closed {
            return Err(Refused::Closed);
        }
        self.admit_held(message, settings)?;
        let names = &mut self.names;
        self.flow.held.push(id, |out| message.frame(names, out))?;
        self.flow.credit.hold(id, true);
        self.count::<M>();
        Ok(())
    }

    /// Gives the chunks of a message back if it has credit, and holds them otherwise.
    pub(super) fn pay_or_hold<M: Message>(
        &mut self,
        chunks: Vec<u8>,
        message: &M,
    ) -> Option<Vec<u8>> {
        let Some(id) = message.account(&mut self.names) else { return Some(chunks) };
        if self.flow.credit.spend(id, message.payload().len() as u64) {
            return Some(chunks);
        }
        self.flow.held.push_chunks(id, chunks);
        self.flow.credit.hold(id, true);
        None
    }

    /// Takes out the held messages of more than `limit` bytes.
    pub(super) fn void_held_above(&mut self, limit: usize) -> Vec<Vec<u8>> {
        let is_above = |chunks: &[u8]| {
            let first = wire::split_frame(chunks).and_then(|(raw, _)| Waiting::parse(raw));
            first.is_some_and(|tell| tell.payload > limit)
        };
        let accounts = self.flow.held.accounts();
        let void = self.flow.held.void(is_above);
        for id in accounts {
            self.flow.credit.hold(id, self.flow.held.has(id));
        }
        void
    }

    /// Takes what the receiver grants.
    pub(super) fn grant(&mut self, grants: &[Grant]) {
        for grant in grants {
            let Some(id) = AccountId::new(grant.account) else { continue };
            self.flow.credit.grant(id, grant.granted);
            self.flow.ready(id);
        }
    }

    /// Takes what the receiver says of its accounts at the beginning of a link.
    pub(super) fn settle_credit(&mut self, accounts: &[Standing], is_last: bool) {
        accounts.iter().for_each(|standing| self.flow.credit.settle(standing));
        if is_last {
            self.flow.credit.settle_rest();
            self.flow.ready_all();
        }
    }

    /// Takes the tells out of the lanes, to wait for credit like the others: what they were paid with was another
    /// incarnation's. Gives the asks among them. To be called when nobody takes frames.
    pub(super) fn hold_all(&mut self) -> Vec<u64> {
        let (mut earlier, mut asks) = (Held::default(), Vec::new());
        for slab in self.ordinary.drain() {
            for (raw, frame) in frames(&slab) {
                match Waiting::parse(raw) {
                    Some(tell) => {
                        earlier.push_frame(AccountId::of(tell.target), frame);
                        asks.extend(tell.correlation);
                    }
                    None => self.ordinary.append_frame(frame),
                }
            }
        }
        let is_tell = |bytes: &[u8]| {
            frames(bytes).next().is_some_and(|(raw, _)| Waiting::parse(raw).is_some())
        };
        for item in self.bulk.void_where(is_tell) {
            for (raw, frame) in frames(&item) {
                let Some(tell) = Waiting::parse(raw) else { continue };
                asks.extend(tell.correlation);
                let id = AccountId::of(tell.target);
                match raw.kind {
                    // The first of a message, whose others follow.
                    FrameKind::CHUNK => earlier.push_chunks(id, item.to_vec()),
                    _ => earlier.push_frame(id, frame),
                }
            }
        }
        self.flow.held.put_before(earlier);
        for id in self.flow.held.accounts() {
            self.flow.credit.hold(id, true);
        }
        asks
    }

    /// Begins to count for another incarnation of the peer.
    pub(super) fn begin_credit(&mut self) {
        let waiting = self.waiting();
        self.flow.credit.begin(waiting.into_iter());
        self.flow.ready_all();
    }

    /// Begins to count for another link to the same incarnation.
    pub(super) fn renew_credit(&mut self) {
        let waiting = self.waiting();
        self.flow.credit.begin_link(waiting.into_iter());
    }

    /// Gives credit back for what waits in the lanes, because it is about to be discarded.
    pub(super) fn refund(&mut self) {
        for (id, bytes) in self.waiting() {
            self.flow.credit.refund(id, bytes);
        }
        for id in self.flow.held.accounts() {
            self.flow.credit.hold(id, false);
        }
        self.flow.ready.clear();
    }

    /// Moves held tells that have credit into their lanes, about a quantum of them; notes the places of asks.
    pub(super) fn release(&mut self, asks: &mut Vec<(u64, Position)>) {
        let mut released = 0;
        while released < QUANTUM {
            let Some(id) = self.flow.ready.front().copied() else { return };
            let bytes = self.release_some(id, asks);
            released += bytes;
            if bytes == 0 {
                let is_held = self.flow.held.has(id);
                self.flow.credit.hold(id, is_held);
                self.flow.has_emptied |= !is_held;
                self.flow.ready.pop_front();
            }
        }
        // Each gets its turn.
        self.flow.ready.rotate_left(1);
    }

    /// Moves the first tells of an account into their lane as far as they have credit; gives their size.
    fn release_some(&mut self, id: AccountId, asks: &mut Vec<(u64, Position)>) -> usize {
        let Some(item) = self.flow.held.lend_first(id) else { return 0 };
        let (gone, rest) = match item {
            Item::Chunks(chunks) => self.release_chunks(id, chunks, asks),
            Item::Frames { bytes, begin } => self.release_frames(id, bytes, begin, asks),
        };
        self.flow.held.settle(id, gone, rest);
        gone.bytes
    }

    fn release_chunks(
        &mut self,
        id: AccountId,
        chunks: Vec<u8>,
        asks: &mut Vec<(u64, Position)>,
    ) -> (Gone, Option<Item>) {
        let Self { flow, names, ordinary, bulk, .. } = self;
        let first = wire::split_frame(&chunks).and_then(|(raw, _)| Waiting::parse(raw));
        let paid = first.filter(|tell| flow.credit.spend_for_held(id, tell.payload as u64));
        let Some(tell) = paid else { return (Gone::default(), Some(Item::Chunks(chunks))) };
        let (ask, payload, bytes) = (tell.correlation, tell.payload, chunks.len());
        let target = names.text(tell.target).to_owned();
        let number = bulk.push(chunks, payload, Some(&target), ordinary.offered());
        asks.extend(ask.map(|ask| (ask, Position::Bulk(number))));
        (Gone { frames: 1, bytes }, None)
    }

    fn release_frames(
        &mut self,
        id: AccountId,
        bytes: Vec<u8>,
        begin: usize,
        asks: &mut Vec<(u64, Position)>,
    ) -> (Gone, Option<Item>) {
        let Self { flow, names, ordinary, bulk, .. } = self;
        let (mut at, mut frames) = (begin, 0);
        while at - begin < QUANTUM {
            let waiting = bytes.get(at..).unwrap_or_default();
            let Some((raw, behind)) = wire::split_frame(waiting) else { break };
            let (frame, _) = waiting.split_at(waiting.len() - behind.len());
            let Some(tell) = Waiting::parse(raw) else { break };
            if !flow.credit.spend_for_held(id, tell.payload as u64) {
                break;
            }
            let append = |out: &mut Vec<u8>| {
                out.extend_from_slice(frame);
                Ok(())
            };
            let target = if bulk.is_empty() { "" } else { names.text(tell.target) };
            let position = if bulk.holds(target) {
                bulk.follow(target, tell.payload, append).map(Position::Bulk)
            } else {
                ordinary.append(tell.payload, append).map(Position::Ordinary)
            };
            asks.extend(tell.correlation.zip(position.ok()));
            at += frame.len();
            frames += 1;
        }
        (Gone { frames, bytes: at - begin }, Item::rest(bytes, at))
    }

    /// Lists the tells in the lanes: account and bytes of each.
    fn waiting(&self) -> Vec<(AccountId, u64)> {
        let mut waiting = Vec::new();
        for bytes in self.ordinary.slabs().chain(self.bulk.messages()) {
            let tells = frames(bytes).filter_map(|(raw, _)| Waiting::parse(raw));
            waiting.extend(tells.map(|tell| (AccountId::of(tell.target), tell.payload as u64)));
        }
        waiting
    }
}

/// Goes through frames that lie one behind the other: each read, and as it lies there.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (RawFrame<'_>, &[u8])> {
    std::iter::from_fn(move || {
        let (raw, behind) = wire::split_frame(bytes)?;
        let (frame, _) = bytes.split_at(bytes.len() - behind.len());
        bytes = behind;
        Some((raw, frame))
    })
}
