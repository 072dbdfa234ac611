//! The smallest file that is right for a project: what `hotrun` alone would do with it.

use std::path::Path;

use super::{Draft, First};
use crate::error::{Error, Result};
use crate::project::Kind;
use crate::project::guess::{self, Guess, Outcome};

const MORE: &str = "# Every key, explained: hotrun init --full";

/// What this directory is taken for.
///
/// # Errors
///
/// hotrun knows of no way to run it.
pub(super) fn guessed(directory: &Path) -> Result<Guess> {
    let place = directory.display();
    match guess::guess(directory) {
        Outcome::Found(guess) => Ok(*guess),
        Outcome::Unable { reason, remedy } | Outcome::Uninstalled { reason, remedy } => {
            Err(Error::failed(place, reason).remedy(remedy))
        }
        Outcome::Several(all) => {
            let (reason, commands) = guess::several(&all);
            let remedy = format!("these commands need no file:\n{commands}");
            Err(Error::failed(place, reason).remedy(remedy))
        }
        Outcome::Unknown => Err(Error::failed(place, "no project that hotrun knows").remedy(
            "`hotrun COMMAND` needs no file; `hotrun init --full` writes one to be filled in",
        )),
    }
}

/// The file.
///
/// # Errors
///
/// hotrun knows of no way to run what is here.
pub(super) fn small(directory: &Path) -> Result<First> {
    let text = match Kind::detect(directory) {
        Kind::Cargo(_) => by_itself("Cargo", "cargo build"),
        Kind::Go(_) => by_itself("Go", "go build"),
        Kind::Unknown => {
            let guess = guessed(directory)?;
            let draft = Draft {
                head: format!("{} ({})", guess.kind, guess.evidence),
                values: guess.values.iter().cloned().collect(),
                listeners: guess
                    .listen
                    .iter()
                    .map(|address| vec![("address", address.clone().into())])
                    .collect(),
                ..Draft::default()
            };
            let text = format!("{MORE}\n{}", draft.text());
            return Ok(First { text, kind: Some(guess.summary()), lost: Vec::new() });
        }
    };
    Ok(First { text: format!("{MORE}\n\n{text}"), ..First::default() })
}

/// hotrun knows these; nothing has to be configured.
fn by_itself(kind: &str, build: &str) -> String {
    format!(
        "# {kind}: hotrun runs {build} and starts the program without a configuration. What you \
         may\n# want to change:\n\n[build]\n\
         # args_bin = [\"--port\", \"3000\"]   # arguments for the program\n\
         # pre_cmd = [\"npm run css\"]       # before each build\n\n\
         [watch]\n# include = [\"config/**\"]         # more than the sources\n"
    )
}
