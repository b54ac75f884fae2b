//! Holds that two nodes come to agree on one link: [`OneLink`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Invariant, Look};

/// Holds that a node keeps one link to a peer: there may be two while both dial, not for longer than a handshake.
///
/// Source: "Which link" in the association's own documentation: tells flow on one chosen link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneLink {
    /// How long two links may last: by default 5 s, which is a handshake and a parting with
    /// [`Settings::local`](crate::Settings::local).
    pub patience: Duration,
}

impl Default for OneLink {
    fn default() -> Self {
        Self { patience: Duration::from_secs(5) }
    }
}

impl Invariant for OneLink {
    fn name(&self) -> &str {
        "one link to each peer"
    }

    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        let mut held = BTreeMap::new();
        for link in look.links().iter().filter(|link| link.age > self.patience) {
            if let Some(other) = held.insert((link.node, link.peer), link) {
                let (node, peer) = (link.node, link.peer);
                return Err(format!(
                    "{node} has the links #{} and #{} to {peer}",
                    other.link, link.link
                ));
            }
        }
        Ok(())
    }
}
