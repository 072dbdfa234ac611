//! The side of the browsers: accepts connections, and serves the requests on each.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::forward::{self, Origin};
use super::head::Client;
use super::state::{Shared, State};
use super::strict::Strict;
use super::tap::{Stream, Tapped};
use super::upstream::AnsweredBy;
use super::{LocalExecutor, MAX_HEAD, Tls, View};

/// Maximum time for the head of a request to arrive, and for which a connection over HTTP/1.1 is
/// kept without one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Maximum time for TLS to be agreed on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first byte of a connection with TLS.
const TLS_HANDSHAKE: u8 = 22;
/// Delay before connections are accepted again when the system allows no further one.
const ACCEPT_DELAY: Duration = Duration::from_millis(50);

/// Serves until the engine drops its side of the channel.
pub(super) async fn run(mut changes: watch::Receiver<View>, shared: Arc<Shared>) {
    let first = changes.borrow_and_update().clone();
    let state = Rc::new(State::new(&first.config, shared));
    state.take_up(&first);
    let mut accepting = accept_all(&first, &state);
    let mut before = first;
    while changes.changed().await.is_ok() {
        let view = changes.borrow_and_update().clone();
        if view.config != before.config {
            state.configure(&view.config);
        }
        if view.listeners != before.listeners || view.tls != before.tls {
            // No two tasks accept from one socket.
            drop(accepting);
            accepting = accept_all(&view, &state);
        }
        state.take_up(&view);
        before = view;
    }
    drop(accepting);
}

/// Accepts connections until the tasks are dropped.
fn accept_all(view: &View, state: &Rc<State>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let tls = view.tls.as_ref().map(Tls::acceptor);
    for listener in view.listeners.iter() {
        match listener.try_clone().and_then(TcpListener::from_std) {
            Ok(listener) => {
                tasks.spawn_local(accept(listener, tls.clone(), Rc::clone(state)));
            }
            Err(error) => tracing::warn!(%error, "a socket of the proxy"),
        }
    }
    tasks
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Rc<State>) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                spawn_local(serve(stream, address, tls.clone(), Rc::clone(&state)));
            }
            Err(error) if is_of_one_connection(&error) => {}
            // Others may be closed meanwhile.
            Err(error) => {
                tracing::debug!(%error, "accept");
                sleep(ACCEPT_DELAY).await;
            }
        }
    }
}

/// Whether this is an error of a connection that was closed before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

async fn serve(stream: TcpStream, address: SocketAddr, tls: Option<TlsAcceptor>, state: Rc<State>) {
    // Fails only for a connection that is closed already.
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    // hyper waits for the first bytes without a limit.
    if !matches!(timeout(HEAD_TIMEOUT, stream.peek(&mut first)).await, Ok(Ok(1..))) {
        return;
    }
    let Some(tls) = tls else {
        return serve_stream(stream, Client { address, is_tls: false }, false, state).await;
    };
    let opened = async {
        if first[0] == TLS_HANDSHAKE { tls.accept(stream).await.map(Ok) } else { Ok(Err(stream)) }
    };
    match timeout(HANDSHAKE_TIMEOUT, opened).await {
        Ok(Ok(Ok(stream))) => {
            serve_stream(stream, Client { address, is_tls: true }, false, state).await;
        }
        Ok(Ok(Err(plain))) => {
            serve_stream(plain, Client { address, is_tls: false }, true, state).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake"),
        Err(_) => {}
    }
}

/// `to_tls`: whether every request is sent to the same place with TLS.
async fn serve_stream(
    stream: impl Stream + 'static,
    client: Client,
    to_tls: bool,
    state: Rc<State>,
) {
    let is_tunnel = Arc::new(AtomicBool::new(false));
    let stream = Tapped::new(stream, Strict::new(Arc::clone(&is_tunnel)));
    let origin = Rc::new(Origin { client, to_tls, is_tunnel });
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, origin) = (Rc::clone(&state), Rc::clone(&origin));
        async move {
            let shows_generation = state.settings().debug_headers;
            let mut response = forward::answer(state, origin, request).await;
            if shows_generation
                && let Some(AnsweredBy(number)) = response.extensions().get::<AnsweredBy>().copied()
            {
                response.headers_mut().insert("x-hotrun-generation", HeaderValue::from(number));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = auto::Builder::new(LocalExecutor);
    builder
        .http1()
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_buf_size(MAX_HEAD)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::trace!(error, "a connection of a client");
    }
}
