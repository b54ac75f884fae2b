//! Counts what arrives: how much, how often, in which order, between when and when.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::figures;

/// Counts the notes of one run. One actor counts, so loads and stores do; another thread reads.
pub struct Arrivals {
    epoch: Instant,
    /// One bit for each number.
    seen: Box<[AtomicU64]>,
    expected: AtomicU64,
    arrived: AtomicU64,
    doubled: AtomicU64,
    disorder: AtomicU64,
    steps_back: AtomicU64,
    /// The number that would follow the highest so far.
    next: AtomicU64,
    /// The number that arrived last.
    before: AtomicU64,
    /// When the first note arrived, in nanoseconds since `epoch`.
    first: AtomicU64,
    /// When the clock was last looked at, and how many had arrived by then.
    last: AtomicU64,
    arrived_by_last: AtomicU64,
    /// The processor time of this process when the run began, in nanoseconds.
    cpu: AtomicU64,
}

impl Arrivals {
    /// Makes a count with room for numbers below `most`.
    pub(crate) fn new(most: u64) -> Self {
        let words = usize::try_from(most / 64 + 1).unwrap_or(usize::MAX);
        let zero = AtomicU64::default;
        Self {
            epoch: Instant::now(),
            seen: std::iter::repeat_with(zero).take(words).collect(),
            expected: zero(),
            arrived: zero(),
            doubled: zero(),
            disorder: zero(),
            steps_back: zero(),
            next: zero(),
            before: zero(),
            first: zero(),
            last: zero(),
            arrived_by_last: zero(),
            cpu: zero(),
        }
    }

    /// Counts the note with this number.
    pub fn count(&self, sequence: u64) {
        let arrived = add_one(&self.arrived);
        if arrived == 1 {
            self.first.store(self.now(), Relaxed);
        }
        // A look at the clock at every note would cost more than the counting.
        if arrived % CLOCK == 1 || arrived == self.expected.load(Relaxed) {
            self.last.store(self.now(), Relaxed);
            self.arrived_by_last.store(arrived, Relaxed);
        }
        if self.is_second(sequence) {
            add_one(&self.doubled);
        } else if sequence < self.next.load(Relaxed) {
            add_one(&self.disorder);
            if sequence < self.before.load(Relaxed) {
                add_one(&self.steps_back);
            }
        } else {
            self.next.store(sequence + 1, Relaxed);
        }
        self.before.store(sequence, Relaxed);
    }

    /// Begins a run of so many notes.
    pub(crate) fn begin(&self, expected: u64) {
        self.seen.iter().for_each(|word| word.store(0, Relaxed));
        let counts = [&self.arrived, &self.doubled, &self.disorder, &self.steps_back];
        let places = [&self.next, &self.before, &self.first, &self.last, &self.arrived_by_last];
        counts.into_iter().chain(places).for_each(|count| count.store(0, Relaxed));
        self.expected.store(expected, Relaxed);
        self.cpu.store(figures::cpu(), Relaxed);
    }

    /// Waits until everything has arrived, or nothing any more, and says what has.
    pub(crate) fn report(&self) -> Report {
        let expected = self.expected.load(Relaxed);
        let (begun, mut changed, mut before) = (Instant::now(), Instant::now(), 0);
        loop {
            let arrived = self.arrived.load(Relaxed);
            if arrived != before {
                (changed, before) = (Instant::now(), arrived);
            }
            if arrived >= expected || changed.elapsed() > QUIET || begun.elapsed() > AT_MOST {
                break;
            }
            std::thread::sleep(POLL);
        }
        self.count_up(expected)
    }

    fn count_up(&self, expected: u64) -> Report {
        let (arrived, doubled) = (self.arrived.load(Relaxed), self.doubled.load(Relaxed));
        Report {
            arrived,
            lost: (expected + doubled).saturating_sub(arrived),
            disorder: self.disorder.load(Relaxed),
            steps_back: self.steps_back.load(Relaxed),
            doubled,
            timed: self.arrived_by_last.load(Relaxed).saturating_sub(1),
            nanos: self.last.load(Relaxed) - self.first.load(Relaxed),
            cpu: figures::cpu() - self.cpu.load(Relaxed),
        }
    }

    fn is_second(&self, sequence: u64) -> bool {
        let at = usize::try_from(sequence / 64).unwrap_or(usize::MAX);
        // A number that was never sent is counted with the doubled ones.
        let Some(word) = self.seen.get(at) else { return true };
        let (bits, bit) = (word.load(Relaxed), 1 << (sequence % 64));
        word.store(bits | bit, Relaxed);
        bits & bit != 0
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What a receiver has counted.
#[derive(Debug, PartialEq)]
pub(crate) struct Report {
    /// Notes that arrived, doubled ones too.
    pub(crate) arrived: u64,
    /// Numbers that never arrived.
    pub(crate) lost: u64,
    /// Notes that arrived behind one that was sent later, as RFC 4737 counts reordered packets.
    pub(crate) disorder: u64,
    /// Those of them whose number is lower than that of the note just before.
    pub(crate) steps_back: u64,
    /// Notes whose number had arrived before.
    pub(crate) doubled: u64,
    /// Notes that arrived within `nanos`, behind the first.
    pub(crate) timed: u64,
    /// The time from the first note to the last, in nanoseconds.
    pub(crate) nanos: u64,
    /// The processor time of the receiving process, in nanoseconds.
    pub(crate) cpu: u64,
}

/// Adds without the bus lock that more than one writer would need.
fn add_one(count: &AtomicU64) -> u64 {
    let more = count.load(Relaxed) + 1;
    count.store(more, Relaxed);
    more
}

/// The clock is looked at once for so many notes.
const CLOCK: u64 = 64;
const POLL: Duration = Duration::from_millis(10);
/// What has not arrived after so long a silence is lost.
const QUIET: Duration = Duration::from_secs(5);
/// What has not arrived so long after the last tell is lost too.
const AT_MOST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn after(sequences: &[u64], expected: u64) -> Report {
        let arrivals = Arrivals::new(100);
        arrivals.begin(expected);
        sequences.iter().for_each(|sequence| arrivals.count(*sequence));
        arrivals.count_up(expected)
    }

    #[test]
    fn what_came_in_order_is_neither_lost_nor_out_of_order() {
        let report = after(&[0, 1, 2, 3], 4);
        assert_eq!((report.arrived, report.lost, report.disorder, report.doubled), (4, 0, 0, 0));
        assert_eq!(report.timed, 3);
    }

    #[test]
    fn a_gap_is_a_loss_and_no_disorder() {
        let report = after(&[0, 2, 3], 4);
        assert_eq!((report.arrived, report.lost, report.disorder, report.doubled), (3, 1, 0, 0));
    }

    #[test]
    fn whoever_comes_behind_a_later_one_is_out_of_order() {
        let report = after(&[0, 3, 1, 2], 4);
        assert_eq!((report.arrived, report.lost, report.disorder, report.doubled), (4, 0, 2, 0));
        assert_eq!(report.steps_back, 1);
    }

    #[test]
    fn a_doubled_note_hides_no_loss() {
        let report = after(&[0, 1, 1, 3], 4);
        assert_eq!((report.arrived, report.lost, report.disorder, report.doubled), (4, 1, 0, 1));
    }

    #[test]
    fn a_new_run_forgets_the_one_before() {
        let arrivals = Arrivals::new(100);
        arrivals.begin(2);
        [1, 0].iter().for_each(|sequence| arrivals.count(*sequence));
        arrivals.begin(2);
        [0, 1].iter().for_each(|sequence| arrivals.count(*sequence));
        let report = arrivals.count_up(2);
        assert_eq!((report.arrived, report.lost, report.disorder, report.doubled), (2, 0, 0, 0));
    }
}
