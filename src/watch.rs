//! Turns file events into changed paths. Watches the directories that matter, one by one, and sends
//! each burst of saves as one [`FromWatch::Changed`].
//!
//! No change is missed. Changes may go unseen while the tree is still being watched, after events
//! were lost, or when a directory was replaced. They are found by comparing the files' timestamps
//! with the time up to which everything was seen. Where a file system has no events, or the watch
//! limit is reached, files are polled.
//!
//! This module knows nothing about builds.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Instant, SystemTime};

use crate::config;
use crate::core::attribution::{Content, Save, Span};
use crate::error::{Error, Result};
use crate::filter::{Filter, Reason, Verdict};
use crate::inbox::Inbox;
use crate::notice::{WatchLimit, Watching};

mod watcher;
mod git;
mod mounts;
mod native;
mod quiet;
mod burst;
mod scanner;
mod snapshot;
mod content;
mod walk;
mod clock;
mod ignores;

pub(crate) use clock::{changed_at, coarse_now};
use ignores::{Ignores, Scope};
use native::Moment;
use walk::{Companion, Counts, Listing, Look, Place, walk};
use watcher::Watcher;

/// What the watching thread receives.
#[derive(Debug)]
enum Input {
    /// An event of the operating system.
    Raw(Moment, notify::Result<notify::Event>),
    /// From the debouncer: nothing has happened since this many events.
    Quiet(usize),
    /// From the kernel: the table of mounts has changed.
    Mounts,
    /// From the operating system: a directory above the watched ones was deleted or moved.
    Above,
    /// From the engine: the new configuration, and the time since which changes are to be found.
    Configure(Box<config::Watch>, SystemTime),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// How many directories; each costs one watch of the operating system.
    pub directories: usize,
    /// How many files matter.
    pub files: usize,
}

/// Saves close together, handled as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Burst {
    /// The saves, in the order of their first change.
    pub saves: Vec<Save>,
    /// Directories that appeared since the last burst, and when.
    pub directories: Vec<(PathBuf, Instant)>,
    pub seen: Span,
}

/// What the watch reports.
#[derive(Debug)]
pub(crate) enum FromWatch {
    Changed(Burst),
    /// What the files held before hotrun started anything, and whether these are all files.
    Known(Vec<(PathBuf, Content)>, bool),
    /// The whole tree is watched.
    Watching(Found),
    /// A problem that the user can fix.
    Problem(Watching),
    /// The watch has failed, and hotrun cannot continue.
    Broken(Error),
}

/// The running watch. It runs until hotrun exits.
pub(crate) struct Watch {
    input: mpsc::Sender<Input>,
}

impl Watch {
    /// Starts to watch, and returns at once. Every save from now on is seen. Saves of the first
    /// moments are reported only when the whole tree is watched, as [`FromWatch::Watching`] reports.
    pub(crate) fn start(watch: config::Watch, inbox: Inbox<FromWatch>) -> Result<Self> {
        let began = clock::next_tick();
        let (input, inputs) = mpsc::channel();
        let to_self = input.clone();
        let mounts = input.clone();
        let on_mount = move || mounts.send(Input::Mounts).is_ok();
        let thread = |name: &str| thread::Builder::new().name(name.to_owned());
        thread("mounts")
            .spawn(move || mounts::report_changes(on_mount))
            .and_then(|_| {
                thread("watch").spawn(move || {
                    let _last_word = LastWord(inbox.clone());
                    let mut watcher = Watcher::new(watch, to_self, inbox);
                    watcher.begin(began);
                    watcher.run(&inputs);
                })
            })
            .map_err(|error| Error::failed("cannot start a thread", error))?;
        Ok(Self { input })
    }

    /// Applies this configuration. Finds files that have changed since this time, by the clock of
    /// file timestamps, and that did not matter before.
    pub(crate) fn configure(&self, watch: config::Watch, since: SystemTime) {
        // The thread has exited only after a failure, which it has reported.
        let _ = self.input.send(Input::Configure(Box::new(watch), since));
    }
}

/// Reports a panic of the watching thread, since hotrun would otherwise miss all changes silently.
struct LastWord(Inbox<FromWatch>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = Error::failed("watching files", "failed because of a bug in hotrun")
                .remedy("report it with the lines above, and restart hotrun");
            self.0.send(FromWatch::Broken(error));
        }
    }
}

/// Returns the limit that applies; `None` if there is none of that kind.
pub(crate) fn limit() -> Option<WatchLimit> {
    // In a container, the limit of its user namespace may be the lower one.
    ["fs.inotify.max_user_watches", "user.max_inotify_watches"]
        .into_iter()
        .filter_map(|name| {
            let file = format!("/proc/sys/{}", name.replace('.', "/"));
            let value = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
            Some(WatchLimit { name, value })
        })
        .min_by_key(|limit| limit.value)
}

/// Counts the directories and files that would be watched, without watching them.
pub(crate) fn survey(watch: &config::Watch) -> Found {
    struct Count(Found);
    impl Companion for Count {
        fn watch(&mut self, _: &mut Vec<Place>) {}
        fn see(&mut self, listing: Listing) {
            self.0.directories += usize::from(listing.device.is_some());
            self.0.files += listing.files;
        }
    }
    let filter = Filter::new(watch.clone());
    let mut ignores = Ignores::new(watch.gitignore);
    let tops = tops(watch, &mut ignores);
    let mut count = Count(Found::default());
    let look = Look { filter: &filter, gitignore: watch.gitignore, counts: Counts::Nothing };
    walk(tops, look, &mut count);
    count.0
}

/// Returns where walks start: the existing directories that are to be watched.
fn tops(watch: &config::Watch, ignores: &mut Ignores) -> Vec<Place> {
    let all = watch.roots.iter().chain(watch.outside());
    let tops = all.filter(|path| path.is_dir()).map(|path| {
        ignores.read_above(path);
        Place { path: path.clone(), scope: ignores.around(path).cloned(), is_whole: false }
    });
    tops.collect()
}

/// Returns why this path lies in a cache or in a project that the program does not use. The reason
/// names the topmost such directory, which may be the path itself.
pub(crate) fn foreign<'a>(path: &'a Path, filter: &Filter) -> Option<Reason<'a>> {
    let root = filter.watch().root_of(path)?;
    let around = path.ancestors().take_while(|place| *place != root);
    around.filter(|place| place.is_dir()).filter_map(|place| walk::foreign(place, filter)).last()
}

/// Returns true if a save of this path is ignored because of a `.gitignore`.
pub(crate) fn is_gitignored(path: &Path, watch: &config::Watch) -> bool {
    if !watch.gitignore {
        return false;
    }
    let filter = Filter::new(watch.clone());
    let mut ignores = Ignores::new(true);
    let Some(root) = watch.root_of(path) else { return false };
    ignores.read_above(root);
    let mut above: Vec<&Path> = path.ancestors().skip(1).take_while(|one| *one != root).collect();
    above.push(root);
    above.reverse();
    let mut scope = ignores.around(root).cloned();
    for directory in above {
        if walk::is_left_out(directory, &filter, scope.as_deref()) {
            return true;
        }
        let has = |name: &std::ffi::OsStr| directory.join(name).exists();
        scope = Scope::read(directory, has, scope.as_ref()).or(scope);
    }
    filter.file(path) == Verdict::Matters && !walk::matters(path, &filter, scope.as_deref())
}
