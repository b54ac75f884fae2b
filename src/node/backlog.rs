//! Keeps what was on its way to a mailbox when that became full, until it has room.
//!
//! A registration that holds its senders back has one backlog, in front of its mailboxes. The dispatcher puts in what
//! a mailbox refuses as full and everything behind it, so the order stays; a task of the registration, started when
//! that first happens, offers it again. A message that is being decoded elsewhere (`deferred.rs`) waits here in the
//! same way, until it is. Nothing else is held anywhere: what a peer may have in here is bounded by what
//! it was granted (`receiving.rs`), and it is granted more as the mailbox takes messages out.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::association::control::Amount;
use crate::event::Reason;
use crate::node::actor::panics;
use crate::node::budget::Budget;
use crate::node::core::{Core, Counters};
use crate::node::directory::{Failure, Place};
use crate::node::ended::Asker;
use crate::node::mailbox::Room;
use crate::node::peers::Peer;
use crate::node::receiving::Ticket;

/// Is a decoded message that its mailbox had no room for.
pub(crate) trait Parked: Send {
    /// Counts the encoded bytes.
    fn bytes(&self) -> u64;
    /// Offers the message again.
    fn offer(self: Box<Self>) -> Offered;
    /// Gives the message up.
    fn fail(self: Box<Self>, reason: Reason) -> Failure;
    /// Gives what ends when the mailbox has room, if it can tell.
    fn room(&self) -> Option<Room>;
    /// Names what the message is, as `codec:manifest`.
    fn wire_name(&self) -> String;
    /// Tells whether it is not known yet if the message can be decoded.
    fn is_deferred(&self) -> bool {
        false
    }
}

/// Says what became of a message that was offered again.
pub(crate) enum Offered {
    /// The mailbox took it.
    Taken,
    /// The mailbox is full still.
    Full(Box<dyn Parked>),
    /// It ended; the text names what it was, as `codec:manifest`.
    Failed(Failure, String),
}

/// Keeps messages in front of the full mailboxes of one registration.
pub(crate) struct Backlog {
    queue: Mutex<Queue>,
    /// Something waits, so that what comes has to wait behind it.
    is_waiting: AtomicBool,
    work: Notify,
    ended: CancellationToken,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    has_keeper: bool,
}

/// One message in a backlog, with where it came from.
pub(crate) struct Waiting {
    pub(crate) parked: Box<dyn Parked>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) ticket: Ticket,
}

/// Says whether the backlog needs somebody to look after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// Somebody does.
    Present,
    /// Nobody does yet: start [`keep`].
    Wanted,
}

/// What a round of offering came to.
enum Round {
    Empty,
    More,
    Full(Option<Room>),
}

impl Backlog {
    /// `window` is the budget that the senders share.
    pub(crate) fn new(window: Amount) -> Self {
        Self {
            queue: Mutex::default(),
            is_waiting: AtomicBool::new(false),
            work: Notify::new(),
            ended: CancellationToken::new(),
            budget: Budget::new(window),
        }
    }

    /// Gives what the senders share.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Tells whether what comes now has to wait behind something.
    ///
    /// The one task that delivers for a sender has put in what it has put in itself, so it sees that.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Acquire)
    }

    /// Adds a message; given back if the registration has ended.
    pub(crate) fn push(&self, waiting: Waiting) -> Result<Keeper, Waiting> {
        let mut queue = self.lock();
        if self.ended.is_cancelled() {
            return Err(waiting);
        }
        queue.waiting.push_back(waiting);
        self.is_waiting.store(true, Ordering::Release);
        let had_keeper = std::mem::replace(&mut queue.has_keeper, true);
        drop(queue);
        self.work.notify_one();
        Ok(if had_keeper { Keeper::Present } else { Keeper::Wanted })
    }

    /// Takes nothing any more, and gives what waits.
    pub(crate) fn end(&self) -> VecDeque<Waiting> {
        let mut queue = self.lock();
        self.ended.cancel();
        std::mem::take(&mut queue.waiting)
    }

    /// Takes some from the front.
    fn take(&self, some: &mut VecDeque<Waiting>) {
        let mut queue = self.lock();
        let count = queue.waiting.len().min(ROUND);
        some.extend(queue.waiting.drain(..count));
    }

    /// Puts what was not delivered back to the front; tells whether nothing waits. What the registration's end leaves
    /// stays in `rest`.
    fn put_back(&self, rest: &mut VecDeque<Waiting>) -> bool {
        let mut queue = self.lock();
        if !self.ended.is_cancelled() {
            while let Some(waiting) = rest.pop_back() {
                queue.waiting.push_front(waiting);
            }
        }
        let is_empty = queue.waiting.is_empty();
        self.is_waiting.store(!is_empty, Ordering::Release);
        is_empty
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Offers what waits in the backlog of `place` whenever its mailbox has room, until the registration ends.
pub(crate) async fn keep(core: Arc<Core>, place: Arc<Place>) {
    let Some(backlog) = place.backlog() else { return };
    loop {
        let round = offer_some(&core, &place, backlog);
        let next = async {
            match round {
                Round::Empty => backlog.work.notified().await,
                Round::More => tokio::task::consume_budget().await,
                Round::Full(room) => wait_for(room).await,
            }
        };
        // Biased: what the end of the registration left is no longer here.
        tokio::select! { biased;
            () = backlog.ended.cancelled() => return,
            () = next => {}
        }
    }
}

/// Waits until it is worth while to offer again. The future is the user's code and may panic.
async fn wait_for(room: Option<Room>) {
    let is_unknown = match room {
        Some(room) => panics(pin!(room)).await,
        None => true,
    };
    if is_unknown {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Offers some of what waits, from the front until the mailbox is full.
fn offer_some(core: &Core, place: &Place, backlog: &Backlog) -> Round {
    let (mut some, mut delivered, mut room) = (VecDeque::new(), 0, None);
    backlog.take(&mut some);
    while let Some(Waiting { parked, peer, ticket }) = some.pop_front() {
        let was_deferred = parked.is_deferred();
        match parked.offer() {
            Offered::Taken => {
                delivered += 1;
                leave(&peer, &ticket);
            }
            Offered::Failed(failure, wire_name) => {
                leave(&peer, &ticket);
                let mut ended = place.ended(wire_name, failure);
                if ended.report(core, &peer.address) == Asker::None && was_deferred {
                    peer.tell_refused(ended);
                }
            }
            Offered::Full(parked) => {
                room = Some(parked.room());
                some.push_front(Waiting { parked, peer, ticket });
                break;
            }
        }
    }
    Counters::add(&core.counters.delivered, delivered);
    let is_empty = backlog.put_back(&mut some);
    abandon(core, place, some);
    match room {
        Some(room) => Round::Full(room),
        None if is_empty => Round::Empty,
        None => Round::More,
    }
}

/// Turns what the end of a registration left into dead letters.
pub(crate) fn abandon(core: &Core, place: &Place, left: VecDeque<Waiting>) {
    for Waiting { parked, peer, ticket } in left {
        let wire_name = parked.wire_name();
        leave(&peer, &ticket);
        place.ended(wire_name, parked.fail(Reason::ActorStopped)).report(core, &peer.address);
    }
}

/// Counts the message out, so that its sender may send another.
fn leave(peer: &Peer, ticket: &Ticket) {
    let mut receiving = peer.receiving();
    receiving.leave(ticket);
    let is_due = receiving.is_due();
    drop(receiving);
    if is_due {
        peer.outbox.nudge();
    }
}

/// Messages that are offered before others may run.
const ROUND: usize = 64;
/// How often a mailbox is offered a message that cannot tell when it has room.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
