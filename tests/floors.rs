//! Enforces the floors: a module imports only from lower floors, and siblings do not know each other.
//!
//! Also: no clock, randomness or tokio on the floors of the machines, and tasks only in `node/` and `testkit/`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each top-level module with its floor. Words (floor 0) may use each other.
const FLOORS: &[(&str, u8)] = &[
    ("address", 0),
    ("path", 0),
    ("lane", 0),
    ("settings", 0),
    ("event", 0),
    ("wire", 1),
    ("codec", 1),
    ("association", 2),
    ("membership", 2),
    ("frame", 3),
    ("transport", 3),
    ("node", 4),
    ("adapter", 5),
    ("testkit", 5),
    ("fuzzing", 5),
];

/// What a module of the machines' floors and below may not name.
const FORBIDDEN_BELOW_3: &[&str] = &[
    "tokio::",
    "tokio_util::",
    "Instant::now",
    "SystemTime",
    "fastrand::Rng::new()",
    "thread::sleep",
];

#[test]
fn modules_import_only_from_lower_floors() {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (module, file, code) in library() {
        let Some(own) = floors.get(module.as_str()) else {
            assert!(["lib", "prelude"].contains(&module.as_str()), "{module} has no floor");
            continue;
        };
        for used in crate_paths(&code) {
            let Some(floor) = floors.get(used.as_str()) else { continue };
            let is_allowed = used == module || floor < own || (*floor == 0 && *own == 0);
            if !is_allowed {
                wrong.push(format!("{}: {module} uses crate::{used}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn machines_have_no_clock_no_randomness_and_no_runtime() {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (module, file, code) in library() {
        if floors.get(module.as_str()).is_none_or(|floor| *floor >= 3) {
            continue;
        }
        for forbidden in FORBIDDEN_BELOW_3.iter().filter(|forbidden| code.contains(**forbidden)) {
            wrong.push(format!("{}: {forbidden}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn tasks_are_spawned_only_by_nodes_and_the_test_kit() {
    let mut wrong = Vec::new();
    for (module, file, code) in library() {
        let may_spawn = ["node", "testkit"].contains(&module.as_str());
        if !may_spawn && ["tokio::spawn(", "spawn_blocking("].iter().any(|call| code.contains(call))
        {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Gives (top-level module, file, code without its tests and comments) for each file below `src`.
fn library() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "the library was not found");
    let describe = |file: PathBuf| {
        let first = file.strip_prefix(&root).unwrap().components().next().unwrap();
        let module = Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned();
        let code = code(&fs::read_to_string(&file).unwrap());
        (module, file, code)
    };
    files.into_iter().map(describe).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() && !is_test {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            files.push(path);
        }
    }
}

/// Leaves out comments, and everything from the test module at the bottom on.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Gives the top-level modules that the code names as `crate::module`, also within braces.
fn crate_paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for after in code.split("crate::").skip(1) {
        let names = match after.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default().split(',').collect(),
            None => vec![after],
        };
        for name in names {
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            found.push(name.trim().chars().take_while(|c| is_word(*c)).collect());
        }
    }
    found
}
