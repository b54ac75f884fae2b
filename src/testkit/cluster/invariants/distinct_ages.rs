//! Holds that each place in the order of age is given once: [`DistinctAges`].

use std::collections::BTreeMap;

use super::{Invariant, Look};
use crate::membership::member::Member;

/// Holds that no node ever sees two members with the same up number.
///
/// Source: the leader gives numbers on convergence only, and a leader that goes hands them on.
#[derive(Debug)]
pub struct DistinctAges;

impl Invariant for DistinctAges {
    fn name(&self) -> &'static str {
        "no two members have the same place in the order of age"
    }

    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        let mut known: BTreeMap<_, &Member> = BTreeMap::new();
        for member in look.membership.gossip().members() {
            let Some(number) = member.up_number() else { continue };
            if let Some(other) = known.insert(number, member) {
                let (left, right) = (other.node(), member.node());
                return Err(format!("{left} and {right} are both number {number:?}"));
            }
        }
        Ok(())
    }
}
