//! Keeps the nodes busy: each tells and asks all others, at an even pace, and notes what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tellwire::node::{Actor, AskError, Context, TellError};
use tellwire::{ActorPath, Address, Node, RemoteRef};
use tokio::time::{MissedTickBehavior, interval};

use crate::failure::Failure;
use crate::journal::{Entry, Journal};

/// Is a tell in its place of what an incarnation tells one node.
#[derive(Serialize, Deserialize)]
struct Note {
    from: u8,
    uid: u64,
    seq: u64,
    padding: String,
}

#[derive(Serialize, Deserialize)]
struct Question {
    from: u8,
    uid: u64,
    id: u64,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    uid: u64,
    id: u64,
}

tellwire::remote_messages! {
    /// What the nodes say to each other.
    pub(crate) table CHAOS, codec = tellwire::codec::Bincode;
    "chaos.v1.Note" => Note,
    "chaos.v1.Question" => Question,
    "chaos.v1.Answer" => Answer,
}

/// Tells and asks until it is to stop.
pub(crate) struct Workload {
    own: usize,
    uid: u64,
    sender: ActorPath,
    notes: Vec<RemoteRef>,
    questions: Vec<RemoteRef>,
    journal: Arc<Journal>,
    rng: fastrand::Rng,
    /// The number of the last tell to each node that was not refused.
    seqs: Vec<u64>,
    last_id: u64,
    load: Load,
}

/// Says whether an ask is the last one to its node, which has to get its reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Yes,
    No,
}

/// Shows how the workload does, and stops it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    has_parted: Arc<AtomicBool>,
    open_asks: Arc<AtomicUsize>,
}

impl Load {
    pub(crate) fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Tells whether the last tells are told.
    pub(crate) fn has_parted(&self) -> bool {
        self.has_parted.load(Ordering::Relaxed)
    }

    pub(crate) fn open_asks(&self) -> usize {
        self.open_asks.load(Ordering::Relaxed)
    }
}

/// Registers what the others tell and ask.
pub(crate) fn serve(node: &Node, journal: &Arc<Journal>) -> Result<(), Failure> {
    node.spawn::<Note, _>(NOTES, Reader(Arc::clone(journal)))?;
    node.spawn::<Question, _>(QUESTIONS, Reader(Arc::clone(journal)))?;
    Ok(())
}

/// Notes what comes in.
struct Reader(Arc<Journal>);

impl Actor<Note> for Reader {
    async fn receive(&mut self, note: Note, _: &mut Context) {
        let Note { from, uid, seq, .. } = note;
        self.0.note(&Entry::Got { from: from.into(), uid, seq });
        // Now and then it is slow, so that its senders are held back.
        if seq % NAP_EVERY == 0 {
            tokio::time::sleep(NAP).await;
        }
    }
}

impl Actor<Question> for Reader {
    async fn receive(&mut self, question: Question, cx: &mut Context) {
        let Question { from, uid, id } = question;
        self.0.note(&Entry::Question { from: from.into(), uid, id });
        if let Err(error) = cx.reply(&Answer { uid, id }) {
            self.0.remark(format_args!("no reply to {from}: {error}"));
        }
    }
}

impl Workload {
    /// Makes the workload of a node towards all nodes, in their order.
    pub(crate) fn new(
        node: &Node,
        own: usize,
        all: &[Address],
        journal: Arc<Journal>,
        seed: u64,
    ) -> Result<Self, Failure> {
        let to = |path: &str| -> Result<Vec<RemoteRef>, Failure> {
            all.iter().map(|address| Ok(node.resolve(format!("{address}{path}"))?)).collect()
        };
        let (sender, notes, questions) = (node.path(NOTES)?, to(NOTES)?, to(QUESTIONS)?);
        let uid = node.unique_address().uid().get();
        let rng = fastrand::Rng::with_seed(seed ^ uid);
        let (seqs, load) = (vec![0; all.len()], Load::default());
        Ok(Self { own, uid, sender, notes, questions, journal, rng, seqs, last_id: 0, load })
    }

    pub(crate) fn load(&self) -> Load {
        self.load.clone()
    }

    /// Runs until it is stopped, or the node is.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 0_u64.. {
            ticks.tick().await;
            if self.load.is_over.load(Ordering::Relaxed) {
                return self.part().await;
            }
            for _ in 0..TELLS_IN_A_TICK {
                let to = self.another();
                self.tell(to);
            }
            if tick % BURST_EVERY == 0 {
                let to = self.another();
                (0..BURST).for_each(|_| self.tell(to));
            }
            if tick % ASK_EVERY == 0 {
                let to = self.another();
                self.ask(to, Last::No);
            }
        }
    }

    /// Tells and asks everybody a last time: no fault is in force any more, so all of it has to get through.
    async fn part(mut self) {
        let own = self.own;
        for to in (0..self.notes.len()).filter(|to| *to != own) {
            self.ask(to, Last::Yes);
            let note = self.note(to);
            self.journal.note(&Entry::Told { to, seq: note.seq });
            let sent = tokio::time::timeout(LAST_WAIT, self.notes[to].send(&note)).await;
            if !matches!(sent, Ok(Ok(()))) {
                let why = "Stuck".to_owned();
                self.journal.note(&Entry::Refused { to, seq: note.seq, why });
                self.journal.note(&Entry::Stuck { to });
            }
        }
        self.load.has_parted.store(true, Ordering::Relaxed);
    }

    fn another(&mut self) -> usize {
        (self.own + self.rng.usize(1..self.notes.len())) % self.notes.len()
    }

    fn note(&mut self, to: usize) -> Note {
        let padding = "x".repeat(match self.rng.u8(..) {
            0..2 => LARGE,
            2..20 => 2_000,
            _ => 20,
        });
        let from = u8::try_from(self.own).unwrap_or(u8::MAX);
        Note { from, uid: self.uid, seq: self.seqs[to] + 1, padding }
    }

    fn tell(&mut self, to: usize) {
        let note = self.note(to);
        let seq = note.seq;
        self.journal.note(&Entry::Told { to, seq });
        // Said to be from this node, so that a dead letter over there names it whatever the reason.
        match self.notes[to].tell_from(&self.sender, &note) {
            Ok(()) => self.seqs[to] = seq,
            Err(error) => {
                self.journal.note(&Entry::Refused { to, seq, why: spell(&error).to_owned() });
            }
        }
    }

    fn ask(&mut self, to: usize, last: Last) {
        self.last_id += 1;
        let (id, uid) = (self.last_id, self.uid);
        let wait = match last {
            Last::Yes => LAST_WAIT,
            Last::No => Duration::from_millis(self.rng.u64(500..6_000)),
        };
        let from = u8::try_from(self.own).unwrap_or(u8::MAX);
        let (target, journal) = (self.questions[to].clone(), Arc::clone(&self.journal));
        let open = Arc::clone(&self.load.open_asks);
        open.fetch_add(1, Ordering::Relaxed);
        journal.note(&Entry::Asked { to, id });
        tokio::spawn(async move {
            let question = Question { from, uid, id };
            let asking = target.ask(&question, wait);
            let how = match tokio::time::timeout(wait + GRACE, asking).await {
                Ok(Ok(Answer { uid: theirs, id: other })) if (theirs, other) == (uid, id) => {
                    "reply".to_owned()
                }
                Ok(Ok(Answer { .. })) => "wrong".to_owned(),
                Ok(Err(AskError::Tell(error))) => format!("refused:{}", spell(&error)),
                Ok(Err(AskError::TooManyAsks { .. })) => "refused:TooManyAsks".to_owned(),
                Ok(Err(AskError::Timeout(_))) => "timeout".to_owned(),
                Ok(Err(AskError::Failed(reason))) => format!("failed:{reason:?}"),
                Ok(Err(_)) => "wrong".to_owned(),
                Err(_) => "hung".to_owned(),
            };
            let is_late = last == Last::Yes && how != "reply";
            let how = if is_late { format!("last:{how}") } else { how };
            journal.note(&Entry::Ended { id, how });
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn spell(error: &TellError) -> &'static str {
    match error {
        TellError::Full => "Full",
        TellError::Stopped => "Stopped",
        _ => "Other",
    }
}

pub(crate) const NOTES: &str = "/user/notes";
pub(crate) const QUESTIONS: &str = "/user/questions";
const TICK: Duration = Duration::from_millis(200);
/// With five to nine nodes, 100 to 180 tells a second; the bursts add as many again.
const TELLS_IN_A_TICK: usize = 4;
const BURST: usize = 40;
const BURST_EVERY: u64 = 10;
const ASK_EVERY: u64 = 2;
/// More than one chunk, so that it goes through the bulk lane.
const LARGE: usize = 100 * 1024;
/// Of the numbers of each sender; a burst fills the mailbox meanwhile.
const NAP_EVERY: u64 = 100;
const NAP: Duration = Duration::from_millis(500);
/// Far more than anything takes when no fault is in force.
const LAST_WAIT: Duration = Duration::from_secs(20);
/// Own time of the process beyond the deadline after which an ask hangs.
const GRACE: Duration = Duration::from_secs(2);
