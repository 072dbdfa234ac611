//! Detects git operations, so that no half-finished checkout is built.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Interval between two polls of git's marks while a burst waits.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Maximum wait for git, in multiples of `watch.max_wait`.
const MAX_WAIT_FACTOR: u32 = 5;
/// Maximum age of the marks of an operation in progress. Older ones mean that it has stopped to let
/// the user resolve a conflict.
const MAX_STEP_AGE: Duration = Duration::from_secs(1);
/// Maximum number of files whose directories are checked.
const MAX_FILES: usize = 64;
/// Files and directories that git keeps during an operation of several steps.
const MARKS: [&str; 4] = ["rebase-merge", "rebase-apply", "sequencer", "MERGE_HEAD"];

/// The wait of a burst for git.
#[derive(Debug, Default)]
pub(super) struct Git {
    /// The git directories of all repositories around a directory.
    known: HashMap<PathBuf, Vec<PathBuf>>,
    next_look: Option<Instant>,
    /// Whether the last poll found git at rest. Events of its last writes may still be pending.
    is_at_rest: bool,
}

impl Git {
    /// Returns when to poll again, if a burst waits.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Returns true if this burst, which would be over, is to wait. It began at `first`.
    pub(super) fn holds<'a>(
        &mut self,
        paths: impl Iterator<Item = &'a Path>,
        (first, now): (Instant, Instant),
        max_wait: Duration,
    ) -> bool {
        let most = max_wait * MAX_WAIT_FACTOR;
        let is_busy = now < first + most && self.is_busy(paths, most);
        let was_held = self.next_look.is_some();
        let goes_on = is_busy || was_held && !self.is_at_rest && now < first + most;
        self.is_at_rest = !is_busy;
        self.next_look = goes_on.then(|| now + POLL_INTERVAL);
        if !goes_on {
            self.known.clear();
            self.is_at_rest = false;
        }
        goes_on
    }

    fn is_busy<'a>(&mut self, paths: impl Iterator<Item = &'a Path>, oldest: Duration) -> bool {
        let directories: BTreeSet<&Path> = paths.filter_map(Path::parent).take(MAX_FILES).collect();
        directories.into_iter().any(|directory| {
            let repositories = self
                .known
                .entry(directory.to_owned())
                .or_insert_with(|| directory.ancestors().filter_map(git_directory).collect());
            repositories.iter().any(|git| is_at_work(git, oldest))
        })
    }
}

/// Returns true during a git operation. An older lock was left by a git process that has died.
fn is_at_work(git: &Path, oldest: Duration) -> bool {
    age(&git.join("index.lock")).is_some_and(|age| age < oldest)
        || MARKS.iter().any(|mark| age(&git.join(mark)).is_some_and(|age| age < MAX_STEP_AGE))
}

fn age(path: &Path) -> Option<Duration> {
    let modified = path.symlink_metadata().and_then(|meta| meta.modified()).ok()?;
    // A timestamp in the future counts as now.
    Some(SystemTime::now().duration_since(modified).unwrap_or_default())
}

/// Returns the git directory of the work tree with this top directory. In a worktree or a
/// submodule, `.git` is a file that names it.
fn git_directory(top: &Path) -> Option<PathBuf> {
    let git = top.join(".git");
    let meta = git.symlink_metadata().ok()?;
    if !meta.is_file() {
        return Some(git);
    }
    let text = std::fs::read_to_string(&git).ok()?;
    let named = text.lines().next()?.strip_prefix("gitdir:")?.trim();
    Some(top.join(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_WAIT: Duration = Duration::from_secs(2);

    fn holds(git: &mut Git, file: &Path) -> bool {
        let now = Instant::now();
        git.holds([file].into_iter(), (now, now), MAX_WAIT)
    }

    #[test]
    fn a_burst_waits_while_git_has_its_lock_in_the_tree_a_worktree_or_around_a_submodule() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        for directory in [".git/worktrees/w", ".git/modules/s", "w/src", "s/src", "src"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        let w = format!("gitdir: {}\n", root.join(".git/worktrees/w").display());
        std::fs::write(root.join("w/.git"), w).unwrap();
        std::fs::write(root.join("s/.git"), "gitdir: ../.git/modules/s\n").unwrap();
        let lock = |git: &str| root.join(git).join("index.lock");
        for (file, git) in [
            ("src/a", ".git"),
            ("w/src/a", ".git/worktrees/w"),
            ("s/src/a", ".git/modules/s"),
            ("s/src/a", ".git"),
        ] {
            let mut one = Git::default();
            let file = root.join(file);
            assert!(!holds(&mut one, &file), "{git}");
            std::fs::write(lock(git), "").unwrap();
            assert!(holds(&mut one, &file), "{git}");
            std::fs::remove_file(lock(git)).unwrap();
            assert!(holds(&mut one, &file), "{git}: for what is still on its way");
            assert!(!holds(&mut one, &file), "{git}");
        }
        std::fs::write(lock(".git/worktrees/w"), "").unwrap();
        assert!(!holds(&mut Git::default(), &root.join("src/a")), "another work tree's lock");
    }

    #[test]
    fn no_burst_waits_for_a_lock_that_was_left_behind_or_for_a_conflict_to_be_resolved() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        std::fs::create_dir_all(root.join(".git/rebase-merge")).unwrap();
        let file = root.join("a");
        assert!(holds(&mut Git::default(), &file), "between two steps");
        let old = SystemTime::now() - Duration::from_secs(11);
        for name in ["rebase-merge", "index.lock"] {
            let path = root.join(".git").join(name);
            if name == "index.lock" {
                std::fs::write(&path, "").unwrap();
            }
            std::fs::File::open(&path).unwrap().set_modified(old).unwrap();
            assert!(!holds(&mut Git::default(), &file), "{name}");
        }
        std::fs::remove_file(root.join(".git/index.lock")).unwrap();
        std::fs::write(root.join(".git/index.lock"), "").unwrap();
        let now = Instant::now();
        let first = now.checked_sub(MAX_WAIT * 5).unwrap();
        let paths = [file.as_path()].into_iter();
        assert!(!Git::default().holds(paths, (first, now), MAX_WAIT), "longer than it may");
    }
}
