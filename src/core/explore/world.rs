//! The world around a service: what the service cannot know.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::*;

/// A process that was started and is not gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Living {
    pub(super) proc: Proc,
    pub(super) role: Role,
    pub(super) exited: bool,
    pub(super) dismissed: bool,
    /// It was still running when it was asked to exit.
    pub(super) cut_short: bool,
    pub(super) killed: bool,
    pub(super) ready: bool,
    /// It comes from the newest source.
    pub(super) fresh: bool,
    /// It comes from what was last built.
    pub(super) latest: bool,
    /// It was started from an older artifact.
    pub(super) kept: bool,
    /// It was not ready in time.
    pub(super) late: bool,
    /// A promise asks what becomes of it.
    pub(super) marked: bool,
}

impl Living {
    fn new(proc: Proc, role: Role, fresh: bool) -> Self {
        Self {
            proc,
            role,
            exited: false,
            dismissed: false,
            cut_short: false,
            killed: false,
            ready: false,
            fresh,
            latest: role == Role::App,
            kept: false,
            late: false,
            marked: false,
        }
    }

    /// Whether it was started from what was last built.
    pub(super) fn is_same_when_built_again(&self) -> bool {
        self.role == Role::App && self.latest && !self.kept && !self.exited && !self.dismissed
    }

    /// All but the process's name.
    fn packed(&self) -> u128 {
        let flags = [
            self.exited,
            self.dismissed,
            self.cut_short,
            self.killed,
            self.ready,
            self.fresh,
            self.latest,
            self.kept,
            self.late,
            self.marked,
        ];
        flagged(self.role as u128, &flags)
    }
}

/// Number of bits that one process takes.
const LIVING_BITS: u32 = 12;
/// No state that is explored, and nothing that follows from one, has more processes.
const MOST_LIVING: usize = 9;

/// A number followed by flags.
fn flagged(mut packed: u128, flags: &[bool]) -> u128 {
    for flag in flags {
        packed = packed << 1 | u128::from(*flag);
    }
    packed
}

/// All processes, by age. Without an allocation, since millions of worlds are made.
#[derive(Clone, Copy)]
pub(super) struct Processes {
    all: [Living; MOST_LIVING],
    count: usize,
}

impl Processes {
    fn push(&mut self, one: Living) {
        assert!(
            self.last().is_none_or(|last| last.proc < one.proc),
            "{:?} is used twice",
            one.proc
        );
        self.all[self.count] = one;
        self.count += 1;
    }

    pub(super) fn of(&self, proc: Proc) -> Option<&Living> {
        self.iter().find(|one| one.proc == proc)
    }

    pub(super) fn of_mut(&mut self, proc: Proc) -> Option<&mut Living> {
        self.iter_mut().find(|one| one.proc == proc)
    }

    fn remove(&mut self, proc: Proc) {
        if let Some(place) = self.iter().position(|one| one.proc == proc) {
            self.all.copy_within(place + 1..self.count, place);
            self.count -= 1;
        }
    }
}

impl Default for Processes {
    fn default() -> Self {
        let nobody = Living::new(Proc(0), Role::Build, false);
        Self { all: [nobody; MOST_LIVING], count: 0 }
    }
}

impl Deref for Processes {
    type Target = [Living];

    fn deref(&self) -> &[Living] {
        &self.all[..self.count]
    }
}

impl DerefMut for Processes {
    fn deref_mut(&mut self) -> &mut [Living] {
        &mut self.all[..self.count]
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.deref().fmt(f)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct World {
    pub(super) living: Processes,
    /// What was last built, and whether from the newest source.
    pub(super) artifact: Option<bool>,
    /// The newest source does not build.
    pub(super) newest_fails: bool,
    /// A build wrote something for the next.
    pub(super) follow_up: bool,
    /// Files whose rules have yet to run.
    pub(super) rules_due: bool,
    /// The app has yet to be restarted.
    pub(super) restart_due: bool,
    /// What was last built does not start, or is not wanted.
    pub(super) is_given_up: bool,
    /// The start of something new has failed, or a user wants the older one: a reason to go back
    /// once.
    pub(super) may_go_back: bool,
    /// That was done, and nothing newer was built.
    pub(super) went_back: bool,
    /// The spacing after a build that was not cancelled is not over.
    pub(super) is_spaced: bool,
}

impl World {
    pub(super) fn newer_source(&mut self) {
        self.living.iter_mut().for_each(|one| one.fresh = false);
        self.artifact = self.artifact.map(|_| false);
        self.newest_fails = false;
    }

    pub(super) fn spawn(&mut self, proc: Proc, role: Role, fresh: bool) {
        self.living.push(Living::new(proc, role, fresh));
    }

    /// Whether a build, or a rule, has not come to its end.
    pub(super) fn is_building(&self) -> bool {
        let builds = |one: &&Living| matches!(one.role, Role::Build | Role::Rules);
        self.living.iter().filter(builds).any(|one| !one.exited || one.cut_short)
    }

    /// Something was built that takes the place of what was before.
    pub(super) fn built(&mut self) {
        self.living.iter_mut().for_each(|one| one.latest = false);
        self.is_given_up = false;
        self.may_go_back = false;
        self.went_back = false;
    }

    pub(super) fn apps(&self) -> impl Iterator<Item = &Living> {
        self.living.iter().filter(|one| one.role == Role::App)
    }

    /// Everything but the names of the processes, as a number. With the same service, the names are
    /// the same too.
    pub(super) fn packed(&self) -> u128 {
        let flags = [
            self.artifact.is_some(),
            self.artifact == Some(true),
            self.newest_fails,
            self.follow_up,
            self.rules_due,
            self.restart_due,
            self.is_given_up,
            self.may_go_back,
            self.went_back,
            self.is_spaced,
        ];
        let living = self.living.iter();
        living.fold(flagged(0, &flags), |packed, one| packed << LIVING_BITS | one.packed())
    }

    /// The same world without what makes no difference to any promise.
    pub(super) fn canonical(mut self, service: &Service) -> World {
        // Of what was asked for before, the state itself must know.
        self.rules_due = false;
        self.restart_due = false;
        // Where nothing older serves or is to, nothing needs an excuse.
        let is_late = self.living.iter().any(|one| one.late);
        let failed_start = slot(service) == Some(Slot::Empty { failed_start: true });
        let is_kept = service.artifacts.next == Source::Kept;
        self.may_go_back &= failed_start || is_late;
        let older_serves = self.apps().any(|one| !one.dismissed && !one.latest);
        self.is_given_up &= older_serves || failed_start || is_late || is_kept;
        self.went_back &= is_kept;
        let is_ending = is_ending(service);
        if is_ending {
            self = World { living: self.living, ..World::default() };
        }
        for one in self.living.iter_mut() {
            if one.exited || one.dismissed || is_ending {
                one.fresh = false;
                one.cut_short &= one.role == Role::Build && !is_ending;
                (one.latest, one.kept, one.late) = (false, false, false);
                one.ready &= !is_ending;
            }
        }
        self
    }
}

/// What the input itself does to the world.
pub(super) fn happen(world: &mut World, service: &Service, input: &Input, gates: Gates) {
    match input {
        Input::FollowUp(_) if has_follow_ups(service) => world.follow_up = true,
        Input::Saved(_) | Input::FollowUp(_) | Input::Reconfigured(_) if !is_ending(service) => {
            world.newer_source();
        }
        Input::Ruled(_) | Input::RuledByBuild(_) if !is_ending(service) => world.rules_due = true,
        Input::Revival(_) if revives(service) => world.newer_source(),
        Input::ReadByApp(_) if !is_ending(service) => world.restart_due = true,
        Input::Unbuilt => {
            world.restart_due = false;
            // What was built in its place is gone.
            let is_late = world.apps().any(|one| one.late && !one.dismissed);
            world.may_go_back |= is_late;
        }
        Input::Exited(proc, ended, _) => {
            let one = world.living.of_mut(*proc).expect("only the living exit");
            one.exited = true;
            one.ready = false;
            match one.role {
                Role::Build if ended.succeeded() => {
                    // Cancelled in the moment of its end: what it made is there all the same.
                    let (fresh, was_cancelled) = (one.fresh, one.dismissed);
                    world.artifact = Some(fresh);
                    if !was_cancelled {
                        world.built();
                    }
                }
                Role::Build if one.fresh && !one.dismissed => world.newest_fails = true,
                Role::App if !one.dismissed => {
                    world.is_given_up |= one.latest;
                    world.may_go_back |= unproven(service, *proc) && !ended.succeeded();
                }
                Role::Build | Role::Rules | Role::App | Role::Hook => {}
            }
        }
        Input::BuiltSame { build, app } => {
            let one = world.living.of_mut(*build).expect("only the living exit");
            one.exited = true;
            let fresh = one.fresh;
            world.artifact = Some(fresh);
            world.built();
            let app = world.living.of_mut(*app).expect("the living are compared");
            (app.latest, app.fresh) = (true, fresh);
        }
        Input::Gone(proc) => {
            world.living.remove(*proc);
        }
        Input::Due(Timer::Spacing(build)) => {
            world.is_spaced &= service.spacing != Some(*build);
        }
        Input::Unready(proc) => {
            let has_other = half_started(service) == Some(*proc);
            world.is_given_up |= has_other;
            let is_app = current(service).is_some_and(|app| app.proc == *proc);
            if let Some(one) = world.living.of_mut(*proc)
                && is_app
                && !(one.ready || one.exited || one.dismissed || has_other)
            {
                one.late = true;
                if unproven(service, *proc) {
                    world.is_given_up = true;
                    world.may_go_back = true;
                }
            }
        }
        Input::Rollback => {
            let goes_back = may_roll_back(service, gates);
            world.is_given_up |= half_started(service).is_some() || goes_back;
            world.may_go_back |= goes_back;
        }
        Input::Ready(proc) | Input::Running(proc) => {
            if let Some(one) = world.living.of_mut(*proc) {
                one.ready = !one.exited && !one.dismissed;
                one.late = false;
            }
        }
        Input::Saved(_)
        | Input::FollowUp(_)
        | Input::Ruled(_)
        | Input::RuledByBuild(_)
        | Input::ReadByApp(_)
        | Input::Revival(_)
        | Input::Reconfigured(_)
        | Input::Proven(_)
        | Input::Fallback(_)
        | Input::Overdue(_)
        | Input::Due(Timer::Backoff(_))
        | Input::Restart
        | Input::Signal(_)
        | Input::Look
        | Input::Quit
        | Input::Kill => {}
    }
}
