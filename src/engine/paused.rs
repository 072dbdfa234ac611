//! An event that comes later: at most one of its kind, for all that has gathered meanwhile.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use crate::event::{Cause, Event, Message};

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Paused {
    /// What the event will say; also when it was sent, and not cleared since.
    pub(super) cause: Option<Cause>,
    task: Option<JoinHandle<()>>,
}

impl Paused {
    /// Sends this event after the pause, in the place of one that waits.
    pub(super) fn begin(
        &mut self,
        inbox: &UnboundedSender<Message>,
        cause: Cause,
        pause: Duration,
        event: fn(Cause) -> Event,
    ) {
        self.clear();
        let (inbox, event) = (inbox.clone(), event(cause.clone()));
        self.task = Some(tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // The inbox closes when hotrun ends.
            let _ = inbox.send(event.into());
        }));
        self.cause = Some(cause);
    }

    /// Whatever begins now reads all that waited.
    pub(super) fn clear(&mut self) {
        self.cause = None;
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}
