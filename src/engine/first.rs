//! Before the loop starts: takes the lock, and loads the configuration for the first time.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::sleep;

use crate::config::{self, Config, Options};
use crate::control;
use crate::error::Result;
use crate::lock::{Lock, Outcome};
use crate::process;
use crate::project::Ask;
use crate::report::Report;

/// Interval at which files with errors are polled. Nothing is watched yet, and nothing else runs.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Interval at which a lock is retried whose holder is exiting.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// Delay before a note names the hotrun that holds the lock.
const NOTE_DELAY: Duration = Duration::from_secs(1);

/// Takes the lock, so that no other hotrun runs with this configuration. Waits for a holder that is
/// exiting; `--takeover` asks any holder to exit. `--once` needs no lock.
///
/// # Errors
///
/// Another hotrun holds the lock.
pub(super) async fn lock(options: &Options) -> Result<Option<Lock>> {
    if options.once {
        return Ok(None);
    }
    let began = Instant::now();
    let (mut asked, mut told) = (String::new(), String::new());
    loop {
        let holder = match Lock::take(options) {
            Outcome::Free(lock) => {
                if let Some(lock) = lock.as_ref().filter(|lock| !lock.killed.is_empty()) {
                    process::until_guardians_have_ended(&lock.killed).await;
                }
                return Ok(lock);
            }
            Outcome::Held(holder) => holder,
        };
        let is_asked = options.takeover && !holder.owner.is_empty();
        if !is_asked && !holder.is_ending {
            return Err(holder.error(&options.directory));
        }
        if is_asked && !holder.is_ending && holder.owner != asked {
            control::take_over(&holder.owner, &options.directory);
            asked.clone_from(&holder.owner);
        }
        if began.elapsed() > NOTE_DELAY && holder.owner != told {
            let pid = holder.pid();
            Report::note(&format!(
                "waiting for pid {pid} to stop its program; press Ctrl-C to exit"
            ));
            told = holder.owner;
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Loads the configuration. An error in a file, such as a manifest that cargo cannot parse, is
/// reported once; then this waits until the file changes.
pub(super) async fn load(options: &Options, ask: &impl Ask) -> Result<Config> {
    let mut told = String::new();
    loop {
        let began = SystemTime::now();
        let error = match config::load(options, ask).await {
            Err(error) if !options.once && !error.files().is_empty() => error,
            outcome => return outcome,
        };
        let text = error.to_string();
        if text != told {
            Report::error(&error);
            Report::note("waiting until this is fixed; Ctrl-C exits");
            told = text;
        }
        let files: Vec<PathBuf> =
            error.files().iter().cloned().chain(config::found(options)).collect();
        let before = digest(&files);
        while !changed_since(&files, began) && digest(&files) == before {
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// Whether a file was written while the configuration was being read.
fn changed_since(files: &[PathBuf], began: SystemTime) -> bool {
    let changed = |file: &PathBuf| {
        let at = file.metadata().and_then(|meta| meta.modified());
        at.is_ok_and(|at| (began..=SystemTime::now()).contains(&at))
    };
    files.iter().any(changed)
}

fn digest(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        // Reading a file that is not a regular file may block forever.
        file.is_file().then(|| std::fs::read(file).ok()).hash(&mut hasher);
    }
    hasher.finish()
}
