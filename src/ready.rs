//! Detects when a new app serves, and receives what it reports about itself.
//!
//! Each generation has its own socket, to which it can send what services send to systemd
//! (`sd_notify(3)`). So the sender need not be identified by its pid, and any number of shells may
//! stand between hotrun and the app.
//!
//! Without configuration, an app is ready when it sends `READY=1`, when it listens on a port of its
//! own, or when it waits for connections on an inherited socket. An app that does none of this
//! counts as *running* after 3 s, not as ready.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Display;
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixDatagram, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::{Http, Ready, Target};
use crate::event::{Mode, Proc};
use crate::inbox::Inbox;
use crate::notice::{Notice, Problem};
use crate::process::Served;
use crate::process::{self, at, ports};

/// Delay before an app is reported ready. What it printed before may still be on its way through a
/// pseudoterminal, and precedes the report.
const OUTPUT_DELAY: Duration = Duration::from_millis(2);
/// Time after which an app without evidence that it serves counts as running: alone, and beside
/// another app that serves.
const RUNNING_AFTER: Duration = Duration::from_secs(3);
const RUNNING_AFTER_BESIDE: Duration = Duration::from_secs(1);
/// Time after which sockets are no longer polled for that evidence.
const MAX_POLLED: Duration = Duration::from_secs(300);
/// Maximum wait for a port that an earlier app used, after this app has opened another port.
const KNOWN_PORT_TIMEOUT: Duration = Duration::from_secs(1);
/// Minimum time since its start after which a ready or running app has proven good.
const PROVEN_AFTER: Duration = Duration::from_secs(2);
/// Interval between polls or attempts: at first, and the maximum it grows to. On macOS, one poll
/// takes as long as starting several programs.
const POLL_INTERVAL: Duration =
    Duration::from_millis(if cfg!(target_os = "macos") { 250 } else { 5 });
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Maximum interval after `ready.timeout`.
const LATE_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Timeout for connecting, and for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time without an answer after which the reason of the previous attempt is replaced.
const SLOW_ANSWER_DELAY: Duration = Duration::from_millis(200);
/// Minimum interval between two reported states of an app.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time that an app is granted by one request.
const MAX_EXTENSION: Duration = Duration::from_secs(3600);
/// Maximum number of messages read within [`QUOTA_TIME`]. Beyond it, the app has to wait.
const QUOTA: u32 = 100;
const QUOTA_TIME: Duration = Duration::from_millis(100);
/// Maximum number of descriptors in one message (`SCM_MAX_FD` on Linux).
#[cfg(target_os = "linux")]
const MAX_DESCRIPTORS: usize = 253;
/// Maximum length of a message, in bytes. systemd's own are at most 4096 bytes long.
const MAX_MESSAGE: usize = 64 << 10;

/// What to wait for.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// The configuration, `[ready]`.
    pub ready: Ready,
    /// Whether another app may be serving meanwhile.
    pub mode: Mode,
    /// The port that it is configured to listen on.
    pub port: Option<u16>,
    /// Ports on which it probably listens, since its environment names them or the previous app
    /// used them.
    pub known: Vec<u16>,
    /// Where the proxy expects it: on the port, or on this Unix socket.
    pub proxied: Proxied,
}

/// Whether requests reach an app through the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proxied {
    No,
    /// At a port, which may have to be found.
    Tcp,
    /// At this socket.
    Unix(PathBuf),
}

/// Watches one app until dropped.
#[derive(Debug)]
pub(crate) struct Probe {
    facts: UnboundedSender<Fact>,
    task: JoinHandle<()>,
    socket: Option<PathBuf>,
}

enum Fact {
    /// The first process has this pid, at the start or after a change.
    Began(i32),
    /// The app printed the line that `ready.log` waits for.
    Printed,
    /// The app was stopped for this time, with everything else.
    Stopped(Duration),
}

/// What a probe reports of its app.
#[derive(Debug)]
pub(crate) enum FromProbe {
    /// The app listens on these TCP ports.
    Listens(BTreeSet<u16>),
    /// The address of the app, if known, and what its processes listen on. `Ready` follows.
    Serves(Option<SocketAddr>, Served),
    /// The app serves, on evidence.
    Ready,
    /// The app counts as ready, in a handover without any evidence. `Running` follows.
    Assumed,
    /// The app has run for a while without evidence that it serves. `Ready` may follow.
    Running,
    /// The app did not become ready in time; the reason.
    Unready(String),
    /// The app was ready, and has run long enough to be trusted.
    Proven,
    /// The app declares the process with this pid its main process (`MAINPID=`).
    MainPid(i32),
    /// What the app reports about its state (`STATUS=`).
    Status(String),
    /// The app reports that it is stopping (`STOPPING=1`).
    Stopping,
    /// The app asks for more time, counted from now (`EXTEND_TIMEOUT_USEC=`).
    Extend(Duration),
    Say(Notice),
}

impl Probe {
    /// Prepares to watch an app that is yet to start, and reports to the inbox. The result tells
    /// whether the app has a socket; without one it is watched all the same.
    pub(crate) fn new(
        proc: Proc,
        expected: Expected,
        inbox: Inbox<FromProbe>,
    ) -> (Self, io::Result<()>) {
        let (facts, told) = unbounded_channel();
        let path = process::own_file("notify").map(|path| {
            let mut name = path.into_os_string();
            name.push(format!(".{}", proc.0));
            PathBuf::from(name)
        });
        let opened = match &path {
            Some(path) => open_socket(path),
            None => Err(io::Error::other("there is no directory for it")),
        };
        let (socket, outcome) = match opened {
            Ok(socket) => (Some(socket), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let path = path.filter(|_| socket.is_some());
        let watcher = Watcher { proc, expected, inbox, socket };
        let task = spawn_local(watcher.run(told));
        (Self { facts, task, socket: path }, outcome)
    }

    /// Returns the variable that names the socket to the app.
    pub(crate) fn variable(&self) -> Option<(OsString, OsString)> {
        let path = self.socket.clone()?;
        Some(("NOTIFY_SOCKET".into(), path.into()))
    }

    /// Records the pid of the first process, at the start or after a change.
    pub(crate) fn began(&self, pid: i32) {
        // The receiver exists until this is dropped.
        let _ = self.facts.send(Fact::Began(pid));
    }

    /// Records that the app was stopped by Ctrl-Z for this time, which does not count.
    pub(crate) fn was_stopped(&self, time: Duration) {
        let _ = self.facts.send(Fact::Stopped(time));
    }

    /// Records that the app printed the line that `ready.log` waits for.
    pub(crate) fn printed(&self) {
        let _ = self.facts.send(Fact::Printed);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

struct Watcher {
    proc: Proc,
    expected: Expected,
    inbox: Inbox<FromProbe>,
    socket: Option<UnixDatagram>,
}

/// Which of the expected signs have been seen.
#[derive(Clone, Copy, Default)]
struct Seen {
    notified: bool,
    printed: bool,
    /// All checks from outside have passed.
    probed: bool,
    /// The app reported that it is stopping, or asked for more time.
    stopping: bool,
    extended: bool,
}

/// The state that an app reports. Passes on only changes, and limits their rate.
#[derive(Default)]
struct Status {
    said: String,
    to_say: Option<String>,
    last: Option<Instant>,
}

impl Status {
    fn hear(&mut self, text: &str) {
        self.to_say = (text != self.said).then(|| text.to_owned());
    }

    /// Returns when the next state is to be reported.
    fn due(&self) -> Option<Instant> {
        let at = self.last.map_or_else(Instant::now, |last| last + STATUS_INTERVAL);
        self.to_say.is_some().then_some(at)
    }

    fn take(&mut self) -> Option<String> {
        self.last = Some(Instant::now());
        let text = self.to_say.take()?;
        self.said.clone_from(&text);
        Some(text)
    }
}

/// Limits how many messages are read per interval. The rest stays in the socket, and a flooding app
/// blocks until there is room, so that no queue grows in hotrun.
#[derive(Default)]
struct Quota {
    used: u32,
    until: Option<Instant>,
}

impl Quota {
    fn is_used_up(&self) -> bool {
        self.used >= QUOTA
    }

    /// Waits for the end of the interval if messages were read in it.
    async fn renewed(&mut self) {
        if self.used == 0 {
            return pending().await;
        }
        let until = *self.until.get_or_insert_with(|| Instant::now() + QUOTA_TIME);
        sleep_until(until).await;
        *self = Self::default();
    }
}

/// Opens a socket that only this user can send to, and that reports the sender's credentials.
fn open_socket(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    #[cfg(target_os = "linux")]
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::PassCred, &true)?;
    Ok(socket)
}

/// Receives one message; `None` for one of another user. macOS does not report the sender, so there
/// only the directory's mode keeps other users out.
fn receive(socket: &UnixDatagram) -> io::Result<Option<Vec<u8>>> {
    let mut message = vec![0; MAX_MESSAGE];
    #[cfg(target_os = "linux")]
    let (count, is_ours) = {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
        let mut parts = [io::IoSliceMut::new(&mut message)];
        let mut control = nix::cmsg_space!(UnixCredentials, [RawFd; MAX_DESCRIPTORS]);
        let fd = socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(fd, &mut parts, Some(&mut control), flags)?;
        let mut is_ours = false;
        for one in received.cmsgs().into_iter().flatten() {
            match one {
                ControlMessageOwned::ScmCredentials(sender) => {
                    is_ours = process::may_give_orders(sender.uid());
                }
                // Descriptors are closed; storing them, as systemd does (`FDSTORE=1`), is not
                // supported.
                ControlMessageOwned::ScmRights(fds) => {
                    fds.into_iter().map(process::own).for_each(drop);
                }
                _ => {}
            }
        }
        (received.bytes, is_ours)
    };
    #[cfg(not(target_os = "linux"))]
    let (count, is_ours) = (
        nix::sys::socket::recv(
            socket.as_raw_fd(),
            &mut message,
            nix::sys::socket::MsgFlags::MSG_DONTWAIT,
        )?,
        true,
    );
    message.truncate(count);
    Ok(is_ours.then_some(message))
}

impl Watcher {
    async fn run(self, mut facts: UnboundedReceiver<Fact>) {
        let mut seen = Seen::default();
        let pid = loop {
            match facts.recv().await {
                Some(Fact::Began(pid)) => break Cell::new(pid),
                Some(Fact::Printed) => seen.printed = true,
                Some(Fact::Stopped(_)) => {}
                None => return,
            }
        };
        let began = Instant::now();
        let configured = &self.expected.ready;
        let is_configured = configured.is_configured();
        let mut deadline = Some(began + configured.timeout).filter(|_| is_configured);
        let mut runs = Some(began + self.runs_after()).filter(|_| !is_configured);
        let (mut is_ready, mut is_proven) = (false, false);
        let mut status = Status::default();
        let mut quota = Quota::default();
        let why = RefCell::new(String::new());
        let found = RefCell::new(None);
        let mut probing = pin!(self.probe(&pid, began, &why, &found));
        // The proxy has to know where the app is, even if it is ready by another sign than that.
        let mut finding = pin!(self.find(&pid));
        let (mut is_sought, mut was_sought) = (false, false);
        loop {
            if !is_ready && self.is_enough(seen) {
                sleep(OUTPUT_DELAY).await;
                is_ready = true;
                (deadline, runs) = (None, None);
                let found = found.take().unwrap_or_else(|| ports::of_app(pid.get()));
                is_sought = self.expected.proxied == Proxied::Tcp && !self.is_there(&found);
                if !found.own.is_empty() {
                    self.send(FromProbe::Listens(found.ports()));
                }
                let address = self.address(&found);
                self.send(FromProbe::Serves(address, found.served()));
                self.send(FromProbe::Ready);
            }
            let lives = is_ready || runs.is_none() && !is_configured;
            let proven = (lives && !is_proven).then_some(began + PROVEN_AFTER);
            tokio::select! {
                biased;
                fact = facts.recv() => match fact {
                    Some(Fact::Printed) => seen.printed = true,
                    Some(Fact::Stopped(time)) => {
                        deadline = deadline.map(|at| at + time);
                        runs = runs.map(|at| at + time);
                    }
                    Some(Fact::Began(successor)) => pid.set(successor),
                    None => return,
                },
                () = &mut probing, if !seen.probed => seen.probed = true,
                () = at(deadline) => {
                    deadline = None;
                    let missing = self.missing(seen, &why.borrow());
                    self.send(FromProbe::Unready(missing));
                }
                () = at(runs) => {
                    runs = None;
                    if self.expected.mode == Mode::Handover {
                        self.send(FromProbe::Assumed);
                    }
                    self.send(FromProbe::Running);
                    is_sought = self.expected.proxied == Proxied::Tcp;
                }
                () = &mut finding, if is_sought && !was_sought => was_sought = true,
                () = at(proven) => {
                    is_proven = true;
                    self.send(FromProbe::Proven);
                }
                () = at(status.due()) => {
                    if let Some(text) = status.take() {
                        self.send(FromProbe::Status(text));
                    }
                }
                () = quota.renewed() => {}
                // After the timers, which an app that floods the socket would otherwise delay.
                text = self.next_message(), if !quota.is_used_up() => {
                    quota.used += 1;
                    self.handle_message(&text, &mut seen, &mut status, &mut deadline);
                }
            }
        }
    }

    fn runs_after(&self) -> Duration {
        if self.expected.mode == Mode::Handover { RUNNING_AFTER_BESIDE } else { RUNNING_AFTER }
    }

    /// Handles everything in one message. The last of repeated assignments counts.
    fn handle_message(
        &self,
        message: &str,
        seen: &mut Seen,
        status: &mut Status,
        deadline: &mut Option<Instant>,
    ) {
        let (mut main_pid, mut extension) = (None, None);
        for line in message.lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => seen.notified = true,
                Some(("STATUS", text)) => status.hear(text),
                Some(("MAINPID", pid)) => main_pid = pid.parse().ok(),
                Some(("STOPPING", "1")) if !seen.stopping => {
                    seen.stopping = true;
                    self.send(FromProbe::Stopping);
                }
                Some(("EXTEND_TIMEOUT_USEC", more)) => {
                    extension = more.parse().ok().map(Duration::from_micros);
                }
                _ => {}
            }
        }
        if let Some(pid) = main_pid {
            self.send(FromProbe::MainPid(pid));
        }
        let Some(more) = extension.map(|more| more.min(MAX_EXTENSION)) else { return };
        let later = Instant::now() + more;
        if let Some(deadline) = deadline.as_mut().filter(|at| **at < later) {
            *deadline = later;
            if !std::mem::replace(&mut seen.extended, true) {
                let notice = Notice::Extended { app: self.proc, more, to_end: false };
                self.send(FromProbe::Say(notice));
            }
        }
        self.send(FromProbe::Extend(more));
    }

    fn is_enough(&self, seen: Seen) -> bool {
        let ready = &self.expected.ready;
        if !ready.is_configured() {
            return seen.probed || (seen.notified && ready.notify != Some(false));
        }
        let is_notified = ready.notify != Some(true) || seen.notified;
        is_notified && (ready.log.is_none() || seen.printed) && seen.probed
    }

    /// Returns what is missing, for the user.
    fn missing(&self, seen: Seen, why: &str) -> String {
        let ready = &self.expected.ready;
        let mut missing = Vec::new();
        if ready.notify == Some(true) && !seen.notified {
            missing.push(match &self.socket {
                Some(_) => "it has not sent READY=1 to $NOTIFY_SOCKET".to_owned(),
                None => "hotrun could not create $NOTIFY_SOCKET".to_owned(),
            });
        }
        if let Some(log) = ready.log.as_ref().filter(|_| !seen.printed) {
            missing.push(format!("no line matching /{log}/ was printed"));
        }
        if !seen.probed && !why.is_empty() {
            missing.push(why.to_owned());
        }
        missing.join("; ")
    }

    /// Returns the next message. Never returns if there is no socket.
    async fn next_message(&self) -> String {
        let Some(socket) = &self.socket else { return pending().await };
        loop {
            if socket.readable().await.is_err() {
                return pending().await;
            }
            match socket.try_io(Interest::READABLE, || receive(socket)) {
                Ok(Some(message)) => return String::from_utf8_lossy(&message).into_owned(),
                // Another user's message, or it was read already.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return pending().await,
            }
        }
    }

    /// Waits until all checks from outside pass. `why`: what has failed last, for the user.
    /// `found`: where the app listens, if that was checked.
    async fn probe(
        &self,
        pid: &Cell<i32>,
        began: Instant,
        why: &RefCell<String>,
        found: &RefCell<Option<ports::Found>>,
    ) {
        let ready = &self.expected.ready;
        if !ready.is_configured() {
            found.replace(Some(self.until_it_listens(pid, began).await));
            return;
        }
        if let Some(http) = &ready.http {
            let good = || is_answered(http);
            self.until(pid, &http.target, http, good, why).await;
        }
        if let Some(tcp) = &ready.tcp {
            let good = async || connect(tcp).await.map(drop);
            self.until(pid, tcp, tcp, good, why).await;
        }
        if let Some(after) = ready.after {
            sleep_until(began + after).await;
        }
    }

    /// Polls, at growing intervals, until it listens.
    async fn until_it_listens(&self, pid: &Cell<i32>, began: Instant) -> ports::Found {
        let mut first = None;
        let mut pause = POLL_INTERVAL;
        while began.elapsed() < MAX_POLLED {
            sleep(pause).await;
            let found = ports::of_app(pid.get());
            let is_served = match &self.expected.proxied {
                Proxied::Unix(path) => self.accepts(pid.get(), path).await,
                Proxied::No | Proxied::Tcp => self.is_served(&found, &mut first),
            };
            if is_served {
                return found;
            }
            pause = (pause * 2).min(MAX_POLL_INTERVAL.max(began.elapsed() / 8));
        }
        pending().await
    }

    /// Polls, at growing intervals, where the app listens, and reports it. Returns when that is
    /// where the proxy expects it, or after a long time.
    async fn find(&self, pid: &Cell<i32>) {
        let began = Instant::now();
        let mut first = None;
        let mut pause = POLL_INTERVAL;
        let mut has_reported = false;
        while began.elapsed() < MAX_POLLED {
            sleep(pause).await;
            let found = ports::of_app(pid.get());
            let is_there = self.is_there(&found);
            // Another port may be followed by the expected one.
            let is_elsewhere = !found.own.is_empty()
                && first.get_or_insert_with(Instant::now).elapsed() >= KNOWN_PORT_TIMEOUT;
            if is_there || is_elsewhere && !has_reported {
                has_reported = true;
                let address = self.address(&found);
                self.send(FromProbe::Listens(found.ports()));
                self.send(FromProbe::Serves(address, found.served()));
            }
            if is_there {
                return;
            }
            pause = (pause * 2).min(MAX_POLL_INTERVAL.max(began.elapsed() / 8));
        }
    }

    /// Whether it listens where the proxy expects it.
    fn is_there(&self, found: &ports::Found) -> bool {
        match self.expected.port {
            Some(port) => found.own.contains_key(&port) || found.inherited == Some(port),
            None => !found.own.is_empty() || found.inherited.is_some(),
        }
    }

    /// Whether the app accepts connections on this Unix socket. In a handover the old one may.
    async fn accepts(&self, pid: i32, path: &Path) -> bool {
        let Ok(Ok(stream)) = timeout(ANSWER_TIMEOUT, UnixStream::connect(path)).await else {
            return false;
        };
        let listener = stream.peer_cred().ok().and_then(|peer| peer.pid());
        self.expected.mode != Mode::Handover
            || listener.is_none_or(|listener| ports::is_of_app(pid, listener))
    }

    /// Returns true if it listens where it is expected to. `first`: when it was first seen to
    /// listen on any port.
    fn is_served(&self, found: &ports::Found, first: &mut Option<Instant>) -> bool {
        if let Some(port) = self.expected.port {
            return found.own.contains_key(&port) || found.inherited == Some(port);
        }
        if found.inherited.is_some() {
            return true;
        }
        if found.own.is_empty() {
            return false;
        }
        let known = &self.expected.known;
        let is_known = known.is_empty() || known.iter().any(|port| found.own.contains_key(port));
        is_known || first.get_or_insert_with(Instant::now).elapsed() >= KNOWN_PORT_TIMEOUT
    }

    /// Returns the address to print for it.
    fn address(&self, found: &ports::Found) -> Option<SocketAddr> {
        let ready = &self.expected.ready;
        let probed = ready.http.iter().map(|http| &http.target).chain(&ready.tcp);
        let probed = probed.filter(|target| target.is_local()).map(|target| target.port);
        let known = self.expected.known.iter().copied();
        let mut wanted = self.expected.port.into_iter().chain(probed).chain(known);
        let own = wanted.find_map(|port| found.own.get(&port));
        let own = own.or_else(|| found.own.values().next());
        own.copied().or_else(|| Some(SocketAddr::from(([127, 0, 0, 1], found.inherited?))))
    }

    /// Tries until it succeeds. `what`: the name of the check, for the user.
    async fn until(
        &self,
        pid: &Cell<i32>,
        target: &Target,
        what: &impl Display,
        good: impl AsyncFn() -> Result<(), Failure>,
        why: &RefCell<String>,
    ) {
        let began = Instant::now();
        let mut pause = POLL_INTERVAL;
        loop {
            let tried = match self.is_its_own(pid.get(), target) {
                Ok(()) => {
                    let mut trying = pin!(good());
                    tokio::select! {
                        tried = &mut trying => tried,
                        () = sleep(SLOW_ANSWER_DELAY) => {
                            *why.borrow_mut() = format!("{what}: no answer yet");
                            trying.await
                        }
                    }
                }
                Err(failure) => Err(failure),
            };
            let Err(failure) = tried else { return };
            *why.borrow_mut() = format!("{what}: {}", failure.why);
            // A problem that will hardly resolve itself is reported at once.
            if pause == POLL_INTERVAL && failure.is_unknown_name {
                let (check, host) = (what.to_string(), target.host.clone());
                let problem = Problem::UnknownHost { check, host };
                self.send(FromProbe::Say(problem.into()));
            }
            sleep(pause).await;
            let is_late = began.elapsed() > self.expected.ready.timeout;
            pause = (pause * 2).min(if is_late { LATE_POLL_INTERVAL } else { MAX_POLL_INTERVAL });
        }
    }

    /// Checks that the new app is the one that would answer. In a handover the old one may be.
    fn is_its_own(&self, pid: i32, target: &Target) -> Result<(), Failure> {
        if self.expected.mode != Mode::Handover || !target.is_local() {
            return Ok(());
        }
        let is_its_own = ports::of_app(pid).own.contains_key(&target.port);
        is_its_own.then_some(()).ok_or_else(|| Failure::of("the new program does not listen there"))
    }

    fn send(&self, message: FromProbe) {
        self.inbox.send(message);
    }
}

/// Why a check has failed.
struct Failure {
    why: String,
    /// Whether the host name cannot be resolved.
    is_unknown_name: bool,
}

impl Failure {
    fn of(why: impl Display) -> Self {
        Self { why: why.to_string(), is_unknown_name: false }
    }
}

/// Connects to the target. The lookup of the name has no timeout: it cannot be cancelled, and must
/// not run twice at a time.
async fn connect(target: &Target) -> Result<TcpStream, Failure> {
    let addresses: Vec<SocketAddr> = if target.host == "localhost" {
        // A lookup needs a thread, which may not be available.
        let both = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        both.map(|address| SocketAddr::new(address, target.port)).into()
    } else {
        let found = tokio::net::lookup_host((&*target.host, target.port)).await;
        let unknown = |error| Failure { is_unknown_name: true, ..Failure::of(error) };
        found.map_err(unknown)?.collect()
    };
    match timeout(ANSWER_TIMEOUT, TcpStream::connect(&*addresses)).await {
        Ok(connected) => connected.map_err(|error| Failure::of(error.kind())),
        Err(_) => Err(Failure::of(io::Error::from(io::ErrorKind::TimedOut))),
    }
}

async fn is_answered(http: &Http) -> Result<(), Failure> {
    let status = ask(http).await?;
    let is_good = http.status.map_or(status.as_u16() < 400, |wanted| status == wanted);
    is_good.then_some(()).ok_or_else(|| Failure::of(format!("answers {status}")))
}

/// Returns the status of the answer.
async fn ask(http: &Http) -> Result<StatusCode, Failure> {
    let stream = connect(&http.target).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(Failure::of)?;
    let request = Request::get(&http.path)
        .header(HOST, http.target.to_string())
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(Failure::of)?;
    let mut connection = pin!(connection);
    let mut answer = pin!(sender.send_request(request));
    let asking = async {
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => {
                ended?;
                answer.await
            }
        }
    };
    match timeout(ANSWER_TIMEOUT, asking).await {
        Ok(answer) => answer.map(|answer| answer.status()).map_err(Failure::of),
        Err(_) => Err(Failure::of("does not answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_one_message_of_a_program_leads_to_a_few_of_hotruns_whatever_it_says() {
        let corpus = [
            "READY=1\nSTATUS=up\nMAINPID=7\nSTOPPING=1\nEXTEND_TIMEOUT_USEC=1000\n",
            "EXTEND_TIMEOUT_USEC=18446744073709551615\nMAINPID=-1\nMAINPID=99999999999\n",
        ];
        crate::fuzz::hammer(
            &corpus,
            &["MAINPID=1\n", "EXTEND_TIMEOUT_USEC=", "STATUS=\u{1b}"],
            |text| {
                let (sender, mut told) = unbounded_channel();
                let inbox = Inbox::new(&sender, |message: FromProbe| message);
                let expected = Expected {
                    ready: Ready {
                        notify: None,
                        http: None,
                        tcp: None,
                        log: None,
                        after: None,
                        timeout: RUNNING_AFTER,
                    },
                    mode: Mode::Restart,
                    port: None,
                    known: Vec::new(),
                    proxied: Proxied::No,
                };
                let watcher = Watcher { proc: Proc(1), expected, inbox, socket: None };
                let (mut seen, mut status) = (Seen::default(), Status::default());
                let mut deadline = Some(Instant::now());
                watcher.handle_message(
                    &String::from_utf8_lossy(text),
                    &mut seen,
                    &mut status,
                    &mut deadline,
                );
                let latest = Instant::now() + MAX_EXTENSION;
                assert!(deadline.is_some_and(|at| at <= latest));
                let count = std::iter::from_fn(|| told.try_recv().ok()).count();
                assert!(count <= 4, "{count}");
            },
        );
    }
}
