//! SIGINT, SIGTERM, SIGHUP and SIGQUIT to hotrun, as events.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use crate::error::{Error, Result};
use crate::event::{Event, Message};

/// Tells the inbox of every signal that asks hotrun to end.
pub fn listen(inbox: &UnboundedSender<Message>) -> Result<()> {
    let kinds = [
        (SignalKind::interrupt(), 1),
        (SignalKind::terminate(), 1),
        (SignalKind::hangup(), 1),
        // Ctrl-\\: as if asked twice, everything is killed.
        (SignalKind::quit(), 2),
    ];
    for (kind, times) in kinds {
        let signals =
            signal(kind).map_err(|error| Error::failed("cannot listen for signals", error))?;
        tokio::spawn(tell(signals, times, inbox.clone()));
    }
    Ok(())
}

async fn tell(mut signals: Signal, times: usize, inbox: UnboundedSender<Message>) {
    while signals.recv().await.is_some() {
        for _ in 0..times {
            if inbox.send(Event::Interrupted.into()).is_err() {
                return;
            }
        }
    }
}
