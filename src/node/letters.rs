//! Keeps the messages of one built-in mailbox in order, most of them still encoded.
//!
//! Memory that one thread takes and another gives back costs several times what it costs one thread alone, and more
//! than all else that a small tell costs here. So the task that reads a link only copies the encoded bytes into the
//! mailbox, and the task of the actor decodes each message right before it handles it.
//!
//! ```text
//!  rows:     Encoded(from A, 3) | One(decoded, with its envelope) | Encoded(from A, 2) | ..
//!  encoded:  .. taken .. | length, bytes | length, bytes | length, bytes | length, bytes | ..
//!                        begin
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::codec::{CodecEntry, Decode, RemoteMessage};
use crate::node::directory::{Fault, Place, decode};
use crate::node::ended::Teller;
use crate::node::mailbox::{Delivery, Envelope};

/// Keeps messages in order.
pub(crate) struct Letters<T> {
    rows: VecDeque<Row<T>>,
    /// The encoded messages of all rows, each behind its length.
    encoded: Vec<u8>,
    /// Where the first of them begins.
    begin: usize,
    messages: usize,
    /// Encoded bytes of all messages.
    bytes: usize,
}

enum Row<T> {
    One(Delivery<T>),
    /// So many of the encoded messages.
    Encoded(Arc<Source<T>>, usize),
}

/// Decodes what comes from one link for one actor as one type.
pub(crate) struct Source<T> {
    codec: &'static CodecEntry,
    /// Decodes a message and converts it into what its actor handles.
    decode: Box<DecodeInto<T>>,
    place: Arc<Place>,
    teller: Teller,
}

type DecodeInto<T> = dyn Fn(&[u8]) -> Result<T, Box<Fault>> + Send + Sync;

/// Stands for a message that could not be decoded, and has ended as a dead letter.
#[derive(Debug)]
pub(crate) struct Undecodable;

impl<T> Source<T> {
    /// Decodes messages `M` by `by`, which `codec` has for them.
    pub(crate) fn new<M: RemoteMessage + Into<T>>(
        codec: &'static CodecEntry,
        by: Decode<M>,
        place: Arc<Place>,
        teller: Teller,
    ) -> Self {
        let decode = move |payload: &[u8]| {
            decode::<M, T, _>(codec, by, payload, |message| message).map_err(Box::new)
        };
        Self { codec, decode: Box::new(decode), place, teller }
    }

    /// Gives who told its messages.
    pub(crate) fn teller(&self) -> &Teller {
        &self.teller
    }

    /// Names its messages, as `codec:manifest`.
    pub(crate) fn wire_name(&self) -> String {
        self.codec.wire_name()
    }

    // As for `pop`.
    #[inline(always)]
    fn open(&self, payload: &[u8]) -> Result<Delivery<T>, Undecodable> {
        let envelope = Envelope { bytes: payload.len(), ..Envelope::default() };
        match (self.decode)(payload) {
            Ok(message) => Ok(Delivery::new(message, envelope)),
            Err(fault) => Err(self.end(*fault, envelope)),
        }
    }

    #[cold]
    fn end(&self, fault: Fault, envelope: Envelope) -> Undecodable {
        // It was counted as delivered when the mailbox took it.
        self.teller.core().counters.undecoded.fetch_add(1, Ordering::Release);
        self.teller.report(self.place.ended(self.codec.wire_name(), fault.of(envelope)));
        Undecodable
    }
}

impl<T> Letters<T> {
    pub(crate) fn new() -> Self {
        Self { rows: VecDeque::new(), encoded: Vec::new(), begin: 0, messages: 0, bytes: 0 }
    }

    /// Adds a decoded message.
    pub(crate) fn push(&mut self, delivery: Delivery<T>) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(delivery.envelope.bytes);
        self.rows.push_back(Row::One(delivery));
    }

    /// Adds an encoded message that brought nothing along. Its length fits a u32, since it came in a frame.
    #[inline]
    pub(crate) fn push_encoded(&mut self, source: &Arc<Source<T>>, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(payload.len());
        self.encoded.extend_from_slice(&length.to_ne_bytes());
        self.encoded.extend_from_slice(payload);
        match self.rows.back_mut() {
            Some(Row::Encoded(last, count)) if Arc::ptr_eq(last, source) => *count += 1,
            _ => self.rows.push_back(Row::Encoded(Arc::clone(source), 1)),
        }
    }

    /// Moves everything from `others` behind what is here. What a burst made of much memory stays here: it would be
    /// lost to a link that never uses it again.
    pub(crate) fn append(&mut self, others: &mut Self) {
        if self.rows.is_empty()
            && self.encoded.capacity() <= KEPT
            && self.rows.capacity() <= KEPT_ROWS
        {
            return std::mem::swap(self, others);
        }
        self.encoded.extend_from_slice(others.encoded.get(others.begin..).unwrap_or_default());
        self.messages += others.messages;
        self.bytes = self.bytes.saturating_add(others.bytes);
        self.rows.append(&mut others.rows);
        others.reset();
    }

    /// Moves the first message behind those in `others`, as it is.
    pub(crate) fn move_first(&mut self, others: &mut Self) {
        match self.take_first() {
            Some(First::One(delivery)) => others.push(delivery),
            Some(First::Encoded(source, place)) => {
                others.push_encoded(&source, self.encoded.get(place).unwrap_or_default());
            }
            None => {}
        }
        self.reset_if_empty();
    }

    /// Takes the first message, decoded; one that cannot be decoded is reported.
    // Not called, so that what is decoded is moved once less on the way of a tell.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<Result<Delivery<T>, Undecodable>> {
        let opened = match self.rows.front_mut()? {
            Row::Encoded(source, count) if *count > 1 => {
                *count -= 1;
                let place = next(&self.encoded, &mut self.begin);
                let payload = self.encoded.get(place).unwrap_or_default();
                self.messages -= 1;
                self.bytes -= payload.len();
                return Some(source.open(payload));
            }
            Row::Encoded(..) | Row::One(_) => match self.take_first()? {
                First::One(delivery) => Ok(delivery),
                First::Encoded(source, place) => {
                    source.open(self.encoded.get(place).unwrap_or_default())
                }
            },
        };
        self.reset_if_empty();
        Some(opened)
    }

    /// Takes the first message without decoding it: what came along, and where it came from if that is known.
    pub(crate) fn pop_unread(&mut self) -> Option<(Envelope, Option<Arc<Source<T>>>)> {
        let first = match self.take_first()? {
            First::One(delivery) => (delivery.envelope, None),
            First::Encoded(source, place) => {
                (Envelope { bytes: place.len(), ..Envelope::default() }, Some(source))
            }
        };
        self.reset_if_empty();
        Some(first)
    }

    /// Counts the messages.
    pub(crate) fn len(&self) -> usize {
        self.messages
    }

    /// Counts their encoded bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Takes the first message out of the counts and the rows; an encoded one stays where it is until the next reset.
    fn take_first(&mut self) -> Option<First<T>> {
        let first = match self.rows.pop_front()? {
            Row::One(delivery) => {
                self.bytes = self.bytes.saturating_sub(delivery.envelope.bytes);
                First::One(delivery)
            }
            Row::Encoded(source, count) => {
                if count > 1 {
                    self.rows.push_front(Row::Encoded(Arc::clone(&source), count - 1));
                }
                let place = next(&self.encoded, &mut self.begin);
                self.bytes = self.bytes.saturating_sub(place.len());
                First::Encoded(source, place)
            }
        };
        self.messages -= 1;
        Some(first)
    }

    /// Gives memory above `bytes` for encoded messages back, if nothing is here.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if self.rows.is_empty() && self.encoded.capacity() > bytes {
            self.encoded.clear();
            self.encoded.shrink_to(bytes);
            self.begin = 0;
        }
    }

    fn reset_if_empty(&mut self) {
        if self.rows.is_empty() {
            self.reset();
        }
    }

    /// Uses the memory of the encoded messages again, or gives it back where a past burst needed much more of it.
    fn reset(&mut self) {
        let used = self.encoded.len();
        self.encoded.clear();
        if self.encoded.capacity() > (4 * used).clamp(KEPT, KEPT_IN_USE) {
            self.encoded.shrink_to(KEPT);
        }
        (self.begin, self.messages, self.bytes) = (0, 0, 0);
    }
}

/// The first message, out of its row.
enum First<T> {
    One(Delivery<T>),
    /// It lies there in `encoded`.
    Encoded(Arc<Source<T>>, std::ops::Range<usize>),
}

/// Gives the place of the encoded message at `begin`, which goes on to the next.
#[inline]
fn next(encoded: &[u8], begin: &mut usize) -> std::ops::Range<usize> {
    let length = encoded.get(*begin..).and_then(|rest| rest.first_chunk().copied());
    let start = *begin + LENGTH;
    *begin = start + length.map_or(0, |length| u32::from_ne_bytes(length) as usize);
    start..*begin
}

/// Bytes of a length.
const LENGTH: usize = size_of::<u32>();
/// Bytes for encoded messages that an empty one keeps in any case: a read of a link, to which a vector has grown by
/// doubling.
const KEPT: usize = 128 * 1024;
/// What it keeps at most, if as much was used: a full mailbox of small tells.
const KEPT_IN_USE: usize = 1024 * 1024;
/// Rows for which one that is to be handed on may have memory.
const KEPT_ROWS: usize = 1024;

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::Node;
    use crate::codec::{Bincode, Codec, Origin};
    use crate::event::Reason;
    use crate::transport::InProcessNetwork;

    #[derive(Serialize, Deserialize)]
    struct Number(u32);

    impl RemoteMessage for Number {
        const MANIFEST: &'static str = "letters.v1.Number";
        type Codec = Bincode;
    }

    static NUMBER: CodecEntry = CodecEntry::new::<Number>(Origin::new("letters.rs", 1, "letters"));

    async fn node() -> Node {
        let builder = Node::builder("Letters").transport(InProcessNetwork::new());
        builder.listen("mem://letters:1").start().await.unwrap()
    }

    /// Makes a source of messages for an actor.
    fn source(node: &Node, path: &str) -> Arc<Source<Number>> {
        let place = node.core().directory.insert(&path.parse().unwrap(), Vec::new(), None).unwrap();
        let teller = Teller::new(node.core(), &node.core().own_peer());
        let by = NUMBER.decoder::<Number>().unwrap();
        Arc::new(Source::new(&NUMBER, by, place, teller))
    }

    fn encoded(number: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        Bincode::encode(&Number(number), &mut bytes).unwrap();
        bytes
    }

    /// Gives the messages that can be decoded, to the last.
    fn open_all(letters: &mut Letters<Number>) -> Vec<u32> {
        std::iter::from_fn(|| letters.pop()).flatten().map(|delivery| delivery.message.0).collect()
    }

    #[tokio::test]
    async fn messages_keep_their_order_and_their_counts_however_they_are_moved() {
        let node = node().await;
        let (one, other) = (source(&node, "/user/one"), source(&node, "/user/other"));
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            // What is on the right is behind what is on the left.
            let (mut left, mut right, mut next, mut seen) = (Letters::new(), Letters::new(), 0, 0);
            for _ in 0..200 {
                match random.u8(0..10) {
                    0..3 => right.push_encoded(&one, &encoded(next)),
                    3..5 => right.push_encoded(&other, &encoded(next)),
                    5 => {
                        let envelope = Envelope { bytes: 1, ..Envelope::default() };
                        right.push(Delivery::new(Number(next), envelope));
                    }
                    6 => {
                        left.append(&mut right);
                        continue;
                    }
                    7 => {
                        right.move_first(&mut left);
                        continue;
                    }
                    8 => {
                        if let Some(opened) = left.pop() {
                            assert_eq!(opened.unwrap().message.0, seen, "seed {seed}");
                            seen += 1;
                        }
                        continue;
                    }
                    _ => {
                        seen += u32::from(left.pop_unread().is_some());
                        continue;
                    }
                }
                next += 1;
                let messages = (next - seen) as usize;
                assert_eq!(left.len() + right.len(), messages, "seed {seed}");
                assert_eq!(left.bytes() + right.bytes(), messages, "seed {seed}");
            }
            left.append(&mut right);
            assert_eq!(open_all(&mut left), (seen..next).collect::<Vec<_>>(), "seed {seed}");
            assert!(left.is_empty() && left.encoded.is_empty() && left.bytes() == 0);
        }
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_decoded_is_a_dead_letter_and_the_others_come_out() {
        let node = node().await;
        let (mut letters, source) = (Letters::new(), source(&node, "/user/a"));
        for payload in [encoded(1), b"no".to_vec(), encoded(3)] {
            letters.push_encoded(&source, &payload);
        }
        node.core().counters.delivered.fetch_add(3, Ordering::Relaxed);
        assert_eq!(open_all(&mut letters), [1, 3]);
        let stats = node.stats();
        assert_eq!((stats.delivered, stats.dead_letters_for(Reason::Undecodable)), (2, 1));
    }

    #[tokio::test]
    async fn a_burst_s_memory_stays_where_it_was_used_or_is_given_back() {
        let node = node().await;
        let (mut letters, source) = (Letters::new(), source(&node, "/user/a"));
        let kept_after = |messages: usize, letters: &mut Letters<Number>| {
            (0..messages).for_each(|_| letters.push_encoded(&source, &[0; 1_000]));
            assert_eq!(std::iter::from_fn(|| letters.pop_unread()).count(), messages);
            letters.encoded.capacity()
        };
        assert!(kept_after(5_000, &mut letters) <= KEPT, "more than may be kept");
        let much = kept_after(500, &mut letters);
        assert!(much > KEPT, "a busy mailbox does not grow anew each time");
        let mut others = Letters::new();
        others.push_encoded(&source, &encoded(1));
        letters.append(&mut others);
        assert!(others.encoded.capacity() <= KEPT && letters.encoded.capacity() == much);
        assert_eq!(open_all(&mut letters), [1]);
        assert!(kept_after(1, &mut letters) <= KEPT, "a past burst");
    }
}
