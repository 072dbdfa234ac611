//! From a command line of cargo-watch (<https://github.com/watchexec/cargo-watch>).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser};

use super::{Draft, items};
use crate::error::{Error, Result};

/// What cargo-watch 8 understands.
#[derive(Parser, Debug)]
#[command(no_binary_name = true, disable_help_flag = true, disable_version_flag = true)]
struct Line {
    #[arg(short = 'x', long = "exec")]
    exec: Vec<String>,
    #[arg(short = 's', long = "shell")]
    shell: Vec<String>,
    #[arg(short, long)]
    watch: Vec<PathBuf>,
    #[arg(short, long)]
    ignore: Vec<String>,
    #[arg(short, long)]
    clear: bool,
    #[arg(short, long)]
    quiet: bool,
    #[arg(short = 'C', long)]
    workdir: Option<PathBuf>,
    #[arg(short = 'E', long)]
    env: Vec<String>,
    #[arg(long)]
    env_file: Vec<String>,
    #[arg(short = 'B')]
    backtrace: Option<String>,
    #[arg(short = 'L')]
    log: Option<String>,
    #[arg(short, long)]
    delay: Option<String>,
    #[arg(long)]
    features: Option<String>,
    #[arg(long)]
    no_vcs_ignores: bool,
    #[arg(long)]
    ignore_nothing: bool,
    #[arg(long)]
    poll: bool,
    #[arg(long)]
    postpone: bool,
    #[arg(long)]
    no_restart: bool,
    #[arg(long)]
    watch_when_idle: bool,
    #[arg(long)]
    use_shell: Option<String>,
    #[arg(short = 'N', long)]
    notify: bool,
    // Nothing that hotrun does otherwise.
    #[arg(long)]
    no_process_group: bool,
    #[arg(long)]
    skip_local_deps: bool,
    #[arg(long)]
    no_dot_ignores: bool,
    #[arg(long)]
    why: bool,
    #[arg(long)]
    debug: bool,
    #[arg(last = true)]
    command: Vec<String>,
}

/// One command of the line.
enum Step {
    /// A subcommand of cargo, with its arguments.
    Cargo(String),
    Shell(String),
}

pub(super) fn convert(directory: &Path, words: &[OsString]) -> Result<Draft> {
    // `cargo watch …`, `cargo-watch …`, or what follows either.
    let is_name = |word: &&OsString| {
        ["cargo", "watch", "cargo-watch"].iter().any(|name| *name == word.as_os_str())
    };
    let names = words.iter().take_while(is_name).count();
    let words = &words[names..];
    if words.is_empty() && names == 0 {
        return Err(Error::usage("--from cargo-watch", "needs its command line").remedy(
            "hotrun init --from cargo-watch cargo watch -x check -x 'run -- --port 3000'",
        ));
    }
    let unreadable = |error: clap::Error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Error::usage("cargo watch", first)
    };
    let matches = Line::command().try_get_matches_from(words).map_err(unreadable)?;
    let line = Line::from_arg_matches(&matches).map_err(unreadable)?;
    let mut draft = Draft::from("a command line of cargo watch");

    // clap keeps both lists in their own order; cargo-watch runs them in the line's.
    let places = |id: &str| matches.indices_of(id).into_iter().flatten();
    let cargo = places("exec").zip(line.exec.iter().map(|text| Step::Cargo(text.clone())));
    let shell = places("shell").zip(line.shell.iter().map(|text| Step::Shell(text.clone())));
    let mut steps: Vec<(usize, Step)> = cargo.chain(shell).collect();
    steps.sort_by_key(|(place, _)| *place);
    let mut steps: Vec<Step> = steps.into_iter().map(|(_, step)| step).collect();
    if !line.command.is_empty() {
        steps.push(Step::Shell(line.command.join(" ")));
    }
    if steps.is_empty() {
        steps.push(Step::Cargo("check".to_owned()));
    }
    commands(steps, line.features.as_deref(), &mut draft);
    options(directory, line, &mut draft);
    Ok(draft)
}

/// The last is the program if it runs one; those before it build.
fn commands(mut steps: Vec<Step>, features: Option<&str>, draft: &mut Draft) {
    let with_features = |text: &str| match features {
        Some(list) => format!("cargo {text} --features {list}"),
        None => format!("cargo {text}"),
    };
    let last = steps.pop();
    let before: Vec<String> = steps
        .into_iter()
        .map(|step| match step {
            Step::Cargo(text) => with_features(&text),
            Step::Shell(text) => text,
        })
        .collect();
    match last {
        Some(Step::Cargo(text)) if text == "run" || text.starts_with("run ") => {
            draft.set_list("build.pre_cmd", before);
            let rest = text.trim_start_matches("run").trim();
            let (flags, args) = match rest.split_once("-- ") {
                Some((flags, args)) => (flags.trim(), args),
                None => (rest.trim_end_matches("--").trim(), ""),
            };
            draft.set_list("build.args_bin", shlex::split(args).unwrap_or_default());
            let features = features.map(|list| format!("--features {list}"));
            let flags: Vec<&str> = [flags, features.as_deref().unwrap_or_default()]
                .into_iter()
                .filter(|flags| !flags.is_empty())
                .collect();
            if !flags.is_empty() {
                let flags = flags.join(" ");
                draft.lose(format!("{flags}: pass it each time: hotrun {flags}"));
            }
        }
        Some(Step::Cargo(text)) => {
            draft.set_list("build.pre_cmd", before);
            draft.set("build.cmd", with_features(&text));
        }
        Some(Step::Shell(text)) => {
            let build = if before.is_empty() { "true".to_owned() } else { before.join(" && ") };
            draft.set("build.cmd", build);
            draft.set_program(&text);
        }
        None => {}
    }
}

fn options(directory: &Path, line: Line, draft: &mut Draft) {
    let shown = |paths: Vec<PathBuf>| -> Vec<String> {
        paths.iter().map(|path| path.display().to_string()).collect()
    };
    let (files, directories): (Vec<_>, Vec<_>) =
        line.watch.into_iter().partition(|path| directory.join(path).is_file());
    draft.set_list("build.include_dir", shown(directories));
    draft.set_list("build.include_file", shown(files));
    // A name without a slash is ignored wherever it is, as in .gitignore.
    let ignored = line.ignore.into_iter();
    let ignored = ignored.map(|glob| if glob.contains('/') { glob } else { format!("**/{glob}") });
    draft.set_list("watch.exclude", ignored.collect());
    draft.set_list("env_files", line.env_file.iter().flat_map(|file| items(file)).collect());
    for pair in line.env {
        match pair.split_once('=') {
            Some((name, value)) => draft.set(&format!("env.{name}"), value),
            None => draft.lose(format!("-E {pair}")),
        }
    }
    if let Some(value) = line.backtrace {
        draft.set("env.RUST_BACKTRACE", value);
    }
    if let Some(value) = line.log {
        draft.set("env.RUST_LOG", value);
    }
    if line.clear {
        draft.set("screen.clear_on_rebuild", true);
    }
    if line.quiet {
        draft.set("log.main_only", true);
    }
    if line.no_vcs_ignores || line.ignore_nothing {
        draft.set("watch.gitignore", false);
    }
    if line.poll {
        draft.set("watch.backend", "poll");
    }
    if let Some(place) = line.workdir {
        draft.lose(format!("-C: start it there (hotrun -C {})", place.display()));
    }
    let lost = [
        (line.delay.is_some(), "--delay: rapid saves are merged anyway"),
        (line.postpone, "--postpone: hotrun starts with a build"),
        (line.no_restart || line.watch_when_idle, "--no-restart: a save restarts the program"),
        (line.use_shell.is_some(), "--use-shell: commands run by /bin/sh"),
        (line.notify, "--notify: hotrun shows no notifications yet"),
    ];
    for (_, what) in lost.into_iter().filter(|(is, _)| *is) {
        draft.lose(what);
    }
}
