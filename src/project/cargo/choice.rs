//! Chooses the program, as `cargo run` would, and names its package.

use std::path::Path;

use cargo_metadata::{Metadata, Package, Target, TargetKind};

use super::{Selection, directory_of};
use crate::error::{Error, Result};

type Found<'a> = Vec<(&'a Package, &'a Target)>;

/// Returns the selected program.
///
/// See <https://doc.rust-lang.org/cargo/commands/cargo-run.html>.
pub(super) fn choose<'a>(
    metadata: &'a Metadata,
    manifest: &Path,
    selection: &Selection,
) -> Result<(&'a Package, &'a Target)> {
    let candidates = candidates(metadata, manifest, selection)?;
    let kind = if selection.example.is_some() { TargetKind::Example } else { TargetKind::Bin };
    let flag = if kind == TargetKind::Example { "--example" } else { "--bin" };
    let found = programs(&candidates, &kind);
    let default_runs: Vec<_> =
        candidates.iter().filter_map(|one| one.default_run.as_deref()).collect();
    let wanted = selection.example.as_deref().or(selection.bin.as_deref());
    let wanted = match (wanted, &default_runs[..]) {
        (Some(wanted), _) => wanted,
        (None, [only]) => only,
        (None, _) if found.is_empty() && selection.example.is_none() => {
            return the_library(&candidates, manifest);
        }
        (None, _) => return the_only(&found, manifest),
    };
    let named: Found = found.iter().filter(|(_, one)| one.name == *wanted).copied().collect();
    match &named[..] {
        [only] => Ok(*only),
        [] => {
            let error = Error::usage(format!("{flag} {wanted}"), "no program of that name here");
            let others = programs(&metadata.workspace_packages(), &kind);
            let elsewhere = others.iter().find(|(_, target)| target.name == *wanted);
            Err(match elsewhere {
                Some((package, _)) => {
                    error.remedy(format!("hotrun -p {} {flag} {wanted}", package.name))
                }
                None if found.is_empty() => error,
                None => error.remedy(format!("available: {}", names(&found))),
            })
        }
        [(first, _), ..] => {
            let packages: Vec<_> = named.iter().map(|(package, _)| package.name.as_str()).collect();
            let why = format!("several packages have it: {}", packages.join(", "));
            Err(Error::usage(format!("{flag} {wanted}"), why)
                .remedy(format!("hotrun -p {} {flag} {wanted}", first.name)))
        }
    }
}

/// Maximum number of programs that are named by a command each.
const MAX_NAMED: usize = 8;

fn the_only<'a>(found: &Found<'a>, manifest: &Path) -> Result<(&'a Package, &'a Target)> {
    match &found[..] {
        [only] => Ok(*only),
        several => {
            let commands = several
                .iter()
                .take(MAX_NAMED)
                .map(|(_, target)| format!("hotrun --bin {}\n", target.name));
            let commands: String = commands.collect();
            let why = format!("several programs to choose from: {}", names(several));
            Err(Error::usage(manifest.display(), why)
                .remedy(commands + "or set default-run in Cargo.toml"))
        }
    }
}

/// Returns the library to check, if there is no program.
fn the_library<'a>(
    candidates: &[&'a Package],
    manifest: &Path,
) -> Result<(&'a Package, &'a Target)> {
    let libraries: Found<'a> = candidates
        .iter()
        .flat_map(|package| package.targets.iter().map(move |target| (*package, target)))
        .filter(|(_, target)| super::is_library(target))
        .collect();
    match &libraries[..] {
        [only] => Ok(*only),
        [] => Err(Error::usage(manifest.display(), "neither a program nor a library")
            .remedy("name a command: `hotrun -x 'cargo check'`")),
        [(first, _), ..] => {
            let names: Vec<&str> = libraries.iter().map(|(one, _)| one.name.as_str()).collect();
            let why = format!("no program, but several libraries: {}", names.join(", "));
            Err(Error::usage(manifest.display(), why).remedy(format!(
                "to check one: `hotrun -p {}`\nto check all: `hotrun -x 'cargo check --workspace'`",
                first.name
            )))
        }
    }
}

fn programs<'a>(packages: &[&'a Package], kind: &TargetKind) -> Found<'a> {
    let targets = |package: &&'a Package| {
        let package = *package;
        package.targets.iter().map(move |target| (package, target))
    };
    packages.iter().flat_map(targets).filter(|(_, target)| target.kind.contains(kind)).collect()
}

fn names(found: &[(&Package, &Target)]) -> String {
    let names: Vec<_> = found.iter().map(|(_, target)| target.name.as_str()).collect();
    names.join(", ")
}

/// The packages whose programs are candidates.
fn candidates<'a>(
    metadata: &'a Metadata,
    manifest: &Path,
    selection: &Selection,
) -> Result<Vec<&'a Package>> {
    let members = metadata.workspace_packages();
    if let Some(spec) = &selection.package {
        let named: Vec<_> = members.iter().filter(|one| fits(spec, one)).copied().collect();
        if named.is_empty() {
            let all: Vec<_> = members.iter().map(|one| one.name.as_str()).collect();
            return Err(Error::usage(format!("-p {spec}"), "no package of that name here")
                .remedy(format!("the workspace has: {}", all.join(", "))));
        }
        return Ok(named);
    }
    if metadata.workspace_default_members.is_available() {
        return Ok(metadata.workspace_default_packages());
    }
    // Before version 1.71, cargo did not report the default members.
    let here = members.iter().find(|one| one.manifest_path.as_std_path() == manifest);
    Ok(here.map_or(members.clone(), |one| vec![*one]))
}

/// Whether a package ID specification matches the package: `name`, `name@version` or a URL.
///
/// See <https://doc.rust-lang.org/cargo/reference/pkgid-spec.html>.
fn fits(spec: &str, package: &Package) -> bool {
    let (name, version) = (package.name.as_str(), package.version.to_string());
    let is_version = |text: &str| {
        let rest = version.strip_prefix(text);
        !text.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let is_named = |text: &str| match text.split_once(['@', ':']) {
        Some((one, of)) => one == name && is_version(of),
        None => text == name,
    };
    if package.id.repr == spec {
        return true;
    }
    let Some((scheme, rest)) = spec.split_once("://") else { return is_named(spec) };
    let (path, fragment) = rest.split_once('#').unwrap_or((rest, name));
    matches!(scheme, "file" | "path+file")
        && Path::new(path) == directory_of(package)
        && (is_named(fragment) || is_version(fragment))
}

/// Returns a specification that is unambiguous even if a dependency has the same name.
pub(super) fn spec_for_cargo(package: &Package) -> String {
    let id = &package.id.repr;
    // Before version 1.77, an id was not a specification.
    let is_spec = id.contains("://") && !id.contains(' ');
    if is_spec { id.clone() } else { package.name.to_string() }
}

/// Returns the shortest specification that matches no other package of the project.
pub(super) fn spec_for_people(metadata: &Metadata, package: &Package) -> String {
    let namesakes = metadata.packages.iter().filter(|one| one.name == package.name);
    let others: Vec<_> = namesakes.filter(|one| one.id != package.id).collect();
    if others.is_empty() {
        package.name.to_string()
    } else if others.iter().all(|one| one.version != package.version) {
        format!("{}@{}", package.name, package.version)
    } else {
        spec_for_cargo(package)
    }
}
