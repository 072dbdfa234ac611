//! `air.example.toml`: every key, explained, with its default. `hotrun init` writes from it,
//! and a test holds it against the code.

use crate::project::Kind;

/// The file, as it lies in the repository.
pub const TEXT: &str = include_str!("../../air.example.toml");

/// What an unknown kind of project needs: the commented line, and what stands in its place.
const NEEDED: [(&str, &str); 2] =
    [("# cmd = ", "cmd = \"make app\""), ("# entrypoint = ", "entrypoint = \"./app\"")];

/// The file for a new project. What hotrun cannot know of it is there to be filled in; all
/// else is a comment.
pub fn for_project(kind: &Kind) -> String {
    let must_say = *kind == Kind::Unknown;
    let lines = TEXT.lines().map(|line| {
        let needed = NEEDED.iter().find(|(comment, _)| must_say && line.starts_with(comment));
        needed.map_or(line, |(_, line)| line)
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}
