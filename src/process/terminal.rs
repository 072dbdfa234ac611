//! hotrun's terminal: who reads what is typed there, and in which state it is left.
//!
//! As long as it is hotrun's, single keys are read. When an app wants it, it becomes the
//! app's, and hotrun reads no keys; from then on the app's successors begin as its owner,
//! so that a line typed while one follows the other is not taken for keys.
//!
//! Facts behind the details: whoever is in the background may read the modes, and so saves
//! those in which hotrun reads keys, to put them back when it has the terminal. So only
//! `ICANON` is off in them, echo stays, and they bear a mark by which they are known later.

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

/// `VTIME` means nothing while `VMIN` is 1: our mark.
const MARK: u8 = 217;
/// Shows the cursor, and ends colours.
const RESET: &[u8] = b"\x1b[?25h\x1b[0m";
/// Also leaves the alternate screen, mouse reports and bracketed paste: for what a program
/// that had changed the modes was in.
const FULL_RESET: &[u8] = b"\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\
                            \x1b[?2004l\x1b[?25h\x1b[0m";

/// After the terminal was handed over: when its modes are looked at. An app may put back
/// the marked ones at any time, and no event tells of that (of the question that it asks next,
/// one does where there is inotify: see [`crate::keys::tell_of_use`]).
pub const LOOK_FIRST: Duration = Duration::from_millis(5);
/// The longest pause between two looks.
pub const LOOK_LAST: Duration = Duration::from_millis(500);

/// Who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// hotrun, and with it whoever is in its process group.
    Hotrun,
    /// The process group of an app; none that is known yet.
    App(Option<Pid>),
    /// The shell, or somebody else: hotrun is in the background.
    Other,
}

/// The terminal that hotrun was started from.
#[derive(Debug)]
pub struct Terminal {
    fd: OwnedFd,
    /// The modes in which hotrun found it, and leaves it.
    saved: Termios,
    owner: Owner,
    reads_keys: bool,
}

impl Terminal {
    /// The terminal that controls this session, on stdin or elsewhere; `None` where there is
    /// none.
    pub fn open() -> Option<Self> {
        let stdin =
            io::stdin().as_fd().try_clone_to_owned().ok().filter(|fd| tcgetpgrp(fd).is_ok());
        let fd = stdin.or_else(controlling_terminal)?;
        let foreground = tcgetpgrp(&fd).ok()?;
        // They may be those of another hotrun, which was killed.
        let saved = without_mark(tcgetattr(&fd).ok()?);
        let owner = if foreground == getpgrp() { Owner::Hotrun } else { Owner::Other };
        Some(Self { fd, saved, owner, reads_keys: false })
    }

    /// A copy of its descriptor, to wait for what is typed.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// True while hotrun reads keys from it.
    pub fn reads_keys(&self) -> bool {
        self.reads_keys
    }

    /// True while it is an app's.
    pub fn is_an_apps(&self) -> bool {
        matches!(self.owner, Owner::App(_))
    }

    /// True while it is hotrun's to give away.
    pub fn is_hotruns(&self) -> bool {
        self.owner == Owner::Hotrun
    }

    /// It was the shell's, and is hotrun's now.
    pub fn has_come_to_the_foreground(&self) -> bool {
        self.is_elsewhere() && tcgetpgrp(&self.fd).is_ok_and(|group| group == getpgrp())
    }

    /// True while it is the shell's, or somebody else's.
    pub fn is_elsewhere(&self) -> bool {
        self.owner == Owner::Other
    }

    /// Begins to read single keys, if the terminal is hotrun's and on stdin. Not where both
    /// outputs lead elsewhere: whoever reads them, such as a pager, has the keyboard.
    pub fn read_keys(&mut self) -> bool {
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

    /// A program begins that may save the modes it finds here: they are the shell's until
    /// [`Self::read_keys`] is called again. What is typed meanwhile is read then.
    pub fn show_modes_of_the_shell(&self) {
        if self.reads_keys {
            self.set(&self.saved);
        }
    }

    /// Leaves what is typed to whoever reads it next.
    pub fn read_no_keys(&mut self) {
        self.reads_keys = false;
        self.set(&self.saved);
    }

    /// Gives it to an app, by its process group. Nothing that was typed is lost.
    pub fn hand_over(&mut self, group: Pid) {
        self.read_no_keys();
        if tcsetpgrp(&self.fd, group).is_ok() {
            self.owner = Owner::App(Some(group));
        }
    }

    /// True if it is what hotrun's stdin is.
    pub fn is_on_stdin(&self) -> bool {
        io::stdin().is_terminal()
    }

    /// The group that it was given to, where that is not this one.
    pub fn is_with_another_than(&self, group: Pid) -> bool {
        matches!(self.owner, Owner::App(Some(owner)) if owner != group)
    }

    /// An app that starts now will take it.
    pub fn is_being_taken(&mut self) {
        self.read_no_keys();
        self.owner = Owner::App(None);
    }

    /// The app that this group is of has taken it at its start.
    pub fn was_taken_by(&mut self, group: Pid) {
        self.owner = Owner::App(Some(group));
    }

    /// Takes it back from an app that has ended or was stopped. True if the app has left it
    /// in a state that only a program sets which then cannot have ended well.
    pub fn take_back(&mut self) -> bool {
        let Owner::App(group) = self.owner else { return false };
        if !self.is_still_with(group) {
            // Whoever has it did not get it from us.
            self.owner = Owner::Other;
            return false;
        }
        // Signals that this would cause are blocked.
        let _ = tcsetpgrp(&self.fd, getpgrp());
        self.owner = Owner::Hotrun;
        let is_changed = tcgetattr(&self.fd)
            .is_ok_and(|modes| modes.local_flags != self.saved.local_flags && !is_marked(&modes));
        self.set(&self.saved);
        is_changed
    }

    /// Nobody but the app of this group, or a job of the app's own, has it now; or hotrun.
    fn is_still_with(&self, group: Option<Pid>) -> bool {
        let Ok(now) = tcgetpgrp(&self.fd) else { return true };
        let is_gone = || killpg(now, None) == Err(Errno::ESRCH);
        now == getpgrp() || group.is_none_or(|group| group == now) || is_gone() || is_in_a_tree(now)
    }

    /// What puts the screen of a program right that has ended; nothing where there is none.
    pub fn screen_reset(was_left_changed: bool) -> &'static [u8] {
        match (io::stdout().is_terminal(), was_left_changed) {
            (false, _) => b"",
            (true, false) => RESET,
            (true, true) => FULL_RESET,
        }
    }

    /// Before hotrun is stopped, or ends: the terminal is as the shell left it.
    pub fn leave(&mut self) {
        if self.is_an_apps() {
            self.take_back();
        } else if self.owner == Owner::Hotrun {
            self.set(&self.saved);
        }
        self.reads_keys = false;
    }

    /// Sees who has it now, whoever was to have it: a shell may have taken it, or given it
    /// to hotrun, and tells neither.
    pub fn look_who_has_it(&mut self) {
        let Ok(now) = tcgetpgrp(&self.fd) else { return };
        let was = self.owner;
        self.owner = match was {
            Owner::App(Some(group)) if now != getpgrp() && self.is_still_with(Some(group)) => was,
            // It is about to take it.
            Owner::App(None) => was,
            _ if now == getpgrp() => Owner::Hotrun,
            _ => Owner::Other,
        };
        if was == Owner::Other && self.owner == Owner::Hotrun {
            // Those before may have been the shell's own, in which it edits a line.
            if let Ok(modes) = tcgetattr(&self.fd) {
                self.saved = without_mark(modes);
            }
        }
        self.reads_keys &= self.owner == Owner::Hotrun;
    }

    /// True while a program on the whole screen has it.
    pub fn is_a_screen(&self) -> bool {
        let is_raw = |modes: Termios| !modes.local_flags.contains(LocalFlags::ICANON);
        self.is_an_apps() && tcgetattr(&self.fd).is_ok_and(is_raw)
    }

    /// While it is an app's: puts right what the app has saved while hotrun read keys.
    pub fn mend(&self) {
        mend(&self.fd);
    }

    /// Its window was closed, or the line is cut.
    pub fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let told = poll(&mut fds, PollTimeout::ZERO);
        if tcgetpgrp(&self.fd).is_err() {
            // Its session has ended.
            return true;
        }
        told.is_ok() && fds[0].revents().is_some_and(|found| found.contains(PollFlags::POLLHUP))
    }

    fn set(&self, modes: &Termios) {
        // Not those that flush: what was typed ahead is somebody's. A terminal that is gone
        // has no modes.
        let _ = tcsetattr(&self.fd, SetArg::TCSANOW, modes);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
    }
}

/// True for a group of something that this hotrun has started.
fn is_in_a_tree(group: Pid) -> bool {
    let owner = leftovers::owner();
    platform::everybody().iter().any(|one| one.group == group && is_marked_as(one.pid, &owner))
}

fn is_marked(modes: &Termios) -> bool {
    !modes.local_flags.contains(LocalFlags::ICANON)
        && modes.control_chars[SpecialCharacterIndices::VTIME as usize] == MARK
}

/// The modes in which a shell starts a program, where these are those that read keys.
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

/// For a guardian whose hotrun is dead: nobody else is left to put the modes right in which
/// that one read keys.
pub(super) fn mend_after_death() {
    if let Some(terminal) = controlling_terminal() {
        mend(terminal);
    }
}

fn controlling_terminal() -> Option<OwnedFd> {
    let file = File::options().read(true).write(true).open("/dev/tty");
    file.ok().map(OwnedFd::from)
}

/// Blocks the signals that a terminal, or a limit of file sizes, would send to this process. To be
/// called before there is a second thread.
pub fn block_signals() {
    block_stops();
    block_file_limit();
}

/// From now on a write beyond the limit of file sizes (`ulimit -f`) is an error, and does not end
/// this process. To be called before there is a second thread. (What hotrun starts has no signal
/// blocked.)
fn block_file_limit() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    let _ = signals.thread_block();
}

/// From now on this process may write to the terminal, change it and hand it on, though it
/// is in the background, and is not stopped if it reads there; and Ctrl-Z stops it when it is
/// prepared for that. To be called before there is a second thread. (Blocked, not ignored: what
/// is ignored stays so in every child.)
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
/// that `fg` has continued before it was prepared goes on. (If it were to raise the signal
/// again then, it would stay stopped: `make`, its parent, may have been stopped before it, and
/// `fg` follows as soon as that is seen.) The kernel does nothing where no process could
/// continue this one: in an orphaned group, and for the first process of a container.
#[cfg(target_os = "linux")]
pub fn stop_here() {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTSTP);
    let _ = stop.thread_unblock();
    let _ = stop.thread_block();
}
