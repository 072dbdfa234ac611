//! What stands on the screen, in which order, and where.

use crate::sandbox::{CONFIG, PIDS, SOON_READY, Sandbox, config_to_run, number_in, wait_until};
use crate::session::{Session, can};

/// The lines of hotrun on a terminal, without colours and carriage returns.
fn lines_of(shown: &str) -> Vec<String> {
    let plain = shown.replace("\u{1b}[2m", "").replace("\u{1b}[K", "");
    let mut text = String::new();
    let mut rest = plain.as_str();
    while let Some(at) = rest.find("\u{1b}[") {
        text.push_str(&rest[..at]);
        let end = rest[at..].find(|c: char| c.is_ascii_alphabetic()).unwrap();
        rest = &rest[at + end + 1..];
    }
    text.push_str(rest);
    text.lines().map(|line| line.rsplit('\r').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_first_line_says_what_is_run_by_which_file_and_how_much_is_watched() {
    let project = Sandbox::new().file("other.txt", "");
    let version = env!("CARGO_PKG_VERSION");
    let what = format!("hotrun {version:>9}  cp source.txt built · hotrun.toml");
    let counted = format!("{what} · 2 files");
    // On a busy machine the greeting does not wait until they are counted.
    let starts = (0..20).any(|_| {
        let mut hotrun = project.start_bare(&[]);
        hotrun.wait_serving("one");
        let first = hotrun.end().lines().next().unwrap().to_owned();
        assert!(first == what || first == counted, "{first}");
        first == counted
    });
    assert!(starts, "files are never counted");
    let (_, _, stderr) = project.run(&["--once", "-q", "--build.entrypoint=true"]);
    assert_eq!(stderr, "", "nothing is said of it with -q");
}

#[test]
fn a_failed_build_names_its_first_error_and_how_many_there_are() {
    for (printed, summary) in [
        (
            "main.c:3:5: error: a\nmain.c:9:1: warning: b\nmain.c:4:1: error: c",
            "2 errors, 1 warning · main.c:3:5 · after ",
        ),
        (
            "\\033[31merror[E0425]\\033[0m: no x\n  --> src/a.rs:14:45",
            "1 error · src/a.rs:14:45 · after ",
        ),
        ("# app\n$PWD/cmd/main.go:7:2: undefined: x", "1 error · cmd/main.go:7:2 · after "),
        ("it is broken", "exit code 7, after "),
    ] {
        let printed = printed.replace('\n', "\\\\n").replace("\\033", "\\\\033");
        let fails = format!("printf \\\"{printed}\\\\n\\\" >&2; exit 7");
        let project = Sandbox::new();
        let mut hotrun = project.start_bare(&[SOON_READY]);
        hotrun.wait_for("ready");
        let config = CONFIG.replace("cp source.txt built", &fails);
        project.save("hotrun.toml", &config);
        let line = hotrun.wait_for("failed  ");
        let text = line.strip_prefix("hotrun    failed  ").unwrap();
        assert!(text.starts_with(summary), "{line}");
        assert!(text.ends_with("; the program keeps running"), "{line}");
        hotrun.end();
    }
}

/// A build that prints a line.
const COMPILES: &str = "echo compiling; cp source.txt built";

#[test]
fn no_line_stands_after_what_it_announces() {
    let rounds = number_in("HOTRUN_TEST_ROUNDS", 5);
    let config = CONFIG.replace("cp source.txt built", COMPILES);
    let project = Sandbox::new().file("hotrun.toml", &config);
    let in_order = |lines: &[String]| {
        let at = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
        let order = [" building", "compiling", " built", " started", "serving one"].map(at);
        assert!(order.is_sorted(), "{order:?}\n{}", lines.join("\n"));
    };
    for _ in 0..rounds {
        let mut hotrun = project.start_bare(&[]);
        hotrun.wait_serving("one");
        let lines: Vec<String> = hotrun.end().lines().map(str::to_owned).collect();
        // The greeting and the line of the build name the command, too.
        in_order(&lines[1..].iter().map(|line| line.replace(COMPILES, "")).collect::<Vec<_>>());
    }
    if !can("no_line_stands_after_what_it_announces") {
        return;
    }
    for _ in 0..rounds {
        let mut session = Session::start(&project, &[env!("CARGO_BIN_EXE_hotrun"), SOON_READY]);
        session.wait_for("serving one as ");
        let lines = lines_of(&session.shown());
        let lines = lines[1..].iter().map(|line| line.replace(COMPILES, ""));
        in_order(&lines.collect::<Vec<_>>());
        session.send("q");
        session.ends_with(0);
    }
}

#[test]
fn a_program_that_cannot_be_found_is_not_said_to_be_started() {
    let project = Sandbox::new().file("hotrun.toml", &config_to_run(&["no-such-program"]));
    let mut hotrun = project.start_bare(&[]);
    hotrun.wait_for("failed  to start: no-such-program: command not found; waiting for a save");
    assert_eq!(hotrun.count("started"), 0, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_cancelled_build_says_after_how_long() {
    let config = CONFIG.replace(
        "cp source.txt built",
        "if grep -q two source.txt; then echo slow; exec sleep 1000; fi; cp source.txt built",
    );
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start_bare(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_for_line("slow");
    project.save("source.txt", "three\n");
    hotrun.wait_for("changed  source.txt");
    hotrun.wait_for("hotrun cancelled  after ");
    hotrun.wait_for(" building");
    hotrun.wait_serving("three");
    hotrun.end();
}

#[test]
fn in_compact_mode_one_line_says_what_became_of_a_save_and_a_failed_build_shows_its_output() {
    let config = CONFIG.replace(
        "cp source.txt built",
        "echo compiling; ! grep bad source.txt && cp source.txt built",
    );
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start_bare(&["--compact", SOON_READY]);
    hotrun.wait_for("✓ start  built ");
    project.save("source.txt", "two\n");
    let line = hotrun.wait_for("✓ source.txt  built ");
    assert!(line.contains(", up in "), "{line}");
    project.save("source.txt", "bad\n");
    hotrun.wait_for("compiling");
    hotrun.wait_for_line("bad");
    let line = hotrun.wait_for("✗ source.txt  failed  exit code 1, after ");
    assert!(line.ends_with("; the program keeps running"), "{line}");
    project.save("source.txt", "three\n");
    hotrun.wait_for("✓ source.txt  built ");
    let output = hotrun.end();
    assert_eq!(output.matches("compiling").count() - 1, 1, "of the failed one alone:\n{output}");
    for word in ["hotrun  building", "hotrun   changed", "hotrun   started", "hotrun     ready"] {
        assert!(!output.contains(word), "{output}");
    }
}

#[test]
fn in_compact_mode_a_program_that_fails_after_a_save_is_the_outcome_and_a_later_failure_is_not() {
    let app = "echo serving\ncase $(cat built) in\none) exec sleep 1000;;\ntwo) exit 3;;\nesac\n\
               while ! test -e go; do sleep 0.02; done\nexit 4\n";
    let project = Sandbox::new().script("app", app);
    let mut hotrun = project.start_bare(&["--compact", SOON_READY]);
    hotrun.wait_for("✓ start  built ");
    project.save("source.txt", "two\n");
    let line = hotrun.wait_for("✗ source.txt  built ");
    assert!(line.ends_with(", crashed  exit code 3; waiting for a save"), "{line}");
    project.save("source.txt", "three\n");
    hotrun.wait_for("✓ source.txt  built ");
    project.save("go", "");
    hotrun.wait_for("hotrun   crashed  exit code 4; waiting for a save");
    hotrun.end();
}

#[test]
fn in_compact_mode_a_slow_build_beside_a_program_is_reported_once() {
    if !can("in_compact_mode_a_slow_build_beside_a_program_is_reported_once") {
        return;
    }
    let slow = "if grep -q two source.txt; then while ! test -e go; do sleep 0.1; done; fi; \
                ! grep -q bad source.txt && cp source.txt built";
    let project = Sandbox::new().file("hotrun.toml", &CONFIG.replace("cp source.txt built", slow));
    let mut session =
        Session::start(&project, &[env!("CARGO_BIN_EXE_hotrun"), "--compact", SOON_READY]);
    session.wait_for(" up in ");
    project.save("source.txt", "two\n");
    session.wait_for("·\u{1b}[0m source.txt  building\r\n");
    project.save("go", "");
    session.wait_for("✓\u{1b}[0m source.txt  built ");
    project.save("source.txt", "bad\n");
    session.wait_for("\u{1b}[1;31m✗ source.txt  failed  exit code 1, after ");
    session.send("q");
    session.wait_for("stopping\u{1b}[0m  press q again to kill\r\n");
    session.ends_with(0);
    assert_eq!(session.shown().matches("building").count(), 1, "{}", session.shown());
}

#[test]
fn in_compact_mode_what_is_only_checked_is_not_said_to_be_built() {
    let project = Sandbox::empty().script("app.sh", "echo serving\nexec sleep 1000\n");
    let mut hotrun = project.start_bare(&["--compact", SOON_READY, "./app.sh"]);
    hotrun.wait_for("✓ start  up in ");
    project.save("app.sh", "echo again\nexec sleep 1000\n");
    hotrun.wait_for("✓ app.sh  up in ");
    hotrun.end();
}

#[test]
fn the_title_the_bell_and_notifications_show_a_failure_and_the_recovery() {
    if !can("the_title_the_bell_and_notifications_show_a_failure_and_the_recovery") {
        return;
    }
    let config = CONFIG
        .replace("cp source.txt built", "! grep bad source.txt && cp source.txt built")
        + "[screen]\ntitle = true\nbell = true\nnotify = true\n";
    let project = Sandbox::new().file("hotrun.toml", &config);
    let name = project.root().file_name().unwrap().to_str().unwrap().to_owned();
    let mut session = Session::of_hotrun(&project);
    session.wait_for(&format!("\u{1b}[22;2t\u{1b}]2;building – {name}\u{7}"));
    let start = session.wait_for(&format!("\u{1b}]2;running – {name}\u{7}"));
    assert!(!start.contains("]777"), "a start is no recovery: {start}");
    project.save("source.txt", "bad\n");
    session.wait_for(&format!("\u{1b}]2;build failed – {name}\u{7}"));
    session.wait_for(&format!("\u{7}\u{1b}]777;notify;hotrun: {name};build failed\u{1b}\\"));
    project.save("source.txt", "two\n");
    session.wait_for(&format!("\u{1b}]2;running – {name}\u{7}"));
    session.wait_for(&format!("\u{7}\u{1b}]777;notify;hotrun: {name};running\u{1b}\\"));
    session.send("q");
    session.wait_for("\u{1b}[23;2t");
    session.ends_with(0);
}

#[test]
fn a_long_silent_build_shows_how_long_it_has_taken() {
    if !can("a_long_silent_build_shows_how_long_it_has_taken") {
        return;
    }
    let config = CONFIG.replace("cp source.txt built", "while ! test -e go; do sleep 0.1; done");
    let project = Sandbox::new().file("hotrun.toml", &config).file("built", "one\n");
    let hotrun = env!("CARGO_BIN_EXE_hotrun");
    for (args, end) in
        [(&[hotrun][..], "built\u{1b}[0m  in "), (&[hotrun, "--compact"], "start  built ")]
    {
        let mut session = Session::start(&project, &[args, &[SOON_READY]].concat());
        session.wait_for("\r\u{1b}[K\u{1b}[2mhotrun\u{1b}[0m \u{1b}[36m building\u{1b}[0m  ");
        let time = session.wait_for(" s");
        let seconds = time.trim_end_matches(" s").parse::<u32>();
        assert!(seconds.is_ok_and(|seconds| seconds >= 2), "{time}");
        project.save("go", "");
        let shown = session.wait_for(end);
        let erased = shown.rsplit("\r\u{1b}[K").next().unwrap();
        assert!(!erased.contains("building"), "the line is erased: {shown:?}");
        session.send("q");
        session.ends_with(0);
        project.sh("rm go");
    }
}

#[test]
fn no_echo_of_ctrl_c_stands_before_a_line() {
    if !can("no_echo_of_ctrl_c_stands_before_a_line") {
        return;
    }
    let project =
        Sandbox::new().script("app", "trap '' INT TERM\necho up\nwhile :; do sleep 0.02; done\n");
    let mut session = Session::of_hotrun(&project);
    session.wait_for("ready");
    session.send("\u{3}");
    session.wait_for("stopping");
    session.send("\u{3}");
    session.wait_for("killing");
    session.ends_with(0);
    let lines = lines_of(&session.shown());
    assert!(lines.iter().all(|line| !line.contains("^C")), "{lines:?}");
}

#[test]
fn on_a_terminal_each_save_begins_a_paragraph_with_the_time() {
    if !can("on_a_terminal_each_save_begins_a_paragraph_with_the_time") {
        return;
    }
    let project = Sandbox::new();
    let mut session = Session::of_hotrun(&project);
    session.wait_for("ready");
    project.save("source.txt", "two\n");
    session.wait_for("changed");
    session.wait_for("source.txt");
    let lines = lines_of(&session.shown());
    let at = lines.iter().position(|line| line.contains(" changed  source.txt")).unwrap();
    assert_eq!(lines[at - 1], "");
    let time = lines[at].strip_suffix(" changed  source.txt").unwrap();
    assert_eq!(time.len(), "14:02:11".len(), "{time}");
    session.send("q");
    session.ends_with(0);
}

#[test]
fn long_lines_are_broken_at_blanks_and_hang_on_a_terminal() {
    if !can("long_lines_are_broken_at_blanks_and_hang_on_a_terminal") {
        return;
    }
    let words = (0..30).map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ");
    let config = CONFIG.replace("cp source.txt built", &format!("true {words}"));
    let project = Sandbox::new().file("hotrun.toml", &config).file("built", "one\n");
    let mut session = Session::of_hotrun(&project);
    session.wait_for("serving one");
    for line in lines_of(&session.shown()) {
        assert!(line.chars().count() <= 80, "{line}");
        let hangs = line.starts_with("                  word");
        assert!(!line.contains("word20") || hangs, "{line:?}");
    }
    session.send("q");
    session.ends_with(0);
}

#[test]
fn colours_follow_the_option_and_the_variables_also_in_what_is_run() {
    let config = CONFIG.replace(
        "cp source.txt built",
        "echo cargo=$CARGO_TERM_COLOR force=$FORCE_COLOR no=$NO_COLOR; cp source.txt built",
    );
    for (args, variable, is_coloured, seen) in [
        (&["--color", "always"][..], None, true, "cargo=always force=1 no="),
        (&["--color", "never"], None, false, "cargo=never force= no=1"),
        (&[], Some("FORCE_COLOR"), true, "cargo= force=1 no="),
        (&[], Some("CLICOLOR_FORCE"), true, "cargo= force= no="),
        (&[], Some("NO_COLOR"), false, "cargo= force= no=1"),
        (&["--color", "always"], Some("NO_COLOR"), true, "cargo=always force=1 no=1"),
        (&[], None, false, "cargo= force= no="),
    ] {
        let mut project = Sandbox::new().file("hotrun.toml", &config);
        if let Some(variable) = variable {
            project = project.env(variable, "1");
        }
        let (_, stdout, stderr) =
            project.run(&[&["--once", "--build.entrypoint=true"], args].concat());
        assert!(stdout.lines().any(|line| line == seen), "{args:?} {variable:?}: {stdout}");
        assert_eq!(stderr.contains('\u{1b}'), is_coloured, "{args:?} {variable:?}: {stderr}");
    }
}

#[test]
fn lines_name_processes_by_what_they_are_and_by_pid_on_request() {
    let project = Sandbox::new();
    for (args, name) in [(&[SOON_READY][..], "the program"), (&[SOON_READY, PIDS], "pid ")] {
        project.save("source.txt", "one\n");
        let mut hotrun = project.start_bare(args);
        let app = hotrun.wait_serving("one");
        hotrun.wait_for("ready");
        project.save("source.txt", "two\n");
        let line = hotrun.wait_for("stopped  ");
        assert!(line.contains(&format!("stopped  {name}")), "{line}");
        assert_eq!(line.contains(&app.to_string()), name == "pid ", "{line}");
        hotrun.wait_serving("two");
        wait_until("it is ready", || hotrun.count(" ready") == 2);
        hotrun.end();
    }
}

#[test]
fn in_compact_mode_an_outcome_names_what_its_own_program_was_started_for() {
    let slow = "if grep -q two source.txt; then while ! test -e go; do sleep 0.02; done; fi; \
                cp source.txt built";
    let config = CONFIG.replace("cp source.txt built", slow) + "[ready]\nlog = \"^up\"\n";
    let app = "echo serving $(cat built)\nwhile ! test -e ready; do sleep 0.02; done\n\
               echo up\nexec sleep 1000\n";
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
    let mut hotrun = project.start_bare(&["--compact"]);
    hotrun.wait_for_line("serving one");
    project.save("source.txt", "two\n");
    wait_until("hotrun has seen the save", || project.update() > 1);
    // The first program becomes ready while the build for the save runs.
    project.sh("touch ready");
    hotrun.wait_for("✓ start  built ");
    project.sh("touch go");
    hotrun.wait_for("✓ source.txt  built ");
    hotrun.end();
}
