//! Holds what waits to be sent to one peer, in lanes, each bounded by bytes and frames.
//!
//! Callers append whole frames under one short lock. The one writer of the active link takes what waits in Control,
//! and with it at most one quantum of Ordinary or Bulk, which take turns; so control frames are never behind more
//! than that. The writer is woken only when nothing waited. Frames carry dictionary ids; the definitions a link has
//! not seen yet go out before the frames that use them.
//!
//! Every frame that it accepts is written to a link, and then its end is a matter of the books (`books.rs`), or it is
//! discarded as a dead letter. A large message counts as written when its last chunk is taken; one whose link breaks
//! before begins anew on the next.

mod bulk;
mod message;
mod ordinary;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

pub(crate) use self::bulk::Piece;
pub(crate) use self::message::{
    AskHeader, Outgoing, OutgoingReply, ReplyName, Undelivered, WireName,
};

use self::bulk::Bulk;
use self::message::{Message, Names};
use self::ordinary::Ordinary;
use crate::association::LinkId;
use crate::association::control::ControlPdu;
use crate::event::Reason;
use crate::frame;
use crate::lane::Lane;
use crate::node::books::{Books, Passed, Position};
use crate::settings::OutboxSettings;
use crate::wire::{self, FrameKind};

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

/// What one write brings to the link: control frames, and a quantum of one other lane.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) control: Vec<u8>,
    pub(crate) ordinary: Vec<u8>,
    pub(crate) bulk: Option<Piece>,
}

/// Counts frames for statistics.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) tells: u64,
    pub(crate) replies: u64,
    pub(crate) lost: u64,
    pub(crate) control: Queued,
    pub(crate) ordinary: Queued,
    pub(crate) bulk: Queued,
}

/// Counts what waits in one lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queued {
    /// Bytes that wait to be written, headers included.
    pub bytes: usize,
    /// Frames that wait to be written; a message in chunks counts as one.
    pub frames: usize,
}

#[derive(Debug, Default)]
struct Inner {
    control: Vec<u8>,
    control_frames: usize,
    ordinary: Ordinary,
    bulk: Bulk,
    is_bulk_next: bool,
    /// Lanes that have refused a frame since their senders were last woken.
    has_refused_ordinary: bool,
    has_refused_bulk: bool,
    names: Names,
    active: Option<(LinkId, Arc<Notify>)>,
    is_closed: bool,
    /// The largest message that the peer takes, in bytes, once it has said so.
    largest: Option<usize>,
    tells: u64,
    replies: u64,
    books: Books,
    lost: u64,
}

impl Outbox {
    pub(crate) fn new(settings: OutboxSettings) -> Self {
        Self { inner: Mutex::default(), settings, room: Notify::new(), demand: Notify::new() }
    }

    /// Appends a tell or ask and gives its position.
    pub(crate) fn offer_tell(&self, tell: &Outgoing<'_>) -> Result<Position, Refused> {
        self.offer(tell)
    }

    /// Appends a reply to an ask of the peer.
    pub(crate) fn offer_reply(&self, reply: &OutgoingReply<'_>) -> Result<Position, Refused> {
        self.offer(reply)
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

    /// Waits for room; create it before an offer that may be refused, so that no wake-up is missed. It wakes when a
    /// lane that has refused a frame is down to half its bounds.
    pub(crate) fn room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// Waits until something is offered while no link is active.
    pub(crate) fn demand(&self) -> Notified<'_> {
        self.demand.notified()
    }

    /// Moves what goes out next into `batch`, if `link` is the active one. `defined` counts the definitions that
    /// the link has seen.
    pub(crate) fn take(&self, link: LinkId, batch: &mut Batch, defined: &mut usize) {
        let mut inner = self.lock();
        if inner.active.as_ref().is_none_or(|(active, _)| *active != link) {
            return;
        }
        inner.take(batch, defined);
        self.relieve(inner);
    }

    /// Moves what comes next out for this node itself, where definitions are looked up directly.
    pub(crate) fn take_local(&self, batch: &mut Batch, defined: &mut usize) {
        let mut inner = self.lock();
        inner.take(batch, defined);
        self.relieve(inner);
    }

    /// Takes no message of more than `limit` bytes any more, and shows those that wait to `dead`.
    pub(crate) fn limit(&self, limit: usize, dead: impl FnMut(Undelivered<'_>)) {
        let mut inner = self.lock();
        inner.largest = Some(limit);
        let void = inner.bulk.void_above(limit);
        if void.is_empty() {
            return;
        }
        let texts = inner.names.texts();
        self.relieve(inner);
        show(void.iter().map(Arc::as_ref), &texts, dead);
    }

    /// Lets the writer of `link`, and only it, take frames from here on.
    pub(crate) fn activate(&self, link: LinkId, writer: Arc<Notify>) {
        let mut inner = self.lock();
        inner.books.begin_link();
        inner.bulk.rewind();
        writer.notify_one();
        inner.active = Some((link, writer));
    }

    /// Lets nobody take frames; says which were taken.
    pub(crate) fn deactivate(&self) -> Passed {
        let mut inner = self.lock();
        inner.active = None;
        if !inner.is_empty() {
            self.demand.notify_one();
        }
        inner.passed()
    }

    /// Notes that the peer has received so many frames.
    pub(crate) fn acknowledge(&self, received: u64) {
        self.lock().books.acknowledge(received);
    }

    /// Notes that the peer has received the frame at `position` and what was written before it, as far as it was
    /// written to its present incarnation.
    pub(crate) fn answered(&self, position: Position) {
        let mut inner = self.lock();
        let passed = inner.passed();
        inner.books.answer(position, passed);
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
        inner.control_frames = 0;
        lost
    }

    /// Takes nothing any more; what waits stays for the writer or for `discard`.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.room.notify_waiters();
        self.demand.notify_one();
    }

    /// Empties the outbox and shows each user frame that waited to `dead`, with texts in place of ids; says which
    /// frames have passed by then.
    pub(crate) fn discard(&self, dead: impl FnMut(Undelivered<'_>)) -> Passed {
        let mut inner = self.lock();
        let (ordinary, bulk) = (inner.ordinary.drain(), inner.bulk.drain());
        inner.control.clear();
        inner.control_frames = 0;
        let (passed, texts) = (inner.passed(), inner.names.texts());
        drop(inner);
        self.room.notify_waiters();
        show(ordinary.iter().chain(bulk.iter().map(Arc::as_ref)), &texts, dead);
        passed
    }

    /// Counts what went through and what waits.
    pub(crate) fn counts(&self) -> Counts {
        let inner = self.lock();
        Counts {
            tells: inner.tells,
            replies: inner.replies,
            lost: inner.lost,
            control: Queued { bytes: inner.control.len(), frames: inner.control_frames },
            ordinary: Queued { bytes: inner.ordinary.bytes(), frames: inner.ordinary.frames() },
            bulk: Queued { bytes: inner.bulk.bytes(), frames: inner.bulk.frames() },
        }
    }

    /// Tells whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Gives memory of a past burst back; meant for idle peers.
    pub(crate) fn shrink(&self) {
        let mut inner = self.lock();
        inner.ordinary.shrink();
        inner.bulk.shrink();
        if inner.control.is_empty() {
            inner.control.shrink_to(KEPT_CAPACITY);
        }
    }

    #[inline]
    fn offer<M: Message>(&self, message: &M) -> Result<Position, Refused> {
        let mut inner = self.lock();
        if message.payload().len() > QUANTUM {
            return self.offer_large(inner, message);
        }
        let was_empty = inner.is_empty();
        let position = inner.append(message, &self.settings)?;
        self.wake(inner, was_empty);
        Ok(position)
    }

    /// Appends a message in chunks. They are cut outside the lock, which copies for as long as thousands of small
    /// tells take; room for them is reserved before.
    #[cold]
    fn offer_large<M: Message>(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        message: &M,
    ) -> Result<Position, Refused> {
        inner.admit(Lane::Bulk, &self.settings)?;
        let (mut header, size) = (Vec::new(), message.payload().len());
        message.header(&mut inner.names, &mut header)?;
        let number = inner.bulk.reserve(size);
        drop(inner);
        let chunks = bulk::cut(number, M::KIND, &header, message.payload());
        let mut inner = self.lock();
        inner.bulk.release(size);
        let was_empty = inner.is_empty();
        let pushed = inner.push(chunks, message);
        match pushed {
            Ok(_) => self.wake(inner, was_empty),
            Err(_) => self.relieve(inner),
        }
        pushed
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
        inner.control_frames += 1;
        self.wake(inner, was_empty);
        Ok(())
    }

    /// Wakes the writer, or the driver where no link is active, unless they are awake already.
    #[inline]
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

    /// Wakes the senders that wait for room, if a lane has some again.
    fn relieve(&self, mut inner: MutexGuard<'_, Inner>) {
        let has_room = inner.has_room_again(&self.settings);
        drop(inner);
        if has_room {
            self.room.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Checks the bounds of a lane.
    #[inline]
    fn admit(&mut self, lane: Lane, settings: &OutboxSettings) -> Result<(), Refused> {
        if self.is_closed {
            return Err(Refused::Closed);
        }
        let (bytes, frames, max_bytes) = match lane {
            Lane::Control | Lane::Ordinary => {
                (self.ordinary.bytes(), self.ordinary.frames(), settings.max_bytes)
            }
            Lane::Bulk => (self.bulk.bytes(), self.bulk.frames(), settings.max_bulk_bytes),
        };
        if bytes < max_bytes && frames < settings.max_frames {
            return Ok(());
        }
        self.has_refused_ordinary |= lane != Lane::Bulk;
        self.has_refused_bulk |= lane == Lane::Bulk;
        Err(Refused::Full)
    }

    /// Appends a frame to its lane: the ordinary one, unless it would overtake something to the same target.
    #[inline]
    fn append<M: Message>(
        &mut self,
        message: &M,
        settings: &OutboxSettings,
    ) -> Result<Position, Refused> {
        let size = message.payload().len();
        let position = match message.target() {
            Some(target) if self.bulk.holds(target) => {
                self.admit(Lane::Bulk, settings)?;
                let names = &mut self.names;
                Position::Bulk(self.bulk.follow(target, size, |out| message.frame(names, out))?)
            }
            Some(_) | None => {
                self.admit(Lane::Ordinary, settings)?;
                let names = &mut self.names;
                Position::Ordinary(self.ordinary.append(size, |out| message.frame(names, out))?)
            }
        };
        self.count::<M>();
        Ok(position)
    }

    /// Adds a message that was cut into chunks, unless the outbox was closed meanwhile.
    fn push<M: Message>(
        &mut self,
        chunks: Result<Vec<u8>, Refused>,
        message: &M,
    ) -> Result<Position, Refused> {
        if self.is_closed {
            return Err(Refused::Closed);
        }
        let size = message.payload().len();
        if self.largest.is_some_and(|largest| size > largest) {
            return Err(Refused::Unframeable);
        }
        let ordinary = self.ordinary.offered();
        let number = self.bulk.push(chunks?, size, message.target(), ordinary);
        self.count::<M>();
        Ok(Position::Bulk(number))
    }

    /// Moves all of Control and a quantum of another lane into `batch`, whose old buffers come back here.
    fn take(&mut self, batch: &mut Batch, defined: &mut usize) {
        std::mem::swap(&mut self.control, &mut batch.control);
        self.control_frames = 0;
        self.names.define(defined, &mut batch.control);
        self.ordinary.give_back(std::mem::take(&mut batch.ordinary));
        if self.is_bulk_next || self.ordinary.is_empty() {
            if let Some((piece, frames)) = self.bulk.take(self.ordinary.passed()) {
                batch.bulk = Some(piece);
                self.books.write_bulk(frames);
                self.is_bulk_next = false;
                return;
            }
        }
        if !self.ordinary.is_empty() {
            let frames = self.ordinary.take(&mut batch.ordinary);
            self.books.write_ordinary(frames);
            self.is_bulk_next = true;
        }
    }

    /// Tells whether a lane that has refused a frame is down to half its bounds, and forgets the refusal.
    fn has_room_again(&mut self, settings: &OutboxSettings) -> bool {
        let frames = settings.max_frames / 2;
        let ordinary = self.has_refused_ordinary
            && self.ordinary.bytes() <= settings.max_bytes / 2
            && self.ordinary.frames() <= frames;
        let bulk = self.has_refused_bulk
            && self.bulk.bytes() <= settings.max_bulk_bytes / 2
            && self.bulk.frames() <= frames;
        self.has_refused_ordinary &= !ordinary;
        self.has_refused_bulk &= !bulk;
        ordinary || bulk
    }

    fn count<M: Message>(&mut self) {
        match M::KIND {
            FrameKind::REPLY => self.replies += 1,
            _ => self.tells += 1,
        }
    }

    fn passed(&self) -> Passed {
        Passed { ordinary: self.ordinary.passed(), bulk: self.bulk.passed() }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.ordinary.is_empty() && self.control.is_empty() && self.bulk.is_empty()
    }

    fn count_lost(&mut self, lost: u64) -> u64 {
        self.lost += lost;
        lost
    }
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.control.clear();
        self.ordinary.clear();
        self.bulk = None;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.ordinary.is_empty() && self.bulk.is_none()
    }

    /// Gives the pieces in the order in which they are written.
    pub(crate) fn pieces(&self) -> [&[u8]; 3] {
        [&self.control, &self.ordinary, self.bulk.as_deref().unwrap_or_default()]
    }
}

impl Counts {
    /// Counts the tells and replies that wait.
    pub(crate) fn queued_frames(&self) -> usize {
        self.ordinary.frames + self.bulk.frames
    }

    /// Counts the bytes that wait.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.control.bytes + self.ordinary.bytes + self.bulk.bytes
    }
}

/// Shows each user frame in what was not written.
fn show<'a>(
    unwritten: impl Iterator<Item = &'a Vec<u8>>,
    texts: &[String],
    mut dead: impl FnMut(Undelivered<'_>),
) {
    for bytes in unwritten {
        let mut rest = bytes.as_slice();
        while let Some((raw, behind)) = wire::split_frame(rest) {
            Undelivered::parse(raw, texts).into_iter().for_each(&mut dead);
            rest = behind;
        }
    }
}

/// The most that is written between two looks at Control, and the payload above which a message is cut into chunks
/// of as much: 64 KiB. Half a millisecond of a gigabit link, and enough for a write to cost little beside its bytes.
const QUANTUM: usize = 64 * 1024;
/// What an idle outbox keeps of each buffer.
const KEPT_CAPACITY: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::any::TypeId;
    use std::sync::atomic::AtomicU16;

    use super::*;
    use crate::settings::Settings;

    fn outbox() -> Outbox {
        Outbox::new(Settings::default().outbox)
    }

    fn offer(outbox: &Outbox) -> Position {
        offer_sized(outbox, 7).unwrap()
    }

    fn offer_sized(outbox: &Outbox, size: usize) -> Result<Position, Refused> {
        let manifest = ReplyName::Relayed("c:m");
        outbox.offer_reply(&OutgoingReply { correlation: 1, manifest, payload: &vec![1; size] })
    }

    fn tell(outbox: &Outbox, target: &str, size: usize) -> Result<Position, Refused> {
        let manifest = WireName { type_id: TypeId::of::<u8>(), codec: "c", manifest: "m" };
        outbox.offer_tell(&Outgoing {
            target,
            target_id: &AtomicU16::new(0),
            manifest,
            sender: None,
            ask: None,
            payload: &vec![1; size],
        })
    }

    /// Writes everything that waits to a link, and gives what each write brought.
    fn write(outbox: &Outbox) -> Vec<Batch> {
        outbox.activate(LinkId::default(), Arc::default());
        let (mut batches, mut defined) = (Vec::new(), 0);
        while !outbox.is_empty() {
            batches.push(take(outbox, &mut defined));
        }
        batches
    }

    fn take(outbox: &Outbox, defined: &mut usize) -> Batch {
        let mut batch = Batch::default();
        outbox.take(LinkId::default(), &mut batch, defined);
        assert!(!batch.is_empty(), "nothing to take from an outbox that is not empty");
        batch
    }

    #[test]
    fn an_answer_shows_that_everything_up_to_its_ask_has_arrived() {
        let outbox = outbox();
        assert_eq!([(); 4].map(|()| offer(&outbox)), [1, 2, 3, 4].map(Position::Ordinary));
        write(&outbox);
        outbox.answered(Position::Ordinary(3));
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
        let outbox = outbox();
        outbox.offer_control(&ControlPdu::Received { received: 4096 }).unwrap();
        outbox.new_incarnation();
        assert!(outbox.is_empty());
    }

    #[test]
    fn no_write_brings_more_user_frames_than_a_quantum_and_lanes_take_turns() {
        let outbox = outbox();
        for _ in 0..100 {
            offer_sized(&outbox, 10_000).unwrap();
        }
        offer_sized(&outbox, 1_000_000).unwrap();
        let batches = write(&outbox);
        assert!(batches.iter().all(|batch| batch.ordinary.is_empty() != batch.bulk.is_none()));
        let most = batches.iter().map(|batch| batch.pieces().concat().len()).max();
        assert!(most <= Some(QUANTUM + 64), "{most:?}");
        let turns: Vec<_> = batches.iter().take(30).map(|batch| batch.bulk.is_some()).collect();
        assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
    }

    #[test]
    fn control_frames_go_out_with_the_next_quantum_whatever_waits() {
        let outbox = outbox();
        tell(&outbox, "/a", 10_000_000).unwrap();
        tell(&outbox, "/b", 60_000).unwrap();
        tell(&outbox, "/b", 60_000).unwrap();
        outbox.activate(LinkId::default(), Arc::default());
        let mut defined = 0;
        for _ in 0..10 {
            outbox.offer_control(&ControlPdu::Received { received: 1 }).unwrap();
            let batch = take(&outbox, &mut defined);
            assert!(!batch.control.is_empty() && outbox.counts().control == Queued::default());
        }
    }

    #[test]
    fn a_large_tell_is_complete_after_the_earlier_and_before_the_later_ones() {
        let outbox = outbox();
        for _ in 0..10 {
            tell(&outbox, "/a", 60_000).unwrap();
        }
        assert_eq!(tell(&outbox, "/a", 70_000), Ok(Position::Bulk(1)));
        assert_eq!(tell(&outbox, "/a", 1), Ok(Position::Bulk(2)));
        assert_eq!(tell(&outbox, "/b", 1), Ok(Position::Ordinary(11)));
        assert_eq!(tell(&outbox, "/a", 1), Ok(Position::Bulk(3)));
        let batches = write(&outbox);
        let bulk: Vec<_> = batches.iter().map(|batch| batch.bulk.is_some()).collect();
        let (first, rest) = bulk.split_at(bulk.len() - 2);
        // One chunk travels at once; the other waits for the ten, and the followers are one write.
        assert_eq!(first.iter().filter(|is_bulk| **is_bulk).count(), 1, "{bulk:?}");
        assert_eq!(rest, [true, true]);
        assert_eq!(tell(&outbox, "/a", 1), Ok(Position::Ordinary(12)));
    }

    #[test]
    fn a_large_message_whose_link_broke_begins_anew_and_is_counted_once() {
        let outbox = outbox();
        offer_sized(&outbox, 200_000).unwrap();
        let whole: usize = outbox.counts().bulk.bytes;
        outbox.activate(LinkId::default(), Arc::default());
        take(&outbox, &mut 0);
        assert_eq!(outbox.deactivate(), Passed::default());
        assert_eq!(outbox.settle_unknown(), 0);
        let written: usize = write(&outbox).iter().map(|batch| batch.pieces().concat().len()).sum();
        assert_eq!(written, whole);
        assert_eq!(outbox.settle_unknown(), 1);
    }

    #[test]
    fn each_lane_has_bounds_of_its_own() {
        let outbox = outbox();
        while tell(&outbox, "/large", 1 << 20).is_ok() {}
        assert_eq!(tell(&outbox, "/large", 1), Err(Refused::Full));
        assert!(tell(&outbox, "/small", 1).is_ok());
        let limit = Settings::default().outbox.max_bulk_bytes;
        let waiting = outbox.counts().bulk.bytes;
        assert!((limit..limit + (2 << 20)).contains(&waiting), "{waiting}");
    }

    #[tokio::test]
    async fn whoever_waits_for_room_in_a_lane_gets_it() {
        for size in [50_000, 1 << 20] {
            let outbox = outbox();
            while tell(&outbox, "/a", size).is_ok() {}
            let room = outbox.room();
            assert_eq!(tell(&outbox, "/a", size), Err(Refused::Full));
            write(&outbox);
            room.await;
            assert!(tell(&outbox, "/a", size).is_ok());
        }
    }

    #[test]
    fn whatever_waits_becomes_one_dead_letter_each() {
        let outbox = outbox();
        tell(&outbox, "/large", 1 << 20).unwrap();
        tell(&outbox, "/large", 1).unwrap();
        tell(&outbox, "/small", 1).unwrap();
        offer_sized(&outbox, 1 << 20).unwrap();
        outbox.activate(LinkId::default(), Arc::default());
        take(&outbox, &mut 0);
        take(&outbox, &mut 0);
        let mut dead = Vec::new();
        let passed = outbox.discard(|undelivered| {
            dead.push(match undelivered {
                Undelivered::Tell { target, manifest, .. } => format!("{target} {manifest}"),
                Undelivered::Reply { manifest, .. } => manifest.to_owned(),
            });
        });
        assert_eq!(dead, ["/large c:m", "/large c:m", "c:m"]);
        assert_eq!(passed, Passed { ordinary: 1, bulk: 3 });
        assert!(outbox.is_empty());
    }
}
