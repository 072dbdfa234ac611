//! `.gitignore`, `.ignore`, `info/exclude` and the global excludes, as read from disk. The `ignore`
//! crate interprets the patterns.
//!
//! A [`Scope`] is kept for each directory that has such files or is the top of a repository. Scopes
//! are linked upwards and immutable, so several threads may walk with them. When one of the files
//! changes, all are read again.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder, gitconfig_excludes_path};

const IGNORE: &str = ".ignore";
const GITIGNORE: &str = ".gitignore";
const GIT: &str = ".git";

/// The patterns for one directory, and those above it.
#[derive(Debug)]
pub(super) struct Scope {
    directory: PathBuf,
    ignore: Option<Gitignore>,
    gitignore: Option<Gitignore>,
    /// Present at the top of a repository.
    top: Option<Top>,
    above: Option<Arc<Scope>>,
}

/// The top of a repository, above which its `.gitignore` files are not searched.
#[derive(Debug)]
struct Top {
    exclude: Option<Gitignore>,
    /// The user's global patterns, for all repositories.
    global: Option<Gitignore>,
}

impl Scope {
    /// Reads the patterns of a directory that contains these names; `None` if it has none.
    pub(super) fn read(
        directory: &Path,
        names: impl Fn(&OsStr) -> bool,
        above: Option<&Arc<Scope>>,
    ) -> Option<Arc<Scope>> {
        let has = |name: &str| names(OsStr::new(name));
        let file = |name: &str| has(name).then(|| read(directory, &directory.join(name))).flatten();
        let (ignore, gitignore) = (file(IGNORE), file(GITIGNORE));
        let top = has(GIT).then(|| Top::read(directory)).flatten();
        if ignore.is_none() && gitignore.is_none() && top.is_none() {
            return None;
        }
        let above = above.cloned();
        Some(Arc::new(Scope { directory: directory.to_owned(), ignore, gitignore, top, above }))
    }

    /// Returns true if this path, which lies below, is ignored. The nearest file with a matching
    /// pattern decides. Any `.ignore` overrides any `.gitignore`, and both override the excludes of
    /// the whole repository.
    pub(super) fn ignores(&self, path: &Path, is_directory: bool) -> bool {
        let scopes = || std::iter::successors(Some(self), |scope| scope.above.as_deref());
        // The files of a directory apply to what is in it.
        let around = || scopes().filter(|scope| scope.is_above(path));
        let mut verdicts = around().filter_map(|scope| scope.ignore.as_ref());
        if let Some(verdict) = verdicts.find_map(|one| matched(one, path, is_directory)) {
            return verdict;
        }
        for scope in around() {
            if let Some(verdict) =
                scope.gitignore.as_ref().and_then(|one| matched(one, path, is_directory))
            {
                return verdict;
            }
            let Some(top) = &scope.top else { continue };
            let mut whole = [&top.exclude, &top.global].into_iter().flatten();
            return whole.find_map(|one| matched(one, path, is_directory)) == Some(true);
        }
        false
    }

    fn is_above(&self, path: &Path) -> bool {
        path != self.directory && path.starts_with(&self.directory)
    }
}

impl Top {
    /// Returns `None` if `.git` is something else.
    fn read(directory: &Path) -> Option<Self> {
        let exclude = exclude_file(directory)?;
        let global = gitconfig_excludes_path().and_then(|file| read(directory, &file));
        Some(Self { exclude: read(directory, &exclude), global })
    }
}

/// Reads a file of patterns that are relative to this directory; `None` if there are none.
fn read(directory: &Path, file: &Path) -> Option<Gitignore> {
    if !file.is_file() {
        return None;
    }
    let mut builder = GitignoreBuilder::new(directory);
    if let Some(error) = builder.add(file) {
        tracing::warn!(%error, "cannot read all of {}", file.display());
    }
    let built = builder.build().inspect_err(|error| tracing::warn!(%error, "{}", file.display()));
    built.ok().filter(|patterns| !patterns.is_empty())
}

/// Returns what these patterns decide about a path. Whitelisting a directory does not whitelist its
/// contents, which other patterns may still ignore.
fn matched(patterns: &Gitignore, path: &Path, is_directory: bool) -> Option<bool> {
    match patterns.matched_path_or_any_parents(path, is_directory) {
        Match::Ignore(_) => Some(true),
        Match::Whitelist(_) => patterns.matched(path, is_directory).is_whitelist().then_some(false),
        Match::None => None,
    }
}

/// Returns the path of a repository's `info/exclude`. A worktree uses the one of its main
/// repository.
fn exclude_file(top: &Path) -> Option<PathBuf> {
    let git = top.join(GIT);
    let meta = git.metadata().ok()?;
    let directory = if meta.is_dir() {
        git
    } else {
        let text = std::fs::read_to_string(&git).ok()?;
        let written = text.strip_prefix("gitdir:")?.trim();
        let directory = top.join(written);
        match std::fs::read_to_string(directory.join("commondir")) {
            Ok(common) => directory.join(common.trim()),
            Err(_) => directory,
        }
    };
    Some(directory.join("info/exclude"))
}

/// The patterns read so far.
#[derive(Debug)]
pub(super) struct Ignores {
    enabled: bool,
    /// Scopes by directory. The key is text, since hashing a path part by part is slow.
    scopes: HashMap<OsString, Arc<Scope>>,
    /// Pattern files outside of the tree.
    outside: Vec<PathBuf>,
}

impl Ignores {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, scopes: HashMap::new(), outside: Vec::new() }
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Reads the patterns above a root, up to the top of its repository.
    pub(super) fn read_above(&mut self, root: &Path) {
        if !self.enabled {
            return;
        }
        let Some(top) = root.ancestors().find(|place| place.join(GIT).exists()) else { return };
        let mut above: Vec<&Path> =
            root.ancestors().skip(1).take_while(|place| place.starts_with(top)).collect();
        above.reverse();
        for directory in above {
            self.keep_outside([IGNORE, GITIGNORE].map(|name| directory.join(name)));
            let has = |name: &OsStr| directory.join(name).exists();
            let scope = Scope::read(directory, has, self.around(directory));
            self.keep(scope);
        }
    }

    /// Keeps the patterns of a directory.
    pub(super) fn keep(&mut self, scope: Option<Arc<Scope>>) {
        let Some(scope) = scope else { return };
        if scope.top.is_some() {
            let whole = [exclude_file(&scope.directory), gitconfig_excludes_path()];
            self.keep_outside(whole.into_iter().flatten());
        }
        self.scopes.insert(scope.directory.clone().into(), scope);
    }

    fn keep_outside(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        for file in files {
            if !self.outside.contains(&file) {
                self.outside.push(file);
            }
        }
    }

    /// Returns the scope that applies to this directory.
    pub(super) fn around(&self, directory: &Path) -> Option<&Arc<Scope>> {
        if self.scopes.is_empty() {
            return None;
        }
        directory.ancestors().skip(1).find_map(|place| self.scopes.get(place.as_os_str()))
    }

    /// Returns true for a file whose change affects what is ignored.
    pub(super) fn depends_on(&self, path: &Path) -> bool {
        let is_one = |name: &OsStr| [IGNORE, GITIGNORE, GIT].iter().any(|one| name == *one);
        self.enabled
            && (path.file_name().is_some_and(is_one)
                || self.outside.iter().any(|one| one.as_os_str() == path.as_os_str()))
    }

    /// Returns pattern files outside of the tree, whether they exist or not.
    pub(super) fn outside(&self) -> &[PathBuf] {
        &self.outside
    }
}

/// Returns true if one of these names is a pattern file, or marks a repository.
pub(super) fn says_something(names: &[OsString]) -> bool {
    names.iter().any(|name| [IGNORE, GITIGNORE, GIT].iter().any(|one| name == *one))
}
