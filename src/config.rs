//! From the configuration as written to one resolved [`Config`], in which nothing is
//! optional because the user may not have set it.
//!
//! Two modes share one schema. In *native* mode, defaults come from the kind of project. In
//! *air mode*, for files that air would read, they are air's
//! (<https://github.com/air-verse/air>), without its defects.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use globset::GlobSet;
use nix::sys::signal::Signal;
use regex::RegexSet;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::error::{Error, Result};
use crate::event::{Mode, OnExit, Policy};
use crate::project::cargo::Launch;
use crate::project::go::Sources;
use crate::project::guess::syntax::Check;
use crate::project::guess::{self, Guess, Outcome};
use crate::project::{Ask, Kind, Nested, Question, Selection};

pub mod choice;
mod environment;
pub mod example;
mod file;
pub mod schema;
mod proxy;
mod serving;
mod watching;
mod placeholder;
mod resolve;
mod spare;
mod document;
mod air;
mod excerpt;
pub(crate) mod keys;
pub(crate) mod duration;
#[cfg(test)]
pub(crate) mod tests;

use document::Document;
pub use document::Setting;
pub use proxy::{Bind, Proxy, Route, Tls, Upstream};
use resolve::Resolver;
pub use serving::{Address, Http, Listen, MOST_LISTENERS, Ready, Target};
pub use spare::Spare;
pub use watching::MISPLACED;

/// The directory in `tmp_dir` for copies of good artifacts.
pub const KEPT: &str = ".hotrun";
/// The file that marks a directory as a cache: <https://bford.info/cachedir/>.
pub const CACHE_TAG: &str = "CACHEDIR.TAG";
/// The file that marks a directory as one in which `CMake` builds.
pub const CMAKE_CACHE: &str = "CMakeCache.txt";
/// The file in a virtual environment of Python.
pub const ENVIRONMENT: &str = "pyvenv.cfg";
/// Paths of configuration files; the first that exists is read.
const NAMES: [&str; 6] = [
    "hotrun.toml",
    ".hotrun.toml",
    ".air.toml",
    "air.toml",
    ".config/hotrun.toml",
    ".config/air.toml",
];
/// Tables and keys of which an `air.toml` has at least one if it is air's, not another tool's.
const AIR_KEYS: [&str; 9] =
    ["root", "tmp_dir", "testdata_dir", "env_files", "build", "log", "misc", "screen", "proxy"];
/// The tables, in the order in which people read them.
pub const TABLES: [&str; 10] =
    ["env", "build", "watch", "run", "ready", "proxy", "log", "color", "screen", "misc"];
/// The keys outside a table. On the command line they are options like those with a dot.
pub const TOP_KEYS: [&str; 5] = ["root", "tmp_dir", "testdata_dir", "env_files", "spare"];

/// The options of the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The directory to work in; absolute.
    pub directory: PathBuf,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--no-config`: no file is read.
    pub no_config: bool,
    /// `--once`.
    pub once: bool,
    /// `--free-port`.
    pub free_port: bool,
    /// `--takeover`.
    pub takeover: bool,
    /// Which program to build, and with which flags.
    pub selection: Selection,
    /// Arguments for the app.
    pub args: Vec<OsString>,
    /// The command to run instead of the project's own program.
    pub command: Option<Command>,
    /// The program that the user chose among several, as [`Guess::option`] writes it.
    pub choice: Option<String>,
    /// Keys of the configuration with their values, in the order of the command line.
    pub keys: Vec<(String, String)>,
}

/// A command: a program with arguments, or a text for the shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Run as it is, without a shell.
    Argv(Vec<OsString>),
    /// Run by `/bin/sh -c`; the arguments follow the text, and the shell passes them on as
    /// they are.
    Shell(String, Vec<OsString>),
}

impl Command {
    /// Returns its words; those of a text for the shell as far as they can be split.
    pub fn words(&self) -> Vec<OsString> {
        match self {
            Command::Argv(argv) => argv.clone(),
            Command::Shell(text, _) => {
                let words = shlex::split(text).unwrap_or_default();
                words.into_iter().map(OsString::from).collect()
            }
        }
    }
}

/// One command of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What is run.
    pub command: Command,
    /// Its name in output.
    pub label: String,
    /// Whether its failure only skips the tolerated stages after it, and does not fail the build.
    pub tolerated: bool,
    /// The target whose executable cargo's messages on its output name.
    pub messages_of: Option<String>,
    /// Whether it prints an answer for hotrun, and nothing for people.
    pub answers: bool,
}

impl Stage {
    /// A text for the shell.
    pub fn shell(text: String) -> Self {
        let label = text.clone();
        Self { label, ..Self::alone(Command::Shell(text, Vec::new())) }
    }

    /// A command that is no stage of a build.
    pub fn alone(command: Command) -> Self {
        Self { command, label: String::new(), tolerated: false, messages_of: None, answers: false }
    }
}

/// How to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// What runs, in this order; empty: there is no build.
    pub stages: Vec<Stage>,
    /// The syntax check before a restart, where there is no build.
    pub check: Option<Check>,
    /// Whether the build is itself only a check: that of a library.
    pub only_checks: bool,
    /// Minimum time between the starts of two builds.
    pub delay: Duration,
    /// Grace period of a build that a newer save cancels.
    pub cancel_grace: Duration,
    /// Whether a failed build stops the running app.
    pub stop_on_error: bool,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Nothing.
    None,
    /// This command.
    Command(Command),
    /// The executable that the build names, with these arguments.
    Built(Vec<OsString>),
}

/// An installed program, to run instead of one that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The file that would be run if it existed.
    pub missing: PathBuf,
    /// What is run instead.
    pub command: Command,
}

/// How to run the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What to run.
    pub program: Program,
    /// What is run if the build makes no file of the program's name: users write
    /// `bin = "dlv"`, and mean the installed one.
    pub fallback: Option<Fallback>,
    /// Whether no program is configured: `program` is air's default, which a custom build
    /// command may not produce.
    pub is_assumed: bool,
    /// Whether the old app stops before the new one starts, or after.
    pub mode: Mode,
    /// Whether a failed start is followed by a rollback to the last good artifact.
    pub rolls_back: bool,
    /// The signal that stops it.
    pub signal: Signal,
    /// Which processes get that signal.
    pub scope: Scope,
    /// Which process reads the terminal.
    pub stdin: Stdin,
    /// Where it prints.
    pub tty: Tty,
    /// Grace period before it is killed.
    pub grace: Duration,
    /// Grace period when another app follows. In air mode without `kill_delay` it is
    /// shorter, since air kills at once.
    pub restart_grace: Duration,
    /// Whether `kill_delay` is configured.
    pub is_grace_chosen: bool,
    /// What follows when it exits.
    pub on_exit: OnExit,
    /// Delay before it is restarted; `None`: 0.5 s, doubling to 8 s.
    pub rerun_delay: Option<Duration>,
    /// Whether it is restarted even if a build leaves it byte for byte as it was.
    pub restart_unchanged: bool,
    /// The TCP port that it listens on.
    pub port: Option<Port>,
}

/// A TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// This one.
    Number(u16),
    /// A free one, passed to the program in `PORT`.
    Auto,
}

/// Which processes get the signal that stops a program. Processes left when its first one has
/// exited get it then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Its first process, and the process group of that one.
    #[default]
    Group,
    /// Its first process, which passes it on.
    Leader,
}

/// Which process reads the terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// hotrun, for its keys, until the program wants to.
    #[default]
    Auto,
    /// The program, also if stdin is no terminal.
    App,
    /// hotrun, for its keys; the program's input is empty.
    Null,
}

/// Where the program prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tty {
    /// To hotrun's own streams.
    #[default]
    Inherit,
    /// To a terminal of its own, which hotrun copies.
    Pty,
}

/// Which extensions matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extensions {
    /// All, and files without one.
    Any,
    /// These, without the dot before them.
    Only(BTreeSet<String>),
}

impl Extensions {
    /// As they are written, with or without a dot. No list, or a `*` in it: all.
    fn from_list(list: Option<Vec<String>>) -> Self {
        match list {
            Some(list) if !list.iter().any(|one| one.trim() == "*") => Extensions::Only(
                list.iter().map(|one| one.trim().trim_start_matches('.').to_owned()).collect(),
            ),
            _ => Extensions::Any,
        }
    }

    /// Returns whether a file of this name has one of them. `.env` has the extension `env`, as in
    /// Go; an item such as `html.tmpl` matches the end of a name.
    pub fn has(&self, name: &std::ffi::OsStr) -> bool {
        let Extensions::Only(list) = self else { return true };
        let name = name.as_encoded_bytes();
        list.iter().any(|extension| {
            !extension.is_empty()
                && name.strip_suffix(extension.as_bytes()).is_some_and(|stem| stem.ends_with(b"."))
        })
    }
}

/// What a change of certain files triggers instead of a build (air's `build.rules`, which
/// only know `run`).
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name in output.
    pub name: String,
    /// What it triggers.
    pub action: Action,
    /// If there are any, only files below these directories match.
    pub include_dirs: BTreeSet<PathBuf>,
    /// Files with these extensions match.
    pub extensions: Option<Extensions>,
    /// These files match. Without extensions and files, all files match.
    pub include_files: BTreeSet<PathBuf>,
    /// Expressions on the absolute path of files that do not match.
    pub exclude_regex: RegexSet,
}

/// What a rule triggers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A command for the shell.
    Run {
        /// As it is written. `{}` in it is replaced by each changed file.
        cmd: String,
        /// If it has `{}`: what the shell runs, with the file's name as the first argument.
        for_file: Option<String>,
    },
    /// The app restarts, without a build.
    Restart,
    /// The app gets this signal.
    Signal(Signal),
    /// The browser reloads the page.
    Reload,
    /// The browser loads the style sheets again.
    Css,
}

impl Action {
    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Run { .. } => "run",
            Action::Restart => "restart",
            Action::Signal(_) => "signal",
            Action::Reload => "reload",
            Action::Css => "css",
        }
    }
}

/// What to watch.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The base of relative patterns; absolute, links resolved.
    pub base: PathBuf,
    /// The directories that are watched recursively; absolute, links resolved.
    pub roots: Vec<PathBuf>,
    /// Files that always matter, wherever they are.
    pub always: BTreeSet<PathBuf>,
    /// Files and directories that never matter: what hotrun and the build write.
    pub never: BTreeSet<PathBuf>,
    /// The one of those that the build makes and the app runs.
    pub artifact: Option<PathBuf>,
    /// Directories that are not watched (`build.exclude_dir`).
    pub exclude_dirs: BTreeSet<PathBuf>,
    /// Directories that the kind of project excludes, unless a build reads what is in them.
    pub without: BTreeSet<PathBuf>,
    /// What the last build reported to read, and no key names: files, and directories
    /// all of whose files it reads.
    pub inputs: BTreeSet<PathBuf>,
    /// What the Go program is built from, once that is known.
    pub sources: Option<Arc<Sources>>,
    /// Whether `sources` decide which source files matter. Otherwise the configured lists do, and
    /// `sources` only add what lies outside of every root.
    pub sources_decide: bool,
    /// Which nested Cargo projects are part of the program.
    pub nested: Option<Nested>,
    /// Directories that hold a `CACHEDIR.TAG` or installed packages, or in which `CMake` or Meson
    /// builds, do not matter.
    pub skips_caches: bool,
    /// If there are any, only these directories are watched (`build.include_dir`).
    pub include_dirs: BTreeSet<PathBuf>,
    /// Files that matter whatever their extension (`build.include_file`).
    pub include_files: BTreeSet<PathBuf>,
    /// Extensions that matter.
    pub extensions: Extensions,
    /// Extensions that matter while no app runs: one that reads such files by itself is started.
    pub revives: Extensions,
    /// Root-relative globs that do not matter (`build.exclude_file`).
    pub exclude_files: GlobSet,
    /// Expressions on the absolute path that do not matter (`build.exclude_regex`).
    pub exclude_regex: RegexSet,
    /// Root-relative globs that matter (`watch.include`).
    pub include: Globs,
    /// Root-relative globs that do not (`watch.exclude`).
    pub exclude: Globs,
    /// Root-relative globs that the kind of project excludes, unless a build reads what they
    /// match.
    pub without_globs: Globs,
    /// What other files trigger. The first rule that matches a file wins.
    pub rules: Vec<Rule>,
    /// Whether `.gitignore` and its kin apply.
    pub gitignore: bool,
    /// Whether links to directories are followed.
    pub follow_symlink: bool,
    /// Whether a file with the content that it had for the last finished build is ignored.
    pub exclude_unchanged: bool,
    /// How changes are found.
    pub backend: Backend,
    /// Polling interval; `None`: chosen by how long a poll takes.
    pub poll_interval: Option<Duration>,
    /// Quiet time that ends a burst.
    pub debounce: Duration,
    /// Maximum duration of a burst.
    pub max_wait: Duration,
}

/// How changes are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// By events of the operating system, and by polling on file systems without them.
    #[default]
    Auto,
    /// By events of the operating system alone.
    Native,
    /// By polling alone.
    Poll,
}

/// Globs on root-relative paths, and the directories that they cover entirely.
#[derive(Clone, Debug, Default)]
pub struct Globs {
    /// What they match.
    pub files: GlobSet,
    /// Directories all of whose contents they match.
    pub directories: GlobSet,
    /// The patterns as written.
    pub patterns: Vec<String>,
}

impl Watch {
    /// Files, and directories all of whose files matter, outside of every root.
    pub fn outside(&self) -> impl Iterator<Item = &PathBuf> {
        let sources = self.sources.iter().flat_map(|sources| sources.all());
        let inputs = self.inputs.iter().chain(sources);
        self.always.iter().chain(inputs.filter(|input| self.root_of(input).is_none()))
    }

    /// Directories outside of every root in which new source files matter.
    pub fn packages_outside(&self) -> impl Iterator<Item = &PathBuf> {
        let packages = self.sources.iter().flat_map(|sources| sources.packages());
        packages.filter(|package| self.root_of(package).is_none())
    }

    /// Names of files that mark a directory as a separate project, or as a cache.
    pub fn markers(&self) -> impl Iterator<Item = &'static str> {
        let nested = self.nested.as_ref().map(|nested| nested.marker);
        let module = self.sources_decide.then_some("go.mod");
        let caches: &[&str] =
            if self.skips_caches { &[CACHE_TAG, CMAKE_CACHE, ENVIRONMENT] } else { &[] };
        nested.into_iter().chain(module).chain(caches.iter().copied())
    }

    /// The file that would mark this directory as a project which is no part of the program.
    pub fn foreign_marker(&self, directory: &Path) -> Option<&'static str> {
        let sources = self.sources.as_ref().filter(|_| self.sources_decide);
        if sources.is_some_and(|sources| sources.is_foreign_module(directory)) {
            return Some("go.mod");
        }
        let nested = self.nested.as_ref().filter(|nested| nested.is_foreign(directory));
        nested.map(|nested| nested.marker)
    }

    /// The root that a path lies in.
    pub fn root_of(&self, path: &Path) -> Option<&Path> {
        self.roots.iter().map(PathBuf::as_path).find(|root| path.starts_with(root))
    }

    /// A path as patterns see it: relative to the base, or else to its own root.
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        let base = path.strip_prefix(&self.base).ok();
        let root = || self.root_of(path).and_then(|root| path.strip_prefix(root).ok());
        base.or_else(root).unwrap_or(path)
    }
}

impl Globs {
    /// The directories, relative, below which all is that the patterns match; empty for a
    /// pattern that begins with a wildcard.
    pub fn fixed_parts(&self) -> impl Iterator<Item = &Path> {
        self.patterns.iter().map(|pattern| {
            let pattern = pattern.trim_start_matches("./");
            match pattern.find(['*', '?', '[', '{']) {
                None => Path::new(pattern).parent().unwrap_or(Path::new("")),
                Some(wild) => {
                    Path::new(pattern[..wild].rsplit_once('/').map_or("", |(fixed, _)| fixed))
                }
            }
        })
    }
}

/// Variables for builds and the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Files of variables; later ones override earlier ones.
    pub files: Vec<PathBuf>,
    /// Variables, which override those of the files.
    pub inline: Vec<(String, String)>,
    /// Directories of programs that precede the search path if they exist.
    pub search: Vec<PathBuf>,
}

/// The file for the output of a failed build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The file.
    pub path: PathBuf,
    /// Whether it is configured: its directory is then created if there is none.
    pub is_chosen: bool,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// When stderr is a terminal, and neither `NO_COLOR` nor `TERM=dumb` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The colours of lines about each part, as ANSI codes; `None`: hotrun's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colors {
    /// About hotrun itself.
    pub main: Option<&'static str>,
    /// About saves.
    pub watcher: Option<&'static str>,
    /// About builds.
    pub build: Option<&'static str>,
    /// About the app.
    pub runner: Option<&'static str>,
}

/// What is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loudness {
    /// Everything.
    #[default]
    All,
    /// Only problems.
    MainOnly,
    /// Only what makes hotrun exit.
    Silent,
}

/// What is cleared when a save causes a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clear {
    /// Nothing.
    #[default]
    Never,
    /// The screen.
    Screen,
    /// The screen and the scrollback.
    Scrollback,
}

/// How to report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Talk {
    /// `color.mode`.
    pub color: Option<Color>,
    /// The colours of lines.
    pub colors: Colors,
    /// Whether each line begins with the time of day.
    pub time: bool,
    /// What is printed.
    pub loudness: Loudness,
    /// What is cleared.
    pub clear: Clear,
    /// Whether lines name processes by their pids.
    pub pids: bool,
    /// Whether one line reports each save.
    pub compact: bool,
    /// Whether the title of the terminal shows the state.
    pub title: bool,
    /// Whether the terminal's bell rings on a failure and on recovery.
    pub bell: bool,
    /// Whether the terminal shows a desktop notification on a failure and on recovery.
    pub notify: bool,
    /// Text printed at the start.
    pub banner: Option<String>,
}

/// Everything, resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// What concerns the whole project.
    pub project: Project,
    /// In the order of the file. A file that names no services has one.
    pub services: Vec<Service>,
}

/// What concerns all services of a project.
#[derive(Clone, Debug)]
pub struct Project {
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Files that would be read instead if they existed.
    pub preferred: Vec<PathBuf>,
    /// Where the configuration is, and where commands run; absolute.
    pub directory: PathBuf,
    /// Whether `tmp_dir` is deleted on exit, if hotrun created it.
    pub clean_on_exit: bool,
    /// Whether a process of this project that holds one of the ports is killed.
    pub free_port: bool,
    /// How to report.
    pub talk: Talk,
    /// Build and run once, without watching.
    pub once: bool,
    /// What the user should know about the configuration.
    pub warnings: Vec<String>,
    /// Every value that has an effect, and where it is from.
    pub settings: Vec<Setting>,
}

/// One program: what it is made from, and how it runs.
#[derive(Clone, Debug)]
pub struct Service {
    /// The kind of project.
    pub kind: Kind,
    /// What the project is taken for, if no file says what to run.
    pub guess: Option<Guess>,
    /// How it is built and run.
    pub recipe: Recipe,
    /// Whether `tmp_dir` is created before the first build.
    pub makes_tmp: bool,
    /// Questions to ask after a build about what the program is built from (Go).
    pub asks: Vec<Question>,
    /// Ports on which the app is configured to listen.
    pub ports: Vec<u16>,
    /// The proxy in front of it.
    pub proxy: Option<Proxy>,
    /// What to watch.
    pub watch: Watch,
}

/// How a program is built and run. When any of this changes, it is built and started again.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// How to build.
    pub build: Build,
    /// How to run.
    pub run: Run,
    /// How `cargo run` would start the program that a build names.
    pub launch: Option<Launch>,
    /// Variables for builds and the program.
    pub env: Environment,
    /// The file for the output of a failed build.
    pub log: Option<Log>,
    /// The directory for build output; absolute.
    pub tmp_dir: PathBuf,
    /// Globs on command lines of processes that may outlive a build or an app.
    pub spare: Vec<String>,
    /// Sockets that every generation inherits.
    pub listen: Vec<Listen>,
    /// When a generation counts as serving.
    pub ready: Ready,
    /// Where a generation listens; `None` without a proxy.
    pub upstream: Option<Upstream>,
    /// Commands that run when hotrun is stopped, before the app is.
    pub post_cmd: Vec<String>,
}

impl Config {
    /// The service of a configuration that names none.
    pub fn only(&self) -> &Service {
        &self.services[0]
    }

    /// The parts of a configuration with one service.
    pub(crate) fn into_only(mut self) -> (Project, Service) {
        let service = self.services.remove(0);
        (self.project, service)
    }
}

impl Project {
    /// True for the file that was read, and for one that would be read instead.
    pub fn is_configuration(&self, path: &Path) -> bool {
        self.file.as_deref() == Some(path) || self.preferred.iter().any(|one| one == path)
    }
}

impl Service {
    /// What the core needs to know.
    pub fn policy(&self, project: &Project) -> Policy {
        let Recipe { build, run, post_cmd, .. } = &self.recipe;
        Policy {
            mode: run.mode,
            on_exit: run.on_exit,
            stop_on_error: build.stop_on_error,
            rollback: run.rolls_back,
            builds: !build.stages.is_empty() || build.check.is_some(),
            runs: run.program != Program::None,
            hooks: post_cmd.len(),
            spaced: !build.delay.is_zero(),
            rerun_delay: run.rerun_delay,
            once: project.once,
        }
    }

    /// True for a file whose change may change how this program is built or run.
    pub fn comes_from(&self, project: &Project, path: &Path) -> bool {
        let manifest = matches!(self.kind, Kind::Cargo(_)) && path.ends_with("Cargo.toml");
        let guessed = self.guess.as_ref().and_then(Guess::manifest);
        let is_guessed = guessed.is_some_and(|name| project.directory.join(name) == path);
        let mut of_cargo = self.recipe.launch.iter().flat_map(|launch| &launch.settings);
        project.is_configuration(path) || manifest || is_guessed || of_cargo.any(|one| one == path)
    }
}

/// Finds, reads and resolves the configuration.
pub async fn load(options: &Options, ask: &impl Ask) -> Result<Config> {
    let directory = &options.directory;
    let file = find(options)?;
    let guess = if needs_guess(options, file.is_some()) {
        let options = options.clone();
        // It reads many files, which may lie on a slow file system.
        let guessing = spawn_blocking(move || guess_for(&options));
        guessing.await.map_err(|error| Error::failed(directory.display(), error))??
    } else {
        None
    };
    let mut document = match (&file, &guess) {
        (Some(file), _) => read(file, directory)?,
        (None, Some(guess)) => Document::guessed(guess),
        (None, None) => Document::default(),
    };
    let air_mode = file.as_deref().is_some_and(air::is_airs);
    let ignored = if air_mode { document.ignore("env") } else { None };
    if options.command.is_some() {
        // These are for the program that the file names.
        for table in ["ready", "listen", "proxy"] {
            document.ignore(table);
        }
        for key in ["run.on_exit", "run.mode", "run.on_failed_start", "run.port", "build.rerun"] {
            document.ignore(key);
        }
    }
    document.overlay(&options.keys);
    let mut config = Resolver::new(options, &document, air_mode).resolve(ask).await?;
    let file = file.map(|file| absolute(directory, &file));
    let preferred = preferred(options, file.as_deref());
    let Config { project, services } = &mut config;
    project.warnings.extend(guess.iter().flat_map(|guess| &guess.notes).cloned());
    for service in services {
        service.watch.always.extend(preferred.iter().chain(&file).cloned());
        service.watch.never.extend(own_output());
        service.guess.clone_from(&guess);
    }
    project.preferred = preferred;
    project.file = file;
    project.warnings.extend(ignored.map(|place| {
        format!(
            "{place}: [env] has no effect in air's files; use env_files = [\".env\"], or convert the \
             file: hotrun init --from air"
        )
    }));
    project.warnings.extend(document.unknown()?);
    project.settings = document.settings();
    Ok(config)
}

/// Does the same on a thread of its own, since the files may lie on a slow file system. Questions are
/// asked on this thread.
pub async fn load_apart(options: Options, ask: &impl Ask) -> Result<Config> {
    let directory = options.directory.clone();
    let (sender, mut questions) = mpsc::unbounded_channel();
    let runtime = Handle::current();
    let loading =
        spawn_blocking(move || runtime.block_on(load(&options, &Elsewhere { questions: sender })));
    // It ends when the other thread needs no more answers.
    while let Some((question, answer)) = questions.recv().await {
        // If the other thread no longer waits, it has failed.
        let _ = answer.send(ask.ask(question).await);
    }
    loading.await.map_err(|error| Error::failed(directory.display(), error))?
}

/// Passes questions on to the thread that may start processes.
struct Elsewhere {
    questions: mpsc::UnboundedSender<(Question, oneshot::Sender<Result<Vec<u8>>>)>,
}

impl Ask for Elsewhere {
    async fn ask(&self, question: Question) -> Result<Vec<u8>> {
        let program = question.argv.first().cloned().unwrap_or_default();
        let (sender, answer) = oneshot::channel();
        // Fails only if hotrun exits.
        let _ = self.questions.send((question, sender));
        answer.await.map_err(|error| Error::failed(program.display(), error))?
    }
}

/// Decides whether the words behind `hotrun` are a command: outside of projects that have a program
/// of their own. This is decided once, so that a file that appears later changes nothing about it.
pub fn settle_command(options: &mut Options) {
    let has_file = found(options).is_some();
    // (What is built may be said beside it.)
    let keys = ["build.entrypoint", "build.full_bin", "build.bin"];
    let is_free = !has_file && options.command.is_none() && !names_any(options, &keys);
    if !options.args.is_empty() && is_free && Kind::detect(&options.directory) == Kind::Unknown {
        options.command = Some(Command::Argv(std::mem::take(&mut options.args)));
    }
    if let Some(Command::Argv(argv)) = &mut options.command
        && let Some(whole) = guess::command::with_interpreter(&options.directory, argv)
    {
        *argv = whole;
    }
}

/// Returns whether neither a file nor the command line says what to run.
fn needs_guess(options: &Options, has_file: bool) -> bool {
    !has_file
        && options.command.is_none()
        && !names_a_program(options)
        && Kind::detect(&options.directory) == Kind::Unknown
}

/// What the project is taken for.
fn guess_for(options: &Options) -> Result<Option<Guess>> {
    let place = options.directory.display();
    match guess::guess(&options.directory) {
        Outcome::Found(guess) => Ok(Some(*guess)),
        Outcome::Unknown => Ok(None),
        Outcome::Unable { reason, remedy } | Outcome::Uninstalled { reason, remedy } => {
            Err(Error::usage(place, reason).remedy(remedy))
        }
        Outcome::Several(all) => {
            let (reason, commands) = guess::several(&all);
            let error = || Error::usage(place, reason).remedy(format!("choose one:\n{commands}"));
            chosen(options, all).map(Some).ok_or_else(error)
        }
    }
}

/// The one of these that the user has chosen.
fn chosen(options: &Options, all: Vec<Guess>) -> Option<Guess> {
    let remembered = || choice::remembered(&options.directory);
    let choice = options.choice.clone().or_else(remembered)?;
    all.into_iter().find(|one| one.option() == choice)
}

/// The programs among which the user has to choose before anything can be run here; none, if that
/// is clear, or chosen already.
pub fn choices(options: &Options) -> Vec<Guess> {
    if !needs_guess(options, found(options).is_some()) {
        return Vec::new();
    }
    match guess::guess(&options.directory) {
        Outcome::Several(all) if chosen(options, all.clone()).is_none() => all,
        Outcome::Several(_)
        | Outcome::Found(_)
        | Outcome::Unable { .. }
        | Outcome::Uninstalled { .. }
        | Outcome::Unknown => Vec::new(),
    }
}

/// Whether options of the command line say what to build or run.
fn names_a_program(options: &Options) -> bool {
    names_any(options, &["build.cmd", "build.entrypoint", "build.full_bin", "build.bin"])
}

fn names_any(options: &Options, keys: &[&str]) -> bool {
    options.keys.iter().any(|(key, _)| keys.contains(&key.as_str()))
}

/// The variables of `[env]` in a file named after air, where they have no effect.
pub(crate) fn ignored_variables(file: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    let variables = table.get("env").and_then(toml::Value::as_table).into_iter().flatten();
    variables
        .filter_map(|(name, value)| Some((name.clone(), document::value_of_variable(value)?)))
        .collect()
}

/// The files to which hotrun's output is redirected: each line in them would
/// be a save.
fn own_output() -> impl Iterator<Item = PathBuf> {
    let streams = ["/proc/self/fd/1", "/proc/self/fd/2"];
    let files = streams.into_iter().filter(|stream| Path::new(stream).is_file());
    files.filter_map(|stream| std::fs::read_link(stream).ok())
}

/// The file that would be read.
pub fn found(options: &Options) -> Option<PathBuf> {
    find(options).ok().flatten().map(|file| absolute(&options.directory, &file))
}

/// True if the configuration that would be used is air's, whose users may not know
/// hotrun's own words.
pub fn is_airs(options: &Options) -> bool {
    find(options).ok().flatten().is_some_and(|file| air::is_airs(&file))
}

fn find(options: &Options) -> Result<Option<PathBuf>> {
    if options.no_config {
        return Ok(None);
    }
    if let Some(named) = &options.config {
        if !options.directory.join(named).is_file() {
            return Err(Error::usage(named.display(), "configuration file not found")
                .remedy("`hotrun init` writes one; Cargo and Go projects need none"));
        }
        return Ok(Some(named.clone()));
    }
    for name in NAMES {
        let path = options.directory.join(name);
        if path.is_file() && !(name == "air.toml" && is_another_tools(&path)) {
            return Ok(Some(name.into()));
        }
    }
    Ok(None)
}

/// The files that would be read in the place of this one.
fn preferred(options: &Options, file: Option<&Path>) -> Vec<PathBuf> {
    if options.no_config || options.config.is_some() {
        return Vec::new();
    }
    let all = NAMES.iter().map(|name| absolute(&options.directory, Path::new(name)));
    let better = all.take_while(|path| Some(path.as_path()) != file);
    better.filter(|path| path.parent().is_some_and(Path::is_dir)).collect()
}

/// An R formatter has an `air.toml` too.
fn is_another_tools(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    Document::parse("", &text).is_ok_and(|document| !document.has_any(&AIR_KEYS))
}

fn read(path: &Path, directory: &Path) -> Result<Document> {
    let name = path.display().to_string();
    let bytes = file::read(&directory.join(path))
        .map_err(|error| Error::usage(&name, error).remedy("make the file readable"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::usage(&name, "is not UTF-8").remedy("save it as UTF-8"))?;
    Document::parse(&name, text.trim_start_matches('\u{feff}'))
}

/// A path below a base unless it is absolute, without `.` and `..` and links left as they
/// are.
pub fn absolute(base: &Path, path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in base.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean
}
