//! Reads a file of any type without blocking forever.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Maximum wait for the writer of a pipe. (A password manager that presents a file of variables as
/// a pipe writes as soon as it is opened.)
const MAX_WAIT: Duration = Duration::from_secs(1);
/// Maximum size of a file that people write, in bytes.
const MAX_SIZE: u64 = 16 << 20;

/// The content of a file, which may be a pipe.
///
/// # Errors
///
/// It cannot be read, it is a pipe that has no writer, or it is too large.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Without the flag, opening a pipe waits until its other end is opened.
    let mut file = File::options().read(true).custom_flags(O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    let mut text = Vec::new();
    if meta.is_file() {
        file.take(MAX_SIZE + 1).read_to_end(&mut text)?;
    } else if meta.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    } else {
        read_pipe(&mut file, &mut text)?;
    }
    if text.len() as u64 > MAX_SIZE {
        let why = format!("larger than {} MiB", MAX_SIZE >> 20);
        return Err(io::Error::new(ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

fn read_pipe(file: &mut File, text: &mut Vec<u8>) -> io::Result<()> {
    let until = Instant::now() + MAX_WAIT;
    while text.len() as u64 <= MAX_SIZE {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) => {
                let why = format!("a pipe that its writer has not closed within {MAX_WAIT:?}");
                return Err(io::Error::new(ErrorKind::TimedOut, why));
            }
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let mut bytes = [0; 4096];
        match file.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => text.extend_from_slice(&bytes[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    #[test]
    fn a_pipe_is_read_to_its_end_or_refused_and_nothing_is_read_for_ever() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("pipe");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::TimedOut);
        let writer = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, "A=1\n")
        });
        assert_eq!(read(&path).unwrap(), b"A=1\n");
        writer.join().unwrap().unwrap();
        assert_eq!(read(Path::new("/dev/null")).unwrap(), b"");
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(place.path()).unwrap_err().kind(), ErrorKind::IsADirectory);
    }
}
