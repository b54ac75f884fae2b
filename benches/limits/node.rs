//! Sends and receives with nodes, through the public interface and with default settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tellwire::node::Context;
use tellwire::{Node, RemoteRef};
use tokio::task::JoinSet;

use crate::Shape;
use crate::common::Failure;
use crate::rungs::Race;

#[derive(Serialize, Deserialize)]
struct Note {
    text: String,
}

/// Asks how many notes have arrived.
#[derive(Serialize, Deserialize)]
struct Count(u64);

tellwire::remote_messages! {
    table NOTES, codec = tellwire::codec::Bincode;
    "bench.v1.Note" => Note,
    "bench.v1.Count" => Count,
}

/// Starts the node that receives.
pub(crate) async fn receive() -> Result<Node, Failure> {
    let node = Node::builder("Bench").listen("tcp://127.0.0.1:0").start().await?;
    let arrived = Arc::new(AtomicU64::new(0));
    for pair in 0..PAIRS {
        let arrived = Arc::clone(&arrived);
        node.spawn(format!("/user/notes-{pair}"), move |note: Note, _: &mut Context| {
            std::hint::black_box(note.text);
            arrived.fetch_add(1, Ordering::Relaxed);
            std::future::ready(())
        })?;
    }
    node.spawn("/user/count", move |_: Count, cx: &mut Context| {
        std::future::ready(cx.reply(&Count(arrived.load(Ordering::Relaxed))))
    })?;
    Ok(node)
}

/// The node that sends.
pub(crate) struct Sender {
    node: Node,
    notes: Vec<RemoteRef>,
    count: RemoteRef,
}

impl Sender {
    pub(crate) async fn start(to: &str, shape: Shape) -> Result<Self, Failure> {
        let node = Node::builder("Bench").listen("tcp://127.0.0.1:0").start().await?;
        let resolve = |pair| node.resolve(format!("{to}/user/notes-{pair}"));
        let notes = (0..shape.pairs).map(resolve).collect::<Result<_, _>>()?;
        let count = node.resolve(format!("{to}/user/count"))?;
        Ok(Self { node, notes, count })
    }

    /// Sends each pair's share, and asks until everything has arrived; gives the fairness.
    pub(crate) async fn send(&self, shape: Shape) -> Result<f64, Failure> {
        let Count(before) = self.count.ask(&Count(0), WAIT).await?;
        let race = Arc::new(Race::new(shape));
        let prefix = if shape.size > 250 { 3 } else { 1 };
        let mut senders = JoinSet::new();
        for (pair, notes) in (0..).zip(&self.notes) {
            let (race, notes) = (Arc::clone(&race), notes.clone());
            let note = Note { text: "x".repeat(shape.size - prefix) };
            senders.spawn(async move {
                for sent in 1..=race.share {
                    notes.send(&note).await?;
                    race.note(pair, sent);
                }
                Ok::<_, Failure>(())
            });
        }
        while let Some(sender) = senders.join_next().await {
            sender??;
        }
        let wanted = before + race.share * u64::from(shape.pairs);
        let (mut best, mut progress) = (before, Instant::now());
        loop {
            let Count(arrived) = self.count.ask(&Count(0), WAIT).await?;
            if arrived >= wanted {
                return Ok(race.fairness());
            }
            if arrived > best {
                (best, progress) = (arrived, Instant::now());
            } else if progress.elapsed() > STALLED {
                return Err(format!("{} were lost", wanted - arrived).into());
            }
        }
    }

    pub(crate) async fn stop(self) {
        self.node.shutdown(WAIT).await;
    }
}

const PAIRS: u16 = 100;
/// Without progress for so long, what has not arrived is lost.
const STALLED: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_secs(60);
