//! The command that runs a project's tests.

use std::ffi::OsString;
use std::path::Path;

use super::{Place, node, python, scripting, search, tasks};
use crate::error::{Error, Result};
use crate::project::Kind;

/// The command, as an argv to which arguments may be added.
///
/// # Errors
///
/// hotrun does not know how to test this project.
pub fn command(directory: &Path) -> Result<Vec<OsString>> {
    let path = search::path(directory);
    let place = Place::new(directory, &path);
    let line = match Kind::detect(directory) {
        Kind::Cargo(_) => Some("cargo test".to_owned()),
        Kind::Go(_) => Some("go test ./...".to_owned()),
        Kind::Unknown => of_others(&place),
    };
    let error = || {
        Error::usage(directory.display(), "hotrun does not know how to test this project")
            .remedy("name the command: `hotrun -x 'make test'`")
    };
    let words = line.and_then(|line| shlex::split(&line)).ok_or_else(error)?;
    Ok(words.into_iter().map(OsString::from).collect())
}

pub(super) fn of_others(place: &Place<'_>) -> Option<String> {
    if let Some(command) = node::test_command(place).or_else(|| scripting::test_command(place)) {
        return Some(command);
    }
    let tests = ["pytest.ini", "tox.ini", "conftest.py", "tests/__init__.py", "tests/conftest.py"];
    let is_python = place.first(&python::MARKS).is_some() || place.first(&tests).is_some();
    let tasks: [(&str, &str); 12] = [
        ("mix.exs", "mix test"),
        ("pom.xml", if place.has("mvnw") { "./mvnw -q test" } else { "mvn -q test" }),
        ("gradlew", "./gradlew -q --console=plain test"),
        ("build.gradle.kts", "gradle -q --console=plain test"),
        ("build.gradle", "gradle -q --console=plain test"),
        ("build.zig", "zig build test"),
        ("deno.json", "deno test -A"),
        ("deno.jsonc", "deno test -A"),
        ("dune-project", "dune test"),
        ("Package.swift", "swift test"),
        ("gleam.toml", "gleam test"),
        ("shard.yml", "crystal spec"),
    ];
    match tasks.into_iter().find(|(file, _)| place.has(file)) {
        Some((_, command)) => Some(command.to_owned()),
        None if is_python => python::interpreter(place).ok().map(|one| format!("{one} -m pytest")),
        None => tasks::test_command(place),
    }
}
