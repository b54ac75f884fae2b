//! Gives callgrind a steady stream of warm tells to count instructions of.
//!
//! `benches/instructions` runs it and compares the counts with those in `benches/instructions.txt`.
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
use tellwire::node::Context;
use tellwire::transport::InProcessNetwork;
use tellwire::{Node, RemoteRef};
use tokio::runtime::{Builder, Runtime};

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
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let arrived = Arc::new(AtomicU64::new(0));
    let (sender, receiver) = runtime.block_on(nodes(&arrived))?;
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
    runtime.block_on(async {
        sender.shutdown(WAIT).await;
        receiver.shutdown(WAIT).await;
    });
    Ok(())
}

async fn nodes(arrived: &Arc<AtomicU64>) -> Result<(Node, Node), Box<dyn Error>> {
    let hub = InProcessNetwork::new();
    let start = |port: u16| {
        let builder = Node::builder("Bench").listen(format!("mem://bench:{port}"));
        builder.transport(hub.clone()).start()
    };
    let (sender, receiver) = (start(1).await?, start(2).await?);
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

const PER_ROUND: u64 = 10_000;
const ROUNDS: u64 = 5;
const WAIT: Duration = Duration::from_secs(5);
