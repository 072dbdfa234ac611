//! From a [`Document`] to a [`Config`]: what to build, what to run, and how to talk about
//! it. (What to watch is in `watching`.) No key is read outside of these two.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::air::ProgramKeys;
use super::document::{Document, NumberOrText, OneOrMany};
use super::spare::{DEFAULTS, SPARED, Spare};
use super::{
    Build, Clear, Color, Colors, Command, Config, Environment, Log, Loudness, Options, Port,
    Program, Project, Recipe, Run, Scope, Service, Stage, Stdin, Talk, Tty, absolute, air,
    duration, keys,
};
use crate::error::{Error, Result};
use crate::event::{Mode, OnExit};
use crate::project::cargo::{Launch, Variables};
use crate::project::guess::search;
use crate::project::guess::syntax::{self, Check};
use crate::project::{self, Ask, Kind, Makes, Plan, Question, Selection};
use crate::recording;

pub(super) const GRACE: Duration = Duration::from_secs(5);
const RESTART_GRACE_OF_AIR: Duration = Duration::from_secs(1);
const CANCEL_GRACE: Duration = Duration::from_secs(1);
const RERUN_DELAY: Duration = Duration::from_millis(500);

/// Debug information that is not compressed: Go links faster, and debuggers work as ever.
const COMPRESSES_NOT: &str = "-compressdwarf=false";

/// One resolution under way.
pub(super) struct Resolver<'a> {
    pub(super) options: &'a Options,
    pub(super) document: &'a Document,
    pub(super) air_mode: bool,
    pub(super) warnings: Vec<String>,
}

/// The commands of a build, as they are written.
struct Commands {
    pre_cmd: Vec<String>,
    cmd: Option<String>,
    post_cmd: Vec<String>,
}

impl<'a> Resolver<'a> {
    /// Whether air's defaults decide what is built and run: not beside a command of the command line.
    fn builds_as_air(&self) -> bool {
        self.air_mode && self.options.command.is_none()
    }

    pub(super) fn new(options: &'a Options, document: &'a Document, air_mode: bool) -> Self {
        Self { options, document, air_mode, warnings: Vec::new() }
    }

    pub(super) async fn resolve(&mut self, ask: &impl Ask) -> Result<Config> {
        let directory = &self.options.directory;
        let root = self.root()?;
        let tmp = self.string("tmp_dir")?.or(self.alias_string("meta.tmp_dir")?);
        self.document.assume("tmp_dir", "tmp");
        let tmp_dir = absolute(&root, Path::new(tmp.as_deref().unwrap_or("tmp")));
        let kind = if self.air_mode { Kind::Unknown } else { Kind::detect(directory) };

        let command = self.options.command.as_ref();
        let (commands, runs) = self.commands()?;
        let stop_on_error = self.boolean("build.stop_on_error", false)?;
        self.has_no_effect("meta.send_error_to_tty", "errors always go to the terminal")?;

        let env = self.environment(&root, &kind)?;
        let is_own = command.is_some() || commands.cmd.is_some();
        let mut plan = self.plan(&kind, is_own, (&tmp_dir, &env), ask).await?;
        if plan.is_none() {
            self.no_selection(&kind)?;
        }
        let says_nothing = command.is_none() && commands.cmd.is_none() && !runs.says_something();
        if !self.air_mode && plan.is_none() && says_nothing {
            return Err(nothing_to_do(directory, self.document));
        }

        let makes_tmp = self.needs_tmp_dir(&commands, &runs, tmp.as_deref(), plan.as_ref());
        let stages = self.stages(&commands, plan.as_ref(), stop_on_error, tmp.as_deref());
        let mut fallback = None;
        let is_assumed = self.builds_as_air() && commands.cmd.is_some() && !runs.says_something();
        let program = if let Some(command) = command {
            Program::Command(self.command(command)?)
        } else if self.air_mode {
            let resolved = air::program(runs, &root, directory, tmp.as_deref(), &self.options.args);
            self.warnings.extend(resolved.warnings);
            fallback = resolved.fallback;
            Program::Command(resolved.command)
        } else {
            self.program(runs, &root, plan.as_ref().map(|plan| &plan.makes))
        };

        let mut run = Run { fallback, is_assumed, ..self.run(program)? };
        let asks = self.asks(&commands, plan.as_ref(), tmp.as_deref());
        let check = self.check(&stages, &run.program)?;
        let build = Build {
            check,
            only_checks: plan.as_ref().is_some_and(|plan| plan.makes == Makes::Nothing),
            stages,
            delay: self.duration("build.delay", Duration::ZERO)?,
            cancel_grace: self.duration("build.cancel_grace", CANCEL_GRACE)?,
            stop_on_error,
        };
        let launch = self.take_over(plan.as_mut(), &run.program)?;
        let log = self.log(&tmp_dir)?;
        let spare = self.spare()?;
        let makes = (&run.program, !build.stages.is_empty());
        let mut watch = self.watch(&root, &tmp_dir, &kind, plan.as_ref(), makes)?;
        watch.always.extend(env.files.iter().cloned());
        watch.never.extend(log.iter().map(|log| log.path.clone()));
        watch.never.extend(recording::file());
        let talk = self.talk()?;
        let listen = self.listen()?;
        let ready = self.ready(&listen)?;
        let proxied = self.proxy(&run, &listen, &ready)?;
        let (proxy, upstream) = (proxied.proxy, proxied.upstream);
        if proxy.is_some() {
            run.port = run.port.or(proxied.app_port.map(Port::Number));
        }
        let ports = match run.port {
            Some(Port::Number(port)) => vec![port],
            Some(Port::Auto) => Vec::new(),
            None => proxied.app_port.into_iter().collect(),
        };
        self.warn_of_rollback(&run);
        let clean_on_exit = self.boolean("misc.clean_on_exit", false)?;
        let project = Project {
            file: None,
            preferred: Vec::new(),
            directory: directory.clone(),
            clean_on_exit,
            free_port: self.options.free_port,
            talk,
            once: self.options.once,
            warnings: std::mem::take(&mut self.warnings),
            settings: Vec::new(),
        };
        let post_cmd = commands.post_cmd;
        let recipe = Recipe {
            build,
            run,
            launch,
            env,
            log,
            tmp_dir,
            spare,
            listen,
            ready,
            upstream,
            post_cmd,
        };
        let service = Service { kind, guess: None, recipe, makes_tmp, asks, ports, proxy, watch };
        Ok(Config { project, services: vec![service] })
    }

    /// What is to be built, and what run.
    fn commands(&mut self) -> Result<(Commands, ProgramKeys)> {
        let mut commands = Commands {
            pre_cmd: self.strings("build.pre_cmd")?.unwrap_or_default(),
            cmd: self.string("build.cmd")?,
            post_cmd: self.strings("build.post_cmd")?.unwrap_or_default(),
        };
        let mut runs = ProgramKeys {
            entrypoint: self.entrypoint()?,
            full_bin: self.string("build.full_bin")?,
            bin: self.string("build.bin")?,
            args: self.strings("build.args_bin")?.unwrap_or_default(),
        };
        let by_option = |key: &str| self.options.keys.iter().any(|(one, _)| one == key);
        if self.options.command.is_some() {
            // A command from the command line replaces what the file builds and runs.
            let cmd = commands.cmd.take().filter(|_| by_option("build.cmd"));
            commands = Commands { pre_cmd: Vec::new(), cmd, post_cmd: Vec::new() };
            runs = ProgramKeys::default();
        }
        let is_beaten = runs.full_bin.is_some() || runs.entrypoint.is_some();
        if by_option("build.bin") && is_beaten {
            self.warnings.push(
                "--build.bin has no effect: build.entrypoint and build.full_bin override it, as in \
                 air; use --build.entrypoint"
                    .to_owned(),
            );
        }
        Ok((commands, runs))
    }

    fn root(&self) -> Result<PathBuf> {
        let written = self.string("root")?;
        self.document.assume("root", ".");
        let written = written.unwrap_or_else(|| ".".to_owned());
        let path = match written.strip_prefix("~/").zip(std::env::home_dir()) {
            Some((below, home)) => home.join(below),
            None => absolute(&self.options.directory, Path::new(&written)),
        };
        let root = std::fs::canonicalize(&path).map_err(|error| {
            let wrong = if self.document.has("root") {
                self.document.wrong("root", "a directory that exists")
            } else {
                Error::usage(path.display(), error)
            };
            wrong.remedy("set root to the directory of the sources")
        })?;
        if !root.is_dir() {
            return Err(Error::usage(root.display(), "the root is not a directory"));
        }
        self.refuse_too_much(&root)?;
        Ok(root)
    }

    /// Refuses to watch the whole machine or a home directory, as air does.
    pub(super) fn refuse_too_much(&self, root: &Path) -> Result<()> {
        let wanted = self.boolean("build.ignore_dangerous_root_dir", false)?;
        let home = std::env::home_dir().and_then(|home| std::fs::canonicalize(home).ok());
        let too_much = [Some("/".into()), Some("/root".into()), home];
        if wanted || !too_much.iter().flatten().any(|one: &PathBuf| one == root) {
            return Ok(());
        }
        Err(Error::usage(root.display(), "is too much to watch: not a project").remedy(
            "start hotrun in the project's directory (or -C DIR), or set root\n\
             to watch it anyway: build.ignore_dangerous_root_dir = true",
        ))
    }

    fn no_selection(&self, kind: &Kind) -> Result<()> {
        let Selection { package, bin, example, flags } = &self.options.selection;
        let flag = [
            package.is_some().then_some("-p"),
            bin.is_some().then_some("--bin"),
            example.is_some().then_some("--example"),
            flags.first().map(String::as_str),
        ];
        match flag.into_iter().flatten().next() {
            None => Ok(()),
            Some(flag) if self.document.has("build.cmd") => {
                Err(Error::usage(flag, "has no effect beside build.cmd")
                    .remedy("add the flag to build.cmd, or remove build.cmd"))
            }
            Some(flag) => Err(Error::usage(
                flag,
                format!("only applies to Cargo and Go projects; this one is {}", kind.name()),
            )),
        }
    }

    // How to build

    /// The plan of the kind of project, if no build is configured.
    async fn plan(
        &mut self,
        kind: &Kind,
        has_cmd: bool,
        (tmp_dir, env): (&Path, &Environment),
        ask: &impl Ask,
    ) -> Result<Option<Plan>> {
        let ldflags = self.debug(kind, has_cmd, env)?;
        let (directory, selection) = (&self.options.directory, &self.options.selection);
        Ok(match kind {
            _ if has_cmd => None,
            Kind::Cargo(place) => {
                let manifest = place.join("Cargo.toml");
                // Files of variables that cannot be read are reported when they are used.
                let variables = Variables::with(&env.read().unwrap_or_default());
                Some(project::cargo::plan(directory, &manifest, selection, &variables, ask).await?)
            }
            Kind::Go(module) => {
                let artifact = &tmp_dir.join("main");
                let goflags = &goflags(env);
                let place = project::go::Place { directory, module, artifact, ldflags, goflags };
                Some(project::go::plan(place, selection, ask).await?)
            }
            Kind::Unknown => None,
        })
    }

    /// The syntax check of the program's language, where nothing is built.
    fn check(&self, stages: &[Stage], program: &Program) -> Result<Option<Check>> {
        let is_wanted = self.boolean("build.check", true)?;
        if !is_wanted || !stages.is_empty() || self.air_mode {
            return Ok(None);
        }
        let Program::Command(command) = program else { return Ok(None) };
        let is_single = match command {
            Command::Argv(_) => true,
            Command::Shell(text, _) => !text.contains(['|', '&', ';', '<', '>', '(', '`']),
        };
        let check = || syntax::check(&self.options.directory, &command.words());
        Ok(is_single.then(check).flatten())
    }

    /// What to ask about what a Go program is built from.
    fn asks(&self, commands: &Commands, plan: Option<&Plan>, tmp: Option<&str>) -> Vec<Question> {
        let default = || self.builds_as_air().then(|| air::default_cmd(tmp));
        match (plan, commands.cmd.clone().or_else(default)) {
            (Some(plan), _) => plan.asks.clone(),
            (None, Some(cmd)) => project::go::questions(&cmd, &self.options.directory),
            (None, None) => Vec::new(),
        }
    }

    /// `run.debug`, as flags of Go's linker.
    fn debug(&mut self, kind: &Kind, has_cmd: bool, env: &Environment) -> Result<&'static str> {
        let key = "run.debug";
        let ldflags = self.one_of(key, &[("on", COMPRESSES_NOT), ("off", "-w")])?;
        if !self.document.has(key) {
            return Ok(ldflags);
        }
        let flags = &self.options.selection.flags;
        let why = match kind {
            _ if has_cmd || self.air_mode => "the build command is configured",
            Kind::Go(_) if project::go::links_by_default(flags, &goflags(env)) => {
                return Ok(ldflags);
            }
            Kind::Go(_) => "GOFLAGS, or a flag, sets -ldflags",
            Kind::Cargo(_) => "Cargo's profiles decide; set debug = false in [profile.dev]",
            Kind::Unknown => "it only applies to Go programs",
        };
        // A written default needs no warning.
        if ldflags != COMPRESSES_NOT {
            self.warnings.push(format!("{key} has no effect: {why}"));
        }
        Ok(ldflags)
    }

    /// Takes the rest of the plan: its directories must not be too many, its warnings
    /// are the configuration's, and what it builds may be started as by `cargo run`.
    fn take_over(&mut self, plan: Option<&mut Plan>, program: &Program) -> Result<Option<Launch>> {
        let Some(plan) = plan else { return Ok(None) };
        for root in &plan.roots {
            self.refuse_too_much(root)?;
        }
        self.warnings.append(&mut plan.warnings);
        Ok(plan.launch.take().filter(|_| matches!(program, Program::Built(_))))
    }

    fn stages(
        &self,
        commands: &Commands,
        plan: Option<&Plan>,
        stop_on_error: bool,
        tmp: Option<&str>,
    ) -> Vec<Stage> {
        let tolerated = self.air_mode && !stop_on_error;
        let pre_cmd = commands.pre_cmd.iter().cloned();
        let mut stages: Vec<Stage> =
            pre_cmd.map(|text| Stage { tolerated, ..Stage::shell(text) }).collect();
        let default_cmd = self.builds_as_air().then(|| air::default_cmd(tmp));
        if let (None, Some(default)) = (&commands.cmd, &default_cmd) {
            self.document.assume("build.cmd", default.clone());
        }
        if let Some(text) = commands.cmd.clone().or(default_cmd) {
            stages.push(Stage::shell(text));
        } else if let Some(plan) = plan {
            self.document.assume("build.cmd", plan.label.clone());
            let target = match &plan.makes {
                Makes::CargoTarget(target) => Some(target.clone()),
                Makes::File(_) | Makes::Nothing => None,
            };
            stages.push(Stage {
                command: Command::Argv(plan.build.clone()),
                label: plan.label.clone(),
                tolerated: false,
                messages_of: target,
                answers: false,
            });
        }
        stages
    }

    /// Air makes its `tmp_dir` in any case; here something must name it.
    fn needs_tmp_dir(
        &self,
        commands: &Commands,
        runs: &ProgramKeys,
        tmp: Option<&str>,
        plan: Option<&Plan>,
    ) -> bool {
        let name = tmp.unwrap_or("tmp").trim_end_matches('/').trim_start_matches("./");
        let defaults = commands.cmd.is_none() || !runs.says_something();
        let mut texts = commands.pre_cmd.iter().chain(&commands.cmd).chain(&commands.post_cmd);
        let named = texts.any(|text| text.contains(name)) || runs.mentions(name);
        match plan {
            Some(plan) => matches!(plan.makes, Makes::File(_)),
            None => self.builds_as_air() && (defaults || named),
        }
    }

    fn log(&self, tmp_dir: &Path) -> Result<Option<Log>> {
        let written = self.string("build.log")?;
        let is_chosen = written.is_some();
        if self.air_mode {
            self.document.assume("build.log", air::LOG);
        }
        let name = written.or_else(|| self.air_mode.then(|| air::LOG.to_owned()));
        Ok(name.map(|name| Log { path: absolute(tmp_dir, Path::new(&name)), is_chosen }))
    }

    fn spare(&self) -> Result<Vec<String>> {
        self.document.assume("spare", SPARED.map(String::from).to_vec());
        let written = self.strings("spare")?.unwrap_or_else(|| vec![DEFAULTS.to_owned()]);
        let spare: Vec<String> = written
            .into_iter()
            .flat_map(
                |one| if one == DEFAULTS { SPARED.map(String::from).into() } else { vec![one] },
            )
            .collect();
        match Spare::new(&spare) {
            Ok(_) => Ok(spare),
            Err((pattern, reason)) => {
                let expected = format!("a glob on command lines: {reason}");
                Err(self.document.wrong_item("spare", &pattern, expected))
            }
        }
    }

    fn environment(&self, root: &Path, kind: &Kind) -> Result<Environment> {
        let files = self.strings("env_files")?.unwrap_or_default();
        let files = files.iter().map(|file| absolute(root, Path::new(file.trim()))).collect();
        let directory = &self.options.directory;
        let is_command = self.options.command.is_some();
        // Cargo's and Go's own programs need none of these.
        let is_extended = !self.air_mode && (is_command || *kind == Kind::Unknown);
        let search = if is_extended { search::own_directories(directory) } else { Vec::new() };
        Ok(Environment { files, inline: self.document.pairs("env")?, search })
    }

    // How to run

    fn entrypoint(&self) -> Result<Option<Vec<String>>> {
        let key = "build.entrypoint";
        match self.document.one_or_many(key, self.air_mode)? {
            None => Ok(None),
            Some(OneOrMany::Many(words)) => {
                Ok(words.first().is_some_and(|first| !first.trim().is_empty()).then_some(words))
            }
            Some(OneOrMany::One(text)) if self.air_mode => Ok(non_empty(text).map(|one| vec![one])),
            Some(OneOrMany::One(text)) => match shlex::split(&text) {
                Some(words) => Ok((!words.is_empty()).then_some(words)),
                None => Err(self.document.wrong(key, "a command line with its quotes closed")),
            },
        }
    }

    /// A command of the command line, whose program exists, or is yet to be built.
    fn command(&self, command: &Command) -> Result<Command> {
        let Command::Argv(argv) = command else { return Ok(command.clone()) };
        let Some(first) = argv.first() else { return Ok(command.clone()) };
        let name = first.to_string_lossy();
        let mut argv = argv.clone();
        // (`./x` has two.)
        if Path::new(first).components().count() > 1 {
            let path = absolute(&self.options.directory, Path::new(first));
            let is_built = self.options.keys.iter().any(|(key, _)| key == "build.cmd");
            let is_made = is_built && !path.exists();
            if is_made || search::on_path(&path).is_some() {
                argv[0] = path.into();
                return Ok(Command::Argv(argv));
            }
            let (why, remedy) = if path.is_file() {
                ("is not executable", format!("chmod +x {name}"))
            } else {
                ("no such file", "name a program, as in `hotrun node server.js`".to_owned())
            };
            return Err(Error::usage(path.display(), why).remedy(remedy));
        }
        let search_path = search::path(&self.options.directory);
        if search::found_in(&search_path, first).is_some() {
            return Ok(Command::Argv(argv));
        }
        let error = Error::usage(name.as_ref(), "command not found");
        if self.options.directory.join(first).is_file() {
            return Err(error.remedy(format!("to run the file here: `hotrun ./{name}`")));
        }
        Err(match search::nearest(&search_path, &name) {
            Some(near) => error.remedy(format!("did you mean `{near}`?")),
            None => error.remedy("install it, or give its path"),
        })
    }

    fn program(&self, keys: ProgramKeys, root: &Path, makes: Option<&Makes>) -> Program {
        let extra = &self.options.args;
        let mut args: Vec<OsString> = keys.args.into_iter().map(OsString::from).collect();
        if let Some(text) = keys.full_bin {
            args.extend(extra.iter().cloned());
            return Program::Command(Command::Shell(text, args));
        }
        let words = keys.entrypoint.or(keys.bin.map(|bin| vec![bin]));
        if let Some(words) = words {
            let mut argv: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            if Path::new(&argv[0]).components().count() > 1 {
                argv[0] = absolute(root, Path::new(&argv[0])).into();
            }
            argv.append(&mut args);
            argv.extend(extra.iter().cloned());
            return Program::Command(Command::Argv(argv));
        }
        args.extend(extra.iter().cloned());
        match makes {
            Some(Makes::CargoTarget(_)) => Program::Built(args),
            Some(Makes::File(path)) => {
                args.insert(0, path.into());
                Program::Command(Command::Argv(args))
            }
            Some(Makes::Nothing) | None => Program::None,
        }
    }

    fn run(&mut self, program: Program) -> Result<Run> {
        let interrupt = self.boolean("build.send_interrupt", false)?;
        let default = if interrupt { Signal::SIGINT } else { Signal::SIGTERM };
        let signal = self.string("run.signal")?;
        self.document.assume("run.signal", &default.as_str()["SIG".len()..]);
        let signal = match signal {
            None => default,
            Some(name) => signal_named(&name).ok_or_else(|| {
                self.document.wrong("run.signal", "a signal's name, for example \"TERM\"")
            })?,
        };
        let rerun = self.boolean("build.rerun", false)?;
        let rerun_delay = self.duration("build.rerun_delay", RERUN_DELAY)?;
        let on_exit = self.string("run.on_exit")?;
        self.document.assume("run.on_exit", if rerun { "restart" } else { "wait" });
        let on_exit = match on_exit.as_deref() {
            _ if self.options.once => OnExit::Quit,
            None if rerun => OnExit::Restart,
            None | Some("wait") => OnExit::Wait,
            Some("restart") => OnExit::Restart,
            Some("quit") => OnExit::Quit,
            Some(_) => {
                let expected = "\"wait\", \"restart\" or \"quit\"";
                return Err(self.document.wrong("run.on_exit", expected));
            }
        };
        let stdin = self.one_of(
            "run.stdin",
            &[("auto", Stdin::Auto), ("app", Stdin::App), ("null", Stdin::Null)],
        )?;
        let mode =
            self.one_of("run.mode", &[("restart", Mode::Restart), ("handover", Mode::Handover)])?;
        let rolls_back =
            self.one_of("run.on_failed_start", &[("wait", false), ("rollback", true)])?;
        let tty = self.one_of("run.tty", &[("inherit", Tty::Inherit), ("pty", Tty::Pty)])?;
        if tty == Tty::Pty && stdin == Stdin::App {
            let expected =
                "\"null\" or unset with run.tty = \"pty\", where the program has no input";
            return Err(self.document.wrong("run.stdin", expected));
        }
        let (grace, is_grace_chosen) = self.grace()?;
        let is_airs = self.air_mode && !is_grace_chosen;
        let restart_grace = if is_airs { RESTART_GRACE_OF_AIR } else { grace };
        Ok(Run {
            program,
            fallback: None,
            is_assumed: false,
            mode,
            rolls_back,
            signal,
            scope: self
                .one_of("run.stop_scope", &[("group", Scope::Group), ("leader", Scope::Leader)])?,
            stdin,
            tty,
            grace,
            restart_grace,
            is_grace_chosen,
            on_exit,
            rerun_delay: rerun.then_some(rerun_delay),
            restart_unchanged: self.boolean("run.restart_unchanged", false)?,
            port: self.port()?,
        })
    }

    fn port(&self) -> Result<Option<Port>> {
        let expected = "a number from 1 to 65535, or \"auto\"";
        let wrong = || self.document.wrong("run.port", expected);
        match self.document.number_or_text("run.port", expected)? {
            None | Some(NumberOrText::Number(0)) => Ok(None),
            Some(NumberOrText::Text(text)) if text.is_empty() => Ok(None),
            Some(NumberOrText::Text(text)) if text == "auto" => Ok(Some(Port::Auto)),
            Some(NumberOrText::Text(_)) => Err(wrong()),
            Some(NumberOrText::Number(port)) => match u16::try_from(port) {
                Ok(port) => Ok(Some(Port::Number(port))),
                Err(_) => Err(wrong()),
            },
        }
    }

    fn warn_of_rollback(&mut self, run: &Run) {
        if run.rolls_back && matches!(run.program, Program::Command(Command::Shell(..))) {
            self.warnings.push(
                "run.on_failed_start = \"rollback\" has no effect: a shell runs the program, so \
                 hotrun does not know which file to keep; set build.entrypoint"
                    .to_owned(),
            );
        }
    }

    /// The grace period of a program, and whether it is configured.
    fn grace(&mut self) -> Result<(Duration, bool)> {
        let grace = self.duration("build.kill_delay", GRACE)?;
        // `air init` writes "0s", which is no choice of the user's.
        if self.air_mode && grace.is_zero() {
            return Ok((GRACE, false));
        }
        if self.air_mode && grace < Duration::from_millis(1) {
            self.warnings.push(format!(
                "build.kill_delay is {grace:?}, so the program is killed at once; for milliseconds \
                 write \"500ms\""
            ));
        }
        let is_written = self.document.has("build.kill_delay");
        Ok((grace, is_written))
    }

    // How to talk

    fn talk(&self) -> Result<Talk> {
        let color = match self.string("color.mode")?.as_deref() {
            None => None,
            Some("auto") => Some(Color::Auto),
            Some("always") => Some(Color::Always),
            Some("never") => Some(Color::Never),
            Some(_) => {
                let expected = "\"auto\", \"always\" or \"never\"";
                return Err(self.document.wrong("color.mode", expected));
            }
        };
        // Read by air as well, and used by it as little.
        self.string("color.app")?;
        let paint = |key| Ok(self.string(key)?.map(|name| air::ansi_color(&name)));
        let colors = Colors {
            main: paint("color.main")?,
            watcher: paint("color.watcher")?,
            build: paint("color.build")?,
            runner: paint("color.runner")?,
        };
        let main_only = self.boolean("log.main_only", false)?;
        let silent = self.boolean("log.silent", false)?;
        let clear = self.boolean("screen.clear_on_rebuild", false)?;
        let keep_scroll = self.boolean("screen.keep_scroll", true)?;
        Ok(Talk {
            color,
            colors,
            time: self.boolean("log.time", false)?,
            loudness: match (silent, main_only) {
                (true, _) => Loudness::Silent,
                (false, true) => Loudness::MainOnly,
                (false, false) => Loudness::All,
            },
            clear: match (clear, keep_scroll) {
                (false, _) => Clear::Never,
                (true, true) => Clear::Screen,
                (true, false) => Clear::Scrollback,
            },
            pids: self.boolean("log.pids", false)?,
            compact: self.boolean("log.compact", false)?,
            title: self.boolean("screen.title", false)?,
            bell: self.boolean("screen.bell", false)?,
            notify: self.boolean("screen.notify", false)?,
            banner: self.string("misc.startup_banner")?,
        })
    }

    // Values

    pub(super) fn strings(&self, key: &'static str) -> Result<Option<Vec<String>>> {
        self.document.strings(key)
    }

    /// An empty string is an unset one, as in air.
    pub(super) fn string(&self, key: &'static str) -> Result<Option<String>> {
        Ok(self.document.text(key)?.and_then(non_empty))
    }

    fn alias_string(&self, key: &'static str) -> Result<Option<String>> {
        if self.air_mode { self.string(key) } else { Ok(None) }
    }

    /// One of these words; the first is the default.
    fn one_of<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Result<T> {
        let written = self.string(key)?;
        self.document.assume(key, words[0].0);
        let word = written.as_deref().unwrap_or(words[0].0);
        words.iter().find(|(one, _)| *one == word).map(|(_, meant)| *meant).ok_or_else(|| {
            let all: Vec<String> = words.iter().map(|(one, _)| format!("{one:?}")).collect();
            self.document.wrong(key, format!("one of {}", all.join(", ")))
        })
    }

    fn has_no_effect(&mut self, key: &'static str, why: &str) -> Result<()> {
        if self.air_mode && self.document.boolean(key)?.is_some() {
            self.warnings.push(format!("{key} has no effect: {why}"));
        }
        Ok(())
    }

    pub(super) fn boolean(&self, key: &'static str, default: bool) -> Result<bool> {
        self.document.assume(key, default);
        Ok(self.document.boolean(key)?.unwrap_or(default))
    }

    pub(super) fn duration(&self, key: &'static str, default: Duration) -> Result<Duration> {
        self.document.assume(key, duration::written(default));
        let written = self.document.duration(key, keys::unit(key, self.air_mode))?;
        Ok(written.unwrap_or(default))
    }
}

/// The value of `GOFLAGS` for a build.
fn goflags(env: &Environment) -> String {
    // The environment of hotrun overrides what is configured.
    let configured = || {
        let all = env.read().unwrap_or_default();
        all.into_iter().find(|(name, _)| name == "GOFLAGS").map(|(_, value)| value)
    };
    match std::env::var("GOFLAGS") {
        Ok(set) => set,
        Err(_) => configured().unwrap_or_else(project::go::goflags),
    }
}

/// The signal of this name, with or without `SIG`, in whatever case.
pub(super) fn signal_named(name: &str) -> Option<Signal> {
    let full = name.trim().to_uppercase();
    let full = if full.starts_with("SIG") { full } else { format!("SIG{full}") };
    Signal::from_str(&full).ok()
}

fn non_empty(text: String) -> Option<String> {
    (!text.trim().is_empty()).then_some(text)
}

fn nothing_to_do(directory: &Path, document: &Document) -> Error {
    let three_lines = "[build]\ncmd = \"make app\"\nentrypoint = \"./app\"";
    if document.is_read() {
        let unknown = document.in_unknown_tables();
        return Error::usage(
            directory.display(),
            "the configuration sets neither a build command nor a program",
        )
        .remedy([unknown, vec![format!("add to it:\n{three_lines}")]].concat().join("\n"));
    }
    Error::usage(directory.display(), "no project that hotrun knows, and no configuration").remedy(
        format!(
            "name a command: `hotrun node server.js`, `hotrun -x 'make && ./app'`;\n\
             or write hotrun.toml:\n{three_lines}"
        ),
    )
}
