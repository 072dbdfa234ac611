//! A port that is taken, a build that never ends, a program that always does.

use std::net::TcpStream;
use std::process::Child;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::sandbox::{
    CONFIG, Hotrun, Sandbox, config_to_run, free_port, has, is_alive, runtime_files, wait_until,
};

/// A server that has nothing to do with hotrun.
struct Stranger(Child);

impl Stranger {
    /// Works in the project's directory, or elsewhere.
    fn on(port: u16, project: &Sandbox, directory: &str) -> Self {
        let mut command = project.program("python3", &["-m", "http.server", &port.to_string()]);
        command.args(["--bind", "127.0.0.1"]).current_dir(project.root().join(directory));
        // Not to be found among what hotrun has started.
        command.env_remove("HOTRUN_TEST_SANDBOX");
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let server = Self(command.spawn().unwrap());
        wait_until("it serves", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves on this port, or says that it cannot.
fn server(port: u16) -> String {
    format!(
        "import socket, sys, time\n\
         listener = socket.socket()\n\
         listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
         try:\n    listener.bind(('127.0.0.1', {port}))\nexcept OSError:\n    sys.exit(3)\n\
         listener.listen()\nprint('serving', open('built').read().strip(), flush=True)\n\
         time.sleep(1000)\n"
    )
}

fn project(port: u16, keys: &str) -> Sandbox {
    let config = config_to_run(&["python3", "server.py"]);
    Sandbox::new().file("hotrun.toml", &format!("{config}{keys}")).file("server.py", &server(port))
}

/// The line about a stranger who holds a port.
#[track_caller]
fn wait_told(hotrun: &mut Hotrun, stranger: &Stranger, port: u16) -> String {
    let line = hotrun.wait_for(&format!("port  {port} is held by \""));
    assert!(line.contains(&format!("(pid {}), for ", stranger.pid())), "{line}");
    assert!(line.contains("python3 -m http.server"), "{line}");
    line
}

#[test]
fn who_holds_the_port_that_the_program_is_said_to_need_is_named_before_it_starts() {
    let name = "who_holds_the_port_that_the_program_is_said_to_need_is_named_before_it_starts";
    if !has(name, &["python3"]) {
        return;
    }
    let port = free_port();
    let project = project(port, &format!("[proxy]\napp_port = {port}\n"));
    let stranger = Stranger::on(port, &project, ".");
    let mut hotrun = project.start(&[]);
    let line = wait_told(&mut hotrun, &stranger, port);
    assert!(line.contains("; stop it, or have hotrun stop it: hotrun --free-port"), "{line}");
    hotrun.wait_for("exit code 3");
    let output = hotrun.end();
    assert_eq!(output.matches("is held by").count(), 1, "{output}");
    assert!(is_alive(stranger.pid()));
}

#[test]
fn the_port_that_the_programs_error_names_is_looked_up_at_the_first_start_too() {
    let name = "the_port_that_the_programs_error_names_is_looked_up_at_the_first_start_too";
    if !has(name, &["python3"]) {
        return;
    }
    let port = free_port();
    let project = project(port, "");
    project.sh("sed -i 's/^except OSError:/except OSError as error:\\n    \
                print(\"cannot bind 127.0.0.1:%d: %s\" % (PORT, error.strerror))/' server.py");
    project.sh(&format!("sed -i 's/PORT/{port}/' server.py"));
    let stranger = Stranger::on(port, &project, "/");
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("Address already in use");
    wait_told(&mut hotrun, &stranger, port);
    hotrun.end();
    // Where the error does not name it, the configuration may, and that is said.
    project.sh("sed -i 's/cannot bind .*%s\" % (.*))/%s\" % error.strerror)/' server.py");
    let empty = tempfile::tempdir().unwrap();
    let project = project.env("XDG_RUNTIME_DIR", empty.path().to_str().unwrap());
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("set `run.port` and hotrun names the process that holds it");
    let output = hotrun.end();
    assert_eq!(output.matches("is held by").count(), 0, "{output}");
}

#[test]
fn free_port_ends_who_is_of_this_project_and_nobody_else() {
    let name = "free_port_ends_who_is_of_this_project_and_nobody_else";
    if !has(name, &["python3"]) {
        return;
    }
    for (directory, is_ended) in [(".", true), ("/", false)] {
        let port = free_port();
        let project = project(port, &format!("[proxy]\napp_port = {port}\n"));
        let mut stranger = Stranger::on(port, &project, directory);
        let mut hotrun = project.start(&["--free-port"]);
        let line = wait_told(&mut hotrun, &stranger, port);
        if is_ended {
            assert!(line.contains("; it was stopped"), "{line}");
            hotrun.wait_for("serving one");
            stranger.0.wait().unwrap();
        } else {
            assert!(line.contains("--free-port leaves it alone"), "{line}");
            hotrun.wait_for("exit code 3");
            assert!(is_alive(stranger.pid()));
        }
        hotrun.end();
    }
}

#[test]
fn a_port_that_the_program_had_is_known_also_to_the_next_hotrun() {
    let name = "a_port_that_the_program_had_is_known_also_to_the_next_hotrun";
    if !has(name, &["python3"]) {
        return;
    }
    let port = free_port();
    let runtime = tempfile::tempdir().unwrap();
    let project = project(port, "").env("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap());
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("serving one");
    let is_known = || runtime_files(runtime.path()).contains(&port.to_string());
    wait_until("the port is remembered", is_known);
    hotrun.end();

    let stranger = Stranger::on(port, &project, ".");
    let mut next = project.start(&[]);
    next.wait_for("exit code 3");
    wait_told(&mut next, &stranger, port);
    next.end();

    let mut last = project.start(&["--free-port"]);
    let line = wait_told(&mut last, &stranger, port);
    assert!(line.contains("it was stopped"), "{line}");
    // Nobody has to save anything.
    last.wait_for("serving one");
    last.end();
}

#[test]
fn a_build_that_serves_is_told_and_stopped_like_a_program() {
    let name = "a_build_that_serves_is_told_and_stopped_like_a_program";
    if !has(name, &["python3"]) {
        return;
    }
    let port = free_port();
    // hotrun itself asks go what the program is made of.
    let go = "[ $1 = run ] || exit 1\n\
              trap 'echo asked by INT; kill $child; exit' INT\ncp source.txt built\n\
              python3 server.py & child=$!\nwait $child\n";
    for (cmd, remedy) in [
        ("./go run main.go", "full_bin = \"./go run main.go\"".to_owned()),
        ("go run . --fast", "cmd = \"go build -o ./tmp/main .\"".to_owned()),
    ] {
        let config = format!(
            "[build]\ncmd = \"{cmd}\"\ninclude_ext = [\"txt\"]\nkill_delay = \"20s\"\n\
             [run]\nsignal = \"INT\"\n"
        );
        let path = std::env::var("PATH").unwrap();
        let project = Sandbox::empty()
            .file("source.txt", "one\n")
            .file("hotrun.toml", &config)
            .script("go", go)
            .file("server.py", &server(port));
        let path = format!("{}:{path}", project.root().display());
        let project = project.env("PATH", &path);
        let mut hotrun = project.start(&[]);
        hotrun.wait_for("serving one");
        let line = hotrun.wait_for("the build is still running");
        assert!(line.contains(&format!("listens on port {port}")), "{line}");
        hotrun.wait_for(&remedy);
        if cmd.starts_with("go") {
            hotrun.wait_for("entrypoint = [\"./tmp/main\", \"--fast\"]");
        }
        project.save("source.txt", "two\n");
        hotrun.wait_for("asked by INT");
        hotrun.wait_for("serving two");
        hotrun.signal(Signal::SIGINT);
        hotrun.wait();
        hotrun.leaves_nobody();
    }
}

#[test]
fn a_program_that_always_ends_is_told_once() {
    let config = CONFIG.to_owned() + "rerun = true\nrerun_delay = \"1ms\"\n";
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", "exit 7\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("5 times in a row soon after its start");
    for _ in 0..6 {
        hotrun.wait_for("exit code 7");
    }
    assert_eq!(hotrun.count("times in a row"), 1);
    end(hotrun);
}

fn end(mut hotrun: Hotrun) {
    hotrun.signal(Signal::SIGINT);
    hotrun.wait();
    hotrun.leaves_nobody();
}

#[test]
fn a_program_that_ends_while_a_rule_runs_has_its_pause_too() {
    let rule = "[[build.rules]]\ninclude_ext = [\"rule\"]\n\
                cmd = \"echo rule runs; while ! test -e go; do sleep 0.02; done\"\n";
    let config = format!("{CONFIG}rerun = true\nrerun_delay = 100000\n{rule}");
    let project = Sandbox::new().file("hotrun.toml", &config).file("a.rule", "");
    let mut hotrun = project.start(&[]);
    let app = hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("a.rule", "b");
    hotrun.wait_for_line("rule runs");
    nix::sys::signal::kill(app, Signal::SIGKILL).unwrap();
    hotrun.wait_for("restarting");
    project.save("go", "");
    hotrun.wait_for("  done  ");
    // What asks for it need not wait.
    assert_eq!(hotrun.count("started"), 1, "started once:\n{}", hotrun.output());
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.end();
}
