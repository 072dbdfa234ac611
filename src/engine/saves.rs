//! From a burst of saves to events: whom is each file for, and who wrote it?

use std::cell::OnceCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use super::{Engine, ROUNDS_OF_RULES};
use crate::config::Action;
use crate::event::{Burst, Cause, Event, Notice, Order, Proc, name_paths};
use crate::filter::{Filter, Reason, Verdict as FilterVerdict};
use crate::outputs::{Content, During, Verdict};
use crate::watch::{changed_at, coarse_now};

/// Files up to this size are compared by what they hold, in bytes.
const MOST_READ: u64 = 8 << 20;
/// What more files than this hold is not remembered: reading them would hold up the loop.
const MOST_REMEMBERED: usize = 20;
/// What is seen so long after a build's end was not written by it: events come sooner.
const LONG_AFTER: Duration = Duration::from_secs(1);
/// The pause before what may be the next turn of a loop; ten of them pass before it is told
/// again.
const LOOP_PAUSE: Duration = Duration::from_secs(1);

/// When a build, or a run of rules, ran.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) proc: Proc,
    /// It is a build, which reads the sources.
    is_build: bool,
    began: Instant,
    pub(super) began_by_files: SystemTime,
    /// When its last command began.
    cmd_began: Option<Moment>,
    ended: Option<Moment>,
}

/// When a build ended, or its last command began, by three clocks.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    by_files: SystemTime,
    /// The clock that most files are stamped with, which stands still for a tick (4 ms, say)
    /// at a time.
    by_files_coarse: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Self { at: Instant::now(), by_files: SystemTime::now(), by_files_coarse: coarse_now() }
    }
}

impl Window {
    pub(super) fn of_build(proc: Proc) -> Self {
        Self { cmd_began: None, is_build: true, ..Self::of_rules(proc) }
    }

    /// What rules write is for the build that follows: there is no later command to read it.
    pub(super) fn of_rules(proc: Proc) -> Self {
        let now = Moment::now();
        let (began, began_by_files) = (now.at, now.by_files_coarse);
        Self { proc, is_build: false, began, began_by_files, cmd_began: Some(now), ended: None }
    }

    pub(super) fn last_command_began(&mut self) {
        self.cmd_began = Some(Moment::now());
    }

    pub(super) fn end(&mut self) {
        self.ended = Some(Moment::now());
    }

    /// Where hotrun was when this file changed in this burst.
    ///
    /// The end of a build and its last write are told by different ways, and either may
    /// come first; so for a build that has ended, the file's own stamp decides, and where
    /// that is of the very tick of the end, when the event was seen.
    fn during(&self, burst: &Times, path: &Path) -> During {
        if let Some(end) = self.ended {
            if burst.first > end.at + LONG_AFTER {
                return During::Rest;
            }
            let seen_before = burst.first <= end.at;
            return match stamp(path) {
                None if seen_before => During::JustEnded,
                None => During::Rest,
                Some(at) if at > end.by_files => During::Rest,
                // A stamp may be older than the write, by up to a tick.
                Some(at) if at >= end.by_files_coarse && !seen_before => During::Unsure,
                Some(_) => During::JustEnded,
            };
        }
        let Some(began) = self.cmd_began.filter(|began| burst.last >= began.at) else {
            return During::Before;
        };
        // It may have been written before that, and told after.
        match stamp(path) {
            Some(at) if self.is_build && at < began.by_files_coarse => During::Before,
            Some(at) if self.is_build && at <= began.by_files => During::Edge,
            _ => During::Cmd,
        }
    }
}

/// When a burst began and ended.
struct Times {
    first: Instant,
    last: Instant,
}

/// When a file was changed last.
fn stamp(path: &Path) -> Option<SystemTime> {
    path.symlink_metadata().ok().and_then(|meta| changed_at(&meta))
}

/// A burst, sorted by what the files in it are for.
#[derive(Default)]
struct Sorted {
    env: Vec<PathBuf>,
    sources: Vec<PathBuf>,
    for_rules: Vec<PathBuf>,
    app_input: Vec<PathBuf>,
    orders: Vec<(Order, Vec<PathBuf>)>,
    page: Vec<PathBuf>,
    css: Vec<PathBuf>,
}

/// Whether what files hold is remembered when they are saved, and for whom: it is not of
/// many at a time.
#[derive(Clone, Copy)]
enum Remember {
    ForRules(bool),
    Sources(bool),
}

/// What has changed, of one kind: as saves, and as what builds wrote for the next.
#[derive(Default)]
struct Told {
    saves: Vec<PathBuf>,
    follow_ups: Vec<PathBuf>,
    /// Not at once: builds, or rules, may be causing each other.
    is_slow: bool,
}

impl Told {
    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.saves.iter().chain(&self.follow_ups)
    }

    /// One event for the saves, one for the rest, where there are any.
    fn events(self, save: fn(Cause) -> Event, follow_up: fn(Cause) -> Event) -> Vec<Event> {
        let both = [(self.saves, save), (self.follow_ups, follow_up)];
        let some = both.into_iter().filter(|(paths, _)| !paths.is_empty());
        some.map(|(paths, event)| event(Cause::Save(paths))).collect()
    }
}

impl Engine {
    pub(super) fn saved(&mut self, burst: Burst) -> Vec<Event> {
        let times = Times { first: burst.first, last: burst.last };
        if burst.paths.iter().any(|path| self.config.comes_from(path)) {
            self.reload();
        }
        let is_small = burst.paths.len() <= MOST_REMEMBERED;
        let sorted = self.sort(burst.paths);
        let mut for_rules = self.judge(sorted.for_rules, &times, Remember::ForRules(is_small));
        if let Some(window) = self.window.filter(|window| !window.is_build) {
            self.rules_cause_themselves = for_rules
                .paths()
                .map(|path| window.during(&times, path))
                .any(|during| during != During::Rest);
        }
        for_rules.is_slow |= self.rules_cause_themselves && self.rounds_of_rules >= ROUNDS_OF_RULES;
        let mut sources = self.judge_sources(sorted.sources, &times, is_small);
        if !(for_rules.saves.is_empty() && sources.saves.is_empty()) {
            self.follows_up = false;
        } else if for_rules.paths().chain(sources.paths()).next().is_some() {
            self.follows_up = true;
        }

        let is_slow = (for_rules.is_slow, sources.is_slow);
        let mut events =
            self.now_or_later(is_slow.0, for_rules.events(Event::Ruled, Event::RuledByBuild));
        if self.config.build.stages.is_empty() && sources.paths().next().is_some() {
            self.changed = sources.paths().cloned().collect();
        }
        if !sources.saves.is_empty() {
            // One build is for both.
            sources.saves.append(&mut sources.follow_ups);
        }
        events.extend(self.now_or_later(is_slow.1, sources.events(Event::Saved, Event::FollowUp)));
        events.extend(self.app_input(sorted.app_input, sorted.env));
        for (order, paths) in sorted.orders {
            self.report.say(&Notice::Changed(Cause::Save(paths)));
            events.push(Event::Ordered(order));
        }
        for (paths, css) in [(sorted.page, false), (sorted.css, true)] {
            if !paths.is_empty() {
                self.report.say(&Notice::ForBrowser { paths, css });
            }
        }
        events
    }

    /// Those that are to happen now; slow ones come back by themselves.
    fn now_or_later(&self, is_slow: bool, events: Vec<Event>) -> Vec<Event> {
        if !is_slow {
            return events;
        }
        for event in events {
            let inbox = self.sender.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LOOP_PAUSE).await;
                // The inbox closes when hotrun ends.
                let _ = inbox.send(event.into());
            });
        }
        Vec::new()
    }

    /// What the sources in a burst mean.
    fn judge_sources(&mut self, paths: Vec<PathBuf>, times: &Times, is_small: bool) -> Told {
        let was_read =
            self.window.is_some_and(|window| window.is_build && times.last < window.began);
        if !was_read {
            let changed = self.without_unchanged(paths, is_small);
            return self.judge(changed, times, Remember::Sources(is_small));
        }
        tracing::debug!(?paths, "the last build began after these were saved, and has read them");
        // So what it has read is what they hold now.
        if self.config.watch.exclude_unchanged {
            for path in &paths {
                self.fingerprints.is_unchanged(path, content(path, &self.filter));
            }
        }
        Told::default()
    }

    /// What is read by the app alone: files of `restart` rules, and of variables.
    fn app_input(&mut self, mut files: Vec<PathBuf>, env: Vec<PathBuf>) -> Vec<Event> {
        let env = self.changed_env(env);
        // A build may have failed for want of a variable.
        let builds = self.build_failed && !env.is_empty();
        files.extend(env);
        if files.is_empty() {
            return Vec::new();
        }
        self.changed.clone_from(&files);
        let cause = Cause::Save(files);
        let event = if builds { Event::Saved(cause) } else { Event::AppInput(cause) };
        if self.artifact_is_missing() { vec![Event::Unbuilt, event] } else { vec![event] }
    }

    fn sort(&self, paths: Vec<PathBuf>) -> Sorted {
        let mut sorted = Sorted::default();
        for path in paths {
            if self.config.file.as_ref() == Some(&path) {
                continue;
            }
            let (verdict, reason) = self.filter.judge(&path);
            if reason == Reason::InUse && self.config.env.files.contains(&path) {
                sorted.env.push(path);
                continue;
            }
            let rule = match reason {
                Reason::Rule(number) => Some(number),
                // Only a directory that is gone gets here without mattering by itself.
                _ if verdict == FilterVerdict::Ignored => self.filter.rule_of_directory(&path),
                _ => None,
            };
            let Some(number) = rule else {
                sorted.sources.push(path);
                continue;
            };
            match self.config.watch.rules[number].action {
                Action::Run(_) => sorted.for_rules.push(path),
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

    /// Who wrote these, and does anything follow?
    fn judge(&mut self, paths: Vec<PathBuf>, times: &Times, remember: Remember) -> Told {
        let mut told = Told::default();
        let mut loops = Vec::new();
        let mut is_urgent = false;
        let content = self.content();
        // Without a pre_cmd there is nobody who could write a source before it is read.
        let has_pre_cmd = self.config.build.stages.len() > 1;
        let is_source = matches!(remember, Remember::Sources(_)) && has_pre_cmd;
        for path in paths {
            // Read once, and only if somebody asks.
            let held = OnceCell::new();
            let held = || *held.get_or_init(|| content(&path));
            let rest = (During::Rest, Duration::ZERO);
            let when = self.window.as_ref().map_or(rest, |window| {
                let time = times.first.saturating_duration_since(window.began);
                (window.during(times, &path), time)
            });
            if is_source
                && matches!(when.0, During::Before | During::Edge)
                && self.outputs.is_written_again(&path, held())
            {
                tracing::debug!("{} was written again", path.display());
                continue;
            }
            let verdict = self.outputs.judge(&path, when, |_| held());
            tracing::trace!(?verdict, ?when, "{}", path.display());
            match verdict {
                Verdict::Save => {
                    is_urgent = true;
                    match remember {
                        Remember::ForRules(true) => self.outputs.remember(&path, held()),
                        Remember::Sources(is_few) if is_source => {
                            let content = if is_few { held() } else { None };
                            self.outputs.remember_source(&path, content);
                        }
                        _ => {}
                    }
                    told.saves.push(path);
                }
                Verdict::FollowUp => told.follow_ups.push(path),
                Verdict::Loop => loops.push(path),
                Verdict::Paced => {
                    self.tell_loop(std::slice::from_ref(&path), "");
                    told.is_slow = true;
                    told.follow_ups.push(path);
                }
                Verdict::Slow => {
                    self.tell_loop(std::slice::from_ref(&path), "");
                    told.is_slow = true;
                    told.saves.push(path);
                }
                Verdict::Nothing => tracing::debug!("{} is a known output", path.display()),
            }
        }
        // Nobody's save waits for what builds do to other files.
        told.is_slow &= !is_urgent;
        if !loops.is_empty() {
            self.tell_loop(&loops, "hotrun waits for a save now. ");
        }
        told
    }

    fn tell_loop(&mut self, paths: &[PathBuf], follows: &str) {
        let was_just_told = self.loop_told.is_some_and(|told| told.elapsed() < LOOP_PAUSE * 10);
        if was_just_told && follows.is_empty() {
            return;
        }
        self.loop_told = Some(Instant::now());
        let root = &self.config.watch.base;
        let names = name_paths(paths, root);
        let first = self.config.watch.relative(&paths[0]).display().to_string();
        self.report.say(&Notice::Warning(format!(
            "each build writes {names} and so causes the next; {follows}to leave it out: \
             [watch] exclude = [{first:?}]"
        )));
    }

    /// With `exclude_unchanged`: without the files that hold what they held for the last
    /// build that ended.
    fn without_unchanged(&mut self, paths: Vec<PathBuf>, tells: bool) -> Vec<PathBuf> {
        if !self.config.watch.exclude_unchanged {
            return paths;
        }
        let content = self.content();
        let (same, changed): (Vec<_>, Vec<_>) =
            paths.into_iter().partition(|path| self.fingerprints.is_unchanged(path, content(path)));
        if tells && !same.is_empty() {
            self.report.say(&Notice::Unchanged(same));
        }
        changed
    }

    pub(super) fn content(&self) -> impl Fn(&Path) -> Content + use<> {
        let filter = Rc::clone(&self.filter);
        move |path| content(path, &filter)
    }
}

/// A hash of what a file holds; `None` for what is no file. Of a large one, whose reading
/// would hold up the loop, size and time stand for the content. A file whose mere touch is a
/// save is never the same after one.
fn content(path: &Path, filter: &Filter) -> Content {
    let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut hasher = DefaultHasher::new();
    if meta.len() > MOST_READ || filter.is_trigger(path) {
        (meta.len(), meta.mtime(), meta.mtime_nsec()).hash(&mut hasher);
    } else {
        std::fs::read(path).ok()?.hash(&mut hasher);
    }
    Some(hasher.finish())
}
