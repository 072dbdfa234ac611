//! Which of several programs is run in a project, once the user has chosen.
//!
//! The choice is kept outside of the project ([`state_directory`]), so that no file has to be
//! ignored there.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directory for what hotrun keeps for a user; `None` without a home directory.
pub(crate) fn state_directory() -> Option<PathBuf> {
    let of_user = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let of_user = of_user.filter(|path| path.is_absolute());
    let state = of_user.or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    Some(state.join("hotrun"))
}

/// A digest (FNV-1a) that is the same in each release of hotrun and of Rust.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The file that holds the choice for a project; `None` without a home directory.
fn file_of(directory: &Path) -> Option<PathBuf> {
    let hash = digest(directory.as_os_str().as_bytes());
    Some(state_directory()?.join(format!("choice.{hash:016x}")))
}

/// The command that was chosen for this project.
pub(super) fn remembered(directory: &Path) -> Option<String> {
    let bytes = std::fs::read(file_of(directory)?).ok()?;
    // Two directories may have the same hash.
    let command = bytes.strip_prefix(directory.as_os_str().as_bytes())?.strip_prefix(b"\0")?;
    String::from_utf8(command.to_vec()).ok()
}

/// Keeps the choice. Returns the file that holds it.
///
/// # Errors
///
/// The file cannot be written.
pub fn remember(directory: &Path, command: &str) -> io::Result<PathBuf> {
    let file = file_of(directory).ok_or_else(|| io::Error::other("no home directory"))?;
    if let Some(place) = file.parent() {
        std::fs::create_dir_all(place)?;
    }
    let content = [directory.as_os_str().as_bytes(), b"\0", command.as_bytes()].concat();
    std::fs::write(&file, content)?;
    Ok(file)
}
