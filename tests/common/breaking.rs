//! Is a transport whose links a test may break, in the middle of whatever they carry.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tellwire::address::{Address, Endpoint};
use tellwire::transport::{
    InProcessNetwork, Link, Listener, Privacy, TcpTransport, Transport, TransportError,
};
use tokio::io::{AsyncWriteExt, DuplexStream, join};
use tokio::task::AbortHandle;

use crate::common::Net;

/// Dials through a wire that can be cut.
#[derive(Debug, Clone)]
pub(crate) struct Breaking {
    inner: Arc<dyn Transport>,
    wires: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Breaking {
    pub(crate) fn over(net: &Net) -> Self {
        let inner: Arc<dyn Transport> = match net {
            Net::Tcp => Arc::new(TcpTransport::new()),
            Net::Mem(network) => Arc::new(InProcessNetwork::clone(network)),
        };
        Self { inner, wires: Arc::default() }
    }

    /// Cuts every link that was dialled: what is under way is gone.
    pub(crate) fn break_links(&self) {
        for wire in self.wires.lock().unwrap().drain(..) {
            wire.abort();
        }
    }
}

#[async_trait]
impl Transport for Breaking {
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
        let link = self.inner.dial(to).await?;
        let (near, far) = tokio::io::duplex(64 * 1024);
        let wire = tokio::spawn(carry(far, link)).abort_handle();
        self.wires.lock().unwrap().push(wire);
        let (reader, writer) = tokio::io::split(near);
        Ok(Link::new(reader, writer, "a wire that can be cut"))
    }
}

async fn carry(mut far: DuplexStream, link: Link) {
    let (reader, writer) = link.split();
    let mut link = join(reader, writer);
    // Either end of it is the end of both.
    drop(tokio::io::copy_bidirectional(&mut far, &mut link).await);
    drop(link.shutdown().await);
}
