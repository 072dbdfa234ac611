//! What `cargo run` gives the program that it starts: variables, and the runner.
//!
//! Cargo is asked for the variables: in a `cargo run` whose runner is hotrun itself, hotrun
//! prints what it was given instead of running the program.
//! See <https://doc.rust-lang.org/cargo/reference/environment-variables.html>.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::settings::{Runner, variable_of_runner};

/// The first argument by which hotrun knows that cargo runs it as a runner.
const WORD: &str = "__print-cargo-environment";
/// The message of a build script; it says what the script set.
const BUILD_SCRIPT: &str = "\"build-script-executed\"";
/// Variables of the process itself, which no child is to inherit from the answer.
const OWN: [&str; 6] = ["PWD", "OLDPWD", "SHLVL", "_", "MAKEFLAGS", "NOTIFY_SOCKET"];

/// Variables, as pairs of name and value.
pub type Variables = Vec<(OsString, OsString)>;

/// How `cargo run` starts the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The command that runs the program, if one is configured.
    pub runner: Option<Runner>,
    /// The cargo that is asked.
    pub cargo: OsString,
    /// The arguments of its `run` that select the same program, with the same flags.
    pub run: Vec<OsString>,
    /// The same as a person would type it.
    pub label: String,
    /// The target that is built for; empty if nothing depends on it.
    pub target: String,
    /// Configuration of cargo and of the toolchain. A change of these may change the plan.
    pub settings: Vec<PathBuf>,
    /// The manifests that the program's variables are from.
    pub manifests: Vec<PathBuf>,
}

impl Launch {
    /// The command that prints what the program would be given.
    pub fn question(&self) -> std::io::Result<Vec<OsString>> {
        let own = own_program()?;
        let own = own.to_string_lossy();
        let mut argv: Vec<OsString> = Vec::new();
        if !self.target.is_empty() {
            // The variable overrides every configured runner, whatever its form. `--config`
            // cannot: cargo refuses to merge a list with a text.
            let variable = variable_of_runner(&self.target);
            argv.extend(["env".into(), format!("{variable}={own} {WORD}").into()]);
        }
        argv.extend([self.cargo.clone(), "run".into(), "-q".into()]);
        // Should cargo build for another target after all, the program must not run here.
        let guard = format!("target.'cfg(not(any()))'.runner=['{own}','{WORD}']");
        argv.extend(["--config".into(), guard.into()]);
        argv.extend(self.run.iter().cloned());
        Ok(argv)
    }

    /// A digest of all that the answer depends on. `messages` are those of the build.
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

/// A path to this program without blanks, which cargo would take for the ends of words.
#[cfg_attr(target_os = "linux", expect(clippy::unnecessary_wraps, reason = "not on every system"))]
fn own_program() -> std::io::Result<PathBuf> {
    #[cfg(target_os = "linux")]
    // Also right when the file has been replaced since.
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

/// True for the command line by which cargo runs hotrun as a runner.
pub fn is_question(mut args: impl Iterator<Item = OsString>) -> bool {
    args.nth(1).as_deref() == Some(OsStr::new(WORD))
}

/// Prints this process's environment in the place of the program.
pub fn answer() -> ExitCode {
    let variables: Variables = std::env::vars_os().collect();
    let printed = serde_json::to_vec(&variables)
        .map_err(std::io::Error::from)
        .and_then(|text| std::io::stdout().write_all(&text));
    if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What an answer adds to the environment that the question was asked in.
pub fn added(
    answer: &[u8],
    target: &str,
    before: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Variables, String> {
    let mut all: Variables = serde_json::from_slice(answer)
        .map_err(|error| format!("cargo run printed something else: {error}"))?;
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
