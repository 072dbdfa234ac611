//! What was good is started again when what is new does not start.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};

use crate::sandbox::{Sandbox, can, is_alive, wait_until};

/// A program in C, so that there is an artifact: it says which version it is, and by what name
/// it was started.
const MAIN: &str = "
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
    printf(\"started as %s with %s\\n\", argv[0], argc > 1 ? argv[1] : \"nothing\");
    printf(\"serving VERSION as %d\\n\", getpid());
    fflush(stdout);
    BODY
    for (;;) pause();
}
";
/// Fails at once, and not while a handover waits for it.
const FAILS: &str = "exit(3);";

fn source(version: &str, body: &str) -> String {
    MAIN.replace("VERSION", version).replace("BODY", body)
}

fn project(more: &str) -> Sandbox {
    let config = format!(
        "[build]\ncmd = \"cc -o app main.c\"\nentrypoint = [\"./app\", \"words\"]\n\
         include_ext = [\"c\"]\nkill_delay = \"20s\"\n[run]\n{more}"
    );
    Sandbox::empty().file("hotrun.toml", &config).file("main.c", &source("one", ""))
}

/// The copies that are kept, and complete enough to be seen.
fn kept(project: &Sandbox) -> Vec<PathBuf> {
    let below = |directory: PathBuf| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let owners = below(project.root().join("tmp/.hotrun"));
    let copies = owners.into_iter().flat_map(below).flat_map(below);
    let mut copies: Vec<PathBuf> = copies.filter(|path| path.ends_with("app")).collect();
    copies.sort();
    copies
}

/// Waits until so many have proven good.
fn wait_kept(project: &Sandbox, count: usize) {
    let size = fs::metadata(project.root().join("app")).map_or(0, |meta| meta.len());
    wait_until("it is kept", || {
        let copies = kept(project);
        copies.len() == count
            && copies.iter().all(|copy| fs::metadata(copy).is_ok_and(|meta| meta.len() >= size))
    });
}

const ROLLS_BACK: &str = "on_failed_start = \"rollback\"\n";

fn has_cc(test: &str) -> bool {
    can(test, "cc --version")
}

#[test]
fn a_start_that_fails_is_followed_by_the_last_good_program_under_its_own_name() {
    if !has_cc("a_start_that_fails_is_followed_by_the_last_good_program") {
        return;
    }
    let project = project(ROLLS_BACK);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    wait_kept(&project, 1);
    project.save("main.c", &source("two", FAILS));
    hotrun.wait_for("changed  main.c");
    hotrun.wait_serving("two");
    hotrun.wait_for("exit code 3; starting the last good build");
    let line = hotrun.wait_for("rollback  to the build of generation 1 (");
    assert!(line.ends_with("; not included: main.c"), "{line}");
    let name = format!("started as {}/app with words", project.root().display());
    hotrun.wait_for_line(&name);
    let app = hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    let copy = fs::read_link(format!("/proc/{app}/exe")).unwrap();
    assert_eq!(copy, kept(&project)[0], "not the file that builds write");
    // It is from the first build, whatever was saved and requested since.
    let status = project.status();
    let service = &status["services"][0];
    assert_eq!(service["program"]["update"], 1, "{status}");
    assert_eq!(service["build"]["update"], status["update"], "{status}");
    assert_eq!(service["is_newest"], false, "{status}");
    let variables = fs::read(format!("/proc/{app}/environ")).unwrap();
    assert!(String::from_utf8_lossy(&variables).contains("\0HOTRUN_UPDATE=1\0"));

    // Once for one save; the next save goes forward.
    kill(app, Signal::SIGKILL).unwrap();
    hotrun.wait_for("waiting for a save");
    project.save("main.c", &source("three", ""));
    hotrun.wait_serving("three");
    hotrun.wait_for("ready");
    let output = hotrun.end();
    assert_eq!(output.matches("rollback  to").count(), 1, "{output}");
    assert!(!project.root().join("tmp").exists(), "nothing is left of the copies");
}

#[test]
fn who_has_run_for_a_while_has_crashed_and_not_failed_to_start() {
    if !has_cc("who_has_run_for_a_while_has_crashed_and_not_failed_to_start") {
        return;
    }
    let project = project(ROLLS_BACK);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    wait_kept(&project, 1);
    project.save("main.c", &source("two", ""));
    let two = hotrun.wait_serving("two");
    wait_kept(&project, 2);
    kill(two, Signal::SIGKILL).unwrap();
    hotrun.wait_for("SIGKILL; waiting for a save");
    let output = hotrun.end();
    assert!(!output.contains("rollback"), "{output}");
}

#[test]
fn who_crashes_soon_after_it_was_ready_has_failed_to_start() {
    if !has_cc("who_crashes_soon_after_it_was_ready_has_failed_to_start") {
        return;
    }
    for mode in ["restart", "handover"] {
        let ready = "[ready]\nlog = \"serving\"\n";
        let project = project(&format!("mode = \"{mode}\"\n{ROLLS_BACK}{ready}"));
        let mut hotrun = project.start(&[]);
        hotrun.wait_serving("one");
        wait_kept(&project, 1);
        project.save("main.c", &source("two", "usleep(300000); _exit(3);"));
        hotrun.wait_serving("two");
        hotrun.wait_for("starting the last good build");
        hotrun.wait_serving("one");
        hotrun.wait_for("ready");
        hotrun.end();
    }
}

#[test]
fn who_is_not_ready_in_time_is_followed_by_the_last_good_program() {
    if !has_cc("who_is_not_ready_in_time_is_followed_by_the_last_good_program") {
        return;
    }
    let ready = "[ready]\nlog = \"serving one\"\ntimeout = \"1s\"\n";
    let project = project(&format!("{ROLLS_BACK}{ready}"));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    wait_kept(&project, 1);
    project.save("main.c", &source("two", ""));
    let two = hotrun.wait_serving("two");
    hotrun.wait_for("no line matching /serving one/ was printed; starting the last good build");
    hotrun.wait_serving("one");
    assert!(!is_alive(two));
    hotrun.end();
}

#[test]
fn by_hand_it_goes_back_one_by_one_and_the_next_save_forward_again() {
    if !has_cc("by_hand_it_goes_back_one_by_one_and_the_next_save_forward_again") {
        return;
    }
    let project = project("");
    let mut hotrun = project.start(&[]);
    let says = |expected: (i32, &str)| {
        let (code, stdout, stderr) = project.run(&["rollback"]);
        let said = format!("{stdout}{stderr}");
        assert!(code == expected.0 && said.starts_with(expected.1), "{code}: {said}");
    };
    hotrun.wait_serving("one");
    let none =
        "hotrun: hotrun rollback: not possible: no earlier build was ready and ran for 2 s\n";
    says((1, none));
    wait_kept(&project, 1);
    // There is one now, but it is not an earlier one.
    says((1, none));
    project.save("main.c", &source("two", ""));
    hotrun.wait_serving("two");
    wait_kept(&project, 2);
    project.save("main.c", &source("three", ""));
    hotrun.wait_serving("three");
    says((0, "going back to generation 2, built at "));
    hotrun.wait_serving("two");
    says((0, "going back to generation 1, built at "));
    hotrun.wait_serving("one");
    says((1, none));
    project.save("main.c", &source("four", ""));
    hotrun.wait_serving("four");
    hotrun.end();
    let (code, _, stderr) = project.run(&["rollback"]);
    assert_eq!(code, 1);
    assert!(stderr.starts_with("hotrun: hotrun rollback: no hotrun runs in ROOT"), "{stderr}");
}

#[test]
fn where_no_artifact_is_known_it_is_told_and_hotrun_waits() {
    for (program, why) in [
        ("entrypoint = [\"./app\"]", "is a script, and hotrun keeps only self-contained programs"),
        ("full_bin = \"./app\"", "the program is started through a shell"),
        ("entrypoint = [\"sh\", \"app\"]", "sh is an installed program, not built by this project"),
    ] {
        let config = format!(
            "[build]\ncmd = \"cp source.txt built\"\ninclude_ext = [\"txt\"]\n{program}\n\
             [run]\n{ROLLS_BACK}"
        );
        let app = "echo serving $(cat built) as $$\ngrep -q bad built && exit 3\nexec sleep 1000\n";
        let project = Sandbox::new().script("app", app).file("hotrun.toml", &config);
        let mut hotrun = project.start(&[]);
        hotrun.wait_serving("one");
        hotrun.wait_for("ready");
        project.save("source.txt", "bad\n");
        hotrun.wait_for("waiting for a save");
        let line = hotrun.wait_for("cannot roll back: ");
        assert!(line.contains(why), "{line}");
        project.save("source.txt", "good\n");
        hotrun.wait_serving("good");
        hotrun.end();
    }
}

#[test]
fn where_nothing_can_be_kept_it_is_told_and_everything_else_goes_on() {
    if !has_cc("where_nothing_can_be_kept_it_is_told_and_everything_else_goes_on") {
        return;
    }
    let project = project(ROLLS_BACK).file("tmp", "a file in the place of the directory");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    let line = hotrun.wait_for("the last good build cannot be kept");
    assert!(line.contains("Not a directory"), "{line}");
    project.save("main.c", &source("two", ""));
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn a_rollback_is_only_by_hand_unless_it_is_asked_for() {
    if !has_cc("a_rollback_is_only_by_hand_unless_it_is_asked_for") {
        return;
    }
    let project = project("");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    wait_kept(&project, 1);
    project.save("main.c", &source("two", FAILS));
    hotrun.wait_for("exit code 3; waiting for a save");
    hotrun.wait_for("press b or run `hotrun rollback` to start the last good build");
    let (code, stdout, _) = project.run(&["rollback"]);
    assert_eq!(code, 0);
    assert!(stdout.starts_with("going back to generation 1, built at "), "{stdout}");
    hotrun.wait_serving("one");
    hotrun.end();
}

#[test]
fn copies_of_a_hotrun_that_was_killed_are_deleted_by_the_next() {
    if !has_cc("copies_of_a_hotrun_that_was_killed_are_deleted_by_the_next") {
        return;
    }
    let project = project("");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    wait_kept(&project, 1);
    hotrun.signal(Signal::SIGKILL);
    hotrun.wait();
    assert_eq!(kept(&project).len(), 1);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    assert_eq!(kept(&project).len(), 0);
    hotrun.end();
}
