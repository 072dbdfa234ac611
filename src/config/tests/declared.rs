//! What the reader asks for, the declarations of the keys, the example file and the schema say the
//! same.

use serde_json::Value as Json;

use super::super::keys::{self, KEYS, Key, Kind, LISTS, Of, Takes};
use super::*;

/// What of a value a schema does not allow, with the path to it; only of what our schema uses.
fn violations(schema: &Json, value: &Json, path: &str) -> Vec<(String, String)> {
    let wrong = |why: String| vec![(path.to_owned(), why)];
    let is_type = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("the schema has an unknown type {other}"),
    };
    let mut found = Vec::new();
    for (rule, wanted) in schema.as_object().unwrap() {
        let ok = match rule.as_str() {
            "type" => match wanted {
                Json::String(name) => is_type(name),
                names => {
                    names.as_array().unwrap().iter().any(|name| is_type(name.as_str().unwrap()))
                }
            },
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "minimum" => value.as_i64().is_none_or(|number| number >= wanted.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|number| number <= wanted.as_i64().unwrap()),
            "pattern" => {
                let pattern = regex::Regex::new(wanted.as_str().unwrap()).unwrap();
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "anyOf" => {
                let all = wanted.as_array().unwrap();
                all.iter().any(|one| violations(one, value, path).is_empty())
            }
            "required" => {
                let has = |name: &Json| value.get(name.as_str().unwrap()).is_some();
                value.as_object().is_none_or(|_| wanted.as_array().unwrap().iter().all(has))
            }
            "items" => {
                for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(violations(wanted, item, &format!("{path}[{number}]")));
                }
                true
            }
            "additionalProperties" => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    match schema["properties"].get(name).unwrap_or(wanted) {
                        Json::Bool(false) => found.push((path, "unknown".to_owned())),
                        below => found.extend(violations(below, item, &path)),
                    }
                }
                true
            }
            "propertyNames" => {
                let name =
                    |name: &String| violations(wanted, &Json::from(name.clone()), path).is_empty();
                value.as_object().is_none_or(|table| table.keys().all(name))
            }
            // The properties are looked at by the rule for the others.
            "properties" | "$schema" | "title" | "description" | "default" | "deprecated"
            | "examples" => true,
            other => panic!("the schema has an unknown rule {other}"),
        };
        if !ok {
            found.extend(wrong(format!("{rule} {wanted}")));
        }
    }
    found
}

/// What the schema does not allow in a text of TOML.
fn refused_by_schema(text: &str) -> Vec<(String, String)> {
    refused_by(&schema::schema(), text)
}

fn refused_by(schema: &Json, text: &str) -> Vec<(String, String)> {
    let table: toml::Table = text.parse().unwrap();
    violations(schema, &serde_json::to_value(table).unwrap(), "")
}

/// The names of keys that a document was asked for, those in lists of tables apart.
fn asked(name: &str, text: &str) -> BTreeSet<&'static str> {
    let document = Document::parse(name, text).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let options = Options { directory: directory.path().to_owned(), ..Options::default() };
    let is_airs = air::is_airs(Path::new(name));
    now(Resolver::new(&options, &document, is_airs).resolve(&Nobody)).unwrap();
    let lists: Vec<&str> = LISTS.iter().map(|(name, ..)| *name).collect();
    document.asked().into_iter().filter(|key| !lists.contains(key)).collect()
}

fn names(is_wanted: impl Fn(&Key) -> bool) -> BTreeSet<&'static str> {
    KEYS.iter().filter(|key| is_wanted(key)).map(|key| key.name).collect()
}

#[test]
fn the_reader_asks_for_every_declared_key_and_no_other() {
    let native = asked("hotrun.toml", "[build]\ncmd = \"true\"\n");
    let of_air = asked(".air.toml", "");
    assert_eq!(of_air, names(|_| true), "in a file of air's name, aliases are read too");
    let recommended = names(Key::is_recommended);
    assert!(native.is_superset(&recommended), "{:?}", recommended.difference(&native));
    assert!(native.is_subset(&of_air));
    assert_eq!(KEYS.len(), of_air.len(), "none is declared twice");
    for (name, _, declared) in LISTS {
        let text = match *name {
            "listen" => "[build]\ncmd = \"x\"\n[[listen]]\naddress = 1\n",
            _ => "[build]\ncmd = \"x\"\n[[build.rules]]\ncmd = \"x\"\ninclude_ext = [\"x\"]\n",
        };
        let document = Document::parse("hotrun.toml", text).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let options = Options { directory: directory.path().to_owned(), ..Options::default() };
        now(Resolver::new(&options, &document, false).resolve(&Nobody)).unwrap();
        let table = match *name {
            "listen" => &document.tables("listen").unwrap()[0],
            _ => &document.tables("build.rules").unwrap()[0],
        };
        let declared: BTreeSet<&str> = declared.iter().map(|key| key.name).collect();
        assert_eq!(table.asked(), declared, "{name}");
    }
}

#[test]
fn tables_and_top_keys_are_those_of_the_declared_keys() {
    let tables: BTreeSet<&str> = KEYS
        .iter()
        .filter(|key| key.is_recommended())
        .filter_map(|key| Some(key.name.split_once('.')?.0))
        .collect();
    let known: BTreeSet<&str> = TABLES.into_iter().filter(|table| *table != keys::OPEN.0).collect();
    assert_eq!(tables, known);
    assert_eq!(names(|key| !key.name.contains('.')), BTreeSet::from(TOP_KEYS));
}

#[test]
fn the_example_shows_every_declared_key_in_order_with_its_default() {
    let shown = example::defaults();
    let text = uncommented();
    let document = Document::parse("air.example.toml", &text).unwrap();
    let mut documented: BTreeSet<&str> = document.written().into_iter().collect();
    documented.remove(keys::OPEN.0);
    assert_eq!(documented, names(Key::is_recommended));
    for key in Key::recommended() {
        let default: toml::Value = key.default.parse().unwrap();
        assert_eq!(shown.get(key.name), Some(&default), "{}", key.name);
    }
    let places: Vec<usize> = Key::recommended().map(|key| example::place(key.name)).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(refused_by_schema(&text), []);
}

#[test]
fn declared_defaults_are_what_the_reader_takes_for_granted() {
    let config = resolve("hotrun.toml", "[build]\ncmd = \"true\"\n").unwrap();
    let text = |value: &str| value.trim_matches('"').to_owned();
    for setting in config.project.settings.iter().filter(|setting| setting.origin == "default") {
        let key = keys::find(&setting.key).unwrap();
        let is_same = match key.kind {
            Kind::Duration(_) => {
                duration::parse(&text(key.default)) == duration::parse(&text(&setting.value))
            }
            _ => key.default == setting.value,
        };
        assert!(is_same || key.name == "spare", "{} {} {}", key.name, key.default, setting.value);
    }
    assert!(config.project.settings.len() > 30);
}

/// Keys of which only a part of the texts, or only beside others, make sense.
const DEPENDENT: [&str; 14] = [
    "root",
    "spare",
    "ready.http",
    "ready.status",
    "ready.tcp",
    "ready.log",
    "ready.after",
    "ready.timeout",
    "proxy.app",
    "proxy.bind",
    "proxy.enabled",
    "run.signal",
    "run.stdin",
    "build.exclude_regex",
];

#[test]
fn what_the_schema_allows_the_reader_reads() {
    let schema = schema::schema();
    let values = [
        "0",
        "5",
        "100",
        "-1",
        "70000",
        "true",
        "\"\"",
        "\"x\"",
        "\"5s\"",
        "\"5\"",
        "\"auto\"",
        "[]",
        "[\"a\"]",
        "[5]",
        "{ a = 1 }",
    ];
    let mut allowed = 0;
    for key in KEYS {
        let name = if key.of == Of::Alias { ".air.toml" } else { "hotrun.toml" };
        let words = key.kind.words().iter().map(|word| format!("{word:?}"));
        for value in values.into_iter().map(String::from).chain(words) {
            let mut text = format!("{} = {value}\n", key.name);
            // Without the globs that are defaults a file is read faster.
            let base = [
                ("build.cmd", "\"x\""),
                ("build.full_bin", "\"x\""),
                ("build.include_ext", "[\"x\"]"),
                ("spare", "[]"),
            ];
            for (name, value) in base.iter().filter(|(name, _)| *name != key.name) {
                text.extend([name, " = ", value, "\n"]);
            }
            let by_schema = refused_by(&schema, &text);
            let read = resolve(name, &text);
            allowed += usize::from(by_schema.is_empty());
            // A schema cannot know in which file a number has no unit.
            let is_bare = matches!(key.kind, Kind::Duration(_)) && value == "5";
            if by_schema.is_empty() {
                let is_dependent = DEPENDENT.contains(&key.name);
                assert!(read.is_ok() || is_bare || is_dependent, "{text}{:?}", read.err());
            } else {
                // An empty table is none, and a table has unknown keys.
                let complaints = match &read {
                    Ok(config) => config.project.warnings.join("\n"),
                    Err(error) => error.to_string(),
                };
                assert!(complaints.contains(key.name), "{text}{by_schema:?} {complaints}");
            }
        }
    }
    assert!(allowed > 2 * KEYS.len(), "{allowed}");
}

#[test]
fn an_unknown_key_of_the_schema_is_one_of_hotruns() {
    let refused = |text: &str| -> Vec<String> {
        refused_by_schema(text).into_iter().map(|(path, _)| path).collect()
    };
    assert_eq!(refused("[build]\ndleay = 1\n[biuld]\nx = 1\n"), ["biuld", "build.dleay"]);
    assert_eq!(refused("[env]\nA = 1\nB = \"x\"\nC = []\n"), ["env.C"]);
    assert_eq!(refused("[[listen]]\nname = \"x\"\n"), ["listen[0]"]);
    assert_eq!(refused("[[build.rules]]\ncmd = \"x\"\ntypo = 1\n"), ["build.rules[0].typo"]);
    assert_eq!(refused("[build.linux]\ncmd = \"x\"\ntypo = 1\n"), ["build.linux.typo"]);
    assert_eq!(refused("[run]\nmode = \"fast\"\n"), ["run.mode"]);
}

/// What hotrun says of a file: its error, or its warnings.
fn complaints(file: &Path, name: &str) -> (bool, String) {
    let text = std::fs::read_to_string(file).unwrap();
    let top = tempfile::tempdir().unwrap();
    let directory = top.path().canonicalize().unwrap();
    std::fs::write(directory.join(name), text).unwrap();
    let options = Options { directory, config: Some(name.into()), ..Options::default() };
    match now(load(&options, &Nobody)) {
        Ok(config) => (true, config.project.warnings.join("\n")),
        Err(error) => (false, error.to_string()),
    }
}

#[test]
fn the_schema_refuses_of_real_files_only_what_hotrun_names() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let mut files = Vec::new();
    for place in ["air-corpus", "seed-configs"] {
        let Ok(entries) = std::fs::read_dir(shared.join(place)) else {
            let name = "the_schema_refuses_of_real_files_only_what_hotrun_names";
            let text = format!("SKIPPED {name}: no ../shared/{place}\n");
            std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
            continue;
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|one| one == "toml")));
    }
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (is_read, said) = complaints(&file, ".air.toml");
        // Not TOML, or refused: the schema has nothing to add.
        if !is_read {
            continue;
        }
        let refused = refused_by_schema(&text);
        for (path, why) in &refused {
            let bare = path.split('[').next().unwrap();
            let is_env = bare.starts_with("env") && said.contains("[env] has no effect");
            // hotrun names the keys in a table, or says how many more there are.
            let is_named = said.contains(bare) || said.contains("more unknown keys");
            assert!(is_named || is_env, "{} {path} {why}\n{said}", file.display());
        }
        let unknown = said.matches("unknown key").count() > 0;
        assert!(!unknown || !refused.is_empty(), "{}\n{said}", file.display());
    }
}

#[test]
fn what_init_writes_is_what_the_schema_allows() {
    let full = example::for_project(&crate::project::Kind::Unknown, None);
    assert_eq!(refused_by_schema(&full), []);
}

/// Keys whose value matters only beside others.
const BESIDE_OTHERS: [&str; 7] = [
    "build.entrypoint",
    "build.bin",
    "build.check",
    "build.rerun_delay",
    "run.debug",
    "ready.http",
    "ready.status",
];

#[test]
fn each_key_says_whether_a_change_builds_and_starts_the_program_again() {
    let values = [
        "5",
        "true",
        "false",
        "\"x\"",
        "\"5s\"",
        "\"auto\"",
        "[\"a\"]",
        "[]",
        "\"SIGINT\"",
        "\"sub\"",
    ];
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().canonicalize().unwrap();
    std::fs::create_dir(directory.join("sub")).unwrap();
    let read = |text: &str| {
        std::fs::write(directory.join("hotrun.toml"), text).unwrap();
        let config = Some("hotrun.toml".into());
        let options = Options { directory: directory.clone(), config, ..Options::default() };
        now(load(&options, &Nobody)).ok()
    };
    let base = [
        ("build.cmd", "\"x\""),
        ("build.full_bin", "\"x\""),
        ("spare", "[]"),
        ("proxy.enabled", "true"),
        ("proxy.proxy_port", "8080"),
    ];
    let line = |(name, value): &(&str, &str)| format!("{name} = {value}\n");
    let all: String = base.iter().map(line).collect();
    let before = read(&all).map(|config| config.only().recipe.clone());
    assert!(before.is_some());
    for key in KEYS.iter().filter(|key| key.is_recommended()) {
        let others: String = base.iter().filter(|one| one.0 != key.name).map(line).collect();
        let words = key.kind.words().iter().map(|word| format!("{word:?}"));
        let mut values = values.into_iter().map(String::from).chain(words);
        let rebuilds = values.any(|value| {
            let after = read(&format!("{others}{} = {value}\n", key.name));
            after.is_some_and(|config| Some(&config.only().recipe) != before.as_ref())
        });
        let is_beside_others = BESIDE_OTHERS.contains(&key.name);
        assert_eq!(key.takes == Takes::Rebuild, rebuilds || is_beside_others, "{}", key.name);
        assert!(!(rebuilds && is_beside_others), "{} matters alone", key.name);
    }
}
