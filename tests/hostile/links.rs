//! Links that flood, stall, drip or return: memory stays bounded and the others are served.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tellwire::event::{NodeEvent, Reason};
use tellwire::node::TellError;
use tellwire::transport::{TcpSettings, TcpTransport};
use tellwire::wire::FrameKind;
use tellwire::{Uid, UniqueAddress};

use crate::raw::{self, Control, Raw, Refusal, Unique, chooser, follower, soon};
use crate::{Healthy, NOTE, Note, Target, note};

#[tokio::test]
async fn a_frame_above_the_limit_closes_the_link_before_its_bytes_arrive() {
    let target = Target::start_with(|s| s.inbound.max_message = MAX_MESSAGE).await;
    let limit = u32::try_from(MAX_MESSAGE + HEADER_ROOM).unwrap();
    for (uid, length) in (1..).zip([0, limit + 1, 1 << 30, u32::MAX]) {
        let mut raw = Raw::join(&target.node, chooser(uid)).await;
        raw.send(&length.to_be_bytes()).await;
        assert_eq!(raw.control().await, None, "length {length}");
    }
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn pings_without_end_are_answered_and_starve_nobody() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    for nonce in 0..20_000 {
        raw.send(&Control::Ping { nonce, received: 0 }.frame()).await;
        if nonce % 1000 == 999 {
            while raw.control().await != Some(Control::Pong { nonce, received: 0 }) {}
            target.serves_a_healthy_peer().await;
        }
    }
    raw.send(&note("after the pings")).await;
    target.hears("after the pings").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_tiny_frames_does_not_stop_a_healthy_peer() {
    let target = Target::start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut floods = Vec::new();
    for (port, bytes) in [
        (1, raw::frame(FrameKind(200), b"").repeat(5000)),
        (2, raw::frame(FrameKind::GOSSIP, b"").repeat(5000)),
        (3, raw::tell("/user/nobody", NOTE, b"").repeat(500)),
        (4, raw::reply(7, NOTE, b"").repeat(500)),
        (5, Control::Received { received: u64::MAX }.frame().repeat(1000)),
        (6, Control::Ping { nonce: 1, received: 0 }.frame()),
    ] {
        let address = format!("tcp://{}@127.0.0.1:{port}", raw::SYSTEM);
        let mut raw = Raw::join(&target.node, Unique { address, uid: port }).await;
        let stop = Arc::clone(&stop);
        floods.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                raw.send(&bytes).await;
                tokio::task::yield_now().await;
            }
        }));
    }
    let healthy = Healthy::start().await;
    healthy.asks(&target.node, 200).await;
    stop.store(true, Ordering::Relaxed);
    for flood in floods {
        soon(flood).await.expect("the node reads on");
    }
    assert!(target.node.stats().unknown_frames > 0);
}

#[tokio::test]
async fn a_peer_that_stops_reading_fills_its_own_outbox_only() {
    let mut target = Target::start_with(|s| s.outbox.max_bytes = 256 * KIB).await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    fill(&mut target, &mut raw).await;
    raw.send(&note("still talking")).await;
    target.hears("still talking").await;
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn what_is_half_written_to_a_peer_that_stops_is_not_thought_received() {
    let mut target = Target::start_with(|s| s.outbox.max_bytes = 256 * KIB).await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let accepted = fill(&mut target, &mut raw).await;
    raw.send(&Control::Goodbye.frame()).await;
    target.event(|event| matches!(event, NodeEvent::PossiblyLost { .. })).await;
    let (lost, waiting) = (target.dead(Reason::LinkLost), target.dead(Reason::PeerStopped));
    assert!(lost > 0 && waiting > 0 && lost + waiting == accepted, "{lost} and {waiting}");
}

/// Tells the peer until nothing more goes out, and gives how many tells were taken.
async fn fill(target: &mut Target, raw: &mut Raw) -> u64 {
    // It grants whatever may be asked for, and then does not read it.
    let grants = (0..8).map(|account| (account, (1 << 40, 1 << 40))).collect();
    raw.send(&Control::Credit { grants }.frame()).await;
    raw.send(&note("granted")).await;
    target.hears("granted").await;
    let there = target.node.resolve(format!("{}/user/x", raw.claims.address)).expect("a path");
    let big = Note { text: "x".repeat(60_000) };
    let mut accepted = 0;
    soon(async {
        // The kernel takes some megabytes; what it does not take has to wait here.
        while accepted < 2000 {
            match there.tell(&big) {
                Ok(()) => accepted += 1,
                Err(TellError::Full) if is_stuck(target) => break,
                Err(TellError::Full) => {}
                Err(other) => panic!("{other}"),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(there.tell(&big), Err(TellError::Full)), "after {accepted}");
    let snapshot = target.node.associations().remove(0);
    assert!(snapshot.queued_bytes <= 256 * KIB + big.text.len() + 1024, "{snapshot:?}");
    accepted
}

/// Tells whether the outbox is full and its writer no longer empties it.
fn is_stuck(target: &Target) -> bool {
    let before = target.node.stats().bytes_sent;
    let snapshot = target.node.associations().remove(0);
    snapshot.queued_bytes >= 256 * KIB && {
        std::thread::yield_now();
        target.node.stats().bytes_sent == before && before > 128 * KIB as u64
    }
}

#[tokio::test]
async fn a_peer_that_stops_inside_a_frame_is_found_dead() {
    let mut target = Target::start_with(lively).await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let whole = note("half");
    raw.send(&whole[..whole.len() / 2]).await;
    raw.ended().await;
    target.event(|event| matches!(event, NodeEvent::AssociationDown { .. })).await;
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn a_tell_that_comes_byte_by_byte_is_delivered() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, follower(1)).await;
    for byte in note("drop by drop") {
        raw.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    target.hears("drop by drop").await;
}

#[tokio::test]
async fn a_frame_that_drips_without_end_closes_the_link() {
    let target = Target::start_with(lively).await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    raw.send(&u32::try_from(MIB).unwrap().to_be_bytes()).await;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    // At this pace the frame would take six hours.
    soon(async {
        while raw.try_send(&[99]).await {
            pace.tick().await;
        }
    })
    .await;
    raw.ended().await;
}

#[tokio::test]
async fn a_second_link_does_not_keep_a_dead_one_alive() {
    let target = Target::start_with(|settings| {
        lively(settings);
        settings.association.handshake_timeout = Duration::from_secs(120);
    })
    .await;
    let mut dead = Raw::join(&target.node, follower(1)).await;
    let mut parked = Raw::connect(&target.node, follower(1)).await;
    parked.send(&parked.hello().frame()).await;
    parked.welcomed().await;
    let ping = Control::Ping { nonce: 1, received: 0 }.frame();
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    soon(async {
        while !dead.ends_within(Duration::from_millis(1)).await {
            parked.send(&ping).await;
            pace.tick().await;
        }
    })
    .await;
}

#[tokio::test]
async fn pongs_for_a_peer_that_does_not_read_are_bounded() {
    const PINGS: u64 = 100_000;
    let small = NonZeroU32::new(4096);
    let mut tcp = TcpSettings::default();
    tcp.send_buffer = small;
    let mut target = Target::start_over(TcpTransport::with_settings(tcp), |_| {}).await;
    let mut raw = Raw::connect_with(&target.node, chooser(1), small).await;
    raw.send(&raw.hello().frame()).await;
    raw.welcomed().await;
    raw.activate(1).await;
    for nonce in 0..PINGS {
        raw.send(&Control::Ping { nonce: u64::MAX - nonce, received: 0 }.frame()).await;
    }
    raw.send(&note("behind the pings")).await;
    target.hears("behind the pings").await;
    raw.finish().await;
    let mut pongs = 0;
    while let Some(Control::Pong { .. }) = raw.control().await {
        pongs += 1;
    }
    // 64 KiB wait in the node, some more in the kernel; a Pong takes 16 bytes.
    assert!(pongs < PINGS / 4, "{pongs} pongs");
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn a_later_incarnation_fences_the_earlier_one() {
    let mut target = Target::start().await;
    let mut old = Raw::join(&target.node, chooser(1)).await;
    old.send(&note("old")).await;
    target.hears("old").await;
    let mut new = Raw::join(&target.node, chooser(2)).await;
    target.event(|event| matches!(event, NodeEvent::NewIncarnation { .. })).await;
    new.send(&note("new")).await;
    target.hears("new").await;
    old.try_send(&note("too late")).await;
    old.ended().await;
    let mut again = Raw::connect(&target.node, chooser(1)).await;
    again.send(&again.hello().frame()).await;
    assert_eq!(again.refused().await, Refusal::StaleIncarnation);
    new.send(&note("newer")).await;
    target.hears("newer").await;
}

#[tokio::test]
async fn a_control_frame_out_of_turn_closes_an_active_link_and_the_peer_may_return() {
    let mut target = Target::start().await;
    for (uid, claims) in [(1, chooser(0)), (2, follower(0))] {
        let claims = Unique { uid, ..claims };
        let welcome =
            raw::Welcome { version: 1, from: claims.clone(), max_message: 1, registry: 0 };
        for (turn, pdu) in (1..).zip([
            Control::Welcome(welcome),
            Control::Refuse(Refusal::Quarantined),
            Control::Activate { generation: 0, received: 0 },
            Control::Activate { generation: u64::MAX, received: u64::MAX },
        ]) {
            let mut raw = Raw::connect(&target.node, claims.clone()).await;
            raw.send(&raw.hello().frame()).await;
            raw.welcomed().await;
            raw.activate(turn).await;
            raw.send(&note("up")).await;
            target.hears("up").await;
            raw.send(&pdu.frame()).await;
            raw.ended().await;
        }
    }
}

#[tokio::test]
async fn a_goodbye_is_answered_and_the_peer_may_return() {
    let mut target = Target::start().await;
    for claims in [chooser(1), follower(1)] {
        let mut raw = Raw::join(&target.node, claims.clone()).await;
        raw.send(&[note("last"), Control::Goodbye.frame(), note("after")].concat()).await;
        assert_eq!(raw.control().await, Some(Control::Goodbye));
        assert_eq!(raw.control().await, None);
        target.hears("last").await;
        let mut raw = Raw::join(&target.node, Unique { uid: 2, ..claims }).await;
        raw.send(&note("back")).await;
        target.hears("back").await;
    }
}

#[tokio::test]
async fn strangers_that_come_and_go_leave_room_for_others() {
    let target = Target::start_with(|s| {
        s.inbound.max_peers = 8;
        s.association.give_up_after = Duration::from_millis(10);
        s.association.backoff_max = s.association.backoff_min;
    })
    .await;
    for port in 1..=64 {
        let address = format!("tcp://{}@127.0.0.1:{port}", raw::SYSTEM);
        let claims = Unique { address, uid: port };
        soon(async {
            // Room is made as soon as one of the earlier strangers is given up.
            loop {
                let mut raw = Raw::connect(&target.node, claims.clone()).await;
                raw.send(&raw.hello().frame()).await;
                match raw.control().await {
                    Some(Control::Welcome(_)) if port % 2 == 0 => break,
                    Some(Control::Welcome(_)) => {
                        let address = claims.address.parse().expect("an address");
                        let fenced = UniqueAddress::new(address, Uid::new(port));
                        target.node.quarantine(&fenced).await.expect("a peer");
                        break;
                    }
                    Some(Control::Refuse(Refusal::TooManyPeers)) => {}
                    other => panic!("{other:?}"),
                }
            }
        })
        .await;
    }
    target.serves_a_healthy_peer().await;
    assert!(target.node.associations().len() <= 8);
}

/// Finds dead links soon, yet not on a busy machine's first hiccup.
fn lively(settings: &mut tellwire::Settings) {
    settings.association.ping_interval = Duration::from_millis(300);
    settings.association.liveness_timeout = Duration::from_secs(1);
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const MAX_MESSAGE: usize = MIB;
/// What a frame may have beside its message.
const HEADER_ROOM: usize = 64 * KIB;
