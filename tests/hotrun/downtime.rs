//! Clients that connect all the time while the program is replaced again and again.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, killpg};

use crate::sandbox::{PATIENCE, Sandbox, free_port, get, has, may_fetch, wait_until};

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
