//! Finds the frames in a stream of bytes without holding them: faults strike whole frames.
//!
//! A stream that is not made of frames (a length of 0) passes uncut from there on.

use std::borrow::Cow;

use crate::wire::FrameKind;

/// Finds the frames in one direction of a link.
#[derive(Debug, Default)]
pub(super) struct FrameCutter {
    /// Length and kind of the next frame, as far as they have come.
    head: Vec<u8>,
    /// Bytes of the frame's body still to come.
    left: usize,
    has_failed: bool,
}

/// Is a part of a frame, or bytes that belong to none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// The kind and the whole size of the frame that begins here.
    pub(super) opens: Option<(FrameKind, usize)>,
    pub(super) bytes: Cow<'a, [u8]>,
    /// Whether the frame ends here.
    pub(super) closes: bool,
}

impl FrameCutter {
    /// Takes the next piece from the front of `bytes`; none when the rest is kept for later.
    pub(super) fn cut<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        if self.has_failed {
            let all = std::mem::take(bytes);
            return (!all.is_empty()).then(|| plain(Cow::Borrowed(all)));
        }
        if self.left == 0 { self.cut_head(bytes) } else { self.cut_body(bytes) }
    }

    /// Gives what is kept of a frame that will not come.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }

    fn cut_head<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        let wanted = (HEAD - self.head.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at(wanted);
        self.head.extend_from_slice(taken);
        *bytes = rest;
        let [a, b, c, d, kind] = *self.head.first_chunk::<HEAD>()?;
        let head = Cow::Owned(std::mem::take(&mut self.head));
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length == 0 {
            self.has_failed = true;
            return Some(plain(head));
        }
        self.left = length - 1;
        let opens = Some((FrameKind(kind), HEAD + self.left));
        Some(Piece { opens, bytes: head, closes: self.left == 0 })
    }

    fn cut_body<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        let (taken, rest) = bytes.split_at(self.left.min(bytes.len()));
        *bytes = rest;
        self.left -= taken.len();
        let piece = Piece { opens: None, bytes: Cow::Borrowed(taken), closes: self.left == 0 };
        (!taken.is_empty()).then_some(piece)
    }
}

fn plain(bytes: Cow<'_, [u8]>) -> Piece<'_> {
    Piece { opens: None, bytes, closes: false }
}

/// Bytes of length and kind.
const HEAD: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_in_chunks(stream: &[u8], size: usize) -> (Vec<(FrameKind, usize)>, usize, Vec<u8>) {
        let (mut cutter, mut opened, mut closed, mut out) =
            (FrameCutter::default(), Vec::new(), 0, Vec::new());
        for mut chunk in stream.chunks(size) {
            while let Some(piece) = cutter.cut(&mut chunk) {
                opened.extend(piece.opens);
                closed += usize::from(piece.closes);
                out.extend_from_slice(&piece.bytes);
            }
        }
        out.extend(cutter.rest());
        (opened, closed, out)
    }

    #[test]
    fn frames_are_found_however_the_stream_is_chunked() {
        let stream = [&[0, 0, 0, 3, 4, 7, 7][..], &[0, 0, 0, 1, 2], &[0, 0, 0, 2, 3, 9]].concat();
        for size in 1..=stream.len() {
            let (opened, closed, out) = cut_in_chunks(&stream, size);
            let expected = [(FrameKind::TELL, 7), (FrameKind::CONTROL, 5), (FrameKind::GOSSIP, 6)];
            assert_eq!((opened.as_slice(), closed), (&expected[..], 3));
            assert_eq!(out, stream);
        }
    }

    #[test]
    fn what_is_no_frame_passes_as_it_is() {
        let stream = [&[0, 0, 0, 1, 2][..], &[0, 0, 0, 0, 5, 1, 2, 3], b"garbage"].concat();
        for size in 1..=stream.len() {
            let (opened, closed, out) = cut_in_chunks(&stream, size);
            assert_eq!((opened.len(), closed), (1, 1));
            assert_eq!(out, stream);
        }
        assert_eq!(cut_in_chunks(&[0, 0, 9], 2).2, [0, 0, 9]);
    }
}
