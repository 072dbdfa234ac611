//! Signals to hotrun, as messages.

use nix::sys::signal::Signal as Name;
#[cfg(target_os = "linux")]
use nix::sys::{
    signal::SigSet,
    signalfd::{SfdFlags, SignalFd},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, Result};
use crate::inbox::Inbox;
use crate::process::is_ignored;
#[cfg(target_os = "linux")]
use crate::process::watch_signals;

/// What a signal to hotrun means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FromSignal {
    /// SIGTERM or SIGHUP.
    Interrupted,
    /// SIGINT, as sent by Ctrl-C.
    CtrlC,
    Suspend,
    /// hotrun was continued, or moved to the foreground or background.
    Continued,
    /// The terminal was resized.
    Resized,
    /// The signal is for the app.
    ForApp(Name),
}

#[derive(Clone, Copy)]
enum Meaning {
    /// A request to shut down, this many times.
    End(usize),
    CtrlC,
    Suspend,
    /// `fg` or `bg`.
    Continue,
    /// The terminal was resized.
    Resize,
    /// The signal is forwarded to the app.
    ForApp(Name),
}

/// Reports every signal that hotrun handles to the inbox.
pub(crate) fn listen(inbox: &Inbox<FromSignal>) -> Result<()> {
    let kinds = [
        (Name::SIGINT, Meaning::CtrlC),
        (Name::SIGTERM, Meaning::End(1)),
        (Name::SIGHUP, Meaning::End(1)),
        // Ctrl-\: counts as two requests, so everything is killed.
        (Name::SIGQUIT, Meaning::End(2)),
        (Name::SIGTSTP, Meaning::Suspend),
        (Name::SIGCONT, Meaning::Continue),
        (Name::SIGWINCH, Meaning::Resize),
        (Name::SIGUSR1, Meaning::ForApp(Name::SIGUSR1)),
        (Name::SIGUSR2, Meaning::ForApp(Name::SIGUSR2)),
    ];
    for (name, meaning) in kinds {
        // Under `nohup`, hotrun must ignore SIGHUP. Where Ctrl-Z is ignored, it must not stop
        // hotrun.
        if matches!(name, Name::SIGHUP | Name::SIGTSTP) && is_ignored(name) {
            continue;
        }
        #[cfg(target_os = "linux")]
        if name == Name::SIGTSTP {
            forward_pending(name, meaning, inbox.clone())?;
            continue;
        }
        let signals = signal(SignalKind::from_raw(name as i32))
            .map_err(|error| Error::failed("cannot listen for signals", error))?;
        tokio::spawn(forward(signals, meaning, inbox.clone()));
    }
    Ok(())
}

/// Reports a blocked signal, and leaves it pending.
#[cfg(target_os = "linux")]
fn forward_pending(name: Name, meaning: Meaning, inbox: Inbox<FromSignal>) -> Result<()> {
    let failed = |error| Error::failed("cannot listen for signals", error);
    let mut signals = SigSet::empty();
    signals.add(name);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let pending = SignalFd::with_flags(&signals, flags).map_err(|errno| failed(errno.into()))?;
    let pending = watch_signals(pending).map_err(failed)?;
    tokio::spawn(async move {
        while let Ok(mut is_pending) = pending.readable().await {
            // Becomes ready again when the signal is sent again, since nothing reads it.
            is_pending.clear_ready();
            if !inbox.send(message(meaning)) {
                return;
            }
        }
    });
    Ok(())
}

async fn forward(mut signals: Signal, meaning: Meaning, inbox: Inbox<FromSignal>) {
    while signals.recv().await.is_some() {
        let times = if let Meaning::End(times) = meaning { times } else { 1 };
        for _ in 0..times {
            if !inbox.send(message(meaning)) {
                return;
            }
        }
    }
}

fn message(meaning: Meaning) -> FromSignal {
    match meaning {
        Meaning::End(_) => FromSignal::Interrupted,
        Meaning::CtrlC => FromSignal::CtrlC,
        Meaning::Suspend => FromSignal::Suspend,
        Meaning::Continue => FromSignal::Continued,
        Meaning::Resize => FromSignal::Resized,
        Meaning::ForApp(name) => FromSignal::ForApp(name),
    }
}
