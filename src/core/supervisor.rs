//! Several services: which may build and start, which are restarted for which, and in which order
//! they end.
//!
//! The supervisor sees only the [`Outline`] of each service, and what has just happened in it
//! ([`News`]). It sets their [`Gates`], and gives the orders [`Input::Restart`] and
//! [`Input::Quit`].
//!
//! Invariants, checked on every reachable transition of services that are known by their outlines
//! (`explore/composed.rs`), or by walks of real ones (`explore/walks.rs`):
//!
//! - No more services build at once than may.
//! - A service is not started for the first time before everything that it depends on is there.
//! - A service ends only after those that depend on it have ended.
//! - A service is restarted once when something that it depends on serves, or was built, anew: when
//!   all that lies below it has come to rest.
//! - When nothing moves any more, no order is left to give.

use super::graph::{Graph, ServiceId, When};
use super::service::{App, Effect, Gate, Gates, Hold, Input, Life, Phase, Service, Slot, Work};
use crate::event::Source;

/// What the supervisor may know of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Outline {
    pub(crate) making: Making,
    pub(crate) serving: Serving,
    pub(crate) stage: Stage,
    /// Whether there is something to run, the last build or one that was gone back to.
    pub(crate) is_built: bool,
}

/// What is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Making {
    Idle,
    /// Rules or a build are due.
    Due,
    /// Rules or a build run, or were cancelled and are not gone.
    Running,
    /// What was built replaces the app as soon as that may start.
    Installing,
}

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Serving {
    Down,
    /// Nothing serves, and an app is about to start.
    Due,
    /// An app was started and is not ready.
    Starting,
    Ready,
    /// An app serves, and its successor is not ready.
    Replacing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stage {
    Live,
    Ending,
    Ended,
}

impl Outline {
    pub(crate) fn of(service: &Service) -> Outline {
        let is_kept = service.artifacts.next == Source::Kept;
        let is_built = service.artifacts.built || is_kept || !service.policy.builds;
        let (making, serving, stage) = match &service.phase {
            Phase::Live { work, slot } => {
                let making = match work {
                    Work::Idle => Making::Idle,
                    Work::Due(_) => Making::Due,
                    Work::RunningRules { .. } | Work::Building { .. } | Work::Cancelling { .. } => {
                        Making::Running
                    }
                    Work::Installing(_) => Making::Installing,
                };
                let serving = match slot {
                    Slot::Empty { .. } => Serving::Down,
                    Slot::StartDue { .. } => Serving::Due,
                    Slot::Single(app) => match app.life {
                        Life::Starting { .. } => Serving::Starting,
                        Life::Ready => Serving::Ready,
                    },
                    Slot::Handover { .. } => Serving::Replacing,
                };
                (making, serving, Stage::Live)
            }
            Phase::Closing { .. } | Phase::Quitting { .. } => {
                (Making::Idle, Serving::Down, Stage::Ending)
            }
            Phase::Ended => (Making::Idle, Serving::Down, Stage::Ended),
        };
        Outline { making, serving, stage, is_built }
    }
}

/// What has just happened in a service, as far as others care. Two outlines do not tell: an app
/// that is not ready can be replaced by a newer one, and the outline stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct News {
    /// An app was started.
    pub(crate) started: bool,
    /// A build has succeeded.
    pub(crate) built: bool,
    /// An app serves that did not before.
    pub(crate) serves: bool,
}

impl News {
    pub(crate) fn of(before: &Service, input: &Input, after: &Service, effects: &[Effect]) -> News {
        let ready = |service: &Service| match service.phase {
            Phase::Live {
                slot:
                    Slot::Single(App { proc, life: Life::Ready, .. })
                    | Slot::Handover { old: App { proc, .. }, .. },
                ..
            } => Some(proc),
            Phase::Live { .. } | Phase::Closing { .. } | Phase::Quitting { .. } | Phase::Ended => {
                None
            }
        };
        let built = match (input, &before.phase) {
            (
                Input::Exited(proc, ended, _),
                Phase::Live { work: Work::Building { build, .. }, .. },
            ) => proc == build && ended.succeeded(),
            _ => false,
        };
        News {
            started: effects.iter().any(|effect| matches!(effect, Effect::SpawnApp(..))),
            built,
            serves: ready(after).is_some() && ready(before) != ready(after),
        }
    }
}

/// How far the end of all services has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ending {
    No,
    /// They end one after another.
    Asked,
    /// All processes were killed.
    Forced,
}

/// What a supervisor keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Supervisor {
    graph: Graph,
    /// How many services may build at once.
    jobs: usize,
    pub(crate) is_paused: bool,
    pub(crate) ending: Ending,
    /// Which services were started once.
    has_started: Vec<bool>,
    /// Which services run what is older than something that they depend on.
    is_stale: Vec<bool>,
}

impl Supervisor {
    pub(crate) fn new(graph: Graph, jobs: usize) -> Self {
        let count = graph.services().count();
        Self {
            graph,
            jobs,
            is_paused: false,
            ending: Ending::No,
            has_started: vec![false; count],
            is_stale: vec![false; count],
        }
    }

    /// What a service may begin, as the outlines of all services are now.
    pub(crate) fn gates(&self, all: &[Outline], service: ServiceId) -> Gates {
        if self.ending != Ending::No {
            let closed = Gate::Closed(Hold::Ending);
            return Gates { build: closed, start: closed };
        }
        let edges = self.graph.edges(service);
        let others = self.graph.services().filter(|other| *other != service);
        let building = others.filter(|other| all[other.0].making == Making::Running).count();
        let waits_for_build =
            edges.iter().any(|edge| edge.when == When::Built && self.is_to_build(all[edge.on.0]));
        let build = if self.is_paused {
            Gate::Closed(Hold::Paused)
        } else if waits_for_build {
            Gate::Closed(Hold::Upstream)
        } else if building >= self.jobs {
            Gate::Closed(Hold::Jobs)
        } else {
            Gate::Open
        };
        let is_there = edges.iter().all(|edge| {
            let other = all[edge.on.0];
            if self.has_started[service.0] && !edge.cascades {
                return true;
            }
            match edge.when {
                When::Built => other.is_built && !self.is_to_build(other),
                When::Ready if edge.cascades => {
                    other.serving == Serving::Ready && self.is_settled(all, edge.on)
                }
                When::Ready => matches!(other.serving, Serving::Ready | Serving::Replacing),
            }
        });
        let start = if is_there { Gate::Open } else { Gate::Closed(Hold::Upstream) };
        Gates { build, start }
    }

    /// Whether something is being made, or is to be as soon as it may. During a pause, what is due
    /// stays due, and others do not wait for it.
    fn is_to_build(&self, Outline { making, .. }: Outline) -> bool {
        making == Making::Running || (making == Making::Due && !self.is_paused)
    }

    /// Whether a service has come to rest, and all that it follows has.
    fn is_settled(&self, all: &[Outline], service: ServiceId) -> bool {
        let one = all[service.0];
        let is_at_rest = !self.is_to_build(one)
            && one.making != Making::Installing
            && !self.is_stale[service.0]
            && matches!(one.serving, Serving::Down | Serving::Ready);
        let mut followed = self.graph.edges(service).iter().filter(|edge| edge.cascades);
        is_at_rest && followed.all(|edge| self.is_settled(all, edge.on))
    }

    /// Notes what has happened in a service.
    pub(crate) fn moved(&mut self, service: ServiceId, after: Outline, news: News) {
        if news.started {
            self.has_started[service.0] = true;
            self.is_stale[service.0] = false;
        }
        // All end when one ends by itself (`on_exit = "quit"`, `--once`).
        if after.stage != Stage::Live && self.ending == Ending::No {
            self.ending = Ending::Asked;
        }
        for dependent in self.graph.services() {
            let mut edges = self.graph.edges(dependent).iter();
            let is_anew = edges.any(|edge| {
                let is_anew = match edge.when {
                    When::Ready => news.serves,
                    When::Built => news.built,
                };
                edge.on == service && edge.cascades && is_anew
            });
            self.is_stale[dependent.0] |= is_anew && self.has_started[dependent.0];
        }
    }

    /// What a service is to do now, beside looking at its gates.
    pub(crate) fn order(&self, all: &[Outline], service: ServiceId) -> Option<Input> {
        let one = all[service.0];
        if one.stage != Stage::Live {
            return None;
        }
        match self.ending {
            Ending::No => {
                let is_running =
                    matches!(one.serving, Serving::Starting | Serving::Ready | Serving::Replacing);
                let may_start = self.gates(all, service).start == Gate::Open;
                let is_due = self.is_stale[service.0] && one.making == Making::Idle && one.is_built;
                (is_due && is_running && may_start).then_some(Input::Restart)
            }
            Ending::Asked => {
                let mut dependents = self.graph.dependents(service);
                let is_needed = dependents.any(|other| all[other.0].stage != Stage::Ended);
                (!is_needed).then_some(Input::Quit)
            }
            Ending::Forced => Some(Input::Kill),
        }
    }

    #[cfg(test)]
    pub(crate) fn has_started(&self, service: ServiceId) -> bool {
        self.has_started[service.0]
    }

    #[cfg(test)]
    pub(crate) fn is_stale(&self, service: ServiceId) -> bool {
        self.is_stale[service.0]
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = ServiceId> + use<> {
        self.graph.services()
    }
}
