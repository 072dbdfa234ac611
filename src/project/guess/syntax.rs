//! Syntax checks of languages without a build. Without them, the new program would find the error
//! after the working one has been stopped.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::command::bare_name;
use super::search;
use crate::event::quoted;

/// Compiles each file in memory, and prints errors as Python itself does.
const PYTHON: &str = "\
import sys, traceback
mask = 0
for number, name in enumerate(sys.argv[1:]):
    try:
        with open(name, 'rb') as file:
            compile(file.read(), name, 'exec', dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        mask |= 1 << number
        traceback.print_exception(type(error), error, None)
    except (OSError, RecursionError, MemoryError):
        pass
sys.exit(64 + mask if mask else 0)
";

/// Extensions of TypeScript and JavaScript.
const SCRIPTS: [&str; 8] = ["ts", "tsx", "mts", "cts", "js", "mjs", "cjs", "jsx"];

/// Maximum number of files that one command checks.
pub const MAX_FILES: usize = 5;

/// A command that checks the syntax of files, which are its last arguments. It exits with 64 and a
/// bit for each file that has errors, in their order; any other code says nothing about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The command.
    pub argv: Vec<OsString>,
    /// Extensions of the files that it understands, without the dot.
    pub extensions: &'static [&'static str],
    /// How users call it.
    pub label: String,
}

impl Check {
    /// Whether this file can be checked: its language is known, and it exists.
    pub fn understands(&self, path: &Path) -> bool {
        let end = path.extension().and_then(OsStr::to_str);
        end.is_some_and(|end| self.extensions.contains(&end)) && path.is_file()
    }

    /// Which of these files an exit code says to have errors.
    pub fn failed(files: &[PathBuf], code: i32) -> impl Iterator<Item = &PathBuf> {
        let mask = if (65..=95).contains(&code) { code - 64 } else { 0 };
        files
            .iter()
            .enumerate()
            .filter(move |(bit, _)| mask & (1 << bit) != 0)
            .map(|(_, file)| file)
    }

    /// The command for these files.
    pub fn command(&self, files: &[PathBuf], directory: &Path) -> Vec<OsString> {
        // Shorter names read better in errors. (One that begins with a dash is no option.)
        let files = files.iter().map(|path| match path.strip_prefix(directory) {
            Ok(below) => Path::new(".").join(below).into_os_string(),
            Err(_) => path.clone().into_os_string(),
        });
        self.argv.iter().cloned().chain(files).collect()
    }
}

/// The check for the sources of this program, if its language has one that takes no longer than a
/// start and agrees with the program about what is valid. (`perl -c` runs code of the file, its
/// `BEGIN` blocks and imports; `javac` takes a second.)
pub fn check(directory: &Path, argv: &[OsString]) -> Option<Check> {
    let words: Vec<String> = argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let name = Path::new(words.first()?).file_name()?.to_str()?;
    let bare = bare_name(argv.first()?);
    let bare = bare.as_str();
    let each = |command: String, extensions, label: String| {
        // In parallel, as each check takes as long as an interpreter needs to start. The codes of a
        // missing tool (126, 127) and of signals (129 and more) say nothing about the file.
        let script = format!(
            "all=; bit=1; mask=0; for file; do {command} & all=\"$all $!\"; done; for one in $all; do \
             wait $one; case $? in 0|126|127|129|13[0-9]|14[0-9]|15[0-9]) ;; \
             *) mask=$((mask+bit));; esac; bit=$((bit*2)); done; [ $mask = 0 ] || exit $((64+mask))"
        );
        let argv = ["/bin/sh", "-c", script.as_str(), "sh"].map(OsString::from).into();
        Some(Check { argv, extensions, label })
    };
    let tool = quoted(words.first()?);
    match bare {
        // A loader may accept more than JavaScript.
        "node" | "nodejs" if !has_loader(&words) => each(
            format!("NODE_OPTIONS= {tool} --check \"$file\""),
            &["js", "mjs", "cjs"],
            format!("{name} --check"),
        ),
        "tsx" => {
            let esbuild = directory.join("node_modules/.bin/esbuild");
            let esbuild = esbuild.is_file().then(|| quoted(&esbuild.to_string_lossy()))?;
            each(
                format!("{esbuild} --log-level=error \"$file\" > /dev/null"),
                &SCRIPTS,
                "esbuild".to_owned(),
            )
        }
        "bun" => each(
            format!("{tool} build --no-bundle --no-macros --target=bun \"$file\" > /dev/null"),
            &SCRIPTS,
            "bun build --no-bundle".to_owned(),
        ),
        // `deno check` looks at types, which takes a second; the formatter reads files of any style.
        "deno" => each(
            format!(
                "{tool} fmt --no-config --ext \"${{file##*.}}\" - < \"$file\" > /dev/null || \
                 {{ code=$?; echo \"in $file\" >&2; exit $code; }}"
            ),
            &SCRIPTS,
            "deno fmt".to_owned(),
        ),
        "ruby" | "bundle" | "rackup" | "puma" | "rails" => {
            let ruby = if bare == "ruby" { tool } else { "ruby".to_owned() };
            each(format!("{ruby} -c \"$file\" > /dev/null"), &["rb", "ru"], "ruby -c".to_owned())
        }
        "php" if !words.iter().any(|word| word == "-S") => each(
            format!("{tool} -d display_errors=stderr -d log_errors=0 -l \"$file\" > /dev/null"),
            &["php"],
            "php -l".to_owned(),
        ),
        "lua" => {
            let luac = format!("luac{}", &name["lua".len()..]);
            found(directory, &luac)?;
            each(format!("{luac} -p \"$file\""), &["lua"], format!("{luac} -p"))
        }
        _ => {
            let python = python(directory, &words, bare)?;
            // Isolated: a traceback.py of the project is not imported.
            let argv = [python.as_str(), "-I", "-S", "-W", "ignore", "-c", PYTHON];
            let label = format!("{python}: compile");
            Some(Check { argv: argv.map(OsString::from).into(), extensions: &["py"], label })
        }
    }
}

/// The program of this name that is started in this directory.
fn found(directory: &Path, name: &str) -> Option<PathBuf> {
    search::found_in(&search::path(directory), OsStr::new(name))
}

fn has_loader(words: &[String]) -> bool {
    let options = ["-r", "--require", "--import", "--loader", "--experimental-loader"];
    let variable = std::env::var("NODE_OPTIONS").unwrap_or_default();
    let mut words = words.iter().map(String::as_str).chain(variable.split(' '));
    words.any(|word| options.iter().any(|one| word.split('=').next() == Some(one)))
}

/// The interpreter that runs this program.
fn python(directory: &Path, words: &[String], bare: &str) -> Option<String> {
    let first = Path::new(words.first()?);
    let of_environment = |bin: &Path| {
        let python = bin.join("python");
        python.is_file().then(|| python.to_string_lossy().into_owned())
    };
    match bare {
        // Python 2 cannot be isolated.
        "python" | "pypy" if !first.ends_with("python2") => words.first().cloned(),
        "uv" | "poetry" | "pdm" | "pipenv" => of_environment(&directory.join(".venv/bin")),
        "flask" | "uvicorn" | "gunicorn" | "hypercorn" | "granian" | "fastapi" | "celery" => {
            let beside = first.parent().filter(|bin| !bin.as_os_str().is_empty());
            beside.map_or_else(
                || found(directory, "python3").map(|_| "python3".to_owned()),
                of_environment,
            )
        }
        _ => None,
    }
}
