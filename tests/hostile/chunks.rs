//! Chunks out of turn cost the link, whatever they claim takes no memory, and what is whole is delivered.

use std::time::Duration;

use tellwire::event::Reason;
use tellwire::wire::{ChunkHeader, ChunkStart, FrameKind};

use crate::raw::{self, Control, Raw, chooser, follower, soon};
use crate::{NOTE, NOTES, Note, Target, note, payload};

#[tokio::test]
async fn chunks_of_any_size_make_the_message_and_others_pass_between_them() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let text = "long ".repeat(1000);
    let whole = body(&text);
    for (message, size) in (1..).zip([1, 7, 100, 4999, 5000, 1 << 20]) {
        let pieces: Vec<_> = whole.chunks(size).collect();
        let last = pieces.len() - 1;
        for (number, piece) in pieces.iter().enumerate() {
            raw.send(&chunk(message, (number == 0).then_some(&whole), number == last, piece)).await;
            if number == 0 && last > 0 {
                raw.send(&note("between")).await;
                target.hears("between").await;
            }
        }
        target.hears(&text).await;
    }
    assert_eq!(target.node.stats().dead_letters_total(), 0);
}

#[tokio::test]
async fn a_broken_rule_of_chunks_closes_this_link_and_no_other() {
    let mut target = Target::start().await;
    let mut bystander = Raw::join(&target.node, follower(1_000)).await;
    let whole = body("whole");
    let first = chunk(1, Some(&whole), false, &whole[..9]);
    let of_kind = |kind| announced(whole.len(), kind, &whole[..9]);
    let limit = 16 * MIB + 64 * KIB;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a chunk of nothing begun", chunk(1, None, false, b"x")),
        ("an end of nothing begun", chunk(1, None, true, b"x")),
        ("another message's chunk", [&first[..], &chunk(2, None, true, &whole[9..])].concat()),
        ("the same beginning twice", [&first[..], &first].concat()),
        ("a message within", [&first[..], &chunk(2, Some(&whole), false, &whole)].concat()),
        ("more than announced", [&first[..], &chunk(1, None, false, &whole)].concat()),
        ("all and no end, then more", {
            let all = chunk(1, None, false, &whole[9..]);
            [&first[..], &all, &chunk(1, None, true, b"x")].concat()
        }),
        ("less than announced", [&first[..], &chunk(1, None, true, b"x")].concat()),
        ("an empty chunk", [&first[..], &chunk(1, None, false, b"")].concat()),
        ("an empty message", chunk(1, Some(b""), true, b"")),
        ("a byte above the limit", announced(limit + 1, FrameKind::TELL, b"x")),
        ("the largest announcement", announced(u32::MAX as usize, FrameKind::TELL, b"x")),
        ("chunks of a chunk", of_kind(FrameKind::CHUNK)),
        ("chunks of a hello", of_kind(FrameKind::HELLO)),
        ("chunks of control", of_kind(FrameKind::CONTROL)),
        ("chunks of gossip", of_kind(FrameKind::GOSSIP)),
        ("chunks of a definition", of_kind(FrameKind::DEFINE)),
        ("chunks of what nobody knows", of_kind(FrameKind(200))),
        ("reserved flags", raw::frame(FrameKind::CHUNK, &[0, 0, 0, 1, 4, 0])),
        ("half a header", raw::frame(FrameKind::CHUNK, &[0, 0, 0, 1, 1, 0])),
        ("a whole that is no tell", chunk(1, Some(&[0x80; 40]), true, &[0x80; 40])),
    ];
    for (uid, (what, bytes)) in (10..).zip(cases) {
        let mut raw = Raw::join(&target.node, chooser(uid)).await;
        raw.send(&note(what)).await;
        target.hears(what).await;
        raw.send(&bytes).await;
        raw.try_send(&note("too late")).await;
        assert_eq!(raw.control().await, None, "{what}");
        bystander.send(&note("undisturbed")).await;
        target.hears("undisturbed").await;
    }
    assert_eq!(target.node.stats().dead_letters_total(), 0);
}

#[tokio::test]
async fn a_message_that_is_kept_incomplete_closes_the_link() {
    let ping = Control::Ping { nonce: 1, received: 0 }.frame();
    for more in [ping, note("beside"), chunk(1, None, false, b"x")] {
        let target = Target::start_with(|settings| {
            settings.association.ping_interval = Duration::from_millis(300);
            settings.association.liveness_timeout = Duration::from_secs(1);
        })
        .await;
        let mut raw = Raw::join(&target.node, chooser(1)).await;
        raw.send(&announced(MIB, FrameKind::TELL, b"x")).await;
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        soon(async {
            while raw.try_send(&more).await {
                pace.tick().await;
            }
        })
        .await;
        raw.ended().await;
    }
}

#[tokio::test]
async fn a_message_whose_link_ended_is_not_continued_on_the_next() {
    let mut target = Target::start().await;
    let whole = body("whole");
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    raw.send(&chunk(1, Some(&whole), false, &whole[..9])).await;
    raw.send(&note("begun")).await;
    target.hears("begun").await;
    raw.finish().await;
    raw.ended().await;
    let mut raw = Raw::join(&target.node, chooser(2)).await;
    raw.send(&chunk(1, Some(&whole), true, &whole)).await;
    target.hears("whole").await;
    raw.send(&chunk(1, None, true, &whole[9..])).await;
    raw.ended().await;
}

#[tokio::test]
async fn a_bad_message_in_chunks_is_a_dead_letter_like_any_other() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let cut = body("cut short");
    let cut = &cut[..cut.len() - 1];
    let unknown = raw::tell("/user/nobody", NOTE, &payload("x"));
    for whole in [cut, &unknown[5..]] {
        raw.send(&chunk(1, Some(whole), false, &whole[..1])).await;
        raw.send(&chunk(1, None, true, &whole[1..])).await;
    }
    raw.send(&note("on it goes")).await;
    target.hears("on it goes").await;
    assert_eq!(target.dead_letter().await.reason, Reason::Undecodable);
    assert_eq!(target.dead_letter().await.reason, Reason::UnknownPath);
    assert_eq!(target.node.stats().tells_received, 3);
}

/// Spells the body of a tell of a note.
fn body(text: &str) -> Vec<u8> {
    raw::tell(NOTES, NOTE, &raw::encode(&Note { text: text.to_owned() }))[5..].to_vec()
}

/// Spells a chunk of a tell; `begins` is the whole body if it is the first.
fn chunk(message: u32, begins: Option<&[u8]>, is_last: bool, bytes: &[u8]) -> Vec<u8> {
    let total = |body: &[u8]| u32::try_from(body.len()).expect("a small body");
    let start = begins.map(|body| ChunkStart { total: total(body), kind: FrameKind::TELL });
    spell(ChunkHeader { message, start, is_last }, bytes)
}

/// Spells a first chunk that announces this.
fn announced(total: usize, kind: FrameKind, bytes: &[u8]) -> Vec<u8> {
    let total = u32::try_from(total).expect("a u32");
    spell(
        ChunkHeader { message: 1, start: Some(ChunkStart { total, kind }), is_last: false },
        bytes,
    )
}

fn spell(header: ChunkHeader, bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    header.encode(&mut body);
    raw::frame(FrameKind::CHUNK, &[&body, bytes].concat())
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
