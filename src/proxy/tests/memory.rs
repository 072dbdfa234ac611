//! Bodies of any size pass at constant memory.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use super::{Front, Program};

/// Memory of this process that no file backs, in KiB.
fn rss() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

/// `HOTRUN_PROXY_MIB=1024 cargo test --lib proxy::tests::memory` sends this number of MiB each way. Alone, as
/// other tests take memory of the same process.
#[test]
fn bodies_pass_at_constant_memory_however_slow_the_reader() {
    const PIECE: usize = 64 << 10;
    let size = std::env::var("HOTRUN_PROXY_MIB").ok().and_then(|text| text.parse::<usize>().ok());
    let Some(size) = size.map(|mib| mib << 20) else { return };
    let program = Program::start(move |connection| {
        let head = connection.until(b"\r\n\r\n").unwrap();
        let mut buffer = vec![0; PIECE];
        if head.starts_with(b"GET") {
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
            (0..size / PIECE).for_each(|_| connection.send(&buffer));
            return;
        }
        let mut left = size - connection.unread.len();
        while left > 0 {
            left -= connection.stream.read(&mut buffer).unwrap();
            if left.is_multiple_of(1000) {
                thread::sleep(Duration::from_millis(1));
            }
        }
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let front = Front::of(&program);
    let mut buffer = vec![0; PIECE];
    let before = rss();
    let mut most = 0;
    let mut client = front.client();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.head();
    // All that fits anywhere between is there before anything is read.
    thread::sleep(Duration::from_millis(300));
    let mut left = size - client.unread.len();
    while left > 0 {
        left -= client.stream.read(&mut buffer).unwrap();
        most = most.max(rss());
    }
    client.unread.clear();
    client.send(format!("PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"));
    for _ in 0..size / PIECE {
        client.stream.write_all(&buffer).unwrap();
        most = most.max(rss());
    }
    assert_eq!(client.reply().status(), 200);
    println!("memory: {before} KiB, at most {most} KiB");
    assert!(most < before + (20 << 10), "{before} KiB, then {most} KiB");
}
