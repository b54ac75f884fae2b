//! Holds what waits to be sent to one peer, bounded by bytes and frames.
//!
//! Callers append whole frames under one short lock; the one writer of the active link swaps the buffers out,
//! so what gathers while it writes is the next batch. The writer is woken only when the buffer was empty.
//! Frames carry dictionary ids; the definitions a link has not seen yet go out before the batch that uses them.
//!
//! Every frame that it accepts is written to a link, and then its end is a matter of the books (`books.rs`), or it is
//! discarded as a dead letter.

use std::any::TypeId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::association::LinkId;
use crate::association::control::ControlPdu;
use crate::event::Reason;
use crate::frame;
use crate::node::books::Books;
use crate::settings::OutboxSettings;
use crate::wire::{self, Define, Definitions, Extensions, FrameKind, TextId, TextRef};

/// Holds what waits to be sent to one peer.
#[derive(Debug)]
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    settings: OutboxSettings,
    /// Wakes senders that wait for room.
    room: Notify,
    /// Wakes the driver when something waits and no link is active.
    demand: Notify,
}

/// A message on its way out, encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) target: &'a str,
    /// Where the caller keeps the target's dictionary id; 0 means not known yet.
    pub(crate) target_id: &'a AtomicU16,
    pub(crate) manifest: WireName,
    pub(crate) sender: Option<&'a str>,
    pub(crate) ask: Option<AskHeader>,
    pub(crate) payload: &'a [u8],
}

/// What makes a tell an ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AskHeader {
    pub(crate) correlation: u64,
    pub(crate) wait: Duration,
}

/// Names a message type for the dictionary: its identity, and its text for the first use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WireName {
    pub(crate) type_id: TypeId,
    pub(crate) codec: &'static str,
    pub(crate) manifest: &'static str,
}

/// Says why the outbox took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The bound is reached.
    Full,
    /// The association has ended.
    Closed,
    /// The frame breaks a limit of the wire.
    Unframeable,
}

/// What one write brings to the link.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) control: Vec<u8>,
    pub(crate) ordinary: Vec<u8>,
}

/// Counts frames for statistics.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) tells: u64,
    pub(crate) replies: u64,
    pub(crate) queued_frames: usize,
    pub(crate) queued_bytes: usize,
    pub(crate) lost: u64,
}

#[derive(Debug, Default)]
struct Inner {
    control: Vec<u8>,
    ordinary: Vec<u8>,
    frames: usize,
    definitions: Definitions,
    manifests: HashMap<TypeId, Option<TextId>, BuildHasherDefault<IdHasher>>,
    active: Option<(LinkId, Arc<Notify>)>,
    is_closed: bool,
    tells: u64,
    replies: u64,
    /// Frames taken by a writer or discarded, over the outbox's life.
    taken: u64,
    books: Books,
    lost: u64,
}

impl Outbox {
    pub(crate) fn new(settings: OutboxSettings) -> Self {
        Self { inner: Mutex::default(), settings, room: Notify::new(), demand: Notify::new() }
    }

    /// Appends a tell or ask and gives its position among all user frames.
    pub(crate) fn offer_tell(&self, tell: &Outgoing<'_>) -> Result<u64, Refused> {
        let mut inner = self.lock();
        let was_empty = inner.admit(&self.settings)?;
        inner.append_tell(tell)?;
        inner.tells += 1;
        Ok(self.appended(inner, was_empty))
    }

    /// Appends a reply to an ask of the peer.
    pub(crate) fn offer_reply(
        &self,
        correlation: u64,
        manifest: WireName,
        payload: &[u8],
    ) -> Result<u64, Refused> {
        let mut inner = self.lock();
        let was_empty = inner.admit(&self.settings)?;
        inner.append_reply(correlation, manifest, payload)?;
        inner.replies += 1;
        Ok(self.appended(inner, was_empty))
    }

    /// Appends a reply that is encoded already, under the name it came with.
    pub(crate) fn relay_reply(
        &self,
        correlation: u64,
        wire_name: &str,
        payload: &[u8],
    ) -> Result<u64, Refused> {
        let mut inner = self.lock();
        let was_empty = inner.admit(&self.settings)?;
        let header = wire::ReplyHeader::new(correlation, TextRef::Literal(wire_name));
        append(&mut inner.ordinary, FrameKind::REPLY, payload, |out| header.encode(out))?;
        inner.replies += 1;
        Ok(self.appended(inner, was_empty))
    }

    /// Appends a control PDU; refused when the control lane is full.
    pub(crate) fn offer_control(&self, pdu: &ControlPdu) -> Result<(), Refused> {
        let limit = self.settings.max_control_bytes;
        self.append_control(limit, |out| frame::encode_control(pdu, out))
    }

    /// Appends the failure of an ask of the peer. It may fill the control lane to the bound of the replies, which
    /// it stands for: an asker who is not told waits for nothing.
    pub(crate) fn offer_failure(&self, correlation: u64, reason: Reason) -> Result<(), Refused> {
        let pdu = ControlPdu::AskFailed { correlation, reason };
        let limit = self.settings.max_control_bytes.max(self.settings.max_bytes);
        self.append_control(limit, |out| frame::encode_control(&pdu, out))
    }

    /// Appends a gossip PDU to the control lane.
    pub(crate) fn offer_gossip(&self, pdu: &[u8]) -> Result<(), Refused> {
        let limit = self.settings.max_control_bytes;
        self.append_control(limit, |out| frame::encode_gossip(pdu, out))
    }

    /// Waits for room; create it before an offer that may be refused, so that no wake-up is missed. Every `take`
    /// after its creation wakes it, polled or not.
    pub(crate) fn room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// Waits until something is offered while no link is active.
    pub(crate) fn demand(&self) -> Notified<'_> {
        self.demand.notified()
    }

    /// Moves what waits into `batch`, if `link` is the active one. `defined` counts the definitions that the
    /// link has seen.
    pub(crate) fn take(&self, link: LinkId, batch: &mut Batch, defined: &mut usize) {
        let mut inner = self.lock();
        if inner.active.as_ref().is_none_or(|(active, _)| *active != link) {
            return;
        }
        inner.swap_out(batch, defined);
        drop(inner);
        self.room.notify_waiters();
    }

    /// Moves everything out for this node itself, where definitions are looked up directly.
    pub(crate) fn take_local(&self, batch: &mut Batch, defined: &mut usize) {
        self.lock().swap_out(batch, defined);
        self.room.notify_waiters();
    }

    /// Lets the writer of `link`, and only it, take frames from here on.
    pub(crate) fn activate(&self, link: LinkId, writer: Arc<Notify>) {
        let mut inner = self.lock();
        inner.books.begin_link();
        writer.notify_one();
        inner.active = Some((link, writer));
    }

    /// Lets nobody take frames; gives the position of the last frame that was taken.
    pub(crate) fn deactivate(&self) -> u64 {
        let mut inner = self.lock();
        inner.active = None;
        if !inner.is_empty() {
            self.demand.notify_one();
        }
        inner.taken
    }

    /// Notes that the peer has received so many frames.
    pub(crate) fn acknowledge(&self, received: u64) {
        self.lock().books.acknowledge(received);
    }

    /// Notes that the peer has received everything up to `position`, as far as it was written to its present
    /// incarnation.
    pub(crate) fn answered(&self, position: u64) {
        let mut inner = self.lock();
        let taken = inner.taken;
        inner.books.answer(position, taken);
    }

    /// Closes the books over all links before the present one: gives how many frames were lost.
    pub(crate) fn settle(&self, received: u64) -> u64 {
        let mut inner = self.lock();
        let lost = inner.books.settle(received);
        inner.count_lost(lost)
    }

    /// Gives how many written frames have no known end, and counts them as lost.
    pub(crate) fn settle_unknown(&self) -> u64 {
        let mut inner = self.lock();
        let lost = inner.books.settle_unknown();
        inner.count_lost(lost)
    }

    /// Closes the books after both sides' goodbye: everything written was received.
    pub(crate) fn settle_drained(&self) {
        self.lock().books.settle_drained();
    }

    /// Starts new books for another incarnation; gives how many frames the old one may not have received.
    pub(crate) fn new_incarnation(&self) -> u64 {
        let lost = self.settle_unknown();
        let mut inner = self.lock();
        inner.books = Books::default();
        // Acknowledgements and failed asks of the old one would be mistaken for the new one's.
        inner.control.clear();
        lost
    }

    /// Takes nothing any more; what waits stays for the writer or for `discard`.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.room.notify_waiters();
        self.demand.notify_one();
    }

    /// Empties the outbox and shows each user frame that waited to `dead`, with texts in place of ids; gives the
    /// position of the last.
    pub(crate) fn discard(&self, mut dead: impl FnMut(Undelivered<'_>)) -> u64 {
        let mut inner = self.lock();
        let ordinary = std::mem::take(&mut inner.ordinary);
        inner.taken += std::mem::take(&mut inner.frames) as u64;
        let position = inner.taken;
        inner.control.clear();
        let texts: Vec<String> = inner.definitions.since(0).map(|(_, t)| t.to_owned()).collect();
        drop(inner);
        self.room.notify_waiters();
        let mut rest = ordinary.as_slice();
        while let Some((raw, behind)) = wire::split_frame(rest) {
            dead(Undelivered::parse(raw, &texts));
            rest = behind;
        }
        position
    }

    /// Counts what went through and what waits.
    pub(crate) fn counts(&self) -> Counts {
        let inner = self.lock();
        Counts {
            tells: inner.tells,
            replies: inner.replies,
            queued_frames: inner.frames,
            queued_bytes: inner.ordinary.len() + inner.control.len(),
            lost: inner.lost,
        }
    }

    /// Tells whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Gives memory of a past burst back; meant for idle peers.
    pub(crate) fn shrink(&self) {
        let mut inner = self.lock();
        if inner.is_empty() {
            inner.ordinary.shrink_to(KEPT_CAPACITY);
            inner.control.shrink_to(KEPT_CAPACITY);
        }
    }

    fn append_control(
        &self,
        limit: usize,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), frame::FrameFault>,
    ) -> Result<(), Refused> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err(Refused::Closed);
        }
        if inner.control.len() >= limit {
            return Err(Refused::Full);
        }
        let was_empty = inner.is_empty();
        encode(&mut inner.control).map_err(|_| Refused::Unframeable)?;
        self.wake(inner, was_empty);
        Ok(())
    }

    fn appended(&self, mut inner: MutexGuard<'_, Inner>, was_empty: bool) -> u64 {
        inner.frames += 1;
        let position = inner.taken + inner.frames as u64;
        self.wake(inner, was_empty);
        position
    }

    /// Wakes the writer, or the driver where no link is active, unless they are awake already.
    fn wake(&self, inner: MutexGuard<'_, Inner>, was_empty: bool) {
        if !was_empty {
            return;
        }
        let writer = inner.active.as_ref().map(|(_, writer)| Arc::clone(writer));
        drop(inner);
        match writer {
            Some(writer) => writer.notify_one(),
            None => self.demand.notify_one(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Checks the bounds; gives whether nothing waited.
    fn admit(&self, settings: &OutboxSettings) -> Result<bool, Refused> {
        if self.is_closed {
            return Err(Refused::Closed);
        }
        if self.ordinary.len() >= settings.max_bytes || self.frames >= settings.max_frames {
            return Err(Refused::Full);
        }
        Ok(self.is_empty())
    }

    fn append_tell(&mut self, tell: &Outgoing<'_>) -> Result<(), Refused> {
        let target = self.intern_cached(tell.target, tell.target_id);
        let sender = tell.sender.map(|text| text_ref(text, self.definitions.intern(text)));
        let mut literal = String::new();
        let manifest = self.manifest(tell.manifest, &mut literal);
        let record = tell.ask.map(|ask| frame::deadline_record(ask.wait));
        let header = wire::TellHeader {
            target: text_ref(tell.target, target),
            manifest,
            sender,
            correlation: tell.ask.map(|ask| ask.correlation),
            extensions: match &record {
                Some(record) => Extensions::parse(record).map_err(|_| Refused::Unframeable)?,
                None => Extensions::NONE,
            },
        };
        append(&mut self.ordinary, FrameKind::TELL, tell.payload, |out| header.encode(out))
    }

    fn append_reply(
        &mut self,
        correlation: u64,
        name: WireName,
        payload: &[u8],
    ) -> Result<(), Refused> {
        let mut literal = String::new();
        let manifest = self.manifest(name, &mut literal);
        let header = wire::ReplyHeader::new(correlation, manifest);
        append(&mut self.ordinary, FrameKind::REPLY, payload, |out| header.encode(out))
    }

    fn intern_cached(&mut self, text: &str, cached: &AtomicU16) -> Option<TextId> {
        match TextId::new(cached.load(Ordering::Relaxed)) {
            Some(id) => Some(id),
            None => {
                let id = self.definitions.intern(text)?;
                cached.store(id.get(), Ordering::Relaxed);
                Some(id)
            }
        }
    }

    fn manifest<'a>(&mut self, name: WireName, literal: &'a mut String) -> TextRef<'a> {
        let definitions = &mut self.definitions;
        let spell = || format!("{}:{}", name.codec, name.manifest);
        let id =
            *self.manifests.entry(name.type_id).or_insert_with(|| definitions.intern(&spell()));
        if id.is_none() {
            *literal = spell();
        }
        text_ref(literal, id)
    }

    fn swap_out(&mut self, batch: &mut Batch, defined: &mut usize) {
        std::mem::swap(&mut self.control, &mut batch.control);
        for (id, text) in self.definitions.since(*defined) {
            let written = frame::encode_define(Define { id, text }, &mut batch.control);
            debug_assert!(written.is_ok(), "a definition fits by construction");
        }
        *defined = self.definitions.len();
        std::mem::swap(&mut self.ordinary, &mut batch.ordinary);
        let frames = std::mem::take(&mut self.frames) as u64;
        self.taken += frames;
        self.books.write(frames);
    }

    fn is_empty(&self) -> bool {
        self.ordinary.is_empty() && self.control.is_empty()
    }

    fn count_lost(&mut self, lost: u64) -> u64 {
        self.lost += lost;
        lost
    }
}

/// A user frame that was never written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Undelivered<'a> {
    /// A tell or ask.
    Tell { target: &'a str, manifest: &'a str },
    /// A reply.
    Reply { manifest: &'a str },
}

impl<'a> Undelivered<'a> {
    fn parse(raw: wire::RawFrame<'a>, texts: &'a [String]) -> Self {
        let resolve = |text: TextRef<'a>| match text {
            TextRef::Literal(text) => text,
            TextRef::Id(id) => texts.get(id.index()).map_or("", String::as_str),
        };
        match frame::ClusterFrame::parse(raw) {
            Ok(frame::ClusterFrame::Tell(header, _)) => {
                Self::Tell { target: resolve(header.target), manifest: resolve(header.manifest) }
            }
            Ok(frame::ClusterFrame::Reply(header, _)) => {
                Self::Reply { manifest: resolve(header.manifest) }
            }
            Ok(_) | Err(_) => Self::Reply { manifest: "" },
        }
    }
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.control.clear();
        self.ordinary.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.ordinary.is_empty()
    }
}

/// Hashes a `TypeId`, which is random already, by taking its bits.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 ^= bits;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn text_ref(text: &str, id: Option<TextId>) -> TextRef<'_> {
    id.map_or(TextRef::Literal(text), TextRef::Id)
}

fn append(
    out: &mut Vec<u8>,
    kind: FrameKind,
    payload: &[u8],
    header: impl FnOnce(&mut Vec<u8>) -> Result<(), wire::FrameError>,
) -> Result<(), Refused> {
    let mark = wire::begin(out, kind);
    if header(out).is_err() {
        wire::abandon(out, mark);
        return Err(Refused::Unframeable);
    }
    out.extend_from_slice(payload);
    wire::finish(out, mark, usize::MAX).map_err(|_| Refused::Unframeable)?;
    Ok(())
}

/// What an idle outbox keeps of each buffer.
const KEPT_CAPACITY: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn outbox() -> Outbox {
        Outbox::new(Settings::default().outbox)
    }

    fn offer(outbox: &Outbox) -> u64 {
        let manifest = WireName { type_id: TypeId::of::<u8>(), codec: "c", manifest: "m" };
        outbox.offer_reply(1, manifest, b"payload").unwrap()
    }

    /// Writes what waits to a link.
    fn write(outbox: &Outbox) {
        let link = LinkId::default();
        outbox.activate(link, Arc::default());
        outbox.take(link, &mut Batch::default(), &mut 0);
    }

    #[test]
    fn an_answer_shows_that_everything_up_to_its_ask_has_arrived() {
        let outbox = outbox();
        assert_eq!([(); 4].map(|()| offer(&outbox)), [1, 2, 3, 4]);
        write(&outbox);
        outbox.answered(3);
        assert_eq!(outbox.settle_unknown(), 1);
    }

    #[test]
    fn an_answer_says_nothing_of_what_a_former_incarnation_had() {
        let outbox = outbox();
        offer(&outbox);
        write(&outbox);
        assert_eq!(outbox.new_incarnation(), 1);
        let position = offer(&outbox);
        offer(&outbox);
        write(&outbox);
        outbox.answered(position);
        assert_eq!(outbox.settle_unknown(), 1);
    }

    #[test]
    fn control_frames_for_a_former_incarnation_are_not_sent_to_the_next() {
        let outbox = Outbox::new(Settings::default().outbox);
        outbox.offer_control(&ControlPdu::Received { received: 4096 }).unwrap();
        outbox.new_incarnation();
        assert!(outbox.is_empty());
    }
}
