//! Keeps what a process says, up to a bound, and wakes whoever waits for a line.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// Keeps the last lines of a process.
#[derive(Debug)]
pub(super) struct Log {
    kept: Mutex<Kept>,
    /// How many lines have come, and how many streams are open.
    progress: watch::Sender<Progress>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines that had to make room.
    left_off: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) lines: u64,
    pub(super) open: usize,
}

impl Log {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { kept: Mutex::default(), progress: watch::Sender::default(), max_bytes }
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Gives the first kept line from the number `from` on that `is_it` picks, and the number behind it.
    pub(super) fn find(&self, from: u64, is_it: impl Fn(&str) -> bool) -> Option<(String, u64)> {
        let kept = self.kept();
        let known = usize::try_from(from.saturating_sub(kept.left_off)).unwrap_or(usize::MAX);
        let mut candidates = (from.max(kept.left_off)..).zip(kept.lines.iter().skip(known));
        let found = candidates.find(|(_, line)| is_it(line));
        found.map(|(number, line)| (line.clone(), number + 1))
    }

    /// Gives everything that is kept.
    pub(super) fn text(&self) -> String {
        let kept = self.kept();
        let mut text = String::new();
        if kept.left_off > 0 {
            text += &format!("[{} lines left off]\n", kept.left_off);
        }
        for line in &kept.lines {
            text += line;
            text.push('\n');
        }
        text
    }

    /// Notes that a stream will be read, before it is.
    pub(super) fn open(&self) {
        self.progress.send_modify(|progress| progress.open += 1);
    }

    /// Reads a stream to its end.
    pub(super) async fn read(self: Arc<Self>, mut stream: impl AsyncRead + Unpin) {
        let (mut line, mut chunk) = (Vec::new(), vec![0; CHUNK]);
        while let Ok(read @ 1..) = stream.read(&mut chunk).await {
            for byte in chunk.get(..read).unwrap_or_default() {
                if *byte == b'\n' {
                    self.add(&std::mem::take(&mut line));
                } else if line.len() < LONGEST_LINE {
                    line.push(*byte);
                }
            }
        }
        if !line.is_empty() {
            self.add(&line);
        }
        self.progress.send_modify(|progress| progress.open -= 1);
    }

    fn add(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).into_owned();
        let mut kept = self.kept();
        kept.bytes += line.len();
        kept.lines.push_back(line);
        while kept.bytes > self.max_bytes {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.len();
            kept.left_off += 1;
        }
        drop(kept);
        self.progress.send_modify(|progress| progress.lines += 1);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that are read at once.
const CHUNK: usize = 4 * 1024;
/// Bytes of a line; what is behind them is left off.
const LONGEST_LINE: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_under_their_numbers() {
        let log = Arc::new(Log::new(10));
        log.open();
        Arc::clone(&log).read(&b"first\nsecond\nthird\nend"[..]).await;
        assert_eq!(log.text(), "[2 lines left off]\nthird\nend\n");
        assert_eq!(*log.progress().borrow(), Progress { lines: 4, open: 0 });
        assert_eq!(log.find(0, |_| true), Some(("third".to_owned(), 3)));
        assert_eq!(log.find(3, |line| line.starts_with('e')), Some(("end".to_owned(), 4)));
        assert_eq!(log.find(4, |_| true), None);
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let log = Arc::new(Log::new(1 << 20));
        log.open();
        Arc::clone(&log).read(&vec![b'x'; 100_000][..]).await;
        assert_eq!(log.text().len(), LONGEST_LINE + 1);
    }
}
