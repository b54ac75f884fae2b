//! Keeps what the reading half of a link needs: its buffer, and whether the peer keeps it busy for nothing.
//!
//! Beside `link.rs`, whose task reads and dispatches; here nothing is dispatched.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::sync::OwnedSemaphorePermit;

use crate::association::LinkId;
use crate::node::core::Core;
use crate::node::link::{HEADER_ROOM, LINGER, LinkReader};
use crate::node::peers::Peer;
use crate::wire::FrameDecoder;

/// The reading half of a link at work.
pub(super) struct Reading {
    reader: LinkReader,
    pub(super) decoder: FrameDecoder,
    handshake: Option<OwnedSemaphorePermit>,
    pub(super) is_active: bool,
    /// Bytes that waited in the decoder at the last look at the clock, and what has come since.
    unread: usize,
    /// Since when the first frame in the decoder is on its way.
    since: Option<Instant>,
    /// Bytes that were ever read.
    bytes: u64,
    partial: Option<Partial>,
}

/// A message in chunks that is incomplete.
#[derive(Debug, Clone, Copy)]
struct Partial {
    message: u32,
    since: Instant,
    /// Bytes that had been read by then.
    bytes: u64,
}

impl Reading {
    pub(super) fn new(
        reader: LinkReader,
        decoder: FrameDecoder,
        handshake: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            reader,
            decoder,
            handshake,
            is_active: false,
            unread: 0,
            since: None,
            bytes: 0,
            partial: None,
        }
    }

    /// Takes note of the link's activation, which comes before any frame that relies on it.
    pub(super) fn note_activation(&mut self, core: &Core, peer: &Peer, link: LinkId) {
        if !self.is_active && peer.gate().active == Some(link) {
            self.is_active = true;
            self.decoder.set_limit(core.settings.inbound.max_message + HEADER_ROOM);
            self.handshake = None;
        }
    }

    /// Tells whether the frame that is being read comes too slowly: silence is the association's to notice, a
    /// byte now and then is noticed here.
    pub(super) fn is_late(&mut self, now: Instant, patience: Duration) -> bool {
        let left = self.decoder.buffered();
        let has_taken = left < self.unread;
        self.unread = left;
        if has_taken || left == 0 {
            self.since = None;
        }
        if left == 0 {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let allowed = patience + Duration::from_millis(left as u64 / SLOWEST);
        now.saturating_duration_since(since) > allowed
    }

    /// Tells whether the link brings too little while it keeps a message incomplete, which holds memory here: as long
    /// as for a frame, whatever else it brings counts.
    pub(super) fn is_stalling(
        &mut self,
        now: Instant,
        patience: Duration,
        message: Option<u32>,
    ) -> bool {
        let Some(message) = message else {
            self.partial = None;
            return false;
        };
        let new = Partial { message, since: now, bytes: self.bytes };
        let partial = *self
            .partial
            .insert(self.partial.filter(|partial| partial.message == message).unwrap_or(new));
        let allowed = patience + Duration::from_millis((self.bytes - partial.bytes) / SLOWEST);
        now.saturating_duration_since(partial.since) > allowed
    }

    /// Gives back what a long frame made the buffer grow to, once everything in it is dispatched.
    pub(super) fn shrink(&mut self) {
        if self.decoder.buffered() == 0 && self.decoder.capacity() > KEPT_BUFFER {
            self.decoder.shrink();
        }
    }

    /// Reads once; an error says why there is no more.
    pub(super) async fn read(&mut self, peer: &Peer) -> Result<usize, String> {
        match self.reader.read(self.decoder.space()).await {
            Ok(0) => Err("the peer closed the link".to_owned()),
            Ok(bytes) => {
                self.decoder.filled(bytes);
                self.unread += bytes;
                self.bytes += bytes as u64;
                peer.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
                Ok(bytes)
            }
            Err(error) => Err(format!("reading failed: {error}")),
        }
    }

    /// Reads on to the end without delivering, so that closing does not reset what the peer has yet to read.
    pub(super) async fn linger(&mut self) {
        let (reader, decoder) = (&mut self.reader, &mut self.decoder);
        let to_the_end = async { while matches!(reader.read(decoder.space()).await, Ok(1..)) {} };
        if tokio::time::timeout(LINGER, to_the_end).await.is_err() {
            tracing::trace!("the peer kept a closed link open");
        }
    }
}

/// Bytes of the reading buffer that a link keeps: as much as one read or the frame of a chunk needs at most.
const KEPT_BUFFER: usize = 128 * 1024;
/// Bytes of a frame that must come each millisecond, once the liveness time is over.
const SLOWEST: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_does_not_keep_what_one_long_frame_needed() {
        let mut decoder = FrameDecoder::new(1 << 20);
        let mut frame = [&600_001_u32.to_be_bytes()[..], &[0; 600_001]].concat();
        while !frame.is_empty() {
            let space = decoder.space();
            let count = space.len().min(frame.len());
            space[..count].copy_from_slice(&frame[..count]);
            decoder.filled(count);
            frame.drain(..count);
        }
        let mut reading = Reading::new(Box::new(tokio::io::empty()), decoder, None);
        reading.shrink();
        assert!(reading.decoder.capacity() > KEPT_BUFFER, "the frame is yet to be taken");
        assert!(reading.decoder.next_frame().unwrap().is_some());
        reading.shrink();
        assert!(reading.decoder.capacity() <= KEPT_BUFFER);
    }
}
