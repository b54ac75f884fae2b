//! Keeps the lanes under the outbox's lock: which one a frame goes to, and what goes out next.

use super::bulk::{Bulk, Piece};
use super::flow::Flow;
use super::message::{Message, Names};
use super::ordinary::Ordinary;
use super::{Refused, Writer};
use crate::association::LinkId;
use crate::lane::Lane;
use crate::node::books::{Books, Passed, Position};
use crate::settings::OutboxSettings;
use crate::wire::FrameKind;

/// Keeps the lanes, and the books of what left them.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) control: Vec<u8>,
    pub(super) control_frames: usize,
    pub(super) ordinary: Ordinary,
    pub(super) bulk: Bulk,
    is_bulk_next: bool,
    /// Lanes that have refused a frame since their senders were last woken.
    has_refused_ordinary: bool,
    has_refused_bulk: bool,
    pub(super) flow: Flow,
    pub(super) names: Names,
    pub(super) active: Option<(LinkId, Writer)>,
    pub(super) is_closed: bool,
    /// The largest message that the peer takes, in bytes, once it has said so.
    pub(super) largest: Option<usize>,
    pub(super) tells: u64,
    pub(super) replies: u64,
    pub(super) books: Books,
    pub(super) lost: u64,
}

/// What one write brings to the link: control frames, and a quantum of one other lane.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) control: Vec<u8>,
    pub(crate) ordinary: Vec<u8>,
    pub(crate) bulk: Option<Piece>,
    /// The places of asks that waited for credit.
    pub(crate) asks: Vec<(u64, Position)>,
}

impl Lanes {
    /// Tells whether `link` is the one that takes frames.
    pub(super) fn is_active(&self, link: LinkId) -> bool {
        self.active.as_ref().is_some_and(|(active, _)| *active == link)
    }

    /// Checks the bounds of a lane.
    #[inline]
    pub(super) fn admit(&mut self, lane: Lane, settings: &OutboxSettings) -> Result<(), Refused> {
        if self.is_closed {
            return Err(Refused::Closed);
        }
        let (bytes, frames, max_bytes) = match lane {
            Lane::Control | Lane::Ordinary => {
                (self.ordinary.bytes(), self.ordinary.frames(), settings.max_bytes)
            }
            Lane::Bulk => (self.bulk.bytes(), self.bulk.frames(), settings.max_bulk_bytes),
        };
        if bytes < max_bytes && frames < settings.max_frames {
            return Ok(());
        }
        self.has_refused_ordinary |= lane != Lane::Bulk;
        self.has_refused_bulk |= lane == Lane::Bulk;
        Err(Refused::Full)
    }

    /// Appends a frame to its lane: the ordinary one, unless it would overtake something to the same target.
    #[inline]
    pub(super) fn append_paid<M: Message>(
        &mut self,
        message: &M,
        settings: &OutboxSettings,
    ) -> Result<Position, Refused> {
        let size = message.payload().len();
        Ok(match message.target() {
            Some(target) if self.bulk.holds(target) => {
                self.admit(Lane::Bulk, settings)?;
                let names = &mut self.names;
                Position::Bulk(self.bulk.follow(target, size, |out| message.frame(names, out))?)
            }
            Some(_) | None => {
                self.admit(Lane::Ordinary, settings)?;
                let names = &mut self.names;
                Position::Ordinary(self.ordinary.append(size, |out| message.frame(names, out))?)
            }
        })
    }

    /// Adds a message that was cut into chunks, unless the outbox was closed meanwhile; holds it without credit.
    pub(super) fn push<M: Message>(
        &mut self,
        chunks: Result<Vec<u8>, Refused>,
        message: &M,
    ) -> Result<Option<Position>, Refused> {
        if self.is_closed {
            return Err(Refused::Closed);
        }
        let size = message.payload().len();
        if let Some(limit) = self.largest.filter(|limit| size > *limit) {
            return Err(Refused::TooLarge { limit });
        }
        let chunks = chunks?;
        self.count::<M>();
        let Some(chunks) = self.pay_or_hold(chunks, message) else { return Ok(None) };
        let ordinary = self.ordinary.offered();
        let number = self.bulk.push(chunks, size, message.target(), ordinary);
        Ok(Some(Position::Bulk(number)))
    }

    /// Moves all of Control and a quantum of another lane into `batch`, whose old buffers come back here.
    pub(super) fn take(&mut self, batch: &mut Batch, defined: &mut usize) {
        if self.flow.is_ready() {
            self.release(&mut batch.asks);
        }
        std::mem::swap(&mut self.control, &mut batch.control);
        self.control_frames = 0;
        self.names.define(defined, &mut batch.control);
        self.ordinary.give_back(std::mem::take(&mut batch.ordinary));
        if self.is_bulk_next || self.ordinary.is_empty() {
            if let Some((piece, frames)) = self.bulk.take(self.ordinary.passed()) {
                batch.bulk = Some(piece);
                self.books.write_bulk(frames);
                self.is_bulk_next = false;
                return;
            }
        }
        if !self.ordinary.is_empty() {
            let frames = self.ordinary.take(&mut batch.ordinary);
            self.books.write_ordinary(frames);
            self.is_bulk_next = true;
        }
    }

    /// Tells whether a lane that has refused a frame is down to half its bounds, and forgets the refusal.
    pub(super) fn has_room_again(&mut self, settings: &OutboxSettings) -> bool {
        let frames = settings.max_frames / 2;
        let ordinary = self.has_refused_ordinary
            && self.ordinary.bytes() <= settings.max_bytes / 2
            && self.ordinary.frames() <= frames;
        let bulk = self.has_refused_bulk
            && self.bulk.bytes() <= settings.max_bulk_bytes / 2
            && self.bulk.frames() <= frames;
        self.has_refused_ordinary &= !ordinary;
        self.has_refused_bulk &= !bulk;
        let held = self.flow.has_room_again(settings);
        ordinary || bulk || held
    }

    pub(super) fn count<M: Message>(&mut self) {
        match M::KIND {
            FrameKind::REPLY => self.replies += 1,
            _ => self.tells += 1,
        }
    }

    pub(super) fn passed(&self) -> Passed {
        Passed { ordinary: self.ordinary.passed(), bulk: self.bulk.passed() }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.ordinary.is_empty()
            && self.control.is_empty()
            && self.bulk.is_empty()
            && !self.flow.is_ready()
    }

    /// Counts the bytes that wait for the writer.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.control.len() + self.ordinary.bytes() + self.bulk.waiting_bytes()
    }

    pub(super) fn count_lost(&mut self, lost: u64) -> u64 {
        self.lost += lost;
        lost
    }
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.control.clear();
        self.ordinary.clear();
        self.bulk = None;
        self.asks.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.ordinary.is_empty() && self.bulk.is_none()
    }

    /// Counts the bytes of one write.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces().iter().map(|piece| piece.len()).sum()
    }

    /// Gives the pieces in the order in which they are written.
    pub(crate) fn pieces(&self) -> [&[u8]; 3] {
        [&self.control, &self.ordinary, self.bulk.as_deref().unwrap_or_default()]
    }
}
