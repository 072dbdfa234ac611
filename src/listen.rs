//! Sockets that outlive the program: opened once, held until hotrun ends, and inherited by
//! every generation, so that whoever connects between two of them waits and is not refused.
//!
//! A socket is shared with whoever has inherited it, flags and all. What one program has
//! changed is put right before the next inherits it.
//!
//! Invariant: the flags of a socket are not touched while a generation holds it. (An event
//! loop that finds it blocking would hang in `accept`.)

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
use tokio::sync::mpsc::UnboundedSender;

use crate::config::{Address, Listen};
use crate::event::{Message, Proc, Repair};

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
pub(crate) struct NotOpened {
    /// Which one.
    pub address: Address,
    /// Why.
    pub error: io::Error,
}

/// All sockets that hotrun holds. Dropped, they are closed, and files of Unix sockets go.
pub(crate) struct Listeners {
    open: Vec<Open>,
    /// Open ahead of need: the next generation is to inherit them.
    ahead: Vec<Open>,
    /// Not wanted any more, and those who may hold them still: as long as one does, nobody else
    /// can have the address.
    retired: Vec<(Open, Vec<Proc>)>,
    inbox: UnboundedSender<Message>,
}

struct Open {
    listen: Listen,
    /// With the port that the system has chosen, where it was to choose.
    bound: Address,
    socket: Rc<Inherited>,
    /// Of a Unix socket.
    file: Option<SocketFile>,
    /// Tells when somebody has shut the socket down.
    alarm: Option<Alarm>,
    told: Option<Repair>,
}

impl Listeners {
    /// None are open yet.
    pub(crate) fn new(inbox: UnboundedSender<Message>) -> Self {
        Self { open: Vec::new(), ahead: Vec::new(), retired: Vec::new(), inbox }
    }

    /// Opens what is new in these, so that [`hold`](Self::hold) will not fail later; what must
    /// wait until one that is held now is closed is left to that.
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

    /// Opens those of these that are not open, and closes all others as soon as none of these
    /// apps is left, which have them. Where one cannot be opened nothing is changed. True if
    /// something is.
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
        // Two of them may have the same address, where the system is to choose the port.
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

    /// This app is gone, and holds nothing any more.
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

    /// What the next generation inherits, in this order.
    pub(crate) fn inherit(&self) -> Vec<Rc<Inherited>> {
        self.open.iter().map(|one| Rc::clone(&one.socket)).collect()
    }

    /// What they are bound to, each with its name.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (&Address, Option<&str>)> {
        self.open.iter().map(|one| (&one.bound, one.listen.name.as_deref()))
    }

    /// Nobody holds them: gives each the flags and the backlog that it had at first.
    pub(crate) fn reset(&self) {
        for one in &self.open {
            if let Ok(flags) = fcntl(&one.socket, FcntlArg::F_GETFL) {
                let flags = OFlag::from_bits_truncate(flags) - OFlag::O_NONBLOCK;
                // It can fail for nobody but who holds no descriptor.
                let _ = fcntl(&one.socket, FcntlArg::F_SETFL(flags));
            }
            if !matches!(one.bound, Address::Udp(_)) {
                let _ = set_backlog(&one.socket);
            }
        }
    }

    /// Opens those again that a program has shut down, or whose file it has deleted. What is
    /// news of that.
    pub(crate) fn repair(&mut self) -> Vec<(Address, Repair)> {
        let mut news = Vec::new();
        for one in &mut self.open {
            let Some(repair) = one.repair() else { continue };
            one.alarm = None;
            if !matches!(repair, Repair::Failed(_)) {
                one.watch(&self.inbox);
            }
            if one.told.as_ref() != Some(&repair) {
                one.told = Some(repair.clone());
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
    /// No program of hotrun's has it any more. A process that may outlive hotrun, such as a
    /// browser, may have inherited it: its port is free all the same. (Only a socket that is
    /// listened on can be shut down.)
    fn shut(&self) {
        if matches!(self.bound, Address::Tcp(_)) {
            let _ = shutdown(self.socket.fd.as_raw_fd(), Shutdown::Both);
        }
    }

    /// What was done; `None` where there is nothing to do.
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
                    Some(_) => {
                        Some(Repair::Failed("there is another file in its place".to_owned()))
                    }
                }
            }
        }
    }

    /// Tells the inbox when the socket is shut down.
    fn watch(&mut self, inbox: &UnboundedSender<Message>) {
        if self.alarm.is_none() && !matches!(self.bound, Address::Udp(_)) {
            self.alarm = Alarm::set(&self.socket, inbox.clone()).ok();
        }
    }
}

/// The file of a Unix socket, and a second name by which it can be put back. Dropped, both are
/// deleted, if they are still what they were.
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
        // Programs delete the file of a socket that they have inherited as if it were their
        // own; asyncio does. Without the second name, as where there can be none, it is gone.
        // A file of the user's that has this name stays, and there is no second name either.
        if fs::symlink_metadata(&spare).is_ok_and(|meta| meta.file_type().is_socket()) {
            let _ = fs::remove_file(&spare);
        }
        let _ = fs::hard_link(path, &spare);
        Ok(Self { path: path.to_owned(), spare, identity })
    }

    /// The files are another's now, who may even have been given the same inode.
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

/// Tells once when a socket is shut down, until it is dropped. (macOS refuses to shut down one
/// that is listened on.) A thread waits for that: what waits in the loop would be woken by
/// every connection, too.
struct Alarm {
    /// Closed, it stops the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
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
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Alarm {
    /// The thread has the socket open, which is to be closed when this returns.
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Nobody can connect to it any more.
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
    Ok(Open { listen: listen.clone(), bound, socket, file, alarm: None, told: None })
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
fn open_unix(path: &Path) -> io::Result<(OwnedFd, SocketFile)> {
    let mut mode = None;
    if let Ok(meta) = fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            let why = "there is a file of this name, and it is no socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        match connect(path) {
            Err(Errno::ECONNREFUSED) => {}
            // It has no room for another connection, but somebody has it.
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

/// Connects to a Unix socket without waiting. `EAGAIN`: a process listens, and has no room for
/// another connection.
pub(crate) fn connect(path: &Path) -> nix::Result<()> {
    let (stream, none) = (SockType::Stream, SockFlag::empty());
    let socket = nix::sys::socket::socket(AddressFamily::Unix, stream, none, None)?;
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

fn set_backlog(listener: &impl AsFd) -> nix::Result<()> {
    let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
    nix::sys::socket::listen(listener, backlog)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}
