//! Reads the state of files: their times, and their content as far as it is needed to detect a
//! change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::clock::changed_at;
use crate::core::attribution::Content;
use crate::filter::Filter;

/// Maximum size of a file that is read, in bytes. For a larger one, metadata stands for its
/// content.
const MAX_READ: u64 = 8 << 20;

/// How much of a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    Content,
    /// Only its times, and whether it exists: one of many files.
    Times,
}

/// The state of a file when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) content: Content,
    /// The time of the last change of this content.
    pub(super) changed: Option<SystemTime>,
    /// The time of the last change of the file. For a link, the later one of its own and its
    /// target's.
    pub(super) stamp: Option<SystemTime>,
}

impl Look {
    /// The file exists, and only the time of its last change is known.
    pub(super) fn times(stamp: Option<SystemTime>) -> Self {
        Self { content: Content::Unknown, changed: None, stamp }
    }
}

/// Reads the state of a file. A trigger file has another content after each touch.
pub(super) fn look(path: &Path, filter: &Filter, depth: Depth) -> Look {
    let own = path.symlink_metadata().ok();
    let own_time = own.as_ref().and_then(changed_at);
    let meta = own.and_then(|own| if own.is_symlink() { path.metadata().ok() } else { Some(own) });
    let changed = meta.as_ref().and_then(changed_at);
    let stamp = own_time.max(changed);
    let Some(meta) = meta else {
        return Look { content: Content::Absent, changed, stamp };
    };
    if depth == Depth::Times {
        return Look::times(stamp);
    }
    if !meta.is_file() {
        return Look { content: Content::Unknown, changed, stamp };
    }
    let mut hasher = DefaultHasher::new();
    if meta.len() > MAX_READ || filter.is_trigger(path) {
        // Two files that were written in the same tick of the clock have the same times.
        (meta.dev(), meta.ino(), meta.len()).hash(&mut hasher);
        (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()).hash(&mut hasher);
        return Look { content: Content::Hash(hasher.finish()), changed, stamp };
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
    Look { content, changed, stamp }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::resolve;

    /// A directory for files, and what reads them.
    struct World {
        place: tempfile::TempDir,
        filter: Filter,
    }

    impl World {
        fn new() -> Self {
            let config = resolve("hotrun.toml", "[build]\ncmd = \"make\"\n").unwrap();
            Self {
                place: tempfile::tempdir().unwrap(),
                filter: Filter::new(config.only().watch.clone()),
            }
        }

        fn look(&self, name: &str) -> Look {
            look(&self.place.path().join(name), &self.filter, Depth::Content)
        }

        fn times(&self, name: &str) -> Look {
            look(&self.place.path().join(name), &self.filter, Depth::Times)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.place.path().join(name), text).unwrap();
        }

        fn link(&self, target: &str, name: &str) {
            std::os::unix::fs::symlink(target, self.place.path().join(name)).unwrap();
        }
    }

    /// Waits until the clock of file timestamps has advanced.
    fn tick() {
        crate::watch::clock::next_tick();
    }

    #[test]
    fn a_link_changes_with_itself_and_with_its_target() {
        let world = World::new();
        world.write("target", "1");
        tick();
        world.link("target", "link");
        let (target, link) = (world.look("target"), world.look("link"));
        assert_eq!((link.content, link.changed), (target.content, target.changed));
        assert!(link.stamp > target.stamp, "the link is newer");
        tick();
        world.write("target", "2");
        let (target, newer) = (world.look("target"), world.look("link"));
        assert!(newer.stamp > link.stamp, "the target has changed");
        assert_eq!(newer.stamp, target.stamp);
    }

    #[test]
    fn a_link_without_a_target_holds_nothing_but_has_a_time() {
        let world = World::new();
        world.link("nowhere", "link");
        let look = world.look("link");
        assert_eq!((look.content, look.changed), (Content::Absent, None));
        assert!(look.stamp.is_some());
        let gone = Look { content: Content::Absent, changed: None, stamp: None };
        assert_eq!(world.look("nowhere"), gone);
    }

    #[test]
    fn times_and_existence_are_the_same_whether_the_content_is_read_or_not() {
        let world = World::new();
        world.write("file", "1");
        assert_ne!(world.look("file").content, Content::Unknown);
        assert_eq!(world.times("file"), Look::times(world.look("file").stamp));
        assert_eq!(world.times("nowhere"), world.look("nowhere"));
    }
}
