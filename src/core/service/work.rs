//! What is being made, and what is to follow. The latter is part of the work that it waits for, so
//! that nothing is left over.

use std::mem;

use crate::event::{Cause, Proc};

/// What is being made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    Idle,
    /// Waits for the build gate. A build also waits for the spacing. Work that a build asked for
    /// waits until the app of that build has started.
    Due(Owed),
    /// The commands of rules run.
    RunningRules {
        rules: Proc,
        owed: Owed,
    },
    /// The build runs; the old app serves.
    Building {
        build: Proc,
        cause: Cause,
        owed: Owed,
    },
    /// The build was cancelled. The next one starts when it is gone.
    Cancelling {
        build: Proc,
        owed: Owed,
    },
    /// What was built, or asked for, replaces the app when the start gate is open.
    Installing(Owed),
}

/// What is to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Owed {
    /// Files whose rules have yet to run.
    pub(crate) rules: Option<Request>,
    /// Files that are yet to be built. The rules run first.
    pub(crate) build: Option<Request>,
    /// Whether the app is restarted even if nothing new is built.
    pub(crate) restart: bool,
}

/// Why rules or a build are owed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) origin: Origin,
    pub(crate) cause: Cause,
}

/// Where a request comes from. When two are merged, the later variant counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Origin {
    /// A build wrote the files. The program that it made is started first.
    Build,
    /// A user saved them, which was reported: what runs is stale.
    Save,
    /// A user saved them while the gate was closed, which is yet to be reported.
    HeldSave,
}

impl Work {
    /// What is owed, if anything.
    pub(crate) fn owed_mut(&mut self) -> Option<&mut Owed> {
        match self {
            Work::Idle => None,
            Work::Due(owed)
            | Work::Installing(owed)
            | Work::RunningRules { owed, .. }
            | Work::Building { owed, .. }
            | Work::Cancelling { owed, .. } => Some(owed),
        }
    }

    /// Owes something more.
    pub(super) fn owing(mut self, owe: impl FnOnce(&mut Owed)) -> Work {
        if self == Work::Idle {
            self = Work::Due(Owed::default());
        }
        self.owed_mut().map(owe);
        self
    }

    /// Owes something for what a build wrote.
    pub(super) fn following_up(self, cause: Cause, owe: fn(&mut Owed, Request)) -> Work {
        let request = Request { origin: Origin::Build, cause };
        self.owing(|owed| owe(owed, request))
    }

    /// Installs now what there is. What else is due stays due.
    pub(super) fn installing(mut self) -> Work {
        let owed = self.owed_mut().map(mem::take).unwrap_or_default();
        Work::Installing(Owed { restart: false, ..owed })
    }

    /// Whether what was built last is to be started when the gate opens.
    pub(super) fn is_restart_due(&self) -> bool {
        match self {
            Work::Due(owed) => owed.restart,
            Work::Idle
            | Work::RunningRules { .. }
            | Work::Building { .. }
            | Work::Cancelling { .. }
            | Work::Installing(_) => false,
        }
    }

    /// Nothing is installed. What else is due stays due.
    pub(super) fn without_install(self) -> Work {
        match self {
            Work::Installing(owed) => Owed { restart: false, ..owed }.into_work(),
            Work::Idle
            | Work::Due(_)
            | Work::RunningRules { .. }
            | Work::Building { .. }
            | Work::Cancelling { .. } => self,
        }
    }

    /// No restart is due any longer: an app was started.
    pub(super) fn without_restart_due(self) -> Work {
        match self {
            Work::Due(owed) => Owed { restart: false, ..owed }.into_work(),
            Work::Idle
            | Work::RunningRules { .. }
            | Work::Building { .. }
            | Work::Cancelling { .. }
            | Work::Installing(_) => self,
        }
    }
}

impl Owed {
    /// What follows when nothing is being made any more.
    pub(super) fn into_work(self) -> Work {
        if self == Owed::default() { Work::Idle } else { Work::Due(self) }
    }

    pub(super) fn build(&mut self, request: Request) {
        self.build = Some(request.after(self.build.take()));
    }

    pub(super) fn rules(&mut self, request: Request) {
        self.rules = Some(request.after(self.rules.take()));
    }

    /// Whether more is owed than what a build wrote for the next one.
    pub(super) fn is_urgent(&self) -> bool {
        let requests = [&self.rules, &self.build];
        requests.into_iter().flatten().any(|request| request.origin != Origin::Build)
    }
}

impl Request {
    fn after(self, older: Option<Request>) -> Request {
        match older {
            None => self,
            Some(older) => Request {
                origin: older.origin.max(self.origin),
                cause: older.cause.join(self.cause),
            },
        }
    }
}
