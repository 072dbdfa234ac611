//! Random requests to the proxy, from clients that hang up, and restarts at random. At the end,
//! requests are answered as ever, and hotrun uses no more resources than at first.
//!
//! `HOTRUN_TEST_SECONDS` says how long, `HOTRUN_TEST_FIRST_SEED` with which seed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::random::Random;
use crate::sandbox::{Hotrun, Sandbox, free_port, get, has, number_in, wait_until};
use crate::stopping::resources;

const CLIENTS: u64 = 12;
/// Maximum growth of hotrun's memory after the first part of the test, in kilobytes.
const MORE_MEMORY: usize = 4096;

/// Reads and answers everything, in pieces and with delays, and sometimes closes instead.
const PROGRAM: &str = r"
import os, random, socket, threading, time
def serve(one):
    try:
        with one:
            reader = one.makefile('rb')
            while True:
                head = []
                while True:
                    line = reader.readline()
                    if not line:
                        return
                    if line == b'\r\n':
                        break
                    head.append(line.lower())
                for line in head:
                    if line.startswith(b'content-length:'):
                        reader.read(int(line.split(b':')[1]))
                if b'/quit ' in head[0]:
                    os._exit(1)
                if b'/close ' in head[0]:
                    return
                if b'/slow ' in head[0]:
                    time.sleep(random.random() / 5)
                if b'/stream ' in head[0]:
                    one.sendall(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
                    for _ in range(20):
                        one.sendall(b'400\r\n' + b'x' * 1024 + b'\r\n')
                        time.sleep(0.005)
                    one.sendall(b'0\r\n\r\n')
                elif b'/events ' in head[0]:
                    one.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n')
                    while True:
                        one.sendall(b'data: x\n\n')
                        time.sleep(0.05)
                elif b'/large ' in head[0]:
                    one.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n' + b'x' * 3000000)
                else:
                    one.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello')
    except OSError:
        pass
listener = socket.create_server(('127.0.0.1', int(os.environ['PORT'])), backlog=512)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
";

/// One client: its requests are whole or not, and it reads the answers or not.
fn client(port: u16, seed: u64, is_over: &AtomicBool, answered: &AtomicU64) {
    let mut random = Random(seed);
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        for _ in 0..=random.below(4) {
            let paths = ["/", "/", "/slow", "/stream", "/large", "/events", "/close"];
            let path = paths[usize::try_from(random.below(7)).unwrap()];
            let body = "x".repeat(usize::try_from(random.below(200_000)).unwrap());
            let request = match random.below(4) {
                0 => format!(
                    "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
                1 => format!("BREW {path} HTTP/1.1\r\nHost: localhost\r\nbroken\r\n\r\n"),
                _ => format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            };
            // Sometimes only a part of it.
            let is_cut = random.below(5) == 0;
            let length = if is_cut { random.below(request.len() as u64) } else { u64::MAX };
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(request.len());
            if stream.write_all(&request.as_bytes()[..length]).is_err() {
                break;
            }
            let mut buffer = vec![0; usize::try_from(1 + random.below(100_000)).unwrap()];
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => answered.fetch_add(1, Ordering::Relaxed),
                _ => break,
            };
            random.pause();
        }
    }
}

/// Makes the program exit. It is not asked again when another one follows.
fn quit(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(b"POST /quit HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let _ = stream.read(&mut [0; 100]);
}

/// Disturbs everything for this time.
fn disturb(project: &Sandbox, hotrun: &mut Hotrun, port: u16, random: &mut Random, time: Duration) {
    let (is_over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let until = Instant::now() + time;
    thread::scope(|scope| {
        let seeds: Vec<u64> = (0..CLIENTS).map(|_| random.below(u64::MAX)).collect();
        for seed in seeds {
            let (is_over, answered) = (&is_over, &answered);
            scope.spawn(move || client(port, seed, is_over, answered));
        }
        while Instant::now() < until {
            match random.below(8) {
                0 => quit(port),
                1 => {
                    let program = project.status()["services"][0]["program"]["pid"].as_i64();
                    let program = program.map(|pid| Pid::from_raw(pid.try_into().unwrap()));
                    // It may be gone by now.
                    let _ = program.map(|pid| kill(pid, Signal::SIGKILL));
                }
                _ => project.save("source.txt", &format!("{}\n", random.below(u64::MAX))),
            }
            random.pause();
            random.pause();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(answered.into_inner() > 0, "nothing was answered:\n{}", hotrun.output());
    assert!(get(port, "/").ends_with("hello"));
}

#[test]
fn clients_that_hang_up_while_the_program_is_replaced_leave_nothing_behind() {
    let name = "clients_that_hang_up_while_the_program_is_replaced_leave_nothing_behind";
    if !has(name, &["python3"]) {
        return;
    }
    let (port, seed) = (free_port(), number_in("HOTRUN_TEST_FIRST_SEED", 1));
    let seconds = number_in("HOTRUN_TEST_SECONDS", 6);
    let config = format!(
        "[build]\ncmd = \"cp source.txt built\"\nentrypoint = [\"python3\", \"program.py\"]\n\
         include_file = [\"source.txt\"]\ninclude_ext = []\nexclude_file = [\"built\"]\n\
         [run]\non_exit = \"restart\"\n[proxy]\nproxy_port = {port}\napp_port = 0\n\
         hold = \"10s\"\ndrain = \"300ms\"\n"
    );
    let project = Sandbox::empty().file("hotrun.toml", &config).file("program.py", PROGRAM);
    project.save("source.txt", "one\n");
    let mut hotrun = project.start_plain(&["--build.rerun_delay=50ms"]);
    let mut random = Random(seed);
    assert!(get(port, "/").ends_with("hello"));
    let parts = 6;
    // The first parts show how large it gets.
    let mut limit: Option<[usize; 4]> = None;
    for part in 0..parts {
        let time = Duration::from_secs(seconds) / parts;
        disturb(&project, &mut hotrun, port, &mut random, time);
        wait_until("connections are closed", || {
            let now = resources(&hotrun);
            limit.is_none_or(|limit| now[0] <= limit[0] && now[1] <= limit[1])
        });
        let now = resources(&hotrun);
        eprintln!("seed {seed}, part {part}: descriptors, threads, kB, processes: {now:?}");
        if part < 2 {
            limit = Some([now[0] + 8, now[1] + 2, now[2] + MORE_MEMORY, now[3]]);
        }
        let limit = limit.unwrap_or(now);
        assert!(now[2] <= limit[2], "{now:?} is more than {limit:?}");
    }
    hotrun.end();
}
