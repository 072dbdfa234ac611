//! When one side is gone, the other one hears of it; when one is slow, no other client waits.

use std::net::TcpStream;

use super::{
    Connection, End, Front, LONG, Listeners, Program, Serving, get, post, settings, with_body,
};
use crate::config;
use crate::notice::Absence;

/// The answer to a request that a program handles in this way.
fn answer_of(
    request: &str,
    serve: impl Fn(&mut Connection) + Send + Sync + 'static,
) -> (super::Reply, usize) {
    let program = Program::start(serve);
    let front = Front::of(&program);
    let reply = front.ask(request);
    (reply, program.requests().len())
}

#[test]
fn a_client_that_is_gone_in_mid_answer_ends_the_connection_to_the_program() {
    for framing in
        ["Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "Content-Length: 9\r\n\r\nabc"]
    {
        let program = Program::start(move |connection| {
            connection.request();
            connection.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
            // Sends nothing, and hears of it all the same.
            connection.rest();
        });
        let front = Front::of(&program);
        let mut client = front.client();
        client.send(get("/"));
        client.until(b"abc").unwrap();
        drop(client);
        program.wait_for_end(0);
    }
}

#[test]
fn a_client_that_is_gone_before_the_answer_ends_the_connection_to_the_program() {
    for request in [get("/"), post("/", "body")] {
        let program = Program::start(|connection| {
            connection.request();
            connection.rest();
        });
        let front = Front::of(&program);
        let mut client = front.client();
        client.send(request);
        program.wait_for_requests(1);
        drop(client);
        program.wait_for_end(0);
    }
}

#[test]
fn a_client_that_is_gone_in_mid_request_does_not_look_as_if_it_had_ended() {
    for (head, part) in
        [("Transfer-Encoding: chunked", "3\r\nabc\r\n"), ("Content-Length: 9", "abc")]
    {
        let program = Program::start(|connection| {
            connection.head();
            connection.rest();
        });
        let front = Front::of(&program);
        let mut client = front.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{part}"));
        program.seen.wait("a part", |log| {
            log.connections.first().filter(|one| one.bytes.ends_with(part.as_bytes())).map(|_| ())
        });
        drop(client);
        let bytes = program.wait_for_end(0);
        assert!(bytes.ends_with(part.as_bytes()), "{}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_program_that_is_gone_in_mid_answer_does_not_look_as_if_it_had_ended() {
    for framing in
        ["Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "Content-Length: 9\r\n\r\nabc"]
    {
        let program = Program::start(move |connection| {
            connection.request();
            connection.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
        });
        let front = Front::of(&program);
        let mut client = front.client();
        client.send(get("/"));
        assert!(client.try_reply().is_err(), "the end is no end of the body");
        assert_eq!(program.requests().len(), 1, "an answer that has begun is not asked for again");
    }
}

#[test]
fn a_post_to_a_program_that_drops_connections_arrives_once() {
    let (reply, hits) = answer_of(&post("/", "a=1"), |connection| {
        connection.request();
    });
    assert_eq!((reply.status(), hits), (502, 1));
    assert!(reply.text().contains("closed the connection without an answer"), "{}", reply.text());
}

#[test]
fn a_put_or_delete_with_a_body_arrives_once_as_well() {
    for method in ["PUT", "DELETE", "GET"] {
        let (reply, hits) =
            answer_of(&post("/", "a=1").replacen("POST", method, 1), |connection| {
                connection.request();
            });
        assert_eq!((reply.status(), hits), (502, 1), "{method}");
    }
}

#[test]
fn a_get_through_a_connection_that_the_program_closes_meanwhile_is_answered() {
    // Each connection carries one answer, and is closed when the next request comes.
    let program = Program::start(|connection| {
        connection.request();
        connection.send(with_body("a"));
        connection.fill();
    });
    let front = Front::of(&program);
    for _ in 0..50 {
        assert_eq!(front.ask(get("/")).text(), "a");
    }
}

#[test]
fn many_connections_that_the_program_closes_meanwhile_do_no_harm() {
    let program = Program::start(|connection| {
        connection.request();
        connection.wait_for("all have come");
        connection.send(with_body("a"));
        connection.fill();
    });
    let front = Front::of(&program);
    let mut clients: Vec<_> = (0..20).map(|_| front.client()).collect();
    for client in &mut clients {
        client.send(get("/"));
    }
    program.wait_for_requests(20);
    program.seen.change(|log| log.notes.push("all have come".to_owned()));
    for client in &mut clients {
        assert_eq!(client.reply().text(), "a");
    }
    // All of them are idle now, and each is closed as soon as it is used.
    for client in &mut clients {
        client.send(get("/"));
        assert_eq!(client.reply().text(), "a");
    }
}

#[test]
fn a_post_is_never_sent_through_a_connection_that_was_used_before() {
    let program = Program::echoing();
    let front = Front::of(&program);
    let mut client = front.client();
    for _ in 0..5 {
        client.send(get("/"));
        client.reply();
        client.send(post("/", "body"));
        assert_eq!(client.reply().text(), "body");
    }
    let requests = program.requests();
    for (place, one) in requests.iter().enumerate().filter(|(_, one)| one.head.starts_with("POST"))
    {
        let is_first = requests[..place].iter().all(|before| before.connection != one.connection);
        assert!(is_first, "{one:?}");
    }
}

#[test]
fn what_is_no_answer_is_named() {
    let half = "HTTP/1.1 200 OK\r\nContent-Le";
    let large = format!(
        "HTTP/1.1 200 OK\r\nX-Large: {}\r\nContent-Length: 1\r\n\r\na",
        "a".repeat(300_000)
    );
    for (bytes, text) in [
        ("", "closed the connection without an answer"),
        ("garbage\r\n\r\n", "not HTTP, or incomplete"),
        ("\0\0\0\0", "not HTTP, or incomplete"),
        ("HTTP/1.1 abc\r\n\r\n", "not HTTP, or incomplete"),
        (half, "not HTTP, or incomplete"),
        (&large, "not HTTP, or incomplete"),
    ] {
        for request in [get("/"), post("/", "body")] {
            let bytes = bytes.to_owned();
            let (reply, hits) = answer_of(&request, move |connection| {
                connection.request();
                connection.send(&bytes);
            });
            assert_eq!(reply.status(), 502);
            assert!(reply.text().contains(text), "{}", reply.text());
            assert_eq!(hits, 1);
        }
    }
}

#[test]
fn an_upgrade_that_was_not_asked_for_is_refused() {
    let (reply, _) = answer_of(&get("/"), |connection| {
        connection.request();
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nabc",
        );
    });
    assert_eq!(reply.status(), 502);
}

#[test]
fn informational_answers_before_the_real_one_are_no_answers() {
    let (reply, _) = answer_of(&get("/"), |connection| {
        connection.request();
        connection.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
        connection.send("HTTP/1.1 102 Processing\r\n\r\n");
        connection.send(with_body("a"));
    });
    assert_eq!((reply.status(), reply.text().as_str()), (200, "a"));
}

#[test]
fn a_program_that_no_longer_accepts_connections_is_tried_again_and_then_named() {
    let mut program = Program::start(|connection| {
        connection.request();
        connection.send(with_body("a"));
    });
    let front = Front::of(&program);
    // Each thread of the proxy has reached it.
    for _ in 0..50 {
        assert_eq!(front.ask(get("/")).status(), 200);
    }
    program.die();
    for request in [get("/"), post("/", "body")] {
        let reply = front.ask(request);
        assert_eq!(reply.status(), 502);
        let text = format!("does not accept connections on port {}", program.address.port());
        assert!(reply.text().contains(&text), "{}", reply.text());
    }
}

#[test]
fn a_request_that_a_dying_program_refuses_waits_for_the_next() {
    let mut first = Program::answering(with_body("a"));
    let second = Program::echoing();
    let front = Front::of(&first);
    for _ in 0..50 {
        assert_eq!(front.ask(get("/")).status(), 200);
    }
    first.die();
    let mut client = front.client();
    client.send(post("/", "body"));
    front.show(Serving::None(Absence::Restarting), &[1]);
    front.serve(&second, 2);
    assert_eq!(client.reply().text(), "body");
    assert_eq!(second.requests().len(), 1);
}

#[test]
fn half_a_head_delays_only_the_client_that_has_sent_it() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    let mut slow: Vec<_> = (0..50).map(|_| front.client()).collect();
    for client in &mut slow {
        client.send("GET / HTTP/1.1\r\nHost: loc");
    }
    assert_eq!(front.ask(get("/")).text(), "a");
    for client in &mut slow {
        client.send("alhost\r\n\r\n");
        assert_eq!(client.reply().text(), "a");
    }
}

#[test]
fn a_thousand_idle_connections_delay_nothing() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    let idle: Vec<_> = (0..1000).map(|_| front.client()).collect();
    for _ in 0..20 {
        assert_eq!(front.ask(get("/")).text(), "a");
    }
    drop(idle);
}

#[test]
fn a_burst_of_connections_is_queued_while_none_is_accepted() {
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    let count = allowed.trim().parse().unwrap_or(128).min(1000);
    let listeners = Listeners::open(&settings()).unwrap();
    let address = listeners.iter().next().unwrap().local_addr().unwrap();
    // The next one would have to try again until some are accepted.
    let connect = |_| TcpStream::connect_timeout(&address, LONG).unwrap();
    let connections: Vec<TcpStream> = (0..count).map(connect).collect();
    assert_eq!(connections.len(), count);
}

#[test]
fn a_client_that_reads_slowly_delays_only_itself() {
    let program = Program::start(|connection| {
        while let Some(request) = connection.request() {
            let size = if request.head.contains("/large") { 20 << 20 } else { 1 };
            connection.send(with_body(vec![b'a'; size]));
        }
    });
    let front = Front::of(&program);
    let mut slow: Vec<_> = (0..4).map(|_| front.client()).collect();
    for client in &mut slow {
        client.send(get("/large"));
        client.head();
    }
    for _ in 0..20 {
        assert_eq!(front.ask(get("/")).text(), "a");
    }
    for client in &mut slow {
        assert_eq!(client.exactly(20 << 20).unwrap().len(), 20 << 20);
    }
}

#[test]
fn what_a_client_sends_after_it_wants_to_close_is_not_answered() {
    let program = Program::answering(with_body("a"));
    let front = Front::start(
        config::Proxy { hold: LONG, ..settings() },
        Serving::By(program.generation(1)),
    );
    let mut client = front.client();
    let last = "GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    client.send(format!("{last}{}", get("/after")));
    assert_eq!(client.reply().text(), "a");
    assert_ne!(client.try_reply().err(), None::<End>);
    assert_eq!(program.requests().len(), 1);
}
