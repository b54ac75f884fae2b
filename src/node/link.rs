//! Runs the two tasks of a link: one reads and dispatches, one writes.
//!
//! The reader never waits for a mailbox. The writer takes what waits quantum by quantum, control first each time, and
//! sleeps when nothing does; tasks that send much move it on too, on their threads (`assisted.rs`). Either one's end is
//! told to the driver, which owns the link.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::association::LinkId;
use crate::association::control::ControlPdu;
use crate::node::assisted::Assisted;
use crate::node::core::Core;
use crate::node::dispatch::{Dispatcher, Step};
use crate::node::driver::Input;
use crate::node::outbox::{Batch, Outbox, Writer};
use crate::node::peers::Peer;
use crate::node::reading::Reading;
use crate::node::turn::noting_wait;
use crate::wire::FrameDecoder;

/// The reading half of a link.
pub(crate) type LinkReader = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half of a link.
pub(crate) type LinkWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// A link that is not activated yet.
pub(crate) struct NewLink {
    pub(crate) reader: LinkReader,
    pub(crate) writer: LinkWriter,
    /// Holds what was read so far; takes short frames only until the link is activated.
    pub(crate) decoder: FrameDecoder,
    /// Counts the link among the handshakes; none for a link that this node dialled.
    pub(crate) handshake: Option<OwnedSemaphorePermit>,
}

/// What the driver holds of a link.
#[derive(Debug)]
pub(crate) struct LinkHandle {
    /// Shared with the writer.
    shared: Arc<Shared>,
    /// Ends both tasks; the writer still writes the control frames that wait.
    closing: CancellationToken,
    written: Written,
    /// Senders move it on too.
    writer: Weak<Assisted>,
}

/// Comes when the writer has written everything that it took, to the last frame; fails when it ends before.
pub(crate) type Written = oneshot::Receiver<()>;

#[derive(Debug, Default)]
struct Shared {
    /// Control frames of this link alone: handshake, pings, goodbye.
    control: Mutex<Vec<u8>>,
    wake: Arc<Notify>,
    /// The driver wants to know when nothing waits any more.
    is_flushing: AtomicBool,
}

/// What the tasks of a link share.
#[derive(Clone)]
struct Context {
    core: Arc<Core>,
    peer: Arc<Peer>,
    link: LinkId,
    inputs: mpsc::Sender<Input>,
    shared: Arc<Shared>,
    closing: CancellationToken,
}

impl LinkHandle {
    /// Starts the tasks of a link.
    pub(crate) fn start(
        core: &Arc<Core>,
        peer: &Arc<Peer>,
        inputs: &mpsc::Sender<Input>,
        link: LinkId,
        new: NewLink,
    ) -> Self {
        let NewLink { reader, writer, decoder, handshake } = new;
        let (has_written, written) = oneshot::channel();
        let (shared, closing) = (Arc::<Shared>::default(), core.cancel.child_token());
        let context = Context {
            core: Arc::clone(core),
            peer: Arc::clone(peer),
            link,
            inputs: inputs.clone(),
            shared: Arc::clone(&shared),
            closing: closing.clone(),
        };
        let writing = write(context.clone(), writer, has_written).in_current_span();
        let writer = core.spawn_assisted(writing);
        let reading = Reading::new(reader, decoder, handshake);
        core.spawn_careful(read(context, reading).in_current_span());
        Self { shared, closing, written, writer }
    }

    /// Appends an encoded control frame for this link.
    pub(crate) fn push(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.shared.control());
        self.shared.wake.notify_one();
    }

    /// Gives the writer as the outbox knows it.
    pub(crate) fn writer(&self) -> Writer {
        Writer { wake: Arc::clone(&self.shared.wake), task: Weak::clone(&self.writer) }
    }

    /// Tells whether the peer leaves more control frames unread than it may.
    pub(crate) fn is_congested(&self) -> bool {
        let control = self.shared.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.len() >= CONTROL_BACKLOG
    }

    /// Asks for `Input::Flushed` once everything is written.
    pub(crate) fn flush(&self) {
        self.shared.is_flushing.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }

    /// Closes the link after its waiting control frames; gives what says whether they were written.
    pub(crate) fn close(self) -> Written {
        self.closing.cancel();
        self.written
    }
}

impl Shared {
    fn control(&self) -> MutexGuard<'_, Vec<u8>> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until the link ends or is closed.
async fn read(context: Context, mut reading: Reading) {
    let closing = context.closing.clone();
    // Biased: a link that is closed must not deliver on.
    let why = tokio::select! { biased;
        () = closing.cancelled() => None,
        why = read_frames(&context, &mut reading) => Some(why),
    };
    match why {
        Some(why) => report(&context, Input::Lost { link: context.link, why }).await,
        None => reading.linger().await,
    }
}

async fn read_frames(context: &Context, reading: &mut Reading) -> String {
    let peer = Arc::clone(&context.peer);
    let mut dispatcher = Dispatcher::new(Arc::clone(&context.core), peer, Some(context.link));
    let mut unyielding = 0;
    loop {
        reading.note_activation(&context.core, &context.peer, context.link);
        match dispatcher.dispatch(&mut reading.decoder) {
            Ok(Step::ReadOn) => reading.shrink(),
            Ok(Step::Control(pdu)) => {
                hand_over(context, pdu).await;
                continue;
            }
            Ok(Step::Fenced) => return "the link was replaced".to_owned(),
            Err(fault) => {
                if let Some(held_back) = context.core.log.admit(Instant::now()) {
                    tracing::warn!(peer = %context.peer.address, %fault, held_back, "protocol violation");
                }
                return format!("protocol violation: {fault}");
            }
        }
        let patience = context.core.settings.association.liveness_timeout;
        if reading.is_late(now(), patience) {
            return "a frame took too long".to_owned();
        }
        if reading.is_stalling(now(), patience, dispatcher.partial()) {
            return "a message in chunks took too long".to_owned();
        }
        let (has_waited, bytes) = match noting_wait(reading.read(&context.peer)).await {
            (has_waited, Ok(bytes)) => (has_waited, bytes),
            (_, Err(why)) => return why,
        };
        if reading.is_active {
            // A link that is parked says nothing about the one that carries the tells.
            context.peer.hear(now());
        }
        // A fast peer must not keep this task's thread to itself: the writer, with acknowledgements and signs of
        // life, may be waiting for it, and so may the actors, which had better take what was dispatched while it is
        // in the cache. tokio's own budget counts reads, however much they bring.
        if has_waited {
            unyielding = 0;
        } else if unyielding >= READ_TURN {
            tokio::task::yield_now().await;
            unyielding = 0;
        }
        unyielding += bytes;
    }
}

/// Gives a PDU to the machine and waits until its actions are carried out: what follows on the link may depend
/// on them.
async fn hand_over(context: &Context, pdu: ControlPdu) {
    let (done, carried_out) = oneshot::channel();
    report(context, Input::Control { link: context.link, pdu, done }).await;
    // An error means that the driver has ended, and so will this task.
    drop(carried_out.await);
}

/// Writes until the link ends or is closed.
async fn write(context: Context, mut writer: LinkWriter, has_written: oneshot::Sender<()>) {
    let (mut batch, mut courtesy) = (Batch::default(), Courtesy::default());
    let (mut defined, mut unyielding) = (0, 0);
    let why = loop {
        gather(&context, &mut batch, &mut defined);
        if batch.is_empty() {
            // What waits for credit is not flushed before it has come.
            let is_done = context.peer.outbox.is_empty();
            if is_done && context.shared.is_flushing.swap(false, Ordering::AcqRel) {
                report(&context, Input::Flushed { link: context.link }).await;
            }
            // Biased: what waits is written before the link closes.
            let called = noting_wait(async {
                tokio::select! { biased;
                    () = context.shared.wake.notified() => Call::Woken,
                    () = urged(&context) => Call::Urged,
                    () = context.closing.cancelled() => Call::Closed,
                }
            });
            let (has_waited, call) = called.await;
            if call == Call::Closed {
                break None;
            }
            // In an assistance it is the sender that goes on, and soon lets others run.
            if has_waited {
                unyielding = 0;
            }
            if call == Call::Woken {
                courtesy.let_others_send(&context.peer.outbox).await;
            }
            continue;
        }
        let written = unless_closing(&context, write_batch(&context, &mut writer, &batch));
        match noting_wait(written).await {
            (has_waited, Some(Ok(()))) => {
                unyielding = if has_waited { 0 } else { unyielding + batch.bytes() };
                batch.clear();
            }
            (_, Some(Err(error))) => break Some(format!("writing failed: {error}")),
            // Half a frame may be out, so that not even a goodbye can follow.
            (_, None) => return,
        }
        // A link that takes whatever it is given must not keep this task's thread to itself either: what the peer
        // answers is read only when some thread has time to look.
        if unyielding >= WRITE_TURN {
            unyielding = 0;
            tokio::task::yield_now().await;
        }
    };
    match why {
        Some(why) => {
            // Before the report, which waits for the driver, which may be waiting for this.
            drop(has_written);
            report(&context, Input::Lost { link: context.link, why }).await;
        }
        None => finish(&context, &mut writer, &mut batch, has_written).await,
    }
}

/// Says what a writer with nothing to write was called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Something waits, or it is to say when nothing does.
    Woken,
    /// The peer is to be told something at once.
    Urged,
    /// The link closes.
    Closed,
}

/// Ends when a writer that may tell the peer something at once is moved on; nobody is woken for it.
async fn urged(context: &Context) {
    let Context { peer, link, .. } = context;
    poll_fn(|_| {
        let has_some = peer.outbox.has_control() || peer.owes_credit();
        if has_some && peer.outbox.is_active(*link) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Lets tasks that are about to send go ahead of a woken writer, where that is known to pay.
///
/// tokio runs a woken task before those that were ready already. Where many tasks send one message each, a writer
/// would so write frame by frame; where one task sends and waits, yielding to nobody costs a change of threads. So
/// it yields as long as that brings frames, and otherwise tries again after some wake-ups.
#[derive(Debug, Default)]
struct Courtesy {
    /// Wake-ups that pass before the next try.
    pause: u8,
    /// The pause that the next try in vain brings; doubled each time.
    next_pause: u8,
}

impl Courtesy {
    async fn let_others_send(&mut self, outbox: &Outbox) {
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let before = outbox.counts().writable_bytes();
        if before >= ENOUGH {
            return;
        }
        tokio::task::yield_now().await;
        if outbox.counts().writable_bytes() > before {
            self.next_pause = 0;
        } else {
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2 + 1).min(LONGEST_PAUSE);
        }
    }
}

/// Moves what waits into the empty batch: the link's own control frames first.
///
/// Under one lock: the driver announces an activation before it lets the link take, so a look at the announcements
/// that is over by then must not be followed by a take.
fn gather(context: &Context, batch: &mut Batch, defined: &mut usize) {
    let mut own = context.shared.control();
    std::mem::swap(&mut *own, &mut batch.control);
    if batch.is_empty() {
        if context.peer.outbox.take(context.link, batch, defined) {
            context.peer.tell_credit(&mut batch.control);
        }
        context.peer.note_asks(batch.asks.drain(..));
    }
}

async fn write_batch(
    context: &Context,
    writer: &mut LinkWriter,
    batch: &Batch,
) -> std::io::Result<()> {
    for bytes in batch.pieces() {
        if !bytes.is_empty() {
            writer.write_all(bytes).await?;
            context.peer.bytes_out.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
    }
    writer.flush().await
}

/// Runs a write unless closing takes it over for longer than the peer may take to read the rest.
async fn unless_closing<T>(context: &Context, write: impl Future<Output = T>) -> Option<T> {
    let mut write = std::pin::pin!(write);
    tokio::select! { biased;
        done = write.as_mut() => return Some(done),
        () = context.closing.cancelled() => {}
    }
    tokio::time::timeout(LINGER, write).await.ok()
}

/// Writes the control frames that wait, says so, and ends the stream.
async fn finish(
    context: &Context,
    writer: &mut LinkWriter,
    batch: &mut Batch,
    has_written: oneshot::Sender<()>,
) {
    batch.clear();
    std::mem::swap(&mut *context.shared.control(), &mut batch.control);
    let last = async {
        writer.write_all(&batch.control).await?;
        writer.flush().await?;
        if has_written.send(()).is_err() {
            tracing::trace!(peer = %context.peer.address, "nobody waits for the last frames");
        }
        writer.shutdown().await
    };
    if !matches!(tokio::time::timeout(LINGER, last).await, Ok(Ok(()))) {
        tracing::trace!(peer = %context.peer.address, "the peer did not take the last frames");
    }
}

async fn report(context: &Context, input: Input) {
    if context.inputs.send(input).await.is_err() {
        tracing::trace!(peer = %context.peer.address, "the driver has ended");
    }
}

/// Gives the time, virtual where tokio's is.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The longest frame before a link is activated: with its length, 16 KiB.
pub(crate) const HANDSHAKE_LIMIT: usize = 16 * 1024 - 4;
/// What a frame may have beside its message: header, texts, extensions.
pub(crate) const HEADER_ROOM: usize = 64 * 1024;
/// Bytes of control frames for a link that may wait before a Ping gets no Pong: some thousand Pongs.
const CONTROL_BACKLOG: usize = 64 * 1024;
/// Bytes that a link dispatches without having waited for more before it lets other tasks run, the actors among them,
/// which have to keep up with it: about 600 small tells, and at most the 600 of one read more.
const READ_TURN: usize = 64 * 1024;
/// Bytes that a link writes without having waited before it lets other tasks run.
const WRITE_TURN: usize = 128 * 1024;
/// Bytes that make a write worth its cost, whatever others might add.
const ENOUGH: usize = 4 * 1024;
/// Keeps what a lonely sender pays for tries to a few hundredths.
const LONGEST_PAUSE: u8 = 31;
/// How long a closing link waits for the peer.
pub(super) const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::OutboxSettings;

    #[tokio::test]
    async fn a_woken_writer_lets_others_send_while_that_brings_frames() {
        let outbox = Arc::new(Outbox::new(OutboxSettings::default()));
        let mut courtesy = Courtesy::default();
        for sent in 1..4 {
            let sender = Arc::clone(&outbox);
            tokio::spawn(async move { sender.offer_gossip(b"x") });
            courtesy.let_others_send(&outbox).await;
            assert_eq!(outbox.counts().queued_bytes(), 6 * sent);
        }
    }

    #[tokio::test]
    async fn what_makes_a_good_write_waits_for_nobody() {
        let outbox = Outbox::new(OutboxSettings::default());
        let mut courtesy = Courtesy::default();
        outbox.offer_gossip(&[0; ENOUGH]).unwrap();
        assert!(!noting_wait(courtesy.let_others_send(&outbox)).await.0);
    }

    #[tokio::test]
    async fn a_lonely_sender_is_rarely_kept_waiting() {
        let outbox = Outbox::new(OutboxSettings::default());
        let mut courtesy = Courtesy::default();
        let mut tries = 0;
        for _ in 0..320 {
            tries += u32::from(courtesy.pause == 0);
            courtesy.let_others_send(&outbox).await;
        }
        assert!((10..=15).contains(&tries), "{tries} tries");
    }
}
