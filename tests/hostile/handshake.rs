//! Before the activation of a link: nothing of a peer's is believed, decoded or kept.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tellwire::event::NodeEvent;
use tellwire::wire::FrameKind;

use crate::raw::{self, Control, Raw, Refusal, Unique, chooser, follower};
use crate::{DECODED, Note, Target, note};

#[tokio::test]
async fn a_silent_peer_is_closed_after_the_handshake_time() {
    let target = Target::start_with(|s| s.association.handshake_timeout = SHORT).await;
    let mut raw = Raw::connect(&target.node, chooser(1)).await;
    assert_eq!(raw.next().await, None);
    assert_eq!(target.node.stats().handshakes_refused, 1);
}

#[tokio::test]
async fn a_hello_that_drips_in_does_not_outlast_the_handshake_time() {
    let target = Target::start_with(|s| s.association.handshake_timeout = SHORT).await;
    let mut raw = Raw::connect(&target.node, chooser(1)).await;
    let hello = raw.hello().frame();
    let mut pace = tokio::time::interval(SHORT / 4);
    for byte in &hello {
        pace.tick().await;
        if !raw.try_send(&[*byte]).await {
            break;
        }
    }
    assert_eq!(raw.next().await, None);
}

#[tokio::test]
async fn a_hello_cut_anywhere_gets_no_answer() {
    let target = Target::start().await;
    let whole = Raw::connect(&target.node, chooser(1)).await.hello().frame();
    for cut in 0..whole.len() {
        let mut raw = Raw::connect(&target.node, chooser(1)).await;
        raw.send(&whole[..cut]).await;
        raw.finish().await;
        assert_eq!(raw.next().await, None, "cut at {cut}");
    }
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn a_hello_changed_anywhere_never_upsets_the_node() {
    let target = Target::start().await;
    let whole = Raw::connect(&target.node, chooser(1)).await.hello().frame();
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut raw = Raw::connect(&target.node, chooser(1)).await;
            let mut hello = whole.clone();
            hello[at] ^= flip;
            raw.try_send(&hello).await;
            raw.finish().await;
            raw.ended().await;
        }
    }
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn garbage_in_place_of_a_hello_closes_the_link() {
    let target = patient().await;
    let mut random = fastrand::Rng::with_seed(7);
    let mut garbage: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        raw::frame(FrameKind::HELLO, b"TWR2\x01\x01"),
        raw::frame(FrameKind::HELLO, b"TWR1\x00\x01"),
        raw::frame(FrameKind::HELLO, b"TWR1\x02\x01"),
        raw::frame(FrameKind::HELLO, b"TWR1\x01\x01"),
    ];
    garbage.extend((0..50).map(|_| {
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(64).collect();
        // A length within the limit could wait for its bytes, rightly.
        bytes[0] = bytes[0].max(1);
        bytes
    }));
    for bytes in garbage {
        let mut raw = Raw::connect(&target.node, chooser(1)).await;
        raw.try_send(&bytes).await;
        assert_eq!(raw.next().await, None, "{bytes:02x?}");
    }
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn no_frame_before_the_hello_reaches_a_codec() {
    let target = patient().await;
    target.node.register::<crate::Counted, _>("/user/counted", |_| {}).expect("a free path");
    let tell = raw::tell("/user/counted", "bincode:hostile.v1.Counted", b"");
    for kind in (0..=u8::MAX).filter(|kind| FrameKind(*kind) != FrameKind::HELLO) {
        let mut raw = Raw::connect(&target.node, chooser(1)).await;
        raw.send(&raw::frame(FrameKind(kind), &tell[5..])).await;
        assert_eq!(raw.next().await, None, "kind {kind}");
    }
    let stats = target.node.stats();
    assert_eq!(
        (stats.handshakes_refused, stats.tells_received, stats.gossip_received),
        (255, 0, 0)
    );
    assert_eq!(stats.replies_received + stats.dead_letters_total(), 0);
    assert_eq!(DECODED.load(Ordering::Relaxed), 0);
    // The count would have noticed: an honest link gets there.
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    raw.send(&tell).await;
    raw.send(&Control::Ping { nonce: 1, received: 0 }.frame()).await;
    raw.control().await;
    assert_eq!(DECODED.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_frame_out_of_bounds_before_the_hello_closes_the_link() {
    let target = patient().await;
    for length in [0, HANDSHAKE_LIMIT + 1, 1 << 24, u32::MAX] {
        let mut raw = Raw::connect(&target.node, chooser(1)).await;
        raw.send(&length.to_be_bytes()).await;
        assert_eq!(raw.next().await, None, "length {length}");
    }
    let mut raw = Raw::connect(&target.node, chooser(1)).await;
    raw.send(&HANDSHAKE_LIMIT.to_be_bytes()).await;
    assert!(!raw.ends_within(SHORT).await, "the longest frame of all is waited for");
}

#[tokio::test]
async fn a_stranger_is_told_why_it_is_refused() {
    let mut target = Target::start().await;
    let own = target.node.address().to_string();
    let port = target.node.address().port();
    let idle = Raw::connect(&target.node, chooser(1)).await;
    let honest = idle.hello();
    let mut other_system = honest.clone();
    other_system.from.address = "tcp://Other@127.0.0.1:1".to_owned();
    let mut other_target = honest.clone();
    other_target.to = format!("tcp://{}@localhost:{port}", raw::SYSTEM);
    let mut own_address = honest.clone();
    own_address.from.address.clone_from(&own);
    let cases = [
        (other_system.frame(), Refusal::System { system: raw::SYSTEM.to_owned() }),
        (other_target.frame(), Refusal::WrongTarget { address: own }),
        (own_address.frame(), Refusal::OwnAddress),
        (honest.frame_of_versions(2, 9), Refusal::Version { min: 1, max: 1 }),
        (raw::frame(FrameKind::HELLO, b"TWR1\x02\x02unknown"), Refusal::Version { min: 1, max: 1 }),
    ];
    for (hello, refusal) in cases {
        let mut raw = Raw::connect(&target.node, chooser(1)).await;
        raw.send(&hello).await;
        assert_eq!(raw.refused().await, refusal);
        let event = target.event(|event| matches!(event, NodeEvent::HandshakeRefused { .. })).await;
        assert!(matches!(event, NodeEvent::HandshakeRefused { why, .. } if !why.is_empty()));
    }
    assert_eq!(target.node.stats().handshakes_refused, 5);
    assert_eq!(target.node.associations(), []);
}

#[tokio::test]
async fn a_refusal_arrives_whole_although_the_peer_has_said_more() {
    let target = Target::start().await;
    let mut raw = Raw::connect(&target.node, chooser(1)).await;
    let mut hello = raw.hello();
    hello.to = "tcp://Hostile@127.0.0.9:9".to_owned();
    let mut bytes = hello.frame();
    bytes.extend(note("unwanted").repeat(500));
    raw.send(&bytes).await;
    assert!(matches!(raw.refused().await, Refusal::WrongTarget { .. }));
}

#[tokio::test]
async fn no_tell_before_the_activation_is_delivered() {
    let mut target = patient().await;
    for frame in [
        note("early"),
        raw::reply(1, crate::NOTE, b""),
        raw::frame(FrameKind::GOSSIP, b"rumour"),
        raw::define(1, "/user/notes"),
    ] {
        let mut raw = Raw::connect(&target.node, chooser(1)).await;
        raw.send(&raw.hello().frame()).await;
        raw.welcomed().await;
        raw.send(&frame).await;
        assert_eq!(raw.control().await, None, "kind {}", frame[4]);
    }
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    raw.send(&note("in turn")).await;
    target.hears("in turn").await;
}

#[tokio::test]
async fn a_long_frame_before_the_activation_closes_the_link() {
    let target = patient().await;
    let mut raw = Raw::connect(&target.node, chooser(1)).await;
    raw.send(&raw.hello().frame()).await;
    raw.welcomed().await;
    raw.send(&(HANDSHAKE_LIMIT + 1).to_be_bytes()).await;
    assert_eq!(raw.control().await, None);
}

#[tokio::test]
async fn a_long_answer_to_a_dial_closes_the_link() {
    let target = patient().await;
    let listener = raw::listener().await;
    let path = format!("{}/user/x", raw::address_of(&listener));
    let there = target.node.resolve(path).expect("a path");
    there.tell(&Note { text: "dial".to_owned() }).expect("room");
    let mut raw = Raw::accept(&listener, &target.node, 1).await;
    raw.greeted().await;
    raw.send(&(HANDSHAKE_LIMIT + 1).to_be_bytes()).await;
    assert_eq!(raw.control().await, None);
}

#[tokio::test]
async fn a_false_answer_to_a_dial_closes_the_link_and_the_next_dial_succeeds() {
    let target = Target::start_with(|s| {
        s.association.backoff_min = Duration::from_millis(1);
        s.association.backoff_max = Duration::from_millis(1);
    })
    .await;
    let listener = raw::listener().await;
    let path = format!("{}/user/x", raw::address_of(&listener));
    let there = target.node.resolve(path).expect("a path");
    there.tell(&Note { text: "patience".to_owned() }).expect("room");
    let liar = raw::Welcome {
        version: 1,
        from: Unique { address: "tcp://Hostile@127.0.0.9:9".to_owned(), uid: 3 },
        max_message: 1 << 20,
        registry: 0,
    };
    let answers = [
        Control::Welcome(liar).frame(),
        Control::Goodbye.frame(),
        Control::Activate { generation: 1, received: 0 }.frame(),
        raw::frame(FrameKind::CONTROL, b"\xff"),
        raw::frame(FrameKind::CONTROL, b""),
        raw::frame(FrameKind::HELLO, b"TWR1\x01\x01"),
        note("early"),
    ];
    for (turn, answer) in answers.into_iter().enumerate() {
        let mut raw = Raw::accept(&listener, &target.node, 1).await;
        raw.greeted().await;
        raw.send(&answer).await;
        assert_eq!(raw.control().await, None, "answer {turn}");
    }
    let mut raw = Raw::accept(&listener, &target.node, 1).await;
    raw.greeted().await;
    raw.send(&Control::Welcome(raw.welcome()).frame()).await;
    raw.activate(1).await;
    assert_eq!(raw.told().await.target, "/user/x");
}

#[tokio::test]
async fn a_control_frame_out_of_turn_closes_the_link() {
    let target = patient().await;
    for claims in [chooser(1), follower(1)] {
        let welcome = Raw::connect(&target.node, claims.clone()).await.welcome();
        for pdu in [
            Control::Welcome(welcome),
            Control::Refuse(Refusal::Quarantined),
            Control::Activate { generation: 0, received: 0 },
        ] {
            let mut raw = Raw::connect(&target.node, claims.clone()).await;
            raw.send(&raw.hello().frame()).await;
            raw.welcomed().await;
            raw.send(&pdu.frame()).await;
            raw.ended().await;
        }
    }
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn silent_links_do_not_keep_a_healthy_peer_out() {
    let target = Target::start_with(|s| s.association.handshake_timeout = SHORT * 5).await;
    let mut silent = Vec::new();
    for _ in 0..2000 {
        silent.push(Raw::connect(&target.node, chooser(1)).await);
    }
    target.serves_a_healthy_peer().await;
    for raw in &mut silent {
        assert_eq!(raw.next().await, None);
    }
    assert!(target.node.stats().handshakes_refused >= 2000);
}

#[tokio::test]
async fn the_latest_of_many_links_of_one_peer_is_kept() {
    let mut target = patient().await;
    let mut links = Vec::new();
    for _ in 0..300 {
        let mut raw = Raw::connect(&target.node, chooser(1)).await;
        raw.send(&raw.hello().frame()).await;
        raw.welcomed().await;
        links.push(raw);
    }
    let mut latest = links.pop().expect("a link");
    for earlier in &mut links {
        assert_eq!(earlier.control().await, None);
    }
    latest.activate(1).await;
    latest.send(&note("the one that counts")).await;
    target.hears("the one that counts").await;
    assert_eq!(target.node.associations().len(), 1);
}

#[tokio::test]
async fn links_that_are_never_activated_are_bounded() {
    let target = Target::start_with(|s| {
        s.association.handshake_timeout = LONG;
        s.inbound.max_handshakes = 3;
    })
    .await;
    let mut waiting = Vec::new();
    for port in 1..=3 {
        let address = format!("tcp://Hostile@127.0.0.1:{port}");
        let mut raw = Raw::connect(&target.node, Unique { address, uid: 1 }).await;
        raw.send(&raw.hello().frame()).await;
        raw.welcomed().await;
        waiting.push(raw);
    }
    let mut fourth = Raw::connect(&target.node, chooser(1)).await;
    assert_eq!(fourth.next().await, None, "no room before the others are done");
    waiting[0].activate(1).await;
    waiting[0].send(&note("done")).await;
    target.serves_a_healthy_peer().await;
}

/// Starts a node that waits for long, so that what closes a link is not its time-out.
async fn patient() -> Target {
    Target::start_with(|s| {
        s.association.handshake_timeout = LONG;
        s.association.give_up_after = LONG;
    })
    .await
}

/// The longest frame that a node takes before it knows the peer.
const HANDSHAKE_LIMIT: u32 = 16 * 1024 - 4;
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(120);
