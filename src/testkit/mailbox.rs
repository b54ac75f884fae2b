//! Holds a mailbox to what a node relies on.
//!
//! ```
//! use tellwire::node::{Delivery, Mailbox};
//! use tellwire::testkit::mailbox::{Subject, conforms};
//! use tokio::sync::mpsc;
//!
//! struct Channel(mpsc::Sender<Delivery<u32>>, mpsc::Receiver<Delivery<u32>>);
//!
//! impl Subject<u32> for Channel {
//!     fn mailbox(&self) -> &dyn Mailbox<u32> {
//!         &self.0
//!     }
//!     fn take(&mut self) -> Option<u32> {
//!         self.1.try_recv().ok().map(|delivery| delivery.message)
//!     }
//!     fn close(&mut self) {
//!         self.1.close();
//!     }
//! }
//!
//! conforms(
//!     |capacity| {
//!         let (outbox, inbox) = mpsc::channel(capacity);
//!         Channel(outbox, inbox)
//!     },
//!     |number| number,
//! );
//! ```

use std::collections::VecDeque;
use std::fmt::Debug;

use crate::node::{Delivery, Envelope, Mailbox, Refused};

/// Gives the run both ends of a mailbox.
pub trait Subject<M> {
    /// Gives the end that a node delivers to.
    fn mailbox(&self) -> &dyn Mailbox<M>;

    /// Takes the next message, as the actor would; none if there is none.
    fn take(&mut self) -> Option<M>;

    /// Ends the mailbox from the actor's side.
    fn close(&mut self);
}

/// Runs every check, each on a new mailbox for so many messages; `message` makes one from a number.
///
/// A mailbox may be larger than it was asked to be, but not boundless: 65 536 messages at most.
///
/// # Panics
/// Fails by panicking, with what went wrong.
pub fn conforms<M, S>(make: impl Fn(usize) -> S, message: impl Fn(u32) -> M)
where
    M: PartialEq + Debug + 'static,
    S: Subject<M>,
{
    messages_come_out_once_and_in_order(make(8), &message);
    a_full_mailbox_gives_the_message_back_and_has_room_again(make(8), &message);
    a_batch_is_the_same_as_one_by_one(make(8), &message);
    a_batch_beyond_the_room_is_given_back(make(8), &message);
    a_closed_mailbox_is_gone_for_ever(make(8), &message);
}

fn messages_come_out_once_and_in_order<M: PartialEq + Debug + 'static>(
    mut subject: impl Subject<M>,
    message: impl Fn(u32) -> M,
) {
    for number in 0..8 {
        accept(&subject, message(number));
    }
    for number in 0..8 {
        assert_eq!(subject.take(), Some(message(number)), "in the order of delivery");
    }
    assert_eq!(subject.take(), None, "once");
}

fn a_full_mailbox_gives_the_message_back_and_has_room_again<M: PartialEq + Debug + 'static>(
    mut subject: impl Subject<M>,
    message: impl Fn(u32) -> M,
) {
    let (capacity, refused) = fill(&subject, &message);
    assert_eq!(refused, message(capacity), "it is the message that did not fit");
    assert_eq!(subject.take(), Some(message(0)));
    accept(&subject, message(capacity));
    for number in 1..=capacity {
        assert_eq!(subject.take(), Some(message(number)));
    }
    assert_eq!(subject.take(), None, "what was refused was not kept as well");
}

fn a_batch_is_the_same_as_one_by_one<M: PartialEq + Debug + 'static>(
    mut subject: impl Subject<M>,
    message: impl Fn(u32) -> M,
) {
    let (mut batch, mut refused) = (batch(0..8, &message), Vec::new());
    subject.mailbox().try_deliver_batch(&mut batch, &mut refused);
    assert!(batch.is_empty() && refused.is_empty(), "{batch:?} {refused:?}");
    for number in 0..8 {
        assert_eq!(subject.take(), Some(message(number)));
    }
    assert_eq!(subject.take(), None);
}

fn a_batch_beyond_the_room_is_given_back<M: PartialEq + Debug + 'static>(
    mut subject: impl Subject<M>,
    message: impl Fn(u32) -> M,
) {
    let (capacity, _) = fill(&subject, &message);
    assert_eq!(subject.take(), Some(message(0)));
    let mut batch = batch(capacity..capacity + 4, &message);
    let mut refused = Vec::new();
    subject.mailbox().try_deliver_batch(&mut batch, &mut refused);
    assert!(batch.is_empty(), "a batch is used up, and what is refused is in the other list");
    let refused: Vec<M> = refused.into_iter().map(full).collect();
    let taken: Vec<M> = std::iter::from_fn(|| subject.take()).skip(capacity as usize - 1).collect();
    let all: Vec<M> = (capacity..capacity + 4).map(&message).collect();
    let given: Vec<M> = taken.into_iter().chain(refused).collect();
    assert_eq!(given, all, "what fits is taken from the front, the rest is given back");
}

fn a_closed_mailbox_is_gone_for_ever<M: PartialEq + Debug + 'static>(
    mut subject: impl Subject<M>,
    message: impl Fn(u32) -> M,
) {
    accept(&subject, message(0));
    subject.close();
    for number in 1..4 {
        match subject.mailbox().try_deliver(delivery(message(number))) {
            Err(Refused::Gone(given)) => assert_eq!(given.message, message(number)),
            other => panic!("a closed mailbox gave {other:?}"),
        }
    }
}

/// Delivers until the mailbox is full; gives how many it took, and the message it gave back.
fn fill<M: Debug + 'static>(subject: &impl Subject<M>, message: impl Fn(u32) -> M) -> (u32, M) {
    for number in 0..=MOST {
        if let Err(refused) = subject.mailbox().try_deliver(delivery(message(number))) {
            assert!(number > 0, "an empty mailbox refused");
            return (number, full(refused));
        }
    }
    panic!("nothing bounds the mailbox");
}

fn accept<M: Debug + 'static>(subject: &impl Subject<M>, message: M) {
    if let Err(refused) = subject.mailbox().try_deliver(delivery(message)) {
        panic!("a mailbox with room gave {refused:?}");
    }
}

fn full<M: Debug + 'static>(refused: Refused<M>) -> M {
    match refused {
        Refused::Full(given) => given.message,
        Refused::Gone(given) => panic!("a full mailbox said that it is gone: {given:?}"),
    }
}

fn batch<M>(numbers: std::ops::Range<u32>, message: impl Fn(u32) -> M) -> VecDeque<Delivery<M>> {
    numbers.map(|number| delivery(message(number))).collect()
}

fn delivery<M>(message: M) -> Delivery<M> {
    Delivery::new(message, Envelope::default())
}

/// Messages that a mailbox may hold at most when it was asked to hold 8.
const MOST: u32 = 65_536;
