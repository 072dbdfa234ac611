//! Decides which changes are saves, and when a burst of them is over. Pure: time comes with the
//! changes.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::content::{Depth, Look};
use crate::core::attribution::{Content, Save, Span};

/// Quiet time after which a burst of one file is over, once the file was closed or renamed.
pub(crate) const QUIET_AFTER_ONE: Duration = Duration::from_millis(1);
/// Quiet time after which a burst of many files is over.
const QUIET_AFTER_MANY: Duration = Duration::from_millis(25);
/// Above this many files a burst is a bulk change, such as a checkout, not one person's save.
const MANY: usize = 20;
/// Maximum number of new directories remembered between two bursts.
const MAX_DIRECTORIES: usize = 4096;
/// Time without a write after which an open file counts as saved.
const UNCLOSED_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum time from the change of a file's times to its close, in a touch.
const MAX_TOUCH: Duration = Duration::from_millis(500);

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was created, and may still be written to.
    Created,
    /// It was found in a directory that has just appeared, or is a link.
    Appeared,
    /// Something was written to it.
    Written,
    /// Its owner, mode or times changed.
    Attributes,
    /// A process that had it open for writing closed it.
    Closed,
    /// It was renamed to this name.
    Arrived,
    /// It was deleted, or renamed to another name.
    Gone,
}

/// What is known of a path in one burst.
#[derive(Clone, Debug, Default)]
struct Facts {
    /// Whether it existed when the burst began, or was renamed to this name.
    was_there: bool,
    /// Whether the first change was a rename to this name.
    arrived: bool,
    /// Whether a write went into the file under this name.
    in_place: bool,
    /// What was read of it at each completed write.
    looks: Vec<Look>,
    /// When its attributes changed, unless it was closed since.
    attributes: Option<Instant>,
    is_save: bool,
    is_gone: bool,
    completed: bool,
}

impl Facts {
    fn came_and_went(&self) -> bool {
        !self.was_there && self.is_gone
    }

    /// Returns the contents that it had, in order. If two reads found the file in the same state,
    /// the first one came too late, and the content at that time is unknown.
    fn contents(&self) -> Vec<Content> {
        let mut looks = self.looks.iter().peekable();
        let mut contents = Vec::new();
        while let Some(look) = looks.next() {
            let is_late = looks.peek().is_some_and(|next| {
                look.changed == next.changed && look.content != Content::Absent
            });
            contents.push(if is_late { Content::Unknown } else { look.content });
        }
        contents
    }

    /// Returns when it last changed, as of its last completed write.
    fn stamp(&self) -> Option<SystemTime> {
        self.looks.last().and_then(|look| look.stamp)
    }
}

/// The current burst, and the files that are being written.
#[derive(Debug)]
pub(crate) struct Burst {
    debounce: Duration,
    max_wait: Duration,
    /// Files written and not closed, with the time of the last write.
    open: HashMap<PathBuf, Instant>,
    /// Facts by path. The key is text, since hashing a path part by part is slow.
    facts: HashMap<OsString, Facts>,
    order: Vec<PathBuf>,
    directories: Vec<(PathBuf, Instant)>,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Burst {
    pub(crate) fn new(debounce: Duration, max_wait: Duration) -> Self {
        Self {
            debounce,
            max_wait,
            open: HashMap::new(),
            facts: HashMap::new(),
            order: Vec::new(),
            directories: Vec::new(),
            first: None,
            last: None,
        }
    }

    /// Records a change of a file that matters. `is_recent`: whether the file was modified within
    /// the last second. `is_trigger`: whether a touch counts as a save. `look`: reads its state.
    pub(crate) fn see(
        &mut self,
        path: &Path,
        change: Change,
        at: Instant,
        is_recent: impl FnOnce() -> bool,
        is_trigger: impl FnOnce() -> bool,
        look: impl FnOnce(Depth) -> Look,
    ) {
        let was_open = self.open.contains_key(path);
        if !self.facts.contains_key(path.as_os_str()) {
            let was_there = !matches!(change, Change::Created | Change::Appeared);
            let arrived = change == Change::Arrived;
            self.facts.insert(path.into(), Facts { was_there, arrived, ..Facts::default() });
        }
        let Some(facts) = self.facts.get_mut(path.as_os_str()) else { return };
        let saved = match change {
            Change::Created | Change::Written => {
                self.open.insert(path.to_owned(), at);
                false
            }
            Change::Attributes => {
                facts.attributes = Some(at);
                false
            }
            Change::Closed if was_open => true,
            // A touch changes the attributes, then closes the file without a write.
            Change::Closed if facts.attributes.take().is_some_and(|then| then + MAX_TOUCH > at) => {
                is_trigger()
            }
            // Only the close is reported after a write through a memory mapping.
            Change::Closed => !facts.is_save && is_recent(),
            Change::Appeared | Change::Arrived | Change::Gone => true,
        };
        if saved {
            facts.is_gone = change == Change::Gone;
            facts.completed = matches!(change, Change::Closed | Change::Arrived);
            facts.in_place |= change == Change::Closed;
            self.open.remove(path);
            self.save(path, at, look);
        } else if self.first.is_some() {
            // A change that matters is probably about to follow, such as the second close of a
            // write.
            self.last = self.last.max(Some(at));
        }
    }

    fn save(&mut self, path: &Path, at: Instant, look: impl FnOnce(Depth) -> Look) {
        // Reading many files would delay the burst.
        let depth = if self.order.len() <= MANY { Depth::Content } else { Depth::Times };
        let facts = self.facts.entry(path.into()).or_default();
        facts.looks.push(look(depth));
        if !std::mem::replace(&mut facts.is_save, true) {
            self.order.push(path.to_owned());
        }
        // A change found by comparing happened before it was found.
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = self.last.max(Some(at));
    }

    /// Applies new quiet times.
    pub(crate) fn configure(&mut self, debounce: Duration, max_wait: Duration) {
        self.debounce = debounce;
        self.max_wait = max_wait;
    }

    /// Records a new directory. If it is deleted within this burst, nothing has happened.
    pub(crate) fn directory_came(&mut self, directory: &Path) {
        // No save may ever follow, so the list is limited.
        if self.directories.len() == MAX_DIRECTORIES {
            self.directories.clear();
        }
        self.directories.push((directory.to_owned(), Instant::now()));
        self.facts.entry(directory.into()).or_default();
    }

    /// Returns true from the first save to the end of the burst.
    pub(crate) fn is_under_way(&self) -> bool {
        self.first.is_some()
    }

    /// Returns when the burst is over if nothing more happens; `None` if there is none.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        let (first, last) = (self.first?, self.last?);
        let quiet = if self.is_large() {
            QUIET_AFTER_MANY
        } else {
            let facts = self.order.iter().filter_map(|path| self.facts(path));
            let mut net = facts.filter(|facts| !facts.came_and_went());
            match (net.next(), net.next()) {
                (Some(only), None) if only.completed => QUIET_AFTER_ONE,
                _ => self.debounce,
            }
        };
        Some((last + quiet).min(first + self.max_wait))
    }

    /// Returns true if more files were saved in this burst than a person saves at a time.
    pub(crate) fn is_large(&self) -> bool {
        let came_and_went = |path: &PathBuf| self.facts(path).is_some_and(Facts::came_and_went);
        self.order.len() > MANY
            && self.order.iter().filter(|path| !came_and_went(path)).nth(MANY).is_some()
    }

    fn facts(&self, path: &Path) -> Option<&Facts> {
        self.facts.get(path.as_os_str())
    }

    /// Returns true for a file that changed in this burst.
    pub(crate) fn knows(&self, path: &Path) -> bool {
        self.first.is_some() && self.facts(path).is_some()
    }

    /// Returns when the burst began, and the saved paths; `None` if there is none.
    pub(crate) fn so_far(&self) -> Option<(Instant, impl Iterator<Item = &Path>)> {
        Some((self.first?, self.order.iter().map(PathBuf::as_path)))
    }

    /// Returns how many paths were saved.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Returns when the burst is over even if more changes follow; `None` if there is none.
    pub(crate) fn ends_at_most(&self) -> Option<Instant> {
        self.first.map(|first| first + self.max_wait)
    }

    /// Returns when the first open file will count as saved without a close.
    pub(crate) fn unclosed_at(&self) -> Option<Instant> {
        self.open.values().min().map(|last| *last + UNCLOSED_TIMEOUT)
    }

    /// Counts open files as saved that were not written to for [`UNCLOSED_TIMEOUT`].
    pub(crate) fn count_unclosed(&mut self, now: Instant, look: impl Fn(&Path, Depth) -> Look) {
        let mut overdue: Vec<(Instant, PathBuf)> = self
            .open
            .iter()
            .filter(|(_, last)| **last + UNCLOSED_TIMEOUT <= now)
            .map(|(path, last)| (*last, path.clone()))
            .collect();
        overdue.sort();
        for (_, path) in overdue {
            self.open.remove(&path);
            self.save(&path, now, |depth| look(&path, depth));
            if let Some(facts) = self.facts.get_mut(path.as_os_str()) {
                facts.completed = true;
                facts.in_place = true;
            }
        }
    }

    /// Ends the burst, and returns what was saved. Files that came and went within it do not count.
    pub(crate) fn finish(&mut self) -> Option<super::Burst> {
        let (first, last) = (self.first.take()?, self.last.take()?);
        let mut facts = std::mem::take(&mut self.facts);
        let mut saves = Vec::new();
        for path in std::mem::take(&mut self.order) {
            let facts = facts.remove(path.as_os_str()).unwrap_or_default();
            if facts.came_and_went() {
                continue;
            }
            let existed = (!facts.arrived).then_some(facts.was_there);
            let (contents, stamp, in_place) = (facts.contents(), facts.stamp(), facts.in_place);
            saves.push(Save { path, contents, existed, in_place, stamp });
        }
        if saves.is_empty() {
            // What appears in the directories that came is still news, in the next burst.
            return None;
        }
        let directories = std::mem::take(&mut self.directories);
        Some(super::Burst { saves, directories, seen: Span { first, last } })
    }

    /// Forgets touches and the like outside of a burst.
    pub(crate) fn forget(&mut self) {
        if self.first.is_none() {
            self.facts.clear();
        }
    }

    /// Records that events were lost: closes may be missing.
    pub(crate) fn lose(&mut self) {
        self.open.clear();
    }

    /// Records that files below a deleted directory are no longer written to.
    pub(crate) fn lose_below(&mut self, directory: &Path) {
        self.open.retain(|path, _| !path.starts_with(directory));
    }

    /// Drops saves below a directory that was deleted as a whole.
    pub(crate) fn drop_below(&mut self, directory: &Path) {
        self.lose_below(directory);
        self.order.retain(|path| !path.starts_with(directory));
        self.facts.retain(|path, _| !Path::new(path).starts_with(directory));
    }

    /// Returns true if something below this directory was saved in this burst.
    pub(crate) fn names_below(&self, directory: &Path) -> bool {
        self.order.iter().any(|path| path.starts_with(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Change::{Appeared, Arrived, Attributes, Closed, Created, Gone, Written};

    struct Lines {
        changes: Vec<(u64, &'static str, Change)>,
        recent: bool,
        trigger: bool,
    }

    /// Returns when the burst ends, in ms from the first change, and what was saved.
    fn run(lines: &Lines) -> (Option<u64>, Vec<String>) {
        let start = Instant::now();
        let mut burst = Burst::new(Duration::from_millis(10), Duration::from_secs(2));
        for (at, path, change) in &lines.changes {
            let at = start + Duration::from_millis(*at);
            let (path, look) = (Path::new(path), |_| Look::times(None));
            burst.see(path, *change, at, || lines.recent, || lines.trigger, look);
        }
        if burst.ends_at().is_none()
            && let Some(at) = burst.unclosed_at()
        {
            burst.count_unclosed(at, |_, _| Look::times(None));
        }
        let ends =
            burst.ends_at().map(|at| u64::try_from(at.duration_since(start).as_millis()).unwrap());
        let saved = burst.finish().map(|burst| burst.saves).unwrap_or_default();
        let saved = saved.iter().map(|save| save.path.display().to_string()).collect();
        (ends, saved)
    }

    #[track_caller]
    fn check(changes: &[(u64, &'static str, Change)], ends: Option<u64>, saved: &[&'static str]) {
        let lines = Lines { changes: changes.to_vec(), recent: false, trigger: false };
        let (found_end, found) = run(&lines);
        assert_eq!(found, saved, "{changes:?}");
        assert_eq!(found_end, ends, "{changes:?}");
    }

    #[test]
    fn one_file_written_and_closed_is_a_burst_of_its_own() {
        check(&[(0, "a", Written), (0, "a", Closed)], Some(1), &["a"]);
        check(&[(0, "a", Created), (1, "a", Written), (2, "a", Closed)], Some(3), &["a"]);
        check(&[(0, "a", Arrived)], Some(1), &["a"]);
    }

    #[test]
    fn directories_that_came_are_kept_for_the_first_burst_that_has_saves() {
        let start = Instant::now();
        let mut burst = Burst::new(Duration::from_millis(10), Duration::from_secs(2));
        let see = |burst: &mut Burst, path: &str, change| {
            burst.see(Path::new(path), change, start, || false, || false, |_| Look::times(None));
        };
        burst.directory_came(Path::new("d"));
        for change in [Created, Closed, Gone] {
            see(&mut burst, "d/temporary", change);
        }
        assert!(burst.is_under_way() && burst.finish().is_none());
        see(&mut burst, "d/a", Arrived);
        let names = |burst: crate::watch::Burst| -> Vec<PathBuf> {
            burst.directories.into_iter().map(|(directory, _)| directory).collect()
        };
        assert_eq!(burst.finish().map(names), Some(vec!["d".into()]));
        see(&mut burst, "d/a", Arrived);
        assert_eq!(burst.finish().map(names), Some(Vec::new()));
    }

    #[test]
    fn a_save_has_the_stamp_of_its_last_write_and_a_deleted_file_has_none() {
        let (start, mut second) = (Instant::now(), 0);
        let mut burst = Burst::new(Duration::from_millis(10), Duration::from_secs(2));
        let mut see = |path: &str, change| {
            second += 1;
            let stamp = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let look = |_| Look::times((change != Gone).then_some(stamp));
            burst.see(Path::new(path), change, start, || false, || false, look);
        };
        for (path, change) in
            [("a", Written), ("a", Closed), ("b", Gone), ("a", Arrived), ("a", Attributes)]
        {
            see(path, change);
        }
        let saves = burst.finish().unwrap().saves;
        let stamps: Vec<_> = saves.iter().map(|save| (save.path.to_str(), save.stamp)).collect();
        let fourth = SystemTime::UNIX_EPOCH + Duration::from_secs(4);
        assert_eq!(stamps, [(Some("a"), Some(fourth)), (Some("b"), None)]);
    }

    #[test]
    fn only_a_write_into_a_file_is_one_in_place() {
        let start = Instant::now();
        let mut burst = Burst::new(Duration::from_millis(10), Duration::from_secs(2));
        let mut see = |path: &str, change, is_recent: bool| {
            let look = |_| Look::times(None);
            burst.see(Path::new(path), change, start, || is_recent, || false, look);
        };
        for (path, change) in [
            ("written", Written),
            ("written", Closed),
            ("replaced", Arrived),
            ("appeared", Appeared),
            ("gone", Gone),
            ("both", Written),
            ("both", Closed),
            ("both", Arrived),
            ("mapped", Closed),
            ("unclosed", Written),
        ] {
            see(path, change, path == "mapped");
        }
        burst.count_unclosed(start + UNCLOSED_TIMEOUT, |_, _| Look::times(None));
        let saves = burst.finish().unwrap().saves;
        let in_place: Vec<_> =
            saves.iter().filter(|save| save.in_place).map(|save| &*save.path).collect();
        assert_eq!(in_place, ["written", "both", "mapped", "unclosed"].map(Path::new));
        assert_eq!(saves.len(), 7);
    }

    #[test]
    fn of_many_deleted_files_all_are_known_to_be_gone() {
        let start = Instant::now();
        let mut burst = Burst::new(Duration::from_millis(10), Duration::from_secs(2));
        let gone = |_| Look { content: Content::Absent, changed: None, stamp: None };
        for number in 0..2 * MANY {
            let path = number.to_string();
            burst.see(Path::new(&path), Gone, start, || false, || false, gone);
        }
        let saves = burst.finish().unwrap().saves;
        assert_eq!(saves.len(), 2 * MANY);
        assert!(saves.iter().all(|save| save.contents == [Content::Absent]));
    }

    #[test]
    fn of_many_files_only_the_first_are_read_but_all_have_a_stamp() {
        let start = Instant::now();
        let mut burst = Burst::new(Duration::from_millis(10), Duration::from_secs(2));
        let mut depths = Vec::new();
        for number in 0..=MANY + 1 {
            let look = |depth| {
                depths.push(depth);
                Look::times(Some(SystemTime::UNIX_EPOCH))
            };
            let path = number.to_string();
            burst.see(Path::new(&path), Appeared, start, || false, || false, look);
        }
        let read = depths.iter().filter(|depth| **depth == Depth::Content).count();
        assert_eq!((read, depths.len()), (MANY + 1, MANY + 2));
        let saves = burst.finish().unwrap().saves;
        assert!(saves.iter().all(|save| save.stamp == Some(SystemTime::UNIX_EPOCH)));
    }

    #[test]
    fn install_and_truncate_append_are_one_save() {
        let install = [(0, "a", Gone), (0, "a", Created), (0, "a", Written), (1, "a", Closed)];
        check(&install, Some(2), &["a"]);
        let append = [(0, "a", Written), (0, "a", Closed), (1, "a", Written), (1, "a", Closed)];
        check(&append, Some(2), &["a"]);
    }

    #[test]
    fn opening_and_touching_are_no_save_unless_it_is_a_trigger_file() {
        let touch = vec![(0, "a", Attributes), (0, "a", Closed)];
        check(&touch, None, &[]);
        let trigger = Lines { changes: touch, recent: true, trigger: true };
        assert_eq!(run(&trigger), (Some(1), vec!["a".to_owned()]));
        check(&[(0, "a", Attributes)], None, &[]);
    }

    #[test]
    fn a_close_alone_is_a_save_when_the_file_is_young() {
        let changes = vec![(0, "a", Closed)];
        let mapped = Lines { changes: changes.clone(), recent: true, trigger: false };
        assert_eq!(run(&mapped), (Some(1), vec!["a".to_owned()]));
        check(&changes, None, &[]);
    }

    #[test]
    fn a_chmod_of_long_ago_does_not_make_a_write_through_a_mapping_a_touch() {
        let changes = vec![(0, "a", Attributes), (5000, "a", Closed)];
        let mapped = Lines { changes, recent: true, trigger: false };
        assert_eq!(run(&mapped), (Some(5001), vec!["a".to_owned()]));
    }

    #[test]
    fn a_file_that_nobody_closes_counts_after_500_ms_and_holds_nobody_up() {
        check(&[(0, "a", Written), (100, "a", Written)], Some(601), &["a"]);
        let other = [(0, "log", Written), (1, "a", Written), (1, "a", Closed)];
        check(&other, Some(2), &["a"]);
    }

    #[test]
    fn several_files_wait_for_quiet_and_many_for_more() {
        check(&[(0, "a", Arrived), (3, "b", Arrived)], Some(13), &["a", "b"]);
        let names: Vec<String> = (0..21).map(|number| number.to_string()).collect();
        let changes: Vec<_> =
            names.iter().map(|name| (0, &*name.clone().leak(), Appeared)).collect();
        let lines = Lines { changes, recent: false, trigger: false };
        assert_eq!(run(&lines).0, Some(25));
    }

    #[test]
    fn what_comes_and_goes_within_a_burst_is_nothing() {
        let atomic = [(0, "a.tmp", Created), (0, "a.tmp", Closed), (0, "a.tmp", Gone)];
        check(&atomic, Some(10), &[]);
        check(&[(0, "a", Gone)], Some(10), &["a"]);
        check(&[(0, "a", Gone), (1, "a", Created), (1, "a", Closed)], Some(2), &["a"]);
    }

    #[test]
    fn a_burst_never_takes_longer_than_max_wait() {
        let changes: Vec<_> = (0..300).map(|step| (step * 9, "ab", Written)).collect();
        let mut both = vec![(0, "a", Arrived), (1, "b", Arrived)];
        both.extend(changes);
        assert_eq!(run(&Lines { changes: both, recent: false, trigger: false }).0, Some(2000));
    }
}
