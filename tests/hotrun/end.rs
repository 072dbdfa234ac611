//! Whatever hotrun is doing when it is asked to end, it ends and leaves nobody behind.

use nix::sys::signal::Signal;

use crate::sandbox::{CONFIG, Sandbox};

#[test]
fn ctrl_c_when_idle_leaves_nothing() {
    let project = Sandbox::new();
    let mut hotrun = project.start(&[]);
    let app = hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    let output = hotrun.end();
    assert!(output.contains(&format!("stopped  pid {app}")), "{output}");
}

#[test]
fn ctrl_c_during_a_build_leaves_nothing() {
    let config = CONFIG.replace("cp source.txt built", "echo building now; sleep 1000 & wait");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_line("building now");
    hotrun.end();
}

#[test]
fn ctrl_c_during_a_build_beside_a_running_app_leaves_nothing() {
    let config = CONFIG.replace(
        "cp source.txt built",
        "cp source.txt built; ! grep two built || { echo stuck; sleep 1000; }",
    );
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for_line("stuck");
    hotrun.end();
}

#[test]
fn ctrl_c_while_the_app_starts_leaves_nothing() {
    let project = Sandbox::new();
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("started");
    hotrun.end();
}

#[test]
fn ctrl_c_while_the_old_app_stops_leaves_nothing_and_starts_nothing() {
    let app = "trap 'echo leaving; sleep 0.5; exit 0' TERM\necho serving $(cat built) as $$\n\
               while :; do sleep 0.02; done\n";
    let project = Sandbox::new().script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for("leaving");
    let output = hotrun.end();
    assert!(!output.contains("serving two"), "{output}");
}

#[test]
fn sigterm_and_sighup_end_it_too() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let project = Sandbox::new();
        let mut hotrun = project.start(&[]);
        hotrun.wait_serving("one");
        hotrun.signal(signal);
        hotrun.wait_for("stopping  send the signal again to kill");
        assert_eq!(hotrun.wait().code(), Some(0), "{signal}");
        hotrun.leaves_nobody();
    }
}

/// An app that ignores SIGTERM and has all the time in the world.
const STUBBORN: &str = "trap 'echo ignored' TERM\necho serving $(cat built) as $$\n\
                        while :; do sleep 0.02; done\n";

#[test]
fn a_second_ctrl_c_kills_what_is_left() {
    let project = Sandbox::new().script("app", STUBBORN);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.signal(Signal::SIGINT);
    hotrun.wait_for("ignored");
    hotrun.signal(Signal::SIGINT);
    assert_eq!(hotrun.wait().code(), Some(0), "{}", hotrun.output());
    hotrun.leaves_nobody();
}

#[test]
fn post_cmds_run_while_the_app_still_lives_and_a_failure_ends_the_list() {
    let config = format!(
        "{CONFIG}post_cmd = [\"kill -0 $(cat pid) && echo alive\", \"exit 3\", \"echo never\"]\n"
    );
    let app = "echo $$ > pid\necho serving $(cat built) as $$\nexec sleep 1000\n";
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    let output = hotrun.end();
    let at = |text: &str| output.find(text).unwrap_or_else(|| panic!("no {text} in\n{output}"));
    assert!(at("alive") < at("post_cmd: exit code 3"), "{output}");
    assert!(at("post_cmd: exit code 3") < at("stopped"), "{output}");
    assert!(!output.contains("never"), "{output}");
}

#[test]
fn a_post_cmd_that_hangs_is_killed_after_the_grace_and_by_a_second_ctrl_c() {
    let config = CONFIG.replace("20s", "200ms") + "post_cmd = [\"echo hook; sleep 1000\"]\n";
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.end();

    let config = format!("{CONFIG}post_cmd = [\"echo hook; sleep 1000\"]\n");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.signal(Signal::SIGINT);
    hotrun.wait_for("hook");
    hotrun.signal(Signal::SIGINT);
    assert_eq!(hotrun.wait().code(), Some(0), "{}", hotrun.output());
    hotrun.leaves_nobody();
}

#[test]
fn ctrl_c_while_cargo_is_asked_about_the_project_leaves_nothing() {
    let project = Sandbox::empty()
        .file("Cargo.toml", "[package]\nname = \"x\"\n")
        .script("bin/cargo", "echo asked >&2\nexec sleep 1000\n");
    let path = format!("{}:/usr/bin:/bin", project.root().join("bin").display());
    let project = project.env("PATH", &path);
    let mut hotrun = project.start(&[]);
    while hotrun.children().is_empty() {
        std::thread::yield_now();
    }
    hotrun.signal(Signal::SIGINT);
    assert_eq!(hotrun.wait().code(), Some(0), "{}", hotrun.output());
    while !hotrun.children().is_empty() {
        std::thread::yield_now();
    }
}
