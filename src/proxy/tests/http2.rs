//! HTTP/2 without TLS, as clients with prior knowledge of it speak it.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet, spawn_local};

use super::{Front, LONG, Program, Serving, settings, with_body};
use crate::config;
use crate::event::Proc;
use crate::notice::Absence;
use crate::proxy::{Generation, LocalExecutor, Place};

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = async { tokio::time::timeout(LONG, test).await.expect("it ends in time") };
    LocalSet::new().block_on(&runtime, test)
}

async fn connect(front: &Front) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(front.address).await.unwrap();
    let (sender, connection) = http2::handshake(LocalExecutor, TokioIo::new(stream)).await.unwrap();
    spawn_local(connection);
    sender
}

fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"))
        .version(Version::HTTP_2)
        .body(Full::new(body.into()))
        .unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn a_get_becomes_one_of_http_1_1() {
    let program = Program::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=1\r\n\
         Set-Cookie: b=2\r\nContent-Length: 1\r\n\r\na",
    );
    let front = Front::of(&program);
    run(async {
        let mut sender = connect(&front).await;
        let mut get = request("GET", "/a%2Fb?c;d", "");
        get.headers_mut().append("cookie", HeaderValue::from_static("a=1"));
        get.headers_mut().append("cookie", HeaderValue::from_static("b=2"));
        let response = sender.send_request(get).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
        assert!(!response.headers().contains_key("connection"));
        assert!(!response.headers().contains_key("keep-alive"));
        assert!(!response.headers().contains_key("date"));
        assert_eq!(text(response).await, "a");
    });
    let request = program.request();
    assert_eq!(request.lines()[0], "GET /a%2Fb?c;d HTTP/1.1");
    assert_eq!(request.field("host"), Some("localhost"));
    assert_eq!(request.field("cookie"), Some("a=1; b=2"));
    assert_eq!(request.field("transfer-encoding"), None);
    assert_eq!(request.field("content-length"), None);
}

#[test]
fn a_post_passes_with_its_body() {
    let program = Program::echoing();
    let front = Front::of(&program);
    let body = "a".repeat(3_000_000);
    run(async {
        let mut sender = connect(&front).await;
        let response = sender.send_request(request("POST", "/?q=1", body.clone())).await.unwrap();
        assert!(text(response).await == body);
    });
    assert_eq!(program.request().lines()[0], "POST /?q=1 HTTP/1.1");
}

#[test]
fn many_requests_share_one_connection() {
    let program = Program::echoing();
    let front = Front::of(&program);
    run(async {
        let sender = connect(&front).await;
        let mut all = JoinSet::new();
        for number in 0..300 {
            let mut sender = sender.clone();
            all.spawn_local(async move {
                let body = format!("body {number}");
                let post = request("POST", "/", body.clone());
                let response = sender.send_request(post).await.unwrap();
                assert_eq!(text(response).await, body);
            });
        }
        let mut count = 0;
        while let Some(ended) = all.join_next().await {
            ended.unwrap();
            count += 1;
        }
        assert_eq!(count, 300);
    });
    assert_eq!(program.requests().len(), 300);
}

#[test]
fn a_foreign_host_is_refused() {
    let program = Program::answering(with_body("a"));
    let front = Front::of(&program);
    run(async {
        let mut sender = connect(&front).await;
        let mut foreign = request("GET", "/", "");
        *foreign.uri_mut() = "http://evil.example/".parse().unwrap();
        let response = sender.send_request(foreign).await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let mut two = request("GET", "/", "");
        two.headers_mut().insert("host", HeaderValue::from_static("evil.example"));
        let response = sender.send_request(two).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    });
    assert!(program.requests().is_empty());
}

#[test]
fn a_request_that_waits_is_answered_and_one_that_is_given_up_is_not_delivered() {
    let program = Program::echoing();
    let front = Front::alone(LONG);
    run(async {
        let sender = connect(&front).await;
        let (mut one, mut other) = (sender.clone(), sender);
        let given_up = spawn_local(async move {
            one.send_request(request("POST", "/gone", "body")).await.map(drop)
        });
        let answered = spawn_local(async move {
            text(other.send_request(request("POST", "/", "body")).await.unwrap()).await
        });
        tokio::task::yield_now().await;
        given_up.abort();
        assert!(given_up.await.unwrap_err().is_cancelled());
        // What is refused shows that the end of the other has come.
        let mut sender = connect(&front).await;
        let mut foreign = request("GET", "/", "");
        *foreign.uri_mut() = "http://evil.example/".parse().unwrap();
        sender.send_request(foreign).await.unwrap();
        front.serve(&program, 1);
        assert_eq!(answered.await.unwrap(), "body");
    });
    let requests = program.requests();
    assert!(requests.iter().filter(|one| one.head.starts_with("POST / ")).count() == 1);
}

/// A program that speaks HTTP/2 alone, and answers with the body, fields of its request and
/// trailers, as one of gRPC does.
fn grpc() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(|request: Request<Incoming>| async move {
                    let seen = format!(
                        "{:?} {} te={:?} for={:?}",
                        request.version(),
                        request.uri(),
                        request.headers().get("te"),
                        request.headers().get("x-forwarded-for"),
                    );
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let trailers = HeaderMap::from_iter([(
                        "grpc-status".parse().unwrap(),
                        HeaderValue::from_static("0"),
                    )]);
                    let body = Full::new(body).with_trailers(async { Some(Ok(trailers)) });
                    let answer = Response::builder().header("x-seen", seen).body(body).unwrap();
                    Ok::<_, Infallible>(answer)
                });
                let server = hyper::server::conn::http2::Builder::new(LocalExecutor);
                spawn_local(server.serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    address
}

fn call(path: &str) -> Request<Full<Bytes>> {
    let mut call = request("POST", path, &b"\0\0\0\0\x03abc"[..]);
    let headers = call.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    call
}

#[test]
fn grpc_passes_over_http_2_with_its_trailers() {
    let address = grpc();
    let place = Place::Tcp(vec![address]);
    let generation = Generation { proc: Proc(1), number: 1, place };
    let config = config::Proxy { debug_headers: true, ..settings() };
    let front = Front::start(config, Serving::By(generation));
    run(async {
        let sender = connect(&front).await;
        let mut all = JoinSet::new();
        for _ in 0..50 {
            let mut sender = sender.clone();
            all.spawn_local(async move {
                let response = sender.send_request(call("/pkg.Service/Method")).await.unwrap();
                assert_eq!(response.headers()["x-hotrun-generation"], "1");
                let seen = response.headers()["x-seen"].to_str().unwrap().to_owned();
                assert_eq!(
                    seen,
                    "HTTP/2.0 http://localhost/pkg.Service/Method te=Some(\"trailers\") \
                     for=Some(\"127.0.0.1\")"
                );
                let body = response.into_body().collect().await.unwrap();
                assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
                assert_eq!(body.to_bytes(), &b"\0\0\0\0\x03abc"[..]);
            });
        }
        while let Some(ended) = all.join_next().await {
            ended.unwrap();
        }
    });
    front.show(Serving::None(Absence::Restarting), &[1]);
    front.wait_until_drained(1);
}

#[test]
fn a_program_without_http_2_is_named_to_a_client_of_grpc() {
    let program = Program::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let front = Front::of(&program);
    run(async {
        let mut sender = connect(&front).await;
        let response = sender.send_request(call("/a")).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    });
}

#[test]
fn trailers_of_a_program_of_http_1_1_reach_a_client_of_http_2() {
    let program = Program::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\n\
         X-Sum: 6\r\n\r\n",
    );
    let front = Front::of(&program);
    run(async {
        let mut sender = connect(&front).await;
        let response = sender.send_request(request("GET", "/", "")).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-sum"], "6");
    });
}
