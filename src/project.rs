//! What kind of project is this, and what does that say about building, running and
//! watching it? Used where the configuration is silent.
//!
//! The questions to `cargo` and `go` are asked through [`Ask`], since only `process` may
//! start anything.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Result;

pub mod cargo;
pub mod go;
pub mod guess;

/// A short command whose output tells something about the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// Where it runs.
    pub directory: PathBuf,
}

/// Whoever can run a [`Question`]: its standard output, or why there is none.
pub trait Ask {
    /// Runs it to its end. A failure holds what it printed to standard error.
    fn ask(&self, question: Question) -> impl Future<Output = Result<Vec<u8>>>;
}

/// The kind of a project, and the directory of the file that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A `Cargo.toml`.
    Cargo(PathBuf),
    /// A `go.mod`, or the `go.work` of a workspace.
    Go(PathBuf),
    /// Nothing that hotrun knows.
    Unknown,
}

impl Kind {
    /// Looks for a marker file in the directory, then in those above it. The nearest wins.
    pub fn detect(directory: &Path) -> Kind {
        for place in directory.ancestors() {
            if place.join("Cargo.toml").is_file() {
                return Kind::Cargo(place.to_owned());
            }
            if place.join("go.mod").is_file() || place.join(go::WORKSPACE).is_file() {
                return Kind::Go(place.to_owned());
            }
        }
        Kind::Unknown
    }

    /// The extensions of its sources; `None`: all.
    pub fn extensions(&self) -> Option<Vec<String>> {
        let list: &[&str] = match self {
            Kind::Cargo(_) => &["rs", "toml"],
            // Beside Go: module files, templates, and what is embedded most.
            Kind::Go(_) => &["go", "mod", "sum", "work", "tpl", "tmpl", "gohtml", "html"],
            Kind::Unknown => return None,
        };
        Some(list.iter().copied().map(String::from).collect())
    }

    /// Its name in output.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Cargo(_) => "Cargo",
            Kind::Go(_) => "Go",
            Kind::Unknown => "unknown",
        }
    }
}

/// What to choose where a project offers several programs, and how to build it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// `-p`: the package (of Go: a path such as `./cmd/x`, an import path, or its end).
    pub package: Option<String>,
    /// `--bin`.
    pub bin: Option<String>,
    /// `--example`.
    pub example: Option<String>,
    /// Flags that are handed on to the build as they are.
    pub flags: Vec<String>,
}

/// What a kind of project says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The build command, as an argv.
    pub build: Vec<OsString>,
    /// The build command as a person would have typed it.
    pub label: String,
    /// What the build makes.
    pub makes: Makes,
    /// The directories that hold the sources.
    pub roots: Vec<PathBuf>,
    /// Directories below the roots that do not matter, unless a build reads what is in them.
    pub without: Vec<PathBuf>,
    /// Directories that builds write to.
    pub made: Vec<PathBuf>,
    /// Files that matter wherever they are.
    pub files: Vec<PathBuf>,
    /// Globs below the roots that do not matter, unless a build reads what they match.
    pub exclude: Vec<String>,
    /// What to ask, after a build, about what the program is built from (Go).
    pub asks: Vec<Question>,
    /// Which projects below the roots are part of the program, where that is known by now.
    pub nested: Option<Nested>,
    /// What the person should know about it.
    pub warnings: Vec<String>,
    /// How `cargo run` starts the program.
    pub launch: Option<cargo::Launch>,
}

/// Projects below the root of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nested {
    /// The file that makes a directory a project of its own.
    pub marker: &'static str,
    /// The directories of those that the program uses.
    pub used: BTreeSet<PathBuf>,
}

impl Nested {
    /// Whether a project in this directory is no part of the program.
    pub fn is_foreign(&self, directory: &Path) -> bool {
        !self.used.iter().any(|used| used.starts_with(directory))
    }
}

/// What a build makes, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Makes {
    /// Cargo's messages name the executable of this target.
    CargoTarget(String),
    /// This file.
    File(PathBuf),
    /// Nothing that could be run: a library is only checked.
    Nothing,
}
