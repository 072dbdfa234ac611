//! The JSON schema of the configuration, from the declarations of its keys.
//!
//! It is for both kinds of files. What only one of them refuses (a number without a unit, say, that
//! means milliseconds in air's) it accepts.

use serde_json::{Map, Value, json};

use super::duration::Bare;
use super::keys::{COLORS, KEYS, Key, Kind, LISTS, OPEN, Of, PLATFORM_KEYS, PLATFORMS, Takes};

/// A duration in words; a number is a case of its own.
const DURATION: &str = r"^(0|([0-9.]+(ns|us|µs|μs|ms|s|m|h))*)$";

/// The schema as a file.
pub fn text() -> String {
    format!("{:#}\n", schema())
}

/// The schema.
pub(crate) fn schema() -> Value {
    let mut root = object(&[]);
    for key in KEYS {
        insert(&mut root, key.name, of_key(key));
    }
    for (name, about, keys) in LISTS {
        let mut item = object(keys);
        if *name == "listen" {
            item["required"] = json!(["address"]);
        }
        let list = json!({"description": about, "type": "array", "items": item});
        insert(&mut root, name, list);
    }
    let (name, about) = OPEN;
    let value = json!({"type": ["string", "integer", "boolean"]});
    let open = json!({"description": about, "type": "object", "additionalProperties": value});
    insert(&mut root, name, open);
    for platform in PLATFORMS {
        for key in PLATFORM_KEYS {
            let of_build = format!("build.{key}");
            let key = KEYS.iter().find(|one| one.name == of_build);
            if let Some(key) = key {
                let last = key.name.rsplit('.').next().unwrap_or_default();
                insert(&mut root, &format!("build.{platform}.{last}"), of_key(key));
            }
        }
    }
    root["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    root["title"] = "hotrun".into();
    root
}

/// A table with these keys, and no other.
fn object(keys: &[Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), of_key(key))).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

/// Puts the schema of a key into the tables that its name says.
fn insert(table: &mut Value, name: &str, schema: Value) {
    match name.split_once('.') {
        None => table["properties"][name] = schema,
        Some((first, rest)) => {
            let below = &mut table["properties"][first];
            if below.is_null() {
                *below = object(&[]);
            }
            insert(below, rest, schema);
        }
    }
}

fn of_key(key: &Key) -> Value {
    let mut schema = of_kind(key.kind);
    let takes = match key.takes {
        Takes::AtOnce => " A change takes effect at once.",
        Takes::Rebuild => "",
    };
    schema["description"] = format!("{}{takes}", key.about).into();
    // In TOML and in JSON these are written alike.
    if let Ok(default) = serde_json::from_str::<Value>(key.default)
        && !matches!(default.as_str(), Some(""))
    {
        schema["default"] = default;
    }
    if key.of == Of::Alias {
        schema["deprecated"] = true.into();
    }
    schema
}

fn of_kind(kind: Kind) -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let port = json!({"type": "integer", "minimum": 0, "maximum": u16::MAX});
    // An empty text is an unset one.
    let or_unset = |schema: Value| json!({"anyOf": [schema, {"const": ""}]});
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Texts => texts,
        Kind::Command => json!({"anyOf": [{"type": "string"}, texts]}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Number { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Duration(bare) => {
            let text = json!({"type": "string", "pattern": DURATION});
            match bare {
                Bare::NeedsUnit => {
                    json!({"anyOf": [text, {"const": 0}, {"type": "integer", "minimum": 100}]})
                }
                Bare::Milliseconds | Bare::Nanoseconds => {
                    json!({"anyOf": [text, {"type": "integer", "minimum": 0}]})
                }
            }
        }
        Kind::OneOf(words) => or_unset(json!({"enum": words})),
        Kind::Color => json!({"anyOf": [{"enum": COLORS}, {"type": "string"}]}),
        Kind::Signal => json!({"type": "string", "examples": ["TERM", "INT", "HUP", "USR1"]}),
        Kind::PortOr(word) => or_unset(json!({"anyOf": [port, {"const": word}]})),
        Kind::Address => json!({"anyOf": [port, {"type": "string"}]}),
        Kind::Routes => json!({
            "type": "object",
            "properties": {},
            "additionalProperties": {"type": "integer", "minimum": 1, "maximum": u16::MAX},
            "propertyNames": {"pattern": "^/"},
        }),
        Kind::Tls => json!({"anyOf": [
            {"type": "boolean"},
            {
                "type": "object",
                "properties": {"cert": {"type": "string"}, "key": {"type": "string"}},
                "additionalProperties": false,
                "required": ["cert", "key"],
            },
        ]}),
    }
}
