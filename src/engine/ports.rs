//! Ports that the program listens on: which process holds a port that the program needs, and which
//! builds turn out to be servers.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tokio::task::spawn_local;

use super::message::FromEngine;
use super::{Engine, KNOWS_PORTS, Told};
use crate::config::{Command, Port, Upstream};
use crate::event::{Ended, OnExit, Proc, Role};
use crate::notice::{Notice, Problem, Remedy};
use crate::process::{self, Freeing, ports};
use crate::project::Kind;

/// Returns a local port on which no program listens at the moment.
fn free_port() -> Option<u16> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    socket.local_addr().ok().map(|address| address.port())
}

/// A program that fails this soon after its start may have found its port taken.
const SOON: Duration = Duration::from_secs(2);

impl Engine {
    /// Handles the report, some time after the start, on which ports an app or a build listens.
    pub(super) fn listens(&mut self, proc: Proc, ports: BTreeSet<u16>) {
        match self.table.role(proc) {
            Some(Role::App) => {
                if self.lived(proc) >= KNOWS_PORTS {
                    self.look_at_listeners(proc, &ports);
                    self.look_at_expected_port(proc, &ports);
                }
                if !ports.is_empty() && ports != self.service.ports {
                    self.service.ports = ports;
                    process::remember_ports(&self.host.project.directory, &self.service.ports);
                }
            }
            Some(Role::Build) => {
                let Some(port) = ports.first().copied() else { return };
                self.service.builds_serve = true;
                self.host.display.ended(proc);
                self.show_output(proc);
                // The build will not exit, so the query for its sources starts now.
                self.ask_what_is_listed();
                let remedy = self.program_instead_of_build();
                self.say(Notice::EndlessBuild { build: proc, port, remedy });
            }
            Some(Role::Rules | Role::Hook) | None => {}
        }
    }

    /// The port that the configuration names, or that was chosen for this session.
    pub(super) fn port(&mut self) -> Option<u16> {
        match self.service.config.recipe.run.port? {
            Port::Number(port) => Some(port),
            Port::Auto => {
                self.service.chosen_port = self.service.chosen_port.or_else(free_port);
                self.service.chosen_port
            }
        }
    }

    /// The port that an app which starts now gets in `PORT`.
    pub(super) fn port_to_give(&mut self) -> Option<u16> {
        if self.service.config.recipe.upstream == Some(Upstream::Free) {
            return free_port();
        }
        let is_auto = self.service.config.recipe.run.port == Some(Port::Auto);
        if is_auto { self.port() } else { None }
    }

    /// Compares where an app listens with where the proxy expects it.
    fn look_at_expected_port(&mut self, app: Proc, ports: &BTreeSet<u16>) {
        let Some(found) = ports.first().copied() else { return };
        let given = self.table.get(app).and_then(|entry| entry.given_port);
        let configured = match self.service.config.recipe.upstream {
            Some(Upstream::Port(port)) => Some(port),
            Some(Upstream::Found | Upstream::Free | Upstream::Unix(_)) | None => None,
        };
        let Some(expected) = given.or(configured) else { return };
        if self.service.config.recipe.upstream.is_none() || ports.contains(&expected) {
            return;
        }
        if self.host.told.insert(Told::OtherPort(found)) {
            self.say(Problem::OtherPort { expected, found, is_given: given.is_some() });
        }
        // It is better served there than not at all.
        if given.is_some()
            && let Some(entry) = self.table.get_mut(app)
        {
            entry.address = Some((Ipv4Addr::LOCALHOST, found).into());
        }
    }

    /// Ports on which an app may be expected to listen: the configured ones; else those from its
    /// environment or from earlier apps.
    pub(super) fn known_ports(&self) -> Vec<u16> {
        if !self.service.config.ports.is_empty() {
            return self.service.config.ports.clone();
        }
        let of_config = self.service.env.iter().rev().find(|(name, _)| name == "PORT");
        let port = of_config.map(|(_, value)| value.clone()).or_else(|| std::env::var("PORT").ok());
        let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        port.into_iter().chain(self.service.ports.iter().copied()).collect()
    }

    /// Whether this is an app that failed soon after its start, without being stopped.
    pub(super) fn has_failed_at_once(&self, proc: Proc, ended: &Ended) -> bool {
        let is_app = self.table.is_app(proc);
        let is_early = self.table.get(proc).is_some_and(|entry| {
            entry.pid.is_some() && entry.age() < SOON && !entry.is_dismissed()
        });
        is_app && is_early && !ended.succeeded()
    }

    /// Whether the app's output passes through hotrun, which searches it for an address in use. Not
    /// if the app may be a full-screen program, since that sets the modes of the terminal its
    /// output is connected to.
    pub(super) fn reads_output(&self, terminal: process::Attachment) -> bool {
        let is_on_terminal = std::io::stdout().is_terminal() || std::io::stderr().is_terminal();
        terminal == process::Attachment::OutputOnly
            || !is_on_terminal
            || !self.service.config.recipe.listen.is_empty()
            || self.service.has_failed_start
    }

    /// Checks whether an app that failed soon after its start did so because another process holds
    /// its port.
    pub(super) fn look_who_holds_the_port(&mut self, proc: Proc, ended: &Ended) {
        let has_failed = self.has_failed_at_once(proc, ended);
        if self.table.is_app(proc) {
            self.service.has_failed_start = has_failed;
        }
        if !has_failed {
            return;
        }
        let Some(entry) = self.table.get(proc) else { return };
        let mut known: BTreeSet<u16> = entry.taken.clone().unwrap_or_default();
        let is_certain = entry.taken.is_some();
        // Configured ports were checked before the start.
        known.extend(self.known_ports());
        known.retain(|port| !self.service.config.ports.contains(port));
        let listened: BTreeSet<u16> =
            self.service.listeners.addresses().filter_map(|(address, _)| address.port()).collect();
        known.retain(|port| !listened.contains(port));
        if is_certain
            && known.is_empty()
            && listened.is_empty()
            && self.service.config.ports.is_empty()
        {
            self.say(Problem::AddressInUse);
        }
        let freeing = Freeing::of(&self.host.project, &self.service.config);
        let inbox = self.host.sender.clone();
        let restarts = self.service.config.recipe.run.on_exit == OnExit::Restart;
        spawn_local(async move {
            let mut is_freed = false;
            for port in known {
                if let Some(holder) = ports::see_to(port, &freeing).await {
                    is_freed |= holder.remedy == Remedy::Ended;
                    inbox.send(FromEngine::Say(Notice::PortHeld(holder)));
                }
            }
            if is_freed && !restarts {
                inbox.send(FromEngine::PortFreed);
            }
        });
    }

    /// The configuration lines that build first and then run what the build command runs.
    fn program_instead_of_build(&self) -> String {
        let stage = self.service.config.recipe.build.stages.last();
        let cmd = match stage.map(|stage| &stage.command) {
            Some(Command::Shell(text, _)) => text.trim(),
            _ => "",
        };
        if let Some(rest) = cmd.strip_prefix("go run ") {
            // The words after the packages or files are arguments of the program.
            let words: Vec<&str> = rest.split_whitespace().collect();
            let is_source = |word: &&&str| {
                word.starts_with('.') || Path::new(word).extension().is_some_and(|one| one == "go")
            };
            let source: Vec<&str> = words.iter().take_while(is_source).copied().collect();
            let args = &words[source.len()..];
            let program = [vec!["./tmp/main"], args.to_vec()].concat();
            return format!(
                "  cmd = \"go build -o ./tmp/main {}\"\n  entrypoint = {program:?}",
                source.join(" ")
            );
        }
        let nothing = if self.service.config.kind == Kind::Unknown { "true" } else { "" };
        format!("  cmd = \"{nothing}\"\n  full_bin = {cmd:?}")
    }
}
