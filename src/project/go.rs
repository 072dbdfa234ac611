//! Go modules and workspaces.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Ask, Makes, Plan, Question, Selection};
use crate::error::{Error, Result};

mod command;
mod sources;

use command::Build;
pub use command::questions;
pub use sources::{Sources, is_module_file};

/// The name of a workspace file.
pub const WORKSPACE: &str = "go.work";

/// The directories and settings with which a Go program is built.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The directory in which commands run.
    pub directory: &'a Path,
    /// The directory of the `go.mod` or, if there is none, of the `go.work`.
    pub module: &'a Path,
    /// The file that the build makes.
    pub artifact: &'a Path,
    /// Linker flags to use unless others are set.
    pub ldflags: &'a str,
    /// The value of `GOFLAGS`, or empty.
    pub goflags: &'a str,
}

/// Chooses the package to build, and derives the plan. Asks the go command if the package is not
/// clear.
pub async fn plan(place: Place<'_>, selection: &Selection, ask: &impl Ask) -> Result<Plan> {
    let package = package(place, selection, ask).await?;
    let mut build: Vec<OsString> = ["go", "build"].map(OsString::from).into();
    build.extend(selection.flags.iter().map(OsString::from));
    if links_by_default(&selection.flags, place.goflags) {
        build.push(format!("-ldflags={}", place.ldflags).into());
    }
    build.extend(["-o".into(), place.artifact.into(), (&package).into()]);
    let words: Vec<String> = selection.flags.iter().chain([&package]).cloned().collect();
    Ok(Plan {
        build,
        label: format!("go build {package}"),
        makes: Makes::File(place.artifact.to_owned()),
        roots: vec![place.module.to_owned()],
        without: Vec::new(),
        made: Vec::new(),
        files: workspace(place.directory).into_iter().collect(),
        exclude: ["**/*_test.go", "**/testdata/**", "**/node_modules/**"].map(String::from).into(),
        asks: vec![Build::of(&words, false).question(place.directory, &[])],
        nested: None,
        warnings: Vec::new(),
        launch: None,
    })
}

/// Whether neither the flags of the build nor `GOFLAGS` set `-ldflags`.
pub fn links_by_default(flags: &[String], goflags: &str) -> bool {
    let goflags: Vec<String> = goflags.split_whitespace().map(unquoted).collect();
    !command::has_flag(flags, "ldflags") && !command::has_flag(&goflags, "ldflags")
}

/// Removes leading quotes: in `GOFLAGS` they may surround a whole flag.
fn unquoted(word: &str) -> String {
    word.trim_start_matches(['\'', '"']).to_owned()
}

/// Returns `GOFLAGS` from the environment, or from the file that `go env -w` writes.
pub fn goflags() -> String {
    if let Ok(set) = std::env::var("GOFLAGS") {
        return set;
    }
    let file = match std::env::var_os("GOENV") {
        Some(file) if !file.is_empty() => PathBuf::from(file),
        _ => {
            let home = || std::env::home_dir().unwrap_or_default();
            let config = std::env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty());
            let config = match config {
                Some(config) => PathBuf::from(config),
                None if cfg!(target_os = "macos") => home().join("Library/Application Support"),
                None => home().join(".config"),
            };
            config.join("go/env")
        }
    };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("GOFLAGS=")).unwrap_or_default().to_owned()
}

/// Returns the workspace file in use in this directory, as the go command finds it.
pub fn workspace(directory: &Path) -> Option<PathBuf> {
    match std::env::var_os("GOWORK").filter(|set| !set.is_empty()) {
        Some(set) if set == "off" => None,
        Some(set) => Some(PathBuf::from(set)),
        None => {
            directory.ancestors().map(|place| place.join(WORKSPACE)).find(|file| file.is_file())
        }
    }
}

/// Adds the variables that affect Go builds to these queries. Other variables may be secrets, and
/// command lines are visible to other users.
pub fn with_variables(questions: &[Question], variables: &[(String, String)]) -> Vec<Question> {
    let is_gos = |name: &str| name.starts_with("GO") || name.starts_with("CGO_") || name == "PATH";
    let words: Vec<OsString> = variables
        .iter()
        .filter(|(name, _)| is_gos(name))
        .map(|(name, value)| format!("{name}={value}").into())
        .collect();
    if words.is_empty() {
        return questions.to_vec();
    }
    let with = |one: &Question| {
        let argv = [OsString::from("env")].into_iter().chain(words.iter().cloned());
        Question {
            argv: argv.chain(one.argv.iter().cloned()).collect(),
            directory: one.directory.clone(),
        }
    };
    questions.iter().map(with).collect()
}

/// Runs these queries for the sources of the program. A query that fails makes the result
/// incomplete.
pub async fn sources(questions: Vec<Question>, ask: &impl Ask) -> Sources {
    let mut all: Option<Sources> = None;
    for question in questions {
        let workspace = workspace(&question.directory);
        let found = match ask.ask(question).await {
            Ok(answer) => Sources::read(&answer, workspace.as_deref()),
            Err(error) => Sources::unknown(briefly(&error)),
        };
        all = Some(match all {
            Some(others) => others.and(&found),
            None => found,
        });
    }
    all.unwrap_or_else(|| Sources::unknown("nothing was asked".to_owned()))
}

/// Returns the last line of an error, without the long command that precedes it.
fn briefly(error: &Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines().filter(|line| !line.starts_with("  ") && !line.is_empty());
    let last = lines.next_back().unwrap_or_default();
    let is_command = last.starts_with("go list") || last.starts_with("env ");
    let reason = last.rsplit_once(": ").filter(|_| is_command);
    reason.map_or(last, |(_, reason)| reason).to_owned()
}

// Choosing the package

/// A package of the local modules.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Package {
    name: String,
    directory: PathBuf,
    import_path: String,
}

impl Package {
    fn is_main(&self) -> bool {
        self.name == "main"
    }

    /// The argument by which the go command finds it from this directory.
    fn label(&self, here: &Path) -> String {
        match self.directory.strip_prefix(here) {
            Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
            Ok(below) => format!("./{}", below.display()),
            Err(_) => self.directory.display().to_string(),
        }
    }

    /// The name of the executable in the go command: the last element of the import path that is
    /// not a version.
    fn program(&self) -> &str {
        let mut parts = self.import_path.rsplit('/');
        let last = parts.next().unwrap_or_default();
        let is_version = last.strip_prefix('v').is_some_and(|number| {
            !number.is_empty() && number.chars().all(|one| one.is_ascii_digit())
        });
        if is_version { parts.next().unwrap_or(last) } else { last }
    }

    /// Whether a part of its path matches this name.
    fn is_called(&self, name: &str) -> bool {
        let end = format!("/{name}");
        self.program() == name || self.import_path.ends_with(&end) || self.directory.ends_with(name)
    }
}

async fn package(place: Place<'_>, selection: &Selection, ask: &impl Ask) -> Result<String> {
    let here = place.directory;
    let (flag, name) = match (&selection.package, &selection.bin) {
        (None, None) => {
            let packages = list(&patterns(place, false, ask).await?, here, ask).await?;
            return choose(&packages, here);
        }
        (Some(name), _) => ("-p", name),
        (None, Some(name)) => ("--bin", name),
    };
    let is_path = name.starts_with(['.', '/']);
    let mut other = None;
    if flag == "-p" {
        match clause_at(&here.join(name)) {
            Some(clause) if clause == "main" => return Ok(as_path(name)),
            Some(clause) => other = Some(clause),
            None if is_path || name.contains("...") || command::is_go_file(name) => {
                // The go command reports what is wrong with it.
                return Ok(name.clone());
            }
            None => {}
        }
    }
    let not_main = |path: &str, clause: &str| {
        Error::usage(format!("{flag} {name}"), format!("{path} is package {clause}, not main"))
    };
    let packages = list(&patterns(place, true, ask).await?, here, ask).await;
    if let (Some(clause), true) = (&other, is_path || packages.is_err()) {
        let error = not_main(&as_path(name), clause);
        return Err(offer(error, &packages.unwrap_or_default(), here));
    }
    let packages = packages?;
    match named(&packages, name, here, flag) {
        Err(_) if other.is_some() => {
            let clause = other.unwrap_or_default();
            Err(offer(not_main(&as_path(name), &clause), &packages, here))
        }
        found => found,
    }
}

/// Adds the available main packages to the error.
fn offer(error: Error, packages: &[Package], here: &Path) -> Error {
    let mains = labels(packages.iter().filter(|package| package.is_main()), here);
    if mains.is_empty() { error } else { error.remedy(format!("available: {}", mains.join(", "))) }
}

fn labels<'a>(packages: impl Iterator<Item = &'a Package>, here: &Path) -> Vec<String> {
    let mut labels: Vec<String> = packages.map(|package| package.label(here)).collect();
    labels.sort();
    labels
}

/// Returns a directory as a relative path: the go command would take `services/api` for an import
/// path.
fn as_path(written: &str) -> String {
    let written = written.trim_end_matches('/');
    match written {
        "" => "/".to_owned(),
        _ if written.starts_with(['.', '/']) => written.to_owned(),
        _ => format!("./{written}"),
    }
}

/// Returns the patterns that match all packages of the module, or of the workspace.
async fn patterns(place: Place<'_>, all: bool, ask: &impl Ask) -> Result<Vec<OsString>> {
    let is_module = place.module.join("go.mod").is_file();
    if is_module && !(all && workspace(place.directory).is_some()) {
        return Ok(vec!["./...".into()]);
    }
    let argv = ["go", "list", "-m", "-f", "{{.Dir}}"].map(OsString::from).into();
    let answer = ask.ask(Question { argv, directory: place.directory.to_owned() }).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let modules = answer.lines().filter(|line| !line.is_empty());
    Ok(modules.map(|module| format!("{module}/...").into()).collect())
}

/// Lists all packages that match these patterns.
async fn list(patterns: &[OsString], here: &Path, ask: &impl Ask) -> Result<Vec<Package>> {
    if patterns.is_empty() {
        return Ok(Vec::new());
    }
    let mut argv: Vec<OsString> = ["go", "list", "-e", "-f"].map(OsString::from).into();
    argv.push("{{.Name}}\t{{.Dir}}\t{{.ImportPath}}".into());
    argv.extend(patterns.iter().cloned());
    let answer = ask.ask(Question { argv, directory: here.to_owned() }).await?;
    let packages = String::from_utf8_lossy(&answer).lines().filter_map(parse).collect();
    Ok(packages)
}

fn parse(line: &str) -> Option<Package> {
    let mut fields = line.split('\t');
    let (name, directory, import_path) = (fields.next()?, fields.next()?, fields.next()?);
    let directory = Path::new(directory);
    // The go command uses the variable PWD, which may contain symbolic links.
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    (!name.is_empty()).then(|| Package {
        name: name.to_owned(),
        directory,
        import_path: import_path.to_owned(),
    })
}

/// Chooses the package to build if none is named.
fn choose(packages: &[Package], here: &Path) -> Result<String> {
    let mains = labels(packages.iter().filter(|package| package.is_main()), here);
    if mains.iter().any(|main| main == ".") {
        return Ok(".".to_owned());
    }
    match &mains[..] {
        [only] => Ok(only.clone()),
        [] => Err(Error::usage(here.display(), "no main package in this Go module")
            .remedy("write a hotrun.toml with build.cmd and build.entrypoint; see: hotrun init")),
        [first, ..] => Err(Error::usage(
            here.display(),
            format!("several main packages to choose from: {}", mains.join(", ")),
        )
        .remedy(format!("hotrun -p {first}"))),
    }
}

/// Finds the main package with this name: a path, an import path, or the end of one.
fn named(packages: &[Package], name: &str, here: &Path, flag: &str) -> Result<String> {
    let wanted = name.trim_end_matches('/');
    let is_exactly = |package: &&Package| {
        package.import_path == wanted || package.label(here) == as_path(wanted)
    };
    let exact: Vec<&Package> = packages.iter().filter(is_exactly).collect();
    let called: Vec<&Package> = match &exact[..] {
        [] => packages.iter().filter(|package| package.is_called(wanted)).collect(),
        _ => exact,
    };
    let mains = labels(called.iter().filter(|package| package.is_main()).copied(), here);
    let shown = format!("{flag} {name}");
    match (&mains[..], called.first()) {
        ([only], _) => Ok(only.clone()),
        ([first, ..], _) => Err(Error::usage(
            shown,
            format!("several main packages have that name: {}", mains.join(", ")),
        )
        .remedy(format!("hotrun -p {first}"))),
        ([], Some(other)) => {
            let (label, clause) = (other.label(here), &other.name);
            let error = Error::usage(shown, format!("{label} is package {clause}, not main"));
            Err(offer(error, packages, here))
        }
        // For example the import path of a required module.
        ([], None) if wanted.split('/').next().is_some_and(|first| first.contains('.')) => {
            Ok(wanted.to_owned())
        }
        ([], None) => {
            Err(offer(Error::usage(shown, "no main package of that name here"), packages, here))
        }
    }
}

/// Returns the name in the package clauses of the Go files in a directory: `main` if any file has
/// it.
fn clause_at(directory: &Path) -> Option<String> {
    let mut clause = None;
    for entry in directory.read_dir().ok()?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !command::is_go_file(&name) || name.ends_with("_test.go") || name.starts_with(['_', '.'])
        {
            continue;
        }
        let text = std::fs::read(entry.path()).unwrap_or_default();
        match clause_of(&String::from_utf8_lossy(&text)) {
            Some(found) if found == "main" => return Some(found),
            found => clause = clause.or(found),
        }
    }
    clause
}

/// Returns the name in the package clause; `None` for a file that is never built.
fn clause_of(text: &str) -> Option<String> {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        if let Some(comment) = rest.strip_prefix("//") {
            let (line, after) = comment.split_once('\n')?;
            if line.trim() == "go:build ignore" {
                return None;
            }
            rest = after.trim_start();
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/")?.1.trim_start();
        } else {
            break;
        }
    }
    let name = rest.strip_prefix("package")?.trim_start();
    let is_part = |one: char| one.is_alphanumeric() || one == '_';
    let name: String = name.chars().take_while(|one| is_part(*one)).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(listed: &str) -> Vec<Package> {
        let lines = listed.lines();
        let fields = lines.map(|line| line.split_once(' ').unwrap());
        let packages = fields.map(|(name, below)| {
            parse(&format!("{name}\t/m/{below}\texample.com/{below}")).unwrap()
        });
        packages.collect()
    }

    fn text(outcome: Result<String>) -> std::result::Result<String, String> {
        outcome.map_err(|error| error.to_string())
    }

    #[test]
    fn the_roots_main_package_wins_else_the_only_one_else_they_are_listed() {
        let root = Package {
            name: "main".to_owned(),
            directory: "/m".into(),
            import_path: "example.com/m".to_owned(),
        };
        let choose = |packages: &[Package]| text(choose(packages, Path::new("/m")));
        assert_eq!(choose(&[packages("main cmd/x").remove(0), root]), Ok(".".into()));
        assert_eq!(choose(&packages("main cmd/x\nlib y")), Ok("./cmd/x".into()));
        assert_eq!(
            choose(&packages("main cmd/y\nmain cmd/x")),
            Err("/m: several main packages to choose from: ./cmd/x, ./cmd/y\n  \
                 help: hotrun -p ./cmd/x"
                .into())
        );
        assert!(choose(&[]).unwrap_err().starts_with("/m: no main package"));
    }

    #[test]
    fn a_path_an_import_path_and_the_end_of_one_name_a_package() {
        let all =
            packages("main services/api\nmain services/web/v2\nmain a/x\nmain b/x\nlib lib/y");
        let named = |name| text(named(&all, name, Path::new("/m"), "-p"));
        for name in
            ["./services/api", "services/api", "services/api/", "api", "example.com/services/api"]
        {
            assert_eq!(named(name), Ok("./services/api".into()), "{name}");
        }
        assert_eq!(named("web"), Ok("./services/web/v2".into()));
        assert_eq!(
            named("x"),
            Err(
                "-p x: several main packages have that name: ./a/x, ./b/x\n  help: hotrun -p ./a/x"
                    .into()
            )
        );
        assert!(named("y").unwrap_err().starts_with("-p y: ./lib/y is package lib, not main\n"));
        assert!(named("ap").unwrap_err().starts_with("-p ap: no main package of that name here"));
        assert_eq!(named("example.org/tool"), Ok("example.org/tool".into()));
    }

    #[test]
    fn the_package_clause_is_read_behind_comments() {
        assert_eq!(clause_of("// a\n/* b\npackage x */\npackage main // y\n"), Some("main".into()));
        assert_eq!(clause_of("//go:build linux\n\npackage lib"), Some("lib".into()));
        assert_eq!(clause_of("//go:build ignore\n\npackage main\n"), None);
        assert_eq!(clause_of("packag"), None);
    }

    #[test]
    fn the_linkers_flags_of_the_user_are_left_alone() {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        assert!(links_by_default(&words("-tags x"), "-mod=mod -buildvcs=false"));
        assert!(!links_by_default(&words("-ldflags -s"), ""));
        assert!(!links_by_default(&words("-v"), "-mod=mod '-ldflags=-s -w'"));
    }
}
