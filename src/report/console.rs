//! hotrun's own stdout and stderr. Whoever reads them may be slow, may have stopped the
//! terminal with Ctrl-S, or may have gone: none of these holds hotrun up.
//!
//! What can be written at once is; the rest is queued for a thread that may wait.
//!
//! While a program draws on the whole screen, lines of hotrun and of builds are kept until it has
//! left it: they would spoil the picture, and be lost with it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{OutputFlags, tcgetattr};
use tokio::sync::watch;

use crate::error::{Error, Result};

/// As many bytes as a pipe that is writable takes without waiting (`PIPE_BUF` on Linux).
const PIECE: usize = 4096;
/// With more bytes than this queued, nothing more is read that is only to be written.
const MOST_QUEUED: usize = 1 << 20;

/// Maximum size of the lines that are held back, in bytes; the newest are kept.
const MAX_HELD: usize = 8 << 20;

/// Delay between a program leaving raw mode and the first line: many programs restore the modes
/// before they leave the alternate screen.
pub(crate) const LEAVES_SCREEN: Duration = Duration::from_millis(20);

/// As many threads as hotrun needs when it begins, beside the one that writes.
const THREADS: usize = 4;

/// Which of hotrun's own streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The app's.
    Stdout,
    /// hotrun's.
    Stderr,
}

/// Writes to both streams, in the order in which it is told to.
#[derive(Clone, Debug)]
pub struct Console {
    queue: mpsc::Sender<(Stream, Vec<u8>)>,
    /// So many bytes are queued, or being written.
    queued: watch::Sender<usize>,
    held: Rc<Held>,
    shown: Rc<Shown>,
    /// While output is paused: what was written since, in order.
    paused: Rc<RefCell<Option<Pieces>>>,
}

type Pieces = Vec<(Stream, Vec<u8>)>;

/// What is on the terminal.
#[derive(Debug)]
struct Shown {
    /// The current line was written by [`Console::show_for_now`].
    is_for_now: Cell<bool>,
    /// When something was written last.
    last: Cell<Instant>,
}

/// Returns to the first column, and erases the line.
const ERASE_LINE: &[u8] = b"\r\x1b[K";

/// What is written when the screen is free.
#[derive(Debug, Default)]
struct Held {
    /// A program of hotrun's has the terminal.
    is_possible: Cell<bool>,
    pieces: RefCell<VecDeque<(Stream, Vec<u8>)>>,
    size: Cell<usize>,
    /// When the program was first seen to have put the modes back.
    left: Cell<Option<Instant>>,
}

impl Console {
    /// Starts the thread that writes.
    ///
    /// # Errors
    ///
    /// Not as many threads can be started as hotrun needs. (The one that reads file events would
    /// fail without a word.)
    pub fn new() -> Result<Self> {
        Self::start().map_err(|error| {
            Error::failed("no thread can be started", error)
                .remedy("allow more processes (ulimit -u; in a container, --pids-limit)")
        })
    }

    fn start() -> io::Result<Self> {
        let (ended, end) = io::pipe()?;
        for _ in 0..THREADS {
            let mut ended = ended.try_clone()?;
            // It ends when the other end is closed.
            thread::Builder::new().spawn(move || ended.read(&mut [0]))?;
        }
        drop(end);
        let (queue, pieces) = mpsc::channel::<(Stream, Vec<u8>)>();
        let queued = watch::Sender::new(0);
        let written = queued.clone();
        thread::Builder::new().name("console".to_owned()).spawn(move || {
            while let Ok((stream, bytes)) = pieces.recv() {
                write_all(stream, &bytes);
                written.send_modify(|queued| *queued -= bytes.len());
            }
        })?;
        let shown = Shown { is_for_now: Cell::new(false), last: Cell::new(Instant::now()) };
        let (held, paused) = (Rc::default(), Rc::default());
        Ok(Self { queue, queued, held, shown: Rc::new(shown), paused })
    }

    /// Writes, now or soon.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(pieces) = &mut *self.paused.borrow_mut() {
            // As part of the queue, so that nothing is read without limit.
            self.queued.send_modify(|queued| *queued += bytes.len());
            return pieces.push((stream, bytes.to_vec()));
        }
        self.shown.last.set(Instant::now());
        if self.shown.is_for_now.take() {
            self.enqueue(Stream::Stderr, ERASE_LINE);
        }
        self.enqueue(stream, bytes);
    }

    /// Writes a line to the terminal on stderr that is erased before anything else is written.
    pub fn show_for_now(&self, line: &str) {
        let is_free = self.held.pieces.borrow().is_empty() && !is_raw(Stream::Stderr);
        if is_free && is_terminal(Stream::Stderr) {
            self.shown.is_for_now.set(true);
            self.enqueue(Stream::Stderr, &[ERASE_LINE, line.as_bytes()].concat());
        }
    }

    /// How long nothing has been written.
    pub fn silence(&self) -> Duration {
        self.shown.last.get().elapsed()
    }

    fn enqueue(&self, stream: Stream, bytes: &[u8]) {
        let mut rest = bytes;
        // A terminal says that it is writable when it has room for a single byte.
        let may_write = *self.queued.borrow() == 0 && !is_terminal(stream);
        while !rest.is_empty() && may_write && is_writable(stream) {
            match write(stream, &rest[..rest.len().min(PIECE)]) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                // Whoever reads has gone: that is no reason to stop.
                Err(_) => return,
            }
        }
        if rest.is_empty() {
            return;
        }
        self.queued.send_modify(|queued| *queued += rest.len());
        // The thread ends with hotrun.
        let _ = self.queue.send((stream, rest.to_vec()));
    }

    /// Writes what hotrun or a build has to say, when the screen is free.
    pub fn say(&self, stream: Stream, bytes: &[u8]) {
        self.release();
        let is_raw = is_raw(stream);
        let others_wait = !self.held.pieces.borrow().is_empty();
        if others_wait || (is_raw && self.held.is_possible.get()) {
            self.held.push(stream, bytes);
        } else if is_raw {
            // The terminal itself does not return the cursor to the first column.
            self.write(stream, &with_carriage_returns(bytes));
        } else {
            self.write(stream, bytes);
        }
    }

    /// From now on a program of hotrun's has the terminal, or has it no longer.
    pub fn hold(&self, is_possible: bool) {
        self.held.is_possible.set(is_possible);
        self.release();
    }

    /// Writes the lines that were held back once the screen has been free for [`LEAVES_SCREEN`].
    pub fn release(&self) {
        let first = self.held.pieces.borrow().front().map(|(stream, _)| *stream);
        let Some(stream) = first else { return };
        if self.held.is_possible.get() {
            if is_raw(stream) {
                self.held.left.set(None);
                return;
            }
            let left = self.held.left.get().unwrap_or_else(Instant::now);
            self.held.left.set(Some(left));
            if left.elapsed() < LEAVES_SCREEN {
                return;
            }
        }
        self.held.left.set(None);
        self.held.size.set(0);
        let pieces = std::mem::take(&mut *self.held.pieces.borrow_mut());
        for (stream, bytes) in pieces {
            self.say(stream, &bytes);
        }
    }

    /// Whether lines wait for a program that seems to have left the screen.
    pub fn is_about_to_release(&self) -> bool {
        self.held.left.get().is_some() && !self.held.pieces.borrow().is_empty()
    }

    /// Keeps what is written from now on until [`Self::resume`].
    pub fn pause(&self) {
        self.paused.borrow_mut().get_or_insert_default();
    }

    /// Writes `first`, and then what was kept.
    pub fn resume(&self, first: &[u8]) {
        let pieces = self.paused.borrow_mut().take().unwrap_or_default();
        self.write(Stream::Stderr, first);
        for (stream, bytes) in pieces {
            self.queued.send_modify(|queued| *queued -= bytes.len());
            self.write(stream, &bytes);
        }
    }

    /// Waits until there is room for more.
    pub async fn room(&self) {
        self.below(MOST_QUEUED).await;
    }

    /// Waits until all is written, but not longer than this.
    pub async fn flush(&self, most: Duration) {
        let _ = tokio::time::timeout(most, self.below(1)).await;
    }

    async fn below(&self, limit: usize) {
        if *self.queued.borrow() >= limit {
            // The sender is here, so that there is no error to be had.
            let _ = self.queued.subscribe().wait_for(|queued| *queued < limit).await;
        }
    }
}

impl Held {
    fn push(&self, stream: Stream, bytes: &[u8]) {
        let mut pieces = self.pieces.borrow_mut();
        let mut size = self.size.get() + bytes.len();
        pieces.push_back((stream, bytes.to_vec()));
        while size > MAX_HELD
            && let Some((_, oldest)) = pieces.pop_front()
        {
            size -= oldest.len();
        }
        self.size.set(size);
    }
}

/// True for a terminal that leaves line ends as they are: a program on the whole screen has it.
fn is_raw(stream: Stream) -> bool {
    let modes = match stream {
        Stream::Stdout => tcgetattr(io::stdout()),
        Stream::Stderr => tcgetattr(io::stderr()),
    };
    modes.is_ok_and(|modes| !modes.output_flags.contains(OutputFlags::OPOST))
}

fn with_carriage_returns(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len());
    for byte in text {
        if *byte == b'\n' && lines.last() != Some(&b'\r') {
            lines.push(b'\r');
        }
        lines.push(*byte);
    }
    lines
}

fn write_all(stream: Stream, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        match write(stream, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR) => {}
            // Somebody who shares the stream, such as node, has made it non-blocking.
            Err(Errno::EAGAIN) => {
                let _ = is_ready(stream, PollTimeout::NONE);
            }
            Err(_) => return,
        }
    }
}

fn write(stream: Stream, bytes: &[u8]) -> nix::Result<usize> {
    match stream {
        Stream::Stdout => nix::unistd::write(io::stdout(), bytes),
        Stream::Stderr => nix::unistd::write(io::stderr(), bytes),
    }
}

fn is_terminal(stream: Stream) -> bool {
    match stream {
        Stream::Stdout => io::stdout().is_terminal(),
        Stream::Stderr => io::stderr().is_terminal(),
    }
}

fn is_writable(stream: Stream) -> bool {
    is_ready(stream, PollTimeout::ZERO)
}

fn is_ready(stream: Stream, timeout: PollTimeout) -> bool {
    let ready = |fd: BorrowedFd<'_>| {
        let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
        poll(&mut fds, timeout).is_ok_and(|count| count > 0)
    };
    match stream {
        Stream::Stdout => ready(io::stdout().as_fd()),
        Stream::Stderr => ready(io::stderr().as_fd()),
    }
}
