//! Helps to test one's own actors: under partitions and crashes, in one process and in many.
//!
//! Floor 5, behind the feature `testkit`: nothing else in the crate knows of it. It fails tests by panicking where a
//! promise is checked, and gives typed errors where a wish cannot be met; it never hangs.
//!
//! # Test your own actors in ten lines, with a partition
//!
//! ```
//! use std::time::Duration;
//! use tellwire::node::{Actor, AskError, Context};
//! use tellwire::testkit::{Network, Probe};
//!
//! # tellwire::remote_messages! {
//! #     table CARTS, codec = tellwire::codec::Bincode;
//! #     "doc.kit.v1.Add" => Add,
//! #     "doc.kit.v1.Sum" => Sum,
//! # }
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Add(u32);
//! #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
//! struct Sum(u32);
//!
//! /// Is the actor under test.
//! struct Cart(u32);
//!
//! impl Actor<Add> for Cart {
//!     async fn receive(&mut self, add: Add, cx: &mut Context) {
//!         self.0 += add.0;
//!         cx.reply(&Sum(self.0)).ok();
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = Network::builder(2).seed(7).latency(Duration::from_millis(5)).start().await?;
//! let (shop, user) = (network.node(0)?, network.node(1)?);
//! let mut sums = Probe::<Sum>::register(&user, "/user/sums")?;
//! shop.spawn::<Add, _>("/user/cart", Cart(0))?;
//! let cart = user.resolve(shop.path("/user/cart")?)?;
//!
//! network.cut(0, 1)?;
//! let asked: Result<Sum, _> = cart.ask(&Add(1), Duration::from_secs(2)).await;
//! assert!(asked.is_err(), "nobody answers across a cut");
//! network.recover();
//! let sum: Sum = cart.ask(&Add(1), Duration::from_secs(2)).await?;
//! assert_eq!(sum, Sum(2), "an ask that timed out may have been processed");
//!
//! network.crash(0).await?;
//! let asked: Result<Sum, _> = cart.ask(&Add(1), Duration::from_secs(60)).await;
//! assert!(matches!(asked, Err(AskError::Failed(_))), "a crash is noticed, not waited for");
//! sums.expect_none(Duration::from_secs(60)).await;
//! # Ok(())
//! # }
//! ```
//!
//! Under tokio's paused time (`start_paused`) the minute at the end takes milliseconds. The example `partition_test`
//! goes on from here: it tries seeds until an assertion fails, and replays that run.
//!
//! # What is there
//!
//! | to | use |
//! |---|---|
//! | run nodes in one process, and cut, break and slow down what is between them | [`network`] |
//! | say what must hold after every step of it | [`network::invariants`] |
//! | do the same to nodes in processes of their own | [`proxy`] |
//! | let those processes meet, exchange values and take commands | [`barrier`] |
//! | start them, wait for their output, end them | [`processes`] |
//! | simulate the membership of clusters of any size, in virtual time, from a seed | [`cluster`] |
//! | stand in for an actor | [`Probe`] |
//! | expect who is a member, who is unreachable, who leads | [`Members`] |
//! | expect dead letters, or that something becomes so | [`DeadLetters`], [`eventually`] |
//! | take all tells of a node, still encoded | [`RecordingSink`] |
//! | speak to a node frame by frame | [`raw`] |
//!
//! # Hold your own parts to what nodes rely on
//!
//! | for a part of your own | call | with |
//! |---|---|---|
//! | [`Transport`](crate::transport::Transport) | [`transport::conforms`] | where it can listen, and where nobody does |
//! | [`Codec`](crate::codec::Codec) | [`codec::conforms`], [`codec::message_conforms`] | the promises that the format cannot keep |
//! | [`Mailbox`](crate::node::Mailbox) | [`mailbox::conforms`] | how to make one, take from it and close it |
//! | [`DowningStrategy`](crate::membership::downing::DowningStrategy) | [`downing::conforms`] | the roles it knows, and the promises that it does not keep |
//!
//! Each one fails by panicking, and says at what.

pub mod barrier;
pub mod cluster;
pub mod codec;
pub mod downing;
pub mod mailbox;
mod members;
pub mod network;
mod pace;
mod probe;
pub mod processes;
pub mod proxy;
pub mod raw;
pub mod transport;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::event::Reason;
use crate::node::{DeliverError, InboundTell, RemoteMessageSink};
use crate::path::ActorPath;

pub use self::barrier::Controller;
pub use self::members::Members;
pub use self::network::{Network, NetworkError};
pub use self::probe::{DeadLetters, Probe, eventually};
pub use self::processes::Process;
pub use self::proxy::FaultProxy;

/// Records the tells that a node receives, still encoded, in place of its directory.
///
/// Cheap to clone: give one clone to [`NodeBuilder::sink`](crate::node::NodeBuilder::sink) and look into the other.
/// It keeps as many tells as it has capacity; further ones are refused with [`Reason::SinkRefused`], so that
/// they are dead letters like any other. An ask ends with [`Reason::NoReply`].
///
/// ```
/// use std::time::Duration;
/// use tellwire::Node;
/// use tellwire::testkit::RecordingSink;
///
/// # tellwire::remote_messages! {
/// #     table PINGS, codec = tellwire::codec::Bincode;
/// #     "doc.v1.Ping" => Ping,
/// # }
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Ping;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sink = RecordingSink::new(16);
/// let node = Node::builder("Test").listen("tcp://127.0.0.1:0").sink(sink.clone()).start().await?;
/// let peer = Node::builder("Test").listen("tcp://127.0.0.1:0").start().await?;
/// peer.resolve(node.path("/user/any"))?.tell(&Ping)?;
///
/// let tells = sink.wait_for(1, Duration::from_secs(10)).await?;
/// assert_eq!(tells[0].target, "/user/any");
/// assert_eq!(tells[0].wire_name, "bincode:doc.v1.Ping");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RecordingSink {
    shared: Arc<Shared>,
}

/// Holds a tell as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedTell {
    /// The local path it was for.
    pub target: String,
    /// What the payload is, as `codec:manifest`.
    pub wire_name: String,
    /// The encoded message.
    pub payload: Vec<u8>,
    /// The actor that sent it, if it said so.
    pub sender: Option<ActorPath>,
}

/// Says that fewer tells came in than were waited for; those that did are still recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{recorded} tells came in within {deadline:?}, not {wanted}")]
pub struct TooFew {
    /// How many were waited for.
    pub wanted: usize,
    /// How many are recorded.
    pub recorded: usize,
    /// How long was waited.
    pub deadline: Duration,
}

struct Shared {
    tells: Mutex<Vec<RecordedTell>>,
    capacity: usize,
    arrived: Notify,
}

impl RecordingSink {
    /// Makes a sink that keeps up to `capacity` tells until they are taken.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let tells = Mutex::default();
        Self { shared: Arc::new(Shared { tells, capacity, arrived: Notify::new() }) }
    }

    /// Takes what is recorded, in the order in which it came in.
    #[must_use]
    pub fn take(&self) -> Vec<RecordedTell> {
        std::mem::take(&mut *self.shared.lock())
    }

    /// Counts what is recorded.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lock().len()
    }

    /// Tells whether nothing is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until at least `count` tells are recorded and takes all of them. Cancel safe: nothing is taken then.
    ///
    /// # Errors
    /// [`TooFew`] when `deadline` is over, or at once if `count` is more than the capacity; nothing is taken.
    pub async fn wait_for(
        &self,
        count: usize,
        deadline: Duration,
    ) -> Result<Vec<RecordedTell>, TooFew> {
        let is_possible = count <= self.shared.capacity;
        if is_possible && tokio::time::timeout(deadline, self.until(count)).await.is_ok() {
            return Ok(self.take());
        }
        Err(TooFew { wanted: count, recorded: self.len(), deadline })
    }

    async fn until(&self, count: usize) {
        loop {
            let mut arrived = std::pin::pin!(self.shared.arrived.notified());
            // Before the look, so that no arrival between the two is missed.
            arrived.as_mut().enable();
            if self.len() >= count {
                return;
            }
            arrived.await;
        }
    }
}

impl RemoteMessageSink for RecordingSink {
    fn deliver(&self, tell: InboundTell<'_>) -> Result<(), DeliverError> {
        let mut tells = self.shared.lock();
        if tells.len() >= self.shared.capacity {
            return Err(DeliverError::new(Reason::SinkRefused));
        }
        tells.push(RecordedTell {
            target: tell.target.to_owned(),
            wire_name: tell.wire_name.to_owned(),
            payload: tell.payload.to_vec(),
            sender: tell.sender.map(Arc::unwrap_or_clone),
        });
        drop(tells);
        self.shared.arrived.notify_waiters();
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<RecordedTell>> {
        self.tells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RecordingSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordingSink")
            .field("recorded", &self.len())
            .field("capacity", &self.shared.capacity)
            .finish_non_exhaustive()
    }
}
