//! hotrun's side of the guardians: starts them ahead of need, and communicates with them.
//!
//! Starting a guardian means executing a program, which takes longer than the start of a command in
//! an idle guardian. So some idle guardians are kept ready.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::link::{FromGuardian, ToGuardian, decode, encode, send};
use super::reaper::Reaper;
use super::{GUARDIAN, TREE, at, open_files, pid_of, platform};
use crate::event::Ended;

/// Idle guardians kept ready: one for the next build, one for the app after it.
const SPARE_COUNT: usize = 2;
/// Delay before an idle guardian is replaced, so that starting it does not compete with the new
/// process.
const REFILL_DELAY: Duration = Duration::from_millis(30);

/// Timeout for a guardian's answer.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// A guardian, from hotrun's side. When this is dropped, the guardian stops its tree.
pub(super) struct Guardian {
    pub(super) pid: Pid,
    /// The value of [`TREE`] in all processes that it runs.
    pub(super) tag: String,
    stream: UnixStream,
    received: Vec<u8>,
    exit: oneshot::Receiver<Ended>,
    /// Whether `exit` has been received: the guardian was reaped.
    has_exited: bool,
}

impl Guardian {
    fn start(reaper: &Reaper, owner: &str, number: u32) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let tag = format!("{owner}.{number}");
        let mut command = Command::new(platform::own_program()?);
        command.arg0(GUARDIAN).arg(format!("of {}", getpid())).process_group(0);
        command.args(open_files::for_others().map(|limit| limit.to_string()));
        command.stdin(Stdio::from(OwnedFd::from(theirs))).env(TREE, &tag);
        let pid = pid_of(&command.spawn()?);
        let exit = reaper.register(pid);
        let stream = UnixStream::from_std(ours)?;
        Ok(Self { pid, tag, stream, received: Vec::new(), exit, has_exited: false })
    }

    /// Sends a message to the guardian. If the guardian is dead, reading reports that.
    pub(super) async fn tell(&self, message: &ToGuardian, mut fds: &[BorrowedFd<'_>]) {
        let Ok(line) = encode(message) else { return };
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let sending = || send(&self.stream, rest, fds);
            match self.stream.try_io(Interest::WRITABLE, sending) {
                Ok(count) => {
                    rest = &rest[count..];
                    fds = &[];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match timeout(ANSWER, self.stream.writable()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return,
                        Err(_) => return self.kill(),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Kills the guardian and the command that it runs. hotrun inherits the command's descendants.
    pub(super) fn kill(&self) {
        // The pid is not reused while the guardian is a child of this process.
        let process = platform::member(self.pid).filter(|one| one.parent == getpid());
        if let Some(process) = process {
            let _ = platform::signal(&process, Signal::SIGKILL);
        }
    }

    /// Returns the guardian's next message, or `None` if it is dead. Cancel safe.
    ///
    /// The end of the stream alone does not show that it is dead: a child that it has forked holds
    /// a copy of the socket until it executes the command, and may be stopped before that.
    pub(super) async fn hear(&mut self) -> Option<FromGuardian> {
        loop {
            if let Some(message) = decode(&mut self.received) {
                return message.ok();
            }
            if !self.has_exited {
                tokio::select! {
                    biased;
                    readable = self.stream.readable() => readable.ok()?,
                    // The reaper stops only when hotrun exits.
                    _ = &mut self.exit => self.has_exited = true,
                }
            }
            let mut buffer = [0; 4096];
            let read = if self.has_exited {
                // What it sent is in the socket, even if the runtime has not noticed that yet.
                nix::unistd::read(&self.stream, &mut buffer).map_err(io::Error::from)
            } else {
                self.stream.try_read(&mut buffer)
            };
            match read {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.has_exited => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// Waits until the guardian has exited and was reaped.
    pub(super) async fn ended(&mut self) {
        if !self.has_exited {
            // The reaper stops only when hotrun exits.
            let _ = (&mut self.exit).await;
            self.has_exited = true;
        }
    }
}

enum Request {
    /// Start idle guardians, up to the maximum.
    Fill,
    /// Hand out a guardian.
    Take(oneshot::Sender<io::Result<Guardian>>),
}

/// The idle guardians.
#[derive(Clone)]
pub(super) struct Guardians {
    requests: mpsc::UnboundedSender<Request>,
}

impl Guardians {
    /// Starts no guardian yet. `owner` is the mark of all processes that they run.
    pub(super) fn new(reaper: Reaper, owner: String) -> Self {
        let (requests, requested) = mpsc::unbounded_channel();
        let spares = Spares { reaper, owner, number: 0, waiting: Vec::new() };
        tokio::spawn(spares.serve(requested));
        Self { requests }
    }

    /// Returns an idle guardian, or a new one.
    pub(super) async fn take(&self) -> io::Result<Guardian> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.requests.send(Request::Take(sender));
        receiver.await.unwrap_or_else(|_| Err(io::Error::other("hotrun is exiting")))
    }

    /// Starts to keep idle guardians ready.
    pub(super) fn start_ahead(&self) {
        let _ = self.requests.send(Request::Fill);
    }
}

struct Spares {
    reaper: Reaper,
    owner: String,
    number: u32,
    waiting: Vec<Guardian>,
}

impl Spares {
    async fn serve(mut self, mut requested: mpsc::UnboundedReceiver<Request>) {
        let mut due = None;
        loop {
            let request = tokio::select! {
                biased;
                request = requested.recv() => request,
                () = at(due) => Some(Request::Fill),
            };
            match request {
                None => {
                    for spare in &self.waiting {
                        spare.tell(&ToGuardian::Close, &[]).await;
                    }
                    return;
                }
                Some(Request::Fill) => {
                    due = None;
                    self.fill();
                }
                Some(Request::Take(taker)) => {
                    if let Err(Ok(unwanted)) = taker.send(self.next().await) {
                        self.waiting.push(unwanted);
                    }
                    due = Some(Instant::now() + REFILL_DELAY);
                }
            }
        }
    }

    async fn next(&mut self) -> io::Result<Guardian> {
        while let Some(mut spare) = self.waiting.pop() {
            // It may have been killed while it was idle.
            if spare.exit.try_recv().is_err() && !has_ended(&mut spare).await {
                return Ok(spare);
            }
        }
        self.start()
    }

    fn start(&mut self) -> io::Result<Guardian> {
        self.number += 1;
        Guardian::start(&self.reaper, &self.owner, self.number)
    }

    fn fill(&mut self) {
        while self.waiting.len() < SPARE_COUNT {
            match self.start() {
                Ok(guardian) => self.waiting.push(guardian),
                // The next request for a guardian tries again, and reports an error.
                Err(error) => {
                    tracing::warn!(%error, "no guardian could be started ahead");
                    return;
                }
            }
        }
    }
}

/// Whether its end of the socket is closed, even if it was not reaped yet.
async fn has_ended(guardian: &mut Guardian) -> bool {
    tokio::select! {
        biased;
        _ = guardian.hear() => true,
        () = std::future::ready(()) => false,
    }
}

/// Whether a command line has the name that guardians have in `ps`.
pub(super) fn is_guardians_name(command_line: &str) -> bool {
    command_line.split(' ').next().map(OsStr::new) == Some(OsStr::new(GUARDIAN))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_guardian_that_was_reaped_is_dead_although_its_socket_is_still_open() {
        let (ours, mut theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = UnixStream::from_std(ours).unwrap();
        let (reaped, exit) = oneshot::channel();
        let (pid, tag) = (Pid::from_raw(1), String::new());
        let mut guardian =
            Guardian { pid, tag, stream, received: Vec::new(), exit, has_exited: false };
        theirs.write_all(b"{\"Started\":7}\n\"Gone\"\n").unwrap();
        reaped.send(Ended::Code(0)).unwrap();
        // What it sent before it died counts.
        assert!(matches!(guardian.hear().await, Some(FromGuardian::Started(7))));
        assert!(matches!(guardian.hear().await, Some(FromGuardian::Gone)));
        let heard = timeout(ANSWER, guardian.hear()).await;
        assert!(matches!(heard, Ok(None)), "{heard:?}");
        guardian.ended().await;
        drop(theirs);
    }
}
