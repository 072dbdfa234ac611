//! From a [`Document`] to a [`Watch`]: what to watch, and which rules there are.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use globset::{GlobBuilder, GlobSetBuilder};
use regex::RegexSet;

use super::document::Document;
use super::duration::Bare;
use super::resolve::{Resolver, signal_named};
use super::{
    Action, Backend, Command, Extensions, Globs, KEPT, Program, Rule, Watch, absolute, air,
    placeholder,
};
use crate::error::{Error, Result};
use crate::project::guess::command;
use crate::project::{self, Kind};

const DEBOUNCE: Duration = Duration::from_millis(10);
const MAX_WAIT: Duration = Duration::from_secs(2);
const MIN_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum interval: a change of the configuration is found no sooner, either.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// Keys of a `[watch]` table by which people mean keys of `[build]`, and those.
pub const MISPLACED: [(&str, &str); 6] = [
    ("watch.include_ext", "build.include_ext"),
    ("watch.exclude_dir", "build.exclude_dir"),
    ("watch.include_dir", "build.include_dir"),
    ("watch.include_file", "build.include_file"),
    ("watch.exclude_file", "build.exclude_file"),
    ("watch.exclude_regex", "build.exclude_regex"),
];

/// Where all files matter, these do not: programs write them while they run, and would
/// restart themselves for ever.
const NO_SOURCES: [&str; 6] =
    ["**/*.log", "**/*.pid", "**/*.db", "**/*.db-*", "**/*.sqlite*", "**/*.pyc"];

impl Resolver<'_> {
    pub(super) fn watch(
        &mut self,
        root: &Path,
        tmp_dir: &Path,
        kind: &Kind,
        plan: Option<&project::Plan>,
        (program, builds): (&Program, bool),
    ) -> Result<Watch> {
        let testdata = self.string("testdata_dir")?;
        let mut never = BTreeSet::new();
        self.never_watch("tmp_dir", tmp_dir, root, &mut never);
        let artifact = self.artifact(program, builds);
        never.extend(artifact.clone());
        never.insert(tmp_dir.join(KEPT));
        if self.air_mode || testdata.is_some() {
            if self.air_mode {
                self.document.assume("testdata_dir", "testdata");
            }
            let testdata = testdata.as_deref().unwrap_or("testdata");
            let testdata = absolute(root, Path::new(testdata));
            self.never_watch("testdata_dir", &testdata, root, &mut never);
        }
        let (extensions, include_files) = self.included(kind)?;
        let mut exclude_dirs = self.exclude_dirs(root, tmp_dir)?;
        exclude_dirs.extend(plan.iter().flat_map(|plan| &plan.made).cloned());
        let include_dirs = self.include_dirs(root)?;
        let rules = self.rules(root)?;
        let mut roots = self.roots(root, plan, &include_dirs);
        let mut exclude = self.strings("watch.exclude")?.unwrap_or_default();
        let without = plan.iter().flat_map(|plan| &plan.without).cloned().collect();
        let without_globs: Vec<String> =
            plan.iter().flat_map(|plan| &plan.exclude).cloned().collect();
        // Lists that are written are kept to.
        let has_lists =
            ["build.include_ext", "build.include_dir"].iter().any(|key| self.document.has(key));
        let sources_decide = plan.is_some_and(|plan| !plan.asks.is_empty()) && !has_lists;
        if extensions == Extensions::Any && !self.air_mode {
            exclude.extend(NO_SOURCES.map(String::from));
        }
        let include_files = below(root, &include_files);
        let include = self.globs("watch.include", self.strings("watch.include")?)?;
        let leads_out =
            |pattern: &&String| pattern.starts_with(['/', '~']) || pattern.starts_with("../");
        for pattern in include.patterns.iter().filter(leads_out) {
            self.warnings.push(format!(
                "watch.include: {pattern:?} matches nothing: globs are relative to root; list \
                 paths outside of it in build.include_dir or build.include_file"
            ));
        }
        let by_rules = rules.iter().flat_map(|rule| &rule.include_dirs).cloned();
        by_rules.clone().try_for_each(|path| self.refuse_too_much(&path))?;
        let named = include.fixed_parts().map(|part| root.join(part)).chain(by_rules);
        for place in named {
            if place.is_dir() && !roots.iter().any(|root| place.starts_with(root)) {
                roots.push(place);
            }
        }
        let named = include_files.iter().chain(rules.iter().flat_map(|rule| &rule.include_files));
        let outside = named.filter(|file| !roots.iter().any(|root| file.starts_with(root)));
        let mut always: BTreeSet<PathBuf> = outside.cloned().collect();
        let exclude = self.globs("watch.exclude", Some(exclude))?;
        let exclude_files =
            self.globs("build.exclude_file", self.list("build.exclude_file")?)?.files;
        let exclude_regex = self.exclude_regex(root)?;
        let is_excluded = |file: &PathBuf| {
            let relative = file.strip_prefix(root).unwrap_or(file);
            exclude.files.is_match(relative)
                || exclude_files.is_match(relative)
                || exclude_regex.is_match(&file.to_string_lossy())
                || exclude_dirs.iter().any(|place| file.starts_with(place))
        };
        // Also in a root: by its name alone none of these would matter.
        let of_plan = plan.iter().flat_map(|plan| &plan.files);
        always.extend(of_plan.filter(|file| !is_excluded(file)).cloned());
        let watch = Watch {
            base: root.to_owned(),
            always,
            never,
            artifact,
            exclude_dirs,
            without,
            inputs: BTreeSet::new(),
            sources: None,
            sources_decide,
            nested: plan.and_then(|plan| plan.nested.clone()),
            skips_caches: !self.air_mode,
            include_dirs,
            include_files,
            extensions,
            revives: self.revives()?,
            exclude_files,
            exclude_regex,
            include,
            roots,
            exclude,
            without_globs: self.globs("watch.exclude", Some(without_globs))?,
            rules,
            gitignore: self.boolean("watch.gitignore", !self.air_mode)?,
            follow_symlink: self.boolean("build.follow_symlink", false)?,
            exclude_unchanged: self.boolean("build.exclude_unchanged", false)?,
            backend: self.backend()?,
            poll_interval: self.poll_interval()?,
            debounce: self.duration("watch.debounce", DEBOUNCE)?,
            max_wait: self.duration("watch.max_wait", MAX_WAIT)?,
        };
        Ok(watch)
    }

    fn never_watch(
        &mut self,
        key: &str,
        directory: &Path,
        root: &Path,
        never: &mut BTreeSet<PathBuf>,
    ) {
        if root.starts_with(directory) {
            self.warnings.push(format!("{key} contains the project itself, so it is watched"));
        } else {
            never.insert(directory.to_owned());
        }
    }

    /// `watch.backend`, or what air's `build.poll` says of it.
    fn backend(&self) -> Result<Backend> {
        let key = "watch.backend";
        let polls = self.boolean("build.poll", false)?;
        let written = self.string(key)?;
        self.document.assume(key, if polls { "poll" } else { "auto" });
        match written.as_deref() {
            None if polls => Ok(Backend::Poll),
            None | Some("auto") => Ok(Backend::Auto),
            Some("native") => Ok(Backend::Native),
            Some("poll") => Ok(Backend::Poll),
            Some(_) => {
                let expected = "\"auto\", \"native\" or \"poll\"";
                Err(self.document.wrong(key, expected))
            }
        }
    }

    /// 0 is not set, as in air; shorter and longer ones are the shortest and the longest.
    fn poll_interval(&self) -> Result<Option<Duration>> {
        let interval = self.duration("build.poll_interval", Duration::ZERO)?;
        let is_set = !interval.is_zero();
        Ok(is_set.then(|| interval.clamp(MIN_INTERVAL, MAX_INTERVAL)))
    }

    /// Extensions that matter, and files that matter whatever theirs.
    fn included(&self, kind: &Kind) -> Result<(Extensions, Vec<String>)> {
        let mut extensions = self.list("build.include_ext")?;
        let misnamed = self.strings("watch.include_files")?.unwrap_or_default();
        let (files, more) =
            air::split_extensions(self.list("build.include_file")?.unwrap_or_default(), misnamed);
        if !more.is_empty() {
            extensions.get_or_insert_default().extend(more);
        }
        let default = match (self.air_mode, kind, &self.options.command) {
            (true, ..) => Some(air::default_extensions()),
            (false, Kind::Unknown, Some(command)) => {
                command::extensions(&self.options.directory, &command.words())
            }
            (false, kind, _) => kind.extensions(),
        };
        let shown = default.clone().unwrap_or_else(|| vec!["*".to_owned()]);
        self.document.assume("build.include_ext", shown);
        Ok((Extensions::from_list(extensions.or(default)), files))
    }

    /// Extensions of files whose save starts a program that has exited.
    fn revives(&self) -> Result<Extensions> {
        let key = "run.revive_ext";
        let written = self.strings(key)?;
        let default = || match &self.options.command {
            Some(command) if !self.air_mode => {
                command::served_extensions(&self.options.directory, &command.words())
            }
            _ => Vec::new(),
        };
        let list = written.unwrap_or_else(|| {
            let default = default();
            self.document.assume(key, default.clone());
            default
        });
        Ok(Extensions::from_list(Some(list)))
    }

    fn exclude_dirs(&mut self, root: &Path, tmp_dir: &Path) -> Result<BTreeSet<PathBuf>> {
        let written = self.list("build.exclude_dir")?.or(self.strings("watch.exclude_dirs")?);
        for entry in written.iter().flatten().filter(|entry| entry.contains('*')) {
            let glob = entry.trim_start_matches("./").trim_end_matches('/');
            self.warnings.push(format!(
                "build.exclude_dir takes no globs, so {entry:?} matches nothing; use \
                 [watch] exclude = [\"{glob}/**\"]"
            ));
        }
        let default = self.air_mode.then(|| air::default_exclude_dirs(tmp_dir, root));
        self.document.assume("build.exclude_dir", default.clone().unwrap_or_default());
        Ok(below(root, &written.or(default).unwrap_or_default()))
    }

    fn exclude_regex(&mut self, root: &Path) -> Result<RegexSet> {
        let key = "build.exclude_regex";
        let written = self.list(key)?;
        let default: Vec<String> =
            if self.air_mode { air::EXCLUDE_REGEX.map(String::from).into() } else { Vec::new() };
        self.document.assume(key, default.clone());
        let mut expressions = written.unwrap_or(default);
        expressions.retain(|one| !one.is_empty());
        let set = regexes(&expressions).map_err(|why| self.wrong_regex(key, &expressions, why))?;
        // The expressions are tried on the absolute path, as in air.
        let above = format!("{}/", root.display());
        for number in set.matches(&above) {
            self.warnings.push(format!(
                "build.exclude_regex: {:?} matches the project's own path, {above}: no save \
                 will be noticed",
                expressions[number]
            ));
        }
        Ok(set)
    }

    /// Names the item that is no regular expression, and for a glob, the one that was meant.
    fn wrong_regex(&self, key: &str, expressions: &[String], why: String) -> Error {
        let is_wrong = |one: &&String| regexes(std::slice::from_ref(*one)).is_err();
        let Some(wrong) = expressions.iter().find(is_wrong) else {
            return self.document.wrong(key, why);
        };
        let error = self.document.wrong_item(key, wrong, why);
        match regex_of_glob(wrong) {
            Some(meant) => {
                error.remedy(format!("this is a glob; as a regular expression: '{meant}'"))
            }
            None => error,
        }
    }

    /// The file that the build makes and the app runs. A script that is there already is a
    /// source.
    fn artifact(&self, program: &Program, builds: bool) -> Option<PathBuf> {
        let first = match program {
            Program::Command(Command::Argv(argv)) => PathBuf::from(&argv[0]),
            Program::Command(Command::Shell(text, _)) => {
                let is_assignment = |word: &String| word.contains('=');
                shlex::split(text)?.into_iter().find(|word| !is_assignment(word))?.into()
            }
            Program::None | Program::Built(_) => return None,
        };
        if !builds || first.components().count() < 2 {
            return None;
        }
        let path = absolute(&self.options.directory, &first);
        let mut start = [0; 2];
        let is_source = match path.metadata() {
            Err(_) => false,
            Ok(meta) if meta.is_dir() || meta.permissions().mode() & 0o111 == 0 => true,
            Ok(_) => std::fs::File::open(&path)
                .and_then(|mut file| file.read_exact(&mut start))
                .is_ok_and(|()| start == *b"#!"),
        };
        (!is_source).then_some(path)
    }

    fn include_dirs(&mut self, root: &Path) -> Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        for written in self.list("build.include_dir")?.unwrap_or_default() {
            let path = absolute(root, Path::new(written.trim()));
            if !path.is_dir() {
                self.warnings.push(format!(
                    "build.include_dir: no such directory: {written}; it is watched as soon as it \
                     exists"
                ));
            }
            self.refuse_too_much(&path)?;
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
        // One that is not there yet is watched as soon as it is.
        for path in include_dirs {
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
                    self.document.wrong_item(key, pattern, format!("a glob: {}", error.kind()))
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

    /// A list of air's, also from a `[watch]` table, where people put it by mistake.
    fn list(&self, key: &'static str) -> Result<Option<Vec<String>>> {
        let found = self.strings(key)?;
        let misplaced = MISPLACED.iter().find(|(_, right)| *right == key);
        let misplaced = match misplaced {
            Some((wrong, _)) if self.air_mode => self.strings(wrong)?,
            _ => None,
        };
        Ok(found.or(misplaced))
    }

    // Rules

    fn rules(&mut self, root: &Path) -> Result<Vec<Rule>> {
        let tables = self.document.tables("build.rules")?;
        let mut rules = Vec::new();
        for (number, table) in (1..).zip(tables) {
            rules.push(self.rule(number, table, root)?);
        }
        Ok(rules)
    }

    fn rule(&mut self, number: usize, table: &Document, root: &Path) -> Result<Rule> {
        let name = table.text("name")?.filter(|name| !name.trim().is_empty());
        let called =
            name.as_ref().map_or_else(|| format!("rule {number}"), |name| format!("rule {name}"));
        let name = name.unwrap_or_else(|| format!("rule-{number}"));
        let incomplete = |why: &str| table.incomplete(format!("{called} {why}"));
        let cmd = table.text("cmd")?.filter(|cmd| !cmd.trim().is_empty());
        let signal = table.text("signal")?;
        let action = table.text("action")?.unwrap_or_else(|| "run".to_owned());
        let has_cmd = cmd.is_some();
        let action = match (action.as_str(), cmd) {
            ("run", Some(cmd)) => {
                let for_file = placeholder::replace(&cmd)
                    .map_err(|(why, remedy)| table.refused("cmd", why).remedy(remedy))?;
                Action::Run { cmd, for_file }
            }
            ("run", None) => {
                return Err(incomplete("has no cmd").remedy(
                    "add one, for example cmd = \"templ generate\", or set another action",
                ));
            }
            ("restart", _) => Action::Restart,
            ("reload", _) => Action::Reload,
            ("css", _) => Action::Css,
            ("signal", _) => {
                let expected = "a signal's name, for example \"USR1\"";
                let name = signal.as_deref().ok_or_else(|| {
                    incomplete("has no signal").remedy(format!("add signal = {expected}"))
                })?;
                Action::Signal(signal_named(name).ok_or_else(|| table.wrong("signal", expected))?)
            }
            _ => {
                let expected = "\"run\", \"restart\", \"signal\", \"reload\" or \"css\"";
                return Err(table.wrong("action", expected));
            }
        };
        if has_cmd && !matches!(action, Action::Run { .. }) {
            return Err(table.refused("cmd", "only the action \"run\" takes a cmd"));
        }
        if signal.is_some() && !matches!(action, Action::Signal(_)) {
            return Err(table.refused("signal", "only the action \"signal\" takes a signal"));
        }
        let bare = if self.air_mode { Bare::Milliseconds } else { Bare::NeedsUnit };
        let delay = table.duration("delay", bare)?;
        if delay.is_some_and(|delay| !delay.is_zero()) {
            self.warnings.push(format!(
                "{}: delay of {called} has no effect: rapid saves are merged into one",
                table.begins_at()
            ));
        }
        let directories = table.strings("include_dir")?.unwrap_or_default();
        let extensions = table.strings("include_ext")?;
        let files = table.strings("include_file")?.unwrap_or_default();
        if directories.is_empty()
            && files.is_empty()
            && extensions.as_ref().is_none_or(Vec::is_empty)
        {
            return Err(incomplete("matches no files")
                .remedy("give it include_dir, include_ext or include_file"));
        }
        let expressions = table.strings("exclude_regex")?.unwrap_or_default();
        Ok(Rule {
            name,
            action,
            include_dirs: below(root, &directories),
            extensions: extensions
                .filter(|list| !list.is_empty())
                .map(|list| Extensions::from_list(Some(list))),
            include_files: below(root, &files),
            exclude_regex: regexes(&expressions)
                .map_err(|why| table.wrong("exclude_regex", why))?,
        })
    }
}

/// Paths as they are written, below the root unless they are absolute.
fn below(root: &Path, paths: &[String]) -> BTreeSet<PathBuf> {
    let paths = paths.iter().map(|path| path.trim()).filter(|path| !path.is_empty());
    paths.map(|path| absolute(root, Path::new(path))).collect()
}

/// The regular expression for the paths that a glob matches, such as `_templ\.go$` for `*_templ.go`.
fn regex_of_glob(glob: &str) -> Option<String> {
    if !glob.contains(['*', '?'])
        || glob.contains(['(', ')', '|', '\\', '^', '$', '+', '\'', '{', '}', '[', ']'])
    {
        return None;
    }
    let many = "\u{0}";
    let escaped = regex::escape(&glob.replace("**/", many).replace("**", many));
    let regex = escaped.replace(&format!("{many}\\*"), ".*").replace(many, ".*");
    let regex = regex.replace("\\*", "[^/]*").replace("\\?", "[^/]");
    let bare = regex.strip_prefix("[^/]*").or(regex.strip_prefix(".*"));
    let regex = match bare {
        Some(rest) => format!("{rest}$"),
        None => format!("(^|/){regex}$"),
    };
    RegexSet::new([&regex]).is_ok().then_some(regex)
}

/// The expressions, or what is expected instead of them.
fn regexes(expressions: &[String]) -> std::result::Result<RegexSet, String> {
    RegexSet::new(expressions).map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("regular expressions (RE2 syntax): {why}")
    })
}
