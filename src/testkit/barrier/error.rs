//! Says why nodes did not meet.

use std::io;
use std::time::Duration;

use super::meeting::Arrivals;

/// Says why a barrier, or another wish to the controller, came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// The controller is gone, or was shut down. Do not retry.
    #[error("the controller is down")]
    ControllerDown,
    /// The controller is there and says nothing for longer than the wish may take.
    #[error("the controller was silent for {0:?}")]
    ControllerSilent(Duration),
    /// Somebody's time was over before all had arrived; the label stays failed.
    #[error("barrier {label} timed out in {arrivals}")]
    TimedOut {
        /// The label.
        label: String,
        /// Who was there, and who was not.
        arrivals: Arrivals,
    },
    /// A name, label, key or value breaks the grammar; the caller's fault, nothing was sent.
    #[error("{text:?} cannot be sent: see the grammar")]
    BadText {
        /// The text.
        text: String,
    },
    /// The controller does not want it: an unknown or taken name, or a limit.
    #[error("the controller refused: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The other side sent a line that breaks the grammar.
    #[error("malformed line {line:?}")]
    Malformed {
        /// The line, cut off at 256 bytes.
        line: String,
    },
    /// The controller says that this node sent a line that breaks the grammar.
    #[error("the controller does not understand: {reason}")]
    NotUnderstood {
        /// What it said.
        reason: String,
    },
    /// The reply is in order and does not belong to what was asked.
    #[error("unexpected reply {reply:?}")]
    Unexpected {
        /// The reply.
        reply: String,
    },
    /// No node of that name is expected, or it is not there.
    #[error("node {name} is not there")]
    NotThere {
        /// The name.
        name: String,
    },
    /// A controller is for 1 node up to its limit, each with a name of its own; the caller's fault.
    #[error("a controller cannot be for {nodes} nodes, or two of them have the same name")]
    Nodes {
        /// How many were named.
        nodes: usize,
    },
    /// A socket did not do its part.
    #[error("the link to the controller failed")]
    Io(#[from] io::Error),
}
