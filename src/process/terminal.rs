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

/// The owner of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// hotrun, and other processes of its process group.
    Hotrun,
    /// The process group of an app; `None` while it is unknown.
    App(Option<Pid>),
    /// The shell, or another process: hotrun is in the background.
    Other,
}

/// The terminal that hotrun was started from.
#[derive(Debug)]
pub(crate) struct Terminal {
    fd: OwnedFd,
    /// The modes in which hotrun found it, and leaves it.
    saved: Termios,
    owner: Owner,
    reads_keys: bool,
}

impl Terminal {
    /// Opens the controlling terminal of this session, on stdin or elsewhere. Returns `None` if
    /// there is none.
    pub(crate) fn open() -> Option<Self> {
        let stdin =
            io::stdin().as_fd().try_clone_to_owned().ok().filter(|fd| tcgetpgrp(fd).is_ok());
        let fd = stdin.or_else(controlling_terminal)?;
        let foreground = tcgetpgrp(&fd).ok()?;
        // They may have been set by another hotrun, which was killed.
        let saved = without_mark(tcgetattr(&fd).ok()?);
        let owner = if foreground == getpgrp() { Owner::Hotrun } else { Owner::Other };
        Some(Self { fd, saved, owner, reads_keys: false })
    }

    /// Returns a duplicate of its descriptor, to wait for input.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// Whether hotrun reads keys from it.
    pub(crate) fn reads_keys(&self) -> bool {
        self.reads_keys
    }

    /// Whether an app owns it.
    pub(crate) fn is_an_apps(&self) -> bool {
        matches!(self.owner, Owner::App(_))
    }

    /// Whether hotrun owns it.
    pub(crate) fn is_hotruns(&self) -> bool {
        self.owner == Owner::Hotrun
    }

    /// Whether hotrun is in the foreground now, after another process had the terminal.
    pub(crate) fn has_come_to_the_foreground(&self) -> bool {
        self.is_elsewhere() && tcgetpgrp(&self.fd).is_ok_and(|group| group == getpgrp())
    }

    /// Whether the shell or another process owns it.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.owner == Owner::Other
    }

    /// Starts to read single keys, if hotrun owns the terminal, and it is on stdin. Not if both
    /// outputs are redirected: their reader, such as a pager, uses the keyboard.
    pub(crate) fn read_keys(&mut self) -> bool {
        let is_seen = io::stdout().is_terminal() || io::stderr().is_terminal();
        self.reads_keys = self.owner == Owner::Hotrun && io::stdin().is_terminal() && is_seen;
        if self.reads_keys {
            let mut modes = self.saved.clone();
            modes.local_flags.remove(LocalFlags::ICANON);
            modes.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
            modes.control_chars[SpecialCharacterIndices::VTIME as usize] = MARK;
            self.set(&modes);
        }
        self.reads_keys
    }

    /// Restores the shell's modes until [`Self::read_keys`] is called again: a new program may save
    /// the modes that it finds. Input that is typed meanwhile is read then.
    pub(crate) fn show_modes_of_the_shell(&self) {
        if self.reads_keys {
            self.set(&self.saved);
        }
    }

    /// Stops reading keys. Unread input stays for the next reader.
    pub(crate) fn read_no_keys(&mut self) {
        self.reads_keys = false;
        self.set(&self.saved);
    }

    /// Hands the terminal to an app, given by its process group. No input is lost.
    pub(crate) fn hand_over(&mut self, group: Pid) {
        self.read_no_keys();
        if tcsetpgrp(&self.fd, group).is_ok() {
            self.owner = Owner::App(Some(group));
        }
    }

    /// Whether hotrun's stdin is a terminal.
    pub(crate) fn is_on_stdin() -> bool {
        io::stdin().is_terminal()
    }

    /// Whether it was handed to a process group other than this one.
    pub(crate) fn is_with_another_than(&self, group: Pid) -> bool {
        matches!(self.owner, Owner::App(Some(owner)) if owner != group)
    }

    /// Notes that an app that starts now will take it.
    pub(crate) fn is_being_taken(&mut self) {
        self.read_no_keys();
        self.owner = Owner::App(None);
    }

    /// Notes that the app with this process group has taken it at its start.
    pub(crate) fn was_taken_by(&mut self, group: Pid) {
        self.owner = Owner::App(Some(group));
    }

    /// Takes it back from an app that has exited or was stopped. Returns true if the app left it in
    /// modes that suggest an abnormal exit.
    pub(crate) fn take_back(&mut self) -> bool {
        let Owner::App(group) = self.owner else { return false };
        if !self.is_still_with(group) {
            // The current owner did not get it from hotrun.
            self.owner = Owner::Other;
            return false;
        }
        // The signals that this would cause are blocked.
        let _ = tcsetpgrp(&self.fd, getpgrp());
        self.owner = Owner::Hotrun;
        let is_changed = tcgetattr(&self.fd)
            .is_ok_and(|modes| modes.local_flags != self.saved.local_flags && !is_marked(&modes));
        self.set(&self.saved);
        is_changed
    }

    /// Whether the app of this group, a job of that app, or hotrun has the terminal now.
    fn is_still_with(&self, group: Option<Pid>) -> bool {
        let Ok(now) = tcgetpgrp(&self.fd) else { return true };
        let is_gone = || killpg(now, None) == Err(Errno::ESRCH);
        now == getpgrp() || group.is_none_or(|group| group == now) || is_gone() || is_in_a_tree(now)
    }

    /// The escape sequences that repair the screen after a program; empty if stdout is not a
    /// terminal.
    pub(crate) fn screen_reset(was_left_changed: bool) -> &'static [u8] {
        match (io::stdout().is_terminal(), was_left_changed) {
            (false, _) => b"",
            (true, false) => RESET,
            (true, true) => FULL_RESET,
        }
    }

    /// Restores the shell's modes, before hotrun stops or exits.
    pub(crate) fn leave(&mut self) {
        if self.is_an_apps() {
            self.take_back();
        } else if self.owner == Owner::Hotrun {
            self.set(&self.saved);
        }
        self.reads_keys = false;
    }

    /// Updates the owner. A shell may have taken the terminal, or given it to hotrun, without an
    /// event.
    pub(crate) fn look_who_has_it(&mut self) {
        let Ok(now) = tcgetpgrp(&self.fd) else { return };
        let was = self.owner;
        self.owner = match was {
            Owner::App(Some(group)) if now != getpgrp() && self.is_still_with(Some(group)) => was,
            // The app is about to take it.
            Owner::App(None) => was,
            _ if now == getpgrp() => Owner::Hotrun,
            _ => Owner::Other,
        };
        if was == Owner::Other && self.owner == Owner::Hotrun {
            // The earlier modes may have been those in which the shell edits a line.
            if let Ok(modes) = tcgetattr(&self.fd) {
                self.saved = without_mark(modes);
            }
        }
        self.reads_keys &= self.owner == Owner::Hotrun;
    }

    /// Whether a full-screen program has it.
    pub(crate) fn is_a_screen(&self) -> bool {
        let is_raw = |modes: Termios| !modes.local_flags.contains(LocalFlags::ICANON);
        self.is_an_apps() && tcgetattr(&self.fd).is_ok_and(is_raw)
    }

    /// Repairs the modes, if the app that has the terminal has restored those in which hotrun reads
    /// keys.
    pub(crate) fn mend(&self) {
        mend(&self.fd);
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

    fn set(&self, modes: &Termios) {
        // `TCSANOW` does not flush: input that was typed ahead is kept. A terminal that is gone has
        // no modes.
        let _ = tcsetattr(&self.fd, SetArg::TCSANOW, modes);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
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
