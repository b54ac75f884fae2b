//! Speaks for a node to the controller.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::error::BarrierError;
use super::lines::{LineError, Lines};
use super::meeting::Arrivals;
use super::protocol::{Command, Numbered, Reply, Request, is_value, is_word};
use crate::testkit::proxy::ProxyHandle;

/// Is a node at the controller. Dropping it without [`leave`](Self::leave) is dying.
#[derive(Debug)]
pub struct Participant {
    writer: OwnedWriteHalf,
    replies: mpsc::Receiver<Result<Numbered<Reply>, BarrierError>>,
    commands: Option<Commands>,
    last: u64,
    reading: AbortHandle,
}

/// Gives the commands of the controller to a node.
#[derive(Debug)]
pub struct Commands(mpsc::Receiver<Command>);

impl Participant {
    /// Joins under a name.
    ///
    /// # Errors
    /// [`BarrierError::ControllerDown`] if nobody listens there, [`BarrierError::Refused`] if the name is unknown
    /// or taken, [`BarrierError::BadText`] if it cannot be a name.
    pub async fn join(controller: SocketAddr, name: &str) -> Result<Self, BarrierError> {
        let name = word(name)?;
        let connecting = tokio::time::timeout(PATIENCE, TcpStream::connect(controller));
        let stream = connecting.await.map_err(|_| BarrierError::ControllerSilent(PATIENCE))?;
        let stream = stream.map_err(|_| BarrierError::ControllerDown)?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let (to_replies, replies) = mpsc::channel(QUEUE);
        let (to_commands, commands) = mpsc::channel(QUEUE);
        let reading = tokio::spawn(read(reader, to_replies, to_commands)).abort_handle();
        let commands = Some(Commands(commands));
        let mut joined = Self { writer, replies, commands, last: 0, reading };
        match joined.ask(Request::Join { name }, Duration::ZERO).await? {
            Reply::Joined => Ok(joined),
            other => Err(unexpected(other)),
        }
    }

    /// Arrives at a label and waits until all others have.
    ///
    /// Dropping the future takes the arrival back as little as the time-out does.
    ///
    /// # Errors
    /// [`BarrierError::TimedOut`] when somebody's time is over, [`BarrierError::ControllerDown`] at once when the
    /// controller ends, [`BarrierError::ControllerSilent`] when it says nothing for 10 s more.
    pub async fn barrier(
        &mut self,
        label: &str,
        limit: Duration,
    ) -> Result<Arrivals, BarrierError> {
        let asked = word(label)?;
        match self.ask(Request::Barrier { label: asked, wait: limit }, limit).await? {
            Reply::Ok { label: of, arrivals } if of == label => Ok(arrivals),
            Reply::Timeout { label: of, arrivals } if of == label => {
                Err(BarrierError::TimedOut { label: of, arrivals })
            }
            other => Err(unexpected(other)),
        }
    }

    /// Puts a value where every node can get it, in place of an older one.
    ///
    /// # Errors
    /// [`BarrierError::Refused`] if there are too many values, or as for [`barrier`](Self::barrier).
    pub async fn put(&mut self, key: &str, value: &str) -> Result<(), BarrierError> {
        if !is_value(value) {
            return Err(BarrierError::BadText { text: value.to_owned() });
        }
        let request = Request::Put { key: word(key)?, value: value.to_owned() };
        match self.ask(request, Duration::ZERO).await? {
            Reply::Stored => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Gives the value of a key, waiting for it to be put; none if nobody puts it in time.
    ///
    /// # Errors
    /// As for [`barrier`](Self::barrier), but for the time-out.
    pub async fn get(
        &mut self,
        key: &str,
        limit: Duration,
    ) -> Result<Option<String>, BarrierError> {
        match self.ask(Request::Get { key: word(key)?, wait: limit }, limit).await? {
            Reply::Value(value) => Ok(Some(value)),
            Reply::None => Ok(None),
            other => Err(unexpected(other)),
        }
    }

    /// Leaves: no barrier waits for this node any more.
    ///
    /// # Errors
    /// As for [`barrier`](Self::barrier), but for the time-out.
    pub async fn leave(mut self) -> Result<(), BarrierError> {
        match self.ask(Request::Leave, Duration::ZERO).await? {
            Reply::Left => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Gives the commands of the controller, the first time; whoever takes none leaves them unread.
    pub fn commands(&mut self) -> Option<Commands> {
        self.commands.take()
    }

    async fn ask(&mut self, what: Request, wait: Duration) -> Result<Reply, BarrierError> {
        self.last += 1;
        let number = self.last;
        let line = Numbered { number, what }.to_string();
        let written = self.writer.write_all(line.as_bytes()).await;
        let patience = wait.saturating_add(PATIENCE);
        let reply = tokio::time::timeout(patience, self.reply(number)).await;
        let reply = reply.map_err(|_| BarrierError::ControllerSilent(patience))??;
        written?;
        match reply {
            Reply::Refused(reason) => Err(BarrierError::Refused { reason }),
            reply => Ok(reply),
        }
    }

    /// Waits for the reply of a number; those of requests that nobody waits for any more are older.
    async fn reply(&mut self, wanted: u64) -> Result<Reply, BarrierError> {
        loop {
            let reply = self.replies.recv().await.ok_or(BarrierError::ControllerDown)??;
            match (reply.number, reply.what) {
                (0, Reply::Malformed(reason)) => {
                    return Err(BarrierError::NotUnderstood { reason });
                }
                (number, what) if number == wanted => return Ok(what),
                (number, what) if number == 0 || number > wanted => return Err(unexpected(what)),
                _ => {}
            }
        }
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Commands {
    /// Waits for the next command; none when the controller is down, or the participant dropped. Cancel safe.
    pub async fn next(&mut self) -> Option<Command> {
        self.0.recv().await
    }

    /// Does to the proxy in front of this node what the controller says, until it says exit or is down.
    pub async fn obey(mut self, proxy: &ProxyHandle) {
        loop {
            match self.next().await {
                Some(Command::Blackhole) => proxy.blackhole(),
                Some(Command::Pass) => proxy.pass(),
                Some(Command::Exit) | None => return,
            }
        }
    }
}

/// Reads what the controller says, and parts replies from commands.
async fn read(
    reader: OwnedReadHalf,
    replies: mpsc::Sender<Result<Numbered<Reply>, BarrierError>>,
    commands: mpsc::Sender<Command>,
) {
    let mut lines = Lines::new(reader, MAX_LINE);
    loop {
        let reply = match lines.next().await {
            Ok(Some(line)) => line.parse().map_err(|_| malformed(&line)),
            Ok(None) | Err(LineError::Io(_)) => return,
            Err(LineError::TooLong(limit)) => Err(malformed(&format!("longer than {limit} bytes"))),
            Err(LineError::NotText(bytes)) => Err(malformed(&String::from_utf8_lossy(&bytes))),
        };
        if let Ok(Numbered { number: 0, what: Reply::Do(command) }) = reply {
            // A node that reads no commands is not kept from its replies.
            if commands.try_send(command).is_err() {
                tracing::debug!(?command, "nobody takes the command");
            }
            continue;
        }
        let is_over = reply.is_err();
        if replies.send(reply).await.is_err() || is_over {
            return;
        }
    }
}

fn word(text: &str) -> Result<String, BarrierError> {
    let text = text.to_owned();
    if is_word(&text) { Ok(text) } else { Err(BarrierError::BadText { text }) }
}

fn malformed(line: &str) -> BarrierError {
    BarrierError::Malformed { line: line.chars().take(EXCERPT).collect() }
}

fn unexpected(reply: Reply) -> BarrierError {
    BarrierError::Unexpected { reply: reply.to_string() }
}

/// Time for the controller to answer, beyond what it was asked to wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a line of the controller; room for the names of all nodes.
const MAX_LINE: usize = 64 * 1024;
/// Replies and commands that may wait for this node.
const QUEUE: usize = 16;
/// Characters of a malformed line that are shown.
const EXCERPT: usize = 256;
