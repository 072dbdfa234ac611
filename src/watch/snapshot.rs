//! What the files held before hotrun ran anything, so that a build that writes a file again as
//! it was is told from one that changes it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::clock::changed_at;
use super::content;
use crate::attribution::Content;
use crate::filter::Filter;

/// In a larger project, by the number of its files, no file is looked at.
const MOST_FILES: usize = 4096;
/// Reading takes no longer, however slow the file system is.
const MOST_TIME: Duration = Duration::from_millis(500);

/// The files that matter, as they were found.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    files: Vec<PathBuf>,
    is_too_much: bool,
}

impl Snapshot {
    pub(super) fn add(&mut self, files: Vec<PathBuf>) {
        self.is_too_much |= self.files.len() + files.len() > MOST_FILES;
        if self.is_too_much {
            self.files = Vec::new();
        } else {
            self.files.extend(files);
        }
    }

    /// What they held at that time; and whether every file is among them that was there.
    pub(super) fn take(
        self,
        filter: &Filter,
        began: SystemTime,
    ) -> (Vec<(PathBuf, Content)>, bool) {
        let started = Instant::now();
        let mut is_all = !self.is_too_much;
        let mut known = Vec::new();
        for path in self.files {
            if started.elapsed() > MOST_TIME {
                is_all = false;
                break;
            }
            if let Some(content) = content_before(&path, filter, began) {
                known.push((path, content));
            }
        }
        (known, is_all)
    }
}

/// What a file held then; `None`: it was not there.
fn content_before(path: &Path, filter: &Filter, began: SystemTime) -> Option<Content> {
    let is_older = |meta: &std::fs::Metadata| changed_at(meta).is_some_and(|at| at < began);
    let look = content::look(path, filter);
    let Ok(meta) = path.symlink_metadata() else { return None };
    if is_older(&meta) && look.changed.is_some_and(|at| at < began) {
        return Some(look.content);
    }
    let is_new = meta.created().is_ok_and(|at| at >= began);
    (!is_new).then_some(Content::Unknown)
}
