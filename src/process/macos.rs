//! macOS: orphans go to launchd, which reaps them, so a group without members vanishes.

use nix::errno::Errno;
use nix::sys::signal::killpg;
use nix::unistd::Pid;

/// There is no such thing on macOS.
pub(super) fn adopt_orphans() -> nix::Result<()> {
    Ok(())
}

/// True while the group has a member. `EPERM` stands for one that is a zombie or not ours.
pub(super) fn lives(pgid: Pid) -> bool {
    !matches!(killpg(pgid, None), Err(Errno::ESRCH | Errno::EPERM))
}
