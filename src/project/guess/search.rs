//! The search path, and the directories of programs that a project has installed for itself.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// Where virtual environments keep their programs.
const ENVIRONMENTS: [&str; 3] = [".venv/bin", "venv/bin", "env/bin"];
/// Where Node's package managers keep programs.
const PACKAGES: &str = "node_modules/.bin";

/// The directories of programs that a project may have installed for itself, up to the root of its
/// repository, the nearest first. They need not exist.
///
/// A virtual environment that the user has activated is on the search path already, and takes
/// precedence.
pub fn own_directories(directory: &Path) -> Vec<PathBuf> {
    let is_root = |place: &Path| place.join(".git").exists();
    let above: Vec<&Path> = match directory.ancestors().position(is_root) {
        Some(depth) => directory.ancestors().take(depth + 1).collect(),
        None => vec![directory],
    };
    let is_activated = std::env::var_os("VIRTUAL_ENV").is_some_and(|place| !place.is_empty());
    let environments = || ENVIRONMENTS.iter().filter(move |_| !is_activated).copied();
    let below = |place: &&Path| {
        let place = place.to_path_buf();
        environments().chain([PACKAGES]).map(move |name| place.join(name)).collect::<Vec<_>>()
    };
    above.iter().flat_map(below).collect()
}

/// Returns the directories that exist.
pub fn existing(own: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    // (Other directories are called `env`, too.)
    own.iter().filter(|place| {
        place.is_dir() && (place.ends_with(PACKAGES) || place.join("python").exists())
    })
}

/// Those of these directories that exist, and then the search path of hotrun. `None` if none exists.
pub fn extended(own: &[PathBuf]) -> Option<OsString> {
    existing(own).next()?;
    let path = of_hotrun();
    let others: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // A directory with a colon in its name cannot be on a search path.
    std::env::join_paths(existing(own).chain(&others)).ok()
}

/// Returns the search path with those of these directories that exist in front.
pub fn path_with(own: &[PathBuf]) -> OsString {
    extended(own).unwrap_or_else(of_hotrun)
}

/// Returns the search path for what is run in this directory.
pub fn path(directory: &Path) -> OsString {
    path_with(&own_directories(directory))
}

fn of_hotrun() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The executable of this name on the search path of hotrun, or at this path.
pub fn on_path(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    found_in(&of_hotrun(), name.as_ref())
}

/// The executable of this name on a search path, or at this path.
pub fn found_in(path: &OsStr, name: &OsStr) -> Option<PathBuf> {
    found_from(Path::new(""), path, name)
}

/// The same for a process that runs in this directory: relative paths start there.
pub fn found_from(directory: &Path, path: &OsStr, name: &OsStr) -> Option<PathBuf> {
    let is_executable = |file: &PathBuf| file.is_file() && access(file, AccessFlags::X_OK).is_ok();
    if name.as_bytes().contains(&b'/') {
        return Some(directory.join(name)).filter(is_executable);
    }
    std::env::split_paths(path).map(|place| directory.join(place).join(name)).find(is_executable)
}

/// The program on this search path whose name is most like this one.
pub fn nearest(path: &OsStr, name: &str) -> Option<String> {
    let entries = std::env::split_paths(path)
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flatten()
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let distances = names.map(|one| (strsim::osa_distance(name, &one), one));
    let max = if name.len() > 4 { 2 } else { 1 };
    distances.filter(|(distance, _)| *distance <= max).min().map(|(_, name)| name)
}
