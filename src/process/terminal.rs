//! hotrun's terminal: which process reads its input, and in which state it is left.
//!
//! While hotrun owns the terminal, it reads single keys. When an app wants to read, it becomes the
//! owner, and hotrun reads no keys. From then on the app's successors start as the owner, so that a
//! line typed between two apps is not read as keys.
//!
//! A process in the background may read the terminal's modes. It then saves those in which hotrun
//! reads keys, and restores them when it has the terminal. So only `ICANON` is off in these modes,
//! echo stays on, and a mark identifies them later.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

use super::leftovers::{self, is_marked_as};
use super::platform;
use crate::core::terminal::Foreground;

/// hotrun's mark: `VTIME` has no effect while `VMIN` is 1.
const MARK: u8 = 217;
/// Shows the cursor, and resets colours.
const RESET: &[u8] = b"\x1b[?25h\x1b[0m";
/// Also leaves the alternate screen, and disables mouse reports and bracketed paste: after a
/// program that had changed the modes.
const FULL_RESET: &[u8] = b"\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\
                            \x1b[?2004l\x1b[?25h\x1b[0m";

/// Delay after the terminal was handed over at which its modes are first checked. An app may
/// restore the marked modes at any time, and no event reports that. With inotify, an event reports
/// the program's next use of the terminal: see [`crate::keys::tell_of_use`].
pub(crate) const LOOK_FIRST: Duration = Duration::from_millis(5);
/// Maximum interval between two checks.
pub(crate) const LOOK_LAST: Duration = Duration::from_millis(500);

/// The process group that hotrun gave the terminal to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    No,
    /// An app that starts takes it; its group is unknown.
    Starting,
    Group(Pid),
}

/// The terminal that hotrun was started from. It does what it is asked to, and reports what it sees;
/// [`crate::core::terminal`] decides.
#[derive(Debug)]
pub(crate) struct Device {
    fd: OwnedFd,
    /// The modes in which hotrun found it, and leaves it.
    saved: Termios,
    given: Given,
}

impl Device {
    /// Opens the controlling terminal of this session, on stdin or elsewhere. Returns `None` if
    /// there is none.
    pub(crate) fn open() -> Option<Self> {
        let stdin =
            io::stdin().as_fd().try_clone_to_owned().ok().filter(|fd| tcgetpgrp(fd).is_ok());
        let fd = stdin.or_else(controlling_terminal)?;
        tcgetpgrp(&fd).ok()?;
        // They may have been set by another hotrun, which was killed.
        let saved = without_mark(tcgetattr(&fd).ok()?);
        Some(Self { fd, saved, given: Given::No })
    }

    /// Returns a duplicate of its descriptor, to wait for input.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    // What it reports

    /// Whether hotrun's stdin is a terminal.
    pub(crate) fn is_on_stdin() -> bool {
        io::stdin().is_terminal()
    }

    /// Whether keys can be read from it: it is on stdin, and not both outputs are redirected. Their
    /// reader, such as a pager, uses the keyboard.
    pub(crate) fn can_read_keys() -> bool {
        io::stdin().is_terminal() && (io::stdout().is_terminal() || io::stderr().is_terminal())
    }

    /// Whether hotrun is in the foreground.
    pub(crate) fn is_in_the_foreground(&self) -> bool {
        tcgetpgrp(&self.fd).is_ok_and(|group| group == getpgrp())
    }

    /// Which process group is in the foreground.
    pub(crate) fn foreground(&self) -> Foreground {
        let Ok(now) = tcgetpgrp(&self.fd) else { return Foreground::Unknown };
        let is_gone = || killpg(now, None) == Err(Errno::ESRCH);
        match self.given {
            _ if now == getpgrp() => Foreground::Hotrun,
            Given::Starting => Foreground::Given,
            // A job of the app also counts.
            Given::Group(group) if group == now || is_gone() || is_in_a_tree(now) => {
                Foreground::Given
            }
            Given::No | Given::Group(_) => Foreground::Stranger,
        }
    }

    /// Whether it is in modes that suggest the abnormal exit of a program.
    pub(crate) fn is_changed(&self) -> bool {
        tcgetattr(&self.fd)
            .is_ok_and(|modes| modes.local_flags != self.saved.local_flags && !is_marked(&modes))
    }

    /// Whether it is in the modes of a full-screen program.
    pub(crate) fn is_raw(&self) -> bool {
        tcgetattr(&self.fd).is_ok_and(|modes| !modes.local_flags.contains(LocalFlags::ICANON))
    }

    /// Whether its window was closed, or the connection was lost.
    pub(crate) fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let told = poll(&mut fds, PollTimeout::ZERO);
        if tcgetpgrp(&self.fd).is_err() {
            // Its session has ended.
            return true;
        }
        told.is_ok() && fds[0].revents().is_some_and(|found| found.contains(PollFlags::POLLHUP))
    }

    // What it does

    /// Sets the modes in which single keys are read.
    pub(crate) fn show_modes_for_keys(&self) {
        let mut modes = self.saved.clone();
        modes.local_flags.remove(LocalFlags::ICANON);
        modes.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        modes.control_chars[SpecialCharacterIndices::VTIME as usize] = MARK;
        self.set(&modes);
    }

    /// Restores the modes in which hotrun found it. Unread input stays for the next reader.
    pub(crate) fn show_modes_of_the_shell(&self) {
        self.set(&self.saved);
    }

    /// Keeps the modes that it has now as those of the shell.
    pub(crate) fn keep_modes(&mut self) {
        if let Ok(modes) = tcgetattr(&self.fd) {
            self.saved = without_mark(modes);
        }
    }

    /// Repairs the modes, if a process has restored those in which hotrun reads keys.
    pub(crate) fn mend(&self) {
        mend(&self.fd);
    }

    /// Hands it to an app, given by its process group. No input is lost.
    pub(crate) fn hand_over(&mut self, group: Pid) {
        self.show_modes_of_the_shell();
        if tcsetpgrp(&self.fd, group).is_ok() {
            self.given = Given::Group(group);
        }
    }

    /// Prepares it for an app that starts now and takes it.
    pub(crate) fn is_being_taken(&mut self) {
        self.show_modes_of_the_shell();
        self.given = Given::Starting;
    }

    /// Notes the process group of an app that has started, if it is the one that takes the terminal.
    pub(crate) fn was_taken_by(&mut self, group: Pid) {
        if self.given == Given::Starting {
            self.given = Given::Group(group);
        }
    }

    /// Takes it back from an app that has exited or was stopped.
    pub(crate) fn take_back(&mut self) {
        self.given = Given::No;
        // The signals that this would cause are blocked.
        let _ = tcsetpgrp(&self.fd, getpgrp());
        self.show_modes_of_the_shell();
    }

    /// The escape sequences that repair the screen after a program; empty if stdout is not a
    /// terminal.
    pub(crate) fn screen_reset(fully: bool) -> &'static [u8] {
        match (io::stdout().is_terminal(), fully) {
            (false, _) => b"",
            (true, false) => RESET,
            (true, true) => FULL_RESET,
        }
    }

    fn set(&self, modes: &Termios) {
        // `TCSANOW` does not flush: input that was typed ahead is kept. A terminal that is gone has
        // no modes.
        let _ = tcsetattr(&self.fd, SetArg::TCSANOW, modes);
    }
}

impl Drop for Device {
    /// Leaves it in the state in which it was found, after a panic too.
    fn drop(&mut self) {
        match self.foreground() {
            Foreground::Hotrun => self.show_modes_of_the_shell(),
            Foreground::Given => self.take_back(),
            Foreground::Stranger | Foreground::Unknown => {}
        }
    }
}

/// Whether this group belongs to a process that this hotrun has started.
fn is_in_a_tree(group: Pid) -> bool {
    let owner = leftovers::owner();
    platform::everybody().iter().any(|one| one.group == group && is_marked_as(one.pid, &owner))
}

fn is_marked(modes: &Termios) -> bool {
    !modes.local_flags.contains(LocalFlags::ICANON)
        && modes.control_chars[SpecialCharacterIndices::VTIME as usize] == MARK
}

/// Replaces the modes that read keys by those in which a shell starts a program.
fn without_mark(mut modes: Termios) -> Termios {
    if is_marked(&modes) {
        modes.local_flags.insert(LocalFlags::ICANON);
        modes.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    }
    modes
}

fn mend(terminal: impl AsFd) {
    if let Ok(modes) = tcgetattr(&terminal)
        && is_marked(&modes)
    {
        let _ = tcsetattr(&terminal, SetArg::TCSANOW, &without_mark(modes));
    }
}

/// Restores the modes for a guardian whose hotrun died while it read keys.
pub(super) fn mend_after_death() {
    if let Some(terminal) = controlling_terminal() {
        mend(terminal);
    }
}

fn controlling_terminal() -> Option<OwnedFd> {
    let file = File::options().read(true).write(true).open("/dev/tty");
    file.ok().map(OwnedFd::from)
}

/// Blocks the signals that a terminal, or a limit on file sizes, would send to this process. Must
/// be called before a second thread is started.
pub(crate) fn block_signals() {
    block_stops();
    block_file_limit();
}

/// Turns a write beyond the limit on file sizes (`ulimit -f`) into an error, instead of a fatal
/// signal. Must be called before a second thread is started. Processes that hotrun starts have no
/// signal blocked.
fn block_file_limit() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    let _ = signals.thread_block();
}

/// Lets this process write to the terminal, change it and hand it over from the background, without
/// being stopped if it reads there. Ctrl-Z stops it only when it is prepared for that. Must be
/// called before a second thread is started. The signals are blocked, not ignored: children inherit
/// ignored signals.
fn block_stops() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTTOU);
    signals.add(Signal::SIGTTIN);
    if cfg!(target_os = "linux") {
        signals.add(Signal::SIGTSTP);
    }
    let _ = signals.thread_block();
}

/// Lets the pending SIGTSTP stop this process. SIGCONT discards a pending SIGTSTP, so a process
/// that `fg` has continued before it was prepared keeps running. If it raised the signal again
/// then, it would stay stopped: `make`, its parent, may have been stopped before it, and `fg`
/// follows as soon as the shell sees that. The kernel does nothing where no process could continue
/// this one: in an orphaned group, and for the first process of a container.
#[cfg(target_os = "linux")]
pub(crate) fn stop_here() {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTSTP);
    let _ = stop.thread_unblock();
    let _ = stop.thread_block();
}
