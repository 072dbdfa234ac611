//! One loop for each project and configuration.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::sandbox::{CONFIG, Hotrun, PATIENCE, Sandbox, has, is_alive, number_in};

/// Builds that would show it if two of them ran at the same time.
const EXCLUSIVE: &str = "[build]\ncmd = \"flock -n alone sh -c 'sleep 0.05; cp source.txt built' \
                         || echo TWO BUILDS\"\nentrypoint = [\"./app\"]\n\
                         include_ext = [\"txt\"]\n";

const TWO_BUILDS: &str = "TWO BUILDS";

/// The files of this sandbox's hotruns are in a directory of their own.
fn private(project: Sandbox) -> Sandbox {
    fs::create_dir(project.root().join("run")).unwrap();
    let place = project.root().join("run").display().to_string();
    project.env("XDG_RUNTIME_DIR", &place)
}

fn locks(project: &Sandbox) -> Vec<String> {
    let names = fs::read_dir(project.root().join("run/hotrun")).unwrap().flatten();
    let names = names.map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("lock.")).collect()
}

#[track_caller]
fn is_refused(project: &Sandbox, first: &Hotrun, args: &[&str]) {
    let (code, _, stderr) = project.run(args);
    assert_eq!(code, 7, "{stderr}");
    let begin = format!("already running: pid {} since ", first.pid());
    assert!(stderr.contains(&begin), "{stderr}");
    assert!(stderr.contains("help: hotrun --takeover stops it"), "{stderr}");
    assert!(!stderr.contains("building"), "{stderr}");
}

#[test]
fn a_second_one_is_refused_and_one_that_runs_something_else_is_not() {
    let project = Sandbox::new().file("other.toml", CONFIG);
    symlink(project.root(), project.root().join("link")).unwrap();
    let mut first = project.start(&[]);
    first.wait_serving("one");
    is_refused(&project, &first, &[]);
    is_refused(&project, &first, &["run"]);
    is_refused(&project, &first, &["-C", "link"]);
    is_refused(&project, &first, &["-c", "hotrun.toml", "--poll", "-q"]);
    let (code, _, _) = project.run(&["check"]);
    assert_eq!(code, 0);
    for args in [&["-c", "other.toml"][..], &["--", "worker"], &["--run.signal=INT"]] {
        let mut beside = project.start(args);
        beside.wait_serving("one");
        is_refused(&project, &beside, args);
        beside.signal(Signal::SIGINT);
        assert_eq!(beside.ended().0, 0);
    }
    let (code, stdout, stderr) = project.run(&["--once", "--build.entrypoint=./built"]);
    assert_ne!(code, 7, "{stdout}{stderr}");
    project.save("source.txt", "two\n");
    first.wait_serving("two");
    first.end();
}

#[test]
fn the_refusal_names_the_address_of_the_program() {
    if !has("the_refusal_names_the_address_of_the_program", &["python3"]) {
        return;
    }
    let config = "[build]\nentrypoint = [\"python3\", \"-m\", \"http.server\", \"0\"]\n";
    let project = Sandbox::empty().file("hotrun.toml", config);
    let mut first = project.start_plain(&[]);
    let line = first.wait_for("ready  http://");
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 7);
    assert!(stderr.contains(&format!(", {url}\n")), "{stderr}");
    first.end();
}

#[test]
fn the_lock_of_one_that_was_killed_is_free_and_nothing_is_left_at_the_end() {
    let project = private(Sandbox::new());
    let mut first = project.start(&[]);
    first.wait_serving("one");
    first.signal(Signal::SIGKILL);
    first.wait();
    let mut second = project.start(&[]);
    second.wait_serving("one");
    is_refused(&project, &second, &[]);
    assert_eq!(locks(&project).len(), 1);
    second.end();
    assert_eq!(locks(&project), [""; 0]);
}

#[test]
fn where_no_lock_can_be_kept_hotrun_runs() {
    let project = Sandbox::new().file("run", "a file").env("XDG_RUNTIME_DIR", "run");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.end();
}

#[test]
fn a_takeover_ends_the_first_gracefully_whatever_it_does() {
    let slow_end = "trap 'sleep 0.2; echo ended well; exit 0' TERM INT\n\
                    echo serving $(cat built) as $$\nwhile :; do sleep 0.05; done\n";
    let project = Sandbox::new().script("app", slow_end);
    let mut first = project.start(&[]);
    let app = first.wait_serving("one");
    let mut second = project.start(&["--takeover"]);
    second.wait_serving("one");
    assert!(!is_alive(app));
    first.wait_for(&format!("the hotrun with pid {} takes over from this one", second.pid()));
    first.wait_for("ended well");
    assert_eq!(first.ended().0, 0);
    is_refused(&project, &second, &[]);

    // Stopped, as by Ctrl-Z.
    second.signal(Signal::SIGSTOP);
    let mut third = project.start(&["--takeover"]);
    third.wait_serving("one");
    second.wait_for("ended well");
    assert_eq!(second.ended().0, 0);

    // Nothing runs: there is nothing to take over.
    third.signal(Signal::SIGTERM);
    assert_eq!(third.ended().0, 0);
    let mut last = project.start(&["--takeover"]);
    last.wait_serving("one");
    last.end();
}

#[test]
fn one_that_waits_for_a_broken_file_is_taken_over_too() {
    let project = Sandbox::empty().file("Cargo.toml", "[package\n");
    let mut first = project.start(&[]);
    first.wait_for("waiting until this is fixed");
    let mut second = project.start(&["--takeover"]);
    second.wait_for("waiting until this is fixed");
    assert_eq!(first.ended().0, 0);
    second.end();
}

#[test]
fn one_that_ends_is_waited_for() {
    let slow_end = "trap 'echo ending; while [ -f source.txt ]; do sleep 0.02; done; exit 0' TERM\n\
                    echo serving $(cat built) as $$\nwhile :; do sleep 0.05; done\n";
    let project = Sandbox::new().script("app", slow_end);
    let mut first = project.start(&[]);
    first.wait_serving("one");
    first.signal(Signal::SIGTERM);
    first.wait_for_line("ending");
    let mut second = project.start(&[]);
    second.wait_for(&format!("waiting for pid {} to stop its program", first.pid()));
    assert_eq!(second.count("building"), 0);
    project.sh("mv source.txt s && sleep 0.1 && mv s source.txt");
    second.wait_serving("one");
    assert_eq!(first.ended().0, 0);
    second.signal(Signal::SIGTERM);
    second.wait_for_line("ending");
    // It waits for another that ends, and is itself interrupted.
    let mut third = project.start(&[]);
    third.wait_for("to stop its program; press Ctrl-C to exit");
    third.signal(Signal::SIGINT);
    assert_eq!(third.ended().0, 0);
    fs::remove_file(project.root().join("source.txt")).unwrap();
    assert_eq!(second.wait().code(), Some(0));
    second.leaves_nobody();
}

/// Waits until all but one have ended, and returns that one.
#[track_caller]
fn survivor(mut rivals: Vec<Hotrun>) -> Hotrun {
    let until = Instant::now() + PATIENCE;
    loop {
        let (running, ended): (Vec<_>, Vec<_>) = rivals.into_iter().partition(Hotrun::is_running);
        for one in ended {
            let (code, output) = one.ended();
            assert!([0, 7, -1].contains(&code), "{code}\n{output}");
            assert!(!output.lines().any(|line| line == TWO_BUILDS), "{output}");
        }
        rivals = running;
        if rivals.len() == 1 {
            return rivals.remove(0);
        }
        assert!(!rivals.is_empty() && Instant::now() < until, "{} run", rivals.len());
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn of_many_at_once_one_runs_and_through_kills_and_takeovers_builds_never_meet() {
    let name = "of_many_at_once_one_runs_and_through_kills_and_takeovers_builds_never_meet";
    if !has(name, &["flock"]) {
        return;
    }
    let project = private(Sandbox::new().file("hotrun.toml", EXCLUSIVE));
    let mut runs = project.start(&[]);
    for round in 0..number_in("HOTRUN_TEST_ROUNDS", 8) {
        // In other rounds its build may have hardly begun.
        if round % 3 == 0 {
            runs.wait_serving("one");
        }
        let is_killed = round % 2 == 0;
        if is_killed {
            runs.signal(Signal::SIGKILL);
            runs.wait();
        }
        let args: &[&str] = if is_killed { &[] } else { &["--takeover"] };
        let mut rivals: Vec<Hotrun> = (0..3).map(|_| project.start(args)).collect();
        rivals.push(runs);
        runs = survivor(rivals);
    }
    runs.wait_serving("one");
    assert_eq!(locks(&project).len(), 1);
    let output = runs.end();
    assert!(!output.lines().any(|line| line == TWO_BUILDS), "{output}");
    assert_eq!(locks(&project), [""; 0]);
}

#[test]
fn a_second_one_is_refused_though_another_configuration_has_appeared_meanwhile() {
    let project = Sandbox::empty()
        .file(".air.toml", CONFIG)
        .script("app", crate::sandbox::APP)
        .file("source.txt", "one\n");
    let mut first = project.start(&[]);
    first.wait_serving("one");
    first.wait_for("ready");
    project.save("hotrun.toml", CONFIG);
    first.wait_for("reading  hotrun.toml");
    is_refused(&project, &first, &[]);
    is_refused(&project, &first, &["-c", "hotrun.toml"]);
    first.end();
}
