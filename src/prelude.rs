//! Brings the names that nearly every user needs.

pub use crate::address::Address;
pub use crate::codec::{Bincode, RemoteMessage};
pub use crate::membership::ClusterEvent;
pub use crate::node::{Actor, Cluster, Context, Mailbox, Node, RemoteRef};
pub use crate::path::ActorPath;
pub use crate::remote_messages;
