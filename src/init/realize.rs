//! From realize's `.realize.yaml` (<https://github.com/oxequa/realize>).

use std::path::Path;

use saphyr::{LoadableYamlNode, Yaml};

use super::Draft;
use crate::error::{Error, Result};

pub(super) fn convert(name: &Path, text: &str) -> Result<Draft> {
    let shown = name.display();
    let documents = Yaml::load_from_str(text).map_err(|error| Error::usage(&shown, error))?;
    let all = documents.first().and_then(|all| all.as_mapping_get("schema"));
    let projects = all.and_then(Yaml::as_sequence).map_or(&[][..], Vec::as_slice);
    let Some(project) = projects.first() else {
        return Err(Error::usage(&shown, "no project under schema:"));
    };
    let mut draft = Draft::from(&shown.to_string());
    for other in &projects[1..] {
        let path = text_of(other, "path").unwrap_or(".");
        draft.lose(format!(
            "the project {}: start another hotrun for it (hotrun -C {path})",
            text_of(other, "name").unwrap_or(path)
        ));
    }
    if let Some(path) = text_of(project, "path").filter(|path| !matches!(*path, "." | "./" | "/")) {
        draft.lose(format!("path: {path}: start hotrun there (hotrun -C {path})"));
    }
    commands(project, &mut draft);
    watcher(project, &mut draft);
    for table in ["env", "environment"] {
        for (key, value) in pairs(project, table) {
            draft.set(&format!("env.{key}"), value);
        }
    }
    draft.set_list("build.args_bin", list(project, "args"));
    Ok(draft)
}

fn commands(project: &Yaml<'_>, draft: &mut Draft) {
    let Some(commands) = project.as_mapping_get("commands") else { return };
    let args_of = |command: &Yaml<'_>| {
        let args = list(command, "args");
        if args.is_empty() { String::new() } else { format!(" {}", args.join(" ")) }
    };
    let mut before = Vec::new();
    for (tool, default) in
        [("generate", "go generate ./..."), ("fmt", "gofmt -l -w ."), ("vet", "go vet ./...")]
    {
        if let Some(command) = commands.as_mapping_get(tool).filter(|one| is_on(one)) {
            before
                .push(text_of(command, "method").unwrap_or(default).to_owned() + &args_of(command));
        }
    }
    let tests = commands.as_mapping_get("test").filter(|one| is_on(one));
    if let Some(command) = tests {
        before.push(format!("go test{} ./...", args_of(command)));
    }
    draft.set_list("build.pre_cmd", before);
    let runs = commands.as_mapping_get("run").is_some_and(is_on);
    let build = ["build", "install"]
        .iter()
        .find_map(|tool| commands.as_mapping_get(tool).filter(|command| is_on(command)));
    let args = build.map(&args_of).unwrap_or_default();
    if runs {
        draft.set("build.cmd", format!("go build{args} -o ./tmp/main ."));
        draft.set("build.entrypoint", vec!["./tmp/main".to_owned()]);
    } else if build.is_some() {
        draft.set("build.cmd", format!("go build{args} ./..."));
    } else {
        draft.set("build.cmd", "true");
    }
}

fn watcher(project: &Yaml<'_>, draft: &mut Draft) {
    let Some(watcher) = project.as_mapping_get("watcher") else { return };
    let bare = |path: String| path.trim_start_matches('/').trim_end_matches('/').to_owned();
    let paths: Vec<String> = list(watcher, "paths").into_iter().map(bare).collect();
    if !paths.iter().any(|path| path.is_empty() || path == ".") {
        draft.set_list("build.include_dir", paths);
    }
    draft.set_list("build.include_ext", list(watcher, "extensions"));
    // The README of realize says one, its code the other.
    let mut ignored = list(watcher, "ignored_paths");
    ignored.extend(list(watcher, "ignore_paths"));
    // And a later version a third.
    if let Some(ignore) = watcher.as_mapping_get("ignore") {
        ignored.extend(list(ignore, "paths"));
        draft.set_list("build.exclude_regex", list(ignore, "regex"));
    }
    draft.set_list("build.exclude_dir", ignored.into_iter().map(bare).collect());
    let scripts = watcher.as_mapping_get("scripts").and_then(Yaml::as_sequence);
    let mut before = draft.values.remove("build.pre_cmd");
    for script in scripts.into_iter().flatten() {
        let Some(command) = text_of(script, "command") else { continue };
        if text_of(script, "type") == Some("before") {
            let list = before.get_or_insert_with(|| toml::Value::Array(Vec::new()));
            if let toml::Value::Array(list) = list {
                list.push(command.into());
            }
        } else {
            draft.lose(format!("the script that runs afterwards: {command}"));
        }
    }
    if let Some(before) = before {
        draft.set("build.pre_cmd", before);
    }
}

/// A tool is on if it says `status: true`, or is written as `true` itself.
fn is_on(command: &Yaml<'_>) -> bool {
    let status = command.as_mapping_get("status").and_then(Yaml::as_bool);
    status.or(command.as_bool()).unwrap_or(false)
}

fn text_of<'a>(table: &'a Yaml<'_>, key: &str) -> Option<&'a str> {
    table.as_mapping_get(key)?.as_str()
}

fn list(table: &Yaml<'_>, key: &str) -> Vec<String> {
    let list = table.as_mapping_get(key).and_then(Yaml::as_sequence);
    list.into_iter().flatten().filter_map(scalar).collect()
}

fn pairs(table: &Yaml<'_>, key: &str) -> Vec<(String, String)> {
    let pairs = table.as_mapping_get(key).and_then(Yaml::as_mapping);
    let pairs = pairs.into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.as_str()?.to_owned(), scalar(value)?))).collect()
}

fn scalar(value: &Yaml<'_>) -> Option<String> {
    let text = value.as_str().map(str::to_owned);
    let number = || value.as_integer().map(|number| number.to_string());
    text.or_else(number).or_else(|| value.as_bool().map(|is| is.to_string()))
}
