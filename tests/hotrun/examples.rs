//! What the README shows. Its example itself is run by `.ci/run`: readers of the README change it,
//! and the tests must pass all the same.

use crate::sandbox::{Sandbox, free_port, get, has};

const MANIFEST: &str = "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
/// As in `examples/hello`, but shorter.
const MAIN: &str = r#"use std::io::{BufRead, BufReader, Write};

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").unwrap();
    let listener = std::net::TcpListener::bind(format!("127.0.0.1:{port}"))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut lines = BufReader::new(&stream).lines();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}\n", "GREETING")?;
    }
    Ok(())
}
"#;

#[test]
fn a_server_greets_anew_after_a_save() {
    if !has("a_server_greets_anew_after_a_save", &["cargo"]) {
        return;
    }
    let port = free_port();
    let project = Sandbox::empty()
        .file("Cargo.toml", MANIFEST)
        .file("src/main.rs", &MAIN.replace("GREETING", "Good morning"))
        .env("PORT", &port.to_string());
    let mut hotrun = project.start(&[]);
    assert!(get(port, "/").ends_with("Good morning\n"));
    hotrun.wait_for("ready");
    project.save("src/main.rs", &MAIN.replace("GREETING", "Good evening"));
    hotrun.wait_for("ready");
    assert!(get(port, "/").ends_with("Good evening\n"));
    hotrun.end();
}
