//! Puts the chunks of a large message together again, one message at a time.
//!
//! Memory follows the bytes that arrived, never the size that a peer announces; what it announces is checked first.
//!
//! ```text
//!            FIRST                    LAST
//!   nothing ───────▶ message n, k of total bytes ──────▶ a whole frame, nothing again
//!                      │     ▲
//!                      └─────┘ neither: k grows          anything else is a fault
//! ```

use crate::frame::ChunkFault;
use crate::wire::{ChunkHeader, ChunkStart, FrameKind};

/// Puts the chunks of one link together.
#[derive(Debug)]
pub(crate) struct Reassembly {
    /// The largest body of a whole frame.
    limit: usize,
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    message: u32,
    kind: FrameKind,
    total: usize,
    body: Vec<u8>,
}

impl Reassembly {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, partial: None }
    }

    /// Gives the number of the message that is incomplete.
    pub(crate) fn partial(&self) -> Option<u32> {
        self.partial.as_ref().map(|partial| partial.message)
    }

    /// Adds a chunk; gives kind and body of the frame that it completes.
    pub(crate) fn add(
        &mut self,
        header: ChunkHeader,
        bytes: &[u8],
    ) -> Result<Option<(FrameKind, Vec<u8>)>, ChunkFault> {
        let message = header.message;
        let mut partial = match (self.partial.take(), header.start) {
            (None, Some(start)) => Partial::begin(message, start, self.limit)?,
            (Some(partial), None) if partial.message == message => partial,
            (Some(_), Some(_)) => return Err(ChunkFault::Nested { message }),
            (Some(_) | None, None) => return Err(ChunkFault::Unbegun { message }),
        };
        partial.append(bytes)?;
        if header.is_last {
            return partial.complete().map(Some);
        }
        self.partial = Some(partial);
        Ok(None)
    }
}

impl Partial {
    fn begin(message: u32, start: ChunkStart, limit: usize) -> Result<Self, ChunkFault> {
        let ChunkStart { total, kind } = start;
        if kind != FrameKind::TELL && kind != FrameKind::REPLY {
            return Err(ChunkFault::Kind(kind.0));
        }
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        if total > limit {
            return Err(ChunkFault::TooLarge { total, limit });
        }
        Ok(Self { message, kind, total, body: Vec::new() })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), ChunkFault> {
        let (arrived, total) = (self.body.len() + bytes.len(), self.total);
        if bytes.is_empty() {
            return Err(ChunkFault::Empty);
        }
        if arrived > total {
            return Err(ChunkFault::Total { bytes: arrived, total });
        }
        if self.body.capacity() < arrived {
            // Twice what arrived, and no more than will.
            self.body.reserve_exact((2 * arrived).min(total) - self.body.len());
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    fn complete(self) -> Result<(FrameKind, Vec<u8>), ChunkFault> {
        let (bytes, total) = (self.body.len(), self.total);
        if bytes == total {
            Ok((self.kind, self.body))
        } else {
            Err(ChunkFault::Total { bytes, total })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(message: u32, total: u32) -> ChunkHeader {
        let start = Some(ChunkStart { total, kind: FrameKind::TELL });
        ChunkHeader { message, start, is_last: false }
    }

    fn next(message: u32, is_last: bool) -> ChunkHeader {
        ChunkHeader { message, start: None, is_last }
    }

    #[test]
    fn chunks_make_the_frame_that_was_cut() {
        let mut reassembly = Reassembly::new(10);
        assert_eq!(reassembly.add(first(7, 10), b"0123"), Ok(None));
        assert_eq!(reassembly.add(next(7, false), b"456"), Ok(None));
        let whole = Some((FrameKind::TELL, b"0123456789".to_vec()));
        assert_eq!(reassembly.add(next(7, true), b"789"), Ok(whole));
        assert_eq!(reassembly.add(next(7, true), b"x"), Err(ChunkFault::Unbegun { message: 7 }));
    }

    #[test]
    fn memory_follows_what_arrived_and_not_what_was_announced() {
        let mut reassembly = Reassembly::new(1 << 30);
        reassembly.add(first(1, 1 << 30), &[0; 1000]).unwrap();
        for _ in 0..99 {
            reassembly.add(next(1, false), &[0; 1000]).unwrap();
        }
        let capacity = reassembly.partial.map_or(0, |partial| partial.body.capacity());
        assert!((100_000..=200_000).contains(&capacity), "{capacity} bytes");
    }
}
