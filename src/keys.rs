//! What is typed while the terminal is hotrun's, as messages.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
#[cfg(target_os = "linux")]
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::mpsc::UnboundedSender;

use crate::event::{Key, Message};

/// The keys and what they do, for people.
pub(crate) const HELP: [(Key, char, &str); 7] = [
    (Key::Rebuild, 'r', "rebuild"),
    (Key::Restart, 's', "restart without a build"),
    (Key::Rollback, 'b', "go back to the last good build"),
    (Key::Pause, 'p', "pause, or resume"),
    (Key::Clear, 'c', "clear the screen"),
    (Key::Quit, 'q', "quit (again: kill)"),
    (Key::Help, 'h', "this list"),
];

/// Between two characters that somebody types with two fingers passes more than this; what
/// is pasted, or sent by an arrow, comes at once.
const AT_ONCE: u16 = 10;

/// What Ctrl-D sends where it does not end a line.
const END_OF_FILE: u8 = 4;
/// Uses of the terminal within this time lead to one message.
const TOGETHER: Duration = Duration::from_millis(2);

/// Keys are told as long as this lives.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Closed when this is dropped.
    _stop: PipeWriter,
}

impl Keys {
    /// Tells the inbox of every key. A thread waits for them, as a terminal cannot be read
    /// without waiting unless that is changed for everybody who has it open.
    pub(crate) fn listen(terminal: OwnedFd, inbox: UnboundedSender<Message>) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        thread::Builder::new().spawn(move || {
            loop {
                let mut typed = Vec::new();
                let mut timeout = PollTimeout::NONE;
                while can_be_read(&terminal, &stopped, timeout) {
                    let mut more = [0; 256];
                    // Nobody is stopped who reads in the background, as that signal is
                    // blocked: it is an error, as is a terminal that is closed.
                    match nix::unistd::read(&terminal, &mut more) {
                        // Ctrl-D while the modes are the shell's, which is no key.
                        Ok(0) if !is_closed(&terminal) => typed.push(END_OF_FILE),
                        Ok(0) | Err(_) => return,
                        Ok(count) => typed.extend_from_slice(&more[..count]),
                    }
                    timeout = PollTimeout::from(AT_ONCE);
                }
                // Dropped, or the inbox has: hotrun ends.
                if typed.is_empty() || inbox.send(read(&typed)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

fn is_closed(terminal: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok() && fds[0].any() == Some(true)
}

fn can_be_read(source: &impl AsFd, stopped: &PipeReader, timeout: PollTimeout) -> bool {
    loop {
        let mut fds = [
            PollFd::new(source.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => {}
            Err(_) => return false,
            Ok(_) => return fds[0].any() == Some(true) && fds[1].any() == Some(false),
        }
    }
}

/// Tells the inbox whenever a process has read from the terminal or written to it, as long as the
/// value lives. The kernel reports no change of the modes, but a program that has changed them
/// asks its next question soon.
#[cfg(target_os = "linux")]
pub(crate) fn tell_of_use(
    terminal: &OwnedFd,
    inbox: UnboundedSender<Message>,
) -> io::Result<PipeWriter> {
    let uses = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let watch =
        |path: &Path| uses.add_watch(path, AddWatchFlags::IN_ACCESS | AddWatchFlags::IN_MODIFY);
    watch(&nix::unistd::ttyname(terminal)?)?;
    // Who opens it by this name is not seen by the other.
    watch(Path::new("/dev/tty"))?;
    let (stopped, stop) = io::pipe()?;
    thread::Builder::new().spawn(move || {
        while can_be_read(&uses, &stopped, PollTimeout::NONE) {
            if uses.read_events().is_err() || inbox.send(Message::TerminalUsed).is_err() {
                return;
            }
            thread::sleep(TOGETHER);
        }
    })?;
    Ok(stop)
}

/// Elsewhere nothing tells of it.
#[cfg(not(target_os = "linux"))]
pub fn tell_of_use(_: &OwnedFd, _: UnboundedSender<Message>) -> io::Result<PipeWriter> {
    Err(io::ErrorKind::Unsupported.into())
}

/// One character is a key, with Enter as well, which a line needs while the modes are the
/// shell's; more at once are none.
fn read(typed: &[u8]) -> Message {
    let key = match typed {
        [one] | [one, b'\n'] => {
            let typed = if *one == b'?' { 'h' } else { char::from(*one) };
            HELP.iter().find(|(_, key, _)| *key == typed).map(|(key, ..)| *key)
        }
        _ => None,
    };
    Message::Typed { key, shown: shown(typed) }
}

/// How many places the terminal's echo has taken on the line; none where it is another line.
fn shown(typed: &[u8]) -> usize {
    if typed.contains(&b'\n') {
        return 0;
    }
    // `^[` for an escape; of a letter of several bytes the first.
    let places = |byte: &u8| match byte {
        0..0x20 | 0x7f => 2,
        0x80..0xc0 => 0,
        _ => 1,
    };
    typed.iter().map(places).sum()
}

/// Tells the inbox when the terminal is closed. Not everybody whom it was the terminal of is
/// told by a signal: under make, for one, nobody is.
pub(crate) fn tell_when_closed(terminal: OwnedFd, inbox: UnboundedSender<Message>) {
    let wait = move || {
        loop {
            // Asked for nothing, it tells of this alone.
            let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::empty())];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(_) => return,
                Ok(_) => break,
            }
        }
        // The inbox closes when hotrun ends.
        let _ = inbox.send(Message::TerminalClosed);
    };
    // Without a thread, SIGHUP alone tells of it.
    let _ = thread::Builder::new().spawn(wait);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(typed: &[u8]) -> Option<Key> {
        let Message::Typed { key, .. } = read(typed) else { panic!("something else is told") };
        key
    }

    #[test]
    fn a_key_is_one_character_and_what_comes_at_once_is_none() {
        assert_eq!(key(b"r"), Some(Key::Rebuild));
        assert_eq!(key(b"?"), Some(Key::Help));
        assert_eq!(key(b"q\n"), Some(Key::Quit));
        for none in [&b"x"[..], b"\n", b"\x1b[A", b"please quit", "\u{e4}".as_bytes()] {
            assert_eq!(key(none), None, "{none:?}");
        }
    }

    #[test]
    fn what_the_echo_has_shown_is_known() {
        assert_eq!(shown(b"r"), 1);
        assert_eq!(shown(b"\x1b[A"), 4);
        assert_eq!(shown("\u{e4}x".as_bytes()), 2);
        assert_eq!(shown(b"\n"), 0);
    }
}
