//! Puts the members on a ring and says who monitors whom: [`monitored_by`].
//!
//! The order is by a hash of the unique address, so that machines which are neighbours by address, and likely to fail
//! together, do not monitor each other only. Every node computes the same ring from the same members; no messages.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::Bound;

use crate::address::UniqueAddress;

/// Gives the members that `own` monitors: the next ones clockwise until `count` reachable ones are found.
///
/// Unreachable members met on the way are monitored as well, as long as fewer than `count` were found in all: somebody
/// has to notice when one of them is back. With at most `count` others everybody monitors everybody.
///
/// ```
/// use std::collections::BTreeSet;
/// use std::num::NonZeroUsize;
/// use tellwire::UniqueAddress;
/// use tellwire::membership::heartbeat::monitored_by;
///
/// let node = |port: u16| format!("tcp://Chat@10.0.0.1:{port}#0123456789abcdef").parse();
/// let members = (1..=50).map(node).collect::<Result<BTreeSet<UniqueAddress>, _>>()?;
/// let nine = NonZeroUsize::MIN.saturating_add(8);
/// for own in &members {
///     assert_eq!(monitored_by(own, &members, &BTreeSet::new(), nine).len(), 9);
/// }
/// # Ok::<(), tellwire::address::AddressError>(())
/// ```
#[must_use]
pub fn monitored_by(
    own: &UniqueAddress,
    members: &BTreeSet<UniqueAddress>,
    unreachable: &BTreeSet<UniqueAddress>,
    count: NonZeroUsize,
) -> BTreeSet<UniqueAddress> {
    let mut ring = Ring::default();
    ring.update(members);
    ring.monitored_by(own, unreachable, count)
}

/// Holds the members by their places, so that only those which come and go have to be placed.
#[derive(Debug, Default)]
pub(super) struct Ring {
    members: BTreeSet<UniqueAddress>,
    places: BTreeSet<(u64, UniqueAddress)>,
}

impl Ring {
    /// Takes the present members.
    pub(super) fn update(&mut self, members: &BTreeSet<UniqueAddress>) {
        for gone in self.members.difference(members) {
            self.places.remove(&(place(gone), gone.clone()));
        }
        for new in members.difference(&self.members) {
            self.places.insert((place(new), new.clone()));
        }
        self.members.clone_from(members);
    }

    /// Gives the members that `own` monitors; see [`monitored_by`].
    pub(super) fn monitored_by(
        &self,
        own: &UniqueAddress,
        unreachable: &BTreeSet<UniqueAddress>,
        count: NonZeroUsize,
    ) -> BTreeSet<UniqueAddress> {
        let here = (place(own), own.clone());
        let after = self.places.range((Bound::Excluded(&here), Bound::Unbounded));
        let clockwise = after.chain(self.places.range(..&here)).map(|(_, member)| member);
        let others = self.places.len() - usize::from(self.places.contains(&here));
        choose(clockwise, others, unreachable, count.get()).into_iter().cloned().collect()
    }
}

/// Walks over the `others` in their order from one node on.
fn choose<'a>(
    clockwise: impl Iterator<Item = &'a UniqueAddress>,
    others: usize,
    unreachable: &BTreeSet<UniqueAddress>,
    count: usize,
) -> Vec<&'a UniqueAddress> {
    if others <= count {
        return clockwise.collect();
    }
    let mut chosen = Vec::new();
    let mut reachable = 0;
    for member in clockwise {
        let is_reachable = !unreachable.contains(member);
        if reachable == count {
            break;
        }
        if is_reachable || chosen.len() < count {
            chosen.push(member);
        }
        reachable += usize::from(is_reachable);
    }
    chosen
}

/// Gives a member's place on the ring, the same on every node and in every version: FNV-1a over its text, then well
/// mixed.
fn place(member: &UniqueAddress) -> u64 {
    let uid = member.uid().get();
    let digits = (0..16).rev().filter_map(|place| {
        let digit = u32::try_from((uid >> (4 * place)) & 0xf).ok()?;
        u8::try_from(char::from_digit(digit, 16)?).ok()
    });
    let text = member.address().as_str().bytes().chain([b'#']).chain(digits);
    let hash = text.fold(FNV_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    // Its last bytes reach only the lower bits, and an order looks at the upper ones.
    let folded = (hash ^ (hash >> 32)).wrapping_mul(FOLD);
    folded ^ (folded >> 29)
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
/// The fraction of the golden ratio: odd, and its bits have no pattern.
const FOLD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{Strategy, any, proptest};

    use super::*;

    #[test]
    fn the_ring_of_six_is_that_of_the_tables() {
        let table = [
            ("a", "bcdf"),
            ("b", "cdef"),
            ("c", "defb"),
            ("d", "efabc"),
            ("e", "fabc"),
            ("f", "abc"),
        ];
        for (own, golden) in table {
            let (before, after) = ("abcdef".split_once(own)).unwrap();
            let clockwise: Vec<_> = after.chars().chain(before.chars()).map(node).collect();
            let unreachable = "ade".chars().map(node).collect();
            let chosen = choose(clockwise.iter(), clockwise.len(), &unreachable, 3);
            let golden: Vec<_> = golden.chars().map(node).collect();
            assert_eq!(chosen, golden.iter().collect::<Vec<_>>(), "of {own}");
        }
    }

    #[test]
    fn the_order_of_the_ring_is_frozen() {
        // Versions that disagree about it would leave members without monitors while both run.
        assert_eq!(place(&node('a')), GOLDEN_PLACE_OF_A);
        let mut ring: Vec<_> = ('a'..='f').collect();
        ring.sort_by_key(|name| place(&node(*name)));
        assert_eq!(ring.into_iter().collect::<String>(), GOLDEN_RING);
    }

    proptest! {
        #[test]
        fn every_member_is_monitored_by_as_many_as_it_monitors(size in 2..40usize, count in 1..12usize) {
            let members: BTreeSet<_> = numbered(size).collect();
            let count = NonZeroUsize::new(count).unwrap();
            let mut monitors: BTreeMap<_, usize> = BTreeMap::new();
            for own in &members {
                let monitored = monitored_by(own, &members, &BTreeSet::new(), count);
                assert!(!monitored.contains(own));
                for member in monitored {
                    *monitors.entry(member).or_default() += 1;
                }
            }
            let expected = count.get().min(members.len() - 1);
            assert_eq!(monitors.len(), members.len());
            assert!(monitors.values().all(|monitors| *monitors == expected), "{monitors:?}");
        }

        #[test]
        fn enough_reachable_ones_are_monitored_whoever_is_unreachable(
            lost in (2..40usize).prop_flat_map(|size| proptest::collection::vec(any::<bool>(), size)),
            count in 1..12usize,
        ) {
            let members: BTreeSet<_> = numbered(lost.len()).collect();
            let unreachable: BTreeSet<_> = (members.iter().zip(&lost))
                .filter(|(_, lost)| **lost).map(|(member, _)| member.clone()).collect();
            for own in &members {
                let count_of = NonZeroUsize::new(count).unwrap();
                let monitored = monitored_by(own, &members, &unreachable, count_of);
                let others = members.iter().filter(|member| *member != own);
                let available = others.filter(|member| !unreachable.contains(*member)).count();
                let reachable = monitored.difference(&unreachable).count();
                assert_eq!(reachable, available.min(count));
                assert!(monitored.len() <= 2 * count);
            }
        }
    }

    #[test]
    fn a_ring_that_is_kept_is_the_one_that_is_made_anew() {
        let (all, three) = (numbered(40).collect::<Vec<_>>(), NonZeroUsize::new(3).unwrap());
        let mut ring = Ring::default();
        for (first, last) in [(0, 10), (5, 30), (20, 40), (0, 40), (7, 8), (0, 0), (1, 12)] {
            let members: BTreeSet<_> = all[first..last].iter().cloned().collect();
            ring.update(&members);
            for own in &all {
                let kept = ring.monitored_by(own, &BTreeSet::new(), three);
                assert_eq!(kept, monitored_by(own, &members, &BTreeSet::new(), three));
                assert!(kept.is_subset(&members));
            }
        }
    }

    fn numbered(size: usize) -> impl Iterator<Item = UniqueAddress> {
        (1..=size)
            .map(|number| format!("tcp://Ring@10.0.0.{number}:2551#{number:016x}").parse().unwrap())
    }

    fn node(name: char) -> UniqueAddress {
        format!("tcp://Ring@{name}:2551#{:016x}", u32::from(name)).parse().unwrap()
    }

    const GOLDEN_PLACE_OF_A: u64 = 0x3be8_e698_5732_630d;
    const GOLDEN_RING: &str = "acfedb";
}
