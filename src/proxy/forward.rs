//! One request: waits for a program that is ready, and sends it there, once.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::answer::{self, Failure};
use super::body::{Answer, is_endless};
use super::head::{self, Client};
use super::state::State;
use super::upload::{Progress, Upload};
use super::upstream::{AnsweredBy, Connection, Lease, UnderWay, Upstream};
use crate::notice::Absence;

/// Maximum number of connections that a running program refuses for one request.
const MAX_CONNECTS: u32 = 3;
/// Delay before the next one.
const CONNECT_DELAY: Duration = Duration::from_millis(100);
/// Maximum number of times that a request is sent of which nothing has arrived.
const MAX_SENDS: u32 = 4;
/// Time within which the end of a program is known after it has closed a connection.
const END_KNOWN_AFTER: Duration = Duration::from_millis(200);

/// A connection of a client.
pub(super) struct Origin {
    pub(super) client: Client,
    /// Whether it came without TLS where there is TLS.
    pub(super) to_tls: bool,
    /// Set when the connection becomes a tunnel.
    pub(super) is_tunnel: Arc<AtomicBool>,
}

/// Answers a request of a client.
pub(super) async fn answer(
    state: Rc<State>,
    origin: Rc<Origin>,
    request: Request<Incoming>,
) -> Response<Answer> {
    let (mut parts, body) = request.into_parts();
    let host = match head::host_of(&parts) {
        Ok(host) => host,
        Err(refusal) => return answer::refused(&refusal),
    };
    let settings = state.settings();
    if let Err(refusal) = settings.hosts.check(&host) {
        return answer::refused(&refusal);
    }
    if origin.to_tls {
        return answer::to_tls(&host, &parts.uri);
    }
    if parts.method == Method::CONNECT {
        return answer::refused(&head::Refusal::Malformed("CONNECT is for other proxies"));
    }
    let version = parts.version;
    let is_grpc = is_grpc(&parts);
    let on_client = parts.extensions.remove::<OnUpgrade>();
    let upgrade = head::for_program(&mut parts, origin.client, &host);
    let route = state.route(parts.uri.path());
    let upload = Upload::new(body);
    let mut sending = Sending::new(state, route, parts, upload);
    if is_grpc {
        return match sending.over_h2().await {
            Ok(response) => response,
            Err(failure) => failure.into_response(),
        };
    }
    match sending.over_h1().await {
        Ok(answered) => {
            let tunnel = on_client.zip(upgrade).map(|(on_client, _)| (on_client, origin));
            answered.into_response(tunnel, version)
        }
        Err(failure) => failure.into_response(),
    }
}

/// gRPC needs HTTP/2 from end to end.
fn is_grpc(parts: &request::Parts) -> bool {
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    parts.version == Version::HTTP_2
        && kind.is_some_and(|kind| {
            kind.strip_prefix("application/grpc")
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
        })
}

/// A request on its way.
struct Sending {
    state: Rc<State>,
    /// A program that hotrun does not run, if the path leads to one.
    route: Option<Rc<Upstream>>,
    /// `None` while it is sent.
    request: Option<Request<Upload>>,
    /// The head, if the request can be sent again.
    again: Option<request::Parts>,
    progress: Rc<Progress>,
    began: Instant,
    until: Instant,
    /// Whether it was sent to a program that ended before it answered.
    was_cut_off: bool,
    connects: u32,
    sends: u32,
}

/// An answer of a program, of which the head has arrived.
struct Answered {
    response: Response<Incoming>,
    under_way: UnderWay,
    /// The program, and the connection to it.
    upstream: Rc<Upstream>,
    connection: Connection,
    request: Rc<Progress>,
}

/// What follows from an attempt that has failed.
enum Next {
    /// Another attempt.
    Again,
    Fail(Failure),
}

impl Sending {
    fn new(
        state: Rc<State>,
        route: Option<Rc<Upstream>>,
        mut parts: request::Parts,
        mut upload: Upload,
    ) -> Self {
        let is_empty = upload.is_end_stream();
        let progress = upload.progress();
        let again =
            (is_empty && parts.method.is_idempotent()).then(|| head::for_another_time(&parts));
        let is_expected = parts
            .headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let asked = (is_expected && !is_empty).then(|| Arc::new(Notify::new()));
        if let Some(asked) = &asked {
            upload.wait_for(Arc::clone(asked));
        }
        let began = Instant::now();
        let until = began + state.settings().hold;
        parts.version = Version::HTTP_11;
        let mut request = Request::from_parts(parts, upload);
        if let Some(asked) = asked {
            hyper::ext::on_informational(&mut request, move |answer| {
                if answer.status() == StatusCode::CONTINUE {
                    asked.notify_one();
                }
            });
        }
        Self {
            state,
            route,
            request: Some(request),
            again,
            progress,
            began,
            until,
            was_cut_off: false,
            connects: 0,
            sends: 0,
        }
    }

    /// Returns the program to send it to, when there is one that is ready.
    async fn upstream(&self) -> Result<Rc<Upstream>, Failure> {
        match &self.route {
            Some(route) => Ok(Rc::clone(route)),
            None => self.state.ready(self.until).await,
        }
    }

    /// Sends the request over HTTP/1.1.
    async fn over_h1(&mut self) -> Result<Answered, Failure> {
        // Without it, hyper sends no body with a GET whose length is not known.
        if let Some(request) = &mut self.request
            && !request.body().is_end_stream()
            && !request.headers().contains_key(CONTENT_LENGTH)
        {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        loop {
            let upstream = self.upstream().await?;
            let under_way = upstream.begin();
            let connection = match self.connection(&upstream).await {
                Ok(connection) => connection,
                Err(Next::Again) => continue,
                Err(Next::Fail(failure)) => return Err(failure),
            };
            match self.send(&upstream, connection).await {
                Ok((response, connection)) => {
                    return Ok(Answered {
                        response,
                        under_way,
                        request: Rc::clone(&self.progress),
                        upstream,
                        connection,
                    });
                }
                Err(Next::Again) => {}
                Err(Next::Fail(failure)) => return Err(failure),
            }
        }
    }

    /// A program may close a connection that is idle in the moment in which the next request is
    /// sent. One that must not be sent twice gets a connection of its own, so that it never has to
    /// be; so does one that is sent again, as the program may have closed them all.
    async fn connection(&mut self, upstream: &Rc<Upstream>) -> Result<Connection, Next> {
        if self.again.is_some()
            && self.sends == 0
            && let Some(connection) = upstream.reuse().await
        {
            return Ok(connection);
        }
        match upstream.connect().await {
            Ok(connection) => Ok(connection),
            Err(error) => Err(self.not_connected(upstream, &error).await),
        }
    }

    /// Nothing was sent, so any request may be sent again.
    async fn not_connected(&mut self, upstream: &Rc<Upstream>, error: &std::io::Error) -> Next {
        self.connects += 1;
        // One that has never accepted a connection is not ready yet.
        let is_expected = upstream.generation.is_some() && !upstream.was_reached();
        if self.connects < MAX_CONNECTS || is_expected && Instant::now() < self.until {
            sleep(CONNECT_DELAY).await;
            return Next::Again;
        }
        if is_expected {
            let waited = self.state.waited_in_vain(Absence::NotListening, self.began);
            return Next::Fail(Failure::not_connected(upstream, error, Some(waited)));
        }
        // It may have ended in the meantime: then another one follows.
        if self.state.ends_soon(upstream, END_KNOWN_AFTER).await {
            self.connects = 0;
            return Next::Again;
        }
        Next::Fail(Failure::not_connected(upstream, error, None))
    }

    async fn send(
        &mut self,
        upstream: &Rc<Upstream>,
        mut connection: Connection,
    ) -> Result<(Response<Incoming>, Connection), Next> {
        let Some(request) = self.request.take().or_else(|| self.copy()) else {
            return Err(Next::Fail(Failure::Lost));
        };
        self.sends += 1;
        let before = connection.received();
        let mut failed = match connection.sender.try_send_request(request).await {
            Ok(response) => return Ok((response, connection)),
            Err(failed) => failed,
        };
        self.request = failed.take_message();
        let is_unsent = self.request.is_some();
        if self.progress.has_failed.get() {
            return Err(Next::Fail(Failure::Body));
        }
        let error = failed.into_error();
        let has_begun = connection.received() != before;
        tracing::debug!(%error, is_unsent, has_begun, "a request");
        let may_repeat = is_unsent || self.again.is_some() && !has_begun;
        if !may_repeat || self.sends >= MAX_SENDS {
            return Err(Next::Fail(Failure::Broken { error: error.to_string(), has_begun }));
        }
        // A connection that was idle is no sign of anything else.
        if is_unsent || connection.is_used {
            return Err(Next::Again);
        }
        // The request itself may have ended the program: it is sent to one more, and only if that
        // follows by itself.
        let is_first = !std::mem::replace(&mut self.was_cut_off, true);
        if is_first
            && self.state.ends_soon(upstream, END_KNOWN_AFTER).await
            && self.state.is_followed()
        {
            return Err(Next::Again);
        }
        Err(Next::Fail(Failure::Broken { error: error.to_string(), has_begun }))
    }

    /// Returns the request once more.
    fn copy(&self) -> Option<Request<Upload>> {
        let parts = self.again.clone()?;
        Some(Request::from_parts(parts, Upload::empty(Rc::clone(&self.progress))))
    }

    /// Sends the request over HTTP/2.
    async fn over_h2(&mut self) -> Result<Response<Answer>, Failure> {
        loop {
            let upstream = self.upstream().await?;
            let under_way = upstream.begin();
            let mut sender = match upstream.connect_h2().await {
                Ok(sender) => sender,
                Err(error) => match self.not_connected(&upstream, &error).await {
                    Next::Again => continue,
                    Next::Fail(failure) => return Err(failure),
                },
            };
            let Some(mut request) = self.request.take() else { return Err(Failure::Lost) };
            *request.version_mut() = Version::HTTP_2;
            with_authority(&mut request);
            let mut failed = match sender.try_send_request(request).await {
                Ok(response) => {
                    let lease = Lease::new(Some(under_way), None, Rc::clone(&self.progress));
                    return Ok(passed_by(upstream.answered_by(), response, lease));
                }
                Err(failed) => failed,
            };
            self.sends += 1;
            self.request = failed.take_message();
            if self.request.is_none() || self.sends >= MAX_SENDS {
                let error = failed.into_error().to_string();
                return Err(Failure::Broken { error, has_begun: false });
            }
        }
    }
}

/// In HTTP/2 the URL of a request names the host.
fn with_authority(request: &mut Request<Upload>) {
    let Some(host) = request.headers_mut().remove(hyper::header::HOST) else { return };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(hyper::http::uri::Scheme::HTTP);
    parts.authority = host.to_str().ok().and_then(|host| host.parse().ok());
    if let Ok(uri) = hyper::Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

impl Answered {
    /// `tunnel`: the connection of the client, if it asked for an upgrade.
    fn into_response(
        self,
        tunnel: Option<(OnUpgrade, Rc<Origin>)>,
        version: Version,
    ) -> Response<Answer> {
        let Self { mut response, under_way, upstream, connection, request } = self;
        let upgrade = head::upgrade_of(response.headers(), Version::HTTP_11);
        head::for_client(response.headers_mut());
        *response.version_mut() =
            if version == Version::HTTP_2 { version } else { Version::HTTP_11 };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some((on_client, origin)) = tunnel else {
                return Failure::NotAsked.into_response();
            };
            // A tunnel ends when it ends: nothing waits for it.
            drop(under_way);
            let on_program = hyper::upgrade::on(&mut response);
            origin.is_tunnel.store(true, Ordering::Relaxed);
            spawn_local(async move {
                // Its connection stays with the tunnel.
                let _connection = connection;
                carry(on_client, on_program).await;
            });
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            if let Some(protocol) = upgrade {
                headers.insert(UPGRADE, protocol);
            }
            return response.map(|body| Answer::passed(body, None));
        }
        let under_way = Some(under_way).filter(|_| !is_endless(response.headers()));
        let by = upstream.answered_by();
        let lease = Lease::new(under_way, Some((upstream, connection)), request);
        passed_by(by, response, lease)
    }
}

/// The answer of this generation, on its way to the client.
fn passed_by(
    by: Option<AnsweredBy>,
    response: Response<Incoming>,
    lease: Lease,
) -> Response<Answer> {
    let mut response = response.map(|body| Answer::passed(body, Some(lease)));
    if let Some(by) = by {
        response.extensions_mut().insert(by);
    }
    response
}

/// Carries bytes both ways until both sides have ended.
async fn carry(client: OnUpgrade, program: OnUpgrade) {
    let (Ok(client), Ok(program)) = (client.await, program.await) else { return };
    let (mut client, mut program) = (TokioIo::new(client), TokioIo::new(program));
    // When one side ends, the stream to the other one is closed.
    let _ = copy_bidirectional(&mut client, &mut program).await;
}
