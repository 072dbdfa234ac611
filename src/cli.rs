//! The command line. It decides nothing: words become [`Options`], and an outcome becomes
//! an exit code.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use tokio::task::LocalSet;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{self, Color, Command, Config, Options, schema};
use crate::control;
use crate::engine::{self, Talk};
use crate::error::{Error, FAILED, Result, USAGE};
use crate::event::Proc;
use crate::inbox::Inbox;
use crate::init::{self, Source};
use crate::process::{FromProcess, Processes, guardian};
use crate::project::cargo::launch;
use crate::project::guess::testing;
use crate::project::{Selection, go};
use crate::recording::{self, Replayed};
use crate::report::Report;
use crate::report::console::Console;
use crate::text::shown;

mod generate;
mod guide;
mod help;
mod show;
mod words;

use generate::Shell;
use guide::Topic;
use words::Words;

/// Rebuilds on save and restarts the program.
#[derive(Parser, Debug)]
#[command(
    name = "hotrun",
    version,
    disable_version_flag = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    override_usage = "hotrun [OPTIONS] [COMMAND...]",
    after_help = "Every key is an option: --build.cmd \"make app\". The guide: hotrun help [TOPIC]."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Word>,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand, Debug)]
enum Word {
    /// Build, run, and repeat on every change (default)
    #[command(override_usage = "hotrun run [OPTIONS] [-- COMMAND...]")]
    Run,
    /// Write a hotrun.toml for this project
    #[command(override_usage = "hotrun init [OPTIONS] [--from cargo-watch COMMAND...]")]
    Init {
        /// Write every key, with its explanation and default
        #[arg(long, conflicts_with = "from")]
        full: bool,
        /// Convert the configuration of air, fresh, realize, nodemon or cargo-watch
        #[arg(long, value_name = "TOOL", hide_possible_values = true)]
        from: Option<Source>,
    },
    /// Run the project's tests, and again on every change
    #[command(override_usage = "hotrun test [OPTIONS] [-- ARGUMENT...]")]
    Test,
    /// Show the resolved configuration, or what `hotrun COMMAND` would do
    #[command(override_usage = "hotrun check [OPTIONS] [COMMAND...]")]
    Check {
        /// Show the keys that have their defaults, too
        #[arg(long)]
        all: bool,
        /// Exit with 2 if there is an unknown key or any other warning
        #[arg(long)]
        strict: bool,
    },
    /// Show what a save of these files would trigger, and why
    Explain {
        /// Files or directories
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
    /// Make the running hotrun go back to the last good build
    Rollback,
    /// Show what the running hotrun builds and runs
    Status {
        /// As JSON, one line for each hotrun that runs here
        #[arg(long)]
        json: bool,
    },
    /// Run a program that takes hotrun's sockets, from a script
    #[command(hide = true, override_usage = "hotrun exec -- PROGRAM [ARGUMENT...]")]
    Exec,
    /// Show what followed from each event of a recorded session
    #[command(hide = true)]
    Replay {
        /// A recording, as made with `HOTRUN_RECORD=FILE hotrun`
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the JSON schema of hotrun.toml, for editors
    #[command(hide = true)]
    Schema,
    /// Print the completions for a shell: bash, zsh or fish
    #[command(hide = true)]
    Completions {
        /// The shell: bash, zsh or fish
        #[arg(value_name = "SHELL", hide_possible_values = true)]
        shell: Shell,
    },
    /// Print the man page
    #[command(hide = true)]
    Man,
}

#[derive(Args, Debug)]
struct Common {
    /// Watch files with these extensions: rs,toml
    #[arg(short, long, value_name = "LIST", global = true, help_heading = help::WATCH)]
    ext: Vec<String>,
    /// Watch this directory or file, instead of everything
    #[arg(short, long, value_name = "PATH", global = true, help_heading = help::WATCH)]
    watch: Vec<String>,
    /// Ignore what matches this glob
    #[arg(short, long, value_name = "GLOB", global = true, help_heading = help::WATCH)]
    ignore: Vec<String>,
    /// Poll for changes instead of using file system events
    #[arg(long, global = true, help_heading = help::WATCH)]
    poll: bool,
    /// Read this configuration file
    #[arg(short, long, value_name = "FILE", global = true, help_heading = help::HOW)]
    config: Option<PathBuf>,
    /// Ignore configuration files
    #[arg(long, conflicts_with = "config", global = true, help_heading = help::HOW)]
    no_config: bool,
    /// Work in this directory
    #[arg(short = 'C', value_name = "DIR", global = true, help_heading = help::HOW)]
    directory: Option<PathBuf>,
    /// Build and run once, without watching
    #[arg(long, global = true, help_heading = help::HOW)]
    once: bool,
    /// Open a socket for the program: 8080, unix:PATH
    #[arg(long, value_name = "ADDRESS", global = true, help_heading = help::HOW)]
    listen: Vec<String>,
    /// Put a proxy in front of the program: 8080, 8080:3000
    #[arg(long, value_name = "PORT:PORT", global = true, help_heading = help::HOW)]
    proxy: Option<String>,
    /// Kill the process of this project that holds the port
    #[arg(long, global = true, help_heading = help::HOW)]
    free_port: bool,
    /// Replace the hotrun that already runs here
    #[arg(long, global = true, help_heading = help::HOW)]
    takeover: bool,
    /// Only print warnings and errors
    #[arg(short, long, global = true, help_heading = help::OUTPUT)]
    quiet: bool,
    /// Print one line for each save
    #[arg(long, global = true, help_heading = help::OUTPUT)]
    compact: bool,
    /// Clear the screen before each build or restart
    #[arg(long, global = true, help_heading = help::OUTPUT)]
    clear: bool,
    /// Use colours: auto, always or never
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        hide_possible_values = true,
        help_heading = help::OUTPUT
    )]
    color: Option<When>,
    /// Print diagnostics, filtered by `HOTRUN_LOG`
    #[arg(short = 'd', long, global = true, help_heading = help::OUTPUT)]
    verbose: bool,
    /// Print help; --help: with all options and examples
    #[arg(short, long, action = ArgAction::Help, global = true, help_heading = help::OUTPUT)]
    help: Option<bool>,
    /// Print the version
    #[arg(
        short = 'V',
        visible_short_alias = 'v',
        long,
        action = ArgAction::Version,
        help_heading = help::OUTPUT
    )]
    version: Option<bool>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

/// The program to run, and for Cargo and Go the package and the features.
#[derive(Args, Debug)]
struct Choice {
    /// Run this shell command instead
    #[arg(short = 'x', long = "exec", value_name = "COMMAND", global = true, help_heading = help::RUN)]
    exec: Option<String>,
    /// The package (Go: ./cmd/x, its import path, or x)
    #[arg(short, long, value_name = "NAME", global = true, help_heading = help::RUN)]
    package: Option<String>,
    /// The program, if there are several
    #[arg(long, value_name = "NAME", conflicts_with = "example", global = true, help_heading = help::RUN)]
    bin: Option<String>,
    /// One of the package's examples
    #[arg(long, value_name = "NAME", global = true, help_heading = help::RUN)]
    example: Option<String>,
    /// Build with optimisations
    #[arg(long, global = true, help_heading = help::RUN)]
    release: bool,
    /// Build with these features
    #[arg(short = 'F', long, value_name = "LIST", global = true, help_heading = help::RUN)]
    features: Vec<String>,
    /// Build with all features
    #[arg(long, global = true, help_heading = help::RUN)]
    all_features: bool,
    /// Build without the default features
    #[arg(long, global = true, help_heading = help::RUN)]
    no_default_features: bool,
}

impl Choice {
    fn selection(&self) -> Selection {
        let mut flags = Vec::new();
        let switches = [
            (self.release, "--release"),
            (self.all_features, "--all-features"),
            (self.no_default_features, "--no-default-features"),
        ];
        flags.extend(switches.iter().filter(|(on, _)| *on).map(|(_, flag)| (*flag).to_owned()));
        flags.extend(self.features.iter().flat_map(|list| ["--features".to_owned(), list.clone()]));
        Selection {
            package: self.package.clone(),
            bin: self.bin.clone(),
            example: self.example.clone(),
            flags,
        }
    }
}

impl Common {
    /// The directory to work in, absolute, and whether air's variable names it.
    fn directory(&self) -> Result<(PathBuf, bool)> {
        let here = std::env::current_dir()
            .map_err(|error| Error::failed("the current directory", error))?;
        let by_air = std::env::var_os("air_wd").filter(|directory| !directory.is_empty());
        let (name, written, is_airs) = match (&self.directory, by_air) {
            (Some(directory), _) => ("-C ", directory.clone(), false),
            (None, Some(directory)) => ("air_wd=", directory.into(), true),
            (None, None) => return Ok((here, false)),
        };
        let path = here.join(&written).canonicalize().ok().filter(|path| path.is_dir());
        let missing = || Error::usage(format!("{name}{}", written.display()), "no such directory");
        Ok((path.ok_or_else(missing)?, is_airs))
    }

    /// The short options that other tools have, as keys.
    fn filters(&self, directory: &Path) -> Vec<(String, String)> {
        let key = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let extensions = self.ext.iter().map(|list| key("build.include_ext", list));
        let places = self.watch.iter().map(|path| {
            let is_file = directory.join(path).is_file();
            key(if is_file { "build.include_file" } else { "build.include_dir" }, path)
        });
        let ignored = self.ignore.iter().map(|glob| key("watch.exclude", &init::as_glob(glob)));
        let clear = self.clear.then(|| key("screen.clear_on_rebuild", "true"));
        let compact = self.compact.then(|| key("log.compact", "true"));
        extensions.chain(places).chain(ignored).chain(clear).chain(compact).collect()
    }

    fn talk(&self) -> Talk {
        let color = self.color.map(|color| match color {
            When::Auto => Color::Auto,
            When::Always => Color::Always,
            When::Never => Color::Never,
        });
        Talk { quiet: self.quiet, color }
    }
}

impl Cli {
    fn options(&self, words: &Words) -> Result<Options> {
        let (directory, by_air) = self.common.directory()?;
        let mut config = self.common.config.clone();
        let mut keys = words.keys.clone();
        if self.common.poll {
            keys.push(("watch.backend".to_owned(), "poll".to_owned()));
        }
        let listen = self.common.listen.iter();
        keys.extend(listen.map(|address| ("listen".to_owned(), address.clone())));
        let proxy = self.common.proxy.iter();
        keys.extend(proxy.map(|ports| ("proxy".to_owned(), ports.clone())));
        keys.extend(self.common.filters(&directory));
        let mut args = words.args.clone();
        let command = match &self.choice.exec {
            // The shell has them as "$@".
            Some(text) => Some(Command::Shell(text.clone(), std::mem::take(&mut args))),
            None if words.is_command && !args.is_empty() => {
                Some(Command::Argv(std::mem::take(&mut args)))
            }
            None => None,
        };
        if by_air {
            // As in air: the file is looked for where the shell is, and root is the directory.
            let here = std::env::current_dir().unwrap_or_default();
            config = config.map(|file| here.join(file));
            keys.push(("root".to_owned(), ".".to_owned()));
        }
        Ok(Options {
            directory,
            config,
            no_config: self.common.no_config,
            once: self.common.once,
            free_port: self.common.free_port,
            takeover: self.common.takeover,
            selection: self.choice.selection(),
            args,
            command,
            choice: None,
            keys,
        })
    }
}

/// From the command line to the exit code.
pub fn main() -> ExitCode {
    if guardian::is_meant(std::env::args_os().next().as_deref()) {
        return guardian::main();
    }
    if launch::is_question(std::env::args_os()) {
        return launch::answer();
    }
    match catch_unwind(AssertUnwindSafe(perform)) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) => {
            Report::error(&error);
            ExitCode::from(error.code())
        }
        // The panic is printed by now, and guardians stop what was started.
        Err(_panic) => ExitCode::from(FAILED),
    }
}

fn perform() -> Result<u8> {
    let mut plain = Cli::command();
    plain.build();
    let mut all = std::env::args_os();
    let name = PathBuf::from(all.next().unwrap_or_default());
    let as_air = name.file_name() == Some(OsStr::new("air"));
    let mut words = words::take_apart(&plain, all, as_air)?;
    if let Some(topic) = &words.help {
        match Topic::named(&plain, topic)? {
            Topic::Overview => guide::overview(&help::command(false)),
            Topic::Page(page) => guide::page(page),
            Topic::Subcommand(name) => words.own = vec![name.into(), "--help".into()],
        }
        if words.own.is_empty() {
            return Ok(0);
        }
    }
    let command = help::command(help::is_long(&words.own)).color(help::color(&words.own));
    let own = [OsString::from("hotrun")].into_iter().chain(words.own.iter().cloned());
    let cli = command
        .try_get_matches_from(own)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .unwrap_or_else(|error| error.exit());
    match &cli.command {
        None | Some(Word::Run) => run(&cli, &words),
        Some(Word::Test) => test(&cli, &words),
        Some(Word::Init { full, from }) => write_first(&cli, &words, *full, *from),
        Some(Word::Check { all, strict }) => check(&cli, &words, *all, *strict),
        Some(Word::Rollback) => roll_back(&cli, &words),
        Some(Word::Status { json }) => status(&cli, &words, *json),
        Some(Word::Exec) => Ok(exec(&words)),
        Some(Word::Explain { paths }) => explain(&cli, &words, paths),
        Some(Word::Replay { file }) => replay(file),
        Some(Word::Schema) => Ok(print_raw(&schema::text())),
        Some(Word::Completions { shell }) => Ok(print_raw(&generate::completions(*shell))),
        Some(Word::Man) => {
            let page = generate::man().map_err(|error| Error::failed("the man page", error))?;
            Ok(print_raw(&page))
        }
    }
}

fn run(cli: &Cli, words: &Words) -> Result<u8> {
    log_diagnostics(cli.common.verbose);
    let mut options = cli.options(words)?;
    config::settle_command(&mut options);
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        options.choice = choose(&options)?;
    }
    block_on(engine::run(options, cli.common.talk()))
}

/// Prints what followed from each event of a recording.
fn replay(file: &Path) -> Result<u8> {
    let mut text = String::new();
    recording::replay(file, |ms, step| {
        let (event, effects) = match step {
            Replayed::Core(event, effects) => {
                let effects = effects.iter().map(|effect| format!("{effect:?}"));
                (format!("{event:?}"), effects.collect::<Vec<_>>())
            }
            Replayed::Terminal(event, effects) => {
                let effects = effects.iter().map(|effect| format!("tty {effect:?}"));
                (format!("tty {event:?}"), effects.collect())
            }
        };
        let _ = writeln!(text, "{ms:>8} ms  {event}");
        for effect in effects {
            let _ = writeln!(text, "{:13}{effect}", "");
        }
    })?;
    Ok(print_raw(&text))
}

/// Runs the tests of the project as its program.
fn test(cli: &Cli, words: &Words) -> Result<u8> {
    log_diagnostics(cli.common.verbose);
    let mut options = cli.options(words)?;
    if options.command.is_some() && cli.choice.exec.is_some() {
        let error = Error::usage("hotrun test -x", "cannot run a command and the project's tests");
        return Err(error.remedy("to run a command on every change: hotrun -x COMMAND"));
    }
    let mut argv = testing::command(&options.directory)?;
    argv.append(&mut options.args);
    options.command = Some(Command::Argv(argv));
    block_on(engine::run(options, cli.common.talk()))
}

/// Asks which of several programs is meant, and remembers the answer for the project.
fn choose(options: &Options) -> Result<Option<String>> {
    let all = config::choices(options);
    if all.is_empty() {
        return Ok(None);
    }
    let mut text = String::from("Several programs can be run here:\n");
    for (number, one) in all.iter().enumerate() {
        let _ = writeln!(text, "  {}  {}", number + 1, shown(&one.summary()));
    }
    let _ = write!(text, "Which one (1 to {})? ", all.len());
    let ask = |text: &str| {
        let _ = std::io::stderr().write_all(text.as_bytes());
        let mut line = String::new();
        // A closed terminal is no answer.
        let is_read = std::io::stdin().read_line(&mut line).is_ok_and(|count| count > 0);
        is_read.then_some(line)
    };
    let mut answer = ask(&text);
    let chosen = loop {
        let Some(line) = &answer else {
            return Err(Error::usage(options.directory.display(), "no program was chosen"));
        };
        let number = line.trim().parse::<usize>().ok();
        match number.and_then(|number| all.get(number.checked_sub(1)?)) {
            Some(one) => break one,
            None => answer = ask(&format!("A number from 1 to {}: ", all.len())),
        }
    };
    let chosen = chosen.option();
    Report::note(&match config::choice::remember(&options.directory, &chosen) {
        Ok(file) => format!("remembered for this project; to forget it: rm {}", file.display()),
        Err(error) => format!("cannot remember the choice: {error}"),
    });
    Ok(Some(chosen))
}

/// One thread does all: children are spawned and reaped on it.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::failed("cannot start", error))?;
    let outcome = LocalSet::new().block_on(&runtime, future);
    // Do not wait for a name lookup, or for a large file that is being copied.
    runtime.shutdown_background();
    outcome
}

fn log_diagnostics(verbose: bool) {
    let wanted = std::env::var("HOTRUN_LOG").ok().and_then(|filter| filter.parse().ok());
    let default = if verbose { LevelFilter::DEBUG } else { LevelFilter::OFF };
    let filter = wanted.unwrap_or_else(|| Targets::new().with_target("hotrun", default));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Diagnostics)
        .with_ansi(false)
        .log_internal_errors(false);
    tracing_subscriber::registry().with(lines).with(filter).init();
}

/// Writes diagnostics to stderr, as everything else is shown: what is logged may hold a secret.
struct Diagnostics;

impl Write for Diagnostics {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        std::io::stderr().write_all(shown(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write_first(cli: &Cli, words: &Words, full: bool, from: Option<Source>) -> Result<u8> {
    let options = cli.options(words)?;
    if let Some(word) = words.args.first().filter(|_| from != Some(Source::CargoWatch)) {
        let why = "unexpected argument";
        return Err(Error::usage(word.display(), why).remedy("hotrun init --help"));
    }
    if from.is_none()
        && let Some(there) = config::found(&options)
    {
        let error = Error::usage(there.display(), "already exists");
        return Err(if config::is_airs(&options) {
            error.remedy(
                "hotrun reads it as it is; to convert it to a hotrun.toml, which takes its place:\n\
                 hotrun init --from air",
            )
        } else {
            error.remedy("edit it, or delete it first")
        });
    }
    let first = match from {
        Some(source) => block_on(init::from_tool(source, &options))?,
        None if full => init::full(&options.directory),
        None => init::for_project(&options.directory)?,
    };
    let file = options.directory.join("hotrun.toml");
    let created = std::fs::File::create_new(&file).and_then(|mut new| {
        // Half a file, as on a full disk, would be read.
        let written = new.write_all(first.text.as_bytes());
        written.inspect_err(|_| drop(std::fs::remove_file(&file)))
    });
    match created {
        Ok(()) => {
            let taken_for = first.kind.map(|kind| format!(" for {kind}")).unwrap_or_default();
            print(&format!("wrote {}{taken_for}", file.display()));
            for lost in first.lost {
                Report::note(&format!("not converted: {lost}"));
            }
            Ok(0)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::usage(file.display(), "already exists")
                .remedy("edit it, or delete it first"))
        }
        Err(error) => Err(Error::failed(file.display(), error)),
    }
}

fn load(cli: &Cli, words: &Words) -> Result<Config> {
    log_diagnostics(cli.common.verbose);
    let mut options = cli.options(words)?;
    config::settle_command(&mut options);
    block_on(async {
        // The inbox is not read: only helpers run.
        let (sender, _reports) = tokio::sync::mpsc::unbounded_channel();
        let inbox = Inbox::new(&sender, |report: (Proc, FromProcess)| report);
        let processes = Processes::new(inbox, Console::new()?)?;
        let helper = processes.helper();
        let mut config = config::load(&options, &helper).await?;
        if !config.only().asks.is_empty() {
            let variables = config.only().recipe.env.read().unwrap_or_default();
            let questions = go::with_variables(&config.only().asks, &variables);
            let sources = Some(Arc::new(go::sources(questions, &helper).await));
            config.services[0].watch.sources = sources;
        }
        Ok(config)
    })
}

fn check(cli: &Cli, words: &Words, all: bool, strict: bool) -> Result<u8> {
    let config = load(cli, words)?;
    let checked = show::check(&config, all);
    print(&checked.text);
    match checked.warnings {
        0 => Ok(0),
        _ if !strict => Ok(0),
        1 => Err(Error::usage("check --strict", "1 warning")),
        several => Err(Error::usage("check --strict", format!("{several} warnings"))),
    }
}

fn roll_back(cli: &Cli, words: &Words) -> Result<u8> {
    if let Some(word) = words.args.first() {
        return Err(Error::usage(word.display(), "unexpected argument"));
    }
    let said = control::roll_back(&cli.options(words)?.directory)?;
    print(&said.join("\n"));
    Ok(0)
}

/// Shows what each hotrun of this project is doing.
fn status(cli: &Cli, words: &Words, is_json: bool) -> Result<u8> {
    if let Some(word) = words.args.first() {
        return Err(Error::usage(word.display(), "unexpected argument"));
    }
    let all = control::status(&cli.options(words)?.directory)?;
    let mut text = String::new();
    for present in &all {
        if is_json {
            let json = serde_json::to_string(present);
            let json = json.map_err(|error| Error::failed("hotrun status", error))?;
            let _ = writeln!(text, "{json}");
        } else {
            text.push_str(&present.described());
        }
    }
    Ok(print_raw(&text))
}

/// Becomes the program, whose pid in `LISTEN_PID` says that the sockets are meant for it. If
/// there are none it is just the program.
fn exec(words: &Words) -> u8 {
    let Some((program, args)) = words.args.split_first() else {
        let error = Error::usage("hotrun exec", "no program given");
        Report::error(&error.remedy("hotrun exec -- ./app --port 3000"));
        return USAGE;
    };
    let mut command = std::process::Command::new(program);
    command.args(args);
    if std::env::var_os("LISTEN_FDS").is_some() {
        command.env("LISTEN_PID", std::process::id().to_string());
    }
    let error = command.exec();
    let is_missing = error.kind() == std::io::ErrorKind::NotFound;
    let why = if is_missing { "command not found".to_owned() } else { error.to_string() };
    Report::error(&Error::failed(program.display(), why));
    // As from a shell.
    if is_missing { 127 } else { 126 }
}

fn explain(cli: &Cli, words: &Words, paths: &[PathBuf]) -> Result<u8> {
    let config = load(cli, words)?;
    let canonical = |place: PathBuf| place.canonicalize().unwrap_or(place);
    let shell =
        canonical(std::env::current_dir().unwrap_or_else(|_| config.project.directory.clone()));
    let here = match &cli.common.directory {
        Some(_) => canonical(config.project.directory.clone()),
        None => shell.clone(),
    };
    for path in paths {
        // With -C, paths are relative to its directory. A path that exists only below the shell's
        // directory is accepted, too.
        let is_there = |place: &Path| config::absolute(place, path).symlink_metadata().is_ok();
        let place = if !is_there(&here) && is_there(&shell) { &shell } else { &here };
        let mut path = config::absolute(place, path);
        // The roots have their links resolved; the file itself may be one, or not exist.
        if config.only().watch.root_of(&path).is_none()
            && let Some(place) = path.parent().and_then(|place| place.canonicalize().ok())
            && let Some(name) = path.file_name()
        {
            path = place.join(name);
        }
        print(&show::explain(&config, &path));
    }
    Ok(0)
}

/// Prints what another program reads, as it is. An output that is closed early is not an error.
fn print_raw(text: &str) -> u8 {
    let written = std::io::stdout().write_all(text.as_bytes());
    match written.and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Report::error(&Error::failed("stdout", error));
            FAILED
        }
        Ok(()) | Err(_) => 0,
    }
}

/// To stdout; a closed one is no reason to fail.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(format!("{}\n", shown(text)).as_bytes());
}
