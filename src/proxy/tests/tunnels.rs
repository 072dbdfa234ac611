//! Tunnels: connections of web sockets, and other upgrades.

use super::{Client, Front, Program, Serving, with_body};
use crate::notice::Absence;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A program that sends back everything after an upgrade, with something before it.
fn echoing() -> Program {
    Program::start(|connection| {
        let head = connection.head().unwrap();
        assert_eq!(super::field(&head, "upgrade"), Some("websocket"));
        assert_eq!(super::field(&head, "connection"), Some("Upgrade"));
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: b2s=\r\n\r\nhello",
        );
        loop {
            let bytes = std::mem::take(&mut connection.unread);
            connection.send(&bytes);
            if !connection.fill() {
                connection.send("bye");
                return;
            }
        }
    })
}

fn open(front: &Front) -> Client {
    let mut client = front.client();
    client.send(UPGRADE);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!(super::field(&head, "upgrade"), Some("websocket"));
    assert!(super::field(&head, "connection").unwrap().eq_ignore_ascii_case("upgrade"));
    assert_eq!(super::field(&head, "sec-websocket-accept"), Some("b2s="));
    client
}

#[test]
fn bytes_pass_both_ways_from_the_first_one() {
    let program = echoing();
    let front = Front::of(&program);
    for _ in 0..20 {
        let mut client = open(&front);
        // No HTTP at all.
        client.send(b"\0\n\r\n\x81\xff");
        assert_eq!(client.exactly(11).unwrap(), b"hello\0\n\r\n\x81\xff");
        let large: Vec<u8> = (0..1_000_000).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut sending = client.stream.try_clone().unwrap();
        let copy = large.clone();
        let sender =
            std::thread::spawn(move || std::io::Write::write_all(&mut sending, &copy).unwrap());
        assert!(client.exactly(large.len()).unwrap() == large);
        sender.join().unwrap();
    }
}

#[test]
fn each_side_hears_of_the_end_of_the_other() {
    let program = echoing();
    let front = Front::of(&program);
    let mut client = open(&front);
    client.exactly(5).unwrap();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest().0, b"bye", "half of it stays open");
    let client = open(&front);
    drop(client);
    program.wait_for_end(1);
    let mut program = program;
    let mut client = open(&front);
    client.exactly(5).unwrap();
    program.die();
    client.rest();
}

#[test]
fn a_tunnel_delays_nothing_and_goes_on() {
    let program = echoing();
    let front = Front::of(&program);
    let mut client = open(&front);
    client.exactly(5).unwrap();
    front.show(Serving::None(Absence::Restarting), &[1]);
    front.wait_until_drained(1);
    client.send("still");
    assert_eq!(client.exactly(5).unwrap(), b"still");
}

#[test]
fn an_upgrade_that_is_refused_is_an_ordinary_answer() {
    let program = Program::answering(with_body("no"));
    let front = Front::of(&program);
    let mut client = front.client();
    for _ in 0..3 {
        client.send(UPGRADE);
        assert_eq!(client.reply().text(), "no");
    }
    // What follows is checked as before.
    client.send("GET / HTTP/1.1\nHost: localhost\n\n");
    assert_eq!(client.reply().status(), 400);
}

#[test]
fn another_protocol_than_websocket_passes_as_well() {
    let program = Program::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 101 Odd\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n");
        let bytes = connection.exactly(3).unwrap();
        connection.send(bytes);
    });
    let front = Front::of(&program);
    let mut client = front.client();
    client.send(
        "POST /attach HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
         Content-Length: 2\r\n\r\n{}",
    );
    assert_eq!(super::field(&client.head(), "upgrade"), Some("tcp"));
    client.send("abc");
    assert_eq!(client.rest().0, b"abc");
    assert_eq!(program.request().body, b"{}");
}
