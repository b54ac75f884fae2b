//! Keeps the bulk lane: large messages in chunks, first in, first out, and small ones that must not overtake them.
//!
//! A message stays here until its last chunk is taken, so that it can begin anew when its link breaks before.

use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::{QUANTUM, Refused};
use crate::wire::{self, ChunkHeader, ChunkStart, FrameKind};

/// Keeps the bulk lane.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    /// Oldest first.
    items: VecDeque<Item>,
    /// How many bytes of the first item are taken.
    at: usize,
    bytes: usize,
    frames: usize,
    /// Bytes of messages that are admitted and not here yet.
    reserved: usize,
    /// Frames taken or discarded, over the outbox's life.
    passed: u64,
    /// The number of the last message that was cut into chunks.
    message: u32,
    /// Where the last frame to each target is; one that has passed holds nothing back.
    targets: HashMap<Box<str>, u64>,
}

/// One message in chunks, or some whole frames that follow one.
#[derive(Debug)]
struct Item {
    bytes: Arc<Vec<u8>>,
    frames: usize,
    kind: ItemKind,
    /// The size of a message in chunks.
    payload: usize,
    /// How many ordinary frames must have passed before this is complete on the link.
    after: u64,
    /// How many links have broken while this was being written.
    breaks: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ItemKind {
    Chunks,
    Followers,
}

/// A piece of the bulk lane for one write.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

impl Bulk {
    /// Counts bytes that are on their way here, and gives the number of the message.
    pub(super) fn reserve(&mut self, bytes: usize) -> u32 {
        self.reserved += bytes;
        self.message = self.message.wrapping_add(1);
        self.message
    }

    /// Takes a reservation back.
    pub(super) fn release(&mut self, bytes: usize) {
        self.reserved = self.reserved.saturating_sub(bytes);
    }

    /// Adds a message of `payload` bytes in chunks; `ordinary` counts the ordinary frames that came before it.
    /// Gives its number in this lane.
    pub(super) fn push(
        &mut self,
        chunks: Vec<u8>,
        payload: usize,
        target: Option<&str>,
        ordinary: u64,
    ) -> u64 {
        let after = self.lead(target, ordinary);
        self.bytes += chunks.len();
        let (bytes, kind) = (Arc::new(chunks), ItemKind::Chunks);
        self.items.push_back(Item { bytes, frames: 1, kind, payload, after, breaks: 0 });
        self.pushed(target)
    }

    /// Appends the small frame that `write` writes, behind what waits for the same target.
    pub(super) fn follow(
        &mut self,
        target: &str,
        payload: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Refused>,
    ) -> Result<u64, Refused> {
        let mut frame = Vec::new();
        write(&mut frame)?;
        self.bytes += frame.len();
        let last = self.items.back_mut().filter(|item| item.has_room(payload));
        match last.and_then(|item| Some((Arc::get_mut(&mut item.bytes)?, &mut item.frames))) {
            Some((bytes, frames)) => {
                bytes.extend_from_slice(&frame);
                *frames += 1;
            }
            None => self.items.push_back(Item {
                bytes: Arc::new(frame),
                frames: 1,
                kind: ItemKind::Followers,
                payload: 0,
                after: 0,
                breaks: 0,
            }),
        }
        Ok(self.pushed(Some(target)))
    }

    /// Takes the next piece, and gives how many frames it completes; none if the lane is empty or has to wait until
    /// more of the `ordinary` frames have passed.
    pub(super) fn take(&mut self, ordinary: u64) -> Option<(Piece, u64)> {
        // A void waits like what it was: those behind it count on that.
        while self.items.front().is_some_and(|item| item.is_void() && item.after <= ordinary) {
            self.pop();
        }
        let item = self.items.front()?;
        let end = item.end_of_piece(self.at);
        let is_complete = end == item.bytes.len();
        if is_complete && item.after > ordinary {
            return None;
        }
        let piece = Piece { bytes: Arc::clone(&item.bytes), range: self.at..end };
        let completed = if is_complete { self.pop() } else { 0 };
        self.at = if is_complete { 0 } else { end };
        Some((piece, completed))
    }

    /// Begins anew with a message that is not wholly taken, or takes it out if that has been in vain too often: it may
    /// be the message that breaks the links.
    pub(super) fn rewind(&mut self) -> Option<Arc<Vec<u8>>> {
        if std::mem::take(&mut self.at) == 0 {
            return None;
        }
        let item = self.items.front_mut()?;
        item.breaks += 1;
        let void = (item.breaks >= MAX_TRIES).then(|| item.void())?;
        self.bytes -= void.len();
        Some(void)
    }

    /// Takes out the messages of more than `limit` bytes. Their places remain, since the positions of those behind
    /// them are known already.
    pub(super) fn void_above(&mut self, limit: usize) -> Vec<Arc<Vec<u8>>> {
        self.void(|item| item.payload > limit)
    }

    /// Takes out everything that `picks`, given frame behind frame, in the same way; nobody may be taking meanwhile.
    pub(super) fn void_where(&mut self, picks: impl Fn(&[u8]) -> bool) -> Vec<Arc<Vec<u8>>> {
        self.at = 0;
        self.void(|item| !item.is_void() && picks(&item.bytes))
    }

    fn void(&mut self, picks: impl Fn(&Item) -> bool) -> Vec<Arc<Vec<u8>>> {
        let picked = self.items.iter_mut().filter(|item| picks(item));
        let void: Vec<_> = picked.map(Item::void).collect();
        self.bytes -= void.iter().map(|bytes| bytes.len()).sum::<usize>();
        void
    }

    /// Empties the lane: gives what was in it, frame behind frame, and counts that as passed.
    pub(super) fn drain(&mut self) -> Vec<Arc<Vec<u8>>> {
        self.passed = self.offered();
        let items = std::mem::take(&mut self.items);
        (self.at, self.bytes, self.frames) = (0, 0, 0);
        self.targets.clear();
        items.into_iter().map(|item| item.bytes).collect()
    }

    /// Goes through what waits, frame behind frame.
    pub(super) fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.items.iter().map(|item| item.bytes.as_slice())
    }

    /// Tells whether something to `target` waits here.
    pub(super) fn holds(&self, target: &str) -> bool {
        !self.is_empty() && self.targets.get(target).is_some_and(|last| *last > self.passed)
    }

    /// Counts the frames that were taken or discarded.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Counts the bytes that wait here or are on their way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.reserved
    }

    /// Counts the bytes that wait here.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn frames(&self) -> usize {
        self.frames
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Gives memory of a past burst back, if nothing waits.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            (self.items, self.targets) = (VecDeque::new(), HashMap::new());
        }
    }

    fn offered(&self) -> u64 {
        self.passed + self.frames as u64
    }

    /// Says after how many ordinary frames a message to `target` may be complete: the first one here comes after
    /// all that were told before it, the others after the first.
    fn lead(&self, target: Option<&str>, ordinary: u64) -> u64 {
        if target.is_some_and(|target| !self.holds(target)) { ordinary } else { 0 }
    }

    fn pushed(&mut self, target: Option<&str>) -> u64 {
        self.frames += 1;
        let number = self.offered();
        let Some(target) = target else { return number };
        if let Some(last) = self.targets.get_mut(target) {
            *last = number;
        } else {
            if self.targets.len() > self.frames {
                let passed = self.passed;
                self.targets.retain(|_, last| *last > passed);
            }
            self.targets.insert(target.into(), number);
        }
        number
    }

    fn pop(&mut self) -> u64 {
        let Some(item) = self.items.pop_front() else { return 0 };
        self.bytes -= item.bytes.len();
        self.frames -= item.frames;
        self.passed += item.frames as u64;
        if self.items.is_empty() {
            self.targets.clear();
        }
        item.frames as u64
    }
}

impl Item {
    fn void(&mut self) -> Arc<Vec<u8>> {
        self.payload = 0;
        std::mem::take(&mut self.bytes)
    }

    fn is_void(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Tells whether another follower fits into the write that takes this.
    fn has_room(&self, payload: usize) -> bool {
        self.kind == ItemKind::Followers && self.bytes.len() + payload <= QUANTUM
    }

    /// Gives where the write that begins at `at` ends: with its chunk, or with all followers.
    fn end_of_piece(&self, at: usize) -> usize {
        let len = self.bytes.len();
        match self.kind {
            ItemKind::Followers => len,
            ItemKind::Chunks => {
                let rest = self.bytes.get(at..).unwrap_or_default();
                wire::split_frame(rest).map_or(len, |(_, behind)| len - behind.len())
            }
        }
    }
}

/// Cuts the frame of `kind`, whose body is `header` and `payload`, into chunks; the first one has the whole header.
pub(super) fn cut(
    message: u32,
    kind: FrameKind,
    header: &[u8],
    payload: &[u8],
) -> Result<Vec<u8>, Refused> {
    let total = u32::try_from(header.len() + payload.len()).map_err(|_| Refused::Unframeable)?;
    let pieces = payload.len().div_ceil(QUANTUM).max(1);
    let mut out = Vec::with_capacity(header.len() + payload.len() + pieces * CHUNK_HEADER);
    for number in 0..pieces {
        let begin = number * QUANTUM;
        let piece = payload.get(begin..payload.len().min(begin + QUANTUM)).unwrap_or_default();
        let (start, head) = match number {
            0 => (Some(ChunkStart { total, kind }), header),
            _ => (None, &[][..]),
        };
        let mark = wire::begin(&mut out, FrameKind::CHUNK);
        ChunkHeader { message, start, is_last: number + 1 == pieces }.encode(&mut out);
        out.extend_from_slice(head);
        out.extend_from_slice(piece);
        wire::finish(&mut out, mark, usize::MAX).map_err(|_| Refused::Unframeable)?;
    }
    Ok(out)
}

/// Links that may break under a message in chunks before it is given up as lost.
pub(super) const MAX_TRIES: u32 = 5;
/// The bytes of a chunk before those of its message, at most.
const CHUNK_HEADER: usize = 16;
