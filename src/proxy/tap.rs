//! Connections whose received bytes are looked at as they arrive.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Maximum time for which the rest of a message is received after the connection is closed for
/// sending.
const MAX_LINGER: Duration = Duration::from_secs(2);

/// A connection of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Looks at bytes as they arrive.
pub(super) trait Tap {
    /// Looks at these bytes. Returns how many of them are received.
    fn passes(&mut self, arrived: &[u8]) -> Passes;

    /// Whether the other side is in the middle of a message. Closing the connection then would make
    /// the system discard what was sent to it.
    fn is_within_message(&self) -> bool {
        false
    }

    /// Whether the other side may have sent an answer before it stopped to receive. What it does not
    /// receive is then no error: whether it has ended is found out by receiving.
    fn may_answer_early(&self) -> bool {
        false
    }
}

/// How many of the bytes that have arrived are received.
#[derive(Clone, Copy, Debug)]
pub(super) enum Passes {
    All,
    /// The first of them, and then these instead of all that would follow.
    Until(usize, &'static [u8]),
    None,
}

/// A connection with a tap.
pub(super) struct Tapped<S, T> {
    stream: S,
    tap: T,
    /// What is received next, instead of what arrives.
    instead: &'static [u8],
    /// While the rest of a message is being received and discarded.
    lingers: Option<Pin<Box<Sleep>>>,
}

impl<S, T> Tapped<S, T> {
    pub(super) fn new(stream: S, tap: T) -> Self {
        Self { stream, tap, instead: &[], lingers: None }
    }
}

impl<S: AsyncRead + Unpin, T: Tap + Unpin> AsyncRead for Tapped<S, T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.instead.is_empty() {
                let (now, later) = this.instead.split_at(this.instead.len().min(buf.remaining()));
                buf.put_slice(now);
                this.instead = later;
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let arrived = &buf.filled()[before..];
            // Nothing arrives any more.
            if arrived.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match this.tap.passes(arrived) {
                Passes::All => {}
                Passes::Until(0, instead) => {
                    buf.set_filled(before);
                    this.instead = instead;
                    continue;
                }
                Passes::Until(count, instead) => {
                    buf.set_filled(before + count);
                    this.instead = instead;
                }
                Passes::None => {
                    buf.set_filled(before);
                    continue;
                }
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl<S, T: Tap> Tapped<S, T> {
    /// The result of writing this number of bytes.
    fn written(&self, result: io::Result<usize>, count: usize) -> io::Result<usize> {
        result.or_else(|error| if self.tap.may_answer_early() { Ok(count) } else { Err(error) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, T: Tap + Unpin> AsyncWrite for Tapped<S, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(self.written(result, bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingers.is_none() {
            let result = ready!(Pin::new(&mut this.stream).poll_shutdown(cx));
            if result.is_err() || !this.tap.is_within_message() {
                return Poll::Ready(result);
            }
        }
        let until = this.lingers.get_or_insert_with(|| Box::pin(sleep(MAX_LINGER)));
        let mut space = [0; 8 << 10];
        while until.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut space);
            let received = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf));
            if received.is_err() || buf.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, parts));
        Poll::Ready(self.written(result, parts.iter().map(|part| part.len()).sum()))
    }
}
