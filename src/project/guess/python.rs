//! Python: the framework that the sources name, or the script that starts the program.

use std::path::Path;

use super::{Guess, Outcome, Place, not_installed, unable, uninstalled};
use crate::event::quoted;

pub(super) const EXTENSIONS: [&str; 5] = ["py", "toml", "html", "jinja", "jinja2"];
/// Files that say that this is a Python project.
pub(super) const MARKS: [&str; 6] =
    ["pyproject.toml", "requirements.txt", "setup.py", "setup.cfg", "Pipfile", "uv.lock"];
/// Files that may hold the program, in the order in which they are asked.
const ENTRIES: [&str; 25] = [
    "main.py",
    "app.py",
    "server.py",
    "api.py",
    "asgi.py",
    "wsgi.py",
    "application.py",
    "streamlit_app.py",
    "Home.py",
    "autoapp.py",
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
const FRAMEWORKS: [(&str, &str, Server); 12] = [
    ("FastAPI(", "FastAPI", Server::Uvicorn),
    ("Starlette(", "Starlette", Server::Uvicorn),
    ("Litestar(", "Litestar", Server::Uvicorn),
    ("Quart(", "Quart", Server::Uvicorn),
    ("BlackSheep(", "BlackSheep", Server::Uvicorn),
    ("socketio.run(", "Flask-SocketIO", Server::Script),
    ("Flask(", "Flask", Server::Flask),
    ("import streamlit", "Streamlit", Server::Own("streamlit")),
    ("from streamlit", "Streamlit", Server::Own("streamlit")),
    ("import chainlit", "Chainlit", Server::Own("chainlit")),
    ("gr.Interface(", "Gradio", Server::Script),
    ("Sanic(", "Sanic", Server::Script),
];
/// The port of a web application of which nothing else is known, as uvicorn has it.
const PORT: u16 = 8000;

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
        Err(reason) => return unable(reason, "fix pyproject.toml"),
    };
    if let Some(application) = django(place) {
        return application;
    }
    if let Some(application) = named_application(place, &project) {
        return application;
    }
    let of_packages = files_of_packages(place, &project);
    let names = ENTRIES.iter().copied().chain(of_packages.iter().map(String::as_str));
    let entries: Vec<(&str, String)> =
        names.filter(|name| place.has(name)).map(|name| (name, code(&place.read(name)))).collect();
    let of_framework = entries.iter().find_map(|(name, source)| {
        let framework = FRAMEWORKS.iter().find(|(call, ..)| source.contains(call))?;
        Some((*name, source, framework))
    });
    let is_below = of_framework.is_none_or(|(file, ..)| file.contains('/'));
    if let Some(application) = is_below.then(|| from_factory(place)).flatten() {
        return application;
    }
    if let Some((file, source, (call, kind, server))) = of_framework {
        return with_interpreter(place, kind, file, |python| {
            web_application(python, file, source, call, kind, *server)
        });
    }
    let mut files = entries.iter().map(|(name, _)| *name);
    let file = files.find(|name| !name.ends_with("__init__.py"));
    let module = main_module(place, &project);
    let has_other = module.is_some() || file.is_some();
    if let Some(script) = installed_script(place, &project, has_other) {
        return script;
    }
    let is_top = file.is_some_and(|name| !name.contains('/'));
    // A module of a package may import its siblings, which requires `python -m`.
    if let Some(module) = module.filter(|_| !is_top) {
        return with_interpreter(place, "Python", &format!("{module}/__main__.py"), |python| {
            Guess::new("Python", format!("the package {module}"))
                .runs(format!("{python} -m {module}"))
                .watches(&EXTENSIONS)
        });
    }
    if let Some(file) = file {
        return with_interpreter(place, "Python", file, |python| script(python, file));
    }
    match (lone_source(place), mark) {
        (Outcome::Unknown, Some(mark)) => unable(
            format!("this is a Python project ({mark}), and no file says how it is started"),
            "name what to run, for example: `hotrun python -m app`",
        ),
        (found, _) => found,
    }
}

fn script(python: &str, file: &str) -> Guess {
    Guess::new("Python", file).runs(format!("{python} {}", quoted(file))).watches(&EXTENSIONS)
}

fn django(place: &Place<'_>) -> Option<Outcome> {
    let files = ["manage.py", "src/manage.py", "backend/manage.py", "server/manage.py"];
    let file = files.into_iter().find(|file| place.read(file).contains("django"))?;
    Some(with_interpreter(place, "Django", file, |python| {
        // Its own reloader would restart what hotrun restarts.
        Guess::new("Django", file)
            .runs(format!("{python} {file} runserver --noreload"))
            .watches(&EXTENSIONS)
    }))
}

/// A program that the project installs. `None` if there is none, or if it is not installed and there
/// is another way to start.
fn installed_script(place: &Place<'_>, project: &toml::Table, has_other: bool) -> Option<Outcome> {
    let (evidence, names) = script_names(place, project)?;
    let is_installed = |python: &str, name: &String| {
        let program = sibling(python, name);
        if program.contains('/') {
            place.has(&program)
        } else {
            // A manager installs the project before it runs something.
            program.contains(' ') || place.finds(program)
        }
    };
    let python = match interpreter(place) {
        Ok(python) => python,
        Err(tool) => return Some(not_installed("Python", evidence, tool)),
    };
    if !names.iter().all(|name| is_installed(&python, name)) {
        let pip = match python.strip_suffix("/python") {
            Some(bin) => format!("{bin}/pip install -e ."),
            None => "python3 -m venv .venv && .venv/bin/pip install -e .".to_owned(),
        };
        return (!has_other).then(|| uninstalled("Python", evidence, &pip));
    }
    let guess = |python: &str, name: &String| {
        Guess::new("Python", format!("{evidence}, script {name}"))
            .runs(sibling(python, name))
            .watches(&EXTENSIONS)
    };
    Some(each_of(place, evidence, &names, guess))
}

/// The only source at the top level that is a program, or all that are.
fn lone_source(place: &Place<'_>) -> Outcome {
    let mut sources = place.ending_in(".py");
    // Scripts of tools, and tests.
    let others = ["setup.py", "conftest.py", "noxfile.py", "versioneer.py", "fabfile.py"];
    sources.retain(|name| {
        let is_test = name.starts_with("test") || name.ends_with("_test.py");
        !is_test && !others.contains(&name.as_str())
    });
    let is_main = |name: &&String| place.read(name).contains("__name__");
    let mains: Vec<String> = sources.iter().filter(is_main).cloned().collect();
    let programs = if mains.is_empty() && sources.len() == 1 { sources } else { mains };
    match programs.first() {
        Some(first) => each_of(place, first, &programs, |python, file| script(python, file)),
        None => Outcome::Unknown,
    }
}

/// A guess for each of these programs.
fn each_of(
    place: &Place<'_>,
    evidence: &str,
    programs: &[String],
    guess: impl Fn(&str, &String) -> Guess,
) -> Outcome {
    if let [one] = programs {
        return with_interpreter(place, "Python", evidence, |python| guess(python, one));
    }
    match interpreter(place) {
        Ok(python) => Outcome::Several(programs.iter().map(|one| guess(&python, one)).collect()),
        Err(tool) => not_installed("Python", evidence, tool),
    }
}

/// An ASGI application. hotrun opens the socket, so that no connection is refused while the program
/// restarts.
fn uvicorn(python: &str, kind: &str, evidence: &str, application: &str, port: u16) -> Guess {
    Guess::new(kind, evidence)
        .watches(&EXTENSIONS)
        .runs(format!("{python} -m uvicorn {application} --fd 3"))
        .listens(port)
}

fn flask(python: &str, evidence: &str, application: &str) -> Guess {
    Guess::new("Flask", evidence)
        .runs(format!("{python} -m flask --app {application} run --no-reload"))
        .watches(&EXTENSIONS)
}

fn web_application(
    python: &str,
    file: &str,
    source: &str,
    call: &str,
    kind: &str,
    server: Server,
) -> Guess {
    let path = file.trim_end_matches(".py").trim_end_matches("/__init__");
    // A package in src is imported without the prefix.
    let (root, path) = match path.split_once('/') {
        Some((root @ ("src" | "backend"), rest)) if rest.contains('/') => (Some(root), rest),
        _ => (None, path),
    };
    let module = path.replace('/', ".");
    match server {
        Server::Uvicorn => {
            let name = application_name(source, call).unwrap_or("app");
            let is_factory = !source.lines().any(|line| line.starts_with(&format!("{name} = ")));
            let (name, flag) = match factory_name(source).filter(|_| is_factory) {
                Some(factory) => (factory, " --factory"),
                None => (name, ""),
            };
            let root = root.map(|root| format!(" --app-dir {root}")).unwrap_or_default();
            let port = argument(source, "uvicorn.run(", "port").and_then(|port| port.parse().ok());
            let application = format!("{module}:{name}{flag}{root}");
            uvicorn(python, kind, file, &application, port.unwrap_or(PORT))
        }
        Server::Flask => {
            let option = |name: &str| {
                let value = argument(source, ".run(", name)?;
                let is_plain = value.chars().all(|c| c.is_alphanumeric() || ".:".contains(c));
                is_plain.then(|| format!(" --{name} {value}"))
            };
            let [host, port] = ["host", "port"].map(|name| option(name).unwrap_or_default());
            let module = root.map_or(module.clone(), |root| format!("{root}.{module}"));
            Guess::new(kind, file)
                .watches(&EXTENSIONS)
                .runs(format!("{python} -m flask --app {module} run --no-reload{host}{port}"))
        }
        Server::Own(tool) => Guess::new(kind, file)
            .runs(format!("{} run {file}", sibling(python, tool)))
            .reloads_itself(&[".env"], &["py", "toml"]),
        Server::Script => {
            Guess::new(kind, file).watches(&EXTENSIONS).runs(format!("{python} {file}"))
        }
    }
}

/// The value of a keyword argument of the first such call, without its quotes. A name is no value.
fn argument<'a>(source: &'a str, call: &str, name: &str) -> Option<&'a str> {
    let (_, rest) = source.split_once(call)?;
    let arguments = rest.split(')').next()?;
    let value = arguments.split(',').find_map(|one| {
        let (key, value) = one.split_once('=')?;
        (key.trim() == name).then(|| value.trim())
    })?;
    let is_literal = value.starts_with(['"', '\'']) || value.parse::<u32>().is_ok();
    is_literal.then(|| value.trim_matches(['"', '\'']))
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
    let mut guess = guess(&python);
    let needs: String = MARKS.iter().map(|mark| place.read(mark).to_lowercase()).collect();
    let reads_env = ["dotenv", "environs", "django-environ", "decouple", "pydantic-settings"];
    let has_files = guess.values.iter().any(|(key, _)| key == "build.include_file");
    if !has_files && reads_env.iter().any(|name| needs.contains(name)) {
        guess = guess.set_list("build.include_file", &[".env"]);
    }
    if python.contains(['/', ' ']) || std::env::var_os("VIRTUAL_ENV").is_some() {
        return guess.found();
    }
    let needs = if place.has("requirements.txt") {
        "-r requirements.txt"
    } else if place.read("pyproject.toml").contains("[build-system]") {
        "-e ."
    } else {
        return guess.found();
    };
    let text = format!(
        "no virtual environment here; if modules are missing: `python3 -m venv .venv && \
         .venv/bin/pip install {needs}`"
    );
    guess.note(text).found()
}

/// The interpreter of the project's own virtual environment.
pub(super) fn of_environment(directory: &Path) -> Option<String> {
    let names = [".venv", "venv", "env", ".env"].map(|name| format!("{name}/bin/python"));
    names.into_iter().find(|python| directory.join(python).is_file())
}

/// What runs Python here: the project's own environment, the manager of its lock file, or the one
/// on the search path.
pub(super) fn interpreter(place: &Place<'_>) -> Result<String, &'static str> {
    if let Some(python) = of_environment(place.directory) {
        return Ok(python);
    }
    // Where the application is in a directory of its own, so is its environment.
    let of_part = |part: &&str| of_environment(&place.directory.join(part));
    if let Some(part) =
        ["backend", "server", "api", "app", "src"].iter().find(|part| of_part(part).is_some())
        && let Some(python) = of_part(part)
    {
        return Ok(format!("{part}/{python}"));
    }
    let text = place.read("pyproject.toml");
    let by_manager = [
        (place.has("uv.lock") || text.contains("[tool.uv"), "uv"),
        (place.has("poetry.lock") || text.contains("[tool.poetry"), "poetry"),
        (place.has("pdm.lock") || text.contains("[tool.pdm"), "pdm"),
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

/// The scripts that the project installs, and the file that names them.
fn script_names(place: &Place<'_>, project: &toml::Table) -> Option<(&'static str, Vec<String>)> {
    let of_poetry = || project.get("tool")?.get("poetry")?.get("scripts")?.as_table();
    let scripts = project.get("project").and_then(|table| table.get("scripts")?.as_table());
    if let Some(scripts) = scripts.or_else(of_poetry).filter(|scripts| !scripts.is_empty()) {
        return Some(("pyproject.toml", scripts.keys().cloned().collect()));
    }
    ["setup.cfg", "setup.py"].into_iter().find_map(|file| {
        let source = code(&place.read(file));
        let (_, rest) = source.split_once("console_scripts")?;
        // `name = package.module:function`, on lines of their own or as texts of a list.
        let mut entries = rest.trim_start_matches(['"', '\'']).trim_start_matches([' ', ':', '=']);
        if let Some(list) = entries.strip_prefix('[') {
            entries = list.split(']').next().unwrap_or_default();
        } else {
            entries = entries.split("\n\n").next().unwrap_or_default();
            entries = entries.split("\n[").next().unwrap_or_default();
        }
        let names = entries.split(['\n', ',']).filter_map(|entry| {
            let (name, target) = entry.trim().trim_matches(['"', '\'']).split_once('=')?;
            let name = name.trim();
            let is_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
            let is_entry = target.contains(':') && !name.is_empty() && name.chars().all(is_name);
            is_entry.then(|| name.to_owned())
        });
        let names: Vec<String> = names.collect();
        (!names.is_empty()).then_some((file, names))
    })
}

/// The lines of a source that are no comments.
fn code(source: &str) -> String {
    let lines = source.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

/// The application that the settings of Flask or `FastAPI` name.
fn named_application(place: &Place<'_>, project: &toml::Table) -> Option<Outcome> {
    let settings = place.read(".flaskenv") + "\n" + &place.read(".env");
    let of_flask = settings.lines().find_map(|line| {
        let (name, value) = line.trim().trim_start_matches("export ").split_once('=')?;
        (name.trim() == "FLASK_APP").then(|| value.trim().trim_matches(['"', '\'']).to_owned())
    });
    if let Some(app) = of_flask.filter(|app| !app.is_empty()) {
        let evidence = if place.has(".flaskenv") { ".flaskenv" } else { ".env" };
        return Some(with_interpreter(place, "Flask", evidence, |python| {
            flask(python, evidence, &quoted(&app))
        }));
    }
    let of_fastapi = project.get("tool")?.get("fastapi")?.get("entrypoint")?.as_str()?.to_owned();
    Some(with_interpreter(place, "FastAPI", "pyproject.toml", |python| {
        uvicorn(python, "FastAPI", "pyproject.toml, [tool.fastapi]", &of_fastapi, PORT)
    }))
}

/// A file at the top level that calls the project's factory: `app = create_app(settings)`.
fn from_factory(place: &Place<'_>) -> Option<Outcome> {
    let (file, name) = place.ending_in(".py").into_iter().find_map(|file| {
        let source = code(&place.read(&file));
        let calls = |line: &&str| {
            let is_factory = ["create_app(", "make_app(", "create_application("];
            let value = line.split_once('=').map(|(_, value)| value.trim());
            !line.starts_with([' ', '\t'])
                && value.is_some_and(|value| is_factory.iter().any(|one| value.starts_with(one)))
        };
        let line = source.lines().find(calls)?.to_owned();
        let name = line.split(['=', ':']).next()?.trim().to_owned();
        Some((file, name))
    })?;
    let marks = MARKS.iter().chain(&["requirements/base.txt", "requirements/common.txt"]);
    let needs: String = marks.map(|mark| place.read(mark).to_lowercase()).collect();
    let module = file.trim_end_matches(".py");
    if needs.contains("fastapi") || needs.contains("starlette") {
        return Some(with_interpreter(place, "FastAPI", &file, |python| {
            uvicorn(python, "FastAPI", &file, &format!("{module}:{name}"), PORT)
        }));
    }
    Some(with_interpreter(place, "Flask", &file, |python| flask(python, &file, module)))
}

/// The names that the project's own package may have.
fn package_names(place: &Place<'_>, project: &toml::Table) -> Vec<String> {
    let named = project.get("project").and_then(|table| table.get("name")?.as_str());
    let of_poetry = || project.get("tool")?.get("poetry")?.get("name")?.as_str();
    // `name = shop`, or `name="shop",`
    let of_setup = || {
        ["setup.cfg", "setup.py"].into_iter().find_map(|file| {
            let source = code(&place.read(file));
            let value = source.lines().find_map(|line| {
                let (key, value) = line.trim().trim_start_matches("setup(").split_once('=')?;
                (key.trim() == "name").then(|| value.trim().to_owned())
            });
            value.map(|value| value.trim_matches(['"', '\'', ',', ' ']).to_owned())
        })
    };
    let named = named.or_else(of_poetry).map(str::to_owned).or_else(of_setup);
    let names = named.into_iter().chain([place.name()]).map(|name| name.replace('-', "_"));
    names.filter(|name| !name.is_empty() && !name.contains('/')).collect()
}

/// Files of the project's own package that may hold the application.
fn files_of_packages(place: &Place<'_>, project: &toml::Table) -> Vec<String> {
    let files = ["main.py", "app.py", "asgi.py", "server.py", "api.py", "__init__.py"];
    let names = package_names(place, project);
    let roots = names.iter().flat_map(|name| [name.clone(), format!("src/{name}")]);
    let roots = roots.chain(["backend/app".to_owned()]);
    roots.flat_map(|root| files.map(|file| format!("{root}/{file}"))).collect()
}

/// A package with a `__main__.py`.
fn main_module(place: &Place<'_>, project: &toml::Table) -> Option<String> {
    let others = ["app".to_owned(), "src".to_owned()];
    let names = package_names(place, project).into_iter().chain(others);
    let mut names = names.filter(|name| !name.is_empty());
    names.find(|name| Path::new(place.directory).join(name).join("__main__.py").is_file())
}
