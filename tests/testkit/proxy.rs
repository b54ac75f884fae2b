//! Holds the fault proxy to its promises over real sockets, and shows a node living behind one.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::future::Future;
use std::io::ErrorKind;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use tellwire::testkit::proxy::{Cut, Detours, Direction, Drip, Flow, Mesh};
use tellwire::testkit::{FaultProxy, eventually};
use tellwire::{Node, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::time::Instant;

#[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
struct Count(u32);

tellwire::remote_messages! {
    table COUNTS, codec = tellwire::codec::Bincode;
    "proxy.v1.Count" => Count,
}

#[tokio::test]
async fn without_faults_bytes_pass_both_ways_to_their_end() {
    let (proxy, _target, mut near, mut far) = linked().await;
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(soon(rest(&mut far)).await, b"question");
    far.write_all(b"answer").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(soon(rest(&mut near)).await, b"answer");
    eventually("no link is left", PATIENCE, || proxy.handle().links() == 0).await;
}

#[tokio::test]
async fn a_stall_holds_one_direction_back_and_loses_nothing() {
    let (proxy, _target, mut near, mut far) = linked().await;
    proxy.handle().stall(Direction::ToTarget);
    near.write_all(b"held").await.unwrap();
    far.write_all(b"free").await.unwrap();
    assert_eq!(read(&mut near, 4).await, b"free");
    let early = tokio::time::timeout(Duration::from_millis(50), far.read_u8()).await;
    assert!(early.is_err(), "{early:?} passed a stall");
    proxy.handle().pass();
    assert_eq!(read(&mut far, 4).await, b"held");
}

#[tokio::test]
async fn a_stalled_writer_is_held_back_in_the_end() {
    let (proxy, _target, mut near, mut far) = linked().await;
    proxy.handle().blackhole();
    let chunk = vec![7; 64 * 1024];
    let mut taken = 0;
    let patience = Duration::from_millis(200);
    while let Ok(written) = tokio::time::timeout(patience, near.write(&chunk)).await {
        taken += written.unwrap();
        assert!(taken < 64 << 20, "nothing bounds what the proxy holds");
    }
    proxy.handle().pass();
    assert!(read(&mut far, taken).await.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn latency_bandwidth_and_drip_take_at_least_their_time() {
    let (proxy, _target, mut near, mut far) = linked().await;
    let mut flow = Flow::default();
    (flow.latency, flow.jitter) = (Duration::from_millis(60), Duration::from_millis(5));
    proxy.handle().set_flow(Direction::ToTarget, flow);
    assert!(time_to_pass(&mut near, &mut far, 10).await >= Duration::from_millis(60));

    let mut flow = Flow::default();
    flow.bandwidth = NonZeroU64::new(100_000);
    proxy.handle().set_flow(Direction::ToTarget, flow);
    assert!(time_to_pass(&mut near, &mut far, 10_000).await >= Duration::from_millis(99));

    let mut flow = Flow::default();
    let bytes = NonZeroUsize::new(2).unwrap();
    flow.drip = Some(Drip { bytes, every: Duration::from_millis(10) });
    proxy.handle().set_flow(Direction::ToTarget, flow);
    assert!(time_to_pass(&mut near, &mut far, 20).await >= Duration::from_millis(90));
}

#[tokio::test]
async fn a_half_close_ends_one_direction_alone() {
    let (proxy, _target, mut near, mut far) = linked().await;
    near.write_all(b"before").await.unwrap();
    assert_eq!(read(&mut far, 6).await, b"before");
    proxy.handle().half_close(Direction::ToTarget);
    assert_eq!(soon(rest(&mut far)).await, b"");
    near.write_all(b"into nowhere").await.unwrap();
    far.write_all(b"still here").await.unwrap();
    assert_eq!(read(&mut near, 10).await, b"still here");
    // Links made later are whole.
    let mut later = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut at, _) = soon(_target.accept()).await.unwrap();
    later.write_all(b"whole").await.unwrap();
    assert_eq!(read(&mut at, 5).await, b"whole");
}

#[tokio::test]
async fn a_reset_strikes_both_sides_and_leaves_new_links_alone() {
    let (proxy, target, mut near, mut far) = linked().await;
    proxy.handle().reset();
    for stream in [&mut near, &mut far] {
        let read = soon(stream.read(&mut [0])).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let mut near = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut far, _) = soon(target.accept()).await.unwrap();
    near.write_all(b"new").await.unwrap();
    assert_eq!(read(&mut far, 3).await, b"new");
}

#[tokio::test]
async fn corruption_changes_bytes_and_neither_adds_nor_drops_any() {
    let (proxy, _target, mut near, mut far) = linked().await;
    let mut flow = Flow::default();
    flow.corruption = 1.0;
    proxy.handle().set_flow(Direction::ToTarget, flow);
    near.write_all(&[0; 1000]).await.unwrap();
    near.shutdown().await.unwrap();
    let came = soon(rest(&mut far)).await;
    assert_eq!(came.len(), 1000);
    assert!(came.iter().any(|byte| *byte != 0));
}

#[tokio::test]
async fn new_links_are_refused_while_there_is_no_target_or_on_demand() {
    let proxy = FaultProxy::bind().await.unwrap();
    is_refused(&proxy).await;
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    proxy.handle().set_target(target.local_addr().unwrap());
    let mut near = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut far, _) = soon(target.accept()).await.unwrap();
    proxy.handle().refuse();
    is_refused(&proxy).await;
    near.write_all(b"open links stay").await.unwrap();
    assert_eq!(read(&mut far, 15).await, b"open links stay");
    drop(target);
    proxy.handle().pass();
    is_refused(&proxy).await;
}

#[test]
fn a_dropped_proxy_ends_its_links_and_tasks() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (proxy, _target, mut near, _far) = linked().await;
        let (handle, address) = (proxy.handle().clone(), proxy.address());
        proxy.handle().blackhole();
        drop(proxy);
        assert!(soon(near.read(&mut [0])).await.is_err());
        let is_over = || Handle::current().metrics().num_alive_tasks() == 0;
        eventually("every task has ended", PATIENCE, is_over).await;
        assert!(TcpStream::connect(address).await.is_err());
        handle.pass();
        assert_eq!(handle.links(), 0);
    });
}

#[tokio::test]
async fn a_node_behind_a_proxy_outlives_its_faults() {
    let proxy = FaultProxy::bind().await.unwrap();
    let front = format!("tcp://{}", proxy.address());
    let builder = || Node::builder("Test").listen("tcp://127.0.0.1:0").settings(Settings::local());
    let (counts, mut inbox) = tokio::sync::mpsc::channel(64);
    let ada = builder().advertise(&front).start().await.unwrap();
    proxy.handle().set_target(([127, 0, 0, 1], ada.listens_on().port()).into());
    assert_eq!(ada.address().endpoint().to_string(), front);
    let path = ada.register::<Count, _>("/user/counter", counts).unwrap();
    let bob = builder().start().await.unwrap();
    let to_ada = bob.resolve(path).unwrap();
    to_ada.tell(&Count(1)).unwrap();
    assert_eq!(soon(inbox.recv()).await, Some(Count(1)));
    proxy.handle().reset();
    // What is told before the reset is noticed may be lost with the link.
    let arrived = async {
        loop {
            to_ada.tell(&Count(2)).unwrap();
            match tokio::time::timeout(Duration::from_millis(50), inbox.recv()).await {
                Ok(count) => return count,
                Err(_) => continue,
            }
        }
    };
    assert_eq!(soon(arrived).await, Some(Count(2)));
}

#[tokio::test]
async fn a_mesh_parts_each_pair_of_nodes_by_itself_and_either_way() {
    let mesh = Mesh::start(3).await.unwrap();
    let (mut nodes, mut inboxes) = (Vec::new(), Vec::new());
    for number in 0..3 {
        // As a process reads it from its environment.
        let detours: Detours = mesh.detours(number).to_string().parse().unwrap();
        let node = Node::builder("Test").listen("tcp://127.0.0.1:0").transport(detours);
        let node = node.advertise(mesh.endpoint(number)).settings(Settings::local());
        let node = node.start().await.unwrap();
        mesh.set_target(number, ([127, 0, 0, 1], node.listens_on().port()).into());
        let (counts, inbox) = tokio::sync::mpsc::channel(64);
        node.register::<Count, _>("/user/counter", counts).unwrap();
        nodes.push(node);
        inboxes.push(inbox);
    }
    let tell = |from: usize, to: usize, count: u32| {
        let path = nodes[to].path("/user/counter").unwrap();
        nodes[from].resolve(path).unwrap().tell(&Count(count)).unwrap();
    };
    let ways = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)];
    for (from, to) in ways {
        tell(from, to, 1);
        assert_eq!(soon(inboxes[to].recv()).await, Some(Count(1)), "from {from} to {to}");
    }

    mesh.deafen(0, 1);
    tell(0, 1, 2);
    tell(1, 0, 3);
    tell(2, 1, 4);
    assert_eq!(soon(inboxes[0].recv()).await, Some(Count(3)));
    assert_eq!(soon(inboxes[1].recv()).await, Some(Count(4)));
    mesh.heal();
    assert_eq!(soon(inboxes[1].recv()).await, Some(Count(2)));

    mesh.split(&[2], Cut::Silent);
    tell(0, 2, 5);
    tell(0, 1, 6);
    assert_eq!(soon(inboxes[1].recv()).await, Some(Count(6)));
    assert!(inboxes[2].try_recv().is_err());
    mesh.heal();
    assert_eq!(soon(inboxes[2].recv()).await, Some(Count(5)));

    mesh.cut(1, 2, Cut::Reset);
    eventually("the reset is noticed", PATIENCE, || {
        mesh.way(1, 2).links() + mesh.way(2, 1).links() == 0
    })
    .await;
    mesh.heal();
    // What is told before the reset is noticed may be lost with the link.
    let arrived = async {
        loop {
            tell(1, 2, 7);
            if let Ok(count) = tokio::time::timeout(SHORT, inboxes[2].recv()).await {
                return count;
            }
        }
    };
    assert_eq!(soon(arrived).await, Some(Count(7)));
}

/// Gives a proxy, its target, and both ends of a link through it.
async fn linked() -> (FaultProxy, TcpListener, TcpStream, TcpStream) {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = FaultProxy::to(target.local_addr().unwrap()).await.unwrap();
    let near = TcpStream::connect(proxy.address()).await.unwrap();
    let (far, _) = soon(target.accept()).await.unwrap();
    (proxy, target, near, far)
}

async fn time_to_pass(near: &mut TcpStream, far: &mut TcpStream, bytes: usize) -> Duration {
    let start = Instant::now();
    near.write_all(&vec![1; bytes]).await.unwrap();
    read(far, bytes).await;
    start.elapsed()
}

async fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut into = vec![0; bytes];
    soon(stream.read_exact(&mut into)).await.unwrap();
    into
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut into = Vec::new();
    stream.read_to_end(&mut into).await.unwrap();
    into
}

async fn is_refused(proxy: &FaultProxy) {
    let refused = async {
        match TcpStream::connect(proxy.address()).await {
            Ok(mut stream) => stream.read(&mut [0]).await.is_err(),
            Err(_) => true,
        }
    };
    assert!(soon(refused).await, "the link was not refused");
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens in time")
}

/// A time that is over soon, for what may have been lost.
const SHORT: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);
