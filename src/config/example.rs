//! `air.example.toml`: every key, explained, with its default. `hotrun init` writes from it,
//! and a test holds it against the code.

use std::collections::BTreeMap;

use toml::Value;

use crate::project::Kind;
use crate::project::guess::Guess;

/// The file, as it lies in the repository.
pub const TEXT: &str = include_str!("../../air.example.toml");

/// What an unknown kind of project needs: the commented line, and what stands in its place.
const NEEDED: [(&str, &str); 2] = [("build.cmd", "make app"), ("build.entrypoint", "./app")];

/// The file for a new project, with what it is taken for. What hotrun cannot know of it is there
/// to be filled in; all else is a comment.
pub fn for_project(kind: &Kind, guess: Option<&Guess>) -> String {
    let mut values: Vec<(String, Value)> =
        guess.map(|guess| guess.values.clone()).unwrap_or_default();
    if *kind == Kind::Unknown && guess.is_none() {
        values.extend(NEEDED.map(|(key, value)| (key.to_owned(), value.into())));
    }
    let mut table = String::new();
    let mut lines = Vec::new();
    for line in TEXT.lines() {
        let key = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = "));
        let key = key.map(|(name, _)| format!("{table}{name}"));
        match values.iter().find(|(one, _)| Some(one) == key.as_ref()) {
            Some((one, value)) => {
                let name = one.strip_prefix(&table).unwrap_or(one);
                lines.push(format!("{name} = {value}"));
            }
            None => lines.push(line.to_owned()),
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = format!("{name}.");
        }
        if line == "[env]" {
            let variables = values.iter().filter_map(|(key, value)| {
                key.strip_prefix("env.").map(|name| format!("{name} = {value}"))
            });
            lines.extend(variables);
        }
    }
    if let Some(address) = guess.and_then(|guess| guess.listen.as_deref()) {
        let address = Value::from(address);
        lines.push(format!("\n[[listen]]\naddress = {address}"));
    }
    lines.join("\n") + "\n"
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
