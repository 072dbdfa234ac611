//! air's own ways: what it takes for granted, and its quirks, all in one place.
//!
//! Source: air v1.67 as it behaves on Linux.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Command, Fallback, absolute};
use crate::event::quoted;
use crate::project::guess::search;

/// Characters by which a shell would make something else of a joined command line.
const SPECIAL: &[char] = &[
    '|', '&', ';', '<', '>', '(', ')', '$', '`', '\\', '"', '\'', '*', '?', '[', '#', '~', '{',
    '}', '\n',
];

/// The tables that air itself has, of those that are hotrun's too.
pub(super) const TABLES: [&str; 6] = ["build", "proxy", "log", "color", "screen", "misc"];

/// The keys of air's own that do what this one does, or else the key itself.
pub(super) fn in_its_keys(key: &str) -> String {
    match key {
        "watch.include" => "build.include_ext, include_dir or include_file",
        "watch.exclude" => "build.exclude_dir, exclude_file or exclude_regex",
        other => other,
    }
    .to_owned()
}

/// air's `build.log`.
pub(super) const LOG: &str = "build-errors.log";
/// air's `build.exclude_regex`.
pub(super) const EXCLUDE_REGEX: [&str; 1] = ["_test.go"];

/// True for a file that air's users mean for air: `.air.toml`, `air.toml`,
/// `.air.debug.toml`, `.air.conf`, `backend.air.toml`.
pub(super) fn is_airs(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let bare = name.strip_prefix('.').unwrap_or(&name);
    bare == "air" || bare.starts_with("air.") || name.ends_with(".air.toml")
}

/// air's `build.cmd`, for its `tmp_dir`.
pub(super) fn default_cmd(tmp_dir: Option<&str>) -> String {
    format!("go build -o {} .", default_bin(tmp_dir))
}

fn default_bin(tmp_dir: Option<&str>) -> String {
    let tmp_dir = tmp_dir.unwrap_or("tmp").trim_end_matches('/');
    let is_bare = !tmp_dir.starts_with(['/', '.']);
    format!("{}{tmp_dir}/main", if is_bare { "./" } else { "" })
}

pub(super) fn default_extensions() -> Vec<String> {
    ["go", "tpl", "tmpl", "html"].map(String::from).into()
}

pub(super) fn default_exclude_dirs(tmp_dir: &Path, root: &Path) -> Vec<String> {
    let tmp_dir = tmp_dir.strip_prefix(root).unwrap_or(tmp_dir).display().to_string();
    let mut all: Vec<String> = ["assets", "vendor", "testdata"].map(String::from).into();
    all.push(tmp_dir);
    all
}

/// The ANSI code of a colour that air knows; of any other name, as in air, white.
pub(super) fn ansi_color(name: &str) -> &'static str {
    match name.trim() {
        "red" => "31",
        "green" => "32",
        "yellow" => "33",
        "blue" => "34",
        "magenta" => "35",
        "cyan" => "36",
        "raw" => "0",
        _ => "37",
    }
}

/// Items such as `.go` in a list of files are meant as extensions.
pub(super) fn split_extensions(
    mut files: Vec<String>,
    misplaced: Vec<String>,
) -> (Vec<String>, BTreeSet<String>) {
    let is_extension =
        |item: &str| item.starts_with('.') && !item[1..].contains(['.', '/']) && item.len() > 1;
    let (extensions, more): (Vec<String>, Vec<String>) =
        misplaced.into_iter().partition(|item| is_extension(item));
    files.extend(more);
    (files, extensions.into_iter().collect())
}

/// The keys that say what to run.
#[derive(Default)]
pub(super) struct ProgramKeys {
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) full_bin: Option<String>,
    pub(super) bin: Option<String>,
    pub(super) args: Vec<String>,
}

impl ProgramKeys {
    pub(super) fn says_something(&self) -> bool {
        self.entrypoint.is_some() || self.full_bin.is_some() || self.bin.is_some()
    }

    pub(super) fn mentions(&self, name: &str) -> bool {
        let entrypoint = self.entrypoint.iter().flatten();
        let mut texts = entrypoint.chain(&self.full_bin).chain(&self.bin).chain(&self.args);
        texts.any(|text| text.contains(name))
    }
}

/// What to run, and what the person should know about it.
pub(super) struct Resolved {
    pub(super) command: Command,
    /// See [`Run::fallback`](super::Run).
    pub(super) fallback: Option<Fallback>,
    pub(super) warnings: Vec<String>,
}

/// air's precedence: `full_bin`, then `entrypoint`, then `bin`. It joins program and
/// arguments with blanks and hands them to a shell; where a shell would change nothing they
/// are run directly.
pub(super) fn program(
    keys: ProgramKeys,
    root: &Path,
    directory: &Path,
    tmp_dir: Option<&str>,
    extra: &[OsString],
) -> Resolved {
    let mut args = keys.args;
    let mut warnings = Vec::new();
    // `air init` on Windows writes `tmp\\main.exe` beside a `cmd` that builds `./tmp/main.exe`.
    let mut with_slashes = |key: &str, base: &Path, written: String| {
        let slashed = written.replace('\\', "/");
        let is_path = !written.trim().contains([' ', '/']);
        if slashed == written || !is_path || absolute(base, Path::new(written.trim())).exists() {
            return written;
        }
        warnings.push(format!("{key} = {written:?} is run as {slashed}: paths use / here"));
        slashed
    };
    let entrypoint = keys.entrypoint.map(|mut words| {
        if keys.full_bin.is_none() {
            words[0] = with_slashes("build.entrypoint", root, std::mem::take(&mut words[0]));
        }
        words
    });
    let is_beaten = entrypoint.is_some() || keys.full_bin.is_some();
    let bin =
        keys.bin.map(|bin| if is_beaten { bin } else { with_slashes("build.bin", directory, bin) });
    let mut installed = None;
    let program = if let Some(text) = keys.full_bin {
        Text::Line(text)
    } else if let Some(mut words) = entrypoint {
        let first = words.remove(0);
        words.append(&mut args);
        args = words;
        Text::Program(on_path(&first).unwrap_or_else(|| absolute(root, Path::new(&first))))
    } else {
        let bin = bin.unwrap_or_else(|| default_bin(tmp_dir));
        let path = absolute(directory, Path::new(bin.trim()));
        if bin.trim().contains(' ') && !path.exists() {
            warnings.push(format!(
                "build.bin = {bin:?} is run as a command line; use full_bin for that"
            ));
            Text::Line(bin)
        } else {
            installed = on_path(bin.trim());
            Text::Program(path)
        }
    };
    if let Some(split) = args.iter().find(|arg| changes_in_a_shell(arg)) {
        warnings.push(format!(
            "a shell reads the argument {split:?}, as with air, so the program gets something else; \
             add quotes inside it, or use a hotrun.toml"
        ));
    }
    let joined = args.join(" ");
    let fallback = match (&program, installed) {
        (Text::Program(missing), Some(installed)) => Some(Fallback {
            missing: missing.clone(),
            command: command_line(Text::Program(installed), &joined, extra),
        }),
        _ => None,
    };
    Resolved { command: command_line(program, &joined, extra), fallback, warnings }
}

fn command_line(program: Text, joined: &str, extra: &[OsString]) -> Command {
    match program {
        Text::Line(text) if joined.is_empty() => Command::Shell(text, extra.to_vec()),
        Text::Line(text) => Command::Shell(format!("{text} {joined}"), extra.to_vec()),
        Text::Program(path) if joined.contains(SPECIAL) => {
            let program = quoted(&path.display().to_string());
            Command::Shell(format!("{program} {joined}"), extra.to_vec())
        }
        Text::Program(path) => {
            let mut argv = vec![path.into_os_string()];
            argv.extend(joined.split_whitespace().map(OsString::from));
            argv.extend(extra.iter().cloned());
            Command::Argv(argv)
        }
    }
}

/// True for an argument that has a blank or a special character outside of quotes.
/// Variables do not count: users write `$PORT` on purpose.
fn changes_in_a_shell(arg: &str) -> bool {
    let mut quote = None;
    let mut chars = arg.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) => quote = (open != c).then_some(open),
            (None, '"' | '\'') => quote = Some(c),
            (None, '\\') => {
                chars.next();
            }
            (None, '$') if chars.peek() == Some(&'{') => {
                chars.by_ref().find(|c| *c == '}');
            }
            (None, ' ' | '\t' | ';' | '&' | '|' | '<' | '>' | '(' | ')' | '`' | '*' | '?') => {
                return true;
            }
            (None, _) => {}
        }
    }
    quote.is_some()
}

enum Text {
    Program(PathBuf),
    Line(String),
}

/// Where a name without a slash is found on the PATH.
fn on_path(program: &str) -> Option<PathBuf> {
    (!program.contains('/')).then(|| search::on_path(program)).flatten()
}
