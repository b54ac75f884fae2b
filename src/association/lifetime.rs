//! Dials, waits, watches and ends: what the machine does apart from the handshake.

use std::time::{Duration, Instant};

use crate::association::control::ControlPdu;
use crate::association::liveness::Silence;
use crate::association::state::{Draining, Own, Pending, Phase, State};
use crate::association::{Action, Association, LinkId};
use crate::event::Reason;

impl Association {
    pub(super) fn dial(&mut self, now: Instant) {
        let link = self.new_link();
        let timeout = self.settings.connect_timeout;
        let own = Own { link, phase: Phase::Dialing, knew: None, until: later(now, timeout) };
        self.state = State::Pending(Pending { own: Some(own), parked: None });
        self.actions.push_back(Action::Dial { link, timeout });
    }

    pub(super) fn pong(&mut self, now: Instant, link: LinkId, nonce: u64) {
        self.prove(now, link);
        self.choose(now);
        if let State::Up(up) = &mut self.state {
            if up.link == link {
                self.round_trip = up.liveness.pong(now, nonce).or(self.round_trip);
            }
        }
    }

    pub(super) fn goodbye(&mut self, now: Instant, link: LinkId) {
        match &mut self.state {
            State::Up(up) if up.link == link => {
                self.actions.push_back(Action::Transmit { link, pdu: ControlPdu::Goodbye });
                self.fence(now, "the peer said goodbye");
                self.close_pending("the peer said goodbye");
                self.state = State::Idle;
                self.away_since = None;
                let why = "the peer said goodbye".to_owned();
                self.actions.push_back(Action::GiveUp { reason: Reason::PeerStopped, why });
                if self.is_stopping {
                    self.stopped();
                }
            }
            State::Draining(draining) if draining.link == link => {
                draining.has_heard = true;
                self.stop_if_drained();
            }
            State::Idle
            | State::Pending(_)
            | State::Up(_)
            | State::Draining(_)
            | State::Backoff { .. } => {
                self.violation(now, link, "a Goodbye out of turn");
            }
        }
    }

    /// Stops the active link, if any, and keeps what was parked beside it.
    pub(super) fn fence(&mut self, now: Instant, why: &'static str) {
        let State::Up(up) = &mut self.state else { return };
        let (link, parked) = (up.link, up.parked.take());
        self.state = State::Pending(Pending { own: None, parked });
        self.away_since.get_or_insert(now);
        self.actions.push_back(Action::Deactivate { why: why.to_owned() });
        self.close(link, why);
    }

    pub(super) fn up_lost(&mut self, now: Instant, why: String) {
        let State::Up(up) = &mut self.state else { return };
        if now.saturating_duration_since(up.since) >= self.settings.backoff_max {
            self.backoff.reset();
        }
        let parked = up.parked.take();
        self.state = State::Pending(Pending { own: None, parked });
        self.away_since.get_or_insert(now);
        self.actions.push_back(Action::Deactivate { why });
        self.retry_if_alone(now);
    }

    pub(super) fn own_failed(&mut self, now: Instant, why: String) {
        self.last_why = why;
        if let State::Pending(pending) = &mut self.state {
            pending.own = None;
        }
        self.retry_if_alone(now);
    }

    /// Lets the chooser choose, or waits to dial when no link competes any more and one is wanted.
    pub(super) fn retry_if_alone(&mut self, now: Instant) {
        if matches!(&self.state, State::Pending(Pending { own: None, parked: None })) {
            if self.is_stopping {
                return self.stopped();
            }
            let is_wanted = self.away_since.is_some();
            self.state = if is_wanted { self.back_off(now) } else { State::Idle };
        } else {
            self.choose(now);
        }
    }

    pub(super) fn pending_timeout(&mut self, now: Instant) {
        let State::Pending(pending) = &mut self.state else { return };
        let parked = pending.parked.take_if(|parked| now >= parked.until).map(|parked| parked.link);
        let own = pending.own.as_ref().filter(|own| now >= own.until).map(|own| own.link);
        if let Some(link) = parked {
            self.close(link, "the handshake took too long");
        }
        if let Some(link) = own {
            self.close(link, "the dial or its handshake took too long");
            self.own_failed(now, "the dial or its handshake took too long".to_owned());
        } else if parked.is_some() {
            self.retry_if_alone(now);
        }
    }

    pub(super) fn up_timeout(&mut self, now: Instant) {
        let State::Up(up) = &mut self.state else { return };
        let late = up.parked.take_if(|parked| now >= parked.until).map(|parked| parked.link);
        let link = up.link;
        let (ping, dead) = (self.settings.ping_interval, self.settings.liveness_timeout);
        let silence = up.liveness.check(now, ping, dead);
        if let Some(late) = late {
            self.close(late, "the handshake took too long");
        }
        match silence {
            Silence::Fine => {}
            Silence::Ping(nonce) => {
                let pdu = ControlPdu::Ping { nonce, received: 0 };
                self.actions.push_back(Action::Transmit { link, pdu });
            }
            Silence::Dead => {
                self.close(link, "the peer was silent for too long");
                self.last_why = "the peer was silent for too long".to_owned();
                self.up_lost(now, self.last_why.clone());
            }
        }
    }

    pub(super) fn give_up_at(&self) -> Option<Instant> {
        if matches!(self.state, State::Idle | State::Draining(_)) {
            return None;
        }
        self.away_since.map(|since| later(since, self.settings.give_up_after))
    }

    pub(super) fn give_up(&mut self, reason: Reason) {
        self.close_pending("given up");
        self.state = State::Idle;
        self.away_since = None;
        self.backoff.reset();
        self.actions.push_back(Action::GiveUp { reason, why: self.last_why.clone() });
        if self.is_stopping {
            self.stopped();
        }
    }

    pub(super) fn drain(&mut self, now: Instant) {
        let State::Up(up) = &mut self.state else { return };
        let (link, parked) = (up.link, up.parked.take());
        if let Some(parked) = parked {
            self.close(parked.link, "this node stops");
        }
        let until = later(now, self.settings.drain_timeout);
        self.state = State::Draining(Draining { link, until, has_said: false, has_heard: false });
        self.actions.push_back(Action::Flush { link });
    }

    pub(super) fn stop_if_drained(&mut self) {
        let State::Draining(draining) = &self.state else { return };
        if draining.has_said && draining.has_heard {
            let link = draining.link;
            self.has_drained = true;
            self.close(link, "both sides said goodbye");
            self.stopped();
        }
    }

    pub(super) fn stopped(&mut self) {
        self.is_stopping = true;
        self.state = State::Idle;
        self.actions.push_back(Action::Stopped);
    }

    /// Ends a link whose peer breaks the rules.
    pub(super) fn violation(&mut self, now: Instant, link: LinkId, why: &'static str) {
        self.close(link, why);
        self.handle_link_lost(now, link, why.to_owned());
    }

    pub(super) fn close(&mut self, link: LinkId, why: &'static str) {
        self.actions.push_back(Action::Close { link, why });
    }

    pub(super) fn close_pending(&mut self, why: &'static str) {
        let State::Pending(pending) = &mut self.state else { return };
        let own = pending.own.take().map(|own| own.link);
        let parked = pending.parked.take().map(|parked| parked.link);
        for link in own.into_iter().chain(parked) {
            self.close(link, why);
        }
    }

    fn back_off(&mut self, now: Instant) -> State {
        State::Backoff { until: later(now, self.backoff.next(&mut self.rng)) }
    }
}

/// Adds a wait that may be as long as `Duration::MAX`, which stands for no end.
pub(super) fn later(at: Instant, wait: Duration) -> Instant {
    at.checked_add(wait).unwrap_or_else(|| at + NO_END)
}

/// No run of a node is longer: 30 years.
const NO_END: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
