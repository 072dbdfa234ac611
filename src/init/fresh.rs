//! From fresh's `runner.conf`: lines of `key: value`
//! (<https://github.com/gravityblast/fresh>).

use std::collections::BTreeMap;
use std::path::Path;

use super::{Draft, items};
use crate::error::{Error, Result};

pub(super) fn convert(name: &Path, text: &str) -> Result<Draft> {
    let mut values = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (key, value) = line.split_once(':').ok_or_else(|| {
            let place = format!("{}:{}", name.display(), number + 1);
            Error::usage(place, format!("expected key: value, found {line}"))
        })?;
        values.insert(key.trim().to_owned(), value.trim().trim_matches('"').to_owned());
    }
    let mut draft = Draft::from(&name.display().to_string());
    let mut take = |key: &str, default: &str| {
        let value = values.remove(key).filter(|value| !value.is_empty());
        value.unwrap_or_else(|| default.to_owned())
    };
    let root = take("root", ".");
    let tmp = take("tmp_path", "./tmp");
    let tmp = tmp.trim_start_matches("./").trim_end_matches('/').to_owned();
    let build = take("build_name", "runner-build");
    let start = if tmp.starts_with('/') { "" } else { "./" };
    let artifact = format!("{start}{tmp}/{build}");
    let valid = items(&take("valid_ext", ".go, .tpl, .tmpl, .html"));
    let without_build = items(&take("no_rebuild_ext", ".tpl, .tmpl, .html"));
    let ignored = items(&take("ignored", "assets, tmp"));
    let log = take("build_log", "runner-build-errors.log");
    let colors = take("colors", "1");
    let bare = |list: Vec<String>| -> Vec<String> {
        list.iter().map(|one| one.trim_start_matches('.').to_owned()).collect()
    };
    let (restarts, builds): (Vec<_>, Vec<_>) =
        valid.into_iter().partition(|extension| without_build.contains(extension));

    if root != "." {
        draft.set("root", root);
    }
    if tmp != "tmp" {
        draft.set("tmp_dir", tmp);
    }
    draft.set("build.cmd", format!("go build -o {artifact} ."));
    draft.set("build.entrypoint", vec![artifact]);
    draft.set_list("build.include_ext", bare(builds));
    draft.set_list("build.exclude_dir", ignored);
    draft.set("build.log", log);
    if !restarts.is_empty() {
        draft.rules.push(vec![
            ("name", "no rebuild".into()),
            ("action", "restart".into()),
            ("include_ext", bare(restarts).into()),
        ]);
    }
    if matches!(colors.as_str(), "0" | "false") {
        draft.set("color.mode", "never");
    }
    for (key, value) in values {
        match key.as_str() {
            "build_delay" => {
                draft.lose(format!("build_delay: {value}: hotrun needs no pause before a build"));
            }
            key if key.starts_with("log_color_") => draft.lose(format!("{key}: {value}")),
            key => draft.lose(format!("{key}: {value}, which fresh does not know, either")),
        }
    }
    Ok(draft)
}
