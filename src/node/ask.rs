//! Waits for replies: the asks to one peer that have none yet.
//!
//! A timer of its own would cost an ask as much as all else in this file, and hardly any ever comes due. So one task
//! looks after the deadlines of all asks to a peer, from the first ask until none is left:
//!
//! ```text
//! open(1 s)  open(60 s)       open(60 s)      open(2 s)
//!    |          |                |               |            deadlines, those of answered asks among them
//!    ├─ look ───┼────────▶ 1 s   |               |
//!               ├─ look ─────────┼──── 60 s ─────┤ sooner
//!                                                ├─ look ──▶ 2 s
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::Notify;

use crate::event::Reason;
use crate::node::books::{Passed, Position};
use crate::node::link::now;

/// Ends one ask: called once, with the reply's bytes or with the reason why there is none.
pub(crate) type Completion = Box<dyn FnOnce(Answer<'_>) + Send>;

/// What ends an ask.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer<'a> {
    /// The reply, still encoded.
    Reply { wire_name: &'a str, payload: &'a [u8] },
    /// There will be none.
    Failed(Reason),
    /// The deadline is over.
    Late,
}

/// Holds the asks to one peer that wait, bounded.
#[derive(Debug)]
pub(crate) struct Asks {
    inner: Mutex<Inner>,
    limit: usize,
    /// There is a deadline before the next look.
    sooner: Arc<Notify>,
}

/// An ask that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) correlation: u64,
    /// Nobody looks after the deadlines yet: run [`watch`], whatever becomes of the node.
    pub(crate) is_unwatched: bool,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: HashMap<u64, Waiting, BuildHasherDefault<Scatter>>,
    last: u64,
    /// What waits and, for a while, what does no more.
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    /// When somebody looks at the deadlines next.
    next_look: Option<Instant>,
    /// Asks among these frames have ended, and why: the last two times. What was written when a link ended may be
    /// followed at once by what never was, whose reason is another.
    ended: [Option<(Passed, Reason)>; 2],
}

struct Waiting {
    completion: Completion,
    /// The ask's place among the frames to the peer; none until it was offered.
    position: Option<Position>,
    /// The reply has come and is yet to be decoded.
    has_reply: bool,
}

impl Asks {
    /// `first` is where correlations begin: drawn at random, so that a late reply to a former incarnation of this
    /// node is not taken for the answer to an ask of this one.
    pub(crate) fn new(limit: usize, first: u64) -> Self {
        let inner = Inner { last: first, ..Inner::default() };
        Self { inner: Mutex::new(inner), limit, sooner: Arc::default() }
    }

    /// Adds an ask that waits until `until`; `None` if too many wait.
    pub(crate) fn open(&self, completion: Completion, until: Instant) -> Option<Opened> {
        let mut inner = self.lock();
        if inner.waiting.len() >= self.limit {
            return None;
        }
        inner.last = inner.last.wrapping_add(1);
        let correlation = inner.last;
        inner.waiting.insert(correlation, Waiting { completion, position: None, has_reply: false });
        inner.add_deadline(until, correlation);
        let is_sooner = inner.next_look.is_none_or(|next| until < next);
        if !is_sooner {
            return Some(Opened { correlation, is_unwatched: false });
        }
        let is_unwatched = inner.next_look.replace(until).is_none();
        drop(inner);
        if !is_unwatched {
            self.sooner.notify_one();
        }
        Some(Opened { correlation, is_unwatched })
    }

    /// Ends the asks whose deadline is over, and gives the next one; none if nothing waits, and nobody is to look.
    fn look(&self, now: Instant) -> Option<Instant> {
        let mut late = Vec::new();
        let mut inner = self.lock();
        while let Some(Reverse((until, correlation))) = inner.deadlines.peek().copied() {
            if until > now && inner.waiting.contains_key(&correlation) {
                break;
            }
            inner.deadlines.pop();
            late.extend(inner.waiting.remove(&correlation));
        }
        inner.next_look = inner.deadlines.peek().map(|Reverse((until, _))| *until);
        let next = inner.next_look;
        drop(inner);
        late.into_iter().for_each(|waiting| (waiting.completion)(Answer::Late));
        next
    }

    /// Ends every ask that waits.
    fn abandon(&self) {
        let mut inner = self.lock();
        inner.next_look = None;
        inner.deadlines.clear();
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        let failed = Answer::Failed(Reason::NodeStopped);
        waiting.into_values().for_each(|waiting| (waiting.completion)(failed));
    }

    /// Notes where among the frames to the peer the ask went; ends it if they have ended meanwhile.
    pub(crate) fn sent(&self, correlation: u64, position: Position) {
        let mut inner = self.lock();
        match inner.waiting.get_mut(&correlation) {
            // It no longer fails with its link.
            Some(waiting) if waiting.has_reply => return,
            Some(waiting) => waiting.position = Some(position),
            None => {}
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
        let Waiting { completion, position, .. } = self.lock().waiting.remove(&correlation)?;
        completion(answer);
        position
    }

    /// Notes that the reply to an ask has come and is yet to be decoded: its link may end meanwhile. Gives its place
    /// among the frames to the peer, if that is known; `None` if nobody waits for a reply, or one has come already.
    pub(crate) fn reached(&self, correlation: u64) -> Option<Option<Position>> {
        let mut inner = self.lock();
        let waiting = inner.waiting.get_mut(&correlation).filter(|waiting| !waiting.has_reply)?;
        waiting.has_reply = true;
        Some(waiting.position.take())
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

impl Drop for Asks {
    fn drop(&mut self) {
        // Whoever looks after the deadlines ends.
        self.sooner.notify_one();
    }
}

impl Inner {
    /// Adds a deadline, and forgets those of asks that have ended when they are the most.
    fn add_deadline(&mut self, until: Instant, correlation: u64) {
        self.deadlines.push(Reverse((until, correlation)));
        if self.deadlines.len() > 2 * self.waiting.len() + SLACK {
            let waiting = &self.waiting;
            self.deadlines.retain(|Reverse((_, correlation))| waiting.contains_key(correlation));
        }
    }
}

/// Looks after the deadlines of asks as long as some wait. Whoever drops it early, even before it has begun, ends them.
pub(crate) fn watch(asks: &Arc<Asks>) -> impl Future<Output = ()> + Send + use<> {
    let sooner = Arc::clone(&asks.sooner);
    let watch = Watch { asks: Arc::downgrade(asks), is_over: false };
    async move {
        while let Some(next) = watch.asks.upgrade().and_then(|asks| asks.look(now())) {
            // Biased: an earlier deadline makes the other one a matter of later.
            tokio::select! { biased;
                () = sooner.notified() => {}
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
        watch.end();
    }
}

/// Ends what waits if the watch ends early, as with its runtime: nobody would.
struct Watch {
    asks: Weak<Asks>,
    is_over: bool,
}

impl Watch {
    fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(asks) = self.asks.upgrade().filter(|_| !self.is_over) {
            asks.abandon();
        }
    }
}

/// Deadlines of ended asks that are kept in any case.
const SLACK: usize = 64;

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

    use std::time::Duration;

    use super::*;

    const WAIT: Duration = Duration::from_secs(9);

    impl Asks {
        /// Adds an ask that nobody watches; gives its correlation.
        fn open_unwatched(&self, completion: Completion) -> u64 {
            self.open(completion, now() + WAIT).unwrap().correlation
        }
    }

    #[test]
    fn only_asks_that_were_written_fail_with_their_link() {
        let asks = Asks::new(8, u64::MAX);
        let (tx, rx) = mpsc::channel();
        let open = |name: &'static str| {
            let tx = tx.clone();
            asks.open_unwatched(Box::new(move |answer| match answer {
                Answer::Failed(reason) => tx.send((name, Some(reason))).unwrap(),
                Answer::Reply { .. } | Answer::Late => tx.send((name, None)).unwrap(),
            }))
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
        let late = asks.open_unwatched(Box::new(move |answer| match answer {
            Answer::Failed(reason) => tx.send(reason).unwrap(),
            Answer::Reply { .. } | Answer::Late => {}
        }));
        asks.fail_passed(Passed { ordinary: 1, bulk: 0 }, Reason::LinkLost);
        asks.fail_passed(Passed { ordinary: 2, bulk: 0 }, Reason::NodeStopped);
        assert_eq!(asks.len(), 1);
        asks.sent(late, Position::Ordinary(1));
        assert_eq!(rx.try_recv(), Ok(Reason::LinkLost));
        assert_eq!(asks.len(), 0);
    }

    #[test]
    fn too_many_asks_are_refused_and_a_forgotten_one_leaves_nothing() {
        let asks = Asks::new(1, 0);
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let correlation = asks.open_unwatched(Box::new(move |_| drop(inside)));
        assert!(asks.open(Box::new(|_| {}), now()).is_none());
        asks.forget(correlation);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    /// How an ask ended.
    #[derive(Debug, PartialEq, Eq)]
    enum End {
        Replied,
        Failed(Reason),
        Late,
    }

    /// Opens an ask; gives what to read its end from and whether a watch is to be started.
    fn open(asks: &Asks, wait: Duration) -> (mpsc::Receiver<End>, Opened) {
        let (tx, rx) = mpsc::channel();
        let completion = Box::new(move |answer: Answer<'_>| {
            let end = match answer {
                Answer::Reply { .. } => End::Replied,
                Answer::Failed(reason) => End::Failed(reason),
                Answer::Late => End::Late,
            };
            tx.send(end).unwrap();
        });
        (rx, asks.open(completion, now() + wait).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn one_watch_ends_each_ask_at_its_deadline() {
        let asks = Arc::new(Asks::new(8, 0));
        let (long, opened) = open(&asks, 10 * WAIT);
        assert!(opened.is_unwatched);
        let watching = tokio::spawn(watch(&asks));
        tokio::task::yield_now().await;
        let (short, opened) = open(&asks, WAIT);
        assert!(!opened.is_unwatched);
        let (answered, opened) = open(&asks, WAIT);
        asks.complete(opened.correlation, Answer::Failed(Reason::NoReply));
        assert_eq!(answered.try_recv(), Ok(End::Failed(Reason::NoReply)));
        tokio::time::sleep(WAIT - Duration::from_millis(1)).await;
        assert!(short.try_recv().is_err());
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(short.try_recv(), Ok(End::Late));
        assert!(long.try_recv().is_err() && !watching.is_finished());
        tokio::time::sleep(9 * WAIT).await;
        assert_eq!(long.try_recv(), Ok(End::Late));
        watching.await.unwrap();
        assert!(open(&asks, WAIT).1.is_unwatched, "the watch is over");
    }

    #[tokio::test(start_paused = true)]
    async fn asks_end_with_a_watch_that_ends_early() {
        let asks = Arc::new(Asks::new(8, 0));
        let (waiting, _) = open(&asks, WAIT);
        let watching = tokio::spawn(watch(&asks));
        tokio::task::yield_now().await;
        watching.abort();
        watching.await.unwrap_err();
        assert_eq!(waiting.try_recv(), Ok(End::Failed(Reason::NodeStopped)));
        let (waiting, opened) = open(&asks, WAIT);
        assert!(opened.is_unwatched);
        drop(watch(&asks));
        assert_eq!(waiting.try_recv(), Ok(End::Failed(Reason::NodeStopped)), "it had not begun");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_ends_with_what_it_looks_after() {
        let asks = Arc::new(Asks::new(8, 0));
        let (_rx, _) = open(&asks, WAIT);
        let watching = tokio::spawn(watch(&asks));
        tokio::task::yield_now().await;
        drop(asks);
        tokio::task::yield_now().await;
        assert!(watching.is_finished());
    }

    #[test]
    fn an_ask_whose_reply_has_come_no_longer_fails_with_its_link() {
        let asks = Asks::new(8, 0);
        let (rx, Opened { correlation, .. }) = open(&asks, WAIT);
        asks.sent(correlation, Position::Ordinary(1));
        assert_eq!(asks.reached(correlation), Some(Some(Position::Ordinary(1))));
        assert_eq!(asks.reached(correlation), None, "one reply is enough");
        // As when the asker was interrupted between its offer and this.
        asks.sent(correlation, Position::Ordinary(1));
        asks.fail_passed(Passed { ordinary: 1, bulk: 0 }, Reason::LinkLost);
        assert!(rx.try_recv().is_err());
        asks.complete(correlation, Answer::Reply { wire_name: "x", payload: &[] });
        assert_eq!(rx.try_recv(), Ok(End::Replied));
        assert_eq!(asks.reached(correlation), None, "nobody waits any more");
    }

    #[test]
    fn deadlines_of_ended_asks_are_forgotten() {
        let asks = Asks::new(8, 0);
        let (_rx, first) = open(&asks, WAIT);
        for _ in 0..10_000 {
            let (_rx, opened) = open(&asks, 2 * WAIT);
            asks.forget(opened.correlation);
            assert!(asks.lock().deadlines.len() <= 2 * 2 + SLACK);
        }
        asks.forget(first.correlation);
        assert_eq!(asks.look(now()), None);
        assert!(asks.lock().deadlines.is_empty());
    }
}
