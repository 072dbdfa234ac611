//! Configurations and programs that do not fit each other, and configurations that change.

use std::net::TcpListener;
use std::thread;

use super::{Connection, ask, free_ports};
use crate::sandbox::{Hotrun, Sandbox, free_port, get, has, pid_in, wait_until};

/// Listens where its arguments say, and answers with its version and the path.
const SERVER: &str = "const http = require('node:http');
const server = http.createServer((request, response) => response.end('one ' + request.url));
server.listen(PLACE);
";

/// Boots slowly, and leaves the file of its socket behind when it is stopped.
const ON_UNIX_SOCKET: &str = "const http = require('node:http');
const server = http.createServer((request, response) => response.end('one'));
setTimeout(() => {
  require('node:fs').rmSync('app.sock', { force: true });
  server.listen('app.sock');
}, 300);
";

/// A project with a server that listens at this place, a JavaScript expression. Its build is slow
/// enough to do nothing before the port of the proxy is open.
fn project(place: &str, proxy: &str) -> Sandbox {
    Sandbox::empty()
        .file("hotrun.toml", &config(proxy))
        .file("server.js", &SERVER.replace("PLACE", place))
}

fn config(proxy: &str) -> String {
    format!(
        "[build]\ncmd = \"touch built\"\nentrypoint = \"node server.js\"\n\
         include_ext = [\"js\"]\n[proxy]\n{proxy}\n"
    )
}

fn on_given_port() -> &'static str {
    "process.env.PORT, '127.0.0.1'"
}

#[test]
fn a_port_that_is_in_use_is_named_with_its_holder_before_anything_is_built() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let project = project("0", &format!("proxy_port = {port}"));
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&format!("127.0.0.1:{port}")), "{stderr}");
    assert!(stderr.contains("proxy.proxy_port"), "{stderr}");
    assert!(stderr.contains(&format!("pid {}", std::process::id())), "{stderr}");
    assert!(!project.root().join("built").exists());
}

#[test]
fn the_port_of_the_program_is_refused_as_the_port_of_the_proxy() {
    let project = project("0", "proxy_port = 4321\napp_port = 4321");
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("another port than 4321"), "{stderr}");
    let (code, _, stderr) = project.run(&["--proxy", "8080:8080"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("another port than 8080"), "{stderr}");
}

#[test]
fn a_program_that_ignores_its_free_port_is_served_and_its_user_is_told_what_to_do() {
    let test = "a_program_that_ignores_its_free_port_is_served_and_its_user_is_told_what_to_do";
    if !has(test, &["node"]) {
        return;
    }
    let [port, usual] = free_ports();
    let project = project(&format!("{usual}"), &format!("proxy_port = {port}\napp_port = 0"));
    let mut hotrun = project.start_plain(&[]);
    let line = hotrun.wait_for(&format!(
        "the program listens on port {usual}, not on the one that it was given in PORT"
    ));
    assert!(line.contains("make it read PORT, or pass the port as an argument"), "{line}");
    assert_eq!(ask(port, "GET", "/a", "").text(), "one /a");
    hotrun.wait_for("running");
    // One line for all generations.
    project.save("server.js", &SERVER.replace("PLACE", &usual.to_string()).replace("one", "two"));
    hotrun.wait_for("started  pid");
    assert_eq!(ask(port, "GET", "/b", "").text(), "two /b");
    assert_eq!(hotrun.count("make it read PORT"), 1);
    hotrun.end();
}

#[test]
fn a_program_that_wants_the_port_of_the_proxy_is_explained_and_served_once_it_does_not() {
    let test = "a_program_that_wants_the_port_of_the_proxy_is_explained_and_served";
    if !has(test, &["node"]) {
        return;
    }
    let port = free_port();
    let project = project(&format!("process.env.PORT ?? {port}"), &format!("proxy_port = {port}"));
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for(&format!("the proxy listens on port {port}, so the program cannot: "));
    assert_eq!(hotrun.count("is held by"), 0, "{}", hotrun.output());
    project.save("hotrun.toml", &config(&format!("proxy_port = {port}\napp_port = 0")));
    hotrun.wait_for("ready");
    assert_eq!(ask(port, "GET", "/", "").text(), "one /");
    hotrun.end();
}

#[test]
fn a_program_that_takes_its_free_port_from_an_argument_is_served() {
    let test = "a_program_that_takes_its_free_port_from_an_argument_is_served";
    if !has(test, &["node"]) {
        return;
    }
    let port = free_port();
    let proxy = format!("proxy_port = {port}\napp_port = 0");
    let config = config(&proxy).replace("node server.js", "node server.js --port={port}");
    let project = project("process.argv[2].split('=')[1]", &proxy).file("hotrun.toml", &config);
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("proxy  ");
    assert_eq!(ask(port, "GET", "/", "").text(), "one /");
    hotrun.end();
}

#[test]
fn a_program_on_another_port_than_configured_is_named_and_where_it_listens() {
    let test = "a_program_on_another_port_than_configured_is_named_and_where_it_listens";
    if !has(test, &["node"]) {
        return;
    }
    let [port, expected, usual] = free_ports();
    let proxy = format!("proxy_port = {port}\napp_port = {expected}\nhold = \"300ms\"");
    let project = project(&usual.to_string(), &proxy);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for(&format!(
        "the program listens on port {usual}, not on proxy.app_port ({expected}): set app_port = \
         {usual}"
    ));
    let answer = ask(port, "GET", "/", "");
    assert!([502, 503].contains(&answer.status), "{}", answer.status);
    assert!(answer.text().contains(&expected.to_string()), "{}", answer.text());
    // As it says.
    let right = proxy.replace(&format!("app_port = {expected}"), &format!("app_port = {usual}"));
    project.save("hotrun.toml", &config(&right));
    wait_until("it is served", || ask(port, "GET", "/", "").status == 200);
    hotrun.end();
}

#[test]
fn a_program_is_found_wherever_it_listens() {
    let test = "a_program_is_found_wherever_it_listens";
    if !has(test, &["node"]) {
        return;
    }
    let [own, port] = free_ports();
    let (v6, found) = (format!("{own}, '::1'"), String::new());
    let cases = [
        (v6.as_str(), format!("app_port = {own}")),
        ("0, '::1'", found.clone()),
        ("0, '127.0.0.1'", found.clone()),
        ("0", found),
        ("process.env.PORT, '::1'", "app_port = 0".to_owned()),
        ("'app.sock'", "app = \"unix:app.sock\"".to_owned()),
    ];
    for (place, app) in cases {
        let project = project(place, &format!("proxy_port = {port}\n{app}"));
        let mut hotrun = project.start_plain(&[]);
        hotrun.wait_for("proxy  ");
        let answer = ask(port, "GET", "/b", "");
        assert_eq!(answer.text(), "one /b", "{place} {app}\n{}", hotrun.output());
        hotrun.end();
    }
}

#[test]
fn a_program_that_listens_after_it_counts_as_ready_is_found() {
    let test = "a_program_that_listens_after_it_counts_as_ready_is_found";
    if !has(test, &["node"]) {
        return;
    }
    for app in ["", "app_port = 0"] {
        let port = free_port();
        let proxy = format!("proxy_port = {port}\n{app}");
        let says_so = format!("{}[ready]\nlog = \"^starting$\"\n", config(&proxy));
        let server = "console.log('starting');\nsetTimeout(() => server.listen(process.env.PORT \
                      ?? 0), 500);\n";
        let server = SERVER.replace("server.listen(PLACE);\n", server);
        let project = project("0", &proxy).file("hotrun.toml", &says_so).file("server.js", &server);
        let mut hotrun = project.start_plain(&[]);
        hotrun.wait_for("ready");
        // Where it is to be is known in one case, and has to be found in the other one.
        wait_until("it is served", || ask(port, "GET", "/", "").text() == "one /");
        hotrun.end();
    }
}

#[test]
fn a_program_on_a_unix_socket_is_restarted_behind_the_proxy() {
    let test = "a_program_on_a_unix_socket_is_restarted_behind_the_proxy";
    if !has(test, &["node"]) {
        return;
    }
    let port = free_port();
    let project = project("0", &format!("proxy_port = {port}\napp = \"unix:app.sock\""))
        .file("server.js", ON_UNIX_SOCKET);
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("proxy  ");
    assert_eq!(ask(port, "GET", "/", "").text(), "one");
    hotrun.wait_for("ready");
    for version in ["two", "three"] {
        project.save("server.js", &ON_UNIX_SOCKET.replace("one", version));
        hotrun.wait_for("started  pid");
        assert_eq!(ask(port, "GET", "/", "").text(), version, "{}", hotrun.output());
    }
    hotrun.end();
}

#[test]
fn a_request_to_a_program_that_is_never_ready_is_answered_after_hold_with_the_reason() {
    let test = "a_request_to_a_program_that_is_never_ready_is_answered_after_hold";
    if !has(test, &["node"]) {
        return;
    }
    let port = free_port();
    let proxy = format!("proxy_port = {port}\napp_port = 0\nhold = \"300ms\"");
    let never = format!("{}[ready]\nlog = \"never printed\"\n", config(&proxy));
    let project = project(on_given_port(), &proxy).file("hotrun.toml", &never);
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("started  pid");
    for _ in 0..3 {
        let answer = ask(port, "GET", "/", "");
        assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")));
        assert!(
            answer.text().contains("the program is not ready; the request has "),
            "{}",
            answer.text()
        );
    }
    let line = hotrun.wait_for("answered a request with 503 after ");
    assert!(line.ends_with(": the program is not ready"), "{line}");
    assert_eq!(hotrun.count("answered a request with 503"), 1, "the first of a burst");
    hotrun.end();
}

#[test]
fn a_request_waits_until_the_first_build_is_fixed() {
    let test = "a_request_waits_until_the_first_build_is_fixed";
    if !has(test, &["node"]) {
        return;
    }
    let port = free_port();
    let proxy = format!("proxy_port = {port}\napp_port = 0\nhold = \"200ms\"");
    let fails = |proxy: &str| config(proxy).replace("touch built", "node --check server.js");
    let project = project(on_given_port(), &proxy)
        .file("hotrun.toml", &fails(&proxy))
        .file("server.js", "const broken = ;");
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("failed");
    let answer = ask(port, "GET", "/", "");
    assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")));
    assert!(answer.text().contains("the build failed"), "{}", answer.text());
    let line = hotrun.wait_for("answered a request with 503 after ");
    assert!(line.ends_with(": the build failed, and no program is running"), "{line}");
    hotrun.end();
    project.save("hotrun.toml", &fails(&proxy.replace("200ms", "1h")));
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("failed");
    let held = thread::spawn(move || ask(port, "POST", "/held", "once"));
    project.save("server.js", &SERVER.replace("PLACE", on_given_port()));
    let answer = held.join().unwrap();
    assert_eq!((answer.status, answer.text()), (200, "one /held".to_owned()));
    hotrun.end();
}

#[test]
fn an_address_that_other_machines_reach_is_said_aloud() {
    let test = "an_address_that_other_machines_reach_is_said_aloud";
    if !has(test, &["node"]) {
        return;
    }
    let port = free_port();
    let proxy = format!("proxy_port = {port}\napp_port = 0\nbind = \"0.0.0.0\"");
    let project = project(on_given_port(), &proxy);
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("other machines can connect");
    assert_eq!(ask(port, "GET", "/", "").status, 200);
    hotrun.end();
}

#[test]
fn the_proxy_is_moved_turned_off_and_on_again_while_the_program_runs() {
    let test = "the_proxy_is_moved_turned_off_and_on_again_while_the_program_runs";
    if !has(test, &["node"]) {
        return;
    }
    let [first, second, app] = free_ports();
    let on = |port: u16| format!("proxy_port = {port}\napp_port = {app}");
    let project = project(&format!("{app}, '127.0.0.1'"), &on(first));
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for(&format!("proxy  http://localhost:{first} → :{app}"));
    let pid = pid_in(&hotrun.wait_for("started  pid"));
    hotrun.wait_for("ready");
    assert_eq!(ask(first, "GET", "/", "").status, 200);
    project.save("hotrun.toml", &config(&on(second)));
    hotrun.wait_for(&format!("proxy  http://localhost:{second} → :{app}"));
    assert_eq!(ask(second, "GET", "/", "").text(), "one /");
    is_closed(first);
    assert_eq!(hotrun.count("started  pid"), 1, "pid {pid} runs:\n{}", hotrun.output());
    project.save("hotrun.toml", &config(&format!("{}\nenabled = false", on(second))));
    is_closed(second);
    hotrun.wait_for("ready");
    assert!(get(app, "/").ends_with("one /"), "the program runs");
    project.save("hotrun.toml", &config(&on(first)));
    hotrun.wait_for(&format!("proxy  http://localhost:{first} → :{app}"));
    assert_eq!(ask(first, "GET", "/", "").text(), "one /");
    // A mistake changes nothing.
    project.save("hotrun.toml", &config(&on(app)));
    hotrun.wait_for(&format!("another port than {app}"));
    assert_eq!(ask(first, "GET", "/", "").text(), "one /");
    // Neither does a port that is in use.
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().port();
    project.save("hotrun.toml", &config(&on(taken)));
    hotrun.wait_for(&format!("127.0.0.1:{taken}"));
    assert_eq!(ask(first, "GET", "/", "").text(), "one /");
    hotrun.end();
}

fn is_closed(port: u16) {
    wait_until("the port is closed", || Connection::open(port).is_err());
}

/// An idle connection, an answer under way, a request that waits and an endless one: all are cut.
#[test]
fn ctrl_c_waits_for_no_connection() {
    let test = "ctrl_c_waits_for_no_connection";
    if !has(test, &["node"]) {
        return;
    }
    let port = free_port();
    let proxy = format!("proxy_port = {port}\napp_port = 0\ndrain = \"1h\"\nhold = \"1h\"");
    let project = project(on_given_port(), &proxy);
    let server = SERVER.replace("PLACE", on_given_port()).replace(
        "=> response",
        "=> request.url == '/never' ? console.log('received') : \
         request.url == '/events' ? response.write('data: 1\\n\\n') : response",
    );
    project.save("server.js", &server);
    let mut hotrun = project.start_plain(&["--build.kill_delay=20s"]);
    hotrun.wait_for("ready");
    let mut open = open_connections(&mut hotrun, port);
    // While the program is being replaced, which the request under way delays.
    project.save("server.js", &server.replace("one", "two"));
    hotrun.wait_for("built");
    let mut held = Connection::open(port).unwrap();
    held.send(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    hotrun.end();
    open.push(held);
    for mut one in open {
        assert!(one.answer("GET").is_err() || one.answer("GET").is_err());
    }
}

fn open_connections(hotrun: &mut Hotrun, port: u16) -> Vec<Connection> {
    let mut idle = Connection::open(port).unwrap();
    idle.ask("GET", "/", "").unwrap();
    let mut under_way = Connection::open(port).unwrap();
    under_way.send(b"GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    hotrun.wait_for("received");
    let mut half = Connection::open(port).unwrap();
    half.send(b"GET /ha").unwrap();
    let mut events = Connection::open(port).unwrap();
    events.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(events.head().unwrap().status, 200);
    vec![idle, under_way, half, events]
}

#[test]
fn a_second_hotrun_leaves_the_proxy_of_the_first_alone() {
    let test = "a_second_hotrun_leaves_the_proxy_of_the_first_alone";
    if !has(test, &["node"]) {
        return;
    }
    let port = free_port();
    let proxy = format!("proxy_port = {port}\napp_port = 0");
    let first = project(on_given_port(), &proxy);
    let mut hotrun = first.start_plain(&[]);
    hotrun.wait_for("ready");
    let (code, _, stderr) = first.run(&[]);
    assert_eq!(code, 7, "{stderr}");
    let second = project(on_given_port(), &proxy);
    let (code, _, stderr) = second.run(&[]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&format!("127.0.0.1:{port}")), "{stderr}");
    assert!(stderr.contains(&format!("pid {}", hotrun.pid())), "{stderr}");
    assert!(stderr.contains("hotrun"), "{stderr}");
    assert_eq!(ask(port, "GET", "/", "").text(), "one /");
    hotrun.end();
}
