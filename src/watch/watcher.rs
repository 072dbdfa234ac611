//! The watching thread: events become changes, and changes become bursts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{ErrorKind, EventKind};

use super::burst::{Burst, Change};
use super::clock::{Reading, changed_at, queue_holds, tick};
use super::content;
use super::git::Git;
use super::ignores::Ignores;
use super::mounts::{self, Mount, Mounts};
use super::native::{Above, Moment, Native};
use super::quiet::Quiet;
use super::scanner::Scanner;
use super::snapshot::Snapshot;
use super::walk::{self, Counts};
use super::{FromWatch, Input};
use crate::config;
use crate::error::Error;
use crate::filter::Filter;
use crate::inbox::Inbox;
use crate::notice::Watching;

mod poll;
mod rescue;
mod tree;

/// Maximum age of the last modification for a mere close to count as a save.
const RECENT: Duration = Duration::from_secs(1);
/// Maximum number of inputs handled before deadlines are checked.
const MAX_INPUTS: usize = 1024;

/// The state of the watching thread.
pub(super) struct Watcher {
    /// The operating system's watcher; `None`: everything is polled.
    native: Option<Native>,
    reading: Reading,
    /// Shared with a running walk, which changes all other fields.
    filter: Arc<Filter>,
    ignores: Ignores,
    /// Every watched or polled directory.
    tree: BTreeSet<PathBuf>,
    /// Directories of the tree without any file that matters: their deletion is not reported.
    empty: HashSet<PathBuf>,
    scanner: Scanner,
    /// Directories polled because the watch limit was reached.
    over_limit: BTreeSet<PathBuf>,
    mounts: Mounts,
    mounted: Vec<Mount>,
    /// The roots and the directories of single files, with their identities.
    anchors: BTreeMap<PathBuf, Option<Identity>>,
    above: Option<Above>,
    /// Since when the operating system's watcher is the present one.
    native_since: Option<Instant>,
    /// Roots and single files that do not exist, and the directories watched for them to appear.
    absent: BTreeSet<PathBuf>,
    outposts: BTreeSet<PathBuf>,
    look_for_absent: Option<Instant>,
    /// Directories that could not be listed for want of descriptors, and when they are tried again.
    postponed: BTreeSet<PathBuf>,
    list_postponed: Option<Instant>,
    /// The targets of links to files, and the links.
    links: BTreeMap<PathBuf, PathBuf>,
    /// Directory links on the way to those targets.
    waypoints: BTreeSet<PathBuf>,
    /// The targets of directory links that are followed, and the links.
    followed: BTreeMap<PathBuf, PathBuf>,
    /// Directories that are watched only for certain files in them.
    beside: BTreeSet<PathBuf>,
    /// The time since which the ignore patterns are outdated. They are to be read again.
    stale_since: Option<SystemTime>,
    /// Where file systems were unmounted.
    unmounted: BTreeSet<PathBuf>,
    /// Sockets, pipes and devices seen so far: their creation and deletion is not a save.
    special: BTreeSet<PathBuf>,
    burst: Burst,
    quiet: Option<Quiet>,
    /// Delays the end of a burst during a git operation.
    git: Git,
    to_self: mpsc::Sender<Input>,
    inbox: Inbox<FromWatch>,
    /// The files whose content is read at the start.
    snapshot: Option<Snapshot>,
    reported: Reported,
}

/// The device and inode of a directory, which a rename does not change.
type Identity = (u64, u64);

/// What was reported, and is not to be repeated.
#[derive(Debug, Default)]
struct Reported {
    limit: bool,
    postponed: bool,
    silent: HashSet<&'static str>,
}

impl Watcher {
    pub(super) fn new(
        watch: config::Watch,
        to_self: mpsc::Sender<Input>,
        inbox: Inbox<FromWatch>,
    ) -> Self {
        let mut scanner = Scanner::default();
        scanner.configure(watch.poll_interval);
        Self {
            native: None,
            reading: Reading::new(queue_holds(), SystemTime::now()),
            burst: Burst::new(watch.debounce, watch.max_wait),
            ignores: Ignores::new(watch.gitignore),
            filter: Arc::new(Filter::new(watch)),
            tree: BTreeSet::new(),
            empty: HashSet::new(),
            scanner,
            over_limit: BTreeSet::new(),
            mounts: Mounts::default(),
            mounted: Vec::new(),
            anchors: BTreeMap::new(),
            above: None,
            native_since: None,
            absent: BTreeSet::new(),
            outposts: BTreeSet::new(),
            look_for_absent: None,
            postponed: BTreeSet::new(),
            list_postponed: None,
            links: BTreeMap::new(),
            waypoints: BTreeSet::new(),
            followed: BTreeMap::new(),
            beside: BTreeSet::new(),
            stale_since: None,
            unmounted: BTreeSet::new(),
            special: BTreeSet::new(),
            quiet: None,
            git: Git::default(),
            to_self,
            inbox,
            snapshot: None,
            reported: Reported::default(),
        }
    }

    /// Watches everything, and finds what has changed since hotrun started.
    pub(super) fn begin(&mut self, began: SystemTime) {
        self.mounted = mounts::mounted(|place| self.concerns(place));
        self.renew_native();
        self.snapshot = Some(Snapshot::default());
        let found = self.watch_everything(Counts::Since(began));
        if self.tree.is_empty() {
            let base = self.filter.watch().base.display();
            let error = Error::failed(base, "nothing here can be watched")
                .remedy("make the directory readable");
            self.inbox.send(FromWatch::Broken(error));
            return;
        }
        self.inbox.send(FromWatch::Watching(found));
        if let Some(snapshot) = self.snapshot.take() {
            let (filter, inbox) = (Arc::clone(&self.filter), self.inbox.clone());
            let take = move || {
                let (known, is_all) = snapshot.take(&filter, began);
                inbox.send(FromWatch::Known(known, is_all));
            };
            // Without it only the content of saved files is known.
            if let Err(error) = std::thread::Builder::new().name("snapshot".into()).spawn(take) {
                tracing::warn!(%error, "no snapshot of the files");
            }
        }
    }

    pub(super) fn run(mut self, inputs: &mpsc::Receiver<Input>) {
        loop {
            let now = Instant::now();
            let deadlines = [
                self.burst_ends_at(),
                self.burst.unclosed_at(),
                self.scanner.due(),
                self.look_for_absent,
                self.list_postponed,
            ];
            let received = match deadlines.into_iter().flatten().min() {
                None => inputs.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(at) => inputs.recv_timeout(at.saturating_duration_since(now)),
            };
            match received {
                Ok(input) => self.handle(input),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            // A storm of events must not delay the deadlines, nor be slowed down by checking them
            // after each event.
            for input in inputs.try_iter().take(MAX_INPUTS) {
                self.handle(input);
            }
            if self.inbox.is_closed() {
                return;
            }
            // Once, however many events there were.
            if let Some(cut) = self.stale_since.take() {
                self.watch_anew(cut, None);
            }
            self.look_at_unmounted();
            self.wake(Instant::now());
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Raw(moment, Ok(event)) => {
                self.reading.saw(moment.wall);
                if event.need_rescan() {
                    let found = self.recover(self.reading.safe_until());
                    self.say(Watching::Overflow { found });
                } else if !self.is_outdated(&event, moment.at) {
                    self.take(moment, event);
                }
            }
            Input::Raw(_, Err(error)) => self.fail(&error),
            Input::Quiet(fed) => {
                if let Some(quiet) = &mut self.quiet {
                    quiet.confirm(fed);
                }
            }
            Input::Mounts => self.mounts_changed(),
            Input::Above => {
                self.look_at_anchors();
            }
            Input::Configure(watch, since) => self.configure(*watch, since),
        }
    }

    // Events

    fn take(&mut self, moment: Moment, event: notify::Event) {
        let at = moment.at;
        let Some(path) = event.paths.first().cloned() else { return };
        if self.concerns_absent(&path) {
            self.look_for_absent(self.outposts.contains(&path));
        }
        if self.is_polled(&path) {
            // A write on this machine triggers a scan at once. Only the scanner reports changes, so
            // that none is reported twice.
            if !matches!(event.kind, EventKind::Modify(ModifyKind::Data(_))) {
                let directory = path.parent().filter(|parent| self.scanner.polls(parent));
                self.scanner.hint(&directory.map_or(path.clone(), Path::to_owned));
            }
            return;
        }
        if self.waypoints.contains(&path) && self.links_lead_elsewhere(at) {
            return self.feed(event);
        }
        if self.filter.watch().follow_symlink && self.link_changed(&event, at) {
            return;
        }
        let change = match event.kind {
            EventKind::Create(CreateKind::Folder) => {
                self.reread_if_needed(&path, moment.wall);
                return self.directory_came(event);
            }
            EventKind::Remove(RemoveKind::Folder) => return self.directory_went(event, at),
            // FSEvents reports `Any` for the old and the new name.
            EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Any))
                if is_directory(&path) =>
            {
                self.reread_if_needed(&path, moment.wall);
                // It may have been renamed over another directory.
                if self.tree.contains(&path) {
                    for directory in self.forget(&path) {
                        self.unwatch(&directory);
                    }
                }
                return self.directory_came(event);
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::Any))
                if self.tree.contains(&path) =>
            {
                return self.directory_went(event, at);
            }
            // The moved directory's own event; the event of its parent is handled.
            EventKind::Modify(ModifyKind::Name(RenameMode::From))
                if cfg!(target_os = "linux")
                    && event.tracker().is_none()
                    && !self.ignores.depends_on(&path) =>
            {
                return;
            }
            // It was unmounted, and something else may already be mounted there.
            EventKind::Remove(RemoveKind::Other) => {
                self.unmounted.insert(path);
                return;
            }
            // Both names have been reported already.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both | RenameMode::Other)) => return,
            EventKind::Create(_) => Change::Created,
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Change::Arrived,
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => {
                Change::Gone
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::Any)) => {
                if path.exists() {
                    Change::Arrived
                } else {
                    Change::Gone
                }
            }
            // A directory that was unreadable when it appeared may be readable now.
            EventKind::Modify(ModifyKind::Metadata(_))
                if !self.tree.contains(&path) && is_directory(&path) =>
            {
                return self.directory_came(event);
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => Change::Attributes,
            // Only Linux reports when a file is closed.
            EventKind::Modify(_) if !cfg!(target_os = "linux") => Change::Arrived,
            EventKind::Modify(_) => Change::Written,
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Change::Closed,
            _ => return,
        };
        let is_under_way = matches!(change, Change::Created | Change::Written | Change::Attributes);
        if !is_under_way {
            self.reread_if_needed(&path, moment.wall);
            self.link_may_have_changed(&path, change);
        }
        let mut matters = false;
        if let Some(link) = self.links.get(&path).cloned() {
            self.see(&link, change, at);
            matters = true;
        }
        // A file that mattered earlier in this burst still matters.
        if (self.burst.knows(&path) || self.matters(&path))
            && let Some(change) = self.kind_of_change(&path, change)
        {
            tracing::trace!(?change, "{}", path.display());
            self.see(&path, change, at);
            matters = true;
            if change == Change::Arrived || change == Change::Appeared {
                self.follow_file(&path);
            }
        }
        if matters {
            self.feed(event);
        }
    }

    /// Returns true for the removal of a file that is there again, if the operating system's watcher
    /// was replaced since. The new one has found the file.
    fn is_outdated(&self, event: &notify::Event, at: Instant) -> bool {
        let is_removal = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
        );
        is_removal
            && self.native_since.is_some_and(|since| at < since)
            && event
                .paths
                .first()
                .is_some_and(|path| path.symlink_metadata().is_ok_and(|meta| !meta.is_dir()))
    }

    /// Marks the ignore patterns as outdated, if this file, which changed at this time, affects
    /// them.
    fn reread_if_needed(&mut self, path: &Path, at: SystemTime) {
        if !self.ignores.depends_on(path) && !walk::makes_foreign(path, &self.filter) {
            return;
        }
        // The event may have been read late. The file's own timestamp is accurate to a tick.
        let stamp = path.symlink_metadata().ok().and_then(|meta| changed_at(&meta));
        let at = stamp.map_or(at, |stamp| stamp.min(at));
        let at = at.checked_sub(tick()).unwrap_or(at);
        self.stale_since = Some(self.stale_since.map_or(at, |since| since.min(at)));
    }

    /// Updates the links when a link to a file, or its target, came or went.
    fn link_may_have_changed(&mut self, path: &Path, change: Change) {
        if self.links.is_empty() {
            return;
        }
        if change == Change::Gone
            && let Some(link) = self.links.get(path).cloned()
            && let Some(target) = walk::followed_file(&link, &self.filter)
            && target != path
        {
            // The link has another target now.
            self.links.remove(path);
            self.follow(&link, &target);
            self.see(&link, Change::Arrived, Instant::now());
        }
        if matches!(change, Change::Gone | Change::Arrived | Change::Appeared) {
            self.links.retain(|_, link| link != path);
        }
    }

    /// Follows a change of a directory link on the way to followed files. Counts those as saved
    /// that are other files now. Returns true if there are any.
    fn links_lead_elsewhere(&mut self, at: Instant) -> bool {
        let known: Vec<(PathBuf, PathBuf)> =
            self.links.iter().map(|(target, link)| (target.clone(), link.clone())).collect();
        let mut is_any = false;
        for (old, link) in known {
            let Some(new) = walk::followed_file(&link, &self.filter).filter(|new| *new != old)
            else {
                continue;
            };
            self.links.remove(&old);
            self.follow(&link, &new);
            self.see(&link, Change::Arrived, at);
            is_any = true;
        }
        is_any
    }

    fn matters(&self, path: &Path) -> bool {
        walk::matters(path, &self.filter, self.ignores.around(path).map(Arc::as_ref))
            && !self.was_left_behind(path)
    }

    /// Returns true for changes in a directory that turned out not to belong to the program.
    fn was_left_behind(&self, path: &Path) -> bool {
        path.parent().is_some_and(|place| !self.needs(place))
            && super::foreign(path, &self.filter).is_some()
    }

    /// Returns true for a polled directory and the paths in it.
    fn is_polled(&self, path: &Path) -> bool {
        let polls = |directory: &Path| self.scanner.polls(directory);
        // A watched directory in a polled one has its own events.
        polls(path) || path.parent().is_some_and(polls) && !self.tree.contains(path)
    }

    /// Handles the event if a link to a directory came, went, or has another target now.
    fn link_changed(&mut self, event: &notify::Event, at: Instant) -> bool {
        let path = &event.paths[0];
        match event.kind {
            EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => false,
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To))
                if path.is_symlink() && walk::leads_out(path, &self.filter).is_some() =>
            {
                for directory in self.forget(path) {
                    self.unwatch(&directory);
                }
                self.directory_came(event.clone());
                true
            }
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
                if self.tree.contains(path) && !is_directory(path) =>
            {
                self.directory_went(event.clone(), at);
                true
            }
            _ => false,
        }
    }

    /// Returns the change, refined by the type of the file; `None` for sockets and the like. The
    /// type can change only with the name, so the disk is accessed only for those changes.
    fn kind_of_change(&mut self, path: &Path, change: Change) -> Option<Change> {
        match change {
            Change::Written | Change::Attributes | Change::Closed => {
                (!self.special.contains(path)).then_some(change)
            }
            Change::Gone => (!self.special.remove(path)).then_some(change),
            Change::Created | Change::Appeared | Change::Arrived => {
                let meta = std::fs::symlink_metadata(path).ok();
                let Some(meta) = meta.filter(|meta| !meta.is_dir()) else { return Some(change) };
                if !meta.is_file() && !meta.is_symlink() {
                    self.special.insert(path.to_owned());
                    return None;
                }
                self.special.remove(path);
                let at_once = change == Change::Created && is_complete_at_once(&meta);
                Some(if at_once { Change::Appeared } else { change })
            }
        }
    }

    fn see(&mut self, path: &Path, change: Change, at: Instant) {
        if let Some(directory) = path.parent().filter(|_| !self.empty.is_empty()) {
            self.empty.remove(directory);
        }
        let filter = &self.filter;
        let look = |depth| content::look(path, filter, depth);
        self.burst.see(path, change, at, || is_recent(path), || filter.is_trigger(path), look);
        // The facts of a touch must not be taken for a part of the next save.
        if change == Change::Closed {
            self.burst.forget();
        }
    }

    fn feed(&mut self, event: notify::Event) {
        if !self.burst.is_under_way() {
            return;
        }
        // The debouncer goes through all its events at each tick, which is slow in a storm. The
        // quiet after a storm is longer than its timeout, and the burst measures it, too.
        if self.burst.is_large() {
            self.quiet = None;
            return;
        }
        if self.quiet.is_none() {
            match Quiet::new(self.to_self.clone()) {
                Ok(quiet) => self.quiet = Some(quiet),
                // Without it the burst ends by its own deadline.
                Err(error) => return tracing::warn!(%error, "no debouncer"),
            }
        }
        if let Some(quiet) = &mut self.quiet {
            quiet.feed(event);
        }
    }

    /// Returns when the burst is over: by its own rules, once the debouncer has found it quiet.
    fn burst_ends_at(&self) -> Option<Instant> {
        if let Some(look) = self.git.next_look() {
            return Some(look);
        }
        match &self.quiet {
            _ if self.scanner.is_looking() => self.burst.ends_at_most(),
            Some(quiet) if !quiet.is_confirmed() => self.burst.ends_at_most(),
            _ => self.burst.ends_at(),
        }
    }

    /// Handles the deadlines that have passed.
    fn wake(&mut self, now: Instant) {
        self.look(now);
        if self.look_for_absent.is_some_and(|at| at <= now) {
            self.look_for_absent(false);
        }
        if self.list_postponed.is_some_and(|at| at <= now) {
            self.list_postponed();
        }
        let filter = &self.filter;
        self.burst.count_unclosed(now, |path, depth| content::look(path, filter, depth));
        if self.burst_ends_at().is_none_or(|at| at > now) {
            return;
        }
        if let Some((first, paths)) = self.burst.so_far() {
            let max_wait = self.filter.watch().max_wait;
            if self.git.holds(paths, (first, now), max_wait) {
                return;
            }
        }
        self.quiet = None;
        if let Some(burst) = self.burst.finish() {
            self.inbox.send(FromWatch::Changed(burst));
        }
    }

    fn fail(&mut self, error: &notify::Error) {
        if matches!(error.kind, ErrorKind::MaxFilesWatch) {
            self.report_limit();
        } else {
            tracing::warn!(%error, "watching");
        }
    }

    fn say(&self, problem: Watching) {
        self.inbox.send(FromWatch::Problem(problem));
    }
}

fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// A link, symbolic or hard, has its content at once: no close follows.
fn is_complete_at_once(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    !cfg!(target_os = "linux") || meta.is_symlink() || meta.nlink() > 1
}

fn is_recent(path: &Path) -> bool {
    let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < RECENT))
}
