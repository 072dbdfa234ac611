//! Queries to cargo and rustc about a project.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use cargo_metadata::cargo_platform::Cfg;
use cargo_metadata::{Metadata, MetadataCommand};

use super::{Ask, Question, program, settings};
use crate::error::{Error, Result};

/// Cargo's name for the target on which it runs.
pub(super) const HOST: &str = "host-tuple";

/// A query about a project, with fallbacks.
pub(super) struct Asking<'a> {
    /// The directory in which cargo runs, and the manifest.
    pub(super) place: (&'a Path, &'a Path),
    /// The flags of the build.
    pub(super) flags: &'a [String],
    /// The targets of the build; none means the host.
    pub(super) targets: &'a [String],
}

/// An answer to a query.
pub(super) struct Asked {
    pub(super) metadata: Metadata,
    /// A warning, if the answer is incomplete.
    pub(super) warning: Option<String>,
}

impl Asking<'_> {
    /// Asks cargo about the targets of the build: packages for other targets may not have been
    /// downloaded. If that fails, asks without the network, and then only for the contents of the
    /// manifests. An error is that of the first attempt.
    pub(super) async fn ask(&self, rustc: &OsStr, ask: &impl Ask) -> Result<Asked> {
        let mut platforms = self.platforms(HOST);
        let mut first = self.once(&platforms, ask).await;
        if let Err(error) = &first
            && error.reason().contains(HOST)
        {
            // An older cargo requires the name of the host.
            let host = host(rustc, self.place.0, ask).await;
            platforms = host.map(|host| self.platforms(&host)).unwrap_or_default();
            first = self.once(&platforms, ask).await;
        }
        let error = match first {
            Ok(metadata) => return Ok(Asked { metadata, warning: None }),
            Err(error) if !error.is_by_command() => return Err(error),
            Err(error) => error,
        };
        platforms.push("--offline".into());
        if let Ok(metadata) = self.once(&platforms, ask).await {
            return Ok(Asked { metadata, warning: None });
        }
        let Ok(metadata) = self.once(&["--no-deps".into()], ask).await else { return Err(error) };
        // The build will most likely report the full error.
        let lines = error.reason().lines();
        let why = lines.clone().find(|line| line.starts_with("error")).or(lines.last());
        let warning = format!(
            "cargo metadata: {}; until this is fixed, hotrun watches the packages that the \
             manifests name",
            why.unwrap_or("it failed")
        );
        Ok(Asked { metadata, warning: Some(warning) })
    }

    fn platforms(&self, host: &str) -> Vec<OsString> {
        // `cargo metadata` does not accept the file of a target specification.
        let named = self.targets.iter().filter(|target| !settings::is_specification(target));
        let all = named.map(String::as_str).filter(|target| *target != HOST).chain([host]);
        all.flat_map(|target| ["--filter-platform".into(), target.into()]).collect()
    }

    async fn once(&self, more: &[OsString], ask: &impl Ask) -> Result<Metadata> {
        let (directory, manifest) = self.place;
        let mut argv: Vec<OsString> =
            vec![program(), "metadata".into(), "--format-version=1".into()];
        argv.extend(["--manifest-path".into(), manifest.into()]);
        argv.extend(feature_flags(self.flags).map(OsString::from));
        argv.extend(more.iter().cloned());
        let answer = ask.ask(Question { argv, directory: directory.to_owned() }).await?;
        let unreadable = |why: String| Error::failed("cargo metadata", why);
        let text = String::from_utf8(answer).map_err(|error| unreadable(error.to_string()))?;
        MetadataCommand::parse(text).map_err(|error| unreadable(error.to_string()))
    }
}

/// The flags that affect dependencies.
fn feature_flags(flags: &[String]) -> impl Iterator<Item = &String> {
    let after_features = |place: usize| {
        place > 0 && flags[place - 1] == "--features" && flags[place] != "--features"
    };
    flags
        .iter()
        .enumerate()
        .filter(move |(place, flag)| flag.contains("features") || after_features(*place))
        .map(|(_, flag)| flag)
}

/// Returns the name of the target on which rustc runs. Without it, only `cfg` keys can select a
/// runner.
pub(super) async fn host(rustc: &OsStr, directory: &Path, ask: &impl Ask) -> Option<String> {
    let argv = vec![rustc.to_owned(), "-vV".into()];
    let answer = ask.ask(Question { argv, directory: directory.to_owned() }).await.ok()?;
    let text = String::from_utf8(answer).ok()?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(String::from)
}

/// Returns the values with which `cfg` expressions about this target are compared.
pub(super) async fn cfg(
    rustc: &OsStr,
    target: &str,
    directory: &Path,
    ask: &impl Ask,
) -> Result<Vec<Cfg>> {
    let mut argv = vec![rustc.to_owned(), "--print".into(), "cfg".into()];
    if !target.is_empty() {
        argv.extend(["--target".into(), target.into()]);
    }
    let answer = ask.ask(Question { argv, directory: directory.to_owned() }).await?;
    Ok(settings::cfg_values(&String::from_utf8_lossy(&answer)))
}

/// Adds the files in which the error may be fixed: the manifests here and above, `more`, and those
/// that the error names.
pub(super) fn with_files(error: Error, manifest: &Path, more: Vec<PathBuf>) -> Error {
    let above = manifest.ancestors().skip(1).map(|place| place.join("Cargo.toml"));
    let text = error.to_string();
    let named = text.split('`').map(PathBuf::from).filter(|path| path.is_absolute());
    let named = named.map(|path| if path.is_dir() { path.join("Cargo.toml") } else { path });
    let files = above.chain(more).chain(named).collect();
    error.lies_in(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flags_that_choose_features_are_for_cargo_metadata() {
        let flags = ["--release", "--features", "a,b", "--all-features"].map(String::from);
        let kept: Vec<_> = feature_flags(&flags).collect();
        assert_eq!(kept, ["--features", "a,b", "--all-features"]);
    }

    #[test]
    fn cargo_is_asked_about_the_host_and_the_targets_that_have_a_name() {
        let targets = ["wasm32-wasip1", "specs/my.json"].map(String::from);
        let place = (Path::new("/p"), Path::new("/p/Cargo.toml"));
        let asking = Asking { place, flags: &[], targets: &targets };
        let expected =
            ["--filter-platform", "wasm32-wasip1", "--filter-platform", "x86_64-apple-darwin"];
        assert_eq!(asking.platforms("x86_64-apple-darwin"), expected);
    }

    #[test]
    fn an_error_lies_in_the_manifests_above_and_in_the_files_that_it_names() {
        let error = Error::failed("cargo metadata", "failed to parse manifest at `/q/Cargo.toml`");
        let error = with_files(error, Path::new("/p/a/Cargo.toml"), vec!["/x".into()]);
        let expected = ["/p/a/Cargo.toml", "/p/Cargo.toml", "/Cargo.toml", "/x", "/q/Cargo.toml"];
        assert_eq!(error.files(), expected.map(PathBuf::from));
    }
}
