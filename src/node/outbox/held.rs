//! Keeps the tells that wait for credit, by target, encoded.
//!
//! A plain table: its bounds, and when a target's tells may go, are the outbox's business.

use std::collections::VecDeque;
use std::convert::Infallible;

use crate::node::credit::AccountId;

/// Keeps the tells that wait for credit.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// By account; a peer has some two thousand at most.
    queues: Vec<VecDeque<Item>>,
    frames: usize,
    bytes: usize,
}

/// The next tells of an account.
#[derive(Debug)]
pub(super) enum Item {
    /// Whole frames, one behind the other, of which those before `begin` are gone.
    Frames { bytes: Vec<u8>, begin: usize },
    /// One large message, in chunks.
    Chunks(Vec<u8>),
}

/// Counts tells that left.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gone {
    pub(super) frames: usize,
    pub(super) bytes: usize,
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
        let queue = self.queue(id);
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
        encoded.inspect(|()| self.count(more))
    }

    /// Appends a frame that is written already.
    pub(super) fn push_frame(&mut self, id: AccountId, frame: &[u8]) {
        let copied = self.push(id, |out| {
            out.extend_from_slice(frame);
            Ok::<_, Infallible>(())
        });
        let Ok(()) = copied;
    }

    /// Adds a large message.
    pub(super) fn push_chunks(&mut self, id: AccountId, chunks: Vec<u8>) {
        self.count(chunks.len());
        self.queue(id).push_back(Item::Chunks(chunks));
    }

    /// Puts the tells that `earlier` holds in front of those here.
    pub(super) fn put_before(&mut self, earlier: Self) {
        self.frames += earlier.frames;
        self.bytes += earlier.bytes;
        for (mut queue, number) in earlier.queues.into_iter().zip(0..) {
            let Some(id) = AccountId::new(number) else { continue };
            queue.append(self.queue(id));
            *self.queue(id) = queue;
        }
    }

    /// Tells whether an account has tells here.
    pub(super) fn has(&self, id: AccountId) -> bool {
        self.queues.get(id.index()).is_some_and(|queue| !queue.is_empty())
    }

    /// Lends the first tells of an account; [`settle`](Self::settle) says what became of them.
    pub(super) fn lend_first(&mut self, id: AccountId) -> Option<Item> {
        self.queues.get_mut(id.index())?.pop_front()
    }

    /// Takes back what is left of what was lent, and counts out what is not.
    pub(super) fn settle(&mut self, id: AccountId, gone: Gone, rest: Option<Item>) {
        self.frames -= gone.frames;
        self.bytes -= gone.bytes;
        if let Some(item) = rest {
            self.queue(id).push_front(item);
        }
    }

    /// Takes out the large messages that `is_void` picks.
    pub(super) fn void(&mut self, is_void: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut void = Vec::new();
        for queue in &mut self.queues {
            let (gone, kept) = std::mem::take(queue).into_iter().partition(|item| match item {
                Item::Chunks(chunks) => is_void(chunks),
                Item::Frames { .. } => false,
            });
            *queue = kept;
            let gone: VecDeque<Item> = gone;
            void.extend(gone.into_iter().map(Item::into_bytes));
        }
        self.frames -= void.len();
        self.bytes -= void.iter().map(Vec::len).sum::<usize>();
        void
    }

    /// Names the accounts that have tells here.
    pub(super) fn accounts(&self) -> Vec<AccountId> {
        let filled = self.queues.iter().zip(0..).filter(|(queue, _)| !queue.is_empty());
        filled.filter_map(|(_, number)| AccountId::new(number)).collect()
    }

    /// Takes everything out, each target's in order.
    pub(super) fn drain(&mut self) -> Vec<Vec<u8>> {
        let taken = std::mem::take(self);
        taken.queues.into_iter().flatten().map(Item::into_bytes).collect()
    }

    fn queue(&mut self, id: AccountId) -> &mut VecDeque<Item> {
        if self.queues.len() <= id.index() {
            self.queues.resize_with(id.index() + 1, VecDeque::new);
        }
        // Within bounds by the line above.
        &mut self.queues[id.index()]
    }

    fn count(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes;
    }
}

impl Item {
    /// Gives what is left of frames when those before `at` are gone.
    pub(super) fn rest(mut bytes: Vec<u8>, at: usize) -> Option<Self> {
        if at == bytes.len() {
            return None;
        }
        if at <= bytes.len() / 2 {
            return Some(Self::Frames { bytes, begin: at });
        }
        // What is left is the smaller part, so each frame is moved once at most.
        bytes.drain(..at);
        Some(Self::Frames { bytes, begin: 0 })
    }

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
    use crate::wire;

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

    /// Takes the tells of an account one by one, and gives the last byte of each.
    fn pop_all(held: &mut Held, account: u16) -> Vec<u8> {
        let mut seen = Vec::new();
        while let Some(item) = held.lend_first(id(account)) {
            let (bytes, rest) = match item {
                Item::Chunks(chunks) => (chunks, None),
                Item::Frames { bytes, begin } => {
                    let at = begin + frame(0).len();
                    (bytes[begin..at].to_vec(), Item::rest(bytes, at))
                }
            };
            seen.push(bytes[bytes.len() - 1]);
            held.settle(id(account), Gone { frames: 1, bytes: bytes.len() }, rest);
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
        let Some(Item::Frames { bytes, .. }) = held.lend_first(id(4)) else { panic!("three") };
        let length = frame(0).len();
        held.settle(id(4), Gone { frames: 1, bytes: length }, Item::rest(bytes, length));
        assert_eq!(held.drain(), [[frame(1), frame(2)].concat()]);
        assert_eq!((held.frames(), held.bytes()), (0, 0));
    }
}
