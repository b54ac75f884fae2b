//! Stands between two TCP sockets and breaks what passes, on demand: faults for nodes in processes of their own.
//!
//! ```text
//!   dialler ──► proxy.address() ──[ ToTarget   ]──► target
//!           ◄───────────────────[ FromTarget ]◄────
//! ```
//!
//! A node behind a proxy advertises the proxy's address in place of its own; a [`Mesh`] has one for each way between
//! several nodes. Each fault can be switched at any time
//! and strikes the links that are open as well. Time is real here, and what one seed draws still depends on how the
//! sockets cut the bytes; [`Network`](crate::testkit::Network) is for faults that must come again exactly.

#[cfg(feature = "tcp")]
mod detours;
mod flow;
mod link;
#[cfg(feature = "tcp")]
mod mesh;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

#[cfg(feature = "tcp")]
pub use self::detours::{DetourError, Detours};
pub use self::flow::{Direction, Drip, Flow};
use self::link::Strike;
#[cfg(feature = "tcp")]
pub use self::mesh::{Cut, Mesh};

/// Forwards links to a target, with faults. Dropping it ends every link and task of it.
///
/// ```
/// use tellwire::testkit::FaultProxy;
/// use tellwire::testkit::proxy::Direction;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let target = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let proxy = FaultProxy::to(target.local_addr()?).await?;
/// let mut near = tokio::net::TcpStream::connect(proxy.address()).await?;
/// let (mut far, _) = target.accept().await?;
///
/// proxy.handle().stall(Direction::ToTarget);
/// near.write_all(b"hold on").await?;
/// far.write_all(b"passes").await?;
/// near.read_exact(&mut [0; 6]).await?;
///
/// proxy.handle().pass();
/// far.read_exact(&mut [0; 7]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    handle: ProxyHandle,
    _end: DropGuard,
}

/// Switches the faults of a [`FaultProxy`], from anywhere. Cheap to clone; once the proxy is dropped it does nothing.
#[derive(Clone)]
pub struct ProxyHandle {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rules: watch::Sender<Rules>,
    /// What the next strike hits; replaced by each reset.
    strike: Mutex<CancellationToken>,
    rng: Mutex<fastrand::Rng>,
    places: Arc<Semaphore>,
}

/// Holds what applies to every link of a proxy at this moment.
#[derive(Debug, Default)]
struct Rules {
    target: Option<SocketAddr>,
    to_target: Way,
    from_target: Way,
    refuses: bool,
}

/// Holds what applies to one direction.
#[derive(Debug, Clone, Default)]
struct Way {
    flow: Flow,
    is_stalled: bool,
    /// How often it was closed so far; a link ends its stream when that grows.
    closes: u64,
}

impl Rules {
    fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::ToTarget => &self.to_target,
            Direction::FromTarget => &self.from_target,
        }
    }

    fn way_mut(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::ToTarget => &mut self.to_target,
            Direction::FromTarget => &mut self.from_target,
        }
    }
}

impl FaultProxy {
    /// Starts a proxy for a target, on a free port of the loopback.
    ///
    /// # Errors
    /// The operating system's, if it gives no port.
    pub async fn to(target: SocketAddr) -> io::Result<Self> {
        let proxy = Self::bind().await?;
        proxy.handle.set_target(target);
        Ok(proxy)
    }

    /// Starts a proxy that refuses links until it is given a target: for a node that must be told the proxy's
    /// address before it has one of its own.
    ///
    /// # Errors
    /// The operating system's, if it gives no port.
    pub async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            rules: watch::Sender::new(Rules::default()),
            strike: Mutex::default(),
            rng: Mutex::new(fastrand::Rng::with_seed(0)),
            places: Arc::new(Semaphore::new(MAX_LINKS)),
        });
        let end = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&shared), end.clone()));
        Ok(Self { handle: ProxyHandle { address, shared }, _end: end.drop_guard() })
    }

    /// Gives the address to dial in place of the target's.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.handle.address
    }

    /// Gives what switches the faults.
    #[must_use]
    pub fn handle(&self) -> &ProxyHandle {
        &self.handle
    }
}

impl ProxyHandle {
    /// Gives the address to dial in place of the target's.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets where links lead from now on; those that are open stay.
    pub fn set_target(&self, target: SocketAddr) {
        self.rule(|rules| rules.target = Some(target));
    }

    /// Sets what is done to the bytes of one direction; it applies to what comes in from now on.
    pub fn set_flow(&self, direction: Direction, flow: Flow) {
        self.rule(|rules| rules.way_mut(direction).flow = flow);
    }

    /// Sets what the random numbers are drawn from, for links from now on. Default 0.
    pub fn seed(&self, seed: u64) {
        *self.shared.rng() = fastrand::Rng::with_seed(seed);
    }

    /// Lets nothing through in one direction, the end of a stream included, until [`pass`](Self::pass).
    pub fn stall(&self, direction: Direction) {
        self.rule(|rules| rules.way_mut(direction).is_stalled = true);
    }

    /// Lets nothing through in either direction until [`pass`](Self::pass). Links are accepted, and stay silent.
    pub fn blackhole(&self) {
        self.stall(Direction::ToTarget);
        self.stall(Direction::FromTarget);
    }

    /// Ends stalls, refusals and flows: bytes pass as they are again, and what was held back goes on.
    pub fn pass(&self) {
        self.rule(|rules| {
            rules.refuses = false;
            for direction in [Direction::ToTarget, Direction::FromTarget] {
                let way = rules.way_mut(direction);
                (way.flow, way.is_stalled) = (Flow::default(), false);
            }
        });
    }

    /// Ends one direction of every open link, as if its writer had; what the writer sends on is thrown away.
    pub fn half_close(&self, direction: Direction) {
        self.rule(|rules| rules.way_mut(direction).closes += 1);
    }

    /// Resets every open link, on both sides.
    pub fn reset(&self) {
        std::mem::take(&mut *self.shared.strike()).cancel();
    }

    /// Resets every new link until [`pass`](Self::pass); those that are open stay.
    pub fn refuse(&self) {
        self.rule(|rules| rules.refuses = true);
    }

    /// Counts the open links.
    #[must_use]
    pub fn links(&self) -> usize {
        MAX_LINKS - self.shared.places.available_permits()
    }

    fn rule(&self, change: impl FnOnce(&mut Rules)) {
        self.shared.rules.send_modify(change);
    }
}

impl Shared {
    fn strike(&self) -> MutexGuard<'_, CancellationToken> {
        self.strike.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rng(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives where a new link leads; none if it is refused.
    fn target(&self) -> Option<SocketAddr> {
        let rules = self.rules.borrow();
        rules.target.filter(|_| !rules.refuses)
    }
}

/// Accepts links until the proxy is dropped.
async fn accept(listener: TcpListener, shared: Arc<Shared>, end: CancellationToken) {
    loop {
        // Biased: a proxy that was dropped takes no more links.
        let accepted = tokio::select! { biased;
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((near, _)) = accepted else {
            // For want of descriptors, mostly; it must not spin.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let place = Arc::clone(&shared.places).try_acquire_owned();
        let (Some(target), Ok(place)) = (shared.target(), place) else {
            link::reset(&near);
            continue;
        };
        let strike = Strike { reset: shared.strike().clone(), end: end.clone() };
        let (rules, rng) = (shared.rules.subscribe(), shared.rng().fork());
        tokio::spawn(async move {
            match TcpStream::connect(target).await {
                Ok(far) => link::run(near, far, strike, rules, rng).await,
                Err(_) => link::reset(&near),
            }
            drop(place);
        });
    }
}

impl fmt::Debug for ProxyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyHandle")
            .field("address", &self.address)
            .field("rules", &*self.shared.rules.borrow())
            .finish_non_exhaustive()
    }
}

/// Links that one proxy carries at the same time; more are reset.
pub const MAX_LINKS: usize = 1_024;
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);
