//! Readiness of apps, and what they report about themselves.

use std::ffi::OsString;
use std::time::Duration;

use super::message::Message;
use super::{Engine, Told};
use crate::control::Request;
use crate::core::{Event, Input};
use crate::event::{Mode, Order, Proc};
use crate::notice::{Notice, Problem};
use crate::ready::FromProbe;
use crate::ready::{Expected, Probe};

impl Engine {
    /// Starts to watch an app before its start. Returns the variable by which the app can report
    /// that it is ready.
    pub(super) fn probe(&mut self, proc: Proc) -> (Probe, Option<(OsString, OsString)>) {
        let expected = Expected {
            ready: self.service.config.recipe.ready.clone(),
            mode: if self.has_another_app(proc) {
                self.service.config.recipe.run.mode
            } else {
                Mode::Restart
            },
            port: self.port(),
            known: self.known_ports(),
        };
        let (probe, opened) = Probe::new(
            proc,
            expected,
            self.host.sender.inbox(move |report| Message::Probe(proc, report)),
        );
        if let Err(error) = opened
            && self.host.told.insert(Told::NoSocket)
        {
            self.say(Problem::NoNotifySocket(error.to_string()));
        }
        let variable = probe.variable();
        (probe, variable)
    }

    /// Whether an older app is running and is not being stopped.
    fn has_another_app(&self, proc: Proc) -> bool {
        self.table.apps().any(|(one, app)| one != proc && !app.is_dismissed())
    }

    /// Handles what a probe reports of its app.
    pub(super) fn heard_of_probe(&mut self, app: Proc, report: FromProbe) -> Vec<Event> {
        match report {
            FromProbe::Listens(ports) => self.listens(app, ports),
            FromProbe::Serves(address, served) => {
                self.host.processes.serves(app, served);
                if let Some(entry) = self.table.get_mut(app) {
                    entry.address = address;
                }
            }
            FromProbe::Ready => {
                self.has_begun_to_serve(app);
                self.is_ready_late(app);
                return vec![Input::Ready(app).into()];
            }
            FromProbe::Assumed => self.assumed(app),
            FromProbe::Running => {
                self.has_begun_to_serve(app);
                let is_ending = self.core.is_ending();
                if let Some(entry) = self.table.get_mut(app) {
                    entry.is_running = !is_ending;
                }
                return vec![Input::Running(app).into()];
            }
            FromProbe::Unready(why) => {
                if let Some(entry) = self.table.get_mut(app) {
                    entry.unready = Some(why);
                }
                return vec![Input::Unready(app).into()];
            }
            FromProbe::Proven => return self.proven(app),
            FromProbe::MainPid(pid) => self.host.processes.succeed(app, pid),
            FromProbe::Status(status) => self.say(Notice::Status(app, status)),
            FromProbe::Stopping => {
                if !self.table.is_dismissed(app) {
                    self.say(Notice::AppStopping(app));
                }
            }
            FromProbe::Extend(more) => self.extend(app, more),
            FromProbe::Say(notice) => self.say(notice),
        }
        Vec::new()
    }

    /// Lets keys be read again: the app that was started last is there.
    fn has_begun_to_serve(&mut self, app: Proc) {
        if !self.table.is_dismissed(app) {
            self.has_begun();
        }
    }

    /// Handles a request from another process.
    pub(super) fn requested(&mut self, request: Request) -> Vec<Event> {
        match request {
            Request::Order(order, answer) => {
                self.host.asked = Some(answer);
                self.ordered(order)
            }
            // A second shutdown request would kill the program at once.
            Request::TakeOver(_) if self.core.is_ending() => Vec::new(),
            Request::TakeOver(pid) => {
                self.say(Notice::TakenOver(pid));
                vec![Event::Interrupted]
            }
        }
    }

    /// Takes an order of the user: an update begins.
    pub(super) fn ordered(&mut self, order: Order) -> Vec<Event> {
        self.begin_update();
        if order == Order::Restart {
            self.publisher.app_gets_newest();
        }
        vec![Event::Ordered(order)]
    }

    /// Reports an app that counted as running, and is ready now.
    fn is_ready_late(&self, app: Proc) {
        let has_run = self.table.get(app).is_some_and(|entry| entry.is_running);
        if has_run && self.app() == Some(app) && !self.table.is_dismissed(app) {
            self.say(Notice::Ready(app));
        }
    }

    /// Handles a graceful restart by the program itself: its first process started a successor, and
    /// exited.
    pub(super) fn succeeded(&mut self, app: Proc, pid: i32) {
        if let Some(probe) = self.table.probe(app) {
            probe.began(pid);
        }
        let Some(entry) = self.table.get_mut(app) else { return };
        let before = entry.pid.replace(pid);
        self.say(Notice::Succeeded(app, before));
    }

    fn assumed(&mut self, app: Proc) {
        if !self.table.is_dismissed(app) {
            self.say(Notice::Assumed(app));
        }
    }

    fn extend(&mut self, app: Proc, more: Duration) {
        self.host.processes.extend(app, more);
        let Some(entry) = self.table.get_mut(app) else { return };
        if entry.is_dismissed() && !std::mem::replace(&mut entry.is_extended, true) {
            self.say(Notice::Extended { app, more, to_end: true });
        }
    }
}
