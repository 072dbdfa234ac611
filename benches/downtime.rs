//! What clients see while the program is rebuilt and replaced repeatedly: `cargo bench --bench
//! downtime`.
//!
//! A build takes 500 ms, the program 300 ms from its start until it serves, an answer 20 ms. Twenty
//! clients open a connection for each request, twenty others keep theirs open. A graceful program
//! exits when it has answered on all accepted connections; an abrupt one exits at once.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "prints; panics on errors")]
#![allow(dead_code, reason = "each benchmark uses only a part of `common`")]

mod common;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use common::{Project, head, option, row};

const CLIENTS: usize = 20;
const BUILD: &str = "sleep 0.5; cp src/version.txt out/version";
const BOOT: Duration = Duration::from_millis(300);
const ANSWER: Duration = Duration::from_millis(20);
/// Time for which a graceful program keeps reading from open connections before it exits.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// How the program is replaced, and the configuration for it.
const MODES: [(&str, &str); 3] = [
    ("it opens the port", ""),
    ("[[listen]], restart", "[[listen]]\naddress = PORT\n"),
    ("[[listen]], handover", "[[listen]]\naddress = PORT\n[run]\nmode = \"handover\"\n"),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|word| word == "--serve") {
        serve(args[2].parse().unwrap(), args[3] == "graceful");
    }
    let cycles = option("cycles", 6);
    for end in ["graceful", "abrupt"] {
        head(
            &format!("{cycles} times replaced, {end} end, {CLIENTS} + {CLIENTS} clients"),
            &["requests", "refused", "reset", "worst ms", "kept broken"],
        );
        for (name, config) in MODES {
            let (new, kept) = measure(config, end, cycles);
            let columns = [
                (new.answers + kept.answers).to_string(),
                new.refused.to_string(),
                new.reset.to_string(),
                format!("{:.0}", new.worst.as_secs_f64() * 1000.0),
                (kept.refused + kept.reset).to_string(),
            ];
            row(name, &columns);
        }
    }
}

// The program

/// Answers on descriptor 3, or on a port of its own, until SIGTERM.
fn serve(port: u16, is_graceful: bool) -> ! {
    let mut asked = SigSet::empty();
    asked.add(Signal::SIGTERM);
    asked.thread_block().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    thread::spawn(move || {
        asked.wait().unwrap();
        if !is_graceful {
            std::process::exit(0);
        }
        over.store(true, Ordering::Relaxed);
    });
    thread::sleep(BOOT);
    let inherited = ListenFd::from_env().take_tcp_listener(0).unwrap();
    let listener = inherited.unwrap_or_else(|| TcpListener::bind(("127.0.0.1", port)).unwrap());
    // Another generation may accept the connection first, so this one must not block in `accept`.
    listener.set_nonblocking(true).unwrap();
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        UnixDatagram::unbound().unwrap().send_to(b"READY=1", path).unwrap();
    }
    let busy = Arc::new(AtomicUsize::new(0));
    while !is_over.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_micros(200));
            continue;
        };
        let (busy, is_over) = (Arc::clone(&busy), Arc::clone(&is_over));
        busy.fetch_add(1, Ordering::Relaxed);
        thread::spawn(move || {
            converse(stream, &is_over);
            busy.fetch_sub(1, Ordering::Relaxed);
        });
    }
    drop(listener);
    while busy.load(Ordering::Relaxed) > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    std::process::exit(0)
}

/// Answers requests on one connection. At the end, still answers those that arrive at once.
fn converse(mut stream: TcpStream, is_over: &AtomicBool) {
    stream.set_nonblocking(true).unwrap();
    let mut end = None;
    let mut request = Vec::new();
    loop {
        if is_over.load(Ordering::Relaxed) {
            let end = *end.get_or_insert_with(|| Instant::now() + DRAIN_TIMEOUT);
            if Instant::now() > end {
                break;
            }
        }
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            Err(_) => break,
        }
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        thread::sleep(ANSWER);
        let last = is_over.load(Ordering::Relaxed) || request.windows(5).any(|it| it == b"close");
        let header = if last { "Connection: close\r\n" } else { "" };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{header}\r\nok");
        if stream.write_all(answer.as_bytes()).is_err() || last {
            break;
        }
        request.clear();
    }
}

// The clients

#[derive(Debug, Default)]
struct Seen {
    answers: usize,
    refused: usize,
    reset: usize,
    worst: Duration,
}

fn measure(config: &str, end: &str, cycles: u32) -> (Seen, Seen) {
    let project = Project::new("downtime");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let program = std::env::current_exe().unwrap();
    let program = program.display();
    let text = format!(
        "[build]\ncmd = {BUILD:?}\nentrypoint = [\"{program}\", \"--serve\", \"{port}\", \"{end}\"]\n\
         include_ext = [\"txt\"]\nexclude_dir = [\"out\"]\nkill_delay = \"2s\"\n{}",
        config.replace("PORT", &port.to_string())
    );
    fs::write(project.root.join("hotrun.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotrun"));
    command.current_dir(&project.root).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let hotrun = Running(command.spawn().unwrap());
    while ask(&mut None, port, true).is_err() {
        thread::sleep(Duration::from_millis(10));
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2 * CLIENTS)
        .map(|number| {
            let (is_over, is_new) = (Arc::clone(&is_over), number < CLIENTS);
            (is_new, thread::spawn(move || request_until(&is_over, port, is_new)))
        })
        .collect();
    for cycle in 0..cycles {
        project.save(&format!("v{cycle}"));
        thread::sleep(Duration::from_secs(2));
    }
    is_over.store(true, Ordering::Relaxed);
    let (mut new, mut kept) = (Seen::default(), Seen::default());
    for (is_new, client) in clients {
        let seen = client.join().unwrap();
        let sum = if is_new { &mut new } else { &mut kept };
        sum.answers += seen.answers;
        sum.refused += seen.refused;
        sum.reset += seen.reset;
        sum.worst = sum.worst.max(seen.worst);
    }
    drop(hotrun);
    (new, kept)
}

fn request_until(is_over: &AtomicBool, port: u16, is_new: bool) -> Seen {
    let mut seen = Seen::default();
    let mut stream = None;
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        match ask(&mut stream, port, is_new) {
            Ok(()) => {
                seen.answers += 1;
                seen.worst = seen.worst.max(began.elapsed());
            }
            Err(error) => {
                stream = None;
                if error.kind() == ErrorKind::ConnectionRefused {
                    seen.refused += 1;
                    // Retrying faster would only count the same failure more often.
                    thread::sleep(Duration::from_millis(10));
                } else {
                    seen.reset += 1;
                }
            }
        }
    }
    seen
}

fn ask(stream: &mut Option<TcpStream>, port: u16, is_new: bool) -> io::Result<()> {
    if is_new || stream.is_none() {
        *stream = Some(TcpStream::connect(("127.0.0.1", port))?);
    }
    let stream = stream.as_mut().ok_or(ErrorKind::NotConnected)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let how = if is_new { "Connection: close\r\n" } else { "" };
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: x\r\n{how}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let mut buffer = [0; 256];
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(())
}

/// A running hotrun, which is stopped when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGINT);
        let _ = self.0.wait();
    }
}
