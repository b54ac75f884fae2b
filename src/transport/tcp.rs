//! Links nodes over TCP: scheme `tcp`.
//!
//! Plaintext: whoever sits on the network can read and forge what travels. A node binds it to
//! loopback unless told otherwise; between machines use it inside a trusted or encrypted network.
//!
//! Nagle's algorithm is off on both sides, because whoever writes here has gathered its batch
//! already. Host names are looked up at every dial, so a peer that moved is found at its new
//! place, and every address that a name has is tried in turn.

use std::{io, net::SocketAddr, num::NonZeroU32, time::Duration};

use async_trait::async_trait;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use super::{Link, Listener, Privacy, Transport, TransportError};
use crate::address::{Address, Endpoint};

/// Opens TCP links.
#[derive(Debug, Clone, Default)]
pub struct TcpTransport {
    settings: TcpSettings,
}

/// Tunes the sockets of a [`TcpTransport`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TcpSettings {
    /// Asks for a kernel send buffer of this many bytes per link.
    ///
    /// Default: the kernel's own, which grows with the link, up to what the peer's receive buffer
    /// and [`unsent`](Self::unsent) allow. A fixed size caps throughput at size / round trip.
    pub send_buffer: Option<NonZeroU32>,

    /// Holds a writer back while so many of its bytes wait in the kernel and were not sent yet.
    ///
    /// Linux only, ignored elsewhere. Default 128 KiB, two write quanta of an association. What was
    /// written cannot be overtaken any more, so this is what control frames may find before them on
    /// this side; it does not cap throughput, as bytes under way do not count.
    pub unsent: Option<NonZeroU32>,

    /// Asks for a kernel receive buffer of this many bytes per link.
    ///
    /// Default 512 KiB; the kernel may cap it lower (Linux: `net.core.rmem_max`). With none it
    /// sizes the buffer itself, up to some tens of MiB when the peer sends faster than this node
    /// reads, all of them before the next control frame. Throughput is capped at size / round
    /// trip: 5 Gbit/s over 0.8 ms, and 10 MiB are needed for 1 Gbit/s over 80 ms.
    pub receive_buffer: Option<NonZeroU32>,

    /// Probes a silent link after this long, and again at this interval.
    ///
    /// Default 30 s, at least 1 s, rounded down to seconds. Costs one empty segment per
    /// interval; keeps NAT entries alive. Dead peers are found sooner by the association's pings.
    pub keepalive: Option<Duration>,

    /// Drops a link whose sent bytes stay unacknowledged, or held back by a full peer, this long.
    ///
    /// Linux only, ignored elsewhere. Default 30 s; none is the kernel's patience, about 15 minutes
    /// (RFC 5482 says what the option means). Danger: a peer paused for longer loses its links.
    pub user_timeout: Option<Duration>,

    /// Limits the links that wait to be accepted.
    ///
    /// Default 1024; the kernel may cap it lower (Linux: `net.core.somaxconn`).
    pub accept_backlog: NonZeroU32,

    /// Gives up one resolved address after this long and tries the next.
    ///
    /// Default 3 s. Without it an unroutable first address would use up the caller's deadline.
    pub connect_timeout: Duration,
}

impl Default for TcpSettings {
    fn default() -> Self {
        Self {
            send_buffer: None,
            unsent: Some(UNSENT),
            receive_buffer: Some(RECEIVE_BUFFER),
            keepalive: Some(KEEPALIVE),
            user_timeout: Some(USER_TIMEOUT),
            accept_backlog: ACCEPT_BACKLOG,
            connect_timeout: CONNECT_TIMEOUT,
        }
    }
}

impl TcpTransport {
    /// Creates the transport with default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates the transport with these settings.
    pub fn with_settings(settings: TcpSettings) -> Self {
        Self { settings }
    }

    /// Listens on the first address that allows it.
    ///
    /// An address in use ends the search: going on to another address of the same name would
    /// give two nodes one name.
    fn bind_first(&self, addresses: &[SocketAddr]) -> io::Result<TcpListener> {
        let mut last = no_addresses();
        for address in addresses {
            match self.bind(*address) {
                Ok(listener) => return Ok(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.settings.socket(address)?;
        // On Unix this lets a restarted node have its port back while old links linger in
        // TIME_WAIT; elsewhere it would let two live listeners share a port.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(self.settings.accept_backlog.get())
    }

    async fn connect_first(&self, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
        let mut last = no_addresses();
        for address in addresses {
            match self.connect(*address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let connecting = self.settings.socket(address)?.connect(address);
        let stream = tokio::time::timeout(self.settings.connect_timeout, connecting).await??;
        if is_self_connected(&stream)? {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.settings.tune(&stream);
        Ok(stream)
    }
}

#[async_trait]
impl Transport for TcpTransport {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn privacy(&self) -> Privacy {
        Privacy::Plaintext
    }

    async fn listen(&self, at: &Endpoint) -> Result<Box<dyn Listener>, TransportError> {
        TransportError::check_scheme(SCHEME, at.scheme())?;
        let addresses = resolve(at.host(), at.port()).await?;
        let listener = self.bind_first(&addresses).map_err(|source| bind_error(at, source))?;
        let port = listener.local_addr().map_err(|source| bind_error(at, source))?.port();
        let settings = self.settings.clone();
        Ok(Box::new(TcpAcceptor { endpoint: at.with_port(port), listener, settings }))
    }

    async fn dial(&self, to: &Address) -> Result<Link, TransportError> {
        TransportError::check_scheme(SCHEME, to.scheme())?;
        let addresses = resolve(to.host(), to.port()).await?;
        let unreachable = |source| TransportError::Unreachable { endpoint: to.endpoint(), source };
        let stream = self.connect_first(&addresses).await.map_err(unreachable)?;
        let remote = stream.peer_addr().map_err(unreachable)?;
        Ok(link(stream, remote))
    }
}

/// Accepts TCP links.
#[derive(Debug)]
struct TcpAcceptor {
    endpoint: Endpoint,
    listener: TcpListener,
    settings: TcpSettings,
}

impl TcpAcceptor {
    async fn accept_stream(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => {
                    self.settings.tune(&stream);
                    return Ok((stream, remote));
                }
                // Such a dialler has taken its place in the queue along with it, so this cannot
                // spin, and its going away is no trouble of the listener's.
                Err(error) if is_lost_dialler(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[async_trait]
impl Listener for TcpAcceptor {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    async fn accept(&mut self) -> Result<Link, TransportError> {
        match self.accept_stream().await {
            Ok((stream, remote)) => Ok(link(stream, remote)),
            Err(source) => Err(TransportError::Accept { source }),
        }
    }
}

impl TcpSettings {
    /// Opens a socket with its buffers sized, which must happen before it connects or listens
    /// for the window scale to be negotiated accordingly.
    fn socket(&self, address: SocketAddr) -> io::Result<TcpSocket> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(size) = self.send_buffer {
            socket.set_send_buffer_size(size.get())?;
        }
        if let Some(size) = self.receive_buffer {
            socket.set_recv_buffer_size(size.get())?;
        }
        Ok(socket)
    }

    /// Sets what a connected socket needs.
    ///
    /// A failure costs speed, not correctness, and some systems report one for a peer that has
    /// just gone, which the first read will tell anyway: so the link is used as it is.
    fn tune(&self, stream: &TcpStream) {
        if let Err(error) = self.try_tune(stream) {
            tracing::debug!(%error, "socket options not set");
        }
    }

    fn try_tune(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        if let Some(silence) = self.keepalive {
            let silence = silence.max(Duration::from_secs(1));
            let probes = TcpKeepalive::new().with_time(silence).with_interval(silence);
            socket.set_tcp_keepalive(&probes)?;
        }
        #[cfg(target_os = "linux")]
        if let Some(unsent) = self.unsent {
            socket.set_tcp_notsent_lowat(unsent.get())?;
        }
        #[cfg(target_os = "linux")]
        if self.user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.user_timeout)?;
        }
        Ok(())
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, TransportError> {
    let unresolvable = |source| TransportError::Unresolvable { host: host.to_owned(), source };
    let addresses: Vec<_> = lookup_host((host, port)).await.map_err(unresolvable)?.collect();
    if addresses.is_empty() {
        return Err(unresolvable(no_addresses()));
    }
    Ok(addresses)
}

fn link(stream: TcpStream, remote: SocketAddr) -> Link {
    let (reader, writer) = stream.into_split();
    Link::new(reader, writer, remote.to_string())
}

fn bind_error(at: &Endpoint, source: io::Error) -> TransportError {
    let endpoint = at.clone();
    match source.kind() {
        io::ErrorKind::AddrInUse => TransportError::AddressInUse { endpoint },
        _ => TransportError::Bind { endpoint, source },
    }
}

/// Detects TCP's simultaneous open with oneself: dialling a free local port can draw that very
/// port as its own and connect to itself, and would then keep the rightful owner from binding it.
fn is_self_connected(stream: &TcpStream) -> io::Result<bool> {
    Ok(stream.local_addr()? == stream.peer_addr()?)
}

fn is_lost_dialler(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn no_addresses() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no addresses")
}

const SCHEME: &str = "tcp";
const UNSENT: NonZeroU32 = NonZeroU32::new(128 * 1024).unwrap();
const RECEIVE_BUFFER: NonZeroU32 = NonZeroU32::new(512 * 1024).unwrap();
const USER_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE: Duration = Duration::from_secs(30);
const ACCEPT_BACKLOG: NonZeroU32 = NonZeroU32::new(1024).unwrap();
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::{io, net::SocketAddr, num::NonZeroU32, time::Duration};

    use socket2::SockRef;
    use tokio::net::TcpSocket;

    use super::{TcpAcceptor, TcpSettings, TcpTransport, is_self_connected};

    const LOOPBACK: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn acceptor(transport: &TcpTransport) -> (TcpAcceptor, SocketAddr) {
        let listener = transport.bind(LOOPBACK).unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = format!("tcp://{address}").parse().unwrap();
        (TcpAcceptor { endpoint, listener, settings: transport.settings.clone() }, address)
    }

    /// Holds a port that nobody listens on, for as long as the socket lives.
    fn deaf_port() -> (TcpSocket, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(LOOPBACK).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn both_sides_get_their_socket_options() {
        let settings = TcpSettings {
            keepalive: Some(Duration::ZERO),
            user_timeout: Some(Duration::from_secs(20)),
            send_buffer: NonZeroU32::new(128 * 1024),
            ..TcpSettings::default()
        };
        let transport = TcpTransport::with_settings(settings);
        let (mut acceptor, address) = acceptor(&transport);
        let dialled = transport.connect(address).await.unwrap();
        let (accepted, remote) = acceptor.accept_stream().await.unwrap();
        assert_eq!(remote, dialled.local_addr().unwrap());
        for stream in [&dialled, &accepted] {
            assert!(stream.nodelay().unwrap());
            let socket = SockRef::from(stream);
            assert!(socket.keepalive().unwrap());
            assert!(socket.send_buffer_size().unwrap() >= 128 * 1024);
            #[cfg(target_os = "linux")]
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
            #[cfg(target_os = "linux")]
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), 128 * 1024);
            // The kernel doubles what it is asked for, and does not go beyond that by itself.
            assert!(socket.recv_buffer_size().unwrap() <= 2 * 512 * 1024);
        }
    }

    #[tokio::test]
    async fn a_dead_address_does_not_hide_the_next_one() {
        let transport = TcpTransport::new();
        let (_held, dead) = deaf_port();
        let (_acceptor, live) = acceptor(&transport);
        let stream = transport.connect_first(&[dead, live]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live);
        let error = transport.connect_first(&[dead]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_taken_address_is_not_evaded_through_the_next_one() {
        let transport = TcpTransport::new();
        let (_acceptor, taken) = acceptor(&transport);
        let error = transport.bind_first(&[taken, LOOPBACK]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let foreign = "203.0.113.1:0".parse().unwrap();
        assert!(transport.bind_first(&[foreign, LOOPBACK]).is_ok());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_socket_connected_to_itself_is_recognised() {
        let (socket, own) = deaf_port();
        let stream = socket.connect(own).await.unwrap();
        assert!(is_self_connected(&stream).unwrap());
    }
}
