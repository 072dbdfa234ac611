//! Readiness of apps, and what they report about themselves.

use std::ffi::OsString;
use std::time::Duration;

use super::{Engine, Told};
use crate::event::{Event, Message, Mode, Notice, Proc, Role};
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
        let (probe, opened) = Probe::new(proc, expected, self.sender.clone());
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

    /// Handles messages from an app and its probe, and about the sockets and artifacts of apps.
    pub(super) fn heard_of_app(&mut self, message: Message) -> Vec<Event> {
        match message {
            Message::Unready(app, why) => {
                if let Some(facts) = self.report.facts.get_mut(&app) {
                    facts.unready = Some(why);
                }
                return vec![Event::Unready(app)];
            }
            Message::Assumed(app) => self.assumed(app),
            Message::Serves(app, address, served) => {
                self.processes.serves(app, served);
                if let Some(facts) = self.report.facts.get_mut(&app) {
                    facts.address = address;
                }
            }
            Message::LogMatched(app) => {
                if let Some(probe) = self.probes.get(&app) {
                    probe.printed();
                }
            }
            Message::Status(app, status) => self.report.say(&Notice::Status(app, status)),
            Message::Stopping(app) if !self.is_dismissed(app) => {
                self.report.say(&Notice::AppStopping(app));
            }
            Message::MainPid(app, pid) => self.processes.succeed(app, pid),
            Message::Succeeded(app, pid) => self.succeeded(app, pid),
            Message::Extend(app, more) => self.extend(app, more),
            Message::AskAgain(app) if self.roles.contains_key(&app) => {
                self.processes.pass(app, self.config.run.signal);
            }
            Message::AddressInUse(proc, ports) => {
                if let Some(facts) = self.report.facts.get_mut(&proc) {
                    facts.taken = Some(ports);
                }
            }
            Message::Listens(proc, ports) => self.listens(proc, ports),
            Message::Copied(number, outcome) => self.copied(number, &outcome),
            Message::ListenerShut => self.repair_listeners(),
            Message::Asked(order, answer) => {
                self.asked = Some(answer);
                return vec![Event::Ordered(order)];
            }
            // A second shutdown request would kill the program at once.
            Message::TakenOver(_) if self.is_ending => {}
            Message::TakenOver(pid) => {
                self.report.say(&Notice::TakenOver(pid));
                return vec![Event::Interrupted];
            }
            _ => {}
        }
        Vec::new()
    }

    /// Reports an app that counted as running, and is ready now.
    pub(super) fn is_ready_late(&self, app: Proc) {
        let has_run = self.report.facts.get(&app).is_some_and(|facts| facts.is_running);
        if has_run && self.state.app() == Some(app) && !self.is_dismissed(app) {
            self.report.say(&Notice::Ready(app));
        }
    }

    /// Handles a graceful restart by the program itself: its first process started a successor, and
    /// exited.
    fn succeeded(&mut self, app: Proc, pid: i32) {
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
