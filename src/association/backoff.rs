//! Spaces the dials to a peer: exponential, jittered, bounded.

use std::time::Duration;

/// Gives the wait before each next dial.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// Counts a failure and gives the wait: `min · 2^failures`, at most `max`, jittered down to its half.
    pub(crate) fn next(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let doubled = self.min.saturating_mul(2u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        let whole = doubled.min(self.max);
        whole / 2 + whole.mul_f64(rng.f64() / 2.0)
    }

    /// Starts over at `min`.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_within_their_jitter() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next(&mut rng);
            let whole = Duration::from_millis(whole);
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} for {whole:?}");
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_millis(100));
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for _ in 0..1000 {
            assert!(backoff.next(&mut rng) <= Duration::from_secs(1));
        }
    }
}
