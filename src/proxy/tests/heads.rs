//! Heads pass as they are, but for what concerns one connection alone.

use super::{Front, Program, Serving, get, settings, with_body};
use crate::config;

/// What the proxy adds to a request for localhost.
const ADDED: [&str; 4] = [
    "x-forwarded-for: 127.0.0.1",
    "x-forwarded-proto: http",
    "x-forwarded-host: localhost",
    "forwarded: for=127.0.0.1;host=localhost;proto=http",
];

#[test]
fn a_request_arrives_field_by_field_as_it_was_sent() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    let fields = [
        "Host: localhost",
        "user-agent: x/1 (y; z)",
        "ACCEPT: */*",
        "X-Odd_Name.1: \"a, b\" ;c",
        "Cookie: a=1; b=2",
        "Authorization: Basic YTpi",
        "Origin: http://elsewhere.example",
        "Accept-Encoding: gzip, br",
        "If-None-Match: W/\"1\"",
        "X-Empty:",
        "X-Blanks: a  b",
        "Via: 1.1 before",
        "Date: Tue, 15 Nov 1994 08:12:31 GMT",
        "x-lower: \u{e9}",
        "Cache-Control: no-cache",
        "Range: bytes=0-5",
    ];
    let head = format!("GET /a?b HTTP/1.1\r\n{}\r\n\r\n", fields.join("\r\n"));
    assert_eq!(front.ask(&head).text(), "a");
    let expected: Vec<String> = ["GET /a?b HTTP/1.1"]
        .iter()
        .chain(&fields)
        .chain(&ADDED)
        .map(|line| line.trim().to_owned())
        .collect();
    let request = program.request();
    let lines: Vec<&str> = request.lines().iter().map(|line| line.trim()).collect();
    assert_eq!(lines, expected);
}

#[test]
fn fields_that_concern_one_connection_alone_are_not_passed_on() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, X-Own\r\n\
                   Keep-Alive: timeout=9\r\nX-Own: 1\r\nProxy-Connection: keep-alive\r\n\
                   TE: trailers, deflate\r\nUpgrade: h2c\r\nX-Stays: 1\r\n\r\n";
    front.ask(request);
    let mut expected = vec!["GET / HTTP/1.1", "Host: localhost", "X-Stays: 1", "TE: trailers"];
    expected.extend(ADDED);
    let request = program.request();
    let lines = request.lines();
    let same = lines.iter().zip(&expected).all(|(one, other)| one.eq_ignore_ascii_case(other));
    assert!(same && lines.len() == expected.len(), "{lines:#?}");
}

#[test]
fn what_proxies_before_this_one_have_said_is_continued() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    front.ask(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 10.0.0.9\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: public.example\r\n\
         Forwarded: for=10.0.0.9\r\n\r\n",
    );
    let request = program.request();
    assert_eq!(request.field("x-forwarded-for"), Some("10.0.0.9, 127.0.0.1"));
    assert_eq!(request.field("x-forwarded-proto"), Some("https"));
    assert_eq!(request.field("x-forwarded-host"), Some("public.example"));
    assert_eq!(
        request.field("forwarded"),
        Some("for=10.0.0.9, for=127.0.0.1;host=localhost;proto=http")
    );
}

#[test]
fn the_host_is_kept_with_its_port() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    front.ask("GET / HTTP/1.1\r\nHost: App.localhost:8080\r\n\r\n");
    assert_eq!(program.request().field("host"), Some("App.localhost:8080"));
}

#[test]
fn paths_and_queries_arrive_byte_by_byte() {
    let paths = [
        "/",
        "/?",
        "//a//b/",
        "/a%2Fb%2f",
        "/a;b=c",
        "/?a;b",
        "/?%zz",
        "/%zz",
        "/a/../b/./c",
        "/a+b?c+d",
        "/?x={a:[1]}",
        "/a|b^c\"d{}",
        "/?a|b^c`d\\e",
        "/a?b?c=/d",
        "/~a!$&'()*,:@",
        "/\u{e9}?\u{e9}",
        "/a?q=%20%00%ff",
        "*",
    ];
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    for path in paths {
        let method = if path == "*" { "OPTIONS" } else { "GET" };
        let reply = front.ask(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(reply.status(), 200, "{path}: {}", reply.text());
    }
    let seen: Vec<String> = program
        .requests()
        .iter()
        .map(|request| request.lines()[0].split(' ').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(seen, paths);
}

#[test]
fn methods_of_every_kind_pass() {
    let methods =
        ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "x-own"];
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    for method in methods {
        let reply = front.ask(format!("{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(reply.status(), 200, "{method}");
    }
    let seen = program.requests();
    let seen: Vec<&str> =
        seen.iter().map(|request| request.head.split(' ').next().unwrap()).collect();
    assert_eq!(seen, methods);
}

#[test]
fn an_answer_arrives_field_by_field_as_it_was_sent() {
    let lines = [
        "HTTP/1.1 200 OK",
        "Content-Type: text/html; charset=utf-8",
        "SET-COOKIE: a=1; Path=/",
        "SET-COOKIE: b=2; HttpOnly",
        "ETag: W/\"abc\"",
        "access-control-allow-origin: http://elsewhere.example",
        "Access-Control-Allow-Credentials: true",
        "Vary: Origin",
        "Location: http://localhost:3000/x",
        "Content-Security-Policy: default-src 'self'",
        "X-Odd_Name.1: \"a\"",
        "X-Empty:",
        "X-Raw: \u{e9}",
        "Content-Length: 3",
    ];
    let program = Program::answering(format!("{}\r\n\r\nabc", lines.join("\r\n")));
    let front = Front::of(&program);
    let reply = front.ask(get("/"));
    let seen: Vec<&str> = reply.lines().iter().map(|line| line.trim()).collect();
    assert_eq!(seen, lines, "no field is added, removed, renamed or moved");
    assert_eq!(reply.text(), "abc");
}

#[test]
fn fields_of_an_answer_that_concern_one_connection_alone_are_not_passed_on() {
    let program = Program::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Own\r\nKeep-Alive: timeout=5\r\nX-Own: 1\r\n\
         Upgrade: h2c\r\nContent-Length: 1\r\nServer: s\r\n\r\na",
    );
    let front = Front::of(&program);
    let reply = front.ask(get("/"));
    assert_eq!(reply.lines(), ["HTTP/1.1 200 OK", "Content-Length: 1", "Server: s"]);
}

#[test]
fn status_codes_and_reason_phrases_pass() {
    for line in [
        "200 Fine",
        "201 Created",
        "299 Odd",
        "404 Nicht gefunden",
        "418 I'm a teapot",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "599 Own",
        "799 Own",
    ] {
        let program = Program::answering(format!("HTTP/1.1 {line}\r\nContent-Length: 1\r\n\r\na"));
        let front = Front::of(&program);
        let reply = front.ask(get("/"));
        assert_eq!(reply.lines(), [&format!("HTTP/1.1 {line}")[..], "Content-Length: 1"]);
    }
}

#[test]
fn the_answer_to_head_keeps_its_length_and_has_no_body() {
    let program = Program::start(|connection| {
        while let Some(request) = connection.request() {
            match request.lines()[0].split(' ').nth(1) {
                Some("/length") => {
                    connection
                        .send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nETag: \"1\"\r\n\r\n");
                }
                _ => connection.send("HTTP/1.1 200 OK\r\nETag: \"2\"\r\n\r\n"),
            }
        }
    });
    let front = Front::of(&program);
    let mut client = front.client();
    client.send("HEAD /length HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nETag: \"1\"\r\n\r\n");
    client.send("HEAD /none HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 200 OK\r\nETag: \"2\"\r\n\r\n");
}

#[test]
fn answers_without_a_body_have_none_and_the_connection_stays() {
    let program = Program::start(|connection| {
        while let Some(request) = connection.request() {
            let status = request.lines()[0].split(['/', ' ']).nth(2).unwrap();
            connection.send(format!("HTTP/1.1 {status} X\r\nETag: \"1\"\r\n\r\n"));
        }
    });
    let front = Front::of(&program);
    let mut client = front.client();
    for status in ["204", "304", "204"] {
        client.send(get(&format!("/{status}")));
        assert_eq!(client.head(), format!("HTTP/1.1 {status} X\r\nETag: \"1\"\r\n\r\n"));
    }
}

#[test]
fn a_304_that_names_a_length_has_no_body() {
    let program = Program::answering("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n");
    let front = Front::of(&program);
    let mut client = front.client();
    for _ in 0..2 {
        client.send(get("/"));
        // hyper leaves out the length, which is optional.
        assert!(client.head().starts_with("HTTP/1.1 304 Not Modified\r\n"));
    }
    assert!(client.unread.is_empty());
}

#[test]
fn a_part_of_a_file_passes_as_a_part() {
    let answer = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-3/10\r\n\
                  Accept-Ranges: bytes\r\nContent-Length: 3\r\n\r\n";
    let program = Program::answering(format!("{answer}bcd"));
    let front = Front::of(&program);
    let reply = front.ask("GET / HTTP/1.1\r\nHost: localhost\r\nRange: bytes=1-3\r\n\r\n");
    assert_eq!((reply.head.as_str(), reply.text().as_str()), (answer, "bcd"));
    assert_eq!(program.request().field("range"), Some("bytes=1-3"));
}

#[test]
fn trailers_of_an_answer_pass() {
    let program = Program::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n",
    );
    let front = Front::of(&program);
    let reply = front.ask("GET / HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\n\r\n");
    assert_eq!(reply.text(), "abc");
    assert_eq!(reply.trailers.len(), 1, "{:?}", reply.trailers);
    assert!(reply.trailers[0].eq_ignore_ascii_case("x-sum: 6"), "{:?}", reply.trailers);
}

#[test]
fn trailers_of_a_request_pass() {
    let program = Program::start(|connection| {
        connection.head();
        connection.until(b"\r\n\r\n");
        connection.send(with_body("a"));
    });
    let front = Front::of(&program);
    let reply = front.ask(
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\
         \r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n",
    );
    assert_eq!(reply.status(), 200);
    let bytes = String::from_utf8(program.bytes()).unwrap().to_ascii_lowercase();
    assert!(bytes.ends_with("3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n"), "{bytes}");
}

#[test]
fn a_client_of_http_1_0_is_answered_in_a_form_that_it_understands() {
    let program = Program::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    let front = Front::of(&program);
    let mut client = front.client();
    client.send("GET /old HTTP/1.0\r\n\r\n");
    let (answer, _) = client.rest();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!(body, "abc");
    let request = program.request();
    assert_eq!(request.lines()[0], "GET /old HTTP/1.1");
    assert_eq!(request.field("host"), Some(""), "HTTP/1.1 demands the field: {request:?}");
}

#[test]
fn a_client_of_http_1_0_can_keep_its_connection() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    let mut client = front.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
        let reply = client.reply();
        assert_eq!((reply.status(), reply.text().as_str()), (200, "a"));
    }
}

#[test]
fn a_program_of_http_1_0_is_answered_for_in_http_1_1() {
    let program = Program::start(|connection| {
        connection.request();
        connection.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nabc");
    });
    let front = Front::of(&program);
    let mut client = front.client();
    for _ in 0..2 {
        client.send(get("/"));
        let reply = client.reply();
        assert_eq!(reply.lines()[..2], ["HTTP/1.1 200 OK", "Content-Type: text/plain"]);
        assert_eq!(reply.text(), "abc", "the end of the connection is the end of the body");
    }
}

#[test]
fn a_client_that_wants_to_close_gets_its_answer_and_then_the_end() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    let mut client = front.client();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(client.reply().text(), "a");
    assert!(client.is_ended());
}

#[test]
fn an_answer_with_two_lengths_means_one_thing_to_the_client() {
    let program = Program::start(|connection| {
        connection.request();
        connection.send(
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\n\r\n",
        );
    });
    let front = Front::of(&program);
    let mut client = front.client();
    client.send(get("/"));
    let reply = client.reply();
    assert!(
        reply.status() == 502
            || reply.text() == "abc" && reply.field("content-length").is_none()
            || reply.text() == "abc" && reply.field("transfer-encoding").is_none(),
        "{reply:?}"
    );
}

#[test]
fn an_answer_of_which_lengths_differ_is_refused() {
    let program = Program::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 3\r\n\r\nabc");
    });
    let front = Front::of(&program);
    assert_eq!(front.ask(get("/")).status(), 502);
}

#[test]
fn the_generation_is_shown_if_that_is_configured() {
    let program = Program::answering(with_body("a"));
    let config = config::Proxy { debug_headers: true, ..settings() };
    let front = Front::start(config, Serving::By(program.generation(7)));
    assert_eq!(front.ask(get("/")).field("x-hotrun-generation"), Some("7"));
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let program = Program::start(|connection| {
        while let Some(request) = connection.request() {
            let path = request.lines()[0].split(' ').nth(1).unwrap().to_owned();
            connection.send(with_body(path));
        }
    });
    let front = Front::of(&program);
    let mut client = front.client();
    let all: Vec<String> = (0..50).map(|number| format!("/{number}")).collect();
    client.send(all.iter().map(|path| get(path)).collect::<String>());
    for path in all {
        assert_eq!(client.reply().text(), path);
    }
}
