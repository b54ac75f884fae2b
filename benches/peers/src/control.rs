//! Carries the words between the two processes that are not measured: a run begins; what has arrived?

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::Failure;
use crate::arrivals::{Arrivals, Report};

/// Is the sender's side.
pub(crate) struct Control(BufReader<TcpStream>);

impl Control {
    pub(crate) fn connect(to: &str) -> Result<Self, Failure> {
        Ok(Self(BufReader::new(TcpStream::connect(to)?)))
    }

    /// Has the receiver begin a run of so many tells.
    pub(crate) fn begin(&mut self, tells: u64) -> Result<(), Failure> {
        self.say(&format!("begin {tells}"))?;
        Ok(())
    }

    /// Waits for what arrives, and learns what did.
    pub(crate) fn report(&mut self) -> Result<Report, Failure> {
        let line = self.say("report")?;
        let figures: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        let [arrived, lost, disorder, steps_back, doubled, timed, nanos, cpu] = figures?[..] else {
            return Err(format!("no report: {line}").into());
        };
        Ok(Report { arrived, lost, disorder, steps_back, doubled, timed, nanos, cpu })
    }

    fn say(&mut self, words: &str) -> Result<String, Failure> {
        writeln!(self.0.get_mut(), "{words}")?;
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        Ok(answer)
    }
}

/// Says where the receiving side is, and serves one sender after the other until standard input ends.
pub(crate) fn serve(address: &str, arrivals: &Arrivals) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{address} {}", listener.local_addr()?);
    std::thread::spawn(|| {
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(i32::from(ended.is_err()))
    });
    for stream in listener.incoming() {
        answer(stream?, arrivals)?;
    }
    Ok(())
}

fn answer(stream: TcpStream, arrivals: &Arrivals) -> Result<(), Failure> {
    let mut output = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if let Some(tells) = line.strip_prefix("begin ") {
            arrivals.begin(tells.parse()?);
            writeln!(output, "ready")?;
        } else {
            writeln!(output, "{}", figures(&arrivals.report()))?;
        }
    }
    Ok(())
}

/// Gives them in the order in which `Control::report` reads them.
fn figures(report: &Report) -> String {
    let Report { arrived, lost, disorder, steps_back, doubled, timed, nanos, cpu } = report;
    format!("{arrived} {lost} {disorder} {steps_back} {doubled} {timed} {nanos} {cpu}")
}
