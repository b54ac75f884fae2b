//! Measures how long an ask takes, beside a bare echo over the same kind of socket.
//!
//! `cargo bench --bench tell_latency [-- ASKS] [-- WHAT]`, where `bare`, `tasks` or `node` alone is what a profiler wants
//! to see.
//!
//! Two processes, loopback TCP, 100 bytes each way, default settings. First one ask after the other with both
//! processes on one core, where no wake-up of an idle core hides the difference; then 64 at a time on all cores, once
//! with tokio's threads as they are by default and once with one thread for each process.
//! The bare echo is a tokio task on each side that reads a frame and writes one; with 64 under way, one
//! task writes as many frames as one read has brought echoes. `tasks` is that echo for 64 tasks which share the
//! socket, as users do: each appends its frame to a buffer that a writer swaps out, and is woken by a reader. All
//! take turns, and medians are compared.

#![expect(clippy::print_stdout, reason = "its output is its use")]

#[path = "common/mod.rs"]
mod common;

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tellwire::node::Context;
use tellwire::{Node, RemoteRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use common::{Arguments, Failure, Second, median, per_second, percentile};

#[derive(Serialize, Deserialize)]
struct Note {
    /// 99 bytes, which take 100 on the wire.
    text: String,
}

tellwire::remote_messages! {
    table NOTES, codec = tellwire::codec::Bincode;
    "bench.v1.Note" => Note,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::read();
    if arguments.is(RECEIVE) {
        return runtime(&arguments)?.block_on(receive());
    }
    if PARTS.iter().any(|part| arguments.is(part)) {
        return runtime(&arguments)?.block_on(compare(&arguments));
    }
    // Each part is a process of its own, since a core is chosen at a process's start.
    let mut rest: Vec<String> = std::env::args().skip(1).collect();
    for part in PARTS {
        rest.insert(0, part.to_owned());
        let status = common::command(core(part))?.args(&rest).status()?;
        rest.remove(0);
        if !status.success() {
            return Err(format!("{part} failed").into());
        }
    }
    Ok(())
}

/// Gives the one core on which a part runs, if it is one.
fn core(part: &str) -> Option<u8> {
    (part == ONE_CORE).then_some(0)
}

fn runtime(arguments: &Arguments) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = if arguments.is(ALL_CORES) {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.enable_all().build()
}

async fn compare(arguments: &Arguments) -> Result<(), Failure> {
    let part = PARTS.into_iter().find(|part| arguments.is(part)).unwrap_or(ALL_CORES);
    let window = if part == ONE_CORE { 1 } else { 64 };
    let asks = arguments.number().unwrap_or(ASKS / arguments.divisor());
    let mut second = Second::start(&[RECEIVE, part], core(part))?;
    let (address, bare) = (second.line()?, second.line()?);
    let node = Node::builder("Bench").listen("tcp://127.0.0.1:0").start().await?;
    let echo = Arc::new(node.resolve(format!("{address}/user/echo"))?);
    let tasks = bare.clone();
    let mut bare = TcpStream::connect(&bare).await.map(Bare)?;
    bare.0.set_nodelay(true)?;
    let tasks = Tasks::connect(&tasks).await?;
    let mut figures = vec![("bare", Vec::new()), ("tasks", Vec::new()), ("node", Vec::new())];
    if figures.iter().any(|(what, _)| arguments.is(what)) {
        figures.retain(|(what, _)| arguments.is(what));
    }
    for round in 0..=ROUNDS {
        for (what, runs) in &mut figures {
            let run = match (*what, window) {
                ("bare", 1) => one_by_one(asks, async || bare.ask().await).await?,
                ("bare", _) => bare.ask_many(asks, window).await?,
                ("tasks", _) => {
                    let tasks = Arc::clone(&tasks);
                    many(asks, window, move || Arc::clone(&tasks).ask()).await?
                }
                (_, 1) => one_by_one(asks, async || ask(Arc::clone(&echo)).await).await?,
                (_, _) => {
                    let echo = Arc::clone(&echo);
                    many(asks, window, move || ask(Arc::clone(&echo))).await?
                }
            };
            if round > 0 {
                runs.push(run);
            }
        }
    }
    print(part, window, asks, &figures);
    node.shutdown(WAIT).await;
    Ok(())
}

/// What one run brought: how many asks a second, and the sorted round trips.
struct Run {
    rate: f64,
    trips: Vec<Duration>,
}

impl Run {
    fn new(asks: u64, took: Duration, mut trips: Vec<Duration>) -> Self {
        trips.sort_unstable();
        Self { rate: per_second(asks, took), trips }
    }
}

/// Runs one ask after the other.
async fn one_by_one(
    asks: u64,
    mut ask: impl AsyncFnMut() -> Result<(), Failure>,
) -> Result<Run, Failure> {
    let (begun, mut trips) = (Instant::now(), Vec::new());
    for _ in 0..asks {
        let begun = Instant::now();
        ask().await?;
        trips.push(begun.elapsed());
    }
    Ok(Run::new(asks, begun.elapsed(), trips))
}

/// Runs `window` tasks, each of which asks one after the other.
async fn many<F>(
    asks: u64,
    window: u64,
    ask: impl Fn() -> F + Clone + Send + 'static,
) -> Result<Run, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send,
{
    let (begun, mut trips, mut askers) = (Instant::now(), Vec::new(), JoinSet::new());
    for number in 0..window {
        let (ask, share) = (ask.clone(), asks / window + u64::from(number < asks % window));
        askers.spawn(async move {
            let mut trips = Vec::new();
            for _ in 0..share {
                let begun = Instant::now();
                ask().await?;
                trips.push(begun.elapsed());
            }
            Ok::<_, Failure>(trips)
        });
    }
    while let Some(asker) = askers.join_next().await {
        trips.append(&mut asker??);
    }
    Ok(Run::new(asks, begun.elapsed(), trips))
}

async fn ask(echo: Arc<RemoteRef>) -> Result<(), Failure> {
    let Note { text } = echo.ask(&Note { text: "x".repeat(PAYLOAD - 1) }, WAIT).await?;
    std::hint::black_box(text);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn print(part: &str, window: u64, asks: u64, figures: &[(&str, Vec<Run>)]) {
    println!("\n{part}: {asks} asks, {window} at a time, {ROUNDS} runs");
    println!("          asks/s     p50 µs     p99 µs");
    let mut medians = Vec::new();
    for (what, runs) in figures {
        let at = |percent| {
            let micros = |run: &Run| percentile(&run.trips, percent).as_nanos() as f64 / 1e3;
            median(runs.iter().map(micros).collect())
        };
        let rate = median(runs.iter().map(|run| run.rate).collect());
        println!("{what:<6} {rate:>10.0} {:>10.1} {:>10.1}", at(50), at(99));
        medians.push((rate, at(50)));
    }
    let Some((rate, p50)) = medians.pop() else { return };
    for ((what, _), (bare_rate, bare_p50)) in figures.iter().zip(medians) {
        println!("node/{what}: rate {:.2}, p50 {:.2}", rate / bare_rate, p50 / bare_p50);
    }
}

/// Asks over a bare socket, from one task.
struct Bare(TcpStream);

impl Bare {
    async fn ask(&mut self) -> Result<(), Failure> {
        let mut frame = [b'x'; PAYLOAD];
        self.0.write_all(&frame).await?;
        self.0.read_exact(&mut frame).await?;
        Ok(())
    }

    /// Keeps `window` frames under way: for what one read brings, one write follows.
    async fn ask_many(&mut self, asks: u64, window: u64) -> Result<Run, Failure> {
        let (begun, mut trips, mut under_way) = (Instant::now(), Vec::new(), VecDeque::new());
        let (mut buffer, mut filled, mut left) = (vec![0; 64 * 1024], 0, asks);
        let mut room = window;
        while (trips.len() as u64) < asks {
            let next = room.min(left);
            self.0.write_all(&vec![b'x'; PAYLOAD * usize::try_from(next)?]).await?;
            under_way.extend((0..next).map(|_| Instant::now()));
            left -= next;
            filled += self.0.read(&mut buffer).await?;
            room = (filled / PAYLOAD) as u64;
            filled %= PAYLOAD;
            trips.extend(under_way.drain(..usize::try_from(room)?).map(|sent| sent.elapsed()));
        }
        Ok(Run::new(asks, begun.elapsed(), trips))
    }
}

/// Asks over a bare socket, from many tasks.
struct Tasks {
    state: Mutex<Gathered>,
    waits: Notify,
}

#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// In the order of the frames.
    askers: VecDeque<oneshot::Sender<()>>,
}

impl Tasks {
    async fn connect(to: &str) -> Result<Arc<Self>, Failure> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let tasks = Arc::new(Self { state: Mutex::default(), waits: Notify::new() });
        tokio::spawn(Arc::clone(&tasks).write(writer));
        tokio::spawn(Arc::clone(&tasks).read(reader));
        Ok(tasks)
    }

    async fn ask(self: Arc<Self>) -> Result<(), Failure> {
        let (done, is_done) = oneshot::channel();
        let was_empty = {
            let mut state = self.lock();
            state.bytes.extend_from_slice(&[b'x'; PAYLOAD]);
            state.askers.push_back(done);
            state.bytes.len() == PAYLOAD
        };
        if was_empty {
            self.waits.notify_one();
        }
        Ok(is_done.await?)
    }

    async fn write(self: Arc<Self>, mut writer: OwnedWriteHalf) -> std::io::Result<()> {
        let mut batch = Vec::new();
        loop {
            std::mem::swap(&mut self.lock().bytes, &mut batch);
            if batch.is_empty() {
                self.waits.notified().await;
            }
            writer.write_all(&batch).await?;
            batch.clear();
        }
    }

    async fn read(self: Arc<Self>, mut reader: OwnedReadHalf) -> Result<(), Failure> {
        let (mut buffer, mut filled) = (vec![0; 64 * 1024], 0);
        loop {
            let bytes = reader.read(&mut buffer).await?;
            if bytes == 0 {
                return Ok(());
            }
            filled += bytes;
            let done: Vec<_> = self.lock().askers.drain(..filled / PAYLOAD).collect();
            filled %= PAYLOAD;
            for asker in done {
                asker.send(()).map_err(|()| "an asker has given up")?;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn receive() -> Result<(), Failure> {
    let node = Node::builder("Bench").listen("tcp://127.0.0.1:0").start().await?;
    node.spawn("/user/echo", async |note: Note, cx: &mut Context| cx.reply(&note))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}\n{}", node.address(), listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    node.shutdown(WAIT).await;
    Ok(())
}

/// Sends back whatever comes.
async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let bytes = stream.read(&mut buffer).await?;
        if bytes == 0 {
            return Ok(());
        }
        stream.write_all(buffer.get(..bytes).unwrap_or_default()).await?;
    }
}

const RECEIVE: &str = "receive";
const ONE_CORE: &str = "one_core";
const ALL_CORES: &str = "all_cores";
const ONE_THREAD_EACH: &str = "one_thread_each";
const PARTS: [&str; 3] = [ONE_CORE, ALL_CORES, ONE_THREAD_EACH];
const ROUNDS: usize = 5;
const ASKS: u64 = 50_000;
const PAYLOAD: usize = 100;
const WAIT: Duration = Duration::from_secs(60);
