//! From a [`Document`] to a [`Config`]: every key is asked for here, and nowhere else.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use globset::{GlobBuilder, GlobSetBuilder};
use nix::sys::signal::Signal;
use regex::RegexSet;
use serde::Deserialize;

use super::document::Document;
use super::{
    Build, Command, Config, Extensions, Globs, Options, Program, Run, Stage, Watch, absolute, air,
    duration,
};
use crate::error::{Error, Result};
use crate::event::OnExit;
use crate::project::{self, Ask, Kind, Makes, Selection};

pub(super) const GRACE: Duration = Duration::from_secs(5);
const CANCEL_GRACE: Duration = Duration::from_secs(1);
const DEBOUNCE: u64 = 10;
const MAX_WAIT: u64 = 2_000;
const RERUN_DELAY: u64 = 500;

/// Where all files matter, these do not: programs write them while they run, and would
/// restart themselves for ever.
const NO_SOURCES: [&str; 8] = [
    "**/*.log",
    "**/*.pid",
    "**/*.db",
    "**/*.db-*",
    "**/*.sqlite*",
    "**/*.pyc",
    "**/__pycache__/**",
    "**/node_modules/**",
];

const STRINGS: &str = "a list of strings, for example [\"a\", \"b\"]";
const MILLISECONDS: &str = "milliseconds as a whole number, for example 200";
const BOOLEAN: &str = "true or false";

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
pub(super) struct Resolver<'a> {
    options: &'a Options,
    document: &'a Document,
    air_mode: bool,
    warnings: Vec<String>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(options: &'a Options, document: &'a Document, air_mode: bool) -> Self {
        Self { options, document, air_mode, warnings: Vec::new() }
    }

    pub(super) async fn resolve(&mut self, ask: &impl Ask) -> Result<Config> {
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
        for root in plan.iter().flat_map(|plan| &plan.roots) {
            self.refuse_too_much(root)?;
        }
        let makes = (&run.program, !build.stages.is_empty());
        let watch = self.watch(&root, &tmp_dir, &kind, plan.as_ref(), makes)?;
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
        self.refuse_too_much(&root)?;
        Ok(root)
    }

    /// Refuses to watch the whole machine, or all that somebody has, as air does.
    fn refuse_too_much(&self, root: &Path) -> Result<()> {
        let wanted = self.boolean("build.ignore_dangerous_root_dir")?.unwrap_or(false);
        let home = std::env::home_dir().and_then(|home| std::fs::canonicalize(home).ok());
        let too_much = [Some("/".into()), Some("/root".into()), home];
        if wanted || !too_much.iter().flatten().any(|one: &PathBuf| one == root) {
            return Ok(());
        }
        Err(Error::usage(root.display(), "is too much to watch: it is no project").remedy(
            "start hotrun in the project's directory (or -C DIR), or set root\n\
             to watch it all the same: build.ignore_dangerous_root_dir = true",
        ))
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
            _ if self.options.once => OnExit::Quit,
            None if rerun => OnExit::Restart,
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
            on_exit,
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
        kind: &Kind,
        plan: Option<&project::Plan>,
        (program, builds): (&Program, bool),
    ) -> Result<Watch> {
        let testdata = self.string("testdata_dir")?;
        let mut never = BTreeSet::from([tmp_dir.to_owned()]);
        never.extend(self.artifact(program, builds));
        let mut extensions = self.list("include_ext")?;
        let (include_files, more_extensions) = air::split_extensions(
            self.list("include_file")?.unwrap_or_default(),
            self.strings("watch.include_files")?.unwrap_or_default(),
        );
        if !more_extensions.is_empty() {
            extensions.get_or_insert_default().extend(more_extensions);
        }
        let extensions = extensions
            .or_else(|| self.air_mode.then(air::default_extensions))
            .or_else(|| kind.extensions());
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
        let mut roots = self.roots(root, plan, &include_dirs);
        let mut exclude = self.strings("watch.exclude")?.unwrap_or_default();
        if let Some(plan) = plan {
            exclude_dirs.extend(plan.without.iter().cloned());
            exclude.extend(plan.exclude.iter().cloned());
        }
        let any = extensions.as_ref().is_none_or(|list| list.iter().any(|one| one.trim() == "*"));
        if any && !self.air_mode {
            exclude.extend(NO_SOURCES.map(String::from));
        }
        let regexes = self.list("exclude_regex")?;
        let regexes = regexes
            .or_else(|| self.air_mode.then(|| vec!["_test.go".to_owned()]))
            .unwrap_or_default();
        let include_files = below_root(include_files);
        let include = self.globs("watch.include", self.strings("watch.include")?)?;
        for place in include.fixed_parts().map(|part| root.join(part)) {
            if place.is_dir() && !roots.iter().any(|root| place.starts_with(root)) {
                roots.push(place);
            }
        }
        let named = include_files.iter().chain(plan.iter().flat_map(|plan| &plan.files));
        let always = named.filter(|file| !roots.iter().any(|root| file.starts_with(root)));
        let always = always.cloned().collect();
        Ok(Watch {
            base: root.to_owned(),
            always,
            never,
            exclude_dirs,
            include_dirs,
            include_files,
            extensions: match extensions {
                Some(list) if !any => Extensions::Only(
                    list.iter().map(|one| one.trim().trim_start_matches('.').into()).collect(),
                ),
                _ => Extensions::Any,
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
            include,
            roots,
            exclude: self.globs("watch.exclude", Some(exclude))?,
            gitignore: self.boolean("watch.gitignore")?.unwrap_or(!self.air_mode),
            debounce: self.milliseconds("watch.debounce", DEBOUNCE)?,
            max_wait: self.milliseconds("watch.max_wait", MAX_WAIT)?,
        })
    }

    /// The file that the build makes and the app runs. A script that is there already is a
    /// source.
    fn artifact(&self, program: &Program, builds: bool) -> Option<PathBuf> {
        let first = match program {
            Program::Command(Command::Argv(argv)) => PathBuf::from(&argv[0]),
            Program::Command(Command::Shell(text, _)) => {
                shlex::split(text)?.into_iter().find(|word| word.contains('/'))?.into()
            }
            Program::None | Program::Built(_) => return None,
        };
        if !builds || first.components().count() < 2 {
            return None;
        }
        let path = absolute(&self.options.directory, &first);
        let mut start = [0; 2];
        let is_script = std::fs::File::open(&path)
            .and_then(|mut file| file.read_exact(&mut start))
            .is_ok_and(|()| start == *b"#!");
        (!is_script).then_some(path)
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
        let found = self.strings(key)?;
        let misplaced = if self.air_mode { self.strings(misplaced)? } else { None };
        Ok(found.or(misplaced))
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
pub(super) struct ProgramKeys {
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) full_bin: Option<String>,
    pub(super) bin: Option<String>,
    pub(super) args: Vec<String>,
}

fn non_empty(text: String) -> Option<String> {
    (!text.trim().is_empty()).then_some(text)
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
