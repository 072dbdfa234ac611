//! The page of the configuration, generated from `air.example.toml`.

use std::fmt::Write as _;
use std::path::Path;

use crate::config::example;
use crate::config::keys::{Key, LISTS, Takes};

/// What the page begins with.
const INTRODUCTION: &str = "\
# Configuration

hotrun needs no configuration for most projects. It reads the first of
`hotrun.toml`, `.hotrun.toml`, `.air.toml`, `air.toml`, `.config/hotrun.toml` and
`.config/air.toml`, or the file that `-c` names, and reads it again when it
changes. Errors are reported with line and column, and the previous
configuration stays in effect.

- `hotrun init` writes a small `hotrun.toml` for the project,
  `hotrun init --full` one with every key as a comment.
- `hotrun check` shows the resolved configuration and where each value comes
  from.
- Durations are strings with a unit: `\"500ms\"`, `\"5s\"`, `\"1m30s\"`.
- Every key is also an option that overrides the file:
  `--build.cmd \"make app\"`, `--run.mode=handover`. `--no-config` ignores the
  files.
- In files that are named after air, the keys mean what they mean to air, and
  air's defaults apply: [migrating from air](migrating.md#air).

Related pages: [rules](rules.md), [variables](environment.md),
[what is watched](watching.md), [ready](ready.md),
[zero downtime](zero-downtime.md).

This page is generated from `air.example.toml`; `name = value` shows the
default.
";

/// The width of a paragraph, in characters.
const WIDTH: usize = 80;

/// A comment as Markdown: lines that are indented are code.
fn prose(comment: &[&str]) -> String {
    let mut text = String::new();
    for lines in comment.chunk_by(|a, b| kind(a) == kind(b)).filter(|lines| !lines[0].is_empty()) {
        if !text.is_empty() {
            text.push('\n');
        }
        if kind(lines[0]) == Kind::Code {
            let code: Vec<&str> = lines.iter().map(|line| line.trim_start()).collect();
            let _ = writeln!(text, "```toml\n{}\n```", code.join("\n"));
            continue;
        }
        let mut length = 0;
        for word in lines.iter().flat_map(|line| line.split(' ')) {
            let word = literal(word);
            if length > 0 {
                let fits = length + 1 + word.chars().count() <= WIDTH;
                text.push(if fits { ' ' } else { '\n' });
                length = if fits { length + 1 } else { 0 };
            }
            length += word.chars().count();
            text.push_str(&word);
        }
        text.push('\n');
    }
    text
}

#[derive(PartialEq)]
enum Kind {
    Blank,
    Code,
    Prose,
}

fn kind(line: &str) -> Kind {
    match line {
        "" => Kind::Blank,
        _ if line.starts_with("  ") => Kind::Code,
        _ => Kind::Prose,
    }
}

/// A word of a comment; as code if Markdown would read its characters as marks.
fn literal(word: &str) -> String {
    let end = word.trim_end_matches([',', '.', ';', ':']).len();
    let (bare, rest) = word.split_at(end);
    if bare.contains("**") || bare.contains("__") {
        format!("`{bare}`{rest}")
    } else {
        word.to_owned()
    }
}

/// Whether a line, without its comment sign, sets a key.
fn sets_key(line: &str) -> bool {
    let name = line.split_once(" = ").map(|(name, _)| name);
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
    name.is_some_and(is_name)
}

/// A line without its comment sign.
fn bare(line: &str) -> &str {
    let text = line.strip_prefix('#').unwrap_or(line);
    text.strip_prefix(' ').unwrap_or(text)
}

/// Which changes build the program again. A table is named if this holds for all of its keys.
fn changes() -> String {
    let keys: Vec<&Key> = Key::recommended().collect();
    let table = |key: &Key| key.name.split_once('.').map(|(table, _)| table);
    let mut names: Vec<String> = Vec::new();
    for key in keys.iter().filter(|key| key.takes == Takes::AtOnce) {
        let is_whole = |name: &str| {
            let mut of_table = keys.iter().filter(|key| table(key) == Some(name));
            of_table.all(|key| key.takes == Takes::AtOnce)
        };
        let name = match table(key).filter(|table| is_whole(table)) {
            Some(table) => format!("`[{table}]`"),
            None => format!("`{}`", key.name),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let is_at_once = |keys: &[Key]| keys.iter().all(|key| key.takes == Takes::AtOnce);
    let lists = LISTS.iter().filter(|(.., keys)| is_at_once(keys));
    names.extend(lists.map(|(name, ..)| format!("`[[{name}]]`")));
    let last = names.pop().unwrap_or_default();
    let text = format!(
        "When the file changes, the program is built and started again, unless only these have \
         changed: {} and {last}.",
        names.join(", ")
    );
    format!("\n{}", prose(&[&text]).replace("``", "`"))
}

/// The page, from the example file and the declarations of the keys.
fn page() -> String {
    let mut page = INTRODUCTION.to_owned() + &changes();
    let mut table = String::new();
    let blocks = example::TEXT.split("\n\n");
    // What comes before the first key introduces the file itself.
    for block in blocks.skip_while(|block| !block.lines().any(|line| sets_key(bare(line)))) {
        let (mut comment, mut keys) = (Vec::new(), Vec::new());
        for line in block.lines().filter(|line| !line.is_empty()) {
            if let Some(name) = line.strip_prefix('[') {
                name.trim_end_matches(']').clone_into(&mut table);
                let _ = writeln!(page, "\n## [{table}]");
                if !comment.is_empty() {
                    let _ = write!(page, "\n{}", prose(&comment));
                    comment.clear();
                }
            } else if sets_key(bare(line)) {
                let dot = if table.is_empty() { "" } else { "." };
                keys.push(format!("`{table}{dot}{}`", bare(line)));
            } else {
                let line = bare(line);
                if let Some(list) = line.strip_prefix("[[").filter(|list| list.ends_with("]]")) {
                    keys.push(format!("`[[{list}`"));
                }
                comment.push(line);
            }
        }
        for (number, key) in keys.iter().enumerate() {
            let _ = writeln!(page, "{}### {key}", if number == 0 { "\n" } else { "" });
        }
        if !comment.is_empty() {
            let _ = write!(page, "\n{}", prose(&comment));
        }
    }
    page
}

#[test]
fn the_configuration_page_is_generated_from_the_example() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide/configuration.md");
    let generated = page();
    if std::env::var_os("HOTRUN_TEST_WRITE").is_some() {
        std::fs::write(&file, &generated).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(
        written == generated,
        "src/guide/configuration.md is out of date: \
         HOTRUN_TEST_WRITE=1 cargo test --lib the_configuration_page"
    );
}

#[test]
fn the_configuration_page_has_every_key() {
    let page = page();
    for (key, _) in example::defaults() {
        assert!(page.contains(&format!("`{key} = ")), "{key}");
    }
}
