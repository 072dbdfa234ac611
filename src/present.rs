//! The present: what is being made, who serves, and since when. It is derived from the state of
//! the core, so it cannot contradict it.

use serde::{Deserialize, Serialize};

use crate::core::supervisor;

/// What others can know of a running hotrun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Present {
    pub pid: u32,
    /// The configuration file that was read, if any.
    pub file: Option<String>,
    /// The newest update: the number of the last burst of saves, or request.
    pub update: u64,
    /// Whether saves are collected and not acted on.
    pub is_paused: bool,
    /// Whether hotrun is shutting down.
    pub is_ending: bool,
    pub services: Vec<Service>,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Service {
    pub making: Making,
    pub serving: Serving,
    /// Whether the newest sources are what serves, or what a library was checked with.
    pub is_newest: bool,
    /// The result of the last build that was not cancelled.
    pub build: Option<Build>,
    /// The app that serves, else the one that starts.
    pub program: Option<Program>,
    /// The URL of the proxy in front of it.
    pub proxy: Option<String>,
}

/// What is being made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Making {
    #[default]
    Nothing,
    /// A build or a rule is due: it waits, or is about to start.
    Due,
    /// A build or a rule runs.
    Building,
    /// What was built is about to replace the program.
    Installing,
}

/// Who serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Serving {
    #[default]
    Nothing,
    /// A program is about to start.
    Due,
    /// A program was started and is not ready.
    Starting,
    /// A program serves, or runs without evidence of that.
    Ready,
    /// A program serves, and the one that is to replace it is not ready.
    Replacing,
}

/// The result of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Build {
    pub succeeded: bool,
    /// The update that it has read.
    pub update: u64,
    /// Its duration, in milliseconds.
    pub ms: u64,
    /// How many errors it has reported, as far as hotrun recognises them.
    pub errors: usize,
}

/// An app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    /// The number of its start.
    pub generation: u32,
    /// The newest update that it reflects: after a rollback, that of the build that it is from.
    pub update: u64,
    pub pid: Option<i32>,
    /// Its address, if known.
    pub url: Option<String>,
    /// When it was started, in milliseconds since 1970.
    pub since: u64,
}

impl Present {
    /// A few lines for people.
    pub(crate) fn described(&self) -> String {
        let mut text: String = self.services.iter().map(Service::described).collect();
        if self.is_ending {
            text.push_str("hotrun   exiting\n");
        } else if self.is_paused {
            text.push_str("hotrun   paused: changes are built when you resume (p)\n");
        }
        text
    }
}

impl Service {
    fn described(&self) -> String {
        let program = self.program.as_ref().map(|program| {
            let url = program.url.as_ref().map(|url| format!(" · {url}")).unwrap_or_default();
            let pid = program.pid.map(|pid| format!(" · pid {pid}")).unwrap_or_default();
            format!("{url}{pid} · generation {}", program.generation)
        });
        let serving = match self.serving {
            Serving::Nothing => "not running",
            Serving::Due => "about to start",
            Serving::Starting => "starting",
            Serving::Ready => "running",
            Serving::Replacing => "running, a newer one is starting",
        };
        let making = match (self.making, self.build) {
            (Making::Due, _) => "due".to_owned(),
            (Making::Building, _) => "in progress".to_owned(),
            (Making::Installing, _) => "done, the program is about to be replaced".to_owned(),
            (Making::Nothing, None) => "none yet".to_owned(),
            (Making::Nothing, Some(Build { succeeded: true, ms, .. })) => {
                format!("succeeded in {ms} ms")
            }
            (Making::Nothing, Some(Build { errors, ms, .. })) => {
                let errors = match errors {
                    0 => String::new(),
                    1 => ", 1 error".to_owned(),
                    more => format!(", {more} errors"),
                };
                format!("failed after {ms} ms{errors}")
            }
        };
        let newest = if self.is_newest { "yes" } else { "no" };
        let program = program.unwrap_or_default();
        let proxy = self.proxy.as_ref().map(|url| format!("proxy    {url}\n")).unwrap_or_default();
        format!("program  {serving}{program}\n{proxy}build    {making}\nnewest   {newest}\n")
    }
}

impl From<supervisor::Making> for Making {
    fn from(making: supervisor::Making) -> Self {
        match making {
            supervisor::Making::Idle => Making::Nothing,
            supervisor::Making::Due => Making::Due,
            supervisor::Making::Running => Making::Building,
            supervisor::Making::Installing => Making::Installing,
        }
    }
}

impl From<supervisor::Serving> for Serving {
    fn from(serving: supervisor::Serving) -> Self {
        match serving {
            supervisor::Serving::Down => Serving::Nothing,
            supervisor::Serving::Due => Serving::Due,
            supervisor::Serving::Starting => Serving::Starting,
            supervisor::Serving::Ready => Serving::Ready,
            supervisor::Serving::Replacing => Serving::Replacing,
        }
    }
}
