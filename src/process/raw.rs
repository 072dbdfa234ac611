//! The system calls that need `unsafe`, each with the reason why it is sound here.
//!
//! No other code in hotrun is `unsafe`.

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

/// The side of a [`fork`] on which the caller continues.
pub(super) enum Forked {
    Parent(Pid),
    Child,
}

/// Forks, into this control group if possible. Only for a process with one thread, such as a
/// guardian.
pub(super) fn fork(cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Forked> {
    #[cfg(target_os = "linux")]
    if let Some(forked) = cgroup.and_then(fork_into) {
        return Ok(forked);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = cgroup;
    // SAFETY: `fork` is dangerous if another thread holds a lock at that time. A guardian has only
    // one thread, so its child may do whatever the guardian could.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        ForkResult::Child => Ok(Forked::Child),
    }
}

/// The arguments of `clone3`, version 2, as in the kernel's `linux/sched.h`.
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

/// Forks directly into a control group. Moving the child there afterwards can take the kernel tens
/// of milliseconds.
#[cfg(target_os = "linux")]
fn fork_into(cgroup: BorrowedFd<'_>) -> Option<Forked> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let args = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: u64::try_from(libc::SIGCHLD).ok()?,
        cgroup: u64::try_from(cgroup.as_raw_fd()).ok()?,
        ..CloneArgs::default()
    };
    // SAFETY: without `CLONE_VM` and a stack this is a `fork` (see there): the child continues with
    // a copy of the whole process. The kernel reads `args`, whose layout and size are what it
    // expects, and writes to no memory.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match result {
        0 => Some(Forked::Child),
        pid if pid > 0 => Some(Forked::Parent(Pid::from_raw(i32::try_from(pid).ok()?))),
        // An older kernel, or a group that accepts no processes: fork without it.
        _ => None,
    }
}

/// Returns a descriptor that refers to this process, even after its exit.
#[cfg(target_os = "linux")]
pub(super) fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: both arguments are numbers. The result is an error or a new descriptor, which is
    // close-on-exec and has no other owner in this process.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process that a descriptor refers to.
#[cfg(target_os = "linux")]
pub(super) fn pidfd_send(process: &OwnedFd, signal: Signal) -> nix::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and the kernel fills in what the null pointer leaves out.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal as i32, no_info, 0)
    };
    Errno::result(result).map(drop)
}

/// Exits from a forked child that could not execute its program. Skips destructors and exit
/// handlers, so no copy of the parent's buffers is flushed.
pub(super) fn exit_child() -> ! {
    // SAFETY: `_exit` accepts any number, and never returns.
    unsafe { libc::_exit(127) }
}

/// Takes ownership of a descriptor that the kernel has just created for this process.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has created this descriptor for the caller, and no other code in this
    // process knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Duplicates a descriptor to this number, for the program that is executed next. Only for a child
/// that either executes a program or exits: closes the descriptor that had the number.
pub(super) fn place(fd: &OwnedFd, number: RawFd) -> nix::Result<()> {
    // SAFETY: both are numbers to the kernel. Another owner in this process may assume that the
    // number is still its own. But this is a forked child, which no longer uses what it has
    // inherited, runs no destructor, and is about to execute another program.
    let result = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    Errno::result(result).map(drop)
}

/// Sets the window size of a terminal.
pub(super) fn set_window_size(terminal: impl AsFd, size: Winsize) -> nix::Result<()> {
    // SAFETY: the descriptor is open, and the kernel reads one `Winsize`.
    let result =
        unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(result).map(drop)
}

/// Makes this the controlling terminal of the session that the caller has just created.
pub(super) fn take_controlling_terminal(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the argument is a number.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY as _, 0) };
    Ok(Errno::result(result).map(drop)?)
}

/// Restores the default action of a signal, in a child that is about to execute a program.
pub(super) fn set_default(signal: Signal) -> nix::Result<()> {
    let mut default = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeroes is a valid `sigaction`, without flags and with no signal blocked. The
    // default action runs no code of ours.
    let result = unsafe {
        (*default.as_mut_ptr()).sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal as i32, default.as_ptr(), std::ptr::null_mut())
    };
    Errno::result(result).map(drop)
}

/// Whether this process was started with a signal ignored, as `nohup` does.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is given, so nothing is changed; the old one is written to `action`,
    // which has the right type.
    let result = unsafe { libc::sigaction(signal as i32, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeroes is a valid `sigaction`, and the call wrote one if it succeeded.
    result == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Registers signals to be polled. Must be called inside a tokio runtime.
#[cfg(target_os = "linux")]
pub(crate) fn watch_signals(signals: SignalFd) -> io::Result<AsyncFd<SignalFd>> {
    // SAFETY: a `SignalFd` owns its descriptor, which is always the same and stays open until it is
    // dropped.
    Ok(unsafe { AsyncFd::register_with_interest(signals, Interest::READABLE) }?)
}

/// Stops this process as Ctrl-Z stops a process that does not handle it. The kernel does nothing
/// where no process could continue this one: in an orphaned group, and for the first process of a
/// container.
#[cfg(not(target_os = "linux"))]
pub(crate) fn stop_here() {
    let signal = Signal::SIGTSTP as i32;
    let mut default = MaybeUninit::<libc::sigaction>::zeroed();
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeroes is a valid `sigaction`, without flags and with no signal blocked, and
    // means the default action. The previous action is written to `before`, and restored unchanged.
    // `raise` takes a number.
    unsafe {
        (*default.as_mut_ptr()).sa_sigaction = libc::SIG_DFL;
        if libc::sigaction(signal, default.as_ptr(), before.as_mut_ptr()) == 0 {
            libc::raise(signal);
            libc::sigaction(signal, before.as_ptr(), std::ptr::null_mut());
        }
    }
}
