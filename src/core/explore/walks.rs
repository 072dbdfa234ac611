//! Liveness of several services: random walks of real ones, with rests in which everything must be
//! well.

use super::composed::{edge, graph};
use super::scopes::{HANDOVER, PLAIN};
use super::*;
use crate::core::graph::{Graph, ServiceId, When};
use crate::core::service::Effect as OfService;
use crate::core::{Core, Effect, Event};
use crate::event::{Order, ShutdownBy};

#[derive(Clone, Debug)]
struct Child {
    role: Role,
    exited: bool,
    dismissed: bool,
    ready: bool,
    /// The version of the source that it comes from.
    version: u64,
}

/// The processes of one service.
#[derive(Clone, Debug, Default)]
struct Family {
    children: BTreeMap<Proc, Child>,
    source: u64,
    artifact: u64,
    starts: u32,
    /// When its last app was started, and became ready.
    started_at: u64,
    ready_at: u64,
}

/// A core with the processes that it believes in.
struct Fleet {
    core: Core,
    graph: Graph,
    families: Vec<Family>,
    clock: u64,
    jobs: usize,
    /// The exit code, when hotrun has exited.
    exited: Option<u8>,
    /// The services, in the order of their ends.
    ended: Vec<ServiceId>,
}

impl Fleet {
    fn new(graph: &Graph, policy: Policy, jobs: usize) -> Self {
        let count = graph.services().count();
        let policies = vec![policy; count];
        let core = Core::new(graph.clone(), &policies, jobs);
        let families = vec![Family::default(); count];
        let graph = graph.clone();
        Self { core, graph, families, clock: 0, jobs, exited: None, ended: Vec::new() }
    }

    fn event(&mut self, event: Event) {
        self.clock += 1;
        if let Event::Service(service, input) = &event {
            self.families[service.0].happens(input, self.clock);
        }
        let (core, effects) = self.core.clone().step(event);
        self.core = core;
        for effect in effects {
            self.clock += 1;
            match effect {
                Effect::Service(service, OfService::Ended(_)) => self.ended.push(service),
                Effect::Service(service, effect) => {
                    self.families[service.0].perform(&effect, self.clock);
                }
                Effect::Exit(code) => self.exited = Some(code),
                Effect::Say(_) => {}
            }
        }
        let running = self.families.iter().filter(|family| family.is_building()).count();
        assert!(running <= self.jobs, "more services build than may");
    }

    fn save(&mut self, service: usize) {
        self.event(Event::Service(ServiceId(service), Input::Saved(none())));
    }

    fn save_all(&mut self) {
        (0..self.families.len()).for_each(|service| self.save(service));
    }

    /// What happens next if children behave and deadlines come.
    fn next(&self) -> Option<Event> {
        self.graph.services().find_map(|service| {
            let of_child = self.families[service.0].children.iter().find_map(|(proc, child)| {
                let well = Input::Exited(*proc, Ended::Code(0), Lived::Long);
                match child {
                    Child { exited: true, .. } => Some(Input::Gone(*proc)),
                    Child { dismissed: true, .. }
                    | Child { role: Role::Build | Role::Rules | Role::Hook, .. } => Some(well),
                    Child { role: Role::App, ready: false, .. } => Some(Input::Ready(*proc)),
                    Child { role: Role::App, ready: true, .. } => None,
                }
            });
            let input = of_child.or_else(|| deadlines(&self.core.services[service.0]).next());
            input.map(|input| Event::Service(service, input))
        })
    }

    fn rest(&mut self) {
        for _ in 0..2000 {
            let Some(event) = self.next() else { return };
            self.event(event);
        }
        panic!("it does not come to rest: {:?}", self.core);
    }

    fn something_happens(&mut self, random: &mut Random) {
        let service = ServiceId(random.below(self.families.len()));
        if random.below(20) == 0 {
            return self.event(Event::Ordered(Order::PauseOrResume));
        }
        let mut inputs = vec![Input::Saved(none()), Input::Restart, Input::FollowUp(none())];
        for (proc, child) in &self.families[service.0].children {
            if child.exited {
                inputs.push(Input::Gone(*proc));
            } else {
                inputs.push(Input::Exited(*proc, Ended::Code(0), Lived::Long));
                inputs.push(Input::Exited(*proc, Ended::Code(1), Lived::Long));
            }
            if child.role == Role::App {
                inputs.extend([Input::Ready(*proc), Input::Unready(*proc), Input::Ready(*proc)]);
            }
        }
        inputs.extend(deadlines(&self.core.services[service.0]));
        let input = inputs.swap_remove(random.below(inputs.len()));
        self.event(Event::Service(service, input));
    }

    /// Each service serves its newest source, and none is older than what it follows.
    fn is_well(&self) {
        for service in self.graph.services() {
            let family = &self.families[service.0];
            let children: Vec<&Child> = family.children.values().collect();
            let is_newest =
                matches!(children[..], [one] if one.ready && one.version == family.source);
            assert!(is_newest, "{service:?}: {family:?}, {:?}", self.core);
            for edge in self.graph.edges(service).iter().filter(|edge| edge.cascades) {
                let other = &self.families[edge.on.0];
                assert!(
                    edge.when == When::Built || family.started_at > other.ready_at,
                    "{service:?} is older than {:?}: {:?}",
                    edge.on,
                    self.core
                );
            }
        }
    }

    fn starts(&self) -> Vec<u32> {
        self.families.iter().map(|family| family.starts).collect()
    }
}

impl Family {
    fn is_building(&self) -> bool {
        self.children.values().any(|child| child.role == Role::Build && !child.exited)
    }

    fn happens(&mut self, input: &Input, clock: u64) {
        match input {
            Input::Saved(_) => self.source += 1,
            Input::Exited(proc, ended, _) => {
                let child = self.children.get_mut(proc).expect("only the living exit");
                (child.exited, child.ready) = (true, false);
                if child.role == Role::Build && ended.succeeded() {
                    self.artifact = child.version;
                }
            }
            Input::Ready(proc) => {
                let child = self.children.get_mut(proc).expect("only the living are ready");
                if !child.exited && !child.dismissed && !child.ready {
                    child.ready = true;
                    self.ready_at = clock;
                }
            }
            Input::Gone(proc) => {
                self.children.remove(proc);
            }
            _ => {}
        }
    }

    fn perform(&mut self, effect: &OfService, clock: u64) {
        let (proc, role, version) = match effect {
            OfService::SpawnBuild(proc, _) => (*proc, Role::Build, self.source),
            OfService::SpawnRules(proc, _) => (*proc, Role::Rules, 0),
            OfService::SpawnHook(proc, _) => (*proc, Role::Hook, 0),
            OfService::SpawnApp(proc, ..) => {
                self.starts += 1;
                self.started_at = clock;
                (*proc, Role::App, self.artifact)
            }
            OfService::Dismiss(proc) => {
                let child = self.children.get_mut(proc).expect("the living are asked to exit");
                (child.dismissed, child.ready) = (true, false);
                return;
            }
            _ => return,
        };
        let child = Child { role, exited: false, dismissed: false, ready: false, version };
        self.children.insert(proc, child);
    }
}

/// `SplitMix64`: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed >> 33) % count as u64).expect("less than count")
    }
}

fn ready(on: usize) -> crate::core::graph::Edge {
    edge(on, When::Ready, true)
}

fn diamond() -> Graph {
    graph(&[&[], &[ready(0)], &[ready(0)], &[ready(1), ready(2)]])
}

fn ladder() -> Graph {
    graph(&[&[], &[ready(0)], &[ready(0), ready(1)], &[ready(1), ready(2)]])
}

fn library() -> Graph {
    let built = |on| edge(on, When::Built, true);
    graph(&[&[], &[built(0)], &[built(0), edge(1, When::Ready, false)]])
}

#[test]
fn after_a_save_of_what_all_follow_each_service_is_started_once() {
    for graph in [diamond(), ladder()] {
        for policy in [PLAIN, HANDOVER] {
            let mut fleet = Fleet::new(&graph, policy, 2);
            fleet.save_all();
            fleet.rest();
            fleet.is_well();
            let before = fleet.starts();
            assert_eq!(before, vec![1; 4], "{graph:?}");
            fleet.save(0);
            fleet.rest();
            fleet.is_well();
            assert_eq!(fleet.starts(), vec![2; 4], "{graph:?}, {:?}", policy.mode);
        }
    }
}

#[test]
fn after_any_walk_each_service_serves_the_newest_and_none_is_older_than_what_it_follows() {
    let mut rests = 0;
    for seed in 0..600 {
        let mut random = Random(seed);
        let graph = [diamond(), ladder(), library()][random.below(3)].clone();
        let policy = [PLAIN, HANDOVER][random.below(2)];
        let jobs = 1 + random.below(2);
        let mut fleet = Fleet::new(&graph, policy, jobs);
        fleet.save_all();
        for _ in 0..10 {
            for _ in 0..random.below(40) {
                fleet.something_happens(&mut random);
            }
            if fleet.core.supervisor.is_paused {
                fleet.event(Event::Ordered(Order::PauseOrResume));
            }
            // What has crashed or failed meanwhile is saved again.
            fleet.save_all();
            fleet.rest();
            fleet.is_well();
            rests += 1;
        }
        assert!(fleet.exited.is_none(), "seed {seed}");
        fleet.event(Event::Interrupted(ShutdownBy::CtrlC));
        fleet.rest();
        assert_eq!(fleet.exited, Some(0), "seed {seed}");
        let place = |one: ServiceId| fleet.ended.iter().position(|ended| *ended == one);
        for service in graph.services() {
            for edge in graph.edges(service) {
                assert!(place(service) < place(edge.on), "seed {seed}: {:?}", fleet.ended);
            }
        }
    }
    assert_eq!(rests, 6000);
}

#[test]
fn a_second_ctrl_c_kills_all_services_and_a_third_does_not_wait() {
    let mut fleet = Fleet::new(&diamond(), PLAIN, 2);
    fleet.save_all();
    fleet.rest();
    fleet.event(Event::Interrupted(ShutdownBy::CtrlC));
    fleet.event(Event::Interrupted(ShutdownBy::CtrlC));
    assert!(fleet.families.iter().all(|one| one.children.values().all(|child| child.dismissed)));
    assert!(fleet.exited.is_none());
    fleet.event(Event::Interrupted(ShutdownBy::CtrlC));
    assert_eq!(fleet.exited, Some(crate::core::ABANDONED));
}

#[test]
fn a_walk_without_cascades_is_found_out() {
    let followed = graph(&[&[], &[ready(0)]]);
    let plain = graph(&[&[], &[edge(0, When::Ready, false)]]);
    let mut fleet = Fleet::new(&plain, PLAIN, 1);
    fleet.graph = followed;
    fleet.save_all();
    fleet.rest();
    fleet.save(0);
    fleet.rest();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fleet.is_well()));
    assert!(found.is_err());
}
