//! Holds a transport to what every node relies on.
//!
//! ```
//! use std::sync::Arc;
//! use tellwire::testkit::transport::{Subject, conforms};
//! use tellwire::transport::InProcessNetwork;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! conforms(Subject {
//!     transport: Arc::new(InProcessNetwork::new()),
//!     anywhere: "mem://node:0".parse()?,
//!     nobody: "mem://Test@node:1".parse()?,
//! })
//! .await;
//! # Ok(())
//! # }
//! ```
#![expect(
    clippy::unwrap_used,
    reason = "a transport that fails a check fails the test by panicking"
)]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::address::{Address, Endpoint};
use crate::transport::{Link, Listener, Transport, TransportError};

/// Is what the run needs to know about a transport.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The transport.
    pub transport: Arc<dyn Transport>,
    /// Where listening works, with port 0.
    pub anywhere: Endpoint,
    /// Where nobody listens, for the whole run.
    pub nobody: Address,
}

/// Runs every check, each for 20 s at most.
///
/// # Panics
/// Fails by panicking, naming the check where it hangs.
pub async fn conforms(subject: Subject) {
    let subject = &subject;
    within("bytes", bytes_travel_both_ways_in_order_and_intact(subject)).await;
    within("end", a_dropped_link_ends_after_its_last_byte(subject)).await;
    within("half", a_shut_down_writer_leaves_the_other_direction_open(subject)).await;
    within("write", writing_to_a_dropped_link_fails(subject)).await;
    within("slow", a_slow_reader_holds_its_writer_back(subject)).await;
    within("port 0", port_zero_becomes_distinct_real_ports(subject)).await;
    within("in use", a_taken_address_is_reported_as_such(subject)).await;
    within("nobody", dialling_nobody_is_unreachable(subject)).await;
    within("scheme", a_foreign_scheme_is_refused(subject)).await;
    within("gone", accept_survives_diallers_that_go_away_at_once(subject)).await;
    within("cancel", a_cancelled_accept_loses_no_link(subject)).await;
    within("rebind", a_dropped_listener_gives_its_address_back(subject)).await;
    within("many", fifty_links_work_at_once(subject)).await;
}

async fn bytes_travel_both_ways_in_order_and_intact(subject: &Subject) {
    let (near, far) = pair(subject).await;
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.split(), far.split());
    let (up, down) = (noise(1 << 20, 1), noise(1 << 20, 2));
    tokio::join!(
        write_in_odd_chunks(&mut near_out, &up),
        write_in_odd_chunks(&mut far_out, &down),
        expect_bytes(&mut near_in, &down),
        expect_bytes(&mut far_in, &up),
    );
}

async fn a_dropped_link_ends_after_its_last_byte(subject: &Subject) {
    let (near, far) = pair(subject).await;
    let sent = noise(10_000, 3);
    let (near_in, mut near_out) = near.split();
    near_out.write_all(&sent).await.unwrap();
    near_out.flush().await.unwrap();
    drop((near_in, near_out));
    let (mut far_in, _far_out) = far.split();
    let mut received = Vec::new();
    far_in.read_to_end(&mut received).await.unwrap();
    assert!(received == sent, "{} of {} bytes came", received.len(), sent.len());
}

async fn a_shut_down_writer_leaves_the_other_direction_open(subject: &Subject) {
    let (near, far) = pair(subject).await;
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.split(), far.split());
    near_out.write_all(b"last words").await.unwrap();
    near_out.shutdown().await.unwrap();
    let mut heard = Vec::new();
    far_in.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"last words");
    far_out.write_all(b"understood").await.unwrap();
    expect_bytes(&mut near_in, b"understood").await;
}

async fn writing_to_a_dropped_link_fails(subject: &Subject) {
    let (near, far) = pair(subject).await;
    drop(far);
    let (_near_in, mut near_out) = near.split();
    let chunk = noise(64 * 1024, 4);
    // A hang is caught by the deadline around the check: a full pipe must fail as well.
    while near_out.write_all(&chunk).await.is_ok() {}
}

async fn a_slow_reader_holds_its_writer_back(subject: &Subject) {
    let (near, far) = pair(subject).await;
    let (_near_in, mut near_out) = near.split();
    let (mut far_in, _far_out) = far.split();
    let chunk = noise(64 * 1024, 5);
    let mut accepted = 0;
    while let Some(written) = write_now(&mut near_out, &chunk).await {
        accepted += written;
        assert!(accepted < 64 << 20, "nothing bounds what is under way");
    }
    near_out.flush().await.unwrap();
    let mut drained = vec![0; accepted];
    let (read, written) =
        tokio::join!(far_in.read_exact(&mut drained), near_out.write_all(b"room again"));
    assert_eq!(read.unwrap(), accepted);
    written.unwrap();
    expect_bytes(&mut far_in, b"room again").await;
}

async fn port_zero_becomes_distinct_real_ports(subject: &Subject) {
    let first = listen(subject).await;
    let second = listen(subject).await;
    assert_ne!(first.endpoint().port(), 0);
    assert_ne!(second.endpoint().port(), 0);
    assert_ne!(first.endpoint(), second.endpoint());
    assert_eq!(first.endpoint().with_port(0), subject.anywhere);
}

async fn a_taken_address_is_reported_as_such(subject: &Subject) {
    let mut first = listen(subject).await;
    let taken = first.endpoint().clone();
    match subject.transport.listen(&taken).await {
        Err(TransportError::AddressInUse { endpoint }) => assert_eq!(endpoint, taken),
        other => panic!("expected an address in use, got {other:?}"),
    }
    let (dialled, accepted) = tokio::join!(dial(subject, &taken), first.accept());
    drop((dialled, accepted.unwrap()));
}

async fn dialling_nobody_is_unreachable(subject: &Subject) {
    match subject.transport.dial(&subject.nobody).await {
        Err(TransportError::Unreachable { endpoint, source }) => {
            assert_eq!(endpoint, subject.nobody.endpoint());
            assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        }
        other => panic!("expected nobody to be reached, got {other:?}"),
    }
}

async fn a_foreign_scheme_is_refused(subject: &Subject) {
    let scheme = subject.transport.scheme();
    assert_eq!(scheme, subject.anywhere.scheme());
    let listened = subject.transport.listen(&endpoint("pigeon://node:7")).await;
    let dialled = subject.transport.dial(&address("pigeon://Test@node:7")).await;
    for error in [listened.unwrap_err(), dialled.unwrap_err()] {
        match error {
            TransportError::WrongScheme { expected, found } => {
                assert_eq!((expected, found.as_str()), (scheme, "pigeon"));
            }
            other => panic!("expected a wrong scheme, got {other:?}"),
        }
    }
}

async fn accept_survives_diallers_that_go_away_at_once(subject: &Subject) {
    let mut listener = listen(subject).await;
    let at = listener.endpoint().clone();
    for _ in 0..3 {
        drop(dial(subject, &at).await);
    }
    let mut patient = dial(subject, &at).await.split();
    patient.1.write_all(b"!").await.unwrap();
    loop {
        let (mut reader, _writer) = listener.accept().await.unwrap().split();
        let mut byte = [0];
        if reader.read_exact(&mut byte).await.is_ok() {
            assert_eq!(&byte, b"!");
            return;
        }
    }
}

async fn a_cancelled_accept_loses_no_link(subject: &Subject) {
    let mut listener = listen(subject).await;
    let at = listener.endpoint().clone();
    tokio::select! {
        biased; // the accept must have been polled before it is dropped
        accepted = listener.accept() => panic!("nobody has dialled, but {accepted:?}"),
        () = std::future::ready(()) => {}
    }
    let (_reader, mut writer) = dial(subject, &at).await.split();
    writer.write_all(b"still here").await.unwrap();
    let (mut reader, _writer) = listener.accept().await.unwrap().split();
    expect_bytes(&mut reader, b"still here").await;
}

async fn a_dropped_listener_gives_its_address_back(subject: &Subject) {
    // A stranger may draw the port while it is free, so one success in a few rounds will do.
    for _ in 0..5 {
        let mut listener = listen(subject).await;
        let at = listener.endpoint().clone();
        let _dialled = dial(subject, &at).await;
        // The acceptor closes first: with TCP its port now lingers in TIME_WAIT.
        drop(listener.accept().await.unwrap());
        drop(listener);
        match subject.transport.listen(&at).await {
            Ok(mut again) => {
                assert_eq!(again.endpoint(), &at);
                let (_dialled, accepted) = tokio::join!(dial(subject, &at), again.accept());
                accepted.unwrap();
                return;
            }
            Err(TransportError::AddressInUse { .. }) => {}
            Err(other) => panic!("expected the address back, got {other:?}"),
        }
    }
    panic!("the address never came back");
}

async fn fifty_links_work_at_once(subject: &Subject) {
    let mut listener = listen(subject).await;
    let at = listener.endpoint().clone();
    let mut clients = JoinSet::new();
    for number in 0..50 {
        let dialling = dial_from(Arc::clone(&subject.transport), at.clone());
        clients.spawn(async move { hear_own_echo(dialling.await, number).await });
    }
    // All links are held open until the last one is there.
    let mut links = Vec::new();
    while links.len() < 50 {
        links.push(listener.accept().await.unwrap());
    }
    let mut servers = JoinSet::new();
    for link in links {
        servers.spawn(echo(link));
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    while let Some(server) = servers.join_next().await {
        server.unwrap();
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: took longer than {PATIENCE:?}"),
    }
}

async fn listen(subject: &Subject) -> Box<dyn Listener> {
    subject.transport.listen(&subject.anywhere).await.unwrap()
}

async fn dial(subject: &Subject, to: &Endpoint) -> Link {
    dial_from(Arc::clone(&subject.transport), to.clone()).await
}

async fn dial_from(transport: Arc<dyn Transport>, to: Endpoint) -> Link {
    transport.dial(&to.with_system("Test").unwrap()).await.unwrap()
}

/// Gives both sides of one link: the dialler's, then the acceptor's.
async fn pair(subject: &Subject) -> (Link, Link) {
    let mut listener = listen(subject).await;
    let at = listener.endpoint().clone();
    let (near, far) = tokio::join!(dial(subject, &at), listener.accept());
    (near, far.unwrap())
}

async fn hear_own_echo(link: Link, number: u8) {
    let (mut reader, mut writer) = link.split();
    let said = noise(1000, number);
    writer.write_all(&said).await.unwrap();
    writer.shutdown().await.unwrap();
    expect_bytes(&mut reader, &said).await;
}

async fn echo(link: Link) {
    let (mut reader, mut writer) = link.split();
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
}

async fn write_in_odd_chunks(writer: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) {
    for size in [1, 7, 1021, 4093, 65_537].into_iter().cycle() {
        let (chunk, rest) = bytes.split_at(size.min(bytes.len()));
        writer.write_all(chunk).await.unwrap();
        bytes = rest;
        if bytes.is_empty() {
            break;
        }
    }
    writer.flush().await.unwrap();
}

async fn expect_bytes(reader: &mut (impl AsyncRead + Unpin), expected: &[u8]) {
    let mut received = vec![0; expected.len()];
    reader.read_exact(&mut received).await.unwrap();
    let differs = received.iter().zip(expected).position(|(got, want)| got != want);
    assert_eq!(differs, None, "first byte that differs");
}

/// Writes what fits at this moment; `None` when nothing does.
async fn write_now(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Option<usize> {
    // Unconstrained, because a spent scheduling budget looks just like a full pipe.
    let attempt = std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match Pin::new(&mut *writer).poll_write(cx, bytes) {
            std::task::Poll::Ready(written) => Some(written.unwrap()),
            std::task::Poll::Pending => None,
        })
    });
    tokio::task::unconstrained(attempt).await
}

/// Makes bytes without a short period, so that a lost or doubled chunk shows.
fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut generator = noise_generator(u64::from(seed));
    (0..len).map(|_| generator()).collect()
}

/// Steps a 64-bit linear congruential generator (Knuth's MMIX constants) and shows its top byte.
fn noise_generator(mut state: u64) -> impl FnMut() -> u8 {
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    }
}

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// How long one check may take: ample, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);
