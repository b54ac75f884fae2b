//! Is what benches share: the second process of those that need two, registries of any size, processor time, timed
//! operations, figures.

#![allow(dead_code, reason = "not every bench uses all of it")]

use std::error::Error;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tellwire::codec::{Bincode, CodecEntry, Origin};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// A second process of the same bench, which is given lines and answers with lines. It ends with its standard
/// input.
pub(crate) struct Second {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Second {
    /// Starts it with arguments that say that it is the second, on one core if one is given.
    pub(crate) fn start(arguments: &[&str], core: Option<u8>) -> Result<Self, Failure> {
        let mut command = command(core)?;
        let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        Ok(Self { input: child.stdin.take(), child, output })
    }

    /// Reads its next line.
    pub(crate) fn line(&mut self) -> Result<String, Failure> {
        Ok(self.output.next().ok_or("the second process has ended")??)
    }

    /// Gives it a line and reads the answer.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String, Failure> {
        writeln!(self.input.as_mut().ok_or("no input")?, "{line}")?;
        self.line()
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the second process is not gone: {error}");
        }
    }
}

/// Gives the command for this bench itself, on one core if one is given.
pub(crate) fn command(core: Option<u8>) -> std::io::Result<Command> {
    let own = std::env::current_exe()?;
    let Some(core) = core else { return Ok(Command::new(own)) };
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(own);
    Ok(command)
}

/// What the command line of a bench says.
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    pub(crate) fn read() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// Tells whether this process plays `role`.
    pub(crate) fn is(&self, role: &str) -> bool {
        self.0.iter().any(|argument| argument == role)
    }

    /// Gives the factor by which work is divided: without `--bench` this is a test of the bench itself.
    pub(crate) fn divisor(&self) -> u64 {
        if self.is("--bench") { 1 } else { 1_000 }
    }

    /// Gives the first argument that is a number.
    pub(crate) fn number(&self) -> Option<u64> {
        self.0.iter().find_map(|argument| argument.parse().ok())
    }
}

/// Makes a table of so many manifests, all of one type, for a process to keep as long as it runs.
pub(crate) fn manifests<M: Serialize + DeserializeOwned + 'static>(
    count: u64,
) -> &'static [CodecEntry] {
    let origin = Origin::new(file!(), line!(), module_path!());
    // What a line of `remote_messages!` becomes, for there the names have to be literals.
    let entry = |number| {
        let manifest = format!("bench.v1.Known{number:05}").leak();
        CodecEntry::reading::<M, Bincode, ()>(manifest, origin)
    };
    (0..count).map(entry).collect::<Vec<_>>().leak()
}

/// Gives the processor time that this process has used, zero where the system does not tell.
pub(crate) fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let times = behind_name.split_whitespace().skip(11).take(2);
    // Linux tells in hundredths of a second, whatever the kernel's own clock.
    Duration::from_millis(times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// Gives the resident memory of this process in bytes, zero where the system does not tell.
pub(crate) fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Runs one operation often enough to be timed, and keeps the time of each turn.
///
/// A turn lasts long enough for the clock, and so short that other work on the machine seldom cuts into it: turns as
/// long as a scheduler's would let that work fall on one contender.
pub(crate) struct Task<'a> {
    operation: Box<dyn FnMut() + 'a>,
    repeat: u32,
    /// Of one operation, by turn.
    pub(crate) nanos: Vec<f64>,
}

impl<'a> Task<'a> {
    pub(crate) fn new(operation: impl FnMut() + 'a) -> Self {
        let mut task = Self { operation: Box::new(operation), repeat: 1, nanos: Vec::new() };
        while task.elapsed() < TURN {
            task.repeat *= 2;
        }
        task
    }

    pub(crate) fn take_a_turn(&mut self) {
        let nanos = self.elapsed().as_secs_f64() * 1e9 / f64::from(self.repeat);
        self.nanos.push(nanos);
    }

    /// Gives the least time, which is the one with the least disturbance.
    pub(crate) fn least(&self) -> f64 {
        self.nanos.iter().copied().fold(f64::MAX, f64::min)
    }

    pub(crate) fn median(&self) -> f64 {
        median(self.nanos.clone())
    }

    fn elapsed(&mut self) -> Duration {
        let begun = Instant::now();
        (0..self.repeat).for_each(|_| (self.operation)());
        begun.elapsed()
    }
}

const TURN: Duration = Duration::from_micros(200);

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn nanos_each(time: Duration, count: u64) -> f64 {
    time.as_nanos() as f64 / count as f64
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// Gives the duration below which `percent` of the sorted ones lie.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}
