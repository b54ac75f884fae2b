//! Lets the faults strike, one episode after the other, and looks whether the cluster does with them what it should.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::grid::Grid;
use crate::plan::{Episode, Fault, Kind, Plan, Rest};
use crate::view;

/// Runs a plan against a fleet.
pub(crate) struct Conductor {
    fleet: Fleet,
    grid: Grid,
    plan: Plan,
    began: Instant,
    /// Number of the next fault.
    next: u64,
    measured: Instant,
    pub(crate) seen: Seen,
}

/// Is what was seen of the cluster while it ran.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) schedule: Vec<String>,
    pub(crate) broken: Vec<String>,
    /// Faults, by kind.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) downed: u64,
    /// How often nobody was left, so that the cluster was formed again.
    pub(crate) formed_again: u64,
    /// How long the cluster took to become whole.
    pub(crate) settled: Vec<Duration>,
    /// Partitions that outlasted downing: with one side left, and with none.
    pub(crate) one_side: u64,
    pub(crate) no_side: u64,
}

/// A fault of the episode that runs.
struct Due {
    number: u64,
    fault: Fault,
    begins: Instant,
    ends: Instant,
    has_begun: bool,
}

impl Conductor {
    pub(crate) fn new(fleet: Fleet, grid: Grid, plan: Plan) -> Self {
        let (began, measured) = (Instant::now(), Instant::now());
        Self { fleet, grid, plan, began, next: 0, measured, seen: Seen::default() }
    }

    /// Runs for a time, then lets the cluster become whole and come to rest; breaks off at the first thing that is wrong.
    pub(crate) async fn run(&mut self, time: Duration) -> Result<(), Failure> {
        for index in 0..self.fleet.nodes() {
            // Only the first may form the cluster.
            let seeds = if index == 0 { (0..self.fleet.nodes()).collect() } else { vec![0] };
            self.fleet.start(index, seeds, &self.grid).await?;
        }
        self.settle().await?;
        while self.began.elapsed() < time && self.seen.broken.is_empty() {
            let episode = self.plan.episode();
            if episode.is_clean {
                self.settle().await?;
            }
            self.note(format!("{episode}"));
            self.play(&episode).await?;
            match episode.rest {
                Rest::Brief(wait) => self.idle(wait).await?,
                Rest::Settle => self.settle().await?,
            }
        }
        if self.seen.broken.is_empty() {
            self.settle().await?;
            self.drain().await?;
        }
        Ok(())
    }

    pub(crate) fn fleet(&mut self) -> &mut Fleet {
        &mut self.fleet
    }

    fn note(&mut self, text: String) {
        let at = self.began.elapsed().as_secs_f32();
        eprintln!("{at:7.1} s  {text}");
        self.seen.schedule.push(format!("{at:7.1} s  {text}"));
    }

    fn fault_found(&mut self, text: String) {
        self.note(format!("BROKEN: {text}"));
        self.seen.broken.push(text);
    }

    /// Lets the faults of an episode begin and end.
    async fn play(&mut self, episode: &Episode) -> Result<(), Failure> {
        let start = Instant::now();
        let mut due = Vec::new();
        for fault in &episode.faults {
            let (begins, ends) = (start + fault.at, start + fault.at + fault.lasts);
            let (number, fault) = (self.next, fault.clone());
            due.push(Due { number, fault, begins, ends, has_begun: false });
            self.next += 1;
        }
        while !due.is_empty() {
            let now = Instant::now();
            for one in due.iter_mut().filter(|one| !one.has_begun && one.begins <= now) {
                self.begin(one).await?;
                one.has_begun = true;
            }
            let (over, rest): (Vec<_>, Vec<_>) =
                due.into_iter().partition(|one| one.has_begun && one.ends <= now);
            due = rest;
            for one in over {
                self.end(&one, episode.is_clean).await?;
            }
            self.idle(TICK).await?;
        }
        Ok(())
    }

    async fn begin(&mut self, due: &Due) -> Result<(), Failure> {
        *self.seen.faults.entry(due.fault.kind.name()).or_default() += 1;
        match &due.fault.kind {
            Kind::Kill(node) => self.fleet.kill(*node).await?,
            Kind::Pause(node) => self.fleet.pause(*node).await?,
            kind => self.grid.begin(due.number, kind),
        }
        Ok(())
    }

    async fn end(&mut self, due: &Due, is_clean: bool) -> Result<(), Failure> {
        match &due.fault.kind {
            Kind::Kill(node) => self.fleet.let_start(*node),
            Kind::Pause(node) => self.fleet.resume(*node).await?,
            kind => {
                if let (Kind::Part(group), true) = (kind, due.fault.outlasts_downing()) {
                    self.judge_sides(group, is_clean).await;
                }
                self.grid.end(due.number);
            }
        }
        Ok(())
    }

    /// Holds a partition that outlasted downing to having left one side.
    async fn judge_sides(&mut self, group: &BTreeSet<usize>, is_clean: bool) {
        let views = self.fleet.views().await;
        let sides = view::surviving(&views, group);
        match sides {
            [true, true] => self.fault_found(format!("both sides of {group:?} go on: {views:?}")),
            [false, false] if is_clean => {
                self.fault_found(format!("no side of {group:?} goes on: {views:?}"));
            }
            [false, false] => self.seen.no_side += 1,
            [true, false] | [false, true] => {
                self.seen.one_side += 1;
                let others = self.fleet.nodes() - group.len();
                let (kept, gone) =
                    if sides[0] { (group.len(), others) } else { (others, group.len()) };
                if is_clean && kept < gone {
                    self.fault_found(format!("the smaller side of {group:?} goes on: {views:?}"));
                }
            }
        }
    }

    /// Waits, and tends the fleet meanwhile.
    async fn idle(&mut self, wait: Duration) -> Result<(), Failure> {
        let until = Instant::now() + wait;
        loop {
            self.seen.downed += self.fleet.tend(&self.grid).await?;
            if self.measured.elapsed() >= MEASURE_EVERY {
                self.measured = Instant::now();
                self.fleet.measure();
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(TICK)).await;
        }
    }

    /// Waits until all are members of one cluster; it has to come about in time.
    async fn settle(&mut self) -> Result<(), Failure> {
        let (mut since, mut lost_since) = (Instant::now(), None);
        loop {
            self.idle(LOOK).await?;
            let views = self.fleet.views().await;
            if self.fleet.is_whole() && view::is_one_cluster(&views, &self.fleet.uids()) {
                self.seen.settled.push(since.elapsed());
                return Ok(());
            }
            let is_lost = self.fleet.is_whole() && view::is_lost(&views);
            lost_since = is_lost.then(|| lost_since.unwrap_or_else(Instant::now));
            if lost_since.is_some_and(|lost: Instant| lost.elapsed() >= LOST_FOR) {
                self.form_again().await?;
                (since, lost_since) = (Instant::now(), None);
            }
            if since.elapsed() > SETTLE_LIMIT {
                self.fault_found(format!("not whole after {SETTLE_LIMIT:?}: {views:?}"));
                return Ok(());
            }
        }
    }

    /// Starts one node anew as the first of a cluster, which the others find.
    async fn form_again(&mut self) -> Result<(), Failure> {
        self.note("nobody is left: formed again".to_owned());
        self.seen.formed_again += 1;
        self.fleet.kill(0).await?;
        let seeds = (0..self.fleet.nodes()).collect();
        self.fleet.start(0, seeds, &self.grid).await?;
        self.fleet.let_run(0);
        Ok(())
    }

    /// Ends the workload, waits until nothing is under way, and lets everybody go.
    async fn drain(&mut self) -> Result<(), Failure> {
        self.fleet.controller().put("stage", "drain")?;
        let (since, mut quiet) = (Instant::now(), 0);
        while quiet < QUIET {
            self.idle(LOOK).await?;
            quiet = if self.fleet.left().await == Some(0) { quiet + 1 } else { 0 };
            if since.elapsed() > SETTLE_LIMIT {
                let left = self.fleet.left().await;
                self.fault_found(format!("not at rest after {SETTLE_LIMIT:?}: {left:?} under way"));
                return Ok(());
            }
        }
        self.fleet.controller().put("stage", "finish")?;
        self.fleet.ended().await
    }
}

const TICK: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(500);
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// How long the cluster may take to become whole once all processes run and no fault is in force.
pub(crate) const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// How long nobody is a member before the cluster is formed again.
const LOST_FOR: Duration = Duration::from_secs(6);
/// Looks that have to find nothing under way before the books are closed.
const QUIET: u32 = 4;
