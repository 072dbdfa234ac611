//! Checks of the sources themselves: that modules read downward, that a type's methods are in one
//! file, and that the core is pure.

use std::collections::{BTreeMap, BTreeSet};
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

/// A source in words and signs, without comments, strings and what is only for tests.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if first == '"' {
            string(rest)
        } else if let Some(raw) = raw_string(rest) {
            raw
        } else if rest.starts_with("'\\") || (first == '\'' && rest.chars().nth(2) == Some('\'')) {
            let quoted: usize = rest.chars().take(2).map(char::len_utf8).sum();
            quoted + rest[quoted..].find('\'').unwrap() + 1
        } else if word > 0 {
            tokens.push(rest[..word].to_owned());
            word
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    without_test_items(&tokens)
}

/// The length of the string that `text` begins with.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text[1..].find(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    end.unwrap() + 2
}

fn raw_string(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('r')?.trim_start_matches('#');
    let hashes = text.len() - inner.len() - 1;
    let end = format!("\"{}", "#".repeat(hashes));
    let inner = inner.strip_prefix('"')?;
    Some(hashes + 2 + inner.find(&end)? + end.len())
}

/// The tokens without the items that `#[cfg(test)]` precedes.
fn without_test_items(tokens: &[String]) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        if !tokens[place..].iter().take(MARK.len()).eq(&MARK) {
            kept.push(tokens[place].clone());
            place += 1;
            continue;
        }
        // An item ends with its block, or with a semicolon before one.
        let mut depth = 0;
        let end = tokens[place..].iter().position(|token| {
            match token.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            depth == 0 && (token == ";" || token == "}")
        });
        place += end.expect("an item ends") + 1;
    }
    kept
}

/// The path of a module, from the root of the crate.
type Module = Vec<String>;

/// A file and what it holds.
struct Source {
    module: Module,
    tokens: Vec<String>,
}

/// The sources, and the modules that each of them declares, in order.
struct Sources {
    all: Vec<Source>,
    declared: BTreeMap<Module, Vec<String>>,
}

impl Sources {
    fn read() -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut all: Vec<Source> = sources(&src)
            .into_iter()
            .map(|path| {
                let below = path.strip_prefix(&src).unwrap().with_extension("");
                let mut module: Module =
                    below.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
                if module == ["lib"] {
                    module.clear();
                }
                // Two files, one for each system, are the same module.
                if module == ["process", "linux"] || module == ["process", "macos"] {
                    "platform".clone_into(&mut module[1]);
                }
                Source { module, tokens: tokens(&fs::read_to_string(path).unwrap()) }
            })
            .collect();
        let declared: BTreeMap<Module, Vec<String>> =
            all.iter().map(|one| (one.module.clone(), declared(&one.tokens))).collect();
        // What no module declares is only for tests, as is all that lies below it.
        all.retain(|one| {
            (0..one.module.len()).all(|depth| {
                let parent = declared.get(&one.module[..depth]);
                parent.is_some_and(|children| children.contains(&one.module[depth]))
            })
        });
        Self { all, declared }
    }

    /// The module that a path leads to or into.
    fn module_of(&self, path: &[String]) -> Module {
        let depth = (0..path.len()).find(|depth| {
            let children = self.declared.get(&path[..*depth]);
            !children.is_some_and(|children| children.contains(&path[*depth]))
        });
        path[..depth.unwrap_or(path.len())].to_vec()
    }

    /// Where two modules are below different children of the same module: whether the first is
    /// declared below the second.
    fn reads_upward(&self, from: &Module, to: &Module) -> bool {
        let depth = from.iter().zip(to).take_while(|(one, other)| one == other).count();
        let (Some(one), Some(other)) = (from.get(depth), to.get(depth)) else { return false };
        let children = &self.declared[&from[..depth]];
        let place = |name| children.iter().position(|child| child == name).unwrap();
        place(one) > place(other)
    }

    /// The file that defines the type of this name that the code of `source` means.
    fn definition(&self, source: &Source, name: &str) -> Option<&Source> {
        let defines = |one: &&Source| {
            let is_type = |word: &String| ["struct", "enum"].contains(&word.as_str());
            one.tokens.windows(2).any(|words| is_type(&words[0]) && words[1] == name)
        };
        let above = |one: &&Source| source.module.starts_with(&one.module);
        let nearest =
            self.all.iter().filter(defines).filter(above).max_by_key(|one| one.module.len());
        nearest.or_else(|| self.all.iter().find(defines))
    }
}

/// The modules that a source declares in files of their own.
fn declared(tokens: &[String]) -> Vec<String> {
    let declares = |words: &&[String]| words[0] == "mod" && words[2] == ";";
    tokens.windows(3).filter(declares).map(|words| words[1].clone()).collect()
}

/// The paths from the root that a module names after `crate::` or `super::`, also within braces.
fn used(module: &[String], tokens: &[String]) -> Vec<Module> {
    let mut found = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        let begins = ["crate", "super"].contains(&token.as_str())
            && tokens.get(place + 1).is_some_and(|next| next == "::")
            && (place == 0 || tokens[place - 1] != "::");
        if begins {
            let mut rest = tokens[place..].iter().map(String::as_str).peekable();
            tree(&mut rest, module, &mut found);
        }
    }
    found
}

/// Reads one path, or several within braces, which begin below `prefix`.
fn tree<'a>(
    rest: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
    prefix: &[String],
    found: &mut Vec<Module>,
) {
    let mut path = prefix.to_vec();
    while let Some(token) = rest.next() {
        match token {
            "crate" => path.clear(),
            "super" => drop(path.pop()),
            "self" | "*" => {}
            "{" => {
                while rest.peek().is_some_and(|next| *next != "}") {
                    tree(rest, &path, found);
                    // Another name for it, and the comma.
                    while rest.next_if(|next| !["}", "{"].contains(next) && *next != ",").is_some()
                    {
                    }
                    rest.next_if(|next| *next == ",");
                }
                rest.next();
                return;
            }
            word => path.push(word.to_owned()),
        }
        if rest.next_if(|next| *next == "::").is_none() {
            break;
        }
    }
    found.push(path);
}

/// Modules that use one that is declared above them: circles that a new design has to break.
const UPWARD: [(&str, &str); 2] =
    [("config::duration", "config::document"), ("process::platform", "process::ports")];

/// Of two modules with the same parent, only the one declared first may use the other, and what is
/// in it: the declarations read as a story, and each module rests on those below. A module may use
/// its parent's items, and the parent its children.
#[test]
fn every_module_uses_only_modules_declared_below_it() {
    let sources = Sources::read();
    let mut uses = 0;
    let mut upward = BTreeSet::new();
    for source in &sources.all {
        for path in used(&source.module, &source.tokens) {
            let target = sources.module_of(&path);
            uses += 1;
            if sources.reads_upward(&source.module, &target) {
                upward.insert((source.module.join("::"), target.join("::")));
            }
        }
    }
    assert!(uses > 500, "only {uses} uses were found: the test has gone blind");
    let known = UPWARD.map(|(from, to)| (from.to_owned(), to.to_owned()));
    let known: BTreeSet<(String, String)> = known.into();
    let new: Vec<_> = upward.difference(&known).collect();
    assert!(new.is_empty(), "these use what is declared above them: {new:#?}");
    let old: Vec<_> = known.difference(&upward).collect();
    assert!(old.is_empty(), "no exceptions any longer: {old:#?}");
}

#[test]
fn a_use_is_found_in_every_form() {
    let used = |text| {
        let paths = used(&["a".to_owned(), "b".to_owned()], &tokens(text));
        paths.iter().map(|path| path.join("::")).collect::<Vec<_>>()
    };
    assert_eq!(
        used("use crate::event::{A, B as C};\nuse crate::{error::{self, E}, core::*};"),
        ["event::A", "event::B", "error", "error::E", "core"]
    );
    assert_eq!(used("use super::c::D; fn f() -> super::super::e::F {}"), ["a::c::D", "e::F"]);
    assert_eq!(used("// use crate::cli;\nfn f() -> crate::report::R {}"), ["report::R"]);
    assert_eq!(used("f(\"crate::a\", r#\"crate::\"b\"#, '\"', 'c', '\\'', crate::d)"), ["d"]);
    assert_eq!(used("#[cfg(test)]\nmod tests { use crate::a; fn f() {} }\nuse crate::b;"), ["b"]);
}

/// Types with `impl` blocks in several files, and in how many. No type is to join them.
const SPREAD: [(&str, usize); 4] = [("Engine", 12), ("Report", 3), ("Resolver", 4), ("Watcher", 4)];

/// The types that `impl` blocks in a source are for, without those that implement a trait.
fn implemented(tokens: &[String]) -> Vec<&str> {
    let mut found = Vec::new();
    for (place, _) in tokens.iter().enumerate().filter(|(_, token)| *token == "impl") {
        // Elsewhere it is a type: `-> impl Trait`.
        let begins = place == 0 || ["}", ";", "]"].contains(&tokens[place - 1].as_str());
        let head: Vec<&str> = tokens[place + 1..]
            .iter()
            .map(String::as_str)
            .take_while(|token| *token != "{")
            .collect();
        if !begins || head.contains(&"for") {
            continue;
        }
        let mut depth = 0;
        let mut name = None;
        for token in head.iter().take_while(|token| **token != "where") {
            match *token {
                "<" => depth += 1,
                ">" => depth -= 1,
                "::" => {}
                word if depth == 0 => name = Some(word),
                _ => {}
            }
        }
        found.extend(name);
    }
    found
}

/// The methods of a type are in one file: so a reader has seen all that can change its fields.
#[test]
fn the_methods_of_a_type_are_in_one_file() {
    let sources = Sources::read();
    let mut files: BTreeMap<(String, Module), BTreeSet<Module>> = BTreeMap::new();
    for source in &sources.all {
        for name in implemented(&source.tokens) {
            let definition = sources.definition(source, name).map(|one| one.module.clone());
            let definition = definition.unwrap_or_else(|| panic!("{name} is defined nowhere"));
            files.entry((name.to_owned(), definition)).or_default().insert(source.module.clone());
        }
    }
    assert!(files.len() > 100, "only {} types were found: the test has gone blind", files.len());
    let spread: BTreeMap<&str, usize> = files
        .iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|((name, _), files)| (name.as_str(), files.len()))
        .collect();
    assert_eq!(spread, BTreeMap::from(SPREAD), "the list of exceptions is to be exact");
}

#[test]
fn an_impl_block_is_found_in_every_form() {
    let text = "impl A {}\nimpl<'a, T: Into<B>> C<'a, T> where T: D { fn f() -> impl E {} }\n\
                impl F for G {}\n#[cfg(test)]\nimpl H {}\nimpl super::I {}";
    assert_eq!(implemented(&tokens(text)), ["A", "C", "I"]);
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
