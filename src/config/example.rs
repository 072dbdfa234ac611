//! `air.example.toml`: every key, explained, with its default. `hotrun init` writes from it,
//! and a test holds it against the code.

use std::collections::BTreeMap;

use toml::Value;

use crate::project::Kind;

/// The file, as it lies in the repository.
pub const TEXT: &str = include_str!("../../air.example.toml");

/// What an unknown kind of project needs: the commented line, and what stands in its place.
const NEEDED: [(&str, &str); 2] =
    [("# cmd = ", "cmd = \"make app\""), ("# entrypoint = ", "entrypoint = \"./app\"")];

/// The file for a new project. What hotrun cannot know of it is there to be filled in; all
/// else is a comment.
pub fn for_project(kind: &Kind) -> String {
    let must_say = *kind == Kind::Unknown;
    let lines = TEXT.lines().map(|line| {
        let needed = NEEDED.iter().find(|(comment, _)| must_say && line.starts_with(comment));
        needed.map_or(line, |(_, line)| line)
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// Every key that has a default which can be written, and that default (native mode).
pub fn defaults() -> BTreeMap<String, Value> {
    commented().filter_map(|(key, value)| Some((key, value.parse().ok()?))).collect()
}

/// The place of a key in the file, to list keys in its order.
pub fn place(key: &str) -> usize {
    commented().position(|(one, _)| one == key).unwrap_or(usize::MAX)
}

/// The keys and values in the comments.
fn commented() -> impl Iterator<Item = (String, String)> {
    let mut table = String::new();
    TEXT.lines().filter_map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = format!("{name}.");
        }
        let (key, value) = line.strip_prefix("# ")?.split_once(" = ")?;
        let is_key = key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        is_key.then(|| (format!("{table}{key}"), value.to_owned()))
    })
}
