//! Counts the heap allocations of a warm tell.
//!
//! `cargo bench --bench tell_allocations`
//!
//! Both nodes live on the one thread of this process, so what is counted while that thread only tells is the
//! sender's; what is counted until the messages have arrived is everybody's: writer, reader, dispatcher, and the
//! 100-byte text that each message owns. Fails if telling allocates.

#![expect(clippy::print_stdout, reason = "its output is its use")]

use std::alloc::System;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tellwire::codec::{CodecEntry, CodecRegistry};
use tellwire::{Node, RemoteRef};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[derive(Serialize, Deserialize)]
struct Note {
    text: String,
}

tellwire::remote_messages! {
    table NOTES, codec = tellwire::codec::Bincode;
    "bench.v1.Note" => Note,
}

/// Is what only some peers know, so that the registries differ.
#[derive(Serialize, Deserialize)]
struct Other;

tellwire::remote_messages! {
    table OTHERS, codec = tellwire::codec::Bincode;
    "bench.v1.Other" => Other,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("to the same registry");
    measure(&[NOTES]).await?;
    println!("to another registry, whose list is looked up");
    measure(&[NOTES, OTHERS]).await
}

async fn measure(tables: &[&'static [CodecEntry]]) -> Result<(), Box<dyn Error>> {
    let registry = CodecRegistry::from_tables(tables)?;
    let receiver = Node::builder("Bench").listen("tcp://127.0.0.1:0").registry(registry);
    let receiver = receiver.start().await?;
    let arrived = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&arrived);
    receiver.register("/user/notes", move |_: Note| {
        counter.fetch_add(1, Ordering::Relaxed);
    })?;
    let sender = Node::builder("Bench").listen("tcp://127.0.0.1:0").codecs(NOTES).start().await?;
    let notes = sender.resolve(receiver.path("/user/notes")?)?;

    let mut sent = 0;
    for _ in 0..WARM_ROUNDS {
        sent += round(&notes, &arrived, sent).await?.told;
    }
    let (mut telling, whole) = (0, Region::new(ALLOCATOR));
    let begun = sent;
    while sent < begun + MEASURED {
        let round = round(&notes, &arrived, sent).await?;
        sent += round.told;
        telling += round.allocations;
    }
    let everybody = allocations(&whole);
    println!("telling {:.6} allocations/tell", per_message(telling, sent - begun));
    println!("everybody {:.6} allocations/tell", per_message(everybody, sent - begun));

    sender.shutdown(WAIT).await;
    receiver.shutdown(WAIT).await;
    if telling == 0 { Ok(()) } else { Err("a warm tell allocates".into()) }
}

/// What one round of tells cost the thread that tells.
struct Round {
    told: u64,
    allocations: usize,
}

/// Tells no more than has credit, then lets it arrive.
async fn round(
    notes: &RemoteRef,
    arrived: &AtomicU64,
    before: u64,
) -> Result<Round, Box<dyn Error>> {
    let note = Note { text: "x".repeat(99) };
    let region = Region::new(ALLOCATOR);
    for _ in 0..PER_ROUND {
        notes.tell(&note)?;
    }
    let allocations = allocations(&region);
    while arrived.load(Ordering::Relaxed) < before + PER_ROUND {
        tokio::task::yield_now().await;
    }
    // The next round is to find the credit for this one granted: tells without any are held, in a buffer that grows.
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(Round { told: PER_ROUND, allocations })
}

fn allocations(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.allocations + change.reallocations
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per_message(allocations: usize, messages: u64) -> f64 {
    allocations as f64 / messages as f64
}

const PER_ROUND: u64 = 1_000;
const WARM_ROUNDS: u64 = 5;
const MEASURED: u64 = 100_000;
const WAIT: Duration = Duration::from_secs(5);
