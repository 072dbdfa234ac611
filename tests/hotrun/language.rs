//! What users read is worded in plain English.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Words and phrases that make a reader ask "who?", or that have a standard term.
const BANNED: [(&str, &str); 17] = [
    ("somebody|someone|nobody|no one", "name the process, client or user"),
    ("whoever|whosoever", "name the thing"),
    ("(is|are|was|were) told", "use: reported, printed"),
    ("so (many|much|often|long) (?!as)", "name the number, the quantity or the time"),
    ("there is no such", "use: not found"),
    ("is there already", "use: already exists"),
    ("for ever\\b", "use: forever, or name the limit"),
    ("is none\\b", "use: is not"),
    ("ends by itself", "use: exits"),
    ("takes no such word", "use: unexpected argument"),
    ("lives on|serves on", "use: keeps running, keeps serving"),
    ("holds nobody", "say what it does not delay"),
    ("is mended|mends", "use: fixed"),
    ("stands? on the screen", "use: is shown"),
    ("beats", "use: overrides"),
    ("to be had", "use: available"),
    ("at intervals", "use: poll"),
];

/// The string literals of Rust source outside of comments, attributes and tests, with their lines.
fn literals(source: &str) -> Vec<(usize, String)> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(c) = rest.chars().next() {
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let begin = hashes + 2;
            let length = rest[begin..].find(&close).unwrap_or(rest.len() - begin);
            found.push((line, rest[begin..begin + length].to_owned()));
            begin + length + close.len()
        } else if c == '"' {
            let mut end = 1;
            while end < rest.len() && !rest[end..].starts_with('"') {
                end += if rest[end..].starts_with('\\') { 2 } else { 1 };
                while !rest.is_char_boundary(end) {
                    end += 1;
                }
            }
            found.push((line, rest[1..end].to_owned()));
            end + 1
        } else if rest.starts_with("'\"'") {
            3
        } else {
            c.len_utf8()
        };
        let end = end.min(rest.len());
        line += rest[..end].matches('\n').count();
        rest = &rest[end..];
    }
    found
}

/// The number of `#` of a raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn files(directory: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, extension, into);
        } else if path.extension().is_some_and(|one| one == extension) {
            into.push(path);
        }
    }
}

#[test]
fn texts_for_users_are_in_plain_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts: Vec<(String, usize, String)> = Vec::new();
    // A literal may go on after a line end.
    let line_end = Regex::new(r"\\\n\s*").unwrap();
    let mut sources = Vec::new();
    files(&root.join("src"), "rs", &mut sources);
    for path in sources.iter().filter(|path| !path.ends_with("tests.rs")) {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let source = fs::read_to_string(path).unwrap();
        texts.extend(literals(&source).into_iter().map(|(line, text)| {
            (name.clone(), line, line_end.replace_all(&text, "").into_owned())
        }));
        // Help texts are doc comments.
        if name.starts_with("src/cli") {
            let docs = source.lines().enumerate();
            let docs = docs.filter(|(_, line)| line.trim_start().starts_with("///"));
            texts.extend(docs.map(|(line, text)| (name.clone(), line + 1, text.to_owned())));
        }
    }
    assert!(texts.len() > 1000, "the literals of the sources are found");
    let mut pages = vec![root.join("README.md"), root.join("air.example.toml")];
    files(&root.join("src/guide"), "md", &mut pages);
    files(&root.join(".github"), "md", &mut pages);
    for path in pages {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        texts.extend(
            text.lines().enumerate().map(|(line, text)| (name.clone(), line + 1, text.to_owned())),
        );
    }
    let mut wrong = Vec::new();
    for (words, instead) in BANNED {
        // There is no look-ahead in this crate: "so long as" is filtered by hand.
        let pattern = Regex::new(&format!(r"(?i)\b({})", words.replace("(?!as)", "\\w+"))).unwrap();
        for (name, line, text) in &texts {
            let all = pattern.find_iter(text).filter(|found| !found.as_str().ends_with(" as"));
            for found in all {
                wrong.push(format!("{name}:{line}: {:?} in {text:?}: {instead}", found.as_str()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn literals_are_found_and_comments_and_tests_are_not() {
    let source = "// \"a\"\nlet x = \"b \\\" c\"; let y = '\"'; r#\"d\"e\"#;\n#[cfg(test)]\nmod tests {\"f\"";
    let texts: Vec<String> = literals(source).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["b \\\" c", "d\"e"]);
    assert_eq!(literals("\n\"x\"")[0].0, 2);
}
