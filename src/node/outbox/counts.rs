//! Counts what went through an outbox and what waits in it, for statistics.

/// Counts frames for statistics.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) tells: u64,
    pub(crate) replies: u64,
    pub(crate) lost: u64,
    pub(crate) control: Queued,
    pub(crate) ordinary: Queued,
    pub(crate) bulk: Queued,
    pub(crate) held: Queued,
}

/// Counts what waits in one lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queued {
    /// Bytes that wait to be written, headers included.
    pub bytes: usize,
    /// Frames that wait to be written; a message in chunks counts as one.
    pub frames: usize,
}

impl Counts {
    /// Counts the tells and replies that wait.
    pub(crate) fn queued_frames(&self) -> usize {
        self.ordinary.frames + self.bulk.frames + self.held.frames
    }

    /// Counts the bytes that wait.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.control.bytes + self.ordinary.bytes + self.bulk.bytes + self.held.bytes
    }
}
