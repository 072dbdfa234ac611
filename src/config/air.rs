//! air's own ways: what it takes for granted, and its quirks, all in one place.
//!
//! Source: air v1.67 as it behaves on Linux.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::resolve::ProgramKeys;
use super::{Command, absolute};

/// Characters by which a shell would make something else of a joined command line.
const SPECIAL: &[char] = &[
    '|', '&', ';', '<', '>', '(', ')', '$', '`', '\\', '"', '\'', '*', '?', '[', ']', '#', '~',
    '=', '%', '{', '}', '!', '\n',
];

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

/// air's integers are nanoseconds, but those under a millisecond are meant as milliseconds.
pub(super) fn integer_duration(number: u64) -> Duration {
    if number < 1_000_000 { Duration::from_millis(number) } else { Duration::from_nanos(number) }
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

/// What to run, and what the person should know about it.
pub(super) struct Resolved {
    pub(super) command: Command,
    pub(super) warning: Option<String>,
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
    let mut warning = None;
    let program = if let Some(text) = keys.full_bin {
        Text::Line(text)
    } else if let Some(mut words) = keys.entrypoint {
        let first = words.remove(0);
        words.append(&mut args);
        args = words;
        Text::Program(on_path_or_below(&first, root))
    } else {
        let bin = keys.bin.unwrap_or_else(|| default_bin(tmp_dir));
        let path = absolute(directory, Path::new(bin.trim()));
        if bin.trim().contains(' ') && !path.exists() {
            warning = Some(format!(
                "build.bin = {bin:?} is run as a command line; full_bin is the key for one"
            ));
            Text::Line(bin)
        } else {
            Text::Program(path)
        }
    };
    if let Some(split) = args.iter().find(|arg| arg.contains(' ') && !arg.contains(['"', '\''])) {
        warning = Some(format!(
            "the argument {split:?} reaches the program as several words, as it does with air; \
             put quotes inside it to keep it whole"
        ));
    }
    let joined = args.join(" ");
    let command = match program {
        Text::Line(text) if joined.is_empty() => Command::Shell(text, extra.to_vec()),
        Text::Line(text) => Command::Shell(format!("{text} {joined}"), extra.to_vec()),
        Text::Program(path) if joined.contains(SPECIAL) => {
            let path = path.display().to_string();
            let quoted = shlex::try_quote(&path).map_or(path.clone(), Into::into);
            Command::Shell(format!("{quoted} {joined}"), extra.to_vec())
        }
        Text::Program(path) => {
            let mut argv = vec![path.into_os_string()];
            argv.extend(joined.split_whitespace().map(OsString::from));
            argv.extend(extra.iter().cloned());
            Command::Argv(argv)
        }
    };
    Resolved { command, warning }
}

enum Text {
    Program(PathBuf),
    Line(String),
}

/// A name without a slash is looked up on the PATH, then below root.
fn on_path_or_below(program: &str, root: &Path) -> PathBuf {
    if !program.contains('/') {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|place| place.join(program));
        if let Some(found) = found.into_iter().find(|file| is_executable(file)) {
            return found;
        }
    }
    absolute(root, Path::new(program))
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok()
}
