//! Programs that requests are sent to: connections, and which requests are under way.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::tap::{Passes, Stream, Tap, Tapped};
use super::upload::{Progress, Upload};
use super::{LocalExecutor, MAX_HEAD};
use crate::event::Proc;

/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection is closed when it is older than this and another one becomes idle.
const MAX_IDLE: Duration = Duration::from_secs(10);
/// Maximum time that a connection whose answer has passed takes to be usable again.
const MAX_BUSY: Duration = Duration::from_millis(10);
/// Maximum number of idle connections to one program.
const MAX_IDLE_CONNECTIONS: usize = 512;

/// Where a program listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first of these that accepts.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

impl Place {
    /// A port of this machine.
    pub(crate) fn of_port(port: u16) -> Self {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Place::Tcp(vec![v4, (Ipv6Addr::LOCALHOST, port).into()])
    }
}

/// A generation of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    pub proc: Proc,
    /// The number of its start: 1, 2, 3 …
    pub number: u32,
    pub place: Place,
}

/// The number of the generation that an answer comes from.
#[derive(Clone, Copy)]
pub(super) struct AnsweredBy(pub(super) u32);

/// A program that requests are sent to.
pub(super) struct Upstream {
    pub(super) place: Place,
    /// `None` for a program that hotrun does not run.
    pub(super) generation: Option<(Proc, u32)>,
    idle: RefCell<Vec<Idle>>,
    /// The connection for requests over HTTP/2.
    h2: RefCell<Option<http2::SendRequest<Upload>>>,
    /// Whether it has ever accepted a connection.
    was_reached: Cell<bool>,
    under_way: Cell<usize>,
    /// Called when no request is under way any more.
    when_idle: RefCell<Option<Box<dyn FnOnce()>>>,
    /// Whether a newer one has taken its place, so that no connection is kept.
    is_retired: Cell<bool>,
}

/// A connection without a request.
struct Idle {
    connection: Connection,
    since: Instant,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("place", &self.place)
            .field("generation", &self.generation)
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}

/// A connection over HTTP/1.1.
pub(super) struct Connection {
    pub(super) sender: http1::SendRequest<Upload>,
    /// Number of bytes received.
    received: Arc<AtomicU64>,
    /// Whether it has carried a request before.
    pub(super) is_used: bool,
}

impl Connection {
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Upstream {
    pub(super) fn new(place: Place, generation: Option<(Proc, u32)>) -> Self {
        Self {
            place,
            generation,
            idle: RefCell::default(),
            h2: RefCell::default(),
            was_reached: Cell::new(false),
            under_way: Cell::new(0),
            when_idle: RefCell::default(),
            is_retired: Cell::new(false),
        }
    }

    /// Returns an idle connection.
    pub(super) async fn reuse(&self) -> Option<Connection> {
        loop {
            let idle = self.idle.borrow_mut().pop()?;
            let mut connection = idle.connection;
            connection.is_used = true;
            // It has just carried a request, and may still be reading the end of the answer. One
            // that is stuck in the body of its request, which the program does not read, is dropped.
            if connection.sender.is_ready()
                || !connection.sender.is_closed()
                    && matches!(timeout(MAX_BUSY, connection.sender.ready()).await, Ok(Ok(())))
            {
                return Some(connection);
            }
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// The program does not accept it in time.
    pub(super) async fn connect(&self) -> io::Result<Connection> {
        let received = Arc::new(AtomicU64::new(0));
        let io = TokioIo::new(Tapped::new(self.stream().await?, Count(Arc::clone(&received))));
        let mut builder = http1::Builder::new();
        builder.preserve_header_case(true).max_header_size(4 * MAX_HEAD);
        let (sender, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
        spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::trace!(%error, "a connection to the program");
            }
        });
        Ok(Connection { sender, received, is_used: false })
    }

    /// Returns a connection over HTTP/2, which any number of requests can share.
    ///
    /// # Errors
    ///
    /// The program does not accept it in time, or does not speak HTTP/2.
    pub(super) async fn connect_h2(&self) -> io::Result<http2::SendRequest<Upload>> {
        let open = self.h2.borrow().clone().filter(|sender| !sender.is_closed());
        if let Some(sender) = open {
            return Ok(sender);
        }
        let io = TokioIo::new(self.stream().await?);
        let builder = http2::Builder::new(LocalExecutor);
        let (sender, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
        spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection to the program");
            }
        });
        *self.h2.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }

    async fn stream(&self) -> io::Result<Box<dyn Stream>> {
        let connected = timeout(CONNECT_TIMEOUT, async {
            Ok(match &self.place {
                Place::Tcp(addresses) => {
                    let stream = TcpStream::connect(&**addresses).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream) as Box<dyn Stream>
                }
                Place::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        });
        let connected = connected.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        connected.inspect(|_| self.was_reached.set(true))
    }

    /// What its answers note; `None` if hotrun does not run it.
    pub(super) fn answered_by(&self) -> Option<AnsweredBy> {
        self.generation.map(|(_, number)| AnsweredBy(number))
    }

    /// Whether it has ever accepted a connection.
    pub(super) fn was_reached(&self) -> bool {
        self.was_reached.get()
    }

    /// Notes that a request is sent here.
    pub(super) fn begin(self: &Rc<Self>) -> UnderWay {
        self.under_way.set(self.under_way.get() + 1);
        UnderWay(Rc::clone(self))
    }

    /// Keeps no connection from now on, or keeps some again.
    pub(super) fn retire(&self, is_retired: bool) {
        self.is_retired.set(is_retired);
        if is_retired {
            self.idle.borrow_mut().clear();
            self.h2.borrow_mut().take();
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.get() == 0
    }

    /// Calls this when no request is under way: now, or later.
    pub(super) fn when_idle(&self, call: impl FnOnce() + 'static) {
        if self.is_idle() {
            call();
        } else {
            *self.when_idle.borrow_mut() = Some(Box::new(call));
        }
    }

    fn give_back(&self, connection: Connection) {
        if self.is_retired.get() || connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let now = Instant::now();
        // The oldest come first.
        let old = idle.iter().take_while(|one| now - one.since > MAX_IDLE).count();
        idle.drain(..old);
        if idle.len() < MAX_IDLE_CONNECTIONS {
            idle.push(Idle { connection, since: now });
        }
    }
}

/// A request that is under way, until dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Rc<Upstream>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let left = self.0.under_way.get() - 1;
        self.0.under_way.set(left);
        if left == 0 {
            let call = self.0.when_idle.borrow_mut().take();
            if let Some(call) = call {
                call();
            }
        }
    }
}

/// What an answer holds until it has passed.
pub(super) struct Lease {
    /// `None` for an answer that does not end by itself.
    under_way: Option<UnderWay>,
    /// The connection that it comes through, with its program; `None` if others share it.
    connection: Option<(Rc<Upstream>, Connection)>,
    request: Rc<Progress>,
}

impl Lease {
    pub(super) fn new(
        under_way: Option<UnderWay>,
        connection: Option<(Rc<Upstream>, Connection)>,
        request: Rc<Progress>,
    ) -> Self {
        Self { under_way, connection, request }
    }

    /// Makes the connection usable for the next request, as all of the answer has arrived.
    pub(super) fn give_back(self) {
        let Self { under_way, connection, request } = self;
        if let Some((upstream, connection)) = connection
            && request.has_ended.get()
        {
            upstream.give_back(connection);
        }
        drop(under_way);
    }
}

/// Counts the bytes that arrive.
struct Count(Arc<AtomicU64>);

impl Tap for Count {
    fn passes(&mut self, arrived: &[u8]) -> Passes {
        self.0.fetch_add(arrived.len() as u64, Ordering::Relaxed);
        Passes::All
    }

    /// A program that refuses a large request answers and closes the connection.
    fn may_answer_early(&self) -> bool {
        true
    }
}
