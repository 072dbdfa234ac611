//! Polling: what a directory held is compared with what it holds.
//!
//! One scanner goes through all that is polled, a few milliseconds at a time so that events
//! are not held up, and then pauses: so long that looking costs a small part of the time,
//! however large the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// A look is interrupted after so long.
const SLICE: Duration = Duration::from_millis(5);
/// The pause between two looks, where nobody has chosen one: the shortest and the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The pause is so many times as long as the look.
const PAUSE_FOR_LOOK: u32 = 19;
/// As above, where somebody has chosen the pause.
const CHOSEN_PAUSE_FOR_LOOK: u32 = 4;
/// Contents up to this size are compared, in bytes.
const MOST_READ: u64 = 8 << 20;
/// A stamp may stand for two contents if it is so young: it stands still for a tick.
const TICK: Duration = Duration::from_millis(50);
/// The same for a file system that counts in seconds, or in two.
const COARSE_TICK: Duration = Duration::from_secs(3);
/// Who has written so recently may be about to go on: it is looked at again after as long.
const SETTLES: Duration = Duration::from_millis(20);

/// Who knows what matters.
pub(super) trait Judge {
    /// Does a change of this file matter? It is asked when its name is new.
    fn matters(&self, file: &Path) -> bool;
    /// Is this directory one that nobody has heard of, though it matters?
    fn is_new(&self, directory: &Path) -> bool;
}

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A file is new or holds something else.
    Changed(PathBuf),
    Gone(PathBuf),
    DirectoryCame(PathBuf),
    DirectoryWent(PathBuf),
}

/// All that is polled.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    interval: Option<Duration>,
    places: BTreeMap<PathBuf, Snapshot>,
    /// Those to be looked at first, and since when.
    hints: BTreeSet<PathBuf>,
    hinted: Option<Instant>,
    /// The look under way.
    under_way: Option<Under>,
    due: Option<Instant>,
}

#[derive(Debug, Default)]
struct Under {
    /// The last directory that was looked at.
    after: Option<PathBuf>,
    took: Duration,
}

/// What a directory held.
#[derive(Debug, Default)]
struct Snapshot {
    own: Option<Stamp>,
    files: BTreeMap<OsString, Stamp>,
    /// Something in it was being written when it was looked at last.
    is_unsettled: bool,
}

/// What a file was, as far as that is known without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Mode, owner, group, links: what changes the second time but no content.
    attributes: (u32, u32, u32, u64),
    /// Its content may change once more without changing any of that.
    is_young: bool,
    /// It was written only just now.
    is_unsettled: bool,
    /// What it held: of files that are young, or were reported once.
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
            is_unsettled: age.is_some_and(|age| age < SETTLES),
            content: None,
        }
    }

    /// Takes this for what the file is now, unless it is still being written.
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
            // A save of the same content is a save, as where events tell of it. (A write stamps both
            // times alike; to set the first one is a touch.)
            _ if !looks_same && now.modified == now.changed => true,
            (Some(before), Some(now)) => before != now,
            // Nobody had looked.
            _ => !looks_same || is_touched,
        };
        *self = now;
        if differs { Outcome::Changed } else { Outcome::Same }
    }
}

/// What a second look at a file has shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Same,
    Changed,
    /// It has changed, and may go on changing.
    Unsettled,
}

fn content(path: &Path, size: u64) -> Option<u64> {
    if size > MOST_READ {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

impl Snapshot {
    /// What a directory holds now.
    fn take(directory: &Path, judge: &impl Judge) -> Self {
        let mut snapshot = Snapshot::default();
        // All that is there is found, and nothing of it is news.
        snapshot.look(directory, judge, &mut Vec::new());
        snapshot
    }

    /// Compares, and takes what there is now for what it held. False: it is there no more.
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
                    // As if it were new the next time.
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
    /// The pause between two looks; `None`: by how long a look takes.
    pub(super) fn configure(&mut self, interval: Option<Duration>) {
        self.interval = interval;
    }

    /// Polls a directory from now on, if it does not yet: what it holds now is known.
    pub(super) fn adopt(&mut self, directory: &Path, judge: &impl Judge) {
        if !self.places.contains_key(directory) {
            self.places.insert(directory.to_owned(), Snapshot::take(directory, judge));
            self.due
                .get_or_insert_with(|| Instant::now() + self.interval.unwrap_or(SHORTEST_PAUSE));
        }
    }

    /// This file has begun to matter: what it is now is known, if its directory is polled.
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

    /// Polls none but these any more.
    pub(super) fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        self.places.retain(|directory, _| keep(directory));
        self.rest();
    }

    /// This directory and those below it are not polled any more.
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

    /// This directory alone is not polled any more.
    pub(super) fn forget(&mut self, directory: &Path) {
        self.places.remove(directory);
        self.rest();
    }

    /// Looks at everything a last time; then nothing is polled any more.
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

    /// Something has happened in this directory: it is looked at next.
    pub(super) fn hint(&mut self, directory: &Path) {
        self.hints.insert(directory.to_owned());
        self.hinted = Some(Instant::now());
    }

    /// When to look.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.hinted, self.due].into_iter().flatten().min()
    }

    /// True between the beginning and the end of a look at everything.
    pub(super) fn is_looking(&self) -> bool {
        self.under_way.is_some()
    }

    /// Looks at one directory.
    pub(super) fn look_at(&mut self, directory: &Path, judge: &impl Judge) -> Vec<Seen> {
        let mut seen = Vec::new();
        let Some(snapshot) = self.places.get_mut(directory) else { return seen };
        if !snapshot.look(directory, judge, &mut seen) {
            self.places.remove(directory);
            seen.push(Seen::DirectoryWent(directory.to_owned()));
        } else if snapshot.is_unsettled {
            self.hints.insert(directory.to_owned());
            self.hinted = Some(Instant::now() + SETTLES);
        }
        seen
    }

    /// Looks at as much as a slice of time allows, if it is time to.
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

    /// The next look comes after a pause that fits this one.
    fn pause(&mut self, took: Duration) {
        let pause = match self.interval {
            Some(chosen) => chosen.max(took * CHOSEN_PAUSE_FOR_LOOK),
            None => (took * PAUSE_FOR_LOOK).clamp(SHORTEST_PAUSE, LONGEST_PAUSE.max(took)),
        };
        self.due = (!self.places.is_empty()).then(|| Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Text files matter; directories are never new.
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

        /// Saves a file, and lets some time pass.
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
        // A file system that counts in seconds.
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
        assert!(polled.scanner.due().is_some_and(|due| due <= Instant::now() + SETTLES));
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
