//! Cargo packages and workspaces.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use cargo_metadata::{Message, Metadata, MetadataCommand, Package, PackageId, Target, TargetKind};

use super::{Ask, Makes, Nested, Plan, Question, Selection};
use crate::error::{Error, Result};

/// Asks cargo what the project is made of.
pub async fn plan(
    directory: &Path,
    manifest: &Path,
    selection: &Selection,
    ask: &impl Ask,
) -> Result<Plan> {
    let mut argv: Vec<OsString> = vec![program(), "metadata".into(), "--format-version=1".into()];
    argv.extend(["--manifest-path".into(), manifest.into()]);
    argv.extend(feature_flags(&selection.flags).map(OsString::from));
    let answer = ask.ask(Question { argv, directory: directory.to_owned() }).await?;
    let unreadable = |why: String| Error::failed("cargo metadata", why);
    let text = String::from_utf8(answer).map_err(|error| unreadable(error.to_string()))?;
    let metadata = MetadataCommand::parse(text).map_err(|error| unreadable(error.to_string()))?;
    from_metadata(&metadata, manifest, selection)
}

/// The flags that decide which dependencies there are.
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

/// The cargo that runs us (`cargo hotrun`), else the one on the PATH.
fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn from_metadata(metadata: &Metadata, manifest: &Path, selection: &Selection) -> Result<Plan> {
    let candidates = candidates(metadata, manifest, selection)?;
    let (package, target) = choose(&candidates, manifest, selection)?;
    let used = path_dependencies(metadata, package);
    let mut directories: HashSet<PathBuf> = used.iter().map(|one| directory_of(one)).collect();
    // A target's source may lie outside its package.
    let sources = used.iter().flat_map(|one| &one.targets).filter(|one| is_part(one, target));
    let outside: Vec<PathBuf> = sources
        .filter_map(|one| one.src_path.as_std_path().parent())
        .filter(|place| !directories.iter().any(|directory| place.starts_with(directory)))
        .map(Path::to_owned)
        .collect();
    directories.extend(outside);

    let mut build: Vec<OsString> = vec![program(), "build".into()];
    // Errors and the progress bar go to stderr as always, the facts to stdout.
    build.push("--message-format=json-render-diagnostics".into());
    build.extend(["--manifest-path".into(), manifest.into()]);
    build.extend(["-p".into(), package.name.to_string().into()]);
    let kind = if target.kind.contains(&TargetKind::Example) { "--example" } else { "--bin" };
    let mut shown = vec!["cargo".to_owned(), "build".to_owned()];
    let chosen = [kind.to_owned(), target.name.clone()].into_iter();
    for word in chosen.chain(selection.flags.iter().cloned()) {
        build.push((&word).into());
        shown.push(word);
    }

    Ok(Plan {
        build,
        label: shown.join(" "),
        makes: Makes::CargoTarget(target.name.clone()),
        without: without(metadata, &used, &directories, target),
        made: vec![metadata.target_directory.as_std_path().to_owned()],
        roots: roots(&directories),
        files: vec![metadata.workspace_root.as_std_path().join("Cargo.toml")],
        exclude: Vec::new(),
        asks: Vec::new(),
        nested: Some(Nested {
            marker: "Cargo.toml",
            used: used.iter().map(|one| directory_of(one)).collect(),
        }),
    })
}

/// The packages whose programs may be meant.
fn candidates<'a>(
    metadata: &'a Metadata,
    manifest: &Path,
    selection: &Selection,
) -> Result<Vec<&'a Package>> {
    let members = metadata.workspace_packages();
    if let Some(name) = &selection.package {
        let named: Vec<_> = members.iter().filter(|one| one.name == *name).copied().collect();
        if named.is_empty() {
            let all: Vec<_> = members.iter().map(|one| one.name.as_str()).collect();
            return Err(Error::usage(format!("-p {name}"), "no package of that name here")
                .remedy(format!("the workspace has: {}", all.join(", "))));
        }
        return Ok(named);
    }
    let here = members.iter().find(|one| one.manifest_path.as_std_path() == manifest);
    Ok(here.map_or(members.clone(), |one| vec![*one]))
}

/// The one program that is meant.
fn choose<'a>(
    candidates: &[&'a Package],
    manifest: &Path,
    selection: &Selection,
) -> Result<(&'a Package, &'a Target)> {
    let kind = if selection.example.is_some() { TargetKind::Example } else { TargetKind::Bin };
    let wanted = selection.example.as_ref().or(selection.bin.as_ref());
    let mut found = Vec::new();
    for package in candidates {
        for target in package.targets.iter().filter(|target| target.kind.contains(&kind)) {
            found.push((*package, target));
        }
    }
    let names = |found: &[(&Package, &Target)]| {
        let names: Vec<_> = found.iter().map(|(_, target)| target.name.as_str()).collect();
        names.join(", ")
    };
    let flag = if kind == TargetKind::Example { "--example" } else { "--bin" };
    if let Some(wanted) = wanted {
        let all = names(&found);
        return found.into_iter().find(|(_, target)| target.name == *wanted).ok_or_else(|| {
            let error = Error::usage(format!("{flag} {wanted}"), "no program of that name here");
            if all.is_empty() { error } else { error.remedy(format!("there is: {all}")) }
        });
    }
    let default = found.iter().find(|(package, target)| {
        candidates.len() == 1 && package.default_run.as_deref() == Some(&target.name)
    });
    match (default, &found[..]) {
        (Some(default), _) => Ok(*default),
        (None, [only]) => Ok(*only),
        (None, []) => Err(Error::usage(manifest.display(), "no program to run: only a library")
            .remedy("run one of its examples: hotrun --example NAME\nor write a hotrun.toml; see: hotrun init")),
        (None, several) => Err(Error::usage(
            manifest.display(),
            format!("several programs to choose from: {}", names(several)),
        )
        .remedy(format!(
            "hotrun --bin {}\nor set default-run in Cargo.toml",
            several[0].1.name
        ))),
    }
}

/// The package and all that it is made of, as far as that lies in directories of our own.
fn path_dependencies<'a>(metadata: &'a Metadata, package: &'a Package) -> Vec<&'a Package> {
    let packages: HashMap<&PackageId, &Package> =
        metadata.packages.iter().map(|one| (&one.id, one)).collect();
    let edges: HashMap<&PackageId, Vec<&PackageId>> = metadata
        .resolve
        .iter()
        .flat_map(|resolve| &resolve.nodes)
        .map(|node| (&node.id, node.dependencies.iter().collect()))
        .collect();
    let mut used = vec![package];
    let mut seen = HashSet::from([&package.id]);
    let mut queue = vec![&package.id];
    while let Some(id) = queue.pop() {
        for next in edges.get(id).into_iter().flatten() {
            let Some(dependency) = packages.get(*next) else { continue };
            // A package with a source comes from a registry or from git: nobody edits it.
            if dependency.source.is_none() && seen.insert(next) {
                used.push(dependency);
                queue.push(next);
            }
        }
    }
    used
}

/// Tests, benches and examples are no part of the program, unless it is one itself.
fn is_part(target: &Target, program: &Target) -> bool {
    target.src_path == program.src_path
        || !target
            .kind
            .iter()
            .any(|kind| matches!(kind, TargetKind::Test | TargetKind::Bench | TargetKind::Example))
}

fn directory_of(package: &Package) -> PathBuf {
    let manifest = package.manifest_path.as_std_path();
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The directories that are not inside another one.
fn roots(directories: &HashSet<PathBuf>) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = directories
        .iter()
        .filter(|one| !one.ancestors().skip(1).any(|above| directories.contains(above)))
        .cloned()
        .collect();
    roots.sort();
    roots
}

/// What lies below the roots and does not matter: packages that the program does not use, and the tests, benches and examples of those that it does.
fn without(
    metadata: &Metadata,
    used: &[&Package],
    directories: &HashSet<PathBuf>,
    program: &Target,
) -> Vec<PathBuf> {
    let mut without = Vec::new();
    let members = metadata.workspace_packages();
    without.extend(
        members.iter().map(|one| directory_of(one)).filter(|one| !directories.contains(one)),
    );
    for package in used {
        for name in ["tests", "benches", "examples"] {
            let directory = directory_of(package).join(name);
            let inside = |target: &&Target| target.src_path.starts_with(&directory);
            if !package.targets.iter().filter(inside).any(|one| is_part(one, program)) {
                without.push(directory);
            }
        }
    }
    without.retain(|one| !directories.iter().any(|used| used.starts_with(one)));
    without.sort();
    without
}

/// The executable of a target, from what `cargo build --message-format=json` printed.
pub fn executable(messages: &[u8], target: &str) -> Option<PathBuf> {
    messages
        .lines()
        .map_while(std::io::Result::ok)
        .filter(|line| line.contains("\"compiler-artifact\""))
        .filter_map(|line| Message::parse_stream(line.as_bytes()).next()?.ok())
        .filter_map(|message| match message {
            Message::CompilerArtifact(artifact) if artifact.target.name == target => {
                artifact.executable
            }
            _ => None,
        })
        .last()
        .map(Into::into)
}

/// What a build has read, by the dep-info file that cargo writes beside the executable:
/// sources, files that they include, and what build scripts depend on (directories too). Not
/// what builds have made themselves.
///
/// See <https://doc.rust-lang.org/cargo/reference/build-cache.html#dep-info-files>.
pub fn inputs(executable: &Path) -> BTreeSet<PathBuf> {
    let mut name = executable.file_name().unwrap_or_default().to_owned();
    name.push(".d");
    let Ok(text) = std::fs::read_to_string(executable.with_file_name(name)) else {
        return BTreeSet::new();
    };
    let profile = executable.parent().unwrap_or(executable);
    let profile = if profile.ends_with("examples") { profile.parent() } else { Some(profile) };
    let is_made = |path: &Path| profile.is_some_and(|profile| path.starts_with(profile));
    dependencies(&text).filter(|path| path.is_absolute() && !is_made(path)).collect()
}

/// The paths behind the colon in a rule of make's, in which blanks are escaped.
fn dependencies(text: &str) -> impl Iterator<Item = PathBuf> {
    let line = text.lines().next().unwrap_or_default();
    let (_, list) = line.split_once(": ").unwrap_or_default();
    let mut paths = vec![String::new()];
    let mut chars = list.chars().peekable();
    while let (Some(one), Some(path)) = (chars.next(), paths.last_mut()) {
        match one {
            '\\' if chars.peek() == Some(&' ') => path.extend(chars.next()),
            ' ' => paths.push(String::new()),
            other => path.push(other),
        }
    }
    paths.into_iter().filter(|path| !path.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, directory: &str, targets: &str, extra: &str) -> String {
        format!(
            r#"{{"name":"{name}","version":"0.1.0","id":"path+file://{directory}#0.1.0",
            "source":null,"dependencies":[],"targets":[{targets}],"features":{{}},
            "manifest_path":"{directory}/Cargo.toml","edition":"2024"{extra}}}"#
        )
    }

    fn target(name: &str, kind: &str, path: &str) -> String {
        format!(
            r#"{{"kind":["{kind}"],"crate_types":["bin"],"name":"{name}","src_path":"{path}",
            "edition":"2024","doctest":false,"test":true,"doc":true}}"#
        )
    }

    fn metadata(packages: &[String], edges: &[(&str, &[&str])]) -> Metadata {
        let id = |directory: &str| format!("\"path+file://{directory}#0.1.0\"");
        let list = |ids: &[&str]| ids.iter().map(|one| id(one)).collect::<Vec<_>>().join(",");
        let all: Vec<&str> = edges.iter().map(|edge| edge.0).collect();
        let nodes: Vec<String> = edges
            .iter()
            .map(|(one, to)| {
                let (one, to) = (id(one), list(to));
                format!(r#"{{"id":{one},"dependencies":[{to}],"deps":[],"features":[]}}"#)
            })
            .collect();
        let (packages, members, nodes) = (packages.join(","), list(&all), nodes.join(","));
        MetadataCommand::parse(format!(
            r#"{{"packages":[{packages}],"workspace_members":[{members}],
            "resolve":{{"nodes":[{nodes}],"root":null}},"target_directory":"/w/target",
            "version":1,"workspace_root":"/w"}}"#
        ))
        .unwrap()
    }

    fn two_programs(extra: &str) -> Metadata {
        let targets = [target("a", "bin", "/w/src/bin/a.rs"), target("b", "bin", "/w/src/b.rs")];
        metadata(&[package("w", "/w", &targets.join(","), extra)], &[("/w", &[])])
    }

    fn selected(metadata: &Metadata, selection: &Selection) -> Result<Plan> {
        from_metadata(metadata, Path::new("/w/Cargo.toml"), selection)
    }

    #[test]
    fn several_programs_without_a_choice_are_listed() {
        let error = selected(&two_programs(""), &Selection::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/w/Cargo.toml: several programs to choose from: a, b\n  \
             help: hotrun --bin a\n        or set default-run in Cargo.toml"
        );
        assert_eq!(error.code(), 2);
    }

    #[test]
    fn default_run_and_bin_choose() {
        let by_manifest = two_programs(r#","default_run":"b""#);
        let plan = selected(&by_manifest, &Selection::default()).unwrap();
        assert_eq!(plan.makes, Makes::CargoTarget("b".into()));
        let bin = Selection { bin: Some("a".into()), ..Selection::default() };
        let plan = selected(&by_manifest, &bin).unwrap();
        assert_eq!(plan.makes, Makes::CargoTarget("a".into()));
        let wrong = Selection { bin: Some("c".into()), ..Selection::default() };
        let error = selected(&by_manifest, &wrong).unwrap_err().to_string();
        assert_eq!(error, "--bin c: no program of that name here\n  help: there is: a, b");
    }

    #[test]
    fn the_watch_set_is_the_package_and_its_path_dependencies() {
        let packages = [
            package("app", "/w/app", &target("app", "bin", "/w/app/src/main.rs"), ""),
            package("lib", "/elsewhere/lib", &target("lib", "lib", "/elsewhere/lib/l.rs"), ""),
            package("other", "/w/app/other", &target("o", "bin", "/w/app/other/o.rs"), ""),
        ];
        let edges: [(&str, &[&str]); 3] =
            [("/w/app", &["/elsewhere/lib"]), ("/elsewhere/lib", &[]), ("/w/app/other", &[])];
        let metadata = metadata(&packages, &edges);
        let manifest = Path::new("/w/app/Cargo.toml");
        let plan = from_metadata(&metadata, manifest, &Selection::default()).unwrap();
        assert_eq!(plan.roots, [PathBuf::from("/elsewhere/lib"), PathBuf::from("/w/app")]);
        assert!(plan.without.contains(&PathBuf::from("/w/app/other")), "{:?}", plan.without);
        assert!(plan.without.contains(&PathBuf::from("/w/app/tests")), "{:?}", plan.without);
        assert_eq!(plan.made, [PathBuf::from("/w/target")]);
    }

    #[test]
    fn a_program_that_lies_among_anothers_examples_is_watched() {
        let packages = [
            package("w", "/w", &target("w", "lib", "/w/src/lib.rs"), ""),
            package("app", "/w/examples/app", &target("app", "bin", "/w/examples/app/m.rs"), ""),
        ];
        let edges: [(&str, &[&str]); 2] = [("/w", &[]), ("/w/examples/app", &["/w"])];
        let metadata = metadata(&packages, &edges);
        let manifest = Path::new("/w/examples/app/Cargo.toml");
        let plan = from_metadata(&metadata, manifest, &Selection::default()).unwrap();
        assert_eq!(plan.roots, [PathBuf::from("/w")]);
        assert!(!plan.without.contains(&PathBuf::from("/w/examples")), "{:?}", plan.without);
        assert!(plan.without.contains(&PathBuf::from("/w/tests")), "{:?}", plan.without);
    }

    #[test]
    fn only_flags_that_choose_features_are_for_cargo_metadata() {
        let flags = ["--release", "--features", "a,b", "--all-features"].map(String::from);
        let kept: Vec<_> = feature_flags(&flags).collect();
        assert_eq!(kept, ["--features", "a,b", "--all-features"]);
    }

    #[test]
    fn what_a_build_has_read_is_read_from_its_dep_info() {
        let target = tempfile::tempdir().unwrap();
        let profile = target.path().join("debug");
        std::fs::create_dir(&profile).unwrap();
        let (shown, exe) = (profile.display(), profile.join("my.app"));
        let text = format!(
            "{shown}/my.app: /w/src/a\\ b.rs /w/data/x.txt relative.rs {shown}/build/x/out/gen.rs\n"
        );
        std::fs::write(profile.join("my.app.d"), text).unwrap();
        let expected = ["/w/data/x.txt", "/w/src/a b.rs"].map(PathBuf::from);
        assert_eq!(inputs(&exe), BTreeSet::from(expected));
        assert_eq!(inputs(&profile.join("other")), BTreeSet::new());
    }

    #[test]
    fn the_executable_is_read_from_cargos_messages() {
        let line = format!(
            r#"{{"reason":"compiler-artifact","package_id":"p","manifest_path":"/w/Cargo.toml",
            "target":{},"profile":{{"opt_level":"0","debuginfo":2,"debug_assertions":true,
            "overflow_checks":true,"test":false}},"features":[],"filenames":["/w/target/a"],
            "executable":"/w/target/a","fresh":true}}"#,
            target("a", "bin", "/w/src/a.rs")
        )
        .replace('\n', " ");
        let output = format!("not json\n{line}\n{{\"reason\":\"build-finished\"}}\n");
        assert_eq!(executable(output.as_bytes(), "a"), Some("/w/target/a".into()));
        assert_eq!(executable(output.as_bytes(), "b"), None);
        assert_eq!(executable(b"\xff\xfe", "a"), None);
    }
}
