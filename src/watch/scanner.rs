//! Polling: compares the contents of directories with earlier ones.
//!
//! One scanner goes through all polled directories, a few milliseconds at a time, so that events
//! are not delayed. Between two scans it pauses. The pause is long enough that scanning takes a
//! small part of the time, however large the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Time after which a scan is interrupted.
const SLICE: Duration = Duration::from_millis(5);
/// Minimum and maximum pause between two scans, if none is configured.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Ratio of the pause to the duration of a scan.
const PAUSE_RATIO: u32 = 19;
/// The same ratio, if a pause is configured.
const CHOSEN_PAUSE_RATIO: u32 = 4;
/// Maximum size of files whose contents are compared, in bytes.
const MAX_READ: u64 = 8 << 20;
/// Maximum age of a timestamp that two contents may share, since the clock advances in ticks.
const TICK: Duration = Duration::from_millis(50);
/// The same for file systems whose timestamps count in seconds, or in units of two seconds.
const COARSE_TICK: Duration = Duration::from_secs(3);
/// Time since the last write within which more writes are expected. The file is polled again after
/// it.
const SETTLE_DELAY: Duration = Duration::from_millis(20);

/// Decides what matters.
pub(super) trait Judge {
    /// Returns whether a change of this file matters. Asked about each new name.
    fn matters(&self, file: &Path) -> bool;
    /// Returns whether this directory matters, but is not known yet.
    fn is_new(&self, directory: &Path) -> bool;
}

/// A difference that a scan has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A file is new, or its content has changed.
    Changed(PathBuf),
    Gone(PathBuf),
    DirectoryCame(PathBuf),
    DirectoryWent(PathBuf),
}

#[derive(Debug, Default)]
pub(super) struct Scanner {
    interval: Option<Duration>,
    places: BTreeMap<PathBuf, Snapshot>,
    /// Directories to be scanned next, and when.
    hints: BTreeSet<PathBuf>,
    hinted: Option<Instant>,
    /// The current scan.
    under_way: Option<Under>,
    due: Option<Instant>,
}

#[derive(Debug, Default)]
struct Under {
    /// The directory that was scanned last.
    after: Option<PathBuf>,
    took: Duration,
}

/// The previous contents of a directory.
#[derive(Debug, Default)]
struct Snapshot {
    own: Option<Stamp>,
    files: BTreeMap<OsString, Stamp>,
    /// Whether something in it was being written in the last scan.
    is_unsettled: bool,
}

/// What is known of a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Mode, owner, group, links: a change of these changes ctime without changing the content.
    attributes: (u32, u32, u32, u64),
    /// Whether the content may change once more without changing any of these.
    is_young: bool,
    /// Whether it was written only just now.
    is_unsettled: bool,
    /// A hash of its content; only for files that were young, or were reported before.
    content: Option<u64>,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        let tick = if meta.mtime_nsec() == 0 { COARSE_TICK } else { TICK };
        Self {
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            attributes: (meta.mode(), meta.uid(), meta.gid(), meta.nlink()),
            is_young: age.is_none_or(|age| age < tick),
            is_unsettled: age.is_some_and(|age| age < SETTLE_DELAY),
            content: None,
        }
    }

    /// Replaces this state by the current one, unless the file is still being written.
    fn replace(&mut self, path: &Path, mut now: Stamp) -> Outcome {
        let looks_same = self.size == now.size && self.modified == now.modified;
        let is_touched = self.changed != now.changed && self.attributes == now.attributes;
        if !looks_same && now.is_unsettled {
            return Outcome::Unsettled;
        }
        let may_differ = !looks_same || is_touched || self.is_young;
        if !may_differ {
            now.content = self.content;
            *self = now;
            return Outcome::Same;
        }
        now.content = content(path, now.size);
        let differs = match (self.content, now.content) {
            // A save of the same content is a save, as it is with events. A write sets both times
            // alike; setting only the first one is a touch.
            _ if !looks_same && now.modified == now.changed => true,
            (Some(before), Some(now)) => before != now,
            // The earlier content is not known.
            _ => !looks_same || is_touched,
        };
        *self = now;
        if differs { Outcome::Changed } else { Outcome::Same }
    }
}

/// The result of comparing a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Same,
    Changed,
    /// It has changed, and may change again soon.
    Unsettled,
}

fn content(path: &Path, size: u64) -> Option<u64> {
    if size > MAX_READ {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

impl Snapshot {
    /// Returns the current contents of a directory.
    fn take(directory: &Path, judge: &impl Judge) -> Self {
        let mut snapshot = Snapshot::default();
        // Everything is new to the snapshot, so the differences are discarded.
        snapshot.look(directory, judge, &mut Vec::new());
        snapshot
    }

    /// Compares with the current contents, and keeps these. Returns false if the directory is gone.
    fn look(&mut self, directory: &Path, judge: &impl Judge, seen: &mut Vec<Seen>) -> bool {
        let Ok(meta) = directory.metadata() else { return false };
        if !meta.is_dir() {
            return false;
        }
        let own = Stamp::of(&meta);
        let is_first = self.own.is_none();
        let was_unsettled = std::mem::take(&mut self.is_unsettled);
        let is_same = self.own.as_ref().is_some_and(|before| {
            !before.is_young && before.modified == own.modified && before.changed == own.changed
        });
        self.own = Some(own);
        if !is_same || was_unsettled {
            return self.list(directory, judge, is_first, seen);
        }
        let mut is_unsettled = false;
        self.files.retain(|name, stamp| {
            let path = directory.join(name);
            let Ok(meta) = path.symlink_metadata() else {
                seen.push(Seen::Gone(path));
                return false;
            };
            match stamp.replace(&path, Stamp::of(&meta)) {
                Outcome::Same => {}
                Outcome::Changed => seen.push(Seen::Changed(path)),
                Outcome::Unsettled => is_unsettled = true,
            }
            true
        });
        self.is_unsettled = is_unsettled;
        true
    }

    fn list(
        &mut self,
        directory: &Path,
        judge: &impl Judge,
        is_first: bool,
        seen: &mut Vec<Seen>,
    ) -> bool {
        let Ok(entries) = directory.read_dir() else { return false };
        let mut before = std::mem::take(&mut self.files);
        for entry in entries.flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                if judge.is_new(&path) {
                    seen.push(Seen::DirectoryCame(path));
                }
                continue;
            }
            if let Some(mut stamp) = before.remove(&name) {
                match stamp.replace(&path, Stamp::of(&meta)) {
                    Outcome::Same => {}
                    Outcome::Changed => seen.push(Seen::Changed(path)),
                    Outcome::Unsettled => self.is_unsettled = true,
                }
                self.files.insert(name, stamp);
            } else if (meta.is_file() || meta.is_symlink()) && judge.matters(&path) {
                let mut stamp = Stamp::of(&meta);
                if stamp.is_unsettled && !is_first {
                    // It counts as new in the next scan.
                    self.is_unsettled = true;
                    continue;
                }
                if stamp.is_young {
                    stamp.content = content(&path, stamp.size);
                }
                self.files.insert(name, stamp);
                seen.push(Seen::Changed(path));
            }
        }
        seen.extend(before.into_keys().map(|name| Seen::Gone(directory.join(name))));
        true
    }
}

impl Scanner {
    /// Sets the pause between two scans; `None`: depending on the duration of a scan.
    pub(super) fn configure(&mut self, interval: Option<Duration>) {
        self.interval = interval;
    }

    /// Polls a directory from now on, comparing with its current contents, unless it is polled
    /// already.
    pub(super) fn adopt(&mut self, directory: &Path, judge: &impl Judge) {
        if !self.places.contains_key(directory) {
            self.places.insert(directory.to_owned(), Snapshot::take(directory, judge));
            self.due.get_or_insert_with(|| Instant::now() + self.interval.unwrap_or(MIN_PAUSE));
        }
    }

    /// Records the current state of a file that matters from now on, if its directory is polled.
    pub(super) fn know(&mut self, file: &Path) {
        let place = file.parent().and_then(|directory| self.places.get_mut(directory));
        if let (Some(place), Some(name), Ok(meta)) =
            (place, file.file_name(), file.symlink_metadata())
        {
            let mut stamp = Stamp::of(&meta);
            if stamp.is_young {
                stamp.content = content(file, stamp.size);
            }
            place.files.entry(name.to_owned()).or_insert(stamp);
        }
    }

    /// Stops polling all directories but these.
    pub(super) fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        self.places.retain(|directory, _| keep(directory));
        self.rest();
    }

    /// Stops polling this directory and all below it.
    pub(super) fn forget_below(&mut self, directory: &Path) {
        let from = (Bound::Included(directory), Bound::Unbounded);
        let below = self.places.range::<Path, _>(from).map(|(place, _)| place);
        let below: Vec<PathBuf> =
            below.take_while(|place| place.starts_with(directory)).cloned().collect();
        for place in below {
            self.places.remove(&place);
        }
        self.rest();
    }

    /// Stops polling this directory alone.
    pub(super) fn forget(&mut self, directory: &Path) {
        self.places.remove(directory);
        self.rest();
    }

    /// Scans everything a last time, and stops polling.
    pub(super) fn clear(&mut self, judge: &impl Judge) -> Vec<Seen> {
        let places: Vec<PathBuf> = self.places.keys().cloned().collect();
        let seen = places.iter().flat_map(|place| self.look_at(place, judge)).collect();
        self.places.clear();
        self.rest();
        seen
    }

    fn rest(&mut self) {
        if self.places.is_empty() {
            *self = Self { interval: self.interval, ..Self::default() };
        }
    }

    pub(super) fn polls(&self, directory: &Path) -> bool {
        self.places.contains_key(directory)
    }

    /// Records that something has happened in this directory, which is scanned next.
    pub(super) fn hint(&mut self, directory: &Path) {
        self.hints.insert(directory.to_owned());
        self.hinted = Some(Instant::now());
    }

    /// Returns when to scan.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.hinted, self.due].into_iter().flatten().min()
    }

    /// Returns true during a scan of everything.
    pub(super) fn is_looking(&self) -> bool {
        self.under_way.is_some()
    }

    /// Scans one directory.
    pub(super) fn look_at(&mut self, directory: &Path, judge: &impl Judge) -> Vec<Seen> {
        let mut seen = Vec::new();
        let Some(snapshot) = self.places.get_mut(directory) else { return seen };
        if !snapshot.look(directory, judge, &mut seen) {
            self.places.remove(directory);
            seen.push(Seen::DirectoryWent(directory.to_owned()));
        } else if snapshot.is_unsettled {
            self.hints.insert(directory.to_owned());
            self.hinted = Some(Instant::now() + SETTLE_DELAY);
        }
        seen
    }

    /// Continues the scan for a slice of time, if it is due.
    pub(super) fn look(&mut self, now: Instant, judge: &impl Judge) -> Vec<Seen> {
        let mut seen = Vec::new();
        if self.hinted.take_if(|at| *at <= now).is_some() {
            for directory in std::mem::take(&mut self.hints) {
                seen.extend(self.look_at(&directory, judge));
            }
        }
        if self.due.is_none_or(|due| due > now) {
            return seen;
        }
        let mut under = self.under_way.take().unwrap_or_default();
        while now.elapsed() < SLICE {
            let from = under.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.places.range::<Path, _>((from, Bound::Unbounded)).next();
            let Some(directory) = next.map(|(directory, _)| directory.clone()) else {
                self.pause(under.took + now.elapsed());
                return seen;
            };
            seen.extend(self.look_at(&directory, judge));
            under.after = Some(directory);
        }
        under.took += now.elapsed();
        self.under_way = Some(under);
        seen
    }

    /// Sets the time of the next scan, after a pause that depends on the duration of this one.
    fn pause(&mut self, took: Duration) {
        let pause = match self.interval {
            Some(chosen) => chosen.max(took * CHOSEN_PAUSE_RATIO),
            None => (took * PAUSE_RATIO).clamp(MIN_PAUSE, MAX_PAUSE.max(took)),
        };
        self.due = (!self.places.is_empty()).then(|| Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Text files matter; directories named `new` are new.
    struct Texts;

    impl Judge for Texts {
        fn matters(&self, file: &Path) -> bool {
            file.extension().is_some_and(|extension| extension == "txt")
        }

        fn is_new(&self, directory: &Path) -> bool {
            directory.ends_with("new")
        }
    }

    struct Polled {
        root: tempfile::TempDir,
        scanner: Scanner,
    }

    impl Polled {
        fn new(files: &[(&str, &str)]) -> Self {
            let root = tempfile::tempdir().unwrap();
            for (name, text) in files {
                fs::write(root.path().join(name), text).unwrap();
            }
            let mut scanner = Scanner::default();
            scanner.adopt(root.path(), &Texts);
            Self { root, scanner }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        /// Saves a file, and dates the save back by more than `SETTLE_DELAY`.
        fn save(&self, name: &str, text: &str) -> PathBuf {
            let path = self.path(name);
            fs::write(&path, text).unwrap();
            let at = SystemTime::now() - Duration::from_millis(30);
            fs::File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
            path
        }

        #[track_caller]
        fn finds(&mut self, expected: &[Seen]) {
            assert_eq!(self.scanner.look_at(self.root.path(), &Texts), expected);
        }
    }

    #[test]
    fn what_was_written_made_deleted_and_renamed_is_found() {
        let mut polled = Polled::new(&[("a.txt", "one"), ("b.txt", "one"), ("x.o", "one")]);
        polled.finds(&[]);
        polled.save("a.txt", "two");
        polled.save("x.o", "two");
        polled.finds(&[Seen::Changed(polled.path("a.txt"))]);
        polled.finds(&[]);
        polled.save("c.txt", "");
        fs::remove_file(polled.path("b.txt")).unwrap();
        fs::create_dir(polled.path("new")).unwrap();
        let found = polled.scanner.look_at(polled.root.path(), &Texts);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.contains(&Seen::Changed(polled.path("c.txt"))));
        assert!(found.contains(&Seen::Gone(polled.path("b.txt"))));
        assert!(found.contains(&Seen::DirectoryCame(polled.path("new"))));
    }

    #[test]
    fn a_write_that_leaves_size_and_time_as_they_were_is_found() {
        let mut polled = Polled::new(&[("a.txt", "one")]);
        let path = polled.path("a.txt");
        // As on a file system that counts in seconds.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let second = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let stamp = |path: &Path| {
            fs::File::options().append(true).open(path).unwrap().set_modified(second).unwrap();
        };
        stamp(&path);
        polled.finds(&[]);
        fs::write(&path, "two").unwrap();
        stamp(&path);
        polled.finds(&[Seen::Changed(path)]);
        polled.finds(&[]);
    }

    #[test]
    fn chmod_is_no_save_and_neither_is_a_touch_of_what_was_saved_before() {
        use std::os::unix::fs::PermissionsExt;
        let mut polled = Polled::new(&[("a.txt", "one")]);
        let path = polled.path("a.txt");
        let old = SystemTime::now() - Duration::from_secs(1000);
        let touch = |at| fs::File::options().append(true).open(&path).unwrap().set_modified(at);
        touch(old).unwrap();
        let _ = polled.scanner.look_at(polled.root.path(), &Texts);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        polled.finds(&[]);
        polled.save("a.txt", "two");
        polled.finds(&[Seen::Changed(path.clone())]);
        touch(old).unwrap();
        polled.finds(&[]);
    }

    #[test]
    fn a_file_that_is_being_written_is_told_when_it_is_done() {
        let mut polled = Polled::new(&[("a.txt", "one")]);
        fs::write(polled.path("a.txt"), "").unwrap();
        fs::write(polled.path("b.txt"), "half").unwrap();
        polled.finds(&[]);
        assert!(polled.scanner.due().is_some_and(|due| due <= Instant::now() + SETTLE_DELAY));
        let (a, b) = (polled.save("a.txt", "whole"), polled.save("b.txt", "whole"));
        let mut found = polled.scanner.look_at(polled.root.path(), &Texts);
        found.sort_by_key(|seen| format!("{seen:?}"));
        assert_eq!(found, [Seen::Changed(a), Seen::Changed(b)]);
        polled.finds(&[]);
    }

    #[test]
    fn a_directory_that_is_gone_is_told_once() {
        let mut polled = Polled::new(&[]);
        let path = polled.root.path().to_owned();
        fs::remove_dir(&path).unwrap();
        polled.finds(&[Seen::DirectoryWent(path)]);
        polled.finds(&[]);
    }

    #[test]
    fn the_pause_grows_with_the_tree_unless_somebody_chose_it() {
        let pause = |interval, took| {
            let mut scanner = Scanner { interval, ..Scanner::default() };
            scanner.places.insert("/".into(), Snapshot::default());
            let before = Instant::now();
            scanner.pause(Duration::from_millis(took));
            scanner.due.unwrap().duration_since(before).as_millis() / 10 * 10
        };
        let chosen = |ms| Some(Duration::from_millis(ms));
        assert_eq!(pause(None, 1), 100);
        assert_eq!(pause(None, 20), 380);
        assert_eq!(pause(None, 1000), 2000);
        assert_eq!(pause(None, 5000), 5000);
        assert_eq!(pause(chosen(50), 1), 50);
        assert_eq!(pause(chosen(500), 200), 800);
    }
}
