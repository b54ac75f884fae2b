//! Stands in for an actor, and lets a test say what it expects of its messages.

use std::fmt::{self, Debug};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::codec::RemoteMessage;
use crate::event::{DeadLetter, Reason};
use crate::node::{DeadLetterStream, Delivery, Envelope, Node, Observed, RegisterError};
use crate::path::{ActorPath, IntoActorPath};

/// Is an actor of a test: takes the messages of one path and gives them to the test, with what came along.
///
/// ```
/// use std::time::Duration;
/// use tellwire::testkit::{Network, Probe};
///
/// # tellwire::remote_messages! {
/// #     table TEXTS, codec = tellwire::codec::Bincode;
/// #     "doc.probe.v1.Text" => Text,
/// # }
/// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
/// struct Text(String);
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Network::pair().await?;
/// let mut probe = Probe::<Text>::register(&network.node(0)?, "/user/probe")?;
/// network.node(1)?.resolve(probe.path().clone())?.tell(&Text("hello".into()))?;
/// probe.expect(&Text("hello".into())).await;
/// probe.expect_none(Duration::from_secs(1)).await;
/// # Ok(())
/// # }
/// ```
pub struct Probe<M> {
    path: ActorPath,
    inbox: mpsc::Receiver<Delivery<M>>,
}

impl<M: RemoteMessage + Debug> Probe<M> {
    /// Registers a probe at a local path of a node. It holds 1 024 messages; what comes on top is refused.
    ///
    /// # Errors
    /// [`RegisterError`]: nothing was changed.
    pub fn register(node: &Node, path: impl IntoActorPath) -> Result<Self, RegisterError> {
        let (outbox, inbox) = mpsc::channel(CAPACITY);
        let path = node.register::<M, mpsc::Sender<Delivery<M>>>(path, outbox)?;
        Ok(Self { path, inbox })
    }

    /// Gives the whole path that it is registered at.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Gives the next message with its sender and the way to reply, if it comes within 10 s.
    ///
    /// # Panics
    /// Fails the test if none comes.
    #[track_caller]
    pub fn receive(&mut self) -> impl Future<Output = Delivery<M>> {
        self.receive_within(USUAL)
    }

    /// Gives the next message with its sender and the way to reply, if it comes in time. Cancel safe.
    ///
    /// # Panics
    /// Fails the test if none comes.
    #[track_caller]
    pub fn receive_within(&mut self, limit: Duration) -> impl Future<Output = Delivery<M>> {
        let caller = std::panic::Location::caller();
        async move {
            match tokio::time::timeout(limit, self.inbox.recv()).await {
                Ok(Some(delivery)) => delivery,
                Ok(None) => panic!("{caller}: the node of {} has stopped", self.path),
                Err(_) => panic!("{caller}: {} got nothing within {limit:?}", self.path),
            }
        }
    }

    /// Expects the next message to be this one, within 10 s.
    ///
    /// # Panics
    /// Fails the test if another one comes, or none.
    #[track_caller]
    pub fn expect(&mut self, expected: &M) -> impl Future<Output = Envelope>
    where
        M: PartialEq,
    {
        self.expect_within(expected, USUAL)
    }

    /// Expects the next message to be this one, in time, and gives what came along with it. Cancel safe.
    ///
    /// # Panics
    /// Fails the test if another one comes, or none.
    #[track_caller]
    pub fn expect_within(&mut self, expected: &M, limit: Duration) -> impl Future<Output = Envelope>
    where
        M: PartialEq,
    {
        let caller = std::panic::Location::caller();
        async move {
            match tokio::time::timeout(limit, self.inbox.recv()).await {
                Ok(Some(delivery)) if delivery.message == *expected => delivery.envelope,
                Ok(Some(Delivery { message, .. })) => {
                    panic!("{caller}: {} got {message:?} and not {expected:?}", self.path)
                }
                Ok(None) => panic!("{caller}: the node of {} has stopped", self.path),
                Err(_) => panic!("{caller}: {expected:?} did not come within {limit:?}"),
            }
        }
    }

    /// Expects no message for a time; all of it is waited for.
    ///
    /// # Panics
    /// Fails the test if one comes.
    #[track_caller]
    pub fn expect_none(&mut self, time: Duration) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let until = Instant::now() + time;
            match tokio::time::timeout_at(until, self.inbox.recv()).await {
                Err(_) => {}
                Ok(Some(Delivery { message, .. })) => {
                    panic!("{caller}: {} got {message:?} and should get nothing", self.path)
                }
                // A stopped node brings nothing more; the time is waited for all the same.
                Ok(None) => tokio::time::sleep_until(until).await,
            }
        }
    }
}

/// Waits until something that has no wake-up of its own is so, looking every 5 ms.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// use std::time::Duration;
/// use tellwire::testkit::eventually;
///
/// let start = tokio::time::Instant::now();
/// eventually("a second is over", Duration::from_secs(5), || {
///     start.elapsed() >= Duration::from_secs(1)
/// })
/// .await;
/// # }
/// ```
///
/// # Panics
/// Fails the test, saying `what`, if it is not so in time.
#[track_caller]
pub fn eventually(
    what: &str,
    limit: Duration,
    mut is_so: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let looking = async {
            while !is_so() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(limit, looking).await.is_err() {
            panic!("{caller}: it is not so within {limit:?} that {what}");
        }
    }
}

/// Watches the dead letters of a node from now on.
///
/// ```
/// use std::time::Duration;
/// use tellwire::event::Reason;
/// use tellwire::testkit::{DeadLetters, Network};
///
/// # tellwire::remote_messages! {
/// #     table NOTES, codec = tellwire::codec::Bincode;
/// #     "doc.letters.v1.Note" => Note,
/// # }
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Note;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Network::pair().await?;
/// let mut letters = DeadLetters::of(&network.node(1)?);
/// letters.expect_none(Duration::from_secs(1)).await;
/// let nobody = network.node(1)?.path("/user/nobody")?;
/// network.node(0)?.resolve(nobody)?.tell(&Note)?;
/// let letter = letters.expect(Reason::UnknownPath).await;
/// assert_eq!(letter.count, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DeadLetters {
    letters: DeadLetterStream,
}

impl DeadLetters {
    /// Begins to watch.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        Self { letters: node.dead_letters() }
    }

    /// Expects the next dead letter to be for this reason, within 10 s, and gives it.
    ///
    /// # Panics
    /// Fails the test if another one comes, or none, or if some were missed because this was not read.
    #[track_caller]
    pub fn expect(&mut self, reason: Reason) -> impl Future<Output = DeadLetter> {
        let caller = std::panic::Location::caller();
        async move {
            match tokio::time::timeout(USUAL, self.letters.next()).await {
                Ok(Some(Observed::Item(letter))) if letter.reason == reason => letter,
                Ok(other) => panic!("{caller}: a dead letter for {reason} was due, not {other:?}"),
                Err(_) => panic!("{caller}: no dead letter for {reason} within {USUAL:?}"),
            }
        }
    }

    /// Expects no dead letter for a time; all of it is waited for.
    ///
    /// # Panics
    /// Fails the test if one comes.
    #[track_caller]
    pub fn expect_none(&mut self, time: Duration) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let until = Instant::now() + time;
            match tokio::time::timeout_at(until, self.letters.next()).await {
                Err(_) => {}
                Ok(Some(letter)) => panic!("{caller}: no dead letter was due, but {letter:?}"),
                Ok(None) => tokio::time::sleep_until(until).await,
            }
        }
    }
}

impl<M> Debug for Probe<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("path", &self.path.to_string()).finish_non_exhaustive()
    }
}

/// Messages that a probe holds.
const CAPACITY: usize = 1_024;
/// How long an expectation waits if it is not told.
const USUAL: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);
