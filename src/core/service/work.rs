//! What is being made, and what is to follow. It lives in the work that it waits for, so nothing
//! can be left over.

use std::mem;

use crate::event::{Cause, Proc};

/// What is being made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    Idle,
    /// This begins when the build gate is open, the spacing is over, and the app of the last build
    /// was started, where it was a build that caused it.
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
    pub(crate) rules: Option<Wish>,
    /// Files that are yet to be built. The rules run first.
    pub(crate) build: Option<Wish>,
    /// Whether the app is restarted even if nothing new is built.
    pub(crate) restart: bool,
}

/// Why rules or a build are owed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wish {
    pub(crate) ask: Ask,
    pub(crate) cause: Cause,
}

/// How urgent a wish is. Of two wishes, the greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ask {
    /// A build wrote the files. The program that it made is started first.
    FollowUp,
    /// A user saved them, and was told so: what runs is stale.
    Save,
    /// A user saved them while the gate was closed.
    Held,
}

impl Work {
    /// What is owed, if anything.
    #[cfg(test)]
    pub(crate) fn owed(&self) -> Option<&Owed> {
        match self {
            Work::Idle => None,
            Work::Due(owed)
            | Work::Installing(owed)
            | Work::RunningRules { owed, .. }
            | Work::Building { owed, .. }
            | Work::Cancelling { owed, .. } => Some(owed),
        }
    }

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

    pub(super) fn build(&mut self, wish: Wish) {
        self.build = Some(wish.after(self.build.take()));
    }

    pub(super) fn rules(&mut self, wish: Wish) {
        self.rules = Some(wish.after(self.rules.take()));
    }

    /// Whether more is owed than what a build wrote for the next one.
    pub(super) fn is_urgent(&self) -> bool {
        let wishes = [&self.rules, &self.build];
        wishes.into_iter().flatten().any(|wish| wish.ask != Ask::FollowUp)
    }
}

impl Wish {
    fn after(self, older: Option<Wish>) -> Wish {
        match older {
            None => self,
            Some(older) => {
                Wish { ask: older.ask.max(self.ask), cause: older.cause.join(self.cause) }
            }
        }
    }
}
