//! Is this file one that builds write? Pure.
//!
//! The operating system does not tell who wrote a file. A path that changed to the same
//! content during two builds, or to whatever content during three but always at about the
//! same time from their beginnings, and that no save outside a build has ever named, is a
//! *known output*: a build that writes it is not overtaken by it. (A person can save a file
//! during builds that take long, but does not write the same twice, nor by the clock.)
//! A build that writes a file of a new name each time is recognised by the third. Where it
//! is in doubt, it builds once too often rather than once too little.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So many builds in a row that only their predecessor's output caused follow at once; the
/// next ones after a pause.
pub const MOST_FOLLOW_UPS: u32 = 5;
/// After so many, hotrun stops following, if it is certain: the file changed during each, to
/// the very moment, and never in the pauses between them.
const CERTAIN_AFTER: u32 = 8;
/// At about the same time of a build, and at the very same: the times differ by no more than
/// this, or this part of them.
const ABOUT: (Duration, u32) = (Duration::from_millis(250), 4);
const VERY: (Duration, u32) = (Duration::from_millis(20), 20);
/// A path is known after it changed during so many builds, whatever to.
const KNOWN_AFTER: u32 = 3;

/// Builds in a row that only paths caused which nobody had ever seen outside a build.
const MOST_STRANGE: u32 = 3;

/// What a file holds, as far as it must be told from another content: a hash, or nothing
/// when there is no such file.
pub type Content = Option<u64>;

/// Where hotrun is when a change is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// No build runs.
    Rest,
    /// A `pre_cmd` or a rule runs; `cmd` has yet to read the sources.
    Before,
    /// In the moment in which `cmd` begins: before it, or just after.
    Edge,
    /// `cmd` runs.
    Cmd,
    /// A build ran, but by now it has ended.
    JustEnded,
    /// It changed in the moment in which a build ended: before it or after it.
    Unsure,
}

/// What a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A save: build, and overtake the build that runs.
    Save,
    /// The running build goes on, and one more follows it.
    FollowUp,
    /// Nothing follows.
    Nothing,
    /// Builds cause each other for ever: nothing follows, and the person is told.
    Loop,
    /// As `FollowUp`, but not at once; builds may be causing each other, which is told.
    Paced,
    /// As `Save`, but not at once, and told as well: somebody edits this file, and yet it may
    /// be builds that write it.
    Slow,
}

/// What is remembered of a path that changed during builds.
#[derive(Clone, Debug, Default)]
struct Sighting {
    /// During how many.
    builds: u32,
    /// How long after their beginnings, of the last few.
    times: VecDeque<Duration>,
    /// What it changed to the last time.
    content: Content,
    /// It changed to the same during two builds.
    repeats: bool,
    /// It was told that builds cause each other by it, and that nothing follows.
    told: bool,
}

impl Sighting {
    /// The last so many changes came at the same time of their builds.
    fn is_regular(&self, last: u32, (apart, part): (Duration, u32)) -> bool {
        let last = usize::try_from(last).unwrap_or(usize::MAX);
        let times = || self.times.iter().rev().take(last);
        let (Some(first), Some(latest)) = (times().min(), times().max()) else { return false };
        times().count() == last && latest.saturating_sub(*first) <= apart.max(*latest / part)
    }
}

/// What is remembered of the files that changed.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// Paths that changed during builds.
    seen: HashMap<PathBuf, Sighting>,
    /// Paths that changed while no build ran: somebody edits them.
    edited: HashSet<PathBuf>,
    /// Which of them changed during the build that runs.
    this_build: HashSet<PathBuf>,
    /// What known outputs held at the end of the last build that ran to its end.
    contents: HashMap<PathBuf, Content>,
    /// What edited paths held when they were last saved, as far as somebody has looked.
    saved: HashMap<PathBuf, Content>,
    /// The same of sources, which `cmd` reads while it runs.
    saved_sources: HashMap<PathBuf, Content>,
    /// And at the end of the one before that.
    older_contents: HashMap<PathBuf, Content>,
    /// Builds in a row that only output caused.
    follow_ups: u32,
    /// Builds in a row that were caused by nothing but files of new names.
    strange: u32,
    /// Builds in a row that were caused by nothing but files which nobody edits.
    turns: u32,
    /// The next build is caused, as far as is known, by a file that somebody edits.
    caused_by_edited: bool,
    /// And by one that nobody does.
    caused_by_other: bool,
    /// What has happened since the last build began causes a build of this kind.
    next_is: NextIs,
}

/// What causes the next build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum NextIs {
    #[default]
    Wanted,
    Strange,
}

impl Outputs {
    /// A build begins. Unless it follows up on another's output, somebody wanted it.
    pub fn build_began(&mut self, follows_up: bool) {
        self.this_build.clear();
        self.strange = match std::mem::take(&mut self.next_is) {
            NextIs::Strange => self.strange + 1,
            NextIs::Wanted if follows_up => self.strange,
            NextIs::Wanted => 0,
        };
        self.follow_ups = if follows_up { self.follow_ups + 1 } else { 0 };
        let by_edited = std::mem::take(&mut self.caused_by_edited);
        let by_other = std::mem::take(&mut self.caused_by_other);
        self.turns = if by_other && !by_edited { self.turns + 1 } else { 0 };
    }

    /// A build ran to its end; `content` reads a file.
    pub fn build_ended(&mut self, mut content: impl FnMut(&Path) -> Content) {
        let known: Vec<PathBuf> =
            self.seen.keys().filter(|path| self.is_known(path)).cloned().collect();
        let now = known.into_iter().map(|path| (content(&path), path));
        let now = now.map(|(content, path)| (path, content)).collect();
        self.older_contents = std::mem::replace(&mut self.contents, now);
    }

    /// True for a known output.
    pub fn is_known(&self, path: &Path) -> bool {
        !self.edited.contains(path)
            && self.seen.get(path).is_some_and(|one| {
                one.repeats || one.builds >= KNOWN_AFTER && one.is_regular(KNOWN_AFTER, ABOUT)
            })
    }

    /// This is what the path held when it was saved.
    pub fn remember(&mut self, path: &Path, content: Content) {
        self.saved.insert(path.to_owned(), content);
    }

    /// This is what the source held when a build was asked for because of it.
    pub fn remember_source(&mut self, path: &Path, content: Content) {
        self.saved_sources.insert(path.to_owned(), content);
    }

    /// True for a source that holds what it held when the build was asked for that runs, and
    /// was written again before its `cmd` read it: as a formatter does that has nothing to do.
    pub fn is_written_again(&self, path: &Path, content: Content) -> bool {
        content.is_some() && self.saved_sources.get(path) == Some(&content)
    }

    /// What a change of this path means, so long after the build began.
    pub fn judge(
        &mut self,
        path: &Path,
        when: (During, Duration),
        content: impl FnOnce(&Path) -> Content,
    ) -> Verdict {
        let verdict = self.classify(path, when, content);
        if matches!(verdict, Verdict::Nothing | Verdict::Loop) {
            return verdict;
        }
        if self.edited.contains(path) {
            self.caused_by_edited = true;
            return verdict;
        }
        self.caused_by_other = true;
        // Whatever it is that builds do to it, they have gone on for too long.
        if self.turns >= CERTAIN_AFTER { Verdict::Paced } else { verdict }
    }

    fn classify(
        &mut self,
        path: &Path,
        (during, time): (During, Duration),
        content: impl FnOnce(&Path) -> Content,
    ) -> Verdict {
        if during == During::Rest {
            // Somebody wrote what the build had written.
            if self.is_known(path) && self.contents.get(path) == Some(&content(path)) {
                return Verdict::Nothing;
            }
            self.edited.insert(path.to_owned());
            self.saved.remove(path);
            self.saved_sources.remove(path);
            if let Some(sighting) = self.seen.get_mut(path) {
                *sighting = Sighting { repeats: sighting.repeats, ..Sighting::default() };
            }
            self.next_is = NextIs::Wanted;
            return Verdict::Save;
        }
        let now = content(path);
        // Whatever runs began when it held this already. (A formatter that has nothing to do
        // may write all the same.)
        if now.is_some() && self.saved.get(path) == Some(&now) {
            return Verdict::Nothing;
        }
        // That tells nothing about who writes it.
        if during == During::Unsure && !self.is_known(path) {
            self.next_is = NextIs::Wanted;
            return Verdict::Save;
        }
        let is_new = !self.seen.contains_key(path) && !self.edited.contains(path);
        let sighting = self.seen.entry(path.to_owned()).or_default();
        if self.this_build.insert(path.to_owned()) {
            sighting.repeats |= sighting.builds > 0 && sighting.content == now;
            sighting.builds += 1;
            sighting.times.push_back(time);
            if sighting.times.len() > CERTAIN_AFTER as usize {
                sighting.times.pop_front();
            }
        }
        sighting.content = now;
        if sighting.builds > MOST_FOLLOW_UPS && self.edited.contains(path) {
            return Verdict::Slow;
        }
        if is_new && self.strange >= MOST_STRANGE {
            // It may be somebody's save all the same, so it is never left out.
            return Verdict::FollowUp;
        }
        if !self.is_known(path) {
            self.next_is = if is_new { NextIs::Strange } else { NextIs::Wanted };
            return Verdict::Save;
        }
        let last_finished = match during {
            During::Before => return Verdict::Nothing,
            // The contents at the end of this very build would hold what it wrote.
            During::JustEnded | During::Unsure => &self.older_contents,
            _ => &self.contents,
        };
        let follow_ups = self.follow_ups;
        let Some(sighting) = self.seen.get_mut(path) else { return Verdict::Save };
        let is_certain = sighting.is_regular(CERTAIN_AFTER, VERY);
        match last_finished.get(path) {
            Some(held) if *held == now => Verdict::Nothing,
            // It stays so until somebody edits it at rest.
            _ if sighting.told => Verdict::Nothing,
            _ if during == During::Unsure || follow_ups < MOST_FOLLOW_UPS => Verdict::FollowUp,
            // What may be somebody's save is never left out.
            _ if follow_ups >= CERTAIN_AFTER && is_certain => {
                sighting.told = true;
                Verdict::Loop
            }
            _ => Verdict::Paced,
        }
    }
}

/// What files held for the last build that ended (air's `exclude_unchanged`). Only of files
/// that were saved since hotrun began is anything known.
#[derive(Clone, Debug, Default)]
pub struct Fingerprints {
    built: HashMap<PathBuf, Content>,
    /// Saved, and not yet built to the end.
    since: HashMap<PathBuf, Content>,
}

impl Fingerprints {
    /// Does the file hold what it held for the last build that ended? Not if another content
    /// is on its way through a build.
    pub fn is_unchanged(&mut self, path: &Path, now: Content) -> bool {
        let same = now.is_some() && self.built.get(path) == Some(&now);
        if same && !self.since.contains_key(path) {
            return true;
        }
        self.since.insert(path.to_owned(), now);
        false
    }

    /// A build ran to its end.
    pub fn build_ended(&mut self) {
        self.built.extend(self.since.drain());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One thing that happens to `gen.go`.
    enum Step {
        /// A build begins because of a save, or of the output of the one before.
        Begin { follows_up: bool },
        /// The file now holds this; when it happened, and what that must mean.
        Write(u64, During, Verdict),
        /// The build runs to its end.
        End,
    }
    use Step::{Begin, End, Write};
    use Verdict::{FollowUp, Loop, Nothing, Paced, Save};

    /// After the beginning of its build.
    const TIME: Duration = Duration::from_millis(30);

    #[track_caller]
    fn check(name: &str, steps: Vec<Step>) {
        check_timed(name, std::iter::repeat(TIME), steps);
    }

    /// The changes come at these times of their builds.
    #[track_caller]
    fn check_timed(name: &str, mut times: impl Iterator<Item = Duration>, steps: Vec<Step>) {
        let path = Path::new("gen.go");
        let mut outputs = Outputs::default();
        let mut content = None;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Begin { follows_up } => outputs.build_began(follows_up),
                End => outputs.build_ended(|_| content),
                Write(value, during, expected) => {
                    content = Some(value);
                    let time = times.next().unwrap();
                    let verdict = outputs.judge(path, (during, time), |_| content);
                    assert_eq!(verdict, expected, "{name}: step {number}");
                }
            }
        }
    }

    const WANTED: Step = Begin { follows_up: false };

    #[test]
    fn a_file_that_builds_write_is_known_after_two_builds() {
        check(
            "a hand-written file is a save, whenever it is saved",
            vec![Write(1, During::Rest, Save), WANTED, Write(2, During::Cmd, Save)],
        );
        check(
            "a generator in pre_cmd overtakes its own build once, and never again",
            vec![
                WANTED,
                Write(1, During::Before, Save),
                WANTED,
                Write(1, During::Before, Nothing),
                End,
                WANTED,
                Write(2, During::Before, Nothing),
                End,
            ],
        );
        check(
            "a generator in cmd that writes the same costs two builds once",
            vec![
                WANTED,
                Write(1, During::Cmd, Save),
                WANTED,
                Write(1, During::Cmd, FollowUp),
                End,
                Begin { follows_up: true },
                Write(1, During::Cmd, Nothing),
                End,
                Write(1, During::Rest, Nothing),
            ],
        );
        check(
            "somebody edits a known output at rest: a save, and no known output any more",
            vec![
                WANTED,
                Write(1, During::Before, Save),
                WANTED,
                Write(1, During::Before, Nothing),
                End,
                Write(9, During::Rest, Save),
                WANTED,
                Write(1, During::Before, Save),
            ],
        );
    }

    fn something_new_each_time(last: Verdict, then: Verdict) -> Vec<Step> {
        let mut steps = vec![WANTED, Write(100, During::Cmd, Save)];
        steps.extend([WANTED, Write(101, During::Cmd, Save), WANTED]);
        for number in 1..=8 {
            let expected = if number <= 5 { FollowUp } else { Paced };
            steps.extend([Write(number, During::Cmd, expected), End]);
            steps.push(Begin { follows_up: true });
        }
        steps.extend([Write(9, During::Cmd, last), End]);
        steps.extend([WANTED, Write(10, During::Cmd, then), End]);
        steps
    }

    #[test]
    fn a_build_that_writes_something_new_each_time_is_followed_eight_times_and_no_more() {
        let mut steps = something_new_each_time(Loop, Nothing);
        steps.extend([Write(11, During::Rest, Save), WANTED, Write(12, During::Cmd, Save)]);
        check("date > gen.go, and then somebody edits it", steps);
    }

    #[test]
    fn a_person_who_saves_in_each_of_many_builds_is_never_left_out() {
        let times = |apart: u64| (0..).map(move |number| Duration::from_millis(number % 3 * apart));
        let steps = something_new_each_time(Paced, Paced);
        check_timed("at about the same time of each", times(90), steps);
        let mut steps = Vec::new();
        for number in 1..=12 {
            let expected = if number <= 8 { Save } else { Paced };
            steps.extend([WANTED, Write(number, During::Cmd, expected), End]);
        }
        check_timed("at any time", times(900), steps);
    }

    #[test]
    fn what_a_build_wrote_may_be_reported_when_it_has_ended() {
        check(
            "the same each time",
            vec![
                WANTED,
                End,
                Write(1, During::JustEnded, Save),
                WANTED,
                End,
                Write(1, During::JustEnded, FollowUp),
                Begin { follows_up: true },
                End,
                Write(1, During::JustEnded, FollowUp),
                Begin { follows_up: true },
                End,
                Write(1, During::JustEnded, Nothing),
            ],
        );
        check(
            "something new each time",
            vec![
                WANTED,
                End,
                Write(1, During::JustEnded, Save),
                WANTED,
                End,
                Write(2, During::JustEnded, Save),
                WANTED,
                End,
                Write(3, During::JustEnded, FollowUp),
                Begin { follows_up: true },
                End,
                Write(4, During::JustEnded, FollowUp),
            ],
        );
    }

    #[test]
    fn an_edited_file_that_changes_during_every_build_is_followed_slowly_until_it_is_at_rest() {
        let mut steps = vec![Write(100, During::Rest, Save)];
        for number in 1..=8 {
            let expected = if number <= 5 { Save } else { Verdict::Slow };
            steps.extend([WANTED, Write(number, During::Cmd, expected), End]);
        }
        steps.push(Write(200, During::Rest, Save));
        steps.extend([WANTED, Write(9, During::Cmd, Save), End]);
        check("date >> source", steps);
    }

    #[test]
    fn what_may_be_a_save_tells_nothing_about_who_writes_the_file() {
        let mut steps = Vec::new();
        for number in 1..=12 {
            let expected = if number <= 8 { Save } else { Paced };
            steps.extend([WANTED, End, Write(number, During::Unsure, expected)]);
        }
        check("a save in the moment of each build's end", steps);
    }

    #[test]
    fn what_a_person_saves_during_two_builds_overtakes_both() {
        check(
            "two versions",
            vec![WANTED, Write(1, During::Cmd, Save), WANTED, Write(2, During::Cmd, Save)],
        );
    }

    #[test]
    fn a_build_that_writes_new_names_each_time_is_not_overtaken_for_ever() {
        let mut outputs = Outputs::default();
        let mut verdicts = Vec::new();
        let mut follows_up = false;
        for number in 0..10 {
            outputs.build_began(follows_up);
            let path = PathBuf::from(format!("app.{number}.js"));
            let verdict = outputs.judge(&path, (During::Cmd, TIME), |_| Some(number));
            follows_up = verdict != Save;
            verdicts.push(verdict);
        }
        let mut expected = vec![Save; 3];
        expected.extend([FollowUp; 5]);
        expected.extend([Paced, Paced]);
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn a_formatter_that_writes_what_is_there_already_causes_nothing() {
        let mut outputs = Outputs::default();
        let path = Path::new("page.templ");
        assert_eq!(outputs.judge(path, (During::Rest, TIME), |_| Some(1)), Save);
        outputs.remember(path, Some(1));
        outputs.build_began(false);
        assert_eq!(outputs.judge(path, (During::Cmd, TIME), |_| Some(2)), Save, "formatted");
        outputs.remember(path, Some(2));
        outputs.build_began(false);
        assert_eq!(
            outputs.judge(path, (During::Cmd, TIME), |_| Some(2)),
            Nothing,
            "the same again"
        );
        assert_eq!(outputs.judge(path, (During::Cmd, TIME), |_| None), Save, "deleted");
        assert_eq!(outputs.judge(path, (During::Rest, TIME), |_| Some(2)), Save);
        outputs.build_began(false);
        assert_eq!(
            outputs.judge(path, (During::Cmd, TIME), |_| Some(2)),
            Save,
            "nobody had looked"
        );
    }

    #[test]
    fn a_file_is_unchanged_that_holds_what_was_built_last() {
        let path = Path::new("main.go");
        let mut files = Fingerprints::default();
        assert!(!files.is_unchanged(path, Some(1)), "nothing is known of it");
        files.build_ended();
        assert!(files.is_unchanged(path, Some(1)));
        assert!(!files.is_unchanged(path, Some(2)));
        assert!(!files.is_unchanged(path, Some(1)), "A, B, A while a build runs");
        files.build_ended();
        assert!(files.is_unchanged(path, Some(1)));
        assert!(!files.is_unchanged(path, None), "deleted");
        files.build_ended();
        assert!(!files.is_unchanged(path, Some(1)), "and back again");
    }

    #[test]
    fn a_path_counts_once_for_each_build() {
        check(
            "two writes in one build do not make it known",
            vec![WANTED, Write(1, During::Cmd, Save), Write(2, During::Cmd, Save)],
        );
    }
}
