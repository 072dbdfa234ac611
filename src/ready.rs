//! When does a new app serve?

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use crate::event::{Event, Message, Proc};

/// An app that has lived this long has got over the errors of its start.
const LIVED: Duration = Duration::from_millis(100);

/// Tells the inbox when this app serves. Abort it when the app ends.
pub fn probe(proc: Proc, inbox: UnboundedSender<Message>) -> JoinHandle<()> {
    tokio::spawn(async move {
        tokio::time::sleep(LIVED).await;
        // The inbox closes when hotrun ends.
        let _ = inbox.send(Event::Ready(proc).into());
    })
}
