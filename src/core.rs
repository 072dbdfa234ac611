//! The core: decides what follows from each event. [`Core::step`] takes one event and returns the
//! next state and the effects that lead there.
//!
//! It never waits, spawns a process, reads a clock or a file, or prints (a test reads the sources
//! for that, `tests/hotrun/order.rs`).
//!
//! Each [`Service`] is a machine of its own; a [`Supervisor`] above them sets their gates and
//! passes orders on. An event is first handled by the services that it concerns. Then each service
//! whose gates or orders have changed moves, until nothing moves any more.
//!
//! Beside them, [`attribution`] decides whether a changed file is a save at all, or was written by
//! a build.
//! [`terminal`] decides which process owns the terminal; the engine steps it by itself.
//!
//! # What a service can be doing
//!
//! The exploration (`explore/`) has reached these combinations of what is being made (rows) and who
//! serves (columns), and these changes in a single step. See [`supervisor::Making`] and
//! [`supervisor::Serving`] for the words.
//!
//! <!-- the exploration -->
//! |  | Down | Due | Starting | Ready | Replacing |
//! | --- | --- | --- | --- | --- | --- |
//! | Idle | yes | yes | yes | yes | yes |
//! | Due | yes | yes | yes | yes | yes |
//! | Running | yes | yes | yes | yes |  |
//! | Installing | yes | yes | yes | yes | yes |
//!
//! | being made | next |
//! | --- | --- |
//! | Idle | Due, Running, Installing |
//! | Due | Running, Installing |
//! | Running | Idle, Due, Installing |
//! | Installing | Idle, Due, Running |
//!
//! | serving | next |
//! | --- | --- |
//! | Down | Due, Starting |
//! | Due | Starting |
//! | Starting | Down, Due, Ready, Replacing |
//! | Ready | Down, Due, Starting, Replacing |
//! | Replacing | Starting, Ready |
//! <!-- end -->

use serde::{Deserialize, Serialize};

use crate::event::{Order, Policy, Proc, ShutdownBy};
use crate::notice::Notice;

pub(crate) mod attribution;
pub(crate) mod supervisor;
#[cfg_attr(not(test), expect(dead_code, reason = "a configuration has only one service as yet"))]
pub(crate) mod graph;
pub(crate) mod service;
pub(crate) mod terminal;

#[cfg(test)]
mod explore;

pub(crate) use graph::{Graph, ServiceId};
use service::Service;
pub(crate) use service::{Effect as ServiceEffect, Input, Lived};
use supervisor::{Ending, News, Outline, Stage, Supervisor};

/// The exit code after a third Ctrl-C.
pub(crate) const ABANDONED: u8 = 130;

/// An input of the core.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Something happened in one service.
    Service(ServiceId, Input),
    /// The user requested something.
    Ordered(Order),
    /// hotrun is to shut down. The second request kills all processes, and the third is not waited
    /// for.
    Interrupted(ShutdownBy),
    /// A part of hotrun has failed: it shuts down with this exit code.
    Broken(u8),
}

impl From<Input> for Event {
    fn from(input: Input) -> Self {
        Event::Service(ServiceId::ONLY, input)
    }
}

/// An action that the engine performs, in order. Performing it never waits and never fails: a
/// failure comes back as an [`Event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Service(ServiceId, service::Effect),
    /// Report this to the user.
    Say(Notice),
    /// Exit from hotrun with this code, now.
    Exit(u8),
}

/// The complete state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Core {
    supervisor: Supervisor,
    services: Vec<Service>,
    /// The exit code of what has failed first, hotrun itself or a service that has ended.
    code: u8,
}

/// A summary of the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) is_paused: bool,
    pub(crate) services: Vec<ServiceSnapshot>,
}

impl Snapshot {
    /// The service of a configuration that names none.
    pub(crate) fn only(&self) -> ServiceSnapshot {
        self.services[ServiceId::ONLY.0]
    }
}

/// A summary of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServiceSnapshot {
    pub(crate) outline: Outline,
    /// Whether a build is running that was not cancelled.
    pub(crate) is_building: bool,
    /// Whether what was built last serves, and nothing newer is owed or being made.
    pub(crate) is_settled: bool,
    /// The app that represents the program: the one that serves, else the one that starts.
    pub(crate) app: Option<Proc>,
}

impl Core {
    /// Returns the initial state of services with these policies: nothing runs, and nothing was
    /// built. At most `jobs` of them build at once.
    pub(crate) fn new(graph: Graph, policies: &[Policy], jobs: usize) -> Self {
        let services = policies.iter().copied().map(Service::new).collect();
        Self { supervisor: Supervisor::new(graph, jobs), services, code: 0 }
    }

    /// Returns the initial state of one service.
    pub(crate) fn of_one(policy: Policy) -> Self {
        Self::new(Graph::unconnected(1), &[policy], 1)
    }

    /// Returns the next state, and the effects that lead there.
    #[must_use]
    pub(crate) fn step(self, event: Event) -> (Core, Vec<Effect>) {
        let mut turn = Turn { core: self, effects: Vec::new() };
        turn.take(event);
        turn.settle();
        turn.end();
        (turn.core, turn.effects)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let of = |service: &Service| ServiceSnapshot {
            outline: Outline::of(service),
            is_building: service.is_building(),
            is_settled: service.is_settled(),
            app: service.app(),
        };
        let is_paused = self.supervisor.is_paused;
        Snapshot { is_paused, services: self.services.iter().map(of).collect() }
    }

    /// Whether hotrun is shutting down.
    pub(crate) fn is_ending(&self) -> bool {
        self.supervisor.ending != Ending::No
    }

    fn outlines(&self) -> Vec<Outline> {
        self.services.iter().map(Outline::of).collect()
    }
}

/// A step in progress.
struct Turn {
    core: Core,
    effects: Vec<Effect>,
}

impl Turn {
    fn take(&mut self, event: Event) {
        match event {
            Event::Service(service, input) => {
                self.step(service, &input);
            }
            Event::Ordered(order) => self.ordered(order),
            Event::Interrupted(by) => self.interrupted(by),
            Event::Broken(code) => {
                self.failed_with(code);
                self.interrupted(ShutdownBy::Hotrun);
            }
        }
    }

    fn ordered(&mut self, order: Order) {
        match order {
            Order::Restart => self.step_all(&Input::Restart),
            Order::Rollback => self.step_all(&Input::Rollback),
            Order::Signal(signal) => self.step_all(&Input::Signal(signal)),
            Order::PauseOrResume => {
                let is_paused = !self.core.supervisor.is_paused;
                self.core.supervisor.is_paused = is_paused;
                self.say(if is_paused { Notice::Paused } else { Notice::Resumed });
            }
        }
    }

    fn interrupted(&mut self, by: ShutdownBy) {
        let supervisor = &mut self.core.supervisor;
        match supervisor.ending {
            Ending::No => {
                supervisor.ending = Ending::Asked;
                self.say(Notice::Ending(by));
            }
            Ending::Asked => {
                supervisor.ending = Ending::Forced;
                self.say(Notice::Forcing);
                self.step_all(&Input::Kill);
            }
            Ending::Forced => self.effects.push(Effect::Exit(ABANDONED)),
        }
    }

    fn step_all(&mut self, input: &Input) {
        for service in self.core.supervisor.services() {
            self.step(service, input);
        }
    }

    /// Moves one service. Returns whether it changed or produced effects.
    fn step(&mut self, id: ServiceId, input: &Input) -> bool {
        let gates = self.core.supervisor.gates(&self.core.outlines(), id);
        let before = self.core.services[id.0].clone();
        let (after, effects) = before.clone().step(input.clone(), gates);
        let news = News::of(&before, input, &after, &effects);
        self.core.supervisor.moved(id, Outline::of(&after), news);
        let has_moved = after != before || !effects.is_empty();
        self.core.services[id.0] = after;
        for effect in effects {
            if let service::Effect::Ended(code) = effect {
                self.failed_with(code);
            }
            self.effects.push(Effect::Service(id, effect));
        }
        has_moved
    }

    /// Notes an exit code. The first that is not 0 counts.
    fn failed_with(&mut self, code: u8) {
        if self.core.code == 0 {
            self.core.code = code;
        }
    }

    /// Lets services move until none does.
    fn settle(&mut self) {
        while self.core.supervisor.services().any(|service| self.follow(service)) {}
    }

    /// Lets a service follow an order, or see its gates. Returns whether it changed or produced
    /// effects.
    fn follow(&mut self, service: ServiceId) -> bool {
        let order = self.core.supervisor.order(&self.core.outlines(), service);
        let has_moved = order.is_some_and(|order| self.step(service, &order));
        has_moved || self.step(service, &Input::Look)
    }

    fn end(&mut self) {
        let has_exited = self.effects.iter().any(|effect| matches!(effect, Effect::Exit(_)));
        let has_ended = |outline: &Outline| outline.stage == Stage::Ended;
        if !has_exited && self.core.outlines().iter().all(has_ended) {
            self.effects.push(Effect::Exit(self.core.code));
        }
    }

    fn say(&mut self, notice: Notice) {
        self.effects.push(Effect::Say(notice));
    }
}
