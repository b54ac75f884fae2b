//! Measures a fast sender of ten million tells against a slow actor: resident memory, loss, order.
//!
//! `cargo bench --bench slow_actor [-- MESSAGES]`
//!
//! Two processes with default settings over loopback. The actor works on each message for about two microseconds,
//! several times what a tell costs; the sender does nothing but `send().await`. Both processes say how much memory
//! they take after each twentieth of the messages; the least and the most of the second half of the run show whether
//! it grows. Fails if a message is lost or out of place.

#![expect(clippy::print_stdout, reason = "its output is its use")]

#[path = "common/mod.rs"]
mod common;

use std::io::Read;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tellwire::Node;
use tellwire::node::{Actor, Context};

use common::{Failure, Second, resident};

/// Carries its number and 92 bytes.
#[derive(Serialize, Deserialize)]
struct Note {
    seq: u64,
    text: String,
}

/// Asks how far the actor is, and answers.
#[derive(Serialize, Deserialize)]
struct Progress {
    handled: u64,
    misplaced: u64,
    resident: u64,
}

tellwire::remote_messages! {
    table NOTES, codec = tellwire::codec::Bincode;
    "bench.v1.Note" => Note,
    "bench.v1.Progress" => Progress,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == RECEIVE) {
        return receive().await;
    }
    let given = arguments.iter().find_map(|argument| argument.parse().ok());
    // Without `--bench` this is a test of the bench itself.
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    send(given.unwrap_or(if is_bench { MESSAGES } else { 10_000 })).await
}

async fn send(messages: u64) -> Result<(), Failure> {
    let mut receiver = Second::start(&[RECEIVE], None)?;
    let address = receiver.line()?;
    let node = Node::builder("Bench").listen("tcp://127.0.0.1:0").start().await?;
    let slow = node.resolve(format!("{address}/user/slow"))?;
    let progress = node.resolve(format!("{address}/user/progress"))?;
    let ask = async || progress.ask(&Progress::of(0, 0), WAIT).await;
    let (begun, mut memory) = (Instant::now(), Vec::new());
    for seq in 0..messages {
        slow.send(&Note { seq, text: "x".repeat(92) }).await?;
        if seq % (messages / STEPS).max(1) == 0 {
            let there: Progress = ask().await?;
            memory.push((resident() / 1024, there.resident));
            println!("  sent {seq}, handled {}, memory {:?} KiB", there.handled, memory.last());
        }
    }
    let end = loop {
        let there: Progress = ask().await?;
        if there.handled == messages || node.stats().dead_letters_total() > 0 {
            break there;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "handled {} of {messages} in {seconds:.1} s, {} misplaced",
        end.handled, end.misplaced
    );
    print_range("sender", memory.iter().map(|(here, _)| *here));
    print_range("receiver", memory.iter().map(|(_, there)| *there));
    node.shutdown(WAIT).await;
    let is_whole = end.handled == messages && end.misplaced == 0;
    if is_whole { Ok(()) } else { Err("messages are lost or out of place".into()) }
}

/// Prints the least and the most of the second half.
fn print_range(who: &str, figures: impl ExactSizeIterator<Item = u64>) {
    let half = figures.len() / 2;
    let second: Vec<u64> = figures.skip(half).collect();
    let (least, most) = (second.iter().min(), second.iter().max());
    println!("{who} {:?} to {:?} KiB", least.unwrap_or(&0), most.unwrap_or(&0));
}

/// Works a little on each message, and checks its place.
struct Slow {
    handled: u64,
    misplaced: u64,
    tell: tokio::sync::watch::Sender<(u64, u64)>,
}

impl Actor<Note> for Slow {
    async fn receive(&mut self, note: Note, _: &mut Context) {
        self.misplaced += u64::from(note.seq != self.handled);
        self.handled += 1;
        let begun = Instant::now();
        while begun.elapsed() < WORK {
            std::hint::spin_loop();
        }
        self.tell.send_replace((self.handled, self.misplaced));
    }
}

async fn receive() -> Result<(), Failure> {
    let node = Node::builder("Bench").listen("tcp://127.0.0.1:0").start().await?;
    let (tell, told) = tokio::sync::watch::channel((0, 0));
    node.spawn::<Note, _>("/user/slow", Slow { handled: 0, misplaced: 0, tell })?;
    node.spawn("/user/progress", move |_: Progress, cx: &mut Context| {
        let (handled, misplaced) = *told.borrow();
        std::future::ready(cx.reply(&Progress::of(handled, misplaced)))
    })?;
    println!("{}", node.address());
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    node.shutdown(WAIT).await;
    Ok(())
}

impl Progress {
    fn of(handled: u64, misplaced: u64) -> Self {
        Self { handled, misplaced, resident: resident() / 1024 }
    }
}

/// Gives the resident memory of this process in KiB; 0 where the system does not tell.
const RECEIVE: &str = "receive";
const MESSAGES: u64 = 10_000_000;
const STEPS: u64 = 20;
const WORK: Duration = Duration::from_micros(2);
const WAIT: Duration = Duration::from_secs(60);
