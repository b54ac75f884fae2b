//! Lets processes of one test meet: barriers, small values, and commands, through one controller.
//!
//! The driver of a test starts a [`Controller`] with the names of the nodes it expects. Each node's process
//! [`join`](Participant::join)s under its name. A barrier opens when every expected node has arrived:
//!
//! * a node that arrives twice counts once; one that dies counts no more, and is waited for until it joins again;
//!   one that leaves, or that the driver removes, is not expected any more;
//! * a label is used again and again, in rounds; a label that timed out stays failed for whoever comes late;
//! * the answer says who arrived and who is missing.
//!
//! # Protocol
//!
//! Lines of UTF-8 over TCP, ended by a line feed; fields are parted by one blank. Any language can speak it. A node
//! sends lines of at most [`ControllerSettings::max_line`] bytes; those of the controller grow with the names in them.
//!
//! ```text
//! request  = number " " ( "join " name
//!                       | "barrier " label " " millis        how long to wait at most
//!                       | "put " key " " text
//!                       | "get " key " " millis              how long to wait for a put
//!                       | "leave" )
//! reply    = number " " ( "joined"
//!                       | "ok " label " " round " " names     who arrived
//!                       | "timeout " label " " round " " names " " names     who arrived, who is missing
//!                       | "stored" | "value " text | "none"
//!                       | "left"
//!                       | "refused " text )
//! notice   = "0 " ( "do blackhole" | "do pass" | "do exit" | "malformed " text )
//!
//! number   = 1 to 2^64 - 1, chosen by the node; the reply carries the same one
//! name, label, key = 1 to 64 of A-Z a-z 0-9 . _ / : -
//! names    = name *( "," name ) | "-"         none
//! round, millis = decimal
//! text     = the rest of the line
//! ```
//!
//! A node joins first. Several requests may be under way at once; their replies come as they are ready. Whoever
//! breaks the grammar is told so by a notice, and its link is closed.

mod controller;
mod error;
mod lines;
mod meeting;
mod participant;
mod protocol;

pub use self::controller::{Controller, ControllerSettings};
pub use self::error::BarrierError;
pub use self::meeting::Arrivals;
pub use self::participant::{Commands, Participant};
pub use self::protocol::Command;
