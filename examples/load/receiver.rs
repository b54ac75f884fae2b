//! Counts what arrives, and reports it when asked.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tellwire::Node;
use tellwire::node::{Actor, Context, Delivery, Mailbox, Refused, ReplyTo};
use tokio::io::AsyncReadExt;

use crate::{Done, Failure, Load, Options, PATIENCE, Query, Report, cpu};

pub(crate) async fn run(options: &Options) -> Result<ExitCode, Failure> {
    let listen: String = options.get("listen", "tcp://127.0.0.1:2552")?;
    let node = Node::builder("Load").listen(listen).allow_plaintext().start().await?;
    let counter = Counter { node: node.clone(), tally: Arc::default() };
    for actor in 0..options.get::<u64>("actors", "1")? {
        let (path, counter) = (format!("/user/load-{actor}"), counter.clone());
        match options.get::<String>("mailbox", "direct")?.as_str() {
            "direct" => drop(node.register::<Load, _>(path, counter)?),
            "actor" => drop(node.spawn::<Load, _>(path, counter)?),
            other => return Err(format!("no mailbox `{other}`").into()),
        }
    }
    node.spawn::<Query, _>("/user/desk", counter)?;
    println!("{}", node.address());
    match options.get::<String>("until", "interrupt")?.as_str() {
        "stdin-ends" => drop(tokio::io::stdin().read_to_end(&mut Vec::new()).await?),
        _ => tokio::signal::ctrl_c().await?,
    }
    node.shutdown(PATIENCE).await;
    Ok(ExitCode::SUCCESS)
}

#[derive(Default)]
struct Tally {
    expected: HashMap<u64, u64>,
    arrived: u64,
    out_of_order: u64,
}

/// Counts what arrives: as a mailbox of its own, or as an actor behind one.
#[derive(Clone)]
struct Counter {
    node: Node,
    tally: Arc<Mutex<Tally>>,
}

impl Counter {
    fn count(&self, load: &Load, asker: Option<ReplyTo>) {
        let mut tally = self.tally();
        let expected = tally.expected.entry(load.stream).or_default();
        let is_late = load.sequence < *expected;
        *expected = load.sequence.saturating_add(1).max(*expected);
        tally.out_of_order += u64::from(is_late);
        tally.arrived += 1;
        drop(tally);
        if let Some(Err(error)) = asker.map(|asker| asker.reply(&Done)) {
            eprintln!("no reply: {error}");
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailbox<Load> for Counter {
    fn try_deliver(&self, delivery: Delivery<Load>) -> Result<(), Refused<Load>> {
        self.count(&delivery.message, delivery.envelope.reply);
        Ok(())
    }
}

impl Actor<Load> for Counter {
    async fn receive(&mut self, load: Load, cx: &mut Context) {
        self.count(&load, cx.take_reply());
    }
}

impl Actor<Query> for Counter {
    async fn receive(&mut self, query: Query, cx: &mut Context) {
        let mut tally = self.tally();
        if query.is_new {
            *tally = Tally::default();
        }
        let (arrived, out_of_order) = (tally.arrived, tally.out_of_order);
        drop(tally);
        let dead_letters = self.node.stats().dead_letters_total();
        let report = Report { arrived, out_of_order, dead_letters, cpu: cpu() };
        if let Err(error) = cx.reply(&report) {
            eprintln!("no report: {error}");
        }
    }
}
