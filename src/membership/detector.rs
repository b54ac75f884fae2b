//! Suspects peers that fall silent: [`FailureDetector`], and its two kinds [`PhiAccrual`] and [`Deadline`].
//!
//! A detector watches one incarnation of one peer. It is told when heartbeats arrive and says, for any later time,
//! whether the silence since then is still ordinary. It has no clock, sends nothing and accuses nobody: that is for
//! [`Heartbeats`](super::heartbeat::Heartbeats), which owns one detector per peer it monitors.
//!
//! ```text
//! silence since the last sign of life
//! 0 ─────────── mean ─────────── mean + acceptable pause ── y · deviation ──▶
//!     available: phi grows slowly        phi < threshold    │ phi ≥ threshold: unavailable
//! ```
//!
//! Phi is the negative decimal logarithm of the chance that a heartbeat comes later still, the past intervals being
//! normally distributed (Hayashibara et al., "The φ accrual failure detector", 2004). At phi 8 one silence in 10⁸ is
//! suspected wrongly, as far as the past tells about the future; the acceptable pause is for what it does not tell.
//!
//! Any traffic of a peer ends a silence, but only heartbeats have a rhythm: intervals are taken between heartbeats.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// Judges the silence of one peer.
///
/// Times may come in any order: one that lies before the latest known changes nothing.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tellwire::membership::detector::{Deadline, FailureDetector};
///
/// let start = Instant::now();
/// let mut detector = Deadline::new(Duration::from_secs(1), Duration::from_secs(3));
/// detector.heartbeat(start);
/// assert!(detector.is_available(start + Duration::from_millis(3_999)));
/// assert!(!detector.is_available(start + Duration::from_secs(4)));
/// ```
pub trait FailureDetector: fmt::Debug + Send {
    /// Makes a detector with the same settings and no history, for another peer.
    fn fresh(&self) -> Box<dyn FailureDetector>;

    /// Notes a heartbeat at `now`; the first one begins the monitoring.
    fn heartbeat(&mut self, now: Instant);

    /// Notes another sign of life at `now`: it ends a silence and tells nothing about the rhythm of heartbeats.
    fn traffic(&mut self, now: Instant);

    /// Says whether a heartbeat was ever noted; without one every silence is ordinary.
    fn is_monitoring(&self) -> bool;

    /// Says whether the silence until `now` is ordinary.
    fn is_available(&self, now: Instant) -> bool;

    /// Measures the silence until `now`: 0 is none, and from 1 on the peer is unavailable. Never NaN, may be infinite.
    fn suspicion(&self, now: Instant) -> f64;
}

/// Says how a [`PhiAccrual`] judges.
///
/// A value outside its range is brought into it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PhiSettings {
    /// Phi from which a peer is unavailable. Default 8, from 1; 12 where machines stall often.
    pub threshold: f64,
    /// Intervals remembered; the oldest gives way. Default 1 000, from 1; 8 bytes each.
    pub max_samples: NonZeroUsize,
    /// Least deviation reckoned with, so that a very even rhythm does not make it nervous. Default 100 ms, from 1 ms.
    pub min_deviation: Duration,
    /// Silence beyond the usual interval that is still ordinary. Default 3 s; costs as much in detection time.
    pub acceptable_pause: Duration,
    /// Interval assumed until the first ones are known: that of the heartbeats. Default 1 s, from 1 ms.
    pub first_estimate: Duration,
}

impl Default for PhiSettings {
    fn default() -> Self {
        Self {
            threshold: 8.0,
            max_samples: NonZeroUsize::MIN.saturating_add(999),
            min_deviation: Duration::from_millis(100),
            acceptable_pause: Duration::from_secs(3),
            first_estimate: Duration::from_secs(1),
        }
    }
}

impl PhiSettings {
    /// Returns the silence after which a peer with an even rhythm is unavailable: 4.523 s by default.
    ///
    /// From a crash to the accusation up to one heartbeat interval passes before that silence begins to count, and up
    /// to one interval more until it is looked at.
    #[must_use]
    pub fn detection_time(&self) -> Duration {
        self.detection_time_at(self.min_deviation)
    }

    /// Returns the same for a peer that was heard once and never again: 5.306 s by default.
    #[must_use]
    pub fn first_detection_time(&self) -> Duration {
        self.detection_time_at(self.min_deviation.max(self.first_estimate / 4))
    }

    fn detection_time_at(&self, deviation: Duration) -> Duration {
        let seconds = deviation.as_secs_f64() * deviations_until(self.threshold);
        let beyond = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        self.first_estimate.saturating_add(self.acceptable_pause).saturating_add(beyond)
    }

    fn within_range(mut self) -> Self {
        self.threshold = threshold_within_range(self.threshold);
        self.max_samples = self.max_samples.min(MOST_SAMPLES);
        self.min_deviation = self.min_deviation.clamp(LEAST_TIME, LONGEST_TIME);
        self.first_estimate = self.first_estimate.clamp(LEAST_TIME, LONGEST_TIME);
        self.acceptable_pause = self.acceptable_pause.min(LONGEST_TIME);
        self
    }
}

/// Suspects a peer by how unlikely its silence is, given the intervals between its past heartbeats.
///
/// The default for members: it adapts to slow and uneven links, where a [`Deadline`] has to be set by hand.
#[derive(Debug, Clone)]
pub struct PhiAccrual {
    settings: PhiSettings,
    history: History,
    /// The last heartbeat: intervals are measured from it.
    beat: Option<Instant>,
    /// The last sign of life of any kind: the silence is measured from it.
    heard: Option<Instant>,
}

impl PhiAccrual {
    /// Makes a detector without a history.
    #[must_use]
    pub fn new(settings: PhiSettings) -> Self {
        let settings = settings.within_range();
        let history = History::new(settings.max_samples);
        Self { settings, history, beat: None, heard: None }
    }

    /// Returns phi of the silence until `now`: 0 before the first heartbeat, infinite when it is past all measure.
    #[must_use]
    pub fn phi(&self, now: Instant) -> f64 {
        self.heard.map_or(0.0, |heard| self.phi_since(heard, now))
    }

    fn phi_since(&self, last: Instant, now: Instant) -> f64 {
        let silence = millis(now.saturating_duration_since(last));
        let expected = self.history.mean() + millis(self.settings.acceptable_pause);
        let deviation = self.history.deviation().max(millis(self.settings.min_deviation));
        phi(silence, expected, deviation)
    }

    /// Remembers the interval that ends `now`, unless it was an outage: that must not make the next one look ordinary.
    fn remember(&mut self, last: Instant, now: Instant) {
        if self.phi_since(last, now) < self.settings.threshold {
            self.history.push(now.saturating_duration_since(last));
        }
    }
}

impl FailureDetector for PhiAccrual {
    fn fresh(&self) -> Box<dyn FailureDetector> {
        Box::new(Self::new(self.settings.clone()))
    }

    fn heartbeat(&mut self, now: Instant) {
        match self.beat {
            Some(last) if now < last => return,
            Some(last) => self.remember(last, now),
            None => self.history.assume(self.settings.first_estimate),
        }
        self.beat = Some(now);
        self.heard = self.heard.max(self.beat);
    }

    fn traffic(&mut self, now: Instant) {
        self.heard = self.heard.map(|heard| heard.max(now));
    }

    fn is_monitoring(&self) -> bool {
        self.beat.is_some()
    }

    fn is_available(&self, now: Instant) -> bool {
        self.phi(now) < self.settings.threshold
    }

    fn suspicion(&self, now: Instant) -> f64 {
        self.phi(now) / self.settings.threshold
    }
}

/// Suspects a peer when a fixed time has passed since its last sign of life.
///
/// Right where the rhythm says nothing: rare heartbeats over long ways, or tests.
#[derive(Debug, Clone)]
pub struct Deadline {
    limit: Duration,
    heard: Option<Instant>,
}

impl Deadline {
    /// Makes a detector that allows a silence of less than one heartbeat interval plus the acceptable pause.
    #[must_use]
    pub fn new(interval: Duration, acceptable_pause: Duration) -> Self {
        let limit = interval.saturating_add(acceptable_pause).max(LEAST_TIME);
        Self { limit, heard: None }
    }

    fn silence(&self, now: Instant) -> Duration {
        self.heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard))
    }
}

impl FailureDetector for Deadline {
    fn fresh(&self) -> Box<dyn FailureDetector> {
        Box::new(Self { limit: self.limit, heard: None })
    }

    fn heartbeat(&mut self, now: Instant) {
        self.heard = self.heard.max(Some(now));
    }

    fn traffic(&mut self, now: Instant) {
        self.heard = self.heard.map(|heard| heard.max(now));
    }

    fn is_monitoring(&self) -> bool {
        self.heard.is_some()
    }

    fn is_available(&self, now: Instant) -> bool {
        self.silence(now) < self.limit
    }

    fn suspicion(&self, now: Instant) -> f64 {
        self.silence(now).as_secs_f64() / self.limit.as_secs_f64()
    }
}

/// Remembers the latest intervals with their sums, in whole microseconds so that the sums stay exact for ever.
#[derive(Debug, Clone)]
struct History {
    max_samples: usize,
    samples: VecDeque<u64>,
    sum: u128,
    sum_of_squares: u128,
}

impl History {
    fn new(max_samples: NonZeroUsize) -> Self {
        let max_samples = max_samples.get();
        Self { max_samples, samples: VecDeque::new(), sum: 0, sum_of_squares: 0 }
    }

    /// Starts with two intervals whose mean is `estimate` and whose deviation is a quarter of it.
    fn assume(&mut self, estimate: Duration) {
        self.push(estimate - estimate / 4);
        self.push(estimate + estimate / 4);
    }

    fn push(&mut self, interval: Duration) {
        while self.samples.len() >= self.max_samples {
            let Some(oldest) = self.samples.pop_front().map(u128::from) else { break };
            self.sum -= oldest;
            self.sum_of_squares -= oldest * oldest;
        }
        let sample = u64::try_from(interval.min(LONGEST_TIME * 2).as_micros()).unwrap_or(u64::MAX);
        self.samples.push_back(sample);
        self.sum += u128::from(sample);
        self.sum_of_squares += u128::from(sample) * u128::from(sample);
    }

    /// Gives the mean in milliseconds, 0 without samples.
    fn mean(&self) -> f64 {
        self.sum as f64 / self.count() as f64 / MICROS_PER_MILLI
    }

    /// Gives the standard deviation of the whole population in milliseconds, 0 without samples.
    fn deviation(&self) -> f64 {
        // Subtracted as integers: as floats, two close large numbers would leave noise.
        let scaled = self.count() * self.sum_of_squares - self.sum * self.sum;
        (scaled as f64).sqrt() / self.count() as f64 / MICROS_PER_MILLI
    }

    fn count(&self) -> u128 {
        self.samples.len().max(1) as u128
    }
}

/// Gives phi of a silence: the normal distribution's tail by a logistic approximation good to 1 in 7 000.
fn phi(silence: f64, expected: f64, deviation: f64) -> f64 {
    let y = (silence - expected) / deviation;
    let e = (-y * slope(y)).exp();
    // Two forms of one value, each exact where the other has lost its digits. The chance is never above 1.
    let chance = if y > 0.0 { e / (1.0 + e) } else { 1.0 - 1.0 / (1.0 + e) };
    (-chance.log10()).max(0.0)
}

/// Gives how many deviations above the expected a silence is when its phi is `threshold`.
fn deviations_until(threshold: f64) -> f64 {
    let wanted = (10f64.powf(threshold_within_range(threshold)) - 1.0).ln();
    let (mut low, mut high) = (0.0, wanted);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if middle * slope(middle) < wanted { low = middle } else { high = middle }
    }
    high
}

/// Brings a threshold into its range; NaN becomes the least.
fn threshold_within_range(threshold: f64) -> f64 {
    if threshold.is_nan() {
        return LEAST_THRESHOLD;
    }
    threshold.clamp(LEAST_THRESHOLD, MOST_THRESHOLD)
}

fn slope(y: f64) -> f64 {
    1.5976 + 0.070566 * y * y
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Below this every late heartbeat would be an accusation.
const LEAST_THRESHOLD: f64 = 1.0;
/// Well below the phi at which floats end.
const MOST_THRESHOLD: f64 = 100.0;
/// Keeps divisors away from zero.
const LEAST_TIME: Duration = Duration::from_millis(1);
/// With `MOST_SAMPLES` keeps the exact sums within 128 bits.
const LONGEST_TIME: Duration = Duration::from_secs(24 * 60 * 60);
const MOST_SAMPLES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999_999);
const MICROS_PER_MILLI: f64 = 1_000.0;
/// Halvings after which the floats between two bounds are used up.
const HALVINGS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phi_is_that_of_the_tables() {
        let table = [
            (0.0, 0.0, 10.0, 2f64.log10()),
            (6.0, 0.0, 10.0, 0.562054),
            (15.0, 0.0, 10.0, 1.174269),
            (20.0, 0.0, 10.0, 1.642828),
            (25.0, 0.0, 10.0, 2.216071),
            (35.0, 0.0, 10.0, 3.742445),
            (40.0, 0.0, 10.0, 4.736695),
            (22.0, 20.0, 3.0, 0.597950),
            (10.0, 0.0, 1.0, 37.584713),
            (-25.0, 0.0, 1.0, 0.0),
            (1200.0, 1000.0, 100.0, 1.642828),
            (1400.0, 1000.0, 100.0, 4.736695),
            (1600.0, 1000.0, 100.0, 10.782601),
            (1700.0, 1000.0, 100.0, 15.368526),
            (1100.0, 1000.0, 500.0, 0.376074),
            (1100.0, 1000.0, 100.0, 0.799508),
        ];
        for (silence, expected, deviation, golden) in table {
            let phi = phi(silence, expected, deviation);
            assert!((phi - golden).abs() < 6e-7, "phi({silence}, {expected}, {deviation}) = {phi}");
        }
    }

    #[test]
    fn phi_past_all_measure_is_infinite_or_zero_and_never_nan() {
        assert_eq!(phi(22.0, 0.0, 1.0), f64::INFINITY);
        assert_eq!(phi(1e18, 0.0, 1.0), f64::INFINITY);
        assert_eq!(phi(-1e18, 0.0, 1.0), 0.0);
    }

    #[test]
    fn phi_grows_with_the_silence() {
        let phis = (-300..=300).map(|y| phi(f64::from(y) / 15.0, 0.0, 1.0));
        assert!(phis.is_sorted());
    }

    #[test]
    fn a_threshold_is_met_so_many_deviations_late() {
        for (threshold, golden) in [(3.0, 3.0589), (8.0, 5.2260), (10.0, 5.7990), (12.0, 6.2921)] {
            let y = deviations_until(threshold);
            assert!((y - golden).abs() < 6e-5, "{y} for {threshold}");
            assert!((phi(y, 0.0, 1.0) - threshold).abs() < 1e-6);
        }
    }

    #[test]
    fn detection_times_are_those_of_the_tables() {
        let members = PhiSettings::default();
        assert_eq!(members.detection_time().as_millis(), 4_522);
        assert_eq!(members.first_detection_time().as_millis(), 5_306);
        let pause = Duration::from_secs(10);
        let watch = PhiSettings { threshold: 10.0, acceptable_pause: pause, ..members };
        assert_eq!(watch.detection_time().as_millis(), 11_579);
        assert_eq!(watch.first_detection_time().as_millis(), 12_449);
    }

    #[test]
    fn a_history_gives_mean_and_deviation_of_the_population() {
        let mut history = History::new(size(1_000));
        for interval in [100, 200, 125, 340, 130] {
            history.push(Duration::from_millis(interval));
        }
        assert_eq!(history.mean(), 179.0);
        assert!((history.deviation().powi(2) - 7_584.0).abs() < 1e-6);
    }

    #[test]
    fn a_full_history_forgets_its_oldest_interval() {
        let mut history = History::new(size(3));
        let golden = [(90, 100.0, 66.6667), (140, 113.3333, 422.2222), (80, 103.3333, 688.8889)];
        history.push(Duration::from_millis(100));
        history.push(Duration::from_millis(110));
        for (interval, mean, variance) in golden {
            history.push(Duration::from_millis(interval));
            assert!((history.mean() - mean).abs() < 6e-5, "{}", history.mean());
            assert!((history.deviation().powi(2) - variance).abs() < 6e-5);
        }
    }

    #[test]
    fn a_recorded_even_rhythm_is_suspected_at_the_predicted_time() {
        let (mut detector, start) = (phi_detector(), Instant::now());
        let last = arrivals(&mut detector, start, (0..=300).map(|beat| beat * 1_000));
        let silence = first_suspicion(&detector, last);
        let predicted = PhiSettings::default().detection_time();
        assert!(silence.abs_diff(predicted) < Duration::from_millis(30), "{silence:?}");
    }

    #[test]
    fn a_peer_heard_once_is_suspected_at_the_predicted_time() {
        let (mut detector, start) = (phi_detector(), Instant::now());
        let last = arrivals(&mut detector, start, [0]);
        assert_eq!(first_suspicion(&detector, last), Duration::from_millis(5_307));
    }

    #[test]
    fn a_recorded_uneven_rhythm_with_pauses_is_not_suspected() {
        let recorded = [
            0, 1_003, 1_998, 3_010, 4_001, 5_250, 6_020, 7_004, 9_950, 9_951, 10_420, 11_003,
            12_010, 14_300, 14_301, 15_002, 16_011, 19_600, 19_601, 19_602, 20_010, 21_005,
        ];
        let (mut detector, start) = (phi_detector(), Instant::now());
        for arrival in recorded {
            let now = start + Duration::from_millis(arrival);
            assert!(detector.is_available(now), "suspected before {arrival}");
            detector.heartbeat(now);
        }
        let silence = first_suspicion(&detector, start + Duration::from_millis(21_005));
        // Slower than after an even rhythm, because a late heartbeat has been seen to be ordinary.
        assert!(
            silence > Duration::from_secs(5) && silence < Duration::from_secs(10),
            "{silence:?}"
        );
    }

    #[test]
    fn an_outage_does_not_make_the_next_one_look_ordinary() {
        let (mut detector, start) = (phi_detector(), Instant::now());
        let last = arrivals(&mut detector, start, (0..100).map(|beat| beat * 1_000));
        let before = first_suspicion(&detector, last);
        let back = last + Duration::from_secs(600);
        assert!(!detector.is_available(back));
        detector.heartbeat(back);
        assert!(detector.is_available(back));
        assert_eq!(first_suspicion(&detector, back), before);
    }

    #[test]
    fn traffic_ends_a_silence_and_leaves_the_rhythm_alone() {
        let (mut detector, start) = (phi_detector(), Instant::now());
        let last = arrivals(&mut detector, start, (0..100).map(|beat| beat * 1_000));
        let usual = first_suspicion(&detector, last);
        for step in 1..900 {
            detector.traffic(last + Duration::from_millis(step));
        }
        let heard = last + Duration::from_millis(899);
        assert_eq!(first_suspicion(&detector, heard), usual);
        detector.heartbeat(last + Duration::from_secs(1));
        let silence = first_suspicion(&detector, last + Duration::from_secs(1));
        assert!(silence.abs_diff(usual) < Duration::from_millis(5), "{silence:?}");
    }

    #[test]
    fn traffic_before_any_heartbeat_begins_nothing() {
        let now = Instant::now();
        let much_later = now + Duration::from_secs(1_000_000);
        for mut detector in both() {
            detector.traffic(now);
            assert!(!detector.is_monitoring());
            assert!(detector.is_available(much_later));
            assert_eq!(detector.suspicion(much_later), 0.0);
        }
    }

    #[test]
    fn a_deadline_is_strict() {
        let start = Instant::now();
        let mut detector = Deadline::new(Duration::from_secs(3), Duration::from_secs(10));
        detector.heartbeat(start);
        assert!(detector.is_available(start + Duration::from_nanos(12_999_999_999)));
        assert!(!detector.is_available(start + Duration::from_secs(13)));
        assert_eq!(detector.suspicion(start + Duration::from_secs(13)), 1.0);
        detector.traffic(start + Duration::from_secs(20));
        assert!(detector.is_available(start + Duration::from_secs(32)));
    }

    #[test]
    fn times_out_of_order_change_nothing() {
        let start = Instant::now();
        let (later, latest) = (start + Duration::from_secs(60), start + Duration::from_secs(61));
        for mut detector in both() {
            detector.heartbeat(later);
            detector.heartbeat(latest);
            let known = format!("{detector:?}");
            detector.heartbeat(start);
            detector.traffic(start);
            assert_eq!(format!("{detector:?}"), known);
            assert_eq!(detector.suspicion(start), detector.suspicion(latest));
            assert!(detector.is_available(start));
        }
    }

    #[test]
    fn a_fresh_detector_has_the_settings_and_no_history() {
        let start = Instant::now();
        for mut detector in both() {
            let untouched = format!("{detector:?}");
            detector.heartbeat(start);
            assert_ne!(format!("{detector:?}"), untouched);
            assert_eq!(format!("{:?}", detector.fresh()), untouched);
        }
    }

    #[test]
    fn settings_out_of_range_neither_panic_nor_give_nan() {
        let start = Instant::now();
        for threshold in [f64::NAN, f64::NEG_INFINITY, -1.0, 0.0, f64::INFINITY] {
            for time in [Duration::ZERO, Duration::MAX] {
                let settings = PhiSettings {
                    threshold,
                    max_samples: NonZeroUsize::MIN,
                    min_deviation: time,
                    acceptable_pause: time,
                    first_estimate: time,
                };
                assert!(settings.detection_time() <= settings.first_detection_time());
                let mut detector = PhiAccrual::new(settings);
                for seconds in [0, 0, 1, 100_000_000] {
                    detector.heartbeat(start + Duration::from_secs(seconds));
                    assert!(!detector.suspicion(start + Duration::from_secs(200)).is_nan());
                }
            }
        }
    }

    fn both() -> [Box<dyn FailureDetector>; 2] {
        let second = Duration::from_secs(1);
        [Box::new(phi_detector()), Box::new(Deadline::new(second, second))]
    }

    fn phi_detector() -> PhiAccrual {
        PhiAccrual::new(PhiSettings::default())
    }

    fn size(samples: usize) -> NonZeroUsize {
        NonZeroUsize::new(samples).unwrap()
    }

    /// Plays recorded arrivals, in milliseconds from `start`, and gives the last.
    fn arrivals(
        detector: &mut PhiAccrual,
        start: Instant,
        recorded: impl IntoIterator<Item = u64>,
    ) -> Instant {
        let mut last = start;
        for arrival in recorded {
            last = start + Duration::from_millis(arrival);
            detector.heartbeat(last);
        }
        last
    }

    /// Gives the first silence, in whole milliseconds, that is not ordinary.
    fn first_suspicion(detector: &PhiAccrual, last: Instant) -> Duration {
        let mut silences = (0..100_000).map(Duration::from_millis);
        silences.find(|silence| !detector.is_available(last + *silence)).unwrap()
    }
}
