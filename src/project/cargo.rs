//! Cargo packages and workspaces.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use cargo_metadata::{
    DependencyKind, Message, Metadata, Node, Package, PackageId, Target, TargetKind,
};

use super::{Ask, Makes, Nested, Plan, Question, Selection};
use crate::error::Result;

mod choice;
pub mod launch;
mod metadata;
mod settings;

pub use launch::Launch;
use settings::Settings;
pub use settings::{Runner, Variables};

/// Files at the workspace's root by which rustup chooses the toolchain.
const TOOLCHAIN: [&str; 2] = ["rust-toolchain.toml", "rust-toolchain"];

/// Asks cargo about the project, and derives the plan.
pub async fn plan(
    directory: &Path,
    manifest: &Path,
    selection: &Selection,
    variables: &Variables,
    ask: &impl Ask,
) -> Result<Plan> {
    let settings = Settings::read(directory, variables);
    let targets = settings.targets(variables);
    let rustc = settings.rustc(variables);
    let place = (directory, manifest);
    let asking = metadata::Asking { place, flags: &selection.flags, targets: &targets };
    // Only a runner depends on the name of the host, so rustc is rarely asked.
    let needs_host =
        settings.has_runner(variables) && targets.iter().all(|target| target == metadata::HOST);
    let host =
        async { if needs_host { metadata::host(&rustc, directory, ask).await } else { None } };
    let (asked, host) = tokio::join!(asking.ask(&rustc, ask), host);
    let files = || files_beside(directory, manifest.parent().unwrap_or(directory), &settings);
    let asked = asked.map_err(|error| {
        // An error in a file can be fixed while hotrun waits.
        let is_fixed_in_files = error.is_by_command();
        if is_fixed_in_files { metadata::with_files(error, manifest, files()) } else { error }
    })?;
    let mut plan = from_metadata(&asked.metadata, manifest, selection)?;
    plan.warnings.extend(asked.warning);
    let target = match &targets[..] {
        [] => host,
        [one] if one == metadata::HOST => host,
        [one] => Some(settings::name_of_target(one)),
        // `cargo run` refuses several targets.
        _ => None,
    };
    let root = asked.metadata.workspace_root.as_std_path();
    let settings_files = files_beside(directory, root, &settings);
    plan.files.extend(settings_files.iter().cloned());
    if let Some(launch) = &mut plan.launch {
        launch.settings = settings_files;
        launch.target = target.unwrap_or_default();
        let cfg = if settings.has_cfg_runner() {
            metadata::cfg(&rustc, &launch.target, directory, ask).await?
        } else {
            Vec::new()
        };
        launch.runner = settings.runner(&launch.target, &cfg, variables)?;
    }
    Ok(plan)
}

/// The configuration files of cargo and rustup: those that were read, and the places below the
/// workspace's root where others may be created.
fn files_beside(directory: &Path, root: &Path, settings: &Settings) -> Vec<PathBuf> {
    let mut files: BTreeSet<PathBuf> = settings.files().cloned().collect();
    for place in directory.ancestors() {
        let is_ours = place.starts_with(root);
        let names = settings::NAMES.iter().map(|name| place.join(".cargo").join(name));
        let names = names.chain(TOOLCHAIN.iter().map(|name| place.join(name)));
        files.extend(names.filter(|file| is_ours || file.is_file()));
    }
    files.into_iter().collect()
}

/// The cargo that started hotrun (`cargo hotrun`), else the one on the PATH.
fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn from_metadata(metadata: &Metadata, manifest: &Path, selection: &Selection) -> Result<Plan> {
    let (package, target) = choice::choose(metadata, manifest, selection)?;
    let (used, elsewhere) = path_dependencies(metadata, package, is_example(target));
    let mut directories: HashSet<PathBuf> = used.iter().map(|one| directory_of(one)).collect();
    directories.extend(elsewhere);
    // A target's source may be outside its package.
    let sources = used.iter().flat_map(|one| &one.targets).filter(|one| is_part(one, target));
    let outside: Vec<PathBuf> = sources
        .filter_map(|one| one.src_path.as_std_path().parent())
        .filter(|place| !directories.iter().any(|directory| place.starts_with(directory)))
        .map(Path::to_owned)
        .collect();
    directories.extend(outside);

    // The same selection for `build` and `run`, so that both make the same program.
    let mut select: Vec<OsString> = vec!["--manifest-path".into(), manifest.into()];
    select.extend(["-p".into(), choice::spec_for_cargo(package).into()]);
    let kind = if is_example(target) { "--example" } else { "--bin" };
    let is_library = is_library(target);
    if !is_library {
        select.extend([kind.into(), (&target.name).into()]);
    }
    select.extend(selection.flags.iter().map(OsString::from));
    let mut shown: Vec<String> = Vec::new();
    if selection.package.is_some() {
        shown.extend(["-p".to_owned(), choice::spec_for_people(metadata, package)]);
    }
    if !is_library {
        shown.extend([kind.to_owned(), target.name.clone()]);
    }
    shown.extend(selection.flags.iter().cloned());
    let shown = shown.join(" ");

    let command = if is_library { "check" } else { "build" };
    let mut build: Vec<OsString> = vec![program(), command.into()];
    if !is_library {
        // Errors and the progress bar go to stderr as always, messages for hotrun to stdout.
        build.push("--message-format=json-render-diagnostics".into());
    }
    build.extend(select.iter().cloned());

    let root = metadata.workspace_root.as_std_path();
    let manifests = [root.join("Cargo.toml"), package.manifest_path.clone().into()];
    let made = [Some(&metadata.target_directory), metadata.build_directory.as_ref()];
    Ok(Plan {
        build,
        label: format!("cargo {command} {shown}").trim_end().to_owned(),
        makes: if is_library { Makes::Nothing } else { Makes::CargoTarget(target.name.clone()) },
        without: without(metadata, &used, &directories, target),
        made: made.into_iter().flatten().map(|one| one.as_std_path().to_owned()).collect(),
        roots: roots(&directories),
        files: vec![root.join("Cargo.toml"), root.join("Cargo.lock")],
        exclude: Vec::new(),
        asks: Vec::new(),
        nested: Some(Nested {
            marker: "Cargo.toml",
            used: used.iter().map(|one| directory_of(one)).collect(),
        }),
        warnings: Vec::new(),
        launch: (!is_library).then(|| Launch {
            cargo: program(),
            run: select,
            label: format!("cargo run {shown}"),
            manifests: manifests.into(),
            ..Launch::default()
        }),
    })
}

/// Whether this is the library of a package, which is checked if the package has no programs.
fn is_library(target: &Target) -> bool {
    let kinds = [
        TargetKind::Lib,
        TargetKind::RLib,
        TargetKind::DyLib,
        TargetKind::CDyLib,
        TargetKind::StaticLib,
        TargetKind::ProcMacro,
    ];
    kinds.iter().any(|kind| target.kind.contains(kind))
}

fn is_example(target: &Target) -> bool {
    target.kind.contains(&TargetKind::Example)
}

/// Returns the package and its dependencies, as far as they are local, and the directories of local
/// packages that the metadata does not describe.
///
/// Development dependencies are included only for an example.
fn path_dependencies<'a>(
    metadata: &'a Metadata,
    package: &'a Package,
    is_example: bool,
) -> (Vec<&'a Package>, Vec<PathBuf>) {
    let packages: HashMap<&PackageId, &Package> =
        metadata.packages.iter().map(|one| (&one.id, one)).collect();
    let nodes: HashMap<&PackageId, &Node> =
        metadata.resolve.iter().flat_map(|all| &all.nodes).map(|node| (&node.id, node)).collect();
    let by_directory: HashMap<PathBuf, &Package> =
        metadata.packages.iter().map(|one| (directory_of(one), one)).collect();
    let mut used = vec![package];
    let mut elsewhere = Vec::new();
    let mut seen = HashSet::from([&package.id]);
    let mut queue = vec![package];
    while let Some(one) = queue.pop() {
        let with_dev = is_example && one.id == package.id;
        let next: Vec<&Package> = match nodes.get(&one.id) {
            Some(node) => {
                needed(node, with_dev).filter_map(|id| packages.get(id)).copied().collect()
            }
            // Without resolved dependencies, use those in the manifests.
            None => one
                .dependencies
                .iter()
                .filter(|dependency| with_dev || dependency.kind != DependencyKind::Development)
                .filter_map(|dependency| dependency.path.as_ref())
                .filter_map(|path| {
                    let known = by_directory.get(path.as_std_path()).copied();
                    if known.is_none() {
                        elsewhere.push(path.as_std_path().to_owned());
                    }
                    known
                })
                .collect(),
        };
        for dependency in next {
            // A package with a source comes from a registry or from git, and is not edited.
            if dependency.source.is_none() && seen.insert(&dependency.id) {
                used.push(dependency);
                queue.push(dependency);
            }
        }
    }
    (used, elsewhere)
}

/// The packages that this one is built with.
fn needed(node: &Node, with_dev: bool) -> impl Iterator<Item = &PackageId> {
    // Before version 1.41, cargo did not report the kinds of dependencies.
    let older = node.deps.is_empty().then_some(&node.dependencies).into_iter().flatten();
    let is_needed = move |kinds: &[cargo_metadata::DepKindInfo]| {
        let is_dev = |one: &cargo_metadata::DepKindInfo| one.kind == DependencyKind::Development;
        with_dev || kinds.is_empty() || !kinds.iter().all(is_dev)
    };
    let newer = node.deps.iter().filter(move |one| is_needed(&one.dep_kinds)).map(|one| &one.pkg);
    newer.chain(older)
}

/// Whether a target is part of the program. Tests, benches and examples are not, except the program
/// itself.
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

/// The directories below the roots to ignore: packages that the program does not use, and the
/// tests, benches and examples of packages that it does.
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

/// Finds the executable of a target in the output of `cargo build --message-format=json`.
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

/// Returns what a build has read, by the dep-info file that cargo writes beside the executable:
/// sources, files that they include, and dependencies of build scripts (also directories). Files
/// that builds generate are excluded.
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

/// The prerequisites of a make rule, in which blanks are escaped.
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
    use cargo_metadata::MetadataCommand;

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
             help: hotrun --bin a\n        hotrun --bin b\n        or set default-run in Cargo.toml"
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
        assert_eq!(error, "--bin c: no program of that name here\n  help: available: a, b");
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

    #[test]
    fn fuzz_whatever_cargo_prints_is_read() {
        let metadata = serde_json::to_string(&two_programs("")).unwrap();
        let artifact = "{\"reason\":\"compiler-artifact\",\"executable\":\"/x\",\"target\":{\"name\":\"app\"}}\n\
                        app: /a\\ b.rs /c.rs\n";
        crate::fuzz::hammer(&[&metadata, artifact], &["null", "\"id\":", "[]", "{}"], |text| {
            let said = String::from_utf8_lossy(text);
            executable(text, "app");
            dependencies(&said).for_each(drop);
            settings::cfg_values(&said);
            if let Ok(metadata) = MetadataCommand::parse(&said) {
                // The result does not matter here.
                let _ = selected(&metadata, &Selection::default());
            }
        });
    }
}
