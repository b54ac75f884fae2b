//! Watches a link for signs of life: any frame counts, silence is answered with a Ping.
//!
//! A Ping and its answer are signs of life for both sides, which would so ask at the same time again. Whoever asked last
//! waits a quarter longer: on an idle link the sides take turns, one Ping an interval in all, and each learns the
//! round-trip time with every other.

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
        let by_silence = later(self.heard, interval);
        let by_turn = |ping: Ping| later(later(ping.at, interval), interval / 4);
        self.pinged.map_or(by_silence, |ping| by_silence.max(by_turn(ping)))
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
        assert_eq!(liveness.check(at(6), INTERVAL, TIMEOUT), Silence::Fine);
        assert_eq!(liveness.check(at(7), INTERVAL, TIMEOUT), Silence::Ping(2));
        assert_eq!(liveness.check(at(10), INTERVAL, TIMEOUT), Silence::Dead);
    }

    #[test]
    fn the_sides_of_an_idle_link_take_turns() {
        let start = Instant::now();
        let mut sides = [Liveness::new(start), Liveness::new(start)];
        let mut asked = Vec::new();
        // Both look at the same times; a Ping and its answer take none.
        for quarter in 1..=60 {
            let now = start + INTERVAL / 4 * quarter;
            for side in 0..2 {
                if let Silence::Ping(_) = sides[side].check(now, INTERVAL, TIMEOUT) {
                    asked.push(side);
                    sides.iter_mut().for_each(|side| side.heard(now));
                }
            }
        }
        let turns: Vec<usize> = (0..15).map(|turn| turn % 2).collect();
        assert_eq!(asked, turns);
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
