//! Starts members in processes of their own with a mesh between them, and waits for what they see.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tellwire::testkit::Process;
use tellwire::testkit::processes::{ProcessBuilder, ProcessError};
use tellwire::testkit::proxy::Mesh;

use crate::member;

/// The members of one scenario, known by their numbers, which are the order of [`NAMES`].
pub(crate) struct Stage {
    pub(crate) mesh: Mesh,
    actors: BTreeMap<usize, Actor>,
    /// What every member is told in its environment.
    common: Vec<(&'static str, String)>,
    process: fn(&str) -> ProcessBuilder,
}

struct Actor {
    process: Process,
    /// What it saw last.
    sees: String,
    /// What it has refused, or was refused, and nobody has asked for yet.
    refusals: VecDeque<String>,
}

impl Actor {
    fn new(process: Process) -> Self {
        Self { process, sees: String::new(), refusals: VecDeque::new() }
    }

    /// Hears the next line that it says.
    async fn hear(&mut self, limit: Duration) -> Result<(), ProcessError> {
        let line = self.process.line(|_| true, limit).await?;
        if let Some(sees) = line.strip_prefix("sees ") {
            self.sees = sees.to_owned();
        } else if let Some(why) = line.strip_prefix("refused ") {
            self.refusals.push_back(why.to_owned());
        }
        Ok(())
    }

    /// Hears what it has said already, so that nothing old is taken for the present.
    async fn catch_up(&mut self) {
        while self.hear(Duration::ZERO).await.is_ok() {}
    }

    /// Hears lines until it is so.
    async fn hear_until(&mut self, is_so: impl Fn(&Self) -> bool) -> Result<(), ProcessError> {
        while !is_so(self) {
            self.hear(PATIENCE).await?;
        }
        Ok(())
    }
}

impl Stage {
    /// Sets up a stage for so many members, each in such a process.
    pub(crate) async fn new(members: usize, process: fn(&str) -> ProcessBuilder) -> Self {
        let mesh = Mesh::start(members).await.unwrap();
        Self { mesh, actors: BTreeMap::new(), common: Vec::new(), process }
    }

    /// Tells every member that starts from now on.
    pub(crate) fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.common.push((key, value.to_string()));
        self
    }

    /// Starts members all at once, and waits until they can be dialled.
    pub(crate) async fn start(&mut self, members: impl IntoIterator<Item = usize>) {
        let members: Vec<usize> = members.into_iter().collect();
        for member in &members {
            self.spawn(*member, &[]);
        }
        for member in members {
            self.arrive(member).await;
        }
    }

    /// Starts one member that is told something of its own.
    pub(crate) async fn start_as(&mut self, member: usize, told: &[(&'static str, &str)]) {
        self.spawn(member, told);
        self.arrive(member).await;
    }

    /// Tells a member to join through these.
    pub(crate) async fn join(&mut self, member: usize, seeds: &[usize]) {
        let seeds: String =
            seeds.iter().map(|seed| format!(" {}", self.mesh.endpoint(*seed))).collect();
        self.say(member, &format!("join{seeds}")).await;
    }

    /// Starts members and lets all of them join through the first two of them, until all are Up.
    pub(crate) async fn form(&mut self, members: impl IntoIterator<Item = usize>) {
        let members: Vec<usize> = members.into_iter().collect();
        self.start(members.iter().copied()).await;
        for member in &members {
            self.join(*member, members.get(..2).unwrap_or(&members)).await;
        }
        self.all_up(&members).await;
    }

    pub(crate) async fn say(&mut self, member: usize, order: &str) {
        self.actor(member).process.say(order).await.unwrap();
    }

    /// Kills a member without warning.
    pub(crate) async fn kill(&mut self, member: usize) {
        self.actors.remove(&member).unwrap().process.kill().await.unwrap();
    }

    pub(crate) async fn pause(&mut self, member: usize) {
        self.actor(member).process.pause().await.unwrap();
    }

    pub(crate) async fn resume(&mut self, member: usize) {
        self.actor(member).process.resume().await.unwrap();
    }

    /// Waits until a member has ended by itself, in order, and gives why its membership has.
    pub(crate) async fn ended(&mut self, member: usize) -> String {
        let mut actor = self.actors.remove(&member).unwrap();
        let status = actor.process.ended(PATIENCE).await.unwrap();
        let output = actor.process.output();
        assert!(status.success(), "{} has ended with {status}; it said:\n{output}", NAMES[member]);
        let why = output.lines().rev().find_map(|line| line.strip_prefix("stopped "));
        why.unwrap_or("for no reason").to_owned()
    }

    /// Gives what a member sees at present.
    pub(crate) async fn sees(&mut self, member: usize) -> String {
        let actor = self.actor(member);
        actor.catch_up().await;
        actor.sees.clone()
    }

    /// Waits until a member sees what is wanted, for however short a time, and gives it.
    pub(crate) async fn until(
        &mut self,
        member: usize,
        what: &str,
        is_so: impl Fn(&str) -> bool,
    ) -> String {
        let waiting = self.actor(member).hear_until(|actor| is_so(&actor.sees));
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("{what}: {error}"),
            Err(_) => self.explain(what).await,
        }
        self.actor(member).sees.clone()
    }

    /// Waits until these members and nobody else are Up, and all of them agree; gives their cluster and leader.
    pub(crate) async fn all_up(&mut self, members: &[usize]) -> String {
        let mut rows: Vec<String> =
            members.iter().map(|member| format!("{}=Up", NAMES[*member])).collect();
        rows.sort();
        self.all_see(members, &rows.join(" ")).await
    }

    /// Waits until these members see this at present, and all of them agree; gives their cluster and leader.
    pub(crate) async fn all_see(&mut self, members: &[usize], rows: &str) -> String {
        let wanted = format!("{rows}; converged; ");
        let mut agreed = BTreeMap::new();
        for member in members {
            self.actor(*member).catch_up().await;
            let sees = self.until(*member, &wanted, |sees| sees.starts_with(&wanted)).await;
            agreed.insert(sees, NAMES[*member]);
        }
        assert_eq!(agreed.len(), 1, "they disagree: {agreed:#?}");
        agreed.into_keys().next().unwrap().split_at(wanted.len()).1.to_owned()
    }

    /// Waits until one member cannot be reached in the eyes of another.
    pub(crate) async fn lost(&mut self, by: usize, member: usize) {
        let row = format!("{}=Up?", NAMES[member]);
        let sees_it = |sees: &str| sees.split([' ', ';']).any(|word| word == row);
        self.until(by, &format!("{row} seen"), sees_it).await;
    }

    /// Waits until a member refuses something, or is refused, and gives why.
    pub(crate) async fn refused(&mut self, member: usize) -> String {
        let actor = self.actor(member);
        let waiting = actor.hear_until(|actor| !actor.refusals.is_empty());
        tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        actor.refusals.pop_front().unwrap()
    }

    /// Gives who leads in the eyes of a member.
    pub(crate) async fn leader(&mut self, by: usize) -> usize {
        let is_led =
            |sees: &str| NAMES.iter().position(|name| sees.contains(&format!("; leader {name};")));
        let sees = self.until(by, "a leader", |sees| is_led(sees).is_some()).await;
        is_led(&sees).unwrap()
    }

    /// Gives what a member was told of another, in order.
    pub(crate) fn told(&mut self, member: usize, of: usize) -> Vec<String> {
        let output = self.actor(member).process.output();
        let prefix = format!("told {} ", NAMES[of]);
        output.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// Fails if a member was told that another one is dead.
    pub(crate) fn nobody_downed(&mut self) {
        for (number, actor) in &self.actors {
            let output = actor.process.output();
            let is_downed = |line: &str| line.starts_with("told ") && line.ends_with(" Downed");
            let downed = output.lines().find(|line| is_downed(line));
            assert_eq!(downed, None, "at {}", NAMES[*number]);
        }
    }

    fn spawn(&mut self, member: usize, told: &[(&'static str, &str)]) {
        let mut builder = (self.process)(NAMES[member])
            .env(member::NAME, NAMES[member])
            .env(member::ENDPOINT, self.mesh.endpoint(member))
            .env(member::DETOURS, self.mesh.detours(member).to_string());
        let common = self.common.iter().map(|(key, value)| (*key, value.as_str()));
        for (key, value) in common.chain(told.iter().copied()) {
            builder = builder.env(key, value);
        }
        let actor = Actor::new(builder.start().unwrap());
        assert!(self.actors.insert(member, actor).is_none(), "{} runs", NAMES[member]);
    }

    async fn arrive(&mut self, member: usize) {
        let process = &mut self.actor(member).process;
        let line = process.line(|line| line.starts_with("at "), PATIENCE).await.unwrap();
        let port: u16 = line.split_at("at ".len()).1.parse().unwrap();
        self.mesh.set_target(member, ([127, 0, 0, 1], port).into());
    }

    fn actor(&mut self, member: usize) -> &mut Actor {
        let actor = self.actors.get_mut(&member);
        actor.unwrap_or_else(|| panic!("{} does not run", NAMES[member]))
    }

    /// Fails with what every member sees, and why.
    async fn explain(&mut self, what: &str) {
        let mut text = format!("too late: {what}\n");
        for (number, actor) in &mut self.actors {
            drop(actor.process.say("explain").await);
            drop(actor.process.line(|line| line.starts_with("why a crash"), MOMENT).await);
            text += &format!("{}:\n{}\n", NAMES[*number], actor.process.output());
        }
        panic!("{text}");
    }
}

pub(crate) const NAMES: [&str; 9] =
    ["ada", "bob", "cleo", "dan", "eve", "finn", "gus", "hal", "ivy"];
/// A deadline that no test may live to see.
const PATIENCE: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_secs(1);
