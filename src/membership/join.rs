//! Finds a member that lets this node in, or finds that this node has to form the cluster: [`Joiner`].
//!
//! A machine of its own, without IO and clock. It knows seeds and answers only; the membership machine checks
//! settings, sends what it asks for, and takes the Welcome.
//!
//! ```text
//!            ┌────── of another, or too late ──────┐
//!            ▼                                     │
//!  Idle ─▶ Asking ──── the first Ack ────────▶ Requested ──── Welcome ─▶ Idle
//!            │    ▲                                │ │
//!            │    └── Nack, or retry_after is over ┘ └─ Join each ask_interval
//!            │
//!            └─ the first seed only, and all others say Nack,
//!               or seed_timeout is over and no Ack ever came ─▶ Form
//! ```
//!
//! Only the first seed of the list may form a cluster, so all nodes must have the same first. Once it has heard of a
//! cluster, silence is no proof that it is gone: then it forms one only if every other seed says that it is no member.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::cluster_id::ClusterId;
use super::explain::JoinProgress;
use super::settings::JoinSettings;
use crate::address::{Address, UniqueAddress};

/// Asks for something on the way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Send an InitJoin to this seed.
    Ask(Address),
    /// Send a Join for this cluster to this member.
    Request(UniqueAddress, ClusterId),
    /// Form a cluster.
    Form,
}

/// Finds the way in, through seeds.
#[derive(Debug)]
pub(super) struct Joiner {
    own: Address,
    settings: JoinSettings,
    /// In their order, each once, this node's own address among them if it is a seed.
    seeds: Vec<Address>,
    stage: Stage,
    /// Whether any member has ever answered.
    has_heard: bool,
    attempts: u32,
    steps: VecDeque<Step>,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Asking { since: Instant, next: Instant, refused: BTreeSet<Address> },
    Requested { of: UniqueAddress, cluster: ClusterId, since: Instant, next: Instant },
}

impl Joiner {
    /// Makes a machine that does nothing yet.
    pub(super) fn new(own: Address, settings: JoinSettings) -> Self {
        let (seeds, steps) = (Vec::new(), VecDeque::new());
        Self { own, settings, seeds, stage: Stage::Idle, has_heard: false, attempts: 0, steps }
    }

    /// Begins to look for a member through these seeds.
    pub(super) fn handle_begin(&mut self, now: Instant, seeds: Vec<Address>) {
        self.seeds.clear();
        for seed in seeds {
            if !self.seeds.contains(&seed) {
                self.seeds.push(seed);
            }
        }
        self.attempts = 0;
        self.ask(now);
    }

    /// Takes the word of a member that it would let this node in; only the first counts.
    pub(super) fn handle_ack(&mut self, now: Instant, from: &UniqueAddress, cluster: ClusterId) {
        if let Stage::Asking { .. } = self.stage {
            self.has_heard = true;
            let (of, since, next) = (from.clone(), now, self.next(now));
            self.steps.push_back(Step::Request(of.clone(), cluster));
            self.stage = Stage::Requested { of, cluster, since, next };
        }
    }

    /// Takes the word of a member that it would let this node in at another time: there is a cluster.
    pub(super) fn handle_heard(&mut self) {
        self.has_heard = true;
    }

    /// Takes the word of a seed that it is no member.
    pub(super) fn handle_nack(&mut self, now: Instant, from: &UniqueAddress) {
        match &mut self.stage {
            Stage::Idle => {}
            Stage::Asking { refused, .. } => {
                if self.seeds.contains(from.address()) {
                    refused.insert(from.address().clone());
                }
                self.form_if_alone(now);
            }
            Stage::Requested { of, .. } => {
                if of.address() == from.address() {
                    self.ask(now);
                }
            }
        }
    }

    /// Ends the search: this node is a member, or has given up.
    pub(super) fn handle_end(&mut self) {
        self.stage = Stage::Idle;
        self.steps.clear();
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let next_round = self.next(now);
        match &mut self.stage {
            Stage::Idle => {}
            Stage::Asking { next, .. } => {
                if *next <= now {
                    *next = next_round;
                    self.ask_all();
                }
                self.form_if_alone(now);
            }
            Stage::Requested { of, cluster, since, next } => {
                if now.saturating_duration_since(*since) >= self.settings.retry_after {
                    self.ask(now);
                } else if *next <= now {
                    *next = next_round;
                    self.steps.push_back(Step::Request(of.clone(), *cluster));
                }
            }
        }
    }

    /// Takes the next step.
    pub(super) fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Returns when the next step is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Idle => None,
            Stage::Asking { since, next, .. } => {
                let forms = self.may_form_in_silence().then(|| *since + self.settings.seed_timeout);
                forms.into_iter().chain([*next]).min()
            }
            Stage::Requested { since, next, .. } => {
                Some((*next).min(*since + self.settings.retry_after))
            }
        }
    }

    /// Returns the member whose Welcome is awaited, and its cluster.
    pub(super) fn awaited(&self) -> Option<(&UniqueAddress, ClusterId)> {
        match &self.stage {
            Stage::Requested { of, cluster, .. } => Some((of, *cluster)),
            Stage::Idle | Stage::Asking { .. } => None,
        }
    }

    /// Gives the seeds other than this node.
    pub(super) fn other_seeds(&self) -> impl Iterator<Item = &Address> {
        self.seeds.iter().filter(|seed| **seed != self.own)
    }

    /// Says how far the search is.
    pub(super) fn progress(&self, now: Instant) -> Option<JoinProgress> {
        let left = |at: Instant| at.saturating_duration_since(now);
        match &self.stage {
            Stage::Idle => None,
            Stage::Asking { since, refused, .. } => Some(JoinProgress::Asking {
                seeds: self.other_seeds().cloned().collect(),
                refused: refused.len(),
                attempt: self.attempts,
                forms_in: self
                    .may_form_in_silence()
                    .then(|| left(*since + self.settings.seed_timeout)),
            }),
            Stage::Requested { of, since, .. } => Some(JoinProgress::Requested {
                of: of.clone(),
                gives_up_in: left(*since + self.settings.retry_after),
            }),
        }
    }

    fn ask(&mut self, now: Instant) {
        self.stage = Stage::Asking { since: now, next: self.next(now), refused: BTreeSet::new() };
        self.ask_all();
        self.form_if_alone(now);
    }

    fn ask_all(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
        // What waits from the round before is the same.
        self.steps.clear();
        let questions: Vec<_> = self.other_seeds().cloned().map(Step::Ask).collect();
        self.steps.extend(questions);
    }

    fn form_if_alone(&mut self, now: Instant) {
        let Stage::Asking { since, refused, .. } = &self.stage else { return };
        let waited = now.saturating_duration_since(*since);
        let is_silent = self.may_form_in_silence() && waited >= self.settings.seed_timeout;
        let is_unanimous = self.is_first() && self.other_seeds().all(|s| refused.contains(s));
        if is_silent || is_unanimous {
            self.handle_end();
            self.steps.push_back(Step::Form);
        }
    }

    fn is_first(&self) -> bool {
        self.seeds.first() == Some(&self.own)
    }

    fn may_form_in_silence(&self) -> bool {
        self.is_first() && !self.has_heard
    }

    fn next(&self, now: Instant) -> Instant {
        now + self.settings.ask_interval
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Address, ClusterId, Instant, JoinSettings, Joiner, Step, UniqueAddress};
    use crate::membership::tests::unique;

    const SECOND: Duration = Duration::from_secs(1);
    const CLUSTER: ClusterId = ClusterId::new(7);

    fn address(n: u16) -> Address {
        unique(n).address().clone()
    }

    /// Begins as node `own` with these seeds.
    fn begin(own: u16, seeds: &[u16]) -> (Joiner, Instant) {
        let now = Instant::now();
        let mut joiner = Joiner::new(address(own), JoinSettings::default());
        joiner.handle_begin(now, seeds.iter().map(|n| address(*n)).collect());
        (joiner, now)
    }

    fn steps(joiner: &mut Joiner) -> Vec<Step> {
        std::iter::from_fn(|| joiner.poll_step()).collect()
    }

    /// Lets time pass and gives the steps taken meanwhile.
    fn pass(joiner: &mut Joiner, from: Instant, until: Instant) -> Vec<Step> {
        let mut all = steps(joiner);
        let mut now = from;
        while let Some(due) = joiner.poll_timeout().filter(|due| *due <= until) {
            assert!(due >= now, "the past is due");
            now = due;
            joiner.handle_timeout(now);
            all.extend(steps(joiner));
        }
        all
    }

    fn request(of: &UniqueAddress) -> Step {
        Step::Request(of.clone(), CLUSTER)
    }

    #[test]
    fn the_only_seed_forms_at_once() {
        let (mut joiner, _) = begin(1, &[1, 1]);
        assert_eq!(steps(&mut joiner), [Step::Form]);
        assert_eq!(joiner.poll_timeout(), None);
    }

    #[test]
    fn the_first_seed_forms_when_all_others_are_none_or_silent() {
        let (mut joiner, now) = begin(1, &[1, 2, 3]);
        let asked = [Step::Ask(address(2)), Step::Ask(address(3))];
        assert_eq!(steps(&mut joiner), asked);
        joiner.handle_nack(now, &unique(2));
        joiner.handle_nack(now, &unique(9));
        assert_eq!(steps(&mut joiner), []);
        joiner.handle_nack(now, &unique(3));
        assert_eq!(steps(&mut joiner), [Step::Form]);

        let (mut joiner, now) = begin(1, &[1, 2, 3]);
        assert!(!pass(&mut joiner, now, now + SECOND * 5 - SECOND / 1_000).contains(&Step::Form));
        assert_eq!(pass(&mut joiner, now, now + SECOND * 5).last(), Some(&Step::Form));
    }

    #[test]
    fn another_seed_never_forms() {
        let (mut joiner, now) = begin(2, &[1, 2, 3]);
        joiner.handle_nack(now, &unique(1));
        joiner.handle_nack(now, &unique(3));
        let steps = pass(&mut joiner, now, now + SECOND * 100);
        assert!(steps.len() >= 200 && !steps.contains(&Step::Form));
    }

    #[test]
    fn the_first_ack_wins_and_is_given_up_for_another() {
        let (mut joiner, now) = begin(3, &[1, 2]);
        joiner.handle_ack(now, &unique(2), CLUSTER);
        joiner.handle_ack(now, &unique(1), CLUSTER);
        assert_eq!(joiner.awaited(), Some((&unique(2), CLUSTER)));
        let requests = pass(&mut joiner, now, now + SECOND * 10);
        assert_eq!(requests.iter().filter(|step| **step == request(&unique(2))).count(), 10);
        assert_eq!(joiner.awaited(), None);
        joiner.handle_ack(now + SECOND * 10, &unique(1), CLUSTER);
        assert_eq!(joiner.awaited(), Some((&unique(1), CLUSTER)));
        joiner.handle_nack(now + SECOND * 10, &unique(1));
        assert_eq!(joiner.awaited(), None);
    }

    #[test]
    fn a_first_seed_that_has_heard_of_a_cluster_takes_no_silence_for_its_end() {
        let (mut joiner, now) = begin(1, &[1, 2]);
        joiner.handle_ack(now, &unique(2), CLUSTER);
        assert!(!pass(&mut joiner, now, now + SECOND * 100).contains(&Step::Form));
        joiner.handle_nack(now + SECOND * 100, &unique(2));
        joiner.handle_nack(now + SECOND * 100, &unique(2));
        assert_eq!(steps(&mut joiner).last(), Some(&Step::Form));
    }
}
