//! Runs the examples as a reader would: as processes, by their arguments, input and output.
//!
//! `cargo test` builds them first; `cargo test --test examples` alone needs `cargo build --examples` before it.
//! The workers of `wordcount` share the stderr of their coordinator. So a test that reads it to its end has seen
//! that none of them is left.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

#[test]
fn hello_prints_its_greeting() {
    let ended = Example::start("hello", &[]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout.last().map(String::as_str), Some("hello Bob"));
}

#[test]
fn wordcount_counts_small_files_exactly() {
    let one = input("one.txt", "The cat, the HAT; the_cat!\r\n\nÜber 42 über".as_bytes());
    let two = input("two.txt", b"cat \xff\xfe x\n");
    let ended = Example::start("wordcount", &[&one, &two]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let expected =
        ["3 cat", "3 the", "2 über", "1 42", "1 hat", "1 x", "total 11 words 6 distinct"];
    assert_eq!(ended.stdout[..expected.len()], expected);
    assert_eq!(ended.stdout.last().map(String::as_str), Some(CHECKED));
}

#[test]
fn wordcount_joins_no_words_across_files_and_cuts_none_in_long_lines() {
    let one = input("border-one.txt", b"over");
    let two = input("border-two.txt", "lap ".repeat(100_000).as_bytes());
    let ended = Example::start("wordcount", &[&one, &two]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let expected = ["100000 lap", "1 over", "total 100001 words 2 distinct"];
    assert_eq!(ended.stdout[..expected.len()], expected);
}

#[test]
fn wordcount_takes_empty_input() {
    let empty = input("empty.txt", b"");
    for arguments in [vec![empty.as_str()], vec!["--kill-one", empty.as_str()]] {
        let ended = Example::start("wordcount", &arguments).end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stdout[0], "total 0 words 0 distinct");
    }
}

#[test]
fn wordcount_counts_exactly_although_a_worker_is_killed() {
    let (text, expected) = generated();
    let file = input("generated.txt", text.as_bytes());
    let ended = Example::start("wordcount", &["--kill-one", &file]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout[..expected.len()], expected);
    assert_eq!(ended.stdout.last().map(String::as_str), Some(CHECKED));
    assert!(ended.stdout.iter().any(|line| line.ends_with("gone")), "{ended:?}");
    assert!(ended.stderr.iter().any(|line| line.contains("killing worker")), "{ended:?}");
}

#[test]
fn wordcount_refuses_what_it_cannot_read_in_one_line() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let missing = format!("{folder}/no-such-file.txt");
    for arguments in [&[missing.as_str()][..], &[folder], &["--zip"], &["--kill-one", &missing]] {
        let ended = Example::start("wordcount", arguments).end();
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert_eq!(ended.stderr.len(), 1, "{arguments:?}: {ended:?}");
        assert!(ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[cfg(unix)]
#[test]
fn wordcount_fails_when_every_worker_is_killed() {
    let file = input("all-killed.txt", generated().0.repeat(4).as_bytes());
    let mut wordcount = Example::start("wordcount", &[&file]);
    for number in 1..=3 {
        kill(&wordcount.worker(number));
    }
    let ended = wordcount.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = ended.stderr.last().map(String::as_str).unwrap_or_default();
    assert!(last.contains("every worker is gone"), "{ended:?}");
    assert!(ended.stdout.is_empty(), "{ended:?}");
}

#[cfg(unix)]
#[test]
fn workers_end_when_their_coordinator_is_killed() {
    let file = input("orphans.txt", generated().0.repeat(4).as_bytes());
    let mut wordcount = Example::start("wordcount", &[&file]);
    for number in 1..=3 {
        wordcount.worker(number);
    }
    wordcount.child.kill().unwrap();
    // The end of stderr is the end of the workers.
    let ended = wordcount.end();
    assert_eq!(ended.code, None, "{ended:?}");
}

#[test]
fn schema_prints_the_table_that_is_committed() {
    let ended = Example::start("schema", &["print"]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let committed = std::fs::read_to_string("examples/schema.txt").unwrap();
    let lines: Vec<_> = committed.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(ended.stdout, lines);
    let ended = Example::start("schema", &["check", "examples/schema.txt"]).end();
    assert_eq!((ended.code, ended.stdout.len()), (Some(0), 0), "{ended:?}");
}

#[test]
fn schema_passes_additions_and_fails_for_each_incompatible_change() {
    let check = |name: &str, table: &str| {
        let file = input(name, table.as_bytes());
        let ended = Example::start("schema", &["check", &file]).end();
        (ended.code, ended.stdout)
    };
    let (code, said) = check("fewer.txt", "shop.v1.Checkout bincode -\n");
    assert_eq!(code, Some(0), "{said:?}");
    let notes = [
        "note: `shop.v1.AddItem` is new",
        "note: `shop.v1.Checkout` is accepted as json too",
        "note: `shop.v2.AddItem` is new",
    ];
    assert_eq!(said, notes);

    let other = "shop.v0.Gone json -\nshop.v1.AddItem json,bincode -\n\
                 shop.v1.Checkout bincode,json -\nshop.v2.AddItem bincode,json 00000000000000ff\n";
    let (code, said) = check("other.txt", other);
    assert_eq!(code, Some(1), "{said:?}");
    let incompatible = [
        "incompatible: `shop.v0.Gone` is gone",
        "incompatible: `shop.v1.AddItem` is sent as bincode, no longer as json",
        "incompatible: `shop.v1.AddItem` is no longer accepted as json",
        "incompatible: `shop.v2.AddItem` has changed its schema from 00000000000000ff to \
         5f2e0b19c4d78a36",
    ];
    assert_eq!(said, incompatible);
}

#[test]
fn schema_refuses_what_it_cannot_read_in_one_line() {
    let broken = input("broken.txt", b"shop.v1.AddItem\n");
    for arguments in [&["check", broken.as_str()][..], &["check", "no-such-file"], &["check"], &[]]
    {
        let ended = Example::start("schema", arguments).end();
        assert_eq!((ended.code, ended.stderr.len()), (Some(2), 1), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn chat_carries_lines_both_ways_and_announces_who_comes_and_goes() {
    let (mut ada, seed) = open_room();
    let mut bob = Example::start("chat", &["--seed", &seed, "--name", "bob"]);
    bob.stdout.expect("* you are in the room with ada");
    ada.stdout.expect("* bob joined");
    let mut cleo = Example::start("chat", &["--seed", &seed, "--name", "cleo"]);
    cleo.stdout.expect("* you are in the room with ada, bob");
    bob.stdout.expect("* cleo joined");

    ada.say("hello");
    bob.stdout.expect("ada: hello");
    cleo.stdout.expect("ada: hello");
    bob.say("hi \u{1b}[2Jada");
    ada.stdout.expect("bob: hi [2Jada");
    cleo.stdout.expect("bob: hi [2Jada");

    assert_eq!(bob.end().code, Some(0));
    ada.stdout.expect("* bob left");
    drop(cleo);
    ada.stdout.expect("* cleo left");
    assert_eq!(ada.end().code, Some(0));
}

#[test]
fn chat_ends_with_its_room_and_loses_no_last_words() {
    let (mut ada, seed) = open_room();
    let mut bob = Example::start("chat", &["--seed", &seed, "--name", "bob"]);
    ada.stdout.expect("* bob joined");
    ada.say("bye");
    assert_eq!(ada.end().code, Some(0));
    bob.stdout.expect("ada: bye");
    bob.stdout.expect("* ada left");
    bob.stdout.expect("* the room is closed");
    // The input of bob is still open: it is the room that ends him.
    let stdin = bob.stdin.take();
    assert_eq!(bob.end().code, Some(0));
    drop(stdin);
}

#[test]
fn chat_loses_no_line_of_a_long_paste() {
    let (mut ada, seed) = open_room();
    let mut bob = Example::start("chat", &["--seed", &seed, "--name", "bob"]);
    ada.stdout.expect("* bob joined");
    let lines: Vec<String> = (0..5_000).map(|n| format!("line {n}")).collect();
    bob.say(&lines.join("\n"));
    assert_eq!(bob.end().code, Some(0));
    for line in lines {
        assert_eq!(ada.stdout.find(|_| true), format!("bob: {line}"));
    }
    ada.stdout.expect("* bob left");
}

#[test]
fn chat_says_in_one_line_what_is_wrong() {
    let (_ada, taken) = open_room();
    let (_socket, closed) = closed_endpoint();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--listen", "nowhere", "--name", "bob"], 2, "`scheme://`"),
        (&["--seed", "tcp://127.0.0.1", "--name", "bob"], 2, "`:port`"),
        (&["--seed", &taken], 2, "usage"),
        (&["--listen", &taken, "--name", "bob"], 1, "is in use"),
        (&["--seed", &taken, "--name", "ada"], 1, "somebody is called ada already"),
        (&["--seed", &closed, "--name", "bob"], 1, "cannot reach"),
    ];
    for (arguments, code, text) in cases {
        let ended = Example::start("chat", arguments).end();
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert_eq!(ended.stderr.len(), 1, "{arguments:?}: {ended:?}");
        assert!(ended.stderr[0].contains(text), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn cluster_takes_its_expected_course() {
    let ended = Example::start("cluster", &[]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = |wanted: &str| ended.stdout.iter().any(|line| line.ends_with(wanted));
    for wanted in [
        "ada Up  bob Up  cleo Up  dan Up  eve Up",
        "ada Up  bob Up  cleo Up?  dan Up  eve Up",
        "ada Up  bob Up  cleo Up  eve Up",
        "everything took the expected course",
    ] {
        assert!(said(wanted), "`{wanted}` in {ended:?}");
    }
}

/// A running example, killed when it is dropped.
struct Example {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
}

/// How an example ended, with the lines that nobody took before.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

impl Example {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let program = program(name);
        assert!(program.is_file(), "{} is not built: `cargo build --examples`", program.display());
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Self { stdin: child.stdin.take(), child, stdout, stderr }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Reads the process number of a worker of `wordcount`.
    fn worker(&mut self, number: u32) -> String {
        let begin = format!("wordcount: worker {number} is process ");
        let line = self.stderr.find(|line| line.starts_with(&begin));
        line[begin.len()..].split(',').next().unwrap().to_owned()
    }

    /// Closes the input and waits for the end.
    fn end(mut self) -> Ended {
        drop(self.stdin.take());
        let (stdout, stderr) = (self.stdout.rest(), self.stderr.rest());
        // With both outputs closed the process has ended, or is about to.
        let code = self.child.wait().unwrap().code();
        Ended { code, stdout, stderr }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The lines of an output, read by a thread of its own.
struct Lines {
    lines: Receiver<String>,
    deadline: Instant,
}

impl Lines {
    fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { lines, deadline: Instant::now() + PATIENCE }
    }

    /// Reads on to this very line.
    fn expect(&mut self, wanted: &str) {
        self.find(|line| line == wanted);
    }

    fn find(&mut self, is_wanted: impl Fn(&str) -> bool) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(self.left()) {
                Ok(line) if is_wanted(&line) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("the line did not come ({error}), but {seen:#?}"),
            }
        }
    }

    fn rest(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(self.left()) {
            seen.push(line);
        }
        assert!(self.left() > Duration::ZERO, "the output did not end in time, after {seen:#?}");
        seen
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Finds an example beside this test: `target/<profile>/examples` beside `target/<profile>/deps`.
fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(Path::parent).unwrap();
    profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

fn input(name: &str, bytes: &[u8]) -> String {
    let path = format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Gives a text, and the lines that `wordcount` prints of it: `word29` is the commonest, `word0` the rarest.
fn generated() -> (String, Vec<String>) {
    let paragraph: String =
        (0..30).map(|n| format!("Word{n}, ").repeat(n + 1) + "\n").collect::<String>();
    let mut expected: Vec<String> =
        (10..30).rev().map(|n| format!("{} word{n}", (n + 1) * 500)).collect();
    expected.push(format!("total {} words 30 distinct", 465 * 500));
    (paragraph.repeat(500), expected)
}

/// Opens a room as ada, and gives its endpoint.
fn open_room() -> (Example, String) {
    let mut ada = Example::start("chat", &["--listen", "tcp://127.0.0.1:0", "--name", "ada"]);
    let begin = "* the room is open at ";
    let line = ada.stdout.find(|line| line.starts_with(begin));
    ada.stdout.expect("* you are in the room with nobody yet");
    (ada, line[begin.len()..].to_owned())
}

/// Gives an endpoint where nobody listens as long as the socket is kept: it only takes the port.
fn closed_endpoint() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let endpoint = format!("tcp://{}", socket.local_addr().unwrap());
    (socket, endpoint)
}

#[cfg(unix)]
fn kill(process: &str) {
    assert!(Command::new("kill").args(["-KILL", process]).status().unwrap().success());
}

const CHECKED: &str = "checked: the same as a count in one process";
/// How long an example may take altogether.
const PATIENCE: Duration = Duration::from_secs(60);
