//! Holds that messages come in the order in which they were told: [`InOrder`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Invariant, Look};
use crate::node::{Delivery, Mailbox, Refused, Room};

/// Holds that each actor gets each sender's messages in their order, none of them twice; some may be missing.
///
/// Which number a message has, and from whom, only the test can know: it wraps the actor's mailbox. Cheap to clone;
/// all clones are one invariant.
///
/// ```
/// use tellwire::testkit::Network;
/// use tellwire::testkit::network::invariants::InOrder;
/// use tokio::sync::mpsc;
///
/// # tellwire::remote_messages! {
/// #     table COUNTS, codec = tellwire::codec::Bincode;
/// #     "doc.order.v1.Count" => Count,
/// # }
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Count { from: u32, number: u64 }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let order = InOrder::new();
/// let jitter = std::time::Duration::from_millis(50);
/// let network =
///     Network::builder(2).seed(7).jitter(jitter).invariant(order.clone()).start().await?;
/// let (outbox, mut inbox) = mpsc::channel::<Count>(16);
/// let mailbox = order.around("/user/counter", outbox, |count: &Count| (count.from, count.number));
/// let path = network.node(0)?.register("/user/counter", mailbox)?;
/// let counter = network.node(1)?.resolve(path)?;
/// for number in 0..10 {
///     counter.tell(&Count { from: 1, number })?;
/// }
/// while inbox.recv().await.is_some_and(|count| count.number < 9) {}
/// network.verify()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct InOrder {
    shared: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The last number of each sender at each actor.
    last: BTreeMap<(String, String), u64>,
    /// What was found first.
    fault: Option<String>,
}

impl InOrder {
    /// Makes the invariant; a clone of it goes to
    /// [`NetworkBuilder::invariant`](crate::testkit::network::NetworkBuilder::invariant).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wraps the mailbox of the actor of this name; `number` says from whom a message is and which one it is.
    pub fn around<M, S: fmt::Display>(
        &self,
        actor: impl Into<String>,
        mailbox: impl Mailbox<M>,
        number: impl Fn(&M) -> (S, u64) + Send + Sync + 'static,
    ) -> impl Mailbox<M> {
        Numbered { order: self.clone(), actor: actor.into(), mailbox, number }
    }

    fn note(&self, actor: &str, from: String, number: u64) {
        let mut seen = self.seen();
        let key = (actor.to_owned(), from);
        match seen.last.get(&key).copied() {
            Some(last) if last >= number => {
                let (actor, from) = key;
                seen.fault.get_or_insert(format!("{actor} got {number} of {from} after {last}"));
            }
            Some(_) | None => drop(seen.last.insert(key, number)),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Invariant for InOrder {
    fn name(&self) -> &str {
        "each sender's messages come in order, none twice"
    }

    fn check(&mut self, _look: &Look<'_>) -> Result<(), String> {
        self.seen().fault.clone().map_or(Ok(()), Err)
    }
}

struct Numbered<B, F> {
    order: InOrder,
    actor: String,
    mailbox: B,
    number: F,
}

impl<M, B, S, F> Mailbox<M> for Numbered<B, F>
where
    B: Mailbox<M>,
    S: fmt::Display,
    F: Fn(&M) -> (S, u64) + Send + Sync + 'static,
{
    fn try_deliver(&self, delivery: Delivery<M>) -> Result<(), Refused<M>> {
        let (from, number) = (self.number)(&delivery.message);
        self.mailbox.try_deliver(delivery)?;
        // What is refused is offered again, or ends as a dead letter.
        self.order.note(&self.actor, from.to_string(), number);
        Ok(())
    }

    fn room(&self) -> Option<Room> {
        self.mailbox.room()
    }
}
