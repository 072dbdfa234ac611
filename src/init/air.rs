//! From `.air.toml`. hotrun reads it as it is; who wants hotrun's own defaults, or its own
//! keys, starts from here.

use std::path::PathBuf;

use toml::Value;

use super::Draft;
use crate::config::{self, Command, Options, Program, example};
use crate::error::{Error, Result};
use crate::project::{Ask, Question};

/// In air mode nobody is asked what the project is.
struct Nobody;

impl Ask for Nobody {
    async fn ask(&self, question: Question) -> Result<Vec<u8>> {
        Err(Error::failed(format!("{:?}", question.argv), "is not asked for air's files"))
    }
}

/// What holds in air's file though nobody wrote it, and would be otherwise in hotrun's.
const DEFAULTS: [&str; 4] =
    ["build.cmd", "build.include_ext", "build.exclude_dir", "build.exclude_regex"];
/// Said in another way.
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
        Error::usage(options.directory.display(), "there is no .air.toml here")
            .remedy("start hotrun where it is, or name it: -c FILE")
    })?;
    let config =
        config::load(&Options { config: Some(file.clone()), ..options.clone() }, &Nobody).await?;
    let mut draft = Draft::from(&file.display().to_string());
    let same = example::defaults();
    for setting in &config.settings {
        let key = setting.key.as_str();
        let is_default = setting.origin == "default";
        if TRANSLATED.contains(&key)
            || key.starts_with("meta.")
            || (is_default && !DEFAULTS.contains(&key))
        {
            continue;
        }
        let Ok(value) = setting.value.parse::<Value>() else { continue };
        let is_nothing = matches!(&value, Value::String(text) if text.is_empty());
        if is_nothing || same.get(key) == Some(&value) {
            continue;
        }
        draft.set(&misplaced(key), value);
    }
    let base = &config.watch.base;
    let relative = |word: &std::ffi::OsString| {
        let path = PathBuf::from(word);
        match path.strip_prefix(base) {
            Ok(below) => format!("./{}", below.display()),
            Err(_) => word.to_string_lossy().into_owned(),
        }
    };
    match &config.run.program {
        Program::Command(Command::Argv(argv)) => {
            let installed = config.run.fallback.as_ref().map(|fallback| &fallback.command);
            let argv = match installed {
                Some(Command::Argv(installed)) => installed,
                _ => argv,
            };
            draft.set("build.entrypoint", argv.iter().map(relative).collect::<Vec<_>>());
        }
        Program::Command(Command::Shell(text, _)) => draft.set("build.full_bin", text.clone()),
        Program::None | Program::Built(_) => {}
    }
    let grace = config.run.grace.as_millis();
    if grace != 5000 {
        draft.set("build.kill_delay", format!("{grace}ms"));
    }
    // air knows no .gitignore.
    draft.set("watch.gitignore", false);
    for rule in &config.watch.rules {
        draft.lose(format!("the rule {}: copy its [[build.rules]] as it is", rule.name));
    }
    if !config.build.stop_on_error && config.build.stages.len() > 1 {
        draft.lose("that a pre_cmd may fail: append || true to one that may");
    }
    draft.lost.extend(config.warnings.iter().cloned());
    Ok(draft)
}

/// Where a key of a `[watch]` table belongs that people wrote there by mistake.
fn misplaced(key: &str) -> String {
    let lists = ["include_ext", "exclude_dir", "include_dir", "include_file", "exclude_file"];
    match key.strip_prefix("watch.") {
        Some(name) if lists.contains(&name) => format!("build.{name}"),
        Some("exclude_dirs") => "build.exclude_dir".to_owned(),
        Some("include_files") => "build.include_file".to_owned(),
        _ => key.to_owned(),
    }
}
