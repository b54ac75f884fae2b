//! Names the ordered queues inside an association.
//!
//! Floor 0: words only; `node/outbox.rs` keeps the queues.
//!
//! | lane | carries | before the next look at Control |
//! |---|---|---|
//! | Control | handshake, pings, acknowledgements, refusals, gossip | everything that waits |
//! | Ordinary | tells and replies up to 64 KiB | 64 KiB, ending with a whole frame |
//! | Bulk | larger ones, in chunks, and what must not overtake them | 64 KiB |
//!
//! Ordinary and Bulk take turns. Tells to one path keep their order across both: while a large one waits, later ones
//! to the same path follow it in Bulk, and it is not completed before the earlier ones in Ordinary were written.

/// Names an ordered queue inside an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Goes first: what keeps associations and membership alive.
    Control,
    /// Carries tells and replies of usual size.
    Ordinary,
    /// Carries large messages in chunks, so that they hold up nothing else.
    Bulk,
}

impl Lane {
    /// Lists all lanes, the most urgent one first.
    pub const ALL: [Self; 3] = [Self::Control, Self::Ordinary, Self::Bulk];
}
