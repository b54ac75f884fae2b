//! Decodes large messages beside the task that reads the link.
//!
//! Decoding 16 MiB takes milliseconds, in which nothing else of the peer would be read. So a message that came in
//! chunks goes into the backlog of its registration undecoded, which keeps its place in the order, and a thread of the
//! runtime's blocking pool decodes it. To the backlog it is a message whose mailbox has no room yet: what comes behind
//! it waits, its sender's credit is spent until its mailbox has taken it, and the end of the registration ends it.
//!
//! ```text
//! reading task                    blocking pool         keeper of the backlog
//!    |-- Deferred, in its place --------------------------->|  offered: not decoded, wait for `room`
//!    |-- Decoding ------------------->|  decodes            |
//!    |   reads on                     |-- outcome, room --->|  offered: into the mailbox, or it ends
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio_util::sync::CancellationToken;

use crate::codec::CodecEntry;
use crate::event::Reason;
use crate::node::backlog::{Offered, Parked};
use crate::node::directory::{Failure, Fault, TypedParked};
use crate::node::mailbox::{Delivery, Envelope, Mailbox, Room};

/// Is a message still encoded, at the end of the frame that brought it.
#[derive(Debug)]
pub(crate) struct Encoded {
    frame: Vec<u8>,
    begin: usize,
}

/// Decodes a message; to be run where it may take its time.
pub(crate) type Decoding = Box<dyn FnOnce() + Send>;

/// Shares a node's few decoding threads out, first come, first served: a thread for each message would be as many as a
/// peer likes.
pub(crate) struct Decoders {
    line: Mutex<Line>,
    most: usize,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Decoding>,
    threads: usize,
}

/// Stands in a backlog for a message that is being decoded.
struct Deferred<T> {
    codec: &'static CodecEntry,
    mailbox: Weak<dyn Mailbox<T>>,
    envelope: Envelope,
    outcome: Arc<Outcome<T>>,
}

/// Brings what was decoded from one thread to another.
struct Outcome<T> {
    decoded: Mutex<Option<Result<T, Fault>>>,
    is_there: CancellationToken,
}

impl Encoded {
    /// Takes a frame whose last `bytes` are the message.
    pub(crate) fn new(frame: Vec<u8>, bytes: usize) -> Self {
        Self { begin: frame.len().saturating_sub(bytes), frame }
    }

    /// Gives the encoded message.
    pub(crate) fn payload(&self) -> &[u8] {
        self.frame.get(self.begin..).unwrap_or_default()
    }
}

impl Decoders {
    /// As many threads as there are cores, and two at least: one may be at a message for long.
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self { line: Mutex::default(), most: cores.max(2) }
    }

    /// Adds work; true if it wants another thread, which is to call [`work`](Self::work).
    pub(crate) fn add(&self, decoding: Decoding) -> bool {
        let mut line = self.line();
        line.waiting.push_back(decoding);
        let is_wanted = line.threads < self.most;
        line.threads += usize::from(is_wanted);
        is_wanted
    }

    /// Decodes until nothing waits.
    pub(crate) fn work(&self) {
        while let Some(decoding) = self.next() {
            decoding();
        }
    }

    fn next(&self) -> Option<Decoding> {
        let mut line = self.line();
        let next = line.waiting.pop_front();
        line.threads -= usize::from(next.is_none());
        next
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Splits a message into what waits in the backlog and the work that this waits for.
pub(crate) fn defer<T: Send + 'static>(
    codec: &'static CodecEntry,
    mailbox: Weak<dyn Mailbox<T>>,
    encoded: Encoded,
    mut envelope: Envelope,
    decode: impl FnOnce(&[u8]) -> Result<T, Fault> + Send + 'static,
) -> (Box<dyn Parked>, Decoding) {
    envelope.bytes = encoded.payload().len();
    let outcome =
        Arc::new(Outcome { decoded: Mutex::new(None), is_there: CancellationToken::new() });
    let there = Arc::clone(&outcome);
    let decoding = Box::new(move || there.bring(decode(encoded.payload())));
    (Box::new(Deferred { codec, mailbox, envelope, outcome }), decoding)
}

impl<T> Outcome<T> {
    fn bring(&self, decoded: Result<T, Fault>) {
        *self.decoded.lock().unwrap_or_else(PoisonError::into_inner) = Some(decoded);
        self.is_there.cancel();
    }

    fn take(&self) -> Option<Result<T, Fault>> {
        self.decoded.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T: Send + 'static> Parked for Deferred<T> {
    fn bytes(&self) -> u64 {
        self.envelope.bytes as u64
    }

    fn offer(self: Box<Self>) -> Offered {
        let Some(decoded) = self.outcome.take() else { return Offered::Full(self) };
        let Self { codec, mailbox, envelope, .. } = *self;
        match decoded {
            Ok(message) => {
                let delivery = Delivery::new(message, envelope);
                Box::new(TypedParked { codec, mailbox, delivery }).offer()
            }
            Err(fault) => Offered::Failed(fault.of(envelope), codec.wire_name()),
        }
    }

    fn fail(self: Box<Self>, reason: Reason) -> Failure {
        Failure { reason, detail: None, envelope: self.envelope }
    }

    fn room(&self) -> Option<Room> {
        Some(Box::pin(self.outcome.is_there.clone().cancelled_owned()))
    }

    fn wire_name(&self) -> String {
        self.codec.wire_name()
    }

    fn is_deferred(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_few_and_leave_nothing_undone() {
        let decoders = Decoders { line: Mutex::default(), most: 2 };
        let done = Arc::new(Mutex::new(Vec::new()));
        let wanted = (0..5).filter(|number| {
            let (number, done) = (*number, Arc::clone(&done));
            decoders.add(Box::new(move || done.lock().unwrap().push(number)))
        });
        assert_eq!(wanted.collect::<Vec<_>>(), [0, 1]);
        decoders.work();
        decoders.work();
        assert_eq!(*done.lock().unwrap(), [0, 1, 2, 3, 4]);
        assert!(decoders.add(Box::new(|| {})), "the threads are gone");
    }
}
