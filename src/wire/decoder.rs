//! Cuts a stream of bytes into frames without copying them.
//!
//! The caller reads straight into [`FrameDecoder::space`], reports how much came, and takes frames
//! until there is none. Memory follows the bytes that arrived, never a length a peer merely named.

use std::fmt;

use super::{DEFAULT_LIMIT, FrameError, FrameKind, PREFIX};

/// Cuts the bytes of one link into frames.
///
/// ```text
///  buffer: | skew, taken | unread: part of a frame | space to read into |
///          0             start                     end           buffer.len()
/// ```
pub struct FrameDecoder {
    /// Initialised once to its full length, so that handing out space costs nothing.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    limit: usize,
    /// The last read left no space, so the next one may well bring more than this one.
    brimful: bool,
}

/// Shows one frame where it lies in the buffer of its decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFrame<'a> {
    /// What the frame carries.
    pub kind: FrameKind,
    /// Everything behind the kind.
    pub body: &'a [u8],
}

impl FrameDecoder {
    /// Creates a decoder for frames of at most `limit` bytes, kind and body; allocates nothing.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, limit, brimful: false }
    }

    /// Changes the limit, beginning with the frame that comes next.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Returns room to read into, never empty.
    ///
    /// The first buffer has 4 KiB. It doubles whenever a read filled it, up to 64 KiB or what the
    /// limit asks for if that is less, and beyond that only while a longer frame fills all of it.
    /// So it is never above twice what arrived. A caller that reads on without taking its frames
    /// makes it grow by 4 KiB a time.
    #[inline]
    pub fn space(&mut self) -> &mut [u8] {
        self.rewind();
        if self.brimful || self.buffer.len() - self.end <= self.buffer.len() / 4 {
            self.make_room();
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Says that `n` bytes were read into the front of [`space`](Self::space); more than it has
    /// room for counts as all of it.
    #[inline]
    pub fn filled(&mut self, n: usize) {
        let room = self.buffer.len() - self.end;
        self.brimful = n >= room;
        self.end += n.min(room);
    }

    /// Takes the next whole frame, or `None` until more bytes are read.
    ///
    /// # Errors
    /// [`FrameError::ZeroLength`] and [`FrameError::TooLarge`], and the same again at every later
    /// call: the stream cannot be followed any further.
    #[inline]
    pub fn next_frame(&mut self) -> Result<Option<RawFrame<'_>>, FrameError> {
        let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some((prefix, rest)) = unread.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = checked_length(*prefix, self.limit)?;
        let Some(frame) = rest.get(..length) else {
            return Ok(None);
        };
        let (kind, body) = frame.split_first().ok_or(FrameError::ZeroLength)?;
        self.start += PREFIX + length;
        Ok(Some(RawFrame { kind: FrameKind(*kind), body }))
    }

    /// Gives memory above the first 4 KiB back if nothing is buffered; meant for idle links.
    pub fn shrink(&mut self) {
        if self.start != self.end {
            return;
        }
        (self.start, self.end, self.brimful) = (0, 0, false);
        self.buffer.truncate(FIRST_BUFFER);
        self.buffer.shrink_to(FIRST_BUFFER);
    }

    /// Says whether the stream stopped inside a frame; ask after [`next_frame`](Self::next_frame)
    /// returned `None`.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        self.start != self.end
    }

    /// Counts the bytes read but not yet taken as frames.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.end - self.start
    }

    /// Counts the bytes of memory the buffer holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    #[cold]
    fn make_room(&mut self) {
        self.compact();
        let (len, read_ahead) = (self.buffer.len(), self.read_ahead());
        if self.brimful && len < read_ahead {
            self.resize((len * 2).clamp(FIRST_BUFFER, read_ahead));
        } else if self.end == len {
            // The frame at the front fills the whole buffer: what arrived may double, no more.
            let wanted = (len * 2).min(self.front().saturating_add(self.front_frame()));
            self.resize(wanted.max(len + FIRST_BUFFER));
        }
        self.brimful = false;
        self.rewind();
    }

    /// Begins at the front if nothing is unread.
    fn rewind(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (self.front(), self.front());
        }
    }

    /// Moves the unread bytes to the front. They are part of one frame, which is taken before they
    /// can be moved a second time, so the moving costs each byte at most one copy.
    fn compact(&mut self) {
        let front = self.front();
        if self.start > front {
            self.buffer.copy_within(self.start..self.end, front);
            self.end -= self.start - front;
            self.start = front;
        }
    }

    /// Says where the first frame begins: not at the front of a large buffer. Allocators put what is a power of two long at
    /// nearly the same place within a page, and some processors copy twenty times as slowly to a place that lies, by its
    /// last 12 bits, up to 31 bytes behind the source (`rep movsb` on Zen 3).
    fn front(&self) -> usize {
        if self.buffer.len() >= READ_AHEAD { SKEW } else { 0 }
    }

    fn resize(&mut self, len: usize) {
        self.buffer.reserve_exact(len.saturating_sub(self.buffer.len()));
        self.buffer.resize(len, 0);
    }

    /// How much is worth reading at once; a small limit keeps unknown peers cheap.
    fn read_ahead(&self) -> usize {
        self.limit.saturating_add(PREFIX).clamp(FIRST_BUFFER, READ_AHEAD)
    }

    /// How many bytes the frame at the front has in all; 0 if unknown or refused.
    fn front_frame(&self) -> usize {
        let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
        let length = unread.first_chunk().and_then(|p| checked_length(*p, self.limit).ok());
        length.map_or(0, |length| length.saturating_add(PREFIX))
    }
}

/// Cuts the first frame off `bytes` that this node wrote itself; `None` when no whole frame is left.
#[must_use]
pub fn split_frame(bytes: &[u8]) -> Option<(RawFrame<'_>, &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX>()?;
    let length = usize::try_from(u32::from_be_bytes(*prefix)).ok()?;
    let (frame, rest) = rest.split_at_checked(length)?;
    let (kind, body) = frame.split_first()?;
    Some((RawFrame { kind: FrameKind(*kind), body }, rest))
}

impl Default for FrameDecoder {
    /// Creates a decoder with the [`DEFAULT_LIMIT`].
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT)
    }
}

impl fmt::Debug for FrameDecoder {
    /// Shows sizes only: the buffer holds payloads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameDecoder")
            .field("buffered", &self.buffered())
            .field("capacity", &self.capacity())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[inline]
fn checked_length(prefix: [u8; PREFIX], limit: usize) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(FrameError::TooLarge { length, limit });
    }
    Ok(length)
}

/// What a new link costs: a page, which holds a handshake or some hundred small tells.
const FIRST_BUFFER: usize = 4 * 1024;
/// Bytes that stay free at the front of a large buffer.
const SKEW: usize = 512;
/// The most one read brings, unless a longer frame needs more: what is read is still in a core's cache when its actors
/// take it, and larger reads no longer save system calls worth counting.
const READ_AHEAD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::{DEFAULT_LIMIT, FIRST_BUFFER, FrameDecoder, FrameError, PREFIX, READ_AHEAD, SKEW};

    /// Reads all of `bytes`, as much at a time as there is space for, taking no frames.
    fn feed(decoder: &mut FrameDecoder, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = decoder.space();
            let (now, later) = bytes.split_at(bytes.len().min(space.len()));
            space.split_at_mut(now.len()).0.copy_from_slice(now);
            decoder.filled(now.len());
            bytes = later;
        }
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 1).unwrap();
        [&length.to_be_bytes()[..], &[9], body].concat()
    }

    fn lengths_of_all_frames(decoder: &mut FrameDecoder) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let Some(frame) = decoder.next_frame().unwrap() {
            lengths.push(frame.body.len());
        }
        lengths
    }

    /// Reads and takes one frame that fills the space, and returns the size of that space.
    fn read_one_brimful_frame(decoder: &mut FrameDecoder) -> usize {
        let size = decoder.space().len();
        feed(decoder, &frame(&vec![0; size - 5]));
        assert_eq!(lengths_of_all_frames(decoder), [size - 5]);
        size
    }

    #[test]
    fn length_of_zero_is_refused_and_stays_refused() {
        let mut decoder = FrameDecoder::default();
        feed(&mut decoder, &[0, 0, 0, 0, 1, 0, 0, 0, 1, 1]);
        assert_eq!(decoder.next_frame(), Err(FrameError::ZeroLength));
        assert_eq!(decoder.next_frame(), Err(FrameError::ZeroLength));
    }

    #[test]
    fn length_at_the_limit_passes_and_one_more_is_refused() {
        let mut decoder = FrameDecoder::new(11);
        feed(&mut decoder, &frame(&[7; 10]));
        assert_eq!(decoder.next_frame().unwrap().unwrap().body, [7; 10]);
        feed(&mut decoder, &frame(&[7; 11]));
        let refused = Err(FrameError::TooLarge { length: 12, limit: 11 });
        assert_eq!(decoder.next_frame(), refused);
        assert_eq!(decoder.next_frame(), refused);
    }

    #[test]
    fn largest_length_of_all_is_refused_as_soon_as_it_is_read() {
        let mut decoder = FrameDecoder::default();
        feed(&mut decoder, &[0xff; 4]);
        let length = usize::try_from(u32::MAX).unwrap();
        let refused = FrameError::TooLarge { length, limit: DEFAULT_LIMIT };
        assert_eq!(decoder.next_frame(), Err(refused));
        assert_eq!(decoder.capacity(), FIRST_BUFFER);
    }

    #[test]
    fn raised_limit_admits_the_frame_it_held_up() {
        let mut decoder = FrameDecoder::new(10);
        feed(&mut decoder, &frame(&[7; 10]));
        assert!(decoder.next_frame().is_err());
        decoder.set_limit(11);
        assert_eq!(lengths_of_all_frames(&mut decoder), [10]);
    }

    #[test]
    fn announced_length_alone_reserves_nothing() {
        let mut decoder = FrameDecoder::default();
        assert_eq!(decoder.capacity(), 0);
        let announced = u32::try_from(DEFAULT_LIMIT).unwrap().to_be_bytes();
        feed(&mut decoder, &announced);
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.space();
        assert_eq!(decoder.capacity(), FIRST_BUFFER);
    }

    #[test]
    fn announced_length_behind_a_full_read_reserves_nothing() {
        let mut decoder = FrameDecoder::default();
        for _ in 0..7 {
            read_one_brimful_frame(&mut decoder);
        }
        let announced = u32::try_from(DEFAULT_LIMIT).unwrap().to_be_bytes();
        let fill = decoder.space().len() - announced.len() - 5;
        feed(&mut decoder, &[&frame(&vec![0; fill])[..], &announced].concat());
        assert_eq!(lengths_of_all_frames(&mut decoder), [fill]);
        assert_eq!(decoder.space().len(), READ_AHEAD - SKEW - announced.len());
        assert_eq!(decoder.capacity(), READ_AHEAD);
    }

    #[test]
    fn memory_is_never_above_twice_what_arrived() {
        let bytes = frame(&vec![3; 3_000_000]);
        let mut decoder = FrameDecoder::default();
        let mut arrived = 0;
        for piece in bytes.chunks(1000) {
            feed(&mut decoder, piece);
            arrived += piece.len();
            assert!(decoder.capacity() <= FIRST_BUFFER.max(2 * arrived), "after {arrived}");
        }
        assert_eq!(decoder.capacity(), SKEW + bytes.len());
        assert_eq!(lengths_of_all_frames(&mut decoder), [3_000_000]);
    }

    #[test]
    fn small_limit_keeps_the_buffer_small() {
        let limit = 16 * 1024;
        let mut decoder = FrameDecoder::new(limit);
        let sizes = [(); 5].map(|()| read_one_brimful_frame(&mut decoder));
        assert_eq!(sizes, [4096, 8192, limit, limit + PREFIX, limit + PREFIX]);
        assert_eq!(decoder.capacity(), limit + PREFIX);
    }

    #[test]
    fn full_reads_double_the_space_up_to_the_read_ahead() {
        let mut decoder = FrameDecoder::default();
        let sizes = [(); 6].map(|()| read_one_brimful_frame(&mut decoder) / 1024);
        assert_eq!(sizes, [4, 8, 16, 32, 63, 63]);
    }

    #[test]
    fn frames_in_a_large_buffer_do_not_begin_where_allocations_do() {
        let mut decoder = FrameDecoder::default();
        let begins = [(); 3].map(|()| {
            feed(&mut decoder, &frame(&[0; READ_AHEAD]));
            let body = decoder.next_frame().unwrap().unwrap().body.as_ptr() as usize;
            body - decoder.buffer.as_ptr() as usize - PREFIX - 1
        });
        assert_eq!(begins, [0, SKEW, SKEW], "the first came into a small buffer that grew");
    }

    #[test]
    fn partial_reads_reuse_the_first_buffer_for_ever() {
        let mut decoder = FrameDecoder::default();
        let stream = frame(&[5; 95]).repeat(1000);
        let mut taken = 0;
        for piece in stream.chunks(333) {
            assert!(decoder.space().len() > 333);
            feed(&mut decoder, piece);
            taken += lengths_of_all_frames(&mut decoder).len();
        }
        assert_eq!((taken, decoder.capacity()), (1000, FIRST_BUFFER));
    }

    #[test]
    fn space_is_never_empty_even_if_no_frame_is_taken() {
        let mut decoder = FrameDecoder::new(8);
        for _ in 0..10 {
            let size = decoder.space().len();
            assert!(size > 0);
            decoder.filled(size);
        }
        assert_eq!(decoder.buffered(), 10 * FIRST_BUFFER);
    }

    #[test]
    fn more_filled_than_there_was_space_counts_as_all_of_it() {
        let mut decoder = FrameDecoder::default();
        decoder.filled(usize::MAX);
        assert_eq!(decoder.buffered(), 0);
        let size = decoder.space().len();
        decoder.filled(usize::MAX);
        assert_eq!(decoder.buffered(), size);
    }

    #[test]
    fn stream_that_stops_inside_a_frame_is_seen() {
        let mut decoder = FrameDecoder::default();
        feed(&mut decoder, &[&frame(&[1, 2])[..], &[0, 0]].concat());
        assert_eq!(lengths_of_all_frames(&mut decoder), [2]);
        assert!(decoder.is_mid_frame());
        assert_eq!(decoder.buffered(), 2);
        feed(&mut decoder, &[0, 1, 9]);
        assert_eq!(lengths_of_all_frames(&mut decoder), [0]);
        assert!(!decoder.is_mid_frame());
    }

    #[test]
    fn shrinking_gives_memory_back_only_when_empty() {
        let mut decoder = FrameDecoder::default();
        let bytes = frame(&vec![3; 1_000_000]);
        feed(&mut decoder, &bytes);
        decoder.shrink();
        assert!(decoder.capacity() >= bytes.len());
        assert_eq!(lengths_of_all_frames(&mut decoder), [1_000_000]);
        decoder.shrink();
        assert_eq!(decoder.capacity(), FIRST_BUFFER);
        feed(&mut decoder, &frame(&[1]));
        assert_eq!(lengths_of_all_frames(&mut decoder), [1]);
    }

    #[test]
    fn debug_output_shows_no_payload() {
        let mut decoder = FrameDecoder::new(100);
        feed(&mut decoder, &frame(b"secret"));
        let shown = format!("{decoder:?}");
        assert_eq!(shown, "FrameDecoder { buffered: 11, capacity: 4096, limit: 100, .. }");
    }
}
