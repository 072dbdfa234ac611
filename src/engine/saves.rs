//! From a burst of saves to events: what each file is for, and which process wrote it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::{JoinHandle, spawn_blocking, spawn_local};

use super::message::FromEngine;
use super::{Engine, ROUNDS_OF_RULES, Unread};
use crate::config::Action;
use crate::core::attribution::{Judged, Moment, Save, Span, Step, Verdict};
use crate::core::{Event, Input};
use crate::event::{Cause, Order};
use crate::filter::{Reason, Verdict as FilterVerdict};
use crate::notice::Notice;
use crate::own_writes::{self, Evidence};
use crate::process;
use crate::watch::{Burst, coarse_now};

/// Delay before a rule that triggers itself runs again.
const RULES_DELAY: Duration = Duration::from_secs(1);

/// Reads the clocks by which builds and files are compared.
pub(super) fn moment() -> Moment {
    Moment { at: Instant::now(), by_files: SystemTime::now(), by_files_coarse: coarse_now() }
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

/// Bursts that wait for evidence of what the program has written, and when they arrived. Those that
/// arrive meanwhile follow them.
pub(super) type Unexamined = VecDeque<(Burst, Instant)>;

impl Engine {
    pub(super) fn saved(&mut self, burst: Burst) -> Vec<Event> {
        let now = Instant::now();
        if self.service.unexamined.is_empty() && self.needs_evidence(&burst, now).is_empty() {
            return self.saved_at(burst, now, &Evidence::new());
        }
        self.service.unexamined.push_back((burst, now));
        if self.service.unexamined.len() == 1 {
            self.examine_next();
        }
        Vec::new()
    }

    fn saved_at(&mut self, mut burst: Burst, now: Instant, evidence: &Evidence) -> Vec<Event> {
        burst.saves = self.without_own_writes(burst.saves, now, evidence);
        self.act_on(burst, now)
    }

    /// The files for which it matters whether the program has written to files.
    fn needs_evidence(&self, burst: &Burst, now: Instant) -> Vec<PathBuf> {
        let paths = burst.saves.iter().map(|save| &save.path);
        paths.filter(|path| self.service.own_writes.asks(path, now)).cloned().collect()
    }

    /// Looks for evidence about the next burst on another thread: a file may lie on a slow file
    /// system.
    fn examine_next(&self) {
        let Some((burst, now)) = self.service.unexamined.front() else { return };
        let paths = self.needs_evidence(burst, *now);
        let app = self.app().and_then(|app| self.table.pid(app));
        let inbox = self.host.sender.clone();
        spawn_local(async move {
            let look = move || {
                let known = |path: PathBuf| Some((process::has_written_files(app?, &path)?, path));
                paths.into_iter().filter_map(known).map(|(has, path)| (path, has)).collect()
            };
            let evidence = spawn_blocking(look).await.unwrap_or_default();
            inbox.send(FromEngine::Examined(evidence));
        });
    }

    /// Handles the burst that has waited for this evidence.
    pub(super) fn examined(&mut self, evidence: &Evidence) -> Vec<Event> {
        let Some((burst, now)) = self.service.unexamined.pop_front() else { return Vec::new() };
        let events = self.saved_at(burst, now, evidence);
        self.examine_next();
        events
    }

    /// Handles the delayed saves.
    pub(super) fn saved_late(&mut self) -> Vec<Event> {
        let now = Instant::now();
        let saves = std::mem::take(&mut self.service.late.saves);
        self.act_on(Burst { saves, directories: Vec::new(), seen: Span::at(now) }, now)
    }

    /// Removes the program's own writes, and delays saves that may be its own writes.
    fn without_own_writes(
        &mut self,
        saves: Vec<Save>,
        now: Instant,
        evidence: &Evidence,
    ) -> Vec<Save> {
        // A source that changes during a build, or is reported at its end, says nothing about the
        // program.
        let is_by_build = self.is_building()
            || self.service.window.is_some_and(|window| window.has_just_been_built(now));
        let (mut acted_on, mut late, mut news) = (Vec::new(), Vec::new(), Vec::new());
        let mut pause = Duration::ZERO;
        for save in saves {
            let (verdict, reason) = self.service.filter.judge(&save.path);
            let is_for_app = matches!(reason, Reason::Rule(number)
                if self.service.config.watch.rules[number].action == Action::Restart);
            let is_revival = reason == Reason::Revival;
            if verdict == FilterVerdict::Ignored || is_revival || is_by_build && !is_for_app {
                acted_on.push(save);
                continue;
            }
            let has_written = || evidence.get(&save.path).copied();
            match self.service.own_writes.judge(&save.path, now, has_written) {
                own_writes::Verdict::Save => acted_on.push(save),
                own_writes::Verdict::Late(more) => {
                    pause = pause.max(more);
                    late.push(save);
                }
                own_writes::Verdict::Own { is_news } => {
                    self.service.attribution.saw(&save.path, &save.contents);
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
        self.service.late.saves.append(&mut late);
        if !acted_on.is_empty() {
            // One restart covers all of them.
            acted_on.append(&mut self.service.late.saves);
            if let Some(task) = self.service.late.task.take() {
                task.abort();
            }
        } else if pause > Duration::ZERO
            && self.service.late.task.as_ref().is_none_or(JoinHandle::is_finished)
        {
            let paths = self.service.late.saves.iter().map(|save| save.path.clone());
            let paths = paths.collect::<Vec<_>>().into();
            self.say(Notice::Late(paths, pause));
            let inbox = self.host.sender.clone();
            self.service.late.task = Some(tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                inbox.send(FromEngine::ChangedLate);
            }));
        }
        acted_on
    }

    fn act_on(&mut self, burst: Burst, now: Instant) -> Vec<Event> {
        if !burst.saves.is_empty() {
            self.begin_update();
        }
        let seen = burst.seen;
        let is_configuration =
            |path: &PathBuf| self.service.config.comes_from(&self.host.project, path);
        if burst.saves.iter().any(|save| is_configuration(&save.path)) {
            self.reload();
        }
        if let Some(window) = self.service.window {
            self.service.attribution.directories_came(&window.came_since(burst.directories));
        }
        let sorted = self.sort(burst.saves);
        let mut inputs = self.rules_saved(sorted.for_rules, seen);
        let changed = self.without_unchanged(sorted.sources);
        let sources = self.judge(changed, seen, true);
        let is_gone = |path: &Path| self.service.attribution.is_gone(path);
        self.service.listing.saved(&sources.saves, is_gone);
        inputs.extend(self.sources_saved(sources, now));
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
                self.service.changed.clone_from(&sorted.revivals);
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
        let is_for_app = |event: &Event| {
            matches!(
                event,
                Event::Service(_, Input::ReadByApp(_) | Input::Revival(_))
                    | Event::Ordered(Order::Restart)
            )
        };
        if events.iter().any(is_for_app) {
            self.publisher.app_gets_newest();
        }
        events
    }

    fn rules_saved(&mut self, saves: Vec<Save>, seen: Span) -> Vec<Input> {
        let judged = self.judge(saves, seen, false);
        if judged.saves.is_empty() {
            return Vec::new();
        }
        self.service.rules_cause_themselves =
            judged.is_during && self.service.window.is_some_and(|window| !window.is_build());
        let cause = Cause::Save(judged.saves);
        if self.service.rules_cause_themselves && self.service.rounds_of_rules >= ROUNDS_OF_RULES {
            let paused = self.service.paused_rules.cause.take();
            let cause = cause.after(paused);
            self.service.paused_rules.begin(
                &self.host.sender,
                cause,
                RULES_DELAY,
                Input::RuledByBuild,
            );
            return Vec::new();
        }
        vec![Input::Ruled(cause)]
    }

    fn sources_saved(&mut self, judged: Judged, now: Instant) -> Vec<Input> {
        if self.service.config.recipe.build.stages.is_empty() && !judged.saves.is_empty() {
            self.service.changed.clone_from(&judged.saves);
        }
        let is_building = self.is_building();
        let steps = self.service.attribution.steps(judged, is_building, now);
        steps.into_iter().filter_map(|step| self.take(step)).collect()
    }

    /// Takes a step that follows from saves. Returns what the core is to decide now.
    fn take(&mut self, step: Step) -> Option<Input> {
        match step {
            Step::Build(saves) => {
                let paused = self.service.paused_build.cause.take();
                return Some(Input::Saved(Cause::Save(saves).after(paused)));
            }
            Step::Test { saves, suspects, pause } => {
                self.say(Notice::Testing(saves.clone().into(), suspects.into(), pause));
                self.build_later(Cause::Save(saves), pause, Input::Saved);
            }
            Step::Finish { saves, within } => {
                self.say(Notice::Finishing(saves.clone().into()));
                let cause = Cause::Save(saves);
                // A build that takes much longer than usual is cancelled after all.
                self.build_later(cause.clone(), within, Input::Saved);
                return Some(Input::FollowUp(cause));
            }
            Step::Verify { paths, pause: None } => {
                return Some(Input::FollowUp(Cause::Written(paths)));
            }
            Step::Verify { paths, pause: Some(pause) } => self.verify_later(paths, pause),
            Step::BuildLater { saves, pause } => {
                self.say(Notice::ChangesInBuilds(saves.clone().into(), pause));
                self.build_later(Cause::Save(saves), pause, Input::Saved);
            }
        }
        None
    }

    /// Verifies after a delay whether builds themselves cause these changes.
    pub(super) fn verify_later(&mut self, paths: Vec<PathBuf>, pause: Duration) {
        self.say(Notice::ChangesInBuilds(paths.clone().into(), pause));
        self.build_later(Cause::Written(paths), pause, Input::FollowUp);
    }

    /// Sends this event after a delay, unless another build starts before that.
    fn build_later(&mut self, cause: Cause, pause: Duration, event: fn(Cause) -> Input) {
        let cause = cause.after(self.service.paused_build.cause.take());
        self.service.paused_build.begin(&self.host.sender, cause, pause, event);
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
        self.service.changed.clone_from(&files);
        let cause = Cause::Save(files);
        let event = if builds { Input::Saved(cause) } else { Input::ReadByApp(cause) };
        if self.artifact_is_missing() { vec![Input::Unbuilt, event] } else { vec![event] }
    }

    fn sort(&self, saves: Vec<Save>) -> Sorted {
        let mut sorted = Sorted::default();
        for save in saves {
            let path = save.path.clone();
            if self.host.project.is_configuration(&path) {
                continue;
            }
            let (verdict, reason) = self.service.filter.judge(&save.path);
            if reason == Reason::InUse && self.service.config.recipe.env.files.contains(&path) {
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
                _ if verdict == FilterVerdict::Ignored => {
                    self.service.filter.rule_of_directory(&path)
                }
                _ => None,
            };
            let Some(number) = rule else {
                sorted.sources.push(save);
                continue;
            };
            match self.service.config.watch.rules[number].action {
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
    fn judge(&mut self, saves: Vec<Save>, seen: Span, is_source: bool) -> Judged {
        let mut judged = Judged::default();
        for save in saves {
            let window = self.service.window.as_ref();
            let (verdict, during) =
                self.service.attribution.judge_save(&save, seen, window, is_source);
            tracing::debug!(?verdict, ?during, ?save.existed, "{}", save.path.display());
            // The app was started before that.
            if verdict == Verdict::Read
                && self.is_building()
                && !self.service.attribution.is_written(&save.path)
            {
                self.service.unread.entry(save.path.clone()).or_insert(Unread::Changed);
            }
            judged.add(save.path, verdict, during);
        }
        let proven = self.service.attribution.take_proven_late();
        if !proven.is_empty() {
            self.say(Notice::Outputs(proven.into()));
        }
        judged
    }

    /// With `exclude_unchanged`: removes the files whose contents are the same as at the end of the
    /// last build.
    fn without_unchanged(&mut self, saves: Vec<Save>) -> Vec<Save> {
        if !self.service.config.watch.exclude_unchanged {
            return saves;
        }
        let (same, changed): (Vec<_>, Vec<_>) = saves
            .into_iter()
            .partition(|save| self.service.fingerprints.is_unchanged(&save.path, &save.contents));
        if !same.is_empty() {
            let paths = same.into_iter().map(|save| save.path).collect::<Vec<_>>();
            self.say(Notice::Unchanged(paths.into()));
        }
        changed
    }
}
