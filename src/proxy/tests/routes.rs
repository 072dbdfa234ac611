//! Where requests go: to the program, wherever it listens, and by path to ports of their own.

use std::io::{Read, Write};

use super::{Front, Program, Serving, get, post, settings, with_body};
use crate::config::{self, Route};
use crate::event::Proc;
use crate::notice::Absence;
use crate::proxy::{Generation, Place};

fn route(prefix: &str, program: &Program) -> Route {
    Route { prefix: prefix.to_owned(), port: program.address.port() }
}

#[test]
fn the_longest_prefix_of_whole_segments_decides() {
    let (main, api, v2) = (
        Program::answering(with_body("main")),
        Program::answering(with_body("api")),
        Program::answering(with_body("v2")),
    );
    let routes = vec![route("/api/v2", &v2), route("/api", &api), route("/", &main)];
    let config = config::Proxy { routes, ..settings() };
    let front = Front::start(config, Serving::By(main.generation(1)));
    for (path, expected) in [
        ("/", "main"),
        ("/apix", "main"),
        ("/api", "api"),
        ("/api?a", "api"),
        ("/api/", "api"),
        ("/api/v2x", "api"),
        ("/api/v2", "v2"),
        ("/api/v2/a/b", "v2"),
        ("/x/api", "main"),
        ("/API", "main"),
    ] {
        assert_eq!(front.ask(get(path)).text(), expected, "{path}");
    }
    assert!(api.requests()[2].head.starts_with("GET /api/ "), "the path is passed as it is");
}

#[test]
fn other_programs_are_reached_while_none_of_hotrun_serves() {
    let api = Program::echoing();
    let config = config::Proxy { routes: vec![route("/api", &api)], ..settings() };
    let front = Front::start(config, Serving::None(Absence::Building));
    assert_eq!(front.ask(post("/api", "body")).text(), "body");
}

#[test]
fn another_program_that_does_not_run_is_named() {
    let mut api = Program::echoing();
    api.die();
    let config = config::Proxy { routes: vec![route("/api", &api)], ..settings() };
    let front = Front::start(config, Serving::None(Absence::Building));
    let reply = front.ask(get("/api"));
    assert_eq!(reply.status(), 502);
    assert!(reply.text().contains(&format!("port {}", api.address.port())), "{}", reply.text());
}

#[test]
fn a_program_that_listens_on_a_unix_socket_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let place = Place::Unix(path);
    let front =
        Front::start(settings(), Serving::By(Generation { proc: Proc(1), number: 1, place }));
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream.write_all(&with_body("unix")).unwrap();
        String::from_utf8(head).unwrap()
    });
    assert_eq!(front.ask(get("/a?b")).text(), "unix");
    assert!(serving.join().unwrap().starts_with("GET /a?b HTTP/1.1\r\nHost: localhost\r\n"));
}
