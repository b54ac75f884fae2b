//! Keeps the frames of the ordinary lane in slabs of one write quantum.
//!
//! Callers fill the last slab, the writer takes the first. Emptied slabs come back, so a warm lane allocates nothing.

use std::collections::VecDeque;

use super::{QUANTUM, Refused};

/// Keeps the frames of the ordinary lane.
#[derive(Debug, Default)]
pub(super) struct Ordinary {
    /// Slabs that take no more frames, oldest first.
    full: VecDeque<Slab>,
    full_bytes: usize,
    full_frames: usize,
    /// The slab that is being filled.
    last: Slab,
    /// Emptied buffers; never more than were in use at once.
    spare: Vec<Vec<u8>>,
    /// Frames taken or discarded, over the outbox's life.
    passed: u64,
}

#[derive(Debug, Default)]
struct Slab {
    bytes: Vec<u8>,
    frames: usize,
}

impl Ordinary {
    /// Appends the frame that `write` writes, with a payload of so many bytes; gives its number in this lane.
    #[inline]
    pub(super) fn append(
        &mut self,
        payload: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Refused>,
    ) -> Result<u64, Refused> {
        if self.last.bytes.len() + payload + HEADER > QUANTUM {
            self.begin_slab();
        }
        write(&mut self.last.bytes)?;
        self.last.frames += 1;
        Ok(self.offered())
    }

    /// Appends a frame that is written already.
    pub(super) fn append_frame(&mut self, frame: &[u8]) {
        if self.last.bytes.len() + frame.len() > QUANTUM {
            self.begin_slab();
        }
        self.last.bytes.extend_from_slice(frame);
        self.last.frames += 1;
    }

    /// Moves the first slab into the empty `into`; gives how many frames it has.
    pub(super) fn take(&mut self, into: &mut Vec<u8>) -> u64 {
        let slab = match self.full.pop_front() {
            Some(slab) => {
                self.full_bytes -= slab.bytes.len();
                self.full_frames -= slab.frames;
                slab
            }
            None => {
                let bytes = self.spare.pop().unwrap_or_default();
                std::mem::replace(&mut self.last, Slab { bytes, frames: 0 })
            }
        };
        *into = slab.bytes;
        self.passed += slab.frames as u64;
        slab.frames as u64
    }

    /// Takes an emptied buffer back.
    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Empties the lane: gives its slabs and counts their frames as passed.
    pub(super) fn drain(&mut self) -> Vec<Vec<u8>> {
        self.passed = self.offered();
        let last = std::mem::take(&mut self.last);
        let slabs = std::mem::take(&mut self.full).into_iter().chain([last]);
        (self.full_bytes, self.full_frames) = (0, 0);
        slabs.map(|slab| slab.bytes).collect()
    }

    /// Goes through what waits, frame behind frame.
    pub(super) fn slabs(&self) -> impl Iterator<Item = &[u8]> {
        self.full.iter().chain([&self.last]).map(|slab| slab.bytes.as_slice())
    }

    /// Gives memory of a past burst back, if nothing waits.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.full = VecDeque::new();
            self.spare = Vec::new();
            self.last.bytes.shrink_to(super::KEPT_CAPACITY);
        }
    }

    /// Counts the frames that ever came in.
    #[inline]
    pub(super) fn offered(&self) -> u64 {
        self.passed + self.frames() as u64
    }

    /// Counts the frames that were taken or discarded.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.full_bytes + self.last.bytes.len()
    }

    #[inline]
    pub(super) fn frames(&self) -> usize {
        self.full_frames + self.last.frames
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.frames() == 0
    }

    #[cold]
    fn begin_slab(&mut self) {
        if self.last.frames == 0 {
            return;
        }
        // A lane that fills more than one slab is busy: the next one need not grow step by step.
        let bytes = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(QUANTUM));
        let slab = std::mem::replace(&mut self.last, Slab { bytes, frames: 0 });
        self.full_bytes += slab.bytes.len();
        self.full_frames += slab.frames;
        self.full.push_back(slab);
    }
}

/// What is reckoned for a frame's header; one with long literal texts may make its slab that much longer.
const HEADER: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn append(lane: &mut Ordinary, size: usize) -> u64 {
        lane.append(size, |out| {
            out.resize(out.len() + size, 0);
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn slabs_end_with_whole_frames_and_hold_no_more_than_a_quantum() {
        let mut lane = Ordinary::default();
        for number in 1..=100 {
            assert_eq!(append(&mut lane, 10_000), number);
        }
        assert_eq!((lane.bytes(), lane.frames()), (1_000_000, 100));
        let (mut frames, mut slab) = (0, Vec::new());
        while !lane.is_empty() {
            let taken = lane.take(&mut slab);
            assert_eq!(slab.len() as u64, 10_000 * taken);
            assert!(slab.len() <= QUANTUM);
            frames += taken;
            lane.give_back(std::mem::take(&mut slab));
        }
        assert_eq!((frames, lane.passed(), lane.bytes()), (100, 100, 0));
    }

    #[test]
    fn a_warm_lane_uses_its_slabs_again_and_an_idle_one_gives_them_back() {
        let mut lane = Ordinary::default();
        let mut slab = Vec::new();
        for _ in 0..1000 {
            append(&mut lane, 40_000);
            append(&mut lane, 40_000);
            lane.take(&mut slab);
            lane.give_back(std::mem::take(&mut slab));
            lane.take(&mut slab);
            lane.give_back(std::mem::take(&mut slab));
        }
        assert!(lane.spare.len() <= 2, "{} spare slabs", lane.spare.len());
        lane.shrink();
        assert!(lane.spare.is_empty() && lane.last.bytes.capacity() <= super::super::KEPT_CAPACITY);
    }

    #[test]
    fn a_frame_that_failed_leaves_nothing_to_take() {
        let mut lane = Ordinary::default();
        assert_eq!(lane.append(9, |_| Err(Refused::Unframeable)), Err(Refused::Unframeable));
        assert!(lane.is_empty());
        assert_eq!(append(&mut lane, 1), 1);
    }
}
