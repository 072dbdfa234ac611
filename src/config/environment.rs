//! Files of variables, as they lie on disk.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Environment, file};
use crate::error::{Error, Result};
use crate::project::guess::search;

const ZERO_BYTE: &str = "contains a zero byte, which a variable cannot hold";

impl Environment {
    /// Reads the files, and says what everything that is run gets beside hotrun's own
    /// variables, which override all of these. Missing files are skipped.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or understood: its name and line.
    pub fn read(&self) -> Result<Vec<(String, String)>> {
        let mut variables = BTreeMap::new();
        for file in &self.files {
            match file::read(file) {
                Ok(bytes) => variables.extend(parse(file, &bytes)?),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::usage(file.display(), error)),
            }
        }
        if let Some((name, _)) = self.inline.iter().find(|(_, value)| value.contains('\0')) {
            return Err(Error::usage(format!("env.{name}"), ZERO_BYTE));
        }
        variables.extend(self.inline.iter().cloned());
        let is_path_written = variables.contains_key("PATH");
        for (name, _) in std::env::vars_os() {
            name.to_str().map(|name| variables.remove(name));
        }
        if !is_path_written
            && let Some(path) = search::extended(&self.search)
            && let Ok(path) = path.into_string()
        {
            variables.insert("PATH".to_owned(), path);
        }
        Ok(variables.into_iter().collect())
    }
}

fn parse(file: &Path, bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let shown = file.display();
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        Error::usage(format!("{shown}:{line}"), "is not UTF-8").remedy("save it as UTF-8")
    })?;
    if let Some(at) = text.find('\0') {
        let line = text[..at].matches('\n').count() + 1;
        return Err(Error::usage(format!("{shown}:{line}"), ZERO_BYTE));
    }
    let text = text.trim_start_matches('\u{feff}');
    variables_of(text).map_err(|error| match error {
        // Never the line itself: what is wrong may be a secret.
        dotenvy::Error::LineParse(wrong, _) => {
            let wrong = wrong.lines().next().unwrap_or_default().trim();
            let read = in_quotes(text);
            let line = read.lines().position(|line| line.trim() == wrong);
            let place = line.map_or_else(|| shown.to_string(), |at| format!("{shown}:{}", at + 1));
            Error::usage(place, "expected NAME=value").remedy("quote values that contain spaces")
        }
        other => Error::usage(&shown, other),
    })
}

fn variables_of(text: &str) -> std::result::Result<Vec<(String, String)>, dotenvy::Error> {
    dotenvy::Iter::new(in_quotes(text).as_bytes()).collect()
}

/// The same lines with every value in quotes, and names in braces. air reads with godotenv,
/// to which `A=two words` and `$DB_HOST` mean what people think; dotenvy wants the former
/// in quotes, and ends the latter's name at the underscore.
fn in_quotes(text: &str) -> String {
    let mut lines = Vec::new();
    // A value in quotes goes on in the next line.
    let mut open = None;
    for line in text.lines() {
        if let Some(quote) = open {
            if closes(line, quote) {
                open = None;
            }
            lines.push(if quote == '"' { in_braces(line) } else { line.to_owned() });
            continue;
        }
        let Some((name, value)) = assignment(line) else {
            lines.push(line.to_owned());
            continue;
        };
        let value = match value.chars().next() {
            Some('\'') => {
                open = (!closes(&value[1..], '\'')).then_some('\'');
                value.to_owned()
            }
            Some('"') => {
                open = (!closes(&value[1..], '"')).then_some('"');
                in_braces(value)
            }
            _ => {
                let end = if value.starts_with('#') { Some(0) } else { value.find(" #") };
                let value = value[..end.unwrap_or(value.len())].trim_end();
                let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
                format!("\"{}\"", in_braces(&escaped))
            }
        };
        lines.push(format!("{name}={value}"));
    }
    lines.join("\n")
}

/// `NAME=value` or, as godotenv allows, `NAME: value`, with or without `export`.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_at(line.find(['=', ':'])?);
    let name = name.trim();
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    is_name.then(|| (name, value[1..].trim()))
}

/// Returns whether a quote that was opened before ends in this text.
fn closes(text: &str, quote: char) -> bool {
    let mut escaped = false;
    text.chars().any(|c| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped && quote == '"';
        ends
    })
}

/// `$NAME` as `${NAME}`; a `$` that begins no name is escaped.
fn in_braces(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '\\']) {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let mut skipped = 0;
        if rest[at..].starts_with('\\') {
            result.push('\\');
            skipped = after.chars().next().map_or(0, char::len_utf8);
            result.push_str(&after[..skipped]);
        } else if after.starts_with('{') {
            result.push('$');
        } else {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            skipped = after.find(|c| !is_part(c)).unwrap_or(after.len());
            let is_name = skipped > 0 && !after.starts_with(|c: char| c.is_ascii_digit());
            let name = &after[..skipped];
            let (before, behind) = if is_name { ("${", "}") } else { ("\\$", "") };
            result.extend([before, name, behind]);
        }
        rest = &after[skipped..];
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> std::result::Result<Vec<(String, String)>, String> {
        parse(Path::new(".env"), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_of_variables_is_read_as_everybody_writes_it() {
        let text = "\u{feff}# comment\nexport A=1\nB=\"two words\" # why\nC='$A'\n\
                    D=${A}x\n\nE=\nF=\"a\nb\"\r\nDB_HOST=db\nURL=pg://$DB_HOST:5432 # here\n\
                    NAME=My App\nRE=\\d+\nPRICE=5$\nYAML: style\nQ=it's \"so\"\n\
                    IN=\"<$DB_HOST>\"\nHASH=#none\nCODE=a#b\n";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A"),
            ("D", "1x"),
            ("E", ""),
            ("F", "a\nb"),
            ("DB_HOST", "db"),
            ("URL", "pg://db:5432"),
            ("NAME", "My App"),
            ("RE", "\\d+"),
            ("PRICE", "5$"),
            ("YAML", "style"),
            ("Q", "it's \"so\""),
            ("IN", "<db>"),
            ("HASH", ""),
            ("CODE", "a#b"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let error = read("A=1\n\nB two words\nC=1\n").unwrap_err();
        assert!(error.starts_with(".env:3: expected NAME=value\n"), "{error}");
        assert!(!error.contains("words"), "it may be a secret: {error}");
        let error = read("A=1\nB=\"not closed\nC=1\n").unwrap_err();
        assert!(error.starts_with(".env:2: expected NAME=value\n"), "{error}");
        let error = read("A=1\nB=a\0b\n").unwrap_err();
        assert!(error.starts_with(".env:2: contains a zero byte"), "{error}");
        let error = read(&("A=1\n".repeat(50_000) + "wrong")).unwrap_err();
        assert!(error.starts_with(".env:50001: "), "{error}");
        let error = parse(Path::new(".env"), b"A=1\nB=\xff\n").unwrap_err();
        assert!(error.to_string().starts_with(".env:2: is not UTF-8"), "{error}");
    }

    #[test]
    fn later_files_win_then_the_table_and_the_real_environment_beats_them_all() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let bin = directory.path().join("node_modules/.bin");
        std::fs::create_dir_all(&bin).unwrap();
        let env = Environment {
            files: vec![
                file("a", "HOTRUN_T_A=a\nHOTRUN_T_B=a\nHOTRUN_T_C=a\nPATH=/nowhere\n"),
                directory.path().join("missing"),
                file("b", "HOTRUN_T_B=b\nHOTRUN_T_C=b\n"),
            ],
            inline: vec![("HOTRUN_T_C".to_owned(), "c".to_owned())],
            search: vec![bin],
        };
        let expected = [("HOTRUN_T_A", "a"), ("HOTRUN_T_B", "b"), ("HOTRUN_T_C", "c")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(env.read().unwrap(), expected, "a search path that is written stays");
        let search = env.search.clone();
        let read = Environment { search, ..Environment::default() }.read().unwrap();
        let path = format!("{}:{}", env.search[0].display(), std::env::var("PATH").unwrap());
        assert_eq!(read, [("PATH".to_owned(), path)]);
        std::fs::remove_dir(&env.search[0]).unwrap();
        let search = env.search.clone();
        let read = Environment { search, ..Environment::default() }.read().unwrap();
        assert_eq!(read, []);
    }

    #[test]
    fn fuzz_a_file_of_variables_names_only_what_a_process_can_be_given() {
        let corpus = [
            "A=1\nexport B='two words'\nC=\"$A ${B} \\\"\"\n# no\nD: e # f\n",
            "A=\"several\nlines\"\nB=`x`\n",
        ];
        crate::fuzz::hammer(&corpus, &["export ", "$A", "${", "#"], |text| {
            for (name, value) in parse(Path::new(".env"), text).into_iter().flatten() {
                assert!(!name.is_empty() && !name.contains(['=', '\0']), "{name:?}");
                assert!(!value.contains('\0'), "{value:?}");
            }
        });
    }
}
