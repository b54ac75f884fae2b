//! Writes what waits for a link: quantum by quantum, its own control frames first each time.
//!
//! The writer sleeps when nothing waits. The reader, tasks that send much and, where one thread runs the node, those that
//! ask or reply move it on too, on their threads (`assisted.rs`).

use std::future::{Future, poll_fn};
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use super::{Context, LINGER, LinkWriter, Shared, report};
use crate::node::driver::Input;
use crate::node::outbox::{Batch, ENOUGH, Outbox};
use crate::node::turn::noting_wait;

/// Writes until the link ends or is closed.
pub(super) async fn write(
    context: Context,
    mut writer: LinkWriter,
    has_written: oneshot::Sender<()>,
) {
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
            let (has_waited, call) = noting_wait(called(&context)).await;
            if call == Call::Closed {
                break None;
            }
            // In an assistance it is the sender that goes on, and soon lets others run.
            if has_waited {
                unyielding = 0;
            }
            let is_expecting = context.shared.wake.was_expecting();
            if is_expecting {
                courtesy.pause = 0;
            }
            if is_expecting || call == Call::Woken {
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

/// Waits until there is something to do.
async fn called(context: &Context) -> Call {
    let Context { peer, shared, closing, .. } = context;
    // Biased: what waits is written before the link closes.
    let call = tokio::select! { biased;
        () = shared.wake.woken(|| shared.is_pressing(&peer.outbox)) => Call::Woken,
        () = urged(context) => Call::Urged,
        () = closing.cancelled() => Call::Closed,
    };
    shared.wake.release();
    call
}

/// Ends when a writer that may tell the peer something at once, or is held back no more, is moved on; nobody is woken
/// for it.
async fn urged(context: &Context) {
    let Context { peer, link, shared, .. } = context;
    let is_urgent =
        || peer.outbox.is_active(*link) && (peer.outbox.has_control() || peer.owes_credit());
    let is_urged = || shared.wake.is_released() || is_urgent();
    poll_fn(|_| if is_urged() { Poll::Ready(()) } else { Poll::Pending }).await;
}

impl Shared {
    /// Tells whether what waits is to be written whatever the reader does.
    fn is_pressing(&self, outbox: &Outbox) -> bool {
        self.is_flushing.load(Ordering::Acquire)
            || !self.control().is_empty()
            || outbox.writable_bytes() >= ENOUGH
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
        let before = outbox.writable_bytes();
        if before >= ENOUGH {
            return;
        }
        tokio::task::yield_now().await;
        if outbox.writable_bytes() > before {
            self.next_pause = 0;
        } else {
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2 + 1).min(LONGEST_PAUSE);
        }
    }
}

/// Bytes that a link writes without having waited before it lets other tasks run.
const WRITE_TURN: usize = 128 * 1024;
/// Keeps what a lonely sender pays for tries to a few hundredths.
const LONGEST_PAUSE: u8 = 31;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::node::outbox::{OutgoingReply, ReplyName};
    use crate::settings::OutboxSettings;

    fn reply(payload: &[u8]) -> OutgoingReply<'_> {
        OutgoingReply { correlation: 1, manifest: ReplyName::Relayed("c:m"), payload }
    }

    #[test]
    fn much_and_a_link_s_own_control_and_a_flush_are_pressing() {
        let much = |_: &Shared, outbox: &Outbox| outbox.offer_reply(&reply(&[0; ENOUGH])).unwrap();
        let control = |shared: &Shared, _: &Outbox| shared.control().push(0);
        let flush = |shared: &Shared, _: &Outbox| shared.is_flushing.store(true, Ordering::Release);
        for pressing in [&much as &dyn Fn(&Shared, &Outbox), &control, &flush] {
            let (shared, outbox) = (Shared::default(), Outbox::new(OutboxSettings::default()));
            outbox.offer_reply(&reply(&[0])).unwrap();
            assert!(!shared.is_pressing(&outbox));
            pressing(&shared, &outbox);
            assert!(shared.is_pressing(&outbox));
        }
    }

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
