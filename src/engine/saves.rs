//! From a burst of saves to events: what each file is for, and which process wrote it.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinHandle;

use super::message::FromEngine;
use super::{Engine, ROUNDS_OF_RULES};
use crate::config::Action;
use crate::core::attribution::{During, Observed, Verdict};
use crate::core::{Event, Input};
use crate::event::{Cause, Order, Proc};
use crate::filter::{Reason, Verdict as FilterVerdict};
use crate::notice::Notice;
use crate::watch::{Burst, Save, coarse_now};
use crate::{own_writes, process};

/// A change that is seen this long after the end of a build was not written by the build: events
/// arrive sooner.
const LONG_AFTER: Duration = Duration::from_secs(1);
/// Delay within which the last writes of a build are reported after its end.
const SOON_AFTER: Duration = Duration::from_millis(100);
/// Delay before a rule that triggers itself runs again.
const RULES_DELAY: Duration = Duration::from_secs(1);

/// The time span of a build, or of a run of rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) proc: Proc,
    /// Whether it is a build, which reads the sources.
    is_build: bool,
    /// Whether commands run before its last one.
    has_pre_cmd: bool,
    began: Instant,
    pub(super) began_by_files: SystemTime,
    /// When its last command started.
    cmd_began: Option<Moment>,
    ended: Option<Moment>,
}

/// When a build ended, or its last command started, by three clocks.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    by_files: SystemTime,
    /// The clock that most files are stamped with. It advances by ticks (4 ms, for example).
    by_files_coarse: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Self { at: Instant::now(), by_files: SystemTime::now(), by_files_coarse: coarse_now() }
    }
}

impl Window {
    /// Without a `pre_cmd`, `cmd` starts at once.
    pub(super) fn of_build(proc: Proc, has_pre_cmd: bool) -> Self {
        let window = Self { is_build: true, has_pre_cmd, ..Self::of_rules(proc) };
        if has_pre_cmd { Self { cmd_began: None, ..window } } else { window }
    }

    /// Files that rules write are for the build that follows: no later command of the rules reads
    /// them.
    pub(super) fn of_rules(proc: Proc) -> Self {
        let now = Moment::now();
        let (began, began_by_files) = (now.at, now.by_files_coarse);
        Self {
            proc,
            is_build: false,
            has_pre_cmd: false,
            began,
            began_by_files,
            cmd_began: Some(now),
            ended: None,
        }
    }

    pub(super) fn last_command_began(&mut self) {
        self.cmd_began = Some(Moment::now());
    }

    pub(super) fn end(&mut self) {
        self.ended = Some(Moment::now());
    }

    /// Whether the build started after these changes were reported, and so has read them.
    fn has_read(&self, burst: &Times) -> bool {
        self.is_build && burst.last < self.began
    }

    /// In which phase of the build a file with this timestamp changed, in this burst.
    ///
    /// The end of a build and its last write are reported by different channels, in any order. So
    /// for a build that has ended, the file's own timestamp decides. If that is within the tick in
    /// which the build ended, the time of the event decides.
    fn during(&self, burst: &Times, stamp: Option<SystemTime>) -> During {
        if let Some(end) = self.ended {
            if burst.first > end.at + LONG_AFTER {
                return During::Rest;
            }
            let seen_before = burst.first <= end.at;
            return match stamp {
                None if seen_before => During::JustEnded,
                None => During::Rest,
                Some(at) if at > end.by_files => During::Rest,
                // A timestamp may be older than the write, by up to a tick.
                Some(at) if at >= end.by_files_coarse && !seen_before => During::Unsure,
                Some(_) => During::JustEnded,
            };
        }
        let began = self.cmd_began.filter(|began| !self.has_pre_cmd || burst.last >= began.at);
        let Some(began) = began else { return During::Before };
        // The file may have been written before the command started, and reported after that.
        match stamp {
            Some(at) if self.has_pre_cmd && at <= began.by_files => During::Before,
            _ => During::Cmd,
        }
    }
}

/// When a burst began and ended.
struct Times {
    first: Instant,
    last: Instant,
}

/// A burst, sorted by what its files are for.
#[derive(Default)]
struct Sorted {
    env: Vec<PathBuf>,
    sources: Vec<Save>,
    for_rules: Vec<Save>,
    app_input: Vec<PathBuf>,
    orders: Vec<(Order, Vec<PathBuf>)>,
    revivals: Vec<PathBuf>,
    page: Vec<PathBuf>,
    css: Vec<PathBuf>,
}

/// What follows from changes of one kind.
#[derive(Default)]
struct Judged {
    /// Saves that cancel the running build.
    saves: Vec<PathBuf>,
    /// Whether one of these happened during the build or the run of rules.
    is_during: bool,
    /// Saves that let the running build complete.
    finish: Vec<PathBuf>,
    /// Files that the last build may have written, although it has ended.
    verify: Vec<PathBuf>,
    verify_pause: Option<Duration>,
    /// Files that are built later.
    later: Vec<PathBuf>,
    pause: Duration,
}

/// Saves that are delayed.
#[derive(Debug, Default)]
pub(super) struct Late {
    saves: Vec<Save>,
    task: Option<JoinHandle<()>>,
}

impl Late {
    /// Whether a save is delayed.
    pub(super) fn is_pending(&self) -> bool {
        !self.saves.is_empty()
    }
}

impl Engine {
    pub(super) fn saved(&mut self, mut burst: Burst) -> Vec<Event> {
        burst.saves = self.without_own_writes(burst.saves);
        self.act_on(burst)
    }

    /// Handles the delayed saves.
    pub(super) fn saved_late(&mut self) -> Vec<Event> {
        let now = Instant::now();
        let saves = std::mem::take(&mut self.late.saves);
        self.act_on(Burst { saves, directories: Vec::new(), first: now, last: now })
    }

    /// Removes the program's own writes, and delays saves that may be its own writes.
    fn without_own_writes(&mut self, saves: Vec<Save>) -> Vec<Save> {
        let now = Instant::now();
        // A source that changes during a build, or is reported at its end, says nothing about the
        // program.
        let is_by_build = self.is_building()
            || self.window.is_some_and(|window| {
                window.is_build && window.ended.is_some_and(|end| end.at.elapsed() < SOON_AFTER)
            });
        let (mut acted_on, mut late, mut news) = (Vec::new(), Vec::new(), Vec::new());
        let mut pause = Duration::ZERO;
        for save in saves {
            let (verdict, reason) = self.filter.judge(&save.path);
            let is_for_app = matches!(reason, Reason::Rule(number)
                if self.config.watch.rules[number].action == Action::Restart);
            let is_revival = reason == Reason::Revival;
            if verdict == FilterVerdict::Ignored || is_revival || is_by_build && !is_for_app {
                acted_on.push(save);
                continue;
            }
            let app = self.app().and_then(|app| self.table.pid(app));
            let has_written = || process::has_written_files(app?, &save.path);
            match self.own_writes.judge(&save.path, now, has_written) {
                own_writes::Verdict::Save => acted_on.push(save),
                own_writes::Verdict::Late(more) => {
                    pause = pause.max(more);
                    late.push(save);
                }
                own_writes::Verdict::Own { is_news } => {
                    self.attribution.saw(&save.path, &save.contents);
                    tracing::debug!("{}: the program wrote it", save.path.display());
                    if is_news {
                        news.push(save.path);
                    }
                }
            }
        }
        if !news.is_empty() {
            self.say(Notice::OwnWrites(news.into()));
        }
        self.late.saves.append(&mut late);
        if !acted_on.is_empty() {
            // One restart covers all of them.
            acted_on.append(&mut self.late.saves);
            if let Some(task) = self.late.task.take() {
                task.abort();
            }
        } else if pause > Duration::ZERO
            && self.late.task.as_ref().is_none_or(JoinHandle::is_finished)
        {
            let paths = self.late.saves.iter().map(|save| save.path.clone());
            let paths = paths.collect::<Vec<_>>().into();
            self.say(Notice::Late(paths, pause));
            let inbox = self.sender.clone();
            self.late.task = Some(tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                inbox.send(FromEngine::ChangedLate);
            }));
        }
        acted_on
    }

    fn act_on(&mut self, burst: Burst) -> Vec<Event> {
        let times = Times { first: burst.first, last: burst.last };
        if burst.saves.iter().any(|save| self.config.comes_from(&save.path)) {
            self.reload();
        }
        if let Some(window) = self.window {
            let since = burst.directories.into_iter().filter(|(_, at)| *at >= window.began);
            let new: Vec<PathBuf> = since.map(|(directory, _)| directory).collect();
            self.attribution.directories_came(&new);
        }
        let sorted = self.sort(burst.saves);
        let mut inputs = self.rules_saved(sorted.for_rules, &times);
        let changed = self.without_unchanged(sorted.sources);
        let sources = self.judge(changed, &times, true);
        inputs.extend(self.sources_saved(sources));
        inputs.extend(self.app_input(sorted.app_input, sorted.env));
        let starts_another = |input: &Input| {
            matches!(input, Input::Saved(_) | Input::ReadByApp(_) | Input::Ruled(_))
        };
        let is_hurry = inputs.iter().any(starts_another);
        let mut events: Vec<Event> = inputs.into_iter().map(Event::from).collect();
        for (order, paths) in sorted.orders {
            self.say(Notice::Changed(Cause::Save(paths)));
            events.push(Event::Ordered(order));
        }
        if !sorted.revivals.is_empty() {
            if self.app().is_none() {
                self.changed.clone_from(&sorted.revivals);
            }
            events.push(Input::Revival(Cause::Save(sorted.revivals)).into());
        }
        for (paths, css) in [(sorted.page, false), (sorted.css, true)] {
            if !paths.is_empty() {
                self.say(Notice::ForBrowser { paths: paths.into(), css });
            }
        }
        if is_hurry {
            self.hurry();
        }
        events
    }

    fn rules_saved(&mut self, saves: Vec<Save>, times: &Times) -> Vec<Input> {
        let judged = self.judge(saves, times, false);
        if judged.saves.is_empty() {
            return Vec::new();
        }
        self.rules_cause_themselves =
            judged.is_during && self.window.is_some_and(|window| !window.is_build);
        let cause = Cause::Save(judged.saves);
        if self.rules_cause_themselves && self.rounds_of_rules >= ROUNDS_OF_RULES {
            let paused = self.paused_rules.cause.take();
            let cause = cause.after(paused);
            self.paused_rules.begin(&self.sender, cause, RULES_DELAY, Input::RuledByBuild);
            return Vec::new();
        }
        vec![Input::Ruled(cause)]
    }

    fn sources_saved(&mut self, mut judged: Judged) -> Vec<Input> {
        if self.config.build.stages.is_empty() && !judged.saves.is_empty() {
            self.changed.clone_from(&judged.saves);
        }
        if !judged.saves.is_empty() {
            // One build covers all of them.
            judged.saves.append(&mut judged.finish);
            judged.saves.append(&mut judged.verify);
            judged.saves.append(&mut judged.later);
            let cause = Cause::Save(judged.saves);
            if !self.is_building()
                && let Some((pause, paths)) = self.attribution.test(Instant::now())
            {
                self.say(Notice::Testing(cause.paths().to_vec().into(), paths.into(), pause));
                self.build_later(cause, pause, Input::Saved);
                return Vec::new();
            }
            let paused = self.paused_build.cause.take();
            return vec![Input::Saved(cause.after(paused))];
        }
        let mut events = Vec::new();
        if !judged.finish.is_empty() {
            self.say(Notice::Finishing(judged.finish.clone().into()));
            let cause = Cause::Save(judged.finish);
            // A build that takes much longer than usual is cancelled after all.
            self.build_later(cause.clone(), judged.pause, Input::Saved);
            events.push(Input::FollowUp(cause));
        }
        match judged.verify_pause {
            _ if judged.verify.is_empty() => {}
            None => events.push(Input::FollowUp(Cause::Written(judged.verify))),
            Some(pause) => self.verify_later(judged.verify, pause),
        }
        if !judged.later.is_empty() {
            self.say(Notice::ChangesInBuilds(judged.later.clone().into(), judged.pause));
            self.build_later(Cause::Save(judged.later), judged.pause, Input::Saved);
        }
        events
    }

    /// Verifies after a delay whether builds themselves cause these changes.
    pub(super) fn verify_later(&mut self, paths: Vec<PathBuf>, pause: Duration) {
        self.say(Notice::ChangesInBuilds(paths.clone().into(), pause));
        self.build_later(Cause::Written(paths), pause, Input::FollowUp);
    }

    /// Sends this event after a delay, unless another build starts before that.
    fn build_later(&mut self, cause: Cause, pause: Duration, event: fn(Cause) -> Input) {
        let cause = cause.after(self.paused_build.cause.take());
        self.paused_build.begin(&self.sender, cause, pause, event);
    }

    /// Handles files that only the app reads: env files, and files of `restart` rules.
    fn app_input(&mut self, mut files: Vec<PathBuf>, env: Vec<PathBuf>) -> Vec<Input> {
        let env = self.changed_env(env);
        // The build may have failed for lack of a variable.
        let builds = self.has_build_failed() && !env.is_empty();
        files.extend(env);
        if files.is_empty() {
            return Vec::new();
        }
        self.changed.clone_from(&files);
        let cause = Cause::Save(files);
        let event = if builds { Input::Saved(cause) } else { Input::ReadByApp(cause) };
        if self.artifact_is_missing() { vec![Input::Unbuilt, event] } else { vec![event] }
    }

    fn sort(&self, saves: Vec<Save>) -> Sorted {
        let mut sorted = Sorted::default();
        for save in saves {
            let path = save.path.clone();
            if self.config.is_configuration(&path) {
                continue;
            }
            let (verdict, reason) = self.filter.judge(&save.path);
            if reason == Reason::InUse && self.config.env.files.contains(&path) {
                sorted.env.push(path);
                continue;
            }
            if reason == Reason::Revival {
                sorted.revivals.push(path);
                continue;
            }
            let rule = match reason {
                Reason::Rule(number) => Some(number),
                // An ignored path gets here only if it is a directory that was deleted.
                _ if verdict == FilterVerdict::Ignored => self.filter.rule_of_directory(&path),
                _ => None,
            };
            let Some(number) = rule else {
                sorted.sources.push(save);
                continue;
            };
            match self.config.watch.rules[number].action {
                Action::Run { .. } => sorted.for_rules.push(save),
                Action::Restart => sorted.app_input.push(path),
                Action::Reload => sorted.page.push(path),
                Action::Css => sorted.css.push(path),
                Action::Signal(signal) => {
                    let order = Order::Signal(signal);
                    match sorted.orders.iter_mut().find(|(one, _)| *one == order) {
                        Some((_, paths)) => paths.push(path),
                        None => sorted.orders.push((order, vec![path])),
                    }
                }
            }
        }
        sorted
    }

    /// Decides which process wrote these files, and what follows from that.
    fn judge(&mut self, saves: Vec<Save>, times: &Times, is_source: bool) -> Judged {
        let mut judged = Judged::default();
        for Save { path, contents, existed, stamp } in saves {
            let window = self.window.as_ref();
            if is_source && window.is_some_and(|window| window.has_read(times)) {
                tracing::debug!("{}: the last build has read this", path.display());
                self.attribution.saw(&path, &contents);
                continue;
            }
            let during = window.map_or(During::Rest, |window| window.during(times, stamp));
            let change =
                Observed { path: &path, contents: &contents, existed, during, at: times.first };
            let verdict = self.attribution.judge(&change, is_source);
            tracing::debug!(?verdict, ?during, ?existed, "{}", path.display());
            match verdict {
                Verdict::Save => {
                    judged.saves.push(path);
                    judged.is_during |= during != During::Rest;
                }
                Verdict::Finish { within } => {
                    judged.finish.push(path);
                    judged.pause = judged.pause.max(within);
                }
                Verdict::Verify { pause } => {
                    judged.verify.push(path);
                    judged.verify_pause = judged.verify_pause.max(pause);
                }
                Verdict::SaveLater(pause) => {
                    judged.later.push(path);
                    judged.pause = judged.pause.max(pause);
                }
                Verdict::Pending | Verdict::Nothing => {}
            }
        }
        let proven = self.attribution.take_proven_late();
        if !proven.is_empty() {
            self.say(Notice::Outputs(proven.into()));
        }
        judged
    }

    /// With `exclude_unchanged`: removes the files whose contents are the same as at the end of the
    /// last build.
    fn without_unchanged(&mut self, saves: Vec<Save>) -> Vec<Save> {
        if !self.config.watch.exclude_unchanged {
            return saves;
        }
        let (same, changed): (Vec<_>, Vec<_>) = saves
            .into_iter()
            .partition(|save| self.fingerprints.is_unchanged(&save.path, &save.contents));
        if !same.is_empty() {
            let paths = same.into_iter().map(|save| save.path).collect::<Vec<_>>();
            self.say(Notice::Unchanged(paths.into()));
        }
        changed
    }
}
