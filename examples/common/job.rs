//! Is the coordinator's side of `wordcount`: shares batches out, merges the replies, gives up workers that die.
//!
//! A batch is in exactly one place: pending, in flight to one worker, or merged.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::process::Stdio;

use tellwire::event::NodeEvent;
use tellwire::node::{AskError, EventStream, Observed};
use tellwire::{Address, Node, RemoteRef};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::failure::Failure;
use crate::report::{Figures, Progress};
use crate::words::{self, Counts};
use crate::worker::{CountWords, Joined, PATIENCE, ReportFigures, WordCounts};

/// The work that is to be shared, and how far it is.
pub(crate) struct Job<'a> {
    batches: &'a [&'a str],
    /// The batches that no worker has, by index.
    pending: VecDeque<usize>,
    workers: BTreeMap<usize, Worker>,
    asks: JoinSet<Answer>,
    merged: usize,
    counts: Counts,
    events: EventStream,
    progress: Progress,
}

struct Worker {
    child: Child,
    /// The worker ends when this closes.
    lifeline: Option<ChildStdin>,
    counter: RemoteRef,
    /// The batches it has not answered.
    in_flight: HashMap<usize, AbortHandle>,
}

/// How one ask ended.
struct Answer {
    worker: usize,
    batch: usize,
    result: Result<WordCounts, AskError>,
}

impl<'a> Job<'a> {
    /// Begins with every batch pending.
    pub(crate) fn new(node: &Node, batches: &'a [&'a str]) -> Self {
        Self {
            batches,
            pending: (0..batches.len()).collect(),
            workers: BTreeMap::new(),
            asks: JoinSet::new(),
            merged: 0,
            counts: Counts::new(),
            events: node.events(),
            progress: Progress::new(batches.len()),
        }
    }

    /// Starts the workers one after the other, and learns where their counters are.
    pub(crate) async fn start_workers(&mut self, node: &Node) -> Result<(), Failure> {
        let (inbox, mut joins) = mpsc::channel::<Joined>(WORKERS);
        node.register::<Joined, _>("/user/coordinator", inbox)?;
        for number in 1..=WORKERS {
            let mut child = spawn_worker(&node.address())?;
            let lifeline = child.stdin.take();
            let joined = tokio::select! {
                Some(joined) = joins.recv() => joined,
                status = child.wait() => {
                    let text = format!("worker {number} ended before it joined: {}", status?);
                    return Err(Failure::run(text));
                }
                () = tokio::time::sleep(PATIENCE) => {
                    return Err(Failure::run(format!("worker {number} did not join in time")));
                }
            };
            let process = child.id().unwrap_or_default();
            self.progress.say(&format!("worker {number} is process {process}, {}", joined.counter));
            let counter = node.resolve(joined.counter)?;
            let worker = Worker { child, lifeline, counter, in_flight: HashMap::new() };
            self.workers.insert(number, worker);
        }
        Ok(())
    }

    /// Shares the batches out until each of them is merged.
    pub(crate) async fn run(&mut self, mut kill_one: bool) -> Result<(), Failure> {
        while self.merged < self.batches.len() {
            self.send_more();
            if kill_one && self.merged >= self.batches.len() / 2 {
                kill_one = false;
                self.kill_busiest()?;
            }
            tokio::select! {
                Some(answer) = self.asks.join_next() => match answer {
                    Ok(answer) => self.answered(answer).await?,
                    // An ask to a worker that was given up.
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => return Err(error.into()),
                },
                Some(Observed::Item(event)) = self.events.next() => self.observed(&event).await?,
            }
            self.progress.show(self.merged);
        }
        self.progress.clear();
        Ok(())
    }

    /// Keeps every worker busy.
    fn send_more(&mut self) {
        while let Some((number, worker)) = least_busy(&mut self.workers) {
            let Some(batch) = self.pending.pop_front() else { return };
            let lines = self.batches[batch].lines().map(str::to_owned).collect();
            let (number, counter) = (*number, worker.counter.clone());
            let ask = async move {
                let result = counter.ask(&CountWords { lines }, PATIENCE).await;
                Answer { worker: number, batch, result }
            };
            worker.in_flight.insert(batch, self.asks.spawn(ask));
        }
    }

    async fn answered(&mut self, answer: Answer) -> Result<(), Failure> {
        let Some(worker) = self.workers.get_mut(&answer.worker) else { return Ok(()) };
        match answer.result {
            Ok(WordCounts { counts }) => {
                worker.in_flight.remove(&answer.batch);
                words::merge(&mut self.counts, counts);
                self.merged += 1;
                Ok(())
            }
            Err(error) => self.give_up(answer.worker, &error.to_string()).await,
        }
    }

    /// Learns from the node that a worker cannot be reached any more.
    async fn observed(&mut self, event: &NodeEvent) -> Result<(), Failure> {
        let NodeEvent::AssociationDown { peer, why } = event else { return Ok(()) };
        let is_at_peer = |worker: &Worker| worker.counter.path().address() == Some(peer);
        let found = self.workers.iter().find(|(_, worker)| is_at_peer(worker));
        match found.map(|(number, _)| *number) {
            Some(number) => self.give_up(number, why).await,
            None => Ok(()),
        }
    }

    /// Takes a worker's batches back; from here on its answers are ignored.
    async fn give_up(&mut self, number: usize, why: &str) -> Result<(), Failure> {
        let Some(mut worker) = self.workers.remove(&number) else { return Ok(()) };
        let unanswered = worker.in_flight.len();
        for (batch, ask) in worker.in_flight.drain() {
            ask.abort();
            self.pending.push_front(batch);
        }
        let text = format!(
            "worker {number} is gone ({why}); its {unanswered} unanswered batches go to others"
        );
        self.progress.say(&text);
        worker.child.kill().await?;
        if self.workers.is_empty() {
            let (left, all) = (self.batches.len() - self.merged, self.batches.len());
            return Err(Failure::run(format!(
                "every worker is gone, {left} of {all} batches are not counted"
            )));
        }
        Ok(())
    }

    fn kill_busiest(&mut self) -> Result<(), Failure> {
        let busiest = self.workers.iter_mut().max_by_key(|(_, worker)| worker.in_flight.len());
        if let Some((number, worker)) = busiest {
            self.progress.say(&format!("half way: killing worker {number}"));
            worker.child.start_kill()?;
        }
        Ok(())
    }

    /// Asks the workers for their figures and lets them go.
    pub(crate) async fn finish(mut self) -> (Counts, Vec<(String, Option<Figures>)>) {
        let mut figures = Vec::new();
        for number in 1..=WORKERS {
            let reported = match self.workers.remove(&number) {
                Some(worker) => worker.finish().await,
                None => None,
            };
            figures.push((format!("worker {number}"), reported));
        }
        (self.counts, figures)
    }
}

impl Worker {
    /// Gives its figures, and ends it: in order if it listens, by force when the child is dropped if it does not.
    async fn finish(mut self) -> Option<Figures> {
        let is_alive = matches!(self.child.try_wait(), Ok(None));
        let asked = self.counter.ask(&ReportFigures, PATIENCE);
        let figures = if is_alive { asked.await.ok() } else { None };
        drop(self.lifeline.take());
        drop(tokio::time::timeout(PATIENCE, self.child.wait()).await);
        figures
    }
}

/// Finds the worker to ask next, if one has room.
fn least_busy(workers: &mut BTreeMap<usize, Worker>) -> Option<(&usize, &mut Worker)> {
    let found = workers.iter_mut().min_by_key(|(_, worker)| worker.in_flight.len());
    found.filter(|(_, worker)| worker.in_flight.len() < IN_FLIGHT)
}

/// Starts this program once more, as a worker that is killed when its handle is dropped.
fn spawn_worker(seed: &Address) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--worker").arg(seed.as_str());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn()
}

const WORKERS: usize = 3;
/// Asks that one worker has at a time.
const IN_FLIGHT: usize = 4;
