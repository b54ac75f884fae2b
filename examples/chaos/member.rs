//! Is one process of the cluster: a node with its workload, which says at the controller how it sees the others.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tellwire::event::DeadLetter;
use tellwire::membership::downing::StableAfter;
use tellwire::membership::{ClusterSettings, Phase, StopCause};
use tellwire::node::cluster::ClusterUpdate;
use tellwire::node::{DeadLetterStream, Observed};
use tellwire::testkit::barrier::{BarrierError, Participant};
use tellwire::testkit::processes;
use tellwire::testkit::proxy::Detours;
use tellwire::{Address, Endpoint, Node, Settings};

use crate::failure::Failure;
use crate::journal::{Entry, Journal, Way, What};
use crate::workload::{self, Load, Workload};

/// Says what a process is to be; one argument each.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) index: usize,
    /// Where each node is known to be.
    pub(crate) addresses: Vec<String>,
    pub(crate) detours: Detours,
    /// The nodes to join through, in their order.
    pub(crate) seeds: Vec<usize>,
    pub(crate) journal: String,
    pub(crate) began: Duration,
    pub(crate) seed: u64,
}

/// Runs a node until the run is over, or its cluster has downed it.
pub(crate) async fn run(role: Role) -> Result<ExitCode, Failure> {
    processes::end_with_parent();
    let journal = Arc::new(Journal::create(Path::new(&role.journal), role.began)?);
    let all = role.addresses()?;
    let node = Node::builder(SYSTEM)
        .listen("tcp://127.0.0.1:0")
        .advertise(&role.addresses[role.index])
        .transport(role.detours.clone())
        .codecs(workload::CHAOS)
        .settings(settings())
        .cluster_settings(cluster_settings())
        .seeds(role.seeds.iter().map(|seed| &all[*seed]))
        .start()
        .await?;
    let letters = Letters::default();
    tokio::spawn(letters.clone().note(
        node.dead_letters(),
        role.index,
        all.clone(),
        Arc::clone(&journal),
    ));
    let uid = node.unique_address().uid().get();
    journal.note(&Entry::Born { uid });
    workload::serve(&node, &journal)?;
    tokio::spawn(remark_events(node.clone(), Arc::clone(&journal)));
    println!("at {} {uid} {}", node.listens_on().port(), std::process::id());

    let work = Workload::new(&node, role.index, &all, Arc::clone(&journal), role.seed)?;
    let load = work.load();
    tokio::spawn(work.run());
    let mut speaker = Speaker { index: role.index, all, node: node.clone(), load };
    let ended = speaker.speak(&journal).await?;
    journal.remark(format_args!("ends: {ended:?}"));
    if ended == Ended::Finished {
        // What comes now is no loss: everybody goes.
        letters.close(&node, &journal).await;
        node.shutdown(PATIENCE).await;
        return Ok(ExitCode::SUCCESS);
    }
    node.shutdown(PATIENCE).await;
    speaker.await_asks().await;
    letters.close(&node, &journal).await;
    Ok(ExitCode::from(DOWNED))
}

fn settings() -> Settings {
    let mut settings = Settings::local();
    // Few enough that a stall fills the one, and a nap of the actor the other.
    settings.outbox.max_frames = 100;
    settings.outbox.max_held_frames = 100;
    settings.inbound.mailbox_capacity = 32;
    settings.observe.stream_capacity = 4_096;
    settings
}

fn cluster_settings() -> ClusterSettings {
    let mut settings = ClusterSettings::local();
    settings.heartbeat.interval = Duration::from_millis(400);
    settings.gossip_interval = Duration::from_millis(300);
    settings.downing.stable_after = StableAfter::Fixed(Duration::from_secs(3));
    settings
}

impl Role {
    fn addresses(&self) -> Result<Vec<Address>, Failure> {
        let address = |text: &String| Ok(text.parse::<Endpoint>()?.with_system(SYSTEM)?);
        self.addresses.iter().map(address).collect()
    }

    /// Gives the arguments that [`parse`](Self::parse) reads.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let (began, seed) = (self.began.as_millis().to_string(), self.seed.to_string());
        let (addresses, seeds) = (join(&self.addresses), join(&self.seeds));
        let (index, detours) = (self.index.to_string(), self.detours.to_string());
        vec![index, addresses, detours, seeds, self.journal.clone(), began, seed]
    }

    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let [index, addresses, detours, seeds, journal, began, seed] = arguments else {
            return Err(Failure::usage("a member takes seven arguments"));
        };
        Ok(Self {
            index: index.parse()?,
            addresses: addresses.split(',').map(str::to_owned).collect(),
            detours: detours.parse()?,
            seeds: seeds.split(',').map(str::parse).collect::<Result<_, _>>()?,
            journal: journal.clone(),
            began: Duration::from_millis(began.parse()?),
            seed: seed.parse()?,
        })
    }
}

fn join<T: ToString>(list: &[T]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Says why a process ends.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Finished,
    Out(Option<StopCause>),
}

/// Says at the controller how the node is, and hears what stage the run is at.
struct Speaker {
    index: usize,
    all: Vec<Address>,
    node: Node,
    load: Load,
}

impl Speaker {
    async fn speak(&mut self, journal: &Journal) -> Result<Ended, Failure> {
        let mut controller = self.join().await?;
        let cluster = self.node.cluster();
        let mut updates = cluster.subscribe();
        let mut ticks = tokio::time::interval(TICK);
        let mut shown = String::new();
        loop {
            // Biased: the end goes before everything.
            tokio::select! { biased;
                cause = cluster.when_stopped() => return Ok(Ended::Out(cause.ok())),
                update = updates.next() => if let Some(ClusterUpdate::Event(event)) = update {
                    journal.remark(format_args!("{event:?}"));
                },
                _ = ticks.tick() => {
                    let view = self.view();
                    if view != shown && take(controller.put(&self.key("view"), &view).await)?.is_some() {
                        journal.remark(&view);
                        shown = view;
                    }
                    let stage = take(controller.get("stage", Duration::ZERO).await)?.flatten();
                    match stage.as_deref() {
                        Some("drain") => {
                            self.load.stop();
                            let left = self.left().to_string();
                            take(controller.put(&self.key("left"), &left).await)?;
                        }
                        Some("finish") => return Ok(Ended::Finished),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Joins the controller, which may not have noticed yet that the process before this one is gone.
    async fn join(&self) -> Result<Participant, Failure> {
        loop {
            match processes::participant().await {
                Ok(Some(controller)) => return Ok(controller),
                Ok(None) => return Err(Failure::usage("a member needs a controller")),
                Err(BarrierError::Refused { .. } | BarrierError::ControllerSilent(_)) => {
                    tokio::time::sleep(TICK).await;
                }
                Err(other) => return Err(other.into()),
            }
        }
    }

    fn key(&self, what: &str) -> String {
        format!("{what}.{}", self.index)
    }

    /// Spells how this node sees the cluster; `View` of the conductor reads it.
    fn view(&self) -> String {
        let (cluster, state) = (self.node.cluster(), self.node.cluster().state());
        let phase = match cluster.phase() {
            Phase::Member => "member",
            Phase::Idle | Phase::Joining => "joining",
            _ => "ended",
        };
        let name = state.cluster().map_or_else(|| "-".to_owned(), |cluster| cluster.to_string());
        let mut view = format!("{} {phase} {name}", self.node.unique_address().uid().get());
        for member in state.members() {
            let node = member.node();
            let index = place(&self.all, node.address());
            let mark = if state.unreachable().contains(node) { "?" } else { "" };
            let uid = node.uid().get();
            write!(view, " {index}:{uid}:{}{mark}", member.status()).ok();
        }
        view
    }

    /// Gives the asks of a node that has stopped the time to say so; one that does not is found by the checker.
    async fn await_asks(&self) {
        let ended = async {
            while self.load.open_asks() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        drop(tokio::time::timeout(PATIENCE, ended).await);
    }

    /// Counts what is still under way.
    fn left(&self) -> usize {
        let waits =
            |peer: &tellwire::node::AssociationSnapshot| peer.queued_frames + peer.waiting_asks;
        let last = usize::from(!self.load.has_parted());
        last + self.load.open_asks() + self.node.associations().iter().map(waits).sum::<usize>()
    }
}

/// Passes over a controller that was not heard, as it happens to a process that was paused.
fn take<T>(answer: Result<T, BarrierError>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(BarrierError::ControllerSilent(_)) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// Gives the place of a node among all; one behind the last if it is none of them.
fn place(all: &[Address], node: &Address) -> usize {
    all.iter().position(|address| address == node).unwrap_or(all.len())
}

/// Counts the dead letters that come by the stream.
#[derive(Debug, Clone, Default)]
struct Letters(Arc<AtomicU64>);

impl Letters {
    async fn note(
        self,
        mut stream: DeadLetterStream,
        own: usize,
        all: Vec<Address>,
        journal: Arc<Journal>,
    ) {
        while let Some(observed) = stream.next().await {
            match observed {
                // What a peer has refused is in the books of the peer.
                Observed::Item(DeadLetter { refused_by: Some(_), .. }) => {}
                Observed::Item(letter) => {
                    let peer = letter.peer.as_ref().map_or(all.len(), |peer| place(&all, peer));
                    let target = letter.target.as_ref();
                    let is_own = target.is_some_and(|target| target.address() == Some(&all[own]));
                    let way = if is_own { Way::In } else { Way::Out };
                    let what = match target.map(|target| target.local()) {
                        Some(workload::NOTES) => What::Tell,
                        Some(workload::QUESTIONS) => What::Ask,
                        _ => What::Unknown,
                    };
                    let (reason, count) = (format!("{:?}", letter.reason), letter.count);
                    journal.note(&Entry::Letter { peer, way, what, reason, count });
                    self.0.fetch_add(count, Ordering::Relaxed);
                }
                other => journal.remark(format_args!("{other:?} of the letters")),
            }
        }
    }

    /// Waits until the stream has told of as many as are counted, and closes the journal.
    async fn close(&self, node: &Node, journal: &Journal) {
        let streamed = || self.0.load(Ordering::Relaxed);
        let counted = || node.stats().dead_letters_total();
        let even = async {
            while streamed() != counted() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        drop(tokio::time::timeout(Duration::from_secs(2), even).await);
        journal.note(&Entry::Closed { streamed: streamed(), counted: counted() });
    }
}

/// Lets people read what happened to the links.
async fn remark_events(node: Node, journal: Arc<Journal>) {
    let mut events = node.events();
    drop(node);
    while let Some(observed) = events.next().await {
        journal.remark(format_args!("{observed:?}"));
    }
}

/// The exit code of a process whose cluster has downed it.
pub(crate) const DOWNED: u8 = 10;
const SYSTEM: &str = "Chaos";
const TICK: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(5);
