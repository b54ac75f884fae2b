//! Replays the corpora of the fuzz targets, so that every test run reads what fuzzing once found.

#[path = "fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library where the fuzz targets use it")]
mod fuzz;

use std::path::{Path, PathBuf};

use fuzz::{TARGETS, Verdict, run, seeds};

#[test]
fn every_corpus_keeps_the_promises() {
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        let mut accepted = 0;
        for (file, bytes) in &inputs {
            // Shown only when the input breaks a promise.
            eprintln!("{}", file.display());
            accepted += usize::from(run(*target, bytes) == Verdict::Accepted);
        }
        assert!(accepted > 0, "nothing in the corpus of {name} is valid");
        assert!(accepted < inputs.len(), "everything in the corpus of {name} is valid");
    }
}

#[test]
fn every_seed_is_in_its_corpus() {
    for (name, _) in TARGETS {
        let inputs = corpus(name);
        for (number, seed) in seeds(name).iter().enumerate() {
            let is_there = inputs.iter().any(|(_, bytes)| bytes == seed);
            assert!(is_there, "seed {number} of {name}: `cargo run --bin seeds` in tests/fuzz");
        }
    }
}

#[test]
fn every_seed_of_a_codec_is_a_message() {
    let codecs = ["bincode", "json", "postcard", "messagepack", "cbor", "protobuf", "gossip"];
    for (name, target) in TARGETS.iter().filter(|(name, _)| codecs.contains(name)) {
        for (number, seed) in seeds(name).iter().enumerate() {
            assert_eq!(run(*target, seed), Verdict::Accepted, "seed {number} of {name}");
        }
    }
}

#[test]
fn every_cut_seed_keeps_the_promises() {
    for (name, target) in TARGETS.iter().filter(|(name, _)| *name != "association") {
        for seed in seeds(name) {
            for length in 0..seed.len() {
                run(*target, &seed[..length]);
            }
        }
    }
}

#[test]
fn the_node_under_fuzz_hears_every_caller() {
    let (name, target) = TARGETS.iter().find(|(name, _)| *name == "association").expect("a target");
    let links = seeds(name);
    // The others bring a handshake of their own, which is only good once.
    let links: Vec<_> = links.iter().filter(|link| link.first() == Some(&0)).collect();
    for turn in 0..500 {
        let is_heard = |link: &&&Vec<u8>| run(*target, link) == Verdict::Accepted;
        assert!(links.iter().filter(is_heard).count() > 5, "turn {turn}");
    }
}

/// Reads every input in the corpus of a target.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let read = |file: PathBuf| {
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        (file, bytes)
    };
    let files = entries.map(|entry| entry.expect("an entry of the folder").path());
    files.map(read).collect()
}
