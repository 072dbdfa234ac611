//! A web server in the standard library alone. Change the greeting, save, and ask again.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

const GREETING: &str = "Hello from hotrun";

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".into());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!("listening on http://{}", listener.local_addr()?);
    for stream in listener.incoming() {
        // One visitor who hangs up is no reason to leave the others alone.
        if let Err(error) = stream.and_then(greet) {
            eprintln!("{error}");
        }
    }
    Ok(())
}

fn greet(mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let body = format!("{GREETING}\n");
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
