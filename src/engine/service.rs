//! What each service has: its configuration, what it was built from, what it is run with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

use tokio::task::JoinHandle;

use super::Unread;
use super::checks::Checks;
use super::front::Front;
use super::launch::Given;
use super::listing::Listing;
use super::paused::Paused;
use super::program::Built;
use super::saves::{Late, Unexamined};
use crate::artifact::Artifacts;
use crate::config;
use crate::core::attribution::{Attribution, Fingerprints, Window};
use crate::filter::Filter;
use crate::listen::Listeners;
use crate::notice::Problem;
use crate::own_writes::OwnWrites;
use crate::present;

/// A service, as the engine keeps it beside the core's.
pub(super) struct ServiceHost {
    pub(super) config: config::Service,
    /// Classifies files, by the rules and filters of `config`.
    pub(super) filter: Rc<Filter>,

    // Saves
    /// Which files are written by builds.
    pub(super) attribution: Attribution,
    /// Which files are written by the program itself.
    pub(super) own_writes: OwnWrites,
    /// Saves that may be the program's own writes, and are handled later.
    pub(super) late: Late,
    pub(super) unexamined: Unexamined,
    pub(super) fingerprints: Fingerprints,
    /// Files that have changed since the app was started, and that it may read at its start.
    pub(super) unread: BTreeMap<PathBuf, Unread>,
    /// The changed files, for the next builds and apps.
    pub(super) changed: Vec<PathBuf>,

    // Builds and rules
    /// The time span of the last build, or of the last run of rules.
    pub(super) window: Option<Window>,
    /// Whether a build was requested since the app was started.
    pub(super) is_wanted: bool,
    /// A build that is delayed because builds seem to trigger each other.
    pub(super) paused_build: Paused,
    /// Rules that are delayed for the same reason.
    pub(super) paused_rules: Paused,
    /// Whether files changed while their own rule was running.
    pub(super) rules_cause_themselves: bool,
    /// How many times in a row that has happened.
    pub(super) rounds_of_rules: u32,
    pub(super) checks: Checks,
    /// Whether the running build, or the last one, is a verification.
    pub(super) verifies: bool,
    /// The state of the query to `go list`.
    pub(super) listing: Listing,
    /// The result of the last build that was not cancelled.
    pub(super) last_build: Option<present::Build>,
    /// Whether the last run of rules failed.
    pub(super) rules_failed: bool,
    /// Whether the build command runs a server, and so does not exit.
    pub(super) builds_serve: bool,
    /// The end of `build.delay`.
    pub(super) spacing: Option<JoinHandle<()>>,

    // Programs
    /// The program that was built last.
    pub(super) built: Built,
    /// The executable that the last successful build named.
    pub(super) executable: Option<PathBuf>,
    /// What `cargo run` would give the program.
    pub(super) given: Given,
    /// Good artifacts, for rollbacks.
    pub(super) artifacts: Artifacts,
    /// The proxy in front of the apps.
    pub(super) front: Front,
    /// Sockets that every app inherits.
    pub(super) listeners: Listeners,
    /// Variables for every process that hotrun starts.
    pub(super) env: Vec<(String, String)>,
    /// The variables with which the app was started.
    pub(super) app_env: Vec<(String, String)>,
    /// The last problem with an env file, so that it is not repeated.
    pub(super) told_env: Option<Problem>,
    /// Ports on which apps of this project have listened.
    pub(super) ports: BTreeSet<u16>,
    /// The port that was chosen for `run.port = "auto"`.
    pub(super) chosen_port: Option<u16>,
    /// Whether an app was ever started.
    pub(super) has_run: bool,
    /// Whether the last app that exited failed soon after its start.
    pub(super) has_failed_start: bool,
    /// The end of the backoff.
    pub(super) backoff: Option<JoinHandle<()>>,
}

impl ServiceHost {
    /// A service of which nothing was built or started. `ports`: where its apps have listened.
    pub(super) fn new(
        config: config::Service,
        listeners: Listeners,
        front: Front,
        artifacts: Artifacts,
        ports: BTreeSet<u16>,
    ) -> Self {
        Self {
            filter: Rc::new(Filter::new(config.watch.clone())),
            config,
            attribution: Attribution::default(),
            own_writes: OwnWrites::default(),
            late: Late::default(),
            unexamined: Unexamined::new(),
            fingerprints: Fingerprints::default(),
            unread: BTreeMap::new(),
            changed: Vec::new(),
            window: None,
            is_wanted: false,
            paused_build: Paused::default(),
            paused_rules: Paused::default(),
            rules_cause_themselves: false,
            rounds_of_rules: 0,
            checks: Checks::default(),
            verifies: false,
            listing: Listing::default(),
            last_build: None,
            rules_failed: false,
            builds_serve: false,
            spacing: None,
            built: Built::default(),
            executable: None,
            given: Given::default(),
            artifacts,
            front,
            listeners,
            env: Vec::new(),
            app_env: Vec::new(),
            told_env: None,
            ports,
            chosen_port: None,
            has_run: false,
            has_failed_start: false,
            backoff: None,
        }
    }

    /// Another configuration of its filters takes effect.
    pub(super) fn judge_anew(&mut self) {
        self.filter = Rc::new(Filter::new(self.config.watch.clone()));
    }
}
