//! A delayed event: at most one of its kind, with all causes that arrive meanwhile.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::message::{FromEngine, Sender};
use crate::core::Input;
use crate::event::Cause;

/// The event that is delayed.
#[derive(Debug, Default)]
pub(super) struct Paused {
    /// The cause of the event. It stays after the event was sent, until it is cleared.
    pub(super) cause: Option<Cause>,
    task: Option<JoinHandle<()>>,
}

impl Paused {
    /// Sends this event after the delay, in place of a pending one.
    pub(super) fn begin(
        &mut self,
        inbox: &Sender,
        cause: Cause,
        pause: Duration,
        event: fn(Cause) -> Input,
    ) {
        self.clear();
        let (inbox, event) = (inbox.clone(), event(cause.clone()));
        self.task = Some(tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            inbox.send(FromEngine::Delayed(event));
        }));
        self.cause = Some(cause);
    }

    /// Drops the event: the build or the rules that start now read all files that it was for.
    pub(super) fn clear(&mut self) {
        self.cause = None;
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}
