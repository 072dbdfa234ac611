//! `air.example.toml`: every key, explained, with its default. It is what `hotrun init`
//! writes from, and a test holds it against the code.

/// The file, as it lies in the repository.
pub const TEXT: &str = include_str!("../../air.example.toml");

/// The file for a new project: every key explained and commented out, and on top the lines
/// that this kind of project needs.
pub fn for_project(lines: &str) -> String {
    let explained = TEXT.split_once("\n\n").map_or(TEXT, |(_, rest)| rest);
    format!("# hotrun's configuration. Every key below is a comment that shows its default.\n\n{lines}\n{explained}")
}
