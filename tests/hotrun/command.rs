//! Any command, any project: `hotrun COMMAND`, and what runs where no file says it.

use nix::sys::signal::{Signal, kill};

use crate::sandbox::{Sandbox, has, wait_until};

/// A script that says which version of a file it has read.
const SAYS: &str = "echo \"up $(cat data.txt) $*\"\nexec sleep 1000\n";

fn project() -> Sandbox {
    Sandbox::empty().script("run", SAYS).file("data.txt", "one\n")
}

#[test]
fn a_command_runs_and_is_restarted_on_saves() {
    let project = project();
    for words in
        [&["./run", "-a", "b"][..], &["--", "./run", "-a", "b"], &["run", "--", "./run", "-a", "b"]]
    {
        project.save("data.txt", "one\n");
        let mut hotrun = project.start(words);
        hotrun.wait_for("up one -a b");
        project.save("data.txt", "two\n");
        hotrun.wait_for("up two -a b");
        hotrun.end();
    }
}

#[test]
fn a_configuration_that_appears_does_not_make_a_command_arguments() {
    let project = project();
    let mut hotrun = project.start(&["./run", "a"]);
    hotrun.wait_for_all(&["up one a", "ready"]);
    project.save("hotrun.toml", "[build]\nentrypoint = \"./other\"\n[env]\nX = \"1\"\n");
    hotrun.wait_for("hotrun.toml");
    project.save("data.txt", "two\n");
    hotrun.wait_for("up two a");
    hotrun.end();
}

#[test]
fn beside_a_configuration_words_are_arguments_and_another_command_takes_x_or_run() {
    let config = "[build]\ncmd = \"touch built\"\nentrypoint = \"./run own\"\n";
    let project = project().file("hotrun.toml", config);
    for (words, expected) in [
        (&["a", "b"][..], "up one own a b"),
        (&["--", "a", "b"], "up one own a b"),
        (&["-x", "./run by x"], "up one by x"),
        (&["-x", "./run \"$@\"", "a", "b"], "up one a b"),
        (&["run", "--", "./run", "other"], "up one other"),
    ] {
        let _ = std::fs::remove_file(project.root().join("built"));
        let mut hotrun = project.start(words);
        hotrun.wait_for(expected);
        let is_built = project.root().join("built").exists();
        assert_eq!(
            is_built,
            expected.contains("own"),
            "what is built is not what is run: {words:?}"
        );
        hotrun.end();
    }
}

#[test]
fn short_options_choose_what_is_watched() {
    let project = project().file("lib/x.rs", "").file("doc/y.md", "").file("z.txt", "");
    let explain = |words: &[&str], path: &str| {
        let (code, stdout, stderr) =
            project.run(&[&["explain", path, "--build.entrypoint=./run"], words].concat());
        assert_eq!(code, 0, "{stderr}");
        !stdout.contains("ignored")
    };
    let all = ["lib/x.rs", "doc/y.md", "z.txt"];
    let seen = |words: &[&str]| all.map(|path| explain(words, path));
    assert_eq!(seen(&[]), [true, true, true]);
    assert_eq!(seen(&["-e", "rs,md"]), [true, true, false]);
    assert_eq!(seen(&["-e", "rs", "--ext", "txt"]), [true, false, true]);
    assert_eq!(seen(&["-w", "lib"]), [true, false, false]);
    assert_eq!(seen(&["-w", "lib", "-w", "doc"]), [true, true, false]);
    assert_eq!(seen(&["-w", "z.txt", "-e", "md"]), [false, true, true]);
    assert_eq!(seen(&["-i", "doc"]), [true, false, true]);
    assert_eq!(seen(&["-i", "*.md", "--ignore", "z.txt"]), [true, false, false]);
}

#[test]
fn a_command_that_does_not_exist_is_an_error_with_the_nearest_that_does() {
    let project = project().file("plain", "x").file("note", "");
    for (words, reason) in [
        (&["slepe", "1"][..], "slepe: command not found\n  help: did you mean `sleep`?"),
        (&["zzqqzzqq"], "zzqqzzqq: command not found\n  help: install it, or give its path"),
        (&["note"], "note: command not found\n  help: to run the file here: `hotrun ./note`"),
        (&["./plain"], "ROOT/plain: is not executable\n  help: chmod +x ./plain"),
        (&["./none"], "ROOT/none: no such file"),
    ] {
        let (code, stdout, stderr) = project.run(words);
        assert_eq!((code, stdout.as_str()), (2, ""), "{words:?} {stderr}");
        assert!(stderr.contains(reason), "{words:?}: {stderr}");
    }
}

#[test]
fn programs_that_the_project_has_installed_are_found_without_their_directory() {
    let project = Sandbox::empty()
        .script("node_modules/.bin/serve-shop", "echo up by node \"$@\"; exec sleep 1000\n")
        .script(".venv/bin/teste", "echo up by python; serve-shop below\n")
        .script(".venv/bin/python", "")
        .file("data.json", "");
    // (`teste` is a letter away from a command of hotrun's own.)
    for (words, expected) in [
        (&["serve-shop", "a"][..], "up by node a"),
        (&["teste"], "up by node below"),
        (&["-x", "serve-shop b"], "up by node b"),
    ] {
        let mut hotrun = project.start(words);
        hotrun.wait_for(expected);
        hotrun.end();
    }
    // A file that names such a program does what the command does.
    let project = project.file("hotrun.toml", "[build]\nentrypoint = \"serve-shop by-file\"\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("up by node by-file");
    hotrun.end();
    let (_, stdout, _) = project.run(&["check"]);
    assert!(stdout.contains("PATH  ROOT/.venv/bin:ROOT/node_modules/.bin:$PATH"), "{stdout}");
    // As with air, whose files never meant that.
    let project = project.file(".air.toml", "[build]\ncmd = \"true\"\nfull_bin = \"serve-shop\"\n");
    std::fs::remove_file(project.root().join("hotrun.toml")).unwrap();
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("not found");
    hotrun.end();
}

#[test]
fn a_dev_server_is_left_alone_while_it_runs_and_started_by_a_save_once_it_has_crashed() {
    let server = "echo serving $(cat a.ts) as $$\nexec sleep 1000\n";
    let project = Sandbox::empty().script("node_modules/.bin/vite", server).file("a.ts", "one\n");
    let by_file = "[build]\nentrypoint = \"node_modules/.bin/vite\"\ninclude_ext = []\n\
                   [run]\nrevive_ext = [\"ts\"]\n";
    for (words, text) in [(&["vite", "--host"][..], None), (&[], Some(by_file))] {
        if let Some(text) = text {
            project.save("hotrun.toml", text);
        }
        project.save("a.ts", "one\n");
        let mut hotrun = project.start(words);
        let server = hotrun.wait_serving("one");
        hotrun.wait_for("ready");
        let before = project.update();
        project.save("a.ts", "two\n");
        wait_until("hotrun has seen the save", || project.update() > before);
        // It is no source at all.
        project.save("b.md", "x\n");
        kill(server, Signal::SIGKILL).unwrap();
        hotrun.wait_for("waiting for a save");
        project.save("b.md", "y\n");
        project.save("a.ts", "three\n");
        assert!(hotrun.wait_for("changed").contains("a.ts"));
        hotrun.wait_serving("three");
        let output = hotrun.end();
        assert!(!output.contains("serving two") && !output.contains("b.md"), "{output}");
    }
    let (_, stdout, _) = project.run(&["explain", "a.ts"]);
    assert!(stdout.contains("restart if the program has exited"), "{stdout}");
    let (_, stdout, _) = project.run(&["check", "--no-config", "vite", "build"]);
    assert!(stdout.contains("all files"), "{stdout}");
}

#[test]
fn a_source_file_is_run_by_its_language() {
    let name = "a_source_file_is_run_by_its_language";
    let project = Sandbox::empty()
        .file("a.py", "import time\nprint('by python', flush=True)\ntime.sleep(1000)\n")
        .file("a.js", "console.log('by node'); setInterval(() => {}, 1000)\n")
        .file("a.sh", "echo by sh; exec sleep 1000\n");
    for (file, tool) in [("a.py", "python3"), ("a.js", "node"), ("a.sh", "sh")] {
        if has(&format!("{name} ({tool})"), &[tool]) {
            let mut hotrun = project.start(&[file]);
            hotrun.wait_for(&format!("by {}", tool.trim_end_matches('3')));
            hotrun.end();
        }
    }
}

/// A language's source that says this and stays, one that does not parse, and its tool.
struct Language {
    tool: &'static str,
    file: &'static str,
    good: fn(&str) -> String,
    bad: &'static str,
    complaint: &'static str,
}

const LANGUAGES: [Language; 4] = [
    Language {
        tool: "python3",
        file: "main.py",
        good: |word| format!("import time\nprint('up {word}', flush=True)\ntime.sleep(1000)\n"),
        bad: "def (\n",
        complaint: "SyntaxError",
    },
    Language {
        tool: "node",
        file: "server.js",
        good: |word| format!("console.log('up {word}'); setInterval(() => {{}}, 1000)\n"),
        bad: "const = 1\n",
        complaint: "SyntaxError",
    },
    Language {
        tool: "ruby",
        file: "app.rb",
        good: |word| format!("$stdout.sync = true\nputs 'up {word}'\nsleep\n"),
        bad: "def (\n",
        complaint: "app.rb",
    },
    Language {
        tool: "php",
        file: "server.php",
        good: |word| format!("<?php echo 'up {word}', PHP_EOL; while (true) sleep(1);\n"),
        bad: "<?php function (\n",
        complaint: "Parse error",
    },
];

#[test]
fn a_syntax_error_leaves_the_running_program_alone() {
    let name = "a_syntax_error_leaves_the_running_program_alone";
    for Language { tool, file, good, bad, complaint } in LANGUAGES {
        if !has(&format!("{name} ({tool})"), &[tool]) {
            continue;
        }
        let project = Sandbox::empty().file(file, &good("one"));
        let mut hotrun = project.start(&[]);
        hotrun.wait_for_all(&["up one", "ready"]);
        project.save(file, bad);
        hotrun.wait_for(complaint);
        let failed = hotrun.wait_for("failed");
        assert!(
            failed.contains("syntax check: 1 error · ") && failed.contains("keeps running"),
            "{failed}"
        );
        // Another file does not make the broken one good.
        project.save(&format!("other{}", &file[file.find('.').unwrap()..]), &good("other"));
        hotrun.wait_for("syntax check");
        project.save(file, &good("two"));
        hotrun.wait_for("up two");
        hotrun.end();
    }
}

#[test]
fn without_the_check_a_syntax_error_is_found_by_the_program() {
    if !has("without_the_check_a_syntax_error_is_found_by_the_program", &["python3"]) {
        return;
    }
    let Language { file, good, bad, .. } = &LANGUAGES[0];
    let project = Sandbox::empty().file(file, &good("one")).file("traceback.py", "no python");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_all(&["up one", "ready"]);
    // What the check itself imports is not the project's.
    project.save(file, &good("two"));
    hotrun.wait_for("up two");
    hotrun.end();
    let mut hotrun = project.start(&["--build.check=false"]);
    hotrun.wait_for("ready");
    project.save(file, bad);
    hotrun.wait_for_all(&["SyntaxError", "exit code 1"]);
    hotrun.end();
}

#[test]
fn a_check_that_cannot_run_or_takes_too_long_counts_as_passed() {
    // The same program checks, with this option, and runs. That of Node is started by a shell.
    for (program, option, file, checks) in [
        ("python", "-I", "main.py", ["exec sleep 1000", "exit 1", "exit 127", "kill -9 $$"]),
        ("node", "--check", "main.js", ["sleep 1000", "exit 126", "exit 127", "kill -9 $$"]),
    ] {
        for check in checks {
            let script = format!(
                "case \"$1\" in {option}) {check};; esac\necho \"up $(cat {file})\"\nexec sleep 1000\n"
            );
            let project = Sandbox::empty().script(program, &script).file(file, "one\n");
            let mut hotrun = project.start(&["run", "--", &format!("./{program}"), file]);
            hotrun.wait_for("up one");
            project.save(file, "two\n");
            if check.contains("sleep") {
                let warning = hotrun.wait_for("counts as passed");
                assert!(warning.contains(file) && warning.contains("[build] check = false"));
            }
            hotrun.wait_for("up two");
            hotrun.end();
        }
    }
}

#[test]
fn what_a_command_would_do_can_be_shown() {
    let project = project().script("node_modules/.bin/tsx", "").file("a.ts", "");
    for (words, run, watched) in [
        (&["check", "./run", "a", "-b"][..], "run  ROOT/run a -b", "all files"),
        (&["check", "--", "tsx", "a.ts"], "run  tsx a.ts", "files ending in cjs"),
        (&["check", "-x", "./run | cat"], "run  ./run | cat", "all files"),
    ] {
        let (code, stdout, stderr) = project.run(words);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains(run) && stdout.contains(watched), "{words:?}: {stdout}");
    }
}

#[test]
fn a_file_that_never_passed_the_check_holds_up_one_restart_and_no_second() {
    let name = "a_file_that_never_passed_the_check_holds_up_one_restart_and_no_second";
    if !has(name, &["python3"]) {
        return;
    }
    let Language { file, good, bad, .. } = &LANGUAGES[0];
    let project = Sandbox::empty().file(file, &good("one"));
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_all(&["up one", "ready"]);
    project.save("template.py", "def {{ name }}(\n");
    hotrun.wait_for("syntax check");
    project.save(file, &good("two"));
    hotrun.wait_for("template.py did not pass the syntax check");
    hotrun.wait_for("up two");
    // What has passed is known to be Python.
    project.save("part.py", "x = 1\n");
    hotrun.wait_for("up two");
    project.save("part.py", bad);
    hotrun.wait_for("syntax check");
    project.save("other.py", "x = 1\n");
    hotrun.wait_for("syntax check");
    assert_eq!(hotrun.count("did not pass"), 1, "the other file is not to blame");
    // However many files change, what failed is checked.
    for number in 0..12 {
        project.save(&format!("made{number}.py"), "x = 1\n");
    }
    hotrun.wait_for("syntax check");
    project.save("part.py", "x = 2\n");
    hotrun.wait_for("up two");
    hotrun.end();
}

#[test]
fn slow_checks_are_turned_off_for_good() {
    let python = "case \"$1\" in -I) sleep 0.2; exit 65;; esac\necho \"up $(cat main.py)\"\n\
                  exec sleep 1000\n";
    let project = Sandbox::empty().script("python", python).file("main.py", "0\n");
    let mut hotrun = project.start(&["run", "--", "./python", "main.py"]);
    hotrun.wait_for("up 0");
    for number in 1..=5 {
        project.save("main.py", &format!("{number}\n"));
        hotrun.wait_for("syntax check");
    }
    for number in 6..9 {
        project.save("main.py", &format!("{number}\n"));
        hotrun.wait_for(&format!("up {number}"));
    }
    assert_eq!(hotrun.count("are off now"), 1);
    let warning = "ms, for main.py), and are off now; to keep them off: [build] check = false";
    assert_eq!(hotrun.count(warning), 1, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_command_beside_a_configuration_does_not_follow_rules_for_its_program() {
    let config = "[build]\nentrypoint = \"./run\"\n[run]\non_exit = \"restart\"\n\
                  [ready]\nlog = \"never\"\n";
    let project = project().file("hotrun.toml", config);
    let mut server = project.start_plain(&[]);
    server.wait_for("up one");
    // Another command is no second hotrun of the same program.
    let mut hotrun = project.start_plain(&["-x", "echo tested"]);
    hotrun.wait_for("exit code 0; waiting for a save");
    assert_eq!(hotrun.count("started"), 1);
    hotrun.signal(Signal::SIGINT);
    hotrun.wait();
    server.end();
}

#[test]
fn a_guess_is_said_and_follows_its_manifest() {
    let name = "a_guess_is_said_and_follows_its_manifest";
    if !has(name, &["node", "npm"]) {
        return;
    }
    let says = |word: &str| format!("console.log('up {word}'); setInterval(() => {{}}, 1000)\n");
    let package = |script: &str| format!("{{\"scripts\": {{\"dev\": \"{script}\"}}}}\n");
    let project = Sandbox::empty()
        .file("a.js", &says("a"))
        .file("b.js", &says("b"))
        .file("package.json", &package("nodemon -q a.js"));
    let mut hotrun = project.start(&[]);
    let line = hotrun.wait_for("node a.js");
    assert!(line.contains("Node (package.json, script \"dev\"): node a.js"), "{line}");
    hotrun.wait_for("up a");
    project.save("package.json", &package("nodemon -q b.js"));
    hotrun.wait_for("up b");
    // Half a file is no reason to stop.
    project.save("package.json", "{");
    hotrun.wait_for("package.json cannot be read");
    project.save("package.json", &package("nodemon -q a.js"));
    hotrun.wait_for("up a");
    hotrun.end();
}

#[test]
fn missing_dependencies_are_named_with_the_command_that_installs_them() {
    if !has("missing_dependencies_are_named_with_the_command_that_installs_them", &["npm"]) {
        return;
    }
    let package = "{\"scripts\": {\"dev\": \"node a.js\"}, \"dependencies\": {\"x\": \"1\"}}";
    let project = Sandbox::empty().file("package.json", package).file("a.js", "");
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("dependencies are not installed\n  help: `npm install`"), "{stderr}");
}

#[test]
fn of_several_programs_each_is_offered_as_a_command_that_works() {
    if !has("of_several_programs_each_is_offered_as_a_command_that_works", &["python3"]) {
        return;
    }
    let source = |word: &str| {
        format!("if __name__ == '__main__':\n    print('up {word}', flush=True)\n    input()\n")
    };
    let project = Sandbox::empty().file("one.py", &source("one")).file("two.py", &source("two"));
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 2);
    let command = stderr.lines().find(|line| line.contains("two.py")).unwrap().trim();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let mut hotrun = project.start(&words);
    hotrun.wait_for("up two");
    hotrun.end();
}

#[test]
fn of_several_programs_that_are_built_each_command_builds_and_runs() {
    let name = "of_several_programs_that_are_built_each_command_builds_and_runs";
    if !has(name, &["make"]) {
        return;
    }
    let makefile = "all: one two\none: data.txt\n\tcp run $@ # -o $@\n\
                    two: data.txt\n\tcp run $@ # -o $@\n";
    let project = project().file("Makefile", makefile);
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 2, "{stderr}");
    let command = stderr.lines().find(|line| line.contains("./two")).unwrap().trim();
    let words = ["--build.cmd", "make two", "--", "./two"];
    assert_eq!(command, "hotrun --build.cmd 'make two' -- ./two");
    let mut hotrun = project.start(&words);
    hotrun.wait_for_all(&["building  make two", "up one", "started"]);
    project.save("data.txt", "two\n");
    hotrun.wait_for_all(&["built", "up two"]);
    hotrun.end();
}

const MANIFEST: &str =
    "[package]\nname = \"shelf\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";

#[test]
fn a_library_is_checked_and_its_tests_run_on_request() {
    if !has("a_library_is_checked_and_its_tests_run_on_request", &["cargo"]) {
        return;
    }
    let source = |body: &str| {
        format!(
            "pub fn one() -> u8 {{ {body} }}\n#[test]\nfn is_one() {{ assert_eq!(one(), 1); }}\n"
        )
    };
    let project = Sandbox::empty().file("Cargo.toml", MANIFEST).file("src/lib.rs", &source("1"));
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("building  cargo check");
    hotrun.wait_for("checked  in");
    project.save("src/lib.rs", &source("\"1\""));
    hotrun.wait_for("mismatched types");
    hotrun.wait_for("waiting for a save");
    project.save("src/lib.rs", &source("2"));
    hotrun.wait_for("checked  in");
    hotrun.end();
    let mut hotrun = project.start(&["test", "--", "--color", "never"]);
    hotrun.wait_for("is_one ... FAILED");
    project.save("src/lib.rs", &source("1"));
    hotrun.wait_for("is_one ... ok");
    hotrun.end();
}

#[test]
fn a_project_that_says_how_it_is_tested_is_tested_so() {
    let tests = |file: &str, text: &str| Sandbox::empty().file(file, text);
    let name = "a_project_that_says_how_it_is_tested_is_tested_so";
    if has(&format!("{name} (make)"), &["make"]) {
        let project = tests("Makefile", "test:\n\t@echo all tested\n");
        let mut hotrun = project.start(&["test"]);
        hotrun.wait_for("all tested");
        hotrun.end();
    }
    if has(&format!("{name} (npm)"), &["npm"]) {
        let project = tests("package.json", "{\"scripts\": {\"test\": \"echo all tested\"}}");
        let mut hotrun = project.start(&["test"]);
        hotrun.wait_for_line("all tested");
        hotrun.end();
    }
    let (code, _, stderr) = Sandbox::empty().run(&["test"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("does not know how to test this project"), "{stderr}");
}
