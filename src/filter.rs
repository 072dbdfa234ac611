//! Decides whether a path matters. Pure: it never accesses the disk.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use globset::GlobSet;

use crate::config::{Globs, Rule, Watch};

/// Decides about paths by the configuration.
#[derive(Clone, Debug)]
pub struct Filter {
    watch: Watch,
}

/// What a change of a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does not matter.
    Ignored,
    /// It matters unless a `.gitignore` ignores it.
    Matters,
    /// It matters even if a `.gitignore` ignores it, since the configuration or a build names it.
    Named,
}

/// The configuration key or the rule of hotrun's that decides about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// A file in use: the configuration, an env file, or a named file outside of every root.
    InUse,
    /// The path lies in no watched directory.
    Outside,
    /// The build creates it, and the app is started from it.
    Artifact,
    /// `tmp_dir`, `testdata_dir`, or the build log.
    Never(&'a Path),
    /// This directory is in `build.exclude_dir`, or excluded for this kind of project.
    ExcludeDir(&'a Path),
    /// `watch.exclude`.
    Exclude(&'a Path),
    /// The name of this directory starts with a dot.
    Hidden(&'a Path),
    /// This directory holds installed packages, or what an interpreter compiles.
    Installed(&'a Path),
    /// The path lies in none of the directories in `build.include_dir`.
    OutsideIncludeDir,
    /// `build.exclude_file`.
    ExcludeFile,
    /// `build.exclude_regex`.
    ExcludeRegex,
    /// A temporary or backup file of an editor.
    Dropping,
    /// The path matches the rule with this index.
    Rule(usize),
    /// `build.include_file`.
    IncludeFile,
    /// `watch.include`.
    Include,
    /// The last build reported that it reads it.
    Input,
    /// `go list` lists it or its package.
    Listed,
    /// `go list` lists neither it nor its package.
    NotListed,
    /// This directory holds a `CACHEDIR.TAG`, or a build by `CMake` or Meson.
    Cache(&'a Path),
    /// This directory holds another project, which the program does not use.
    Foreign(&'a Path),
    /// `build.include_ext` lists its extension.
    Extension,
    /// `run.revive_ext` has its extension.
    Revival,
    /// `build.include_ext` does not list its extension.
    NoExtension,
}

impl Filter {
    /// Creates a filter for this configuration.
    pub fn new(watch: Watch) -> Self {
        Self { watch }
    }

    /// Returns the configuration that the filter was created from.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Returns whether a change of this file matters.
    pub fn file(&self, path: &Path) -> Verdict {
        self.judge(path).0
    }

    /// Returns whether a change of this file matters, and why.
    pub fn judge<'a>(&self, path: &'a Path) -> (Verdict, Reason<'a>) {
        let watch = &self.watch;
        if watch.always.contains(path) {
            let reason = match self.rule_of(path) {
                Some(rule) => Reason::Rule(rule),
                None if watch.include_files.contains(path) => Reason::IncludeFile,
                None if watch.include.files.is_match(watch.relative(path)) => Reason::Include,
                None => Reason::InUse,
            };
            return (Verdict::Named, reason);
        }
        let Some(root) = watch.root_of(path) else {
            let is_input = self.is_input(path);
            return if is_input {
                (Verdict::Named, Reason::Input)
            } else {
                self.judge_outside(path)
            };
        };
        if watch.never.contains(path) {
            let is_artifact = watch.artifact.as_deref() == Some(path);
            let reason = if is_artifact { Reason::Artifact } else { Reason::Never(path) };
            return (Verdict::Ignored, reason);
        }
        let is_include_file = watch.include_files.contains(path);
        if is_dropping(path) && !is_include_file {
            return (Verdict::Ignored, Reason::Dropping);
        }
        let above = || path.ancestors().skip(1).take_while(|above| *above != root);
        if let Some(number) = self.rule_of(path) {
            let rule = &watch.rules[number];
            let named = rule.include_files.contains(path) || !rule.include_dirs.is_empty();
            return match above().find_map(|above| self.out(above, Purpose::Watch)) {
                Some(reason) => (Verdict::Ignored, reason),
                None if named => (Verdict::Named, Reason::Rule(number)),
                None => (Verdict::Matters, Reason::Rule(number)),
            };
        }
        let is_input = self.is_input(path);
        let listed = self.listed(path);
        let is_read = is_input || listed == Some(true);
        let purpose = if is_read { Purpose::Input } else { Purpose::Build };
        if let Some(reason) = above().find_map(|above| self.out(above, purpose)) {
            return (Verdict::Ignored, reason);
        }
        let relative = watch.relative(path);
        if let Some(reason) = self.excluded(path, is_read) {
            return (Verdict::Ignored, reason);
        }
        if is_include_file {
            return (Verdict::Named, Reason::IncludeFile);
        }
        if matches(&watch.include.files, relative) {
            return (Verdict::Named, Reason::Include);
        }
        if is_input {
            return (Verdict::Named, Reason::Input);
        }
        match listed {
            Some(true) => return (Verdict::Named, Reason::Listed),
            Some(false) => return (Verdict::Ignored, Reason::NotListed),
            None => {}
        }
        if !self.is_in_scope(path) {
            return (Verdict::Ignored, Reason::OutsideIncludeDir);
        }
        if path.file_name().is_some_and(|name| watch.extensions.has(name)) {
            (Verdict::Matters, Reason::Extension)
        } else if path.file_name().is_some_and(|name| watch.revives.has(name)) {
            (Verdict::Matters, Reason::Revival)
        } else {
            (Verdict::Ignored, Reason::NoExtension)
        }
    }

    /// Judges a file outside of every root: it matters if the build reads it and no list excludes
    /// it.
    fn judge_outside<'a>(&self, path: &'a Path) -> (Verdict, Reason<'a>) {
        let watch = &self.watch;
        if !watch.sources.as_ref().is_some_and(|sources| sources.has(path)) {
            return (Verdict::Ignored, Reason::Outside);
        }
        let is_never = |place: &&Path| watch.never.contains(*place);
        let is_left_out = |place: &&Path| watch.exclude_dirs.contains(*place);
        let reason = if let Some(place) = path.ancestors().find(is_never) {
            Some(Reason::Never(place))
        } else if is_dropping(path) {
            Some(Reason::Dropping)
        } else if let Some(place) = path.ancestors().find(is_left_out) {
            Some(Reason::ExcludeDir(place))
        } else {
            self.excluded(path, true)
        };
        match reason {
            Some(reason) => (Verdict::Ignored, reason),
            None => (Verdict::Named, Reason::Listed),
        }
    }

    /// Returns the list or glob that excludes this file.
    fn excluded<'a>(&self, path: &'a Path, is_read: bool) -> Option<Reason<'a>> {
        let watch = &self.watch;
        let relative = watch.relative(path);
        if matches(&watch.exclude.files, relative)
            || !is_read && matches(&watch.without_globs.files, relative)
        {
            return Some(Reason::Exclude(path));
        }
        if matches(&watch.exclude_files, relative) {
            return Some(Reason::ExcludeFile);
        }
        let is_excluded = || watch.exclude_regex.is_match(&path.to_string_lossy());
        (!watch.exclude_regex.is_empty() && is_excluded()).then_some(Reason::ExcludeRegex)
    }

    /// Returns whether the program is built from this file in a root; `None` if that is not known
    /// or does not decide.
    fn listed(&self, path: &Path) -> Option<bool> {
        let sources = self.watch.sources.as_ref().filter(|_| self.watch.sources_decide);
        sources.and_then(|sources| sources.judge(path))
    }

    /// Returns true if a source of the program lies, or may lie, below this directory.
    fn leads_to_listed(&self, directory: &Path) -> bool {
        let watch = &self.watch;
        watch.sources.as_ref().is_some_and(|sources| {
            (watch.sources_decide || watch.root_of(directory).is_none())
                && sources.leads_to(directory)
        })
    }

    /// Returns true for a file or directory whose changes the configuration counts as saves.
    pub fn is_source(&self, path: &Path) -> bool {
        self.file(path) != Verdict::Ignored
    }

    /// Returns the rule that has directories below this deleted one.
    pub fn rule_of_directory(&self, gone: &Path) -> Option<usize> {
        let has = |rule: &Rule| rule.include_dirs.iter().any(|dir| gone.starts_with(dir));
        self.watch.rules.iter().position(has)
    }

    /// Returns the first rule that a file matches.
    fn rule_of(&self, path: &Path) -> Option<usize> {
        self.watch.rules.iter().position(|rule| {
            let dirs = &rule.include_dirs;
            let is_below = dirs.is_empty() || dirs.iter().any(|dir| path.starts_with(dir));
            let any = rule.extensions.is_none() && rule.include_files.is_empty();
            let has_extension = rule.extensions.as_ref().is_some_and(|extensions| {
                path.file_name().is_some_and(|name| extensions.has(name))
            });
            is_below
                && (any || has_extension || rule.include_files.contains(path))
                && !rule.exclude_regex.is_match(&path.to_string_lossy())
        })
    }

    /// Returns true if nothing in this directory matters, so that it is neither walked nor watched.
    pub fn prunes(&self, directory: &Path) -> bool {
        self.out(directory, Purpose::Watch).is_some()
    }

    /// Returns why nothing in this directory matters.
    fn out<'a>(&self, directory: &'a Path, purpose: Purpose) -> Option<Reason<'a>> {
        let watch = &self.watch;
        if watch.never.contains(directory) {
            return Some(Reason::Never(directory));
        }
        // A rule opens an excluded directory for itself alone, as in air.
        let dirs_of_rules = || watch.rules.iter().flat_map(|rule| &rule.include_dirs);
        let opened =
            purpose == Purpose::Watch && dirs_of_rules().any(|dir| dir.starts_with(directory));
        if watch.exclude_dirs.contains(directory) && !opened {
            return Some(Reason::ExcludeDir(directory));
        }
        let leads_to_input = purpose != Purpose::Build
            && (self.leads_to_input(directory) || self.leads_to_listed(directory));
        let has_input = leads_to_input || purpose != Purpose::Build && self.is_input(directory);
        if watch.without.contains(directory) && !opened && !has_input {
            return Some(Reason::ExcludeDir(directory));
        }
        if watch.roots.iter().any(|root| root == directory) {
            return None;
        }
        if watch.root_of(directory).is_none() {
            return (!has_input).then_some(Reason::Outside);
        }
        let excludes = |globs: &Globs| {
            !globs.patterns.is_empty() && globs.directories.is_match(watch.relative(directory))
        };
        if !opened && (excludes(&watch.exclude) || !has_input && excludes(&watch.without_globs)) {
            return Some(Reason::Exclude(directory));
        }
        let leads_to_named = || opened || leads_to_input || self.leads_to_named(directory);
        let hidden =
            directory.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let installed = watch.skips_caches && is_installed(directory);
        let unusual = hidden || installed;
        if unusual && !watch.include_dirs.contains(directory) && !leads_to_named() {
            let reason = if hidden { Reason::Hidden } else { Reason::Installed };
            return Some(reason(directory));
        }
        let below_a_rule = || dirs_of_rules().any(|dir| directory.starts_with(dir));
        let wanted = self.is_in_scope(directory)
            || watch.include_dirs.iter().any(|included| included.starts_with(directory))
            || leads_to_named()
            || has_input
            || below_a_rule();
        (!wanted).then_some(Reason::OutsideIncludeDir)
    }

    /// Returns true if the build reads this file, or all files in a directory around it.
    fn is_input(&self, path: &Path) -> bool {
        let inputs = &self.watch.inputs;
        !inputs.is_empty() && path.ancestors().any(|one| inputs.contains(one))
    }

    /// Returns true if the build reads all files in this directory, or something below it.
    fn leads_to_input(&self, directory: &Path) -> bool {
        let inputs = &self.watch.inputs;
        !inputs.is_empty() && (inputs.contains(directory) || has_below(inputs, directory))
    }

    fn is_in_scope(&self, path: &Path) -> bool {
        let dirs = &self.watch.include_dirs;
        dirs.is_empty() || dirs.iter().any(|included| path.starts_with(included))
    }

    /// Returns true if a named path lies, or may lie, below this directory.
    pub fn leads_to_named(&self, directory: &Path) -> bool {
        let watch = &self.watch;
        let relative = watch.relative(directory);
        let by_glob = watch.include.fixed_parts().any(|fixed| {
            let is_named = !fixed.as_os_str().is_empty();
            is_named && (fixed.starts_with(relative) || relative.starts_with(fixed))
        });
        let by_rule = |rule: &Rule| {
            has_below(&rule.include_files, directory) || has_below(&rule.include_dirs, directory)
        };
        by_glob
            || has_below(&watch.include_files, directory)
            || has_below(&watch.include_dirs, directory)
            || self.leads_to_input(directory)
            || self.leads_to_listed(directory)
            || watch.rules.iter().any(by_rule)
    }

    /// Returns the directories that are named for all files in them.
    pub fn named_directories(&self) -> impl Iterator<Item = &PathBuf> {
        let of_rules = self.watch.rules.iter().flat_map(|rule| &rule.include_dirs);
        self.watch.include_dirs.iter().chain(of_rules).chain(&self.watch.inputs)
    }

    /// Returns true for a trigger file, for which `touch` alone counts as a save.
    pub fn is_trigger(&self, path: &Path) -> bool {
        let literally = |pattern: &String| self.watch.base.join(pattern) == path;
        self.watch.include_files.contains(path)
            || self.watch.include.patterns.iter().any(literally)
            || self.watch.rules.iter().any(|rule| rule.include_files.contains(path))
    }
}

/// The question asked about a directory: whether anything in it matters, whether sources do, or
/// whether inputs that the last build reported do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Watch,
    Build,
    Input,
}

/// Matches a path. Without the check, even an empty set would prepare the path for matching.
fn matches(globs: &GlobSet, path: &Path) -> bool {
    !globs.is_empty() && globs.is_match(path)
}

/// Returns true if one of the paths lies below this directory. Paths are sorted by their parts, so
/// those below a directory follow it.
fn has_below(paths: &BTreeSet<PathBuf>, directory: &Path) -> bool {
    let after = (Bound::Excluded(directory), Bound::Unbounded);
    paths.range::<Path, _>(after).next().is_some_and(|next| next.starts_with(directory))
}

/// Suffixes and prefixes of files that editors and file systems leave beside a file: backups; swap
/// files of Kate; files that `JetBrains`' and GNOME's editors write first and then rename; deleted
/// but open files on NFS and FUSE; attributes that macOS keeps on other file systems.
const DROPPING_ENDS: [&[u8]; 4] = [b"~", b".kate-swp", b"___jb_tmp___", b"___jb_old___"];
const DROPPING_STARTS: [&[u8]; 5] = [b".#", b".goutputstream-", b".nfs0", b".fuse_hidden", b"._"];

/// Directories into which package managers install, and interpreters compile.
const INSTALLED: [&str; 7] = [
    "node_modules",
    "bower_components",
    "jspm_packages",
    "elm-stuff",
    "site-packages",
    "__pycache__",
    "vendor/bundle",
];

fn is_installed(directory: &Path) -> bool {
    INSTALLED.iter().any(|name| directory.ends_with(name))
}

/// How the names of files go on that Vite, tsup and the like compile their own settings to, before
/// the end `.mjs`: `vite.config.ts.timestamp-1700000000000-3f0c.mjs`.
const COMPILED_SETTINGS: [&str; 2] = [".timestamp-", ".bundled_"];

fn is_compiled_settings(name: &[u8]) -> bool {
    let name = std::str::from_utf8(name).unwrap_or_default();
    name.ends_with("js") && COMPILED_SETTINGS.iter().any(|part| name.contains(part))
}

/// Returns true for files that editors create while saving: swap, lock, backup and probe files.
fn is_dropping(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let swap = name.starts_with(b".")
        && name.len() > 4
        && name[name.len() - 4..].starts_with(b".sw")
        && name[name.len() - 1].is_ascii_lowercase();
    let locked = name.len() > 1 && name.starts_with(b"#") && name.ends_with(b"#");
    swap || locked
        || is_compiled_settings(name)
        || is_vims_probe(name)
        || DROPPING_ENDS.iter().any(|end| name.ends_with(end))
        || DROPPING_STARTS.iter().any(|start| name.starts_with(start))
        || name == b".DS_Store"
}

/// vim creates a file with this name to test whether it may create files. If it exists, vim adds
/// 123, and so on.
fn is_vims_probe(name: &[u8]) -> bool {
    let is_number = (4..=5).contains(&name.len()) && name.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(name).ok().and_then(|text| text.parse().ok());
    is_number
        && number.is_some_and(|number: u32| number >= 4913 && (number - 4913).is_multiple_of(123))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::resolve;

    /// Checks what a configuration makes of paths below its root: `+` matters, `!` is named, `-` is
    /// ignored, `x` is a directory that is pruned, a digit is the matching rule.
    #[track_caller]
    fn check(name: &str, text: &str, expected: &[(&str, char)]) {
        let config = resolve(name, text).unwrap();
        let root = config.only().watch.roots[0].clone();
        let filter = Filter::new(config.only().watch.clone());
        for (path, verdict) in expected {
            let full = root.join(path);
            let found = match filter.judge(&full) {
                _ if path.ends_with('/') && filter.prunes(&full) => 'x',
                _ if path.ends_with('/') => '+',
                (Verdict::Ignored, _) => '-',
                (_, Reason::Rule(number)) => number.to_string().chars().next().unwrap(),
                (Verdict::Matters, _) => '+',
                (Verdict::Named, _) => '!',
            };
            assert_eq!(found, *verdict, "{path} with {text}");
        }
    }

    #[test]
    fn airs_defaults_watch_go_and_templates() {
        check(
            ".air.toml",
            "",
            &[
                ("main.go", '+'),
                ("a/b/page.tmpl", '+'),
                ("main_test.go", '-'),
                ("README.md", '-'),
                ("tmp/main.go", '-'),
                ("vendor/x/y.go", '-'),
                ("a/vendor/y.go", '+'),
                (".git/", 'x'),
                ("tmp/", 'x'),
                ("a/testdata/", '+'),
                ("testdata/", 'x'),
                (".hidden.go", '+'),
                (".#main.go", '-'),
                ("main.go~", '-'),
            ],
        );
    }

    #[test]
    fn include_dir_limits_and_include_file_reaches_beyond_extensions() {
        check(
            ".air.toml",
            "[build]\ninclude_dir = [\"pkg\"]\nexclude_dir = [\"./pkg/gen/\"]\n\
             include_file = [\"Makefile\", \"conf/app.yaml\"]",
            &[
                ("main.go", '-'),
                ("pkg/a.go", '+'),
                ("pkg/gen/", 'x'),
                ("pkg/gen/x.go", '-'),
                ("Makefile", '!'),
                ("conf/", '+'),
                ("conf/app.yaml", '!'),
                ("conf/other.go", '-'),
                ("cmd/", 'x'),
            ],
        );
    }

    #[test]
    fn globs_include_exclude_and_prune() {
        check(
            "hotrun.toml",
            "[build]\ncmd = \"true\"\nexclude_file = [\"*.gen.go\"]\nexclude_regex = [\"_mock\"]\n\
             [watch]\nexclude = [\"web/dist/**\", \"**/node_modules/**\", \"docs/*.md\"]\n\
             include = [\".config/app.yaml\", \"web/**/*.css\"]",
            &[
                ("anything", '+'),
                ("x.gen.go", '-'),
                ("a/x.gen.go", '+'),
                ("a/db_mock.go", '-'),
                ("web/dist/", 'x'),
                ("web/dist/app.css", '-'),
                ("a/b/node_modules/", 'x'),
                ("docs/a.md", '-'),
                ("docs/a/b.md", '+'),
                ("web/x/y.css", '!'),
                (".config/", '+'),
                (".config/app.yaml", '!'),
                (".vscode/", 'x'),
                (".main.rs.swp", '-'),
                ("4913", '-'),
            ],
        );
    }

    #[test]
    fn what_the_build_reads_matters_wherever_it_is_unless_somebody_excluded_it() {
        let text = "[build]\ncmd = \"make\"\ninclude_ext = [\"rs\"]\nexclude_dir = [\"no\"]\n";
        let mut watch = resolve("hotrun.toml", text).unwrap().only().watch.clone();
        let root = watch.roots[0].clone();
        let inputs = ["src/page.html", "tests/data/a.json", ".proto/x.proto", "sql", "no/x.txt"];
        watch.inputs = inputs.iter().map(|input| root.join(input)).collect();
        watch.inputs.insert("/elsewhere/one.txt".into());
        watch.without.insert(root.join("tests"));
        let filter = Filter::new(watch);
        let judged = |path: &str| filter.judge(&root.join(path)).0;
        for path in &inputs[..3] {
            assert_eq!(judged(path), Verdict::Named, "{path}");
        }
        assert_eq!(judged("sql/deep/one.sql"), Verdict::Named);
        assert_eq!(judged("/elsewhere/one.txt"), Verdict::Named);
        assert_eq!(judged("src/main.rs"), Verdict::Matters);
        let others = ["src/other.html", "tests/a.rs", "no/x.txt", "/elsewhere/two.txt"];
        for path in others.into_iter().chain([".proto/y.proto", "sql/one.sql~"]) {
            assert_eq!(judged(path), Verdict::Ignored, "{path}");
        }
        for directory in ["tests", "tests/data", ".proto", "sql/deep"] {
            assert!(!filter.prunes(&root.join(directory)), "{directory}");
        }
        for directory in [".git", "no", "sql/.git"] {
            assert!(filter.prunes(&root.join(directory)), "{directory}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_has_the_file_and_opens_excluded_directories_for_itself() {
        check(
            ".air.toml",
            "[build]\ncmd = \"make\"\nexclude_dir = [\"web\", \"web/node_modules\"]\n\
             [[build.rules]]\nname = \"assets\"\ninclude_dir = [\"web\"]\n\
             include_ext = [\"ts\"]\nexclude_regex = [\"gen\"]\ncmd = \"npm run build\"\n\
             [[build.rules]]\ninclude_ext = [\"templ\"]\ncmd = \"templ generate\"\n",
            &[
                ("web/", '+'),
                ("web/app.ts", '0'),
                ("web/deep/app.ts", '0'),
                ("web/gen.ts", '-'),
                ("web/main.go", '-'),
                ("web/node_modules/", 'x'),
                ("web/node_modules/a.ts", '-'),
                ("pages/a.templ", '1'),
                ("web/a.templ", '1'),
                ("tmp/a.templ", '-'),
                ("app.ts", '-'),
                ("main.go", '+'),
            ],
        );
    }

    #[test]
    fn installed_packages_and_compiled_settings_are_no_sources_but_in_air_mode() {
        let text = "[build]\ncmd = \"make\"\n";
        let compiled = "vite.config.ts.timestamp-1700000000000-3f0c.mjs";
        check(
            "hotrun.toml",
            text,
            &[
                ("node_modules/", 'x'),
                ("a/node_modules/b/c.js", '-'),
                ("lib/python3/site-packages/", 'x'),
                ("vendor/bundle/", 'x'),
                ("vendor/", '+'),
                ("vendor/x.php", '+'),
                ("bundle/", '+'),
                ("pkg/__pycache__/x.py", '-'),
                (compiled, '-'),
                ("web/tsup.config.bundled_x1y2.mjs", '-'),
                ("x.timestamp-1.txt", '+'),
                ("vite.config.ts", '+'),
            ],
        );
        check(
            "hotrun.toml",
            "[build]\ncmd = \"make\"\n[watch]\ninclude = [\"node_modules/own/*.js\"]\n",
            &[("node_modules/own/a.js", '!'), ("node_modules/", '+')],
        );
        let text = "[build]\ncmd = \"make\"\ninclude_ext = [\"js\"]\n";
        check(".air.toml", text, &[("node_modules/", '+'), ("a/node_modules/b.js", '+')]);
    }

    #[test]
    fn files_that_revive_the_program_matter_for_that_alone() {
        let text = "[build]\nentrypoint = \"vite\"\ninclude_ext = [\"env\"]\n\
                    exclude_dir = [\"dist\"]\n[run]\nrevive_ext = [\"ts\"]\n";
        let config = resolve("hotrun.toml", text).unwrap();
        let root = config.only().watch.roots[0].clone();
        let filter = Filter::new(config.only().watch.clone());
        let judged =
            |path: &str| filter.judge(&root.join(path)) == (Verdict::Matters, Reason::Revival);
        assert_eq!(["a.ts", "x/b.ts"].map(judged), [true, true]);
        assert_eq!(["a.js", "dist/a.ts", ".env", ".git/a.ts"].map(judged), [false; 4]);
    }

    #[test]
    fn a_hidden_directory_that_is_included_is_watched() {
        check(
            ".air.toml",
            "[build]\ninclude_dir = [\".config\", \"src\"]\n",
            &[(".config/", '+'), (".config/a.go", '+'), (".other/", 'x'), ("src/.x/", 'x')],
        );
    }

    #[test]
    fn an_extension_with_a_dot_inside_is_the_end_of_a_name() {
        check(
            ".air.toml",
            "[build]\ninclude_ext = [\".html.tmpl\", \".env\"]\n",
            &[("a.html.tmpl", '+'), ("b.tmpl", '-'), (".env", '+'), ("x.env", '+'), ("env", '-')],
        );
    }

    #[test]
    fn the_artifact_never_triggers() {
        check(
            ".air.toml",
            "[build]\ncmd = \"make\"\nbin = \"./bin/app\"\ninclude_ext = [\"*\"]",
            &[("bin/app", '-'), ("bin/other", '+')],
        );
        check(
            "hotrun.toml",
            "[build]\ncmd = \"make\"\nentrypoint = \"bin/app --x\"",
            &[("bin/app", '-'), ("bin/other", '+')],
        );
    }

    #[test]
    fn a_regex_on_the_absolute_path_is_airs_and_an_env_file_has_the_extension_env() {
        check(
            ".air.toml",
            "[build]\ninclude_ext = [\"env\"]\nexclude_regex = [\"/deep/.*\\\\.env$\"]",
            &[(".env", '+'), ("deep/a.env", '-'), ("a.env", '+'), ("env", '-')],
        );
    }
}
