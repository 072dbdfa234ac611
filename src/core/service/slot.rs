//! Who serves.

use nix::sys::signal::Signal;

use crate::event::{Ended, Proc, Source};

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Empty {
        /// Whether a new build has failed to start, and nothing has followed yet.
        failed_start: bool,
    },
    /// An app starts as soon as it may.
    StartDue {
        /// The app that exited by itself and whose restart backoff has not elapsed.
        backoff: Option<Proc>,
    },
    Single(App),
    /// `new` was started and is not ready; `old` serves (handover mode only).
    Handover {
        old: App,
        new: App,
    },
}

/// An app that was started and not asked to exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct App {
    pub(crate) proc: Proc,
    pub(crate) source: Source,
    /// Whether it is known to be good: it was ready and has run long enough to be trusted, or an app
    /// from the same artifact has.
    pub(crate) is_proven: bool,
    pub(crate) life: Life,
}

/// How far an app has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    Starting {
        /// Whether it was not ready in time.
        late: bool,
        /// Signal to deliver once it is ready.
        signal: Option<Signal>,
    },
    Ready,
}

impl App {
    pub(super) fn is_ready(self) -> bool {
        self.life == Life::Ready
    }

    pub(super) fn is_late(self) -> bool {
        matches!(self.life, Life::Starting { late: true, .. })
    }

    /// Whether this is the failure of a new build to start; an exit with success is none.
    pub(super) fn is_failed_start(self, ended: &Ended) -> bool {
        !self.is_proven && !ended.succeeded()
    }
}

impl Slot {
    /// An app starts as soon as it may; no backoff is running.
    pub(crate) const START_DUE: Slot = Slot::StartDue { backoff: None };
    /// Nothing runs, and nothing has failed.
    pub(super) const EMPTY: Slot = Slot::Empty { failed_start: false };

    /// The app that represents the program: the one that serves, else the one that starts.
    pub(crate) fn app(self) -> Option<Proc> {
        match self {
            Slot::Single(app) | Slot::Handover { old: app, .. } => Some(app.proc),
            Slot::Empty { .. } | Slot::StartDue { .. } => None,
        }
    }

    /// Whether the program that was built has yet to start: what a build wrote waits until then.
    pub(super) fn waits_for_start(self) -> bool {
        match self {
            Slot::StartDue { backoff: None } | Slot::Handover { .. } => true,
            Slot::Empty { .. } | Slot::StartDue { backoff: Some(_) } | Slot::Single(_) => false,
        }
    }

    /// An app that is about to be restarted does not wait for its backoff.
    pub(super) fn without_backoff(self) -> Slot {
        match self {
            Slot::StartDue { .. } => Slot::START_DUE,
            Slot::Empty { .. } | Slot::Single(_) | Slot::Handover { .. } => self,
        }
    }

    /// A failed start does not matter any longer: something newer was built.
    pub(super) fn forgiven(self) -> Slot {
        match self {
            Slot::Empty { .. } => Slot::EMPTY,
            Slot::StartDue { .. } | Slot::Single(_) | Slot::Handover { .. } => self,
        }
    }

    /// This app is known to be good.
    pub(super) fn proven(self, proc: Proc) -> Slot {
        let proven = |app: App| App { is_proven: app.is_proven || app.proc == proc, ..app };
        match self {
            Slot::Single(app) => Slot::Single(proven(app)),
            Slot::Handover { old, new } => Slot::Handover { old: proven(old), new: proven(new) },
            Slot::Empty { .. } | Slot::StartDue { .. } => self,
        }
    }
}
