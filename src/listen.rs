//! Sockets that outlive the program: opened once, held until hotrun ends, and inherited by
//! every generation, so that whoever connects between two of them waits and is not refused.
//!
//! A socket is shared with whoever has inherited it, flags and all. What one program has
//! changed is put right before the next inherits it.
//!
//! Invariant: the flags of a socket are not touched while a generation holds it. (An event
//! loop that finds it blocking would hang in `accept`.)

use std::fs;
use std::io::{self, PipeWriter};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Backlog, getsockopt, sockopt};
use tokio::sync::mpsc::UnboundedSender;

use crate::config::{Address, Listen};
use crate::event::Message;

/// So many connections wait to be accepted, while nobody does.
const BACKLOG: i32 = 4096;
/// How a socket without a name is called in `LISTEN_FDNAMES`, as by systemd.
const NO_NAME: &str = "unknown";
/// The system is asked so often for a port that is still free when it is to be taken.
const PORT_TRIES: u32 = 10;

/// One socket, as a program inherits it.
#[derive(Debug)]
pub struct Inherited {
    /// By which the program can tell it from others.
    pub name: String,
    fd: OwnedFd,
}

impl AsFd for Inherited {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Why a socket could not be opened.
#[derive(Debug)]
pub struct NotOpened {
    /// Which one.
    pub address: Address,
    /// Why.
    pub error: io::Error,
}

/// All sockets that hotrun holds. Dropped, they are closed, and files of Unix sockets go.
pub struct Listeners {
    open: Vec<Open>,
    inbox: UnboundedSender<Message>,
}

struct Open {
    listen: Listen,
    /// With the port that the system has chosen, where it was to choose.
    bound: Address,
    socket: Rc<Inherited>,
    /// Device and inode of a Unix socket's file.
    file: Option<(u64, u64)>,
    /// Tells when somebody has shut the socket down.
    alarm: Option<Alarm>,
    was_told: bool,
}

impl Listeners {
    /// None are open yet.
    pub fn new(inbox: UnboundedSender<Message>) -> Self {
        Self { open: Vec::new(), inbox }
    }

    /// Opens those of these that are not open, and closes all others. Where one cannot be
    /// opened nothing is changed.
    pub fn hold(&mut self, wanted: &[Listen]) -> Result<(), NotOpened> {
        if wanted.iter().eq(self.open.iter().map(|one| &one.listen)) {
            return Ok(());
        }
        let is_wanted =
            |one: &Open| wanted.iter().any(|listen| listen.address == one.listen.address);
        let is_open =
            |listen: &Listen| self.open.iter().any(|one| one.listen.address == listen.address);
        let mut new = Vec::new();
        for listen in wanted.iter().filter(|listen| !is_open(listen)) {
            let opened = open(listen);
            new.push(opened.map_err(|error| NotOpened { address: listen.address.clone(), error })?);
        }
        let (kept, closed): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut self.open).into_iter().partition(is_wanted);
        drop(closed);
        let mut all: Vec<Open> = kept.into_iter().chain(new).collect();
        for listen in wanted {
            // Two of them may have the same address, where the system is to choose the port.
            let place = all.iter().position(|one| one.listen.address == listen.address);
            let Some(mut one) = place.map(|place| all.remove(place)) else { continue };
            if one.listen.name != listen.name
                && let Ok(fd) = one.socket.as_fd().try_clone_to_owned()
            {
                one.socket = inherited(listen, fd);
                one.listen = listen.clone();
            }
            one.watch(&self.inbox);
            self.open.push(one);
        }
        Ok(())
    }

    /// What the next generation inherits, in this order.
    pub fn inherit(&self) -> Vec<Rc<Inherited>> {
        self.open.iter().map(|one| Rc::clone(&one.socket)).collect()
    }

    /// What they are bound to, each with its name.
    pub fn addresses(&self) -> impl Iterator<Item = (&Address, Option<&str>)> {
        self.open.iter().map(|one| (&one.bound, one.listen.name.as_deref()))
    }

    /// Nobody holds them: gives each the flags and the backlog that it had at first.
    pub fn reset(&self) {
        for one in &self.open {
            if let Ok(flags) = fcntl(&one.socket, FcntlArg::F_GETFL) {
                let flags = OFlag::from_bits_truncate(flags) - OFlag::O_NONBLOCK;
                // It can fail for nobody but who holds no descriptor.
                let _ = fcntl(&one.socket, FcntlArg::F_SETFL(flags));
            }
            one.listen_again();
        }
    }

    /// Opens those again that a program has shut down, or whose file it has deleted. Those of
    /// which it is told for the first time, and whether the programs that hold them now hear
    /// of new connections.
    pub fn repair(&mut self) -> Vec<(Address, bool)> {
        let mut told = Vec::new();
        for one in &mut self.open {
            let Some(is_heard) = one.repair() else { continue };
            one.watch(&self.inbox);
            if !std::mem::replace(&mut one.was_told, true) {
                told.push((one.bound.clone(), is_heard));
            }
        }
        told
    }
}

impl Open {
    fn listen_again(&self) {
        if !matches!(self.bound, Address::Udp(_)) {
            let _ = set_backlog(&self.socket);
        }
    }

    /// Whether it is heard again by who holds it; `None` where there is nothing to repair.
    fn repair(&mut self) -> Option<bool> {
        match &self.bound {
            Address::Udp(_) => None,
            Address::Tcp(_) => {
                let is_shut = getsockopt(&self.socket, sockopt::AcceptConn).is_ok_and(|on| !on);
                is_shut.then(|| self.listen_again()).map(|()| true)
            }
            Address::Unix(path) => {
                let is_shut = self.alarm.as_ref().is_some_and(Alarm::has_rung);
                if !is_shut && identity(path) == self.file {
                    return None;
                }
                // It cannot be opened again, only replaced.
                let path = path.clone();
                if identity(&path) == self.file {
                    let _ = fs::remove_file(&path);
                }
                let (fd, file) = open_unix(&path).ok()?;
                self.socket = inherited(&self.listen, fd);
                self.file = file;
                Some(false)
            }
        }
    }

    /// Tells the inbox when the socket is shut down.
    fn watch(&mut self, inbox: &UnboundedSender<Message>) {
        let is_watched = self.alarm.as_ref().is_some_and(|alarm| !alarm.has_rung());
        if !is_watched && !matches!(self.bound, Address::Udp(_)) {
            self.alarm = Alarm::set(&self.socket, inbox.clone()).ok();
        }
    }
}

/// Rings when a socket is shut down, until it is dropped. (macOS refuses to shut down one
/// that is listened on.)
struct Alarm {
    thread: JoinHandle<()>,
    /// Closed when this is dropped.
    _stop: PipeWriter,
}

impl Alarm {
    fn set(socket: &impl AsFd, inbox: UnboundedSender<Message>) -> io::Result<Self> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let (stopped, stop) = io::pipe()?;
        let thread = thread::Builder::new().spawn(move || {
            loop {
                // Asked for nothing, it tells of the end alone, and of no connection.
                let mut fds = [
                    PollFd::new(socket.as_fd(), PollFlags::empty()),
                    PollFd::new(stopped.as_fd(), PollFlags::empty()),
                ];
                match poll(&mut fds, PollTimeout::NONE) {
                    Err(Errno::EINTR) => {}
                    Ok(_) if fds[1].any() == Some(false) => break,
                    _ => return,
                }
            }
            // The inbox closes when hotrun ends.
            let _ = inbox.send(Message::ListenerShut);
        })?;
        Ok(Self { thread, _stop: stop })
    }

    fn has_rung(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.bound
            && self.file.is_some()
            && identity(path) == self.file
        {
            let _ = fs::remove_file(path);
        }
    }
}

fn open(listen: &Listen) -> io::Result<Open> {
    let mut bound = listen.address.clone();
    let (fd, file) = match &mut bound {
        Address::Tcp(address) => (open_tcp(address)?.into(), None),
        Address::Udp(address) => {
            let socket = UdpSocket::bind(*address)?;
            *address = socket.local_addr()?;
            (socket.into(), None)
        }
        Address::Unix(path) => open_unix(path)?,
    };
    let socket = inherited(listen, fd);
    Ok(Open { listen: listen.clone(), bound, socket, file, alarm: None, was_told: false })
}

fn inherited(listen: &Listen, fd: OwnedFd) -> Rc<Inherited> {
    let name = listen.name.clone().unwrap_or_else(|| NO_NAME.to_owned());
    Rc::new(Inherited { name, fd })
}

/// A socket that was bound to a port by its number can be listened on again when it was shut
/// down; for one that the system had chosen, it would choose another.
fn open_tcp(address: &mut SocketAddr) -> io::Result<TcpListener> {
    let mut tries = 0;
    loop {
        let mut wanted = *address;
        if address.port() == 0 {
            wanted.set_port(TcpListener::bind(*address)?.local_addr()?.port());
        }
        match TcpListener::bind(wanted) {
            Ok(listener) => {
                set_backlog(&listener)?;
                *address = wanted;
                return Ok(listener);
            }
            // Somebody else was given the same port in between.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && address.port() == 0
                    && tries < PORT_TRIES =>
            {
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A file that nobody listens on any more is replaced; the new one gets its mode.
fn open_unix(path: &Path) -> io::Result<(OwnedFd, Option<(u64, u64)>)> {
    let mut mode = None;
    if let Ok(meta) = fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            let why = "there is a file of this name, and it is no socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
        fs::remove_file(path)?;
        mode = Some(meta.permissions().mode());
    }
    let listener = UnixListener::bind(path)?;
    if let Some(mode) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    set_backlog(&listener)?;
    Ok((listener.into(), identity(path)))
}

fn set_backlog(listener: &impl AsFd) -> nix::Result<()> {
    let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
    nix::sys::socket::listen(listener, backlog)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}
