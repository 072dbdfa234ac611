//! Bodies of answers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body_util::Full;
use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::upstream::Lease;

/// The body of an answer.
pub(super) enum Answer {
    /// hotrun's own.
    Own(Full<Bytes>),
    /// The program's.
    Passed(Passed),
}

/// The body of a program's answer. The request counts as under way until it is dropped.
pub(super) struct Passed {
    body: Incoming,
    lease: Option<Lease>,
    has_ended: bool,
}

impl Answer {
    pub(super) fn text(text: String) -> Self {
        Answer::Own(Full::new(Bytes::from(text)))
    }

    pub(super) fn passed(body: Incoming, lease: Option<Lease>) -> Self {
        Answer::Passed(Passed { body, lease, has_ended: false })
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Answer::Own(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| match frame {
                    Ok(frame) => Ok(frame),
                    Err(never) => match never {},
                }))
            }
            Answer::Passed(passed) => {
                let frame = ready!(Pin::new(&mut passed.body).poll_frame(cx));
                passed.has_ended |= frame.is_none();
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Own(body) => body.is_end_stream(),
            Answer::Passed(passed) => passed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Own(body) => body.size_hint(),
            Answer::Passed(passed) => passed.body.size_hint(),
        }
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        let has_ended = self.has_ended || self.body.is_end_stream();
        if let Some(lease) = self.lease.take().filter(|_| has_ended) {
            lease.give_back();
        }
    }
}

/// Whether the body of this answer is a stream of events without an end.
pub(super) fn is_endless(headers: &HeaderMap) -> bool {
    let kind = headers.get(hyper::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("text/event-stream")
    })
}
