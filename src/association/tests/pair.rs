//! Lets two machines talk over virtual links in virtual time, with faults on demand.
//!
//! A wire is a transport connection: two ordered queues with one latency. A cut is seen by the sides that are
//! told of it; for the other the wire is half-open. Nothing here sleeps; the same seed gives the same run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::shell::{Effect, Packet, Shell};
use super::{ADA, BOB, Side, unique};
use crate::address::Uid;
use crate::association::LinkId;
use crate::settings::{AssociationSettings, Settings};

/// What becomes of the dials of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Road {
    Open,
    Refused,
    /// Neither answer nor failure ever comes.
    Blackhole,
}

/// One transport connection.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) ends: [End; 2],
    latency: Duration,
    /// Whatever travels is lost.
    is_cut: bool,
}

#[derive(Debug, Clone)]
pub(super) struct End {
    uid: Uid,
    link: Option<LinkId>,
    pub(super) is_open: bool,
    /// Nothing arrives here before: a wire keeps the order.
    not_before: Instant,
}

#[derive(Debug)]
pub(super) enum Event {
    Dialled { side: Side, uid: Uid, link: LinkId, road: Road },
    Arrive { wire: usize, to: Side, packet: Packet },
    Lost { wire: usize, side: Side },
    Flushed { side: Side, uid: Uid, link: LinkId },
}

/// Two machines and what lies between them.
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) shells: [Shell; 2],
    /// Shells of incarnations that are gone.
    pub(super) graves: Vec<(Side, Shell)>,
    pub(super) roads: [Road; 2],
    /// Latency of new wires and dials in milliseconds.
    pub(super) latency: std::ops::Range<u64>,
    settings: AssociationSettings,
    rng: fastrand::Rng,
    pub(super) wires: Vec<Wire>,
    pub(super) events: BTreeMap<(Instant, u64), Event>,
    scheduled: u64,
    /// Steps since time went on.
    idle_steps: u32,
}

impl Pair {
    pub(super) fn new(seed: u64) -> Self {
        let settings = Settings::lan().association;
        let names = [unique(ADA, 1), unique(BOB, 2)];
        let ada = Shell::new(settings.clone(), names[ADA].clone(), &names[BOB]);
        let bob = Shell::new(settings.clone(), names[BOB].clone(), &names[ADA]);
        Self {
            now: Instant::now(),
            shells: [ada, bob],
            graves: Vec::new(),
            roads: [Road::Open; 2],
            latency: 1..10,
            settings,
            rng: fastrand::Rng::with_seed(seed),
            wires: Vec::new(),
            events: BTreeMap::new(),
            scheduled: 0,
            idle_steps: 0,
        }
    }

    /// Gives a pair that is up on a link of `dialler`'s, nothing in flight.
    pub(super) fn up(dialler: Side) -> Self {
        let mut pair = Self::new(1);
        pair.tell(dialler);
        pair.run_for(Duration::from_millis(100));
        assert_eq!(pair.agreed(), Some(0));
        pair
    }

    pub(super) fn tell(&mut self, side: Side) {
        let effects = self.shells[side].tell(self.now);
        self.apply(side, effects);
    }

    pub(super) fn stop(&mut self, side: Side) {
        let effects = self.shells[side].stop(self.now);
        self.apply(side, effects);
    }

    pub(super) fn urge(&mut self, side: Side) {
        let effects = self.shells[side].urge(self.now);
        self.apply(side, effects);
    }

    pub(super) fn quarantine(&mut self, side: Side, uid: Uid) {
        let effects = self.shells[side].quarantine(self.now, uid);
        self.apply(side, effects);
    }

    /// Cuts the wires that a side has open; `seen` says which sides notice at once.
    pub(super) fn cut(&mut self, seen: [bool; 2]) {
        for wire in 0..self.wires.len() {
            self.cut_wire(wire, seen);
        }
    }

    pub(super) fn cut_wire(&mut self, wire: usize, seen: [bool; 2]) {
        self.wires[wire].is_cut = true;
        for side in [ADA, BOB] {
            if seen[side] && self.wires[wire].ends[side].is_open {
                self.schedule(Duration::ZERO, Event::Lost { wire, side });
            }
        }
    }

    /// Replaces the process of a side by a new one; what it had sent still arrives, then the ends.
    pub(super) fn restart(&mut self, side: Side, uid: u64) {
        let local = unique(side, uid);
        let remote = self.shells[1 - side].identity.local.clone();
        let new = Shell::new(self.settings.clone(), local, &remote);
        let old = std::mem::replace(&mut self.shells[side], new);
        for wire in 0..self.wires.len() {
            if self.wires[wire].ends[side].uid == old.uid() {
                self.close_end(wire, side);
            }
        }
        self.graves.push((side, old));
    }

    /// Lets `packet` arrive at `to` over the wire that carries it there.
    pub(super) fn forge(&mut self, wire: usize, to: Side, packet: Packet) {
        self.arrive(wire, to, packet);
        self.check();
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `is_done`, and gives the time that took.
    pub(super) fn run_until(&mut self, within: Duration, is_done: fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !is_done(self) {
            assert!(self.step(start + within), "not done within {within:?}: {:?}", self.states());
        }
        self.now - start
    }

    /// Does what comes next, if anything comes before `end`.
    pub(super) fn step(&mut self, end: Instant) -> bool {
        let event = self.events.keys().next().copied();
        let timer = [ADA, BOB]
            .into_iter()
            .filter_map(|side| Some((self.shells[side].machine.poll_timeout()?, side)))
            .min();
        let timer = timer.filter(|(at, _)| event.is_none_or(|(due, _)| *at < due));
        let Some(at) = timer.map(|(at, _)| at).or(event.map(|(due, _)| due)) else { return false };
        if at > end {
            return false;
        }
        self.idle_steps = if at > self.now { 0 } else { self.idle_steps + 1 };
        assert!(self.idle_steps < 10_000, "time stands still in {:?}", self.states());
        self.now = self.now.max(at);
        match timer {
            Some((_, side)) => {
                let effects = self.shells[side].timeout(self.now);
                self.apply(side, effects);
            }
            None => self.next_event(),
        }
        self.check();
        true
    }

    /// Opens a wire whose dialler is played by the test.
    pub(super) fn connect(&mut self) -> usize {
        let latency = self.draw();
        let end = |side: Side| End {
            uid: self.shells[side].uid(),
            link: None,
            is_open: true,
            not_before: self.now,
        };
        let wire = Wire { ends: [end(ADA), end(BOB)], latency, is_cut: false };
        self.wires.push(wire);
        self.wires.len() - 1
    }

    fn next_event(&mut self) {
        let Some((_, event)) = self.events.pop_first() else { return };
        match event {
            Event::Dialled { side, uid, link, road } if self.shells[side].uid() == uid => {
                self.dialled(side, link, road);
            }
            Event::Flushed { side, uid, link } if self.shells[side].uid() == uid => {
                let effects = self.shells[side].flushed(link);
                self.apply(side, effects);
            }
            Event::Dialled { .. } | Event::Flushed { .. } => {}
            Event::Arrive { wire, to, packet } if !self.wires[wire].is_cut => {
                self.arrive(wire, to, packet);
            }
            Event::Arrive { .. } => {}
            Event::Lost { wire, side } => self.arrive(wire, side, Packet::End),
        }
    }

    fn dialled(&mut self, side: Side, link: LinkId, road: Road) {
        let effects = match road {
            Road::Open => {
                let wire = self.connect();
                self.wires[wire].ends[side].link = Some(link);
                self.shells[side].dialled(self.now, link)
            }
            Road::Refused => self.shells[side].dial_failed(self.now, link),
            Road::Blackhole => return,
        };
        self.apply(side, effects);
    }

    fn arrive(&mut self, wire: usize, to: Side, packet: Packet) {
        let now = self.now;
        let end = &mut self.wires[wire].ends[to];
        if !end.is_open {
            return;
        }
        if packet == Packet::End {
            end.is_open = false;
        }
        let effects = match (end.link, packet) {
            (None, Packet::Hello(hello)) => {
                let (link, effects) = self.shells[to].hello(now, &hello);
                self.wires[wire].ends[to].link = Some(link);
                effects
            }
            (None, _) => return,
            (Some(link), packet) => self.shells[to].packet(now, link, packet),
        };
        self.apply(to, effects);
    }

    fn apply(&mut self, side: Side, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Dial(link) => {
                    let (uid, road) = (self.shells[side].uid(), self.roads[side]);
                    let wait = self.draw();
                    self.schedule(wait, Event::Dialled { side, uid, link, road });
                }
                Effect::Flush(link) => {
                    let uid = self.shells[side].uid();
                    let wait = self.draw();
                    self.schedule(wait, Event::Flushed { side, uid, link });
                }
                Effect::Send(link, packet) => {
                    if let Some(wire) = self.wire_of(side, link) {
                        self.send(wire, side, packet);
                    }
                }
                Effect::Close(link) => {
                    if let Some(wire) = self.wire_of(side, link) {
                        self.close_end(wire, side);
                    }
                }
            }
        }
        self.check();
    }

    fn close_end(&mut self, wire: usize, side: Side) {
        if std::mem::take(&mut self.wires[wire].ends[side].is_open) {
            self.deliver_later(wire, 1 - side, Packet::End);
        }
    }

    fn send(&mut self, wire: usize, from: Side, packet: Packet) {
        if self.wires[wire].ends[from].is_open {
            self.deliver_later(wire, 1 - from, packet);
        }
    }

    fn deliver_later(&mut self, wire: usize, to: Side, packet: Packet) {
        let latency = self.wires[wire].latency;
        let end = &mut self.wires[wire].ends[to];
        end.not_before = end.not_before.max(self.now + latency);
        let wait = end.not_before - self.now;
        self.schedule(wait, Event::Arrive { wire, to, packet });
    }

    fn schedule(&mut self, wait: Duration, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.now + wait, self.scheduled), event);
    }

    fn draw(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(self.latency.clone()))
    }

    pub(super) fn wire_of(&self, side: Side, link: LinkId) -> Option<usize> {
        let uid = self.shells[side].uid();
        self.wires.iter().position(|wire| {
            let end = &wire.ends[side];
            end.uid == uid && end.link == Some(link)
        })
    }
}
