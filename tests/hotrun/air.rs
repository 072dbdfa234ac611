//! What air does wrong, by the numbers of its defects, does not happen here.
//!
//! Each of these was seen with air 1.67. Defects of watching and of processes that concern
//! every configuration are in `watching`, `app` and `end`.

use std::fs;

use nix::sys::signal::Signal;

use crate::sandbox::{APP, Sandbox, has, is_alive, skip};

/// A project of air's that builds and runs without Go.
fn airs(keys: &str) -> Sandbox {
    let config = format!(
        "[build]\ncmd = \"cp source.txt built\"\nbin = \"./app\"\ninclude_ext = [\"txt\"]\n{keys}"
    );
    Sandbox::empty().file(".air.toml", &config).script("app", APP).file("source.txt", "one\n")
}

/// With a `cmd` of its own.
fn building(cmd: &str, keys: &str) -> Sandbox {
    let project = airs(keys);
    let text = fs::read_to_string(project.root().join(".air.toml")).unwrap();
    project.file(".air.toml", &text.replace("\"cp source.txt built\"", cmd))
}

#[test]
fn defects_1_2_and_13_no_save_waits_a_second_nor_for_delay_0() {
    // No clock is needed: each build says how many others it has seen.
    let project = airs("delay = 0\n");
    let (_, stdout, _) = project.run(&["check", "--all"]);
    assert!(stdout.contains("delay = 0 ") && stdout.contains("# .air.toml:5"), "{stdout}");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn defects_3_4_5_and_6_one_build_at_a_time_and_the_newest_is_what_starts() {
    let cmd = "'test -e lock && echo OVER${X}LAP; touch lock; echo begun; until test -e go; do sleep 0.01; \
               done; cp source.txt built; rm -f lock'";
    let project = building(cmd, "delay = 0\n[build.linux]\npost_cmd = []\n").file("go", "");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.sh("rm go");
    for version in ["two", "three", "four"] {
        project.save("source.txt", &format!("{version}\n"));
        hotrun.wait_for_line("begun");
        // An overtaken build has no time to clean up after itself.
        project.sh("rm -f lock");
    }
    project.save("go", "");
    hotrun.wait_serving("four");
    assert_eq!(hotrun.count("OVERLAP"), 0, "{}", hotrun.output());
    assert_eq!(hotrun.count("serving"), 2, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_stream_of_saves_with_a_slow_build_ends_with_the_newest() {
    let cmd = "'echo reads $(cat source.txt); grep -q last source.txt || sleep 1000; \
               cp source.txt built'";
    let project = building(cmd, "").file("source.txt", "last first\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("last first");
    hotrun.wait_for("ready");
    for number in 0..6 {
        project.save("source.txt", &format!("{number}\n"));
        hotrun.wait_for_line(&format!("reads {number}"));
    }
    project.save("source.txt", "last\n");
    hotrun.wait_serving("last");
    assert_eq!(hotrun.count("builds in a row were cancelled"), 1, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_stream_of_saves_without_a_build_to_speak_of_starts_each() {
    let project = airs("");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    for number in 0..10 {
        project.save("source.txt", &format!("{number}\n"));
        hotrun.wait_serving(&number.to_string());
    }
    assert_eq!(hotrun.count("serving"), 11, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn defects_8_and_9_an_unchanged_file_is_no_save_and_a_restored_one_is() {
    let project =
        building("'cat *.txt > built'", "exclude_unchanged = true\n").file("more.txt", "x\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("ready");
    project.save("more.txt", "y\n");
    hotrun.wait_for("serving y one");
    project.save("more.txt", "y\n");
    hotrun.wait_for("unchanged  more.txt");
    assert_eq!(hotrun.count("building"), 2, "{}", hotrun.output());
    project.sh("rm more.txt");
    hotrun.wait_for("serving one");
    project.save("more.txt", "y\n");
    hotrun.wait_for("serving y one");
    hotrun.end();
}

#[test]
fn defect_11_a_root_with_a_dot_name_and_links_to_directories_are_watched() {
    let project = Sandbox::empty()
        .file(
            ".dev/.air.toml",
            "[build]\ncmd = \"cat linked/a.txt > built\"\nbin = \"./app\"\n\
               include_ext = [\"txt\"]\nfollow_symlink = true\n",
        )
        .file("elsewhere/a.txt", "one\n")
        .file("other/a.txt", "other\n")
        .script(".dev/app", APP);
    project.sh("ln -s ../elsewhere .dev/linked");
    let mut hotrun = project.start(&["-C", ".dev"]);
    hotrun.wait_serving("one");
    project.save("elsewhere/a.txt", "two\n");
    hotrun.wait_serving("two");
    project.sh("ln -sfn ../other .dev/linked");
    hotrun.wait_serving("other");
    project.save("other/a.txt", "three\n");
    hotrun.wait_serving("three");
    hotrun.end();
}

#[test]
fn links_that_lead_to_each_other_are_entered_once() {
    let project = Sandbox::empty()
        .file(
            "app/.air.toml",
            "[build]\ncmd = \"cat in/a.txt > built\"\nbin = \"./run\"\n\
               include_ext = [\"txt\"]\nfollow_symlink = true\n",
        )
        .file("a/a.txt", "one\n")
        .file("b/b.txt", "")
        .script("app/run", APP);
    project
        .sh("ln -s ../a app/in; ln -s ../b a/b; ln -s ../b a/b2; ln -s ../a b/a; ln -s ../a b/a2");
    let mut hotrun = project.start(&["-C", "app"]);
    hotrun.wait_serving("one");
    project.save("a/a.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn what_a_shell_runs_is_no_artifact_and_stays_watched() {
    let watched = |full_bin: &str| {
        let project = airs("");
        project.sh("mkdir cmd; echo > cmd/a.txt; echo > server.txt");
        let args =
            ["explain", "-build.full_bin", full_bin, "-build.bin", "", "cmd/a.txt", "server.txt"];
        let (_, stdout, _) = project.run(&args);
        assert_eq!(stdout.matches("rebuild and restart").count(), 2, "{stdout}");
    };
    watched("go run ./cmd");
    watched("cd ./cmd && npm start");
    watched("node ./server.txt");
    watched("DB=postgres://u@h/x ./app");
    let (code, _, stderr) = airs("").run(&["--once", "-tmp_dir", ".", "-build.bin", "/bin/true"]);
    assert_eq!(code, 0);
    assert!(stderr.contains("tmp_dir contains the project itself"), "{stderr}");
}

#[test]
fn defect_12_an_exclude_that_can_match_nothing_is_told() {
    let project = airs("exclude_dir = [\"**/gen\"]\n");
    let (_, _, stderr) = project.run(&["--once", "-build.cmd", "false"]);
    assert!(
        stderr.contains("\"**/gen\" matches nothing; use [watch] exclude = [\"**/gen/**\"]"),
        "{stderr}"
    );
    let project = airs("exclude_regex = [\"hotrun-test-\"]\n");
    let (_, _, stderr) = project.run(&["--once", "-build.cmd", "false"]);
    assert!(stderr.contains("\"hotrun-test-\" matches the project's own path"), "{stderr}");
}

#[test]
fn defects_15_17_and_18_a_failed_build_keeps_the_program_and_its_words_are_in_the_log() {
    let cmd =
        "'echo checking; if grep broken source.txt >&2; then exit 3; fi; cp source.txt built'";
    let project = building(cmd, "");
    let log = project.root().join("tmp/build-errors.log");
    project.sh("mkdir tmp");
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    for number in 0..2 {
        project.save("source.txt", &format!("broken {number}\n"));
        hotrun.wait_for_line(&format!("broken {number}"));
        hotrun.wait_for("failed  exit code 3, after ");
        let expected = format!("checking\nbroken {number}\n");
        assert_eq!(fs::read_to_string(&log).unwrap(), expected);
    }
    assert!(is_alive(first));
    project.save("source.txt", "mended\n");
    hotrun.wait_serving("mended");
    assert_eq!(fs::read_to_string(&log).unwrap(), "", "nothing is wrong any more");
    hotrun.end();
}

#[test]
fn defect_57_a_build_on_a_terminal_stays_on_one_though_its_output_is_kept() {
    let cmd = "'test -t 1 && test -t 2 && echo to a terminal; stty size <&1; exit 3'";
    let project = building(cmd, "log = \"kept/build.log\"\n");
    let size = nix::pty::Winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = nix::pty::openpty(&size, None).unwrap();
    let slave = || terminal.slave.try_clone().unwrap();
    let mut command = project.command(&["--once"]);
    let mut hotrun = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
    assert_eq!(hotrun.wait().unwrap().code(), Some(3));
    let log = fs::read_to_string(project.root().join("tmp/kept/build.log")).unwrap();
    assert_eq!(log, "to a terminal\n33 111\n");
    let mut shown = [0; 4096];
    let count = nix::unistd::read(&terminal.master, &mut shown).unwrap();
    let shown = String::from_utf8_lossy(&shown[..count]).into_owned();
    assert!(shown.contains("to a terminal\r\n33 111\r\n"), "{shown}");
}

#[test]
fn defect_19_a_pre_cmd_that_fails_ends_the_list_and_with_stop_on_error_the_build() {
    let keys = "pre_cmd = [\"test -e no-such-file\", \"echo SECOND\"]\n";
    let project = airs(keys);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("test -e no-such-file: exit code 1; the build continues");
    hotrun.wait_serving("one");
    assert_eq!(hotrun.count("SECOND"), 0);
    hotrun.end();
    let project = airs(&format!("{keys}stop_on_error = true\n"));
    let (code, _, stderr) = project.run(&["--once"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(!stderr.contains("building  cp source.txt"), "{stderr}");
}

#[test]
fn defects_20_and_22_a_slow_end_is_waited_for_and_never_overlapped() {
    let app = "trap 'sleep 0.4; echo drained; exit 0' INT\ntest -e running && echo OVERLAP\n\
               echo serving $(cat built) as $$\nwhile :; do sleep 0.02; done\n";
    let project = airs("send_interrupt = true\nkill_delay = \"20s\"\n").script("app", app);
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for("drained");
    hotrun.wait_serving("two");
    assert!(!is_alive(first));
    hotrun.end();
    // Without kill_delay there is a grace all the same.
    let project = airs("send_interrupt = true\nkill_delay = \"0s\"\n").script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for("drained");
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn defects_23_and_24_ctrl_c_ends_a_build_and_a_second_one_ends_a_post_cmd() {
    let project = building("'echo begun; sleep 777'", "");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_line("begun");
    hotrun.end();
    let project = airs("post_cmd = [\"echo closing; sleep 777\"]\nkill_delay = \"60s\"\n");
    let mut hotrun = project.start(&[]);
    let app = hotrun.wait_serving("one");
    hotrun.signal(Signal::SIGINT);
    hotrun.wait_for_line("closing");
    assert!(is_alive(app), "as in air, post_cmd runs while the program still does");
    hotrun.signal(Signal::SIGINT);
    hotrun.wait();
    hotrun.leaves_nobody();
}

#[test]
fn ctrl_backslash_kills_everything() {
    let project =
        airs("").file(".air.toml", "[build]\ncmd = \"echo begun; trap '' TERM; sleep 777\"\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_line("begun");
    hotrun.signal(Signal::SIGQUIT);
    hotrun.wait();
    hotrun.leaves_nobody();
}

#[test]
fn defect_25_ctrl_c_does_not_wait_for_a_delay() {
    let project = airs("delay = 3600000\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for("changed  source.txt");
    hotrun.end();
}

#[test]
fn defect_27_a_save_inside_rerun_delay_starts_one_program_not_two() {
    let app = "echo started $$\nexit 0\n";
    let project = airs("rerun = true\nrerun_delay = 300\n").script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("restarting");
    project.save("source.txt", "two\n");
    hotrun.wait_for("built  in");
    // Put in its place, as one cannot write to what is being executed.
    let project = project.script("new", "echo staying $$\nexec sleep 1000\n");
    project.sh("mv new app");
    hotrun.wait_for("staying");
    project.save("source.txt", "three\n");
    hotrun.wait_for("staying");
    hotrun.wait_for("ready");
    // Were there two loops, each would have one.
    assert_eq!(hotrun.children().len(), 1, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn defect_33_no_shell_stays_between_the_guardian_and_the_program() {
    let app = "echo parent $(cat /proc/$PPID/comm)\nexec sleep 1000\n";
    let project = airs("args_bin = [\"--flag=x\", \"y\"]\n").script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_line("parent hotguard");
    hotrun.end();
}

#[test]
fn defect_50_clean_on_exit_deletes_what_hotrun_made_and_nothing_else() {
    let clean = |tmp_dir: &str, before: &str| {
        let config = format!(
            "tmp_dir = \"{tmp_dir}\"\n[build]\ncmd = \"cp source.txt {tmp_dir}/built\"\n\
             bin = \"/bin/true\"\n[misc]\nclean_on_exit = true\n"
        );
        let project = Sandbox::empty().file(".air.toml", &config).file("source.txt", "one\n");
        project.sh(before);
        let (code, _, stderr) = project.run(&["--once"]);
        assert_eq!(code, 0, "{stderr}");
        let is_left = project.root().join(tmp_dir).exists();
        assert!(project.root().join("source.txt").exists());
        (is_left, stderr)
    };
    assert!(!clean("out", "true").0, "hotrun made it");
    let (is_left, stderr) = clean("out", "mkdir out; echo precious > out/file");
    assert!(
        is_left && stderr.contains("clean_on_exit leaves ROOT/out alone: hotrun did not create it"),
        "{stderr}"
    );
    for project in [".", ".."] {
        let (is_left, stderr) = clean(project, "true");
        assert!(is_left && stderr.contains("it contains the project"), "{stderr}");
    }
    // One that an earlier run has left is hotrun's as well.
    let again = Sandbox::empty()
        .file("source.txt", "one\n")
        .file(".air.toml", "[build]\ncmd = \"cp source.txt tmp/built\"\nbin = \"/bin/true\"\n");
    assert_eq!(again.run(&["--once"]).0, 0);
    assert!(again.root().join("tmp/built").exists());
    assert_eq!(again.run(&["--once", "--misc.clean_on_exit", "true"]).0, 0);
    assert!(!again.root().join("tmp").exists());
}

#[test]
fn defect_51_a_change_of_the_configuration_is_taken_up() {
    let project = airs("");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    let text = fs::read_to_string(project.root().join(".air.toml")).unwrap();
    project.save(".air.toml", &text.replace("cp source.txt built", "echo new > built"));
    hotrun.wait_serving("new");
    hotrun.end();
}

#[test]
fn defect_53_a_build_that_makes_no_program_is_only_built() {
    // As in files that only test, or build for somewhere else.
    let project = Sandbox::empty()
        .file(".air.toml", "[build]\ncmd = \"echo checked\"\ninclude_ext = [\"txt\"]\n")
        .file("source.txt", "one\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_line("checked");
    hotrun.wait_for("built  in");
    hotrun.wait_for(
        "failed  to start: no build.entrypoint is configured and the build did not create tmp/main",
    );
    project.save("source.txt", "two\n");
    hotrun.wait_for_line("checked");
    hotrun.end();
}

#[test]
fn defect_55_a_configuration_can_be_left_unread() {
    let project = airs("").file("hotrun.toml", "not toml");
    let (code, _, stderr) = project.run(&["--no-config", "--build.cmd", "true", "--once"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(project.run(&["--no-config", "-c", "x"]).0, 2);
}

#[test]
fn defect_56_no_tmp_dir_is_made_that_nothing_names() {
    let project = airs("");
    let (code, _, _) = project.run(&["--once", "-build.bin", "/bin/true"]);
    assert_eq!(code, 0);
    assert!(!project.root().join("tmp").exists());
}

#[test]
fn arguments_are_joined_as_in_air_and_the_surprising_ones_are_told() {
    let app = "printf '<%s>' \"$@\"; echo\n";
    let run = |args: &str| {
        let project = airs(&format!("args_bin = {args}\n")).script("app", app).env("WHO", "you");
        let (_, stdout, stderr) = project.run(&["--once"]);
        (stdout, stderr.contains("a shell reads the argument"))
    };
    assert_eq!(run("[\"$WHO\", \"${WHO:-me}\"]"), ("<you><you>\n".to_owned(), false));
    assert_eq!(run("[\"\\\"James Bond\\\"\"]"), ("<James Bond>\n".to_owned(), false));
    assert_eq!(run("[\"two words\"]"), ("<two><words>\n".to_owned(), true));
    assert_eq!(run("[\"a;echo INJECTED\"]"), ("<a>\nINJECTED\n".to_owned(), true));
    assert_eq!(run("[\"--x=1\", \"-v\"]"), ("<--x=1><-v>\n".to_owned(), false));
}

#[test]
fn a_bin_that_is_on_the_path_is_meant_where_the_build_makes_none() {
    let project = Sandbox::empty()
        .file(".air.toml", "[build]\ncmd = \"true\"\nbin = \"echo\"\nargs_bin = [\"installed\"]\n");
    assert_eq!(project.run(&["--once", "-q"]).1, "installed\n");
    let project = project.script("made", "echo made here\n");
    let (_, stdout, _) = project.run(&["--once", "-q", "-build.cmd", "cp made echo"]);
    assert_eq!(stdout, "made here\n");
}

#[test]
fn platform_blocks_hold_here_only_if_they_are_for_here() {
    let here = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let config = format!(
        "[build]\ncmd = \"echo all\"\nbin = \"/bin/true\"\n[build.windows]\ncmd = \"echo windows\"\n\
         [build.{here}]\ncmd = \"echo here\"\nbin = \"\"\n"
    );
    let project = Sandbox::empty().file(".air.toml", &config);
    let (code, stdout, stderr) = project.run(&["--once"]);
    assert_eq!((code, stdout.as_str()), (0, "here\n"), "{stderr}");
    assert!(!stderr.contains("unknown"), "{stderr}");
    assert_eq!(project.run(&["--once", "-q", "-build.cmd", "echo option"]).1, "option\n");
}

#[test]
fn log_color_screen_and_banner_keys_do_what_they_say() {
    let project = airs(
        "[log]\nmain_only = true\ntime = true\n[misc]\nstartup_banner = \"HELLO\"\n\
                        [color]\nmode = \"always\"\nmain = \"blue\"\n",
    );
    let (_, _, stderr) = project.run(&["--once", "-build.bin", "/bin/false"]);
    assert!(stderr.starts_with("HELLO\n"), "{stderr}");
    assert!(!stderr.contains("building") && stderr.contains("crashed"), "{stderr}");
    let line = stderr.lines().find(|line| line.contains("crashed")).unwrap();
    assert!(line.contains("\u{1b}[1;31m"), "{line}");
    let line = line.trim_start_matches("\u{1b}[2m");
    assert!(line.starts_with('[') && line.as_bytes()[9] == b']', "the time of day: {line}");
    let (_, _, stderr) = project.run(&["--once", "-color", "never", "-build.bin", "/bin/false"]);
    assert!(!stderr.contains('\u{1b}'), "{stderr}");
    let (_, _, stderr) =
        airs("[log]\nsilent = true\n").run(&["--once", "-build.bin", "/bin/false"]);
    assert_eq!(stderr, "");
    let (code, _, stderr) = airs("[color]\nmode = \"sometimes\"\n").run(&["--once"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("expected \"auto\", \"always\" or \"never\""), "{stderr}");
}

#[test]
fn what_a_proxy_cannot_be_is_an_error_before_anything_is_built() {
    let refused = |keys: &str| {
        let (code, stdout, stderr) = airs(&format!("[proxy]\nenabled = true\n{keys}")).run(&[
            "--once",
            "-build.cmd",
            "echo built",
            "-build.bin",
            "/bin/true",
        ]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        stderr
    };
    let wide = refused("proxy_port = 80800\napp_port = 1\n");
    assert!(wide.contains("expected a port from 1 to 65535"), "{wide}");
    let none = refused("app_port = 3000\n");
    assert!(none.contains("proxy.proxy_port: expected a port from 1 to 65535"), "{none}");
    let same = refused("proxy_port = 80\napp_port = 80\n");
    assert!(same.contains("two programs cannot share one"), "{same}");
}

#[test]
fn check_shows_where_requests_go() {
    let text = "[build]\nentrypoint = [\"true\"]\n[proxy]\nproxy_port = 8090\napp_port = 8080\n\
                bind = \"0.0.0.0\"\nroutes = { \"/api\" = 4000 }\n";
    let project = Sandbox::empty().file("hotrun.toml", text);
    let (code, stdout, stderr) = project.run(&["check"]);
    assert_eq!(code, 0, "{stderr}");
    let lines = "\n    proxy  http://localhost:8090 → :8080 (other machines can connect)\n           \
                 /api → :4000\n";
    assert!(stdout.contains(lines), "{stdout}");
    assert!(stdout.contains("[proxy]\n") && !stdout.contains("[proxy.routes]"), "{stdout}");
    let (_, stdout, _) = project.run(&["check", "--proxy", "8091:0", "--proxy.bind", "localhost"]);
    let line = "proxy  http://localhost:8091 → a free port for each start, passed in PORT\n";
    assert!(stdout.contains(line), "{stdout}");
}

#[test]
fn output_can_be_piped_and_hotruns_own_lines_go_to_stderr_without_escapes() {
    let app = "echo '{\"serving\": true}'\nread line && echo \"got $line\" || echo no input\n";
    let project = airs("").script("app", app);
    let (code, stdout, stderr) = project.run(&["--once"]);
    assert_eq!(
        (code, stdout.as_str()),
        (1, "{\"serving\": true}\nno input\n").min((0, stdout.as_str())),
        "{stderr}"
    );
    assert_eq!(stdout, "{\"serving\": true}\nno input\n");
    assert!(!stderr.contains('\u{1b}'), "air's lines would have escapes in a file: {stderr}");
}

#[test]
fn clean_on_exit_leaves_a_directory_that_another_hotrun_uses() {
    let config = |name: &str| {
        format!(
            "root = \".\"\n[build]\ncmd = \"cp app tmp/{name}\"\nbin = \"tmp/{name}\"\n\
             include_ext = [\"txt\"]\n[misc]\nclean_on_exit = true\n"
        )
    };
    let project = Sandbox::empty()
        .file("one.air.toml", &config("one"))
        .file("two.air.toml", &config("two"))
        .script("app", "echo up; exec sleep 1000\n");
    let mut one = project.start(&["-c", "one.air.toml"]);
    one.wait_for_line("up");
    let mut two = project.start(&["-c", "two.air.toml"]);
    two.wait_for_line("up");
    one.signal(Signal::SIGINT);
    one.wait();
    assert!(one.output().contains("alone: another hotrun uses it"), "{}", one.output());
    assert!(project.root().join("tmp/two").exists());
    two.end();
    assert!(!project.root().join("tmp").exists(), "the last one deletes it");
}

#[test]
fn clean_on_exit_deletes_a_directory_that_holds_only_what_builds_made_and_warns_once_of_others() {
    let project = Sandbox::empty()
        .file(
            ".air.toml",
            "root = \".\"\n[build]\ncmd = \"cp /bin/true tmp/main\"\nbin = \"tmp/main\"\n[misc]\n\
             clean_on_exit = true\n",
        )
        .script("app", "exit 0\n");
    // As air leaves it.
    project.sh("mkdir tmp; cp /bin/true tmp/main; echo error > tmp/build-errors.log");
    let (_, _, stderr) = project.run(&["--once"]);
    assert!(!stderr.contains("clean_on_exit"), "{stderr}");
    assert!(!project.root().join("tmp").exists());
    project.sh("mkdir tmp; echo precious > tmp/notes");
    let (_, _, stderr) = project.run(&["--once"]);
    assert!(stderr.contains("clean_on_exit leaves ROOT/tmp alone: hotrun did not create it"));
    for _ in 0..2 {
        let (_, _, stderr) = project.run(&["--once"]);
        assert!(!stderr.contains("clean_on_exit"), "{stderr}");
    }
    assert!(project.root().join("tmp/notes").exists());
    // A program that no build has written is not known to be an output.
    project.sh("rm -r tmp; mkdir tmp; cp /bin/true tmp/main");
    for cmd in ["false", "true"] {
        let (_, _, stderr) = project.run(&["--once", "--build.cmd", cmd]);
        assert!(project.root().join("tmp/main").exists(), "{stderr}");
    }
    // A script that the user has written is no output, although it is what runs.
    project.sh("rm -r tmp; mkdir tmp; cp app tmp/main; chmod +x tmp/main");
    let (_, _, stderr) = project.run(&["--once", "--build.cmd", "true"]);
    assert!(stderr.contains("exit code 0"), "{stderr}");
    assert!(project.root().join("tmp/main").exists(), "{stderr}");
}

/// Takes 60 s to end, unless it is killed.
const SLOW_TO_END: &str = "trap 'echo ending as $$; sleep 60 & wait $!; exit 0' TERM INT\n\
                           echo serving $(cat built) as $$\nwhile :; do sleep 0.05; done\n";

#[test]
fn a_restart_waits_a_second_for_a_program_that_takes_its_time_and_the_end_waits_longer() {
    let project = airs("").script("app", SLOW_TO_END);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for("did not exit within 1 s of SIGTERM (build.kill_delay)");
    hotrun.wait_serving("two");
    hotrun.signal(Signal::SIGTERM);
    let line = hotrun.wait_for("killed in ");
    assert!(line.contains("killed in 4") || line.contains("killed in 3"), "{line}");
    hotrun.signal(Signal::SIGTERM);
    assert_eq!(hotrun.wait().code(), Some(0));
    hotrun.leaves_nobody();
}

#[test]
fn a_save_while_the_old_program_is_ending_makes_the_wait_short_unless_kill_delay_is_set() {
    let config = "[build]\ncmd = \"cp source.txt built\"\nentrypoint = \"./app\"\n\
                  include_ext = [\"txt\"]\n";
    let project = Sandbox::new().file("hotrun.toml", config).script("app", SLOW_TO_END);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for("ending as");
    project.save("source.txt", "three\n");
    let line = hotrun.wait_for("it did not exit within ");
    assert!(!line.contains("within 5"), "{line}");
    hotrun.wait_serving("three");
    assert_eq!(hotrun.count("serving two"), 0, "{}", hotrun.output());
    hotrun.signal(Signal::SIGKILL);
    hotrun.wait();

    let config = format!("{config}kill_delay = \"2s\"\n");
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", SLOW_TO_END);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for("ending as");
    project.save("source.txt", "three\n");
    hotrun.wait_for("it did not exit within 2");
    hotrun.wait_serving("three");
}

#[test]
fn the_first_line_says_which_file_was_found_and_what_is_watched() {
    let project = airs("include_file = [\"Makefile\"]\n").file("Makefile", "");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    let output = hotrun.end();
    let first = output.lines().next().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let what = format!("hotrun {version:>9}  cp source.txt built · .air.toml");
    assert!(first == what || first == format!("{what} · 2 files"), "{first}");
    let (_, stdout, stderr) = project.run(&["check"]);
    assert!(!stdout.contains(version) && !stderr.contains(version), "{stdout}{stderr}");
}

#[test]
fn as_the_first_process_of_a_container_hotrun_ends_at_sigterm() {
    let test = "as_the_first_process_of_a_container_hotrun_ends_at_sigterm";
    if !has(test, &["pgrep"]) {
        return;
    }
    let probe = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return skip(test, "unshare --pid needs root, or is not installed");
    }
    let project = airs("");
    let hotrun = env!("CARGO_BIN_EXE_hotrun");
    // The first process of a PID namespace gets no signal that it does not handle.
    project.sh(&format!(
        "unshare --pid --fork --mount-proc sh -c 'exec {hotrun} >out 2>&1' & \
         until grep -q started out 2>/dev/null; do sleep 0.02; done; \
         kill -TERM $(pgrep -P $!); wait $!; grep -q stopped out"
    ));
}
