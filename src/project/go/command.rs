//! Finds `go build` and similar commands in the text of a shell command: the packages that they
//! build, and how.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::sources::FIELDS;
use crate::project::Question;

/// Flags of `go build`, `go run` and `go install` whose value may be the next word.
const WITH_VALUE: [&str; 21] = [
    "C",
    "o",
    "p",
    "asmflags",
    "buildmode",
    "compiler",
    "covermode",
    "coverpkg",
    "exec",
    "gccgoflags",
    "gcflags",
    "installsuffix",
    "ldflags",
    "mod",
    "modfile",
    "overlay",
    "pgo",
    "pkgdir",
    "tags",
    "toolexec",
    "vettool",
];
/// The flags that affect which files are built.
const DECIDING: [&str; 8] =
    ["tags", "mod", "modfile", "overlay", "race", "msan", "asan", "compiler"];

/// Returns the name of a flag, and its value if that is in the same word.
fn flag(word: &str) -> Option<(&str, Option<&str>)> {
    let bare = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    Some(match bare.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (bare, None),
    })
}

/// Whether this is a Go file instead of a package.
pub(super) fn is_go_file(word: &str) -> bool {
    Path::new(word).extension().is_some_and(|end| end == "go")
}

/// Whether these words contain the flag with this name.
pub(super) fn has_flag(words: &[String], name: &str) -> bool {
    words.iter().filter_map(|word| flag(word)).any(|(one, _)| one == name)
}

/// The arguments of `go build`, as `go list` needs them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Build {
    /// `-C`.
    directory: Option<String>,
    flags: Vec<String>,
    packages: Vec<String>,
}

impl Build {
    /// Parses the arguments. With `has_args`, words after the first package are for the program
    /// (`go run`).
    pub(super) fn of(words: &[String], has_args: bool) -> Self {
        let mut build = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some((name, value)) = flag(word) else {
                let is_listed_on = |first: &String| is_go_file(first) && is_go_file(word);
                if has_args && build.packages.first().is_some_and(|first| !is_listed_on(first)) {
                    break;
                }
                build.packages.push(word.clone());
                continue;
            };
            let value = match value {
                Some(value) => Some(value.to_owned()),
                None if WITH_VALUE.contains(&name) => words.next().cloned(),
                None => None,
            };
            if name == "C" {
                build.directory = value;
            } else if DECIDING.contains(&name) {
                build.flags.push(match value {
                    Some(value) => format!("-{name}={value}"),
                    None => format!("-{name}"),
                });
            }
        }
        if build.packages.is_empty() {
            build.packages.push(".".to_owned());
        }
        build
    }

    /// Returns the query for all files that these packages are built from. The command is run with
    /// these variables.
    pub(super) fn question(self, directory: &Path, variables: &[String]) -> Question {
        let mut argv: Vec<OsString> = Vec::new();
        if !variables.is_empty() {
            argv.push("env".into());
            argv.extend(variables.iter().map(OsString::from));
        }
        argv.extend(["go", "list", "-e", "-deps"].map(OsString::from));
        argv.push(format!("-json={FIELDS}").into());
        argv.extend(self.flags.iter().map(OsString::from));
        argv.push("--".into());
        argv.extend(self.packages.iter().map(OsString::from));
        let directory = match self.directory {
            Some(below) => directory.join(below),
            None => directory.to_owned(),
        };
        Question { argv, directory }
    }
}

/// Returns the queries for what a shell command builds by `go build`, `go run` or `go install`;
/// none if it does not use these.
pub fn questions(text: &str, directory: &Path) -> Vec<Question> {
    let mut here: PathBuf = directory.to_owned();
    let mut found = Vec::new();
    for command in commands(text) {
        let is_variable = |word: &&String| {
            word.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.chars().all(|one| one.is_alphanumeric() || one == '_')
            })
        };
        let variables: Vec<String> = command.iter().take_while(is_variable).cloned().collect();
        let words = &command[variables.len()..];
        match words {
            [cd, to] if cd == "cd" => here = here.join(to),
            [go, rest @ ..] if Path::new(go).file_name().is_some_and(|name| name == "go") => {
                // `go build -C dir` is valid, while `go -C dir build` is an error.
                let Some((what, rest)) = rest.split_first() else { continue };
                if !["build", "run", "install"].contains(&what.as_str()) {
                    continue;
                }
                let build = Build::of(rest, what == "run");
                // The results of shell expansions are unknown.
                let is_known = |word: &String| !word.contains(['$', '`']);
                if build.packages.iter().chain(&build.flags).chain(&variables).all(is_known) {
                    found.push(build.question(&here, &variables));
                }
            }
            _ => {}
        }
    }
    found
}

/// Splits shell text into simple commands, as words.
fn commands(text: &str) -> Vec<Vec<String>> {
    // Line ends and operators separate commands, unless quoted.
    let mut parts = vec![String::new()];
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let (Some(one), Some(part)) = (chars.next(), parts.last_mut()) {
        match (quote, one) {
            (None, '\\') if chars.peek() == Some(&'\n') => drop(chars.next()),
            (None | Some('"'), '\\') => {
                part.extend([Some(one), chars.next()].into_iter().flatten());
            }
            (None, '\'' | '"') => {
                quote = Some(one);
                part.push(one);
            }
            (Some(mark), one) if mark == one => {
                quote = None;
                part.push(one);
            }
            (None, ';' | '\n' | '&' | '|' | '(' | ')') => {
                // `2>&1` is a redirection.
                if one == '&' && part.ends_with('>') {
                    part.push(one);
                } else {
                    parts.push(String::new());
                }
            }
            (_, one) => part.push(one),
        }
    }
    let words = parts.iter().filter_map(|part| shlex::split(part));
    let words = words.map(|words| {
        let is_redirection =
            |word: &String| word.trim_start_matches(char::is_numeric).starts_with(['>', '<']);
        words.into_iter().take_while(|word| !is_redirection(word)).collect::<Vec<_>>()
    });
    words.filter(|words| !words.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Vec<String> {
        let shown = questions(text, Path::new("/p")).into_iter().map(|one| {
            let words: Vec<_> = one.argv.iter().map(|word| word.to_string_lossy()).collect();
            let text = words.join(" ").replace(&format!("-json={FIELDS} "), "");
            format!("{}: {}", one.directory.display(), text.replace("go list -e -deps ", ""))
        });
        shown.collect()
    }

    #[test]
    fn the_packages_of_a_build_are_found_in_its_command() {
        assert_eq!(asked("go build -o ./tmp/main ."), ["/p: -- ."]);
        assert_eq!(asked("go build -o tmp/main"), ["/p: -- ."]);
        assert_eq!(
            asked("go build -o=x -tags dev,x -race ./cmd/a"),
            ["/p: -tags=dev,x -race -- ./cmd/a"]
        );
        assert_eq!(asked("templ generate && go build -gcflags 'all=-N -l' ./a"), ["/p: -- ./a"]);
        assert_eq!(
            asked("cd sub; CGO_ENABLED=0 go build -C ../x ."),
            ["/p/sub/../x: env CGO_ENABLED=0 -- ."]
        );
        assert_eq!(
            asked("go run -tags x ./cmd/a serve --port 1 > log"),
            ["/p: -tags=x -- ./cmd/a"]
        );
        assert_eq!(asked("go run a.go b.go x"), ["/p: -- a.go b.go"]);
        assert_eq!(asked("go build ./a 2>&1 | tee log"), ["/p: -- ./a"]);
        assert_eq!(asked("go build ./a\ngo install ./b"), ["/p: -- ./a", "/p: -- ./b"]);
        assert_eq!(asked("go build -ldflags \"-X main.v=$(git describe; x)\" ./a"), ["/p: -- ./a"]);
        assert_eq!(asked("make build && go generate ./... && go build $PACKAGE"), [""; 0]);
    }
}
