//! A configuration file as written: every value with its place, none of them understood.
//!
//! Each key is asked for once, by name, with the type it must have. What nobody asked for
//! is unknown, and the names that were asked for are what it may have been meant to be, so
//! there is no list of keys to keep beside the code that reads them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::error::{Error, Result};

/// A file as written.
#[derive(Debug, Default)]
pub(crate) struct Document {
    name: String,
    text: String,
    entries: BTreeMap<String, Entry>,
    asked: RefCell<BTreeSet<&'static str>>,
}

#[derive(Debug)]
struct Entry {
    key: Range<usize>,
    value: Range<usize>,
    read: toml::Value,
}

impl Document {
    /// Reads TOML. `name` is what errors call it.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        let mut document = Self { name: name.to_owned(), text: text.to_owned(), ..Self::default() };
        let table = DeTable::parse(text).map_err(|error| document.syntax_error(&error))?;
        document.collect("", table.into_inner())?;
        Ok(document)
    }

    fn collect(&mut self, prefix: &str, table: DeTable<'_>) -> Result<()> {
        for (key, value) in table {
            let name = match prefix {
                "" => key.get_ref().to_string(),
                _ => format!("{prefix}.{}", key.get_ref()),
            };
            let place = (key.span(), value.span());
            if let DeValue::Table(inner) = value.get_ref()
                && !inner.is_empty()
            {
                let DeValue::Table(inner) = value.into_inner() else { continue };
                self.collect(&name, inner)?;
                continue;
            }
            let read = toml::Value::deserialize(ValueDeserializer::from(value))
                .map_err(|error| self.syntax_error(&error))?;
            self.entries.insert(name, Entry { key: place.0, value: place.1, read });
        }
        Ok(())
    }

    fn syntax_error(&self, error: &toml::de::Error) -> Error {
        let place = self.place(error.span().map_or(0, |span| span.start));
        let wrong = Error::usage(place, error.message());
        if error.message().contains("escape") {
            return wrong.remedy(
                "a backslash in \"double quotes\" begins an escape: write 'single quotes' or \\\\",
            );
        }
        wrong
    }

    /// `file:line:column`, each from 1, columns in characters.
    fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before[start..].chars().count() + 1;
        format!("{}:{line}:{column}", self.name)
    }

    /// The value of a key, if it is there. `expected` says, with an example, what it must be.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        key: &'static str,
        expected: &str,
    ) -> Result<Option<T>> {
        self.asked.borrow_mut().insert(key);
        match self.entries.get(key) {
            None => Ok(None),
            Some(entry) => match entry.read.clone().try_into() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(self.wrong(key, expected)),
            },
        }
    }

    /// The error for a value that is not what it must be.
    pub(crate) fn wrong(&self, key: &str, expected: impl std::fmt::Display) -> Error {
        let Some(entry) = self.entries.get(key) else {
            return Error::usage(format!("{}: {key}", self.name), format!("expected {expected}"));
        };
        let written = self.text.get(entry.value.clone()).unwrap_or_default();
        let short: String = written.lines().next().unwrap_or_default().chars().take(60).collect();
        let place = self.place(entry.value.start);
        Error::usage(format!("{place}: {key} = {short}"), format!("expected {expected}"))
    }

    /// True when the key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// True when there is any key of these tables, or one of these keys itself.
    pub(crate) fn has_any(&self, keys: &[&str]) -> bool {
        self.entries.keys().any(|key| {
            keys.iter().any(|one| {
                key.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        })
    }

    /// One sentence for each key that nobody asked for.
    pub(crate) fn unknown(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        self.entries
            .iter()
            .filter(|(key, entry)| {
                let is_known_table = entry.read.is_table()
                    && asked.iter().any(|known| known.starts_with(&format!("{key}.")));
                !asked.contains(key.as_str()) && !is_known_table
            })
            .map(|(key, entry)| {
                let place = self.place(entry.key.start);
                match nearest(key, &asked) {
                    Some(near) => format!("{place}: unknown key {key}; did you mean {near}?"),
                    None => format!("{place}: unknown key {key}; it has no effect"),
                }
            })
            .collect()
    }

    /// Every key that was asked for.
    #[cfg(test)]
    pub(crate) fn asked(&self) -> BTreeSet<&'static str> {
        self.asked.borrow().clone()
    }

    /// Every key that is written.
    #[cfg(test)]
    pub(crate) fn written(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }
}

/// The known key that a misspelt one most likely means: the same name in another table, or
/// one that differs by a few letters.
fn nearest<'a>(key: &str, known: &BTreeSet<&'a str>) -> Option<&'a str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let same_name = known.iter().find(|one| last(one) == last(key));
    let close = known
        .iter()
        .map(|one| (distance(key, one), *one))
        .filter(|(distance, one)| *distance <= 1 + one.len() / 8)
        .min();
    close.map(|(_, one)| one).or(same_name.copied())
}

/// How many letters must be put in, taken out or exchanged.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_type_names_file_line_column_key_and_what_was_expected() {
        let text = "root = \".\"\n[build]\n  delay = \"fast\"\n";
        let document = Document::parse(".air.toml", text).unwrap();
        let wrong = document.get::<u64>("build.delay", "milliseconds, for example 200");
        assert_eq!(
            wrong.unwrap_err().to_string(),
            ".air.toml:3:11: build.delay = \"fast\": expected milliseconds, for example 200"
        );
    }

    #[test]
    fn an_unknown_key_is_told_with_its_place_and_the_nearest_known_key() {
        let text = "[build]\ninclide_file = [\"a\"]\n[clean]\nbin = 1\n[build.rules]\n";
        let document = Document::parse("air.toml", text).unwrap();
        document.get::<Vec<String>>("build.include_file", "").unwrap();
        document.get::<String>("build.cmd", "").unwrap();
        assert_eq!(
            document.unknown(),
            [
                "air.toml:2:1: unknown key build.inclide_file; did you mean build.include_file?",
                "air.toml:5:8: unknown key build.rules; it has no effect",
                "air.toml:4:1: unknown key clean.bin; it has no effect",
            ]
        );
    }

    #[test]
    fn broken_toml_is_an_error_at_its_place() {
        let error = Document::parse("hotrun.toml", "[build]\ncmd = \"x\ndelay = 1\n").unwrap_err();
        assert_eq!(error.code(), 2);
        assert!(error.to_string().starts_with("hotrun.toml:2:"), "{error}");
        let escape = Document::parse("a", "bin = \"tmp\\main\"\n").unwrap_err().to_string();
        assert!(escape.contains("single quotes"), "{escape}");
    }

    #[test]
    fn an_empty_table_that_is_known_is_no_warning() {
        let document = Document::parse("a", "[build]\n").unwrap();
        document.get::<String>("build.cmd", "").unwrap();
        assert_eq!(document.unknown(), [""; 0]);
    }
}
