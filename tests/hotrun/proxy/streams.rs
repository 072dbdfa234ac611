//! Streams without an end (WebSocket, server-sent events), cut when their program is replaced: a
//! client that connects again gets the new version, and is never refused.

use std::io::{self, Read};

use super::Connection;
use crate::sandbox::{Sandbox, free_port, has, may_fetch, number_in};

/// A hand-written WebSocket, for programs without packages.
const NODE: &str = r"
const http = require('node:http'), crypto = require('node:crypto');
const version = 'VERSION';
const text = (text) => Buffer.concat([Buffer.from([0x81, text.length]), Buffer.from(text)]);
const server = http.createServer((request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  response.write(`data: ${version}\n\n`);
});
server.on('upgrade', (request, socket) => {
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = crypto.createHash('sha1').update(key).digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n' +
    `Connection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  socket.write(text(version));
  socket.on('data', (data) => {
    const length = data[1] & 0x7f, mask = data.subarray(2, 6), body = data.subarray(6, 6 + length);
    socket.write(text('echo ' + Buffer.from(body.map((byte, at) => byte ^ mask[at % 4]))));
  });
});
server.listen(process.env.PORT, '127.0.0.1');
";

const NODE_WS: &str = r"
const http = require('node:http'), { WebSocketServer } = require('ws');
const version = 'VERSION';
const server = http.createServer((request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  response.write(`data: ${version}\n\n`);
});
new WebSocketServer({ server }).on('connection', (socket) => {
  socket.send(version);
  socket.on('message', (message) => socket.send('echo ' + message));
});
server.listen(process.env.PORT, '127.0.0.1');
";

const GIN: &str = r#"package main

import (
	"fmt"
	"os"

	"github.com/gin-gonic/gin"
	"github.com/gorilla/websocket"
)

const version = "VERSION"

func main() {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.GET("/events", func(c *gin.Context) {
		c.Writer.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(c.Writer, "data: %s\n\n", version)
		c.Writer.Flush()
		<-c.Request.Context().Done()
	})
	upgrader := websocket.Upgrader{}
	router.GET("/ws", func(c *gin.Context) {
		socket, err := upgrader.Upgrade(c.Writer, c.Request, nil)
		if err != nil {
			return
		}
		defer socket.Close()
		socket.WriteMessage(websocket.TextMessage, []byte(version))
		for {
			kind, message, err := socket.ReadMessage()
			if err != nil {
				return
			}
			socket.WriteMessage(kind, append([]byte("echo "), message...))
		}
	})
	if err := router.Run("127.0.0.1:" + os.Getenv("PORT")); err != nil {
		os.Exit(1)
	}
}
"#;

const TUNGSTENITE: &str = r#"
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::{accept_async, tungstenite::Message};

const NAME: &str = "VERSION";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port = std::env::var("PORT").unwrap();
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut first = [0; 11];
            while stream.peek(&mut first).await.unwrap_or(11) < 11 {}
            if &first == b"GET /events" {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
                let event = format!("{head}data: {NAME}\n\n");
                stream.write_all(event.as_bytes()).await.unwrap();
                return std::future::pending().await;
            }
            let Ok(mut socket) = accept_async(stream).await else { return };
            socket.send(Message::text(NAME)).await.unwrap();
            while let Some(Ok(Message::Text(text))) = socket.next().await {
                socket.send(Message::text(format!("echo {text}"))).await.unwrap();
            }
        });
    }
}
"#;

const TUNGSTENITE_MANIFEST: &str = "[package]\nname = \"app\"\nversion = \"0.1.0\"\n\
    edition = \"2021\"\n[profile.dev]\ndebug = false\n[dependencies]\nfutures-util = \"0.3\"\n\
    tokio = { version = \"1\", features = [\"io-util\", \"macros\", \"net\", \"rt\"] }\n\
    tokio-tungstenite = \"0.26\"\n";

/// The client of a WebSocket.
struct Socket(Connection);

impl Socket {
    fn open(port: u16) -> io::Result<Self> {
        let mut connection = Connection::open(port)?;
        connection.send(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let head = connection.head()?;
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(head.field("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Ok(Self(connection))
    }

    /// Receives a message of text.
    fn receive(&mut self) -> io::Result<String> {
        let mut head = [0; 2];
        self.0.stream.read_exact(&mut head)?;
        // Anything else is the end of the stream.
        if head[0] != 0x81 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut text = vec![0; head[1].into()];
        self.0.stream.read_exact(&mut text)?;
        String::from_utf8(text).map_err(io::Error::other)
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap()];
        frame.extend(mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.send(&frame)
    }
}

/// A stream of events.
struct Events {
    connection: Connection,
    is_chunked: bool,
}

impl Events {
    fn open(port: u16) -> io::Result<Self> {
        let mut connection = Connection::open(port)?;
        connection.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let head = connection.head()?;
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.field("Content-Type"), Some("text/event-stream"));
        Ok(Self { connection, is_chunked: head.field("Transfer-Encoding").is_some() })
    }

    /// Receives an event; an error at the end of the stream.
    fn receive(&mut self) -> io::Result<String> {
        let event = if self.is_chunked {
            self.connection.chunk()?.ok_or(io::ErrorKind::UnexpectedEof)?
        } else {
            let mut event = Vec::new();
            while !event.ends_with(b"\n\n") {
                let mut byte = [0];
                self.connection.stream.read_exact(&mut byte)?;
                event.extend(byte);
            }
            event
        };
        let event = String::from_utf8(event).map_err(io::Error::other)?;
        Ok(event.trim_start_matches("data: ").trim_end().to_owned())
    }
}

/// Replaces a program with open streams again and again, in both modes. Each cycle, the clients
/// connect as soon as they are cut.
fn are_cut_and_continue(project: &Sandbox, source: &str, text: &str) {
    for mode in ["restart", "handover"] {
        let port = free_port();
        let kind = if source == "server.js" {
            "[build]\nentrypoint = \"node server.js\"\ninclude_ext = [\"js\"]\n"
        } else {
            ""
        };
        let version = |number: u64| format!("version {number}");
        let of = |number: u64| text.replace("VERSION", &version(number));
        project.save(source, &of(0));
        project.save(
            "hotrun.toml",
            &format!(
                "{kind}[run]\nmode = \"{mode}\"\n[proxy]\nproxy_port = {port}\napp_port = 0\n"
            ),
        );
        let mut hotrun = project.start_plain(&[]);
        hotrun.wait_for("ready");
        let open = |number: u64, output: &str| {
            let (mut socket, mut events) =
                (Socket::open(port).unwrap(), Events::open(port).unwrap());
            assert_eq!(socket.receive().unwrap(), version(number), "{mode}\n{output}");
            assert_eq!(events.receive().unwrap(), version(number), "{mode}\n{output}");
            socket.send("over").unwrap();
            assert_eq!(socket.receive().unwrap(), "echo over");
            (socket, events)
        };
        let (mut socket, mut events) = open(0, "");
        for number in 1..=number_in("HOTRUN_TEST_REPLACEMENTS", 4) {
            project.save(source, &of(number));
            assert!(socket.receive().is_err() && events.receive().is_err());
            (socket, events) = open(number, &hotrun.output());
        }
        // Streams delay no end.
        hotrun.wait_for("ready");
        hotrun.end();
    }
}

#[test]
fn streams_of_a_node_program_continue_with_the_next_version() {
    let test = "streams_of_a_node_program_continue_with_the_next_version";
    if has(test, &["node"]) {
        are_cut_and_continue(&Sandbox::empty(), "server.js", NODE);
    }
}

#[test]
fn streams_of_a_node_program_with_ws_continue_with_the_next_version() {
    let test = "streams_of_a_node_program_with_ws_continue_with_the_next_version";
    if has(test, &["node", "npm"]) && may_fetch(test) {
        let project = Sandbox::empty();
        project.sh("npm install --silent --no-audit --no-fund ws@8");
        are_cut_and_continue(&project, "server.js", NODE_WS);
    }
}

#[test]
fn streams_of_a_gin_program_with_gorilla_continue_with_the_next_version() {
    let test = "streams_of_a_gin_program_with_gorilla_continue_with_the_next_version";
    if has(test, &["go"]) && may_fetch(test) {
        let project = Sandbox::empty().of_example("gin").file("main.go", GIN);
        project.sh("go get -modcacherw github.com/gorilla/websocket@v1.5.3 && go mod tidy");
        are_cut_and_continue(&project, "main.go", GIN);
    }
}

#[test]
fn streams_of_a_tungstenite_program_continue_with_the_next_version() {
    let test = "streams_of_a_tungstenite_program_continue_with_the_next_version";
    if has(test, &["cargo"]) && may_fetch(test) {
        let project = Sandbox::empty()
            .file("Cargo.toml", TUNGSTENITE_MANIFEST)
            .file("src/main.rs", TUNGSTENITE);
        are_cut_and_continue(&project, "src/main.rs", TUNGSTENITE);
    }
}
