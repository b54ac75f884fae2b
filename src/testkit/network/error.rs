//! Says what is wrong with a wish for a [`Network`](super::Network).

use crate::address::Address;
use crate::node::StartError;

/// Says why a network did not do what it was asked for; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// There is no node of this number; the caller's fault.
    #[error("there is no node {node}: the network has {nodes}")]
    NoSuchNode {
        /// The number asked for, counted from 0.
        node: usize,
        /// How many nodes the network has.
        nodes: usize,
    },
    /// The address is not that of a node of this network; the caller's fault.
    #[error("{address} is not in this network")]
    UnknownAddress {
        /// The address.
        address: Address,
    },
    /// The node is crashed: restart it first.
    #[error("node {node} is crashed")]
    Crashed {
        /// Its number.
        node: usize,
    },
    /// A fault between a node and itself makes no sense; the caller's fault.
    #[error("node {node} has no link with itself")]
    SameNode {
        /// Its number.
        node: usize,
    },
    /// The node is in two groups of a split; the caller's fault.
    #[error("node {node} is in two groups")]
    InTwoGroups {
        /// Its number.
        node: usize,
    },
    /// A network has 1 to [`MAX_NODES`](super::MAX_NODES) nodes; the caller's fault.
    #[error("a network cannot have {nodes} nodes")]
    Size {
        /// How many were asked for.
        nodes: usize,
    },
    /// A condition is out of the range that its documentation gives; the caller's fault.
    #[error("condition `{what}` is out of range; its documentation gives the range")]
    OutOfRange {
        /// The name of its field.
        what: &'static str,
    },
    /// A node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}
