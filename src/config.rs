//! From the configuration as written to one resolved [`Config`], in which nothing is
//! optional any more because somebody may not have set it.
//!
//! Two modes share one schema. In *native* mode what is not written comes from the kind of
//! project. In *air mode*, for files that air would read, it is what air would do
//! (<https://github.com/air-verse/air>), with its defects left out.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use nix::sys::signal::Signal;
use regex::RegexSet;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::event::{Mode, OnExit, Policy};
use crate::project::{self, Ask, Kind, Makes, Selection};

mod air;
mod document;
mod duration;
pub mod example;
#[cfg(test)]
pub(crate) mod tests;

use document::Document;

/// Where a configuration is looked for, in this order.
const NAMES: [&str; 6] = [
    "hotrun.toml",
    ".hotrun.toml",
    ".air.toml",
    "air.toml",
    ".config/hotrun.toml",
    ".config/air.toml",
];
/// Tables and keys by which a file named `air.toml` is known as air's.
const AIR_KEYS: [&str; 9] =
    ["root", "tmp_dir", "testdata_dir", "env_files", "build", "log", "misc", "screen", "proxy"];

const GRACE: Duration = Duration::from_secs(5);
const CANCEL_GRACE: Duration = Duration::from_secs(1);
const DEBOUNCE: u64 = 10;
const MAX_WAIT: u64 = 2_000;
const RERUN_DELAY: u64 = 500;

const STRINGS: &str = "a list of strings, for example [\"a\", \"b\"]";
const MILLISECONDS: &str = "milliseconds as a whole number, for example 200";
const BOOLEAN: &str = "true or false";

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The directory to work in; absolute.
    pub directory: PathBuf,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--once`.
    pub once: bool,
    /// Which program, built how.
    pub selection: Selection,
    /// Arguments for the app.
    pub args: Vec<OsString>,
}

/// A command: a program with arguments, or a text for the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run as it is, without a shell.
    Argv(Vec<OsString>),
    /// Run by `/bin/sh -c`; the arguments follow the text, and the shell leaves them as
    /// they are.
    Shell(String, Vec<OsString>),
}

/// One command of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What is run.
    pub command: Command,
    /// How it is called in output.
    pub label: String,
    /// When it fails, the tolerated stages after it are left out, and the build goes on.
    pub tolerated: bool,
    /// It prints cargo's messages, which name the executable of this target.
    pub messages_of: Option<String>,
}

impl Stage {
    /// A text for the shell.
    pub fn shell(text: String) -> Self {
        let label = text.clone();
        Self { label, ..Self::alone(Command::Shell(text, Vec::new())) }
    }

    /// A command that is a job of its own.
    pub fn alone(command: Command) -> Self {
        Self { command, label: String::new(), tolerated: false, messages_of: None }
    }
}

/// How to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// What runs, in this order; nothing: there is no build.
    pub stages: Vec<Stage>,
    /// Spacing between the starts of two builds.
    pub delay: Duration,
    /// Grace of an overtaken build.
    pub cancel_grace: Duration,
    /// A failed build dismisses the running app.
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

/// How to run the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What to run.
    pub program: Program,
    /// What asks it to end.
    pub signal: Signal,
    /// How long it may take to end; then it is killed.
    pub grace: Duration,
    /// What follows when it ends by itself.
    pub on_exit: OnExit,
    /// The pause before it is started again; `None`: 0.5 s, doubling to 8 s.
    pub rerun_delay: Option<Duration>,
}

/// Which extensions matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extensions {
    /// All, and files without one.
    Any,
    /// These, without a dot.
    Only(BTreeSet<OsString>),
}

/// What to watch.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The directories that are watched with all below them; the first is the root, on
    /// which relative patterns are based. Absolute, links resolved.
    pub roots: Vec<PathBuf>,
    /// Files that always matter, wherever they are.
    pub always: BTreeSet<PathBuf>,
    /// Files and directories that never matter: what hotrun and the build write.
    pub never: BTreeSet<PathBuf>,
    /// Directories that are not watched (`build.exclude_dir`).
    pub exclude_dirs: BTreeSet<PathBuf>,
    /// If there are any, only these directories are watched (`build.include_dir`).
    pub include_dirs: BTreeSet<PathBuf>,
    /// Files that matter whatever their extension (`build.include_file`).
    pub include_files: BTreeSet<PathBuf>,
    /// Extensions that matter.
    pub extensions: Extensions,
    /// Root-relative globs that do not matter (`build.exclude_file`).
    pub exclude_files: GlobSet,
    /// Expressions on the absolute path that do not matter (`build.exclude_regex`).
    pub exclude_regex: RegexSet,
    /// Root-relative globs that matter (`watch.include`).
    pub include: Globs,
    /// Root-relative globs that do not (`watch.exclude`).
    pub exclude: Globs,
    /// `.gitignore` and its kin are obeyed.
    pub gitignore: bool,
    /// Quiet that ends a burst.
    pub debounce: Duration,
    /// The longest that a burst may take.
    pub max_wait: Duration,
}

/// Globs on root-relative paths, and the directories that they cover whole.
#[derive(Clone, Debug, Default)]
pub struct Globs {
    /// What they match.
    pub files: GlobSet,
    /// Directories all of whose contents they match.
    pub directories: GlobSet,
    /// The patterns as written.
    pub patterns: Vec<String>,
}

/// Everything, resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// The kind of project.
    pub kind: Kind,
    /// Where commands and the app run; absolute.
    pub directory: PathBuf,
    /// Made before the first build, if the configuration needs it.
    pub tmp_dir: Option<PathBuf>,
    /// How to build.
    pub build: Build,
    /// How to run.
    pub run: Run,
    /// Commands that run when hotrun is asked to end, before the app is.
    pub post_cmd: Vec<String>,
    /// What to watch.
    pub watch: Watch,
    /// Build and run once, without watching.
    pub once: bool,
    /// What the person should know about the configuration.
    pub warnings: Vec<String>,
}

impl Config {
    /// What the state machine needs to know.
    pub fn policy(&self) -> Policy {
        Policy {
            mode: Mode::Restart,
            on_exit: self.run.on_exit,
            stop_on_error: self.build.stop_on_error,
            builds: !self.build.stages.is_empty(),
            runs: self.run.program != Program::None,
            hooks: self.post_cmd.len(),
            spaced: !self.build.delay.is_zero(),
            once: self.once,
        }
    }

    /// True when builds and apps are the same as with the other configuration.
    pub fn is_same_work(&self, other: &Config) -> bool {
        self.build == other.build
            && self.run == other.run
            && self.post_cmd == other.post_cmd
            && self.tmp_dir == other.tmp_dir
    }

    /// True for a file whose change may change this configuration.
    pub fn comes_from(&self, path: &Path) -> bool {
        let manifest = matches!(self.kind, Kind::Cargo(_)) && path.ends_with("Cargo.toml");
        self.file.as_deref() == Some(path) || manifest
    }
}

/// Finds, reads and resolves the configuration.
pub async fn load(options: &Options, ask: &impl Ask) -> Result<Config> {
    let directory = &options.directory;
    let file = find(options)?;
    let document = match &file {
        None => Document::default(),
        Some(file) => read(file, directory)?,
    };
    let air_mode = file.as_deref().is_some_and(air::is_airs);
    let mut resolver = Resolver { options, document: &document, air_mode, warnings: Vec::new() };
    let mut config = resolver.resolve(ask).await?;
    let file = file.map(|file| absolute(directory, &file));
    config.watch.always.extend(file.clone());
    config.file = file;
    config.warnings.extend(document.unknown());
    Ok(config)
}

fn find(options: &Options) -> Result<Option<PathBuf>> {
    if let Some(named) = &options.config {
        if !options.directory.join(named).is_file() {
            return Err(Error::usage(named.display(), "there is no such configuration file")
                .remedy(
                    "hotrun init writes one; without -c none is needed in Cargo and Go projects",
                ));
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

/// An R formatter has an `air.toml` too.
fn is_another_tools(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    Document::parse("", &text).is_ok_and(|document| !document.has_any(&AIR_KEYS))
}

fn read(file: &Path, directory: &Path) -> Result<Document> {
    let name = file.display().to_string();
    let bytes = std::fs::read(directory.join(file))
        .map_err(|error| Error::usage(&name, error).remedy("make the file readable"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::usage(&name, "is not UTF-8").remedy("save it as UTF-8"))?;
    Document::parse(&name, text.trim_start_matches('\u{feff}'))
}

/// A string, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A whole number, or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(i64),
    Text(String),
}

/// One resolution under way.
struct Resolver<'a> {
    options: &'a Options,
    document: &'a Document,
    air_mode: bool,
    warnings: Vec<String>,
}

impl Resolver<'_> {
    async fn resolve(&mut self, ask: &impl Ask) -> Result<Config> {
        let directory = &self.options.directory;
        let root = self.root()?;
        let tmp = self.string("tmp_dir")?.or(self.alias_string("meta.tmp_dir")?);
        let tmp_dir = absolute(&root, Path::new(tmp.as_deref().unwrap_or("tmp")));
        let kind = if self.air_mode { Kind::Unknown } else { Kind::detect(directory) };

        let cmd = self.string("build.cmd")?;
        let entrypoint = self.entrypoint()?;
        let full_bin = self.string("build.full_bin")?;
        let bin = self.string("build.bin")?;
        let args_bin = self.strings("build.args_bin")?.unwrap_or_default();
        let pre_cmd = self.strings("build.pre_cmd")?.unwrap_or_default();
        let post_cmd = self.strings("build.post_cmd")?.unwrap_or_default();
        let stop_on_error = self.boolean("build.stop_on_error")?.unwrap_or(false);
        self.has_no_effect("meta.send_error_to_tty", "errors always go to the terminal")?;

        let says_how_to_run = entrypoint.is_some() || full_bin.is_some() || bin.is_some();
        let plan = match &kind {
            _ if cmd.is_some() => None,
            Kind::Cargo(place) => {
                let manifest = place.join("Cargo.toml");
                Some(
                    project::cargo::plan(directory, &manifest, &self.options.selection, ask)
                        .await?,
                )
            }
            Kind::Go(module) => {
                let artifact = tmp_dir.join("main");
                let selection = &self.options.selection;
                Some(project::go::plan(directory, module, &artifact, selection, ask).await?)
            }
            Kind::Unknown => None,
        };
        if plan.is_none() {
            self.no_selection(&kind)?;
        }
        if !self.air_mode && plan.is_none() && cmd.is_none() && !says_how_to_run {
            return Err(nothing_to_do(directory, self.document));
        }

        let mut stages: Vec<Stage> = pre_cmd
            .into_iter()
            .map(|text| Stage { tolerated: self.air_mode && !stop_on_error, ..Stage::shell(text) })
            .collect();
        let default_cmd = self.air_mode.then(|| air::default_cmd(tmp.as_deref()));
        if let Some(text) = cmd.or(default_cmd) {
            stages.push(Stage::shell(text));
        } else if let Some(plan) = &plan {
            let target = match &plan.makes {
                Makes::CargoTarget(target) => Some(target.clone()),
                Makes::File(_) => None,
            };
            stages.push(Stage {
                command: Command::Argv(plan.build.clone()),
                label: plan.label.clone(),
                tolerated: false,
                messages_of: target,
            });
        }

        let runs = ProgramKeys { entrypoint, full_bin, bin, args: args_bin };
        let program = if self.air_mode {
            let resolved = air::program(runs, &root, directory, tmp.as_deref(), &self.options.args);
            self.warnings.extend(resolved.warning);
            Program::Command(resolved.command)
        } else {
            self.program(runs, &root, plan.as_ref().map(|plan| &plan.makes))
        };
        let makes_tmp =
            self.air_mode || matches!(plan.as_ref().map(|plan| &plan.makes), Some(Makes::File(_)));

        let run = self.run(program)?;
        let build = Build {
            stages,
            delay: self.milliseconds("build.delay", 0)?,
            cancel_grace: self.duration("build.cancel_grace")?.unwrap_or(CANCEL_GRACE),
            stop_on_error,
        };
        let watch = self.watch(&root, &tmp_dir, plan.as_ref(), &run.program)?;
        Ok(Config {
            file: None,
            kind,
            directory: directory.clone(),
            tmp_dir: makes_tmp.then_some(tmp_dir),
            build,
            run,
            post_cmd,
            watch,
            once: self.options.once,
            warnings: std::mem::take(&mut self.warnings),
        })
    }

    fn root(&self) -> Result<PathBuf> {
        let written = self.string("root")?.unwrap_or_else(|| ".".to_owned());
        let path = match written.strip_prefix("~/").zip(std::env::home_dir()) {
            Some((below, home)) => home.join(below),
            None => absolute(&self.options.directory, Path::new(&written)),
        };
        let root = std::fs::canonicalize(&path).map_err(|error| {
            let wrong = if self.document.has("root") {
                self.document.wrong("root", "a directory that exists")
            } else {
                Error::usage(path.display(), error)
            };
            wrong.remedy("set root to the directory of the sources")
        })?;
        if !root.is_dir() {
            return Err(Error::usage(root.display(), "the root is not a directory"));
        }
        let dangerous = self.boolean("build.ignore_dangerous_root_dir")?.unwrap_or(false);
        let home = std::env::home_dir().and_then(|home| std::fs::canonicalize(home).ok());
        let forbidden = [Some("/".into()), Some("/root".into()), home];
        if !dangerous && forbidden.contains(&Some(root.clone())) {
            return Err(Error::usage(root.display(), "is too much to watch: it is no project")
                .remedy(
                    "start hotrun in the project's directory (or -C DIR), or set root\n\
                     to watch it all the same: build.ignore_dangerous_root_dir = true",
                ));
        }
        Ok(root)
    }

    fn no_selection(&self, kind: &Kind) -> Result<()> {
        let Selection { package, bin, example, flags } = &self.options.selection;
        let flag = [
            package.is_some().then_some("-p"),
            bin.is_some().then_some("--bin"),
            example.is_some().then_some("--example"),
            flags.first().map(String::as_str),
        ];
        match flag.into_iter().flatten().next() {
            None => Ok(()),
            Some(flag) if self.document.has("build.cmd") => {
                Err(Error::usage(flag, "has no effect beside build.cmd")
                    .remedy("write the flag into build.cmd, or leave build.cmd out"))
            }
            Some(flag) => Err(Error::usage(
                flag,
                format!(
                    "only means something in a Cargo or Go project; this one is {}",
                    kind.name()
                ),
            )),
        }
    }

    // How to run

    fn entrypoint(&self) -> Result<Option<Vec<String>>> {
        let key = "build.entrypoint";
        let expected = "a program, or a list of a program and its arguments";
        match self.document.get::<OneOrMany>(key, expected)? {
            None => Ok(None),
            Some(OneOrMany::Many(words)) => Ok((!words.is_empty()).then_some(words)),
            Some(OneOrMany::One(text)) if self.air_mode => Ok(non_empty(text).map(|one| vec![one])),
            Some(OneOrMany::One(text)) => match shlex::split(&text) {
                Some(words) => Ok((!words.is_empty()).then_some(words)),
                None => Err(self.document.wrong(key, "a command line with its quotes closed")),
            },
        }
    }

    fn program(&self, keys: ProgramKeys, root: &Path, makes: Option<&Makes>) -> Program {
        let extra = &self.options.args;
        let mut args: Vec<OsString> = keys.args.into_iter().map(OsString::from).collect();
        if let Some(text) = keys.full_bin {
            args.extend(extra.iter().cloned());
            return Program::Command(Command::Shell(text, args));
        }
        let words = keys.entrypoint.or(keys.bin.map(|bin| vec![bin]));
        if let Some(words) = words {
            let mut argv: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            if Path::new(&argv[0]).components().count() > 1 {
                argv[0] = absolute(root, Path::new(&argv[0])).into();
            }
            argv.append(&mut args);
            argv.extend(extra.iter().cloned());
            return Program::Command(Command::Argv(argv));
        }
        args.extend(extra.iter().cloned());
        match makes {
            Some(Makes::CargoTarget(_)) => Program::Built(args),
            Some(Makes::File(path)) => {
                args.insert(0, path.into());
                Program::Command(Command::Argv(args))
            }
            None => Program::None,
        }
    }

    fn run(&self, program: Program) -> Result<Run> {
        let interrupt = self.boolean("build.send_interrupt")?.unwrap_or(false);
        let default = if interrupt { Signal::SIGINT } else { Signal::SIGTERM };
        let signal = match self.string("run.signal")? {
            None => default,
            Some(name) => {
                let full = name.to_uppercase();
                let full = if full.starts_with("SIG") { full } else { format!("SIG{full}") };
                Signal::from_str(&full).map_err(|_| {
                    self.document.wrong("run.signal", "a signal's name, for example \"TERM\"")
                })?
            }
        };
        let rerun = self.boolean("build.rerun")?.unwrap_or(false);
        let rerun_delay = self.milliseconds("build.rerun_delay", RERUN_DELAY)?;
        let on_exit = match self.string("run.on_exit")?.as_deref() {
            None if rerun => OnExit::Restart,
            _ if self.options.once => OnExit::Quit,
            None | Some("wait") => OnExit::Wait,
            Some("restart") => OnExit::Restart,
            Some("quit") => OnExit::Quit,
            Some(_) => {
                let expected = "\"wait\", \"restart\" or \"quit\"";
                return Err(self.document.wrong("run.on_exit", expected));
            }
        };
        Ok(Run {
            program,
            signal,
            grace: self.grace()?,
            on_exit: if self.options.once { OnExit::Quit } else { on_exit },
            rerun_delay: rerun.then_some(rerun_delay),
        })
    }

    fn grace(&self) -> Result<Duration> {
        let grace = self.duration("build.kill_delay")?;
        Ok(match grace {
            None => GRACE,
            // Files that `air init` wrote hold "0s" without anybody having chosen it.
            Some(zero) if self.air_mode && zero.is_zero() => GRACE,
            Some(grace) => grace,
        })
    }

    // What to watch

    fn watch(
        &mut self,
        root: &Path,
        tmp_dir: &Path,
        plan: Option<&project::Plan>,
        program: &Program,
    ) -> Result<Watch> {
        let testdata = self.string("testdata_dir")?;
        let mut never = BTreeSet::from([tmp_dir.to_owned()]);
        if let Program::Command(Command::Argv(argv)) = program {
            never.extend(Some(PathBuf::from(&argv[0])).filter(|path| path.is_absolute()));
        }
        if let Program::Command(Command::Shell(text, _)) = program
            && let Some(first) = shlex::split(text).and_then(|words| words.into_iter().next())
            && first.contains('/')
        {
            never.insert(absolute(&self.options.directory, Path::new(&first)));
        }
        let mut extensions = self.list("include_ext")?;
        let (mut include_files, more_extensions) =
            air::split_extensions(self.list("include_file")?.unwrap_or_default(), || {
                self.strings("watch.include_files")
            })?;
        if !more_extensions.is_empty() {
            extensions.get_or_insert_default().extend(more_extensions);
        }
        let extensions = extensions
            .or_else(|| self.air_mode.then(air::default_extensions))
            .or_else(|| plan.map(|plan| plan.extensions.clone()))
            .or_else(|| default_extensions(&self.kind_here()));
        let exclude_dirs = self.list("exclude_dir")?.or(self.strings("watch.exclude_dirs")?);
        let exclude_dirs = exclude_dirs
            .or_else(|| self.air_mode.then(|| air::default_exclude_dirs(tmp_dir, root)))
            .unwrap_or_default();
        if self.air_mode || testdata.is_some() {
            let testdata = testdata.as_deref().unwrap_or("testdata");
            never.insert(absolute(root, Path::new(testdata)));
        }
        let below_root = |paths: Vec<String>| -> BTreeSet<PathBuf> {
            let paths = paths.iter().map(|path| path.trim()).filter(|path| !path.is_empty());
            paths.map(|path| absolute(root, Path::new(path))).collect()
        };
        let mut exclude_dirs = below_root(exclude_dirs);
        let include_dirs = self.include_dirs(root)?;
        let roots = self.roots(root, plan, &include_dirs);
        include_files.retain(|file| !file.trim().is_empty());
        let mut exclude = self.strings("watch.exclude")?.unwrap_or_default();
        if let Some(plan) = plan {
            exclude_dirs.extend(plan.without.iter().cloned());
            exclude.extend(plan.exclude.iter().cloned());
        }
        let regexes = self.list("exclude_regex")?;
        let regexes = regexes
            .or_else(|| self.air_mode.then(|| vec!["_test.go".to_owned()]))
            .unwrap_or_default();
        Ok(Watch {
            roots,
            always: BTreeSet::new(),
            never,
            exclude_dirs,
            include_dirs,
            include_files: below_root(include_files),
            extensions: match extensions {
                None => Extensions::Any,
                Some(list) if list.iter().any(|one| one.trim() == "*") => Extensions::Any,
                Some(list) => Extensions::Only(
                    list.iter().map(|one| one.trim().trim_start_matches('.').into()).collect(),
                ),
            },
            exclude_files: self.globs("build.exclude_file", self.list("exclude_file")?)?.files,
            exclude_regex: RegexSet::new(regexes.iter().filter(|one| !one.is_empty())).map_err(
                |error| {
                    let why = error.to_string();
                    let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                    let expected = format!("regular expressions (RE2 syntax): {why}");
                    self.document.wrong("build.exclude_regex", expected)
                },
            )?,
            include: self.globs("watch.include", self.strings("watch.include")?)?,
            exclude: self.globs("watch.exclude", Some(exclude))?,
            gitignore: self.boolean("watch.gitignore")?.unwrap_or(!self.air_mode),
            debounce: self.milliseconds("watch.debounce", DEBOUNCE)?,
            max_wait: self.milliseconds("watch.max_wait", MAX_WAIT)?,
        })
    }

    fn kind_here(&self) -> Kind {
        if self.air_mode { Kind::Unknown } else { Kind::detect(&self.options.directory) }
    }

    fn include_dirs(&mut self, root: &Path) -> Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        for written in self.list("include_dir")?.unwrap_or_default() {
            let path = absolute(root, Path::new(written.trim()));
            if !path.is_dir() {
                self.warnings.push(format!("build.include_dir: there is no directory {written}"));
            }
            found.insert(path);
        }
        Ok(found)
    }

    /// The root, and what lies outside it.
    fn roots(
        &self,
        root: &Path,
        plan: Option<&project::Plan>,
        include_dirs: &BTreeSet<PathBuf>,
    ) -> Vec<PathBuf> {
        let mut roots = match plan {
            // A workspace may lie around the package, and packages beside it.
            Some(plan) if !self.document.has("root") => plan.roots.clone(),
            _ => vec![root.to_owned()],
        };
        for path in include_dirs.iter().filter(|path| path.is_dir()) {
            if !roots.iter().any(|root| path.starts_with(root)) {
                roots.push(path.clone());
            }
        }
        roots
    }

    fn globs(&self, key: &'static str, patterns: Option<Vec<String>>) -> Result<Globs> {
        let patterns = patterns.unwrap_or_default();
        let mut files = GlobSetBuilder::new();
        let mut directories = GlobSetBuilder::new();
        for pattern in &patterns {
            let pattern = pattern.trim_start_matches("./");
            let build = |text: &str| {
                GlobBuilder::new(text).literal_separator(true).build().map_err(|error| {
                    let why = error.kind();
                    let expected = format!("globs: {pattern:?} is none: {why}");
                    self.document.wrong(key, expected)
                })
            };
            let whole = pattern.strip_suffix("/**").or(pattern.strip_suffix('/'));
            files.add(build(&match whole {
                Some(whole) => format!("{whole}/**"),
                None => pattern.to_owned(),
            })?);
            directories.add(build(whole.unwrap_or(pattern))?);
        }
        let built = |builder: GlobSetBuilder| {
            builder.build().map_err(|error| self.document.wrong(key, format!("globs: {error}")))
        };
        Ok(Globs { files: built(files)?, directories: built(directories)?, patterns })
    }

    // Values

    /// A list of air's, also from a `[watch]` table, where people put it by mistake.
    fn list(&self, name: &'static str) -> Result<Option<Vec<String>>> {
        let (key, misplaced) = match name {
            "include_ext" => ("build.include_ext", "watch.include_ext"),
            "exclude_dir" => ("build.exclude_dir", "watch.exclude_dir"),
            "include_dir" => ("build.include_dir", "watch.include_dir"),
            "include_file" => ("build.include_file", "watch.include_file"),
            "exclude_file" => ("build.exclude_file", "watch.exclude_file"),
            _ => ("build.exclude_regex", "watch.exclude_regex"),
        };
        match self.strings(key)? {
            None if self.air_mode => self.strings(misplaced),
            found => {
                if self.air_mode {
                    self.strings(misplaced)?;
                }
                Ok(found)
            }
        }
    }

    fn strings(&self, key: &'static str) -> Result<Option<Vec<String>>> {
        self.document.get(key, STRINGS)
    }

    /// An empty string is an unset one, as in air.
    fn string(&self, key: &'static str) -> Result<Option<String>> {
        let found: Option<String> = self.document.get(key, "a string in quotes")?;
        Ok(found.and_then(non_empty))
    }

    fn alias_string(&self, key: &'static str) -> Result<Option<String>> {
        if self.air_mode { self.string(key) } else { Ok(None) }
    }

    fn has_no_effect(&mut self, key: &'static str, why: &str) -> Result<()> {
        if self.air_mode && self.boolean(key)?.is_some() {
            self.warnings.push(format!("{key} has no effect: {why}"));
        }
        Ok(())
    }

    fn boolean(&self, key: &'static str) -> Result<Option<bool>> {
        self.document.get(key, BOOLEAN)
    }

    fn milliseconds(&self, key: &'static str, default: u64) -> Result<Duration> {
        let found: Option<u64> = self.document.get(key, MILLISECONDS)?;
        Ok(Duration::from_millis(found.unwrap_or(default)))
    }

    fn duration(&self, key: &'static str) -> Result<Option<Duration>> {
        let expected = "a duration, for example \"500ms\" or 500 (milliseconds)";
        let wrong = || self.document.wrong(key, expected);
        match self.document.get::<NumberOrText>(key, expected)? {
            None => Ok(None),
            Some(NumberOrText::Text(text)) if text.is_empty() => Ok(None),
            Some(NumberOrText::Text(text)) => duration::parse(&text).map(Some).ok_or_else(wrong),
            Some(NumberOrText::Number(number)) => {
                let number = u64::try_from(number).map_err(|_| wrong())?;
                Ok(Some(if self.air_mode {
                    air::integer_duration(number)
                } else {
                    Duration::from_millis(number)
                }))
            }
        }
    }
}

/// The keys that say what to run.
struct ProgramKeys {
    entrypoint: Option<Vec<String>>,
    full_bin: Option<String>,
    bin: Option<String>,
    args: Vec<String>,
}

fn non_empty(text: String) -> Option<String> {
    (!text.trim().is_empty()).then_some(text)
}

fn default_extensions(kind: &Kind) -> Option<Vec<String>> {
    let list: &[&str] = match kind {
        Kind::Cargo(_) => &["rs", "toml"],
        Kind::Go(_) => &["go", "mod", "sum", "work", "tpl", "tmpl", "gohtml", "html"],
        Kind::Unknown => return None,
    };
    Some(list.iter().copied().map(String::from).collect())
}

fn nothing_to_do(directory: &Path, document: &Document) -> Error {
    let three_lines = "[build]\ncmd = \"make app\"\nentrypoint = \"./app\"";
    if document.has_any(&["build", "watch", "run", "root"]) {
        return Error::usage(
            directory.display(),
            "the configuration says neither what to build nor what to run",
        )
        .remedy(format!("add to it:\n{three_lines}"));
    }
    Error::usage(
        directory.display(),
        "neither a configuration nor a Cargo or Go project was found here or above",
    )
    .remedy(format!(
        "write these three lines, with your commands, to hotrun.toml:\n{three_lines}\n\
         or let hotrun init write a file that explains every key"
    ))
}

/// A path below a base unless it is absolute, without `.` and `..` and links left as they
/// are.
pub(crate) fn absolute(base: &Path, path: &Path) -> PathBuf {
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
