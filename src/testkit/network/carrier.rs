//! Carries the bytes of one direction of a link, and does to them what the conditions say.
//!
//! ```text
//!   writer ─► pipe ─► cut into frames ─► lose, corrupt, break ─► queue (due times) ─► pipe ─► reader
//! ```
//!
//! A cut way holds everything back, the end of the stream included, as a network does that drops what TCP sends
//! again: nothing is lost if it heals before the nodes give the link up.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::conditions::Way;
use super::cutter::FrameCutter;
use super::fabric::LinkGuard;
use super::trace::{Digest, Trace};
use super::watch::Watch;
use crate::testkit::pace::Pace;
use crate::wire::FrameKind;

/// Says what one direction of a link carries where.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) way: Way,
    /// The link's number, the same in both directions.
    pub(super) link: u64,
    pub(super) rules: Arc<Board>,
    pub(super) trace: Arc<Trace>,
    pub(super) watch: Arc<Watch>,
    pub(super) rng: fastrand::Rng,
    /// Ends both directions at once.
    pub(super) broken: CancellationToken,
    /// The link is known to the network as long as one of its directions is.
    pub(super) _guard: Arc<LinkGuard>,
}

/// Carries one direction until its end, or until the link breaks.
pub(super) async fn carry(route: Route, mut input: DuplexStream, mut output: DuplexStream) {
    let broken = route.broken.clone();
    let (way_out, watch) = (Arc::clone(&route.rules), Arc::clone(&route.watch));
    let way = route.way;
    let (mut load, mut queue) = (Load::new(route), VecDeque::new());
    let mut chunk = vec![0; CHUNK];
    let (mut under_way, mut has_ended) = (0, false);
    loop {
        // Biased: nothing passes a broken link; what is due goes out before more comes in.
        tokio::select! { biased;
            () = broken.cancelled() => return,
            step = deliver(&way_out, way, queue.front_mut(), &mut output) => match step {
                Ok(Some(sent)) => {
                    under_way -= sent;
                    if queue.front().is_some_and(Parcel::is_sent) {
                        queue.pop_front();
                    }
                    watch.carried(way);
                }
                // The stream has ended; or the reader is gone, and the writer learns it from its own pipe.
                Ok(None) | Err(_) => return,
            },
            read = input.read(&mut chunk), if !has_ended && under_way < IN_FLIGHT => {
                let bytes = chunk.get(..read.unwrap_or(0)).unwrap_or_default();
                has_ended = bytes.is_empty();
                let Ok(parcels) = load.take(bytes) else { return broken.cancel() };
                under_way += parcels.iter().map(Parcel::len).sum::<usize>();
                queue.extend(parcels);
            }
        }
    }
}

/// Is something under way.
#[derive(Debug)]
struct Parcel {
    due: Instant,
    /// What is left to hand over; none is the end of the stream.
    bytes: Option<Vec<u8>>,
    sent: usize,
}

impl Parcel {
    fn len(&self) -> usize {
        self.bytes.as_ref().map_or(0, Vec::len)
    }

    fn is_sent(&self) -> bool {
        self.sent == self.len()
    }
}

/// Hands over what is due next, once the way is open, and gives how many bytes went; `None` at the stream's end.
///
/// Cancel safe: what is handed over is noted at once.
async fn deliver(
    rules: &Board,
    way: Way,
    parcel: Option<&mut Parcel>,
    output: &mut DuplexStream,
) -> io::Result<Option<usize>> {
    let Some(parcel) = parcel else { return std::future::pending().await };
    loop {
        rules.opens(way).await;
        if parcel.due <= Instant::now() {
            break;
        }
        // It may be cut while this sleeps.
        tokio::time::sleep_until(parcel.due).await;
    }
    let Some(bytes) = &parcel.bytes else {
        output.shutdown().await?;
        return Ok(None);
    };
    let sent = output.write(bytes.get(parcel.sent..).unwrap_or_default()).await?;
    parcel.sent += sent;
    Ok(Some(sent))
}

/// Decides what becomes of the bytes that come in, and when they arrive.
#[derive(Debug)]
struct Load {
    route: Route,
    cutter: FrameCutter,
    frame: Option<Frame>,
    pace: Pace,
}

/// Is the frame that is passing.
#[derive(Debug)]
struct Frame {
    kind: FrameKind,
    size: usize,
    passed: usize,
    digest: Digest,
    fate: Fate,
}

/// Says that the link breaks here.
#[derive(Debug)]
struct Breaks;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passes,
    IsLost,
    /// One bit of this byte is flipped.
    IsCorrupted {
        at: usize,
        bit: u8,
    },
    BreaksTheLink,
}

impl Load {
    fn new(route: Route) -> Self {
        Self { route, cutter: FrameCutter::default(), frame: None, pace: Pace::new() }
    }

    /// Takes what the writer wrote, nothing at its end, and gives what is left of it.
    fn take(&mut self, mut bytes: &[u8]) -> Result<Vec<Parcel>, Breaks> {
        if bytes.is_empty() {
            return Ok(self.end());
        }
        let mut out = Vec::with_capacity(bytes.len());
        while let Some(piece) = self.cutter.cut(&mut bytes) {
            if let Some((kind, size)) = piece.opens {
                self.frame = Some(self.judge(kind, size));
            }
            match &mut self.frame {
                Some(frame) => frame.pass(&piece.bytes, &mut out),
                None => out.extend_from_slice(&piece.bytes),
            }
            if let Some(frame) = self.frame.take_if(|_| piece.closes) {
                self.note(&frame);
                if frame.fate == Fate::BreaksTheLink {
                    return Err(Breaks);
                }
            }
        }
        Ok(if out.is_empty() { Vec::new() } else { vec![self.parcel(Some(out))] })
    }

    /// Gives the end of the stream, behind what was kept of half a frame.
    fn end(&mut self) -> Vec<Parcel> {
        self.route.trace.note(format_args!("{} #{} end", self.route.way, self.route.link));
        let rest = self.cutter.rest();
        let rest = (!rest.is_empty()).then(|| self.parcel(Some(rest)));
        rest.into_iter().chain([self.parcel(None)]).collect()
    }

    fn judge(&mut self, kind: FrameKind, size: usize) -> Frame {
        let rules = self.route.rules.read();
        let conditions = rules.conditions(self.route.way);
        let rng = &mut self.route.rng;
        // Each draw is made whatever came of the one before, so that one chance does not shift another's dice.
        let (breaks, loses, corrupts) = (rng.f64(), rng.f64(), rng.f64());
        let (at, bit) = (rng.usize(..size), rng.u8(..8));
        let fate = if breaks < conditions.link_loss {
            Fate::BreaksTheLink
        } else if loses < rules.frame_loss(self.route.way, kind) {
            Fate::IsLost
        } else if corrupts < conditions.corruption {
            Fate::IsCorrupted { at, bit }
        } else {
            Fate::Passes
        };
        Frame { kind, size, passed: 0, digest: Digest::new(), fate }
    }

    fn note(&self, frame: &Frame) {
        let Frame { kind, size, digest, fate, .. } = frame;
        let (way, link, kind) = (self.route.way, self.route.link, kind.0);
        self.route
            .trace
            .note(format_args!("{way} #{link} kind {kind}, {size} bytes {digest} {fate:?}"));
    }

    fn parcel(&mut self, bytes: Option<Vec<u8>>) -> Parcel {
        let length = bytes.as_ref().map_or(0, Vec::len);
        let rules = self.route.rules.read();
        let conditions = rules.conditions(self.route.way);
        let jitter = conditions.jitter.mul_f64(self.route.rng.f64());
        let due = self.pace.due(length, conditions.latency + jitter, conditions.bandwidth);
        Parcel { due, bytes, sent: 0 }
    }
}

impl Frame {
    /// Lets the next bytes of the frame pass, or not.
    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let (from, start) = (self.passed, out.len());
        self.passed += bytes.len();
        match self.fate {
            Fate::Passes | Fate::IsCorrupted { .. } => out.extend_from_slice(bytes),
            Fate::IsLost | Fate::BreaksTheLink => return self.digest.add(bytes),
        }
        let passed = out.get_mut(start..).unwrap_or_default();
        if let Fate::IsCorrupted { at, bit } = self.fate {
            if let Some(byte) = at.checked_sub(from).and_then(|at| passed.get_mut(at)) {
                *byte ^= 1 << bit;
            }
        }
        self.digest.add(passed);
    }
}

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;
/// Bytes of one direction that may be under way before the writer waits, beside the two pipes.
const IN_FLIGHT: usize = 256 * 1024;
