//! Keeps the tells that wait for credit, by target, encoded.
//!
//! A plain table: its bounds, and when a target's tells may go, are the outbox's business.

use std::collections::{HashMap, VecDeque};

use crate::node::credit::AccountId;
use crate::wire;

/// Keeps the tells that wait for credit.
#[derive(Debug, Default)]
pub(super) struct Held {
    queues: HashMap<AccountId, VecDeque<Item>>,
    frames: usize,
    bytes: usize,
}

/// The next tells of an account.
#[derive(Debug)]
enum Item {
    /// Whole frames, one behind the other, of which those before `begin` are gone.
    Frames { bytes: Vec<u8>, begin: usize },
    /// One large message, in chunks.
    Chunks(Vec<u8>),
}

/// The first tell of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Front<'a> {
    /// Its frame.
    Frame(&'a [u8]),
    /// Its chunks.
    Chunks(&'a [u8]),
}

impl Held {
    pub(super) fn frames(&self) -> usize {
        self.frames
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets `encode` append one frame behind the tells of the account; it leaves nothing if it fails.
    pub(super) fn push<E>(
        &mut self,
        id: AccountId,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut new = Vec::new();
        let queue = self.queues.entry(id).or_default();
        let last = match queue.back_mut() {
            Some(Item::Frames { bytes, .. }) => Some(bytes),
            Some(Item::Chunks(_)) | None => None,
        };
        let is_new = last.is_none();
        let into = last.unwrap_or(&mut new);
        let before = into.len();
        let encoded = encode(into);
        let more = into.len() - before;
        if is_new && encoded.is_ok() {
            queue.push_back(Item::Frames { bytes: new, begin: 0 });
        }
        if queue.is_empty() {
            self.queues.remove(&id);
        }
        encoded.inspect(|()| self.count(more))
    }

    /// Adds a large message.
    pub(super) fn push_chunks(&mut self, id: AccountId, chunks: Vec<u8>) {
        self.count(chunks.len());
        self.queues.entry(id).or_default().push_back(Item::Chunks(chunks));
    }

    /// Gives the first tell of an account.
    pub(super) fn front(&self, id: AccountId) -> Option<Front<'_>> {
        Some(match self.queues.get(&id)?.front()? {
            Item::Frames { bytes, begin } => {
                let waiting = bytes.get(*begin..)?;
                let (_, behind) = wire::split_frame(waiting)?;
                Front::Frame(waiting.get(..waiting.len() - behind.len())?)
            }
            Item::Chunks(chunks) => Front::Chunks(chunks),
        })
    }

    /// Takes the first tell of an account, which is so many bytes long; gives its chunks if it has some.
    pub(super) fn pop(&mut self, id: AccountId, length: usize) -> Option<Vec<u8>> {
        let queue = self.queues.get_mut(&id)?;
        let mut chunks = None;
        match queue.pop_front()? {
            Item::Chunks(bytes) => chunks = Some(bytes),
            Item::Frames { mut bytes, begin } => {
                let mut begin = begin + length;
                if begin < bytes.len() {
                    if begin > bytes.len() / 2 {
                        // What is left is the smaller part, so each frame is moved once at most.
                        bytes.drain(..begin);
                        begin = 0;
                    }
                    queue.push_front(Item::Frames { bytes, begin });
                }
            }
        }
        if queue.is_empty() {
            self.queues.remove(&id);
        }
        self.frames -= 1;
        self.bytes -= length;
        chunks
    }

    /// Takes out the large messages that `is_void` picks.
    pub(super) fn void(&mut self, is_void: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut void = Vec::new();
        for queue in self.queues.values_mut() {
            let (gone, kept) = std::mem::take(queue).into_iter().partition(|item| match item {
                Item::Chunks(chunks) => is_void(chunks),
                Item::Frames { .. } => false,
            });
            *queue = kept;
            let gone: VecDeque<Item> = gone;
            void.extend(gone.into_iter().map(Item::into_bytes));
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        self.frames -= void.len();
        self.bytes -= void.iter().map(Vec::len).sum::<usize>();
        void
    }

    /// Names the accounts that have tells here.
    pub(super) fn accounts(&self) -> Vec<AccountId> {
        self.queues.keys().copied().collect()
    }

    /// Takes everything out, each target's in order.
    pub(super) fn drain(&mut self) -> Vec<Vec<u8>> {
        let taken = std::mem::take(self);
        taken.queues.into_values().flatten().map(Item::into_bytes).collect()
    }

    fn count(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes;
    }
}

impl Item {
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Chunks(chunks) => chunks,
            Self::Frames { mut bytes, begin } => {
                bytes.drain(..begin);
                bytes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> AccountId {
        AccountId::new(number).unwrap()
    }

    fn frame(body: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let mark = wire::begin(&mut out, wire::FrameKind::GOSSIP);
        out.push(body);
        wire::finish(&mut out, mark, 16).unwrap();
        out
    }

    fn push(held: &mut Held, account: u16, body: u8) {
        let push = |out: &mut Vec<u8>| {
            out.extend(frame(body));
            Ok::<(), ()>(())
        };
        held.push(id(account), push).unwrap();
    }

    /// Takes the tells of an account, and gives the last byte of each.
    fn pop_all(held: &mut Held, account: u16) -> Vec<u8> {
        let mut seen = Vec::new();
        while let Some(front) = held.front(id(account)) {
            let (Front::Frame(bytes) | Front::Chunks(bytes)) = front;
            let length = bytes.len();
            seen.push(bytes[length - 1]);
            held.pop(id(account), length);
        }
        seen
    }

    #[test]
    fn each_account_gives_its_tells_in_order_and_counts_them() {
        let mut held = Held::default();
        for body in 0..100 {
            push(&mut held, u16::from(body % 2), body);
            if body % 10 == 9 {
                held.push_chunks(id(1), vec![1, 2, 200]);
            }
        }
        assert_eq!((held.frames(), held.bytes()), (110, 100 * frame(0).len() + 30));
        let odd = pop_all(&mut held, 1);
        assert_eq!(odd[..7], [1, 3, 5, 7, 9, 200, 11]);
        assert_eq!(odd.len(), 60);
        assert_eq!(held.accounts(), [id(0)]);
        assert_eq!((held.frames(), held.bytes()), (50, 50 * frame(0).len()));
        assert_eq!(pop_all(&mut held, 0), (0..100).step_by(2).collect::<Vec<_>>());
        assert_eq!((held.frames(), held.bytes(), held.accounts().len()), (0, 0, 0));
    }

    #[test]
    fn a_frame_that_cannot_be_encoded_leaves_nothing() {
        let mut held = Held::default();
        held.push(id(7), |_| Err(())).unwrap_err();
        assert_eq!((held.frames(), held.bytes(), held.accounts().len()), (0, 0, 0));
    }

    #[test]
    fn what_is_drained_begins_behind_what_was_taken() {
        let mut held = Held::default();
        (0..3).for_each(|body| push(&mut held, 4, body));
        held.pop(id(4), frame(0).len());
        assert_eq!(held.drain(), [[frame(1), frame(2)].concat()]);
        assert_eq!((held.frames(), held.bytes()), (0, 0));
    }
}
