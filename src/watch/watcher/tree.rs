//! The tree: adds and removes watched directories.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Watcher, is_directory};
use crate::config::{self, Backend};
use crate::filter::Filter;
use crate::notice::Watching;
use crate::watch::burst::Change;
use crate::watch::clock::{Reading, changed_at, coarse_now, instant_of, queue_holds};
use crate::watch::ignores::Ignores;
use crate::watch::native::{Native, Outcome, Refused};
use crate::watch::walk::{self, Companion, Counts, Listing, Look, Place, walk};
use crate::watch::{Found, mounts, tops};

/// Interval at which directories are tried again that could not be listed.
const LIST_AGAIN: Duration = Duration::from_secs(1);
/// Maximum number of watches that are removed one by one.
const MAX_UNWATCHED: usize = 64;

impl Watcher {
    /// Watches everything that is configured.
    pub(super) fn watch_everything(&mut self, counts: Counts<'_>) -> Found {
        let filter = Arc::clone(&self.filter);
        let watch = filter.watch();
        self.set_anchors();
        self.links.clear();
        self.waypoints.clear();
        self.followed.clear();
        self.beside.clear();
        let mut tops = tops(watch, &mut self.ignores);
        if let Counts::Lost(_, before) = counts {
            for top in &mut tops {
                top.is_whole = !before.contains(&top.path);
            }
        }
        let found = self.adopt(tops, counts);
        let all = || watch.roots.iter().chain(watch.outside());
        self.absent = all().filter(|path| !self.is_there(path)).cloned().collect();
        for file in watch.outside().filter(|file| file.exists() && !file.is_dir()) {
            self.watch_file(file, counts);
        }
        // A file that is reached through a link to a directory is not found by the walk.
        let rules = watch.rules.iter().flat_map(|rule| &rule.include_files);
        for file in watch.include_files.iter().chain(rules).filter(|file| file.exists()) {
            self.follow_file(file);
        }
        for package in watch.packages_outside() {
            self.count_new_files(package, counts);
        }
        for file in self.ignores.outside().to_vec() {
            if let Some(directory) = file.parent().filter(|place| !self.tree.contains(*place)) {
                self.beside.insert(directory.to_owned());
                self.watch(directory);
            }
        }
        self.know_aliases();
        self.watch_for_absent();
        found
    }

    /// Returns true for a single file that exists, and for a directory that is watched.
    pub(super) fn is_there(&self, path: &Path) -> bool {
        if path.is_dir() { self.tree.contains(path) } else { path.exists() }
    }

    /// Watches a single file, wherever it lies.
    pub(super) fn watch_file(&mut self, file: &Path, counts: Counts<'_>) {
        if let Some(directory) = file.parent() {
            self.watch_beside(directory);
        }
        self.follow_file(file);
        let cut = match counts {
            Counts::Since(cut) | Counts::New(cut, ..) | Counts::Lost(cut, _) => cut,
            Counts::Nothing | Counts::All => return,
        };
        let was_seen = match counts {
            Counts::New(_, before, filter) => {
                filter.is_source(file) && file.parent().is_some_and(|place| before.contains(place))
            }
            _ => false,
        };
        let at = file.symlink_metadata().ok().and_then(|meta| changed_at(&meta));
        if let Some(at) = at.filter(|at| *at >= cut && !was_seen) {
            self.see(file, Change::Arrived, instant_of(at));
        }
    }

    /// Counts files as changed that were added to a package's directory, outside of every root,
    /// after it was listed.
    fn count_new_files(&mut self, directory: &Path, counts: Counts<'_>) {
        let cut = match counts {
            Counts::Since(cut) | Counts::New(cut, ..) | Counts::Lost(cut, _) => cut,
            Counts::Nothing | Counts::All => return,
        };
        self.watch_beside(directory);
        for entry in directory.read_dir().into_iter().flatten().flatten() {
            let at = entry.metadata().ok().and_then(|meta| changed_at(&meta));
            if let Some(at) = at.filter(|at| *at >= cut)
                && self.filter.is_source(&entry.path())
            {
                self.see(&entry.path(), Change::Arrived, instant_of(at));
            }
        }
    }

    /// Watches a directory only for certain files in it.
    fn watch_beside(&mut self, directory: &Path) {
        if self.tree.contains(directory) {
            return;
        }
        self.beside.insert(directory.to_owned());
        if self.watch(directory) != Outcome::Watched || self.is_silent(directory) {
            self.poll(directory);
        }
    }

    /// Counts saves of the target as saves of this link, if it is a link to follow.
    pub(super) fn follow_file(&mut self, link: &Path) {
        if let Some(target) = walk::followed_file(link, &self.filter) {
            self.follow(link, &target);
        }
    }

    pub(super) fn follow(&mut self, link: &Path, target: &Path) {
        // Comes before the first scan of its directory, if that is polled.
        self.links.insert(target.to_owned(), link.to_owned());
        for waypoint in walk::waypoints(link) {
            let base = &self.filter.watch().base;
            let Some(directory) = waypoint.parent().map(Path::to_owned) else { continue };
            // Directories above the project are not expected to change.
            if directory == *base || !base.starts_with(&directory) {
                self.watch_beside(&directory);
                self.scanner.know(&waypoint);
                self.waypoints.insert(waypoint);
            }
        }
        if let Some(directory) = target.parent() {
            self.watch_beside(directory);
            self.scanner.know(target);
        }
    }

    /// Maps files in a followed directory to their configured names. The system reports a
    /// directory's events under only one of its names.
    fn know_aliases(&mut self) {
        if self.followed.is_empty() {
            return;
        }
        let alias = |path: &Path| {
            path.ancestors().find_map(|place| {
                let link = self.followed.get(place)?;
                Some(link.join(path.strip_prefix(place).ok()?))
            })
        };
        let targets = self.links.iter().map(|(target, link)| (target.clone(), link.clone()));
        let files = self.filter.watch().outside();
        let files = files.filter_map(|file| Some((file.canonicalize().ok()?, file.clone())));
        let aliases: Vec<(PathBuf, PathBuf)> = targets
            .chain(files)
            .filter_map(|(target, name)| Some((alias(&target)?, name)))
            .filter(|(alias, name)| alias != name)
            .collect();
        self.links.extend(aliases);
    }

    /// Watches these directories and all below them, and records what counts as changed.
    pub(super) fn adopt(&mut self, tops: Vec<Place>, counts: Counts<'_>) -> Found {
        let filter = Arc::clone(&self.filter);
        let look = Look { filter: &filter, gitignore: self.ignores.is_enabled(), counts };
        let is_new = matches!(counts, Counts::All);
        let found = Found::default();
        let refused = Refused::default();
        let mut adopting = Adopting { watcher: self, is_new, refused, found };
        walk(tops, look, &mut adopting);
        let found = adopting.found;
        self.know_aliases();
        found
    }

    pub(super) fn watch(&mut self, path: &Path) -> Outcome {
        match &mut self.native {
            Some(native) => native.watch(path),
            None => Outcome::OverLimit,
        }
    }

    pub(super) fn unwatch(&mut self, path: &Path) {
        if let Some(native) = &mut self.native {
            native.unwatch(path);
        }
    }

    pub(super) fn directory_came(&mut self, event: notify::Event) {
        self.directory_appeared(&event.paths[0]);
        self.feed(event);
    }

    pub(super) fn directory_appeared(&mut self, directory: &Path) {
        let scope = self.ignores.around(directory).cloned();
        if walk::is_left_out(directory, &self.filter, scope.as_deref()) {
            return;
        }
        self.burst.directory_came(directory);
        let place = Place { path: directory.to_owned(), scope, is_whole: false };
        self.adopt(vec![place], Counts::All);
    }

    /// There are no descriptors or no memory to list this directory now: tries again later.
    fn postpone(&mut self, directory: PathBuf) {
        if !std::mem::replace(&mut self.reported.postponed, true) {
            self.say(Watching::TooManyFiles { directory: directory.clone() });
        }
        self.postponed.insert(directory);
        self.list_postponed.get_or_insert_with(|| Instant::now() + LIST_AGAIN);
    }

    /// All in the directories that could not be listed counts as changed, as nothing of it was seen.
    pub(super) fn list_postponed(&mut self) {
        self.list_postponed = None;
        for directory in std::mem::take(&mut self.postponed) {
            if !self.tree.contains(&directory) {
                self.directory_appeared(&directory);
            }
        }
        self.reported.postponed &= !self.postponed.is_empty();
    }

    pub(super) fn directory_went(&mut self, event: notify::Event, at: Instant) {
        let directory = event.paths[0].clone();
        if self.anchors.contains_key(&directory)
            && (self.look_at_anchors() || !self.tree.contains(&directory))
        {
            return;
        }
        self.directory_disappeared(&directory, at);
        // Another directory may already be in its place.
        if is_directory(&directory) {
            self.unwatch(&directory);
            self.directory_appeared(&directory);
        }
        self.feed(event);
    }

    /// Counts the directory as saved, in place of its files, whose names are no longer known.
    pub(super) fn directory_disappeared(&mut self, directory: &Path, at: Instant) {
        let below = self.forget(directory);
        self.burst.lose_below(directory);
        let mut held_something = false;
        for path in below {
            held_something |= !self.empty.remove(&path);
        }
        if held_something && !self.burst.names_below(directory) {
            self.see(directory, Change::Gone, at);
        }
    }

    /// Removes the directory and all below it from the tree, and returns which they were. The
    /// operating system and `notify` have already removed the watches if it was deleted or moved
    /// away.
    pub(super) fn forget(&mut self, directory: &Path) -> Vec<PathBuf> {
        let from = (Bound::Included(directory), Bound::Unbounded);
        let below = self.tree.range::<Path, _>(from);
        let below: Vec<PathBuf> =
            below.take_while(|path| path.starts_with(directory)).cloned().collect();
        for path in &below {
            self.tree.remove(path);
            self.over_limit.remove(path);
        }
        if !below.is_empty() {
            self.scanner.forget_below(directory);
        }
        below
    }

    /// Adapts to changed ignore patterns, or to another filter. Adds and removes watches, and finds
    /// what has changed since `cut` and did not matter before, by the `former` filter if there is
    /// one.
    pub(super) fn watch_anew(&mut self, cut: SystemTime, former: Option<&Filter>) {
        self.scan_a_last_time();
        self.ignores = Ignores::new(self.filter.watch().gitignore);
        let mut before = std::mem::take(&mut self.tree);
        before.extend(std::mem::take(&mut self.beside));
        let counts = match former {
            Some(filter) => Counts::New(cut, &before, filter),
            None => Counts::Since(cut),
        };
        self.watch_everything(counts);
        let removed: Vec<&PathBuf> =
            before.iter().filter(|directory| !self.needs(directory)).collect();
        for directory in removed.iter().copied() {
            // Its recent changes turned out not to belong to the program.
            if walk::foreign(directory, &self.filter).is_some() {
                self.burst.drop_below(directory);
            }
        }
        if removed.len() <= MAX_UNWATCHED {
            for directory in removed {
                self.unwatch(directory);
            }
            return;
        }
        // Between the end of the old watches and the beginning of the new ones there are no events,
        // also of files that were watched before: all that changes from now on is found.
        let cut = coarse_now();
        self.drain();
        self.renew_native();
        self.tree.clear();
        self.watch_everything(Counts::Since(cut));
    }

    /// Returns true for a directory that is watched for any reason.
    pub(super) fn needs(&self, directory: &Path) -> bool {
        self.tree.contains(directory)
            || self.beside.contains(directory)
            || self.outposts.contains(directory)
    }

    /// Scans all polled directories once more, before others are polled.
    fn scan_a_last_time(&mut self) {
        let seen = self.with_scanner(|scanner, judge| scanner.clear(judge));
        self.over_limit.clear();
        self.take_seen(seen);
    }

    pub(super) fn configure(&mut self, watch: config::Watch, cut: SystemTime) {
        self.burst.configure(watch.debounce, watch.max_wait);
        self.scan_a_last_time();
        self.scanner.configure(watch.poll_interval);
        let is_other = self.filter.watch().backend != watch.backend;
        let former = std::mem::replace(&mut self.filter, Arc::new(Filter::new(watch)));
        if is_other {
            self.drain();
            self.recover(cut);
        } else {
            self.watch_anew(cut, Some(&former));
        }
        self.mounted = mounts::mounted(|place| self.concerns(place));
    }

    /// Waits until all events so far have been read.
    pub(super) fn drain(&mut self) {
        if let Some(native) = &mut self.native {
            native.drain();
        }
    }

    /// Replaces the operating system's watcher by a new one, which watches nothing yet.
    pub(super) fn renew_native(&mut self) {
        // The old one is dropped first, since both together may exceed the limit.
        self.native = None;
        self.outposts.clear();
        if self.filter.watch().backend == Backend::Poll {
            return;
        }
        match Native::new(self.to_self.clone()) {
            Ok(native) => {
                self.native = Some(native);
                self.native_since = Some(Instant::now());
                self.reading = Reading::new(queue_holds(), SystemTime::now());
            }
            Err(error) => self.say(Watching::NoEvents(error.to_string())),
        }
    }
}

/// Watches the directories of a walk, and records what it finds.
struct Adopting<'a> {
    watcher: &'a mut Watcher,
    /// Whether the tree has just appeared.
    is_new: bool,
    refused: Refused,
    found: Found,
}

impl Companion for Adopting<'_> {
    fn watch(&mut self, batch: &mut Vec<Place>) {
        let watcher = &mut *self.watcher;
        self.refused = match &mut watcher.native {
            None => Refused::default(),
            Some(native) => native.watch_all(batch.iter().map(|place| &place.path)),
        };
        if !self.refused.over_limit.is_empty() {
            watcher.report_limit();
        }
        batch.retain(|place| !self.refused.failed.contains(&place.path));
        watcher.tree.extend(batch.iter().map(|place| place.path.clone()));
    }

    fn see(&mut self, mut listing: Listing) {
        let watcher = &mut *self.watcher;
        let Some(device) = listing.device else {
            watcher.tree.remove(&listing.path);
            if listing.is_postponed {
                watcher.postpone(listing.path);
            }
            return;
        };
        self.found.directories += 1;
        self.found.files += listing.files;
        if let Some(snapshot) = &mut watcher.snapshot {
            snapshot.add(std::mem::take(&mut listing.names));
        }
        if listing.files == 0 {
            watcher.empty.insert(listing.path.clone());
        } else {
            watcher.empty.remove(&listing.path);
        }
        for (link, target) in listing.followed() {
            watcher.followed.insert(target.to_owned(), link.to_owned());
        }
        watcher.ignores.keep(listing.scope);
        let is_silent = watcher.is_silent_device(device, &listing.path);
        let is_over_limit = self.refused.over_limit.contains(&listing.path);
        if is_over_limit && !is_silent {
            watcher.over_limit.insert(listing.path.clone());
        }
        watcher.special.extend(listing.special);
        // Comes before the first scan of the directory, if it is polled.
        for (link, target) in listing.links {
            watcher.follow(&link, &target);
        }
        if watcher.native.is_none() || is_over_limit || is_silent {
            watcher.poll(&listing.path);
        }
        for (path, stamp) in listing.changed {
            let at = stamp.map_or_else(Instant::now, instant_of);
            let change = match path == listing.path {
                true => Change::Gone,
                false if self.is_new => Change::Appeared,
                false => Change::Arrived,
            };
            watcher.see(&path, change, at);
        }
    }
}
