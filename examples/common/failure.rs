//! Says why an example ends: one line for stderr, and the exit code.

use std::fmt;
use std::process::ExitCode;

/// Ends an example.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// Blames what the user asked for: exit code 2.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self { code: 2, text: text.to_string() }
    }

    /// Tells that the work itself failed: exit code 1.
    pub(crate) fn run(text: impl fmt::Display) -> Self {
        Self { code: 1, text: text.to_string() }
    }

    /// Prints the line and gives the exit code.
    pub(crate) fn report(&self, program: &str) -> ExitCode {
        eprintln!("{program}: {}", self.text);
        ExitCode::from(self.code)
    }
}

/// Lets `?` take every error of the library and of the system.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::run(error)
    }
}
