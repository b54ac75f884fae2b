//! Is the transport of a network's nodes: knows who listens, makes links, and breaks them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::carrier::{Route, carry};
use super::conditions::{Rules, Way};
use super::invariants::HeldLink;
use super::trace::Trace;
use super::watch::Watch;
use crate::address::{Address, Endpoint};
use crate::transport::{Link, Listener, Privacy, Transport, TransportError};

/// Knows who listens, which links there are, and what the rules are.
#[derive(Debug)]
pub(super) struct Fabric {
    pub(super) places: Vec<Address>,
    pub(super) rules: Arc<Board>,
    pub(super) trace: Arc<Trace>,
    pub(super) watch: Arc<Watch>,
    listening: Mutex<BTreeMap<usize, Queue>>,
    links: Mutex<Links>,
    rng: Mutex<fastrand::Rng>,
}

/// Holds the links that wait to be accepted by one node.
#[derive(Debug)]
struct Queue {
    /// Tells one run of the node from the next.
    run: u64,
    links: mpsc::Sender<Link>,
}

#[derive(Debug, Default)]
struct Links {
    last: u64,
    open: BTreeMap<u64, Open>,
}

/// Is a link that is not ended yet.
#[derive(Debug)]
struct Open {
    way: Way,
    since: Instant,
    broken: CancellationToken,
    /// Whether the dialler and the acceptor still hold their ends.
    held: [Weak<()>; 2],
}

impl Fabric {
    pub(super) fn new(
        places: Vec<Address>,
        rules: Rules,
        trace: Trace,
        watch: Watch,
        seed: u64,
    ) -> Self {
        Self {
            places,
            rules: Arc::new(Board::new(rules)),
            trace: Arc::new(trace),
            watch: Arc::new(watch),
            listening: Mutex::default(),
            links: Mutex::default(),
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
        }
    }

    /// Draws 64 bits from the network's seed.
    pub(super) fn draw(&self) -> u64 {
        lock(&self.rng).u64(..)
    }

    /// Tells whether somebody listens at a place.
    pub(super) fn is_live(&self, node: usize) -> bool {
        lock(&self.listening).get(&node).is_some_and(|queue| !queue.links.is_closed())
    }

    /// Refuses links to a node from now on, and breaks those it has.
    pub(super) fn take_down(&self, node: usize) {
        lock(&self.listening).remove(&node);
        self.break_links(|way| way.touches(node));
    }

    /// Breaks links at once: what is under way on them is gone, and both sides read a reset.
    pub(super) fn break_links(&self, is_struck: impl Fn(Way) -> bool) {
        let links = lock(&self.links);
        let struck = links.open.values().filter(|open| is_struck(open.way));
        let broken: Vec<_> = struck.map(|open| open.broken.clone()).collect();
        // Outside the lock, since a link that ends takes itself off the list.
        drop(links);
        for link in broken {
            link.cancel();
        }
    }

    /// Gives the links that nodes hold, the older ones first, but for those that are broken.
    pub(super) fn held_links(&self) -> Vec<HeldLink> {
        let links = lock(&self.links);
        let open = links.open.iter().filter(|(_, open)| !open.broken.is_cancelled());
        let held = open.flat_map(|(link, open)| {
            let (link, age) = (*link, open.since.elapsed());
            let ways = [open.way, open.way.back()].into_iter().zip(&open.held);
            let held = ways.filter(|(_, end)| end.strong_count() > 0);
            held.map(move |(way, _)| HeldLink { node: way.from, peer: way.to, link, age })
        });
        held.collect()
    }

    fn place(&self, endpoint: &Endpoint) -> Option<usize> {
        self.places.iter().position(|place| place.endpoint() == *endpoint)
    }

    /// Waits until both directions are open, and as long as a first round trip takes.
    async fn round_trip(&self, way: Way) {
        for way in [way, way.back()] {
            self.rules.opens(way).await;
            let latency = self.rules.read().conditions(way).latency;
            tokio::time::sleep(latency).await;
        }
    }

    /// Makes a link and puts the far end into the queue of the node dialled.
    fn connect(self: &Arc<Self>, way: Way) -> Result<Link, &'static str> {
        if self.rules.read().is_closed {
            return Err("the network is gone");
        }
        let listening = lock(&self.listening);
        let queue = listening.get(&way.to).ok_or("nobody listens there")?;
        let permit = queue.links.try_reserve().map_err(|_| "it takes no more links")?;
        let (near, far) = self.link(way);
        permit.send(far);
        Ok(near)
    }

    fn link(self: &Arc<Self>, way: Way) -> (Link, Link) {
        let broken = CancellationToken::new();
        let (near, far) = (Arc::new(()), Arc::new(()));
        let number = {
            let mut links = lock(&self.links);
            links.last += 1;
            let number = links.last;
            let held = [&near, &far].map(Arc::downgrade);
            let open = Open { way, since: Instant::now(), broken: broken.clone(), held };
            links.open.insert(number, open);
            number
        };
        self.trace.note(format_args!("{way} #{number} link"));
        let guard = Arc::new(LinkGuard { fabric: Arc::downgrade(self), number });
        let pipe = |way: Way, [from, to]: [&Arc<()>; 2]| {
            let ((writer, input), (output, reader)) =
                (tokio::io::duplex(PIPE), tokio::io::duplex(PIPE));
            let route = Route {
                way,
                link: number,
                rules: Arc::clone(&self.rules),
                trace: Arc::clone(&self.trace),
                watch: Arc::clone(&self.watch),
                rng: fastrand::Rng::with_seed(self.draw()),
                broken: broken.clone(),
                _guard: Arc::clone(&guard),
            };
            tokio::spawn(carry(route, input, output));
            let end =
                |stream, held| End { stream, broken: broken.clone(), _held: Arc::clone(held) };
            (end(writer, from), end(reader, to))
        };
        let (near_out, far_in) = pipe(way, [&near, &far]);
        let (far_out, near_in) = pipe(way.back(), [&far, &near]);
        let near = Link::new(near_in, near_out, self.name(way.to));
        (near, Link::new(far_in, far_out, self.name(way.from)))
    }

    fn name(&self, node: usize) -> String {
        self.places.get(node).map(ToString::to_string).unwrap_or_default()
    }
}

/// Takes a link off the list when both of its directions have ended.
#[derive(Debug)]
pub(super) struct LinkGuard {
    fabric: Weak<Fabric>,
    number: u64,
}

impl Drop for LinkGuard {
    fn drop(&mut self) {
        if let Some(fabric) = self.fabric.upgrade() {
            lock(&fabric.links).open.remove(&self.number);
        }
    }
}

/// Is the network as one node sees it.
#[derive(Debug)]
pub(super) struct NodeTransport {
    pub(super) fabric: Arc<Fabric>,
    pub(super) node: usize,
}

#[async_trait]
impl Transport for NodeTransport {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn privacy(&self) -> Privacy {
        Privacy::Local
    }

    async fn listen(&self, at: &Endpoint) -> Result<Box<dyn Listener>, TransportError> {
        TransportError::check_scheme(SCHEME, at.scheme())?;
        if self.fabric.place(at) != Some(self.node) {
            let why = "a node of this network listens at its own place";
            let source = io::Error::new(io::ErrorKind::AddrNotAvailable, why);
            return Err(TransportError::Bind { endpoint: at.clone(), source });
        }
        let mut listening = lock(&self.fabric.listening);
        if listening.get(&self.node).is_some_and(|queue| !queue.links.is_closed()) {
            return Err(TransportError::AddressInUse { endpoint: at.clone() });
        }
        let (links, incoming) = mpsc::channel(BACKLOG);
        let run = self.fabric.draw();
        listening.insert(self.node, Queue { run, links });
        let (fabric, endpoint) = (Arc::clone(&self.fabric), at.clone());
        Ok(Box::new(NodeListener { fabric, node: self.node, run, endpoint, incoming }))
    }

    async fn dial(&self, to: &Address) -> Result<Link, TransportError> {
        TransportError::check_scheme(SCHEME, to.scheme())?;
        let endpoint = to.endpoint();
        let refused = |reason| TransportError::Unreachable {
            endpoint: endpoint.clone(),
            source: io::Error::new(io::ErrorKind::ConnectionRefused, reason),
        };
        let place = self.fabric.place(&endpoint);
        let to = place.ok_or_else(|| refused("the address is not in this network"))?;
        let way = Way { from: self.node, to };
        self.fabric.round_trip(way).await;
        self.fabric.connect(way).map_err(refused)
    }
}

/// Takes the links that are dialled to one node.
struct NodeListener {
    fabric: Arc<Fabric>,
    node: usize,
    run: u64,
    endpoint: Endpoint,
    incoming: mpsc::Receiver<Link>,
}

#[async_trait]
impl Listener for NodeListener {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    async fn accept(&mut self) -> Result<Link, TransportError> {
        self.incoming.recv().await.ok_or(TransportError::Closed)
    }
}

impl Drop for NodeListener {
    fn drop(&mut self) {
        let mut listening = lock(&self.fabric.listening);
        if listening.get(&self.node).is_some_and(|queue| queue.run == self.run) {
            listening.remove(&self.node);
        }
    }
}

impl fmt::Debug for NodeListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeListener").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Is one end of one direction of a link; once the link is broken, every use of it fails.
#[derive(Debug)]
struct End {
    stream: DuplexStream,
    broken: CancellationToken,
    /// Shows that the node still holds this side of the link.
    _held: Arc<()>,
}

impl End {
    /// Asks the stream, unless the link is broken or breaks by it.
    fn unless_broken<T>(
        &mut self,
        ask: impl FnOnce(Pin<&mut DuplexStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.broken.is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        ask(Pin::new(&mut self.stream))
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.unless_broken(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unless_broken(|stream| stream.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_broken(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_broken(|stream| stream.poll_shutdown(cx))
    }
}

/// Locks past poisoning: nothing here is left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) const SCHEME: &str = "mem";
/// Bytes in each of the two pipes of a direction.
const PIPE: usize = 64 * 1024;
/// Links that wait to be accepted by one node.
const BACKLOG: usize = 128;
