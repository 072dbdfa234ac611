//! The walk through the directories that matter, with several threads.
//!
//! The walk goes by batches. The directories of a batch are first watched, all at once, and then
//! listed, so that whatever appears in them later is an event. Ignored directories are neither
//! listed nor watched. The `ignore` crate's walk lists a directory before it can be watched, and
//! does not know what overrides a `.gitignore` here.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{DirEntry, File, FileType, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::libc::O_NONBLOCK;

use super::clock::changed_at;
use super::ignores::{Scope, says_something};
use crate::config::{CACHE_TAG, CMAKE_CACHE, ENVIRONMENT};
use crate::filter::{Filter, Reason, Verdict};

/// Maximum number of directories watched at once.
const BATCH: usize = 256;
/// Minimum number of directories for which another thread is started.
const MIN_PER_THREAD: usize = 16;
/// Maximum number of threads; more would only wait for the same disk.
const MAX_THREADS: usize = 8;

/// A directory that is to be walked.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// The patterns of the directories above it.
    pub(super) scope: Option<Arc<Scope>>,
    /// Whether everything in it counts as changed.
    pub(super) is_whole: bool,
}

/// Which of the files found count as changed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counts<'a> {
    Nothing,
    /// All: they have just appeared.
    All,
    /// Files changed since this time, which may be before they were watched.
    Since(SystemTime),
    /// Files changed since this time, except those that were seen: they lie in one of these
    /// directories, which were watched, and mattered by this filter.
    New(SystemTime, &'a BTreeSet<PathBuf>, &'a Filter),
    /// Files changed since this time, when events were lost, and all files in other directories
    /// than these, which were watched.
    Lost(SystemTime, &'a BTreeSet<PathBuf>),
}

/// How a walk judges what it finds.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) filter: &'a Filter,
    pub(super) gitignore: bool,
    pub(super) counts: Counts<'a>,
}

/// The contents of a directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) path: PathBuf,
    /// The device of its file system; `None` if the directory cannot be read.
    pub(super) device: Option<u64>,
    /// It cannot be read for want of descriptors or memory, which may be free again later.
    pub(super) is_postponed: bool,
    /// Its own patterns.
    pub(super) scope: Option<Arc<Scope>>,
    /// How many of its files matter.
    pub(super) files: usize,
    /// The paths of these files, on the first walk.
    pub(super) names: Vec<PathBuf>,
    /// Changed files. Also the directory itself, if something in it is gone.
    pub(super) changed: Vec<(PathBuf, Option<SystemTime>)>,
    /// Sockets, pipes and devices, whose content cannot be saved.
    pub(super) special: Vec<PathBuf>,
    /// Links to files, and their targets.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    below: Vec<Place>,
    /// Links to directories that are to be followed, and their targets.
    followed: Vec<(Place, PathBuf)>,
}

impl Listing {
    /// Returns the links to directories that are followed, and their targets.
    pub(super) fn followed(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.followed.iter().map(|(place, target)| (place.path.as_path(), target.as_path()))
    }
}

/// Receives what a walk finds.
pub(super) trait Companion {
    /// Watches these directories, which are about to be listed. Those removed from the batch are
    /// not.
    fn watch(&mut self, batch: &mut Vec<Place>);
    /// Takes the contents of a directory. It comes before the directories in it.
    fn see(&mut self, listing: Listing);
}

/// Walks through these directories and all below them that are not ignored.
pub(super) fn walk(tops: Vec<Place>, look: Look<'_>, companion: &mut impl Companion) {
    let mut stack = tops;
    // Each target is entered once, even if directories link to each other.
    let mut followed = BTreeSet::new();
    while !stack.is_empty() {
        let mut batch = stack.split_off(stack.len().saturating_sub(BATCH));
        companion.watch(&mut batch);
        for mut listing in list_all(&batch, look) {
            stack.append(&mut listing.below);
            listing.followed.retain(|(_, target)| followed.insert(target.clone()));
            stack.extend(listing.followed.iter().map(|(place, _)| place.clone()));
            companion.see(listing);
        }
    }
}

/// Lists these directories, a part on each thread.
fn list_all(batch: &[Place], look: Look<'_>) -> Vec<Listing> {
    let processors = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let threads = processors.min(batch.len() / MIN_PER_THREAD).max(1);
    let list_some =
        |some: &[Place]| -> Vec<Listing> { some.iter().map(|place| list(place, look)).collect() };
    if threads == 1 {
        return list_some(batch);
    }
    let mut parts = batch.chunks(batch.len().div_ceil(threads));
    let own = parts.next().unwrap_or_default();
    thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| (part, scope.spawn(|| list_some(part)))).collect();
        let mut listings = list_some(own);
        for (part, other) in others {
            // If a thread has failed, its part is listed here, and fails here.
            listings.extend(other.join().unwrap_or_else(|_| list_some(part)));
        }
        listings
    })
}

fn list(place: &Place, look: Look<'_>) -> Listing {
    let mut listing = Listing { path: place.path.clone(), ..Listing::default() };
    let read = std::fs::read_dir(&place.path).and_then(|entries| {
        let own = place.path.metadata()?;
        Ok((own, entries.flatten().collect::<Vec<_>>()))
    });
    let (own, entries) = match read {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return listing,
        Err(error) => {
            tracing::warn!(%error, "cannot list {}", place.path.display());
            let errno = error.raw_os_error().map(Errno::from_raw);
            listing.is_postponed =
                matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM));
            return listing;
        }
    };
    listing.device = Some(own.dev());
    if look.gitignore {
        let names: Vec<OsString> = entries.iter().map(DirEntry::file_name).collect();
        if says_something(&names) {
            let has = |name: &OsStr| names.iter().any(|one| one == name);
            listing.scope = Scope::read(&place.path, has, place.scope.as_ref());
        }
    }
    let scope = listing.scope.clone().or_else(|| place.scope.clone());
    let mut visit = Visit { place, look, scope, listing };
    for entry in &entries {
        visit.entry(entry);
    }
    visit.count_itself(&own, &entries);
    visit.listing
}

/// A directory that is being listed.
struct Visit<'a> {
    place: &'a Place,
    look: Look<'a>,
    scope: Option<Arc<Scope>>,
    listing: Listing,
}

impl Visit<'_> {
    fn entry(&mut self, entry: &DirEntry) {
        let Ok(kind) = entry.file_type() else { return };
        let path = entry.path();
        if kind.is_dir() {
            return self.directory(path, entry);
        }
        let filter = self.look.filter;
        if kind.is_symlink()
            && let Some(target) = leads_out(&path, filter)
        {
            if !self.is_left_out(&path) {
                let place = self.below(path, false);
                self.listing.followed.push((place, target));
            }
            return;
        }
        let scope = self.scope.as_deref();
        if filter.watch().always.contains(&path) || !matters(&path, filter, scope) {
            return;
        }
        if is_special(kind) {
            self.listing.special.push(path);
            return;
        }
        if kind.is_symlink()
            && let Some(target) = followed_file(&path, filter)
        {
            self.listing.links.push((path.clone(), target));
        }
        self.listing.files += 1;
        if matches!(self.look.counts, Counts::Since(_)) {
            self.listing.names.push(path.clone());
        }
        self.count(path, || entry.metadata().ok());
    }

    fn directory(&mut self, path: PathBuf, entry: &DirEntry) {
        if self.is_left_out(&path) {
            return;
        }
        let is_whole = self.place.is_whole
            || match self.look.counts {
                Counts::Nothing | Counts::All => false,
                Counts::New(_, before, _) if before.contains(&path) => false,
                // Moving a directory changes its ctime, but nothing in it.
                Counts::Since(cut) | Counts::New(cut, ..) => entry.metadata().is_ok_and(|meta| {
                    is_since(&meta, cut) && meta.modified().is_ok_and(|at| at < cut)
                }),
                Counts::Lost(_, before) => !before.contains(&path),
            };
        let place = self.below(path, is_whole);
        self.listing.below.push(place);
    }

    fn below(&self, path: PathBuf, is_whole: bool) -> Place {
        Place { path, scope: self.scope.clone(), is_whole }
    }

    fn is_left_out(&self, directory: &Path) -> bool {
        is_left_out(directory, self.look.filter, self.scope.as_deref())
    }

    /// Records a file that matters, if it has changed.
    fn count(&mut self, path: PathBuf, meta: impl FnOnce() -> Option<Metadata>) {
        let cut = match self.look.counts {
            Counts::Nothing => return,
            Counts::All => None,
            _ if self.place.is_whole => None,
            Counts::Since(cut) | Counts::Lost(cut, _) => Some(cut),
            Counts::New(cut, before, filter) => {
                let was_seen = before.contains(&self.place.path);
                if was_seen && matters(&path, filter, self.scope.as_deref()) {
                    return;
                }
                Some(cut)
            }
        };
        let Some(cut) = cut else {
            // It changed when it appeared, whatever its timestamp.
            self.listing.changed.push((path, None));
            return;
        };
        // A deleted file counts as a change of the directory.
        if let Some(meta) = meta().filter(|meta| is_since(meta, cut)) {
            self.listing.changed.push((path, changed_at(&meta)));
        }
    }

    /// Records the directory itself, if its timestamp shows that an entry came or went.
    fn count_itself(&mut self, own: &Metadata, entries: &[DirEntry]) {
        let (cut, explained) = match self.look.counts {
            Counts::New(_, before, _) if before.contains(&self.place.path) => return,
            Counts::Since(cut) | Counts::New(cut, ..) => (cut, true),
            Counts::Lost(cut, _) => (cut, false),
            Counts::Nothing | Counts::All => return,
        };
        let Ok(at) = own.modified() else { return };
        if self.place.is_whole || at < cut {
            return;
        }
        // Builds create files as soon as hotrun has started. A new entry explains the timestamp, so
        // nothing need have gone.
        let is_new = |entry: &DirEntry| entry.metadata().is_ok_and(|meta| is_since(&meta, cut));
        if !(explained && entries.iter().any(is_new)) {
            self.listing.changed.push((self.place.path.clone(), Some(at)));
        }
    }
}

/// Returns true for what changed at this time or later.
fn is_since(meta: &Metadata, cut: SystemTime) -> bool {
    changed_at(meta).is_some_and(|at| at >= cut)
}

fn is_special(kind: FileType) -> bool {
    !kind.is_file() && !kind.is_symlink() && !kind.is_dir()
}

/// Start of the tag in a cache directory: <https://bford.info/cachedir/>.
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Returns why a directory below the roots does not belong to the program, judging by a file in it.
pub(super) fn foreign<'a>(directory: &'a Path, filter: &Filter) -> Option<Reason<'a>> {
    let watch = filter.watch();
    let is_cache =
        || has_cache_tag(directory) || is_built_in(directory) || is_installed_in(directory);
    let has_tag = watch.skips_caches && is_cache();
    let marker = watch.foreign_marker(directory);
    let is_project = || marker.is_some_and(|marker| directory.join(marker).is_file());
    if !has_tag && !is_project() {
        return None;
    }
    // A directory that the configuration names, or that a build reads, is watched all the same.
    let is_root = watch.root_of(directory).is_none_or(|root| root == directory);
    let is_named = || filter.named_directories().any(|named| directory.starts_with(named));
    if is_root || filter.leads_to_named(directory) || is_named() {
        return None;
    }
    Some(if has_tag { Reason::Cache(directory) } else { Reason::Foreign(directory) })
}

fn has_cache_tag(directory: &Path) -> bool {
    let mut start = [0; CACHE_SIGNATURE.len()];
    // Opening a pipe of this name must not block.
    let tag = directory.join(CACHE_TAG);
    let is_read = tag.is_file()
        && File::options()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open(tag)
            .is_ok_and(|mut tag| tag.read_exact(&mut start).is_ok());
    is_read && start == *CACHE_SIGNATURE
}

/// Returns true for a build directory of `CMake` or Meson that holds no sources.
fn is_built_in(directory: &Path) -> bool {
    let is_file = |name: &str| directory.join(name).is_file();
    is_file(CMAKE_CACHE) && !is_file("CMakeLists.txt")
        || is_file("meson-private/coredata.dat") && !is_file("meson.build")
}

/// True for a virtual environment of Python, and for what Composer installs.
fn is_installed_in(directory: &Path) -> bool {
    let is_file = |name: &str| directory.join(name).is_file();
    is_file(ENVIRONMENT) || is_file("composer/installed.json")
}

/// True for a file by which a directory that is watched has just become another project's, or
/// a cache.
pub(super) fn makes_foreign(path: &Path, filter: &Filter) -> bool {
    let is_marker = |name: &OsStr| filter.watch().markers().any(|marker| name == marker);
    path.file_name().is_some_and(is_marker)
        && path.parent().is_some_and(|place| foreign(place, filter).is_some())
}

/// Returns true if nothing in this directory matters. That includes a directory that a `.gitignore`
/// ignores, unless the configuration names something below it.
pub(super) fn is_left_out(directory: &Path, filter: &Filter, scope: Option<&Scope>) -> bool {
    filter.prunes(directory)
        || foreign(directory, filter).is_some()
        || scope.is_some_and(|scope| scope.ignores(directory, true))
            && filter.watch().root_of(directory).is_some_and(|root| root != directory)
            && !filter.leads_to_named(directory)
            && !is_opened(directory, filter, scope)
}

/// Returns whether a save of this file matters. `scope`: the patterns of the directories above it.
pub(super) fn matters(path: &Path, filter: &Filter, scope: Option<&Scope>) -> bool {
    match filter.file(path) {
        Verdict::Ignored => false,
        Verdict::Named => true,
        Verdict::Matters => {
            scope.is_none_or(|scope| !scope.ignores(path, false)) || is_opened(path, filter, scope)
        }
    }
}

/// Returns true below a directory that is named although a `.gitignore` ignores it.
fn is_opened(path: &Path, filter: &Filter, scope: Option<&Scope>) -> bool {
    filter.named_directories().any(|named| {
        path.starts_with(named) && scope.is_some_and(|scope| scope.ignores(named, true))
    })
}

/// Returns the target of a directory link that is to be followed. Targets that are watched anyway,
/// or that contain the link, are not.
pub(super) fn leads_out(link: &Path, filter: &Filter) -> Option<PathBuf> {
    let watch = filter.watch();
    if !watch.follow_symlink || !link.is_dir() {
        return None;
    }
    let place = link.parent()?.canonicalize().ok()?;
    let target = link.canonicalize().ok()?;
    let is_outside = watch.root_of(&target).is_none() && !place.starts_with(&target);
    is_outside.then_some(target)
}

/// Returns the links on the way to the target of this path, except itself. Re-pointing one of these
/// directory links makes the path another file.
pub(super) fn waypoints(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut place = PathBuf::new();
    let parts = |path: &Path| -> Vec<OsString> {
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut ahead = parts(path);
    while let Some(part) = ahead.pop() {
        place = crate::config::absolute(&place, Path::new(&part));
        let Ok(target) = std::fs::read_link(&place) else { continue };
        if place != path {
            found.push(place.clone());
        }
        // The limit of the kernel.
        if found.len() > 40 {
            break;
        }
        place.pop();
        ahead.extend(parts(&target));
    }
    found
}

/// Returns the target of this link, if saves of the target count as saves of the link.
pub(super) fn followed_file(link: &Path, filter: &Filter) -> Option<PathBuf> {
    let watch = filter.watch();
    let is_named = watch.always.contains(link)
        || watch.include_files.contains(link)
        || watch.rules.iter().any(|rule| rule.include_files.contains(link));
    if !(watch.follow_symlink || is_named) {
        return None;
    }
    link.canonicalize().ok().filter(|target| target != link)
}
