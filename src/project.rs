//! Detects the kind of a project, and derives how to build, run and watch it. Used where the
//! configuration does not say.
//!
//! Queries to `cargo` and `go` go through [`Ask`], since only `process` may start processes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Result;

pub mod cargo;
pub mod go;
pub mod guess;

/// A short command whose output describes the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// The directory in which it runs.
    pub directory: PathBuf,
}

/// Runs a [`Question`], and returns its standard output.
pub trait Ask {
    /// Runs the command until it exits. An error contains what it printed to standard error.
    fn ask(&self, question: Question) -> impl Future<Output = Result<Vec<u8>>>;
}

/// The kind of a project, and the directory of the file that determines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A project with a `Cargo.toml`.
    Cargo(PathBuf),
    /// A project with a `go.mod`, or the `go.work` of a workspace.
    Go(PathBuf),
    /// No project file that hotrun knows.
    Unknown,
}

impl Kind {
    /// Searches for a project file in the directory, then in its ancestors. The nearest wins.
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

    /// The extensions of its source files; `None` means all.
    pub fn extensions(&self) -> Option<Vec<String>> {
        let list: &[&str] = match self {
            Kind::Cargo(_) => &["rs", "toml"],
            // In addition to Go files: module files, templates, and files that are often embedded.
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

/// Which program to choose if a project has several, and how to build it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// `-p`: the package. For Go, a path such as `./cmd/x`, an import path, or the end of one.
    pub package: Option<String>,
    /// `--bin`.
    pub bin: Option<String>,
    /// `--example`.
    pub example: Option<String>,
    /// Flags that are passed to the build unchanged.
    pub flags: Vec<String>,
}

/// How a kind of project is built, run and watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The build command, as an argv.
    pub build: Vec<OsString>,
    /// The build command as the user would type it.
    pub label: String,
    /// What the build makes.
    pub makes: Makes,
    /// The directories that contain the sources.
    pub roots: Vec<PathBuf>,
    /// Directories below the roots that are ignored, unless a build reads files in them.
    pub without: Vec<PathBuf>,
    /// Directories that builds write to.
    pub made: Vec<PathBuf>,
    /// Files that are watched wherever they are.
    pub files: Vec<PathBuf>,
    /// Globs for paths below the roots that are ignored, unless a build reads them.
    pub exclude: Vec<String>,
    /// Queries, after a build, for the files that the program is built from (Go).
    pub asks: Vec<Question>,
    /// Which projects below the roots are part of the program, if that is already known.
    pub nested: Option<Nested>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// How `cargo run` starts the program.
    pub launch: Option<cargo::Launch>,
}

/// Projects below the root of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nested {
    /// The file that makes a directory a project.
    pub marker: &'static str,
    /// The directories of the projects that the program uses.
    pub used: BTreeSet<PathBuf>,
}

impl Nested {
    /// Whether a project in this directory is not part of the program.
    pub fn is_foreign(&self, directory: &Path) -> bool {
        !self.used.iter().any(|used| used.starts_with(directory))
    }
}

/// What the build makes, and how the file is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Makes {
    /// Cargo's messages name the executable of this target.
    CargoTarget(String),
    /// This file.
    File(PathBuf),
    /// No program: a library is only checked.
    Nothing,
}
