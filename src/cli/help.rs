//! What `-h` and `--help` print: both compact, `--help` with the rare options, examples and keys.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Arg, ColorChoice, Command, CommandFactory};

use super::Cli;
use crate::keys;

pub(super) const RUN: &str = "What to run";
pub(super) const WATCH: &str = "What to watch";
pub(super) const HOW: &str = "How to run";
pub(super) const OUTPUT: &str = "Output";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Help is wrapped to the width of the terminal, and never to more than this.
const MAX_WIDTH: usize = 80;

/// Options that only `--help` lists.
const RARE: [&str; 9] = [
    "example",
    "all_features",
    "no_default_features",
    "clear",
    "compact",
    "no_config",
    "takeover",
    "verbose",
    "version",
];

const SELECTION: [&str; 7] =
    ["exec", "package", "bin", "example", "release", "features", "all_features"];
const WATCHING: [&str; 5] = ["ext", "watch", "ignore", "poll", "clear"];

/// Which global options mean something for a subcommand, and its example. Its help lists no other.
fn of_subcommand(name: &str) -> Option<(Vec<&'static str>, &'static str)> {
    let resolved = || {
        let more = [
            "no_default_features",
            "config",
            "no_config",
            "directory",
            "listen",
            "proxy",
            "verbose",
        ];
        [&SELECTION[..], &WATCHING[..4], &more].concat()
    };
    let file = vec!["config", "directory"];
    Some(match name {
        "test" => {
            let more = ["config", "no_config", "directory", "once", "takeover", "verbose", "quiet"];
            let example = "hotrun test -- --nocapture   Pass arguments to the test command";
            ([&WATCHING[..], &more].concat(), example)
        }
        "init" => (
            file,
            "hotrun init                 What hotrun alone would do, as a file\n  \
             hotrun init --full          Every key, explained\n  \
             hotrun init --from nodemon  Convert nodemon.json\n  \
             hotrun init --from cargo-watch cargo watch -x run",
        ),
        "check" => (
            resolved(),
            "hotrun check                What would run, and every value that is set\n  \
             hotrun check node server.js What this command would do\n  \
             hotrun check --strict       In CI: fail on unknown keys and warnings",
        ),
        "explain" => (resolved(), "hotrun explain src/main.rs web/style.css"),
        "rollback" => (vec!["directory"], "hotrun rollback -C services/api"),
        "status" => (
            vec!["directory"],
            "hotrun status\n  hotrun status --json | jq '.services[0].program.url'",
        ),
        "exec" => (vec![], "hotrun exec -- ./app --port 3000   In a script named by entrypoint"),
        "completions" => (
            vec![],
            "hotrun completions bash > ~/.local/share/bash-completion/completions/hotrun\n  \
             hotrun completions zsh > ~/.zfunc/_hotrun\n  \
             hotrun completions fish > ~/.config/fish/completions/hotrun.fish",
        ),
        "replay" => (vec![], "hotrun replay hotrun.jsonl"),
        "man" => (vec![], "hotrun man > ~/.local/share/man/man1/hotrun.1"),
        "schema" => (
            vec![],
            "hotrun schema > hotrun.schema.json\n  \
             Then begin hotrun.toml with `#:schema ./hotrun.schema.json`.",
        ),
        _ => return None,
    })
}

/// Exit codes of subcommands that have some of their own.
fn exit_codes(name: &str) -> Option<&'static str> {
    match name {
        "check" => Some(
            "0  the configuration is valid\n  \
             1  hotrun could not find out, for example because cargo failed\n  \
             2  it is not valid, or --strict and there is a warning",
        ),
        "exec" => Some("126, 127  the program cannot be run, or was not found"),
        "rollback" => Some("0  rolled back\n  1  not possible, or nothing runs here"),
        "status" => Some("0  hotrun runs here\n  1  it does not"),
        _ => None,
    }
}

const EXAMPLES: &str = "hotrun                      Build, run, and repeat on every change
  hotrun -- --port 3000       Pass arguments to the program
  hotrun -p api --release     One package of a workspace, optimised
  hotrun node server.js       Any command, where the project has no program
  hotrun -x 'make && ./app'   Any command, in any project
  hotrun -w src -e rs,html    Watch only these
  hotrun --listen 8080        Keep the port open across restarts
  hotrun --proxy 8080:3000    Let requests to port 8080 wait during restarts
  hotrun --build.cmd 'make'   Every key of hotrun.toml is an option";

const EXIT_CODES: &str = "0  stopped on request      2  wrong command line or configuration
  1  hotrun failed           7  hotrun already runs here (see --takeover)
  --once: the exit code of the program, or 128 and the signal's number";

const VARIABLES: &str = "NO_COLOR                      No colours (--color overrides it)
  FORCE_COLOR, CLICOLOR_FORCE   Colours in a pipe, too
  HOTRUN_LOG                    Filter of the diagnostics: hotrun=debug";

const MORE: &str = "hotrun help TOPIC             A page of the guide; `hotrun help` lists them
  hotrun schema                 JSON schema of hotrun.toml, for editors
  hotrun completions SHELL      Completions for bash, zsh or fish
  hotrun man                    This text and all keys as a man page";

/// The command line with its help, as `--help` has it, or in brief.
pub(super) fn command(is_long: bool) -> Command {
    let mut command = Cli::command().styles(STYLES).max_term_width(MAX_WIDTH);
    let globals: Vec<Arg> =
        command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    let is_rare = |arg: &Arg| RARE.contains(&arg.get_id().as_str());
    let names: Vec<String> =
        command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    for name in names {
        let Some((_, example)) = of_subcommand(&name) else { continue };
        // clap hands no global option down to a subcommand that has it itself.
        let own: Vec<Arg> = globals
            .iter()
            .map(|arg| arg.clone().hide(!is_meant(&name, arg) || !is_long && is_rare(arg)))
            .collect();
        let mut after = section("Example", example);
        if let Some(codes) = exit_codes(&name) {
            let _ = write!(after, "\n\n{}", section("Exit codes", codes));
        }
        command = command
            .mut_subcommand(&name, |sub| sub.args(own).after_help(after).max_term_width(MAX_WIDTH));
    }
    if is_long {
        let sections = sections().map(|(heading, text)| section(heading, &text));
        return command.after_help(sections.join("\n\n"));
    }
    command.mut_args(|arg| if is_rare(&arg) { arg.hide(true) } else { arg })
}

/// What `--help` says behind the options, and the man page.
pub(super) fn sections() -> [(&'static str, String); 5] {
    let keys = keys::HELP.iter().map(|(_, key, does)| format!("{key}  {does}"));
    [
        ("Examples", EXAMPLES.to_owned()),
        ("Keys, while hotrun runs", keys.collect::<Vec<_>>().join("\n  ")),
        ("Exit codes", EXIT_CODES.to_owned()),
        ("Environment", VARIABLES.to_owned()),
        ("See also", MORE.to_owned()),
    ]
}

/// Whether an option that all subcommands have means something for this one.
pub(super) fn is_meant(subcommand: &str, arg: &Arg) -> bool {
    let id = arg.get_id().as_str();
    let all = of_subcommand(subcommand);
    all.is_none_or(|(meant, _)| meant.contains(&id)) || matches!(id, "color" | "help")
}

/// A heading as clap writes its own, and indented lines.
fn section(heading: &str, text: &str) -> String {
    let style = STYLES.get_header();
    format!("{style}{heading}:{style:#}\n  {text}")
}

/// Whether the arguments contain `--help`.
pub(super) fn is_long(words: &[OsString]) -> bool {
    words.iter().any(|word| word == "--help")
}

/// When help and errors of the command line are coloured. What clap decides itself respects
/// `NO_COLOR` and `CLICOLOR_FORCE`.
pub(super) fn color(words: &[OsString]) -> ColorChoice {
    let mut chosen = words.iter().filter_map(|word| word.to_str()?.strip_prefix("--color="));
    match chosen.next_back() {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(words: &[&str]) -> String {
        let command = command(words.contains(&"--help"));
        let error = command.try_get_matches_from([&["hotrun"], words].concat()).unwrap_err();
        error.to_string()
    }

    fn subcommands() -> Vec<String> {
        Cli::command().get_subcommands().map(|one| one.get_name().to_owned()).collect()
    }

    #[test]
    fn help_fits_80_columns_and_the_short_one_40_lines() {
        let short = help(&["-h"]);
        assert!(short.lines().count() <= 40, "{}\n{short}", short.lines().count());
        for name in subcommands() {
            let short = help(&[&name, "-h"]);
            assert!(short.lines().count() <= 40, "{short}");
        }
        let all = subcommands().into_iter().flat_map(|name| [help(&[&name, "--help"])]);
        for text in all.chain([short, help(&["--help"])]) {
            for line in text.lines() {
                assert!(line.chars().count() <= MAX_WIDTH, "{line}");
            }
        }
    }

    #[test]
    fn each_subcommand_has_an_example_and_lists_only_options_that_it_heeds() {
        for name in subcommands().iter().filter(|name| *name != "run") {
            let text = help(&[name, "--help"]);
            assert!(text.contains(&format!("Example:\n  hotrun {name}")), "{text}");
        }
        for (name, none) in [
            ("init", "--once"),
            ("check", "--once"),
            ("check", "--takeover"),
            ("rollback", "--config"),
            ("exec", "--release"),
            ("test", "--bin"),
            ("man", "-C"),
            ("replay", "--release"),
        ] {
            let text = help(&[name, "--help"]);
            assert!(!text.contains(none), "{name} {none}: {text}");
        }
        assert!(help(&["check", "--help"]).contains("--no-default-features"));
    }

    #[test]
    fn names_of_options_and_subcommands_in_the_lists_exist() {
        let command = Cli::command();
        let all: Vec<&str> = command.get_arguments().map(|arg| arg.get_id().as_str()).collect();
        let named = subcommands().into_iter().filter_map(|name| of_subcommand(&name));
        for id in named.flat_map(|(meant, _)| meant).chain(RARE) {
            assert!(all.contains(&id), "{id}");
        }
    }

    #[test]
    fn every_key_is_in_the_long_help() {
        let text = help(&["--help"]);
        for (_, key, does) in keys::HELP {
            assert!(text.contains(&format!("  {key}  {does}\n")), "{key}: {text}");
        }
    }
}
