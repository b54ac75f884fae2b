//! Runs the processes: starts them, stops and kills them, starts them again, and knows how each sees the cluster.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tellwire::testkit::processes::ProcessError;
use tellwire::testkit::{Controller, Process};

use crate::failure::Failure;
use crate::grid::Grid;
use crate::journal;
use crate::member::{DOWNED, Role};
use crate::view::View;
use crate::vitals::{Patient, Vitals};

/// Holds one slot for each node of the cluster.
pub(crate) struct Fleet {
    controller: Controller,
    slots: Vec<Slot>,
    vitals: Vitals,
    folder: PathBuf,
    /// When the run began, since 1970.
    began: Duration,
    seed: u64,
}

/// Is a node's place: the same address for one process after the other.
#[derive(Default)]
struct Slot {
    process: Option<Running>,
    generation: usize,
    /// Faults that keep it from being started.
    kills: usize,
    /// Faults that keep it from running.
    pauses: usize,
    start_at: Option<Instant>,
}

struct Running {
    process: Process,
    uid: u64,
    patient: Patient,
    since: Instant,
}

impl Fleet {
    pub(crate) async fn new(nodes: usize, folder: &Path, seed: u64) -> Result<Self, Failure> {
        let controller = Controller::start((0..nodes).map(name)).await?;
        controller.put("stage", "run")?;
        let slots = (0..nodes).map(|_| Slot::default()).collect();
        let began = journal::since(Duration::ZERO);
        let (folder, vitals) = (folder.to_owned(), Vitals::default());
        Ok(Self { controller, slots, vitals, folder, began, seed })
    }

    pub(crate) fn nodes(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn controller(&self) -> &Controller {
        &self.controller
    }

    pub(crate) fn vitals(&mut self) -> &mut Vitals {
        &mut self.vitals
    }

    /// Starts a node that joins through these, and waits until it says where it is.
    pub(crate) async fn start(
        &mut self,
        index: usize,
        seeds: Vec<usize>,
        grid: &Grid,
    ) -> Result<(), Failure> {
        let (nodes, slot) = (self.nodes(), &mut self.slots[index]);
        let journal = self.folder.join(format!("node-{index}.{:04}", slot.generation));
        let role = Role {
            index,
            addresses: (0..nodes).map(|node| grid.mesh().endpoint(node)).collect(),
            detours: grid.mesh().detours(index),
            seeds,
            journal: journal.to_string_lossy().into_owned(),
            began: self.began,
            seed: self.seed,
        };
        let program = Process::program(std::env::current_exe()?, name(index));
        let program = program.arg("--member").args(role.arguments());
        let mut process = program.controller(&self.controller).start()?;
        let line = process.line(|line| line.starts_with("at "), START_LIMIT).await?;
        let numbers: Vec<u64> =
            line.split(' ').skip(1).map(str::parse).collect::<Result<_, _>>()?;
        let [port, uid, pid] = numbers[..] else {
            return Err(Failure::run(format!("{} says `{line}`", name(index))));
        };
        grid.mesh().set_target(index, (Ipv4Addr::LOCALHOST, u16::try_from(port)?).into());
        let patient = self.vitals.begin(format!("{index}.{}", slot.generation), pid);
        slot.process = Some(Running { process, uid, patient, since: Instant::now() });
        (slot.generation, slot.start_at) = (slot.generation + 1, None);
        Ok(())
    }

    /// Kills a node; it stays away until the kill is lifted.
    pub(crate) async fn kill(&mut self, index: usize) -> Result<(), Failure> {
        let slot = &mut self.slots[index];
        slot.kills += 1;
        let Some(mut running) = slot.process.take() else { return Ok(()) };
        Ok(running.process.kill().await?)
    }

    /// Lifts a kill.
    pub(crate) fn let_start(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.kills -= 1;
        slot.start_at = Some(Instant::now());
    }

    /// Lifts the kill of a node that was started meanwhile.
    pub(crate) fn let_run(&mut self, index: usize) {
        self.slots[index].kills -= 1;
    }

    pub(crate) async fn pause(&mut self, index: usize) -> Result<(), Failure> {
        let slot = &mut self.slots[index];
        slot.pauses += 1;
        let Some(running) = slot.process.as_mut() else { return Ok(()) };
        pass_over_the_dead(running.process.pause().await)
    }

    pub(crate) async fn resume(&mut self, index: usize) -> Result<(), Failure> {
        let slot = &mut self.slots[index];
        slot.pauses -= 1;
        match slot.process.as_mut() {
            Some(running) if slot.pauses == 0 => pass_over_the_dead(running.process.resume().await),
            _ => Ok(()),
        }
    }

    /// Notes who has ended, and starts again who may; gives how many were downed by their cluster.
    pub(crate) async fn tend(&mut self, grid: &Grid) -> Result<u64, Failure> {
        let mut downed = 0;
        for index in 0..self.slots.len() {
            if self.has_ended(index).await? {
                downed += 1;
                self.slots[index].process = None;
                self.slots[index].start_at = Some(Instant::now() + RESTART_AFTER);
            }
            let slot = &self.slots[index];
            let is_due = slot.start_at.is_some_and(|at| at <= Instant::now());
            if slot.process.is_none() && slot.kills == 0 && is_due {
                // Not itself first, so that it never forms a cluster beside the others.
                let seeds = (1..self.nodes()).map(|next| (index + next) % self.nodes()).collect();
                self.start(index, seeds, grid).await?;
            }
        }
        Ok(downed)
    }

    async fn has_ended(&mut self, index: usize) -> Result<bool, Failure> {
        let Some(running) = self.slots[index].process.as_mut() else { return Ok(false) };
        match running.process.ended(A_LOOK).await {
            Err(ProcessError::Late { .. }) => Ok(false),
            Ok(status) if status.code() == Some(DOWNED.into()) => Ok(true),
            Ok(status) => {
                let said = running.process.output();
                Err(Failure::run(format!(
                    "{} has ended with {status}; it said:\n{said}",
                    name(index)
                )))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Looks at memory and descriptors of all processes.
    pub(crate) fn measure(&mut self) {
        for running in self.slots.iter().filter_map(|slot| slot.process.as_ref()) {
            self.vitals.measure(&running.patient, running.since.elapsed());
        }
    }

    /// Tells whether every node has a process that runs.
    pub(crate) fn is_whole(&self) -> bool {
        self.slots.iter().all(|slot| slot.process.is_some() && slot.pauses == 0)
    }

    /// Gives the incarnation of each node, as far as it has a process.
    pub(crate) fn uids(&self) -> Vec<Option<u64>> {
        self.slots.iter().map(|slot| slot.process.as_ref().map(|running| running.uid)).collect()
    }

    /// Gives how each node that runs sees the cluster, as far as it has said so.
    pub(crate) async fn views(&self) -> Vec<Option<View>> {
        let mut views = Vec::new();
        for (index, uid) in self.uids().into_iter().enumerate() {
            let text = self.controller.get(&format!("view.{index}"), Duration::ZERO).await;
            let view = text.and_then(|text| text.parse().ok());
            let is_paused = self.slots[index].pauses > 0;
            views.push(view.filter(|view: &View| Some(view.uid) == uid && !is_paused));
        }
        views
    }

    /// Counts what all nodes have under way once the workload has ended; none while some have not said so.
    pub(crate) async fn left(&self) -> Option<usize> {
        let mut sum = 0;
        for index in 0..self.nodes() {
            let left = self.controller.get(&format!("left.{index}"), Duration::ZERO).await?;
            sum += left.parse::<usize>().ok()?;
        }
        Some(sum)
    }

    /// Waits for the end of every process, in order.
    pub(crate) async fn ended(&mut self) -> Result<(), Failure> {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(mut running) = slot.process.take() else { continue };
            let status = running.process.ended(END_LIMIT).await?;
            if !status.success() {
                let said = running.process.output();
                let text = format!("{} ends with {status}; it said:\n{said}", name(index));
                return Err(Failure::run(text));
            }
        }
        Ok(())
    }
}

/// A process that its cluster has downed may be gone when a fault wants to strike it.
fn pass_over_the_dead(done: Result<(), ProcessError>) -> Result<(), Failure> {
    match done {
        Ok(()) | Err(ProcessError::System { .. }) => Ok(()),
        Err(other) => Err(other.into()),
    }
}

fn name(index: usize) -> String {
    format!("node-{index}")
}

const START_LIMIT: Duration = Duration::from_secs(30);
const END_LIMIT: Duration = Duration::from_secs(30);
const A_LOOK: Duration = Duration::from_millis(1);
/// Time after which a downed node is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);
