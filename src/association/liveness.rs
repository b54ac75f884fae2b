//! Watches a link for signs of life: any frame counts, silence is answered with a Ping.

use std::time::{Duration, Instant};

use crate::association::lifetime::later;

/// Knows when the peer was last heard, and what silence asks for.
#[derive(Debug, Clone)]
pub(crate) struct Liveness {
    heard: Instant,
    pinged: Option<Ping>,
    nonce: u64,
}

#[derive(Debug, Clone, Copy)]
struct Ping {
    nonce: u64,
    at: Instant,
}

/// What the silence of a peer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nothing yet.
    Fine,
    /// Ask for a sign of life.
    Ping(u64),
    /// The link is dead.
    Dead,
}

impl Liveness {
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: now, pinged: None, nonce: 0 }
    }

    /// Notes that a frame came in at `at`.
    pub(crate) fn heard(&mut self, at: Instant) {
        self.heard = self.heard.max(at);
    }

    /// Notes a Pong and gives the round trip, if it answers the latest Ping.
    pub(crate) fn pong(&mut self, now: Instant, nonce: u64) -> Option<Duration> {
        let ping = self.pinged.filter(|ping| ping.nonce == nonce)?;
        Some(now.saturating_duration_since(ping.at))
    }

    /// Says what the silence until `now` asks for; a Ping is asked for once an interval.
    pub(crate) fn check(&mut self, now: Instant, interval: Duration, timeout: Duration) -> Silence {
        if now >= later(self.heard, timeout) {
            return Silence::Dead;
        }
        if now < self.next_ping(interval) {
            return Silence::Fine;
        }
        self.nonce += 1;
        self.pinged = Some(Ping { nonce: self.nonce, at: now });
        Silence::Ping(self.nonce)
    }

    /// Gives the time of the next check.
    pub(crate) fn due(&self, interval: Duration, timeout: Duration) -> Instant {
        self.next_ping(interval).min(later(self.heard, timeout))
    }

    fn next_ping(&self, interval: Duration) -> Instant {
        let pinged = self.pinged.map_or(self.heard, |ping| ping.at);
        later(self.heard.max(pinged), interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(3);
    const TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn silence_is_asked_about_and_then_fatal() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut liveness = Liveness::new(start);
        assert_eq!(liveness.check(at(2), INTERVAL, TIMEOUT), Silence::Fine);
        assert_eq!(liveness.check(at(3), INTERVAL, TIMEOUT), Silence::Ping(1));
        assert_eq!(liveness.check(at(4), INTERVAL, TIMEOUT), Silence::Fine);
        assert_eq!(liveness.check(at(6), INTERVAL, TIMEOUT), Silence::Ping(2));
        assert_eq!(liveness.check(at(10), INTERVAL, TIMEOUT), Silence::Dead);
    }

    #[test]
    fn any_frame_puts_the_end_off() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        liveness.heard(start + Duration::from_secs(9));
        assert_eq!(liveness.check(start + TIMEOUT, INTERVAL, TIMEOUT), Silence::Fine);
        assert_eq!(liveness.due(INTERVAL, TIMEOUT), start + Duration::from_secs(12));
    }

    #[test]
    fn a_pong_of_another_ping_gives_no_round_trip() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        assert_eq!(liveness.check(start + INTERVAL, INTERVAL, TIMEOUT), Silence::Ping(1));
        let later = start + INTERVAL + Duration::from_millis(5);
        assert_eq!(liveness.pong(later, 2), None);
        assert_eq!(liveness.pong(later, 1), Some(Duration::from_millis(5)));
    }
}
