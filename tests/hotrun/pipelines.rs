//! Wherever hotrun's streams lead, and whoever started it: it neither hangs, nor spins, nor
//! panics.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sandbox::{
    CONFIG, PATIENCE, Sandbox, can, has, is_alive, marked, stat, wait_until, zombies_of,
};

/// Says in a file which version serves, and under which pid.
const APP: &str = "echo $$ > serving-$(cat built)\nexec sleep 1000\n";

/// Waits until this version serves.
#[track_caller]
fn wait_serving(project: &Sandbox, version: &str) -> Pid {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(project.root().join(format!("serving-{version}")));
        if let Ok(Ok(pid)) = text.map(|text| text.trim().parse()) {
            return Pid::from_raw(pid);
        }
        assert!(Instant::now() < until, "{version} does not serve: {:?}", marked(&project.root()));
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[track_caller]
fn until_nobody_is_left(project: &Sandbox) {
    wait_until("nobody is left", || marked(&project.root()).is_empty());
}

/// The hotrun among what was started here.
fn hotrun_in(project: &Sandbox) -> Pid {
    let all = marked(&project.root());
    let words = |words: &str| words.split(' ').next().unwrap().ends_with("/hotrun");
    all.iter().find(|(_, line)| words(line)).expect("hotrun runs").0
}

/// Seconds of processor time that a process has used.
fn processor_time(pid: Pid) -> f64 {
    let fields = stat(pid);
    let ticks = fields[11..13].iter().map(|one| one.parse::<f64>().unwrap());
    ticks.sum::<f64>() / 100.0
}

#[test]
fn closed_streams_broken_pipes_and_detached_sessions_are_no_reason_to_stop() {
    for script in [
        "\"$@\" >&-",
        "\"$@\" 2>&-",
        "\"$@\" <&- >&- 2>&-",
        "\"$@\" 2>&1 | true",
        "\"$@\" 2>&1 | head -n 1 > /dev/null",
        "\"$@\" 2>&1 | tee log > /dev/null",
        "setsid \"$@\"",
        "(\"$@\" &)",
        "echo dev: > Makefile; printf '\\t+@\"%s\"\\n' \"$@\" >> Makefile; make -j4 dev",
    ] {
        if script.contains("make") && !has("under make", &["make"]) {
            continue;
        }
        // As soon as it is ready its sockets are not looked at any more.
        let config = format!("{CONFIG}[ready]\nafter = \"1ms\"\n");
        let project = Sandbox::new().script("app", APP).file("hotrun.toml", &config);
        let mut command = project.program("sh", &["-c", script, "sh"]);
        command.arg(env!("CARGO_BIN_EXE_hotrun")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = command.spawn().unwrap();
        wait_serving(&project, "one");
        project.save("source.txt", "two\n");
        wait_serving(&project, "two");
        let hotrun = hotrun_in(&project);
        let before = processor_time(hotrun);
        thread::park_timeout(Duration::from_millis(300));
        let spent = processor_time(hotrun) - before;
        assert!(spent < 0.1, "{script}: {spent} s while idle");
        kill(hotrun, Signal::SIGTERM).unwrap();
        until_nobody_is_left(&project);
        shell.wait().unwrap();
    }
}

#[test]
fn started_by_nohup_it_does_not_hear_that_the_terminal_is_closed() {
    let project = Sandbox::new().script("app", APP);
    let mut command = project.program("nohup", &[env!("CARGO_BIN_EXE_hotrun")]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut nohup = command.spawn().unwrap();
    let app = wait_serving(&project, "one");
    let hotrun = hotrun_in(&project);
    kill(hotrun, Signal::SIGHUP).unwrap();
    // Nor does what it runs.
    kill(app, Signal::SIGHUP).unwrap();
    project.save("source.txt", "two\n");
    wait_serving(&project, "two");
    kill(hotrun, Signal::SIGTERM).unwrap();
    nohup.wait().unwrap();
    until_nobody_is_left(&project);
}

#[test]
fn whoever_does_not_read_its_output_does_not_hold_it_up() {
    // A build whose output is kept passes through hotrun, which says things itself.
    let build = "head -c 3000000 /dev/zero | tr '\\\\0' x; cp source.txt built";
    let config = CONFIG.replace("cp source.txt built", build).replace("20s", "300ms")
        + "log = \"errors.log\"\ncancel_grace = \"300ms\"\n";
    let project = Sandbox::new().script("app", APP).file("hotrun.toml", &config);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = project.command(&[]);
    let mut hotrun = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    drop(command);
    // The build waits for its output to be read, as it would without hotrun.
    let pid = Pid::from_raw(hotrun.id().try_into().unwrap());
    let until = Instant::now() + PATIENCE;
    let is_build = |(_, words): &(Pid, String)| words.starts_with("tr ");
    wait_until("the build runs", || marked(&project.root()).iter().any(is_build));
    kill(pid, Signal::SIGINT).unwrap();
    let status = loop {
        if let Some(status) = hotrun.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until, "hotrun hangs");
        thread::park_timeout(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(0));
    until_nobody_is_left(&project);
    drop(reader);
}

#[test]
fn as_the_first_process_of_a_container_it_reaps_strangers_and_passes_signals_on() {
    let name = "as_the_first_process_of_a_container_it_reaps_strangers_and_passes_signals_on";
    if !has(name, &["unshare", "nsenter"]) || !can(name, "unshare -pf --mount-proc true") {
        return;
    }
    let app = "trap 'echo got USR1' USR1\necho serving $(cat built) as $$\n\
               while :; do sleep 0.02; done\n";
    let project = Sandbox::new().script("app", app);
    let mut hotrun = project.start_by("exec unshare -pf --mount-proc \"$@\"");
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    let inside = hotrun_in(&project);
    // A stranger whose parent ends: it is hotrun's child now, and is to be no zombie.
    let script = format!("nsenter -t {inside} -p -m sh -c 'sleep 0.2 & echo stranger' > /dev/null");
    project.sh(&script);
    thread::park_timeout(Duration::from_millis(300));
    wait_until("no zombie is left", || zombies_of(inside).is_empty());
    kill(inside, Signal::SIGUSR1).unwrap();
    hotrun.wait_for("got USR1");
    kill(inside, Signal::SIGTERM).unwrap();
    hotrun.wait_for("stopped");
    assert_eq!(hotrun.wait().code(), Some(0));
    assert!(!is_alive(inside));
    hotrun.leaves_nobody();
}
