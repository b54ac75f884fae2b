//! Holds every transport to the same promises, then each to its own.
//!
//! A new transport adds one test that calls [`conforms`].
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{future::Future, io, sync::Arc, time::Duration};

use tellwire::{
    address::{Address, Endpoint},
    testkit::transport::{Subject, conforms},
    transport::{InProcessNetwork, InProcessSettings, Privacy, Transport, TransportError},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn in_process_conforms() {
    conforms(Subject {
        transport: Arc::new(InProcessNetwork::new()),
        anywhere: endpoint("mem://node:0"),
        nobody: address("mem://Test@node:1"),
    })
    .await;
}

#[tokio::test]
async fn in_process_networks_side_by_side_do_not_see_each_other() {
    let (one, other) = (InProcessNetwork::new(), InProcessNetwork::new());
    let at = endpoint("mem://node:7");
    let _listener = one.listen(&at).await.unwrap();
    let to = address("mem://Test@node:7");
    assert!(matches!(other.dial(&to).await, Err(TransportError::Unreachable { .. })));
    assert!(other.listen(&at).await.is_ok());
    assert!(one.clone().dial(&to).await.is_ok());
    assert_eq!(one.privacy(), Privacy::Local);
}

#[tokio::test]
async fn in_process_refuses_what_its_accept_queue_cannot_hold() {
    let mut settings = InProcessSettings::default();
    settings.accept_backlog = 2.try_into().unwrap();
    let network = InProcessNetwork::with_settings(settings);
    let mut listener = network.listen(&endpoint("mem://node:7")).await.unwrap();
    let to = address("mem://Test@node:7");
    let _waiting = [network.dial(&to).await.unwrap(), network.dial(&to).await.unwrap()];
    match network.dial(&to).await {
        Err(TransportError::Unreachable { source, .. }) => {
            assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    let _accepted = listener.accept().await.unwrap();
    assert!(network.dial(&to).await.is_ok());
}

#[tokio::test]
async fn in_process_links_never_accepted_end_with_their_listener() {
    let network = InProcessNetwork::new();
    let listener = network.listen(&endpoint("mem://node:7")).await.unwrap();
    let link = network.dial(&address("mem://Test@node:7")).await.unwrap();
    drop(listener);
    let (mut reader, mut writer) = link.split();
    let read = within("end of file", reader.read_u8()).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(writer.write_all(b"anyone?").await.is_err());
}

#[tokio::test]
async fn in_process_holds_no_more_than_its_pipe_capacity() {
    let mut settings = InProcessSettings::default();
    settings.pipe_capacity = 1000.try_into().unwrap();
    let network = InProcessNetwork::with_settings(settings);
    let _listener = network.listen(&endpoint("mem://node:7")).await.unwrap();
    let link = network.dial(&address("mem://Test@node:7")).await.unwrap();
    let (_reader, mut writer) = link.split();
    let first = tokio::time::timeout(Duration::ZERO, writer.write(&[7; 2000])).await;
    assert_eq!(first.unwrap().unwrap(), 1000);
    let second = tokio::time::timeout(Duration::ZERO, writer.write(&[7; 2000])).await;
    assert!(second.is_err(), "there is no room");
}

#[cfg(feature = "tcp")]
mod tcp {
    use std::sync::Arc;

    use tellwire::transport::{Privacy, TcpTransport, Transport, TransportError};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpSocket,
    };

    use super::{Subject, address, conforms, endpoint, within};

    #[tokio::test]
    async fn tcp_conforms() {
        let (_held, nobody) = deaf_socket("127.0.0.1:0").unwrap();
        conforms(subject("tcp://127.0.0.1:0", &nobody)).await;
    }

    #[tokio::test]
    async fn tcp_conforms_over_ipv6() {
        // Not every machine has IPv6, and this is the one honest way to ask.
        let Ok((_held, nobody)) = deaf_socket("[::1]:0") else { return };
        conforms(subject("tcp://[::1]:0", &nobody)).await;
    }

    #[tokio::test]
    async fn tcp_resolves_host_names_for_listening_and_dialling() {
        let transport = TcpTransport::new();
        let mut listener = transport.listen(&endpoint("tcp://localhost:0")).await.unwrap();
        let bound = listener.endpoint().clone();
        assert_eq!((bound.host(), bound.port() == 0), ("localhost", false));
        let to = bound.with_system("Test").unwrap();
        let dialled = within("dial", transport.dial(&to)).await.unwrap();
        let (_reader, mut writer) = dialled.split();
        writer.write_all(b"by name").await.unwrap();
        let (mut reader, _writer) = listener.accept().await.unwrap().split();
        let mut heard = [0; 7];
        reader.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"by name");
    }

    #[tokio::test]
    async fn tcp_names_the_host_that_it_cannot_resolve() {
        let transport = TcpTransport::new();
        let to = address("tcp://Test@no-such-host.invalid:7");
        let dialled = within("dial", transport.dial(&to)).await.map(drop);
        let listened = within("listen", transport.listen(&to.endpoint())).await.map(drop);
        for result in [dialled, listened] {
            match result {
                Err(TransportError::Unresolvable { host, .. }) => {
                    assert_eq!(host, "no-such-host.invalid");
                }
                other => panic!("expected an unresolvable host, got {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn tcp_cannot_listen_on_an_address_of_another_machine() {
        // 203.0.113.0/24 is for documentation (RFC 5737): no machine has it.
        let at = endpoint("tcp://203.0.113.1:0");
        match TcpTransport::new().listen(&at).await {
            Err(TransportError::Bind { endpoint, .. }) => assert_eq!(endpoint, at),
            other => panic!("expected a failed bind, got {other:?}"),
        }
    }

    #[test]
    fn tcp_says_that_it_is_plaintext() {
        assert_eq!(TcpTransport::new().privacy(), Privacy::Plaintext);
    }

    fn subject(anywhere: &str, nobody: &str) -> Subject {
        Subject {
            transport: Arc::new(TcpTransport::new()),
            anywhere: endpoint(anywhere),
            nobody: address(nobody),
        }
    }

    /// Holds a port without listening on it, so that nobody else can.
    fn deaf_socket(at: &str) -> std::io::Result<(TcpSocket, String)> {
        let at: std::net::SocketAddr = at.parse().unwrap();
        let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(at)?;
        let address = format!("tcp://Test@{}", socket.local_addr()?);
        Ok((socket, address))
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: took longer than {PATIENCE:?}"),
    }
}

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

const PATIENCE: Duration = Duration::from_secs(20);
