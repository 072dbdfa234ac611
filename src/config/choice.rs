//! Which of several programs is run in a project, once the user has chosen.
//!
//! The choice is kept outside of the project (`$XDG_STATE_HOME/hotrun`), so that no file has to be
//! ignored there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

/// The file that holds the choice for a project; `None` without a home directory.
fn file_of(directory: &Path) -> Option<PathBuf> {
    let of_user = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let of_user = of_user.filter(|path| path.is_absolute());
    let state = of_user.or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    let mut hasher = DefaultHasher::new();
    directory.hash(&mut hasher);
    Some(state.join("hotrun").join(format!("choice.{:016x}", hasher.finish())))
}

/// The command that was chosen for this project.
pub(super) fn remembered(directory: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file_of(directory)?).ok()?;
    let (project, command) = text.split_once('\n')?;
    // Two directories may have the same hash.
    (Path::new(project) == directory).then(|| command.trim_end().to_owned())
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
    std::fs::write(&file, format!("{}\n{command}\n", directory.display()))?;
    Ok(file)
}
