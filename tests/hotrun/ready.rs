//! When a program counts as serving, and what follows when it does not.

use std::fs;

use crate::sandbox::{
    CONFIG, Sandbox, free_port, has, is_alive, number_in, runtime_files, wait_until,
};
use crate::session::{Session, can};

/// Says in which version it runs, and does what `source.txt` asks for behind that, in Python.
const APP: &str = "
import os, signal, socket, sys, time
version, script = (open('built').read() + '\\n').split('\\n', 1)
print('serving', version, 'as', os.getpid(), flush=True)
def notify(text):
    out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    out.sendto(text.encode(), os.environ['NOTIFY_SOCKET'])
def wait_for(name):
    while not os.path.exists(name): time.sleep(0.01)
exec(script)
while True: time.sleep(1000)
";

fn project(more: &str, script: &str) -> Sandbox {
    let config = format!(
        "[build]\ncmd = \"cp source.txt built\"\nentrypoint = [\"python3\", \"app.py\"]\n\
         include_ext = [\"txt\"]\nkill_delay = \"20s\"\n{more}"
    );
    let source = format!("one\n{script}\n");
    Sandbox::empty().file("hotrun.toml", &config).file("app.py", APP).file("source.txt", &source)
}

/// True when there is Python; else says what is skipped.
fn has_python(test: &str) -> bool {
    has(test, &["python3"])
}

#[test]
fn what_it_prints_before_it_is_ready_precedes_the_line_that_says_so() {
    let name = "what_it_prints_before_it_is_ready_precedes_the_line_that_says_so";
    if !has_python(name) || !can(name) {
        return;
    }
    let project = project("[ready]\nnotify = true\n", "print('up', flush=True); notify('READY=1')");
    // Its output passes through hotrun.
    let words = [env!("CARGO_BIN_EXE_hotrun"), "--run.stdin=null"];
    for _ in 0..number_in("HOTRUN_TEST_ROUNDS", 5) {
        let mut session = Session::start(&project, &words);
        let shown = session.wait_for("ready");
        assert!(shown.contains("up\r\n"), "{shown}");
        session.send("q");
        session.ends_with(0);
    }
}

#[test]
fn a_refused_connection_is_told_without_the_number_of_the_error() {
    let port = free_port();
    let config = format!("{CONFIG}[ready]\ntcp = {port}\ntimeout = \"300ms\"\n");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for(&format!(": 127.0.0.1:{port}: connection refused; still waiting for it"));
    hotrun.end();
}

#[test]
fn it_is_ready_when_it_says_so_and_its_words_are_passed_on() {
    if !has_python("it_is_ready_when_it_says_so_and_its_words_are_passed_on") {
        return;
    }
    let script = "notify('STATUS=loading\\x1b[2J'); wait_for('go')\n\
                  notify('STATUS=up\\nREADY=1'); wait_for('stop'); notify('STOPPING=1')";
    let project = project("[ready]\nnotify = true\n", script);
    let mut hotrun = project.start_plain(&[]);
    let app = hotrun.wait_serving("one");
    hotrun.wait_for(&format!("status  pid {app}: loading [2J"));
    assert_eq!(hotrun.count("ready  pid"), 0);
    project.save("go", "");
    let line = hotrun.wait_for(&format!("ready  pid {app} in "));
    assert!(line.ends_with('s'), "{line}");
    hotrun.wait_for(&format!("status  pid {app}: up"));
    project.save("stop", "");
    hotrun.wait_for(&format!("stopping  pid {app} reports that it is stopping"));
    hotrun.end();
}

#[test]
fn all_that_is_configured_must_be_so() {
    if !has_python("all_that_is_configured_must_be_so") {
        return;
    }
    let (health, port) = (free_port(), free_port());
    let script = format!(
        "import http.server, threading\n\
         class Health(http.server.BaseHTTPRequestHandler):\n    \
             def do_GET(self):\n        \
                 good = os.path.exists('healthy') and self.path == '/health?full'\n        \
                 self.send_response(204 if good else 503); self.end_headers()\n    \
             def log_message(self, *_): pass\n\
         server = http.server.ThreadingHTTPServer(('127.0.0.1', {health}), Health)\n\
         threading.Thread(target=server.serve_forever, daemon=True).start()\n\
         print('healthy is next', flush=True)\n\
         wait_for('healthy'); print('tcp is next', flush=True)\n\
         wait_for('tcp'); other = socket.create_server(('127.0.0.1', {port}))\n\
         print('log is next', flush=True)\n\
         wait_for('log'); print('\\x1b[32mlistening\\x1b[0m on', flush=True)"
    );
    let more = format!(
        "[ready]\nhttp = \"http://localhost:{health}/health?full\"\nstatus = 204\ntcp = {port}\n\
         log = \"^listening on$\"\nafter = \"10ms\"\n"
    );
    let project = project(&more, &script);
    let mut hotrun = project.start_plain(&[]);
    let app = hotrun.wait_serving("one");
    for name in ["healthy", "tcp", "log"] {
        hotrun.wait_for(&format!("{name} is next"));
        assert_eq!(hotrun.count("    ready  "), 0, "before {name}");
        project.save(name, "");
    }
    hotrun.wait_for("listening");
    hotrun.wait_for(&format!("ready  http://127.0.0.1:{health} in "));
    assert!(is_alive(app));
    hotrun.end();
}

#[test]
fn without_configuration_a_program_is_ready_when_it_listens_and_never_before() {
    if !has_python("without_configuration_a_program_is_ready_when_it_listens_and_never_before") {
        return;
    }
    let port = free_port();
    let script = format!(
        "if os.path.exists('slow'): print('wait', flush=True); wait_for('go')\n\
         server = socket.create_server(('0.0.0.0', {port}))"
    );
    let runtime = tempfile::tempdir().unwrap();
    let project = project("", &script).env("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap());
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for(&format!("ready  http://127.0.0.1:{port} in "));
    let is_known = || runtime_files(runtime.path()).contains(&port.to_string());
    wait_until("it is known that it listens", is_known);
    project.save("slow", "");
    let source = fs::read_to_string(project.root().join("source.txt")).unwrap();
    project.save("source.txt", &source.replacen("one", "two", 1));
    let app = hotrun.wait_serving("two");
    // It runs, which is all that is known of it.
    hotrun.wait_for(&format!("running  pid {app} for 3"));
    assert_eq!(hotrun.count("    ready  "), 1);
    project.save("go", "");
    hotrun.wait_for(&format!("ready  http://127.0.0.1:{port} in "));
    hotrun.end();
}

#[test]
fn a_program_that_exits_or_hangs_before_it_listens_is_never_ready() {
    for app in ["exit 1", "exit 0", "sleep 0.3; exit 3", "kill -9 $$", "sleep 1; exit 1"] {
        let config = CONFIG.to_owned() + "[run]\non_exit = \"wait\"\n";
        let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
        let mut hotrun = project.start_plain(&[]);
        hotrun.wait_for("waiting for a save");
        let output = hotrun.end();
        assert_eq!(output.matches("   ready  ").count(), 0, "{app}:\n{output}");
        assert_eq!(output.matches("  running  ").count(), 0, "{app}:\n{output}");
    }
}

#[test]
fn a_program_that_takes_a_socket_of_hotruns_is_ready_when_it_waits_for_connections() {
    if !has_python("a_program_that_takes_a_socket_of_hotruns_is_ready_when_it_waits") {
        return;
    }
    let port = free_port();
    let more = format!("[[listen]]\naddress = \"127.0.0.1:{port}\"\n");
    for waits in [
        "taken.accept()",
        "import selectors; some = selectors.EpollSelector()\n\
         some.register(taken, selectors.EVENT_READ); some.select()",
    ] {
        let script = format!(
            "taken = socket.socket(fileno=3); print('has it', flush=True)\n\
                              wait_for('go')\n{waits}"
        );
        let project = project(&more, &script);
        let mut hotrun = project.start_plain(&[]);
        hotrun.wait_for_line("has it");
        hotrun.wait_for("running  pid");
        assert_eq!(hotrun.count("    ready  "), 0, "{}", hotrun.output());
        project.save("go", "");
        if cfg!(target_os = "linux") {
            hotrun.wait_for(&format!("ready  http://127.0.0.1:{port} in "));
        }
        hotrun.end();
    }
}

#[test]
fn the_configured_port_is_the_one_that_counts_and_auto_chooses_one() {
    if !has_python("the_configured_port_is_the_one_that_counts_and_auto_chooses_one") {
        return;
    }
    let (first, port) = (free_port(), free_port());
    let script = format!(
        "one = socket.create_server(('127.0.0.1', {first})); print('listens', flush=True)\n\
         wait_for('go'); two = socket.create_server(('127.0.0.1', {port}))"
    );
    let more = format!("[run]\nport = {port}\n");
    let project_of_port = project(&more, &script);
    let mut hotrun = project_of_port.start_plain(&[]);
    hotrun.wait_for_line("listens");
    hotrun.wait_for("running  pid");
    assert_eq!(hotrun.count("    ready  "), 0, "{}", hotrun.output());
    project_of_port.save("go", "");
    hotrun.wait_for(&format!("ready  http://127.0.0.1:{port} in "));
    hotrun.end();
    let script = "port = int(os.environ['PORT']); print('port', port, flush=True)\n\
                  server = socket.create_server(('127.0.0.1', port))";
    let project_of_auto = project("[run]\nport = \"auto\"\n", script);
    let mut hotrun = project_of_auto.start_plain(&[]);
    let line = hotrun.wait_for("port ");
    let port: u16 = line.trim_start_matches("port ").parse().unwrap();
    hotrun.wait_for(&format!("ready  http://127.0.0.1:{port} in "));
    // The next one has the same, so that an open page can be loaded again.
    let source = format!("two\n{script}\n");
    project_of_auto.save("source.txt", &source);
    hotrun.wait_for(&format!("port {port}"));
    hotrun.wait_for(&format!("ready  http://127.0.0.1:{port} in "));
    hotrun.end();
}

#[test]
fn who_is_not_ready_in_time_is_told_of_once_and_given_more_time() {
    if !has_python("who_is_not_ready_in_time_is_told_of_once_and_given_more_time") {
        return;
    }
    let more = "[ready]\nnotify = true\nlog = \"up\"\ntimeout = \"100ms\"\n";
    let project = project(more, "wait_for('go'); notify('READY=1'); print('up', flush=True)");
    let mut hotrun = project.start_plain(&[]);
    let line = hotrun.wait_for("not ready  pid ");
    let why = ": it has not sent READY=1 to $NOTIFY_SOCKET; no line matching /up/ was printed; \
               still waiting for it";
    assert!(line.ends_with(why), "{line}");
    project.save("go", "");
    hotrun.wait_for("    ready  pid ");
    let output = hotrun.end();
    assert_eq!(output.matches("not ready").count(), 1, "{output}");
}

#[test]
fn in_a_handover_who_is_not_ready_in_time_is_dismissed_and_the_old_one_stays() {
    if !has_python("in_a_handover_who_is_not_ready_in_time_is_dismissed") {
        return;
    }
    let more = "[run]\nmode = \"handover\"\n[ready]\nnotify = true\ntimeout = \"3s\"\n";
    let project = project(more, "notify('READY=1')");
    let mut hotrun = project.start_plain(&[]);
    let old = hotrun.wait_serving("one");
    hotrun.wait_for("    ready  pid");
    project.save("source.txt", "two\n");
    let new = hotrun.wait_serving("two");
    let line = hotrun.wait_for(&format!("not ready  pid {new} after "));
    assert!(line.ends_with(&format!("; pid {old} keeps running")), "{line}");
    hotrun.wait_for(&format!("stopped  pid {new}"));
    assert!(is_alive(old));
    // Whoever asks for more time in time gets it.
    let source = "three\nnotify('EXTEND_TIMEOUT_USEC=60000000'); time.sleep(3.5)\n\
                  notify('READY=1')\n";
    project.save("source.txt", source);
    let new = hotrun.wait_serving("three");
    hotrun.wait_for(&format!("    ready  pid {new}"));
    hotrun.wait_for(&format!("stopped  pid {old}"));
    assert!(!is_alive(old));
    hotrun.end();
}

#[test]
fn a_save_during_a_handover_replaces_the_one_that_is_not_ready() {
    if !has_python("a_save_during_a_handover_replaces_the_one_that_is_not_ready") {
        return;
    }
    let more = "[run]\nmode = \"handover\"\n[ready]\nnotify = true\n";
    let project = project(more, "notify('READY=1')");
    let mut hotrun = project.start_plain(&[]);
    let first = hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("source.txt", "two\n");
    let second = hotrun.wait_serving("two");
    project.save("source.txt", "three\nnotify('READY=1')\n");
    let third = hotrun.wait_serving("three");
    hotrun.wait_for(&format!("ready  pid {third}"));
    hotrun.wait_for(&format!("stopped  pid {first}"));
    wait_until("only the third is there", || hotrun.children() == [third]);
    assert!(!is_alive(second));
    // A save that does not build, meanwhile: what was built before it is what serves.
    project.save("source.txt", "four\nwait_for('go'); notify('READY=1')\n");
    hotrun.wait_serving("four");
    project.sh("sed -i 's/^cmd = .*/cmd = \"! grep -q broken source.txt; test $? = 0 || exit 1; cp source.txt built\"/' hotrun.toml");
    hotrun.wait_serving("four");
    project.save("source.txt", "broken\n");
    hotrun.wait_for("failed");
    let fourth = hotrun.wait_serving("four");
    project.save("go", "");
    hotrun.wait_for(&format!("ready  pid {fourth}"));
    hotrun.end();
}

#[test]
fn in_a_handover_without_any_sign_the_new_one_takes_over_after_a_second_which_is_told_once() {
    if !has_python("in_a_handover_without_any_sign_the_new_one_takes_over") {
        return;
    }
    let project = project("[run]\nmode = \"handover\"\n", "");
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("running");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.wait_for("replaces the previous program after 1 s without any sign that it serves");
    hotrun.wait_for("running");
    hotrun.wait_for("stopped");
    project.save("source.txt", "three\n");
    hotrun.wait_serving("three");
    hotrun.wait_for("stopped");
    let source = "four\nnotify('READY=1')\n";
    project.save("source.txt", source);
    hotrun.wait_serving("four");
    hotrun.wait_for("ready  pid");
    let output = hotrun.end();
    assert_eq!(output.matches("replaces the previous program").count(), 1, "{output}");
}

#[test]
fn in_a_handover_the_old_ones_answer_proves_nothing() {
    if !has_python("in_a_handover_the_old_ones_answer_proves_nothing") {
        return;
    }
    let port = free_port();
    let more = format!("[run]\nmode = \"handover\"\n[ready]\ntcp = {port}\ntimeout = \"5s\"\n");
    let project = project(&more, &format!("server = socket.create_server(('127.0.0.1', {port}))"));
    let mut hotrun = project.start_plain(&[]);
    let old = hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("source.txt", "two\n");
    let new = hotrun.wait_serving("two");
    let line = hotrun.wait_for(&format!("not ready  pid {new}"));
    assert!(
        line.contains(&format!("127.0.0.1:{port}: the new program does not listen there")),
        "{line}"
    );
    assert!(is_alive(old));
    // And one that opens the port itself is told why it cannot.
    project.save(
        "source.txt",
        &format!("three\nserver = socket.create_server(('127.0.0.1', {port}))\n"),
    );
    hotrun.wait_for("Address already in use");
    let line = hotrun.wait_for("the previous program still listens on");
    assert!(line.contains(&format!("[[listen]] address = {port}")), "{line}");
    hotrun.wait_for(&format!("pid {old} keeps running"));
    hotrun.end();
}

#[test]
fn what_drains_for_longer_asks_for_it() {
    if !has_python("what_drains_for_longer_asks_for_it") {
        return;
    }
    let script = "def drain(*_):\n    notify('EXTEND_TIMEOUT_USEC=60000000'); time.sleep(3.5)\n    \
                  print('drained', flush=True); sys.exit(0)\n\
                  signal.signal(signal.SIGTERM, drain)\nprint('handles', flush=True)";
    let project = project("", script);
    project.sh("sed -i 's/^kill_delay = .*/kill_delay = \"3s\"/' hotrun.toml");
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("handles");
    project.save("source.txt", "two\n");
    hotrun.wait_for("which asks for 1 min 0 s to exit");
    hotrun.wait_for_line("drained");
    hotrun.wait_serving("two");
    assert_eq!(hotrun.count("killing"), 0, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_machine_that_nobody_knows_is_told_at_once() {
    let more = "[ready]\ntcp = \"no.such.machine.invalid:80\"\ntimeout = \"300ms\"\n";
    if !has_python("a_machine_that_nobody_knows_is_told_at_once") {
        return;
    }
    let project = project(more, "");
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("the host name no.such.machine.invalid cannot be resolved");
    hotrun.wait_for("not ready");
    hotrun.end();
}

#[test]
fn what_a_program_prints_to_a_terminal_stays_what_it_is_while_a_line_is_looked_for() {
    let test = "what_a_program_prints_to_a_terminal_stays_what_it_is";
    if !has(test, &["script"]) {
        return;
    }
    let project = Sandbox::new()
        .script(
            "app",
            "test -t 1 && test -t 2 && echo on a terminal $(cat built)\nexec sleep 1000\n",
        )
        .file("hotrun.toml", &format!("{CONFIG}[ready]\nlog = \"on a terminal two\"\n"));
    let mut command =
        project.program("script", &["-qfc", env!("CARGO_BIN_EXE_hotrun"), "/dev/null"]);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(std::process::Stdio::piped());
    let mut hotrun = project.start_with(command);
    hotrun.wait_for("on a terminal one");
    project.save("source.txt", "two\n");
    hotrun.wait_for("on a terminal two");
    hotrun.wait_for("ready");
    std::io::Write::write_all(hotrun.stdin(), b"q").unwrap();
    hotrun.wait();
    hotrun.leaves_nobody();
}
