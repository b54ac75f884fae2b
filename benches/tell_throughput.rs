//! Measures how many tells of 100 bytes a node takes in from another process, beside bare TCP.
//!
//! `cargo bench --bench tell_throughput [-- MESSAGES]`
//!
//! One sender, one actor, loopback, default settings; a run ends when the receiver says that it has everything. The
//! baseline writes frames of the same 100 bytes behind a length, 64 KiB of ready-made ones at a time; its reader
//! finds the lengths in place. Both take turns, so that a busy machine slows both, and the medians are compared.

#![expect(clippy::print_stdout, reason = "its output is its use")]

#[path = "common/mod.rs"]
mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tellwire::node::Context;
use tellwire::{Node, RemoteRef};

use common::{Failure, Second};

#[derive(Serialize, Deserialize)]
struct Note {
    /// 99 bytes, which take 100 on the wire.
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

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == RECEIVE) {
        return receive().await;
    }
    let given = arguments.iter().find_map(|argument| argument.parse().ok());
    // Without `--bench` this is a test of the bench itself.
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let messages = given.unwrap_or(if is_bench { MESSAGES } else { 10_000 });
    compare(messages).await
}

async fn compare(messages: u64) -> Result<(), Failure> {
    let mut receiver = Second::start(&[RECEIVE], None)?;
    let (address, bare_address) = (receiver.line()?, receiver.line()?);
    let node = Node::builder("Bench").listen("tcp://127.0.0.1:0").start().await?;
    let notes = node.resolve(format!("{address}/user/notes"))?;
    let count = node.resolve(format!("{address}/user/count"))?;
    tell(&notes, &count, messages / 10).await?;
    let (mut tells, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        tells.push(rate(messages, tell(&notes, &count, messages).await?));
        bare.push(rate(messages, write(&bare_address, messages)?));
    }
    let (tells, bare) = (median(tells), median(bare));
    println!("tells {tells:.0} msgs/s");
    println!("bare_tcp {bare:.0} msgs/s");
    println!("ratio {:.3}", tells / bare);
    node.shutdown(WAIT).await;
    Ok(())
}

/// Tells, and asks until everything has arrived.
async fn tell(notes: &RemoteRef, count: &RemoteRef, messages: u64) -> Result<Duration, Failure> {
    let Count(before) = count.ask(&Count(0), WAIT).await?;
    let note = Note { text: "x".repeat(PAYLOAD - 1) };
    let begun = Instant::now();
    for _ in 0..messages {
        notes.send(&note).await?;
    }
    // Another actor's answer may pass notes that wait for credit.
    loop {
        let Count(after) = count.ask(&Count(0), WAIT).await?;
        match after - before {
            arrived if arrived == messages => return Ok(begun.elapsed()),
            arrived if arrived > messages => return Err(format!("{arrived} arrived").into()),
            _ if begun.elapsed() > WAIT => return Err(format!("{after} arrived").into()),
            _ => {}
        }
    }
}

/// Writes ready-made frames to a bare socket until the reader has counted them.
fn write(to: &str, messages: u64) -> Result<Duration, Failure> {
    let mut stream = TcpStream::connect(to)?;
    let frame = [&u32::try_from(PAYLOAD)?.to_be_bytes()[..], &[b'x'; PAYLOAD]].concat();
    let per_write = 64 * 1024 / frame.len();
    let frames = frame.repeat(per_write);
    let writes = messages / per_write as u64;
    let begun = Instant::now();
    for _ in 0..writes {
        stream.write_all(&frames)?;
    }
    stream.write_all(&frame.repeat(usize::try_from(messages % per_write as u64)?))?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut arrived = [0; 8];
    stream.read_exact(&mut arrived)?;
    let arrived = u64::from_be_bytes(arrived);
    if arrived == messages { Ok(begun.elapsed()) } else { Err(format!("{arrived} arrived").into()) }
}

async fn receive() -> Result<(), Failure> {
    let node = Node::builder("Bench").listen("tcp://127.0.0.1:0").start().await?;
    let arrived = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&arrived);
    node.register("/user/notes", move |_: Note| {
        counter.fetch_add(1, Ordering::Relaxed);
    })?;
    node.spawn("/user/count", move |_: Count, cx: &mut Context| {
        let replied = cx.reply(&Count(arrived.load(Ordering::Relaxed)));
        std::future::ready(replied)
    })?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}\n{}", node.address(), listener.local_addr()?);
    std::thread::spawn(move || listener.incoming().try_for_each(|stream| read(stream?)));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    node.shutdown(WAIT).await;
    Ok(())
}

/// Counts frames in place and answers with their number.
fn read(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut buffer, mut filled, mut frames) = (vec![0; 256 * 1024], 0, 0_u64);
    loop {
        let bytes = stream.read(buffer.get_mut(filled..).unwrap_or_default())?;
        if bytes == 0 {
            return stream.write_all(&frames.to_be_bytes());
        }
        filled += bytes;
        let mut taken = 0;
        while let Some(frame) = frame(buffer.get(taken..filled).unwrap_or_default()) {
            std::hint::black_box(frame);
            taken += PREFIX + frame.len();
            frames += 1;
        }
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
    }
}

fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<PREFIX>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn rate(messages: u64, took: Duration) -> f64 {
    messages as f64 / took.as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    println!("  {figures:.0?}");
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

const RECEIVE: &str = "receive";
const RUNS: usize = 5;
const MESSAGES: u64 = 5_000_000;
const PAYLOAD: usize = 100;
const PREFIX: usize = 4;
const WAIT: Duration = Duration::from_secs(60);
