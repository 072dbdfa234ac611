//! Files that name commands.

use super::{Kind, run_each};

const SHELL: &str = "#!/bin/sh\necho up WORD\nexec sleep 1000\n";

const KINDS: [Kind; 6] = [
    Kind {
        name: "Procfile",
        tools: &["sh"],
        files: &[("work", SHELL), ("Procfile", "web: sh work -p $PORT\n")],
        guess: "sh work -p $PORT",
        broken: None,
    },
    Kind {
        name: "just",
        tools: &["just"],
        files: &[("work", SHELL), ("justfile", "run:\n    sh work\n")],
        guess: "just run",
        broken: None,
    },
    Kind {
        name: "Rake",
        tools: &["rake"],
        files: &[("work", SHELL), ("Rakefile", "task :run do\n  exec 'sh', 'work'\nend\n")],
        guess: "rake run",
        broken: None,
    },
    Kind {
        name: "Procfile with several processes",
        tools: &["sh"],
        files: &[("work", SHELL), ("Procfile", "worker: sleep 1\nweb: sh work\n")],
        guess: "sh work",
        broken: None,
    },
    Kind {
        name: "Task",
        tools: &["task"],
        files: &[
            ("work", SHELL),
            ("Taskfile.yml", "version: '3'\ntasks:\n  dev:\n    cmds: [sh work]\n"),
        ],
        guess: "task dev",
        broken: None,
    },
    Kind {
        name: "mise",
        tools: &["mise"],
        files: &[("work", SHELL), ("mise.toml", "[tasks]\ndev = 'sh work'\n")],
        guess: "mise run dev",
        broken: None,
    },
];

#[test]
fn tasks_run_and_their_new_code_runs_after_a_save() {
    run_each("tasks_run_and_their_new_code_runs_after_a_save", &KINDS);
}
