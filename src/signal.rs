//! SIGINT, SIGTERM and SIGHUP to hotrun, as events.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use crate::error::{Error, Result};
use crate::event::{Event, Message};

/// Tells the inbox of every signal that asks hotrun to end.
pub fn listen(inbox: &UnboundedSender<Message>) -> Result<()> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let signals =
            signal(kind).map_err(|error| Error::failed("cannot listen for signals", error))?;
        tokio::spawn(tell(signals, inbox.clone()));
    }
    Ok(())
}

async fn tell(mut signals: Signal, inbox: UnboundedSender<Message>) {
    while signals.recv().await.is_some() {
        if inbox.send(Event::Interrupted.into()).is_err() {
            return;
        }
    }
}
