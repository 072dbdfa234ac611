//! The watcher of the operating system, directory by directory.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Instant, SystemTime};

use notify::event::EventKindMask;
use notify::{ErrorKind, PathOp, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Input;

/// The event kinds that are used; the kernel is asked for no others.
fn event_kinds() -> EventKindMask {
    EventKindMask::CREATE
        | EventKindMask::REMOVE
        | EventKindMask::MODIFY_DATA
        | EventKindMask::MODIFY_META
        | EventKindMask::MODIFY_NAME
        | EventKindMask::ACCESS_CLOSE
}

/// When an event was read, by two clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), wall: SystemTime::now() }
    }
}

/// What became of the wish to watch a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Watched,
    /// The system's limit of watches is reached.
    OverLimit,
    /// It is not there any more, or not to be read.
    Failed,
}

impl Outcome {
    fn of(error: &notify::Error, directory: &Path) -> Self {
        if matches!(error.kind, ErrorKind::MaxFilesWatch) {
            return Outcome::OverLimit;
        }
        tracing::debug!(%error, "cannot watch {}", directory.display());
        Outcome::Failed
    }
}

/// Those of many directories that are not watched.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) over_limit: HashSet<PathBuf>,
    pub(super) failed: HashSet<PathBuf>,
}

pub(super) struct Native {
    watcher: RecommendedWatcher,
}

impl Native {
    pub(super) fn new(input: mpsc::Sender<Input>) -> notify::Result<Self> {
        let handler = move |event| {
            let _ = input.send(Input::Raw(Moment::now(), event));
        };
        let settings = notify::Config::default().with_event_kinds(event_kinds());
        Ok(Self { watcher: RecommendedWatcher::new(handler, settings)? })
    }

    /// Watches a directory or a file, and nothing below it.
    pub(super) fn watch(&mut self, path: &Path) -> Outcome {
        match self.watcher.watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => Outcome::Watched,
            Err(error) => Outcome::of(&error, path),
        }
    }

    /// Watches many directories at once.
    pub(super) fn watch_all<'a>(&mut self, all: impl Iterator<Item = &'a PathBuf>) -> Refused {
        let mut refused = Refused::default();
        let mut left: Vec<PathOp> = all.map(PathOp::watch_non_recursive).collect();
        while !left.is_empty() {
            let Err(error) = self.watcher.update_paths(std::mem::take(&mut left)) else { break };
            left = error.remaining;
            let Some(failed) = error.origin.map(PathOp::into_path) else { break };
            match Outcome::of(&error.source, &failed) {
                Outcome::OverLimit => {
                    refused.over_limit.insert(failed);
                    refused.over_limit.extend(left.drain(..).map(PathOp::into_path));
                }
                _ => {
                    refused.failed.insert(failed);
                }
            }
        }
        refused
    }

    /// Does not watch it any more. (With many other watches this takes long: `notify` goes
    /// through all of them.)
    pub(super) fn unwatch(&mut self, path: &Path) {
        // Mostly the operating system has done so already.
        let _ = self.watcher.unwatch(path);
    }

    /// Returns when all that has happened so far has been read.
    pub(super) fn drain(&mut self) {
        let _ = self.watcher.update_paths(Vec::new());
    }
}
