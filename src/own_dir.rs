//! Directories that hotrun makes, and may delete with all that is in them.
//!
//! Such a directory holds a file that proves it: it names the directory's own inode, so that a
//! copy, a clone of a repository or a directory of the user's is none. It is looked at, and emptied,
//! by the same descriptor, and no link is followed.

use std::ffi::{CStr, CString};
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

/// The file that proves it; git does not see what is beside it.
const PROOF: &str = ".gitignore";
/// Maximum size of the proof, in bytes.
const MOST: u64 = 256;

/// Returns the proof for this directory. File systems reuse inode numbers; the time of creation,
/// where the file system keeps it, distinguishes the new directory from the deleted one.
fn proof(directory: &fs::Metadata) -> String {
    let created = directory.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let created = created.unwrap_or_default().as_nanos();
    let inode = directory.ino();
    format!("# Made by hotrun, which may delete this directory (inode {inode}, {created}).\n*\n")
}

/// Writes the proof into a directory that has just been made.
///
/// # Errors
///
/// It cannot be written.
pub fn mark(directory: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(directory)?;
    fs::write(directory.join(PROOF), proof(&meta))
}

/// True for a directory, and no link to one, that holds the proof.
pub fn is_own(directory: &Path) -> bool {
    open(AT_FDCWD, directory).is_ok_and(|opened| holds_proof(&opened))
}

/// Deletes a directory if it holds the proof. False if it does not.
///
/// # Errors
///
/// Something in it cannot be deleted.
pub fn delete(directory: &Path) -> io::Result<bool> {
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
pub fn hold(file: File, path: &Path) -> io::Result<Flock<File>> {
    let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)?;
    if is_same_file(&held, path) { Ok(held) } else { Err(io::Error::from(io::ErrorKind::NotFound)) }
}

/// Whether a process has locked this file or directory.
pub fn is_held(path: &Path) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let Ok(file) = openat(AT_FDCWD, path, flags, Mode::empty()) else { return false };
    // Two processes that ask at the same time do not take each other for the holder.
    let asked = Flock::lock(File::from(file), FlockArg::LockSharedNonblock);
    matches!(asked, Err((_, Errno::EWOULDBLOCK)))
}

/// Whether this opened file still lies at this path.
pub fn is_same_file(file: &File, path: &Path) -> bool {
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
pub fn delete_in(own: &Path, name: &str) -> io::Result<bool> {
    let own = open(AT_FDCWD, own)?;
    if !holds_proof(&own) {
        return Ok(false);
    }
    let inner = open(&own, Path::new(name))?;
    empty(&inner)?;
    unlinkat(&own, name, UnlinkatFlags::RemoveDir)?;
    Ok(true)
}

/// Deletes a directory that holds no proof, of which it is known by a look at all that is in it
/// that hotrun may. Nothing is deleted if it is another directory by now.
///
/// # Errors
///
/// Something in it cannot be deleted, or it is another one.
pub fn delete_seen(directory: &Path, seen: &fs::Metadata) -> io::Result<()> {
    let opened = open(AT_FDCWD, directory)?;
    let now = File::from(opened.try_clone()?).metadata()?;
    if (now.dev(), now.ino()) != (seen.dev(), seen.ino()) {
        return Err(io::Error::other("another directory lies in its place"));
    }
    delete_opened(directory, &opened)
}

fn delete_opened(directory: &Path, opened: &OwnedFd) -> io::Result<()> {
    empty(opened)?;
    // Only an empty one can be deleted in this way.
    fs::remove_dir(directory)
}

/// A directory itself: behind a link there is another.
fn open(parent: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(parent, path, flags, Mode::empty())?)
}

fn holds_proof(directory: &OwnedFd) -> bool {
    let read = || -> io::Result<bool> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(directory, PROOF, flags, Mode::empty())?);
        let mut text = String::new();
        file.take(MOST).read_to_string(&mut text)?;
        Ok(text == proof(&File::from(directory.try_clone()?).metadata()?))
    };
    read().unwrap_or(false)
}

/// Deletes everything in a directory. What is mounted there stays.
fn empty(directory: &OwnedFd) -> io::Result<()> {
    let device = File::from(directory.try_clone()?).metadata()?.dev();
    let names: Vec<CString> = {
        let mut entries = Dir::from_fd(directory.try_clone()?)?;
        let names = entries.iter().map(|entry| entry.map(|entry| entry.file_name().to_owned()));
        names.collect::<Result<_, _>>()?
    };
    // The proof last: what cannot be deleted now can be later.
    let is_last = |name: &&CStr| name.to_bytes() == PROOF.as_bytes();
    let names = || names.iter().map(CString::as_c_str).filter(|name| !is_dots(name));
    for name in names().filter(|name| !is_last(name)).chain(names().filter(is_last)) {
        let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
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

        // A copy has the text, and is another directory.
        fs::create_dir(at("copy")).unwrap();
        fs::copy(own.join(PROOF), at("copy").join(PROOF)).unwrap();
        assert!(!is_own(&at("copy")) && !delete(&at("copy")).unwrap());
        assert!(!delete(&at("precious")).unwrap());
        assert!(!delete_in(&at("copy"), "a").unwrap());
        // A link to one is none, and neither is a pipe in the place of the proof.
        symlink(&own, at("link")).unwrap();
        assert!(!is_own(&at("link")) && delete(&at("link")).is_err());
        fs::create_dir(at("pipe")).unwrap();
        nix::unistd::mkfifo(&at("pipe").join(PROOF), Mode::S_IRWXU).unwrap();
        assert!(!is_own(&at("pipe")));

        fs::create_dir(own.join("c")).unwrap();
        assert!(delete_in(&own, "c").unwrap() && !own.join("c").exists());
        let seen = fs::symlink_metadata(at("copy")).unwrap();
        assert!(delete_seen(&own, &seen).is_err());
        assert!(is_own(&own) && delete(&own).unwrap());
        assert!(!own.exists() && at("precious/photo").exists());
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
                // This file system does not keep the time.
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
