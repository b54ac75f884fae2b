//! Scripts of quarantine: who is fenced is refused, who comes after it is not.

use std::time::Duration;

use super::pair::Pair;
use super::{ADA, BOB, Side};
use crate::address::Uid;
use crate::association::AssociationState;
use crate::event::Reason;

const SECOND: Duration = Duration::from_secs(1);

/// Gives a pair in which `side` has quarantined the other side's incarnation.
fn fenced(side: Side) -> Pair {
    let mut pair = Pair::up(ADA);
    let uid = pair.shells[1 - side].uid();
    pair.quarantine(side, uid);
    pair.run_for(SECOND);
    pair
}

#[test]
fn a_quarantined_peer_is_cut_off_and_neither_side_gets_through() {
    for side in [ADA, BOB] {
        let mut pair = fenced(side);
        let before = [ADA, BOB].map(|side| pair.shells[side].inbox.len());
        assert_eq!(pair.states()[side], AssociationState::Quarantined);
        pair.tell(side);
        pair.tell(1 - side);
        pair.run_for(30 * SECOND);
        assert_eq!([ADA, BOB].map(|side| pair.shells[side].inbox.len()), before);
        assert_eq!(pair.states()[side], AssociationState::Quarantined);
        assert!(pair.has_given_up(side, Reason::Quarantined));
        assert!(pair.has_given_up(1 - side, Reason::HandshakeRefused));
        assert_eq!(pair.open_wires(), 0);
    }
}

#[test]
fn the_incarnation_after_a_quarantined_one_is_talked_to() {
    for (side, teller) in [(ADA, ADA), (ADA, BOB), (BOB, ADA), (BOB, BOB)] {
        let mut pair = fenced(side);
        pair.restart(1 - side, 9);
        pair.tell(teller);
        pair.run_for(SECOND);
        assert_eq!(pair.states(), [AssociationState::Up; 2], "{side} and {teller}");
        assert_eq!(
            pair.shells[1 - teller].inbox.len(),
            if teller == ADA && side == BOB { 2 } else { 1 }
        );
    }
}

#[test]
fn a_stranger_is_quarantined_before_it_is_met() {
    let mut pair = Pair::new(1);
    pair.quarantine(BOB, Uid::new(1));
    pair.tell(ADA);
    pair.run_for(SECOND);
    assert!(pair.has_given_up(ADA, Reason::HandshakeRefused));
    assert_eq!(pair.states()[BOB], AssociationState::Quarantined);
}

#[test]
fn another_incarnation_is_quarantined_without_harm_to_the_present_one() {
    let mut pair = Pair::up(ADA);
    pair.quarantine(ADA, Uid::new(77));
    pair.tell(ADA);
    pair.run_for(SECOND);
    assert_eq!(pair.states(), [AssociationState::Up; 2]);
    assert_eq!(pair.numbers_at(BOB), [1, 2]);
}
