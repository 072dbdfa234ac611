//! Is git at work on these files? What it has written half is not built.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The pause between two looks at git's own marks, while a burst waits for it.
const PAUSE: Duration = Duration::from_millis(10);
/// Longest wait, in multiples of `watch.max_wait`.
const MOST_WAIT: u32 = 5;
/// An operation of several steps marks its steps at least this often, unless it has stopped to
/// let somebody resolve a conflict.
const STEP: Duration = Duration::from_secs(1);
/// The directories of no more files are looked at.
const MOST_DIRECTORIES: usize = 64;
/// What git keeps in its directory during an operation of several steps.
const MARKS: [&str; 4] = ["rebase-merge", "rebase-apply", "sequencer", "MERGE_HEAD"];

/// A burst that waits for git.
#[derive(Debug, Default)]
pub(super) struct Git {
    /// By directory: the directories of git's that belong to the repositories around it.
    known: HashMap<PathBuf, Vec<PathBuf>>,
    next_look: Option<Instant>,
    /// The last look found git at rest: the events of its last writes may still be on their way.
    is_at_rest: bool,
}

impl Git {
    /// When to look again, if a burst waits.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// True if this burst, which would be over, is to wait; it has lasted since `first`.
    pub(super) fn holds<'a>(
        &mut self,
        paths: impl Iterator<Item = &'a Path>,
        (first, now): (Instant, Instant),
        max_wait: Duration,
    ) -> bool {
        let most = max_wait * MOST_WAIT;
        let is_busy = now < first + most && self.is_busy(paths, most);
        let was_held = self.next_look.is_some();
        let goes_on = is_busy || was_held && !self.is_at_rest && now < first + most;
        self.is_at_rest = !is_busy;
        self.next_look = goes_on.then(|| now + PAUSE);
        if !goes_on {
            self.known.clear();
            self.is_at_rest = false;
        }
        goes_on
    }

    fn is_busy<'a>(&mut self, paths: impl Iterator<Item = &'a Path>, oldest: Duration) -> bool {
        let directories: BTreeSet<&Path> =
            paths.filter_map(Path::parent).take(MOST_DIRECTORIES).collect();
        directories.into_iter().any(|directory| {
            let repositories = self
                .known
                .entry(directory.to_owned())
                .or_insert_with(|| directory.ancestors().filter_map(git_directory).collect());
            repositories.iter().any(|git| is_at_work(git, oldest))
        })
    }
}

/// A lock that is older was left behind by a git that has died.
fn is_at_work(git: &Path, oldest: Duration) -> bool {
    age(&git.join("index.lock")).is_some_and(|age| age < oldest)
        || MARKS.iter().any(|mark| age(&git.join(mark)).is_some_and(|age| age < STEP))
}

fn age(path: &Path) -> Option<Duration> {
    let modified = path.symlink_metadata().and_then(|meta| meta.modified()).ok()?;
    // A stamp from the future is one of just now.
    Some(SystemTime::now().duration_since(modified).unwrap_or_default())
}

/// The directory in which git keeps what belongs to the work tree whose top this is. (In a
/// worktree or a submodule `.git` is a file that names it.)
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
