//! The configuration files of cargo, as far as they determine the runner of the program.
//!
//! Cargo has no stable command that prints its configuration, so hotrun reads the hierarchy itself.
//! See <https://doc.rust-lang.org/cargo/reference/config.html#hierarchical-structure>.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cargo_metadata::cargo_platform::{Cfg, CfgExpr};
use toml::{Table, Value};

use crate::error::{Error, Result};

/// The names of a configuration file in a `.cargo` directory. Cargo prefers the first one.
pub(super) const NAMES: [&str; 2] = ["config", "config.toml"];
/// Maximum depth of `include`. Cargo itself rejects cycles.
const MAX_INCLUDES: usize = 8;

/// The environment of a build. If a name occurs more than once, the first value applies.
pub struct Variables(pub Vec<(OsString, OsString)>);

impl Variables {
    /// The variables of this process, and `more`, which do not override them.
    pub fn with(more: &[(String, String)]) -> Self {
        let more = more.iter().map(|(name, value)| (name.into(), value.into()));
        Self(std::env::vars_os().chain(more).collect())
    }

    fn get(&self, name: &str) -> Option<OsString> {
        let found = self.0.iter().find(|(one, _)| one == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    }

    fn has_runner(&self) -> bool {
        self.0.iter().any(|(name, _)| {
            let name = name.as_encoded_bytes();
            name.starts_with(b"CARGO_TARGET_") && name.ends_with(b"_RUNNER")
        })
    }
}

/// The files that apply to a directory. The nearest comes first, and overrides the others.
pub(super) struct Settings {
    files: Vec<(PathBuf, Table)>,
    directory: PathBuf,
}

/// The command that is executed with the program as an argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runner {
    /// Its words. The program and its arguments follow.
    pub words: Vec<OsString>,
    /// Where it is configured: the key and the file, or the variable.
    pub origin: String,
}

impl Settings {
    /// Reads the files that apply to this directory. Cargo itself reports a file that cannot be
    /// read.
    pub(super) fn read(directory: &Path, variables: &Variables) -> Self {
        let mut found = Self { files: Vec::new(), directory: directory.to_owned() };
        let above = directory.ancestors().map(|place| place.join(".cargo"));
        for place in above.chain(cargo_home(variables)) {
            let file = NAMES.iter().map(|name| place.join(name)).find(|file| file.is_file());
            let is_new = |file: &PathBuf| !found.files.iter().any(|(known, _)| known == file);
            if let Some(file) = file.filter(is_new) {
                found.add(file, 0);
            }
        }
        found
    }

    /// Adds a file, and the files that it includes and overrides.
    fn add(&mut self, file: PathBuf, depth: usize) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let table: Table = text.parse().unwrap_or_default();
        let place = file.parent().unwrap_or(Path::new("/")).to_owned();
        let included: Vec<PathBuf> =
            included(table.get("include")).map(|path| place.join(path)).collect();
        self.files.push((file, table));
        // A later include overrides an earlier one.
        for file in included.into_iter().rev().filter(|_| depth < MAX_INCLUDES) {
            self.add(file, depth + 1);
        }
    }

    /// The files that were read.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().map(|(file, _)| file)
    }

    /// The value of a key, and the file that sets it.
    fn get(&self, keys: &[&str]) -> Option<(&Value, &Path)> {
        self.files.iter().find_map(|(file, table)| {
            let (first, rest) = keys.split_first()?;
            let value = rest.iter().try_fold(table.get(*first)?, |value, key| value.get(key))?;
            Some((value, file.as_path()))
        })
    }

    /// The values of `build.target`; none means the host.
    pub(super) fn targets(&self, variables: &Variables) -> Vec<String> {
        if let Some(target) = variables.get("CARGO_BUILD_TARGET") {
            return vec![target.to_string_lossy().into_owned()];
        }
        self.get(&["build", "target"]).map(|(value, _)| words(value)).unwrap_or_default()
    }

    /// The compiler that cargo uses to query the host.
    pub(super) fn rustc(&self, variables: &Variables) -> OsString {
        let named = variables.get("RUSTC");
        let configured = || {
            let (value, file) = self.get(&["build", "rustc"])?;
            Some(program(value.as_str()?, root_of(file)))
        };
        named.or_else(configured).unwrap_or_else(|| "rustc".into())
    }

    /// Whether a runner is configured for any target.
    pub(super) fn has_runner(&self, variables: &Variables) -> bool {
        variables.has_runner() || self.keys_with_runner().next().is_some()
    }

    /// Whether a runner depends on the output of `rustc --print cfg`.
    pub(super) fn has_cfg_runner(&self) -> bool {
        !self.cfg_keys().is_empty()
    }

    /// The runner of this target: from a variable, by the name of the target, or by a `cfg`
    /// expression that matches it.
    pub(super) fn runner(
        &self,
        target: &str,
        cfg: &[Cfg],
        variables: &Variables,
    ) -> Result<Option<Runner>> {
        let variable = variable_of_runner(target);
        if let Some(value) = variables.get(&variable) {
            let text = value.to_string_lossy().into_owned();
            return Ok(runner(&Value::String(text), &self.directory, variable));
        }
        let by_key = |key: &str| {
            let (value, file) = self.get(&["target", key, "runner"])?;
            let key = if key.starts_with("cfg(") { format!("'{key}'") } else { key.to_owned() };
            let origin = format!("target.{key}.runner, {}", file.display());
            runner(value, root_of(file), origin)
        };
        if let Some(runner) = by_key(target) {
            return Ok(Some(runner));
        }
        let keys = self.cfg_keys();
        let matches = |key: &&&str| CfgExpr::matches_key(key, cfg);
        let mut matching = keys.iter().filter(matches).filter_map(|key| by_key(key));
        match (matching.next(), matching.next()) {
            (Some(one), Some(other)) => Err(Error::usage(
                ".cargo/config.toml",
                format!("two runners match {target}: {} and {}", one.origin, other.origin),
            )
            .remedy(format!("name the target instead: [target.{target}] runner = …"))),
            (one, _) => Ok(one),
        }
    }

    /// The `cfg` expressions that have a runner.
    fn cfg_keys(&self) -> BTreeSet<&str> {
        self.keys_with_runner().filter(|key| key.starts_with("cfg(")).collect()
    }

    /// The keys that have a runner: names of targets, and `cfg` expressions.
    fn keys_with_runner(&self) -> impl Iterator<Item = &str> {
        let tables = self.files.iter().filter_map(|(_, table)| table.get("target")?.as_table());
        let keys = tables.flatten().filter(|(_, value)| value.get("runner").is_some());
        keys.map(|(key, _)| key.as_str())
    }
}

/// The directory of the user's cargo configuration.
fn cargo_home(variables: &Variables) -> Option<PathBuf> {
    let named = variables.get("CARGO_HOME").map(PathBuf::from);
    named.or_else(|| Some(std::env::home_dir()?.join(".cargo")))
}

/// The variable that overrides the runner of a target.
pub(super) fn variable_of_runner(target: &str) -> String {
    format!("CARGO_TARGET_{}_RUNNER", target.to_uppercase().replace('-', "_"))
}

/// Whether a target is the file of a target specification.
pub(super) fn is_specification(target: &str) -> bool {
    Path::new(target).extension().is_some_and(|extension| extension == "json")
}

/// The name of a target; for the file of a specification, the file's stem.
pub(super) fn name_of_target(target: &str) -> String {
    let stem = Path::new(target).file_stem().filter(|_| is_specification(target));
    stem.map_or(target.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// Parses the output of `rustc --print cfg`.
pub(super) fn cfg_values(printed: &str) -> Vec<Cfg> {
    printed.lines().filter_map(|line| Cfg::from_str(line).ok()).collect()
}

/// The directory that contains `.cargo`: relative paths in a configuration file are relative to it.
fn root_of(file: &Path) -> &Path {
    file.parent().and_then(Path::parent).unwrap_or(Path::new("/"))
}

fn included(value: Option<&Value>) -> impl Iterator<Item = String> {
    let list = match value {
        Some(Value::Array(list)) => list.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    list.into_iter().filter_map(|one| match one {
        Value::String(path) => Some(path),
        other => Some(other.get("path")?.as_str()?.to_owned()),
    })
}

/// Parses a string of words separated by blanks, or a list of words.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split_whitespace().map(String::from).collect(),
        Value::Array(list) => list.iter().filter_map(|one| one.as_str()).map(Into::into).collect(),
        _ => Vec::new(),
    }
}

fn runner(value: &Value, base: &Path, origin: String) -> Option<Runner> {
    let words = words(value);
    let (first, args) = words.split_first()?;
    let words = [program(first, base)].into_iter().chain(args.iter().map(OsString::from));
    Some(Runner { words: words.collect(), origin })
}

/// A program whose name has no slash is searched on the PATH.
fn program(name: &str, base: &Path) -> OsString {
    if name.contains('/') { base.join(name).into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let project = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = project.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        project
    }

    fn of(all: &[(&str, &str)]) -> Variables {
        Variables(all.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    const TARGET: &str = "x86_64-unknown-linux-gnu";

    fn words_in(
        project: &tempfile::TempDir,
        below: &str,
        all: &[(&str, &str)],
    ) -> Result<Option<String>> {
        let variables = of(all);
        let settings = Settings::read(&project.path().join(below), &variables);
        let cfg = cfg_values("unix\ntarget_os=\"linux\"\n");
        let root = format!("{}/", project.path().display());
        let runner = settings.runner(TARGET, &cfg, &variables)?;
        Ok(runner.map(|runner| {
            let words: Vec<_> = runner.words.iter().map(|word| word.to_string_lossy()).collect();
            words.join(" ").replace(&root, "ROOT/")
        }))
    }

    #[test]
    fn the_nearest_runner_is_found_and_its_path_is_relative_to_its_own_file() {
        let project = project(&[
            (
                ".cargo/config.toml",
                "[target.x86_64-unknown-linux-gnu]\nrunner = \"tools/run -v\"\n",
            ),
            ("app/.cargo/config.toml", "[target.'cfg(unix)']\nrunner = [\"./near me\", \"x y\"]\n"),
            ("app/deep/.cargo/config", "[target.x86_64-unknown-linux-gnu]\nrunner = \"qemu\"\n"),
        ]);
        // A `CARGO_HOME` without files hides the machine's own configuration.
        let home = [("CARGO_HOME", "/nonexistent")];
        let found = |below| words_in(&project, below, &home).unwrap();
        assert_eq!(found(""), Some("ROOT/tools/run -v".into()));
        assert_eq!(found("app"), Some("ROOT/tools/run -v".into()), "a target's name comes first");
        assert_eq!(found("app/deep/er"), Some("qemu".into()));
        let variable = [home[0], ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo -E")];
        assert_eq!(words_in(&project, "app", &variable).unwrap(), Some("sudo -E".into()));
    }

    #[test]
    fn a_cfg_that_matches_has_the_runner_and_two_are_refused() {
        let project = project(&[
            (
                ".cargo/config.toml",
                "[target.'cfg(windows)']\nrunner = \"wine\"\n\
                 [target.'cfg(all(unix, target_os = \"linux\"))']\nrunner = [\"./near me\", \"x\"]\n",
            ),
            ("two/.cargo/config.toml", "[target.'cfg(unix)']\nrunner = \"other\"\n"),
        ]);
        let home = [("CARGO_HOME", "/nonexistent")];
        assert_eq!(words_in(&project, "", &home).unwrap(), Some("ROOT/./near me x".into()));
        let error = words_in(&project, "two", &home).unwrap_err().to_string();
        assert!(error.contains("two runners match"), "{error}");
    }

    #[test]
    fn included_files_and_the_users_own_are_read_last() {
        let project = project(&[
            ("p/.cargo/config.toml", "include = [\"one.toml\", { path = \"two.toml\" }]\n"),
            ("p/.cargo/one.toml", "[build]\ntarget = \"a\"\nrustc = \"bin/rustc\"\n"),
            ("p/.cargo/two.toml", "[build]\ntarget = [\"b\"]\n"),
            ("home/config.toml", "[build]\ntarget = \"c\"\n"),
        ]);
        let home = project.path().join("home").display().to_string();
        let variables = [("CARGO_HOME", home.as_str())];
        let settings = Settings::read(&project.path().join("p"), &of(&variables));
        assert_eq!(settings.targets(&of(&variables)), ["b"]);
        assert_eq!(settings.rustc(&of(&variables)), project.path().join("p/bin/rustc"));
        assert_eq!(settings.files().count(), 4);
        let elsewhere = Settings::read(&project.path().join("q"), &of(&variables));
        assert_eq!(elsewhere.targets(&of(&variables)), ["c"]);
        assert_eq!(elsewhere.targets(&of(&[("CARGO_BUILD_TARGET", "d")])), ["d"]);
    }
}
