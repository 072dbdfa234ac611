//! Languages that are run from their sources.

use super::{Kind, run_each};

const PYTHON: &str = "import time\nprint('up WORD', flush=True)\ntime.sleep(1000)\n";
const SHELL: &str = "#!/bin/sh\necho up WORD\nexec sleep 1000\n";

const KINDS: [Kind; 18] = [
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
        name: "Python console script",
        tools: &["python3"],
        files: &[
            (
                "shop.py",
                "def main():\n    import time\n    print(\"up WORD\", flush=True)\n    time.sleep(1000)\n",
            ),
            ("setup.cfg", "[options.entry_points]\nconsole_scripts =\n    shop = shop:main\n"),
            (".venv/bin/python", "#!/bin/sh\nexec python3 \"$@\"\n"),
            (".venv/bin/shop", "#!/bin/sh\nexec python3 -c 'import shop; shop.main()'\n"),
        ],
        guess: ".venv/bin/shop",
        broken: None,
    },
    Kind {
        name: "an Elixir script",
        tools: &["elixir"],
        files: &[("main.exs", "IO.puts(\"up WORD\")\nProcess.sleep(:infinity)\n")],
        guess: "elixir main.exs",
        broken: None,
    },
    Kind {
        name: "Tcl",
        tools: &["tclsh"],
        files: &[("main.tcl", "puts \"up WORD\"\nflush stdout\nvwait forever\n")],
        guess: "tclsh main.tcl",
        broken: None,
    },
    Kind {
        name: "Guile",
        tools: &["guile"],
        files: &[("main.scm", "(display \"up WORD\\n\") (force-output) (sleep 1000)\n")],
        guess: "guile --no-auto-compile -L . main.scm",
        broken: None,
    },
    Kind {
        name: "Common Lisp",
        tools: &["sbcl"],
        files: &[("main.lisp", "(format t \"up WORD~%\") (finish-output) (sleep 1000)\n")],
        guess: "sbcl --script main.lisp",
        broken: None,
    },
    Kind {
        name: "Racket",
        tools: &["racket"],
        files: &[(
            "main.rkt",
            "#lang racket/base\n(displayln \"up WORD\") (flush-output) (sleep 1000)\n",
        )],
        guess: "racket main.rkt",
        broken: None,
    },
    Kind {
        name: "R",
        tools: &["Rscript"],
        files: &[("main.R", "cat(\"up WORD\\n\"); Sys.sleep(1000)\n")],
        guess: "Rscript main.R",
        broken: None,
    },
    Kind {
        name: "Groovy",
        tools: &["groovy"],
        files: &[("main.groovy", "println \"up WORD\"; System.out.flush(); sleep 1000000\n")],
        guess: "groovy main.groovy",
        broken: None,
    },
    Kind {
        name: "Rack",
        tools: &["ruby", "rackup", "puma"],
        files: &[(
            "config.ru",
            "$stdout.sync = true\nputs 'up WORD'\nrun ->(_) { [200, {}, []] }\n",
        )],
        guess: "rackup",
        broken: Some("def (\n"),
    },
    Kind {
        name: "PSGI",
        tools: &["plackup"],
        files: &[("app.psgi", "$| = 1; print \"up WORD\\n\"; sub { [200, [], []] };\n")],
        guess: "plackup app.psgi",
        broken: None,
    },
];

#[test]
fn scripts_of_many_languages_run_and_their_new_code_runs_after_a_save() {
    run_each("scripts_of_many_languages_run_and_their_new_code_runs_after_a_save", &KINDS);
}
