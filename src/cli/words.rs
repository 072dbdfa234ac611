//! The command line before it is parsed: reconciles Go's conventions with clap's.
//!
//! Users of air write `-color always`, `-build.cmd "make"`, and the program's arguments
//! right after it. So `-name` is `--name` if that is an option; every key of the
//! configuration is an option; and from the first word that is not hotrun's own, everything
//! is passed to the program.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::Command;

use crate::config::{TABLES, TOP_KEYS};
use crate::error::{Error, Result};
use crate::project::guess::search;

/// A command line, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// For clap.
    pub(super) own: Vec<OsString>,
    /// The subcommand among them.
    pub(super) subcommand: Option<String>,
    /// Keys of the configuration with their values.
    pub(super) keys: Vec<(String, String)>,
    /// For the program.
    pub(super) args: Vec<OsString>,
    /// The topic that `help` names; empty if it names none.
    pub(super) help: Option<Vec<OsString>>,
    /// Whether these are a program and its arguments (`run --`).
    pub(super) is_command: bool,
}

/// Takes a command line apart, without the name of the program itself. Under the name `air`
/// there is only air's own subcommand.
pub(super) fn take_apart(
    command: &Command,
    words: impl IntoIterator<Item = OsString>,
    as_air: bool,
) -> Result<Words> {
    let mut words = words.into_iter();
    let mut apart = Words::default();
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        if text == "--" {
            if apart.subcommand.as_deref() == Some("explain") {
                apart.own.push(word);
                apart.own.extend(words);
            } else {
                apart.is_command = apart.subcommand.as_deref() == Some("run");
                apart.args.extend(words);
            }
            return Ok(apart);
        }
        if text.len() > 1 && text.starts_with('-') {
            apart.option(command, &word, &mut words)?;
            continue;
        }
        if apart.subcommand.is_none() && !as_air {
            if text == "help" {
                // Options in front of it change nothing.
                return Ok(Words { help: Some(words.collect()), ..Words::default() });
            }
            if text == "version" {
                apart.own.push("--version".into());
                return Ok(apart);
            }
            check_first_word(command, text, &apart.directory())?;
        }
        let is_airs = || text == "init" && apart.own.is_empty() && apart.keys.is_empty();
        let is_own = command.find_subcommand(text).is_some() && (!as_air || is_airs());
        match apart.subcommand.as_deref() {
            None if is_own => {
                apart.subcommand = Some(text.to_owned());
                apart.own.push(word);
            }
            // clap checks the arguments of these.
            Some("explain" | "replay" | "schema" | "completions" | "man") => apart.own.push(word),
            _ => {
                apart.args.push(word);
                apart.args.extend(words);
                return Ok(apart);
            }
        }
    }
    Ok(apart)
}

/// Words that become commands, so that no project comes to rely on another meaning.
const RESERVED: [&str; 13] = [
    "wait", "logs", "stop", "restart", "rebuild", "reload", "pause", "resume", "signal", "ls",
    "mcp", "tune", "why",
];
/// Commands and words of at least this many letters are compared: almost any short word is like
/// another one.
const MIN_COMPARED: usize = 4;
/// Maximum number of letters in which a mistyped command differs from the command.
const MAX_DISTANCE: usize = 2;
/// The same for words with fewer letters than [`LONG`].
const MAX_DISTANCE_OF_SHORT: usize = 1;
const LONG: usize = 7;

/// An error if the first word is a command that does not exist yet, or looks like a mistyped one.
fn check_first_word(command: &Command, word: &str, directory: &Path) -> Result<()> {
    let remedy = format!("to pass it to the program: hotrun -- {word}");
    if RESERVED.contains(&word) {
        let error = Error::usage(format!("hotrun {word}"), "this command does not exist yet");
        return Err(error.remedy(remedy));
    }
    let own = || command.get_subcommands().map(Command::get_name);
    if word.len() < MIN_COMPARED || word.contains(['/', '.']) || own().any(|name| name == word) {
        return Ok(());
    }
    let names = own().chain(RESERVED).chain(["help", "version"]);
    let distances = names
        .filter(|name| name.len() >= MIN_COMPARED)
        .map(|name| (strsim::osa_distance(word, name), name));
    let max = if word.len() < LONG { MAX_DISTANCE_OF_SHORT } else { MAX_DISTANCE };
    let nearest = distances.filter(|(distance, _)| *distance <= max).min();
    let is_program = || search::found_in(&search::path(directory), OsStr::new(word)).is_some();
    let Some((_, nearest)) = nearest.filter(|_| !is_program()) else {
        return Ok(());
    };
    let why = format!("unknown command; did you mean `hotrun {nearest}`?");
    Err(Error::usage(format!("hotrun {word}"), why).remedy(remedy))
}

impl Words {
    /// The directory to work in, as far as it is known.
    fn directory(&self) -> PathBuf {
        let options = self.own.iter().filter_map(|word| word.to_str());
        let mut named = options
            .filter_map(|word| word.strip_prefix("-C=").or(word.strip_prefix("--directory=")));
        let here = std::env::current_dir().unwrap_or_default();
        named.next_back().map_or(here.clone(), |named| here.join(named))
    }

    fn option(
        &mut self,
        command: &Command,
        word: &OsString,
        rest: &mut impl Iterator<Item = OsString>,
    ) -> Result<()> {
        let text = word.to_string_lossy();
        let bare = text.strip_prefix("--").or(text.strip_prefix('-')).unwrap_or(&text);
        let (name, value) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (bare, None),
        };
        let is_in_table = name.split_once('.').is_some_and(|(table, _)| TABLES.contains(&table));
        if is_in_table || TOP_KEYS.contains(&name) {
            let value = value.or_else(|| rest.next()).ok_or_else(|| {
                Error::usage(format!("--{name}"), "needs a value")
                    .remedy(format!("--{name} VALUE, or --{name}=VALUE"))
            })?;
            let value = value.into_string().map_err(|value| {
                Error::usage(format!("--{name} {}", value.display()), "is not UTF-8")
            })?;
            self.keys.push((name.to_owned(), value));
            return Ok(());
        }
        let mut known = command
            .get_arguments()
            .chain(command.get_subcommands().flat_map(Command::get_arguments));
        let mut letters = name.chars();
        let letter = letters.next().filter(|_| letters.next().is_none());
        let found = known.find(|arg| {
            arg.get_long_and_visible_aliases().is_some_and(|all| all.contains(&name))
                || letter.is_some_and(|letter| {
                    arg.get_short_and_visible_aliases().is_some_and(|all| all.contains(&letter))
                })
        });
        let Some(found) = found else {
            // Letters in one word (`-qV`), a letter with its value (`-pNAME`), or a mistake.
            self.own.push(word.clone());
            return Ok(());
        };
        let mut own = OsString::from(match letter {
            Some(letter) => format!("-{letter}"),
            None => format!("--{name}"),
        });
        let value =
            if found.get_action().takes_values() { value.or_else(|| rest.next()) } else { value };
        if let Some(value) = value {
            own.push("=");
            own.push(value);
        }
        self.own.push(own);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// `own | key=value | args`
    fn apart(line: &str, as_air: bool) -> String {
        let mut command = super::super::Cli::command();
        command.build();
        let words = shlex::split(line).unwrap().into_iter().map(OsString::from);
        let words = match take_apart(&command, words, as_air) {
            Ok(words) => words,
            Err(error) => return error.to_string(),
        };
        let join = |words: &[OsString]| {
            words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        let keys: Vec<_> = words.keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
        format!("{} | {} | {}", join(&words.own), keys.join(" "), join(&words.args))
    }

    #[test]
    fn single_dashed_long_forms_are_long_forms() {
        assert_eq!(apart("-color always -c x.toml", false), "--color=always -c=x.toml |  | ");
        assert_eq!(apart("-color=never --c x -d -v", false), "--color=never -c=x -d -v |  | ");
        assert_eq!(apart("-help", false), "--help |  | ");
        assert_eq!(apart("-pfoo -qd", false), "-pfoo -qd |  | ");
        assert_eq!(apart("-p./cmd/api -c.air.x.toml", false), "-p./cmd/api -c.air.x.toml |  | ");
        assert_eq!(apart("explain -- -x", false), "explain -- -x |  | ");
        assert_eq!(apart("-once -bin api", false), "--once --bin=api |  | ");
    }

    #[test]
    fn every_key_is_an_option() {
        assert_eq!(
            apart("-build.cmd 'make x' --build.delay=50 -root .. --env_files a,b", false),
            " | build.cmd=make x build.delay=50 root=.. env_files=a,b | "
        );
        assert_eq!(apart("-build.rerun true server", false), " | build.rerun=true | server");
        assert_eq!(
            apart("--build.rerun", false),
            "--build.rerun: needs a value\n  help: --build.rerun VALUE, or --build.rerun=VALUE"
        );
    }

    #[test]
    fn the_first_word_that_is_not_hotruns_own_goes_to_the_program_with_all_after_it() {
        assert_eq!(apart("server -c x --port 1", false), " |  | server -c x --port 1");
        assert_eq!(apart("-q server init", false), "-q |  | server init");
        assert_eq!(apart("-q -- init -x", false), "-q |  | init -x");
        assert_eq!(apart("run server -q", false), "run |  | server -q");
        assert_eq!(apart("explain a -q b", false), "explain a -q b |  | ");
        assert_eq!(
            apart("init --from cargo-watch cargo watch -x run", false),
            "init --from=cargo-watch |  | cargo watch -x run"
        );
        assert_eq!(apart("- x", false), " |  | - x");
        assert_eq!(apart("check -q node a.js -q", false), "check -q |  | node a.js -q");
    }

    #[test]
    fn under_the_name_air_only_init_is_a_subcommand() {
        assert_eq!(apart("check", true), " |  | check");
        assert_eq!(apart("run", true), " |  | run");
        assert_eq!(apart("init", true), "init |  | ");
        assert_eq!(apart("-c x init", true), "-c=x |  | init", "air's own way");
    }
}
