//! What clients get from real programs, directly and through the proxy: the same bytes in the body,
//! the same fields in the head.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use super::{Answer, Connection, free_ports};
use crate::sandbox::{Sandbox, has, may_fetch};

const EXPRESS: &str = include_str!("apps/express.js");
const STARLETTE: &str = include_str!("apps/starlette.py");
const GIN: &str = include_str!("apps/gin.go.txt");
const AXUM: &str = include_str!("apps/axum.rs.txt");
/// The versions are those of `examples/axum-listenfd`.
const AXUM_MANIFEST: &str = "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
    [profile.dev]\ndebug = false\n[dependencies]\n\
    axum = { version = \"0.8\", features = [\"multipart\"] }\nfutures-util = \"0.3\"\n\
    serde_json = \"1\"\ntokio = { version = \"1\", features = [\"full\"] }\n\
    tower-http = { version = \"0.6\", features = [\"fs\"] }\n";

/// Fields that concern one connection alone.
const HOP_BY_HOP: [&str; 3] = ["connection", "keep-alive", "transfer-encoding"];

/// What the proxy adds to a request. A program that repeats what it gets is to repeat the same.
const ADDED: &str = "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n\
    x-forwarded-host: localhost\r\nforwarded: for=127.0.0.1;host=localhost;proto=http\r\n";

/// A request: its first line and its fields but for `Host`, and its body.
type Request = (&'static str, &'static [u8]);

const MULTIPART: &[u8] =
    b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x\r\nContent-Disposition: \
      form-data; name=\"file\"; filename=\"f.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n\
      \x00\x01\r\n\xff--y\r\n--x--\r\n";

const REQUESTS: [Request; 37] = [
    ("GET /echo/a%2Fb//c;d=1/%C3%A9?x=1&y=%20+;z?/../ HTTP/1.1", b""),
    ("GET /echo?", b""),
    ("GET /echo//", b""),
    ("GET /echo/./a/../b", b""),
    ("GET //echo", b""),
    ("GET /", b""),
    ("GET /missing", b""),
    (
        "GET /echo/fields\r\nX-Empty:\r\nX-Twice: a\r\nx-twice: b\r\nX-Case: Kept\r\nAccept: */*",
        b"",
    ),
    ("GET /echo/auth\r\nAuthorization: Basic YTpi\r\nReferer: http://localhost/?a", b""),
    ("GET /echo/origin\r\nOrigin: http://localhost:5173\r\nSec-Fetch-Mode: cors", b""),
    ("POST /json?a=1&a=2&b=%26\r\nContent-Type: application/json", b"{\"x\": [1, \"\xc3\xa9\"]}"),
    ("POST /json\r\nContent-Type: application/json", b"{\"x\": "),
    ("POST /form\r\nContent-Type: application/x-www-form-urlencoded", b"a=1&b=%C3%A9+x"),
    ("POST /echo/form\r\nContent-Type: application/x-www-form-urlencoded", b"a=1&b=%C3%A9+x"),
    ("POST /echo/multipart\r\nContent-Type: multipart/form-data; boundary=x", MULTIPART),
    ("PUT /echo/put\r\nIf-Match: \"x\"", b"put"),
    ("PATCH /echo/patch", b"patch"),
    ("DELETE /echo/delete", b"with a body"),
    ("DELETE /echo/delete", b""),
    ("OPTIONS /echo/options\r\nAccess-Control-Request-Method: PUT", b""),
    ("PROPFIND /echo/dav\r\nDepth: 1", b"<a/>"),
    ("HEAD /file", b""),
    ("HEAD /echo/head", b""),
    ("HEAD /missing", b""),
    ("GET /redirect", b""),
    ("GET /cookies\r\nCookie: c=1; d=\"2\"", b""),
    ("GET /gzip\r\nAccept-Encoding: gzip, br", b""),
    ("GET /stream", b""),
    ("GET /fail", b""),
    ("POST /missing", b"to nowhere"),
    ("GET /file", b""),
    ("GET /file\r\nRange: bytes=5-14", b""),
    ("GET /file\r\nRange: bytes=-7", b""),
    ("GET /file\r\nRange: bytes=1048570-", b""),
    ("GET /file\r\nRange: bytes=99999999-", b""),
    ("GET /file\r\nIf-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT", b""),
    ("POST /form\r\nContent-Type: multipart/form-data; boundary=x", MULTIPART),
];

/// Where requests are sent.
struct Asked {
    port: u16,
    /// Whether all of them use one connection.
    is_kept: bool,
    connection: Option<Connection>,
}

impl Asked {
    fn ask(&mut self, method: &str, bytes: &[u8]) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.port)?,
        };
        connection.send(bytes)?;
        let answer = connection.answer(method)?;
        if self.is_kept && !answer.closes() {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

/// What is compared of an answer, in words.
fn shown(answer: &Answer) -> String {
    let mut text = format!("{}\n", answer.status);
    for (name, value) in &answer.fields {
        let value = if name.eq_ignore_ascii_case("date") { "NOW" } else { value };
        // hyper writes the length of an empty body last.
        let is_empty = name.eq_ignore_ascii_case("content-length") && value == "0";
        if !is_empty && !HOP_BY_HOP.contains(&name.to_ascii_lowercase().as_str()) {
            writeln!(text, "{name}: {value}").unwrap();
        }
    }
    let is_chunked = answer.field("Transfer-Encoding").is_some();
    let length = answer.field("Content-Length").unwrap_or("none");
    writeln!(text, "length {length}, chunked: {is_chunked}").unwrap();
    text.push_str(&answer.body.escape_ascii().to_string());
    text
}

/// The bytes of a request as the proxy sends it, or as a client sends it to the proxy.
fn bytes_of((head, body): Request, as_chunks: bool, is_proxied: bool) -> Vec<u8> {
    let added = if is_proxied { ADDED } else { "" };
    let (first, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    let first = first.trim_end_matches(" HTTP/1.1");
    let mut bytes = format!("{first} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    if !fields.is_empty() {
        bytes.extend(format!("{fields}\r\n").bytes());
    }
    if as_chunks {
        // hyper writes trailers in lower case.
        bytes
            .extend(format!("Trailer: x-sum\r\n{added}Transfer-Encoding: chunked\r\n\r\n").bytes());
        for part in body.chunks(3) {
            write!(bytes, "{:x}\r\n", part.len()).unwrap();
            bytes.extend(part);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\nx-sum: 7\r\n\r\n");
    } else {
        if !body.is_empty() {
            bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
        }
        bytes.extend(format!("{added}\r\n").bytes());
        bytes.extend(body);
    }
    bytes
}

/// Runs the program behind the proxy, and asks it in both ways.
fn answers_alike(project: &Sandbox, config: &str) {
    let [port, app] = free_ports();
    project.sh(
        "head -c 1048576 /dev/urandom > large.bin && yes text | head -n 999 | gzip -n > text.gz",
    );
    project.save(
        "hotrun.toml",
        &format!(
            "{config}[env]\nPORT = \"{app}\"\n[proxy]\nproxy_port = {port}\napp_port = {app}\n"
        ),
    );
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("ready");
    let mut direct = Asked { port: app, is_kept: false, connection: None };
    let mut proxied = Asked { port, is_kept: true, connection: None };
    let (mut differences, mut count) = (String::new(), 0);
    for request in REQUESTS {
        let method = request.0.split(' ').next().unwrap();
        for as_chunks in [false, true] {
            if as_chunks && request.1.is_empty() {
                continue;
            }
            let answers = [(&mut direct, true), (&mut proxied, false)].map(|(way, is_proxied)| {
                let bytes = bytes_of(request, as_chunks, is_proxied);
                let answer = way.ask(method, &bytes).unwrap_or_else(|error| {
                    panic!("{} on port {}: {error}\n{}", request.0, way.port, hotrun.output())
                });
                shown(&answer)
            });
            count += 1;
            if answers[0] != answers[1] {
                let [direct, proxied] = answers;
                writeln!(
                    differences,
                    "--- {} {as_chunks}\n{direct:.1500}\n+++\n{proxied:.1500}",
                    request.0
                )
                .unwrap();
            }
        }
    }
    hotrun.end();
    assert!(differences.is_empty(), "{differences}");
    assert!(count > REQUESTS.len());
}

#[test]
fn an_express_program_answers_alike_directly_and_through_the_proxy() {
    let test = "an_express_program_answers_alike_directly_and_through_the_proxy";
    if has(test, &["node", "npm"]) && may_fetch(test) {
        let project = Sandbox::empty().file("server.js", EXPRESS);
        project.sh("npm install --silent --no-audit --no-fund express@5");
        let config = "[build]\nentrypoint = \"node server.js\"\ninclude_ext = [\"js\"]\n";
        answers_alike(&project, config);
    }
}

#[test]
fn a_uvicorn_program_answers_alike_directly_and_through_the_proxy() {
    let test = "a_uvicorn_program_answers_alike_directly_and_through_the_proxy";
    if has(test, &["python3"]) && may_fetch(test) {
        let project = Sandbox::empty().file("app.py", STARLETTE);
        project.sh("python3 -m venv .venv && .venv/bin/pip install --quiet uvicorn starlette \
             python-multipart");
        let config = "[build]\nentrypoint = \".venv/bin/python app.py\"\ninclude_ext = [\"py\"]\n";
        answers_alike(&project, config);
    }
}

#[test]
fn a_gin_program_answers_alike_directly_and_through_the_proxy() {
    let test = "a_gin_program_answers_alike_directly_and_through_the_proxy";
    if has(test, &["go"]) && may_fetch(test) {
        answers_alike(&Sandbox::empty().of_example("gin").file("main.go", GIN), "");
    }
}

#[test]
fn an_axum_program_answers_alike_directly_and_through_the_proxy() {
    let test = "an_axum_program_answers_alike_directly_and_through_the_proxy";
    if has(test, &["cargo"]) && may_fetch(test) {
        let project = Sandbox::empty().file("Cargo.toml", AXUM_MANIFEST).file("src/main.rs", AXUM);
        answers_alike(&project, "");
    }
}
