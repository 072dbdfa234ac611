//! Detects file systems that send no events for changes made elsewhere: on a server, on the host of
//! a virtual machine, or in another container.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The name of each device's file system, if it sends no events.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    silent: HashMap<u64, Option<&'static str>>,
}

impl Mounts {
    /// Returns the name of the file system of this directory, on this device, if it sends no
    /// events. Asks the system once for each device.
    pub(super) fn silent(&mut self, device: u64, directory: &Path) -> Option<&'static str> {
        *self.silent.entry(device).or_insert_with(|| silent(directory))
    }

    /// Forgets all devices: after a change of mounts, a number may mean another device.
    pub(super) fn forget(&mut self) {
        self.silent.clear();
    }
}

/// File systems by their `statfs` numbers, from `linux/magic.h` and the file systems' own headers.
/// WSL mounts Windows drives as 9p, and virtiofs may appear as FUSE.
#[cfg(target_os = "linux")]
const SILENT: [(u64, &str); 15] = [
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x6a65_6a63, "virtiofs"),
    (0x786f_4256, "vboxsf"),
    (0xbacb_acbc, "vmhgfs"),
    (0x7c7c_6673, "prl_fs"),
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x5346_414f, "afs"),
    (0x7375_7245, "coda"),
    (0x564c, "ncp"),
    (0x00c3_6400, "ceph"),
    (0x0bd0_0bd0, "lustre"),
];

#[cfg(target_os = "linux")]
fn silent(directory: &Path) -> Option<&'static str> {
    let number = nix::sys::statfs::statfs(directory).ok()?.filesystem_type().0;
    // The kernel's type is signed on some machines, but the number has 32 bits.
    let number = u64::try_from(number & 0xffff_ffff).ok()?;
    SILENT.iter().find(|(one, _)| *one == number).map(|(_, name)| *name)
}

#[cfg(target_os = "macos")]
fn silent(directory: &Path) -> Option<&'static str> {
    let found = nix::sys::statfs::statfs(directory).ok()?.filesystem_type_name().to_owned();
    ["nfs", "smbfs", "afpfs", "webdav", "osxfuse", "macfuse"].into_iter().find(|one| found == *one)
}

/// A mount point, and the number of its mount. The kernel may give the next mount the same number;
/// an unmount also causes a file event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mount {
    pub(super) place: PathBuf,
    number: u32,
}

/// Returns the mounts at the directories that `matters` accepts. Empty on other systems than Linux.
pub(super) fn mounted(matters: impl Fn(&Path) -> bool) -> Vec<Mount> {
    let text = std::fs::read(TABLE).unwrap_or_default();
    let mut found: Vec<Mount> = text
        .split(|byte| *byte == b'\n')
        .filter_map(parse)
        .filter(|one| matters(&one.place))
        .collect();
    found.sort();
    found
}

/// The kernel's table of mounts (`proc_pid_mountinfo(5)`).
const TABLE: &str = "/proc/self/mountinfo";

/// Calls `changed` whenever something is mounted or unmounted, for which there are no file events,
/// until it returns false. Only on Linux.
pub(super) fn report_changes(mut changed: impl FnMut() -> bool) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let Ok(table) = std::fs::File::open(TABLE) else { return };
    let mut wanted = [PollFd::new(table.as_fd(), PollFlags::POLLPRI)];
    loop {
        match poll(&mut wanted, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(_) if changed() => {}
            _ => return,
        }
    }
}

/// Parses a line of the table: number, parent, device, root, mount point, and more.
fn parse(line: &[u8]) -> Option<Mount> {
    use std::os::unix::ffi::OsStringExt;
    let mut words = line.split(|byte| *byte == b' ');
    let number = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let place = unescaped(words.nth(3)?);
    Some(Mount { place: std::ffi::OsString::from_vec(place).into(), number })
}

/// Replaces escapes: a blank, for example, is written as `\040`.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, more)) = rest.split_first() {
        let octal = more.get(..3).filter(|_| *first == b'\\');
        let byte = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = byte {
            plain.push(byte);
            rest = &more[3..];
        } else {
            plain.push(*first);
            rest = more;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_names_place_and_number() {
        let line = b"36 35 98:0 /mnt1 /mnt/a\\040b\\134c rw,noatime master:1 - ext3 /dev/root rw";
        let expected = Mount { place: "/mnt/a b\\c".into(), number: 36 };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"x y"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_root_is_mounted_and_a_local_directory_is_not_silent() {
        assert!(mounted(|place| place == Path::new("/")).len() == 1);
        assert_eq!(Mounts::default().silent(1, Path::new("/proc")), None);
    }
}
