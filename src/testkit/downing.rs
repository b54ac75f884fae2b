//! Holds a downing strategy to what a cluster relies on.
//!
//! [`conforms`] shows the strategy every two-way split of small clusters from both sides, with members of every status,
//! roles and age; nodes that cannot reach each other although they are connected; and views that make no sense. What it
//! must never do is let both sides of a split go on, for then there are two clusters.
//!
//! ```
//! use tellwire::membership::downing::{Decision, DowningStrategy, View};
//! use tellwire::testkit::downing::{Gap, conforms};
//!
//! /// Keeps the side of one member that must not move.
//! #[derive(Debug)]
//! struct KeepArchive;
//!
//! impl DowningStrategy for KeepArchive {
//!     fn decide(&self, view: &View) -> Decision {
//!         let mut archives = view.counted(Some("archive"));
//!         match (archives.next(), archives.next()) {
//!             _ if !view.indirectly_connected().is_empty() => Decision::DownIndirectlyConnected,
//!             (Some(one), None) if view.is_reachable(&one.address) => Decision::DownUnreachable,
//!             (Some(_), None) => Decision::DownReachable,
//!             _ => Decision::DownAll,
//!         }
//!     }
//! }
//!
//! // While an archive joins or leaves, the two sides may disagree on which is the only one.
//! conforms(&KeepArchive, &["archive"], &[Gap::UnevenNews]);
//! ```
//!
//! Two promises need no check. A strategy is asked only while somebody is unreachable; and it cannot name anybody who is
//! no member, since [`Decision::nodes`](crate::membership::downing::Decision::nodes) picks whom it means from the view.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::address::{Address, Uid, UniqueAddress};
use crate::membership::downing::{
    Decision, DowningStrategy, Unreachability, View, ViewMember, ViewStatus,
};

/// Names a promise that a strategy does not keep.
///
/// A gap that is claimed has to show: a strategy that keeps the promise all the same fails the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gap {
    /// Both sides of a split may go on although both know the same: never with data that matters.
    BothSides,
    /// Both sides of a split may go on if news has reached one only: that members are Up, or Exiting.
    UnevenNews,
    /// Members may stay that cannot reach each other.
    IndirectlyConnected,
}

/// Runs every check, except for the gaps; members have all of `roles`, or none.
///
/// # Panics
/// Fails by panicking, with the view and the decision.
pub fn conforms(strategy: &dyn DowningStrategy, roles: &[&str], gaps: &[Gap]) {
    let roles = roles.iter().map(ToString::to_string).collect();
    let asked = Asked { strategy, roles, nodes: (0..MOST).map(node).collect() };
    let keep = |gap, found: Result<(), String>| match (gaps.contains(&gap), found) {
        (false, Err(found)) => panic!("{strategy:?}: {found}; is it a gap, {gap:?}?"),
        (true, Ok(())) => panic!("{strategy:?}: {gap:?} is no gap: every check was passed"),
        (false, Ok(())) | (true, Err(_)) => {}
    };
    let identity = strategy.identity();
    assert!(!identity.is_empty(), "{strategy:?} has no identity");
    asked.survives_odd_views();
    asked.repeats_itself();
    keep(Gap::BothSides, asked.keeps_one_side());
    keep(Gap::UnevenNews, asked.keeps_one_side_of_uneven_news());
    keep(Gap::IndirectlyConnected, asked.keeps_nobody_indirectly_connected());
    assert_eq!(strategy.identity(), identity, "the identity of {strategy:?} has changed");
}

/// Is the strategy under test.
struct Asked<'a> {
    strategy: &'a dyn DowningStrategy,
    roles: BTreeSet<String>,
    /// Who is at which place; made once, since names cost more than decisions.
    nodes: Vec<UniqueAddress>,
}

/// Describes a cluster by its members' numbers, which are places here.
#[derive(Debug, Clone)]
struct Scene {
    statuses: Vec<ViewStatus>,
    /// Bit by bit, who has the roles.
    with_role: u32,
    ages: Ages,
    /// Bit by bit, who was not Up before: they are younger than the others.
    late: u32,
}

/// Says who is the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ages {
    FirstIsOldest,
    LastIsOldest,
    AllTheSame,
}

impl Asked<'_> {
    /// Asks, and names the view if the strategy panics.
    fn decide(&self, view: &View) -> Decision {
        let decided = catch_unwind(AssertUnwindSafe(|| self.strategy.decide(view)));
        decided.unwrap_or_else(|_| panic!("{:?} panicked at {}", self.strategy, describe(view)))
    }

    fn survives_odd_views(&self) {
        for view in self.odd_views() {
            drop(self.decide(&view).nodes(self.strategy, &view));
        }
    }

    /// Demands the same answer whatever was asked in between.
    fn repeats_itself(&self) {
        let views = self.odd_views();
        let first: Vec<_> = views.iter().map(|view| self.decide(view)).collect();
        for (view, first) in views.iter().zip(first).rev() {
            let again = [self.decide(view), self.decide(view)];
            let (strategy, view) = (self.strategy, describe(view));
            assert_eq!(
                [first; 2], again,
                "{strategy:?} is not pure: it changes its mind on {view}"
            );
        }
    }

    fn keeps_one_side(&self) -> Result<(), String> {
        for scene in self.scenes() {
            // Both sides are shown the same scene, so the first member may be on one side always.
            for here in (1..scene.everybody()).step_by(2) {
                self.keeps_one(&scene, &scene, here)?;
            }
        }
        Ok(())
    }

    /// Lets one side be one step of the leader behind the other.
    fn keeps_one_side_of_uneven_news(&self) -> Result<(), String> {
        let old = [ViewStatus::Up, ViewStatus::Leaving, ViewStatus::Joining, ViewStatus::WeaklyUp];
        let [two, three] = [2, 3].map(|size| words(&old, size));
        for statuses in [two, three, words(&old[..3], 4)].concat() {
            let behind = self.scene(statuses);
            for moved in 1..1 << behind.statuses.len() {
                let Some(ahead) = behind.after(moved) else { continue };
                for here in 1..behind.everybody() {
                    self.keeps_one(&behind, &ahead, here)?;
                }
            }
        }
        Ok(())
    }

    /// Demands that not both sides go on, of which one sees `one` and the other `other`.
    fn keeps_one(&self, one: &Scene, other: &Scene, here: u32) -> Result<(), String> {
        let there = !here & one.everybody();
        let Some((view, decision)) = self.survives(one, here) else { return Ok(()) };
        match self.survives(other, there) {
            None => Ok(()),
            Some((other, theirs)) => Err(format!(
                "both sides go on: {decision:?} on {}, and {theirs:?} on {}",
                describe(&view),
                describe(&other)
            )),
        }
    }

    /// Gives a view on which a side goes on if its first or its last member decides; none if it goes.
    fn survives(&self, scene: &Scene, side: u32) -> Option<(View, Decision)> {
        let may_act = |status| matches!(status, ViewStatus::Up | ViewStatus::WeaklyUp);
        let mut deciders = scene.places(side).filter(|place| may_act(scene.statuses[*place]));
        let deciders = [deciders.next(), deciders.last()].into_iter().flatten();
        let mut views = deciders.map(|own| self.split(scene, side, own));
        views.find_map(|view| {
            let decision = self.decide(&view);
            let downed = decision.nodes(self.strategy, &view);
            let mut here = view.downable().filter(|node| view.is_reachable(node));
            here.any(|node| !downed.contains(node)).then_some((view.clone(), decision))
        })
    }

    /// Shows every way in which up to four connected members can complain of each other.
    fn keeps_nobody_indirectly_connected(&self) -> Result<(), String> {
        for size in 2..=4 {
            let scene = self.scene(vec![ViewStatus::Up; size]);
            let ends = (0..size).flat_map(|from| (0..size).map(move |to| (from, to)));
            let ends: Vec<_> = ends.filter(|(from, to)| from != to).collect();
            for chosen in 1_u32..1 << ends.len() {
                let is_chosen = |(place, _): &(usize, _)| chosen >> place & 1 == 1;
                let rows = ends.iter().enumerate().filter(is_chosen).map(|(_, row)| *row);
                self.keeps_nobody_accused(&scene, &rows.collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }

    /// Demands that of nobody who complains both ends stay when all who decide have told each other.
    fn keeps_nobody_accused(&self, scene: &Scene, rows: &[(usize, usize)]) -> Result<(), String> {
        let everybody = scene.everybody();
        let views = scene.places(everybody).map(|own| self.view(scene, own, rows, everybody));
        let views: Vec<_> = views.collect();
        let deciders = views.iter().filter(|view| view.is_responsible() && view.awaits_decision());
        let downed: BTreeSet<_> =
            deciders.flat_map(|view| self.decide(view).nodes(self.strategy, view)).collect();
        let stays = |place: usize| !downed.contains(&self.nodes[place]);
        match rows.iter().find(|(from, to)| stays(*from) && stays(*to)) {
            None => Ok(()),
            Some((from, to)) => {
                let views: Vec<_> = views.iter().map(describe).collect();
                Err(format!("{from} stays and cannot reach {to}: {}", views.join("; ")))
            }
        }
    }

    /// Gives the clusters to split: every size with every choice of roles, then every status.
    fn scenes(&self) -> Vec<Scene> {
        let mut scenes = Vec::new();
        for size in 2..=5 {
            for with_role in 0..if self.roles.is_empty() { 1 } else { 1 << size } {
                for ages in [Ages::FirstIsOldest, Ages::LastIsOldest, Ages::AllTheSame] {
                    let statuses = vec![ViewStatus::Up; size];
                    scenes.push(Scene { statuses, with_role, ages, late: 0 });
                }
            }
        }
        for size in 6..=8 {
            scenes.push(self.scene(vec![ViewStatus::Up; size]));
        }
        let words = [words(&STATUSES, 2), words(&STATUSES, 3), words(&SOME_STATUSES, 4)];
        scenes.extend(words.concat().into_iter().map(|statuses| self.scene(statuses)));
        scenes
    }

    /// Makes a cluster in which all have the roles.
    fn scene(&self, statuses: Vec<ViewStatus>) -> Scene {
        let arriving = statuses.iter().enumerate().filter(|(_, status)| status.is_arriving());
        let late = arriving.fold(0, |late, (place, _)| late | 1 << place);
        Scene { statuses, with_role: u32::MAX, ages: Ages::FirstIsOldest, late }
    }

    /// Shows a clean split from one side: all here complain of all there, who have seen nothing of it.
    fn split(&self, scene: &Scene, side: u32, own: usize) -> View {
        let there = !side & scene.everybody();
        let is_told = |place: &usize| scene.statuses[*place] != ViewStatus::Down;
        let observers = scene.places(side).filter(is_told);
        let rows = observers.flat_map(|from| scene.places(there).map(move |to| (from, to)));
        self.view(scene, own, &rows.collect::<Vec<_>>(), side)
    }

    fn view(&self, scene: &Scene, own: usize, rows: &[(usize, usize)], seen: u32) -> View {
        let members = scene.statuses.iter().enumerate().map(|(place, status)| {
            let has_role = scene.with_role >> place & 1 == 1;
            let roles = if has_role { self.roles.clone() } else { BTreeSet::new() };
            let (address, up_number) = (self.node(place), scene.age(place));
            ViewMember { address, status: *status, roles, up_number }
        });
        let lost: BTreeSet<_> = rows.iter().map(|(_, to)| *to).filter(|to| *to != own).collect();
        let may_lead = |place: &usize| {
            let is_up = scene.statuses[*place].is_counted() || *place == own;
            is_up && !lost.contains(place)
        };
        let leader = scene.places(scene.everybody()).find(may_lead).map(|place| self.node(place));
        let rows = rows.iter().map(|(from, to)| self.row(*from, *to));
        let seen = scene.places(seen).map(|place| self.node(place)).collect();
        View::new(self.node(own), leader, members.collect(), rows, seen)
    }

    fn row(&self, from: usize, to: usize) -> Unreachability {
        Unreachability { observer: self.node(from), subject: self.node(to) }
    }

    fn node(&self, place: usize) -> UniqueAddress {
        self.nodes[place].clone()
    }

    /// Gives views that a node should never have.
    fn odd_views(&self) -> Vec<View> {
        let three = self.scene(vec![ViewStatus::Up; 3]);
        let all_lost = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
        let many = self.scene(vec![ViewStatus::Up; 31]);
        let mut views = vec![
            View::new(self.node(0), None, Vec::new(), [], BTreeSet::new()),
            View::new(
                self.node(0),
                Some(self.node(7)),
                Vec::new(),
                [self.row(0, 7)],
                [self.node(7)].into(),
            ),
            self.view(&three, 9, &[(0, 1)], 0),
            self.view(&three, 0, &[], three.everybody()),
            self.view(&three, 0, &[(1, 0), (2, 0)], three.everybody()),
            self.view(&three, 0, &[(0, 0)], three.everybody()),
            self.view(&three, 0, &all_lost, 0),
            self.view(&three, 0, &all_lost, three.everybody()),
            self.view(&many, 30, &[(30, 0), (0, 30)], 1),
        ];
        for status in STATUSES {
            let alike = self.scene(vec![status; 3]);
            views.push(self.view(&alike, 1, &[(1, 0), (1, 2)], 2));
            views.push(self.view(&alike, 1, &all_lost, 0));
        }
        let twins = three.statuses.iter().map(|status| ViewMember {
            address: self.node(0),
            status: *status,
            roles: BTreeSet::new(),
            up_number: u64::MAX,
        });
        views.push(View::new(
            self.node(0),
            None,
            twins.collect(),
            [self.row(0, 0)],
            BTreeSet::new(),
        ));
        views
    }
}

impl Scene {
    fn everybody(&self) -> u32 {
        (1 << self.statuses.len()) - 1
    }

    /// Gives the places whose bits are set.
    fn places(&self, bits: u32) -> impl Iterator<Item = usize> + use<> {
        (0..self.statuses.len()).filter(move |place| bits >> place & 1 == 1)
    }

    fn age(&self, place: usize) -> u64 {
        let is_late = self.late >> place & 1 == 1;
        let place = if is_late { 200 } else { 0 } + place as u64;
        match self.ages {
            Ages::FirstIsOldest => 1 + place,
            Ages::LastIsOldest => 1_000 - place,
            Ages::AllTheSame => 1,
        }
    }

    /// Gives the cluster after its leader has moved these members on; none if one of them does not move.
    fn after(&self, moved: u32) -> Option<Self> {
        let mut after = self.clone();
        for place in self.places(moved) {
            let status = after.statuses.get_mut(place)?;
            *status = match status {
                ViewStatus::Joining | ViewStatus::WeaklyUp => ViewStatus::Up,
                ViewStatus::Leaving => ViewStatus::Exiting,
                ViewStatus::Up | ViewStatus::Exiting | ViewStatus::Down => return None,
            };
        }
        Some(after)
    }
}

/// Gives every word of a length.
fn words(letters: &[ViewStatus], length: usize) -> Vec<Vec<ViewStatus>> {
    (0..length).fold(vec![Vec::new()], |words, _| {
        let longer = words.iter().flat_map(|word| {
            letters.iter().map(|letter| word.iter().chain([letter]).copied().collect())
        });
        longer.collect()
    })
}

/// Names the node at a place.
fn node(place: usize) -> UniqueAddress {
    let address = Address::new("mem", "Test", &format!("node-{place}"), 1);
    let address = address.unwrap_or_else(|error| panic!("node {place}: {error}"));
    UniqueAddress::new(address, Uid::new(1 + place as u64))
}

/// Writes a view in a line: `node-0 of node-0:Up node-1:Up(unreachable)`.
fn describe(view: &View) -> String {
    let members = view.members().iter().map(|member| {
        let mark = if view.is_reachable(&member.address) { "" } else { "(unreachable)" };
        let roles: Vec<_> = member.roles.iter().map(|role| format!("/{role}")).collect();
        format!("{}{}:{:?}{mark}", member.address.address().host(), roles.concat(), member.status)
    });
    let members: Vec<_> = members.collect();
    format!("{} of [{}]", view.own().address().host(), members.join(" "))
}

/// Members in the largest view, and one beyond.
const MOST: usize = 32;
/// All statuses there are.
const STATUSES: [ViewStatus; 6] = [
    ViewStatus::Joining,
    ViewStatus::WeaklyUp,
    ViewStatus::Up,
    ViewStatus::Leaving,
    ViewStatus::Exiting,
    ViewStatus::Down,
];
/// Those that differ in a cluster of four.
const SOME_STATUSES: [ViewStatus; 4] =
    [ViewStatus::Joining, ViewStatus::Up, ViewStatus::Leaving, ViewStatus::Exiting];
