//! One app at a time, started as configured, ended with all that belongs to it.

use nix::sys::signal::{Signal, kill};

use crate::sandbox::{CONFIG, Sandbox, is_alive, pid_in};

#[test]
fn an_app_that_ignores_sigterm_is_killed_after_its_grace_and_never_overlaps_its_successor() {
    // Each app looks whether its predecessor is still there.
    let app = "trap 'echo asked' TERM\nif test -e pid && kill -0 $(cat pid) 2>/dev/null; then \
               echo OVERLAP; fi\necho $$ > pid\necho serving $(cat built) as $$\n\
               while :; do sleep 0.05; done\n";
    let config = CONFIG.replace("20s", "300ms");
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for("asked");
    hotrun.wait_for(&format!("killing  pid {first}: it did not exit within 300 ms of SIGTERM"));
    hotrun.wait_serving("two");
    assert!(!is_alive(first));
    assert_eq!(hotrun.count("OVERLAP"), 0);
    assert_eq!(hotrun.count("asked"), 1, "never asked twice");
    hotrun.end();
}

#[test]
fn a_slow_stop_is_waited_for() {
    let app = "trap 'sleep 0.3; echo drained; exit 0' TERM\necho serving $(cat built) as $$\n\
               while :; do sleep 0.02; done\n";
    let project = Sandbox::new().script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for("drained");
    hotrun.wait_serving("two");
    assert_eq!(hotrun.count("killing"), 0);
    hotrun.end();
}

#[test]
fn a_grandchild_in_the_same_group_goes_too() {
    let app = "sh -c 'echo grandchild $$; exec sleep 1000' &\necho serving $(cat built) as $$\n\
               exec sleep 1000\n";
    let project = Sandbox::new().script("app", app);
    let mut hotrun = project.start(&[]);
    let grandchild = pid_in(&hotrun.wait_for("grandchild "));
    project.save("source.txt", "two\n");
    hotrun.wait_for("stopped");
    assert!(!is_alive(grandchild), "the successor starts when the whole group is gone");
    hotrun.wait_for("started");
    hotrun.end();
}

#[test]
fn a_background_child_of_an_app_that_ended_goes_before_the_next_starts() {
    let app = "if grep -q one built; then sh -c 'trap \"\" HUP; echo left $$; exec sleep 1000' &\n\
               sleep 0.2; exit 3; fi\necho serving $(cat built) as $$\nexec sleep 1000\n";
    let project = Sandbox::new().script("app", app);
    let mut hotrun = project.start(&[]);
    let left = pid_in(&hotrun.wait_for("left "));
    hotrun.wait_for("crashed");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    assert!(!is_alive(left));
    hotrun.end();
}

#[test]
fn a_stopped_app_is_continued_so_that_it_can_obey() {
    let app = "trap 'echo obeyed; exit 0' TERM\necho serving $(cat built) as $$\n\
               while :; do sleep 0.02; done\n";
    let project = Sandbox::new().script("app", app);
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    kill(first, Signal::SIGSTOP).unwrap();
    project.save("source.txt", "two\n");
    hotrun.wait_for("obeyed");
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn a_crash_is_told_with_its_code_or_signal_and_the_next_save_revives() {
    let app = "grep -q code built && exit 3\ngrep -q signal built && kill -SEGV $$\n\
               echo serving $(cat built) as $$\nexec sleep 1000\n";
    let project = Sandbox::new().script("app", app).file("source.txt", "code\n");
    let mut hotrun = project.start(&[]);
    let line = hotrun.wait_for("crashed");
    assert!(line.ends_with(": exit code 3; waiting for a save"), "{line}");
    project.save("source.txt", "signal\n");
    let line = hotrun.wait_for("crashed");
    assert!(line.contains(": SIGSEGV"), "{line}");
    project.save("source.txt", "good\n");
    hotrun.wait_serving("good");
    hotrun.end();
}

#[test]
fn arguments_come_from_the_configuration_then_from_the_command_line_and_no_shell_sees_them() {
    let config = "[build]\ncmd = \"cp source.txt built\"\nentrypoint = [\"./app\", \"a b\"]\n\
                  args_bin = [\"$HOME\", \"*\"]\n";
    let app = "printf '<%s>' \"$@\"; echo\nexec sleep 1000\n";
    let project = Sandbox::new().file("hotrun.toml", config).script("app", app);
    let mut hotrun = project.start(&["--", "--port", "1;2"]);
    hotrun.wait_for("<a b><$HOME><*><--port><1;2>");
    hotrun.end();
}

#[test]
fn full_bin_goes_through_the_shell_and_the_arguments_behind_it_do_not() {
    let config = "[build]\ncmd = \"true\"\nfull_bin = \"NAME=x; printf '<%s>' $NAME\"\n\
                  args_bin = [\"$NAME\"]\n";
    let project = Sandbox::empty().file("hotrun.toml", config);
    let mut hotrun = project.start(&["--once", "--", "two words"]);
    hotrun.wait_for("<x><$NAME><two words>");
    assert_eq!(hotrun.wait().code(), Some(0));
}

#[test]
fn the_app_is_told_its_generation_and_what_changed() {
    let app = "echo \"generation $HOTRUN_GENERATION hot $HOTRUN changed $HOTRUN_CHANGED\"\n\
               exec sleep 1000\n";
    let project = Sandbox::new()
        .script("app", app)
        .file("sub/a.txt", "")
        .env("LISTEN_FDS", "1")
        .env("MAKEFLAGS", "-j2 --jobserver-auth=3,4");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("generation 1 hot 1 changed");
    project.save("sub/a.txt", "x");
    hotrun.wait_for("generation 2 hot 1 changed sub/a.txt");
    hotrun.end();
    // The same where nothing is built.
    let project = project.file("hotrun.toml", "[build]\nentrypoint = \"./app\"\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("generation 1 hot 1 changed");
    project.save("sub/a.txt", "y");
    hotrun.wait_for("generation 2 hot 1 changed sub/a.txt");
    hotrun.end();
}

#[test]
fn what_others_told_hotrun_does_not_reach_the_app() {
    let app =
        "echo \"<$LISTEN_FDS><$LISTEN_PID><${NOTIFY_SOCKET##*/}><$MAKEFLAGS>\"\nexec sleep 1000\n";
    let project = Sandbox::new()
        .script("app", app)
        .env("LISTEN_FDS", "1")
        .env("LISTEN_PID", "7")
        .env("NOTIFY_SOCKET", "/run/theirs")
        .env("MAKEFLAGS", "-j2 --jobserver-auth=3,4");
    let mut hotrun = project.start(&[]);
    // The third is hotrun's own.
    let own = format!("<><><notify.{}.", hotrun.pid());
    assert!(hotrun.wait_for("><-j2>").starts_with(&own));
    hotrun.end();
}

#[test]
fn an_executable_that_somebody_still_writes_is_tried_again() {
    let project = Sandbox::empty().file("source.txt", "one\n").file(
        "hotrun.toml",
        // The copy stays open for writing a little longer than the build takes.
        "[build]\ncmd = \"cp -f $(command -v sleep) sleeper; { trap '' TERM; exec 9<>sleeper; sleep 0.3; } &\"\n\
         entrypoint = [\"./sleeper\", \"1000\"]\ninclude_ext = [\"txt\"]\ncancel_grace = \"10s\"\n\
         [run]\nsignal = \"KILL\"\n",
    );
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("ready");
    assert_eq!(hotrun.count("to start"), 0, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn with_on_exit_restart_it_comes_back_by_itself() {
    let app = "echo turn >> turns.log\necho turn $(wc -l < turns.log)\n\
               test $(wc -l < turns.log) -ge 3 && exec sleep 1000\nexit 1\n";
    let config = format!("{CONFIG}[run]\non_exit = \"restart\"\n");
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("turn 1");
    hotrun.wait_for("exit code 1; restarting");
    hotrun.wait_for("turn 3");
    hotrun.wait_for("ready");
    hotrun.end();
}

#[test]
fn with_on_exit_restart_it_comes_back_when_it_has_died_during_a_build_that_failed() {
    let build = "! grep -q broken source.txt || { until [ -e died ]; do sleep 0.01; done; exit 1; }; \
                 cp source.txt built";
    let config = CONFIG.replace("cp source.txt built", build);
    let config = format!("{config}[run]\non_exit = \"restart\"\n");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("source.txt", "broken\n");
    hotrun.wait_for("building");
    kill(first, Signal::SIGKILL).unwrap();
    hotrun.wait_for("crashed");
    project.save("died", "");
    hotrun.wait_for("failed");
    let second = hotrun.wait_serving("one");
    assert_ne!(first, second);
    hotrun.end();
}

#[test]
fn with_on_exit_quit_hotrun_ends_with_the_apps_code() {
    let config = format!("{CONFIG}[run]\non_exit = \"quit\"\n");
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", "exit 7\n");
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 7, "{stderr}");
    assert!(stderr.contains("exit code 7; exiting"), "{stderr}");
}

#[test]
fn once_builds_and_runs_without_watching_and_ends_with_the_code_of_what_failed() {
    let project = Sandbox::new().script("app", "echo ran $(cat built)\nexit 4\n");
    let (code, stdout, _) = project.run(&["--once"]);
    assert_eq!((code, stdout.as_str()), (4, "ran one\n"));
    let project = Sandbox::new().script("app", "kill -TERM $$\n");
    assert_eq!(project.run(&["--once"]).0, 128 + 15);
    let failing = CONFIG.replace("cp source.txt built", "exit 9");
    let project = Sandbox::new().file("hotrun.toml", &failing);
    let (code, stdout, stderr) = project.run(&["--once"]);
    assert_eq!((code, stdout.as_str()), (9, ""), "{stderr}");
    let build_only = Sandbox::empty().file("hotrun.toml", "[build]\ncmd = \"echo done\"\n");
    assert_eq!(build_only.run(&["--once"]).0, 0);
}

#[test]
fn colours_and_terminals_reach_the_app_as_hotrun_has_them() {
    // stdout and stderr are inherited: what is a pipe for hotrun is that very pipe for the app.
    let app = "readlink /proc/$$/fd/1\nreadlink /proc/$$/fd/0\n";
    let project = Sandbox::new().script("app", app);
    let (code, stdout, _) = project.run(&["--once", "-q"]);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(code, 0);
    assert!(lines[0].starts_with("pipe:["), "{stdout}");
    assert_eq!(lines[1], "/dev/null");
}

#[test]
fn a_script_that_is_the_program_is_a_source_too() {
    let config = "[build]\ncmd = \"cp source.txt built\"\nentrypoint = \"./app.sh\"\n\
                  include_ext = [\"sh\"]\n";
    let project = Sandbox::new().file("hotrun.toml", config).script("app.sh", crate::sandbox::APP);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("app.sh", "#!/bin/sh\necho serving anew as $$\nexec sleep 1000\n");
    hotrun.wait_serving("anew");
    hotrun.end();
}
