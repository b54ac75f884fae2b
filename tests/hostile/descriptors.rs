//! A node that runs out of descriptors goes on accepting once there are some again.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use tellwire::Node;
use tokio::net::TcpStream;

use crate::raw::{PATIENCE, soon};
use crate::{Healthy, Target};

#[cfg(unix)]
#[tokio::test]
async fn a_node_without_descriptors_serves_again_when_there_are_some() {
    let mut child = Starved::start();
    let address: tellwire::Address = child.address.parse().expect("an address");
    let mut dials = Vec::new();
    for _ in 0..500 {
        dials.push(
            soon(TcpStream::connect((address.host(), address.port()))).await.expect("a dial"),
        );
    }
    drop(dials);
    let healthy = Healthy::start().await;
    let path = format!("{address}/user/echo");
    let echo = healthy.0.resolve(path).expect("a path");
    let note = crate::Note { text: "are you there?".to_owned() };
    let reply = echo.ask(&note, PATIENCE).await;
    assert_eq!(reply, Ok(note));
    child.end();
}

/// A node in a process of its own that may open 64 descriptors.
struct Starved {
    process: Child,
    /// Stays open, because the child's test harness has more to say.
    out: BufReader<ChildStdout>,
    address: String,
}

impl Starved {
    fn start() -> Self {
        let test = std::env::current_exe().expect("this test");
        let mut process = Command::new("sh")
            .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
            .arg(test)
            .args(["--ignored", "--exact", "descriptors::starved_node", "--nocapture"])
            .env(CHILD, "yes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut out = BufReader::new(process.stdout.take().expect("a pipe"));
        let address = out
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once(MARK).map(|(_, address)| address.to_owned()));
        Self { process, out, address: address.expect("the child says where it is") }
    }

    fn end(&mut self) {
        drop(self.process.stdin.take());
        let mut said = String::new();
        self.out.read_to_string(&mut said).expect("text");
        assert!(self.process.wait().expect("the child").success(), "{said}");
    }
}

/// Runs in the child: serves until the parent closes its end of the pipe.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "runs in a process of its own, started by its parent"]
async fn starved_node() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let target = Target::start().await;
    announce(&target.node);
    let wait = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    wait.await.expect("a thread").expect("a pipe");
}

fn announce(node: &Node) {
    let mut out = std::io::stdout();
    writeln!(out, "{MARK}{}", node.address()).and_then(|()| out.flush()).expect("a pipe");
}

const MARK: &str = "node at ";
/// Tells the child that it is one: nobody else has an end of a pipe to close.
const CHILD: &str = "TELLWIRE_STARVED_NODE";
