//! Reads what `wordcount` is to do: its arguments and its files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::failure::Failure;

/// What the arguments ask for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Print the usage.
    Help,
    /// Count the words of these files, of the project's own if there are none.
    Count { files: Vec<PathBuf>, kill_one: bool },
    /// Be a worker of the coordinator at this address.
    Work { seed: String },
}

impl Command {
    /// Understands the arguments behind the program's name.
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, Failure> {
        let (mut files, mut kill_one, mut arguments) = (Vec::new(), false, arguments);
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--") => files.extend(arguments.by_ref().map(PathBuf::from)),
                Some("-h" | "--help") => return Ok(Self::Help),
                Some("--kill-one") => kill_one = true,
                Some("--worker") => return Self::parse_worker(arguments.next()),
                Some(option) if option.starts_with('-') => {
                    return Err(Failure::usage(format!("unknown option `{option}`; {USAGE}")));
                }
                Some(_) | None => files.push(argument.into()),
            }
        }
        Ok(Self::Count { files, kill_one })
    }

    fn parse_worker(seed: Option<OsString>) -> Result<Self, Failure> {
        let seed = seed.and_then(|seed| seed.into_string().ok());
        seed.map(|seed| Self::Work { seed }).ok_or_else(|| Failure::usage("no seed address"))
    }
}

/// Reads every file once; bytes that are no UTF-8 belong to no word.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let read = |path: &PathBuf| match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
    };
    files.iter().map(read).collect()
}

/// Finds the project's own texts.
pub(crate) fn own_files() -> Result<Vec<PathBuf>, Failure> {
    let (root, mut found) = (Path::new(env!("CARGO_MANIFEST_DIR")), Vec::new());
    let unreadable = |error| Failure::usage(format!("cannot read {}: {error}", root.display()));
    find(root, &mut found).map_err(unreadable)?;
    found.sort();
    Ok(found)
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        let name = path.file_name().unwrap_or_default();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        let is_text = path.extension().is_some_and(|end| end == "md" || end == "rs");
        if kind.is_dir() && !is_hidden && name != "target" {
            find(&path, found)?;
        } else if kind.is_file() && is_text {
            found.push(path);
        }
    }
    Ok(())
}

/// How `wordcount` is called.
pub(crate) const USAGE: &str = "usage: wordcount [--kill-one] [FILE…]";
