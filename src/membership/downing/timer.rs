//! Waits until what a node sees is stable, and then has the strategy decide: [`Downing`].
//!
//! A machine without clock. Both sides of a partition wait as long, because the wait follows from the number of all
//! members, and by then every node of a side has learnt what the others of its side cannot reach.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::view::{View, ViewStatus};
use super::{Decision, DowningStrategy};
use crate::address::UniqueAddress;

/// Says how long a node waits before it decides.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DowningSettings {
    /// Time without a change after which it is decided. Default [`StableAfter::Scaled`]; failover takes as much longer.
    pub stable_after: StableAfter,
    /// What to do when changes never end. Default [`Unstable::DownAll`].
    pub unstable: Unstable,
}

impl Default for DowningSettings {
    fn default() -> Self {
        Self { stable_after: StableAfter::Scaled, unstable: Unstable::DownAll }
    }
}

/// Gives the time without a change after which it is decided.
///
/// It has to be longer than the nodes of one side differ in finding out: detection times and rounds of gossip, whose
/// number grows with the logarithm of the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StableAfter {
    /// By the number of members: 9 s for 5, 11 s for 10, 17 s for 50, 20 s for 100, 29 s for 1 000.
    Scaled,
    /// The same for any number of members, from 1 s; it should be the same on all nodes.
    Fixed(Duration),
}

impl StableAfter {
    /// Returns the wait in a cluster of so many members.
    #[must_use]
    pub fn for_members(self, members: usize) -> Duration {
        match self {
            Self::Scaled => {
                let rounds = (2 * members.clamp(2, MOST_SCALED)) as f64;
                SCALED_AT_100.mul_f64(rounds.log2() / ROUNDS_AT_100.log2())
            }
            Self::Fixed(wait) => wait.clamp(LEAST_WAIT, LONGEST_WAIT),
        }
    }
}

/// Says what to do when reachability keeps changing, so that it is never stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unstable {
    /// Down all when the first change lies 1 ¾ of the wait back, at least the wait and 4 s, and nothing is decided.
    ///
    /// Sides that never agree on who is reachable could decide differently; so every node goes, leader or not.
    DownAll,
    /// Go on waiting.
    Wait,
}

/// Tells which members are to be marked as Down, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    /// What was decided.
    pub decision: Decision,
    /// What led to it.
    pub cause: Cause,
    /// The members it means, never none: others in address order, the own node last.
    pub nodes: Vec<UniqueAddress>,
}

/// Tells what led to a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// What was unreachable stayed so for the whole wait.
    Stable,
    /// Reachability kept changing for too long.
    Unstable,
    /// A member will never talk to this node again.
    Quarantined,
}

/// Watches a node's view and says when whom to down.
///
/// Give it each new [`View`], poll it afterwards and when [`Downing::poll_timeout`] has come.
#[derive(Debug)]
pub struct Downing {
    strategy: Box<dyn DowningStrategy>,
    settings: DowningSettings,
    view: Option<View>,
    changes: Changes,
    is_quarantined: bool,
}

/// Knows since when things are as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Changes {
    /// The latest change that a decision has to wait for.
    last: Option<Instant>,
    /// The first change of reachability since all was well or decided.
    unsettled: Option<Instant>,
}

impl Downing {
    /// Makes a machine that has seen nothing yet.
    #[must_use]
    pub fn new(strategy: Box<dyn DowningStrategy>, settings: DowningSettings) -> Self {
        let (view, changes) = (None, Changes::default());
        Self { strategy, settings, view, changes, is_quarantined: false }
    }

    /// Takes what the node sees; the wait begins anew if reachability changed, or a member came Up, Exiting or Down.
    pub fn handle_view(&mut self, now: Instant, view: View) {
        self.changes = self.changes.then(now, self.view.as_ref(), &view);
        self.view = Some(view);
    }

    /// Notes that `by` has quarantined this node: if it is a member, this node goes at once.
    ///
    /// Nodes that are no members, such as one that was restarted or never belonged here, are ignored.
    pub fn handle_quarantined(&mut self, by: &UniqueAddress) {
        let is_member = self.view.as_ref().is_some_and(|view| view.status(by).is_some());
        self.is_quarantined |= is_member;
    }

    /// Notes that this process was held up: what it saw before is stale, so the wait begins anew.
    pub fn handle_stall(&mut self, now: Instant) {
        self.changes = Changes { last: Some(now), unsettled: None };
    }

    /// Takes the verdict that is due at `now`; afterwards the wait begins anew.
    ///
    /// One that is overdue by a whole wait is not given: nobody has looked for so long that the process was held up.
    pub fn poll_decision(&mut self, now: Instant) -> Option<Verdict> {
        let (decision, cause) = self.due(now)?;
        let view = self.view.as_ref()?;
        let nodes = decision.nodes(&*self.strategy, view);
        self.handle_stall(now);
        self.is_quarantined = false;
        Some(Verdict { decision, cause, nodes }).filter(|verdict| !verdict.nodes.is_empty())
    }

    /// Returns when to poll again if nothing changes; none while there is nothing to wait for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let view = self.view.as_ref().filter(|view| view.awaits_decision())?;
        let stable = self.stable_at(self.changes, view).filter(|_| view.is_responsible());
        [stable, self.unstable_at(self.changes, view)].into_iter().flatten().min()
    }

    /// Says what will be decided if nothing changes: when, what, and why; none while there is nothing to wait for.
    ///
    /// For the decision after the wait it does not matter here whether this node or another is to take it.
    #[must_use]
    pub fn forecast(&self) -> Option<(Instant, Verdict)> {
        self.forecast_of(self.changes, self.view.as_ref()?)
    }

    /// Says the same as it would after taking this view.
    #[must_use]
    pub fn forecast_with(&self, now: Instant, view: &View) -> Option<(Instant, Verdict)> {
        self.forecast_of(self.changes.then(now, self.view.as_ref(), view), view)
    }

    fn forecast_of(&self, changes: Changes, view: &View) -> Option<(Instant, Verdict)> {
        let view = Some(view).filter(|view| view.awaits_decision())?;
        let stable = self.stable_at(changes, view).map(|at| (at, Cause::Stable));
        let unstable = self.unstable_at(changes, view).map(|at| (at, Cause::Unstable));
        let (at, cause) = [stable, unstable].into_iter().flatten().min_by_key(|(at, _)| *at)?;
        let decision = match cause {
            Cause::Unstable => Decision::DownAll,
            Cause::Stable | Cause::Quarantined => self.strategy.decide(view),
        };
        let nodes = decision.nodes(&*self.strategy, view);
        Some((at, Verdict { decision, cause, nodes }))
    }

    fn due(&mut self, now: Instant) -> Option<(Decision, Cause)> {
        if self.is_quarantined {
            return Some((Decision::DownSelf, Cause::Quarantined));
        }
        let due = self.poll_timeout().filter(|due| *due <= now)?;
        let view = self.view.as_ref()?;
        if now.saturating_duration_since(due) >= self.wait(view) {
            self.handle_stall(now);
            return None;
        }
        // The other nodes of this side have not waited for the leader to come back to it.
        if self.unstable_at(self.changes, view).is_some_and(|at| at <= now) {
            return Some((Decision::DownAll, Cause::Unstable));
        }
        Some((self.strategy.decide(view), Cause::Stable))
    }

    fn stable_at(&self, changes: Changes, view: &View) -> Option<Instant> {
        changes.last?.checked_add(self.wait(view))
    }

    fn unstable_at(&self, changes: Changes, view: &View) -> Option<Instant> {
        let wait = self.wait(view);
        match self.settings.unstable {
            Unstable::DownAll => {
                changes.unsettled?.checked_add(wait + (wait * 3 / 4).max(LEAST_UNSTABLE))
            }
            Unstable::Wait => None,
        }
    }

    fn wait(&self, view: &View) -> Duration {
        self.settings.stable_after.for_members(view.members().len())
    }
}

impl Changes {
    /// Notes what changes at `now` from one view to the next.
    fn then(mut self, now: Instant, old: Option<&View>, new: &View) -> Self {
        let change = Change::between(old, new);
        if change != Change::None {
            self.last = Some(now);
        }
        if change == Change::Reachability {
            self.unsettled.get_or_insert(now);
        }
        // What one says alone is settled by the leader, and no reason for all to go.
        if !new.awaits_decision() || new.contested().is_empty() {
            self.unsettled = None;
        }
        self
    }
}

/// Says what has changed from one view to the next, as far as a decision waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    Membership,
    Reachability,
}

impl Change {
    fn between(old: Option<&View>, new: &View) -> Self {
        let (before, after) = (old.map_or_else(BTreeSet::new, View::troubled), new.troubled());
        let is_lost = !after.is_subset(&before);
        // One that is removed or downed has not come back.
        let is_alive = |node: &&UniqueAddress| {
            new.status(node).is_some_and(|status| status != ViewStatus::Down)
        };
        let is_back = before.difference(&after).any(is_alive);
        if is_lost || is_back {
            return Self::Reachability;
        }
        let is_news = |(node, status)| {
            let matters = matches!(status, ViewStatus::Up | ViewStatus::Exiting | ViewStatus::Down);
            matters && old.and_then(|old| old.status(node)) != Some(status)
        };
        let mut statuses = new.members().iter().map(|member| (&member.address, member.status));
        if statuses.any(is_news) { Self::Membership } else { Self::None }
    }
}

/// The scaled wait of a cluster of 100.
const SCALED_AT_100: Duration = Duration::from_secs(20);
/// Twice the members, so that the smallest clusters wait for more than one detection.
const ROUNDS_AT_100: f64 = 200.0;
/// Beyond this many members the scaled wait grows no more.
const MOST_SCALED: usize = 100_000;
/// Shorter waits would be decided before gossip has gone round once.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// A wait beyond a day is a mistake, and times stay far from overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// What the time for instability goes beyond the wait, at least.
const LEAST_UNSTABLE: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::super::tests::{address, names, view, view_led_by};
    use super::super::{DowningStrategy, KeepMajority};
    use super::*;

    #[test]
    fn the_wait_grows_with_the_cluster() {
        let table =
            [(0, 5), (2, 5), (5, 9), (10, 11), (50, 17), (100, 20), (1_000, 29), (usize::MAX, 46)];
        for (members, seconds) in table {
            let wait = StableAfter::Scaled.for_members(members);
            assert_eq!((wait + Duration::from_millis(500)).as_secs(), seconds, "for {members}");
        }
    }

    #[test]
    fn the_leader_decides_once_all_is_stable_for_long_enough() {
        let mut scene = Scene::new("a b c | d");
        assert_eq!(scene.after(0), None);
        assert_eq!(scene.machine.poll_timeout(), Some(scene.start + WAIT));
        assert_eq!(scene.after(19_999), None);
        assert_eq!(
            scene.after(20_000),
            Some((Decision::DownUnreachable, Cause::Stable, "d".into()))
        );
        assert_eq!(scene.after(20_001), None);
    }

    #[test]
    fn nobody_decides_while_all_are_reachable_downed_or_going() {
        for calm in ["a b c", "a b | c:down", "a b | c:exiting d:down"] {
            let mut scene = Scene::new(calm);
            assert_eq!(scene.machine.poll_timeout(), None, "{calm}");
            assert_eq!(scene.after(25_000), None, "{calm}");
            assert_eq!(scene.after(36_000), None, "{calm}");
        }
    }

    #[test]
    fn a_node_that_does_not_lead_or_has_not_come_up_leaves_the_decision_to_others() {
        for other in ["b a c | d", "a:joining b c | d", "a:exiting b c | d"] {
            let mut scene = Scene::new(other);
            scene.led_by("a");
            assert_eq!(scene.after(20_000), None, "{other}");
        }
        for leader in ["a:weakly b c | d", "a:leaving b c e | d"] {
            let mut scene = Scene::new(leader);
            scene.led_by("a");
            let expected = Some((Decision::DownUnreachable, Cause::Stable, "d".into()));
            assert_eq!(scene.after(20_000), expected, "{leader}");
        }
    }

    #[test]
    fn a_decision_not_followed_is_taken_again_after_the_same_wait() {
        let mut scene = Scene::new("a b c | d");
        assert!(scene.after(20_000).is_some());
        scene.sees(20_100, "a b c | d");
        assert_eq!(scene.after(39_999), None);
        assert!(scene.after(40_000).is_some());
    }

    #[test]
    fn changes_that_matter_begin_the_wait_anew() {
        let changes = [
            ("a b c:joining | d", "a b c:up | d"),
            ("a b c:leaving | d", "a b c:exiting | d"),
            ("a b c e | d", "a b c e:down | d"),
            ("a b c | d", "a b | c d"),
            ("a b | c d", "a b c | d"),
        ];
        for (before, after) in changes {
            let mut scene = Scene::new(before);
            scene.sees(10_000, after);
            assert_eq!(scene.after(29_999), None, "{before} then {after}");
            assert!(scene.after(30_000).is_some(), "{before} then {after}");
        }
    }

    #[test]
    fn changes_that_do_not_matter_leave_the_wait_alone() {
        let changes = [
            ("a b c | d", "a b c e:joining | d"),
            ("a b c e:joining | d", "a b c e:weakly | d"),
            ("a b c | d", "a b c:leaving | d"),
            ("a b c e | d", "a b c | d"),
            ("a b c | d e", "a b c | d"),
            ("a b c | d", "a b c | d"),
        ];
        for (before, after) in changes {
            let mut scene = Scene::new(before);
            scene.sees(10_000, after);
            assert!(scene.after(20_000).is_some(), "{before} then {after}");
        }
    }

    #[test]
    fn endless_changes_down_all_on_every_node() {
        for own in ["a b c d", "b a c d"] {
            let mut scene = Scene::new(own);
            scene.led_by("a");
            for second in 1..=35 {
                let lost = if second % 2 == 0 { "| e" } else { "| e f" };
                let kept = if second % 2 == 0 { "f" } else { "" };
                scene.sees(1_000 * second, &format!("{own} {kept} {lost}"));
                assert_eq!(scene.after(1_000 * second), None, "second {second}");
            }
            assert_eq!(scene.after(35_999), None);
            let verdict = scene.after(36_000).unwrap();
            assert_eq!((verdict.0, verdict.1), (Decision::DownAll, Cause::Unstable));
            assert_eq!(verdict.2.len(), 6);
        }
    }

    #[test]
    fn endless_changes_are_waited_out_if_so_set() {
        let mut scene = Scene::new("a b c d");
        scene.machine.settings.unstable = Unstable::Wait;
        for second in 1..=200 {
            let lost = if second % 2 == 0 { "| e" } else { "e |" };
            scene.sees(1_000 * second, &format!("a b c d {lost} f"));
            assert_eq!(scene.after(1_000 * second), None);
        }
        assert!(scene.after(220_000).is_some());
    }

    #[test]
    fn instability_is_forgotten_when_all_are_back() {
        let mut scene = Scene::new("a b c | d");
        scene.sees(19_000, "a b c d");
        scene.sees(30_000, "a b c | d");
        assert_eq!(scene.after(40_000), None);
        assert_eq!(
            scene.after(50_000),
            Some((Decision::DownUnreachable, Cause::Stable, "d".into()))
        );
    }

    #[test]
    fn however_much_one_complains_alone_it_goes_alone_and_after_one_wait() {
        let mut scene = Scene::new("a b c d");
        for second in 1..=20 {
            let rows = if second % 2 == 0 { "c>a c>b" } else { "c>b c>d" };
            let now = scene.start + Duration::from_secs(second);
            scene.machine.handle_view(now, view("a b c d", rows));
            assert_eq!(scene.after(1_000 * second), None, "second {second}");
        }
        let verdict = scene.after(21_000).unwrap();
        assert_eq!(verdict, (Decision::DownIndirectlyConnected, Cause::Stable, "c".into()));
    }

    #[test]
    fn a_side_without_a_leader_goes_in_the_end() {
        let mut scene = Scene::new("b:joining | a c");
        assert_eq!(scene.after(34_999), None);
        assert_eq!(scene.machine.poll_timeout(), Some(scene.start + Duration::from_secs(35)));
        assert_eq!(scene.after(35_000), Some((Decision::DownAll, Cause::Unstable, "acb".into())));
    }

    #[test]
    fn a_decision_overdue_by_a_whole_wait_is_not_taken_on_stale_knowledge() {
        let mut scene = Scene::new("a b c | d");
        assert_eq!(scene.after(40_000), None);
        assert_eq!(scene.after(59_999), None);
        assert!(scene.after(60_000).is_some());
    }

    #[test]
    fn a_stall_begins_the_wait_anew() {
        let mut scene = Scene::new("a b c | d");
        scene.machine.handle_stall(scene.start + Duration::from_secs(19));
        assert_eq!(scene.after(38_999), None);
        assert_eq!(
            scene.after(39_000),
            Some((Decision::DownUnreachable, Cause::Stable, "d".into()))
        );
    }

    #[test]
    fn a_node_quarantined_by_a_member_goes_at_once_whoever_leads() {
        let mut scene = Scene::new("b a c");
        scene.led_by("a");
        scene.machine.handle_quarantined(&address("c"));
        assert_eq!(scene.after(0), Some((Decision::DownSelf, Cause::Quarantined, "b".into())));
        assert_eq!(scene.after(1), None);
    }

    #[test]
    fn a_quarantine_by_a_stranger_is_ignored() {
        let mut scene = Scene::new("b a c");
        scene.machine.handle_quarantined(&address("z"));
        assert_eq!(scene.after(0), None);
    }

    const WAIT: Duration = Duration::from_secs(20);

    /// Plays a machine that keeps the majority and waits 20 s, from its first view on.
    struct Scene {
        machine: Downing,
        start: Instant,
        leader: Option<&'static str>,
        seen: (u64, String),
    }

    impl Scene {
        fn new(sides: &str) -> Self {
            let strategy: Box<dyn DowningStrategy> = Box::new(KeepMajority::new());
            let settings = DowningSettings {
                stable_after: StableAfter::Fixed(WAIT),
                unstable: Unstable::DownAll,
            };
            let machine = Downing::new(strategy, settings);
            let mut scene =
                Self { machine, start: Instant::now(), leader: None, seen: (0, String::new()) };
            scene.sees(0, sides);
            scene
        }

        fn sees(&mut self, millis: u64, sides: &str) {
            let view = match self.leader {
                Some(leader) => view_led_by(leader, sides),
                None => view(sides, ""),
            };
            self.seen = (millis, sides.to_owned());
            self.machine.handle_view(self.start + Duration::from_millis(millis), view);
        }

        fn led_by(&mut self, leader: &'static str) {
            self.leader = Some(leader);
            let (millis, sides) = self.seen.clone();
            self.sees(millis, &sides);
        }

        fn after(&mut self, millis: u64) -> Option<(Decision, Cause, String)> {
            let verdict = self.machine.poll_decision(self.start + Duration::from_millis(millis))?;
            Some((verdict.decision, verdict.cause, names(&verdict.nodes)))
        }
    }
}
