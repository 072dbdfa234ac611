//! Bodies pass as they are, piece by piece.

use std::io::Write;

use super::{Front, Program, get, post, with_body};

#[test]
fn a_json_body_arrives_with_its_query() {
    let program = Program::echoing();
    let front = Front::of(&program);
    let body = "{\"a\": [1, 2, \"\u{e9}\"]}";
    let request = post("/x?q=9&b=%20+", body)
        .replace("\r\n\r\n", "\r\nContent-Type: application/json\r\n\r\n");
    assert_eq!(front.ask(request).text(), body);
    let request = program.request();
    assert_eq!(request.lines()[0], "POST /x?q=9&b=%20+ HTTP/1.1");
    assert_eq!(request.field("content-type"), Some("application/json"));
    assert_eq!(request.body, body.as_bytes());
}

#[test]
fn a_multipart_body_arrives_with_its_query() {
    let program = Program::echoing();
    let front = Front::of(&program);
    let body = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\r\n\
                \u{0}\u{1}\r\n\r\n\r\n--b--\r\n";
    let kind = "multipart/form-data; boundary=b";
    let length = body.len();
    let reply = front.ask(format!(
        "POST /up?q=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    ));
    assert_eq!(reply.body, body.as_bytes());
    let request = program.request();
    assert_eq!(request.lines()[0], "POST /up?q=1 HTTP/1.1");
    assert_eq!(request.field("content-type"), Some(kind));
    assert_eq!(request.body, body.as_bytes());
}

#[test]
fn a_form_arrives_as_it_was_sent() {
    let program = Program::echoing();
    let front = Front::of(&program);
    let body = "a=1%202&b=c+d&e;f&=&%zz";
    front.ask(post("/form?a;b", body));
    assert_eq!(program.request().body, body.as_bytes());
}

#[test]
fn bodies_of_delete_and_get_arrive() {
    for method in ["DELETE", "GET"] {
        let program = Program::echoing();
        let front = Front::of(&program);
        let reply = front.ask(post("/x?q=1", "body").replacen("POST", method, 1));
        assert_eq!(reply.text(), "body");
        assert_eq!(program.request().body, b"body", "{method}");
    }
}

#[test]
fn a_request_without_a_body_gains_none() {
    let program = Program::echoing();
    let front = Front::of(&program);
    for request in [get("/?a=b"), get("/?a=b").replacen("GET", "DELETE", 1)] {
        front.ask(request);
    }
    for request in program.requests() {
        assert_eq!(request.field("content-length"), None, "{request:?}");
        assert_eq!(request.field("transfer-encoding"), None, "{request:?}");
    }
}

#[test]
fn an_empty_post_is_one() {
    let program = Program::echoing();
    let front = Front::of(&program);
    assert_eq!(front.ask(post("/", "")).status(), 200);
    assert_eq!(program.request().field("content-length"), Some("0"));
}

#[test]
fn chunks_of_a_request_arrive_one_by_one() {
    let program = Program::start(|connection| {
        connection.head();
        while let Some(chunk) = connection.chunk() {
            connection.note(std::str::from_utf8(&chunk).unwrap());
            if chunk.is_empty() {
                break;
            }
        }
        connection.until(b"\r\n");
        connection.send(with_body("all"));
    });
    let front = Front::of(&program);
    let mut client = front.client();
    client.send("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in ["a", "bc", "def"] {
        client.send(format!("{:x};ext=1\r\n{piece}\r\n", piece.len()));
        program.wait_for_note(piece);
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.reply().text(), "all");
}

#[test]
fn chunks_of_a_get_arrive_too() {
    let program = Program::echoing();
    let front = Front::of(&program);
    let reply = front.ask(
        "GET /search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nquery\r\n0\r\n\r\n",
    );
    assert_eq!(reply.text(), "query");
    assert_eq!(program.request().body, b"query");
}

#[test]
fn chunks_of_an_answer_arrive_one_by_one_whatever_their_type() {
    for kind in ["application/json", "text/html", "text/plain", "text/event-stream"] {
        let program = Program::start(move |connection| {
            connection.request();
            connection.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
            ));
            for number in 0..3 {
                connection.send(format!("2\r\n{number}\n\r\n"));
                connection.wait_for(&format!("go on {number}"));
            }
            connection.send("0\r\n\r\n");
        });
        let front = Front::of(&program);
        let mut client = front.client();
        client.send(get("/"));
        assert!(client.head().contains(kind));
        for number in 0..3 {
            assert_eq!(client.chunk().unwrap(), format!("{number}\n").as_bytes());
            program.seen.change(|log| log.notes.push(format!("go on {number}")));
        }
        assert_eq!(client.chunk().unwrap(), b"");
    }
}

#[test]
fn pieces_of_an_answer_with_a_length_arrive_one_by_one() {
    let program = Program::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc");
        connection.wait_for("go on");
        connection.send("def");
    });
    let front = Front::of(&program);
    let mut client = front.client();
    client.send(get("/"));
    client.head();
    assert_eq!(client.exactly(3).unwrap(), b"abc");
    program.seen.change(|log| log.notes.push("go on".to_owned()));
    assert_eq!(client.exactly(3).unwrap(), b"def");
}

#[test]
fn an_answer_begins_while_the_request_is_being_sent() {
    let program = Program::start(|connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Some(chunk) = connection.chunk().filter(|chunk| !chunk.is_empty()) {
            connection.send(format!("{:x}\r\n", chunk.len()));
            connection.send(&chunk);
            connection.send("\r\n");
        }
        connection.send("0\r\n\r\n");
    });
    let front = Front::of(&program);
    let mut client = front.client();
    client.send("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.head();
    for piece in ["one", "two"] {
        client.send(format!("3\r\n{piece}\r\n"));
        assert_eq!(client.chunk().unwrap(), piece.as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk().unwrap(), b"");
}

#[test]
fn fifty_megabytes_pass_both_ways_unchanged() {
    const SIZE: usize = 50 << 20;
    let program = Program::start(|connection| {
        while let Some(request) = connection.request() {
            connection.send(with_body(&request.body));
        }
    });
    let front = Front::of(&program);
    let body: Vec<u8> =
        (0..SIZE).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect();
    let mut client = front.client();
    client.send(format!("PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SIZE}\r\n\r\n"));
    let mut sending = client.stream.try_clone().unwrap();
    let sent = body.clone();
    let sender = std::thread::spawn(move || sending.write_all(&sent).unwrap());
    let reply = client.reply();
    sender.join().unwrap();
    assert!(reply.body == body, "{} bytes", reply.body.len());
}

#[test]
fn a_connection_serves_many_requests_with_and_without_bodies() {
    let program = Program::echoing();
    let front = Front::of(&program);
    let mut client = front.client();
    for number in 0..50 {
        client.send(post("/", &format!("body {number}")));
        assert_eq!(client.reply().text(), format!("body {number}"));
        client.send(get("/"));
        assert_eq!(client.reply().text(), "");
    }
}

#[test]
fn a_large_request_that_is_answered_early_leaves_the_next_one_alone() {
    let program = Program::start(|connection| {
        if connection.head().is_some_and(|head| head.starts_with("GET")) {
            return connection.send(with_body("next"));
        }
        connection.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
        // Reads no more of it, and keeps the connection.
        connection.wait_for("end");
    });
    let front = Front::of(&program);
    let mut client = front.client();
    let mut sending = client.stream.try_clone().unwrap();
    // More than fits anywhere between the two.
    let request = post("/", &"a".repeat(50 << 20));
    let sender = std::thread::spawn(move || {
        let _ = sending.write_all(request.as_bytes());
    });
    let reply = client.reply();
    assert_eq!((reply.status(), reply.text().as_str()), (413, "big"));
    for _ in 0..3 {
        assert_eq!(front.ask(get("/")).text(), "next");
    }
    program.seen.change(|log| log.notes.push("end".to_owned()));
    drop(client);
    drop(front);
    sender.join().unwrap();
}

#[test]
fn an_early_answer_reaches_a_client_that_goes_on_sending() {
    let program = Program::start(|connection| {
        connection.head();
        connection.send(
            "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig",
        );
    });
    let front = Front::of(&program);
    for _ in 0..20 {
        let mut client = front.client();
        client.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n");
        let mut sending = client.stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            let piece = vec![0; 20_000];
            for _ in 0..1000 {
                if sending.write_all(&piece).is_err() {
                    return;
                }
            }
        });
        let reply = client.try_reply();
        let reply = reply.expect("the answer, although the proxy does not read the rest");
        assert_eq!((reply.status(), reply.text().as_str()), (413, "big"));
        drop(client);
        sender.join().unwrap();
    }
}
