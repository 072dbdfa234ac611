//! What others can know of the engine: the present, and each thing that happens, as a record.

use std::cell::RefCell;
use std::collections::HashSet;
use std::mem::Discriminant;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::core::ServiceId;
use crate::notice::Notice;
use crate::present::Present;
use crate::record::{Process, Record};

/// Makes records, and numbers updates.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    present: watch::Sender<Present>,
    /// The newest update.
    newest: u64,
    /// The newest update that the next app reflects.
    for_app: u64,
    /// The notices that are recorded only once, and were.
    once: RefCell<HashSet<Discriminant<Notice>>>,
}

impl Publisher {
    /// The present, for those who want to see it change.
    pub(super) fn present(&self) -> watch::Receiver<Present> {
        self.present.subscribe()
    }

    /// Shows what is the present now.
    pub(super) fn publish(&self, present: impl FnOnce() -> Present) {
        self.present.send_if_modified(|shown| {
            let now = present();
            std::mem::replace(shown, now.clone()) != now
        });
    }

    /// Notes that something was saved or requested. Everything that follows from it belongs to a
    /// new update.
    pub(super) fn begin_update(&mut self) {
        self.newest += 1;
    }

    /// Notes that the next app reflects everything up to this update, which a build has read.
    pub(super) fn app_gets(&mut self, update: u64) {
        self.for_app = self.for_app.max(update);
    }

    /// Notes that the next app itself reads what the newest update is about.
    pub(super) fn app_gets_newest(&mut self) {
        self.for_app = self.newest;
    }

    /// The newest update that the next app reflects.
    pub(super) fn reaches_app(&self) -> u64 {
        self.for_app
    }

    /// The newest update.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Returns the record of a notice; `None` if it was made before and is made only once.
    pub(super) fn record(
        &self,
        notice: Notice,
        update: Option<u64>,
        proxy: Option<String>,
        processes: Vec<Process>,
    ) -> Option<Record> {
        let is_once = matches!(notice, Notice::RollbackPossible | Notice::Assumed(_));
        if is_once && !self.once.borrow_mut().insert(std::mem::discriminant(&notice)) {
            return None;
        }
        Some(Record {
            at: SystemTime::now(),
            service: ServiceId::ONLY,
            update: update.unwrap_or(self.newest),
            notice,
            proxy,
            processes,
        })
    }
}
