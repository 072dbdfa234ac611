//! The files that a Go program is built from, as reported by `go list`.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;

/// The fields of `go list -json` that are read: those of [`Listed`].
pub(super) const FIELDS: &str = "Dir,Standard,Module,GoFiles,CgoFiles,CFiles,CXXFiles,MFiles,\
                                 HFiles,FFiles,SFiles,SwigFiles,SwigCXXFiles,SysoFiles,\
                                 IgnoredGoFiles,EmbedPatterns,EmbedFiles,Error,DepsErrors,\
                                 Incomplete";
/// Extensions of files that the go command compiles.
const COMPILED: [&str; 21] = [
    "go", "c", "cc", "cpp", "cxx", "m", "h", "hh", "hpp", "hxx", "f", "F", "for", "f90", "s", "S",
    "sx", "swig", "swigcxx", "syso", "inc",
];
/// Files that decide which modules are used.
const MODULE_FILES: [&str; 4] = ["go.mod", "go.sum", "go.work", "go.work.sum"];
/// Directories that are never embedded.
const NEVER_EMBEDDED: [&str; 4] = [".git", ".hg", ".svn", ".bzr"];
/// Suffixes of file names by which the go command ignores a file on other systems: `x_windows.go`.
/// Used only for files that `go list` reports as ignored.
const SYSTEMS: [&str; 38] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
    "zos",
    "386",
    "amd64",
    "arm",
    "arm64",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mipsle",
    "ppc64",
    "ppc64le",
    "riscv64",
    "s390x",
    "wasm",
    "sparc64",
    "riscv",
    "ppc",
    "s390",
    "sparc",
    "hurd",
    "nacl",
    "armbe",
];

/// The sources of a program: packages of the main module, of other modules of a workspace, and of
/// directories that replace modules. Without the standard library and the module cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Every reported file.
    files: BTreeSet<PathBuf>,
    /// The directories of packages. A new Go file in one of them is part of the program.
    packages: BTreeSet<PathBuf>,
    /// The directories of modules.
    modules: BTreeSet<PathBuf>,
    /// Files in the package directories that are for other systems, by their names.
    for_others: BTreeSet<PathBuf>,
    /// Embed patterns. New files that match are part of the program.
    embeds: Vec<Embed>,
    /// Why the sources may be incomplete. Then files are also judged by their extension.
    error: Option<String>,
}

/// A pattern of `//go:embed`.
#[derive(Clone, Debug)]
struct Embed {
    /// The directory of the package.
    package: PathBuf,
    /// The pattern as written, without `all:`.
    pattern: String,
    /// Whether files are also embedded whose names begin with `.` or `_`.
    all: bool,
    /// One matcher per part of the path.
    parts: Vec<GlobMatcher>,
    /// The directory to watch recursively; `None` if it is the package's own directory.
    directory: Option<PathBuf>,
}

/// One package, as printed by `go list`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Listed {
    dir: PathBuf,
    standard: bool,
    module: Option<Module>,
    go_files: Vec<PathBuf>,
    cgo_files: Vec<PathBuf>,
    c_files: Vec<PathBuf>,
    #[serde(rename = "CXXFiles")]
    cxx_files: Vec<PathBuf>,
    m_files: Vec<PathBuf>,
    h_files: Vec<PathBuf>,
    f_files: Vec<PathBuf>,
    s_files: Vec<PathBuf>,
    swig_files: Vec<PathBuf>,
    #[serde(rename = "SwigCXXFiles")]
    swig_cxx_files: Vec<PathBuf>,
    syso_files: Vec<PathBuf>,
    ignored_go_files: Vec<PathBuf>,
    embed_patterns: Vec<String>,
    embed_files: Vec<PathBuf>,
    error: Option<Failure>,
    deps_errors: Vec<Failure>,
    incomplete: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Module {
    main: bool,
    replace: Option<Replacement>,
    dir: Option<PathBuf>,
    go_mod: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Replacement {
    version: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Failure {
    err: String,
}

impl Listed {
    /// Whether the package is outside the standard library and the module cache.
    fn is_local(&self) -> bool {
        let Some(module) = &self.module else { return !self.standard };
        let is_replaced = module.replace.as_ref().is_some_and(|by| by.version.is_none());
        // A vendored package has a module, but is outside the module's directory.
        let is_there = module.dir.as_ref().is_some_and(|place| self.dir.starts_with(place));
        !self.standard && (module.main || is_replaced || !is_there)
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [
            &self.go_files,
            &self.cgo_files,
            &self.c_files,
            &self.cxx_files,
            &self.m_files,
            &self.h_files,
            &self.f_files,
            &self.s_files,
            &self.swig_files,
            &self.swig_cxx_files,
            &self.syso_files,
            &self.embed_files,
        ]
        .into_iter()
        .flatten()
    }

    fn failure(&self) -> Option<&str> {
        let first = self.error.iter().chain(&self.deps_errors).next();
        first
            .map(|failure| failure.err.as_str())
            .or(self.incomplete.then_some("a package is incomplete"))
    }
}

impl Sources {
    /// Parses the output of `go list`. `workspace` is the `go.work` in use, if there is one.
    pub(super) fn read(answer: &[u8], workspace: Option<&Path>) -> Self {
        let mut sources = Self::default();
        let packages = serde_json::Deserializer::from_slice(answer).into_iter::<Listed>();
        for package in packages {
            match package {
                Ok(package) => sources.add(&package),
                Err(error) => {
                    sources.error.get_or_insert(error.to_string());
                    break;
                }
            }
        }
        if sources.packages.is_empty() {
            sources.error.get_or_insert("go list named no package".to_owned());
        }
        if let Some(file) = workspace {
            sources.files.insert(file.with_file_name("go.work.sum"));
            sources.files.insert(file.to_owned());
        }
        sources
    }

    /// Returns unknown sources, for this reason.
    pub(super) fn unknown(why: String) -> Self {
        Self { error: Some(why), ..Self::default() }
    }

    fn add(&mut self, package: &Listed) {
        if let Some(why) = package.failure() {
            self.error.get_or_insert(why.lines().next().unwrap_or_default().to_owned());
        }
        if !package.is_local() || package.dir.as_os_str().is_empty() {
            return;
        }
        // The go command uses the variable PWD, which may contain symbolic links.
        let directory = package.dir.canonicalize().unwrap_or_else(|_| package.dir.clone());
        self.files.extend(package.files().map(|file| directory.join(file)));
        let is_for_others = |file: &&PathBuf| is_for_other_system(file);
        let ignored = package.ignored_go_files.iter().filter(is_for_others);
        self.for_others.extend(ignored.map(|file| directory.join(file)));
        self.embeds
            .extend(package.embed_patterns.iter().filter_map(|one| Embed::new(&directory, one)));
        self.packages.insert(directory);
        let Some(module) = &package.module else { return };
        if let Some(file) = &module.go_mod {
            let file = canonical_parent(file);
            if let Some(place) = file.parent().filter(|_| module.main || module.replace.is_some()) {
                if module.main {
                    // These files may also be created later.
                    self.files.insert(place.join("go.sum"));
                    self.files.insert(place.join("go.work"));
                }
                self.modules.insert(place.to_owned());
                self.files.insert(file);
            }
        }
    }

    /// Returns the union. It is incomplete if either of them is.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.files.extend(other.files.iter().cloned());
        self.packages.extend(other.packages.iter().cloned());
        self.modules.extend(other.modules.iter().cloned());
        self.for_others.extend(other.for_others.iter().cloned());
        for embed in &other.embeds {
            if !self.embeds.contains(embed) {
                self.embeds.push(embed.clone());
            }
        }
        self.error = self.error.or_else(|| other.error.clone());
        self
    }

    /// Returns the current knowledge after this listing. A listing with an error may be incomplete,
    /// so the former sources are kept.
    #[must_use]
    pub fn after(self, former: Option<&Self>) -> Self {
        match former {
            Some(former) if self.error.is_some() => self.and(former),
            _ => self,
        }
    }

    /// Why the sources may be incomplete.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The directories of the packages.
    pub fn packages(&self) -> impl Iterator<Item = &PathBuf> {
        self.packages.iter()
    }

    /// Whether a build reads this file, or would read it if it existed.
    pub fn has(&self, path: &Path) -> bool {
        self.files.contains(path)
            || self.is_in_package(path)
            || self.embeds.iter().any(|embed| embed.has(path))
    }

    /// Whether a build reads this file; `None` if that is unknown.
    pub fn judge(&self, path: &Path) -> Option<bool> {
        if self.has(path) {
            return Some(true);
        }
        let is_ours = is_compiled(path) || is_module_file(path);
        (is_ours && self.error.is_none()).then_some(false)
    }

    /// Whether this file is compiled because it is in the directory of a package.
    fn is_in_package(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        is_compiled(path)
            && !name.starts_with(b".")
            && !name.starts_with(b"_")
            && !name.ends_with(b"_test.go")
            && path.parent().is_some_and(|place| self.packages.contains(place))
            && !self.for_others.contains(path)
    }

    /// Whether files that a build reads may be in this directory or below it.
    pub fn leads_to(&self, directory: &Path) -> bool {
        self.packages.contains(directory)
            || has_below(&self.packages, directory)
            || has_below(&self.files, directory)
            || self.embeds.iter().any(|embed| embed.leads_to(directory))
    }

    /// Whether the program is not built from the module in this directory.
    pub fn is_foreign_module(&self, directory: &Path) -> bool {
        self.error.is_none() && !self.modules.contains(directory) && !self.leads_to(directory)
    }

    /// The files, and the embedded directories.
    pub fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().chain(self.embeds.iter().filter_map(|embed| embed.directory.as_ref()))
    }

    /// Whether both require the same watches: files that only one of them contains must be in
    /// directories that are watched for any Go file.
    pub fn is_watched_as(&self, other: &Self) -> bool {
        let differ = self.files.symmetric_difference(&other.files);
        self.packages == other.packages
            && self.modules == other.modules
            && self.embeds == other.embeds
            && self.for_others == other.for_others
            && self.error.is_some() == other.error.is_some()
            && differ.into_iter().all(|file| self.is_in_package(file))
    }

    /// Whether the output of `go list` may change when this file is saved, or this directory is
    /// created. It may when anything is deleted.
    pub fn may_change_by(path: &Path) -> bool {
        is_compiled(path) || is_module_file(path) || path.extension().is_none()
    }
}

impl Embed {
    fn new(package: &Path, written: &str) -> Option<Self> {
        let (pattern, all) = match written.strip_prefix("all:") {
            Some(pattern) => (pattern, true),
            None => (written, false),
        };
        let pattern = pattern.trim_end_matches('/');
        let parts = pattern.split('/').filter(|part| *part != ".").map(|part| {
            // Braces have no special meaning in Go's patterns.
            let glob = part.replace('{', "[{]").replace('}', "[}]");
            let mut glob = GlobBuilder::new(&glob);
            let glob = glob.literal_separator(true).backslash_escape(true).build();
            glob.ok().map(|glob| glob.compile_matcher())
        });
        let is_literal = |part: &&str| !part.contains(['*', '?', '[', '\\']);
        let fixed: PathBuf = pattern.split('/').take_while(is_literal).collect();
        let directory = package.join(fixed);
        let is_below = directory.is_dir() && directory != package;
        Some(Self {
            package: package.to_owned(),
            pattern: pattern.to_owned(),
            all,
            parts: parts.collect::<Option<_>>()?,
            directory: is_below.then_some(directory),
        })
    }

    /// The parts of a path below the package.
    fn parts_of<'a>(&self, path: &'a Path) -> Option<Vec<&'a std::ffi::OsStr>> {
        let below = path.strip_prefix(&self.package).ok()?;
        let parts = below.components().filter_map(|part| match part {
            Component::Normal(part) => Some(part),
            _ => None,
        });
        Some(parts.collect())
    }

    /// Whether the first parts of a path match the pattern, and the other parts have names that are
    /// embedded.
    fn fits(&self, parts: &[&std::ffi::OsStr]) -> bool {
        let is_embedded = |part: &&std::ffi::OsStr| {
            let name = part.as_encoded_bytes();
            let is_hidden = name.starts_with(b".") || name.starts_with(b"_");
            (self.all || !is_hidden) && !NEVER_EMBEDDED.iter().any(|never| *part == *never)
        };
        parts.iter().zip(&self.parts).all(|(part, glob)| {
            glob.is_match(Path::new(part)) && !NEVER_EMBEDDED.iter().any(|never| *part == *never)
        }) && parts.iter().skip(self.parts.len()).all(is_embedded)
    }

    fn has(&self, path: &Path) -> bool {
        self.parts_of(path).is_some_and(|parts| {
            !parts.is_empty() && parts.len() >= self.parts.len() && self.fits(&parts)
        })
    }

    /// Whether files in this directory, or below it, may be embedded.
    fn leads_to(&self, directory: &Path) -> bool {
        self.package.starts_with(directory)
            || self.parts_of(directory).is_some_and(|parts| self.fits(&parts))
    }
}

impl PartialEq for Embed {
    fn eq(&self, other: &Self) -> bool {
        (&self.package, &self.pattern, self.all) == (&other.package, &other.pattern, other.all)
    }
}

impl Eq for Embed {}

fn is_compiled(path: &Path) -> bool {
    path.extension().is_some_and(|end| COMPILED.iter().any(|one| end == *one))
}

/// Whether this file decides which modules are used.
pub fn is_module_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| MODULE_FILES.iter().any(|one| name == *one))
}

fn is_for_other_system(file: &Path) -> bool {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    stem.rsplit_once('_').is_some_and(|(_, end)| SYSTEMS.contains(&end))
}

/// Returns the path of a file with the symbolic links of its directory resolved.
fn canonical_parent(file: &Path) -> PathBuf {
    let parent = file.parent().and_then(|parent| parent.canonicalize().ok());
    match (parent, file.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => file.to_owned(),
    }
}

/// Whether one of the paths is below this directory.
fn has_below(paths: &BTreeSet<PathBuf>, directory: &Path) -> bool {
    let after = (Bound::Excluded(directory), Bound::Unbounded);
    paths.range::<Path, _>(after).next().is_some_and(|next| next.starts_with(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(json: &str) -> Sources {
        Sources::read(json.as_bytes(), None)
    }

    const MAIN: &str = r#"{"Dir":"/m","Module":{"Main":true,"Dir":"/m","GoMod":"/m/go.mod"},
        "GoFiles":["main.go"],"IgnoredGoFiles":["gen.go","x_windows.go"],
        "EmbedPatterns":["static","all:web","db/*.sql","*.txt"],
        "EmbedFiles":["static/a.css"]}"#;

    #[test]
    fn what_was_named_and_what_would_be_is_read_by_the_build() {
        let sources = sources(MAIN);
        assert_eq!(sources.error(), None);
        let read = [
            "main.go",
            "new.go",
            "gen.go",
            "new.h",
            "static/a.css",
            "static/b/new.js",
            "web/.x",
            "web/_y/z",
            "db/new.sql",
            "a.txt",
            "go.mod",
            "go.sum",
            "go.work",
        ];
        for name in read {
            assert_eq!(sources.judge(&Path::new("/m").join(name)), Some(true), "{name}");
        }
        for name in ["x_test.go", "x_windows.go", "_x.go", "other/x.go", "nested/go.mod"] {
            assert_eq!(sources.judge(&Path::new("/m").join(name)), Some(false), "{name}");
        }
        for name in ["static/.x", "static/_y/z", "db/deep/x.sql", "web/.git/x", "a.tmpl"] {
            assert_eq!(sources.judge(&Path::new("/m").join(name)), None, "{name}");
        }
        assert!(
            ["", "static", "static/b", "web/.x", "db"]
                .iter()
                .all(|name| sources.leads_to(&Path::new("/m").join(name)))
        );
        assert!(
            ["other", "static/.x", "web/.git"]
                .iter()
                .all(|name| !sources.leads_to(&Path::new("/m").join(name)))
        );
        assert!(sources.is_foreign_module(Path::new("/m/worktree")));
    }

    #[test]
    fn the_standard_library_and_the_module_cache_are_left_out_vendor_and_replaced_ones_are_not() {
        let package = |dir: &str, rest: &str| format!(r#"{{"Dir":"{dir}"{rest}}}"#);
        let read = sources(
            &[
                package("/go/src/fmt", r#","Standard":true"#),
                package(
                    "/cache/x@v1/y",
                    r#","Module":{"Dir":"/cache/x@v1","GoMod":"/cache/x.mod"}"#,
                ),
                package(
                    "/cache/fork@v1",
                    r#","Module":{"Dir":"/cache/fork@v1","Replace":{"Version":"v1"}}"#,
                ),
                package("/m/vendor/z", r#","Module":{"Path":"z","Version":"v1"}"#),
                package(
                    "/other/a",
                    r#","Module":{"Dir":"/other","GoMod":"/other/go.mod","Replace":{"Path":"../lib"}}"#,
                ),
            ]
            .join("\n"),
        );
        let packages: Vec<_> = read.packages().map(|one| one.display().to_string()).collect();
        assert_eq!(packages, ["/m/vendor/z", "/other/a"]);
        assert!(read.has(Path::new("/other/go.mod")));
        assert!(!read.has(Path::new("/cache/x.mod")));
    }

    #[test]
    fn a_listing_with_an_error_decides_against_nothing_and_forgets_nothing() {
        let former = sources(MAIN);
        let broken = r#"{"Dir":"/m","Incomplete":true,"Error":{"Err":"main.go:3: expected x"}}"#;
        let broken = sources(broken).after(Some(&former));
        assert_eq!(broken.error(), Some("main.go:3: expected x"));
        assert!(broken.has(Path::new("/m/static/a.css")));
        assert_eq!(broken.judge(Path::new("/m/other/x.go")), None);
        assert!(!broken.is_foreign_module(Path::new("/m/worktree")));
        assert_eq!(sources(MAIN).after(Some(&broken)), former);
        assert!(sources("").error().is_some());
        assert!(sources("go: no such thing").error().is_some());
    }

    #[test]
    fn a_new_file_of_a_package_is_no_reason_to_watch_anew() {
        let with_new = MAIN.replace("\"main.go\"", "\"main.go\",\"new.go\"");
        assert!(sources(MAIN).is_watched_as(&sources(&with_new)));
        let with_other = format!("{MAIN}{}", MAIN.replace("/m\"", "/m/b\""));
        assert!(!sources(MAIN).is_watched_as(&sources(&with_other)));
    }

    #[test]
    fn fuzz_whatever_go_list_prints_is_read() {
        let corpus = [concat!(
            "{\"Dir\":\"/x\",\"ImportPath\":\"a/b\",\"GoFiles\":[\"a.go\"],\"EmbedPatterns\":[\"all:*.x\"],",
            "\"Module\":{\"Path\":\"a\",\"Main\":true,\"Dir\":\"/x\",\"GoMod\":\"/x/go.mod\"}}\n",
            "{\"Dir\":\"/y\",\"Error\":{\"Err\":\"broken\"},\"Incomplete\":true}\n"
        )];
        crate::fuzz::hammer(&corpus, &["\"Standard\":true", "null", "{", "[", "../"], |text| {
            let sources = Sources::read(text, None);
            assert!(sources.error().is_some() || sources.packages().next().is_some());
        });
    }
}
