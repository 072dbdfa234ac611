//! The command that runs a project's tests.

use std::ffi::OsString;
use std::path::Path;

use super::{Place, node, python, search};
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

fn of_others(place: &Place<'_>) -> Option<String> {
    if let Some(command) = node::test_command(place) {
        return Some(command);
    }
    let tests = ["pytest.ini", "tox.ini", "conftest.py", "tests/__init__.py", "tests/conftest.py"];
    let is_python = place.first(&python::MARKS).is_some() || place.first(&tests).is_some();
    let tasks: [(&str, &str); 6] = [
        ("mix.exs", "mix test"),
        ("pom.xml", if place.has("mvnw") { "./mvnw -q test" } else { "mvn -q test" }),
        ("build.zig", "zig build test"),
        ("Rakefile", "rake test"),
        ("deno.json", "deno test -A"),
        ("composer.json", "vendor/bin/phpunit"),
    ];
    match tasks.into_iter().find(|(file, _)| place.has(file)) {
        Some((_, command)) => Some(command.to_owned()),
        None if is_python => python::interpreter(place).ok().map(|one| format!("{one} -m pytest")),
        None => {
            let makefile = place.read("Makefile");
            makefile.lines().any(|line| line.starts_with("test:")).then(|| "make test".to_owned())
        }
    }
}
