//! Leads a node's dials to proxies: one for each peer, so that each pair of nodes can be parted by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use async_trait::async_trait;

use crate::address::{Address, Endpoint};
use crate::transport::{Link, Listener, Privacy, TcpTransport, Transport, TransportError};

/// Is TCP that dials a proxy in place of each address it knows one for; to be given to
/// [`NodeBuilder::transport`](crate::node::NodeBuilder::transport).
///
/// It can be written as text and read back, to be handed to a process in its environment.
#[derive(Debug, Clone, Default)]
pub struct Detours {
    tcp: TcpTransport,
    /// The proxy for what is known as this endpoint.
    proxies: BTreeMap<SocketAddr, SocketAddr>,
}

/// Says which piece of a text is no detour.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no detour, which is ADDRESS=ADDRESS")]
pub struct DetourError {
    /// The piece.
    pub text: String,
}

impl Detours {
    /// Leads dials to `known` to a proxy from now on.
    pub fn lead(&mut self, known: SocketAddr, proxy: SocketAddr) {
        self.proxies.insert(known, proxy);
    }

    /// Gives the address to dial in place of `to`.
    fn place_of(&self, to: &Address) -> Option<Address> {
        let known = SocketAddr::new(to.host().parse().ok()?, to.port());
        let proxy = self.proxies.get(&known)?;
        Address::new(to.scheme(), to.system(), &proxy.ip().to_string(), proxy.port()).ok()
    }
}

#[async_trait]
impl Transport for Detours {
    fn scheme(&self) -> &'static str {
        self.tcp.scheme()
    }

    fn privacy(&self) -> Privacy {
        self.tcp.privacy()
    }

    async fn listen(&self, at: &Endpoint) -> Result<Box<dyn Listener>, TransportError> {
        self.tcp.listen(at).await
    }

    async fn dial(&self, to: &Address) -> Result<Link, TransportError> {
        self.tcp.dial(self.place_of(to).as_ref().unwrap_or(to)).await
    }
}

impl fmt::Display for Detours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.proxies.iter().try_for_each(|(known, proxy)| write!(f, "{known}={proxy} "))
    }
}

impl FromStr for Detours {
    type Err = DetourError;

    fn from_str(text: &str) -> Result<Self, DetourError> {
        let mut detours = Self::default();
        for piece in text.split_whitespace() {
            let wrong = || DetourError { text: piece.to_owned() };
            let (known, proxy) = piece.split_once('=').ok_or_else(wrong)?;
            let read = |address: &str| address.parse().map_err(|_| wrong());
            detours.lead(read(known)?, read(proxy)?);
        }
        Ok(detours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let text = "127.0.0.1:1=127.0.0.1:2 [::1]:3=127.0.0.1:4 ";
        let detours: Detours = text.parse().unwrap();
        assert_eq!(detours.to_string(), text);
        let place = detours.place_of(&"tcp://Test@127.0.0.1:1".parse().unwrap());
        assert_eq!(place, Some("tcp://Test@127.0.0.1:2".parse().unwrap()));
        assert_eq!(detours.place_of(&"tcp://Test@127.0.0.1:2".parse().unwrap()), None);
    }

    #[test]
    fn what_is_no_detour_is_named() {
        for wrong in ["1", "127.0.0.1:1=", "127.0.0.1:1=ada"] {
            let error = Detours::from_str(wrong).unwrap_err();
            assert_eq!(error.text, wrong);
        }
    }
}
