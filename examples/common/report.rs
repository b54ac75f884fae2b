//! Shows how far `wordcount` has come, and what its nodes have counted.

use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use tellwire::node::Stats;

/// What one node has counted; an ask counts as a tell.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    tells_sent: u64,
    tells_received: u64,
    replies_sent: u64,
    replies_received: u64,
    bytes_sent: u64,
    bytes_received: u64,
    dead_letters: u64,
}

impl From<Stats> for Figures {
    fn from(stats: Stats) -> Self {
        Self {
            tells_sent: stats.tells_sent,
            tells_received: stats.tells_received,
            replies_sent: stats.replies_sent,
            replies_received: stats.replies_received,
            bytes_sent: stats.bytes_sent,
            bytes_received: stats.bytes_received,
            dead_letters: stats.dead_letters_total(),
        }
    }
}

/// Lays out the figures of each node; a node that is gone took its figures along.
pub(crate) fn table(nodes: &[(String, Option<Figures>)]) -> String {
    let heads = ["tells out", "in", "replies out", "in", "bytes out", "in", "dead letters"];
    let mut lines = row("node", &heads.map(str::to_owned));
    for (name, figures) in nodes {
        lines += &match figures {
            Some(figures) => row(name, &figures.cells()),
            None => format!("{name:<12} gone\n"),
        };
    }
    lines
}

impl Figures {
    fn cells(&self) -> [String; 7] {
        [
            self.tells_sent,
            self.tells_received,
            self.replies_sent,
            self.replies_received,
            self.bytes_sent,
            self.bytes_received,
            self.dead_letters,
        ]
        .map(|figure| figure.to_string())
    }
}

fn row(name: &str, cells: &[String; 7]) -> String {
    let [tells_out, tells_in, replies_out, replies_in, bytes_out, bytes_in, dead] = cells;
    format!(
        "{name:<12}{tells_out:>10}{tells_in:>7}{replies_out:>13}{replies_in:>7}\
         {bytes_out:>12}{bytes_in:>11}{dead:>14}\n"
    )
}

/// Draws a bar on stderr where a person looks at it, and keeps other lines apart from it.
#[derive(Debug)]
pub(crate) struct Progress {
    total: usize,
    is_shown: bool,
}

impl Progress {
    /// Begins with nothing done of `total`.
    pub(crate) fn new(total: usize) -> Self {
        Self { total, is_shown: io::stderr().is_terminal() }
    }

    /// Draws the bar.
    pub(crate) fn show(&self, done: usize) {
        if self.is_shown {
            let filled = WIDTH * done / self.total.max(1);
            eprint!(
                "{CLEAR}[{}{}] {done}/{}",
                "#".repeat(filled),
                " ".repeat(WIDTH - filled),
                self.total
            );
        }
    }

    /// Prints a line in place of the bar.
    pub(crate) fn say(&self, text: &str) {
        self.clear();
        eprintln!("wordcount: {text}");
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if self.is_shown {
            eprint!("{CLEAR}");
        }
    }
}

/// Width of the bar in characters.
const WIDTH: usize = 40;
/// Goes back to the start of the line and empties it.
const CLEAR: &str = "\r\x1b[2K";
