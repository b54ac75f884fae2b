//! Reads lines of bounded length from a socket.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads lines; what is read of one is kept between calls.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    max_line: usize,
}

/// Says why there is no next line; there will never be one.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("a line is longer than {0} bytes")]
    TooLong(usize),
    #[error("a line is not UTF-8")]
    NotText(Vec<u8>),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, max_line: usize) -> Self {
        Self { reader, buffer: Vec::new(), max_line }
    }

    /// Gives the next line without its end; none at the end of the stream, half a line or not. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<String>, LineError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                self.check(line.len())?;
                let text = String::from_utf8(line);
                return Ok(Some(text.map_err(|error| LineError::NotText(error.into_bytes()))?));
            }
            self.check(self.buffer.len())?;
            self.buffer.reserve(READ);
            if (&mut self.reader).take(READ as u64).read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn check(&self, length: usize) -> Result<(), LineError> {
        if length > self.max_line { Err(LineError::TooLong(self.max_line)) } else { Ok(()) }
    }
}

/// Bytes that are read at once.
const READ: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(stream: &[u8], max_line: usize) -> (Vec<String>, Option<String>) {
        let (mut lines, mut got) = (Lines::new(stream, max_line), Vec::new());
        loop {
            match lines.next().await {
                Ok(Some(line)) => got.push(line),
                Ok(None) => return (got, None),
                Err(error) => return (got, Some(error.to_string())),
            }
        }
    }

    #[tokio::test]
    async fn lines_end_at_line_feeds_and_are_bounded() {
        assert_eq!(
            all(b"a b\n\nc\nhalf", 8).await,
            (vec!["a b".into(), "".into(), "c".into()], None)
        );
        let (got, error) = all(b"ok\n123456789", 8).await;
        assert_eq!((got, error), (vec!["ok".into()], Some("a line is longer than 8 bytes".into())));
        assert!(all(b"123456789\n", 8).await.1.is_some());
        assert_eq!(all(b"\xff\n", 8).await.1, Some("a line is not UTF-8".into()));
    }
}
