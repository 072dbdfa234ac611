//! notify-debouncer-full as the judge of quiet: it drops duplicates and joins renames within
//! a burst, and hands over what is left once nothing has happened for its timeout.
//!
//! What it hands over names no burst by itself: joining hides the deletion of a file that
//! was renamed before it was removed. So the burst keeps its own account of every event,
//! and this says when it is complete.
//!
//! Its thread wakes at every tick for as long as it lives (0.8.0-rc.2), so one lives only as
//! long as a burst. Events reach it through a [`Tap`], a watcher that watches nothing: the
//! real one stays ours, so that every event is timed before it is delayed.

use std::cell::RefCell;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use notify::event::EventAttributes;
use notify::{Config, Event, EventHandler, EventKind, RecursiveMode, Watcher, WatcherKind};
use notify_debouncer_full::{DebounceEventResult, Debouncer, NoCache, new_debouncer_opt};

use super::Input;
use super::burst::QUIET_AFTER_ONE;

/// How late the word about quiet may come.
const TICK: Duration = Duration::from_micros(100);
/// The path of the mark that follows every event. Duplicates are dropped, so the mark comes
/// out once, when all is quiet, together with or after everything that was fed.
const MARK: &str = "\u{0}quiet";

thread_local! {
    /// `new_debouncer_opt` builds its watcher itself, by `Tap::new`, and gives no other way
    /// to reach the handler. On this one thread the handler is put down here and picked up
    /// at once.
    static HANDLER: RefCell<Option<Box<dyn EventHandler>>> = const { RefCell::new(None) };
}

/// A watcher that watches nothing and only hands over the debouncer's event handler.
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
                // The watcher may have ended before its last burst did.
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

    /// Feeds an event, and the mark behind it.
    pub(super) fn feed(&mut self, event: Event) {
        self.fed += 1;
        self.confirmed = false;
        self.handler.handle_event(Ok(event));
        let mut attributes = EventAttributes::new();
        attributes.set_tracker(self.fed);
        let mark = Event { kind: EventKind::Any, paths: vec![MARK.into()], attrs: attributes };
        self.handler.handle_event(Ok(mark));
    }

    /// Takes the word that nothing has happened since so many events.
    pub(super) fn confirm(&mut self, fed: usize) {
        self.confirmed = fed == self.fed;
    }

    /// True when nothing has happened since the last event.
    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed
    }
}
