//! Holds that nobody who was removed comes back: [`NoReturn`].

use std::collections::{BTreeMap, BTreeSet};

use super::{Invariant, Look};
use crate::address::UniqueAddress;

/// Holds that no node sees an incarnation as a member again that it has seen removed.
///
/// Source: rules 1 and 4 of [`crate::membership`].
#[derive(Debug, Default)]
pub struct NoReturn {
    nodes: BTreeMap<UniqueAddress, Memory>,
}

/// Is what one incarnation has seen.
#[derive(Debug, Default)]
struct Memory {
    members: BTreeSet<UniqueAddress>,
    removed: BTreeSet<UniqueAddress>,
}

impl Invariant for NoReturn {
    fn name(&self) -> &'static str {
        "nobody removed comes back under the same uid"
    }

    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        let gossip = look.membership.gossip();
        let memory = self.nodes.entry(look.own.clone()).or_default();
        let members: BTreeSet<_> = gossip.members().map(|member| member.node().clone()).collect();
        memory.removed.extend(memory.members.difference(&members).cloned());
        memory.removed.extend(gossip.tombstones().map(|(node, _)| node.clone()));
        let back = members.intersection(&memory.removed).next();
        if let Some(node) = back {
            return Err(format!("{node} was removed and is a member again"));
        }
        memory.members = members;
        Ok(())
    }
}
