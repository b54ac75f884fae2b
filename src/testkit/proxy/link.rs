//! Carries one link of a proxy: two directions, each with what is under way on it.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Direction, Rules};
use crate::testkit::pace::Pace;

/// Says what ends a link from outside.
#[derive(Debug)]
pub(super) struct Strike {
    pub(super) reset: CancellationToken,
    /// The proxy is dropped.
    pub(super) end: CancellationToken,
}

/// Carries both directions until they end, break or are struck.
pub(super) async fn run(
    mut near: TcpStream,
    mut far: TcpStream,
    strike: Strike,
    rules: watch::Receiver<Rules>,
    mut rng: fastrand::Rng,
) {
    let is_orderly = {
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        let up = Line::new(Direction::ToTarget, rules.clone(), rng.fork());
        let down = Line::new(Direction::FromTarget, rules, rng);
        // Biased: nothing passes a link that is struck.
        tokio::select! { biased;
            () = strike.end.cancelled() => false,
            () = strike.reset.cancelled() => false,
            ended = async { tokio::try_join!(up.carry(near_in, far_out), down.carry(far_in, near_out)) } => {
                ended.is_ok()
            }
        }
    };
    if !is_orderly {
        reset(&near);
        reset(&far);
    }
}

/// Lets the socket end with a reset when it is dropped.
pub(super) fn reset(stream: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a link of the proxy ends in order instead of by reset");
    }
}

/// Is one direction of a link.
struct Line {
    direction: Direction,
    rules: watch::Receiver<Rules>,
    rng: fastrand::Rng,
    pace: Pace,
    queue: VecDeque<Parcel>,
    under_way: usize,
    /// How often the direction had been closed when the link began.
    closes: u64,
}

/// Is something under way.
struct Parcel {
    due: Instant,
    /// What is left to hand over; nothing is the end of the stream.
    bytes: Vec<u8>,
    sent: usize,
}

impl Line {
    fn new(direction: Direction, rules: watch::Receiver<Rules>, rng: fastrand::Rng) -> Self {
        let closes = rules.borrow().way(direction).closes;
        let (pace, queue) = (Pace::new(), VecDeque::new());
        Self { direction, rules, rng, pace, queue, under_way: 0, closes }
    }

    async fn carry(mut self, mut input: ReadHalf<'_>, mut output: WriteHalf<'_>) -> io::Result<()> {
        let mut closing = self.rules.clone();
        let (direction, closes) = (self.direction, self.closes);
        let mut chunk = vec![0; CHUNK];
        let mut has_ended = false;
        loop {
            // Biased: what is closed carries no more; what is due goes out before more comes in.
            tokio::select! { biased;
                closed = closed_after(&mut closing, direction, closes) => {
                    closed?;
                    output.shutdown().await?;
                    return discard(input, chunk).await;
                }
                step = deliver(&mut self.rules, direction, self.queue.front_mut(), &mut output) => {
                    let Some(sent) = step? else { return Ok(()) };
                    self.under_way -= sent;
                    if self.queue.front().is_some_and(|parcel| parcel.sent == parcel.bytes.len()) {
                        self.queue.pop_front();
                    }
                }
                read = input.read(&mut chunk), if !has_ended && self.under_way < IN_FLIGHT => {
                    let bytes = chunk.get(..read?).unwrap_or_default();
                    has_ended = bytes.is_empty();
                    self.take(bytes.to_vec());
                }
            }
        }
    }

    fn take(&mut self, mut bytes: Vec<u8>) {
        let rules = self.rules.borrow();
        let flow = &rules.way(self.direction).flow;
        flow.corrupt(&mut bytes, &mut self.rng);
        let delay = flow.delay(&mut self.rng);
        let due = self.pace.due(bytes.len(), delay, flow.bandwidth);
        self.under_way += bytes.len();
        self.queue.push_back(Parcel { due, bytes, sent: 0 });
    }
}

/// Hands over what is due next, unless the direction is stalled, and gives how many bytes went; `None` at the
/// stream's end. Cancel safe: what is handed over is noted at once.
async fn deliver(
    rules: &mut watch::Receiver<Rules>,
    direction: Direction,
    parcel: Option<&mut Parcel>,
    output: &mut WriteHalf<'_>,
) -> io::Result<Option<usize>> {
    let Some(parcel) = parcel else { return std::future::pending().await };
    let drip = loop {
        let open = rules.wait_for(|rules| !rules.way(direction).is_stalled).await;
        let drip = open.map_err(|_| gone())?.way(direction).flow.drip;
        if parcel.due <= Instant::now() {
            break drip;
        }
        // It may be stalled while this sleeps.
        tokio::time::sleep_until(parcel.due).await;
    };
    if parcel.bytes.is_empty() {
        output.shutdown().await?;
        return Ok(None);
    }
    let rest = parcel.bytes.get(parcel.sent..).unwrap_or_default();
    let most = drip.map_or(rest.len(), |drip| drip.bytes.get().min(rest.len()));
    let sent = output.write(rest.get(..most).unwrap_or_default()).await?;
    parcel.sent += sent;
    if let Some(drip) = drip {
        parcel.due = Instant::now() + drip.every;
    }
    Ok(Some(sent))
}

/// Waits until a direction is closed once more.
async fn closed_after(
    rules: &mut watch::Receiver<Rules>,
    direction: Direction,
    closes: u64,
) -> io::Result<()> {
    let closed = rules.wait_for(|rules| rules.way(direction).closes > closes).await;
    closed.map(drop).map_err(|_| gone())
}

/// Reads to the end for nobody.
async fn discard(mut input: ReadHalf<'_>, mut chunk: Vec<u8>) -> io::Result<()> {
    while input.read(&mut chunk).await? > 0 {}
    Ok(())
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;
/// Bytes of one direction that may be under way before the writer waits.
const IN_FLIGHT: usize = 256 * 1024;
