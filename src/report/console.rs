//! hotrun's own stdout and stderr. Their reader may be slow, may have paused the terminal with
//! Ctrl-S, or may be gone. None of this blocks hotrun.
//!
//! What can be written at once is written. The rest is queued for a thread that may block.
//!
//! While a program uses the whole screen, lines of hotrun and of builds are held back until it
//! leaves the screen. They would garble the picture, and be lost with it.

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

/// Bytes that a writable pipe takes without blocking (`PIPE_BUF` on Linux).
const PIECE: usize = 4096;
/// Maximum size of the queue, in bytes. Above it, output that is only copied is no longer read.
const MAX_QUEUED: usize = 1 << 20;

/// Maximum size of the lines that are held back, in bytes; the newest are kept.
const MAX_HELD: usize = 8 << 20;

/// Delay between a program leaving raw mode and the first line: many programs restore the modes
/// before they leave the alternate screen.
pub(crate) const LEAVES_SCREEN: Duration = Duration::from_millis(20);

/// Number of threads that hotrun needs at its start, beside the one that writes.
const THREADS: usize = 4;

/// One of hotrun's own streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Carries the app's stdout.
    Stdout,
    /// Carries hotrun's lines.
    Stderr,
}

/// Writes to both streams, in the order of the calls.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    queue: mpsc::Sender<(Stream, Vec<u8>)>,
    /// How many bytes are queued or being written.
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
    /// Whether the current line was written by [`Console::show_for_now`].
    is_for_now: Cell<bool>,
    /// When something was last written.
    last: Cell<Instant>,
    /// Whether what was written last ended a line.
    is_at_start: Cell<bool>,
}

/// Returns to the first column, and erases the line.
const ERASE_LINE: &[u8] = b"\r\x1b[K";

/// Lines that are held back while a program uses the whole screen.
#[derive(Debug, Default)]
struct Held {
    /// Whether the app has the terminal, so that it may use the whole screen.
    is_possible: Cell<bool>,
    pieces: RefCell<VecDeque<(Stream, Vec<u8>)>>,
    size: Cell<usize>,
    /// When the program was first seen to have restored the modes.
    left: Cell<Option<Instant>>,
}

impl Console {
    /// Starts the thread that writes.
    ///
    /// # Errors
    ///
    /// Fails if not enough threads can be started for all of hotrun. Without this check, the thread
    /// that reads file events would fail silently.
    pub(crate) fn new() -> Result<Self> {
        Self::start().map_err(|error| {
            Error::failed("no thread can be started", error)
                .remedy("allow more processes (ulimit -u; in a container, --pids-limit)")
        })
    }

    fn start() -> io::Result<Self> {
        let (ended, end) = io::pipe()?;
        for _ in 0..THREADS {
            let mut ended = ended.try_clone()?;
            // The thread exits when the other end is closed.
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
        let shown = Shown {
            is_for_now: Cell::new(false),
            last: Cell::new(Instant::now()),
            is_at_start: Cell::new(true),
        };
        let (held, paused) = (Rc::default(), Rc::default());
        Ok(Self { queue, queued, held, shown: Rc::new(shown), paused })
    }

    /// Writes at once if possible, or soon.
    pub(crate) fn write(&self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(pieces) = &mut *self.paused.borrow_mut() {
            // As part of the queue, so that nothing is read without limit.
            self.queued.send_modify(|queued| *queued += bytes.len());
            return pieces.push((stream, bytes.to_vec()));
        }
        self.shown.last.set(Instant::now());
        self.shown.is_at_start.set(bytes.ends_with(b"\n"));
        if self.shown.is_for_now.take() {
            self.enqueue(Stream::Stderr, ERASE_LINE);
        }
        self.enqueue(stream, bytes);
    }

    /// Writes a line to the terminal on stderr that is erased before anything else is written.
    pub(crate) fn show_for_now(&self, line: &str) {
        // An unfinished line may be a prompt.
        let is_free = self.shown.is_at_start.get()
            && self.held.pieces.borrow().is_empty()
            && self.paused.borrow().is_none()
            && !is_raw(Stream::Stderr);
        if is_free && is_terminal(Stream::Stderr) {
            self.shown.is_for_now.set(true);
            self.enqueue(Stream::Stderr, &[ERASE_LINE, line.as_bytes()].concat());
        }
    }

    /// Erases the line that [`Self::show_for_now`] has written, if nothing else was written since.
    pub(crate) fn erase_for_now(&self) {
        if self.shown.is_for_now.take() {
            self.enqueue(Stream::Stderr, ERASE_LINE);
        }
    }

    /// Returns the time since something was last written.
    pub(crate) fn silence(&self) -> Duration {
        self.shown.last.get().elapsed()
    }

    fn enqueue(&self, stream: Stream, bytes: &[u8]) {
        let mut rest = bytes;
        // A terminal is reported writable when it has room for a single byte.
        let may_write = *self.queued.borrow() == 0 && !is_terminal(stream);
        while !rest.is_empty() && may_write && is_writable(stream) {
            match write(stream, &rest[..rest.len().min(PIECE)]) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                // The reader is gone, which must not stop hotrun.
                Err(_) => return,
            }
        }
        if rest.is_empty() {
            return;
        }
        self.queued.send_modify(|queued| *queued += rest.len());
        // The thread runs until hotrun exits.
        let _ = self.queue.send((stream, rest.to_vec()));
    }

    /// Writes output of hotrun or a build once no program uses the whole screen.
    pub(crate) fn say(&self, stream: Stream, bytes: &[u8]) {
        self.release();
        let is_raw = is_raw(stream);
        let others_wait = !self.held.pieces.borrow().is_empty();
        if others_wait || (is_raw && self.held.is_possible.get()) {
            self.held.push(stream, bytes);
        } else if is_raw {
            // In this mode the terminal does not return the cursor to the first column.
            self.write(stream, &with_carriage_returns(bytes));
        } else {
            self.write(stream, bytes);
        }
    }

    /// Sets whether the app has the terminal, so that it may use the whole screen.
    pub(crate) fn hold(&self, is_possible: bool) {
        self.held.is_possible.set(is_possible);
        self.release();
    }

    /// Writes the lines that were held back once the screen has been free for [`LEAVES_SCREEN`].
    pub(crate) fn release(&self) {
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

    /// Returns true while lines wait for a program that seems to have left the screen.
    pub(crate) fn is_about_to_release(&self) -> bool {
        self.held.left.get().is_some() && !self.held.pieces.borrow().is_empty()
    }

    /// Keeps what is written from now on until [`Self::resume`].
    pub(crate) fn pause(&self) {
        self.paused.borrow_mut().get_or_insert_default();
    }

    /// Writes `first`, and then what was kept.
    pub(crate) fn resume(&self, first: &[u8]) {
        let pieces = self.paused.borrow_mut().take().unwrap_or_default();
        self.write(Stream::Stderr, first);
        for (stream, bytes) in pieces {
            self.queued.send_modify(|queued| *queued -= bytes.len());
            self.write(stream, &bytes);
        }
    }

    /// Waits until the queue has room.
    pub(crate) async fn room(&self) {
        self.below(MAX_QUEUED).await;
    }

    /// Waits until everything is written, at most for this time.
    pub(crate) async fn flush(&self, most: Duration) {
        let _ = tokio::time::timeout(most, self.below(1)).await;
    }

    async fn below(&self, limit: usize) {
        if *self.queued.borrow() >= limit {
            // `self` holds a sender, so this cannot fail.
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

/// Returns true for a terminal that does not process output: a program uses the whole screen.
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
            // Another process that shares the stream, such as node, has made it non-blocking.
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
