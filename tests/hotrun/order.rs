//! Checks that each module uses only modules below it in `lib.rs`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The modules named after `crate::` in a source, also within braces.
fn used(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let first_word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for part in code.split("crate::").skip(1) {
        match part.strip_prefix('{') {
            Some(list) => found.extend(
                list.split('}').next().unwrap().split(',').map(|word| first_word(word.trim())),
            ),
            None => found.push(first_word(part)),
        }
    }
    found
}

#[test]
fn every_module_uses_only_modules_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let order: HashMap<String, usize> = lib
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .enumerate()
        .map(|(place, name)| (name.to_owned(), place))
        .collect();
    assert!(order.len() > 10, "lib.rs declares its modules as `mod NAME;`");
    let mut uses = 0;
    for path in sources(&src) {
        let below = path.strip_prefix(&src).unwrap();
        let first = below.components().next().unwrap().as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        if module == "lib" || module == "main" {
            continue;
        }
        let place = order.get(&module).unwrap_or_else(|| panic!("{module} is not in lib.rs"));
        for name in used(&fs::read_to_string(&path).unwrap()) {
            let target = order
                .get(&name)
                .unwrap_or_else(|| panic!("{}: crate::{name} is no module", below.display()));
            uses += 1;
            assert!(
                target >= place,
                "{}: {module} uses {name}, which lib.rs declares above it",
                below.display()
            );
        }
    }
    assert!(uses > 30, "only {uses} uses were found: the test has gone blind");
}

#[test]
fn a_use_is_found_in_every_form() {
    assert_eq!(
        used("use crate::event::{A, B};\nuse crate::{error, core::Core};"),
        ["event", "error", "core"]
    );
    assert_eq!(used("// use crate::cli;\nfn f() -> crate::report::R {}"), ["report"]);
}

/// What the core, and the vocabulary that it shares with the other modules, must not do: wait, read
/// a clock or a file, start a process, or print.
const IMPURE: [&str; 17] = [
    "tokio",
    "std::fs",
    "std::env",
    "std::io",
    "std::net::Tcp",
    "std::os",
    "std::process",
    "std::sync",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    // Of whatever name.
    "::now(",
    ".elapsed()",
    "nix::unistd",
    "tracing",
    "print!",
    "println!",
];

/// The lines of a source without its modules of tests. Tests make up times, and there is no
/// `Instant` but by reading the clock.
fn without_tests(text: &str) -> Vec<&str> {
    let mut lines = text.lines().peekable();
    let mut kept = Vec::new();
    while let Some(line) = lines.next() {
        let begins = |next: &&str| next.starts_with("mod ") && next.ends_with('{');
        if line == "#[cfg(test)]" && lines.next_if(begins).is_some() {
            // Up to the brace that closes the module, as rustfmt indents it.
            lines.by_ref().find(|line| *line == "}");
        } else {
            kept.push(line);
        }
    }
    kept
}

fn impurities(text: &str) -> Vec<&'static str> {
    let code = without_tests(text).into_iter();
    let code: Vec<&str> = code.filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    IMPURE.into_iter().filter(|word| code.contains(word)).collect()
}

#[test]
fn the_core_is_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = sources(&src.join("core"));
    files.extend([src.join("core.rs"), src.join("event.rs")]);
    // The exploration, which is a test, prints its figures.
    files.retain(|path| !path.starts_with(src.join("core/explore")));
    for name in ["core/service/work.rs", "core/attribution.rs", "core/attribution/window.rs"] {
        assert!(files.contains(&src.join(name)), "{name} is not among {files:?}");
    }
    for path in files {
        let found = impurities(&fs::read_to_string(&path).unwrap());
        assert!(found.is_empty(), "{} uses {found:?}", path.display());
    }
}

#[test]
fn a_core_that_reads_the_clock_is_found_out() {
    assert_eq!(impurities("let began = Instant::now();"), ["Instant::now", "::now("]);
    assert_eq!(impurities("let began = Clock::now();"), ["::now("]);
    assert_eq!(impurities("fn f(began: Instant) {}"), Vec::<&str>::new());
    assert_eq!(impurities("// No tokio here.\nuse crate::event::Proc;"), Vec::<&str>::new());
}

#[test]
fn only_tests_may_make_up_times() {
    let tests = "#[cfg(test)]\nmod tests {\n    fn f() {\n        Instant::now();\n    }\n}\n";
    assert_eq!(impurities(tests), Vec::<&str>::new());
    let around = format!("use std::fs;\n{tests}use std::env;\n");
    assert_eq!(impurities(&around), ["std::fs", "std::env"]);
    assert_eq!(impurities("#[cfg(test)]\nuse std::fs;\n"), ["std::fs"]);
    assert_eq!(impurities("mod tests {\n    use std::fs;\n}\n"), ["std::fs"]);
}
