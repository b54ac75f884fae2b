//! Runs processes for a test: starts them, waits until they are ready without sleeping, ends them whatever happens.
//!
//! A process is a test function of the running test binary, an example, or any program. What it says is kept, up to
//! a bound, and shown in every error, and when the test panics. Its end is tied to its [`Process`] handle; a process
//! that calls [`end_with_parent`] ends even when the test binary itself is killed.
//!
//! ```no_run
//! use std::time::Duration;
//! use tellwire::testkit::barrier::Participant;
//! use tellwire::testkit::{Controller, processes::{self, Process}};
//!
//! #[tokio::test]
//! async fn three_nodes_meet() -> Result<(), Box<dyn std::error::Error>> {
//!     let controller = Controller::start(["ada", "bob", "eve"]).await?;
//!     let mut nodes = Vec::new();
//!     for name in ["ada", "bob", "eve"] {
//!         nodes.push(Process::this_test("node_main", name).controller(&controller).start()?);
//!     }
//!     controller.wait("done", Duration::from_secs(30)).await?;
//!     Ok(())
//! }
//!
//! #[tokio::test]
//! #[ignore = "is the process that the test above starts"]
//! async fn node_main() -> Result<(), Box<dyn std::error::Error>> {
//!     processes::end_with_parent();
//!     let Some(mut node) = processes::participant().await? else { return Ok(()) };
//!     node.barrier("done", Duration::from_secs(30)).await?;
//!     Ok(())
//! }
//! # fn main() {}
//! ```

mod log;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use self::log::Log;
use super::barrier::{BarrierError, Controller, Participant};

/// Is a process that a test has started. Dropping it kills the process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Brings what is said to the process; its end tells it that this handle is gone.
    stdin: Option<ChildStdin>,
    log: Arc<Log>,
    /// The number of the next line that [`line`](Process::line) looks at.
    next: u64,
}

/// Gathers what a process is to be.
#[derive(Debug)]
#[must_use = "the process starts with `start`"]
pub struct ProcessBuilder {
    name: String,
    program: Result<PathBuf, ProcessError>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    max_output: usize,
}

/// Says what is wrong with a process; its output is in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is no such example beside the test binary: build it first, as `cargo test` does.
    #[error("no example at {path}")]
    NotBuilt {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The system did not start it.
    #[error("process {name} did not start")]
    Start {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended, or closed its output, before it said what was waited for.
    #[error("process {name} ended too early, with {status:?}; it said:\n{output}")]
    EndedEarly {
        /// Its name.
        name: String,
        /// How it ended, if it has.
        status: Option<ExitStatus>,
        /// What it said.
        output: String,
    },
    /// It runs on and did not do in time what was waited for.
    #[error("process {name} took longer than {limit:?}; it said:\n{output}")]
    Late {
        /// Its name.
        name: String,
        /// How long was waited.
        limit: Duration,
        /// What it said.
        output: String,
    },
    /// The system cannot tell how it is, or signal it.
    #[error("process {name} cannot be handled")]
    System {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Process {
    /// Begins a process that runs one test function of this test binary, by its whole name, ignored or not.
    ///
    /// `name` is what the process is called in messages, and at its controller. The harness's own words stand in
    /// front of the first line that the function prints.
    pub fn this_test(test: &str, name: impl Into<String>) -> ProcessBuilder {
        let name = name.into();
        let program = std::env::current_exe()
            .map_err(|source| ProcessError::Start { name: name.clone(), source });
        let args = [test, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"];
        ProcessBuilder::new(name, program).args(args)
    }

    /// Begins a process that runs an example of the package under test.
    pub fn example(example: &str, name: impl Into<String>) -> ProcessBuilder {
        let name = name.into();
        let binary = format!("{example}{}", std::env::consts::EXE_SUFFIX);
        let program = std::env::current_exe()
            .map_err(|source| ProcessError::Start { name: name.clone(), source })
            .and_then(|test| {
                // The test binary is in `target/debug/deps`, examples are in `target/debug/examples`.
                let folder = test.ancestors().nth(2).map(|folder| folder.join("examples"));
                let path = folder.unwrap_or_default().join(binary);
                if path.is_file() { Ok(path) } else { Err(ProcessError::NotBuilt { path }) }
            });
        ProcessBuilder::new(name, program)
    }

    /// Begins a process that runs a program.
    pub fn program(program: impl Into<PathBuf>, name: impl Into<String>) -> ProcessBuilder {
        ProcessBuilder::new(name.into(), Ok(program.into()))
    }

    /// Gives the name it was started under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives what it has said so far, on either stream: the end of it, if that is more than is kept.
    #[must_use]
    pub fn output(&self) -> String {
        self.log.text()
    }

    /// Waits for the next line, on either stream, that `is_it` picks, behind the one that was given before.
    ///
    /// Cancel safe: no line is passed over then.
    ///
    /// # Errors
    /// [`ProcessError::EndedEarly`] as soon as there will be no such line, [`ProcessError::Late`] at the limit.
    pub async fn line(
        &mut self,
        is_it: impl Fn(&str) -> bool,
        limit: Duration,
    ) -> Result<String, ProcessError> {
        let mut progress = self.log.progress();
        let finding = async {
            loop {
                let is_open = progress.borrow_and_update().open > 0;
                if let Some(found) = self.log.find(self.next, &is_it) {
                    return Some(found);
                }
                if !is_open || progress.changed().await.is_err() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(limit, finding).await {
            Ok(Some((line, next))) => {
                self.next = next;
                Ok(line)
            }
            Ok(None) => Err(self.ended_early().await),
            Err(_) => Err(self.late(limit)),
        }
    }

    /// Says a line to it, on its standard input; [`orders`] reads it there. Not cancel safe: half a line may be said.
    ///
    /// # Errors
    /// [`ProcessError::System`] if it does not listen any more.
    pub async fn say(&mut self, line: &str) -> Result<(), ProcessError> {
        let stdin = self.stdin.as_mut();
        let said = match stdin {
            Some(stdin) => stdin.write_all(format!("{line}\n").as_bytes()).await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        said.map_err(|source| self.system(source))
    }

    /// Waits until it has ended, and gives how. Cancel safe.
    ///
    /// # Errors
    /// [`ProcessError::Late`] at the limit, [`ProcessError::System`] if the system does not know.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus, ProcessError> {
        let mut progress = self.log.progress();
        let ending = async {
            let status = self.child.wait().await?;
            // What it said last is shown as well, unless a child of its own keeps the streams open.
            let silence = progress.wait_for(|progress| progress.open == 0);
            drop(tokio::time::timeout(LAST_WORDS, silence).await);
            Ok(status)
        };
        match tokio::time::timeout(limit, ending).await {
            Ok(status) => status.map_err(|source| self.system(source)),
            Err(_) => Err(self.late(limit)),
        }
    }

    /// Kills it, and waits until it is gone.
    ///
    /// # Errors
    /// [`ProcessError::System`] if the system does not let it be killed.
    pub async fn kill(&mut self) -> Result<(), ProcessError> {
        self.child.kill().await.map_err(|source| self.system(source))
    }

    /// Stops it from running, as a machine does that swaps or is suspended, until it is resumed.
    ///
    /// # Errors
    /// [`ProcessError::System`] if it has ended, or where there is no program `kill`.
    pub async fn pause(&mut self) -> Result<(), ProcessError> {
        self.signal("-STOP").await
    }

    /// Lets it run on.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub async fn resume(&mut self) -> Result<(), ProcessError> {
        self.signal("-CONT").await
    }

    async fn signal(&self, signal: &str) -> Result<(), ProcessError> {
        // Once it is reaped it has no id, so that no stranger is ever meant.
        let gone = || self.system(io::Error::other("it has ended"));
        let id = self.child.id().ok_or_else(gone)?.to_string();
        let status = Command::new("kill").args([signal, &id]).status().await;
        match status.map_err(|source| self.system(source))? {
            status if status.success() => Ok(()),
            status => Err(self.system(io::Error::other(format!("kill {signal}: {status}")))),
        }
    }

    async fn ended_early(&mut self) -> ProcessError {
        // A process that closes its output ends at once, mostly.
        let status = tokio::time::timeout(LAST_WORDS, self.child.wait()).await;
        let status = status.ok().and_then(Result::ok);
        ProcessError::EndedEarly { name: self.name.clone(), status, output: self.output() }
    }

    fn late(&self, limit: Duration) -> ProcessError {
        ProcessError::Late { name: self.name.clone(), limit, output: self.output() }
    }

    fn system(&self, source: io::Error) -> ProcessError {
        ProcessError::System { name: self.name.clone(), source }
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "the test harness shows it with the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("process {} said:\n{}", self.name, self.output());
        }
    }
}

impl ProcessBuilder {
    fn new(name: String, program: Result<PathBuf, ProcessError>) -> Self {
        Self { name, program, args: Vec::new(), env: Vec::new(), max_output: 256 * 1024 }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Tells it where its controller is and what it is called there; [`participant`] reads both.
    pub fn controller(self, controller: &Controller) -> Self {
        let name = self.name.clone();
        self.env(CONTROLLER, controller.address().to_string()).env(NODE, name)
    }

    /// Sets how many bytes of its output are kept. Default 256 KiB.
    pub fn max_output(mut self, bytes: usize) -> Self {
        self.max_output = bytes;
        self
    }

    /// Starts the process; must run inside a tokio runtime.
    ///
    /// # Errors
    /// [`ProcessError::NotBuilt`], or [`ProcessError::Start`].
    pub fn start(self) -> Result<Process, ProcessError> {
        let Self { name, program, args, env, max_output } = self;
        let mut command = Command::new(program?);
        command.args(args).envs(env).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let spawned = command.spawn();
        let mut child =
            spawned.map_err(|source| ProcessError::Start { name: name.clone(), source })?;
        let log = Arc::new(Log::new(max_output));
        if let Some(stream) = child.stdout.take() {
            log.open();
            tokio::spawn(Arc::clone(&log).read(stream));
        }
        if let Some(stream) = child.stderr.take() {
            log.open();
            tokio::spawn(Arc::clone(&log).read(stream));
        }
        // Left in the child, waiting for its end would close it.
        let stdin = child.stdin.take();
        Ok(Process { name, child, stdin, log, next: 0 })
    }
}

/// Joins the controller that this process was told of, under its name; none if it was told of none.
///
/// # Errors
/// As [`Participant::join`].
pub async fn participant() -> Result<Option<Participant>, BarrierError> {
    let (Ok(address), Ok(name)) = (std::env::var(CONTROLLER), std::env::var(NODE)) else {
        return Ok(None);
    };
    let Ok(controller) = address.parse() else {
        return Err(BarrierError::BadText { text: address });
    };
    Participant::join(controller, &name).await.map(Some)
}

/// Ends this process when the one that started it is gone, however that ended. Does nothing in a process that no
/// controller was given to.
///
/// It reads standard input to its end on a thread of its own.
pub fn end_with_parent() {
    if std::env::var_os(CONTROLLER).is_none() {
        return;
    }
    std::thread::spawn(|| {
        drop(io::copy(&mut io::stdin(), &mut io::sink()));
        std::process::exit(ORPHANED);
    });
}

/// Gives what is [said](Process::say) to this process, and ends it when the one that started it is gone, however that
/// ended.
///
/// It reads standard input to its end on a thread of its own, so call it once, and in place of [`end_with_parent`].
#[must_use]
pub fn orders() -> mpsc::Receiver<String> {
    let (sender, orders) = mpsc::channel(MAX_ORDERS);
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            // Who takes no orders any more still ends with its parent.
            drop(sender.blocking_send(line));
        }
        std::process::exit(ORPHANED);
    });
    orders
}

/// Says in the environment where the controller is.
pub const CONTROLLER: &str = "TELLWIRE_CONTROLLER";
/// Says in the environment what the process is called at its controller.
pub const NODE: &str = "TELLWIRE_NODE";
/// The exit status of a process whose parent is gone.
const ORPHANED: i32 = 3;
/// Orders that may wait to be taken.
const MAX_ORDERS: usize = 16;
/// Time for the last output of a process to come in once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
