//! What a peer claims takes no memory; what it sends takes little more than its bytes.
//!
//! Resident memory belongs to a process, so each of these tests runs in one of its own.

use std::process::Command;

use tellwire::event::Reason;

use crate::raw::{self, Raw, Unique, chooser};
use crate::{NOTE, NOTES, Nest, Target, Texts, Units, note, payload};

#[test]
fn a_length_alone_reserves_nothing() {
    alone("memory::lengths");
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by the test above"]
async fn lengths() {
    let mut target = Target::start().await;
    let before = peak();
    let length = u32::try_from(16 * MIB + HEADER_ROOM).unwrap().to_be_bytes();
    let mut waiting = Vec::new();
    for port in 1..=64 {
        let address = format!("tcp://{}@127.0.0.1:{port}", raw::SYSTEM);
        let mut raw = Raw::join(&target.node, Unique { address, uid: port }).await;
        raw.send(&note("before")).await;
        raw.send(&length).await;
        target.hears("before").await;
        waiting.push(raw);
    }
    // All 64 frames together would be a gigabyte.
    assert!(peak() < before + 16 * MIB, "{} MiB more", (peak() - before) / MIB);
    target.serves_a_healthy_peer().await;
}

#[test]
fn bombs_of_depth_and_length_are_undecodable() {
    alone("memory::bombs");
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by the test above"]
async fn bombs() {
    let mut target = Target::start().await;
    target.node.register::<Nest, _>("/user/nest", |_| {}).expect("a free path");
    target.node.register::<Units, _>("/user/units", |_| {}).expect("a free path");
    target.node.register::<Texts, _>("/user/texts", |_| {}).expect("a free path");
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let before = peak();
    let huge = |length: u64| [&[253][..], &length.to_le_bytes()].concat();
    let nest = |bytes: usize| raw::tell("/user/nest", "bincode:hostile.v1.Nest", &vec![1; bytes]);
    for bytes in [129, 16_000, 60_000, 900_000] {
        raw.send(&nest(bytes)).await;
        assert_eq!(target.dead_letter().await.reason, Reason::Undecodable, "{bytes} levels");
    }
    for length in [1 << 17, 1 << 36, u64::MAX] {
        for name in ["Units", "Texts"] {
            let path = format!("/user/{}", name.to_lowercase());
            let manifest = format!("bincode:hostile.v1.{name}");
            raw.send(&raw::tell(&path, &manifest, &huge(length))).await;
            assert_eq!(target.dead_letter().await.reason, Reason::Undecodable, "{name} {length}");
        }
        raw.send(&raw::tell(NOTES, NOTE, &huge(length))).await;
        assert_eq!(target.dead_letter().await.reason, Reason::Undecodable, "Note {length}");
    }
    raw.send(&note("defused")).await;
    target.hears("defused").await;
    assert!(peak() < before + 16 * MIB, "{} MiB more", (peak() - before) / MIB);
}

#[test]
fn many_names_for_few_actors_hold_little_memory() {
    alone("memory::names");
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by the test above"]
async fn names() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    for number in 1..=512 {
        raw.send(&[raw::define(number, NOTES), raw::define(number + 512, NOTE)].concat()).await;
    }
    let before = peak();
    let mut told = 0;
    for target_id in 1..=512_u16 {
        let mut bytes = Vec::new();
        for manifest_id in 513..=1024 {
            bytes.extend(raw::tell_by_id(target_id, manifest_id, &payload("")));
        }
        raw.send(&bytes).await;
        for _ in 0..512 {
            target.hears("").await;
            told += 1;
        }
    }
    assert_eq!(told, 512 * 512);
    assert!(peak() < before + 16 * MIB, "{} MiB more", (peak() - before) / MIB);
    raw.send(&raw::tell(NOTES, NOTE, &payload("literal"))).await;
    target.hears("literal").await;
}

/// Runs one ignored test in a process of its own.
fn alone(test: &str) {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    let output = command.args(["--ignored", "--exact", test]).output().expect("a process");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Gives the most memory that was ever resident in this process, in bytes; 0 where the system does not tell.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.map_or(0, |kib: usize| kib * 1024)
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// What a frame may have beside its message.
const HEADER_ROOM: usize = 64 * KIB;
