//! Knows which nodes belong to the cluster, and agrees on it with the others.
//!
//! Floor 2: machines and pure functions without IO; the time, where one is needed, is an argument.
//! It imports words and bytes only, knows nothing of associations, and never sees a user's
//! message. The shell hands it what arrives in gossip frames and sends what it answers.
//!
//! # A map
//!
//! | to | look at |
//! |---|---|
//! | run it all for one node | [`machine`], [`settings`], [`event`], [`state`] |
//! | ask why things are as they are | [`explain`] |
//! | see what a member is, and what may become of it | [`member`], [`profile`] |
//! | see what members tell each other, and what merging means | [`gossip`] |
//! | tell which of two states is newer | [`vector_clock`] |
//! | tell who can be reached, according to whom | [`reachability`] |
//! | receive and answer gossip | [`exchange`] |
//! | tell whether all that matter have seen a state | [`convergence`] |
//! | find the leader, and what it has to do | [`leader`] |
//! | notice who has gone silent | [`heartbeat`], [`detector`] |
//! | decide that unreachable members are gone | [`downing`] |
//! | read the bytes | [`pdu`] |
//!
//! # The life of a member
//!
//! ```text
//!                    leader, not converged        leader, converged
//!             ┌──────────▶ WeaklyUp ─────┐
//!   Join      │                          ▼          asked        leader        leader
//!  ──────▶ Joining ────────────────────▶ Up ──────▶ Leaving ──▶ Exiting ──▶ (tombstone)
//!             │                                       ▲                          ▲
//!             └── or WeaklyUp, asked to leave ────────┘                          │
//!                                                                 leader, and unreachable
//!   any of these ── the downing strategy ─────────────────────────────────▶ Down ┘
//! ```
//!
//! # Rules
//!
//! 1. Who is a member is a matter of incarnations: a restarted node is another member. Its old
//!    incarnation must be gone before it is let in.
//! 2. Any member may add a Joining one, make one Leaving, and down one. Only the leader does the
//!    rest, and only on convergence; WeaklyUp is the exception.
//! 3. A status moves along the table of [`MemberStatus::successors`](member::MemberStatus) and
//!    never back; whoever merges takes the one further along.
//! 4. A removal leaves a tombstone, and only a tombstone is proof of one. Who has one never comes
//!    back; tombstones are forgotten after a day, when no state from before can be left.
//! 5. Whoever changes the state stamps it, once for each group of changes. States with the same
//!    clock are the same but for the marks of who has seen them.
//! 6. States are merged part by part, each part growing only, so that the order in which nodes
//!    hear of changes does not matter.
//! 7. An observer alone speaks for itself, and this node alone says what it has done and seen;
//!    gossip that claims otherwise is refused.
//! 8. It takes one observer for a node to count as unreachable, and all of them to take it back.
//!    Unreachable members hold up convergence until they come back or are downed.
//! 9. Unreachable is an opinion, Down a decision. There is no message that downs a member, so a
//!    peer can do so only by gossip as a member.
//! 10. A node belongs to the cluster that its first member has named, and what carries another name
//!     is refused. A node that is no member, although somebody takes it for one, says so.
//! 11. Whatever comes from a peer is bounded and checked before it is believed, and refused as a
//!     whole with a reason if it does not hold.
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

pub mod cluster_id;
pub mod convergence;
pub mod detector;
pub mod downing;
pub mod event;
pub mod exchange;
pub mod explain;
pub mod gossip;
pub mod heartbeat;
mod join;
pub mod leader;
pub mod machine;
pub mod member;
mod outbox;
pub mod pdu;
pub mod profile;
pub mod reachability;
pub mod refusals;
mod ring;
pub mod settings;
pub mod state;
pub mod vector_clock;

pub use self::cluster_id::ClusterId;
pub use self::event::{ClusterEvent, JoinRefusal, StopCause};
pub use self::machine::{JoinError, Membership, Phase, RequestError, Setup, Transmit};
pub use self::member::{Member, MemberStatus};
pub use self::settings::ClusterSettings;
pub use self::state::ClusterState;

#[cfg(test)]
mod tests;
