//! From `.air.toml`. hotrun reads it as it is; for hotrun's own defaults, or its own
//! keys, this is a start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;

use super::Draft;
use crate::config::duration::{self, Bare};
use crate::config::keys;
use crate::config::{
    self, Action, Command, Extensions, Listen, Options, Program, Rule, Setting, example,
};
use crate::error::{Error, Result};
use crate::project::{Ask, Question};

/// In air mode no tool is asked what the project is.
struct Nobody;

impl Ask for Nobody {
    async fn ask(&self, question: Question) -> Result<Vec<u8>> {
        Err(Error::failed(format!("{:?}", question.argv), "is not asked for air's files"))
    }
}

/// Defaults of air's files that differ from hotrun's.
const DEFAULTS: [&str; 4] =
    ["build.cmd", "build.include_ext", "build.exclude_dir", "build.exclude_regex"];
/// Keys that are converted separately.
const TRANSLATED: [&str; 6] = [
    "build.entrypoint",
    "build.bin",
    "build.full_bin",
    "build.args_bin",
    "build.kill_delay",
    "color.app",
];

pub(super) async fn convert(options: &Options) -> Result<Draft> {
    let names = [".air.toml", "air.toml", ".config/air.toml", ".air.conf"].map(PathBuf::from);
    let found = names.into_iter().find(|name| options.directory.join(name).is_file());
    let file = options.config.clone().or(found);
    let file = file.ok_or_else(|| {
        Error::usage(options.directory.display(), "no .air.toml found")
            .remedy("run hotrun in its directory, or name the file: -c FILE")
    })?;
    let config =
        config::load(&Options { config: Some(file.clone()), ..options.clone() }, &Nobody).await?;
    let mut draft = Draft::from(&file.display().to_string());
    let same = example::defaults();
    for setting in &config.project.settings {
        let key = setting.key.as_str();
        let is_default = setting.origin == "default";
        if TRANSLATED.contains(&key)
            || key.starts_with("meta.")
            || (is_default && !DEFAULTS.contains(&key))
        {
            continue;
        }
        let Ok(value) = setting.value.parse::<Value>() else { continue };
        let value = with_unit(key, value);
        let is_nothing = match &value {
            Value::String(text) => text.is_empty(),
            // In air's files 0 is an unset port; in hotrun's own it is a free one.
            Value::Integer(0) => key == "proxy.app_port",
            _ => false,
        };
        if is_nothing || same.get(key) == Some(&value) {
            continue;
        }
        let place = misplaced(key);
        // As when it is read, the key in its right place wins.
        let is_written = |one: &Setting| one.key == place && one.origin != "default";
        if place == key || !config.project.settings.iter().any(is_written) {
            draft.set(place, value);
        }
    }
    // In hotrun's own file, the port alone turns the proxy on.
    if config.only().proxy.is_none() && draft.values.contains_key("proxy.proxy_port") {
        draft.set("proxy.enabled", false);
    }
    let base = &config.only().watch.base;
    let relative = |word: &std::ffi::OsString| {
        let path = PathBuf::from(word);
        match path.strip_prefix(base) {
            Ok(below) => format!("./{}", below.display()),
            Err(_) => word.to_string_lossy().into_owned(),
        }
    };
    match &config.only().recipe.run.program {
        Program::Command(Command::Argv(argv)) => {
            let installed =
                config.only().recipe.run.fallback.as_ref().map(|fallback| &fallback.command);
            let argv = match installed {
                Some(Command::Argv(installed)) => installed,
                _ => argv,
            };
            draft.set("build.entrypoint", argv.iter().map(relative).collect::<Vec<_>>());
        }
        Program::Command(Command::Shell(text, _)) => draft.set("build.full_bin", text.clone()),
        Program::None | Program::Built(_) => {}
    }
    for (name, value) in config::ignored_variables(&options.directory.join(&file)) {
        draft.set(&format!("env.{name}"), value);
    }
    let grace = config.only().recipe.run.grace.as_millis();
    if grace != 5000 {
        draft.set("build.kill_delay", format!("{grace}ms"));
    }
    // air knows no .gitignore.
    draft.set("watch.gitignore", false);
    draft.rules = config.only().watch.rules.iter().map(|rule| as_table(rule, base)).collect();
    draft.listeners = config.only().recipe.listen.iter().map(listener).collect();
    if !config.only().recipe.build.stop_on_error && config.only().recipe.build.stages.len() > 1 {
        draft.lose("a pre_cmd may fail in air's files: append || true to one that may");
    }
    draft.lost.extend(config.project.warnings.iter().cloned());
    Ok(draft)
}

fn listener(one: &Listen) -> Vec<(&'static str, Value)> {
    let name = one.name.iter().map(|name| ("name", name.clone().into()));
    [("address", one.address.to_string().into())].into_iter().chain(name).collect()
}

fn as_table(rule: &Rule, base: &Path) -> Vec<(&'static str, Value)> {
    let relative = |paths: &BTreeSet<PathBuf>| -> Vec<String> {
        let paths = paths.iter().map(|path| path.strip_prefix(base).unwrap_or(path));
        paths.map(|path| path.display().to_string()).collect()
    };
    let extensions = match &rule.extensions {
        None => Vec::new(),
        Some(Extensions::Any) => vec!["*".to_owned()],
        Some(Extensions::Only(list)) => list.iter().cloned().collect(),
    };
    let lists = [
        ("include_dir", relative(&rule.include_dirs)),
        ("include_ext", extensions),
        ("include_file", relative(&rule.include_files)),
        ("exclude_regex", rule.exclude_regex.patterns().to_vec()),
    ];
    let mut table: Vec<(&'static str, Value)> = vec![("name", rule.name.clone().into())];
    match &rule.action {
        Action::Run { cmd, .. } => table.push(("cmd", cmd.clone().into())),
        Action::Signal(signal) => {
            table.push(("action", "signal".into()));
            table.push(("signal", signal.as_str().into()));
        }
        other => table.push(("action", other.name().into())),
    }
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    table.extend(lists.map(|(name, list)| (name, list.into())));
    table
}

/// A number of milliseconds as a duration, which hotrun's own files want with a unit.
fn with_unit(key: &str, value: Value) -> Value {
    let is_in_ms = keys::unit(key, true) == Bare::Milliseconds;
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    match number.filter(|number| is_in_ms && *number > 0) {
        Some(number) => duration::written(Duration::from_millis(number)).into(),
        None => value,
    }
}

/// Where a key of a `[watch]` table belongs that people wrote there by mistake.
fn misplaced(key: &str) -> &str {
    match key {
        "watch.exclude_dirs" => "build.exclude_dir",
        "watch.include_files" => "build.include_file",
        _ => config::MISPLACED.iter().find(|(wrong, _)| *wrong == key).map_or(key, |pair| pair.1),
    }
}
