//! Keeps what waits to be sent: [`Outbox`], bounded.
//!
//! States are not kept but made when they are taken: they are large, and a later one serves better.

use std::collections::{BTreeSet, VecDeque};

use super::pdu::MembershipPdu;
use crate::address::{Address, UniqueAddress};

/// Is one thing to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Letter {
    /// This very PDU.
    Pdu(Address, MembershipPdu),
    /// The state as a Welcome.
    Welcome(UniqueAddress),
    /// The version of the state.
    Status(UniqueAddress),
    /// The state.
    State(UniqueAddress),
}

/// Says what a letter will be made from, when it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Welcome,
    Status,
    State,
}

impl Letter {
    /// Names a letter that need not wait twice.
    fn key(&self) -> Option<(Kind, UniqueAddress)> {
        match self {
            Self::Pdu(..) => None,
            Self::Welcome(to) => Some((Kind::Welcome, to.clone())),
            Self::Status(to) => Some((Kind::Status, to.clone())),
            Self::State(to) => Some((Kind::State, to.clone())),
        }
    }
}

/// Holds letters: first what somebody waits for, then gossip, which the next round makes up for; each in its order.
#[derive(Debug)]
pub(super) struct Outbox {
    pressing: VecDeque<Letter>,
    gossip: VecDeque<Letter>,
    /// Those of the letters that need not wait twice.
    waiting: BTreeSet<(Kind, UniqueAddress)>,
    limit: usize,
    dropped: u64,
}

impl Outbox {
    /// Makes an outbox for so many letters.
    pub(super) fn new(limit: usize) -> Self {
        let (pressing, gossip) = (VecDeque::new(), VecDeque::new());
        Self { pressing, gossip, waiting: BTreeSet::new(), limit, dropped: 0 }
    }

    /// Adds a letter, unless the same state waits; if there is no room the oldest gossip gives way, or else the oldest.
    pub(super) fn push(&mut self, letter: Letter) {
        if letter.key().is_some_and(|key| !self.waiting.insert(key)) {
            return;
        }
        if self.pressing.len() + self.gossip.len() >= self.limit {
            let oldest = self.gossip.pop_front().or_else(|| self.pressing.pop_front());
            oldest.into_iter().for_each(|letter| self.forget(&letter));
            self.dropped = self.dropped.saturating_add(1);
        }
        match letter {
            Letter::Pdu(..) | Letter::Welcome(_) => self.pressing.push_back(letter),
            Letter::Status(_) | Letter::State(_) => self.gossip.push_back(letter),
        }
    }

    /// Takes the next letter.
    pub(super) fn pop(&mut self) -> Option<Letter> {
        let letter = self.pressing.pop_front().or_else(|| self.gossip.pop_front())?;
        self.forget(&letter);
        Some(letter)
    }

    /// Returns how many letters have given way.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn forget(&mut self, letter: &Letter) {
        if let Some(key) = letter.key() {
            self.waiting.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Letter, Outbox};
    use crate::membership::pdu::MembershipPdu;
    use crate::membership::tests::unique;

    fn nack(n: u16) -> Letter {
        let pdu = MembershipPdu::InitJoinNack { from: unique(1) };
        Letter::Pdu(unique(n).address().clone(), pdu)
    }

    #[test]
    fn the_oldest_gossip_gives_way_first() {
        let mut outbox = Outbox::new(2);
        for letter in [Letter::Status(unique(2)), nack(3), nack(4), nack(5)] {
            outbox.push(letter);
        }
        let left: Vec<_> = std::iter::from_fn(|| outbox.pop()).collect();
        assert_eq!((left, outbox.dropped()), (vec![nack(4), nack(5)], 2));
    }

    #[test]
    fn a_state_waits_once_until_it_is_taken() {
        let mut outbox = Outbox::new(9);
        for _ in 0..2 {
            outbox.push(Letter::State(unique(2)));
            outbox.push(Letter::State(unique(2)));
            let left: Vec<_> = std::iter::from_fn(|| outbox.pop()).collect();
            assert_eq!(left, [Letter::State(unique(2))]);
        }
    }
}
