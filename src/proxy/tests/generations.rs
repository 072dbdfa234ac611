//! A new generation of the program takes over from an old one.

use super::{Client, Front, Program, Serving, get, post, with_body};
use crate::notice::Absence;

/// A program that answers with its name; `/slow` only half, until it is noted that it goes on.
fn named(name: &'static str) -> Program {
    Program::start(move |connection| {
        while let Some(request) = connection.request() {
            if !request.head.contains(" /slow") {
                connection.send(with_body(name));
                continue;
            }
            let length = name.len() * 2;
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}"));
            connection.wait_for("go on");
            connection.send(name);
        }
    })
}

/// Begins a request of which half of the answer has come.
fn begin(front: &Front, program: &Program) -> Client {
    let mut client = front.client();
    client.send(get("/slow"));
    program.wait_for_requests(1);
    client.head();
    client
}

#[test]
fn requests_under_way_end_where_they_began_and_new_ones_go_to_the_next() {
    let (first, second) = (named("one"), named("two"));
    let front = Front::of(&first);
    let mut client = begin(&front, &first);
    front.show(Serving::By(second.generation(2)), &[1]);
    assert_eq!(front.ask(get("/")).text(), "two");
    front.has_reported_nothing();
    first.seen.change(|log| log.notes.push("go on".to_owned()));
    assert_eq!(client.exactly(6).unwrap(), b"oneone");
    front.wait_until_drained(1);
    // The same client is served by the next.
    client.send(get("/"));
    assert_eq!(client.reply().text(), "two");
    assert_eq!(first.requests().len(), 1);
}

#[test]
fn a_program_is_drained_only_when_the_last_of_many_requests_has_ended() {
    let (first, second) = (named("one"), named("two"));
    let front = Front::of(&first);
    let mut clients: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = front.client();
            client.send(get("/slow"));
            client
        })
        .collect();
    first.wait_for_requests(20);
    front.show(Serving::By(second.generation(2)), &[1]);
    front.has_reported_nothing();
    first.seen.change(|log| log.notes.push("go on".to_owned()));
    front.wait_until_drained(1);
    for client in &mut clients {
        assert_eq!(client.reply().text(), "oneone");
    }
}

#[test]
fn a_request_that_is_being_uploaded_is_under_way() {
    let (first, second) = (Program::echoing(), named("two"));
    let front = Front::of(&first);
    let mut client = front.client();
    client.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nabc");
    first.seen.wait("half of the body", |log| {
        log.connections.first().filter(|one| one.bytes.ends_with(b"abc")).map(|_| ())
    });
    front.show(Serving::By(second.generation(2)), &[1]);
    front.has_reported_nothing();
    client.send("def");
    assert_eq!(client.reply().text(), "abcdef");
    front.wait_until_drained(1);
}

#[test]
fn a_program_without_requests_is_drained_at_once() {
    let first = named("one");
    let front = Front::of(&first);
    assert_eq!(front.ask(get("/")).text(), "one");
    front.show(Serving::None(Absence::Restarting), &[1]);
    front.wait_until_drained(1);
}

#[test]
fn a_program_that_is_to_be_stopped_later_is_awaited_as_well() {
    let first = named("one");
    let front = Front::of(&first);
    let mut client = begin(&front, &first);
    front.show(Serving::None(Absence::NotListening), &[]);
    front.show(Serving::None(Absence::Restarting), &[1]);
    front.has_reported_nothing();
    first.seen.change(|log| log.notes.push("go on".to_owned()));
    assert_eq!(client.exactly(6).unwrap(), b"oneone");
    front.wait_until_drained(1);
}

#[test]
fn a_client_that_hangs_up_delays_nothing() {
    let first = named("one");
    let front = Front::of(&first);
    let client = begin(&front, &first);
    front.show(Serving::None(Absence::Restarting), &[1]);
    front.has_reported_nothing();
    drop(client);
    front.wait_until_drained(1);
}

#[test]
fn streams_of_events_delay_nothing_and_go_on() {
    let first = Program::start(|connection| {
        connection.request();
        connection.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\ndata: 1\n\n",
        );
        connection.wait_for("go on");
        connection.send("data: 2\n\n");
        connection.rest();
    });
    let front = Front::of(&first);
    let mut client = front.client();
    client.send(get("/events"));
    client.until(b"data: 1\n\n").unwrap();
    front.show(Serving::None(Absence::Restarting), &[1]);
    front.wait_until_drained(1);
    first.seen.change(|log| log.notes.push("go on".to_owned()));
    client.until(b"data: 2\n\n").unwrap();
}

#[test]
fn connections_to_a_program_are_reused_but_not_once_another_serves() {
    let (first, second) = (named("one"), named("two"));
    let front = Front::of(&first);
    let mut client = front.client();
    for _ in 0..5 {
        client.send(get("/"));
        assert_eq!(client.reply().text(), "one");
    }
    assert_eq!(first.connections(), 1, "one connection carries them all");
    front.show(Serving::By(second.generation(2)), &[1]);
    first.wait_for_end(0);
    client.send(get("/"));
    assert_eq!(client.reply().text(), "two");
    // Neither when it serves again.
    front.serve(&first, 3);
    client.send(get("/"));
    assert_eq!(client.reply().text(), "one");
    assert_eq!(first.connections(), 2);
}

#[test]
fn a_connection_in_use_is_closed_after_its_answer_once_another_serves() {
    let (first, second) = (named("one"), named("two"));
    let front = Front::of(&first);
    let mut client = begin(&front, &first);
    front.show(Serving::By(second.generation(2)), &[1]);
    first.seen.change(|log| log.notes.push("go on".to_owned()));
    client.exactly(6).unwrap();
    first.wait_for_end(0);
}

#[test]
fn a_request_without_an_answer_goes_to_the_next_program_if_it_may_be_sent_twice() {
    let (mut first, second) = (
        Program::start(|connection| {
            connection.request();
            connection.wait_for("never");
        }),
        named("two"),
    );
    let front = Front::of(&first);
    let mut client = front.client();
    client.send(get("/"));
    first.wait_for_requests(1);
    // As when the program is killed: its connections close a moment before it is known to be dead.
    first.die();
    front.serve(&second, 2);
    assert_eq!(client.reply().text(), "two");
    assert_eq!(second.requests().len(), 1);
}

#[test]
fn a_post_without_an_answer_is_not_sent_to_the_next_program() {
    let (mut first, second) = (
        Program::start(|connection| {
            connection.request();
            connection.wait_for("never");
        }),
        named("two"),
    );
    let front = Front::of(&first);
    let mut client = front.client();
    client.send(post("/", "body"));
    first.wait_for_requests(1);
    first.die();
    front.serve(&second, 2);
    let reply = client.reply();
    assert_eq!(reply.status(), 502, "{reply:?}");
    assert!(reply.text().contains("closed the connection without an answer"), "{reply:?}");
    assert_eq!((first.requests().len(), second.requests().len()), (1, 0));
}

#[test]
fn no_request_fails_while_programs_that_exit_without_grace_are_replaced() {
    let mut program = named("0");
    let front = Front::of(&program);
    let (address, ends) =
        (front.address, std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let ends = std::sync::Arc::clone(&ends);
            std::thread::spawn(move || {
                let stream = std::net::TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(super::LONG)).unwrap();
                let mut client = Client { stream, unread: Vec::new() };
                let mut answered = 0_u32;
                while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                    client.send(if number % 2 == 0 { get("/") } else { post("/", "body") });
                    let reply = client.reply();
                    assert_eq!(reply.status(), 200, "{reply:?}");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for number in 2..12 {
        program.wait_for_requests(10);
        let old = number - 1;
        front.show(Serving::None(Absence::Restarting), &[old]);
        front.wait_until_drained(old);
        program.die();
        program = named("next");
        front.serve(&program, number);
    }
    program.wait_for_requests(10);
    ends.store(true, std::sync::atomic::Ordering::Relaxed);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
}
