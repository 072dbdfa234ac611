//! The operating system's watcher, one watch for each directory.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use notify::event::EventKindMask;
use notify::{ErrorKind, PathOp, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Input;

/// Returns the event kinds that are used; the kernel sends no others.
fn event_kinds() -> EventKindMask {
    EventKindMask::CREATE
        | EventKindMask::REMOVE
        | EventKindMask::MODIFY_DATA
        | EventKindMask::MODIFY_META
        | EventKindMask::MODIFY_NAME
        | EventKindMask::ACCESS_CLOSE
}

/// When an event was read, by the monotonic clock and by the wall clock.
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

/// The result of an attempt to watch a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Watched,
    /// The watch limit of the system is reached.
    OverLimit,
    /// The directory no longer exists, or cannot be read.
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

/// The directories out of a batch that are not watched.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) over_limit: HashSet<PathBuf>,
    pub(super) failed: HashSet<PathBuf>,
}

/// Limits how often the reader of events wakes up.
///
/// In a storm of events every single one wakes the reader, which costs more than reading it. So
/// after reading all pending events, the reader pauses until more have come in. It never pauses
/// while events are pending, so that the kernel's queue does not overflow because of it.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    in_a_row: u32,
}

const STORM_PAUSE: Duration = Duration::from_millis(1);
/// More than this many events in a row, each within this time after the previous one, are a storm.
const STORM: u32 = 200;
const STORM_GAP: Duration = Duration::from_millis(5);
/// Minimum time between two events that were not pending together.
const PENDING_GAP: Duration = Duration::from_micros(15);

impl Pace {
    /// Returns true if the reader had to wait for this event of a storm, which was read at this
    /// time.
    fn is_ahead(&mut self, now: Instant) -> bool {
        let gap = self.last.map_or(STORM_GAP, |last| now.duration_since(last));
        self.last = Some(now);
        self.in_a_row = if gap < STORM_GAP { self.in_a_row.saturating_add(1) } else { 0 };
        self.in_a_row > STORM && gap > PENDING_GAP
    }
}

pub(super) struct Native {
    watcher: RecommendedWatcher,
}

impl Native {
    pub(super) fn new(input: mpsc::Sender<Input>) -> notify::Result<Self> {
        let mut pace = Pace::default();
        let handler = move |event| {
            let now = Moment::now();
            // The watching thread exits only when hotrun does.
            let _ = input.send(Input::Raw(now, event));
            if pace.is_ahead(now.at) {
                thread::sleep(STORM_PAUSE);
                pace.last = Some(Instant::now());
            }
        };
        let settings = notify::Config::default().with_event_kinds(event_kinds());
        Ok(Self { watcher: RecommendedWatcher::new(handler, settings)? })
    }

    /// Watches a directory or a file, but nothing below it.
    pub(super) fn watch(&mut self, path: &Path) -> Outcome {
        match self.watcher.watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => Outcome::Watched,
            Err(error) => Outcome::of(&error, path),
        }
    }

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

    /// Removes a watch. With many other watches this is slow, since `notify` goes through all of
    /// them.
    pub(super) fn unwatch(&mut self, path: &Path) {
        // Usually the operating system has already removed it.
        let _ = self.watcher.unwatch(path);
    }

    /// Returns when all events so far have been read.
    pub(super) fn drain(&mut self) {
        let _ = self.watcher.update_paths(Vec::new());
    }
}

/// Reports when one of the directories above some places is deleted or moved. The places themselves
/// get no event if they are moved along. If they are deleted, they get one only after the last
/// program that works in them has exited.
pub(super) struct Above {
    _watcher: RecommendedWatcher,
}

impl Above {
    /// Watches the directories above these places. Only those two kinds of events are requested, so
    /// that other events in busy directories such as `/tmp` wake no thread.
    pub(super) fn new<'a>(
        places: impl Iterator<Item = &'a PathBuf>,
        input: mpsc::Sender<Input>,
    ) -> notify::Result<Self> {
        let chain: HashSet<PathBuf> =
            places.flat_map(|place| place.ancestors()).map(Path::to_owned).collect();
        let around: HashSet<PathBuf> =
            chain.iter().filter_map(|place| place.parent()).map(Path::to_owned).collect();
        let handler = move |event: notify::Result<notify::Event>| {
            let is_ours = |path: &PathBuf| chain.contains(path);
            if event.is_ok_and(|event| event.paths.first().is_some_and(is_ours)) {
                let _ = input.send(Input::Above);
            }
        };
        let kinds = EventKindMask::REMOVE | EventKindMask::MODIFY_NAME;
        let settings = notify::Config::default().with_event_kinds(kinds);
        let mut watcher = RecommendedWatcher::new(handler, settings)?;
        for directory in around {
            // A directory that cannot be read is not watched; there is no other source of events.
            if let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive) {
                tracing::debug!(%error, "cannot watch {}", directory.display());
            }
        }
        Ok(Self { _watcher: watcher })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_in_a_storm_and_only_when_all_is_read_the_reader_pauses() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut at = start;
        let mut pauses = |pace: &mut Pace, gap: Duration, times: u32| {
            (0..times)
                .filter(|_| {
                    at += gap;
                    pace.is_ahead(at)
                })
                .count()
        };
        let micros = Duration::from_micros;
        assert_eq!(pauses(&mut pace, micros(100), 200), 0, "a handful of files");
        assert_eq!(pauses(&mut pace, micros(5), 10_000), 0, "there is more to be read");
        assert_eq!(pauses(&mut pace, micros(100), 10), 10);
        assert_eq!(pauses(&mut pace, micros(6000), 10), 0, "a person saves");
        assert_eq!(pauses(&mut pace, micros(100), 100), 0);
    }
}
