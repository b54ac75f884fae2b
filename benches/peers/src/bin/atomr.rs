//! Measures atomr with atomr-remote: default settings, TCP, its bincode codec.
//!
//! The library has no ask between systems in this version: messages carry no way back. What stands here for an ask is
//! two tells, with the asker's path and a number in the message, as its users would have to write it.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atomr_config::Config;
use atomr_core::actor::{Actor, ActorRef, ActorSystem, Context, Props};
use atomr_remote::{RemoteSettings, RemoteSystem};
use serde::{Deserialize, Serialize};
use tellwire_peers::{Arrivals, Failure, Peer};
use tokio::sync::oneshot;

fn main() -> Result<(), Failure> {
    tellwire_peers::run::<Atomr>()
}

#[derive(Clone)]
struct Atomr {
    notes: ActorRef<Note>,
    echo: ActorRef<Question>,
    waiting: Waiting,
    /// The path at which answers are taken.
    back: String,
    asked: Arc<AtomicU64>,
    _system: Arc<RemoteSystem>,
}

/// Askers by the number of their question.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Note>>>>;

#[derive(Serialize, Deserialize)]
struct Note {
    sequence: u64,
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Question {
    number: u64,
    back: String,
    note: Note,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    number: u64,
    note: Note,
}

struct Notes(Arc<Arrivals>);

#[async_trait::async_trait]
impl Actor for Notes {
    type Msg = Note;

    async fn handle(&mut self, _: &mut Context<Self>, note: Note) {
        self.0.count(note.sequence);
    }
}

struct Echo {
    system: Arc<RemoteSystem>,
    askers: HashMap<String, ActorRef<Answer>>,
}

#[async_trait::async_trait]
impl Actor for Echo {
    type Msg = Question;

    async fn handle(&mut self, _: &mut Context<Self>, question: Question) {
        let Question { number, back, note } = question;
        if !self.askers.contains_key(&back)
            && let Some(asker) = self.system.actor_selection(&back)
        {
            self.askers.insert(back.clone(), asker);
        }
        if let Some(asker) = self.askers.get(&back) {
            asker.tell(Answer { number, note });
        }
    }
}

struct Answers(Waiting);

#[async_trait::async_trait]
impl Actor for Answers {
    type Msg = Answer;

    async fn handle(&mut self, _: &mut Context<Self>, answer: Answer) {
        if let Some(asker) = lock(&self.0).remove(&answer.number) {
            // Whoever gave up needs no answer.
            drop(asker.send(answer.note));
        }
    }
}

impl Peer for Atomr {
    const TELLS: u64 = 500_000;
    const ASKS: u64 = 10_000;
    type Receiver = Arc<RemoteSystem>;

    async fn receive(arrivals: Arc<Arrivals>) -> Result<(String, Self::Receiver), Failure> {
        let system = Arc::new(start("receiver").await?);
        let notes = Props::create(move || Notes(Arc::clone(&arrivals)));
        system.expose_actor(system.system.actor_of(notes, "notes")?);
        let echoing = Arc::clone(&system);
        let echo =
            Props::create(move || Echo { system: Arc::clone(&echoing), askers: HashMap::new() });
        system.expose_actor(system.system.actor_of(echo, "echo")?);
        Ok((system.local_address.to_string(), system))
    }

    async fn connect(address: String) -> Result<Self, Failure> {
        let system = Arc::new(start("sender").await?);
        let waiting = Waiting::default();
        let taking = Arc::clone(&waiting);
        let answers = Props::create(move || Answers(Arc::clone(&taking)));
        system.expose_actor(system.system.actor_of(answers, "answers")?);
        let nowhere = || Failure::from("no such path");
        let notes = system.actor_selection(&format!("{address}/user/notes"));
        let echo = system.actor_selection(&format!("{address}/user/echo"));
        Ok(Self {
            notes: notes.ok_or_else(nowhere)?,
            echo: echo.ok_or_else(nowhere)?,
            waiting,
            back: format!("{}/user/answers", system.local_address),
            asked: Arc::default(),
            _system: system,
        })
    }

    async fn tell(&self, sequence: u64) -> Result<(), Failure> {
        self.notes.tell(note(sequence));
        Ok(())
    }

    async fn ask(&self, sequence: u64) -> Result<(), Failure> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let (answered, answer) = oneshot::channel();
        lock(&self.waiting).insert(number, answered);
        self.echo.tell(Question { number, back: self.back.clone(), note: note(sequence) });
        let answer = tokio::time::timeout(WAIT, answer).await??;
        if answer.sequence == sequence { Ok(()) } else { Err("another's answer".into()) }
    }
}

async fn start(name: &str) -> Result<RemoteSystem, Failure> {
    let system = ActorSystem::create(name, Config::reference()).await?;
    let system =
        RemoteSystem::start(system, "127.0.0.1:0".parse()?, RemoteSettings::default()).await?;
    system.register_bincode::<Note>();
    system.register_bincode::<Question>();
    system.register_bincode::<Answer>();
    Ok(system)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(sequence: u64) -> Note {
    Note { sequence, text: tellwire_peers::text() }
}

const WAIT: Duration = Duration::from_secs(10);
