//! Readiness of apps, and what they report about themselves.

use std::ffi::OsString;
use std::time::Duration;

use super::message::Message;
use super::{Engine, Told};
use crate::control::Request;
use crate::core::{Event, Input};
use crate::event::{Mode, Notice, Proc, Role};
use crate::ready::FromProbe;
use crate::ready::{Expected, Probe};

impl Engine {
    /// Starts to watch an app before its start. Returns the variable by which the app can report
    /// that it is ready.
    pub(super) fn probe(&mut self, proc: Proc) -> Option<(OsString, OsString)> {
        let expected = Expected {
            ready: self.config.ready.clone(),
            mode: if self.has_another_app(proc) { self.config.run.mode } else { Mode::Restart },
            port: self.port(),
            known: self.known_ports(),
        };
        let (probe, opened) = Probe::new(
            proc,
            expected,
            self.sender.inbox(move |report| Message::Probe(proc, report)),
        );
        if let Err(error) = opened
            && self.told.insert(Told::NoSocket)
        {
            self.report.say(&Notice::Warning(format!(
                "programs cannot send READY=1, as there is no NOTIFY_SOCKET for them: {error}"
            )));
        }
        let variable = probe.variable();
        self.probes.insert(proc, probe);
        variable
    }

    /// Whether an older app is running and is not being stopped.
    fn has_another_app(&self, proc: Proc) -> bool {
        let is_another =
            |one: Proc, role| role == Role::App && one != proc && !self.is_dismissed(one);
        self.roles.iter().any(|(one, role)| is_another(*one, *role))
    }

    /// Handles what a probe reports of its app.
    pub(super) fn heard_of_probe(&mut self, app: Proc, report: FromProbe) -> Vec<Event> {
        match report {
            FromProbe::Listens(ports) => self.listens(app, ports),
            FromProbe::Serves(address, served) => {
                self.processes.serves(app, served);
                if let Some(facts) = self.report.facts.get_mut(&app) {
                    facts.address = address;
                }
            }
            FromProbe::Ready => {
                self.is_ready_late(app);
                return vec![Input::Ready(app).into()];
            }
            FromProbe::Assumed => self.assumed(app),
            FromProbe::Running => return vec![Input::Running(app).into()],
            FromProbe::Unready(why) => {
                if let Some(facts) = self.report.facts.get_mut(&app) {
                    facts.unready = Some(why);
                }
                return vec![Input::Unready(app).into()];
            }
            FromProbe::Proven => return self.proven(app),
            FromProbe::MainPid(pid) => self.processes.succeed(app, pid),
            FromProbe::Status(status) => self.report.say(&Notice::Status(app, status)),
            FromProbe::Stopping => {
                if !self.is_dismissed(app) {
                    self.report.say(&Notice::AppStopping(app));
                }
            }
            FromProbe::Extend(more) => self.extend(app, more),
            FromProbe::Say(notice) => self.report.say(&notice),
        }
        Vec::new()
    }

    /// Handles a request from another process.
    pub(super) fn requested(&mut self, request: Request) -> Vec<Event> {
        match request {
            Request::Order(order, answer) => {
                self.asked = Some(answer);
                vec![Event::Ordered(order)]
            }
            // A second shutdown request would kill the program at once.
            Request::TakeOver(_) if self.is_ending => Vec::new(),
            Request::TakeOver(pid) => {
                self.report.say(&Notice::TakenOver(pid));
                vec![Event::Interrupted]
            }
        }
    }

    /// Reports an app that counted as running, and is ready now.
    fn is_ready_late(&self, app: Proc) {
        let has_run = self.report.facts.get(&app).is_some_and(|facts| facts.is_running);
        if has_run && self.app() == Some(app) && !self.is_dismissed(app) {
            self.report.say(&Notice::Ready(app));
        }
    }

    /// Handles a graceful restart by the program itself: its first process started a successor, and
    /// exited.
    pub(super) fn succeeded(&mut self, app: Proc, pid: i32) {
        if let Some(probe) = self.probes.get(&app) {
            probe.began(pid);
        }
        let Some(facts) = self.report.facts.get_mut(&app) else { return };
        let before = facts.pid.replace(pid);
        self.report.say(&Notice::Succeeded(app, before));
    }

    fn is_dismissed(&self, app: Proc) -> bool {
        self.report.facts.get(&app).is_some_and(|facts| facts.dismissed.is_some())
    }

    fn assumed(&mut self, app: Proc) {
        if !self.is_dismissed(app) && self.told.insert(Told::Assumed) {
            self.report.say(&Notice::Assumed(app));
        }
    }

    fn extend(&mut self, app: Proc, more: Duration) {
        self.processes.extend(app, more);
        let Some(facts) = self.report.facts.get_mut(&app) else { return };
        if facts.dismissed.is_some() && !std::mem::replace(&mut facts.extended, true) {
            self.report.say(&Notice::Extended { app, more, to_end: true });
        }
    }
}
