//! The watcher of the operating system, directory by directory.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

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

/// How fast events are read.
///
/// In a storm the reader is woken by each single event, which costs more than reading it. So
/// when it has read all there is, it lets some more come together first. It never pauses
/// while something is left to be read, so that the kernel's queue does not run over for it.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    in_a_row: u32,
}

const PAUSE: Duration = Duration::from_millis(1);
/// So many events, none of them so long after the one before it, are a storm.
const STORM: u32 = 200;
const STORM_GAP: Duration = Duration::from_millis(5);
/// Between two events that were read together less time passes than this.
const TOGETHER: Duration = Duration::from_micros(15);

impl Pace {
    /// True when this event of a storm, read at this time, had to be waited for.
    fn is_ahead(&mut self, now: Instant) -> bool {
        let gap = self.last.map_or(STORM_GAP, |last| now.duration_since(last));
        self.last = Some(now);
        self.in_a_row = if gap < STORM_GAP { self.in_a_row.saturating_add(1) } else { 0 };
        self.in_a_row > STORM && gap > TOGETHER
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
            // The watching thread has ended only if hotrun ends.
            let _ = input.send(Input::Raw(now, event));
            if pace.is_ahead(now.at) {
                thread::sleep(PAUSE);
                pace.last = Some(Instant::now());
            }
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

/// Hears of it when one of the directories around something is deleted or moved. What lies in
/// it does not hear of that: not at all if it is moved with them, and if it is deleted, not
/// before the last program that works there has ended.
pub(super) struct Above {
    _watcher: RecommendedWatcher,
}

impl Above {
    /// Watches what is around these places. Only those two kinds of events are asked for: of
    /// what else happens in such busy directories as the temporary one nobody is woken.
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
            // One that cannot be read is not watched; there is no other way to hear of it.
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
