//! Linux: orphans come to us, and `/proc` tells who is in a process group.

use std::fs;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::killpg;
use nix::unistd::Pid;

/// From now on a process below us whose parent ends becomes our child, so that its end
/// reaches us as SIGCHLD and we can reap it.
pub(super) fn adopt_orphans() -> nix::Result<()> {
    prctl::set_child_subreaper(true)
}

/// True while the group has a member that is no zombie. `killpg(0)` alone cannot tell: one
/// zombie that nobody reaps keeps it true for ever.
pub(super) fn lives(pgid: Pid) -> bool {
    if killpg(pgid, None) == Err(Errno::ESRCH) {
        return false;
    }
    let Ok(entries) = fs::read_dir("/proc") else { return true };
    entries
        .flatten()
        .filter(|entry| {
            entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
        })
        .filter_map(|entry| fs::read(entry.path().join("stat")).ok())
        .any(|stat| is_living_member(&stat, pgid))
}

/// Reads `pid (comm) state ppid pgrp …`; the name may hold blanks and parentheses.
fn is_living_member(stat: &[u8], pgid: Pid) -> bool {
    let Some(end) = stat.iter().rposition(|byte| *byte == b')') else { return false };
    let rest = String::from_utf8_lossy(&stat[end + 1..]);
    let mut fields = rest.split_whitespace();
    let state = fields.next().unwrap_or("X");
    let group = fields.nth(1).and_then(|group| group.parse().ok());
    !matches!(state, "Z" | "X" | "x") && group == Some(pgid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_no_living_member_and_a_name_may_hold_parentheses() {
        let pgid = Pid::from_raw(7);
        assert!(is_living_member(b"9 (a) b (c) S 1 7 7 0 -1", pgid));
        assert!(!is_living_member(b"9 (app) Z 1 7 7 0 -1", pgid));
        assert!(!is_living_member(b"9 (app) S 1 8 7 0 -1", pgid));
        assert!(!is_living_member(b"", pgid));
    }
}
