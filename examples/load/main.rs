//! Loads one node from another process, and says what came through.
//!
//! ```text
//! load receive [--listen tcp://127.0.0.1:2552 --actors N --mailbox direct|actor]
//! load send --to tcp://Load@127.0.0.1:2552 [--listen tcp://127.0.0.1:0 --count N --size BYTES
//!           --senders N --actors N --mode tell|ask --window N]
//! load both [any of these]            starts its own receiver, as a child process
//! ```
//!
//! Prints one `name value unit` a line. Round trips are measured on asks, of which each sender has `--window` under
//! way; tells show how much goes through, not how long one takes. Ends with code 1 if a message was lost that is
//! not among the dead letters, or if one overtook another. A `--mailbox actor` may overflow, which gives dead
//! letters; a `direct` one counts on the task that reads the link.

#![expect(clippy::print_stdout, reason = "its output is its use")]

mod receiver;
mod sender;

use std::collections::HashMap;
use std::error::Error;
use std::process::{ExitCode, Stdio};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Serialize, Deserialize)]
struct Load {
    /// Names a sender's messages to one actor, whose sequence they count.
    stream: u64,
    sequence: u64,
    body: String,
}

#[derive(Serialize, Deserialize)]
struct Done;

/// Asks for the report; `is_new` starts the count anew.
#[derive(Serialize, Deserialize)]
struct Query {
    is_new: bool,
}

#[derive(Serialize, Deserialize)]
struct Report {
    arrived: u64,
    out_of_order: u64,
    dead_letters: u64,
    cpu: Duration,
}

tellwire::remote_messages! {
    table LOAD, codec = tellwire::codec::Bincode;
    "load.v1.Load" => Load,
    "load.v1.Done" => Done,
    "load.v1.Query" => Query,
    "load.v1.Report" => Report,
}

async fn both(mut options: Options) -> Result<ExitCode, Failure> {
    let mut receiver = Command::new(std::env::current_exe()?)
        .args(["receive", "--listen", "tcp://127.0.0.1:0", "--until", "stdin-ends"])
        .args(["--actors", &options.get::<String>("actors", "1")?])
        .args(["--mailbox", &options.get::<String>("mailbox", "direct")?])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(receiver.stdout.take().ok_or("no output")?).lines();
    let address = lines.next_line().await?.ok_or("the receiver did not start")?;
    options.0.insert("to".to_owned(), address);
    let code = sender::run(&options).await;
    drop(receiver.stdin.take());
    receiver.wait().await?;
    code
}

/// Gives the processor time that this process has used, zero where the system does not tell.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let times = behind_name.split_whitespace().skip(11).take(2);
    // Linux tells in hundredths of a second, whatever the kernel's own clock.
    Duration::from_millis(times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// Holds `--name value` pairs.
struct Options(HashMap<String, String>);

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = HashMap::new();
        while let Some(name) = arguments.next() {
            let known = name.strip_prefix("--").filter(|name| OPTIONS.contains(name));
            let known = known.ok_or_else(|| format!("no option `{name}`"))?;
            let value = arguments.next().ok_or_else(|| format!("`{name}` needs a value"))?;
            options.insert(known.to_owned(), value);
        }
        Ok(Self(options))
    }

    fn get<T: FromStr<Err: Error + Send + Sync + 'static>>(
        &self,
        name: &str,
        default: &str,
    ) -> Result<T, Failure> {
        Ok(self.0.get(name).map_or(default, String::as_str).parse()?)
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let mut arguments = std::env::args().skip(1);
    let act = arguments.next().unwrap_or_default();
    let options = Options::parse(arguments)?;
    match act.as_str() {
        "receive" => receiver::run(&options).await,
        "send" => sender::run(&options).await,
        "both" => both(options).await,
        _ => Err("say `receive`, `send` or `both`".into()),
    }
}

const OPTIONS: [&str; 10] =
    ["listen", "to", "count", "size", "senders", "actors", "mode", "window", "mailbox", "until"];
const PATIENCE: Duration = Duration::from_secs(60);
