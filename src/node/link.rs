//! Runs the two tasks of a link: one reads and dispatches, one writes (`link/writer.rs`).
//!
//! The reader never waits for a mailbox. Either one's end is told to the driver, which owns the link.

mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::association::LinkId;
use crate::association::control::ControlPdu;
use crate::frame::FrameFault;
use crate::node::assisted::Assisted;
use crate::node::core::Core;
use crate::node::dispatch::{Dispatcher, Step};
use crate::node::driver::Input;
use crate::node::outbox::Writer;
use crate::node::peers::Peer;
use crate::node::reading::Reading;
use crate::node::turn::noting_wait;
use crate::node::wake::Wake;
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
    wake: Arc<Wake>,
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
        let writing = writer::write(context.clone(), writer, has_written).in_current_span();
        let writer = core.spawn_assisted(writing);
        let reading = Reading::new(reader, decoder, handshake);
        core.spawn_careful(read(context, reading).in_current_span());
        Self { shared, closing, written, writer }
    }

    /// Appends an encoded control frame for this link.
    pub(crate) fn push(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.shared.control());
        self.shared.wake.wake();
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
        self.shared.wake.wake();
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
        match dispatch(context, &mut dispatcher, &mut reading.decoder) {
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

/// Dispatches what was read, and holds the writer back meanwhile.
fn dispatch(
    context: &Context,
    dispatcher: &mut Dispatcher,
    decoder: &mut FrameDecoder,
) -> Result<Step, FrameFault> {
    let Context { peer, link, shared, .. } = context;
    let dispatching = shared.wake.begin();
    let step = dispatcher.dispatch(decoder);
    if dispatcher.take_answered() > 1 {
        shared.wake.expect();
    }
    drop(dispatching);
    if shared.wake.is_held() && peer.outbox.is_active(*link) {
        peer.outbox.urge();
    }
    if shared.wake.is_held() {
        shared.wake.wake();
    }
    step
}

/// Gives a PDU to the machine and waits until its actions are carried out: what follows on the link may depend
/// on them.
async fn hand_over(context: &Context, pdu: ControlPdu) {
    let (done, carried_out) = oneshot::channel();
    report(context, Input::Control { link: context.link, pdu, done }).await;
    // An error means that the driver has ended, and so will this task.
    drop(carried_out.await);
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
/// which have to keep up with it: about 300 small tells, and at most the 600 of one read more.
const READ_TURN: usize = 32 * 1024;
/// How long a closing link waits for the peer.
pub(super) const LINGER: Duration = Duration::from_secs(1);
