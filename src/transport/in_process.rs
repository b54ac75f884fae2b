//! Links nodes that live in one process, through memory: scheme `mem`.
//!
//! For tests, for examples, and for several nodes in one program. It is the smallest complete
//! [`Transport`], so it also shows what a new one has to bring. An [`InProcessNetwork`] is a
//! value: nodes that hold clones of the same one see each other, and two networks side by side
//! share nothing, so tests run in parallel with the same addresses.
//!
//! ```text
//!   dial ──► registry: endpoint → bounded queue ──► accept
//!              pipe →  [ at most pipe_capacity bytes ]  →
//!              pipe ←  [ at most pipe_capacity bytes ]  ←
//! ```
//!
//! Nothing is delayed, lost or reordered here; faults are for the testkit to add.

use std::{
    collections::HashMap,
    fmt, io,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Link, Listener, Privacy, Transport, TransportError};
use crate::address::{Address, Endpoint};

/// Connects the nodes of one process; clones are the same network.
#[derive(Clone, Default)]
pub struct InProcessNetwork {
    settings: InProcessSettings,
    registry: Arc<Mutex<Registry>>,
}

/// Bounds what an [`InProcessNetwork`] may hold.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InProcessSettings {
    /// Limits the bytes under way in one direction of a link before its writer waits.
    ///
    /// Default 256 KiB, about what TCP keeps in flight on a loopback. Memory is taken as bytes
    /// arrive: at most twice this per link.
    pub pipe_capacity: NonZeroUsize,

    /// Limits the links that wait to be accepted at one listener; more are refused.
    ///
    /// Default 128.
    pub accept_backlog: NonZeroUsize,
}

impl Default for InProcessSettings {
    fn default() -> Self {
        Self { pipe_capacity: PIPE_CAPACITY, accept_backlog: ACCEPT_BACKLOG }
    }
}

impl InProcessNetwork {
    /// Creates an empty network with default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an empty network with these settings.
    pub fn with_settings(settings: InProcessSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    /// Opens two pipes and gives each side the ends it needs.
    ///
    /// A pipe is a duplex stream used one way, because its ends close on their own: dropping
    /// the writing end ends the reading one after the last byte, and the other way round writes
    /// fail.
    fn connect(&self, dialled: &Endpoint, number: u64) -> (Link, Link) {
        let capacity = self.settings.pipe_capacity.get();
        let (to_acceptor, from_dialler) = tokio::io::duplex(capacity);
        let (to_dialler, from_acceptor) = tokio::io::duplex(capacity);
        let near = Link::new(from_acceptor, to_acceptor, dialled.to_string());
        let far = Link::new(from_dialler, to_dialler, format!("{SCHEME}:dialler-{number}"));
        (near, far)
    }
}

#[async_trait]
impl Transport for InProcessNetwork {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn privacy(&self) -> Privacy {
        Privacy::Local
    }

    async fn listen(&self, at: &Endpoint) -> Result<Box<dyn Listener>, TransportError> {
        TransportError::check_scheme(SCHEME, at.scheme())?;
        let (queue, incoming) = mpsc::channel(self.settings.accept_backlog.get());
        let (endpoint, generation) = self.registry().register(at, queue)?;
        let registry = Arc::clone(&self.registry);
        Ok(Box::new(InProcessListener { endpoint, generation, incoming, registry }))
    }

    async fn dial(&self, to: &Address) -> Result<Link, TransportError> {
        TransportError::check_scheme(SCHEME, to.scheme())?;
        let endpoint = to.endpoint();
        let Some((queue, number)) = self.registry().find(&endpoint) else {
            return Err(refused(endpoint, "nobody listens there"));
        };
        let (near, far) = self.connect(&endpoint, number);
        match queue.try_send(far) {
            Ok(()) => Ok(near),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(refused(endpoint, "its accept queue is full"))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(refused(endpoint, "its listener is going away"))
            }
        }
    }
}

impl fmt::Debug for InProcessNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessNetwork")
            .field("settings", &self.settings)
            .field("listeners", &self.registry().slots.len())
            .finish_non_exhaustive()
    }
}

/// Takes the links dialled to one endpoint.
struct InProcessListener {
    endpoint: Endpoint,
    /// Which registration of the endpoint is ours to remove.
    generation: u64,
    incoming: mpsc::Receiver<Link>,
    registry: Arc<Mutex<Registry>>,
}

#[async_trait]
impl Listener for InProcessListener {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    async fn accept(&mut self) -> Result<Link, TransportError> {
        self.incoming.recv().await.ok_or(TransportError::Closed)
    }
}

impl Drop for InProcessListener {
    fn drop(&mut self) {
        lock(&self.registry).remove(&self.endpoint, self.generation);
    }
}

impl fmt::Debug for InProcessListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessListener")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Knows who listens where on one network.
#[derive(Default)]
struct Registry {
    slots: HashMap<Endpoint, Slot>,
    generations: u64,
    dials: u64,
    /// Port handed out last; the search goes on behind it, so that a port just freed is not the
    /// next one given away and a late dialler does not meet a stranger there.
    last_port: u16,
}

struct Slot {
    generation: u64,
    queue: mpsc::Sender<Link>,
}

impl Registry {
    fn register(
        &mut self,
        at: &Endpoint,
        queue: mpsc::Sender<Link>,
    ) -> Result<(Endpoint, u64), TransportError> {
        let endpoint = if at.port() == 0 { self.with_free_port(at)? } else { at.clone() };
        if self.slots.contains_key(&endpoint) {
            return Err(TransportError::AddressInUse { endpoint });
        }
        self.generations += 1;
        let generation = self.generations;
        self.slots.insert(endpoint.clone(), Slot { generation, queue });
        Ok((endpoint, generation))
    }

    fn with_free_port(&mut self, at: &Endpoint) -> Result<Endpoint, TransportError> {
        let taken = |port| self.slots.contains_key(&at.with_port(port));
        let Some(port) = free_port_after(self.last_port, taken) else {
            let source = io::Error::new(io::ErrorKind::AddrNotAvailable, "no free port");
            return Err(TransportError::Bind { endpoint: at.clone(), source });
        };
        self.last_port = port;
        Ok(at.with_port(port))
    }

    fn find(&mut self, endpoint: &Endpoint) -> Option<(mpsc::Sender<Link>, u64)> {
        let queue = self.slots.get(endpoint)?.queue.clone();
        self.dials += 1;
        Some((queue, self.dials))
    }

    fn remove(&mut self, endpoint: &Endpoint, generation: u64) {
        if self.slots.get(endpoint).is_some_and(|slot| slot.generation == generation) {
            self.slots.remove(endpoint);
        }
    }
}

fn free_port_after(last: u16, taken: impl Fn(u16) -> bool) -> Option<u16> {
    let behind = last.max(FIRST_PORT - 1).checked_add(1).unwrap_or(FIRST_PORT);
    (behind..=u16::MAX).chain(FIRST_PORT..behind).find(|port| !taken(*port))
}

fn refused(endpoint: Endpoint, reason: &'static str) -> TransportError {
    let source = io::Error::new(io::ErrorKind::ConnectionRefused, reason);
    TransportError::Unreachable { endpoint, source }
}

/// Locks past poisoning: no method of the registry leaves it half changed.
fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

const SCHEME: &str = "mem";
/// Start of the dynamic ports (RFC 6335, section 6); they go up to 65535.
const FIRST_PORT: u16 = 49152;
const PIPE_CAPACITY: NonZeroUsize = NonZeroUsize::new(256 * 1024).unwrap();
const ACCEPT_BACKLOG: NonZeroUsize = NonZeroUsize::new(128).unwrap();

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::{FIRST_PORT, Registry, free_port_after};
    use crate::address::Endpoint;

    fn endpoint() -> Endpoint {
        "mem://node:7".parse().unwrap()
    }

    #[test]
    fn removing_an_older_generation_leaves_the_newer_registration() {
        let mut registry = Registry::default();
        let (_, old) = registry.register(&endpoint(), mpsc::channel(1).0).unwrap();
        registry.remove(&endpoint(), old);
        let (_, new) = registry.register(&endpoint(), mpsc::channel(1).0).unwrap();
        registry.remove(&endpoint(), old);
        assert!(registry.find(&endpoint()).is_some());
        registry.remove(&endpoint(), new);
        assert!(registry.find(&endpoint()).is_none());
    }

    #[test]
    fn free_ports_are_dealt_round_and_run_out() {
        assert_eq!(free_port_after(0, |_| false), Some(FIRST_PORT));
        assert_eq!(free_port_after(FIRST_PORT, |_| false), Some(FIRST_PORT + 1));
        assert_eq!(free_port_after(u16::MAX, |_| false), Some(FIRST_PORT));
        assert_eq!(free_port_after(50_000, |port| port != 49_999), Some(49_999));
        assert_eq!(free_port_after(50_000, |_| true), None);
    }
}
