//! Where a source reports what has happened: the engine's one inbox, seen as a place for messages of
//! one type.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

/// A place to send messages of one type. Clones send to the same place.
pub(crate) struct Inbox<T>(Arc<dyn Post<T> + Send + Sync>);

trait Post<T> {
    fn send(&self, message: T) -> bool;
    fn is_closed(&self) -> bool;
}

/// An inbox for more than one type of message, and how to wrap those of one type.
struct Wrapping<M, F> {
    sender: UnboundedSender<M>,
    wrap: F,
}

impl<T, M, F: Fn(T) -> M> Post<T> for Wrapping<M, F> {
    fn send(&self, message: T) -> bool {
        self.sender.send((self.wrap)(message)).is_ok()
    }

    fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl<T> Inbox<T> {
    /// A view of an inbox, for messages that become part of its own.
    pub(crate) fn new<M: Send + 'static>(
        sender: &UnboundedSender<M>,
        wrap: impl Fn(T) -> M + Send + Sync + 'static,
    ) -> Self
    where
        T: 'static,
    {
        Self(Arc::new(Wrapping { sender: sender.clone(), wrap }))
    }

    /// Sends a message, without waiting. Returns whether it will be read: messages are, until
    /// hotrun exits.
    pub(crate) fn send(&self, message: T) -> bool {
        self.0.send(message)
    }

    /// Whether hotrun exits, so that messages are no longer read.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}
