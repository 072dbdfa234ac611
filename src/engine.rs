//! The main loop. It takes messages from one inbox, lets the [`Core`] decide, and performs the
//! effects.
//!
//! The loop itself decides nothing, and performing an effect never waits. Work that takes time runs
//! in a task, which reports to the inbox.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use crate::artifact::Copied;
use crate::config::{
    self, Action, Color, Command, Extensions, Options, Program, Project, Scope, Spare, Stage,
};
use crate::control::Server;
use crate::core::attribution::{BuildEnd, Outcome, Window};
use crate::core::{ABANDONED, Core, Effect, Event, Input, Lived, ServiceEffect};
use crate::error::{Error, Result};
use crate::event::{
    Cause, Ended, Mode, Order, Policy, Proc, Role, Source, Timer, name_paths, printable, quoted,
};
use crate::filter::{Reason, Verdict};
use crate::listen::ListenerShut;
use crate::listen::Listeners;
use crate::notice::{Notice, Problem};
use crate::present::{self, Present};
use crate::process::Attachment::OutputOnly;
use crate::process::FromProcess;
use crate::process::{self, Freeing, Job, Printing, Processes};
use crate::project::Kind;
use crate::record::{Limit, Purpose, Record};
use crate::recording::{self, Recorded, Recorder};
use crate::report::Report;
use crate::report::console::Console;
use crate::signal;
use crate::signal::FromSignal;
use crate::watch::{Found, FromWatch};
use crate::watch::{Watch, coarse_now};
use front::Front;
use message::{FromEngine, Message, Sender};

mod host;
mod service;
mod artifacts;
mod checks;
mod display;
mod files;
mod first;
mod launch;
mod listing;
mod paused;
mod ports;
mod program;
mod publish;
mod saves;
mod serving;
mod front;
mod sockets;
mod terminal;
mod message;
mod table;

use display::Display;
use host::Host;
use publish::Publisher;
use saves::moment;
use service::ServiceHost;
use table::{Entry, Table};
use terminal::Seat;

/// Number of runs in a row, triggered by files that changed during the previous run, after which
/// hotrun warns about the rule and delays its next run.
const ROUNDS_OF_RULES: u32 = 5;
/// Maximum length of `HOTRUN_CHANGED`, in bytes.
const MAX_CHANGED: usize = 4096;
/// Delay after which an app that listens at all is expected to listen.
const KNOWS_PORTS: Duration = Duration::from_secs(2);
/// A build that listens on a port this long after its start is assumed never to exit.
const ENDLESS: Duration = Duration::from_secs(5);
/// The setting that limits how long a program may take to exit.
const KILL_DELAY: &str = "build.kill_delay";
/// The same for a restart that waits for the program, with the alternative.
const KILL_DELAY_OR_MODE: &str = "build.kill_delay; run.mode = \"handover\" does not wait";
/// Grace period that is left to an exiting program when a newer save arrives.
const HURRIED_GRACE: Duration = Duration::from_secs(1);
/// Time between `run.signal`, where it follows SIGINT, and SIGKILL.
const BEFORE_KILL: Duration = Duration::from_secs(1);
/// Time that guardians have to exit at shutdown, when their process trees are gone.
const GUARDIANS_TIMEOUT: Duration = Duration::from_secs(1);
/// Timeout for writing the last lines of output.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A message that is printed only once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Told {
    /// A program may have bound the port itself. Reset when a program has proven good, or when the
    /// listeners change.
    MayHaveBound,
    /// Possibly no program accepts on this listener. Reset when the listeners change.
    NobodyOn(String),
    /// Apps cannot signal readiness, since there is no socket for it.
    NoSocket,
    /// An artifact could not be kept.
    NotKept,
    /// The variables that `cargo run` sets for the program are unknown.
    NotGiven,
    /// A program may want the port of the proxy.
    ProxyHasPort,
    /// A program listens on this port instead of the expected one.
    OtherPort(u16),
}

/// How a file has changed since the app was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    Changed,
    /// The file did not exist then. If it is deleted again, the app has missed nothing.
    Made,
}

/// Output options of the command line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Talk {
    /// `-q`.
    pub quiet: bool,
    /// `--color`, which overrides the configuration.
    pub color: Option<Color>,
}

/// Runs hotrun until it exits, and returns its exit code.
pub(crate) async fn run(options: Options, talk: Talk) -> Result<u8> {
    process::terminal::block_signals();
    let console = Console::new()?;
    let (sender, mut inbox) = unbounded_channel();
    let sender = Sender::new(sender);
    let processes = sender.inbox(|(proc, report)| Message::Process(proc, report));
    let mut processes = Processes::new(processes, console.clone())?;
    signal::listen(&sender.inbox(Message::Signal))?;
    let Some(lock) = unless_interrupted(&mut inbox, first::lock(&options)).await? else {
        return Ok(0);
    };
    processes.prepare(&options.directory);
    let helper = processes.helper();
    let config = unless_interrupted(&mut inbox, first::load(&options, &helper)).await;
    drop(helper);
    let Ok(Some(config)) = config else {
        processes.end(GUARDIANS_TIMEOUT).await;
        return config.map(|_| 0);
    };
    let (project, service) = config.into_only();
    let spare = Spare::new(&service.recipe.spare).unwrap_or_default();
    let swept = process::sweep(&options.directory, &spare).await;
    let mut listeners = Listeners::new(sender.inbox(Message::Listener));
    sockets::open_listeners(&mut listeners, &project, &service).await?;
    let front = Front::open(&project, &service, sender.inbox(Message::Proxy)).await?;
    let artifacts = artifacts::swept(&service, sender.inbox(Message::Artifact));
    let publisher = Publisher::default();
    let control = sender.inbox(Message::Control);
    let control = Server::start(&options.directory, control, publisher.present());
    let watch = sender.inbox(Message::Watch);
    let watch = (!project.once).then(|| Watch::start(service.watch.clone(), watch)).transpose()?;
    let base = service.watch.base.clone();
    let report = Report::new(talk.quiet, talk.color, &project.talk, base, console.clone());
    let policy = service.policy(&project);
    let seat = Seat::open();
    let recorder = recording::file()
        .map(|path| Recorder::begin(&path, policy, seat.terminal()))
        .transpose()?;
    let ports = process::known_ports(&options.directory);
    let mut engine = Engine {
        core: Core::of_one(policy),
        service: ServiceHost::new(service, listeners, front, artifacts, ports),
        table: Table::default(),
        publisher,
        host: Host {
            options,
            project,
            next: None,
            loading: None,
            processes,
            watch,
            report,
            display: Display::default(),
            seat,
            has_heard_ctrl_c: false,
            recorder,
            asked: None,
            _control: control,
            lock,
            told: HashSet::new(),
            sender,
        },
    };
    engine.prepare_tmp_dir()?;
    engine.greet(swept);
    engine.tell_listeners();
    engine.tell_proxy();
    engine.hear_terminal();
    let code = engine.run(&mut inbox).await;
    engine.leave_terminal();
    engine.clean();
    let is_forced = code == ABANDONED;
    engine.host.processes.end(if is_forced { Duration::ZERO } else { GUARDIANS_TIMEOUT }).await;
    console.flush(FLUSH_TIMEOUT).await;
    Ok(code)
}

/// Returns the outcome of the task, or `None` if a shutdown is requested first.
async fn unless_interrupted<T>(
    inbox: &mut UnboundedReceiver<Message>,
    task: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    tokio::select! {
        outcome = task => outcome.map(Some),
        () = until_interrupted(inbox) => Ok(None),
    }
}

/// Waits for a shutdown request. Before the engine exists, no other message matters, except a
/// request to suspend.
async fn until_interrupted(inbox: &mut UnboundedReceiver<Message>) {
    loop {
        match inbox.recv().await {
            None | Some(Message::Signal(FromSignal::CtrlC | FromSignal::Interrupted)) => return,
            Some(Message::Signal(FromSignal::Suspend)) => process::stop_here(),
            Some(_) => {}
        }
    }
}

/// Interprets messages for the core, and performs what it decides.
struct Engine {
    core: Core,
    host: Host,
    /// The only service, so far.
    service: ServiceHost,
    /// Everything that was started and is not gone.
    table: Table,
    publisher: Publisher,
}

impl Engine {
    async fn run(&mut self, inbox: &mut UnboundedReceiver<Message>) -> u8 {
        let mut message = Message::Engine(FromEngine::Start);
        loop {
            for event in self.interpret(message) {
                if let Some(code) = self.step(event) {
                    return code;
                }
            }
            self.report_fallback();
            self.release_lines_soon();
            self.show_who_serves();
            self.publisher.publish(|| self.present());
            message = inbox.recv().await.expect("the engine holds a sender itself");
        }
    }

    fn step(&mut self, event: Event) -> Option<u8> {
        let span = tracing::debug_span!("update", number = self.publisher.newest());
        let _entered = span.entered();
        tracing::debug!(?event);
        self.record(|| Recorded::Core(event.clone()));
        let gone = match event {
            Event::Service(_, Input::Gone(proc)) => Some(proc),
            Event::Service(..) | Event::Ordered(_) | Event::Interrupted(_) | Event::Broken(_) => {
                None
            }
        };
        let (core, effects) = self.core.clone().step(event);
        self.core = core;
        if let Some(proc) = gone {
            self.table.mark_gone(proc);
        }
        for effect in effects {
            tracing::debug!(?effect);
            if let Some(code) = self.perform(effect) {
                return Some(code);
            }
        }
        if let Some(proc) = gone {
            self.host.processes.forget(proc);
            self.table.remove(proc);
        }
        None
    }

    /// Adds an event to the recording, if there is one.
    fn record(&mut self, event: impl FnOnce() -> Recorded) {
        let recorded = self.host.recorder.as_ref().map(|recorder| recorder.record(event()));
        if let Some(Err(error)) = recorded {
            self.host.recorder = None;
            self.say(Problem::Failed(error));
        }
    }

    /// The app that currently represents the program.
    fn app(&self) -> Option<Proc> {
        self.core.snapshot().only().app
    }

    /// Whether a build is running that was not cancelled.
    fn is_building(&self) -> bool {
        self.core.snapshot().only().is_building
    }

    // Messages to events

    fn spawned(&mut self, proc: Proc, pid: i32) {
        if let Some(entry) = self.table.get_mut(proc) {
            entry.pid = Some(pid);
            // Each command leads a group of its own.
            entry.group = Some(Pid::from_raw(pid));
        }
        if let Some(probe) = self.table.probe(proc) {
            probe.began(pid);
        }
        self.terminal_was_taken(proc);
        if self.table.is_app(proc) && self.host.project.talk.pids {
            self.say(Notice::Started(proc));
        }
        self.watch_for_lock(proc, Pid::from_raw(pid));
    }

    /// Notes what a message says, and returns what it means for the core.
    fn interpret(&mut self, message: Message) -> Vec<Event> {
        self.hold_lines();
        self.notice_foreground();
        match message {
            Message::Watch(report) => self.heard_of_watch(report),
            Message::Process(proc, report) => self.heard_of_process(proc, report),
            Message::Probe(app, report) => self.heard_of_probe(app, report),
            Message::Terminal(report) => self.heard_of_terminal(report),
            Message::Signal(signal) => self.heard_signal(signal),
            Message::Control(request) => self.requested(request),
            Message::Listener(ListenerShut) => {
                self.repair_listeners();
                Vec::new()
            }
            Message::Proxy(report) => {
                self.heard_of_proxy(report);
                Vec::new()
            }
            Message::Artifact(Copied(number, outcome)) => {
                self.copied(number, &outcome);
                Vec::new()
            }
            Message::Engine(report) => self.heard_of_engine(report),
        }
    }

    fn heard_of_watch(&mut self, report: FromWatch) -> Vec<Event> {
        match report {
            FromWatch::Changed(burst) => return self.saved(burst),
            FromWatch::Known(files, is_all) => self.service.attribution.known(files, is_all),
            FromWatch::Watching(found) => {
                self.introduce(Some(found.files));
                self.warn_if_nothing_is_watched(found);
            }
            FromWatch::Problem(problem) => self.say(Problem::Watching(problem)),
            FromWatch::Broken(error) => {
                self.host.report.error_in_order(&error);
                return vec![Event::Broken(error.code())];
            }
        }
        Vec::new()
    }

    fn heard_of_process(&mut self, proc: Proc, report: FromProcess) -> Vec<Event> {
        match report {
            FromProcess::Running { label, is_last, is_found, announced } => {
                let line = is_found.then_some(label.as_str());
                self.command_starts(proc, line, is_last, announced);
            }
            FromProcess::Spawned(pid) => self.spawned(proc, pid),
            FromProcess::Stopped(signal) => self.stopped(proc, signal),
            FromProcess::Succeeded(pid) => self.succeeded(proc, pid),
            FromProcess::Exited(ended) => {
                // Nothing answers its requests any more.
                self.drained(proc);
                let exited = self.exited(proc, ended.clone()).into_iter().map(Event::from);
                let because = self.terminal_is_free(proc, &ended);
                self.look_who_holds_the_port(proc, &ended);
                self.explain_quick_end(proc, &ended);
                self.repair_listeners();
                return because.into_iter().chain(exited).collect();
            }
            FromProcess::Gone => {
                self.service.listeners.gone(proc);
                self.repair_listeners();
                return vec![Input::Gone(proc).into()];
            }
            FromProcess::Overdue if self.is_slow_check(proc) => self.host.processes.kill(proc),
            FromProcess::Overdue => return vec![Input::Overdue(proc).into()],
            FromProcess::Output(messages) => {
                if let Some(entry) = self.table.get_mut(proc) {
                    entry.messages = messages;
                }
            }
            FromProcess::Printed(more) => {
                if let Some(entry) = self.table.get_mut(proc) {
                    entry.printed.extend(more);
                }
            }
            FromProcess::Answered(answer) => self.answered(proc, answer),
            FromProcess::Tolerated(command, ended) => {
                self.say(Notice::Tolerated { command, ended });
            }
            FromProcess::LogMatched => {
                if let Some(probe) = self.table.probe(proc) {
                    probe.printed();
                }
            }
            FromProcess::AddressInUse(ports) => {
                if let Some(entry) = self.table.get_mut(proc) {
                    entry.taken = Some(ports);
                }
            }
            FromProcess::Listens(ports) => self.listens(proc, ports),
            FromProcess::Say(notice) => self.say(notice),
        }
        Vec::new()
    }

    fn heard_of_engine(&mut self, report: FromEngine) -> Vec<Event> {
        match report {
            FromEngine::Start => {
                self.begin_update();
                return vec![Input::Saved(Cause::Start).into()];
            }
            FromEngine::Due(timer) => return vec![Input::Due(timer).into()],
            FromEngine::Delayed(input) => return vec![input.into()],
            FromEngine::Fallback(is_there) => return vec![Input::Fallback(is_there).into()],
            FromEngine::ChangedLate => return self.saved_late(),
            FromEngine::Loaded => return self.loaded(),
            FromEngine::Listed => self.listed(),
            FromEngine::Examined(evidence) => return self.examined(&evidence),
            FromEngine::NotStarted(proc, why) => {
                let ended = FromProcess::Exited(Ended::NotStarted(why));
                let mut events = self.heard_of_process(proc, ended);
                events.extend(self.heard_of_process(proc, FromProcess::Gone));
                return events;
            }
            FromEngine::DrainOver(app) => self.drained(app),
            FromEngine::Proven(app) => return self.proven(app),
            FromEngine::AskAgain(app) => {
                if self.table.role(app).is_some() {
                    self.host.processes.pass(app, self.service.config.recipe.run.signal);
                }
            }
            FromEngine::PortFreed => return vec![Event::Ordered(Order::Restart)],
            FromEngine::Tick => self.show_time_of_build(),
            FromEngine::Introduce => self.introduce(None),
            FromEngine::LookAtTerminal => self.look_at_terminal_again(),
            FromEngine::TerminalAnnounced(proc) => self.terminal_was_announced(proc),
            FromEngine::LoanDue(proc) => self.loan_is_due(proc),
            FromEngine::TerminalContinued => self.continued(),
            FromEngine::HasBegun => self.has_begun(),
            FromEngine::Say(notice) => self.say(notice),
        }
        Vec::new()
    }

    fn exited(&mut self, proc: Proc, ended: Ended) -> Vec<Input> {
        if self.host.display.ended(proc) {
            self.host.report.console().erase_for_now();
        }
        let (mut messages, mut printed) = (Vec::new(), Vec::new());
        if let Some(entry) = self.table.get_mut(proc) {
            entry.ended = Some(Instant::now());
            entry.probe = None;
            messages = std::mem::take(&mut entry.messages);
            printed = std::mem::take(&mut entry.printed);
        }
        self.service.artifacts.left(proc);
        if let Some(window) = self.service.window.as_mut().filter(|window| window.proc == proc) {
            window.end(moment());
        }
        let is_overtaken = self.table.is_dismissed(proc);
        match self.table.role(proc) {
            Some(Role::Build) if self.table.purpose(proc) == Purpose::Syntax => {
                let checked = self.checked(ended, is_overtaken, self.lived(proc));
                if !is_overtaken {
                    if !checked.succeeded() {
                        self.diagnose(proc, &printed);
                    }
                    self.note_build(proc, &checked);
                }
                return vec![Input::Exited(proc, checked, self.how_long_lived(proc))];
            }
            Some(Role::Build) => {}
            role @ (Some(Role::Rules | Role::App | Role::Hook) | None) => {
                if role == Some(Role::Rules) {
                    self.service.rules_failed = !ended.succeeded() && !is_overtaken;
                }
                return vec![Input::Exited(proc, ended, self.how_long_lived(proc))];
            }
        }
        let ended = if ended.succeeded() { self.check_artifact(&messages) } else { ended };
        if ended.succeeded() {
            self.ask_what_was_read();
        }
        if is_overtaken {
            if !self.core.is_ending() && !self.service.builds_serve {
                self.say(Notice::Cancelled(proc));
            }
            self.service.attribution.build_cancelled();
            return vec![Input::Exited(proc, ended, self.how_long_lived(proc))];
        }
        if ended.succeeded() {
            self.remember_what_was_written();
        }
        self.ask_what_is_listed();
        self.service.fingerprints.build_ended();
        let failed = (!ended.succeeded()).then(|| self.diagnose(proc, &printed));
        self.note_build(proc, &ended);
        self.write_log(failed.as_deref());
        self.build_ended(proc, ended)
    }

    /// Notes that something was saved or requested.
    fn begin_update(&mut self) {
        self.publisher.begin_update();
        if !self.policy().builds {
            self.publisher.app_gets_newest();
        }
    }

    /// Notes that an app reflects what this build has read, as the program is the same.
    fn app_has_read(&mut self, app: Proc, build: Proc) {
        let update = self.table.get(build).map(|build| build.update);
        if let (Some(update), Some(app)) = (update, self.table.get_mut(app)) {
            app.update = update;
        }
    }

    /// Notes the result of a build that was not cancelled.
    fn note_build(&mut self, build: Proc, ended: &Ended) {
        let Some(entry) = self.table.get(build) else { return };
        if ended.succeeded() {
            self.publisher.app_gets(entry.update);
        }
        self.service.last_build = Some(present::Build {
            succeeded: ended.succeeded(),
            update: entry.update,
            ms: u64::try_from(entry.age().as_millis()).unwrap_or(u64::MAX),
            errors: entry.diagnostics.errors,
        });
    }

    /// Whether the last build that was not cancelled failed.
    fn has_build_failed(&self) -> bool {
        self.service.last_build.is_some_and(|build| !build.succeeded)
    }

    /// What others can know now.
    fn present(&self) -> Present {
        let core = self.core.snapshot();
        let service = core.only();
        let app = service.app.and_then(|app| self.table.get(app));
        let is_delayed = self.service.paused_build.cause.is_some()
            || self.service.paused_rules.cause.is_some()
            || self.service.late.is_pending()
            || !self.service.unexamined.is_empty();
        let has_failed = self.has_build_failed() || self.service.rules_failed;
        Present {
            pid: std::process::id(),
            file: self.host.project.file.as_ref().map(|file| file.display().to_string()),
            update: self.publisher.newest(),
            is_paused: core.is_paused,
            is_ending: self.core.is_ending(),
            services: vec![present::Service {
                making: service.outline.making.into(),
                serving: service.outline.serving.into(),
                is_newest: service.is_settled && !is_delayed && !has_failed,
                build: self.service.last_build,
                program: app.and_then(Entry::present),
                proxy: self.service.front.url(),
            }],
        }
    }

    /// Returns the events that follow from the end of a build.
    fn build_ended(&mut self, proc: Proc, ended: Ended) -> Vec<Input> {
        let outcome = if ended.succeeded() {
            let files = self.program_files();
            let outcome = self.service.built.built(&files);
            if outcome == Outcome::Same {
                for file in &files {
                    self.service.artifacts.confirmed(file, self.publisher.reaches_app());
                }
            }
            match outcome {
                // Sources that are run as they are say nothing about what the build wrote.
                Outcome::Same if !files.iter().any(|file| self.is_made_by_builds(file)) => {
                    self.unknown_outcome()
                }
                Outcome::Unknown => self.unknown_outcome(),
                outcome => outcome,
            }
        } else {
            Outcome::Failed
        };
        let BuildEnd { proven, verify, written, pause, confirms } =
            self.service.attribution.build_ended(outcome, Instant::now());
        self.app_has_not_read(written);
        let is_same = outcome == Outcome::Same && !self.service.config.recipe.run.restart_unchanged;
        let needs_none = (confirms || is_same)
            && !self.service.is_wanted
            && self.only_the_compiler_reads_what_changed();
        // A file that the build may not have read was not read by the app either.
        if needs_none {
            self.app_has_not_read(verify.clone());
        }
        let mut events = Vec::new();
        if !proven.is_empty() {
            self.say(Notice::Outputs(proven.into()));
        }
        match pause {
            _ if verify.is_empty() => {}
            None => events.push(Input::FollowUp(Cause::Written(verify))),
            Some(pause) => self.verify_later(verify, pause),
        }
        if !needs_none && outcome != Outcome::Failed {
            self.service.built.replaced();
        }
        let app = self.service.built.app().filter(|_| needs_none && self.env_is_as_it_was());
        events.push(match app {
            Some(app) => {
                self.app_has_read(app, proc);
                Input::BuiltSame { build: proc, app }
            }
            None => Input::Exited(proc, ended, self.how_long_lived(proc)),
        });
        events
    }

    /// The outcome of a build whose program file is unknown. Its writes are seen only if no filter
    /// hides any of them.
    fn unknown_outcome(&self) -> Outcome {
        let watch = &self.service.config.watch;
        let sees_all = watch.extensions == Extensions::Any
            && watch.include_dirs.is_empty()
            && !(watch.gitignore && watch.base.join(".gitignore").exists());
        if sees_all { Outcome::Unknown } else { Outcome::Unseen }
    }

    /// Notes files that changed during the build that has ended: the app was started before that.
    fn app_has_not_read(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            let is_new = self.service.attribution.is_new(&path);
            let how = if is_new { Unread::Made } else { Unread::Changed };
            self.service.unread.entry(path).or_insert(how);
        }
    }

    /// Whether the program itself reads none of the files that have changed since it was started.
    fn only_the_compiler_reads_what_changed(&self) -> bool {
        let matters = |(path, how): &(&PathBuf, &Unread)| {
            **how == Unread::Changed || !self.service.attribution.is_gone(path)
        };
        let unread: Vec<&PathBuf> =
            self.service.unread.iter().filter(matters).map(|(path, _)| path).collect();
        if unread.is_empty() {
            return true;
        }
        let is_cargo = matches!(self.service.config.kind, Kind::Cargo(_));
        let is_go = || self.artifact().is_some_and(|path| program::is_go(&path));
        let has = |extension: &str| {
            unread.iter().all(|path| path.extension().is_some_and(|one| one == extension))
        };
        is_cargo && has("rs") || has("go") && is_go()
    }

    fn last_command_began(&mut self, build: Proc) {
        if let Some(window) = self.service.window.as_mut().filter(|window| window.proc == build) {
            window.last_command_began(moment());
        }
    }

    // Reloading the configuration

    /// The service's configuration that was read last.
    fn newest(&self) -> &config::Service {
        self.host.next.as_ref().map_or(&self.service.config, |(_, service)| service)
    }

    fn reload(&mut self) {
        let (sender, receiver) = oneshot::channel();
        self.host.loading = Some(receiver);
        let (helper, options) = (self.host.processes.helper(), self.host.options.clone());
        let inbox = self.host.sender.clone();
        spawn_local(async move {
            let loaded = config::load_apart(options, &helper).await;
            // A newer reload may have replaced this one.
            if sender.send(loaded).is_ok() {
                inbox.send(FromEngine::Loaded);
            }
        });
    }

    fn loaded(&mut self) -> Vec<Event> {
        let Some(Ok(loaded)) = self.host.loading.as_mut().map(oneshot::Receiver::try_recv) else {
            return Vec::new();
        };
        self.host.loading = None;
        let (project, mut service) = match loaded {
            Ok(config) => config.into_only(),
            Err(error) => {
                self.keep_old_config(error);
                return Vec::new();
            }
        };
        let opened =
            self.open_ahead(&service).and_then(|()| self.service.front.open_ahead(&service));
        if let Err(error) = opened {
            self.keep_old_config(error);
            return Vec::new();
        }
        if project.file != self.host.project.file {
            self.say(Notice::Reading(match &project.file {
                Some(file) => name_paths(std::slice::from_ref(file), &project.directory),
                None => "no configuration file".to_owned(),
            }));
        }
        self.warn_about(&project);
        service.watch.inputs.clone_from(&self.service.config.watch.inputs);
        let asks_the_same = service.asks == self.service.config.asks;
        if asks_the_same {
            service.watch.sources.clone_from(&self.service.config.watch.sources);
        }
        self.service.listing.reconfigured(asks_the_same);
        if let Some(watch) = &self.host.watch {
            watch.configure(service.watch.clone(), coarse_now());
        }
        let is_same = service.recipe == self.service.config.recipe;
        let only_watching = self.host.next.is_none() && is_same;
        let policy = service.policy(&project);
        self.host.next = Some((project, service));
        if only_watching {
            self.take_up_next();
            return Vec::new();
        }
        vec![Input::Reconfigured(policy).into()]
    }

    fn keep_old_config(&self, error: Error) {
        self.say(Problem::ConfigurationKept(error));
    }

    fn policy(&self) -> Policy {
        self.service.config.policy(&self.host.project)
    }

    fn take_up_next(&mut self) {
        if let Some((project, next)) = self.host.next.take() {
            self.service.builds_serve &= self.service.config.recipe.build == next.recipe.build;
            self.service.built.forget_app();
            self.host.project = project;
            self.service.config = next;
            self.service.judge_anew();
            self.configure_proxy();
            if !self.policy().builds {
                self.service.last_build = None;
            }
            self.service.rules_failed &= !self.service.config.watch.rules.is_empty();
            let base = self.service.config.watch.base.clone();
            self.host.report.configure(&self.host.project.talk, base);
            self.host.report.runs_nothing = !self.policy().runs;
            if let Err(error) = self.prepare_tmp_dir() {
                self.say(Problem::Failed(error));
            }
        }
    }

    // Effects

    fn perform(&mut self, effect: Effect) -> Option<u8> {
        match effect {
            Effect::Service(_, effect) => self.perform_for_service(effect),
            Effect::Say(notice) => self.say(notice),
            Effect::Exit(code) => return Some(code),
        }
        None
    }

    fn perform_for_service(&mut self, effect: ServiceEffect) {
        match effect {
            ServiceEffect::TakeUp => self.take_up_next(),
            ServiceEffect::SpawnBuild(proc, cause) => {
                self.spawn_build(proc, &cause);
                self.tick(proc);
            }
            ServiceEffect::SpawnRules(proc, cause) => self.spawn_rules(proc, &cause),
            ServiceEffect::SpawnApp(proc, generation, source) => {
                self.spawn_app(proc, generation, source);
            }
            ServiceEffect::GoBack => self.go_back(),
            ServiceEffect::Kept(app) => self.kept(app),
            ServiceEffect::Refused(refusal) => self.refused(refusal),
            // No process is left that could read other input.
            ServiceEffect::NothingRuns => self.read_keys(),
            ServiceEffect::SpawnHook(proc, index) => self.spawn_hook(proc, index),
            ServiceEffect::Dismiss(proc) => {
                if !self.drains(proc) {
                    self.dismiss(proc);
                }
            }
            ServiceEffect::Kill(proc) => self.host.processes.kill(proc),
            ServiceEffect::Signal(proc, signal) => {
                if let Some(entry) = self.table.get_mut(proc) {
                    entry.signalled = Some(signal);
                }
                self.host.processes.signal(proc, signal);
            }
            ServiceEffect::ArmSpacing(build) => {
                self.arm(Timer::Spacing(build), self.service.config.recipe.build.delay);
            }
            ServiceEffect::ArmBackoff(app, delay) => self.arm(Timer::Backoff(app), delay),
            ServiceEffect::Say(notice) => self.say(notice),
            // The core exits when all services have ended.
            ServiceEffect::Ended(_) => {}
        }
    }

    fn how_long_lived(&self, app: Proc) -> Lived {
        Lived::of(self.lived(app))
    }

    fn lived(&self, app: Proc) -> Duration {
        self.table.get(app).map_or(Duration::ZERO, Entry::age)
    }

    fn spawn_build(&mut self, proc: Proc, cause: &Cause) {
        self.keep_what_is_typed();
        self.service.paused_build.clear();
        self.service.is_wanted |= matches!(cause, Cause::Start | Cause::Config | Cause::Order);
        if self.service.config.recipe.build.stages.is_empty() {
            return self.spawn_check(proc, cause);
        }
        // Before attribution forgets deleted files.
        let is_gone = |path: &Path| self.service.attribution.is_gone(path);
        self.service.listing.build_began(cause.paths(), is_gone);
        let now = Instant::now();
        self.service.verifies = match cause {
            Cause::Written(paths) => {
                self.service.attribution.build_began(paths, now);
                true
            }
            Cause::Start | Cause::Config | Cause::Order => {
                self.service.attribution.wanted();
                self.service.attribution.build_began(&[], now);
                false
            }
            Cause::Save(paths) => {
                self.service
                    .unread
                    .extend(paths.iter().map(|path| (path.clone(), Unread::Changed)));
                self.service.attribution.build_began(&[], now);
                false
            }
        };
        let has_pre_cmd = self.service.config.recipe.build.stages.len() > 1;
        self.service.window = Some(Window::of_build(proc, has_pre_cmd, moment()));
        self.service.changed = cause.paths().to_vec();
        self.service.artifacts.saved(cause.paths());
        let stages = self.service.config.recipe.build.stages.clone();
        self.spawn(proc, Role::Build, None, stages, None, None);
    }

    fn spawn_rules(&mut self, proc: Proc, cause: &Cause) {
        self.service.attribution.rules_began(Instant::now());
        self.service.paused_rules.clear();
        self.service.window = Some(Window::of_rules(proc, moment()));
        self.service.changed = cause.paths().to_vec();
        let stages = self.rule_stages(cause.paths());
        let is_round = std::mem::take(&mut self.service.rules_cause_themselves);
        self.service.rounds_of_rules = if is_round { self.service.rounds_of_rules + 1 } else { 0 };
        if is_round && self.service.rounds_of_rules == ROUNDS_OF_RULES {
            self.say(Problem::RuleCausesItself(cause.paths().to_vec().into()));
        }
        self.spawn(proc, Role::Rules, None, stages, None, None);
    }

    /// The commands for these files, in the order of their rules. A command with `{}` runs once for
    /// each file that exists. Without files, all other commands run, since it is unknown which
    /// files changed.
    fn rule_stages(&self, paths: &[PathBuf]) -> Vec<Stage> {
        let mut stages = Vec::new();
        for (number, rule) in self.service.config.watch.rules.iter().enumerate() {
            let Action::Run { cmd, for_file } = &rule.action else { continue };
            let fits = |path: &&PathBuf| match self.service.filter.judge(path) {
                (_, Reason::Rule(one)) => one == number,
                (Verdict::Ignored, _) => {
                    self.service.filter.rule_of_directory(path) == Some(number)
                }
                _ => false,
            };
            let mut files = paths.iter().filter(fits).peekable();
            let label = |text: &str| format!("{}: {text}", rule.name);
            let is_meant = files.peek().is_some() || paths.is_empty();
            let Some(for_file) = for_file else {
                if is_meant {
                    stages.push(Stage { label: label(cmd), ..Stage::shell(cmd.clone()) });
                }
                continue;
            };
            for file in files.filter(|file| file.exists()) {
                let name = file.strip_prefix(&self.service.config.watch.base).unwrap_or(file);
                let shown = cmd.replace("{}", &quoted(&printable(name)));
                // Keeps a name that begins with a dash from being taken for an option.
                let is_dashed = name.as_os_str().as_bytes().starts_with(b"-");
                let name = if is_dashed { Path::new(".").join(name) } else { name.to_owned() };
                let words = ["/bin/sh", "-c", for_file, "sh"].map(OsString::from);
                let argv = words.into_iter().chain([name.into_os_string()]).collect();
                stages.push(Stage { label: label(&shown), ..Stage::alone(Command::Argv(argv)) });
            }
        }
        stages
    }

    fn spawn_app(&mut self, proc: Proc, generation: u32, source: Source) {
        if let Err(why) = self.prepare_listeners() {
            return self.nothing_to_start(proc, why);
        }
        if source == Source::Kept {
            let Some((command, file)) = self.kept_command(proc, generation) else {
                return self.nothing_to_start(
                    proc,
                    "the kept copy of the program no longer exists".to_owned(),
                );
            };
            let stages = vec![Stage::alone(command)];
            return self.spawn(proc, Role::App, Some(generation), stages, file, None);
        }
        let command = match (&self.service.config.recipe.run.program, &self.service.executable) {
            (Program::Command(command), _) => self.or_fallback(command),
            (Program::Built(args), Some(executable)) => {
                let argv = [executable.into()].into_iter().chain(args.iter().cloned());
                self.service.given.start(generation, self.service.config.recipe.launch.as_ref());
                Command::Argv(self.service.given.runner(generation).chain(argv).collect())
            }
            (Program::None, _) | (Program::Built(_), None) => {
                return self.nothing_to_start(proc, "there is nothing to run".to_owned());
            }
        };
        if self.service.config.recipe.run.is_assumed
            && let Some(artifact) = self.artifact().filter(|path| !path.exists())
        {
            let why = format!(
                "no build.entrypoint is configured and the build did not create {}",
                self.service.config.watch.relative(&artifact).display()
            );
            return self.nothing_to_start(proc, why);
        }
        self.remember_artifact(proc, generation);
        self.service.built.started(proc);
        self.service.own_writes.started(Instant::now());
        self.service.unread.clear();
        self.service.is_wanted = false;
        self.spawn(proc, Role::App, Some(generation), vec![Stage::alone(command)], None, None);
    }

    /// Reports whether there is something to roll back to, if that has changed.
    fn report_fallback(&mut self) {
        if let Some(has_earlier) = self.service.artifacts.take_change() {
            self.host.sender.send(FromEngine::Fallback(has_earlier));
        }
    }

    fn nothing_to_start(&mut self, proc: Proc, why: String) {
        // What follows depends on it.
        self.report_fallback();
        self.host.sender.send(FromEngine::NotStarted(proc, why));
    }

    /// The installed program, if the build has not created one of that name.
    fn or_fallback(&self, command: &Command) -> Command {
        match &self.service.config.recipe.run.fallback {
            Some(fallback) if !fallback.missing.exists() => fallback.command.clone(),
            _ => command.clone(),
        }
    }

    fn spawn_hook(&mut self, proc: Proc, index: usize) {
        let stage = Stage::shell(self.service.config.recipe.post_cmd[index].clone());
        self.spawn(
            proc,
            Role::Hook,
            None,
            vec![stage],
            None,
            Some(self.service.config.recipe.run.grace),
        );
    }

    fn spawn(
        &mut self,
        proc: Proc,
        role: Role,
        generation: Option<u32>,
        stages: Vec<Stage>,
        program: Option<PathBuf>,
        limit: Option<Duration>,
    ) {
        self.read_env();
        let is_app = role == Role::App;
        let given_port = if is_app { self.port_to_give() } else { None };
        let stages = match given_port {
            Some(port) => stages.into_iter().map(|stage| front::with_port(stage, port)).collect(),
            None => stages,
        };
        if is_app {
            self.service.has_run = true;
            self.service.app_env.clone_from(&self.service.env);
        }
        let mut entry = Entry::new(role, self.update_of(role));
        entry.generation = generation;
        // The user's own variables follow, and override these.
        let mut env: Vec<(OsString, OsString)> = self.host.report.color_variables().collect();
        env.extend(self.variables(generation));
        env.push(("HOTRUN".into(), "1".into()));
        env.push(("HOTRUN_CHANGED".into(), self.changed_paths()));
        env.push(("HOTRUN_UPDATE".into(), entry.update.to_string().into()));
        if let Some(generation) = generation {
            env.push(("HOTRUN_GENERATION".into(), generation.to_string().into()));
        }
        if is_app {
            entry.given_port = given_port;
            let (probe, variable) = self.probe(proc, given_port);
            entry.probe = Some(probe);
            env.extend(variable);
            if let Some(port) = given_port {
                env.push(("PORT".into(), port.to_string().into()));
            }
        }
        let build = &self.service.config.recipe.build;
        entry.purpose = match role {
            Role::Build if build.only_checks => Purpose::Library,
            Role::Build if build.stages.is_empty() => Purpose::Syntax,
            Role::Build | Role::Rules | Role::App | Role::Hook => Purpose::Program,
        };
        if is_app {
            entry.label = self.label_of(&stages);
        }
        entry.limit =
            limit.map(|time| Limit { time, from: "its start (build.kill_delay)".to_owned() });
        let directory = self.host.project.directory.clone();
        let printing = match role {
            Role::Build if self.host.project.talk.compact && !self.service.builds_serve => {
                Printing::Withheld
            }
            Role::Build => Printing::Kept,
            Role::Rules | Role::Hook => Printing::Copied,
            Role::App => Printing::Inherited,
        };
        entry.is_withheld = printing == Printing::Withheld;
        let runs_all = role == Role::Rules;
        let run = &self.service.config.recipe.run;
        let (farewell, scope) =
            if is_app { (run.signal, run.scope) } else { (Signal::SIGTERM, Scope::Group) };
        let terminal = if is_app { self.terminal_for_app(proc) } else { OutputOnly };
        let spare = self.service.config.recipe.spare.as_slice().into();
        let ports = if is_app { self.service.config.ports.clone() } else { Vec::new() };
        let look_at_ports = match role {
            Role::App => Some(KNOWS_PORTS),
            Role::Build if !self.service.builds_serve => Some(ENDLESS),
            _ => None,
        };
        let listeners = if is_app { self.service.listeners.inherit() } else { Vec::new() };
        let look_for = self.service.config.recipe.ready.log.clone().filter(|_| is_app);
        let reads_output = is_app && self.reads_output(terminal);
        entry.is_read = reads_output || look_for.is_some();
        let then = self.question(role);
        let job = Job {
            stages,
            then,
            program,
            directory,
            env,
            limit,
            printing,
            runs_all,
            terminal,
            farewell,
            scope,
            spare,
            ports,
            freeing: Freeing::of(&self.host.project, &self.service.config),
            listeners,
            reads_output,
            look_for,
            look_at_ports,
        };
        self.table.insert(proc, entry);
        self.host.processes.spawn(proc, job);
    }

    /// The update that a process belongs to which starts now. A build reads all that was saved so
    /// far, an app what the last build has read, or the one that was rolled back to.
    fn update_of(&self, role: Role) -> u64 {
        match role {
            Role::Build | Role::Rules | Role::Hook => self.publisher.newest(),
            Role::App => {
                let kept = self.service.artifacts.chosen();
                kept.map_or(self.publisher.reaches_app(), |kept| kept.update)
            }
        }
    }

    /// The changed paths, relative to the root, one per line. A path that contains a line feed, or
    /// begins with a double quote, is quoted as git does: `\n`, `\"`, `\\`.
    fn changed_paths(&self) -> OsString {
        let mut text = OsString::new();
        for path in &self.service.changed {
            let relative = path.strip_prefix(&self.service.config.watch.base).unwrap_or(path);
            if text.len() + relative.as_os_str().len() + 1 > MAX_CHANGED {
                break;
            }
            if !text.is_empty() {
                text.push("\n");
            }
            let bytes = relative.as_os_str().as_bytes();
            if bytes.contains(&b'\n') || bytes.starts_with(b"\"") {
                text.push("\"");
                text.push(OsStr::from_bytes(&escaped(bytes)));
                text.push("\"");
            } else {
                text.push(relative);
            }
        }
        text
    }

    fn dismiss(&mut self, proc: Proc) {
        let run = &self.service.config.recipe.run;
        let (signal, grace, key) = match self.table.role(proc) {
            Some(Role::App) => (self.farewell_of_app(proc), self.grace_of_app(), KILL_DELAY),
            Some(Role::Build) if self.service.builds_serve => (run.signal, run.grace, KILL_DELAY),
            Some(Role::Build | Role::Rules | Role::Hook) | None => (
                Signal::SIGTERM,
                self.service.config.recipe.build.cancel_grace,
                "build.cancel_grace",
            ),
        };
        let is_awaited = self.table.is_app(proc) && run.mode == Mode::Restart;
        let keys = if is_awaited && !self.core.is_ending() { KILL_DELAY_OR_MODE } else { key };
        self.service.artifacts.left(proc);
        if let Some(entry) = self.table.get_mut(proc) {
            entry.dismissed = Some(Instant::now());
            entry.limit = Some(Limit { time: grace, from: format!("{signal} ({key})") });
        }
        self.host.processes.dismiss(proc, signal, grace, keys);
    }

    fn grace_of_app(&self) -> Duration {
        let run = &self.service.config.recipe.run;
        let is_restart = !self.core.is_ending() && run.mode == Mode::Restart;
        if is_restart { run.restart_grace } else { run.grace }
    }

    /// Shortens the grace period of an exiting program, which delays the start of a newer one. An
    /// explicit `kill_delay` is kept.
    fn hurry(&self) {
        let run = &self.service.config.recipe.run;
        if run.is_grace_chosen || run.mode == Mode::Handover || self.core.is_ending() {
            return;
        }
        for (proc, app) in self.table.apps() {
            if app.is_dismissed() && !app.is_extended {
                self.host.processes.hurry(proc, HURRIED_GRACE);
            }
        }
    }

    /// The signal that asks an app to exit. After Ctrl-C in a terminal this is SIGINT, as without
    /// hotrun; `run.signal` follows before the grace period is over. An app that ignores SIGINT, as
    /// background jobs of a shell do, gets `run.signal` at once.
    fn farewell_of_app(&self, app: Proc) -> Signal {
        let (configured, grace) = (self.service.config.recipe.run.signal, self.grace_of_app());
        let pid = self.table.pid(app);
        let hears = pid.is_some_and(|pid| !process::ignores(Pid::from_raw(pid), Signal::SIGINT));
        if !self.host.has_heard_ctrl_c || configured == Signal::SIGINT || !hears {
            return configured;
        }
        let inbox = self.host.sender.clone();
        let later = grace.saturating_sub(BEFORE_KILL.min(grace / 4));
        spawn_local(async move {
            tokio::time::sleep(later).await;
            inbox.send(FromEngine::AskAgain(app));
        });
        Signal::SIGINT
    }

    fn arm(&mut self, timer: Timer, after: Duration) {
        let slot = match timer {
            Timer::Spacing(_) => &mut self.service.spacing,
            Timer::Backoff(_) => &mut self.service.backoff,
        };
        let inbox = self.host.sender.clone();
        let task = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            inbox.send(FromEngine::Due(timer));
        });
        if let Some(older) = slot.replace(task) {
            older.abort();
        }
    }

    /// Records a notice, and shows the record to those that observe.
    fn say(&self, notice: impl Into<Notice>) {
        let notice = notice.into();
        let about = notice.process();
        let update = about.and_then(|proc| self.table.get(proc)).map(|entry| entry.update);
        let (proxy, known) = (self.service.front.url(), self.table.known());
        let Some(record) = self.publisher.record(notice, update, proxy, known) else {
            return;
        };
        self.host.report.say(&record, || self.is_a_screen_shown());
        self.tell_others(&record);
    }

    /// Updates what other hotruns read in the lock file.
    fn tell_others(&self, record: &Record) {
        let Some(lock) = &self.host.lock else { return };
        if let Notice::Ready(app) = record.notice {
            let of_app = || record.process(app).and_then(|app| app.url.clone());
            lock.serves_at(self.service.front.url().or_else(of_app));
        }
        if let Notice::AppEnded { serving: None, .. } = record.notice {
            lock.serves_at(None);
        }
        if let Notice::Ending(_) = record.notice {
            lock.is_ending();
        }
    }

    // Startup

    fn greet(&mut self, swept: Vec<(i32, String)>) {
        self.host.report.runs_nothing = !self.policy().runs;
        if let Some(banner) = &self.host.project.talk.banner {
            self.host.report.banner(banner);
        }
        self.introduce_soon();
        if let Some(guess) = &self.service.config.guess {
            self.say(Notice::Guessed(guess.summary()));
        }
        self.warn_about(&self.host.project);
        if let Some(why) = process::why_no_directory() {
            self.host.told.insert(Told::NoSocket);
            self.say(why);
        }
        if !swept.is_empty() {
            self.say(Notice::Swept(swept));
        }
    }

    fn warn_if_nothing_is_watched(&self, found: Found) {
        let roots = name_paths(&self.service.config.watch.roots, &self.host.project.directory);
        let is_meant = self.service.config.watch.extensions == Extensions::Only(BTreeSet::new());
        if found.files == 0 && !is_meant {
            self.say(Problem::NothingToWatch { roots });
        }
    }

    fn warn_about(&self, project: &Project) {
        for warning in &project.warnings {
            self.say(Problem::Configuration(warning.clone()));
        }
    }
}

/// Escapes a path for use in double quotes.
fn escaped(path: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b'\n' => b"\\n".to_vec(),
        b'"' | b'\\' => vec![b'\\', *byte],
        _ => vec![*byte],
    };
    path.iter().flat_map(escape).collect()
}
