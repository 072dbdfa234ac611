//! Sockets that outlive the program. They are opened once, held until hotrun exits, and inherited
//! by every generation. So a client that connects between two generations waits instead of being
//! refused.
//!
//! A socket is shared, with its flags, by all processes that inherited it. Changes that one program
//! made are reset before the next one inherits it.
//!
//! Invariant: the flags of a socket are not changed while a generation holds it. An event loop
//! whose socket suddenly blocks would hang in `accept`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, PipeWriter};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, getsockopt, shutdown, sockopt,
};

use crate::config::{Address, Listen};
use crate::event::Proc;
use crate::inbox::Inbox;
use crate::notice::Repair;

/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// Name of an unnamed socket in `LISTEN_FDNAMES`, as in systemd.
const NO_NAME: &str = "unknown";
/// Attempts to pick a port that is still free when it is bound.
const PORT_TRIES: u32 = 10;

/// One socket, as a program inherits it.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// Distinguishes this socket from others in the program.
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
pub(crate) struct NotOpened {
    pub address: Address,
    pub error: io::Error,
}

/// A process has shut a listener down.
#[derive(Debug)]
pub(crate) struct ListenerShut;

/// The sockets that hotrun holds. Closes them when dropped, and deletes the files of Unix sockets.
pub(crate) struct Listeners {
    open: Vec<Open>,
    /// Opened early, for the next generation to inherit.
    ahead: Vec<Open>,
    /// No longer configured, and the apps that may still hold them. The address is in use while one
    /// of these does.
    retired: Vec<(Open, Vec<Proc>)>,
    inbox: Inbox<ListenerShut>,
}

struct Open {
    listen: Listen,
    /// The bound address, with the port that the system chose if none was configured.
    bound: Address,
    socket: Rc<Inherited>,
    /// For a Unix socket.
    file: Option<SocketFile>,
    /// Reports when a process shuts the socket down.
    alarm: Option<Alarm>,
    reported: Option<Repair>,
}

impl Listeners {
    /// Creates an empty set.
    pub(crate) fn new(inbox: Inbox<ListenerShut>) -> Self {
        Self { open: Vec::new(), ahead: Vec::new(), retired: Vec::new(), inbox }
    }

    /// Opens new sockets early, so that [`hold`](Self::hold) does not fail later. A socket whose
    /// address is held by another one is left to `hold`.
    pub(crate) fn open_ahead(&mut self, wanted: &[Listen]) -> Result<(), NotOpened> {
        self.ahead.retain(|one| wanted.iter().any(|listen| listen.address == one.listen.address));
        for listen in wanted {
            let retired = self.retired.iter().map(|(one, _)| one);
            let all = self.open.iter().chain(&self.ahead).chain(retired);
            let clashes = |one: &Open| one.listen.address.clashes_with(&listen.address);
            if !all.into_iter().any(clashes) {
                self.ahead.push(open(listen)?);
            }
        }
        Ok(())
    }

    /// Opens the wanted sockets that are not open yet, and retires all others. Retired sockets are
    /// closed when none of these holders is left. Changes nothing if a socket cannot be opened.
    /// Returns true if something changed.
    pub(crate) fn hold(&mut self, wanted: &[Listen], holders: &[Proc]) -> Result<bool, NotOpened> {
        if wanted.iter().eq(self.open.iter().map(|one| &one.listen)) {
            self.ahead.clear();
            return Ok(false);
        }
        let is_wanted =
            |one: &Open| wanted.iter().any(|listen| listen.address == one.listen.address);
        let (again, retired): (Vec<_>, Vec<_>) =
            self.retired.drain(..).partition(|(one, _)| is_wanted(one));
        self.retired = retired;
        let again = again.into_iter().map(|(one, _)| one);
        let all = self.open.drain(..).chain(self.ahead.drain(..)).chain(again);
        let (mut kept, others): (Vec<Open>, Vec<Open>) = all.partition(is_wanted);
        // Two sockets may have the same configured address, if the system chooses the ports.
        let mut there: Vec<&Address> = kept.iter().map(|one| &one.listen.address).collect();
        let mut is_open = |listen: &Listen| {
            let place = there.iter().position(|address| **address == listen.address);
            place.map(|place| there.remove(place)).is_some()
        };
        let new: Vec<&Listen> = wanted.iter().filter(|listen| !is_open(listen)).collect();
        // These must be closed before the new ones can be opened.
        let is_in_the_way =
            |one: &Open| new.iter().any(|listen| listen.address.clashes_with(&one.listen.address));
        let (in_the_way, others): (Vec<Open>, Vec<Open>) =
            others.into_iter().partition(is_in_the_way);
        let closed: Vec<Listen> = in_the_way.into_iter().map(|one| one.listen.clone()).collect();
        let mut opened = Vec::new();
        for listen in new {
            match open(listen) {
                Ok(one) => opened.push(one),
                Err(error) => {
                    drop(opened);
                    let again = closed.iter().filter_map(|listen| open(listen).ok());
                    self.open = kept.into_iter().chain(others).chain(again).collect();
                    return Err(error);
                }
            }
        }
        if !holders.is_empty() {
            self.retired.extend(others.into_iter().map(|one| (one, holders.to_vec())));
        }
        kept.extend(opened);
        for listen in wanted {
            let place = kept.iter().position(|one| one.listen.address == listen.address);
            let Some(mut one) = place.map(|place| kept.remove(place)) else { continue };
            if one.listen.name != listen.name
                && let Ok(fd) = one.socket.as_fd().try_clone_to_owned()
            {
                one.socket = inherited(listen, fd);
                one.listen = listen.clone();
            }
            one.watch(&self.inbox);
            self.open.push(one);
        }
        Ok(true)
    }

    /// Records that this app is gone, and closes the retired sockets that it was the last to hold.
    pub(crate) fn gone(&mut self, app: Proc) {
        for (_, holders) in &mut self.retired {
            holders.retain(|holder| *holder != app);
        }
        self.retired.retain(|(one, holders)| {
            if holders.is_empty() {
                one.shut();
            }
            !holders.is_empty()
        });
    }

    /// Returns the sockets that the next generation inherits, in this order.
    pub(crate) fn inherit(&self) -> Vec<Rc<Inherited>> {
        self.open.iter().map(|one| Rc::clone(&one.socket)).collect()
    }

    /// Returns the bound addresses, each with its name.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (&Address, Option<&str>)> {
        self.open.iter().map(|one| (&one.bound, one.listen.name.as_deref()))
    }

    /// Restores the original flags and backlog of each socket. Only while no app holds them.
    pub(crate) fn reset(&self) {
        for one in &self.open {
            if let Ok(flags) = fcntl(&one.socket, FcntlArg::F_GETFL) {
                let flags = OFlag::from_bits_truncate(flags) - OFlag::O_NONBLOCK;
                // Fails only for an invalid descriptor.
                let _ = fcntl(&one.socket, FcntlArg::F_SETFL(flags));
            }
            if !matches!(one.bound, Address::Udp(_)) {
                let _ = set_backlog(&one.socket);
            }
        }
    }

    /// Reopens the sockets that a program has shut down, or whose file it has deleted. Returns what
    /// is new since the last report.
    pub(crate) fn repair(&mut self) -> Vec<(Address, Repair)> {
        let mut news = Vec::new();
        for one in &mut self.open {
            let Some(repair) = one.repair() else { continue };
            one.alarm = None;
            if !matches!(repair, Repair::Failed(_)) {
                one.watch(&self.inbox);
            }
            if one.reported.as_ref() != Some(&repair) {
                one.reported = Some(repair.clone());
                news.push((one.bound.clone(), repair));
            }
        }
        news
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        let retired = self.retired.iter().map(|(one, _)| one);
        self.open.iter().chain(&self.ahead).chain(retired).for_each(Open::shut);
    }
}

impl Open {
    /// Shuts the socket down, which no app holds any longer. A process that outlives hotrun, such
    /// as a browser, may have inherited it; this frees its port. Only a listening socket can be
    /// shut down.
    fn shut(&self) {
        if matches!(self.bound, Address::Tcp(_)) {
            let _ = shutdown(self.socket.fd.as_raw_fd(), Shutdown::Both);
        }
    }

    /// Returns what was done; `None` if the socket is intact.
    fn repair(&mut self) -> Option<Repair> {
        match &self.bound {
            Address::Udp(_) => None,
            Address::Tcp(_) => {
                if !is_shut(&self.socket) {
                    return None;
                }
                match set_backlog(&self.socket) {
                    Ok(()) if !is_shut(&self.socket) => Some(Repair::Again),
                    Ok(()) => Some(Repair::Failed("it stays closed".to_owned())),
                    Err(errno) => Some(Repair::Failed(errno.desc().to_owned())),
                }
            }
            Address::Unix(path) => {
                let file = self.file.as_ref()?;
                if is_shut(&self.socket) {
                    // It cannot be opened again, only replaced.
                    return Some(match open_unix(path) {
                        Ok((fd, new)) => {
                            self.socket = inherited(&self.listen, fd);
                            if let Some(old) = self.file.replace(new) {
                                old.forget();
                            }
                            Repair::Anew
                        }
                        Err(error) => Repair::Failed(error.to_string()),
                    });
                }
                match identity(path) {
                    found if found == Some(file.identity) => None,
                    None => Some(match file.put_back() {
                        Ok(()) => Repair::FileBack,
                        Err(error) => Repair::Failed(error.to_string()),
                    }),
                    Some(_) => Some(Repair::Failed("another file has replaced it".to_owned())),
                }
            }
        }
    }

    /// Reports to the inbox when the socket is shut down.
    fn watch(&mut self, inbox: &Inbox<ListenerShut>) {
        if self.alarm.is_none() && !matches!(self.bound, Address::Udp(_)) {
            self.alarm = Alarm::set(&self.socket, inbox.clone()).ok();
        }
    }
}

/// The file of a Unix socket, and a second name from which it can be restored. Deletes both when
/// dropped, unless they were replaced.
struct SocketFile {
    path: PathBuf,
    spare: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let identity = identity(path).ok_or(io::ErrorKind::NotFound)?;
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".hotrun");
        let spare = path.with_file_name(name);
        // Programs delete the file of an inherited socket as if it were their own; asyncio does.
        // The file can only be restored from the second name. Some file systems do not support one.
        // Another file of the user's with this name is kept.
        if fs::symlink_metadata(&spare).is_ok_and(|meta| meta.file_type().is_socket()) {
            let _ = fs::remove_file(&spare);
        }
        let _ = fs::hard_link(path, &spare);
        Ok(Self { path: path.to_owned(), spare, identity })
    }

    /// The files belong to another socket now, which may even have been given the same inode.
    fn forget(mut self) {
        (self.path, self.spare) = Default::default();
    }

    fn put_back(&self) -> io::Result<()> {
        fs::hard_link(&self.spare, &self.path)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        for path in [&self.path, &self.spare] {
            if identity(path) == Some(self.identity) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Reports once when a socket is shut down, until dropped. A thread polls for this, since a task in
/// the loop would be woken by every connection, too. macOS refuses to shut down a listening socket.
struct Alarm {
    /// Stops the thread when closed.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Alarm {
    fn set(socket: &impl AsFd, inbox: Inbox<ListenerShut>) -> io::Result<Self> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let (stopped, stop) = io::pipe()?;
        let thread = thread::Builder::new().spawn(move || {
            loop {
                // With no events requested, poll reports the shutdown, but no connections.
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
            inbox.send(ListenerShut);
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Alarm {
    /// Waits for the thread, which has the socket open, so that the socket is closed on return.
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns true if no process can connect to it.
fn is_shut(socket: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    let has_ended = poll(&mut fds, PollTimeout::ZERO).is_ok() && fds[0].any() == Some(true);
    has_ended || getsockopt(socket, sockopt::AcceptConn).is_ok_and(|accepts| !accepts)
}

fn open(listen: &Listen) -> Result<Open, NotOpened> {
    let mut bound = listen.address.clone();
    let mut opened = || -> io::Result<(OwnedFd, Option<SocketFile>)> {
        Ok(match &mut bound {
            Address::Tcp(address) => (open_tcp(address)?.into(), None),
            Address::Udp(address) => {
                let socket = UdpSocket::bind(*address)?;
                *address = socket.local_addr()?;
                (socket.into(), None)
            }
            Address::Unix(path) => {
                let (fd, file) = open_unix(path)?;
                (fd, Some(file))
            }
        })
    };
    let (fd, file) =
        opened().map_err(|error| NotOpened { address: listen.address.clone(), error })?;
    let socket = inherited(listen, fd);
    Ok(Open { listen: listen.clone(), bound, socket, file, alarm: None, reported: None })
}

fn inherited(listen: &Listen, fd: OwnedFd) -> Rc<Inherited> {
    let name = listen.name.clone().unwrap_or_else(|| NO_NAME.to_owned());
    Rc::new(Inherited { name, fd })
}

/// Opens a TCP socket by an explicit port number. When it was shut down, it can listen again on
/// that number; with port 0 the system would choose another one.
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
            // Another process was given the same port in between.
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

/// Opens a Unix socket. A file on which no process listens is replaced; the new file gets its mode.
fn open_unix(path: &Path) -> io::Result<(OwnedFd, SocketFile)> {
    let mut mode = None;
    if let Ok(meta) = fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            let why = "already exists and is not a socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        match connect(path) {
            Err(Errno::ECONNREFUSED) => {}
            // `EAGAIN`: the backlog is full, so a process listens.
            Ok(()) | Err(Errno::EAGAIN) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(errno) => return Err(errno.into()),
        }
        fs::remove_file(path)?;
        mode = Some(meta.permissions().mode());
    }
    let listener = UnixListener::bind(path)?;
    if let Some(mode) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    set_backlog(&listener)?;
    Ok((listener.into(), SocketFile::new(path)?))
}

/// Connects to a Unix socket without waiting. `EAGAIN`: a process listens, but its backlog is full.
pub(crate) fn connect(path: &Path) -> nix::Result<()> {
    let (stream, none) = (SockType::Stream, SockFlag::empty());
    let socket = nix::sys::socket::socket(AddressFamily::Unix, stream, none, None)?;
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

/// Lets as many connections wait to be accepted as the system allows, up to [`BACKLOG`].
pub(crate) fn set_backlog(listener: &impl AsFd) -> nix::Result<()> {
    let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
    nix::sys::socket::listen(listener, backlog)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}
