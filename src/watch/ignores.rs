//! `.gitignore`, `.ignore`, `.git/info/exclude` and the global excludes, as they lie on
//! disk. What the patterns mean is the `ignore` crate's business.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The files that ignoring depends on. `.ignore` beats `.gitignore` in the same directory.
const NAMES: [&str; 2] = [".ignore", ".gitignore"];

/// What has been read so far.
pub(super) struct Ignores {
    enabled: bool,
    /// By directory, in the order of [`NAMES`].
    files: HashMap<PathBuf, Vec<Gitignore>>,
    /// Of the whole repository, then of the whole machine.
    global: Vec<Gitignore>,
}

impl Ignores {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, files: HashMap::new(), global: Vec::new() }
    }

    /// Reads what lies above a root, up to the top of its repository.
    pub(super) fn read_above(&mut self, root: &Path) {
        if !self.enabled {
            return;
        }
        let Some(top) = root.ancestors().find(|place| place.join(".git").exists()) else { return };
        for directory in root.ancestors().skip(1).take_while(|place| place.starts_with(top)) {
            self.read(directory);
        }
        let mut exclude = GitignoreBuilder::new(top);
        if exclude.add(top.join(".git/info/exclude")).is_none()
            && let Ok(exclude) = exclude.build()
        {
            self.global.push(exclude);
        }
        self.global.push(GitignoreBuilder::new(top).build_global().0);
    }

    /// Reads the files of a directory, if they are not known yet.
    pub(super) fn read(&mut self, directory: &Path) {
        if !self.enabled || self.files.contains_key(directory) {
            return;
        }
        let mut found = Vec::new();
        for name in NAMES {
            let file = directory.join(name);
            if !file.is_file() {
                continue;
            }
            let mut builder = GitignoreBuilder::new(directory);
            if let Some(error) = builder.add(&file) {
                tracing::warn!(%error, "cannot read all of {}", file.display());
            }
            match builder.build() {
                Ok(matcher) => found.push(matcher),
                Err(error) => tracing::warn!(%error, "{}", file.display()),
            }
        }
        if !found.is_empty() {
            self.files.insert(directory.to_owned(), found);
        }
    }

    /// True for a file whose change changes what is ignored.
    pub(super) fn depends_on(&self, path: &Path) -> bool {
        self.enabled && NAMES.iter().any(|name| path.file_name() == Some(name.as_ref()))
    }

    /// Is the path ignored? The nearest file that says something decides.
    pub(super) fn ignore(&self, path: &Path, is_directory: bool) -> bool {
        if !self.enabled {
            return false;
        }
        let nearest = path.ancestors().skip(1).filter_map(|place| self.files.get(place));
        for matcher in nearest.flatten().chain(&self.global) {
            if matcher.is_empty() || !path.starts_with(matcher.path()) {
                continue;
            }
            match matcher.matched_path_or_any_parents(path, is_directory) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        false
    }
}
