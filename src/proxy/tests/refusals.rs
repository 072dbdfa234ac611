//! What could be understood in two ways, or is for another host, is refused.

use super::{Front, Program, Serving, get, post, settings, with_body};
use crate::config;

/// Follows each request that is refused: it must not pass.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The statuses of all answers to these bytes. The connection has ended after the last.
fn statuses(front: &Front, bytes: &str) -> Vec<u16> {
    let mut client = front.client();
    client.try_send(bytes);
    let (answers, _) = client.rest();
    let answers = String::from_utf8_lossy(&answers).into_owned();
    let lines = answers.split("HTTP/1.1 ").skip(1);
    lines.map(|line| line[..3].parse().unwrap()).collect()
}

#[test]
fn heads_that_could_be_understood_in_two_ways_are_refused_and_nothing_of_them_passes() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    for request in [
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3, 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding:\u{b}chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\nX: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: localhost\n\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX[]: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http://localhost/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: localhost\r\n\r\n",
        "GET / x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: localhost\r\n\r\n",
        "GET /\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n",
        "\0",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}",
    ] {
        let last =
            format!("{NEXT}GET /close HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let statuses = statuses(&front, &format!("{request}{last}"));
        let shown = request.escape_debug();
        // Some close the connection; others are wrong in what they mean, and not in their form.
        assert!(matches!(statuses.first(), Some(400 | 403)), "{statuses:?}: {shown}");
        let passed = program.requests();
        let is_next = |one: &super::Request| {
            one.head.starts_with("GET /next ") || one.head.starts_with("GET /close ")
        };
        assert!(passed.iter().all(is_next), "{shown}: {passed:?}");
        assert!(statuses.len() == 1 || passed.len().is_multiple_of(2), "{statuses:?}: {shown}");
    }
}

#[test]
fn nothing_passes_that_follows_a_request_of_which_the_form_is_wrong() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    let wrong = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\
                 Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(statuses(&front, &format!("{}{wrong}{NEXT}{NEXT}", get("/before"))), [200, 400]);
    let seen = program.requests();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].head.starts_with("GET /before "), "{seen:?}");
}

#[test]
fn a_body_with_wrong_chunks_is_never_completed() {
    for chunks in [
        "3 \r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nno colon\r\n\r\n",
    ] {
        let program = Program::answering(with_body("a"));
        let front = Front::of(&program);
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let statuses = statuses(&front, &format!("{head}{chunks}{NEXT}"));
        assert!(statuses.iter().all(|one| *one == 400), "{statuses:?} {chunks:?}");
        assert!(program.requests().is_empty(), "{chunks:?}: {:?}", program.requests());
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    let field = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(70 << 10));
    assert_eq!(statuses(&front, &field), [431]);
    let many = "X: a\r\n".repeat(20_000);
    assert_eq!(
        statuses(&front, &format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")),
        [431]
    );
    let url = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(70 << 10));
    let status = statuses(&front, &url);
    assert!(status == [414] || status == [431], "{status:?}");
    assert!(program.requests().is_empty());
    assert_eq!(front.ask(get("/")).status(), 200);
}

#[test]
fn what_is_not_too_large_passes() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    let field = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(60 << 10));
    assert_eq!(front.ask(field).status(), 200);
    assert_eq!(front.ask(get(&format!("/{}", "a".repeat(60 << 10)))).status(), 200);
}

#[test]
fn a_url_of_the_same_host_becomes_a_path() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    front.ask("GET http://localhost/a%2Fb?c HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(program.request().lines()[0], "GET /a%2Fb?c HTTP/1.1");
    assert_eq!(program.request().field("host"), Some("localhost"));
}

#[test]
fn a_foreign_host_gets_a_page_that_names_the_key() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    let mut client = front.client();
    for host in ["evil.example", "evil.example:8080", "10.1.2.3", "localhost.evil.example"] {
        client.send(post("/", "body").replace("localhost", host));
        let reply = client.reply();
        assert_eq!(reply.status(), 403, "{host}");
        assert!(reply.text().contains("[proxy]\n  hosts = ["), "{}", reply.text());
        let name = host.split(':').next().unwrap();
        assert!(reply.text().contains(&format!("\"{name}\"")), "{}", reply.text());
    }
    assert!(program.requests().is_empty());
    client.send(get("/"));
    assert_eq!(client.reply().status(), 200);
}

#[test]
fn hosts_of_its_own_pass() {
    let program = Program::answering(with_body("a"));
    let hosts = vec!["dev.example".to_owned(), "*.ngrok.app".to_owned()];
    let config = config::Proxy { hosts, ..settings() };
    let front = Front::start(config, Serving::By(program.generation(1)));
    for host in
        ["localhost:1", "127.0.0.1:9", "[::1]:80", "dev.example", "abc.ngrok.app", "a.localhost"]
    {
        assert_eq!(front.ask(get("/").replace("localhost", host)).status(), 200, "{host}");
    }
}

#[test]
fn text_of_a_client_does_not_become_markup_or_lines_of_an_answer() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    let reply = front.ask(get("/").replace("localhost", "<script>\"x\""));
    assert!([400, 403].contains(&reply.status()));
    assert_eq!(reply.field("content-type"), Some("text/plain; charset=utf-8"));
}
