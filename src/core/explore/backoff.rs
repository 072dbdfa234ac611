//! The delays before an app that exits by itself is restarted.

use std::time::Duration;

use super::scopes::PLAIN;
use super::*;
use crate::notice::Notice;

const RESTART: Policy = Policy { on_exit: OnExit::Restart, ..PLAIN };

/// A service whose apps exit.
struct Crashing(Service);

impl Crashing {
    /// Its first app has started.
    fn new(policy: Policy) -> Self {
        let mut crashing = Self(Service::new(policy));
        crashing.build();
        crashing
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let (after, effects) = self.0.clone().step(input, Gates::OPEN);
        self.0 = after;
        effects
    }

    fn build(&mut self) {
        self.step(Input::Saved(none()));
        let build = building(&self.0).expect("the build of the save");
        self.step(Input::Exited(build, Ended::Code(0), Lived::Long));
        self.leave();
    }

    fn leave(&mut self) {
        for proc in self.0.leaving.clone().into_keys() {
            self.step(Input::Gone(proc));
        }
    }

    /// The app exits, and another is started. Returns the delay, and whether that is called a loop.
    fn crash(&mut self, lived: Lived) -> (u128, bool) {
        let app = current(&self.0).expect("the app").proc;
        let effects = self.step(Input::Exited(app, Ended::Code(1), lived));
        let delay = effects.iter().find_map(|effect| match effect {
            Effect::ArmBackoff(proc, delay) if *proc == app => Some(delay.as_millis()),
            _ => None,
        });
        let is_loop = |effect: &Effect| matches!(effect, Effect::Say(Notice::CrashLoop(5, _)));
        let is_loop = effects.iter().any(is_loop);
        self.leave();
        self.step(Input::Due(Timer::Backoff(app)));
        (delay.expect("a backoff"), is_loop)
    }
}

#[test]
fn the_backoff_doubles_with_each_short_life_and_is_short_again_after_a_long_one_or_a_build() {
    let mut service = Crashing::new(RESTART);
    let delays: Vec<_> = (0..7).map(|_| service.crash(Lived::Briefly)).collect();
    let expected = [500, 1000, 2000, 4000, 8000, 8000, 8000];
    assert_eq!(delays, std::array::from_fn::<_, 7, _>(|place| (expected[place], place == 4)));
    assert_eq!(service.crash(Lived::Long), (500, false));
    assert_eq!(service.crash(Lived::Briefly), (500, false));
    assert_eq!(service.crash(Lived::Briefly), (1000, false));
    service.build();
    assert_eq!(service.crash(Lived::Briefly), (500, false));
}

#[test]
fn a_configured_delay_does_not_grow() {
    let policy = Policy { rerun_delay: Some(Duration::from_millis(70)), ..RESTART };
    let mut service = Crashing::new(policy);
    let delays: Vec<_> = (0..6).map(|_| service.crash(Lived::Briefly)).collect();
    assert_eq!(delays, std::array::from_fn::<_, 6, _>(|place| (70, place == 4)));
}

#[test]
fn an_app_has_lived_long_after_ten_seconds() {
    assert_eq!(Lived::of(Duration::from_millis(9_999)), Lived::Briefly);
    assert_eq!(Lived::of(Duration::from_secs(10)), Lived::Long);
}
