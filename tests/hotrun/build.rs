//! The latest save wins, and the good app lives through every failed build.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sandbox::{CONFIG, Sandbox, is_alive};

#[test]
fn a_save_restarts_with_the_new_code() {
    let project = Sandbox::new();
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for("changed  source.txt");
    let second = hotrun.wait_serving("two");
    assert_ne!(first, second);
    assert!(!is_alive(first));
    hotrun.end();
}

#[test]
fn a_save_during_the_build_overtakes_it_and_only_the_newest_starts() {
    // The second build says that it runs, and then waits for ever: only a newer save ends it.
    let slow = "[build]\ncmd = \"cp source.txt built; grep -q two built && echo stuck && \
                sleep 1000; true\"\nentrypoint = \"./app\"\ninclude_ext = [\"txt\"]\n";
    let project = Sandbox::new().file("hotrun.toml", slow);
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for_line("stuck");
    assert!(is_alive(first), "the old app serves while a build runs");
    project.save("source.txt", "three\n");
    hotrun.wait_serving("three");
    assert_eq!(hotrun.count("serving two"), 0);
    hotrun.end();
}

#[test]
fn ten_saves_in_a_burst_give_one_restart() {
    // No build ends before all is saved, however slow the machine.
    let build = "until test -e go; do sleep 0.01; done; cat *.txt | tr -d '\\\\n' > built";
    let config = CONFIG.replace("cp source.txt built", build);
    let project = Sandbox::new()
        .file("hotrun.toml", &config)
        .file("go", "")
        .env("HOTRUN_LOG", "hotrun=debug");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.sh("rm go");
    for number in 0..10 {
        project.save(&format!("{number}.txt"), &number.to_string());
    }
    hotrun.wait_for("/9.txt");
    project.save("go", "");
    hotrun.wait_serving("0123456789one");
    assert_eq!(hotrun.count("serving"), 2, "{}", hotrun.output());
    project.save("source.txt", "last");
    hotrun.wait_serving("0123456789last");
    assert_eq!(hotrun.count("serving"), 3, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn the_old_app_outlives_a_failed_build_and_the_next_good_one_replaces_it() {
    let config =
        CONFIG.replace("cp source.txt built", "! grep -H broken source.txt && cp source.txt built");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.save("source.txt", "broken\n");
    hotrun.wait_for("source.txt:broken");
    let line = hotrun.wait_for("failed");
    assert!(line.contains("exit code 1, after "), "{line}");
    assert!(line.ends_with(&format!("; pid {first} keeps running")), "{line}");
    assert!(is_alive(first));
    project.save("source.txt", "mended\n");
    hotrun.wait_serving("mended");
    assert!(!is_alive(first));
    hotrun.end();
}

#[test]
fn with_stop_on_error_a_failed_build_ends_the_app() {
    let config =
        CONFIG.replace("cp source.txt built", "! grep -q broken source.txt && cp source.txt built");
    let project = Sandbox::new().file("hotrun.toml", &format!("{config}stop_on_error = true\n"));
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.save("source.txt", "broken\n");
    hotrun.wait_for("nothing is running");
    hotrun.wait_for(&format!("stopped  pid {first}"));
    project.save("source.txt", "mended\n");
    hotrun.wait_serving("mended");
    hotrun.end();
}

#[test]
fn pre_cmds_run_in_order_before_cmd_and_the_first_that_fails_ends_the_build() {
    let config = "[build]\npre_cmd = [\"echo first\", \"echo second; test -e allowed.txt\", \
                  \"echo third\"]\ncmd = \"echo fourth; cp source.txt built\"\n\
                  entrypoint = \"./app\"\ninclude_ext = [\"txt\"]\n";
    let project = Sandbox::new().file("hotrun.toml", config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_line("first");
    hotrun.wait_for_line("second");
    hotrun.wait_for("failed");
    assert_eq!(hotrun.count("building  echo t"), 0, "{}", hotrun.output());
    project.save("allowed.txt", "");
    hotrun.wait_for_line("third");
    hotrun.wait_for_line("fourth");
    hotrun.wait_serving("one");
    hotrun.end();
}

#[test]
fn in_air_mode_a_failing_pre_cmd_ends_the_list_with_a_warning_and_still_builds() {
    let config = "[build]\npre_cmd = [\"exit 3\", \"echo never\"]\ncmd = \"cp source.txt built\"\n\
                  entrypoint = \"./app\"\n";
    let project = Sandbox::new().file(".air.toml", config);
    let mut hotrun = project.start(&["-c", ".air.toml"]);
    hotrun.wait_for("warning  exit 3: exit code 3; the build continues");
    hotrun.wait_serving("one");
    assert_eq!(hotrun.count("never"), 0);
    hotrun.end();
}

#[test]
fn what_a_build_leaves_behind_does_not_delay_the_start_and_is_ended() {
    let config = CONFIG.replace("cp source.txt built", "sleep 1000 & cp source.txt built");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.end();
}

#[test]
fn an_overtaken_build_that_ignores_sigterm_is_killed_after_its_grace() {
    let config = "[build]\ncmd = \"trap '' TERM; cp source.txt built; \
                  while grep -q two built; do echo stuck; sleep 0.1; done\"\n\
                  cancel_grace = \"100ms\"\nentrypoint = \"./app\"\ninclude_ext = [\"txt\"]\n";
    let project = Sandbox::new().file("hotrun.toml", config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for_line("stuck");
    project.save("source.txt", "three\n");
    hotrun.wait_for("did not exit within 100 ms of SIGTERM");
    hotrun.wait_serving("three");
    hotrun.end();
}

#[test]
fn a_build_that_made_no_program_has_failed_and_the_old_app_lives() {
    let config = "[build]\ncmd = \"if grep -q none source.txt; then rm -f app; fi; cp source.txt built\"\n\
                  entrypoint = \"./app\"\ninclude_ext = [\"txt\"]\n";
    let project = Sandbox::new().file("hotrun.toml", config);
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.save("source.txt", "none\n");
    let line = hotrun.wait_for("the build succeeded but");
    assert!(line.contains("app is not there; do build.cmd and build.entrypoint name"), "{line}");
    assert!(line.ends_with(&format!("pid {first} keeps running")), "{line}");
    assert!(is_alive(first));
    hotrun.end();
}

#[test]
fn a_program_that_is_not_executable_is_told_with_the_remedy() {
    let project = Sandbox::new();
    project.sh("chmod -x app");
    let mut hotrun = project.start(&[]);
    let line = hotrun.wait_for("failed");
    assert!(line.contains("app is not executable (chmod +x)"), "{line}");
    assert!(line.ends_with("nothing is running"), "{line}");
    hotrun.end();
}

#[test]
fn a_generator_in_cmd_that_writes_something_new_each_time_does_not_loop() {
    let config = "[build]\ncmd = \"cp source.txt built; date +%s%N > gen.txt\"\n\
                  entrypoint = \"./app\"\ninclude_ext = [\"txt\"]\n";
    let project = Sandbox::new().file("hotrun.toml", config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.wait_for("ready");
    // It is proven to be output, or its builds come ever later.
    let builds = hotrun.count("building") + hotrun.count("verifying");
    assert!(builds <= 30, "{builds} builds\n{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_generator_that_writes_the_same_costs_more_builds_until_that_is_proven_and_one_from_then_on() {
    let config = "[build]\ncmd = \"sleep 0.1; cp source.txt built; cp source.txt gen.txt; sleep 0.2\"\n\
                  entrypoint = \"./app\"\ninclude_ext = [\"txt\"]\n";
    let project = Sandbox::new().file("hotrun.toml", config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("unchanged  the program is the same");
    for number in 0..10 {
        if hotrun.count("output  gen.txt") > 0 {
            break;
        }
        project.save("source.txt", &format!("{number}\n"));
        hotrun.wait_serving(&number.to_string());
        hotrun.wait_for("unchanged  the program is the same");
    }
    let builds = hotrun.count("building") + hotrun.count("verifying");
    project.save("source.txt", "four\n");
    hotrun.wait_serving("four");
    hotrun.wait_for("ready");
    let after = hotrun.count("building") + hotrun.count("verifying");
    assert_eq!(after, builds + 1, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn delay_keeps_builds_apart_and_no_save_is_forgotten() {
    let project = Sandbox::new().file("hotrun.toml", &format!("{CONFIG}delay = 3600000\n"));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("source.txt", "two\n");
    hotrun.wait_for("changed");
    project.save("other.txt", "");
    hotrun.wait_for("changed  other.txt");
    assert_eq!(hotrun.end().matches("building").count(), 1);
    let project = project.file("hotrun.toml", &format!("{CONFIG}delay = 500\n"));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("two");
    project.save("source.txt", "three\n");
    hotrun.wait_serving("three");
    hotrun.end();
}

#[test]
fn a_build_that_writes_a_new_name_each_time_does_not_loop_and_its_app_runs() {
    let config = "[build]\ncmd = \"cp source.txt built; echo > $(date +%s%N).txt; sleep 0.2\"\n\
                  entrypoint = \"./app\"\ninclude_ext = [\"txt\"]\n";
    let project = Sandbox::new().file("hotrun.toml", config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("output  #.txt: written by the build");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn an_overtaken_build_begins_no_further_command() {
    let config = "[build]\npre_cmd = [\"trap 'exit 0' TERM; grep -q two source.txt && \
                  { echo waiting; sleep 1000 & wait; }; true\"]\n\
                  cmd = \"cat source.txt; cp source.txt built\"\nentrypoint = \"./app\"\n\
                  include_ext = [\"txt\"]\n";
    let project = Sandbox::new().file("hotrun.toml", config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for_line("waiting");
    project.save("source.txt", "three\n");
    hotrun.wait_serving("three");
    assert_eq!(hotrun.count("building  cat"), 2, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_build_that_was_stopped_is_named_and_goes_on_when_it_is_continued() {
    let build = "cp source.txt built; grep -q one built || kill -STOP $$";
    let project = Sandbox::new().file("hotrun.toml", &CONFIG.replace("cp source.txt built", build));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    let line = hotrun.wait_for("was stopped by SIGSTOP; continue it with `kill -CONT ");
    let pid = line.rsplit(' ').next().unwrap().trim_end_matches('`').parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    hotrun.wait_serving("two");
    hotrun.end();
}
