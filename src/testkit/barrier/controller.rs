//! Runs the controller: listens, serves the nodes, and gives the test's driver its word.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::BarrierError;
use super::lines::{LineError, Lines};
use super::meeting::{Arrivals, Meeting, Outcome};
use super::protocol::{Command, Numbered, Reply, Request, is_value, is_word};

/// Bounds what nodes may make a controller hold.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ControllerSettings {
    /// Where to listen. Default a free port of the loopback; another address lets other machines join, and whoever can
    /// reach it, for nobody has to prove who he is.
    pub listen: SocketAddr,
    /// Nodes that may be expected. Default 256.
    pub max_nodes: usize,
    /// Links that may be open; more are closed at once. Default 1 024.
    pub max_links: usize,
    /// Bytes of a line without its end; a longer one ends the link. Default 4 096, from 256.
    pub max_line: usize,
    /// Labels that may be used. Default 1 024.
    pub max_labels: usize,
    /// Values that may be put, each as long as a line. Default 1 024.
    pub max_values: usize,
    /// Requests of one node that may wait; more are refused. Default 16.
    pub max_waiting: usize,
    /// Time from a link's first moment to its join. Default 10 s.
    pub join_timeout: Duration,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            max_nodes: 256,
            max_links: 1_024,
            max_line: 4_096,
            max_labels: 1_024,
            max_values: 1_024,
            max_waiting: 16,
            join_timeout: Duration::from_secs(10),
        }
    }
}

/// Is where the nodes of a test meet; its driver holds it. Dropping it ends every link and task of it.
///
/// ```
/// use std::time::Duration;
/// use tellwire::testkit::barrier::{Controller, Participant};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limit = Duration::from_secs(10);
/// let controller = Controller::start(["ada", "bob"]).await?;
/// // In processes of their own, mostly.
/// let mut ada = Participant::join(controller.address(), "ada").await?;
/// let mut bob = Participant::join(controller.address(), "bob").await?;
///
/// ada.put("port", "2551").await?;
/// assert_eq!(bob.get("port", limit).await?.as_deref(), Some("2551"));
/// let (at_ada, at_bob) = tokio::join!(ada.barrier("up", limit), bob.barrier("up", limit));
/// assert_eq!(at_ada?, at_bob?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Controller {
    shared: Arc<Shared>,
    address: SocketAddr,
    end: DropGuard,
}

#[derive(Debug)]
struct Shared {
    settings: ControllerSettings,
    meeting: watch::Sender<Meeting>,
    /// What reaches the nodes that are there.
    commands: Mutex<BTreeMap<String, mpsc::Sender<Command>>>,
}

impl Controller {
    /// Starts a controller for the nodes of these names, on a free port of the loopback.
    ///
    /// # Errors
    /// [`BarrierError::Nodes`], [`BarrierError::BadText`], or [`BarrierError::Io`] if there is no port.
    pub async fn start<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
    ) -> Result<Self, BarrierError> {
        Self::start_with(names, ControllerSettings::default()).await
    }

    /// Starts a controller with an address and bounds of your own.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
        settings: ControllerSettings,
    ) -> Result<Self, BarrierError> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let nodes = names.len();
        if let Some(text) = names.iter().find(|name| !is_word(name)) {
            return Err(BarrierError::BadText { text: text.clone() });
        }
        let distinct: BTreeSet<String> = names.into_iter().collect();
        if distinct.len() != nodes || !(1..=settings.max_nodes).contains(&nodes) {
            return Err(BarrierError::Nodes { nodes });
        }
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let meeting = Meeting::new(distinct, settings.max_labels, settings.max_values);
        let meeting = watch::Sender::new(meeting);
        let shared = Arc::new(Shared { settings, meeting, commands: Mutex::default() });
        let end = CancellationToken::new();
        let serving = accept(listener, Arc::clone(&shared));
        tokio::spawn(end.clone().run_until_cancelled_owned(serving));
        Ok(Self { shared, address, end: end.drop_guard() })
    }

    /// Gives the address that nodes join at.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the names of the nodes that are there.
    #[must_use]
    pub fn present(&self) -> BTreeSet<String> {
        self.shared.meeting.borrow().here()
    }

    /// Waits until every node that is expected is there.
    ///
    /// # Errors
    /// [`BarrierError::TimedOut`] says who is missing; nothing is changed by it.
    pub async fn joined(&self, limit: Duration) -> Result<(), BarrierError> {
        let mut meeting = self.shared.meeting.subscribe();
        let all = meeting.wait_for(|meeting| meeting.away().is_empty());
        if let Ok(Ok(_)) = tokio::time::timeout(limit, all).await {
            return Ok(());
        }
        let meeting = self.shared.meeting.borrow();
        let arrivals = Arrivals { round: 0, arrived: meeting.here(), missing: meeting.away() };
        Err(BarrierError::TimedOut { label: "join".to_owned(), arrivals })
    }

    /// Waits, without arriving, until a label has opened since this was last called for it; a label that nobody has
    /// used yet will do.
    ///
    /// # Errors
    /// [`BarrierError::TimedOut`] when the time is over: the label fails for everybody. [`BarrierError::BadText`],
    /// or [`BarrierError::Refused`] if there are too many labels.
    pub async fn wait(&self, label: &str, limit: Duration) -> Result<Arrivals, BarrierError> {
        if !is_word(label) {
            return Err(BarrierError::BadText { text: label.to_owned() });
        }
        let reply = self.shared.barrier(label.to_owned(), None, limit).await;
        match reply {
            Reply::Ok { arrivals, .. } => Ok(arrivals),
            Reply::Timeout { label, arrivals } => Err(BarrierError::TimedOut { label, arrivals }),
            Reply::Refused(reason) => Err(BarrierError::Refused { reason }),
            other => Err(BarrierError::Unexpected { reply: other.to_string() }),
        }
    }

    /// Puts a value where every node can get it.
    ///
    /// # Errors
    /// [`BarrierError::BadText`], or [`BarrierError::Refused`] if there are too many values.
    pub fn put(&self, key: &str, value: &str) -> Result<(), BarrierError> {
        let fits = value.len() + HEADROOM <= self.shared.settings.max_line;
        if !is_word(key) || !is_value(value) || !fits {
            return Err(BarrierError::BadText { text: format!("{key} {value}") });
        }
        let put = self.shared.change(|meeting| meeting.put(key, value.to_owned()));
        put.map_err(|reason| BarrierError::Refused { reason })
    }

    /// Gives the value of a key, waiting for it to be put; none if nobody puts it in time.
    pub async fn get(&self, key: &str, limit: Duration) -> Option<String> {
        self.shared.value(key, limit).await
    }

    /// Expects a node no more, as if it had left: for one that the driver has killed for good.
    ///
    /// # Errors
    /// [`BarrierError::NotThere`] if it was not expected.
    pub fn remove(&self, name: &str) -> Result<(), BarrierError> {
        let was_expected = self.shared.change(|meeting| meeting.leave(name));
        let not_there = || BarrierError::NotThere { name: name.to_owned() };
        if was_expected { Ok(()) } else { Err(not_there()) }
    }

    /// Tells a node what to do; it is under way when this returns, and nobody says when it is done.
    ///
    /// # Errors
    /// [`BarrierError::NotThere`] if the node is not there, or leaves 16 commands unread.
    pub fn command(&self, name: &str, command: Command) -> Result<(), BarrierError> {
        let commands = self.shared.commands();
        let sent = commands.get(name).is_some_and(|node| node.try_send(command).is_ok());
        if sent { Ok(()) } else { Err(BarrierError::NotThere { name: name.to_owned() }) }
    }

    /// Ends everything: waiting nodes learn at once that the controller is down.
    pub fn shutdown(self) {
        drop(self.end);
    }
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut Meeting) -> T) -> T {
        let mut result = None;
        self.meeting.send_modify(|meeting| result = Some(change(meeting)));
        match result {
            Some(result) => result,
            None => unreachable!("the change is made before `send_modify` returns"),
        }
    }

    fn commands(&self) -> MutexGuard<'_, BTreeMap<String, mpsc::Sender<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arrives at a label, if there is a name to arrive under, and waits for its round to end.
    async fn barrier(&self, label: String, name: Option<&str>, wait: Duration) -> Reply {
        let round = self.change(|meeting| match name {
            Some(name) => meeting.arrive(&label, name),
            None => meeting.unseen(&label),
        });
        let round = match round {
            Ok(round) => round,
            Err(reason) => return Reply::Refused(reason),
        };
        let mut meeting = self.meeting.subscribe();
        let ended = meeting.wait_for(|meeting| meeting.outcome(&label, round).is_some());
        if tokio::time::timeout(wait, ended).await.is_err() {
            self.change(|meeting| meeting.fail(&label, round));
        }
        let outcome = self.meeting.borrow().outcome(&label, round);
        match outcome {
            Some(Outcome::Opened(arrivals)) => {
                if name.is_none() {
                    self.change(|meeting| meeting.see(&label));
                }
                Reply::Ok { label, arrivals }
            }
            Some(Outcome::Failed(arrivals)) => Reply::Timeout { label, arrivals },
            None => Reply::Refused("the label is gone".to_owned()),
        }
    }

    async fn value(&self, key: &str, wait: Duration) -> Option<String> {
        let mut meeting = self.meeting.subscribe();
        let put = meeting.wait_for(|meeting| meeting.get(key).is_some());
        let put = tokio::time::timeout(wait, put).await.ok()?.ok()?;
        put.get(key).map(str::to_owned)
    }
}

/// Accepts links and serves them; what it serves ends with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(shared.settings.max_links));
    let (mut served, mut last) = (JoinSet::new(), 0);
    loop {
        while served.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // For want of descriptors, mostly; it must not spin.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        last += 1;
        let (shared, number) = (Arc::clone(&shared), last);
        served.spawn(async move {
            serve(stream, shared, number).await;
            drop(place);
        });
    }
}

/// Is one node's link, served.
struct Session {
    shared: Arc<Shared>,
    name: String,
    writer: OwnedWriteHalf,
    /// Requests that wait for their answer.
    waiting: JoinSet<Numbered<Reply>>,
}

/// Is what a session sees next.
enum Next {
    Line(Result<Option<String>, LineError>),
    Answer(Numbered<Reply>),
    Command(Command),
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, link: u64) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a link to the controller is slow");
    }
    let (reader, mut writer) = stream.into_split();
    let mut lines = Lines::new(reader, shared.settings.max_line);
    let joining = tokio::time::timeout(shared.settings.join_timeout, lines.next());
    let line = joining.await.unwrap_or(Ok(None));
    let (number, name) = match parse(line) {
        Ok(Some(Numbered { number, what: Request::Join { name } })) => (number, name),
        Ok(Some(_)) => return notify(&mut writer, "join first").await,
        Ok(None) => return,
        Err(reason) => return notify(&mut writer, &reason).await,
    };
    if let Err(reason) = shared.change(|meeting| meeting.join(&name, link)) {
        return write(&mut writer, Numbered { number, what: Reply::Refused(reason) }).await;
    }
    let (commands, mut commanded) = mpsc::channel(COMMANDS);
    shared.commands().insert(name.clone(), commands);
    // Whatever ends this session, also from outside.
    let _absence = Absence { shared: Arc::clone(&shared), name: name.clone(), link };
    write(&mut writer, Numbered { number, what: Reply::Joined }).await;
    let mut session = Session { shared, name, writer, waiting: JoinSet::new() };
    loop {
        let next = session.next(&mut lines, &mut commanded).await;
        if session.take(next).await.is_none() {
            return;
        }
    }
}

impl Session {
    /// Waits for what comes next. Biased: answers go out before more is asked.
    async fn next(
        &mut self,
        lines: &mut Lines<tokio::net::tcp::OwnedReadHalf>,
        commanded: &mut mpsc::Receiver<Command>,
    ) -> Next {
        tokio::select! { biased;
            Some(Ok(answer)) = self.waiting.join_next() => Next::Answer(answer),
            Some(command) = commanded.recv() => Next::Command(command),
            line = lines.next() => Next::Line(line),
        }
    }

    /// Does what is due; none when the session is over.
    async fn take(&mut self, next: Next) -> Option<()> {
        match next {
            Next::Answer(answer) => write(&mut self.writer, answer).await,
            Next::Command(command) => {
                write(&mut self.writer, Numbered { number: 0, what: Reply::Do(command) }).await;
            }
            Next::Line(line) => match parse(line) {
                Ok(Some(request)) => return self.answer(request).await,
                Ok(None) => return None,
                Err(reason) => {
                    notify(&mut self.writer, &reason).await;
                    return None;
                }
            },
        }
        Some(())
    }

    async fn answer(&mut self, request: Numbered<Request>) -> Option<()> {
        let Numbered { number, what } = request;
        let (is_leave, full) =
            (what == Request::Leave, self.waiting.len() >= self.shared.settings.max_waiting);
        let reply = match what {
            Request::Join { .. } => Reply::Refused("this link has joined".to_owned()),
            Request::Put { key, value } => {
                match self.shared.change(|meeting| meeting.put(&key, value)) {
                    Ok(()) => Reply::Stored,
                    Err(reason) => Reply::Refused(reason),
                }
            }
            Request::Leave => {
                self.shared.change(|meeting| meeting.leave(&self.name));
                Reply::Left
            }
            _ if full => Reply::Refused("too many requests wait".to_owned()),
            Request::Barrier { label, wait } => {
                let (shared, name) = (Arc::clone(&self.shared), self.name.clone());
                self.wait(number, async move { shared.barrier(label, Some(&name), wait).await });
                return Some(());
            }
            Request::Get { key, wait } => {
                let shared = Arc::clone(&self.shared);
                self.wait(number, async move {
                    shared.value(&key, wait).await.map_or(Reply::None, Reply::Value)
                });
                return Some(());
            }
        };
        write(&mut self.writer, Numbered { number, what: reply }).await;
        (!is_leave).then_some(())
    }

    fn wait(&mut self, number: u64, reply: impl Future<Output = Reply> + Send + 'static) {
        self.waiting.spawn(async move { Numbered { number, what: reply.await } });
    }
}

/// Notes that a node is gone when its session ends.
struct Absence {
    shared: Arc<Shared>,
    name: String,
    link: u64,
}

impl Drop for Absence {
    fn drop(&mut self) {
        self.shared.commands().remove(&self.name);
        self.shared.change(|meeting| meeting.die(&self.name, self.link));
    }
}

fn parse(line: Result<Option<String>, LineError>) -> Result<Option<Numbered<Request>>, String> {
    match line {
        Ok(None) | Err(LineError::Io(_)) => Ok(None),
        Ok(Some(line)) => {
            let request = line.parse().map(Some);
            request.map_err(|_| "a line breaks the grammar".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

async fn notify(writer: &mut OwnedWriteHalf, reason: &str) {
    let what = Reply::Malformed(reason.to_owned());
    write(writer, Numbered { number: 0, what }).await;
}

/// Writes a line; a node that does not take it is found dead by reading.
async fn write(writer: &mut OwnedWriteHalf, reply: Numbered<Reply>) {
    let line = reply.to_string();
    let written = tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(line.as_bytes())).await;
    if !matches!(written, Ok(Ok(()))) {
        tracing::debug!("a node did not take its answer");
    }
}

/// Commands that a node may leave unread.
const COMMANDS: usize = 16;
/// Bytes of a line beside its value.
const HEADROOM: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// Time for a node to take one line.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
