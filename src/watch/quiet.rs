//! Detects quiet with notify-debouncer-full. It drops duplicates, joins renames within a burst, and
//! emits the remaining events once nothing has happened for its timeout.
//!
//! Its events do not describe a burst: joining hides the deletion of a file that was renamed before
//! it was removed. So the burst records every event itself, and the debouncer reports only when it
//! is complete.
//!
//! The debouncer's thread wakes at every tick as long as it exists (0.8.0-rc.2). So each burst has
//! its own. Events reach it through a [`Tap`], a watcher that watches nothing. The real watcher
//! remains outside of the debouncer, so that every event is timed before it is delayed.

use std::cell::RefCell;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use notify::event::EventAttributes;
use notify::{Config, Event, EventHandler, EventKind, RecursiveMode, Watcher, WatcherKind};
use notify_debouncer_full::{DebounceEventResult, Debouncer, NoCache, new_debouncer_opt};

use super::Input;
use super::burst::QUIET_AFTER_ONE;

/// Maximum delay of the report about quiet.
const TICK: Duration = Duration::from_micros(100);
/// The path of the mark that follows every event. Duplicates are dropped, so the mark is emitted
/// once, when all is quiet, together with or after all fed events.
const MARK: &str = "\u{0}quiet";

thread_local! {
    /// Passes the event handler out of [`Tap::new`]. `new_debouncer_opt` creates its watcher
    /// itself, and offers no other way to reach the handler. It is taken out at once, on the same
    /// thread.
    static HANDLER: RefCell<Option<Box<dyn EventHandler>>> = const { RefCell::new(None) };
}

/// A watcher that watches nothing, and only hands over the debouncer's event handler.
struct Tap;

impl Watcher for Tap {
    fn new<F: EventHandler>(handler: F, _: Config) -> notify::Result<Self> {
        HANDLER.set(Some(Box::new(handler)));
        Ok(Tap)
    }

    fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
        Ok(())
    }

    fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
        Ok(())
    }

    fn kind() -> WatcherKind {
        WatcherKind::NullWatcher
    }
}

/// The debouncer of one burst.
pub(super) struct Quiet {
    _debouncer: Debouncer<Tap, NoCache>,
    handler: Box<dyn EventHandler>,
    fed: usize,
    confirmed: bool,
}

impl Quiet {
    pub(super) fn new(input: mpsc::Sender<Input>) -> notify::Result<Self> {
        let hand_over = move |result: DebounceEventResult| {
            let events = result.unwrap_or_default();
            let mark = events.iter().find(|event| event.paths.iter().any(|path| path == MARK));
            if let Some(fed) = mark.and_then(|mark| mark.tracker()) {
                // The watcher may have exited before its last burst ended.
                let _ = input.send(Input::Quiet(fed));
            }
        };
        let debouncer = new_debouncer_opt::<_, Tap, _>(
            QUIET_AFTER_ONE,
            Some(TICK),
            hand_over,
            NoCache::new(),
            Config::default(),
        )?;
        let handler = HANDLER.take().ok_or_else(|| notify::Error::generic("no event handler"))?;
        Ok(Self { _debouncer: debouncer, handler, fed: 0, confirmed: false })
    }

    /// Feeds an event, followed by the mark.
    pub(super) fn feed(&mut self, event: Event) {
        self.fed += 1;
        self.confirmed = false;
        self.handler.handle_event(Ok(event));
        let mut attributes = EventAttributes::new();
        attributes.set_tracker(self.fed);
        let mark = Event { kind: EventKind::Any, paths: vec![MARK.into()], attrs: attributes };
        self.handler.handle_event(Ok(mark));
    }

    /// Records the report that nothing has happened since this many events.
    pub(super) fn confirm(&mut self, fed: usize) {
        self.confirmed = fed == self.fed;
    }

    /// Returns true if nothing has happened since the last event.
    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed
    }
}
