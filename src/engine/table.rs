//! Everything that was started and is not gone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::diagnostics::Diagnostics;
use crate::event::{Proc, Role};
use crate::present;
use crate::ready::Probe;
use crate::record::{self, Leave, Limit, Purpose, Which};

/// All processes, by hotrun's own numbers for them.
#[derive(Default)]
pub(super) struct Table {
    entries: BTreeMap<Proc, Entry>,
}

/// What is known of a process.
pub(super) struct Entry {
    pub(super) role: Role,
    /// The number of an app's start.
    pub(super) generation: Option<u32>,
    /// The update that it was started in.
    pub(super) update: u64,
    pub(super) began: Instant,
    /// The same for people.
    started: SystemTime,
    pub(super) pid: Option<i32>,
    /// Its process group. A process that takes the place of the first one may be in the group of
    /// that one.
    pub(super) group: Option<Pid>,
    /// When it was asked to exit.
    pub(super) dismissed: Option<Instant>,
    /// When its first process exited.
    pub(super) ended: Option<Instant>,
    /// Whether no process of its tree is left.
    is_gone: bool,
    /// After what time it is killed.
    pub(super) limit: Option<Limit>,
    /// Its address, once it is ready and if that is known.
    pub(super) address: Option<SocketAddr>,
    /// The port that hotrun gave it.
    pub(super) given_port: Option<u16>,
    /// Whether it is ready, or counts as running.
    pub(super) serves: bool,
    /// Whether it has run for a while without evidence that it serves.
    pub(super) is_running: bool,
    /// Whether its output passes through hotrun.
    pub(super) is_read: bool,
    /// The ports, if known, that it reported to be in use.
    pub(super) taken: Option<BTreeSet<u16>>,
    /// Why it was not ready in time.
    pub(super) unready: Option<String>,
    /// Whether it asked for more time to exit, and was granted it.
    pub(super) is_extended: bool,
    /// The last signal that the user has had sent to it.
    pub(super) signalled: Option<Signal>,
    /// The purpose of a build.
    pub(super) purpose: Purpose,
    /// Whether its output is withheld, and was not printed since.
    pub(super) is_withheld: bool,
    /// The command line of the program, as shown to the user.
    pub(super) label: String,
    /// The errors and warnings of a failed build.
    pub(super) diagnostics: Diagnostics,
    /// Output of a build that hotrun parses.
    pub(super) messages: Vec<u8>,
    /// Output of a build for the user, where it is kept.
    pub(super) printed: Vec<u8>,
    /// Detects when an app is ready.
    pub(super) probe: Option<Probe>,
}

impl Entry {
    /// A process that starts now.
    pub(super) fn new(role: Role, update: u64) -> Self {
        Self {
            role,
            generation: None,
            update,
            began: Instant::now(),
            started: SystemTime::now(),
            pid: None,
            group: None,
            dismissed: None,
            ended: None,
            is_gone: false,
            limit: None,
            address: None,
            given_port: None,
            serves: false,
            is_running: false,
            is_read: false,
            taken: None,
            unready: None,
            is_extended: false,
            signalled: None,
            purpose: Purpose::default(),
            is_withheld: false,
            label: String::new(),
            diagnostics: Diagnostics::default(),
            messages: Vec::new(),
            printed: Vec::new(),
            probe: None,
        }
    }

    pub(super) fn is_app(&self) -> bool {
        self.role == Role::App
    }

    /// Whether it was asked to exit.
    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed.is_some()
    }

    /// Time since its start.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// An app as others see it.
    pub(super) fn present(&self) -> Option<present::Program> {
        let since = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some(present::Program {
            generation: self.generation?,
            update: self.update,
            pid: self.pid,
            url: self.url(),
            since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn url(&self) -> Option<String> {
        self.address.map(|address| format!("http://{address}"))
    }

    /// Whether its first process runs.
    pub(super) fn is_alive(&self) -> bool {
        self.pid.is_some() && self.ended.is_none()
    }
}

impl Table {
    pub(super) fn insert(&mut self, proc: Proc, entry: Entry) {
        self.entries.insert(proc, entry);
    }

    pub(super) fn get(&self, proc: Proc) -> Option<&Entry> {
        self.entries.get(&proc)
    }

    pub(super) fn get_mut(&mut self, proc: Proc) -> Option<&mut Entry> {
        self.entries.get_mut(&proc)
    }

    /// Notes that no process of its tree is left. What follows may still be about it.
    pub(super) fn mark_gone(&mut self, proc: Proc) {
        if let Some(entry) = self.entries.get_mut(&proc) {
            entry.is_gone = true;
        }
    }

    /// Drops a process that is gone.
    pub(super) fn remove(&mut self, proc: Proc) {
        self.entries.remove(&proc);
    }

    /// What a process was started for, unless it is gone.
    pub(super) fn role(&self, proc: Proc) -> Option<Role> {
        self.get(proc).filter(|entry| !entry.is_gone).map(|entry| entry.role)
    }

    pub(super) fn is_app(&self, proc: Proc) -> bool {
        self.role(proc) == Some(Role::App)
    }

    /// Notes that an app is ready, or counts as running.
    pub(super) fn serves(&mut self, app: Proc) {
        if let Some(entry) = self.entries.get_mut(&app) {
            entry.serves = true;
        }
    }

    pub(super) fn is_dismissed(&self, proc: Proc) -> bool {
        self.get(proc).is_some_and(Entry::is_dismissed)
    }

    pub(super) fn pid(&self, proc: Proc) -> Option<i32> {
        self.get(proc)?.pid
    }

    pub(super) fn probe(&self, proc: Proc) -> Option<&Probe> {
        self.get(proc)?.probe.as_ref()
    }

    pub(super) fn probes(&self) -> impl Iterator<Item = &Probe> {
        self.entries.values().filter_map(|entry| entry.probe.as_ref())
    }

    pub(super) fn purpose(&self, proc: Proc) -> Purpose {
        self.get(proc).map(|entry| entry.purpose).unwrap_or_default()
    }

    /// The apps that are not gone, in the order of their starts.
    pub(super) fn apps(&self) -> impl Iterator<Item = (Proc, &Entry)> {
        let apps = self.entries.iter().filter(|(_, entry)| entry.is_app() && !entry.is_gone);
        apps.map(|(proc, entry)| (*proc, entry))
    }

    /// What is known of all processes now, for a record.
    pub(super) fn known(&self) -> Vec<record::Process> {
        let all = self.entries.iter();
        all.map(|(proc, entry)| record::Process {
            proc: *proc,
            role: entry.role,
            generation: entry.generation,
            pid: entry.pid,
            which: entry.is_app().then(|| self.which(entry)),
            age: entry.age(),
            leave: entry.dismissed.map(|dismissed| Leave {
                since: dismissed.elapsed(),
                exited_after: entry.ended.is_some_and(|ended| ended >= dismissed),
                is_extended: entry.is_extended,
            }),
            limit: entry.limit.clone(),
            url: entry.url(),
            is_running: entry.is_running,
            unready: entry.unready.clone(),
            signalled: entry.signalled,
            purpose: entry.purpose,
            label: entry.label.clone(),
            diagnostics: entry.diagnostics.clone(),
        })
        .collect()
    }

    fn which(&self, app: &Entry) -> Which {
        let others = self.entries.values().filter(|one| one.is_app() && one.is_alive());
        let (mut is_older, mut is_newer) = (false, false);
        for other in others {
            is_older |= app.began < other.began;
            is_newer |= app.began > other.began;
        }
        match (is_older, is_newer) {
            (true, _) => Which::Previous,
            (false, true) => Which::New,
            (false, false) => Which::Only,
        }
    }
}
