//! What hotrun and a guardian say to each other: one line of JSON for each message, over a
//! pair of sockets; descriptors travel beside the line that needs them.
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

/// More descriptors than this never travel at once: the three standard streams, listeners, and
/// the reading ends of two outputs.
const MOST_FDS: usize = 3 + MOST_LISTENERS + 2;

/// What a guardian is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum ToGuardian {
    /// Run this command. The one before has ended.
    Start(Launch),
    /// Ask everybody to end, by this signal.
    Dismiss(i32),
    /// Kill all that is left.
    Kill,
    /// Send this signal to the command itself.
    Signal(i32),
    /// Stop, as by Ctrl-Z.
    Suspend,
    /// Go on.
    Resume,
    /// Pass a signal on to everybody in the command's group.
    Pass(i32),
    /// Tell who is left.
    Who,
    /// As soon as the command has ended, this one of its descendants takes its place.
    Succeed(i32),
    /// No command follows: end as soon as nobody is left.
    Close,
}

/// A command, and all that its first moment depends on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) argv: Vec<OsString>,
    /// What is executed, where that is not the first of these.
    pub(super) program: Option<OsString>,
    /// Variables that are set beside those of the guardian.
    pub(super) env: Vec<(OsString, OsString)>,
    /// Those that are taken out.
    pub(super) unset: Vec<OsString>,
    pub(super) directory: OsString,
    /// For which of stdin, stdout and stderr a descriptor travels beside this. Without one
    /// stdin is empty, and the others are hotrun's own.
    pub(super) streams: [bool; 3],
    /// So many descriptors more travel, which the command finds from 3 on.
    pub(super) listeners: usize,
    /// It is the command itself that is meant to take them: it is told that by its pid.
    pub(super) takes_listeners: bool,
    /// The reading ends of its outputs travel, too: for stdout, or for stderr. hotrun reads
    /// them. When it is dead the guardian does, so that no program that is about to end loses
    /// its last words, or is killed by SIGPIPE for them.
    pub(super) outputs: Vec<Printed>,
    pub(super) place: Place,
    /// By what it is asked to end when nobody is left to say so.
    pub(super) farewell: i32,
    /// Only the command itself gets the signal that asks it to end.
    pub(super) leader_only: bool,
    /// Globs on the command lines of those that may stay.
    pub(super) spare: Vec<String>,
    /// No command follows: as [`ToGuardian::Close`].
    pub(super) is_last: bool,
}

/// Where a command stands towards the terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// In a group of its own, in the background.
    #[default]
    Background,
    /// In a group of its own, which has the terminal on its stdin.
    Foreground,
    /// In a session of its own, whose terminal is its stdout.
    OwnTerminal,
}

/// Where something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Printed {
    Stdout,
    Stderr,
}

/// What a guardian tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum FromGuardian {
    /// The command runs, under this pid.
    Started(i32),
    /// It does not.
    NotStarted(Failure),
    /// It has ended.
    Exited(Ended),
    /// It was stopped, by this signal.
    Stopped(i32),
    /// The command has ended, and this process, which it has started, is the command now.
    Succeeded(i32),
    /// No living process of the tree has the pid that was to succeed.
    NoSuccessor,
    /// Who is left: pid and command line.
    Left(Vec<(i32, String)>),
    /// Nobody is left.
    Gone,
}

/// Why a command does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) errno: i32,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// Making a process, or its place.
    Prepare,
    /// Entering the working directory.
    Enter,
    /// Executing the program.
    Execute,
}

/// A message as it travels.
pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Takes the first whole message out of what was received.
pub(super) fn decode<T: DeserializeOwned>(received: &mut Vec<u8>) -> Option<io::Result<T>> {
    let end = received.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = received.drain(..=end).collect();
    Some(serde_json::from_slice(&line).map_err(io::Error::from))
}

/// Sends bytes, and descriptors with the first of them. How many bytes were sent.
pub(super) fn send(to: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[] } else { &rights[..] };
    let to = to.as_fd().as_raw_fd();
    Ok(sendmsg::<()>(to, &[IoSlice::new(bytes)], rights, MsgFlags::empty(), None)?)
}

/// The guardian's end.
pub(super) struct Link {
    socket: UnixStream,
    received: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Link {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, received: Vec::new(), fds: VecDeque::new() }
    }

    /// Takes what has arrived; waits if nothing has. False when the other end is closed.
    pub(super) fn receive(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let mut control = cmsg_space!([RawFd; MOST_FDS]);
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

    /// The next message that has arrived whole.
    pub(super) fn next(&mut self) -> Option<io::Result<ToGuardian>> {
        decode(&mut self.received)
    }

    /// The next descriptor that has arrived.
    pub(super) fn next_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// Tells hotrun. Where it has died, that is noticed by reading.
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

/// Where the flag below does not exist.
fn keep_from_children(fd: &OwnedFd) {
    #[cfg(not(target_os = "linux"))]
    let _ = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC));
    #[cfg(target_os = "linux")]
    let _ = fd;
}

/// Descriptors arrive so that no child inherits them.
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
