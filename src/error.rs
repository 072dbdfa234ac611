//! What keeps hotrun itself from going on: the input, the reason, the remedy, the exit code.
//!
//! What the user's program or build does is never an [`Error`]; it is a
//! [`Notice`](crate::event::Notice).

use std::fmt;

/// hotrun cannot go on (watching, reading, starting a helper).
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;

/// The `Result` of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error as a person reads it: `input: reason`, and below it what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    input: String,
    reason: String,
    remedy: Option<String>,
    code: u8,
}

impl Error {
    /// The command line or the configuration is wrong: exit code 2.
    pub fn usage(input: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::new(input, reason, USAGE)
    }

    /// Something that hotrun needs does not work: exit code 1.
    pub fn failed(input: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::new(input, reason, FAILED)
    }

    fn new(input: impl fmt::Display, reason: impl fmt::Display, code: u8) -> Self {
        Self { input: input.to_string(), reason: reason.to_string(), remedy: None, code }
    }

    /// Adds what the person can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }

    /// The exit code that this error asks for.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.input, self.reason)?;
        match &self.remedy {
            None => Ok(()),
            Some(remedy) => {
                for (number, line) in remedy.lines().enumerate() {
                    let label = if number == 0 { "help: " } else { "      " };
                    write!(f, "\n  {label}{line}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Error {}
