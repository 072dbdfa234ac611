//! Does this path matter? Pure: it never touches the disk.

use std::path::{Path, PathBuf};

use crate::config::{Extensions, Watch};

/// Decides about paths by what the configuration says.
#[derive(Clone, Debug)]
pub struct Filter {
    watch: Watch,
}

/// What is to be done about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does not matter.
    Ignored,
    /// It matters, unless a `.gitignore` names it.
    Matters,
    /// It matters whatever a `.gitignore` says: somebody named it.
    Named,
}

impl Filter {
    /// A filter for this configuration.
    pub fn new(watch: Watch) -> Self {
        Self { watch }
    }

    /// The configuration it was made from.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Does a change of this file matter?
    pub fn file(&self, path: &Path) -> Verdict {
        let watch = &self.watch;
        if watch.always.contains(path) {
            return Verdict::Named;
        }
        let Some(root) = watch.root_of(path) else { return Verdict::Ignored };
        let relative = watch.relative(path);
        let above = path.ancestors().skip(1).take_while(|above| *above != root);
        if watch.never.contains(path) || above.into_iter().any(|above| self.prunes(above)) {
            return Verdict::Ignored;
        }
        let named = watch.include_files.contains(path) || watch.include.files.is_match(relative);
        if watch.exclude.files.is_match(relative)
            || watch.exclude_files.is_match(relative)
            || watch.exclude_regex.is_match(&path.to_string_lossy())
        {
            return Verdict::Ignored;
        }
        if named {
            return Verdict::Named;
        }
        let in_scope = watch.include_dirs.is_empty()
            || watch.include_dirs.iter().any(|included| path.starts_with(included));
        if !in_scope || is_dropping(path) || !self.has_extension(path) {
            return Verdict::Ignored;
        }
        Verdict::Matters
    }

    /// True when nothing in this directory matters, so that it is neither walked nor
    /// watched.
    pub fn prunes(&self, directory: &Path) -> bool {
        let watch = &self.watch;
        if watch.never.contains(directory) || watch.exclude_dirs.contains(directory) {
            return true;
        }
        if watch.roots.iter().any(|root| root == directory) {
            return false;
        }
        if watch.root_of(directory).is_none() {
            return true;
        }
        let relative = watch.relative(directory);
        if watch.exclude.directories.is_match(relative) {
            return true;
        }
        let leads_to_named = self.leads_to_named(directory);
        let hidden =
            directory.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden && !leads_to_named {
            return true;
        }
        let in_scope = watch.include_dirs.is_empty()
            || watch
                .include_dirs
                .iter()
                .any(|included| directory.starts_with(included) || included.starts_with(directory));
        !in_scope && !leads_to_named
    }

    /// True when something that was named lies, or may lie, below this directory.
    pub fn leads_to_named(&self, directory: &Path) -> bool {
        let watch = &self.watch;
        let below = |path: &PathBuf| path != directory && path.starts_with(directory);
        let relative = watch.relative(directory);
        let by_glob = watch.include.fixed_parts().any(|fixed| {
            let is_named = !fixed.as_os_str().is_empty();
            is_named && (fixed.starts_with(relative) || relative.starts_with(fixed))
        });
        by_glob || watch.include_files.iter().any(below) || watch.include_dirs.iter().any(below)
    }

    /// A trigger file: `touch` alone is to be seen as a save.
    pub fn is_trigger(&self, path: &Path) -> bool {
        let literally = |pattern: &String| self.watch.base.join(pattern) == path;
        self.watch.include_files.contains(path) || self.watch.include.patterns.iter().any(literally)
    }

    fn has_extension(&self, path: &Path) -> bool {
        match &self.watch.extensions {
            Extensions::Any => true,
            Extensions::Only(list) => {
                // `.env` has the extension `env`, as in Go.
                let name = path.file_name().unwrap_or_default();
                let extension = path.extension().or_else(|| {
                    let name = name.as_encoded_bytes();
                    let rest = name.strip_prefix(b".")?;
                    std::str::from_utf8(rest).ok().map(std::ffi::OsStr::new)
                });
                extension.is_some_and(|extension| list.contains(extension))
            }
        }
    }
}

/// What editors leave beside a file while they save it: swap, lock, backup and probe files.
fn is_dropping(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let swap = name.starts_with(b".")
        && name.len() > 4
        && name[name.len() - 4..].starts_with(b".sw")
        && name[name.len() - 1].is_ascii_lowercase();
    let locked = name.starts_with(b".#") || (name.starts_with(b"#") && name.ends_with(b"#"));
    // vim asks with this number, or a higher one, whether it may create files.
    let probe = name == b"4913";
    let jetbrains = name.ends_with(b"___jb_tmp___") || name.ends_with(b"___jb_old___");
    swap || locked || probe || jetbrains || name.ends_with(b"~") || name == b".DS_Store"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::resolve;

    /// What a configuration makes of paths below its root: `+` matters, `!` was named, `-`
    /// is ignored, `x` is a directory that is pruned.
    #[track_caller]
    fn check(name: &str, text: &str, expected: &[(&str, char)]) {
        let config = resolve(name, text).unwrap();
        let root = config.watch.roots[0].clone();
        let filter = Filter::new(config.watch);
        for (path, verdict) in expected {
            let full = root.join(path);
            let found = match filter.file(&full) {
                _ if path.ends_with('/') && filter.prunes(&full) => 'x',
                _ if path.ends_with('/') => '+',
                Verdict::Matters => '+',
                Verdict::Named => '!',
                Verdict::Ignored => '-',
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
