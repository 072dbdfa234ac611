//! Whether the programs exist that a configuration would run.

use std::ffi::OsStr;
use std::path::Path;

use crate::config::{Action, Command, Config, Program as Run};
use crate::event::printable;
use crate::project::guess::search;

/// Words that a shell understands itself.
const OF_SHELL: [&str; 39] = [
    "!", ".", ":", "[", "alias", "bg", "case", "cd", "command", "echo", "eval", "exec", "exit",
    "export", "false", "for", "function", "if", "kill", "local", "printf", "pwd", "read",
    "readonly", "set", "shift", "source", "test", "time", "trap", "true", "type", "ulimit",
    "umask", "unset", "until", "wait", "while", "{",
];

/// The program that a command begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// Which command it is of.
    what: String,
    /// As it is written.
    name: String,
    found: Found,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Yes,
    /// Not yet: a command before this one may make it.
    Made,
    No,
    /// The file is there, and is not executable.
    NotExecutable,
}

impl Program {
    /// What the user should know of it.
    pub(super) fn warning(&self) -> Option<String> {
        let why = match self.found {
            Found::Yes | Found::Made => return None,
            Found::No if self.name.contains('/') => "no such file",
            Found::No => "command not found",
            Found::NotExecutable => "is not executable",
        };
        Some(format!("{}: {}: {why}", self.what, self.name))
    }
}

/// The programs of all commands, once each.
pub(super) fn of(config: &Config) -> Vec<Program> {
    let path = search::path_with(&config.only().recipe.env.search);
    let mut all: Vec<Program> = Vec::new();
    let mut add = |what: String, command: &Command, may_be_made: bool| {
        let Some(name) = first_word(command) else { return };
        let found = find(&config.project.directory, &path, &name, may_be_made);
        let name = match Path::new(&name).strip_prefix(&config.project.directory) {
            Ok(below) => format!("./{}", printable(below)),
            Err(_) => name,
        };
        if !all.iter().any(|one| one.name == name) {
            all.push(Program { what, name, found });
        }
    };
    for (number, stage) in config.only().recipe.build.stages.iter().enumerate() {
        add("build".to_owned(), &stage.command, number > 0);
    }
    if let Run::Command(command) = &config.only().recipe.run.program {
        let fallback = config.only().recipe.run.fallback.as_ref().map(|fallback| &fallback.command);
        add(
            "run".to_owned(),
            fallback.unwrap_or(command),
            !config.only().recipe.build.stages.is_empty(),
        );
    }
    for rule in &config.only().watch.rules {
        if let Action::Run { cmd, .. } = &rule.action {
            add(format!("rule {}", rule.name), &Command::Shell(cmd.clone(), Vec::new()), true);
        }
    }
    for cmd in &config.only().recipe.post_cmd {
        add("post_cmd".to_owned(), &Command::Shell(cmd.clone(), Vec::new()), true);
    }
    all
}

/// One line about those that are no reason for a warning.
pub(super) fn line(all: &[Program]) -> Option<String> {
    let names = |wanted: &Found| {
        let found = all.iter().filter(|one| one.found == *wanted).map(|one| one.name.clone());
        found.collect::<Vec<_>>().join(", ")
    };
    let parts = [("found: ", names(&Found::Yes)), ("not built yet: ", names(&Found::Made))];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    let text = parts.map(|(label, names)| format!("{label}{names}")).collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then(|| format!(" programs  {text}"))
}

/// The word of a command that names a program; `None` where only a shell can tell.
fn first_word(command: &Command) -> Option<String> {
    let text = match command {
        Command::Argv(argv) => return Some(argv.first()?.to_string_lossy().into_owned()),
        Command::Shell(text, _) => text,
    };
    let words = shlex::split(text)?;
    let is_variable = |word: &String| {
        word.split_once('=').is_some_and(|(name, _)| {
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty()
        })
    };
    let word = words.into_iter().find(|word| !is_variable(word))?;
    let is_plain = !word.contains(['$', '`', '(', ')', '<', '>', '|', '&', ';', '*', '?', '~']);
    (is_plain && !OF_SHELL.contains(&word.as_str())).then_some(word)
}

fn find(directory: &Path, path: &OsStr, name: &str, may_be_made: bool) -> Found {
    if search::found_from(directory, path, OsStr::new(name)).is_some() {
        return Found::Yes;
    }
    match (name.contains('/'), directory.join(name).exists()) {
        (true, true) => Found::NotExecutable,
        (true, false) if may_be_made => Found::Made,
        _ => Found::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_text_is_its_first_word_unless_the_shell_knows_it() {
        let first = |text: &str| first_word(&Command::Shell(text.to_owned(), Vec::new()));
        for (text, expected) in [
            ("make app", Some("make")),
            ("A=1 B='x y' ./run a=b", Some("./run")),
            ("'my tool' x", Some("my tool")),
            ("cd web && npm run build", None),
            ("$GO build", None),
            ("(make)", None),
            ("make; make", None),
            ("if true; then x; fi", None),
            ("", None),
            ("A=1", None),
            ("\"unclosed", None),
        ] {
            assert_eq!(first(text).as_deref(), expected, "{text}");
        }
    }
}
