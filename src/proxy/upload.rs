//! Bodies of requests, and how far they have come.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Maximum time that a body waits for the program to ask for it (`Expect: 100-continue`). A client
/// waits no longer either.
const MAX_EXPECTED: Duration = Duration::from_secs(1);

/// How far the body of a request has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether all of it was sent.
    pub(super) has_ended: Cell<bool>,
    /// Whether the client has sent no whole body.
    pub(super) has_failed: Cell<bool>,
}

/// The body of a request on its way to the program.
pub(super) struct Upload {
    /// `None` if there is none.
    body: Option<Incoming>,
    progress: Rc<Progress>,
    /// Ready when the program has asked for the body, or has not for a while.
    gate: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Upload {
    pub(super) fn new(body: Incoming) -> Self {
        let progress = Rc::new(Progress::default());
        progress.has_ended.set(body.is_end_stream());
        Self { body: Some(body), progress, gate: None }
    }

    /// The body of a request without one, which is sent again.
    pub(super) fn empty(progress: Rc<Progress>) -> Self {
        Self { body: None, progress, gate: None }
    }

    /// Waits, before anything is read, until the program asks for the body.
    pub(super) fn wait_for(&mut self, asked: Arc<Notify>) {
        self.gate = Some(Box::pin(async move {
            let _ = timeout(MAX_EXPECTED, asked.notified()).await;
        }));
    }

    pub(super) fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.as_mut().poll(cx));
            self.gate = None;
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        let is_last = frame.is_none() || body.is_end_stream();
        self.progress.has_ended.set(is_last);
        self.progress.has_failed.set(matches!(frame, Some(Err(_))));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
