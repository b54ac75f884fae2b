//! Is three nodes with what they know and what is under way between them.
//!
//! A node's own steps are those of the membership machine, without its timers: whatever could be due may happen.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tellwire::membership::cluster_id::ClusterId;
use tellwire::membership::convergence::Perspective;
use tellwire::membership::exchange::{Envelope, Exchange, Received, Receiver};
use tellwire::membership::gossip::{Gossip, GossipForm, OwnMark, RemovalTime};
use tellwire::membership::leader::{Minimum, leader, plan};
use tellwire::membership::member::{Member, MemberStatus};
use tellwire::membership::profile::Profile;
use tellwire::membership::reachability::ReachabilityStatus;
use tellwire::{Address, Uid, UniqueAddress};

/// Says how often each thing may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Bounds {
    /// Nodes that join the first one, from 0 to 2.
    pub(crate) joins: u8,
    /// Members that are asked to leave.
    pub(crate) leaves: u8,
    /// Members that end without warning; the others notice, and the leader downs them.
    pub(crate) crashes: u8,
    /// Nodes that come back with another uid after they have left or crashed.
    pub(crate) returns: u8,
    /// States under way at the same time.
    pub(crate) under_way: usize,
}

/// Is one thing that may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A node asks a member to be added.
    Join(usize, usize),
    /// A node sends its state to another.
    Send(usize, usize),
    /// What is under way at this place arrives.
    Deliver(usize),
    /// What is under way at this place is lost.
    Lose(usize),
    /// A leader does what there is to do.
    Lead(usize),
    /// A node makes a member Leaving.
    Leave(usize, usize),
    /// An Exiting node tells one that may lead next that it is done, and ends.
    Confirm(usize, usize),
    /// A node ends without warning.
    Crash(usize),
    /// A node notices that another has ended.
    Miss(usize, usize),
    /// A leader declares an unreachable member dead.
    Down(usize, usize),
}

/// Is one node.
#[derive(Debug, Clone, PartialEq, Default)]
struct Place {
    /// How often it was started, less one.
    incarnation: u8,
    /// What it knows; None before it is a member, and after it has ended.
    gossip: Option<Arc<Gossip>>,
    has_ended: bool,
    /// Its end was a farewell.
    has_left: bool,
    /// Who has told it that the exit tasks are done.
    confirmed: BTreeSet<UniqueAddress>,
}

/// Is everything at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct World {
    bounds: Bounds,
    places: [Place; 3],
    /// From, to and what was known when it was sent.
    under_way: Vec<(UniqueAddress, UniqueAddress, Arc<Gossip>)>,
    /// A node that left was declared dead by one that had not seen it Exiting.
    has_mistaken: bool,
    /// What should never have happened.
    pub(crate) fault: Option<String>,
}

impl World {
    /// Lets the first node form a cluster and come Up.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let mut world = Self {
            bounds,
            places: Default::default(),
            under_way: Vec::new(),
            has_mistaken: false,
            fault: None,
        };
        let own = node(0, 0);
        let mut gossip = Gossip::default();
        gossip.add(Member::joining(own.clone(), Profile::default())).unwrap();
        gossip.stamp(&own, OwnMark::Give);
        world.places[0].gossip = Some(Arc::new(gossip));
        world.take(Step::Lead(0));
        world
    }

    /// Lists what may happen next.
    pub(crate) fn steps(&self, steps: &mut Vec<Step>) {
        for (at, place) in self.places.iter().enumerate() {
            let others = (0..self.places.len()).filter(|other| *other != at);
            match &place.gossip {
                None => self.steps_of_stranger(at, others, steps),
                Some(gossip) => self.steps_of_member(at, gossip, others, steps),
            }
        }
        for place in 0..self.under_way.len() {
            // What is under way between the same two twice arrives in order.
            let is_first = !self.under_way[..place].iter().any(|(from, to, _)| {
                (from, to) == (&self.under_way[place].0, &self.under_way[place].1)
            });
            steps.extend(is_first.then_some(Step::Deliver(place)));
            steps.extend(is_first.then_some(Step::Lose(place)));
        }
    }

    fn steps_of_stranger(
        &self,
        at: usize,
        others: impl Iterator<Item = usize>,
        steps: &mut Vec<Step>,
    ) {
        let may_join = if self.places[at].has_ended {
            self.bounds.returns > 0
        } else {
            at <= usize::from(self.bounds.joins)
        };
        if may_join {
            steps.extend(others.filter(|to| self.is_member(*to)).map(|to| Step::Join(at, to)));
        }
    }

    fn steps_of_member(
        &self,
        at: usize,
        gossip: &Gossip,
        others: impl Iterator<Item = usize>,
        steps: &mut Vec<Step>,
    ) {
        let own = self.own(at);
        let status = |node: &UniqueAddress| gossip.member(node).map(Member::status);
        if self.has_duty(at) {
            steps.push(Step::Lead(at));
        }
        if self.bounds.crashes > 0 {
            steps.push(Step::Crash(at));
        }
        // A node that goes waits until one that stays has seen it.
        let is_exit_known = gossip
            .seen()
            .any(|seer| *seer != own && status(seer).is_some_and(|status| !status.is_ending()));
        for other in others.chain([at]) {
            let node = self.own(other);
            let is_other = other != at;
            let may_leave = status(&node).is_some_and(|it| it.may_become(MemberStatus::Leaving));
            if self.bounds.leaves > 0 && may_leave {
                steps.push(Step::Leave(at, other));
            }
            if !is_other || status(&node).is_none() {
                continue;
            }
            let may_send = self.under_way.len() < self.bounds.under_way && self.is_member(other);
            let is_there = |(from, to, state): &(_, _, Arc<Gossip>)| {
                *from == own && *to == node && state.as_ref() == gossip
            };
            if may_send && !self.under_way.iter().any(is_there) {
                steps.push(Step::Send(at, other));
            }
            let may_lead = status(&node).is_some_and(MemberStatus::takes_part);
            if status(&own) == Some(MemberStatus::Exiting) && may_lead && is_exit_known {
                steps.push(Step::Confirm(at, other));
            }
            let is_missed = !gossip.reachability().is_reachable_from(&own, &node);
            if self.places[other].has_ended && !is_missed {
                steps.push(Step::Miss(at, other));
            }
            let may_down = status(&node).is_some_and(|it| it.may_become(MemberStatus::Down));
            if is_missed && may_down && self.leads(at) {
                steps.push(Step::Down(at, other));
            }
        }
    }

    /// Lets one thing happen.
    pub(crate) fn take(&mut self, step: Step) {
        let before = self.places.clone();
        match step {
            Step::Join(at, to) => self.join(at, to),
            Step::Send(at, to) => self.send(at, to),
            Step::Deliver(place) => self.deliver(place),
            Step::Lose(place) => drop(self.under_way.remove(place)),
            Step::Lead(at) => self.change(at, |world, gossip| {
                world.plan(at).apply(gossip, REMOVED).unwrap();
            }),
            Step::Leave(at, node) => {
                self.bounds.leaves -= 1;
                let node = self.own(node);
                self.change(at, |_, gossip| gossip.advance(&node, MemberStatus::Leaving).unwrap());
            }
            Step::Confirm(at, to) => {
                let own = self.own(at);
                self.places[to].confirmed.insert(own);
                self.places[at].has_left = true;
                self.end(at);
            }
            Step::Crash(at) => {
                self.bounds.crashes -= 1;
                self.end(at);
            }
            Step::Miss(at, node) => {
                let (own, node) = (self.own(at), self.own(node));
                self.change(at, |_, gossip| {
                    gossip.observe(&own, &node, ReachabilityStatus::Unreachable).unwrap();
                });
            }
            Step::Down(at, node) => {
                self.has_mistaken |= self.places[node].has_left;
                let node = self.own(node);
                self.change(at, |_, gossip| gossip.advance(&node, MemberStatus::Down).unwrap());
            }
        }
        self.fault = self.fault.take().or_else(|| self.backward(&before));
    }

    /// Adds a node to what a member knows, unless another incarnation of it is in the way.
    fn join(&mut self, at: usize, to: usize) {
        let place = &mut self.places[at];
        if place.has_ended {
            self.bounds.returns -= 1;
            *place = Place { incarnation: place.incarnation + 1, ..Place::default() };
        }
        let joiner = self.own(at);
        let mut is_added = false;
        self.change(to, |_, gossip| {
            is_added = gossip.add(Member::joining(joiner.clone(), Profile::default())).is_ok();
        });
        if is_added {
            let mut welcome = self.places[to].gossip.as_deref().unwrap().clone();
            welcome.mark_seen(&joiner, OwnMark::Give);
            self.places[at].gossip = Some(Arc::new(welcome));
        }
    }

    fn send(&mut self, at: usize, to: usize) {
        let gossip = self.places[at].gossip.clone().unwrap();
        if self.under_way.len() < self.bounds.under_way {
            self.under_way.push((self.own(at), self.own(to), gossip));
        }
    }

    fn deliver(&mut self, place: usize) {
        let (from, to, gossip) = self.under_way.remove(place);
        let at = usize::from(to.address().port()) - 1;
        let Some(local) = self.places[at].gossip.clone().filter(|_| self.own(at) == to) else {
            return;
        };
        let receiver = Receiver { own: &to, local: &local, mark: self.mark(at) };
        let sender = usize::from(from.address().port()) - 1;
        let gossip = Box::new(GossipForm::from(gossip.as_ref()));
        let envelope = Envelope { from, to: to.clone(), cluster: CLUSTER, gossip };
        // Whatever is refused, such as the state of a member that was removed, changes nothing.
        let Ok(Received { gossip, reply, .. }) = receiver.receive(envelope) else { return };
        self.places[at].gossip = Some(Arc::new(gossip));
        if reply == Exchange::SendState {
            self.send(at, sender);
        }
    }

    fn end(&mut self, at: usize) {
        let place = &mut self.places[at];
        place.has_ended = true;
        place.gossip = None;
    }

    /// Changes what a node knows, and stamps it if that has made a difference.
    fn change(&mut self, at: usize, change: impl FnOnce(&Self, &mut Gossip)) {
        let Some(old) = self.places[at].gossip.clone() else { return };
        let mut gossip = old.as_ref().clone();
        change(self, &mut gossip);
        if !gossip.agrees_with(&old) {
            gossip.stamp(&self.own(at), self.mark(at));
        }
        self.places[at].gossip = Some(Arc::new(gossip));
    }

    /// Names a member that has gone backwards or come back.
    fn backward(&self, before: &[Place; 3]) -> Option<String> {
        self.places.iter().zip(before).find_map(|(place, old)| {
            let (new, old) = (place.gossip.as_ref()?, old.gossip.as_ref()?);
            let is_back = |member: &&Member| {
                old.has_tombstone(member.node())
                    || old.member(member.node()).is_some_and(|old| old.status() > member.status())
            };
            new.members().find(is_back).map(|member| format!("{member:?} in {:?}", place.gossip))
        })
    }

    /// Tells whether nodes with the same clock know the same.
    pub(crate) fn equal_versions_agree(&self) -> bool {
        let states: Vec<_> = self.gossips().collect();
        let mut pairs = states.iter().flat_map(|a| states.iter().map(move |b| (a, b)));
        pairs.all(|(a, b)| a.clock() != b.clock() || a.agrees_with(b))
    }

    /// Tells whether no two nodes lead converged views in which the other takes part.
    pub(crate) fn leaders_agree(&self) -> bool {
        let leads = |at: &usize| self.leads(*at) && self.perspective(*at, |it| it.is_converged());
        let leaders: Vec<_> = (0..self.places.len()).filter(leads).collect();
        let counts = |at: usize, other: usize| {
            let gossip = self.places[at].gossip.as_ref();
            let member = gossip.and_then(|gossip| gossip.member(&self.own(other)));
            member.is_some_and(|member| member.status().takes_part())
        };
        let mut pairs = leaders.iter().flat_map(|a| leaders.iter().map(move |b| (*a, *b)));
        pairs.all(|(a, b)| a == b || !(counts(a, b) && counts(b, a)))
    }

    /// Tells whether in each state the numbers of those that were Up differ.
    ///
    /// They need not where a leader has left and the next one, which has not heard of its last acts from those who saw
    /// them, takes it for dead: then both may give out the same number, and the order of addresses decides. A node waits
    /// longer before it declares anybody dead than gossip takes to come round.
    pub(crate) fn ages_differ(&self) -> bool {
        self.has_mistaken
            || self.gossips().all(|gossip| {
                let numbers: Vec<_> = gossip.members().filter_map(Member::up_number).collect();
                numbers.iter().collect::<BTreeSet<_>>().len() == numbers.len()
            })
    }

    /// Counts the members that all nodes know as Up.
    pub(crate) fn up_everywhere(&self) -> usize {
        let is_up = |node: &UniqueAddress| {
            self.gossips().all(|gossip| {
                gossip.member(node).is_some_and(|member| member.status() == MemberStatus::Up)
            })
        };
        (0..self.places.len()).filter(|at| is_up(&self.own(*at))).count()
    }

    /// Tells whether all that are left know somebody to be removed.
    pub(crate) fn has_tombstone_everywhere(&self) -> bool {
        self.gossips().next().is_some()
            && self.gossips().all(|gossip| gossip.tombstones().next().is_some())
    }

    fn gossips(&self) -> impl Iterator<Item = &Gossip> {
        self.places.iter().filter_map(|place| place.gossip.as_deref())
    }

    fn own(&self, at: usize) -> UniqueAddress {
        node(at, self.places[at].incarnation)
    }

    fn is_member(&self, at: usize) -> bool {
        self.places[at].gossip.is_some()
    }

    /// Withholds the mark of a node that runs its exit tasks.
    fn mark(&self, at: usize) -> OwnMark {
        let gossip = self.places[at].gossip.as_ref();
        let status = gossip.and_then(|gossip| gossip.member(&self.own(at))).map(Member::status);
        match status {
            Some(MemberStatus::Exiting) => OwnMark::Withhold,
            _ => OwnMark::Give,
        }
    }

    fn leads(&self, at: usize) -> bool {
        let own = self.own(at);
        self.is_member(at) && self.perspective(at, |view| leader(view) == Some(&own))
    }

    fn has_duty(&self, at: usize) -> bool {
        self.leads(at)
            && self.perspective(at, |view| view.is_converged())
            && !self.plan(at).is_empty()
    }

    fn plan(&self, at: usize) -> tellwire::membership::leader::Plan {
        self.perspective(at, |view| plan(view, &Minimum::default()))
    }

    fn perspective<R>(&self, at: usize, look: impl FnOnce(&Perspective<'_>) -> R) -> R {
        let place = &self.places[at];
        let data_centre = Profile::default().data_centre().clone();
        look(&Perspective {
            gossip: place.gossip.as_ref().unwrap(),
            own: &self.own(at),
            data_centre: &data_centre,
            exiting_confirmed: &place.confirmed,
        })
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bounds.hash(state);
        for place in &self.places {
            let Place { incarnation, has_ended, has_left, confirmed, .. } = place;
            (incarnation, has_ended, has_left, confirmed).hash(state);
            place.gossip.as_deref().map(|gossip| hash(gossip, state)).is_some().hash(state);
        }
        for (from, to, gossip) in &self.under_way {
            (from, to).hash(state);
            hash(gossip, state);
        }
        (self.has_mistaken, &self.fault).hash(state);
    }
}

fn hash<H: Hasher>(gossip: &Gossip, state: &mut H) {
    for member in gossip.members() {
        (member.node(), member.status(), member.up_number()).hash(state);
    }
    "seen".hash(state);
    gossip.seen().for_each(|node| node.hash(state));
    for row in gossip.reachability().records() {
        (row.observer, row.subject, row.status, row.version).hash(state);
    }
    gossip.reachability().versions().for_each(|version| version.hash(state));
    for node in gossip.clock().nodes() {
        (node, gossip.clock().count(node)).hash(state);
    }
    gossip.tombstones().for_each(|tombstone| tombstone.hash(state));
}

fn node(at: usize, incarnation: u8) -> UniqueAddress {
    let port = u16::try_from(at).unwrap() + 1;
    let uid = Uid::new(u64::from(port) << 32 | u64::from(incarnation));
    UniqueAddress::new(Address::new("mem", "Test", "node", port).unwrap(), uid)
}

/// When members are removed: the hour does not matter.
const REMOVED: RemovalTime = RemovalTime::since_1970(Duration::from_secs(1_000));
/// The only cluster there is.
const CLUSTER: ClusterId = ClusterId::new(1);
