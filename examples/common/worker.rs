//! Is the worker of `wordcount`, and what it and the coordinator say to each other.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tellwire::codec::Bincode;
use tellwire::membership::ClusterSettings;
use tellwire::membership::downing::{Alone, KeepOldest};
use tellwire::node::{Actor, Context, StartError};
use tellwire::{ActorPath, Address, Node, Settings};
use tellwire_json::Json;

use crate::failure::Failure;
use crate::report::Figures;
use crate::words::{self, Counts};

/// Tells the coordinator where a worker's counter is.
#[derive(Serialize, Deserialize)]
pub(crate) struct Joined {
    pub(crate) counter: ActorPath,
}

/// Asks for the counts of one batch.
#[derive(Serialize, Deserialize)]
pub(crate) struct CountWords {
    pub(crate) lines: Vec<String>,
}

/// Asks for what the worker's node has counted.
#[derive(Serialize, Deserialize)]
pub(crate) struct ReportFigures;

/// Answers `CountWords`.
#[derive(Serialize, Deserialize)]
pub(crate) struct WordCounts {
    pub(crate) counts: Counts,
}

tellwire::remote_messages! {
    /// What goes to an actor: compact.
    table REQUESTS, codec = Bincode;
    "wordcount.v1.Joined" => Joined,
    "wordcount.v1.CountWords" => CountWords,
    "wordcount.v1.ReportFigures" => ReportFigures,
}

tellwire::remote_messages! {
    /// What comes back: readable.
    table REPLIES, codec = Json;
    "wordcount.v1.WordCounts" => WordCounts,
    "wordcount.v1.Figures" => Figures,
}

/// Starts the node of this process; a worker's joins through the coordinator's.
pub(crate) async fn start_node(seed: Option<&Address>) -> Result<Node, StartError> {
    let mut settings = Settings::local();
    // Nobody waits for a worker that was killed to be declared dead.
    settings.cluster.leave_timeout = Duration::from_secs(2);
    let node = Node::builder("WordCount").listen("tcp://127.0.0.1:0").settings(settings);
    // The coordinator is the oldest, and goes on alone if it must.
    let node =
        node.cluster_settings(ClusterSettings::local()).downing(KeepOldest::new(Alone::Keep));
    let node = node.require(REQUESTS).require(REPLIES);
    match seed {
        Some(seed) => node.seeds([seed]).start().await,
        None => node.start().await,
    }
}

/// Counts what it is asked to, until the coordinator lets go of it.
pub(crate) async fn work(seed: &str) -> Result<(), Failure> {
    let seed: Address = seed.parse()?;
    let node = start_node(Some(&seed)).await?;
    node.cluster().when_up().await?;
    let counter = node.actor::<Order, _>("/user/counter", Counter { node: node.clone() });
    let counter = counter.accept::<CountWords>().accept::<ReportFigures>().spawn()?;
    let coordinator = node.resolve("/user/coordinator".parse::<ActorPath>()?.at(&seed)?)?;
    coordinator.tell(&Joined { counter: counter.path().clone() })?;
    // The coordinator holds the other end: it closes when the coordinator is done with us, or dead.
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    node.shutdown(PATIENCE).await;
    Ok(())
}

/// Counts words, and knows the node whose figures it reports.
struct Counter {
    node: Node,
}

/// What a counter takes, whatever its type on the wire.
enum Order {
    Count(CountWords),
    Report,
}

impl From<CountWords> for Order {
    fn from(batch: CountWords) -> Self {
        Self::Count(batch)
    }
}

impl From<ReportFigures> for Order {
    fn from(_: ReportFigures) -> Self {
        Self::Report
    }
}

impl Actor<Order> for Counter {
    async fn receive(&mut self, order: Order, cx: &mut Context) {
        let replied = match order {
            Order::Count(CountWords { lines }) => {
                let counts = words::count(lines.iter().map(String::as_str));
                cx.reply(&WordCounts { counts })
            }
            Order::Report => cx.reply(&Figures::from(self.node.stats())),
        };
        if let Err(error) = replied {
            eprintln!("wordcount: a worker cannot reply: {error}");
        }
    }
}

/// How long anything may take that should take moments.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
