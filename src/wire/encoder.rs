//! Opens and closes frames in a shared buffer.
//!
//! A frame is written in place: [`begin`] leaves its length open, header and payload are appended
//! by whoever knows them, and [`finish`] fills the length in. Frames simply follow each other in
//! the buffer, so a whole batch leaves in one write.

use super::{FrameError, FrameKind, PREFIX};

/// Remembers where in a buffer an unfinished frame begins.
#[derive(Clone, Copy, Debug)]
#[must_use = "a frame that was begun must be finished or abandoned"]
pub struct FrameMark(usize);

/// Begins a frame of `kind` at the end of `out`; its body is whatever is appended afterwards.
#[inline]
pub fn begin(out: &mut Vec<u8>, kind: FrameKind) -> FrameMark {
    let mark = FrameMark(out.len());
    out.extend_from_slice(&[0, 0, 0, 0, kind.0]);
    mark
}

/// Ends the frame that began at `mark` and returns its size in the buffer, length field included.
///
/// # Errors
/// [`FrameError::TooLarge`] if kind and body exceed `limit` (or what a `u32` can say). The frame is
/// then gone from `out` and everything before it is intact.
#[inline]
pub fn finish(out: &mut Vec<u8>, mark: FrameMark, limit: usize) -> Result<usize, FrameError> {
    let size = out.len().saturating_sub(mark.0);
    let closed = close(out.get_mut(mark.0..).unwrap_or_default(), limit);
    if closed.is_err() {
        abandon(out, mark);
    }
    closed.map(|()| size)
}

/// Removes the frame that began at `mark`, for a caller whose encoding failed half way.
pub fn abandon(out: &mut Vec<u8>, mark: FrameMark) {
    out.truncate(mark.0);
}

#[inline]
fn close(frame: &mut [u8], limit: usize) -> Result<(), FrameError> {
    let (prefix, rest) = frame.split_first_chunk_mut::<PREFIX>().ok_or(FrameError::ZeroLength)?;
    let length = rest.len();
    let too_large = FrameError::TooLarge { length, limit };
    let written = u32::try_from(length).map_err(|_| too_large)?;
    if length > limit {
        return Err(too_large);
    }
    *prefix = written.to_be_bytes();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{FrameError, FrameKind, abandon, begin, finish};

    #[test]
    fn frame_at_the_limit_is_finished_in_place() {
        let mut out = vec![0xaa];
        let mark = begin(&mut out, FrameKind::GOSSIP);
        out.extend_from_slice(b"xy");
        assert_eq!(finish(&mut out, mark, 3), Ok(7));
        assert_eq!(out, [0xaa, 0, 0, 0, 3, 3, b'x', b'y']);
    }

    #[test]
    fn frame_above_the_limit_leaves_no_trace() {
        let mut out = vec![0xaa];
        let mark = begin(&mut out, FrameKind::GOSSIP);
        out.extend_from_slice(b"xyz");
        let refused = FrameError::TooLarge { length: 4, limit: 3 };
        assert_eq!(finish(&mut out, mark, 3), Err(refused));
        assert_eq!(out, [0xaa]);
    }

    #[test]
    fn abandoned_frame_leaves_no_trace() {
        let mut out = vec![0xaa];
        let mark = begin(&mut out, FrameKind::TELL);
        out.extend_from_slice(b"half a head");
        abandon(&mut out, mark);
        assert_eq!(out, [0xaa]);
    }

    #[test]
    fn mark_that_no_longer_fits_the_buffer_is_an_error() {
        let mut out = vec![0xaa];
        let mark = begin(&mut out, FrameKind::TELL);
        out.clear();
        assert_eq!(finish(&mut out, mark, 100), Err(FrameError::ZeroLength));
        assert!(out.is_empty());
    }

    #[test]
    fn warm_buffer_is_not_allocated_again() {
        let mut out = Vec::with_capacity(64);
        let before = out.as_ptr();
        for _ in 0..1000 {
            out.clear();
            let mark = begin(&mut out, FrameKind::TELL);
            out.extend_from_slice(&[1; 59]);
            assert_eq!(finish(&mut out, mark, 60), Ok(64));
        }
        assert_eq!((out.as_ptr(), out.capacity()), (before, 64));
    }
}
