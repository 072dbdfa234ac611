//! The system calls that need `unsafe`, each with the reason why it is sound here.
//!
//! Nothing else in hotrun is `unsafe`.

#![expect(unsafe_code, reason = "this is the one module that may")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::pty::Winsize;
use nix::sys::signal::Signal;
#[cfg(target_os = "linux")]
use nix::sys::signalfd::SignalFd;
use nix::unistd::{ForkResult, Pid};
#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};

/// Who one is after [`fork`].
pub(super) enum Forked {
    Parent(Pid),
    Child,
}

/// Makes a child, in this control group if there is one and it can be done. Only for a
/// process with one thread, which a guardian is.
pub(super) fn fork(cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Forked> {
    #[cfg(target_os = "linux")]
    if let Some(forked) = cgroup.and_then(fork_into) {
        return Ok(forked);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = cgroup;
    // SAFETY: what makes `fork` dangerous is another thread that holds a lock while it is
    // called. A guardian has only one thread, so its child may do whatever it could.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        ForkResult::Child => Ok(Forked::Child),
    }
}

/// The arguments of `clone3`, as in the kernel's `linux/sched.h` (version 2 of them).
#[cfg(target_os = "linux")]
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A child that is born in a control group; to move it there afterwards can take the kernel
/// tens of milliseconds.
#[cfg(target_os = "linux")]
fn fork_into(cgroup: BorrowedFd<'_>) -> Option<Forked> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let args = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: u64::try_from(libc::SIGCHLD).ok()?,
        cgroup: u64::try_from(cgroup.as_raw_fd()).ok()?,
        ..CloneArgs::default()
    };
    // SAFETY: without `CLONE_VM` and with no stack this is `fork` (see there): the child
    // goes on with a copy of everything. The kernel reads `args`, whose layout and size are
    // what it expects, and writes nowhere.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match result {
        0 => Some(Forked::Child),
        pid if pid > 0 => Some(Forked::Parent(Pid::from_raw(i32::try_from(pid).ok()?))),
        // An older kernel, or a group that takes nobody: then without it.
        _ => None,
    }
}

/// A descriptor that stands for this process, also when it has ended.
#[cfg(target_os = "linux")]
pub(super) fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: both arguments are numbers. The result is an error or a new descriptor, which is
    // closed when a program is executed, and which nothing else in this process uses.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process that a descriptor stands for.
#[cfg(target_os = "linux")]
pub(super) fn pidfd_send(process: &OwnedFd, signal: Signal) -> nix::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and the kernel fills in what the null pointer leaves out.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal as i32, no_info, 0)
    };
    Errno::result(result).map(drop)
}

/// Ends a forked child that could not become what it was to be, and nothing but it: no
/// buffer that it shares with its parent is written out.
pub(super) fn exit_child() -> ! {
    // SAFETY: `_exit` takes any number, and never returns.
    unsafe { libc::_exit(127) }
}

/// Takes possession of a descriptor that has just arrived in a message.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has made this descriptor for the message it came in, and nobody
    // else in this process knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Gives a descriptor this number, under which a program finds it that is executed next.
/// Only for a child that either executes one or ends: whatever had the number is closed.
pub(super) fn place(fd: &OwnedFd, number: RawFd) -> nix::Result<()> {
    // SAFETY: both are numbers to the kernel. Some owner in this process may believe that the
    // number is still its own; but this is a forked child, which touches nothing any more of
    // what it has inherited, runs no destructor, and is about to execute another program.
    let result = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    Errno::result(result).map(drop)
}

/// Tells a terminal how large its window is.
pub(super) fn set_window_size(terminal: impl AsFd, size: Winsize) -> nix::Result<()> {
    // SAFETY: the descriptor is open, and the kernel reads one `Winsize`.
    let result =
        unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(result).map(drop)
}

/// Makes this the controlling terminal of the session that the caller has just begun.
pub(super) fn take_controlling_terminal(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the argument is a number.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY as _, 0) };
    Ok(Errno::result(result).map(drop)?)
}

/// Gives a signal its default meaning, in a child that is about to execute a program.
pub(super) fn set_default(signal: Signal) -> nix::Result<()> {
    let mut default = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeroes is a valid `sigaction`, without flags and with nothing blocked. The
    // default action runs no code of ours.
    let result = unsafe {
        (*default.as_mut_ptr()).sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal as i32, default.as_ptr(), std::ptr::null_mut())
    };
    Errno::result(result).map(drop)
}

/// True when whoever started this process had it ignore a signal, as `nohup` does.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is given, so nothing is changed; the old one is written to
    // `action`, which has its type.
    let result = unsafe { libc::sigaction(signal as i32, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeroes is a valid `sigaction`, and the call wrote one if it succeeded.
    result == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Waits for signals to be pending. To be called where a runtime of tokio's runs.
#[cfg(target_os = "linux")]
pub(crate) fn watch_signals(signals: SignalFd) -> io::Result<AsyncFd<SignalFd>> {
    // SAFETY: a `SignalFd` owns its descriptor, which is always the same, and stays open until
    // it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(signals, Interest::READABLE) }?)
}

/// Stops this process as Ctrl-Z stops one that does not care for it. The kernel does nothing
/// where nobody could have it go on again: in an orphaned group, and for the first process
/// of a container.
#[cfg(not(target_os = "linux"))]
pub(crate) fn stop_here() {
    let signal = Signal::SIGTSTP as i32;
    let mut default = MaybeUninit::<libc::sigaction>::zeroed();
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeroes is a valid `sigaction`, without flags and with nothing blocked, and
    // means the default action. What was there before is written to `before`, and put back
    // as it was. `raise` takes a number.
    unsafe {
        (*default.as_mut_ptr()).sa_sigaction = libc::SIG_DFL;
        if libc::sigaction(signal, default.as_ptr(), before.as_mut_ptr()) == 0 {
            libc::raise(signal);
            libc::sigaction(signal, before.as_ptr(), std::ptr::null_mut());
        }
    }
}
