//! Is a transport that does something to each link which it dials.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tellwire::address::{Address, Endpoint};
use tellwire::transport::{
    InProcessNetwork, Link, Listener, Privacy, TcpTransport, Transport, TransportError,
};
use tokio::io::{AsyncWriteExt, DuplexStream, join};
use tokio::task::AbortHandle;

use crate::common::Net;

/// Dials through another transport and does something to each link.
#[derive(Clone)]
pub(crate) struct Wrapped {
    inner: Arc<dyn Transport>,
    alter: Arc<dyn Fn(Link) -> Link + Send + Sync>,
}

impl Wrapped {
    pub(crate) fn over(net: &Net, alter: impl Fn(Link) -> Link + Send + Sync + 'static) -> Self {
        let inner: Arc<dyn Transport> = match net {
            Net::Tcp => Arc::new(TcpTransport::new()),
            Net::Mem(network) => Arc::new(InProcessNetwork::clone(network)),
        };
        Self { inner, alter: Arc::new(alter) }
    }

    /// Counts the links that it dials.
    pub(crate) fn counting(net: &Net) -> (Self, Arc<AtomicUsize>) {
        let dials = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&dials);
        let count = move |link| {
            counted.fetch_add(1, Ordering::SeqCst);
            link
        };
        (Self::over(net, count), dials)
    }

    /// Dials through wires that [`Wires::break_links`] cuts.
    pub(crate) fn breaking(net: &Net) -> (Self, Wires) {
        let wires = Wires::default();
        let laid = wires.clone();
        (Self::over(net, move |link| laid.lay(link)), wires)
    }
}

#[async_trait]
impl Transport for Wrapped {
    fn scheme(&self) -> &'static str {
        self.inner.scheme()
    }

    fn privacy(&self) -> Privacy {
        self.inner.privacy()
    }

    async fn listen(&self, at: &Endpoint) -> Result<Box<dyn Listener>, TransportError> {
        self.inner.listen(at).await
    }

    async fn dial(&self, to: &Address) -> Result<Link, TransportError> {
        self.inner.dial(to).await.map(|link| (self.alter)(link))
    }
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wrapped").field(&self.inner).finish()
    }
}

/// Are wires that a test may cut, in the middle of whatever they carry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wires(Arc<Mutex<Vec<AbortHandle>>>);

impl Wires {
    /// Cuts every link that was dialled: what is under way is gone.
    pub(crate) fn break_links(&self) {
        for wire in self.0.lock().unwrap().drain(..) {
            wire.abort();
        }
    }

    fn lay(&self, link: Link) -> Link {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let wire = tokio::spawn(carry(far, link)).abort_handle();
        self.0.lock().unwrap().push(wire);
        let (reader, writer) = tokio::io::split(near);
        Link::new(reader, writer, "a wire that can be cut")
    }
}

async fn carry(mut far: DuplexStream, link: Link) {
    let (reader, writer) = link.split();
    let mut link = join(reader, writer);
    // Either end of it is the end of both.
    drop(tokio::io::copy_bidirectional(&mut far, &mut link).await);
    drop(link.shutdown().await);
}
