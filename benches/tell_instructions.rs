//! Gives callgrind a steady stream of warm tells to count instructions of.
//!
//! `benches/instructions` runs it and compares the counts with those in `benches/instructions.txt`;
//! `benches/instructions --scale` runs it with ever more paths and manifests registered and peers connected.
//!
//! Two nodes on the one thread of this process, joined by an in-process link, so that nothing depends on timing:
//! [`tell_round`] fills the outbox, [`arrive_round`] runs writer, reader, dispatch and actor until all is consumed.
//! Each does nothing else, and callgrind is told to count inside one of them only.

#![expect(clippy::print_stdout, reason = "its output is its use")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tellwire::codec::CodecRegistry;
use tellwire::node::Context;
use tellwire::transport::InProcessNetwork;
use tellwire::{Node, RemoteRef};
use tokio::runtime::{Builder, Runtime};

#[path = "common/mod.rs"]
mod common;

#[derive(Serialize, Deserialize)]
struct Note {
    /// 99 bytes, which take 100 on the wire.
    text: String,
}

tellwire::remote_messages! {
    table NOTES, codec = tellwire::codec::Bincode;
    "bench.v1.Note" => Note,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (paths, peers) = (argument("--paths")?, argument("--peers")?);
    let table = common::manifests::<Note>(argument("--manifests")?);
    let registry = CodecRegistry::from_tables(&[NOTES, table])?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let arrived = Arc::new(AtomicU64::new(0));
    let hub = InProcessNetwork::new();
    let (sender, receiver) = runtime.block_on(nodes(&hub, &registry, &arrived))?;
    for path in 0..paths {
        receiver.register(format!("/user/idle-{path}"), |_: Note| {})?;
    }
    let idle = runtime.block_on(connect(&hub, &registry, &sender, peers))?;
    let notes = {
        let _inside = runtime.enter();
        sender.resolve(receiver.path("/user/notes")?)?
    };
    let note = Note { text: "x".repeat(99) };
    tell(&notes, &note)?;
    arrive(&runtime, &arrived, PER_ROUND);
    for round in 1..=ROUNDS {
        tell_round(&notes, &note)?;
        arrive_round(&runtime, &arrived, (round + 1) * PER_ROUND);
    }
    println!("{} tells", ROUNDS * PER_ROUND);
    drop(idle);
    runtime.block_on(async {
        sender.shutdown(WAIT).await;
        receiver.shutdown(WAIT).await;
    });
    Ok(())
}

/// Gives the number behind an option, or else 0.
fn argument(name: &str) -> Result<u64, Box<dyn Error>> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    Ok(arguments.next().map_or(Ok(0), |number| number.parse())?)
}

async fn start(hub: &InProcessNetwork, registry: &CodecRegistry) -> Result<Node, Box<dyn Error>> {
    let builder = Node::builder("Bench").listen("mem://bench:0").transport(hub.clone());
    Ok(builder.registry(registry.clone()).start().await?)
}

/// Starts nodes that the sender has told something once.
async fn connect(
    hub: &InProcessNetwork,
    registry: &CodecRegistry,
    sender: &Node,
    peers: u64,
) -> Result<Vec<Node>, Box<dyn Error>> {
    let (mut nodes, heard) = (Vec::new(), Arc::new(AtomicU64::new(0)));
    for _ in 0..peers {
        let (node, heard) = (start(hub, registry).await?, Arc::clone(&heard));
        node.register("/user/notes", move |_: Note| {
            heard.fetch_add(1, Ordering::Relaxed);
        })?;
        sender.resolve(node.path("/user/notes")?)?.tell(&Note { text: String::new() })?;
        nodes.push(node);
    }
    while heard.load(Ordering::Relaxed) < peers {
        tokio::task::yield_now().await;
    }
    Ok(nodes)
}

async fn nodes(
    hub: &InProcessNetwork,
    registry: &CodecRegistry,
    arrived: &Arc<AtomicU64>,
) -> Result<(Node, Node), Box<dyn Error>> {
    let (sender, receiver) = (start(hub, registry).await?, start(hub, registry).await?);
    let arrived = Arc::clone(arrived);
    receiver.spawn("/user/notes", move |note: Note, _: &mut Context| {
        std::hint::black_box(note.text);
        arrived.fetch_add(1, Ordering::Relaxed);
        std::future::ready(())
    })?;
    Ok((sender, receiver))
}

#[inline(never)]
fn tell_round(notes: &RemoteRef, note: &Note) -> Result<(), Box<dyn Error>> {
    tell(notes, note)
}

#[inline(never)]
fn arrive_round(runtime: &Runtime, arrived: &AtomicU64, wanted: u64) {
    arrive(runtime, arrived, wanted);
}

fn tell(notes: &RemoteRef, note: &Note) -> Result<(), Box<dyn Error>> {
    for _ in 0..PER_ROUND {
        notes.tell(note)?;
    }
    Ok(())
}

fn arrive(runtime: &Runtime, arrived: &AtomicU64, wanted: u64) {
    runtime.block_on(async {
        while arrived.load(Ordering::Relaxed) < wanted {
            tokio::task::yield_now().await;
        }
    });
}

/// Within what the receiver grants and its mailbox takes: the warm way, not the one of a slow actor.
const PER_ROUND: u64 = 2_000;
const ROUNDS: u64 = 25;
const WAIT: Duration = Duration::from_secs(5);
