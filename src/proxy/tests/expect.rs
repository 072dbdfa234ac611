//! `Expect: 100-continue`: the program decides whether it wants the body.

use super::{Client, Front, Program, with_body};

fn begin(front: &Front) -> Client {
    let mut client = front.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    );
    client
}

#[test]
fn a_client_sends_its_body_when_the_program_has_asked_for_it() {
    let program = Program::start(|connection| {
        let head = connection.head().unwrap();
        assert_eq!(super::field(&head, "expect"), Some("100-continue"));
        connection.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = connection.exactly(4).unwrap();
        connection.send(with_body(body));
    });
    let front = Front::of(&program);
    let mut client = begin(&front);
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body");
    assert_eq!(client.reply().text(), "body");
}

#[test]
fn a_program_that_knows_nothing_of_it_gets_the_body_all_the_same() {
    let program = Program::echoing();
    let front = Front::of(&program);
    let mut client = begin(&front);
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body");
    assert_eq!(client.reply().text(), "body");
}

#[test]
fn a_program_that_refuses_gets_nothing_of_the_body() {
    let program = Program::start(|connection| {
        connection.head();
        connection.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
        connection.rest();
    });
    let front = Front::of(&program);
    let mut client = begin(&front);
    let reply = client.reply();
    assert_eq!((reply.status(), reply.text().as_str()), (413, "big"), "and no 100 before it");
    drop(client);
    assert!(program.wait_for_end(0).ends_with(b"\r\n\r\n"));
}

#[test]
fn a_client_that_does_not_wait_is_served_as_well() {
    let program = Program::echoing();
    let front = Front::of(&program);
    let mut client = begin(&front);
    client.send("body");
    // It may come all the same.
    let mut head = client.head();
    if head.starts_with("HTTP/1.1 100 ") {
        head = client.head();
    }
    assert_eq!(super::field(&head, "content-length"), Some("4"));
    assert_eq!(client.exactly(4).unwrap(), b"body");
}
