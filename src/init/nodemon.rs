//! From `nodemon.json`, or `nodemonConfig` in `package.json`
//! (<https://github.com/remy/nodemon>).

use std::path::Path;

use serde_json::Value as Json;

use super::{Draft, items, read};
use crate::error::{Error, Result};

pub(super) fn convert(directory: &Path, named: Option<&Path>) -> Result<Draft> {
    let parse = |name: &Path| -> Result<Json> {
        let text = read(directory, name)?;
        serde_json::from_str(&text).map_err(|error| Error::usage(name.display(), error))
    };
    let own = named.unwrap_or(Path::new("nodemon.json"));
    let package = directory.join("package.json");
    let package = if package.is_file() { parse(Path::new("package.json"))? } else { Json::Null };
    let (name, config) = if named.is_some() || directory.join(own).is_file() {
        (own.display().to_string(), parse(own)?)
    } else if let Some(config) = package.get("nodemonConfig") {
        ("package.json".to_owned(), config.clone())
    } else {
        return Err(Error::usage(
            directory.display(),
            "no nodemon.json, and no nodemonConfig in package.json",
        )
        .remedy("hotrun init writes a file for this project"));
    };
    let mut draft = Draft::from(&name);
    let Json::Object(config) = config else {
        return Err(Error::usage(name, "expected an object"));
    };
    let main = package.get("main").and_then(Json::as_str).unwrap_or("index.js");
    let script = config.get("script").and_then(Json::as_str).unwrap_or(main);
    let mut program = format!("node {script}");
    for (key, value) in &config {
        match key.as_str() {
            "exec" => program = text(value),
            "ext" => draft.set_list("build.include_ext", extensions(value)),
            "watch" => watch(value, &mut draft),
            "ignore" => {
                let globs = list(value).into_iter().map(|glob| as_glob(&glob)).collect();
                draft.set_list("watch.exclude", globs);
            }
            "env" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    draft.set(&format!("env.{name}"), text(value));
                }
            }
            "signal" => draft.set("run.signal", text(value).trim_start_matches("SIG")),
            "exitCrash" if value == &Json::Bool(true) => draft.set("run.on_exit", "quit"),
            "args" => draft.set_list("build.args_bin", list(value)),
            "delay" => draft.lose(format!("delay: {value}: rapid saves are merged anyway")),
            "legacyWatch" if value == &Json::Bool(true) => draft.set("watch.backend", "poll"),
            "pollingInterval" if value.is_u64() => {
                draft.set("build.poll_interval", format!("{value}ms"));
            }
            "legacyWatch" | "script" | "verbose" | "quiet" | "exitCrash" | "restartable"
            | "ignoreRoot" => {}
            _ => draft.lose(format!("{key}: {value}")),
        }
    }
    // `tsc && node dist` is a build, and a program.
    if let Some((build, run)) = program.rsplit_once("&&") {
        draft.set("build.cmd", build.trim());
        draft.set_program(run.trim());
    } else {
        draft.set_program(program.trim());
    }
    if !draft.values.contains_key("build.include_ext") {
        draft.set_list("build.include_ext", ["js", "mjs", "cjs", "json"].map(String::from).into());
    }
    Ok(draft)
}

fn watch(value: &Json, draft: &mut Draft) {
    let (not, paths): (Vec<_>, Vec<_>) =
        list(value).into_iter().partition(|path| path.starts_with('!'));
    for path in not {
        draft.lose(format!("watch {path}: add it to [watch] exclude"));
    }
    let (globs, directories): (Vec<_>, Vec<_>) =
        paths.into_iter().partition(|path| path.contains('*'));
    let everything = directories.iter().any(|path| matches!(path.as_str(), "." | "./"));
    if !everything {
        draft.set_list("build.include_dir", directories);
    }
    draft.set_list("watch.include", globs);
}

/// A glob for what nodemon ignores: a directory means all that is in it, a bare name matches
/// anywhere.
pub(crate) fn as_glob(ignored: &str) -> String {
    let path = ignored.trim_start_matches("./").trim_end_matches('/');
    match (path.contains('*'), path.contains('/'), path.contains('.')) {
        (true, true, _) => path.to_owned(),
        (true, false, _) | (false, _, true) => format!("**/{path}"),
        (false, true, false) => format!("{path}/**"),
        (false, false, false) => format!("**/{path}/**"),
    }
}

fn extensions(value: &Json) -> Vec<String> {
    let list: Vec<String> = list(value).iter().flat_map(|text| items(text)).collect();
    list.iter()
        .flat_map(|one| one.split(' '))
        .map(|one| one.trim_start_matches('.').to_owned())
        .collect()
}

/// A text, or a list of them.
fn list(value: &Json) -> Vec<String> {
    match value {
        Json::Array(list) => list.iter().map(text).collect(),
        other => vec![text(other)],
    }
}

fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
