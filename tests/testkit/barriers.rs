//! Holds the barriers to their promises: nodes meet or learn at their own deadline why not, and nobody hangs.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::future::Future;
use std::time::Duration;

use tellwire::testkit::barrier::{
    BarrierError, Command, Controller, ControllerSettings, Participant,
};
use tellwire::testkit::{FaultProxy, eventually};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};

#[tokio::test]
async fn nodes_meet_round_after_round_under_one_label() {
    let controller = Controller::start(["a", "b", "c"]).await.unwrap();
    let mut meeting = tokio::task::JoinSet::new();
    for name in ["a", "b", "c"] {
        let address = controller.address();
        meeting.spawn(async move {
            let mut node = Participant::join(address, name).await.unwrap();
            for round in 0..20 {
                let arrivals = node.barrier("again", LONG).await.unwrap();
                assert_eq!((arrivals.round, arrivals.arrived.len()), (round, 3));
                assert!(arrivals.missing.is_empty());
            }
        });
    }
    while let Some(met) = soon(meeting.join_next()).await {
        met.unwrap();
    }
}

#[tokio::test]
async fn a_label_that_timed_out_stays_failed_for_whoever_comes_late() {
    let controller = Controller::start(["a", "b", "c"]).await.unwrap();
    let (mut a, mut b) = (join(&controller, "a").await, join(&controller, "b").await);
    // The one whose time is over fails the label for the patient one too.
    let (patient, hasty) =
        soon(async { tokio::join!(a.barrier("up", LONG), b.barrier("up", SHORT)) }).await;
    for failed in [patient, hasty] {
        let (arrived, missing) = timed_out(failed);
        assert_eq!((arrived.as_str(), missing.as_str()), ("a,b", "c"));
    }
    let mut c = join(&controller, "c").await;
    let (arrived, missing) = timed_out(soon(c.barrier("up", LONG)).await);
    assert_eq!((arrived.as_str(), missing.as_str()), ("a,b", "c"), "no false pass");
    let (.., missing) = timed_out(soon(controller.wait("up", LONG)).await);
    assert_eq!(missing, "c");
    let (a, b, c) = soon(async {
        tokio::join!(a.barrier("2", LONG), b.barrier("2", LONG), c.barrier("2", LONG))
    })
    .await;
    assert!(a.is_ok() && b.is_ok() && c.is_ok(), "another label is not touched");
}

#[tokio::test]
async fn arriving_twice_counts_once() {
    let controller = Controller::start(["a", "b"]).await.unwrap();
    let mut a = Spoken::join(&controller, "a").await;
    a.say("2 barrier up 60000").await;
    a.say("3 barrier up 60000").await;
    a.say("4 get nothing 1").await;
    assert_eq!(a.hear().await, "4 none", "the barrier is still closed");
    let mut b = join(&controller, "b").await;
    soon(b.barrier("up", LONG)).await.unwrap();
    let mut heard = [a.hear().await, a.hear().await];
    heard.sort();
    assert_eq!(heard, ["2 ok up 0 a,b", "3 ok up 0 a,b"]);
}

#[tokio::test]
async fn a_node_that_dies_counts_no_more_until_it_is_back() {
    let controller = Controller::start(["a", "b"]).await.unwrap();
    let mut a = Spoken::join(&controller, "a").await;
    a.say("2 barrier up 60000").await;
    a.say("3 put here yes").await;
    assert_eq!(a.hear().await, "3 stored");
    drop(a);
    let mut b = join(&controller, "b").await;
    gone(&controller, "a").await;
    let (arrived, missing) = timed_out(soon(b.barrier("up", SHORT)).await);
    assert_eq!((arrived.as_str(), missing.as_str()), ("b", "a"));
    let mut a = join(&controller, "a").await;
    let (at_a, at_b) =
        soon(async { tokio::join!(a.barrier("2", LONG), b.barrier("2", LONG)) }).await;
    assert_eq!(at_a.unwrap(), at_b.unwrap());
}

#[tokio::test]
async fn who_leaves_or_is_removed_is_not_waited_for() {
    let controller = Controller::start(["a", "b", "c"]).await.unwrap();
    let (mut a, b) = (join(&controller, "a").await, join(&controller, "b").await);
    let (arrivals, left) = soon(async {
        tokio::join!(a.barrier("up", LONG), async {
            b.leave().await.unwrap();
            controller.remove("c")
        })
    })
    .await;
    left.unwrap();
    assert_eq!(arrivals.unwrap().arrived.into_iter().collect::<Vec<_>>(), ["a"]);
    assert!(matches!(controller.remove("c"), Err(BarrierError::NotThere { name }) if name == "c"));
}

#[tokio::test]
async fn the_driver_waits_without_arriving_and_names_who_never_came() {
    let controller = Controller::start(["a", "b"]).await.unwrap();
    let (arrived, missing) = timed_out(soon(controller.wait("unheard-of", SHORT)).await);
    assert_eq!((arrived.as_str(), missing.as_str()), ("", "a,b"));
    let mut a = join(&controller, "a").await;
    match soon(controller.joined(SHORT)).await {
        Err(BarrierError::TimedOut { arrivals, .. }) => {
            assert!(arrivals.arrived.contains("a") && arrivals.missing.contains("b"));
        }
        other => panic!("{other:?}"),
    }
    let mut b = join(&controller, "b").await;
    soon(controller.joined(LONG)).await.unwrap();
    let (at_a, at_b, seen) = soon(async {
        tokio::join!(a.barrier("up", LONG), b.barrier("up", LONG), controller.wait("up", LONG))
    })
    .await;
    let seen = seen.unwrap();
    assert_eq!((at_a.unwrap(), at_b.unwrap()), (seen.clone(), seen));
}

#[tokio::test]
async fn values_are_exchanged_and_waited_for() {
    let controller = Controller::start(["a", "b"]).await.unwrap();
    let (mut a, mut b) = (join(&controller, "a").await, join(&controller, "b").await);
    let value = "tcp://Test@127.0.0.1:2551  and blanks ";
    let (got, put) =
        soon(async { tokio::join!(a.get("address", LONG), b.put("address", value)) }).await;
    put.unwrap();
    assert_eq!(got.unwrap().as_deref(), Some(value));
    assert_eq!(soon(a.get("nobody-puts-it", SHORT)).await.unwrap(), None);
    controller.put("from-driver", "1").unwrap();
    assert_eq!(soon(a.get("from-driver", LONG)).await.unwrap().as_deref(), Some("1"));
    assert_eq!(soon(controller.get("address", LONG)).await.as_deref(), Some(value));
    for text in ["two\nlines", "cr\r"] {
        let put = a.put("key", text).await;
        assert!(matches!(put, Err(BarrierError::BadText { .. })), "{put:?}");
    }
}

#[tokio::test]
async fn names_that_cannot_be_are_refused_before_anything_is_sent() {
    for names in [&[][..], &["a", "a"]] {
        let started = Controller::start(names.iter().copied()).await;
        assert!(matches!(started, Err(BarrierError::Nodes { nodes }) if nodes == names.len()));
    }
    let controller = Controller::start(["a"]).await.unwrap();
    let mut a = join(&controller, "a").await;
    for label in ["", " ", "trailing ", "two words", "line\nfeed"] {
        let failed = a.barrier(label, LONG).await;
        assert!(matches!(failed, Err(BarrierError::BadText { text }) if text == label));
        let failed = controller.wait(label, LONG).await;
        assert!(matches!(failed, Err(BarrierError::BadText { .. })));
    }
    soon(a.barrier("fine", LONG)).await.unwrap();
}

#[tokio::test]
async fn strangers_and_doubles_are_refused_at_the_join() {
    let controller = Controller::start(["a"]).await.unwrap();
    let _a = join(&controller, "a").await;
    for name in ["a", "stranger"] {
        match soon(Participant::join(controller.address(), name)).await {
            Err(BarrierError::Refused { reason }) => assert!(reason.contains(name), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(controller.present().into_iter().collect::<Vec<_>>(), ["a"]);
}

#[tokio::test]
async fn garbage_ends_the_link_that_brings_it_and_no_other() {
    let controller = Controller::start(["a", "b"]).await.unwrap();
    let mut b = join(&controller, "b").await;
    let endless = [b'x'; 5_000];
    for garbage in [&b"2 dance\n"[..], b"\n", b"\xff\xfe\n", b"2 barrier  60000\n", &endless] {
        let mut a = Spoken::join(&controller, "a").await;
        a.stream.write_all(garbage).await.unwrap();
        let told = a.hear().await;
        assert!(told.starts_with("0 malformed "), "{told:?} for {garbage:?}");
        assert_eq!(a.hear().await, "", "the link ends");
        gone(&controller, "a").await;
    }
    let mut early = Spoken::connect(&controller).await;
    early.say("1 barrier up 5").await;
    assert_eq!(early.hear().await, "0 malformed join first");
    let mut a = join(&controller, "a").await;
    let (at_a, at_b) =
        soon(async { tokio::join!(a.barrier("up", LONG), b.barrier("up", LONG)) }).await;
    assert_eq!(at_a.unwrap(), at_b.unwrap());
}

#[tokio::test]
async fn every_table_has_a_bound() {
    let mut settings = ControllerSettings::default();
    (settings.max_labels, settings.max_values, settings.max_links) = (1, 1, 2);
    settings.max_waiting = 2;
    settings.join_timeout = SHORT;
    let controller = Controller::start_with(["a", "b"], settings).await.unwrap();
    let mut a = Spoken::join(&controller, "a").await;
    a.say("2 put one 1\n3 put two 2").await;
    assert_eq!(a.hear().await, "2 stored");
    assert!(a.hear().await.starts_with("3 refused"));
    a.say("4 barrier one 60000\n5 barrier two 60000").await;
    assert!(a.hear().await.starts_with("5 refused"));
    a.say("6 get none 60000\n7 get none 60000").await;
    assert_eq!(a.hear().await, "7 refused too many requests wait");
    let mut silent = Spoken::connect(&controller).await;
    let mut beyond = Spoken::connect(&controller).await;
    assert_eq!(beyond.hear().await, "", "one link too many is closed at once");
    assert_eq!(silent.hear().await, "", "whoever does not join is closed in time");
}

#[tokio::test]
async fn other_machines_may_join_where_the_controller_is_told_to_listen() {
    let mut settings = ControllerSettings::default();
    settings.listen.set_ip([0, 0, 0, 0].into());
    let controller = Controller::start_with(["a"], settings).await.unwrap();
    assert!(controller.address().ip().is_unspecified());
    let port = controller.address().port();
    let mut a = soon(Participant::join(([127, 0, 0, 1], port).into(), "a")).await.unwrap();
    soon(a.barrier("up", LONG)).await.unwrap();
    let usual = Controller::start(["a"]).await.unwrap();
    assert!(usual.address().ip().is_loopback());
}

#[tokio::test]
async fn commands_reach_the_node_and_its_proxy() {
    let controller = Controller::start(["a"]).await.unwrap();
    let absent = controller.command("a", Command::Exit);
    assert!(matches!(absent, Err(BarrierError::NotThere { name }) if name == "a"));
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = FaultProxy::to(target.local_addr().unwrap()).await.unwrap();
    let mut a = join(&controller, "a").await;
    let (commands, handle) = (a.commands().unwrap(), proxy.handle().clone());
    assert!(a.commands().is_none(), "there is one who obeys");
    let obeying = tokio::spawn(async move { commands.obey(&handle).await });
    let mut near = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut far, _) = soon(target.accept()).await.unwrap();
    controller.command("a", Command::Blackhole).unwrap();
    eventually("the proxy stalls", LONG, || {
        format!("{:?}", proxy.handle()).contains("is_stalled: true")
    })
    .await;
    near.write_all(b"held").await.unwrap();
    controller.command("a", Command::Pass).unwrap();
    soon(far.read_exact(&mut [0; 4])).await.unwrap();
    controller.command("a", Command::Exit).unwrap();
    soon(obeying).await.unwrap();
}

#[tokio::test]
async fn a_controller_that_ends_ends_every_wait_at_once() {
    let controller = Controller::start(["a", "b", "c"]).await.unwrap();
    let address = controller.address();
    let mut a = join(&controller, "a").await;
    let waiting = tokio::spawn(async move { a.barrier("up", LONG).await });
    let mut c = Spoken::join(&controller, "c").await;
    c.say("2 barrier up 60000\n3 put key value").await;
    assert_eq!(c.hear().await, "3 stored", "so it waits at the barrier");
    controller.shutdown();
    assert_eq!(c.hear().await, "");
    assert!(matches!(soon(waiting).await.unwrap(), Err(BarrierError::ControllerDown)));
    let late = soon(Participant::join(address, "b")).await;
    assert!(matches!(late, Err(BarrierError::ControllerDown)));
}

#[tokio::test]
async fn a_controller_that_talks_nonsense_is_told_apart_from_one_that_is_down() {
    let said = |line: &'static str| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let speaking = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(line.as_bytes()).await.unwrap();
            stream
        };
        let (_stream, joined) = tokio::join!(speaking, Participant::join(address, "a"));
        joined.unwrap_err()
    };
    assert!(
        matches!(soon(said("hello\n")).await, BarrierError::Malformed { line } if line == "hello")
    );
    assert!(matches!(soon(said("1 stored\n")).await, BarrierError::Unexpected { .. }));
    assert!(matches!(soon(said("9 joined\n")).await, BarrierError::Unexpected { .. }));
    assert!(matches!(soon(said("0 malformed x\n")).await, BarrierError::NotUnderstood { .. }));
    assert!(matches!(soon(said("1 refused x\n")).await, BarrierError::Refused { .. }));
    let endless: &'static str = "x".repeat(70_000).leak();
    assert!(matches!(soon(said(endless)).await, BarrierError::Malformed { .. }));
}

// Virtual time runs ahead here as soon as nobody has anything to say.
#[tokio::test(start_paused = true)]
async fn a_controller_that_says_nothing_is_found_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let joined = Participant::join(listener.local_addr().unwrap(), "a").await;
    assert!(matches!(joined, Err(BarrierError::ControllerSilent(_))));
}

#[test]
fn a_dropped_controller_leaves_no_task_behind() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let controller = Controller::start(["a", "b"]).await.unwrap();
        let mut a = Spoken::join(&controller, "a").await;
        a.say("2 barrier up 60000").await;
        drop(controller);
        assert_eq!(a.hear().await, "");
        let is_over = || Handle::current().metrics().num_alive_tasks() == 0;
        eventually("every task has ended", LONG, is_over).await;
    });
}

/// Speaks the protocol by hand, as another language would.
struct Spoken {
    stream: BufReader<TcpStream>,
}

impl Spoken {
    async fn connect(controller: &Controller) -> Self {
        let stream = TcpStream::connect(controller.address()).await.unwrap();
        Self { stream: BufReader::new(stream) }
    }

    async fn join(controller: &Controller, name: &str) -> Self {
        let mut spoken = Self::connect(controller).await;
        spoken.say(&format!("1 join {name}")).await;
        assert_eq!(spoken.hear().await, "1 joined");
        spoken
    }

    async fn say(&mut self, lines: &str) {
        self.stream.write_all(format!("{lines}\n").as_bytes()).await.unwrap();
    }

    /// Hears a line; nothing at the end of the link, in order or not.
    async fn hear(&mut self) -> String {
        let mut line = String::new();
        drop(soon(self.stream.read_line(&mut line)).await);
        line.trim_end_matches('\n').to_owned()
    }
}

async fn join(controller: &Controller, name: &str) -> Participant {
    soon(Participant::join(controller.address(), name)).await.unwrap()
}

async fn gone(controller: &Controller, name: &str) {
    eventually("it is gone", LONG, || !controller.present().contains(name)).await;
}

/// Gives who arrived and who was missing.
fn timed_out<T: std::fmt::Debug>(result: Result<T, BarrierError>) -> (String, String) {
    match result {
        Err(BarrierError::TimedOut { arrivals, .. }) => {
            let list = |names: std::collections::BTreeSet<String>| {
                names.into_iter().collect::<Vec<_>>().join(",")
            };
            (list(arrivals.arrived), list(arrivals.missing))
        }
        other => panic!("a time-out was due, not {other:?}"),
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it happens in time")
}

/// A deadline that a test waits for.
const SHORT: Duration = Duration::from_millis(100);
/// A deadline that no test may live to see.
const LONG: Duration = Duration::from_secs(90);
