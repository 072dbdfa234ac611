//! Clients that connect all the time while the program is replaced again and again.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill, killpg};

use crate::sandbox::{
    Hotrun, PATIENCE, Sandbox, free_port, get, has, may_fetch, number_in, pid_in, wait_until,
};

const CLIENTS: usize = 8;

/// What clients have seen.
#[derive(Debug, Default)]
struct Seen {
    bodies: BTreeSet<String>,
    /// Everything that went wrong, in words.
    failures: Vec<String>,
}

/// Clients at work, each with a new connection for each request.
struct Load {
    is_over: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    fn on(port: u16) -> Self {
        let (is_over, answers) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
        let clients = (0..CLIENTS).map(|_| {
            let (is_over, answers) = (Arc::clone(&is_over), Arc::clone(&answers));
            thread::spawn(move || {
                let mut seen = Seen::default();
                while !is_over.load(Ordering::Relaxed) {
                    match ask(port) {
                        Ok(body) => {
                            answers.fetch_add(1, Ordering::Relaxed);
                            seen.bodies.insert(body);
                        }
                        Err(error) => seen.failures.push(format!("{:?}: {error}", error.kind())),
                    }
                }
                seen
            })
        });
        Self { clients: clients.collect(), is_over, answers }
    }

    /// Waits until more was answered.
    fn go_on(&self) {
        let enough = self.answers.load(Ordering::Relaxed) + 20 * CLIENTS;
        wait_until("more is answered", || self.answers.load(Ordering::Relaxed) >= enough);
    }

    fn end(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in self.clients {
            let seen = client.join().unwrap();
            all.bodies.extend(seen.bodies);
            all.failures.extend(seen.failures);
        }
        all
    }
}

/// The body of one answer.
fn ask(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.strip_prefix("HTTP/1.1 200").and_then(|rest| rest.split_once("\r\n\r\n"));
    let (_, body) = body.ok_or_else(|| {
        io::Error::new(ErrorKind::UnexpectedEof, format!("not an answer: {answer:?}"))
    })?;
    // A chunk of a known length, or all that there is.
    let text = body.lines().find(|line| line.contains(' ')).unwrap_or(body);
    Ok(text.to_owned())
}

/// An example of this project in a sandbox: in both modes nobody who connects is turned away
/// while its greeting is changed.
fn serves_without_a_gap(
    sandbox: impl Fn() -> Sandbox,
    example: &str,
    source: &str,
    greeting: &str,
) {
    for mode in ["restart", "handover"] {
        let port = free_port();
        let project = sandbox().of_example(example);
        let text = std::fs::read_to_string(project.root().join(source)).unwrap();
        let mut hotrun = if mode == "restart" {
            project.start(&["--listen", &port.to_string(), "--run.mode", mode])
        } else {
            // As the example has it.
            project.sh(&format!("sed -i 's/^address = 3000/address = {port}/' hotrun.toml"));
            let hotruns = Path::new(env!("CARGO_BIN_EXE_hotrun")).parent().unwrap().display();
            project.start_by(&format!("PATH={hotruns}:$PATH exec make --silent dev"))
        };
        hotrun.wait_for("ready");
        let load = Load::on(port);
        let mut expected = BTreeSet::from([greeting.to_owned()]);
        for number in 1..=3 {
            let new = format!("{greeting} {number}");
            project.save(source, &text.replace(greeting, &new));
            let steps = if mode == "restart" { ["stopped", "ready"] } else { ["ready", "stopped"] };
            for step in steps {
                hotrun.wait_for(step);
            }
            assert!(get(port, "/").contains(&new), "{mode}");
            load.go_on();
            expected.insert(new);
        }
        let seen = load.end();
        killpg(hotrun.pid(), Signal::SIGINT).unwrap();
        hotrun.wait();
        hotrun.leaves_nobody();
        let output = hotrun.output();
        assert_eq!(seen.failures, [""; 0], "{mode}\n{output}");
        assert_eq!(seen.bodies, expected, "{mode}");
    }
}

#[test]
fn nobody_is_turned_away_while_a_node_program_is_replaced() {
    let test = "nobody_is_turned_away_while_a_node_program_is_replaced";
    if has(test, &["node"]) {
        serves_without_a_gap(Sandbox::empty, "node-http", "server.js", "Hello from node");
    }
}

#[test]
fn nobody_is_turned_away_while_an_axum_program_is_replaced() {
    let test = "nobody_is_turned_away_while_an_axum_program_is_replaced";
    if has(test, &["cargo"]) && may_fetch(test) {
        serves_without_a_gap(Sandbox::empty, "axum-listenfd", "src/main.rs", "Hello from axum");
    }
}

#[test]
fn nobody_is_turned_away_while_a_gin_program_is_replaced() {
    let test = "nobody_is_turned_away_while_a_gin_program_is_replaced";
    if has(test, &["go"]) && may_fetch(test) {
        let sandbox = || Sandbox::empty().env("GIN_MODE", "release");
        serves_without_a_gap(sandbox, "gin-handover", "main.go", "Hello from Gin");
    }
}

#[test]
fn nobody_is_turned_away_while_a_uvicorn_program_is_replaced() {
    let test = "nobody_is_turned_away_while_a_uvicorn_program_is_replaced";
    if !has(test, &["python3"]) || !may_fetch(test) {
        return;
    }
    let tools = Sandbox::empty();
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/uvicorn/requirements.txt");
    tools.sh(&format!("python3 -m venv . && bin/pip install --quiet -r {}", list.display()));
    let path = format!("{}/bin:{}", tools.root().display(), std::env::var("PATH").unwrap());
    let sandbox = || Sandbox::empty().env("PATH", &path);
    serves_without_a_gap(sandbox, "uvicorn", "app.py", "Hello from uvicorn");
}

/// A server that opens its port itself: there is a gap, or the clients above would see none
/// whatever happened.
#[test]
fn a_program_that_opens_its_port_itself_turns_clients_away() {
    let test = "a_program_that_opens_its_port_itself_turns_clients_away";
    if !has(test, &["node"]) {
        return;
    }
    let port = free_port();
    let server = format!(
        "require('http').createServer((_, answer) => answer.end('number ONE'))\n\
         setTimeout(() => server.listen({port}, '127.0.0.1'), 300)\n"
    );
    let server = server.replacen("require", "const server = require", 1);
    let config = "[build]\nentrypoint = \"node server.js\"\ninclude_ext = [\"js\"]\n";
    let project = Sandbox::empty().file("server.js", &server).file("hotrun.toml", config);
    let mut hotrun = project.start(&[]);
    assert!(get(port, "/").contains("number ONE"));
    let load = Load::on(port);
    project.save("server.js", &server.replace("ONE", "TWO"));
    hotrun.wait_for("stopped");
    assert!(get(port, "/").contains("number TWO"));
    load.go_on();
    let seen = load.end();
    assert!(!seen.failures.is_empty());
    hotrun.end();
}

const ENTRYPOINT: &str =
    "[build]\nentrypoint = [\"python3\", \"app.py\"]\ninclude_ext = [\"py\"]\n";

/// Serves its version, and at SIGUSR2 starts its successor, passes its listener on, and ends when
/// that one serves: what graceful restart libraries do.
const SELF_UPGRADING: &str = r"
import os, selectors, signal, socket, sys
passed, port = os.environ.pop('PASSED', None), int(sys.argv[1])
if passed:
    listener = socket.socket(fileno=int(passed.split()[0]))
elif 'LISTEN_FDS' in os.environ:
    listener = socket.socket(fileno=3)
else:
    listener = socket.create_server(('127.0.0.1', port), backlog=1024)
listener.setblocking(False)
version = open('built').read().strip()
wakes, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
for number in signal.SIGUSR2, signal.SIGTERM:
    signal.signal(number, lambda *_: None)
selector = selectors.EpollSelector()
selector.register(listener, selectors.EVENT_READ)
selector.register(wakes, selectors.EVENT_READ)
if passed:
    os.write(int(passed.split()[1]), b'1')
print('serving', version, 'as', os.getpid(), flush=True)
while True:
    for key, _ in selector.select():
        if key.fd != wakes:
            try: client, _ = listener.accept()
            except BlockingIOError: continue
            client.setblocking(True)
            while b'\r\n\r\n' not in client.recv(4096): pass
            body = f'Hello from {version}'
            client.sendall(f'HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}'.encode())
            client.close()
        elif os.read(wakes, 1)[0] == signal.SIGTERM:
            sys.exit(0)
        else:
            is_up, up = os.pipe()
            os.set_inheritable(up, True); os.set_inheritable(listener.fileno(), True)
            if os.fork() == 0:
                os.environ['PASSED'] = f'{listener.fileno()} {up}'
                os.execv(sys.executable, [sys.executable] + sys.argv)
            os.close(up)
            selector.unregister(listener)
            os.read(is_up, 1)
            sys.exit(0)
";

#[test]
fn a_program_that_starts_its_successor_and_ends_goes_on_as_that_one() {
    if !has("a_program_that_starts_its_successor_and_ends_goes_on_as_that_one", &["python3"]) {
        return;
    }
    for has_listener in [true, false] {
        let port = free_port();
        let config = format!(
            "[build]\ncmd = \"cp source.txt built\"\n\
             entrypoint = [\"python3\", \"app.py\", \"{port}\"]\ninclude_ext = [\"txt\"]\n"
        );
        let project = Sandbox::empty()
            .file("hotrun.toml", &config)
            .file("app.py", SELF_UPGRADING)
            .file("source.txt", "one\n");
        let mut hotrun = if has_listener {
            project.start_plain(&["--listen", &port.to_string()])
        } else {
            project.start_plain(&[])
        };
        let mut app = pid_in(&hotrun.wait_for("started  pid"));
        let ready = format!("ready  http://127.0.0.1:{port}");
        hotrun.wait_for_all(&["serving one as", &ready]);
        let load = Load::on(port);
        for _ in 0..number_in("HOTRUN_TEST_ROUNDS", 5) {
            kill(app, Signal::SIGUSR2).unwrap();
            let successor = hotrun.wait_serving("one");
            let place = format!("continues  pid {successor}, in place of pid {app}");
            hotrun.wait_for(&place);
            app = successor;
        }
        load.go_on();
        let seen = load.end();
        assert_eq!(seen.failures, [""; 0], "{}", hotrun.output());
        assert_eq!(hotrun.count("exited"), 0, "{}", hotrun.output());

        // It is the program in all respects: it is replaced, its crash is seen, and it is ended.
        let upgrade = |hotrun: &mut Hotrun, version: &str| {
            let app = pid_in(&hotrun.wait_for("started  pid"));
            hotrun.wait_for_all(&[&format!("serving {version} as {app}"), "ready  http://"]);
            kill(app, Signal::SIGUSR2).unwrap();
            let successor = hotrun.wait_serving(version);
            hotrun.wait_for(&format!("continues  pid {successor}"));
            successor
        };
        project.save("source.txt", "two\n");
        let successor = upgrade(&mut hotrun, "two");
        kill(successor, Signal::SIGKILL).unwrap();
        hotrun.wait_for(&format!("crashed  pid {successor}: "));
        project.save("source.txt", "three\n");
        upgrade(&mut hotrun, "three");
        hotrun.end();
    }
}

#[test]
fn a_process_that_listens_elsewhere_does_not_take_the_place_of_a_program_that_has_ended() {
    let test =
        "a_process_that_listens_elsewhere_does_not_take_the_place_of_a_program_that_has_ended";
    if !has(test, &["python3"]) {
        return;
    }
    let app = "import os, signal, socket, sys\n\
               signal.signal(signal.SIGTERM, signal.SIG_DFL)\n\
               listener = socket.create_server(('127.0.0.1', 0))\n\
               if os.fork() == 0:\n    \
                   listener.close(); other = socket.create_server(('127.0.0.1', 0))\n    \
                   while True: signal.pause()\n\
               while not os.path.exists('go'): signal.sigtimedwait([], 0.01)\n";
    let project = Sandbox::empty().file("hotrun.toml", ENTRYPOINT).file("app.py", app);
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("ready  http://");
    project.save("go", "");
    hotrun.wait_for("exited  pid");
    wait_until("its helper is ended, too", || hotrun.children().is_empty());
    hotrun.end();
}

#[test]
fn the_main_pid_that_a_program_names_goes_on_when_it_has_ended() {
    if !has("the_main_pid_that_a_program_names_goes_on_when_it_has_ended", &["python3"]) {
        return;
    }
    // It names a process of the system, then its own, then its child, which then names itself.
    let app = "import os, signal, socket, sys\n\
               def notify(text):\n    \
                   out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n    \
                   out.sendto(text.encode(), os.environ['NOTIFY_SOCKET'])\n\
               notify('MAINPID=1')\n\
               notify(f'MAINPID={os.getpid()}')\n\
               child = os.fork()\n\
               if child == 0:\n    \
                   while not os.path.exists('go'): signal.sigtimedwait([], 0.01)\n    \
                   notify(f'READY=1\\nMAINPID={os.getpid()}')\n    \
                   while True: signal.pause()\n\
               notify(f'MAINPID={child}')\n\
               print('child', child, flush=True)\n\
               signal.sigtimedwait([], 1)\n\
               sys.exit(3)\n";
    let project = Sandbox::empty().file("hotrun.toml", ENTRYPOINT).file("app.py", app);
    let mut hotrun = project.start_plain(&[]);
    let child = pid_in(&hotrun.wait_for("child "));
    hotrun.wait_for(&format!("continues  pid {child}, in place of pid "));
    project.save("go", "");
    hotrun.wait_for(&format!("ready  pid {child} in "));
    kill(child, Signal::SIGTERM).unwrap();
    hotrun.wait_for(&format!("crashed  pid {child}: "));
    hotrun.end();
}
