//! Projects of many kinds, as their own tools would make them: `hotrun` alone runs each, and runs
//! the new code after a save. Tools that are not installed are named and skipped.

use std::time::Instant;

use crate::sandbox::{Sandbox, has};

struct Kind {
    name: &'static str,
    tools: &'static [&'static str],
    /// The files; `WORD` is what the program prints.
    files: &'static [(&'static str, &'static str)],
    /// What hotrun says that it runs.
    guess: &'static str,
    /// A source that does not parse, where such a save must leave the program alone.
    broken: Option<&'static str>,
}

const NODE: &str = "console.log('up WORD'); setInterval(() => {}, 1000);\n";
const PYTHON: &str = "import time\nprint('up WORD', flush=True)\ntime.sleep(1000)\n";
const C: &str = "#include <stdio.h>\n#include <unistd.h>\n\
                 int main(void) { puts(\"up WORD\"); fflush(stdout); for (;;) pause(); }\n";
const SHELL: &str = "#!/bin/sh\necho up WORD\nexec sleep 1000\n";

/// The file with the source comes first.
const KINDS: [Kind; 24] = [
    Kind {
        name: "a Node file",
        tools: &["node"],
        files: &[("server.js", NODE)],
        guess: "node server.js",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "a Node module",
        tools: &["node"],
        files: &[("index.mjs", NODE)],
        guess: "node index.mjs",
        broken: Some("import const;\n"),
    },
    Kind {
        name: "npm main",
        tools: &["node", "npm"],
        files: &[("lib.js", NODE), ("package.json", "{\"main\": \"lib.js\"}")],
        guess: "node lib.js",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "nodemon script",
        tools: &["node", "npm"],
        files: &[("a.js", NODE), ("package.json", "{\"scripts\": {\"dev\": \"nodemon -q a.js\"}}")],
        guess: "node a.js",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "node --watch script",
        tools: &["node", "npm"],
        files: &[
            ("a.js", NODE),
            ("package.json", "{\"scripts\": {\"start\": \"A=b node --watch a.js\"}}"),
        ],
        guess: "node a.js",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "build and run script",
        tools: &["node", "npm"],
        files: &[
            ("a.js", NODE),
            (
                "package.json",
                "{\"scripts\": {\"dev\": \"mkdir -p dist && cp a.js dist && node dist/a.js\"}}",
            ),
        ],
        guess: "mkdir -p dist && cp a.js dist, then node dist/a.js",
        broken: None,
    },
    Kind {
        name: "a Python file",
        tools: &["python3"],
        files: &[("main.py", PYTHON)],
        guess: "python3 main.py",
        broken: Some("def (\n"),
    },
    Kind {
        name: "a Python package",
        tools: &["python3"],
        files: &[
            ("shop/__main__.py", PYTHON),
            ("shop/__init__.py", ""),
            ("pyproject.toml", "[project]\nname = \"shop\"\nversion = \"1\"\n"),
        ],
        guess: "python3 -m shop",
        broken: Some("def (\n"),
    },
    Kind {
        name: "a lone script",
        tools: &["python3"],
        files: &[("tool.py", PYTHON)],
        guess: "python3 tool.py",
        broken: Some("def (\n"),
    },
    Kind {
        name: "a Ruby file",
        tools: &["ruby"],
        files: &[("app.rb", "$stdout.sync = true\nputs 'up WORD'\nsleep\n")],
        guess: "ruby app.rb",
        broken: Some("def (\n"),
    },
    Kind {
        name: "a PHP file",
        tools: &["php"],
        files: &[("server.php", "<?php echo \"up WORD\\n\"; while (true) sleep(1);\n")],
        guess: "php server.php",
        broken: Some("<?php function (\n"),
    },
    Kind {
        name: "a Perl file",
        tools: &["perl"],
        files: &[("app.pl", "$| = 1; print \"up WORD\\n\"; sleep 1000;\n")],
        guess: "perl app.pl",
        broken: None,
    },
    Kind {
        name: "a Lua file",
        tools: &["lua"],
        files: &[("main.lua", "print('up WORD') io.stdout:flush() os.execute('sleep 1000')\n")],
        guess: "lua main.lua",
        broken: None,
    },
    Kind {
        name: "a shell script",
        tools: &["sh"],
        files: &[("run.sh", SHELL)],
        guess: "run.sh",
        broken: None,
    },
    Kind {
        name: "a C file",
        tools: &["cc"],
        files: &[("main.c", C)],
        guess: "tmp/main",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "C in src",
        tools: &["cc"],
        files: &[("src/main.c", C)],
        guess: "tmp/main",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "make",
        tools: &["make", "cc"],
        files: &[
            ("x.c", C),
            ("Makefile", "build: app\napp: x.c\n\tcc -o app x.c\nrun:\n\t./app\n"),
        ],
        guess: "make build, then make run",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "make, whose default runs",
        tools: &["make", "cc"],
        files: &[
            ("x.c", C),
            ("Makefile", "all: app run\napp: x.c\n\tcc -o app x.c\nrun: app\n\t./app\n"),
        ],
        guess: "make app, then make run",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "CMake",
        tools: &["cmake", "make", "cc"],
        files: &[
            ("main.c", C),
            (
                "CMakeLists.txt",
                "cmake_minimum_required(VERSION 3.10)\nproject(shop C)\nadd_executable(till main.c)\n",
            ),
        ],
        guess: "build/till",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "Meson",
        tools: &["meson", "ninja", "cc"],
        files: &[
            ("main.c", C),
            ("meson.build", "project('shop', 'c')\nexecutable('till', 'main.c')\n"),
        ],
        guess: "build/till",
        broken: Some("int main(\n"),
    },
    Kind {
        name: "a Java file",
        tools: &["java", "javac"],
        files: &[(
            "Main.java",
            "class Main { public static void main(String[] a) throws Exception {\n\
             System.out.println(\"up WORD\"); Thread.sleep(1000000); } }\n",
        )],
        guess: "java Main.java",
        broken: None,
    },
    Kind {
        name: "Procfile",
        tools: &["sh"],
        files: &[("work", SHELL), ("Procfile", "web: sh work -p $PORT\n")],
        guess: "sh work -p $PORT",
        broken: None,
    },
    Kind {
        name: "Deno",
        tools: &["deno"],
        files: &[
            ("main.ts", "console.log('up WORD'); setInterval(() => {}, 1000);\n"),
            ("deno.json", "{\"tasks\": {\"dev\": \"deno run --watch main.ts\"}}"),
        ],
        guess: "deno run main.ts",
        broken: Some("const = 1;\n"),
    },
    Kind {
        name: "just",
        tools: &["just"],
        files: &[("work", SHELL), ("justfile", "run:\n    sh work\n")],
        guess: "just run",
        broken: None,
    },
];

#[test]
fn hotrun_alone_runs_projects_of_many_kinds_and_their_new_code_after_a_save() {
    let test = "hotrun_alone_runs_projects_of_many_kinds";
    for Kind { name, tools, files, guess, broken } in KINDS {
        if !has(&format!("{test} ({name})"), tools) {
            continue;
        }
        let mut project = Sandbox::empty();
        for (file, text) in files {
            project = project.file(file, &text.replace("WORD", "one"));
        }
        let (source, text) = files[0];
        let began = Instant::now();
        let mut hotrun = project.start(&[]);
        let line = hotrun.wait_for("guess");
        assert!(line.contains(guess), "{name}: {line}");
        hotrun.wait_for_all(&["up one", "ready"]);
        // The table of what runs; shown with --nocapture.
        println!("{name:25} {line}; up in {} ms", began.elapsed().as_millis());
        if let Some(broken) = broken {
            project.save(source, broken);
            let failed = hotrun.wait_for("keeps running");
            assert!(failed.contains("failed"), "{name}: {failed}");
        }
        project.save(source, &text.replace("WORD", "two"));
        hotrun.wait_for("up two");
        let output = hotrun.end();
        let is_up = |line: &&str| line.trim() == "up two";
        assert_eq!(output.lines().filter(is_up).count(), 1, "{name}: {output}");
    }
}
