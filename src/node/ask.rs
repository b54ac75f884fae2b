//! Waits for replies: the asks to one peer that have none yet.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::Reason;
use crate::node::books::{Passed, Position};

/// Ends one ask: called once, with the reply's bytes or with the reason why there is none.
pub(crate) type Completion = Box<dyn FnOnce(Answer<'_>) + Send>;

/// What ends an ask.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer<'a> {
    /// The reply, still encoded.
    Reply { wire_name: &'a str, payload: &'a [u8] },
    /// There will be none.
    Failed(Reason),
}

/// Holds the asks to one peer that wait, bounded.
#[derive(Debug)]
pub(crate) struct Asks {
    inner: Mutex<Inner>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: HashMap<u64, Waiting, BuildHasherDefault<Scatter>>,
    last: u64,
    /// Asks among these frames have ended, and why: the last two times. What was written when a link ended may be
    /// followed at once by what never was, whose reason is another.
    ended: [Option<(Passed, Reason)>; 2],
}

struct Waiting {
    completion: Completion,
    /// The ask's place among the frames to the peer; none until it was offered.
    position: Option<Position>,
}

impl Asks {
    /// `first` is where correlations begin: drawn at random, so that a late reply to a former incarnation of this
    /// node is not taken for the answer to an ask of this one.
    pub(crate) fn new(limit: usize, first: u64) -> Self {
        let inner = Inner { last: first, ..Inner::default() };
        Self { inner: Mutex::new(inner), limit }
    }

    /// Adds an ask and gives its correlation; `None` if too many wait.
    pub(crate) fn open(&self, completion: Completion) -> Option<u64> {
        let mut inner = self.lock();
        if inner.waiting.len() >= self.limit {
            return None;
        }
        inner.last = inner.last.wrapping_add(1);
        let correlation = inner.last;
        inner.waiting.insert(correlation, Waiting { completion, position: None });
        Some(correlation)
    }

    /// Notes where among the frames to the peer the ask went; ends it if they have ended meanwhile.
    pub(crate) fn sent(&self, correlation: u64, position: Position) {
        let mut inner = self.lock();
        if let Some(waiting) = inner.waiting.get_mut(&correlation) {
            waiting.position = Some(position);
        }
        let ended = inner.ended.into_iter().flatten().find(|(passed, _)| passed.covers(position));
        drop(inner);
        if let Some((_, reason)) = ended {
            self.complete(correlation, Answer::Failed(reason));
        }
    }

    /// Notes that asks have lost their place among the frames to the peer; they get another one.
    pub(crate) fn take_back(&self, correlations: &[u64]) {
        let mut inner = self.lock();
        for correlation in correlations {
            if let Some(waiting) = inner.waiting.get_mut(correlation) {
                waiting.position = None;
            }
        }
    }

    /// Forgets an ask whose caller has given up.
    pub(crate) fn forget(&self, correlation: u64) {
        let forgotten = self.lock().waiting.remove(&correlation);
        drop(forgotten);
    }

    /// Ends an ask and gives its place among the frames to the peer; an unknown correlation is one whose caller
    /// has given up.
    pub(crate) fn complete(&self, correlation: u64, answer: Answer<'_>) -> Option<Position> {
        let (completion, position) = self.take(correlation)?;
        completion(answer);
        position
    }

    /// Takes an ask out for whoever ends it, with its place among the frames to the peer.
    pub(crate) fn take(&self, correlation: u64) -> Option<(Completion, Option<Position>)> {
        let Waiting { completion, position } = self.lock().waiting.remove(&correlation)?;
        Some((completion, position))
    }

    /// Ends every ask whose frame is among those that have passed.
    pub(crate) fn fail_passed(&self, passed: Passed, reason: Reason) {
        let ended: Vec<u64> = {
            let mut inner = self.lock();
            inner.ended.rotate_left(1);
            inner.ended[1] = Some((passed, reason));
            let waiting = inner.waiting.iter();
            let ended = waiting.filter(|(_, w)| w.position.is_some_and(|at| passed.covers(at)));
            ended.map(|(correlation, _)| *correlation).collect()
        };
        for correlation in ended {
            self.complete(correlation, Answer::Failed(reason));
        }
    }

    /// Counts the asks that wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hashes a correlation, which this node counts up itself: nobody can choose numbers that collide.
#[derive(Debug, Default)]
struct Scatter(u64);

impl Hasher for Scatter {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("position", &self.position).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    #[test]
    fn only_asks_that_were_written_fail_with_their_link() {
        let asks = Asks::new(8, u64::MAX);
        let (tx, rx) = mpsc::channel();
        let open = |name: &'static str| {
            let tx = tx.clone();
            asks.open(Box::new(move |answer| match answer {
                Answer::Failed(reason) => tx.send((name, Some(reason))).unwrap(),
                Answer::Reply { .. } => tx.send((name, None)).unwrap(),
            }))
            .unwrap()
        };
        let (written, waiting, large) = (open("written"), open("waiting"), open("large"));
        asks.sent(written, Position::Ordinary(1));
        asks.sent(waiting, Position::Ordinary(2));
        asks.sent(large, Position::Bulk(1));
        asks.fail_passed(Passed { ordinary: 1, bulk: 0 }, Reason::LinkLost);
        assert_eq!(rx.try_recv(), Ok(("written", Some(Reason::LinkLost))));
        assert!(rx.try_recv().is_err());
        asks.fail_passed(Passed { ordinary: 1, bulk: 1 }, Reason::LinkLost);
        assert_eq!(rx.try_recv(), Ok(("large", Some(Reason::LinkLost))));
        asks.complete(waiting, Answer::Reply { wire_name: "x", payload: &[] });
        assert_eq!(rx.try_recv(), Ok(("waiting", None)));
        assert_eq!(asks.len(), 0);
    }

    #[test]
    fn an_ask_whose_frame_ended_before_its_place_was_noted_fails_too() {
        let asks = Asks::new(8, 0);
        let (tx, rx) = mpsc::channel();
        let late = asks.open(Box::new(move |answer| match answer {
            Answer::Failed(reason) => tx.send(reason).unwrap(),
            Answer::Reply { .. } => {}
        }));
        asks.fail_passed(Passed { ordinary: 1, bulk: 0 }, Reason::LinkLost);
        asks.fail_passed(Passed { ordinary: 2, bulk: 0 }, Reason::NodeStopped);
        assert_eq!(asks.len(), 1);
        asks.sent(late.unwrap(), Position::Ordinary(1));
        assert_eq!(rx.try_recv(), Ok(Reason::LinkLost));
        assert_eq!(asks.len(), 0);
    }

    #[test]
    fn too_many_asks_are_refused_and_a_forgotten_one_leaves_nothing() {
        let asks = Asks::new(1, 0);
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let correlation = asks.open(Box::new(move |_| drop(inside))).unwrap();
        assert!(asks.open(Box::new(|_| {})).is_none());
        asks.forget(correlation);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
