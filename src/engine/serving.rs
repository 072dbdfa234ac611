//! What a generation inherits and how it is known to serve; and what it is started from,
//! when what was last built is not it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use tokio::task::spawn_local;

use super::Engine;
use super::ports::SOON;
use crate::config::{Address, Command, Config, Program};
use crate::error::{Error, Result};
use crate::event::{
    Ended, Event, Holder, Message, Mode, Notice, Proc, Refusal, Remedy, Role, WentBack,
};
use crate::listen::{Listeners, NotOpened};
use crate::process::{Freeing, ports};
use crate::ready::{Expected, Probe};
use crate::report;

/// Opens what is configured, before anything is built.
pub(super) async fn open_listeners(listeners: &mut Listeners, config: &Config) -> Result<()> {
    let freeing = Freeing { wanted: config.free_port, project: config.directory.clone() };
    loop {
        let Err(failed) = listeners.hold(&config.listen) else { return Ok(()) };
        let port = failed.address.port().filter(|_| is_taken(&failed));
        let holder = match port {
            Some(port) => ports::see_to(port, &freeing).await,
            None => None,
        };
        match holder {
            Some(Holder { remedy: Remedy::Ended, .. }) => {}
            holder => return Err(cannot_listen(&failed, holder.as_ref())),
        }
    }
}

fn is_taken(failed: &NotOpened) -> bool {
    failed.error.kind() == io::ErrorKind::AddrInUse
}

fn cannot_listen(failed: &NotOpened, holder: Option<&Holder>) -> Error {
    let error = |why: &dyn std::fmt::Display| {
        Error::failed(&failed.address, format!("cannot listen there: {why}"))
    };
    match (failed.error.kind(), holder) {
        (_, Some(holder)) => {
            let (who, remedy) = report::who_holds(holder);
            error(&format!("it is held by {who}")).remedy(remedy)
        }
        (io::ErrorKind::AddrInUse, None) => error(&"somebody else does")
            .remedy("end that one, or choose another address in [[listen]]"),
        (io::ErrorKind::PermissionDenied, None) if failed.address.port().is_some() => error(
            &"ports this low are root's",
        )
        .remedy(
            "choose a port from 1024 on, or: sudo sysctl net.ipv4.ip_unprivileged_port_start=80",
        ),
        (io::ErrorKind::AddrNotAvailable, None) => {
            error(&"this machine has no such address").remedy("127.0.0.1 and 0.0.0.0 always exist")
        }
        (_, None) => error(&failed.error),
    }
}

impl Engine {
    pub(super) fn tell_listeners(&self) {
        for (number, (address, name)) in self.listeners.addresses().enumerate() {
            self.report.say(&Notice::Listening {
                address: address.to_string(),
                descriptor: 3 + number,
                name: name.map(str::to_owned),
            });
        }
    }

    /// The sockets of the configuration that holds now, for an app that is about to start.
    pub(super) fn prepare_listeners(&mut self) -> std::result::Result<(), String> {
        let before = self.listeners.inherit().len();
        if let Err(failed) = self.listeners.hold(&self.config.listen) {
            if let Some(port) = failed.address.port().filter(|_| is_taken(&failed)) {
                let (freeing, inbox) = (self.freeing(), self.sender.clone());
                spawn_local(async move {
                    if let Some(holder) = ports::see_to(port, &freeing).await {
                        // The inbox closes when hotrun ends.
                        let _ = inbox.send(Message::Say(Notice::PortHeld(holder)));
                    }
                });
            }
            return Err(cannot_listen(&failed, None).to_string());
        }
        if self.listeners.inherit().len() > before {
            self.tell_listeners();
        }
        let is_held = self.roles.values().any(|role| *role == Role::App);
        if !is_held {
            self.listeners.reset();
        }
        Ok(())
    }

    /// Whatever programs have done to them, they are open.
    pub(super) fn repair_listeners(&mut self) {
        for (address, is_heard) in self.listeners.repair() {
            self.report.say(&Notice::ListenerShut(address.to_string(), is_heard));
        }
    }

    // Readiness

    pub(super) fn probe(&mut self, proc: Proc) {
        let expected = Expected {
            ready: self.config.ready.clone(),
            mode: self.config.run.mode,
            listens: self.listens,
        };
        let (probe, opened) = Probe::new(proc, expected, self.sender.clone());
        if let Err(error) = opened
            && !std::mem::replace(&mut self.told_no_socket, true)
        {
            self.report.say(&Notice::Warning(format!(
                "programs cannot send READY=1, as there is no NOTIFY_SOCKET for them: {error}"
            )));
        }
        self.probes.insert(proc, probe);
    }

    /// What an app says of itself, what its probe has found, and what concerns the sockets and
    /// artifacts of apps.
    pub(super) fn heard_of_app(&mut self, message: Message) -> Vec<Event> {
        match message {
            Message::Unready(app, why) => {
                if let Some(facts) = self.report.facts.get_mut(&app) {
                    facts.unready = Some(why);
                }
                return vec![Event::Unready(app)];
            }
            Message::Assumed(app) if !std::mem::replace(&mut self.told_assumed, true) => {
                self.report.say(&Notice::Assumed(app));
            }
            Message::LogMatched(app) => {
                if let Some(probe) = self.probes.get(&app) {
                    probe.printed();
                }
            }
            Message::Status(app, status) => self.report.say(&Notice::Status(app, status)),
            Message::Stopping(app) => {
                let is_asked =
                    self.report.facts.get(&app).is_some_and(|facts| facts.dismissed.is_some());
                if !is_asked {
                    self.report.say(&Notice::AppStopping(app));
                }
            }
            Message::Extend(app, more) => self.processes.extend(app, more),
            Message::Listens(proc, ports) => self.listens(proc, ports),
            Message::Copied(number, outcome) => self.copied(number, &outcome),
            Message::ListenerShut => self.repair_listeners(),
            Message::Asked(order, answer) => {
                self.asked = Some(answer);
                return vec![Event::Ordered(order)];
            }
            _ => {}
        }
        Vec::new()
    }

    /// An app that nobody had asked to end did so at once. Its own words are on the screen;
    /// this is what they may mean here.
    pub(super) fn explain_quick_end(&mut self, proc: Proc, ended: &Ended) {
        let Some(facts) = self.report.facts.get(&proc) else { return };
        let is_app = self.roles.get(&proc) == Some(&Role::App);
        let is_quick = facts.pid.is_some() && facts.began.elapsed() < SOON;
        if !is_app || !is_quick || facts.dismissed.is_some() || ended.succeeded() {
            return;
        }
        let is_tcp = |address: &Address| address.port().is_some();
        let held = self.listeners.addresses().filter(|(address, _)| is_tcp(address));
        let addresses: Vec<String> = held.map(|(address, _)| address.to_string()).collect();
        if !addresses.is_empty() {
            if !self.has_proven {
                let by_shell =
                    matches!(self.config.run.program, Program::Command(Command::Shell(..)));
                self.report.say(&Notice::MayHaveBound { addresses, by_shell });
            }
            return;
        }
        if self.config.run.mode == Mode::Handover {
            self.explain_port_of_the_old(proc);
        }
    }

    /// Beside another that has the port, a program that opens it itself cannot start.
    fn explain_port_of_the_old(&self, proc: Proc) {
        let others = self.roles.iter().filter(|(one, role)| **role == Role::App && **one != proc);
        let pids = others.filter_map(|(one, _)| self.report.facts.get(one)?.pid);
        let held: BTreeSet<u16> = pids.flat_map(ports::of_app).collect();
        if !held.is_empty() {
            self.report.say(&Notice::PortNeedsHandover(proc, held.into_iter().collect()));
        }
    }

    /// After a while: does an app take the sockets that it has inherited?
    pub(super) fn look_at_listeners(&self, app: Proc, own: &BTreeSet<u16>) {
        for (address, _) in self.listeners.addresses() {
            let Some(port) = address.port() else { continue };
            if own.contains(&port) {
                self.report.say(&Notice::BoundBeside(app, port));
            } else if let Some(waiting) = ports::waiting_in_vain(port) {
                self.report.say(&Notice::NobodyAccepts(waiting, port));
            }
        }
    }

    // Artifacts

    /// An app is about to be started from what was last built.
    pub(super) fn remember_artifact(&mut self, proc: Proc, generation: u32) {
        let file = self.artifact_to_keep();
        let file = file.as_deref().map_err(Clone::clone);
        if self.artifacts.started(proc, generation, file) {
            // The inbox closes when hotrun ends.
            let _ = self.sender.send(Event::Proven(proc).into());
        }
    }

    /// The file whose copy could be started in its place; or why there is none.
    fn artifact_to_keep(&self) -> std::result::Result<PathBuf, String> {
        if matches!(self.config.run.program, Program::Command(Command::Shell(..))) {
            return Err("a shell runs the program, so no file is known to be it".to_owned());
        }
        let Some(path) = self.artifact() else {
            return Err("there is no program".to_owned());
        };
        if !path.is_absolute() {
            let name = path.display();
            return Err(format!("{name} is installed, and no build of this project makes it"));
        }
        let is_built = matches!(self.config.run.program, Program::Built(_));
        let homes = [&self.config.directory, &self.config.watch.base, &self.config.tmp_dir];
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let is_below = |home: &Path| real.starts_with(home);
        if is_built || homes.into_iter().any(|home| is_below(home)) {
            return Ok(path);
        }
        Err(format!("{} is not in this project, and no build of it makes it", path.display()))
    }

    /// An app was ready, and has lived for a while.
    pub(super) fn proven(&mut self, app: Proc) {
        self.has_proven = true;
        self.artifacts.keep(app);
    }

    pub(super) fn copied(&mut self, number: u32, outcome: &std::result::Result<(), String>) {
        self.artifacts.copied(number, outcome.is_ok());
        if let Err(why) = outcome
            && !std::mem::replace(&mut self.told_not_kept, true)
        {
            self.report.say(&Notice::Warning(format!(
                "the last good program is not kept, so there is no rollback to it: {why}"
            )));
        }
    }

    /// The command by which the artifact is started that was gone back to, and the file that
    /// is executed.
    pub(super) fn kept_command(&mut self) -> Option<(Command, PathBuf)> {
        let kept = self.artifacts.chosen()?;
        let args = match &self.config.run.program {
            Program::Built(args) => args.as_slice(),
            Program::Command(Command::Argv(argv)) => argv.get(1..).unwrap_or_default(),
            Program::None | Program::Command(Command::Shell(..)) => return None,
        };
        let argv = [kept.original.clone().into()].into_iter().chain(args.iter().cloned());
        self.report.say(&Notice::RolledBack(WentBack {
            generation: kept.generation,
            built: kept.built,
            saved_since: kept.saved_since.clone(),
        }));
        Some((Command::Argv(argv.collect()), kept.copy.clone()))
    }

    /// Nothing older is started: why.
    pub(super) fn say_no_rollback(&mut self, refusal: Refusal) {
        let why = match refusal {
            Refusal::BuildUnderWay => "a build is under way, which goes forward".to_owned(),
            Refusal::NothingKept => self.artifacts.why_none(),
        };
        if let Some(answer) = self.asked.take() {
            // Whoever has asked may not wait for the answer.
            let _ = answer.send(Err(format!("not possible: {why}")));
        }
        self.report.no_rollback(&why);
    }

    /// Whoever has asked for something is told that it is done.
    pub(super) fn answer_asked(&mut self) {
        let Some(answer) = self.asked.take() else { return };
        let said = match self.artifacts.chosen() {
            Some(kept) => format!("going back to generation {}", kept.generation),
            None => "the program that serves stays".to_owned(),
        };
        let _ = answer.send(Ok(said));
    }
}
