//! TLS towards clients; the program speaks plain HTTP.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{Front, LONG, Program, get, settings};
use crate::config;
use crate::proxy::Serving;

/// A proxy with a certificate, in front of a program.
struct Secure {
    front: Front,
    certificate: CertificateDer<'static>,
    _place: tempfile::TempDir,
}

impl Secure {
    fn of(program: &Program) -> Self {
        let place = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert, key) = (place.path().join("cert.pem"), place.path().join("key.pem"));
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let tls = Some(config::Tls::Files { cert, key });
        let config = config::Proxy { tls, ..settings() };
        let front = Front::start(config, Serving::By(program.generation(1)));
        Self { front, certificate: made.cert.der().clone(), _place: place }
    }

    /// A connection of a client that speaks one of these protocols.
    fn client(&self, protocols: &[&str]) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(self.front.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        StreamOwned::new(connection, stream)
    }
}

#[test]
fn a_request_with_tls_arrives_as_one_that_was_forwarded_from_https() {
    let program = Program::echoing();
    let secure = Secure::of(&program);
    let mut client = secure.client(&["http/1.1"]);
    client.write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let request = program.request();
    assert_eq!(request.lines()[0], "GET /x HTTP/1.1");
    assert_eq!(request.field("x-forwarded-proto"), Some("https"));
    assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn a_client_that_speaks_http_2_gets_it() {
    let program = Program::echoing();
    let secure = Secure::of(&program);
    let mut client = secure.client(&["h2", "http/1.1"]);
    // The preface, and an empty SETTINGS frame.
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut head = [0; 9];
    client.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "its SETTINGS frame");
    assert_eq!(client.conn.alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn a_request_without_tls_is_sent_to_the_same_place_with_it() {
    let program = Program::echoing();
    let secure = Secure::of(&program);
    let reply = secure.front.ask(get("/a?b=c"));
    assert_eq!(reply.status(), 307);
    assert_eq!(reply.field("location"), Some("https://localhost/a?b=c"));
    let reply = secure.front.ask("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert_eq!(reply.status(), 403, "but not a foreign one");
}

#[test]
fn what_is_neither_tls_nor_http_costs_only_its_own_connection() {
    let program = Program::echoing();
    let secure = Secure::of(&program);
    let mut broken = TcpStream::connect(secure.front.address).unwrap();
    broken.set_read_timeout(Some(LONG)).unwrap();
    // It begins like a handshake.
    broken.write_all(&[22, 3, 1, 0, 4, 9, 9, 9, 9]).unwrap();
    let mut rest = Vec::new();
    let _ = broken.read_to_end(&mut rest);
    assert_eq!(secure.front.ask(get("/")).status(), 307);
}
