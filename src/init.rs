//! The first configuration of a project: what hotrun can see of it, or what another tool's
//! configuration says.
//!
//! What is written is small. What could not be converted is reported, so that nothing is lost
//! unnoticed.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum;
use toml::Value;

use crate::config::{Options, TABLES, example};
use crate::error::{Error, Result};
use crate::project::Kind;

mod air;
mod cargo_watch;
mod fresh;
mod guess;
mod nodemon;
mod realize;

pub(crate) use nodemon::as_glob;

/// A tool whose configuration can be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// `.air.toml`
    Air,
    /// `runner.conf`
    Fresh,
    /// `.realize.yaml`
    Realize,
    /// `nodemon.json`, or `package.json`
    Nodemon,
    /// Its command line
    CargoWatch,
}

/// A configuration to be written.
#[derive(Debug, Default)]
pub(crate) struct First {
    /// The file.
    pub text: String,
    /// What the project was taken for.
    pub kind: Option<String>,
    /// What could not be converted.
    pub lost: Vec<String>,
}

/// A small file for what is found in a directory.
///
/// # Errors
///
/// hotrun knows of no way to run what is here.
pub(crate) fn for_project(directory: &Path) -> Result<First> {
    guess::small(directory)
}

/// Every key, explained, with what the project is taken for.
pub(crate) fn full(directory: &Path) -> First {
    let kind = Kind::detect(directory);
    let guess = if kind == Kind::Unknown { guess::guessed(directory).ok() } else { None };
    First {
        text: example::for_project(&kind, guess.as_ref()),
        kind: guess.map(|guess| guess.summary()),
        lost: Vec::new(),
    }
}

/// Converts another tool's configuration.
///
/// # Errors
///
/// There is none, or it cannot be read.
pub(crate) async fn from_tool(source: Source, options: &Options) -> Result<First> {
    let directory = &options.directory;
    let draft = match source {
        Source::Air => air::convert(options).await?,
        Source::Fresh => {
            let name = options.config.clone().unwrap_or_else(|| "runner.conf".into());
            fresh::convert(&name, &read(directory, &name)?)?
        }
        Source::Realize => {
            let names = [".realize.yaml", ".realize/realize.yaml", "realize.yaml"];
            let found = names.iter().find(|name| directory.join(name).is_file());
            let name = options.config.clone().unwrap_or_else(|| found.unwrap_or(&names[0]).into());
            realize::convert(&name, &read(directory, &name)?)?
        }
        Source::Nodemon => nodemon::convert(directory, options.config.as_deref())?,
        Source::CargoWatch => cargo_watch::convert(directory, &options.args)?,
    };
    Ok(First { text: draft.text(), kind: None, lost: draft.lost })
}

fn read(directory: &Path, name: &Path) -> Result<String> {
    std::fs::read_to_string(directory.join(name)).map_err(|error| {
        Error::usage(name.display(), error)
            .remedy("run hotrun in its directory, or name the file: -c FILE")
    })
}

/// A configuration that is being put together.
#[derive(Debug, Default)]
struct Draft {
    /// Where it comes from.
    head: String,
    values: BTreeMap<String, Value>,
    rules: Vec<Vec<(&'static str, Value)>>,
    listeners: Vec<Vec<(&'static str, Value)>>,
    lost: Vec<String>,
}

impl Draft {
    fn from(head: &str) -> Self {
        Self { head: format!("Converted from {head} by hotrun init."), ..Self::default() }
    }

    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.values.insert(key.to_owned(), value.into());
    }

    /// Sets a list, unless there is nothing in it.
    fn set_list(&mut self, key: &str, list: Vec<String>) {
        if !list.is_empty() {
            self.set(key, list);
        }
    }

    fn lose(&mut self, what: impl Into<String>) {
        self.lost.push(what.into());
    }

    /// A command line: run as it is where a shell would not make something else of it.
    fn set_program(&mut self, line: &str) {
        let special = |c: char| "|&;<>()$`\\\"'*?[]#~=%{}!\n".contains(c);
        if line.contains(special) {
            self.set("build.full_bin", line);
        } else {
            self.set("build.entrypoint", line);
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("# {}", self.head)];
        for table in [""].into_iter().chain(TABLES) {
            let of_table = |key: &str| match (table, key.split_once('.')) {
                ("", None) => true,
                (table, Some((of, _))) => of == table,
                _ => false,
            };
            let mut keys: Vec<&String> = self.values.keys().filter(|key| of_table(key)).collect();
            keys.sort_by_key(|key| example::place(key));
            if !keys.is_empty() && !table.is_empty() {
                lines.extend([String::new(), format!("[{table}]")]);
            }
            for key in keys {
                let name = key.split_once('.').map_or(key.as_str(), |(_, name)| name);
                lines.push(format!("{} = {}", quoted_key(name), self.values[key]));
            }
            if table == "build" {
                for rule in &self.rules {
                    lines.extend([String::new(), "[[build.rules]]".to_owned()]);
                    lines.extend(rule.iter().map(|(name, value)| format!("{name} = {value}")));
                }
            }
        }
        for listener in &self.listeners {
            lines.extend([String::new(), "[[listen]]".to_owned()]);
            lines.extend(listener.iter().map(|(name, value)| format!("{name} = {value}")));
        }
        lines.join("\n") + "\n"
    }
}

/// A name as TOML wants it.
fn quoted_key(name: &str) -> String {
    let is_bare = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if is_bare && !name.is_empty() { name.to_owned() } else { Value::from(name).to_string() }
}

/// Items between commas.
fn items(text: &str) -> Vec<String> {
    let items = text.split(',').map(|item| item.trim().trim_matches(['"', '\'']).to_owned());
    items.filter(|item| !item.is_empty()).collect()
}
