//! Holds what waits to be sent to one peer, in lanes, each bounded by bytes and frames.
//!
//! Callers append whole frames under one short lock. The one writer of the active link takes what waits in Control,
//! and with it at most one quantum of Ordinary or Bulk, which take turns; so control frames are never behind more
//! than that. The writer is woken when nothing waited; one that is held back (`wake.rs`) also for 4 KiB, for a large
//! message and for control frames. Where one thread runs the node, asks and replies that make 4 KiB move it on. Frames
//! carry dictionary ids; the definitions a link has not seen yet go out before the frames that use them.
//!
//! A tell that the receiver has granted no credit for waits beside the lanes (`outbox/flow.rs`).
//!
//! Every frame that it accepts is written to a link, and then its end is a matter of the books (`books.rs`), or it is
//! discarded as a dead letter. A large message counts as written when its last chunk is taken; one whose link breaks
//! before begins anew on the next, a few times.

mod bulk;
mod counts;
mod flow;
mod held;
mod lanes;
mod message;
mod ordinary;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

pub(crate) use self::counts::Counts;
pub use self::counts::Queued;
pub(crate) use self::lanes::Batch;
pub(crate) use self::message::{
    AskHeader, Outgoing, OutgoingReply, ReplyName, Undelivered, WireName,
};

use self::lanes::Lanes;
use self::message::Message;
use crate::association::LinkId;
use crate::association::control::{ControlPdu, Grant, Standing};
use crate::event::Reason;
use crate::frame;
use crate::node::assisted::Assisted;
use crate::node::books::{Books, Passed, Position};
use crate::node::wake::Wake;
use crate::settings::OutboxSettings;
use crate::wire;

/// Holds what waits to be sent to one peer.
#[derive(Debug)]
pub(crate) struct Outbox {
    inner: Mutex<Lanes>,
    settings: OutboxSettings,
    /// Wakes senders that wait for room.
    room: Notify,
    /// Wakes the driver when something waits and no link is active.
    demand: Notify,
}

/// Takes frames for the active link.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// Wakes it.
    pub(crate) wake: Arc<Wake>,
    /// Lets others move it on.
    pub(crate) task: Weak<Assisted>,
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
    /// The peer takes no more than `limit` bytes.
    TooLarge { limit: usize },
}

/// Says whether a link is the first between two incarnations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsFirst {
    /// Nothing was sent before.
    Yes,
    /// The receiver will say what it has of what was sent before.
    No,
}

/// Says what became of an outbox whose peer is another incarnation.
#[derive(Debug)]
pub(crate) struct Renewed {
    /// How many frames the old incarnation may not have received.
    pub(crate) lost: u64,
    /// Asks that had a place in a lane and have none any more.
    pub(crate) asks: Vec<u64>,
}

impl Outbox {
    pub(crate) fn new(settings: OutboxSettings) -> Self {
        Self { inner: Mutex::default(), settings, room: Notify::new(), demand: Notify::new() }
    }

    /// Appends a tell or ask and gives its position; one without credit is held, and has its place later.
    pub(crate) fn offer_tell(&self, tell: &Outgoing<'_>) -> Result<Option<Position>, Refused> {
        self.offer(tell)
    }

    /// Appends a reply to an ask of the peer.
    pub(crate) fn offer_reply(&self, reply: &OutgoingReply<'_>) -> Result<(), Refused> {
        self.offer(reply).map(|_| ())
    }

    /// Appends a control PDU; refused when the control lane is full.
    pub(crate) fn offer_control(&self, pdu: &ControlPdu) -> Result<(), Refused> {
        let limit = self.settings.max_control_bytes;
        self.append_control(limit, |out| frame::encode_control(pdu, out))
    }

    /// Appends a control PDU and wakes nobody, as an `urge` is to follow.
    pub(crate) fn offer_quietly(&self, pdu: &ControlPdu) -> Result<(), Refused> {
        let limit = self.settings.max_control_bytes;
        self.append_quietly(limit, |out| frame::encode_control(pdu, out)).map(drop)
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
    /// lane that has refused a frame is down to half its bounds, and when there is credit for what was refused.
    pub(crate) fn room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// Waits until something is offered while no link is active.
    pub(crate) fn demand(&self) -> Notified<'_> {
        self.demand.notified()
    }

    /// Moves what goes out next into `batch`, if `link` is the active one, which it tells. `defined` counts the
    /// definitions that the link has seen.
    pub(crate) fn take(&self, link: LinkId, batch: &mut Batch, defined: &mut usize) -> bool {
        let mut inner = self.lock();
        if !inner.is_active(link) {
            return false;
        }
        inner.take(batch, defined);
        self.relieve(inner);
        true
    }

    /// Moves what comes next out for this node itself, where definitions are looked up directly.
    pub(crate) fn take_local(&self, batch: &mut Batch, defined: &mut usize) {
        let mut inner = self.lock();
        inner.take(batch, defined);
        self.relieve(inner);
    }

    /// Takes what the receiver grants.
    pub(crate) fn grant(&self, grants: &[Grant]) {
        let mut inner = self.lock();
        inner.grant(grants);
        self.resume(inner);
    }

    /// Takes what the receiver says of its accounts at the beginning of a link.
    pub(crate) fn settle_credit(&self, accounts: &[Standing], is_last: bool) {
        let mut inner = self.lock();
        inner.settle_credit(accounts, is_last);
        self.resume(inner);
    }

    /// Moves the writer on with the thread of the caller, which has made enough work for it; false if there is none.
    pub(crate) fn assist(&self) -> bool {
        self.writer().map(|writer| writer.assist()).is_some()
    }

    /// Has the writer look at once for what is to be told: moves it on with the thread of the caller, or wakes it where
    /// that does not go. To be woken by the reader of a link, its writer would take the place of an actor that was woken
    /// by it before, and the actor would go to another thread.
    pub(crate) fn urge(&self) {
        if !self.writer().is_some_and(|writer| writer.assist()) {
            self.nudge();
        }
    }

    /// Wakes who takes frames, because there is something to tell beside them.
    pub(crate) fn nudge(&self) {
        self.wake_now(self.lock());
    }

    /// Takes no message of more than `limit` bytes any more, and shows those that wait to `dead`.
    pub(crate) fn limit(&self, limit: usize, dead: impl FnMut(Undelivered<'_>)) {
        let mut inner = self.lock();
        inner.largest = Some(limit);
        let (void, held) = (inner.bulk.void_above(limit), inner.void_held_above(limit));
        if void.is_empty() && held.is_empty() {
            return;
        }
        let texts = inner.names.texts();
        self.relieve(inner);
        show(void.iter().map(Arc::as_ref).chain(&held), &texts, dead);
    }

    /// Lets the writer of `link`, and only it, take frames from here on.
    pub(crate) fn activate(&self, link: LinkId, writer: Writer, is_first: IsFirst) {
        let mut inner = self.lock();
        inner.books.begin_link();
        match is_first {
            IsFirst::Yes => inner.begin_credit(),
            IsFirst::No => inner.renew_credit(),
        }
        writer.wake.wake();
        inner.active = Some((link, writer));
    }

    /// Lets nobody take frames; says which were taken.
    pub(crate) fn deactivate(&self) -> Passed {
        let mut inner = self.lock();
        inner.active = None;
        if !inner.is_empty() || inner.flow.held.frames() > 0 {
            self.demand.notify_one();
        }
        if inner.flow.has_credit_again() {
            // Whoever waits for the credit of a link has none to wait for.
            self.room.notify_waiters();
        }
        inner.passed()
    }

    /// Begins anew with the large message whose link broke; shows it to `dead` if that has happened too often. To be
    /// called when nobody takes frames.
    pub(crate) fn rewind(&self, dead: impl FnMut(Undelivered<'_>)) {
        let mut inner = self.lock();
        let Some(void) = inner.bulk.rewind() else { return };
        let texts = inner.names.texts();
        self.relieve(inner);
        show([void.as_ref()].into_iter(), &texts, dead);
    }

    /// Notes that the peer has received so many frames.
    pub(crate) fn acknowledge(&self, received: u64) {
        self.lock().books.acknowledge(received);
    }

    /// Notes that the peer has received so many frames of each lane and what was written before them, as far as they were
    /// written to its present incarnation; none of a lane says nothing.
    pub(crate) fn answered(&self, reached: Passed) {
        if reached == Passed::default() {
            return;
        }
        let mut inner = self.lock();
        let passed = inner.passed();
        let last = [Position::Ordinary(reached.ordinary), Position::Bulk(reached.bulk)];
        last.into_iter().for_each(|position| inner.books.answer(position, passed));
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

    /// Starts new books for another incarnation, whose credit what waits has yet to get.
    pub(crate) fn new_incarnation(&self) -> Renewed {
        let lost = self.settle_unknown();
        let mut inner = self.lock();
        inner.books = Books::default();
        let asks = inner.hold_all();
        inner.begin_credit();
        // Acknowledgements and failed asks of the old one would be mistaken for the new one's.
        inner.control.clear();
        inner.control_frames = 0;
        Renewed { lost, asks }
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
        inner.refund();
        let held = inner.flow.held.drain();
        let (ordinary, bulk) = (inner.ordinary.drain(), inner.bulk.drain());
        inner.control.clear();
        inner.control_frames = 0;
        let (passed, texts) = (inner.passed(), inner.names.texts());
        drop(inner);
        self.room.notify_waiters();
        show(ordinary.iter().chain(bulk.iter().map(Arc::as_ref)).chain(&held), &texts, dead);
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
            held: Queued { bytes: inner.flow.held.bytes(), frames: inner.flow.held.frames() },
        }
    }

    /// Tells whether nothing waits, be it for credit.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.is_empty() && inner.flow.held.frames() == 0
    }

    /// Tells whether `link` is the one whose writer takes frames.
    pub(crate) fn is_active(&self, link: LinkId) -> bool {
        self.lock().is_active(link)
    }

    /// Tells whether control frames wait.
    pub(crate) fn has_control(&self) -> bool {
        !self.lock().control.is_empty()
    }

    /// Counts the bytes that wait for the writer.
    pub(crate) fn writable_bytes(&self) -> usize {
        self.lock().bytes()
    }

    /// Tells whether nothing could be taken.
    pub(crate) fn is_drained(&self) -> bool {
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
    fn offer<M: Message>(&self, message: &M) -> Result<Option<Position>, Refused> {
        let mut inner = self.lock();
        if message.payload().len() > QUANTUM {
            return self.offer_large(inner, message);
        }
        let (was_empty, before) = (inner.is_empty(), inner.bytes());
        let position = inner.append(message, &self.settings)?;
        // What is held wakes nobody but the driver, which has to bring a link for it.
        let is_wanted = position.is_some() || inner.active.is_none();
        if was_empty && is_wanted {
            self.wake_now(inner);
        } else if before < ENOUGH && inner.bytes() >= ENOUGH {
            hasten(inner, message.is_waited_for());
        }
        Ok(position)
    }

    /// Appends a message in chunks. They are cut outside the lock, which copies for as long as thousands of small
    /// tells take; room for them is reserved before.
    #[cold]
    fn offer_large<M: Message>(
        &self,
        mut inner: MutexGuard<'_, Lanes>,
        message: &M,
    ) -> Result<Option<Position>, Refused> {
        let (mut header, size) = (Vec::new(), message.payload().len());
        inner.admit_large(message, &self.settings)?;
        message.header(&mut inner.names, &mut header)?;
        let number = inner.bulk.reserve(size);
        drop(inner);
        let chunks = bulk::cut(number, M::KIND, &header, message.payload());
        let mut inner = self.lock();
        inner.bulk.release(size);
        let was_empty = inner.is_empty();
        let pushed = inner.push(chunks, message);
        match pushed {
            Ok(_) => self.wake_in_any_case(inner, was_empty),
            Err(_) => self.relieve(inner),
        }
        pushed
    }

    fn append_control(
        &self,
        limit: usize,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), frame::FrameFault>,
    ) -> Result<(), Refused> {
        let (inner, was_empty) = self.append_quietly(limit, encode)?;
        self.wake_in_any_case(inner, was_empty);
        Ok(())
    }

    /// As `append_control`, but wakes nobody; tells whether nothing waited before.
    fn append_quietly(
        &self,
        limit: usize,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), frame::FrameFault>,
    ) -> Result<(MutexGuard<'_, Lanes>, bool), Refused> {
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
        Ok((inner, was_empty))
    }

    /// Wakes the writer, or the driver where no link is active, unless they are awake already; a writer that is held back too.
    fn wake_in_any_case(&self, inner: MutexGuard<'_, Lanes>, was_empty: bool) {
        if was_empty {
            self.wake_now(inner);
        } else {
            press(inner);
        }
    }

    /// Wakes the writer, or the driver where no link is active; whoever finds something waiting need not.
    #[cold]
    fn wake_now(&self, inner: MutexGuard<'_, Lanes>) {
        let writer = inner.active.as_ref().map(|(_, writer)| Arc::clone(&writer.wake));
        drop(inner);
        match writer {
            Some(writer) => writer.wake(),
            None => self.demand.notify_one(),
        }
    }

    /// Wakes the writer for held tells that may go, and the senders that wait for credit.
    fn resume(&self, mut inner: MutexGuard<'_, Lanes>) {
        let (is_ready, has_credit) = (inner.flow.is_ready(), inner.flow.has_credit_again());
        if is_ready {
            self.wake_now(inner);
        } else {
            drop(inner);
        }
        if has_credit {
            self.room.notify_waiters();
        }
    }

    /// Wakes the senders that wait for room, if a lane has some again.
    fn relieve(&self, mut inner: MutexGuard<'_, Lanes>) {
        let has_room = inner.has_room_again(&self.settings);
        drop(inner);
        if has_room {
            self.room.notify_waiters();
        }
    }

    fn writer(&self) -> Option<Arc<Assisted>> {
        self.lock().active.as_ref().and_then(|(_, writer)| writer.task.upgrade())
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that small messages make a good write now, where less waited before. The one that made it so moves the writer on
/// if that is waited for and one thread runs the node: the peer handles the first part while that thread makes the rest.
/// With several threads the writer has one of its own, and the caller may be long in coming back to whatever it left.
#[cold]
fn hasten(inner: MutexGuard<'_, Lanes>, is_waited_for: bool) {
    let task = match &inner.active {
        Some((_, to)) if is_waited_for && !to.wake.is_dispatching() => to.task.upgrade(),
        Some(_) | None => None,
    };
    press(inner);
    if let Some(task) = task.filter(|task| task.is_on_the_only_thread()) {
        task.assist();
    }
}

/// Wakes a writer that is held back by its reader, for what is pressing now.
#[cold]
fn press(inner: MutexGuard<'_, Lanes>) {
    if let Some((_, writer)) = &inner.active {
        writer.wake.press();
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
/// Bytes that make a write worth its cost, whatever others might add.
pub(crate) const ENOUGH: usize = 4 * 1024;
/// What an idle outbox keeps of each buffer.
const KEPT_CAPACITY: usize = 4 * 1024;

#[cfg(test)]
mod tests;
