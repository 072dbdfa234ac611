//! Does the program itself write the files whose saves restart it? Pure: time comes with what
//! happened.
//!
//! A program may keep a log, a database or its state among the files that are watched, and would
//! be restarted by each write for ever. That is proved by an experiment: if the same files
//! change at the same age of several generations in a row, the next restarts come late, so late
//! that a user who saves regularly would be seen at another age. If they change
//! at that age all the same, and the kernel says that the program has written to files, it is
//! the program that writes them. (A script may save as soon as it sees the program start.)

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Generations in a row after which restarts come late, and after which it is proved.
const SUSPICIOUS: u32 = 3;
const PROVED: u32 = 5;
/// A late restart comes this late at least.
const LATE: Duration = Duration::from_millis(800);
/// Two ages are the same if they differ by no more than this, or by this part of them; and by a
/// small part of the pause between two changes, so that not every age is the same.
const SAME_AGE: (Duration, u32) = (Duration::from_millis(60), 5);
/// By no more than this, however old the program is.
const MOST_APART: Duration = Duration::from_millis(250);
/// However small that part is.
const LEAST_APART: Duration = Duration::from_millis(30);
/// Programs that write at their start do so by then.
const AT_THE_START: Duration = Duration::from_millis(100);
/// A program that is older writes because of something else than its start.
const OLDEST: Duration = Duration::from_secs(30);
/// No restart comes later.
const LATEST: Duration = Duration::from_secs(5);

/// What follows from the save of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Whatever follows from a save.
    Save,
    /// The same, after this delay.
    Late(Duration),
    /// Nothing: the program wrote it. This has just been proved, or was before.
    Own {
        /// For the first time.
        is_news: bool,
    },
}

/// A file that changed while the program ran.
#[derive(Clone, Debug)]
struct Changes {
    /// The generation in which it changed last, and at which age it first did so then.
    generation: u32,
    age: Duration,
    /// Generations in a row in which that age was the same.
    count: u32,
    /// When it first changed in this generation, and how long after that in the one before.
    first: Instant,
    turn: Duration,
    /// When it changed last, and the longest pause between two changes in one generation.
    last: Instant,
    pause: Option<Duration>,
    is_own: bool,
}

/// What is remembered of the files that changed while the program ran.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnWrites {
    generation: u32,
    started: Option<Instant>,
    files: HashMap<PathBuf, Changes>,
}

impl OwnWrites {
    /// A generation of the program starts.
    pub(crate) fn started(&mut self, now: Instant) {
        self.generation += 1;
        self.started = Some(now);
    }

    /// What follows from the save of this file? `has_written`: the program has written to files
    /// since it started; `None` where that is not known.
    pub(crate) fn judge(
        &mut self,
        path: &Path,
        now: Instant,
        has_written: impl FnOnce() -> Option<bool>,
    ) -> Verdict {
        let Some(started) = self.started else { return Verdict::Save };
        let age = now.saturating_duration_since(started);
        if age > OLDEST && self.files.get(path).is_none_or(|changes| !changes.is_own) {
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
                // The program has become another one: all is to be proved anew.
                self.files.insert(path.to_owned(), new);
            }
            // Otherwise another program wrote it; what the program writes next is its own again.
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
        if self.age.max(age) <= AT_THE_START {
            return true;
        }
        let most = SAME_AGE.0.max(self.age.min(age) / SAME_AGE.1).min(MOST_APART);
        let most = self.pause.map_or(most, |pause| most.min(LEAST_APART.max(pause / 4)));
        self.age.abs_diff(age) <= most
    }

    /// A late restart comes at half a turn, so that who saves once each turn is found out.
    fn verdict(&self) -> Verdict {
        if self.count < SUSPICIOUS {
            return Verdict::Save;
        }
        // The last turn was a late one itself.
        let turn = self.turn.min(self.age * 2 + LATE).max(Duration::from_millis(1));
        let turns = LATE.as_millis() / turn.as_millis();
        let turns = u32::try_from(turns).unwrap_or(u32::MAX).min(10_000);
        let late = turn * turns + turn / 2;
        // Without a proof it never stops, but ever more seldom.
        Verdict::Late((late * 2_u32.pow(self.count.saturating_sub(PROVED).min(6))).min(LATEST))
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

        /// The file changes after so long.
        fn save(&mut self, after: u64) -> Verdict {
            self.now += Duration::from_millis(after);
            self.own.judge(Path::new(FILE), self.now, || self.has_written)
        }

        /// The next generation starts after so long.
        fn start(&mut self, after: Duration) {
            self.now += after;
            self.own.started(self.now);
        }

        /// A program that writes the file when it is this old: how many starts it takes until
        /// that is known.
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
    fn a_program_that_writes_the_file_at_its_start_is_found_out_after_a_few_starts() {
        for age in [1, 30, 400, 2_000] {
            let mut world = World::new();
            assert_eq!(world.starts_of(age), Some(PROVED), "{age}");
            // An edit by hand is none of its writes, and restarts it; what it writes then is.
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
        // Where nothing is known of its writes, restarts are put off, but never left out.
        let mut world = World::new();
        world.has_written = None;
        assert_eq!(world.starts_of(30), None);
    }
}
