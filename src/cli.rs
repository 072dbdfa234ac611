//! The command line. It decides nothing: words become [`Options`], and an outcome becomes
//! an exit code.

use std::ffi::OsString;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use tokio::task::LocalSet;
use tracing_subscriber::EnvFilter;

use crate::config::{self, Config, Extensions, Options, Program, example};
use crate::engine::{self, Talk};
use crate::error::{Error, FAILED, Result};
use crate::event::{name_paths, printable};
use crate::process::{self, Processes};
use crate::project::{Kind, Selection};
use crate::report::{Color, Report};
use crate::watch;

/// Rebuilds on save and restarts the program.
#[derive(Parser, Debug)]
#[command(
    name = "hotrun",
    version,
    disable_version_flag = true,
    disable_help_subcommand = true,
    override_usage = "hotrun [run] [OPTIONS] [-- ARGS...]\n       hotrun init | check",
    after_help = "Reads hotrun.toml or .air.toml; Cargo and Go projects need neither."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Word>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    program: ProgramArgs,
}

#[derive(Subcommand, Debug)]
enum Word {
    /// Build, run, and do so again after each save (this is the default)
    Run(ProgramArgs),
    /// Write a hotrun.toml that explains every key
    Init,
    /// Show what would be built, run and watched
    Check,
}

#[derive(Args, Debug)]
struct ProgramArgs {
    /// Arguments for the program
    #[arg(last = true, value_name = "ARGS", hide = true)]
    args: Vec<OsString>,
}

#[derive(Args, Debug)]
struct Common {
    /// Read this configuration file
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Work in this directory
    #[arg(short = 'C', value_name = "DIR", global = true)]
    directory: Option<PathBuf>,
    /// Build and run once, without watching
    #[arg(long, global = true)]
    once: bool,
    /// Say only what went wrong
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Log diagnostics too, filtered by `HOTRUN_LOG`
    #[arg(long, global = true)]
    verbose: bool,
    /// Use colours: auto, always or never
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    color: When,
    /// Print the version
    #[arg(short = 'V', short_alias = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

/// What to build, where the project decides how.
#[derive(Args, Debug)]
#[command(next_help_heading = "Without a configuration")]
struct Choice {
    /// The package (Go: a path such as ./cmd/x)
    #[arg(short, long, value_name = "NAME", global = true)]
    package: Option<String>,
    /// The program, of several
    #[arg(long, value_name = "NAME", conflicts_with = "example", global = true)]
    bin: Option<String>,
    /// One of the package's examples
    #[arg(long, value_name = "NAME", global = true)]
    example: Option<String>,
    /// Build with optimisations
    #[arg(long, global = true)]
    release: bool,
    /// Features to build with
    #[arg(short = 'F', long, value_name = "LIST", global = true)]
    features: Vec<String>,
    /// Build with all features
    #[arg(long, global = true)]
    all_features: bool,
    /// Build without the default features
    #[arg(long, global = true)]
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
    /// The directory to work in, absolute.
    fn directory(&self) -> Result<PathBuf> {
        let here = std::env::current_dir()
            .map_err(|error| Error::failed("the current directory", error))?;
        let Some(directory) = &self.directory else { return Ok(here) };
        let path = here.join(directory);
        path.canonicalize()
            .ok()
            .filter(|path| path.is_dir())
            .ok_or_else(|| Error::usage(format!("-C {}", directory.display()), "no such directory"))
    }

    fn talk(&self) -> Talk {
        let color = match self.color {
            When::Auto => Color::Auto,
            When::Always => Color::Always,
            When::Never => Color::Never,
        };
        Talk { quiet: self.quiet, color }
    }
}

impl Cli {
    fn options(&self, args: &[OsString]) -> Result<Options> {
        Ok(Options {
            directory: self.common.directory()?,
            config: self.common.config.clone(),
            once: self.common.once,
            selection: self.choice.selection(),
            args: args.to_vec(),
        })
    }
}

/// From the command line to the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let perform = || match &cli.command {
        None => run(&cli, &cli.program.args),
        Some(Word::Run(program)) => run(&cli, &program.args),
        Some(Word::Init) => init(&cli),
        Some(Word::Check) => check(&cli),
    };
    match catch_unwind(AssertUnwindSafe(perform)) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) => {
            Report::error(&error);
            ExitCode::from(error.code())
        }
        // It has been told by now, and what was started has been killed.
        Err(_panic) => ExitCode::from(FAILED),
    }
}

fn run(cli: &Cli, args: &[OsString]) -> Result<u8> {
    log_diagnostics(cli.common.verbose);
    block_on(engine::run(cli.options(args)?, cli.common.talk()))
}

/// One thread does all: children are spawned and reaped on it.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::failed("cannot start", error))?;
    LocalSet::new().block_on(&runtime, future)
}

fn log_diagnostics(verbose: bool) {
    let default = if verbose { "hotrun=debug" } else { "off" };
    let filter = EnvFilter::try_from_env("HOTRUN_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
}

fn init(cli: &Cli) -> Result<u8> {
    let directory = cli.common.directory()?;
    let file = directory.join("hotrun.toml");
    let text = example::for_project(&Kind::detect(&directory));
    let created =
        std::fs::File::create_new(&file).and_then(|mut new| new.write_all(text.as_bytes()));
    match created {
        Ok(()) => {
            print(&format!("wrote {}", file.display()));
            Ok(0)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::usage(file.display(), "is there already")
                .remedy("edit it, or delete it first"))
        }
        Err(error) => Err(Error::failed(file.display(), error)),
    }
}

fn check(cli: &Cli) -> Result<u8> {
    log_diagnostics(cli.common.verbose);
    let options = cli.options(&cli.program.args)?;
    let config = block_on(async {
        // Nobody reads the inbox: only helpers run.
        let (sender, _inbox) = tokio::sync::mpsc::unbounded_channel();
        let processes = Processes::new(sender)?;
        config::load(&options, &processes.helper()).await
    })?;
    print(&explain(&config));
    Ok(0)
}

/// The effective configuration, for a person.
fn explain(config: &Config) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| lines.push(format!("{name:>9}  {text}"));
    let file = config.file.as_deref().map(printable);
    line("config", file.unwrap_or_else(|| format!("none; {} project", config.kind.name())));
    line("directory", printable(&config.directory));
    for (number, stage) in config.build.stages.iter().enumerate() {
        let name = if number == 0 { "build" } else { "" };
        line(name, stage.label.clone());
    }
    line("run", describe_program(&config.run.program));
    line("stop", format!("{}, then SIGKILL after {:?}", config.run.signal, config.run.grace));
    for command in &config.post_cmd {
        line("post_cmd", command.clone());
    }
    for root in &config.watch.roots {
        line("watch", printable(root));
    }
    let extensions = match &config.watch.extensions {
        Extensions::Any => "all files".to_owned(),
        Extensions::Only(list) => {
            let names: Vec<_> = list.iter().map(|one| one.to_string_lossy()).collect();
            format!("files ending in {}", names.join(", "))
        }
    };
    let found = watch::survey(&config.watch);
    line("", format!("{} in {} directories: {extensions}", found.files, found.directories));
    let without: Vec<PathBuf> = config.watch.exclude_dirs.iter().cloned().collect();
    if !without.is_empty() {
        line("without", name_paths(&without, &config.watch.base));
    }
    for warning in &config.warnings {
        line("warning", warning.clone());
    }
    lines.join("\n")
}

/// What would be run.
fn describe_program(program: &Program) -> String {
    match program {
        Program::None => "nothing: only built".to_owned(),
        Program::Command(command) => process::describe(command),
        Program::Built(args) => {
            let argv = [OsString::from("(the executable that cargo names)")];
            let words = argv.into_iter().chain(args.iter().cloned());
            words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        }
    }
}

/// To stdout; a closed one is no reason to fail.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(format!("{text}\n").as_bytes());
}
