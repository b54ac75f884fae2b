//! Holds that a status never goes backwards: [`Forward`].

use std::collections::BTreeMap;

use super::{Invariant, Look};
use crate::address::UniqueAddress;
use crate::membership::member::MemberStatus;

/// Holds that no node ever sees a member further back than it has seen it before.
///
/// Source: the order of statuses of [`MemberStatus`], rule 3 of [`crate::membership`].
#[derive(Debug, Default)]
pub struct Forward {
    /// What each incarnation has last seen of each other.
    seen: BTreeMap<UniqueAddress, BTreeMap<UniqueAddress, MemberStatus>>,
}

impl Invariant for Forward {
    fn name(&self) -> &'static str {
        "a status never goes backwards"
    }

    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        let seen = self.seen.entry(look.own.clone()).or_default();
        for member in look.membership.gossip().members() {
            let status = member.status();
            let before = seen.insert(member.node().clone(), status).unwrap_or(status);
            if before > status {
                return Err(format!("{} was {before} and is {status}", member.node()));
            }
        }
        Ok(())
    }
}
