//! A terminal session, as somebody types it: a real pseudoterminal, a real shell.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::sandbox::{
    CONFIG, PATIENCE, PIDS, SOON_READY, Sandbox, config_to_run, has, marked, wait_until,
};
use crate::session::{Session, can, wait_for_state};

/// A shell, and what it says of jobs.
struct Shell {
    command: &'static [&'static str],
    stopped: &'static str,
    killed: &'static str,
}

/// Those that are here: one without a line editor of its own, and one with it.
fn shells() -> Vec<Shell> {
    let bash = Shell {
        command: &["bash", "--norc", "--noprofile", "-i"],
        stopped: "Stopped",
        killed: "Killed",
    };
    let zsh = Shell { command: &["zsh", "-f", "-i"], stopped: "suspended", killed: "Killed" };
    let mut shells = vec![bash];
    if has("terminal sessions in zsh", &["zsh"]) {
        shells.push(zsh);
    }
    shells
}

/// Asks for a name, and says it.
const ASKS: &str = "printf 'name of %s? ' $(cat built)\nread name\necho \"hello $name\"\n\
                    exec sleep 1000\n";

#[test]
fn an_app_that_asks_gets_the_terminal_and_so_do_its_successors() {
    if !can("an_app_that_asks_gets_the_terminal_and_so_do_its_successors") {
        return;
    }
    let project = Sandbox::new().script("app", ASKS);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("name of one? ");
    session.wait_for("hotrun's keys are off");
    session.send("world\n");
    session.wait_for("hello world");
    project.save("source.txt", "two\n");
    session.wait_for("name of two? ");
    // No key of hotrun's, though it is one letter.
    session.send("q\n");
    session.wait_for("hello q");
    // To the app, which dies of it; and exiting.
    session.send("\x03");
    session.ends_with(0);
    assert!(!session.shown().contains("waiting for a save"), "{}", session.shown());
}

#[test]
fn it_does_too_where_all_that_stops_a_reader_was_ignored_before() {
    if !can("it_does_too_where_all_that_stops_a_reader_was_ignored_before") {
        return;
    }
    // As tmux does for what runs in a pane without a shell.
    let project = Sandbox::new().script("app", ASKS);
    let script =
        format!("trap '' TTIN TTOU; exec {} {SOON_READY} {PIDS}", env!("CARGO_BIN_EXE_hotrun"));
    let mut session = Session::start(&project, &["sh", "-c", &script]);
    session.wait_for("hotrun's keys are off");
    session.send("world\n");
    session.wait_for("hello world");
    session.send("\x03");
    session.ends_with(0);
}

#[test]
fn when_an_app_that_had_the_terminal_has_ended_keys_are_hotruns_again() {
    if !can("when_an_app_that_had_the_terminal_has_ended_keys_are_hotruns_again") {
        return;
    }
    let app = "printf 'name of %s? ' $(cat built)\nread name\necho \"hello $name\"\n";
    let config = CONFIG.replace("cp source.txt built", "cp source.txt built; ! grep fail built");
    let project = Sandbox::new().script("app", app).file("hotrun.toml", &config);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("hotrun's keys are off");
    session.send("a\n");
    session.wait_for("waiting for a save");
    session.wait_for_modes(false);
    session.send("r");
    session.wait_for("name of one? ");
    session.send("b\n");
    session.wait_for("hello b");
    session.wait_for("waiting for a save");
    session.wait_for_modes(false);
    project.save("source.txt", "fail\n");
    session.wait_for("nothing is running");
    session.wait_for_modes(false);
    session.send("q");
    session.ends_with(0);
}

#[test]
fn what_is_pasted_or_sent_by_an_arrow_is_no_key() {
    if !can("what_is_pasted_or_sent_by_an_arrow_is_no_key") {
        return;
    }
    let project = Sandbox::new();
    let mut session = Session::of_hotrun(&project);
    session.wait_for("ready");
    session.wait_for_modes(false);
    session.send("please request quickly");
    // What the echo has shown is taken back.
    session.wait_for("please request quickly\x08 \x08");
    session.send("\x1b[A");
    session.wait_for("^[[A\x08 \x08");
    session.send("h");
    session.wait_for("q  quit");
    let shown = session.shown();
    assert!(!shown.contains("requested") && !shown.contains("paused"), "{shown}");
    session.send("q");
    session.ends_with(0);
}

#[test]
fn a_pager_that_reads_hotruns_output_has_the_keyboard() {
    if !can("a_pager_that_reads_hotruns_output_has_the_keyboard") {
        return;
    }
    let project = Sandbox::new();
    let script =
        format!("{} {SOON_READY} {PIDS} 2>&1 | (trap '' INT; cat)", env!("CARGO_BIN_EXE_hotrun"));
    let mut session = Session::start(&project, &["sh", "-c", &script]);
    session.wait_for("ready");
    session.is_as_it_was();
    session.send("\x03");
    session.wait_for("stopped");
}

#[test]
fn a_line_typed_during_a_build_is_the_next_apps() {
    if !can("a_line_typed_during_a_build_is_the_next_apps") {
        return;
    }
    let config = CONFIG.replace(
        "cp source.txt built",
        "cp source.txt built; ! grep -q two built || { echo building two; while ! test -e go; do sleep 0.02; done; }",
    );
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", ASKS);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("hotrun's keys are off");
    session.send("a\n");
    session.wait_for("hello a");
    project.save("source.txt", "two\n");
    session.wait_for("building two\r\n");
    session.send("qrs\n");
    project.save("go", "");
    session.wait_for("hello qrs");
    session.send("\x03");
    session.ends_with(0);
}

#[test]
fn keys_do_what_the_help_says() {
    if !can("keys_do_what_the_help_says") {
        return;
    }
    let project = Sandbox::new();
    let mut session = Session::of_hotrun(&project);
    session.wait_for("ready");
    session.wait_for_modes(false);
    session.send("h");
    session.wait_for("q  quit");
    session.send("r");
    session.wait_for("requested");
    session.wait_for("serving one as ");
    session.wait_for("ready");
    session.send("s");
    session.wait_for("stopped");
    session.wait_for("ready");
    session.send("p");
    session.wait_for("paused");
    project.save("source.txt", "two\n");
    session.send("p");
    session.wait_for("resumed");
    session.wait_for("serving two as ");
    session.wait_for("ready");
    session.send("c");
    session.wait_for("\x1b[2J");
    session.send("q");
    session.ends_with(0);
    let builds = session.shown().matches("building").count();
    assert_eq!(builds, 3, "s does not build:\n{}", session.shown());
}

#[test]
fn without_a_terminal_on_stdin_nothing_is_a_key() {
    let project = Sandbox::new();
    let mut command = project.command(&[SOON_READY, PIDS]);
    command.stdin(std::process::Stdio::piped());
    let mut hotrun = project.start_with(command);
    hotrun.wait_for("ready");
    hotrun.stdin().write_all(b"q\nr\n").unwrap();
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.wait_for("ready");
    assert_eq!(hotrun.count("building"), 2);
    hotrun.end();
}

/// Like an editor: raw mode, the alternate screen, no cursor.
const RAW: &str = "
import os, sys, termios, tty
saved = termios.tcgetattr(0)
tty.setraw(0)
os.write(1, b'\\x1b[?1049h\\x1b[?25lraw ' + open('built', 'rb').read().strip() + b'\\r\\n')
while True:
    key = os.read(0, 1)
    os.write(1, b'key ' + repr(key).encode() + b'\\r\\n')
    if key == b'x':
        termios.tcsetattr(0, termios.TCSADRAIN, saved)
        os.write(1, b'\\x1b[?25h\\x1b[?1049lleft\\r\\n')
        sys.exit(0)
";

#[test]
fn a_program_in_raw_mode_reads_keys_and_leaves_no_trace_however_it_ends() {
    let name = "a_program_in_raw_mode_reads_keys_and_leaves_no_trace_however_it_ends";
    if !can(name) || !has(name, &["python3"]) {
        return;
    }
    let config = config_to_run(&["python3", "raw.py"]);
    let project = Sandbox::new().file("hotrun.toml", &config).file("raw.py", RAW);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("raw one");
    session.send("\x03");
    session.wait_for("key b'\\x03'");
    // Dismissed in raw mode, it leaves the screen as it is; the next one finds it in order.
    project.save("source.txt", "two\n");
    session.wait_for("\x1b[?1049l");
    session.wait_for("raw two");
    session.send("x");
    session.wait_for("left");
    // It has ended by itself, and hotrun has the terminal.
    session.wait_for("waiting for a save");
    session.wait_for_modes(false);
    session.send("\x03");
    session.ends_with(0);
}

#[test]
fn what_an_app_saved_while_hotrun_read_keys_is_put_right() {
    let name = "what_an_app_saved_while_hotrun_read_keys_is_put_right";
    if !can(name) || !has(name, &["python3"]) {
        return;
    }
    // getpass saves the modes before it turns off the echo, and puts them back after.
    let app = "import getpass, os, sys, time\n\
               while not os.path.exists('go'): time.sleep(0.02)\n\
               print('got', getpass.getpass('secret? '), flush=True)\n\
               print('line', repr(sys.stdin.readline()), flush=True)\n\
               time.sleep(1000)\n";
    let config = config_to_run(&["python3", "ask.py"]);
    let project = Sandbox::new().file("hotrun.toml", &config).file("ask.py", app);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("ready");
    session.wait_for_modes(false);
    project.save("go", "");
    session.wait_for("hotrun's keys are off");
    session.wait_for("secret? ");
    session.wait_for_modes(true);
    session.send("abcX\x7f\n");
    session.wait_for("got abc\r\n");
    session.wait_for_modes(true);
    session.send("xyZ\x7fz\n");
    session.wait_for("line 'xyz\\n'");
    session.send("\x03");
    session.ends_with(0);
}

#[test]
fn ctrl_c_ends_hotrun_whoever_has_the_terminal() {
    if !can("ctrl_c_ends_hotrun_whoever_has_the_terminal") {
        return;
    }
    for stdin in ["auto", "app", "null"] {
        let config = format!("{CONFIG}[run]\nstdin = \"{stdin}\"\n");
        let project = Sandbox::new().file("hotrun.toml", &config);
        let mut session = Session::of_hotrun(&project);
        session.wait_for("ready");
        session.send("\x03");
        session.ends_with(0);
    }
}

#[test]
fn ctrl_backslash_kills_everything_at_once() {
    if !can("ctrl_backslash_kills_everything_at_once") {
        return;
    }
    let app = "trap '' TERM\necho serving\nwhile :; do sleep 0.02; done\n";
    let project = Sandbox::new().script("app", app);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("ready");
    session.send("\x1c");
    session.ends_with(0);

    let project = Sandbox::new().script("app", ASKS);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("hotrun's keys are off");
    session.wait_for("ready");
    session.send("\x1c");
    session.ends_with(0);
}

#[test]
fn ctrl_z_stops_the_whole_job_and_fg_goes_on_with_it() {
    if !can("ctrl_z_stops_the_whole_job_and_fg_goes_on_with_it") {
        return;
    }
    for Shell { command: shell, stopped, .. } in shells() {
        let project = Sandbox::new();
        let mut session = Session::of_shell(&project, shell);
        session.send("hotrun\n");
        let app = session.pid_after("serving one as ");
        session.wait_for("ready");
        session.send("\x1a");
        session.wait_for(stopped);
        wait_for_state(app, 'T');
        session.send("echo shell ''works\n");
        session.wait_for("shell works");
        session.foreground();
        wait_for_state(app, 'S');
        session.wait_for_modes(false);
        project.save("source.txt", "two\n");
        session.wait_for("serving two as ");
        session.wait_for("ready");
        session.send("r");
        session.wait_for("requested");
        session.wait_for("ready");
        session.send("q");
        session.leave_shell();
    }
}

#[test]
fn ctrl_z_in_an_app_that_has_the_terminal_stops_the_job_too() {
    if !can("ctrl_z_in_an_app_that_has_the_terminal_stops_the_job_too") {
        return;
    }
    for Shell { command: shell, stopped, .. } in shells() {
        let project = Sandbox::new().script("app", ASKS);
        let mut session = Session::of_shell(&project, shell);
        session.send("hotrun\n");
        session.wait_until_an_app_has_it();
        session.send("\x1a");
        session.wait_for(stopped);
        session.send("echo shell ''works\n");
        session.wait_for("shell works");
        session.foreground();
        session.send("again\n");
        session.wait_for("hello again");
        session.send("\x03");
        session.leave_shell();
    }
}

#[test]
fn under_make_ctrl_z_gives_the_prompt_back_too() {
    let name = "under_make_ctrl_z_gives_the_prompt_back_too";
    if !can(name) || !has(name, &["make"]) {
        return;
    }
    for Shell { command: shell, stopped, .. } in shells() {
        let makefile = format!("dev:\n\t@{} {SOON_READY} {PIDS}\n", env!("CARGO_BIN_EXE_hotrun"));
        for app in [ASKS, "echo hello there\nexec sleep 1000\n"] {
            let project = Sandbox::new().script("app", app).file("Makefile", &makefile);
            let mut session = Session::of_shell(&project, shell);
            session.send("make dev\n");
            if app == ASKS {
                session.wait_for("hotrun's keys are off");
                session.send("there\n");
            }
            session.wait_for("hello there");
            session.wait_for("ready");
            session.send("\x1a");
            session.wait_for(stopped);
            session.send("fg\n");
            session.wait_for("make dev");
            project.save("source.txt", "two\n");
            if app == ASKS {
                session.wait_for("name of two? ");
            } else {
                session.wait_for("hello there");
            }
            session.send("\x03");
            session.leave_shell();
        }
    }
}

#[test]
fn ctrl_c_is_sigint_for_the_program_first_and_its_own_signal_follows() {
    if !can("ctrl_c_is_sigint_for_the_program_first_and_its_own_signal_follows") {
        return;
    }
    let waits = "echo up; while :; do sleep 0.02; done\n";
    let handles = format!("trap 'echo by INT; exit 0' INT\n{waits}");
    let goes_on = format!("trap 'echo by INT' INT\ntrap 'echo by TERM; exit 0' TERM\n{waits}");
    // As what a shell has started in the background: SIGINT is not even tried.
    let ignores = format!("trap '' INT\ntrap 'echo by TERM; exit 0' TERM\n{waits}");
    for (app, told) in
        [(handles, &["by INT"][..]), (goes_on, &["by INT", "by TERM"]), (ignores, &["by TERM"])]
    {
        let config = CONFIG.replace("20s", "2s");
        let project = Sandbox::new().file("hotrun.toml", &config).script("app", &app);
        let mut session = Session::of_hotrun(&project);
        session.wait_for("ready");
        session.send("\x03");
        for one in told {
            session.wait_for(one);
        }
        session.ends_with(0);
        let count = ["by INT", "by TERM"].map(|one| session.shown().matches(one).count());
        let expected = ["by INT", "by TERM"].map(|one| usize::from(told.contains(&one)));
        assert_eq!(count, expected, "{}", session.shown());
    }
}

/// A build that fails with two lines when the source is broken.
const FAILS_WHEN_BROKEN: &str = "if grep -q broken source.txt; then printf 'one\\n two\\n'; touch failed; exit 1; fi; \
                                 cp source.txt built";

#[test]
fn lines_wait_until_a_program_has_left_the_whole_screen() {
    let name = "lines_wait_until_a_program_has_left_the_whole_screen";
    if !can(name) || !has(name, &["python3"]) {
        return;
    }
    let config = config_to_run(&["python3", "raw.py"]);
    let config = config.replace("cp source.txt built", FAILS_WHEN_BROKEN);
    let project = Sandbox::new().file("hotrun.toml", &config).file("raw.py", RAW);
    let mut session = Session::of_hotrun(&project);
    for end in ["a new program", "its own end", "the end of hotrun"] {
        session.wait_for("raw ");
        let before = session.shown().len();
        project.save("source.txt", "broken\n");
        let failed = project.root().join("failed");
        wait_until("the build has failed", || failed.exists());
        std::fs::remove_file(failed).unwrap();
        session.send("y");
        session.wait_for("key b'y'");
        let shown = session.shown()[before..].to_owned();
        assert!(!shown.contains("hotrun") && !shown.contains("one"), "{shown}");
        match end {
            "a new program" => project.save("source.txt", "two\n"),
            "its own end" => session.send("x"),
            _ => kill(session.hotrun(), Signal::SIGINT).unwrap(),
        }
        session.wait_for("\x1b[?1049l");
        session.wait_for("source.txt\r\n");
        session.wait_for("one\r\n two\r\n");
        // The build that has printed this may not have exited when hotrun is stopped, or when the
        // new program is saved, which cancels it.
        if end == "its own end" {
            session.wait_for("failed");
            session.wait_for("waiting for a save");
            project.save("source.txt", "three\n");
        }
    }
    session.ends_with(0);
}

#[test]
fn over_a_prompt_that_edits_its_line_a_failed_build_is_shown_at_once() {
    let name = "over_a_prompt_that_edits_its_line_a_failed_build_is_shown_at_once";
    if !can(name) || !has(name, &["python3"]) {
        return;
    }
    // As readline does: no line editing by the terminal, but its line ends.
    let app = "import os, tty\ntty.setcbreak(0)\nos.write(1, b'prompt ' + open('built', 'rb').read())\n\
               while True: os.read(0, 1)\n";
    let config = config_to_run(&["python3", "app.py"]);
    let config = config.replace("cp source.txt built", FAILS_WHEN_BROKEN);
    let project = Sandbox::new().file("hotrun.toml", &config).file("app.py", app);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("prompt one");
    project.save("source.txt", "broken\n");
    session.wait_for("one\r\n two\r\n");
    session.wait_for("failed");
    kill(session.hotrun(), Signal::SIGINT).unwrap();
    session.ends_with(0);
}

#[test]
fn a_program_that_begins_finds_the_modes_of_the_shell() {
    let name = "a_program_that_begins_finds_the_modes_of_the_shell";
    if !can(name) || !has(name, &["stty"]) {
        return;
    }
    // It saves the modes when it begins, and puts them back after a question without echo.
    let app = "saved=$(stty -g)\n\
               case $(stty -a) in *' -icanon'*) echo raw;; *) echo edits;; esac\n\
               stty -echo\necho 'secret?'\nread secret\nstty \"$saved\"\n\
               echo \"got <$secret> next?\"\nread line\necho \"line <$line>\"\nread rest\n";
    let project = Sandbox::new().script("app", app);
    let mut session = Session::start(&project, &[env!("CARGO_BIN_EXE_hotrun"), PIDS]);
    session.wait_for("edits");
    session.wait_for("secret?");
    session.send("abcX\x7f\n");
    session.wait_for("got <abc> next?");
    session.send("xyZ\x7fz\n");
    session.wait_for("line <xyz>");
    session.send("\x03");
    session.ends_with(0);
}

#[test]
fn what_was_held_back_is_shown_when_a_program_that_began_with_the_terminal_has_left_the_screen() {
    let name = "what_was_held_back_is_shown_when_a_program_that_began_with_the_terminal_has_left";
    if !can(name) || !has(name, &["python3"]) {
        return;
    }
    let app = RAW.replace("sys.exit(0)", "sys.stdin.readline()");
    let config = config_to_run(&["python3", "raw.py"]);
    let config = config.replace("cp source.txt built", FAILS_WHEN_BROKEN);
    let config = format!("{config}[run]\nstdin = \"app\"\n");
    let project = Sandbox::new().file("hotrun.toml", &config).file("raw.py", &app);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("raw one");
    project.save("source.txt", "broken\n");
    let failed = project.root().join("failed");
    wait_until("the build has failed", || failed.exists());
    session.send("y");
    session.wait_for("key b'y'");
    session.send("x");
    session.wait_for("left");
    session.wait_for("one\r\n two\r\n");
    session.wait_for("failed");
    session.send("\x03");
    session.ends_with(0);
}

#[test]
fn of_several_programs_one_is_chosen_and_remembered() {
    let name = "of_several_programs_one_is_chosen_and_remembered";
    if !can(name) || !has(name, &["python3"]) {
        return;
    }
    let source = |word: &str| {
        format!(
            "import time\nif __name__ == '__main__':\n    print('up {word}', flush=True)\n    \
                 time.sleep(1000)\n"
        )
    };
    let state = tempfile::tempdir().unwrap();
    let project = Sandbox::empty()
        .env("XDG_STATE_HOME", state.path().to_str().unwrap())
        .file("one.py", &source("one"))
        .file("two.py", &source("two"));
    let mut session = Session::of_hotrun(&project);
    session.wait_for("2  Python (two.py)");
    session.wait_for("Which one (1 to 2)? ");
    session.send("3\n");
    session.wait_for("A number from 1 to 2: ");
    session.send("2\n");
    session.wait_for("to forget it: rm ");
    session.wait_for("up two");
    session.send("\x03");
    session.ends_with(0);
    // Not asked again, without a terminal either.
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("up two");
    hotrun.end();
    // What was chosen is gone.
    project.sh("mv two.py three.py");
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("hotrun -- python3 three.py"), "{stderr}");
}

#[test]
fn ctrl_d_while_a_program_begins_does_not_end_the_keys() {
    if !can("ctrl_d_while_a_program_begins_does_not_end_the_keys") {
        return;
    }
    let project = Sandbox::new();
    let words = [env!("CARGO_BIN_EXE_hotrun"), "--ready.after=400ms", PIDS];
    let mut session = Session::start(&project, &words);
    session.wait_for("serving one");
    session.send("\x04");
    session.wait_for("ready");
    session.wait_for_modes(false);
    session.send("h");
    session.wait_for("q  quit");
    session.send("q");
    session.ends_with(0);
}

#[test]
fn keys_typed_while_a_program_begins_are_read_when_it_has() {
    if !can("keys_typed_while_a_program_begins_are_read_when_it_has") {
        return;
    }
    let project = Sandbox::new();
    let mut session =
        Session::start(&project, &[env!("CARGO_BIN_EXE_hotrun"), "--ready.after=400ms", PIDS]);
    session.wait_for("serving one");
    session.send("r");
    session.wait_for("requested");
    session.wait_for("serving one");
    session.send("q\n");
    session.ends_with(0);
}

#[test]
fn a_progress_bar_is_cleared_and_a_question_or_an_unfinished_line_is_not() {
    if !can("a_progress_bar_is_cleared_and_a_question_or_an_unfinished_line_is_not") {
        return;
    }
    let build = "cp source.txt built; grep -q two source.txt && printf unfinished\n\
                 grep -q one source.txt && { printf '[==> 1/3]'; sleep 1000; }; true\n";
    let config = CONFIG.replace("cp source.txt built", "./build");
    let project =
        Sandbox::new().file("hotrun.toml", &config).script("app", ASKS).script("build", build);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("[==> 1/3]");
    project.save("source.txt", "two\n");
    let shown = session.wait_for("changed");
    assert!(shown.starts_with("\r\u{1b}[K"), "{shown:?}");
    session.wait_for("unfinished");
    let shown = session.wait_for("built");
    assert!(!shown.contains("\u{1b}[K"), "{shown:?}");
    session.wait_for("name of two? ");
    let shown = session.wait_for("given to pid");
    // The line "started" may stand behind the question.
    let (before, line) = shown.rsplit_once("\r\n").unwrap();
    assert!(line.contains(" terminal"), "{shown:?}");
    assert!(!before.contains(" terminal"), "{shown:?}");
    session.send("\x03");
    session.ends_with(0);
}

#[test]
fn an_app_in_the_background_waits_for_fg_and_is_told() {
    if !can("an_app_in_the_background_waits_for_fg_and_is_told") {
        return;
    }
    for Shell { command: shell, .. } in shells() {
        let project = Sandbox::new().script("app", ASKS);
        let mut session = Session::of_shell(&project, shell);
        session.send("hotrun &\n");
        session.wait_for("bring hotrun to the");
        session.foreground();
        session.wait_for("hotrun's keys are off");
        // Enter, as a keyboard sends it: the modes are not those in which the shell edits a line.
        session.send("late\r");
        session.wait_for("hello late");
        session.send("\x03");
        session.leave_shell();
    }
}

#[test]
fn a_resized_window_is_known_to_every_app() {
    if !can("a_resized_window_is_known_to_every_app") {
        return;
    }
    let app = "trap 'echo resized to $(stty size < /dev/stderr)' WINCH\necho serving\n\
               while :; do sleep 0.02; done\n";
    for keys in ["[run]\nstdin = \"app\"\n", "", "[run]\ntty = \"pty\"\n"] {
        let project =
            Sandbox::new().script("app", app).file("hotrun.toml", &format!("{CONFIG}{keys}"));
        let mut session = Session::of_hotrun(&project);
        session.wait_for("ready");
        session.resize(40, 100);
        session.wait_for("resized to 40 100");
        session.send("\x03");
        session.ends_with(0);
    }
}

#[test]
fn colours_are_those_of_a_terminal_whether_output_is_kept_or_not() {
    if !can("colours_are_those_of_a_terminal_whether_output_is_kept_or_not") {
        return;
    }
    let script = "test -t 1 && test -t 2 && printf '%s \\\\033[32mgreen\\\\033[0m\\\\n' build";
    for log in ["", "log = \"errors.log\"\n"] {
        for tty in ["inherit", "pty"] {
            let config =
                CONFIG.replace("cp source.txt built", &format!("cp source.txt built; {script}"));
            let config = format!("{config}{log}[run]\ntty = \"{tty}\"\n");
            let app =
                "test -t 1 && test -t 2 && printf 'app \\033[31mred\\033[0m\\n'\nexec sleep 1000\n";
            let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
            let mut session = Session::of_hotrun(&project);
            session.wait_for("build \x1b[32mgreen\x1b[0m\r\n");
            session.wait_for("app \x1b[31mred\x1b[0m\r\n");
            session.wait_for("ready");
            session.send("\x03");
            session.ends_with(0);
        }
    }
}

#[test]
fn cargo_is_in_colour() {
    let name = "cargo_is_in_colour";
    if !can(name) {
        return;
    }
    let project = Sandbox::empty()
        .file("Cargo.toml", crate::rust::MANIFEST)
        .file("src/main.rs", "fn main() { println!(\"up\"); std::thread::park(); }\n");
    let mut session = Session::of_hotrun(&project);
    session.wait_for("\x1b[1m\x1b[92m   Compiling\x1b[0m");
    session.wait_for("up\r\n");
    session.wait_for("ready");
    session.send("\x03");
    session.ends_with(0);
}

#[test]
fn a_build_may_ask_for_a_password() {
    if !can("a_build_may_ask_for_a_password") {
        return;
    }
    let script =
        "printf 'password? ' > /dev/tty; read p < /dev/tty; echo got $p; cp source.txt built";
    let config = CONFIG.replace("cp source.txt built", script);
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("password? ");
    session.wait_for("hotrun's keys are off");
    session.send("sesame\n");
    session.wait_for("got sesame");
    session.wait_for("ready");
    // The terminal is hotrun's again.
    session.wait_for_modes(false);
    session.send("q");
    session.ends_with(0);
}

#[test]
fn a_closed_window_ends_everything() {
    if !can("a_closed_window_ends_everything") {
        return;
    }
    let hotrun = env!("CARGO_BIN_EXE_hotrun");
    let makefile = format!("dev:\n\t@{hotrun}\n");
    let silent = "echo hello\nexec sleep 1000\n";
    for (app, words) in [(ASKS, hotrun), (silent, hotrun), (ASKS, "make dev"), (silent, "make dev")]
    {
        if words == "make dev" && !has("a_closed_window_ends_everything", &["make"]) {
            continue;
        }
        let project = Sandbox::new().script("app", app).file("Makefile", &makefile);
        // tmux is what a window is closed in; here the process that has the other side ends.
        let script = "import pty, os, sys, time\n\
             pid, fd = pty.fork()\n\
             if pid == 0:\n    os.execvp(sys.argv[1], sys.argv[1:])\n\
             seen = b''\n\
             while b'started' not in seen:\n    seen += os.read(fd, 4096)\n\
             os._exit(0)\n";
        let project = project.file("window.py", script);
        if !has("a_closed_window_ends_everything", &["python3"]) {
            return;
        }
        let mut command = project.program("python3", &["window.py"]);
        command.args(words.split(' '));
        assert!(command.status().unwrap().success());
        let until = Instant::now() + PATIENCE;
        while !marked(&project.root()).is_empty() {
            assert!(Instant::now() < until, "{:?} are left", marked(&project.root()));
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}

#[test]
fn the_rest_of_a_build_that_has_asked_can_be_interrupted() {
    if !can("the_rest_of_a_build_that_has_asked_can_be_interrupted") {
        return;
    }
    let ask = "printf 'password? ' > /dev/tty; read p < /dev/tty; echo got $p";
    let config = CONFIG.replace("cp source.txt built", "echo long; sleep 1000");
    let config = format!("{config}pre_cmd = [\"{ask}\"]\n");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("hotrun's keys are off");
    session.send("sesame\n");
    session.wait_for("got sesame");
    session.wait_for("long\r\n");
    session.wait_for_modes(false);
    session.send("\x03");
    session.ends_with(0);
}

#[test]
fn an_app_that_had_the_terminal_has_it_again_after_a_build_that_asked() {
    if !can("an_app_that_had_the_terminal_has_it_again_after_a_build_that_asked") {
        return;
    }
    let ask = "if grep -q two source.txt; then printf 'password? ' > /dev/tty; \
               read p < /dev/tty; echo got $p; exit 1; fi; cp source.txt built";
    let app = "echo serving\nwhile read line; do echo \"app read $line\"; done\n";
    for keys in ["", "[run]\nstdin = \"app\"\n"] {
        let config = CONFIG.replace("cp source.txt built", ask) + keys;
        let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
        let mut session = Session::of_hotrun(&project);
        session.wait_for("ready");
        session.send("one\n");
        session.wait_for("app read one");
        project.save("source.txt", "two\n");
        session.wait_for("password? ");
        session.wait_for("hotrun's keys are off");
        session.send("sesame\n");
        session.wait_for("got sesame");
        // The build has failed; the old app serves, and reads, on.
        session.wait_for("keeps running");
        session.send("two\n");
        session.wait_for("app read two");
        session.send("\x03");
        session.ends_with(0);
    }
}

#[test]
fn in_a_handover_the_terminal_is_the_old_ones_until_it_ends_and_then_the_new_ones() {
    if !can("in_a_handover_the_terminal_is_the_old_ones_until_it_ends") {
        return;
    }
    let app = "version=$(cat built)\necho serving $version\n\
               while read line; do echo \"$version read $line\"; done\n";
    let config = format!("{CONFIG}[run]\nmode = \"handover\"\n");
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
    let mut session = Session::of_hotrun(&project);
    session.wait_for("ready");
    session.send("a\n");
    session.wait_for("one read a");
    project.save("source.txt", "two\n");
    session.wait_for("is waiting for it until the previous program exits");
    session.send("b\n");
    session.wait_for("one read b");
    // It counts as ready when it has lived for a while.
    session.wait_for("stopped");
    session.send("c\n");
    session.wait_for("two read c");
    session.send("\x03");
    session.ends_with(0);
}

#[test]
fn an_app_that_asks_on_the_terminal_gets_it_though_stdin_is_none() {
    if !can("an_app_that_asks_on_the_terminal_gets_it_though_stdin_is_none") {
        return;
    }
    let app = "printf 'name of %s? ' $(cat built) > /dev/tty\nread name < /dev/tty\n\
               echo \"hello $name\"\nexec sleep 1000\n";
    for keys in ["", "[run]\nstdin = \"app\"\n"] {
        let config = format!("{CONFIG}{keys}");
        let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
        let script =
            format!("exec {} {SOON_READY} {PIDS} < /dev/null", env!("CARGO_BIN_EXE_hotrun"));
        let mut session = Session::start(&project, &["sh", "-c", &script]);
        for version in ["one", "two"] {
            project.save("source.txt", &format!("{version}\n"));
            session.wait_for(&format!("name of {version}? "));
            session.send("world\n");
            session.wait_for("hello world");
            session.wait_for("ready");
        }
        session.send("\x03");
        session.ends_with(0);
    }
}

#[test]
fn where_nobody_could_have_it_go_on_ctrl_z_does_nothing() {
    if !can("where_nobody_could_have_it_go_on_ctrl_z_does_nothing") {
        return;
    }
    for app in [ASKS, "echo hello\nexec sleep 1000\n"] {
        let project = Sandbox::new().script("app", app);
        // It leads the session: there is no shell.
        let mut session = Session::of_hotrun(&project);
        if app == ASKS {
            session.wait_until_an_app_has_it();
            session.send("\x1a");
            session.send("world\n");
            session.wait_for("hello world");
        } else {
            session.wait_for("ready");
            session.send("\x1a");
        }
        project.save("source.txt", "two\n");
        session.wait_for("built");
        session.wait_for("started");
        session.send("\x03");
        session.ends_with(0);
    }
}

#[test]
fn a_stopped_hotrun_that_goes_on_in_the_background_leaves_the_shell_its_terminal() {
    if !can("a_stopped_hotrun_that_goes_on_in_the_background_leaves_the_shell_its_terminal") {
        return;
    }
    for Shell { command: shell, stopped, .. } in shells() {
        let project = Sandbox::new().script("app", ASKS);
        let mut session = Session::of_shell(&project, shell);
        session.send("hotrun\n");
        session.wait_until_an_app_has_it();
        session.send("\x1a");
        session.wait_for(stopped);
        session.send("bg\n");
        // The next one wants the terminal, which is the shell's.
        project.save("source.txt", "two\n");
        session.wait_for("name of two? ");
        session.wait_for("bring hotrun to the");
        session.send("echo shell ''works\n");
        session.wait_for("shell works");
        session.foreground();
        session.wait_until_an_app_has_it();
        session.send("again\n");
        session.wait_for("hello again");
        session.send("\x03");
        session.leave_shell();
    }
}

#[test]
fn brought_to_the_foreground_hotrun_reads_keys() {
    if !can("brought_to_the_foreground_hotrun_reads_keys") {
        return;
    }
    for Shell { command: shell, .. } in shells() {
        let project = Sandbox::new();
        let mut session = Session::of_shell(&project, shell);
        session.send("hotrun &\n");
        session.wait_for("ready");
        session.foreground();
        session.wait_for_modes(false);
        session.send("r");
        session.wait_for("requested");
        session.wait_for("ready");
        session.send("q");
        session.leave_shell();
    }
}

#[test]
fn keys_go_on_working_after_a_helper_has_failed() {
    let name = "keys_go_on_working_after_a_helper_has_failed";
    if !can(name) {
        return;
    }
    let project = Sandbox::empty()
        .file("Cargo.toml", crate::rust::MANIFEST)
        .file("src/main.rs", "fn main() { println!(\"up\"); std::thread::park(); }\n");
    let mut session = Session::of_hotrun(&project);
    session.wait_for("ready");
    project.save("Cargo.toml", "[package\n");
    session.wait_for("until this is fixed");
    session.wait_for_modes(false);
    session.send("h");
    session.wait_for("q  quit");
    session.send("q");
    session.ends_with(0);
}

#[test]
fn a_hotrun_that_is_stopped_by_a_signal_and_goes_on_leaves_the_shell_its_terminal() {
    if !can("a_hotrun_that_is_stopped_by_a_signal_and_goes_on_leaves_the_shell_its_terminal") {
        return;
    }
    for Shell { command: shell, stopped, .. } in shells() {
        let project = Sandbox::new().script("app", ASKS);
        let mut session = Session::of_shell(&project, shell);
        session.send("hotrun\n");
        session.wait_until_an_app_has_it();
        let hotrun = session.hotrun();
        kill(hotrun, Signal::SIGSTOP).unwrap();
        session.wait_for(stopped);
        // The program, which was reading already, is given the first of it.
        session.send("\necho shell ''works\n");
        session.wait_for("shell works");
        kill(hotrun, Signal::SIGCONT).unwrap();
        session.wait_for("bring hotrun to the");
        session.send("echo it ''lives\n");
        session.wait_for("it lives");
        session.foreground();
        project.save("source.txt", "two\n");
        session.wait_for("name of two? ");
        session.send("again\n");
        session.wait_for("hello again");
        session.send("\x03");
        session.leave_shell();
    }
}

#[test]
fn a_killed_hotrun_leaves_a_sane_terminal_under_make_too() {
    let name = "a_killed_hotrun_leaves_a_sane_terminal_under_make_too";
    if !can(name) || !has(name, &["make"]) {
        return;
    }
    for Shell { command: shell, killed, .. } in shells() {
        let makefile = format!("dev:\n\t@{} {SOON_READY} {PIDS}\n", env!("CARGO_BIN_EXE_hotrun"));
        let project = Sandbox::new().file("Makefile", &makefile);
        let mut session = Session::of_shell(&project, shell);
        session.send("make dev\n");
        session.wait_for("ready");
        session.wait_for_modes(false);
        kill(session.hotrun(), Signal::SIGKILL).unwrap();
        session.wait_for(killed);
        session.wait_for("$ ");
        session.send("stty -a | tr ' ' '\\n' | grep icanon; echo modes ''seen\n");
        let shown = session.wait_for("modes seen");
        assert!(!shown.contains("-icanon"), "{}", session.shown());
        session.send("exit 0\n");
        session.ends_with(0);
    }
}

#[test]
fn keys_go_on_working_after_a_program_that_puts_back_the_modes_it_found() {
    let name = "keys_go_on_working_after_a_program_that_puts_back_the_modes_it_found";
    if !can(name) || !has(name, &["node"]) {
        return;
    }
    for Shell { command: shell, stopped, .. } in shells() {
        let config = config_to_run(&["node", "app.js"]);
        let app = "const text = 'up ' + require('fs').readFileSync('built', 'utf8').trim();\n\
                   require('http').createServer().listen(0, () => console.log(text));\n";
        let project = Sandbox::new().file("hotrun.toml", &config).file("app.js", app);
        let mut session = Session::of_shell(&project, shell);
        session.send("hotrun\n");
        session.wait_for("ready");
        session.send("\x1a");
        session.wait_for(stopped);
        session.send("bg\n");
        // This one finds the modes of the shell.
        project.save("source.txt", "two\n");
        session.wait_for("up two\r\n");
        session.foreground();
        session.wait_for_modes(false);
        session.send("r");
        session.wait_for("up two\r\n");
        session.wait_for_modes(false);
        session.send("h");
        session.wait_for("q  quit");
        session.send("q");
        session.leave_shell();
    }
}

#[test]
fn a_page_of_the_guide_is_wrapped_and_goes_through_the_pager() {
    let project = Sandbox::empty().env("PAGER", "cat; echo pager done");
    let mut session =
        Session::start(&project, &[env!("CARGO_BIN_EXE_hotrun"), "help", "migrating"]);
    let shown = session.wait_for("pager done\r\n");
    assert!(shown.contains("\u{1b}[1mMigrating\u{1b}[0m\r\n"), "{shown}");
    // The colours take no place on the screen.
    let colors = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[36m"];
    let plain = colors.iter().fold(shown, |text, color| text.replace(color, ""));
    assert!(plain.lines().all(|line| line.chars().count() <= 80), "{plain}");
    // Shorter than the screen.
    let mut session =
        Session::start(&project, &[env!("CARGO_BIN_EXE_hotrun"), "help", "exit-codes"]);
    let shown = session.wait_for("128 plus its number.\r\n");
    session.ends_with(0);
    assert!(!shown.contains("pager done"), "{shown}");
}

#[test]
fn a_process_that_takes_over_in_the_group_of_the_first_one_gets_the_terminal() {
    let name = "a_process_that_takes_over_in_the_group_of_the_first_one_gets_the_terminal";
    if !can(name) || !has(name, &["python3"]) {
        return;
    }
    let app = "import os, signal, socket, sys\n\
               signal.signal(signal.SIGINT, signal.SIG_DFL)\n\
               child = os.fork()\n\
               if child > 0:\n    \
                   out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n    \
                   out.sendto(f'MAINPID={child}'.encode(), os.environ['NOTIFY_SOCKET'])\n    \
                   sys.exit(0)\n\
               while not os.path.exists('go'): os.sched_yield()\n\
               print('hello', input(), flush=True)\n\
               while True: input()\n";
    let project = Sandbox::new().file("app.py", app);
    let project = project.file("hotrun.toml", &config_to_run(&["python3", "app.py"]));
    let mut session = Session::of_hotrun(&project);
    session.wait_for("continues");
    project.save("go", "");
    session.wait_for("hotrun's keys are off");
    session.send("world\n");
    session.wait_for("hello world");
    session.send("\x03");
    session.ends_with(0);
}
