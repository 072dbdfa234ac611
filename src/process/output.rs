//! The output of commands on its way through hotrun: copied to its destination, and kept.
//!
//! If the destination is a terminal, the command gets a pseudoterminal, so that it keeps its
//! terminal output (colours, for example). This pseudoterminal is not a controlling terminal, and
//! does not translate line ends.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use regex::bytes::Regex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::raw;
use crate::report::console::{Console, Stream};

/// Maximum size of the output of one command that is kept, in bytes.
const MAX_KEPT: usize = 8 << 20;
/// Silence after which all output from before the exit of a command is assumed to have arrived,
/// although another process may still hold its streams open.
const LINGER: Duration = Duration::from_millis(50);
/// Maximum wait for the rest of the output of a command that has exited.
const MAX_LINGER: Duration = Duration::from_millis(500);

/// Maximum size of one read, in bytes.
const PIECE: usize = 16 * 1024;
/// Maximum number of reads from one stream without waiting: more than a pipe or a pseudoterminal
/// can hold.
const MAX_PIECES: usize = 64;

/// Longest line that is searched for `ready.log` or an address in use, in bytes.
const MAX_LINE: usize = 64 << 10;

/// The reading end of one stream.
struct Reader {
    from: pipe::Receiver,
    copy_to: Option<Stream>,
    into: Kept,
    /// The incomplete last line of a stream that is searched.
    line: Vec<u8>,
}

/// What happens to the output of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Kept as output for the user; for a helper, its answer.
    Printed,
    /// Kept as output for hotrun; for a helper, its error messages.
    Messages,
    /// Only copied.
    Nothing,
    /// Only copied, when the screen is free.
    Passed,
    /// Kept as [`Kept::Printed`], but not copied.
    Withheld,
    /// Copied and searched.
    Searched,
}

/// The output of one command.
#[derive(Default)]
pub(super) struct Output {
    console: Option<Console>,
    readers: Vec<Reader>,
    /// See [`Kept::Printed`].
    pub(super) printed: Vec<u8>,
    /// See [`Kept::Messages`].
    pub(super) messages: Vec<u8>,
    search: Option<Search>,
    taken: TakenPorts,
    /// What is [`Kept::Withheld`] is printed after all.
    is_shown: Cell<bool>,
}

/// A search for a line.
struct Search {
    pattern: Regex,
    is_found: bool,
}

impl Output {
    /// Returns the writing end of a new pipe, whose data is not copied.
    pub(super) fn pipe(&mut self, into: Kept) -> io::Result<OwnedFd> {
        let (reader, writer) = new_pipe()?;
        self.readers.push(Reader::new(reader, None, into)?);
        Ok(writer)
    }

    /// Returns streams for a command that are copied to hotrun's own stdout and stderr. `stdout` is
    /// false if that stream is used otherwise.
    pub(super) fn copy(
        &mut self,
        console: &Console,
        stdout: bool,
        into: Kept,
    ) -> io::Result<(Option<OwnedFd>, OwnedFd)> {
        self.console = Some(console.clone());
        let (out, err) = (io::stdout(), io::stderr());
        if stdout && is_same(out.as_fd(), err.as_fd()) {
            // A single stream, which preserves the order of lines.
            let writer = self.branch(out.is_terminal(), Stream::Stdout, into)?;
            return Ok((Some(writer.try_clone()?), writer));
        }
        let for_stderr = self.branch(err.is_terminal(), Stream::Stderr, into)?;
        let for_stdout = stdout.then(|| self.branch(out.is_terminal(), Stream::Stdout, into));
        Ok((for_stdout.transpose()?, for_stderr))
    }

    /// Returns a terminal for a command, which is copied to hotrun's stdout.
    pub(super) fn terminal(&mut self, console: &Console, into: Kept) -> io::Result<OwnedFd> {
        self.console = Some(console.clone());
        let (master, slave) = pseudoterminal()?;
        self.readers.push(Reader::new(master, Some(Stream::Stdout), into)?);
        Ok(slave)
    }

    /// The reading ends of the streams that are copied.
    pub(super) fn ends(&self) -> impl Iterator<Item = (Stream, BorrowedFd<'_>)> {
        self.readers.iter().filter_map(|reader| Some((reader.copy_to?, reader.from.as_fd())))
    }

    /// Sets the pattern to search for in [`Kept::Searched`] streams.
    pub(super) fn look_for(&mut self, pattern: Option<&Regex>) {
        self.search = pattern.cloned().map(|pattern| Search { pattern, is_found: false });
    }

    /// Whether the pattern was just found; true only once.
    pub(super) fn has_found(&mut self) -> bool {
        self.search.take_if(|search| search.is_found).is_some()
    }

    /// The ports that the command named when it reported an address in use; `None` if it did not
    /// report that.
    pub(super) fn names_taken_ports(&self) -> Option<BTreeSet<u16>> {
        self.taken.is_found.then(|| self.taken.ports.clone())
    }

    /// Prints what was withheld so far, and from now on what comes.
    pub(super) fn show(&self) {
        if let Some(console) = &self.console
            && !self.is_shown.replace(true)
        {
            console.say(Stream::Stdout, &self.printed);
        }
    }

    /// Passes on a change of the window's size.
    pub(super) fn resize(&self) {
        if let Some(size) = window_size() {
            for reader in &self.readers {
                // A pipe has no size, and a terminal that no process holds needs none.
                let _ = raw::set_window_size(&reader.from, size);
            }
        }
    }

    /// Creates a pipe, or a pseudoterminal if the destination is a terminal.
    fn branch(&mut self, is_terminal: bool, copy_to: Stream, into: Kept) -> io::Result<OwnedFd> {
        // Pseudoterminals may be exhausted, or missing in a sandbox.
        let pty = is_terminal.then(|| pseudoterminal().ok()).flatten();
        let (reader, writer) = pty.map_or_else(new_pipe, Ok)?;
        self.readers.push(Reader::new(reader, Some(copy_to), into)?);
        Ok(writer)
    }

    /// Reads the next piece of output. Never returns if there will be none.
    pub(super) async fn read(&mut self) {
        if let Some(console) = &self.console {
            console.room().await;
        }
        poll_fn(|context| self.poll(context)).await;
    }

    /// Reads until the end of all streams. Descendants of the command may hold them open for an
    /// unlimited time: then reads until they are silent.
    pub(super) async fn read_rest(&mut self) {
        let rest = async {
            while !self.readers.is_empty() && timeout(LINGER, self.read()).await.is_ok() {}
        };
        // A descendant may continue to print.
        let _ = timeout(MAX_LINGER, rest).await;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for number in 0..self.readers.len() {
            let mut buffer = [0; PIECE];
            let mut buffer = ReadBuf::new(&mut buffer);
            let from = Pin::new(&mut self.readers[number].from);
            let Poll::Ready(read) = from.poll_read(context, &mut buffer) else { continue };
            let bytes = buffer.filled();
            // A pseudoterminal that no process holds open reports EIO.
            if read.is_err() || bytes.is_empty() {
                self.readers.remove(number);
            } else {
                self.take(number, bytes);
            }
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Reads the output that is available, without waiting.
    pub(super) fn read_available(&mut self) {
        for number in 0..self.readers.len() {
            for _ in 0..MAX_PIECES {
                let mut buffer = [0; PIECE];
                match nix::unistd::read(&self.readers[number].from, &mut buffer) {
                    Ok(count @ 1..) => self.take(number, &buffer[..count]),
                    Err(Errno::EINTR) => {}
                    Ok(0) | Err(_) => break,
                }
            }
        }
    }

    fn take(&mut self, number: usize, bytes: &[u8]) {
        let reader = &mut self.readers[number];
        if let (Some(stream), Some(console)) = (reader.copy_to, &self.console) {
            match reader.into {
                // The output of a build is printed when the screen is free.
                Kept::Printed | Kept::Passed => console.say(stream, bytes),
                Kept::Withheld if self.is_shown.get() => console.say(stream, bytes),
                Kept::Withheld => {}
                Kept::Messages | Kept::Nothing | Kept::Searched => {
                    console.write(stream, bytes);
                }
            }
        }
        let kept = match reader.into {
            Kept::Printed | Kept::Withheld => &mut self.printed,
            Kept::Messages => &mut self.messages,
            Kept::Nothing | Kept::Passed => return,
            Kept::Searched => {
                let text = take_lines(&mut reader.line, bytes);
                if !text.is_empty() {
                    self.look_at(&text);
                }
                return;
            }
        };
        if reader.copy_to.is_some() {
            let room = MAX_KEPT.saturating_sub(kept.len());
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        } else {
            // Output that hotrun itself parses must be complete.
            kept.extend_from_slice(bytes);
        }
    }

    fn look_at(&mut self, lines: &[u8]) {
        for line in lines.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if let Some(search) = &mut self.search {
                search.is_found |= search.pattern.is_match(line);
            }
            self.taken.look_at(line);
        }
    }
}

/// Returns the lines that are complete now, without escape sequences. `line` keeps the incomplete
/// rest.
fn take_lines(line: &mut Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    line.extend_from_slice(bytes);
    let mut text = Vec::new();
    if let Some(end) = line.iter().rposition(|byte| *byte == b'\n') {
        text = without_escapes(&line[..end]);
        line.drain(..=end);
    }
    if line.len() > MAX_LINE {
        line.clear();
    }
    text
}

/// How programs report an address in use, and how they name a port.
static IN_USE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words = r"(?i-u)address (?:is )?already in use|address in use|EADDRINUSE|AddrInUse|\bErrno (?:48|98)\b|\bport:? \d+ (?:is|was) (?:already )?(?:in use|being used|used)";
    Regex::new(words).ok()
});
static PORT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i-u)(?::|, |\bport\b[^0-9a-z]{0,3})([0-9]{2,5})\b").ok());
static NAMED_PORT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i-u)\bport\b[^0-9a-z]{0,3}([0-9]{2,5})\b").ok());
/// Number of lines after that report in which the port may be named: Node prints an object.
const LINES_AFTER: u8 = 20;

/// Whether a program has reported an address in use, and which ports it has named.
#[derive(Debug, Default)]
struct TakenPorts {
    is_found: bool,
    ports: BTreeSet<u16>,
    lines_left: u8,
}

impl TakenPorts {
    fn look_at(&mut self, line: &[u8]) {
        let pattern = if IN_USE.as_ref().is_some_and(|pattern| pattern.is_match(line)) {
            self.is_found = true;
            self.lines_left = LINES_AFTER;
            &PORT
        } else if self.lines_left > 0 {
            self.lines_left -= 1;
            &NAMED_PORT
        } else {
            return;
        };
        let found = pattern.iter().flat_map(|pattern| pattern.captures_iter(line));
        let digits = found.filter_map(|found| found.get(1)).map(|found| found.as_bytes());
        let digits = digits.filter_map(|digits| std::str::from_utf8(digits).ok());
        self.ports.extend(digits.filter_map(|digits| digits.parse::<u16>().ok()));
    }
}

/// Removes the sequences that begin with ESC from terminal output.
pub(crate) fn without_escapes(said: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(said.len());
    let mut bytes = said.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != 0x1b {
            text.push(byte);
            continue;
        }
        match bytes.next() {
            // Colours and similar sequences end with a letter or one of `@[\\]^_{|}~`.
            Some(b'[') => while bytes.next().is_some_and(|byte| !(0x40..=0x7e).contains(&byte)) {},
            // Titles and links end with a bell, or with ESC and a backslash.
            Some(b']') => while bytes.next().is_some_and(|byte| byte != 0x07 && byte != b'\\') {},
            _ => {}
        }
    }
    text
}

impl Reader {
    fn new(from: OwnedFd, copy_to: Option<Stream>, into: Kept) -> io::Result<Self> {
        fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        fcntl(&from, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        // Unchecked, since a pseudoterminal is not a pipe; it can be polled like one.
        Ok(Self {
            from: pipe::Receiver::from_owned_fd_unchecked(from)?,
            copy_to,
            into,
            line: Vec::new(),
        })
    }
}

fn new_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader.into(), writer.into()))
}

fn window_size() -> Option<Winsize> {
    terminal_size::terminal_size().map(|(width, height)| Winsize {
        ws_row: height.0,
        ws_col: width.0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    })
}

fn pseudoterminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let pty = openpty(window_size().as_ref(), None)?;
    let mut modes = tcgetattr(&pty.slave)?;
    // hotrun's own terminal translates line ends, if necessary.
    modes.output_flags.remove(OutputFlags::OPOST);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &modes)?;
    fcntl(&pty.slave, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok((pty.master, pty.slave))
}

/// Whether both are the same file, terminal or pipe.
fn is_same(one: impl AsFd, other: impl AsFd) -> bool {
    let identity = |fd: BorrowedFd<'_>| -> io::Result<(u64, u64)> {
        let meta = File::from(fd.try_clone_to_owned()?).metadata()?;
        Ok((meta.dev(), meta.ino()))
    };
    match (identity(one.as_fd()), identity(other.as_fd())) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_was_said_without_escapes() {
        let said = b"\x1b[1;31merror\x1b[0m: \x1b]8;;http://x\x1b\\E1\x1b]8;;\x07 done\r\n\x1b";
        assert_eq!(without_escapes(said), b"error: E1 done\r\n");
    }

    #[test]
    fn the_port_that_is_in_use_is_read_from_what_programs_say() {
        for (said, ports) in [
            ("listen tcp 127.0.0.1:8080: bind: address already in use", Some(vec![8080])),
            (
                "[GIN-debug] [ERROR] listen tcp :8081: bind: address already in use",
                Some(vec![8081]),
            ),
            (
                "Error: listen EADDRINUSE: address already in use :::3000\n  code: 'EADDRINUSE',\n  \
                 errno: -98,\n  syscall: 'listen',\n  address: '::',\n  port: 3000\n",
                Some(vec![3000]),
            ),
            ("Address already in use\nPort 5000 is in use by another program.", Some(vec![5000])),
            (
                "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): \
                 address already in use",
                Some(vec![8000]),
            ),
            ("OSError: [Errno 98] Address already in use", Some(vec![])),
            ("Os { code: 98, kind: AddrInUse, message: \"Address already in use\" }", Some(vec![])),
            (
                "Address already in use - bind(2) for \"127.0.0.1\" port 9292 (Errno::EADDRINUSE)",
                Some(vec![9292]),
            ),
            ("Web server failed to start. Port 8080 was already in use.", Some(vec![8080])),
            (
                "Failed to listen on localhost:8000 (reason: Address already in use)",
                Some(vec![8000]),
            ),
            ("SyntaxError: invalid syntax (app.py, line 3000)", None),
            ("listening on port 3000", None),
        ] {
            let mut taken = TakenPorts::default();
            said.lines().for_each(|line| taken.look_at(line.as_bytes()));
            let found = taken.is_found.then(|| taken.ports.into_iter().collect::<Vec<_>>());
            assert_eq!(found, ports, "{said}");
        }
    }

    #[test]
    fn a_line_is_found_in_whatever_pieces_and_colours_it_comes() {
        let found_in = |pieces: &[&str]| {
            let pattern = Regex::new("(?m)^on port [0-9]+\r?$").unwrap();
            let mut line = Vec::new();
            pieces.iter().any(|piece| pattern.is_match(&take_lines(&mut line, piece.as_bytes())))
        };
        assert!(found_in(&["x\non port 80\ny"]));
        assert!(found_in(&["on p", "ort 8", "0\r\n"]));
        assert!(!found_in(&["on port 8"]), "more of it may come");
        assert!(found_in(&["on \u{1b}[1mport\u{1b}[0m 8", "\n"]));
        assert!(!found_in(&["not on port 80\n"]));
        assert!(!found_in(&["on\n port 80\n"]));
    }

    #[test]
    fn fuzz_what_a_program_prints_is_searched_in_whatever_pieces_it_comes() {
        let corpus = [
            "\u{1b}[1mlisten\u{1b}[0m EADDRINUSE: address already in use :::3000\r\n port: 3000\n",
        ];
        crate::fuzz::hammer(&corpus, &["\u{1b}[", "\u{1b}]0;", "\u{7}", "Errno 98"], |text| {
            assert!(without_escapes(text).len() <= text.len());
            let (mut line, mut taken) = (Vec::new(), TakenPorts::default());
            for piece in text.chunks(7) {
                for line in take_lines(&mut line, piece).split(|byte| *byte == b'\n') {
                    taken.look_at(line);
                }
            }
            assert!(line.len() <= MAX_LINE + 7);
        });
    }
}
