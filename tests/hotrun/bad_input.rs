//! Each bad input: one clear message with file, key and remedy, the right exit code, and
//! nothing left running.

use crate::sandbox::{CONFIG, Sandbox};

/// hotrun refuses this configuration, with these whole words on stderr and exit code 2.
#[track_caller]
fn refuses(name: &str, text: &str, expected: &str) {
    let project = Sandbox::new();
    project.sh("rm hotrun.toml");
    let project = project.file(name, text);
    let (code, stdout, stderr) = project.run(&[]);
    assert_eq!(stderr, expected);
    assert_eq!((code, stdout.as_str()), (2, ""));
}

#[test]
fn broken_toml() {
    refuses(
        "hotrun.toml",
        "[build]\ncmd = \"x\n",
        "hotrun: hotrun.toml:2:9: invalid basic string, expected `\"`\n  \
         2 | cmd = \"x\n    |         ^\n",
    );
    refuses(
        ".air.toml",
        "[build]\nbin = \"x\"\nbin = \"y\"\n",
        "hotrun: .air.toml:3:1: duplicate key bin, first set in line 2\n  \
         3 | bin = \"y\"\n    | ^^^\n  \
         help: remove one of the two\n",
    );
}

#[test]
fn a_wrong_type() {
    refuses(
        "hotrun.toml",
        "[build]\ncmd = \"true\"\ndelay = \"fast\"\n",
        "hotrun: hotrun.toml:3:9: build.delay = \"fast\": \
         expected a duration, for example \"500ms\" or \"5s\"\n  \
         3 | delay = \"fast\"\n    |         ^^^^^^\n",
    );
    refuses(
        ".air.toml",
        "[build]\npre_cmd = \"make\"\n",
        "hotrun: .air.toml:2:11: build.pre_cmd = \"make\": \
         expected a list of strings, for example [\"a\", \"b\"]\n  \
         2 | pre_cmd = \"make\"\n    |           ^^^^^^\n",
    );
    refuses(
        "hotrun.toml",
        "[build]\ncmd = \"true\"\nkill_delay = \"5\"\n",
        "hotrun: hotrun.toml:3:14: build.kill_delay = \"5\": 5 has no unit\n  \
         3 | kill_delay = \"5\"\n    |              ^^^\n  \
         help: write \"5s\" or \"5ms\"\n",
    );
    refuses(
        "hotrun.toml",
        "[build]\r\ncmd = \"äh\"\r\n[run]\r\nsignal = \"STOPIT\" # é",
        "hotrun: hotrun.toml:4:10: run.signal = \"STOPIT\": \
         expected a signal's name, for example \"TERM\"\n  \
         4 | signal = \"STOPIT\" # é\n    |          ^^^^^^^^\n",
    );
}

#[test]
fn a_number_without_a_unit_that_may_mean_seconds() {
    for (key, table) in [
        ("kill_delay", "build"),
        ("delay", "build"),
        ("rerun_delay", "build"),
        ("poll_interval", "build"),
        ("cancel_grace", "build"),
        ("debounce", "watch"),
        ("timeout", "ready"),
    ] {
        let project = Sandbox::new();
        let (code, _, stderr) = project.run(&[&format!("--{table}.{key}=5"), "check"]);
        let expected =
            format!("hotrun: --{table}.{key} 5: 5 has no unit\n  help: write \"5s\" or \"5ms\"\n");
        assert_eq!((code, stderr), (2, expected));
        let (code, _, stderr) = project.run(&[&format!("--{table}.{key}=100"), "check"]);
        assert_eq!((code, stderr.as_str()), (0, ""));
    }
    refuses(
        "hotrun.toml",
        "[build]\ncmd = \"true\"\nkill_delay = 5\n",
        "hotrun: hotrun.toml:3:14: build.kill_delay = 5: 5 has no unit\n  \
         3 | kill_delay = 5\n    |              ^\n  help: write \"5s\" or \"5ms\"\n",
    );
}

#[test]
fn a_bad_glob_and_a_bad_regex() {
    refuses(
        "hotrun.toml",
        "[build]\ncmd = \"true\"\n[watch]\nexclude = [\"a[\"]\n",
        "hotrun: hotrun.toml:4:12: watch.exclude: \"a[\": \
         expected a glob: unclosed character class; missing ']'\n  \
         4 | exclude = [\"a[\"]\n    |            ^^^^\n",
    );
    refuses(
        ".air.toml",
        "[build]\nexclude_regex = [\n  \"a\",\n\t\"(\"]\n",
        "hotrun: .air.toml:4:2: build.exclude_regex: \"(\": \
         expected regular expressions (RE2 syntax): unclosed group\n  \
         4 | \\t\"(\"]\n    |   ^^^\n",
    );
}

#[test]
fn a_bad_word_for_the_terminal_and_a_bad_glob_of_spared_processes() {
    refuses(
        "hotrun.toml",
        "[build]\ncmd = \"true\"\n[run]\nstdin = \"tty\"\n",
        "hotrun: hotrun.toml:4:9: run.stdin = \"tty\": expected one of \"auto\", \"app\", \"null\"\n  \
         4 | stdin = \"tty\"\n    |         ^^^^^\n",
    );
    refuses(
        "hotrun.toml",
        "[build]\ncmd = \"true\"\n[run]\nstdin = \"app\"\ntty = \"pty\"\n",
        "hotrun: hotrun.toml:4:9: run.stdin = \"app\": expected \"null\" or unset with \
         run.tty = \"pty\", where the program has no input\n  \
         4 | stdin = \"app\"\n    |         ^^^^^\n",
    );
    refuses(
        "hotrun.toml",
        "spare = [\"a[\"]\n[build]\ncmd = \"true\"\n",
        "hotrun: hotrun.toml:1:10: spare: \"a[\": expected a glob on command lines: \
         unclosed character class; missing ']'\n  \
         1 | spare = [\"a[\"]\n    |          ^^^^\n",
    );
}

#[test]
fn a_line_that_may_hold_a_secret_is_not_shown() {
    for (config, place) in [
        ("[env]\nA = \"s3cret\n", "2:"),
        ("[env]\nA = [\"s3cret\"]\n[build]\ncmd = \"true\"\n", "2:5: env.A: "),
        ("[build]\ncmd = [\"API_TOKEN=s3cret make\", 5]\n", "2:7: build.cmd"),
    ] {
        let project = Sandbox::empty().file("hotrun.toml", config);
        let (code, _, stderr) = project.run(&[]);
        assert_eq!(code, 2);
        assert!(stderr.starts_with(&format!("hotrun: hotrun.toml:{place}")), "{stderr}");
        assert!(!stderr.contains("s3cret"), "{stderr}");
    }
}

#[test]
fn an_error_of_an_option_names_the_option() {
    let (code, _, stderr) = Sandbox::new().run(&["--run.mode", "fast", "check"]);
    let expected = "hotrun: --run.mode fast: expected one of \"restart\", \"handover\"\n";
    assert_eq!((code, stderr.as_str()), (2, expected));
}

#[test]
fn an_unknown_key_is_a_warning_with_the_nearest_known_one() {
    let project = Sandbox::new().file("hotrun.toml", &format!("{CONFIG}inclide_file = []\n"));
    let mut hotrun = project.start(&[]);
    let line = hotrun.wait_for("warning");
    assert_eq!(
        line,
        "hotrun   warning  hotrun.toml:6:1: unknown key build.inclide_file; \
         did you mean build.include_file?"
    );
    hotrun.wait_serving("one");
    hotrun.end();
}

#[test]
fn a_table_that_is_none_and_a_table_that_is_misspelt() {
    refuses(
        "hotrun.toml",
        "build = 3\n",
        "hotrun: hotrun.toml:1:9: build = 3: expected a table: keys below a line [build]\n  \
         1 | build = 3\n    |         ^\n",
    );
    let project = Sandbox::empty().file("hotrun.toml", "[biuld]\ncmd = \"x\"\n");
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("unknown key biuld.cmd; did you mean build.cmd?"), "{stderr}");
}

#[test]
fn a_missing_root() {
    refuses(
        "hotrun.toml",
        "root = \"nowhere\"\n[build]\ncmd = \"true\"\n",
        "hotrun: hotrun.toml:1:8: root = \"nowhere\": expected a directory that exists\n  \
         1 | root = \"nowhere\"\n    |        ^^^^^^^^^\n  \
         help: set root to the directory of the sources\n",
    );
}

#[test]
fn the_root_directory_and_home_are_refused() {
    let expected = |root: &str| {
        format!(
            "hotrun: {root}: is too much to watch: not a project\n  \
             help: start hotrun in the project's directory (or -C DIR), or set root\n        \
             to watch it anyway: build.ignore_dangerous_root_dir = true\n"
        )
    };
    refuses("hotrun.toml", "root = \"/\"\n[build]\ncmd = \"true\"\n", &expected("/"));
    let project = Sandbox::new();
    let home = project.root().display().to_string();
    let project = project.env("HOME", &home);
    let (code, _, stderr) = project.run(&[]);
    assert_eq!((code, stderr), (2, expected("ROOT")));
}

#[test]
fn no_configuration_and_no_known_kind_of_project() {
    let (code, stdout, stderr) = Sandbox::empty().run(&[]);
    assert_eq!(
        stderr,
        "hotrun: ROOT: no project that hotrun knows, and no configuration\n  \
         help: name a command: `hotrun node server.js`, `hotrun -x 'make && ./app'`;\n        \
         or write hotrun.toml:\n        \
         [build]\n        cmd = \"make app\"\n        entrypoint = \"./app\"\n"
    );
    assert_eq!((code, stdout.as_str()), (2, ""));
    refuses(
        "hotrun.toml",
        "[watch]\nexclude = [\"x\"]\n",
        "hotrun: ROOT: the configuration sets neither a build command nor a program\n  \
         help: add to it:\n        [build]\n        cmd = \"make app\"\n        \
         entrypoint = \"./app\"\n",
    );
    // A misspelt key is the likeliest cause; a list of tables is none.
    for list in ["[[listen]]\naddress = 8080\n", "[[build.rules]]\ninclude_ext = [\"x\"]\n"] {
        let text = format!("{list}[build]\ncmmd = \"make\"\n");
        let (code, _, stderr) = Sandbox::empty().file("hotrun.toml", &text).run(&["check"]);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains("build.cmmd"), "{stderr}");
        assert!(!stderr.contains("unknown table"), "{stderr}");
    }
}

#[test]
fn a_configuration_that_is_not_there_or_cannot_be_read() {
    let (code, _, stderr) = Sandbox::new().run(&["-c", "no.toml"]);
    assert_eq!(code, 2);
    assert!(stderr.starts_with("hotrun: no.toml: configuration file not found\n"), "{stderr}");
    let project = Sandbox::new();
    std::fs::write(project.root().join("hotrun.toml"), b"# \xff\n").unwrap();
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(
        (code, stderr.as_str()),
        (2, "hotrun: hotrun.toml: is not UTF-8\n  help: save it as UTF-8\n")
    );
}

#[test]
fn a_wrong_command_line() {
    let (code, _, stderr) = Sandbox::new().run(&["--frobnicate"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("unexpected argument '--frobnicate'"), "{stderr}");
    let (code, _, stderr) = Sandbox::new().run(&["-C", "nowhere"]);
    assert_eq!((code, stderr.as_str()), (2, "hotrun: -C nowhere: no such directory\n"));
    let (code, _, stderr) = Sandbox::new().run(&["--release"]);
    assert_eq!(code, 2);
    assert_eq!(
        stderr,
        "hotrun: --release: has no effect beside build.cmd\n  \
         help: add the flag to build.cmd, or remove build.cmd\n"
    );
}

#[test]
fn a_build_command_that_does_not_exist() {
    let config = CONFIG.replace("cp source.txt built", "no-such-tool --fast");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("no-such-tool");
    let line = hotrun.wait_for("failed");
    assert!(line.contains("exit code 127 (the shell found no such command)"), "{line}");
    hotrun.end();
}

#[test]
fn a_program_that_does_not_exist() {
    let config = "[build]\nentrypoint = \"no-such-program\"\n";
    let project = Sandbox::empty().file("hotrun.toml", config).file("a.txt", "");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("failed  to start: no-such-program: command not found; waiting for a save");
    hotrun.end();
}

#[test]
fn an_empty_watch_set_is_told() {
    let config = CONFIG.replace("\"txt\"", "\"nothing\"");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    // The program may have been started before that was known.
    hotrun.wait_for("warning  there is nothing to watch: no file in . matches include_ext");
    hotrun.end();
}

#[test]
fn cargo_and_go_that_are_not_installed() {
    let project = Sandbox::empty().file("Cargo.toml", "[package]\nname = \"x\"\n");
    let project = project.env("PATH", "/nowhere");
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("cargo: command not found\n  help: install it"), "{stderr}");
    let project = Sandbox::empty().file("go.mod", "module x\n").env("PATH", "/nowhere");
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("go: command not found\n  help: install it"), "{stderr}");
}

#[test]
fn a_closed_stdout_and_stderr_are_no_reason_to_fail() {
    let project = Sandbox::new().script("app", "exit 5\n");
    let hotrun = env!("CARGO_BIN_EXE_hotrun");
    for redirect in [">&-", "2>&-", ">&- 2>&-"] {
        project.sh(&format!("{hotrun} --once {redirect}; test $? = 5"));
    }
    // A reader that has gone.
    project.sh(&format!("{{ {hotrun} --once; echo $? > code; }} 2>&1 | true"));
    assert_eq!(std::fs::read_to_string(project.root().join("code")).unwrap(), "5\n");
}

#[test]
fn a_directory_that_cannot_be_read_does_not_stop_the_rest() {
    // root reads everything, so this only means something for others.
    if nix::unistd::geteuid().is_root() {
        return crate::sandbox::skip("a_directory_that_cannot_be_read", "the tests run as root");
    }
    let project = Sandbox::new().file("closed/a.txt", "");
    project.sh("chmod 000 closed");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.end();
    project.sh("chmod 755 closed");
}

#[test]
fn check_and_init_say_what_they_found_and_wrote() {
    let project = Sandbox::new();
    let (code, stdout, _) = project.run(&["check"]);
    assert_eq!(code, 0);
    for line in [
        "   config  ROOT/hotrun.toml",
        "    build  cp source.txt built",
        "      run  ROOT/app",
        "     stop  SIGTERM, then SIGKILL after 20s",
        "1 in 1 directories: files ending in txt",
    ] {
        assert!(stdout.contains(line), "no {line:?} in\n{stdout}");
    }
    // The directory may come before the word or after it.
    let above = Sandbox::empty().file("project/hotrun.toml", CONFIG);
    assert_eq!(above.run(&["-C", "project", "check"]), above.run(&["check", "-C", "project"]));
    assert_eq!(above.run(&["-C", "project", "check"]).0, 0);
    let empty = Sandbox::empty();
    let (code, _, stderr) = empty.run(&["init"]);
    assert_eq!(code, 1, "there is nothing to write: {stderr}");
    let (code, stdout, _) = empty.run(&["init", "--full"]);
    assert_eq!((code, stdout.as_str()), (0, "wrote ROOT/hotrun.toml\n"));
    let (code, _, stderr) = empty.run(&["init"]);
    assert_eq!(code, 2);
    assert!(stderr.starts_with("hotrun: ROOT/hotrun.toml: already exists\n"), "{stderr}");
    let (code, stdout, stderr) = empty.run(&["check"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(
        stdout.contains("    build  make app") && stdout.contains("      run  ROOT/app"),
        "{stdout}"
    );
}

#[test]
fn help_fits_a_screen_and_every_spelling_of_version_works() {
    let project = Sandbox::empty();
    let (code, stdout, _) = project.run(&["-h"]);
    assert_eq!(code, 0);
    assert!(stdout.lines().count() <= 40, "{stdout}");
    assert!(stdout.lines().all(|line| line.len() <= 80), "{stdout}");
    let (_, all, _) = project.run(&["--help"]);
    assert!(all.len() > stdout.len() && all.contains("  r  rebuild\n"), "{all}");
    for flag in ["-v", "-V", "--version"] {
        let (code, stdout, _) = project.run(&[flag]);
        assert_eq!((code, stdout), (0, format!("hotrun {}\n", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn help_is_coloured_where_it_is_wanted() {
    let coloured = |project: &Sandbox, args: &[&str]| project.run(args).1.contains('\u{1b}');
    let plain = Sandbox::empty();
    assert!(!coloured(&plain, &["--help"]), "not in a pipe");
    for args in [&["--help", "--color", "always"][..], &["-color=always", "check", "-h"]] {
        assert!(coloured(&plain, args), "{args:?}");
    }
    let forced = Sandbox::empty().env("CLICOLOR_FORCE", "1");
    assert!(coloured(&forced, &["-h"]));
    assert!(!coloured(&forced, &["-h", "--color", "never"]), "the option overrides");
}
