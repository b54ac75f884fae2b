//! Says when bytes arrive that pass a line of some latency, jitter and bandwidth.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::Instant;

/// Keeps the order of what passes one line.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the last byte has left, at the bandwidth given.
    left_at: Instant,
    /// When the last byte arrives; none overtakes it.
    due: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { left_at: now, due: now }
    }

    /// Says when `length` bytes arrive that are sent now, `delay` after the last of them has left.
    pub(super) fn due(
        &mut self,
        length: usize,
        delay: Duration,
        bandwidth: Option<NonZeroU64>,
    ) -> Instant {
        let takes = bandwidth.map_or(Duration::ZERO, |rate| {
            let nanos = u128::from(1_000_000_000_u32) * length as u128 / u128::from(rate.get());
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        });
        self.left_at = self.left_at.max(Instant::now()) + takes;
        self.due = self.due.max(self.left_at + delay);
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_leave_one_after_the_other_and_never_overtake() {
        let (mut pace, now, ms) = (Pace::new(), Instant::now(), Duration::from_millis);
        let rate = NonZeroU64::new(1_000);
        assert_eq!(pace.due(100, ms(50), rate), now + ms(150));
        assert_eq!(pace.due(100, ms(20), rate), now + ms(220));
        assert_eq!(pace.due(0, ms(0), None), now + ms(220), "not before what was sent earlier");
        tokio::time::advance(ms(300)).await;
        assert_eq!(pace.due(100, ms(0), rate), now + ms(400), "an idle line saves nothing up");
    }
}
