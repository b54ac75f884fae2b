//! Keeps one logical connection to one peer address: which link carries the users' frames, and when to dial.
//!
//! Floor 2: a machine without IO, clock or randomness of its own. `handle_*` takes what happened, `poll_action`
//! gives what to do until it returns None, `poll_timeout` says when to call `handle_timeout`. It knows links by
//! number and never sees a user's frame; `node/driver.rs` owns the links and carries the actions out.
//!
//! ```text
//!            demand                  dialled              Welcome/Hello + choice
//!   Idle ───────────────▶ Dialing ───────────▶ Handshaking ───────────────────▶ Up
//!    ▲ ▲                     │ failed               │ lost, late, refused        │ │
//!    │ │ given up            ▼                      │                  link lost │ │ stop
//!    │ └──────────────── Backoff ◀──────────────────┴────────────────────────────┘ ▼
//!    │                      └── waited, urged ──▶ Dialing                      Draining
//!    └────────────────────── goodbye heard, or late ◀──────────────────────────────┘
//! ```
//! A Hello from the peer leads from Idle, Dialing or Backoff to Handshaking.
//!
//! **Which link.** Both sides may dial at once, and a link may be dead for one side only. So a link carries
//! users' frames only after its *activation*, and the node with the smaller address (the chooser) decides: its
//! own dial if that succeeds, else the peer's. The peer keeps its own dial open until the choice arrives.
//! No user's frame is ever written to a link that is not chosen, hence nothing is lost or reordered by a race.
//! Activations are numbered per pair of incarnations. A Hello names the last number its sender has seen: one
//! that knows the present activation and dials all the same has lost the link, so it is replaced; one that
//! does not know it was sent before the choice arrived, and is parked until it closes. The peer obeys whatever
//! the number: a chooser that has forgotten it begins at 1 again, and both then count their frames anew.
//!
//! **Incarnations.** Another uid at the same address belongs to a later process only if that process has answered
//! something that was sent since the known one was met: by its Activate, by the Pong of a Ping on its parked link,
//! or by its Welcome to a Hello sent since. A Hello or Welcome alone may be what a dead process left in flight.
//! What is replaced is quarantined: its links are closed, and it is refused from then on.
//!
//! **Accounting.** Each activation carries how many frames its sender has received from the peer's incarnation.
//! Older links are fenced by then, so the difference to what was written is exactly what was lost.
//!
//! **Quarantine.** The present incarnation may be quarantined from outside: its link is closed, what waits for it
//! is given up, and it is refused when it dials. A demand still dials, with back-off, since a later incarnation may
//! have taken its place; a Welcome of the quarantined one ends in Quarantined again, which is Idle with a fenced peer.

mod backoff;
pub(crate) mod control;
mod handshake;
mod lifetime;
mod liveness;
mod quarantine;
mod state;
mod summed;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::address::{Address, Uid, UniqueAddress};
use crate::association::backoff::Backoff;
use crate::association::control::{ControlPdu, Hello, Identity, Refusal, Seen, Terms};
use crate::association::handshake::{PROOF, QUARANTINED};
use crate::association::lifetime::later;
use crate::association::quarantine::Quarantine;
use crate::association::state::{Draining, Parked, Peer, Pending, Phase, State};
use crate::event::Reason;
use crate::settings::AssociationSettings;

/// Numbers the links of one association.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkId(u64);

/// What the shell is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Dial the peer and report as this link.
    Dial { link: LinkId, timeout: Duration },
    /// Send the Hello on the link.
    Greet { link: LinkId, hello: Hello },
    /// Send the PDU on the link, stamped with what was received so far.
    Transmit { link: LinkId, pdu: ControlPdu },
    /// Let users' frames flow on this link, both ways; send the Activate first.
    Activate { link: LinkId, peer: UniqueAddress, terms: Terms, generation: u64 },
    /// Stop users' frames: the active link is fenced, whatever it still brings is not delivered.
    Deactivate { why: String },
    /// The peer has received so many frames over all links before the present one; the rest is lost.
    Settle { received: u64 },
    /// Another incarnation answers: what the old one held is gone.
    Incarnation { previous: UniqueAddress, current: UniqueAddress },
    /// Turn what waits for the peer into dead letters.
    GiveUp { reason: Reason, why: String },
    /// Write what waits, then call `handle_flushed`.
    Flush { link: LinkId },
    /// Close the link after writing its last control frames.
    Close { link: LinkId, why: &'static str },
    /// A handshake was refused, by this side or the other.
    Refused { uid: Option<Uid>, why: Refusal },
    /// Nothing more will come: the association has stopped.
    Stopped,
}

/// Names the state for snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AssociationState {
    /// Nothing to send, no link.
    Idle,
    /// A dial is in flight.
    Dialing,
    /// A link exists, the choice is not made yet.
    Handshaking,
    /// Tells flow.
    Up,
    /// Flushing before the end.
    Draining,
    /// Waiting before the next dial.
    Backoff,
    /// The known incarnation is never talked to again; a later one will be.
    Quarantined,
}

/// The machine: one peer address, whatever its incarnations.
#[derive(Debug, Clone)]
pub(crate) struct Association {
    settings: AssociationSettings,
    identity: Identity,
    remote: Address,
    state: State,
    peer: Option<Peer>,
    quarantine: Quarantine,
    backoff: Backoff,
    rng: fastrand::Rng,
    /// Since when there is no link although one is wanted: the give-up clock.
    away_since: Option<Instant>,
    last_why: String,
    round_trip: Option<Duration>,
    next_link: u64,
    is_stopping: bool,
    has_drained: bool,
    actions: VecDeque<Action>,
}

impl Association {
    pub(crate) fn new(
        settings: AssociationSettings,
        identity: Identity,
        remote: Address,
        seed: u64,
    ) -> Self {
        Self {
            backoff: Backoff::new(settings.backoff_min, settings.backoff_max),
            settings,
            identity,
            remote,
            state: State::Idle,
            peer: None,
            quarantine: Quarantine::default(),
            rng: fastrand::Rng::with_seed(seed),
            away_since: None,
            last_why: String::new(),
            round_trip: None,
            next_link: 0,
            is_stopping: false,
            has_drained: false,
            actions: VecDeque::new(),
        }
    }

    /// Numbers a link that the shell accepted.
    pub(crate) fn new_link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    /// Takes note that something waits for the peer; to be called whenever the first thing waits, in any state.
    pub(crate) fn handle_demand(&mut self, now: Instant) {
        if self.is_stopping {
            return;
        }
        match &self.state {
            State::Idle => {
                self.away_since.get_or_insert(now);
                self.dial(now);
            }
            State::Backoff { .. } | State::Pending(_) => {
                self.away_since.get_or_insert(now);
            }
            State::Up(_) | State::Draining(_) => {}
        }
    }

    /// Takes note that the peer may be back: if it is waited for, the back-off ends at once.
    ///
    /// The next wait is none the shorter for it, so the caller says how often this may be.
    pub(crate) fn handle_urge(&mut self, now: Instant) {
        if matches!(self.state, State::Backoff { .. }) && self.away_since.is_some() {
            self.dial(now);
        }
    }

    /// Takes a link that the dial gave.
    pub(crate) fn handle_dialled(&mut self, now: Instant, link: LinkId) {
        let until = later(now, self.settings.handshake_timeout);
        let seen = self.peer.map(|peer| Seen { uid: peer.uid, generation: peer.generation });
        match self.own_mut(link) {
            Some(own) if matches!(own.phase, Phase::Dialing) => {
                own.phase = Phase::Greeted;
                own.knew = seen.map(|seen| seen.uid);
                own.until = until;
                let hello = self.identity.hello(self.remote.clone(), seen);
                self.actions.push_back(Action::Greet { link, hello });
            }
            Some(_) | None => self.close(link, "the dial is no longer wanted"),
        }
    }

    /// Takes the failure of a dial.
    pub(crate) fn handle_dial_failed(&mut self, now: Instant, link: LinkId, why: String) {
        if self.own_mut(link).is_some() {
            self.own_failed(now, why);
        }
    }

    /// Takes the Hello of a link that the peer dialled; the identity was checked before.
    pub(crate) fn handle_hello(&mut self, now: Instant, link: LinkId, hello: &Hello) {
        let uid = hello.from.uid();
        if let Some(refusal) = self.refusal(uid) {
            return self.refuse(link, uid, refusal);
        }
        let welcome = ControlPdu::Welcome(self.identity.welcome());
        self.actions.push_back(Action::Transmit { link, pdu: welcome });
        let until = later(now, self.settings.handshake_timeout);
        let parked = Parked { link, uid, terms: hello.terms(), until };
        let known = *self.peer.get_or_insert(Peer { uid, generation: 0 });
        if known.uid != uid {
            let pdu = ControlPdu::Ping { nonce: PROOF, received: 0 };
            self.actions.push_back(Action::Transmit { link, pdu });
            return self.park(parked);
        }
        let seen = hello.seen.filter(|seen| seen.uid == self.identity.local.uid());
        if seen.map_or(0, |seen| seen.generation) >= known.generation {
            self.fence(now, "the peer opened a new link");
        }
        self.park(parked);
        self.choose(now);
    }

    /// Takes a control PDU of a link.
    pub(crate) fn handle_control(&mut self, now: Instant, link: LinkId, pdu: ControlPdu) {
        match pdu {
            ControlPdu::Welcome(welcome) => self.welcomed(now, link, &welcome),
            ControlPdu::Refuse(why) => self.refused(now, link, why),
            ControlPdu::Activate { generation, received } => {
                self.activated(now, link, generation, received);
            }
            ControlPdu::Ping { nonce, .. } => {
                let pdu = ControlPdu::Pong { nonce, received: 0 };
                self.actions.push_back(Action::Transmit { link, pdu });
            }
            ControlPdu::Pong { nonce, .. } => self.pong(now, link, nonce),
            ControlPdu::Goodbye => self.goodbye(now, link),
            ControlPdu::Received { .. }
            | ControlPdu::AskFailed { .. }
            | ControlPdu::Refused { .. }
            | ControlPdu::Codecs { .. }
            | ControlPdu::Credit { .. }
            | ControlPdu::Standing { .. } => {}
        }
    }

    /// Takes note that the active link brought a frame at `at`.
    pub(crate) fn handle_heard(&mut self, at: Instant) {
        if let State::Up(up) = &mut self.state {
            up.liveness.heard(at);
        }
    }

    /// Takes the end of a link, whatever ended it.
    pub(crate) fn handle_link_lost(&mut self, now: Instant, link: LinkId, why: String) {
        match &mut self.state {
            State::Up(up) if up.link == link => {
                self.last_why.clone_from(&why);
                self.up_lost(now, why);
            }
            State::Up(up) => {
                up.parked.take_if(|parked| parked.link == link);
            }
            State::Pending(pending) => {
                if pending.parked.take_if(|parked| parked.link == link).is_some() {
                    self.retry_if_alone(now);
                } else if self.own_mut(link).is_some() {
                    self.own_failed(now, why);
                }
            }
            State::Draining(draining) if draining.link == link => self.stopped(),
            State::Draining(_) | State::Idle | State::Backoff { .. } => {}
        }
    }

    /// Takes note that what waited was written to the draining link.
    pub(crate) fn handle_flushed(&mut self, link: LinkId) {
        match &mut self.state {
            State::Draining(draining) if draining.link == link && !draining.has_said => {
                draining.has_said = true;
                self.actions.push_back(Action::Transmit { link, pdu: ControlPdu::Goodbye });
                self.stop_if_drained();
            }
            _ => {}
        }
    }

    /// Ends the association in order; `queued` frames wait for the peer.
    pub(crate) fn handle_stop(&mut self, now: Instant, queued: usize) {
        if self.is_stopping {
            return;
        }
        self.is_stopping = true;
        match &self.state {
            State::Up(_) => self.drain(now),
            State::Pending(_) if queued > 0 => {}
            State::Pending(_) => {
                self.close_pending("this node stops");
                self.stopped();
            }
            State::Idle | State::Backoff { .. } => self.stopped(),
            State::Draining(_) => {}
        }
    }

    /// Never talks to the incarnation again; what waits for it is given up.
    pub(crate) fn handle_quarantine(&mut self, now: Instant, uid: Uid) {
        self.quarantine.fence(uid);
        let is_known = self.peer.get_or_insert(Peer { uid, generation: 0 }).uid == uid;
        if is_known {
            self.fence(now, QUARANTINED);
        }
        self.expel(uid, is_known);
        match self.state {
            State::Draining(Draining { link, .. }) if is_known => {
                self.actions.push_back(Action::Deactivate { why: QUARANTINED.to_owned() });
                self.close(link, QUARANTINED);
                self.stopped();
            }
            State::Pending(_) => self.retry_if_alone(now),
            State::Idle | State::Backoff { .. } | State::Up(_) | State::Draining(_) => {}
        }
        if is_known {
            self.give_up_quarantined();
        }
    }

    /// Acts on the time that has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.give_up_at().is_some_and(|at| now >= at) {
            return self.give_up(Reason::Unreachable);
        }
        match &mut self.state {
            State::Idle => {}
            State::Backoff { until } => {
                if self.away_since.is_some() && now >= *until {
                    self.dial(now);
                }
            }
            State::Draining(draining) => {
                if now >= draining.until {
                    let link = draining.link;
                    self.close(link, "the peer did not say goodbye in time");
                    self.stopped();
                }
            }
            State::Pending(_) => self.pending_timeout(now),
            State::Up(_) => self.up_timeout(now),
        }
    }

    /// Gives the time at which `handle_timeout` is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Idle => None,
            State::Backoff { until } => self.away_since.map(|_| *until),
            State::Draining(draining) => Some(draining.until),
            State::Pending(pending) => {
                let own = pending.own.as_ref().map(|own| own.until);
                let parked = pending.parked.as_ref().map(|parked| parked.until);
                own.into_iter().chain(parked).min()
            }
            State::Up(up) => {
                let parked = up.parked.as_ref().map(|parked| parked.until);
                let (ping, dead) = (self.settings.ping_interval, self.settings.liveness_timeout);
                parked.into_iter().chain([up.liveness.due(ping, dead)]).min()
            }
        };
        own.into_iter().chain(self.give_up_at()).min()
    }

    /// Gives the next thing to do.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Names the state.
    pub(crate) fn state(&self) -> AssociationState {
        match &self.state {
            State::Idle | State::Backoff { .. }
                if self.away_since.is_none() && self.is_quarantined() =>
            {
                AssociationState::Quarantined
            }
            State::Idle => AssociationState::Idle,
            // There is nothing to wait for: the next demand only comes no sooner.
            State::Backoff { .. } if self.away_since.is_none() => AssociationState::Idle,
            State::Pending(Pending { own: Some(own), parked: None })
                if matches!(own.phase, Phase::Dialing) =>
            {
                AssociationState::Dialing
            }
            State::Pending(_) => AssociationState::Handshaking,
            State::Up(_) => AssociationState::Up,
            State::Draining(_) => AssociationState::Draining,
            State::Backoff { .. } => AssociationState::Backoff,
        }
    }

    /// Gives the latest round trip of a Ping.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Tells whether the association ended with both sides' goodbye, so that nothing written was lost.
    pub(crate) fn has_drained(&self) -> bool {
        self.has_drained
    }
}

#[cfg(test)]
mod tests;
