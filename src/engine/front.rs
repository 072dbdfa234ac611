//! The proxy, as the engine uses it: what it gets to know, and which apps wait for their requests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use tokio::task::JoinHandle;

use super::sockets::{self, cannot_listen};
use crate::config::{self, Address, Command, Project, Service, Stage};
use crate::error::{Error, Result};
use crate::event::Proc;
use crate::inbox::Inbox;
use crate::listen::NotOpened;
use crate::notice::Absence;
use crate::process::{self, Freeing};
use crate::proxy::{FromProxy, Listeners, Proxy, Serving, Tls, View};

/// Where its address is configured.
const KEY: &str = "proxy.proxy_port";

/// The proxy of a service, if it has one.
pub(super) struct Front {
    proxy: Option<Proxy>,
    /// What the proxy is configured as.
    config: Option<config::Proxy>,
    /// What is wrong with its certificate, though it is used.
    doubt: Option<&'static str>,
    /// Opened early, for a new configuration.
    ahead: Option<Listeners>,
    /// The apps that are stopped when no request is under way to them, and the ends of their time.
    draining: BTreeMap<Proc, JoinHandle<()>>,
    inbox: Inbox<FromProxy>,
}

impl Front {
    /// Starts the proxy that is configured, before anything is built.
    ///
    /// # Errors
    ///
    /// Its address is in use.
    pub(super) async fn open(
        project: &Project,
        service: &Service,
        inbox: Inbox<FromProxy>,
    ) -> Result<Self> {
        let mut front = Self {
            proxy: None,
            config: None,
            doubt: None,
            ahead: None,
            draining: BTreeMap::new(),
            inbox,
        };
        let Some(config) = &service.proxy else { return Ok(front) };
        let tls = Tls::load(config)?;
        let freeing = Freeing::of(project, service);
        let listeners = sockets::open(&freeing, KEY, || open(config)).await?;
        front.start(config, listeners, tls)?;
        Ok(front)
    }

    fn start(
        &mut self,
        config: &config::Proxy,
        listeners: Listeners,
        tls: Option<Tls>,
    ) -> Result<()> {
        process::open_files::allow_more();
        self.doubt = tls.as_ref().and_then(|tls| tls.doubt);
        let view = View {
            serving: Serving::None(Absence::NotStarted),
            draining: self.draining.keys().copied().collect(),
            config: config.clone(),
            listeners,
            tls,
        };
        let proxy = Proxy::start(view, self.inbox.clone())
            .map_err(|error| Error::failed("[proxy]", error))?;
        self.proxy = Some(proxy);
        self.config = Some(config.clone());
        Ok(())
    }

    /// Opens the sockets of a configuration that was reloaded, while the old one is still in effect.
    pub(super) fn open_ahead(&mut self, service: &Service) -> Result<()> {
        self.ahead = None;
        let Some(config) = &service.proxy else { return Ok(()) };
        Tls::load(config)?;
        // On the same port they can be opened only when the old ones are closed.
        if self.config.as_ref().is_some_and(|old| old.port == config.port) {
            return Ok(());
        }
        let opened = open(config).map_err(|failed| cannot_listen(&failed, None, KEY))?;
        self.ahead = Some(opened);
        Ok(())
    }

    /// Puts a configuration into effect. Returns whether it listens elsewhere now.
    pub(super) fn configure(&mut self, config: Option<&config::Proxy>) -> Result<bool> {
        let Some(config) = config else {
            self.proxy = None;
            self.config = None;
            return Ok(false);
        };
        let is_known = self.config.as_ref() == Some(config);
        if is_known && config.tls.is_none() {
            return Ok(false);
        }
        // Files of the same names may hold another certificate.
        let tls = Tls::load(config)?;
        let old = self.config.as_ref().map(|old| (old.port, old.bind));
        let is_there = old == Some((config.port, config.bind));
        if let Some(proxy) = self.proxy.as_ref().filter(|_| is_there) {
            let is_same = self.config.as_ref().map(|old| &old.tls) == Some(&config.tls);
            self.doubt = tls.as_ref().and_then(|tls| tls.doubt);
            proxy.configure(config.clone(), tls, None);
            self.config = Some(config.clone());
            return Ok(!is_same);
        }
        let listeners = self.ahead.take();
        if let Some(proxy) = self.proxy.as_ref().filter(|_| listeners.is_some()) {
            self.doubt = tls.as_ref().and_then(|tls| tls.doubt);
            proxy.configure(config.clone(), tls, listeners);
            self.config = Some(config.clone());
            return Ok(true);
        }
        // Closes its sockets.
        self.proxy = None;
        let old = self.config.take();
        let opened = listeners.map_or_else(|| open(config), Ok);
        let failed = match opened {
            Ok(listeners) => return self.start(config, listeners, tls).map(|()| true),
            Err(failed) => failed,
        };
        if let Some(old) = old
            && let Ok(listeners) = open(&old)
        {
            self.start(&old, listeners, Tls::load(&old)?)?;
        }
        Err(cannot_listen(&failed, None, KEY))
    }

    /// The URL that people open, if there is a proxy.
    pub(super) fn url(&self) -> Option<String> {
        self.config.as_ref().map(config::Proxy::url)
    }

    /// What is wrong with its certificate, though it is used.
    pub(super) fn doubt(&self) -> Option<&'static str> {
        self.doubt
    }

    /// The configuration of the proxy, if there is one.
    pub(super) fn config(&self) -> Option<&config::Proxy> {
        self.config.as_ref()
    }

    /// Waits for the requests to this app to end, until the timer does.
    pub(super) fn begin_to_drain(&mut self, app: Proc, timer: JoinHandle<()>) {
        self.draining.insert(app, timer);
    }

    /// Whether requests to this app are awaited.
    pub(super) fn is_draining(&self, app: Proc) -> bool {
        self.draining.contains_key(&app)
    }

    /// The apps whose requests are awaited.
    pub(super) fn draining(&self) -> Vec<Proc> {
        self.draining.keys().copied().collect()
    }

    /// Awaits the requests to this app no longer. Returns whether they were awaited.
    pub(super) fn has_drained(&mut self, app: Proc) -> bool {
        let timer = self.draining.remove(&app);
        timer.inspect(JoinHandle::abort).is_some()
    }

    /// Tells the proxy who serves.
    pub(super) fn publish(&self, serving: impl FnOnce() -> Serving) {
        if let Some(proxy) = &self.proxy {
            proxy.show(serving(), self.draining.keys().copied().collect());
        }
    }
}

fn open(config: &config::Proxy) -> std::result::Result<Listeners, NotOpened> {
    Listeners::open(config)
        .map_err(|(address, error)| NotOpened { address: Address::Tcp(address), error })
}

/// Puts the port in the place of each `{port}` in the command.
pub(super) fn with_port(mut stage: Stage, port: u16) -> Stage {
    let replace = |word: &mut OsString| {
        let text = port.to_string();
        *word = OsString::from_vec(replaced(word.as_bytes(), b"{port}", text.as_bytes()));
    };
    match &mut stage.command {
        Command::Argv(argv) => argv.iter_mut().for_each(replace),
        Command::Shell(text, args) => {
            *text = text.replace("{port}", &port.to_string());
            args.iter_mut().for_each(replace);
        }
    }
    stage
}

fn replaced(text: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    let mut done = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(what) {
            done.extend_from_slice(by);
            rest = after;
        } else {
            done.push(*first);
            rest = &rest[1..];
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_takes_the_place_of_its_name_in_every_word() {
        let argv = ["app", "--port={port}", "{port}{port}", "{ports", "é{port}"];
        let argv = argv.map(OsString::from).to_vec();
        let Command::Argv(argv) = with_port(Stage::alone(Command::Argv(argv)), 80).command else {
            panic!();
        };
        assert_eq!(argv, ["app", "--port=80", "8080", "{ports", "é80"]);
        let shell = Command::Shell("serve {port} \"$@\"".to_owned(), vec!["{port}".into()]);
        let shell = with_port(Stage::alone(shell), 80).command;
        assert_eq!(shell, Command::Shell("serve 80 \"$@\"".to_owned(), vec!["80".into()]));
    }
}
