//! In which phase of a build, or of a run of rules, a file changed. Times come as data, by three
//! clocks.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::event::Proc;

/// A change that is seen this long after the end of a build was not written by the build: events
/// arrive sooner.
const LONG_AFTER: Duration = Duration::from_secs(1);
/// Delay within which the last writes of a build are reported after its end.
const SOON_AFTER: Duration = Duration::from_millis(100);

/// Where hotrun is in its cycle when a file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// No build is running, or was running a moment ago.
    Rest,
    /// A `pre_cmd` is running: `cmd` has not read the sources yet.
    Before,
    /// `cmd` is running.
    Cmd,
    /// The last build has just ended.
    JustEnded,
    /// A build ended at about that time, before or after the change.
    Unsure,
}

/// When something happened, by three clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub at: Instant,
    pub by_files: SystemTime,
    /// The clock that most files are stamped with. It advances by ticks (4 ms, for example).
    pub by_files_coarse: SystemTime,
}

/// When a burst of changes was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// When the first of its saves was seen.
    pub first: Instant,
    /// When the last event was seen.
    pub last: Instant,
}

impl Span {
    pub(crate) fn at(now: Instant) -> Self {
        Self { first: now, last: now }
    }
}

/// The time span of a build, or of a run of rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub proc: Proc,
    /// Whether it is a build, which reads the sources.
    is_build: bool,
    /// Whether commands run before its last one.
    has_pre_cmd: bool,
    began: Moment,
    /// When its last command started.
    cmd_began: Option<Moment>,
    ended: Option<Moment>,
}

impl Window {
    /// The window of a build that starts now. Without a `pre_cmd`, `cmd` starts at once.
    pub(crate) fn of_build(proc: Proc, has_pre_cmd: bool, now: Moment) -> Self {
        let cmd_began = (!has_pre_cmd).then_some(now);
        Self { is_build: true, has_pre_cmd, cmd_began, ..Self::of_rules(proc, now) }
    }

    /// The window of a run of rules that starts now. Files that rules write are for the build that
    /// follows: no later command of the rules reads them.
    pub(crate) fn of_rules(proc: Proc, now: Moment) -> Self {
        Self {
            proc,
            is_build: false,
            has_pre_cmd: false,
            began: now,
            cmd_began: Some(now),
            ended: None,
        }
    }

    pub(crate) fn last_command_began(&mut self, now: Moment) {
        self.cmd_began = Some(now);
    }

    pub(crate) fn end(&mut self, now: Moment) {
        self.ended = Some(now);
    }

    pub(crate) fn is_build(&self) -> bool {
        self.is_build
    }

    /// Returns when it began, by the clock that files are stamped with. What changes from then on
    /// has this timestamp, or a later one.
    pub(crate) fn began_by_files(&self) -> SystemTime {
        self.began.by_files_coarse
    }

    /// Returns true for a build that has ended, but whose last writes may not be reported yet.
    pub(crate) fn has_just_been_built(&self, now: Instant) -> bool {
        let is_soon_after = |end: Moment| now.saturating_duration_since(end.at) < SOON_AFTER;
        self.is_build && self.ended.is_some_and(is_soon_after)
    }

    /// Returns true if the build started after these changes were reported, and so has read them.
    pub(crate) fn has_read(&self, seen: Span) -> bool {
        self.is_build && seen.last < self.began.at
    }

    /// Returns the directories that appeared since it began.
    pub(crate) fn came_since(&self, directories: Vec<(PathBuf, Instant)>) -> Vec<PathBuf> {
        let since = directories.into_iter().filter(|(_, at)| *at >= self.began.at);
        since.map(|(directory, _)| directory).collect()
    }

    /// Returns in which phase a file with this timestamp changed, if the change was seen at this
    /// time.
    ///
    /// The end of a build and its last write are reported by different channels, in any order. So
    /// for a build that has ended, the file's own timestamp decides. If that is within the tick in
    /// which the build ended, the time of the event decides.
    pub(crate) fn during(&self, seen: Span, stamp: Option<SystemTime>) -> During {
        if let Some(end) = self.ended {
            if seen.first > end.at + LONG_AFTER {
                return During::Rest;
            }
            let seen_before = seen.first <= end.at;
            return match stamp {
                None if seen_before => During::JustEnded,
                None => During::Rest,
                Some(at) if at > end.by_files => During::Rest,
                // A timestamp may be older than the write, by up to a tick.
                Some(at) if at >= end.by_files_coarse && !seen_before => During::Unsure,
                Some(_) => During::JustEnded,
            };
        }
        let began = self.cmd_began.filter(|began| !self.has_pre_cmd || seen.last >= began.at);
        let Some(began) = began else { return During::Before };
        // The file may have been written before the command started, and reported after that.
        match stamp {
            Some(at) if self.has_pre_cmd && at <= began.by_files => During::Before,
            _ => During::Cmd,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use During::{Before, Cmd, JustEnded, Rest, Unsure};

    /// The tick of the clock that files are stamped with, in microseconds.
    const TICK: u64 = 4000;
    /// When a build or a command begins or ends: 1 ms after a tick.
    const THEN: u64 = 1_001_000;

    /// Times in microseconds from a common beginning, by each clock.
    struct Clocks(Instant);

    impl Clocks {
        fn new() -> Self {
            Self(Instant::now())
        }

        fn at(&self, time: u64) -> Instant {
            self.0 + Duration::from_micros(time)
        }

        fn moment(&self, time: u64) -> Moment {
            let by_files = SystemTime::UNIX_EPOCH + Duration::from_micros(time);
            Moment { at: self.at(time), by_files, by_files_coarse: stamp(time) }
        }

        /// A burst that was seen at this time.
        fn seen(&self, time: u64) -> Span {
            Span::at(self.at(time))
        }
    }

    /// Returns the timestamp of a file that is written at this time.
    fn stamp(time: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(time / TICK * TICK)
    }

    /// Checks the phase of writes: when each was written, `None` if there is no timestamp, and when
    /// it was seen.
    #[track_caller]
    fn check(window: &Window, clocks: &Clocks, writes: &[(&str, Option<u64>, u64, During)]) {
        for (name, written, seen, expected) in writes {
            let found = window.during(clocks.seen(*seen), written.map(stamp));
            assert_eq!(found, *expected, "{name}: written at {written:?}, seen at {seen}");
        }
    }

    fn build(clocks: &Clocks) -> Window {
        Window::of_build(Proc(1), false, clocks.moment(0))
    }

    #[test]
    fn what_changes_while_cmd_runs_is_of_that_phase() {
        let clocks = Clocks::new();
        let windows = [build(&clocks), Window::of_rules(Proc(1), clocks.moment(0))];
        for window in windows {
            check(
                &window,
                &clocks,
                &[
                    ("at once", Some(10), 20, Cmd),
                    ("later", Some(70_000_000), 70_000_100, Cmd),
                    ("written before, and reported late", Some(0), 5000, Cmd),
                    ("deleted", None, 5000, Cmd),
                ],
            );
        }
    }

    #[test]
    fn a_change_before_cmd_begins_is_of_the_phase_before_it() {
        let clocks = Clocks::new();
        let mut window = Window::of_build(Proc(1), true, clocks.moment(0));
        let before = [
            ("written", Some(10), 20, Before),
            ("deleted", None, 20, Before),
            ("from the future", Some(9_000_000), 20, Before),
        ];
        check(&window, &clocks, &before);
        window.last_command_began(clocks.moment(THEN));
        check(&window, &clocks, &before);
        check(
            &window,
            &clocks,
            &[
                ("reported after cmd began", Some(THEN - 5000), THEN + 500, Before),
                ("in the same tick, before", Some(THEN - 900), THEN + 500, Before),
                // The timestamp does not show that it was written after that.
                ("in the same tick, after", Some(THEN + 900), THEN + 1000, Before),
                ("in the next tick", Some(THEN + TICK), THEN + TICK, Cmd),
                (
                    "seen before cmd began, though stamped later",
                    Some(THEN + TICK),
                    THEN - 1,
                    Before,
                ),
                ("seen as cmd began", Some(THEN + TICK), THEN, Cmd),
                ("deleted, and seen before", None, THEN - 1, Before),
                ("deleted, and seen after", None, THEN + 1, Cmd),
            ],
        );
    }

    #[test]
    fn a_burst_that_ends_after_cmd_began_is_dated_by_the_timestamps() {
        let clocks = Clocks::new();
        let mut window = Window::of_build(Proc(1), true, clocks.moment(0));
        window.last_command_began(clocks.moment(THEN));
        let seen = Span { first: clocks.at(THEN - 2000), last: clocks.at(THEN + TICK) };
        assert_eq!(window.during(seen, Some(stamp(THEN - 2000))), Before);
        assert_eq!(window.during(seen, Some(stamp(THEN + TICK))), Cmd);
        // It may have been deleted by cmd.
        assert_eq!(window.during(seen, None), Cmd);
    }

    #[test]
    fn the_timestamp_shows_whether_a_build_wrote_the_file_before_it_ended() {
        let clocks = Clocks::new();
        let mut window = build(&clocks);
        window.end(clocks.moment(THEN));
        check(
            &window,
            &clocks,
            &[
                ("written and reported before", Some(THEN - 5000), THEN - 4000, JustEnded),
                ("written before, reported after", Some(THEN - 5000), THEN + 4000, JustEnded),
                ("long before", Some(0), THEN + 4000, JustEnded),
                ("in the next tick", Some(THEN + TICK), THEN + TICK, Rest),
                ("stamped after it, though seen before", Some(THEN + TICK), THEN - 1, Rest),
            ],
        );
    }

    #[test]
    fn within_the_tick_in_which_a_build_ended_it_is_unsure_what_came_first() {
        let clocks = Clocks::new();
        let mut window = build(&clocks);
        window.end(clocks.moment(THEN));
        check(
            &window,
            &clocks,
            &[
                ("written before, reported after", Some(THEN - 900), THEN + 100, Unsure),
                ("written and reported after", Some(THEN + 900), THEN + 1000, Unsure),
                ("reported before", Some(THEN - 900), THEN - 800, JustEnded),
                ("reported as it ended", Some(THEN - 900), THEN, JustEnded),
                ("in the tick before", Some(THEN - 1100), THEN + 100, JustEnded),
            ],
        );
    }

    #[test]
    fn a_file_system_with_finer_timestamps_leaves_less_unsure() {
        let clocks = Clocks::new();
        let mut window = build(&clocks);
        window.end(clocks.moment(THEN));
        let during = |written: u64, seen: u64| {
            let stamp = SystemTime::UNIX_EPOCH + Duration::from_micros(written);
            window.during(clocks.seen(seen), Some(stamp))
        };
        assert_eq!(during(THEN - 1, THEN + 100), Unsure, "the clock may be the coarse one");
        assert_eq!(during(THEN, THEN + 100), Unsure);
        assert_eq!(during(THEN + 1, THEN + 100), Rest);
    }

    #[test]
    fn without_a_timestamp_the_time_of_the_event_decides() {
        let clocks = Clocks::new();
        let mut window = build(&clocks);
        window.end(clocks.moment(THEN));
        check(
            &window,
            &clocks,
            &[
                ("seen before", None, THEN - 1, JustEnded),
                ("seen as it ended", None, THEN, JustEnded),
                ("seen after", None, THEN + 1, Rest),
            ],
        );
    }

    #[test]
    fn what_is_seen_long_after_a_build_is_not_its_own_whatever_its_timestamp() {
        let clocks = Clocks::new();
        let mut window = build(&clocks);
        window.end(clocks.moment(THEN));
        let long_after = THEN + 1_000_000;
        check(
            &window,
            &clocks,
            &[
                ("just in time", Some(THEN - 5000), long_after, JustEnded),
                ("an old timestamp", Some(THEN - 5000), long_after + 1, Rest),
                ("renamed in place", Some(0), long_after + 1, Rest),
                ("deleted", None, long_after + 1, Rest),
            ],
        );
    }

    #[test]
    fn a_build_has_read_what_was_seen_before_it_began() {
        let clocks = Clocks::new();
        let build = Window::of_build(Proc(1), false, clocks.moment(THEN));
        assert!(build.has_read(clocks.seen(THEN - 1)));
        assert!(!build.has_read(clocks.seen(THEN)));
        let until_then = Span { first: clocks.at(0), last: clocks.at(THEN) };
        assert!(!build.has_read(until_then), "its last change may be newer");
        let rules = Window::of_rules(Proc(1), clocks.moment(THEN));
        assert!(!rules.has_read(clocks.seen(THEN - 1)), "rules read no sources");
    }

    #[test]
    fn the_last_writes_of_a_build_are_awaited_for_a_moment() {
        let clocks = Clocks::new();
        let (mut build, mut rules) = (build(&clocks), Window::of_rules(Proc(2), clocks.moment(0)));
        assert!(!build.has_just_been_built(clocks.at(THEN)), "it has not ended");
        build.end(clocks.moment(THEN));
        rules.end(clocks.moment(THEN));
        let soon = THEN + 100_000;
        let found = [THEN, soon - 1, soon].map(|time| build.has_just_been_built(clocks.at(time)));
        assert_eq!(found, [true, true, false]);
        assert!(!rules.has_just_been_built(clocks.at(THEN)));
    }

    #[test]
    fn only_directories_that_came_since_the_beginning_count() {
        let clocks = Clocks::new();
        let window = Window::of_build(Proc(1), true, clocks.moment(THEN));
        let came = [("old", THEN - 1), ("as it began", THEN), ("new", THEN + 1)];
        let came = came.map(|(name, time)| (PathBuf::from(name), clocks.at(time)));
        let expected = ["as it began", "new"].map(PathBuf::from);
        assert_eq!(window.came_since(came.to_vec()), expected);
    }
}
