//! `air.example.toml`: every key, explained, with its default. `hotrun init` writes from it,
//! and a test compares it with the code.

use std::collections::BTreeMap;

use toml::Value;

use crate::project::Kind;
use crate::project::guess::Guess;

/// The file, as it lies in the repository.
pub const TEXT: &str = include_str!("../../air.example.toml");

/// What an unknown kind of project needs: the commented key, and the value to replace it with.
const NEEDED: [(&str, &str); 2] = [("build.cmd", "make app"), ("build.entrypoint", "./app")];

/// The file for a new project, with what it is taken for. What hotrun cannot know of it is there
/// to be filled in; all else is a comment.
pub fn for_project(kind: &Kind, guess: Option<&Guess>) -> String {
    let mut values: Vec<(String, Value)> =
        guess.map(|guess| guess.values.clone()).unwrap_or_default();
    if *kind == Kind::Unknown && guess.is_none() {
        values.extend(NEEDED.map(|(key, value)| (key.to_owned(), value.into())));
    }
    let mut text = Vec::new();
    for (line, key) in lines() {
        let value = key.and_then(|(key, _)| values.iter().find(|(one, _)| *one == key));
        text.push(match value {
            Some((key, value)) => {
                let name = key.split_once('.').map_or(key.as_str(), |(_, name)| name);
                format!("{name} = {value}")
            }
            None => line.to_owned(),
        });
        if line == "[env]" {
            let variables = values.iter().filter_map(|(key, value)| {
                key.strip_prefix("env.").map(|name| format!("{name} = {value}"))
            });
            text.extend(variables);
        }
    }
    if let Some(address) = guess.and_then(|guess| guess.listen.as_deref()) {
        let address = Value::from(address);
        text.push(format!("\n[[listen]]\naddress = {address}"));
    }
    text.join("\n") + "\n"
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
    lines().filter_map(|(_, key)| key)
}

/// The lines, and the key, with its table, and the value that a comment shows.
fn lines() -> impl Iterator<Item = (&'static str, Option<(String, String)>)> {
    let mut table = String::new();
    TEXT.lines().map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = format!("{name}.");
        }
        let shown = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = "));
        let is_key = |key: &str| key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let shown = shown.filter(|(key, _)| is_key(key));
        (line, shown.map(|(key, value)| (format!("{table}{key}"), value.to_owned())))
    })
}
