//! After a proper handshake: a bad message costs one dead letter, a broken rule of the wire costs the link.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tellwire::event::Reason;
use tellwire::node::{Delivery, Observed, WhenFull};
use tellwire::wire::{FrameKind, TellHeader, TextRef};
use tokio::sync::mpsc;
use tracing::span;

use crate::raw::{self, Control, PATIENCE, Raw, chooser, follower, soon};
use crate::{Bomb, Fuse, NOTE, NOTES, Note, Target, note, payload};

#[tokio::test]
async fn both_roles_of_a_handshake_lead_to_delivery() {
    let mut target = Target::start().await;
    for claims in [chooser(1), follower(1)] {
        let mut raw = Raw::join(&target.node, claims.clone()).await;
        raw.send(&note(&claims.address)).await;
        target.hears(&claims.address).await;
    }
}

#[tokio::test]
async fn a_frame_of_an_unknown_kind_is_counted_and_skipped() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    for kind in 8..=u8::MAX {
        raw.send(&raw::frame(FrameKind(kind), b"from the future")).await;
    }
    raw.send(&note("still here")).await;
    target.hears("still here").await;
    assert_eq!(target.node.stats().unknown_frames, 248);
}

#[tokio::test]
async fn an_unknown_manifest_costs_one_dead_letter_each_time() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let mut random = fastrand::Rng::with_seed(1);
    let mut texts = vec!["x".to_owned(), ":".to_owned(), "bincode:".to_owned(), "é".repeat(256)];
    texts.extend((0..65_536).map(|_| format!("bincode:v1.{:x}", random.u64(..))));
    let mut bytes = Vec::new();
    for (turn, text) in texts.iter().enumerate() {
        if turn < 1000 {
            let number = u16::try_from(turn + 1).unwrap();
            bytes.extend(raw::define(number, &text[..text.len().min(40)]));
            bytes.extend(raw::tell_with(&TellHeader::new(NOTES_LITERAL, raw::id(number)), b""));
        } else {
            bytes.extend(raw::tell(NOTES, text, b""));
        }
    }
    raw.send(&bytes).await;
    raw.send(&note("known")).await;
    target.hears("known").await;
    assert_eq!(target.dead(Reason::UnknownManifest), texts.len() as u64);
    assert_eq!(target.node.stats().dead_letters_total(), texts.len() as u64);
}

#[tokio::test]
async fn a_payload_cut_at_any_length_is_undecodable() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    raw.send(&[raw::define(1, NOTES), raw::define(2, NOTE)].concat()).await;
    let whole = payload("a text of some length");
    for cut in 0..whole.len() {
        raw.send(&raw::tell(NOTES, NOTE, &whole[..cut])).await;
        raw.send(&raw::tell_by_id(1, 2, &whole[..cut])).await;
    }
    for extra in [&b"\0"[..], b"more", &[0; 5000]] {
        raw.send(&raw::tell(NOTES, NOTE, &[&whole, extra].concat())).await;
        raw.send(&raw::tell_by_id(1, 2, &[&whole, extra].concat())).await;
    }
    raw.send(&raw::tell_by_id(1, 2, &payload("whole"))).await;
    target.hears("whole").await;
    let bad = 2 * (whole.len() as u64 + 3);
    assert_eq!(target.dead(Reason::Undecodable), bad);
    assert_eq!(target.node.stats().delivered, 1);
    let letter = target.dead_letter().await;
    assert_eq!((letter.count, letter.manifest.as_deref()), (1, Some(NOTE)));
    assert!(letter.detail.is_some());
}

#[tokio::test]
async fn dead_letters_before_a_broken_rule_are_not_lost() {
    let target = Target::start().await;
    let (full, _held) = mpsc::channel::<Delivery<Note>>(1);
    let (gone, _) = mpsc::channel::<Delivery<Note>>(1);
    let registration = target.node.registration("/user/full").accept::<Note, _>(full);
    registration.when_full(WhenFull::Refuse).register().expect("a free path");
    target.node.register::<Note, _>("/user/gone", gone).expect("a free path");
    let names = [raw::define(1, "/user/full"), raw::define(2, "/user/gone"), raw::define(3, NOTE)];
    let tells = |to| raw::tell_by_id(to, 3, &payload("x")).repeat(5);
    let undefined = TellHeader::new(TextRef::Literal("/user/full"), raw::id(999));
    let rest = [tells(1), tells(2), raw::tell_with(&undefined, &payload("x"))];
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    raw.send(&[names.concat(), rest.concat()].concat()).await;
    raw.ended().await;
    let stats = target.node.stats();
    assert_eq!((stats.tells_received, stats.delivered), (10, 1));
    assert_eq!((target.dead(Reason::MailboxFull), target.dead(Reason::MailboxGone)), (4, 5));
    assert_eq!(stats.dead_letters_total(), 9);
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn a_broken_rule_of_the_wire_closes_this_link_and_no_other() {
    let mut target = Target::start().await;
    let mut bystander = Raw::join(&target.node, follower(1_000)).await;
    let too_many = (1..=200).flat_map(|n| raw::define(n, &format!("{n:0>400}"))).collect();
    let literal = TextRef::Literal(NOTES);
    let not_utf8 = [&[0, 0, 0, 0, 2, 0xff, 0xfe][..], &[0; 40]].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an undefined target", raw::tell_with(&TellHeader::new(raw::id(9), literal), b"")),
        ("an undefined manifest", raw::tell_with(&TellHeader::new(literal, raw::id(9)), b"")),
        ("an undefined pair", raw::tell_by_id(9, 10, b"")),
        ("a redefinition", [raw::define(1, "one"), raw::define(1, "two")].concat()),
        ("more text than the dictionary holds", too_many),
        ("id 0", raw::define(0, "zero")),
        ("an id above the last", raw::define(1025, "beyond")),
        ("an empty definition", raw::define(1, "")),
        ("a long definition", raw::define(1, &"x".repeat(513))),
        ("an empty tell", raw::frame(FrameKind::TELL, b"")),
        ("reserved flags", raw::frame(FrameKind::TELL, &[0x80; 40])),
        ("a header cut short", raw::frame(FrameKind::TELL, &note("cut")[5..20])),
        ("a text that is none", raw::frame(FrameKind::TELL, &not_utf8)),
        ("an empty text", raw::frame(FrameKind::TELL, &[0; 40])),
        ("a long text", raw::frame(FrameKind::TELL, &[0, 0, 0, 2, 1].repeat(200))),
        ("a reply cut short", raw::frame(FrameKind::REPLY, &[0, 1])),
        ("a control frame of nothing", raw::frame(FrameKind::CONTROL, b"")),
        ("an unknown control frame", raw::frame(FrameKind::CONTROL, &[99])),
        ("a control frame with more behind", raw::frame(FrameKind::CONTROL, &[6, 6])),
        ("a long control frame", raw::frame(FrameKind::CONTROL, &[0; 9000])),
        ("a second hello", raw::frame(FrameKind::HELLO, b"TWR1\x01\x01")),
        ("an empty frame", vec![0, 0, 0, 0]),
    ];
    for (uid, (what, bytes)) in (10..).zip(cases) {
        let mut raw = Raw::join(&target.node, chooser(uid)).await;
        raw.send(&note(what)).await;
        target.hears(what).await;
        raw.send(&bytes).await;
        raw.send(&note("too late")).await;
        assert_eq!(raw.control().await, None, "{what}");
        bystander.send(&note("undisturbed")).await;
        target.hears("undisturbed").await;
    }
    assert_eq!(target.node.stats().dead_letters_total(), 0);
}

#[tokio::test]
async fn no_trick_in_a_path_reaches_an_actor() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let whole = target.node.path(NOTES).expect("a path").to_string();
    let long = format!("/{}", "user/".repeat(100));
    let deep = "/a".repeat(33);
    let tricks = [
        whole.as_str(),
        "tcp://Hostile@127.0.0.9:9/user/notes",
        "user/notes",
        "/user//notes",
        "/user/notes/",
        "//user/notes",
        "/user/./notes",
        "/user/x/../notes",
        "/user/..",
        "/..",
        "/",
        "/user/%6eotes",
        "/user%2fnotes",
        "/user/notes\0",
        "/user/notes\n",
        "/user/no tes",
        "/user\\notes",
        "/user/n\u{f6}tes",
        "/user/not\u{202e}es",
        "/USER/NOTES",
        "/user/notes?x",
        "/user/notes#1",
        "/user/*",
        "/system",
        "/user",
        "/user/notes/child",
        long.as_str(),
        deep.as_str(),
    ];
    for (number, trick) in (1..).zip(tricks) {
        raw.send(&raw::tell(trick, NOTE, &payload("tricked"))).await;
        let letter = target.dead_letter().await;
        assert!(
            matches!(letter.reason, Reason::Malformed | Reason::UnknownPath),
            "{trick:?}: {letter:?}"
        );
        raw.send(&raw::define(number, trick)).await;
        raw.send(&raw::tell_with(&TellHeader::new(raw::id(number), NOTE_LITERAL), b"")).await;
        target.dead_letter().await;
    }
    raw.send(&note("straight")).await;
    target.hears("straight").await;
    assert_eq!(target.node.stats().delivered, 1);
}

#[tokio::test]
async fn a_sender_on_another_node_is_not_believed() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let own = target.node.path("/user/echo").expect("a path").to_string();
    let honest = format!("{}/user/me", raw.claims.address);
    let claims = [
        ("/user/me", Some(honest)),
        ("tcp://Hostile@127.0.0.9:9/user/evil", None),
        (own.as_str(), None),
        ("/user/../evil", None),
        ("", None),
    ];
    for (number, (claim, believed)) in (1..).zip(claims) {
        let mut header = TellHeader::new(NOTES_LITERAL, NOTE_LITERAL);
        if !claim.is_empty() {
            header.sender = Some(TextRef::Literal(claim));
        }
        raw.send(&raw::tell_with(&header, &payload(claim))).await;
        let sender = target.hears(claim).await.envelope.sender.map(Arc::unwrap_or_clone);
        assert_eq!(sender.map(|sender| sender.to_string()), believed);
        if !claim.is_empty() {
            raw.send(&raw::define(number, claim)).await;
            header.sender = Some(raw::id(number));
            for _ in 0..2 {
                raw.send(&raw::tell_with(&header, &payload(claim))).await;
                let sender = target.hears(claim).await.envelope.sender.map(Arc::unwrap_or_clone);
                assert_eq!(sender.map(|sender| sender.to_string()), believed, "{claim} by id");
            }
        }
    }
}

#[tokio::test]
async fn a_reply_to_no_ask_is_ignored() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let there = target.node.resolve(format!("{}/user/x", raw.claims.address)).expect("a path");
    let question = Note { text: "who?".to_owned() };
    let asking = tokio::spawn(async move { there.ask::<Note, Note>(&question, PATIENCE).await });
    let correlation = raw.told().await.correlation.expect("an ask");
    for other in [0, correlation + 1, correlation << 32, u64::MAX] {
        raw.send(&raw::reply(other, NOTE, &payload("false"))).await;
        raw.send(&Control::AskFailed { correlation: other, reason: Reason::NoReply }.frame()).await;
    }
    for answer in ["true", "late", "later"] {
        raw.send(&raw::reply(correlation, NOTE, &payload(answer))).await;
    }
    raw.send(&note("after all")).await;
    target.hears("after all").await;
    assert_eq!(asking.await.unwrap().expect("a reply").text, "true");
    assert_eq!(target.node.stats().dead_letters_total(), 0);
}

#[tokio::test]
async fn a_bad_reply_fails_its_ask_alone() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let there = target.node.resolve(format!("{}/user/x", raw.claims.address)).expect("a path");
    for (name, bytes) in [
        (NOTE, &b""[..]),
        (NOTE, &[253, 255, 255, 255, 255, 255, 255, 255, 255]),
        ("bincode:hostile.v1.Bomb", b""),
        ("bincode:hostile.v1.Units", b"\0"),
        ("none", b""),
    ] {
        let (asked, question) = (there.clone(), Note { text: "who?".to_owned() });
        let asking = tokio::spawn(async move { asked.ask::<_, Note>(&question, PATIENCE).await });
        let correlation = raw.told().await.correlation.expect("an ask");
        raw.send(&raw::reply(correlation, name, bytes)).await;
        asking.await.unwrap().expect_err("no reply");
    }
    raw.send(&note("after all")).await;
    target.hears("after all").await;
}

#[tokio::test]
async fn an_ask_that_ends_nowhere_is_answered_with_the_reason() {
    let target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let cases = [
        ("/user/nobody", NOTE, Reason::UnknownPath),
        (NOTES, "bincode:hostile.v1.Nothing", Reason::UnknownManifest),
        (NOTES, "bincode:hostile.v1.Units", Reason::NotAccepted),
        (NOTES, NOTE, Reason::Undecodable),
        ("/user/../x", NOTE, Reason::Malformed),
    ];
    for (turn, (path, name, reason)) in (1..).zip(cases) {
        let mut header = TellHeader::new(TextRef::Literal(path), TextRef::Literal(name));
        header.correlation = Some(turn);
        raw.send(&raw::tell_with(&header, b"")).await;
        let failed = Control::AskFailed { correlation: turn, reason };
        assert_eq!(raw.control().await, Some(failed), "{path}");
    }
}

#[tokio::test]
async fn a_panic_in_a_mailbox_or_codec_costs_its_message_alone() {
    let mut target = Target::start().await;
    let node = &target.node;
    node.register::<Note, _>("/user/panics", |_| panic!("a mailbox that panics")).expect("free");
    node.register::<Bomb, _>("/user/bomb", |_| {}).expect("a free path");
    let fuse = node.actor::<Note, _>("/user/fuse", async |_: Note, _: &mut _| {});
    let _fuse = fuse.accept::<Fuse>().spawn().expect("a free path");
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let mut bystander = Raw::join(&target.node, follower(1_000)).await;
    let cases = [
        ("/user/panics", NOTE, payload("ouch"), Reason::Panicked),
        ("/user/bomb", "bincode:hostile.v1.Bomb", Vec::new(), Reason::Panicked),
        ("/user/fuse", "bincode:hostile.v1.Fuse", Vec::new(), Reason::Panicked),
    ];
    for (number, (path, name, bytes, reason)) in (1..).zip(cases) {
        let (path_id, name_id) = (2 * number, 2 * number + 1);
        raw.send(&[raw::define(path_id, path), raw::define(name_id, name)].concat()).await;
        let by_id = raw::tell_by_id(path_id, name_id, &bytes);
        for frame in [raw::tell(path, name, &bytes), by_id] {
            raw.send(&[note("before"), frame.clone(), frame, note("behind")].concat()).await;
            target.hears("before").await;
            target.hears("behind").await;
            for _ in 0..2 {
                assert_eq!(target.dead_letter().await.reason, reason, "{path}");
            }
            bystander.send(&note("undisturbed")).await;
            target.hears("undisturbed").await;
        }
    }
}

#[tokio::test]
async fn an_actor_that_panics_stops_alone() {
    let mut target = Target::start().await;
    let fragile = target.node.spawn("/user/fragile", async |note: Note, _: &mut _| {
        assert_ne!(note.text, "push", "an actor that panics");
    });
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    raw.send(&raw::tell("/user/fragile", NOTE, &payload("push"))).await;
    soon(fragile.expect("a free path").stopped()).await;
    raw.send(&note("unharmed")).await;
    target.hears("unharmed").await;
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn a_hundred_thousand_bad_tells_flood_neither_log_nor_stream() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let started = std::time::Instant::now();
    let mut target = Target::start_with(|s| s.observe.stream_capacity = 64).await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let bad = [raw::tell("/user/nobody", NOTE, b""), raw::tell(NOTES, NOTE, b"")].concat();
    for _ in 0..500 {
        raw.send(&bad.repeat(100)).await;
    }
    raw.send(&raw::frame(FrameKind::GOSSIP, b"scandal").repeat(200)).await;
    raw.send(&note("at last")).await;
    target.hears("at last").await;
    assert_eq!(
        (target.dead(Reason::UnknownPath), target.dead(Reason::Undecodable)),
        (50_000, 50_000)
    );
    assert_eq!(soon(target.dead.next()).await, Some(Observed::Missed(100_000 - 64)));
    let windows = started.elapsed().as_secs() + 2;
    let written = lines.0.load(Ordering::Relaxed);
    // Ten a second for dead letters, ten for protocol faults, and what a start says.
    assert!((1..=20 * windows + 10).contains(&written), "{written} lines in {windows} s");
}

/// Counts the log lines of info and above that this thread writes.
#[derive(Clone, Default)]
struct Lines(Arc<AtomicU64>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

const NOTES_LITERAL: TextRef<'static> = TextRef::Literal(NOTES);
const NOTE_LITERAL: TextRef<'static> = TextRef::Literal(NOTE);
