//! Reads the content of files as far as it is needed to detect a change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::clock::changed_at;
use crate::attribution::Content;
use crate::filter::Filter;

/// Maximum size of a file that is read, in bytes. For a larger one, metadata stands for its
/// content.
const MAX_READ: u64 = 8 << 20;

/// The state of a file when it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) content: Content,
    /// The time of its last change.
    pub(super) changed: Option<SystemTime>,
}

impl Look {
    /// Nothing is known of the file.
    pub(super) const NONE: Self = Self { content: Content::Unknown, changed: None };
}

/// Reads the state of a file. A trigger file has another content after each touch.
pub(super) fn look(path: &Path, filter: &Filter) -> Look {
    let Ok(meta) = path.metadata() else {
        return Look { content: Content::Absent, changed: None };
    };
    let changed = changed_at(&meta);
    if !meta.is_file() {
        return Look { content: Content::Unknown, changed };
    }
    let mut hasher = DefaultHasher::new();
    if meta.len() > MAX_READ || filter.is_trigger(path) {
        // Two files that were written in the same tick of the clock have the same times.
        (meta.dev(), meta.ino(), meta.len()).hash(&mut hasher);
        (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()).hash(&mut hasher);
        return Look { content: Content::Hash(hasher.finish()), changed };
    }
    // The file may have grown since.
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(MAX_READ).read_to_end(&mut bytes));
    let content = match read {
        Ok(_) => {
            bytes.hash(&mut hasher);
            Content::Hash(hasher.finish())
        }
        Err(_) => Content::Unknown,
    };
    Look { content, changed }
}
