//! Keeps the books of what was written to a peer: which frames arrived, and which a broken link swallowed.
//!
//! Frames are counted from 1 for each incarnation of the peer. Links are ordered and only one carries at a time, so
//! the peer's count of received frames says all: what was written before the present link and is not in it is lost.
//!
//! A frame is known by its position in its lane, since nobody can say beforehand how the lanes will be interleaved;
//! the books note where among all frames those of the bulk lane were written.

use std::collections::VecDeque;

/// Is the place of a frame in its lane, from 1, over the outbox's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    Ordinary(u64),
    Bulk(u64),
}

/// Says how many frames of each lane were taken or discarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) ordinary: u64,
    pub(crate) bulk: u64,
}

impl Passed {
    /// Adds the frame at `position` and those before it.
    pub(crate) fn add(&mut self, position: Option<Position>) {
        match position {
            Some(Position::Ordinary(number)) => self.ordinary = self.ordinary.max(number),
            Some(Position::Bulk(number)) => self.bulk = self.bulk.max(number),
            None => {}
        }
    }

    /// Tells whether the frame at `position` is among them.
    pub(crate) fn covers(&self, position: Position) -> bool {
        match position {
            Position::Ordinary(number) => number <= self.ordinary,
            Position::Bulk(number) => number <= self.bulk,
        }
    }
}

/// Counts the frames written to the peer's present incarnation, and their ends as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct Books {
    written: Passed,
    /// The places of the last bulk frames among all that were written.
    places: VecDeque<u64>,
    /// How many ordinary frames were written before the last bulk frame that is no longer in `places`.
    forgotten: Option<u64>,
    received: u64,
    /// Already given out as lost; after a settlement, exactly what the peer does not count.
    reported: u64,
    /// How many frames the peer counts that were written before these books were begun.
    earlier: u64,
    /// How many were written when the present link was activated: what a settlement is about.
    before_link: u64,
}

impl Books {
    /// Notes that ordinary frames were handed to a link.
    pub(crate) fn write_ordinary(&mut self, frames: u64) {
        self.written.ordinary += frames;
    }

    /// Notes that bulk frames were handed to a link, wholly.
    pub(crate) fn write_bulk(&mut self, frames: u64) {
        for _ in 0..frames {
            self.written.bulk += 1;
            self.places.push_back(self.written());
            if self.places.len() > PLACES {
                let bulk = self.written.bulk - PLACES as u64;
                self.forgotten = self.places.pop_front().map(|place| place - bulk);
            }
        }
    }

    /// Notes that another link carries from here on.
    pub(crate) fn begin_link(&mut self) {
        self.before_link = self.written();
    }

    /// Notes that the peer has received so many frames, over all links.
    pub(crate) fn acknowledge(&mut self, received: u64) {
        let received = received.saturating_sub(self.earlier);
        self.note_received(received);
    }

    fn note_received(&mut self, received: u64) {
        self.received = self.received.max(received.min(self.written()));
    }

    /// Notes that the peer has answered the frame at `position`, so that it has received those before it too.
    /// `passed` tells what was taken in all; what of that was not written to this incarnation lies before. If it
    /// does not, too few frames count as received, never too many.
    pub(crate) fn answer(&mut self, position: Position, passed: Passed) {
        let here = |number: u64, passed: u64, written: u64| {
            number.saturating_sub(passed.saturating_sub(written)).min(written)
        };
        let written = self.written;
        let place = match position {
            Position::Ordinary(number) => {
                self.place_of_ordinary(here(number, passed.ordinary, written.ordinary))
            }
            Position::Bulk(number) => self.place_of_bulk(here(number, passed.bulk, written.bulk)),
        };
        self.note_received(place.saturating_sub(self.reported));
    }

    /// Closes the books over all links before the present one, with the peer's final count of what they brought;
    /// gives how many frames were lost.
    ///
    /// From here on the count is taken as it is. One that went back is that of a peer which forgot this node and
    /// counts anew, one beyond what was written that of a peer which this node forgot; and what was given up as lost
    /// without knowing may have arrived. Either way the next losses are exactly what comes to be missing.
    pub(crate) fn settle(&mut self, received: u64) -> u64 {
        self.earlier = if received < self.earlier { 0 } else { self.earlier };
        self.earlier += (received - self.earlier).saturating_sub(self.before_link);
        let counted = received - self.earlier;
        self.note_received(counted);
        let lost = self.report(self.before_link);
        self.received = counted;
        self.reported = self.before_link - counted;
        lost
    }

    /// Gives how many written frames have no known end, and counts them as lost.
    pub(crate) fn settle_unknown(&mut self) -> u64 {
        self.report(self.written())
    }

    /// Closes the books after both sides' goodbye: everything written was received.
    pub(crate) fn settle_drained(&mut self) {
        self.received = self.written();
    }

    /// Gives how many of the first `written` frames were neither received nor given out before.
    fn report(&mut self, written: u64) -> u64 {
        let lost = written.saturating_sub(self.received).saturating_sub(self.reported);
        self.reported += lost;
        lost
    }

    fn written(&self) -> u64 {
        self.written.ordinary + self.written.bulk
    }

    /// Gives at least how many frames were written up to an ordinary one.
    fn place_of_ordinary(&self, number: u64) -> u64 {
        if self.forgotten.is_some_and(|before| number <= before) {
            return number;
        }
        let first = self.written.bulk - self.places.len() as u64;
        // A bulk frame at this place has so many ordinary ones before it.
        let places = self.places.iter().zip(first + 1..);
        number + first + places.take_while(|(place, bulk)| **place - bulk < number).count() as u64
    }

    /// Gives at least how many frames were written up to one of the bulk lane.
    fn place_of_bulk(&self, number: u64) -> u64 {
        let first = self.written.bulk - self.places.len() as u64;
        let index = number.checked_sub(first + 1).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.places.get(index)).copied().unwrap_or(number)
    }
}

/// Bulk frames whose places are kept, 8 bytes each; answers to older ones count fewer frames as received.
const PLACES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(frames: u64) -> Books {
        let mut books = Books::default();
        books.write_ordinary(frames);
        books
    }

    #[test]
    fn an_answer_says_what_was_written_before_it_in_either_lane() {
        let mut passed = Passed::default();
        let mut books = Books::default();
        for _ in 0..10 {
            books.write_ordinary(3);
            books.write_bulk(1);
            (passed.ordinary, passed.bulk) = (passed.ordinary + 3, passed.bulk + 1);
        }
        let cases = [
            (Position::Ordinary(1), 1),
            (Position::Ordinary(3), 3),
            (Position::Bulk(1), 4),
            (Position::Ordinary(4), 5),
            (Position::Ordinary(30), 39),
            (Position::Bulk(10), 40),
        ];
        for (position, place) in cases {
            books.answer(position, passed);
            assert_eq!(books.received, place, "{position:?}");
        }
    }

    #[test]
    fn what_has_passed_in_each_lane_is_the_last_that_was_added() {
        let mut passed = Passed::default();
        let added = [Position::Bulk(2), Position::Ordinary(7), Position::Ordinary(3)];
        added.into_iter().for_each(|position| passed.add(Some(position)));
        passed.add(None);
        assert_eq!(passed, Passed { ordinary: 7, bulk: 2 });
    }

    #[test]
    fn an_answer_from_long_ago_never_says_too_much() {
        let mut books = Books::default();
        let rounds = 2 * PLACES as u64;
        for _ in 0..rounds {
            books.write_ordinary(1);
            books.write_bulk(1);
        }
        let passed = Passed { ordinary: rounds, bulk: rounds };
        for (number, place) in [(10, 10), (rounds - 10, 2 * (rounds - 10) - 1)] {
            books.answer(Position::Ordinary(number), passed);
            assert_eq!(books.received, place);
        }
        books.answer(Position::Bulk(5), passed);
        books.answer(Position::Bulk(rounds - 4), passed);
        assert_eq!(books.received, 2 * (rounds - 4));
    }

    #[test]
    fn a_settlement_is_about_the_links_before_and_loses_nothing_twice() {
        let mut books = written(100);
        books.begin_link();
        books.write_ordinary(50);
        assert_eq!(books.settle(90), 10);
        books.begin_link();
        assert_eq!(books.settle(140), 0);
        books.write_ordinary(5);
        assert_eq!(books.settle_unknown(), 5);
        assert_eq!(books.settle_unknown(), 0);
    }

    #[test]
    fn the_losses_after_a_give_up_are_announced_exactly() {
        let mut books = written(100);
        books.acknowledge(90);
        assert_eq!(books.settle_unknown(), 10);
        books.begin_link();
        assert_eq!(books.settle(97), 0, "seven had arrived, the others are known to be lost");
        books.write_ordinary(50);
        books.begin_link();
        assert_eq!(books.settle(97 + 45), 5);
    }

    #[test]
    fn a_peer_that_forgot_this_node_counts_anew_and_so_do_the_books() {
        let mut books = written(100);
        books.acknowledge(90);
        books.begin_link();
        assert_eq!(books.settle(0), 10, "the end of the last ten is not known");
        for round in 1..4 {
            books.write_ordinary(50);
            books.begin_link();
            assert_eq!(books.settle(49 * round), 1);
        }
        books.write_ordinary(7);
        books.acknowledge(49 * 3 + 7);
        assert_eq!(books.settle_unknown(), 0);
    }

    #[test]
    fn what_a_peer_counts_of_books_that_were_forgotten_hides_no_loss() {
        let mut books = Books::default();
        books.begin_link();
        assert_eq!(books.settle(1000), 0);
        books.write_ordinary(50);
        books.acknowledge(1020);
        books.begin_link();
        assert_eq!(books.settle(1045), 5);
        books.write_ordinary(10);
        assert_eq!(books.settle_unknown(), 10);
    }

    #[test]
    fn a_peer_cannot_have_received_more_than_was_written() {
        let mut books = written(10);
        books.acknowledge(u64::MAX);
        books.write_ordinary(10);
        assert_eq!(books.settle_unknown(), 10);
    }

    #[test]
    fn a_goodbye_settles_everything() {
        let mut books = written(10);
        books.settle_drained();
        assert_eq!(books.settle_unknown(), 0);
    }
}
