//! Detects a program that itself writes the files whose saves restart it. Pure: time comes with
//! what happened.
//!
//! A program may keep a log, a database or its state among the watched files. Each write would
//! restart it, endlessly. The proof is an experiment. When the same files change at the same age of
//! several generations in a row, the next restarts are delayed. The delay is so long that a user
//! who saves regularly would be seen at another age. If the files still change at that age, and the
//! kernel reports that the program has written to files, the program writes them. The last
//! condition excludes a script that saves as soon as it sees the program start.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Generations in a row after which restarts are delayed, and after which the proof is complete.
const SUSPICIOUS: u32 = 3;
const PROVED: u32 = 5;
/// Minimum delay of a delayed restart.
const MIN_DELAY: Duration = Duration::from_millis(800);
/// Maximum difference between two ages that count as the same: this, or this fraction of them. A
/// fraction of the pause between two changes limits it, too, since otherwise every age might be the
/// same.
const SAME_AGE: (Duration, u32) = (Duration::from_millis(60), 5);
/// Upper limit of that difference, however old the program is.
const MAX_AGE_DIFFERENCE: Duration = Duration::from_millis(250);
/// Lower limit of that difference, however short the pause is.
const MIN_AGE_DIFFERENCE: Duration = Duration::from_millis(30);
/// Ages up to this one are the same: the program writes at its start.
const START_AGE: Duration = Duration::from_millis(100);
/// Maximum age at which a write is attributed to the start of the program.
const MAX_AGE: Duration = Duration::from_secs(30);
/// Maximum delay of a restart.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Whether the program has written to files since its start, for each changed file for which that is
/// known.
pub(crate) type Evidence = HashMap<PathBuf, bool>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Handle it as a save.
    Save,
    /// Handle it as a save, after this delay.
    Late(Duration),
    /// Ignore it: the program wrote the file.
    Own {
        /// Whether this was proved just now.
        is_news: bool,
    },
}

/// What is known of a file that changed while the program ran.
#[derive(Clone, Debug)]
struct Changes {
    /// The last generation in which it changed, and its age at the first change.
    generation: u32,
    age: Duration,
    /// Generations in a row in which that age was the same.
    count: u32,
    /// When it first changed in this generation, and the time since the first change in the
    /// previous one.
    first: Instant,
    turn: Duration,
    /// When it last changed, and the longest pause between two changes in one generation.
    last: Instant,
    pause: Option<Duration>,
    is_own: bool,
}

/// The files that changed while the program ran.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnWrites {
    generation: u32,
    started: Option<Instant>,
    files: HashMap<PathBuf, Changes>,
}

impl OwnWrites {
    /// Records the start of a generation.
    pub(crate) fn started(&mut self, now: Instant) {
        self.generation += 1;
        self.started = Some(now);
        // A proof needs changes in generations in a row. Where names never repeat, files of older
        // ones would accumulate.
        let generation = self.generation;
        self.files.retain(|_, changes| changes.is_own || changes.generation + 1 >= generation);
    }

    /// Whether [`Self::judge`] will ask whether the program has written to files.
    pub(crate) fn asks(&self, path: &Path, now: Instant) -> bool {
        let Some(changes) = self.files.get(path) else { return false };
        let files = [(path.to_owned(), changes.clone())].into();
        let mut copy = Self { files, ..*self };
        let mut is_asked = false;
        copy.judge(path, now, || {
            is_asked = true;
            None
        });
        is_asked
    }

    /// Decides what follows from the save of this file. `has_written`: whether the program has
    /// written to files since its start; `None` if that is not known.
    pub(crate) fn judge(
        &mut self,
        path: &Path,
        now: Instant,
        has_written: impl FnOnce() -> Option<bool>,
    ) -> Verdict {
        let Some(started) = self.started else { return Verdict::Save };
        let age = now.saturating_duration_since(started);
        if age > MAX_AGE && self.files.get(path).is_none_or(|changes| !changes.is_own) {
            return Verdict::Save;
        }
        let new = Changes {
            generation: self.generation,
            age,
            count: 1,
            first: now,
            turn: Duration::ZERO,
            last: now,
            pause: None,
            is_own: false,
        };
        let Some(changes) = self.files.get_mut(path) else {
            self.files.insert(path.to_owned(), new);
            return Verdict::Save;
        };
        let since_last = now.saturating_duration_since(changes.last);
        changes.last = now;
        let is_first = changes.generation != self.generation;
        let is_same_age = changes.is_age(age);
        if changes.is_own {
            let is_in_rhythm = |pause| since_last <= pause * 2 + SAME_AGE.0;
            let is_explained =
                if is_first { is_same_age } else { changes.pause.is_some_and(is_in_rhythm) };
            if is_explained {
                changes.generation = self.generation;
                return Verdict::Own { is_news: false };
            }
            if is_first {
                // The program behaves differently now: the proof starts again.
                self.files.insert(path.to_owned(), new);
            }
            // Otherwise another program wrote it; later writes of the program are still its own.
            return Verdict::Save;
        }
        if !is_first {
            changes.pause = changes.pause.max(Some(since_last));
            return changes.verdict();
        }
        let is_next = changes.generation + 1 == self.generation;
        if !(is_next && is_same_age) {
            self.files.insert(path.to_owned(), new);
            return Verdict::Save;
        }
        changes.turn = now.saturating_duration_since(changes.first);
        changes.first = now;
        changes.generation = self.generation;
        changes.count += 1;
        if changes.count < SUSPICIOUS {
            return Verdict::Save;
        }
        match has_written() {
            Some(false) => {
                self.files.insert(path.to_owned(), new);
                return Verdict::Save;
            }
            Some(true) if changes.count >= PROVED => {}
            Some(true) | None => return changes.verdict(),
        }
        changes.is_own = true;
        Verdict::Own { is_news: true }
    }
}

impl Changes {
    fn is_age(&self, age: Duration) -> bool {
        if self.age.max(age) <= START_AGE {
            return true;
        }
        let most = SAME_AGE.0.max(self.age.min(age) / SAME_AGE.1).min(MAX_AGE_DIFFERENCE);
        let most = self.pause.map_or(most, |pause| most.min(MIN_AGE_DIFFERENCE.max(pause / 4)));
        self.age.abs_diff(age) <= most
    }

    /// A delayed restart comes half a turn later, which exposes a user who saves once each turn.
    fn verdict(&self) -> Verdict {
        if self.count < SUSPICIOUS {
            return Verdict::Save;
        }
        // The last turn contained a delayed restart itself.
        let turn = self.turn.min(self.age * 2 + MIN_DELAY).max(Duration::from_millis(1));
        let turns = MIN_DELAY.as_millis() / turn.as_millis();
        let turns = u32::try_from(turns).unwrap_or(u32::MAX).min(10_000);
        let late = turn * turns + turn / 2;
        // Without a proof the restarts continue, at growing intervals.
        Verdict::Late((late * 2_u32.pow(self.count.saturating_sub(PROVED).min(6))).min(MAX_DELAY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "state.json";

    struct World {
        own: OwnWrites,
        now: Instant,
        has_written: Option<bool>,
    }

    impl World {
        fn new() -> Self {
            let mut world =
                Self { own: OwnWrites::default(), now: Instant::now(), has_written: Some(true) };
            world.own.started(world.now);
            world
        }

        /// Changes the file after this time.
        fn save(&mut self, after: u64) -> Verdict {
            self.now += Duration::from_millis(after);
            let (expected, mut is_asked) = (self.own.asks(Path::new(FILE), self.now), false);
            let verdict = self.own.judge(Path::new(FILE), self.now, || {
                is_asked = true;
                self.has_written
            });
            assert_eq!(is_asked, expected);
            verdict
        }

        /// Starts the next generation after this time.
        fn start(&mut self, after: Duration) {
            self.now += after;
            self.own.started(self.now);
        }

        /// Simulates a program that writes the file at this age. Returns how many starts the proof
        /// takes.
        fn starts_of(&mut self, age: u64) -> Option<u32> {
            for starts in 1..20 {
                match self.save(age) {
                    Verdict::Save => self.start(Duration::from_millis(20)),
                    Verdict::Late(late) => self.start(late + Duration::from_millis(20)),
                    Verdict::Own { is_news } => return is_news.then_some(starts),
                }
            }
            None
        }
    }

    #[test]
    fn files_that_change_once_under_new_names_do_not_accumulate() {
        let mut world = World::new();
        for number in 0..100 {
            let name = format!("made{number}");
            world.own.judge(Path::new(&name), world.now, || world.has_written);
            world.start(Duration::from_millis(500));
        }
        assert!(world.own.files.len() <= 2, "{}", world.own.files.len());
    }

    #[test]
    fn a_program_that_writes_the_file_at_its_start_is_found_out_after_a_few_starts() {
        for age in [1, 30, 400, 2_000] {
            let mut world = World::new();
            assert_eq!(world.starts_of(age), Some(PROVED), "{age}");
            // An edit by hand is not one of its writes, and restarts it; its next write is.
            assert_eq!(world.save(6_000), Verdict::Save, "{age}");
        }
    }

    #[test]
    fn one_that_writes_all_the_time_is_ignored_as_long_as_it_does() {
        let mut world = World::new();
        for _ in 0..4 {
            let late = match world.save(400) {
                Verdict::Late(late) => late,
                _ => Duration::ZERO,
            };
            if late > Duration::from_millis(400) {
                assert!(matches!(world.save(400), Verdict::Late(_)), "in between");
                world.now -= Duration::from_millis(400);
            }
            world.start(late + Duration::from_millis(20));
        }
        assert_eq!(world.save(400), Verdict::Own { is_news: true });
        for _ in 0..20 {
            assert_eq!(world.save(400), Verdict::Own { is_news: false });
        }
        world.start(Duration::from_secs(1));
        assert_eq!(world.save(400), Verdict::Own { is_news: false }, "the next generation");
        assert_eq!(world.save(5_000), Verdict::Save, "after a pause");
    }

    #[test]
    fn who_saves_at_regular_intervals_is_never_taken_for_the_program() {
        for period in [200_u64, 300, 500, 700, 1_000, 1_500, 3_000] {
            for restart in [5_u64, 20, 80] {
                let mut own = OwnWrites::default();
                let begin = Instant::now();
                own.started(begin);
                let mut start_at: Option<Instant> = None;
                for number in 1..=60 {
                    let now = begin + Duration::from_millis(number * period);
                    if let Some(at) = start_at.filter(|at| *at <= now) {
                        own.started(at);
                        start_at = None;
                    }
                    let restart = Duration::from_millis(restart);
                    match own.judge(Path::new(FILE), now, || Some(true)) {
                        Verdict::Save => start_at = Some(now + restart),
                        Verdict::Late(late) => {
                            start_at = start_at.or(Some(now + late + restart));
                        }
                        Verdict::Own { .. } => panic!("{period} {restart:?}: save {number}"),
                    }
                }
            }
        }
    }

    #[test]
    fn who_saves_as_soon_as_the_program_has_started_is_not_the_program() {
        let mut world = World::new();
        world.has_written = Some(false);
        for number in 0..30 {
            assert_eq!(world.save(30), Verdict::Save, "{number}");
            world.start(Duration::from_millis(20));
        }
        // If nothing is known of its writes, restarts are delayed, but never skipped.
        let mut world = World::new();
        world.has_written = None;
        assert_eq!(world.starts_of(30), None);
    }
}
