//! What arrives in the engine's inbox: a type for each source.

use tokio::sync::mpsc::UnboundedSender;

use crate::artifact::Copied;
use crate::control::Request;
use crate::core::Input;
use crate::event::{Proc, Timer};
use crate::inbox::Inbox;
use crate::keys::FromTerminal;
use crate::listen::ListenerShut;
use crate::notice::Notice;
use crate::own_writes::Evidence;
use crate::process::FromProcess;
use crate::proxy::FromProxy;
use crate::ready::FromProbe;
use crate::signal::FromSignal;
use crate::watch::FromWatch;

#[derive(Debug)]
pub(super) enum Message {
    Watch(FromWatch),
    Process(Proc, FromProcess),
    Probe(Proc, FromProbe),
    Terminal(FromTerminal),
    Signal(FromSignal),
    Control(Request),
    Listener(ListenerShut),
    Proxy(FromProxy),
    Artifact(Copied),
    Engine(FromEngine),
}

/// What tasks of the engine itself report.
#[derive(Debug)]
pub(super) enum FromEngine {
    /// hotrun has started.
    Start,
    /// A deadline of the core has passed.
    Due(Timer),
    /// The delay of an input is over.
    Delayed(Input),
    /// Whether there is an older good artifact has changed.
    Fallback(bool),
    /// The delay of postponed saves is over.
    ChangedLate,
    /// The configuration was read again.
    Loaded,
    /// `go list` has listed the program's source files.
    Listed,
    /// Whether the program has written to files, for the burst that waits for that.
    Examined(Evidence),
    /// There is nothing to start; the reason.
    NotStarted(Proc, String),
    /// Requests to an app have had their time to end.
    DrainOver(Proc),
    /// The app was started from an artifact that has proven good.
    Proven(Proc),
    /// The app has not exited after SIGINT; its configured signal is due.
    AskAgain(Proc),
    /// A program that fails for want of its port can be restarted: the port is free now.
    PortFreed,
    /// A running build may have been silent for some time.
    Tick,
    /// The greeting has waited long enough for the number of files.
    Introduce,
    /// It is time to poll the terminal's modes.
    LookAtTerminal,
    /// The line that reports that this process has the terminal is written.
    TerminalAnnounced(Proc),
    /// The owner of the terminal has had its time to stop reading for this process.
    LoanDue(Proc),
    /// hotrun was stopped, and continues; the terminal has to be given back to its owner.
    TerminalContinued,
    /// A started program has had time to read the terminal's modes.
    HasBegun,
    Say(Notice),
}

/// The views of the inbox for each source.
#[derive(Clone, Debug)]
pub(super) struct Sender(UnboundedSender<Message>);

impl Sender {
    pub(super) fn new(sender: UnboundedSender<Message>) -> Self {
        Self(sender)
    }

    /// Sends a message of the engine itself. Returns whether it will be read: messages are, until
    /// hotrun exits.
    pub(super) fn send(&self, message: FromEngine) -> bool {
        self.0.send(Message::Engine(message)).is_ok()
    }

    /// Whether hotrun exits, so that messages are no longer read.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// The inbox for one source, whose messages `wrap` makes the engine's own.
    pub(super) fn inbox<T: 'static>(
        &self,
        wrap: impl Fn(T) -> Message + Send + Sync + 'static,
    ) -> Inbox<T> {
        Inbox::new(&self.0, wrap)
    }
}
