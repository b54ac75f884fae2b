//! Is the conductor's side of the `cluster` example: its processes, and what they say of each other.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Instant;

use tellwire::Address;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// The members that run, and what each of them sees.
pub(crate) struct Stage {
    began: Instant,
    actors: BTreeMap<String, Actor>,
    /// What they say: who, and a line; no line at its end.
    lines: (mpsc::Sender<Said>, mpsc::Receiver<Said>),
    /// What was told of a member since it was last asked for.
    events: Vec<(String, String)>,
}

type Said = (String, Option<String>);

struct Actor {
    child: Child,
    /// It ends when this closes.
    orders: Option<ChildStdin>,
    address: Option<Address>,
    /// Its table of members, by their names.
    table: String,
}

impl Default for Stage {
    fn default() -> Self {
        let (began, actors, lines) = (Instant::now(), BTreeMap::new(), mpsc::channel(64));
        Self { began, actors, lines, events: Vec::new() }
    }
}

impl Stage {
    /// Starts a member, and waits until it says where it is.
    pub(crate) async fn start(&mut self, name: &str, endpoint: &str) -> Result<(), Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--member", name, "--listen", endpoint]).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(listen(name.to_owned(), stdout, self.lines.0.clone()));
        }
        let orders = child.stdin.take();
        let actor = Actor { child, orders, address: None, table: String::new() };
        self.actors.insert(name.to_owned(), actor);
        while self.address(name).is_err() {
            self.hear().await?;
        }
        Ok(())
    }

    /// Gives where a member is.
    pub(crate) fn address(&self, name: &str) -> Result<Address, Failure> {
        let address = self.actors.get(name).and_then(|actor| actor.address.clone());
        address.ok_or_else(|| Failure::run(format!("{name} is nowhere")))
    }

    /// Tells a member to join through these seeds.
    pub(crate) async fn join(&mut self, name: &str, seeds: &[Address]) -> Result<(), Failure> {
        let seeds: String = seeds.iter().map(|seed| format!(" {seed}")).collect();
        self.order(name, &format!("join{seeds}\n")).await
    }

    /// Tells a member to leave, and waits for the end of its process.
    pub(crate) async fn leave(&mut self, name: &str) -> Result<(), Failure> {
        self.order(name, "leave\n").await?;
        self.ended(name).await
    }

    /// Kills a member without warning, and gives where it was.
    pub(crate) async fn kill(&mut self, name: &str) -> Result<Address, Failure> {
        self.events.clear();
        let address = self.address(name)?;
        if let Some(mut actor) = self.actors.remove(name) {
            actor.child.kill().await?;
        }
        Ok(address)
    }

    /// Lets everybody go, and waits for them.
    pub(crate) async fn end(&mut self) -> Result<(), Failure> {
        let names: Vec<String> = self.actors.keys().cloned().collect();
        for actor in self.actors.values_mut() {
            drop(actor.orders.take());
        }
        for name in names {
            self.ended(&name).await?;
        }
        Ok(())
    }

    /// Waits until these members and nobody else are Up, as each of them sees it.
    pub(crate) async fn until_all_up(&mut self, names: &[&str]) -> Result<(), Failure> {
        let is_up = |actor: &Actor| {
            let rows = actor.table.split_whitespace();
            rows.eq(names.iter().map(|name| format!("{name}=Up")))
        };
        while !names.iter().all(|name| self.actors.get(*name).is_some_and(is_up)) {
            self.hear().await?;
        }
        Ok(())
    }

    /// Fails unless all of this was told of a member since something was last done to it.
    pub(crate) fn expect(&self, name: &str, events: &[&str]) -> Result<(), Failure> {
        match events.iter().find(|event| !self.was_told(name, event)) {
            Some(event) => Err(Failure::run(format!("nobody has seen {name} {event}"))),
            None => Ok(()),
        }
    }

    /// Fails if any of this was told of a member.
    pub(crate) fn refuse(&self, name: &str, events: &[&str]) -> Result<(), Failure> {
        match events.iter().find(|event| self.was_told(name, event)) {
            Some(event) => Err(Failure::run(format!("somebody has seen {name} {event}"))),
            None => Ok(()),
        }
    }

    /// Says how far the members had come.
    pub(crate) fn stuck(&self) -> Failure {
        let tables = self.actors.iter().map(|(name, actor)| format!("\n  {name}: {}", actor.table));
        Failure::run(format!("it takes too long; the members see{}", tables.collect::<String>()))
    }

    fn was_told(&self, name: &str, event: &str) -> bool {
        self.events.iter().any(|(who, what)| who == name && what == event)
    }

    async fn order(&mut self, name: &str, line: &str) -> Result<(), Failure> {
        self.events.clear();
        let actor = self.actors.get_mut(name).and_then(|actor| actor.orders.as_mut());
        let orders = actor.ok_or_else(|| Failure::run(format!("{name} listens no more")))?;
        Ok(orders.write_all(line.as_bytes()).await?)
    }

    /// Waits until a process has ended in order, and hears what the others say meanwhile.
    async fn ended(&mut self, name: &str) -> Result<(), Failure> {
        let Some(mut actor) = self.actors.remove(name) else { return Ok(()) };
        let status = loop {
            tokio::select! {
                status = actor.child.wait() => break status?,
                heard = self.hear() => heard?,
            }
        };
        if status.success() {
            Ok(())
        } else {
            Err(Failure::run(format!("{name} has ended with {status}")))
        }
    }

    /// Hears the next line of anybody. Cancel safe.
    async fn hear(&mut self) -> Result<(), Failure> {
        let Some((name, line)) = self.lines.1.recv().await else { return Ok(()) };
        let Some(actor) = self.actors.get_mut(&name) else { return Ok(()) };
        let line = match line {
            Some(line) => line,
            None if actor.orders.is_none() => return Ok(()),
            None => return Err(Failure::run(format!("{name} has ended before its time"))),
        };
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("at", address) => actor.address = Some(address.parse()?),
            ("event", event) => {
                let told = event.split_once(' ').unwrap_or((event, ""));
                self.events.push((told.0.to_owned(), told.1.to_owned()));
            }
            ("table", table) => {
                let mut rows: Vec<&str> = table.split(' ').collect();
                rows.sort_unstable();
                actor.table = rows.join("  ");
                if name == "ada" {
                    let at = self.began.elapsed().as_secs_f32();
                    println!("{at:5.1} s  {}", actor.table.replace('=', " "));
                }
            }
            _ => return Err(Failure::run(format!("{name} says `{line}`"))),
        }
        Ok(())
    }
}

async fn listen(name: String, stdout: ChildStdout, said: mpsc::Sender<Said>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(line) = lines.next_line().await {
        let is_last = line.is_none();
        if said.send((name.clone(), line)).await.is_err() || is_last {
            return;
        }
    }
}
