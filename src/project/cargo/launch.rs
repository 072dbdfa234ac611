//! What `cargo run` passes to the program that it starts: variables, and the runner.
//!
//! hotrun gets the variables from cargo: in a `cargo run` whose runner is hotrun itself, hotrun
//! prints its environment instead of running the program. See
//! <https://doc.rust-lang.org/cargo/reference/environment-variables.html>.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::settings::{Runner, variable_of_runner};

/// The first argument, by which hotrun detects that cargo runs it as a runner.
const WORD: &str = "__print-cargo-environment";
/// Marks the message about a build script, which contains what the script has set.
const BUILD_SCRIPT: &str = "\"build-script-executed\"";
/// Variables of the process itself, which are not taken from the answer.
const OWN: [&str; 6] = ["PWD", "OLDPWD", "SHLVL", "_", "MAKEFLAGS", "NOTIFY_SOCKET"];

/// Variables, as pairs of name and value.
pub type Variables = Vec<(OsString, OsString)>;

/// How `cargo run` starts the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The command that runs the program, if one is configured.
    pub runner: Option<Runner>,
    /// The cargo to ask.
    pub cargo: OsString,
    /// The arguments of `cargo run` that select the same program, with the same flags.
    pub run: Vec<OsString>,
    /// The command as the user would type it.
    pub label: String,
    /// The target of the build; empty if nothing depends on it.
    pub target: String,
    /// Configuration files of cargo and the toolchain. A change of these may change the plan.
    pub settings: Vec<PathBuf>,
    /// The manifests that determine the program's variables.
    pub manifests: Vec<PathBuf>,
}

impl Launch {
    /// Returns the command that prints the program's environment.
    pub fn question(&self) -> std::io::Result<Vec<OsString>> {
        let own = own_program()?;
        let own = own.to_string_lossy();
        let mut argv: Vec<OsString> = Vec::new();
        if !self.target.is_empty() {
            // The variable overrides every configured runner. `--config` cannot, since cargo
            // refuses to merge a list with a string.
            let variable = variable_of_runner(&self.target);
            argv.extend(["env".into(), format!("{variable}={own} {WORD}").into()]);
        }
        argv.extend([self.cargo.clone(), "run".into(), "-q".into()]);
        // If cargo builds for another target after all, the program must not run here.
        let guard = format!("target.'cfg(not(any()))'.runner=['{own}','{WORD}']");
        argv.extend(["--config".into(), guard.into()]);
        argv.extend(self.run.iter().cloned());
        Ok(argv)
    }

    /// Returns a digest of everything that the answer depends on. `messages` are those of the
    /// build.
    pub fn digest(&self, messages: &[u8], variables: &[(String, String)]) -> u64 {
        let lines = messages.lines().map_while(std::io::Result::ok);
        let mut scripts: Vec<String> = lines.filter(|line| line.contains(BUILD_SCRIPT)).collect();
        scripts.sort();
        let mut hasher = DefaultHasher::new();
        (&self.run, &self.target, scripts, variables).hash(&mut hasher);
        for file in self.settings.iter().chain(&self.manifests) {
            std::fs::read(file).ok().hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Returns a path to this program without blanks, at which cargo would split it.
#[cfg_attr(target_os = "linux", expect(clippy::unnecessary_wraps, reason = "not on every system"))]
fn own_program() -> std::io::Result<PathBuf> {
    #[cfg(target_os = "linux")]
    // Stays valid when the file is replaced.
    return Ok(format!("/proc/{}/exe", std::process::id()).into());
    #[cfg(not(target_os = "linux"))]
    {
        let path = std::env::current_exe()?;
        if path.to_string_lossy().contains([' ', '\'']) {
            let why = format!("{}: cargo cannot use a runner with a blank", path.display());
            return Err(std::io::Error::other(why));
        }
        Ok(path)
    }
}

/// Whether cargo runs hotrun as a runner with this command line.
pub fn is_question(mut args: impl Iterator<Item = OsString>) -> bool {
    args.nth(1).as_deref() == Some(OsStr::new(WORD))
}

/// Prints this process's environment instead of running the program.
pub fn answer() -> ExitCode {
    let variables: Variables = std::env::vars_os().collect();
    let printed = serde_json::to_vec(&variables)
        .map_err(std::io::Error::from)
        .and_then(|text| std::io::stdout().write_all(&text));
    if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the variables that cargo has added or changed.
pub fn added(
    answer: &[u8],
    target: &str,
    before: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Variables, String> {
    let mut all: Variables = serde_json::from_slice(answer)
        .map_err(|error| format!("unexpected output of `cargo run`: {error}"))?;
    let runner = variable_of_runner(target);
    all.retain(|(name, value)| {
        let text = name.to_string_lossy();
        let is_own = OWN.contains(&&*text) || text == *runner || text.starts_with("HOTRUN");
        !is_own && before(name).as_ref() != Some(value)
    });
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_adds_is_what_differs_and_is_not_of_the_process_itself() {
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let all = [
            pair("HOME", "/h"),
            pair("LD_LIBRARY_PATH", "/t:/u"),
            pair("CARGO_PKG_NAME", "app"),
            pair("PWD", "/elsewhere"),
            pair("HOTRUN_TREE", "1"),
            pair("CARGO_TARGET_A_B_RUNNER", "x"),
        ];
        let answer = serde_json::to_vec(&all).unwrap();
        let before = |name: &OsStr| match name.to_str() {
            Some("HOME") => Some("/h".into()),
            Some("LD_LIBRARY_PATH") => Some("/u".into()),
            _ => None,
        };
        let found = added(&answer, "a-b", before).unwrap();
        assert_eq!(found, [pair("LD_LIBRARY_PATH", "/t:/u"), pair("CARGO_PKG_NAME", "app")]);
        assert!(added(b"hello", "a-b", before).is_err());
    }

    #[test]
    fn the_digest_changes_with_build_scripts_variables_and_files() {
        let directory = tempfile::tempdir().unwrap();
        let manifest = directory.path().join("Cargo.toml");
        let launch = Launch { manifests: vec![manifest.clone()], ..Launch::default() };
        let digest = |messages: &str, value: &str| {
            launch.digest(messages.as_bytes(), &[("A".to_owned(), value.to_owned())])
        };
        let script = "{\"reason\":\"build-script-executed\",\"env\":[]}\n";
        let first = digest(script, "1");
        assert_eq!(digest(&format!("{script}{{\"reason\":\"build-finished\"}}\n"), "1"), first);
        assert_ne!(digest("", "1"), first);
        assert_ne!(digest(script, "2"), first);
        std::fs::write(manifest, "[package]").unwrap();
        assert_ne!(digest(script, "1"), first);
    }
}
