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
//!    │                      └── waited ──▶ Dialing                             Draining
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
//! does not know it was sent before the choice arrived, and is parked until it closes.
//!
//! **Incarnations.** Another uid at the same address belongs to a later process only if that process has answered
//! something that was sent since the known one was met: by its Activate, by the Pong of a Ping on its parked link,
//! or by its Welcome to a Hello sent since. A Hello or Welcome alone may be what a dead process left in flight.
//! What is replaced is quarantined: its links are closed, and it is refused from then on.
//!
//! **Accounting.** Each activation carries how many frames its sender has received from the peer's incarnation.
//! Older links are fenced by then, so the difference to what was written is exactly what was lost.

mod backoff;
pub(crate) mod control;
mod liveness;
mod quarantine;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::address::{Address, Uid, UniqueAddress};
use crate::association::backoff::Backoff;
use crate::association::control::{ControlPdu, Hello, Identity, Limits, Refusal, Seen, Welcome};
use crate::association::liveness::{Liveness, Silence};
use crate::association::quarantine::Quarantine;
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
    Activate { link: LinkId, peer: UniqueAddress, limits: Limits, generation: u64 },
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

#[derive(Debug, Clone)]
enum State {
    Idle,
    /// Dialing or Handshaking: up to one link of each direction competes.
    Pending(Pending),
    Up(Up),
    Draining(Draining),
    Backoff {
        until: Instant,
    },
}

#[derive(Debug, Clone, Default)]
struct Pending {
    own: Option<Own>,
    parked: Option<Parked>,
}

/// The link that this side dials.
#[derive(Debug, Clone)]
struct Own {
    link: LinkId,
    phase: Phase,
    /// The incarnation that was known when the Hello was sent.
    knew: Option<Uid>,
    until: Instant,
}

#[derive(Debug, Clone)]
enum Phase {
    Dialing,
    Greeted,
    Welcomed(Limits),
}

/// A link that the peer dialled and that is not chosen (yet).
#[derive(Debug, Clone)]
struct Parked {
    link: LinkId,
    /// The incarnation that dialled; another one than the known is not proven to live.
    uid: Uid,
    limits: Limits,
    until: Instant,
}

/// The last phase: flush, say goodbye, hear the peer's goodbye.
#[derive(Debug, Clone)]
struct Draining {
    link: LinkId,
    until: Instant,
    has_said: bool,
    has_heard: bool,
}

#[derive(Debug, Clone)]
struct Up {
    link: LinkId,
    since: Instant,
    liveness: Liveness,
    parked: Option<Parked>,
}

/// The incarnation at the other end, and the number of the latest activation with it.
#[derive(Debug, Clone, Copy)]
struct Peer {
    uid: Uid,
    generation: u64,
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
        let parked = Parked { link, uid, limits: hello.limits, until };
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
            | ControlPdu::Refused { .. } => {}
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
            State::Idle => AssociationState::Idle,
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

    fn dial(&mut self, now: Instant) {
        let link = self.new_link();
        let timeout = self.settings.connect_timeout;
        let own = Own { link, phase: Phase::Dialing, knew: None, until: later(now, timeout) };
        self.state = State::Pending(Pending { own: Some(own), parked: None });
        self.actions.push_back(Action::Dial { link, timeout });
    }

    /// Lets a link of the peer wait for the choice; an earlier one has lost its meaning.
    fn park(&mut self, parked: Parked) {
        let earlier = match &mut self.state {
            State::Up(up) => up.parked.replace(parked),
            State::Pending(pending) => pending.parked.replace(parked),
            State::Idle | State::Backoff { .. } => {
                self.state = State::Pending(Pending { own: None, parked: Some(parked) });
                None
            }
            State::Draining(_) => Some(parked),
        };
        if let Some(earlier) = earlier {
            self.close(earlier.link, "replaced by a later link");
        }
    }

    /// Chooses a link where this side is the chooser: the own dial if it succeeded, the peer's if it failed.
    fn choose(&mut self, now: Instant) {
        let State::Pending(pending) = &self.state else { return };
        if !self.is_chooser() {
            return;
        }
        let chosen = match (&pending.own, &pending.parked) {
            (Some(Own { link, phase: Phase::Welcomed(limits), .. }), _) => (*link, *limits),
            (Some(_), _) | (None, None) => return,
            (None, Some(parked)) if self.is_known(parked.uid) => (parked.link, parked.limits),
            (None, Some(_)) => return,
        };
        let generation = self.generation() + 1;
        self.activate(now, chosen.0, chosen.1, generation);
    }

    fn activate(&mut self, now: Instant, link: LinkId, limits: Limits, generation: u64) {
        let Some(peer) = &mut self.peer else { return };
        peer.generation = generation;
        let peer = UniqueAddress::new(self.remote.clone(), peer.uid);
        self.close_all_but(link);
        let up = Up { link, since: now, liveness: Liveness::new(now), parked: None };
        self.state = State::Up(up);
        self.away_since = None;
        self.actions.push_back(Action::Activate { link, peer, limits, generation });
    }

    fn welcomed(&mut self, now: Instant, link: LinkId, welcome: &Welcome) {
        let own = self.own_mut(link).filter(|own| matches!(own.phase, Phase::Greeted));
        let Some(knew) = own.map(|own| own.knew) else {
            return self.violation(now, link, "a Welcome out of turn");
        };
        if welcome.from.address() != &self.remote {
            return self.violation(now, link, "the node that answered has another address");
        }
        let uid = welcome.from.uid();
        if self.quarantine.contains(uid) {
            return self.violation(now, link, "a replaced incarnation answered");
        }
        let is_later = knew == self.peer.map(|peer| peer.uid);
        if !is_later && !self.is_known(uid) {
            return self.violation(now, link, "it is unknown which incarnation is the later");
        }
        self.meet(now, uid);
        if let Some(own) = self.own_mut(link) {
            own.phase = Phase::Welcomed(welcome.limits);
        }
        self.choose(now);
    }

    fn refused(&mut self, now: Instant, link: LinkId, why: Refusal) {
        if self.own_mut(link).is_none() {
            return self.violation(now, link, "a Refuse out of turn");
        }
        self.actions.push_back(Action::Refused { uid: None, why: why.clone() });
        self.close(link, "the peer refused the handshake");
        self.own_failed(now, why.to_string());
        let is_final = !matches!(why, Refusal::Stopping | Refusal::TooManyPeers);
        if is_final && matches!(self.state, State::Backoff { .. }) {
            self.away_since = None;
            let reason = Reason::HandshakeRefused;
            self.actions.push_back(Action::GiveUp { reason, why: why.to_string() });
        }
    }

    fn activated(&mut self, now: Instant, link: LinkId, generation: u64, received: u64) {
        if self.is_chooser() {
            let is_echo = self.active() == Some(link) && generation == self.generation();
            if !is_echo {
                return self.violation(now, link, "an Activate out of turn");
            }
        } else {
            self.prove(now, link);
            let Some(limits) = self.candidate(link).filter(|_| generation > self.generation())
            else {
                return self.violation(now, link, "an Activate out of turn");
            };
            self.fence(now, "the peer chose another link");
            self.activate(now, link, limits, generation);
        }
        self.actions.push_back(Action::Settle { received });
        if self.is_stopping {
            self.drain(now);
        }
    }

    fn pong(&mut self, now: Instant, link: LinkId, nonce: u64) {
        self.prove(now, link);
        self.choose(now);
        if let State::Up(up) = &mut self.state {
            if up.link == link {
                self.round_trip = up.liveness.pong(now, nonce).or(self.round_trip);
            }
        }
    }

    fn goodbye(&mut self, now: Instant, link: LinkId) {
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

    /// Takes an answer on a parked link as the proof that the incarnation that dialled it lives.
    fn prove(&mut self, now: Instant, link: LinkId) {
        let parked = match &self.state {
            State::Pending(pending) => pending.parked.as_ref(),
            State::Up(up) => up.parked.as_ref(),
            State::Idle | State::Draining(_) | State::Backoff { .. } => None,
        };
        if let Some(uid) = parked.filter(|parked| parked.link == link).map(|parked| parked.uid) {
            self.meet(now, uid);
        }
    }

    /// Takes note of the incarnation at the other end; another one than before fences the old.
    fn meet(&mut self, now: Instant, uid: Uid) {
        if let Some(known) = self.peer.filter(|known| known.uid != uid) {
            self.quarantine.fence(known.uid);
            self.fence(now, "the peer restarted");
            self.close_strangers(uid);
            self.actions.push_back(Action::Incarnation {
                previous: UniqueAddress::new(self.remote.clone(), known.uid),
                current: UniqueAddress::new(self.remote.clone(), uid),
            });
            self.peer = None;
        }
        self.peer.get_or_insert(Peer { uid, generation: 0 });
    }

    /// Stops the active link, if any, and keeps what was parked beside it.
    fn fence(&mut self, now: Instant, why: &'static str) {
        let State::Up(up) = &mut self.state else { return };
        let (link, parked) = (up.link, up.parked.take());
        self.state = State::Pending(Pending { own: None, parked });
        self.away_since.get_or_insert(now);
        self.actions.push_back(Action::Deactivate { why: why.to_owned() });
        self.close(link, why);
    }

    fn up_lost(&mut self, now: Instant, why: String) {
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

    fn own_failed(&mut self, now: Instant, why: String) {
        self.last_why = why;
        if let State::Pending(pending) = &mut self.state {
            pending.own = None;
        }
        self.retry_if_alone(now);
    }

    /// Lets the chooser choose, or waits to dial when no link competes any more and one is wanted.
    fn retry_if_alone(&mut self, now: Instant) {
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

    fn back_off(&mut self, now: Instant) -> State {
        State::Backoff { until: later(now, self.backoff.next(&mut self.rng)) }
    }

    fn pending_timeout(&mut self, now: Instant) {
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

    fn up_timeout(&mut self, now: Instant) {
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

    fn give_up_at(&self) -> Option<Instant> {
        if matches!(self.state, State::Idle | State::Draining(_)) {
            return None;
        }
        self.away_since.map(|since| later(since, self.settings.give_up_after))
    }

    fn give_up(&mut self, reason: Reason) {
        self.close_pending("given up");
        self.state = State::Idle;
        self.away_since = None;
        self.backoff.reset();
        self.actions.push_back(Action::GiveUp { reason, why: self.last_why.clone() });
        if self.is_stopping {
            self.stopped();
        }
    }

    fn drain(&mut self, now: Instant) {
        let State::Up(up) = &mut self.state else { return };
        let (link, parked) = (up.link, up.parked.take());
        if let Some(parked) = parked {
            self.close(parked.link, "this node stops");
        }
        let until = later(now, self.settings.drain_timeout);
        self.state = State::Draining(Draining { link, until, has_said: false, has_heard: false });
        self.actions.push_back(Action::Flush { link });
    }

    fn stop_if_drained(&mut self) {
        let State::Draining(draining) = &self.state else { return };
        if draining.has_said && draining.has_heard {
            let link = draining.link;
            self.has_drained = true;
            self.close(link, "both sides said goodbye");
            self.stopped();
        }
    }

    fn stopped(&mut self) {
        self.is_stopping = true;
        self.state = State::Idle;
        self.actions.push_back(Action::Stopped);
    }

    fn refusal(&self, uid: Uid) -> Option<Refusal> {
        if self.is_stopping {
            Some(Refusal::Stopping)
        } else if self.quarantine.contains(uid) {
            Some(Refusal::StaleIncarnation)
        } else {
            None
        }
    }

    fn refuse(&mut self, link: LinkId, uid: Uid, why: Refusal) {
        let pdu = ControlPdu::Refuse(why.clone());
        self.actions.push_back(Action::Transmit { link, pdu });
        self.actions.push_back(Action::Refused { uid: Some(uid), why });
        self.close(link, "the handshake was refused");
    }

    /// Ends a link whose peer breaks the rules.
    fn violation(&mut self, now: Instant, link: LinkId, why: &'static str) {
        self.close(link, why);
        self.handle_link_lost(now, link, why.to_owned());
    }

    fn close(&mut self, link: LinkId, why: &'static str) {
        self.actions.push_back(Action::Close { link, why });
    }

    fn close_pending(&mut self, why: &'static str) {
        let State::Pending(pending) = &mut self.state else { return };
        let own = pending.own.take().map(|own| own.link);
        let parked = pending.parked.take().map(|parked| parked.link);
        for link in own.into_iter().chain(parked) {
            self.close(link, why);
        }
    }

    /// Closes the links whose handshake was with another incarnation than `uid`.
    fn close_strangers(&mut self, uid: Uid) {
        let State::Pending(pending) = &mut self.state else { return };
        let own = pending.own.take_if(|own| matches!(own.phase, Phase::Welcomed(_)));
        let parked = pending.parked.take_if(|parked| parked.uid != uid);
        let links = own.map(|own| own.link).into_iter().chain(parked.map(|parked| parked.link));
        for link in links {
            self.close(link, "the peer restarted");
        }
    }

    fn close_all_but(&mut self, chosen: LinkId) {
        let State::Pending(pending) = &mut self.state else { return };
        let own = pending.own.take().map(|own| own.link);
        let parked = pending.parked.take().map(|parked| parked.link);
        for link in own.into_iter().chain(parked).filter(|link| *link != chosen) {
            self.close(link, "the other link was chosen");
        }
    }

    /// Gives the limits of a link that may be activated.
    fn candidate(&self, link: LinkId) -> Option<Limits> {
        let (own, parked) = match &self.state {
            State::Pending(pending) => (pending.own.as_ref(), pending.parked.as_ref()),
            State::Up(up) => (None, up.parked.as_ref()),
            State::Idle | State::Draining(_) | State::Backoff { .. } => (None, None),
        };
        let own = own.filter(|own| own.link == link).and_then(|own| match own.phase {
            Phase::Welcomed(limits) => Some(limits),
            Phase::Dialing | Phase::Greeted => None,
        });
        own.or_else(|| parked.filter(|parked| parked.link == link).map(|parked| parked.limits))
    }

    fn own_mut(&mut self, link: LinkId) -> Option<&mut Own> {
        match &mut self.state {
            State::Pending(pending) => pending.own.as_mut().filter(|own| own.link == link),
            State::Idle | State::Up(_) | State::Draining(_) | State::Backoff { .. } => None,
        }
    }

    fn active(&self) -> Option<LinkId> {
        match &self.state {
            State::Up(up) => Some(up.link),
            State::Draining(draining) => Some(draining.link),
            State::Idle | State::Pending(_) | State::Backoff { .. } => None,
        }
    }

    fn generation(&self) -> u64 {
        self.peer.map_or(0, |peer| peer.generation)
    }

    fn is_known(&self, uid: Uid) -> bool {
        self.peer.is_some_and(|peer| peer.uid == uid)
    }

    fn is_chooser(&self) -> bool {
        self.identity.local.address() < &self.remote
    }
}

/// Adds a wait that may be as long as `Duration::MAX`, which stands for no end.
fn later(at: Instant, wait: Duration) -> Instant {
    at.checked_add(wait).unwrap_or_else(|| at + NO_END)
}

/// No run of a node is longer: 30 years.
const NO_END: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
/// Nonce of the Ping that asks a parked link for a proof of life; those of `liveness` start at 1.
const PROOF: u64 = 0;

#[cfg(test)]
mod tests;
