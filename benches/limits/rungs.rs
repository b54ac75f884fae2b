//! Sends over a bare socket, doing ever more of what a node does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::Shape;
use crate::common::Failure;

#[derive(Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) text: String,
}

/// Rung 1: writes ready-made frames.
pub(crate) async fn ready(to: &str, shape: Shape) -> Result<f64, Failure> {
    let mut stream = connect(to, COUNT, shape).await?;
    let frame = frame(shape)?;
    let per_write = (WRITE / frame.len()).max(1);
    let frames = frame.repeat(per_write);
    for _ in 0..shape.messages / per_write as u64 {
        stream.write_all(&frames).await?;
    }
    let rest = usize::try_from(shape.messages % per_write as u64)?;
    stream.write_all(&frame.repeat(rest)).await?;
    finish(stream, shape).await?;
    Ok(1.0)
}

/// Rung 2: appends frames to a shared buffer.
pub(crate) async fn shared(to: &str, shape: Shape) -> Result<f64, Failure> {
    let frame = frame(shape)?;
    through_buffer(to, COUNT, shape, move |_, out| {
        out.extend_from_slice(&frame);
        Ok(())
    })
    .await
}

/// Rung 3: encodes messages into the shared buffer.
pub(crate) async fn decoded(to: &str, shape: Shape) -> Result<f64, Failure> {
    // A text is told with its length; the message has the size that is asked for.
    let prefix = if shape.size > 250 { 3 } else { 1 };
    let note = Note { text: "x".repeat(shape.size - prefix) };
    through_buffer(to, DECODE, shape, move |pair, out| {
        let begin = out.len();
        out.extend_from_slice(&[0; PREFIX]);
        out.push(TELL);
        out.extend_from_slice(&pair.to_be_bytes());
        out.extend_from_slice(&MANIFEST.to_be_bytes());
        bincode::serde::encode_into_std_write(&note, out, bincode::config::standard())?;
        let length = u32::try_from(out.len() - begin - PREFIX)?;
        let place = out.get_mut(begin..begin + PREFIX).ok_or("no room for the length")?;
        place.copy_from_slice(&length.to_be_bytes());
        Ok(())
    })
    .await
}

/// Lets each pair's task append to one buffer, which a writer swaps out.
async fn through_buffer(
    to: &str,
    kind: u8,
    shape: Shape,
    append: impl Fn(u16, &mut Vec<u8>) -> Result<(), Failure> + Send + Sync + 'static,
) -> Result<f64, Failure> {
    let stream = connect(to, kind, shape).await?;
    let buffer = Arc::new(Buffer::default());
    let writer = tokio::spawn(write(Arc::clone(&buffer), stream));
    let (append, race) = (Arc::new(append), Arc::new(Race::new(shape)));
    let mut senders = JoinSet::new();
    for pair in 0..shape.pairs {
        let (buffer, append) = (Arc::clone(&buffer), Arc::clone(&append));
        let race = Arc::clone(&race);
        senders.spawn(async move {
            for sent in 1..=race.share {
                buffer.append(|out| append(pair, out)).await?;
                race.note(pair, sent);
                if sent % TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender??;
    }
    buffer.close();
    finish(writer.await??, Shape { messages: race.share * u64::from(shape.pairs), ..shape })
        .await?;
    Ok(race.fairness())
}

async fn write(buffer: Arc<Buffer>, mut stream: TcpStream) -> Result<TcpStream, Failure> {
    let mut batch = Vec::new();
    loop {
        let is_closed = {
            let mut state = buffer.lock();
            std::mem::swap(&mut state.bytes, &mut batch);
            state.is_closed
        };
        buffer.room.notify_waiters();
        if !batch.is_empty() {
            stream.write_all(&batch).await?;
            batch.clear();
        } else if is_closed {
            return Ok(stream);
        } else {
            buffer.waits.notified().await;
        }
    }
}

/// Gathers frames for one writer.
#[derive(Default)]
struct Buffer {
    state: Mutex<Gathered>,
    waits: Notify,
    room: Notify,
}

#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    is_closed: bool,
}

impl Buffer {
    async fn append(
        &self,
        append: impl Fn(&mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        loop {
            let room = self.room.notified();
            {
                let mut state = self.lock();
                if state.bytes.len() < HIGH_WATER {
                    let was_empty = state.bytes.is_empty();
                    append(&mut state.bytes)?;
                    drop(state);
                    if was_empty {
                        self.waits.notify_one();
                    }
                    return Ok(());
                }
            }
            room.await;
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.waits.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches how far each sender is when the first one is done.
pub(crate) struct Race {
    pub(crate) share: u64,
    sent: Vec<AtomicU64>,
    standing: Mutex<Option<f64>>,
}

impl Race {
    pub(crate) fn new(shape: Shape) -> Self {
        let sent = (0..shape.pairs).map(|_| AtomicU64::new(0)).collect();
        let share = (shape.messages / u64::from(shape.pairs)).max(1);
        Self { share, sent, standing: Mutex::new(None) }
    }

    /// Notes how much a sender has sent; only now and then, for it must cost nothing.
    pub(crate) fn note(&self, pair: u16, sent: u64) {
        if sent % TURN == 0 || sent == self.share {
            if let Some(count) = self.sent.get(usize::from(pair)) {
                count.store(sent, Ordering::Relaxed);
            }
        }
        if sent == self.share {
            let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
            standing.get_or_insert_with(|| self.slowest());
        }
    }

    /// Gives the slowest sender's part of the mean, as it was when the first was done.
    pub(crate) fn fairness(&self) -> f64 {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(0.0)
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn slowest(&self) -> f64 {
        let sent: Vec<u64> = self.sent.iter().map(|sent| sent.load(Ordering::Relaxed)).collect();
        let mean = sent.iter().sum::<u64>() as f64 / sent.len() as f64;
        sent.iter().min().map_or(0.0, |least| *least as f64 / mean)
    }
}

/// Opens a run: what the receiver is to do, and for how many pairs.
async fn connect(to: &str, kind: u8, shape: Shape) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    stream.write_u8(kind).await?;
    stream.write_u16(shape.pairs).await?;
    Ok(stream)
}

/// Ends a run when the receiver has everything.
async fn finish(mut stream: TcpStream, shape: Shape) -> Result<(), Failure> {
    stream.shutdown().await?;
    let arrived = stream.read_u64().await?;
    if arrived == shape.messages { Ok(()) } else { Err(format!("{arrived} arrived").into()) }
}

fn frame(shape: Shape) -> Result<Vec<u8>, Failure> {
    let length = u32::try_from(shape.size)?;
    Ok([&length.to_be_bytes()[..], &vec![b'x'; shape.size]].concat())
}

/// The receiver counts frames.
pub(crate) const COUNT: u8 = 1;
/// The receiver decodes messages and hands them over.
pub(crate) const DECODE: u8 = 3;
/// Bytes before a frame: its length.
pub(crate) const PREFIX: usize = 4;
/// Bytes before a message in its frame: kind, path and manifest.
pub(crate) const HEADER: usize = 5;
pub(crate) const TURN: u64 = 128;
const TELL: u8 = 4;
const MANIFEST: u16 = 7;
const WRITE: usize = 64 * 1024;
const HIGH_WATER: usize = 1024 * 1024;
