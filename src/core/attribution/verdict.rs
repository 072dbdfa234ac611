//! What follows from the verdicts on a burst's files.

use std::path::PathBuf;
use std::time::Duration;

use super::window::During;

/// What follows from a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A save: start a build, and cancel the running one.
    Save,
    /// A save, but the running build may finish first, since newer saves have cancelled builds for
    /// too long. It is cancelled if it does not end in time.
    Finish {
        /// Time left to the running build.
        within: Duration,
    },
    /// The file may be the build's own output. [`Attribution::build_ended`] decides what follows.
    ///
    /// [`Attribution::build_ended`]: super::Attribution::build_ended
    Pending,
    /// The file may be an output of a build that has already ended. A verification follows.
    Verify {
        /// Delay of the verification, if builds seem to cause each other.
        pause: Option<Duration>,
    },
    /// As `Save`, but delayed, since builds seem to cause each other.
    SaveLater(Duration),
    /// The running or last build has read this change already.
    Read,
    Nothing,
}

/// The changed files of a burst, sorted by their verdicts.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Saves that cancel the running build.
    pub saves: Vec<PathBuf>,
    /// Whether one of these happened during a build or a run of rules.
    pub is_during: bool,
    /// Saves that let the running build complete.
    finish: Vec<PathBuf>,
    /// Files that the last build may have written, although it has ended.
    verify: Vec<PathBuf>,
    verify_pause: Option<Duration>,
    /// Files that are built later.
    later: Vec<PathBuf>,
    pause: Duration,
}

impl Judged {
    pub(crate) fn add(&mut self, path: PathBuf, verdict: Verdict, during: During) {
        match verdict {
            Verdict::Save => {
                self.saves.push(path);
                self.is_during |= during != During::Rest;
            }
            Verdict::Finish { within } => {
                self.finish.push(path);
                self.pause = self.pause.max(within);
            }
            Verdict::Verify { pause } => {
                self.verify.push(path);
                self.verify_pause = self.verify_pause.max(pause);
            }
            Verdict::SaveLater(pause) => {
                self.later.push(path);
                self.pause = self.pause.max(pause);
            }
            Verdict::Pending | Verdict::Read | Verdict::Nothing => {}
        }
    }

    /// Returns what follows if these are sources. `test`: asked before a build that a save causes,
    /// decides whether it is delayed, and for which files.
    pub(super) fn steps(
        mut self,
        test: impl FnOnce() -> Option<(Duration, Vec<PathBuf>)>,
    ) -> Vec<Step> {
        if !self.saves.is_empty() {
            // One build covers all of them.
            let mut saves = self.saves;
            for more in [&mut self.finish, &mut self.verify, &mut self.later] {
                saves.append(more);
            }
            return vec![match test() {
                Some((pause, suspects)) => Step::Test { saves, suspects, pause },
                None => Step::Build(saves),
            }];
        }
        let mut steps = Vec::new();
        if !self.finish.is_empty() {
            steps.push(Step::Finish { saves: self.finish, within: self.pause });
        }
        if !self.verify.is_empty() {
            steps.push(Step::Verify { paths: self.verify, pause: self.verify_pause });
        }
        if !self.later.is_empty() {
            steps.push(Step::BuildLater { saves: self.later, pause: self.pause });
        }
        steps
    }
}

/// What follows from a burst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Build, and cancel the running build.
    Build(Vec<PathBuf>),
    /// Build after a delay, which shows whether another program writes `suspects`.
    Test { saves: Vec<PathBuf>, suspects: Vec<PathBuf>, pause: Duration },
    /// Build when the running build has ended. Cancel that if it takes longer than `within`.
    Finish { saves: Vec<PathBuf>, within: Duration },
    /// Build once more, to find out whether the last build has written these files.
    Verify {
        paths: Vec<PathBuf>,
        /// Delay of that build, if builds seem to cause each other.
        pause: Option<Duration>,
    },
    /// Build after a delay, since builds seem to cause each other.
    BuildLater { saves: Vec<PathBuf>, pause: Duration },
}

#[cfg(test)]
mod tests {
    use super::*;
    use During::{Cmd, Rest};
    use Verdict::{Finish, Nothing, Pending, Read, Save, SaveLater, Verify};

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    fn judged(verdicts: &[(&str, Verdict)]) -> Judged {
        let mut judged = Judged::default();
        for (name, verdict) in verdicts {
            judged.add(PathBuf::from(name), *verdict, Cmd);
        }
        judged
    }

    /// Checks what follows from these verdicts where no build is to be delayed for a test.
    #[track_caller]
    fn check(verdicts: &[(&str, Verdict)], expected: &[Step]) {
        assert_eq!(judged(verdicts).steps(|| None), expected, "{verdicts:?}");
    }

    #[test]
    fn each_verdict_leads_to_its_step() {
        check(&[("a", Save), ("b", Save)], &[Step::Build(paths(&["a", "b"]))]);
        check(
            &[("a", Finish { within: SECOND })],
            &[Step::Finish { saves: paths(&["a"]), within: SECOND }],
        );
        for pause in [None, Some(SECOND)] {
            let verify = Step::Verify { paths: paths(&["a"]), pause };
            check(&[("a", Verify { pause })], &[verify]);
        }
        check(
            &[("a", SaveLater(SECOND))],
            &[Step::BuildLater { saves: paths(&["a"]), pause: SECOND }],
        );
        check(&[("a", Pending), ("b", Read), ("c", Nothing)], &[]);
    }

    #[test]
    fn the_build_of_a_save_covers_everything_else() {
        check(
            &[
                ("later", SaveLater(MINUTE)),
                ("verify", Verify { pause: Some(SECOND) }),
                ("nothing", Nothing),
                ("finish", Finish { within: SECOND }),
                ("save", Save),
            ],
            &[Step::Build(paths(&["save", "finish", "verify", "later"]))],
        );
    }

    #[test]
    fn without_a_save_each_kind_is_handled_and_the_longest_delay_counts() {
        check(
            &[
                ("a", Verify { pause: None }),
                ("b", Verify { pause: Some(MINUTE) }),
                ("c", Verify { pause: Some(SECOND) }),
                ("d", SaveLater(SECOND)),
                ("e", SaveLater(MINUTE)),
            ],
            &[
                Step::Verify { paths: paths(&["a", "b", "c"]), pause: Some(MINUTE) },
                Step::BuildLater { saves: paths(&["d", "e"]), pause: MINUTE },
            ],
        );
        check(
            &[("a", Finish { within: SECOND }), ("b", Verify { pause: None })],
            &[
                Step::Finish { saves: paths(&["a"]), within: SECOND },
                Step::Verify { paths: paths(&["b"]), pause: None },
            ],
        );
    }

    #[test]
    fn only_the_build_of_a_save_is_delayed_for_a_test() {
        let test = || Some((SECOND, paths(&["suspect"])));
        let steps = judged(&[("a", Save), ("b", Finish { within: MINUTE })]).steps(test);
        let (saves, suspects) = (paths(&["a", "b"]), paths(&["suspect"]));
        assert_eq!(steps, [Step::Test { saves, suspects, pause: SECOND }]);
        let steps = judged(&[("a", SaveLater(SECOND))]).steps(|| panic!("there is no save"));
        assert_eq!(steps.len(), 1);
    }

    #[test]
    fn a_save_while_something_runs_is_known_as_such() {
        let mut judged = Judged::default();
        judged.add("a".into(), Save, Rest);
        judged.add("b".into(), Nothing, Cmd);
        assert!(!judged.is_during, "only saves count");
        judged.add("c".into(), Save, Cmd);
        assert!(judged.is_during);
        judged.add("d".into(), Save, Rest);
        assert!(judged.is_during && judged.saves == paths(&["a", "c", "d"]));
    }
}
