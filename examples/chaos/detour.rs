//! Dials other places than the nodes' addresses: the proxies in between.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tellwire::address::{Address, Endpoint};
use tellwire::transport::{Link, Listener, Privacy, TcpTransport, Transport, TransportError};

/// Is TCP with a way of its own to each node.
#[derive(Debug)]
pub(crate) struct Detour {
    tcp: TcpTransport,
    /// What nodes are known by, and what is dialled in its place.
    ways: Vec<(SocketAddr, SocketAddr)>,
    listens: Arc<OnceLock<u16>>,
}

impl Detour {
    /// Makes the transport, and what will tell the port that it listens at.
    pub(crate) fn new(ways: Vec<(SocketAddr, SocketAddr)>) -> (Self, Arc<OnceLock<u16>>) {
        let listens = Arc::new(OnceLock::new());
        (Self { tcp: TcpTransport::new(), ways, listens: Arc::clone(&listens) }, listens)
    }
}

#[async_trait]
impl Transport for Detour {
    fn scheme(&self) -> &'static str {
        self.tcp.scheme()
    }

    fn privacy(&self) -> Privacy {
        self.tcp.privacy()
    }

    async fn listen(&self, at: &Endpoint) -> Result<Box<dyn Listener>, TransportError> {
        let listener = self.tcp.listen(at).await?;
        self.listens.get_or_init(|| listener.endpoint().port());
        Ok(listener)
    }

    async fn dial(&self, to: &Address) -> Result<Link, TransportError> {
        let way = self.ways.iter().find(|(door, _)| door.port() == to.port());
        let around = way.and_then(|(_, way)| {
            Address::new(to.scheme(), to.system(), to.host(), way.port()).ok()
        });
        self.tcp.dial(around.as_ref().unwrap_or(to)).await
    }
}
