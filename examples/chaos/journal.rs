//! Keeps what a node has done, line by line, in a file that outlives its process however that ends.
//!
//! Each line goes to the system at once: what a process has noted is there although it is killed in the next moment.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Writes the journal of one process.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Mutex<File>,
    /// When the run began, since 1970.
    began: Duration,
}

/// Is one line, behind its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The node has started as this incarnation.
    Born { uid: u64 },
    /// It is about to tell.
    Told { to: usize, seq: u64 },
    /// That tell was refused: nothing was sent, and its number comes again.
    Refused { to: usize, seq: u64, why: String },
    /// Its actor has a tell of an incarnation of another node.
    Got { from: usize, uid: u64, seq: u64 },
    /// It has dead letters of what was on its way to another node, or had come from there.
    Letter { peer: usize, way: Way, what: What, reason: String, count: u64 },
    /// It is about to ask.
    Asked { to: usize, id: u64 },
    /// An ask has ended.
    Ended { id: u64, how: String },
    /// Its actor has a question of an incarnation of another node.
    Question { from: usize, uid: u64, id: u64 },
    /// The last tell to a node has found no room, long after the last fault.
    Stuck { to: usize },
    /// Something that only people read.
    Remark(String),
    /// The node has ended in order: so many dead letters came by the stream, so many were counted.
    Closed { streamed: u64, counted: u64 },
}

/// Says where a dead letter was going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Way {
    Out,
    In,
}

/// Says what a dead letter was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum What {
    Tell,
    Ask,
    /// A reply, or something that a broken link swallowed.
    Unknown,
}

/// Says that a line is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Illegible;

impl Journal {
    /// Begins the journal.
    pub(crate) fn create(path: &Path, began: Duration) -> io::Result<Self> {
        Ok(Self { file: Mutex::new(File::create(path)?), began })
    }

    /// Notes an entry. A journal that cannot be written ends the process: nobody could check it any more.
    pub(crate) fn note(&self, entry: &Entry) {
        let line = format!("{} {entry}\n", since(self.began).as_millis());
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            eprintln!("the journal cannot be written: {error}");
            std::process::exit(1);
        }
    }

    /// Notes something that only people read.
    pub(crate) fn remark(&self, text: impl fmt::Display) {
        self.note(&Entry::Remark(text.to_string().replace('\n', " ")));
    }
}

/// Gives the time since a moment that is counted from 1970.
pub(crate) fn since(began: Duration) -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(began)
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Born { uid } => write!(f, "born {uid}"),
            Self::Told { to, seq } => write!(f, "told {to} {seq}"),
            Self::Refused { to, seq, why } => write!(f, "refused {to} {seq} {why}"),
            Self::Got { from, uid, seq } => write!(f, "got {from} {uid} {seq}"),
            Self::Letter { peer, way, what, reason, count } => {
                write!(f, "letter {peer} {way:?} {what:?} {reason} {count}")
            }
            Self::Asked { to, id } => write!(f, "asked {to} {id}"),
            Self::Ended { id, how } => write!(f, "ended {id} {how}"),
            Self::Question { from, uid, id } => write!(f, "question {from} {uid} {id}"),
            Self::Stuck { to } => write!(f, "stuck {to}"),
            Self::Remark(text) => write!(f, "remark {text}"),
            Self::Closed { streamed, counted } => write!(f, "closed {streamed} {counted}"),
        }
    }
}

/// Reads a line, its time left off.
impl FromStr for Entry {
    type Err = Illegible;

    fn from_str(line: &str) -> Result<Self, Illegible> {
        let (_, line) = line.split_once(' ').ok_or(Illegible)?;
        if let Some(text) = line.strip_prefix("remark ") {
            return Ok(Self::Remark(text.to_owned()));
        }
        let mut words = line.split(' ');
        let verb = words.next();
        let words = &mut words;
        let entry = match verb {
            Some("born") => Self::Born { uid: read(words)? },
            Some("told") => Self::Told { to: read(words)?, seq: read(words)? },
            Some("refused") => {
                Self::Refused { to: read(words)?, seq: read(words)?, why: read(words)? }
            }
            Some("got") => Self::Got { from: read(words)?, uid: read(words)?, seq: read(words)? },
            Some("letter") => Self::Letter {
                peer: read(words)?,
                way: read(words)?,
                what: read(words)?,
                reason: read(words)?,
                count: read(words)?,
            },
            Some("asked") => Self::Asked { to: read(words)?, id: read(words)? },
            Some("ended") => Self::Ended { id: read(words)?, how: read(words)? },
            Some("question") => {
                Self::Question { from: read(words)?, uid: read(words)?, id: read(words)? }
            }
            Some("stuck") => Self::Stuck { to: read(words)? },
            Some("closed") => Self::Closed { streamed: read(words)?, counted: read(words)? },
            _ => return Err(Illegible),
        };
        if words.next().is_some() { Err(Illegible) } else { Ok(entry) }
    }
}

impl FromStr for Way {
    type Err = Illegible;

    fn from_str(word: &str) -> Result<Self, Illegible> {
        let all = [Self::Out, Self::In];
        all.into_iter().find(|way| format!("{way:?}") == word).ok_or(Illegible)
    }
}

impl FromStr for What {
    type Err = Illegible;

    fn from_str(word: &str) -> Result<Self, Illegible> {
        let all = [Self::Tell, Self::Ask, Self::Unknown];
        all.into_iter().find(|what| format!("{what:?}") == word).ok_or(Illegible)
    }
}

fn read<'a, T: FromStr>(words: &mut impl Iterator<Item = &'a str>) -> Result<T, Illegible> {
    words.next().and_then(|word| word.parse().ok()).ok_or(Illegible)
}
