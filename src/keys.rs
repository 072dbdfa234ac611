//! What is typed while the terminal is hotrun's, as messages.

use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc::UnboundedSender;

use crate::event::{Key, Message};

/// The keys and what they do, for people.
pub const HELP: [(Key, char, &str); 6] = [
    (Key::Rebuild, 'r', "rebuild"),
    (Key::Restart, 's', "restart without a build"),
    (Key::Pause, 'p', "pause, or resume"),
    (Key::Clear, 'c', "clear the screen"),
    (Key::Quit, 'q', "quit (again: kill)"),
    (Key::Help, 'h', "this list"),
];

/// Keys are told as long as this lives.
#[derive(Debug)]
pub struct Keys {
    /// Closed when this is dropped.
    _stop: PipeWriter,
}

impl Keys {
    /// Tells the inbox of every key. A thread waits for them, as a terminal cannot be read
    /// without waiting unless that is changed for everybody who has it open.
    pub fn listen(terminal: OwnedFd, inbox: UnboundedSender<Message>) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        thread::spawn(move || {
            loop {
                let mut fds = [
                    PollFd::new(terminal.as_fd(), PollFlags::POLLIN),
                    PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
                ];
                let waited = poll(&mut fds, PollTimeout::NONE);
                let is_stopped = fds[1].any().unwrap_or(true);
                if is_stopped || waited.is_err_and(|error| error != nix::errno::Errno::EINTR) {
                    return;
                }
                let mut typed = [0; 64];
                // Nobody is stopped who reads in the background, as that signal is blocked:
                // it is an error, as is a terminal that is closed (which a signal tells).
                let Ok(count @ 1..) = nix::unistd::read(&terminal, &mut typed) else { return };
                for key in keys(&typed[..count]) {
                    if inbox.send(Message::Key(key)).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { _stop: stop })
    }
}

/// Arrows and the like arrive as several characters after an escape; none of them is meant.
fn keys(typed: &[u8]) -> Vec<Key> {
    let plain = typed.split(|byte| *byte == 0x1b).next().unwrap_or_default();
    let key = |byte: &u8| {
        let typed = if *byte == b'?' { 'h' } else { char::from(*byte) };
        HELP.iter().find(|(_, one, _)| *one == typed).map(|(key, ..)| *key)
    };
    plain.iter().filter_map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_character_and_arrows_are_none() {
        assert_eq!(keys(b"r"), [Key::Rebuild]);
        assert_eq!(keys(b"?p"), [Key::Help, Key::Pause]);
        assert_eq!(keys(b"\x1b[Aqr"), []);
        assert_eq!(keys(b"x\n\xc3\xa4"), []);
    }
}
