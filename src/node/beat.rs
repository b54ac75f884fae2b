//! Delays timers to a beat that all links of a node share.
//!
//! A node with thousands of idle links asks some hundred peers a second for signs of life. Each alone would wake a
//! thread, and the sides of its link twice; on a beat, many come due at once and share the wake-ups. What may be an
//! eighth of a Ping interval late is no worse for it.
//!
//! ```text
//! due       |  . .   |    .   |        |.  . .  |
//! woken     |        |2       |1       |        |3
//! ```

use std::time::{Duration, Instant};

/// Delays timers to the next multiple of its length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beat {
    begin: Instant,
    length: Duration,
}

impl Beat {
    /// Begins with `begin`; its length follows from how long an idle link waits before a Ping.
    pub(crate) fn new(begin: Instant, ping_interval: Duration) -> Self {
        Self { begin, length: ping_interval / BEATS_IN_AN_INTERVAL }
    }

    /// Gives the first beat that is not before `due`.
    pub(crate) fn not_before(&self, due: Instant) -> Instant {
        let length = self.length.as_nanos();
        let since = due.saturating_duration_since(self.begin).as_nanos();
        let beyond = since.checked_rem(length).unwrap_or(0);
        let late = if beyond == 0 { 0 } else { length - beyond };
        due.checked_add(Duration::from_nanos(u64::try_from(late).unwrap_or(0))).unwrap_or(due)
    }
}

/// The sides of an idle link take turns with a quarter of an interval between them: two beats, so that they still do.
const BEATS_IN_AN_INTERVAL: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_between_two_beats_comes_with_the_later_one() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let beat = Beat::new(begin, Duration::from_millis(800));
        let due = [0, 1, 50, 100, 101, 199, 200, 123_401];
        let delayed = [0, 100, 100, 100, 200, 200, 200, 123_500];
        assert_eq!(due.map(|due| beat.not_before(at(due))), delayed.map(at));
    }

    #[test]
    fn an_interval_too_short_to_part_delays_nothing() {
        let begin = Instant::now();
        let beat = Beat::new(begin, Duration::from_nanos(7));
        let due = begin + Duration::from_nanos(7);
        assert_eq!(beat.not_before(due), due);
    }

    #[test]
    fn what_was_due_before_the_first_beat_is_due() {
        let begin = Instant::now() + Duration::from_secs(1);
        let beat = Beat::new(begin, Duration::from_secs(3));
        let due = begin - Duration::from_millis(999);
        assert_eq!(beat.not_before(due), due);
    }
}
