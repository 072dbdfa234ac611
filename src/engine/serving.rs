//! Which app serves: readiness, what apps report about themselves, what the proxy gets to know.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use nix::unistd::{Pid, getpgid};

use super::message::{FromEngine, Message};
use super::table::Entry;
use super::{Engine, Told};
use crate::config::Upstream;
use crate::control::Request;
use crate::core::{Event, Input, supervisor};
use crate::event::{Mode, Order, Proc, Role, ShutdownBy};
use crate::notice::{Absence, Behind, Notice, Problem};
use crate::proxy::{FromProxy, Generation, Place, Serving};
use crate::ready::FromProbe;
use crate::ready::{Expected, Probe, Proxied};

impl Engine {
    /// Starts to watch an app before its start. Returns the variable by which the app can report
    /// that it is ready.
    pub(super) fn probe(
        &mut self,
        proc: Proc,
        given_port: Option<u16>,
    ) -> (Probe, Option<(OsString, OsString)>) {
        let expected = Expected {
            ready: self.service.config.recipe.ready.clone(),
            mode: if self.has_another_app(proc) {
                self.service.config.recipe.run.mode
            } else {
                Mode::Restart
            },
            port: given_port.or_else(|| self.port()),
            known: self.known_ports(),
            proxied: match &self.service.config.recipe.upstream {
                Some(Upstream::Unix(path)) => Proxied::Unix(path.clone()),
                Some(Upstream::Port(_) | Upstream::Free | Upstream::Found) => Proxied::Tcp,
                None => Proxied::No,
            },
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
                self.table.serves(app);
                self.has_begun_to_serve(app);
                self.is_ready_late(app);
                return vec![Input::Ready(app).into()];
            }
            FromProbe::Assumed => self.assumed(app),
            FromProbe::Running => {
                self.table.serves(app);
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
                vec![Event::Interrupted(ShutdownBy::Hotrun)]
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
        // The group of a process that has exited since is unknown, and no longer needed.
        entry.group = getpgid(Some(Pid::from_raw(pid))).ok().or(entry.group);
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

    // The proxy

    /// Reports where the proxy listens.
    pub(super) fn tell_proxy(&self) {
        let (Some(url), Some(config)) = (self.service.front.url(), self.service.front.config())
        else {
            return;
        };
        let to = match &self.service.config.recipe.upstream {
            Some(Upstream::Port(port)) => Behind::Port(*port),
            Some(Upstream::Free) => Behind::Free,
            Some(Upstream::Unix(path)) => Behind::Unix(path.display().to_string()),
            Some(Upstream::Found) | None => Behind::Found,
        };
        let is_open = config.bind.is_public();
        self.say(Notice::ProxyListens { url, to, is_open });
        if let Some(why) = self.service.front.doubt() {
            self.say(Problem::Certificate(why));
        }
    }

    /// Puts the proxy's configuration into effect.
    pub(super) fn configure_proxy(&mut self) {
        match self.service.front.configure(self.service.config.proxy.as_ref()) {
            Ok(true) => self.tell_proxy(),
            Ok(false) => {}
            Err(error) => self.say(Problem::Failed(error)),
        }
    }

    pub(super) fn heard_of_proxy(&mut self, report: FromProxy) {
        match report {
            FromProxy::Drained(app) => self.drained(app),
            FromProxy::HeldInVain { waited, why } => self.say(Notice::HeldInVain { waited, why }),
        }
    }

    /// Tells the proxy who serves. When hotrun shuts down, or there is no proxy any more, no app
    /// waits for its requests.
    pub(super) fn show_who_serves(&mut self) {
        if self.core.is_ending() || self.service.front.config().is_none() {
            let draining = self.service.front.draining();
            for app in draining {
                self.drained(app);
            }
        }
        self.service.front.publish(|| self.serving());
    }

    /// Lets the requests end that are under way to an app which is to be stopped. Returns false if
    /// there is nothing to wait for.
    pub(super) fn drains(&mut self, app: Proc) -> bool {
        let is_meant = self.table.role(app) == Some(Role::App)
            && self.table.get(app).is_some_and(|entry| entry.serves && entry.ended.is_none())
            && !self.core.is_ending();
        let Some(config) = self.service.front.config().filter(|_| is_meant) else { return false };
        let time = config.drain.unwrap_or_else(|| self.grace_of_app());
        let inbox = self.host.sender.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(time).await;
            inbox.send(FromEngine::DrainOver(app));
        });
        self.service.front.begin_to_drain(app, timer);
        true
    }

    /// Stops an app to which no request is under way, or whose requests have had their time.
    pub(super) fn drained(&mut self, app: Proc) {
        let was_draining = self.service.front.has_drained(app);
        if was_draining && self.table.get(app).is_some_and(|entry| !entry.is_dismissed()) {
            self.dismiss(app);
        }
    }

    /// Which app requests are sent to.
    fn serving(&self) -> Serving {
        let is_there = |app: &Proc| {
            !self.service.front.is_draining(*app)
                && self
                    .table
                    .get(*app)
                    .is_some_and(|entry| entry.serves && entry.is_alive() && !entry.is_dismissed())
        };
        let Some(app) = self.app().filter(is_there) else { return Serving::None(self.absence()) };
        let Some(entry) = self.table.get(app) else { return Serving::None(Absence::Exited) };
        let Some(place) = self.place(entry) else { return Serving::None(Absence::NotListening) };
        Serving::By(Generation { proc: app, number: entry.generation.unwrap_or_default(), place })
    }

    /// Where an app is reached.
    fn place(&self, app: &Entry) -> Option<Place> {
        let port = match &self.service.config.recipe.upstream {
            Some(Upstream::Unix(path)) => return Some(Place::Unix(path.clone())),
            Some(Upstream::Port(port)) => Some(*port),
            Some(Upstream::Free) => app.given_port,
            Some(Upstream::Found) | None => None,
        };
        let is_given = app.given_port.is_some();
        let address = app.address.filter(|address| {
            // What a program listens on beside the expected port is for something else.
            is_given || port.is_none_or(|port| address.port() == port)
        });
        match (address, port) {
            (Some(address), _) => Some(reached_at(address)),
            (None, Some(port)) => Some(Place::of_port(port)),
            (None, None) => None,
        }
    }

    /// Why no app serves.
    fn absence(&self) -> Absence {
        let outline = self.core.snapshot().only().outline;
        let is_leaving = self.table.apps().any(|(app, entry)| {
            entry.is_alive() && (entry.is_dismissed() || self.service.front.is_draining(app))
        });
        if self.core.is_ending() {
            return Absence::Ending;
        }
        match outline.serving {
            supervisor::Serving::Starting | supervisor::Serving::Replacing => Absence::Starting,
            supervisor::Serving::Due if self.service.has_run => Absence::Restarting,
            supervisor::Serving::Down | supervisor::Serving::Due | supervisor::Serving::Ready => {
                if is_leaving {
                    Absence::Restarting
                } else if self.is_building() {
                    Absence::Building
                } else if self.has_build_failed() {
                    Absence::BuildFailed
                } else if self.service.has_run {
                    Absence::Exited
                } else {
                    Absence::NotStarted
                }
            }
        }
    }
}

/// Where a socket is reached that listens on this address.
fn reached_at(address: SocketAddr) -> Place {
    let is_any = address.ip().is_unspecified();
    if is_any { Place::of_port(address.port()) } else { Place::Tcp(vec![address]) }
}
