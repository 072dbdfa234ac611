//! What is polled, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Watcher;
use crate::config::Backend;
use crate::filter::Filter;
use crate::notice::Watching;
use crate::watch::burst::Change;
use crate::watch::ignores::Ignores;
use crate::watch::limit;
use crate::watch::native::{Moment, Outcome};
use crate::watch::scanner::{Judge, Scanner, Seen};
use crate::watch::walk;

/// Maximum delay between a change and the scan that finds it.
const MAX_SCAN_DELAY: Duration = Duration::from_secs(3);

impl Watcher {
    /// Returns true if the file system sends no events. Reports each kind of file system once.
    pub(super) fn is_silent(&mut self, directory: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Ok(meta) = directory.metadata() else { return false };
        self.is_silent_device(meta.dev(), directory)
    }

    pub(super) fn is_silent_device(&mut self, device: u64, directory: &Path) -> bool {
        if self.filter.watch().backend != Backend::Auto {
            return false;
        }
        let Some(name) = self.mounts.silent(device, directory) else { return false };
        if self.reported.silent.insert(name) {
            self.say(Watching::Polled {
                directory: directory.to_owned(),
                file_system: name.to_owned(),
            });
        }
        true
    }

    /// Lends the scanner the state that decides what matters.
    pub(super) fn with_scanner<T>(
        &mut self,
        look: impl FnOnce(&mut Scanner, &Judging<'_>) -> T,
    ) -> T {
        let mut scanner = std::mem::take(&mut self.scanner);
        let judge = Judging {
            filter: &self.filter,
            ignores: &self.ignores,
            tree: &self.tree,
            links: &self.links,
            waypoints: &self.waypoints,
        };
        let found = look(&mut scanner, &judge);
        self.scanner = scanner;
        found
    }

    pub(super) fn poll(&mut self, directory: &Path) {
        self.with_scanner(|scanner, judge| scanner.adopt(directory, judge));
    }

    pub(super) fn look(&mut self, now: Instant) {
        if self.scanner.due().is_none_or(|due| due > now) {
            return;
        }
        let seen = self.with_scanner(|scanner, judge| scanner.look(now, judge));
        self.take_seen(seen);
        if !self.scanner.is_looking() {
            self.watch_over_limit();
        }
    }

    pub(super) fn take_seen(&mut self, all: Vec<Seen>) {
        for seen in all {
            let at = Instant::now();
            match seen {
                Seen::Changed(path) => self.see_polled(&path, Change::Arrived, at),
                Seen::Gone(path) => self.see_polled(&path, Change::Gone, at),
                Seen::DirectoryCame(path) => self.directory_appeared(&path),
                Seen::DirectoryWent(path) if self.anchors.contains_key(&path) => {
                    self.look_at_anchors();
                }
                Seen::DirectoryWent(path) => self.directory_disappeared(&path, at),
            }
        }
    }

    fn see_polled(&mut self, path: &Path, change: Change, at: Instant) {
        self.reread_if_needed(path, Moment::now().wall - MAX_SCAN_DELAY);
        if self.waypoints.contains(path) {
            self.links_lead_elsewhere(at);
        }
        self.link_may_have_changed(path, change);
        if let Some(link) = self.links.get(path).cloned() {
            self.see(&link, change, at);
        }
        if self.matters(path) {
            self.see(path, change, at);
            self.follow_file(path);
        }
    }

    /// Watches directories beyond the limit, which may have been raised, or freed by another
    /// program.
    fn watch_over_limit(&mut self) {
        while let Some(directory) = self.over_limit.first().cloned() {
            if self.watch(&directory) == Outcome::OverLimit {
                return;
            }
            self.over_limit.pop_first();
            let seen = self.with_scanner(|scanner, judge| scanner.look_at(&directory, judge));
            self.scanner.forget(&directory);
            self.take_seen(seen);
            if self.over_limit.is_empty() {
                self.reported.limit = false;
                self.say(Watching::AllAgain);
            }
        }
    }

    pub(super) fn report_limit(&mut self) {
        if self.native.is_none() || std::mem::replace(&mut self.reported.limit, true) {
            return;
        }
        self.say(Watching::Limit(limit()));
    }
}

/// Decides for the scanner what matters.
pub(super) struct Judging<'a> {
    filter: &'a Filter,
    ignores: &'a Ignores,
    tree: &'a BTreeSet<PathBuf>,
    links: &'a BTreeMap<PathBuf, PathBuf>,
    waypoints: &'a BTreeSet<PathBuf>,
}

impl Judge for Judging<'_> {
    fn matters(&self, file: &Path) -> bool {
        let scope = self.ignores.around(file).map(Arc::as_ref);
        walk::matters(file, self.filter, scope)
            || self.ignores.depends_on(file)
            || walk::makes_foreign(file, self.filter)
            || self.links.contains_key(file)
            || self.waypoints.contains(file)
    }

    fn is_new(&self, directory: &Path) -> bool {
        // A directory that is watched for certain files does not make its subdirectories matter.
        let is_in_tree = directory.parent().is_some_and(|around| self.tree.contains(around));
        let scope = self.ignores.around(directory).map(Arc::as_ref);
        is_in_tree
            && !self.tree.contains(directory)
            && !walk::is_left_out(directory, self.filter, scope)
    }
}
