//! What kind of project lies here, and the smallest file that is right for it.

use std::path::Path;

use serde_json::Value as Json;

use crate::project::Kind;

const MORE: &str = "# Every key, explained: hotrun init --full";

/// The file.
pub(super) fn small(directory: &Path) -> String {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    let has = |name: &str| directory.join(name).is_file();
    let body = if has("Cargo.toml") {
        by_itself("Cargo", "cargo build")
    } else if has("go.mod") {
        by_itself("Go", "go build")
    } else if has("package.json") {
        node(directory, &read("package.json"))
    } else if let Some(body) = python(directory) {
        body
    } else if has("Makefile") {
        make(&read("Makefile"))
    } else {
        match Kind::detect(directory) {
            Kind::Cargo(_) => by_itself("Cargo", "cargo build"),
            Kind::Go(_) => by_itself("Go", "go build"),
            Kind::Unknown => {
                "[build]\ncmd = \"make app\"        # what builds it; leave it out where nothing is built\n\
                 entrypoint = \"./app\"   # what is run; leave it out where nothing is\n"
                    .to_owned()
            }
        }
    };
    format!("{MORE}\n\n{body}")
}

/// hotrun knows these; there is nothing that it must be told.
fn by_itself(kind: &str, build: &str) -> String {
    format!(
        "# {kind}: hotrun runs {build} and starts the program without being told. What you may\n\
         # want to change:\n\n[build]\n\
         # args_bin = [\"--port\", \"3000\"]   # arguments for the program\n\
         # pre_cmd = [\"npm run css\"]       # before each build\n\n\
         [watch]\n# include = [\"config/**\"]         # more than the sources\n"
    )
}

fn node(directory: &Path, text: &str) -> String {
    let has = |name: &str| directory.join(name).exists();
    let package: Json = serde_json::from_str(text).unwrap_or_default();
    let script = |name: &str| package.pointer(&format!("/scripts/{name}")).and_then(Json::as_str);
    let main = package.get("main").and_then(Json::as_str);
    let is_typescript = has("tsconfig.json");
    let manager = [
        ("pnpm-lock.yaml", "pnpm"),
        ("yarn.lock", "yarn"),
        ("bun.lock", "bun"),
        ("bun.lockb", "bun"),
    ];
    let manager = manager.iter().find(|(lock, _)| has(lock)).map_or("npm", |(_, name)| name);
    // `node server.js` in the start script says it best: run it without the manager between.
    let start = script("start").filter(|start| start.starts_with("node ") && !start.contains('&'));
    let program = start.map_or_else(
        || {
            let names = ["index.js", "server.js", "app.js", "src/index.js", "src/server.js"];
            let found = names.iter().copied().find(|name| has(name));
            let made = is_typescript.then_some("dist/index.js");
            format!("node {}", main.or(made).or(found).unwrap_or("index.js"))
        },
        str::to_owned,
    );
    let build = match (script("build"), is_typescript) {
        (Some(_), _) => Some(format!("{manager} run build")),
        (None, true) => Some("npx tsc".to_owned()),
        (None, false) => None,
    };
    let cmd = build.map(|build| format!("cmd = {}\n", quoted(&build))).unwrap_or_default();
    let extensions = if is_typescript {
        "[\"ts\", \"tsx\", \"mts\", \"json\"]"
    } else {
        "[\"js\", \"mjs\", \"cjs\", \"json\"]"
    };
    let exclude = if is_typescript { "exclude_dir = [\"dist\"]\n" } else { "" };
    format!(
        "[build]\n{cmd}entrypoint = {}\ninclude_ext = {extensions}\n{exclude}",
        quoted(&program)
    )
}

fn python(directory: &Path) -> Option<String> {
    let has = |name: &str| directory.join(name).is_file();
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    let names = ["main.py", "app.py", "server.py", "manage.py", "src/main.py"];
    let marks = ["pyproject.toml", "requirements.txt", "setup.py", "Pipfile"];
    let file = names.iter().copied().find(|name| has(name));
    if file.is_none() && !marks.iter().any(|name| has(name)) {
        return None;
    }
    let file = file.unwrap_or("main.py");
    let source = read(file);
    let bin = [".venv/bin", "venv/bin"].into_iter().find(|bin| directory.join(bin).is_dir());
    let tool = |name: &str| match bin {
        Some(bin) if directory.join(bin).join(name).exists() => format!("{bin}/{name}"),
        _ => name.to_owned(),
    };
    let module = file.trim_end_matches(".py").replace('/', ".");
    // Their own reloaders would restart what hotrun restarts.
    let program = if file == "manage.py" {
        format!("{} manage.py runserver --noreload", tool("python"))
    } else if source.contains("FastAPI(") || source.contains("Starlette(") {
        format!("{} {module}:app --port 8000", tool("uvicorn"))
    } else if source.contains("Flask(") {
        format!("{} --app {module} run --no-reload", tool("flask"))
    } else {
        format!("{} {file}", tool("python"))
    };
    Some(format!(
        "[build]\nentrypoint = {}\ninclude_ext = [\"py\", \"toml\", \"html\"]\n",
        quoted(&program)
    ))
}

fn make(text: &str) -> String {
    let targets: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(target, rest)| {
            !rest.starts_with('=') && !target.starts_with(['\t', '.', '#', ' '])
        })
        .map(|(target, _)| target.trim())
        .collect();
    let has = |name: &&&str| targets.contains(*name);
    let build = ["build", "all", "compile"].iter().find(has);
    let run = ["run", "serve", "start"].iter().find(has);
    let cmd = build.map_or("make".to_owned(), |target| format!("make {target}"));
    let program = match run {
        Some(target) => format!("entrypoint = {}\n", quoted(&format!("make {target}"))),
        None => "# entrypoint = \"./app\"   # what it makes and is to be run\n".to_owned(),
    };
    format!("[build]\ncmd = {}\n{program}", quoted(&cmd))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
