//! Waits for all children, and reports their exits to the tasks that have registered them.

use std::collections::HashMap;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Error, Result};
use crate::event::Ended;

/// The only code that waits for children. A child that was not registered is an orphan, and is
/// reaped as well.
#[derive(Clone)]
pub(super) struct Reaper {
    registrations: mpsc::UnboundedSender<(Pid, oneshot::Sender<Ended>)>,
    /// Children that were registered and have not been reaped. `register` adds a child at once: an
    /// unknown child would be taken for an orphan, and killed.
    known: watch::Sender<Vec<Pid>>,
}

impl Reaper {
    pub(super) fn start() -> Result<Self> {
        let (registrations, mut registered) =
            mpsc::unbounded_channel::<(Pid, oneshot::Sender<Ended>)>();
        let known = watch::Sender::new(Vec::new());
        let tell_known = known.clone();
        let mut children = signal(SignalKind::child())
            .map_err(|error| Error::failed("cannot listen for SIGCHLD", error))?;
        tokio::spawn(async move {
            let mut waiting = HashMap::new();
            loop {
                tokio::select! {
                    biased;
                    registration = registered.recv() => {
                        let Some((pid, exit)) = registration else { return };
                        waiting.insert(pid, exit);
                    }
                    told = children.recv() => {
                        if told.is_none() {
                            return;
                        }
                        while let Some((pid, change)) = reap() {
                            let Some(ended) = change else {
                                if waiting.contains_key(&pid) {
                                    // A guardian never has a reason to be stopped.
                                    let _ = kill(pid, Signal::SIGCONT);
                                }
                                continue;
                            };
                            let Some(exit) = waiting.remove(&pid) else {
                                tracing::debug!(%pid, %ended, "reaped an orphan");
                                continue;
                            };
                            tell_known.send_modify(|known| known.retain(|one| *one != pid));
                            // The receiver may have been dropped.
                            let _ = exit.send(ended);
                        }
                    }
                }
            }
        });
        Ok(Self { registrations, known })
    }

    /// Registers a child. Returns a receiver for its exit status. Must be called before the first
    /// await after the child was spawned.
    pub(super) fn register(&self, pid: Pid) -> oneshot::Receiver<Ended> {
        let (exit, receiver) = oneshot::channel();
        self.known.send_modify(|known| known.push(pid));
        // The reaper is gone when hotrun exits by a panic.
        let _ = self.registrations.send((pid, exit));
        receiver
    }

    /// Whether a child was registered and has not been reaped.
    pub(super) fn knows(&self, pid: Pid) -> bool {
        self.known.borrow().contains(&pid)
    }

    /// Kills every child that was registered and has not been reaped.
    pub(super) fn kill_all(&self) {
        for pid in self.known.borrow().iter() {
            let _ = kill(*pid, Signal::SIGKILL);
        }
    }

    /// Waits until all registered children have been reaped.
    pub(super) async fn until_nobody_is_left(&self) {
        let mut known = self.known.subscribe();
        // The reaper stops only when hotrun exits.
        let _ = known.wait_for(Vec::is_empty).await;
    }
}

/// Returns one child that has exited, or was stopped (`None`), if there is one. `waitpid` is used
/// instead of `waitid(P_ALL)`, since it also exists on macOS.
fn reap() -> Option<(Pid, Option<Ended>)> {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(pid, code)) => return Some((pid, Some(Ended::Code(code)))),
            Ok(WaitStatus::Signaled(pid, signal, core)) => {
                return Some((pid, Some(Ended::Signal { number: signal as i32, core })));
            }
            Ok(WaitStatus::Stopped(pid, _)) => return Some((pid, None)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::error!(%error, "waitpid");
                return None;
            }
        }
    }
}
