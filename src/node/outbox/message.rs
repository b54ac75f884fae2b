//! Spells tells and replies: headers with dictionary ids, and what a dead letter needs to know of a frame.

use std::any::TypeId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::Refused;
use crate::frame::{self, ClusterFrame};
use crate::node::credit::AccountId;
use crate::wire::{
    self, ChunkHeader, Define, Definitions, Extensions, FrameKind, RawFrame, TextId, TextRef,
};

/// A tell or ask on its way out, encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) target: &'a str,
    /// Where the caller keeps the target's dictionary id; 0 means not known yet.
    pub(crate) target_id: &'a AtomicU16,
    pub(crate) manifest: WireName,
    pub(crate) sender: Option<&'a str>,
    pub(crate) ask: Option<AskHeader>,
    /// It had better be refused than be held for lack of credit, as long as a link may bring some.
    pub(crate) is_patient: bool,
    pub(crate) payload: &'a [u8],
}

/// A reply on its way out, encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutgoingReply<'a> {
    pub(crate) correlation: u64,
    pub(crate) manifest: ReplyName<'a>,
    pub(crate) payload: &'a [u8],
}

/// Names the type of a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ReplyName<'a> {
    /// By the type that this node encoded.
    Own(WireName),
    /// By the name that it came with from elsewhere.
    Relayed(&'a str),
}

/// What makes a tell an ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AskHeader {
    pub(crate) correlation: u64,
    pub(crate) wait: Duration,
}

/// Names a message type for the dictionary: its identity, which of its encodings it is, and its text for the
/// first use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WireName {
    pub(crate) type_id: TypeId,
    pub(crate) form: u8,
    pub(crate) codec: &'static str,
    pub(crate) manifest: &'static str,
}

/// Is what an outbox can send.
pub(super) trait Message {
    const KIND: FrameKind;

    /// Gives the path that its order belongs to, if any.
    fn target(&self) -> Option<&str>;

    /// Gives the account that pays for it; a reply needs no credit.
    fn account(&self, names: &mut Names) -> Option<AccountId>;

    /// Tells whether its sender would rather wait for credit than have it held.
    fn is_patient(&self) -> bool;

    /// Tells whether somebody waits for it, or for what answers it, and whoever sends it made it.
    fn is_waited_for(&self) -> bool;

    fn payload(&self) -> &[u8];

    /// Appends the header; an error leaves half a header.
    fn header(&self, names: &mut Names, out: &mut Vec<u8>) -> Result<(), Refused>;

    /// Appends the whole frame; an error leaves nothing.
    #[inline]
    fn frame(&self, names: &mut Names, out: &mut Vec<u8>) -> Result<(), Refused> {
        self.frame_with_header(names, out)
    }

    /// Appends the whole frame, whatever is in its header.
    fn frame_with_header(&self, names: &mut Names, out: &mut Vec<u8>) -> Result<(), Refused> {
        let mark = wire::begin(out, Self::KIND);
        if let Err(refused) = self.header(names, out) {
            wire::abandon(out, mark);
            return Err(refused);
        }
        out.extend_from_slice(self.payload());
        wire::finish(out, mark, usize::MAX).map_err(|_| Refused::Unframeable)?;
        Ok(())
    }
}

impl Message for Outgoing<'_> {
    const KIND: FrameKind = FrameKind::TELL;

    fn target(&self) -> Option<&str> {
        Some(self.target)
    }

    #[inline]
    fn account(&self, names: &mut Names) -> Option<AccountId> {
        let id = names.intern_cached(self.target, self.target_id);
        Some(AccountId::of(text_ref(self.target, id)))
    }

    fn is_patient(&self) -> bool {
        self.is_patient
    }

    fn is_waited_for(&self) -> bool {
        self.ask.is_some()
    }

    fn payload(&self) -> &[u8] {
        self.payload
    }

    #[inline]
    fn frame(&self, names: &mut Names, out: &mut Vec<u8>) -> Result<(), Refused> {
        if self.sender.is_none() && self.ask.is_none() {
            let target = names.intern_cached(self.target, self.target_id);
            if let Some((target, manifest)) = target.zip(names.last_manifest(self.manifest)) {
                return wire::TellHeader::encode_plain(target, manifest, self.payload, out)
                    .map_err(|_| Refused::Unframeable);
            }
        }
        self.frame_with_header(names, out)
    }

    #[inline]
    fn header(&self, names: &mut Names, out: &mut Vec<u8>) -> Result<(), Refused> {
        let target = names.intern_cached(self.target, self.target_id);
        let sender = self.sender.map(|text| text_ref(text, names.definitions.intern(text)));
        let mut literal = String::new();
        let manifest = names.manifest(self.manifest, &mut literal);
        let record = self.ask.map(|ask| frame::deadline_record(ask.wait));
        let header = wire::TellHeader {
            target: text_ref(self.target, target),
            manifest,
            sender,
            correlation: self.ask.map(|ask| ask.correlation),
            extensions: match &record {
                Some(record) => Extensions::parse(record).map_err(|_| Refused::Unframeable)?,
                None => Extensions::NONE,
            },
        };
        header.encode(out).map_err(|_| Refused::Unframeable)
    }
}

impl Message for OutgoingReply<'_> {
    const KIND: FrameKind = FrameKind::REPLY;

    fn target(&self) -> Option<&str> {
        None
    }

    fn account(&self, _: &mut Names) -> Option<AccountId> {
        None
    }

    fn is_patient(&self) -> bool {
        false
    }

    fn is_waited_for(&self) -> bool {
        matches!(self.manifest, ReplyName::Own(_))
    }

    fn payload(&self) -> &[u8] {
        self.payload
    }

    #[inline]
    fn header(&self, names: &mut Names, out: &mut Vec<u8>) -> Result<(), Refused> {
        let mut literal = String::new();
        let manifest = match self.manifest {
            ReplyName::Own(name) => names.manifest(name, &mut literal),
            ReplyName::Relayed(text) => TextRef::Literal(text),
        };
        let header = wire::ReplyHeader::new(self.correlation, manifest);
        header.encode(out).map_err(|_| Refused::Unframeable)
    }
}

/// Gives paths and manifests their dictionary ids; they stay valid over the outbox's life.
#[derive(Debug, Default)]
pub(super) struct Names {
    definitions: Definitions,
    manifests: HashMap<(TypeId, u8), Option<TextId>, BuildHasherDefault<IdHasher>>,
    /// The last one that was found in `manifests`: messages of a type come in rows.
    last: Option<((TypeId, u8), TextId)>,
}

impl Names {
    /// Appends the definitions that a link which has seen the first `defined` lacks.
    pub(super) fn define(&self, defined: &mut usize, out: &mut Vec<u8>) {
        for (id, text) in self.definitions.since(*defined) {
            let written = frame::encode_define(Define { id, text }, out);
            debug_assert!(written.is_ok(), "a definition fits by construction");
        }
        *defined = self.definitions.len();
    }

    /// Gives the text that a reference stands for.
    pub(super) fn text<'a>(&'a self, text: TextRef<'a>) -> &'a str {
        match text {
            TextRef::Literal(text) => text,
            TextRef::Id(id) => {
                self.definitions.since(id.index()).next().map_or("", |(_, text)| text)
            }
        }
    }

    /// Gives all texts in the order of their ids.
    pub(super) fn texts(&self) -> Vec<String> {
        self.definitions.since(0).map(|(_, text)| text.to_owned()).collect()
    }

    #[inline]
    fn intern_cached(&mut self, text: &str, cached: &AtomicU16) -> Option<TextId> {
        match TextId::new(cached.load(Ordering::Relaxed)) {
            Some(id) => Some(id),
            None => {
                let id = self.definitions.intern(text)?;
                cached.store(id.get(), Ordering::Relaxed);
                Some(id)
            }
        }
    }

    #[inline]
    fn manifest<'a>(&mut self, name: WireName, literal: &'a mut String) -> TextRef<'a> {
        match self.last_manifest(name) {
            Some(id) => TextRef::Id(id),
            None => self.find_manifest(name, literal),
        }
    }

    /// Gives the id of the manifest if it is the one that was found last.
    #[inline]
    fn last_manifest(&self, name: WireName) -> Option<TextId> {
        self.last.filter(|(last, _)| *last == (name.type_id, name.form)).map(|(_, id)| id)
    }

    fn find_manifest<'a>(&mut self, name: WireName, literal: &'a mut String) -> TextRef<'a> {
        let definitions = &mut self.definitions;
        let spell = || format!("{}:{}", name.codec, name.manifest);
        let id = *self
            .manifests
            .entry((name.type_id, name.form))
            .or_insert_with(|| definitions.intern(&spell()));
        match id {
            Some(id) => self.last = Some(((name.type_id, name.form), id)),
            None => *literal = spell(),
        }
        text_ref(literal, id)
    }
}

/// A user frame that was never written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Undelivered<'a> {
    /// A tell or ask.
    Tell { target: &'a str, manifest: &'a str, ask: Option<u64> },
    /// A reply.
    Reply { manifest: &'a str, ask: u64 },
}

impl<'a> Undelivered<'a> {
    /// Reads a frame that waited; none for a chunk that only continues one.
    pub(super) fn parse(raw: RawFrame<'a>, texts: &'a [String]) -> Option<Self> {
        let resolve = |text: TextRef<'a>| match text {
            TextRef::Literal(text) => text,
            TextRef::Id(id) => texts.get(id.index()).map_or("", String::as_str),
        };
        Some(match ClusterFrame::parse(whole(raw)?) {
            Ok(ClusterFrame::Tell(header, _)) => Self::Tell {
                target: resolve(header.target),
                manifest: resolve(header.manifest),
                ask: header.correlation,
            },
            Ok(ClusterFrame::Reply(header, _)) => {
                Self::Reply { manifest: resolve(header.manifest), ask: header.correlation }
            }
            Ok(_) | Err(_) => Self::Tell { target: "", manifest: "", ask: None },
        })
    }
}

/// What flow control needs to know of a tell that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting<'a> {
    pub(super) target: TextRef<'a>,
    /// Bytes of the whole payload.
    pub(super) payload: usize,
    pub(super) correlation: Option<u64>,
}

impl<'a> Waiting<'a> {
    /// Reads a frame, or the first chunk of one; none if that is no tell.
    pub(super) fn parse(raw: RawFrame<'a>) -> Option<Self> {
        let frame = whole(raw)?;
        if frame.kind != FrameKind::TELL {
            return None;
        }
        if let Some((target, _, payload)) = wire::TellHeader::parse_plain(frame.body) {
            if raw.kind == FrameKind::TELL {
                let target = TextRef::Id(target);
                return Some(Self { target, payload: payload.len(), correlation: None });
            }
        }
        let (header, here) = wire::TellHeader::parse(frame.body).ok()?;
        let beyond = match raw.kind {
            FrameKind::CHUNK => total(raw)?.checked_sub(frame.body.len())?,
            _ => 0,
        };
        let (target, correlation) = (header.target, header.correlation);
        Some(Self { target, payload: here.len() + beyond, correlation })
    }
}

/// Gives the size of the body that a first chunk begins.
fn total(raw: RawFrame<'_>) -> Option<usize> {
    let (header, _) = ChunkHeader::parse(raw.body).ok()?;
    usize::try_from(header.start?.total).ok()
}

/// Gives the frame that a first chunk begins, as far as it goes: its header is all there.
fn whole(raw: RawFrame<'_>) -> Option<RawFrame<'_>> {
    if raw.kind != FrameKind::CHUNK {
        return Some(raw);
    }
    let (header, body) = ChunkHeader::parse(raw.body).ok()?;
    header.start.map(|start| RawFrame { kind: start.kind, body })
}

/// Hashes a `TypeId`, which is random already, by taking its bits.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 ^= bits;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn text_ref(text: &str, id: Option<TextId>) -> TextRef<'_> {
    id.map_or(TextRef::Literal(text), TextRef::Id)
}
