//! Guesses what an ordinary project is made of, and how it is started, from the files that its own
//! tools read. Used where there is no configuration and no Cargo or Go project.
//!
//! A guess is a list of configuration keys, so that `hotrun` alone and the file that `hotrun init`
//! writes cannot differ. Nothing is executed, and only files of the project's top level (and a few
//! well-known places below it) are read.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

use toml::Value;

use crate::event::quoted;
use search::found_in;

pub mod syntax;
pub mod command;
mod compiled;
pub mod testing;
mod node;
mod python;
mod scripting;
pub mod search;
mod tasks;

/// Maximum size of a file that is read for a guess, in bytes.
const MAX_SIZE: u64 = 1 << 20;
/// Maximum number of files in a directory that are looked through for an entry point.
const MAX_FILES: usize = 200;

/// What a project is taken for, as keys of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guess {
    /// The kind of project, for example `Flask`.
    pub kind: String,
    /// The file that says so, and the entry in it.
    pub evidence: String,
    /// Keys of a configuration.
    pub values: Vec<(String, Value)>,
    /// The address of a socket that hotrun is to open for the program.
    pub listen: Option<String>,
    /// What the user should know or do first.
    pub notes: Vec<String>,
}

/// What looking at a project has led to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It can be run.
    Found(Box<Guess>),
    /// It has several programs, and says nowhere which is meant.
    Several(Vec<Guess>),
    /// It is known what this is, and not how to run it.
    Unable {
        /// The kind of project and what is missing.
        reason: String,
        /// What to do, as an imperative.
        remedy: String,
    },
    /// It is known how to run it once its dependencies are installed.
    Uninstalled {
        /// The kind of project.
        reason: String,
        /// The command that installs them.
        remedy: String,
    },
    /// No file here says anything.
    Unknown,
}

impl Guess {
    fn new(kind: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self { kind: kind.into(), evidence: evidence.into(), ..Self::default() }
    }

    fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.values.push((key.to_owned(), value.into()));
        self
    }

    fn builds(self, line: impl Into<String>) -> Self {
        self.set("build.cmd", line.into())
    }

    /// Sets the program: without a shell where a shell would read the line in the same way.
    fn runs(self, line: impl Into<String>) -> Self {
        let line = line.into();
        let key = if is_plain(&line) { "build.entrypoint" } else { "build.full_bin" };
        self.set(key, line)
    }

    fn set_list(self, key: &str, list: &[&str]) -> Self {
        let list: Vec<String> = list.iter().copied().map(String::from).collect();
        self.set(key, list)
    }

    fn watches(self, extensions: &[&str]) -> Self {
        self.set_list("build.include_ext", extensions)
    }

    fn excludes(self, directories: &[&str]) -> Self {
        if directories.is_empty() { self } else { self.set_list("build.exclude_dir", directories) }
    }

    /// The program reloads by itself: hotrun restarts it for its settings, and for a save of a source
    /// if it has exited.
    fn reloads_itself(self, settings: &[&str], sources: &[&str]) -> Self {
        let guess = self.watches(&[]).set_list("build.include_file", settings);
        guess.set_list("run.revive_ext", sources)
    }

    /// hotrun opens this port of the local host, and keeps it open while the program restarts.
    fn listens(mut self, port: u16) -> Self {
        self.listen = Some(format!("127.0.0.1:{port}"));
        self
    }

    fn variables(self, variables: &[(String, String)]) -> Self {
        let set = |guess: Self, (name, value): &(String, String)| {
            guess.set(&format!("env.{name}"), value.clone())
        };
        variables.iter().fold(self, set)
    }

    fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    fn found(self) -> Outcome {
        Outcome::Found(Box::new(self))
    }

    /// A value that is a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        let found = self.values.iter().find(|(name, _)| name == key);
        found.and_then(|(_, value)| value.as_str())
    }

    /// Whether there is a command, and one that a process can be given.
    fn can_be_run(&self) -> bool {
        let texts = || self.values.iter().filter_map(|(_, value)| value.as_str());
        !self.program().trim().is_empty() && !texts().any(|text| text.contains('\0'))
    }

    /// The command that starts the program.
    pub fn program(&self) -> &str {
        self.text("build.entrypoint").or(self.text("build.full_bin")).unwrap_or_default()
    }

    /// The file that says so, unless it is a source: when it changes, so may the guess.
    pub fn manifest(&self) -> Option<&str> {
        let file = self.evidence.split(',').next()?;
        let sources = [
            "py", "js", "mjs", "cjs", "ts", "tsx", "rb", "ru", "php", "lua", "pl", "psgi", "jl",
            "R", "sh", "java", "c", "cc", "cpp",
        ];
        let end = Path::new(file).extension().and_then(OsStr::to_str).unwrap_or_default();
        (!sources.contains(&end)).then_some(file)
    }

    /// The words behind `hotrun` that mean this guess.
    pub fn option(&self) -> String {
        let cmd = self.text("build.cmd").map(|cmd| format!("--build.cmd {} ", quoted(cmd)));
        let mut options = cmd.unwrap_or_default();
        if let Some(address) = &self.listen {
            let _ = write!(options, "--listen {address} ");
        }
        let variables = self.values.iter().filter(|(key, _)| key.starts_with("env."));
        for (key, value) in variables {
            let value = quoted(value.as_str().unwrap_or_default());
            let _ = write!(options, "--{key}={value} ");
        }
        match self.text("build.entrypoint") {
            Some(line) => format!("{options}-- {line}"),
            None => format!("{options}-x {}", quoted(self.program())),
        }
    }

    /// One line for users: what the project is taken for, and what is run.
    pub fn summary(&self) -> String {
        let mut text = format!("{} ({}): ", self.kind, self.evidence);
        if let Some(cmd) = self.text("build.cmd") {
            let _ = write!(text, "{cmd}, then ");
        }
        text + self.program()
    }
}

/// Looks for one kind of project in a directory.
type Look = fn(&Place<'_>) -> Outcome;

/// What to do about a build that hotrun does not understand.
const NAME_COMMANDS: &str = "name the commands in hotrun.toml: [build] cmd and entrypoint";

/// A directory, and what is asked about it.
struct Place<'a> {
    directory: &'a Path,
    /// The search path, as in `PATH`.
    path: &'a OsStr,
    /// The first file that could not be read, and why.
    unreadable: RefCell<Option<String>>,
}

impl<'a> Place<'a> {
    fn new(directory: &'a Path, path: &'a OsStr) -> Self {
        Self { directory, path, unreadable: RefCell::default() }
    }

    /// Whether a tool is installed.
    fn finds(&self, tool: impl AsRef<OsStr>) -> bool {
        found_in(self.path, tool.as_ref()).is_some()
    }

    fn has(&self, name: &str) -> bool {
        self.directory.join(name).is_file()
    }

    /// The first of these files that exists.
    fn first<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.has(name))
    }

    /// The text of a file; empty if there is none, or if it is no text.
    fn read(&self, name: &str) -> String {
        let path = self.directory.join(name);
        // A pipe would never end.
        if !path.is_file() {
            return String::new();
        }
        let mut bytes = Vec::new();
        let read =
            std::fs::File::open(path).and_then(|file| file.take(MAX_SIZE).read_to_end(&mut bytes));
        match read {
            Ok(_) if bytes.contains(&0) => String::new(),
            // A name in a comment may be in another encoding.
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                let mut unreadable = self.unreadable.borrow_mut();
                unreadable.get_or_insert_with(|| format!("{name} cannot be read: {error}"));
                String::new()
            }
        }
    }

    /// The names of the files here that end in this, sorted.
    fn ending_in(&self, end: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> =
            names.filter(|name| name.ends_with(end) && name.len() > end.len()).collect();
        names.sort();
        names.truncate(MAX_FILES);
        names
    }

    /// The directories in this one, by their paths from here, sorted.
    fn directories_in(&self, above: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.join(above)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names
            .filter(|name| !name.starts_with('.'))
            .map(|name| if above.is_empty() { name } else { format!("{above}/{name}") })
            .filter(|path| self.directory.join(path).is_dir())
            .collect();
        names.sort();
        names.truncate(MAX_FILES);
        names
    }

    /// The name of the directory itself.
    fn name(&self) -> String {
        let name = self.directory.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// Looks at a directory. The kind whose files are most specific comes first: a Rails or Django
/// application often has a `package.json` beside it, which only builds its styles.
pub fn guess(directory: &Path) -> Outcome {
    with_those_below(directory, guess_with(directory, &search::path(directory)))
}

/// Directories that hold projects of their own, as a rule.
const COLLECTIONS: [&str; 5] = ["", "apps", "services", "packages", "examples"];
/// Directories that hold no program that a user would run.
const NO_COLLECTIONS: [&str; 11] = [
    "test",
    "tests",
    "spec",
    "doc",
    "docs",
    "bench",
    "benches",
    "fixtures",
    "vendor",
    "scripts",
    "node_modules",
];
/// Maximum number of directories that are examined for a project, and of projects that are named.
const MAX_EXAMINED: usize = 60;
const MAX_NAMED: usize = 8;

/// Names the projects below, where the directory itself is none that can be run.
fn with_those_below(directory: &Path, outcome: Outcome) -> Outcome {
    let (reason, remedy) = match outcome {
        Outcome::Unable { reason, remedy } if !lacks_a_tool(&reason) => (reason, Some(remedy)),
        Outcome::Unknown => ("no project that hotrun knows, and no configuration".into(), None),
        Outcome::Found(_)
        | Outcome::Several(_)
        | Outcome::Unable { .. }
        | Outcome::Uninstalled { .. } => return outcome,
    };
    let path = search::path(directory);
    let place = Place::new(directory, &path);
    let names = COLLECTIONS.iter().flat_map(|above| place.directories_in(above));
    let is_project = |name: &String| {
        let last = name.rsplit('/').next().unwrap_or(name);
        if NO_COLLECTIONS.contains(&last) {
            return false;
        }
        let below = directory.join(name);
        let has_marker = |marker: &&str| below.join(marker).is_file();
        ["Cargo.toml", "go.mod"].iter().any(has_marker)
            || match guess_with(&below, &path) {
                Outcome::Found(_) | Outcome::Several(_) | Outcome::Uninstalled { .. } => true,
                Outcome::Unable { reason, .. } => lacks_a_tool(&reason),
                Outcome::Unknown => false,
            }
    };
    let below: Vec<String> = names.take(MAX_EXAMINED).filter(is_project).collect();
    if below.is_empty() {
        return match remedy {
            Some(remedy) => Outcome::Unable { reason, remedy },
            None => Outcome::Unknown,
        };
    }
    let commands = below.iter().take(MAX_NAMED).map(|name| format!("hotrun -C {}", quoted(name)));
    let mut lines = vec!["projects below can be run:".to_owned()];
    lines.extend(commands);
    if below.len() > MAX_NAMED {
        lines.push(format!("and {} more", below.len() - MAX_NAMED));
    }
    let remedy = remedy.into_iter().chain([lines.join("\n")]).collect::<Vec<_>>().join(";\n");
    Outcome::Unable { reason, remedy }
}

fn guess_with(directory: &Path, path: &OsStr) -> Outcome {
    let place = Place::new(directory, path);
    let kinds: [Look; 6] = [
        scripting::guess_application,
        python::guess,
        node::guess,
        compiled::guess,
        scripting::guess_script,
        tasks::guess,
    ];
    let mut stuck = None;
    for (number, kind) in kinds.iter().enumerate() {
        match kind(&place) {
            Outcome::Found(guess) if !guess.can_be_run() => {}
            Outcome::Found(guess) => return with_others(&place, &kinds[number + 1..], *guess),
            Outcome::Several(mut all) => {
                all.retain(Guess::can_be_run);
                return Outcome::Several(all);
            }
            // A task file may say how to start what its own tools do not.
            outcome @ Outcome::Unable { .. } => stuck = stuck.or(Some(outcome)),
            // Its program would fail.
            outcome @ Outcome::Uninstalled { .. } => return outcome,
            Outcome::Unknown => {}
        }
    }
    match place.unreadable.take() {
        Some(reason) => unable(reason, "make it readable, or name a command"),
        None => stuck.unwrap_or(Outcome::Unknown),
    }
}

/// Notes what else the project might be.
fn with_others(place: &Place<'_>, kinds: &[Look], guess: Guess) -> Outcome {
    let another = kinds.iter().find_map(|kind| match kind(place) {
        Outcome::Found(other) if other.kind != guess.kind => Some(other),
        _ => None,
    });
    match another {
        Some(other) => {
            let text = format!("also a {} project ({})", other.kind, other.evidence);
            let option = other.option();
            guess.note(format!("{text}; to run that instead: `hotrun {option}`")).found()
        }
        None => guess.found(),
    }
}

/// The first of these kinds that is known here.
fn first_known(place: &Place<'_>, kinds: &[Look]) -> Outcome {
    let mut all = kinds.iter().map(|kind| kind(place));
    all.find(|found| *found != Outcome::Unknown).unwrap_or(Outcome::Unknown)
}

fn unable(reason: impl Into<String>, remedy: impl Into<String>) -> Outcome {
    Outcome::Unable { reason: reason.into(), remedy: remedy.into() }
}

/// The outcome where the dependencies of a project are not installed.
fn uninstalled(kind: &str, evidence: &str, command: &str) -> Outcome {
    Outcome::Uninstalled {
        reason: format!(
            "this is a {kind} project ({evidence}) whose dependencies are not installed"
        ),
        remedy: format!("`{command}`"),
    }
}

/// Returns the only guess, all of several, or what `none` returns.
fn one_of(mut all: Vec<Guess>, none: impl FnOnce() -> Outcome) -> Outcome {
    match all.len() {
        0 => none(),
        1 => all.remove(0).found(),
        _ => Outcome::Several(all),
    }
}

/// The guess, if this tool is installed.
fn needing(
    place: &Place<'_>,
    tool: &str,
    kind: &str,
    evidence: &str,
    guess: impl FnOnce() -> Guess,
) -> Outcome {
    if place.finds(tool) { guess().found() } else { not_installed(kind, evidence, tool) }
}

/// The outcome where the tool that a project needs is not installed.
fn not_installed(kind: &str, evidence: &str, tool: &str) -> Outcome {
    let reason = format!("this is a {kind} project ({evidence}), and `{tool}`{NOT_INSTALLED}");
    unable(reason, how_to_install(tool))
}

/// The end of the reason where a tool is missing.
const NOT_INSTALLED: &str = " is not installed";

fn lacks_a_tool(reason: &str) -> bool {
    reason.ends_with(NOT_INSTALLED)
}

/// Why nothing is run where there are several programs, and the commands that run one each.
pub fn several(all: &[Guess]) -> (String, String) {
    let reason = format!("{} programs can be run here, and none is named", all.len());
    let commands: Vec<String> = all.iter().map(|one| format!("hotrun {}", one.option())).collect();
    (reason, commands.join("\n"))
}

fn how_to_install(tool: &str) -> String {
    let how = match tool {
        "npm" | "npx" | "node" => "https://nodejs.org",
        "pnpm" => "`npm install -g pnpm`, or https://pnpm.io/installation",
        "yarn" => "`npm install -g yarn`, or https://yarnpkg.com/getting-started/install",
        "bun" => "https://bun.sh",
        "deno" => "https://deno.com",
        "uv" => "`pip install uv`, or https://docs.astral.sh/uv",
        "poetry" => "`pip install poetry`, or https://python-poetry.org/docs",
        "pdm" => "`pip install pdm`, or https://pdm-project.org",
        "pipenv" => "`pip install pipenv`",
        "bundle" => "`gem install bundler`",
        "mvn" => "https://maven.apache.org/install.html",
        "gradle" => "https://gradle.org/install",
        "dotnet" => "https://dotnet.microsoft.com/download",
        "mix" | "elixir" => "https://elixir-lang.org/install.html",
        "zig" => "https://ziglang.org/download",
        other => {
            return format!("install `{other}` with the package manager of this system");
        }
    };
    format!("install it: {how}")
}

/// A command line of these words, with as few quotes as a shell needs. Empty if it cannot be written.
fn joined<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let is_safe = |word: &str| {
        let safe = |c: char| c.is_ascii_alphanumeric() || "-_./=:@+,".contains(c);
        !word.is_empty() && word.chars().all(safe)
    };
    let words = words.into_iter().enumerate().map(|(at, word)| {
        // (`A=1` before a command sets a variable.)
        let is_plain = is_safe(word) && (at > 0 || !word.contains('='));
        if is_plain { Ok(word.into()) } else { shlex::try_quote(word) }
    });
    let words: Result<Vec<Cow<'_, str>>, _> = words.collect();
    words.map(|words| words.join(" ")).unwrap_or_default()
}

/// True if a shell would pass these words on as they are.
fn is_plain(line: &str) -> bool {
    !line.contains(|c: char| "|&;<>()$`\\\"'*?[]#~%{}!\n".contains(c))
        && !line.split(' ').next().unwrap_or_default().contains('=')
}

#[cfg(test)]
mod tests;
