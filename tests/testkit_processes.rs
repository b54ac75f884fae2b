//! Holds the processes of a test to their promises: ready without sleep, heard in every failure, ended for certain.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::time::Duration;

use tellwire::testkit::barrier::{BarrierError, Command, Controller};
use tellwire::testkit::processes::{self, Process, ProcessError};
use tellwire::testkit::{FaultProxy, eventually};
use tellwire::{Node, Settings};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

#[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
struct Hello(String);

tellwire::remote_messages! {
    table HELLOS, codec = tellwire::codec::Bincode;
    "processes.v1.Hello" => Hello,
}

#[tokio::test]
async fn nodes_in_three_processes_talk_through_proxies_and_end_on_command() {
    let controller = Controller::start(NAMES).await.unwrap();
    let mut nodes: Vec<Process> = NAMES.iter().map(|name| node(name, &controller)).collect();
    controller.joined(LONG).await.unwrap();
    controller.wait("heard", LONG).await.unwrap_or_else(|error| {
        let outputs: Vec<String> = nodes.iter().map(Process::output).collect();
        panic!("{error}\n{outputs:#?}")
    });
    for node in &mut nodes {
        // The harness's own words may stand in front of the first line.
        let line = node.line(|line| line.contains("heard "), LONG).await.unwrap();
        assert!(line.ends_with("heard ada bob eve"), "{line}");
        controller.command(node.name(), Command::Exit).unwrap();
        assert!(node.ended(LONG).await.unwrap().success());
    }
    assert!(controller.present().is_empty());
}

#[tokio::test]
async fn a_killed_process_is_missing_at_the_barrier() {
    let controller = Controller::start(NAMES).await.unwrap();
    let mut nodes: Vec<Process> = NAMES.iter().map(|name| node(name, &controller)).collect();
    controller.wait("heard", LONG).await.unwrap();
    nodes[1].kill().await.unwrap();
    for name in ["ada", "eve"] {
        controller.command(name, Command::Pass).unwrap();
    }
    match controller.wait("passed", Duration::from_secs(2)).await {
        Err(BarrierError::TimedOut { arrivals, .. }) => {
            assert!(arrivals.missing.contains("bob"), "{arrivals}");
            assert!(!arrivals.arrived.contains("bob"), "{arrivals}");
        }
        other => panic!("{other:?}"),
    }
    assert!(nodes[1].pause().await.is_err(), "what has ended cannot be paused");
}

/// Is the process that the tests above start.
#[tokio::test]
#[ignore = "is no test but a process of one"]
#[expect(clippy::print_stdout, reason = "the test above waits for this line")]
async fn node_main() {
    processes::end_with_parent();
    let Some(mut me) = processes::participant().await.unwrap() else { return };
    let name = std::env::var(processes::NODE).unwrap();
    let proxy = FaultProxy::bind().await.unwrap();
    let node = Node::builder("Test")
        .listen("tcp://127.0.0.1:0")
        .advertise(format!("tcp://{}", proxy.address()))
        .settings(Settings::local())
        .start()
        .await
        .unwrap();
    proxy.handle().set_target(([127, 0, 0, 1], node.listens_on().port()).into());
    let (hellos, mut inbox) = tokio::sync::mpsc::channel::<Hello>(16);
    let path = node.register("/user/hello", hellos).unwrap();
    me.put(&name, &path.to_string()).await.unwrap();
    for peer in NAMES {
        let path = me.get(peer, LONG).await.unwrap().unwrap();
        node.resolve(path).unwrap().tell(&Hello(name.clone())).unwrap();
    }
    let mut heard = Vec::new();
    while heard.len() < NAMES.len() {
        heard.push(inbox.recv().await.unwrap().0);
    }
    heard.sort();
    println!("heard {}", heard.join(" "));
    let mut commands = me.commands().unwrap();
    me.barrier("heard", LONG).await.unwrap();
    if commands.next().await == Some(Command::Pass) {
        drop(me.barrier("passed", LONG).await);
    }
}

#[tokio::test]
async fn a_process_that_ends_too_early_is_reported_at_once_with_what_it_said() {
    let mut failing = sh("echo getting up; echo trouble >&2; exit 7");
    match failing.line(|line| line == "ready", LONG).await.unwrap_err() {
        ProcessError::EndedEarly { name, status, output } => {
            assert_eq!((name.as_str(), status.and_then(|status| status.code())), ("sh", Some(7)));
            assert!(output.contains("getting up") && output.contains("trouble"), "{output}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_process_that_says_nothing_is_late_at_its_own_deadline() {
    let mut silent = sh("echo early; exec sleep 600");
    assert_eq!(silent.line(|line| line == "early", LONG).await.unwrap(), "early");
    let late = silent.line(|line| line == "ready", SHORT).await.unwrap_err();
    assert!(matches!(late, ProcessError::Late { .. }));
    assert!(late.to_string().contains("early"), "{late}");
    assert!(matches!(silent.ended(SHORT).await, Err(ProcessError::Late { .. })));
}

#[tokio::test]
async fn orders_are_heard_in_order_and_end_with_the_one_who_gives_them() {
    let echo = Process::this_test("says_its_orders", "echo").env("ORDERS", "1");
    let mut echo = echo.start().unwrap();
    for order in ["first", "second ü"] {
        echo.say(order).await.unwrap();
        let heard = echo.line(|line| line.ends_with(order), LONG).await.unwrap();
        assert!(heard.ends_with(&format!("heard {order}")), "{heard}");
    }
    echo.kill().await.unwrap();
    assert!(matches!(echo.say("third").await, Err(ProcessError::System { .. })));
}

/// Is the process that the test above starts.
#[tokio::test]
#[ignore = "is no test but a process of one"]
#[expect(clippy::print_stdout, reason = "the test above waits for this line")]
async fn says_its_orders() {
    if std::env::var_os("ORDERS").is_none() {
        return;
    }
    let mut orders = processes::orders();
    while let Some(order) = orders.recv().await {
        println!("heard {order}");
    }
}

#[tokio::test]
async fn lines_are_given_in_order_and_once() {
    let mut counting = sh("echo 1; echo 2; echo 3");
    for expected in ["1", "2", "3"] {
        assert_eq!(counting.line(|_| true, LONG).await.unwrap(), expected);
    }
    assert!(counting.line(|_| true, LONG).await.is_err());
    assert!(counting.ended(LONG).await.unwrap().success());
}

#[tokio::test]
async fn output_is_bounded() {
    let mut talking = Process::program("sh", "sh")
        .args(["-c", "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done"])
        .max_output(1_000)
        .start()
        .unwrap();
    talking.ended(LONG).await.unwrap();
    let output = talking.output();
    assert!(output.len() < 2_000 && output.contains("line 4999"), "{output}");
    assert!(output.contains("lines left off"));
}

#[tokio::test]
async fn a_dropped_process_is_killed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let controller = Controller::start(["ada"]).await.unwrap();
    let orphan = Process::this_test("holds_a_link", "ada")
        .controller(&controller)
        .env("HOLD", listener.local_addr().unwrap().to_string())
        .start()
        .unwrap();
    let (mut link, _) = listener.accept().await.unwrap();
    drop(orphan);
    let read = tokio::time::timeout(LONG, link.read(&mut [0])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "the link ended with its process");
}

/// Is the process that the test above starts.
#[tokio::test]
#[ignore = "is no test but a process of one"]
async fn holds_a_link() {
    let Ok(address) = std::env::var("HOLD") else { return };
    let _link = TcpStream::connect(address).await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_process_ends_when_its_parent_is_gone() {
    let controller = Controller::start(["ada"]).await.unwrap();
    // The parent in between is killed; the one below it reads the end of its input.
    let test = std::env::current_exe().unwrap();
    let mut parent = Process::program("sh", "parent")
        .args(["-c", "cat | \"$0\" waits_for_its_parent --exact --nocapture --include-ignored"])
        .arg(test)
        .env(processes::CONTROLLER, controller.address().to_string())
        .env(processes::NODE, "ada")
        .start()
        .unwrap();
    controller.joined(LONG).await.unwrap();
    parent.kill().await.unwrap();
    drop(parent);
    eventually("its child is gone", LONG, || controller.present().is_empty()).await;
}

/// Is the process that the test above starts.
#[tokio::test]
#[ignore = "is no test but a process of one"]
async fn waits_for_its_parent() {
    processes::end_with_parent();
    let Some(_me) = processes::participant().await.unwrap() else { return };
    std::future::pending::<()>().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_paused_process_says_nothing_until_it_is_resumed() {
    let mut counting = sh("while :; do echo tick; done");
    counting.line(|_| true, LONG).await.unwrap();
    counting.pause().await.unwrap();
    // What it had said before may still be coming in.
    let quiet = async { while counting.line(|_| true, SHORT).await.is_ok() {} };
    tokio::time::timeout(LONG, quiet).await.unwrap();
    counting.resume().await.unwrap();
    counting.line(|_| true, LONG).await.unwrap();
}

#[tokio::test]
async fn what_cannot_start_says_so() {
    let missing = Process::program("/no/such/program", "missing").start().unwrap_err();
    assert!(matches!(missing, ProcessError::Start { .. }), "{missing}");
    let missing = Process::example("no_such_example", "missing").start().unwrap_err();
    assert!(matches!(missing, ProcessError::NotBuilt { .. }), "{missing}");
}

fn node(name: &str, controller: &Controller) -> Process {
    Process::this_test("node_main", name).controller(controller).start().unwrap()
}

fn sh(script: &str) -> Process {
    Process::program("sh", "sh").args(["-c", script]).start().unwrap()
}

const NAMES: [&str; 3] = ["ada", "bob", "eve"];
/// A deadline that a test waits for.
const SHORT: Duration = Duration::from_millis(200);
/// A deadline that no test may live to see.
const LONG: Duration = Duration::from_secs(60);
