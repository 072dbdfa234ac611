//! The command line: air's ways and hotrun's own.

use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::sandbox::{CONFIG, Sandbox, has};

const ARGS: &str = "printf '<%s>' \"$@\"; echo\n";

/// A project of air's whose program says its arguments and ends.
fn airs() -> Sandbox {
    let config = "[build]\ncmd = \"true\"\nbin = \"./app\"\ndelay = 50\n";
    Sandbox::empty().file(".air.toml", config).script("app", ARGS)
}

#[test]
fn the_first_word_that_is_none_of_hotruns_own_goes_to_the_program() {
    let project = airs();
    let (code, stdout, stderr) = project.run(&["--once", "-q", "server", "--port", "1", "-c"]);
    assert_eq!((code, stdout.as_str()), (0, "<server><--port><1><-c>\n"), "{stderr}");
    let (_, stdout, _) = project.run(&["-once", "-q", "--", "check", "--", "x"]);
    assert_eq!(stdout, "<check><--><x>\n");
}

#[test]
fn airs_own_options_are_understood_as_go_understands_them() {
    let project =
        airs().file("other.toml", "[build]\ncmd = \"true\"\nentrypoint = \"echo other\"\n");
    let (code, stdout, _) = project.run(&["-c", "other.toml", "-once", "-color", "never", "-q"]);
    assert_eq!((code, stdout.as_str()), (0, "other\n"));
    let (code, stdout, _) = project.run(&["--c=other.toml", "--once", "-color=always", "-q"]);
    assert_eq!((code, stdout.as_str()), (0, "other\n"));
    let (code, _, stderr) = project.run(&["-color", "sometimes"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("sometimes"), "{stderr}");
    let (code, _, stderr) = project.run(&["-d", "--once"]);
    assert_eq!(code, 0);
    assert!(stderr.contains("SpawnBuild"), "-d shows diagnostics: {stderr}");
    let broken = Sandbox::empty().file(".air.toml", "not toml");
    for version in ["-v", "--v", "-version"] {
        let (code, stdout, _) = broken.run(&[version]);
        assert_eq!((code, stdout), (0, format!("hotrun {}\n", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn every_key_is_an_option_that_beats_the_file_even_with_its_default() {
    let project = airs();
    let (code, stdout, stderr) = project.run(&[
        "-build.cmd",
        "echo built",
        "-build.args_bin",
        "a,b",
        "--build.args_bin=c",
        "-once",
        "-q",
    ]);
    assert_eq!((code, stdout.as_str()), (0, "built\n<a><b><c>\n"), "{stderr}");
    let project = project.file("e.air.toml", "[build]\ncmd = \"true\"\nentrypoint = [\"./app\"]\n");
    let (_, _, stderr) = project.run(&["-c", "e.air.toml", "--once", "-build.bin", "./other"]);
    assert!(stderr.contains("--build.bin has no effect"), "{stderr}");
    // air ignores an option whose value is its default.
    let (_, stdout, _) = project.run(&["check", "--all", "-build.delay", "1000"]);
    assert!(stdout.contains("delay = \"1000\"") && stdout.contains("# option"), "{stdout}");
    let (_, stdout, _) = project.run(&["check", "--all", "--build.delay=0"]);
    assert!(stdout.contains("delay = \"0\""), "{stdout}");
    let (_, stdout, _) = project.run(&["check"]);
    assert!(stdout.contains("delay = 50") && stdout.contains("# .air.toml:4"), "{stdout}");
}

#[test]
fn bad_values_are_errors_instead_of_zeros() {
    let project = airs();
    let refuse = |args: &[&str], expected: &str| {
        let (code, stdout, stderr) = project.run(args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.starts_with(&format!("hotrun: {expected}")), "{stderr}");
    };
    refuse(&["-build.delay=abc"], "--build.delay abc: expected a duration");
    refuse(&["-build.rerun", "yes"], "--build.rerun yes: expected true or false");
    refuse(&["-build.kill_delay", "fast"], "--build.kill_delay fast: expected a duration");
    refuse(&["-build.exclude_regex", "("], "--build.exclude_regex (: expected regular");
    refuse(
        &["--build.dleay", "5"],
        "--build.dleay: unknown option\n  help: did you mean --build.delay?",
    );
    refuse(&["--build.delay"], "--build.delay: needs a value");
    refuse(&["-root", "nowhere"], "--root nowhere: expected a directory that exists");
    let (code, _, stderr) = project.run(&["--buildcmd", "x"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("--buildcmd"), "{stderr}");
}

#[test]
fn an_option_with_a_unit_is_what_it_says() {
    // air makes 0 of it without a word.
    let (_, stdout, _) = airs().run(&["check", "-build.kill_delay", "500ms"]);
    assert!(stdout.contains("SIGTERM, then SIGKILL after 500ms"), "{stdout}");
    let (_, stdout, _) = airs().run(&["check", "-build.kill_delay", "500"]);
    assert!(stdout.contains("SIGKILL after 500ms"), "{stdout}");
}

#[test]
fn under_the_name_air_only_init_is_a_word_of_hotruns_own() {
    let project = airs();
    symlink(env!("CARGO_BIN_EXE_hotrun"), project.root().join("air")).unwrap();
    let run = |args: &[&str]| {
        let mut command = project.command(args);
        let mut air = std::process::Command::new(project.root().join("air"));
        air.args(args).current_dir(project.root()).stdin(Stdio::null());
        air.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null());
        let output = air.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(run(&["-once", "-q", "check"]), "<check>\n");
    assert_eq!(run(&["-once", "-q", "run", "fast"]), "<run><fast>\n");
}

#[test]
fn commands_print_no_note_about_themselves_beside_a_file_of_airs() {
    let (code, _, stderr) = airs().run(&["check"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let native = Sandbox::new().file("hotrun.toml", CONFIG);
    assert_eq!(native.run(&["check"]).2, "");
}

#[test]
fn a_mistyped_command_and_one_that_does_not_exist_yet_start_nothing() {
    let project = Sandbox::new();
    for (word, told) in [
        ("chekc", "did you mean `hotrun check`?"),
        ("chek", "did you mean `hotrun check`?"),
        ("exlpain", "did you mean `hotrun explain`?"),
        ("statsu", "did you mean `hotrun status`?"),
        ("ls", "this command does not exist yet"),
        ("why", "this command does not exist yet"),
    ] {
        let (code, stdout, stderr) = project.run(&[word]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{word}: {stderr}");
        assert!(stderr.contains(told), "{word}: {stderr}");
        assert!(stderr.contains(&format!("hotrun -- {word}")), "{word}: {stderr}");
    }
    let (code, stdout, _) = project.run(&["help"]);
    assert!(code == 0 && stdout.contains("Usage: hotrun"), "{stdout}");
    assert!(stdout.contains("\n  zero-downtime "), "{stdout}");
    let (code, stdout, _) = project.run(&["help", "explain"]);
    assert!(code == 0 && stdout.contains("PATH"), "{stdout}");
    // The page as it is written, without colours: stdout is a pipe.
    let (code, stdout, _) = project.run(&["help", "rules"]);
    assert_eq!((code, stdout.as_str()), (0, include_str!("../../src/guide/rules.md")));
    for (words, remedy) in [
        (["help", "reday"], "did you mean `hotrun help ready`?"),
        (["help", "zero"], "did you mean `hotrun help zero-downtime`?"),
        (["help", "chekc"], "did you mean `hotrun help check`?"),
        (["help", "qqqqqqqq"], "`hotrun help` lists all topics"),
    ] {
        let (code, stdout, stderr) = project.run(&words);
        assert_eq!((code, stdout.as_str()), (2, ""), "{words:?}: {stderr}");
        assert!(stderr.contains(&format!("no such topic\n  help: {remedy}")), "{stderr}");
    }
    let (code, stdout, _) = project.run(&["version"]);
    assert!(code == 0 && stdout.contains(env!("CARGO_PKG_VERSION")), "{stdout}");
    // What looks like no command, and what stands behind dashes, is for the program.
    let app = "echo \"<$*>\"\n";
    let project = Sandbox::new().script("app", app);
    for words in [&["--once", "-q", "--", "chekc"], &["--once", "-q", "db", "chekc"]] {
        let (_, stdout, _) = project.run(words);
        let expected = words[2..].iter().filter(|word| **word != "--").copied();
        assert_eq!(stdout, format!("<{}>\n", expected.collect::<Vec<_>>().join(" ")));
    }
}

#[test]
fn air_wd_is_the_directory_and_the_root() {
    let project = airs().file("elsewhere/x", "").env("air_wd", "..");
    let mut command = project.command(&["check"]);
    let output = command.current_dir(project.root().join("elsewhere")).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let root = project.root();
    assert!(stdout.contains(&format!("watch  {}\n", root.display())), "{stdout}");
    assert!(stdout.contains(&format!("run  {}/app", root.display())), "{stdout}");
}

#[test]
fn what_is_generated_is_printed_as_it_is() {
    let project = Sandbox::empty();
    let generated = |args: &[&str]| {
        let (code, stdout, stderr) = project.run(args);
        assert_eq!((code, stderr.as_str()), (0, ""));
        stdout
    };
    let schema = generated(&["schema"]);
    assert!(
        schema.contains("\"$schema\": \"http://json-schema.org/draft-07/schema#\""),
        "{schema}"
    );
    let page = generated(&["man"]);
    assert!(page.contains(".TH hotrun 1") && page.contains("hotrun schema"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let script = generated(&["completions", shell]);
        assert!(script.contains("rollback") && script.contains("build.cmd"), "{shell} {script}");
        if has(&format!("what_is_generated_is_printed_as_it_is ({shell})"), &[shell]) {
            let project = Sandbox::empty().file("script", &script);
            project.sh(&format!("{shell} -n script"));
        }
    }
    // Words of a shell that there is none of, or too many.
    for args in [&["completions"][..], &["completions", "csh"], &["man", "x"], &["schema", "x"]] {
        assert_eq!(project.run(args).0, 2, "{args:?}");
    }
}

#[test]
fn bash_completes_keys_and_their_words() {
    if !has("bash_completes_keys_and_their_words", &["bash"]) {
        return;
    }
    let project = Sandbox::empty();
    let (_, script, _) = project.run(&["completions", "bash"]);
    let ask = |line: &str| {
        let words = line.split(' ').map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let count = line.split(' ').count() - 1;
        let text = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD={count}\n\
             _hotrun hotrun \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
             printf '%s ' \"${{COMPREPLY[@]}}\"\n"
        );
        let output = std::process::Command::new("bash").args(["-c", &text]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(ask("hotrun roll"), "rollback");
    assert_eq!(ask("hotrun --run.mo"), "--run.mode");
    assert_eq!(ask("hotrun --run.mode "), "restart handover");
    assert_eq!(ask("hotrun check --st"), "--strict");
    assert_eq!(ask("hotrun rollback --rel"), "");
}

#[test]
fn short_words_that_resemble_a_command_go_to_the_program() {
    let project = airs();
    for word in ["start", "list", "shell", "state", "cart"] {
        let (code, stdout, stderr) = project.run(&["--once", "-q", word]);
        assert_eq!((code, stdout), (0, format!("<{word}>\n")), "{stderr}");
    }
}

#[test]
fn a_command_and_the_tests_of_the_project_exclude_each_other() {
    let project = Sandbox::empty().file("Makefile", "test:\n\t@echo tested\n");
    let (code, stdout, stderr) = project.run(&["test", "-x", "echo hi", "--once"]);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("hotrun test -x: cannot run a command"), "{stderr}");
}

#[test]
fn paths_of_explain_are_relative_to_the_directory_that_is_given_or_to_the_shells() {
    let project = Sandbox::empty().file("sub/hotrun.toml", CONFIG).file("sub/x.txt", "");
    let absolute = project.root().join("sub/x.txt").display().to_string();
    for path in ["x.txt", "sub/x.txt", &absolute, "new.txt"] {
        let (code, stdout, stderr) = project.run(&["-C", "sub", "explain", path]);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains("rebuild and restart"), "{path}: {stdout}");
    }
}

#[test]
fn what_is_generated_is_not_cut_off_in_silence() {
    let project = Sandbox::empty();
    for command in ["schema", "man", "completions bash"] {
        let script = format!("\"$0\" {command} > /dev/full");
        let mut shell = project.program("sh", &["-c", &script, env!("CARGO_BIN_EXE_hotrun")]);
        let output = shell.stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {stderr}");
        assert!(stderr.contains("hotrun: stdout: "), "{command}: {stderr}");
    }
}
