//! Python: the framework that the sources name, or the script that starts the program.

use std::path::Path;

use super::{Guess, Outcome, Place, not_installed};

const EXTENSIONS: [&str; 5] = ["py", "toml", "html", "jinja", "jinja2"];
/// Files that say that this is a Python project.
const MARKS: [&str; 6] =
    ["pyproject.toml", "requirements.txt", "setup.py", "setup.cfg", "Pipfile", "uv.lock"];
/// Files that may hold the program, in the order in which they are asked.
const ENTRIES: [&str; 22] = [
    "main.py",
    "app.py",
    "server.py",
    "api.py",
    "asgi.py",
    "wsgi.py",
    "application.py",
    "run.py",
    "hello.py",
    "index.py",
    "__main__.py",
    "bot.py",
    "cli.py",
    "app/main.py",
    "app/app.py",
    "src/main.py",
    "src/app.py",
    "src/server.py",
    "app/__init__.py",
    "api/main.py",
    "backend/main.py",
    "server/main.py",
];
/// Constructors of applications, and the server that runs them.
const FRAMEWORKS: [(&str, &str, Server); 9] = [
    ("FastAPI(", "FastAPI", Server::Uvicorn),
    ("Starlette(", "Starlette", Server::Uvicorn),
    ("Litestar(", "Litestar", Server::Uvicorn),
    ("Quart(", "Quart", Server::Uvicorn),
    ("BlackSheep(", "BlackSheep", Server::Uvicorn),
    ("Flask(", "Flask", Server::Flask),
    ("import streamlit", "Streamlit", Server::Own("streamlit")),
    ("gr.Interface(", "Gradio", Server::Script),
    ("Sanic(", "Sanic", Server::Script),
];
/// The address of a web application of which nothing else is known, as uvicorn has it.
const ADDRESS: &str = "127.0.0.1:8000";

#[derive(Clone, Copy, PartialEq)]
enum Server {
    Uvicorn,
    Flask,
    /// A command of the framework that reloads by itself.
    Own(&'static str),
    Script,
}

pub(super) fn guess(place: &Place<'_>) -> Outcome {
    let mark = place.first(&MARKS);
    let project = match project_table(place) {
        Ok(project) => project,
        Err(reason) => {
            let remedy = "fix pyproject.toml".to_owned();
            return Outcome::Unable { reason, remedy };
        }
    };
    if place.has("manage.py") && place.read("manage.py").contains("django") {
        return with_interpreter(place, "Django", "manage.py", |python| {
            // Its own reloader would restart what hotrun restarts.
            Guess::new("Django", "manage.py")
                .runs(format!("{python} manage.py runserver --noreload"))
                .watches(&EXTENSIONS)
        });
    }
    let entries: Vec<(&str, String)> = ENTRIES
        .iter()
        .filter(|name| place.has(name))
        .map(|name| (*name, place.read(name)))
        .collect();
    let of_framework = entries.iter().find_map(|(name, source)| {
        let framework = FRAMEWORKS.iter().find(|(call, ..)| source.contains(call))?;
        Some((*name, source, framework))
    });
    if let Some((file, source, (call, kind, server))) = of_framework {
        return with_interpreter(place, kind, file, |python| {
            web_application(python, file, source, call, kind, *server)
        });
    }
    if let Some(name) = script_name(&project) {
        return with_interpreter(place, "Python", "pyproject.toml, [project.scripts]", |python| {
            let guess = Guess::new("Python", format!("pyproject.toml, script {name}"));
            guess.runs(sibling(python, &name)).watches(&EXTENSIONS)
        });
    }
    let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
    let script = names.iter().copied().find(|name| !name.ends_with("__init__.py"));
    if let Some(file) = script {
        return with_interpreter(place, "Python", file, |python| {
            Guess::new("Python", file).runs(format!("{python} {file}")).watches(&EXTENSIONS)
        });
    }
    if let Some(module) = main_module(place, &project) {
        return with_interpreter(place, "Python", &format!("{module}/__main__.py"), |python| {
            Guess::new("Python", format!("the package {module}"))
                .runs(format!("{python} -m {module}"))
                .watches(&EXTENSIONS)
        });
    }
    let sources = place.ending_in(".py");
    let is_main = |name: &&String| place.read(name).contains("__name__");
    let mains: Vec<&String> = sources.iter().filter(is_main).collect();
    let only = match (mains.as_slice(), sources.as_slice()) {
        ([one], _) => Some(*one),
        ([], [one]) if one.as_str() != "setup.py" => Some(one),
        _ => None,
    };
    if let Some(file) = only.filter(|file| file.as_str() != "setup.py") {
        return with_interpreter(place, "Python", file, |python| {
            Guess::new("Python", file.as_str())
                .runs(format!("{python} {file}"))
                .watches(&EXTENSIONS)
        });
    }
    if mains.len() > 1 {
        let python = interpreter(place).unwrap_or_else(|_| "python3".to_owned());
        let each = mains.into_iter().filter(|file| file.as_str() != "setup.py").map(|file| {
            Guess::new("Python", file.as_str())
                .runs(format!("{python} {file}"))
                .watches(&EXTENSIONS)
        });
        return Outcome::Several(each.collect());
    }
    match mark {
        None => Outcome::Unknown,
        Some(mark) => Outcome::Unable {
            reason: format!(
                "this is a Python project ({mark}), and no file says how it is started"
            ),
            remedy: "name what to run, for example: `hotrun python -m app`".to_owned(),
        },
    }
}

/// Where hotrun opens the socket, no connection is refused while the program restarts.
fn web_application(
    python: &str,
    file: &str,
    source: &str,
    call: &str,
    kind: &str,
    server: Server,
) -> Guess {
    let guess = Guess::new(kind, file).watches(&EXTENSIONS);
    let module = file.trim_end_matches(".py").trim_end_matches("/__init__").replace('/', ".");
    match server {
        Server::Uvicorn => {
            let name = application_name(source, call).unwrap_or("app");
            let is_factory = !source.lines().any(|line| line.starts_with(&format!("{name} = ")));
            let (name, flag) = match factory_name(source).filter(|_| is_factory) {
                Some(factory) => (factory, " --factory"),
                None => (name, ""),
            };
            let mut guess = guess.runs(format!("{python} -m uvicorn {module}:{name}{flag} --fd 3"));
            guess.listen = Some(ADDRESS.to_owned());
            guess
        }
        Server::Flask => guess.runs(format!("{python} -m flask --app {module} run --no-reload")),
        Server::Own(tool) => {
            let program = format!("{} run {file}", sibling(python, tool));
            let mut guess = Guess::new(kind, file).runs(program);
            guess = guess.reloads_itself(&[".env"]);
            guess
        }
        Server::Script => guess.runs(format!("{python} {file}")),
    }
}

/// The variable at the top level to which the application is assigned.
fn application_name<'a>(source: &'a str, call: &str) -> Option<&'a str> {
    let line = source.lines().find(|line| line.contains(call) && !line.starts_with([' ', '\t']))?;
    let name = line.split('=').next()?.split(':').next()?.trim();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_name.then_some(name)
}

fn factory_name(source: &str) -> Option<&str> {
    let names = ["create_app", "make_app", "get_app", "build_app", "get_application"];
    names.into_iter().find(|name| source.contains(&format!("def {name}(")))
}

/// A program of the environment in which this interpreter is.
fn sibling(python: &str, program: &str) -> String {
    match python.strip_suffix("/python") {
        Some(bin) => format!("{bin}/{program}"),
        None => match python.strip_suffix(" python") {
            Some(runner) => format!("{runner} {program}"),
            None => program.to_owned(),
        },
    }
}

fn with_interpreter(
    place: &Place<'_>,
    kind: &str,
    evidence: &str,
    guess: impl FnOnce(&str) -> Guess,
) -> Outcome {
    let python = match interpreter(place) {
        Ok(python) => python,
        Err(tool) => return not_installed(kind, evidence, tool),
    };
    let guess = guess(&python);
    let has_environment = python.contains(['/', ' ']) || std::env::var_os("VIRTUAL_ENV").is_some();
    if !has_environment && place.has("requirements.txt") {
        let text = "no virtual environment here; if modules are missing: `python3 -m venv .venv \
                    && .venv/bin/pip install -r requirements.txt`";
        return guess.note(text).found();
    }
    guess.found()
}

/// What runs Python here: the project's own environment, the manager of its lock file, or the one
/// on the search path.
fn interpreter(place: &Place<'_>) -> Result<String, &'static str> {
    for name in [".venv", "venv", "env", ".env"] {
        if place.has(&format!("{name}/bin/python")) {
            return Ok(format!("{name}/bin/python"));
        }
    }
    let text = place.read("pyproject.toml");
    let by_manager = [
        (place.has("uv.lock") || text.contains("[tool.uv]"), "uv"),
        (place.has("poetry.lock") || text.contains("[tool.poetry]"), "poetry"),
        (place.has("pdm.lock") || text.contains("[tool.pdm]"), "pdm"),
        (place.has("Pipfile"), "pipenv"),
    ];
    if std::env::var_os("VIRTUAL_ENV").is_none()
        && let Some((_, manager)) = by_manager.into_iter().find(|(is_used, _)| *is_used)
    {
        let is_there = place.finds(manager);
        return if is_there { Ok(format!("{manager} run python")) } else { Err(manager) };
    }
    let names = ["python3", "python"];
    let found = names.into_iter().find(|name| place.finds(name));
    found.map(str::to_owned).ok_or("python3")
}

fn project_table(place: &Place<'_>) -> Result<toml::Table, String> {
    let text = place.read("pyproject.toml");
    text.parse().map_err(|error: toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start);
        let line = text.get(..offset).unwrap_or_default().matches('\n').count() + 1;
        format!("pyproject.toml:{line}: {}", error.message())
    })
}

/// The only script that the project installs.
fn script_name(project: &toml::Table) -> Option<String> {
    let scripts = project.get("project")?.get("scripts")?.as_table()?;
    let mut names = scripts.keys();
    let name = names.next()?;
    names.next().is_none().then(|| name.clone())
}

/// A package with a `__main__.py`.
fn main_module(place: &Place<'_>, project: &toml::Table) -> Option<String> {
    let named = project.get("project").and_then(|table| table.get("name")?.as_str());
    let named = named.map(|name| name.replace('-', "_"));
    let directory = place.name().replace('-', "_");
    let names = named.into_iter().chain([directory, "app".to_owned(), "src".to_owned()]);
    let mut names = names.filter(|name| !name.is_empty());
    names.find(|name| Path::new(place.directory).join(name).join("__main__.py").is_file())
}
