//! A configuration as written: every value with its place, none of them understood.
//!
//! The resolver reads each key once, by name, with the type it must have. A key that it does not
//! read is unknown; [`keys`] declares which one may be meant. The command line sets the same keys,
//! and overrides the file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::duration::Bare;
use super::keys::{self, KEYS, Key, Of, PLATFORM_KEYS, PLATFORMS};
use super::{TABLES, air, duration, excerpt};
use crate::error::{Error, Result};
use crate::project::guess::Guess;

const STRINGS: &str = "a list of strings, for example [\"a\", \"b\"]";
const TEXT: &str = "a string in quotes";
const BOOLEAN: &str = "true or false";
/// The name of this operating system in such a block.
const PLATFORM: &str = if cfg!(target_os = "macos") { "darwin" } else { "linux" };

/// A configuration as written.
#[derive(Debug, Default)]
pub(crate) struct Document {
    name: String,
    /// Whether the values are hotrun's own guess, and are in no file.
    is_guessed: bool,
    text: String,
    /// The keys that there are: those that an unknown one may be meant to be.
    keys: &'static [Key],
    entries: BTreeMap<String, Entry>,
    /// The tables of a list of tables, each with its keys relative to it.
    lists: BTreeMap<String, Vec<Document>>,
    /// The keys that were read, with the default of each that has one.
    asked: RefCell<BTreeMap<&'static str, Option<toml::Value>>>,
    /// Tables whose keys are the user's own.
    open: RefCell<BTreeSet<&'static str>>,
    /// Tables that are the value of one key.
    values: RefCell<BTreeSet<&'static str>>,
}

#[derive(Debug)]
enum Entry {
    File {
        key: Range<usize>,
        value: Range<usize>,
        /// Where the items of a list are.
        items: Vec<Range<usize>>,
        read: toml::Value,
    },
    /// The values on the command line, one for each time that the option is given.
    Option(Vec<String>),
}

/// A string, or a list of them.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A whole number, or a text.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub(super) enum NumberOrText {
    Number(i64),
    Text(String),
}

/// A value that has an effect, and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The key, with its table.
    pub key: String,
    /// The value, as TOML.
    pub value: String,
    /// `default`, `option`, `guess`, or the file and line.
    pub origin: String,
    /// Whether the value is the default, written or not.
    pub is_default: bool,
}

impl Document {
    /// Reads TOML. `name` is what errors call it.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        let mut document =
            Self { name: name.to_owned(), text: text.to_owned(), keys: KEYS, ..Self::default() };
        let table = DeTable::parse(text).map_err(|error| document.syntax_error(&error))?;
        document.collect("", table.into_inner())?;
        document.take_platform();
        for table in TABLES {
            let is_other = matches!(document.entries.get(table),
                Some(Entry::File { read, .. }) if !read.is_table());
            // What air does not know, it ignores, whatever it is.
            if !air::TABLES.contains(&table) && air::is_airs(Path::new(name)) {
                continue;
            }
            if is_other || document.lists.contains_key(table) {
                return Err(document.wrong(table, format!("a table: keys below a line [{table}]")));
            }
        }
        Ok(document)
    }

    /// The keys that a project is guessed to need.
    pub(super) fn guessed(guess: &Guess) -> Self {
        let entry = |value: &toml::Value| Entry::File {
            key: 0..0,
            value: 0..0,
            items: Vec::new(),
            read: value.clone(),
        };
        let entries = guess.values.iter().map(|(key, value)| (key.clone(), entry(value)));
        let mut document = Self { is_guessed: true, entries: entries.collect(), ..Self::default() };
        if let Some(address) = &guess.listen {
            let address = entry(&toml::Value::from(address.clone()));
            let entries = BTreeMap::from([("address".to_owned(), address)]);
            let table = Self { is_guessed: true, entries, ..Self::default() };
            document.lists.insert("listen".to_owned(), vec![table]);
        }
        document
    }

    fn collect(&mut self, prefix: &str, table: DeTable<'_>) -> Result<()> {
        for (key, value) in table {
            let name = match prefix {
                "" => key.get_ref().to_string(),
                _ => format!("{prefix}.{}", key.get_ref()),
            };
            let place = (key.span(), value.span());
            let is_in_value = keys::find(prefix).is_some_and(|key| key.kind.is_table());
            match value.get_ref() {
                DeValue::Table(inner) if !inner.is_empty() && !is_in_value => {
                    let DeValue::Table(inner) = value.into_inner() else { continue };
                    self.collect(&name, inner)?;
                }
                DeValue::Array(list)
                    if !list.is_empty()
                        && list.iter().all(|one| matches!(one.get_ref(), DeValue::Table(_))) =>
                {
                    let DeValue::Array(list) = value.into_inner() else { continue };
                    let mut tables = Vec::new();
                    for one in list {
                        let DeValue::Table(inner) = one.into_inner() else { continue };
                        let mut table = Self {
                            name: self.name.clone(),
                            text: self.text.clone(),
                            keys: keys::of_list(&name),
                            ..Self::default()
                        };
                        table.collect("", inner)?;
                        tables.push(table);
                    }
                    self.lists.insert(name, tables);
                }
                other => {
                    let items = match other {
                        DeValue::Array(list) => list.iter().map(Spanned::span).collect(),
                        _ => Vec::new(),
                    };
                    let read = toml::Value::deserialize(ValueDeserializer::from(value))
                        .map_err(|error| self.syntax_error(&error))?;
                    let entry = Entry::File { key: place.0, value: place.1, items, read };
                    self.entries.insert(name, entry);
                }
            }
        }
        Ok(())
    }

    /// A block for this operating system overrides the keys of `build` itself; those for
    /// others have no effect here.
    fn take_platform(&mut self) {
        for platform in PLATFORMS {
            for key in PLATFORM_KEYS {
                let Some(entry) = self.entries.remove(&format!("build.{platform}.{key}")) else {
                    continue;
                };
                let is_unset = matches!(&entry, Entry::File { read, .. } if is_empty(read));
                if platform == PLATFORM && !is_unset {
                    self.entries.insert(format!("build.{key}"), entry);
                }
            }
        }
    }

    /// The command line overrides the file.
    pub(super) fn overlay(&mut self, options: &[(String, String)]) {
        for (key, word) in options {
            match self.entries.get_mut(key) {
                Some(Entry::Option(words)) => words.push(word.clone()),
                _ => {
                    self.entries.insert(key.clone(), Entry::Option(vec![word.clone()]));
                }
            }
        }
    }

    fn syntax_error(&self, error: &toml::de::Error) -> Error {
        let span = error.span().unwrap_or(0..0);
        if error.message() == "duplicate key"
            && let Some((key, line)) = self.first_of_key(span.start)
        {
            return self
                .error_at(&span, "", format!("duplicate key {key}, first set in line {line}"))
                .remedy("remove one of the two");
        }
        let wrong = self.error_at(&span, "", error.message());
        if error.message().contains("escape") {
            return wrong.remedy(
                "a backslash in \"double quotes\" begins an escape: write 'single quotes' or \\\\",
            );
        }
        wrong
    }

    /// The name of the key that is written here, and the line where its table has it first.
    fn first_of_key(&self, offset: usize) -> Option<(String, usize)> {
        let before = self.text.get(..offset)?;
        let key: String = self.text[offset..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
            .collect();
        let lines: Vec<&str> = before.lines().collect();
        let header = lines.iter().rposition(|line| line.trim_start().starts_with('['));
        let is_key = |line: &&str| {
            let name = line.split_once('=').map(|(name, _)| name.trim().trim_matches(['"', '\'']));
            name == Some(&key)
        };
        let start = header.unwrap_or(0);
        let found = lines[start..].iter().position(is_key)?;
        Some((key, start + found + 1))
    }

    /// An error that is about this part of the text: its place, what is named there, an excerpt.
    fn error_at(
        &self,
        part: &Range<usize>,
        name: impl std::fmt::Display,
        reason: impl std::fmt::Display,
    ) -> Error {
        let name = name.to_string();
        let colon = if name.is_empty() { "" } else { ": " };
        Error::usage(format!("{}{colon}{name}", self.place(part.start)), reason)
            .excerpt(excerpt::excerpt(&self.text, part))
    }

    /// `file:line:column`, each from 1, columns in characters.
    fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before[start..].chars().count() + 1;
        format!("{}:{}:{column}", self.name, self.line(offset))
    }

    fn line(&self, offset: usize) -> usize {
        self.text.get(..offset).unwrap_or(&self.text).matches('\n').count() + 1
    }

    // Values. `expected` says, with an example, what a value must be.

    /// A text.
    pub(super) fn text(&self, key: &'static str) -> Result<Option<String>> {
        self.get(key, TEXT, |words| words.last().cloned())
    }

    /// A list; on the command line its items are separated by commas, or the option is repeated.
    pub(super) fn strings(&self, key: &'static str) -> Result<Option<Vec<String>>> {
        let found = self.get(key, STRINGS, |words| Some(items(words)));
        found.map_err(|error| self.wrong_type_in_list(key).unwrap_or(error))
    }

    /// A program, or a list of a program and its arguments.
    pub(super) fn one_or_many(
        &self,
        key: &'static str,
        is_list: bool,
    ) -> Result<Option<OneOrMany>> {
        self.get(key, "a program, or a list of a program and its arguments", |words| match words {
            [one] if !is_list => Some(OneOrMany::One(one.clone())),
            several if is_list => Some(OneOrMany::Many(items(several))),
            several => Some(OneOrMany::Many(several.to_vec())),
        })
    }

    /// True or false; on the command line in any of the words that Go knows.
    pub(super) fn boolean(&self, key: &'static str) -> Result<Option<bool>> {
        self.boolean_or(key, BOOLEAN)
    }

    /// The same for a key that may hold something else, which was read before.
    pub(super) fn boolean_or(&self, key: &'static str, expected: &str) -> Result<Option<bool>> {
        self.get(key, expected, |words| match words.last()?.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        })
    }

    /// Checks that a key holds a table, if there is one.
    pub(super) fn table(&self, key: &'static str, expected: &str) -> Result<()> {
        self.get::<toml::Table>(key, expected, |_| None).map(|_| ())
    }

    /// A whole number that is not negative.
    pub(super) fn number(&self, key: &'static str, expected: &str) -> Result<Option<u64>> {
        self.get(key, expected, |words| words.last()?.parse().ok())
    }

    /// A duration; `bare`: what a number without a unit means.
    pub(super) fn duration(&self, key: &'static str, bare: Bare) -> Result<Option<Duration>> {
        let Some(written) = self.number_or_text(key, duration::EXPECTED)? else { return Ok(None) };
        duration::read(&written, bare).map_err(|(reason, remedy)| {
            let error = self.refused(key, reason);
            match remedy {
                Some(remedy) => error.remedy(remedy),
                None => error,
            }
        })
    }

    /// A whole number, or a text.
    pub(super) fn number_or_text(
        &self,
        key: &'static str,
        expected: &str,
    ) -> Result<Option<NumberOrText>> {
        self.get(key, expected, |words| {
            let word = words.last()?;
            Some(word.parse().map_or(NumberOrText::Text(word.clone()), NumberOrText::Number))
        })
    }

    /// The tables of a list of tables.
    pub(super) fn tables(&self, key: &'static str) -> Result<&[Document]> {
        let expected = format!("tables, each under [[{key}]]");
        if self.options(key).is_none() {
            let empty = self.get::<Vec<toml::Value>>(key, &expected, |_| None)?;
            if empty.is_some_and(|list| !list.is_empty()) {
                return Err(self.wrong(key, expected));
            }
        }
        let below = |one: &&String| one.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        if let Some(first) = self.entries.keys().find(below) {
            return Err(self.wrong(first, expected));
        }
        Ok(self.lists.get(key).map_or(&[], Vec::as_slice))
    }

    /// The values of a key on the command line, one for each time that it is given.
    pub(super) fn options(&self, key: &'static str) -> Option<&[String]> {
        match self.entries.get(key) {
            Some(Entry::Option(words)) => {
                self.asked.borrow_mut().entry(key).or_default();
                Some(words)
            }
            _ => None,
        }
    }

    /// Ignores this table of the file; returns `file:line` of its first key.
    pub(super) fn ignore(&mut self, table: &str) -> Option<String> {
        let starts = self.entries.iter().filter_map(|(key, entry)| match entry {
            Entry::File { key: place, .. } if is_of(key, table) => Some(place.start),
            Entry::File { .. } | Entry::Option(_) => None,
        });
        let first = starts.min().map(|offset| format!("{}:{}", self.name, self.line(offset)));
        self.entries.retain(|key, _| !is_of(key, table));
        let tables = self.lists.remove(table).unwrap_or_default();
        first.or_else(|| tables.first().map(Document::begins_at))
    }

    /// The keys and values of a table whose keys are the user's own.
    pub(super) fn pairs(&self, table: &'static str) -> Result<Vec<(String, String)>> {
        self.open.borrow_mut().insert(table);
        let mut pairs = Vec::new();
        for (key, entry) in &self.entries {
            let Some(name) = key.strip_prefix(table).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            let value = match entry {
                Entry::Option(words) => words.last().cloned(),
                Entry::File { read, .. } => value_of_variable(read),
            };
            let value = value.filter(|_| !name.contains(['.', '=']) && !name.is_empty());
            let value = value.ok_or_else(|| self.wrong(key, "a string, as in NAME = \"value\""))?;
            pairs.push((name.to_owned(), value));
        }
        Ok(pairs)
    }

    /// The keys of a table that is the value of one key: each name, and the key as a whole. Their
    /// values are read by [`text_at`](Self::text_at) and [`number_at`](Self::number_at).
    pub(super) fn below(
        &self,
        table: &'static str,
        expected: &str,
    ) -> Result<Vec<(String, String)>> {
        self.asked.borrow_mut().entry(table).or_default();
        self.values.borrow_mut().insert(table);
        if let Some(list) = self.lists.keys().find(|key| is_of(key, table)) {
            return Err(self.wrong(list, expected));
        }
        let name = |key: &str| Some(key.strip_prefix(table)?.strip_prefix('.')?.to_owned());
        Ok(self.entries.keys().filter_map(|key| Some((name(key)?, key.clone()))).collect())
    }

    /// The text of a key in such a table.
    pub(super) fn text_at(&self, key: &str) -> Result<Option<String>> {
        self.value(key, TEXT, |words| words.last().cloned())
    }

    /// The whole number of a key in such a table.
    pub(super) fn number_at(&self, key: &str, expected: &str) -> Result<Option<u64>> {
        self.value(key, expected, |words| words.last()?.parse().ok())
    }

    fn get<T: DeserializeOwned>(
        &self,
        key: &'static str,
        expected: &str,
        from_words: impl FnOnce(&[String]) -> Option<T>,
    ) -> Result<Option<T>> {
        self.asked.borrow_mut().entry(key).or_default();
        self.value(key, expected, from_words)
    }

    fn value<T: DeserializeOwned>(
        &self,
        key: &str,
        expected: &str,
        from_words: impl FnOnce(&[String]) -> Option<T>,
    ) -> Result<Option<T>> {
        let value = match self.entries.get(key) {
            None => return Ok(None),
            Some(Entry::File { read, .. }) => read.clone().try_into().ok(),
            Some(Entry::Option(words)) => from_words(words),
        };
        value.map(Some).ok_or_else(|| self.wrong(key, expected))
    }

    /// Remembers the default of a key.
    pub(super) fn assume(&self, key: &'static str, value: impl Into<toml::Value>) {
        self.asked.borrow_mut().insert(key, Some(value.into()));
    }

    /// The error for a value that is not what it must be.
    pub(crate) fn wrong(&self, key: &str, expected: impl std::fmt::Display) -> Error {
        self.refused(key, format!("expected {expected}"))
    }

    /// The error for a value that is refused for this reason.
    pub(super) fn refused(&self, key: &str, reason: impl std::fmt::Display) -> Error {
        match self.entries.get(key) {
            None => Error::usage(format!("{}: {key}", self.name), reason),
            Some(Entry::Option(words)) => {
                Error::usage(format!("--{key} {}", words.join(" ")), reason)
            }
            Some(Entry::File { value, .. }) => {
                // A variable may be a secret.
                let is_shown = !is_of(key, "env");
                let written = if is_shown { self.written_at(value) } else { String::new() };
                self.error_at(value, format!("{key}{written}"), reason)
            }
        }
    }

    /// ` = ` and the first line of what is written, cut.
    fn written_at(&self, value: &Range<usize>) -> String {
        let written = self.text.get(value.clone()).unwrap_or_default();
        let short: String = written.lines().next().unwrap_or_default().chars().take(60).collect();
        format!(" = {short}")
    }

    /// The same for one item of a list.
    pub(super) fn wrong_item(
        &self,
        key: &str,
        item: &str,
        expected: impl std::fmt::Display,
    ) -> Error {
        let place = match self.entries.get(key) {
            Some(Entry::File { items, read: toml::Value::Array(list), .. }) => {
                let number = list.iter().position(|one| one.as_str() == Some(item));
                number.and_then(|number| items.get(number))
            }
            _ => None,
        };
        match place {
            Some(place) => {
                self.error_at(place, format!("{key}: {item:?}"), format!("expected {expected}"))
            }
            None => self.wrong(key, format!("{expected} ({item:?})")),
        }
    }

    /// The error for a list of which an item is no text: where that item is.
    fn wrong_type_in_list(&self, key: &str) -> Option<Error> {
        let Some(Entry::File { items, read: toml::Value::Array(list), .. }) = self.entries.get(key)
        else {
            return None;
        };
        let number = list.iter().position(|one| !one.is_str())?;
        let place = items.get(number)?;
        let written = self.text.get(place.clone()).unwrap_or_default();
        let short: String = written.lines().next().unwrap_or_default().chars().take(60).collect();
        Some(self.error_at(place, format!("{key}: {short}"), "expected a string in quotes"))
    }

    /// The error for a table of a list as a whole.
    pub(super) fn incomplete(&self, reason: impl std::fmt::Display) -> Error {
        let header = self.text.get(..self.start()).and_then(|above| {
            let start = above.rfind("\n[[").map(|newline| newline + 1);
            let start = start.or_else(|| above.starts_with("[[").then_some(0))?;
            let end = above[start..].find("]]")? + 2;
            Some(start..start + end)
        });
        self.error_at(&header.unwrap_or(self.start()..self.start()), "", reason)
    }

    /// `file:line` of the table itself, if it has any key.
    pub(super) fn begins_at(&self) -> String {
        format!("{}:{}", self.name, self.line(self.start()))
    }

    /// Where the first key of it is.
    fn start(&self) -> usize {
        let starts = self.entries.values().filter_map(|entry| match entry {
            Entry::File { key, .. } => Some(key.start),
            Entry::Option(_) => None,
        });
        starts.min().unwrap_or(0)
    }

    /// True when there is a file.
    pub(super) fn is_read(&self) -> bool {
        !self.name.is_empty()
    }

    /// True when the key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// True when there is any key of these tables, or one of these keys itself.
    pub(crate) fn has_any(&self, keys: &[&str]) -> bool {
        let mut all = self.entries.keys().chain(self.lists.keys());
        all.any(|key| keys.iter().any(|one| is_of(key, one)))
    }

    /// One sentence for each key of the file that was not read. On the command line such
    /// a key is an error.
    pub(crate) fn unknown(&self) -> Result<Vec<String>> {
        self.unknown_where(|_| true)
    }

    /// The same for keys in tables that do not exist. (Of the others, not all may have been
    /// read yet.)
    pub(super) fn in_unknown_tables(&self) -> Vec<String> {
        let is_list = |key: &str| keys::LISTS.iter().any(|(name, ..)| *name == key);
        let is_stranger = |key: &str| {
            let table = key.split('.').next().unwrap_or_default();
            !is_list(key) && (!TABLES.contains(&table) || keys::find(key).is_none())
        };
        self.unknown_where(is_stranger).unwrap_or_default()
    }

    fn unknown_where(&self, is_meant: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let asked: BTreeSet<&str> = self.asked.borrow().keys().copied().collect();
        let (open, values) = (self.open.borrow(), self.values.borrow());
        let is_below = |key: &str, table: &str| {
            key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))
        };
        let is_air = air::is_airs(Path::new(&self.name));
        let known = |is_wanted: &dyn Fn(Of) -> bool| -> BTreeSet<&str> {
            let keys = self.keys.iter().filter(|key| is_wanted(key.of));
            keys.map(|key| key.name).collect()
        };
        let all = known(&|of| of != Of::Alias);
        let of_air = known(&|of| of == Of::Air);
        let near = |key: &str| match open.iter().find(|table| key.contains(&format!(".{table}."))) {
            Some(_) if is_air => Some("env_files = [\".env\"]".to_owned()),
            Some(table) => Some(format!("the table [{table}], at the top level")),
            None if is_air => {
                nearest(key, &of_air).or_else(|| nearest(key, &all)).map(air::in_its_keys)
            }
            None => nearest(key, &all).map(str::to_owned),
        };
        let mut unknown: Vec<(usize, Unknown<'_>)> = Vec::new();
        for (key, entry) in &self.entries {
            if asked.contains(key.as_str())
                || !is_meant(key)
                || open.iter().chain(values.iter()).any(|table| is_of(key, table))
            {
                continue;
            }
            match entry {
                Entry::Option(_) => {
                    let error = Error::usage(format!("--{key}"), "unknown option");
                    return Err(match near(key) {
                        Some(near) => error.remedy(format!("did you mean --{near}?")),
                        None => error,
                    });
                }
                Entry::File { read, .. }
                    if read.is_table() && asked.iter().any(|known| is_below(known, key)) => {}
                Entry::File { key: place, .. } => unknown.push((place.start, Unknown::Key(key))),
            }
        }
        for (key, tables) in &self.lists {
            let is_known = asked.contains(key.as_str());
            for table in tables {
                let start = table.start();
                if is_known {
                    let below = table.unknown()?.into_iter().map(Unknown::Told);
                    unknown.extend(below.map(|one| (start, one)));
                } else if is_meant(key) {
                    unknown.push((start, Unknown::Table(key, table)));
                }
            }
        }
        unknown.sort_by_key(|(start, _)| *start);
        let more = unknown.len().saturating_sub(MAX_UNKNOWN);
        let told = unknown.into_iter().take(MAX_UNKNOWN).map(|(start, one)| match one {
            Unknown::Key(key) => {
                let hint = near(key).map(|near| format!("did you mean {near}?"));
                let hint = hint.unwrap_or_else(|| "it has no effect".to_owned());
                format!("{}: unknown key {key}; {hint}", self.place(start))
            }
            Unknown::Table(key, table) => format!("{}: unknown table {key}", table.begins_at()),
            Unknown::Told(text) => text,
        });
        let rest = (more > 0).then(|| format!("{}: {more} more unknown keys", self.name));
        Ok(told.chain(rest).collect())
    }

    /// Every value that has an effect, in the order of the keys, and where it is from.
    pub(super) fn settings(&self) -> Vec<Setting> {
        let asked = self.asked.borrow();
        let open = self.open.borrow();
        let values = self.values.borrow();
        let mut all: BTreeMap<&str, Setting> = BTreeMap::new();
        let mut tables: BTreeMap<&str, (toml::Table, String)> = BTreeMap::new();
        let add = |key: &str, value: toml::Value, origin: String| {
            let default = asked.get(key).and_then(Option::as_ref);
            // On the command line a number and a text are written alike.
            let text = |value: &toml::Value| value.to_string().trim_matches('"').to_owned();
            let is_same = |one: &str, other: &str| {
                one == other
                    || duration::parse(one).is_some_and(|one| Some(one) == duration::parse(other))
            };
            let is_default = default.is_some_and(|default| is_same(&text(default), &text(&value)));
            Setting { key: key.to_owned(), value: value.to_string(), origin, is_default }
        };
        for (key, default) in asked.iter() {
            if let Some(default) = default {
                all.insert(key, add(key, default.clone(), "default".to_owned()));
            }
        }
        for (key, entry) in &self.entries {
            let is_open = open.iter().any(|table| key.starts_with(&format!("{table}.")));
            let table = values.iter().find(|table| is_of(key, table) && key != *table);
            if !asked.contains_key(key.as_str()) && !is_open && table.is_none() {
                continue;
            }
            let (value, origin) = self.value_and_origin(entry);
            let name = table.and_then(|table| Some((table, key[table.len()..].strip_prefix('.')?)));
            if let Some((table, name)) = name {
                let (all, _) = tables.entry(table).or_insert_with(|| (toml::Table::new(), origin));
                all.insert(name.to_owned(), value);
            } else {
                all.insert(key, add(key, value, origin));
            }
        }
        for (key, (table, origin)) in tables {
            all.insert(key, add(key, table.into(), origin));
        }
        all.into_values().collect()
    }

    fn value_and_origin(&self, entry: &Entry) -> (toml::Value, String) {
        match entry {
            Entry::File { read, .. } if self.is_guessed => (read.clone(), "guess".to_owned()),
            Entry::File { key, read, .. } => {
                (read.clone(), format!("{}:{}", self.name, self.line(key.start)))
            }
            Entry::Option(words) => {
                let value = match &words[..] {
                    [one] => one.clone().into(),
                    several => several.to_vec().into(),
                };
                (value, "option".to_owned())
            }
        }
    }

    /// Every key that was read.
    #[cfg(test)]
    pub(crate) fn asked(&self) -> BTreeSet<&'static str> {
        self.asked.borrow().keys().copied().collect()
    }

    /// Every key that is written.
    #[cfg(test)]
    pub(crate) fn written(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }
}

/// The items of a list on the command line.
fn items(words: &[String]) -> Vec<String> {
    let items = words.iter().flat_map(|word| word.split(','));
    items.map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

fn is_empty(value: &toml::Value) -> bool {
    match value {
        toml::Value::String(text) => text.is_empty(),
        toml::Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// True for the table itself, and for a key below it.
fn is_of(key: &str, table: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The text of a variable; `None` for a list, say.
pub(super) fn value_of_variable(written: &toml::Value) -> Option<String> {
    match written {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(_) | toml::Value::Boolean(_) => Some(written.to_string()),
        toml::Value::Float(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => None,
    }
}

/// The known key that a misspelt one most likely means: the same name in another table, or
/// one that differs by a few letters.
fn nearest<'a>(key: &str, known: &BTreeSet<&'a str>) -> Option<&'a str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let same_name = known.iter().find(|one| last(one) == last(key));
    // Of opposites, neither is meant when the other is written.
    let opposite = key.replace("include", "exclude");
    let close = known
        .iter()
        .filter(|one| !key.contains("include") || **one != opposite)
        .map(|one| (distance(key, one), *one))
        .filter(|(distance, one)| *distance <= 1 + one.len() / 8)
        .min();
    close.map(|(_, one)| one).or(same_name.copied())
}

/// Something in the file that has no meaning.
enum Unknown<'a> {
    Key(&'a str),
    /// One of a list of tables.
    Table(&'a str, &'a Document),
    /// It is put into words already.
    Told(String),
}

/// Maximum number of unknown keys that are named.
const MAX_UNKNOWN: usize = 20;

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
        let wrong = document.number("build.delay", "milliseconds, for example 200");
        assert_eq!(
            wrong.unwrap_err().to_string(),
            ".air.toml:3:11: build.delay = \"fast\": expected milliseconds, for example 200\n  \
             3 |   delay = \"fast\"\n    |           ^^^^^^"
        );
    }

    #[test]
    fn a_variable_is_named_and_its_value_is_not() {
        for text in [
            "[env]\nA = [\"s3cret\"]\n",
            "env.A = [\n \"s3cret\"]\n",
            "[env.A]\nB.C = \"s3cret\"\n",
        ] {
            let error = Document::parse("a", text).unwrap().pairs("env").unwrap_err().to_string();
            assert!(error.contains("env.A") && !error.contains("s3cret"), "{error}");
        }
        let broken = Document::parse("a", "[env]\nA = \"s3cret\n").unwrap_err().to_string();
        assert!(broken.starts_with("a:2:") && !broken.contains("s3cret"), "{broken}");
    }

    #[test]
    fn an_item_of_a_wrong_type_is_marked_in_a_list_of_several_lines() {
        let document = Document::parse("a", "list = [\n  \"x\",\n  5,\n]\n").unwrap();
        assert_eq!(
            document.strings("list").unwrap_err().to_string(),
            "a:3:3: list: 5: expected a string in quotes\n  3 |   5,\n    |   ^"
        );
        let document = Document::parse("a", "list = [\n  \"x\",\n  'y', 'x',\n]\n").unwrap();
        let wrong = document.wrong_item("list", "y", "a z").to_string();
        assert_eq!(wrong, "a:3:3: list: \"y\": expected a z\n  3 |   'y', 'x',\n    |   ^^^");
    }

    #[test]
    fn an_unknown_key_is_told_with_its_place_and_the_nearest_known_key() {
        let text = "[build]\ninclide_file = [\"a\"]\n[clean]\nbin = 1\n[build.rules]\n";
        let document = Document::parse("air.toml", text).unwrap();
        document.strings("build.include_file").unwrap();
        document.text("build.cmd").unwrap();
        assert_eq!(
            document.unknown().unwrap(),
            [
                "air.toml:2:1: unknown key build.inclide_file; did you mean build.include_file?",
                "air.toml:4:1: unknown key clean.bin; did you mean build.bin?",
                "air.toml:5:8: unknown key build.rules; it has no effect",
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
        document.text("build.cmd").unwrap();
        assert_eq!(document.unknown().unwrap(), [""; 0]);
    }
}
