//! The scopes: each a test of its own, in which every promise holds on every transition.

use super::*;

pub(super) const PLAIN: Policy = Policy {
    mode: Mode::Restart,
    on_exit: OnExit::Wait,
    stop_on_error: false,
    rollback: false,
    builds: true,
    runs: true,
    hooks: 0,
    spaced: false,
    rerun_delay: None,
    once: false,
};

pub(super) const HANDOVER: Policy = Policy { mode: Mode::Handover, ..PLAIN };

/// With `rollback`.
pub(super) const BACK: Policy = Policy { rollback: true, ..PLAIN };

const STOPPING: Policy = Policy { stop_on_error: true, ..PLAIN };

const fn on_exit(on_exit: OnExit, policy: Policy) -> Policy {
    Policy { on_exit, ..policy }
}

pub(super) const fn scope(policy: Policy) -> Scope {
    Scope {
        policy,
        other: None,
        gates: OPEN,
        follow_ups: false,
        rules: false,
        unbuilt: false,
        rollbacks: false,
        max_living: 3,
    }
}

fn every_promise_holds(name: &str, scope: &Scope) {
    let Explored { states, transitions, .. } =
        explore(Service::step, scope).unwrap_or_else(|why| panic!("{name}: {why}"));
    println!("{name}: {states} states, {transitions} transitions");
    assert!(states > 50, "{name}: the exploration did not get anywhere");
}

explored! {
    restart: Scope { max_living: 4, ..scope(PLAIN) };
    restart_under_all_gates: Scope { unbuilt: true, gates: ALL_GATES, follow_ups: true, ..scope(PLAIN) };
    restart_pauses_follow_ups: Scope { gates: PAUSES, follow_ups: true, ..scope(PLAIN) };
    restart_spaced_hooks: Scope {
        follow_ups: true,
        ..scope(Policy { spaced: true, hooks: 2, ..PLAIN })
    };
    restart_on_exit_restart: Scope { max_living: 4, ..scope(on_exit(OnExit::Restart, PLAIN)) };
    restart_on_exit_restart_under_all_gates: Scope {
        unbuilt: true, gates: ALL_GATES, follow_ups: true, max_living: 2,
        ..scope(on_exit(OnExit::Restart, Policy { spaced: true, ..PLAIN }))
    };
    restart_on_exit_quit_spaced: scope(on_exit(
        OnExit::Quit,
        Policy { spaced: true, hooks: 1, ..PLAIN }
    ));
    restart_stop_on_error: Scope { max_living: 4, ..scope(STOPPING) };
    build_only_then_both: Scope {
        other: Some(PLAIN),
        ..scope(Policy { runs: false, ..PLAIN })
    };
    both_then_build_only: Scope {
        other: Some(Policy { runs: false, ..on_exit(OnExit::Restart, PLAIN) }),
        ..scope(on_exit(OnExit::Restart, PLAIN))
    };
    run_only_then_both: Scope { other: Some(PLAIN), ..scope(Policy { builds: false, ..PLAIN }) };
    restart_then_handover: Scope { other: Some(HANDOVER), ..scope(PLAIN) };
    handover_then_restart: Scope { other: Some(PLAIN), ..scope(HANDOVER) };
    handover: Scope { max_living: 5, ..scope(HANDOVER) };
    handover_under_all_gates: Scope { unbuilt: true, gates: ALL_GATES, follow_ups: true, ..scope(HANDOVER) };
    handover_pauses_follow_ups: Scope { gates: PAUSES, follow_ups: true, ..scope(HANDOVER) };
    handover_on_exit_restart: Scope { max_living: 4, ..scope(on_exit(OnExit::Restart, HANDOVER)) };
    handover_stop_on_error_hooks: Scope {
        max_living: 4,
        ..scope(Policy { stop_on_error: true, hooks: 1, ..HANDOVER })
    };
    handover_run_only: Scope { max_living: 4, ..scope(Policy { builds: false, ..HANDOVER }) };
    rules: Scope { rules: true, unbuilt: true, ..scope(PLAIN) };
    rules_under_all_gates: Scope {
        rules: true, unbuilt: true, follow_ups: true, gates: ALL_GATES, max_living: 2,
        ..scope(PLAIN)
    };
    rules_pauses: Scope { rules: true, unbuilt: true, gates: PAUSES, max_living: 2, ..scope(PLAIN) };
    rules_follow_ups_on_exit_restart_hooks: Scope {
        rules: true, unbuilt: true, follow_ups: true, gates: PAUSES, max_living: 2,
        ..scope(on_exit(OnExit::Restart, Policy { hooks: 1, ..PLAIN }))
    };
    rules_on_exit_quit_stop_on_error: Scope {
        rules: true, unbuilt: true,
        ..scope(on_exit(OnExit::Quit, STOPPING))
    };
    rules_handover: Scope { rules: true, unbuilt: true, ..scope(HANDOVER) };
    rules_run_only: Scope { rules: true, unbuilt: true, ..scope(Policy { builds: false, ..PLAIN }) };
    rollback: Scope { rollbacks: true, ..scope(BACK) };
    rollback_under_all_gates: Scope {
        rollbacks: true, gates: ALL_GATES, max_living: 2,
        ..scope(BACK)
    };
    rollback_handover_under_all_gates: Scope {
        rollbacks: true, gates: ALL_GATES,
        ..scope(Policy { mode: Mode::Handover, ..BACK })
    };
    rollback_by_hand_alone: Scope { rollbacks: true, ..scope(PLAIN) };
    rollback_handover: Scope { rollbacks: true, ..scope(Policy { mode: Mode::Handover, ..BACK }) };
    rollback_handover_all: Scope {
        rollbacks: true, rules: true, unbuilt: true, gates: PAUSES, max_living: 2,
        ..scope(Policy { mode: Mode::Handover, ..BACK })
    };
    rollback_rules_on_exit_restart: Scope {
        rollbacks: true, rules: true, unbuilt: true, max_living: 2,
        ..scope(on_exit(OnExit::Restart, BACK))
    };
    rollback_pauses_on_exit_quit_hooks: Scope {
        rollbacks: true, gates: PAUSES, follow_ups: true, max_living: 2,
        ..scope(on_exit(OnExit::Quit, Policy { hooks: 1, spaced: true, ..BACK }))
    };
    rollback_run_only: Scope {
        rollbacks: true, max_living: 2,
        ..scope(Policy { builds: false, ..BACK })
    };
    rollback_stop_on_error_then_handover: Scope {
        rollbacks: true, other: Some(HANDOVER), max_living: 2,
        ..scope(Policy { stop_on_error: true, ..BACK })
    };
    once: scope(on_exit(OnExit::Quit, Policy { once: true, ..PLAIN }));
}
