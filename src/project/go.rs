//! Go modules.

use std::ffi::OsString;
use std::path::Path;

use super::{Ask, Makes, Plan, Question, Selection};
use crate::error::{Error, Result};

/// Asks go which of the module's packages are programs. `artifact` is the file to build.
pub async fn plan(
    directory: &Path,
    module: &Path,
    artifact: &Path,
    selection: &Selection,
    ask: &impl Ask,
) -> Result<Plan> {
    let package = if let Some(package) = &selection.package {
        package.clone()
    } else {
        let mut argv: Vec<OsString> = ["go", "list", "-e", "-f"].map(OsString::from).into();
        argv.push("{{if eq .Name \"main\"}}{{.Dir}}{{end}}".into());
        argv.push("./...".into());
        let answer = ask.ask(Question { argv, directory: directory.to_owned() }).await?;
        choose(&String::from_utf8_lossy(&answer), directory)?
    };
    let mut build: Vec<OsString> = ["go", "build"].map(OsString::from).into();
    build.extend(selection.flags.iter().map(OsString::from));
    build.extend(["-o".into(), artifact.into(), (&package).into()]);
    Ok(Plan {
        build,
        label: format!("go build {package}"),
        makes: Makes::File(artifact.to_owned()),
        roots: vec![module.to_owned()],
        without: Vec::new(),
        made: Vec::new(),
        files: Vec::new(),
        exclude: ["**/*_test.go", "**/testdata/**", "**/node_modules/**"].map(String::from).into(),
        warnings: Vec::new(),
        launch: None,
    })
}

/// The package to build, from the directories of the main packages, one a line.
fn choose(listed: &str, directory: &Path) -> Result<String> {
    let mut mains: Vec<String> = listed
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| match Path::new(line).strip_prefix(directory) {
            Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
            Ok(below) => format!("./{}", below.display()),
            Err(_) => line.to_owned(),
        })
        .collect();
    mains.sort();
    if mains.iter().any(|main| main == ".") {
        return Ok(".".to_owned());
    }
    match &mains[..] {
        [only] => Ok(only.clone()),
        [] => Err(Error::usage(directory.display(), "no main package in this Go module")
            .remedy("write a hotrun.toml with build.cmd and build.entrypoint; see: hotrun init")),
        [first, ..] => Err(Error::usage(
            directory.display(),
            format!("several main packages to choose from: {}", mains.join(", ")),
        )
        .remedy(format!("hotrun -p {first}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roots_main_package_wins_else_the_only_one_else_they_are_listed() {
        let choose = |listed| choose(listed, Path::new("/m")).map_err(|error| error.to_string());
        assert_eq!(choose("/m/cmd/x\n/m\n"), Ok(".".into()));
        assert_eq!(choose("\n/m/cmd/x\n\n"), Ok("./cmd/x".into()));
        assert_eq!(
            choose("/m/cmd/y\n/m/cmd/x\n"),
            Err("/m: several main packages to choose from: ./cmd/x, ./cmd/y\n  \
                 help: hotrun -p ./cmd/x"
                .into())
        );
        assert!(choose("").unwrap_err().starts_with("/m: no main package"));
    }
}
