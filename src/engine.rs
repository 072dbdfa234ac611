//! The one loop. It takes messages from the one inbox, lets [`State`] decide, and performs
//! the effects.
//!
//! It never decides, and performing never waits: what takes time is a task that reports to
//! the inbox.

use std::collections::HashMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};

use crate::config::{self, Command, Config, Options, Program, Stage};
use crate::error::{Error, Result};
use crate::event::{
    Burst, Cause, Ended, Event, Message, Next, Notice, Proc, Role, Timer, name_paths,
};
use crate::outputs::{During, Outputs, Verdict};
use crate::process::{Job, Processes};
use crate::project;
use crate::ready;
use crate::report::{Color, Facts, Report};
use crate::signal;
use crate::state::{Effect, State};
use crate::watch::Watch;

/// The pause before an app that ended by itself is started again: the first, and the most
/// that doubling makes of it.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LAST_BACKOFF: Duration = Duration::from_secs(8);
/// An app that lived this long has earned a first pause again.
const LONG_LIFE: Duration = Duration::from_secs(10);
/// Files up to this size are compared by what they hold, in bytes.
const MOST_READ: u64 = 8 << 20;
/// `HOTRUN_CHANGED` is cut at this many bytes.
const MOST_CHANGED: usize = 4096;

/// How to talk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Talk {
    /// `-q`.
    pub quiet: bool,
    /// `--color`.
    pub color: Color,
}

/// Runs hotrun to its end, and returns its exit code.
pub async fn run(options: Options, talk: Talk) -> Result<u8> {
    let (sender, mut inbox) = unbounded_channel();
    let processes = Processes::new(sender.clone())?;
    signal::listen(&sender)?;
    let helper = processes.helper();
    let config = tokio::select! {
        config = config::load(&options, &helper) => config?,
        // Nothing was started that could need to be stopped.
        _ = inbox.recv() => return Ok(0),
    };
    let watch =
        if config.once { None } else { Some(Watch::start(config.watch.clone(), sender.clone())?) };
    let report = Report::new(talk.quiet, talk.color, config.watch.base.clone());
    let mut engine = Engine {
        state: State::new(config.policy()),
        config,
        options,
        next: None,
        processes,
        report,
        watch,
        outputs: Outputs::default(),
        window: None,
        roles: HashMap::new(),
        printed: HashMap::new(),
        executable: None,
        changed: Vec::new(),
        follows_up: false,
        probes: HashMap::new(),
        spacing: None,
        backoff: None,
        pause: Duration::ZERO,
        loading: None,
        broken: None,
        sender,
    };
    engine.greet();
    engine.prepare_tmp_dir()?;
    Ok(engine.run(&mut inbox).await)
}

struct Engine {
    state: State,
    config: Config,
    options: Options,
    /// Read again; it becomes `config` when the next build starts.
    next: Option<Config>,
    processes: Processes,
    report: Report,
    watch: Option<Watch>,
    outputs: Outputs,
    /// The time of the last build.
    window: Option<Window>,
    roles: HashMap<Proc, Role>,
    /// What builds printed for hotrun to read.
    printed: HashMap<Proc, Vec<u8>>,
    /// What the last build that succeeded has named.
    executable: Option<PathBuf>,
    /// What was changed, for the builds and apps to come.
    changed: Vec<PathBuf>,
    /// The next build is caused by nothing but the output of the one before.
    follows_up: bool,
    probes: HashMap<Proc, JoinHandle<()>>,
    spacing: Option<JoinHandle<()>>,
    backoff: Option<JoinHandle<()>>,
    /// The next pause before an app that ended by itself is started again.
    pause: Duration,
    loading: Option<oneshot::Receiver<Result<Config>>>,
    /// The exit code of what ends hotrun, if that is no wish of anybody's.
    broken: Option<u8>,
    sender: UnboundedSender<Message>,
}

/// When a build ran.
#[derive(Clone, Copy, Debug)]
struct Window {
    build: Proc,
    began: Instant,
    /// When its last command began.
    cmd_began: Option<Instant>,
    /// When it ended, also by the clock that files are stamped with.
    ended: Option<(Instant, SystemTime)>,
}

impl Window {
    fn new(build: Proc) -> Self {
        Self { build, began: Instant::now(), cmd_began: None, ended: None }
    }

    /// Where hotrun was when this file changed in this burst.
    ///
    /// The end of a build and its last write are told by different ways, and either may
    /// come first; so for a build that has ended, the file's own stamp decides.
    fn during(&self, burst: &Burst, path: &Path) -> During {
        if let Some((ended, ended_by_files)) = self.ended {
            let by_build = match changed_at(path) {
                Some(at) => at <= ended_by_files,
                None => burst.first <= ended,
            };
            return if by_build { During::JustEnded } else { During::Rest };
        }
        match self.cmd_began {
            Some(began) if burst.last >= began => During::Cmd,
            _ => During::Before,
        }
    }
}

impl Engine {
    async fn run(&mut self, inbox: &mut UnboundedReceiver<Message>) -> u8 {
        let mut message = Message::Event(Event::Saved(Cause::Start));
        loop {
            for event in self.understand(message) {
                if let Some(code) = self.step(event) {
                    return code;
                }
            }
            message = inbox.recv().await.expect("the engine holds a sender itself");
        }
    }

    fn step(&mut self, event: Event) -> Option<u8> {
        tracing::debug!(?event);
        let gone = if let Event::Gone(proc) = event { Some(proc) } else { None };
        let (state, effects) = self.state.clone().step(event);
        self.state = state;
        for effect in effects {
            tracing::debug!(?effect);
            if let Some(code) = self.perform(effect) {
                return Some(code);
            }
        }
        if let Some(proc) = gone {
            self.processes.forget(proc);
            self.report.facts.remove(&proc);
            self.roles.remove(&proc);
        }
        None
    }

    // From messages to events

    fn understand(&mut self, message: Message) -> Vec<Event> {
        match message {
            Message::Event(Event::Exited(proc, ended)) => vec![self.exited(proc, ended)],
            Message::Event(Event::Saved(Cause::Rescan)) => {
                // The configuration may be among what changed unseen.
                self.reload();
                vec![Event::Saved(Cause::Rescan)]
            }
            Message::Event(event) => vec![event],
            Message::Changed(burst) => self.saved(burst),
            Message::Loaded => self.loaded(),
            Message::Broken(error) => {
                Report::error(&error);
                self.broken = Some(error.code());
                vec![Event::Interrupted]
            }
            Message::Spawned(proc, pid) => {
                if let Some(facts) = self.report.facts.get_mut(&proc) {
                    facts.pid = Some(pid);
                }
                if self.roles.get(&proc) == Some(&Role::App) {
                    self.report.say(&Notice::Started(proc));
                    self.probes.insert(proc, ready::probe(proc, self.sender.clone()));
                }
                Vec::new()
            }
            Message::Running { proc, label, is_last } => {
                if self.roles.get(&proc) == Some(&Role::Build) {
                    self.command_began(proc, is_last);
                    self.report.running(&label);
                }
                Vec::new()
            }
            Message::Tolerated(_, command, ended) => {
                self.report.tolerated(&command, &ended);
                Vec::new()
            }
            Message::Output(proc, printed) => {
                self.printed.insert(proc, printed);
                Vec::new()
            }
            Message::Say(notice) => {
                self.report.say(&notice);
                Vec::new()
            }
        }
    }

    fn exited(&mut self, proc: Proc, ended: Ended) -> Event {
        if let Some(facts) = self.report.facts.get_mut(&proc) {
            facts.ended = Some(Instant::now());
        }
        if let Some(probe) = self.probes.remove(&proc) {
            probe.abort();
        }
        if self.roles.get(&proc) != Some(&Role::Build) {
            return Event::Exited(proc, ended);
        }
        if let Some(window) = self.window.as_mut().filter(|window| window.build == proc) {
            window.ended = Some((Instant::now(), SystemTime::now()));
        }
        let printed = self.printed.remove(&proc).unwrap_or_default();
        let ended = if ended.succeeded() { self.check_artifact(&printed) } else { ended };
        let is_overtaken =
            self.report.facts.get(&proc).is_some_and(|facts| facts.dismissed.is_some());
        if !is_overtaken {
            self.outputs.build_ended(content);
        }
        Event::Exited(proc, ended)
    }

    /// A build that claims success must have made what is to be run, or it has failed: the
    /// old app lives on.
    fn check_artifact(&mut self, printed: &[u8]) -> Ended {
        let target = self.config.build.stages.iter().find_map(|stage| stage.messages_of.as_ref());
        if let Some(target) = target {
            self.executable = project::cargo::executable(printed, target);
            if self.executable.is_none() {
                let why = format!("the build succeeded but named no executable for {target}");
                return Ended::NotStarted(why);
            }
        }
        let Some(artifact) = self.artifact().filter(|path| path.is_absolute()) else {
            return Ended::Code(0);
        };
        let shown = artifact.display();
        let why = match artifact.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                format!(
                    "the build succeeded but {shown} is not there; do build.cmd and build.entrypoint name the same file?"
                )
            }
            Err(error) => format!("the build succeeded but {shown} cannot be read: {error}"),
            Ok(meta) if meta.is_dir() => format!("{shown} is a directory, not a program"),
            Ok(meta) if meta.mode() & 0o111 == 0 => {
                format!("the build succeeded but {shown} is not executable (chmod +x)")
            }
            Ok(_) => return Ended::Code(0),
        };
        Ended::NotStarted(why)
    }

    /// The file that is run.
    fn artifact(&self) -> Option<PathBuf> {
        match &self.config.run.program {
            Program::None | Program::Command(Command::Shell(..)) => None,
            Program::Command(Command::Argv(argv)) => argv.first().map(PathBuf::from),
            Program::Built(_) => self.executable.clone(),
        }
    }

    fn command_began(&mut self, build: Proc, is_last: bool) {
        if let Some(window) = self.window.as_mut().filter(|window| window.build == build && is_last)
        {
            window.cmd_began = Some(Instant::now());
        }
    }

    fn saved(&mut self, mut burst: Burst) -> Vec<Event> {
        let of_config = burst.paths.iter().any(|path| self.config.comes_from(path));
        if of_config {
            self.reload();
            let file = self.config.file.clone();
            burst.paths.retain(|path| Some(path) != file.as_ref());
        }
        if self.window.as_ref().is_some_and(|window| burst.last < window.began) {
            tracing::debug!(?burst, "the last build began after it, and so has read it");
            return Vec::new();
        }
        let (mut saves, mut follow_ups, mut loops) = (Vec::new(), Vec::new(), Vec::new());
        for path in std::mem::take(&mut burst.paths) {
            let during =
                self.window.as_ref().map_or(During::Rest, |window| window.during(&burst, &path));
            match self.outputs.judge(&path, during, content) {
                Verdict::Save => saves.push(path),
                Verdict::FollowUp => follow_ups.push(path),
                Verdict::Loop => loops.push(path),
                Verdict::Circling => {
                    self.tell_loop(std::slice::from_ref(&path), "");
                    follow_ups.push(path);
                }
                Verdict::Nothing => tracing::debug!("{} is a known output", path.display()),
            }
        }
        if !loops.is_empty() {
            self.tell_loop(&loops, "hotrun waits for a save now. ");
        }
        let is_save = !saves.is_empty();
        saves.extend(follow_ups);
        if saves.is_empty() {
            return Vec::new();
        }
        self.follows_up = !is_save;
        if self.config.build.stages.is_empty() {
            self.changed.clone_from(&saves);
        }
        let cause = Cause::Save(saves);
        vec![if is_save { Event::Saved(cause) } else { Event::FollowUp(cause) }]
    }

    fn tell_loop(&self, paths: &[PathBuf], follows: &str) {
        let root = &self.config.watch.base;
        let names = name_paths(paths, root);
        let first = self.config.watch.relative(&paths[0]).display().to_string();
        self.report.say(&Notice::Warning(format!(
            "each build writes {names} and so causes the next; {follows}to leave it out: \
             [watch] exclude = [{first:?}]"
        )));
    }

    // The configuration, read again

    fn reload(&mut self) {
        let (sender, receiver) = oneshot::channel();
        self.loading = Some(receiver);
        let (helper, options) = (self.processes.helper(), self.options.clone());
        let inbox = self.sender.clone();
        spawn_local(async move {
            let loaded = config::load(&options, &helper).await;
            // A newer reload may have made this one pointless.
            if sender.send(loaded).is_ok() {
                let _ = inbox.send(Message::Loaded);
            }
        });
    }

    fn loaded(&mut self) -> Vec<Event> {
        let Some(Ok(loaded)) = self.loading.as_mut().map(oneshot::Receiver::try_recv) else {
            return Vec::new();
        };
        self.loading = None;
        let config = match loaded {
            Ok(config) => config,
            Err(error) => {
                self.report.say(&Notice::Warning(format!(
                    "{error}\n  until that is mended, the configuration before it holds"
                )));
                return Vec::new();
            }
        };
        self.warn_about(&config);
        if let Some(watch) = &self.watch {
            watch.configure(config.watch.clone());
        }
        let only_watching = self.next.is_none() && config.is_same_work(&self.config);
        let policy = config.policy();
        self.next = Some(config);
        if only_watching {
            self.take_up_next();
            return Vec::new();
        }
        vec![Event::Reconfigured(policy)]
    }

    fn take_up_next(&mut self) {
        if let Some(next) = self.next.take() {
            self.config = next;
            if let Err(error) = self.prepare_tmp_dir() {
                self.report.say(&Notice::Warning(error.to_string()));
            }
        }
    }

    // Effects

    fn perform(&mut self, effect: Effect) -> Option<u8> {
        match effect {
            Effect::TakeUp => self.take_up_next(),
            Effect::SpawnBuild(proc, cause) => self.spawn_build(proc, &cause),
            Effect::SpawnApp(proc, generation) => self.spawn_app(proc, generation),
            Effect::SpawnHook(proc, index) => self.spawn_hook(proc, index),
            Effect::Dismiss(proc) => self.dismiss(proc),
            Effect::Kill(proc) => self.processes.kill(proc),
            Effect::Signal(proc) => self.processes.signal(proc, self.config.run.signal),
            Effect::Arm(timer) => self.arm(timer),
            Effect::Say(notice) => self.say(&notice),
            Effect::Exit(0) => return Some(self.broken.unwrap_or(0)),
            Effect::Exit(code) => return Some(code),
        }
        None
    }

    fn spawn_build(&mut self, proc: Proc, cause: &Cause) {
        self.outputs.build_began(std::mem::take(&mut self.follows_up));
        self.window = Some(Window::new(proc));
        self.pause = Duration::ZERO;
        self.changed = cause.paths().to_vec();
        let stages = self.config.build.stages.clone();
        self.spawn(proc, Role::Build, None, stages, None);
    }

    fn spawn_app(&mut self, proc: Proc, generation: u32) {
        let command = match (&self.config.run.program, &self.executable) {
            (Program::Command(command), _) => command.clone(),
            (Program::Built(args), Some(executable)) => {
                let argv = [executable.into()].into_iter().chain(args.iter().cloned());
                Command::Argv(argv.collect())
            }
            (Program::None, _) | (Program::Built(_), None) => {
                let why = "there is nothing to run".to_owned();
                let _ = self.sender.send(Event::Exited(proc, Ended::NotStarted(why)).into());
                let _ = self.sender.send(Event::Gone(proc).into());
                return;
            }
        };
        self.spawn(proc, Role::App, Some(generation), vec![Stage::alone(command)], None);
    }

    fn spawn_hook(&mut self, proc: Proc, index: usize) {
        let stage = Stage::shell(self.config.post_cmd[index].clone());
        self.spawn(proc, Role::Hook, None, vec![stage], Some(self.config.run.grace));
    }

    fn spawn(
        &mut self,
        proc: Proc,
        role: Role,
        generation: Option<u32>,
        stages: Vec<Stage>,
        limit: Option<Duration>,
    ) {
        let mut env: Vec<(OsString, OsString)> = vec![("HOTRUN".into(), "1".into())];
        env.push(("HOTRUN_CHANGED".into(), self.changed_paths()));
        if let Some(generation) = generation {
            env.push(("HOTRUN_GENERATION".into(), generation.to_string().into()));
        }
        self.report.facts.insert(proc, Facts::now());
        self.roles.insert(proc, role);
        let directory = self.config.directory.clone();
        self.processes.spawn(proc, Job { stages, directory, env, limit });
    }

    /// The changed paths, relative to the root, one a line.
    fn changed_paths(&self) -> OsString {
        let mut text = OsString::new();
        for path in &self.changed {
            let relative = self.config.watch.relative(path);
            if text.len() + relative.as_os_str().len() + 1 > MOST_CHANGED {
                break;
            }
            if !text.is_empty() {
                text.push("\n");
            }
            text.push(relative);
        }
        text
    }

    fn dismiss(&mut self, proc: Proc) {
        let (signal, grace) = match self.roles.get(&proc) {
            Some(Role::App) => (self.config.run.signal, self.config.run.grace),
            _ => (nix::sys::signal::Signal::SIGTERM, self.config.build.cancel_grace),
        };
        if let Some(facts) = self.report.facts.get_mut(&proc) {
            facts.dismissed = Some(Instant::now());
            facts.grace = Some((grace, signal.as_str()));
        }
        self.processes.dismiss(proc, signal, grace);
    }

    fn arm(&mut self, timer: Timer) {
        let (slot, after) = match timer {
            Timer::Spacing(_) => (&mut self.spacing, self.config.build.delay),
            Timer::Backoff(_) => (&mut self.backoff, self.pause),
        };
        let inbox = self.sender.clone();
        let task = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            // The inbox closes when hotrun ends.
            let _ = inbox.send(Event::Due(timer).into());
        });
        if let Some(older) = slot.replace(task) {
            older.abort();
        }
    }

    fn say(&mut self, notice: &Notice) {
        if let Notice::AppEnded { app, next: Next::Restart, .. } = notice {
            self.lengthen_pause(*app);
        }
        self.report.say(notice);
    }

    fn lengthen_pause(&mut self, app: Proc) {
        let lived =
            self.report.facts.get(&app).map_or(Duration::ZERO, |facts| facts.began.elapsed());
        self.pause = match self.config.run.rerun_delay {
            Some(fixed) => fixed,
            None if lived >= LONG_LIFE => FIRST_BACKOFF,
            None => (self.pause * 2).clamp(FIRST_BACKOFF, LAST_BACKOFF),
        };
    }

    // The start

    fn greet(&self) {
        self.warn_about(&self.config);
        let Some(watch) = &self.watch else { return };
        let roots = name_paths(&self.config.watch.roots, &self.config.directory);
        if watch.found.files == 0 {
            self.report.say(&Notice::Warning(format!(
                "there is nothing to watch: no file in {roots} matches include_ext and the \
                 other filters, so no save will be seen (hotrun check shows them)"
            )));
        }
    }

    fn warn_about(&self, config: &Config) {
        for warning in &config.warnings {
            self.report.say(&Notice::Warning(warning.clone()));
        }
    }

    /// Makes the directory that the build writes to. One that hotrun makes is invisible to
    /// git.
    fn prepare_tmp_dir(&self) -> Result<()> {
        let Some(directory) = &self.config.tmp_dir else { return Ok(()) };
        if directory.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(directory.join(".gitignore"), "*\n"))
            .map_err(|error| {
                Error::failed(directory.display(), format!("cannot make tmp_dir: {error}"))
                    .remedy("set tmp_dir to a directory that can be written")
            })
    }
}

/// A hash of what a file holds; `None` for what is no file. Of a large one, whose reading
/// would hold up the loop, size and time stand for the content.
fn content(path: &Path) -> Option<u64> {
    let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut hasher = DefaultHasher::new();
    if meta.len() > MOST_READ {
        (meta.len(), meta.mtime(), meta.mtime_nsec()).hash(&mut hasher);
    } else {
        std::fs::read(path).ok()?.hash(&mut hasher);
    }
    Some(hasher.finish())
}

/// When a file was last written, renamed or otherwise changed (its ctime); `None` when it
/// is not there.
fn changed_at(path: &Path) -> Option<SystemTime> {
    let meta = path.symlink_metadata().ok()?;
    let seconds = u64::try_from(meta.ctime()).ok()?;
    let nanos = u32::try_from(meta.ctime_nsec()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos))
}
