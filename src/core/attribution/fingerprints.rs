//! Which saved files hold what they held for the last build.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::Content;

/// What files held for the last build that finished (air's `exclude_unchanged`). Covers only files
/// that were saved since hotrun started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fingerprints {
    built: HashMap<PathBuf, Content>,
    /// Saved, but not yet in a finished build.
    since: HashMap<PathBuf, Content>,
}

impl Fingerprints {
    /// Returns true if a saved file holds what it held for the last finished build, and has held
    /// nothing else in between. Returns false while a build with another content of it is running.
    /// `contents`: what it held at each completed write of the burst, in this order.
    pub(crate) fn is_unchanged(&mut self, path: &Path, contents: &[Content]) -> bool {
        let last = contents.last().copied().unwrap_or(Content::Unknown);
        // A build may have read other contents in between.
        let is_one = contents.iter().all(|content| content.is(last));
        let now = if is_one { last } else { Content::Unknown };
        let is_a_file = matches!(now, Content::Hash(_));
        let same = is_a_file && self.built.get(path) == Some(&now);
        if same && !self.since.contains_key(path) {
            return true;
        }
        self.since.insert(path.to_owned(), now);
        false
    }

    /// Records that a build finished.
    pub(crate) fn build_ended(&mut self) {
        let since = self.since.drain();
        let (gone, there): (Vec<_>, Vec<_>) =
            since.partition(|(_, content)| *content == Content::Absent);
        // As for a file that was never built, whatever it holds next is a change. A deleted
        // directory is reported in place of its files.
        let unknown = gone.into_iter().map(|(path, _)| path);
        let unknown: HashSet<PathBuf> =
            unknown.filter(|path| self.built.remove(path).is_none()).collect();
        if !unknown.is_empty() {
            self.built.retain(|path, _| !path.ancestors().any(|one| unknown.contains(one)));
        }
        self.built.extend(there);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Content = Content::Hash(1);
    const TWO: Content = Content::Hash(2);

    /// Saves a file several times, and checks whether it counts as unchanged. A build ends after
    /// each of these saves, except those "while building".
    #[track_caller]
    fn check(saves: &[(&str, &[Content], bool)]) {
        let mut files = Fingerprints::default();
        for (number, (name, contents, expected)) in saves.iter().enumerate() {
            let found = files.is_unchanged(Path::new("main.go"), contents);
            assert_eq!(found, *expected, "{number}: {name}");
            if *name != "while building" {
                files.build_ended();
            }
        }
    }

    #[test]
    fn files_of_deleted_directories_are_forgotten() {
        let mut files = Fingerprints::default();
        for number in 0..100 {
            let directory = format!("made{number}");
            files.is_unchanged(Path::new(&format!("{directory}/file")), &[ONE]);
            files.build_ended();
            files.is_unchanged(Path::new(&directory), &[Content::Absent]);
            files.build_ended();
        }
        assert_eq!(files.built.len(), 0);
    }

    #[test]
    fn a_file_is_unchanged_that_holds_what_was_built_last() {
        check(&[("nothing is known of it", &[ONE], false), ("as built", &[ONE], true)]);
        check(&[("first", &[ONE], false), ("another", &[TWO], false), ("back", &[ONE], false)]);
    }

    #[test]
    fn a_file_that_was_another_while_a_build_ran_is_not_unchanged() {
        check(&[
            ("first", &[ONE], false),
            ("while building", &[TWO], false),
            ("as it was, and only then a build ends", &[ONE], false),
            ("as built", &[ONE], true),
        ]);
    }

    #[test]
    fn a_deleted_file_is_not_unchanged_and_neither_is_one_that_returns() {
        check(&[
            ("first", &[ONE], false),
            ("deleted", &[Content::Absent], false),
            ("deleted again", &[Content::Absent], false),
            ("and back", &[ONE], false),
        ]);
    }

    #[test]
    fn what_a_file_held_within_the_burst_counts() {
        check(&[
            ("first", &[ONE], false),
            ("there and back", &[TWO, ONE], false),
            ("it is not known what the build has read", &[ONE], false),
            ("twice the same", &[ONE, ONE], true),
            ("not read", &[Content::Unknown], false),
            ("nothing was observed", &[], false),
        ]);
    }

    #[test]
    fn files_that_come_and_go_under_new_names_do_not_accumulate() {
        let mut files = Fingerprints::default();
        for number in 0..10 {
            let path = PathBuf::from(format!("made{number}"));
            assert!(!files.is_unchanged(&path, &[ONE]));
            assert!(!files.is_unchanged(&path, &[Content::Absent]));
            files.build_ended();
        }
        assert!(files.built.is_empty() && files.since.is_empty());
    }
}
