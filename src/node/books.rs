//! Keeps the books of what was written to a peer: which frames arrived, and which a broken link swallowed.
//!
//! Frames are counted from 1 for each incarnation of the peer. Links are ordered and only one carries at a time, so
//! the peer's count of received frames says all: what was written before the present link and is not in it is lost.

/// Counts the frames written to the peer's present incarnation, and their ends as far as they are known.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Books {
    written: u64,
    received: u64,
    /// Already given out as lost.
    reported: u64,
    /// `written` when the present link was activated: what a settlement is about.
    before_link: u64,
}

impl Books {
    /// Notes that frames were handed to a link.
    pub(crate) fn write(&mut self, frames: u64) {
        self.written += frames;
    }

    /// Notes that another link carries from here on.
    pub(crate) fn begin_link(&mut self) {
        self.before_link = self.written;
    }

    /// Notes that the peer has received so many frames, over all links.
    pub(crate) fn acknowledge(&mut self, received: u64) {
        self.received = self.received.max(received.min(self.written));
    }

    /// Notes that the peer has answered the frame at `position` among all `taken` ones, so that it has received
    /// those before it too. What was taken and not written to this incarnation lies before; if it does not, too few
    /// frames count as received, never too many.
    pub(crate) fn answer(&mut self, position: u64, taken: u64) {
        let elsewhere = taken.saturating_sub(self.written);
        let written = position.saturating_sub(elsewhere).min(self.written);
        self.acknowledge(written.saturating_sub(self.reported));
    }

    /// Closes the books over all links before the present one, with the peer's final count of what they brought;
    /// gives how many frames were lost.
    pub(crate) fn settle(&mut self, received: u64) -> u64 {
        self.acknowledge(received);
        self.report(self.before_link)
    }

    /// Gives how many written frames have no known end, and counts them as lost.
    pub(crate) fn settle_unknown(&mut self) -> u64 {
        self.report(self.written)
    }

    /// Closes the books after both sides' goodbye: everything written was received.
    pub(crate) fn settle_drained(&mut self) {
        self.received = self.written;
    }

    /// Gives how many of the first `written` frames were neither received nor given out before.
    fn report(&mut self, written: u64) -> u64 {
        let lost = written.saturating_sub(self.received).saturating_sub(self.reported);
        self.reported += lost;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(frames: u64) -> Books {
        let mut books = Books::default();
        books.write(frames);
        books
    }

    #[test]
    fn a_settlement_is_about_the_links_before_and_loses_nothing_twice() {
        let mut books = written(100);
        books.begin_link();
        books.write(50);
        assert_eq!(books.settle(90), 10);
        books.begin_link();
        assert_eq!(books.settle(140), 0);
        books.write(5);
        assert_eq!(books.settle_unknown(), 5);
        assert_eq!(books.settle_unknown(), 0);
    }

    #[test]
    fn a_peer_cannot_have_received_more_than_was_written() {
        let mut books = written(10);
        books.acknowledge(u64::MAX);
        books.write(10);
        assert_eq!(books.settle_unknown(), 10);
    }

    #[test]
    fn a_goodbye_settles_everything() {
        let mut books = written(10);
        books.settle_drained();
        assert_eq!(books.settle_unknown(), 0);
    }
}
