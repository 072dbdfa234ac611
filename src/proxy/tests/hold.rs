//! Requests wait while no program serves.

use std::time::{Duration, Instant};

use super::{Client, FromProxy, Front, LONG, Program, Serving, get, post, settings, with_body};
use crate::config;
use crate::notice::Absence;
use crate::proxy::MAX_WAITING;

/// So short that a request that waits is soon refused.
const SHORT: Duration = Duration::from_millis(50);

/// Fills the places of those who wait, and one more, which is refused.
fn fill(front: &Front) -> Vec<Client> {
    let mut waiting = Vec::new();
    for _ in 0..=MAX_WAITING {
        let mut client = front.client();
        client.send(get("/"));
        client.stream.set_nonblocking(true).unwrap();
        waiting.push(client);
    }
    let deadline = Instant::now() + LONG;
    let refused = loop {
        let has_answer = |client: &Client| client.stream.peek(&mut [0]).is_ok();
        if let Some(place) = waiting.iter().position(has_answer) {
            break place;
        }
        assert!(Instant::now() < deadline, "none is refused");
        std::thread::yield_now();
    };
    for client in &waiting {
        client.stream.set_nonblocking(false).unwrap();
    }
    let reply = waiting.remove(refused).reply();
    assert_eq!(reply.status(), 503, "{reply:?}");
    assert!(reply.text().contains("too many requests wait"), "{reply:?}");
    assert_eq!(reply.field("retry-after"), Some("1"));
    waiting
}

#[test]
fn a_request_waits_and_is_delivered_once_when_a_program_serves() {
    let program = Program::echoing();
    let front = Front::alone(LONG);
    let mut clients: Vec<Client> = (0..20).map(|_| front.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(post("/", &format!("body {number}")));
    }
    front.show(Serving::None(Absence::Building), &[]);
    front.serve(&program, 1);
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.reply().text(), format!("body {number}"));
    }
    let mut bodies: Vec<String> = program
        .requests()
        .iter()
        .map(|request| String::from_utf8(request.body.clone()).unwrap())
        .collect();
    bodies.sort_unstable();
    let mut expected: Vec<String> = (0..20).map(|number| format!("body {number}")).collect();
    expected.sort_unstable();
    assert_eq!(bodies, expected, "each POST arrived exactly once");
    front.has_reported_nothing();
}

#[test]
fn a_request_that_waits_in_vain_is_answered_with_the_reason() {
    let front = Front::alone(SHORT);
    for (why, text) in [
        (Absence::BuildFailed, "the build failed, and no program is running"),
        (Absence::Starting, "the program is not ready"),
    ] {
        front.show(Serving::None(why), &[]);
        let reply = front.ask(get("/"));
        assert_eq!(reply.status(), 503);
        assert_eq!(reply.field("retry-after"), Some("1"));
        assert_eq!(reply.field("cache-control"), Some("no-store"));
        assert!(reply.text().starts_with(&format!("hotrun: {text}")), "{}", reply.text());
        assert!(reply.text().contains("proxy.hold"), "{}", reply.text());
    }
}

#[test]
fn requests_that_wait_in_vain_are_reported_once_until_one_is_answered() {
    let program = Program::answering(with_body("a"));
    let front = Front::alone(SHORT);
    for _ in 0..2 {
        front.show(Serving::None(Absence::Exited), &[]);
        for _ in 0..3 {
            assert_eq!(front.ask(get("/")).status(), 503);
        }
        match front.report() {
            FromProxy::HeldInVain { waited, why } => {
                assert_eq!(why, Absence::Exited);
                assert!(waited >= SHORT, "{waited:?}");
            }
            other @ FromProxy::Drained(_) => panic!("{other:?}"),
        }
        front.has_reported_nothing();
        front.serve(&program, 1);
        assert_eq!(front.ask(get("/")).status(), 200);
    }
}

#[test]
fn when_as_many_requests_wait_as_may_the_next_is_refused_at_once() {
    let program = Program::answering(with_body("a"));
    let front = Front::alone(LONG);
    let mut waiting = fill(&front);
    front.serve(&program, 1);
    for client in &mut waiting {
        assert_eq!(client.reply().text(), "a");
    }
    // No place is lost.
    front.show(Serving::None(Absence::Restarting), &[]);
    drop(fill(&front));
}

#[test]
fn a_client_that_hangs_up_while_it_waits_frees_its_place() {
    let front = Front::alone(LONG);
    let waiting = fill(&front);
    // What comes from now on waits for a moment only.
    front.proxy.configure(config::Proxy { hold: SHORT, ..settings() }, None, None);
    front.show(Serving::None(Absence::Building), &[]);
    assert!(front.ask(get("/")).text().contains("too many requests wait"));
    drop(waiting);
    let deadline = Instant::now() + LONG;
    while !front.ask(get("/")).text().contains("proxy.hold") {
        assert!(Instant::now() < deadline, "no place is freed");
    }
}

#[test]
fn a_request_whose_client_has_hung_up_meanwhile_is_not_delivered() {
    for request in [get("/gone"), post("/gone", "body"), post("/gone", &"a".repeat(200_000))] {
        let program = Program::echoing();
        let front = Front::alone(LONG);
        let mut gone = front.client();
        gone.try_send(&request);
        // It has come when one that was sent later through the same thread was answered; which
        // thread that is, is not known.
        for _ in 0..20 {
            assert_eq!(front.ask(get("/").replace("localhost", "elsewhere")).status(), 403);
        }
        drop(gone);
        for _ in 0..20 {
            assert_eq!(front.ask(get("/").replace("localhost", "elsewhere")).status(), 403);
        }
        front.serve(&program, 1);
        for _ in 0..20 {
            assert_eq!(front.ask(get("/later")).status(), 200);
        }
        let requests = program.requests();
        let is_gone = requests.iter().all(|one| one.lines()[0].starts_with("GET /later"));
        assert!(is_gone, "{:?}", requests[0].lines()[0]);
    }
}

#[test]
fn when_hotrun_ends_nothing_waits_any_longer() {
    let front = Front::alone(LONG);
    let mut client = front.client();
    client.send(get("/"));
    front.show(Serving::None(Absence::Ending), &[]);
    let reply = client.reply();
    assert_eq!(reply.status(), 503);
    assert!(reply.text().contains("shutting down"), "{}", reply.text());
}

#[test]
fn a_program_that_has_never_accepted_a_connection_is_waited_for() {
    let mut first = Program::answering("");
    first.stop_accepting();
    let front = Front::of(&first);
    let mut client = front.client();
    client.send(post("/", "body"));
    let second = Program::start_at(first.address, |connection| {
        while let Some(request) = connection.request() {
            connection.send(with_body(&request.body));
        }
    });
    assert_eq!(client.reply().text(), "body");
    assert_eq!(second.request().body, b"body");
}

#[test]
fn a_proxy_that_ends_closes_its_connections_and_its_sockets() {
    let front = Front::alone(LONG);
    let (mut waiting, mut idle) = (front.client(), front.client());
    waiting.send(get("/"));
    let address = front.address;
    drop(front);
    assert!(waiting.is_ended());
    assert!(idle.is_ended());
    std::net::TcpListener::bind(address).expect("the port is free");
}
