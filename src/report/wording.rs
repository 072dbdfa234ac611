//! From a record to its line. Pure: what a line says follows from the record alone.

use std::path::{Path, PathBuf};

use super::layout::{duration, name_processes, short};
use super::{Part, Tone};
use crate::event::{Cause, Ended, Proc, ShutdownBy, name_paths};
use crate::notice::{Activity, Next, NoRollback, Notice};
use crate::record::{Purpose, Record, Which};

mod listeners;
mod ports;
mod problems;
mod programs;
mod writers;

pub(crate) use ports::who_holds;
pub(crate) use programs::time_of_day;

/// A line of the log, before its layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) part: Part,
    pub(super) tone: Tone,
    pub(super) word: &'static str,
    pub(super) text: String,
    /// Whether it begins an update: on a terminal, it begins a paragraph.
    pub(super) begins: bool,
}

impl Line {
    fn new(part: Part, tone: Tone, word: &'static str, text: impl Into<String>) -> Self {
        Self { part, tone, word, text: text.into(), begins: false }
    }

    fn note(text: impl Into<String>) -> Self {
        Self::new(Part::Main, Tone::Warn, "note", text)
    }
}

/// What the words of a line depend on, beside the notice.
pub(super) struct Context<'a> {
    pub(super) record: &'a Record,
    /// Paths are shown relative to this directory.
    pub(super) base: &'a Path,
    /// Whether lines name processes by their pids.
    pub(super) pids: bool,
}

impl Context<'_> {
    fn names(&self, paths: &[PathBuf]) -> String {
        name_paths(paths, self.base)
    }

    /// Returns the name of a process for a line.
    fn name(&self, proc: Proc) -> String {
        let Some(process) = self.record.process(proc) else { return "a process".to_owned() };
        match process.pid {
            Some(pid) if self.pids => format!("pid {pid}"),
            None if self.pids => "a process that never started".to_owned(),
            _ => match process.which {
                None => "the build",
                Some(Which::Only) => "the program",
                Some(Which::Previous) => "the previous program",
                Some(Which::New) => "the new program",
            }
            .to_owned(),
        }
    }

    /// The name of a process, if lines name processes by their pids.
    fn name_by_pid(&self, proc: Proc) -> String {
        if self.pids { self.name(proc) } else { String::new() }
    }

    /// ` (pid 5)` if lines name processes by their pids.
    fn pid(&self, proc: Proc) -> String {
        let pid = self.record.process(proc).and_then(|process| process.pid);
        pid.filter(|_| self.pids).map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    }

    fn took(&self, proc: Proc) -> String {
        self.record.process(proc).map_or_else(String::new, |process| duration(process.age))
    }

    fn serving(&self, app: Option<Proc>) -> String {
        match app {
            Some(app) => format!("{} keeps running", self.name(app)),
            None => "nothing is running".to_owned(),
        }
    }

    fn purpose(&self, build: Proc) -> Purpose {
        self.record.process(build).map(|process| process.purpose).unwrap_or_default()
    }
}

/// Returns the line for a record, if it has one.
#[expect(clippy::too_many_lines, reason = "one arm for each notice")]
pub(super) fn line(cx: &Context<'_>) -> Option<Line> {
    use Part::{Build, Main, Runner, Watcher};
    use Tone::{Bad, Good, Plain, Warn, Work};
    Some(match &cx.record.notice {
        Notice::Changed(cause) => return changed(cx, cause),
        // The line about its first command follows.
        Notice::Building(_) => return None,
        Notice::CommandStarted { proc: _, step, command } => {
            let first = command.lines().next().unwrap_or_default();
            let more = if command.lines().count() > 1 { " …" } else { "" };
            Line::new(Build, Work, word_of(*step), format!("{first}{more}"))
        }
        Notice::Tolerated { command, ended } => {
            Line::new(Main, Warn, "warning", format!("{command}: {ended}; the build continues"))
        }
        Notice::Built(build) => {
            let word = match cx.purpose(*build) {
                Purpose::Program => "built",
                Purpose::Library => "checked",
                Purpose::Syntax => return None,
            };
            Line::new(Build, Good, word, format!("in {}", cx.took(*build)))
        }
        Notice::SameProgram(build) => {
            let text = format!("the program is the same, built in {}", cx.took(*build));
            Line::new(Build, Good, "unchanged", text)
        }
        Notice::BuildFailed { build, ended, app } => build_failed(cx, *build, ended, *app),
        Notice::Cancelled(build) => {
            Line::new(Build, Plain, "cancelled", format!("after {}", cx.took(*build)))
        }
        Notice::Overtaken(count) => {
            Line::note(format!("{count} builds in a row were cancelled by newer saves"))
        }
        Notice::Finishing(paths) => writers::finishing(cx, paths),
        Notice::Outputs(paths) => writers::outputs(cx, paths),
        Notice::Late(paths, pause) => writers::late(cx, paths, *pause),
        Notice::OwnWrites(paths) => writers::own_writes(cx, paths),
        Notice::ChangesInBuilds(paths, pause) => writers::changes_in_builds(cx, paths, *pause),
        Notice::Testing(saved, paths, pause) => writers::testing(cx, saved, paths, *pause),
        Notice::Unchanged(paths) => Line::new(Watcher, Plain, "unchanged", cx.names(paths)),
        Notice::ForBrowser { paths, css } => writers::for_browser(cx, paths, *css),
        Notice::RulesDone(rules) => {
            Line::new(Build, Good, "done", format!("in {}", cx.took(*rules)))
        }
        Notice::RulesFailed { rules, ended, app } => {
            let (took, follows) = (cx.took(*rules), cx.serving(*app));
            Line::new(Build, Bad, "failed", format!("rule: {ended}, after {took}; {follows}"))
        }
        Notice::Started(app) => programs::started(cx, *app),
        Notice::Ready(app) => programs::ready(cx, *app),
        Notice::Running(app) => programs::running(cx, *app),
        Notice::Unready { new, app, goes_back } => programs::unready(cx, *new, *app, *goes_back),
        Notice::Assumed(app) => programs::assumed(cx, *app),
        Notice::Status(app, status) => {
            let text = format!("{}: {}", cx.name(*app), short(status));
            Line::new(Runner, Plain, "status", text)
        }
        Notice::Succeeded(app, before) => {
            let before = before.map(|pid| format!(", in place of pid {pid}"));
            let text = format!("{}{}", cx.name(*app), before.unwrap_or_default());
            Line::new(Runner, Plain, "continues", text)
        }
        Notice::Extended { app, more, to_end } => programs::extended(cx, *app, *more, *to_end),
        Notice::AppStopping(app) => {
            let text = format!("{} reports that it is stopping", cx.name(*app));
            Line::new(Runner, Plain, "stopping", text)
        }
        Notice::Stopped(app) => return programs::stopped(cx, *app),
        Notice::Killing(proc) => programs::killing(cx, *proc),
        Notice::TooManyLeave(app) => {
            let text = format!("{}: three newer ones are stopping, too", cx.name(*app));
            Line::new(Runner, Warn, "killing", text)
        }
        Notice::Holding { who, signal, kill_in, key } => {
            let then = kill_in.map(|left| format!("; killed in {} ({key})", duration(left)));
            let have = if who.len() == 1 { "has" } else { "have" };
            let (who, then) = (name_processes(who), then.unwrap_or_default());
            let text = format!("for {who}, which {have} not exited 1 s after {signal}{then}");
            Line::new(Runner, Warn, "waiting", text)
        }
        Notice::Unkillable(who) => {
            let why = "it is waiting for a device, or belongs to another user";
            let text = format!("for {}, which survives SIGKILL: {why}", name_processes(who));
            Line::new(Runner, Bad, "waiting", text)
        }
        Notice::AppEnded { app, ended, serving, next } => {
            programs::ended(cx, *app, ended, *serving, *next)
        }
        Notice::CrashLoop(times, pause) => Line::note(format!(
            "the program has exited {times} times in a row soon after its start; it is restarted \
             {} after each exit, and at once when you save",
            duration(*pause)
        )),
        Notice::Kept(app) => Line::new(Runner, Good, "kept", cx.name(*app)),
        Notice::RolledBack(to) => programs::rolled_back(cx, to),
        Notice::NoRollback(why) => {
            Line::note(format!("cannot roll back: {}", why_no_rollback(why)))
        }
        Notice::RollbackPossible => Line::note(
            "press b or run `hotrun rollback` to start the last good build; set \
             run.on_failed_start = \"rollback\" to do this automatically",
        ),
        Notice::NewestAgain => Line::note("starting the newest build again"),
        Notice::NothingBuilt => Line::note("nothing has been built that could be restarted"),
        Notice::Signalled(app, signal) => {
            Line::new(Runner, Good, "signalled", format!("{} {signal}", cx.name(*app)))
        }
        Notice::NobodyToSignal(signal) => {
            Line::note(format!("no program is running to send {signal} to"))
        }
        Notice::Listening { address, descriptor, name } => {
            listeners::listening(address, *descriptor, name.as_deref())
        }
        Notice::ProxyListens { url, to, is_open } => listeners::proxy(url, to, *is_open),
        Notice::HeldInVain { waited, why } => {
            let text = format!("answered a request with 503 after {}: {why}", duration(*waited));
            Line::new(Runner, Warn, "proxy", text)
        }
        Notice::ListenerShut(address, repair) => listeners::shut(address, repair),
        Notice::MayHaveBound { addresses, by_shell } => {
            listeners::may_have_bound(addresses, *by_shell)
        }
        Notice::PassedOnByNobody(tool) => listeners::passed_on_by_nobody(tool),
        Notice::ProxyHasPort { port, is_certain } => listeners::proxy_has_port(*port, *is_certain),
        Notice::BoundBeside(app, address) => listeners::bound_beside(cx, *app, address),
        Notice::NobodyAccepts(waiting, address) => listeners::nobody_accepts(*waiting, address),
        Notice::PortNeedsHandover(ports) => return ports::needs_handover(ports),
        Notice::PortHeld(holder) => ports::held(holder),
        Notice::EndlessBuild { build, port, remedy } => {
            ports::endless_build(cx, *build, *port, remedy)
        }
        Notice::TerminalGiven(proc) => {
            let text = format!("given to {}; hotrun's keys are off", cx.name(*proc));
            Line::new(Main, Plain, "terminal", text)
        }
        Notice::TerminalWanted(proc) => {
            let name = cx.name(*proc);
            let text = format!("{name} is waiting for it: bring hotrun to the foreground (fg)");
            Line::new(Main, Warn, "terminal", text)
        }
        Notice::TerminalKept(proc) => {
            let name = cx.name(*proc);
            let text = format!("{name} is waiting for it until the previous program exits");
            Line::new(Main, Warn, "terminal", text)
        }
        Notice::Swept(who) => {
            let text = format!("{}, left behind by a hotrun that was killed", name_processes(who));
            Line::new(Main, Warn, "killed", text)
        }
        Notice::TakenOver(pid) => {
            Line::note(format!("the hotrun with pid {pid} takes over from this one"))
        }
        Notice::Reading(what) => Line::new(Watcher, Plain, "reading", what.as_str()),
        Notice::Guessed(what) => Line::new(Main, Plain, "guess", what.as_str()),
        Notice::Paused => Line::new(Main, Plain, "paused", "changes are built when you resume (p)"),
        Notice::Resumed => Line::new(Main, Plain, "resumed", ""),
        Notice::HookFailed(ended) => Line::new(Main, Warn, "warning", format!("post_cmd: {ended}")),
        Notice::Ending(by) => Line::new(Main, Plain, "stopping", how_to_kill(*by)),
        Notice::Forcing => Line::new(Main, Warn, "killing", "all remaining processes"),
        Notice::Problem(problem) => {
            Line::new(Main, Warn, "warning", problems::text(problem, cx.base))
        }
    })
}

pub(super) fn word_of(step: Activity) -> &'static str {
    match step {
        Activity::Building => "building",
        Activity::Verifying => "verifying",
        Activity::Rule => "rule",
    }
}

/// The reason for which a rollback is refused.
pub(crate) fn why_no_rollback(why: &NoRollback) -> &str {
    match why {
        NoRollback::Ending => "hotrun is exiting",
        NoRollback::BuildUnderWay => "a build is running; its result will be started",
        NoRollback::NothingKept(why) => why,
    }
}

/// How to kill what does not exit, after this request to shut down.
fn how_to_kill(by: ShutdownBy) -> &'static str {
    match by {
        ShutdownBy::Key => "press q again to kill",
        ShutdownBy::CtrlC => "press Ctrl-C again to kill",
        ShutdownBy::Signal => "send the signal again to kill",
        ShutdownBy::Hotrun => "press Ctrl-C to kill",
    }
}

fn changed(cx: &Context<'_>, cause: &Cause) -> Option<Line> {
    let (word, text, begins) = match cause {
        Cause::Start => return None,
        Cause::Save(paths) => ("changed", cx.names(paths), true),
        Cause::Written(paths) => {
            let names = cx.names(paths);
            ("written", format!("{names} during the build; built once more to be sure"), false)
        }
        Cause::Config => ("changed", "the configuration".to_owned(), true),
        Cause::Order => ("rebuild", "requested".to_owned(), true),
    };
    Some(Line { part: Part::Watcher, tone: Tone::Plain, word, text, begins })
}

/// Names the errors and the place of the first one, or else how the command exited.
fn build_failed(cx: &Context<'_>, build: Proc, ended: &Ended, app: Option<Proc>) -> Line {
    let (what, follows) = match cx.purpose(build) {
        Purpose::Program => ("", cx.serving(app)),
        Purpose::Library => ("", "waiting for a save".to_owned()),
        Purpose::Syntax => ("syntax check: ", cx.serving(app)),
    };
    let after = format!("after {}; {follows}", cx.took(build));
    let found = cx.record.process(build).map(|process| &process.diagnostics);
    let text = match found.filter(|found| found.errors > 0) {
        Some(found) => {
            let place = found.first.as_ref().map(|place| place.relative(cx.base));
            let place = place.map(|place| format!("{place} · ")).unwrap_or_default();
            format!("{what}{found} · {place}{after}")
        }
        None => format!("{what}{ended}, {after}"),
    };
    Line::new(Part::Build, Tone::Bad, "failed", text)
}
