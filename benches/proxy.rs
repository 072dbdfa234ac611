//! What the proxy costs: requests per second, and time added to a request, for small answers, beside
//! no proxy, nginx and air: `cargo bench --bench proxy`, with `-- --seconds 2 --rounds 3`.
//!
//! The program, which answers at once, and the clients run in one thread each. All compete for the
//! same processors, so figures are comparable only within one run.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "prints; panics on errors")]
#![allow(dead_code, reason = "each benchmark uses only a part of `common`")]

mod common;

use std::fs;
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use common::{Project, head, median, option, part, row};

/// Timeout for a proxy to answer its first request.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECTIONS: [usize; 3] = [1, 64, 512];
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n\
                        hello, world\n";

/// What clients connect to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Hotrun,
    Nginx,
    Air,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Direct => "direct",
            Way::Hotrun => "hotrun",
            Way::Nginx => "nginx",
            Way::Air => "air",
        }
    }

    /// The program of the proxy; `None` if it is not installed.
    fn program(self) -> Option<PathBuf> {
        let name = match self {
            Way::Direct => return Some(PathBuf::new()),
            Way::Hotrun => return Some(env!("CARGO_BIN_EXE_hotrun").into()),
            Way::Nginx => "nginx",
            Way::Air => "air",
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        places.map(|place| place.join(name)).find(|file| file.is_file())
    }

    /// Starts the proxy in front of the program, which it starts itself if it is hotrun or air.
    fn start(self, root: &Path, port: u16, app: u16) -> Option<Session> {
        let own = std::env::current_exe().unwrap();
        let serve = format!("exec {} --serve {app}", own.display());
        let mut command = Command::new(self.program()?);
        match self {
            Way::Direct => {
                command = Command::new(own);
                command.args(["--serve", &port.to_string()]);
            }
            Way::Hotrun | Way::Air => {
                let file = root.join(".air.toml");
                let text = format!(
                    "[build]\ncmd = \"true\"\nfull_bin = {serve:?}\n[proxy]\nenabled = true\n\
                     proxy_port = {port}\napp_port = {app}\n"
                );
                fs::write(&file, text).unwrap();
                command.arg("-c").arg(file);
            }
            Way::Nginx => {
                let file = root.join("nginx.conf");
                fs::write(&file, nginx(root, port, app)).unwrap();
                command = Command::new("sh");
                let nginx = self.program()?.display().to_string();
                let script = format!("{nginx} -c {} & {serve}", file.display());
                command.args(["-c", &script]);
            }
        }
        command.current_dir(root).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let session = Session(command.spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while !answers(port) {
            assert!(Instant::now() < until, "{} does not answer", self.name());
            thread::sleep(Duration::from_millis(20));
        }
        Some(session)
    }
}

fn nginx(root: &Path, port: u16, app: u16) -> String {
    let root = root.display();
    format!(
        "daemon off;\npid {root}/nginx.pid;\nerror_log {root}/error.log;\nworker_processes auto;\n\
         events {{ worker_connections 4096; }}\nhttp {{ access_log off;\n\
         keepalive_requests 1000000000;\n\
         upstream app {{ server 127.0.0.1:{app}; keepalive 512; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://app;\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}\n"
    )
}

/// A proxy with its program, until dropped.
struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        let group = Pid::from_raw(-i32::try_from(self.0.id()).unwrap());
        let _ = kill(group, Signal::SIGTERM);
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until && self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = kill(group, Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn answers(port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = StdTcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    stream.write_all(request).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

fn main() {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some("--serve") {
        serve(words.next().unwrap().parse().unwrap());
    }
    let (seconds, rounds) = (option("seconds", 2), option("rounds", 3));
    let ways: Vec<Way> = [Way::Direct, Way::Hotrun, Way::Nginx, Way::Air]
        .into_iter()
        .filter(|way| way.program().is_some())
        .collect();
    let project = Project::new("proxy");
    for connections in CONNECTIONS {
        let mut found: Vec<Vec<Load>> = ways.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (place, way) in ways.iter().enumerate() {
                let (port, app) = (free_port(), free_port());
                let session = way.start(&project.root, port, app);
                found[place].push(load(port, connections, Duration::from_secs(seconds.into())));
                drop(session);
            }
        }
        let title = format!("{connections} connections, medians of {rounds} rounds");
        head(&title, &["requests/s", "p50 ms", "p99 ms", "p50 added"]);
        let middle = |loads: &[Load], of: fn(&Load) -> f64| {
            median(&loads.iter().map(of).collect::<Vec<_>>())
        };
        let direct = middle(&found[0], |load| load.p50);
        for (way, loads) in ways.iter().zip(&found) {
            let p50 = middle(loads, |load| load.p50);
            let columns = [
                format!("{:.0}", middle(loads, |load| load.per_second)),
                format!("{p50:.3}"),
                format!("{:.3}", middle(loads, |load| load.p99)),
                format!("{:.3}", p50 - direct),
            ];
            row(way.name(), &columns);
        }
    }
}

/// What clients have seen.
struct Load {
    per_second: f64,
    /// Quantiles of the time of a request, in milliseconds.
    p50: f64,
    p99: f64,
}

/// Sends requests over this number of connections for this time, each as soon as the one before is
/// answered.
fn load(port: u16, connections: usize, time: Duration) -> Load {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let began = Instant::now();
    let times = LocalSet::new().block_on(&runtime, async {
        let clients: Vec<_> =
            (0..connections).map(|_| spawn_local(client(port, began + time))).collect();
        let mut times = Vec::new();
        for client in clients {
            times.extend(client.await.unwrap().unwrap());
        }
        times
    });
    #[expect(clippy::cast_precision_loss)]
    let per_second = times.len() as f64 / began.elapsed().as_secs_f64();
    Load { per_second, p50: part(&times, 0.5), p99: part(&times, 0.99) }
}

/// Returns the times of the requests on one connection, in milliseconds.
async fn client(port: u16, until: Instant) -> io::Result<Vec<f64>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (mut times, mut buffer) = (Vec::new(), vec![0; 4096]);
    while Instant::now() < until {
        let began = Instant::now();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
        let mut length = 0;
        while !buffer[..length].ends_with(b"hello, world\n") {
            let count = stream.read(&mut buffer[length..]).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            length += count;
        }
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times)
}

/// The program: answers every request at once.
fn serve(port: u16) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            spawn_local(converse(Rc::new(stream)));
        }
    })
}

async fn converse(stream: Rc<TcpStream>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut length) = (vec![0; 8192], 0);
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer[length..]) {
            Ok(0) => return Ok(()),
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if buffer[..length].ends_with(b"\r\n\r\n") {
            let is_last = buffer[..length].windows(5).any(|five| five == b"close");
            length = 0;
            stream.writable().await?;
            // A small answer fits into the empty buffer of the socket.
            stream.try_write(ANSWER)?;
            if is_last {
                return Ok(());
            }
        }
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
