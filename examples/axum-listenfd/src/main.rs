//! A web server that is replaced without one refused connection. What it does for that is
//! numbered; without hotrun it is a server like any other.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use axum::{Router, routing::get};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

const GREETING: &str = "Hello from axum";

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let app = Router::new().route("/", get(|| async { GREETING }));

    // 1. The socket that hotrun holds, if there is one.
    let listener = match ListenFd::from_env().take_tcp_listener(0)? {
        Some(inherited) => {
            // 2. tokio wants it so; hotrun does not, as it does not know who comes next.
            inherited.set_nonblocking(true)?;
            TcpListener::from_std(inherited)?
        }
        None => TcpListener::bind("127.0.0.1:3000").await?,
    };

    // 3. Listen for the signal before anybody is told that it may be sent.
    let mut terminate = signal(SignalKind::terminate())?;
    // 4. "I serve": now the old program is asked to end.
    let _ = sd_notify::notify(&[NotifyState::Ready]);

    // 5. When asked to end, take no more connections, and then finish what was begun.
    let (close, closed) = watch::channel(false);
    axum::serve(Door { listener, closed }, app)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
            let _ = close.send(true);
            // Whoever was let in just now is about to ask, and would be shown the door.
            tokio::time::sleep(Duration::from_millis(100)).await;
        })
        .await
}

/// Lets nobody in after it was closed.
struct Door {
    listener: TcpListener,
    closed: watch::Receiver<bool>,
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        tokio::select! {
            _ = self.closed.changed() => pending().await,
            accepted = Listener::accept(&mut self.listener) => accepted,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
