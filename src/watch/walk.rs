//! The walk through the directories that matter, on as many threads as there are processors.
//!
//! It goes by batches: the directories of a batch are watched first, all at once, and listed
//! then, so that what appears in them later is an event. What they hold that is ignored is
//! neither listed nor watched. (The `ignore` crate's own walk lists a directory before
//! anybody can have it watched, and knows nothing of what beats a `.gitignore` here.)

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{DirEntry, File, FileType, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use nix::libc::O_NONBLOCK;

use super::clock::changed_at;
use super::ignores::{Scope, says_something};
use crate::config::{CACHE_TAG, CMAKE_CACHE, ENVIRONMENT};
use crate::filter::{Filter, Reason, Verdict};

/// So many directories are watched at once.
const BATCH: usize = 256;
/// A thread more is worth its start for so many.
const WORTH_A_THREAD: usize = 16;
/// More threads only wait for the same disk.
const MOST_THREADS: usize = 8;

/// What is known of a directory that is to be walked.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// What is said of the things in it by the directories around it.
    pub(super) scope: Option<Arc<Scope>>,
    /// All that it holds counts as changed.
    pub(super) is_whole: bool,
}

/// Which of the files that are found count as changed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counts<'a> {
    /// None.
    Nothing,
    /// All: they have just appeared.
    All,
    /// Those that changed since, before they were watched.
    Since(SystemTime),
    /// Those that changed since, unless they mattered before by this filter, and lie in one of
    /// the directories that were watched: these were seen.
    New(SystemTime, &'a BTreeSet<PathBuf>, &'a Filter),
    /// Those that changed since, where events were lost; all in a directory that is not among
    /// those that were watched.
    Lost(SystemTime, &'a BTreeSet<PathBuf>),
}

/// How a walk looks at things.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) filter: &'a Filter,
    pub(super) gitignore: bool,
    pub(super) counts: Counts<'a>,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) path: PathBuf,
    /// The file system that it lies in; `None`: it cannot be read.
    pub(super) device: Option<u64>,
    /// What its own files say.
    pub(super) scope: Option<Arc<Scope>>,
    /// How many of its files matter.
    pub(super) files: usize,
    /// Which those are, where it is walked for the first time.
    pub(super) names: Vec<PathBuf>,
    /// What counts as changed: of these files, and the directory itself for what is in it no
    /// more.
    pub(super) changed: Vec<(PathBuf, Option<SystemTime>)>,
    /// Sockets, pipes and devices: they have no content that could be saved.
    pub(super) special: Vec<PathBuf>,
    /// Files that are links, and where these lead.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    below: Vec<Place>,
    /// Links to directories that are to be followed, and where they lead.
    followed: Vec<(Place, PathBuf)>,
}

impl Listing {
    /// The links to directories that are followed, and where they lead.
    pub(super) fn followed(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.followed.iter().map(|(place, target)| (place.path.as_path(), target.as_path()))
    }
}

/// Whoever goes along.
pub(super) trait Companion {
    /// These directories are about to be listed; those that are taken out are not.
    fn watch(&mut self, batch: &mut Vec<Place>);
    /// This is what one of them holds. Each comes before those in it.
    fn see(&mut self, listing: Listing);
}

/// Walks through these directories and all below them that is not ignored.
pub(super) fn walk(tops: Vec<Place>, look: Look<'_>, companion: &mut impl Companion) {
    let mut stack = tops;
    // Directories that link to each other are entered once.
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

/// Lists these directories, some on each thread.
fn list_all(batch: &[Place], look: Look<'_>) -> Vec<Listing> {
    let processors = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let threads = processors.min(batch.len() / WORTH_A_THREAD).max(1);
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
            // Should a thread have failed, its part is listed here, and fails here.
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

/// A directory while it is listed.
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
                // Whoever moves it changes it, but nothing in it.
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

    /// Notes a file that matters, if it has changed.
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
            // It changed when it appeared, whatever its stamp says.
            self.listing.changed.push((path, None));
            return;
        };
        // What is gone is the directory's change.
        if let Some(meta) = meta().filter(|meta| is_since(meta, cut)) {
            self.listing.changed.push((path, changed_at(&meta)));
        }
    }

    /// The directory's own stamp says that something in it came or went.
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
        // Builds make files as soon as hotrun has begun: if there is something new, nothing
        // need have gone.
        let is_new = |entry: &DirEntry| entry.metadata().is_ok_and(|meta| is_since(&meta, cut));
        if !(explained && entries.iter().any(is_new)) {
            self.listing.changed.push((self.place.path.clone(), Some(at)));
        }
    }
}

/// True for what changed at this time or later.
fn is_since(meta: &Metadata, cut: SystemTime) -> bool {
    changed_at(meta).is_some_and(|at| at >= cut)
}

fn is_special(kind: FileType) -> bool {
    !kind.is_file() && !kind.is_symlink() && !kind.is_dir()
}

/// How the tag in a directory of caches begins: <https://bford.info/cachedir/>.
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Why a directory below the roots is none of the program's, by a file that it holds.
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
    // What the configuration names, or a build reads, is watched all the same.
    let is_root = watch.root_of(directory).is_none_or(|root| root == directory);
    let is_named = || filter.named_directories().any(|named| directory.starts_with(named));
    if is_root || filter.leads_to_named(directory) || is_named() {
        return None;
    }
    Some(if has_tag { Reason::Cache(directory) } else { Reason::Foreign(directory) })
}

fn has_cache_tag(directory: &Path) -> bool {
    let mut start = [0; CACHE_SIGNATURE.len()];
    // A pipe of this name is not waited for.
    let tag = directory.join(CACHE_TAG);
    let is_read = tag.is_file()
        && File::options()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open(tag)
            .is_ok_and(|mut tag| tag.read_exact(&mut start).is_ok());
    is_read && start == *CACHE_SIGNATURE
}

/// True for a directory in which `CMake` or Meson builds, and that holds no sources beside that.
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

/// Nothing in this directory matters, or a `.gitignore` names it and nothing below it was
/// named here.
pub(super) fn is_left_out(directory: &Path, filter: &Filter, scope: Option<&Scope>) -> bool {
    filter.prunes(directory)
        || foreign(directory, filter).is_some()
        || scope.is_some_and(|scope| scope.ignores(directory, true))
            && filter.watch().root_of(directory).is_some_and(|root| root != directory)
            && !filter.leads_to_named(directory)
            && !is_opened(directory, filter, scope)
}

/// Does a save of this file matter? `scope` is that of the directories around it.
pub(super) fn matters(path: &Path, filter: &Filter, scope: Option<&Scope>) -> bool {
    match filter.file(path) {
        Verdict::Ignored => false,
        Verdict::Named => true,
        Verdict::Matters => {
            scope.is_none_or(|scope| !scope.ignores(path, false)) || is_opened(path, filter, scope)
        }
    }
}

/// True below a directory that was named although a `.gitignore` names it too.
fn is_opened(path: &Path, filter: &Filter, scope: Option<&Scope>) -> bool {
    filter.named_directories().any(|named| {
        path.starts_with(named) && scope.is_some_and(|scope| scope.ignores(named, true))
    })
}

/// Where a link leads to a directory that is to be watched as if it lay here: not to one that
/// is watched anyway, and not to one that the link itself lies in.
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

/// The links that are passed on the way to where this path leads, itself excepted: a directory
/// link that is re-pointed makes it another file.
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
        // As many as the kernel follows.
        if found.len() > 40 {
            break;
        }
        place.pop();
        ahead.extend(parts(&target));
    }
    found
}

/// The file that this link leads to, if saves of that file are to be seen here.
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
