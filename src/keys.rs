//! Input that is typed while hotrun has the terminal, as messages.

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

use crate::inbox::Inbox;

/// The keys, and what each one does.
pub(crate) const HELP: [(Key, char, &str); 7] = [
    (Key::Rebuild, 'r', "rebuild"),
    (Key::Restart, 's', "restart without a build"),
    (Key::Rollback, 'b', "go back to the last good build"),
    (Key::Pause, 'p', "pause, or resume"),
    (Key::Clear, 'c', "clear the screen"),
    (Key::Quit, 'q', "quit (again: kill)"),
    (Key::Help, 'h', "this list"),
];

/// Maximum time between characters that were pasted or sent by one key such as an arrow, in
/// milliseconds. Characters typed by hand are further apart.
const PASTE_INTERVAL: u16 = 10;

/// The byte that Ctrl-D sends where it does not end a line.
const END_OF_FILE: u8 = 4;
/// Uses of the terminal within this time cause one message.
const USE_INTERVAL: Duration = Duration::from_millis(2);

/// What a key requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Rebuild,
    Restart,
    /// Start the last good artifact.
    Rollback,
    /// Stop building on saves, or build the saves that came in while paused.
    Pause,
    Clear,
    Quit,
    /// Show the list of keys.
    Help,
}

/// What is reported of the terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FromTerminal {
    /// Input.
    Typed {
        /// The key, if it is one.
        key: Option<Key>,
        /// How many columns its echo takes on the line.
        shown: usize,
    },
    /// Its window was closed, or the connection is lost.
    Closed,
    /// A process has read from it, or written to it.
    Used,
}

/// Reports keys until dropped.
#[derive(Debug)]
pub(crate) struct Keys {
    _stop: PipeWriter,
}

impl Keys {
    /// Reports every key to the inbox. A thread waits for them: non-blocking mode would apply to
    /// all processes that have the terminal open.
    pub(crate) fn listen(terminal: OwnedFd, inbox: Inbox<FromTerminal>) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        thread::Builder::new().spawn(move || {
            loop {
                let mut typed = Vec::new();
                let mut timeout = PollTimeout::NONE;
                while can_be_read(&terminal, &stopped, timeout) {
                    let mut more = [0; 256];
                    // A background read does not stop hotrun, since SIGTTIN is blocked: it fails.
                    // So does a read from a closed terminal.
                    match nix::unistd::read(&terminal, &mut more) {
                        // Ctrl-D while the shell's terminal modes apply; it is not a key.
                        Ok(0) if !is_closed(&terminal) => typed.push(END_OF_FILE),
                        Ok(0) | Err(_) => return,
                        Ok(count) => typed.extend_from_slice(&more[..count]),
                    }
                    timeout = PollTimeout::from(PASTE_INTERVAL);
                }
                // Either `Keys` was dropped, or hotrun exits.
                if typed.is_empty() || !inbox.send(read(&typed)) {
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

/// Reports to the inbox whenever a process has read from the terminal or written to it, until the
/// returned value is dropped. The kernel reports no change of the modes, but a program that has
/// changed them soon writes its next prompt.
#[cfg(target_os = "linux")]
pub(crate) fn tell_of_use(
    terminal: &OwnedFd,
    inbox: Inbox<FromTerminal>,
) -> io::Result<PipeWriter> {
    let uses = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let watch =
        |path: &Path| uses.add_watch(path, AddWatchFlags::IN_ACCESS | AddWatchFlags::IN_MODIFY);
    watch(&nix::unistd::ttyname(terminal)?)?;
    // A process that opens it by this name is not seen by the other watch.
    watch(Path::new("/dev/tty"))?;
    let (stopped, stop) = io::pipe()?;
    thread::Builder::new().spawn(move || {
        while can_be_read(&uses, &stopped, PollTimeout::NONE) {
            if uses.read_events().is_err() || !inbox.send(FromTerminal::Used) {
                return;
            }
            thread::sleep(USE_INTERVAL);
        }
    })?;
    Ok(stop)
}

/// Only Linux reports uses of the terminal.
#[cfg(not(target_os = "linux"))]
pub fn tell_of_use(_: &OwnedFd, _: Inbox<FromTerminal>) -> io::Result<PipeWriter> {
    Err(io::ErrorKind::Unsupported.into())
}

/// One character at a time is a key. So is one with Enter, which is needed while the shell's
/// terminal modes apply.
fn read(typed: &[u8]) -> FromTerminal {
    let key = match typed {
        [one] | [one, b'\n'] => {
            let typed = if *one == b'?' { 'h' } else { char::from(*one) };
            HELP.iter().find(|(_, key, _)| *key == typed).map(|(key, ..)| *key)
        }
        _ => None,
    };
    FromTerminal::Typed { key, shown: shown(typed) }
}

/// Returns how many columns the terminal's echo takes on the line; 0 after a line break.
fn shown(typed: &[u8]) -> usize {
    if typed.contains(&b'\n') {
        return 0;
    }
    // `^[` for an escape; for a character of several bytes, only the first counts.
    let places = |byte: &u8| match byte {
        0..0x20 | 0x7f => 2,
        0x80..0xc0 => 0,
        _ => 1,
    };
    typed.iter().map(places).sum()
}

/// Reports to the inbox when the terminal is closed. Not every process of the terminal receives
/// SIGHUP: under make, none does.
pub(crate) fn tell_when_closed(terminal: OwnedFd, inbox: Inbox<FromTerminal>) {
    let wait = move || {
        loop {
            // With no events requested, poll reports only this.
            let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::empty())];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(_) => return,
                Ok(_) => break,
            }
        }
        inbox.send(FromTerminal::Closed);
    };
    // Without a thread, only SIGHUP reports it.
    let _ = thread::Builder::new().spawn(wait);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(typed: &[u8]) -> Option<Key> {
        let FromTerminal::Typed { key, .. } = read(typed) else {
            panic!("something else is reported")
        };
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
