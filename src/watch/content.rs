//! What a file holds, as far as it must be told from another content.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::clock::changed_at;
use crate::attribution::Content;
use crate::filter::Filter;

/// Of a larger file, in bytes, size and time stand for the content.
const MOST_READ: u64 = 8 << 20;

/// A look at a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) content: Content,
    /// When it had last been changed then.
    pub(super) changed: Option<SystemTime>,
}

impl Look {
    /// Nothing is known of it.
    pub(super) const NONE: Self = Self { content: Content::Unknown, changed: None };
}

/// Looks at a file. One whose mere touch is a save is never the same after one.
pub(super) fn look(path: &Path, filter: &Filter) -> Look {
    let Ok(meta) = path.metadata() else {
        return Look { content: Content::Absent, changed: None };
    };
    let changed = changed_at(&meta);
    if !meta.is_file() {
        return Look { content: Content::Unknown, changed };
    }
    let mut hasher = DefaultHasher::new();
    if meta.len() > MOST_READ || filter.is_trigger(path) {
        // Two files that were written in one tick of the clock have the same times.
        (meta.dev(), meta.ino(), meta.len()).hash(&mut hasher);
        (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()).hash(&mut hasher);
        return Look { content: Content::Hash(hasher.finish()), changed };
    }
    // It may have grown meanwhile.
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(MOST_READ).read_to_end(&mut bytes));
    let content = match read {
        Ok(_) => {
            bytes.hash(&mut hasher);
            Content::Hash(hasher.finish())
        }
        Err(_) => Content::Unknown,
    };
    Look { content, changed }
}
