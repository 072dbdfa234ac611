//! How a program is stopped, who may stay, and what is found of those who were killed.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sandbox::{
    CONFIG, Hotrun, PATIENCE, Sandbox, can, has, is_alive, pid_in, stat, wait_until,
};

#[test]
fn defect_21_a_wrapper_that_ends_first_is_waited_for_with_all_that_it_started() {
    let app = "sh -c 'trap \"sleep 1.5; echo drained; exit\" TERM; echo up; \
               while :; do sleep 0.02; done' &\n\
               trap 'echo wrapper ends; exit' TERM\necho serving $(cat built) as $$\n\
               while :; do sleep 0.02; done\n";
    let project = Sandbox::new().script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_line("up");
    project.save("source.txt", "two\n");
    hotrun.wait_for_line("wrapper ends");
    hotrun.wait_for_line("drained");
    hotrun.wait_serving("two");
    assert_eq!(hotrun.count("killing"), 0, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn who_is_waited_for_is_named_after_a_second_and_when_it_is_killed() {
    let app = "trap '' TERM\necho serving $(cat built) as $$\nwhile :; do sleep 0.02; done\n";
    let config = CONFIG.replace("20s", "2500ms");
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
    let mut hotrun = project.start(&[]);
    let pid = hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    let line = hotrun.wait_for("  waiting  ");
    assert!(line.contains(&format!("app\" (pid {pid})")), "{line}");
    assert!(line.contains("1 s after SIGTERM; killed in 1"), "{line}");
    let remedy = "(build.kill_delay; run.mode = \"handover\" does not wait)";
    assert!(line.ends_with(remedy), "{line}");
    hotrun.wait_for("killing");
    hotrun.wait_serving("two");
    hotrun.signal(Signal::SIGINT);
    hotrun.wait();
    hotrun.leaves_nobody();
}

#[test]
fn at_the_end_no_handover_is_suggested() {
    let app = "trap '' TERM\nsh -c \"trap '' TERM; while :; do sleep 0.02; done\" &\n\
               echo serving $(cat built) as $$\nwhile :; do sleep 0.02; done\n";
    let config = CONFIG.replace("20s", "2500ms");
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.signal(Signal::SIGTERM);
    let line = hotrun.wait_for("  waiting  ");
    assert!(line.contains(" more, which have not exited 1 s after SIGTERM; killed in 1"), "{line}");
    assert!(line.ends_with("(build.kill_delay)"), "{line}");
    hotrun.wait();
    hotrun.leaves_nobody();
}

#[test]
fn with_stop_scope_leader_only_the_program_itself_is_asked() {
    // The leader gives the child a second to say that it was asked directly.
    let app = "sh -c 'trap \"echo asked directly; > asked\" TERM; \
               trap \"echo asked by the leader; exit\" USR1; \
               while ! test -e ready; do sleep 0.02; done; \
               echo up; while :; do sleep 0.02; done' &\nchild=$!\n\
               trap 'for i in $(seq 50); do test -e asked && break; sleep 0.02; done; \
               kill -USR1 $child; wait $child; exit' TERM\n> ready\n\
               while :; do sleep 0.02; done\n";
    for (keys, directly) in [("", 1), ("[run]\nstop_scope = \"leader\"\n", 0)] {
        let project =
            Sandbox::new().file("hotrun.toml", &format!("{CONFIG}{keys}")).script("app", app);
        let mut hotrun = project.start(&[]);
        hotrun.wait_for_line("up");
        let output = hotrun.end();
        let count = |text: &str| output.lines().filter(|line| *line == text).count();
        assert_eq!(count("asked directly"), directly, "{output}");
        assert_eq!(count("asked by the leader"), 1, "{output}");
    }
}

#[test]
fn nobody_is_left_when_hotrun_is_killed_during_a_build_a_rule_or_a_hook() {
    let stuck = "echo stuck; setsid sleep 777 & sleep 777 & wait";
    let build = CONFIG.replace("cp source.txt built", stuck);
    let rule = format!("{CONFIG}[[build.rules]]\ninclude_ext = [\"rule\"]\ncmd = \"{stuck}\"\n");
    let hook = format!("{CONFIG}post_cmd = [\"{stuck}\"]\n");
    for (name, config) in [("build", build), ("rule", rule), ("hook", hook)] {
        let project = Sandbox::new().file("hotrun.toml", &config).file("a.rule", "");
        let mut hotrun = project.start(&[]);
        if name != "build" {
            hotrun.wait_for("ready");
        }
        match name {
            "rule" => project.save("a.rule", "b"),
            "hook" => hotrun.signal(Signal::SIGINT),
            _ => {}
        }
        hotrun.wait_for_line("stuck");
        hotrun.signal(Signal::SIGKILL);
        hotrun.wait();
        wait_until(&format!("nobody survives ({name})"), || hotrun.everybody().is_empty());
    }
}

#[test]
fn who_is_spared_is_neither_signalled_nor_waited_for_and_no_zombie_when_it_ends() {
    // Those that are named are in the program's own group.
    let app = "sleep 4711 & echo spared $!\nsh -c 'sleep 4712 & wait' & \n\
               echo serving $(cat built) as $$\nwhile :; do sleep 0.02; done\n";
    let config = format!("spare = [\"sleep 47*\", \"!sleep 4712\"]\n{CONFIG}");
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
    let mut hotrun = project.start(&[]);
    let first = pid_in(&hotrun.wait_for("spared "));
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    let second = pid_in(&hotrun.wait_for("spared "));
    hotrun.wait_serving("two");
    hotrun.wait_for("ready");
    assert!(is_alive(first) && is_alive(second));
    assert_eq!(hotrun.count("killing"), 0, "{}", hotrun.output());
    // hotrun has inherited it, and reaps it.
    kill(first, Signal::SIGKILL).unwrap();
    wait_until("it is reaped", || !fs::exists(format!("/proc/{first}")).unwrap());
    hotrun.signal(Signal::SIGINT);
    assert_eq!(hotrun.wait().code(), Some(0));
    let left: Vec<Pid> = hotrun.everybody().into_iter().map(|(pid, _)| pid).collect();
    assert_eq!(left, [second], "{}", hotrun.output());
    kill(second, Signal::SIGKILL).unwrap();
    wait_until("it is dead", || !is_alive(second));
}

#[test]
fn what_was_killed_together_with_its_guardians_has_left_is_ended_by_the_next_and_nothing_else() {
    let app = "if grep -q one built; then\n\
               sleep 4711 & echo left $!\nsleep 4712 & echo left $!\n\
               setsid sleep 4713 & echo left $!\nfi\n\
               echo serving $(cat built) as $$\nexec sleep 1000\n";
    let config = format!("spare = [\"sleep 4712\"]\n{CONFIG}");
    let runtime = tempfile::tempdir().unwrap();
    let project = Sandbox::new()
        .file("hotrun.toml", &config)
        .script("app", app)
        .env("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap());
    let mut hotrun = project.start(&[]);
    let [ours, spared, elsewhere] = [(); 3].map(|()| pid_in(&hotrun.wait_for("left ")));
    let app = hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    hotrun.kill_with_guardians();
    // The program itself dies with its guardian.
    wait_until("it is dead", || !is_alive(app));
    assert!(is_alive(ours) && is_alive(spared) && is_alive(elsewhere));

    project.save("source.txt", "two\n");
    let mut next = project.start(&[]);
    let line = next.wait_for("  killed  ");
    assert!(line.contains(&format!("\"sleep 4711\" (pid {ours}) and 1 more, left")), "{line}");
    next.wait_serving("two");
    wait_until("they are dead", || !is_alive(ours) && !is_alive(elsewhere));
    assert!(is_alive(spared));
    next.signal(Signal::SIGINT);
    assert_eq!(next.wait().code(), Some(0));
    assert_eq!(fs::read_dir(runtime.path().join("hotrun")).unwrap().count(), 0);
    kill(spared, Signal::SIGKILL).unwrap();
}

#[test]
fn a_directory_that_cannot_be_entered_is_told_as_what_it_is() {
    let project = Sandbox::new().file("gone/x.txt", "");
    let mut command = project
        .program("sh", &["-c", "cd gone && rm -rf ../gone && exec \"$0\" -c ../hotrun.toml"]);
    command.arg(env!("CARGO_BIN_EXE_hotrun"));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("directory"), "{text}");
}

#[test]
fn guardians_have_a_name_of_their_own_and_are_not_hit_by_what_is_meant_for_hotrun() {
    let name = "guardians_have_a_name_of_their_own_and_are_not_hit_by_what_is_meant_for_hotrun";
    if !has(name, &["ps"]) {
        return;
    }
    let project = Sandbox::new();
    let mut hotrun = project.start(&[]);
    let app = hotrun.wait_serving("one");
    let parent = |pid: Pid| Pid::from_raw(stat(pid)[1].parse().unwrap());
    let guardian = parent(app);
    assert_eq!(parent(guardian), hotrun.pid());
    let ps = std::process::Command::new("ps")
        .args(["-o", "comm=,args=", "-p", &guardian.to_string()])
        .output()
        .unwrap();
    let line = String::from_utf8_lossy(&ps.stdout).into_owned();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>().join(" "),
        format!("hotguard hotguard of {}", hotrun.pid())
    );
    hotrun.end();
}

/// Descriptors, threads, kilobytes and children of hotrun.
pub(crate) fn resources(hotrun: &Hotrun) -> [usize; 4] {
    let pid = hotrun.pid();
    let entries = |name: &str| fs::read_dir(format!("/proc/{pid}/{name}")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    // Without the pages of the program's own file: the kernel decides how many are mapped.
    let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let memory = memory.trim().trim_end_matches(" kB").parse().unwrap();
    [entries("fd"), entries("task"), memory, hotrun.everybody().len()]
}

#[test]
fn two_thousand_restarts_leave_hotrun_as_it_was_after_ten() {
    let config = "[build]\nentrypoint = [\"./app\"]\ninclude_ext = [\"txt\"]\n";
    let app = "echo serving $(cat source.txt) as $$\nexec sleep 1000\n";
    let project = Sandbox::new().file("hotrun.toml", config).script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    let mut early = None;
    for round in 1..=2000 {
        project.save("source.txt", &format!("{round}\n"));
        hotrun.wait_serving(&round.to_string());
        if round == 10 {
            hotrun.wait_for("ready");
            early = Some(at_rest(&hotrun, |count| count == MOST_PROCESSES));
        }
    }
    hotrun.wait_for("ready");
    let (early, late) = (early.unwrap(), at_rest(&hotrun, |count| count == MOST_PROCESSES));
    let [descriptors, threads, memory, processes] = late;
    assert_eq!([descriptors, threads, processes], [early[0], early[1], early[3]]);
    // What an allocator keeps is not the same each time.
    assert!(memory <= early[2] + 2048, "{early:?} {late:?}");
    hotrun.end();
}

/// hotrun, the app and its guardian, and two guardians that wait.
pub(crate) const MOST_PROCESSES: usize = 5;

/// What it has when two looks in a row say the same, and this many processes are what is expected.
pub(crate) fn at_rest(hotrun: &Hotrun, is_expected: impl Fn(usize) -> bool) -> [usize; 4] {
    let until = Instant::now() + PATIENCE;
    loop {
        let before = resources(hotrun);
        thread::park_timeout(Duration::from_millis(200));
        let after = resources(hotrun);
        if before == after && is_expected(after[3]) {
            return after;
        }
        assert!(Instant::now() < until, "it does not come to rest: {after:?}\n{}", hotrun.output());
    }
}

#[test]
fn where_a_control_group_is_delegated_each_tree_is_born_in_one_and_none_is_left() {
    let name = "where_a_control_group_is_delegated_each_tree_is_born_in_one_and_none_is_left";
    // A group of this test's own, in which hotrun is started.
    let make = "root=$(awk '$3 == \"cgroup2\" {print $2; exit}' /proc/mounts) && \
                mkdir $root/hotrun-test-$$ && rmdir $root/hotrun-test-$$";
    if !can(name, make) {
        return;
    }
    let project = Sandbox::new().script(
        "app",
        "grep '^0::' /proc/self/cgroup\nsetsid sleep 1000 &\n\
         echo serving $(cat built) as $$\nexec sleep 1000\n",
    );
    let mut hotrun = project.start_by(
        "root=$(awk '$3 == \"cgroup2\" {print $2; exit}' /proc/mounts); own=$root/hotrun-test-$$; \
         mkdir $own; echo $$ > $own/cgroup.procs; echo own $own; exec \"$@\"",
    );
    let own = hotrun.wait_for("own ")["own ".len()..].to_owned();
    let line = hotrun.wait_for("0::");
    assert!(line.contains("/hotrun."), "{line}");
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.wait_for("ready");
    hotrun.end();
    let left = fs::read_dir(&own).unwrap().flatten().filter(|one| one.path().is_dir()).count();
    fs::remove_dir(&own).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn what_is_told_to_hotrun_while_it_reads_the_project_does_not_end_it() {
    let cargo = "touch asked\nwhile ! test -e go; do sleep 0.02; done\nexit 3\n";
    let project = Sandbox::empty().file("Cargo.toml", crate::rust::MANIFEST).script("cargo", cargo);
    let path = format!("{}:{}", project.root().display(), std::env::var("PATH").unwrap());
    let project = project.env("PATH", &path);
    let mut hotrun = project.start(&[]);
    wait_until("cargo is asked", || project.root().join("asked").exists());
    for signal in [Signal::SIGWINCH, Signal::SIGCONT, Signal::SIGUSR1] {
        hotrun.signal(signal);
    }
    project.save("go", "");
    // It has waited for the answer.
    hotrun.wait_for("exit code 3");
    hotrun.wait_for("waiting until this is fixed");
    hotrun.end();
}
