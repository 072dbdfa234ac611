//! Directories that hotrun creates, and may delete with all their contents.
//!
//! Such a directory holds a proof: a file that names the directory's own inode. So a copy, a clone
//! of a repository or a directory of the user's never qualifies. The proof is read through the same
//! descriptor through which the directory is emptied, and no symbolic link is followed.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Name of the proof. As a `.gitignore`, it also hides the directory's contents from git.
const PROOF: &str = ".gitignore";
/// Maximum size of the proof, in bytes.
const MAX_PROOF: u64 = 256;

/// Returns the proof for this directory. File systems reuse inode numbers; the time of creation,
/// where the file system keeps it, distinguishes the new directory from the deleted one.
fn proof(directory: &fs::Metadata) -> String {
    let created = directory.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let created = created.unwrap_or_default().as_nanos();
    let inode = directory.ino();
    format!("# Made by hotrun, which may delete this directory (inode {inode}, {created}).\n*\n")
}

/// Writes the proof into a directory that has just been created.
pub(crate) fn mark(directory: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(directory)?;
    fs::write(directory.join(PROOF), proof(&meta))
}

/// Returns true for a directory that holds the proof. A link to one does not count.
pub(crate) fn is_own(directory: &Path) -> bool {
    open(AT_FDCWD, directory).is_ok_and(|opened| holds_proof(&opened))
}

/// Deletes a directory if it holds the proof. Returns false if it does not.
pub(crate) fn delete(directory: &Path) -> io::Result<bool> {
    let opened = open(AT_FDCWD, directory)?;
    if !holds_proof(&opened) {
        return Ok(false);
    }
    delete_opened(directory, &opened)?;
    Ok(true)
}

/// Locks a file or a directory until the result is dropped, or this process is dead. That is how
/// hotruns in other containers, where its pid means nothing, see that it is in use.
///
/// # Errors
///
/// Another process has locked it, the file system has no locks, or something else lies at this path
/// by now.
pub(crate) fn hold(file: File, path: &Path) -> io::Result<Flock<File>> {
    let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)?;
    if is_same_file(&held, path) { Ok(held) } else { Err(io::Error::from(io::ErrorKind::NotFound)) }
}

/// Whether a process has locked this file or directory.
pub(crate) fn is_held(path: &Path) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let Ok(file) = openat(AT_FDCWD, path, flags, Mode::empty()) else { return false };
    // Two processes that ask at the same time do not take each other for the holder.
    let asked = Flock::lock(File::from(file), FlockArg::LockSharedNonblock);
    matches!(asked, Err((_, Errno::EWOULDBLOCK)))
}

/// Whether this opened file still lies at this path.
pub(crate) fn is_same_file(file: &File, path: &Path) -> bool {
    let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(ours), Ok(there)) => identity(ours) == identity(there),
        _ => false,
    }
}

/// Deletes a directory with this name in one that holds the proof. False if that does not.
///
/// # Errors
///
/// Something in it cannot be deleted.
pub(crate) fn delete_in(own: &Path, name: &str) -> io::Result<bool> {
    let own = open(AT_FDCWD, own)?;
    if !holds_proof(&own) {
        return Ok(false);
    }
    let inner = open(&own, Path::new(name))?;
    empty(&inner)?;
    unlinkat(&own, name, UnlinkatFlags::RemoveDir)?;
    Ok(true)
}

/// Deletes a directory that holds no proof if it holds files, and every one of them is hotrun's own.
/// Each is asked about twice, as it is opened: all of them before anything is deleted, and again just
/// before it is deleted. A directory in it that holds the proof is asked about as a whole.
/// Returns false if something in it is not hotrun's own; what has been found so by then is left.
///
/// # Errors
///
/// Something in it cannot be deleted, or it is another directory than was seen.
pub(crate) fn delete_seen(
    directory: &Path,
    seen: &fs::Metadata,
    is_own: &dyn Fn(&Path, &fs::Metadata) -> bool,
) -> io::Result<bool> {
    let opened = open(AT_FDCWD, directory)?;
    let now = File::from(opened.try_clone()?).metadata()?;
    if (now.dev(), now.ino()) != (seen.dev(), seen.ino()) {
        return Err(io::Error::other("another directory lies in its place"));
    }
    let visit = Visit { device: now.dev(), is_own };
    if visit.all(&opened, directory, false)?.is_none_or(|files| files == 0)
        || visit.all(&opened, directory, true)?.is_none()
    {
        return Ok(false);
    }
    // Only an empty one can be deleted in this way.
    fs::remove_dir(directory)?;
    Ok(true)
}

/// How a directory without a proof is looked through.
struct Visit<'a> {
    device: u64,
    is_own: &'a dyn Fn(&Path, &fs::Metadata) -> bool,
}

impl Visit<'_> {
    /// Returns the number of files below this directory, or `None` if one is not hotrun's own.
    fn all(&self, directory: &OwnedFd, path: &Path, deletes: bool) -> io::Result<Option<usize>> {
        let mut count = 0;
        for name in names(directory)? {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            // No link is followed, and opening a pipe does not wait.
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let Ok(opened) = openat(directory, name.as_c_str(), flags, Mode::empty()) else {
                return Ok(None);
            };
            let meta = File::from(opened.try_clone()?).metadata()?;
            if meta.dev() != self.device {
                return Ok(None);
            }
            let has_proof = meta.is_dir() && holds_proof(&opened);
            if meta.is_dir() && !(has_proof && (self.is_own)(&path, &meta)) {
                let Some(files) = self.all(&opened, &path, deletes)? else { return Ok(None) };
                count += files;
            } else if meta.is_dir() || (self.is_own)(&path, &meta) {
                count += 1;
            } else {
                return Ok(None);
            }
            if !deletes {
                continue;
            }
            if has_proof {
                empty(&opened)?;
            }
            let flag =
                if meta.is_dir() { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
            unlinkat(directory, name.as_c_str(), flag)?;
        }
        Ok(Some(count))
    }
}

/// By which a file is known to hold what it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    /// Of this file, now.
    pub(crate) fn of(meta: &fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }

    /// The same file, whatever it holds.
    pub(crate) fn is_file(self, other: Identity) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

fn delete_opened(directory: &Path, opened: &OwnedFd) -> io::Result<()> {
    empty(opened)?;
    // Deletes only an empty directory.
    fs::remove_dir(directory)
}

/// Opens a directory, without following a link.
fn open(parent: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(parent, path, flags, Mode::empty())?)
}

fn holds_proof(directory: &OwnedFd) -> bool {
    let read = || -> io::Result<bool> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(directory, PROOF, flags, Mode::empty())?);
        let mut text = String::new();
        file.take(MAX_PROOF).read_to_string(&mut text)?;
        Ok(text == proof(&File::from(directory.try_clone()?).metadata()?))
    };
    read().unwrap_or(false)
}

/// Deletes everything in a directory. Fails at a mount point.
fn empty(directory: &OwnedFd) -> io::Result<()> {
    let device = File::from(directory.try_clone()?).metadata()?.dev();
    let all = names(directory)?;
    // The proof last: what cannot be deleted now can be later.
    let is_last = |name: &&CStr| name.to_bytes() == PROOF.as_bytes();
    let names = || all.iter().map(CString::as_c_str);
    for name in names().filter(|name| !is_last(name)).chain(names().filter(is_last)) {
        let path = Path::new(OsStr::from_bytes(name.to_bytes()));
        // Also a link to a directory.
        if unlinkat(directory, name, UnlinkatFlags::NoRemoveDir).is_ok() {
            continue;
        }
        let inner = open(directory, path)?;
        if File::from(inner.try_clone()?).metadata()?.dev() != device {
            return Err(io::Error::other(format!("{} is mounted there", path.display())));
        }
        empty(&inner)?;
        unlinkat(directory, name, UnlinkatFlags::RemoveDir)?;
    }
    Ok(())
}

/// The names of everything in a directory, but for itself and its parent.
fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    // A descriptor of its own: the position in the directory is part of what `dup` shares.
    let mut entries = Dir::from_fd(open(directory, Path::new("."))?)?;
    let names = entries.iter().map(|entry| entry.map(|entry| entry.file_name().to_owned()));
    let names: Vec<CString> = names.collect::<Result<_, _>>()?;
    Ok(names.into_iter().filter(|name| !is_dots(name)).collect())
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_holds_its_own_proof_is_deleted_and_no_link_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let own = at("own");
        fs::create_dir_all(own.join("a/b")).unwrap();
        mark(&own).unwrap();
        fs::create_dir(at("precious")).unwrap();
        fs::write(at("precious/photo"), "1").unwrap();
        symlink(at("precious"), own.join("a/link")).unwrap();

        // A copy has the same text, but is another directory.
        fs::create_dir(at("copy")).unwrap();
        fs::copy(own.join(PROOF), at("copy").join(PROOF)).unwrap();
        assert!(!is_own(&at("copy")) && !delete(&at("copy")).unwrap());
        assert!(!delete(&at("precious")).unwrap());
        assert!(!delete_in(&at("copy"), "a").unwrap());
        // A link to the directory does not qualify, and a pipe is not a proof.
        symlink(&own, at("link")).unwrap();
        assert!(!is_own(&at("link")) && delete(&at("link")).is_err());
        fs::create_dir(at("pipe")).unwrap();
        nix::unistd::mkfifo(&at("pipe").join(PROOF), Mode::S_IRWXU).unwrap();
        assert!(!is_own(&at("pipe")));

        fs::create_dir(own.join("c")).unwrap();
        assert!(delete_in(&own, "c").unwrap() && !own.join("c").exists());
        let seen = fs::symlink_metadata(at("copy")).unwrap();
        assert!(delete_seen(&own, &seen, &|_, _| true).is_err());
        assert!(is_own(&own) && delete(&own).unwrap());
        assert!(!own.exists() && at("precious/photo").exists());
    }

    #[test]
    fn a_directory_without_proof_is_deleted_if_every_file_in_it_is_hotruns_own() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join("tmp").join(name);
        fs::create_dir_all(at("bin/empty")).unwrap();
        fs::create_dir_all(at("kept/inner")).unwrap();
        fs::write(at("kept/inner/copy"), "").unwrap();
        let directory = at("");
        let seen = fs::symlink_metadata(&directory).unwrap();
        let own = std::cell::RefCell::new(Vec::new());
        let delete = || {
            let is_own = |path: &Path, meta: &fs::Metadata| {
                path == at("kept") || own.borrow().contains(&(path.to_owned(), Identity::of(meta)))
            };
            delete_seen(&directory, &seen, &is_own).unwrap()
        };
        let write = |name: &str| {
            fs::write(at(name), name).unwrap();
            let identity = Identity::of(&fs::metadata(at(name)).unwrap());
            own.borrow_mut().push((at(name), identity));
        };
        assert!(!delete(), "the copy is not known, nor is its directory marked");
        mark(&at("kept")).unwrap();
        write("bin/main");
        for other in ["notes", "bin/notes"] {
            fs::write(at(other), "precious").unwrap();
            assert!(!delete());
            fs::remove_file(at(other)).unwrap();
            symlink(at("bin/main"), at(other)).unwrap();
            assert!(!delete());
            fs::remove_file(at(other)).unwrap();
        }
        // Another file of the name, or another content.
        fs::remove_file(at("bin/main")).unwrap();
        fs::write(at("bin/main"), "precious").unwrap();
        assert!(!delete() && at("bin/main").exists() && at("kept/inner/copy").exists());
        write("bin/main");
        assert!(delete() && !directory.exists());
        fs::create_dir(&directory).unwrap();
        let seen = fs::symlink_metadata(&directory).unwrap();
        assert!(!delete_seen(&directory, &seen, &|_, _| true).unwrap(), "it holds nothing");
    }

    #[test]
    fn what_appears_while_a_directory_is_deleted_is_left() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join("tmp").join(name);
        fs::create_dir(at("")).unwrap();
        for name in ["a", "b"] {
            fs::write(at(name), "").unwrap();
        }
        let seen = fs::symlink_metadata(at("")).unwrap();
        let asked = std::cell::Cell::new(0);
        // When the second look at the first of the two comes.
        let is_own = |path: &Path, _: &fs::Metadata| {
            asked.set(asked.get() + 1);
            if asked.get() == 3 {
                fs::write(at("new"), "precious").unwrap();
            }
            path != at("new")
        };
        assert!(delete_seen(&at(""), &seen, &is_own).is_err());
        assert!(at("new").exists());
    }

    #[test]
    fn what_is_held_is_so_until_it_is_released_and_only_where_it_lies() {
        let place = tempfile::tempdir().unwrap();
        let (file, directory) = (place.path().join("file"), place.path().join("directory"));
        fs::write(&file, "").unwrap();
        fs::create_dir(&directory).unwrap();
        for path in [&file, &directory] {
            assert!(!is_held(path));
            let held = hold(File::open(path).unwrap(), path).unwrap();
            assert!(is_held(path));
            assert!(hold(File::open(path).unwrap(), path).is_err());
            drop(held);
            assert!(!is_held(path));
        }
        let opened = File::open(&file).unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(&file, "").unwrap();
        assert!(hold(opened, &file).is_err() && !is_held(&file));
        assert!(!is_held(&place.path().join("none")));
    }

    #[test]
    fn a_directory_that_has_the_inode_of_a_deleted_one_is_not_its_own_by_the_old_proof() {
        let place = tempfile::tempdir().unwrap();
        let own = place.path().join("own");
        for _ in 0..20 {
            fs::create_dir(&own).unwrap();
            let before = fs::metadata(&own).unwrap();
            if before.created().is_err() {
                // This file system does not record the creation time.
                return;
            }
            mark(&own).unwrap();
            let old = fs::read(own.join(PROOF)).unwrap();
            assert!(delete(&own).unwrap());
            fs::create_dir(&own).unwrap();
            // The clock of a file system may tick every few milliseconds.
            while fs::metadata(&own).unwrap().created().unwrap() == before.created().unwrap() {
                fs::remove_dir(&own).unwrap();
                fs::create_dir(&own).unwrap();
            }
            fs::write(own.join(PROOF), old).unwrap();
            assert!(!is_own(&own) && !delete(&own).unwrap(), "{before:?}");
            fs::remove_dir_all(&own).unwrap();
        }
    }
}
