//! From files to changed paths. It watches the directories that matter, one by one, and
//! sends each burst of saves as one [`Message::Changed`].
//!
//! It is never blind. While the tree is still being watched, after events were lost, or when
//! a directory was replaced, what changed unseen is found by comparing the files' own stamps
//! with the time up to which everything was seen. Where a file system has no events, or the
//! system grants no more watches, files are polled.
//!
//! It knows nothing about builds.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

use tokio::sync::mpsc::UnboundedSender;

use crate::config;
use crate::error::{Error, Result};
use crate::event::{Found, Message};
use crate::filter::{Filter, Reason, Verdict};

mod burst;
mod clock;
mod content;
mod git;
mod ignores;
mod mounts;
mod native;
mod quiet;
mod scanner;
mod snapshot;
mod walk;
mod watcher;

pub(crate) use clock::{changed_at, coarse_now};
use ignores::{Ignores, Scope};
use native::Moment;
use walk::{Companion, Counts, Listing, Look, Place, walk};
use watcher::Watcher;

/// What the watching thread is told.
#[derive(Debug)]
enum Input {
    /// By the operating system.
    Raw(Moment, notify::Result<notify::Event>),
    /// By the debouncer: nothing has happened since so many events.
    Quiet(usize),
    /// By the kernel: what is mounted has changed.
    Mounts,
    /// By the operating system: a directory around what is watched was deleted or moved.
    Above,
    /// By the engine; what has changed since is to be found.
    Configure(Box<config::Watch>, SystemTime),
}

/// The running watch. It ends with hotrun.
pub(crate) struct Watch {
    input: mpsc::Sender<Input>,
}

impl Watch {
    /// Begins to watch, and returns at once. Every save from now on is seen, though those of
    /// the first moments only when the whole tree is watched; [`Message::Watching`] says when.
    pub(crate) fn start(watch: config::Watch, inbox: UnboundedSender<Message>) -> Result<Self> {
        let began = clock::next_tick();
        let (input, inputs) = mpsc::channel();
        let to_self = input.clone();
        let mounts = input.clone();
        let on_mount = move || mounts.send(Input::Mounts).is_ok();
        let thread = |name: &str| thread::Builder::new().name(name.to_owned());
        thread("mounts")
            .spawn(move || mounts::tell(on_mount))
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

    /// Watches what this configuration says from now on. What has changed since this time, by
    /// the clock that files are stamped with, and did not matter before is found.
    pub(crate) fn configure(&self, watch: config::Watch, since: SystemTime) {
        // The thread has ended only if it failed, which it has told.
        let _ = self.input.send(Input::Configure(Box::new(watch), since));
    }
}

/// Without its watch hotrun would be deaf, and nobody would know.
struct LastWord(UnboundedSender<Message>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = Error::failed("watching files", "failed because of a bug in hotrun")
                .remedy("report it with the lines above, and restart hotrun");
            let _ = self.0.send(Message::Broken(error));
        }
    }
}

/// A limit of the kernel's on file watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The name of the setting.
    pub name: &'static str,
    /// How many watches each user may have.
    pub value: u64,
}

/// The limit that applies here; `None` where there is none of that kind.
pub(crate) fn limit() -> Option<Limit> {
    // In a container its own may be the lower one.
    ["fs.inotify.max_user_watches", "user.max_inotify_watches"]
        .into_iter()
        .filter_map(|name| {
            let file = format!("/proc/sys/{}", name.replace('.', "/"));
            let value = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
            Some(Limit { name, value })
        })
        .min_by_key(|limit| limit.value)
}

/// What would be watched: the directories and the files that matter, without watching.
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

/// Where walks begin: the directories that are there to be watched.
fn tops(watch: &config::Watch, ignores: &mut Ignores) -> Vec<Place> {
    let all = watch.roots.iter().chain(watch.outside());
    let tops = all.filter(|path| path.is_dir()).map(|path| {
        ignores.read_above(path);
        Place { path: path.clone(), scope: ignores.around(path).cloned(), is_whole: false }
    });
    tops.collect()
}

/// The directory around this path, or the path itself, that is a cache, or a project that is no
/// part of the program.
pub(crate) fn foreign<'a>(path: &'a Path, filter: &Filter) -> Option<Reason<'a>> {
    let root = filter.watch().root_of(path)?;
    let around = path.ancestors().take_while(|place| *place != root);
    around.filter(|place| place.is_dir()).filter_map(|place| walk::foreign(place, filter)).last()
}

/// Would a save of this path be seen, and if not, is it a `.gitignore` that says so?
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
