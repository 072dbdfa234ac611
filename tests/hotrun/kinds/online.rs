//! Projects whose packages come from the registries, as their users install them.

use nix::sys::signal::{Signal, kill};

use super::try_one;
use crate::sandbox::{Sandbox, free_port, get, has, may_fetch, pid_in};

/// A project after its owner's setup.
struct Installed {
    name: &'static str,
    tools: &'static [&'static str],
    files: &'static [(&'static str, &'static str)],
    /// What its owner types first.
    setup: &'static str,
    guess: &'static str,
    broken: Option<&'static str>,
}

const NODE: &str =
    "const word: string = 'up WORD'; console.log(word); setInterval(() => {}, 1000);\n";
const VENV: &str = "python3 -m venv .venv && .venv/bin/pip install --quiet -r requirements.txt";

const PROJECTS: [Installed; 10] = [
    Installed {
        name: "tsx",
        tools: &["node", "npm"],
        files: &[
            ("a.ts", NODE),
            (
                "package.json",
                "{\"scripts\": {\"dev\": \"tsx watch a.ts\"}, \"devDependencies\": {\"tsx\": \"4\"}}",
            ),
        ],
        setup: "npm install --silent",
        guess: "./node_modules/.bin/tsx a.ts",
        broken: Some("const = 1;\n"),
    },
    Installed {
        name: "tsc and node",
        tools: &["node", "npm"],
        files: &[
            ("src/a.ts", NODE),
            (
                "tsconfig.json",
                "{\"compilerOptions\": {\"outDir\": \"dist\", \"types\": [\"node\"]}}",
            ),
            (
                "package.json",
                "{\"scripts\": {\"build\": \"tsc\", \"start\": \"node dist/a.js\"}, \
                 \"devDependencies\": {\"typescript\": \"5\", \"@types/node\": \"20\"}}",
            ),
        ],
        setup: "npm install --silent",
        guess: "npm run build, then node dist/a.js",
        broken: Some("const = 1;\n"),
    },
    Installed {
        name: "nodemon and ts-node",
        tools: &["node", "npm"],
        files: &[
            ("a.ts", NODE),
            ("tsconfig.json", "{}"),
            (
                "package.json",
                "{\"scripts\": {\"dev\": \"nodemon --exec ts-node a.ts\"}, \"devDependencies\": \
                 {\"ts-node\": \"10\", \"typescript\": \"5\", \"@types/node\": \"20\"}}",
            ),
        ],
        setup: "npm install --silent",
        guess: "./node_modules/.bin/ts-node a.ts",
        broken: None,
    },
    Installed {
        name: "Express",
        tools: &["node", "npm"],
        files: &[
            ("index.js", "require('express')().listen(0, () => console.log('up WORD'));\n"),
            ("package.json", "{\"main\": \"index.js\", \"dependencies\": {\"express\": \"4\"}}"),
        ],
        setup: "npm install --silent",
        guess: "node index.js",
        broken: Some("const = 1;\n"),
    },
    Installed {
        name: "npm workspaces",
        tools: &["node", "npm"],
        files: &[
            ("packages/api/a.ts", NODE),
            (
                "packages/api/package.json",
                "{\"name\": \"api\", \"version\": \"1.0.0\", \"scripts\": {\"dev\": \
                 \"tsx watch a.ts\"}, \"devDependencies\": {\"tsx\": \"4\"}}",
            ),
            ("package.json", "{\"workspaces\": [\"packages/*\"]}"),
        ],
        setup: "npm install --silent",
        guess: "cd packages/api && exec npx tsx a.ts",
        broken: None,
    },
    Installed {
        name: "Flask",
        tools: &["python3"],
        files: &[
            (
                "app.py",
                "from flask import Flask\nprint('up WORD', flush=True)\napp = Flask(__name__)\n\
                 if __name__ == '__main__':\n    app.run(port=15731)\n",
            ),
            ("requirements.txt", "flask\n"),
        ],
        setup: VENV,
        guess: ".venv/bin/python -m flask --app app run --no-reload --port 15731",
        broken: Some("def (\n"),
    },
    Installed {
        name: "FastAPI",
        tools: &["python3"],
        files: &[
            (
                "main.py",
                "import uvicorn\nfrom fastapi import FastAPI\nprint('up WORD', flush=True)\n\
                 app = FastAPI()\nif __name__ == '__main__':\n    uvicorn.run('main:app', port=15732)\n",
            ),
            ("requirements.txt", "fastapi\nuvicorn\n"),
        ],
        setup: VENV,
        guess: ".venv/bin/python -m uvicorn main:app --fd 3",
        broken: Some("def (\n"),
    },
    Installed {
        name: "Django",
        tools: &["python3"],
        files: &[
            ("shop/urls.py", "print('up WORD', flush=True)\nurlpatterns = []\n"),
            ("requirements.txt", "django\n"),
        ],
        setup: "python3 -m venv .venv && .venv/bin/pip install --quiet django && cp shop/urls.py own && \
                rm -r shop && .venv/bin/django-admin startproject shop . && mv own shop/urls.py",
        guess: ".venv/bin/python manage.py runserver --noreload",
        broken: Some("def (\n"),
    },
    Installed {
        name: "a console script",
        tools: &["python3"],
        files: &[
            (
                "shop.py",
                "import time\ndef main():\n    print('up WORD', flush=True)\n    time.sleep(1000)\n",
            ),
            (
                "pyproject.toml",
                "[project]\nname = \"shop\"\nversion = \"1\"\n[project.scripts]\n\
                 shop = \"shop:main\"\n[tool.setuptools]\npy-modules = [\"shop\"]\n",
            ),
        ],
        setup: "python3 -m venv .venv && .venv/bin/pip install --quiet -e .",
        guess: ".venv/bin/shop",
        broken: None,
    },
    Installed {
        name: "Maven",
        tools: &["mvn", "java", "javac"],
        files: &[
            (
                "src/main/java/shop/App.java",
                "package shop;\npublic class App { public static void main(String[] a) throws \
                 Exception {\nSystem.out.println(\"up WORD\"); Thread.sleep(1000000); } }\n",
            ),
            (
                "pom.xml",
                "<project><modelVersion>4.0.0</modelVersion><groupId>shop</groupId>\
                 <artifactId>shop</artifactId><version>1</version><properties>\
                 <maven.compiler.source>17</maven.compiler.source>\
                 <maven.compiler.target>17</maven.compiler.target></properties></project>\n",
            ),
        ],
        setup: "true",
        guess: "mvn -q compile, then java -cp target/classes shop.App",
        broken: Some("class {\n"),
    },
];

#[test]
fn installed_projects_run_and_their_new_code_runs_after_a_save() {
    let test = "installed_projects_run_and_their_new_code_runs_after_a_save";
    if !may_fetch(test) {
        return;
    }
    for Installed { name, tools, files, setup, guess, broken } in PROJECTS {
        if !has(&format!("{test} ({name})"), tools) {
            continue;
        }
        let mut project = Sandbox::empty();
        for (file, text) in files {
            project = project.file(file, &text.replace("WORD", "one"));
        }
        project.sh(setup);
        try_one(name, &project, files[0], guess, broken);
    }
}

#[test]
fn an_installed_dev_server_follows_saves_itself_and_is_started_again_once_it_has_crashed() {
    let test =
        "an_installed_dev_server_follows_saves_itself_and_is_started_again_once_it_has_crashed";
    if !may_fetch(test) || !has(test, &["node", "npm"]) {
        return;
    }
    let port = free_port();
    let config = format!("export default {{ server: {{ port: {port}, host: '127.0.0.1' }} }};\n");
    let package = "{\"type\": \"module\", \"scripts\": {\"dev\": \"vite\"}, \"devDependencies\": \
                   {\"vite\": \"5\"}}";
    let project = Sandbox::empty()
        .file("package.json", package)
        .file("vite.config.ts", &config)
        .file("index.html", "<script type=module src=/a.ts></script>\n")
        .file("a.ts", "const word: string = 'one'; console.log(word);\n");
    project.sh("npm install --silent");
    let mut hotrun = project.start_plain(&[]);
    let server = pid_in(&hotrun.wait_for("started"));
    hotrun.wait_for("ready");
    assert!(get(port, "/a.ts").contains("one"));
    // Vite compiles its settings to a file beside them for each start.
    project.save("a.ts", "const word: string = 'two'; console.log(word);\n");
    while !get(port, "/a.ts").contains("two") {}
    kill(server, Signal::SIGKILL).unwrap();
    hotrun.wait_for("waiting for a save");
    project.save("a.ts", "const word: string = 'three'; console.log(word);\n");
    hotrun.wait_for("ready");
    assert!(get(port, "/a.ts").contains("three"));
    let output = hotrun.end();
    assert_eq!(output.matches("changed").count(), 1, "{output}");
}
