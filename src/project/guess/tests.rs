//! Projects of many kinds, and what is guessed of each.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

const TOOLS: [&str; 42] = [
    "node", "npm", "npx", "pnpm", "yarn", "bun", "deno", "python3", "uv", "poetry", "pdm",
    "pipenv", "ruby", "bundle", "php", "mvn", "gradle", "java", "dotnet", "mix", "zig", "cmake",
    "meson", "make", "just", "mise", "task", "swift", "dart", "gleam", "stack", "dune", "dub",
    "sbt", "lein", "rebar3", "shards", "v", "lua", "perl", "rake", "composer",
];

/// A project of these files, and a search path on which every tool is.
struct Project {
    root: tempfile::TempDir,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let more = ["plackup", "cc", "c++", "julia", "Rscript", "sh"];
        for tool in TOOLS.into_iter().chain(more) {
            executable(&bin.join(tool), "");
        }
        let project = root.path().join("shop");
        std::fs::create_dir(&project).unwrap();
        for (name, text) in files {
            let path = project.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            executable(&path, text);
        }
        Self { root }
    }

    fn outcome(&self) -> Outcome {
        let project = self.root.path().join("shop");
        guess_with(&project, self.root.path().join("bin").as_os_str())
    }

    /// `kind: build, then program`, or what is said in its place.
    fn guess(&self) -> String {
        match self.outcome() {
            Outcome::Found(guess) => guess.summary(),
            Outcome::Several(all) => all.iter().map(Guess::option).collect::<Vec<_>>().join(" | "),
            Outcome::Unable { reason, remedy } | Outcome::Uninstalled { reason, remedy } => {
                format!("{reason}; {remedy}")
            }
            Outcome::Unknown => "unknown".to_owned(),
        }
    }
}

fn executable(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn guess(files: &[(&str, &str)]) -> String {
    Project::new(files).guess()
}

/// A `package.json` with this script, and files beside it.
fn script(name: &str, script: &str, files: &[&str]) -> String {
    let package = serde_json::json!({ "scripts": { name: script, "build": "tsc" } }).to_string();
    let files = files.iter().map(|file| (*file, "x"));
    let files: Vec<(&str, &str)> =
        [("package.json", package.as_str())].into_iter().chain(files).collect();
    let guess = Project::new(&files).guess();
    let prefix = format!("Node (package.json, script \"{name}\"): ");
    guess.strip_prefix(&prefix).map_or(guess.clone(), str::to_owned)
}

#[test]
fn a_script_of_a_package_is_run_without_its_watcher() {
    let cases = [
        ("node server.js", "node server.js"),
        ("node --watch server.js", "node server.js"),
        ("node --watch-path=src --inspect server.js", "node --inspect server.js"),
        ("nodemon server.js", "node server.js"),
        ("nodemon -e js,json --ignore public app.js 3000", "node app.js 3000"),
        ("nodemon --exec 'node --inspect' app.js", "node --inspect app.js"),
        ("nodemon --watch src --exec \"ts-node\" src/index.ts", "npx ts-node src/index.ts"),
        ("nodemon src/index.ts", "npx ts-node src/index.ts"),
        ("tsx watch src/index.ts", "npx tsx src/index.ts"),
        ("tsx watch --clear-screen=false src/index.ts", "npx tsx src/index.ts"),
        (
            "ts-node-dev --respawn --transpile-only src/a.ts",
            "npx ts-node --transpile-only src/a.ts",
        ),
        (
            "tsnd -r tsconfig-paths/register src/a.ts",
            "npx ts-node -r tsconfig-paths/register src/a.ts",
        ),
        ("cross-env NODE_ENV=dev nodemon app.js", "node app.js"),
        ("tsc && node dist/index.js", "tsc, then node dist/index.js"),
        ("npm run build && node dist/index.js", "npm run build, then node dist/index.js"),
        ("node dist/index.js", "npm run build, then node dist/index.js"),
        ("nest start --watch", "npx nest build, then node dist/main"),
        ("tsc-watch --onSuccess \"node dist/a.js\"", "npx tsc, then node dist/a.js"),
        ("bun --watch index.ts", "bun index.ts"),
        ("bun --hot run index.ts", "bun run index.ts"),
        ("fastify start -w -l info -P app.js", "npx fastify start -l info -P app.js"),
        ("tsx watch --ignore ./data --include 'a/*' src/a.ts", "npx tsx src/a.ts"),
        ("node --watch-path ./src src/index.js -w", "node src/index.js -w"),
        ("ts-node-dev --inspect --ignore-watch x -P t.json a.ts", "npx ts-node -P t.json a.ts"),
        (
            "nodemon -w src --exec \"npm run build && node dist/index.js\"",
            "npm run build, then node dist/index.js",
        ),
        ("dotenv -e .env.local -- tsx watch src/a.ts", "npx dotenv -e .env.local -- tsx src/a.ts"),
        ("env-cmd -f .env nodemon app.js", "npx env-cmd -f .env node app.js"),
        ("nest start -b swc -w --debug", "npx nest build -b swc, then node --inspect dist/main"),
        ("nest start api --watch", "npx nest build api, then node dist/apps/api/main"),
        ("cd server && node index.js", "npm run dev"),
        ("npx @11ty/eleventy --serve", "npm run dev"),
        ("cp views/*.html dist/ && node server.js", "npm run dev"),
        ("export A=1 && node server.js", "npm run dev"),
        ("nodemon server.js 'a b'", "node server.js 'a b'"),
        ("node ace serve --hmr", "npm run dev"),
    ];
    for (text, expected) in cases {
        assert_eq!(script("dev", text, &[]), expected, "{text}");
    }
}

#[test]
fn a_program_that_follows_saves_itself_is_run_as_it_is_and_not_restarted() {
    let servers = [
        "vite",
        "next dev",
        "astro dev --host",
        "nuxt dev",
        "react-scripts start",
        "ng serve",
        "vite build --watch",
        "concurrently \"tsc -w\" \"nodemon dist\"",
        "tsc -w & nodemon dist",
        "npm-run-all --parallel watch:*",
        "NODE_ENV=x vite",
    ];
    for text in servers {
        let package = serde_json::json!({ "scripts": { "dev": text } }).to_string();
        let project = Project::new(&[("package.json", &package)]);
        let Outcome::Found(guess) = project.outcome() else { panic!("{text}") };
        assert_eq!(guess.program(), "npm run dev", "{text}");
        let extensions = guess.values.iter().find(|(key, _)| key == "build.include_ext");
        assert_eq!(extensions.unwrap().1, Value::Array(Vec::new()), "{text}");
    }
}

#[test]
fn the_manager_of_the_lock_file_runs_scripts_and_installs() {
    let package = r#"{"scripts": {"dev": "vite"}, "dependencies": {"vite": "1"}}"#;
    for (lock, manager) in
        [("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "yarn"), ("bun.lock", "bun"), ("x", "npm")]
    {
        let files = [("package.json", package), (lock, "")];
        let told = guess(&files);
        assert!(told.ends_with(&format!("not installed; `{manager} install`")), "{told}");
        let installed = [files[0], files[1], ("node_modules/.bin/vite", "")];
        assert!(guess(&installed).ends_with(&format!(": {manager} run dev")), "{lock}");
    }
    let named = r#"{"packageManager": "pnpm@9.1.0", "scripts": {"dev": "vite"}}"#;
    assert!(guess(&[("package.json", named)]).ends_with(": pnpm run dev"));
    let project = Project::new(&[("package.json", named)]);
    std::fs::remove_file(project.root.path().join("bin/pnpm")).unwrap();
    let told = project.guess();
    assert!(told.contains("`pnpm` is not installed; install it: "), "{told}");
}

#[test]
fn scripts_that_call_each_other_are_followed_but_not_for_ever() {
    let package = r#"{"scripts": {"dev": "npm run serve", "serve": "nodemon app.js"}}"#;
    assert!(guess(&[("package.json", package)]).ends_with(": node app.js"));
    let package = r#"{"scripts": {"dev": "npm run start", "start": "npm run dev"}}"#;
    assert!(guess(&[("package.json", package)]).contains("npm run "));
}

#[test]
fn what_npm_and_nodemon_do_beside_the_script_is_kept() {
    let package = r#"{"scripts": {"prestart": "node gen.js", "start": "nodemon app.js"}}"#;
    let settings = r#"{"env": {"NODE_ENV": "development"}}"#;
    let project = Project::new(&[("package.json", package), ("nodemon.json", settings)]);
    let Outcome::Found(guess) = project.outcome() else { panic!() };
    assert_eq!(guess.text("build.cmd"), Some("npm run prestart"));
    assert_eq!(guess.program(), "node app.js");
    assert_eq!(guess.text("env.NODE_ENV"), Some("development"));
    let package = r#"{"scripts": {"dev": "vite"}, "devDependencies": {"vite": "1"}}"#;
    let told = self::guess(&[("package.json", package)]);
    assert!(told.ends_with("dependencies are not installed; `npm install`"), "{told}");
}

#[test]
fn a_package_without_scripts_is_run_by_its_main_or_says_what_is_missing() {
    let of = |package: &str, file: &str| guess(&[("package.json", package), (file, "")]);
    assert_eq!(of(r#"{"main": "lib.js"}"#, "lib.js"), "Node (package.json, lib.js): node lib.js");
    assert_eq!(of("{}", "src/index.js"), "Node (package.json, src/index.js): node src/index.js");
    let types = r#"{"devDependencies": {"tsx": "1"}}"#;
    let files = [("package.json", types), ("src/index.ts", ""), ("node_modules/.bin/tsx", "")];
    assert!(guess(&files).ends_with(": ./node_modules/.bin/tsx src/index.ts"));
    assert!(of("{}", "readme").contains("no script \"dev\" or \"start\""));
    assert!(of(r#"{"main": "dist/a.js"}"#, "readme").contains("no script"), "it does not exist");
    assert!(of("{,", "index.js").starts_with("package.json cannot be read: "));
    // A file for the browser.
    assert_eq!(guess(&[("index.js", ""), ("index.html", "")]), "unknown");
    assert_eq!(guess(&[("server.js", "")]), "Node (server.js): node server.js");
}

const FAST: &str = "from fastapi import FastAPI\nservice = FastAPI()\n";
const FLASK: &str = "from flask import Flask\napp = Flask(__name__)\n";
const FACTORY: &str = "def create_app():\n    app = Flask(__name__)\n    return app\n";

/// The files of a project, and what is guessed.
type Case = (&'static [(&'static str, &'static str)], &'static str);

const PYTHON: [Case; 28] = [
    (&[("main.py", FAST)], "FastAPI (main.py): python3 -m uvicorn main:service --fd 3"),
    (
        &[("app/main.py", FAST), ("uv.lock", "")],
        "FastAPI (app/main.py): uv run python -m uvicorn app.main:service --fd 3",
    ),
    (
        &[("main.py", FAST), (".venv/bin/python", ""), ("uv.lock", "")],
        "FastAPI (main.py): .venv/bin/python -m uvicorn main:service --fd 3",
    ),
    (&[("app.py", FLASK)], "Flask (app.py): python3 -m flask --app app run --no-reload"),
    (
        &[("app/__init__.py", FACTORY), ("poetry.lock", "")],
        "Flask (app/__init__.py): poetry run python -m flask --app app run --no-reload",
    ),
    (
        &[("manage.py", "import django"), ("requirements.txt", "")],
        "Django (manage.py): python3 manage.py runserver --noreload",
    ),
    (&[("main.py", "print()")], "Python (main.py): python3 main.py"),
    (&[("tool.py", "print()")], "Python (tool.py): python3 tool.py"),
    (
        &[
            (
                "pyproject.toml",
                "[project]\nname = \"shop\"\n[project.scripts]\nshop = \"shop:main\"",
            ),
            ("venv/bin/python", ""),
            ("venv/bin/shop", ""),
        ],
        "Python (pyproject.toml, script shop): venv/bin/shop",
    ),
    (
        &[("pyproject.toml", "[project]\nname = \"my-shop\""), ("my_shop/__main__.py", "")],
        "Python (the package my_shop): python3 -m my_shop",
    ),
    (&[("main.py", ""), ("Pipfile", "")], "Python (main.py): pipenv run python main.py"),
    (&[("main.py", ""), ("pdm.lock", "")], "Python (main.py): pdm run python main.py"),
    (
        &[("app.py", "import streamlit"), ("venv/bin/python", "")],
        "Streamlit (app.py): venv/bin/streamlit run app.py",
    ),
    (
        &[("flasky.py", "app = create_app('x')"), ("app/__init__.py", FACTORY)],
        "Flask (flasky.py): python3 -m flask --app flasky run --no-reload",
    ),
    (
        &[("asgi.py", "web: App = create_app()"), ("requirements.txt", "fastapi")],
        "FastAPI (asgi.py): python3 -m uvicorn asgi:web --fd 3",
    ),
    (
        &[(".flaskenv", "FLASK_APP=conduit.py\n"), ("conduit.py", "")],
        "Flask (.flaskenv): python3 -m flask --app conduit.py run --no-reload",
    ),
    (
        &[(".env", "FLASK_APP=\"app:create_app('dev')\"\n")],
        "Flask (.env): python3 -m flask --app \"app:create_app('dev')\" run --no-reload",
    ),
    (
        &[("streamlit_app.py", "from streamlit import x"), ("a.py", "")],
        "Streamlit (streamlit_app.py): streamlit run streamlit_app.py",
    ),
    (
        &[("pyproject.toml", "[project]\nname = \"flaskr\""), ("flaskr/__init__.py", FACTORY)],
        "Flask (flaskr/__init__.py): python3 -m flask --app flaskr run --no-reload",
    ),
    (
        &[("pyproject.toml", "[project]\nname = \"my-shop\""), ("src/my_shop/main.py", FAST)],
        "FastAPI (src/my_shop/main.py): python3 -m uvicorn my_shop.main:service --app-dir src \
         --fd 3",
    ),
    (
        &[("pyproject.toml", "[tool.fastapi]\nentrypoint = \"svc.web:api\"")],
        "FastAPI (pyproject.toml, [tool.fastapi]): python3 -m uvicorn svc.web:api --fd 3",
    ),
    (
        &[("pyproject.toml", "[tool.poetry.scripts]\nx = \"a:b\"")],
        "Python (pyproject.toml, script x): poetry run x",
    ),
    (
        &[
            ("pyproject.toml", "[project.scripts]\na = \"a:a\"\nb = \"b:b\""),
            (".venv/bin/python", ""),
            (".venv/bin/a", ""),
            (".venv/bin/b", ""),
        ],
        "-- .venv/bin/a | -- .venv/bin/b",
    ),
    (
        &[("backend/manage.py", "import django")],
        "Django (backend/manage.py): python3 backend/manage.py runserver --noreload",
    ),
    (
        &[("app.py", "app = Flask(__name__)\napp.run(host=\"0.0.0.0\", port=8080)\n")],
        "Flask (app.py): python3 -m flask --app app run --no-reload --host 0.0.0.0 --port 8080",
    ),
    (
        &[("app.py", "app = Flask(__name__)\nsocketio.run(app)\n")],
        "Flask-SocketIO (app.py): python3 app.py",
    ),
    (&[("main.py", "# old: app = Flask(__name__)\n")], "Python (main.py): python3 main.py"),
    (
        &[("one.py", "if __name__ == '__main__': x"), ("two.py", "if __name__: x")],
        "-- python3 one.py | -- python3 two.py",
    ),
];

#[test]
fn python_is_run_by_what_the_project_has() {
    for (files, expected) in PYTHON {
        assert_eq!(guess(files), expected);
    }
    let port = "app = FastAPI()\nuvicorn.run(\"main:app\", port=9000)\n";
    let Outcome::Found(found) = Project::new(&[("main.py", port)]).outcome() else { panic!() };
    assert_eq!(found.listen.as_deref(), Some("127.0.0.1:9000"));
    assert!(guess(&[("requirements.txt", "x")]).contains("no file says how it is started"));
    assert!(guess(&[("pyproject.toml", "[project\n")]).starts_with("pyproject.toml:1: "));
    let project = Project::new(&[("main.py", ""), ("uv.lock", "")]);
    std::fs::remove_file(project.root.path().join("bin/uv")).unwrap();
    assert!(project.guess().contains("`uv` is not installed"));
}

const CLASS: &str = "class A { public static void main(String[] a) {} }";

const OTHERS: [Case; 35] = [
    (
        &[("bin/rails", ""), ("config/application.rb", ""), ("package.json", "{}")],
        "Rails (bin/rails): bin/rails server",
    ),
    (&[("config.ru", "")], "Rack (config.ru): rackup"),
    (&[("config.ru", ""), ("Gemfile", "gem 'puma'")], "Rack (config.ru): bundle exec puma -p 9292"),
    (&[("app.rb", "")], "Ruby (app.rb): ruby app.rb"),
    (&[("app.rb", ""), ("Gemfile", "")], "Ruby (app.rb): bundle exec ruby app.rb"),
    (&[("artisan", "")], "Laravel (artisan): php artisan serve --no-reload"),
    (
        &[("composer.json", "{}"), ("public/index.php", "")],
        "PHP (index.php): php -S 127.0.0.1:8000 -t public",
    ),
    (&[("index.php", "")], "PHP (index.php): php -S 127.0.0.1:8000"),
    (
        &[("deno.json", r#"{"tasks": {"dev": "deno run --watch -A main.ts"}}"#)],
        "Deno (deno.json, task \"dev\"): deno run -A main.ts",
    ),
    (
        &[("deno.jsonc", "// x\n{}"), ("server.ts", "")],
        "Deno (deno.jsonc, server.ts): deno run -A server.ts",
    ),
    (&[("mix.exs", "x")], "Elixir (mix.exs): mix compile, then mix run --no-halt --no-compile"),
    (&[("mix.exs", "{:phoenix, \"1\"}"), ("deps/x", "")], "Phoenix (mix.exs): mix phx.server"),
    (&[("app.psgi", "")], "PSGI (app.psgi): plackup app.psgi"),
    (
        &[("pom.xml", "<project/>"), ("src/main/java/a/b/A.java", CLASS)],
        "Maven (pom.xml): mvn -q compile, then java -cp target/classes a.b.A",
    ),
    (
        &[("build.gradle", "plugins { id 'application' }")],
        "Gradle (build.gradle): gradle --no-daemon -q installDist, then \
         build/install/shop/bin/shop",
    ),
    (&[("Main.java", CLASS)], "Java (Main.java): java Main.java"),
    (
        &[("shop.csproj", "")],
        ".NET (shop.csproj): dotnet build -nologo -v quiet -nodeReuse:false shop.csproj, then \
         dotnet run --no-build",
    ),
    (
        &[("build.zig", "b.addExecutable(.{ .name = \"shop\" })")],
        "Zig (build.zig): zig build, then zig-out/bin/shop",
    ),
    (
        &[("CMakeLists.txt", "project(shop C)\nadd_executable(${PROJECT_NAME} main.c)")],
        "CMake (CMakeLists.txt): cmake -S . -B build && cmake --build build, then build/shop",
    ),
    (
        &[("meson.build", "executable('shop', 'main.c')")],
        "Meson (meson.build): test -f build/build.ninja || meson setup build && meson compile -C build, \
         then build/shop",
    ),
    (&[("main.c", "")], "C (main.c): mkdir -p tmp && cc -g -o tmp/main *.c -lm, then tmp/main"),
    (
        &[("Makefile", "all: app\nrun:\n\t./app\n"), ("main.c", "")],
        "make (Makefile, target \"run\"): make all, then make run",
    ),
    (&[("Package.swift", "")], "Swift (Package.swift): swift build, then swift run --skip-build"),
    (&[("pubspec.yaml", "")], "Dart (pubspec.yaml): dart run"),
    (&[("gleam.toml", "")], "Gleam (gleam.toml): gleam build, then gleam run"),
    (&[("stack.yaml", "")], "Stack (stack.yaml): stack build, then stack run"),
    (&[("project.clj", "")], "Leiningen (project.clj): lein run"),
    (&[("main.lua", "")], "Lua (main.lua): lua main.lua"),
    (&[("app.pl", "")], "Perl (app.pl): perl app.pl"),
    (&[("run.sh", "#!/bin/sh\n")], "shell script (run.sh): ./run.sh"),
    (
        &[("Procfile", "web: ./serve -p $PORT\n")],
        "Procfile (Procfile, process \"web\"): ./serve -p $PORT",
    ),
    (
        &[("Makefile", "run = docker run -p 80:80\nserve:\n\tx\n")],
        "make (Makefile, target \"serve\"): make serve",
    ),
    (&[("justfile", "dev port='1':\n    x\n")], "just (justfile, recipe \"dev\"): just dev"),
    (&[("mise.toml", "[tasks.run]\nrun = 'x'")], "mise (mise.toml, task \"run\"): mise run run"),
    (
        &[("Taskfile.yml", "version: 3\ntasks:\n  start:\n    cmd: x\n")],
        "Task (Taskfile.yml, task \"start\"): task start",
    ),
];

#[test]
fn other_kinds_of_projects_are_known_by_their_own_files() {
    for (files, expected) in OTHERS {
        assert_eq!(guess(files), expected);
    }
    let Outcome::Found(web) = Project::new(&[("Procfile", "web: x -p $PORT")]).outcome() else {
        panic!()
    };
    let is_set = std::env::var_os("PORT").is_some();
    assert_eq!(web.text("env.PORT"), Some("5000").filter(|_| !is_set));
    let modules = "<project><modules><module>a</module></modules></project>";
    assert!(guess(&[("pom.xml", modules)]).contains("several modules"));
    assert!(guess(&[("compose.yaml", "")]).contains("docker compose watch"));
    assert!(guess(&[("Makefile", "dev:\n\thotrun\n")]).contains("no target of Makefile"));
    assert_eq!(guess(&[("README", "")]), "unknown");
}

#[test]
fn of_two_kinds_one_is_taken_and_the_other_is_named() {
    let project = Project::new(&[
        ("app.py", "app = Flask(__name__)\n"),
        ("package.json", r#"{"scripts": {"dev": "vite"}}"#),
    ]);
    let Outcome::Found(guess) = project.outcome() else { panic!() };
    assert_eq!(guess.kind, "Flask");
    let manifests = ["CMakeLists.txt", "build.gradle.kts", "mix.exs", ".flaskenv", "package.json"];
    for (evidence, is_one) in
        manifests.map(|one| (one, true)).into_iter().chain([("app.py", false)])
    {
        assert_eq!(Guess::new("x", evidence).manifest().is_some(), is_one, "{evidence}");
    }
    let note = "also a Node project (package.json, script \"dev\"); to run that instead: \
                `hotrun -- npm run dev`";
    assert_eq!(guess.notes, [note]);
}

#[test]
fn files_that_are_no_text_or_do_not_end_are_no_obstacle() {
    let project = Project::new(&[("index.js", ""), ("Makefile", "")]);
    let place = project.root.path().join("shop");
    std::fs::write(place.join("package.json"), [0xff, 0xfe, 0]).unwrap();
    assert!(project.guess().starts_with("package.json cannot be read"), "{}", project.guess());
    std::fs::remove_file(place.join("package.json")).unwrap();
    nix::unistd::mkfifo(&place.join("package.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(project.guess(), "Node (index.js): node index.js");
}

#[test]
fn what_a_command_reads_follows_from_its_program() {
    let of = |line: &str| {
        let argv: Vec<_> = line.split(' ').map(OsString::from).collect();
        command::extensions(Path::new("/"), &argv).map(|list| list[0].clone())
    };
    for (line, first) in [
        ("node server.js", Some("js")),
        ("/usr/bin/python3.12 -m app", Some("py")),
        ("env A=b python x.py", Some("py")),
        ("bundle exec rackup", Some("rb")),
        ("./run.sh", None),
        ("./server", None),
    ] {
        assert_eq!(of(line).as_deref(), first, "{line}");
    }
}

#[test]
fn fuzz_whatever_the_files_of_a_project_hold_what_is_guessed_can_be_run() {
    let corpus = [
        r#"{"scripts": {"dev": "cross-env A=b nodemon -w src --exec \"tsx\" a.ts && node dist/b.js"}}"#,
        r#"{"main": "index.js", "scripts": {"start": "npm run dev", "dev": "nest start -w"}}"#,
        "[project]\nname = \"shop\"\n[project.scripts]\nshop = \"shop:main\"\n",
        "app = FastAPI()\nuvicorn.run(app, port=9000)\napp.run(host=\"::\")\n",
        "web: bundle exec puma -p $PORT\nworker: ./work\n",
        "dev: build\n\tnode x\nrun serve:\n",
        "project(shop C)\nadd_executable(${PROJECT_NAME} main.c)\nexecutable('shop', 'main.c')\n",
        "<project><mainClass>a.B</mainClass></project>",
    ];
    let words =
        ["--watch", "--exec", "watch", "&&", "dotenv --", "-x", "scripts", "dev", "npm run"];
    let project = Project::new(&[("node_modules/.bin/tsx", "")]);
    let place = project.root.path().join("shop");
    let files = [
        "package.json",
        "pyproject.toml",
        "main.py",
        "app.py",
        "Procfile",
        "justfile",
        "Makefile",
        "CMakeLists.txt",
        "meson.build",
        "pom.xml",
        "deno.json",
        "Taskfile.yml",
        "build.zig",
    ];
    crate::fuzz::hammer(&corpus, &words, |text| {
        for file in files {
            let path = place.join(file);
            std::fs::write(&path, text).unwrap();
            let all = match project.outcome() {
                Outcome::Found(guess) => vec![*guess],
                Outcome::Several(all) => all,
                Outcome::Unable { reason, remedy } | Outcome::Uninstalled { reason, remedy } => {
                    assert!(!reason.is_empty() && !remedy.is_empty());
                    Vec::new()
                }
                Outcome::Unknown => Vec::new(),
            };
            std::fs::remove_file(&path).unwrap();
            for guess in all {
                assert!(!guess.program().trim().is_empty(), "{file}: {guess:?}");
                assert!(!guess.program().contains('\0'), "{file}: {guess:?}");
                assert!(shlex::split(&guess.option()).is_some(), "{file}: {guess:?}");
            }
        }
    });
}

#[test]
fn build_files_are_read_as_their_tools_read_them() {
    let gradle = "plugins {\n    id(\"application\")\n}\n";
    let class = "class A { public static void main (String[] a) {} }";
    let cases: [(&[(&str, &str)], &str); 13] = [
        (&[("CMakeLists.txt", "PROJECT (shop)\nADD_EXECUTABLE (\"till\" main.c)")], "build/till"),
        (
            &[(
                "CMakeLists.txt",
                "project(shop)\nset(NAME till)\nadd_executable(${NAME} a.c)\n\
               add_executable(x::till ALIAS till)\nadd_executable(t t.c)\nadd_test(NAME t COMMAND t)",
            )],
            "build/till",
        ),
        (
            &[(
                "CMakeLists.txt",
                "set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)\n\
               add_executable(till main.c)",
            )],
            "build/bin/till",
        ),
        (
            &[
                ("CMakeLists.txt", "add_subdirectory(src)"),
                ("src/CMakeLists.txt", "add_executable(till main.c)"),
            ],
            "build/src/till",
        ),
        (&[("CMakeLists.txt", "set(A ${A}${A})\nadd_executable(${A} a.c)\n")], ""),
        (
            &[
                ("meson.build", "project('shop')\nsubdir('src')"),
                ("src/meson.build", "executable(meson.project_name(), 'x.c')"),
            ],
            "build/src/shop",
        ),
        (
            &[("settings.gradle", "include('app')"), ("app/build.gradle.kts", gradle)],
            "app/build/install/app/bin/app",
        ),
        (&[("build.gradle", "applicationId 'x'")], ""),
        (&[("Makefile", "all: app run\napp:\n\tcc\nrun:\n\t./app\n")], "make run"),
        (
            &[
                ("pom.xml", "<!-- <mainClass>old.Gone</mainClass> -->"),
                ("src/main/java/A.java", class),
            ],
            "java -cp target/classes A",
        ),
        (&[("Main.java", ""), ("Other.java", "")], "java -cp tmp/classes Main"),
        (&[("justfile", "@run:\n    x\n")], "just run"),
        (&[("deno.jsonc", "/* c */ {\"tasks\": {\"dev\": \"vite\",},} // x")], "deno task dev"),
    ];
    for (files, program) in cases {
        let found = match Project::new(files).outcome() {
            Outcome::Found(guess) => guess.program().to_owned(),
            Outcome::Unable { .. } | Outcome::Uninstalled { .. } => String::new(),
            other => format!("{other:?}"),
        };
        assert_eq!(found, program, "{files:?}");
    }
    let project = Project::new(&[("Makefile", "all: app run\napp:\n\tcc\nrun:\n\t./app\n")]);
    let Outcome::Found(guess) = project.outcome() else { panic!() };
    assert_eq!(guess.text("build.cmd"), Some("make app"), "`make all` would run the program");
}

#[test]
fn what_cannot_be_read_is_named_and_foreign_bytes_are_no_obstacle() {
    let project = Project::new(&[("CMakeLists.txt", "")]);
    let file = project.root.path().join("shop/CMakeLists.txt");
    std::fs::write(&file, b"# J\xfcrgen\nadd_executable(shop main.c)\n").unwrap();
    assert!(project.guess().ends_with("build/shop"), "{}", project.guess());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything.
    if !nix::unistd::getuid().is_root() {
        let told = project.guess();
        assert!(told.starts_with("CMakeLists.txt cannot be read: Permission denied"), "{told}");
    }
}

#[test]
fn a_program_is_found_by_a_path_of_any_bytes_and_only_if_it_may_be_run() {
    let place = tempfile::tempdir().unwrap();
    let [run, script, plain] = [&b"pr\xf6gram"[..], b"n\xf6.py", b"pl\xe4in"]
        .map(|name| place.path().join(OsStr::from_bytes(name)));
    executable(&run, "");
    std::fs::write(&script, "").unwrap();
    std::fs::write(&plain, "").unwrap();
    assert_eq!(search::on_path(&run), Some(run.clone()));
    assert_eq!(
        [search::on_path(&script), search::on_path(&plain), search::on_path(place.path())],
        [None, None, None]
    );
    let argv = |path: &Path| vec![path.file_name().unwrap().to_owned()];
    let with = |path: &Path| command::with_interpreter(place.path(), &argv(path));
    assert_eq!(with(&script), Some([vec!["python3".into()], argv(&script)].concat()));
    assert_eq!(with(&run), None);
}

#[test]
fn programs_that_the_project_has_installed_come_first_on_the_search_path() {
    let project = Project::new(&[
        ("web/node_modules/.bin/tsx", ""),
        ("web/venv/bin/python", ""),
        ("web/env/bin/other", ""),
        ("node_modules/.bin/eslint", ""),
        (".git/HEAD", ""),
    ]);
    let root = project.root.path().join("shop");
    let found = |name: &str, place: &Path| {
        let path = search::path(place);
        let found = found_in(&path, OsStr::new(name))?;
        Some(found.strip_prefix(&root).ok()?.to_str()?.to_owned())
    };
    let below = root.join("web");
    assert_eq!(found("tsx", &below).as_deref(), Some("web/node_modules/.bin/tsx"));
    assert_eq!(found("eslint", &below).as_deref(), Some("node_modules/.bin/eslint"));
    assert_eq!(found("other", &below), None, "that is no virtual environment");
    assert_eq!(found("tsx", &root), None);
    if std::env::var_os("VIRTUAL_ENV").is_none() {
        assert_eq!(found("python", &below).as_deref(), Some("web/venv/bin/python"));
    }
    assert!(found_in(&search::path(&below), OsStr::new("sh")).is_some());
    assert_eq!(search::extended(&[root.join("none")]), None);
}

#[test]
fn options_of_node_that_have_a_value_keep_it_and_files_of_variables_are_watched() {
    let cases = [
        ("node --env-file=.env --watch a.js", "node --env-file=.env a.js", Some(".env")),
        ("node --env-file .env --watch a.js", "node --env-file .env a.js", Some(".env")),
        ("node -r dotenv/config --watch a.js", "node -r dotenv/config a.js", None),
        ("node --watch --import tsx src/a.ts", "node --import tsx src/a.ts", None),
        (
            "tsx watch --env-file=.env.dev a.ts",
            "npx tsx --env-file=.env.dev a.ts",
            Some(".env.dev"),
        ),
    ];
    for (text, run, file) in cases {
        let package = serde_json::json!({ "scripts": { "dev": text } }).to_string();
        let Outcome::Found(guess) = Project::new(&[("package.json", &package)]).outcome() else {
            panic!("{text}");
        };
        assert_eq!(guess.program(), run);
        let files = guess.values.iter().find(|(key, _)| key == "build.include_file");
        let named = files.map(|(_, value)| value.to_string());
        assert_eq!(named, file.map(|file| format!("[\"{file}\"]")), "{text}");
    }
}

#[test]
fn a_file_of_variables_that_is_missing_is_made_from_its_example() {
    let package = "{\"scripts\": {\"dev\": \"node --env-file=.env a.js\"}}";
    let told = guess(&[("package.json", package), (".env.example", "A=1")]);
    assert!(told.ends_with("reads .env, which is missing; `cp .env.example .env`"), "{told}");
    for files in [&[][..], &[(".env.example", ""), (".env", "")]] {
        let told = guess(&[&[("package.json", package)], files].concat());
        assert!(told.ends_with(": node --env-file=.env a.js"), "{told}");
    }
}

#[test]
fn the_manager_that_has_installed_the_packages_is_known_below_another_ones_lock_file() {
    let package = ("package.json", "{\"scripts\": {\"dev\": \"vite\"}}");
    let project = Project::new(&[package, ("node_modules/.package-lock.json", "{}")]);
    let lock = project.root.path().join("pnpm-lock.yaml");
    std::fs::write(lock, "").unwrap();
    assert!(project.guess().ends_with(": npm run dev"), "{}", project.guess());
    let own = project.root.path().join("shop/yarn.lock");
    std::fs::write(own, "").unwrap();
    assert!(project.guess().ends_with(": yarn run dev"), "{}", project.guess());
}

#[test]
fn of_a_workspace_the_programs_of_its_packages_are_run_from_the_root() {
    let root = "{\"workspaces\": [\"packages/*\", \"./tools/cli\"]}";
    let api = "{\"scripts\": {\"dev\": \"tsx watch src/a.ts\"}}";
    let built = "{\"scripts\": {\"start\": \"node dist/a.js\", \"build\": \"tsc\"}}";
    let library = "{\"main\": \"index.js\"}";
    let one = [
        ("package.json", root),
        ("packages/api/package.json", api),
        ("packages/lib/package.json", library),
        ("packages/lib/index.js", ""),
    ];
    let run = "Node (packages/api/package.json, script \"dev\"): cd packages/api && exec npx tsx src/a.ts";
    assert_eq!(guess(&one), run);
    let two = [&one[..], &[("tools/cli/package.json", built)]].concat();
    assert_eq!(
        guess(&two),
        "-x 'cd packages/api && exec npx tsx src/a.ts' | \
         --build.cmd '(cd tools/cli && npm run build)' -x 'cd tools/cli && exec node dist/a.js'"
    );
    let of_pnpm = [
        ("package.json", "{\"scripts\": {\"build\": \"x\"}}"),
        (
            "pnpm-workspace.yaml",
            "packages:\n  # all\n  - 'packages/*'\n  - '!**/test/**'\nother: 1\n",
        ),
        ("packages/api/package.json", api),
    ];
    assert_eq!(guess(&of_pnpm), run);
    let own = "{\"workspaces\": [\"packages/*\"], \"scripts\": {\"start\": \"node a.js\"}}";
    let own = [("package.json", own), ("packages/api/package.json", api)];
    assert!(guess(&own).ends_with(": node a.js"), "{}", guess(&own));
}

#[test]
fn missing_dependencies_come_before_a_file_that_names_commands() {
    let procfile = ("Procfile", "web: npm start\n");
    let package = "{\"scripts\": {\"start\": \"node a.js\"}, \"dependencies\": {\"x\": \"1\"}}";
    let text = guess(&[procfile, ("package.json", package)]);
    assert!(text.ends_with("whose dependencies are not installed; `npm install`"), "{text}");
    let text = guess(&[procfile, ("package.json", package), ("node_modules/x/a.js", "")]);
    assert!(text.starts_with("Node"), "{text}");
    let composer = "{\"require\": {\"php\": \">=8\", \"slim/slim\": \"4\"}}";
    let php = [procfile, ("composer.json", composer), ("public/index.php", "")];
    assert!(guess(&php).ends_with("are not installed; `composer install`"), "{}", guess(&php));
}

#[test]
fn a_script_of_composer_starts_the_program() {
    let composer = |script: &str| format!("{{\"scripts\": {script}}}");
    for (script, expected) in [
        ("{\"start\": \"php -S localhost:8080 -t public\"}", "php -S localhost:8080 -t public"),
        ("{\"serve\": \"@php bin/server.php\"}", "php bin/server.php"),
        ("{\"dev\": [\"@a\", \"php x.php\"]}", "composer run-script --timeout=0 dev"),
        ("{\"test\": \"phpunit\"}", "php -S 127.0.0.1:8000"),
    ] {
        let text = composer(script);
        let told = guess(&[("composer.json", &text), ("index.php", "")]);
        assert!(told.ends_with(&format!(": {expected}")), "{told}");
    }
    assert_eq!(guess(&[("composer.json", "{\"scripts\": {\"test\": \"x\"}}")]), "unknown");
}

#[test]
fn scripts_of_setup_py_and_setup_cfg_are_programs_once_they_are_installed() {
    let of_setup_py = "setup(entry_points={\n 'console_scripts': ['shop = shop.cli:main']})\n";
    let of_setup_cfg =
        "[options.entry_points]\nconsole_scripts =\n    shop = shop.cli:main\n\n[x]\n";
    for (file, text) in [("setup.py", of_setup_py), ("setup.cfg", of_setup_cfg)] {
        let bare = [(file, text), ("shop/cli.py", "")];
        assert_eq!(
            guess(&bare),
            format!(
                "this is a Python project ({file}) whose dependencies are not installed; \
                 `python3 -m venv .venv && .venv/bin/pip install -e .`"
            )
        );
        let environment = [&bare[..], &[(".venv/bin/python", ""), (".venv/bin/shop", "")]].concat();
        assert_eq!(guess(&environment), format!("Python ({file}, script shop): .venv/bin/shop"));
        let other = [&bare[..], &[("shop/__main__.py", "")]].concat();
        assert!(guess(&other).ends_with("python3 -m shop"), "{}", guess(&other));
    }
}

#[test]
fn tests_are_no_programs_and_setup_py_names_the_package() {
    let test = ("test_shop.py", "if __name__ == '__main__':\n    unittest.main()\n");
    let procfile = ("Procfile", "web: gunicorn till:app\n");
    let setup = ("setup.py", "setup(\n    name=\"till\",\n)\n");
    let told = guess(&[test, procfile, setup]);
    assert!(told.ends_with("gunicorn till:app"), "{told}");
    let told = guess(&[test, procfile, setup, ("till/__main__.py", "")]);
    assert!(told.ends_with("python3 -m till"), "{told}");
    let told = guess(&[
        test,
        ("setup.cfg", "[metadata]\nname = till\n"),
        ("till/app.py", "app = Flask(__name__)"),
    ]);
    assert!(told.contains("flask --app till.app run"), "{told}");
}

#[test]
fn what_make_runs_is_made_first() {
    for (rules, expected) in [
        ("run: app\n\t./app\napp: a.c\n\tcc a.c\n", "make app, then make run"),
        ("run:\n\t@./app -v\napp: a.c\n\tcc a.c\n", "make app, then make run"),
        ("run: clean app\n\t./app\napp:\n\tcc\nclean:\n\trm app\n", "make run"),
        ("run: config.json\n\t./x\n", "make run"),
        ("serve: lib page\n\tx\nlib:\n\ty\npage:\n\tz\n", "make lib page, then make serve"),
        ("dev: watch\nwatch:\n\tx\n", "make dev"),
        ("run:\n\t./app\nbuild:\n\tcc\napp:\n\tcc\n", "make build, then make run"),
    ] {
        let told = guess(&[("Makefile", rules)]);
        assert!(told.ends_with(&format!(": {expected}")), "{rules}: {told}");
    }
}

#[test]
fn tasks_of_rake_and_programs_of_dune_are_found() {
    let rakefile = "task :test do\nend\ndesc 'x'\ntask run: :build do\nend\n";
    assert_eq!(guess(&[("Rakefile", rakefile)]), "Rake (Rakefile, task \"run\"): rake run");
    let rakefile = "namespace :x do\n  task :run\nend\ntask(\"serve\")\n";
    let bundled = [("Rakefile", rakefile), ("Gemfile", "")];
    assert!(guess(&bundled).ends_with("bundle exec rake serve"), "{}", guess(&bundled));
    assert_eq!(guess(&[("Rakefile", "task default: :spec\n")]), "unknown");
    let dune =
        [("dune-project", ""), ("bin/dune", "(executable\n (public_name shop)\n (name main))\n")];
    assert_eq!(
        guess(&dune),
        "dune (dune-project): dune build ./bin/main.exe, then _build/default/bin/main.exe"
    );
    let two = [("dune-project", ""), ("dune", "(executables (names a b))\n")];
    assert_eq!(guess(&two).matches(" -- _build/default/").count(), 2, "{}", guess(&two));
}

#[test]
fn tests_are_run_once_by_the_runner_that_the_project_has() {
    let tested = |files: &[(&str, &str)]| {
        let project = Project::new(files);
        let path = project.root.path().join("bin");
        let shop = project.root.path().join("shop");
        testing::of_others(&Place::new(&shop, path.as_os_str())).unwrap_or_default()
    };
    let script = |script: &str| {
        let package = serde_json::json!({ "scripts": { "test": script } }).to_string();
        tested(&[("package.json", &package)])
    };
    for (text, expected) in [
        ("vitest", "npx vitest run"),
        ("vitest --coverage", "npx vitest run --coverage"),
        ("vitest run", "npm test"),
        ("jest --watch", "npx jest"),
        ("jest && eslint .", "npm test"),
        // What a shell has to read is left to npm, also where a watcher would be taken out.
        ("jest --watch && echo done", "npm test"),
        ("vitest --run; echo done", "npm test"),
        ("vitest --reporter=$REPORTER", "npm test"),
        ("mocha --watch 'test/**/*.js'", "npm test"),
        ("node --test --watch", "node --test"),
        ("react-scripts test", "npm test -- --watchAll=false"),
        ("echo ok", "npm test"),
    ] {
        assert_eq!(script(text), expected, "{text}");
    }
    let dependency = "{\"devDependencies\": {\"vitest\": \"1\"}}";
    assert_eq!(tested(&[("package.json", dependency)]), "npx vitest run");
    for (files, expected) in [
        (&[(".rspec", ""), ("Gemfile", ""), ("Rakefile", "")][..], "bundle exec rspec"),
        (&[("Rakefile", "")], "rake test"),
        (&[("phpunit.xml", "")], "vendor/bin/phpunit"),
        (
            &[("composer.json", "{\"scripts\": {\"test\": \"x\"}}")],
            "composer run-script --timeout=0 test",
        ),
        (&[("artisan", "")], "php artisan test"),
        (&[("cpanfile", ""), ("t/a.t", "")], "prove -lr t"),
        (&[("gradlew", ""), ("build.gradle", "")], "./gradlew -q --console=plain test"),
        (&[("justfile", "test:\n  x\n")], "just test"),
        (&[("Makefile", "test: x\n")], "make test"),
        (&[("Makefile", "all: x\n")], ""),
        // Lines of recipes, and tasks that are indented.
        (&[("Makefile", "all:\n\ttest: x\n")], ""),
        (&[("justfile", "all:\n  test: x\n")], ""),
        (&[("Taskfile.yml", "tasks:\n  test:\n    cmd: x\n")], "task test"),
    ] {
        assert_eq!(tested(files), expected, "{files:?}");
    }
}

#[test]
fn a_command_that_follows_saves_itself_is_not_restarted_for_them() {
    let package = "{\"scripts\": {\"dev\": \"vite --port 1\", \"start\": \"node a.js\", \"ui\": \"npm run dev\"}}";
    let project = Project::new(&[("package.json", package), ("pnpm-lock.yaml", "")]);
    let directory = project.root.path().join("shop");
    let serves = |line: &str| {
        let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let is_served = !command::served_extensions(&directory, &argv).is_empty();
        assert_eq!(command::extensions(&directory, &argv) == Some(Vec::new()), is_served, "{line}");
        is_served
    };
    for line in [
        "vite",
        "npx vite dev",
        "node_modules/.bin/next dev",
        "npm run dev",
        "pnpm dev",
        "npm run ui",
    ] {
        assert!(serves(line), "{line}");
    }
    for line in
        ["vite build", "next start", "npm start", "node a.js", "npm run none", "npm test", "pnpm"]
    {
        assert!(!serves(line), "{line}");
    }
}

#[test]
fn a_lone_source_is_run_or_compiled_by_its_language() {
    for (file, expected) in [
        ("main.go", "Go (main.go, without go.mod): go build -o tmp/main main.go, then tmp/main"),
        ("main.rs", "Rust (main.rs): mkdir -p tmp && rustc -g -o tmp/main main.rs, then tmp/main"),
        ("main.tcl", "Tcl (main.tcl): tclsh main.tcl"),
        ("main.lisp", "Common Lisp (main.lisp): sbcl --script main.lisp"),
        ("main.hs", "this is a Haskell project (main.hs), and `ghc` is not installed"),
    ] {
        let project = Project::new(&[(file, "")]);
        for tool in ["go", "rustc", "tclsh", "sbcl"] {
            executable(&project.root.path().join("bin").join(tool), "");
        }
        assert!(project.guess().starts_with(expected), "{}", project.guess());
        let with_makefile = Project::new(&[(file, ""), ("Makefile", "run:\n\tx\n")]);
        assert!(with_makefile.guess().contains("make run"), "{file}");
    }
}

#[test]
fn of_a_makefile_without_run_the_programs_that_it_links_are_run() {
    let two = "all: client server\nserver: s.c\n\t$(CC) s.c -o server $(CFLAGS)\n\
               client: c.c\n\t$(CC) -o $@ c.c\nbench: b.c\n\tcc -o bench b.c\n";
    for (text, expected) in [
        (
            "all: kilo\nkilo: kilo.c\n\t$(CC) -o kilo kilo.c\nclean:\n\trm kilo\n",
            "make kilo, then ./kilo",
        ),
        (
            "TARGET := bin/app\n$(TARGET): $(OBJS)\n\t$(CC) $^ -o $@\n%.o: %.c\n\tcc -c $< -o $@\n",
            "make bin/app, then bin/app",
        ),
        (two, "--build.cmd 'make client' -- ./client | --build.cmd 'make server' -- ./server"),
        (
            "lib.so: a.c\n\tcc -shared -o lib.so a.c\n",
            "[build]\ncmd = \"make\"\nentrypoint = \"./app\"",
        ),
        ("a.o: a.c\n\tcc -c -o a.o a.c\nX = $(X)$(X)\n$(X): x\n\tcc -o $@\n", "./app\""),
    ] {
        let told = guess(&[("Makefile", text)]);
        assert!(told.ends_with(expected), "{text}: {told}");
    }
}

#[test]
fn where_nothing_can_be_run_the_projects_below_are_named() {
    let told = |files: &[(&str, &str)]| {
        let project = Project::new(files);
        let directory = project.root.path().join("shop");
        let own = guess_with(&directory, project.root.path().join("bin").as_os_str());
        match with_those_below(&directory, own) {
            Outcome::Unable { reason, remedy } => format!("{reason}; {remedy}"),
            other => format!("{other:?}"),
        }
    };
    let below = [
        ("api/Cargo.toml", ""),
        ("docs/package.json", "{\"scripts\": {\"dev\": \"node x\"}}"),
        ("examples/one/go.mod", ""),
        ("web/package.json", "{\"scripts\": {\"dev\": \"x\"}, \"dependencies\": {\"y\": \"1\"}}"),
    ];
    let list = "projects below can be run:\nhotrun -C api\nhotrun -C web\nhotrun -C examples/one";
    assert_eq!(told(&below), format!("no project that hotrun knows, and no configuration; {list}"));
    let with_containers = [&below[..], &[("compose.yaml", "")]].concat();
    let text = told(&with_containers);
    assert!(
        text.starts_with("compose.yaml describes") && text.ends_with(&format!(";\n{list}")),
        "{text}"
    );
    assert_eq!(told(&[("docs/a.md", "")]), "Unknown");
    // One whose tool is missing is a project, too, and needs that first.
    let of_haskell = [("one/main.hs", ""), ("one/src/main.py", "")];
    assert!(told(&of_haskell).ends_with("run:\nhotrun -C one"), "{}", told(&of_haskell));
    let tool = [("main.hs", ""), ("src/main.js", "")];
    assert!(told(&tool).starts_with("this is a Haskell"), "{}", told(&tool));
    assert!(!told(&tool).contains("-C"), "{}", told(&tool));
}

#[test]
fn the_restarts_of_spring_boots_devtools_are_turned_off() {
    let pom = |more: &str| {
        format!("<project><parent>spring-boot</parent><dependency>{more}</dependency></project>")
    };
    let main = ("src/main/java/App.java", "class App { public static void main(String[] a) {} }");
    let told = guess(&[("pom.xml", &pom("spring-boot-devtools")), main]);
    assert!(told.contains("java -Dspring.devtools.restart.enabled=false -cp"), "{told}");
    let told = guess(&[("pom.xml", &pom("x")), main]);
    assert!(told.contains("exec java -cp"), "{told}");
}
