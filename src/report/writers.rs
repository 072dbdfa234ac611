//! Lines about the processes that write files.

use std::path::PathBuf;
use std::time::Duration;

use super::{Part, Report, Tone, duration};
use crate::event::{Notice, name_paths};

impl Report {
    pub(super) fn about_writers(&self, notice: &Notice) {
        match notice {
            Notice::Finishing(paths) => self.finishing(paths),
            Notice::Outputs(paths) => self.outputs(paths),
            Notice::Late(paths, pause) => self.late(paths, *pause),
            Notice::OwnWrites(paths) => self.own_writes(paths),
            Notice::ChangesInBuilds(paths, pause) => self.changes_in_builds(paths, *pause),
            Notice::Testing(saved, paths, pause) => self.testing(saved, paths, *pause),
            _ => {}
        }
    }

    fn finishing(&self, paths: &[PathBuf]) {
        let names = name_paths(paths, &self.base);
        let text =
            format!("{names}; finishing the running build first, the next one includes this");
        self.line(Part::Watcher, Tone::Plain, "saved", &text);
    }

    fn outputs(&self, paths: &[PathBuf]) {
        let names = name_paths(paths, &self.base);
        let text =
            format!("{names}: written by the build; changes during a build do not start another");
        self.line(Part::Watcher, Tone::Plain, "output", &text);
    }

    fn late(&self, paths: &[PathBuf], pause: Duration) {
        let names = name_paths(paths, &self.base);
        let text =
            format!("{names}, perhaps by the program itself; acted on in {}", duration(pause));
        self.line(Part::Watcher, Tone::Plain, "changed", &text);
    }

    fn own_writes(&self, paths: &[PathBuf]) {
        let names = name_paths(paths, &self.base);
        let first = name_paths(&paths[..paths.len().min(1)], &self.base);
        let text = format!(
            "the program itself writes {names}, and would restart forever, so these writes are \
             ignored; to exclude the file: [watch] exclude = [{first:?}], or exclude_regex in the \
             rule"
        );
        self.line(Part::Main, Tone::Warn, "note", &text);
    }

    fn testing(&self, saved: &[PathBuf], paths: &[PathBuf], pause: Duration) {
        let [saved, names] = [saved, paths].map(|paths| name_paths(paths, &self.base));
        let text = format!(
            "{saved}; building in {}, to see whether the build writes {names}",
            duration(pause)
        );
        self.line(Part::Watcher, Tone::Plain, "saved", &text);
    }

    fn changes_in_builds(&self, paths: &[PathBuf], pause: Duration) {
        let names = name_paths(paths, &self.base);
        let text = format!(
            "{names} changed during the build, as in the builds before; next build in {}",
            duration(pause)
        );
        self.line(Part::Main, Tone::Warn, "note", &text);
    }
}
