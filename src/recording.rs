//! Recordings of a session: every event of the core, and every event of the terminal with what was
//! seen then, as lines of JSON. Since both are pure, their effects follow from these.
//!
//! The first line holds the version, the policy and the terminal, each further line an event and its
//! time. [`TtyEvent::Used`] is missing: it comes often, and never changes the state.

use std::env;
use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{self, Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::core::terminal::{Seen, Terminal, TtyEffect, TtyEvent};
use crate::core::{Core, Effect, Event, ServiceId};
use crate::error::{Error, Result};
use crate::event::Policy;

/// The variable that names the file to record to.
pub(crate) const VARIABLE: &str = "HOTRUN_RECORD";

/// The file to record to, if one is named.
pub(crate) fn file() -> Option<PathBuf> {
    let path = env::var_os(VARIABLE).filter(|path| !path.is_empty())?;
    path::absolute(path).ok()
}

#[derive(Serialize, Deserialize)]
struct Head {
    /// The version that has recorded it.
    hotrun: String,
    policy: Policy,
    /// The terminal at the start.
    terminal: Terminal,
}

#[derive(Serialize, Deserialize)]
struct Line {
    /// Time since the start, in milliseconds.
    ms: u64,
    of: Recorded,
}

/// An event in a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Recorded {
    Core(Event),
    Terminal(TtyEvent, Seen),
}

/// An event of a recording, and the effects that follow from it.
#[derive(Debug)]
pub(crate) enum Replayed<'a> {
    Core(&'a Event, Vec<Effect>),
    Terminal(TtyEvent, Vec<TtyEffect>),
}

/// A recording in progress.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: File,
    path: PathBuf,
    began: Instant,
}

impl Recorder {
    /// Begins a recording, in place of an earlier one in this file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn begin(path: &Path, policy: Policy, terminal: Terminal) -> Result<Self> {
        let file = File::create(path).map_err(|error| not_recorded(path, error))?;
        let recorder = Self { file, path: path.to_owned(), began: Instant::now() };
        let hotrun = env!("CARGO_PKG_VERSION").to_owned();
        recorder.write(&Head { hotrun, policy, terminal })?;
        Ok(recorder)
    }

    /// Records an event. It is complete in the file when this returns.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn record(&self, of: Recorded) -> Result<()> {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.write(&Line { ms, of })
    }

    fn write(&self, line: &impl Serialize) -> Result<()> {
        let failed = |error| not_recorded(&self.path, error);
        let mut line = serde_json::to_vec(line).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        (&self.file).write_all(&line).map_err(failed)
    }
}

fn not_recorded(path: &Path, error: std::io::Error) -> Error {
    Error::failed(format!("cannot record to {} ({VARIABLE})", path.display()), error)
}

/// Lets the core and the terminal take all events of a recording. Calls `each` with the time of each
/// event in milliseconds, the event, and the effects that follow from it.
///
/// # Errors
///
/// The file cannot be read, or is no recording of this version. An incomplete last line is ignored.
pub(crate) fn replay(path: &Path, mut each: impl FnMut(u64, &Replayed<'_>)) -> Result<()> {
    let failed = |error| Error::failed(format!("cannot read {}", path.display()), error);
    let wrong = |number: usize, error: &dyn Display| {
        let place = format!("{}:{number}", path.display());
        let version = env!("CARGO_PKG_VERSION");
        Error::usage(place, format!("this is no recording of hotrun {version}: {error}"))
    };
    let mut lines =
        BufReader::new(File::open(path).map_err(failed)?).lines().enumerate().peekable();
    let (_, head) = lines.next().unwrap_or((0, Ok(String::new())));
    let head: Head =
        serde_json::from_str(&head.map_err(failed)?).map_err(|error| wrong(1, &error))?;
    let (mut core, mut terminal) = (Core::of_one(head.policy), head.terminal);
    while let Some((index, line)) = lines.next() {
        let Line { ms, of } = match serde_json::from_str(&line.map_err(failed)?) {
            Ok(line) => line,
            Err(error) if error.is_eof() && lines.peek().is_none() => break,
            Err(error) => return Err(wrong(index + 1, &error)),
        };
        match of {
            Recorded::Core(Event::Service(service, _)) if service != ServiceId::ONLY => {
                return Err(wrong(index + 1, &"there is only one service"));
            }
            Recorded::Core(event) => {
                let (next, effects) = core.step(event.clone());
                core = next;
                each(ms, &Replayed::Core(&event, effects));
            }
            Recorded::Terminal(event, seen) => {
                let (next, effects) = terminal.step(event, &seen);
                terminal = next;
                each(ms, &Replayed::Terminal(event, effects));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use nix::sys::signal::Signal;

    use super::*;
    use crate::core::terminal::{AppStage, Foreground, Run, Setup, Stdin};
    use crate::core::{Input, Lived};
    use crate::event::{Cause, Ended, Mode, OnExit, Order, Proc, ShutdownBy, Timer};

    const POLICY: Policy = Policy {
        mode: Mode::Restart,
        on_exit: OnExit::Restart,
        stop_on_error: false,
        rollback: true,
        builds: true,
        runs: true,
        hooks: 0,
        spaced: true,
        rerun_delay: None,
        once: false,
    };

    fn events() -> Vec<Event> {
        let odd = PathBuf::from(OsStr::from_bytes(b"src/\xff.rs"));
        let killed = Ended::Signal { number: 9, core: false };
        vec![
            Input::Saved(Cause::Start).into(),
            Input::Saved(Cause::Save(vec!["src/main.rs".into(), odd])).into(),
            Input::Exited(Proc(1), Ended::Code(1), Lived::Long).into(),
            Input::Gone(Proc(1)).into(),
            Input::Due(Timer::Spacing(Proc(2))).into(),
            Input::Exited(Proc(2), killed, Lived::Long).into(),
            Input::Reconfigured(POLICY).into(),
            Event::Ordered(Order::Signal(Signal::SIGUSR1)),
            Event::Ordered(Order::PauseOrResume),
            Event::Interrupted(ShutdownBy::CtrlC),
        ]
    }

    fn recorded() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("recording");
        let recorder = Recorder::begin(&path, POLICY, terminal()).unwrap();
        for event in events() {
            recorder.record(Recorded::Core(event)).unwrap();
        }
        for (event, seen) in events_of_the_terminal() {
            recorder.record(Recorded::Terminal(event, seen)).unwrap();
        }
        (place, path)
    }

    fn terminal() -> Terminal {
        let setup = Setup {
            is_on_stdin: true,
            can_read_keys: true,
            ignores_hangup: false,
            ignores_stop: false,
        };
        Terminal::new(setup, Foreground::Hotrun)
    }

    fn events_of_the_terminal() -> Vec<(TtyEvent, Seen)> {
        let seen = Seen {
            foreground: Foreground::Hotrun,
            run: Run { stdin: Stdin::Auto, is_copied: false },
            apps: [(Proc(3), AppStage::Running)].into(),
            is_building: false,
        };
        let wants = TtyEvent::Stopped { proc: Proc(3), signal: Signal::SIGTTIN, is_build: false };
        [TtyEvent::Begun, TtyEvent::AppStarts(Proc(3)), TtyEvent::Spawned(Proc(3)), wants]
            .map(|event| (event, seen.clone()))
            .into()
    }

    #[test]
    fn the_effects_of_a_recording_are_those_of_the_session() {
        let (_place, path) = recorded();
        let mut replayed = Vec::new();
        let mut of_terminal = Vec::new();
        replay(&path, |_, step| match step {
            Replayed::Core(_, effects) => replayed.push(effects.clone()),
            Replayed::Terminal(_, effects) => of_terminal.push(effects.clone()),
        })
        .unwrap();
        let mut core = Core::of_one(POLICY);
        let session = events().into_iter().map(|event| {
            let (next, effects) = core.clone().step(event);
            core = next;
            effects
        });
        // Only the name that is not UTF-8 differs.
        let text = |effects: &[Effect]| format!("{effects:?}").replace("\\xFF", "\u{fffd}");
        let session: Vec<String> = session.map(|effects| text(&effects)).collect();
        let replayed: Vec<String> = replayed.iter().map(|effects| text(effects)).collect();
        assert_eq!(replayed, session);
        assert!(replayed.iter().any(|effects| effects.contains("SpawnBuild")), "{replayed:?}");
        let mut terminal = terminal();
        let session = events_of_the_terminal().into_iter().map(|(event, seen)| {
            let (next, effects) = terminal.step(event, &seen);
            terminal = next;
            effects
        });
        assert_eq!(of_terminal, session.collect::<Vec<_>>());
        assert!(of_terminal.concat().contains(&TtyEffect::HandOver(Proc(3))), "{of_terminal:?}");
    }

    #[test]
    fn a_cut_off_last_line_ends_a_replay_and_anything_else_is_named_with_its_line() {
        let (_place, path) = recorded();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        let mut count = 0;
        replay(&path, |_, _| count += 1).unwrap();
        assert_eq!(count, events().len() + events_of_the_terminal().len() - 1);
        std::fs::write(&path, text.replacen("Gone", "Went", 1)).unwrap();
        let error = replay(&path, |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("recording:5: this is no recording of hotrun"), "{error}");
        std::fs::write(&path, "").unwrap();
        assert!(replay(&path, |_, _| {}).is_err());
    }
}
