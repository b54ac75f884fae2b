//! Reads what a person types, and writes what others say.

use std::io::{self, BufRead};
use std::thread;

use tokio::sync::mpsc;

/// Gives the lines of stdin, and ends with it.
///
/// A thread of its own reads them: a runtime would wait for it at the end of the program, and nobody can hurry a
/// person who types.
pub(crate) fn typed_lines() -> mpsc::Receiver<String> {
    let (lines, typed) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n').map_while(Result::ok) {
            let line = printable(&String::from_utf8_lossy(&line));
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    typed
}

/// Takes out what would let a text from elsewhere steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
