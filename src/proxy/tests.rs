//! The proxy as clients and programs see it: raw bytes on both sides, through real sockets. The
//! program is a thread that records every byte that arrives.

use std::collections::{BTreeSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::{FromProxy, Generation, Listeners, Place, Proxy, Serving, Tls, View};
use crate::config::{self, Bind};
use crate::event::Proc;
use crate::inbox::Inbox;
use crate::notice::Absence;

mod bodies;
mod expect;
mod generations;
mod hangups;
mod heads;
mod hold;
mod http2;
mod memory;
mod refusals;
mod routes;
mod tls;
mod tunnels;

/// Deadline of everything that is awaited: none of it takes long.
const LONG: Duration = Duration::from_secs(60);

/// What has arrived at a program.
#[derive(Default)]
struct Seen {
    log: Mutex<Log>,
    changed: Condvar,
}

#[derive(Default)]
struct Log {
    connections: Vec<Received>,
    /// The requests that the program has read, in order.
    requests: Vec<Request>,
    /// What tests note.
    notes: Vec<String>,
    streams: Vec<TcpStream>,
}

/// What has arrived through one connection.
#[derive(Clone, Default)]
struct Received {
    bytes: Vec<u8>,
    has_ended: bool,
}

/// A request as a program has read it.
#[derive(Clone, Debug, Default)]
struct Request {
    head: String,
    body: Vec<u8>,
    /// The number of its connection.
    connection: usize,
}

impl Request {
    /// The first line, and the fields.
    fn lines(&self) -> Vec<&str> {
        self.head.trim_end().split("\r\n").collect()
    }

    fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

/// The first value of a field in a head.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

impl Seen {
    /// Another test thread may have failed meanwhile.
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is what is looked for.
    fn wait<T>(&self, what: &str, mut look: impl FnMut(&Log) -> Option<T>) -> T {
        let mut log = self.lock();
        loop {
            if let Some(found) = look(&log) {
                return found;
            }
            let (next, waited) =
                self.changed.wait_timeout(log, LONG).unwrap_or_else(PoisonError::into_inner);
            log = next;
            if waited.timed_out() {
                drop(log);
                panic!("awaited in vain: {what}");
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// A program that the proxy sends requests to.
struct Program {
    address: SocketAddr,
    seen: Arc<Seen>,
    is_stopped: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Program {
    /// Starts a program that handles each connection in this way, on a thread of its own.
    fn start(serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), serve)
    }

    fn start_at(
        address: SocketAddr,
        serve: impl Fn(&mut Connection) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (log, ends, serve) = (Arc::clone(&seen), Arc::clone(&is_stopped), Arc::new(serve));
        let accepting = thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                stream.set_read_timeout(Some(LONG)).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut number = 0;
                let copy = stream.try_clone().unwrap();
                log.change(|log| {
                    number = log.connections.len();
                    log.connections.push(Received::default());
                    log.streams.push(copy);
                });
                let (seen, serve) = (Arc::clone(&log), Arc::clone(&serve));
                thread::spawn(move || {
                    let mut connection = Connection { stream, number, seen, unread: Vec::new() };
                    serve(&mut connection);
                    connection.close();
                });
            }
        });
        Self { address, seen, is_stopped, accepting: Some(accepting) }
    }

    /// A program that answers every request with these bytes.
    fn answering(answer: impl AsRef<[u8]>) -> Self {
        let answer = answer.as_ref().to_vec();
        Self::start(move |connection| {
            while connection.request().is_some() {
                connection.send(&answer);
            }
        })
    }

    /// A program that answers each request with its own body.
    fn echoing() -> Self {
        Self::start(|connection| {
            while let Some(request) = connection.request() {
                connection.send(with_body(&request.body));
            }
        })
    }

    fn generation(&self, number: u32) -> Generation {
        Generation { proc: Proc(number), number, place: Place::Tcp(vec![self.address]) }
    }

    /// The requests that have arrived.
    fn requests(&self) -> Vec<Request> {
        self.seen.lock().requests.clone()
    }

    /// The only request that has arrived.
    fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }

    /// Waits for this number of requests.
    fn wait_for_requests(&self, count: usize) -> Vec<Request> {
        self.seen
            .wait("requests", |log| (log.requests.len() >= count).then(|| log.requests.clone()))
    }

    /// Waits until a connection has ended, and returns what has arrived through it.
    fn wait_for_end(&self, connection: usize) -> Vec<u8> {
        self.seen.wait("the end of a connection", |log| {
            let received = log.connections.get(connection).filter(|one| one.has_ended);
            received.map(|one| one.bytes.clone())
        })
    }

    fn wait_for_note(&self, note: &str) {
        self.seen.wait(note, |log| log.notes.iter().any(|one| one == note).then_some(()));
    }

    /// Everything that has arrived.
    fn bytes(&self) -> Vec<u8> {
        let log = self.seen.lock();
        log.connections.iter().flat_map(|one| one.bytes.clone()).collect()
    }

    /// Number of connections that were opened.
    fn connections(&self) -> usize {
        self.seen.lock().connections.len()
    }

    /// Accepts no connection from now on.
    fn stop_accepting(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        if let Some(accepting) = self.accepting.take() {
            let _ = TcpStream::connect(self.address);
            accepting.join().unwrap();
        }
    }

    /// Closes all connections, and accepts none from now on.
    fn die(&mut self) {
        self.stop_accepting();
        for stream in &self.seen.lock().streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.die();
    }
}

/// A connection of the proxy to a program.
struct Connection {
    stream: TcpStream,
    number: usize,
    seen: Arc<Seen>,
    unread: Vec<u8>,
}

impl Connection {
    /// Receives something. Returns whether it did.
    fn fill(&mut self) -> bool {
        let mut buffer = vec![0; 64 << 10];
        let count = self.stream.read(&mut buffer).unwrap_or(0);
        self.unread.extend_from_slice(&buffer[..count]);
        self.seen.change(|log| {
            let received = &mut log.connections[self.number];
            received.bytes.extend_from_slice(&buffer[..count]);
            received.has_ended |= count == 0;
        });
        count > 0
    }

    /// Reads up to and with these bytes.
    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(place) = find(&self.unread, end) {
                return Some(self.unread.drain(..place + end.len()).collect());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.unread.len() < count {
            if !self.fill() {
                return None;
            }
        }
        Some(self.unread.drain(..count).collect())
    }

    /// Reads the head of a request, which counts as one from here on.
    fn head(&mut self) -> Option<String> {
        let head = String::from_utf8_lossy(&self.until(b"\r\n\r\n")?).into_owned();
        self.count(&head, Vec::new());
        Some(head)
    }

    /// Reads a request with its body.
    fn request(&mut self) -> Option<Request> {
        let head = String::from_utf8_lossy(&self.until(b"\r\n\r\n")?).into_owned();
        let body = if field(&head, "transfer-encoding").is_some() {
            self.chunks()?
        } else {
            let length = field(&head, "content-length").map_or(0, |text| text.parse().unwrap());
            self.exactly(length)?
        };
        Some(self.count(&head, body))
    }

    fn count(&self, head: &str, body: Vec<u8>) -> Request {
        let request = Request { head: head.to_owned(), body, connection: self.number };
        self.seen.change(|log| log.requests.push(request.clone()));
        request
    }

    /// Reads a chunked body without trailers.
    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().filter(|chunk| !chunk.is_empty()) {
            body.extend(chunk);
        }
        self.until(b"\r\n")?;
        Some(body)
    }

    /// Reads one chunk; the last one is empty.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = String::from_utf8(self.until(b"\r\n")?).unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let data = self.exactly(size)?;
        if size > 0 {
            assert_eq!(self.exactly(2)?, b"\r\n");
        }
        Some(data)
    }

    /// Reads until the proxy closes the connection.
    fn rest(&mut self) {
        while self.fill() {}
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The proxy may have closed it.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    fn note(&self, note: &str) {
        self.seen.change(|log| log.notes.push(note.to_owned()));
    }

    /// Waits for a note of the test.
    fn wait_for(&self, note: &str) {
        self.seen.wait(note, |log| log.notes.iter().any(|one| one == note).then_some(()));
    }

    fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|part| part == what)
}

/// A proxy, and what it reports.
struct Front {
    proxy: Proxy,
    address: SocketAddr,
    reports: Mutex<Reports>,
}

struct Reports {
    receiver: UnboundedReceiver<FromProxy>,
    /// Those that came before one that was awaited.
    earlier: VecDeque<FromProxy>,
    /// Number of programs that were made up.
    made_up: u32,
}

impl Reports {
    fn receive(&mut self) -> FromProxy {
        let receiver = &mut self.receiver;
        // On a thread of its own, as a test may have a runtime.
        let received = thread::scope(|scope| {
            let wait = move || {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                let runtime = builder.enable_time().build().unwrap();
                let next = async { tokio::time::timeout(LONG, receiver.recv()).await };
                runtime.block_on(next)
            };
            scope.spawn(wait).join().unwrap()
        });
        received.expect("a report in time").expect("the proxy is running")
    }
}

/// The configuration that tests start from.
fn settings() -> config::Proxy {
    config::Proxy {
        port: 0,
        bind: Bind::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        hold: LONG,
        drain: None,
        tls: None,
        hosts: Vec::new(),
        routes: Vec::new(),
        debug_headers: false,
    }
}

impl Front {
    fn start(config: config::Proxy, serving: Serving) -> Self {
        let listeners = Listeners::open(&config).unwrap();
        let address = listeners.iter().next().unwrap().local_addr().unwrap();
        let (sender, reports) = mpsc::unbounded_channel();
        let inbox = Inbox::new(&sender, |report| report);
        let tls = Tls::load(&config).unwrap();
        let view = View { serving, draining: BTreeSet::new(), config, listeners, tls };
        let reports = Reports { receiver: reports, earlier: VecDeque::new(), made_up: 0 };
        Self {
            proxy: Proxy::start_with(view, inbox, 2).unwrap(),
            address,
            reports: Mutex::new(reports),
        }
    }

    /// A proxy in front of a program.
    fn of(program: &Program) -> Self {
        Self::start(settings(), Serving::By(program.generation(1)))
    }

    /// A proxy without a program.
    fn alone(hold: Duration) -> Self {
        Self::start(config::Proxy { hold, ..settings() }, Serving::None(Absence::Starting))
    }

    /// Publishes this, and waits until all threads have taken it up: a program that no thread knows
    /// is drained at once.
    fn show(&self, serving: Serving, draining: &[u32]) {
        let mut reports = self.reports.lock().unwrap();
        reports.made_up += 1;
        let made_up = Proc(1_000_000 + reports.made_up);
        let draining = draining.iter().map(|number| Proc(*number));
        self.proxy.show(serving, draining.chain([made_up]).collect());
        loop {
            match reports.receive() {
                FromProxy::Drained(proc) if proc == made_up => return,
                other => reports.earlier.push_back(other),
            }
        }
    }

    /// Makes this the program that serves.
    fn serve(&self, program: &Program, number: u32) {
        self.show(Serving::By(program.generation(number)), &[]);
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, unread: Vec::new() }
    }

    /// Sends a request through a connection of its own, and returns the answer.
    fn ask(&self, request: impl AsRef<[u8]>) -> Reply {
        let mut client = self.client();
        client.send(request);
        client.reply()
    }

    /// Returns the next report.
    fn report(&self) -> FromProxy {
        let mut reports = self.reports.lock().unwrap();
        reports.earlier.pop_front().unwrap_or_else(|| reports.receive())
    }

    fn wait_until_drained(&self, number: u32) {
        match self.report() {
            FromProxy::Drained(proc) => assert_eq!(proc, Proc(number)),
            other @ FromProxy::HeldInVain { .. } => panic!("{other:?}"),
        }
    }

    /// Checks that nothing was reported since.
    fn has_reported_nothing(&self) {
        let mut reports = self.reports.lock().unwrap();
        let report = reports.earlier.pop_front().or_else(|| reports.receiver.try_recv().ok());
        assert!(report.is_none(), "{report:?}");
    }
}

/// A connection of a client to the proxy.
struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// How a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

/// An answer as a client has read it.
#[derive(Clone, Debug)]
struct Reply {
    head: String,
    body: Vec<u8>,
    /// The fields after a chunked body.
    trailers: Vec<String>,
}

impl Reply {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn lines(&self) -> Vec<&str> {
        self.head.trim_end().split("\r\n").collect()
    }

    fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what the proxy may refuse to read to its end.
    fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    fn fill(&mut self) -> Result<(), End> {
        let mut buffer = vec![0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(End::Closed),
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing arrives after {:?}", String::from_utf8_lossy(&self.unread))
            }
            Err(_) => Err(End::Reset),
        }
    }

    fn until(&mut self, end: &[u8]) -> Result<Vec<u8>, End> {
        loop {
            if let Some(place) = find(&self.unread, end) {
                return Ok(self.unread.drain(..place + end.len()).collect());
            }
            self.fill()?;
        }
    }

    fn exactly(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.unread.len() < count {
            self.fill()?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    fn head(&mut self) -> String {
        let head = self.until(b"\r\n\r\n").expect("the head of an answer");
        String::from_utf8_lossy(&head).into_owned()
    }

    fn chunk(&mut self) -> Result<Vec<u8>, End> {
        let line = String::from_utf8(self.until(b"\r\n")?).unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let data = self.exactly(size)?;
        if size > 0 {
            assert_eq!(self.exactly(2)?, b"\r\n");
        }
        Ok(data)
    }

    /// Reads an answer to a request other than HEAD.
    fn reply(&mut self) -> Reply {
        self.try_reply().expect("a whole answer")
    }

    fn try_reply(&mut self) -> Result<Reply, End> {
        let head = String::from_utf8_lossy(&self.until(b"\r\n\r\n")?).into_owned();
        let mut reply = Reply { head, body: Vec::new(), trailers: Vec::new() };
        if [204, 304].contains(&reply.status()) {
            return Ok(reply);
        }
        if let Some(length) = reply.field("content-length") {
            reply.body = self.exactly(length.parse().unwrap())?;
        } else if reply.field("transfer-encoding").is_some() {
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                reply.body.extend(chunk);
            }
            loop {
                let line = String::from_utf8(self.until(b"\r\n")?).unwrap();
                if line == "\r\n" {
                    break;
                }
                reply.trailers.push(line.trim_end().to_owned());
            }
        } else {
            let (rest, end) = self.rest();
            if end == End::Reset {
                return Err(end);
            }
            reply.body = rest;
        }
        Ok(reply)
    }

    /// Reads until the connection ends.
    fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.fill() {
                return (std::mem::take(&mut self.unread), end);
            }
        }
    }

    fn is_ended(&mut self) -> bool {
        self.rest().0.is_empty()
    }
}

/// A request without a body.
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// A request with a body.
fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// An answer with this body.
fn with_body(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}
