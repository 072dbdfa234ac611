//! Finds changes that were not seen: by comparing times after events were lost, and by waiting for
//! directories that do not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Identity, Watcher};
use crate::config::Backend;
use crate::notice::Watching;
use crate::watch::Input;
use crate::watch::burst::Change;
use crate::watch::clock::coarse_now;
use crate::watch::ignores::Ignores;
use crate::watch::mounts;
use crate::watch::native::{Above, Outcome};
use crate::watch::walk::{Counts, Place};

/// Interval for polling a missing directory where no event reports it.
const ABSENT_POLL_INTERVAL: Duration = Duration::from_secs(1);

impl Watcher {
    /// Recovers from changes without events. Watches everything again, and finds by timestamps what
    /// has changed since `cut`. Returns the number of changed paths.
    pub(super) fn recover(&mut self, cut: SystemTime) -> usize {
        self.burst.lose();
        self.ignores = Ignores::new(self.filter.watch().gitignore);
        let before = std::mem::take(&mut self.tree);
        // A directory may have been replaced, and its watch would wrongly count as working.
        self.renew_native();
        self.anchors.clear();
        let known = self.burst.len();
        self.watch_everything(Counts::Lost(cut, &before));
        let (tree, beside) = (&self.tree, &self.beside);
        self.scanner.retain(|directory| tree.contains(directory) || beside.contains(directory));
        self.over_limit.retain(|directory| tree.contains(directory));
        self.burst.len() - known
    }

    /// Returns true for a mount inside or above what is watched.
    pub(super) fn concerns(&self, mount: &Path) -> bool {
        let watch = self.filter.watch();
        let all = watch.roots.iter().chain(watch.outside());
        let mut around = all.filter(|path| path.starts_with(mount) || mount.starts_with(path));
        around.next().is_some()
    }

    pub(super) fn mounts_changed(&mut self) {
        let now = mounts::mounted(|place| self.concerns(place));
        let before = std::mem::replace(&mut self.mounted, now.clone());
        let changed: Vec<PathBuf> = before
            .iter()
            .filter(|mount| !now.contains(mount))
            .chain(now.iter().filter(|mount| !before.contains(mount)))
            .map(|mount| mount.place.clone())
            .collect();
        self.is_another_file_system(&changed);
    }

    /// Handles unmounted file systems, for which the table of mounts may look unchanged.
    pub(super) fn look_at_unmounted(&mut self) {
        let places = std::mem::take(&mut self.unmounted);
        let is_top = |place: &PathBuf| !place.ancestors().skip(1).any(|one| places.contains(one));
        let tops = places.iter().filter(|place| is_top(place) && self.tree.contains(*place));
        let tops: Vec<PathBuf> = tops.cloned().collect();
        self.is_another_file_system(&tops);
    }

    fn is_another_file_system(&mut self, places: &[PathBuf]) {
        if places.is_empty() {
            return;
        }
        self.mounts.forget();
        let cut = coarse_now();
        self.drain();
        let mut concerned = false;
        for place in places {
            let was_watched = self.tree.contains(place);
            concerned |= !self.forget(place).is_empty()
                || self.absent.iter().any(|one| one.starts_with(place));
            // The previous contents of the mount point are gone.
            if was_watched && !self.filter.watch().roots.contains(place) {
                self.see(place, Change::Gone, Instant::now());
            }
        }
        if concerned {
            self.recover(cut);
            self.say(Watching::MountChanged(places.to_vec().into()));
            self.report_absent();
        }
    }

    /// Records the identities of the roots and the directories of single files, and watches the
    /// directories above them.
    pub(super) fn set_anchors(&mut self) {
        let filter = Arc::clone(&self.filter);
        let watch = filter.watch();
        let outside = watch.outside().flat_map(|file| {
            let directory = file.is_dir().then_some(file.as_path());
            directory.into_iter().chain(file.parent())
        });
        let places = watch.roots.iter().map(PathBuf::as_path).chain(outside);
        let mut anchors: BTreeMap<PathBuf, Option<Identity>> =
            places.map(|place| (place.to_owned(), identity(place))).collect();
        // What was replaced unnoticed is still to be handled: its watch is on the former directory.
        for (place, now) in &mut anchors {
            let before = self.anchors.get(place).copied().flatten();
            if before.is_some() && before != *now {
                *now = before;
                let _ = self.to_self.send(Input::Above);
            }
        }
        let is_elsewhere = !anchors.keys().eq(self.anchors.keys());
        self.anchors = anchors;
        if watch.backend == Backend::Poll {
            self.above = None;
        } else if is_elsewhere || self.above.is_none() {
            self.above = Above::new(self.anchors.keys(), self.to_self.clone())
                .inspect_err(|error| tracing::warn!(%error, "what is around is not watched"))
                .ok();
        }
    }

    /// Handles a possible deletion, move or replacement of a directory above the watched ones.
    /// Returns true if there was one.
    pub(super) fn look_at_anchors(&mut self) -> bool {
        let is_other =
            |(place, before): &(&PathBuf, &Option<Identity>)| identity(place) != **before;
        let changed: Vec<PathBuf> =
            self.anchors.iter().filter(is_other).map(|(place, _)| place.clone()).collect();
        if changed.is_empty() {
            // Another directory may be where one was that is watched for something missing.
            if !self.absent.is_empty() {
                self.above = None;
                self.set_anchors();
                self.look_for_absent(true);
            }
            return false;
        }
        for place in &changed {
            self.forget(place);
            self.burst.drop_below(place);
        }
        let cut = coarse_now();
        self.drain();
        // The directories that it watched are gone.
        self.above = None;
        self.recover(cut);
        let roots = &self.filter.watch().roots;
        for root in roots.iter().filter(|root| changed.contains(root)) {
            if self.tree.contains(root) {
                self.say(Watching::Replaced { root: root.clone() });
            }
        }
        self.report_absent();
        true
    }

    // Missing paths

    pub(super) fn report_absent(&self) {
        for root in self.filter.watch().roots.iter().filter(|root| self.absent.contains(*root)) {
            self.say(Watching::Missing { path: root.clone() });
        }
    }

    /// Watches the nearest existing directories above the missing paths.
    pub(super) fn watch_for_absent(&mut self) {
        let wanted = self.absent.iter().filter_map(|path| around(path));
        let wanted: BTreeSet<PathBuf> = wanted.map(Path::to_owned).collect();
        for outpost in std::mem::replace(&mut self.outposts, wanted.clone()).difference(&wanted) {
            if !self.needs(outpost) {
                self.unwatch(outpost);
            }
        }
        let mut is_watched = true;
        for outpost in wanted {
            is_watched &= self.watch(&outpost) == Outcome::Watched && !self.is_silent(&outpost);
        }
        // It may have appeared before the directory was watched, or cannot be watched.
        is_watched &= !self.absent.iter().any(|path| path.exists());
        // So may a directory above it, and then nothing reports what appears in that one.
        let is_nearer =
            |path: &PathBuf| around(path).is_some_and(|one| !self.outposts.contains(one));
        is_watched &= !self.absent.iter().any(is_nearer);
        self.look_for_absent = (!is_watched).then(|| Instant::now() + ABSENT_POLL_INTERVAL);
    }

    /// Stops watching for missing paths. `notify` keeps a watch by its name, although another
    /// directory may have that name now.
    fn drop_outposts(&mut self) {
        for outpost in std::mem::take(&mut self.outposts) {
            if !self.needs(&outpost) {
                self.unwatch(&outpost);
            }
        }
    }

    /// Returns true if an event for this path may concern a missing path.
    pub(super) fn concerns_absent(&self, path: &Path) -> bool {
        !self.absent.is_empty()
            && (path.parent().is_some_and(|parent| self.outposts.contains(parent))
                || self.outposts.contains(path))
    }

    /// Checks whether missing paths exist again. `is_stale`: an event was about a directory that is
    /// watched for them, which may be gone, and another there by the same name.
    pub(super) fn look_for_absent(&mut self, is_stale: bool) {
        let back: Vec<PathBuf> = self.absent.iter().filter(|path| path.exists()).cloned().collect();
        for path in &back {
            if !path.is_dir() {
                self.watch_file(path, Counts::Nothing);
                self.see(path, Change::Appeared, Instant::now());
                self.absent.remove(path);
                continue;
            }
            let before = identity(path);
            self.ignores.read_above(path);
            let scope = self.ignores.around(path).cloned();
            let place = Place { path: path.clone(), scope, is_whole: false };
            self.adopt(vec![place], Counts::All);
            if let Some(anchor) = self.anchors.get_mut(path) {
                *anchor = before;
            }
            // It may be gone again, or unreadable.
            if self.is_there(path) {
                self.absent.remove(path);
                self.say(Watching::There { path: path.clone() });
            }
        }
        if is_stale {
            self.drop_outposts();
        }
        let has_moved =
            |path: &PathBuf| around(path).is_some_and(|place| !self.outposts.contains(place));
        if !back.is_empty() {
            self.above = None;
            self.set_anchors();
        } else if self.look_for_absent.is_none() && !self.absent.iter().any(has_moved) {
            return;
        }
        self.watch_for_absent();
        let came_meanwhile = |path: &&PathBuf| path.exists() && !back.contains(path);
        if self.absent.iter().any(|path| came_meanwhile(&path)) {
            self.look_for_absent = Some(Instant::now());
        }
    }
}

/// Returns the nearest existing directory above a missing path.
fn around(path: &Path) -> Option<&Path> {
    path.ancestors().skip(1).find(|place| place.is_dir())
}

fn identity(place: &Path) -> Option<Identity> {
    place.metadata().ok().map(|meta| (meta.dev(), meta.ino()))
}
