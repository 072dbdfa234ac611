//! The configured sockets: opening, reporting and repairing them.

use std::collections::BTreeSet;
use std::io;

use tokio::task::spawn_local;

use super::message::FromEngine;
use super::{Engine, Told};
use crate::config::{Address, Command, Program, Project, Service, Upstream};
use crate::error::{Error, Result};
use crate::event::{Ended, Mode, Proc};
use crate::listen::{Listeners, NotOpened};
use crate::notice::{Holder, Notice, Remedy};
use crate::process::{self, Freeing, ports};
use crate::report;

/// Where the program's sockets are configured.
const LISTEN: &str = "[[listen]]";

/// Opens the configured sockets, before anything is built.
pub(super) async fn open_listeners(
    listeners: &mut Listeners,
    project: &Project,
    service: &Service,
) -> Result<()> {
    let freeing = Freeing::of(project, service);
    open(&freeing, LISTEN, || listeners.hold(&service.recipe.listen, &[])).await.map(drop)
}

/// Opens sockets. If a process holds the address that may be stopped for it, it is stopped first.
/// `key`: where the address is configured.
pub(super) async fn open<T>(
    freeing: &Freeing,
    key: &str,
    mut open: impl FnMut() -> std::result::Result<T, NotOpened>,
) -> Result<T> {
    loop {
        let failed = match open() {
            Ok(opened) => return Ok(opened),
            Err(failed) => failed,
        };
        let port = failed.address.port().filter(|_| is_taken(&failed));
        let holder = match port {
            Some(port) => ports::see_to(port, freeing).await,
            None => None,
        };
        match holder {
            Some(Holder { remedy: Remedy::Ended, .. }) => {}
            holder => return Err(cannot_listen(&failed, holder.as_ref(), key)),
        }
    }
}

fn is_taken(failed: &NotOpened) -> bool {
    failed.error.kind() == io::ErrorKind::AddrInUse
}

/// Whether a process of this hotrun holds the address. It may be gone when the socket is opened.
fn is_the_programs(failed: &NotOpened) -> bool {
    is_taken(failed) && failed.address.port().is_some_and(ports::is_ours)
}

/// `key`: where the address is configured.
pub(super) fn cannot_listen(failed: &NotOpened, holder: Option<&Holder>, key: &str) -> Error {
    let error = |why: &dyn std::fmt::Display| {
        Error::failed(&failed.address, format!("cannot listen on it: {why}"))
    };
    match (failed.error.kind(), holder) {
        (_, Some(holder)) => {
            let (who, remedy) = report::who_holds(holder);
            let error = error(&format!("it is held by {who}"));
            if holder.remedy == Remedy::None {
                return error.remedy(format!("stop it, or choose another address in {key}"));
            }
            error.remedy(remedy)
        }
        (io::ErrorKind::AddrInUse, None) if is_the_programs(failed) => {
            error(&"the running program holds it until it exits")
                .remedy("restart hotrun, or set run.mode = \"restart\"")
        }
        (io::ErrorKind::AddrInUse, None) => error(&"the address is in use")
            .remedy(format!("stop the process that holds it, or choose another address in {key}")),
        (io::ErrorKind::PermissionDenied, None)
            if !matches!(failed.address, Address::Unix(_)) => error(
            &"ports below 1024 need root",
        )
        .remedy(
            "choose a port from 1024 on, or: sudo sysctl net.ipv4.ip_unprivileged_port_start=80",
        ),
        (io::ErrorKind::AddrNotAvailable, None) => {
            error(&"this machine does not have this address").remedy("127.0.0.1 and 0.0.0.0 always exist")
        }
        (_, None) => error(&failed.error),
    }
}

impl Engine {
    /// Reports all open listeners.
    pub(super) fn tell_listeners(&self) {
        for (number, (address, name)) in self.service.listeners.addresses().enumerate() {
            self.say(Notice::Listening {
                address: address.to_string(),
                descriptor: 3 + number,
                name: name.map(str::to_owned),
            });
        }
    }

    /// Opens the new listeners of a configuration that was reloaded, while the old one is still in
    /// effect.
    pub(super) fn open_ahead(&mut self, config: &Service) -> Result<()> {
        match self.service.listeners.open_ahead(&config.recipe.listen) {
            // The process will be gone when the next program starts; if it is not, that is reported
            // then.
            Err(failed) if !is_the_programs(&failed) => {
                self.tell_who_holds(&failed);
                Err(cannot_listen(&failed, None, LISTEN))
            }
            _ => Ok(()),
        }
    }

    /// Opens the sockets of the current configuration, for an app that is about to start.
    pub(super) fn prepare_listeners(&mut self) -> std::result::Result<(), String> {
        let holders: Vec<Proc> = self.table.apps().map(|(proc, _)| proc).collect();
        match self.service.listeners.hold(&self.service.config.recipe.listen, &holders) {
            Ok(true) => {
                self.host
                    .told
                    .retain(|told| !matches!(told, Told::NobodyOn(_) | Told::MayHaveBound));
                self.tell_listeners();
            }
            Ok(false) => {}
            Err(failed) => {
                self.tell_who_holds(&failed);
                return Err(cannot_listen(&failed, None, LISTEN).to_string());
            }
        }
        if holders.is_empty() {
            self.service.listeners.reset();
        }
        Ok(())
    }

    fn tell_who_holds(&self, failed: &NotOpened) {
        let Some(port) = failed.address.port().filter(|_| is_taken(failed)) else { return };
        let (freeing, inbox) =
            (Freeing::of(&self.host.project, &self.service.config), self.host.sender.clone());
        spawn_local(async move {
            if let Some(holder) = ports::see_to(port, &freeing).await {
                inbox.send(FromEngine::Say(Notice::PortHeld(holder)));
            }
        });
    }

    /// Reopens listeners that a program has shut down, or whose socket file it has deleted.
    pub(super) fn repair_listeners(&mut self) {
        for (address, repair) in self.service.listeners.repair() {
            self.say(Notice::ListenerShut(address.to_string(), repair));
        }
    }

    /// Explains, after the program's own output, why an app may have failed soon after its start.
    pub(super) fn explain_quick_end(&mut self, proc: Proc, ended: &Ended) {
        // A program that could not be started has bound nothing.
        let never_ran = matches!(ended, Ended::Code(126 | 127) | Ended::NotStarted(_));
        let is_about_addresses =
            self.table.get(proc).is_some_and(|facts| facts.taken.is_some() || !facts.is_read);
        if never_ran || !is_about_addresses || !self.has_failed_at_once(proc, ended) {
            return;
        }
        if self.service.config.recipe.run.mode == Mode::Handover {
            let held = self.ports_of_others(proc);
            if !held.is_empty() {
                let held = held.into_iter().collect();
                return self.say(Notice::PortNeedsHandover(held));
            }
        }
        self.explain_port_of_proxy(proc);
        let addresses: Vec<String> = self.tcp_addresses().map(ToString::to_string).collect();
        if !addresses.is_empty() && self.host.told.insert(Told::MayHaveBound) {
            let by_shell = matches!(
                self.service.config.recipe.run.program,
                Program::Command(Command::Shell(..))
            );
            self.say(match self.by_a_tool_of_node() {
                Some(tool) => Notice::PassedOnByNobody(tool),
                None => Notice::MayHaveBound { addresses, by_shell },
            });
        }
    }

    /// Explains that an app which failed at once cannot have the port of the proxy: often the usual
    /// port of the program becomes that of the proxy, and nothing else is changed.
    fn explain_port_of_proxy(&mut self, proc: Proc) {
        let Some(port) = self.service.front.config().map(|config| config.port) else { return };
        let taken = self.table.get(proc).and_then(|entry| entry.taken.as_ref());
        let is_certain = taken.is_some_and(|taken| taken.contains(&port));
        let is_elsewhere = taken.is_some_and(|taken| !taken.is_empty())
            || self.service.config.recipe.upstream != Some(Upstream::Found);
        if (is_certain || !is_elsewhere) && self.host.told.insert(Told::ProxyHasPort) {
            self.say(Notice::ProxyHasPort { port, is_certain });
        }
    }

    /// The tool that starts the program, if it does not pass descriptors on.
    fn by_a_tool_of_node(&self) -> Option<&'static str> {
        const TOOLS: [&str; 4] = ["npm", "npx", "pnpm", "yarn"];
        let Program::Command(command) = &self.service.config.recipe.run.program else {
            return None;
        };
        let line = process::describe(command);
        let mut words = line.split_whitespace();
        words.find_map(|word| TOOLS.into_iter().find(|tool| word == *tool))
    }

    fn tcp_addresses(&self) -> impl Iterator<Item = &Address> {
        let all = self.service.listeners.addresses().map(|(address, _)| address);
        all.filter(|address| address.port().is_some())
    }

    /// Ports that other apps have opened themselves. A program that opens one of these, too, cannot
    /// run beside them.
    fn ports_of_others(&self, proc: Proc) -> BTreeSet<u16> {
        let others = self.table.apps().filter(|(one, _)| *one != proc);
        let pids = others.filter_map(|(_, app)| app.pid);
        pids.flat_map(|pid| ports::of_app(pid).ports()).collect()
    }

    /// Checks, some time after the start, whether an app accepts on the sockets that it has
    /// inherited.
    pub(super) fn look_at_listeners(&mut self, app: Proc, own: &BTreeSet<u16>) {
        let held = self.tcp_addresses();
        let held: Vec<(String, Option<u16>)> =
            held.map(|address| (address.to_string(), address.port())).collect();
        for (address, port) in held {
            let told = Told::NobodyOn(address.clone());
            let Some(port) = port.filter(|_| !self.host.told.contains(&told)) else { continue };
            let notice = if own.contains(&port) {
                Notice::BoundBeside(app, address)
            } else if let Some(waiting) = ports::waiting_in_vain(port) {
                Notice::NobodyAccepts(waiting, address)
            } else {
                continue;
            };
            self.host.told.insert(told);
            self.say(notice);
        }
    }
}
