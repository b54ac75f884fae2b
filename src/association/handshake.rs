//! Decides which link carries: the answers to a Hello, the choice, and who is at the other end.
//!
//! The rules are in the module above; here each has its function.

use std::time::Instant;

use crate::address::{Uid, UniqueAddress};
use crate::association::control::{ControlPdu, Refusal, Terms, Welcome};
use crate::association::liveness::Liveness;
use crate::association::state::{Own, Parked, Peer, Pending, Phase, State, Up};
use crate::association::{Action, Association, LinkId};
use crate::event::Reason;

impl Association {
    pub(super) fn welcomed(&mut self, now: Instant, link: LinkId, welcome: &Welcome) {
        let own = self.own_mut(link).filter(|own| matches!(own.phase, Phase::Greeted));
        let Some(knew) = own.map(|own| own.knew) else {
            return self.violation(now, link, "a Welcome out of turn");
        };
        if welcome.from.address() != &self.remote {
            return self.violation(now, link, "the node that answered has another address");
        }
        let uid = welcome.from.uid();
        if self.quarantine.contains(uid) {
            if !self.is_known(uid) {
                return self.violation(now, link, "a replaced incarnation answered");
            }
            self.close(link, QUARANTINED);
            self.own_failed(now, QUARANTINED.to_owned());
            return self.give_up_quarantined();
        }
        let is_later = knew == self.peer.map(|peer| peer.uid);
        if !is_later && !self.is_known(uid) {
            return self.violation(now, link, "it is unknown which incarnation is the later");
        }
        self.meet(now, uid);
        if let Some(own) = self.own_mut(link) {
            own.phase = Phase::Welcomed(welcome.terms());
        }
        self.choose(now);
    }

    pub(super) fn refused(&mut self, now: Instant, link: LinkId, why: Refusal) {
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

    pub(super) fn activated(&mut self, now: Instant, link: LinkId, generation: u64, received: u64) {
        if self.is_chooser() {
            let is_echo = self.active() == Some(link) && generation == self.generation();
            if !is_echo {
                return self.violation(now, link, "an Activate out of turn");
            }
        } else {
            self.prove(now, link);
            // What is chosen is a link of now, and links keep their order: the chooser may have forgotten this node
            // and count anew, or this node may have believed a garbled number.
            let Some(terms) = self.candidate(link).filter(|_| generation > 0) else {
                return self.violation(now, link, "an Activate out of turn");
            };
            self.fence(now, "the peer chose another link");
            self.activate(now, link, terms, generation);
        }
        self.actions.push_back(Action::Settle { received });
        if self.is_stopping {
            self.drain(now);
        }
    }

    pub(super) fn refusal(&self, uid: Uid) -> Option<Refusal> {
        if self.is_stopping {
            Some(Refusal::Stopping)
        } else if self.quarantine.contains(uid) {
            let is_known = self.is_known(uid);
            Some(if is_known { Refusal::Quarantined } else { Refusal::StaleIncarnation })
        } else {
            None
        }
    }

    pub(super) fn refuse(&mut self, link: LinkId, uid: Uid, why: Refusal) {
        let pdu = ControlPdu::Refuse(why.clone());
        self.actions.push_back(Action::Transmit { link, pdu });
        self.actions.push_back(Action::Refused { uid: Some(uid), why });
        self.close(link, "the handshake was refused");
    }

    /// Lets a link of the peer wait for the choice; an earlier one has lost its meaning.
    pub(super) fn park(&mut self, parked: Parked) {
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
    pub(super) fn choose(&mut self, now: Instant) {
        let State::Pending(pending) = &self.state else { return };
        if !self.is_chooser() {
            return;
        }
        let chosen = match (&pending.own, &pending.parked) {
            (Some(Own { link, phase: Phase::Welcomed(terms), .. }), _) => (*link, *terms),
            (Some(_), _) | (None, None) => return,
            (None, Some(parked)) if self.is_known(parked.uid) => (parked.link, parked.terms),
            (None, Some(_)) => return,
        };
        let generation = self.generation().saturating_add(1);
        self.activate(now, chosen.0, chosen.1, generation);
    }

    /// Takes an answer on a parked link as the proof that the incarnation that dialled it lives.
    pub(super) fn prove(&mut self, now: Instant, link: LinkId) {
        let parked = match &self.state {
            State::Pending(pending) => pending.parked.as_ref(),
            State::Up(up) => up.parked.as_ref(),
            State::Idle | State::Draining(_) | State::Backoff { .. } => None,
        };
        if let Some(uid) = parked.filter(|parked| parked.link == link).map(|parked| parked.uid) {
            self.meet(now, uid);
        }
    }

    pub(super) fn own_mut(&mut self, link: LinkId) -> Option<&mut Own> {
        match &mut self.state {
            State::Pending(pending) => pending.own.as_mut().filter(|own| own.link == link),
            State::Idle | State::Up(_) | State::Draining(_) | State::Backoff { .. } => None,
        }
    }

    fn activate(&mut self, now: Instant, link: LinkId, terms: Terms, generation: u64) {
        let Some(peer) = &mut self.peer else { return };
        peer.generation = generation;
        let peer = UniqueAddress::new(self.remote.clone(), peer.uid);
        self.close_all_but(link);
        let up = Up { link, since: now, liveness: Liveness::new(now), parked: None };
        self.state = State::Up(up);
        self.away_since = None;
        self.actions.push_back(Action::Activate { link, peer, terms, generation });
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

    /// Closes the links whose handshake was with the incarnation `uid`.
    pub(super) fn expel(&mut self, uid: Uid, is_known: bool) {
        let (own, parked) = match &mut self.state {
            State::Pending(pending) => (Some(&mut pending.own), &mut pending.parked),
            State::Up(up) => (None, &mut up.parked),
            State::Idle | State::Draining(_) | State::Backoff { .. } => return,
        };
        let is_its = |own: &mut Own| is_known && matches!(own.phase, Phase::Welcomed(_));
        let own = own.and_then(|own| own.take_if(is_its)).map(|own| own.link);
        let parked = parked.take_if(|parked| parked.uid == uid).map(|parked| parked.link);
        for link in own.into_iter().chain(parked) {
            self.close(link, QUARANTINED);
        }
    }

    /// Gives up what waits for a quarantined incarnation, unless a link may still lead to a later one.
    pub(super) fn give_up_quarantined(&mut self) {
        let has_no_link = matches!(self.state, State::Idle | State::Backoff { .. });
        if has_no_link && self.away_since.take().is_some() {
            let why = QUARANTINED.to_owned();
            self.actions.push_back(Action::GiveUp { reason: Reason::Quarantined, why });
        }
    }

    pub(super) fn is_quarantined(&self) -> bool {
        self.peer.is_some_and(|peer| self.quarantine.contains(peer.uid))
    }

    fn close_all_but(&mut self, chosen: LinkId) {
        let State::Pending(pending) = &mut self.state else { return };
        let own = pending.own.take().map(|own| own.link);
        let parked = pending.parked.take().map(|parked| parked.link);
        for link in own.into_iter().chain(parked).filter(|link| *link != chosen) {
            self.close(link, "the other link was chosen");
        }
    }

    /// Gives the peer's terms on a link that may be activated.
    fn candidate(&self, link: LinkId) -> Option<Terms> {
        let (own, parked) = match &self.state {
            State::Pending(pending) => (pending.own.as_ref(), pending.parked.as_ref()),
            State::Up(up) => (None, up.parked.as_ref()),
            State::Idle | State::Draining(_) | State::Backoff { .. } => (None, None),
        };
        let own = own.filter(|own| own.link == link).and_then(|own| match own.phase {
            Phase::Welcomed(terms) => Some(terms),
            Phase::Dialing | Phase::Greeted => None,
        });
        own.or_else(|| parked.filter(|parked| parked.link == link).map(|parked| parked.terms))
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

/// Why the links of a quarantined incarnation are closed.
pub(super) const QUARANTINED: &str = "the peer's incarnation is quarantined";
/// Nonce of the Ping that asks a parked link for a proof of life; those of `liveness` start at 1.
pub(super) const PROOF: u64 = 0;
