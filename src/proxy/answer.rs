//! What the proxy answers itself.

use std::fmt;
use std::io;
use std::time::Duration;

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::http::uri::PathAndQuery;
use hyper::{Response, StatusCode, Uri};

use super::body::Answer;
use super::head::{Refusal, without_port};
use super::spoken;
use super::upstream::{Place, Upstream};
use crate::notice::Absence;

/// Why a request got no answer from a program.
#[derive(Debug)]
pub(super) enum Failure {
    /// No program was ready in time.
    NoneReady { why: Absence, waited: Duration },
    /// Too many requests wait already.
    Crowded,
    /// The program does not accept connections. `waited`: it never has, and may do so later.
    NotConnected { place: String, error: io::ErrorKind, waited: Option<Duration> },
    /// The program has closed the connection, or has answered what is no HTTP.
    Broken { error: String, has_begun: bool },
    /// The client has sent a body that is malformed, or not all of it.
    Body,
    /// The program has switched to a protocol that the client did not ask for.
    NotAsked,
    /// The request is gone.
    Lost,
}

impl Failure {
    pub(super) fn not_connected(
        upstream: &Upstream,
        error: &io::Error,
        waited: Option<Duration>,
    ) -> Self {
        let place = match &upstream.place {
            Place::Tcp(addresses) => {
                addresses.first().map_or_else(String::new, |one| format!("port {}", one.port()))
            }
            Place::Unix(path) => path.display().to_string(),
        };
        Failure::NotConnected { place, error: error.kind(), waited }
    }

    fn status(&self) -> StatusCode {
        match self {
            Failure::NoneReady { .. }
            | Failure::Crowded
            | Failure::NotConnected { waited: Some(_), .. } => StatusCode::SERVICE_UNAVAILABLE,
            Failure::NotConnected { error: io::ErrorKind::TimedOut, .. } => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Failure::Body => StatusCode::BAD_REQUEST,
            Failure::NotConnected { .. }
            | Failure::Broken { .. }
            | Failure::NotAsked
            | Failure::Lost => StatusCode::BAD_GATEWAY,
        }
    }

    pub(super) fn into_response(self) -> Response<Answer> {
        let mut response = text(self.status(), &self.to_string());
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoneReady { why: Absence::Ending, .. } => Absence::Ending.fmt(f),
            Failure::NoneReady { why, waited } => {
                write!(f, "{why}{}", for_how_long(*waited))
            }
            Failure::Crowded => {
                write!(f, "too many requests wait for the program ({} at most)", super::MAX_WAITING)
            }
            Failure::NotConnected { place, error, waited } => {
                write!(f, "the program does not accept connections on {place}: {error}")?;
                match waited {
                    Some(waited) => write!(f, "{}", for_how_long(*waited)),
                    None => Ok(()),
                }
            }
            Failure::Broken { error, has_begun: false } => {
                write!(f, "the program closed the connection without an answer: {error}")
            }
            Failure::Broken { error, has_begun: true } => {
                write!(f, "the program's answer is not HTTP, or incomplete: {error}")
            }
            Failure::Body => f.write_str("the body of the request is malformed or incomplete"),
            Failure::NotAsked => f.write_str("the program switched to another protocol unasked"),
            Failure::Lost => f.write_str("the request could not be sent again"),
        }
    }
}

fn for_how_long(waited: Duration) -> String {
    format!("; the request has waited for {} (proxy.hold)", spoken(waited))
}

/// The answer to a request that is not passed on.
pub(super) fn refused(refusal: &Refusal) -> Response<Answer> {
    match refusal {
        Refusal::Malformed(why) => text(StatusCode::BAD_REQUEST, why),
        Refusal::Foreign(host) => {
            let shown = crate::text::visible(host);
            let name = without_port(host).unwrap_or(host);
            let name = crate::text::visible(name);
            text(
                StatusCode::FORBIDDEN,
                &format!(
                    "this proxy is not for the host {shown}, but for localhost\n\n\
                     If the host is yours, add it to hotrun.toml:\n\n  \
                     [proxy]\n  hosts = [\"{name}\"]"
                ),
            )
        }
    }
}

/// Sends a request without TLS to the same place with TLS. Not for ever: what is on a port changes
/// from project to project.
pub(super) fn to_tls(host: &str, uri: &Uri) -> Response<Answer> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let url = format!("https://{host}{path}");
    let mut response = text(StatusCode::TEMPORARY_REDIRECT, &format!("this is at {url}"));
    if let Ok(url) = HeaderValue::from_str(&url) {
        response.headers_mut().insert(LOCATION, url);
    }
    response
}

fn text(status: StatusCode, text: &str) -> Response<Answer> {
    let mut response = Response::new(Answer::text(format!("hotrun: {text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
