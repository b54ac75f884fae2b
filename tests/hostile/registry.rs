//! The list of what a peer's registry accepts: bounded, in order, once a link, and believed only where it delivers.

use std::fmt::Write as _;

use tellwire::codec::CodecRegistry;
use tellwire::event::{NodeEvent, Reason, RegistryDifference};

use crate::raw::{Control, Hello, PATIENCE, Raw, Rest, Unique, chooser, follower};
use crate::{HOSTILE, NOTE, Target, note};

#[tokio::test]
async fn a_node_lists_its_registry_behind_its_activate_to_whoever_has_another() {
    let target = Target::start().await;
    for claims in [chooser(1), follower(1)] {
        let mut raw = join(&target, claims, OTHER).await;
        let Some(Control::Codecs { lines, rest: Rest::Nothing }) = raw.control().await else {
            panic!("a list was due")
        };
        let registry = CodecRegistry::from_tables(&[HOSTILE]).expect("a registry");
        let names: Vec<_> = registry.iter().map(|entry| entry.wire_name()).collect();
        let listed = lines.lines().map(|line| line.split(' ').next().unwrap_or_default());
        assert!(listed.eq(names.iter().map(String::as_str)), "{lines}");
        assert!(lines.contains("bincode:hostile.v1.Note 0000000000000007\n"), "{lines}");
    }
}

#[tokio::test]
async fn a_peer_with_the_same_registry_or_a_silent_one_is_sent_no_list() {
    let mut target = Target::start().await;
    let same = CodecRegistry::from_tables(&[HOSTILE]).expect("a registry").fingerprint();
    for (uid, registry) in [(1, same), (2, 0)] {
        let mut raw = join(&target, chooser(uid), registry).await;
        raw.send(&Control::Ping { nonce: 9, received: 0 }.frame()).await;
        assert_eq!(raw.control().await, Some(Control::Pong { nonce: 9, received: 0 }));
        raw.send(&note("same")).await;
        target.hears("same").await;
    }
}

#[tokio::test]
async fn a_list_that_breaks_the_rules_costs_the_link() {
    let mut target = Target::start().await;
    let wide = format!("a:v1.{}\n", "x".repeat(190)).repeat(50);
    let cases: [&[(&str, Rest)]; 10] = [
        &[("no name at all\n", Rest::Nothing)],
        &[("a:x.v1.A", Rest::Nothing)],
        &[("a:x.v1.A ff\n", Rest::Nothing)],
        &[("a:x.v1.\u{1b}[2J\n", Rest::Nothing)],
        &[("b:x.v1.A\na:x.v1.A\n", Rest::Nothing)],
        &[("a:x.v1.A\na:x.v1.A\n", Rest::Nothing)],
        &[("b:x.v1.A\n", Rest::More), ("a:x.v1.A\n", Rest::Nothing)],
        &[("b:x.v1.A\n", Rest::More), ("b:x.v1.A 0000000000000001\n", Rest::Nothing)],
        &[("a:x.v1.A\n", Rest::Nothing), ("a:x.v1.B\n", Rest::Nothing)],
        &[(&wide, Rest::Nothing)],
    ];
    for (uid, parts) in (1..).zip(cases) {
        let mut raw = join(&target, chooser(uid), OTHER).await;
        for (lines, rest) in parts {
            raw.try_send(&codecs(lines, *rest)).await;
        }
        let down = target.event(|event| matches!(event, NodeEvent::AssociationDown { .. })).await;
        let NodeEvent::AssociationDown { why, .. } = down else { panic!("{down:?}") };
        assert!(why.starts_with("protocol violation"), "{parts:?}: {why}");
    }
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn an_endless_list_ends_at_its_bound() {
    let target = Target::start().await;
    let mut raw = join(&target, chooser(1), OTHER).await;
    let (mut names, mut is_open) = (0, true);
    while is_open && names < 4 * BOUND {
        let mut lines = String::new();
        for number in names..names + 400 {
            writeln!(lines, "a:v1.{number:08}").expect("room");
        }
        names += 400;
        is_open = raw.try_send(&codecs(&lines, Rest::More)).await;
        if names > BOUND {
            is_open &= !raw.ends_within(PATIENCE).await;
        }
    }
    assert!(!is_open, "{names} names and no end");
    assert!(names <= BOUND + 400, "{names}");
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn messages_whose_schema_differs_are_never_decoded() {
    let mut target = Target::start().await;
    let mut raw = join(&target, chooser(1), OTHER).await;
    let listed = codecs(&format!("{NOTE} 0000000000000008\n"), Rest::Nothing);
    raw.send(&[listed, note("decoded")].concat()).await;
    let letter = target.dead_letter().await;
    assert_eq!((letter.reason, letter.manifest.as_deref()), (Reason::SchemaMismatch, Some(NOTE)));
    let detail = letter.detail.unwrap_or_default();
    let differ = "has the schema 0000000000000007 here and 0000000000000008 at the peer";
    assert!(detail.contains(differ), "{detail}");

    // By ids as well, each time.
    raw.send(&[crate::raw::define(1, crate::NOTES), crate::raw::define(2, NOTE)].concat()).await;
    for _ in 0..2 {
        raw.send(&crate::raw::tell_by_id(1, 2, &crate::payload("decoded"))).await;
        assert_eq!(target.dead_letter().await.reason, Reason::SchemaMismatch);
    }
    assert_eq!(target.dead(Reason::SchemaMismatch), 3);
    assert_eq!(target.node.stats().delivered, 0);
}

#[tokio::test]
async fn a_list_from_a_link_that_does_not_deliver_is_not_believed() {
    let mut target = Target::start().await;
    let mut raw = Raw::connect(&target.node, chooser(1)).await;
    let hello = Hello { registry: OTHER, ..raw.hello() };
    raw.send(&hello.frame()).await;
    raw.welcomed().await;
    // The node, which is not the chooser, waits for the Activate.
    raw.send(&codecs(&format!("{NOTE} 0000000000000008\n"), Rest::Nothing)).await;
    raw.activate(1).await;
    raw.send(&note("believed")).await;
    target.hears("believed").await;
}

#[tokio::test]
async fn the_event_lists_no_more_than_it_may() {
    let mut target = Target::start().await;
    let mut raw = join(&target, chooser(1), OTHER).await;
    let lines: String = (0..100).map(|number| format!("a:v1.{number:03}\n")).collect();
    raw.send(&codecs(&lines, Rest::Nothing)).await;
    let event = target.event(|event| matches!(event, NodeEvent::RegistryDiffers { .. })).await;
    let NodeEvent::RegistryDiffers { peer, difference } = event else { panic!("{event:?}") };
    assert_eq!(peer.uid().get(), 1);
    assert_eq!(difference.unknown_here.len(), RegistryDifference::MAX_LISTED);
    assert_eq!(difference.unknown_there.len(), HOSTILE.len());
    assert_eq!(difference.more, 100 - RegistryDifference::MAX_LISTED);
}

/// Completes the handshake as a peer with a registry of this fingerprint.
async fn join(target: &Target, claims: Unique, registry: u64) -> Raw {
    let mut raw = Raw::connect(&target.node, claims).await;
    let hello = Hello { registry, ..raw.hello() };
    raw.send(&hello.frame()).await;
    raw.welcomed().await;
    raw.activate(1).await;
    raw
}

fn codecs(lines: &str, rest: Rest) -> Vec<u8> {
    Control::Codecs { lines: lines.to_owned(), rest }.frame()
}

/// A fingerprint that is not the node's.
const OTHER: u64 = 7;
/// Names that a list may have.
const BOUND: usize = 65_536;
