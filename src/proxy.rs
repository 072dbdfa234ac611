//! The proxy: browsers connect to it, and it sends their requests to the generation of the program
//! that serves. A request that comes while none does waits.
//!
//! It runs on threads of its own, so that requests pass while the engine is busy. It sees what the
//! engine publishes ([`View`]), and reports when a program that is to be stopped has answered all
//! its requests. Nothing is sent to a program twice, unless it is known that nothing arrived, or
//! the request is idempotent and has no body.
//!
//! Invariants:
//!
//! - A request is begun only at the program that serves, and counts as under way from then until
//!   its answer has passed; event streams and tunnels do not count, as they need not end.
//! - No request that is not idempotent is sent through a connection over HTTP/1.1 that was used
//!   before: if the program closed that in the same moment, it would not be known whether the
//!   request arrived. Requests for gRPC share a connection over HTTP/2.
//! - A fault in one connection ends that one alone.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::num::NonZero;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};

use crate::config;
use crate::event::Proc;
use crate::inbox::Inbox;
use crate::listen::set_backlog;
use crate::notice::Absence;

mod front;
mod forward;
mod state;
mod answer;
mod body;
mod upstream;
mod tls;
mod upload;
mod strict;
mod tap;
mod head;

use state::Shared;
pub(crate) use tls::Tls;
pub(crate) use upstream::{Generation, Place};

/// Maximum size of the head of a request, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// Maximum number of threads. With more, a proxy on a developer's machine is no faster.
const MAX_THREADS: usize = 4;
/// Maximum number of requests that wait for a program.
const MAX_WAITING: usize = 1024;

/// Which program requests are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Serving {
    By(Generation),
    None(Absence),
}

/// What the engine publishes for the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub serving: Serving,
    /// Programs that are stopped as soon as no request is under way to them.
    pub draining: BTreeSet<Proc>,
    pub config: config::Proxy,
    pub listeners: Listeners,
    pub tls: Option<Tls>,
}

/// What the proxy reports.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FromProxy {
    /// No request is under way to this program, which is to be stopped.
    Drained(Proc),
    /// A request has waited in vain.
    HeldInVain { waited: Duration, why: Absence },
}

/// The sockets that browsers connect to.
#[derive(Clone, Debug)]
pub(crate) struct Listeners(Arc<Vec<TcpListener>>);

impl PartialEq for Listeners {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Listeners {}

impl Listeners {
    /// Opens the sockets that are configured.
    ///
    /// # Errors
    ///
    /// One cannot be opened; its address.
    pub(crate) fn open(config: &config::Proxy) -> Result<Self, (SocketAddr, io::Error)> {
        let open = |address: SocketAddr| {
            let listener = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                // The standard library sets 128, beyond which a client tries again after a second.
                set_backlog(&listener)?;
                Ok(listener)
            });
            listener.map_err(|error| (address, error))
        };
        let port = config.port;
        let mut all = Vec::new();
        match config.bind {
            config::Bind::Address(address) => all.push(open((address, port).into())?),
            config::Bind::Loopback => {
                all.push(open((Ipv4Addr::LOCALHOST, port).into())?);
                match open((Ipv6Addr::LOCALHOST, port).into()) {
                    Ok(listener) => all.push(listener),
                    // A machine without IPv6.
                    Err((_, error)) if error.kind() != io::ErrorKind::AddrInUse => {
                        tracing::debug!(%error, "no proxy on [::1]");
                    }
                    Err(failed) => return Err(failed),
                }
            }
        }
        Ok(Self(Arc::new(all)))
    }

    fn iter(&self) -> impl Iterator<Item = &TcpListener> {
        self.0.iter()
    }
}

/// A running proxy. Ends when dropped, and closes its sockets.
pub(crate) struct Proxy {
    view: Option<watch::Sender<View>>,
    threads: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Starts the proxy.
    ///
    /// # Errors
    ///
    /// The system allows no further thread or descriptor.
    pub(crate) fn start(view: View, inbox: Inbox<FromProxy>) -> io::Result<Self> {
        let available = thread::available_parallelism().map_or(1, NonZero::get);
        Self::start_with(view, inbox, available.min(MAX_THREADS))
    }

    /// Starts the proxy with this number of threads. Each connection stays on one of them.
    fn start_with(view: View, inbox: Inbox<FromProxy>, threads: usize) -> io::Result<Self> {
        let (view, changes) = watch::channel(view);
        let shared = Arc::new(Shared::new(threads, inbox));
        // If one cannot be started, those before it end.
        let mut proxy = Self { view: Some(view), threads: Vec::new() };
        for _ in 0..threads {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (changes, shared) = (changes.clone(), Arc::clone(&shared));
            let thread = thread::Builder::new().name("proxy".to_owned()).spawn(move || {
                LocalSet::new().block_on(&runtime, front::run(changes, shared));
            })?;
            proxy.threads.push(thread);
        }
        Ok(proxy)
    }

    /// Publishes who serves, and who is to be stopped.
    pub(crate) fn show(&self, serving: Serving, draining: BTreeSet<Proc>) {
        let Some(sender) = &self.view else { return };
        sender.send_if_modified(|view| {
            let has_changed = view.serving != serving || view.draining != draining;
            (view.serving, view.draining) = (serving, draining);
            has_changed
        });
    }

    /// Publishes another configuration. `listeners`: other ones, if it has any.
    pub(crate) fn configure(
        &self,
        config: config::Proxy,
        tls: Option<Tls>,
        listeners: Option<Listeners>,
    ) {
        let Some(sender) = &self.view else { return };
        sender.send_modify(|view| {
            view.config = config;
            view.tls = tls;
            if let Some(listeners) = listeners {
                view.listeners = listeners;
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.view = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Runs tasks of hyper on the proxy's own thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

/// A duration for people.
fn spoken(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        return format!("{:.1} s", time.as_secs_f64());
    }
    format!("{} s", time.as_secs())
}

#[cfg(test)]
mod tests;
