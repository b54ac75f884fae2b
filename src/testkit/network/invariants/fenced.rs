//! Holds that a quarantined incarnation is not heard: [`Fenced`].

use std::collections::BTreeMap;

use super::{Invariant, Look};
use crate::address::UniqueAddress;
use crate::association::AssociationState;

/// Holds that no tell or reply is received from an incarnation after it was quarantined, and that it is not up again.
///
/// Source: [`Node::quarantine`](crate::Node::quarantine).
#[derive(Debug, Default)]
pub struct Fenced {
    /// What each incarnation had received from each that it then quarantined.
    received: BTreeMap<(UniqueAddress, UniqueAddress), u64>,
}

impl Invariant for Fenced {
    fn name(&self) -> &str {
        "nothing comes from the quarantined"
    }

    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        for (number, node) in look.touched() {
            for seen in node.associations() {
                let Some(peer) = seen.peer else { continue };
                let key = (node.unique_address(), peer.clone());
                let is_fenced = seen.state == AssociationState::Quarantined;
                let before = self.received.get(&key).copied();
                match before {
                    Some(_) if seen.state == AssociationState::Up => {
                        return Err(format!("node {number} talks to {peer} again"));
                    }
                    Some(before) if before != seen.received => {
                        let more = seen.received.saturating_sub(before);
                        return Err(format!("node {number} has received {more} from {peer}"));
                    }
                    None if is_fenced => drop(self.received.insert(key, seen.received)),
                    Some(_) | None => {}
                }
            }
        }
        Ok(())
    }
}
