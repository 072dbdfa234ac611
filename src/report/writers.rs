//! Lines about who writes which files.

use std::path::PathBuf;
use std::time::Duration;

use super::{Part, Report, Tone};
use crate::event::name_paths;

impl Report {
    pub(super) fn finishing(&self, paths: &[PathBuf]) {
        let names = name_paths(paths, &self.base);
        let text =
            format!("{names}; the running build is finished first, the next one includes this");
        self.line(Part::Watcher, Tone::Plain, "saved", &text);
    }

    pub(super) fn outputs(&self, paths: &[PathBuf]) {
        let names = name_paths(paths, &self.base);
        let text =
            format!("{names}: written by the build; changes during a build do not start another");
        self.line(Part::Watcher, Tone::Plain, "output", &text);
    }

    pub(super) fn late(&self, paths: &[PathBuf], pause: Duration) {
        let names = name_paths(paths, &self.base);
        let text = format!("{names}, perhaps by the program itself; acted on in {pause:.1?}");
        self.line(Part::Watcher, Tone::Plain, "changed", &text);
    }

    pub(super) fn own_writes(&self, paths: &[PathBuf]) {
        let names = name_paths(paths, &self.base);
        let first = name_paths(&paths[..paths.len().min(1)], &self.base);
        let text = format!(
            "{names} is written by the program itself, which would restart forever, so these \
             writes are ignored; to exclude: [watch] exclude = [{first:?}], or exclude_regex in \
             the rule"
        );
        self.line(Part::Main, Tone::Warn, "note", &text);
    }

    pub(super) fn testing(&self, saved: &[PathBuf], paths: &[PathBuf], pause: Duration) {
        let [saved, names] = [saved, paths].map(|paths| name_paths(paths, &self.base));
        let text =
            format!("{saved}; building in {pause:.1?}, to see whether the build writes {names}");
        self.line(Part::Watcher, Tone::Plain, "saved", &text);
    }

    pub(super) fn changes_in_builds(&self, paths: &[PathBuf], pause: Duration) {
        let names = name_paths(paths, &self.base);
        let text = format!(
            "{names} changed during the build, as in the builds before; next build in {pause:?}"
        );
        self.line(Part::Main, Tone::Warn, "note", &text);
    }
}
