//! From files to changed paths. It watches the directories that matter, one by one, and
//! sends each burst of saves as one [`Message::Changed`].
//!
//! Two words go out: *changed*, with paths, and *compare everything* (a [`Cause::Rescan`]),
//! where the operating system has lost events. It knows nothing about builds.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use notify::event::{
    AccessKind, AccessMode, CreateKind, EventKindMask, ModifyKind, RemoveKind, RenameMode,
};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::UnboundedSender;

use crate::config;
use crate::error::{Error, Result};
use crate::event::{Cause, Event, Message, Notice};
use crate::filter::{Filter, Verdict};

mod burst;
mod ignores;
mod quiet;

use burst::{Burst, Change};
use ignores::Ignores;
use quiet::Quiet;

/// A file that was only closed is a save if it was modified this recently.
const RECENT: Duration = Duration::from_secs(1);

/// The event kinds that are used; the kernel is asked for no others.
fn event_kinds() -> EventKindMask {
    EventKindMask::CREATE
        | EventKindMask::REMOVE
        | EventKindMask::MODIFY_DATA
        | EventKindMask::MODIFY_META
        | EventKindMask::MODIFY_NAME
        | EventKindMask::ACCESS_CLOSE
}

/// What the watching thread is told.
#[derive(Debug)]
enum Input {
    /// By the operating system, at this time.
    Raw(Instant, notify::Result<notify::Event>),
    /// By the debouncer: nothing has happened since so many events.
    Quiet(usize),
    /// By the engine.
    Configure(Box<config::Watch>),
}

/// The running watch. It ends when this is dropped.
pub struct Watch {
    input: mpsc::Sender<Input>,
    /// What was found when it began.
    pub found: Found,
}

/// How much is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Directories; each costs one watch of the operating system.
    pub directories: usize,
    /// Files whose change matters.
    pub files: usize,
}

impl Watch {
    /// Watches, and returns when it does: every save from now on is seen.
    pub fn start(watch: config::Watch, inbox: UnboundedSender<Message>) -> Result<Self> {
        let (input, inputs) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let to_self = input.clone();
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                let _last_word = LastWord(inbox.clone());
                match Watcher::new(watch, to_self, inbox) {
                    Ok((watcher, found)) => {
                        let _ = ready.send(Ok(found));
                        watcher.run(&inputs);
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            })
            .map_err(|error| Error::failed("cannot start a thread", error))?;
        let died = || Error::failed("watching", "the thread ended at its start");
        let found = started.recv().map_err(|_| died())??;
        Ok(Self { input, found })
    }

    /// Watches what this configuration says from now on.
    pub fn configure(&self, watch: config::Watch) {
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

/// How many directories a user may watch; `None` where there is no limit of that kind.
pub fn limit() -> Option<String> {
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?;
    Some(limit.trim().to_owned())
}

/// What would be watched: the directories and the files that matter, without watching.
pub fn survey(watch: &config::Watch) -> Found {
    let filter = Filter::new(watch.clone());
    let mut ignores = Ignores::new(watch.gitignore);
    let mut found = Found::default();
    for root in &watch.roots {
        ignores.read_above(root);
        walk(root, &filter, &mut ignores, &mut |_| true, &mut |entry| match entry {
            Entry::Directory => found.directories += 1,
            Entry::File(_) => found.files += 1,
            Entry::Special(_) => {}
        });
    }
    found
}

/// What a walk comes upon.
enum Entry<'a> {
    Directory,
    /// A file that matters.
    File(&'a Path),
    /// A socket, a pipe or a device: it has no content that could be saved.
    Special(&'a Path),
}

/// Goes through a directory and all below it that is not ignored. `enter` is called before
/// a directory is listed, so that what appears in it later is an event; false leaves it out.
fn walk(
    top: &Path,
    filter: &Filter,
    ignores: &mut Ignores,
    enter: &mut dyn FnMut(&Path) -> bool,
    see: &mut dyn FnMut(Entry<'_>),
) {
    let mut stack = vec![top.to_owned()];
    // Where links lead to: directories that link each other are entered once.
    let mut followed = BTreeSet::new();
    while let Some(directory) = stack.pop() {
        if filter.prunes(&directory) || is_ignored(&directory, filter, ignores) {
            continue;
        }
        if !enter(&directory) {
            continue;
        }
        see(Entry::Directory);
        ignores.read(&directory);
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%error, "cannot list {}", directory.display());
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let kind = entry.file_type();
            let is_link = kind.as_ref().is_ok_and(std::fs::FileType::is_symlink);
            if is_link && let Some(target) = leads_out(&path, filter) {
                if followed.insert(target) {
                    stack.push(path);
                }
                continue;
            }
            match kind {
                Ok(kind) if kind.is_dir() => stack.push(path),
                Ok(_) if filter.watch().always.contains(&path) => {}
                Ok(_) if !matters(&path, filter, ignores) => {}
                Ok(kind) if !kind.is_file() && !kind.is_symlink() => see(Entry::Special(&path)),
                Ok(_) => see(Entry::File(&path)),
                Err(_) => {}
            }
        }
    }
}

/// A directory that a `.gitignore` names, unless something below it was named here.
fn is_ignored(directory: &Path, filter: &Filter, ignores: &Ignores) -> bool {
    filter.watch().root_of(directory).is_some_and(|root| root != directory)
        && ignores.ignore(directory, true)
        && !filter.leads_to_named(directory)
        && !is_opened(directory, filter, ignores)
}

fn matters(path: &Path, filter: &Filter, ignores: &Ignores) -> bool {
    match filter.file(path) {
        Verdict::Ignored => false,
        Verdict::Named => true,
        Verdict::Matters => !ignores.ignore(path, false) || is_opened(path, filter, ignores),
    }
}

/// True below a directory that was named although a `.gitignore` names it too.
fn is_opened(path: &Path, filter: &Filter, ignores: &Ignores) -> bool {
    filter.named_directories().any(|named| path.starts_with(named) && ignores.ignore(named, true))
}

/// Where a link leads to a directory that is to be watched as if it lay here: not to one that
/// is watched anyway, and not to one that the link itself lies in.
fn leads_out(link: &Path, filter: &Filter) -> Option<PathBuf> {
    let watch = filter.watch();
    if !watch.follow_symlink || !link.is_dir() {
        return None;
    }
    let place = link.parent()?.canonicalize().ok()?;
    let target = link.canonicalize().ok()?;
    let is_outside = watch.root_of(&target).is_none() && !place.starts_with(&target);
    is_outside.then_some(target)
}

/// Would a save of this path be seen, and if not, is it a `.gitignore` that says so?
pub fn is_gitignored(path: &Path, watch: &config::Watch) -> bool {
    let filter = Filter::new(watch.clone());
    let mut ignores = Ignores::new(watch.gitignore);
    let Some(root) = watch.root_of(path) else { return false };
    ignores.read_above(root);
    let mut above: Vec<&Path> = path.ancestors().skip(1).take_while(|one| *one != root).collect();
    above.push(root);
    above.reverse();
    for directory in above {
        if is_ignored(directory, &filter, &ignores) {
            return true;
        }
        ignores.read(directory);
    }
    filter.file(path) == Verdict::Matters && !matters(path, &filter, &ignores)
}

/// The thread that watches.
struct Watcher {
    native: RecommendedWatcher,
    /// Shared with the walk under way, which changes all else here.
    filter: Arc<Filter>,
    ignores: Ignores,
    /// Every directory that is watched.
    tree: BTreeSet<PathBuf>,
    /// Sockets and the like that have been seen: their coming and going is no save.
    special: BTreeSet<PathBuf>,
    burst: Burst,
    quiet: Option<Quiet>,
    to_self: mpsc::Sender<Input>,
    inbox: UnboundedSender<Message>,
    /// The limit of watches was told.
    told_limit: bool,
}

impl Watcher {
    fn new(
        watch: config::Watch,
        to_self: mpsc::Sender<Input>,
        inbox: UnboundedSender<Message>,
    ) -> Result<(Self, Found)> {
        let raw = to_self.clone();
        let handler = move |event| {
            let _ = raw.send(Input::Raw(Instant::now(), event));
        };
        let settings = notify::Config::default().with_event_kinds(event_kinds());
        let native = RecommendedWatcher::new(handler, settings).map_err(|error| {
            Error::failed("cannot watch files", error)
                .remedy("too many watchers may be running: see fs.inotify.max_user_instances")
        })?;
        let mut watcher = Self {
            native,
            burst: Burst::new(watch.debounce, watch.max_wait),
            ignores: Ignores::new(watch.gitignore),
            filter: Arc::new(Filter::new(watch)),
            tree: BTreeSet::new(),
            special: BTreeSet::new(),
            quiet: None,
            to_self,
            inbox,
            told_limit: false,
        };
        let found = watcher.watch_all();
        if watcher.tree.is_empty() {
            let base = watcher.filter.watch().base.display();
            return Err(Error::failed(base, "nothing here can be watched")
                .remedy("make the directory readable"));
        }
        Ok((watcher, found))
    }

    fn run(mut self, inputs: &mpsc::Receiver<Input>) {
        loop {
            let now = Instant::now();
            let deadline = [self.burst_ends_at(), self.burst.unclosed_at()].into_iter().flatten();
            let received = match deadline.min() {
                None => inputs.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(at) => inputs.recv_timeout(at.saturating_duration_since(now)),
            };
            match received {
                Ok(Input::Raw(at, Ok(event))) => self.take(at, event),
                Ok(Input::Raw(_, Err(error))) => self.fail(&error),
                Ok(Input::Quiet(fed)) => self.quiet_since(fed),
                Ok(Input::Configure(watch)) => self.configure(*watch),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            if self.inbox.is_closed() {
                return;
            }
            // A storm of events must not keep the deadline waiting.
            self.wake(Instant::now());
        }
    }

    // Events

    fn take(&mut self, at: Instant, event: notify::Event) {
        if event.need_rescan() {
            self.rescan();
            return;
        }
        let Some(path) = event.paths.first().cloned() else { return };
        if self.filter.watch().follow_symlink && self.link_changed(&event, at) {
            return;
        }
        let change = match event.kind {
            EventKind::Create(CreateKind::Folder) => return self.directory_came(event, at),
            EventKind::Remove(RemoveKind::Folder) => return self.directory_went(event, at),
            // FSEvents says `Any` of the old name and of the new.
            EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Any))
                if is_directory(&path) =>
            {
                return self.directory_came(event, at);
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::Any))
                if self.tree.contains(&path) =>
            {
                return self.directory_went(event, at);
            }
            // A directory's own word that it moved; its parent has said so, or is not ours.
            EventKind::Modify(ModifyKind::Name(RenameMode::From))
                if cfg!(target_os = "linux") && event.tracker().is_none() =>
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
        if self.ignores.depends_on(&path) && !is_under_way {
            self.watch_anew();
        }
        if !matters(&path, &self.filter, &self.ignores) || self.is_special(&path, change) {
            return;
        }
        tracing::trace!(?change, "{}", path.display());
        self.see(&path, change, at);
        self.feed(event);
    }

    /// A link to a directory came, went, or leads elsewhere now.
    fn link_changed(&mut self, event: &notify::Event, at: Instant) -> bool {
        let path = &event.paths[0];
        match event.kind {
            EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => false,
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To))
                if path.is_symlink() && leads_out(path, &self.filter).is_some() =>
            {
                self.forget(path);
                self.directory_came(event.clone(), at);
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
        if let Some(quiet) = &mut self.quiet {
            quiet.feed(event);
        }
    }

    fn quiet_since(&mut self, fed: usize) {
        if let Some(quiet) = &mut self.quiet {
            quiet.confirm(fed);
        }
    }

    /// When the burst is over: by its own rules, once the debouncer has found it quiet.
    fn burst_ends_at(&self) -> Option<Instant> {
        match &self.quiet {
            Some(quiet) if !quiet.is_confirmed() => self.burst.ends_at_most(),
            _ => self.burst.ends_at(),
        }
    }

    /// A deadline has come.
    fn wake(&mut self, now: Instant) {
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

    fn watch_all(&mut self) -> Found {
        let mut found = Found::default();
        for root in self.filter.watch().roots.clone() {
            self.ignores.read_above(&root);
            let below = self.adopt(&root, &mut |_| {});
            found.directories += below.directories;
            found.files += below.files;
        }
        for file in self.filter.watch().always.clone() {
            if let Some(directory) = file.parent()
                && !self.tree.contains(directory)
            {
                self.watch(directory);
            }
        }
        found
    }

    /// Watches a directory and all below it, and reports the files that matter there.
    fn adopt(&mut self, top: &Path, report: &mut dyn FnMut(&Path)) -> Found {
        let mut found = Found::default();
        let mut special = BTreeSet::new();
        let filter = Arc::clone(&self.filter);
        let mut ignores = std::mem::replace(&mut self.ignores, Ignores::new(false));
        let mut enter = |directory: &Path| self.watch(directory);
        walk(top, &filter, &mut ignores, &mut enter, &mut |entry| match entry {
            Entry::Directory => found.directories += 1,
            Entry::File(path) => {
                found.files += 1;
                report(path);
            }
            Entry::Special(path) => {
                special.insert(path.to_owned());
            }
        });
        self.special.append(&mut special);
        self.ignores = ignores;
        found
    }

    fn watch(&mut self, directory: &Path) -> bool {
        match self.native.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.tree.insert(directory.to_owned());
                true
            }
            Err(error) if matches!(error.kind, ErrorKind::MaxFilesWatch) => {
                self.tell_limit();
                false
            }
            // It went while it was being found.
            Err(error) => {
                tracing::debug!(%error, "cannot watch {}", directory.display());
                false
            }
        }
    }

    fn tell_limit(&mut self) {
        if std::mem::replace(&mut self.told_limit, true) {
            return;
        }
        let limit = limit().unwrap_or_default();
        let _ = self.inbox.send(Message::Say(Notice::Warning(format!(
            "the limit of file watches is reached (fs.inotify.max_user_watches = {limit}): saves \
             in the directories beyond it are not seen; raise it with: \
             sudo sysctl fs.inotify.max_user_watches=1048576"
        ))));
    }

    fn directory_came(&mut self, event: notify::Event, at: Instant) {
        self.burst.directory_came(&event.paths[0]);
        let mut appeared = Vec::new();
        self.adopt(&event.paths[0], &mut |path| appeared.push(path.to_owned()));
        for path in appeared {
            self.see(&path, Change::Appeared, at);
        }
        self.feed(event);
    }

    /// Counts as all the files in it, whose names nobody knows any more: it is named itself.
    fn directory_went(&mut self, event: notify::Event, at: Instant) {
        let directory = &event.paths[0];
        if !self.forget(directory) {
            return;
        }
        self.burst.lose_below(directory);
        if !self.burst.names_below(directory) {
            self.see(directory, Change::Gone, at);
        }
        self.feed(event);
    }

    /// The directory and all below it are not watched any more. False if they were not.
    fn forget(&mut self, directory: &Path) -> bool {
        let from = (Bound::Included(directory), Bound::Unbounded);
        let below: Vec<PathBuf> = self
            .tree
            .range::<Path, _>(from)
            .take_while(|path| path.starts_with(directory))
            .cloned()
            .collect();
        for path in &below {
            self.tree.remove(path);
            // Mostly the operating system has done so already.
            let _ = self.native.unwatch(path);
        }
        !below.is_empty()
    }

    /// Watches what is to be watched now, and no more.
    fn watch_anew(&mut self) {
        self.ignores = Ignores::new(self.filter.watch().gitignore);
        let before = std::mem::take(&mut self.tree);
        self.watch_all();
        for directory in before.difference(&self.tree) {
            let _ = self.native.unwatch(directory);
        }
    }

    fn configure(&mut self, watch: config::Watch) {
        self.burst.configure(watch.debounce, watch.max_wait);
        self.filter = Arc::new(Filter::new(watch));
        self.watch_anew();
    }

    /// The operating system has lost events: watch what is there, and take everything for
    /// changed.
    fn rescan(&mut self) {
        self.burst.lose();
        // A directory may have been replaced unseen; what watches it is taken for alive
        // unless it is taken away first.
        for directory in std::mem::take(&mut self.tree) {
            let _ = self.native.unwatch(&directory);
        }
        self.watch_anew();
        let _ = self.inbox.send(Event::Saved(Cause::Rescan).into());
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
