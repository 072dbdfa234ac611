//! A control group for one tree, if this user may create one: the kernel kills all of its members
//! at once, even if they keep forking.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Pid, access, getpid};

/// Prefix of the names of hotrun's groups, before the pid of their guardian.
const PREFIX: &str = "hotrun.";

/// A control group, which has no members at first.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    directory: File,
}

impl Cgroup {
    /// Creates a group below this process's own one. Returns `None` if that is not possible:
    /// without version 2 of control groups, or if no group was delegated to this user.
    pub(crate) fn new() -> Option<Self> {
        let own = own_group()?;
        // Moving a process also requires write access to the group that it leaves.
        access(&own.join("cgroup.procs"), AccessFlags::W_OK).ok()?;
        let path = own.join(format!("{PREFIX}{}", getpid()));
        fs::create_dir(&path).ok()?;
        let directory = File::open(&path).ok().filter(|_| path.join("cgroup.kill").exists());
        let Some(directory) = directory else {
            let _ = fs::remove_dir(&path);
            return None;
        };
        Some(Self { path, directory })
    }

    /// Kills all members.
    pub(crate) fn kill(&self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Whether all members may be killed.
    pub(crate) fn is_only_of(&self, may_be_killed: impl Fn(Pid) -> bool) -> bool {
        let members = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        members.lines().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).all(may_be_killed)
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Drop for Cgroup {
    /// Removes the group, and moves spared processes to the guardian's own one.
    fn drop(&mut self) {
        let members = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        if let Some(parent) = self.path.parent() {
            for pid in members.lines() {
                let _ = fs::write(parent.join("cgroup.procs"), pid);
            }
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// Removes the groups of killed guardians, unless they have members.
pub(crate) fn remove_abandoned() {
    let Some(entries) = own_group().and_then(|own| fs::read_dir(own).ok()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let guardian = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let is_dead = |pid: &str| !Path::new("/proc").join(pid).exists();
        if guardian.is_some_and(is_dead) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The directory of this process's own group, in the hierarchy of version 2. `None` for the root
/// group.
fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let path = mount_point(&mounts)?.join(own);
    path.join("cgroup.events").exists().then_some(path)
}

fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let is_ours = after.starts_with("cgroup2 ");
        is_ours.then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_version_is_found_among_the_mounts() {
        let mounts = "24 1 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      25 1 0:23 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 none rw\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point("1 2 0:3 / / rw - ext4 /dev/x rw\n"), None);
    }
}
