//! Starts nodes on either transport, and waits for what a test expects, always under a deadline.
#![allow(dead_code, reason = "each test binary uses its part of this file")]

mod either;
mod wrapped;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tellwire::address::Address;
use tellwire::event::{DeadLetter, NodeEvent};
use tellwire::node::{
    AssociationSnapshot, DeadLetterStream, EventStream, NodeBuilder, Observed, StartError,
};
use tellwire::transport::{InProcessNetwork, Transport, TransportError};
use tellwire::{Node, Settings};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

#[allow(unused_imports, reason = "each test binary uses its part of this file")]
pub(crate) use either::Recorder;
#[allow(unused_imports, reason = "each test binary uses its part of this file")]
pub(crate) use wrapped::Wrapped;

/// A message with its place in its sender's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) from: u32,
    pub(crate) seq: u64,
}

/// A message of another type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Text(pub(crate) String);

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Double(pub(crate) u64);

/// The reply to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Doubled(pub(crate) u64);

tellwire::remote_messages! {
    /// What every node of these tests understands.
    pub(crate) table COMMON, codec = tellwire::codec::Bincode;
    "test.v1.Note" => Note,
    "test.v1.Text" => Text,
    "test.v1.Double" => Double,
    "test.v1.Doubled" => Doubled,
}

/// The network of one test: both kinds keep the same promises.
#[derive(Debug, Clone)]
pub(crate) enum Net {
    Tcp,
    Mem(InProcessNetwork),
}

/// Runs a test over each transport.
pub(crate) async fn on_both<F: AsyncFn(Net)>(test: F) {
    for net in [Net::Tcp, Net::Mem(InProcessNetwork::new())] {
        // Shown only when the test fails.
        eprintln!("over {net:?}");
        within("the whole test", test(net)).await;
    }
}

impl Net {
    /// Begins a node at a free port, with short time-outs.
    pub(crate) fn builder(&self) -> NodeBuilder {
        self.builder_at(match self {
            Self::Tcp => "tcp://127.0.0.1:0",
            Self::Mem(_) => "mem://node:0",
        })
    }

    /// Begins a node at an endpoint.
    pub(crate) fn builder_at(&self, endpoint: impl ToString) -> NodeBuilder {
        let builder = Node::builder(SYSTEM).listen(endpoint).settings(Settings::local());
        match self {
            Self::Tcp => builder,
            Self::Mem(network) => builder.transport(network.clone()),
        }
    }

    /// Starts a node.
    pub(crate) async fn node(&self) -> Node {
        self.builder().start().await.unwrap()
    }

    /// Starts two nodes.
    pub(crate) async fn pair(&self) -> (Node, Node) {
        (self.node().await, self.node().await)
    }

    /// Starts a node where another one has just ended; its port may be free a moment later.
    pub(crate) async fn restart(&self, address: &Address) -> Node {
        self.restart_with(address, |builder| builder).await
    }

    /// As `restart`, with something more said to the builder.
    pub(crate) async fn restart_with(
        &self,
        address: &Address,
        with: impl Fn(NodeBuilder) -> NodeBuilder,
    ) -> Node {
        let starting = async {
            loop {
                match with(self.builder_at(address.endpoint())).start().await {
                    Err(StartError::Transport(TransportError::AddressInUse { .. })) => {
                        pause().await
                    }
                    started => return started.unwrap(),
                }
            }
        };
        within("the port to be free", starting).await
    }

    /// Gives an address where nobody listens, and nobody else will while the value lives.
    pub(crate) fn nobody(&self) -> Nobody {
        match self {
            Self::Mem(_) => Nobody { address: "mem://Test@nobody:1".parse().unwrap(), _held: None },
            Self::Tcp => {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
                let port = socket.local_addr().unwrap().port();
                let address = Address::new("tcp", SYSTEM, "127.0.0.1", port).unwrap();
                Nobody { address, _held: Some(socket) }
            }
        }
    }

    /// Begins a node at a free port that uses the given transport.
    pub(crate) fn builder_over(&self, transport: impl Transport) -> NodeBuilder {
        let endpoint = match self {
            Self::Tcp => "tcp://127.0.0.1:0",
            Self::Mem(_) => "mem://node:0",
        };
        let builder = Node::builder(SYSTEM).listen(endpoint).settings(Settings::local());
        builder.transport(transport)
    }
}

/// Keeps an address that refuses links.
#[derive(Debug)]
pub(crate) struct Nobody {
    pub(crate) address: Address,
    _held: Option<TcpSocket>,
}

impl Nobody {
    /// Gives the path of an actor that is not there.
    pub(crate) fn path(&self, local: &str) -> String {
        format!("{}{local}", self.address)
    }
}

/// Receives what a mailbox of [`collector`] was given.
pub(crate) struct Collected<M>(mpsc::UnboundedReceiver<M>);

/// Makes a closure mailbox that takes everything, and what reads it.
pub(crate) fn collector<M: Send + 'static>()
-> (impl Fn(M) + Clone + Send + Sync + 'static, Collected<M>) {
    let (tx, rx) = mpsc::unbounded_channel();
    // A test that has seen enough drops the receiver.
    (move |message| drop(tx.send(message)), Collected(rx))
}

impl<M: fmt::Debug> Collected<M> {
    /// Gives the next message.
    pub(crate) async fn next(&mut self) -> M {
        within("the next message", self.0.recv()).await.unwrap()
    }

    /// Gives the next message if it has come.
    pub(crate) fn try_next(&mut self) -> Option<M> {
        self.0.try_recv().ok()
    }

    /// Gives the next `count` messages.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<M> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            taken.push(self.next().await);
        }
        taken
    }

    /// Gives what has come by now.
    pub(crate) fn drain(&mut self) -> Vec<M> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }

    /// Waits until every mailbox that feeds this is gone, and shows what came before.
    pub(crate) async fn rest(&mut self) -> Vec<M> {
        let mut rest = Vec::new();
        while let Some(message) = within("the mailboxes to end", self.0.recv()).await {
            rest.push(message);
        }
        rest
    }
}

/// Waits for the next dead letter.
pub(crate) async fn letter(letters: &mut DeadLetterStream) -> DeadLetter {
    match within("a dead letter", letters.next()).await {
        Some(Observed::Item(letter)) => letter,
        other => panic!("no dead letter but {other:?}"),
    }
}

/// Waits for the next event that `pick` wants, and gives what it makes of it.
pub(crate) async fn event<T>(events: &mut EventStream, pick: impl Fn(NodeEvent) -> Option<T>) -> T {
    loop {
        match within("an event", events.next()).await {
            Some(Observed::Item(event)) => {
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
            other => panic!("no event but {other:?}"),
        }
    }
}

/// Gives the association of `node` with `peer`.
pub(crate) fn association(node: &Node, peer: &Address) -> AssociationSnapshot {
    let mut all = node.associations().into_iter();
    all.find(|association| association.address == *peer).unwrap()
}

/// Waits until every tell of `sender` was delivered at `receiver` or is a dead letter of either.
pub(crate) async fn until_accounted(sender: &Node, receiver: &Node) {
    let balance = || {
        let (from, to) = (sender.stats(), receiver.stats());
        let letters = from.dead_letters_total() + to.dead_letters_total();
        (from.tells_sent, to.delivered + letters)
    };
    until(&format!("{sender:?} to be even with {receiver:?}"), || {
        let (sent, ended) = balance();
        assert!(ended <= sent, "more ends than tells: {ended} > {sent}");
        ended == sent
    })
    .await;
}

/// Waits until something that has no wake-up of its own is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let polling = async {
        while !is_so() {
            pause().await;
        }
    };
    within(what, polling).await;
}

/// Fails the test if `future` takes unreasonably long.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Lets others run before the next look.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// The system of every node here.
pub(crate) const SYSTEM: &str = "Test";
/// Far more than anything here takes; a hang ends with a name.
const PATIENCE: Duration = Duration::from_secs(30);
/// A deadline that no test may live to see.
pub(crate) const LONG: Duration = Duration::from_secs(90);
