//! That the exploration can fail: each of these terminals has one fault, made by changing what the
//! real one receives or answers, and each must be caught by the promise that it breaks.

use super::*;

type Stepped = (Terminal, Vec<TtyEffect>);

fn is_exit_of_owner(terminal: &Terminal, event: TtyEvent) -> bool {
    matches!(event, TtyEvent::Exited { proc, .. } if owner(terminal) == Some(proc))
}

fn without(stepped: Stepped, is_it: impl Fn(&TtyEffect) -> bool) -> Stepped {
    let (after, mut effects) = stepped;
    effects.retain(|effect| !is_it(effect));
    (after, effects)
}

// The terminal of another

fn believes_that_hotrun_stays_in_front(
    terminal: Terminal,
    event: TtyEvent,
    seen: &Seen,
) -> Stepped {
    let mut seen = seen.clone();
    if matches!(terminal.owner, Owner::Hotrun(_)) {
        seen.foreground = Foreground::Hotrun;
    }
    terminal.step(event, &seen)
}

fn takes_the_terminal_back_from_a_shell(
    terminal: Terminal,
    event: TtyEvent,
    seen: &Seen,
) -> Stepped {
    let (after, mut effects) = terminal.step(event, seen);
    if event == TtyEvent::Continued && after.is_elsewhere() {
        effects.push(TtyEffect::TakeBack);
    }
    (after, effects)
}

fn keeps_the_modes_of_a_shell_that_edits(
    terminal: Terminal,
    event: TtyEvent,
    seen: &Seen,
) -> Stepped {
    let (after, mut effects) = terminal.step(event, seen);
    if event == TtyEvent::Continued {
        effects.push(TtyEffect::KeepModes);
    }
    (after, effects)
}

fn stops_polling_in_the_background(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    without(terminal.step(event, seen), |effect| *effect == TtyEffect::Poll)
}

// Exits

fn lets_what_has_exited_keep_it(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    if is_exit_of_owner(&terminal, event) {
        return (terminal, Vec::new());
    }
    terminal.step(event, seen)
}

fn waits_for_what_has_exited(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    let (mut after, effects) = terminal.step(event, seen);
    if matches!(event, TtyEvent::Exited { .. }) && after.is_elsewhere() {
        after.waiting = terminal.waiting;
    }
    (after, effects)
}

fn forgets_a_loan_when_the_owner_exits(
    mut terminal: Terminal,
    event: TtyEvent,
    seen: &Seen,
) -> Stepped {
    if is_exit_of_owner(&terminal, event)
        && let Owner::Process(holder) = &mut terminal.owner
    {
        holder.loan = None;
    }
    terminal.step(event, seen)
}

fn forgets_the_app_that_lent_it(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    let mut seen = seen.clone();
    if is_exit_of_owner(&terminal, event) {
        seen.apps.retain(|_, stage| *stage != AppStage::Running);
    }
    terminal.step(event, &seen)
}

/// The fault of the first terminal: an app that asked while a build had it was not remembered.
fn forgets_an_app_that_asks_during_a_build(
    terminal: Terminal,
    event: TtyEvent,
    seen: &Seen,
) -> Stepped {
    let (mut after, effects) = terminal.step(event, seen);
    if effects.is_empty() && matches!(event, TtyEvent::Stopped { .. }) {
        after.is_for_apps = terminal.is_for_apps;
    }
    (after, effects)
}

fn reads_keys_between_two_apps(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    let mut seen = seen.clone();
    if matches!(event, TtyEvent::Exited { .. }) {
        let leaving = seen.apps.values_mut().filter(|stage| **stage == AppStage::Leaving);
        leaving.for_each(|stage| *stage = AppStage::Ended);
    }
    terminal.step(event, &seen)
}

/// The fault of the first terminal: after Ctrl-Z, no key was read if the last app had wanted input.
fn keeps_keys_off_after_ctrl_z(mut terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    if event == TtyEvent::Continued {
        terminal.is_idle = false;
    }
    terminal.step(event, seen)
}

fn exits_with_each_app(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    let (after, mut effects) = terminal.step(event, seen);
    if is_exit_of_owner(&terminal, event) {
        effects.push(TtyEffect::Interrupt);
    }
    (after, effects)
}

// Several that want it

fn gives_it_to_whoever_asks(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    let mut seen = seen.clone();
    if matches!(event, TtyEvent::Stopped { .. })
        && let Some(stage) = owner(&terminal).and_then(|owner| seen.apps.get_mut(&owner))
    {
        *stage = AppStage::Leaving;
    }
    terminal.step(event, &seen)
}

fn does_not_ask_the_owner_to_stop_reading(
    terminal: Terminal,
    event: TtyEvent,
    seen: &Seen,
) -> Stepped {
    without(terminal.step(event, seen), |effect| matches!(effect, TtyEffect::Pass(..)))
}

fn waits_for_ever_for_an_app_that_reads(
    terminal: Terminal,
    event: TtyEvent,
    seen: &Seen,
) -> Stepped {
    match event {
        TtyEvent::LoanDue(_) => (terminal, Vec::new()),
        event => terminal.step(event, seen),
    }
}

fn does_not_continue_what_has_got_it(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    without(terminal.step(event, seen), |effect| matches!(effect, TtyEffect::Resume(_)))
}

fn lends_what_an_app_is_about_to_take(
    mut terminal: Terminal,
    event: TtyEvent,
    seen: &Seen,
) -> Stepped {
    if let (TtyEvent::LoanDue(borrower), Owner::Process(holder)) = (event, &mut terminal.owner) {
        holder.is_starting &= holder.loan != Some(borrower);
    }
    terminal.step(event, seen)
}

/// The fault of the first terminal: an app that starts with it took it from an older one.
fn gives_it_to_an_heir_beside_an_owner(
    terminal: Terminal,
    event: TtyEvent,
    seen: &Seen,
) -> Stepped {
    match event {
        TtyEvent::Spawned(proc) if terminal.heir == Some(proc) => {
            let mut alone = terminal;
            alone.owner = Owner::Hotrun(Keys::Off);
            let around = Seen { foreground: Foreground::Hotrun, ..seen.clone() };
            alone.step(event, &around)
        }
        event => terminal.step(event, seen),
    }
}

fn keeps_what_a_command_has_borrowed(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    let has_taken = holder(&terminal).is_none_or(|holder| !holder.is_starting);
    match event {
        TtyEvent::Spawned(proc) if has_taken && owner(&terminal) == Some(proc) => {
            (terminal, Vec::new())
        }
        event => terminal.step(event, seen),
    }
}

// Job control

fn gives_it_while_the_job_stops(mut terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    let job = terminal.job;
    let is_request = matches!(event, TtyEvent::Stopped { signal: Signal::SIGTTIN, .. });
    if is_request && job != Job::Running {
        terminal.job = Job::Running;
        let (mut after, effects) = terminal.step(event, seen);
        after.job = job;
        return (after, effects);
    }
    terminal.step(event, seen)
}

fn does_not_stop_with_its_app(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    match event {
        TtyEvent::Stopped { signal: Signal::SIGTSTP, .. } => (terminal, Vec::new()),
        event => terminal.step(event, seen),
    }
}

fn stays_stopped(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    match event {
        TtyEvent::Continued if terminal.job == Job::Stopping && !terminal.is_elsewhere() => {
            (terminal, vec![TtyEffect::ResumeAll])
        }
        event => terminal.step(event, seen),
    }
}

fn forgets_the_owner_at_ctrl_z(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    let (mut after, effects) = terminal.step(event, seen);
    if event == TtyEvent::Suspended {
        after.waiting = None;
    }
    let resumes = |effect: &TtyEffect| *effect == TtyEffect::ResumeAll;
    without((after, effects), |effect| event == TtyEvent::Continued && resumes(effect))
}

fn does_not_look_whether_an_app_has_taken_it(
    terminal: Terminal,
    event: TtyEvent,
    seen: &Seen,
) -> Stepped {
    let mut seen = seen.clone();
    if holder(&terminal).is_some_and(|holder| holder.is_starting) {
        seen.foreground = Foreground::Given;
    }
    terminal.step(event, &seen)
}

// Keys and the end

fn never_reads_keys_again_beside_an_app(
    terminal: Terminal,
    event: TtyEvent,
    seen: &Seen,
) -> Stepped {
    without(terminal.step(event, seen), |effect| *effect == TtyEffect::AwaitBegin)
}

fn leaves_its_modes_to_the_next(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    without(terminal.step(event, seen), |effect| {
        event == TtyEvent::Suspended && *effect == TtyEffect::ShowShellModes
    })
}

fn reads_on_after_a_build_has_started(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    without(terminal.step(event, seen), |effect| {
        event == TtyEvent::BuildStarts && *effect == TtyEffect::StopKeys
    })
}

fn keeps_the_terminal_at_its_end(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    match event {
        TtyEvent::Left => (terminal, vec![TtyEffect::StopKeys]),
        event => terminal.step(event, seen),
    }
}

fn believes_a_late_exit(terminal: Terminal, event: TtyEvent, seen: &Seen) -> Stepped {
    let (mut after, effects) = terminal.step(event, seen);
    after.is_idle |= matches!(event, TtyEvent::Exited { .. });
    (after, effects)
}

macro_rules! caught {
    ($($test:ident: in $scope:expr, $breaks:literal;)*) => {
        mod caught {
            use super::*;
            $(
                #[test]
                fn $test() {
                    is_caught(super::$test, &$scope, $breaks);
                }
            )*
        }
    };
}

fn is_caught(step: Step, scope: &Scope, breaks: &str) {
    match explore(step, scope) {
        Ok(explored) => panic!("not caught in {} transitions", explored.transitions),
        Err(why) => assert!(why.contains(breaks), "caught, but as: {why}"),
    }
}

const JOB: Scope = Scope { stops: true, ..PLAIN };
const BUILD: Scope = Scope { builds: true, ..PLAIN };
const HANDOVER: Scope = Scope { apps: 2, ..PLAIN };
const BUILD_JOB: Scope = Scope { builds: true, stops: true, late: 2, ..PLAIN };

caught! {
    believes_that_hotrun_stays_in_front: in JOB, "another's terminal are changed";
    takes_the_terminal_back_from_a_shell: in JOB, "taken from another";
    keeps_the_modes_of_a_shell_that_edits: in JOB, "the modes of another's terminal are kept";
    stops_polling_in_the_background: in JOB, "hotrun is in front";
    lets_what_has_exited_keep_it: in PLAIN, "keeps the terminal, or waits";
    waits_for_what_has_exited: in JOB, "keeps the terminal, or waits";
    forgets_a_loan_when_the_owner_exits: in BUILD, "waits for a terminal that is free";
    forgets_the_app_that_lent_it: in BUILD, "waits for a terminal that is free";
    forgets_an_app_that_asks_during_a_build: in BUILD, "waits for a terminal that is free";
    reads_keys_between_two_apps: in PLAIN, "between two apps";
    keeps_keys_off_after_ctrl_z: in JOB, "no key is read";
    exits_with_each_app: in PLAIN, "no user has asked";
    gives_it_to_whoever_asks: in HANDOVER, "loses the terminal to another app";
    does_not_ask_the_owner_to_stop_reading: in BUILD, "without being asked";
    waits_for_ever_for_an_app_that_reads: in Scope { deaf: true, ..BUILD },
        "an owner that is to lend";
    does_not_continue_what_has_got_it: in PLAIN, "the owner stays stopped";
    lends_what_an_app_is_about_to_take: in BUILD, "does not have the terminal";
    gives_it_to_an_heir_beside_an_owner: in Scope { apps: 2, run: APP, setup: OFF_STDIN, ..PLAIN },
        "loses the terminal to another app";
    keeps_what_a_command_has_borrowed: in BUILD, "does not have the terminal";
    gives_it_while_the_job_stops: in JOB, "given while the job stops";
    does_not_stop_with_its_app: in JOB, "the owner stays stopped";
    stays_stopped: in JOB, "the job stays stopped";
    forgets_the_owner_at_ctrl_z: in JOB, "waits for a terminal that is free";
    does_not_look_whether_an_app_has_taken_it: in Scope { run: APP, ..JOB },
        "does not have the terminal";
    never_reads_keys_again_beside_an_app: in PLAIN, "nothing ends the time";
    leaves_its_modes_to_the_next: in JOB, "the modes are not as they are to be";
    reads_on_after_a_build_has_started: in BUILD_JOB, "it is not known";
    keeps_the_terminal_at_its_end: in PLAIN, "keeps the terminal";
    believes_a_late_exit: in PLAIN, "a late event changes something";
}
