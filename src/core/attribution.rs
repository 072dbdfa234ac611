//! Decides whether a build wrote a changed file, and what follows. Pure: observations come as data,
//! and so does the time.
//!
//! The operating system does not report which process wrote a file, so nothing here rests on a
//! guess:
//!
//! - The result of a build is current only if nothing that the build may have read has changed
//!   since it started. Contents are compared with what the *running* build can have read, never
//!   with what an earlier build left.
//! - A file counts as the build's own output only if that has been proved. A change of any other
//!   file is always built again.
//! - The proof is a *verification*: a build caused by such files alone that leaves the program
//!   unchanged ([`Outcome::Same`]). One is enough if it writes the files again, at the same time
//!   after its start. A generator that writes only what has changed needs `CREDITS_NEEDED` of them,
//!   and a *test*, since another program may react to the same save. In a test, the build that such
//!   a save causes is delayed once; what is written before it starts was not written by the build.
//! - A file that was ever saved while no build ran is a source. It is never an output.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

mod fingerprints;
mod verdict;
mod window;

pub(crate) use fingerprints::Fingerprints;
pub(crate) use verdict::{Judged, Step, Verdict};
pub(crate) use window::{During, Moment, Span, Window};

/// Verifications without a contradiction that prove a file to be an output.
const CREDITS_NEEDED: u32 = 3;
/// Verifications in a row, each of which wrote the same files again, that prove these to be
/// outputs.
const REPETITIONS_NEEDED: u32 = 3;
/// Maximum number of tests of a file that changes in none of the tested builds.
const MAX_TESTS: u32 = 3;
/// Delay of a tested build: this, and the time that the file took to change times this.
const TEST_DELAY: (Duration, u32) = (Duration::from_millis(200), 2);
/// Maximum time from the start of a build to the change of a file that is tested. A file that
/// changes later is proven only by being written again.
const MAX_TESTED: Duration = Duration::from_secs(2);
/// Builds in a row, each caused by a change during the previous one, before further ones are
/// delayed.
const MAX_UNDELAYED: u32 = 5;
/// Builds in a row in each of which an edited file changed once, at the same time. Either the build
/// changes the file, or a user saves whenever the build starts.
const ENDLESS: u32 = 20;
/// The first delay between such builds. It doubles, up to 64 times as much.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Maximum difference between the times, after the start of two builds, at which a file changed, to
/// count as the same time: this, or this fraction of the time.
const SAME_TIME: (Duration, u32) = (Duration::from_millis(100), 5);
/// Minimum time for which newer saves may keep cancelling builds, however short builds are.
const MIN_WITHOUT_RESULT: Duration = Duration::from_millis(500);
/// Maximum number of cancelled builds in a row before one has ever finished. Also the maximum
/// number of builds that a file may cancel that was never seen to change outside of builds.
const MAX_CANCELLED: u32 = 2;

/// What a file held when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    /// The file did not exist.
    Absent,
    Hash(u64),
    /// Not known, or not certain.
    Unknown,
}

impl Content {
    /// Returns true if both are known and equal.
    pub(crate) fn is(self, other: Content) -> bool {
        self == other && self != Content::Unknown
    }
}

/// A file that was saved, as it was observed when its writes were reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Save {
    pub path: PathBuf,
    /// What it held at each completed write of the burst, in this order.
    pub contents: Vec<Content>,
    /// Whether it existed before the burst; `None` if that is not known.
    pub existed: Option<bool>,
    /// Whether a write went into the existing file. Who read it meanwhile may have read a part.
    pub in_place: bool,
    /// When it was last changed, by its own timestamp, as of the last of these writes. For a link,
    /// the later one of its own time and its target's. `None` if it does not exist.
    pub stamp: Option<SystemTime>,
}

/// A change of one file, classified.
#[derive(Clone, Debug)]
struct Observed<'a> {
    path: &'a Path,
    /// What it held at each completed write of the burst, in this order.
    contents: &'a [Content],
    /// Whether it existed before the burst; `None` if that is not known.
    existed: Option<bool>,
    /// Whether a write went into the existing file.
    in_place: bool,
    during: During,
    /// The start of the burst.
    at: Instant,
}

/// What became of the program in a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is unchanged, byte for byte.
    Same,
    /// It has changed.
    Different,
    /// The program's file is not known, but all that builds write is seen.
    Unknown,
    /// The program's file is not known, and changes may go unseen.
    Unseen,
    /// The build failed.
    Failed,
}

/// What follows from the end of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BuildEnd {
    /// Files newly proven to be outputs, and directories all of whose contents are.
    pub proven: Vec<PathBuf>,
    /// Files that changed during the build and may be its outputs. A verification is to follow.
    pub verify: Vec<PathBuf>,
    /// Known outputs that the build has changed.
    pub written: Vec<PathBuf>,
    /// Delay of the next build, if builds seem to cause each other.
    pub pause: Option<Duration>,
    /// Whether this was a verification, and found that the previous build had read the same
    /// sources.
    pub confirms: bool,
}

/// What is known of a possible output: a path, or a directory that builds create.
#[derive(Clone, Debug, Default)]
struct Suspect {
    /// Verifications without a contradiction.
    credits: u32,
    /// Verifications in a row in which it changed again.
    repetitions: u32,
    /// In the last build: when it first changed, from the start of the build, and how often.
    last: Option<(Duration, u32)>,
    /// Maximum time from the start of a build to its first change.
    latest: Duration,
    /// The saves that caused the builds in which it changed.
    triggers: HashSet<PathBuf>,
    tests: u32,
    /// Whether it changed in a delayed build, but not during the delay.
    has_passed: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    File,
    /// Everything in the directory.
    Directory,
    /// Files whose names differ only by numbers, such as `gen-#.txt`.
    Family,
}

/// The running or last build, or run of rules.
#[derive(Clone, Debug)]
struct Run {
    is_build: bool,
    /// The possible outputs that alone have caused it. Empty if it is not a verification.
    verifies: BTreeSet<PathBuf>,
    /// Saves that caused it.
    triggers: HashSet<PathBuf>,
    /// The suspects that did not change while this build was delayed.
    tested: HashSet<PathBuf>,
    began: Instant,
    /// What the files that have changed since then held at its start.
    began_with: HashMap<PathBuf, Content>,
    /// Directories that appeared since its start.
    new_directories: BTreeSet<PathBuf>,
    /// Files written since its start: when first, from the start, and how often.
    written: HashMap<PathBuf, (Duration, u32)>,
    /// Files changed since its start that may be its outputs and await a verification.
    pending: BTreeSet<PathBuf>,
    /// Known outputs that have changed since its start.
    outputs: BTreeSet<PathBuf>,
    /// Files saved after the previous build had begun and before this one, and reported since,
    /// except possible outputs. The previous build may not have read them.
    read_anew: BTreeSet<PathBuf>,
    has_ended: bool,
    /// Whether it was a verification that confirmed the previous build, so that nothing was
    /// started.
    has_confirmed: bool,
    /// What became of the program, if it ended by itself.
    outcome: Option<Outcome>,
    /// The suspects that were evaluated at its end without a write of theirs, as they were before:
    /// the write may be reported after the end.
    unseen: HashMap<PathBuf, Option<Suspect>>,
}

/// Number of deletions after which what is known of deleted files is dropped.
const MAX_GONE: usize = 500;

#[derive(Clone, Debug, Default)]
pub(crate) struct Attribution {
    /// What each file held when it was last read.
    held: HashMap<PathBuf, Content>,
    /// Number of deletions seen since what is known of deleted files was dropped.
    deletions: usize,
    /// Deleted paths that were not known as files, and so may be directories. What is known of
    /// files below them is outdated.
    gone: HashSet<PathBuf>,
    /// Whether every file that matters was read when hotrun started.
    knows_all: bool,
    /// Paths that changed while no build ran.
    edited: HashSet<PathBuf>,
    /// Sources that builds write again as they are.
    rewritten: HashSet<PathBuf>,
    /// Proven outputs.
    outputs: HashSet<PathBuf>,
    /// Proven output directories.
    directories: BTreeSet<PathBuf>,
    /// Families of files of which builds are proven to create new members.
    families: HashSet<PathBuf>,
    /// Directories in which builds are proven to create files that they delete again.
    scratch: HashSet<PathBuf>,
    suspects: HashMap<PathBuf, Suspect>,
    run: Option<Run>,
    /// Saves since the start of the last build that was not cancelled.
    triggers: HashSet<PathBuf>,
    /// The suspects for which the next build is delayed, and the end of the delay.
    testing: Option<(HashSet<PathBuf>, Instant)>,
    /// Builds in a row that were caused by what changed while the previous one ran.
    turns: u32,
    /// Whether the next build has a cause from outside of builds.
    is_wanted: bool,
    /// Cancelled builds in a row, and the start of the first one.
    cancelled: Option<(u32, Instant)>,
    /// How often each file that was never edited outside of builds has cancelled a build.
    cancels: HashMap<PathBuf, u32>,
    /// Duration of the last build that finished.
    took: Option<Duration>,
    /// What was proven after the end of a build, and is yet to be reported.
    proven_late: Vec<PathBuf>,
}

impl Attribution {
    /// Records what the files held before hotrun started anything. `is_all`: there are no others.
    pub(crate) fn known(&mut self, files: Vec<(PathBuf, Content)>, is_all: bool) {
        for (path, content) in files {
            self.held.entry(path).or_insert(content);
        }
        self.knows_all = is_all;
    }

    /// Records what a file holds now, whatever follows from it.
    pub(crate) fn saw(&mut self, path: &Path, contents: &[Content]) {
        let Some(last) = contents.last() else { return };
        if !self.gone.is_empty() && path.ancestors().skip(1).any(|one| self.gone.contains(one)) {
            // The directory is back.
            self.forget_below_gone();
        }
        let before = self.held.insert(path.to_owned(), *last);
        if *last == Content::Absent {
            self.deletions += 1;
            if before.is_none_or(|before| before == Content::Absent) {
                self.gone.insert(path.to_owned());
            }
        }
    }

    /// Records that the files below deleted directories do not exist. A deleted directory is
    /// reported in place of its files.
    fn forget_below_gone(&mut self) {
        let gone = std::mem::take(&mut self.gone);
        if gone.is_empty() {
            return;
        }
        for (path, content) in &mut self.held {
            let is_below = || path.ancestors().skip(1).any(|one| gone.contains(one));
            if *content != Content::Absent && is_below() {
                *content = Content::Absent;
                self.deletions += 1;
            }
        }
    }

    /// Records the start of a build. `verifies`: the possible outputs that alone have caused it.
    pub(crate) fn build_began(&mut self, verifies: &[PathBuf], now: Instant) {
        self.turns = if std::mem::take(&mut self.is_wanted) { 0 } else { self.turns + 1 };
        self.began(true, verifies, now);
    }

    /// Records that the build was requested, or caused by a new configuration.
    pub(crate) fn wanted(&mut self) {
        self.is_wanted = true;
    }

    pub(crate) fn rules_began(&mut self, now: Instant) {
        self.began(false, &[], now);
    }

    /// Decides whether the build that a save is about to cause is delayed, to find out whether
    /// another program writes these files. Returns the delay and the files.
    fn test(&mut self, now: Instant) -> Option<(Duration, Vec<PathBuf>)> {
        if self.testing.take().is_some() {
            return None;
        }
        let triggers = &self.triggers;
        let is_due = |suspect: &Suspect| {
            suspect.credits + 1 >= CREDITS_NEEDED
                && !suspect.has_passed
                && suspect.tests < MAX_TESTS
                && suspect.latest <= MAX_TESTED
                && !suspect.triggers.is_disjoint(triggers)
        };
        let due = self.suspects.iter_mut().filter(|(_, suspect)| is_due(suspect));
        let (mut keys, mut latest) = (Vec::new(), Duration::ZERO);
        for (key, suspect) in due {
            suspect.tests += 1;
            latest = latest.max(suspect.latest);
            keys.push(key.clone());
        }
        if keys.is_empty() {
            return None;
        }
        keys.sort();
        let pause = TEST_DELAY.0 + latest * TEST_DELAY.1;
        self.testing = Some((keys.iter().cloned().collect(), now + pause));
        Some((pause, keys))
    }

    /// Drops what is known of files that came and went, when there are many: a project in which
    /// names never repeat must not cost more and more memory.
    fn forget_gone(&mut self) {
        self.forget_below_gone();
        if self.deletions <= MAX_GONE {
            return;
        }
        self.deletions = 0;
        let held = &self.held;
        let is_gone = |path: &PathBuf| held.get(path) == Some(&Content::Absent);
        self.edited.retain(|path| !is_gone(path));
        self.rewritten.retain(|path| !is_gone(path));
        self.cancels.retain(|path, _| !is_gone(path));
        self.suspects.retain(|key, suspect| {
            suspect.triggers.retain(|path| !is_gone(path));
            suspect.kind == Kind::Family || !is_gone(key)
        });
        self.held.retain(|_, content| *content != Content::Absent);
    }

    fn began(&mut self, is_build: bool, verifies: &[PathBuf], now: Instant) {
        self.forget_gone();
        let tested = self.testing.take().filter(|(_, until)| is_build && now >= *until);
        self.run = Some(Run {
            is_build,
            verifies: verifies.iter().cloned().collect(),
            triggers: self.triggers.clone(),
            tested: tested.map(|(keys, _)| keys).unwrap_or_default(),
            began: now,
            began_with: HashMap::new(),
            new_directories: BTreeSet::new(),
            written: HashMap::new(),
            pending: BTreeSet::new(),
            outputs: BTreeSet::new(),
            read_anew: BTreeSet::new(),
            has_ended: false,
            has_confirmed: false,
            outcome: None,
            unseen: HashMap::new(),
        });
    }

    pub(crate) fn directories_came(&mut self, directories: &[PathBuf]) {
        if let Some(run) = &mut self.run {
            run.new_directories.extend(directories.iter().cloned());
        }
    }

    /// Returns true for a proven output.
    pub(crate) fn is_output(&self, path: &Path) -> bool {
        !self.edited.contains(path)
            && (self.outputs.contains(path)
                || !self.directories.is_empty()
                    && path.ancestors().any(|one| self.directories.contains(one)))
    }

    /// Returns true for a file that the running or last build created, or that builds are proven or
    /// suspected to write.
    pub(crate) fn is_written(&self, path: &Path) -> bool {
        !self.edited.contains(path)
            && (self.is_output(path)
                || self.suspects.contains_key(&self.key(path))
                || self.is_new(path))
    }

    /// Returns true for a file that did not exist when the current or last build started.
    pub(crate) fn is_new(&self, path: &Path) -> bool {
        self.run.as_ref().is_some_and(|run| run.began_with.get(path) == Some(&Content::Absent))
    }

    /// Returns true for a file that did not exist when it was last looked at.
    pub(crate) fn is_gone(&self, path: &Path) -> bool {
        self.held.get(path) == Some(&Content::Absent)
    }

    /// Decides what follows from the save of a file that a build reads or, if `is_source` is false,
    /// that matches a rule. `window`: of the running or last build, or run of rules. Returns also
    /// in which phase of it the file changed.
    pub(crate) fn judge_save(
        &mut self,
        save: &Save,
        seen: Span,
        window: Option<&Window>,
        is_source: bool,
    ) -> (Verdict, During) {
        let during = window.map_or(During::Rest, |window| window.during(seen, save.stamp));
        if is_source
            && window.is_some_and(|window| window.has_read(seen))
            && self.is_read(&save.path)
        {
            self.saw(&save.path, &save.contents);
            return (Verdict::Read, during);
        }
        let Save { path, contents, existed, in_place, .. } = save;
        let change = Observed {
            path,
            contents,
            existed: *existed,
            in_place: *in_place,
            during,
            at: seen.first,
        };
        (self.judge(&change, is_source), during)
    }

    /// Records that the build has read a save that was reported only after it had begun. Returns
    /// false if that is known too late: no program was started after this build.
    fn is_read(&mut self, path: &Path) -> bool {
        if self.is_written(path) {
            return true;
        }
        let Some(run) = &mut self.run else { return true };
        if run.has_confirmed {
            return false;
        }
        run.read_anew.insert(path.to_owned());
        true
    }

    /// Returns what follows from saves of sources.
    pub(crate) fn steps(&mut self, judged: Judged, is_building: bool, now: Instant) -> Vec<Step> {
        judged.steps(|| if is_building { None } else { self.test(now) })
    }

    /// Decides what follows from the change of a file that a build reads or, if `is_source` is
    /// false, that matches a rule.
    fn judge(&mut self, change: &Observed<'_>, is_source: bool) -> Verdict {
        let path = change.path;
        let before = self.held.get(path).copied();
        self.saw(path, change.contents);
        let last = change.contents.last().copied().unwrap_or(Content::Unknown);
        if change.during == During::Rest {
            // This write changed nothing.
            if self.is_output(path) && before.is_some_and(|before| before.is(last)) {
                return Verdict::Nothing;
            }
            self.is_wanted = true;
            // A deletion, as by `make clean`, does not show which process writes the file.
            if !(self.is_output(path) && last == Content::Absent) {
                self.edit(path);
                self.triggers.insert(path.to_owned());
            }
            return Verdict::Save;
        }
        let offset = self
            .run
            .as_ref()
            .map_or(Duration::ZERO, |run| change.at.saturating_duration_since(run.began));
        let existed = self.existed(change, before);
        let key = self.key(path);
        let Some(run) = &mut self.run else { return Verdict::Save };
        let was = if existed { before.unwrap_or(Content::Unknown) } else { Content::Absent };
        let began_with = *run.began_with.entry(path.to_owned()).or_insert(was);
        run.written.entry(path.to_owned()).or_insert((offset, 0)).1 += 1;
        let is_new = began_with == Content::Absent;
        // Builds and rules have read this content and no other. Content that came and went may have
        // been read.
        if !is_new && change.contents.iter().all(|held| held.is(began_with)) {
            if !run.is_build {
                return Verdict::Nothing;
            }
            let is_suspect = self.suspects.contains_key(&key);
            if self.edited.contains(path) || !is_suspect && self.cancels.contains_key(path) {
                return self.rewritten_source(change, is_source);
            }
            // Probably the build writes it.
            self.suspects.entry(key).or_default();
            return Verdict::Nothing;
        }
        let comes_or_goes = is_new || last == Content::Absent;
        if self.is_output(path) || comes_or_goes && self.is_of_family(path) {
            if let Some(run) = &mut self.run {
                run.outputs.insert(path.to_owned());
            }
            return Verdict::Nothing;
        }
        let Some(run) = &mut self.run else { return Verdict::Save };
        if !run.is_build || !is_source {
            return Verdict::Save;
        }
        // The end of the build was evaluated without this write.
        if run.unseen.contains_key(&key) && run.verifies.contains(path) {
            self.edited.remove(path);
        }
        let is_edited = self.edited.contains(path);
        let is_verified = run.verifies.contains(path) || run.verifies.contains(&key);
        let is_suspect = is_new
            || is_verified
            || self.suspects.contains_key(&key)
            || change.during == During::Before && !self.cancels.contains_key(path);
        if is_suspect && !is_edited && (is_new || change.during != During::Unsure) {
            return self.pend(path);
        }
        let is_regular = is_edited && self.is_by_the_clock(&key, path);
        if is_regular && self.turns >= ENDLESS {
            // Does not cancel a build that takes no longer than others.
            let end = self.let_through(change).unwrap_or_default();
            return Verdict::SaveLater(end.max(FIRST_DELAY));
        }
        self.cancel(change)
    }

    /// Decides what follows if a source holds what the running build began with, but was written
    /// again. The build may have read it while only a part was written. So one more build follows,
    /// unless it is the builds that write it again.
    fn rewritten_source(&mut self, change: &Observed<'_>, is_source: bool) -> Verdict {
        let Some(run) = &self.run else { return Verdict::Nothing };
        let may_be_torn = change.in_place && is_source && change.during != During::Before;
        if !may_be_torn || self.rewritten.contains(change.path) {
            return Verdict::Nothing;
        }
        if run.verifies.contains(change.path) {
            self.rewritten.insert(change.path.to_owned());
            return Verdict::Nothing;
        }
        Verdict::Verify { pause: self.pause() }
    }

    /// Returns whether the file existed when the run started.
    fn existed(&self, change: &Observed<'_>, before: Option<Content>) -> bool {
        let is_below_new = self.run.as_ref().is_some_and(|run| {
            !run.new_directories.is_empty()
                && change.path.ancestors().any(|one| run.new_directories.contains(one))
        });
        match (before, change.existed) {
            _ if is_below_new => false,
            (Some(before), _) => before != Content::Absent,
            (None, Some(existed)) => existed,
            (None, None) => !self.knows_all,
        }
    }

    /// A save cancels the running build, unless nothing newer would start for longer than two
    /// builds take.
    fn cancel(&mut self, change: &Observed<'_>) -> Verdict {
        if self.edited.contains(change.path) {
            self.triggers.insert(change.path.to_owned());
        }
        if !self.edited.contains(change.path) {
            // A change at an unsure time does not count, but from now on the file is not one that
            // only a `pre_cmd` has ever changed.
            let cancels = self.cancels.entry(change.path.to_owned()).or_default();
            *cancels += u32::from(change.during != During::Unsure);
            if *cancels > MAX_CANCELLED {
                return self.pend(change.path);
            }
        }
        let Some(run) = self.run.as_ref().filter(|run| !run.has_ended) else {
            return Verdict::Save;
        };
        let (count, first) = self.cancelled.unwrap_or((0, run.began));
        let is_enough = match self.took {
            Some(took) => {
                let elapsed = change.at.saturating_duration_since(first);
                count > 0 && elapsed > MIN_WITHOUT_RESULT.max(took.mul_f32(0.8))
            }
            None => count >= MAX_CANCELLED,
        };
        if !is_enough {
            self.cancelled = Some((count, first));
            return Verdict::Save;
        }
        match self.let_through(change) {
            Some(within) => Verdict::Finish { within },
            None => Verdict::Save,
        }
    }

    /// Returns the time for which the running build may continue instead of being cancelled.
    fn let_through(&self, change: &Observed<'_>) -> Option<Duration> {
        let run = self.run.as_ref().filter(|run| !run.has_ended)?;
        let ends = run.began + MIN_WITHOUT_RESULT.max(self.took.unwrap_or_default() * 2);
        ends.checked_duration_since(change.at)
    }

    /// Keeps a possible output for the end of the build.
    fn pend(&mut self, path: &Path) -> Verdict {
        let Some(run) = &mut self.run else { return Verdict::Save };
        run.pending.insert(path.to_owned());
        if !run.has_ended {
            return Verdict::Pending;
        }
        if self.verify_late(path) {
            return Verdict::Nothing;
        }
        self.suspect(path);
        Verdict::Verify { pause: self.pause() }
    }

    /// Evaluates the end of the last build again for a suspect whose write is reported after it.
    /// Returns true if it is an output.
    fn verify_late(&mut self, path: &Path) -> bool {
        let key = self.key(path);
        let Some(run) = &mut self.run else { return false };
        let Some(outcome) = run.outcome else { return false };
        let Some(before) = run.unseen.remove(&key) else { return false };
        let run = run.clone();
        match before {
            Some(suspect) => self.suspects.insert(key.clone(), suspect),
            None => self.suspects.remove(&key),
        };
        let is_proven = self.verify(&key, &run, outcome);
        if is_proven {
            self.proven_late.push(key);
        }
        is_proven
    }

    /// Returns what was proven to be an output since the end of the last build, once.
    pub(crate) fn take_proven_late(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.proven_late)
    }

    /// Makes a file that changed in the last build a suspect.
    fn suspect(&mut self, path: &Path) {
        let Some(run) = &self.run else { return };
        let is_new = run.began_with.get(path) == Some(&Content::Absent);
        let (key, kind) = match (topmost_new(path, run), family(path)) {
            (Some(new), _) => (new, Kind::Directory),
            (None, Some(family)) if is_new && self.key(path) == path => (family, Kind::Family),
            (None, _) => (self.key(path), Kind::File),
        };
        let when = run.written.get(path).copied();
        let (triggers, is_tested) = (run.triggers.clone(), run.tested.contains(&key));
        let suspect = self.suspects.entry(key).or_default();
        if kind != Kind::File {
            suspect.kind = kind;
        }
        suspect.triggers.extend(triggers);
        suspect.has_passed |= is_tested;
        suspect.latest = suspect.latest.max(when.map(|(after, _)| after).unwrap_or_default());
        suspect.last = suspect.last.min(when).or(suspect.last).or(when);
    }

    pub(crate) fn build_cancelled(&mut self) {
        if let Some(run) = &mut self.run {
            let (count, first) = self.cancelled.unwrap_or((0, run.began));
            self.cancelled = Some((count + 1, first));
            run.has_ended = true;
        }
    }

    /// Records the end of a build that was not cancelled, and decides what follows.
    pub(crate) fn build_ended(&mut self, outcome: Outcome, now: Instant) -> BuildEnd {
        self.cancelled = None;
        self.triggers.clear();
        let Some(run) = &mut self.run else { return BuildEnd::default() };
        run.has_ended = true;
        run.outcome = Some(outcome);
        if outcome != Outcome::Failed {
            self.took = Some(now.saturating_duration_since(run.began));
        }
        let run = run.clone();
        let mut keys: BTreeSet<PathBuf> = run.verifies.iter().map(|one| self.key(one)).collect();
        keys.retain(|key| !self.edited.contains(key));
        let is_unseen =
            |key: &&PathBuf| !run.written.keys().any(|path| self.is_counted_as(path, key));
        let unseen = keys.iter().filter(is_unseen);
        let unseen = unseen.map(|key| (key.clone(), self.suspects.get(key).cloned())).collect();
        keys.retain(|key| self.verify(key, &run, outcome));
        if let Some(run) = &mut self.run {
            run.unseen = unseen;
        }
        let mut verify: Vec<PathBuf> = run.pending.iter().cloned().collect();
        verify.retain(|path| {
            !self.is_output(path) && !self.is_of_family(path) && !self.was_scratch(path)
        });
        for path in &verify {
            self.suspect(path);
        }
        let is_confirmed = |path: &PathBuf| match outcome {
            Outcome::Same | Outcome::Unknown => true,
            Outcome::Unseen => self.is_output(path) || self.is_of_family(path),
            Outcome::Different | Outcome::Failed => false,
        };
        // Where all that builds write is seen, a build that writes the same has read the same.
        let is_insignificant = |path: &PathBuf| match outcome {
            Outcome::Same => true,
            Outcome::Unknown => !self.edited.contains(path),
            Outcome::Unseen | Outcome::Different | Outcome::Failed => false,
        };
        let confirms = !run.verifies.is_empty()
            && (verify.is_empty() || outcome == Outcome::Same)
            && run.verifies.iter().all(is_confirmed)
            && run.read_anew.iter().all(is_insignificant);
        if let Some(run) = &mut self.run {
            run.has_confirmed = confirms || outcome == Outcome::Same;
        }
        let pause = self.pause();
        let written = run.outputs.into_iter().collect();
        BuildEnd { proven: keys.into_iter().collect(), verify, written, pause, confirms }
    }

    /// Evaluates the end of this verification for a suspect. Returns true if it is an output.
    fn verify(&mut self, key: &Path, run: &Run, outcome: Outcome) -> bool {
        let is_its = |path: &PathBuf| self.is_counted_as(path, key);
        let is_family = self.suspects.get(key).is_some_and(|one| one.kind == Kind::Family);
        // That a member is written again says nothing about who creates members.
        let is_evidence =
            |path: &PathBuf| !is_family || run.began_with.get(path) == Some(&Content::Absent);
        let wrote = run.written.iter().filter(|(path, _)| is_its(path) && is_evidence(path));
        let wrote = wrote.map(|(_, when)| *when).min();
        let is_changed = run.pending.iter().any(is_its);
        let verified: Vec<PathBuf> =
            run.verifies.iter().filter(|path| is_its(path)).cloned().collect();
        let is_scratch = verified
            .iter()
            .all(|path| self.held.get(path).is_some_and(|held| *held == Content::Absent));
        let suspect = self.suspects.entry(key.to_owned()).or_default();
        let is_regular = match (suspect.last, wrote) {
            (Some((before, _)), Some((now, _))) => is_same_time(before, now),
            _ => false,
        };
        // No save has caused this build, so no other program has reacted to one.
        suspect.has_passed |= wrote.is_some();
        let mut is_proven = false;
        match outcome {
            Outcome::Failed | Outcome::Unseen if !is_changed && !is_regular => return false,
            Outcome::Failed if !is_changed => return false,
            Outcome::Same if is_regular => is_proven = true,
            // It wrote the same content again.
            Outcome::Unknown | Outcome::Unseen if !is_changed && is_regular => is_proven = true,
            // In a directory that builds create, whenever they write.
            Outcome::Same | Outcome::Unknown
                if !is_changed || outcome == Outcome::Same && suspect.kind == Kind::Directory =>
            {
                suspect.credits += 1;
            }
            // Another program wrote it: the previous build had not read it.
            Outcome::Different if !is_changed => {
                self.suspects.remove(key);
                self.edited.extend(verified);
                return false;
            }
            Outcome::Same
            | Outcome::Unknown
            | Outcome::Unseen
            | Outcome::Different
            | Outcome::Failed => {
                suspect.repetitions = if is_regular { suspect.repetitions + 1 } else { 0 };
            }
        }
        suspect.last = None;
        is_proven |= suspect.credits >= CREDITS_NEEDED && suspect.has_passed;
        if !is_proven && suspect.repetitions < REPETITIONS_NEEDED {
            return false;
        }
        let kind = suspect.kind;
        self.suspects.remove(key);
        match kind {
            Kind::Directory => {
                self.directories.insert(key.to_owned());
            }
            Kind::Family => {
                self.families.insert(key.to_owned());
            }
            Kind::File => {
                self.outputs.insert(key.to_owned());
            }
        }
        if let Some(parent) = key.parent().filter(|_| is_scratch && kind != Kind::Directory) {
            self.scratch.insert(parent.to_owned());
        }
        true
    }

    fn is_counted_as(&self, path: &Path, key: &Path) -> bool {
        match self.suspects.get(key).map(|suspect| suspect.kind) {
            Some(Kind::Directory) => path.starts_with(key),
            Some(Kind::Family) => family(path).as_deref() == Some(key),
            Some(Kind::File) | None => path == key,
        }
    }

    /// Records that the file is edited outside of builds.
    fn edit(&mut self, path: &Path) {
        self.edited.insert(path.to_owned());
        self.outputs.remove(path);
        self.suspects.remove(path);
        self.cancels.remove(path);
    }

    /// Returns the suspect that the path counts as: the path itself, a directory that builds
    /// create, or its family.
    fn key(&self, path: &Path) -> PathBuf {
        let is = |one: &Path, kind| self.suspects.get(one).is_some_and(|one| one.kind == kind);
        if let Some(directory) = path.ancestors().find(|one| is(one, Kind::Directory)) {
            return directory.to_owned();
        }
        family(path).filter(|family| is(family, Kind::Family)).unwrap_or_else(|| path.to_owned())
    }

    /// Returns true for a member of a family of which builds create new members.
    fn is_of_family(&self, path: &Path) -> bool {
        !self.families.is_empty()
            && !self.edited.contains(path)
            && family(path).is_some_and(|family| self.families.contains(&family))
    }

    /// Returns true if it was created and deleted in this build, in a directory where builds do
    /// that.
    fn was_scratch(&self, path: &Path) -> bool {
        self.is_new(path)
            && self.is_gone(path)
            && path.parent().is_some_and(|parent| self.scratch.contains(parent))
    }

    /// Returns true if it changed once in this build, at the same time as in the previous one.
    fn is_by_the_clock(&mut self, key: &Path, path: &Path) -> bool {
        let now = self.run.as_ref().and_then(|run| run.written.get(path)).copied();
        let suspect = self.suspects.entry(key.to_owned()).or_default();
        let before = std::mem::replace(&mut suspect.last, now);
        let once = |when: Option<(Duration, u32)>| when.is_some_and(|(_, count)| count == 1);
        let is_so = match (before, now) {
            (Some((before, _)), Some((now, _))) => is_same_time(before, now),
            _ => false,
        };
        is_so && once(before) && once(now)
    }

    /// Returns the delay of the next build if only the previous one causes it.
    fn pause(&self) -> Option<Duration> {
        let over = self.turns.checked_sub(MAX_UNDELAYED)?;
        Some(FIRST_DELAY * 2_u32.pow(over.min(6)))
    }
}

/// Returns the path with `#` for each number in the file's name; `None` if there is none.
fn family(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let mut family = String::new();
    let mut had_number = false;
    for one in name.chars() {
        if !one.is_ascii_digit() {
            family.push(one);
        } else if !family.ends_with('#') {
            family.push('#');
            had_number = true;
        }
    }
    had_number.then(|| path.with_file_name(family))
}

/// Returns the topmost parent directory that appeared in this run.
fn topmost_new(path: &Path, run: &Run) -> Option<PathBuf> {
    path.ancestors().filter(|one| run.new_directories.contains(*one)).last().map(Path::to_owned)
}

fn is_same_time(one: Duration, other: Duration) -> bool {
    one.abs_diff(other) <= SAME_TIME.0.max(one.max(other) / SAME_TIME.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use During::{Before, Cmd, JustEnded, Rest};
    use Verdict::{Nothing, Pending, Save};

    const VERIFY: Verdict = Verdict::Verify { pause: None };

    /// A project to which things happen, at times in milliseconds.
    struct World {
        attribution: Attribution,
        now: Instant,
    }

    impl World {
        /// Creates a project in which these files hold 0, and there are no others.
        fn new(files: &[&str]) -> Self {
            let mut attribution = Attribution::default();
            let known = files.iter().map(|file| (PathBuf::from(file), Content::Hash(0)));
            attribution.known(known.collect(), true);
            attribution.wanted();
            Self { attribution, now: Instant::now() }
        }

        fn begin(&mut self) {
            self.attribution.build_began(&[], self.now);
        }

        fn verify(&mut self, paths: &[&str]) {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            self.attribution.build_began(&paths, self.now);
        }

        /// Writes this content to the file after this time.
        fn write(&mut self, after: u64, path: &str, content: u64, during: During) -> Verdict {
            self.see(after, path, &[Content::Hash(content)], during)
        }

        fn see(&mut self, after: u64, path: &str, held: &[Content], during: During) -> Verdict {
            self.now += Duration::from_millis(after);
            let (path, at) = (Path::new(path), self.now);
            let in_place = true;
            let change = Observed { path, contents: held, existed: None, in_place, during, at };
            self.attribution.judge(&change, true)
        }

        fn end(&mut self, outcome: Outcome) -> (Vec<String>, Vec<String>) {
            self.now += Duration::from_millis(100);
            let end = self.attribution.build_ended(outcome, self.now);
            assert_eq!(end.pause, None);
            let names = |paths: Vec<PathBuf>| -> Vec<String> {
                paths.iter().map(|path| path.display().to_string()).collect()
            };
            (names(end.proven), names(end.verify))
        }

        /// Returns the files for which the next build is delayed, and waits for the end of the
        /// delay.
        fn test(&mut self) -> Vec<String> {
            let Some((pause, keys)) = self.attribution.test(self.now) else { return Vec::new() };
            self.now += pause;
            keys.iter().map(|path| path.display().to_string()).collect()
        }

        fn cancel(&mut self) {
            self.attribution.build_cancelled();
            self.begin();
        }
    }

    fn none() -> (Vec<String>, Vec<String>) {
        (Vec::new(), Vec::new())
    }

    #[test]
    fn files_that_come_and_go_under_new_names_do_not_accumulate() {
        let mut world = World::new(&["a"]);
        for number in 0..3 * MAX_GONE {
            let name = format!("made{number}");
            for content in [Content::Hash(1), Content::Absent] {
                world.see(10, &name, &[content], Rest);
            }
            world.begin();
            // Another one comes during a build, and goes.
            let name = format!("{number}/made");
            world.see(10, &name, &[Content::Hash(1)], Cmd);
            world.end(Outcome::Different);
            world.see(10, &name, &[Content::Absent], Rest);
        }
        let Attribution { held, edited, suspects, .. } = &world.attribution;
        assert!(held.len() <= MAX_GONE + 2 && edited.len() <= MAX_GONE + 2, "{}", held.len());
        assert!(suspects.len() <= MAX_GONE + 2, "{}", suspects.len());
        let triggers = suspects.values().map(|suspect| suspect.triggers.len()).max();
        assert!(triggers <= Some(MAX_GONE + 2), "{triggers:?}");
    }

    #[test]
    fn what_was_in_directories_that_come_and_go_under_new_names_does_not_accumulate() {
        let mut world = World::new(&["a"]);
        for number in 0..3 * MAX_GONE {
            // One comes at rest, and another one during a build. Only the directories are reported
            // when they go.
            let (rest, build) = (format!("rest{number}"), format!("build{number}"));
            world.see(10, &format!("{rest}/file"), &[Content::Hash(1)], Rest);
            world.begin();
            world.attribution.directories_came(&[PathBuf::from(&build)]);
            world.see(10, &format!("{build}/file"), &[Content::Hash(1)], Cmd);
            world.end(Outcome::Different);
            world.see(5_000, &rest, &[Content::Absent], Rest);
            world.see(10, &build, &[Content::Absent], Rest);
        }
        let Attribution { held, edited, suspects, gone, .. } = &world.attribution;
        let counts = [held.len(), edited.len(), suspects.len(), gone.len()];
        assert!(counts.iter().all(|count| *count <= 2 * MAX_GONE), "{counts:?}");
    }

    #[test]
    fn a_directory_that_comes_back_brings_back_only_the_files_that_are_seen() {
        let mut world = World::new(&["dir/one", "dir/two", "three"]);
        world.see(5_000, "dir", &[Content::Absent], Rest);
        world.see(5_000, "dir/one", &[Content::Hash(0)], Rest);
        world.begin();
        let held = |path: &str| world.attribution.held.get(Path::new(path)).copied();
        assert_eq!(held("dir/one"), Some(Content::Hash(0)));
        assert_eq!(held("dir/two"), Some(Content::Absent));
        assert_eq!(held("three"), Some(Content::Hash(0)));
    }

    #[test]
    fn a_file_that_a_build_writes_again_as_it_was_is_no_save_in_any_phase() {
        let mut world = World::new(&["gen.go"]);
        world.begin();
        assert_eq!(world.write(5, "gen.go", 0, Before), Nothing);
        assert_eq!(world.write(5, "gen.go", 0, Cmd), Nothing);
        assert_eq!(world.end(Outcome::Different), none());
        assert_eq!(world.write(5, "gen.go", 0, JustEnded), Nothing);
        // But at rest it is a save.
        assert_eq!(world.write(5_000, "gen.go", 0, Rest), Save);
    }

    #[test]
    fn what_was_there_and_back_within_a_burst_is_a_save() {
        let mut world = World::new(&["main.go"]);
        world.begin();
        let there_and_back = [Content::Hash(1), Content::Hash(0)];
        assert_eq!(world.see(5, "main.go", &there_and_back, Cmd), Save);
        world.cancel();
        let unseen = [Content::Unknown, Content::Hash(0)];
        assert_eq!(world.see(5, "main.go", &unseen, Cmd), Save);
    }

    #[test]
    fn contents_are_compared_with_what_the_running_build_can_have_read() {
        // An external generator, and an undo while its output builds.
        let mut world = World::new(&["gen.go"]);
        world.begin();
        assert_eq!(world.end(Outcome::Different), none());
        assert_eq!(world.write(900, "a.templ", 6, Rest), Save);
        world.begin();
        assert_eq!(world.write(50, "gen.go", 6, Cmd), Save);
        world.cancel();
        // The last finished build has read this content, but not the running one.
        assert_eq!(world.write(50, "gen.go", 0, Cmd), Save);
        world.cancel();
        assert_eq!(world.end(Outcome::Same), none());
    }

    #[test]
    fn new_files_and_what_is_in_new_directories_wait_for_the_end_and_are_verified() {
        let mut world = World::new(&["main.c"]);
        world.begin();
        world.attribution.directories_came(&["build".into(), "build/deep".into()]);
        assert_eq!(world.write(5, "build/a.o", 1, Cmd), Pending);
        assert_eq!(world.write(5, "build/deep/b.o", 1, Cmd), Pending);
        let files = ["build/a.o", "build/deep/b.o"];
        assert_eq!(world.end(Outcome::Different), (vec![], files.map(String::from).to_vec()));
        world.verify(&files);
        assert_eq!(world.write(5, "build/a.o", 2, Cmd), Pending, "with a time in it");
        assert_eq!(world.end(Outcome::Same).0, ["build"]);
        world.attribution.wanted();
        world.begin();
        assert_eq!(world.write(5, "build/a.o", 3, Cmd), Nothing);
        assert_eq!(world.write(5, "build/new.o", 3, Cmd), Nothing);
        assert_eq!(world.end(Outcome::Different), none());
        // The user edits one of them.
        assert_eq!(world.write(5_000, "build/a.o", 4, Rest), Save);
        world.begin();
        assert_eq!(world.write(5, "build/new.o", 5, Cmd), Nothing);
        assert_eq!(world.write(5, "build/a.o", 5, Cmd), Save);
    }

    #[test]
    fn a_new_file_that_the_build_had_not_read_is_somebodys_and_cancels_from_then_on() {
        let mut world = World::new(&["main.go"]);
        world.begin();
        assert_eq!(world.write(50, "new.go", 1, Cmd), Pending);
        assert_eq!(world.end(Outcome::Different).1, ["new.go"]);
        world.verify(&["new.go"]);
        assert_eq!(world.end(Outcome::Different), none());
        world.begin();
        assert_eq!(world.write(50, "new.go", 2, Cmd), Save);
    }

    #[test]
    fn a_generator_that_writes_only_what_has_changed_is_proven_by_three_verifications_and_a_test() {
        let mut world = World::new(&["a.templ"]);
        for number in 1..=3 {
            assert_eq!(world.write(5_000, "a.templ", number, Rest), Save);
            let tested = world.test();
            assert_eq!(tested, if number == 3 { vec!["a_templ.go"] } else { vec![] });
            world.begin();
            assert_eq!(world.write(5, "a_templ.go", number, Cmd), Pending, "{number}");
            assert_eq!(world.end(Outcome::Different).1, ["a_templ.go"]);
            world.verify(&["a_templ.go"]);
            let (proven, verify) = world.end(Outcome::Same);
            assert_eq!((proven.len(), verify.len()), (usize::from(number == 3), 0), "{number}");
        }
        world.begin();
        assert_eq!(world.write(5, "a_templ.go", 9, Cmd), Nothing);
        assert_eq!(world.end(Outcome::Different), none());
        assert_eq!(world.write(5_000, "a_templ.go", 9, Rest), Nothing, "written again as it is");
        assert_eq!(world.write(5_000, "a_templ.go", 8, Rest), Save, "somebody edits it");
    }

    #[test]
    fn another_program_that_reacts_to_the_same_saves_is_found_out_by_the_test() {
        let mut world = World::new(&["a.templ"]);
        for number in 1..=2 {
            assert_eq!(world.write(5_000, "a.templ", number, Rest), Save);
            assert!(world.test().is_empty());
            world.begin();
            assert_eq!(world.write(50, "a_templ.go", number, Cmd), Pending, "{number}");
            assert_eq!(world.end(Outcome::Different).1, ["a_templ.go"]);
            world.verify(&["a_templ.go"]);
            assert_eq!(world.end(Outcome::Same), none());
        }
        assert_eq!(world.write(5_000, "a.templ", 3, Rest), Save);
        let (pause, keys) = world.attribution.test(world.now).unwrap();
        assert_eq!((pause.as_millis(), keys), (300, vec!["a_templ.go".into()]));
        assert_eq!(world.write(50, "a_templ.go", 3, Rest), Save);
        assert!(world.test().is_empty());
        world.begin();
        assert_eq!(world.write(50, "a_templ.go", 4, Cmd), Save, "it cancels from then on");
    }

    #[test]
    fn a_test_that_a_save_cuts_short_or_in_which_nothing_changes_proves_nothing() {
        let mut world = World::new(&["a.templ", "main.go"]);
        let mut number = 0;
        let mut one = |world: &mut World, waits: bool, writes: bool| -> bool {
            number += 1;
            assert_eq!(world.write(5_000, "a.templ", number, Rest), Save);
            let is_tested = world.attribution.test(world.now).is_some();
            world.now += Duration::from_millis(if waits { 1_000 } else { 5 });
            world.begin();
            if writes {
                assert_eq!(world.write(5, "a_templ.go", number, Cmd), Pending);
                world.end(Outcome::Different);
                world.verify(&["a_templ.go"]);
            }
            assert_eq!(world.end(Outcome::Same).0, Vec::<String>::new());
            is_tested
        };
        assert!(!one(&mut world, true, true));
        assert!(!one(&mut world, true, true));
        assert!(one(&mut world, false, true), "a save cuts it short");
        assert!(one(&mut world, true, false), "nothing changes");
        assert!(one(&mut world, false, true));
        assert!(!one(&mut world, true, true), "often enough");
        // A save of another file is no reason to test.
        let mut world = World::new(&["a.templ", "main.go"]);
        for number in 1..=2 {
            world.write(5_000, "a.templ", number, Rest);
            world.begin();
            world.write(5, "a_templ.go", number, Cmd);
            world.end(Outcome::Different);
            world.verify(&["a_templ.go"]);
            world.end(Outcome::Same);
        }
        assert_eq!(world.write(5_000, "main.go", 1, Rest), Save);
        assert!(world.test().is_empty());
    }

    #[test]
    fn a_file_that_was_there_cancels_twice_and_is_verified_then() {
        let mut world = World::new(&["gen.go"]);
        world.begin();
        for number in 1..=2 {
            assert_eq!(world.write(5, "gen.go", number, Cmd), Save);
            world.cancel();
        }
        assert_eq!(world.write(5, "gen.go", 3, Cmd), Pending);
        assert_eq!(world.end(Outcome::Different).1, ["gen.go"]);
        world.verify(&["gen.go"]);
        assert_eq!(world.write(5, "gen.go", 4, Cmd), Pending);
        assert_eq!(world.end(Outcome::Same).0, ["gen.go"]);
    }

    #[test]
    fn before_cmd_nothing_is_cancelled_for_a_file_that_nobody_edits() {
        let mut world = World::new(&["gen.go", "main.go"]);
        assert_eq!(world.write(0, "main.go", 1, Rest), Save);
        world.begin();
        assert_eq!(world.write(5, "gen.go", 1, Before), Pending);
        // A formatter, or a user who saves once more.
        assert_eq!(world.write(5, "main.go", 2, Before), Save);
    }

    #[test]
    fn a_save_in_the_moment_a_build_ended_lets_the_next_cancel_its_pre_cmd() {
        let mut world = World::new(&["main.go"]);
        world.begin();
        assert_eq!(world.end(Outcome::Different), none());
        assert_eq!(world.write(1, "main.go", 1, During::Unsure), Save);
        world.begin();
        assert_eq!(world.write(20, "main.go", 2, Before), Save);
        // If a `pre_cmd` writes it, that is detected as for any other file.
        world.cancel();
        assert_eq!(world.write(20, "main.go", 3, Before), Save);
        world.cancel();
        assert_eq!(world.write(20, "main.go", 4, Before), Pending);
    }

    #[test]
    fn where_no_program_is_known_three_regular_repetitions_prove_and_three_irregular_do_not() {
        for (second, proven) in [(5, 1), (500, 0)] {
            let mut world = World::new(&["main.c"]);
            world.begin();
            assert_eq!(world.write(5, "a.s", 1, Cmd), Pending);
            assert_eq!(world.end(Outcome::Unknown).1, ["a.s"]);
            for (number, after) in [(2, 5), (3, second), (4, 5)] {
                world.verify(&["a.s"]);
                assert_eq!(world.write(after, "a.s", number, Cmd), Pending);
                let (found, _) = world.end(Outcome::Unknown);
                assert_eq!(found.len(), if number == 4 { proven } else { 0 }, "{second} {number}");
            }
        }
    }

    #[test]
    fn files_whose_names_differ_by_numbers_are_one_family() {
        let mut world = World::new(&["main.c"]);
        world.begin();
        assert_eq!(world.write(5, "gen-1.txt", 1, Cmd), Pending);
        assert_eq!(world.end(Outcome::Unknown).1, ["gen-1.txt"]);
        let mut last = "gen-1.txt".to_owned();
        for number in 2..=4 {
            world.verify(&[&last]);
            last = format!("gen-{number}.txt");
            assert_eq!(world.write(5, &last, 1, Cmd), Pending, "{number}");
            let (proven, verify) = world.end(Outcome::Unknown);
            assert_eq!(proven, if number == 4 { vec!["gen-#.txt"] } else { vec![] });
            assert_eq!(verify.len(), usize::from(number < 4));
        }
        world.begin();
        assert_eq!(world.write(5, "gen-77.txt", 1, Cmd), Nothing);
        // A file that existed is not new: another program may have written it.
        world.cancel();
        assert_eq!(world.write(5, "gen-77.txt", 2, Cmd), Save);
    }

    #[test]
    fn a_member_of_a_family_that_is_written_again_does_not_show_who_creates_members() {
        let mut world = World::new(&["main.c"]);
        world.begin();
        assert_eq!(world.write(5, "made1.txt", 1, Cmd), Pending);
        assert_eq!(world.end(Outcome::Unseen).1, ["made1.txt"]);
        world.verify(&["made1.txt"]);
        assert_eq!(world.write(5, "made1.txt", 1, Cmd), Nothing);
        assert_eq!(world.end(Outcome::Unseen), none());
        world.begin();
        assert_eq!(world.write(5, "made2.txt", 1, Cmd), Pending);
    }

    #[test]
    fn scratch_files_of_any_name_cost_nothing_once_that_is_proven() {
        let mut world = World::new(&["main.c"]);
        let scratch = |world: &mut World, name: &str| {
            assert_eq!(world.write(5, name, 1, Cmd), Pending, "{name}");
            assert_eq!(world.see(5, name, &[Content::Absent], Cmd), Pending, "{name}");
        };
        world.begin();
        scratch(&mut world, "conftest");
        assert_eq!(world.end(Outcome::Different).1, ["conftest"]);
        world.verify(&["conftest"]);
        scratch(&mut world, "conftest");
        assert_eq!(world.end(Outcome::Same).0, ["conftest"]);
        world.begin();
        scratch(&mut world, "xyz");
        assert_eq!(world.end(Outcome::Different), none());
        // A file that stays is not scratch.
        world.begin();
        assert_eq!(world.write(5, "stays", 1, Cmd), Pending);
        assert_eq!(world.end(Outcome::Different).1, ["stays"]);
    }

    #[test]
    fn under_steady_saving_a_build_is_let_through_within_two_builds_time() {
        let mut world = World::new(&["main.go"]);
        world.begin();
        world.now += Duration::from_millis(1_400);
        world.end(Outcome::Different);
        world.write(3_000, "main.go", 1, Rest);
        world.begin();
        assert_eq!(world.write(700, "main.go", 2, Cmd), Save);
        world.cancel();
        let verdict = world.write(700, "main.go", 3, Cmd);
        assert_eq!(verdict, Verdict::Finish { within: Duration::from_millis(2_300) });
        // A build that takes much longer than others is cancelled.
        assert_eq!(world.write(2_400, "main.go", 4, Cmd), Save);
    }

    #[test]
    fn a_save_that_is_reported_after_the_end_of_a_build_counts_by_the_same_rules() {
        let mut world = World::new(&["main.go"]);
        world.begin();
        world.end(Outcome::Different);
        assert_eq!(world.write(1, "new.go", 1, JustEnded), VERIFY);
        assert_eq!(world.write(1, "main.go", 1, JustEnded), Save);
        assert_eq!(world.write(1, "new.go", 2, During::Unsure), VERIFY);
        assert_eq!(world.write(1, "main.go", 2, During::Unsure), Save);
    }

    #[test]
    fn what_a_short_build_writes_is_proven_though_it_is_reported_after_its_end() {
        for outcome in [Outcome::Same, Outcome::Unknown, Outcome::Unseen, Outcome::Different] {
            let mut world = World::new(&["main.c", "gen.c"]);
            world.begin();
            let mut rounds = 0;
            loop {
                rounds += 1;
                assert!(rounds < 8, "{outcome:?}: it is never proven");
                world.now += Duration::from_millis(3);
                let (path, at) = (Path::new("gen.c"), world.now);
                let _ = world.attribution.build_ended(outcome, at);
                let contents = [Content::Hash(rounds)];
                let change = Observed {
                    path,
                    contents: &contents,
                    existed: None,
                    in_place: true,
                    during: JustEnded,
                    at,
                };
                match world.attribution.judge(&change, true) {
                    Nothing => break,
                    // Whether an edited file is meant is not known yet.
                    Save => world.begin(),
                    Verdict::Verify { .. } => world.verify(&["gen.c"]),
                    other => panic!("{outcome:?}: {other:?}"),
                }
            }
            assert_eq!(world.attribution.take_proven_late(), [PathBuf::from("gen.c")]);
            assert!(world.attribution.is_output(Path::new("gen.c")));
        }
    }

    #[test]
    fn builds_that_cause_each_other_and_prove_nothing_are_spaced() {
        let mut world = World::new(&["main.c"]);
        world.begin();
        let mut pauses = Vec::new();
        for number in 0..8_u64 {
            // Never at the same time of the build.
            let name = "a.s";
            world.write(5 + 400 * (number % 2), name, number + 1, Cmd);
            world.now += Duration::from_millis(100);
            let end = world.attribution.build_ended(Outcome::Unknown, world.now);
            assert_eq!(end.verify, [PathBuf::from(name)]);
            pauses.push(end.pause.map_or(0, |pause| pause.as_secs()));
            world.verify(&[name]);
        }
        assert_eq!(pauses, [0, 0, 0, 0, 0, 1, 2, 4]);
    }

    /// A world in which a build has just begun, and the window of that build. All clocks show the
    /// same time.
    fn building(has_pre_cmd: bool) -> (World, Window) {
        let mut world = World::new(&["a", "b"]);
        world.begin();
        let now = Moment {
            at: world.now,
            by_files: SystemTime::UNIX_EPOCH,
            by_files_coarse: SystemTime::UNIX_EPOCH,
        };
        let window = Window::of_build(crate::event::Proc(1), has_pre_cmd, now);
        (world, window)
    }

    fn saved(path: &str, content: u64) -> super::Save {
        let stamp = Some(SystemTime::UNIX_EPOCH);
        super::Save {
            path: path.into(),
            contents: vec![Content::Hash(content)],
            existed: None,
            in_place: true,
            stamp,
        }
    }

    #[test]
    fn a_save_is_judged_by_the_phase_of_the_window() {
        let (mut world, window) = building(true);
        let seen = Span::at(world.now);
        let mut judge = |path: &str, window: Option<&Window>| {
            world.attribution.judge_save(&saved(path, 1), seen, window, true)
        };
        assert_eq!(judge("a", Some(&window)), (Pending, Before));
        assert_eq!(judge("b", None), (Save, Rest), "nothing was ever run");
    }

    #[test]
    fn a_build_has_read_what_was_reported_before_it_began_unless_it_is_for_a_rule() {
        let (mut world, window) = building(false);
        let seen = Span::at(world.now.checked_sub(Duration::from_millis(1)).unwrap());
        let mut judge = |path: &str, is_source| {
            let save = saved(path, 1);
            world.attribution.judge_save(&save, seen, Some(&window), is_source)
        };
        assert_eq!(judge("a", true), (Verdict::Read, Cmd));
        assert_eq!(judge("b", false), (Save, Cmd));
        assert_eq!(world.attribution.held[Path::new("a")], Content::Hash(1), "it is remembered");
        assert_eq!(world.write(5, "a", 1, Cmd), Nothing, "the build has read that");
    }

    /// Ends a verification of gen.s before whose start these files were saved, though that was
    /// reported after it. Returns whether it confirms the previous build, and what follows from
    /// the save of "b" if that is reported only after the end.
    fn verification_that_read(read: &[&str], outcome: Outcome) -> (bool, Verdict) {
        let mut world = World::new(&["a", "b", "gen.s", "known.s", "new"]);
        assert_eq!(world.write(0, "a", 1, Rest), Save);
        world.attribution.outputs.extend(["gen.s".into(), "known.s".into()]);
        world.verify(&["gen.s"]);
        let now = Moment {
            at: world.now,
            by_files: SystemTime::UNIX_EPOCH,
            by_files_coarse: SystemTime::UNIX_EPOCH,
        };
        let mut window = Window::of_build(crate::event::Proc(2), false, now);
        let seen = Span::at(world.now.checked_sub(Duration::from_millis(1)).unwrap());
        for path in read {
            let save = saved(path, 1);
            let verdict = world.attribution.judge_save(&save, seen, Some(&window), true).0;
            assert_eq!(verdict, Verdict::Read, "{path}");
        }
        let end = world.attribution.build_ended(outcome, world.now);
        window.end(now);
        let late = world.attribution.judge_save(&saved("b", 1), seen, Some(&window), true).0;
        (end.confirms, late)
    }

    #[test]
    fn a_verification_that_has_read_newer_saves_does_not_confirm_the_build_before() {
        use Outcome::{Different, Same, Unknown, Unseen};
        for (read, outcome, confirms) in [
            (&[][..], Unseen, true),
            (&["a"], Unseen, false),
            // Nothing is known of it: the build before may have written it, or read the older one.
            (&["new"], Unseen, false),
            (&["known.s", "gen.s"], Unseen, true),
            (&["a"], Unknown, false),
            (&["new"], Unknown, true),
            (&["a"], Same, true),
            (&[], Different, false),
        ] {
            let found = verification_that_read(read, outcome);
            // What is reported only after that was read, too. But nothing is started any more.
            let late = if confirms { Save } else { Verdict::Read };
            assert_eq!(found, (confirms, late), "{read:?} {outcome:?}");
        }
    }

    #[test]
    fn a_source_that_is_written_again_as_it_is_may_have_been_read_in_part() {
        let edited = || {
            let mut world = World::new(&["main.go", "other.go", "third.go"]);
            assert_eq!(world.write(0, "main.go", 1, Rest), Save);
            world.begin();
            world
        };
        for (during, expected) in [(Before, Nothing), (Cmd, VERIFY), (JustEnded, VERIFY)] {
            let mut world = edited();
            assert_eq!(world.write(5, "main.go", 1, during), expected, "{during:?}");
        }
        let mut world = edited();
        assert_eq!(world.write(5, "other.go", 0, Cmd), Nothing, "no user edits it");
        assert_eq!(world.write(5, "third.go", 2, Cmd), Save);
        world.cancel();
        assert_eq!(world.write(5, "third.go", 2, Cmd), VERIFY, "a user may");
        let contents = &[Content::Hash(1)];
        let (path, at) = (Path::new("main.go"), world.now);
        let renamed = Observed { path, contents, existed: None, in_place: false, during: Cmd, at };
        assert_eq!(world.attribution.judge(&renamed, true), Nothing, "it was replaced as a whole");
    }

    #[test]
    fn a_formatter_that_writes_sources_again_as_they_are_costs_one_more_build() {
        let mut world = World::new(&["main.go"]);
        assert_eq!(world.write(0, "main.go", 1, Rest), Save);
        world.begin();
        assert_eq!(world.write(5, "main.go", 1, Cmd), VERIFY);
        assert_eq!(world.end(Outcome::Different), none());
        world.verify(&["main.go"]);
        assert_eq!(world.write(5, "main.go", 1, Cmd), Nothing);
        assert_eq!(world.end(Outcome::Same), none());
        for number in 2..5 {
            assert_eq!(world.write(5_000, "main.go", number, Rest), Save);
            world.begin();
            assert_eq!(world.write(5, "main.go", number, Cmd), Nothing);
            assert_eq!(world.write(5, "main.go", number + 7, Cmd), Save, "but that is another");
            world.cancel();
            assert_eq!(world.end(Outcome::Different), none());
        }
    }

    #[test]
    fn a_save_that_cancels_a_build_is_not_delayed_for_a_test() {
        let suspected = || {
            let mut world = World::new(&["a", "gen.s"]);
            world.attribution.suspects.insert(
                "gen.s".into(),
                Suspect {
                    credits: CREDITS_NEEDED - 1,
                    triggers: HashSet::from(["a".into()]),
                    ..Suspect::default()
                },
            );
            world.write(5, "a", 1, Rest);
            let mut judged = Judged::default();
            judged.add("a".into(), Save, Rest);
            (world, judged)
        };
        let saves = vec![PathBuf::from("a")];
        let (mut world, judged) = suspected();
        let steps = world.attribution.steps(judged, true, world.now);
        assert_eq!(steps, [Step::Build(saves.clone())]);
        let (mut world, judged) = suspected();
        let steps = world.attribution.steps(judged, false, world.now);
        let suspects = vec![PathBuf::from("gen.s")];
        assert_eq!(steps, [Step::Test { saves, suspects, pause: TEST_DELAY.0 }]);
    }
}
