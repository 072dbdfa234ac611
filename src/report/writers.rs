//! Lines about who writes which files.

use std::path::PathBuf;
use std::time::Duration;

use super::{Part, Report, Tone};
use crate::event::name_paths;

impl Report {
    pub(super) fn finishing(&self, paths: &[PathBuf]) {
        let names = name_paths(paths, &self.base);
        let text = format!("{names}; the running build is finished first, then a newer one");
        self.line(Part::Watcher, Tone::Plain, "saved", &text);
    }

    pub(super) fn outputs(&self, paths: &[PathBuf]) {
        let names = name_paths(paths, &self.base);
        let text = format!("{names}: written by the build, so its changes start none");
        self.line(Part::Watcher, Tone::Plain, "output", &text);
    }

    pub(super) fn own_writes(&self, paths: &[PathBuf]) {
        let names = name_paths(paths, &self.base);
        let first = name_paths(&paths[..paths.len().min(1)], &self.base);
        let text = format!(
            "{names} is written by the program itself and would restart it again and again, so \
             such writes are ignored; to exclude it: [watch] exclude = [{first:?}], or \
             exclude_regex in its rule"
        );
        self.line(Part::Main, Tone::Warn, "note", &text);
    }

    pub(super) fn changes_in_builds(&self, paths: &[PathBuf], pause: Duration) {
        let names = name_paths(paths, &self.base);
        let text = format!("{names} changes each time the build runs; next build in {pause:?}");
        self.line(Part::Main, Tone::Warn, "note", &text);
    }
}
