//! What keeps hotrun itself from going on: the input, the reason, the remedy, the exit code.
//!
//! What the user's program or build does is never an [`Error`]; it is a
//! [`Notice`](crate::notice::Notice).

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// hotrun cannot go on (watching, reading, starting a helper).
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// A hotrun runs here already, with the same configuration.
pub const ALREADY_RUNNING: u8 = 7;

/// The `Result` of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error as a user reads it: `input: reason`, below it an excerpt of the input, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Error {
    input: String,
    reason: String,
    excerpt: Option<Box<str>>,
    remedy: Option<String>,
    code: u8,
    #[serde(skip)]
    is_of_command: bool,
    #[serde(skip)]
    files: Vec<PathBuf>,
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

    /// A hotrun runs here already: exit code 7.
    pub fn already_running(input: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::new(input, reason, ALREADY_RUNNING)
    }

    fn new(input: impl fmt::Display, reason: impl fmt::Display, code: u8) -> Self {
        let (input, reason) = (input.to_string(), reason.to_string());
        Self {
            input,
            reason,
            excerpt: None,
            remedy: None,
            code,
            is_of_command: false,
            files: Vec::new(),
        }
    }

    /// Adds the lines of a file that it is about.
    #[must_use]
    pub(crate) fn excerpt(self, excerpt: Option<String>) -> Self {
        Self { excerpt: excerpt.map(String::into_boxed_str), ..self }
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }

    /// Marks an error that a command reported which hotrun had started.
    #[must_use]
    pub fn by_command(self) -> Self {
        Self { is_of_command: true, ..self }
    }

    /// True if a command has run and reported it.
    pub fn is_by_command(&self) -> bool {
        self.is_of_command
    }

    /// Sets the files whose change may fix it.
    #[must_use]
    pub fn lies_in(self, files: Vec<PathBuf>) -> Self {
        Self { files, ..self }
    }

    /// The files whose change may fix it; none if only the command line can.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What went wrong, without the input.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The exit code that this error asks for.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.input, self.reason)?;
        for line in self.excerpt.iter().flat_map(|excerpt| excerpt.lines()) {
            write!(f, "\n  {line}")?;
        }
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
