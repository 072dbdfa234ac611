//! What a command reads, where it is all that is known: `hotrun node server.js`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::{compiled, node, python};

/// Programs, and the extensions of what they run. (A version may follow the name: `python3.12`.)
const PROGRAMS: [(&[&str], &[&str]); 17] = [
    (
        &["node", "nodejs", "npm", "npx", "pnpm", "yarn", "bun", "bunx", "deno", "tsx", "ts-node"],
        &["js", "mjs", "cjs", "jsx", "ts", "mts", "cts", "tsx", "json"],
    ),
    (
        &[
            "python",
            "pypy",
            "uv",
            "poetry",
            "pdm",
            "pipenv",
            "flask",
            "uvicorn",
            "gunicorn",
            "hypercorn",
            "granian",
            "fastapi",
            "django-admin",
            "celery",
            "pytest",
        ],
        &python::EXTENSIONS,
    ),
    (
        &["ruby", "bundle", "rackup", "puma", "rails", "rake", "irb"],
        &["rb", "ru", "erb", "slim", "haml", "yml", "rake"],
    ),
    (&["php", "composer"], &["php", "phtml", "twig", "json", "ini"]),
    (&["java", "mvn", "gradle", "kotlin"], &["java", "kt", "xml", "properties", "yml", "gradle"]),
    (&["go"], &["go", "mod", "sum", "work", "tpl", "tmpl", "gohtml", "html"]),
    (&["cargo", "rustc"], &["rs", "toml"]),
    (&["perl", "plackup"], &["pl", "pm", "t", "psgi"]),
    (&["lua", "luajit", "love", "resty"], &["lua"]),
    (&["elixir", "mix", "iex"], &["ex", "exs", "eex", "heex"]),
    (&["julia"], &["jl", "toml"]),
    (&["Rscript", "R"], &["R", "Rmd"]),
    (&["dotnet"], &compiled::DOTNET),
    (&["zig"], &compiled::ZIG),
    (&["dart"], &["dart", "yaml"]),
    (&["swift"], &["swift"]),
    (&["crystal"], &["cr", "ecr"]),
];

/// Extensions of sources, and what runs them.
const INTERPRETERS: [(&str, &str); 14] = [
    ("js", "node"),
    ("mjs", "node"),
    ("cjs", "node"),
    ("ts", "tsx"),
    ("mts", "tsx"),
    ("py", "python3"),
    ("rb", "ruby"),
    ("php", "php"),
    ("pl", "perl"),
    ("lua", "lua"),
    ("jl", "julia"),
    ("exs", "elixir"),
    ("R", "Rscript"),
    ("sh", "sh"),
];

/// The command that runs a source file, as in `nodemon server.js`. `None` if the first word is a
/// program, or no such file.
pub fn with_interpreter(directory: &Path, argv: &[OsString]) -> Option<Vec<OsString>> {
    let first = Path::new(argv.first()?);
    let file = directory.join(first);
    let end = first.extension()?.to_str()?;
    let (_, usual) = INTERPRETERS.iter().find(|(one, _)| *one == end)?;
    if !file.is_file() || super::search::on_path(&file).is_some() {
        return None;
    }
    let tsx = "node_modules/.bin/tsx";
    let local = match end {
        "py" => python::of_environment(directory),
        "ts" | "mts" => directory.join(tsx).is_file().then(|| tsx.to_owned()),
        _ => None,
    };
    let interpreter = local.unwrap_or_else(|| (*usual).to_owned());
    Some([OsString::from(interpreter)].into_iter().chain(argv.iter().cloned()).collect())
}

/// The name of a program without its directory and its version: `python` for `/bin/python3.12`.
pub(super) fn bare_name(program: &OsStr) -> String {
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').to_owned()
}

/// The extensions of what a dev server reads, which follows saves by itself; empty if the command is
/// none.
pub fn served_extensions(directory: &Path, argv: &[OsString]) -> Vec<String> {
    let words: Vec<String> = argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let is_server = node::serves_itself(directory, &words);
    let list: &[&str] = if is_server { &node::SERVED } else { &[] };
    list.iter().copied().map(String::from).collect()
}

/// The extensions of what this command reads; `None`: any file may be.
pub fn extensions(directory: &Path, argv: &[OsString]) -> Option<Vec<String>> {
    if !served_extensions(directory, argv).is_empty() {
        return Some(Vec::new());
    }
    let mut names = argv.iter().map(|word| bare_name(word));
    let mut name = names.next()?;
    if matches!(name.as_str(), "env" | "time" | "nice" | "exec" | "sudo" | "dotenv") {
        name = names.find(|word| !word.contains('=') && !word.starts_with('-'))?;
    }
    let found = PROGRAMS.iter().find(|(names, _)| names.contains(&name.as_str()));
    found.map(|(_, list)| list.iter().copied().map(String::from).collect())
}
