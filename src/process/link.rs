//! The protocol between hotrun and a guardian: one line of JSON per message, over a socket pair.
//! Descriptors travel with the line that needs them.
//!
//! The guardian's end is here. hotrun's end is [`Guardian`](super::guardians::Guardian).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::raw;
use crate::config::MOST_LISTENERS;
use crate::event::Ended;

/// Maximum number of descriptors in one message: the three standard streams, the listeners, and the
/// reading ends of two outputs.
const MAX_FDS: usize = 3 + MOST_LISTENERS + 2;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum ToGuardian {
    /// Run this command. The previous one has exited.
    Start(Launch),
    /// Ask all processes to exit, by this signal.
    Dismiss(i32),
    /// Kill all remaining processes.
    Kill,
    /// Send this signal to the command itself.
    Signal(i32),
    /// Stop, as by Ctrl-Z.
    Suspend,
    /// Continue.
    Resume,
    /// Send this signal to all processes in the command's group.
    Pass(i32),
    /// Report which processes are left.
    Who,
    /// When the command exits, this one of its descendants takes its place.
    Succeed(i32),
    /// No command follows: exit as soon as no process is left.
    Close,
}

/// A command, and the conditions of its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) argv: Vec<OsString>,
    /// The file to execute, if it is not the first of `argv`.
    pub(super) program: Option<OsString>,
    /// Variables that are set in addition to the guardian's own.
    pub(super) env: Vec<(OsString, OsString)>,
    /// Variables that are removed.
    pub(super) unset: Vec<OsString>,
    pub(super) directory: OsString,
    /// For which of stdin, stdout and stderr a descriptor travels with this message. Otherwise
    /// stdin is empty, and the others are hotrun's own.
    pub(super) streams: [bool; 3],
    /// How many more descriptors travel with this message. The command gets them from number 3 on.
    pub(super) listeners: usize,
    /// Whether the command itself should take the listeners: then `LISTEN_PID` is set to its pid.
    pub(super) takes_listeners: bool,
    /// Outputs whose reading ends travel with this message too. hotrun reads them. When hotrun is
    /// dead the guardian reads them, so that an exiting program does not lose its last output and
    /// is not killed by SIGPIPE.
    pub(super) outputs: Vec<Printed>,
    pub(super) place: Place,
    /// Signal the guardian sends if hotrun dies.
    pub(super) farewell: i32,
    /// Whether only the command itself gets the signal to exit.
    pub(super) leader_only: bool,
    /// Globs for the command lines of processes that may stay.
    pub(super) spare: Vec<String>,
    /// Whether no command follows, as after [`ToGuardian::Close`].
    pub(super) is_last: bool,
}

/// The relation of a command to the terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// A process group of its own, in the background.
    #[default]
    Background,
    /// A process group of its own, in the foreground of the terminal on its stdin.
    Foreground,
    /// A session of its own, whose terminal is its stdout.
    OwnTerminal,
}

/// The stream to which something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Printed {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum FromGuardian {
    /// The command was started, with this pid.
    Started(i32),
    /// The command could not be started.
    NotStarted(Failure),
    /// The command has exited.
    Exited(Ended),
    /// The command was stopped, by this signal.
    Stopped(i32),
    /// The command has exited, and this descendant of it is now the command.
    Succeeded(i32),
    /// No living process of the tree has the pid of the announced successor.
    NoSuccessor,
    /// The processes that are left: pid and command line.
    Left(Vec<(i32, String)>),
    /// No process is left.
    Gone,
}

/// Why a command could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) errno: i32,
}

/// The step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// Creating the process, or setting it up.
    Prepare,
    /// Entering the working directory.
    Enter,
    /// Executing the program.
    Execute,
}

pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Removes the first complete message from the received bytes.
pub(super) fn decode<T: DeserializeOwned>(received: &mut Vec<u8>) -> Option<io::Result<T>> {
    let end = received.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = received.drain(..=end).collect();
    Some(serde_json::from_slice(&line).map_err(io::Error::from))
}

/// Sends bytes, with descriptors attached to the first one. Returns how many bytes were sent.
pub(super) fn send(to: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[] } else { &rights[..] };
    let to = to.as_fd().as_raw_fd();
    Ok(sendmsg::<()>(to, &[IoSlice::new(bytes)], rights, MsgFlags::empty(), None)?)
}

/// The guardian's end of the socket.
pub(super) struct Link {
    socket: UnixStream,
    received: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Link {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, received: Vec::new(), fds: VecDeque::new() }
    }

    /// Receives data; waits if there is none. Returns false if the other end is closed.
    pub(super) fn receive(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let mut control = cmsg_space!([RawFd; MAX_FDS]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let fd = self.socket.as_raw_fd();
        let flags = platform_flags();
        let count = match recvmsg::<()>(fd, &mut parts, Some(&mut control), flags) {
            Ok(message) => {
                for one in message.cmsgs().into_iter().flatten() {
                    if let ControlMessageOwned::ScmRights(fds) = one {
                        self.fds.extend(fds.into_iter().map(raw::own));
                        self.fds.iter().for_each(keep_from_children);
                    }
                }
                message.bytes
            }
            Err(Errno::EINTR) => return true,
            Err(_) => 0,
        };
        self.received.extend_from_slice(&buffer[..count]);
        count > 0
    }

    /// Returns the next complete message.
    pub(super) fn next(&mut self) -> Option<io::Result<ToGuardian>> {
        decode(&mut self.received)
    }

    /// Returns the next descriptor that has arrived.
    pub(super) fn next_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// Sends a message to hotrun. If hotrun has died, reading reports that.
    pub(super) fn tell(&mut self, message: &FromGuardian) {
        if let Ok(line) = encode(message) {
            let _ = self.socket.write_all(&line);
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sets the flag where [`platform_flags`] cannot.
fn keep_from_children(fd: &OwnedFd) {
    #[cfg(not(target_os = "linux"))]
    let _ = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC));
    #[cfg(target_os = "linux")]
    let _ = fd;
}

/// Received descriptors must not be inherited by children.
fn platform_flags() -> MsgFlags {
    #[cfg(target_os = "linux")]
    return MsgFlags::MSG_CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    MsgFlags::empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_messages_of_the_link_are_taken_one_by_one_and_come_to_an_end() {
        let launch = r#"{"Start":{"argv":[{"Unix":[97]}],"program":null,"env":[],"unset":[],
            "directory":{"Unix":[47]},"streams":[true,false,false],"listeners":1,
            "takes_listeners":true,"outputs":["Stdout"],"place":"Background","farewell":15,
            "leader_only":false,"spare":["x"],"is_last":true}}"#;
        let launch = launch.replace('\n', "") + "\n";
        let first: io::Result<ToGuardian> = decode(&mut launch.clone().into_bytes()).unwrap();
        assert!(matches!(first, Ok(ToGuardian::Start(_))), "{first:?}");
        let corpus =
            [launch.as_str(), "{\"Dismiss\":15}\n\"Kill\"\n{\"Left\":[[1,\"x\"]]}\n\"Gone\"\n"];
        crate::fuzz::hammer(&corpus, &["\"Kill\"\n", "{", "}", "null"], |text| {
            let count = text.split(|byte| *byte == b'\n').count() - 1;
            let mut taken = text.to_vec();
            let mut told = 0;
            while decode::<ToGuardian>(&mut taken).is_some() {
                told += 1;
            }
            let mut taken = text.to_vec();
            while decode::<FromGuardian>(&mut taken).is_some() {}
            assert_eq!(told, count);
        });
    }
}
