//! The content of files before hotrun started anything. It shows whether a build that writes a file
//! changes it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::clock::changed_at;
use super::content::{self, Depth};
use crate::core::attribution::Content;
use crate::filter::Filter;

/// Maximum number of files in a project; in a larger one, no file is read.
const MAX_FILES: usize = 4096;
/// Maximum time for reading, however slow the file system is.
const READ_TIMEOUT: Duration = Duration::from_millis(500);

/// The files that matter, as found by the first walk.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    files: Vec<PathBuf>,
    is_too_much: bool,
}

impl Snapshot {
    pub(super) fn add(&mut self, files: Vec<PathBuf>) {
        self.is_too_much |= self.files.len() + files.len() > MAX_FILES;
        if self.is_too_much {
            self.files = Vec::new();
        } else {
            self.files.extend(files);
        }
    }

    /// Returns what they held at that time, and whether every file that existed is included.
    pub(super) fn take(
        self,
        filter: &Filter,
        began: SystemTime,
    ) -> (Vec<(PathBuf, Content)>, bool) {
        let started = Instant::now();
        let mut is_all = !self.is_too_much;
        let mut known = Vec::new();
        for path in self.files {
            if started.elapsed() > READ_TIMEOUT {
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

/// Returns what a file held at that time; `None` if it did not exist.
fn content_before(path: &Path, filter: &Filter, began: SystemTime) -> Option<Content> {
    let is_older = |meta: &std::fs::Metadata| changed_at(meta).is_some_and(|at| at < began);
    let look = content::look(path, filter, Depth::Content);
    let Ok(meta) = path.symlink_metadata() else { return None };
    if is_older(&meta) && look.changed.is_some_and(|at| at < began) {
        return Some(look.content);
    }
    let is_new = meta.created().is_ok_and(|at| at >= began);
    (!is_new).then_some(Content::Unknown)
}
