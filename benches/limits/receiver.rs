//! Receives: bare rungs on a socket, and a node with actors.

use std::collections::VecDeque;
use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::common::{Failure, cpu};
use crate::rungs::{COUNT, DECODE, HEADER, Note, PREFIX};

/// Prints where it listens, then answers each line with the processor time used.
pub(crate) async fn run() -> Result<(), Failure> {
    let node = crate::node::receive().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}\n{}", node.address(), listener.local_addr()?);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
                Err(error) => return eprintln!("accept failed: {error}"),
            }
        }
    });
    let answers = tokio::task::spawn_blocking(|| {
        for line in std::io::stdin().lock().lines() {
            line?;
            println!("{}", cpu().as_nanos());
        }
        Ok::<_, std::io::Error>(())
    });
    answers.await??;
    Ok(())
}

async fn serve(mut stream: TcpStream) -> Result<(), Failure> {
    let (kind, pairs) = (stream.read_u8().await?, stream.read_u16().await?);
    let arrived = match kind {
        COUNT => count(&mut stream).await?,
        DECODE => decode(&mut stream, pairs).await?,
        _ => return Err("no such rung".into()),
    };
    stream.write_u64(arrived).await?;
    Ok(())
}

/// Counts frames in place.
async fn count(stream: &mut TcpStream) -> Result<u64, Failure> {
    let (mut frames, mut reading) = (0, Reading::default());
    while reading.fill(stream).await? {
        while let Some(frame) = reading.next() {
            std::hint::black_box(frame);
            frames += 1;
        }
    }
    Ok(frames)
}

/// Decodes messages and gives each mailbox what one read brought for it.
async fn decode(stream: &mut TcpStream, pairs: u16) -> Result<u64, Failure> {
    let (arrived, mut actors) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    let mailboxes: Vec<Arc<Mailbox>> = (0..pairs).map(|_| Arc::default()).collect();
    for mailbox in &mailboxes {
        actors.spawn(consume(Arc::clone(mailbox), Arc::clone(&arrived)));
    }
    let mut reading = Reading::default();
    let mut batches: Vec<VecDeque<Note>> = mailboxes.iter().map(|_| VecDeque::new()).collect();
    while reading.fill(stream).await? {
        while let Some(frame) = reading.next() {
            let pair = frame.get(1..3).and_then(|id| id.try_into().ok()).ok_or("a short frame")?;
            let batch = batches.get_mut(usize::from(u16::from_be_bytes(pair))).ok_or("no pair")?;
            let payload = frame.get(HEADER..).ok_or("a short frame")?;
            let config = bincode::config::standard();
            batch.push_back(bincode::serde::decode_from_slice(payload, config)?.0);
        }
        for (mailbox, batch) in mailboxes.iter().zip(&mut batches) {
            if !batch.is_empty() {
                mailbox.put(batch).await;
            }
        }
    }
    mailboxes.iter().for_each(|mailbox| mailbox.close());
    while let Some(actor) = actors.join_next().await {
        actor?;
    }
    Ok(arrived.load(Ordering::Relaxed))
}

async fn consume(mailbox: Arc<Mailbox>, arrived: Arc<AtomicU64>) {
    let mut local = VecDeque::new();
    loop {
        let ready = mailbox.ready.notified();
        let is_closed = {
            let mut state = mailbox.lock();
            std::mem::swap(&mut state.notes, &mut local);
            state.is_closed
        };
        mailbox.room.notify_one();
        if local.is_empty() {
            if is_closed {
                return;
            }
            ready.await;
        }
        for note in local.drain(..) {
            std::hint::black_box(&note.text);
            arrived.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Holds messages until its consumer swaps them out.
#[derive(Default)]
struct Mailbox {
    state: Mutex<Waiting>,
    ready: Notify,
    room: Notify,
}

#[derive(Default)]
struct Waiting {
    notes: VecDeque<Note>,
    is_closed: bool,
}

impl Mailbox {
    /// Takes the batch whole, and waits beforehand while it is full.
    async fn put(&self, batch: &mut VecDeque<Note>) {
        loop {
            {
                let mut state = self.lock();
                if state.notes.len() < CAPACITY {
                    let was_empty = state.notes.is_empty();
                    if was_empty {
                        std::mem::swap(&mut state.notes, batch);
                    } else {
                        state.notes.append(batch);
                    }
                    drop(state);
                    if was_empty {
                        self.ready.notify_one();
                    }
                    return;
                }
            }
            self.room.notified().await;
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.ready.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads much at once and finds the frames in place.
struct Reading {
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl Default for Reading {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER], taken: 0, filled: 0 }
    }
}

impl Reading {
    /// Reads once; false at the end.
    async fn fill(&mut self, stream: &mut TcpStream) -> Result<bool, Failure> {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        let bytes = stream.read(self.buffer.get_mut(self.filled..).unwrap_or_default()).await?;
        self.filled += bytes;
        Ok(bytes > 0)
    }

    fn next(&mut self) -> Option<&[u8]> {
        let unread = self.buffer.get(self.taken..self.filled)?;
        let (length, rest) = unread.split_first_chunk::<PREFIX>()?;
        let frame = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        self.taken += PREFIX + frame.len();
        Some(frame)
    }
}

const BUFFER: usize = 256 * 1024;
const CAPACITY: usize = 65_536;
