//! What there is once, however many services there are.

use std::collections::HashSet;

use tokio::sync::oneshot;

use super::Told;
use super::display::Display;
use super::message::Sender;
use super::terminal::Seat;
use crate::config::{Config, Options, Project, Service};
use crate::control::Server;
use crate::error::Result;
use crate::lock::Lock;
use crate::process::Processes;
use crate::recording::Recorder;
use crate::report::Report;
use crate::watch::Watch;

/// The parts of the engine that services share.
pub(super) struct Host {
    pub(super) options: Options,
    pub(super) project: Project,
    /// The configuration that was read last. It takes effect when the next build starts.
    pub(super) next: Option<(Project, Service)>,
    /// The configuration that is being read.
    pub(super) loading: Option<oneshot::Receiver<Result<Config>>>,
    pub(super) processes: Processes,
    pub(super) watch: Option<Watch>,
    pub(super) report: Report,
    /// The parts of the screen that are not lines of the log.
    pub(super) display: Display,
    /// The terminal and its current owner.
    pub(super) seat: Seat,
    /// Whether Ctrl-C was typed.
    pub(super) has_heard_ctrl_c: bool,
    pub(super) recorder: Option<Recorder>,
    /// Where to send the answer to an order from another process.
    pub(super) asked: Option<oneshot::Sender<std::result::Result<String, String>>>,
    /// The control socket; closed on drop.
    pub(super) _control: Option<Server>,
    /// The lock on this configuration; released on drop.
    pub(super) lock: Option<Lock>,
    /// Messages that were printed, and are not repeated.
    pub(super) told: HashSet<Told>,
    pub(super) sender: Sender,
}
