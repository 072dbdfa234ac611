//! From files to changed paths. It watches the directories that matter, one by one, and
//! sends each burst of saves as one [`Message::Changed`].
//!
//! It is never blind. While the tree is still being watched, after events were lost, or when
//! a directory was replaced, what changed unseen is found by comparing the files' own stamps
//! with the time up to which everything was seen. Where a file system has no events, or the
//! system grants no more watches, files are polled.
//!
//! It knows nothing about builds.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{ErrorKind, EventKind};
use tokio::sync::mpsc::UnboundedSender;

use crate::config::{self, Backend};
use crate::error::{Error, Result};
use crate::event::{Found, Message, Notice, name_paths, printable};
use crate::filter::{Filter, Verdict};

mod burst;
mod clock;
mod ignores;
mod mounts;
mod native;
mod poll;
mod quiet;
mod walk;

use burst::{Burst, Change};
use clock::{Reading, instant_of, next_tick, queue_holds};
pub use clock::{changed_at, coarse_now};
use ignores::{Ignores, Scope};
use mounts::{Mount, Mounts};
use native::{Moment, Native, Outcome, Refused};
use poll::{Judge, Scanner, Seen};
use quiet::Quiet;
use walk::{Companion, Counts, Listing, Look, Place, walk};

/// A file that was only closed is a save if it was modified this recently.
const RECENT: Duration = Duration::from_secs(1);
/// So many inputs are taken before anything else is looked at.
const AT_A_TIME: usize = 1024;
/// More watches than these are not taken away one by one.
const MOST_UNWATCHED: usize = 64;
/// How often it is looked whether a directory is back, where no event will tell.
const LOOK_FOR_ABSENT: Duration = Duration::from_secs(1);

/// What the watching thread is told.
#[derive(Debug)]
enum Input {
    /// By the operating system.
    Raw(Moment, notify::Result<notify::Event>),
    /// By the debouncer: nothing has happened since so many events.
    Quiet(usize),
    /// By the kernel: what is mounted has changed.
    Mounts,
    /// By the engine.
    Configure(Box<config::Watch>),
}

/// The running watch. It ends when this is dropped.
pub struct Watch {
    input: mpsc::Sender<Input>,
}

impl Watch {
    /// Begins to watch, and returns at once. Every save from now on is seen, though those of
    /// the first moments only when the whole tree is watched; [`Message::Watching`] says when.
    pub fn start(watch: config::Watch, inbox: UnboundedSender<Message>) -> Result<Self> {
        let began = next_tick();
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

    /// Watches what this configuration says from now on.
    pub fn configure(&self, watch: config::Watch) {
        // The thread has ended only if it failed, which it has told.
        let _ = self.input.send(Input::Configure(Box::new(watch)));
    }
}

/// Without its watch hotrun would be deaf, and nobody would know.
struct LastWord(UnboundedSender<Message>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = Error::failed("watching files", "failed by a bug of hotrun's own")
                .remedy("please report it with the lines above; then start hotrun again");
            let _ = self.0.send(Message::Broken(error));
        }
    }
}

/// A limit of the kernel's on file watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The name of the setting.
    pub name: &'static str,
    /// How many watches each user may have.
    pub value: u64,
}

/// The limit that applies here; `None` where there is none of that kind.
pub fn limit() -> Option<Limit> {
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
pub fn survey(watch: &config::Watch) -> Found {
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

/// Would a save of this path be seen, and if not, is it a `.gitignore` that says so?
pub fn is_gitignored(path: &Path, watch: &config::Watch) -> bool {
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

/// The thread that watches.
struct Watcher {
    /// The operating system's events; `None`: everything is polled.
    native: Option<Native>,
    reading: Reading,
    /// Shared with the walk under way, which changes all else here.
    filter: Arc<Filter>,
    ignores: Ignores,
    /// Every directory in which changes are seen, one way or the other.
    tree: BTreeSet<PathBuf>,
    scanner: Scanner,
    /// Those of them that are polled for want of watches.
    over_limit: BTreeSet<PathBuf>,
    mounts: Mounts,
    mounted: Vec<Mount>,
    /// Roots and single files that are not there, and what is watched to see them come.
    absent: BTreeSet<PathBuf>,
    outposts: BTreeSet<PathBuf>,
    look_for_absent: Option<Instant>,
    /// Where links to files lead, and the links.
    links: BTreeMap<PathBuf, PathBuf>,
    /// Sockets and the like that have been seen: their coming and going is no save.
    special: BTreeSet<PathBuf>,
    burst: Burst,
    quiet: Option<Quiet>,
    to_self: mpsc::Sender<Input>,
    inbox: UnboundedSender<Message>,
    told: Told,
}

/// What was said, and need not be said again.
#[derive(Debug, Default)]
struct Told {
    limit: bool,
    silent: HashSet<&'static str>,
}

impl Watcher {
    fn new(
        watch: config::Watch,
        to_self: mpsc::Sender<Input>,
        inbox: UnboundedSender<Message>,
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
            scanner,
            over_limit: BTreeSet::new(),
            mounts: Mounts::default(),
            mounted: Vec::new(),
            absent: BTreeSet::new(),
            outposts: BTreeSet::new(),
            look_for_absent: None,
            links: BTreeMap::new(),
            special: BTreeSet::new(),
            quiet: None,
            to_self,
            inbox,
            told: Told::default(),
        }
    }

    /// Watches everything, and finds what has changed since hotrun began.
    fn begin(&mut self, began: SystemTime) {
        self.mounted = mounts::mounted(|place| self.concerns(place));
        self.renew_native();
        let found = self.stand(Counts::Since(began));
        if self.tree.is_empty() {
            let base = self.filter.watch().base.display();
            let error = Error::failed(base, "nothing here can be watched")
                .remedy("make the directory readable");
            let _ = self.inbox.send(Message::Broken(error));
            return;
        }
        self.tell_absent();
        let _ = self.inbox.send(Message::Watching(found));
    }

    fn run(mut self, inputs: &mpsc::Receiver<Input>) {
        loop {
            let now = Instant::now();
            let deadlines = [
                self.burst_ends_at(),
                self.burst.unclosed_at(),
                self.scanner.due(),
                self.look_for_absent,
            ];
            let received = match deadlines.into_iter().flatten().min() {
                None => inputs.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(at) => inputs.recv_timeout(at.saturating_duration_since(now)),
            };
            match received {
                Ok(input) => self.hear(input),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            // A storm of events must not keep the deadlines waiting, nor be slowed down by
            // their being asked for after each.
            for input in inputs.try_iter().take(AT_A_TIME) {
                self.hear(input);
            }
            if self.inbox.is_closed() {
                return;
            }
            self.wake(Instant::now());
        }
    }

    fn hear(&mut self, input: Input) {
        match input {
            Input::Raw(moment, Ok(event)) => {
                self.reading.saw(moment.wall);
                if event.need_rescan() {
                    let found = self.recover(self.reading.safe_until());
                    self.say(format!(
                        "file events were lost, as more happened than the system keeps; what \
                         changed meanwhile was found by comparing times: {found} paths"
                    ));
                } else {
                    self.take(moment.at, event);
                }
            }
            Input::Raw(_, Err(error)) => self.fail(&error),
            Input::Quiet(fed) => {
                if let Some(quiet) = &mut self.quiet {
                    quiet.confirm(fed);
                }
            }
            Input::Mounts => self.mounts_changed(),
            Input::Configure(watch) => self.configure(*watch),
        }
    }

    // Events

    fn take(&mut self, at: Instant, event: notify::Event) {
        let Some(path) = event.paths.first().cloned() else { return };
        if self.concerns_absent(&path) {
            self.look_for_absent();
        }
        if self.is_polled(&path) {
            // Whoever writes here on this machine is seen at once; the scanner alone says
            // what has changed, so that nothing is said twice.
            if !matches!(event.kind, EventKind::Modify(ModifyKind::Data(_))) {
                let directory = path.parent().filter(|parent| self.scanner.polls(parent));
                self.scanner.hint(&directory.map_or(path.clone(), Path::to_owned));
            }
            return;
        }
        if self.filter.watch().follow_symlink && self.link_changed(&event, at) {
            return;
        }
        let change = match event.kind {
            EventKind::Create(CreateKind::Folder) => {
                self.reread_if_needed(&path);
                return self.directory_came(event);
            }
            EventKind::Remove(RemoveKind::Folder) => return self.directory_went(event, at),
            // A file system that was unmounted; the table of mounts says so, too.
            EventKind::Remove(RemoveKind::Other) => return,
            // FSEvents says `Any` of the old name and of the new.
            EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Any))
                if is_directory(&path) =>
            {
                self.reread_if_needed(&path);
                return self.directory_came(event);
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::Any))
                if self.tree.contains(&path) =>
            {
                return self.directory_went(event, at);
            }
            // A directory's own word that it moved; its parent has said so.
            EventKind::Modify(ModifyKind::Name(RenameMode::From))
                if cfg!(target_os = "linux")
                    && event.tracker().is_none()
                    && !self.ignores.depends_on(&path) =>
            {
                return;
            }
            EventKind::Create(_) if is_complete_at_once(&path) => Change::Appeared,
            EventKind::Create(_) => Change::Created,
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Change::Arrived,
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => {
                Change::Gone
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::Both | RenameMode::Other)) => return,
            EventKind::Modify(ModifyKind::Name(RenameMode::Any)) => {
                if path.exists() {
                    Change::Arrived
                } else {
                    Change::Gone
                }
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => Change::Attributes,
            // Only Linux tells when a file is closed.
            EventKind::Modify(_) if !cfg!(target_os = "linux") => Change::Arrived,
            EventKind::Modify(_) => Change::Written,
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Change::Closed,
            _ => return,
        };
        let is_under_way = matches!(change, Change::Created | Change::Written | Change::Attributes);
        if !is_under_way {
            self.reread_if_needed(&path);
        }
        let mut matters = false;
        if let Some(link) = self.links.get(&path).cloned() {
            self.see(&link, change, at);
            matters = true;
        }
        if self.matters(&path) && !self.is_special(&path, change) {
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

    /// A file changed by which it is decided what is ignored.
    fn reread_if_needed(&mut self, path: &Path) {
        if self.ignores.depends_on(path) {
            self.watch_anew();
        }
    }

    fn matters(&self, path: &Path) -> bool {
        walk::matters(path, &self.filter, self.ignores.around(path).map(Arc::as_ref))
    }

    /// True for what lies in a directory that is polled, and for such a directory.
    fn is_polled(&self, path: &Path) -> bool {
        let polls = |directory: &Path| self.scanner.polls(directory);
        path.parent().is_some_and(polls) || polls(path)
    }

    /// A link to a directory came, went, or leads elsewhere now.
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

    /// What a file is, it is from the moment in which it gets its name: only then the disk is
    /// asked.
    fn is_special(&mut self, path: &Path, change: Change) -> bool {
        match change {
            Change::Written | Change::Attributes | Change::Closed => self.special.contains(path),
            Change::Gone => self.special.remove(path),
            Change::Created | Change::Appeared | Change::Arrived => {
                let special = std::fs::symlink_metadata(path)
                    .is_ok_and(|meta| !meta.is_file() && !meta.is_symlink() && !meta.is_dir());
                if special {
                    self.special.insert(path.to_owned());
                } else {
                    self.special.remove(path);
                }
                special
            }
        }
    }

    fn see(&mut self, path: &Path, change: Change, at: Instant) {
        let filter = &self.filter;
        self.burst.see(path, change, at, || is_recent(path), || filter.is_trigger(path));
        // A touch leaves nothing behind that could be taken for a part of the next save.
        if change == Change::Closed {
            self.burst.forget();
        }
    }

    fn feed(&mut self, event: notify::Event) {
        if !self.burst.is_under_way() {
            return;
        }
        if self.quiet.is_none() {
            match Quiet::new(self.to_self.clone()) {
                Ok(quiet) => self.quiet = Some(quiet),
                // Without it the burst ends by its own deadline.
                Err(error) => return tracing::warn!(%error, "no debouncer"),
            }
        }
        let is_storm = self.burst.is_large();
        if let Some(quiet) = &mut self.quiet {
            quiet.feed(event, is_storm);
        }
    }

    /// When the burst is over: by its own rules, once the debouncer has found it quiet.
    fn burst_ends_at(&self) -> Option<Instant> {
        match &self.quiet {
            _ if self.scanner.is_looking() => self.burst.ends_at_most(),
            Some(quiet) if !quiet.is_confirmed() => self.burst.ends_at_most(),
            _ => self.burst.ends_at(),
        }
    }

    /// A deadline may have come.
    fn wake(&mut self, now: Instant) {
        self.look(now);
        if self.look_for_absent.is_some_and(|at| at <= now) {
            self.look_for_absent();
        }
        self.burst.count_unclosed(now);
        if self.burst_ends_at().is_none_or(|at| at > now) {
            return;
        }
        self.quiet = None;
        if let Some(burst) = self.burst.finish() {
            let _ = self.inbox.send(Message::Changed(burst));
        }
    }

    fn fail(&mut self, error: &notify::Error) {
        if matches!(error.kind, ErrorKind::MaxFilesWatch) {
            self.tell_limit();
        } else {
            tracing::warn!(%error, "watching");
        }
    }

    // The tree

    /// Watches all that is to be watched.
    fn stand(&mut self, counts: Counts<'_>) -> Found {
        let filter = Arc::clone(&self.filter);
        let watch = filter.watch();
        let mut tops = tops(watch, &mut self.ignores);
        if let Counts::Lost(_, before) = counts {
            for top in &mut tops {
                top.is_whole = !before.contains(&top.path);
            }
        }
        let (all, place) =
            (watch.roots.iter().chain(watch.outside()), |place: &Place| place.path.clone());
        let there: BTreeSet<PathBuf> = tops.iter().map(place).collect();
        self.absent =
            all.filter(|path| !there.contains(*path) && !path.exists()).cloned().collect();
        self.links.clear();
        let found = self.adopt(tops, counts);
        for file in watch.outside().filter(|file| !there.contains(*file) && file.exists()) {
            self.watch_file(file, counts);
        }
        for file in self.ignores.outside().to_vec() {
            self.unwatch(&file);
            if file.exists() {
                self.watch(&file);
            }
        }
        self.watch_for_absent();
        found
    }

    /// A single file, wherever it lies.
    fn watch_file(&mut self, file: &Path, counts: Counts<'_>) {
        if let Some(directory) = file.parent()
            && !self.tree.contains(directory)
        {
            self.watch_beside(directory);
        }
        self.follow_file(file);
        let cut = match counts {
            Counts::Since(cut) | Counts::SinceOutside(cut, _) | Counts::Lost(cut, _) => cut,
            Counts::Nothing | Counts::All => return,
        };
        let at = file.symlink_metadata().ok().and_then(|meta| changed_at(&meta));
        if let Some(at) = at.filter(|at| *at >= cut) {
            self.see(file, Change::Arrived, instant_of(at));
        }
    }

    /// A directory that is watched for certain files in it alone.
    fn watch_beside(&mut self, directory: &Path) {
        if self.watch(directory) == Outcome::Watched && !self.is_silent(directory) {
            return;
        }
        self.poll(directory);
    }

    /// If this is a link whose file is to be seen here: saves of that file are.
    fn follow_file(&mut self, link: &Path) {
        if let Some(target) = walk::followed_file(link, &self.filter) {
            self.follow(link, target);
        }
    }

    fn follow(&mut self, link: &Path, target: PathBuf) {
        if let Some(directory) = target.parent()
            && !self.tree.contains(directory)
        {
            self.watch(directory);
        }
        self.links.insert(target, link.to_owned());
    }

    /// Watches these directories and all below them, and notes what counts as changed.
    fn adopt(&mut self, tops: Vec<Place>, counts: Counts<'_>) -> Found {
        let filter = Arc::clone(&self.filter);
        let look = Look { filter: &filter, gitignore: self.ignores.is_enabled(), counts };
        let watched = match counts {
            Counts::SinceOutside(_, watched) => Some(watched),
            _ => None,
        };
        let is_new = matches!(counts, Counts::All);
        let found = Found::default();
        let refused = Refused::default();
        let mut adopting = Adopting { watcher: self, watched, is_new, refused, found };
        walk(tops, look, &mut adopting);
        adopting.found
    }

    fn watch(&mut self, path: &Path) -> Outcome {
        match &mut self.native {
            Some(native) => native.watch(path),
            None => Outcome::OverLimit,
        }
    }

    fn unwatch(&mut self, path: &Path) {
        if let Some(native) = &mut self.native {
            native.unwatch(path);
        }
    }

    fn directory_came(&mut self, event: notify::Event) {
        self.directory_appeared(&event.paths[0]);
        self.feed(event);
    }

    fn directory_appeared(&mut self, directory: &Path) {
        let scope = self.ignores.around(directory).cloned();
        if walk::is_left_out(directory, &self.filter, scope.as_deref()) {
            return;
        }
        self.burst.directory_came(directory);
        let place = Place { path: directory.to_owned(), scope, is_whole: false };
        self.adopt(vec![place], Counts::All);
    }

    fn directory_went(&mut self, event: notify::Event, at: Instant) {
        let directory = event.paths[0].clone();
        if self.filter.watch().roots.contains(&directory) {
            return self.root_went(&directory);
        }
        self.directory_disappeared(&directory, at);
        self.feed(event);
    }

    /// Counts as all the files in it, whose names nobody knows any more: it is named itself.
    fn directory_disappeared(&mut self, directory: &Path, at: Instant) {
        if self.forget(directory).is_empty() {
            return;
        }
        self.burst.lose_below(directory);
        if !self.burst.names_below(directory) {
            self.see(directory, Change::Gone, at);
        }
    }

    /// The directory and all below it are not watched any more: which were. (The operating
    /// system, and `notify` with it, knows of what was deleted or moved away.)
    fn forget(&mut self, directory: &Path) -> Vec<PathBuf> {
        let from = (Bound::Included(directory), Bound::Unbounded);
        let below = self.tree.range::<Path, _>(from);
        let below: Vec<PathBuf> =
            below.take_while(|path| path.starts_with(directory)).cloned().collect();
        for path in &below {
            self.tree.remove(path);
            self.over_limit.remove(path);
        }
        if !below.is_empty() {
            self.scanner.retain(|path| !path.starts_with(directory));
        }
        below
    }

    /// Watches what is to be watched now, and no more.
    fn watch_anew(&mut self) {
        let cut = coarse_now();
        self.ignores = Ignores::new(self.filter.watch().gitignore);
        let before = std::mem::take(&mut self.tree);
        self.stand(Counts::SinceOutside(cut, &before));
        self.keep_what_is_there();
        let removed: Vec<PathBuf> = before.difference(&self.tree).cloned().collect();
        if removed.len() <= MOST_UNWATCHED {
            for directory in removed {
                self.unwatch(&directory);
            }
            return;
        }
        self.drain();
        self.renew_native();
        self.tree.clear();
        self.stand(Counts::Since(cut));
    }

    fn keep_what_is_there(&mut self) {
        let (tree, filter) = (&self.tree, &self.filter);
        let is_beside = |directory: &Path| {
            filter.watch().outside().any(|file| file.parent() == Some(directory))
        };
        self.scanner.retain(|directory| tree.contains(directory) || is_beside(directory));
        self.over_limit.retain(|directory| tree.contains(directory));
    }

    fn configure(&mut self, watch: config::Watch) {
        self.burst.configure(watch.debounce, watch.max_wait);
        self.scanner.configure(watch.poll_interval);
        let before = self.filter.watch().backend;
        let is_other = before != watch.backend;
        self.filter = Arc::new(Filter::new(watch));
        if is_other {
            self.drain();
            self.recover(coarse_now());
        } else {
            self.watch_anew();
        }
        self.mounted = mounts::mounted(|place| self.concerns(place));
    }

    /// All that has happened so far has been read, or else there is nothing to read.
    fn drain(&mut self) {
        if let Some(native) = &mut self.native {
            native.drain();
        }
    }

    /// A new watcher of the operating system, which watches nothing yet.
    fn renew_native(&mut self) {
        // The old one goes first: both together may be more than the limit.
        self.native = None;
        self.outposts.clear();
        if self.filter.watch().backend == Backend::Poll {
            return;
        }
        match Native::new(self.to_self.clone()) {
            Ok(native) => {
                self.native = Some(native);
                self.reading = Reading::new(queue_holds(), SystemTime::now());
            }
            Err(error) => self.say(format!(
                "the system has no file events for hotrun ({error}), so files are polled, which is \
                 slower; if other programs have used them up: \
                 sudo sysctl fs.inotify.max_user_instances=1024"
            )),
        }
    }

    // What was not seen is found

    /// Something happened that nobody told. Watches what is there now, and finds by the
    /// files' own stamps what has changed since `cut`: so many paths.
    fn recover(&mut self, cut: SystemTime) -> usize {
        self.burst.lose();
        self.ignores = Ignores::new(self.filter.watch().gitignore);
        let before = std::mem::take(&mut self.tree);
        // A directory may have been replaced unseen, and what watches it would be taken for
        // alive.
        self.renew_native();
        let known = self.burst.len();
        self.stand(Counts::Lost(cut, &before));
        self.keep_what_is_there();
        self.burst.len() - known
    }

    /// True for a mount that lies in what is watched, or around it.
    fn concerns(&self, mount: &Path) -> bool {
        let watch = self.filter.watch();
        let all = watch.roots.iter().chain(watch.outside());
        let mut around = all.filter(|path| path.starts_with(mount) || mount.starts_with(path));
        around.next().is_some()
    }

    fn mounts_changed(&mut self) {
        let now = mounts::mounted(|place| self.concerns(place));
        let before = std::mem::replace(&mut self.mounted, now.clone());
        let changed: Vec<PathBuf> = before
            .iter()
            .filter(|mount| !now.contains(mount))
            .chain(now.iter().filter(|mount| !before.contains(mount)))
            .map(|mount| mount.place.clone())
            .collect();
        if changed.is_empty() {
            return;
        }
        self.mounts.forget();
        self.drain();
        let cut = coarse_now();
        let mut concerned = false;
        for place in &changed {
            let was_watched = self.tree.contains(place);
            concerned |= !self.forget(place).is_empty()
                || self.absent.iter().any(|one| one.starts_with(place));
            // What was in it is not there any more.
            if was_watched && !self.filter.watch().roots.contains(place) {
                self.see(place, Change::Gone, Instant::now());
            }
        }
        if concerned {
            self.recover(cut);
            let places = name_paths(&changed, &self.filter.watch().base);
            self.say(format!("something else is mounted at {places}; all in it counts as changed"));
            self.tell_absent();
        }
    }

    /// A root was deleted or moved away; another may already be in its place.
    fn root_went(&mut self, root: &Path) {
        if self.forget(root).is_empty() {
            return;
        }
        self.burst.lose_below(root);
        self.drain();
        self.recover(coarse_now());
        if self.tree.contains(root) {
            let root = printable(root);
            self.say(format!("{root} was replaced; all that is in it counts as changed"));
        } else {
            self.tell_absent();
        }
    }

    // What is not there

    fn tell_absent(&self) {
        for root in self.filter.watch().roots.iter().filter(|root| self.absent.contains(*root)) {
            self.say(format!("{} is gone; hotrun waits until it is back", printable(root)));
        }
    }

    /// Watches the nearest directories around what is not there.
    fn watch_for_absent(&mut self) {
        let mut is_watched = true;
        for path in self.absent.clone() {
            let around = path.ancestors().skip(1).find(|place| place.is_dir());
            let Some(around) = around.map(Path::to_owned) else { continue };
            if self.outposts.contains(&around) {
                continue;
            }
            let outcome = self.watch(&around);
            is_watched &= outcome == Outcome::Watched && !self.is_silent(&around);
            self.outposts.insert(around);
        }
        self.look_for_absent = (!is_watched).then(|| Instant::now() + LOOK_FOR_ABSENT);
    }

    /// This may be news of something that is not there.
    fn concerns_absent(&self, path: &Path) -> bool {
        !self.absent.is_empty()
            && (path.parent().is_some_and(|parent| self.outposts.contains(parent))
                || self.outposts.contains(path))
    }

    /// Is something there again?
    fn look_for_absent(&mut self) {
        let back: Vec<PathBuf> = self.absent.iter().filter(|path| path.exists()).cloned().collect();
        for path in back {
            self.absent.remove(&path);
            if !path.is_dir() {
                self.watch_file(&path, Counts::Nothing);
                self.see(&path, Change::Appeared, Instant::now());
                continue;
            }
            self.ignores.read_above(&path);
            let scope = self.ignores.around(&path).cloned();
            let place = Place { path: path.clone(), scope, is_whole: false };
            self.adopt(vec![place], Counts::All);
            self.say(format!("{} is back; all that is in it counts as changed", printable(&path)));
        }
        for outpost in std::mem::take(&mut self.outposts) {
            let is_needed = self.tree.contains(&outpost)
                || self.filter.watch().outside().any(|file| file.parent() == Some(&outpost));
            if !is_needed {
                self.unwatch(&outpost);
            }
        }
        self.watch_for_absent();
        // It may have come while the outpost was moved.
        if self.absent.iter().any(|path| path.exists()) {
            self.look_for_absent();
        }
    }

    // What is polled

    /// Says once of each kind of file system that it tells of no changes.
    fn is_silent(&mut self, directory: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Ok(meta) = directory.metadata() else { return false };
        self.is_silent_device(meta.dev(), directory)
    }

    fn is_silent_device(&mut self, device: u64, directory: &Path) -> bool {
        if self.filter.watch().backend != Backend::Auto {
            return false;
        }
        let Some(name) = self.mounts.silent(device, directory) else { return false };
        if self.told.silent.insert(name) {
            self.say(format!(
                "{} lies in a file system ({name}) that does not tell of every change, so it is \
                 polled (watch.backend = \"native\": do not)",
                directory.display()
            ));
        }
        true
    }

    fn poll(&mut self, directory: &Path) {
        let judge = Judging { filter: &self.filter, ignores: &self.ignores, tree: &self.tree };
        self.scanner.adopt(directory, &judge);
    }

    fn look(&mut self, now: Instant) {
        if self.scanner.due().is_none_or(|due| due > now) {
            return;
        }
        let judge = Judging { filter: &self.filter, ignores: &self.ignores, tree: &self.tree };
        let seen = self.scanner.look(now, &judge);
        self.take_seen(seen);
        if !self.scanner.is_looking() {
            self.watch_over_limit();
        }
    }

    fn take_seen(&mut self, all: Vec<Seen>) {
        for seen in all {
            let at = Instant::now();
            match seen {
                Seen::Changed(path) => self.see_polled(&path, Change::Arrived, at),
                Seen::Gone(path) => self.see_polled(&path, Change::Gone, at),
                Seen::DirectoryCame(path) => self.directory_appeared(&path),
                Seen::DirectoryWent(path) if self.filter.watch().roots.contains(&path) => {
                    self.root_went(&path);
                }
                Seen::DirectoryWent(path) => self.directory_disappeared(&path, at),
            }
        }
    }

    fn see_polled(&mut self, path: &Path, change: Change, at: Instant) {
        self.reread_if_needed(path);
        if self.matters(path) {
            self.see(path, change, at);
        }
    }

    /// The limit may have been raised, or another program may have ended.
    fn watch_over_limit(&mut self) {
        while let Some(directory) = self.over_limit.first().cloned() {
            if self.watch(&directory) == Outcome::OverLimit {
                return;
            }
            self.over_limit.pop_first();
            let judge = Judging { filter: &self.filter, ignores: &self.ignores, tree: &self.tree };
            let seen = self.scanner.look_at(&directory, &judge);
            self.scanner.retain(|polled| polled != directory);
            self.take_seen(seen);
            if self.over_limit.is_empty() {
                self.told.limit = false;
                self.say("there are watches for all directories now".to_owned());
            }
        }
    }

    fn tell_limit(&mut self) {
        if self.native.is_none() || std::mem::replace(&mut self.told.limit, true) {
            return;
        }
        let limit = limit().map_or_else(String::new, |limit| {
            let more = (limit.value * 4).max(1 << 20);
            format!(
                " ({name} = {value}); to have more: sudo sysctl {name}={more}",
                name = limit.name,
                value = limit.value
            )
        });
        self.say(format!(
            "there are no more file watches, so the directories beyond the limit are polled, \
             which is slower{limit}"
        ));
    }

    fn say(&self, text: String) {
        let _ = self.inbox.send(Message::Say(Notice::Warning(text)));
    }
}

/// Goes along when a tree is adopted.
struct Adopting<'a> {
    watcher: &'a mut Watcher,
    /// What is watched already.
    watched: Option<&'a BTreeSet<PathBuf>>,
    /// It has just appeared.
    is_new: bool,
    refused: Refused,
    found: Found,
}

impl Companion for Adopting<'_> {
    fn watch(&mut self, batch: &mut Vec<Place>) {
        let watcher = &mut *self.watcher;
        self.refused = match &mut watcher.native {
            None => Refused::default(),
            Some(native) => {
                let is_new = |place: &&Place| {
                    let watched = self.watched.is_some_and(|watched| watched.contains(&place.path));
                    !watched || watcher.over_limit.contains(&place.path)
                };
                native.watch_all(batch.iter().filter(is_new).map(|place| &place.path))
            }
        };
        if !self.refused.over_limit.is_empty() {
            watcher.tell_limit();
        }
        batch.retain(|place| !self.refused.failed.contains(&place.path));
        watcher.tree.extend(batch.iter().map(|place| place.path.clone()));
    }

    fn see(&mut self, listing: Listing) {
        let watcher = &mut *self.watcher;
        let Some(device) = listing.device else {
            watcher.tree.remove(&listing.path);
            return;
        };
        self.found.directories += 1;
        self.found.files += listing.files;
        watcher.ignores.keep(listing.scope);
        let is_over_limit = self.refused.over_limit.contains(&listing.path);
        if is_over_limit {
            watcher.over_limit.insert(listing.path.clone());
        }
        if watcher.native.is_none()
            || is_over_limit
            || watcher.is_silent_device(device, &listing.path)
        {
            watcher.poll(&listing.path);
        }
        watcher.special.extend(listing.special);
        for (link, target) in listing.links {
            watcher.follow(&link, target);
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

/// What the scanner asks.
struct Judging<'a> {
    filter: &'a Filter,
    ignores: &'a Ignores,
    tree: &'a BTreeSet<PathBuf>,
}

impl Judge for Judging<'_> {
    fn matters(&self, file: &Path) -> bool {
        let scope = self.ignores.around(file).map(Arc::as_ref);
        walk::matters(file, self.filter, scope) || self.ignores.depends_on(file)
    }

    fn is_new(&self, directory: &Path) -> bool {
        let scope = self.ignores.around(directory).map(Arc::as_ref);
        !self.tree.contains(directory) && !walk::is_left_out(directory, self.filter, scope)
    }
}

fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// A link, symbolic or hard, has its content from the first moment: no close will follow.
fn is_complete_at_once(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    !cfg!(target_os = "linux")
        || std::fs::symlink_metadata(path)
            .is_ok_and(|meta| meta.is_symlink() || (meta.is_file() && meta.nlink() > 1))
}

fn is_recent(path: &Path) -> bool {
    let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < RECENT))
}
